//! Which lane a slice is drawn on: slices on one track nest, so those that overlap without nesting need a track each.

use std::collections::{BTreeMap, BTreeSet};

/// Room between two slices that is remembered, for slices that come late.
const MOST_GAPS: usize = 4096;
/// Lanes that are kept for the next slice; with more, the one that has been idle for longest is not used again.
const MOST_LANES: usize = 4096;
/// Gaps that are looked at for a late slice.
const MOST_TRIES: usize = 64;

/// The lanes of one stage of one ring, by number.
///
/// Slices come in the order in which they were found to have ended, which mostly is that of their ends. Of the lanes that are free
/// when a slice begins it gets the one that became so last: no choice needs fewer lanes then. A slice that comes late goes into a
/// gap if one is remembered.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// By the end of their last slice.
    open: BTreeSet<(u64, u32)>,
    /// From, lane, and to.
    gaps: BTreeMap<(u64, u32), u64>,
    next: u32,
}

impl Lanes {
    /// The lane of a slice, and whether it is a new one. Without an end the slice goes on until the trace ends.
    pub(crate) fn place(&mut self, from_ns: u64, to_ns: Option<u64>) -> (u32, bool) {
        if let Some(&(free_ns, lane)) = self.open.range(..=(from_ns, u32::MAX)).next_back() {
            self.open.remove(&(free_ns, lane));
            self.remember(free_ns, lane, from_ns);
            self.keep_open(to_ns, lane);
            return (lane, false);
        }
        if let Some(to_ns) = to_ns {
            let before = self.gaps.range(..=(from_ns, u32::MAX)).rev().take(MOST_TRIES);
            // Not up to the very end of a gap: what begins there was written before, and of two events of one time the one that was
            // written first counts as the earlier.
            let found = before.map(|(gap, end)| (*gap, *end)).find(|(_, end)| to_ns < *end);
            if let Some(((gap_ns, lane), end_ns)) = found {
                self.gaps.remove(&(gap_ns, lane));
                self.remember(gap_ns, lane, from_ns);
                self.remember(to_ns, lane, end_ns);
                return (lane, false);
            }
        }
        let lane = self.next;
        self.next = self.next.saturating_add(1);
        self.remember(0, lane, from_ns);
        self.keep_open(to_ns, lane);
        (lane, true)
    }

    fn keep_open(&mut self, to_ns: Option<u64>, lane: u32) {
        let Some(to_ns) = to_ns else { return };
        self.open.insert((to_ns, lane));
        if self.open.len() > MOST_LANES {
            self.open.pop_first();
        }
    }

    fn remember(&mut self, from_ns: u64, lane: u32, to_ns: u64) {
        if from_ns < to_ns {
            self.gaps.insert((from_ns, lane), to_ns);
        }
        if self.gaps.len() > MOST_GAPS {
            self.gaps.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

    use super::{Lanes, MOST_GAPS, MOST_LANES};

    impl Lanes {
        fn lane(&mut self, from_ns: u64, to_ns: Option<u64>) -> u32 {
            let before = self.next;
            let (lane, is_new) = self.place(from_ns, to_ns);
            assert_eq!(is_new, lane == before);
            lane
        }
    }

    #[test]
    fn slices_one_after_the_other_share_a_lane() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.lane(10, Some(20)), 0);
        assert_eq!(lanes.lane(20, Some(30)), 0);
        assert_eq!(lanes.lane(30, Some(30)), 0);
        assert_eq!(lanes.lane(30, Some(31)), 0);
    }

    #[test]
    fn slices_that_overlap_do_not() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.lane(0, Some(10)), 0);
        assert_eq!(lanes.lane(5, Some(12)), 1);
        assert_eq!(lanes.lane(10, Some(20)), 0, "free again");
    }

    #[test]
    fn a_late_slice_goes_into_a_gap_that_it_does_not_touch_at_its_end() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.lane(10, Some(20)), 0);
        assert_eq!(lanes.lane(2, Some(9)), 0);
        assert_eq!(lanes.lane(9, Some(10)), 1, "the slice at 10 was written before");
    }

    #[test]
    fn a_slice_without_an_end_keeps_its_lane() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.lane(10, None), 0);
        assert_eq!(lanes.lane(50, Some(60)), 1);
        assert_eq!(lanes.lane(1, Some(2)), 1, "before the others there is room");
    }

    /// In the order of their ends, random slices take as many lanes as there are slices at one time.
    #[test]
    fn as_many_lanes_as_needed() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for round in 0..200 {
            let mut slices: Vec<(u64, u64)> = (0..60).map(|_| (next(1000), next(1 + round))).collect();
            for slice in &mut slices {
                slice.1 += slice.0 + 1;
            }
            slices.sort_by_key(|slice| slice.1);
            let mut lanes = Lanes::default();
            let mut on: Vec<Vec<(u64, u64)>> = Vec::new();
            for (from, to) in slices.iter().copied() {
                let lane = lanes.lane(from, Some(to)) as usize;
                on.resize(on.len().max(lane + 1), Vec::new());
                assert!(on[lane].iter().all(|(f, t)| *t <= from || to <= *f), "{from}..{to} on {lane}: {on:?}");
                on[lane].push((from, to));
            }
            let depth = |at: u64| slices.iter().filter(|(from, to)| *from <= at && at < *to).count();
            assert_eq!(on.len(), slices.iter().map(|slice| depth(slice.0)).max().unwrap(), "{slices:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut lanes = Lanes::default();
        // Each begins before all others ended, and leaves a gap.
        for i in 0..3 * MOST_GAPS as u64 {
            lanes.place(1_000_000 - i, Some(2_000_000 - i));
        }
        assert_eq!((lanes.open.len(), lanes.gaps.len()), (MOST_LANES, MOST_GAPS));
    }
}
