//! Jobs that ended, as much of them as those want to know who are told.

use super::live::{NO_RING, Whole, is};
use super::table::Key;
use gpuscope_model::trace::{ExecKind, Job, JobStatus, NameId, RingId};

/// A job that ended, or that has not when the trace does. Made a [`Job`] for those who want one: most are only counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(super) of: Whole<'a>,
    /// The job's bits.
    pub(super) seen: u32,
    /// Its start was recorded, or else inferred, if this means anything.
    pub(super) start_ns: u64,
    pub(super) is_inferred: bool,
    pub(super) done_ns: u64,
    pub(super) is_done: bool,
    pub(super) status: JobStatus,
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
        let live = self.of.live;
        let [word, _] = live.words;
        Some(PlainJob {
            word,
            kind: live.kind.into(),
            ring: live.ring,
            submit_ns: live.submit_ns,
            run_ns: live.run_ns,
            start_ns: self.start_ns,
            done_ns: self.done_ns,
            process: self.process(),
            comm: live.thread.comm,
            is_told,
            has_started: self.is(is::STARTED) | self.is_inferred,
            is_measured: self.is(is::STARTED),
        })
    }

    /// From submission to end, where both were seen.
    #[inline(always)]
    pub(crate) fn total_ns(&self) -> Option<u64> {
        let total_ns = self.done_ns.saturating_sub(self.of.live.submit_ns);
        (self.is(is::SUBMITTED) && self.is_done).then_some(total_ns)
    }

    #[inline(always)]
    fn is(&self, bits: u32) -> bool {
        self.seen & bits == bits
    }

    /// Its times, without a choice on the way to each.
    #[inline(always)]
    pub(crate) fn times(&self) -> Times {
        let live = self.of.live;
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
        let live = self.of.live;
        Job {
            key: live.key().job_key(),
            ring: self.ring(),
            client: self.of.client(),
            pid: live.thread.pid,
            tid: live.thread.tid,
            comm: live.thread.comm,
            submit_ns: self.submit_ns(),
            run_ns: self.run_ns(),
            start_ns: self.start(),
            done_ns: self.done_ns(),
            dependencies: self.of.dependencies(),
            blocked_by: self.of.blocked_by(),
            status: self.status,
        }
    }

    #[inline]
    pub(crate) fn ring(&self) -> Option<RingId> {
        self.of.live.ring()
    }

    #[inline]
    pub(crate) fn status(&self) -> JobStatus {
        self.status
    }

    fn submit_ns(&self) -> Option<u64> {
        self.is(is::SUBMITTED).then_some(self.of.live.submit_ns)
    }

    fn run_ns(&self) -> Option<u64> {
        self.is(is::HANDED_OVER).then_some(self.of.live.run_ns)
    }

    pub(crate) fn done_ns(&self) -> Option<u64> {
        self.is_done.then_some(self.done_ns)
    }

    /// Context of its fence, where its key is one.
    #[inline]
    pub(crate) fn context(&self) -> Option<u64> {
        Key::context_of(self.of.live.words, self.of.live.kind.into())
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
        if self.of.live.thread.pid == 0 { self.of.live.thread.tid } else { self.of.live.thread.pid }
    }

    #[inline]
    pub(crate) fn comm(&self) -> NameId {
        self.of.live.thread.comm
    }
}
