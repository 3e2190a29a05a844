//! Records in order of time, over all processors.
//!
//! A capture empties its buffers one after the other, so that records of one round stand in runs. Records wait here, where they were read,
//! until a round says that nothing earlier can come.
//!
//! A BPF ring has the records of all processors nearly in order. Those wait in rows, as the bytes that they are, and are looked at one by
//! one only to see that they are in order and to be given. What stands behind a later record waits beside them, record by record; where
//! that is many of them, as in what tracefs and perf give, all do.

use super::frame::{RECORD_HEAD, RecordHead, record_length};
use super::merge::{MOST_RUNS, MOST_SPAN, Merge};
use super::scan::{Blocks, Frame};
use crate::{RawRecord, RecordSink};
use std::collections::VecDeque;

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
    /// In order of time and as they were read.
    rows: VecDeque<Row>,
    /// Records in rows, and the time of the last one.
    in_rows: usize,
    rows_last_ns: u64,
    /// Whether records no longer go into rows.
    is_mixed: bool,
    /// Entries that were added since then or since a round's end, how many of them stood behind a later one, and the latest.
    added: u64,
    behind: u64,
    latest_ns: u64,
    /// The others, as they were read.
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

/// Records that stand one behind the other, in order of time.
#[derive(Clone, Copy, Debug)]
struct Row {
    block: u32,
    start: usize,
    end: usize,
    count: usize,
    last_ns: u64,
}

/// Of so many records, one at most may stand behind a later one where they are to wait in rows.
const ONE_IN: u64 = 16;

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
        sink: &mut impl RecordSink,
    ) -> u64 {
        // At the end of all times there is nothing later than what was given.
        if cut.is_none() && !self.is_mixed && self.until_ns < u64::MAX {
            self.add_rows(blocks, frame, length, sink)
        } else {
            self.add_entries(blocks, frame, length, cut, sink)
        }
    }

    fn add_rows(&mut self, blocks: &Blocks, frame: &Frame, length: usize, sink: &mut impl RecordSink) -> u64 {
        let mut rest = blocks.from(frame.block, frame.start).get(..length).unwrap_or_default();
        let end = frame.start.saturating_add(rest.len());
        let most = frame.head.count as usize;
        let (mut count, mut behind) = (0_usize, 0_u64);
        let mut row = Row { block: frame.block, start: frame.start, end: 0, count: 0, last_ns: 0 };
        let mut last_ns = self.rows_last_ns.max(self.until_ns.saturating_add(1));
        // Where the row began, in records.
        let mut begun = 0;
        while count < most {
            let Some((at_ns, length)) = RecordHead::time_and_length(rest) else { break };
            let Some((record, after)) = rest.split_at_checked(length) else { break };
            if at_ns < last_ns {
                let at = end - rest.len();
                self.push_row(Row { end: at, count: count - begun, last_ns, ..row });
                self.behind(record, Entry { at_ns, block: frame.block, offset: at as u32 }, sink);
                behind = behind.saturating_add(1);
                (row.start, begun) = (at + length, count + 1);
            } else {
                last_ns = at_ns;
            }
            count += 1;
            rest = after;
        }
        self.push_row(Row { end: end - rest.len(), count: count - begun, last_ns, ..row });
        let missing = most.saturating_sub(count) as u64;
        self.malformed = self.malformed.saturating_add(missing);
        if behind.saturating_mul(ONE_IN) > count as u64 {
            (self.is_mixed, self.added, self.behind, self.latest_ns) = (true, 0, 0, last_ns);
        }
        count as u64
    }

    fn push_row(&mut self, row: Row) {
        if row.count > 0 {
            self.in_rows = self.in_rows.saturating_add(row.count);
            self.rows_last_ns = row.last_ns;
            self.rows.push_back(row);
        }
    }

    /// Takes a record that stands behind a later one, or behind the end of its round.
    #[cold]
    fn behind(&mut self, record: &[u8], entry: Entry, sink: &mut impl RecordSink) {
        if entry.at_ns <= self.until_ns {
            self.late = self.late.saturating_add(1);
            self.given = self.given.saturating_add(1);
            give(record, sink);
        } else {
            self.push(entry);
        }
    }

    fn add_entries(
        &mut self,
        blocks: &Blocks,
        frame: &Frame,
        length: usize,
        cut: Option<Cut>,
        sink: &mut impl RecordSink,
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
                give(record, sink);
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
        let waiting = self.entries.len().saturating_add(self.in_rows);
        waiting > MOST_RECORDS || (blocks.held() > MOST_BYTES && waiting > 0)
    }

    /// Gives the earlier half of what waits before the end of the round: all that is not later than the middle one.
    pub(super) fn hurry(&mut self, blocks: &mut Blocks, sink: &mut impl RecordSink) {
        self.leave_rows(blocks);
        let mut times: Vec<u64> = self.entries.iter().map(|entry| entry.at_ns).collect();
        let middle = times.len() / 2;
        if times.is_empty() {
            return;
        }
        let (_, middle, _) = times.select_nth_unstable(middle);
        let (middle, before) = (*middle, self.given);
        self.give_until(middle, blocks, sink);
        self.hurried = self.hurried.saturating_add(self.given.saturating_sub(before));
    }

    #[inline]
    fn push(&mut self, entry: Entry) {
        // With more runs than are merged, they are of no use.
        if entry.at_ns < self.last_ns && self.runs.len() <= MOST_RUNS {
            self.runs.push(self.entries.len());
        }
        self.last_ns = entry.at_ns;
        self.added = self.added.saturating_add(1);
        self.behind = self.behind.saturating_add(u64::from(entry.at_ns < self.latest_ns));
        self.latest_ns = self.latest_ns.max(entry.at_ns);
        self.entries.push(entry);
    }

    /// Gives what is not later than that, in order of time; records of one moment as they were written.
    pub(super) fn give_until(&mut self, until_ns: u64, blocks: &mut Blocks, sink: &mut impl RecordSink) {
        self.until_ns = self.until_ns.max(until_ns);
        if self.entries.is_empty() {
            self.give_rows(until_ns, blocks, sink);
        } else if self.rows.is_empty() {
            self.give_entries(until_ns, blocks, sink);
        } else {
            self.give_both(until_ns, blocks, sink);
        }
        // Either is in the order in which it was read: the first one is in the first block that is needed.
        let row = self.rows.front().map(|row| row.block);
        let entry = self.entries.first().map(|entry| entry.block);
        let needed = row.into_iter().chain(entry).min_by_key(|block| blocks.age(*block));
        blocks.release_before(needed.unwrap_or_else(|| blocks.last()));
        if self.behind.saturating_mul(ONE_IN) <= self.added {
            self.is_mixed = false;
        }
        (self.added, self.behind, self.latest_ns) = (0, 0, until_ns);
    }

    /// Gives what is not later than that out of rows.
    fn give_rows(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl RecordSink) {
        while self.give_row(until_ns, blocks, sink) {}
    }

    /// The same of the first row; false where some of it stays, and where there is none.
    fn give_row(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl RecordSink) -> bool {
        let Some(row) = self.rows.front_mut() else { return false };
        let mut rest = blocks.from(row.block, row.start).get(..row.end - row.start).unwrap_or_default();
        let mut count = 0;
        while let Some((record, after)) = split_record(rest) {
            if record.at_ns > until_ns {
                break;
            }
            sink.record(record);
            rest = after;
            count += 1;
        }
        let is_done = rest.is_empty();
        row.start = row.end - rest.len();
        row.count = row.count.saturating_sub(count);
        self.in_rows = self.in_rows.saturating_sub(count);
        self.given = self.given.saturating_add(count as u64);
        if is_done {
            self.rows.pop_front();
        }
        is_done
    }

    fn give_both(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl RecordSink) {
        self.take_ready(until_ns);
        let ready = std::mem::take(&mut self.ready);
        for entry in &ready {
            // Of one moment, what was written first: a row ends where such a record stands.
            let place = (blocks.age(entry.block), entry.offset as usize);
            let is_before = |row: &Row| (blocks.age(row.block), row.start) < place;
            while self.rows.front().is_some_and(is_before) && self.give_row(entry.at_ns, blocks, sink) {}
            while !self.rows.front().is_some_and(is_before) && self.give_row(entry.at_ns - 1, blocks, sink) {}
            each_place(std::slice::from_ref(entry), blocks, |bytes| give(bytes, sink));
        }
        self.given = self.given.saturating_add(ready.len() as u64);
        self.ready = ready;
        std::mem::swap(&mut self.entries, &mut self.ready);
        self.keep_ready();
        self.give_rows(until_ns, blocks, sink);
    }

    /// Takes all records out of rows, to wait with the others.
    fn leave_rows(&mut self, blocks: &Blocks) {
        if self.rows.is_empty() {
            return;
        }
        self.is_mixed = true;
        self.ready.clear();
        self.ready.append(&mut self.entries);
        for row in self.rows.drain(..) {
            let mut rest = blocks.from(row.block, row.start).get(..row.end - row.start).unwrap_or_default();
            while let Some((record, after)) = split_record(rest) {
                let offset = (row.end - rest.len()) as u32;
                self.ready.push(Entry { at_ns: record.at_ns, block: row.block, offset });
                rest = after;
            }
        }
        self.in_rows = 0;
        self.ready.sort_by_key(|entry| (blocks.age(entry.block), entry.offset));
        self.keep_ready();
    }

    /// Gives what is not later than that out of entries.
    fn give_entries(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl RecordSink) {
        let before = self.entries.len();
        if self.runs.is_empty() {
            let end = self.entries.partition_point(|entry| entry.at_ns <= until_ns);
            each_place(self.entries.get(..end).unwrap_or_default(), blocks, |bytes| give(bytes, sink));
            self.entries.drain(..end);
        } else {
            let base = self.entries.iter().map(|entry| entry.at_ns).min().unwrap_or(0);
            let last = self.entries.iter().map(|entry| entry.at_ns).max().unwrap_or(0).min(until_ns);
            if self.runs.len() < MOST_RUNS && last.saturating_sub(base) <= MOST_SPAN {
                self.merge_until(until_ns, base, blocks, sink);
            } else {
                self.sort_until(until_ns, blocks, sink);
            }
        }
        if self.entries.is_empty() {
            // What is added next is compared with nothing.
            self.last_ns = 0;
        }
        self.given = self.given.saturating_add(before.saturating_sub(self.entries.len()) as u64);
    }

    fn merge_until(&mut self, until_ns: u64, base: u64, blocks: &Blocks, sink: &mut impl RecordSink) {
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
            each_place(some, blocks, |bytes| give(bytes, sink));
        }
        self.ready.clear();
        self.ready.extend(later.into_iter().flatten());
        self.keep_ready();
    }

    /// Takes what is not later than that out of entries, in order of time.
    fn take_ready(&mut self, until_ns: u64) {
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
    }

    fn sort_until(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl RecordSink) {
        self.take_ready(until_ns);
        for some in self.ready.chunks(AT_ONCE) {
            fetch(some, blocks);
            each_place(some, blocks, |bytes| give(bytes, sink));
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

/// Not where it is called: what takes records may be large.
#[inline(never)]
fn give(bytes: &[u8], sink: &mut impl RecordSink) {
    if let Some((record, _)) = split_record(bytes) {
        sink.record(record);
    }
}

/// The record that stands here, and what stands behind it.
#[inline(always)]
fn split_record(bytes: &[u8]) -> Option<(RawRecord<'_>, &[u8])> {
    let head = RecordHead::parse(bytes)?;
    let size = usize::from(head.size);
    let after = bytes.get(record_length(size)..)?;
    let data = bytes.get(RECORD_HEAD..RECORD_HEAD + size)?;
    Some((RawRecord { at_ns: head.at_ns, cpu: head.cpu, data }, after))
}
