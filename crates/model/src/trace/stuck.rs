//! Jobs that do not end.

use super::{Job, NameId};

/// Where a job is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldUp {
    /// With the hardware or its firmware: every job that was handed to its ring before has ended, and this one has not.
    OnHardware,
    /// In the scheduler's queue, though nothing is with the hardware, or though jobs that came later went by.
    InQueue,
}

impl HeldUp {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            HeldUp::OnHardware => "hardware",
            HeldUp::InQueue => "queue",
        }
    }
}

/// A job that has been in flight for too long, and still is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckJob {
    /// The job.
    pub job: Job,
    /// Where it is held up.
    pub place: HeldUp,
    /// Since when: its hand-over to the hardware, or its submission; the end of the job before it where that is later.
    pub since_ns: u64,
    /// When it was looked at: it had not ended by then.
    pub at_ns: u64,
    /// Whether it was not told before.
    pub is_new: bool,
    /// Whether records were lost since: its end may have been among them.
    pub is_doubtful: bool,
    /// Whose jobs wait behind it, those of most jobs first: what else is on its ring, and what was found waiting for it on others.
    pub behind: Vec<Behind>,
}

impl StuckJob {
    /// For how long it has been held up.
    pub fn age_ns(&self) -> u64 {
        self.at_ns.saturating_sub(self.since_ns)
    }

    /// How many jobs wait behind it.
    pub fn jobs_behind(&self) -> u64 {
        self.behind.iter().map(|of| of.jobs).sum()
    }
}

/// Jobs of one process that wait behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The process; 0 where the submission was not seen or the record does not tell.
    pub pid: u32,
    /// Name of the thread that submitted the first of them.
    pub comm: NameId,
    /// How many.
    pub jobs: u64,
}
