//! Events as Perfetto's own tracer writes them, so that its parser and its SQL modules find them, too.
//!
//! Numbers of fields are those of protos/perfetto/trace/ftrace/{ftrace_event_bundle,ftrace_event,gpu_scheduler,dma_fence}.proto.
//! Perfetto knows a ring by its name alone there (src/trace_processor/importers/ftrace/drm_tracker.cc), so two GPUs with rings of one
//! name share a track, and it ends the oldest job whichever ended. Our own tracks stand beside them for that reason.

use super::proto::Message;
use gpuscope_model::trace::{Event, EventKind, Family, JobKey, NameId, TraceNames};
use std::collections::BTreeMap;
use std::mem;

/// Bytes of a processor's events that are held back for one packet.
const BUNDLE_BYTES: usize = 8 << 10;
/// Perfetto refuses traces with more processors (src/trace_processor/importers/ftrace/ftrace_tokenizer.cc).
const MOST_CPUS: u16 = 1024;

/// Events that wait for their packet, by processor.
#[derive(Debug)]
pub(super) struct Bundles {
    /// CLOCK_BOOTTIME less CLOCK_MONOTONIC: the events of a bundle have the former.
    ahead_ns: i64,
    by_cpu: BTreeMap<u16, Message>,
}

impl Bundles {
    pub(super) fn new(ahead_ns: i64) -> Self {
        Bundles { ahead_ns, by_cpu: BTreeMap::new() }
    }

    /// Takes an event, and gives the fields of a bundle that is full.
    pub(super) fn add(&mut self, event: &Event, names: &TraceNames) -> Option<Message> {
        let (field, body) = body(event, names)?;
        if event.cpu >= MOST_CPUS {
            return None;
        }
        let bundle = self.by_cpu.entry(event.cpu).or_insert_with(|| begun(event.cpu));
        bundle.message(2, |of| {
            of.uint(1, event.at_ns.saturating_add_signed(self.ahead_ns));
            of.uint(2, u64::from(event.tid));
            of.bytes(field, body.as_bytes());
        });
        let is_full = bundle.as_bytes().len() >= BUNDLE_BYTES;
        is_full.then(|| mem::replace(bundle, begun(event.cpu)))
    }

    /// The rest.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = Message> + use<> {
        mem::take(&mut self.by_cpu)
            .into_values()
            .filter(|bundle| bundle.as_bytes().len() > begun(u16::MAX).as_bytes().len())
    }
}

fn begun(cpu: u16) -> Message {
    let mut bundle = Message::default();
    bundle.uint(1, u64::from(cpu));
    bundle
}

/// Who submits, in fields that Perfetto does not know and passes over: its own messages name the thread, whose process and name it takes
/// from elsewhere and holds to be the same all the time.
fn own_names(event: &Event, names: &TraceNames, of: &mut Message) {
    if event.kind == EventKind::Submit {
        if event.pid != 0 {
            of.uint(1001, u64::from(event.pid));
        }
        if event.comm != NameId::default() {
            of.text(1002, names.get(event.comm));
        }
    }
}

/// The number of an event's field in `FtraceEvent`, and its message. Fields that the event does not carry are left out.
fn body(event: &Event, names: &TraceNames) -> Option<(u32, Message)> {
    let mut of = Message::default();
    let ring = event.ring.and_then(|ring| names.get_ring(ring));
    let field = match (event.family, event.kind, event.key?) {
        (Family::DrmSched, EventKind::Submit | EventKind::Commit, JobKey::Fence { context, seqno }) => {
            if let Some(ring) = ring {
                of.text(1, &ring.name);
            }
            if let Some(jobs) = event.value.and_then(|jobs| u32::try_from(jobs).ok()) {
                of.uint(2, u64::from(jobs));
            }
            if let Some(gpu) = ring.and_then(|ring| ring.gpu.as_ref()) {
                of.text(4, gpu.as_str());
            }
            of.uint(5, context);
            of.uint(6, seqno);
            if let Some(client) = event.client {
                of.uint(7, client);
            }
            own_names(event, names, &mut of);
            // drm_sched_job_queue, drm_sched_job_run
            if event.kind == EventKind::Submit { 593 } else { 594 }
        }
        (Family::DrmSched, EventKind::Submit | EventKind::Commit, JobKey::Address(fence)) => {
            of.uint(2, fence);
            // `id`, the job's number in its ring, is in no event; by it Perfetto leads from queue to run. The address does the same.
            of.uint(4, fence);
            if let Some(jobs) = event.value.and_then(|jobs| u32::try_from(jobs).ok()) {
                of.uint(5, u64::from(jobs));
            }
            if let Some(ring) = ring {
                of.text(6, &ring.name);
            }
            own_names(event, names, &mut of);
            // drm_sched_job, drm_run_job
            if event.kind == EventKind::Submit { 411 } else { 412 }
        }
        (Family::DrmSched, EventKind::Complete, JobKey::Fence { context, seqno }) => {
            of.uint(1, context);
            of.uint(2, seqno);
            // Perfetto's message has no error. A field that it does not know is passed over.
            if let Some(error) = event.value {
                of.int(1000, error);
            }
            // drm_sched_job_done
            592
        }
        (Family::DrmSched, EventKind::Complete, JobKey::Address(fence)) => {
            of.uint(1, fence);
            // drm_sched_process_job
            413
        }
        (Family::DrmSched, EventKind::Dependency | EventKind::Blocked, JobKey::Fence { context, seqno }) => {
            let Some(JobKey::Fence { context: other, seqno: number }) = event.other else { return None };
            of.uint(1, context);
            of.uint(2, seqno);
            of.uint(3, other);
            of.uint(4, number);
            // drm_sched_job_add_dep, drm_sched_job_unschedulable
            if event.kind == EventKind::Dependency { 591 } else { 595 }
        }
        (Family::DmaFence | Family::FenceWait, kind, key) => {
            // A wait's fence stands in its key; of a fence that is cut to 32 bits the whole is not known, and the message has no more.
            let (context, seqno) = match key {
                JobKey::FenceLow { context, seqno } => (context, seqno),
                JobKey::Fence { context, seqno } => (context as u32, seqno as u32),
                JobKey::Address(_) | JobKey::InRing { .. } => return None,
            };
            of.uint(1, u64::from(context));
            of.uint(3, u64::from(seqno));
            if let Some(ring) = ring {
                of.text(4, &ring.name);
            }
            match kind {
                EventKind::FenceInit => 414,
                EventKind::FenceSignaled => 416,
                EventKind::WaitBegin => 417,
                EventKind::WaitEnd => 418,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((field, of))
}
