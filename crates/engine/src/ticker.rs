//! Ticks that do not drift, and a way to end the wait for one.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ends waits: clones share one state, any of them may stop all the others' waits for good.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Not stopped yet.
    pub fn new() -> Self {
        Stop::default()
    }

    /// Stops: every wait returns at once, now and later.
    pub fn stop(&self) {
        let (stopped, changed) = &*self.0;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the instant, or until stopped; true when stopped.
    pub fn wait_until(&self, until: Instant) -> bool {
        let (stopped, changed) = &*self.0;
        let mut guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *guard {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A tick that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Ticks that were due before this one and were left out, because the work took too long or the machine was suspended.
    pub missed: u64,
}

/// Ticks at whole multiples of the interval after its start: what a tick's work takes does not add up.
#[derive(Debug)]
pub struct Ticker {
    interval: Duration,
    next: Instant,
}

impl Ticker {
    /// The first tick comes one interval from now.
    ///
    /// An interval of zero is taken as one millisecond: a ticker never spins.
    pub fn new(interval: Duration) -> Self {
        Ticker::starting(interval, Instant::now())
    }

    fn starting(interval: Duration, start: Instant) -> Self {
        // A year is as good as never, and an instant so far away can still be told.
        let interval = interval.clamp(Duration::from_millis(1), Duration::from_secs(365 * 24 * 3600));
        Ticker { interval, next: start + interval }
    }

    /// Waits for the next tick; `None` when stopped.
    pub fn wait(&mut self, stop: &Stop) -> Option<Tick> {
        if stop.wait_until(self.next) { None } else { Some(self.advance(Instant::now())) }
    }

    /// Moves on to the first tick after `now`.
    fn advance(&mut self, now: Instant) -> Tick {
        let behind = now.saturating_duration_since(self.next);
        let missed = (behind.as_nanos() / self.interval.as_nanos()).min(u128::from(u32::MAX)) as u32;
        self.next += self.interval.saturating_mul(missed + 1);
        Tick { missed: u64::from(missed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn lateness_does_not_add_up() {
        let start = Instant::now();
        let mut t = Ticker::starting(100 * MS, start);
        for k in 1..=50 {
            // Each tick is served 30 ms late; the next is due on the grid all the same.
            assert_eq!(t.advance(start + 100 * MS * k + 30 * MS), Tick { missed: 0 });
            assert_eq!(t.next, start + 100 * MS * (k + 1));
        }
    }

    #[test]
    fn ticks_left_out_are_counted_and_the_grid_is_kept() {
        let start = Instant::now();
        let mut t = Ticker::starting(100 * MS, start);
        assert_eq!(t.advance(start + 350 * MS), Tick { missed: 2 });
        assert_eq!(t.next, start + 400 * MS);
        assert_eq!(t.advance(start + 400 * MS), Tick { missed: 0 });
    }

    #[test]
    fn stop_ends_a_wait_from_another_thread() {
        let stop = Stop::new();
        let other = stop.clone();
        let waiter = std::thread::spawn(move || Ticker::new(Duration::from_secs(3600)).wait(&other));
        stop.stop();
        assert_eq!(waiter.join().unwrap(), None);
        assert!(stop.is_stopped());
    }

    #[test]
    fn an_interval_without_end_is_a_year() {
        let mut ticker = Ticker::new(Duration::MAX);
        assert_eq!(ticker.advance(Instant::now()), Tick { missed: 0 });
    }

    #[test]
    fn zero_interval_does_not_spin() {
        assert_eq!(Ticker::new(Duration::ZERO).interval, MS);
    }
}
