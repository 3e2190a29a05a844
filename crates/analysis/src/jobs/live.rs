//! A job in flight, as small as will do: what every job needs stands in one line of the cache, the rest in a second one.

use super::Step;
use super::ended::Ended;
use super::table::Key;
use gpuscope_model::trace::{Family, JobKey, JobStatus, NameId, RingId};

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
pub(super) const NO_RING: u32 = u32::MAX;

/// What is not known of it has no flag, and its field means nothing then.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Live {
    pub(super) words: [u64; 2],
    pub(super) kind: u32,
    pub(super) ring: u32,
    pub(super) submit_ns: u64,
    pub(super) run_ns: u64,
    /// Its place among those handed over to its ring.
    pub(super) order: u64,
    /// Ends of unseen jobs until its hand-over. Only whether there were more since is asked, so the lower half does.
    pub(super) ends_before: u32,
    pub(super) pid: u32,
    pub(super) comm: NameId,
    flags: u8,
    /// Who told of it first.
    pub(super) family: Family,
    // The second line.
    pub(super) start_ns: u64,
    pub(super) client: u64,
    error: i64,
    pub(super) blocked_by: JobKey,
    pub(super) dependencies: u32,
    pub(super) tid: u32,
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
