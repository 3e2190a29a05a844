//! `panthor`: Mali with a firmware that schedules.
//!
//! Source: drivers/gpu/drm/panthor/panthor_trace.h of Linux 7.2, which earlier kernels do not have. Jobs are the DRM scheduler's. panfrost
//! and lima have no more than the scheduler's events that would be of use here.

use super::{NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

pub(crate) const SPECS: &[Spec] = &[
    // How long the interrupt's handler took.
    Spec {
        name: "gpu_job_irq",
        kind: EventKind::Irq,
        gpu: Some("dev_name"),
        ring: RingFields::Fixed(""),
        value: Some("duration_ns"),
        ..NOTHING
    },
];
