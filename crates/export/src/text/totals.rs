//! What was added up in the kernel, for people.

use super::trace::{gpu_heading, losses_in_words, time, two};
use super::{Style, Tone, clean, dressed, paragraph};
use gpuscope_model::Reason;
use gpuscope_model::trace::{Dropped, StageTimes, TotalsWindow};
use std::io::{self, Write};

/// Processes that are told.
const MOST_PROCESSES: usize = 15;

/// Writes a window. `dropped` is what was left out or lost since the capture began.
///
/// # Errors
/// Those of the writer.
pub fn trace_totals(w: &mut dyn Write, window: &TotalsWindow, dropped: &Dropped, style: Style) -> io::Result<()> {
    dressed(w, style, |w| write(w, window, dropped, style))
}

fn write(w: &mut dyn Write, window: &TotalsWindow, dropped: &Dropped, style: Style) -> io::Result<()> {
    let head = format!("totals of {}", time(window.to_ns.saturating_sub(window.from_ns), style));
    write!(w, "{}, ", style.paint(Tone::Heading, &head))?;
    match losses_in_words(dropped) {
        None => writeln!(w, "nothing left out or lost")?,
        Some(losses) => writeln!(w, "{} {losses}", style.paint(Tone::Bad, "not in it, events:"))?,
    }
    if window.rings.is_empty() {
        return paragraph(w, style, "  ", 2, "No job of a GPU was seen.");
    }
    let mut last = None;
    for ring in &window.rings {
        if last != Some(&ring.gpu) {
            let heading = format!(
                "  {:<11}{:>9}{:>8}{:>11}{:>11}{:>14}{:>14}",
                "ring", "jobs/s", "busy", "queued/max", "on hw/max", "queue p50/99", "in fl. p50/99"
            );
            gpu_heading(w, ring.gpu.as_ref(), &heading, style)?;
            last = Some(&ring.gpu);
        }
        let name: String = clean(&ring.name).chars().take(11).collect();
        writeln!(
            w,
            "  {name:<11}{:>9}{:>8}{:>11}{:>11}{:>14}{:>14}",
            window.per_second(ring.jobs).map_or("-".into(), |rate| format!("{rate:.1}")),
            ring.busy_ratio.get().map_or("-".into(), |ratio| format!("{:.1}%", ratio * 100.0)),
            format!("{}/{}", ring.queued, ring.peak_queued),
            format!("{}/{}", ring.on_hardware, ring.peak_on_hardware),
            two(&ring.times.queue, style),
            two(&ring.times.in_flight, style)
        )?;
    }
    // It is the same for all of them: one reason, and what the window has no length for is told by that.
    let why = window.rings.iter().filter_map(|ring| ring.busy_ratio.why()).find(|why| why.reason == Reason::Failed);
    if let Some(why) = why {
        paragraph(w, style, "  ", 2, &format!("Not known where busy is -: {}.", why.detail))?;
    }
    if !window.processes.is_empty() {
        writeln!(w, "\n{}", style.paint(Tone::Heading, "who submitted"))?;
        let heading =
            format!("  {:>9} {:<16}{:<11}{:>8}{:>16}{:>16}", "pid", "name", "ring", "jobs", "whole p50/p99", "max");
        writeln!(w, "{}", style.paint(Tone::Faint, &heading))?;
    }
    for of in window.processes.iter().take(MOST_PROCESSES) {
        let short = |text: &str, most| clean(text).chars().take(most).collect::<String>();
        writeln!(
            w,
            "  {:>9} {:<16}{:<11}{:>8}{:>16}{:>16}",
            of.pid,
            of.comm.as_ref().map_or("-".into(), |comm| short(comm, 15)),
            short(&of.ring, 10),
            of.times.whole.map_or(0, |of| of.count),
            two(&of.times.whole, style),
            of.times.whole.map_or("-".into(), |of| time(of.max_ns, style))
        )?;
    }
    let more = window.processes.len().saturating_sub(MOST_PROCESSES);
    if more > 0 {
        writeln!(w, "  and {more} more")?;
    }
    match error(window) {
        Some(error) => {
            let told = format!("percentiles are up to {:.1}% too high: they come from histograms", error * 100.0);
            writeln!(w, "  {}", style.paint(Tone::Faint, &told))
        }
        None => Ok(()),
    }
}

/// By how much percentiles may be too high; none where there are none.
fn error(window: &TotalsWindow) -> Option<f64> {
    let of = |times: &StageTimes| [times.queue, times.in_flight, times.whole];
    let all = window.rings.iter().flat_map(|ring| of(&ring.times)).flatten().map(|of| of.error);
    all.reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::{ProcessTotals, RingTotals, Summary};
    use gpuscope_model::{GpuId, Reading};

    fn window() -> TotalsWindow {
        let of = |ns| Summary {
            count: 9,
            min_ns: ns,
            mean_ns: ns as f64,
            p50_ns: ns,
            p90_ns: ns,
            p99_ns: 2 * ns,
            max_ns: 2 * ns,
            error: 0.125,
        };
        let times = StageTimes { queue: Some(of(20_000)), in_flight: None, whole: Some(of(30_000)) };
        TotalsWindow {
            from_ns: 1_000_000_000,
            to_ns: 3_000_000_000,
            rings: vec![RingTotals {
                gpu: Some(GpuId::new("0000:03:00.0")),
                name: "gfx_0.0.0".into(),
                jobs: 500,
                busy_ratio: Reading::Value(0.456),
                queued: 3,
                on_hardware: 2,
                peak_queued: 12,
                peak_on_hardware: 4,
                times,
            }],
            processes: vec![ProcessTotals { pid: 10, comm: None, gpu: None, ring: "gfx_0.0.0".into(), times }],
        }
    }

    #[test]
    fn a_window_fits_80_columns() {
        let mut out = Vec::new();
        trace_totals(&mut out, &window(), &Dropped { sampled_out: 7, ..Dropped::default() }, Style::default()).unwrap();
        let expected = "\
totals of 2.00s, not in it, events: sampled out 7

GPU 0000:03:00.0
  ring          jobs/s    busy queued/max  on hw/max  queue p50/99 in fl. p50/99
  gfx_0.0.0      250.0   45.6%       3/12        2/4 20.0µs/40.0µs             -

who submitted
        pid name            ring           jobs   whole p50/p99             max
         10 -               gfx_0.0.0         9   30.0µs/60.0µs          60.0µs
  percentiles are up to 12.5% too high: they come from histograms
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(expected.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn that_busy_time_is_not_known_is_said() {
        let mut of = window();
        of.rings[0].busy_ratio = Reading::absent(Reason::Failed, "jobs came or ended");
        let mut out = Vec::new();
        trace_totals(&mut out, &of, &Dropped::default(), Style::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\n  Not known where busy is -: jobs came or ended.\n"), "{text}");
        assert!(text.contains("250.0       -       3/12"), "{text}");
    }

    #[test]
    fn nothing_seen_is_said() {
        let nothing = TotalsWindow { from_ns: 0, to_ns: 0, rings: Vec::new(), processes: Vec::new() };
        let mut out = Vec::new();
        trace_totals(&mut out, &nothing, &Dropped::default(), Style::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "totals of 0ns, nothing left out or lost\n  No job of a GPU was seen.\n");
    }
}
