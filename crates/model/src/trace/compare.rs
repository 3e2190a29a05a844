//! Two traces side by side.

use super::{Dropped, RingReport};
use crate::{GpuId, Text, Unavailable};

/// What two traces say of the same rings and programs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The first trace.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Rings that either has, by GPU and name.
    pub rings: Vec<RingPair>,
    /// Programs that either has, by name: the numbers of processes differ from run to run. Those with most jobs first.
    pub processes: Vec<ProcessPair>,
    /// What cannot be compared, and why.
    pub unavailable: Vec<Unavailable>,
}

/// One of the traces.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its file.
    pub file: String,
    /// How long it is.
    pub span_ns: u64,
    /// Events that it lacks.
    pub dropped: Dropped,
}

/// A ring in both.
#[derive(Clone, Debug)]
pub struct RingPair {
    /// The GPU, where the records name it.
    pub gpu: Option<GpuId>,
    /// The ring.
    pub name: Text,
    /// What it did in the first trace.
    pub a: Option<RingReport>,
    /// And in the second.
    pub b: Option<RingReport>,
    /// Times in the scheduler's queue.
    pub queue: Vec<Change>,
    /// Times between hand-over and start.
    pub hw_queue: Vec<Change>,
    /// Times of execution, or in flight where both traces know no more.
    pub exec: Vec<Change>,
}

/// A program in both.
#[derive(Clone, Debug)]
pub struct ProcessPair {
    /// Its name.
    pub comm: Text,
    /// Jobs in each.
    pub jobs: [u64; 2],
    /// Time of execution in each, summed.
    pub exec_ns: [u64; 2],
    /// Times in the scheduler's queue.
    pub queue: Vec<Change>,
}

/// A percentile in both traces, and what can be told of the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which one: 50, 90 or 99.
    pub percent: u8,
    /// In the first trace.
    pub a_ns: u64,
    /// In the second.
    pub b_ns: u64,
    /// Bounds of the second less the first, at [`Change::CONFIDENCE_PERCENT`]. None where there are too few jobs to tell.
    pub bounds_ns: Option<(i64, i64)>,
}

/// What can be told of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The second is longer.
    Longer,
    /// The second is shorter.
    Shorter,
    /// No difference can be told: there may be none, or one of either sign.
    NotTold,
    /// Too few jobs.
    TooFew,
}

impl Change {
    /// How sure the bounds are.
    pub const CONFIDENCE_PERCENT: u8 = 99;

    /// What the bounds allow to say.
    pub fn verdict(&self) -> Verdict {
        match self.bounds_ns {
            None => Verdict::TooFew,
            Some((low, _)) if low > 0 => Verdict::Longer,
            Some((_, high)) if high < 0 => Verdict::Shorter,
            Some(_) => Verdict::NotTold,
        }
    }
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Longer => "longer",
            Verdict::Shorter => "shorter",
            Verdict::NotTold => "no_difference_told",
            Verdict::TooFew => "too_few",
        }
    }
}
