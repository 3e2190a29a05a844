//! The first frame: what the recording is, where and when it was made, and what it can and cannot tell.

use crate::capture::Backend;
use gpuscope_model::{GpuId, Reason, SourceReport, SourceStatus, Text};
use gpuscope_sys::Roots;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One moment on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instant {
    /// CLOCK_MONOTONIC: the clock of all records.
    pub monotonic_ns: u64,
    /// The same moment in nanoseconds since 1970, UTC. None where the traces that a recording was made of do not tell.
    #[serde(default)]
    pub realtime_ns: Option<u64>,
    /// The same moment on CLOCK_BOOTTIME, which goes on while the machine sleeps.
    #[serde(default)]
    pub boottime_ns: Option<u64>,
}

/// What a recording says of itself. Fields that a later version adds are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The word `gpuscope.recording/1`.
    pub schema: String,
    /// Program and version that wrote it.
    pub tool: String,
    /// Name of the recording, the same in all its parts: boot id and time of the start.
    pub recording: String,
    /// Number of this part, from 0.
    #[serde(default)]
    pub part: u64,
    /// Records in the parts before this one.
    #[serde(default)]
    pub records_before: u64,
    /// `little` or `big`: how numbers in the data of records stand.
    pub byte_order: String,
    /// Name of the clock.
    pub clock: String,
    /// When it began.
    pub started: Instant,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's name.
    pub host: String,
    /// The boot that CLOCK_MONOTONIC counts from.
    pub boot_id: String,
    /// The way that records were taken from the kernel.
    pub backend: String,
    /// The command that was run and watched, if one was.
    #[serde(default)]
    pub command: Vec<String>,
    /// What was asked for that left jobs or events out, in the words of `trace record`'s options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// GPUs of the machine: name and driver.
    #[serde(default)]
    pub gpus: Vec<(String, String)>,
    /// Names that drivers use for devices in their events, and the device's name: `card0`, `0000:00:02.0`.
    #[serde(default)]
    pub devices: Vec<(String, String)>,
    /// The traces that the recording was made of, where it was: by `gpuscope trace merge`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedTrace>,
    #[serde(default)]
    coverage: Vec<Covered>,
}

/// One of the traces that a recording was made of. Times are on the recording's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedTrace {
    /// The file.
    pub file: String,
    /// What it is: `recording`, `trace.dat`, `perf.data`, `text of tracefs`.
    pub kind: String,
    /// Name of its own clock.
    pub clock: String,
    /// The machine's name, where the file tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The boot that its clock counts from, where the file tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// What was added to its times.
    pub offset_ns: i64,
    /// How that is known: `reference`, `given`, `same_clock`, `estimated`, `time_of_day`.
    pub offset_from: String,
    /// Events that another trace has, too, and that agree about the offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreeing_events: Option<u64>,
    /// Of how many that were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_events: Option<u64>,
    /// How far apart the offsets are that those give, but for the tenth at either end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_ns: Option<u64>,
    /// Events in it.
    pub events: u64,
    /// Since when it tells, as far as that is known: its first event, or the begin of the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ns: Option<u64>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ns: Option<u64>,
    /// Whether it tells what was left out on purpose.
    #[serde(default)]
    pub tells_settings: bool,
    /// Events that it lacks, by cause.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
}

/// A line of coverage, as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Covered {
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu: Option<String>,
    status: String,
    detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

const LITTLE: &str = "little";
const BIG: &str = "big";

fn boottime_ns() -> Option<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).ok()?.checked_mul(1_000_000_000)?.checked_add(u64::try_from(now.tv_nsec).ok()?)
}

impl Header {
    /// A header for a recording that begins now, on this machine or, with another root, one that looks like it.
    ///
    /// What cannot be read stays empty: a recording without the machine's name is better than none.
    pub fn begin(roots: &Roots, tool: &str, backend: Backend) -> Header {
        let line = |path: &str| {
            std::fs::read_to_string(roots.proc(path)).map(|text| text.trim().to_string()).unwrap_or_default()
        };
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let started = Instant {
            monotonic_ns: gpuscope_sys::monotonic_ns(),
            realtime_ns: u64::try_from(since_1970.as_nanos()).ok(),
            boottime_ns: boottime_ns(),
        };
        let boot_id = line("sys/kernel/random/boot_id");
        Header {
            schema: "gpuscope.recording/1".into(),
            tool: tool.into(),
            recording: format!("{boot_id}-{}-{}", started.monotonic_ns, std::process::id()),
            part: 0,
            records_before: 0,
            byte_order: if cfg!(target_endian = "little") { LITTLE } else { BIG }.into(),
            clock: "monotonic".into(),
            started,
            kernel: line("sys/kernel/osrelease"),
            host: line("sys/kernel/hostname"),
            boot_id,
            backend: backend.name().into(),
            command: Vec::new(),
            settings: Vec::new(),
            gpus: Vec::new(),
            devices: Vec::new(),
            merged: Vec::new(),
            coverage: Vec::new(),
        }
    }

    /// A header for a recording that is made of other traces, which began at that moment of their clock. What they tell of the machine is
    /// for the caller to fill in.
    pub fn merged(tool: &str, clock: &str, started: Instant, traces: Vec<MergedTrace>) -> Header {
        let now_ns = gpuscope_sys::monotonic_ns();
        Header {
            schema: "gpuscope.recording/1".into(),
            tool: tool.into(),
            recording: format!("merged-{now_ns}-{}", std::process::id()),
            part: 0,
            records_before: 0,
            byte_order: if cfg!(target_endian = "little") { LITTLE } else { BIG }.into(),
            clock: clock.into(),
            started,
            kernel: String::new(),
            host: String::new(),
            boot_id: String::new(),
            backend: "merge".into(),
            command: Vec::new(),
            settings: Vec::new(),
            gpus: Vec::new(),
            devices: Vec::new(),
            merged: traces,
            coverage: Vec::new(),
        }
    }

    /// The same of a recording that is written later than what it tells: it began at that moment.
    #[must_use]
    pub fn begun_at(mut self, monotonic_ns: u64) -> Header {
        let moved = |ns: u64| ns.saturating_add(monotonic_ns).saturating_sub(self.started.monotonic_ns);
        self.started = Instant {
            monotonic_ns,
            realtime_ns: self.started.realtime_ns.map(moved),
            boottime_ns: self.started.boottime_ns.map(moved),
        };
        self
    }

    /// The same with what each source gave or why it gave nothing.
    #[must_use]
    pub fn covering(mut self, reports: &[SourceReport]) -> Header {
        let covered = |report: &SourceReport| Covered {
            source: report.source.to_string(),
            gpu: report.gpu.as_ref().map(|gpu| gpu.as_str().to_string()),
            status: report.status.as_str().into(),
            detail: report.detail.to_string(),
            remedy: report.remedy.as_ref().map(|remedy| remedy.to_string()),
        };
        self.coverage = reports.iter().map(covered).collect();
        self
    }

    /// What each source gave, or why it gave nothing. A status that this version does not know is `failed`, with the word kept.
    pub fn coverage(&self) -> Vec<SourceReport> {
        let report = |covered: &Covered| {
            let known = std::iter::once(SourceStatus::Works).chain(Reason::ALL.into_iter().map(SourceStatus::Absent));
            let found = known.into_iter().find(|status| status.as_str() == covered.status);
            let detail = match found {
                Some(_) => covered.detail.clone(),
                None => format!("{}: {}", covered.status, covered.detail),
            };
            SourceReport {
                source: Text::from(covered.source.clone()),
                gpu: covered.gpu.clone().map(GpuId::new),
                status: found.unwrap_or(SourceStatus::Absent(Reason::Failed)),
                detail: detail.into(),
                remedy: covered.remedy.clone().map(Text::from),
                unlocks: Vec::new(),
            }
        };
        self.coverage.iter().map(report).collect()
    }

    /// Whether its records can be read here.
    pub(super) fn is_native(&self) -> bool {
        self.byte_order == if cfg!(target_endian = "little") { LITTLE } else { BIG }
    }

    pub(super) fn to_json(&self) -> std::io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    pub(super) fn parse(json: &[u8]) -> Result<Header, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}
