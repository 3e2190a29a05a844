//! Text for people: at most [`Style::width`] columns, every number with its unit, `-` with a reason for what is not known.

mod alarm;
mod compare;
mod doctor;
mod late;
mod list;
mod live;
mod procs;
mod stat;
mod timeline;
mod totals;
mod trace;

pub use alarm::{failed_fence, failed_job, released_job, slow_job, stuck_job, whose};
pub use compare::trace_comparison;
pub use doctor::doctor;
pub use late::trace_late;
pub use list::list;
pub use live::trace_live;
pub use procs::Procs;
pub use stat::Stat;
pub use timeline::timeline;
pub use totals::trace_totals;
pub use trace::{job_line, key as job_key, trace_report};

use gpuscope_model::{Reason, Why};
use std::io::{self, Write};

/// How text is dressed. The caller knows the terminal; this crate only obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours and bold face by ANSI escape sequences.
    pub color: bool,
    /// Characters outside ASCII: bars, check marks, degrees.
    pub unicode: bool,
    /// Columns to fill.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Style { color: false, unicode: true, width: 80 }
    }
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy)]
enum Tone {
    Heading,
    Good,
    Bad,
    Faint,
}

impl Style {
    fn paint(self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.to_string();
        }
        let code = match tone {
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Lets `write` write, in ASCII where the place of the output shows nothing else. Details and names come from everywhere.
fn dressed(w: &mut dyn Write, style: Style, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if style.unicode {
        return write(w);
    }
    let mut text = Vec::new();
    write(&mut text)?;
    let mut ascii = String::with_capacity(text.len());
    for c in String::from_utf8_lossy(&text).chars() {
        match c {
            '…' => ascii.push_str("..."),
            '–' | '—' => ascii.push('-'),
            '‘' | '’' => ascii.push('\''),
            '“' | '”' => ascii.push('"'),
            c if c.is_ascii() => ascii.push(c),
            _ => ascii.push('?'),
        }
    }
    w.write_all(ascii.as_bytes())
}

/// Without what would steer a terminal: programs choose their threads' names.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Writes `  caption    item   item   …`, wrapped between items. Items keep together; nothing is written without items.
fn row(w: &mut dyn Write, style: Style, caption: &str, items: &[String]) -> io::Result<()> {
    const INDENT: usize = 13;
    let mut items = items.iter();
    let Some(first) = items.next() else { return Ok(()) };
    write!(w, "  {caption:<10} {first}")?;
    let mut column = INDENT + first.chars().count();
    for item in items {
        let length = item.chars().count();
        if column + 3 + length > style.width {
            write!(w, "\n{:INDENT$}{item}", "")?;
            column = INDENT + length;
        } else {
            write!(w, "   {item}")?;
            column += 3 + length;
        }
    }
    writeln!(w)
}

/// Writes a paragraph whose first line begins with `lead` and whose later lines are indented by `indent`.
fn paragraph(w: &mut dyn Write, style: Style, lead: &str, indent: usize, text: &str) -> io::Result<()> {
    w.write_all(lead.as_bytes())?;
    let mut column = lead.chars().count();
    let mut fresh = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !fresh && column + 1 + length > style.width {
            write!(w, "\n{:indent$}", "")?;
            column = indent;
            fresh = true;
        }
        if !fresh {
            w.write_all(b" ")?;
            column += 1;
        }
        w.write_all(word.as_bytes())?;
        column += length;
        fresh = false;
    }
    writeln!(w)
}

/// A reason in two or three words.
fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::NoHardware => "no hardware",
        Reason::NoPermission => "no permission",
        Reason::NotSupported => "not supported",
        Reason::Asleep => "asleep",
        Reason::NotCounting => "not counting",
        Reason::Busy => "held by another",
        Reason::FirstSample => "needs a second sample",
        Reason::Gone => "gone",
        Reason::Failed => "failed",
    }
}

/// Absent metrics, gathered by why they are absent.
#[derive(Default)]
struct Absences(Vec<(Why, Vec<Path>)>);

/// `engines[rcs0].busy_percent` in its parts; several labels of one field share an entry.
struct Path {
    list: String,
    labels: Vec<String>,
    field: String,
}

impl Absences {
    fn add(&mut self, path: &str, why: &Why) {
        let paths = match self.0.iter_mut().find(|(known, _)| known == why) {
            Some((_, paths)) => paths,
            None => {
                self.0.push((why.clone(), Vec::new()));
                match self.0.last_mut() {
                    Some((_, paths)) => paths,
                    None => return,
                }
            }
        };
        let (list, label, field) = match path.split_once('[').and_then(|(list, rest)| {
            let (label, field) = rest.split_once(']')?;
            Some((list, label, field))
        }) {
            Some(parts) => parts,
            None => (path, "", ""),
        };
        match paths.iter_mut().find(|p| p.list == list && p.field == field && !label.is_empty()) {
            Some(path) => path.labels.push(label.into()),
            None => paths.push(Path {
                list: list.into(),
                labels: if label.is_empty() { Vec::new() } else { vec![label.into()] },
                field: field.into(),
            }),
        }
    }

    /// Writes one paragraph a reason: what is missing, why, and what to do.
    fn write(&self, w: &mut dyn Write, style: Style) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(w, "  {}", style.paint(Tone::Faint, "not known:"))?;
        for (why, paths) in &self.0 {
            let metrics: Vec<String> = paths
                .iter()
                .map(|p| match p.labels.as_slice() {
                    [] => p.list.clone(),
                    labels => format!("{}[{}]{}", p.list, labels.join(","), p.field),
                })
                .collect();
            let text = format!("{}: {}: {}", metrics.join(", "), reason_words(why.reason), why.detail);
            paragraph(w, style, "    ", 6, &text)?;
            if let Some(remedy) = &why.remedy {
                paragraph(w, style, "      remedy: ", 8, remedy)?;
            }
        }
        Ok(())
    }
}

/// Says that there is no GPU, where it was looked for, and what may help.
///
/// # Errors
/// Those of the writer.
pub fn no_gpu(w: &mut dyn Write, style: Style, looked_at: &str) -> io::Result<()> {
    dressed(w, style, |w| tell_no_gpu(w, style, looked_at))
}

fn tell_no_gpu(w: &mut dyn Write, style: Style, looked_at: &str) -> io::Result<()> {
    writeln!(w, "{}", style.paint(Tone::Heading, "no GPU found"))?;
    let text = format!(
        "{looked_at} holds no GPU that a kernel driver has taken. A GPU without its driver shows in `lspci -k` without \
         \"Kernel driver in use\"; containers and virtual machines see a GPU only when one is passed on to them."
    );
    paragraph(w, style, "  ", 2, &text)?;
    paragraph(w, style, "  ", 2, "`gpuscope doctor` tells, source by source, what this machine offers.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_keep_to_the_width() {
        let style = Style { width: 20, ..Style::default() };
        let mut out = Vec::new();
        paragraph(&mut out, style, "  x ", 4, "one two three four five six").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  x one two three\n    four five six\n");
    }

    #[test]
    fn text_without_unicode_is_ascii() {
        let style = Style { unicode: false, ..Style::default() };
        let mut out = Vec::new();
        dressed(&mut out, style, |w| write!(w, "a…b–c°")).unwrap();
        assert_eq!(out, b"a...b-c?");
    }

    #[test]
    fn one_field_of_many_engines_is_told_once() {
        let mut absences = Absences::default();
        for path in ["engines[rcs0].sema_percent", "engines[vcs0].sema_percent", "fans"] {
            absences.add(path, &Why::ASLEEP);
        }
        let mut out = Vec::new();
        absences.write(&mut out, Style::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("engines[rcs0,vcs0].sema_percent, fans: asleep:"), "{text}");
    }
}
