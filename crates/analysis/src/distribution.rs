//! Distributions of times: every value as long as there is room, then a histogram with a stated error.

use gpuscope_model::trace::Summary;

/// Sub-buckets of an octave, as a power of two: a bucket is no wider than 1/128 of its lowest value.
const SUB_BITS: u32 = 7;
/// By how much a percentile from the histogram may be too high.
const HISTOGRAM_ERROR: f64 = 1.0 / (1 << SUB_BITS) as f64;
/// Values in a piece. Pieces do not move when more come, so memory does not double on the way.
const PIECE: usize = 8 << 10;
/// Values that wait until they are put into a histogram together.
const STAGE: usize = 512;

/// How many more values all distributions together may keep.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    left: usize,
}

impl Pool {
    /// Room for so many values, of four bytes each.
    pub fn of(values: usize) -> Self {
        Pool { left: values }
    }
}

impl Default for Pool {
    /// 36 Mi values: 144 MiB.
    fn default() -> Self {
        Pool::of(36 << 20)
    }
}

/// Times, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    /// Values that came since the last ones were added up. Its room was taken from the pool, but for that before a histogram.
    open: Vec<u32>,
    added: Added,
    /// Values that it may keep, whatever is left for all.
    most: Option<usize>,
    kept: Kept,
}

/// What is known of values that were added up.
#[derive(Clone, Copy, Debug, Default)]
struct Added {
    count: u64,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

impl Added {
    /// Of some values more, of which there is at least one.
    fn and(self, count: u64, sum_ns: u128, min_ns: u64, max_ns: u64) -> Added {
        Added {
            count: self.count.saturating_add(count),
            sum_ns: self.sum_ns.saturating_add(sum_ns),
            min_ns: if self.count == 0 { min_ns } else { self.min_ns.min(min_ns) },
            max_ns: self.max_ns.max(max_ns),
        }
    }

    fn and_all(self, values: &[u32]) -> Added {
        if values.is_empty() {
            return self;
        }
        // Of values and not of references to them, so that several are compared at a time.
        let min = values.iter().fold(u32::MAX, |min, v| min.min(*v));
        let max = values.iter().fold(0, |max, v| max.max(*v));
        // As many as fit a piece cannot exceed 64 bits, and a plain sum is added up several at a time.
        let sum: u64 = values.iter().map(|v| u64::from(*v)).sum();
        self.and(values.len() as u64, sum.into(), min.into(), max.into())
    }
}

#[derive(Clone, Debug)]
enum Kept {
    /// All but the open ones: those that fit 32 bits, and the others.
    All { pieces: Vec<Vec<u32>>, long: Vec<u64> },
    /// How many fell into each bucket.
    Histogram(Vec<u64>),
}

impl Default for Kept {
    fn default() -> Self {
        Kept::All { pieces: Vec::new(), long: Vec::new() }
    }
}

impl Distribution {
    /// One that keeps about so many values at most: for what there may be thousands of.
    pub fn keeping(most: usize) -> Self {
        Distribution { most: Some(most), ..Distribution::default() }
    }

    /// Adds a value. Where there is no room for it, what was kept becomes a histogram, and its room goes back to the pool.
    #[inline]
    pub fn add(&mut self, ns: u64, pool: &mut Pool) {
        // Nearly always there is room: everything else waits until there is none.
        match u32::try_from(ns) {
            Ok(short) if self.open.len() < self.open.capacity() => self.open.push(short),
            _ => self.make_room(ns, pool),
        }
    }

    /// Adds some values.
    #[inline]
    pub(crate) fn add_all(&mut self, ns: impl ExactSizeIterator<Item = u32>, pool: &mut Pool) {
        if ns.len() <= self.open.capacity().saturating_sub(self.open.len()) {
            self.open.extend(ns);
        } else {
            ns.for_each(|ns| self.add(ns.into(), pool));
        }
    }

    #[cold]
    fn make_room(&mut self, ns: u64, pool: &mut Pool) {
        let kept = self.count();
        if let Kept::All { long, .. } = &mut self.kept
            && let Err(_) = u32::try_from(ns)
        {
            if pool.left >= 2 && self.most.is_none_or(|most| kept < most as u64) {
                pool.left -= 2;
                long.push(ns);
                self.added = self.added.and(1, ns.into(), ns, ns);
                return;
            }
        } else if let Kept::All { pieces, .. } = &mut self.kept {
            let full = self.open.capacity() >= PIECE;
            // The first piece grows with what comes: most distributions are small.
            let more = if full { PIECE } else { self.open.capacity().max(4) };
            if pool.left >= more && self.most.is_none_or(|most| kept.saturating_add(more as u64) <= most as u64) {
                pool.left -= more;
                if full {
                    self.added = self.added.and_all(&self.open);
                    pieces.push(std::mem::replace(&mut self.open, Vec::with_capacity(PIECE)));
                } else {
                    self.open.reserve_exact(more);
                }
                self.open.push(ns as u32);
                return;
            }
        }
        self.become_histogram(pool);
        if let Kept::Histogram(histogram) = &mut self.kept {
            self.added = self.added.and_all(&self.open).and(1, ns.into(), ns, ns);
            self.open.iter().map(|v| u64::from(*v)).chain([ns]).for_each(|value| count_in(histogram, value));
            self.open.clear();
        }
    }

    /// Goes on without the values themselves.
    fn become_histogram(&mut self, pool: &mut Pool) {
        let Kept::All { pieces, long } = &self.kept else { return };
        let mut histogram = vec![0; BUCKETS];
        let short = pieces.iter().flatten().chain(&self.open).map(|v| u64::from(*v));
        short.chain(long.iter().copied()).for_each(|value| count_in(&mut histogram, value));
        let room = pieces.iter().map(Vec::capacity).sum::<usize>().saturating_add(self.open.capacity());
        pool.left = pool.left.saturating_add(room).saturating_add(long.len().saturating_mul(2));
        self.added = self.added.and_all(&self.open);
        self.open = Vec::with_capacity(STAGE);
        self.kept = Kept::Histogram(histogram);
    }

    /// How many values came.
    pub fn count(&self) -> u64 {
        self.added.count.saturating_add(self.open.len() as u64)
    }

    /// Their sum.
    pub fn sum_ns(&self) -> u128 {
        self.added.and_all(&self.open).sum_ns
    }

    /// What is said of them; none of no values. A percentile is the smallest value that so many of a hundred do not exceed.
    pub fn summary(&self) -> Option<Summary> {
        let Added { count, sum_ns, min_ns, max_ns } = self.added.and_all(&self.open);
        if count == 0 {
            return None;
        }
        let (percentiles, error) = match &self.kept {
            Kept::All { pieces, long } => {
                let short = pieces.iter().chain([&self.open]);
                // Half the room, where all values are short.
                if long.is_empty() {
                    let mut all = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
                    short.for_each(|piece| all.extend_from_slice(piece));
                    (nearest_ranks(all).map(u64::from), 0.0)
                } else {
                    let all = short.flatten().map(|v| u64::from(*v)).chain(long.iter().copied());
                    (nearest_ranks(all.collect()), 0.0)
                }
            }
            Kept::Histogram(histogram) => {
                let mut histogram = histogram.clone();
                self.open.iter().for_each(|value| count_in(&mut histogram, u64::from(*value)));
                let at = |percent| {
                    bucket_of_rank(&histogram, rank(count, percent))
                        .map_or(max_ns, |b| highest(b).clamp(min_ns, max_ns))
                };
                (PERCENTS.map(at), HISTOGRAM_ERROR)
            }
        };
        let [p50_ns, p90_ns, p99_ns] = percentiles;
        let mean_ns = sum_ns as f64 / count as f64;
        Some(Summary { count, min_ns, mean_ns, p50_ns, p90_ns, p99_ns, max_ns, error })
    }
}

/// Percentiles that are told.
const PERCENTS: [u64; 3] = [50, 90, 99];

/// The percentiles of all values. What is above one is enough to find the next.
fn nearest_ranks<T: Ord + Copy + Default>(mut all: Vec<T>) -> [T; 3] {
    let count = all.len() as u64;
    let (mut rest, mut passed, mut last) = (all.as_mut_slice(), 0, T::default());
    PERCENTS.map(|percent| {
        let at = usize::try_from(rank(count, percent)).unwrap_or(usize::MAX);
        if let Some(at) = at.checked_sub(passed).filter(|at| *at < rest.len()) {
            let (_, value, above) = std::mem::take(&mut rest).select_nth_unstable(at);
            (last, rest) = (*value, above);
            passed = passed.saturating_add(at).saturating_add(1);
        }
        last
    })
}

/// The bucket in which the value of a rank lies.
fn bucket_of_rank(histogram: &[u64], rank: u64) -> Option<usize> {
    let mut passed = 0_u64;
    histogram.iter().position(|n| {
        passed = passed.saturating_add(*n);
        passed > rank
    })
}

/// Place of a percentile among `count` values in order, from 0: the nearest rank.
pub(crate) fn rank(count: u64, percent: u64) -> u64 {
    let rank = (u128::from(count) * u128::from(percent)).div_ceil(100).saturating_sub(1);
    u64::try_from(rank).unwrap_or(u64::MAX)
}

/// Octaves above the first, which has a bucket a nanosecond.
const BUCKETS: usize = (65 - SUB_BITS as usize) << SUB_BITS;

#[inline]
fn count_in(histogram: &mut [u64], ns: u64) {
    if let Some(n) = histogram.get_mut(bucket(ns)) {
        *n = n.wrapping_add(1);
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    // The values of the first octave and those below are their own buckets.
    let octave = (ns | 1 << SUB_BITS).ilog2() - SUB_BITS;
    ((octave as usize) << SUB_BITS) + (ns >> octave) as usize
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let (octave, sub) = (bucket >> SUB_BITS, (bucket & ((1 << SUB_BITS) - 1)) as u64);
    match octave {
        0 => sub,
        _ => {
            let low = (sub | 1 << SUB_BITS) << (octave - 1);
            low.saturating_add((1_u64 << (octave - 1)) - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>, pool: usize) -> Distribution {
        let (mut pool, mut distribution) = (Pool::of(pool), Distribution::default());
        for value in values {
            distribution.add(value, &mut pool);
        }
        distribution
    }

    #[test]
    fn percentiles_are_values_of_the_set() {
        let summary = of((1..=200).rev(), PIECE).summary().unwrap();
        assert_eq!((summary.count, summary.min_ns, summary.max_ns), (200, 1, 200));
        assert_eq!((summary.p50_ns, summary.p90_ns, summary.p99_ns), (100, 180, 198));
        assert_eq!((summary.mean_ns, summary.error), (100.5, 0.0));
        let one = of([7], PIECE).summary().unwrap();
        assert_eq!((one.p50_ns, one.p99_ns, one.max_ns), (7, 7, 7));
    }

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(Distribution::default().summary(), None);
    }

    #[test]
    fn values_of_more_than_32_bits_are_kept() {
        let summary = of([1, 10_000_000_000, 20_000_000_000], PIECE).summary().unwrap();
        assert_eq!((summary.p50_ns, summary.max_ns), (10_000_000_000, 20_000_000_000));
    }

    #[test]
    fn without_room_percentiles_stay_within_the_stated_error() {
        // A spread over six orders of magnitude, in no order.
        let values: Vec<u64> = (0..100_000_u64).map(|i| (i * 7919 % 100_003).pow(2) / 17 + 3).collect();
        let (exact, near) = (of(values.clone(), 1 << 20), of(values, PIECE));
        let (exact, near) = (exact.summary().unwrap(), near.summary().unwrap());
        assert_eq!((exact.error, near.error), (0.0, HISTOGRAM_ERROR));
        assert_eq!(
            (near.count, near.min_ns, near.max_ns, near.mean_ns),
            (exact.count, exact.min_ns, exact.max_ns, exact.mean_ns)
        );
        for (exact, near) in [(exact.p50_ns, near.p50_ns), (exact.p90_ns, near.p90_ns), (exact.p99_ns, near.p99_ns)] {
            let over = near as f64 / exact as f64 - 1.0;
            assert!((0.0..=HISTOGRAM_ERROR).contains(&over), "{near} for {exact}");
        }
    }

    #[test]
    fn a_value_lies_in_its_bucket() {
        for value in (0..64)
            .flat_map(|bit| [1_u64 << bit, (1 << bit) + (1 << bit) / 3, (1_u64 << bit).wrapping_mul(2).wrapping_sub(1)])
        {
            let b = bucket(value);
            assert!(b < BUCKETS, "{value}");
            assert!(highest(b) >= value, "{value}: bucket {b} ends at {}", highest(b));
            assert!(b == 0 || highest(b - 1) < value, "{value}: the bucket before {b} ends at {}", highest(b - 1));
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values_in_order() {
        let mut state = 7_u64;
        for round in 0..200_u64 {
            let values: Vec<u64> = (0..1 + round * 13 % 900)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Of all sizes, some of them more than 32 bits, or all alike.
                    state >> (20 + (state >> 8) % [44, 30, 1][(round % 3) as usize]) >> (round % 2 * 30)
                })
                .collect();
            let summary = of(values.iter().copied(), 1 << 20).summary().unwrap();
            let mut sorted = values;
            sorted.sort_unstable();
            let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
            assert_eq!((summary.p50_ns, summary.p90_ns, summary.p99_ns), (at(50), at(90), at(99)));
            assert_eq!((summary.min_ns, summary.max_ns), (sorted[0], sorted[sorted.len() - 1]));
        }
    }

    #[test]
    fn a_histogram_counts_what_waits_for_it() {
        let mut values: Vec<u64> = (0..PIECE as u64 + STAGE as u64 + 9).map(|i| i * 977 % 50_021).collect();
        values.extend([10_000_000_000; 3]);
        let (all, near) = (of(values.clone(), 1 << 20), of(values.clone(), PIECE));
        let (exact, near) = (all.summary().unwrap(), near.summary().unwrap());
        assert_eq!((near.count, near.min_ns, near.max_ns), (exact.count, exact.min_ns, exact.max_ns));
        assert_eq!(near.mean_ns, exact.mean_ns);
        let sorted = {
            values.sort_unstable();
            values
        };
        for (percent, told) in [(50, near.p50_ns), (90, near.p90_ns), (99, near.p99_ns)] {
            let value = sorted[(sorted.len() * percent).div_ceil(100) - 1];
            assert_eq!(told, highest(bucket(value)));
        }
    }

    #[test]
    fn room_that_is_given_back_serves_another() {
        let mut pool = Pool::of(2 * PIECE);
        let (mut one, mut two) = (Distribution::default(), Distribution::default());
        for i in 0..3 * PIECE as u64 {
            one.add(i, &mut pool);
        }
        assert_eq!(one.summary().unwrap().error, HISTOGRAM_ERROR);
        two.add(5, &mut pool);
        assert_eq!(two.summary().unwrap().error, 0.0);
    }
}
