//! A share that follows how much there is, so that about so many events come as were asked for.

use crate::capture::settings::Sampling;

/// So often the share is looked at.
const INTERVAL_NS: u64 = 100_000_000;

/// By so much the share rises at most: from a hundredth to all in some two seconds.
const RISE: f64 = 1.25;
const LEAST_RISE: f64 = 0.001;

/// What was seen since the share was last changed.
#[derive(Debug)]
pub(super) struct Adaptive {
    target_per_second: Option<u64>,
    most: f64,
    share: f64,
    since_ns: Option<u64>,
    recorded: u64,
    /// What the sample had left out by then, and what was not slow, since the beginning of the capture.
    left_out: u64,
    quick: u64,
}

impl Adaptive {
    pub(super) fn new(sampling: &Sampling) -> Adaptive {
        Adaptive {
            target_per_second: sampling.target_events_per_second,
            most: sampling.share,
            share: sampling.share,
            since_ns: None,
            recorded: 0,
            left_out: 0,
            quick: 0,
        }
    }

    /// Events came.
    pub(super) fn count(&mut self, records: u64) {
        self.recorded = self.recorded.saturating_add(records);
    }

    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        let is_time = self.since_ns.is_none_or(|since| now_ns.saturating_sub(since) >= INTERVAL_NS);
        self.target_per_second.is_some() && is_time
    }

    /// The share from now on: the target over all that there was, were it to go on so. `left_out` is what the sample has left out since
    /// the beginning, `quick` what it chose and was not recorded because it was not slow: of what is left out now, as large a part would not
    /// be, either. None at first, when there is nothing to go by.
    pub(super) fn adjust(&mut self, now_ns: u64, left_out: u64, quick: u64) -> Option<f64> {
        let target = self.target_per_second?;
        let since = self.since_ns.replace(now_ns);
        let left_out_since = left_out.saturating_sub(self.left_out);
        let chosen = self.recorded.saturating_add(quick.saturating_sub(self.quick));
        let recorded_part = if chosen == 0 { 1.0 } else { self.recorded as f64 / chosen as f64 };
        let seen = self.recorded as f64 + left_out_since as f64 * recorded_part;
        (self.left_out, self.quick, self.recorded) = (left_out, quick, 0);
        let span_s = now_ns.saturating_sub(since?) as f64 / 1e9;
        let room = target as f64 * span_s;
        let fitting = if seen <= room { self.most } else { (room / seen).min(self.most) };
        // Down at once, up in steps: jobs come in bursts, and a pause is no reason to record the next one whole.
        self.share = fitting.min(self.share * RISE + LEAST_RISE);
        Some(self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adaptive(target: u64, share: f64) -> Adaptive {
        Adaptive::new(&Sampling { share, target_events_per_second: Some(target), ..Sampling::default() })
    }

    const STEP: u64 = INTERVAL_NS;

    #[test]
    fn the_share_is_what_was_asked_for_over_what_there_is() {
        let mut adaptive = adaptive(100, 1.0);
        assert!(adaptive.is_due(0));
        assert_eq!(adaptive.adjust(0, 0, 0), None);
        assert!(!adaptive.is_due(STEP - 1) && adaptive.is_due(STEP));
        // 40 events in a tenth of a second, none left out yet: 10 were asked for.
        adaptive.count(40);
        assert_eq!(adaptive.adjust(STEP, 0, 0), Some(0.25));
        // Then a quarter of them.
        adaptive.count(10);
        assert_eq!(adaptive.adjust(2 * STEP, 30, 0), Some(0.25));
        // Then twice as many.
        adaptive.count(20);
        assert_eq!(adaptive.adjust(3 * STEP, 90, 0), Some(0.125));
    }

    #[test]
    fn after_a_pause_the_share_rises_in_steps() {
        let mut adaptive = adaptive(100, 1.0);
        adaptive.adjust(0, 0, 0);
        adaptive.count(1000);
        assert_eq!(adaptive.adjust(STEP, 0, 0), Some(0.01));
        let mut shares = Vec::new();
        for step in 2..30 {
            shares.extend(adaptive.adjust(step * STEP, 0, 0));
        }
        assert!((shares[0] - 0.0135).abs() < 1e-9, "{shares:?}");
        let steps = shares.iter().position(|share| *share >= 1.0);
        assert!(steps.is_some_and(|steps| (10..22).contains(&steps)), "{shares:?}");
        assert!(shares.windows(2).all(|pair| pair[0] <= pair[1]));
        // Down at once.
        adaptive.count(1000);
        assert_eq!(adaptive.adjust(30 * STEP, 0, 0), Some(0.01));
    }

    #[test]
    fn the_share_asked_for_is_the_most() {
        let mut adaptive = adaptive(100, 0.5);
        adaptive.adjust(0, 0, 0);
        assert_eq!(adaptive.adjust(STEP, 0, 0), Some(0.5));
    }

    #[test]
    fn jobs_that_were_not_slow_are_no_reason_to_thin() {
        let mut adaptive = adaptive(100, 1.0);
        adaptive.adjust(0, 0, 0);
        // 10 events of slow jobs in a tenth of a second, as many as were asked for, and 990 of others.
        adaptive.count(10);
        assert_eq!(adaptive.adjust(STEP, 0, 990), Some(1.0));
        // Twice as many slow ones: half of all is chosen.
        adaptive.count(20);
        assert_eq!(adaptive.adjust(2 * STEP, 0, 2970), Some(0.5));
        // Of those left out, one of a hundred is slow, as of those chosen.
        adaptive.count(10);
        assert_eq!(adaptive.adjust(3 * STEP, 1000, 3960), Some(0.5));
    }

    #[test]
    fn without_a_target_nothing_is_due() {
        assert!(!Adaptive::new(&Sampling::default()).is_due(u64::MAX));
    }
}
