//! A share that follows how much there is, so that about so many events come as were asked for, or the programs take about so much time.

use crate::capture::settings::Sampling;

/// So often the share is looked at.
const INTERVAL_NS: u64 = 100_000_000;

/// By so much the share rises at most: from a hundredth to all in some two seconds.
const RISE: f64 = 1.25;
const LEAST_RISE: f64 = 0.001;

/// A target of time is out of reach if so long more than that was taken though next to nothing was chosen.
const OUT_OF_REACH_NS: u64 = 1_000_000_000;

/// What was seen since the share was last changed.
#[derive(Debug)]
pub(super) struct Adaptive {
    target_per_second: Option<u64>,
    target_cpu_ratio: Option<f64>,
    most: f64,
    share: f64,
    since_ns: Option<u64>,
    recorded: u64,
    /// What the sample had left out by then, and what was not slow, since the beginning of the capture.
    left_out: u64,
    quick: u64,
    /// What the programs had taken by then.
    spent_ns: u64,
    /// For how long the target of time has been out of reach, and what was taken meanwhile: nanoseconds both.
    beyond: (u64, u64),
    has_told: bool,
}

/// What was counted since the beginning of a capture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Events that the sample left out.
    pub(super) left_out: u64,
    /// Events that it chose and that were not recorded because the job was not slow.
    pub(super) quick: u64,
    /// Time that the programs took; none where it is not measured now.
    pub(super) spent_ns: Option<u64>,
}

impl Adaptive {
    pub(super) fn new(sampling: &Sampling) -> Adaptive {
        Adaptive {
            target_per_second: sampling.target_events_per_second,
            target_cpu_ratio: sampling.target_cpu_ratio,
            most: sampling.share,
            share: sampling.share,
            since_ns: None,
            recorded: 0,
            left_out: 0,
            quick: 0,
            spent_ns: 0,
            beyond: (0, 0),
            has_told: false,
        }
    }

    /// Whether there is a target of time.
    pub(super) fn needs_time(&self) -> bool {
        self.target_cpu_ratio.is_some()
    }

    /// Where a target of time is out of reach, told once: the target, and what is taken though next to nothing is chosen.
    pub(super) fn out_of_reach(&mut self) -> Option<(f64, f64)> {
        let (span_ns, spent_ns) = self.beyond;
        if self.has_told || span_ns < OUT_OF_REACH_NS {
            return None;
        }
        self.has_told = true;
        Some((self.target_cpu_ratio?, spent_ns as f64 / span_ns as f64))
    }

    /// Events came.
    pub(super) fn count(&mut self, records: u64) {
        self.recorded = self.recorded.saturating_add(records);
    }

    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        let is_time = self.since_ns.is_none_or(|since| now_ns.saturating_sub(since) >= INTERVAL_NS);
        (self.target_per_second.is_some() || self.target_cpu_ratio.is_some()) && is_time
    }

    /// The share from now on, were all to go on so. None at first, when there is nothing to go by.
    pub(super) fn adjust(&mut self, now_ns: u64, counted: Counted) -> Option<f64> {
        let since = self.since_ns.replace(now_ns);
        let left_out = counted.left_out.saturating_sub(self.left_out);
        let quick = counted.quick.saturating_sub(self.quick);
        let spent_ns = counted.spent_ns.map(|now_ns| now_ns.saturating_sub(self.spent_ns));
        let recorded = std::mem::take(&mut self.recorded);
        (self.left_out, self.quick) = (counted.left_out, counted.quick);
        self.spent_ns = counted.spent_ns.unwrap_or(self.spent_ns);
        let span_ns = now_ns.saturating_sub(since?);
        let for_events = self.target_per_second.map(|target| {
            // Of what is left out now, as large a part would not be slow, either.
            let chosen = recorded.saturating_add(quick);
            let recorded_part = if chosen == 0 { 1.0 } else { recorded as f64 / chosen as f64 };
            let seen = recorded as f64 + left_out as f64 * recorded_part;
            let room = target as f64 * span_ns as f64 / 1e9;
            if seen <= room { self.most } else { room / seen }
        });
        // What is left out takes time, too, of which nothing is known beforehand: step by step, the share comes to where both together take
        // what may be taken. It goes down to next to nothing where what is left out takes more, and comes up again from there.
        let for_time = self.target_cpu_ratio.map(|target| {
            let room_ns = target * span_ns as f64;
            let is_beyond = self.share < LEAST_RISE && spent_ns.is_some_and(|spent_ns| spent_ns as f64 > room_ns);
            self.beyond = match self.beyond {
                (over_ns, taken_ns) if is_beyond => {
                    (over_ns.saturating_add(span_ns), taken_ns.saturating_add(spent_ns.unwrap_or(0)))
                }
                _ => (0, 0),
            };
            match spent_ns {
                // That nothing is measured says nothing: it stays as it is.
                None => self.share,
                Some(0) => self.most,
                Some(spent_ns) => self.share.max(LEAST_RISE) * room_ns / spent_ns as f64,
            }
        });
        let fitting = for_events.into_iter().chain(for_time).fold(self.most, f64::min);
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

    fn left_out(left_out: u64, quick: u64) -> Counted {
        Counted { left_out, quick, spent_ns: Some(0) }
    }

    fn time(spent_ns: u64) -> Counted {
        Counted { spent_ns: Some(spent_ns), ..Counted::default() }
    }

    const STEP: u64 = INTERVAL_NS;

    #[test]
    fn the_share_is_what_was_asked_for_over_what_there_is() {
        let mut adaptive = adaptive(100, 1.0);
        assert!(adaptive.is_due(0));
        assert_eq!(adaptive.adjust(0, left_out(0, 0)), None);
        assert!(!adaptive.is_due(STEP - 1) && adaptive.is_due(STEP));
        // 40 events in a tenth of a second, none left out yet: 10 were asked for.
        adaptive.count(40);
        assert_eq!(adaptive.adjust(STEP, left_out(0, 0)), Some(0.25));
        // Then a quarter of them.
        adaptive.count(10);
        assert_eq!(adaptive.adjust(2 * STEP, left_out(30, 0)), Some(0.25));
        // Then twice as many.
        adaptive.count(20);
        assert_eq!(adaptive.adjust(3 * STEP, left_out(90, 0)), Some(0.125));
    }

    #[test]
    fn after_a_pause_the_share_rises_in_steps() {
        let mut adaptive = adaptive(100, 1.0);
        adaptive.adjust(0, left_out(0, 0));
        adaptive.count(1000);
        assert_eq!(adaptive.adjust(STEP, left_out(0, 0)), Some(0.01));
        let mut shares = Vec::new();
        for step in 2..30 {
            shares.extend(adaptive.adjust(step * STEP, left_out(0, 0)));
        }
        assert!((shares[0] - 0.0135).abs() < 1e-9, "{shares:?}");
        let steps = shares.iter().position(|share| *share >= 1.0);
        assert!(steps.is_some_and(|steps| (10..22).contains(&steps)), "{shares:?}");
        assert!(shares.windows(2).all(|pair| pair[0] <= pair[1]));
        // Down at once.
        adaptive.count(1000);
        assert_eq!(adaptive.adjust(30 * STEP, left_out(0, 0)), Some(0.01));
    }

    #[test]
    fn the_share_asked_for_is_the_most() {
        let mut adaptive = adaptive(100, 0.5);
        adaptive.adjust(0, left_out(0, 0));
        assert_eq!(adaptive.adjust(STEP, left_out(0, 0)), Some(0.5));
    }

    #[test]
    fn jobs_that_were_not_slow_are_no_reason_to_thin() {
        let mut adaptive = adaptive(100, 1.0);
        adaptive.adjust(0, left_out(0, 0));
        // 10 events of slow jobs in a tenth of a second, as many as were asked for, and 990 of others.
        adaptive.count(10);
        assert_eq!(adaptive.adjust(STEP, left_out(0, 990)), Some(1.0));
        // Twice as many slow ones: half of all is chosen.
        adaptive.count(20);
        assert_eq!(adaptive.adjust(2 * STEP, left_out(0, 2970)), Some(0.5));
        // Of those left out, one of a hundred is slow, as of those chosen.
        adaptive.count(10);
        assert_eq!(adaptive.adjust(3 * STEP, left_out(1000, 3960)), Some(0.5));
    }

    /// Programs that take `left_out` of the time when nothing is recorded and `all` more when everything is, for so many steps. The share and
    /// the part of the time that they take in the last.
    fn after(steps: u64, target: f64, left_out: f64, all: f64) -> (f64, f64) {
        let sampling = Sampling { target_cpu_ratio: Some(target), ..Sampling::default() };
        let (mut adaptive, mut share, mut spent) = (Adaptive::new(&sampling), 1.0, 0.0);
        assert!(adaptive.is_due(0) && adaptive.adjust(0, Counted::default()).is_none());
        let mut ratio = 0.0;
        for step in 1..=steps {
            ratio = left_out + share * all;
            spent += ratio * STEP as f64;
            let counted = Counted { spent_ns: Some(spent as u64), ..Counted::default() };
            share = adaptive.adjust(step * STEP, counted).unwrap();
        }
        (share, ratio)
    }

    #[test]
    fn the_programs_take_the_time_that_they_may() {
        // Eight percent of a processor, of which two may be taken; leaving all out takes one.
        let (share, ratio) = after(30, 0.02, 0.01, 0.07);
        assert!((share - 1.0 / 7.0).abs() < 0.001 && (ratio - 0.02).abs() < 0.0001, "{share} {ratio}");
        assert_eq!(after(5, 0.1, 0.01, 0.07).0, 1.0, "there is room for all");
    }

    #[test]
    fn where_leaving_out_takes_too_much_hardly_anything_is_kept() {
        let (share, ratio) = after(100, 0.01, 0.02, 0.07);
        assert!(share < 0.002 && ratio < 0.021, "{share} {ratio}");
    }

    #[test]
    fn once_there_is_less_to_leave_out_the_share_comes_up_again() {
        let sampling = Sampling { target_cpu_ratio: Some(0.01), ..Sampling::default() };
        let mut adaptive = Adaptive::new(&sampling);
        adaptive.adjust(0, Counted::default());
        let (mut share, mut spent, mut rising) = (1.0, 0.0, 0);
        for step in 1..=2100 {
            let ratio = if step <= 2000 { 0.02 } else { 0.001 + share * 0.002 };
            spent += ratio * STEP as f64;
            share = adaptive.adjust(step * STEP, time(spent as u64)).unwrap();
            rising += u32::from(step > 2000 && share < 1.0);
        }
        assert!(share >= 1.0 && rising < 40, "{share} after {rising} steps");
    }

    #[test]
    fn time_that_is_not_measured_is_no_reason_to_record_all() {
        let sampling = Sampling { target_cpu_ratio: Some(0.01), ..Sampling::default() };
        let mut adaptive = Adaptive::new(&sampling);
        adaptive.adjust(0, time(0));
        // Four times what may be taken.
        assert_eq!(adaptive.adjust(STEP, time(4 * STEP / 100)), Some(0.25));
        for step in 2..50 {
            assert_eq!(adaptive.adjust(step * STEP, Counted::default()), Some(0.25));
        }
        // Measured again, from where the time had stood still: now half of what may be.
        let share = adaptive.adjust(50 * STEP, time(4 * STEP / 100 + STEP / 200)).unwrap();
        assert!((share - 0.25 * RISE - LEAST_RISE).abs() < 1e-9, "{share}");
    }

    #[test]
    fn a_target_that_is_out_of_reach_is_told_once_and_one_that_can_be_kept_never() {
        for (left_out, expected) in [(0.02, Some(0.02)), (0.005, None)] {
            let sampling = Sampling { target_cpu_ratio: Some(0.01), ..Sampling::default() };
            let mut adaptive = Adaptive::new(&sampling);
            adaptive.adjust(0, time(0));
            let (mut share, mut spent, mut told) = (1.0, 0.0, Vec::new());
            for step in 1..=100 {
                spent += (left_out + share * 0.07) * STEP as f64;
                share = adaptive.adjust(step * STEP, time(spent as u64)).unwrap();
                told.extend(adaptive.out_of_reach().map(|of| (step, of)));
            }
            assert_eq!(told.len(), usize::from(expected.is_some()), "{told:?}");
            if let [(step, (target, taken))] = told[..] {
                assert!((10..20).contains(&step) && target == 0.01, "{told:?}");
                assert!(expected.is_some_and(|of: f64| (taken - of).abs() < 0.001), "{told:?}");
            }
        }
    }

    #[test]
    fn of_two_targets_the_nearer_one_counts() {
        let sampling =
            Sampling { target_cpu_ratio: Some(0.01), target_events_per_second: Some(100), ..Sampling::default() };
        for (events, spent_ns, share) in [(100, 2 * STEP / 100, 0.1), (20, 4 * STEP / 100, 0.25)] {
            let mut adaptive = Adaptive::new(&sampling);
            adaptive.adjust(0, Counted::default());
            adaptive.count(events);
            let found = adaptive.adjust(STEP, time(spent_ns)).unwrap();
            assert!((found - share).abs() < 1e-9, "{found}");
        }
    }

    #[test]
    fn without_a_target_nothing_is_due() {
        assert!(!Adaptive::new(&Sampling::default()).is_due(u64::MAX));
    }
}
