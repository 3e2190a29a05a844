//! Processes and contexts: who submitted.

use crate::jobs::{Ended, Times};
use crate::{Distribution, Pool};
use gpuscope_model::trace::{JobStatus, NameId, RingId};
use rustc_hash::FxHashMap;

/// Processes that are told one by one.
pub(super) const MOST_PROCESSES: usize = 4096;
/// Contexts that are told one by one.
pub(super) const MOST_CONTEXTS: usize = 4096;

/// Lanes that are remembered: a power of two.
const LANES: usize = 4096;
/// Places behind each other in which a lane may stand.
const NEAR: usize = 4;

/// No place in a list: more than are told.
const NONE: u32 = u32::MAX;

/// Sums by process and by context.
#[derive(Debug)]
pub(super) struct People {
    pub(super) processes: Vec<ProcessTotals>,
    process_of: FxHashMap<u32, u32>,
    pub(super) contexts: Vec<ContextTotals>,
    context_of: FxHashMap<u64, u32>,
    times: Vec<Spent>,
    times_of: FxHashMap<(u32, Option<RingId>), u32>,
    /// Where the jobs of one process on one ring in one context are added, for those seen last: jobs come from the same few.
    lanes: Vec<Lane>,
    pub(super) contexts_cut: bool,
    /// Jobs of processes that are not told.
    pub(super) processes_cut: u64,
}

#[derive(Debug)]
pub(super) struct ProcessTotals {
    pub(super) pid: u32,
    pub(super) comm: NameId,
    pub(super) jobs: u64,
    pub(super) failed: u64,
    pub(super) queue: Distribution,
}

#[derive(Debug)]
pub(super) struct ContextTotals {
    pub(super) context: u64,
    pub(super) pid: u32,
    pub(super) ring: Option<RingId>,
    pub(super) jobs: u64,
}

/// What the jobs of a process took on a ring. Which of the two counts is known in the end.
#[derive(Debug, Default)]
struct Spent {
    process: u32,
    ring: Option<RingId>,
    exec_ns: u64,
    in_flight_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    of: Of,
    process: u32,
    context_at: u32,
    times: u32,
}

/// Whose jobs: as plain words, which are compared at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Of {
    context: u64,
    pid: u32,
    /// The ring's number, or all bits.
    ring: u32,
    /// Whether the context is known: 1 or 2. 0 where the lane is free.
    kind: u32,
}

impl Of {
    #[inline]
    fn job(job: &Ended<'_>) -> Of {
        let context = job.context();
        Of {
            context: context.unwrap_or(0),
            pid: job.process(),
            ring: job.ring().map_or(u32::MAX, |ring| ring.0),
            kind: 1 + u32::from(context.is_some()),
        }
    }

    #[inline]
    fn is(&self, other: &Of) -> bool {
        let words = |of: &Of| (of.context, u64::from(of.pid) << 32 | u64::from(of.ring), u64::from(of.kind));
        let ((a, b, c), (d, e, f)) = (words(self), words(other));
        (a ^ d) | (b ^ e) | (c ^ f) == 0
    }

    /// Where its lane may begin to be looked for.
    #[inline]
    fn home(&self) -> usize {
        let mixed = (self.context ^ u64::from(self.pid) << 32 ^ u64::from(self.ring) << 20).wrapping_mul(FACTOR);
        (mixed >> 32) as usize & (LANES - 1)
    }

    fn context(&self) -> Option<u64> {
        (self.kind == 2).then_some(self.context)
    }
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for People {
    fn default() -> Self {
        People {
            processes: Vec::new(),
            process_of: FxHashMap::default(),
            contexts: Vec::new(),
            context_of: FxHashMap::default(),
            times: Vec::new(),
            times_of: FxHashMap::default(),
            lanes: vec![Lane::default(); LANES + NEAR],
            contexts_cut: false,
            processes_cut: 0,
        }
    }
}

impl People {
    /// Adds a job whose submission was seen.
    #[inline]
    pub(super) fn job(&mut self, job: &Ended<'_>, took: &Times, pool: &mut Pool) {
        let of = Of::job(job);
        let home = of.home();
        let near = self.lanes.get(home..home.saturating_add(NEAR)).unwrap_or_default();
        let lane = match near.iter().find(|lane| lane.of.is(&of)) {
            Some(lane) => *lane,
            None => self.new_lane(of, job, home),
        };
        let Some(process) = self.processes.get_mut(lane.process as usize) else {
            self.processes_cut = self.processes_cut.saturating_add(1);
            return;
        };
        process.comm = job.comm();
        process.jobs = process.jobs.wrapping_add(1);
        process.failed = process.failed.wrapping_add(u64::from(matches!(job.status(), JobStatus::Failed(_))));
        if took.was_queued {
            process.queue.add(took.queue_ns, pool);
        }
        if let Some(times) = self.times.get_mut(lane.times as usize) {
            times.exec_ns = times.exec_ns.saturating_add(if took.was_executed { took.exec_ns } else { 0 });
            times.in_flight_ns =
                times.in_flight_ns.saturating_add(if took.was_in_flight { took.in_flight_ns } else { 0 });
        }
        if let Some(context) = self.contexts.get_mut(lane.context_at as usize) {
            context.ring = job.ring().or(context.ring);
            context.jobs = context.jobs.wrapping_add(1);
        }
    }

    #[cold]
    fn new_lane(&mut self, of: Of, job: &Ended<'_>, home: usize) -> Lane {
        let ring = job.ring();
        let mut lane = Lane { of, process: NONE, context_at: NONE, times: NONE };
        lane.process = self.process(of.pid, job.comm());
        if lane.process != NONE {
            lane.context_at = of.context().map_or(NONE, |context| self.context(context, of.pid));
            let times = &mut self.times;
            lane.times = *self.times_of.entry((lane.process, ring)).or_insert_with(|| {
                times.push(Spent { process: lane.process, ring, ..Spent::default() });
                times.len().saturating_sub(1) as u32
            });
        }
        // In the first free place or, where there is none, in that of another.
        let near = self.lanes.get_mut(home..home.saturating_add(NEAR)).unwrap_or_default();
        let free = near.iter().position(|lane| lane.of.kind == 0).unwrap_or(job.process() as usize % NEAR);
        if let Some(place) = near.get_mut(free) {
            *place = lane;
        }
        lane
    }

    fn process(&mut self, pid: u32, comm: NameId) -> u32 {
        if let Some(at) = self.process_of.get(&pid) {
            return *at;
        }
        if self.processes.len() >= MOST_PROCESSES {
            return NONE;
        }
        let at = self.processes.len() as u32;
        self.processes.push(ProcessTotals { pid, comm, jobs: 0, failed: 0, queue: Distribution::keeping(super::FEW) });
        self.process_of.insert(pid, at);
        at
    }

    fn context(&mut self, context: u64, pid: u32) -> u32 {
        if let Some(at) = self.context_of.get(&context) {
            return *at;
        }
        if self.contexts.len() >= MOST_CONTEXTS {
            self.contexts_cut = true;
            return NONE;
        }
        let at = self.contexts.len() as u32;
        self.contexts.push(ContextTotals { context, pid, ring: None, jobs: 0 });
        self.context_of.insert(context, at);
        at
    }

    /// Time of execution of a process's jobs, with those rings' times in flight instead of which `in_flight` says so; by its place.
    pub(super) fn exec_ns(&self, in_flight: impl Fn(Option<RingId>) -> bool) -> Vec<u64> {
        let mut sums = vec![0_u64; self.processes.len()];
        for times in &self.times {
            if let Some(sum) = sums.get_mut(times.process as usize) {
                let ns = if in_flight(times.ring) { times.in_flight_ns } else { times.exec_ns };
                *sum = sum.saturating_add(ns);
            }
        }
        sums
    }
}
