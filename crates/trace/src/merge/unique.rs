//! Whether the offset that common events say is the only one that would do.
//!
//! After another start of the machine contexts and seqnos are given out again, and so are addresses at any time: that two events have the
//! same name does not prove that they are one. What proves it is that their times fit. They do not where all lie closer together than the
//! offsets that they say, and they prove nothing where jobs come at regular times: moved by one or several of them, nearly all fit again.

use super::landmarks::{Doubt, Pair};

/// Pairs that are looked at, which follow each other.
const STRETCH: usize = 512;

/// What two recorders differ by at least: text has microseconds.
const LEAST_NS: u64 = 2_000;

/// Clocks drift apart by no more, in parts of a thousand million.
const MOST_DRIFT: u64 = 500_000;

/// How many times longer than what they differ by the time must be in which the events lie.
const LEAST_LENGTH: u64 = 8;

/// Why another offset may be as right as the one that these pairs agree about. They are in order of their own times.
pub(super) fn doubt(pairs: &[Pair]) -> Option<Doubt> {
    let begin = pairs.len().saturating_sub(STRETCH) / 2;
    let stretch = without_drift(pairs.iter().skip(begin).take(STRETCH).copied().collect());
    let mut sorted: Vec<i64> = stretch.iter().map(|pair| pair.apart()).collect();
    sorted.sort_unstable();
    let offset_ns = *sorted.get(sorted.len() / 2)?;
    let apart_ns = spread(&sorted).saturating_mul(2).max(LEAST_NS);
    let length_ns = stretch.last()?.own.abs_diff(stretch.first()?.own);
    if length_ns < apart_ns.saturating_mul(LEAST_LENGTH) {
        return Some(Doubt::Short { length_ns, apart_ns });
    }
    let (moved_ns, events) = second_best(&stretch, offset_ns, apart_ns)?;
    let is_as_good = events.saturating_mul(2) > stretch.len();
    is_as_good.then_some(Doubt::Other { offset_ns: offset_ns.saturating_add(moved_ns), events: events as u64 })
}

/// How far apart these are, but for the tenth at either end.
pub(super) fn spread(sorted: &[i64]) -> u64 {
    let tenth = sorted.len() / 10;
    let at = |at: usize| sorted.get(at).copied();
    let (first, last) = (at(tenth), at(sorted.len().saturating_sub(1).saturating_sub(tenth)));
    first.zip(last).map_or(0, |(first, last)| last.abs_diff(first))
}

/// The same where both clocks run equally fast.
fn without_drift(mut stretch: Vec<Pair>) -> Vec<Pair> {
    // Where each third has its middle, and what is between the first and the last of them.
    let third = stretch.len() / 3;
    let middle = |of: Option<&[Pair]>| {
        let mut of: Vec<i64> = of?.iter().map(Pair::apart).collect();
        of.sort_unstable();
        of.get(of.len() / 2).copied()
    };
    let ends = (middle(stretch.get(..third)), middle(stretch.get(stretch.len().saturating_sub(third)..)));
    let begin = stretch.first().map_or(0, |pair| pair.own);
    let length = stretch.last().map_or(0, |pair| pair.own.saturating_sub(begin));
    let ((Some(first), Some(last)), 1..) = (ends, length) else { return stretch };
    // Two thirds of the length lie between them.
    let apart = i128::from(last.saturating_sub(first)).saturating_mul(1_500_000_000);
    let drift = apart.checked_div(length.into()).and_then(|drift| i64::try_from(drift).ok());
    let Some(drift) = drift.filter(|drift| drift.unsigned_abs() <= MOST_DRIFT) else { return stretch };
    for pair in &mut stretch {
        let run = i128::from(pair.own.saturating_sub(begin)).saturating_mul(drift.into()) / 1_000_000_000;
        pair.other = pair.other.wrapping_sub(i64::try_from(run).unwrap_or(0).cast_unsigned());
    }
    stretch
}

/// By how much more the first times would have to be moved so that most of them meet other events of their kind, and how many do.
fn second_best(stretch: &[Pair], offset_ns: i64, apart_ns: u64) -> Option<(i64, usize)> {
    let mut moves: Vec<(i64, usize)> = Vec::new();
    for (at, pair) in stretch.iter().enumerate() {
        let others = stretch.iter().enumerate().filter(|(of, other)| *of != at && other.lane == pair.lane);
        let moved = others.map(|(_, other)| Pair { other: other.other, ..*pair }.apart().saturating_sub(offset_ns));
        // Less is the same offset, as exactly as it is known.
        moves.extend(moved.filter(|moved| moved.unsigned_abs() > apart_ns.saturating_mul(2)).map(|moved| (moved, at)));
    }
    moves.sort_unstable();
    let mut counts = vec![0_u32; stretch.len()];
    let (mut best, mut met, mut first) = (None, 0_usize, 0_usize);
    for (last, (moved, at)) in moves.iter().enumerate() {
        if let Some(count) = counts.get_mut(*at) {
            met = met.saturating_add(usize::from(*count == 0));
            *count = count.saturating_add(1);
        }
        while let Some((earliest, at)) = moves.get(first).filter(|(of, _)| of.abs_diff(*moved) > apart_ns) {
            debug_assert!(earliest <= moved && first <= last, "they are in order");
            if let Some(count) = counts.get_mut(*at) {
                *count = count.saturating_sub(1);
                met = met.saturating_sub(usize::from(*count == 0));
            }
            first = first.saturating_add(1);
        }
        if best.is_none_or(|(_, most)| met > most) {
            let middle = moves.get(first.midpoint(last)).map_or(*moved, |(moved, _)| *moved);
            best = Some((middle, met));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(times: &[u64], late: impl Fn(usize) -> u64) -> Vec<Pair> {
        let of = |(n, own): (usize, &u64)| Pair { own: *own, other: *own + 5_000 + late(n), lane: 1, kind: 1 };
        times.iter().enumerate().map(of).collect()
    }

    /// Some nanoseconds that do not repeat (the finalizer of SplitMix64).
    fn chance(n: u64, end: u64) -> u64 {
        let n = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ n >> 31) % end
    }

    #[test]
    fn irregular_times_tell_one_offset_and_regular_ones_any_multiple() {
        let irregular: Vec<u64> = (0..40).map(|n| n * 1_000_000 + chance(n, 800_000)).collect();
        assert_eq!(doubt(&pairs(&irregular, |n| chance(n as u64, 3_000))), None);
        let regular: Vec<u64> = (0..40).map(|n| n * 1_000_000).collect();
        let Some(Doubt::Other { offset_ns, events }) = doubt(&pairs(&regular, |n| chance(n as u64, 3_000))) else {
            panic!("taken for sure")
        };
        assert!((offset_ns - 5_000).unsigned_abs() > 900_000 && events >= 36, "{offset_ns} {events}");
        // Nearly regular is enough where the recorders differ by more.
        let nearly: Vec<u64> = regular.iter().zip(0..).map(|(at, n)| at + chance(n, 100_000)).collect();
        assert_eq!(doubt(&pairs(&nearly, |n| chance(n as u64, 2_000))), None);
        assert!(matches!(doubt(&pairs(&nearly, |n| chance(n as u64, 90_000))), Some(Doubt::Other { .. })));
        // Of two kinds of which one is regular, as many as half may meet.
        let mut both = pairs(&irregular, |_| 0);
        both.extend(pairs(&regular[..30], |_| 0).iter().map(|pair| Pair { lane: 2, ..*pair }));
        both.sort_by_key(|pair| pair.own);
        assert_eq!(doubt(&both), None);
    }

    #[test]
    fn a_burst_that_is_shorter_than_what_its_events_differ_by_tells_nothing() {
        let burst: Vec<u64> = (0..20).map(|n| n * 1_000 + chance(n, 900)).collect();
        assert!(matches!(doubt(&pairs(&burst, |n| chance(n as u64, 9_000))), Some(Doubt::Short { .. })));
        assert_eq!(doubt(&[]), None);
    }

    #[test]
    fn clocks_that_drift_apart_make_no_difference() {
        // A microsecond in ten milliseconds, over a minute.
        let times: Vec<u64> = (0..6_000).map(|n| n * 10_000_000 + chance(n, 3_000_000)).collect();
        assert_eq!(doubt(&pairs(&times, |n| n as u64 * 1_000)), None);
    }
}
