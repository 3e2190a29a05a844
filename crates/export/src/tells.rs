//! What a trace tells of its jobs.

use gpuscope_model::trace::{Job, JobKey};

/// What a trace tells of each of its jobs: of what it does not, nothing is known, and 0 would be a guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tells {
    /// How many others each depends on: in the DRM scheduler's events since Linux 6.17, where they were recorded.
    pub dependencies: bool,
}

impl Tells {
    /// How many others a job depends on. What was seen is told, whatever is known of the trace.
    pub(crate) fn dependencies(self, job: &Job) -> Option<u32> {
        // Jobs with keys of other kinds are not told of by those events.
        let is_told = self.dependencies && matches!(job.key, JobKey::Fence { .. });
        (is_told || job.dependencies > 0).then_some(job.dependencies)
    }
}
