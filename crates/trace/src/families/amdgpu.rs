//! `amdgpu`: what the driver adds to the DRM scheduler's events, and the same jobs once more.
//!
//! Source: drivers/gpu/drm/amd/amdgpu/amdgpu_trace.h of Linux 6.1, 6.12 and 7.2. Its jobs are told by the scheduler's finished fence, whose
//! context and seqno are cut to 32 bits before 7.2 (between 6.12 and 7.2); their end is that fence's `dma_fence_signaled`. `fence` of
//! `amdgpu_cs_ioctl` is never filled, and no event names the device.

use super::{Key, NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

const JOB: Spec = Spec { key: Key::Fence("context", "seqno"), ring: RingFields::Named("ring"), echo: true, ..NOTHING };

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "amdgpu_cs_ioctl", kind: EventKind::Submit, ..JOB },
    Spec { name: "amdgpu_sched_run_job", kind: EventKind::Commit, ..JOB },
    // An address space gets its number on the hardware, or is switched to. Of the two fields `ring` of the first, the text stands first.
    Spec {
        name: "amdgpu_vm_grab_id",
        kind: EventKind::ContextSwitch,
        ring: RingFields::Named("ring"),
        value: Some("vmid"),
        ..NOTHING
    },
    Spec {
        name: "amdgpu_vm_flush",
        kind: EventKind::ContextSwitch,
        ring: RingFields::Named("ring"),
        value: Some("vmid"),
        ..NOTHING
    },
    Spec { name: "amdgpu_iv", kind: EventKind::Irq, value: Some("src_id"), ..NOTHING },
];
