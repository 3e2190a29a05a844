//! Steps of events, for tests.

use gpuscope_model::trace::{Event, EventKind, Family, JobKey, StepKind, StepRef, StepTemplate, StepThread, StepValue};

/// A step that refers to nothing else.
pub(crate) struct OwnedStep {
    at_ns: u64,
    seqno: u64,
    cpu: u16,
    short: u32,
    of: StepTemplate,
    thread: StepThread,
}

impl OwnedStep {
    /// The step that an event is, if it is one.
    pub(crate) fn of(event: &Event) -> Option<OwnedStep> {
        let JobKey::Fence { context, seqno } = event.key.filter(|_| event.family == Family::DrmSched)? else {
            return None;
        };
        let kind = match event.kind {
            EventKind::Submit => StepKind::Submit,
            EventKind::Commit => StepKind::Commit,
            EventKind::Complete => StepKind::Complete,
            _ => return None,
        };
        let value = if event.value.is_some() { StepValue::Signed } else { StepValue::None };
        let of = StepTemplate::new(kind, context, event.client, event.ring, value);
        let short = i32::try_from(event.value.unwrap_or(0)).unwrap().cast_unsigned();
        let thread = StepThread { tid: event.tid, pid: event.pid, comm: event.comm };
        let step = OwnedStep { at_ns: event.at_ns, seqno, cpu: event.cpu, short, of, thread };
        assert_eq!(step.step().event(), *event);
        Some(step)
    }

    pub(crate) fn step(&self) -> StepRef<'_> {
        let OwnedStep { at_ns, seqno, cpu, short, of, thread } = self;
        StepRef { at_ns: *at_ns, seqno: *seqno, cpu: *cpu, short: *short, of, thread }
    }
}
