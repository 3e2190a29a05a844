//! A stretch of time, ring by ring.

use super::{Job, JobKey, Link, RingId, TraceNames};

/// What rings and threads did in a stretch of time.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// When the trace began, in CLOCK_MONOTONIC nanoseconds: times are told from there.
    pub origin_ns: u64,
    /// When the stretch begins.
    pub from_ns: u64,
    /// When it ends.
    pub to_ns: u64,
    /// The rings with jobs in it, by GPU and name.
    pub lanes: Vec<Lane>,
    /// The job around which the stretch lies, if it was chosen so.
    pub around: Option<JobKey>,
    /// Jobs under way in it that were too many to keep: the earliest are not shown.
    pub left_out: u64,
    /// Ends in it of jobs whose beginning was not read: they began long before it, or before the trace.
    pub unmatched_ends: u64,
    /// When threads were within DRM ioctls, where that was recorded.
    pub ioctls: InIoctls,
    /// The names that jobs refer to.
    pub names: TraceNames,
}

/// Times in which threads were within DRM ioctls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InIoctls {
    /// In order of their begin.
    pub spans: Vec<InIoctl>,
    /// Those that were too many to keep.
    pub left_out: u64,
}

/// A time in which a thread was within a DRM ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InIoctl {
    /// The thread.
    pub tid: u32,
    /// When it began.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
}

/// What a ring did.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// The ring.
    pub ring: RingId,
    /// Jobs under way in the stretch, by submission.
    pub jobs: Vec<Job>,
    /// Times in which no job was with the hardware.
    pub gaps: Vec<Gap>,
}

/// A time in which a ring had no job with the hardware.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    /// When it began.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
    /// Why.
    pub why: Idle,
}

/// Why a ring had nothing to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Idle {
    /// No job was submitted to it.
    NothingSubmitted,
    /// The job that it got next was submitted, and this is what that one's time went to.
    Waiting(Link),
    /// Jobs were submitted, and none of them was handed over in the stretch, or what they waited for is not recorded.
    NotKnown,
}
