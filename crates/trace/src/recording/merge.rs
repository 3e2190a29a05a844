//! Merging of runs: what one processor's buffer gave in a round is in order, and the next one's begins earlier again.
//!
//! A loser tree: each record that is taken out costs one comparison a level, and each comparison is a minimum and a maximum. A sort
//! knows of the runs too, and merges them in pairs, with every record moved once a level.

/// Runs that are merged. A machine with more processors has its records sorted.
pub(super) const MOST_RUNS: usize = 64;

/// Bits of a key that say which run it is of.
const RUN_BITS: u32 = MOST_RUNS.trailing_zeros();

/// Times that differ by less can be told apart.
pub(super) const MOST_SPAN: u64 = (1 << (u64::BITS - RUN_BITS)) - 2;

const NONE: u64 = u64::MAX;

/// The earliest time of each run, the earliest of all first.
#[derive(Debug)]
pub(super) struct Merge {
    /// Time since `base` with the run in the lowest bits, so that of equal times the earlier run's comes first.
    earliest: u64,
    losers: [u64; MOST_RUNS],
    base: u64,
    size: usize,
}

impl Merge {
    /// Of the first times of the runs, `None` for a run without any. They lie between `base` and [`MOST_SPAN`] later.
    pub(super) fn new(base: u64, first_times: impl ExactSizeIterator<Item = Option<u64>>) -> Merge {
        let size = first_times.len().next_power_of_two().clamp(1, MOST_RUNS);
        let mut merge = Merge { earliest: NONE, losers: [NONE; MOST_RUNS], base, size };
        let mut winners = [NONE; 2 * MOST_RUNS];
        for (run, time) in first_times.enumerate() {
            if let Some(place) = winners.get_mut(size.saturating_add(run)) {
                *place = merge.key(run, time);
            }
        }
        for node in (1..size).rev() {
            let of = |child: usize| winners.get(child).copied().unwrap_or(NONE);
            let (left, right) = (of(2 * node), of(2 * node + 1));
            if let (Some(winner), Some(loser)) = (winners.get_mut(node), merge.losers.get_mut(node)) {
                (*winner, *loser) = (left.min(right), left.max(right));
            }
        }
        merge.earliest = winners.get(1).copied().unwrap_or(NONE);
        merge
    }

    /// The run that has the earliest time; none where all are empty.
    #[inline]
    pub(super) fn run(&self) -> Option<usize> {
        (self.earliest != NONE).then_some(self.earliest as usize & (MOST_RUNS - 1))
    }

    /// Goes on to the next time of that run.
    #[inline]
    pub(super) fn advance(&mut self, run: usize, next: Option<u64>) {
        let mut key = self.key(run, next);
        let mut node = self.size.saturating_add(run) / 2;
        while node > 0 {
            if let Some(loser) = self.losers.get_mut(node & (MOST_RUNS - 1)) {
                (key, *loser) = (key.min(*loser), key.max(*loser));
            }
            node /= 2;
        }
        self.earliest = key;
    }

    #[inline]
    fn key(&self, run: usize, time: Option<u64>) -> u64 {
        time.map_or(NONE, |time| time.wrapping_sub(self.base) << RUN_BITS | run as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_as_a_stable_sort_does_it() {
        let mut state = 1u64;
        let mut chance = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        for count in 1..=MOST_RUNS {
            for span in [3, 1000, MOST_SPAN] {
                let base = chance(1 << 30);
                let runs: Vec<Vec<u64>> = (0..count)
                    .map(|_| {
                        let mut run: Vec<u64> = (0..chance(30)).map(|_| base + chance(span)).collect();
                        run.sort_unstable();
                        run
                    })
                    .collect();
                let mut expected: Vec<(u64, usize)> =
                    runs.iter().enumerate().flat_map(|(i, run)| run.iter().map(move |time| (*time, i))).collect();
                expected.sort();
                let mut places = vec![0; count];
                let mut merged = Vec::new();
                let mut merge = Merge::new(base, runs.iter().map(|run| run.first().copied()));
                while let Some(run) = merge.run() {
                    merged.push((runs[run][places[run]], run));
                    places[run] += 1;
                    merge.advance(run, runs[run].get(places[run]).copied());
                }
                assert_eq!(merged, expected, "{count} runs, span {span}");
            }
        }
    }
}
