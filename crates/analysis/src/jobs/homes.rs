//! Where jobs stand that are told from others by a context and a seqno: a context's seqnos follow each other, so that the lowest bits of
//! one are its job's place among the context's own, and nothing is hashed but the context. Where a job stands depends on nothing else, and
//! is known before anything is known of other jobs: a processor looks for several at a time then.
//!
//! A context has a home. Of two contexts with one home, the one that came first has its jobs there as long as any is in flight; those of
//! the other stand in the table, as does what finds its place taken.

use super::live::Live;
use super::table::{Key, NOBODY, Slot};
use gpuscope_model::trace::StepRef;

/// Homes of an empty list, as a power of two.
const LEAST_BITS: u32 = 6;
/// And of the longest.
const MOST_BITS: u32 = 13;

/// Places of a context.
const LEAST_PLACES: usize = 4;
/// And of one of which many jobs are in flight.
const MOST_PLACES: usize = 1024;
/// And of all of them: 32 MiB, and no more than as much of places that were left for more.
const MOST_OF_ALL: usize = 1 << 18;

#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    /// Whose jobs stand here.
    context: u64,
    /// Its first slot, and so many more as are told apart by the lowest bits of the seqno: a power of two of them. If it has none, that of
    /// [`NOBODY`].
    first: Slot,
    last: u32,
    /// Jobs with this home that stand in the table.
    elsewhere: u32,
    /// Place of the ring to which the context's last job was submitted, as far as it was plain: mostly that of all of them.
    ring: u32,
}

const NO_HOME: Home = Home { context: 0, first: NOBODY, last: 0, elsewhere: 0, ring: 0 };

impl Home {
    #[inline(always)]
    pub(super) fn slot(&self, seqno: u64) -> Slot {
        self.first.wrapping_add(seqno as u32 & self.last)
    }

    /// Whether it is that of this context, and of no other of which there are jobs, and no number of it has an upper half.
    #[inline(always)]
    fn is_own(&self, context: u64) -> bool {
        (self.context ^ context) | u64::from(self.elsewhere) | context >> 32 == 0
    }

    fn slots(&self) -> std::ops::Range<usize> {
        let first = self.first as usize;
        let count = if self.first == NOBODY { 0 } else { (self.last as usize).saturating_add(1) };
        first..first.saturating_add(count)
    }
}

/// Homes of contexts.
#[derive(Debug)]
pub(super) struct Homes {
    /// A power of two of them.
    homes: Vec<Home>,
    shift: u32,
    /// Slots of all of them.
    slots: usize,
    /// Changes of a number: as long as it is the same, what was said of where plain jobs stand is so.
    changes: u64,
}

impl Default for Homes {
    fn default() -> Self {
        Homes { homes: vec![NO_HOME; 1 << LEAST_BITS], shift: u64::BITS - LEAST_BITS, slots: 0, changes: 0 }
    }
}

impl Homes {
    #[inline(always)]
    fn at(&self, context: u64) -> usize {
        (context.wrapping_mul(super::table::FACTOR) >> self.shift) as usize
    }

    /// Where a plain job stands, as long as there are no [changes](Self::changes), and on which ring it should be. [`NOBODY`] if it would
    /// be none.
    #[inline(always)]
    pub(super) fn slot_of_plain(&mut self, step: &StepRef<'_>, [of_submission, of_end]: [u32; 2]) -> (Slot, u32) {
        let of = step.of;
        let at = self.at(of.context());
        let Some(home) = self.homes.get_mut(at) else { return (NOBODY, 0) };
        let is_own = u32::from(home.is_own(of.context())).wrapping_neg();
        home.ring = of.ring_place() & of_submission | home.ring & !of_submission;
        (home.slot(step.seqno) & is_own, home.ring & of_end | of.ring_place() & !of_end)
    }

    #[inline(always)]
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The home of a context, whosoever is there.
    #[inline(always)]
    fn home(&self, context: u64) -> Option<&Home> {
        self.homes.get(self.at(context))
    }

    /// The slot of a job that stands here; or else, if others do not, what is found elsewhere.
    #[inline(always)]
    pub(super) fn find(&self, key: &Key, slots: &[Live], elsewhere: impl FnOnce() -> Option<Slot>) -> Option<Slot> {
        let home = self.home(key.context())?;
        let slot = home.slot(key.seqno());
        if slots.get(slot as usize).is_some_and(|live| key.is_of(live)) {
            return Some(slot);
        }
        if home.elsewhere == 0 { None } else { elsewhere() }
    }

    /// The slot for a job, if it is free, and its context's own.
    pub(super) fn free_slot(&self, key: &Key, slots: &[Live]) -> Option<Slot> {
        let home = self.home(key.context()).filter(|home| home.context == key.context())?;
        let slot = home.slot(key.seqno());
        slots.get(slot as usize).filter(|live| slot != NOBODY && live.is_free())?;
        Some(slot)
    }

    /// Whether jobs of this context may stand in the table.
    #[inline(always)]
    pub(super) fn has_elsewhere(&self, key: &Key) -> bool {
        self.home(key.context()).is_some_and(|home| home.elsewhere > 0)
    }

    /// So many more, or fewer, jobs of a context stand in the table.
    pub(super) fn count_elsewhere(&mut self, context: u64, is_one_more: bool) {
        let at = self.at(context);
        if let Some(home) = self.homes.get_mut(at) {
            let before = home.elsewhere;
            home.elsewhere = if is_one_more { before.saturating_add(1) } else { before.saturating_sub(1) };
            let is_change = (before == 0) != (home.elsewhere == 0);
            self.changes = self.changes.wrapping_add(is_change.into());
        }
    }

    /// Gives a context more slots, behind all others, so that this seqno has one of its own, if that can be. Gives the slots that are not
    /// its own any longer, and where the job of each that is taken stands now.
    pub(super) fn widen(&mut self, key: &Key, slots: &mut Vec<Live>) -> Vec<(Slot, Slot)> {
        let at = self.at(key.context());
        let Some(home) = self.homes.get_mut(at) else { return Vec::new() };
        let wanted = match slots.get(home.slot(key.seqno()) as usize).filter(|_| home.first != NOBODY) {
            None => LEAST_PLACES,
            // So many tell the two apart, and all others that fewer told apart.
            Some(other) => match (other.seqno() ^ key.seqno()).trailing_zeros().saturating_add(1) {
                bits if bits <= MOST_PLACES.ilog2() => 1 << bits,
                _ => return Vec::new(),
            },
        };
        let before = *home;
        let all = self.slots.saturating_sub(before.slots().len()).saturating_add(wanted);
        if all > MOST_OF_ALL {
            return Vec::new();
        }
        self.slots = all;
        self.changes = self.changes.wrapping_add(1);
        (home.first, home.last) = (slots.len() as Slot, (wanted as u32).wrapping_sub(1));
        slots.resize(slots.len().saturating_add(wanted), Live::none());
        let mut moved = Vec::new();
        for old in before.slots() {
            let Some(live) = slots.get(old).copied() else { continue };
            let new = home.slot(live.seqno());
            if !live.is_free()
                && let Some(place) = slots.get_mut(new as usize)
            {
                *place = live;
            }
            moved.push((old as Slot, new));
        }
        moved
    }

    /// Gives a context its home, unless jobs of another are there.
    pub(super) fn claim(&mut self, context: u64, slots: &[Live]) -> bool {
        let at = self.at(context);
        let Some(home) = self.homes.get_mut(at) else { return false };
        if home.context != context && slots.get(home.slots()).unwrap_or_default().iter().all(Live::is_free) {
            home.context = context;
            self.changes = self.changes.wrapping_add(1);
        }
        home.context == context
    }

    /// Makes twice as many homes, if that may be, each with nobody elsewhere: those of one home have two then, or share one of the two.
    pub(super) fn grow(&mut self) -> bool {
        if self.homes.len() >= 1 << MOST_BITS {
            return false;
        }
        let homes = vec![NO_HOME; self.homes.len().saturating_mul(2)];
        self.shift = self.shift.saturating_sub(1);
        self.changes = self.changes.wrapping_add(1);
        for home in std::mem::replace(&mut self.homes, homes) {
            let at = self.at(home.context);
            if home.first != NOBODY
                && let Some(free) = self.homes.get_mut(at)
            {
                *free = Home { elsewhere: 0, ..home };
            }
        }
        true
    }
}
