//! What is with the hardware of a ring, in the order in which it was handed over.

use super::JobCounts;
use super::table::Slot;
use gpuscope_model::trace::StepKind;

/// A job overtaken by so many others is no longer looked at in its ring's order: one that hangs must not cost the others more.
pub(super) const MOST_OVERTAKEN: usize = 256;

/// In the place of a job that has ended, or of none.
pub(super) const ENDED: Slot = Slot::MAX;

/// Places in [`RingState::places`] and [`RingState::last_ns`].
const NEXT: usize = StepKind::Commit as usize;
const FIRST: usize = StepKind::Complete as usize;

#[derive(Debug, Default)]
pub(super) struct RingState {
    pub(super) counts: JobCounts,
    /// By [`StepKind`], so that each step of a plain job counts one: something that nobody asks for, the place of the next job to be
    /// handed over, and that of the first job handed over that has not ended.
    places: [u64; 4],
    /// When the last step of each kind was, as far as they were those of plain jobs; of ends, in any case. 0 while there was none.
    last_ns: [u64; 4],
    /// Jobs submitted and not ended.
    depth: u64,
    /// By place: slots of jobs with the hardware, and [`ENDED`] in all others. A power of two of them, or none.
    order: Vec<Slot>,
    /// How many of those in order have ended already.
    ended: u64,
    /// Jobs with the hardware that were overtaken too often to be kept in order.
    strays: u64,
    /// The ring was busy ahead of the first in order, with a job that was lost since the last end: 1, and since when.
    was_busy: u64,
    busy_since_ns: u64,
    /// Firmware decides what executes when: starts are not inferred.
    pub(super) by_firmware: bool,
    /// Jobs handed over before this place may have ended without our seeing it: records were lost.
    suspect_before: u64,
}

impl RingState {
    /// Forgets what it did, and not who schedules it.
    pub(super) fn forget(&mut self) {
        *self = RingState { by_firmware: self.by_firmware, ..RingState::default() };
    }

    #[inline(always)]
    fn first(&self) -> u64 {
        self.places[FIRST]
    }

    #[inline(always)]
    fn next(&self) -> u64 {
        self.places[NEXT]
    }

    /// When the last job ended; 0 while none has.
    #[inline(always)]
    pub(super) fn last_done_ns(&self) -> u64 {
        self.last_ns[FIRST]
    }

    #[inline]
    pub(super) fn submitted(&mut self) {
        self.depth = self.depth.saturating_add(1);
        self.counts.depth_peak = self.counts.depth_peak.max(self.depth);
    }

    /// A job that was submitted to it is no longer there.
    pub(super) fn left(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Where a plain job comes in or goes out at its step, by the kind of which the place is asked for.
    #[inline(always)]
    pub(super) fn place(&mut self, kind: usize) -> Option<&mut Slot> {
        let last = self.order.len().wrapping_sub(1);
        self.order.get_mut(*self.places.get(kind & 3)? as usize & last)
    }

    /// Not 0 if something else is with the hardware than what is in order, or was since the last end.
    #[inline(always)]
    pub(super) fn is_busy_beside(&self) -> u64 {
        self.ended | self.strays | self.was_busy
    }

    /// Counts a step of a plain job, which makes the ring so much deeper, and says when the last job ended before.
    #[inline(always)]
    pub(super) fn plain_step(&mut self, kind: StepKind, at_ns: u64, deeper: u64) -> u64 {
        let at = kind as usize & 3;
        if let Some(place) = self.places.get_mut(at) {
            *place = place.wrapping_add(1);
        }
        self.depth = self.depth.wrapping_add(deeper);
        self.counts.depth_peak = self.counts.depth_peak.max(self.depth);
        let last_done_ns = self.last_done_ns();
        if let Some(ns) = self.last_ns.get_mut(at) {
            *ns = at_ns;
        }
        last_done_ns
    }

    /// Puts a job behind the others.
    pub(super) fn hand_over(&mut self, slot: Slot) {
        if self.next().wrapping_sub(self.first()) >= self.order.len() as u64 {
            self.grow();
        }
        self.put(self.next(), slot);
        self.places[NEXT] = self.next().wrapping_add(1);
    }

    /// Takes out the first.
    fn pop(&mut self) {
        if self.first() != self.next() {
            self.put(self.first(), ENDED);
            self.places[FIRST] = self.first().wrapping_add(1);
        }
    }

    fn put(&mut self, place: u64, slot: Slot) {
        let last = self.order.len().wrapping_sub(1);
        if let Some(of) = self.order.get_mut(place as usize & last) {
            *of = slot;
        }
    }

    /// Everything handed over so far may have ended unseen.
    pub(super) fn suspect_all(&mut self) {
        self.suspect_before = self.next();
    }

    pub(super) fn is_suspect(&self, place: u64) -> bool {
        place < self.suspect_before
    }

    /// Those in order that have not ended, with their places.
    fn running(&self) -> impl Iterator<Item = (u64, Slot)> {
        let places = self.first()..self.next();
        places.filter_map(|place| Some((place, self.slot_at(place)?))).filter(|(_, slot)| *slot != ENDED)
    }

    fn slot_at(&self, place: u64) -> Option<Slot> {
        self.order.get(place as usize & self.order.len().wrapping_sub(1)).copied()
    }

    /// The place of a job in order.
    pub(super) fn place_of(&self, slot: Slot) -> Option<u64> {
        self.running().find(|of| of.1 == slot).map(|of| of.0)
    }

    /// A job in order has another slot than before.
    pub(super) fn moved(&mut self, before: Slot, now: Slot) {
        if let Some(place) = self.place_of(before) {
            self.put(place, now);
        }
    }

    /// The first in order that has not ended.
    pub(super) fn first_running(&self) -> Option<Slot> {
        self.running().next().map(|of| of.1)
    }

    /// Takes out the first job, as jobs of a ring in order do. False where another one is first.
    #[inline]
    pub(super) fn end_first(&mut self, slot: Slot) -> bool {
        // With others ended behind it, there is more to do.
        let is_first = self.ended == 0 && self.first() != self.next() && self.slot_at(self.first()) == Some(slot);
        if is_first {
            self.pop();
        }
        is_first
    }

    /// The same, if nothing else is with the hardware than what is in order, of a job that was submitted to this ring, too.
    #[inline]
    pub(super) fn end_alone(&mut self, slot: Slot) -> bool {
        let is_so = self.is_busy_beside() == 0 && self.end_first(slot);
        if is_so {
            self.left();
        }
        is_so
    }

    /// Marks a job as ended, wherever it stands, and gives those ahead of it that have not, with their places.
    pub(super) fn end(&mut self, slot: Slot) -> Vec<(u64, Slot)> {
        let Some(place) = self.place_of(slot) else { return Vec::new() };
        let ahead = self.running().take_while(|of| of.0 < place).collect();
        self.put(place, ENDED);
        self.ended = self.ended.saturating_add(1);
        ahead
    }

    /// Forgets those that ended, up to the first that has not, and gives those that too many others overtook.
    pub(super) fn tidy(&mut self) -> Vec<Slot> {
        let mut strays = Vec::new();
        while self.first() != self.next()
            && let Some(slot) = self.slot_at(self.first())
        {
            if slot == ENDED {
                self.ended = self.ended.saturating_sub(1);
            } else if self.ended >= MOST_OVERTAKEN as u64 {
                self.strays = self.strays.saturating_add(1);
                strays.push(slot);
            } else {
                break;
            }
            self.pop();
        }
        strays
    }

    /// A job that was no longer kept in order has ended.
    pub(super) fn stray_left(&mut self) {
        self.strays = self.strays.saturating_sub(1);
    }

    /// Since when there is a job with the hardware, if the first in order is there since `first_ns`: what was until the last end does not
    /// matter.
    fn since_ns(&self, first_ns: Option<u64>) -> Option<u64> {
        let before_ns = if self.was_busy > 0 { Some(self.busy_since_ns) } else { None };
        // What was overtaken was there before the last end.
        let first_ns = if self.strays > 0 { Some(0) } else { first_ns };
        first_ns.map(|ns| before_ns.map_or(ns, |before_ns| before_ns.min(ns)))
    }

    /// Adds up the time until now in which there was a job with the hardware, if the first in order is there since `first_ns`. What was
    /// until the last end is added up already.
    pub(super) fn add_busy(&mut self, first_ns: Option<u64>, at_ns: u64) {
        if let Some(since_ns) = self.since_ns(first_ns) {
            let busy_ns = at_ns.saturating_sub(since_ns.max(self.last_done_ns()));
            self.counts.busy_ns = self.counts.busy_ns.saturating_add(busy_ns);
        }
    }

    /// Takes out a job whose end is not known: until the last end that was seen there was work, which is added up already. If there is other
    /// work, there was until now. Until then the first in order was there since `first_ns`.
    pub(super) fn lose(&mut self, slot: Slot, is_in_order: bool, first_ns: Option<u64>) {
        let since_ns = self.since_ns(first_ns);
        if is_in_order {
            self.end(slot);
        } else {
            self.stray_left();
        }
        let is_busy = self.strays > 0 || self.first_running().is_some();
        self.was_busy = u64::from(is_busy && since_ns.is_some());
        self.busy_since_ns = since_ns.unwrap_or(0);
    }

    /// A job ended. Says when the one before it did.
    pub(super) fn done(&mut self, at_ns: u64) -> u64 {
        self.was_busy = 0;
        std::mem::replace(&mut self.last_ns[FIRST], at_ns)
    }

    #[cold]
    fn grow(&mut self) {
        let mut order = vec![ENDED; self.order.len().saturating_mul(2).max(16)];
        let last = order.len().wrapping_sub(1);
        for place in self.first()..self.next() {
            if let (Some(slot), Some(free)) = (self.slot_at(place), order.get_mut(place as usize & last)) {
                *free = slot;
            }
        }
        self.order = order;
    }
}
