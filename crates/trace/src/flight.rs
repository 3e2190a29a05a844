//! The last seconds of a capture, in memory.
//!
//! Records are kept as they come, in chunks. A chunk goes when all of it is older than the span, or when there is no room for the next one:
//! memory is bounded by bytes and not by the rate of events. What goes for want of room is counted, and a recording that is made of the rest
//! says from when on it is complete.

use crate::recording::{CreateOptions, Header, RecordingError, RecordingFile};
use crate::{EventFormat, RawRecord, RecordSink};
use gpuscope_model::trace::Dropped;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a chunk, where the bound allows for that many.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that there are at least: one of them at a time is given up.
const LEAST_CHUNKS: usize = 16;

/// Smallest bound on memory.
pub const LEAST_BYTES: usize = 1 << 20;

/// Threads whose names are kept, those seen last.
const MOST_TASKS: usize = 1 << 16;

/// Bytes ahead of a record's data: time, processor, length.
const HEAD: usize = 12;

/// In the place of the processor, with no data: the end of a round.
const NO_CPU: u16 = u16::MAX;

/// Keeps the last seconds of records.
#[derive(Debug)]
pub struct FlightRing {
    span_ns: u64,
    max_bytes: usize,
    chunk_bytes: usize,
    formats: Vec<EventFormat>,
    full: VecDeque<Arc<Chunk>>,
    open: Chunk,
    /// The latest time seen.
    newest_ns: u64,
    /// Everything that is later than this is still here.
    complete_after_ns: u64,
    records: u64,
    records_in_rounds: u64,
    until_ns: u64,
    pushed_out: u64,
    tasks: HashMap<u32, (u64, u32, Box<str>)>,
    tasks_seen: u64,
    /// Totals of losses, and when they were told; the first is what held before the span.
    dropped: VecDeque<(u64, Dropped)>,
}

/// Records one after the other.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    records: u64,
    last_ns: u64,
}

impl Chunk {
    fn of(bytes: usize) -> Chunk {
        Chunk { bytes: Vec::with_capacity(bytes), ..Chunk::default() }
    }

    fn put(&mut self, record: RawRecord<'_>, size: u16) {
        self.bytes.extend_from_slice(&record.at_ns.to_le_bytes());
        self.bytes.extend_from_slice(&record.cpu.to_le_bytes());
        self.bytes.extend_from_slice(&size.to_le_bytes());
        self.bytes.extend_from_slice(record.data);
        self.last_ns = self.last_ns.max(record.at_ns);
    }

    fn each(&self, mut each: impl FnMut(Kept<'_>)) {
        let mut rest = self.bytes.as_slice();
        while let Some((time, after)) = rest.split_first_chunk()
            && let Some((cpu, after)) = after.split_first_chunk()
            && let Some((size, after)) = after.split_first_chunk()
            && let Some((data, after)) = after.split_at_checked(usize::from(u16::from_le_bytes(*size)))
        {
            let (at_ns, cpu) = (u64::from_le_bytes(*time), u16::from_le_bytes(*cpu));
            each(if (cpu, data.len()) == (NO_CPU, 0) {
                Kept::Round(at_ns)
            } else {
                Kept::Record(RawRecord { at_ns, cpu, data })
            });
            rest = after;
        }
    }
}

/// What a chunk holds.
enum Kept<'a> {
    Record(RawRecord<'a>),
    /// All until this moment had been given.
    Round(u64),
}

impl FlightRing {
    /// Keeps the last `span_ns` of records of these formats, in so many bytes of memory or [`LEAST_BYTES`], whichever is more. The capture
    /// began at `began_ns`.
    pub fn new(span_ns: u64, max_bytes: usize, began_ns: u64, formats: &[EventFormat]) -> FlightRing {
        let max_bytes = max_bytes.max(LEAST_BYTES);
        let chunk_bytes = CHUNK_BYTES.min(max_bytes / LEAST_CHUNKS);
        FlightRing {
            span_ns,
            max_bytes,
            chunk_bytes,
            formats: formats.to_vec(),
            full: VecDeque::new(),
            open: Chunk::of(chunk_bytes),
            newest_ns: 0,
            complete_after_ns: began_ns.saturating_sub(1),
            records: 0,
            records_in_rounds: 0,
            until_ns: 0,
            pushed_out: 0,
            tasks: HashMap::new(),
            tasks_seen: 0,
            dropped: VecDeque::new(),
        }
    }

    /// A thread as it became known: thread, process (0: not known), name.
    pub fn task(&mut self, tid: u32, pid: u32, comm: &str) {
        self.tasks_seen = self.tasks_seen.saturating_add(1);
        self.tasks.insert(tid, (self.tasks_seen, pid, comm.into()));
        if self.tasks.len() > MOST_TASKS {
            let mut seen: Vec<u64> = self.tasks.values().map(|(seen, ..)| *seen).collect();
            let (_, middle, _) = seen.select_nth_unstable(MOST_TASKS / 2);
            let middle = *middle;
            self.tasks.retain(|_, (seen, ..)| *seen > middle);
        }
    }

    /// What was lost or left out by now, cumulative.
    pub fn dropped(&mut self, at_ns: u64, dropped: Dropped) {
        if self.dropped.back().is_none_or(|(_, last)| *last != dropped) {
            self.dropped.push_back((at_ns, dropped));
        }
        // The last of those before the span stays: losses within are what came on top of it.
        let from_ns = self.newest_ns.max(at_ns).saturating_sub(self.span_ns);
        while self.dropped.get(1).is_some_and(|(at_ns, _)| *at_ns < from_ns) {
            self.dropped.pop_front();
        }
    }

    /// Records that came so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Records that had to go for want of room, younger than the span.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// Bytes of memory that records take now.
    pub fn bytes(&self) -> usize {
        self.full.len().saturating_add(1).saturating_mul(self.chunk_bytes)
    }

    /// Bytes that they may take.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// From when on every record is here that was given, of those that end at the newest.
    pub fn complete_from_ns(&self) -> u64 {
        self.complete_after_ns.saturating_add(1).max(self.newest_ns.saturating_sub(self.span_ns))
    }

    /// Every record until this moment was given.
    pub fn round(&mut self, until_ns: u64) {
        self.newest_ns = self.newest_ns.max(until_ns);
        if self.records > self.records_in_rounds {
            self.records_in_rounds = self.records;
            self.put(RawRecord { at_ns: until_ns, cpu: NO_CPU, data: &[] });
        }
        self.until_ns = self.until_ns.max(until_ns);
    }

    /// What there is at this moment from `from_ns` on, to be saved while more comes. It shares the memory of the ring: what the ring lets go is kept until
    /// the copy is.
    pub fn snapshot(&mut self, from_ns: u64) -> Flight {
        self.close();
        let from_ns = self.complete_from_ns().max(from_ns);
        let base = self.dropped.front().map_or_else(Dropped::default, |(_, dropped)| *dropped);
        let mut tasks: Vec<_> =
            self.tasks.iter().map(|(tid, (seen, pid, comm))| (*seen, *tid, *pid, comm.clone())).collect();
        tasks.sort_unstable();
        Flight {
            from_ns,
            until_ns: self.until_ns,
            formats: self.formats.clone(),
            chunks: self.full.iter().filter(|chunk| chunk.last_ns >= from_ns).cloned().collect(),
            tasks: tasks.into_iter().map(|(_, tid, pid, comm)| (tid, pid, comm)).collect(),
            dropped: self.dropped.iter().skip(1).map(|(at_ns, dropped)| (*at_ns, less(dropped, &base))).collect(),
        }
    }

    fn put(&mut self, record: RawRecord<'_>) -> bool {
        let Ok(size) = u16::try_from(record.data.len()) else { return false };
        let length = HEAD.saturating_add(record.data.len());
        if self.open.bytes.len().saturating_add(length) > self.chunk_bytes {
            self.close();
        }
        self.open.put(record, size);
        true
    }

    /// Closes the open chunk, and lets go what is too old or has no room.
    fn close(&mut self) {
        if !self.open.bytes.is_empty() {
            let chunk = std::mem::replace(&mut self.open, Chunk::of(self.chunk_bytes));
            self.full.push_back(Arc::new(chunk));
        }
        let from_ns = self.newest_ns.saturating_sub(self.span_ns);
        while let Some(oldest) = self.full.front() {
            let is_old = oldest.last_ns < from_ns;
            if !is_old && self.bytes() <= self.max_bytes {
                break;
            }
            self.complete_after_ns = self.complete_after_ns.max(oldest.last_ns);
            if !is_old {
                self.pushed_out = self.pushed_out.saturating_add(oldest.records);
            }
            self.full.pop_front();
        }
    }
}

impl RecordSink for FlightRing {
    /// One longer than a record can be is passed over: captures give none.
    fn record(&mut self, record: RawRecord<'_>) {
        if record.data.is_empty() || !self.put(record) {
            return;
        }
        self.open.records = self.open.records.saturating_add(1);
        self.newest_ns = self.newest_ns.max(record.at_ns);
        self.records = self.records.saturating_add(1);
    }
}

/// The last seconds, as they were at one moment.
#[derive(Debug)]
pub struct Flight {
    from_ns: u64,
    until_ns: u64,
    formats: Vec<EventFormat>,
    chunks: Vec<Arc<Chunk>>,
    tasks: Vec<(u32, u32, Box<str>)>,
    dropped: Vec<(u64, Dropped)>,
}

impl Flight {
    /// From when on it is complete.
    pub fn from_ns(&self) -> u64 {
        self.from_ns
    }

    /// Writes it as an ordinary recording that begins where it is complete, with marks at their moments, and returns how many records it
    /// has. It replaces no file: two of them are two stories.
    ///
    /// # Errors
    /// Those of [`RecordingFile`].
    pub fn save(&self, path: &Path, header: Header, marks: &[(u64, String)]) -> Result<u64, RecordingError> {
        let mut file =
            RecordingFile::create(path, header.begun_at(self.from_ns), &self.formats, CreateOptions::default())?;
        file.tasks(self.tasks.iter().map(|(tid, pid, comm)| (*tid, *pid, &**comm)))?;
        let (mut dropped, mut marks) = (self.dropped.iter().peekable(), marks.iter().peekable());
        let mut beside = |file: &mut RecordingFile, until_ns: u64| -> Result<(), RecordingError> {
            while let Some((at_ns, dropped)) = dropped.next_if(|(at_ns, _)| *at_ns <= until_ns) {
                file.dropped(*at_ns, *dropped)?;
            }
            while let Some((at_ns, text)) = marks.next_if(|(at_ns, _)| *at_ns <= until_ns) {
                file.mark(*at_ns, text)?;
            }
            Ok(())
        };
        for chunk in &self.chunks {
            let mut done = Ok(());
            chunk.each(|kept| match kept {
                Kept::Record(record) if record.at_ns >= self.from_ns => file.record(record),
                Kept::Round(until_ns) if done.is_ok() => {
                    done = beside(&mut file, until_ns).and_then(|()| file.round(until_ns));
                }
                _ => {}
            });
            done?;
        }
        beside(&mut file, u64::MAX)?;
        file.round(self.until_ns)?;
        let records = file.records();
        file.finish()?;
        Ok(records)
    }
}

/// What came on top.
fn less(now: &Dropped, before: &Dropped) -> Dropped {
    Dropped {
        ring_full: now.ring_full.saturating_sub(before.ring_full),
        missed: now.missed.saturating_sub(before.missed),
        rate_limited: now.rate_limited.saturating_sub(before.rate_limited),
        sampled_out: now.sampled_out.saturating_sub(before.sampled_out),
        filtered: now.filtered.saturating_sub(before.filtered),
        table_full: now.table_full.saturating_sub(before.table_full),
        unreadable: now.unreadable.saturating_sub(before.unreadable),
    }
}

#[cfg(test)]
mod tests;
