//! Two captures as one: BPF programs for the DRM scheduler's jobs, perf events for all other tracepoints.
//!
//! BPF programs on ordinary tracepoints would need the same rights as perf events (the tracepoint's number stands in tracefs), and lose
//! events without counting them: while any of them runs on a processor, `trace_call_bpf` (kernel/trace/bpf_trace.c) passes over the events
//! of interrupts there, and before Linux 6.7 nobody is told. perf counts every loss.

use super::settings::Settings;
use super::{Backend, Capture, CaptureError, Drained, PerfCapture};
use crate::{EventFormat, RecordSink};
use gpuscope_model::trace::{Dropped, TotalsSample};

/// A capture, and another one beside it.
pub(super) struct Beside {
    first: Box<dyn Capture>,
    other: PerfCapture,
    formats: Vec<EventFormat>,
}

impl Beside {
    /// The first alone where two of their layouts have the same number.
    pub(super) fn new(first: Box<dyn Capture>, other: PerfCapture) -> Result<Beside, Box<dyn Capture>> {
        if other.formats().iter().any(|of| first.formats().iter().any(|with| with.id == of.id)) {
            return Err(first);
        }
        let formats = first.formats().iter().chain(other.formats()).cloned().collect();
        Ok(Beside { first, other, formats })
    }
}

impl Capture for Beside {
    fn backend(&self) -> Backend {
        self.first.backend()
    }

    fn formats(&self) -> &[EventFormat] {
        &self.formats
    }

    fn drain(&mut self, sink: &mut dyn RecordSink) -> Result<Drained, CaptureError> {
        let first = self.first.drain(sink)?;
        let other = self.other.drain(sink)?;
        Ok(Drained {
            until_ns: first.until_ns.min(other.until_ns),
            records: first.records.saturating_add(other.records),
        })
    }

    fn dropped(&mut self) -> Result<Dropped, CaptureError> {
        let (first, other) = (self.first.dropped()?, self.other.dropped()?);
        Ok(Dropped {
            ring_full: first.ring_full.saturating_add(other.ring_full),
            unreadable: first.unreadable.saturating_add(other.unreadable),
            ..first
        })
    }

    fn tasks(&mut self, each: &mut dyn FnMut(u32, u32, &str)) {
        self.first.tasks(each);
        self.other.tasks(each);
    }

    /// The DRM scheduler's jobs are chosen; of the others' events all come.
    fn set(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        self.first.set(settings)
    }

    fn notes(&mut self) -> Vec<String> {
        let mut notes = self.first.notes();
        notes.append(&mut self.other.notes());
        notes
    }

    fn take_totals(&mut self) -> Result<TotalsSample, CaptureError> {
        self.first.take_totals()
    }
}
