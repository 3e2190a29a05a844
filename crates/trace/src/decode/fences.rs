//! Names of fences by their context: a fence that has signalled has none any more.

use crate::families::{DETACHED, FENCE_IS_JOB};
use crate::record::until_zero;
use gpuscope_model::trace::{RingId, TraceNames};
use rustc_hash::FxHashMap;

/// Contexts that are remembered. Where there are more, all are forgotten: those in use come again.
const MOST: usize = 1 << 16;

/// What is known of a context's fences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fence {
    /// Their timeline.
    pub(super) ring: Option<RingId>,
    /// Whether each of them is a job.
    pub(super) is_job: bool,
}

/// Contexts that were seen, by the lower half of their number.
#[derive(Debug, Default)]
pub(super) struct Fences {
    known: FxHashMap<u32, Fence>,
}

impl Fences {
    /// What is known of a context, a record of it with these names included.
    pub(super) fn see(&mut self, context: u32, driver: &[u8], timeline: &[u8], names: &mut TraceNames) -> Fence {
        let driver = until_zero(driver);
        if driver == DETACHED {
            return self.known.get(&context).copied().unwrap_or_default();
        }
        let ring = names.ring(None, &String::from_utf8_lossy(until_zero(timeline)));
        let fence = Fence { ring: Some(ring), is_job: FENCE_IS_JOB.contains(&driver) };
        if self.known.len() >= MOST && !self.known.contains_key(&context) {
            self.known.clear();
        }
        self.known.insert(context, fence);
        fence
    }
}
