//! The traces that can be read, all in one way: our recordings, files of trace-cmd, perf and Perfetto, tracefs' text.

use anyhow::{Context as _, bail};
use gpuscope_export::Tells;
use gpuscope_export::perfetto::Clocks;
use gpuscope_model::trace::{Dropped, Event, Note, TraceNames};
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_trace::foreign::perf_data::{Item as PerfItem, PerfData};
use gpuscope_trace::foreign::perfetto::{Item as PerfettoItem, PerfettoTrace};
use gpuscope_trace::foreign::text::TextTrace;
use gpuscope_trace::foreign::trace_dat::TraceDat;
use gpuscope_trace::foreign::{self, Kind};
use gpuscope_trace::recording::{Ended, Header, Item, ItemSink, Packed, PackedRecords, Recording, Step, Summary};
use gpuscope_trace::{Decoder, RawRecord, StepSink, Steps};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A trace that is open.
pub(super) struct Input {
    /// What was asked for that left jobs or events out.
    pub(super) settings: Option<Vec<String>>,
    /// Names of the drivers, by GPU, where the trace tells.
    pub(super) drivers: Vec<(String, String)>,
    /// What could be captured.
    pub(super) coverage: Vec<SourceReport>,
    /// Why records name no GPU, where they do not.
    pub(super) no_gpu: Why,
    /// One moment on three clocks.
    pub(super) clocks: Option<Clocks>,
    /// One moment on CLOCK_MONOTONIC and in the time of day, in nanoseconds.
    started: Option<(u64, u64)>,
    /// Whether the events are there that tell which job waits for which; not known of a foreign trace.
    pub(super) tells_waits: Option<bool>,
    /// What it tells of its jobs.
    pub(super) tells: Tells,
    /// Since when everything was recorded, where the trace tells.
    pub(super) from_ns: Option<u64>,
    pub(super) origin: Origin,
    source: Source,
}

/// Where a trace comes from, as far as it tells.
#[derive(Default)]
pub(super) struct Origin {
    /// What the file is.
    pub(super) kind: &'static str,
    /// Name of its clock.
    pub(super) clock: String,
    /// Whether that is CLOCK_MONOTONIC.
    pub(super) is_monotonic: bool,
    pub(super) host: Option<String>,
    pub(super) boot_id: Option<String>,
    pub(super) kernel: Option<String>,
    /// Names that drivers use for devices, and the device's name.
    pub(super) devices: Vec<(String, String)>,
}

enum Source {
    Recording(Box<Recording>),
    TraceDat(Box<TraceDat>),
    PerfData(Box<PerfData>),
    Perfetto(Box<PerfettoTrace>),
    Text(BufReader<File>),
}

/// What text of tracefs is called.
pub(super) const TEXT: &str = "text of tracefs";

/// What a trace that Perfetto or our own export wrote may lack beside what it was recorded with.
const NOT_IN_PERFETTO: &str = "our own export writes those of the DRM scheduler and of fences, for which Perfetto has messages; others \
                               (of i915, xe and so on, errors of fences that are of no job, notes, settings) are not in what it writes";

/// What comes out of a trace, in order of time.
pub(super) enum Seen<'a> {
    /// An event, and the names that it refers to.
    Event(&'a Event, &'a TraceNames),
    /// Records were lost about here. With the names that jobs refer to.
    Lost(&'a TraceNames),
}

/// Takes what a trace gives.
pub(super) trait Take {
    fn take(&mut self, seen: Seen<'_>) -> io::Result<()>;

    /// Steps of jobs, for those who do not want all of their events.
    fn steps(&mut self, steps: &mut Steps<'_>, names: &TraceNames) -> io::Result<()> {
        steps.try_for_each(|step| self.take(Seen::Event(&step.event(), names)))
    }
}

/// A closure that takes everything.
struct Each<F>(F);

impl<F: FnMut(Seen<'_>) -> io::Result<()>> Take for Each<F> {
    #[inline]
    fn take(&mut self, seen: Seen<'_>) -> io::Result<()> {
        (self.0)(seen)
    }
}

/// What is known in the end.
pub(super) struct Rest {
    pub(super) names: TraceNames,
    pub(super) dropped: Dropped,
    /// Until when everything was recorded, where the trace tells.
    pub(super) to_ns: Option<u64>,
    /// What is wrong with the file.
    pub(super) damage: Vec<SourceReport>,
    pub(super) notes: Notes,
}

/// What was noted while recording.
#[derive(Default)]
pub(super) struct Notes {
    /// The first [`MOST_NOTES`].
    pub(super) first: Vec<Note>,
    /// How many there are.
    pub(super) count: u64,
}

/// When the first record of a recording is of, as far as its first rounds tell.
fn first_record_ns(path: &Path) -> Option<u64> {
    fn look(first_ns: &mut Option<u64>, item: Item<'_>) {
        if let Item::Record(record) = item {
            first_ns.get_or_insert(record.at_ns);
        }
    }
    let mut recording = Recording::open(path).ok()?;
    let mut first_ns = None;
    while first_ns.is_none() {
        if !matches!(recording.step(|item| look(&mut first_ns, item)), Ok(Step::Round(_))) {
            // Behind the last round, perhaps.
            recording.finish(|item| look(&mut first_ns, item));
            break;
        }
    }
    first_ns
}

/// The event that tells which others a job depends on.
const DEPENDENCY: &str = "drm_sched_job_add_dep";

/// Whether events that tell of dependencies were kept, as the words of settings have it.
fn keeps_dependencies(settings: &[String]) -> bool {
    let is_named = |option: &str| settings.iter().any(|word| word.strip_prefix(option) == Some(" dependency"));
    let is_chosen = settings.iter().any(|word| word.starts_with("--event "));
    (!is_chosen || is_named("--event")) && !is_named("--not-event")
}

/// Notes that are told one by one.
const MOST_NOTES: usize = 1000;

impl Input {
    /// Opens a trace.
    pub(super) fn open(path: &Path) -> anyhow::Result<Input> {
        let mut head = [0; 1024];
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            bail!("{}: no regular file: a trace is read in several places; save it as a file first", path.display());
        }
        let length = file.read(&mut head).with_context(|| path.display().to_string())?;
        match foreign::detect(head.get(..length).unwrap_or_default()) {
            Some(Kind::TraceDat) => Ok(Input::trace_dat(TraceDat::open(path)?)),
            Some(Kind::PerfData) => Ok(Input::perf_data(PerfData::open(path)?)),
            Some(Kind::Perfetto) => Ok(Input::perfetto(PerfettoTrace::open(path)?)),
            Some(Kind::Text) => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                let detail = "a text does not name its clock: its times are perhaps not on CLOCK_MONOTONIC";
                let clock = SourceReport::absent("CLOCK_MONOTONIC", None, Why::not_supported(detail));
                Ok(Input::foreign(TEXT, vec![clock], Source::Text(BufReader::new(file))))
            }
            _ => Ok(Input::recording(Recording::open(path)?, first_record_ns(path))),
        }
    }

    fn recording(recording: Recording, first_ns: Option<u64>) -> Input {
        let header = recording.header();
        let started = header.started;
        let clocks = started.boottime_ns.zip(started.realtime_ns).map(|(boottime_ns, realtime_ns)| Clocks {
            monotonic_ns: started.monotonic_ns,
            boottime_ns,
            realtime_ns,
        });
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let is_merged = !header.merged.is_empty();
        let origin = Origin {
            kind: "recording",
            clock: header.clock.clone(),
            is_monotonic: header.clock == "monotonic",
            host: told(&header.host),
            boot_id: told(&header.boot_id),
            kernel: told(&header.kernel),
            devices: header.devices.clone(),
        };
        Input {
            drivers: header.gpus.clone(),
            coverage: header.coverage(),
            // Of what was merged, some may not tell.
            settings: Some(header.settings.clone())
                .filter(|words| !words.is_empty() || header.merged.iter().all(|of| of.tells_settings)),
            no_gpu: no_gpu(header),
            clocks,
            started: started.realtime_ns.map(|realtime_ns| (started.monotonic_ns, realtime_ns)),
            // What was merged tells by its events alone.
            tells_waits: (!is_merged).then(|| {
                recording.formats().iter().any(|format| {
                    ["drm_sched_job_add_dep", "drm_sched_job_unschedulable", "drm_sched_job_wait_dep"]
                        .contains(&format.name.as_str())
                })
            }),
            tells: Tells {
                dependencies: !is_merged
                    && keeps_dependencies(&header.settings)
                    && recording.formats().iter().any(|format| format.name == DEPENDENCY),
            },
            // What came before the moment that the header tells was recorded as well; and with the first parts, what is told of their begin went.
            from_ns: match first_ns {
                Some(first_ns) if header.part > 0 || first_ns < started.monotonic_ns => Some(first_ns),
                _ => Some(started.monotonic_ns),
            },
            origin,
            source: Source::Recording(Box::new(recording)),
        }
    }

    fn trace_dat(file: TraceDat) -> Input {
        let mut coverage =
            vec![SourceReport::works("trace.dat of trace-cmd", None, format!("version {}", file.version()))];
        let clocks: Vec<&str> =
            file.buffers().iter().map(|buffer| buffer.clock.as_deref().unwrap_or("that it does not name")).collect();
        if clocks.iter().any(|clock| *clock != "mono") {
            let detail = format!("its times are on the clock {}, perhaps not CLOCK_MONOTONIC", clocks.join(" and "));
            let why = Why::new(Reason::NotSupported, detail).remedy("record with trace-cmd record -C mono");
            coverage.push(SourceReport::absent("CLOCK_MONOTONIC", None, why));
        }
        let why = Why::new(
            Reason::NotSupported,
            "a trace.dat names threads: the numbers of processes are those of their threads",
        );
        coverage.push(SourceReport::absent("processes", None, why));
        let origin = Origin {
            kind: "trace.dat",
            clock: clocks.join(" and "),
            is_monotonic: clocks.iter().all(|clock| *clock == "mono"),
            kernel: file.uname().map(str::to_string),
            ..Origin::default()
        };
        Input { origin, ..Input::foreign("trace.dat", coverage, Source::TraceDat(Box::new(file))) }
    }

    fn perf_data(file: PerfData) -> Input {
        let how = match (file.is_pipe(), file.tool()) {
            (true, _) => "of a pipe".to_string(),
            (false, None) => "a file".to_string(),
            (false, Some(tool)) => format!("a file of perf {tool}"),
        };
        let mut coverage = vec![SourceReport::works("perf.data", None, how)];
        if !file.has_tracepoints() {
            let why = Why::new(Reason::NotSupported, "it holds no tracepoints, and nothing else tells of jobs")
                .remedy("record them: perf record -a -k CLOCK_MONOTONIC -e 'gpu_scheduler:*'");
            coverage.push(SourceReport::absent("tracepoints", None, why));
        } else if !file.is_monotonic() {
            let clock = file.clock().map_or("perf's own clock".to_string(), |id| format!("the clock of number {id}"));
            let why = Why::new(Reason::NotSupported, format!("its times are on {clock}, not CLOCK_MONOTONIC"))
                .remedy("record with perf record -k CLOCK_MONOTONIC");
            coverage.push(SourceReport::absent("CLOCK_MONOTONIC", None, why));
        }
        // A moment before perf began to record.
        let started = file.started();
        let origin = Origin {
            kind: "perf.data",
            clock: match file.clock() {
                _ if file.is_monotonic() => "monotonic".into(),
                None => "perf".into(),
                Some(id) => format!("number {id}"),
            },
            is_monotonic: file.is_monotonic(),
            kernel: file.release().map(str::to_string),
            ..Origin::default()
        };
        // It holds the layouts of those tracepoints alone that were recorded.
        let tells = Tells { dependencies: file.formats().iter().any(|format| format.name == DEPENDENCY) };
        Input { started, origin, tells, ..Input::foreign("perf.data", coverage, Source::PerfData(Box::new(file))) }
    }

    fn perfetto(trace: PerfettoTrace) -> Input {
        let packets = trace.packets();
        let how = format!(
            "{} packets, of which {} are of kinds that hold no events of the kernel",
            packets.all, packets.others
        );
        let mut coverage = vec![SourceReport::works("Perfetto trace", None, how)];
        let mut lacks = |source: &'static str, detail: String, remedy: &'static str| {
            coverage.push(SourceReport::absent(source, None, Why::new(Reason::NotSupported, detail).remedy(remedy)));
        };
        if !trace.has_events() {
            lacks(
                "tracepoints",
                "it holds no events of the kernel, and nothing else in it tells of jobs".into(),
                "record them: the data source linux.ftrace with ftrace_events \"gpu_scheduler/*\"",
            );
        } else if !trace.is_monotonic() {
            lacks(
                "CLOCK_MONOTONIC",
                "its times are on another clock, and no snapshot of it brings them to CLOCK_MONOTONIC".into(),
                "record with Perfetto's own tracer, which writes snapshots of the clocks",
            );
        }
        if packets.other_machines > 0 {
            lacks(
                "other machines",
                format!("{} packets are of other machines than the one that recorded", packets.other_machines),
                "record on each machine",
            );
        }
        let clocks = trace.clocks().map(|(monotonic_ns, boottime_ns, realtime_ns)| Clocks {
            monotonic_ns,
            boottime_ns,
            realtime_ns,
        });
        let started = trace.clocks().map(|(monotonic_ns, _, realtime_ns)| (monotonic_ns, realtime_ns));
        let drivers = trace.own().drivers.clone();
        // Our own export tells the drivers, and its first snapshot is of when the recording began.
        let from_ns = match trace.own().is_there {
            true => trace.clocks().map(|(monotonic_ns, ..)| monotonic_ns),
            false => trace.from_ns(),
        };
        let is_monotonic = trace.is_monotonic();
        let clock = if is_monotonic { "monotonic" } else { "not named" };
        let origin = Origin { kind: "Perfetto trace", clock: clock.into(), is_monotonic, ..Origin::default() };
        let mut input = Input::foreign("Perfetto trace", coverage, Source::Perfetto(Box::new(trace)));
        if !drivers.is_empty() {
            input.coverage.retain(|source| source.source.as_str() != "drivers");
        }
        input.coverage.push(SourceReport::absent(
            "events without a message",
            None,
            Why::new(Reason::NotSupported, NOT_IN_PERFETTO),
        ));
        Input { drivers, clocks, started, from_ns, origin, ..input }
    }

    fn foreign(what: &'static str, mut coverage: Vec<SourceReport>, source: Source) -> Input {
        let not_told = |source: &'static str, detail: String| {
            SourceReport::absent(source, None, Why::new(Reason::NotSupported, detail))
        };
        coverage.push(not_told(
            "drivers",
            format!(
                "a {what} does not name the GPUs' drivers: of those that leave scheduling to firmware (xe, panthor), what is told as hw \
                 queue and exec is time in flight"
            ),
        ));
        let detail = format!(
            "the DRM scheduler's events name no device before Linux 6.17, and a {what} has nothing else to tell it by"
        );
        let no_gpu =
            Why::new(Reason::NotSupported, detail).remedy("record by BPF: gpuscope trace record --backend bpf");
        Input {
            drivers: Vec::new(),
            settings: None,
            coverage,
            no_gpu,
            clocks: None,
            started: None,
            from_ns: None,
            tells_waits: None,
            tells: Tells::default(),
            origin: Origin { kind: what, clock: "not named".into(), ..Origin::default() },
            source,
        }
    }

    /// The time of day of a moment of the trace.
    pub(super) fn wall(started: Option<(u64, u64)>, at_ns: u64) -> Option<SystemTime> {
        let (monotonic_ns, realtime_ns) = started?;
        let ns = realtime_ns.checked_add(at_ns)?.checked_sub(monotonic_ns)?;
        UNIX_EPOCH.checked_add(Duration::from_nanos(ns))
    }

    /// Gives what was then alone, where the file can be read so: others are read whole.
    pub(super) fn set_window(&mut self, from_ns: u64, to_ns: u64) {
        if let Source::Recording(recording) = &mut self.source {
            recording.set_window(from_ns, to_ns);
        }
    }

    /// The same for several times, the earliest first. Some of what was between them is given, too.
    pub(super) fn set_windows(&mut self, windows: &[(u64, u64)]) {
        if let Source::Recording(recording) = &mut self.source {
            recording.set_windows(windows);
        }
    }

    /// One moment on CLOCK_MONOTONIC and in the time of day.
    pub(super) fn started(&self) -> Option<(u64, u64)> {
        self.started
    }

    /// Gives everything to `each`, until that fails.
    pub(super) fn read(self, each: impl FnMut(Seen<'_>) -> io::Result<()>) -> anyhow::Result<Rest> {
        self.read_into(Each(each))
    }

    /// The same, for those who take steps as they are.
    pub(super) fn read_into(self, mut each: impl Take) -> anyhow::Result<Rest> {
        match self.source {
            Source::Recording(recording) => read_recording(*recording, each),
            Source::TraceDat(file) => Ok(read_trace_dat(*file, &mut each)?),
            Source::PerfData(file) => Ok(read_perf_data(*file, &mut each)?),
            Source::Perfetto(trace) => Ok(read_perfetto(*trace, &mut each)?),
            Source::Text(text) => Ok(read_text(text, &mut each)?),
        }
    }
}

type Into<'a> = &'a mut dyn Take;

/// What a recording gives, decoded.
struct Decoded<T> {
    decoder: Decoder,
    each: T,
    done: io::Result<()>,
    dropped: Dropped,
    /// Losses are told ahead of the records of their round, which wait for its end.
    lost_ns: VecDeque<u64>,
    to_ns: Option<u64>,
    notes: Notes,
}

/// The part of [`Decoded`] that takes what the decoder makes.
struct Made<'a, T>(&'a mut T, &'a mut io::Result<()>);

impl<T: Take> StepSink for Made<'_, T> {
    #[inline(always)]
    fn steps(&mut self, steps: &mut Steps<'_>, names: &TraceNames) {
        if self.1.is_ok() {
            *self.1 = self.0.steps(steps, names);
        }
    }

    fn event(&mut self, event: &Event, names: &TraceNames) {
        if self.1.is_ok() {
            *self.1 = self.0.take(Seen::Event(event, names));
        }
    }
}

impl<T: Take> ItemSink for Decoded<T> {
    #[inline(always)]
    fn record(&mut self, record: RawRecord<'_>) {
        if let Some((event, names)) = self.decoder.decode_here(record)
            && self.done.is_ok()
        {
            self.done = self.each.take(Seen::Event(event, names));
        }
    }

    fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>) {
        self.decoder.decode_packed(frame, records, &mut Made(&mut self.each, &mut self.done));
    }

    fn item(&mut self, item: Item<'_>) {
        if self.done.is_err() {
            return;
        }
        match item {
            Item::Record(record) => self.record(record),
            Item::Format(format) => {
                self.decoder.add_format(format);
            }
            Item::Task { tid, pid, comm } => self.decoder.set_task(tid, pid, comm),
            Item::Dropped { dropped: now, at_ns } => {
                // Of what is kept out on purpose whole jobs are missing; of what is lost, the end alone may be.
                let lost = |of: &Dropped| (of.ring_full, of.missed, of.unreadable);
                if lost(&now) != lost(&self.dropped) {
                    self.lost_ns.push_back(at_ns);
                }
                self.dropped = now;
            }
            Item::Round(until_ns) => {
                self.to_ns = self.to_ns.max(Some(until_ns));
                let before = self.lost_ns.len();
                self.lost_ns.retain(|lost_ns| *lost_ns > until_ns);
                if self.lost_ns.len() < before && self.done.is_ok() {
                    self.done = self.each.take(Seen::Lost(self.decoder.names()));
                }
            }
            Item::Mark { at_ns, text } => {
                self.notes.count = self.notes.count.saturating_add(1);
                if self.notes.first.len() < MOST_NOTES {
                    self.notes.first.push(Note { at_ns, text: text.to_string().into() });
                }
            }
        }
    }
}

fn read_recording(recording: Recording, each: impl Take) -> anyhow::Result<Rest> {
    let mut decoder = Decoder::new();
    for (own, gpu) in &recording.header().devices {
        decoder.set_device(own, gpu);
    }
    let mut into = Decoded {
        decoder,
        each,
        done: Ok(()),
        dropped: Dropped::default(),
        lost_ns: VecDeque::new(),
        to_ns: None,
        notes: Notes::default(),
    };
    let summary = recording.read(&mut into)?;
    let Decoded { decoder, mut each, done, mut dropped, lost_ns, to_ns, notes } = into;
    done?;
    if !lost_ns.is_empty() {
        each.take(Seen::Lost(decoder.names()))?;
    }
    dropped.unreadable = dropped.unreadable.saturating_add(decoder.unreadable());
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns, damage: damage(&summary), notes })
}

fn read_trace_dat(mut file: TraceDat, each: Into<'_>) -> io::Result<Rest> {
    let mut decoder = Decoder::new();
    for format in file.formats() {
        decoder.add_format(format);
    }
    // It names threads, and does not say which process they belong to.
    for (tid, comm) in file.tasks() {
        decoder.set_task(*tid, 0, comm);
    }
    let mut gaps = file.lost();
    // Several buffers may hold the same events: those of the first that has any are taken.
    let (mut taken, mut passed_over) = (None, 0_u64);
    while let Some((buffer, record)) = file.next_record() {
        if let Some(event) = decoder.decode(record) {
            if *taken.get_or_insert(buffer) == buffer {
                each.take(Seen::Event(&event, decoder.names()))?;
            } else {
                passed_over = passed_over.saturating_add(1);
            }
        }
        if file.lost() != gaps {
            gaps = file.lost();
            each.take(Seen::Lost(decoder.names()))?;
        }
    }
    let lost = file.lost();
    let ring_full = lost.counted.unwrap_or(0).max(lost.before_pages);
    let mut damage: Vec<SourceReport> =
        file.faults().iter().map(|fault| absent("trace.dat", fault.to_string())).collect();
    if passed_over > 0 {
        damage.push(absent(
            "trace.dat",
            format!("{passed_over} events of its other buffers were passed over: buffers may hold the same"),
        ));
    }
    if lost.uncounted_gaps > 0 && lost.counted.is_none() {
        let detail = format!("events were lost in {} places, and the file does not say how many", lost.uncounted_gaps);
        damage.push(absent("trace.dat", detail));
    }
    let dropped = Dropped { ring_full, unreadable: decoder.unreadable(), ..Dropped::default() };
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns: None, damage, notes: Notes::default() })
}

fn read_perf_data(mut file: PerfData, each: Into<'_>) -> io::Result<Rest> {
    let mut decoder = Decoder::new();
    for format in file.formats() {
        decoder.add_format(format);
    }
    let has_layouts = !file.formats().is_empty();
    let mut without = 0_u64;
    while let Some(item) = file.next_item() {
        match item {
            PerfItem::Record(record) => match decoder.decode(record) {
                Some(event) => each.take(Seen::Event(&event, decoder.names()))?,
                None if !has_layouts => without = without.saturating_add(1),
                None => {}
            },
            PerfItem::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
            PerfItem::Lost => each.take(Seen::Lost(decoder.names()))?,
        }
    }
    let mut damage: Vec<SourceReport> =
        file.faults().iter().map(|fault| absent("perf.data", fault.to_string())).collect();
    if without > 0 {
        damage.push(absent(
            "perf.data",
            format!("{without} records of tracepoints are there, and nothing tells what they mean: perf writes the layouts at its end"),
        ));
    }
    let lost = file.lost();
    if lost.late > 0 {
        damage.push(absent("perf.data", format!("{} records came out of order", lost.late)));
    }
    // Without layouts no record is understood, whether it is whole or not.
    let unreadable = lost.unreadable.saturating_add(decoder.unreadable()).saturating_add(without);
    let dropped = Dropped { ring_full: lost.ring_full, filtered: lost.filtered, unreadable, ..Dropped::default() };
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns: None, damage, notes: Notes::default() })
}

fn read_perfetto(mut trace: PerfettoTrace, each: Into<'_>) -> io::Result<Rest> {
    let mut decoder = Decoder::new();
    let mut not_decoded = 0_u64;
    while let Some(item) = trace.next_item() {
        match item {
            PerfettoItem::Format(format) => {
                decoder.add_format(format);
            }
            PerfettoItem::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
            PerfettoItem::Record(record) => match decoder.decode(record) {
                Some(event) => each.take(Seen::Event(&event, decoder.names()))?,
                None => not_decoded = not_decoded.saturating_add(1),
            },
            PerfettoItem::Lost => each.take(Seen::Lost(decoder.names()))?,
        }
    }
    let mut damage: Vec<SourceReport> =
        trace.faults().iter().map(|fault| absent("Perfetto trace", fault.to_string())).collect();
    let lost = trace.lost();
    for (count, what) in [
        (lost.late, "records came out of order"),
        (lost.errors, "parts of the kernel's buffers could not be read by Perfetto"),
        (lost.gaps, "places in which events were lost, how many in each it does not say"),
        (lost.nameless, "names of threads are left out: there are more than any machine has"),
    ] {
        if count > 0 {
            damage.push(absent("Perfetto trace", format!("{count} {what}")));
        }
    }
    let own = trace.own();
    // What a message lacks without which an event says nothing, makes it one that cannot be read.
    let unreadable = lost.unreadable.saturating_add(not_decoded);
    let dropped = Dropped {
        ring_full: own.dropped.ring_full.saturating_add(lost.counted.unwrap_or(0)),
        unreadable: own.dropped.unreadable.saturating_add(unreadable),
        ..own.dropped
    };
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns: own.to_ns, damage, notes: Notes::default() })
}

fn read_text(mut text: BufReader<File>, each: Into<'_>) -> io::Result<Rest> {
    /// `trace_seq` has 8 KiB: what is longer is no line of it.
    const LONGEST: u64 = 64 << 10;
    let (mut reader, mut line, mut lost) = (TextTrace::new(), Vec::new(), 0);
    loop {
        line.clear();
        if text.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Some(event) = reader.line(&String::from_utf8_lossy(&line)) {
            each.take(Seen::Event(&event, reader.names()))?;
        }
        let now = reader.lost().saturating_add(reader.uncounted_gaps());
        if now != lost {
            lost = now;
            each.take(Seen::Lost(reader.names()))?;
        }
    }
    let mut damage = Vec::new();
    if reader.uncounted_gaps() > 0 {
        let detail =
            format!("events were lost in {} places, and the text does not say how many", reader.uncounted_gaps());
        damage.push(absent(TEXT, detail));
    }
    let dropped = Dropped { ring_full: reader.lost(), unreadable: reader.unreadable(), ..Dropped::default() };
    Ok(Rest { names: reader.names().clone(), dropped, to_ns: None, damage, notes: Notes::default() })
}

fn absent(source: &'static str, detail: String) -> SourceReport {
    SourceReport::absent(source, None, Why::new(Reason::Failed, detail))
}

/// Why records of a recording of ours name no GPU.
fn no_gpu(header: &Header) -> Why {
    if !header.merged.is_empty() {
        let why = "the DRM scheduler's events name no device before Linux 6.17, and the traces that were merged have nothing else to tell it by";
        return Why::not_supported(why);
    }
    let detail = format!(
        "the DRM scheduler's events name no device before Linux 6.17 (this is {}), and records by {} have nothing else to tell it by",
        header.kernel, header.backend
    );
    Why::new(Reason::NotSupported, detail)
        .remedy("record by BPF: --backend bpf, with CAP_BPF and CAP_PERFMON or as root")
}

/// What is wrong with a recording, as sources of which a part is missing.
fn damage(summary: &Summary) -> Vec<SourceReport> {
    let mut found = Vec::new();
    let mut tell = |detail: String| found.push(absent("recording", detail));
    match summary.ended {
        Ended::Finished | Ended::Window => {}
        Ended::Open { offset } => tell(format!(
            "the file does not end as a finished recording does, at byte {offset}: it is being written, or its writer was stopped"
        )),
        Ended::Cut { offset } => {
            tell(format!("the file is cut off in the frame that begins at byte {offset}: what came after is not here"));
        }
        Ended::PartMissing => {
            tell("the file with the next part is missing: FILE.1, FILE.2 and so on belong beside FILE".into());
        }
    }
    if summary.damage.places > 0 {
        let at = summary.damage.first_at.unwrap_or(0);
        tell(format!(
            "{} bytes in {} places are damaged, the first at byte {at}; they were passed over",
            summary.damage.bytes, summary.damage.places
        ));
    }
    if summary.late > 0 || summary.hurried > 0 {
        tell(format!("{} records came out of order", summary.late.saturating_add(summary.hurried)));
    }
    if summary.unverified > 0 {
        tell(format!("{} records are of a frame that is cut off: no checksum vouches for them", summary.unverified));
    }
    if summary.malformed > 0 || summary.unknown_frames > 0 {
        tell(format!("{} frames are not understood", summary.malformed.saturating_add(summary.unknown_frames)));
    }
    if summary.lost > 0 {
        tell(format!("{} records were written and are not found", summary.lost));
    }
    if summary.rotated_out > 0 {
        tell(format!(
            "{} records of the beginning made room for later ones, as the bound on size asks",
            summary.rotated_out
        ));
    }
    found
}
