//! The stages of a job, as viewers draw them.

use gpuscope_model::trace::{ExecKind, Job, JobStatus};

/// A part of a job's life that has lanes of its own. Its number is its place below the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From the hardware's start to the end.
    Execution,
    /// From hand-over to the end, where the start is not known.
    InFlight,
    /// From hand-over to the start.
    HardwareQueue,
    /// From submission to hand-over.
    Queue,
}

impl Stage {
    /// The name of its lanes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Execution => "execution",
            Stage::InFlight => "in flight",
            Stage::HardwareQueue => "hardware queue",
            Stage::Queue => "queue",
        }
    }
}

/// The stages of a job that have a begin, each with its end. Without one it lasts until the trace ends; a stage that was left at an
/// unknown time is none.
pub(crate) fn stages(job: &Job) -> [Option<(Stage, u64, Option<u64>)>; 3] {
    // Perfetto takes a slice that ends before it begins for one that never ends.
    let stage = |stage, from_ns: u64, to_ns: Option<u64>| match to_ns {
        Some(to_ns) => Some((stage, from_ns, Some(to_ns.max(from_ns)))),
        None => (job.status == JobStatus::InFlight).then_some((stage, from_ns, None)),
    };
    let start_ns = job.start_ns.filter(|(_, kind)| *kind != ExecKind::InFlight).map(|(ns, _)| ns);
    let queue =
        job.submit_ns.and_then(|submit_ns| stage(Stage::Queue, submit_ns, job.run_ns.or(start_ns).or(job.done_ns)));
    let hardware_queue = match (job.run_ns, start_ns) {
        (Some(run_ns), Some(start_ns)) if run_ns < start_ns => Some((Stage::HardwareQueue, run_ns, Some(start_ns))),
        _ => None,
    };
    let with_hardware = match (start_ns, job.run_ns) {
        (Some(start_ns), _) => stage(Stage::Execution, start_ns, job.done_ns),
        (None, Some(run_ns)) => stage(Stage::InFlight, run_ns, job.done_ns),
        (None, None) => None,
    };
    [queue, hardware_queue, with_hardware]
}
