//! Jobs that are remembered in the kernel: `kept.h`, from this side.

use super::super::error::BpfError;
use super::super::map::Map;
use super::rules::SLOW_ONLY;
use std::collections::{HashMap, HashSet};

/// `WAYS` in `kept.h`: keys of a set, of jobs and of totals.
const WAYS: u32 = 16;

/// `LEFT_OUT_NS` in `kept.h`: the time of jobs that are left out, of which nobody asked the clock.
const LEFT_OUT_NS: u64 = 1;

/// Since when jobs that are left out were seen to be remembered.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    since_ns: HashMap<u64, u64>,
}

impl LeftOut {
    /// When a job was queued, at the latest; `value` is what its place says.
    pub(super) fn queued_ns(&mut self, word: u64, value_ns: u64, now_ns: u64) -> u64 {
        if value_ns == LEFT_OUT_NS { *self.since_ns.entry(word).or_insert(now_ns) } else { value_ns }
    }

    /// Forgets those that are gone.
    pub(super) fn retain(&mut self, words: &HashSet<u64>) {
        self.since_ns.retain(|word, _| words.contains(word));
    }
}

/// The places that are taken, and the words that stand there.
pub(super) fn places(sets: &Map) -> Result<Vec<(u32, u64)>, BpfError> {
    let mut taken = Vec::new();
    let each = |set: &[u8], keys: &[u8]| {
        let first = set.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)).saturating_mul(WAYS);
        let words = keys.chunks_exact(8).filter_map(|word| word.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)));
        taken.extend((first..).zip(words).filter(|(_, word)| *word != 0));
    };
    sets.each(each).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
    Ok(taken)
}

/// A job that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    /// When it was queued.
    pub(super) at_ns: u64,
    /// Whether it is not left out.
    pub(super) is_kept: bool,
    /// Whether it is told of when it is done.
    pub(super) is_told_late: bool,
}

/// Of `struct kept`.
pub(super) fn parse(value: &[u8]) -> Option<Remembered> {
    let (at_ns, rest) = value.split_first_chunk()?;
    let (cause, rest) = rest.split_first_chunk()?;
    let flags = u32::from_ne_bytes(*rest.first_chunk()?);
    let is_kept = u32::from_ne_bytes(*cause) == 0;
    Some(Remembered { at_ns: u64::from_ne_bytes(*at_ns), is_kept, is_told_late: is_kept && flags & SLOW_ONLY != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_left_out_is_as_old_as_its_first_sight() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.queued_ns(7, LEFT_OUT_NS, 100), 100);
        assert_eq!(left_out.queued_ns(7, LEFT_OUT_NS, 200), 100);
        assert_eq!(left_out.queued_ns(8, 150, 200), 150, "of one that is kept the clock was asked");
        left_out.retain(&HashSet::from([8]));
        assert_eq!(left_out.queued_ns(7, LEFT_OUT_NS, 300), 300);
    }

    #[test]
    fn a_job_is_told_late_if_it_is_kept_and_must_be_slow() {
        let value = |at_ns: u64, cause: u32, flags: u32| {
            let mut bytes = at_ns.to_ne_bytes().to_vec();
            bytes.extend([cause, flags].iter().flat_map(|half| half.to_ne_bytes()));
            bytes
        };
        let remembered = |is_kept, is_told_late| Some(Remembered { at_ns: 7, is_kept, is_told_late });
        assert_eq!(parse(&value(7, 0, SLOW_ONLY | 1)), remembered(true, true));
        assert_eq!(parse(&value(7, 2, SLOW_ONLY)), remembered(false, false), "left out");
        assert_eq!(parse(&value(7, 0, 1)), remembered(true, false));
        assert_eq!(parse(&[0; 15]), None);
    }
}
