//! Why a job was late.

use super::{Job, JobKey, NameId, RingId};

/// The time of one job from submission to end, piece by piece.
///
/// The pieces follow each other without a gap: the first begins with the job's submission, the last ends with its end, and their times
/// add up to its whole time. What is not known is a piece of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Lateness {
    /// The job.
    pub job: Job,
    /// Where its time began: its submission, or its hand-over where that is all that was seen.
    pub from_ns: u64,
    /// Where it ended: its end, or that of the trace.
    pub to_ns: u64,
    /// Whether the job had ended then.
    pub has_ended: bool,
    /// The pieces, in order of time. Of a long chain those nearest to the end, behind one that stands for all before them.
    pub links: Vec<Link>,
    /// The whole time by what passed in it, the longest first. What is of the same cause, the same processes and rings is one share.
    pub shares: Vec<Share>,
}

impl Lateness {
    /// The whole time.
    pub fn total_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// What one cause took of a job's time, all its pieces together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The last of its pieces; of several, [`Link::by`] is who was in the way for longest, and [`Link::jobs`] how many were.
    pub link: Link,
    /// How long all were.
    pub ns: u64,
}

/// A piece of a job's time, and what passed in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// When it began.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
    /// What passed.
    pub cause: Cause,
    /// Whose progress decided: the job itself, or one that it waited for, directly or not; of several, the last one.
    pub of: Who,
    /// How many these are, one after the other.
    pub of_jobs: u64,
    /// How the job came to wait for that one.
    pub via: Via,
    /// Who was in the way; of several, the one that was for longest.
    pub by: Option<Who>,
    /// How many jobs were in the way one after the other.
    pub jobs: u64,
}

impl Link {
    /// How long it was.
    pub fn ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }
}

/// A job and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The job.
    pub key: JobKey,
    /// Its process, or its thread where the process is not known; 0 where neither is.
    pub pid: u32,
    /// Its name.
    pub comm: NameId,
    /// Where it ran.
    pub ring: Option<RingId>,
}

impl From<&Job> for Who {
    fn from(job: &Job) -> Who {
        Who { key: job.key, pid: if job.pid == 0 { job.tid } else { job.pid }, comm: job.comm, ring: job.ring }
    }
}

/// How one job comes to wait for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// It is the same job.
    Itself,
    /// It, or a job that it waited for, depended on that one.
    Dependency,
    /// That one stood before it in the queue of its context, which is handed over in order (`drm_sched_entity_pop_job`).
    OwnQueue,
}

impl Via {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Via::Itself => "itself",
            Via::Dependency => "dependency",
            Via::OwnQueue => "own_queue",
        }
    }
}

/// What passed in a piece of a job's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// [`Link::of`] executed.
    Executed,
    /// It was with the hardware or its firmware, and how much of that was execution is not known.
    InFlight,
    /// It was with the hardware, which executed [`Link::by`].
    BehindOnRing,
    /// It could have been handed over, and the hardware had as many jobs as it ever had in this stretch: it was to end [`Link::by`]
    /// first. Inferred: no event tells how many jobs a ring takes.
    RingFull,
    /// Nothing that was recorded held it back: the scheduler's thread had not handed it over yet. That one was late, or handed over others.
    Dispatch,
    /// The scheduler's thread was to hand it over, or something that came before it, and waited for a processor: others had them all, or it was
    /// just being woken. Where switches of threads were recorded.
    WorkerWaited,
    /// It waited for this fence, which is of no job that was recorded: another driver's, or one of user space. When it signalled is not
    /// recorded; the piece ends with the hand-over.
    Fence(JobKey),
    /// It had not been submitted yet: the thread that submits it was late.
    NotSubmitted,
    /// The same, and that thread waited for a processor. Where switches of threads were recorded.
    SubmitterWaited,
    /// It ended without having been handed over: killed, or cancelled before it ran.
    NeverRan,
    /// What passed is not recorded.
    NotRecorded,
    /// The chain is longer than what is told of it.
    Earlier,
}

impl Cause {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Executed => "executed",
            Cause::InFlight => "in_flight",
            Cause::BehindOnRing => "behind_on_ring",
            Cause::RingFull => "ring_full",
            Cause::Dispatch => "dispatch",
            Cause::WorkerWaited => "worker_waited",
            Cause::Fence(_) => "fence",
            Cause::NotSubmitted => "not_submitted",
            Cause::SubmitterWaited => "submitter_waited",
            Cause::NeverRan => "never_ran",
            Cause::NotRecorded => "not_recorded",
            Cause::Earlier => "earlier",
        }
    }
}
