//! The tracks of a trace: a group a GPU, a track a ring, lanes for each stage of its jobs, and the submitters' threads.

use super::lanes::Lanes;
use super::packets::{Described, Packets, Track, Unit};
use super::stages::Stage;
use gpuscope_model::trace::{NameId, RingId, TraceNames};
use std::collections::HashMap;
use std::io::{self, Write};

/// Threads that are remembered as described; with more, all are described again as they come.
const MOST_THREADS: usize = 1 << 16;

/// Places of the counters, after the stages.
const DEPTH_RANK: u64 = 4;
const UTILISATION_RANK: u64 = 5;
/// After the rings; `sibling_order_rank` is an int32.
const INTERRUPTS_RANK: u64 = i32::MAX.unsigned_abs() as u64;

/// The tracks of one ring.
#[derive(Debug)]
pub(super) struct RingTracks {
    pub(super) track: Track,
    pub(super) depth: Track,
    pub(super) utilisation: Track,
    /// Its number, from one.
    number: u64,
    /// By stage.
    lanes: [Lanes; 4],
}

/// All tracks that were described.
///
/// The numbers of processes and threads follow from theirs, so that none need be kept. Numbers with the highest bit are ours: of a
/// lane, its ring's number, its stage and its own; of the others, counted.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    rings: HashMap<Option<RingId>, RingTracks>,
    /// By the device's name, empty where that is not known.
    gpus: HashMap<String, Track>,
    interrupts: HashMap<String, Track>,
    frequencies: HashMap<String, Track>,
    threads: HashMap<(u32, u32), NameId>,
    strangers: Option<Track>,
    losses: Option<Track>,
    fence_errors: Option<Track>,
    counted: u64,
}

const OURS: u64 = 1 << 63;
const RING: u32 = 34;
const STAGE: u32 = 32;
/// Threads whose process is not known.
const STRANGER: u64 = OURS | 1 << 62;

impl Tracks {
    fn number(&mut self) -> Track {
        self.counted = self.counted.saturating_add(1);
        Track(OURS | self.counted)
    }

    /// The tracks of a ring, described when first asked for.
    pub(super) fn ring<W: Write>(
        &mut self,
        ring: Option<RingId>,
        names: &TraceNames,
        packets: &mut Packets<W>,
    ) -> io::Result<&mut RingTracks> {
        if !self.rings.contains_key(&ring) {
            let tracks = self.add_ring(ring, names, packets)?;
            self.rings.insert(ring, tracks);
        }
        self.rings.get_mut(&ring).ok_or_else(|| io::Error::other("the tracks of a ring were not kept"))
    }

    /// The group of a GPU, described when first asked for.
    fn gpu<W: Write>(&mut self, gpu: &str, packets: &mut Packets<W>) -> io::Result<Track> {
        if let Some(track) = self.gpus.get(gpu) {
            return Ok(*track);
        }
        let track = self.number();
        let name = if gpu.is_empty() { "GPU not named by the records".to_string() } else { format!("GPU {gpu}") };
        packets.track(Described { track, parent: None, name: &name, rank: 0 })?;
        self.gpus.insert(gpu.to_string(), track);
        Ok(track)
    }

    fn add_ring<W: Write>(
        &mut self,
        id: Option<RingId>,
        names: &TraceNames,
        packets: &mut Packets<W>,
    ) -> io::Result<RingTracks> {
        let ring = id.and_then(|id| names.get_ring(id));
        let parent = self.gpu(names.device_of(id), packets)?;
        let (track, depth, utilisation) = (self.number(), self.number(), self.number());
        let name = ring.map_or("ring not named by the records", |ring| ring.name.as_str());
        let rank = id.map_or(0, |id| u64::from(id.0.min(i32::MAX.unsigned_abs())));
        packets.track(Described { track, parent: Some(parent), name, rank })?;
        let jobs = Described { track: depth, parent: Some(track), name: "depth", rank: DEPTH_RANK };
        packets.counter(jobs, Unit::Count)?;
        let share = Described { track: utilisation, parent: Some(track), name: "utilisation", rank: UTILISATION_RANK };
        packets.counter(share, Unit::Percent)?;
        let number = self.rings.len() as u64 + 1;
        Ok(RingTracks { track, depth, utilisation, number, lanes: Default::default() })
    }

    /// The track for a slice of a stage; without an end it goes on until the trace ends.
    ///
    /// All lanes of a stage have one name, by which Perfetto shows them as one track with several rows.
    pub(super) fn lane<W: Write>(
        &mut self,
        ring: Option<RingId>,
        stage: Stage,
        (from_ns, to_ns): (u64, Option<u64>),
        names: &TraceNames,
        packets: &mut Packets<W>,
    ) -> io::Result<Track> {
        let tracks = self.ring(ring, names, packets)?;
        let [execution, in_flight, hardware_queue, queue] = &mut tracks.lanes;
        let lanes = match stage {
            Stage::Execution => execution,
            Stage::InFlight => in_flight,
            Stage::HardwareQueue => hardware_queue,
            Stage::Queue => queue,
        };
        let (lane, is_new) = lanes.place(from_ns, to_ns);
        let track = Track(OURS | tracks.number << RING | (stage as u64) << STAGE | u64::from(lane));
        if is_new {
            let (parent, rank) = (Some(tracks.track), stage as u64);
            packets.track(Described { track, parent, name: stage.name(), rank })?;
        }
        Ok(track)
    }

    /// The track of a thread, described when first seen and when its name changes. A thread whose process the records do not tell
    /// gets a plain track: Perfetto would put it into process 0.
    pub(super) fn thread<W: Write>(
        &mut self,
        (pid, tid): (u32, u32),
        comm: NameId,
        names: &TraceNames,
        packets: &mut Packets<W>,
    ) -> io::Result<Track> {
        // Perfetto's numbers of processes are signed and have 32 bits.
        let pid = if i32::try_from(pid).is_ok() { pid } else { 0 };
        let track = if pid == 0 { Track(STRANGER | u64::from(tid)) } else { thread_track(pid, tid) };
        let known = self.threads.get(&(pid, tid));
        if known.is_some_and(|known| *known == comm || comm == NameId::default()) {
            return Ok(track);
        }
        if self.threads.len() >= MOST_THREADS {
            self.threads.clear();
        }
        let is_new = self.threads.insert((pid, tid), comm).is_none();
        let name = names.get(comm);
        if pid == 0 {
            let parent = match self.strangers {
                Some(track) => track,
                None => {
                    let track = self.number();
                    let name = "threads whose process is not recorded";
                    packets.track(Described { track, parent: None, name, rank: 0 })?;
                    self.strangers = Some(track);
                    track
                }
            };
            if is_new {
                let name = if name.is_empty() { format!("thread {tid}") } else { format!("{name} {tid}") };
                packets.track(Described { track, parent: Some(parent), name: &name, rank: 0 })?;
            }
            return Ok(track);
        }
        if is_new {
            // The process is called as its first thread that was seen: no record has a name of the process.
            packets.process(Track(u64::from(pid) << 32), pid, name)?;
        }
        packets.thread(track, pid, tid, name)?;
        Ok(track)
    }

    /// A track of a thread for the processors that it has.
    pub(super) fn processor<W: Write>(&mut self, thread: Track, packets: &mut Packets<W>) -> io::Result<Track> {
        let track = self.number();
        packets.track(Described { track, parent: Some(thread), name: "processor", rank: 0 })?;
        Ok(track)
    }

    /// The track of a GPU's interrupts.
    pub(super) fn interrupts<W: Write>(&mut self, gpu: &str, packets: &mut Packets<W>) -> io::Result<Track> {
        if let Some(track) = self.interrupts.get(gpu) {
            return Ok(*track);
        }
        let (parent, track) = (Some(self.gpu(gpu, packets)?), self.number());
        packets.track(Described { track, parent, name: "interrupts", rank: INTERRUPTS_RANK })?;
        self.interrupts.insert(gpu.to_string(), track);
        Ok(track)
    }

    /// The counter of a device's frequency. It stands by itself: devfreq's devices need not be GPUs.
    pub(super) fn frequency<W: Write>(&mut self, device: &str, packets: &mut Packets<W>) -> io::Result<Track> {
        if let Some(track) = self.frequencies.get(device) {
            return Ok(*track);
        }
        let track = self.number();
        let name = match device {
            "" => "frequency of a device not named by the records".to_string(),
            device => format!("frequency of {device}"),
        };
        packets.counter(Described { track, parent: None, name: &name, rank: 0 }, Unit::Hertz)?;
        self.frequencies.insert(device.to_string(), track);
        Ok(track)
    }

    /// The track of errors of fences that are of no job.
    pub(super) fn fence_errors<W: Write>(&mut self, packets: &mut Packets<W>) -> io::Result<Track> {
        if let Some(track) = self.fence_errors {
            return Ok(track);
        }
        let track = self.number();
        packets.track(Described { track, parent: None, name: "errors of fences of no job", rank: 0 })?;
        self.fence_errors = Some(track);
        Ok(track)
    }

    /// The track of what the trace lacks.
    pub(super) fn losses<W: Write>(&mut self, packets: &mut Packets<W>) -> io::Result<Track> {
        if let Some(track) = self.losses {
            return Ok(track);
        }
        let track = self.number();
        packets.track(Described { track, parent: None, name: "records lost", rank: 0 })?;
        self.losses = Some(track);
        Ok(track)
    }
}

/// The highest bit is free: the process has 31.
fn thread_track(pid: u32, tid: u32) -> Track {
    Track(u64::from(pid) << 32 | u64::from(tid))
}
