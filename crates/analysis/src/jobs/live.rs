//! A job in flight, as small as will do: what every job needs stands in one line of the cache, the rest in a second one.

use super::Step;
use super::ended::Ended;
use super::table::{FENCE, Key};
use gpuscope_model::trace::{Family, JobKey, JobStatus, NameId, RingId, StepRef, StepThread};

/// What is known of a job in flight, as bits of [`Live::seen`]. None of what is not in flight.
pub(super) mod is {
    /// Its submission was seen.
    pub(crate) const SUBMITTED: u32 = 1;
    /// Its hand-over was seen.
    pub(crate) const HANDED_OVER: u32 = 1 << 1;
    /// It stands in its ring's order.
    pub(crate) const IN_ORDER: u32 = 1 << 2;
    /// It has ended, and waits to be given.
    pub(crate) const DONE: u32 = 1 << 3;
    /// Its start was recorded.
    pub(crate) const STARTED: u32 = 1 << 4;
    /// Its client was told.
    pub(crate) const OF_CLIENT: u32 = 1 << 5;
    /// It ran beside another: its start cannot be told from the end of that one.
    pub(crate) const BESIDE: u32 = 1 << 6;
    /// It failed.
    pub(crate) const FAILED: u32 = 1 << 7;
    /// It was found waiting for another.
    pub(crate) const BLOCKED: u32 = 1 << 8;
    /// It has to wait for others.
    pub(crate) const DEPENDENT: u32 = 1 << 9;
    /// It has ended, and it was told that it did not fail.
    pub(crate) const TOLD: u32 = 1 << 10;
    /// Its ring has forgotten it: it counts nothing of it.
    pub(crate) const FORGOTTEN: u32 = 1 << 11;
    /// Never seen.
    pub(crate) const NEVER: u32 = 1 << 31;
}

/// No ring.
pub(super) const NO_RING: u32 = u32::MAX;

/// What is not known of it has no bit, and its field means nothing then.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Live {
    pub(super) words: [u64; 2],
    pub(super) submit_ns: u64,
    pub(super) run_ns: u64,
    pub(super) client: u64,
    pub(super) ring: u32,
    seen: u32,
    /// Who submitted it.
    pub(super) thread: StepThread,
    pub(super) kind: u8,
    /// Who told of it first.
    pub(super) family: Family,
    /// The slot, whatever job is in it, is that of no home.
    pub(super) is_alone: bool,
}

const _: () = assert!(size_of::<Live>() == 64);

/// What is seldom known, or asked for: elsewhere, so that jobs in flight are few lines of a cache. What has no bit in [`Live`] means nothing.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Rest {
    start_ns: u64,
    error: i64,
    blocked_by: JobKey,
    dependencies: u32,
}

impl Rest {
    /// That of no job.
    pub(super) const NONE: Rest = Rest { start_ns: 0, error: 0, blocked_by: JobKey::Address(0), dependencies: 0 };
}

/// All that is known of a job in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    pub(super) live: &'a Live,
    pub(super) rest: &'a Rest,
}

/// The same, to be changed.
pub(super) struct WholeMut<'a> {
    pub(super) live: &'a mut Live,
    pub(super) rest: &'a mut Rest,
}

impl WholeMut<'_> {
    /// A job of which nothing is known but what the step says, in the place of one that has ended.
    #[inline(always)]
    pub(super) fn begin(&mut self, key: &Key, step: &Step, family: Family) {
        self.live.begin(key, step, family);
    }

    /// Its start was recorded.
    pub(super) fn started(&mut self, at_ns: u64) {
        self.rest.start_ns = at_ns;
        self.live.set(is::STARTED);
    }

    /// It waits for one more.
    pub(super) fn depend(&mut self) {
        let before = if self.live.is(is::DEPENDENT) { self.rest.dependencies } else { 0 };
        self.rest.dependencies = before.saturating_add(1);
        self.live.set(is::DEPENDENT);
    }

    /// It failed.
    pub(super) fn fail(&mut self, error: i64) {
        self.rest.error = error;
        self.live.set(is::FAILED);
    }

    /// It was found waiting for another, or for none that is told.
    pub(super) fn block(&mut self, by: Option<JobKey>) {
        self.live.unset(is::BLOCKED);
        if let Some(key) = by {
            self.rest.blocked_by = key;
            self.live.set(is::BLOCKED);
        }
    }
}

impl<'a> Whole<'a> {
    pub(super) fn client(&self) -> Option<u64> {
        self.live.is(is::OF_CLIENT).then_some(self.live.client)
    }

    /// How many others it waited for, as far as that was told.
    pub(super) fn dependencies(&self) -> u32 {
        if self.live.is(is::DEPENDENT) { self.rest.dependencies } else { 0 }
    }

    /// The job that it was last found waiting for.
    pub(super) fn blocked_by(&self) -> Option<JobKey> {
        self.live.is(is::BLOCKED).then_some(self.rest.blocked_by)
    }

    /// It has not ended.
    pub(super) fn in_flight(self) -> Ended<'a> {
        let status = if self.live.is(is::FAILED) { JobStatus::Failed(self.rest.error) } else { JobStatus::InFlight };
        self.ended(status)
    }

    /// Nothing more will be seen of it.
    pub(super) fn lost(self) -> Ended<'a> {
        self.ended(JobStatus::Lost)
    }

    /// It ended at a moment, with this error number or 0, where that is known, and began at this one if that was not recorded.
    pub(super) fn done(self, done_ns: u64, inferred_ns: Option<u64>, error: Option<i64>) -> Ended<'a> {
        let status = if self.live.is(is::FAILED) {
            JobStatus::Failed(self.rest.error)
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
    pub(super) fn done_plainly(self, done_ns: u64, start_ns: u64, is_inferred: bool, is_told: bool) -> Ended<'a> {
        let status = if is_told { JobStatus::Completed } else { JobStatus::Ended };
        // As constants, so that nobody has to ask for them again.
        let seen = self.live.seen() & !(is::STARTED | is::FAILED) | is::SUBMITTED | is::HANDED_OVER;
        Ended { of: self, seen, start_ns, is_inferred, done_ns, is_done: true, status }
    }

    fn ended(self, status: JobStatus) -> Ended<'a> {
        let start_ns = self.rest.start_ns;
        Ended { of: self, seen: self.live.seen(), start_ns, is_inferred: false, done_ns: 0, is_done: false, status }
    }
}

impl Live {
    /// A slot that nothing was in yet.
    pub(super) fn none() -> Live {
        Live {
            words: [0; 2],
            submit_ns: 0,
            run_ns: 0,
            client: 0,
            ring: NO_RING,
            seen: 0,
            thread: StepThread { tid: 0, pid: 0, comm: NameId(0) },
            kind: 0,
            family: Family::DrmSched,
            is_alone: false,
        }
    }

    /// The same, of a slot of no home.
    pub(super) fn alone() -> Live {
        Live { is_alone: true, ..Live::none() }
    }

    /// What no step fits.
    pub(super) fn nobody() -> Live {
        Live { seen: !is::NEVER, ..Live::none() }
    }

    /// The bits of [`is`].
    #[inline(always)]
    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// A step of a plain job, of which so much is seen now. It was handed over then, if the bits of that are set.
    #[inline(always)]
    pub(super) fn plain_step(&mut self, at_ns: u64, of_hand_over: u64, seen: u32) {
        self.run_ns = at_ns & of_hand_over | self.run_ns & !of_hand_over;
        self.put_seen(seen);
    }

    /// It was handed over at that moment.
    #[inline(always)]
    pub(super) fn handed_over(&mut self, at_ns: u64) {
        self.run_ns = at_ns;
        self.set(is::HANDED_OVER);
    }

    /// A job of which nothing is known but what the step says, in the place of one that has ended: a job is moved nowhere.
    #[inline(always)]
    pub(super) fn begin(&mut self, key: &Key, step: &Step, family: Family) {
        (self.words, self.kind) = (key.words, key.kind as u8);
        self.ring = step.ring.map_or(NO_RING, |ring| ring.0);
        self.thread = StepThread::default();
        self.family = family;
        self.client = step.client.unwrap_or(0);
        self.put_seen(if step.client.is_some() { is::OF_CLIENT } else { 0 });
    }

    /// What a plain job's submission says of it, but for the step itself.
    #[inline(always)]
    pub(super) fn begin_plain(&mut self, step: &StepRef<'_>) {
        let of = step.of;
        self.words = [of.context(), step.seqno];
        self.ring = of.ring_place();
        self.thread = *step.thread;
        self.submit_ns = step.at_ns;
        self.client = of.client_or_zero();
        (self.kind, self.family) = (FENCE as u8, Family::DrmSched);
    }

    /// The step is its submission.
    #[inline(always)]
    pub(super) fn submitted(&mut self, step: &Step) {
        self.thread = StepThread { tid: step.tid, pid: step.pid, comm: step.comm };
        self.submit_ns = step.at_ns;
        self.set(is::SUBMITTED);
    }

    #[inline]
    pub(super) fn key(&self) -> Key {
        Key { words: self.words, kind: self.kind.into() }
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

    /// Its slot is not free, nor does it only wait to be given.
    pub(super) fn is_in_flight(&self) -> bool {
        !self.is_free() && !self.is(is::DONE)
    }

    pub(super) fn free(&mut self) {
        (self.kind, self.seen) = (0, 0);
    }

    /// Whether all of these bits are set.
    #[inline]
    pub(super) fn is(&self, bits: u32) -> bool {
        self.seen() & bits == bits
    }

    #[inline]
    pub(super) fn set(&mut self, bits: u32) {
        self.put_seen(self.seen() | bits);
    }

    #[inline(always)]
    fn put_seen(&mut self, bits: u32) {
        self.seen = bits;
    }

    fn unset(&mut self, bits: u32) {
        self.put_seen(self.seen() & !bits);
    }

    /// It stands in its ring's order no longer.
    pub(super) fn leave_order(&mut self) {
        self.unset(is::IN_ORDER);
    }

    /// Its ring begins anew without it.
    pub(super) fn forget(&mut self) {
        self.unset(is::IN_ORDER);
        self.set(is::FORGOTTEN);
    }

    /// Its ring counts it from now on. Says whether it did not before.
    pub(super) fn remember(&mut self) -> bool {
        let was_forgotten = self.is(is::FORGOTTEN);
        self.unset(is::FORGOTTEN);
        was_forgotten
    }

    #[inline]
    pub(super) fn ring(&self) -> Option<RingId> {
        (self.ring != NO_RING).then_some(RingId(self.ring))
    }

    #[inline]
    pub(super) fn set_ring(&mut self, ring: Option<RingId>) {
        self.ring = ring.map_or(NO_RING, |ring| ring.0);
    }

    /// When it was submitted or, where that was not seen, handed over.
    pub(super) fn begun_ns(&self) -> Option<u64> {
        let run_ns = self.is(is::HANDED_OVER).then_some(self.run_ns);
        if self.is(is::SUBMITTED) { Some(self.submit_ns) } else { run_ns }
    }

    /// Submitted, and not handed over.
    #[inline(always)]
    pub(super) fn is_queued(&self) -> bool {
        self.seen() & (is::SUBMITTED | is::HANDED_OVER) == is::SUBMITTED
    }

    /// Submitted and handed over, in order and to run alone, and nothing more is known of it.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        let all = is::SUBMITTED | is::HANDED_OVER | is::IN_ORDER;
        self.seen() & (all | is::STARTED | is::BESIDE | is::FAILED | is::FORGOTTEN) == all
    }
}
