//! What a trace says, for people.

use super::{Absences, Style, Tone, clean, dressed, paragraph, reason_words};
use gpuscope_model::trace::{
    Dropped, EventKind, ExecKind, FamilyReport, Job, JobKey, JobStatus, RingReport, Summary, TraceNames, TraceReport,
};
use gpuscope_model::{GpuId, SourceStatus};
use std::io::{self, Write};

/// Rows of a table; what comes after them is counted in one line.
const MOST_ROWS: usize = 20;

/// Writes a report.
///
/// # Errors
/// Those of the writer.
pub fn trace_report(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    dressed(w, style, |w| write(w, report, style))
}

fn write(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    let span_ns = report.to_ns.saturating_sub(report.from_ns);
    let jobs: u64 = report.rings.iter().map(|ring| ring.jobs).sum();
    let total: u64 = report.events.iter().sum();
    let head = format!("{} traced, {}", time(span_ns, style), counted(jobs, "job"));
    writeln!(w, "{}", style.paint(Tone::Heading, &head))?;
    let kinds: Vec<String> = EventKind::ALL
        .iter()
        .filter(|kind| report.count(**kind) > 0)
        .map(|kind| format!("{} {}", kind.name(), report.count(*kind)))
        .collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    paragraph(w, style, "  ", 2, &format!("{}{kinds}", counted(total, "event")))?;
    families(w, report, style)?;
    settings(w, report, style)?;
    losses(w, report, style)?;
    if report.rings.is_empty() {
        paragraph(w, style, "  ", 2, "No job of a GPU was seen.")?;
    }
    let mut last = None;
    for ring in &report.rings {
        if last != Some(&ring.gpu) {
            let heading = format!(
                "  {:<11}{:>8}{:>7}{:>6}{:>15}{:>15}{:>16}",
                "ring", "jobs", "busy", "depth", "queue p50/p99", "hw queue", "exec"
            );
            gpu_heading(w, ring.gpu.as_ref(), &heading, style)?;
            last = Some(&ring.gpu);
        }
        row(w, ring, style)?;
    }
    explain(w, report, style)?;
    processes(w, report, style)?;
    waits(w, report, style)?;
    ioctls(w, report, style)?;
    errors(w, report, style)?;
    faults(w, report, style)?;
    notes(w, report, style)?;
    slowest(w, report, style)?;
    absences(w, report, style)
}

/// A GPU, above a table of its rings with this heading.
pub(super) fn gpu_heading(w: &mut dyn Write, gpu: Option<&GpuId>, heading: &str, style: Style) -> io::Result<()> {
    let gpu = gpu.map_or("not named by these records", |gpu| gpu.as_str());
    writeln!(w, "\n{}", style.paint(Tone::Heading, &format!("GPU {gpu}")))?;
    writeln!(w, "{}", style.paint(Tone::Faint, heading))
}

/// Who told what, where several did.
fn families(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.families.len() < 2 {
        return Ok(());
    }
    let of = |of: &FamilyReport| format!("{} {}", of.family.name(), of.events.iter().sum::<u64>());
    let words: Vec<String> = report.families.iter().map(of).collect();
    paragraph(w, style, "  ", 2, &format!("by tracepoints: {}", words.join(", ")))
}

/// Why what is told is not all that there was.
fn settings(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    let Some(settings) = report.settings.as_deref().filter(|settings| !settings.is_empty()) else { return Ok(()) };
    paragraph(w, style, "  ", 4, &format!("recorded with {}: all else was left out", settings.join(" ")))
}

fn losses(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    let Some(losses) = losses_in_words(&report.dropped) else {
        return paragraph(w, style, "  ", 2, "no event was lost or left out while recording");
    };
    write!(w, "  {} ", style.paint(Tone::Bad, "not recorded:"))?;
    writeln!(w, "{losses}")
}

/// What was lost or left out, by cause; none where nothing was.
pub(super) fn losses_in_words(dropped: &Dropped) -> Option<String> {
    let each = dropped.each();
    let losses: Vec<String> =
        each.iter().filter(|(_, n)| *n > 0).map(|(cause, n)| format!("{} {n}", cause.replace('_', " "))).collect();
    (!losses.is_empty()).then(|| losses.join(", "))
}

fn row(w: &mut dyn Write, ring: &RingReport, style: Style) -> io::Result<()> {
    let busy = ring.busy_ratio.map_or("-".into(), |ratio| format!("{:.1}%", ratio * 100.0));
    let mark = if ring.exec_kind == ExecKind::InFlight { "f " } else { "" };
    let exec = format!("{mark}{}", two(&ring.exec, style));
    let name: String = ring.name.chars().take(11).collect();
    writeln!(
        w,
        "  {name:<11}{:>8}{busy:>7}{:>6}{:>15}{:>15}{exec:>16}",
        ring.jobs,
        ring.depth_peak,
        two(&ring.queue, style),
        two(&ring.hw_queue, style),
    )?;
    let [_, _, failed, in_flight, lost] = ring.by_status;
    let rest = [
        (failed, "failed"),
        (in_flight, "in flight in the end"),
        (lost, "whose end was lost"),
        (ring.out_of_order, "out of order"),
    ];
    let rest: Vec<String> = rest.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if rest.is_empty() { Ok(()) } else { paragraph(w, style, "    ", 4, &rest.join(", ")) }
}

/// What the words of the table mean, as far as they are used.
fn explain(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.rings.is_empty() {
        return Ok(());
    }
    writeln!(w)?;
    let has = |kind| report.rings.iter().any(|ring| ring.exec_kind == kind);
    let mut text = "queue: from submission to the hand-over to the hardware, dependencies included. busy: share of the time with a job \
                    handed over."
        .to_string();
    if has(ExecKind::Inferred) {
        text.push_str(
            " hw queue, exec: behind the job before, then executing; the start is inferred from the end of that one, as no event tells \
             it.",
        );
    }
    if has(ExecKind::InFlight) {
        text.push_str(" f: in flight, from hand-over to end; how much of it was execution is not known.");
    }
    paragraph(w, style, "  ", 2, &text)
}

fn processes(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.processes.is_empty() {
        return Ok(());
    }
    writeln!(w, "\n{}", style.paint(Tone::Heading, "who submitted"))?;
    let heading =
        format!("  {:>9} {:<16}{:>9}{:>12}{:>18}{:>12}", "pid", "name", "jobs", "exec", "queue p50/p99", "longest");
    writeln!(w, "{}", style.paint(Tone::Faint, &heading))?;
    for of in report.processes.iter().take(MOST_ROWS) {
        let longest = of.queue.map_or("-".into(), |queue| time(queue.max_ns, style));
        let comm: String = of.comm.chars().take(15).collect();
        writeln!(
            w,
            "  {:>9} {comm:<16}{:>9}{:>12}{:>18}{longest:>12}",
            of.pid,
            of.jobs,
            time(of.exec_ns, style),
            two(&of.queue, style)
        )?;
        if of.failed > 0 {
            writeln!(w, "            {} failed", of.failed)?;
        }
    }
    more(w, report.processes.len())
}

fn waits(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.waits.is_empty() {
        return Ok(());
    }
    writeln!(w, "\n{}", style.paint(Tone::Heading, "who waited for fences"))?;
    for of in report.waits.iter().take(MOST_ROWS) {
        let comm: String = of.comm.chars().take(15).collect();
        let wait = two(&Some(of.waits), style);
        let longest = time(of.waits.max_ns, style);
        let gpu = of.gpu.as_ref().map_or(String::new(), |gpu| format!("{} ", gpu.as_str()));
        let whom = if of.ring.is_empty() { String::new() } else { format!(" for {gpu}{}", of.ring) };
        writeln!(w, "  {:>9} {comm:<16}{:>9} waits{whom}, p50/p99 {wait}, longest {longest}", of.pid, of.waits.count)?;
    }
    more(w, report.waits.len())
}

fn ioctls(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    let Some(ioctls) = &report.ioctls else { return Ok(()) };
    writeln!(w, "\n{}", style.paint(Tone::Heading, "DRM ioctls"))?;
    for of in ioctls.calls.iter().take(MOST_ROWS) {
        let comm: String = of.comm.chars().take(15).collect();
        let name =
            of.name.as_ref().map_or_else(|| format!("number 0x{:02x}", of.request & 0xff), |name| name.to_string());
        let (took, longest) = (two(&Some(of.times), style), time(of.times.max_ns, style));
        let errors: Vec<String> =
            of.errors.iter().map(|(errno, count)| format!("{count} failed with error {errno}")).collect();
        let errors = if errors.is_empty() { String::new() } else { format!("; {}", errors.join(", ")) };
        let total = time(of.total_ns, style);
        let lead = format!("  {:>9} {comm:<16}{:>9} ", of.pid, of.times.count);
        paragraph(
            w,
            style,
            &lead,
            12,
            &format!("{name}, p50/p99 {took}, longest {longest}, together {total}{errors}"),
        )?;
    }
    more(w, ioctls.calls.len())?;
    if ioctls.unfinished > 0 {
        writeln!(w, "  {} calls whose end is not in the trace", ioctls.unfinished)?;
    }
    if ioctls.left_out > 0 {
        writeln!(w, "  {} calls of further processes and requests are not told", ioctls.left_out)?;
    }
    Ok(())
}

fn errors(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.error_count == 0 {
        return Ok(());
    }
    let head = format!("{} failed", counted(report.error_count, "job"));
    writeln!(w, "\n{}", style.paint(Tone::Bad, &head))?;
    for of in report.errors.iter().take(MOST_ROWS) {
        let at = time(of.at_ns.saturating_sub(report.from_ns), style);
        let gpu = of.gpu.as_ref().map_or("", |gpu| gpu.as_str());
        let error = of.error.map_or(String::new(), |error| format!(" with error {error}"));
        writeln!(w, "  at {at}: {gpu} {}: a job of {} ({}){error}", of.ring, of.pid, of.comm)?;
    }
    more(w, usize::try_from(report.error_count).unwrap_or(usize::MAX))
}

fn notes(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.note_count == 0 {
        return Ok(());
    }
    writeln!(w, "\n{}", style.paint(Tone::Heading, "noted while recording"))?;
    for of in report.notes.iter().take(MOST_ROWS) {
        let at = time(of.at_ns.saturating_sub(report.from_ns), style);
        paragraph(w, style, "  ", 4, &format!("at {at}: {}", clean(&of.text)))?;
    }
    more(w, usize::try_from(report.note_count).unwrap_or(usize::MAX))
}

/// What drivers told beside the ends of jobs.
fn faults(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.fault_count == 0 {
        return Ok(());
    }
    let head = format!("{} told by drivers: timeouts, resets, faults", counted(report.fault_count, "error"));
    writeln!(w, "\n{}", style.paint(Tone::Bad, &head))?;
    for of in report.faults.iter().take(MOST_ROWS) {
        let at = time(of.at_ns.saturating_sub(report.from_ns), style);
        let gpu = of.gpu.as_ref().map_or(String::new(), |gpu| format!(" {}", gpu.as_str()));
        let ring = if of.ring.is_empty() { String::new() } else { format!(" {}", of.ring) };
        let error = of.error.map_or(String::new(), |error| format!(" with error {error}"));
        writeln!(w, "  at {at}: {}{gpu}{ring}{error}", of.family.name())?;
    }
    more(w, usize::try_from(report.fault_count).unwrap_or(usize::MAX))
}

fn slowest(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    if report.slowest.is_empty() {
        return Ok(());
    }
    writeln!(w, "\n{}", style.paint(Tone::Heading, "the slowest jobs"))?;
    for job in &report.slowest {
        let ring = job.ring.and_then(|ring| report.names.get_ring(ring));
        let gpu = ring.and_then(|ring| ring.gpu.as_ref()).map_or("", |gpu| gpu.as_str());
        let name = ring.map_or("", |ring| ring.name.as_str());
        let at = time(job.submit_ns.unwrap_or(report.from_ns).saturating_sub(report.from_ns), style);
        let total = job.done_ns.zip(job.submit_ns).map_or(0, |(done, submit)| done.saturating_sub(submit));
        let who = if job.pid == 0 { job.tid } else { job.pid };
        let text = format!(
            "{} at {at}: {gpu} {name}, {who} ({}): {}",
            time(total, style),
            report.names.get(job.comm),
            stages(job, style)
        );
        paragraph(w, style, "  ", 4, &text)?;
        if let Some(late) =
            report.late.iter().find(|late| late.job.key == job.key && late.job.submit_ns == job.submit_ns)
        {
            let because = super::late::because(late, &report.late_names);
            paragraph(w, style, "    ", 6, &format!("{}: {because}", key(job.key)))?;
        }
    }
    Ok(())
}

/// A job, as it is named to `--why`.
pub fn key(key: JobKey) -> String {
    match key {
        JobKey::Fence { context, seqno } => format!("{context}:{seqno}"),
        JobKey::FenceLow { context, seqno } => format!("{context}:{seqno}"),
        JobKey::Address(address) => format!("{address:#x}"),
        JobKey::InRing { number, .. } => format!("{number}"),
    }
}

/// Writes one job as one line: when it was submitted, in seconds of the machine's clock, where it ran, whose it is, and its times.
///
/// # Errors
/// Those of the writer.
pub fn job_line(w: &mut dyn Write, job: &Job, names: &TraceNames, style: Style) -> io::Result<()> {
    dressed(w, style, |w| {
        let ring = job.ring.and_then(|ring| names.get_ring(ring));
        let gpu = ring.and_then(|ring| ring.gpu.as_ref()).map_or("-", |gpu| gpu.as_str());
        let name = ring.map_or("-", |ring| ring.name.as_str());
        let at = job.submit_ns.or(job.run_ns).or(job.done_ns).unwrap_or(0);
        let who = if job.pid == 0 { job.tid } else { job.pid };
        let key = key(job.key);
        let status =
            if job.status == JobStatus::Completed { String::new() } else { format!(", {}", job.status.name()) };
        let (seconds, micros) = (at / 1_000_000_000, at / 1_000 % 1_000_000);
        writeln!(
            w,
            "{seconds:>6}.{micros:06}  {gpu} {name} {key}  {who} {}: {}{status}",
            names.get(job.comm),
            stages(job, style)
        )
    })
}

/// How a job's time was spent.
pub(super) fn stages(job: &Job, style: Style) -> String {
    let mut parts = Vec::new();
    if let Some(ns) = job.queue_ns() {
        parts.push(format!("queue {}", time(ns, style)));
    }
    match (job.hw_queue_ns(), job.exec_ns(), job.in_flight_ns()) {
        (Some(hw_queue), Some(exec), _) => {
            parts.push(format!("hw queue {}", time(hw_queue, style)));
            parts.push(format!("exec {}", time(exec, style)));
        }
        (_, _, Some(in_flight)) => parts.push(format!("in flight {}", time(in_flight, style))),
        _ => {}
    }
    if let JobStatus::Failed(error) = job.status {
        parts.push(format!("failed with error {error}"));
    }
    parts.join(", ")
}

fn absences(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    let mut absences = Absences::default();
    for missing in &report.unavailable {
        absences.add(&missing.metric, &missing.why);
    }
    if !report.unavailable.is_empty() {
        writeln!(w)?;
    }
    absences.write(w, style)?;
    let missing: Vec<_> = report.coverage.iter().filter(|s| s.status != SourceStatus::Works).collect();
    if missing.is_empty() {
        return Ok(());
    }
    writeln!(w, "\n  {}", style.paint(Tone::Faint, "not captured:"))?;
    for source in missing {
        let SourceStatus::Absent(reason) = source.status else { continue };
        let gpu = source.gpu.as_ref().map_or(String::new(), |gpu| format!(" of {gpu}"));
        paragraph(
            w,
            style,
            "    ",
            6,
            &format!("{}{gpu}: {}: {}", source.source, reason_words(reason), source.detail),
        )?;
        if let Some(remedy) = &source.remedy {
            paragraph(w, style, "      remedy: ", 8, remedy)?;
        }
    }
    Ok(())
}

fn more(w: &mut dyn Write, all: usize) -> io::Result<()> {
    let rest = all.saturating_sub(MOST_ROWS);
    if rest > 0 { writeln!(w, "  and {rest} more") } else { Ok(()) }
}

pub(super) fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The middle and the end of a distribution.
pub(super) fn two(of: &Option<Summary>, style: Style) -> String {
    match of {
        Some(of) => format!("{}/{}", time(of.p50_ns, style), time(of.p99_ns, style)),
        None => "-".into(),
    }
}

/// A time with three digits and its unit.
pub(crate) fn time(ns: u64, style: Style) -> String {
    let micro = if style.unicode { "µs" } else { "us" };
    let with = |value: f64, unit: &str| {
        // What rounds up to a digit more is printed with one less behind the point.
        let digits = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        format!("{value:.digits$}{unit}")
    };
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..999_500 => with(ns as f64 / 1e3, micro),
        999_500..999_500_000 => with(ns as f64 / 1e6, "ms"),
        _ => with(ns as f64 / 1e9, "s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let style = Style::default();
        let shown: Vec<String> =
            [0, 999, 1_000, 9_996, 12_340, 999_499, 999_500, 45_678_000, 1_000_000_000, 123_456_000_000]
                .map(|ns| time(ns, style))
                .into();
        assert_eq!(shown, ["0ns", "999ns", "1.00µs", "10.0µs", "12.3µs", "999µs", "1.00ms", "45.7ms", "1.00s", "123s"]);
        assert_eq!(time(2_000, Style { unicode: false, ..style }), "2.00us");
    }
}
