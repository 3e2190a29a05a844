//! Capture by perf events: a buffer a processor.

use super::settings::Settings;
use super::{Backend, Capture, CaptureError, Drained, Wanted, filter};
use crate::families;
use crate::perf_record::PerfRecord;
use crate::{EventFormat, RawRecord, RecordSink, tracefs};
#[cfg(feature = "bpf")]
use gpuscope_model::trace::Family;
use gpuscope_model::trace::{Dropped, TotalsSample};
use gpuscope_pmu::parse::parse_cpumask;
use gpuscope_sys::perf::{Tracepoint, TracepointBuffer};
use gpuscope_sys::{Roots, monotonic_ns, read_text};
use rustc_hash::FxHashMap;
use std::ffi::CString;
use std::path::PathBuf;

/// A page of the machines with the largest.
const LEAST_BYTES: usize = 64 << 10;

/// Threads of which a name is kept until they are seen. Where there are more, all are forgotten.
const MOST_NAMES: usize = 16 << 10;

/// Tracepoints as perf events.
///
/// What is lost is the newest, and exactly counted since Linux 6.0. Processors that are taken into use later are not seen.
#[derive(Debug)]
pub struct PerfCapture {
    buffers: Vec<TracepointBuffer>,
    formats: Vec<EventFormat>,
    roots: Roots,
    /// Processes and names of threads that are not told yet.
    new_tasks: Vec<(u32, u32, Option<String>)>,
    are_numbers_equal: bool,
    /// By thread: its process.
    tasks: FxHashMap<u32, u32>,
    /// Names that threads took before they were seen: one may be gone when it is.
    names: FxHashMap<u32, String>,
    /// Of kernels that do not count: losses as records told them.
    told_lost: u64,
    unreadable: u64,
    /// When the buffers were looked at last.
    looked_ns: u64,
}

impl PerfCapture {
    /// Begins to capture.
    ///
    /// # Errors
    /// [`CaptureError`]: rights, a kernel without these tracepoints, too little memory that may be locked.
    pub fn open(roots: &Roots, wanted: &Wanted) -> Result<Self, CaptureError> {
        let formats = tracefs::formats(&tracefs::find(roots)?, &wanted.families)?;
        if formats.is_empty() {
            return Err(super::no_tracepoints());
        }
        Self::open_formats(roots, formats, wanted.buffer_bytes)
    }

    /// Begins to capture the wanted families without the DRM scheduler's, beside a capture of those. None where this kernel has none.
    #[cfg(feature = "bpf")]
    pub(super) fn open_but_scheduler(roots: &Roots, wanted: &Wanted) -> Result<Option<Self>, CaptureError> {
        if wanted.families.iter().all(|family| *family == Family::DrmSched) {
            return Ok(None);
        }
        let mut formats = tracefs::formats(&tracefs::find(roots)?, &wanted.families)?;
        formats.retain(|format| {
            !matches!(families::find(&format.system, &format.name), Some((Family::DrmSched, _)) | None)
        });
        if formats.is_empty() {
            return Ok(None);
        }
        Self::open_formats(roots, formats, wanted.buffer_bytes).map(Some)
    }

    fn open_formats(roots: &Roots, formats: Vec<EventFormat>, buffer_bytes: usize) -> Result<Self, CaptureError> {
        let own = filter::own_threads(roots);
        // What this process does itself is left out; of what fires in interrupts, whoever runs then, it is not.
        let filter_of = |format: &EventFormat| {
            let (_, spec) = families::find(&format.system, &format.name)?;
            CString::new(filter::of(spec, &own)?).ok()
        };
        let points: Vec<(u64, Option<CString>)> =
            formats.iter().map(|format| (u64::from(format.id), filter_of(format))).collect();
        let tracepoints: Vec<Tracepoint<'_>> =
            points.iter().map(|(id, filter)| Tracepoint { id: *id, filter: filter.as_deref() }).collect();
        let online = roots.sys("devices/system/cpu/online");
        let text = read_text(&online)
            .map_err(|e| CaptureError::Io { path: online.clone(), source: std::io::Error::other(e) })?;
        let cpus = parse_cpumask(&text).map_err(|e| CaptureError::Io {
            path: online,
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, e),
        })?;
        let each = (buffer_bytes / cpus.len().max(1)).max(LEAST_BYTES);
        let each = if each.is_power_of_two() { each } else { each.next_power_of_two() / 2 };
        let mut buffers = Vec::new();
        for cpu in cpus {
            let buffer = TracepointBuffer::open(cpu, &tracepoints, each).map_err(|e| refused(roots, e, each))?;
            buffers.push(buffer);
        }
        let looked_ns = monotonic_ns();
        for buffer in &buffers {
            buffer.enable().map_err(|e| refused(roots, e, each))?;
        }
        Ok(PerfCapture {
            buffers,
            formats,
            roots: roots.clone(),
            new_tasks: Vec::new(),
            are_numbers_equal: roots.has_machine_pids(),
            tasks: FxHashMap::default(),
            names: FxHashMap::default(),
            told_lost: 0,
            unreadable: 0,
            looked_ns,
        })
    }
}

impl Capture for PerfCapture {
    fn backend(&self) -> Backend {
        Backend::Perf
    }

    fn formats(&self) -> &[EventFormat] {
        &self.formats
    }

    fn drain(&mut self, sink: &mut dyn RecordSink) -> Result<Drained, CaptureError> {
        // Each buffer is in order of time (an interrupt's record may stand behind the one that it interrupted; those are of the same
        // moment). Whatever was written before this moment is found below, so what comes at the next time is later than this one.
        let now = monotonic_ns();
        let mut records = 0_u64;
        let PerfCapture { buffers, new_tasks, tasks, names, told_lost, unreadable, .. } = self;
        for buffer in buffers {
            buffer.take(|record| match PerfRecord::parse(record) {
                Some(PerfRecord::Sample { pid, tid, at_ns, cpu, data }) => {
                    if tasks.insert(tid, pid) != Some(pid) {
                        new_tasks.push((tid, pid, names.remove(&tid)));
                    }
                    records = records.saturating_add(1);
                    sink.record(RawRecord { at_ns, cpu: u16::try_from(cpu).unwrap_or(u16::MAX), data });
                }
                Some(PerfRecord::Comm { pid, tid, comm }) if tasks.contains_key(&tid) => {
                    tasks.insert(tid, pid);
                    new_tasks.push((tid, pid, Some(String::from_utf8_lossy(comm).into_owned())));
                }
                Some(PerfRecord::Comm { tid, comm, .. }) => {
                    if names.len() >= MOST_NAMES {
                        names.clear();
                    }
                    names.insert(tid, String::from_utf8_lossy(comm).into_owned());
                }
                Some(PerfRecord::Lost(n)) => *told_lost = told_lost.saturating_add(n),
                Some(_) => {}
                None => *unreadable = unreadable.saturating_add(1),
            });
        }
        let until_ns = std::mem::replace(&mut self.looked_ns, now);
        Ok(Drained { until_ns, records })
    }

    fn dropped(&mut self) -> Result<Dropped, CaptureError> {
        // What records tell of losses counts names of threads, too.
        let mut lost = None;
        for buffer in &self.buffers {
            match buffer.lost() {
                Ok(Some(n)) => lost = Some(lost.unwrap_or(0_u64).saturating_add(n)),
                Ok(None) => {}
                Err(source) => return Err(CaptureError::Io { path: PathBuf::from("perf event"), source }),
            }
        }
        Ok(Dropped { ring_full: lost.unwrap_or(self.told_lost), unreadable: self.unreadable, ..Dropped::default() })
    }

    /// None in a PID namespace of one's own: perf numbers threads as it does, the tracepoints' records as the machine does, and a name would be
    /// another thread's.
    fn tasks(&mut self, each: &mut dyn FnMut(u32, u32, &str)) {
        if !self.are_numbers_equal {
            self.new_tasks.clear();
            return;
        }
        for (tid, pid, comm) in self.new_tasks.drain(..) {
            match comm {
                Some(comm) => each(tid, pid, &comm),
                // A thread that has ended meanwhile has no name any more.
                None => {
                    let comm = read_text(self.roots.proc(format!("{pid}/task/{tid}/comm"))).unwrap_or_default();
                    each(tid, pid, comm.trim_end());
                }
            }
        }
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

fn refused(roots: &Roots, source: std::io::Error, bytes: usize) -> CaptureError {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::PermissionDenied => CaptureError::Permission {
            what: format!("tracepoints as perf events with buffers of {} KiB", bytes >> 10),
            remedy: format!(
                "run as root, or give the program cap_perfmon and cap_ipc_lock (the buffers are more than {} allows)",
                roots.proc("sys/kernel/perf_event_mlock_kb").display()
            ),
        },
        _ => CaptureError::Io { path: PathBuf::from("perf_event_open"), source },
    }
}
