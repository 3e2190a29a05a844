//! What rings did in a stretch of time, and why they had nothing to do.

use crate::Explainer;
use gpuscope_model::trace::{Gap, Idle, Job, JobStatus, Lane, RingId};
use std::collections::BTreeMap;

/// Gaps of one ring that are explained; with more, the shortest are told as not known.
const MOST_EXPLAINED: usize = 4096;

impl Explainer {
    /// The rings that had jobs between two moments, each with these jobs and the times without any at the hardware.
    pub fn lanes(&self, from_ns: u64, to_ns: u64) -> Vec<Lane> {
        let mut by_ring: BTreeMap<RingId, Vec<Job>> = BTreeMap::new();
        for job in self.jobs() {
            let begun_ns = job.submit_ns.or(job.run_ns).unwrap_or(0);
            let is_here = begun_ns <= to_ns && ended_ns(job) >= from_ns;
            if let Some(ring) = job.ring.filter(|_| is_here) {
                by_ring.entry(ring).or_default().push(*job);
            }
        }
        let lane = |(ring, mut jobs): (RingId, Vec<Job>)| {
            jobs.sort_unstable_by_key(|job| (job.submit_ns.or(job.run_ns), job.key));
            let gaps = self.gaps(&jobs, from_ns, to_ns);
            Lane { ring, jobs, gaps }
        };
        by_ring.into_iter().map(lane).collect()
    }

    fn gaps(&self, jobs: &[Job], from_ns: u64, to_ns: u64) -> Vec<Gap> {
        let mut busy: Vec<(u64, u64, usize)> = Vec::new();
        for (at, job) in jobs.iter().enumerate() {
            busy.extend(job.run_ns.filter(|run_ns| *run_ns <= to_ns).map(|run_ns| (run_ns, ended_ns(job), at)));
        }
        busy.sort_unstable();
        let mut idle: Vec<(u64, u64, Option<usize>)> = Vec::new();
        let mut until_ns = from_ns;
        for (begin, end, at) in busy {
            if begin > until_ns {
                idle.push((until_ns, begin, Some(at)));
            }
            until_ns = until_ns.max(end);
        }
        if until_ns < to_ns {
            idle.push((until_ns, to_ns, None));
        }
        let mut lengths: Vec<u64> = idle.iter().map(|(from, to, _)| to.saturating_sub(*from)).collect();
        lengths.sort_unstable();
        let least_ns = lengths.len().checked_sub(MOST_EXPLAINED).and_then(|at| lengths.get(at)).copied().unwrap_or(0);
        let mut waiting = Waiting::of(jobs);
        let mut gaps = Vec::new();
        for (from_ns, to_ns, next) in idle {
            // Until a job stands in the queue, nothing was submitted.
            let submitted_ns = waiting.first_after(from_ns).map_or(to_ns, |ns| ns.clamp(from_ns, to_ns));
            if submitted_ns > from_ns {
                gaps.push(Gap { from_ns, to_ns: submitted_ns, why: Idle::NothingSubmitted });
            }
            if submitted_ns >= to_ns {
                continue;
            }
            if to_ns.saturating_sub(from_ns) < least_ns {
                gaps.push(Gap { from_ns: submitted_ns, to_ns, why: Idle::NotKnown });
                continue;
            }
            // The job that ended the gap, and while that one was not submitted yet, the one that had waited for longest.
            let next = next.and_then(|at| jobs.get(at));
            let next_ns = next.and_then(|job| job.submit_ns).map_or(to_ns, |ns| ns.clamp(submitted_ns, to_ns));
            let is_queued = |job: &&Job| {
                job.submit_ns.is_some_and(|ns| ns <= submitted_ns)
                    && job.run_ns.unwrap_or_else(|| ended_ns(job)) > submitted_ns
            };
            let first = if next_ns > submitted_ns { jobs.iter().find(is_queued) } else { None };
            self.explain_gap(first, submitted_ns, next_ns, &mut gaps);
            self.explain_gap(next, next_ns, to_ns, &mut gaps);
        }
        gaps
    }

    /// What a job waited for in a gap.
    fn explain_gap(&self, job: Option<&Job>, mut from_ns: u64, to_ns: u64, gaps: &mut Vec<Gap>) {
        let late = job.and_then(|job| self.explain(job.key, job.submit_ns));
        for link in late.iter().flat_map(|late| &late.links) {
            let (begin, end) = (link.from_ns.max(from_ns), link.to_ns.min(to_ns));
            if begin < end {
                if begin > from_ns {
                    gaps.push(Gap { from_ns, to_ns: begin, why: Idle::NotKnown });
                }
                gaps.push(Gap { from_ns: begin, to_ns: end, why: Idle::Waiting(*link) });
                from_ns = end;
            }
        }
        if from_ns < to_ns {
            gaps.push(Gap { from_ns, to_ns, why: Idle::NotKnown });
        }
    }
}

/// When jobs stand in the scheduler's queue: from submission until hand-over.
struct Waiting {
    /// By begin.
    queued: Vec<(u64, u64)>,
    next: usize,
    until_ns: u64,
}

impl Waiting {
    fn of(jobs: &[Job]) -> Self {
        let queued = jobs.iter().filter_map(|job| Some((job.submit_ns?, job.run_ns.unwrap_or(ended_ns(job)))));
        Waiting { queued: queued.collect(), next: 0, until_ns: 0 }
    }

    /// The first moment from this one on at which a job stands in the queue. To be asked in order of time.
    fn first_after(&mut self, at_ns: u64) -> Option<u64> {
        loop {
            if self.until_ns > at_ns {
                return Some(at_ns);
            }
            let (begin, end) = *self.queued.get(self.next)?;
            if begin > at_ns {
                return Some(begin);
            }
            self.until_ns = self.until_ns.max(end);
            self.next = self.next.saturating_add(1);
        }
    }
}

/// When a job left its ring; of one that has not, the end of time. Of one whose end was lost nothing is known behind its hand-over.
fn ended_ns(job: &Job) -> u64 {
    let begun_ns = job.run_ns.or(job.submit_ns).unwrap_or(0);
    job.done_ns.unwrap_or(if job.status == JobStatus::InFlight { u64::MAX } else { begun_ns })
}

#[cfg(test)]
mod tests;
