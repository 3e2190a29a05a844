//! Jobs whose end was lost: told as such as soon as that is known, so that they neither stay for ever nor keep a ring busy.

use super::live::is;
use super::ring::RingState;
use super::table::Slot;
use super::{Ended, Jobs, Key, ring_mut};
use gpuscope_model::trace::{Job, JobKey, RingId};
use rustc_hash::FxHashMap;

/// Jobs in flight that are kept while records are being lost. Those submitted first go when there are more: where the records of a job
/// name no context, nothing else tells that it has ended.
pub(super) const MOST_DOUBTED: usize = if cfg!(test) { 64 } else { 64 << 10 };

/// Jobs that were in flight when records were lost.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Not handed over, by context: a context is a queue of the scheduler, which hands its jobs over in the order of their seqnos
    /// (drm_sched_entity_pop_job, drivers/gpu/drm/scheduler/sched_entity.c).
    by_context: FxHashMap<u64, Vec<u64>>,
    /// With the hardware, and overtaken too often to be kept in the ring's order.
    strays: FxHashMap<RingId, Vec<JobKey>>,
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.by_context.is_empty() && self.strays.is_empty()
    }
}

impl Jobs {
    /// Records were lost about now: the ends of jobs that are in flight may be among them. Gives those of which nothing more will be seen.
    pub fn lost(&mut self, mut ended: impl FnMut(&Job)) {
        self.take_loss(&mut |of: Ended<'_>| ended(&of.job()));
    }

    /// The same, as [`Jobs::take`] does.
    pub(crate) fn take_loss(&mut self, ended: &mut impl FnMut(Ended<'_>)) {
        self.give_all_waiting(ended);
        for ring in &mut self.rings {
            ring.suspect_all();
        }
        self.drop_oldest(ended);
        self.suspects = Suspects::default();
        for (_, live) in self.live.iter() {
            let key = live.key().job_key();
            if let JobKey::Fence { context, seqno } = key
                && !live.is(is::HANDED_OVER)
            {
                self.suspects.by_context.entry(context).or_default().push(seqno);
            }
            if let Some(ring) = live.ring()
                && live.is(is::HANDED_OVER)
                && !live.is(is::IN_ORDER)
            {
                self.suspects.strays.entry(ring).or_default().push(key);
            }
        }
        self.choose_asked();
    }

    /// A job has ended: those that must have been handed over before it, and were so unseen, are lost.
    #[cold]
    pub(super) fn end_suspects(&mut self, slot: Slot, ended: &mut impl FnMut(Ended<'_>)) {
        let Some(live) = self.live.get(slot).filter(|live| live.is(is::IN_ORDER)) else { return };
        let key = live.key().job_key();
        let Some(ring) = live.ring() else { return };
        let mut gone = Vec::new();
        if let JobKey::Fence { context, seqno } = key
            && let Some(seqnos) = self.suspects.by_context.get_mut(&context)
        {
            gone.extend(seqnos.extract_if(.., |of| *of < seqno).map(|seqno| JobKey::Fence { context, seqno }));
            seqnos.retain(|of| *of != seqno);
            if seqnos.is_empty() {
                self.suspects.by_context.remove(&context);
            }
        }
        gone.retain(|key| {
            // One that was handed over after all stands in its ring's order, and one of another ring says nothing of this one.
            let live = self.live.find(&Key::of(key)).and_then(|slot| self.live.get(slot));
            live.is_some_and(|live| !live.is(is::HANDED_OVER) && live.ring() == Some(ring))
        });
        // What overtakes a job that was with the hardware when records were lost tells that it has ended, as in the ring's order.
        let is_later = |ring: &RingState| ring.place_of(slot).is_some_and(|place| !ring.is_suspect(place));
        if self.rings.get(ring.0 as usize).is_some_and(is_later)
            && let Some(strays) = self.suspects.strays.remove(&ring)
        {
            gone.extend(strays);
        }
        self.choose_asked();
        // In the order in which they were submitted.
        gone.sort_unstable();
        for key in gone {
            if let Some(slot) = self.live.find(&Key::of(&key)) {
                self.end_as_lost(slot, ended);
            }
        }
    }

    /// Ends a job that has ended unseen some time ago: it counts for nothing but itself.
    pub(super) fn end_as_lost(&mut self, slot: Slot, ended: &mut impl FnMut(Ended<'_>)) {
        let Some(live) = self.live.get(slot) else { return };
        if !live.is(is::FORGOTTEN)
            && let Some(ring) = ring_mut(&mut self.rings, live.ring())
        {
            if live.is(is::SUBMITTED) {
                ring.left();
            }
            if live.is(is::HANDED_OVER) {
                let first = ring.first_running().and_then(|first| self.live.get(first));
                ring.lose(slot, live.is(is::IN_ORDER), first.map(|live| live.run_ns));
            }
        }
        let key = live.key();
        if let Some(of) = self.live.whole(slot) {
            ended(of.lost());
        }
        self.unlink(&key);
        self.live.free(slot);
    }

    fn drop_oldest(&mut self, ended: &mut impl FnMut(Ended<'_>)) {
        if self.live.len() <= MOST_DOUBTED {
            return;
        }
        let mut all: Vec<(Option<u64>, JobKey)> =
            self.live.iter().map(|(_, live)| (live.begun_ns(), live.key().job_key())).collect();
        all.sort_unstable();
        all.truncate(all.len() - MOST_DOUBTED / 2);
        for (_, key) in all {
            if let Some(slot) = self.live.find(&Key::of(&key)) {
                self.end_as_lost(slot, ended);
            }
        }
    }
}
