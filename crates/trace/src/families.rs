//! Which tracepoints there are, and what each of their fields means: a folder or file a family.
//!
//! A family is a table of [`Spec`]s. A spec names fields; where they stand is looked up in the format that comes with the records, so
//! that one spec serves every kernel that writes these names.

mod drm_sched;

use gpuscope_model::trace::{EventKind, Family};

/// What one tracepoint says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) kind: EventKind,
    /// Which job.
    pub(crate) key: Key,
    /// Which job that one waits for: fields of its fence's context and seqno.
    pub(crate) other: Option<(&'static str, &'static str)>,
    /// Which ring.
    pub(crate) ring: RingFields,
    /// The field with the device's name.
    pub(crate) gpu: Option<&'static str>,
    /// The field with the client's number.
    pub(crate) client: Option<&'static str>,
    /// The field with the number that the kind of event gives a meaning.
    pub(crate) value: Option<&'static str>,
    /// The field with the thread, where it is not the one that ran.
    pub(crate) tid: Option<&'static str>,
}

/// A spec that says nothing: what others begin with.
pub(crate) const NOTHING: Spec = Spec {
    name: "",
    kind: EventKind::Test,
    key: Key::None,
    other: None,
    ring: RingFields::None,
    gpu: None,
    client: None,
    value: None,
    tid: None,
};

/// How a record names its job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// It does not.
    None,
    /// Context and seqno of its fence. Where one of the fields has 32 bits only, the key is a cut one.
    Fence(&'static str, &'static str),
    /// Address of its fence. With a second field, its number in its ring, by which later records may name it.
    Address(&'static str, Option<&'static str>),
    /// Its number in its ring.
    NumberInRing(&'static str),
}

/// How a record names its ring.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RingFields {
    /// It does not.
    None,
    /// By a text.
    Named(&'static str),
}

/// The systems of tracepoints that are understood, each with its events.
pub(crate) const FAMILIES: &[(&str, Family, &[Spec])] = &[("gpu_scheduler", Family::DrmSched, drm_sched::SPECS)];

/// What a tracepoint says, if it is understood.
pub(crate) fn find(system: &str, name: &str) -> Option<(Family, &'static Spec)> {
    let (_, family, specs) = FAMILIES.iter().find(|(of, ..)| *of == system)?;
    Some((*family, specs.iter().find(|spec| spec.name == name)?))
}

/// Every tracepoint of these families that is understood: its system, its family, and what it says. Which of them a kernel has is for
/// the kernel to say.
pub(crate) fn events_of(families: &[Family]) -> impl Iterator<Item = (&'static str, Family, &'static Spec)> {
    let wanted = FAMILIES.iter().filter(|(_, family, _)| families.contains(family));
    wanted.flat_map(|(system, family, specs)| specs.iter().map(|spec| (*system, *family, spec)))
}
