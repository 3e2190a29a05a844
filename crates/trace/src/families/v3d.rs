//! `v3d`: the VideoCore of the Raspberry Pi.
//!
//! Source: drivers/gpu/drm/v3d/v3d_trace.h of Linux 6.1, 6.12 and 7.2. Jobs are the DRM scheduler's; the driver tells again when it hands
//! one to the hardware and when the hardware's interrupt says that it is done, by a number for each queue. Queues are named as the
//! scheduler names them (`v3d_sched_init`).

use super::{Key, NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

const JOB: Spec = Spec { key: Key::Counted(&["seqno"]), gpu_number: Some(("dev", "card")), echo: true, ..NOTHING };
const RUN: Spec = Spec { kind: EventKind::Commit, ..JOB };
const DONE: Spec = Spec { kind: EventKind::Complete, ..JOB };

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "v3d_submit_cl", ring: RingFields::OneOf("is_render", &["v3d_bin", "v3d_render"]), ..RUN },
    Spec { name: "v3d_submit_tfu", ring: RingFields::Fixed("v3d_tfu"), ..RUN },
    Spec { name: "v3d_submit_csd", ring: RingFields::Fixed("v3d_csd"), ..RUN },
    Spec { name: "v3d_bcl_irq", ring: RingFields::Fixed("v3d_bin"), ..DONE },
    Spec { name: "v3d_rcl_irq", ring: RingFields::Fixed("v3d_render"), ..DONE },
    Spec { name: "v3d_tfu_irq", ring: RingFields::Fixed("v3d_tfu"), ..DONE },
    Spec { name: "v3d_csd_irq", ring: RingFields::Fixed("v3d_csd"), ..DONE },
    Spec {
        name: "v3d_reset_begin",
        kind: EventKind::Error,
        gpu_number: Some(("dev", "card")),
        ring: RingFields::Fixed(""),
        ..NOTHING
    },
];
