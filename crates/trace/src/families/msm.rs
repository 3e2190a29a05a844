//! `drm_msm_gpu`: Adreno, the one driver that tells how long the hardware took.
//!
//! Source: drivers/gpu/drm/msm/msm_gpu_trace.h of Linux 6.1, 6.12 and 7.2. A submission is told by its number (`id`); when it is retired,
//! `elapsed` is the time between the hardware's own marks, in nanoseconds (`retire_submit`, msm_gpu.c). Asked for together with the DRM
//! scheduler's events, which nothing joins with these, only the times of retired jobs are taken; asked for alone, whole jobs.

use super::{Key, NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

const JOB: Spec = Spec { key: Key::Counted(&["id"]), ring: RingFields::Numbered("ringid", "ring "), ..NOTHING };

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "msm_gpu_submit", kind: EventKind::Submit, tid: Some("pid"), echo: true, ..JOB },
    Spec { name: "msm_gpu_submit_flush", kind: EventKind::Commit, echo: true, ..JOB },
    Spec { name: "msm_gpu_submit_retired", kind: EventKind::Retired, value: Some("elapsed"), ..JOB },
    Spec { name: "msm_gpu_freq_change", kind: EventKind::Frequency, value: Some("freq"), ..NOTHING },
];
