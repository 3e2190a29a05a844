//! Errors of fences: which of them are of a job that says so itself.

use gpuscope_model::trace::{Event, EventKind, Job, JobKey, JobStatus};
use std::collections::VecDeque;

/// Failed jobs that are remembered: a fence signals its error right behind the job's end.
const MOST_FAILED: usize = 1024;

/// Sorts errors that name a fence and no ring. That of a job is told with the job, by context and seqno; any other fence that ended with an
/// error is one of another driver or of user space, and of no ring.
#[derive(Debug, Default)]
pub(crate) struct FenceErrors {
    failed: VecDeque<JobKey>,
    /// The last error, as long as a job may follow that it ends.
    pending: Option<Event>,
}

impl FenceErrors {
    /// Takes the next event, and gives the error before it if that was of no job.
    pub(crate) fn event(&mut self, event: &Event) -> Option<Event> {
        let stray = self.pending.take();
        if FenceErrors::is_one(event) && event.key.is_none_or(|key| !self.failed.contains(&key)) {
            self.pending = Some(*event);
        }
        stray
    }

    /// Whether an event says no more than that a fence ended with an error.
    pub(crate) fn is_one(event: &Event) -> bool {
        event.kind == EventKind::Error && event.ring.is_none()
    }

    /// Takes a job that the last event ended.
    pub(crate) fn job(&mut self, job: &Job) {
        if !matches!(job.status, JobStatus::Failed(_)) {
            return;
        }
        if self.pending.is_some_and(|error| error.key == Some(job.key)) {
            self.pending = None;
        }
        if self.failed.len() >= MOST_FAILED {
            self.failed.pop_front();
        }
        self.failed.push_back(job.key);
    }

    /// The last error, if it was of no job.
    pub(crate) fn finish(&mut self) -> Option<Event> {
        self.pending.take()
    }
}
