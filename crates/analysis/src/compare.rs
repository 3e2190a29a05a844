//! Whether the times of two traces differ, by percentiles with bounds.
//!
//! Jobs that follow each other share their luck: one that queues for long has neighbours that do. Bounds that take each for itself are much
//! too narrow. So each trace is cut into blocks of jobs that followed each other, and the blocks are drawn again and again (a block bootstrap,
//! Künsch 1989); how far the percentiles' difference strays then bounds it. The bounds tell of these two recordings: what another run would
//! give, one recording of each cannot say.

use gpuscope_model::trace::Change;

/// Values that are kept of one kind of times.
const MOST: usize = 16 << 10;
/// Blocks of a trace.
const BLOCKS: usize = 40;
/// How often they are drawn.
const DRAWS: usize = 1000;
/// Values of a block below which it is no longer than what neighbours share.
const LEAST_IN_BLOCK: usize = 20;
/// Values beyond a percentile below which nothing is said of it.
const LEAST_BEYOND: usize = 10;

/// Times in the order in which they came; of many, one of each so many in a row, chosen by chance.
#[derive(Clone, Debug)]
pub struct Times {
    values: Vec<u64>,
    /// One of so many is kept.
    stride: u64,
    /// Those since the last one that was kept, and the one of them that is.
    run: u64,
    chosen: u64,
    chance: Chance,
}

impl Default for Times {
    fn default() -> Self {
        Times { values: Vec::new(), stride: 1, run: 0, chosen: 0, chance: Chance(0x9e37_79b9_7f4a_7c15) }
    }
}

/// The same for the same trace: a report that is made again is the same.
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    /// Below `end`. xorshift64*, Vigna 2016.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(bits) * u128::from(end)) >> 64) as u64
    }
}

impl Times {
    /// Adds a time.
    pub fn add(&mut self, ns: u64) {
        self.run = self.run.saturating_add(1);
        // Each of a run is the chosen one with the same chance, whatever its length.
        if self.chance.below(self.run) == 0 {
            self.chosen = ns;
        }
        if self.run < self.stride {
            return;
        }
        self.values.push(self.chosen);
        self.run = 0;
        if self.values.len() >= MOST {
            let mut at: usize = 0;
            let drop_first = self.chance.below(2) == 0;
            self.values.retain(|_| {
                at = at.saturating_add(1);
                at.is_multiple_of(2) == drop_first
            });
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// Values with the number of their block, in order of size.
    fn sorted(&self) -> Vec<(u64, u8)> {
        let count = self.values.len().max(1);
        let block = |at: usize| u8::try_from(at.saturating_mul(BLOCKS) / count).unwrap_or(u8::MAX);
        let mut of: Vec<(u64, u8)> = self.values.iter().enumerate().map(|(at, ns)| (*ns, block(at))).collect();
        of.sort_unstable();
        of
    }
}

/// How the 50th, 90th and 99th percentile changed from one set of times to the other. Nothing where one of them is empty.
pub fn changes(a: &Times, b: &Times) -> Vec<Change> {
    let (sorted_a, sorted_b) = (a.sorted(), b.sorted());
    let none = [1; BLOCKS];
    let (Some(now_a), Some(now_b)) = (percentiles(&sorted_a, &none), percentiles(&sorted_b, &none)) else {
        return Vec::new();
    };
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let mut differences: [Vec<i64>; 3] = Default::default();
    for _ in 0..DRAWS {
        let (drawn_a, drawn_b) = (draw(&mut chance), draw(&mut chance));
        if let (Some(a), Some(b)) = (percentiles(&sorted_a, &drawn_a), percentiles(&sorted_b, &drawn_b)) {
            for ((of, a), b) in differences.iter_mut().zip(a).zip(b) {
                of.push(i64::try_from(i128::from(b) - i128::from(a)).unwrap_or(if b > a {
                    i64::MAX
                } else {
                    i64::MIN
                }));
            }
        }
    }
    let fewest = sorted_a.len().min(sorted_b.len());
    let mut changes = Vec::new();
    for (((percent, mut of), a_ns), b_ns) in [50_u8, 90, 99].into_iter().zip(differences).zip(now_a).zip(now_b) {
        of.sort_unstable();
        let beyond = fewest.saturating_mul(usize::from(100 - percent)) / 100;
        // Half of what the bounds leave out lies on each side.
        let out = of.len().saturating_mul(usize::from(100 - Change::CONFIDENCE_PERCENT)) / 200;
        let bounds =
            of.get(out).copied().zip(of.len().checked_sub(out.saturating_add(1)).and_then(|at| of.get(at)).copied());
        let bounds_ns = bounds.filter(|_| beyond >= LEAST_BEYOND && fewest >= LEAST_IN_BLOCK * BLOCKS);
        changes.push(Change { percent, a_ns, b_ns, bounds_ns });
    }
    changes
}

/// How often each block is drawn.
fn draw(chance: &mut Chance) -> [u16; BLOCKS] {
    let mut drawn = [0_u16; BLOCKS];
    for _ in 0..BLOCKS {
        if let Some(n) = usize::try_from(chance.below(BLOCKS as u64)).ok().and_then(|at| drawn.get_mut(at)) {
            *n = n.saturating_add(1);
        }
    }
    drawn
}

/// The nearest ranks, with each value counted as often as its block was drawn.
fn percentiles(sorted: &[(u64, u8)], weights: &[u16; BLOCKS]) -> Option<[u64; 3]> {
    let weight = |block: u8| u64::from(weights.get(usize::from(block)).copied().unwrap_or(0));
    let total: u64 = sorted.iter().map(|(_, block)| weight(*block)).sum();
    let ranks = [50, 90, 99].map(|percent| (total * percent).div_ceil(100).max(1));
    let mut found = [None; 3];
    let mut passed = 0;
    let mut next = found.iter_mut().zip(ranks).peekable();
    for (ns, block) in sorted {
        passed += weight(*block);
        while let Some((place, _)) = next.next_if(|(_, rank)| passed >= *rank) {
            *place = Some(*ns);
        }
    }
    let [Some(p50), Some(p90), Some(p99)] = found else { return None };
    Some([p50, p90, p99])
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::Verdict;

    /// Times of which each depends on the one before, as those of a queue do.
    fn walk(seed: u64, count: u64, scale: u64) -> Times {
        let mut chance = Chance(seed);
        let (mut times, mut depth) = (Times::default(), 5_i64);
        for _ in 0..count {
            depth = (depth + chance.below(3) as i64 - 1).clamp(0, 10);
            times.add((depth as u64 * 100 + chance.below(100)) * scale);
        }
        times
    }

    fn verdicts(a: &Times, b: &Times) -> Vec<Verdict> {
        changes(a, b).iter().map(Change::verdict).collect()
    }

    #[test]
    fn of_the_same_source_a_difference_is_seldom_told() {
        let told: usize = (1..=8)
            .map(|seed| {
                let of = verdicts(&walk(seed * 7 + 1, 3_000, 1), &walk(seed * 13 + 5, 3_000, 1));
                usize::from(of[0] != Verdict::NotTold)
            })
            .sum();
        // At 99 % one of 100 is expected.
        assert!(told <= 1, "{told} of 8");
    }

    #[test]
    fn a_difference_that_is_there_is_told_with_its_sign() {
        assert_eq!(verdicts(&walk(1, 3_000, 1), &walk(2, 3_000, 2)), [Verdict::Longer; 3]);
        assert_eq!(verdicts(&walk(1, 3_000, 3), &walk(2, 3_000, 1)), [Verdict::Shorter; 3]);
        let change = changes(&walk(1, 3_000, 1), &walk(2, 3_000, 2))[0];
        let (low, high) = change.bounds_ns.unwrap();
        let difference = (change.b_ns - change.a_ns) as i64;
        assert!(low <= difference && difference <= high, "{change:?}");
    }

    #[test]
    fn of_few_jobs_nothing_is_told() {
        assert_eq!(verdicts(&walk(1, 30, 1), &walk(2, 30, 9)), [Verdict::TooFew; 3]);
        let of = verdicts(&walk(1, 900, 1), &walk(2, 900, 9));
        assert_eq!(of, [Verdict::Longer, Verdict::Longer, Verdict::TooFew], "nine values lie beyond the 99th");
        assert!(changes(&Times::default(), &walk(1, 30, 1)).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_keeps_its_order_and_percentiles() {
        let mut times = Times::default();
        (0..1_000_000).for_each(|ns| times.add(ns));
        assert!(times.values.len() < MOST && times.values.len() > MOST / 4, "{}", times.values.len());
        assert!(times.values.is_sorted());
        let [p50, p90, p99] = percentiles(&times.sorted(), &[1; BLOCKS]).unwrap();
        for (found, exact) in [(p50, 500_000_u64), (p90, 900_000), (p99, 990_000)] {
            assert!(found.abs_diff(exact) < 2_000, "{found} {exact}");
        }
    }

    #[test]
    fn few_times_are_kept_whole() {
        let mut times = Times::default();
        [5, 3, 9].into_iter().for_each(|ns| times.add(ns));
        assert_eq!(times.values, [5, 3, 9]);
    }
}
