//! What works, what does not, and what to do about it.

use super::{Style, Tone, dressed, paragraph, reason_words};
use crate::Doctor;
use gpuscope_model::{Reason, SourceReport, SourceStatus};
use std::io::{self, Write};

/// Writes what was found: the rights at hand, the sources of the machine, the sources of each GPU.
///
/// # Errors
/// Those of the writer.
pub fn doctor(w: &mut dyn Write, found: &Doctor<'_>, style: Style) -> io::Result<()> {
    dressed(w, style, |w| write(w, found, style))
}

fn write(w: &mut dyn Write, found: &Doctor<'_>, style: Style) -> io::Result<()> {
    let capabilities = if found.capabilities.is_empty() { "none".into() } else { found.capabilities.join(" ") };
    paragraph(
        w,
        style,
        "",
        2,
        &format!(
            "kernel {}, user {}, perf_event_paranoid {}, lockdown {}",
            found.kernel.unwrap_or("-"),
            found.user,
            found.perf_event_paranoid.map_or("-".into(), |level| level.to_string()),
            found.lockdown.unwrap_or("-"),
        ),
    )?;
    paragraph(w, style, "capabilities: ", 2, &capabilities)?;
    writeln!(w)?;
    let mut first = true;
    for info in found.gpus {
        let heading = format!("{}  {} ({})", info.id, info.name, info.driver);
        section(w, style, &heading, found.sources.iter().filter(|s| s.gpu.as_ref() == Some(&info.id)), &mut first)?;
    }
    // A report on a GPU that is not among the devices (it went away meanwhile) is told with the machine's.
    let rest = found.sources.iter().filter(|s| s.gpu.as_ref().is_none_or(|id| found.gpus.iter().all(|g| g.id != *id)));
    section(w, style, "the whole machine", rest, &mut first)
}

fn section<'a>(
    w: &mut dyn Write,
    style: Style,
    heading: &str,
    sources: impl Iterator<Item = &'a SourceReport>,
    first: &mut bool,
) -> io::Result<()> {
    if !*first {
        writeln!(w)?;
    }
    *first = false;
    writeln!(w, "{}", style.paint(Tone::Heading, heading))?;
    let mut any = false;
    for source in sources {
        any = true;
        report(w, style, source)?;
    }
    if any { Ok(()) } else { writeln!(w, "  no source") }
}

fn report(w: &mut dyn Write, style: Style, s: &SourceReport) -> io::Result<()> {
    let (mark, tone) = match (s.status, style.unicode) {
        (SourceStatus::Works, true) => ("✓", Tone::Good),
        (SourceStatus::Works, false) => ("[ok]", Tone::Good),
        // Nothing is wrong with what is not there.
        (SourceStatus::Absent(Reason::NoHardware | Reason::NotSupported), true) => ("–", Tone::Faint),
        (SourceStatus::Absent(Reason::NoHardware | Reason::NotSupported), false) => ("[--]", Tone::Faint),
        (SourceStatus::Absent(_), true) => ("✗", Tone::Bad),
        (SourceStatus::Absent(_), false) => ("[no]", Tone::Bad),
    };
    let text = match s.status {
        SourceStatus::Works if s.detail.is_empty() => s.source.to_string(),
        SourceStatus::Works => format!("{}: {}", s.source, s.detail),
        SourceStatus::Absent(reason) => format!("{}: {}: {}", s.source, reason_words(reason), s.detail),
    };
    // The mark is painted apart: escape sequences have no width.
    write!(w, "  {} ", style.paint(tone, mark))?;
    let used = 3 + mark.chars().count();
    let inner = Style { width: style.width.saturating_sub(used), ..style };
    let mut body = Vec::new();
    paragraph(&mut body, inner, "", 0, &text)?;
    for (n, line) in body.split_inclusive(|b| *b == b'\n').enumerate() {
        if n > 0 {
            write!(w, "{:used$}", "")?;
        }
        w.write_all(line)?;
    }
    let lead = |word: &str| format!("{:used$}{word}: ", "");
    if let Some(remedy) = &s.remedy {
        paragraph(w, style, &lead("remedy"), used + 2, remedy)?;
    }
    if s.status != SourceStatus::Works && !s.unlocks.is_empty() {
        paragraph(w, style, &lead("would give"), used + 2, &s.unlocks.join(" "))?;
    }
    Ok(())
}
