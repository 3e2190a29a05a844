//! `perf.data`, as `perf record` writes it with tracepoints in it: files and pipes (`perf record -o -`), packed ones (`-z`) too.
//!
//! Own code and no crate: those that there are hold whole files in memory or stop at the first record that is not as it should be. A file is
//! read front to back, with memory for some rounds of perf's buffers. One that was cut off gives what is whole, and says where it was cut. Of a
//! file, not of a pipe, the layouts of all records stand behind them: where those are cut away, records are still found, and mean nothing.
//!
//! **Times** are on the clock that `perf record -k` was told. Only CLOCK_MONOTONIC can be put beside our recordings; perf's own clock, its
//! default, is no other tool's.
//!
//! Samples of other events than tracepoints are passed over.

mod attr;
mod head;
mod order;
mod unpack;

use super::cursor::{Cursor, Stop};
use super::{Fault, ForeignError, Kind, ReadAt, detect, on_disk};
use crate::perf_record::{u32_at, u64_at};
use crate::{EventFormat, RawRecord};
use head::{Data, Head, PIPE_HEADER};
use order::{Order, What};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::path::Path;
use unpack::Unpacker;

/// Kinds of records: those of the kernel (`enum perf_event_type`), and from 64 on perf's own (tools/lib/perf/include/perf/event.h).
const LOST: u32 = 2;
const COMM: u32 = 3;
const FORK: u32 = 7;
const SAMPLE: u32 = 9;
const LOST_SAMPLES: u32 = 13;
const HEADER_ATTR: u32 = 64;
const HEADER_TRACING_DATA: u32 = 66;
const FINISHED_ROUND: u32 = 68;
const AUXTRACE: u32 = 71;
const HEADER_FEATURE: u32 = 80;
const COMPRESSED: u32 = 81;
const COMPRESSED2: u32 = 83;

/// `PERF_RECORD_MISC_LOST_SAMPLES_BPF`: a filter of the user's kept them out.
const LOST_TO_FILTER: u16 = 1 << 15;

/// `struct perf_event_header`.
const HEADER: usize = 8;

/// `PERF_MAGIC2`: a number, so that its bytes tell the order in which the machine wrote them.
const MAGIC: u64 = 0x3245_4c49_4652_4550;

/// Threads that a machine can number (`PID_MAX_LIMIT`).
const MOST_THREADS: usize = 4 << 20;

/// An open file.
pub struct PerfData {
    is_pipe: bool,
    head: Head,
    source: Box<dyn ReadAt>,
    records: Data,
    /// Where the record stands that is being used.
    here: u64,
    /// Bytes read and not used, from that place on.
    read: Vec<u8>,
    used: usize,
    /// Packed records: what came out and is not used, how much was used before, and at how much rounds ended.
    unpacker: Unpacker,
    unpacked: Vec<u8>,
    unpacked_before: u64,
    rounds: VecDeque<u64>,
    order: Order,
    has_ended: bool,
    threads: FxHashMap<u32, (u32, String)>,
    /// A thread that is told ahead of its record, and the record.
    task: (u32, u32, String),
    given: Vec<u8>,
    waiting: Option<(u64, u16)>,
    lost: Lost,
    counted: Counted,
}

/// What there is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A tracepoint's record.
    Record(RawRecord<'a>),
    /// A thread's process and name from here on. The name is empty where it is not known.
    Task {
        /// The thread.
        tid: u32,
        /// Its process.
        pid: u32,
        /// Its name.
        comm: &'a str,
    },
    /// Something was lost about here.
    Lost,
}

/// Events that were lost or left out while the file was recorded, as far as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// For want of room in perf's buffers.
    pub ring_full: u64,
    /// By a filter that perf was given.
    pub filtered: u64,
    /// Samples that could not be read: too short, or of an event that the file does not describe.
    pub unreadable: u64,
    /// Records that came so late that later ones had been given.
    pub late: u64,
}

/// The two counts of what did not fit: told by the kernel between records, and by perf in the end, for its own events.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    told: u64,
    at_end: u64,
}

impl std::fmt::Debug for PerfData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PerfData").field("is_pipe", &self.is_pipe).field("head", &self.head).finish_non_exhaustive()
    }
}

impl PerfData {
    /// Opens a file and reads its head.
    ///
    /// # Errors
    /// [`ForeignError::Io`], and [`ForeignError::Refused`] for a file of another kind, version, or byte order.
    pub fn open(path: &Path) -> Result<PerfData, ForeignError> {
        PerfData::read(path, on_disk(path)?)
    }

    /// The same of bytes from elsewhere; the path is what errors name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(path: &Path, source: Box<dyn ReadAt>) -> Result<PerfData, ForeignError> {
        let refused = |what: String, remedy| ForeignError::Refused { path: path.into(), what, remedy };
        let mut first = vec![0; 1024];
        let length = source.read_at(0, &mut first).map_err(|e| ForeignError::Io { path: path.into(), source: e })?;
        first.truncate(length);
        let order = |is_big| if is_big { "big-endian" } else { "little-endian" };
        match u64_at(&first, 0) {
            Some(MAGIC) => {}
            Some(magic) if magic == MAGIC.swap_bytes() => {
                let what = format!("a perf.data of a {} machine", order(cfg!(target_endian = "little")));
                return Err(refused(what, "read it on a machine of the same kind"));
            }
            _ if first.starts_with(b"PERFFILE") => {
                return Err(refused("a perf.data of the first version".into(), "record it with a later perf"));
            }
            _ => {
                return Err(match detect(&first) {
                    Some(kind) if kind != Kind::PerfData => refused(kind.to_string(), "it is no perf.data"),
                    _ => refused("no perf.data".into(), "give it a file that `perf record` wrote"),
                });
            }
        }
        let short = |_| refused("a perf.data cut off in its head".into(), "copy it again");
        let mut cursor = Cursor::new(&*source, 8);
        let is_pipe = cursor.u64().map_err(short)? == PIPE_HEADER;
        let mut head = Head::default();
        let records = match is_pipe {
            true => Data { at: PIPE_HEADER, end: source.size() },
            false => head.read(&*source, &mut cursor).map_err(short)?,
        };
        let mut file = PerfData {
            is_pipe,
            head,
            source,
            records,
            here: 0,
            read: Vec::new(),
            used: 0,
            unpacker: Unpacker::default(),
            unpacked: Vec::new(),
            unpacked_before: 0,
            rounds: VecDeque::new(),
            order: Order::default(),
            has_ended: false,
            threads: FxHashMap::default(),
            task: (0, 0, String::new()),
            given: Vec::new(),
            waiting: None,
            lost: Lost::default(),
            counted: Counted::default(),
        };
        // A pipe's head is records; the first of another kind is behind it.
        while is_pipe && !file.has_ended && file.order.is_empty() && !file.unpacker.is_used() {
            file.step();
        }
        Ok(file)
    }

    /// Whether perf wrote it to a pipe.
    pub fn is_pipe(&self) -> bool {
        self.is_pipe
    }

    /// The layouts of its records. Empty where they are cut off.
    pub fn formats(&self) -> &[EventFormat] {
        &self.head.layouts.formats
    }

    /// Formats in it that could not be read: records of theirs are not understood.
    pub fn unreadable_formats(&self) -> u32 {
        self.head.layouts.bad_formats
    }

    /// Names of threads that the kernel remembered, as they were in the end; [`Item::Task`] tells better where it does.
    pub fn tasks(&self) -> &[(u32, String)] {
        &self.head.layouts.tasks
    }

    /// Whether it holds tracepoints at all.
    pub fn has_tracepoints(&self) -> bool {
        self.head.tracepoints().next().is_some()
    }

    /// Whether the times of all its tracepoints are CLOCK_MONOTONIC, as those of our recordings are.
    pub fn is_monotonic(&self) -> bool {
        self.head.tracepoints().all(attr::Attr::is_monotonic)
    }

    /// The number of the clock that was asked for. None for perf's own clock.
    pub fn clock(&self) -> Option<i32> {
        self.head.tracepoints().next()?.clock()
    }

    /// One moment on CLOCK_MONOTONIC and in the time of day, in nanoseconds, where the file has it.
    pub fn started(&self) -> Option<(u64, u64)> {
        const CLOCK_MONOTONIC: u32 = 1;
        let (_, own, day) = self.head.clock.filter(|(id, ..)| *id == CLOCK_MONOTONIC)?;
        Some((own, day))
    }

    /// The release of the kernel that it was recorded on.
    pub fn release(&self) -> Option<&str> {
        self.head.uname.as_deref()
    }

    /// The version of perf that wrote it.
    pub fn tool(&self) -> Option<&str> {
        self.head.tool.as_deref()
    }

    /// What is missing, so far as it was seen: complete once everything is read.
    pub fn faults(&self) -> &[Fault] {
        &self.head.faults
    }

    /// What was lost while it was recorded: complete once everything is read.
    pub fn lost(&self) -> Lost {
        // perf's own count, since 6.2, leaves out what was lost of other kinds and is no less; older ones have none.
        let ring_full = self.counted.told.max(self.counted.at_end);
        Lost { ring_full, late: self.order.late(), ..self.lost }
    }

    /// The next thing in order of time. None in the end.
    pub fn next_item(&mut self) -> Option<Item<'_>> {
        if let Some((at_ns, cpu)) = self.waiting.take() {
            return Some(Item::Record(RawRecord { at_ns, cpu, data: &self.given }));
        }
        loop {
            match self.order.take(self.has_ended) {
                Some((at_ns, What::Record { cpu, task, data })) => {
                    self.given.clear();
                    self.given.extend_from_slice(&data);
                    if task.is_some_and(|(pid, tid)| self.is_new(pid, tid)) {
                        self.waiting = Some((at_ns, cpu));
                        return Some(self.tell());
                    }
                    return Some(Item::Record(RawRecord { at_ns, cpu, data: &self.given }));
                }
                Some((_, What::Comm(pid, tid, comm))) => {
                    self.name(pid, tid, comm);
                    return Some(self.tell());
                }
                Some((_, What::Fork(pid, tid, by))) => {
                    let comm = self.threads.get(&by).map(|(_, comm)| comm.clone()).unwrap_or_default();
                    self.name(pid, tid, comm);
                    return Some(self.tell());
                }
                Some((_, What::Lost)) => return Some(Item::Lost),
                None if self.has_ended => return None,
                None => self.step(),
            }
        }
    }

    fn tell(&self) -> Item<'_> {
        let (pid, tid, comm) = &self.task;
        Item::Task { tid: *tid, pid: *pid, comm }
    }

    /// Remembers a thread, which is told next.
    fn name(&mut self, pid: u32, tid: u32, comm: String) {
        if self.threads.len() < MOST_THREADS || self.threads.contains_key(&tid) {
            self.threads.insert(tid, (pid, comm.clone()));
        }
        self.task = (pid, tid, comm);
    }

    /// Whether a record's thread, or that it is of this process, was not told yet; it is told next then.
    fn is_new(&mut self, pid: u32, tid: u32) -> bool {
        // A task that ended has no number any more (`perf_event_pid_type`, kernel/events/core.c).
        if tid == u32::MAX || pid == u32::MAX {
            return false;
        }
        match self.threads.get(&tid) {
            Some((known, _)) if *known == pid => false,
            known => {
                let idle = if tid == 0 { "swapper" } else { "" };
                let comm = known.map_or(idle, |(_, comm)| comm.as_str()).to_string();
                self.name(pid, tid, comm);
                true
            }
        }
    }

    /// Takes the next record of the file, or ends.
    fn step(&mut self) {
        self.here = self.position();
        match self.whole_record() {
            Ok(Some(length)) => {
                // Out of the way while the record is used.
                let bytes = std::mem::take(&mut self.read);
                let end = self.used.saturating_add(length);
                let more = self.record(bytes.get(self.used..end).unwrap_or_default(), true);
                self.read = bytes;
                self.used = end;
                if more > 0
                    && let Err(stop) = self.pass_over(more)
                {
                    self.stop(Some(stop));
                }
            }
            Ok(None) => self.stop(None),
            Err(stop) => self.stop(Some(stop)),
        }
    }

    fn stop(&mut self, stop: Option<Stop>) {
        if let Some(stop) = stop {
            let fault = Fault::of(stop, "the records from there on");
            // That the records are cut may have been said of the head.
            if !self.head.faults.iter().any(|known| known.is_cut && fault.is_cut) {
                self.head.faults.push(fault);
            }
        }
        self.records.at = self.records.end;
        (self.read, self.used) = (Vec::new(), 0);
        if let Err(why) = self.unpacker.finish(&mut self.unpacked) {
            self.broken(why);
        }
        self.plain_records();
        if !self.unpacked.is_empty() {
            self.broken("the last packed record is not whole");
        }
        self.has_ended = true;
        if !self.head.has_layouts && self.has_tracepoints() && self.head.faults.is_empty() {
            let what = "the layouts of its records are not in it";
            self.head.faults.push(Fault { at: self.source.size(), is_cut: false, what: what.into() });
        }
    }

    fn broken(&mut self, why: &str) {
        let what = format!("packed records: {why}");
        let is_cut = self.head.faults.iter().any(|fault| fault.is_cut);
        // Of a file that is cut, the last of them are.
        if !is_cut {
            self.head.faults.push(Fault { at: self.here, is_cut, what });
        }
    }

    /// The place of what was not used.
    fn position(&self) -> u64 {
        self.records.at.saturating_sub(self.read.len().saturating_sub(self.used) as u64)
    }

    /// Sees to it that a record is whole in memory, and says how long it is. None at the end.
    fn whole_record(&mut self) -> Result<Option<usize>, Stop> {
        self.fill(HEADER);
        let rest = self.read.get(self.used..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let cut = Stop::Cut(self.records.end);
        let (kind, mut length) = (u32_at(rest, 0).ok_or(cut)?, usize::from(size_of_record(rest).ok_or(cut)?));
        if kind == COMPRESSED2 {
            // Its length is rounded up to eight, and perf 6.16 and later let that run over 16 bits: then nothing was added.
            self.fill(HEADER.saturating_add(8));
            let rest = self.read.get(self.used..).unwrap_or_default();
            let data = usize::try_from(u64_at(rest, HEADER).ok_or(cut)?).unwrap_or(usize::MAX).saturating_add(16);
            if length < data && data <= 1 << 16 {
                length = data;
            }
        }
        if length < HEADER {
            return Err(Stop::Bad(self.position(), "a record shorter than any"));
        }
        self.fill(length);
        let has_all = self.read.len().saturating_sub(self.used) >= length;
        if has_all { Ok(Some(length)) } else { Err(cut) }
    }

    /// Reads on until so many bytes are there, or the end.
    fn fill(&mut self, length: usize) {
        const AT_ONCE: u64 = 256 << 10;
        if self.read.len().saturating_sub(self.used) >= length {
            return;
        }
        self.read.drain(..self.used.min(self.read.len()));
        self.used = 0;
        let more = self.records.end.saturating_sub(self.records.at).min(AT_ONCE) as usize;
        let before = self.read.len();
        self.read.resize(before.saturating_add(more), 0);
        let room = self.read.get_mut(before..).unwrap_or_default();
        // An error of the disk ends what can be read, as a cut does.
        let got = self.source.read_at(self.records.at, room).unwrap_or(0);
        self.read.truncate(before.saturating_add(got));
        self.records.at = self.records.at.saturating_add(got as u64);
    }

    /// Uses a record, and says how many bytes stand behind it that are none. Those that were packed hold none that are, and no parts of the
    /// head.
    fn record(&mut self, record: &[u8], is_outer: bool) -> u64 {
        let (Some(kind), Some(body)) = (u32_at(record, 0), record.get(HEADER..)) else { return 0 };
        match kind {
            SAMPLE => self.sample(body),
            LOST => {
                self.counted.told = self.counted.told.saturating_add(u64_at(body, 8).unwrap_or(0));
                self.order.put(self.time_of(record), What::Lost);
            }
            LOST_SAMPLES => {
                let (misc, lost) = (misc_of_record(record).unwrap_or(0), u64_at(body, 0).unwrap_or(0));
                let count = match misc & LOST_TO_FILTER {
                    0 => &mut self.counted.at_end,
                    _ => &mut self.lost.filtered,
                };
                *count = count.saturating_add(lost);
            }
            COMM => {
                if let (Some(pid), Some(tid), Some(comm)) = (u32_at(body, 0), u32_at(body, 4), body.get(8..)) {
                    let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
                    let comm = String::from_utf8_lossy(comm).into_owned();
                    self.order.put(self.time_of(record), What::Comm(pid, tid, comm));
                }
            }
            FORK => {
                let (pid, tid, by) = (u32_at(body, 0), u32_at(body, 8), u32_at(body, 12));
                if let (Some(pid), Some(tid), Some(by)) = (pid, tid, by) {
                    let at = u64_at(body, 16).filter(|at| *at != u64::MAX).unwrap_or(0);
                    self.order.put(at, What::Fork(pid, tid, by));
                }
            }
            HEADER_ATTR if is_outer => {
                let size = attr::Attr::parse(body).map_or(0, |attr| attr.size as usize);
                self.head.attr(body, body.get(size..).unwrap_or_default());
            }
            HEADER_FEATURE if is_outer => {
                if let (Some(feature), Some(bytes)) = (u64_at(body, 0), body.get(8..)) {
                    self.head.feature(feature, bytes);
                }
            }
            HEADER_TRACING_DATA if is_outer => {
                self.head.layouts(&*self.source, self.here.saturating_add(record.len() as u64));
                return u32_at(body, 0).unwrap_or(0).into();
            }
            AUXTRACE if is_outer => return u64_at(body, 0).unwrap_or(0),
            FINISHED_ROUND if is_outer && self.unpacker.is_used() => {
                // A third at one place changes nothing any more.
                let at = self.unpacker.decoded();
                if self.rounds.iter().rev().take(2).filter(|round| **round == at).count() < 2 {
                    self.rounds.push_back(at);
                }
            }
            FINISHED_ROUND => self.order.round(),
            COMPRESSED if is_outer => self.packed(body),
            COMPRESSED2 if is_outer => {
                let length = u64_at(body, 0).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
                let bytes = body.get(8..).unwrap_or_default();
                self.packed(bytes.get(..length.min(bytes.len())).unwrap_or_default());
            }
            _ => {}
        }
        0
    }

    /// Goes over bytes that follow a record and are none.
    fn pass_over(&mut self, length: u64) -> Result<(), Stop> {
        let to = self.position().saturating_add(length);
        self.read.clear();
        self.used = 0;
        if to > self.records.end {
            return Err(Stop::Cut(self.records.end));
        }
        self.records.at = to;
        Ok(())
    }

    fn sample(&mut self, body: &[u8]) {
        let Some(attr) = self.head.of_sample(body) else {
            self.lost.unreadable = self.lost.unreadable.saturating_add(1);
            return;
        };
        if !attr.is_tracepoint() {
            return;
        }
        let Some(sample) = attr.sample(body) else {
            self.lost.unreadable = self.lost.unreadable.saturating_add(1);
            return;
        };
        let cpu = sample.cpu.and_then(|cpu| u16::try_from(cpu).ok()).unwrap_or(u16::MAX);
        self.order.put(sample.at_ns, What::Record { cpu, task: sample.task, data: sample.data.into() });
    }

    /// When a record that is no sample was written; 0 for those of the time before.
    fn time_of(&self, record: &[u8]) -> u64 {
        let at = self.head.of_other(record).and_then(|attr| attr.time_of_other(record));
        at.filter(|at| *at != u64::MAX).unwrap_or(0)
    }

    fn packed(&mut self, bytes: &[u8]) {
        self.unpacker.feed(bytes);
        loop {
            match self.unpacker.block(&mut self.unpacked) {
                Ok(true) => self.plain_records(),
                Ok(false) => return,
                // Nothing behind it can be unpacked; what was, is used.
                Err(why) => return self.broken(why),
            }
        }
    }

    /// Uses the records that came out of packed ones. The last may not be whole.
    fn plain_records(&mut self) {
        let bytes = std::mem::take(&mut self.unpacked);
        let mut rest = bytes.as_slice();
        loop {
            let used = bytes.len().saturating_sub(rest.len());
            let at = self.unpacked_before.saturating_add(used as u64);
            while self.rounds.pop_front_if(|round| *round <= at).is_some() {
                self.order.round();
            }
            let length = size_of_record(rest).map_or(usize::MAX, |size| usize::from(size).max(HEADER));
            let Some((record, behind)) = rest.split_at_checked(length) else { break };
            self.record(record, false);
            rest = behind;
        }
        let used = bytes.len().saturating_sub(rest.len());
        self.unpacked_before = self.unpacked_before.saturating_add(used as u64);
        self.unpacked = rest.to_vec();
    }
}

fn misc_of_record(record: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*record.get(4..)?.first_chunk()?))
}

fn size_of_record(record: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*record.get(6..)?.first_chunk()?))
}
