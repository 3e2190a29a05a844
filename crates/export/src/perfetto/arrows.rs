//! Arrows from a job to those that waited for it.

use gpuscope_model::trace::JobKey;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Jobs whose waits are remembered; with more, the one that has waited for longest loses its arrows.
const MOST_WAITERS: usize = 1 << 14;
/// Arrows to one job.
const MOST_EACH: usize = 32;

/// What waits for what, among jobs that have not ended.
///
/// Each pair has a flow of its own: Perfetto leads one flow through all its slices, so that two jobs that wait for a third would seem
/// to wait for each other.
#[derive(Debug, Default)]
pub(super) struct Arrows {
    by_waiter: HashMap<JobKey, Vec<Arrow>>,
    /// Waiters by what they wait for.
    by_source: HashMap<JobKey, BTreeSet<JobKey>>,
    order: VecDeque<JobKey>,
}

#[derive(Clone, Copy, Debug)]
struct Arrow {
    from: JobKey,
    flow: u64,
    /// When the slice began that it comes from, once that is written.
    begun_ns: Option<u64>,
}

impl Arrows {
    /// A job waits for another one.
    pub(super) fn add(&mut self, waiter: JobKey, from: JobKey, flow: impl FnOnce() -> u64) {
        if waiter == from {
            return;
        }
        let arrows = self.by_waiter.entry(waiter).or_default();
        if arrows.len() >= MOST_EACH || arrows.iter().any(|arrow| arrow.from == from) {
            return;
        }
        if arrows.is_empty() {
            self.order.push_back(waiter);
        }
        arrows.push(Arrow { from, flow: flow(), begun_ns: None });
        self.by_source.entry(from).or_default().insert(waiter);
        // What ended is still in the order: it goes with the rest.
        while self.order.len() > MOST_WAITERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// A job's slice begins: the flows that leave it.
    pub(super) fn leave(&mut self, key: JobKey, begun_ns: u64) -> Vec<u64> {
        let mut flows = Vec::new();
        for waiter in self.by_source.remove(&key).unwrap_or_default() {
            let arrows = self.by_waiter.get_mut(&waiter).into_iter().flatten();
            for arrow in arrows.filter(|arrow| arrow.from == key && arrow.begun_ns.is_none()) {
                arrow.begun_ns = Some(begun_ns);
                flows.push(arrow.flow);
            }
        }
        flows
    }

    /// A job's slice begins: the flows that end at it. Those whose other end was not written, or did not begin before, are left:
    /// Perfetto takes the direction from the times.
    pub(super) fn arrive(&mut self, key: JobKey, begun_ns: u64) -> Vec<u64> {
        let Some(arrows) = self.by_waiter.get_mut(&key) else { return Vec::new() };
        let may_end = |arrow: &mut Arrow| arrow.begun_ns.is_some_and(|from_ns| from_ns <= begun_ns);
        arrows.extract_if(.., may_end).map(|arrow| arrow.flow).collect()
    }

    /// A job ended: nothing arrives at it any more.
    pub(super) fn forget(&mut self, waiter: JobKey) {
        let arrows = self.by_waiter.remove(&waiter).unwrap_or_default();
        for arrow in arrows.iter().filter(|arrow| arrow.begun_ns.is_none()) {
            if let Some(waiters) = self.by_source.get_mut(&arrow.from) {
                waiters.remove(&waiter);
                if waiters.is_empty() {
                    self.by_source.remove(&arrow.from);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrows, MOST_EACH, MOST_WAITERS};
    use gpuscope_model::trace::JobKey;
    use std::collections::BTreeSet;

    fn key(seqno: u64) -> JobKey {
        JobKey::Fence { context: 1, seqno }
    }

    #[test]
    fn each_waiter_has_an_arrow_of_its_own() {
        let mut arrows = Arrows::default();
        arrows.add(key(2), key(1), || 20);
        arrows.add(key(3), key(1), || 30);
        arrows.add(key(3), key(1), || 31);
        assert_eq!(arrows.leave(key(1), 100), [20, 30]);
        assert_eq!(arrows.arrive(key(2), 100), [20]);
        assert!(arrows.arrive(key(3), 99).is_empty(), "it would lead back in time");
        assert_eq!(arrows.arrive(key(3), 101), [30]);
    }

    #[test]
    fn an_arrow_that_nothing_leaves_does_not_arrive() {
        let mut arrows = Arrows::default();
        arrows.add(key(2), key(1), || 20);
        arrows.add(key(2), key(2), || 21);
        assert!(arrows.arrive(key(2), 100).is_empty());
        arrows.forget(key(2));
        assert!(arrows.leave(key(1), 100).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut arrows = Arrows::default();
        for waiter in 0..MOST_WAITERS as u64 + 500 {
            for from in 1..=2 * MOST_EACH as u64 {
                arrows.add(key(waiter), JobKey::Address(from), || waiter);
            }
        }
        assert_eq!((arrows.by_waiter.len(), arrows.order.len()), (MOST_WAITERS, MOST_WAITERS));
        assert_eq!(arrows.by_source.values().map(BTreeSet::len).sum::<usize>(), MOST_WAITERS * MOST_EACH);
    }
}
