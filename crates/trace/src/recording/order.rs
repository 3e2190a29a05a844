//! Records in order of time, over all processors.
//!
//! A capture empties its buffers one after the other, so that records of one round stand in runs. Records wait here, where they were read,
//! until a round says that nothing earlier can come.
//!
//! The writer puts most records of a frame in order. Those wait in rows, as the bytes that they are, and are looked at one by one only to
//! see that they are in order and to be given. What stands behind a later record waits beside them, record by record; where that is many
//! of them, as in frames that the writer left as they came, all do.

use super::held::{Give, Held, HeldFrame};
use super::merge::{MOST_RUNS, MOST_SPAN, Merge};
use super::scan::{Blocks, Frame};
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
    /// The frames that they stand in.
    held: Held,
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
    frame: u32,
    /// In the frame's payload.
    offset: u32,
}

/// Records that stand one behind the other, in order of time.
#[derive(Clone, Copy, Debug)]
struct Row {
    frame: u32,
    /// In the frame's payload, as its end.
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
        sink: &mut impl Give,
    ) -> u64 {
        let Some(number) = self.held.add(blocks, frame, length) else {
            if cut.is_none() {
                self.malformed = self.malformed.saturating_add(u64::from(frame.head.count));
            }
            return 0;
        };
        // Looked at while it is added to what waits: it is not moved for that.
        let held = std::mem::take(&mut self.held);
        let count = held.get(number).map_or(0, |of| {
            let of = Of { number, frame: of, payload: of.payload(blocks), most: frame.head.count };
            // At the end of all times there is nothing later than what was given.
            if cut.is_none() && !self.is_mixed && self.until_ns < u64::MAX {
                self.add_rows(&of, sink)
            } else {
                self.add_entries(&of, cut, sink)
            }
        });
        self.held = held;
        if cut.is_none() {
            self.malformed = self.malformed.saturating_add(u64::from(frame.head.count.saturating_sub(count)));
        }
        u64::from(count)
    }

    fn add_rows(&mut self, of: &Of<'_>, sink: &mut impl Give) -> u32 {
        let end = of.payload.len();
        let mut rest = of.records();
        let (mut count, mut behind) = (0_u32, 0_u64);
        let mut row = Row { frame: of.number, start: end - rest.len(), end: 0, count: 0, last_ns: 0 };
        let mut last_ns = self.rows_last_ns.max(self.until_ns.saturating_add(1));
        if let Some(last_ns) = of.frame.last_in_order(rest, of.most as usize, last_ns) {
            self.push_row(Row { end, count: of.most as usize, last_ns, ..row });
            return of.most;
        }
        // Where the row began, in records.
        let mut begun = 0;
        while count < of.most {
            let Some((at_ns, length)) = of.frame.time_and_length(rest) else { break };
            let Some((_, after)) = rest.split_at_checked(length) else { break };
            if at_ns < last_ns {
                let at = end - rest.len();
                self.push_row(Row { end: at, count: (count - begun) as usize, last_ns, ..row });
                self.behind(of, Entry { at_ns, frame: of.number, offset: at as u32 }, sink);
                behind = behind.saturating_add(1);
                (row.start, begun) = (at + length, count + 1);
            } else {
                last_ns = at_ns;
            }
            count += 1;
            rest = after;
        }
        self.push_row(Row { end: end - rest.len(), count: (count - begun) as usize, last_ns, ..row });
        if behind.saturating_mul(ONE_IN) > u64::from(count) {
            (self.is_mixed, self.added, self.behind, self.latest_ns) = (true, 0, 0, last_ns);
        }
        count
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
    fn behind(&mut self, of: &Of<'_>, entry: Entry, sink: &mut impl Give) {
        if entry.at_ns <= self.until_ns {
            self.give_late(of, entry.offset as usize, sink);
        } else {
            self.push(entry);
        }
    }

    fn give_late(&mut self, of: &Of<'_>, offset: usize, sink: &mut impl Give) {
        self.late = self.late.saturating_add(1);
        self.given = self.given.saturating_add(1);
        of.frame.give_one(of.payload, offset, sink);
    }

    fn add_entries(&mut self, of: &Of<'_>, cut: Option<Cut>, sink: &mut impl Give) -> u32 {
        let mut rest = of.records();
        let mut count: u32 = 0;
        while count < of.most {
            let Some((at_ns, length)) = of.frame.time_and_length(rest) else { break };
            let Some((_, after)) = rest.split_at_checked(length) else { break };
            if cut.is_some_and(|cut| !(cut.first_ns..=cut.last_ns).contains(&at_ns)) {
                break;
            }
            let offset = of.payload.len() - rest.len();
            rest = after;
            count = count.saturating_add(1);
            if at_ns <= self.until_ns {
                self.give_late(of, offset, sink);
            } else {
                self.push(Entry { at_ns, frame: of.number, offset: offset as u32 });
            }
        }
        count
    }

    /// Whether so much waits that it cannot wait for the end of the round.
    pub(super) fn is_full(&self, blocks: &Blocks) -> bool {
        let waiting = self.entries.len().saturating_add(self.in_rows);
        waiting > MOST_RECORDS || (blocks.held() > MOST_BYTES && waiting > 0)
    }

    /// Gives the earlier half of what waits before the end of the round: all that is not later than the middle one.
    pub(super) fn hurry(&mut self, blocks: &mut Blocks, sink: &mut impl Give) {
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
    pub(super) fn give_until(&mut self, until_ns: u64, blocks: &mut Blocks, sink: &mut impl Give) {
        self.until_ns = self.until_ns.max(until_ns);
        if self.entries.is_empty() {
            self.give_rows(until_ns, blocks, sink);
        } else if self.rows.is_empty() {
            self.give_entries(until_ns, blocks, sink);
        } else {
            self.give_both(until_ns, blocks, sink);
        }
        // Either is in the order in which it was read: the first one is in the first frame that is needed.
        let row = self.rows.front().map(|row| row.frame);
        let entry = self.entries.first().map(|entry| entry.frame);
        let needed = row.into_iter().chain(entry).min_by_key(|frame| self.held.age(*frame));
        self.held.release_before(needed, blocks);
        if self.behind.saturating_mul(ONE_IN) <= self.added {
            self.is_mixed = false;
        }
        (self.added, self.behind, self.latest_ns) = (0, 0, until_ns);
    }

    /// Gives what is not later than that out of rows.
    fn give_rows(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl Give) {
        while self.give_row(until_ns, blocks, sink) {}
    }

    /// The same of the first row; false where some of it stays, and where there is none.
    fn give_row(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl Give) -> bool {
        let Some(row) = self.rows.front_mut() else { return false };
        let (count, start) = match self.held.get(row.frame) {
            Some(frame) => frame.give(blocks, (row.start, row.end), until_ns, sink),
            None => (row.count, row.end),
        };
        row.start = start;
        row.count = row.count.saturating_sub(count);
        self.in_rows = self.in_rows.saturating_sub(count);
        self.given = self.given.saturating_add(count as u64);
        let is_done = row.start >= row.end;
        if is_done {
            self.rows.pop_front();
        }
        is_done
    }

    fn give_both(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl Give) {
        self.take_ready(until_ns);
        let ready = std::mem::take(&mut self.ready);
        for entry in &ready {
            // Of one moment, what was written first: a row ends where such a record stands.
            let place = (self.held.age(entry.frame), entry.offset as usize);
            let is_before =
                |of: &Waiting| of.rows.front().is_some_and(|row| (of.held.age(row.frame), row.start) < place);
            while is_before(self) && self.give_row(entry.at_ns, blocks, sink) {}
            while !is_before(self) && self.give_row(entry.at_ns - 1, blocks, sink) {}
            give_each(std::slice::from_ref(entry), &self.held, blocks, sink);
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
            let Some(frame) = self.held.get(row.frame) else { continue };
            let mut rest = frame.payload(blocks).get(row.start..row.end).unwrap_or_default();
            while let Some((at_ns, length)) = frame.time_and_length(rest) {
                let offset = (row.end - rest.len()) as u32;
                self.ready.push(Entry { at_ns, frame: row.frame, offset });
                rest = rest.get(length..).unwrap_or_default();
            }
        }
        self.in_rows = 0;
        self.ready.sort_by_key(|entry| (self.held.age(entry.frame), entry.offset));
        self.keep_ready();
    }

    /// Gives what is not later than that out of entries.
    fn give_entries(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl Give) {
        let before = self.entries.len();
        if self.runs.is_empty() {
            let end = self.entries.partition_point(|entry| entry.at_ns <= until_ns);
            give_each(self.entries.get(..end).unwrap_or_default(), &self.held, blocks, sink);
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

    fn merge_until(&mut self, until_ns: u64, base: u64, blocks: &Blocks, sink: &mut impl Give) {
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
            fetch(some, &self.held, blocks);
            give_each(some, &self.held, blocks, sink);
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

    fn sort_until(&mut self, until_ns: u64, blocks: &Blocks, sink: &mut impl Give) {
        self.take_ready(until_ns);
        for some in self.ready.chunks(AT_ONCE) {
            fetch(some, &self.held, blocks);
            give_each(some, &self.held, blocks, sink);
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

/// A frame of which records are added.
struct Of<'a> {
    number: u32,
    frame: &'a HeldFrame,
    payload: &'a [u8],
    /// Records that its head tells of.
    most: u32,
}

impl<'a> Of<'a> {
    fn records(&self) -> &'a [u8] {
        self.payload.get(self.frame.records_at()..).unwrap_or_default()
    }
}

/// Asks for the records of all these before the first one is waited for: a round is larger than the near caches, and records of many
/// processors are not in the order in which memory is fetched ahead.
fn fetch(entries: &[Entry], held: &Held, blocks: &Blocks) {
    let mut asked = 0;
    each_place(entries, held, blocks, |_, payload, offset| {
        let bytes = payload.get(offset..).unwrap_or_default();
        asked ^= bytes.first().copied().unwrap_or(0) ^ bytes.get(LINE).copied().unwrap_or(0);
    });
    std::hint::black_box(asked);
}

/// Gives each of these.
fn give_each(entries: &[Entry], held: &Held, blocks: &Blocks, sink: &mut impl Give) {
    each_place(entries, held, blocks, |frame, payload, offset| frame.give_one(payload, offset, sink));
}

/// Gives the frame of each record, its payload and where in that the record stands. Neighbours mostly stand in one frame, which is looked up
/// once.
#[inline(always)]
fn each_place<'a>(
    entries: &[Entry],
    held: &'a Held,
    blocks: &'a Blocks,
    mut each: impl FnMut(&'a HeldFrame, &'a [u8], usize),
) {
    let mut last: Option<(u32, &HeldFrame, &[u8])> = None;
    for entry in entries {
        let known = last.filter(|(number, ..)| *number == entry.frame);
        let found = known.or_else(|| held.get(entry.frame).map(|frame| (entry.frame, frame, frame.payload(blocks))));
        if let Some((_, frame, payload)) = found {
            each(frame, payload, entry.offset as usize);
        }
        last = found;
    }
}
