//! Where jobs stand that are told from others by a context and a seqno: a context's seqnos follow each other, so that the lowest bits of
//! one are its job's place among the context's own, and nothing is hashed but the context.
//!
//! A context has a home. Of two contexts with one home, the one that came first has its jobs there as long as any is in flight; those of
//! the other stand in the table, as does what finds its place taken.

use super::live::Live;
use super::table::{Key, Slot};

/// No slot.
const NONE: Slot = Slot::MAX;

/// Homes of an empty list, as a power of two.
const LEAST_BITS: u32 = 6;
/// And of the longest.
const MOST_BITS: u32 = 13;

/// Places of a context.
const LEAST_PLACES: usize = 16;
/// And of one of which many jobs are in flight.
const MOST_PLACES: usize = 1024;

#[derive(Clone, Debug, Default)]
struct Home {
    /// Whose jobs stand here.
    context: u64,
    /// By the lowest bits of the seqno: a power of two of them, or none. In each no slot, or that of a job of this context.
    places: Vec<Slot>,
    /// How many of them are taken.
    taken: u32,
    /// Jobs with this home that stand in the table.
    elsewhere: u32,
}

impl Home {
    #[inline(always)]
    fn place_of(&self, seqno: u64) -> usize {
        seqno as usize & self.places.len().wrapping_sub(1)
    }

    #[inline(always)]
    fn take_place(&mut self, seqno: u64) -> Option<&mut Slot> {
        let at = self.place_of(seqno);
        let place = self.places.get_mut(at).filter(|place| **place == NONE)?;
        self.taken = self.taken.wrapping_add(1);
        Some(place)
    }
}

/// Homes of contexts.
#[derive(Debug)]
pub(super) struct Homes {
    /// A power of two of them.
    homes: Vec<Home>,
    shift: u32,
}

impl Default for Homes {
    fn default() -> Self {
        Homes { homes: vec![Home::default(); 1 << LEAST_BITS], shift: u64::BITS - LEAST_BITS }
    }
}

impl Homes {
    #[inline(always)]
    fn at(&self, context: u64) -> usize {
        (context.wrapping_mul(super::table::FACTOR) >> self.shift) as usize
    }

    /// The slot of a job that stands here; or else, if others do not, what is found elsewhere.
    #[inline(always)]
    pub(super) fn find(&self, key: &Key, slots: &[Live], elsewhere: impl FnOnce() -> Option<Slot>) -> Option<Slot> {
        let home = self.homes.get(self.at(key.context()))?;
        if home.context == key.context()
            && let Some(slot) = home.places.get(home.place_of(key.seqno()))
            && slots.get(*slot as usize).is_some_and(|live| live.seqno() == key.seqno())
        {
            return Some(*slot);
        }
        if home.elsewhere == 0 { None } else { elsewhere() }
    }

    /// The place for a job: free, and of its context. It is taken then.
    pub(super) fn take_place(&mut self, key: &Key) -> Option<&mut Slot> {
        self.own_home(key)?.take_place(key.seqno())
    }

    /// The same, if with that it is known that this job is not there already.
    #[inline(always)]
    pub(super) fn take_new_place(&mut self, key: &Key) -> Option<&mut Slot> {
        self.own_home(key).filter(|home| home.elsewhere == 0)?.take_place(key.seqno())
    }

    /// Takes out a job, if it stands here.
    #[inline(always)]
    pub(super) fn take_out(&mut self, key: &Key, slots: &[Live]) -> Option<Slot> {
        let home = self.own_home(key)?;
        let at = home.place_of(key.seqno());
        let place = home.places.get_mut(at)?;
        slots.get(*place as usize).filter(|live| live.seqno() == key.seqno())?;
        home.taken = home.taken.wrapping_sub(1);
        Some(std::mem::replace(place, NONE))
    }

    #[inline(always)]
    fn own_home(&mut self, key: &Key) -> Option<&mut Home> {
        let at = self.at(key.context());
        self.homes.get_mut(at).filter(|home| home.context == key.context())
    }

    /// Whether jobs of this context may stand in the table.
    pub(super) fn has_elsewhere(&self, key: &Key) -> bool {
        self.homes.get(self.at(key.context())).is_some_and(|home| home.elsewhere > 0)
    }

    /// So many more, or fewer, jobs of a context stand in the table.
    pub(super) fn count_elsewhere(&mut self, context: u64, is_one_more: bool) {
        let at = self.at(context);
        if let Some(home) = self.homes.get_mut(at) {
            let n = home.elsewhere;
            home.elsewhere = if is_one_more { n.saturating_add(1) } else { n.saturating_sub(1) };
        }
    }

    /// Gives a context more places, so that this seqno has one of its own, if that can be.
    pub(super) fn widen(&mut self, key: &Key, slots: &[Live]) {
        let [context, seqno] = key.words;
        let at = self.at(context);
        let Some(home) = self.homes.get_mut(at) else { return };
        if home.places.is_empty() {
            home.places = vec![NONE; LEAST_PLACES];
        }
        let slot = home.places.get(home.place_of(seqno)).copied().unwrap_or(NONE);
        let Some(other) = slots.get(slot as usize) else { return };
        // So many places tell the two apart, and all others that fewer told apart.
        let [_, taken_by] = other.words;
        let bits = (taken_by ^ seqno).trailing_zeros().saturating_add(1);
        if bits > MOST_PLACES.ilog2() {
            return;
        }
        for slot in std::mem::replace(&mut home.places, vec![NONE; 1 << bits]) {
            if let Some(live) = slots.get(slot as usize) {
                let [_, seqno] = live.words;
                let place = home.place_of(seqno);
                if let Some(place) = home.places.get_mut(place) {
                    *place = slot;
                }
            }
        }
    }

    /// Gives a context its home, unless jobs of another are there.
    pub(super) fn claim(&mut self, context: u64) -> bool {
        let at = self.at(context);
        let Some(home) = self.homes.get_mut(at) else { return false };
        if home.taken == 0 {
            home.context = context;
        }
        home.context == context
    }

    /// Makes twice as many homes, if that may be, each with nobody elsewhere: those of one home have two then, or share one of the two.
    pub(super) fn grow(&mut self) -> bool {
        if self.homes.len() >= 1 << MOST_BITS {
            return false;
        }
        let homes = vec![Home::default(); self.homes.len().saturating_mul(2)];
        self.shift = self.shift.saturating_sub(1);
        for mut home in std::mem::replace(&mut self.homes, homes) {
            home.elsewhere = 0;
            let at = self.at(home.context);
            if home.taken > 0
                && let Some(free) = self.homes.get_mut(at)
            {
                *free = home;
            }
        }
        true
    }
}
