//! What jobs took, added up in the kernel, and what that says of a stretch of time.

use super::Summary;
use crate::{GpuId, Reading, Text};

/// What the kernel has added up at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TotalsSample {
    /// The moment, in CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
    /// The rings that had jobs since the capture began.
    pub rings: Vec<RingSample>,
    /// Times of jobs, since the sample before.
    pub times: Vec<TimesSample>,
}

/// A ring at that moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RingSample {
    /// The GPU, where it has a name.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub name: Text,
    /// Jobs in the scheduler's queue.
    pub queued: u64,
    /// Jobs with the hardware or its firmware.
    pub on_hardware: u64,
    /// The most of either since the sample before; where nothing happened on the ring since, what they were when something last did.
    pub peak_queued: u64,
    /// As above.
    pub peak_on_hardware: u64,
    /// Time with a job handed over, since the capture began; none where that could not be read, which another time may be.
    pub busy_ns: Option<u64>,
    /// Jobs that ended, since the capture began.
    pub ended: u64,
}

/// A part of a job's life. All three are counted when the job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// In the scheduler's queue.
    Queue,
    /// With the hardware or its firmware, waiting there included.
    InFlight,
    /// From submission to end.
    Whole,
}

/// What jobs of a process on a ring took.
#[derive(Clone, Debug, PartialEq)]
pub struct TimesSample {
    /// The GPU, where it has a name.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub ring: Text,
    /// The process that submitted them.
    pub pid: u32,
    /// Which part of their life.
    pub stage: Stage,
    /// How many.
    pub count: u64,
    /// All together.
    pub sum_ns: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How many took no longer than a time and longer than the one before: those that are not 0, in order of time.
    pub buckets: Vec<(u64, u64)>,
    /// By how much a bucket's time may be above what fell into it, as a share of that.
    pub error: f64,
}

/// What happened between two samples.
#[derive(Clone, Debug, PartialEq)]
pub struct TotalsWindow {
    /// Its begin and end, in CLOCK_MONOTONIC nanoseconds.
    pub from_ns: u64,
    /// As above.
    pub to_ns: u64,
    /// The rings, by GPU and name: those that had jobs since the capture began.
    pub rings: Vec<RingTotals>,
    /// Who submitted the jobs that ended in between: the ones with most jobs first.
    pub processes: Vec<ProcessTotals>,
}

/// A ring in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct RingTotals {
    /// The GPU, where it has a name.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub name: Text,
    /// Jobs that ended.
    pub jobs: u64,
    /// Share of the window with a job handed over, 0 to 1.
    pub busy_ratio: Reading<f64>,
    /// Jobs in the scheduler's queue at its end.
    pub queued: u64,
    /// Jobs with the hardware or its firmware at its end.
    pub on_hardware: u64,
    /// The most in the queue at once.
    pub peak_queued: u64,
    /// The most with the hardware at once.
    pub peak_on_hardware: u64,
    /// Times of its jobs.
    pub times: StageTimes,
}

/// The jobs of a process on a ring in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessTotals {
    /// The process.
    pub pid: u32,
    /// Its name, where it was still there to be asked.
    pub comm: Option<Text>,
    /// The GPU, where it has a name.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub ring: Text,
    /// Times of its jobs.
    pub times: StageTimes,
}

/// Times by stage; none where no job passed it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTimes {
    /// [`Stage::Queue`].
    pub queue: Option<Summary>,
    /// [`Stage::InFlight`].
    pub in_flight: Option<Summary>,
    /// [`Stage::Whole`].
    pub whole: Option<Summary>,
}

impl TotalsWindow {
    /// So many of these a second of the window; none of a window without length.
    pub fn per_second(&self, jobs: u64) -> Option<f64> {
        let span_ns = self.to_ns.saturating_sub(self.from_ns);
        (span_ns > 0).then(|| jobs as f64 * 1e9 / span_ns as f64)
    }
}
