//! Which tracepoints there are, and what each of their fields means: a folder or file a family.
//!
//! A family is a table of [`Spec`]s. A spec names fields; where they stand is looked up in the format that comes with the records, so
//! that one spec serves every kernel that writes these names.

mod amdgpu;
mod dma_fence;
mod drm_sched;
mod i915;
mod ioctl;
mod machine;
mod msm;
mod panthor;
mod sched;
mod v3d;
mod virtio_gpu;
mod xe;

pub(crate) use dma_fence::{DETACHED, FENCE_IS_JOB};
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
    /// The field with the device's number, and what the number is behind in its name.
    pub(crate) gpu_number: Option<(&'static str, &'static str)>,
    /// The field with the client's number.
    pub(crate) client: Option<&'static str>,
    /// The field with the number that the kind of event gives a meaning.
    pub(crate) value: Option<&'static str>,
    /// What that field's number means, where it does not stand for itself.
    pub(crate) value_as: Option<fn(u64) -> Option<i64>>,
    /// A field that says more of that number, and what comes of both.
    pub(crate) value_with: Option<(&'static str, Joined)>,
    /// The field with the thread, where it is not the one that ran.
    pub(crate) tid: Option<&'static str>,
    /// The field with its name.
    pub(crate) comm: Option<&'static str>,
    /// The fields with a fence's driver and timeline.
    pub(crate) fence: Option<(&'static str, &'static str)>,
    /// It tells again of a job that the DRM scheduler tells of: not asked for where the scheduler's events are.
    pub(crate) echo: bool,
    /// Which of its records are wanted, in the language of tracefs' filters.
    pub(crate) filter: Option<&'static str>,
}

/// What comes of two numbers.
pub(crate) type Joined = fn(u64, u64) -> i64;

/// A spec that says nothing: what others begin with.
pub(crate) const NOTHING: Spec = Spec {
    name: "",
    kind: EventKind::Test,
    key: Key::None,
    other: None,
    ring: RingFields::None,
    gpu: None,
    gpu_number: None,
    client: None,
    value: None,
    value_as: None,
    value_with: None,
    tid: None,
    comm: Some("comm"),
    fence: None,
    echo: false,
    filter: None,
};

/// How a record names its job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// It does not.
    None,
    /// Context and seqno of its fence. Where one of the fields has 32 bits only, the key is a cut one.
    Fence(&'static str, &'static str),
    /// The same of a driver whose seqnos have 32 bits: nothing is cut off.
    ShortFence(&'static str, &'static str),
    /// The first of these fields that there is counts its ring's jobs; a 0 names none.
    Counted(&'static [&'static str]),
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
    /// There is only this one.
    Fixed(&'static str),
    /// By a number, which stands behind this.
    Numbered(&'static str, &'static str),
    /// By a number among these names.
    OneOf(&'static str, &'static [&'static str]),
    /// By the number of its class among these names, and a number among those of its class.
    Engine(&'static str, &'static [&'static str], &'static str),
}

/// The systems of tracepoints that are understood, each with its events.
pub(crate) const FAMILIES: &[(&str, Family, &[Spec])] = &[
    ("gpu_scheduler", Family::DrmSched, drm_sched::SPECS),
    ("dma_fence", Family::FenceWait, dma_fence::WAITS),
    ("dma_fence", Family::DmaFence, dma_fence::FENCES),
    ("i915", Family::I915, i915::SPECS),
    ("xe", Family::Xe, xe::SPECS),
    ("amdgpu", Family::Amdgpu, amdgpu::SPECS),
    ("virtio_gpu", Family::VirtioGpu, virtio_gpu::SPECS),
    ("v3d", Family::V3d, v3d::SPECS),
    ("panthor", Family::Panthor, panthor::SPECS),
    ("drm_msm_gpu", Family::Msm, msm::SPECS),
    ("syscalls", Family::Ioctl, ioctl::SPECS),
    ("devfreq", Family::Machine, machine::SPECS),
    ("sched", Family::Sched, sched::SPECS),
];

/// Drivers whose jobs are told by their fences, by those alone or to the end.
const BY_FENCES: [&str; 3] = ["i915", "nouveau", "radeon"];

pub use ioctl::ioctl_name;

/// What is recorded unless one asks for something else, on a machine with these drivers: all that tells of jobs, errors and waits, and is
/// rare beside the jobs. Fences begin and end several times a job: only where nothing else tells that a job is over.
pub fn by_default<'a>(drivers: impl IntoIterator<Item = &'a str>) -> Vec<Family> {
    let mut families = vec![
        Family::DrmSched,
        Family::FenceWait,
        Family::I915,
        Family::Xe,
        Family::VirtioGpu,
        Family::V3d,
        Family::Panthor,
    ];
    if drivers.into_iter().any(|driver| BY_FENCES.contains(&driver)) {
        families.push(Family::DmaFence);
    }
    families
}

/// What a tracepoint says, if it is understood.
pub(crate) fn find(system: &str, name: &str) -> Option<(Family, &'static Spec)> {
    let of_system = FAMILIES.iter().filter(|(of, ..)| *of == system);
    of_system
        .flat_map(|(_, family, specs)| specs.iter().map(|spec| (*family, spec)))
        .find(|(_, spec)| spec.name == name)
}

/// The system of a tracepoint that is understood, by its name alone: no two of them are called the same.
pub(crate) fn system_of(name: &str) -> Option<&'static str> {
    FAMILIES.iter().find(|(.., specs)| specs.iter().any(|spec| spec.name == name)).map(|(system, ..)| *system)
}

/// Every tracepoint of these families that is understood: its system, its family, and what it says. Which of them a kernel has is for
/// the kernel to say.
pub(crate) fn events_of(families: &[Family]) -> impl Iterator<Item = (&'static str, Family, &'static Spec)> {
    let has_scheduler = families.contains(&Family::DrmSched);
    let wanted = FAMILIES.iter().filter(|(_, family, _)| families.contains(family));
    wanted
        .flat_map(|(system, family, specs)| specs.iter().map(|spec| (*system, *family, spec)))
        .filter(move |(_, _, spec)| !(spec.echo && has_scheduler))
}

#[cfg(test)]
mod tests;
