//! A job in flight, as small as will do: what every job needs stands in one line of the cache, the rest in a second one.

use super::Step;
use super::table::Key;
use gpuscope_model::trace::{ExecKind, Family, Job, JobKey, JobStatus, NameId, RingId};

/// What is known of a job in flight, in [`Live::flags`].
pub(super) mod is {
    /// Its submission was seen.
    pub(crate) const SUBMITTED: u8 = 1;
    /// Its hand-over was seen.
    pub(crate) const HANDED_OVER: u8 = 1 << 1;
    /// Its start was recorded.
    pub(crate) const STARTED: u8 = 1 << 2;
    /// Its client was told.
    pub(crate) const OF_CLIENT: u8 = 1 << 3;
    /// It ran beside another: its start cannot be told from the end of that one.
    pub(crate) const BESIDE: u8 = 1 << 4;
    /// It stands in its ring's order.
    pub(crate) const IN_ORDER: u8 = 1 << 5;
    /// It failed.
    pub(crate) const FAILED: u8 = 1 << 6;
    /// It was found waiting for another.
    pub(crate) const BLOCKED: u8 = 1 << 7;
}

/// No ring.
const NO_RING: u32 = u32::MAX;

/// What is not known of it has no flag, and its field means nothing then.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Live {
    pub(super) words: [u64; 2],
    pub(super) kind: u32,
    ring: u32,
    pub(super) submit_ns: u64,
    pub(super) run_ns: u64,
    /// Its place among those handed over to its ring.
    pub(super) order: u64,
    /// Ends of unseen jobs until its hand-over. Only whether there were more since is asked, so the lower half does.
    pub(super) ends_before: u32,
    pid: u32,
    comm: NameId,
    flags: u8,
    /// Who told of it first.
    pub(super) family: Family,
    // The second line.
    pub(super) start_ns: u64,
    client: u64,
    error: i64,
    blocked_by: JobKey,
    pub(super) dependencies: u32,
    tid: u32,
}

const _: () = assert!(size_of::<Live>() == 128);

impl Live {
    /// A slot that nothing was in yet.
    pub(super) fn none() -> Live {
        Live {
            words: [0; 2],
            kind: 0,
            ring: NO_RING,
            submit_ns: 0,
            run_ns: 0,
            order: 0,
            ends_before: 0,
            pid: 0,
            comm: NameId(0),
            flags: 0,
            family: Family::DrmSched,
            start_ns: 0,
            client: 0,
            error: 0,
            blocked_by: JobKey::Address(0),
            dependencies: 0,
            tid: 0,
        }
    }

    /// A job of which nothing is known but what the step says, in the place of one that has ended: a job is moved nowhere.
    #[inline(always)]
    pub(super) fn begin(&mut self, key: &Key, step: &Step, family: Family) {
        (self.words, self.kind) = (key.words, key.kind);
        self.ring = step.ring.map_or(NO_RING, |ring| ring.0);
        (self.pid, self.tid, self.comm) = (0, 0, NameId(0));
        self.family = family;
        self.dependencies = 0;
        self.client = step.client.unwrap_or(0);
        self.flags = if step.client.is_some() { is::OF_CLIENT } else { 0 };
    }

    /// The step is its submission.
    #[inline(always)]
    pub(super) fn submitted(&mut self, step: &Step) {
        (self.pid, self.tid, self.comm) = (step.pid, step.tid, step.comm);
        self.submit_ns = step.at_ns;
        self.set(is::SUBMITTED);
    }

    #[inline]
    pub(super) fn key(&self) -> Key {
        Key { words: self.words, kind: self.kind }
    }

    /// Of a fence.
    #[inline(always)]
    pub(super) fn seqno(&self) -> u64 {
        let [_, seqno] = self.words;
        seqno
    }

    /// Place of its ring in a list of all: none there, if it has no ring.
    #[inline(always)]
    pub(super) fn ring_at(&self) -> usize {
        self.ring as usize
    }

    /// Its slot is free.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.kind == 0
    }

    pub(super) fn free(&mut self) {
        self.kind = 0;
    }

    /// Whether all of these flags are set.
    #[inline]
    pub(super) fn is(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    #[inline]
    pub(super) fn set(&mut self, flags: u8) {
        self.flags |= flags;
    }

    /// It stands in its ring's order no longer.
    pub(super) fn leave_order(&mut self) {
        self.flags &= !is::IN_ORDER;
    }

    #[inline]
    pub(super) fn ring(&self) -> Option<RingId> {
        (self.ring != NO_RING).then_some(RingId(self.ring))
    }

    #[inline]
    pub(super) fn set_ring(&mut self, ring: Option<RingId>) {
        self.ring = ring.map_or(NO_RING, |ring| ring.0);
    }

    pub(super) fn fail(&mut self, error: i64) {
        self.error = error;
        self.set(is::FAILED);
    }

    pub(super) fn block(&mut self, by: Option<JobKey>) {
        self.flags &= !is::BLOCKED;
        if let Some(key) = by {
            self.blocked_by = key;
            self.set(is::BLOCKED);
        }
    }

    /// When it was submitted or, where that was not seen, handed over.
    pub(super) fn begun_ns(&self) -> Option<u64> {
        let run_ns = self.is(is::HANDED_OVER).then_some(self.run_ns);
        if self.is(is::SUBMITTED) { Some(self.submit_ns) } else { run_ns }
    }

    /// It has not ended.
    pub(super) fn in_flight(&self) -> Ended<'_> {
        let status = if self.is(is::FAILED) { JobStatus::Failed(self.error) } else { JobStatus::InFlight };
        self.ended(status)
    }

    /// Nothing more will be seen of it.
    pub(super) fn lost(&self) -> Ended<'_> {
        self.ended(JobStatus::Lost)
    }

    /// It ended at a moment, with this error number or 0, where that is known, and began at this one if that was not recorded.
    pub(super) fn done(&self, done_ns: u64, inferred_ns: Option<u64>, error: Option<i64>) -> Ended<'_> {
        let status = if self.is(is::FAILED) {
            JobStatus::Failed(self.error)
        } else {
            match error {
                Some(0) => JobStatus::Completed,
                Some(error) => JobStatus::Failed(error),
                None => JobStatus::Ended,
            }
        };
        let ended = Ended { done_ns, is_done: true, ..self.ended(status) };
        match inferred_ns {
            Some(start_ns) => Ended { start_ns, is_inferred: true, ..ended },
            None => ended,
        }
    }

    /// The same of a job that [is plain](Live::is_plain), and has not failed.
    #[inline(always)]
    pub(super) fn done_plainly(&self, done_ns: u64, start_ns: u64, is_inferred: bool, is_told: bool) -> Ended<'_> {
        let status = if is_told { JobStatus::Completed } else { JobStatus::Ended };
        // As constants, so that nobody has to ask for them again.
        let flags = self.flags & !(is::STARTED | is::FAILED) | is::SUBMITTED | is::HANDED_OVER;
        Ended { live: self, flags, start_ns, is_inferred, done_ns, is_done: true, status }
    }

    fn ended(&self, status: JobStatus) -> Ended<'_> {
        let (flags, start_ns) = (self.flags, self.start_ns);
        Ended { live: self, flags, start_ns, is_inferred: false, done_ns: 0, is_done: false, status }
    }

    /// Submitted, and not handed over.
    #[inline(always)]
    pub(super) fn is_queued(&self) -> bool {
        self.flags & (is::SUBMITTED | is::HANDED_OVER) == is::SUBMITTED
    }

    /// Submitted and handed over, in order and to run alone, and nothing more is known of it.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        let all = is::SUBMITTED | is::HANDED_OVER | is::IN_ORDER;
        self.flags & (all | is::STARTED | is::BESIDE | is::FAILED) == all
    }
}

/// A job that ended, or that has not when the trace does. Made a [`Job`] for those who want one: most are only counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    live: &'a Live,
    /// Those of the job.
    flags: u8,
    /// Its start was recorded, or else inferred, if this means anything.
    start_ns: u64,
    is_inferred: bool,
    done_ns: u64,
    is_done: bool,
    status: JobStatus,
}

/// What the parts of a job's way took, as far as they are known; see [`Job`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) queue_ns: u64,
    pub(crate) hw_queue_ns: u64,
    pub(crate) exec_ns: u64,
    pub(crate) in_flight_ns: u64,
    /// Of these times, the ones that are known.
    pub(crate) was_queued: bool,
    pub(crate) was_in_hw_queue: bool,
    pub(crate) was_executed: bool,
    pub(crate) was_in_flight: bool,
}

/// A job that was submitted, handed over and ended without an error, in a line of the cache. Only what is needed to add it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainJob {
    word: u64,
    kind: u32,
    ring: u32,
    submit_ns: u64,
    run_ns: u64,
    start_ns: u64,
    done_ns: u64,
    pub(crate) process: u32,
    pub(crate) comm: NameId,
    /// That it did not fail was told.
    pub(crate) is_told: bool,
    /// Its start is known, and was recorded.
    pub(crate) has_started: bool,
    pub(crate) is_measured: bool,
}

const _: () = assert!(size_of::<PlainJob>() == 64);

impl PlainJob {
    #[inline(always)]
    pub(crate) fn ring(&self) -> Option<RingId> {
        (self.ring != NO_RING).then_some(RingId(self.ring))
    }

    /// Place of its ring in a list of all: none there, if it has no ring.
    #[inline(always)]
    pub(crate) fn ring_at(&self) -> usize {
        self.ring as usize
    }

    /// Context of its fence, where its key is one.
    #[inline(always)]
    pub(crate) fn context(&self) -> Option<u64> {
        Key::context_of([self.word, 0], self.kind)
    }

    /// Its times, of which those are known that are so of every such job, and the others if it has started.
    #[inline(always)]
    pub(crate) fn times(&self) -> Times {
        Times {
            queue_ns: self.run_ns.saturating_sub(self.submit_ns),
            hw_queue_ns: self.start_ns.saturating_sub(self.run_ns),
            exec_ns: self.done_ns.saturating_sub(self.start_ns),
            in_flight_ns: self.done_ns.saturating_sub(self.run_ns),
            was_queued: true,
            was_in_hw_queue: self.has_started,
            was_executed: self.has_started,
            was_in_flight: true,
        }
    }
}

impl Ended<'_> {
    /// The job, if it is plain.
    #[inline(always)]
    pub(crate) fn plain(&self) -> Option<PlainJob> {
        let is_told = match self.status {
            JobStatus::Completed => true,
            JobStatus::Ended => false,
            _ => return None,
        };
        if !self.is(is::SUBMITTED | is::HANDED_OVER) {
            return None;
        }
        let live = self.live;
        let [word, _] = live.words;
        Some(PlainJob {
            word,
            kind: live.kind,
            ring: live.ring,
            submit_ns: live.submit_ns,
            run_ns: live.run_ns,
            start_ns: self.start_ns,
            done_ns: self.done_ns,
            process: self.process(),
            comm: live.comm,
            is_told,
            has_started: self.is(is::STARTED) | self.is_inferred,
            is_measured: self.is(is::STARTED),
        })
    }

    /// From submission to end, where both were seen.
    #[inline(always)]
    pub(crate) fn total_ns(&self) -> Option<u64> {
        let total_ns = self.done_ns.saturating_sub(self.live.submit_ns);
        (self.is(is::SUBMITTED) && self.is_done).then_some(total_ns)
    }

    #[inline(always)]
    fn is(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Its times, without a choice on the way to each.
    #[inline(always)]
    pub(crate) fn times(&self) -> Times {
        let live = self.live;
        let has_started = self.is(is::STARTED) | self.is_inferred;
        let (was_submitted, was_handed_over) = (self.is(is::SUBMITTED), self.is(is::HANDED_OVER));
        Times {
            queue_ns: live.run_ns.saturating_sub(live.submit_ns),
            hw_queue_ns: self.start_ns.saturating_sub(live.run_ns),
            exec_ns: self.done_ns.saturating_sub(self.start_ns),
            in_flight_ns: self.done_ns.saturating_sub(live.run_ns),
            was_queued: was_submitted & was_handed_over,
            was_in_hw_queue: was_handed_over & has_started,
            was_executed: has_started & self.is_done,
            was_in_flight: was_handed_over & self.is_done,
        }
    }

    /// All of it.
    pub(crate) fn job(&self) -> Job {
        let live = self.live;
        Job {
            key: live.key().job_key(),
            ring: self.ring(),
            client: self.is(is::OF_CLIENT).then_some(live.client),
            pid: live.pid,
            tid: live.tid,
            comm: live.comm,
            submit_ns: self.submit_ns(),
            run_ns: self.run_ns(),
            start_ns: self.start(),
            done_ns: self.done_ns(),
            dependencies: live.dependencies,
            blocked_by: self.is(is::BLOCKED).then_some(live.blocked_by),
            status: self.status,
        }
    }

    #[inline]
    pub(crate) fn ring(&self) -> Option<RingId> {
        self.live.ring()
    }

    #[inline]
    pub(crate) fn status(&self) -> JobStatus {
        self.status
    }

    fn submit_ns(&self) -> Option<u64> {
        self.is(is::SUBMITTED).then_some(self.live.submit_ns)
    }

    fn run_ns(&self) -> Option<u64> {
        self.is(is::HANDED_OVER).then_some(self.live.run_ns)
    }

    pub(crate) fn done_ns(&self) -> Option<u64> {
        self.is_done.then_some(self.done_ns)
    }

    /// Context of its fence, where its key is one.
    #[inline]
    pub(crate) fn context(&self) -> Option<u64> {
        Key::context_of(self.live.words, self.live.kind)
    }

    /// Its submission was seen.
    #[inline]
    pub(crate) fn was_submitted(&self) -> bool {
        self.is(is::SUBMITTED)
    }

    /// Its hand-over was seen.
    #[inline]
    pub(crate) fn was_handed_over(&self) -> bool {
        self.is(is::HANDED_OVER)
    }

    /// Its start was seen, and not only told from the end of the job before.
    #[inline]
    pub(crate) fn is_measured(&self) -> bool {
        self.is(is::STARTED)
    }

    fn start(&self) -> Option<(u64, ExecKind)> {
        let how = if self.is(is::STARTED) { ExecKind::Measured } else { ExecKind::Inferred };
        (self.is(is::STARTED) || self.is_inferred).then_some((self.start_ns, how))
    }

    /// The process that submitted it, or the thread where the process is not known.
    #[inline]
    pub(crate) fn process(&self) -> u32 {
        if self.live.pid == 0 { self.live.tid } else { self.live.pid }
    }

    #[inline]
    pub(crate) fn comm(&self) -> NameId {
        self.live.comm
    }
}
