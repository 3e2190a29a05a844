//! `gpu_scheduler`: the DRM scheduler's events, one truth for every driver that uses it.
//!
//! Source: drivers/gpu/drm/scheduler/gpu_scheduler_trace.h. Since Linux 6.17 the names begin with `drm_sched_job_`, a job is told by
//! its finished fence's context and seqno, the device is named, and the header calls all this stable. Before, a job is told by the
//! address of that fence, dependencies by the job's number in its scheduler, and no record says which device it is about.
//!
//! - queue fires in the submitter's own ioctl (`drm_sched_entity_push_job`);
//! - run fires just before `run_job`, in a kernel thread or worker: the hardware, or the firmware that schedules it, gets the job then;
//! - done fires from the hardware fence's callback (`drm_sched_job_done`).
//!
//! None of them tells when the hardware began.

use super::{Key, NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

const FENCE: Key = Key::Fence("fence_context", "fence_seqno");

/// A job as queue and run print it since 6.17.
const JOB: Spec = Spec {
    key: FENCE,
    ring: RingFields::Named("name"),
    gpu: Some("dev"),
    client: Some("client_id"),
    value: Some("job_count"),
    ..NOTHING
};

/// The same until 6.16.
const OLD_JOB: Spec = Spec {
    key: Key::Address("fence", Some("id")),
    ring: RingFields::Named("name"),
    value: Some("job_count"),
    ..NOTHING
};

const DEPENDENCY: Spec = Spec { key: FENCE, other: Some(("ctx", "seqno")), ..NOTHING };

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "drm_sched_job_queue", kind: EventKind::Submit, ..JOB },
    Spec { name: "drm_sched_job_run", kind: EventKind::Commit, ..JOB },
    // `error` is in the records of our own programs only: what the hardware's fence ended with.
    Spec { name: "drm_sched_job_done", kind: EventKind::Complete, key: FENCE, value: Some("error"), ..NOTHING },
    // Of our own programs alone: a fence, perhaps a job's, that ended with an error.
    Spec { name: "fence_error", kind: EventKind::Error, key: FENCE, value: Some("error"), ..NOTHING },
    Spec { name: "drm_sched_job_add_dep", kind: EventKind::Dependency, ..DEPENDENCY },
    Spec { name: "drm_sched_job_unschedulable", kind: EventKind::Blocked, ..DEPENDENCY },
    Spec { name: "drm_sched_job", kind: EventKind::Submit, ..OLD_JOB },
    Spec { name: "drm_run_job", kind: EventKind::Commit, ..OLD_JOB },
    Spec { name: "drm_sched_process_job", kind: EventKind::Complete, key: Key::Address("fence", None), ..NOTHING },
    // `fence` is the one that is waited for here. It fires when the job's turn came and it was not ready.
    Spec {
        name: "drm_sched_job_wait_dep",
        kind: EventKind::Blocked,
        key: Key::NumberInRing("id"),
        ring: RingFields::Named("name"),
        other: Some(("ctx", "seqno")),
        ..NOTHING
    },
];
