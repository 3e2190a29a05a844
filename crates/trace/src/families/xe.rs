//! `xe`: queues of the firmware, and what goes wrong on them.
//!
//! Source: drivers/gpu/drm/xe/xe_trace.h, xe_trace_bo.h of Linux 6.12 and 7.2. Jobs are the DRM scheduler's, and told by it; the driver
//! tells them again by the address of its own fence, for traces that lack the scheduler's events. A job on several engines at once has
//! another fence than those that signal: its end is not told this way.

use super::{Key, NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

/// `enum xe_engine_class` (xe_hw_engine_types.h), named as the scheduler of a queue is (`guc_exec_queue_assign_name`), with the queue's
/// number behind.
const CLASSES: &[&str] = &["rcs", "vcs", "vecs", "bcs", "other", "ccs"];

const QUEUE: Spec = Spec { ring: RingFields::Engine("class", CLASSES, "guc_id"), gpu: Some("dev"), ..NOTHING };
const QUEUE_ERROR: Spec = Spec { kind: EventKind::Error, ..QUEUE };
const QUEUE_SWITCH: Spec = Spec { kind: EventKind::ContextSwitch, ..QUEUE };
const JOB: Spec = Spec {
    key: Key::Address("fence", None),
    ring: RingFields::Numbered("guc_id", "guc "),
    gpu: Some("dev"),
    ..NOTHING
};
const JOB_ERROR: Spec = Spec { kind: EventKind::Error, value: Some("error"), ..JOB };
const VM_ERROR: Spec = Spec { kind: EventKind::Error, gpu: Some("dev"), ring: RingFields::Fixed(""), ..NOTHING };

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "xe_sched_job_exec", kind: EventKind::Submit, echo: true, ..JOB },
    Spec { name: "xe_sched_job_run", kind: EventKind::Commit, echo: true, ..JOB },
    Spec { name: "xe_hw_fence_signal", kind: EventKind::Complete, echo: true, ring: RingFields::None, ..JOB },
    Spec { name: "xe_sched_job_timedout", ..JOB_ERROR },
    Spec { name: "xe_sched_job_set_error", ..JOB_ERROR },
    Spec { name: "xe_sched_job_ban", ..JOB_ERROR },
    Spec { name: "xe_exec_queue_scheduling_enable", ..QUEUE_SWITCH },
    Spec { name: "xe_exec_queue_scheduling_disable", ..QUEUE_SWITCH },
    Spec { name: "xe_exec_queue_scheduling_done", ..QUEUE_SWITCH },
    Spec { name: "xe_exec_queue_reset", ..QUEUE_ERROR },
    Spec { name: "xe_exec_queue_kill", ..QUEUE_ERROR },
    Spec { name: "xe_exec_queue_memory_cat_error", ..QUEUE_ERROR },
    Spec { name: "xe_exec_queue_cgp_context_error", ..QUEUE_ERROR },
    Spec { name: "xe_vm_kill", ..VM_ERROR },
    Spec { name: "xe_vm_ops_fail", ..VM_ERROR },
];
