//! Perfetto's traces (`.pftrace`, `.perfetto-trace`): the kernel's events in them, as `traced_probes` and our own export write them.
//!
//! A trace has its packets in no order of time: each processor's bundles of events follow each other, and clocks and threads stand anywhere
//! between them. So it is read twice. First all of it, and what is kept is where the bundles are, the clocks and the threads; then
//! bundle by bundle, of all processors side by side, in order of time. Memory is for one bundle a processor (256 MiB for all, and as much
//! again while they are read), 32 bytes for each that there is (4,194,304 at most), 64 MiB of packed packets, and the names of 262,144
//! threads. What is beyond is counted, and told as lost where it would have come ([`Item::Lost`]).
//!
//! **Times** of ftrace events are CLOCK_BOOTTIME's, or of another clock that the bundle names; the trace's clock snapshots bring them to
//! CLOCK_MONOTONIC.
//!
//! **Records** are made of the messages, laid out as the kernel's are ([`Item::Format`]), so that what they mean is told by the same decoder.
//! Events that Perfetto has no message for come as generic ones, in either form, and are taken by their name.

mod bundle;
mod clocks;
mod index;
mod layouts;
mod own;
mod packed;
mod schema;
mod wire;

use super::{Fault, ForeignError, Kind, ReadAt, detect, on_disk};
use crate::{EventFormat, RawRecord};
use bundle::{Loaded, Reader, What};
use index::{Index, Place};
pub use own::Own;
use packed::Unpacked;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;

/// Memory for the bundles that are open at a time. Perfetto's have some hundred kilobytes at most.
const MOST_OPEN: usize = 256 << 20;

/// An open trace.
pub struct PerfettoTrace {
    source: Box<dyn ReadAt>,
    index: Index,
    /// By stream.
    next: Vec<Next>,
    waiting: BinaryHeap<Reverse<(u64, usize)>>,
    reader: Reader,
    told_formats: usize,
    /// Threads that are told first.
    threads: VecDeque<u32>,
    task: (u32, u32, String),
    given: Vec<u8>,
    record: Option<(u64, u16)>,
    unpacked: Unpacked,
    open_bytes: usize,
    most_open: usize,
    ends_behind_gap: bool,
    last_ns: u64,
    faults: Vec<Fault>,
    unread: u64,
    late: u64,
}

/// What comes next of a stream.
#[derive(Default)]
struct Next {
    /// The next bundle.
    at: usize,
    /// What is left of the one before.
    loaded: Loaded,
    /// Whether something of it could not be read since.
    is_behind_gap: bool,
}

/// What there is in a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// The layout of records that follow.
    Format(&'a EventFormat),
    /// An event.
    Record(RawRecord<'a>),
    /// A thread's process (0: not known) and name from here on.
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

/// What a trace lacks, as far as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// By the kernel's counters, where the trace has them.
    pub counted: Option<u64>,
    /// Places in which events were lost, and where it does not say how many.
    pub gaps: u64,
    /// Parts of the kernel's buffers that Perfetto could not read.
    pub errors: u64,
    /// Packets and events that could not be read: broken, larger than any, or of other types than Perfetto's.
    pub unreadable: u64,
    /// Events that came so late that later ones had been given.
    pub late: u64,
    /// Names of threads that are left out: there are more than any machine has.
    pub nameless: u64,
}

/// The packets of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// All of them.
    pub all: u64,
    /// Those of kinds that say nothing of the kernel's events.
    pub others: u64,
    /// Those of another machine than the one that recorded.
    pub other_machines: u64,
}

impl std::fmt::Debug for PerfettoTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PerfettoTrace")
            .field("packets", &self.packets())
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl PerfettoTrace {
    /// Opens a trace and reads it once.
    ///
    /// # Errors
    /// [`ForeignError::Io`], and [`ForeignError::Refused`] for a file of another kind.
    pub fn open(path: &Path) -> Result<PerfettoTrace, ForeignError> {
        PerfettoTrace::read(path, on_disk(path)?)
    }

    /// The same of bytes from elsewhere; the path is what errors name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(path: &Path, source: Box<dyn ReadAt>) -> Result<PerfettoTrace, ForeignError> {
        PerfettoTrace::read_within(path, source, MOST_OPEN)
    }

    fn read_within(path: &Path, source: Box<dyn ReadAt>, most_open: usize) -> Result<PerfettoTrace, ForeignError> {
        let refused = |what: String, remedy| ForeignError::Refused { path: path.into(), what, remedy };
        let mut first = vec![0; 1024];
        let length = source.read_at(0, &mut first).map_err(|e| ForeignError::Io { path: path.into(), source: e })?;
        first.truncate(length);
        match detect(&first) {
            Some(Kind::Perfetto) => {}
            Some(kind) => return Err(refused(kind.to_string(), "it is no trace of Perfetto")),
            None => return Err(refused("no trace of Perfetto".into(), "give it a file that Perfetto wrote")),
        }
        let (index, stop) = Index::read(&*source);
        let faults = stop.map(|stop| Fault::of(stop, "the packets from there on")).into_iter().collect();
        let mut threads: Vec<u32> = index.threads.keys().copied().collect();
        threads.sort_unstable();
        let mut trace = PerfettoTrace {
            source,
            next: index.streams.iter().map(|_| Next::default()).collect(),
            unpacked: Unpacked::new(index.unpacked_bytes),
            ends_behind_gap: index.ends_behind_gap,
            index,
            waiting: BinaryHeap::new(),
            reader: Reader::default(),
            told_formats: 0,
            threads: threads.into(),
            task: (0, 0, String::new()),
            given: Vec::new(),
            record: None,
            open_bytes: 0,
            most_open,
            last_ns: 0,
            faults,
            unread: 0,
            late: 0,
        };
        for stream in 0..trace.next.len() {
            trace.wait(stream);
        }
        Ok(trace)
    }

    /// How many packets there are.
    pub fn packets(&self) -> Packets {
        let Index { packets: all, others, other_machines, .. } = self.index;
        Packets { all, others, other_machines }
    }

    /// Whether it holds events of the kernel at all.
    pub fn has_events(&self) -> bool {
        !self.index.streams.is_empty()
    }

    /// Whether the times of all its events are brought to CLOCK_MONOTONIC.
    pub fn is_monotonic(&self) -> bool {
        let mut streams = self.index.streams.iter();
        streams.all(|stream| {
            let first = stream.places.first().map(Place::first);
            first.is_none_or(|first| self.index.clocks.monotonic(stream.clock, first).is_some())
        })
    }

    /// One moment on CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_REALTIME.
    pub fn clocks(&self) -> Option<(u64, u64, u64)> {
        self.index.clocks.first
    }

    /// Since when events of all processors are there, where Perfetto says.
    pub fn from_ns(&self) -> Option<u64> {
        let since = |stream: &index::Stream| self.index.clocks.monotonic(stream.clock, stream.before?);
        self.index.streams.iter().filter_map(since).max()
    }

    /// What our own export told.
    pub fn own(&self) -> &Own {
        &self.index.own
    }

    /// Where the file is cut off or broken.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Events that say nothing of GPU jobs, so far.
    pub fn passed_over(&self) -> u64 {
        self.reader.passed_over
    }

    /// What is missing: complete once everything is read.
    pub fn lost(&self) -> Lost {
        let unreadable = self.index.unreadable.saturating_add(self.reader.unreadable).saturating_add(self.unread);
        Lost {
            counted: self.index.counted(),
            gaps: self.index.gaps,
            errors: self.index.errors,
            unreadable,
            late: self.late,
            nameless: self.index.nameless,
        }
    }

    /// The next thing in order of time, threads first. None in the end.
    pub fn next_item(&mut self) -> Option<Item<'_>> {
        if let Some(tid) = self.threads.pop_front() {
            let (pid, comm) = self.index.threads.get(&tid).cloned().unwrap_or_default();
            self.task = (tid, pid, comm);
            return Some(self.tell());
        }
        loop {
            if self.reader.layouts.format(self.told_formats).is_some() {
                self.told_formats = self.told_formats.saturating_add(1);
                return self.reader.layouts.format(self.told_formats.saturating_sub(1)).map(Item::Format);
            }
            if let Some((at_ns, cpu)) = self.record.take() {
                return Some(Item::Record(RawRecord { at_ns, cpu, data: &self.given }));
            }
            let Some(Reverse((_, stream))) = self.waiting.pop() else {
                return std::mem::take(&mut self.ends_behind_gap).then_some(Item::Lost);
            };
            let (Some(Next { loaded, .. }), Some(cpu)) =
                (self.next.get_mut(stream), self.index.streams.get(stream).map(|stream| stream.cpu))
            else {
                continue;
            };
            let Some((at_ns, what)) = loaded.take() else { continue };
            let mut name = None;
            match what {
                What::Record(from, to) => {
                    self.given.clear();
                    self.given.extend_from_slice(loaded.bytes(from, to));
                    self.record = Some((at_ns, cpu));
                    self.late = self.late.saturating_add(u64::from(at_ns < self.last_ns));
                    self.last_ns = self.last_ns.max(at_ns);
                }
                // Each processor's idle thread has the number 0.
                What::Name(0, ..) => {}
                What::Name(tid, from, to) => {
                    let known = self.index.threads.get(&tid);
                    let comm = loaded.bytes(from, to);
                    if known.is_none_or(|(_, known)| known.as_bytes() != comm) {
                        name =
                            Some((tid, known.map_or(0, |(pid, _)| *pid), String::from_utf8_lossy(comm).into_owned()));
                    }
                }
                What::Lost => {}
            }
            self.wait(stream);
            if let Some((tid, pid, comm)) = name {
                self.index.name(tid, pid, comm.clone());
                self.task = (tid, pid, comm);
                return Some(self.tell());
            }
            if what == What::Lost {
                return Some(Item::Lost);
            }
        }
    }

    fn tell(&self) -> Item<'_> {
        let (tid, pid, comm) = &self.task;
        Item::Task { tid: *tid, pid: *pid, comm }
    }

    /// Puts the next event of a stream among those that wait for their time.
    fn wait(&mut self, at: usize) {
        loop {
            let (Some(stream), Some(next)) = (self.index.streams.get(at), self.next.get_mut(at)) else { return };
            if let Some(at_ns) = next.loaded.next_ns() {
                self.waiting.push(Reverse((at_ns, at)));
                return;
            }
            self.open_bytes = self.open_bytes.saturating_sub(next.loaded.weight());
            next.loaded = Loaded::default();
            let Some(place) = stream.places.get(next.at).copied() else {
                self.ends_behind_gap |= std::mem::take(&mut next.is_behind_gap);
                return;
            };
            next.at = next.at.saturating_add(1);
            let of = (stream.sequence, place.is_behind_gap || std::mem::take(&mut next.is_behind_gap));
            let room = self.most_open.saturating_sub(self.open_bytes);
            let loaded = self
                .bundle(place)
                .map(|bundle| self.reader.load(&bundle, of, (&self.index.clocks, &self.index.descriptors), room));
            let Some(next) = self.next.get_mut(at) else { return };
            next.is_behind_gap = loaded.as_ref().is_none_or(|loaded| loaded.is_cut);
            self.unread = self.unread.saturating_add(u64::from(next.is_behind_gap));
            if let Some(loaded) = loaded {
                self.open_bytes = self.open_bytes.saturating_add(loaded.weight());
                next.loaded = loaded;
            }
        }
    }

    /// The bytes of a bundle, which were there when the file was read first.
    fn bundle(&mut self, place: Place) -> Option<Vec<u8>> {
        if let Some(packing) = place.packing {
            return self.unpacked.bundle(&*self.source, place, packing);
        }
        let mut bytes = vec![0; place.size as usize];
        let read = self.source.read_at(place.at.checked_add(place.from.into())?, &mut bytes).ok()?;
        (read == bytes.len()).then_some(bytes)
    }
}

#[cfg(test)]
mod tests;
