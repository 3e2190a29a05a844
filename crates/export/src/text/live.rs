//! The last seconds of a running trace, for people.

use super::alarm::stuck_job;
use super::trace::{gpu_heading, losses_in_words, time, two};
use super::{Style, Tone, clean, dressed, paragraph};
use gpuscope_model::trace::{Dropped, RecentReport};
use std::io::{self, Write};

/// Processes that are told.
const MOST_PROCESSES: usize = 15;

/// Writes a picture. `dropped` is what was lost since the trace began.
///
/// # Errors
/// Those of the writer.
pub fn trace_live(w: &mut dyn Write, report: &RecentReport, dropped: &Dropped, style: Style) -> io::Result<()> {
    dressed(w, style, |w| write(w, report, dropped, style))
}

fn write(w: &mut dyn Write, report: &RecentReport, dropped: &Dropped, style: Style) -> io::Result<()> {
    let head = format!("jobs of GPUs, the last {}", time(report.span_ns, style));
    write!(w, "{}, ", style.paint(Tone::Heading, &head))?;
    match losses_in_words(dropped) {
        None => writeln!(w, "nothing lost")?,
        Some(losses) => writeln!(w, "{} {losses}", style.paint(Tone::Bad, "not recorded:"))?,
    }
    for stuck in &report.stuck {
        paragraph(w, style, &style.paint(Tone::Bad, "! "), 2, &stuck_job(stuck, &report.names, style))?;
    }
    if report.rings.is_empty() {
        return paragraph(w, style, "  ", 2, "No job of a GPU was seen.");
    }
    let rate = |jobs: u64| report.per_second(jobs).map_or("-".into(), |rate| format!("{rate:.1}"));
    let mut last = None;
    for ring in &report.rings {
        if last != Some(&ring.gpu) {
            let heading = format!(
                "  {:<11}{:>9}{:>8}{:>8}{:>7}{:>16}{:>19}",
                "ring", "jobs/s", "busy", "queued", "on hw", "queue p50/p99", "in flight p50/p99"
            );
            gpu_heading(w, ring.gpu.as_ref(), &heading, style)?;
            last = Some(&ring.gpu);
        }
        let name: String = clean(&ring.name).chars().take(11).collect();
        writeln!(
            w,
            "  {name:<11}{:>9}{:>7.1}%{:>8}{:>7}{:>16}{:>19}",
            rate(ring.jobs),
            ring.busy_ratio * 100.0,
            ring.queued,
            ring.on_hardware,
            two(&ring.queue, style),
            two(&ring.in_flight, style)
        )?;
        if ring.failed > 0 {
            writeln!(w, "    {}", style.paint(Tone::Bad, &format!("{} failed", ring.failed)))?;
        }
    }
    writeln!(w, "\n{}", style.paint(Tone::Heading, "who submits"))?;
    let heading = format!("  {:>9} {:<16}{:>9}{:>12}{:>16}", "pid", "name", "jobs/s", "unfinished", "queue p50/p99");
    writeln!(w, "{}", style.paint(Tone::Faint, &heading))?;
    for of in report.processes.iter().take(MOST_PROCESSES) {
        let comm: String = clean(&of.comm).chars().take(15).collect();
        writeln!(w, "  {:>9} {comm:<16}{:>9}{:>12}{:>16}", of.pid, rate(of.jobs), of.in_flight, two(&of.queue, style))?;
    }
    let more = report.processes.len().saturating_sub(MOST_PROCESSES);
    if more > 0 { writeln!(w, "  and {more} more") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::{RecentProcess, RecentRing, Summary, TraceNames};

    fn report() -> RecentReport {
        let of = |ns| Summary {
            count: 9,
            min_ns: ns,
            mean_ns: ns as f64,
            p50_ns: ns,
            p90_ns: ns,
            p99_ns: 2 * ns,
            max_ns: 2 * ns,
            error: 0.0,
        };
        RecentReport {
            at_ns: 10_000_000_000,
            span_ns: 5_000_000_000,
            rings: vec![RecentRing {
                gpu: Some(gpuscope_model::GpuId::new("0000:03:00.0".to_string())),
                name: "gfx".into(),
                jobs: 500,
                failed: 1,
                busy_ratio: 0.456,
                queued: 3,
                on_hardware: 2,
                queue: Some(of(20_000)),
                in_flight: None,
            }],
            processes: vec![RecentProcess {
                pid: 10,
                comm: "game".into(),
                jobs: 500,
                failed: 1,
                in_flight: 5,
                queue: Some(of(20_000)),
            }],
            stuck: Vec::new(),
            names: TraceNames::default(),
        }
    }

    #[test]
    fn a_picture_fits_80_columns() {
        let mut out = Vec::new();
        trace_live(&mut out, &report(), &Dropped { missed: 7, ..Dropped::default() }, Style::default()).unwrap();
        let expected = "\
jobs of GPUs, the last 5.00s, not recorded: missed 7

GPU 0000:03:00.0
  ring          jobs/s    busy  queued  on hw   queue p50/p99  in flight p50/p99
  gfx            100.0   45.6%       3      2   20.0µs/40.0µs                  -
    1 failed

who submits
        pid name               jobs/s  unfinished   queue p50/p99
         10 game                100.0           5   20.0µs/40.0µs
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(expected.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn nothing_seen_is_said() {
        let nothing = RecentReport { span_ns: 0, rings: Vec::new(), processes: Vec::new(), ..report() };
        let mut out = Vec::new();
        trace_live(&mut out, &nothing, &Dropped::default(), Style::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "jobs of GPUs, the last 0ns, nothing lost\n  No job of a GPU was seen.\n");
    }
}
