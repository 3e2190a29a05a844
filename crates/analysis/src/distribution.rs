//! Distributions of times: every value as long as there is room, then a histogram with a stated error.

use gpuscope_model::trace::Summary;

/// Sub-buckets of an octave, as a power of two: a bucket is no wider than 1/128 of its lowest value.
const SUB_BITS: u32 = 7;
/// By how much a percentile from the histogram may be too high.
const HISTOGRAM_ERROR: f64 = 1.0 / (1 << SUB_BITS) as f64;
/// Values in a piece. Pieces do not move when more come, so memory does not double on the way.
const PIECE: usize = 8 << 10;

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
    count: u64,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
    /// Values that it may keep, whatever is left for all.
    most: Option<usize>,
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Kept {
    /// All: those that fit 32 bits, and the others.
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
    pub fn add(&mut self, ns: u64, pool: &mut Pool) {
        self.min_ns = if self.count == 0 { ns } else { self.min_ns.min(ns) };
        self.max_ns = self.max_ns.max(ns);
        let has_room = pool.left > 0 && self.most.is_none_or(|most| self.count < most as u64);
        self.count = self.count.saturating_add(1);
        self.sum_ns = self.sum_ns.saturating_add(u128::from(ns));
        match &mut self.kept {
            Kept::All { pieces, long } if has_room => {
                pool.left -= 1;
                match (u32::try_from(ns), pieces.last_mut().filter(|piece| piece.len() < PIECE)) {
                    (Ok(short), Some(piece)) => piece.push(short),
                    (Ok(short), None) => {
                        // The first piece grows with what comes: most distributions are small.
                        let mut piece = Vec::with_capacity(if pieces.is_empty() { 4 } else { PIECE });
                        piece.push(short);
                        pieces.push(piece);
                    }
                    (Err(_), _) => long.push(ns),
                }
            }
            Kept::All { pieces, long } => {
                let short = pieces.iter().flatten().map(|v| u64::from(*v));
                let mut histogram = vec![0; BUCKETS];
                let mut kept = 0_usize;
                for value in short.chain(long.iter().copied()) {
                    count_in(&mut histogram, value);
                    kept = kept.saturating_add(1);
                }
                count_in(&mut histogram, ns);
                pool.left = pool.left.saturating_add(kept);
                self.kept = Kept::Histogram(histogram);
            }
            Kept::Histogram(histogram) => count_in(histogram, ns),
        }
    }

    /// How many values came.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// What is said of them; none of no values. A percentile is the smallest value that so many of a hundred do not exceed.
    pub fn summary(&self) -> Option<Summary> {
        if self.count == 0 {
            return None;
        }
        let (percentiles, error) = match &self.kept {
            Kept::All { pieces, long } => {
                // Half the room, where all values are short.
                if long.is_empty() {
                    (nearest_ranks(pieces.concat()).map(u64::from), 0.0)
                } else {
                    let short = pieces.iter().flatten().map(|v| u64::from(*v));
                    (nearest_ranks(short.chain(long.iter().copied()).collect()), 0.0)
                }
            }
            Kept::Histogram(histogram) => {
                let at = |percent| {
                    let (wanted, mut passed) = (rank(self.count, percent), 0_u64);
                    let bucket = histogram.iter().position(|n| {
                        passed = passed.saturating_add(*n);
                        passed > wanted
                    });
                    bucket.map_or(self.max_ns, |b| highest(b).clamp(self.min_ns, self.max_ns))
                };
                ([50, 90, 99].map(at), HISTOGRAM_ERROR)
            }
        };
        let [p50_ns, p90_ns, p99_ns] = percentiles;
        Some(Summary {
            count: self.count,
            min_ns: self.min_ns,
            mean_ns: self.sum_ns as f64 / self.count as f64,
            p50_ns,
            p90_ns,
            p99_ns,
            max_ns: self.max_ns,
            error,
        })
    }
}

/// The percentiles of all values.
fn nearest_ranks<T: Ord + Copy + Default>(mut all: Vec<T>) -> [T; 3] {
    let count = all.len() as u64;
    [50, 90, 99].map(|percent| {
        let at = usize::try_from(rank(count, percent)).unwrap_or(usize::MAX);
        if at < all.len() { *all.select_nth_unstable(at).1 } else { T::default() }
    })
}

/// Place of a percentile among `count` values in order, from 0: the nearest rank.
fn rank(count: u64, percent: u64) -> u64 {
    let rank = (u128::from(count) * u128::from(percent)).div_ceil(100).saturating_sub(1);
    u64::try_from(rank).unwrap_or(u64::MAX)
}

/// Octaves above the first, which has a bucket a nanosecond.
const BUCKETS: usize = (65 - SUB_BITS as usize) << SUB_BITS;

fn count_in(histogram: &mut [u64], ns: u64) {
    if let Some(n) = histogram.get_mut(bucket(ns)) {
        *n = n.saturating_add(1);
    }
}

fn bucket(ns: u64) -> usize {
    if ns >> SUB_BITS == 0 {
        return usize::try_from(ns).unwrap_or(0);
    }
    let octave = ns.ilog2() - SUB_BITS;
    let sub = (ns >> octave) as usize & ((1 << SUB_BITS) - 1);
    ((octave as usize + 1) << SUB_BITS) | sub
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
