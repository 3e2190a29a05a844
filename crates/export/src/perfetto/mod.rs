//! Perfetto's trace format, for ui.perfetto.dev and its `trace_processor`.
//!
//! The tracks are ours: a group a GPU, a track a ring, below it lanes for the stages of its jobs (queue, hardware queue, execution; in
//! flight where the start is not known) and counters (depth, utilisation). A job's submission stands on the thread that did it, and an
//! arrow leads from there through its stages. Arrows lead from a job to those that waited for it. Beside them stand the scheduler's
//! and the fences' events in the form that Perfetto's own parser knows.
//!
//! Of a job without an end nothing is made up: one in flight has a slice that does not end, one whose end was lost an instant.
//! `docs/perfetto.md` says what is where.

mod arrows;
mod counters;
mod ftrace;
pub(crate) mod lanes;
mod packets;
mod processors;
mod proto;
pub(crate) mod stages;
mod tracks;

use crate::Tells;
use crate::fence_errors::FenceErrors;
use arrows::Arrows;
use counters::RingCounters;
use ftrace::Bundles;
use gpuscope_model::trace::{
    Dropped, Event, EventKind, ExecKind, Job, JobKey, JobStatus, NameId, RingId, TraceNames, is_drm_ioctl,
};
use packets::{Name, Notes, Packets, Phase, Track, Word};
use processors::Processors;
use stages::{Stage, stages};
use std::collections::HashMap;
use std::io::{self, Write};
use tracks::Tracks;

/// Threads whose waits and ioctls are followed at a time.
const MOST_ACTIVE: usize = 1 << 16;

/// One moment, as three clocks tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// CLOCK_BOOTTIME: what Perfetto's ftrace events are told in.
    pub boottime_ns: u64,
    /// CLOCK_REALTIME.
    pub realtime_ns: u64,
}

/// What a trace says of itself, for `gpuscope trace report`: in a field of `TracePacket` that Perfetto leaves to extensions.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Names of the drivers, by GPU.
    pub drivers: &'a [(String, String)],
    /// What was not recorded, by cause.
    pub dropped: &'a Dropped,
    /// Until when everything was recorded, where that is known.
    pub to_ns: Option<u64>,
}

/// What is written, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A moment of the recorded machine. Without it the times of day are not known, and the events for Perfetto's own parser are left
    /// out: their times are those of CLOCK_BOOTTIME.
    pub clocks: Option<Clocks>,
    /// Whether the events for Perfetto's own parser are wanted.
    pub ftrace: bool,
    /// Over how long each value of the utilisation is taken.
    pub window_ns: u64,
    /// What the trace tells of its jobs.
    pub tells: Tells,
}

impl Default for Options {
    fn default() -> Self {
        Options { clocks: None, ftrace: true, window_ns: 10_000_000, tells: Tells::default() }
    }
}

/// Writes a trace. Events and the jobs that they end are pushed in as they come; what is kept is bounded, whatever their number.
///
/// ```
/// # use gpuscope_export::perfetto::{Options, Writer};
/// # use gpuscope_model::trace::{Event, Job, TraceNames};
/// # fn trace(events: &[Event], jobs: &[Job], names: &TraceNames) -> std::io::Result<Vec<u8>> {
/// let mut writer = Writer::new(Vec::new(), Options::default())?;
/// for event in events {
///     writer.event(event, names)?;
///     // Those that this event ends.
///     for job in jobs.iter().filter(|job| job.done_ns == Some(event.at_ns)) {
///         writer.job(job, names)?;
///     }
/// }
/// let last_ns = events.last().map_or(0, |event| event.at_ns);
/// writer.finish(last_ns)
/// # }
/// # assert!(trace(&[], &[], &TraceNames::default()).is_ok_and(|bytes| !bytes.is_empty()));
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    packets: Packets<W>,
    tracks: Tracks,
    arrows: Arrows,
    counters: HashMap<Option<RingId>, Shown>,
    bundles: Option<Bundles>,
    window_ns: u64,
    tells: Tells,
    origin_ns: Option<u64>,
    now_ns: u64,
    flows: u64,
    /// Slices that are open on a thread's track.
    active: HashMap<u32, Active>,
    processors: Processors,
    fence_errors: FenceErrors,
    ioctl_names: IoctlNames,
}

/// What a request is called.
struct IoctlNames(Box<dyn Fn(u32) -> Option<String>>);

impl std::fmt::Debug for IoctlNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IoctlNames")
    }
}

/// A ring's counters and the tracks that show them.
#[derive(Debug)]
struct Shown {
    counters: RingCounters,
    depth: Track,
    utilisation: Track,
}

#[derive(Clone, Copy, Debug, Default)]
struct Active {
    ioctl: bool,
    wait: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a trace.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(out: W, options: Options) -> io::Result<Self> {
        let ahead_ns = |clocks: Clocks| {
            i64::try_from(i128::from(clocks.boottime_ns) - i128::from(clocks.monotonic_ns)).unwrap_or(0)
        };
        Ok(Writer {
            packets: Packets::new(out, options.clocks)?,
            tracks: Tracks::default(),
            arrows: Arrows::default(),
            counters: HashMap::new(),
            bundles: options.clocks.filter(|_| options.ftrace).map(|clocks| Bundles::new(ahead_ns(clocks))),
            window_ns: options.window_ns,
            tells: options.tells,
            origin_ns: None,
            now_ns: 0,
            flows: 0,
            active: HashMap::new(),
            processors: Processors::default(),
            fence_errors: FenceErrors::default(),
            ioctl_names: IoctlNames(Box::new(|_| None)),
        })
    }

    /// Says what DRM ioctls are called, by their request; they are called `ioctl` otherwise.
    #[must_use]
    pub fn with_ioctl_names(self, name: impl Fn(u32) -> Option<String> + 'static) -> Self {
        Writer { ioctl_names: IoctlNames(Box::new(name)), ..self }
    }

    /// Takes an event, in order of time, before the jobs that it ends.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn event(&mut self, event: &Event, names: &TraceNames) -> io::Result<()> {
        self.origin_ns.get_or_insert(event.at_ns);
        self.now_ns = self.now_ns.max(event.at_ns);
        if let Some(bundle) = self.bundles.as_mut().and_then(|bundles| bundles.add(event, names)) {
            self.packets.packet(|packet| packet.message(1, |of| of.append(&bundle)))?;
        }
        if let Some(stray) = self.fence_errors.event(event) {
            self.stray_error(&stray)?;
        }
        self.processors.event(event, names, (&mut self.tracks, &mut self.packets))?;
        match (event.kind, event.key, event.other) {
            (EventKind::Submit, Some(_), _) => {
                let (ring, depth) = self.counters(event.ring, names)?;
                let jobs = ring.submitted();
                self.packets.count(event.at_ns, depth, jobs)
            }
            (EventKind::Commit, Some(_), _) => {
                self.pass(event.ring, names)?;
                self.counters(event.ring, names)?.0.began(event.at_ns);
                Ok(())
            }
            (EventKind::SubmitCommit, Some(_), _) => {
                let (ring, depth) = self.counters(event.ring, names)?;
                let jobs = ring.submitted();
                self.packets.count(event.at_ns, depth, jobs)?;
                self.pass(event.ring, names)?;
                self.counters(event.ring, names)?.0.began(event.at_ns);
                Ok(())
            }
            (EventKind::Dependency | EventKind::Blocked, Some(key), Some(other)) => {
                self.arrows.add(key, other, || {
                    self.flows = self.flows.saturating_add(1);
                    self.flows
                });
                Ok(())
            }
            (EventKind::Error, ..) if !FenceErrors::is_one(event) => {
                let track = self.tracks.ring(event.ring, names, &mut self.packets)?.track;
                self.error(event, track)
            }
            (EventKind::WaitBegin | EventKind::WaitEnd | EventKind::IoctlEnter | EventKind::IoctlExit, ..) => {
                self.activity(event, names)
            }
            (EventKind::ContextSwitch, ..) => {
                let track = self.tracks.ring(event.ring, names, &mut self.packets)?.track;
                self.moment(event, Word::ContextSwitch, track)
            }
            (EventKind::Irq, ..) => {
                let track = self.tracks.interrupts(names.device_of(event.ring), &mut self.packets)?;
                self.moment(event, Word::Interrupt, track)
            }
            (EventKind::Frequency, ..) => match event.value.and_then(|hz| u64::try_from(hz).ok()) {
                Some(hz) => {
                    let track = self.tracks.frequency(names.device_of(event.ring), &mut self.packets)?;
                    self.packets.count(event.at_ns, track, hz)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Takes a job that ended, or that has not when the trace does.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn job(&mut self, job: &Job, names: &TraceNames) -> io::Result<()> {
        self.fence_errors.job(job);
        self.leave_counters(job, names)?;
        self.flows = self.flows.saturating_add(1);
        let flow = self.flows;
        if let Some(submit_ns) = job.submit_ns
            && job.tid != 0
        {
            let track = self.tracks.thread((job.pid, job.tid), job.comm, names, &mut self.packets)?;
            let ring = job.ring.and_then(|ring| names.get_ring(ring));
            self.packets.begin(
                Phase::Instant,
                submit_ns,
                track,
                Name::Word(Word::Submit),
                names,
                &[flow],
                &[],
                |notes| {
                    key_notes(notes, job.key);
                    if let Some(ring) = ring {
                        notes.text(Word::Ring, &ring.name);
                    }
                },
            )?;
        }
        self.stages(job, flow, names)?;
        self.arrows.forget(job.key);
        self.outcome(job, names)
    }

    /// Says how many events are missing up to now, by cause.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dropped(&mut self, at_ns: u64, dropped: &Dropped) -> io::Result<()> {
        self.processors.lost(at_ns, &mut self.packets)?;
        let track = self.tracks.losses(&mut self.packets)?;
        let names = TraceNames::default();
        let name = Name::Word(Word::RecordsLost);
        self.packets.begin(Phase::Instant, at_ns, track, name, &names, &[], &[], |notes| {
            dropped.each().into_iter().filter(|(_, n)| *n > 0).for_each(|(cause, n)| notes.other(cause, n));
        })
    }

    /// Says what Perfetto has no message for, so that the trace read back says it, too.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn about(&mut self, about: &About<'_>) -> io::Result<()> {
        self.packets.packet(|packet| {
            packet.message(1900, |of| {
                for (gpu, driver) in about.drivers {
                    of.message(1, |of| {
                        of.text(1, gpu);
                        of.text(2, driver);
                    });
                }
                for (cause, count) in about.dropped.each().into_iter().filter(|(_, count)| *count > 0) {
                    of.message(2, |of| {
                        of.text(1, cause);
                        of.uint(2, count);
                    });
                }
                if let Some(to_ns) = about.to_ns {
                    of.uint(3, to_ns);
                }
            });
        })
    }

    /// Ends the trace, at `to_ns` or at its last event, whichever is later, and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self, to_ns: u64) -> io::Result<W> {
        let to_ns = self.now_ns.max(to_ns);
        if let Some(stray) = self.fence_errors.finish() {
            self.stray_error(&stray)?;
        }
        for bundle in self.bundles.iter_mut().flat_map(Bundles::finish) {
            self.packets.packet(|packet| packet.message(1, |of| of.append(&bundle)))?;
        }
        let mut counters: Vec<_> = self.counters.into_iter().collect();
        counters.sort_unstable_by_key(|(ring, _)| *ring);
        for (_, Shown { counters: mut ring, utilisation, .. }) in counters {
            let mut result = Ok(());
            ring.finish(to_ns, |at_ns, share| {
                if result.is_ok() {
                    result = self.packets.measure(at_ns, utilisation, share);
                }
            });
            result?;
        }
        self.packets.finish()
    }
}

/// The tracks' part of a job, the counters, and the moments that are no jobs.
impl<W: Write> Writer<W> {
    /// The slices of a job: those of its stages that are known.
    fn stages(&mut self, job: &Job, flow: u64, names: &TraceNames) -> io::Result<()> {
        let stages = stages(job);
        let last = stages.iter().flatten().last().map(|(stage, ..)| *stage);
        for (stage, from_ns, to_ns) in stages.into_iter().flatten() {
            let track = self.tracks.lane(job.ring, stage, (from_ns, to_ns), names, &mut self.packets)?;
            let mut flows = Vec::new();
            let mut ending = Vec::new();
            if stage != Stage::Queue {
                ending = self.arrows.arrive(job.key, from_ns);
            }
            if matches!(stage, Stage::Execution | Stage::InFlight) {
                ending.push(flow);
                flows = self.arrows.leave(job.key, from_ns);
            } else {
                flows.push(flow);
            }
            let name = if job.comm == NameId::default() { Name::Word(Word::Job) } else { Name::Text(job.comm) };
            self.packets.begin(Phase::Begin, from_ns, track, name, names, &flows, &ending, |notes| {
                key_notes(notes, job.key);
                if Some(stage) == last {
                    job_notes(notes, job, self.tells);
                }
            })?;
            if let Some(to_ns) = to_ns {
                self.packets.end(to_ns, track)?;
            }
        }
        Ok(())
    }

    /// What a job that did not end well leaves on its ring.
    fn outcome(&mut self, job: &Job, names: &TraceNames) -> io::Result<()> {
        let (name, at_ns) = match job.status {
            JobStatus::Failed(_) => (Word::JobFailed, job.done_ns),
            JobStatus::Lost => (Word::Lost, job.start_ns.map(|(ns, _)| ns).or(job.run_ns).or(job.submit_ns)),
            JobStatus::Completed | JobStatus::Ended | JobStatus::InFlight => return Ok(()),
        };
        let Some(at_ns) = at_ns else { return Ok(()) };
        let track = self.tracks.ring(job.ring, names, &mut self.packets)?.track;
        self.packets.begin(Phase::Instant, at_ns, track, Name::Word(name), names, &[], &[], |notes| {
            key_notes(notes, job.key);
            job_notes(notes, job, self.tells);
        })
    }

    /// An error of a fence that is of no job, and so of no ring.
    fn stray_error(&mut self, event: &Event) -> io::Result<()> {
        let track = self.tracks.fence_errors(&mut self.packets)?;
        self.error(event, track)
    }

    /// An error or a reset.
    fn error(&mut self, event: &Event, track: Track) -> io::Result<()> {
        let (name, names) = (Name::Word(Word::Error), TraceNames::default());
        self.packets.begin(Phase::Instant, event.at_ns, track, name, &names, &[], &[], |notes| {
            if let Some(key) = event.key {
                key_notes(notes, key);
            }
            if let Some(errno) = event.value {
                notes.int(Word::Errno, errno);
            }
            notes.text(Word::Family, event.family.name());
        })
    }

    /// A moment of the hardware: what a context switch or an interrupt was of.
    fn moment(&mut self, event: &Event, word: Word, track: Track) -> io::Result<()> {
        let names = TraceNames::default();
        self.packets.begin(Phase::Instant, event.at_ns, track, Name::Word(word), &names, &[], &[], |notes| {
            if let Some(key) = event.key {
                key_notes(notes, key);
            }
            notes.text(Word::Family, event.family.name());
        })
    }

    /// A thread's wait or DRM ioctl begins or ends. A wait within an ioctl nests. An end whose begin was not seen is left out; a begin
    /// whose end was not seen ends where the next one of its kind begins.
    fn activity(&mut self, event: &Event, names: &TraceNames) -> io::Result<()> {
        // Where all ioctls are in the trace, those of other drivers end what the thread was in before, and begin nothing.
        let begins = match event.kind {
            EventKind::IoctlEnter => event.value.is_none_or(is_drm_ioctl),
            kind => kind == EventKind::WaitBegin,
        };
        let is_active = self.active.contains_key(&event.tid);
        if event.tid == 0 || !(begins || is_active) {
            return Ok(());
        }
        let track = self.tracks.thread((event.pid, event.tid), event.comm, names, &mut self.packets)?;
        if self.active.len() >= MOST_ACTIVE && !is_active {
            return Ok(());
        }
        let mut active = self.active.remove(&event.tid).unwrap_or_default();
        let is_ioctl = matches!(event.kind, EventKind::IoctlEnter | EventKind::IoctlExit);
        // Innermost first: a wait ends with the ioctl around it.
        if active.wait {
            self.packets.end(event.at_ns, track)?;
            active.wait = false;
        }
        if is_ioctl && active.ioctl {
            self.packets.end(event.at_ns, track)?;
            active.ioctl = false;
        }
        if begins {
            let known = event.value.filter(|_| is_ioctl).and_then(|request| (self.ioctl_names.0)(request as u32));
            let name = match &known {
                Some(known) => Name::Plain(known),
                None => Name::Word(if is_ioctl { Word::Ioctl } else { Word::Wait }),
            };
            self.packets.begin(Phase::Begin, event.at_ns, track, name, names, &[], &[], |notes| {
                match (event.key, event.value) {
                    (_, Some(request)) if is_ioctl => notes.uint(Word::Request, request.cast_unsigned()),
                    (Some(key), _) => key_notes(notes, key),
                    _ => {}
                }
            })?;
            active = Active { ioctl: active.ioctl || is_ioctl, wait: !is_ioctl };
        }
        if active.ioctl || active.wait {
            self.active.insert(event.tid, active);
        }
        Ok(())
    }

    /// The counters of a ring, and their tracks: depth, utilisation.
    fn counters(&mut self, ring: Option<RingId>, names: &TraceNames) -> io::Result<(&mut RingCounters, Track)> {
        if !self.counters.contains_key(&ring) {
            let tracks = self.tracks.ring(ring, names, &mut self.packets)?;
            let origin_ns = self.origin_ns.unwrap_or(self.now_ns);
            let counters = RingCounters::new(origin_ns, self.now_ns, self.window_ns);
            self.counters.insert(ring, Shown { counters, depth: tracks.depth, utilisation: tracks.utilisation });
        }
        let shown =
            self.counters.get_mut(&ring).ok_or_else(|| io::Error::other("the counters of a ring were not kept"))?;
        Ok((&mut shown.counters, shown.depth))
    }

    /// Shows the utilisation of a ring's windows that are over.
    fn pass(&mut self, ring: Option<RingId>, names: &TraceNames) -> io::Result<()> {
        let now_ns = self.now_ns;
        self.counters(ring, names)?;
        let mut result = Ok(());
        if let Some(shown) = self.counters.get_mut(&ring) {
            let (track, packets) = (shown.utilisation, &mut self.packets);
            shown.counters.pass(now_ns, |at_ns, share| {
                if result.is_ok() {
                    result = packets.measure(at_ns, track, share);
                }
            });
        }
        result
    }

    /// A job ended, and leaves its ring's counters.
    fn leave_counters(&mut self, job: &Job, names: &TraceNames) -> io::Result<()> {
        if job.status == JobStatus::InFlight {
            return Ok(());
        }
        let now_ns = self.now_ns;
        if job.run_ns.is_some() {
            self.pass(job.ring, names)?;
            self.counters(job.ring, names)?.0.ended(now_ns);
        }
        if job.submit_ns.is_some() {
            let (counters, depth) = self.counters(job.ring, names)?;
            let jobs = counters.left();
            self.packets.count(now_ns, depth, jobs)?;
        }
        Ok(())
    }
}

fn key_notes(notes: &mut Notes<'_>, key: JobKey) {
    match key {
        JobKey::Fence { context, seqno } => {
            notes.uint(Word::Context, context);
            notes.uint(Word::Seqno, seqno);
        }
        JobKey::FenceLow { context, seqno } => {
            notes.uint(Word::ContextLow, u64::from(context));
            notes.uint(Word::SeqnoLow, u64::from(seqno));
        }
        JobKey::InRing { number, .. } => notes.uint(Word::Seqno, number),
        JobKey::Address(address) => notes.address(Word::Fence, address),
    }
}

fn job_notes(notes: &mut Notes<'_>, job: &Job, tells: Tells) {
    if let Some(client) = job.client {
        notes.uint(Word::Client, client);
    }
    if job.pid != 0 {
        notes.uint(Word::Pid, u64::from(job.pid));
    }
    if job.tid != 0 {
        notes.uint(Word::Tid, u64::from(job.tid));
    }
    if let Some(dependencies) = tells.dependencies(job) {
        notes.uint(Word::Dependencies, u64::from(dependencies));
    }
    if job.run_ns.is_some() || job.start_ns.is_some() {
        let kind = match job.start_ns {
            Some((_, ExecKind::Measured)) => Word::Measured,
            Some((_, ExecKind::Inferred)) => Word::Inferred,
            Some((_, ExecKind::InFlight)) | None => Word::InFlight,
        };
        notes.word(Word::StartKind, kind);
    }
    let status = match job.status {
        JobStatus::Completed => Word::Completed,
        JobStatus::Ended => Word::Ended,
        JobStatus::Failed(_) => Word::Failed,
        JobStatus::InFlight => Word::InFlight,
        JobStatus::Lost => Word::StatusLost,
    };
    notes.word(Word::Status, status);
    if let JobStatus::Failed(errno) = job.status {
        notes.int(Word::Errno, errno);
    }
}
