//! Why jobs were late: a second look at the stretches of the trace in which they were under way.

use super::input::{Input, Rest, Seen};
use gpuscope_analysis::{Explainer, History, IoctlSpans, Report, Subject};
use gpuscope_model::trace::{Dropped, Event, ExecKind, InIoctls, Job, Ring, RingId, TraceNames, TraceReport};
use gpuscope_model::{Reason, Unavailable, Why};
use std::path::Path;

/// Adds to a report why these of its jobs took their time. The oldest of those that had not ended when the trace did began at `open_ns`.
pub(super) fn explain(
    path: &Path,
    report: &mut TraceReport,
    targets: &[Job],
    open_ns: Option<u64>,
) -> anyhow::Result<()> {
    let mut stretches: Vec<(u64, u64)> = targets.iter().map(|job| stretch(job, report.to_ns)).collect();
    stretches.sort_unstable();
    // No job took longer than this one: what was under way at a moment was submitted no earlier than so long before.
    let longest_ns =
        report.slowest.first().map_or(0, |job| job.done_ns.unwrap_or(0).saturating_sub(job.submit_ns.unwrap_or(0)));
    let windows = windows(&stretches, longest_ns, open_ns);
    let Some(last_ns) = windows.last().map(|window| window.to_ns) else { return Ok(()) };
    let mut input = Input::open(path)?;
    input.set_windows(&windows.iter().map(|of| (of.from_ns, of.to_ns)).collect::<Vec<_>>());
    let tells_waits = input.tells_waits;
    let (drivers, no_starts) = (input.drivers.clone(), rings_without_starts(report));
    let begin = |window: Window| (window.to_ns, Look::new(&drivers, window.stretches));
    let mut coming = windows.into_iter().peekable();
    let (mut present, mut done) = (None, Vec::new());
    let Rest { names, .. } = input.read(|seen| {
        match seen {
            Seen::Event(event, names) => {
                while let Some(window) = coming.next_if(|window| window.from_ns <= event.at_ns) {
                    let before = present.replace(begin(window));
                    done.extend(before.map(|(_, look): (u64, Look)| look.finish(last_ns, names, &no_starts)));
                }
                if let Some((_, look)) = present.as_mut().filter(|(to_ns, _)| event.at_ns <= *to_ns) {
                    look.event(event, names, &no_starts);
                }
            }
            Seen::Lost(names) => {
                if let Some((_, look)) = &mut present {
                    look.lost(names, &no_starts);
                }
            }
        }
        Ok(())
    })?;
    done.extend(present.map(|(_, look)| look.finish(last_ns, &names, &no_starts)));
    let left_out = done.iter().map(|of| of.left_out).fold(0, u64::saturating_add);
    let mut explainers: Vec<Explainer> = done.into_iter().map(|of| of.explainer).collect();
    Explainer::share_depths(&mut explainers);
    let late = |job: &Job| explainers.iter().find_map(|explainer| explainer.explain(job.key, job.submit_ns));
    report.late = targets.iter().filter_map(late).collect();
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

/// A part of a trace that is looked at by itself.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    from_ns: u64,
    to_ns: u64,
    /// When the jobs were under way that are to be explained.
    stretches: Vec<(u64, u64)>,
}

/// What has to be read for these stretches, in order of time; parts that meet are one. No job took longer than `longest_ns`, but for those
/// that did not end, the oldest of which began at `open_ns`.
fn windows(stretches: &[(u64, u64)], longest_ns: u64, open_ns: Option<u64>) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for (from_ns, to_ns) in stretches.iter().copied() {
        // Jobs of before what is read may end until so long after its start, and make the starts of others doubtful. So what was
        // under way with the jobs of the stretch is read from as long before.
        let needed_ns = from_ns.saturating_sub(longest_ns.saturating_mul(2));
        let needed_ns = open_ns.filter(|open_ns| *open_ns <= to_ns).map_or(needed_ns, |open_ns| needed_ns.min(open_ns));
        match windows.last_mut() {
            Some(last) if needed_ns <= last.to_ns => {
                last.from_ns = last.from_ns.min(needed_ns);
                last.to_ns = last.to_ns.max(to_ns);
                last.stretches.push((from_ns, to_ns));
            }
            _ => windows.push(Window { from_ns: needed_ns, to_ns, stretches: vec![(from_ns, to_ns)] }),
        }
    }
    windows
}

/// A look at stretches of a trace.
struct Look {
    seen: Report,
    history: History,
    jobs: Vec<Job>,
    rings: usize,
}

impl Look {
    fn new(drivers: &[(String, String)], stretches: Vec<(u64, u64)>) -> Look {
        let seen = Report::new(Subject { drivers: drivers.to_vec(), ..Subject::default() });
        Look { seen, history: History::of(stretches), jobs: Vec::new(), rings: 0 }
    }

    fn event(&mut self, event: &Event, names: &TraceNames, no_starts: &[Ring]) {
        self.history.event(event);
        self.seen.event(event, names, |job| self.jobs.push(*job));
        while let Some(ring) = next_ring(&mut self.rings, names) {
            if self.seen.is_by_firmware(ring) {
                self.history.by_firmware(ring);
            }
        }
        self.take_jobs(names, no_starts);
    }

    fn lost(&mut self, names: &TraceNames, no_starts: &[Ring]) {
        self.history.lost();
        self.seen.lost(|job| self.jobs.push(*job));
        self.take_jobs(names, no_starts);
    }

    fn take_jobs(&mut self, names: &TraceNames, no_starts: &[Ring]) {
        self.jobs.drain(..).for_each(|job| self.history.job(&with_known_start(job, names, no_starts)));
    }

    fn finish(mut self, to_ns: u64, names: &TraceNames, no_starts: &[Ring]) -> Found {
        let mut rest = Vec::new();
        let report = self.seen.finish(Some(to_ns), names, Dropped::default(), |job| rest.push(*job));
        rest.iter().for_each(|job| self.history.job(&with_known_start(*job, names, no_starts)));
        let (left_out, unmatched_ends) = (self.history.left_out(), report.unmatched_ends);
        Found { explainer: self.history.finish(to_ns), left_out, unmatched_ends }
    }
}

/// What a look found.
struct Found {
    explainer: Explainer,
    /// Jobs that were too many to keep.
    left_out: u64,
    /// Ends of jobs of which nothing else was read.
    unmatched_ends: u64,
}

/// The same, with the names.
pub(super) struct Looked {
    pub(super) explainer: Explainer,
    pub(super) names: TraceNames,
    /// When threads were within DRM ioctls.
    pub(super) ioctls: InIoctls,
    pub(super) left_out: u64,
    pub(super) unmatched_ends: u64,
}

/// Reads what happened in a stretch. Jobs of `no_starts` are taken to have no start.
pub(super) fn look(input: Input, stretch: (u64, u64), no_starts: &[Ring]) -> anyhow::Result<Looked> {
    let mut look = Look::new(&input.drivers, vec![stretch]);
    let mut spans = IoctlSpans::of(stretch);
    let Rest { names, .. } = input.read(|seen| {
        match seen {
            Seen::Event(event, names) => {
                spans.event(event);
                look.event(event, names, no_starts);
            }
            Seen::Lost(names) => {
                spans.lost();
                look.lost(names, no_starts);
            }
        }
        Ok(())
    })?;
    let Found { explainer, left_out, unmatched_ends } = look.finish(stretch.1, &names, no_starts);
    Ok(Looked { explainer, names, ioctls: spans.finish(), left_out, unmatched_ends })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(windows: &[Window]) -> Vec<(u64, u64, usize)> {
        windows.iter().map(|of| (of.from_ns, of.to_ns, of.stretches.len())).collect()
    }

    #[test]
    fn stretches_far_apart_are_read_by_themselves_and_near_ones_together() {
        let stretches = [(1_000, 1_050), (1_300, 1_310), (1_510, 1_610)];
        assert_eq!(told(&windows(&stretches, 100, None)), [(800, 1_050, 1), (1_100, 1_610, 2)]);
        assert_eq!(told(&windows(&stretches, 100, Some(1_700))), [(800, 1_050, 1), (1_100, 1_610, 2)]);
        assert_eq!(told(&windows(&[], 100, None)), []);
    }

    #[test]
    fn what_never_ended_is_read_with_all_that_it_was_under_way_with() {
        let stretches = [(1_000, 1_050), (2_000, 2_100), (9_000, 9_010)];
        assert_eq!(told(&windows(&stretches, 100, Some(1_500))), [(800, 1_050, 1), (1_500, 9_010, 2)]);
        assert_eq!(told(&windows(&stretches, 100, Some(20))), [(20, 9_010, 3)]);
    }
}
