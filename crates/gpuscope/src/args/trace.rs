//! `gpuscope trace`.

mod keep;

pub(crate) use keep::{Class as KeepClass, Keep, Kind as KeepKind, Share as KeepShare};

use clap::{Subcommand, ValueEnum};
use gpuscope_model::trace::{Family, JobKey};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand, Debug)]
pub(crate) enum Trace {
    /// Record what happens to the GPUs' jobs into a file
    ///
    /// Until CMD ends, the time given is over, or Ctrl-C. CMD runs with the rights of gpuscope itself. What all other programs do with the
    /// GPUs meanwhile is recorded, too, unless `--only-cmd` or one of the other options below chooses.
    Record(Box<Record>),
    /// Say what a recording holds: rings, times of jobs, who submitted them, what was lost, and what cannot be known
    Report(Report),
    /// Show a stretch of a trace as lanes: what each ring executed, who submitted it, and why rings had nothing to do
    Timeline(Timeline),
    /// Say what differs between two traces: times of rings and programs, with what can be told of the difference
    Compare(Compare),
    /// Write a trace for another program: Perfetto's viewer, Chrome's JSON, or a JSON line, a row of CSV or one of Parquet for each job
    Export(Export),
    /// Make one recording of several traces, on one clock
    ///
    /// Recordings and traces of other tools, of one machine or of several. Times of the first trace on CLOCK_MONOTONIC stay as they are (of
    /// the first of all, where none is); the others are moved to its clock: by what --clock-offset says, not at all where the clock is the
    /// same one, else by the events that two traces have in common, and from another boot or machine by the time of day. An event that
    /// several traces tell of is kept once, as the trace named first has it. One trace alone is made a recording.
    Merge(Merge),
    /// Show what the GPUs' jobs do now: rings, depths, times, who submits, and what is stuck
    Live(Box<super::Live>),
    /// Say again and again what the GPUs' jobs took, added up in the kernel: no job is recorded
    ///
    /// Of each ring and process count, shortest, mean, longest and percentiles of the time in the queue, with the hardware, and of both; of
    /// each ring how many waited and ran at once, and how busy it was. Until CMD ends, the time given is over, or Ctrl-C.
    Totals(Box<Totals>),
    /// Begin a session in the background: a recording, or a flight recorder that keeps the last seconds and writes them when something happens
    Start(Box<super::Start>),
    /// Say how the sessions in the background are: events, losses, alarms, what was saved
    Status(super::Status),
    /// Have a session in the background keep other jobs from now on: those of the options given here, whatever it kept before; all, with none
    Change(Box<super::Change>),
    /// Have a flight recorder write the last seconds now
    Save(super::Save),
    /// End a session in the background, and say where its recording is
    Stop(super::Named),
}

#[derive(clap::Args, Debug)]
pub(crate) struct Record {
    /// The recording
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace FILE even if it is no recording, and that of --totals even if it holds none
    #[arg(long)]
    pub(crate) force: bool,
    /// Record for this long: a number with ms, s, m or h
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval)]
    pub(crate) duration: Option<Duration>,
    /// How records are taken from the kernel [default: the first that works]
    #[arg(long, value_enum, value_name = "WAY")]
    pub(crate) backend: Option<Backend>,
    /// Which events: what tells of jobs, waits and errors [default: drm-sched, waits, i915, xe, virtio-gpu, v3d, panthor; dma-fence where
    /// a driver's jobs are told by their fences: i915, nouveau, radeon]
    #[arg(long = "family", value_enum, value_name = "FAMILY", value_delimiter = ',')]
    pub(crate) families: Vec<FamilyName>,
    /// Record also when processors go to the threads that submit jobs or hand them over, when they leave them, and when these are woken: why a
    /// thread was late. By BPF; beside what --max-events-per-second and --max-cpu bound
    #[arg(long)]
    pub(crate) switches: bool,
    /// Size of the buffer between the kernel and gpuscope, all processors together: a number with KiB or MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "8MiB")]
    pub(crate) buffer: usize,
    /// Tell jobs that are held up for longer than this while they are, on stderr and as notes in the recording: process, ring, age, and
    /// who waits behind. Jobs that were submitted before the recording began are not seen
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval, conflicts_with = "slower_than")]
    pub(crate) alarm: Option<Duration>,
    /// Most bytes on disk: FILE and three older parts beside it (FILE.1 to FILE.3), of which the oldest goes when the newest is full; what
    /// went is counted. 8MiB or more
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) max_size: Option<u64>,
    /// Write into this file what the jobs took, added up in the kernel: a JSON line (`gpuscope.trace_totals/1`) for each window, as `gpuscope
    /// trace totals` has it. By BPF
    #[arg(long, value_name = "FILE")]
    pub(crate) totals: Option<PathBuf>,
    /// Length of these windows: 100ms to 60s
    #[arg(long, value_name = "DURATION", value_parser = parse_totals_window, default_value = "1s", requires = "totals")]
    pub(crate) totals_window: Duration,
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Only jobs of CMD and of what it starts
    #[arg(long, requires = "command", help_heading = keep::WHOSE)]
    pub(crate) only_cmd: bool,
    /// The program to run meanwhile, with its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Totals {
    /// Length of a window: 100ms to 60s
    #[arg(long, value_name = "DURATION", value_parser = parse_totals_window, default_value = "1s")]
    pub(crate) window: Duration,
    /// End after N windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after this time: a number with ms, s, m or h
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval)]
    pub(crate) duration: Option<Duration>,
    /// Write into this file [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace FILE even if it holds no totals
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Only jobs of CMD and of what it starts
    #[arg(long, requires = "command", help_heading = keep::WHOSE)]
    pub(crate) only_cmd: bool,
    /// The program to run meanwhile, with its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// From a tenth of a second to a minute.
fn parse_totals_window(text: &str) -> Result<Duration, String> {
    let window = super::parse_interval(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&window) {
        Ok(window)
    } else {
        Err("a window is from 100ms to 60s long".into())
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Report {
    /// A recording, trace-cmd's trace.dat (versions 6 and 7), perf's perf.data, a Perfetto trace, or text of
    /// tracefs
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A line for each job, before the report
    #[arg(long)]
    pub(crate) jobs: bool,
    /// Tell the N slowest jobs
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) top: usize,
    /// Say what a job's time went to, piece by piece: a job as `--jobs` names it (CONTEXT:SEQNO), or `slowest`
    #[arg(long, value_name = "JOB", value_parser = parse_job, conflicts_with = "jobs")]
    pub(crate) why: Option<Which>,
}

/// A job that somebody names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that took longest from submission to end.
    Slowest,
    /// By its fence, or by an address as records of old kernels have it.
    Key(JobKey),
}

/// `12:34`, `0xffff8881`, `slowest`.
fn parse_job(text: &str) -> Result<Which, String> {
    if text == "slowest" {
        return Ok(Which::Slowest);
    }
    let key = match (text.split_once(':'), text.strip_prefix("0x")) {
        (Some((context, seqno)), _) => {
            context.parse().ok().zip(seqno.parse().ok()).map(|(context, seqno)| JobKey::Fence { context, seqno })
        }
        (None, Some(address)) => u64::from_str_radix(address, 16).ok().map(JobKey::Address),
        (None, None) => None,
    };
    key.map(Which::Key)
        .ok_or_else(|| "not a job; write CONTEXT:SEQNO, as `trace report --jobs` prints it, or slowest".into())
}

#[derive(clap::Args, Debug)]
pub(crate) struct Compare {
    /// The first trace: a recording, trace-cmd's trace.dat (versions 6 and 7), perf's perf.data, a Perfetto trace, or text of
    /// tracefs
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// The second
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Timeline {
    /// A recording, trace-cmd's trace.dat (versions 6 and 7), perf's perf.data, a Perfetto trace, or text of
    /// tracefs
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// From this time of the trace on: a number with us, ms or s [default: its begin]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) from: Option<Duration>,
    /// Until this time of the trace [default: its end]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) to: Option<Duration>,
    /// From a job's submission to its end: CONTEXT:SEQNO, as `trace report --jobs` prints it, or `slowest`
    #[arg(long, value_name = "JOB", value_parser = parse_job, conflicts_with_all = ["from", "to"])]
    pub(crate) around: Option<Which>,
    /// Only this GPU, as reports name it
    #[arg(long, value_name = "GPU")]
    pub(crate) gpu: Option<String>,
    /// Only rings of this name
    #[arg(long, value_name = "RING")]
    pub(crate) ring: Option<String>,
    /// Columns [default: those of the terminal, 80 elsewhere]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(40..=1000))]
    pub(crate) width: Option<u16>,
}

/// A time of a trace: `1.2s`, `300ms`, `45.5us`.
fn parse_moment(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return Err("not a time; write a number and us, ms or s, as in 1.2s".into()),
    };
    let number: f64 = number.parse().map_err(|_| "not a time; write a number and us, ms or s, as in 1.2s")?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| "too long".into())
}

#[derive(clap::Args, Debug)]
pub(crate) struct Merge {
    /// Recordings, trace-cmd's trace.dat (versions 6 and 7), perf's perf.data, Perfetto traces, text of tracefs; of the same event the
    /// one named first is believed
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The recording that is made
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Replace OUT even if it is no recording
    #[arg(long)]
    pub(crate) force: bool,
    /// Add this to the times of FILE, which is one of the files or its place among them (1, 2, …): a number with ns, us, ms or s, as in
    /// b.dat=+1.5ms. May be given for several files
    #[arg(long, value_name = "FILE=TIME", value_parser = parse_offset, allow_hyphen_values = true)]
    pub(crate) clock_offset: Vec<(String, i64)>,
}

/// `b.dat=+1.5ms`: the file, and nanoseconds.
fn parse_offset(text: &str) -> Result<(String, i64), String> {
    const WANTED: &str = "not an offset; write FILE=TIME, as in b.dat=+1.5ms or 2=-300us";
    let (file, time) = text.rsplit_once('=').filter(|(file, _)| !file.is_empty()).ok_or(WANTED)?;
    let (sign, amount) = match (time.strip_prefix('-'), time.strip_prefix('+')) {
        (Some(amount), _) => (-1, amount),
        (None, amount) => (1, amount.unwrap_or(time)),
    };
    let ns = parse_moment(amount).map_err(|_| WANTED)?.as_nanos();
    let ns = i64::try_from(ns).map_err(|_| "too long")?;
    Ok((file.to_string(), ns.saturating_mul(sign)))
}

#[derive(clap::Args, Debug)]
pub(crate) struct Export {
    /// A recording, trace-cmd's trace.dat (versions 6 and 7), perf's perf.data, a Perfetto trace, or text of
    /// tracefs
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// What to write
    #[arg(long, value_enum, value_name = "FORM", default_value_t = ExportFormat::Perfetto)]
    pub(crate) to: ExportFormat,
    /// Where to; - is stdout
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// For ui.perfetto.dev: a group a GPU, a track a ring, arrows from the submitting thread
    Perfetto,
    /// Chrome's JSON, for older viewers
    Chrome,
    /// A line for each job, and one for what was not recorded
    Json,
    /// A row for each job, with the columns of the JSON lines
    Csv,
    /// The same columns as a Parquet file, for SQL engines and data frames; what was not recorded and could not be told stands in its
    /// metadata
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// BPF programs: works on every kernel with the same result; needs CAP_BPF and CAP_PERFMON
    Bpf,
    /// A private tracefs instance; needs root
    Tracefs,
    /// Tracepoints as perf events; needs CAP_PERFMON and a readable tracefs
    Perf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyName {
    /// Jobs of the DRM scheduler: amdgpu, xe, nouveau (NVK), msm, panfrost, panthor, v3d, lima, etnaviv
    DrmSched,
    /// Who waits for fences, and how long
    Waits,
    /// When fences begin and end: several times a job
    DmaFence,
    /// Requests of i915
    I915,
    /// Timeouts, resets and scheduling of queues of xe
    Xe,
    /// Address spaces and interrupts of amdgpu; its jobs, where drm-sched is not asked for
    Amdgpu,
    /// Commands of virtio-gpu
    VirtioGpu,
    /// Resets of v3d; its jobs, where drm-sched is not asked for
    V3d,
    /// Interrupts of panthor
    Panthor,
    /// How long Adreno took; its jobs, where drm-sched is not asked for
    Msm,
    /// DRM ioctls of all programs
    Ioctl,
    /// Frequencies that devfreq sets
    Frequency,
}

impl FamilyName {
    pub(crate) fn family(self) -> Family {
        match self {
            FamilyName::DrmSched => Family::DrmSched,
            FamilyName::Waits => Family::FenceWait,
            FamilyName::DmaFence => Family::DmaFence,
            FamilyName::I915 => Family::I915,
            FamilyName::Xe => Family::Xe,
            FamilyName::Amdgpu => Family::Amdgpu,
            FamilyName::VirtioGpu => Family::VirtioGpu,
            FamilyName::V3d => Family::V3d,
            FamilyName::Panthor => Family::Panthor,
            FamilyName::Msm => Family::Msm,
            FamilyName::Ioctl => Family::Ioctl,
            FamilyName::Frequency => Family::Machine,
        }
    }
}

/// A whole number and its unit: `512KiB`, `8MiB`, `1GiB`.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "KiB" | "K" | "k" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "" if !number.is_empty() => return Err(format!("the unit is missing; write {number}KiB or {number}MiB")),
        _ => return Err("not a size; write a whole number and KiB, MiB or GiB, as in 8MiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "not a size; write a whole number and KiB, MiB or GiB, as in 8MiB")?;
    number.checked_shl(shift).filter(|size| size >> shift == number).ok_or_else(|| "too large".into())
}

/// The size of a buffer of the kernel's, which gives it in powers of two.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    match usize::try_from(parse_bytes(text)?) {
        Ok(0) => Err("a buffer of nothing holds nothing; use 64KiB or more".into()),
        Ok(size) if size < 64 << 10 => Err("less than 64KiB: too small for the events of one moment".into()),
        Ok(size) if size <= 1 << 30 => Ok(size),
        _ => Err("more than 1GiB of kernel memory; use less".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Which, parse_job, parse_moment, parse_offset, parse_size, parse_totals_window};
    use gpuscope_model::trace::JobKey;
    use std::time::Duration;

    #[test]
    fn moments_carry_their_unit() {
        assert_eq!(parse_moment("1.25s"), Ok(Duration::from_millis(1_250)));
        assert_eq!(parse_moment("410ms"), Ok(Duration::from_millis(410)));
        assert_eq!(parse_moment("45.5us"), Ok(Duration::from_nanos(45_500)));
        for text in ["", "1", "s", "-1s", "1.2.3s", "1e3s", "1h", "99999999999999999999s"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn windows_are_from_a_tenth_of_a_second_to_a_minute() {
        assert_eq!(parse_totals_window("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_totals_window("60s"), Ok(Duration::from_secs(60)));
        for text in ["99ms", "61s", "2m", "", "1"] {
            assert!(parse_totals_window(text).is_err(), "{text}");
        }
    }

    #[test]
    fn offsets_name_a_file_and_have_a_sign() {
        assert_eq!(parse_offset("b.dat=+1.5ms"), Ok(("b.dat".into(), 1_500_000)));
        assert_eq!(parse_offset("2=-300us"), Ok(("2".into(), -300_000)));
        assert_eq!(parse_offset("a=b=7ns"), Ok(("a=b".into(), 7)));
        for text in ["", "b.dat", "=1ms", "b=1", "b=ms", "b=--1ms", "b=+-1ms", "b=99999999999999s"] {
            assert!(parse_offset(text).is_err(), "{text}");
        }
    }

    #[test]
    fn jobs_are_named_by_fence_or_address() {
        assert_eq!(parse_job("slowest"), Ok(Which::Slowest));
        assert_eq!(parse_job("12:34"), Ok(Which::Key(JobKey::Fence { context: 12, seqno: 34 })));
        assert_eq!(parse_job("0xff10"), Ok(Which::Key(JobKey::Address(0xff10))));
        for text in ["", "12", "12:", ":1", "12:x", "0x", "0xg", "-1:2", "99999999999999999999:1"] {
            assert!(parse_job(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_carry_their_unit() {
        assert_eq!(parse_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_size("8MiB"), Ok(8 << 20));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        for text in ["", "8", "8MB", "-1MiB", "0MiB", "1KiB", "2GiB", "99999999999999999999M", "18014398509481984K"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
