//! Gauges turned into counters, so that they fit beside real ones: each reading stands for the time since the reading before it.

use gpuscope_model::{Counter, Share};

/// A gauge summed up over time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OverTime {
    /// The gauge times nanoseconds.
    sum: u128,
    ns: u64,
    last_ns: Option<u64>,
}

impl OverTime {
    fn add(&mut self, value: u64, now_ns: u64) {
        let ns = self.last_ns.replace(now_ns).map_or(0, |last| now_ns.saturating_sub(last));
        self.sum = self.sum.saturating_add(u128::from(ns).saturating_mul(u128::from(value)));
        self.ns = self.ns.saturating_add(ns);
    }

    /// Adds a percentage: busy nanoseconds of all nanoseconds.
    pub(crate) fn percent(&mut self, percent: u8, now_ns: u64) -> Share {
        self.add(u64::from(percent), now_ns);
        self.share()
    }

    /// Adds nothing: the next percentage stands for the time since the last one, or since now where there is none.
    pub(crate) fn so_far(&mut self, now_ns: u64) -> Share {
        self.last_ns.get_or_insert(now_ns);
        self.share()
    }

    fn share(&self) -> Share {
        Share { part: u64::try_from(self.sum / 100).unwrap_or(u64::MAX), whole: self.ns }
    }

    /// Adds a power in microwatts: microjoules.
    pub(crate) fn microwatts(&mut self, microwatts: u64, now_ns: u64) -> Counter {
        self.add(microwatts, now_ns);
        Counter { value: u64::try_from(self.sum / 1_000_000_000).unwrap_or(u64::MAX), at_ns: now_ns }
    }

    /// The time until the next reading says nothing: the device sleeps.
    pub(crate) fn interrupt(&mut self) {
        self.last_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reading_stands_for_the_time_before_it() {
        let mut busy = OverTime::default();
        assert_eq!(busy.percent(50, 1_000), Share { part: 0, whole: 0 });
        assert_eq!(busy.percent(25, 2_000), Share { part: 250, whole: 1_000 });
        busy.interrupt();
        assert_eq!(busy.percent(100, 9_000), Share { part: 250, whole: 1_000 });
        assert_eq!(busy.percent(100, 9_500), Share { part: 750, whole: 1_500 });
        assert_eq!(busy.so_far(9_600), Share { part: 750, whole: 1_500 });
        assert_eq!(busy.percent(50, 10_000), Share { part: 1_000, whole: 2_000 });
        let mut new = OverTime::default();
        assert_eq!(new.so_far(1_000), Share { part: 0, whole: 0 });
        assert_eq!(new.percent(100, 1_100), Share { part: 100, whole: 100 });
    }

    #[test]
    fn power_becomes_energy() {
        let mut energy = OverTime::default();
        assert_eq!(energy.microwatts(36_000_000, 0).value, 0);
        assert_eq!(energy.microwatts(36_000_000, 500_000_000).value, 18_000_000);
        assert_eq!(energy.microwatts(0, 1_500_000_000), Counter { value: 18_000_000, at_ns: 1_500_000_000 });
        energy.interrupt();
        assert_eq!(energy.microwatts(36_000_000, 9_000_000_000).value, 18_000_000);
        energy.microwatts(u64::MAX, u64::MAX);
        assert_eq!(energy.microwatts(u64::MAX, u64::MAX).value, u64::MAX);
    }

    #[test]
    fn synthetic_clocks_that_step_back_do_not_overflow() {
        let (mut busy, mut energy) = (OverTime::default(), OverTime::default());
        for i in 0..4 {
            let now_ns = if i % 2 == 0 { 0 } else { u64::MAX };
            busy.percent(100, now_ns);
            energy.microwatts(u64::MAX, now_ns);
        }
    }
}
