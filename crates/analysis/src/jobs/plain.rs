//! Steps of jobs as nearly all of them are, without a choice between the three kinds: which one comes next is chance, and a processor that
//! guesses wrong loses more than it takes to do a little of all three. A step that is not so changes nothing, and is said to be.

use super::live::{Live, Whole, is};
use super::steps::infer_start;
use super::table::{NOWHERE, Slot};
use super::{Ended, Jobs, place_of_cpu};
use gpuscope_model::trace::{StepKind, StepRef};

/// So many jobs that ended wait until they are given, one behind the other: few enough to stay in the nearest cache. More may come until
/// that is asked for.
const MOST_WAITING: usize = 32;

/// Jobs that ended plainly, and were not given yet.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Those after the first [`count`](Self::count) mean nothing.
    jobs: [Done; MOST_WAITING + AHEAD],
    count: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting { jobs: [Done::default(); MOST_WAITING + AHEAD], count: 0 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// When the job before it on its ring ended.
    last_done_ns: u64,
    done_ns: u64,
    slot: Slot,
}

/// What a step is to be asked, and what it does, so that it is looked up and not chosen: a compiler makes a choice a branch as it likes.
#[derive(Debug)]
pub(super) struct Asked {
    /// All bits, of a kind, or none.
    of_submission: u64,
    of_hand_over: u64,
    of_end: u64,
    /// Where its job is to be asked for in its ring's order: at the end or the beginning.
    place: usize,
    /// So much deeper is its ring then.
    deeper: u64,
    /// What is to be seen of the job before, of what is looked at.
    expected: u32,
    looked_at: u32,
    /// What is seen of it from now on.
    adds: u32,
    /// Which bits of the short number tell of an error.
    error: u32,
}

/// By [`StepTemplate::shape`](gpuscope_model::trace::StepTemplate::shape).
pub(super) type AllAsked = [Asked; 8];

const PLAIN: u32 = is::SUBMITTED | is::HANDED_OVER | is::IN_ORDER;
const NO_STEP: Asked = Asked {
    of_submission: 0,
    of_hand_over: 0,
    of_end: 0,
    place: StepKind::Commit as usize,
    deeper: 0,
    expected: is::NEVER,
    looked_at: is::NEVER,
    adds: 0,
    error: 0,
};
const SUBMISSION: Asked =
    Asked { of_submission: u64::MAX, deeper: 1, expected: 0, looked_at: u32::MAX, adds: is::SUBMITTED, ..NO_STEP };
const HAND_OVER: Asked = Asked {
    of_hand_over: u64::MAX,
    expected: is::SUBMITTED,
    looked_at: is::SUBMITTED | is::HANDED_OVER | is::FORGOTTEN,
    adds: is::HANDED_OVER | is::IN_ORDER,
    ..NO_STEP
};
const END: Asked = Asked {
    of_end: u64::MAX,
    place: StepKind::Complete as usize,
    deeper: u64::MAX,
    expected: PLAIN,
    looked_at: PLAIN | is::STARTED | is::BESIDE | is::FAILED | is::DONE | is::FORGOTTEN,
    adds: is::DONE,
    ..NO_STEP
};

/// Of any step, as long as a job may be plain.
static ASKED: AllAsked = [
    SUBMISSION,
    Asked { adds: is::SUBMITTED | is::OF_CLIENT, ..SUBMISSION },
    HAND_OVER,
    END,
    Asked { adds: is::DONE | is::TOLD, error: u32::MAX, ..END },
    NO_STEP,
    NO_STEP,
    NO_STEP,
];
/// The same while none is, whatever is seen of it.
static ASKED_IN_VAIN: AllAsked = [const { NO_STEP }; 8];

/// What is to be asked, if jobs may be plain.
pub(super) fn asked(may_be_plain: bool) -> &'static AllAsked {
    if may_be_plain { &ASKED } else { &ASKED_IN_VAIN }
}

/// Steps that are looked at ahead of all that is done with any: a processor does so for several at a time.
const AHEAD: usize = 16;

/// A step that was looked at.
#[derive(Clone, Copy, Debug)]
struct Looked<'a> {
    step: StepRef<'a>,
    /// Where its job stands if it is plain, and the place of the ring that it is on then.
    slot: Slot,
    ring: u32,
}

/// Steps that were taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// When the first and the last was.
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    /// How many there were, by [`StepKind`].
    pub(crate) of_kinds: [u64; 4],
}

impl Jobs {
    /// Takes steps, in order of time, if there are any. Jobs that they end may be given later, with those of the next steps.
    #[inline(always)]
    pub(crate) fn take_steps<'s>(
        &mut self,
        steps: &mut impl Iterator<Item = StepRef<'s>>,
        ended: &mut impl FnMut(Ended<'_>),
    ) -> Option<Taken> {
        let first = steps.next()?;
        let Some(second) = steps.next() else { return Some(self.take_one(first, ended)) };
        let mut taken = Taken { from_ns: first.at_ns, to_ns: second.at_ns, of_kinds: [0; 4] };
        let mut looked: [Option<Looked<'s>>; AHEAD] = [None; AHEAD];
        let mut count = 0;
        for (place, step) in looked.iter_mut().zip([first, second]) {
            *place = Some(self.look(step));
            count += 1;
        }
        loop {
            for (place, step) in looked.iter_mut().skip(count).zip(steps.by_ref()) {
                taken.to_ns = step.at_ns;
                *place = Some(self.look(step));
                count += 1;
            }
            if count == 0 {
                return Some(taken);
            }
            for at in 0..count {
                let Some(Some(of)) = looked.get(at) else { break };
                if let Some(of_kind) = taken.of_kinds.get_mut(of.step.of.kind() as usize) {
                    *of_kind = of_kind.wrapping_add(1);
                }
                if !self.take_plain(of) {
                    let changes = self.live.homes.changes();
                    self.take_other_step(of.step, ended);
                    if self.live.homes.changes() != changes {
                        looked.iter_mut().skip(at).flatten().for_each(|later| *later = self.look(later.step));
                    }
                }
            }
            count = 0;
            if self.waiting.count >= MOST_WAITING {
                self.give_waiting(ended);
            }
        }
    }

    /// Takes a step that no other is given with.
    #[inline(never)]
    fn take_one(&mut self, step: StepRef<'_>, ended: &mut impl FnMut(Ended<'_>)) -> Taken {
        let looked = self.look(step);
        if !self.take_plain(&looked) {
            self.take_other_step(step, ended);
        } else if self.waiting.count >= MOST_WAITING {
            self.give_waiting(ended);
        }
        let mut taken = Taken { from_ns: step.at_ns, to_ns: step.at_ns, of_kinds: [0; 4] };
        if let Some(of_kind) = taken.of_kinds.get_mut(step.of.kind() as usize) {
            *of_kind = 1;
        }
        taken
    }

    /// Finds where the job of a step stands, and looks at it, so that it is near when its step is taken.
    #[inline(always)]
    fn look<'s>(&mut self, step: StepRef<'s>) -> Looked<'s> {
        let asked = self.asked.get(step.of.shape()).unwrap_or(&NO_STEP);
        let (slot, ring) = self.live.homes.slot_of_plain(&step, [asked.of_submission as u32, asked.of_end as u32]);
        // What is said of it does not matter yet.
        std::hint::black_box(self.live.slots.get(slot as usize).map_or(0, Live::seen));
        Looked { step, slot, ring }
    }

    /// Takes a step, if it is that of a plain job.
    #[inline(always)]
    fn take_plain(&mut self, looked: &Looked<'_>) -> bool {
        let Looked { step, slot, ring: at_ring } = looked;
        let (of, slot) = (step.of, *slot);
        let Some(asked) = self.asked.get(of.shape()) else { return false };
        let table = &mut self.live;
        let Some(live) = table.slots.get(slot as usize) else { return false };
        let seen = live.seen();
        let Some(ring) = self.rings.get_mut(*at_ring as usize) else { return false };
        let is_busy_beside = ring.is_busy_beside();
        let Some(in_order) = ring.place(asked.place) else { return false };

        // All that may be in the way, in bits.
        let is_wide = step.seqno >> 32;
        let is_other = (live.seqno() ^ step.seqno) & !asked.of_submission;
        let is_seen = (seen ^ asked.expected) & asked.looked_at;
        let is_elsewhere = u64::from(at_ring ^ live.ring) & !asked.of_submission;
        let is_beside = is_busy_beside & asked.of_end;
        // At the end of the order there is to be room, and at its beginning this job.
        let is_out_of_order = *in_order ^ (slot | !asked.of_end as u32);
        let error = step.short & asked.error;
        let is_odd = is_wide | is_other | is_elsewhere | is_beside | u64::from(is_seen | is_out_of_order | error);
        if is_odd != 0 {
            return false;
        }

        *in_order = slot | !asked.of_hand_over as u32;
        let last_done_ns = ring.plain_step(of.kind(), step.at_ns, asked.deeper);
        // What is to be written nowhere has a slot, too.
        let of_submission = asked.of_submission as u32;
        if let Some(live) = table.slots.get_mut((slot & of_submission | NOWHERE & !of_submission) as usize) {
            live.begin_plain(step);
        }
        if let Some(live) = table.slots.get_mut(slot as usize) {
            live.plain_step(step.at_ns, asked.of_hand_over, seen | asked.adds);
        }
        let count = self.waiting.count;
        if let Some(done) = self.waiting.jobs.get_mut(count) {
            *done = Done { last_done_ns, done_ns: step.at_ns, slot };
        }
        self.waiting.count = count.wrapping_sub(asked.of_end as usize);
        self.note_hand_over(place_of_cpu(step.cpu) & asked.of_hand_over as usize, step.thread.tid);
        true
    }

    /// Gives the jobs that wait, if any do, ahead of what comes next.
    #[inline(always)]
    pub(crate) fn give_all_waiting(&mut self, ended: &mut impl FnMut(Ended<'_>)) {
        if self.waiting.count > 0 {
            self.give_waiting(ended);
        }
    }

    /// Gives the jobs that wait.
    #[inline(never)]
    fn give_waiting(&mut self, ended: &mut impl FnMut(Ended<'_>)) {
        let count = std::mem::take(&mut self.waiting.count);
        for done in self.waiting.jobs.get(..count).unwrap_or_default() {
            let Some(live) = self.live.slots.get_mut(done.slot as usize) else { continue };
            let Some(rest) = self.live.rest.get(done.slot as usize) else { continue };
            let done_ns = done.done_ns;
            let start_ns = infer_start(live.run_ns, done.last_done_ns, done_ns);
            let mut is_inferred = live.run_ns >= self.doubtful_until_ns;
            if let Some(ring) = self.rings.get_mut(live.ring_at()) {
                is_inferred &= !ring.by_firmware;
                // It ran alone: so was the ring busy.
                ring.counts.busy_ns = ring.counts.busy_ns.saturating_add(done_ns.saturating_sub(start_ns));
            }
            ended(Whole { live, rest }.done_plainly(done_ns, start_ns, is_inferred, live.is(is::TOLD)));
            // It stood in a home, as plain jobs do.
            live.free();
        }
    }
}
