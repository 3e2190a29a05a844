//! Guests: stock kernels with virtual GPUs, made and started by `testbed/setup.sh` and `testbed/boot.sh`.

use crate::sh::{line_of, quote, root, run as sh};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// The kernels that gpuscope is proved on: the oldest stable Debian still serves, the long-term one, the newest.
pub(crate) const KERNELS: [&str; 3] = ["6.1", "6.12", "7.2"];

/// How a guest is equipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Identities of its GPUs, in PCI order: `i915,xe`.
    pub(crate) gpus: String,
    /// Parameters of the module, `name=value`.
    pub(crate) parameters: Vec<String>,
    /// Seconds until it is ended.
    pub(crate) seconds: u32,
    /// Kernels it is meant for; empty: all.
    pub(crate) kernels: Vec<String>,
}

impl Default for Guest {
    fn default() -> Self {
        Guest { gpus: "i915,xe".into(), parameters: Vec::new(), seconds: 180, kernels: Vec::new() }
    }
}

impl Guest {
    /// What a test program asks for in the line `// guest: -g i915,xe -m 'gts=2' -t 180 -k 6.12,7.2` at the top of its source.
    pub(crate) fn of_source(source: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(source).with_context(|| source.display().to_string())?;
        let line = text.lines().take_while(|l| l.starts_with("//")).find_map(|l| l.strip_prefix("// guest:"));
        Self::parse(line.unwrap_or_default()).with_context(|| source.display().to_string())
    }

    fn parse(line: &str) -> Result<Self> {
        let mut guest = Guest::default();
        let mut words = words(line)?.into_iter();
        while let Some(option) = words.next() {
            let value = words.next().with_context(|| format!("guest option {option} has no value"))?;
            match option.as_str() {
                "-g" => guest.gpus = value,
                "-m" => guest.parameters.push(value),
                "-t" => {
                    guest.seconds = value.parse().with_context(|| format!("guest option -t: not seconds: {value}"))?
                }
                "-k" => guest.kernels = value.split(',').map(str::to_string).collect(),
                _ => bail!("unknown guest option {option}: -g GPUS, -m NAME=VALUE, -t SECONDS, -k KERNELS"),
            }
        }
        Ok(guest)
    }

    /// Whether it is meant for this kernel.
    pub(crate) fn is_for(&self, kernel: &str) -> bool {
        self.kernels.is_empty() || self.kernels.iter().any(|k| k == kernel)
    }
}

/// Splits a line at spaces, outside of quotes.
fn words(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut open) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (open, c) {
            (Some(quote), c) if c == quote => open = None,
            (None, '\'' | '"') => {
                open = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if open.is_some() {
        bail!("a quote is not closed: {line}");
    }
    words.extend(word);
    Ok(words)
}

/// Fetches the kernel and builds the module for it; quick when that was done before.
pub(crate) fn set_up(kernel: &str) -> Result<()> {
    sh(Command::new(root().join("testbed/setup.sh")).arg(kernel))
}

/// Boots a guest, runs a shell line in it as root, and hands each line of its output on as it comes.
pub(crate) fn boot(kernel: &str, guest: &Guest, line: &str, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut command = Command::new(root().join("testbed/boot.sh"));
    command.args(["-k", kernel, "-g", &guest.gpus, "-t", &guest.seconds.to_string()]);
    if !guest.parameters.is_empty() {
        command.args(["-m", &guest.parameters.join(" ")]);
    }
    command.args(["--", line]);
    println!("$ {}", line_of(&command));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start testbed/boot.sh")?;
    let out = child.stdout.take().context("boot.sh has no output")?;
    for bytes in BufReader::new(out).split(b'\n') {
        let bytes = bytes?;
        let text = String::from_utf8_lossy(&bytes);
        println!("{text}");
        each(&text);
    }
    std::io::stdout().flush()?;
    Ok(child.wait()?)
}

/// A shell line that runs a program with an environment; `words` are quoted.
pub(crate) fn line(environment: &[(&str, &str)], words: &[&str]) -> String {
    let set = environment.iter().map(|(name, value)| format!("{name}={}", quote(value)));
    let words = words.iter().map(|w| quote(w));
    std::iter::once("env".to_string()).chain(set).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_line_with_everything() {
        let guest = Guest::parse(" -g i915,xe -m 'gts=2' -m \"a=b c\" -t 90 -k 6.12,7.2").unwrap();
        assert_eq!((guest.gpus.as_str(), guest.seconds), ("i915,xe", 90));
        assert_eq!(guest.parameters, ["gts=2", "a=b c"]);
        assert!(guest.is_for("7.2") && !guest.is_for("6.1"));
    }

    #[test]
    fn guest_line_may_be_empty() {
        assert_eq!(Guest::parse("").unwrap(), Guest::default());
        assert!(Guest::default().is_for("6.1"));
    }

    #[test]
    fn guest_line_with_mistakes_is_refused() {
        for line in ["-g", "-x 1", "-t soon", "-m 'open"] {
            assert!(Guest::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn environment_is_quoted() {
        assert_eq!(line(&[("A", "b c")], &["/x", "--y"]), "env A='b c' /x --y");
    }
}
