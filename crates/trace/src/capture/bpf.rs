//! Capture by BPF programs on raw tracepoints.
//!
//! The programs (`crates/sys/bpf/jobs.bpf.c`) write records as Linux 6.17 prints them, on every kernel, with the submitter's process
//! beside; [`formats`] says how they lie. They go into one ring for all processors, which is read by time.
//!
//! This process is not left out: it submits no jobs, and where it is the one interrupted by a job's end, that end counts.

mod formats;

use super::{Backend, Capture, CaptureError, Drained, Wanted};
use crate::{EventFormat, RawRecord, RecordSink};
use gpuscope_model::trace::{Dropped, Family};
use gpuscope_pmu::{Capability, Rights};
use gpuscope_sys::Roots;
use gpuscope_sys::bpf::{BpfError, Jobs};

/// A capture by BPF programs.
#[derive(Debug)]
pub struct BpfCapture {
    jobs: Jobs,
    formats: Vec<EventFormat>,
    /// When the reading before the last began, and gave all there was.
    complete_ns: u64,
}

impl BpfCapture {
    /// Begins a capture. Needs CAP_BPF and CAP_PERFMON, and neither root nor tracefs.
    ///
    /// # Errors
    /// [`CaptureError::Permission`]; [`CaptureError::Unsupported`] for a kernel without type information, without a driver that uses the
    /// DRM scheduler, or where no wanted family is captured this way; [`CaptureError::Failed`].
    pub fn open(roots: &Roots, wanted: &Wanted) -> Result<BpfCapture, CaptureError> {
        if !wanted.families.contains(&Family::DrmSched) {
            return Err(CaptureError::Unsupported {
                what: "none of the families asked for is captured by BPF".into(),
                remedy: "ask for gpu_scheduler, or capture by tracefs".into(),
            });
        }
        let jobs = Jobs::open(roots, wanted.buffer_bytes).map_err(|error| explain(roots, error))?;
        Ok(BpfCapture { formats: formats::of(jobs.fields()), jobs, complete_ns: 0 })
    }
}

impl Capture for BpfCapture {
    fn backend(&self) -> Backend {
        Backend::Bpf
    }

    fn formats(&self) -> &[EventFormat] {
        &self.formats
    }

    /// A program takes its time first and reserves room later. So when a reading has given all that was reserved when it began, a record
    /// may still come whose time is a little before that; what is promised is the beginning of the complete reading before it, as perf
    /// does between its rounds (PERF_RECORD_FINISHED_ROUND). A reading that met a record being filled promises nothing new.
    fn drain(&mut self, sink: &mut dyn RecordSink) -> Result<Drained, CaptureError> {
        let read =
            self.jobs.read(|record| sink.record(RawRecord { at_ns: record.at_ns, cpu: record.cpu, data: record.data }));
        let until_ns = self.complete_ns;
        if let Some(at_ns) = read.complete_at_ns {
            self.complete_ns = at_ns;
        }
        Ok(Drained { until_ns, records: read.records })
    }

    fn dropped(&mut self) -> Result<Dropped, CaptureError> {
        let lost = self.jobs.lost().map_err(failed)?;
        Ok(Dropped { ring_full: lost.ring_full, missed: lost.missed, ..Dropped::default() })
    }

    /// None: records carry process and name of who submitted.
    fn tasks(&mut self, _each: &mut dyn FnMut(u32, u32, &str)) {}
}

/// Says what would help.
fn explain(roots: &Roots, error: BpfError) -> CaptureError {
    let unsupported = |what: String, remedy: &str| CaptureError::Unsupported { what, remedy: remedy.into() };
    match error {
        BpfError::Permission { .. } => CaptureError::Permission {
            what: error.to_string(),
            remedy: Rights::read(roots).remedy_for(&[Capability::Bpf, Capability::Perfmon]),
        },
        BpfError::NoTracepoint { .. } => unsupported(
            format!("no driver that uses the DRM scheduler is loaded: {error}"),
            "load the GPU's driver first; i915 and NVIDIA's own driver do without this scheduler",
        ),
        BpfError::NoBtf { .. } | BpfError::Unsupported { .. } | BpfError::InnerPidNamespace => {
            unsupported(error.to_string(), "capture by tracefs or perf")
        }
        BpfError::Rejected { .. } | BpfError::Io { .. } => failed(error),
    }
}

fn failed(error: BpfError) -> CaptureError {
    CaptureError::Failed { what: error.to_string() }
}

#[cfg(test)]
mod tests;
