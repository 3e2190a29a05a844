//! Jobs in flight: each in a slot, found by its key. It stays there, unless its context gets more slots.
//!
//! Three events of four look a job up. Those with a context and a seqno stand by these in [`Homes`], nearly all of them. The others are in
//! a table of 32 bits of each key's hash and the numbers of slots, so that eight places share a line of the cache and nothing as large as
//! a job is moved; of two keys in one place the later one stands behind (linear probing), and what is taken out leaves no trace (backward
//! shift).

use super::Step;
use super::homes::Homes;
use super::live::{Live, Rest, Whole, WholeMut};
use gpuscope_model::trace::{Family, JobKey, RingId};

/// Number of a slot.
pub(super) type Slot = u32;

/// A [`JobKey`] in plain words. `kind` is 0 in a slot that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) words: [u64; 2],
    pub(super) kind: u32,
}

pub(super) const FENCE: u32 = 1;
const ADDRESS: u32 = 2;
const IN_RING: u32 = 3;
const FENCE_LOW: u32 = 4;

impl Key {
    #[inline(always)]
    pub(super) fn fence(context: u64, seqno: u64) -> Key {
        Key { words: [context, seqno], kind: FENCE }
    }

    /// Not 0: that is no key's.
    fn hash(&self) -> u32 {
        let [a, b] = self.words;
        // Two rounds of multiplication, so that neither neighbouring contexts nor neighbouring seqnos meet.
        let mixed = (a.wrapping_mul(FACTOR) ^ b).wrapping_mul(FACTOR);
        (mixed >> 32) as u32 | 1
    }

    pub(super) fn of(key: &JobKey) -> Key {
        let (words, kind) = match *key {
            JobKey::Fence { context, seqno } => ([context, seqno], FENCE),
            JobKey::Address(address) => ([address, 0], ADDRESS),
            JobKey::InRing { ring, number } => ([u64::from(ring.0), number], IN_RING),
            JobKey::FenceLow { context, seqno } => ([u64::from(context), u64::from(seqno)], FENCE_LOW),
        };
        Key { words, kind }
    }

    pub(super) fn job_key(&self) -> JobKey {
        let [a, b] = self.words;
        match self.kind {
            FENCE => JobKey::Fence { context: a, seqno: b },
            IN_RING => JobKey::InRing { ring: RingId(a as u32), number: b },
            FENCE_LOW => JobKey::FenceLow { context: a as u32, seqno: b as u32 },
            _ => JobKey::Address(a),
        }
    }

    #[inline]
    pub(super) fn is_fence(&self) -> bool {
        self.kind == FENCE
    }

    /// Context of the fence that such a key is, if it is one.
    #[inline]
    pub(super) fn context_of([context, _]: [u64; 2], kind: u32) -> Option<u64> {
        (kind == FENCE).then_some(context)
    }

    /// Of a fence.
    #[inline(always)]
    pub(super) fn context(&self) -> u64 {
        let [context, _] = self.words;
        context
    }

    /// Of a fence.
    #[inline(always)]
    pub(super) fn seqno(&self) -> u64 {
        let [_, seqno] = self.words;
        seqno
    }

    /// Whether the upper halves of its words are not 0.
    #[inline(always)]
    pub(super) fn is_wide(&self) -> bool {
        let [a, b] = self.words;
        (a | b) >> 32 != 0
    }

    /// The lower halves of a fence's numbers, if the upper ones are not 0.
    #[inline(always)]
    pub(super) fn low_of_wide(&self) -> Option<(u32, u32)> {
        (self.is_fence() && self.is_wide()).then_some((self.context() as u32, self.seqno() as u32))
    }

    #[inline(always)]
    pub(super) fn is_of(&self, live: &Live) -> bool {
        let ([a, b], [c, d]) = (self.words, live.words);
        (a ^ c) | (b ^ d) | u64::from(self.kind ^ u32::from(live.kind)) == 0
    }
}

/// Spreads what is multiplied by it over the upper bits.
pub(super) const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash and the slot of the job whose key has it. Without a hash, the place is free.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    hash: u32,
    slot: Slot,
}

impl Place {
    /// Where it belongs among so many places. The lowest bit is the same in all.
    #[inline]
    fn home(&self, places: usize) -> usize {
        (self.hash >> 1) as usize & places.wrapping_sub(1)
    }
}

/// Places of an empty table.
const LEAST: usize = 64;

/// A table of no more places is to be nearly empty: an eighth.
const ROOMY: usize = 16 << 10;

/// The slot of no job: nothing is found there, and nothing fits there.
pub(super) const NOBODY: Slot = 0;
/// What is to be written nowhere is written there.
pub(super) const NOWHERE: Slot = 1;

/// Jobs by their keys.
#[derive(Debug)]
pub(super) struct Table {
    /// After [`NOBODY`] and [`NOWHERE`] those of homes, and those of jobs in the table.
    pub(super) slots: Vec<Live>,
    /// Of each slot.
    pub(super) rest: Vec<Rest>,
    /// Free ones, but for those of homes.
    free: Vec<Slot>,
    pub(super) homes: Homes,
    /// Slots of which the jobs have moved to others.
    moved: Vec<(Slot, Slot)>,
    /// A power of two of them. Few are taken as long as that costs little: where keys hardly ever meet, it is known ahead where one stands.
    places: Vec<Place>,
    /// Of the places.
    taken: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            slots: vec![Live::nobody(), Live::none()],
            rest: vec![Rest::NONE; 2],
            free: Vec::new(),
            homes: Homes::default(),
            moved: Vec::new(),
            places: vec![Place::default(); LEAST],
            taken: 0,
        }
    }
}

impl Table {
    /// The slot of a key.
    #[inline(always)]
    pub(super) fn find(&self, key: &Key) -> Option<Slot> {
        let elsewhere = || self.find_elsewhere(key.words, key.kind);
        if key.is_fence() { self.homes.find(key, &self.slots, elsewhere) } else { elsewhere() }
    }

    /// Puts in a job whose submission this is, if it is told at once that its key is not there, as it mostly is.
    #[inline(always)]
    pub(super) fn insert_new(&mut self, key: &Key, step: &Step, family: Family) -> bool {
        if !key.is_fence() || key.is_wide() || self.homes.has_elsewhere(key) {
            return false;
        }
        let Some(slot) = self.homes.free_slot(key, &self.slots) else { return false };
        if let Some(mut of) = self.slot_mut(slot) {
            of.begin(key, step, family);
            of.live.submitted(step);
        }
        true
    }

    /// Puts in a job whose key is not there, and says where. Others may have [moved](Self::take_moved).
    pub(super) fn insert(&mut self, key: &Key, step: &Step, family: Family) -> Slot {
        let in_home = if key.is_fence() {
            self.homes.free_slot(key, &self.slots).or_else(|| {
                // Makes room there, if that can be.
                self.make_home(key);
                self.homes.free_slot(key, &self.slots)
            })
        } else {
            None
        };
        if let Some(slot) = in_home {
            if let Some(mut of) = self.slot_mut(slot) {
                of.begin(key, step, family);
            }
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Live::alone());
            self.rest.push(Rest::NONE);
            self.slots.len().saturating_sub(1) as Slot
        });
        if let Some(mut of) = self.slot_mut(slot) {
            of.begin(key, step, family);
        }
        if key.is_fence() {
            self.homes.count_elsewhere(key.context(), true);
        }
        if self.taken >= self.places.len() / if self.places.len() <= ROOMY { 8 } else { 2 } {
            self.grow();
        }
        self.put(Place { hash: key.hash(), slot });
        self.taken = self.taken.saturating_add(1);
        slot
    }

    /// Forgets a key. Its slot stays until it is [freed](Table::free).
    #[inline(always)]
    pub(super) fn unlink(&mut self, key: &Key) -> Option<Slot> {
        if key.is_fence()
            && let Some(slot) = self.homes.find(key, &self.slots, || None)
        {
            // Which is free when the slot is.
            return Some(slot);
        }
        self.unlink_elsewhere(key.words, key.kind)
    }

    /// Gives a key's context a home, with a place for its seqno, if that can be.
    fn make_home(&mut self, key: &Key) {
        while !self.homes.claim(key.context(), &self.slots) {
            if !self.homes.grow() {
                return;
            }
            let taken = self.places.iter().filter(|place| place.hash != 0);
            let keys = taken.filter_map(|place| self.slots.get(place.slot as usize)).map(Live::key);
            keys.filter(Key::is_fence).for_each(|key| self.homes.count_elsewhere(key.context(), true));
        }
        let moved = self.homes.widen(key, &mut self.slots);
        self.rest.resize(self.slots.len(), Rest::NONE);
        for (old, new) in moved {
            let Some(before) = self.slots.get_mut(old as usize) else { continue };
            let was_free = before.is_free();
            *before = Live::alone();
            self.free.push(old);
            if !was_free
                && let Some(rest) = self.rest.get(old as usize).copied()
                && let Some(now) = self.rest.get_mut(new as usize)
            {
                *now = rest;
                self.moved.push((old, new));
            }
        }
    }

    /// Jobs that stand in other slots than before, and in which.
    pub(super) fn take_moved(&mut self) -> Vec<(Slot, Slot)> {
        std::mem::take(&mut self.moved)
    }

    // Keys are given as words to what is seldom called: a reference would have them written to memory each time.

    #[inline(never)]
    fn find_elsewhere(&self, words: [u64; 2], kind: u32) -> Option<Slot> {
        self.seek(&Key { words, kind }).ok().map(|(_, slot)| slot)
    }

    #[inline(never)]
    fn unlink_elsewhere(&mut self, words: [u64; 2], kind: u32) -> Option<Slot> {
        let key = Key { words, kind };
        if key.is_fence() && !self.homes.has_elsewhere(&key) {
            return None;
        }
        let (at, slot) = self.seek(&key).ok()?;
        self.close_gap(at);
        self.taken = self.taken.saturating_sub(1);
        if key.is_fence() {
            self.homes.count_elsewhere(key.context(), false);
        }
        Some(slot)
    }

    /// The place of a key in the table, and its slot; or the place where it would stand.
    #[inline]
    fn seek(&self, key: &Key) -> Result<(usize, Slot), usize> {
        let hash = key.hash();
        let mut at = Place { hash, slot: 0 }.home(self.places.len());
        loop {
            let Some(place) = self.places.get(at) else { return Err(at) };
            if place.hash == hash && self.slots.get(place.slot as usize).is_some_and(|live| key.is_of(live)) {
                return Ok((at, place.slot));
            }
            if place.hash == 0 {
                return Err(at);
            }
            at = self.after(at);
        }
    }

    /// Gives a slot back, whose key was unlinked.
    #[inline]
    pub(super) fn free(&mut self, slot: Slot) {
        if let Some(place) = self.slots.get_mut(slot as usize)
            && !place.is_free()
        {
            place.free();
            if place.is_alone {
                self.free.push(slot);
            }
        }
    }

    /// What is in a slot.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&Live> {
        self.slots.get(slot as usize).filter(|live| !live.is_free())
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Live> {
        self.slots.get_mut(slot as usize).filter(|live| !live.is_free())
    }

    #[inline(always)]
    fn slot_mut(&mut self, slot: Slot) -> Option<WholeMut<'_>> {
        Some(WholeMut { live: self.slots.get_mut(slot as usize)?, rest: self.rest.get_mut(slot as usize)? })
    }

    /// All that is known of what is in a slot.
    #[inline]
    pub(super) fn whole(&self, slot: Slot) -> Option<Whole<'_>> {
        Some(Whole { live: self.get(slot)?, rest: self.rest.get(slot as usize)? })
    }

    /// The same, to be changed.
    pub(super) fn whole_mut(&mut self, slot: Slot) -> Option<WholeMut<'_>> {
        self.slot_mut(slot).filter(|of| !of.live.is_free())
    }

    /// All in flight, and all that is known of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Whole<'_>> {
        self.iter().filter_map(|(slot, live)| Some(Whole { live, rest: self.rest.get(slot as usize)? }))
    }

    /// All in flight, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Live)> {
        (0..).zip(&self.slots).skip(NOWHERE as usize + 1).filter(|(_, live)| live.is_in_flight())
    }

    /// All, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Live> {
        self.slots.iter_mut().skip(NOWHERE as usize + 1).filter(|live| live.is_in_flight())
    }

    /// How many there are, those included that are unlinked and not freed yet.
    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.places.len().wrapping_sub(1)
    }

    #[inline]
    fn put(&mut self, new: Place) {
        let mut at = new.home(self.places.len());
        while let Some(place) = self.places.get_mut(at) {
            if place.hash == 0 {
                *place = new;
                return;
            }
            at = self.after(at);
        }
    }

    /// Moves what stands behind a gap into it, unless it would then stand ahead of where it belongs.
    #[inline]
    fn close_gap(&mut self, mut gap: usize) {
        let last = self.places.len().wrapping_sub(1);
        let mut at = self.after(gap);
        while let Some(place) = self.places.get(at).copied().filter(|place| place.hash != 0) {
            let from_home = at.wrapping_sub(place.home(self.places.len())) & last;
            if from_home >= at.wrapping_sub(gap) & last {
                if let Some(free) = self.places.get_mut(gap) {
                    *free = place;
                }
                gap = at;
            }
            at = self.after(at);
        }
        if let Some(free) = self.places.get_mut(gap) {
            *free = Place::default();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let places = vec![Place::default(); self.places.len().saturating_mul(2)];
        for place in std::mem::replace(&mut self.places, places) {
            if place.hash != 0 {
                self.put(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::ExecKind;
    use std::collections::HashMap;

    #[test]
    fn it_holds_what_a_map_holds_through_any_order_of_changes() {
        let (mut table, mut map) = (Table::default(), HashMap::new());
        let mut state = 1u64;
        let mut chance = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        for step in 0..200_000_u64 {
            // In the second half more are taken out than put in.
            let (n, kind) = (chance(500), chance(4));
            let key = match kind {
                0 => JobKey::Fence { context: n % 7, seqno: n / 7 },
                1 => JobKey::FenceLow { context: (n % 7) as u32, seqno: (n / 7) as u32 },
                2 => JobKey::Address(n),
                _ => JobKey::InRing { ring: RingId((n % 7) as u32), number: n / 7 },
            };
            match (chance(4) < if step < 100_000 { 3 } else { 1 }, map.contains_key(&key)) {
                (true, false) => {
                    let slot = table.insert(&Key::of(&key), &Step::default(), Family::DrmSched);
                    table.get_mut(slot).unwrap().run_ns = step;
                    table.whole_mut(slot).unwrap().started(step);
                    map.insert(key, step);
                }
                (false, _) => {
                    let slot = table.unlink(&Key::of(&key));
                    assert_eq!(slot.and_then(|slot| table.get(slot).map(|live| live.run_ns)), map.remove(&key));
                    if let Some(live) = slot.and_then(|slot| table.get(slot)) {
                        assert_eq!(live.key().job_key(), key);
                        let job = table.whole(slot.unwrap()).unwrap().in_flight().job();
                        assert_eq!(job.start_ns, Some((live.run_ns, ExecKind::Measured)));
                    }
                    slot.inspect(|slot| table.free(*slot));
                }
                (true, true) => {
                    let found = table.find(&Key::of(&key)).and_then(|slot| table.get(slot)).map(|live| live.run_ns);
                    assert_eq!(found, map.get(&key).copied());
                }
            }
            assert_eq!(table.len(), map.len());
        }
        let mut left: Vec<u64> = table.iter().map(|(_, live)| live.run_ns).collect();
        let mut expected: Vec<u64> = map.into_values().collect();
        left.sort_unstable();
        expected.sort_unstable();
        assert_eq!(left, expected);
        assert!(table.slots.len() <= 4200, "slots are used again: {}", table.slots.len());
    }
}
