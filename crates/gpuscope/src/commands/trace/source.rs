//! A capture that runs, as `record`, `start` and `live` use it.

use crate::args::{Backend as Way, Common};
use gpuscope_gpu::GpuSet;
use gpuscope_model::trace::{Dropped, Family};
use gpuscope_model::{Reason, SourceStatus};
use gpuscope_sys::{Roots, monotonic_ns};
use gpuscope_trace::RecordSink;
use gpuscope_trace::capture::settings::Settings;
use gpuscope_trace::capture::{self, Backend, Capture, Drained, Opened, Wanted};
use gpuscope_trace::recording::Header;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// Time between two looks at the buffers. Eight megabytes hold what two million events a second bring in it.
pub(super) const EVERY: Duration = Duration::from_millis(50);

/// Sources that come with a driver.
const DRIVERS: [&str; 5] =
    ["tracepoints i915", "tracepoints xe", "tracepoints virtio_gpu", "tracepoints v3d", "tracepoints panthor"];

/// The source of switches of threads.
const SWITCHES: &str = "tracepoints sched";

/// What a capture is to be.
#[derive(Default)]
pub(super) struct Ask {
    /// The first that works, if none is named.
    pub(super) way: Option<Way>,
    pub(super) buffer_bytes: usize,
    /// Those that help on this machine, if none is named.
    pub(super) families: Vec<Family>,
    /// Whether processors are followed as they go to the jobs' threads and leave them.
    pub(super) switches: bool,
    pub(super) settings: Settings,
}

/// A capture, and what it has told so far.
pub(super) struct Source {
    pub(super) capture: Box<dyn Capture>,
    pub(super) dropped: Dropped,
    /// What is to be told with the next reading.
    notes: Vec<String>,
}

/// What one reading gave beside records.
pub(super) struct Round {
    pub(super) drained: Drained,
    /// Threads that became known: thread, process, name.
    pub(super) tasks: Vec<(u32, u32, String)>,
    /// Losses, where there are more than before, and when that was found.
    pub(super) dropped: Option<(u64, Dropped)>,
    /// What was found that cannot be kept up.
    pub(super) notes: Vec<String>,
}

impl Source {
    /// Begins a capture, and the header of a recording of it.
    pub(super) fn open(common: &Common, ask: &Ask) -> anyhow::Result<(Source, Header)> {
        if common.root.is_some() {
            anyhow::bail!("--root: a captured machine runs no kernel to record from; leave it out");
        }
        let roots = Roots::host();
        let set = GpuSet::open(roots.clone(), super::super::options(common));
        let gpus: Vec<(String, String)> =
            set.infos().map(|info| (info.id.to_string(), info.driver.to_string())).collect();
        drop(set);
        let families = if ask.families.is_empty() {
            gpuscope_trace::by_default(gpus.iter().map(|(_, driver)| driver.as_str()))
        } else {
            ask.families.clone()
        };
        let wanted = Wanted { families, buffer_bytes: ask.buffer_bytes, switches: ask.switches };
        // A file for each processor, by perf for each tracepoint on each. What is started later gets the limit that this program came with.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let opened = capture::open_with(&roots, &wanted, &ask.settings, ask.way.map(backend));
        let _ = setrlimit(Resource::Nofile, limit);
        let Opened { capture, mut coverage } = opened?;
        // Asked for by name, they are missed otherwise when the report is read.
        let missing =
            coverage.iter().find(|of| ask.switches && &*of.source == SWITCHES && of.status != SourceStatus::Works);
        let notes =
            missing.map(|of| format!("switches of threads are not recorded: {}", of.detail)).into_iter().collect();
        if ask.families.is_empty() {
            // Nobody asked for them by name, and no driver here has them.
            coverage
                .retain(|of| !DRIVERS.contains(&&*of.source) || of.status != SourceStatus::Absent(Reason::NoHardware));
        }
        let tool = concat!("gpuscope ", env!("CARGO_PKG_VERSION"));
        let mut header = Header::begin(&roots, tool, capture.backend()).covering(&coverage);
        header.gpus = gpus;
        header.devices = gpuscope_trace::device_names(&roots);
        Ok((Source { capture, dropped: Dropped::default(), notes }, header))
    }

    /// Empties the buffers into a sink.
    pub(super) fn read(&mut self, sink: &mut dyn RecordSink) -> anyhow::Result<Round> {
        let drained = self.capture.drain(sink)?;
        let mut tasks = Vec::new();
        self.capture.tasks(&mut |tid, pid, comm| tasks.push((tid, pid, comm.to_string())));
        let now = self.capture.dropped()?;
        let dropped = (now != self.dropped).then(|| (monotonic_ns(), now));
        self.dropped = now;
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.capture.notes());
        Ok(Round { drained, tasks, dropped, notes })
    }
}

fn backend(way: Way) -> Backend {
    match way {
        Way::Bpf => Backend::Bpf,
        Way::Tracefs => Backend::Tracefs,
        Way::Perf => Backend::Perf,
    }
}

/// What was lost or left out, in words.
pub(super) fn losses(dropped: Dropped) -> String {
    let lost: Vec<String> =
        dropped.each().iter().filter(|(_, n)| *n > 0).map(|(cause, n)| format!("{cause} {n}")).collect();
    if lost.is_empty() { "nothing lost".into() } else { format!("not recorded: {}", lost.join(", ")) }
}
