//! The machine around: frequencies that devfreq sets.
//!
//! Source: include/trace/events/devfreq.h: panfrost, panthor, lima, msm and others leave the choice of a frequency to devfreq.

use super::{NOTHING, RingFields, Spec};
use gpuscope_model::trace::EventKind;

pub(crate) const SPECS: &[Spec] = &[Spec {
    name: "devfreq_frequency",
    kind: EventKind::Frequency,
    gpu: Some("dev_name"),
    ring: RingFields::Fixed(""),
    value: Some("freq"),
    ..NOTHING
}];
