//! Records in order of time, over all processors.
//!
//! A capture empties its buffers one after the other, so that records of one round stand in runs. Records wait here, where they were read,
//! until a round says that nothing earlier can come.

use super::frame::{RECORD_HEAD, RecordHead, record_length};
use super::merge::{MOST_RUNS, MOST_SPAN, Merge};
use super::scan::{Blocks, Frame};
use crate::RawRecord;

/// Memory that may wait for the end of a round: far more than a round of a tenth of a second has at millions of events a second.
const MOST_BYTES: usize = 64 << 20;

/// Records that may wait. Tests reach it with fewer.
const MOST_RECORDS: usize = if cfg!(test) { 20_000 } else { 2 << 20 };

/// Records that are fetched from memory at a time: more than a processor can wait for at once, less than its first cache holds.
const AT_ONCE: usize = 32;

/// A line of the processor's cache.
const LINE: usize = 64;

/// Records that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    entries: Vec<Entry>,
    /// For what is given or kept.
    ready: Vec<Entry>,
    /// Where runs begin that are in order, but for the first one.
    runs: Vec<usize>,
    /// Time of the entry added last.
    last_ns: u64,
    until_ns: u64,
    /// Records that came after the end of their round.
    pub(super) late: u64,
    /// Records that could not wait until the end of their round.
    pub(super) hurried: u64,
    /// Records that a frame with a good checksum should have and has not.
    pub(super) malformed: u64,
    pub(super) given: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    at_ns: u64,
    block: u32,
    offset: u32,
}

/// What becomes of the records of a frame that is cut off: those that are whole are taken as they stand, no checksum vouches for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

impl Waiting {
    /// Takes the records of a frame with so many bytes of payload. Returns how many there are.
    pub(super) fn add(
        &mut self,
        blocks: &Blocks,
        frame: &Frame,
        length: usize,
        cut: Option<Cut>,
        each: &mut impl FnMut(RawRecord<'_>),
    ) -> u64 {
        let mut rest = blocks.from(frame.block, frame.start).get(..length).unwrap_or_default();
        let mut offset = frame.start;
        let mut count: u32 = 0;
        while count < frame.head.count {
            let Some(head) = RecordHead::parse(rest) else { break };
            let length = record_length(usize::from(head.size));
            let Some((record, after)) = rest.split_at_checked(length) else { break };
            if cut.is_some_and(|cut| !(cut.first_ns..=cut.last_ns).contains(&head.at_ns)) {
                break;
            }
            rest = after;
            count = count.saturating_add(1);
            if head.at_ns <= self.until_ns {
                self.late = self.late.saturating_add(1);
                self.given = self.given.saturating_add(1);
                give(record, each);
            } else {
                self.push(Entry { at_ns: head.at_ns, block: frame.block, offset: offset as u32 });
            }
            offset = offset.saturating_add(length);
        }
        if cut.is_none() {
            self.malformed = self.malformed.saturating_add(u64::from(frame.head.count.saturating_sub(count)));
        }
        u64::from(count)
    }

    /// Whether so much waits that it cannot wait for the end of the round.
    pub(super) fn is_full(&self, blocks: &Blocks) -> bool {
        self.entries.len() > MOST_RECORDS || (blocks.held() > MOST_BYTES && !self.entries.is_empty())
    }

    /// Gives the earlier half of what waits before the end of the round: all that is not later than the middle one.
    pub(super) fn hurry(&mut self, blocks: &mut Blocks, each: &mut impl FnMut(RawRecord<'_>)) {
        let mut times: Vec<u64> = self.entries.iter().map(|entry| entry.at_ns).collect();
        let middle = times.len() / 2;
        if times.is_empty() {
            return;
        }
        let (_, middle, _) = times.select_nth_unstable(middle);
        let (middle, before) = (*middle, self.given);
        self.give_until(middle, blocks, each);
        self.hurried = self.hurried.saturating_add(self.given.saturating_sub(before));
    }

    #[inline]
    fn push(&mut self, entry: Entry) {
        // With more runs than are merged, they are of no use.
        if entry.at_ns < self.last_ns && self.runs.len() <= MOST_RUNS {
            self.runs.push(self.entries.len());
        }
        self.last_ns = entry.at_ns;
        self.entries.push(entry);
    }

    /// Gives what is not later than that, in order of time; records of one moment as they were written.
    pub(super) fn give_until(&mut self, until_ns: u64, blocks: &mut Blocks, each: &mut impl FnMut(RawRecord<'_>)) {
        self.until_ns = self.until_ns.max(until_ns);
        let before = self.entries.len();
        if self.runs.is_empty() {
            let end = self.entries.partition_point(|entry| entry.at_ns <= until_ns);
            each_place(self.entries.get(..end).unwrap_or_default(), blocks, |bytes| give(bytes, each));
            self.entries.drain(..end);
        } else {
            let base = self.entries.iter().map(|entry| entry.at_ns).min().unwrap_or(0);
            let last = self.entries.iter().map(|entry| entry.at_ns).max().unwrap_or(0).min(until_ns);
            if self.runs.len() < MOST_RUNS && last.saturating_sub(base) <= MOST_SPAN {
                self.merge_until(until_ns, base, blocks, each);
            } else {
                self.sort_until(until_ns, blocks, each);
            }
        }
        if self.entries.is_empty() {
            // What is added next is compared with nothing.
            self.last_ns = 0;
        }
        self.given = self.given.saturating_add(before.saturating_sub(self.entries.len()) as u64);
        // Entries stand as they were read: the first one is in the first block that is needed.
        let needed = self.entries.first().map_or_else(|| blocks.last(), |entry| entry.block);
        blocks.release_before(needed);
    }

    fn merge_until(&mut self, until_ns: u64, base: u64, blocks: &Blocks, each: &mut impl FnMut(RawRecord<'_>)) {
        let starts = std::mem::take(&mut self.runs);
        let mut runs: Vec<&[Entry]> = Vec::with_capacity(starts.len().saturating_add(1));
        let mut later: Vec<&[Entry]> = Vec::with_capacity(runs.capacity());
        let mut rest = self.entries.as_slice();
        let mut at: usize = 0;
        for start in starts.iter().copied().chain([self.entries.len()]) {
            let (run, after) = rest.split_at_checked(start.saturating_sub(at)).unwrap_or_default();
            (rest, at) = (after, start);
            let (now, wait) = run.split_at(run.partition_point(|entry| entry.at_ns <= until_ns));
            runs.push(now);
            later.push(wait);
        }
        let mut merge = Merge::new(base, runs.iter().map(|run| run.first().map(|entry| entry.at_ns)));
        let mut some = [Entry::default(); AT_ONCE];
        loop {
            let mut count: usize = 0;
            for place in &mut some {
                let Some(run) = merge.run() else { break };
                let Some(places) = runs.get_mut(run) else { break };
                let Some((entry, after)) = places.split_first() else { break };
                *place = *entry;
                *places = after;
                merge.advance(run, after.first().map(|entry| entry.at_ns));
                count = count.saturating_add(1);
            }
            let some = some.get(..count).unwrap_or_default();
            if some.is_empty() {
                break;
            }
            fetch(some, blocks);
            each_place(some, blocks, |bytes| give(bytes, each));
        }
        self.ready.clear();
        self.ready.extend(later.into_iter().flatten());
        self.keep_ready();
    }

    fn sort_until(&mut self, until_ns: u64, blocks: &Blocks, each: &mut impl FnMut(RawRecord<'_>)) {
        self.ready.clear();
        let ready = &mut self.ready;
        self.entries.retain(|entry| {
            let is_ready = entry.at_ns <= until_ns;
            if is_ready {
                ready.push(*entry);
            }
            !is_ready
        });
        ready.sort_by_key(|entry| entry.at_ns);
        for some in self.ready.chunks(AT_ONCE) {
            fetch(some, blocks);
            each_place(some, blocks, |bytes| give(bytes, each));
        }
        std::mem::swap(&mut self.entries, &mut self.ready);
        self.keep_ready();
    }

    /// Goes on with what is in `ready`, as if it had just been read.
    fn keep_ready(&mut self) {
        self.entries.clear();
        self.runs.clear();
        self.last_ns = 0;
        let ready = std::mem::take(&mut self.ready);
        for entry in &ready {
            self.push(*entry);
        }
        self.ready = ready;
    }
}

/// Asks for the records of all these before the first one is waited for: a round is larger than the near caches, and records of many
/// processors are not in the order in which memory is fetched ahead.
fn fetch(entries: &[Entry], blocks: &Blocks) {
    let mut asked = 0;
    each_place(entries, blocks, |bytes| {
        asked ^= bytes.first().copied().unwrap_or(0) ^ bytes.get(LINE).copied().unwrap_or(0);
    });
    std::hint::black_box(asked);
}

/// Gives the bytes from each record on. Neighbours mostly stand in one block, which is looked up once.
#[inline(always)]
fn each_place(entries: &[Entry], blocks: &Blocks, mut each: impl FnMut(&[u8])) {
    let mut at = entries.first().map_or(0, |entry| entry.block);
    let mut block = blocks.from(at, 0);
    for entry in entries {
        if entry.block != at {
            at = entry.block;
            block = blocks.from(at, 0);
        }
        each(block.get(entry.offset as usize..).unwrap_or_default());
    }
}

#[inline]
fn give(bytes: &[u8], each: &mut impl FnMut(RawRecord<'_>)) {
    if let Some(head) = RecordHead::parse(bytes)
        && let Some(data) = bytes.get(RECORD_HEAD..).and_then(|rest| rest.get(..usize::from(head.size)))
    {
        each(RawRecord { at_ns: head.at_ns, cpu: head.cpu, data });
    }
}
