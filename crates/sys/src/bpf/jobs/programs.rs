//! The programs on the scheduler's tracepoints.

use super::super::error::BpfError;
use super::super::object::{Attached, Programs};

/// A program of `jobs.bpf.c`.
#[derive(Debug)]
pub(super) struct Program {
    /// Its name in the object.
    pub(super) name: &'static str,
    /// The tracepoint that it is for since Linux 6.17, and the one before.
    pub(super) tracepoints: &'static [&'static str],
    /// The number of its records' layout.
    pub(super) record: u16,
    /// Whether there is no trace without it.
    is_needed: bool,
}

impl Program {
    /// A bit for the type of the records that it writes.
    pub(super) fn bit(&self) -> u32 {
        1 << self.record
    }
}

const fn needed(name: &'static str, tracepoints: &'static [&'static str], record: u16) -> Program {
    Program { name, tracepoints, record, is_needed: true }
}

const fn optional(name: &'static str, tracepoints: &'static [&'static str], record: u16) -> Program {
    Program { name, tracepoints, record, is_needed: false }
}

pub(super) const FENCE_ERROR: Program = optional("fence_error", &["dma_fence_signaled"], 6);
pub(super) const DONE: Program = needed("done", &["drm_sched_job_done", "drm_sched_process_job"], 3);

/// In the order in which they are attached, from a job's end to its beginning. They begin at one moment all the same, when the last is
/// attached: were a job's end heard before its beginning, or its beginning alone, it would look as if it had been lost.
pub(super) const PROGRAMS: [Program; 6] = [
    FENCE_ERROR,
    DONE,
    needed("run", &["drm_sched_job_run", "drm_run_job"], 2),
    optional("unschedulable", &["drm_sched_job_unschedulable", "drm_sched_job_wait_dep"], 5),
    optional("add_dep", &["drm_sched_job_add_dep"], 4),
    needed("queue", &["drm_sched_job_queue", "drm_sched_job"], 1),
];

/// Loads and attaches those that are wanted.
pub(super) fn attach_all(programs: &Programs, is_wanted: impl Fn(&Program) -> bool) -> Result<Vec<Attached>, BpfError> {
    let mut all = Vec::new();
    for program in PROGRAMS.iter().filter(|program| is_wanted(program)) {
        match programs.attach(program.name, program.tracepoints)? {
            Some(attached) => all.push(attached),
            None if program.is_needed => {
                let name = format!("gpu_scheduler:{}", program.tracepoints.join(" or "));
                return Err(BpfError::NoTracepoint { name });
            }
            None => {}
        }
    }
    Ok(all)
}
