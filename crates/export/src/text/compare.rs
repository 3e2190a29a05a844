//! Two traces side by side, for people.

use super::trace::{counted, time};
use super::{Absences, Style, Tone, dressed, paragraph};
use gpuscope_model::trace::{Change, Comparison, Dropped, ExecKind, RingPair, RingReport, Side, Verdict};
use std::io::{self, Write};

/// Rows of programs.
const MOST_ROWS: usize = 20;

/// Writes a comparison.
///
/// # Errors
/// Those of the writer.
pub fn trace_comparison(w: &mut dyn Write, of: &Comparison, style: Style) -> io::Result<()> {
    dressed(w, style, |w| write(w, of, style))
}

fn write(w: &mut dyn Write, of: &Comparison, style: Style) -> io::Result<()> {
    for (letter, side) in [("A", &of.a), ("B", &of.b)] {
        let head = format!("{letter}: {}, {}", side.file, time(side.span_ns, style));
        writeln!(w, "{}", style.paint(Tone::Heading, &head))?;
        let lost: Vec<String> = lost(side).collect();
        if !lost.is_empty() {
            paragraph(w, style, "  ", 2, &format!("not recorded: {}", lost.join(", ")))?;
        }
    }
    if of.rings.is_empty() {
        paragraph(w, style, "  ", 2, "No job of a GPU was seen in either.")?;
    }
    for pair in &of.rings {
        ring(w, pair, of, style)?;
    }
    if !of.processes.is_empty() {
        writeln!(w, "\n{}", style.paint(Tone::Heading, "programs"))?;
        for pair in of.processes.iter().take(MOST_ROWS) {
            let [a, b] = pair.jobs;
            let [exec_a, exec_b] = pair.exec_ns.map(|ns| time(ns, style));
            let comm: String = pair.comm.chars().take(15).collect();
            writeln!(w, "  {comm:<16} jobs {a} -> {b}, exec {exec_a} -> {exec_b}")?;
            times(w, "queue", &pair.queue, style)?;
        }
    }
    let mut absences = Absences::default();
    of.unavailable.iter().for_each(|missing| absences.add(&missing.metric, &missing.why));
    writeln!(w)?;
    absences.write(w, style)?;
    let text = format!(
        "Bounds are of B less A, at {} %, with jobs that followed each other taken together. They tell of these two recordings: how much \
         runs of one program differ among themselves, one recording of each cannot say.",
        Change::CONFIDENCE_PERCENT
    );
    paragraph(w, style, "  ", 2, &text)
}

fn lost(side: &Side) -> impl Iterator<Item = String> {
    let dropped: Dropped = side.dropped;
    dropped.each().into_iter().filter(|(_, n)| *n > 0).map(|(cause, n)| format!("{} {n}", cause.replace('_', " ")))
}

fn ring(w: &mut dyn Write, pair: &RingPair, of: &Comparison, style: Style) -> io::Result<()> {
    let gpu = pair.gpu.as_ref().map_or("GPU not named by these records", |gpu| gpu.as_str());
    writeln!(w, "\n{}", style.paint(Tone::Heading, &format!("{gpu} {}", pair.name)))?;
    let (Some(a), Some(b)) = (&pair.a, &pair.b) else {
        let (letter, jobs) = match (&pair.a, &pair.b) {
            (Some(a), _) => ("A", a.jobs),
            (_, Some(b)) => ("B", b.jobs),
            _ => ("neither", 0),
        };
        return writeln!(w, "  only in {letter}: {}", counted(jobs, "job"));
    };
    let rate = |ring: &RingReport, side: &Side| match side.span_ns {
        0 => "-".into(),
        ns => format!("{:.1}/s", ring.jobs as f64 / (ns as f64 / 1e9)),
    };
    let busy = |ring: &RingReport| ring.busy_ratio.map_or("-".into(), |ratio| format!("{:.1}%", ratio * 100.0));
    let text = format!(
        "jobs {} -> {}, {} -> {}, busy {} -> {}",
        a.jobs,
        b.jobs,
        rate(a, &of.a),
        rate(b, &of.b),
        busy(a),
        busy(b)
    );
    paragraph(w, style, "  ", 4, &text)?;
    times(w, "queue", &pair.queue, style)?;
    times(w, "hw queue", &pair.hw_queue, style)?;
    times(w, if a.exec_kind == ExecKind::InFlight { "in flight" } else { "exec" }, &pair.exec, style)
}

fn times(w: &mut dyn Write, what: &str, of: &[Change], style: Style) -> io::Result<()> {
    for change in of {
        let label = format!("{what} p{}", change.percent);
        let (a, b) = (time(change.a_ns, style), time(change.b_ns, style));
        write!(w, "    {label:<14}{a:>8} -> {b:<8} ")?;
        let by = |ns: i64| format!("{}{}", if ns < 0 { "-" } else { "+" }, time(ns.unsigned_abs(), style));
        let bounds = change.bounds_ns.map_or(String::new(), |(low, high)| format!(" ({} to {})", by(low), by(high)));
        let (tone, verdict) = match change.verdict() {
            Verdict::Longer => (Tone::Bad, "longer"),
            Verdict::Shorter => (Tone::Good, "shorter"),
            Verdict::NotTold => (Tone::Faint, "no difference can be told"),
            Verdict::TooFew => (Tone::Faint, "too few jobs"),
        };
        let bounds = if change.verdict() == Verdict::NotTold { String::new() } else { bounds };
        writeln!(w, "{}{bounds}", style.paint(tone, verdict))?;
    }
    Ok(())
}
