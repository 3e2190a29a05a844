//! Whether readings that wake a device may be made now.
//!
//! Reading a device whose files take a runtime PM reference resumes it when it sleeps, and restarts its autosuspend timer when
//! it does not (`pm_runtime_mark_last_busy`; xe does so at every `xe_pm_runtime_put`, drivers/gpu/drm/xe/xe_pm.c): whoever reads
//! more often than the autosuspend delay keeps the device awake for ever. The [`Governor`] leaves an idle device alone for
//! longer than that delay. It is pure: the caller brings the time and what sysfs says.

use gpuscope_model::{Reason, RuntimeStatus, Why};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Idle for this long, over all of its readings, before it is left alone: loads come in bursts.
const GRACE_NS: u64 = SECOND;

/// How long readings go on at a time on an idle device that something else (a display) keeps awake. Together with [`GRACE_NS`],
/// a tick and the kernel's timer slack this stays below the five seconds within which a device must be let go.
const BURST_NS: u64 = 2 * SECOND;

/// Autosuspend delay taken where sysfs does not tell: xe's default (`xe_pm_runtime_init`, drivers/gpu/drm/xe/xe_pm.c).
const DELAY_UNKNOWN_NS: u64 = SECOND;

/// What sysfs says about a device's runtime power management, read at this tick; reading it wakes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PowerFacts {
    /// `power/runtime_status`; `None` where there is no such file, which is so for devices without runtime power management.
    pub(crate) status: Option<RuntimeStatus>,
    /// `power/autosuspend_delay_ms` where it is not negative (a negative one forbids suspending: `always_on`).
    pub(crate) autosuspend_delay_ns: Option<u64>,
    /// Whether the device never sleeps on its own: `power/control` is `on`, or the delay is negative.
    pub(crate) always_on: bool,
}

/// Whether readings that wake may be made at this tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// They may. `rebase`: the device has slept since the last reading, so that baselines of rates no longer hold.
    Allowed {
        /// Drop the baselines.
        rebase: bool,
    },
    /// They may not, for this reason.
    Withheld(Why),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Readings are made; `idle_from_ns` is the last time at which the device may have been busy.
    Running { idle_from_ns: Option<u64> },
    /// No readings since `since_ns`, the time of the last one.
    Paused { since_ns: u64 },
    /// Something else keeps the idle device awake: readings until then.
    Burst { until_ns: u64 },
    /// It sleeps.
    Asleep,
}

/// Decides, tick by tick, whether one device may be read with readings that wake.
///
/// After its last job a device sleeps within its autosuspend delay and five seconds, as long as that delay is not much above a second. With a
/// longer one the job may lie in a pause; the reading at the end of the pause restarts the timer, and the device sleeps within twice the
/// delay and five seconds, unless [`noticed_busy`](Self::noticed_busy) tells of the job in time.
#[derive(Debug)]
pub(crate) struct Governor {
    state: State,
    last_read_ns: Option<u64>,
    /// The reason given while paused, kept so that a tick does not allocate, with the delay it names.
    pause: Option<(u64, Why)>,
}

impl Default for Governor {
    fn default() -> Self {
        Governor::new()
    }
}

impl Governor {
    /// A governor that has seen nothing yet.
    pub(crate) fn new() -> Self {
        Governor { state: State::Running { idle_from_ns: None }, last_read_ns: None, pause: None }
    }

    /// Whether readings that wake may be made now. After one, call [`observed`](Self::observed).
    pub(crate) fn decide(&mut self, now_ns: u64, power: &PowerFacts) -> Decision {
        if matches!(power.status, Some(RuntimeStatus::Suspended | RuntimeStatus::Suspending)) {
            self.state = State::Asleep;
            return Decision::Withheld(Why::ASLEEP);
        }
        if self.state == State::Asleep {
            self.state = State::Running { idle_from_ns: None };
            self.last_read_ns = None;
            return Decision::Allowed { rebase: true };
        }
        if power.always_on || matches!(power.status, None | Some(RuntimeStatus::Unsupported)) {
            self.state = State::Running { idle_from_ns: None };
            return Decision::Allowed { rebase: false };
        }
        let delay_ns = power.autosuspend_delay_ns.unwrap_or(DELAY_UNKNOWN_NS);
        if let State::Burst { until_ns } = self.state {
            if now_ns >= until_ns {
                self.state = State::Paused { since_ns: self.last_read_ns.unwrap_or(now_ns) };
            }
        }
        if let State::Paused { since_ns } = self.state {
            if now_ns.saturating_sub(since_ns) < pause_ns(delay_ns) {
                return Decision::Withheld(self.why(delay_ns));
            }
            self.state = State::Burst { until_ns: now_ns.saturating_add(BURST_NS) };
        }
        Decision::Allowed { rebase: false }
    }

    /// What an allowed reading showed: whether any engine was busy since the reading before. Where that cannot be said yet (the
    /// first reading after sleep), `false`.
    pub(crate) fn observed(&mut self, now_ns: u64, busy: bool) {
        let before_ns = self.last_read_ns.replace(now_ns);
        if busy {
            self.state = State::Running { idle_from_ns: Some(now_ns) };
            return;
        }
        if let State::Running { idle_from_ns } = self.state {
            // An idle reading covers the time since the reading before it.
            let idle_from_ns = idle_from_ns.or(before_ns).unwrap_or(now_ns);
            self.state = if now_ns.saturating_sub(idle_from_ns) >= GRACE_NS {
                State::Paused { since_ns: now_ns }
            } else {
                State::Running { idle_from_ns: Some(idle_from_ns) }
            };
        }
    }

    /// A source that does not wake (the i915 PMU, i915's fdinfo) shows work: a pause ends, since the device is awake anyway.
    pub(crate) fn noticed_busy(&mut self, now_ns: u64) {
        if self.state != State::Asleep {
            self.state = State::Running { idle_from_ns: Some(now_ns) };
        }
    }

    fn why(&mut self, delay_ns: u64) -> Why {
        match &self.pause {
            Some((delay, why)) if *delay == delay_ns => why.clone(),
            _ => {
                let detail = format!(
                    "the device is idle and left alone so that it can fall asleep (autosuspend delay {} ms)",
                    delay_ns / MS
                );
                let why = Why::new(Reason::NotCounting, detail);
                self.pause = Some((delay_ns, why.clone()));
                why
            }
        }
    }
}

/// How long an idle device is left alone: its delay, the quarter of it by which the kernel lets its timer come late (the slack in
/// `rpm_suspend`, drivers/base/power/runtime.c), and time to act on it.
fn pause_ns(delay_ns: u64) -> u64 {
    delay_ns.saturating_add(delay_ns / 4).saturating_add(500 * MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: PowerFacts =
        PowerFacts { status: Some(RuntimeStatus::Active), autosuspend_delay_ns: Some(SECOND), always_on: false };
    const ALLOWED: Decision = Decision::Allowed { rebase: false };

    fn reason(decision: &Decision) -> Option<Reason> {
        match decision {
            Decision::Allowed { .. } => None,
            Decision::Withheld(why) => Some(why.reason),
        }
    }

    #[test]
    fn suspended_devices_are_not_read_and_rebased_once_awake() {
        let mut governor = Governor::new();
        for status in [RuntimeStatus::Suspended, RuntimeStatus::Suspending] {
            for always_on in [false, true] {
                let power = PowerFacts { status: Some(status), always_on, ..ACTIVE };
                assert_eq!(governor.decide(0, &power), Decision::Withheld(Why::ASLEEP));
            }
        }
        assert_eq!(governor.decide(SECOND, &ACTIVE), Decision::Allowed { rebase: true });
        governor.observed(SECOND, false);
        assert_eq!(governor.decide(2 * SECOND, &ACTIVE), ALLOWED);
    }

    #[test]
    fn devices_that_never_sleep_are_always_read() {
        let facts = [
            PowerFacts { always_on: true, ..ACTIVE },
            PowerFacts { status: Some(RuntimeStatus::Unsupported), ..ACTIVE },
            PowerFacts { status: None, ..ACTIVE },
        ];
        for power in facts {
            let mut governor = Governor::new();
            for tick in 0..100 {
                assert_eq!(governor.decide(tick * SECOND / 4, &power), ALLOWED);
                governor.observed(tick * SECOND / 4, false);
            }
        }
    }

    #[test]
    fn an_idle_device_is_left_alone_and_told_why() {
        let mut governor = Governor::new();
        let mut now_ns = 0;
        while governor.decide(now_ns, &ACTIVE) == ALLOWED {
            governor.observed(now_ns, false);
            now_ns += SECOND / 4;
        }
        assert_eq!(now_ns, SECOND + SECOND / 4);
        let Decision::Withheld(why) = governor.decide(now_ns, &ACTIVE) else { panic!() };
        assert_eq!(why.reason, Reason::NotCounting);
        assert!(why.detail.ends_with("(autosuspend delay 1000 ms)"), "{why}");
        governor.noticed_busy(now_ns);
        assert_eq!(governor.decide(now_ns, &ACTIVE), ALLOWED);
    }

    #[test]
    fn a_device_that_others_keep_awake_is_read_in_bursts() {
        for (delay_ns, at_least) in [(SECOND, 0.4), (10 * SECOND, 0.1)] {
            let power = PowerFacts { autosuspend_delay_ns: Some(delay_ns), ..ACTIVE };
            for interval_ns in [SECOND / 4, SECOND] {
                let mut governor = Governor::new();
                let ticks = 200 * SECOND / interval_ns;
                let mut read = 0;
                for tick in 0..ticks {
                    if governor.decide(tick * interval_ns, &power) == ALLOWED {
                        governor.observed(tick * interval_ns, false);
                        read += 1;
                    }
                }
                let share = read as f64 / ticks as f64;
                assert!(share > at_least && share < 0.75, "delay {delay_ns} interval {interval_ns}: {share}");
            }
        }
    }

    /// A device with an autosuspend timer that every reading restarts, and jobs that wake it.
    struct Device {
        delay_ns: u64,
        /// Start and end of jobs, and of times in which a display keeps it awake, in order.
        jobs: Vec<(u64, u64)>,
        displays: Vec<(u64, u64)>,
        read_ns: Option<u64>,
    }

    impl Device {
        fn running(spans: &[(u64, u64)], now_ns: u64) -> bool {
            spans.iter().any(|(from, to)| (*from..*to).contains(&now_ns))
        }

        fn last_end_ns(spans: &[(u64, u64)], now_ns: u64) -> Option<u64> {
            spans.iter().map(|(_, to)| *to).filter(|to| *to <= now_ns).max()
        }

        fn is_awake(&self, now_ns: u64) -> bool {
            let last = [self.read_ns, Self::last_end_ns(&self.jobs, now_ns), Self::last_end_ns(&self.displays, now_ns)];
            Self::running(&self.jobs, now_ns)
                || Self::running(&self.displays, now_ns)
                || last.into_iter().flatten().any(|last| now_ns < last + self.delay_ns)
        }
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Bound {
        Promise,
        LongDelay,
        Notices,
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }

        fn spans(&mut self, n: u64, longest_gap_ns: u64, longest_ns: u64) -> Vec<(u64, u64)> {
            let mut at = 0;
            (0..self.below(n))
                .map(|_| {
                    let from = at + self.below(longest_gap_ns);
                    at = from + 1 + self.below(longest_ns);
                    (from, at)
                })
                .collect()
        }
    }

    /// What the promise says: no reading while suspended; asleep within the delay and five seconds after the last use; a job that
    /// lasts is seen within `seen_ns`.
    /// A job in a pause is not seen before the pause ends, and the reading that shows it restarts the timer: with `bound`, that
    /// costs a second delay. `Notices` is a machine with a source that does not wake.
    fn simulate(seed: u64, nominal_ns: u64, slack_percent: u64, interval_ns: u64, seen_ns: Option<u64>, bound: Bound) {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let what = format!("seed {seed}, delay {nominal_ns}, slack {slack_percent} %, interval {interval_ns}");
        let gap_ns = [2 * SECOND, 20 * SECOND][random.below(2) as usize];
        let longest_ns = [SECOND / 10, 2 * SECOND, 8 * SECOND][random.below(3) as usize];
        let jobs = random.spans(12, gap_ns, longest_ns);
        let displays = if random.below(3) == 0 && bound != Bound::Notices {
            random.spans(4, 30 * SECOND, 20 * SECOND)
        } else {
            Vec::new()
        };
        let last_use_ns = jobs.iter().chain(&displays).map(|(_, to)| *to).max().unwrap_or(0);
        let mut device =
            Device { delay_ns: nominal_ns + nominal_ns * slack_percent / 100, jobs, displays, read_ns: None };
        let mut governor = Governor::new();
        let mut shown = Vec::new();
        let mut baseline_ns = None;
        let mut now_ns = random.below(interval_ns);
        let asleep_by_ns = last_use_ns
            + match bound {
                Bound::Promise | Bound::Notices => nominal_ns + 5 * SECOND,
                Bound::LongDelay => 2 * (nominal_ns + nominal_ns * slack_percent / 100) + 5 * SECOND,
            };
        let end_ns = asleep_by_ns + 3 * SECOND;
        let mut before_ns = 0;
        while now_ns < end_ns {
            let awake = device.is_awake(now_ns);
            let status = if awake { RuntimeStatus::Active } else { RuntimeStatus::Suspended };
            let power = PowerFacts { status: Some(status), autosuspend_delay_ns: Some(nominal_ns), always_on: false };
            let late = now_ns > asleep_by_ns;
            assert!(!(late && awake), "{what}: awake at {now_ns}, last used {last_use_ns}");
            if bound == Bound::Notices && device.jobs.iter().any(|(a, b)| *a < now_ns && *b > before_ns) && awake {
                governor.noticed_busy(now_ns);
            }
            before_ns = now_ns;
            match governor.decide(now_ns, &power) {
                Decision::Withheld(why) => assert_eq!(why.reason == Reason::Asleep, !awake, "{what}"),
                Decision::Allowed { rebase } => {
                    assert!(awake, "{what}: read while suspended at {now_ns}");
                    let from_ns = baseline_ns.filter(|_| !rebase);
                    let busy = from_ns.is_some_and(|f: u64| device.jobs.iter().any(|(a, b)| *a < now_ns && *b > f));
                    if let Some(from_ns) = from_ns {
                        shown.push((from_ns, now_ns));
                    }
                    governor.observed(now_ns, busy);
                    device.read_ns = Some(now_ns);
                    baseline_ns = Some(now_ns);
                }
            }
            now_ns += interval_ns;
        }
        let Some(seen_ns) = seen_ns else { return };
        for &(from, to) in device.jobs.iter().filter(|(from, to)| to - from >= seen_ns) {
            let seen = shown.iter().any(|&(a, b)| b > from && a < to && b <= from + seen_ns);
            assert!(seen, "{what}: job {from}..{to} not shown in time: {shown:?}");
        }
    }

    #[test]
    fn simulated_devices_fall_asleep_in_time_and_their_jobs_are_seen() {
        for seed in 0..200 {
            for interval_ns in [SECOND / 10, SECOND / 4, SECOND / 2, SECOND] {
                for slack_percent in [0, 25] {
                    let seen_ns = Some(2 * SECOND);
                    simulate(seed, SECOND, slack_percent, interval_ns, seen_ns, Bound::Promise);
                    simulate(seed, SECOND / 10, slack_percent, interval_ns, seen_ns, Bound::Promise);
                    simulate(seed, 10 * SECOND, slack_percent, interval_ns, None, Bound::LongDelay);
                }
                simulate(seed, 10 * SECOND, 0, interval_ns, Some(2 * SECOND), Bound::Notices);
            }
            // Intervals that do not divide a second see a job one pause and one tick later at most.
            let interval_ns = SECOND / 10 + (seed % 10) * SECOND / 10 + seed;
            let seen_ns = (pause_ns(SECOND) + interval_ns).max(2 * interval_ns);
            simulate(seed, SECOND, 10, interval_ns, Some(seen_ns), Bound::Promise);
        }
    }

    #[test]
    fn a_restless_device_without_work_still_falls_asleep() {
        let mut governor = Governor::new();
        assert_eq!(reason(&governor.decide(0, &PowerFacts { autosuspend_delay_ns: None, ..ACTIVE })), None);
        governor.observed(0, true);
        governor.observed(SECOND, false);
        let unknown = PowerFacts { autosuspend_delay_ns: None, ..ACTIVE };
        assert_eq!(reason(&governor.decide(2 * SECOND, &unknown)), Some(Reason::NotCounting));
        assert_eq!(reason(&governor.decide(3 * SECOND, &unknown)), None);
    }
}
