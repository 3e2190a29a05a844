//! What a trace says, once its events were put together.

use super::{Dropped, EventKind, Family, Ioctls, JobKey, Lateness, NameId, RingId, TraceNames};
use crate::{GpuId, SourceReport, Text, Unavailable};

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Well.
    Completed,
    /// It ended; the records do not say how.
    Ended,
    /// With this (negative) error number.
    Failed(i64),
    /// It has not ended when the trace did.
    InFlight,
    /// Its end is not in the trace: records were lost, or its key was seen on a new job.
    Lost,
}

impl JobStatus {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Completed => "completed",
            JobStatus::Ended => "ended",
            JobStatus::Failed(_) => "failed",
            JobStatus::InFlight => "in_flight",
            JobStatus::Lost => "lost",
        }
    }
}

/// How the time of execution is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecKind {
    /// The hardware's start and end were recorded.
    Measured,
    /// The start is taken for the later of its own hand-over and the end of the job before: right where a ring runs one job at a time,
    /// in order.
    Inferred,
    /// Only that it was with the hardware or its firmware is known, not when it executed.
    InFlight,
}

impl ExecKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            ExecKind::Measured => "measured",
            ExecKind::Inferred => "inferred",
            ExecKind::InFlight => "in_flight",
        }
    }
}

/// One job, as far as the trace shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// What tells it from others.
    pub key: JobKey,
    /// Its ring.
    pub ring: Option<RingId>,
    /// Its DRM client.
    pub client: Option<u64>,
    /// The process that submitted it; 0 where its submission was not seen or the record does not tell.
    pub pid: u32,
    /// The thread that did; 0 likewise.
    pub tid: u32,
    /// That thread's name.
    pub comm: NameId,
    /// When it was submitted.
    pub submit_ns: Option<u64>,
    /// When it was handed to the hardware or its firmware.
    pub run_ns: Option<u64>,
    /// When the hardware began, and how that is known.
    pub start_ns: Option<(u64, ExecKind)>,
    /// When it ended.
    pub done_ns: Option<u64>,
    /// Jobs it depends on, as far as they were recorded.
    pub dependencies: u32,
    /// The last job for which it was found waiting.
    pub blocked_by: Option<JobKey>,
    /// How it ended.
    pub status: JobStatus,
}

impl Job {
    /// From submission to hand-over: time in the scheduler's queue, dependencies included.
    pub fn queue_ns(&self) -> Option<u64> {
        Some(self.run_ns?.saturating_sub(self.submit_ns?))
    }

    /// From hand-over to the hardware's start.
    pub fn hw_queue_ns(&self) -> Option<u64> {
        Some(self.start_ns?.0.saturating_sub(self.run_ns?))
    }

    /// From the hardware's start to the end.
    pub fn exec_ns(&self) -> Option<u64> {
        Some(self.done_ns?.saturating_sub(self.start_ns?.0))
    }

    /// From hand-over to the end.
    pub fn in_flight_ns(&self) -> Option<u64> {
        Some(self.done_ns?.saturating_sub(self.run_ns?))
    }
}

/// A set of times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Their mean.
    pub mean_ns: f64,
    /// Half are no longer.
    pub p50_ns: u64,
    /// Nine of ten are no longer.
    pub p90_ns: u64,
    /// 99 of 100 are no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// By how much a percentile may be too high, as a share of it: 0 where all values were kept.
    pub error: f64,
}

/// What a ring did.
#[derive(Clone, Debug, PartialEq)]
pub struct RingReport {
    /// The GPU, where the records name it.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub name: Text,
    /// Jobs seen on it.
    pub jobs: u64,
    /// Of them, how many ended, by status, in the order of completed, ended, failed, in flight, lost.
    pub by_status: [u64; 5],
    /// Jobs that ended while one handed over before them had not.
    pub out_of_order: u64,
    /// Share of the trace's time in which at least one job was with the hardware, 0 to 1.
    pub busy_ratio: Option<f64>,
    /// Jobs submitted and not ended, at most.
    pub depth_peak: u64,
    /// Times in the scheduler's queue.
    pub queue: Option<Summary>,
    /// Times between hand-over and start. None where starts are not known.
    pub hw_queue: Option<Summary>,
    /// Times of execution; where starts are not known, times with the hardware or its firmware.
    pub exec: Option<Summary>,
    /// Which of them.
    pub exec_kind: ExecKind,
}

/// What a process did.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessReport {
    /// The process; 0 stands for those whose submission was not seen.
    pub pid: u32,
    /// Name of the thread that submitted last.
    pub comm: Text,
    /// Jobs it submitted.
    pub jobs: u64,
    /// Of them, how many failed.
    pub failed: u64,
    /// Time of execution of its jobs, summed; with the hardware or its firmware where that is all that is known.
    pub exec_ns: u64,
    /// Times in the scheduler's queue.
    pub queue: Option<Summary>,
}

/// What happened on one fence context: a queue of one client.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextReport {
    /// The context.
    pub context: u64,
    /// The process that submits to it.
    pub pid: u32,
    /// The GPU.
    pub gpu: Option<GpuId>,
    /// The ring on which its jobs ran last.
    pub ring: Text,
    /// Jobs.
    pub jobs: u64,
}

/// How long a process waited for the fences of one ring.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitReport {
    /// The process; the thread's number where the process is not known.
    pub pid: u32,
    /// Its name.
    pub comm: Text,
    /// The GPU that it waited for, where that is known.
    pub gpu: Option<GpuId>,
    /// The ring of the job that it waited for, or else the fence's timeline; empty where neither is known.
    pub ring: Text,
    /// How long each wait took.
    pub waits: Summary,
}

/// A job that failed, or a reset.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorReport {
    /// When.
    pub at_ns: u64,
    /// The GPU.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub ring: Text,
    /// The job.
    pub key: Option<JobKey>,
    /// Who submitted it.
    pub pid: u32,
    /// Its name.
    pub comm: Text,
    /// The error number.
    pub error: Option<i64>,
}

/// Something that was noted while a trace was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The moment that it is about.
    pub at_ns: u64,
    /// What.
    pub text: Text,
}

/// What a driver told beside the ends of jobs: a timeout, a reset, a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultReport {
    /// When.
    pub at_ns: u64,
    /// Who says so.
    pub family: Family,
    /// The GPU.
    pub gpu: Option<GpuId>,
    /// The ring; empty where the event names none.
    pub ring: Text,
    /// The error number, where there is one.
    pub error: Option<i64>,
}

/// What came from a family of tracepoints.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyReport {
    /// The family.
    pub family: Family,
    /// Its events by kind, in the order of [`EventKind::ALL`].
    pub events: [u64; EventKind::ALL.len()],
}

/// Everything at one look.
#[derive(Clone, Debug)]
pub struct TraceReport {
    /// Time of the first event, in CLOCK_MONOTONIC nanoseconds.
    pub from_ns: u64,
    /// Time of the last.
    pub to_ns: u64,
    /// Events by kind, in the order of [`EventKind::ALL`].
    pub events: [u64; EventKind::ALL.len()],
    /// The same by family, those of which any came.
    pub families: Vec<FamilyReport>,
    /// Events that are not there, by cause.
    pub dropped: Dropped,
    /// What was asked for that left jobs or events out, in the words of `gpuscope trace record`; empty where nothing was, none where the trace
    /// does not tell.
    pub settings: Option<Vec<String>>,
    /// Ends of jobs whose beginning is not in the trace.
    pub unmatched_ends: u64,
    /// The rings, by GPU and name.
    pub rings: Vec<RingReport>,
    /// The processes, those with most jobs first.
    pub processes: Vec<ProcessReport>,
    /// The contexts, those with most jobs first.
    pub contexts: Vec<ContextReport>,
    /// Waits, by process.
    pub waits: Vec<WaitReport>,
    /// What processes asked of DRM devices, where that was recorded.
    pub ioctls: Option<Ioctls>,
    /// The first errors.
    pub errors: Vec<ErrorReport>,
    /// Their number.
    pub error_count: u64,
    /// The first of what drivers told beside the ends of jobs.
    pub faults: Vec<FaultReport>,
    /// Their number.
    pub fault_count: u64,
    /// What was noted while the trace was made: alarms, and what a flight recorder was triggered by. The first ones.
    pub notes: Vec<Note>,
    /// Their number.
    pub note_count: u64,
    /// The jobs that took longest from submission to end.
    pub slowest: Vec<Job>,
    /// The names that [`TraceReport::slowest`] refers to.
    pub names: TraceNames,
    /// Why jobs took their time, where that was asked.
    pub late: Vec<Lateness>,
    /// The names that [`TraceReport::late`] refers to.
    pub late_names: TraceNames,
    /// What could be captured and what not.
    pub coverage: Vec<SourceReport>,
    /// What this trace cannot tell, and why.
    pub unavailable: Vec<Unavailable>,
}

impl TraceReport {
    /// How often a kind of event was seen.
    pub fn count(&self, kind: EventKind) -> u64 {
        self.events.get(kind as usize).copied().unwrap_or(0)
    }
}
