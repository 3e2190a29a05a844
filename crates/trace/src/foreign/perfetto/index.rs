//! The first reading of a trace: where its bundles are, its clocks, its threads, and what it says was lost.

use super::bundle::{Descriptors, Head};
use super::clocks::{Clock, Clocks};
use super::own;
use super::packed::Packing;
use super::wire::{Fields, Value, name, varint};
use crate::foreign::ReadAt;
use crate::foreign::cursor::Stop;
use rustc_hash::{FxHashMap, FxHashSet};

/// Fields of `TracePacket` (protos/perfetto/trace/trace_packet.proto) that are read.
const FTRACE: u32 = 1;
const PROCESS_TREE: u32 = 2;
const CLOCK_SNAPSHOT: u32 = 6;
const SEQUENCE: u32 = 10;
const FTRACE_STATS: u32 = 34;
const PREVIOUS_DROPPED: u32 = 42;
const COMPRESSED: u32 = 50;
const TRACK_DESCRIPTOR: u32 = 60;
const MACHINE: u32 = 98;
const COMPRESSED_ZSTD: u32 = 133;

/// No packet is longer: the buffers that Perfetto collects in are of some megabytes.
const LONGEST_PACKET: u64 = 8 << 20;
const MOST_BUNDLES: usize = 4 << 20;
/// Processors, of each sequence of packets.
const MOST_STREAMS: usize = 1 << 12;
/// Perfetto refuses traces with more (src/trace_processor/importers/ftrace/ftrace_tokenizer.cc).
const MOST_CPUS: u32 = 1 << 10;
/// Threads whose names are kept: a machine can number sixteen times as many (`PID_MAX_LIMIT`), and has some thousands.
const MOST_THREADS: usize = 1 << 18;
/// Sequences of packets that are told apart: one for each thread of each program that wrote into the trace.
const MOST_SEQUENCES: usize = 1 << 16;

/// Where a bundle is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Of its packet's bytes, or of the packed ones that it is in.
    pub(super) at: u64,
    pub(super) length: u32,
    /// From here on, in the packet or in what was packed, so many bytes.
    pub(super) from: u32,
    pub(super) size: u32,
    pub(super) packing: Option<Packing>,
    /// Whether something was lost ahead of it.
    pub(super) is_behind_gap: bool,
    first: u64,
}

impl Place {
    /// The time of its first event, on the bundle's clock.
    pub(super) fn first(&self) -> u64 {
        self.first
    }
}

/// The bundles of one processor and sequence.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) cpu: u16,
    pub(super) sequence: u32,
    pub(super) clock: Clock,
    pub(super) places: Vec<Place>,
    /// When the event was that the first bundle comes behind.
    pub(super) before: Option<u64>,
}

/// What the kernel counted of one processor: overwritten, not taken, not committed.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    begin: Option<u64>,
    end: Option<u64>,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) streams: Vec<Stream>,
    by_key: FxHashMap<(u32, u16), usize>,
    bundles: usize,
    pub(super) clocks: Clocks,
    pub(super) descriptors: Descriptors,
    /// Process and name by thread.
    pub(super) threads: FxHashMap<u32, (u32, String)>,
    counted: FxHashMap<(u32, u64), Counted>,
    pub(super) own: own::Own,
    pub(super) packets: u64,
    /// Packets of kinds that say nothing of the kernel's events.
    pub(super) others: u64,
    /// Packets of another machine.
    pub(super) other_machines: u64,
    /// Packets that are larger than any, or cannot be read.
    pub(super) unreadable: u64,
    /// Places where events were lost in the kernel's buffers or packets in Perfetto's, and those of the kernel's that it could not read.
    pub(super) gaps: u64,
    pub(super) errors: u64,
    /// Whether something was lost behind the last bundle.
    pub(super) ends_behind_gap: bool,
    /// Names of threads for which there was no room.
    pub(super) nameless: u64,
    /// What packed packets hold, in bytes.
    pub(super) unpacked_bytes: u64,
    /// Sequences of packets that came up; those of which something was lost and no bundle came since, and whether it was of the kernel.
    sequences: FxHashSet<u32>,
    lost_of: FxHashMap<u32, bool>,
    /// Something could not be read, of whichever sequence.
    is_lost: bool,
}

/// A packet, and where it is.
#[derive(Clone, Copy)]
struct Packet<'a> {
    bytes: &'a [u8],
    /// Its place in the file, or that of the packed bytes that it is in.
    at: u64,
    length: u32,
    /// What it is in, if that was packed.
    within: Option<(&'a [u8], Packing)>,
}

impl Index {
    /// Reads a trace from its begin to its end. Says where and why it stopped before that.
    pub(super) fn read(source: &dyn ReadAt) -> (Index, Option<Stop>) {
        let mut index = Index::default();
        let mut window = Window { source, at: 0, bytes: Vec::new(), used: 0 };
        let stop = loop {
            match index.step(&mut window) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(stop) => break Some(stop),
            }
        };
        index.clocks.sort();
        index.end();
        // Bundles of one processor come in order, unless the file was put together.
        index.streams.iter_mut().for_each(|stream| stream.places.sort_by_key(|place| place.first));
        (index, stop)
    }

    fn step(&mut self, window: &mut Window<'_>) -> Result<bool, Stop> {
        let size = window.source.size();
        // A tag and a length have no more.
        window.fill(20);
        let at = window.position();
        let bytes = window.rest();
        if bytes.is_empty() {
            return Ok(false);
        }
        let wrong = |what| if size.saturating_sub(at) < 20 { Stop::Cut(size) } else { Stop::Bad(at, what) };
        let (tag, rest) = varint(bytes).ok_or_else(|| wrong("no packet begins here"))?;
        if tag != 0x0a {
            return Err(Stop::Bad(at, "no packet begins here"));
        }
        let (length, rest) = varint(rest).ok_or_else(|| wrong("a packet has no length"))?;
        let head = bytes.len().saturating_sub(rest.len());
        let begin = at.saturating_add(head as u64);
        if begin.checked_add(length).is_none_or(|end| end > size) {
            return Err(Stop::Cut(size));
        }
        self.packets = self.packets.saturating_add(1);
        if length > LONGEST_PACKET {
            self.cannot_read();
            window.skip_to(begin.saturating_add(length));
            return Ok(true);
        }
        let whole = head.saturating_add(length as usize);
        window.fill(whole);
        let bytes = window.rest().get(head..whole).ok_or(Stop::Cut(size))?;
        self.packet(Packet { bytes, at: begin, length: length as u32, within: None });
        window.used = window.used.saturating_add(whole);
        Ok(true)
    }

    fn packet(&mut self, packet: Packet<'_>) {
        let (mut sequence, mut machine, mut is_known, mut has_gap) = (0, 0, false, false);
        let mut fields = Fields::of(packet.bytes);
        for (field, value) in fields.by_ref() {
            match field {
                SEQUENCE => sequence = value.small().unwrap_or(0),
                MACHINE => machine = value.number().unwrap_or(0),
                PREVIOUS_DROPPED => has_gap = value.number().is_some_and(|reasons| reasons != 0),
                FTRACE
                | PROCESS_TREE
                | CLOCK_SNAPSHOT
                | FTRACE_STATS
                | COMPRESSED
                | COMPRESSED_ZSTD
                | TRACK_DESCRIPTOR
                | own::PACKET => is_known = true,
                _ => {}
            }
        }
        if fields.is_broken() {
            self.cannot_read();
            return;
        }
        if machine != 0 {
            self.other_machines = self.other_machines.saturating_add(1);
            return;
        }
        // The service sets the mark on the first packet of each sequence, too, where it says nothing (trace_packet.proto); and packets
        // without a sequence have none that could be lost.
        let is_first = sequence == 0
            || (self.sequences.len() < MOST_SEQUENCES || self.sequences.contains(&sequence))
                && self.sequences.insert(sequence);
        if has_gap && !is_first {
            self.lost_of.entry(sequence).or_insert(false);
        }
        if !is_known {
            self.others = self.others.saturating_add(1);
            return;
        }
        let mut fields = Fields::of(packet.bytes);
        while let Some((field, value)) = fields.next() {
            let Value::Bytes(bytes) = value else { continue };
            let begin = packet.bytes.len().saturating_sub(fields.left()).saturating_sub(bytes.len());
            match field {
                FTRACE => self.bundle(bytes, begin, sequence, packet),
                PROCESS_TREE => self.process_tree(bytes),
                TRACK_DESCRIPTOR => self.track(bytes),
                CLOCK_SNAPSHOT => self.clocks.snapshot(bytes),
                FTRACE_STATS => self.stats(bytes, sequence),
                own::PACKET => self.own.read(bytes),
                // A packed packet holds no packed ones.
                COMPRESSED if packet.within.is_none() => self.unpack(Packing::Zlib, bytes, begin, packet),
                COMPRESSED_ZSTD if packet.within.is_none() => self.unpack(Packing::Zstd, bytes, begin, packet),
                _ => {}
            }
        }
    }

    /// Something is missing, of which sequence is not known.
    fn cannot_read(&mut self) {
        self.unreadable = self.unreadable.saturating_add(1);
        self.is_lost = true;
    }

    fn bundle(&mut self, bundle: &[u8], begin: usize, sequence: u32, packet: Packet<'_>) {
        let head = Head::read(bundle, &mut self.descriptors);
        self.errors = self.errors.saturating_add(head.errors);
        if let Some((own, boottime)) = head.moment() {
            self.clocks.kernel(sequence, own, boottime);
        }
        if head.is_behind_loss && self.lost_of.len() < MOST_SEQUENCES {
            self.lost_of.insert(sequence, true);
        }
        self.is_lost |= head.errors > 0;
        // What it lost and does not hold an event behind is told ahead of the next one.
        let Some(first) = head.first else { return };
        // Where the packet stands in what was packed.
        let within =
            packet.within.map_or(0, |(all, _)| (packet.bytes.as_ptr() as usize).wrapping_sub(all.as_ptr() as usize));
        let place = (
            u32::try_from(within.wrapping_add(begin)),
            u32::try_from(bundle.len()),
            head.cpu.filter(|cpu| *cpu < MOST_CPUS).and_then(|cpu| u16::try_from(cpu).ok()),
        );
        let (Ok(from), Ok(size), Some(cpu)) = place else { return self.cannot_read() };
        let at = match self.by_key.get(&(sequence, cpu)) {
            Some(at) => *at,
            None if self.streams.len() < MOST_STREAMS => {
                let at = self.streams.len();
                self.by_key.insert((sequence, cpu), at);
                let (clock, before) = (head.clock(sequence), head.before);
                self.streams.push(Stream { cpu, sequence, clock, places: Vec::new(), before });
                at
            }
            None => return self.cannot_read(),
        };
        if self.bundles >= MOST_BUNDLES {
            return self.cannot_read();
        }
        let has_gap = self.lost_of.remove(&sequence).is_some();
        self.gaps = self.gaps.saturating_add(u64::from(has_gap));
        let is_behind_gap = std::mem::take(&mut self.is_lost) || has_gap;
        let Some(stream) = self.streams.get_mut(at) else { return };
        self.bundles = self.bundles.saturating_add(1);
        let Packet { at, length, within, .. } = packet;
        let packing = within.map(|(_, packing)| packing);
        stream.places.push(Place { at, length, from, size, packing, is_behind_gap, first });
    }

    /// What was lost behind the last bundles. A sequence without any is none of the kernel's events.
    fn end(&mut self) {
        let of_events: FxHashSet<u32> = self.streams.iter().map(|stream| stream.sequence).collect();
        let gaps =
            self.lost_of.iter().filter(|(sequence, is_kernel)| **is_kernel || of_events.contains(sequence)).count();
        self.gaps = self.gaps.saturating_add(gaps as u64);
        self.ends_behind_gap = gaps > 0 || self.is_lost;
    }

    fn unpack(&mut self, packing: Packing, packed: &[u8], begin: usize, outer: Packet<'_>) {
        let place = (outer.at.checked_add(begin as u64), u32::try_from(packed.len()));
        let (Some(all), (Some(at), Ok(length))) = (packing.unpack(packed), place) else { return self.cannot_read() };
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(all.len() as u64);
        let mut fields = Fields::of(&all);
        for (field, value) in fields.by_ref() {
            if let (1, Value::Bytes(bytes)) = (field, value) {
                self.packets = self.packets.saturating_add(1);
                self.packet(Packet { bytes, at, length, within: Some((&all, packing)) });
            }
        }
        if fields.is_broken() {
            self.cannot_read();
        }
    }

    /// Remembers a thread.
    pub(super) fn name(&mut self, tid: u32, pid: u32, name: String) {
        if tid == 0 {
            return;
        }
        if self.threads.len() < MOST_THREADS || self.threads.contains_key(&tid) {
            self.threads.insert(tid, (pid, name));
        } else {
            self.nameless = self.nameless.saturating_add(1);
        }
    }

    /// `ProcessTree`. A process is called by its first word; its first thread may be told with its own name as well.
    fn process_tree(&mut self, tree: &[u8]) {
        for (field, value) in Fields::of(tree) {
            let (Some(bytes), true) = (value.bytes(), matches!(field, 1 | 2)) else { continue };
            let (mut id, mut group, mut called) = (None, None, None);
            for (of, value) in Fields::of(bytes) {
                match (field, of) {
                    (_, 1) => id = value.small(),
                    // A thread's name has no path.
                    (1, 3) if called.is_none() => {
                        called = value.bytes().and_then(|path| path.rsplit(|of| *of == b'/').next())
                    }
                    (2, 2) => called = value.bytes(),
                    (2, 3) => group = value.small(),
                    _ => {}
                }
            }
            let Some(id) = id else { continue };
            let name = name(called.unwrap_or_default());
            if field == 2 {
                self.name(id, group.unwrap_or(0), name);
            } else if !self.threads.contains_key(&id) {
                // A thread's name has 15 letters.
                self.name(id, id, name.chars().take(15).collect());
            }
        }
    }

    /// `TrackDescriptor.thread`.
    fn track(&mut self, track: &[u8]) {
        for (_, value) in Fields::of(track).filter(|(field, _)| *field == 4) {
            let (mut pid, mut tid, mut name) = (None, None, String::new());
            for (field, value) in value.bytes().map(Fields::of).into_iter().flatten() {
                match field {
                    1 => pid = value.small(),
                    2 => tid = value.small(),
                    5 => name = value.text().unwrap_or_default(),
                    _ => {}
                }
            }
            if let (Some(pid), Some(tid)) = (pid, tid) {
                self.name(tid, pid, name);
            }
        }
    }

    /// `FtraceStats`: the kernel's counters when the trace began and whenever it was written.
    fn stats(&mut self, stats: &[u8], sequence: u32) {
        const MOST: usize = 1 << 16;
        let phase = Fields::of(stats).find(|(field, _)| *field == 1).and_then(|(_, value)| value.number());
        for (_, value) in Fields::of(stats).filter(|(field, _)| *field == 2) {
            let (mut cpu, mut lost) = (0, 0_u64);
            for (field, value) in value.bytes().map(Fields::of).into_iter().flatten() {
                match (field, value.number()) {
                    (1, Some(number)) => cpu = number,
                    // overrun, commit_overrun, dropped_events
                    (3 | 4 | 8, Some(number)) => lost = lost.saturating_add(number),
                    _ => {}
                }
            }
            if self.counted.len() >= MOST && !self.counted.contains_key(&(sequence, cpu)) {
                continue;
            }
            let counted = self.counted.entry((sequence, cpu)).or_default();
            match phase {
                Some(1) => counted.begin = Some(lost),
                Some(2) => counted.end = counted.end.max(Some(lost)),
                _ => {}
            }
        }
    }

    /// What the kernel counted as lost, of each processor. Two sequences may tell of one buffer.
    pub(super) fn counted(&self) -> Option<u64> {
        let mut by_cpu: FxHashMap<u64, u64> = FxHashMap::default();
        for ((_, cpu), counted) in &self.counted {
            if let Some(end) = counted.end {
                let lost = end.saturating_sub(counted.begin.unwrap_or(0));
                let known = by_cpu.entry(*cpu).or_default();
                *known = lost.max(*known);
            }
        }
        (!by_cpu.is_empty()).then(|| by_cpu.values().fold(0_u64, |sum, lost| sum.saturating_add(*lost)))
    }
}

/// A file, read from front to back.
struct Window<'a> {
    source: &'a dyn ReadAt,
    /// Where what was read ends.
    at: u64,
    bytes: Vec<u8>,
    used: usize,
}

impl Window<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    fn position(&self) -> u64 {
        self.at.saturating_sub(self.rest().len() as u64)
    }

    /// Reads on until so many bytes are there, or the end.
    fn fill(&mut self, length: usize) {
        const AT_ONCE: usize = 256 << 10;
        if self.rest().len() >= length {
            return;
        }
        self.bytes.drain(..self.used.min(self.bytes.len()));
        self.used = 0;
        let before = self.bytes.len();
        let left = usize::try_from(self.source.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        self.bytes.resize(before.saturating_add(left.min(AT_ONCE.max(length))), 0);
        let room = self.bytes.get_mut(before..).unwrap_or_default();
        // An error of the disk ends what can be read, as a cut does.
        let got = self.source.read_at(self.at, room).unwrap_or(0);
        self.bytes.truncate(before.saturating_add(got));
        self.at = self.at.saturating_add(got as u64);
    }

    fn skip_to(&mut self, at: u64) {
        self.bytes.clear();
        self.used = 0;
        self.at = at;
    }
}
