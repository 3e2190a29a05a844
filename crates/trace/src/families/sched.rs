//! The kernel's own scheduler: processors that go from thread to thread, and who wakes whom.
//!
//! Source: include/trace/events/sched.h. The current thread is the one that is left, or the one that wakes.

use super::{NOTHING, Spec};
use gpuscope_model::trace::{EventKind, Switch};

pub(crate) const SPECS: &[Spec] = &[
    Spec {
        name: "sched_switch",
        kind: EventKind::SchedSwitch,
        comm: Some("prev_comm"),
        value: Some("next_pid"),
        value_with: Some(("prev_state", |next, state| Switch { next: next as u32, state: state as u32 }.value())),
        ..NOTHING
    },
    // The name in it is that of the thread that is woken.
    Spec { name: "sched_waking", kind: EventKind::SchedWaking, comm: None, value: Some("pid"), ..NOTHING },
];
