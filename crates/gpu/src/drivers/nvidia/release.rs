//! When NVML is loaded and when it is let go: pure, the caller brings the time.
//!
//! While NVML is open its cards do not suspend, and once it is closed a card takes some seconds to. So a card that could sleep is left
//! alone once it is idle, for longer than that; if it is still awake then, something else keeps it so, and it is looked at again.

use gpuscope_model::{Reason, Text, Why};

const SECOND: u64 = 1_000_000_000;

/// Idle at two readings at least this far apart: let go.
const IDLE_NS: u64 = SECOND;

/// How long a card is left alone then. Cards were seen to suspend 6 s after the last handle was closed.
const LEFT_ALONE_NS: u64 = 12 * SECOND;

/// How long after NVML failed to open it is tried again: looking for a library that is not there costs file accesses.
const RETRY_NS: u64 = 10 * SECOND;

const LEFT_ALONE: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("the card is idle, and NVML was released so that the card can fall asleep"),
    remedy: None,
};

/// What is remembered between readings.
#[derive(Debug, Default)]
pub(super) struct Release {
    idle_from_ns: Option<u64>,
    released_ns: Option<u64>,
    failed: Option<(u64, Why)>,
}

impl Release {
    /// Why NVML is not to be used now.
    pub(super) fn withheld(&self, now_ns: u64) -> Option<Why> {
        if let Some((at_ns, why)) = &self.failed {
            if now_ns.saturating_sub(*at_ns) < RETRY_NS {
                return Some(why.clone());
            }
        }
        let since_ns = self.released_ns?;
        (now_ns.saturating_sub(since_ns) < LEFT_ALONE_NS).then_some(LEFT_ALONE)
    }

    /// After a reading: whether NVML is to be released now. `sleeps`: the card would suspend if nothing used it.
    pub(super) fn after_reading(&mut self, now_ns: u64, busy: bool, sleeps: bool) -> bool {
        self.failed = None;
        self.released_ns = None;
        if busy || !sleeps {
            self.idle_from_ns = None;
            return false;
        }
        let idle_from_ns = *self.idle_from_ns.get_or_insert(now_ns);
        now_ns.saturating_sub(idle_from_ns) >= IDLE_NS
    }

    /// NVML was released while the card was awake.
    pub(super) fn released(&mut self, now_ns: u64) {
        self.idle_from_ns = None;
        self.released_ns = Some(now_ns);
    }

    /// The card sleeps: it is read as soon as it is awake again.
    pub(super) fn slept(&mut self) {
        *self = Release::default();
    }

    /// NVML could not be opened, or lost the card.
    pub(super) fn failed(&mut self, now_ns: u64, why: Why) {
        self.idle_from_ns = None;
        self.failed = Some((now_ns, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_card_is_released_and_left_alone() {
        let mut release = Release::default();
        assert!(!release.after_reading(0, false, true));
        assert!(release.after_reading(SECOND, false, true));
        release.released(SECOND);
        assert_eq!(release.withheld(2 * SECOND), Some(LEFT_ALONE));
        assert_eq!(release.withheld(SECOND + LEFT_ALONE_NS), None, "still awake: something else keeps it so");
    }

    #[test]
    fn work_in_between_starts_the_idle_time_anew() {
        let mut release = Release::default();
        assert!(!release.after_reading(0, false, true));
        assert!(!release.after_reading(SECOND, true, true));
        assert!(!release.after_reading(2 * SECOND, false, true));
        assert!(release.after_reading(3 * SECOND, false, true));
    }

    #[test]
    fn a_card_that_never_sleeps_is_never_released() {
        let mut release = Release::default();
        assert!((0..100).all(|s| !release.after_reading(s * SECOND, false, false)));
    }

    #[test]
    fn a_card_that_wakes_is_read_at_once() {
        let mut release = Release::default();
        release.released(0);
        release.slept();
        assert_eq!(release.withheld(SECOND), None);
    }

    #[test]
    fn a_failure_is_repeated_and_tried_again_later() {
        let mut release = Release::default();
        let why = Why::new(Reason::NotSupported, "synthetic failure");
        release.failed(0, why.clone());
        assert_eq!(release.withheld(SECOND), Some(why));
        assert_eq!(release.withheld(RETRY_NS), None);
    }
}
