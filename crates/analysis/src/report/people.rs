//! Processes and contexts: who submitted.

use crate::jobs::{Ended, PlainJob, Times};
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
    /// By process and ring.
    spent: FxHashMap<(u32, Option<RingId>), Spent>,
    /// Jobs of those seen last, which are not in the other sums yet: jobs come from the same few.
    lanes: Vec<Lane>,
    /// Jobs so far.
    jobs: u64,
    pub(super) contexts_cut: bool,
    /// Jobs of processes that are not told.
    pub(super) processes_cut: u64,
}

#[derive(Debug)]
pub(super) struct ProcessTotals {
    pub(super) pid: u32,
    pub(super) comm: NameId,
    /// Which job the name is that of.
    named_by: u64,
    pub(super) jobs: u64,
    pub(super) failed: u64,
    pub(super) queue: Distribution,
}

#[derive(Debug)]
pub(super) struct ContextTotals {
    pub(super) context: u64,
    pub(super) pid: u32,
    pub(super) ring: Option<RingId>,
    /// Which job that was the ring of.
    placed_by: u64,
    pub(super) jobs: u64,
}

/// What the jobs of a process took on a ring. Which of the two counts is known in the end.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    exec_ns: u64,
    in_flight_ns: u64,
}

impl Spent {
    #[inline(always)]
    fn of(took: &Times) -> Spent {
        Spent {
            exec_ns: if took.was_executed { took.exec_ns } else { 0 },
            in_flight_ns: if took.was_in_flight { took.in_flight_ns } else { 0 },
        }
    }

    fn and(self, more: Spent) -> Spent {
        Spent {
            exec_ns: self.exec_ns.saturating_add(more.exec_ns),
            in_flight_ns: self.in_flight_ns.saturating_add(more.in_flight_ns),
        }
    }
}

/// The jobs of one process on one ring in one context, in a line of the cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Lane {
    of: Of,
    process: u32,
    jobs: u64,
    spent: Spent,
    /// Which job was its last, and its thread's name then.
    last: u64,
    comm: NameId,
}

const _: () = assert!(size_of::<Lane>() == 64);

/// Whose jobs: as plain words, which are compared at once.
#[derive(Clone, Copy, Debug, Default)]
struct Of {
    context: u64,
    pid: u32,
    /// The ring's number, or all bits.
    ring: u32,
    /// Whether the context is known: 1 or 2. 0 where the lane is free.
    kind: u32,
}

impl Of {
    #[inline(always)]
    fn new(context: Option<u64>, pid: u32, ring: Option<RingId>) -> Of {
        Of {
            context: context.unwrap_or(0),
            pid,
            ring: ring.map_or(u32::MAX, |ring| ring.0),
            kind: 1 + u32::from(context.is_some()),
        }
    }

    #[inline(always)]
    fn is(&self, other: &Of) -> bool {
        let words = |of: &Of| (of.context, u64::from(of.pid) << 32 | u64::from(of.ring), u64::from(of.kind));
        let ((a, b, c), (d, e, f)) = (words(self), words(other));
        (a ^ d) | (b ^ e) | (c ^ f) == 0
    }

    /// Where its lane may begin to be looked for.
    #[inline(always)]
    fn home(&self) -> usize {
        let mixed = (self.context ^ u64::from(self.pid) << 32 ^ u64::from(self.ring) << 20).wrapping_mul(FACTOR);
        (mixed >> (u64::BITS - LANES.ilog2())) as usize
    }

    fn ring(&self) -> Option<RingId> {
        (self.ring != u32::MAX).then_some(RingId(self.ring))
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
            spent: FxHashMap::default(),
            lanes: vec![Lane::default(); LANES + NEAR],
            jobs: 0,
            contexts_cut: false,
            processes_cut: 0,
        }
    }
}

impl People {
    /// Adds a job that is plain.
    #[inline(always)]
    pub(super) fn plain_job(&mut self, job: &PlainJob, took: &Times, pool: &mut Pool) {
        let of = Of::new(job.context(), job.process, job.ring());
        if let Some(process) = self.add(&of, job.comm, took) {
            process.queue.add(took.queue_ns, pool);
        }
    }

    /// Adds a job whose submission was seen.
    pub(super) fn job(&mut self, job: &Ended<'_>, took: &Times, pool: &mut Pool) {
        let of = Of::new(job.context(), job.process(), job.ring());
        let Some(process) = self.add(&of, job.comm(), took) else { return };
        process.failed = process.failed.wrapping_add(u64::from(matches!(job.status(), JobStatus::Failed(_))));
        if took.was_queued {
            process.queue.add(took.queue_ns, pool);
        }
    }

    /// Adds a job to its lane, and gives its process, if that is told.
    #[inline(always)]
    fn add(&mut self, of: &Of, comm: NameId, took: &Times) -> Option<&mut ProcessTotals> {
        let home = of.home();
        let at = match self.lanes.get(home) {
            Some(lane) if lane.of.is(of) => home,
            _ => self.find_lane(*of, comm, home),
        };
        let lane = self.lanes.get_mut(at)?;
        let Some(process) = self.processes.get_mut(lane.process as usize) else {
            self.processes_cut = self.processes_cut.saturating_add(1);
            return None;
        };
        self.jobs = self.jobs.wrapping_add(1);
        lane.jobs = lane.jobs.wrapping_add(1);
        lane.spent = lane.spent.and(Spent::of(took));
        (lane.last, lane.comm) = (self.jobs, comm);
        Some(process)
    }

    /// The place of a lane that is not the first to be looked for here.
    #[inline(never)]
    fn find_lane(&mut self, of: Of, comm: NameId, home: usize) -> usize {
        let near = self.lanes.get(home..home.saturating_add(NEAR)).unwrap_or_default();
        match near.iter().position(|lane| lane.of.is(&of)) {
            Some(at) => home.saturating_add(at),
            None => self.new_lane(of, comm, home),
        }
    }

    #[cold]
    fn new_lane(&mut self, of: Of, comm: NameId, home: usize) -> usize {
        let mut lane = Lane { of, process: self.process(of.pid, comm), ..Lane::default() };
        if lane.process != NONE
            && let Some(context) = of.context()
        {
            self.context(context, of.pid);
        }
        // In the first free place or, where there is none, in that of another.
        let near = self.lanes.get(home..home.saturating_add(NEAR)).unwrap_or_default();
        let at = near.iter().position(|lane| lane.of.kind == 0).unwrap_or(of.pid as usize % NEAR).saturating_add(home);
        if let Some(place) = self.lanes.get_mut(at) {
            std::mem::swap(place, &mut lane);
            self.add_up(&lane);
        }
        at
    }

    /// Adds the jobs of all lanes to the sums of their processes and contexts.
    pub(super) fn add_up_all(&mut self) {
        for lane in std::mem::replace(&mut self.lanes, vec![Lane::default(); LANES + NEAR]) {
            self.add_up(&lane);
        }
    }

    fn add_up(&mut self, lane: &Lane) {
        if lane.jobs == 0 {
            return;
        }
        let Some(process) = self.processes.get_mut(lane.process as usize) else { return };
        process.jobs = process.jobs.wrapping_add(lane.jobs);
        if lane.last > process.named_by {
            (process.comm, process.named_by) = (lane.comm, lane.last);
        }
        let spent = self.spent.entry((lane.process, lane.of.ring())).or_default();
        *spent = spent.and(lane.spent);
        let context = lane.of.context().and_then(|context| self.context_of.get(&context));
        if let Some(context) = context.and_then(|at| self.contexts.get_mut(*at as usize)) {
            context.jobs = context.jobs.wrapping_add(lane.jobs);
            if lane.of.ring().is_some() && lane.last > context.placed_by {
                (context.ring, context.placed_by) = (lane.of.ring(), lane.last);
            }
        }
    }

    fn process(&mut self, pid: u32, comm: NameId) -> u32 {
        if let Some(at) = self.process_of.get(&pid) {
            return *at;
        }
        if self.processes.len() >= MOST_PROCESSES {
            return NONE;
        }
        let at = self.processes.len() as u32;
        let queue = Distribution::keeping(super::FEW);
        self.processes.push(ProcessTotals { pid, comm, named_by: 0, jobs: 0, failed: 0, queue });
        self.process_of.insert(pid, at);
        at
    }

    fn context(&mut self, context: u64, pid: u32) {
        if self.context_of.contains_key(&context) {
            return;
        }
        if self.contexts.len() >= MOST_CONTEXTS {
            self.contexts_cut = true;
            return;
        }
        self.context_of.insert(context, self.contexts.len() as u32);
        self.contexts.push(ContextTotals { context, pid, ring: None, placed_by: 0, jobs: 0 });
    }

    /// Time of execution of a process's jobs, with those rings' times in flight instead of which `in_flight` says so; by its place.
    pub(super) fn exec_ns(&self, in_flight: impl Fn(Option<RingId>) -> bool) -> Vec<u64> {
        let mut sums = vec![0_u64; self.processes.len()];
        for ((process, ring), spent) in &self.spent {
            if let Some(sum) = sums.get_mut(*process as usize) {
                let ns = if in_flight(*ring) { spent.in_flight_ns } else { spent.exec_ns };
                *sum = sum.saturating_add(ns);
            }
        }
        sums
    }
}
