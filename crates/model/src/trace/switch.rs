//! Processors that go from one thread to another.

/// What [`Event::value`](super::Event::value) of a [`EventKind::SchedSwitch`](super::EventKind::SchedSwitch) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The thread that goes on: 0 where the processor rests.
    pub next: u32,
    /// The state of the one that was left, as the tracepoint tells it (`prev_state`, include/trace/events/sched.h).
    pub state: u32,
}

/// States in which a thread waits for something else than a processor (TASK_REPORT, include/linux/sched.h); that of idle kernel threads is
/// the highest.
const ASLEEP: u32 = 0xff;

impl Switch {
    /// As an event has it.
    pub fn of(value: i64) -> Switch {
        let bits = value as u64;
        Switch { next: bits as u32, state: (bits >> 32) as u32 }
    }

    /// For an event.
    pub fn value(self) -> i64 {
        (u64::from(self.state) << 32 | u64::from(self.next)) as i64
    }

    /// The thread that was left could go on: another one had to have the processor.
    pub fn was_preempted(self) -> bool {
        self.state & ASLEEP == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_come_back() {
        for (next, state) in [(0, 0), (4_194_304, 0x80), (u32::MAX, 0x100), (1, 0x7fff_ffff)] {
            let switch = Switch { next, state };
            assert_eq!(Switch::of(switch.value()), switch);
        }
        assert!(Switch { next: 1, state: 0x100 }.was_preempted() && Switch { next: 1, state: 0 }.was_preempted());
        assert!(!Switch { next: 1, state: 1 }.was_preempted() && !Switch { next: 1, state: 0x80 }.was_preempted());
    }
}
