//! The jobs that do not end, while they do not.
//!
//! A job that waits in a long queue is late; the one that holds the queue up is stuck. So what is judged is the first job of each ring: the
//! oldest of those with the hardware or, where it has none, of those in the queue, from the moment at which it became the first. Whatever
//! else is on that ring is told as waiting behind it. A job in the queue that later ones went by is judged by itself: it waits for something
//! else than its turn.
//!
//! Jobs that were submitted before the capture began are not known, and cannot be told.

use crate::Jobs;
use gpuscope_model::trace::{Behind, HeldUp, Job, JobKey, RingId, StuckJob};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;

/// Jobs that are told at one look, those first that have been stuck for longest.
const MOST_TOLD: usize = 64;

/// Watches for jobs that are held up for longer than a threshold.
///
/// Give it every job that [`Jobs`] says has ended, and let it look from time to time: an alarm comes with the first look that is later
/// than the threshold.
///
/// ```
/// use gpuscope_analysis::{Jobs, StuckJobs};
///
/// let (mut jobs, mut stuck) = (Jobs::new(), StuckJobs::new(2_000_000_000));
/// # let events: Vec<gpuscope_model::trace::Event> = Vec::new();
/// for event in &events {
///     jobs.event(event, |job| {
///         stuck.ended(job);
///     });
/// }
/// for job in stuck.look(&jobs, 5_000_000_000) {
///     println!("{:?} is held up for {} ns", job.job.key, job.age_ns());
/// }
/// ```
#[derive(Debug)]
pub struct StuckJobs {
    after_ns: u64,
    rings: FxHashMap<Option<RingId>, Watched>,
    /// What was told and has not ended: since when it is stuck.
    told: FxHashMap<(JobKey, u64), u64>,
    lost_ns: Option<u64>,
    at_ns: u64,
    raised: u64,
}

/// What is remembered of a ring.
#[derive(Debug, Default)]
struct Watched {
    first: Option<First>,
    /// When a job ended that had been the first one.
    first_done_ns: u64,
    /// When the last job was handed over that has ended, and when it ended.
    last_done: (u64, u64),
    /// The latest submission among jobs that went to the hardware and have ended.
    passed_ns: u64,
    /// The first job in the queue of each context.
    queues: FxHashMap<(u64, u32), First>,
}

/// The first job of a ring.
#[derive(Clone, Copy, Debug)]
struct First {
    key: JobKey,
    place: HeldUp,
    /// When it came to that place.
    came_ns: u64,
    since_ns: u64,
}

/// A job that was told to be stuck, and has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The job, with its end.
    pub job: Job,
    /// Since when it had been held up.
    pub since_ns: u64,
}

/// A ring's jobs in flight, as one look finds them.
#[derive(Debug, Default)]
struct Found<'a> {
    on_hardware: Option<&'a Job>,
    in_queue: Option<&'a Job>,
    /// The oldest of each context.
    queues: FxHashMap<(u64, u32), &'a Job>,
}

/// A job that may be stuck.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    first: First,
    job: &'a Job,
    /// The others of its ring wait for it, and not only those of its context.
    holds_ring: bool,
}

impl StuckJobs {
    /// Tells jobs that are held up for at least so long.
    pub fn new(after_ns: u64) -> Self {
        StuckJobs {
            after_ns,
            rings: FxHashMap::default(),
            told: FxHashMap::default(),
            lost_ns: None,
            at_ns: 0,
            raised: 0,
        }
    }

    /// The threshold.
    pub fn after_ns(&self) -> u64 {
        self.after_ns
    }

    /// Alarms so far.
    pub fn raised(&self) -> u64 {
        self.raised
    }

    /// A job has ended. Where it was told to be stuck, that is over.
    pub fn ended(&mut self, job: &Job) -> Option<Released> {
        let ring = self.rings.entry(job.ring).or_default();
        let done_ns = job.done_ns.unwrap_or(0);
        if ring.first.is_some_and(|first| first.key == job.key) {
            ring.first_done_ns = done_ns;
        }
        if let Some(run_ns) = job.run_ns {
            if done_ns >= ring.last_done.1 {
                ring.last_done = (run_ns, done_ns);
            }
            ring.passed_ns = ring.passed_ns.max(job.submit_ns.unwrap_or(0));
        }
        if self.told.is_empty() {
            return None;
        }
        self.told.remove(&name_of(job)).map(|since_ns| Released { job: *job, since_ns })
    }

    /// Records were lost: the ends of jobs that are in flight may be among them.
    pub fn lost(&mut self) {
        self.lost_ns = Some(self.at_ns);
    }

    /// The jobs that are stuck at this moment, those that have been for longest first. `at_ns` is a moment until which all events have been
    /// given: a job that ended later than that may be told.
    ///
    /// Where jobs end out of order, since when a job has been the first is known but for the time between two looks.
    pub fn look(&mut self, jobs: &Jobs, at_ns: u64) -> Vec<StuckJob> {
        let before_ns = std::mem::replace(&mut self.at_ns, at_ns);
        let mut rings: FxHashMap<Option<RingId>, Found<'_>> = FxHashMap::default();
        let in_flight: Vec<Job> = jobs.in_flight().collect();
        for job in &in_flight {
            rings.entry(job.ring).or_default().add(job);
        }
        // Rings without jobs in flight have no first one.
        for ring in rings.keys() {
            self.rings.entry(*ring).or_default();
        }
        let mut stuck: Vec<Candidate<'_>> = Vec::new();
        let nothing = Found::default();
        for (ring, watched) in &mut self.rings {
            let found = rings.get(ring).unwrap_or(&nothing);
            let first = watched.first(found);
            let queues = watched.passed(found, before_ns);
            let of_ring = first.into_iter().chain(queues);
            let known: usize = stuck.len();
            for candidate in of_ring {
                let is_told =
                    stuck.get(known..).unwrap_or_default().iter().any(|of| of.first.key == candidate.first.key);
                if at_ns.saturating_sub(candidate.first.since_ns) >= self.after_ns && !is_told {
                    stuck.push(candidate);
                }
            }
        }
        stuck.sort_unstable_by_key(|of| (of.first.since_ns, of.first.key));
        stuck.truncate(MOST_TOLD);
        if stuck.is_empty() {
            return Vec::new();
        }
        let behind = behind(&in_flight, &stuck);
        stuck.into_iter().zip(behind).map(|(of, behind)| self.tell(of.first, of.job, behind)).collect()
    }

    fn tell(&mut self, first: First, job: &Job, behind: Vec<Behind>) -> StuckJob {
        let is_new = self.told.insert(name_of(job), first.since_ns).is_none();
        self.raised = self.raised.saturating_add(u64::from(is_new));
        StuckJob {
            job: *job,
            place: first.place,
            since_ns: first.since_ns,
            at_ns: self.at_ns,
            is_new,
            is_doubtful: self.lost_ns.is_some_and(|lost_ns| lost_ns >= first.since_ns),
            behind,
        }
    }
}

impl Watched {
    /// The job that the others of the ring wait for. Since when is kept as long as it is the same.
    fn first<'a>(&mut self, found: &Found<'a>) -> Option<Candidate<'a>> {
        let on_hardware = found.on_hardware.and_then(|job| Some((job, HeldUp::OnHardware, job.run_ns?)));
        // Where later ones went by, the ring does not wait for it.
        let waits = |(_, _, came_ns): &(&Job, HeldUp, u64)| *came_ns >= self.passed_ns;
        let in_queue = found.in_queue.and_then(|job| Some((job, HeldUp::InQueue, job.submit_ns?))).filter(waits);
        let Some((job, place, came_ns)) = on_hardware.or(in_queue) else {
            self.first = None;
            return None;
        };
        let same = |first: &First| (first.key, first.place, first.came_ns) == (job.key, place, came_ns);
        // The job that ended last was ahead of this one, unless it has overtaken it.
        let (last_run_ns, last_done_ns) = self.last_done;
        let last_done_ns = if place == HeldUp::InQueue || last_run_ns <= came_ns { last_done_ns } else { 0 };
        let since_ns = came_ns.max(last_done_ns).max(self.first_done_ns);
        let first = self.first.filter(same).unwrap_or(First { key: job.key, place, came_ns, since_ns });
        self.first = Some(first);
        Some(Candidate { first, job, holds_ring: true })
    }

    /// Of each context, the first job in the queue, where one that was submitted later has gone by.
    fn passed<'a>(&mut self, found: &Found<'a>, before_ns: u64) -> Vec<Candidate<'a>> {
        let mut queues = FxHashMap::default();
        let mut passed = Vec::new();
        for (queue, job) in &found.queues {
            let came_ns = job.submit_ns.unwrap_or(0);
            let same = self.queues.get(queue).filter(|first| (first.key, first.came_ns) == (job.key, came_ns));
            // It was not the first at the last look.
            let new = First { key: job.key, place: HeldUp::InQueue, came_ns, since_ns: came_ns.max(before_ns) };
            let first = same.copied().unwrap_or(new);
            queues.insert(*queue, first);
            if came_ns < self.passed_ns {
                passed.push(Candidate { first, job, holds_ring: false });
            }
        }
        self.queues = queues;
        passed
    }
}

impl<'a> Found<'a> {
    fn add(&mut self, job: &'a Job) {
        if job.run_ns.is_some() {
            return keep_oldest(&mut self.on_hardware, job, |job| job.run_ns);
        }
        keep_oldest(&mut self.in_queue, job, |job| job.submit_ns);
        let kept = self.queues.entry(queue_of(job)).or_insert(job);
        if (job.submit_ns, job.key) < (kept.submit_ns, kept.key) {
            *kept = job;
        }
    }
}

fn keep_oldest<'a>(kept: &mut Option<&'a Job>, job: &'a Job, time: fn(&Job) -> Option<u64>) {
    if kept.is_none_or(|kept| (time(job), job.key) < (time(kept), kept.key)) {
        *kept = Some(job);
    }
}

/// A job's key and submission: keys that are addresses are given out again.
fn name_of(job: &Job) -> (JobKey, u64) {
    (job.key, job.submit_ns.or(job.run_ns).unwrap_or(0))
}

/// What its jobs run in order of: the context of its fence or, where that is not known, the process.
fn queue_of(job: &Job) -> (u64, u32) {
    match job.key {
        JobKey::Fence { context, .. } => (context, 0),
        JobKey::FenceLow { context, .. } => (u64::from(context), 0),
        JobKey::Address(_) | JobKey::InRing { .. } => (0, job.pid),
    }
}

/// Of each stuck job, whose jobs wait behind it.
fn behind(in_flight: &[Job], stuck: &[Candidate<'_>]) -> Vec<Vec<Behind>> {
    let is_stuck: FxHashSet<JobKey> = stuck.iter().map(|of| of.first.key).collect();
    let mut sums: Vec<FxHashMap<u32, (u64, Behind)>> = vec![FxHashMap::default(); stuck.len()];
    for job in in_flight.iter().filter(|job| !is_stuck.contains(&job.key)) {
        let waits_for = |of: &Candidate<'_>| {
            let on_its_way = of.holds_ring || queue_of(job) == queue_of(of.job);
            job.blocked_by == Some(of.first.key) || (job.ring == of.job.ring && on_its_way)
        };
        // It waits for the one of these that has been stuck for longest.
        let Some((_, sums)) = stuck.iter().zip(&mut sums).find(|(stuck, _)| waits_for(stuck)) else { continue };
        let came_ns = job.submit_ns.or(job.run_ns).unwrap_or(u64::MAX);
        let (first_ns, of) = sums.entry(job.pid).or_insert((came_ns, Behind { pid: job.pid, comm: job.comm, jobs: 0 }));
        of.jobs = of.jobs.saturating_add(1);
        if came_ns < *first_ns {
            (*first_ns, of.comm) = (came_ns, job.comm);
        }
    }
    let sorted = |sums: FxHashMap<u32, (u64, Behind)>| {
        let mut all: Vec<Behind> = sums.into_values().map(|(_, of)| of).collect();
        all.sort_unstable_by_key(|of| (Reverse(of.jobs), of.pid));
        all
    };
    sums.into_iter().map(sorted).collect()
}

#[cfg(test)]
mod tests;
