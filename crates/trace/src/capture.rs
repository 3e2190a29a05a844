//! Records from the running kernel.
//!
//! Three ways lead to them, tried in this order: BPF programs, a private tracefs instance, perf events. Each gives
//! [`RawRecord`](crate::RawRecord)s with their [`EventFormat`](crate::EventFormat)s, so that nothing behind this module knows which way it was. None of them wakes this process
//! for an event: buffers are emptied on a timer.

#[cfg(feature = "bpf")]
mod beside;
#[cfg(feature = "bpf")]
pub mod bpf;
mod filter;
mod perf;
pub mod settings;
mod tracefs;

#[cfg(feature = "bpf")]
pub use bpf::BpfCapture;
pub use perf::PerfCapture;
pub use tracefs::TracefsCapture;
pub(crate) use tracefs::lost_of_stats;

use crate::RecordSink;
use crate::families::FAMILIES;
use gpuscope_model::trace::{Dropped, Family, TotalsSample};
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_sys::{Roots, read_text};
use settings::Settings;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// How records are taken from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// BPF programs on raw tracepoints. Needs CAP_BPF and CAP_PERFMON.
    Bpf,
    /// An instance of tracefs, made for this capture alone. Needs root, or a tracefs mounted for one's group.
    Tracefs,
    /// Tracepoints as perf events. Needs a readable tracefs and CAP_PERFMON.
    Perf,
}

impl Backend {
    /// The word for it in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Bpf => "bpf",
            Backend::Tracefs => "tracefs",
            Backend::Perf => "perf",
        }
    }
}

/// What is to be captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Families of tracepoints. One that this kernel does not have is no error; the coverage says so.
    pub families: Vec<Family>,
    /// Size of the buffers between kernel and program, all processors together.
    pub buffer_bytes: usize,
    /// When processors go to the threads that submit jobs or hand them over, and leave them. By BPF alone: nothing else tells their switches
    /// from those of all other threads.
    pub switches: bool,
}

/// Two emptyings of the buffers so far apart end a recording: an end of a job of which it is not known yet how it ended may be held back for
/// 20 ms, for what comes right behind it.
pub const SETTLES_IN: Duration = Duration::from_millis(25);

/// What one emptying of the buffers gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Every record until this moment (CLOCK_MONOTONIC, nanoseconds) has been given, now or before: what comes later is later.
    pub until_ns: u64,
    /// Records given.
    pub records: u64,
}

/// A running capture. It ends, and takes everything back that it set up, when it is dropped.
pub trait Capture {
    /// Which way it is.
    fn backend(&self) -> Backend;

    /// The layouts of its records.
    fn formats(&self) -> &[crate::EventFormat];

    /// Gives all records that are there.
    ///
    /// # Errors
    /// [`CaptureError`] when the kernel refuses; what was given before stays given.
    fn drain(&mut self, sink: &mut dyn RecordSink) -> Result<Drained, CaptureError>;

    /// Events that were lost or left out since the beginning, by cause.
    ///
    /// # Errors
    /// [`CaptureError`] where the counters cannot be read.
    fn dropped(&mut self) -> Result<Dropped, CaptureError>;

    /// Threads that records name and that do not stand in the records themselves, as far as they became known since the last call:
    /// thread, process, name.
    fn tasks(&mut self, each: &mut dyn FnMut(u32, u32, &str));

    /// Puts other settings in force, at one moment. Jobs in flight keep what was decided of them.
    ///
    /// # Errors
    /// [`CaptureError::InForce`] where these are in force all the same, though not all that belongs to them. Any other where it cannot
    /// follow these; those before stay in force.
    fn set(&mut self, settings: &settings::Settings) -> Result<(), CaptureError>;

    /// What was asked for and cannot be kept up, as far as it was found since this was asked last: a line each.
    fn notes(&mut self) -> Vec<String>;

    /// What jobs took that were done since this was asked last, and the rings now: empty unless the settings have asked for totals. Waits
    /// some tens of milliseconds for those who add.
    ///
    /// # Errors
    /// [`CaptureError::Unsupported`] where nothing is added up in the kernel.
    fn take_totals(&mut self) -> Result<TotalsSample, CaptureError>;
}

/// Why only BPF programs add up.
fn no_totals(way: Backend) -> CaptureError {
    CaptureError::Unsupported {
        what: format!("capture by {} adds nothing up in the kernel", way.name()),
        remedy: "capture by BPF, or record and see the report".into(),
    }
}

/// Why only BPF programs choose.
fn no_settings(way: Backend) -> CaptureError {
    CaptureError::Unsupported {
        what: format!("capture by {} cannot choose in the kernel which jobs are recorded", way.name()),
        remedy: "capture by BPF, or record everything".into(),
    }
}

/// A capture that runs, and what can be said of it.
pub struct Opened {
    /// The capture.
    pub capture: Box<dyn Capture>,
    /// What it captures, and what cannot be captured and why, the ways that were tried before among them.
    pub coverage: Vec<SourceReport>,
}

/// Begins to capture, the given way or else the best one that works.
///
/// # Errors
/// [`CaptureError`] of the given way; with none given, of the best one.
pub fn open(roots: &Roots, wanted: &Wanted, way: Option<Backend>) -> Result<Opened, CaptureError> {
    open_with(roots, wanted, &Settings::default(), way)
}

/// The same under settings. BPF programs alone can follow them in the kernel.
///
/// # Errors
/// As above, and [`CaptureError::Unsupported`] where the way cannot follow the settings.
pub fn open_with(
    roots: &Roots,
    wanted: &Wanted,
    settings: &Settings,
    way: Option<Backend>,
) -> Result<Opened, CaptureError> {
    let ways: &[Backend] = match &way {
        Some(way) => std::slice::from_ref(way),
        None => &[Backend::Bpf, Backend::Tracefs, Backend::Perf],
    };
    let mut coverage = Vec::new();
    let mut first = None;
    for way in ways {
        match start(roots, wanted, settings, *way) {
            Ok((capture, others)) => {
                coverage.extend(covered(wanted, capture.formats(), others));
                return Ok(Opened { capture, coverage });
            }
            Err(error) => {
                coverage.push(SourceReport::absent(format!("capture by {}", way.name()), None, error.why()));
                first = first.or(Some(error));
            }
        }
    }
    Err(first.unwrap_or_else(no_tracepoints))
}

/// Of each way, whether it works here, by beginning and ending at once.
pub fn reports(roots: &Roots) -> Vec<SourceReport> {
    let source = |way: Backend| format!("GPU job tracing by {}", way.name());
    let wanted = Wanted { families: vec![Family::DrmSched], buffer_bytes: 64 << 10, ..Wanted::default() };
    if !roots.is_live() {
        let why = Why::new(Reason::NotCounting, "this tree is not the running machine: it has no kernel to trace");
        return vec![SourceReport::absent("GPU job tracing", None, why)];
    }
    let report = |way| match try_out(roots, &wanted, way) {
        Ok(names) => SourceReport::works(source(way), None, names),
        Err(error) => SourceReport::absent(source(way), None, error.why()),
    };
    [Backend::Bpf, Backend::Tracefs, Backend::Perf].map(report).into()
}

/// A capture, and why it has not the families beside the DRM scheduler's, where it could not begin them.
type Started = (Box<dyn Capture>, Option<CaptureError>);

fn start(roots: &Roots, wanted: &Wanted, settings: &Settings, way: Backend) -> Result<Started, CaptureError> {
    begin(roots, wanted, settings, way).map_err(|error| if is_locked_down(roots) { locked_down(error) } else { error })
}

/// Begins and ends a capture; by BPF, a job that is put in by hand has to come through.
fn try_out(roots: &Roots, wanted: &Wanted, way: Backend) -> Result<String, CaptureError> {
    #[cfg(feature = "bpf")]
    if way == Backend::Bpf {
        let locked = |error| if is_locked_down(roots) { locked_down(error) } else { error };
        let mut capture = BpfCapture::open(roots, wanted, &Settings::default()).map_err(locked)?;
        capture.prove()?;
        return Ok(format!("{}; a job put in as a test came through", names(capture.formats().iter())));
    }
    start(roots, wanted, &Settings::default(), way).map(|(capture, _)| names(capture.formats().iter()))
}

/// Whether the kernel lets nobody read its memory, by whatever right (`security/lockdown/lockdown.c`, `lockdown_read`).
fn is_locked_down(roots: &Roots) -> bool {
    read_text(roots.sys("kernel/security/lockdown")).is_ok_and(|text| text.contains("[confidentiality]"))
}

/// What was refused, with the only thing that helps there: rights do not. What is missing otherwise stays as it is.
fn locked_down(error: CaptureError) -> CaptureError {
    match error {
        CaptureError::Permission { what, .. } | CaptureError::Failed { what } => CaptureError::Permission {
            what: format!(
                "the kernel is locked down in its mode confidentiality, in which nobody may trace it: {what}"
            ),
            remedy: "boot with lockdown=integrity, as under Secure Boot, or without lockdown=".into(),
        },
        other => other,
    }
}

fn begin(roots: &Roots, wanted: &Wanted, settings: &Settings, way: Backend) -> Result<Started, CaptureError> {
    if way != Backend::Bpf && *settings != Settings::default() {
        return Err(if settings.totals { no_totals(way) } else { no_settings(way) });
    }
    let capture: Box<dyn Capture> = match way {
        Backend::Tracefs => Box::new(TracefsCapture::open(roots, wanted)?),
        Backend::Perf => Box::new(PerfCapture::open(roots, wanted)?),
        #[cfg(feature = "bpf")]
        Backend::Bpf => {
            let capture = Box::new(BpfCapture::open(roots, wanted, settings)?);
            return Ok(if *settings == Settings::default() {
                with_others(roots, wanted, capture)
            } else {
                (capture, Some(not_chosen()))
            });
        }
        #[cfg(not(feature = "bpf"))]
        Backend::Bpf => {
            return Err(CaptureError::Unsupported {
                what: "this program was built without BPF".into(),
                remedy: "build it with the feature `bpf`".into(),
            });
        }
    };
    if capture.formats().is_empty() { Err(no_tracepoints()) } else { Ok((capture, None)) }
}

/// The events, each once: one may have two layouts.
fn names<'a>(formats: impl Iterator<Item = &'a crate::EventFormat>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for format in formats {
        if !names.contains(&format.name.as_str()) {
            names.push(&format.name);
        }
    }
    names.join(", ")
}

/// Why a capture under settings has no events beside those of the DRM scheduler's jobs.
#[cfg(feature = "bpf")]
fn not_chosen() -> CaptureError {
    CaptureError::Unsupported {
        what: "what was asked to be kept or left out is asked of the DRM scheduler's jobs: the events of others, of which none would be \
               left out, are not recorded"
            .into(),
        remedy: "record without settings to have these".into(),
    }
}

/// Captures the wanted families that BPF programs do not, beside them.
#[cfg(feature = "bpf")]
fn with_others(roots: &Roots, wanted: &Wanted, capture: Box<dyn Capture>) -> Started {
    let open = |buffer_bytes| PerfCapture::open_but_scheduler(roots, &Wanted { buffer_bytes, ..wanted.clone() });
    let other = match open(wanted.buffer_bytes / 2) {
        // The smallest: more than that is perhaps not to be locked without CAP_IPC_LOCK.
        Err(CaptureError::Permission { .. }) => open(0),
        other => other,
    };
    match other {
        Ok(Some(other)) => match beside::Beside::new(capture, other) {
            Ok(both) => (Box::new(both), None),
            Err(capture) => (capture, Some(CaptureError::Failed { what: "numbers of tracepoints clash".into() })),
        },
        // There are none of them here.
        Ok(None) => (capture, None),
        Err(error) => (capture, Some(error)),
    }
}

/// What BPF programs capture, and nothing beside them.
const BY_BPF: [Family; 2] = [Family::DrmSched, Family::Sched];

/// Of each family, which of its events there are. `others` is why there are none of those beside the DRM scheduler's, where that failed.
fn covered(wanted: &Wanted, formats: &[crate::EventFormat], others: Option<CaptureError>) -> Vec<SourceReport> {
    let why_others = others.map(|error| error.why());
    let of_family = |(system, family): (&'static str, Family)| {
        let is_of = |f: &&crate::EventFormat| {
            f.system == system && crate::families::find(system, &f.name).is_some_and(|(of, _)| of == family)
        };
        let names = names(formats.iter().filter(is_of));
        let source = format!("tracepoints {}", family.name());
        if let Some(why) = why_others.clone().filter(|_| !BY_BPF.contains(&family)) {
            SourceReport::absent(source, None, why)
        } else if names.is_empty() && family == Family::Sched {
            let detail = "only BPF programs tell the switches of threads that submit jobs, or hand them over, from those of all others";
            SourceReport::absent(
                source,
                None,
                Why::not_supported(detail).remedy("capture by BPF, the jobs of the DRM scheduler with them"),
            )
        } else if names.is_empty() {
            let detail = "this kernel has none of its events: no driver that has them is loaded";
            SourceReport::absent(source, None, Why::new(Reason::NoHardware, detail))
        } else {
            SourceReport::works(source, None, names)
        }
    };
    FAMILIES
        .iter()
        .map(|(system, family, _)| (*system, *family))
        .filter(|of| wanted.families.contains(&of.1) || wanted.switches && of.1 == Family::Sched)
        .map(of_family)
        .collect()
}

/// Why a capture does not begin, or ends.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// A right is missing.
    #[error("{what}: permission denied; {remedy}")]
    Permission {
        /// What was refused.
        what: String,
        /// What would help.
        remedy: String,
    },
    /// The kernel has not what it takes.
    #[error("{what}; {remedy}")]
    Unsupported {
        /// What is missing.
        what: String,
        /// What to do instead.
        remedy: String,
    },
    /// A file or call failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// Settings are in force, and something that belongs to them could not be done.
    #[error("the new settings are in force, but not all that belongs to them: {what}")]
    InForce {
        /// What, and why.
        what: String,
    },
    /// Something else the kernel answered.
    #[error("{what}")]
    Failed {
        /// The call and the answer.
        what: String,
    },
}

impl CaptureError {
    /// The same as the reason of a source that does not work.
    pub fn why(&self) -> Why {
        match self {
            CaptureError::Permission { what, remedy } => {
                Why::new(Reason::NoPermission, format!("{what}: permission denied")).remedy(remedy.clone())
            }
            CaptureError::Unsupported { what, remedy } => {
                Why::new(Reason::NotSupported, what.clone()).remedy(remedy.clone())
            }
            CaptureError::Io { .. } | CaptureError::InForce { .. } | CaptureError::Failed { .. } => {
                Why::new(Reason::Failed, self.to_string())
            }
        }
    }
}

/// No tracepoint that is understood exists.
fn no_tracepoints() -> CaptureError {
    CaptureError::Unsupported {
        what: "this kernel has no tracepoints of GPU jobs".into(),
        remedy: "load the GPU's driver: `gpuscope list` shows whether there is one (the DRM scheduler's events come with the first driver \
                 that uses it)"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_is_named_where_it_refuses_and_rights_do_not_help() {
        let tree = tempfile::tempdir().unwrap();
        let roots = Roots::at(tree.path());
        let file = tree.path().join("sys/kernel/security/lockdown");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        for (text, is) in [("none integrity [confidentiality]\n", true), ("none [integrity] confidentiality\n", false)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(is_locked_down(&roots), is, "{text}");
        }
        let refused = CaptureError::Permission { what: "bpf(2)".into(), remedy: "run as root".into() };
        let said = locked_down(refused).to_string();
        assert!(said.contains("confidentiality") && said.contains("lockdown=integrity"), "{said}");
        assert!(!said.contains("root"), "{said}");
        let missing = CaptureError::Unsupported { what: "no driver".into(), remedy: "load it".into() };
        assert_eq!(locked_down(missing).to_string(), "no driver; load it");
    }

    #[test]
    fn what_cannot_follow_settings_refuses_them() {
        let tree = tempfile::tempdir().unwrap();
        let wanted = Wanted { families: vec![Family::DrmSched], buffer_bytes: 1 << 20, ..Wanted::default() };
        let settings = Settings { events: false, ..Settings::default() };
        for way in [Backend::Tracefs, Backend::Perf] {
            let Err(error) = open_with(&Roots::at(tree.path()), &wanted, &settings, Some(way)) else { panic!() };
            assert!(error.to_string().contains("capture by BPF, or record everything"), "{error}");
        }
    }
}
