//! Running other programs, and saying what and how long.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that runs us, in the repository.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// Runs a command with its output on the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", line_of(command));
    let status = command.status().with_context(|| format!("cannot start {}", line_of(command)))?;
    if !status.success() {
        bail!("failed ({status}): {}", line_of(command));
    }
    Ok(())
}

/// The command as a person would type it; of a script given as an argument, the first line.
pub(crate) fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let line = words.map(|w| quote(&w.to_string_lossy())).collect::<Vec<_>>().join(" ");
    line.split_once('\n').map_or(line.clone(), |(first, _)| format!("{first} …"))
}

/// A word of a shell line.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A program that cargo built.
#[derive(Debug)]
pub(crate) struct Built {
    /// Name of the target.
    pub(crate) name: String,
    /// Its main source file.
    pub(crate) source: PathBuf,
    /// Where it lies.
    pub(crate) executable: PathBuf,
}

/// Runs a cargo build and returns the programs it made.
pub(crate) fn build(command: &mut Command) -> Result<Vec<Built>> {
    println!("$ {}", line_of(command));
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let out = command.spawn()?.wait_with_output()?;
    if !out.status.success() {
        bail!("failed ({}): {}", out.status, line_of(command));
    }
    let text = String::from_utf8(out.stdout).context("cargo's messages are not UTF-8")?;
    Ok(text.lines().filter_map(built).collect())
}

/// The program that one of cargo's messages reports, if it reports one.
fn built(line: &str) -> Option<Built> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(Built {
        executable: message.get("executable")?.as_str()?.into(),
        name: message.get("target")?.get("name")?.as_str()?.into(),
        source: message.get("target")?.get("src_path")?.as_str()?.into(),
    })
}

/// The release binary of gpuscope.
pub(crate) fn build_gpuscope() -> Result<PathBuf> {
    let programs = build(&mut cargo(&["build", "--release", "--package", "gpuscope"]))?;
    let found = programs.into_iter().find(|p| p.name == "gpuscope");
    Ok(found.context("cargo built no program named gpuscope")?.executable)
}

/// Effective user, from `/proc/self/status`.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|l| l.strip_prefix("Uid:"));
    uids.and_then(|l| l.split_whitespace().nth(1)) == Some("0")
}

/// Whether the shell would find a program.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// Runs one named part and prints how long it took, failed or not.
pub(crate) fn part<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {name}");
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("== {name}: {verdict}, {:.1} s", start.elapsed().as_secs_f64());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_the_shell_needs_it() {
        assert_eq!(quote("a-b=c,d"), "a-b=c,d");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn cargo_messages_without_a_program_are_passed_over() {
        assert!(built("{\"reason\":\"compiler-artifact\",\"executable\":null}").is_none());
        let b = built("{\"executable\":\"/t/x\",\"target\":{\"name\":\"x\",\"src_path\":\"/s/x.rs\"}}").unwrap();
        assert_eq!((b.name.as_str(), b.executable.as_path()), ("x", Path::new("/t/x")));
    }
}
