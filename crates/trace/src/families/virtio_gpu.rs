//! `virtio_gpu`: commands to the host.
//!
//! Source: drivers/gpu/drm/virtio/virtgpu_trace.h. Every command is a job: from `virtio_gpu_cmd_queue`, in the task that wants it, to
//! `virtio_gpu_cmd_response`. What the host does with it in between is not told. 6.12 and 7.2 number commands (`seqno`, a count for each
//! queue). 6.1 does not: only those with a fence can be followed, by its number, others are counted and are no jobs. Responses
//! to the cursor's queue are not told there, and the queue's name is a pointer; its number says the same.

use super::{Key, NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

/// Queue 0, and the one of the cursor (`virtio_gpu_init`: `ctrlq`, `cursorq`).
const QUEUES: &[&str] = &["control", "cursor"];

const COMMAND: Spec = Spec {
    key: Key::Counted(&["seqno", "fence_id"]),
    ring: RingFields::OneOf("vq", QUEUES),
    gpu_number: Some(("dev", "virtio")),
    ..NOTHING
};

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "virtio_gpu_cmd_queue", kind: EventKind::SubmitCommit, ..COMMAND },
    Spec {
        name: "virtio_gpu_cmd_response",
        kind: EventKind::Complete,
        value: Some("type"),
        value_as: Some(error_of),
        ..COMMAND
    },
];

/// A response's type (`enum virtio_gpu_ctrl_type`, include/uapi/linux/virtio_gpu.h) as an error number: the nearest one. The cursor's queue
/// has responses without a type, which do not say how it went.
fn error_of(kind: u64) -> Option<i64> {
    match kind {
        0 => None,
        // VIRTIO_GPU_RESP_ERR_UNSPEC: EIO; _OUT_OF_MEMORY: ENOMEM; then ids and parameters that are not valid: EINVAL.
        0x1200 => Some(-5),
        0x1201 => Some(-12),
        0x1202.. => Some(-22),
        _ => Some(0),
    }
}
