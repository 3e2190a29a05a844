//! Capture by an instance of tracefs of its own: no other tracer is disturbed, and none disturbs it.
//!
//! - **Loss.** The buffers do not overwrite: when one is full, the events that come are lost, as with BPF's ring buffer and perf's, and
//!   counted one by one (`dropped events` in `per_cpu/cpuN/stats`). What was recorded before stays, so that a reader who comes late finds
//!   whole stories with a gap behind them. Overwriting would lose the oldest a page at a time, and its mark of how many were missed has
//!   no room in a full page.
//! - **Time.** `trace_clock` is `mono`, which is CLOCK_MONOTONIC.
//! - **This process.** `set_event_notrace_pid` is left alone: its mark is the processor's, not the event's
//!   (`event_filter_pid_sched_switch_probe_pre`), so that it would lose what interrupts report while this process happens to run, above
//!   all the ends of other processes' jobs. Events that tell of what the current thread does, waits and ioctls, have filters instead.
//! - **No wake-ups.** `trace_pipe_raw` is read without waiting, on the caller's timer. It gives pages that are still being filled, too,
//!   as far as they are committed.

mod instance;
mod tasks;

use super::settings::Settings;
use super::{Backend, Capture, CaptureError, Drained, Wanted, filter};
use crate::families::events_of;
use crate::ftrace::{End, Page, PageLayout};
use crate::record::Number;
use crate::{EventFormat, RawRecord, RecordSink, tracefs as tracepoints};
use gpuscope_model::trace::{Dropped, TotalsSample};
use gpuscope_pmu::parse::parse_cpumask;
use gpuscope_sys::{Roots, list_dir, monotonic_ns};
use instance::Instance;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use tasks::Tasks;

/// How far the clock of events may be behind CLOCK_MONOTONIC read at the same moment: `ktime_get_mono_fast_ns` does not wait for an update
/// of the time that is under way.
const FAST_CLOCK_NS: u64 = 1_000;

/// Where the kernel does not say when all processors have passed (`membarrier` refuses with `nohz_full`), an event is given so long from
/// its time to its commit, between which it cannot be preempted.
const COMMIT_NS: u64 = 100_000_000;

/// A running capture.
#[derive(Debug)]
pub struct TracefsCapture {
    /// Closed before the instance is removed, by their order here.
    pipes: Vec<Pipe>,
    instance: Instance,
    layout: PageLayout,
    formats: Vec<EventFormat>,
    tid: Option<Number>,
    tasks: Tasks,
    page: Vec<u8>,
    unreadable: u64,
}

/// The buffer of a processor.
#[derive(Debug)]
struct Pipe {
    cpu: u16,
    file: File,
    stats: String,
}

impl TracefsCapture {
    /// Begins a capture.
    ///
    /// # Errors
    /// [`CaptureError::Permission`] without root's rights, [`CaptureError::Unsupported`] where tracefs is not mounted or its pages are
    /// not understood, [`CaptureError::Io`] where a file of it fails.
    pub fn open(roots: &Roots, wanted: &Wanted) -> Result<TracefsCapture, CaptureError> {
        let tracefs = tracepoints::find(roots)?;
        let instance = Instance::make(&tracefs, roots)?;
        let layout = layout(&instance)?;

        let mut pipes = Vec::new();
        // Processors that could come are there from the beginning, without a buffer.
        for name in list_dir(&instance.path("per_cpu")).unwrap_or_default() {
            let Some(cpu) = name.strip_prefix("cpu").and_then(|number| number.parse().ok()) else { continue };
            let file = instance.open_raw(&format!("per_cpu/{name}/trace_pipe_raw"))?;
            pipes.push(Pipe { cpu, file, stats: format!("per_cpu/{name}/stats") });
        }
        pipes.sort_by_key(|pipe| pipe.cpu);

        instance.write("trace_clock", "mono")?;
        instance.write("options/overwrite", "0")?;
        // Before the events are enabled, which is when it takes effect.
        instance.write_if_there("options/record-tgid", "1")?;
        let online = fs::read_to_string(roots.sys("devices/system/cpu/online")).unwrap_or_default();
        // Where that cannot be read, as if all that could come were there: less than wanted, never more.
        let cpus = parse_cpumask(&online).map_or(0, |cpus| cpus.len());
        let cpus = if cpus == 0 { pipes.len().max(1) } else { cpus };
        let kib = (wanted.buffer_bytes / 1024).div_ceil(cpus).max(1);
        instance.write("buffer_size_kb", &kib.to_string())?;

        let own = filter::own_threads(roots);
        let mut formats = Vec::new();
        for (system, _, spec) in events_of(&wanted.families) {
            let dir = format!("events/{system}/{}", spec.name);
            let Some(text) = instance.read(&format!("{dir}/format"))? else { continue };
            formats.push(tracepoints::parse(&instance.path(&dir).join("format"), system, &text)?);
            if let Some(filter) = filter::of(spec, &own) {
                instance.write(&format!("{dir}/filter"), &filter)?;
            }
            instance.write(&format!("{dir}/enable"), "1")?;
        }
        let tid = formats.first().and_then(|format| Number::find(format, &["common_pid"]));
        let page = vec![0; layout.page_size()];
        let tasks = Tasks::new(roots, tracefs);
        Ok(TracefsCapture { pipes, instance, layout, formats, tid, tasks, page, unreadable: 0 })
    }

    /// Gives what stands in all buffers by now.
    fn read_all(&mut self, sink: &mut dyn RecordSink) -> Result<u64, CaptureError> {
        let mut records = 0_u64;
        let begin_ns = monotonic_ns();
        for pipe in &mut self.pipes {
            loop {
                let length = match pipe.file.read(&mut self.page) {
                    Ok(0) => break,
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // A processor that was never there.
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => break,
                    Err(source) => {
                        let name = format!("per_cpu/cpu{}/trace_pipe_raw", pipe.cpu);
                        return Err(CaptureError::Io { path: self.instance.path(&name), source });
                    }
                };
                let bytes = self.page.get(..length).unwrap_or_default();
                let Some(page) = Page::new(&self.layout, bytes) else {
                    self.unreadable = self.unreadable.saturating_add(1);
                    break;
                };
                let mut of_page = page.records();
                for record in of_page.by_ref() {
                    if let Some(tid) = self.tid.and_then(|tid| tid.get(record.data)) {
                        self.tasks.see(tid as u32);
                    }
                    sink.record(RawRecord { at_ns: record.at, cpu: pipe.cpu, data: record.data });
                    records = records.saturating_add(1);
                }
                if of_page.end() != Some(End::Whole) {
                    self.unreadable = self.unreadable.saturating_add(1);
                }
                // What comes faster than it is read must not hold up the other processors.
                if page.begin_ns() > begin_ns {
                    break;
                }
            }
        }
        Ok(records)
    }
}

impl Capture for TracefsCapture {
    fn backend(&self) -> Backend {
        Backend::Tracefs
    }

    fn formats(&self) -> &[EventFormat] {
        &self.formats
    }

    /// An event has its time before it is committed, and is read after that. In between its processor cannot be preempted. So all events
    /// until a moment can be read once every processor has passed a point at which it can be: that is what `membarrier` waits for (by
    /// `synchronize_rcu`, which wakes no idle processor). It takes some tens of milliseconds asleep, before and after which the buffers
    /// are emptied.
    fn drain(&mut self, sink: &mut dyn RecordSink) -> Result<Drained, CaptureError> {
        let mut records = self.read_all(sink)?;
        let now_ns = monotonic_ns();
        let until_ns = match rustix::thread::membarrier(rustix::thread::MembarrierCommand::Global) {
            Ok(()) => now_ns.saturating_sub(FAST_CLOCK_NS),
            Err(_) => now_ns.saturating_sub(COMMIT_NS),
        };
        records = records.saturating_add(self.read_all(sink)?);
        Ok(Drained { until_ns, records })
    }

    fn dropped(&mut self) -> Result<Dropped, CaptureError> {
        let mut ring_full = 0_u64;
        for pipe in &self.pipes {
            let text = self.instance.read(&pipe.stats)?.unwrap_or_default();
            ring_full = ring_full.saturating_add(lost_of_stats(&text));
        }
        Ok(Dropped { ring_full, unreadable: self.unreadable, ..Dropped::default() })
    }

    fn tasks(&mut self, each: &mut dyn FnMut(u32, u32, &str)) {
        self.tasks.each(monotonic_ns(), each);
    }

    fn set(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        if *settings == Settings::default() { Ok(()) } else { Err(super::no_settings(self.backend())) }
    }

    /// None: everything comes, and what is lost is counted.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn take_totals(&mut self) -> Result<TotalsSample, CaptureError> {
        Err(super::no_totals(self.backend()))
    }
}

fn layout(instance: &Instance) -> Result<PageLayout, CaptureError> {
    let name = "events/header_page";
    let unsupported = |what: String| CaptureError::Unsupported {
        what: format!("{}: {what}", instance.path(name).display()),
        remedy: "use the BPF back end".into(),
    };
    let text = match instance.read(name)? {
        Some(text) => text,
        // Before 6.x only the uppermost folder has it.
        None => {
            fs::read_to_string(instance.path("../../events/header_page")).map_err(|e| unsupported(e.to_string()))?
        }
    };
    PageLayout::parse(&text).map_err(|error| unsupported(error.to_string()))
}

/// Events that a processor's buffer had no room for, of `stats` (`tracing_stats_read`): overwritten, or come while it was full, or while
/// an interrupted writer held the page that they needed.
pub(crate) fn lost_of_stats(stats: &str) -> u64 {
    let number = |line: &str| {
        let (name, number) = line.split_once(':')?;
        matches!(name, "overrun" | "commit overrun" | "dropped events").then(|| number.trim().parse::<u64>().ok())?
    };
    stats.lines().filter_map(number).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use gpuscope_model::trace::Family;

    /// Composed from `tracing_stats_read` (kernel/trace/trace.c).
    const STATS: &str = "entries: 12\noverrun: 3\ncommit overrun: 4\nbytes: 5000\noldest event ts:  2325.123456\n\
                         now ts:  2326.000001\ndropped events: 50\nread events: 9\n";

    #[test]
    fn losses_are_all_that_was_overwritten_and_all_that_found_no_room() {
        assert_eq!(lost_of_stats(STATS), 57);
        assert_eq!(lost_of_stats(""), 0);
    }

    fn wanted() -> Wanted {
        Wanted { families: vec![Family::DrmSched], buffer_bytes: 1 << 20, ..Wanted::default() }
    }

    #[test]
    fn a_tracefs_that_is_not_mounted_is_named_with_the_command() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/kernel/tracing")).unwrap();
        let error = TracefsCapture::open(&Roots::at(dir.path()), &wanted()).unwrap_err().to_string();
        let at = dir.path().join("sys/kernel/tracing");
        let at = at.display();
        assert_eq!(error, format!("{at}: tracefs is not mounted there; mount -t tracefs nodev {at}"));
    }

    #[test]
    fn an_instance_is_taken_away_when_the_beginning_fails() {
        let dir = tempfile::tempdir().unwrap();
        // Mounted where old systems have it; a folder that is no kernel's has none of the files.
        let instances = dir.path().join("sys/kernel/debug/tracing/instances");
        fs::create_dir_all(&instances).unwrap();
        fs::create_dir_all(dir.path().join("proc/41")).unwrap();
        // One of a dead process, one of a live one, one that is not ours.
        for name in ["gpuscope-40-0", "gpuscope-41-0", "someone"] {
            fs::create_dir(instances.join(name)).unwrap();
        }
        let error = TracefsCapture::open(&Roots::at(dir.path()), &wanted()).unwrap_err();
        assert!(matches!(error, CaptureError::Unsupported { .. }), "{error}");
        assert_eq!(list_dir(&instances).unwrap(), ["gpuscope-41-0", "someone"]);
    }
}
