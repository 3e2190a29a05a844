//! The last seconds of a running trace.

use super::{StuckJob, Summary, TraceNames};
use crate::{GpuId, Text};

/// What happened in the last seconds, and what is under way.
#[derive(Clone, Debug)]
pub struct RecentReport {
    /// The end of the span, in CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
    /// Its length: the window that was asked for, or less where the trace is younger or more jobs came than are kept.
    pub span_ns: u64,
    /// The rings, by GPU and name: those with jobs in the span or in flight.
    pub rings: Vec<RecentRing>,
    /// Who submitted those, the ones with most jobs first.
    pub processes: Vec<RecentProcess>,
    /// The jobs that are stuck.
    pub stuck: Vec<StuckJob>,
    /// Names for them.
    pub names: TraceNames,
}

/// A ring in the last seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentRing {
    /// The GPU, where the records name it.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub name: Text,
    /// Jobs that ended in the span.
    pub jobs: u64,
    /// Of them, how many failed.
    pub failed: u64,
    /// Share of the span in which at least one job was with the hardware, 0 to 1.
    pub busy_ratio: f64,
    /// Jobs in the scheduler's queue now.
    pub queued: u64,
    /// Jobs with the hardware or its firmware now.
    pub on_hardware: u64,
    /// Times in the scheduler's queue, of jobs that ended in the span.
    pub queue: Option<Summary>,
    /// Times with the hardware or its firmware, waiting there included.
    pub in_flight: Option<Summary>,
}

/// A process in the last seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentProcess {
    /// The process; 0 stands for those whose submission was not seen.
    pub pid: u32,
    /// Name of the thread that submitted last.
    pub comm: Text,
    /// Its jobs that ended in the span.
    pub jobs: u64,
    /// Of them, how many failed.
    pub failed: u64,
    /// Its jobs in flight now: in the queue and with the hardware.
    pub in_flight: u64,
    /// Times of its jobs in the scheduler's queue.
    pub queue: Option<Summary>,
}

impl RecentReport {
    /// So many of these a second of the span; none of no span.
    pub fn per_second(&self, jobs: u64) -> Option<f64> {
        (self.span_ns > 0).then(|| jobs as f64 * 1e9 / self.span_ns as f64)
    }
}
