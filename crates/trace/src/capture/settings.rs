//! What of the events is kept, as whoever traces asks for it. All of it may be changed while a capture runs.
//!
//! It is decided for whole jobs, when they are queued, and holds for all their events: first the filters, then the sample, then the
//! limit. Jobs in flight keep what was decided of them.

use gpuscope_model::trace::EventKind;

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whose jobs, and which events of them.
    pub filters: Filters,
    /// Which of these.
    pub sampling: Sampling,
    /// And of these, how many.
    pub limit: Option<Limit>,
    /// Whether events come at all. Without, only totals are kept.
    pub events: bool,
    /// Whether what jobs take is added up in the kernel, where the back end can do that.
    pub totals: bool,
}

impl Default for Settings {
    /// Everything is kept, and nothing added up.
    fn default() -> Self {
        Settings {
            filters: Filters::default(),
            sampling: Sampling::default(),
            limit: None,
            events: true,
            totals: false,
        }
    }
}

/// Two lists. Where something is allowed, all else is not; what is denied is not, allowed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists<T> {
    /// Only these, unless empty.
    pub allow: Vec<T>,
    /// Never these.
    pub deny: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Lists { allow: Vec::new(), deny: Vec::new() }
    }
}

/// Whose jobs are kept: those that pass all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Processes that submit.
    pub pids: Lists<u32>,
    /// Whether children of listed processes, and theirs, are listed as they are; those that are there already and those to come.
    pub with_children: bool,
    /// Users that submit.
    pub uids: Lists<u32>,
    /// Their cgroups: inodes of folders in cgroup2.
    pub cgroups: Lists<u64>,
    /// Names of submitting threads, whole, as the kernel cuts them.
    pub comms: Lists<String>,
    /// Devices, as the kernel names them: `0000:03:00.0`.
    pub gpus: Lists<String>,
    /// Rings.
    pub rings: Lists<RingName>,
    /// Rings by what they are for, as far as their names tell it.
    pub classes: Lists<RingClass>,
    /// Kinds of events; others of the same job are not concerned.
    pub kinds: Lists<EventKind>,
}

/// What rings are for. Their names tell it, of drivers whose names do: [`RingClass::stems`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingClass {
    /// Drawing.
    Render,
    /// Compute alone.
    Compute,
    /// Copying.
    Copy,
    /// Decoding and encoding video and pictures.
    Video,
    /// Improving video.
    VideoEnhance,
}

impl RingClass {
    /// Whether the names that a driver gives its rings tell their class.
    pub fn is_told_by(driver: &str) -> bool {
        matches!(driver, "amdgpu" | "xe")
    }

    /// The letters that names of such rings begin with.
    ///
    /// Sources: `xe_exec_queue_assign_name` in drivers/gpu/drm/xe/xe_exec_queue.c (`rcs1`, `vcs17`: the number is that of the queue); what is
    /// printed to `ring->name` in drivers/gpu/drm/amd/amdgpu (`gfx_0.0.0`, `comp_1.0.0`, `sdma0`, `vcn_unified_0`, `uvd`, `vce0`, `jpeg_dec`,
    /// `vpe`), and the short ones of this project's testbed. i915 has no rings of this scheduler. Of other drivers, names of rings are numbers,
    /// or those of the device.
    pub fn stems(self) -> &'static [&'static str] {
        match self {
            RingClass::Render => &["rcs", "gfx"],
            RingClass::Compute => &["ccs", "comp", "compute"],
            RingClass::Copy => &["bcs", "sdma", "dma"],
            RingClass::Video => &["vcs", "vcn", "uvd", "vce", "jpeg", "dec", "enc"],
            RingClass::VideoEnhance => &["vecs", "vpe"],
        }
    }
}

/// A ring of one device, or of that name on all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingName {
    /// The device.
    pub gpu: Option<String>,
    /// The ring.
    pub name: String,
}

/// Which jobs of those that pass the filters are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// So large a part of them, from 0 to 1, chosen by what tells jobs apart: the same job is chosen every time.
    pub share: f64,
    /// Other shares for single rings.
    pub rings: Vec<(RingName, f64)>,
    /// The share is changed as time goes on, so that no more events come than this in a second: `share` is the most then. Rings with
    /// a share of their own keep it.
    pub target_events_per_second: Option<u64>,
    /// The same, so that the programs in the kernel take no more of a processor's time than this part of one: what they take on all processors
    /// is added up. Not in it: what the kernel does around a program, and what this process does with what they give. What is left out costs
    /// time, too: where that alone takes more, hardly anything is kept.
    pub target_cpu_ratio: Option<f64>,
    /// Only jobs that take at least so long from queue to done, or fail, with all their events. They come when the job is done; nothing that
    /// happened after the oldest that is not done can be called complete before.
    pub slower_than_ns: Option<u64>,
    /// Jobs that are not done after so long are waited for no longer, and what was kept of them is counted as lost.
    pub give_up_after_ns: u64,
}

/// The longest time-out that drivers give a job by default is 60 s (amdgpu's compute rings, `amdgpu_device_get_job_timeout_settings`).
const GIVE_UP_AFTER_NS: u64 = 70_000_000_000;

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            share: 1.0,
            rings: Vec::new(),
            target_events_per_second: None,
            target_cpu_ratio: None,
            slower_than_ns: None,
            give_up_after_ns: GIVE_UP_AFTER_NS,
        }
    }
}

/// How many jobs are kept, of all processes and rings together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many a second, and so many at once where there were fewer before.
    Bucket {
        /// Jobs a second.
        jobs_per_second: f64,
        /// Jobs at once.
        burst: u64,
    },
    /// So many in each window.
    Window {
        /// Jobs.
        jobs: u64,
        /// The windows' length in nanoseconds; they begin at its multiples on CLOCK_MONOTONIC.
        length_ns: u64,
    },
}
