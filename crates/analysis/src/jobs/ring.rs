//! What is with the hardware of a ring, in the order in which it was handed over.

use super::JobCounts;
use super::table::Slot;

/// A job overtaken by so many others is no longer looked at in its ring's order: one that hangs must not cost the others more.
pub(super) const MOST_OVERTAKEN: usize = 256;

/// In the place of a job that has ended.
const ENDED: Slot = Slot::MAX;

#[derive(Debug, Default)]
pub(super) struct RingState {
    pub(super) counts: JobCounts,
    /// Jobs submitted and not ended.
    pub(super) depth: u64,
    /// When the last job ended; 0 while none has.
    pub(super) last_done_ns: u64,
    with_hardware: Places,
    /// How many of them have ended already.
    ended: usize,
    /// Jobs with the hardware, those included that were overtaken too often to be kept in order.
    running: u64,
    /// Since when there has been one.
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

    #[inline]
    pub(super) fn submitted(&mut self) {
        self.depth = self.depth.saturating_add(1);
        self.counts.depth_peak = self.counts.depth_peak.max(self.depth);
    }

    /// Puts a job behind the others, and says at which place.
    #[inline]
    pub(super) fn hand_over(&mut self, slot: Slot, at_ns: u64) -> u64 {
        if self.running == 0 {
            self.busy_since_ns = at_ns;
        }
        self.running = self.running.saturating_add(1);
        self.with_hardware.push(slot)
    }

    /// Everything handed over so far may have ended unseen.
    pub(super) fn suspect_all(&mut self) {
        self.suspect_before = self.with_hardware.next;
    }

    pub(super) fn is_suspect(&self, place: u64) -> bool {
        place < self.suspect_before
    }

    /// Takes out the first job, as jobs of a ring in order do. False where another one is first.
    #[inline]
    pub(super) fn end_first(&mut self, place: u64) -> bool {
        // With others ended behind it, there is more to do.
        let is_first = place == self.with_hardware.first && self.ended == 0;
        if is_first {
            self.with_hardware.pop();
        }
        is_first
    }

    /// Marks a job as ended, wherever it stands, and gives those ahead of it that have not, with their places.
    pub(super) fn end(&mut self, place: u64) -> Vec<(u64, Slot)> {
        let Some(slot) = self.with_hardware.get_mut(place) else { return Vec::new() };
        if *slot != ENDED {
            *slot = ENDED;
            self.ended = self.ended.saturating_add(1);
        }
        let ahead = self.with_hardware.first..place;
        let ahead = ahead.filter_map(|place| Some((place, self.with_hardware.get(place)?)));
        ahead.filter(|(_, slot)| *slot != ENDED).collect()
    }

    /// Forgets those that ended, up to the first that has not, and gives those that too many others overtook.
    pub(super) fn tidy(&mut self) -> Vec<Slot> {
        let mut strays = Vec::new();
        while let Some(slot) = self.with_hardware.get(self.with_hardware.first) {
            if slot == ENDED {
                self.ended = self.ended.saturating_sub(1);
            } else if self.ended >= MOST_OVERTAKEN {
                strays.push(slot);
            } else {
                break;
            }
            self.with_hardware.pop();
        }
        strays
    }

    /// One job fewer is with the hardware.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Adds up the time until now, if this was the last job.
    #[inline]
    pub(super) fn rest(&mut self, at_ns: u64) {
        if self.running == 0 {
            self.counts.busy_ns = self.counts.busy_ns.saturating_add(at_ns.saturating_sub(self.busy_since_ns));
        }
    }

    /// The trace ends.
    pub(super) fn finish(&mut self, at_ns: u64) {
        if self.running > 0 {
            self.running = 0;
            self.rest(at_ns);
        }
        self.with_hardware.first = self.with_hardware.next;
    }
}

/// Slots by place: the places that are taken follow each other.
#[derive(Debug, Default)]
struct Places {
    /// A power of two of them, or none.
    slots: Vec<Slot>,
    first: u64,
    next: u64,
}

impl Places {
    /// Puts a slot behind the others, and gives its place.
    #[inline]
    fn push(&mut self, slot: Slot) -> u64 {
        if self.next.wrapping_sub(self.first) >= self.slots.len() as u64 {
            self.grow();
        }
        let (place, last) = (self.next, self.slots.len().wrapping_sub(1));
        if let Some(free) = self.slots.get_mut(place as usize & last) {
            *free = slot;
        }
        self.next = place.wrapping_add(1);
        place
    }

    /// Takes out the first, if there is one.
    #[inline]
    fn pop(&mut self) {
        self.first = self.first.wrapping_add(u64::from(self.first != self.next));
    }

    fn get(&self, place: u64) -> Option<Slot> {
        let is_taken = (self.first..self.next).contains(&place);
        self.slots.get(place as usize & self.slots.len().wrapping_sub(1)).copied().filter(|_| is_taken)
    }

    fn get_mut(&mut self, place: u64) -> Option<&mut Slot> {
        let last = self.slots.len().wrapping_sub(1);
        if (self.first..self.next).contains(&place) { self.slots.get_mut(place as usize & last) } else { None }
    }

    #[cold]
    fn grow(&mut self) {
        let mut slots = vec![ENDED; self.slots.len().saturating_mul(2).max(16)];
        let last = slots.len().wrapping_sub(1);
        for place in self.first..self.next {
            if let (Some(slot), Some(free)) = (self.get(place), slots.get_mut(place as usize & last)) {
                *free = slot;
            }
        }
        self.slots = slots;
    }
}
