//! Jobs in flight: each in a slot that stays where it is, found by its key.
//!
//! Three events of four look a job up. The table holds keys as plain words and the numbers of slots, so that a look-up touches one line of the
//! cache and nothing as large as a job is moved; of two keys in one place the later one stands behind (linear probing), and what is
//! taken out leaves no trace (backward shift).

use gpuscope_model::trace::JobKey;

/// Number of a slot.
pub(super) type Slot = u32;

/// Things by [`JobKey`].
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Option<T>>,
    free: Vec<Slot>,
    /// A power of two of them, at most half of them taken.
    places: Vec<Place>,
    taken: usize,
}

/// A key in words; `kind` is 0 where the place is free.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    key: [u64; 2],
    kind: u32,
    slot: Slot,
}

impl Place {
    #[inline]
    fn of(key: &JobKey) -> Place {
        let (key, kind) = match *key {
            JobKey::Fence { context, seqno } => ([context, seqno], 1),
            JobKey::FenceLow { context, seqno } => ([u64::from(context), u64::from(seqno)], 2),
            JobKey::Address(address) => ([address, 0], 3),
            JobKey::InRing { ring, number } => ([u64::from(ring.0), number], 4),
        };
        Place { key, kind, slot: 0 }
    }

    #[inline]
    fn is(&self, other: &Place) -> bool {
        let ([a, b], [c, d]) = (self.key, other.key);
        (a ^ c) | (b ^ d) | u64::from(self.kind ^ other.kind) == 0
    }

    /// Where it belongs among so many places.
    #[inline]
    fn home(&self, places: usize) -> usize {
        let [a, b] = self.key;
        // Two rounds of multiplication, so that neither neighbouring contexts nor neighbouring seqnos meet.
        let mixed = (a.wrapping_mul(FACTOR) ^ b).wrapping_mul(FACTOR);
        (mixed >> 32) as usize & places.wrapping_sub(1)
    }
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Places of an empty table.
const LEAST: usize = 64;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { slots: Vec::new(), free: Vec::new(), places: vec![Place::default(); LEAST], taken: 0 }
    }
}

impl<T> Table<T> {
    /// The slot of a key.
    #[inline]
    pub(super) fn find(&self, key: &JobKey) -> Option<Slot> {
        let wanted = Place::of(key);
        let mut at = wanted.home(self.places.len());
        loop {
            let place = self.places.get(at)?;
            if place.is(&wanted) {
                return Some(place.slot);
            }
            if place.kind == 0 {
                return None;
            }
            at = self.after(at);
        }
    }

    /// Puts in a key that is not there, and says where.
    #[inline]
    pub(super) fn insert(&mut self, key: &JobKey, value: T) -> Slot {
        if self.taken >= self.places.len() / 2 {
            self.grow();
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len().saturating_sub(1) as Slot
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(value);
        }
        self.put(Place { slot, ..Place::of(key) });
        self.taken = self.taken.saturating_add(1);
        slot
    }

    /// Forgets a key. Its slot stays until it is [freed](Table::free).
    #[inline]
    pub(super) fn unlink(&mut self, key: &JobKey) -> Option<Slot> {
        let wanted = Place::of(key);
        let mut at = wanted.home(self.places.len());
        let slot = loop {
            let place = self.places.get(at)?;
            if place.is(&wanted) {
                break place.slot;
            }
            if place.kind == 0 {
                return None;
            }
            at = self.after(at);
        };
        self.close_gap(at);
        self.taken = self.taken.saturating_sub(1);
        Some(slot)
    }

    /// Gives a slot back, whose key was unlinked.
    #[inline]
    pub(super) fn free(&mut self, slot: Slot) {
        if let Some(place) = self.slots.get_mut(slot as usize)
            && place.take().is_some()
        {
            self.free.push(slot);
        }
    }

    /// What is in a slot.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// All, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        (0..).zip(&self.slots).filter_map(|(slot, value)| Some((slot, value.as_ref()?)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.places.len().wrapping_sub(1)
    }

    #[inline]
    fn put(&mut self, new: Place) {
        let mut at = new.home(self.places.len());
        while let Some(place) = self.places.get_mut(at) {
            if place.kind == 0 {
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
        while let Some(place) = self.places.get(at).copied().filter(|place| place.kind != 0) {
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
            if place.kind != 0 {
                self.put(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let (n, kind) = (chance(700), chance(3));
            let key = match kind {
                0 => JobKey::Fence { context: n % 7, seqno: n / 7 },
                1 => JobKey::FenceLow { context: (n % 7) as u32, seqno: (n / 7) as u32 },
                _ => JobKey::Address(n),
            };
            match (chance(4) < if step < 100_000 { 3 } else { 1 }, map.contains_key(&key)) {
                (true, false) => {
                    table.insert(&key, step);
                    map.insert(key, step);
                }
                (false, _) => {
                    let slot = table.unlink(&key);
                    assert_eq!(slot.and_then(|slot| table.get(slot).copied()), map.remove(&key));
                    slot.inspect(|slot| table.free(*slot));
                }
                (true, true) => {
                    let found = table.find(&key).and_then(|slot| table.get(slot));
                    assert_eq!(found, map.get(&key));
                }
            }
            assert_eq!(table.len(), map.len());
        }
        let mut left: Vec<u64> = table.iter().map(|(_, value)| *value).collect();
        let mut expected: Vec<u64> = map.into_values().collect();
        left.sort_unstable();
        expected.sort_unstable();
        assert_eq!(left, expected);
        assert!(table.slots.len() <= 2100, "slots are used again");
    }
}
