//! The three steps of every job: submission, hand-over and end.
//!
//! What nearly all jobs do is done here in few instructions, and everything else is called.

use super::live::is;
use super::table::{Key, Slot};
use super::{Ended, Jobs, place_of_cpu, ring_mut};
use gpuscope_model::trace::{Family, RingId, Step, StepKind, StepRef};

impl Jobs {
    /// Takes a step that is not that of a plain job, or not yet known to be.
    #[inline(never)]
    pub(super) fn take_other_step(&mut self, step: StepRef<'_>, ended: &mut impl FnMut(Ended<'_>)) {
        self.give_all_waiting(ended);
        let (kind, step) = (step.of.kind(), step.step());
        let key = Key::fence(step.context, step.seqno);
        if !self.has_scheduler && kind != StepKind::Complete {
            self.find_scheduler();
        }
        match kind {
            StepKind::Submit => self.submit(&key, &step, Family::DrmSched, ended),
            StepKind::Commit => {
                self.note_hand_over(place_of_cpu(step.cpu), step.tid);
                self.commit(&key, &step, Family::DrmSched, ended);
            }
            StepKind::Complete => self.complete(&key, step.at_ns, Family::DrmSched, step.value, ended),
        }
    }

    #[inline(always)]
    pub(super) fn submit(&mut self, key: &Key, step: &Step, family: Family, ended: &mut impl FnMut(Ended<'_>)) {
        if !self.live.insert_new(key, step, family) && !self.submit_otherwise(key.words, key.kind, *step, family, ended)
        {
            return;
        }
        if let Some(ring) = ring_mut(&mut self.rings, step.ring) {
            ring.submitted();
        }
    }

    /// Puts in a job of which there may be one with the same key. Not if its submission was seen already.
    #[inline(never)]
    fn submit_otherwise(
        &mut self,
        words: [u64; 2],
        kind: u32,
        step: Step,
        family: Family,
        ended: &mut impl FnMut(Ended<'_>),
    ) -> bool {
        let key = Key { words, kind };
        if let Some(before) = self.live.find(&key) {
            // Told twice: a fence's numbers are never given out again.
            if key.is_fence() && self.live.get(before).is_some_and(|live| live.is(is::SUBMITTED)) {
                return false;
            }
            // The end of the job before, whose key this one has, was not seen.
            self.end_as_lost(before, ended);
        }
        let slot = self.insert(&key, &step, family);
        if let Some(live) = self.live.get_mut(slot) {
            live.submitted(&step);
        }
        true
    }

    #[inline(always)]
    pub(super) fn commit(&mut self, key: &Key, step: &Step, family: Family, ended: &mut impl FnMut(Ended<'_>)) {
        match self.live.find(key) {
            Some(slot) if self.is_next(slot, step.ring) => {
                let ring = self.live.get(slot).and_then(|live| live.ring());
                self.hand_over(slot, ring, step.at_ns);
            }
            found => self.commit_otherwise(key.words, key.kind, found, *step, family, ended),
        }
    }

    /// Whether a job was submitted to this ring and not handed over.
    #[inline(always)]
    fn is_next(&self, slot: Slot, ring: Option<RingId>) -> bool {
        self.live
            .get(slot)
            .is_some_and(|live| live.is_queued() && !live.is(is::FORGOTTEN) && (ring.is_none() || ring == live.ring()))
    }

    /// A hand-over of a job that was not submitted, or handed over before, or submitted to another ring.
    #[inline(never)]
    fn commit_otherwise(
        &mut self,
        words: [u64; 2],
        kind: u32,
        mut found: Option<Slot>,
        step: Step,
        family: Family,
        ended: &mut impl FnMut(Ended<'_>),
    ) {
        let key = Key { words, kind };
        if let Some(slot) = found
            && self.live.get(slot).is_some_and(|live| live.is(is::HANDED_OVER))
        {
            if key.is_fence() {
                return;
            }
            // Handed over twice under one address: the end of the first was lost, and the submission of the second.
            self.end_as_lost(slot, ended);
            found = None;
        }
        let slot = match found {
            Some(slot) => slot,
            None => self.insert(&key, &step, family),
        };
        let Some(live) = self.live.get_mut(slot) else { return };
        let ring = step.ring.or(live.ring());
        let was_forgotten = live.remember();
        if (ring != live.ring() || was_forgotten) && live.is(is::SUBMITTED) {
            // Its queue moved to another ring meanwhile.
            if !was_forgotten && let Some(before) = ring_mut(&mut self.rings, live.ring()) {
                before.left();
            }
            if let Some(now) = ring_mut(&mut self.rings, ring) {
                now.submitted();
            }
        }
        self.hand_over(slot, ring, step.at_ns);
    }

    #[inline(always)]
    fn hand_over(&mut self, slot: Slot, ring: Option<RingId>, at_ns: u64) {
        let Some(live) = self.live.get_mut(slot) else { return };
        live.set_ring(ring);
        live.handed_over(at_ns);
        if let Some(ring) = ring_mut(&mut self.rings, ring) {
            ring.hand_over(slot);
            live.set(is::IN_ORDER);
        }
    }

    /// A job ended with this error number, or 0, where that is told.
    #[inline(always)]
    pub(super) fn complete(
        &mut self,
        key: &Key,
        at_ns: u64,
        family: Family,
        error: Option<i64>,
        ended: &mut impl FnMut(Ended<'_>),
    ) {
        let Some(slot) = self.unlink(key) else {
            // Of a request of i915 the fence has told the end, and it is retired at some time later.
            if family != Family::I915 {
                self.unmatched_ends = self.unmatched_ends.saturating_add(1);
                // Of one handed over at the same moment, too: which came first is not told.
                self.doubtful_until_ns = self.doubtful_until_ns.max(at_ns.saturating_add(1));
            }
            return;
        };
        if self.suspects.is_empty()
            && error.unwrap_or(0) == 0
            && let Some(of) = self.live.whole(slot)
            && let live = of.live
            && live.is_plain()
            && let Some(ring) = self.rings.get_mut(live.ring_at())
            && ring.end_alone(slot)
        {
            let last_done_ns = ring.done(at_ns);
            let start_ns = infer_start(live.run_ns, last_done_ns, at_ns);
            ring.counts.busy_ns = ring.counts.busy_ns.saturating_add(at_ns.saturating_sub(start_ns));
            let is_inferred = (live.run_ns >= self.doubtful_until_ns) & !ring.by_firmware;
            ended(of.done_plainly(at_ns, start_ns, is_inferred, error.is_some()));
            self.live.free(slot);
            return;
        }
        self.complete_otherwise(slot, at_ns, error, ended);
    }

    /// The end of a job of which not everything was seen, or that was not alone the first of its ring.
    #[inline(never)]
    fn complete_otherwise(&mut self, slot: Slot, at_ns: u64, error: Option<i64>, ended: &mut impl FnMut(Ended<'_>)) {
        if !self.suspects.is_empty() {
            self.end_suspects(slot, ended);
        }
        let last_done_ns = self.leave(slot, at_ns, ended);
        let Some(live) = self.live.get(slot) else { return };
        // A job that nobody saw begin has ended meanwhile, perhaps on this ring: it may be the one that this one waited for.
        let is_inferred = !live.is(is::STARTED)
            && self.is_sure(live.run_ns)
            && live.is(is::HANDED_OVER)
            && !live.is(is::BESIDE)
            && live.ring().and_then(|ring| self.rings.get(ring.0 as usize)).is_some_and(|ring| !ring.by_firmware);
        let start_ns = is_inferred.then(|| infer_start(live.run_ns, last_done_ns, at_ns));
        if let Some(of) = self.live.whole(slot) {
            ended(of.done(at_ns, start_ns, error));
        }
        self.live.free(slot);
    }

    /// Takes a job off its ring, and says when the job before it ended there, or 0.
    fn leave(&mut self, slot: Slot, at_ns: u64, ended: &mut impl FnMut(Ended<'_>)) -> u64 {
        let Some(live) = self.live.get(slot) else { return 0 };
        let Some(of) = live.ring() else { return 0 };
        let (is_in_order, was_running) = (live.is(is::IN_ORDER), live.is(is::HANDED_OVER));
        let (was_submitted, is_forgotten) = (live.is(is::SUBMITTED), live.is(is::FORGOTTEN));
        let Some(ring) = self.rings.get_mut(of.0 as usize) else { return 0 };
        if was_submitted && !is_forgotten {
            ring.left();
        }
        if !was_running {
            return ring.last_done_ns();
        }
        if is_forgotten {
            return ring.done(at_ns);
        }
        let first = ring.first_running().and_then(|first| self.live.get(first));
        ring.add_busy(first.map(|live| live.run_ns), at_ns);
        if !is_in_order {
            ring.stray_left();
        } else if !ring.end_first(slot) {
            self.leave_among_others(slot, of, ended);
        }
        self.rings.get_mut(of.0 as usize).map_or(0, |ring| ring.done(at_ns))
    }

    /// The same, where others were handed over before and have not ended, or did so out of order.
    #[cold]
    fn leave_among_others(&mut self, slot: Slot, of: RingId, ended: &mut impl FnMut(Ended<'_>)) {
        let Some(ring) = self.rings.get_mut(of.0 as usize) else { return };
        // Handed over before records were lost: its end was among them.
        let (lost, passed): (Vec<_>, Vec<_>) =
            ring.end(slot).into_iter().partition(|(order, _)| ring.is_suspect(*order));
        if !passed.is_empty() {
            ring.counts.out_of_order = ring.counts.out_of_order.saturating_add(1);
        }
        for (_, other) in &passed {
            if let Some(other) = self.live.get_mut(*other) {
                other.set(is::BESIDE);
            }
        }
        if !passed.is_empty()
            && let Some(live) = self.live.get_mut(slot)
        {
            live.set(is::BESIDE);
        }
        for (_, gone) in lost {
            self.end_as_lost(gone, ended);
        }
        let Some(ring) = self.rings.get_mut(of.0 as usize) else { return };
        for stray in ring.tidy() {
            if let Some(other) = self.live.get_mut(stray) {
                other.leave_order();
            }
        }
    }
}

/// When the hardware began with a job, if it takes one after the other: an end before the hand-over was that of an earlier job.
#[inline(always)]
pub(super) fn infer_start(run_ns: u64, last_done_ns: u64, at_ns: u64) -> u64 {
    last_done_ns.max(run_ns).min(at_ns)
}
