//! `dma_fence`: what drivers promise each other, and who waits for it.
//!
//! Source: include/trace/events/dma_fence.h. The same four fields on every kernel; context and seqno are cut to 32 bits on all. Since
//! Linux 6.17 a fence that has signalled is printed as `detached-driver`, `signaled-timeline` where it is waited for or destroyed: its
//! names are those that were seen before on its context.
//!
//! Waits are those within the kernel (`dma_fence_wait_timeout`): of a driver's own ioctls, of GEM and of dma-buf. Who waits for a syncobj
//! or polls a file waits otherwise, and shows in the ioctls.

use super::{Key, NOTHING, Spec};
use gpuscope_model::trace::EventKind;

const FENCE: Spec = Spec { key: Key::Fence("context", "seqno"), fence: Some(("driver", "timeline")), ..NOTHING };

pub(crate) const WAITS: &[Spec] = &[
    Spec { name: "dma_fence_wait_start", kind: EventKind::WaitBegin, ..FENCE },
    Spec { name: "dma_fence_wait_end", kind: EventKind::WaitEnd, ..FENCE },
];

pub(crate) const FENCES: &[Spec] = &[
    Spec { name: "dma_fence_init", kind: EventKind::FenceInit, ..FENCE },
    Spec { name: "dma_fence_signaled", kind: EventKind::FenceSignaled, ..FENCE },
];

/// What a fence that has signalled prints (`dma_fence_driver_name`, drivers/dma-buf/dma-fence.c).
pub(crate) const DETACHED: &[u8] = b"detached-driver";

/// Drivers of which a fence is a job and nothing else tells of it: they make it as they hand the job over (`nouveau_fence_emit`,
/// `radeon_fence_emit`).
pub(crate) const FENCE_IS_JOB: [&[u8]; 2] = [b"nouveau", b"radeon"];
