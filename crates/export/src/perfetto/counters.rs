//! How many jobs a ring has, and for how much of the time it was busy.

/// What a ring's counters show, kept up to date event by event.
#[derive(Debug, Default)]
pub(super) struct RingCounters {
    depth: u64,
    running: u64,
    busy_since_ns: u64,
    window_ns: u64,
    window_from_ns: u64,
    busy_in_window_ns: u64,
    shown: Option<u64>,
}

/// Shares of time are told to a thousandth of a percent.
const SHARES: f64 = 1e5;

impl RingCounters {
    /// Begins with the window in which `at_ns` lies; the first one of the trace began at `origin_ns`.
    pub(super) fn new(origin_ns: u64, at_ns: u64, window_ns: u64) -> Self {
        let window_ns = window_ns.max(1);
        let into_ns = at_ns.saturating_sub(origin_ns).checked_rem(window_ns).unwrap_or(0);
        RingCounters { window_ns, window_from_ns: at_ns.saturating_sub(into_ns), ..RingCounters::default() }
    }

    /// A job was submitted: how many there are.
    pub(super) fn submitted(&mut self) -> u64 {
        self.depth = self.depth.saturating_add(1);
        self.depth
    }

    /// A job left: how many are left.
    pub(super) fn left(&mut self) -> u64 {
        self.depth = self.depth.saturating_sub(1);
        self.depth
    }

    /// A job was handed over.
    pub(super) fn began(&mut self, at_ns: u64) {
        if self.running == 0 {
            self.busy_since_ns = at_ns;
        }
        self.running = self.running.saturating_add(1);
    }

    /// A job that had been handed over ended.
    pub(super) fn ended(&mut self, at_ns: u64) {
        self.running = self.running.saturating_sub(1);
        if self.running == 0 {
            self.add_busy(at_ns);
        }
    }

    /// Time goes on: gives the share of each window that is over, by the time of its begin, where it differs from the one before.
    pub(super) fn pass(&mut self, now_ns: u64, mut show: impl FnMut(u64, f64)) {
        let end_ns = self.window_from_ns.saturating_add(self.window_ns);
        let Some(beyond_ns) = now_ns.checked_sub(end_ns) else { return };
        if self.running > 0 {
            self.add_busy(end_ns);
        }
        self.show(self.busy_in_window_ns, &mut show);
        self.busy_in_window_ns = 0;
        self.window_from_ns = end_ns;
        // In the windows between nothing changed.
        let windows = beyond_ns.checked_div(self.window_ns).unwrap_or(0);
        if windows > 0 {
            self.show(if self.running > 0 { self.window_ns } else { 0 }, &mut show);
            self.window_from_ns = end_ns.saturating_add(windows.saturating_mul(self.window_ns));
        }
    }

    /// The trace ends, within a window: its share is of the time that it had.
    pub(super) fn finish(&mut self, now_ns: u64, mut show: impl FnMut(u64, f64)) {
        self.pass(now_ns, &mut show);
        if self.running > 0 {
            self.add_busy(now_ns);
        }
        self.window_ns = now_ns.saturating_sub(self.window_from_ns);
        if self.window_ns > 0 {
            self.show(self.busy_in_window_ns, &mut show);
        }
    }

    fn add_busy(&mut self, to_ns: u64) {
        let from_ns = self.busy_since_ns.max(self.window_from_ns);
        self.busy_in_window_ns = self.busy_in_window_ns.saturating_add(to_ns.saturating_sub(from_ns));
    }

    fn show(&mut self, busy_ns: u64, show: &mut impl FnMut(u64, f64)) {
        let share = (busy_ns as f64 / self.window_ns.max(1) as f64 * SHARES).round() as u64;
        if self.shown.replace(share) != Some(share) {
            show(self.window_from_ns, share as f64 * 100.0 / SHARES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RingCounters;

    #[test]
    fn shares_of_windows() {
        let mut ring = RingCounters::new(900, 1_005, 100);
        let mut shown = Vec::new();
        ring.began(1_050);
        ring.pass(1_050, |at, share| shown.push((at, share)));
        // Busy through windows in which nothing happens.
        ring.pass(1_475, |at, share| shown.push((at, share)));
        ring.ended(1_475);
        ring.pass(2_010, |at, share| shown.push((at, share)));
        ring.finish(2_050, |at, share| shown.push((at, share)));
        assert_eq!(shown, [(1_000, 50.0), (1_100, 100.0), (1_400, 75.0), (1_500, 0.0)]);
    }

    #[test]
    fn the_last_window_is_as_long_as_the_trace() {
        let mut ring = RingCounters::new(0, 0, 100);
        let mut shown = Vec::new();
        ring.began(0);
        ring.began(5);
        ring.ended(10);
        ring.finish(40, |at, share| shown.push((at, share)));
        assert_eq!(shown, [(0, 100.0)]);
    }

    #[test]
    fn times_that_cannot_be_do_no_harm() {
        let mut ring = RingCounters::new(9, u64::MAX, 0);
        ring.began(7);
        ring.pass(u64::MAX, |_, share| assert!((0.0..=100.0).contains(&share)));
        ring.ended(3);
        ring.finish(0, |_, share| assert!((0.0..=100.0).contains(&share)));
        assert_eq!(ring.left(), 0);
    }
}
