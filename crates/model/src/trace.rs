//! What happens to the jobs of GPUs: events as they were seen, and the names they refer to.
//!
//! An [`Event`] says one thing about one moment, whatever kernel, driver or tap it came from. It is small and plain: recordings hold
//! tens of millions. Texts stand once in [`TraceNames`], and events carry their numbers.

mod compare;
mod ioctls;
mod lanes;
mod late;
mod recent;
mod report;
mod step;
mod stuck;
mod switch;
mod totals;

pub use compare::{Change, Comparison, ProcessPair, RingPair, Side, Verdict};
pub use ioctls::{IoctlReport, Ioctls, is_drm_ioctl};
pub use lanes::{Gap, Idle, InIoctl, InIoctls, Lane, Timeline};
pub use late::{Cause, Lateness, Link, Share, Via, Who};
pub use recent::{RecentProcess, RecentReport, RecentRing};
pub use report::{
    ContextReport, ErrorReport, ExecKind, FamilyReport, FaultReport, Job, JobStatus, Note, ProcessReport, RingReport,
    Summary, TraceReport, WaitReport,
};
pub use step::{Step, StepKind, StepRef, StepTemplate, StepThread, StepValue};
pub use stuck::{Behind, HeldUp, StuckJob};
pub use switch::Switch;
pub use totals::{ProcessTotals, RingSample, RingTotals, Stage, StageTimes, TimesSample, TotalsSample, TotalsWindow};

use crate::{GpuId, Text};
use std::collections::HashMap;

/// What tells a job from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKey {
    /// Context and seqno of the scheduler's finished fence: never given out again while the machine runs.
    Fence {
        /// `dma_fence.context`.
        context: u64,
        /// `dma_fence.seqno`.
        seqno: u64,
    },
    /// The same with a seqno (and perhaps a context) cut to 32 bits, as the `dma_fence` events write them on every kernel.
    FenceLow {
        /// Lower half of the context.
        context: u32,
        /// Lower half of the seqno.
        seqno: u32,
    },
    /// Address of the scheduler's fence: all that records of kernels before 6.17 have. Valid from queue to done, then given out again.
    Address(u64),
    /// Its number in its ring, of drivers that count by ring and whose records name no fence. Not given out again for a long time.
    InRing {
        /// The ring.
        ring: RingId,
        /// The number.
        number: u64,
    },
}

/// What an event says. The words are the same for every driver; what each driver's events mean in them stands with its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventKind {
    /// A program handed a job to the driver's queue. The current task is the submitter.
    Submit,
    /// The job waits for another one ([`Event::other`]).
    Dependency,
    /// Found not ready when its turn came: it waits for [`Event::other`].
    Blocked,
    /// The job went to the hardware, or to the firmware that schedules it.
    Commit,
    /// The hardware began.
    Start,
    /// The hardware ended.
    End,
    /// The driver knows that it is done.
    Complete,
    /// The hardware went to another context.
    ContextSwitch,
    /// An interrupt of the device.
    Irq,
    /// A task began to wait for a fence.
    WaitBegin,
    /// It goes on.
    WaitEnd,
    /// A job timed out, failed or was cancelled; a reset. [`Event::value`] is the (negative) error number where there is one.
    Error,
    /// A DRM ioctl began: [`Event::value`] is its request number.
    IoctlEnter,
    /// And ended: [`Event::value`] is what it returned.
    IoctlExit,
    /// A processor went from one thread ([`Event::tid`]) to another: [`Event::value`] is a [`Switch`].
    SchedSwitch,
    /// A thread ([`Event::value`]) was woken: from now on it waits for a processor.
    SchedWaking,
    /// The GPU's frequency is [`Event::value`] hertz from now on.
    Frequency,
    /// A fence was made ready: its names can be read now and not later.
    FenceInit,
    /// A fence signalled: the end of what it stands for.
    FenceSignaled,
    /// A program handed a job to the hardware itself: [`EventKind::Submit`] and [`EventKind::Commit`] in one, of drivers without a queue
    /// of their own.
    SubmitCommit,
    /// The driver knows that it is done, and how long the hardware worked on it: [`Event::value`] nanoseconds.
    Retired,
    /// Put in by hand, to see whether a setting lets it through.
    Test,
}

impl EventKind {
    /// All of them, in order.
    pub const ALL: [EventKind; 22] = [
        EventKind::Submit,
        EventKind::Dependency,
        EventKind::Blocked,
        EventKind::Commit,
        EventKind::Start,
        EventKind::End,
        EventKind::Complete,
        EventKind::ContextSwitch,
        EventKind::Irq,
        EventKind::WaitBegin,
        EventKind::WaitEnd,
        EventKind::Error,
        EventKind::IoctlEnter,
        EventKind::IoctlExit,
        EventKind::SchedSwitch,
        EventKind::SchedWaking,
        EventKind::Frequency,
        EventKind::FenceInit,
        EventKind::FenceSignaled,
        EventKind::SubmitCommit,
        EventKind::Retired,
        EventKind::Test,
    ];

    /// The word for it in reports and filters: `SUBMIT`.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Submit => "SUBMIT",
            EventKind::Dependency => "DEPENDENCY",
            EventKind::Blocked => "BLOCKED",
            EventKind::Commit => "COMMIT",
            EventKind::Start => "START",
            EventKind::End => "END",
            EventKind::Complete => "COMPLETE",
            EventKind::ContextSwitch => "CTX_SWITCH",
            EventKind::Irq => "IRQ",
            EventKind::WaitBegin => "SYNC_WAIT_ENTER",
            EventKind::WaitEnd => "SYNC_WAIT_EXIT",
            EventKind::Error => "ERROR",
            EventKind::IoctlEnter => "IOCTL_ENTER",
            EventKind::IoctlExit => "IOCTL_EXIT",
            EventKind::SchedSwitch => "SCHED_SWITCH",
            EventKind::SchedWaking => "SCHED_WAKING",
            EventKind::Frequency => "FREQUENCY",
            EventKind::FenceInit => "FENCE_INIT",
            EventKind::FenceSignaled => "FENCE_SIGNALED",
            EventKind::SubmitCommit => "SUBMIT_COMMIT",
            EventKind::Retired => "RETIRED",
            EventKind::Test => "TEST",
        }
    }
}

/// Which tracepoints an event came from. Several families may tell of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// `gpu_scheduler`: the DRM scheduler, for every driver that uses it.
    DrmSched,
    /// `dma_fence`: what begins and ends fences.
    DmaFence,
    /// `dma_fence`: who waits for fences.
    FenceWait,
    /// `i915`.
    I915,
    /// `xe`.
    Xe,
    /// `amdgpu`.
    Amdgpu,
    /// `virtio_gpu`.
    VirtioGpu,
    /// `v3d`.
    V3d,
    /// `panthor`, `panfrost` and their like.
    Panthor,
    /// `drm_msm_gpu`.
    Msm,
    /// DRM ioctls.
    Ioctl,
    /// `devfreq`: the machine around.
    Machine,
    /// `sched`: the kernel's own scheduler.
    Sched,
}

impl Family {
    /// All of them, in order.
    pub const ALL: [Family; 13] = [
        Family::DrmSched,
        Family::DmaFence,
        Family::FenceWait,
        Family::I915,
        Family::Xe,
        Family::Amdgpu,
        Family::VirtioGpu,
        Family::V3d,
        Family::Panthor,
        Family::Msm,
        Family::Ioctl,
        Family::Machine,
        Family::Sched,
    ];

    /// The name of the tracepoints' system, as tracefs has it, where one system is one family.
    pub fn name(self) -> &'static str {
        match self {
            Family::DrmSched => "gpu_scheduler",
            Family::DmaFence => "dma_fence",
            Family::FenceWait => "dma_fence_wait",
            Family::I915 => "i915",
            Family::Xe => "xe",
            Family::Amdgpu => "amdgpu",
            Family::VirtioGpu => "virtio_gpu",
            Family::V3d => "v3d",
            Family::Panthor => "panthor",
            Family::Msm => "drm_msm_gpu",
            Family::Ioctl => "ioctl",
            Family::Machine => "machine",
            Family::Sched => "sched",
        }
    }
}

/// Number of a ring in [`TraceNames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingId(pub u32);

/// Number of a text in [`TraceNames`]. 0 is the empty text: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(pub u32);

/// One moment of one job, or of the machine around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub at_ns: u64,
    /// What happened.
    pub kind: EventKind,
    /// Who says so.
    pub family: Family,
    /// The processor it was seen on.
    pub cpu: u16,
    /// The thread that was running. Of [`EventKind::Submit`], waits and ioctls it is the one that acts; elsewhere it is whoever was
    /// interrupted.
    pub tid: u32,
    /// Its process; 0 where that is not known.
    pub pid: u32,
    /// Its name at this moment.
    pub comm: NameId,
    /// The ring, where the event names it.
    pub ring: Option<RingId>,
    /// The job.
    pub key: Option<JobKey>,
    /// The job that it waits for.
    pub other: Option<JobKey>,
    /// DRM client, as in fdinfo's `drm-client-id`.
    pub client: Option<u64>,
    /// A number that [`EventKind`] gives a meaning: an error, an ioctl, a frequency; of submit and commit the jobs in the queue. None
    /// where the record has none: a [`EventKind::Complete`] without it does not say whether the job failed.
    pub value: Option<i64>,
}

/// A queue of one GPU, in which jobs run in order unless seen otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ring {
    /// The device's name as the kernel prints it: `0000:03:00.0`. None where the records do not carry it; the trace's coverage says
    /// why.
    pub gpu: Option<GpuId>,
    /// The scheduler's name: `rcs0`, `gfx_0.0.0`.
    pub name: Text,
}

/// The texts of a recording or of a running trace, each with a number.
///
/// What is looked up again and again are a few rings and thread names, so both stand in a list and are found by their hash.
#[derive(Clone, Debug)]
pub struct TraceNames {
    rings: Vec<Ring>,
    texts: Vec<Text>,
    by_text: HashMap<Text, NameId>,
    by_ring: HashMap<Ring, RingId>,
}

impl Default for TraceNames {
    fn default() -> Self {
        TraceNames {
            rings: Vec::new(),
            texts: vec![Text::Static("")],
            by_text: HashMap::from([(Text::Static(""), NameId(0))]),
            by_ring: HashMap::new(),
        }
    }
}

impl TraceNames {
    /// The number of a text; the same for the same text.
    pub fn text(&mut self, text: &str) -> NameId {
        if let Some(id) = self.by_text.get(text) {
            return *id;
        }
        let id = NameId(u32::try_from(self.texts.len()).unwrap_or(0));
        let text = Text::from(text.to_string());
        self.texts.push(text.clone());
        self.by_text.insert(text, id);
        id
    }

    /// The number of a ring; the same for the same GPU and name.
    pub fn ring(&mut self, gpu: Option<&str>, name: &str) -> RingId {
        let ring = Ring { gpu: gpu.map(|gpu| GpuId::new(gpu.to_string())), name: Text::from(name.to_string()) };
        if let Some(id) = self.by_ring.get(&ring) {
            return *id;
        }
        let id = RingId(u32::try_from(self.rings.len()).unwrap_or(u32::MAX));
        self.rings.push(ring.clone());
        self.by_ring.insert(ring, id);
        id
    }

    /// The text of a number; empty for one that was never given.
    pub fn get(&self, id: NameId) -> &str {
        self.texts.get(id.0 as usize).map_or("", |text| text.as_str())
    }

    /// The ring of a number.
    pub fn get_ring(&self, id: RingId) -> Option<&Ring> {
        self.rings.get(id.0 as usize)
    }

    /// The device of a ring; empty where the records do not name one.
    pub fn device_of(&self, ring: Option<RingId>) -> &str {
        let gpu = ring.and_then(|ring| self.get_ring(ring)?.gpu.as_ref());
        gpu.map_or("", |gpu| gpu.as_str())
    }

    /// All rings, by number.
    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }
}

/// Events that were seen, wanted and not kept, or never seen, by cause. Cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// No room in the buffer between kernel and program.
    pub ring_full: u64,
    /// The kernel did not run what records it: that was running already on the same processor.
    pub missed: u64,
    /// Over a rate limit.
    pub rate_limited: u64,
    /// Thinned by sampling.
    pub sampled_out: u64,
    /// Kept out by a filter that was asked for.
    pub filtered: u64,
    /// A table of the kernel's side was full: the event's job or task could not be remembered.
    pub table_full: u64,
    /// Records that could not be read: cut off, or of a layout that is not understood.
    pub unreadable: u64,
}

impl Dropped {
    /// Names and numbers, in a fixed order.
    pub fn each(&self) -> [(&'static str, u64); 7] {
        [
            ("ring_full", self.ring_full),
            ("missed", self.missed),
            ("rate_limited", self.rate_limited),
            ("sampled_out", self.sampled_out),
            ("filtered", self.filtered),
            ("table_full", self.table_full),
            ("unreadable", self.unreadable),
        ]
    }
}
