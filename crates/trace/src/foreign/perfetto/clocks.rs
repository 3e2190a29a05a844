//! The clocks of a trace, brought to CLOCK_MONOTONIC.

use super::wire::Fields;
use rustc_hash::FxHashMap;

/// `BuiltinClock` (protos/perfetto/common/builtin_clock.proto).
const REALTIME: u32 = 1;
const MONOTONIC: u32 = 3;
const MONOTONIC_RAW: u32 = 5;
const BOOTTIME: u32 = 6;

/// Pairs that are kept of two clocks, those of the kernel's own of all sequences together. Perfetto writes one every ten seconds.
const MOST_PAIRS: usize = 1 << 16;
/// CLOCK_BOOTTIME runs ahead of CLOCK_MONOTONIC by the time that the machine slept: what is less than this between two snapshots is the
/// time between two readings of a snapshot.
const NO_SLEEP_NS: u64 = 1_000_000;

/// The clock of the times of a bundle (`FtraceClock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Clock {
    Boottime,
    MonotonicRaw,
    /// The kernel's own `local` or `global`, of a sequence of packets.
    Kernel(u32),
    Unknown,
}

/// Moments that two clocks told.
#[derive(Debug, Default)]
struct Pairs(Vec<(u64, u64)>);

impl Pairs {
    fn add(&mut self, from: u64, to: u64) {
        if self.0.len() < MOST_PAIRS {
            self.0.push((from, to));
        }
    }

    /// A time, by the last moment before it, or the first one.
    fn convert(&self, at: u64) -> Option<u64> {
        let before = self.0.partition_point(|(from, _)| *from <= at).saturating_sub(1);
        let (from, to) = *self.0.get(before)?;
        let ahead = i128::from(to).checked_sub(i128::from(from))?;
        u64::try_from(i128::from(at).checked_add(ahead)?).ok()
    }
}

/// What the snapshots of a trace tell.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    boottime: Pairs,
    raw: Pairs,
    /// From the kernel's clocks to CLOCK_BOOTTIME, by sequence, and how many there are of all.
    kernel: FxHashMap<u32, Pairs>,
    kernel_pairs: usize,
    /// The first moment that CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_REALTIME told.
    pub(super) first: Option<(u64, u64, u64)>,
}

impl Clocks {
    /// Takes a `ClockSnapshot`.
    pub(super) fn snapshot(&mut self, message: &[u8]) {
        let (mut monotonic, mut boottime, mut raw, mut realtime) = (None, None, None, None);
        for (field, value) in Fields::of(message) {
            let Some(clock) = value.bytes().filter(|_| field == 1) else { continue };
            let (mut id, mut at) = (None, None);
            for (field, value) in Fields::of(clock) {
                match field {
                    1 => id = value.small(),
                    2 => at = value.number(),
                    _ => {}
                }
            }
            match id {
                Some(MONOTONIC) => monotonic = at,
                Some(BOOTTIME) => boottime = at,
                Some(MONOTONIC_RAW) => raw = at,
                Some(REALTIME) => realtime = at,
                _ => {}
            }
        }
        let Some(monotonic) = monotonic else { return };
        if let Some(boottime) = boottime {
            let known = self.boottime.0.last().map(|(from, to)| from.abs_diff(*to));
            if known.is_none_or(|known| known.abs_diff(boottime.abs_diff(monotonic)) > NO_SLEEP_NS) {
                self.boottime.add(boottime, monotonic);
            }
        }
        if let Some(raw) = raw {
            self.raw.add(raw, monotonic);
        }
        if let (None, Some(boottime), Some(realtime)) = (self.first, boottime, realtime) {
            self.first = Some((monotonic, boottime, realtime));
        }
    }

    /// Takes what a bundle tells of the kernel's clock.
    pub(super) fn kernel(&mut self, sequence: u32, own: u64, boottime: u64) {
        if self.kernel_pairs >= MOST_PAIRS {
            return;
        }
        let pairs = self.kernel.entry(sequence).or_default();
        if pairs.0.last().is_none_or(|(known, _)| *known != own) {
            pairs.add(own, boottime);
            self.kernel_pairs = self.kernel_pairs.saturating_add(1);
        }
    }

    /// Snapshots may stand in the file in any order.
    pub(super) fn sort(&mut self) {
        let kernel = self.kernel.values_mut();
        kernel.chain([&mut self.boottime, &mut self.raw]).for_each(|pairs| pairs.0.sort_unstable());
    }

    /// A time on CLOCK_MONOTONIC. None where no snapshot leads there.
    pub(super) fn monotonic(&self, clock: Clock, at: u64) -> Option<u64> {
        match clock {
            Clock::Boottime => self.boottime.convert(at),
            Clock::MonotonicRaw => self.raw.convert(at),
            Clock::Kernel(sequence) => self.boottime.convert(self.kernel.get(&sequence)?.convert(at)?),
            Clock::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(clocks: &[(u8, u8)]) -> Vec<u8> {
        clocks.iter().flat_map(|(id, at)| [0x0a, 4, 0x08, *id, 0x10, *at]).collect()
    }

    #[test]
    fn times_follow_the_snapshot_before_them() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.monotonic(Clock::Boottime, 50), None);
        clocks.snapshot(&snapshot(&[(3, 10), (6, 30), (1, 99)]));
        clocks.snapshot(&snapshot(&[(5, 100), (3, 90)]));
        clocks.snapshot(&snapshot(&[(5, 50), (3, 45)]));
        clocks.kernel(7, 5, 60);
        clocks.sort();
        assert_eq!(clocks.first, Some((10, 30, 99)));
        assert_eq!(clocks.monotonic(Clock::Boottime, 50), Some(30));
        assert_eq!(clocks.monotonic(Clock::Boottime, 10), None, "before the machine started");
        assert_eq!(clocks.monotonic(Clock::MonotonicRaw, 60), Some(55));
        assert_eq!(clocks.monotonic(Clock::MonotonicRaw, 110), Some(100));
        assert_eq!(clocks.monotonic(Clock::Kernel(7), 6), Some(41));
        assert_eq!(clocks.monotonic(Clock::Kernel(8), 6), None);
        assert_eq!(clocks.monotonic(Clock::Unknown, 6), None);
    }

    #[test]
    fn a_sleep_is_a_new_difference_and_readings_apart_are_none() {
        let of = |id: u8, at: u64| {
            let mut clock = vec![0x08, id, 0x10];
            let mut at = at;
            while at >= 0x80 {
                clock.push(at as u8 | 0x80);
                at >>= 7;
            }
            clock.push(at as u8);
            let mut bytes = vec![0x0a, clock.len() as u8];
            bytes.extend(clock);
            bytes
        };
        let mut clocks = Clocks::default();
        for (monotonic, boottime) in [(1_000, 1_000), (2_000, 2_300), (3_000, 5_003_000)] {
            clocks.snapshot(&[of(3, monotonic), of(6, boottime)].concat());
        }
        clocks.sort();
        assert_eq!(clocks.monotonic(Clock::Boottime, 2_400), Some(2_400));
        assert_eq!(clocks.monotonic(Clock::Boottime, 5_003_100), Some(3_100));
    }
}
