//! The traces that can be read, all in one way: our recordings, files of trace-cmd, perf and Perfetto, tracefs' text.

mod foreign;
mod own;

use anyhow::{Context as _, bail};
use gpuscope_export::Tells;
use gpuscope_export::perfetto::Clocks;
use gpuscope_model::trace::{Dropped, Event, Note, TraceNames};
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_trace::Steps;
use gpuscope_trace::foreign::perf_data::PerfData;
use gpuscope_trace::foreign::perfetto::PerfettoTrace;
use gpuscope_trace::foreign::trace_dat::TraceDat;
use gpuscope_trace::foreign::{Kind, detect};
use gpuscope_trace::recording::Recording;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
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

/// The event that tells which others a job depends on.
const DEPENDENCY: &str = "drm_sched_job_add_dep";

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
        match detect(head.get(..length).unwrap_or_default()) {
            Some(Kind::TraceDat) => Ok(Input::trace_dat(TraceDat::open(path)?)),
            Some(Kind::PerfData) => Ok(Input::perf_data(PerfData::open(path)?)),
            Some(Kind::Perfetto) => Ok(Input::perfetto(PerfettoTrace::open(path)?)),
            Some(Kind::Text) => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                let detail = "a text does not name its clock: its times are perhaps not on CLOCK_MONOTONIC";
                let clock = SourceReport::absent("CLOCK_MONOTONIC", None, Why::not_supported(detail));
                Ok(Input::foreign(TEXT, vec![clock], Source::Text(BufReader::new(file))))
            }
            _ => Ok(Input::recording(Recording::open(path)?, own::first_record_ns(path))),
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
            Source::Recording(recording) => own::read_recording(*recording, each),
            Source::TraceDat(file) => Ok(foreign::read_trace_dat(*file, &mut each)?),
            Source::PerfData(file) => Ok(foreign::read_perf_data(*file, &mut each)?),
            Source::Perfetto(trace) => Ok(foreign::read_perfetto(*trace, &mut each)?),
            Source::Text(text) => Ok(foreign::read_text(text, &mut each)?),
        }
    }
}

type Into<'a> = &'a mut dyn Take;

fn absent(source: &'static str, detail: String) -> SourceReport {
    SourceReport::absent(source, None, Why::new(Reason::Failed, detail))
}
