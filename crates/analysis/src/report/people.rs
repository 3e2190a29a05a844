//! Processes and contexts: who submitted.

use crate::{Distribution, Pool};
use gpuscope_model::trace::{Job, JobKey, JobStatus, NameId, RingId};
use rustc_hash::FxHashMap;

/// Processes that are told one by one.
pub(super) const MOST_PROCESSES: usize = 4096;
/// Contexts that are told one by one.
pub(super) const MOST_CONTEXTS: usize = 4096;

/// Lanes that are remembered: a power of two.
const LANES: usize = 4096;

/// No place in a list: more than are told.
const NONE: u32 = u32::MAX;

/// Sums by process and by context.
#[derive(Debug)]
pub(super) struct People {
    pub(super) processes: Vec<ProcessTotals>,
    process_of: FxHashMap<u32, u32>,
    pub(super) contexts: Vec<ContextTotals>,
    context_of: FxHashMap<u64, u32>,
    times: Vec<Times>,
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
struct Times {
    process: u32,
    ring: Option<RingId>,
    exec_ns: u64,
    in_flight_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    pid: u32,
    ring: Option<RingId>,
    /// Without one, the lane is free, or that of jobs whose context is not known.
    context: Option<u64>,
    is_taken: bool,
    process: u32,
    context_at: u32,
    times: u32,
}

impl Default for People {
    fn default() -> Self {
        People {
            processes: Vec::new(),
            process_of: FxHashMap::default(),
            contexts: Vec::new(),
            context_of: FxHashMap::default(),
            times: Vec::new(),
            times_of: FxHashMap::default(),
            lanes: vec![Lane::default(); LANES],
            contexts_cut: false,
            processes_cut: 0,
        }
    }
}

impl People {
    /// Adds a job whose submission was seen.
    #[inline]
    pub(super) fn job(&mut self, job: &Job, pool: &mut Pool) {
        let pid = if job.pid == 0 { job.tid } else { job.pid };
        let context = match job.key {
            JobKey::Fence { context, .. } => Some(context),
            _ => None,
        };
        let mixed = (context.unwrap_or(0) ^ u64::from(pid) << 32 ^ job.ring.map_or(0, |ring| u64::from(ring.0) << 20))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (mixed >> 32) as usize & (LANES - 1);
        let lane = match self.lanes.get(at) {
            Some(lane) if lane.is_taken && lane.pid == pid && lane.context == context && lane.ring == job.ring => *lane,
            _ => self.new_lane(pid, context, job, at),
        };
        let Some(process) = self.processes.get_mut(lane.process as usize) else {
            self.processes_cut = self.processes_cut.saturating_add(1);
            return;
        };
        process.comm = job.comm;
        process.jobs = process.jobs.saturating_add(1);
        process.failed = process.failed.saturating_add(u64::from(matches!(job.status, JobStatus::Failed(_))));
        if let Some(ns) = job.queue_ns() {
            process.queue.add(ns, pool);
        }
        if let Some(times) = self.times.get_mut(lane.times as usize) {
            times.exec_ns = times.exec_ns.saturating_add(job.exec_ns().unwrap_or(0));
            times.in_flight_ns = times.in_flight_ns.saturating_add(job.in_flight_ns().unwrap_or(0));
        }
        if let Some(context) = self.contexts.get_mut(lane.context_at as usize) {
            context.ring = job.ring.or(context.ring);
            context.jobs = context.jobs.saturating_add(1);
        }
    }

    #[cold]
    fn new_lane(&mut self, pid: u32, context: Option<u64>, job: &Job, at: usize) -> Lane {
        let mut lane =
            Lane { pid, ring: job.ring, context, is_taken: true, process: NONE, context_at: NONE, times: NONE };
        lane.process = self.process(pid, job.comm);
        if lane.process != NONE {
            lane.context_at = context.map_or(NONE, |context| self.context(context, pid));
            let key = (lane.process, job.ring);
            let times = &mut self.times;
            lane.times = *self.times_of.entry(key).or_insert_with(|| {
                times.push(Times { process: lane.process, ring: job.ring, ..Times::default() });
                times.len().saturating_sub(1) as u32
            });
        }
        if let Some(place) = self.lanes.get_mut(at) {
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
