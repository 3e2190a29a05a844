//! `i915`: requests, which no DRM scheduler sees.
//!
//! Source: drivers/gpu/drm/i915/i915_trace.h, the same in Linux 6.1, 6.12 and 7.2. A request is told by its fence; seqnos of i915 have 32
//! bits, so that nothing is cut off. Devices are numbers of card nodes, engines a class and an instance as user space numbers them.
//!
//! `_queue` fires in the submitter's ioctl, `_add` right after it and for requests of the kernel itself. What tells of the way to the
//! hardware (`_execute`, `_in`, `_out`) is there only with CONFIG_DRM_I915_LOW_LEVEL_TRACEPOINTS, which distributions leave out; under the
//! GuC, `_in` means that the firmware has it, so that it is no start. The end is the fence's `dma_fence_signaled`; `_retire` comes later.

use super::{Key, NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

/// `enum drm_i915_gem_engine_class` (include/uapi/drm/i915_drm.h), as the driver names engines.
const CLASSES: &[&str] = &["rcs", "bcs", "vcs", "vecs", "ccs"];

const REQUEST: Spec = Spec {
    key: Key::ShortFence("ctx", "seqno"),
    ring: RingFields::Engine("class", CLASSES, "instance"),
    gpu_number: Some(("dev", "card")),
    ..NOTHING
};

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "i915_request_queue", kind: EventKind::Submit, ..REQUEST },
    Spec { name: "i915_request_add", kind: EventKind::Submit, ..REQUEST },
    Spec { name: "i915_request_execute", kind: EventKind::Commit, ..REQUEST },
    Spec { name: "i915_request_guc_submit", kind: EventKind::Commit, ..REQUEST },
    Spec { name: "i915_request_in", kind: EventKind::ContextSwitch, value: Some("port"), ..REQUEST },
    Spec { name: "i915_request_out", kind: EventKind::ContextSwitch, ..REQUEST },
    Spec { name: "i915_request_retire", kind: EventKind::Complete, ..REQUEST },
    Spec { name: "i915_request_wait_begin", kind: EventKind::WaitBegin, ..REQUEST },
    Spec { name: "i915_request_wait_end", kind: EventKind::WaitEnd, ..REQUEST },
    Spec { name: "intel_context_reset", kind: EventKind::Error, ..NOTHING },
    Spec { name: "intel_context_ban", kind: EventKind::Error, ..NOTHING },
    // Until 6.1; in MHz.
    Spec {
        name: "intel_gpu_freq_change",
        kind: EventKind::Frequency,
        value: Some("freq"),
        value_as: Some(|mhz| i64::try_from(mhz).ok()?.checked_mul(1_000_000)),
        ..NOTHING
    },
];
