//! Why jobs were late: a second look at the stretches of the trace in which they were under way.

use super::input::{Input, Rest, Seen};
use gpuscope_analysis::{Explainer, History, Report, Subject};
use gpuscope_model::trace::{ExecKind, Job, Ring, RingId, TraceNames, TraceReport};
use gpuscope_model::{Reason, Unavailable, Why};
use std::path::Path;

/// Adds to a report why these of its jobs took their time.
pub(super) fn explain(path: &Path, report: &mut TraceReport, targets: &[Job]) -> anyhow::Result<()> {
    let stretches: Vec<(u64, u64)> = targets.iter().map(|job| stretch(job, report.to_ns)).collect();
    let (Some(from_ns), Some(to_ns)) = (stretches.iter().map(|of| of.0).min(), stretches.iter().map(|of| of.1).max())
    else {
        return Ok(());
    };
    // No job took longer than this one: what was under way at a moment was submitted no earlier than so long before.
    let longest_ns =
        report.slowest.first().map_or(0, |job| job.done_ns.unwrap_or(0).saturating_sub(job.submit_ns.unwrap_or(0)));
    let mut input = Input::open(path)?;
    input.set_window(from_ns.saturating_sub(longest_ns), to_ns);
    let tells_waits = input.tells_waits;
    let Looked { explainer, names, left_out, .. } = look(input, stretches, to_ns, &rings_without_starts(report))?;
    report.late = targets.iter().filter_map(|job| explainer.explain(job.key, job.submit_ns)).collect();
    report.late_names = names;
    let waits = report.count(gpuscope_model::trace::EventKind::Dependency)
        + report.count(gpuscope_model::trace::EventKind::Blocked);
    if !tells_waits.unwrap_or(waits > 0) {
        let why = "no event tells which job waits for which: time in the queue for which nothing else is told may be such a wait";
        report.unavailable.push(Unavailable::new("late", Why::not_supported(why)));
    }
    if left_out > 0 {
        let why = format!(
            "{left_out} jobs that were under way at that time were too many to keep: what they did is not told"
        );
        report.unavailable.push(Unavailable::new("late", Why::new(Reason::NotSupported, why)));
    }
    Ok(())
}

/// What a look at stretches of a trace found.
pub(super) struct Looked {
    pub(super) explainer: Explainer,
    pub(super) names: TraceNames,
    /// Jobs that were too many to keep.
    pub(super) left_out: u64,
    /// Ends of jobs of which nothing else was read.
    pub(super) unmatched_ends: u64,
}

/// Reads what happened in these stretches, the last of which ends at a moment. Jobs of `no_starts` are taken to have no start.
pub(super) fn look(input: Input, stretches: Vec<(u64, u64)>, to_ns: u64, no_starts: &[Ring]) -> anyhow::Result<Looked> {
    let mut seen = Report::new(Subject { drivers: input.drivers.clone(), ..Subject::default() });
    let mut history = History::of(stretches);
    let (mut jobs, mut rings) = (Vec::new(), 0);
    let Rest { names, dropped, .. } = input.read(|item| {
        match item {
            Seen::Event(event, names) => {
                history.event(event);
                seen.event(event, names, |job| jobs.push(*job));
                while let Some(ring) = next_ring(&mut rings, names) {
                    if seen.is_by_firmware(ring) {
                        history.by_firmware(ring);
                    }
                }
                jobs.drain(..).for_each(|job| history.job(&with_known_start(job, names, no_starts)));
            }
            Seen::Lost(names) => {
                seen.lost(|job| jobs.push(*job));
                jobs.drain(..).for_each(|job| history.job(&with_known_start(job, names, no_starts)));
            }
        }
        Ok(())
    })?;
    let report = seen.finish(Some(to_ns), &names, dropped, |job| jobs.push(*job));
    jobs.drain(..).for_each(|job| history.job(&with_known_start(job, &names, no_starts)));
    let (left_out, unmatched_ends) = (history.left_out(), report.unmatched_ends);
    Ok(Looked { explainer: history.finish(to_ns), names, left_out, unmatched_ends })
}

/// When a job was under way.
fn stretch(job: &Job, last_ns: u64) -> (u64, u64) {
    (job.submit_ns.or(job.run_ns).unwrap_or(last_ns), job.done_ns.unwrap_or(last_ns))
}

/// Rings of which the whole trace says that starts are not known.
pub(super) fn rings_without_starts(report: &TraceReport) -> Vec<Ring> {
    let of = report.rings.iter().filter(|ring| ring.exec_kind == ExecKind::InFlight);
    of.map(|ring| Ring { gpu: ring.gpu.clone(), name: ring.name.clone() }).collect()
}

fn with_known_start(job: Job, names: &TraceNames, no_starts: &[Ring]) -> Job {
    let has_none = job.ring.and_then(|ring| names.get_ring(ring)).is_some_and(|ring| no_starts.contains(ring));
    let start_ns = job.start_ns.filter(|(_, how)| *how == ExecKind::Measured || !has_none);
    Job { start_ns, ..job }
}

fn next_ring(seen: &mut usize, names: &TraceNames) -> Option<RingId> {
    let ring = (*seen < names.rings().len()).then(|| u32::try_from(*seen).ok().map(RingId)).flatten();
    *seen += usize::from(ring.is_some());
    ring
}
