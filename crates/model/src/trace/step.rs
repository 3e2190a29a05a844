//! Steps of jobs: what nearly all events of a trace are, in fewer bytes than an event has.

use super::{Event, EventKind, Family, JobKey, NameId, RingId};

/// One moment of one job that its whole fence names, as the DRM scheduler tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub at_ns: u64,
    /// Context of the fence.
    pub context: u64,
    /// Its number there.
    pub seqno: u64,
    /// The ring, where it is named.
    pub ring: Option<RingId>,
    /// As in [`Event`].
    pub cpu: u16,
    /// See there.
    pub tid: u32,
    /// See there.
    pub pid: u32,
    /// See there.
    pub comm: NameId,
    /// See there.
    pub client: Option<u64>,
    /// See there.
    pub value: Option<i64>,
}

/// What a [`Step`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// [`EventKind::Submit`].
    Submit,
    /// [`EventKind::Commit`].
    Commit,
    /// [`EventKind::Complete`].
    Complete,
}

impl StepKind {
    /// All of them.
    pub const ALL: [StepKind; 3] = [StepKind::Submit, StepKind::Commit, StepKind::Complete];

    /// The kind of its event.
    #[inline(always)]
    pub fn of_event(self) -> EventKind {
        match self {
            StepKind::Submit => EventKind::Submit,
            StepKind::Commit => EventKind::Commit,
            StepKind::Complete => EventKind::Complete,
        }
    }
}

impl Step {
    /// What an event says, but for its key.
    #[inline(always)]
    pub fn of(event: &Event) -> Step {
        let Event { at_ns, ring, cpu, tid, pid, comm, client, value, .. } = *event;
        Step { at_ns, context: 0, seqno: 0, ring, cpu, tid, pid, comm, client, value }
    }

    /// The event that it is.
    #[inline(always)]
    pub fn event(&self, kind: StepKind) -> Event {
        Event {
            at_ns: self.at_ns,
            kind: kind.of_event(),
            family: Family::DrmSched,
            cpu: self.cpu,
            tid: self.tid,
            pid: self.pid,
            comm: self.comm,
            ring: self.ring,
            key: Some(JobKey::Fence { context: self.context, seqno: self.seqno }),
            other: None,
            client: self.client,
            value: self.value,
        }
    }
}

/// What thousands of steps have in common. As small as will do: those of which steps follow one another are to stay in the nearest cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTemplate {
    context: u64,
    client: u64,
    ring: u32,
    kind: StepKind,
    shape: u8,
    value: StepValue,
    has_client: bool,
}

const _: () = assert!(size_of::<StepTemplate>() == 24);

/// What [`StepRef::short`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepValue {
    /// Nothing that an event has.
    None,
    /// [`Step::value`], above 0.
    Unsigned,
    /// [`Step::value`], with a sign.
    Signed,
}

/// Who is told to have made a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepThread {
    /// As in [`Event`].
    pub tid: u32,
    /// See there.
    pub pid: u32,
    /// See there.
    pub comm: NameId,
}

impl StepTemplate {
    /// No ring, among places of rings.
    pub const NO_RING: u32 = u32::MAX;

    /// Of steps of this kind, of jobs of this context, client and ring, that have such a value.
    pub fn new(
        kind: StepKind,
        context: u64,
        client: Option<u64>,
        ring: Option<RingId>,
        value: StepValue,
    ) -> StepTemplate {
        StepTemplate {
            context,
            client: client.unwrap_or(0),
            ring: ring.map_or(StepTemplate::NO_RING, |ring| ring.0),
            kind,
            shape: match kind {
                StepKind::Submit => u8::from(client.is_some()),
                StepKind::Commit => 2,
                StepKind::Complete => 3 + u8::from(value != StepValue::None),
            },
            value,
            has_client: client.is_some(),
        }
    }

    /// What such steps are and tell, below 8: submission, the same with a client, hand-over, end, the same with a value.
    #[inline(always)]
    pub fn shape(&self) -> usize {
        usize::from(self.shape & 7)
    }

    /// What such steps are.
    #[inline(always)]
    pub fn kind(&self) -> StepKind {
        self.kind
    }

    /// Context of the fences.
    #[inline(always)]
    pub fn context(&self) -> u64 {
        self.context
    }

    /// As in [`Step`].
    #[inline(always)]
    pub fn ring(&self) -> Option<RingId> {
        (self.ring != StepTemplate::NO_RING).then_some(RingId(self.ring))
    }

    /// Place of the ring in a list of all: [`StepTemplate::NO_RING`] if there is none.
    #[inline(always)]
    pub fn ring_place(&self) -> u32 {
        self.ring
    }

    /// The client, or 0 where it is not told.
    #[inline(always)]
    pub fn client_or_zero(&self) -> u64 {
        self.client
    }

    /// Whether the client is told.
    #[inline(always)]
    pub fn has_client(&self) -> bool {
        self.has_client
    }

    /// What the short number is.
    #[inline(always)]
    pub fn value(&self) -> StepValue {
        self.value
    }
}

/// A [`Step`] by what it has in common with others.
#[derive(Clone, Copy, Debug)]
pub struct StepRef<'a> {
    /// As in [`Step`].
    pub at_ns: u64,
    /// See there.
    pub seqno: u64,
    /// See there.
    pub cpu: u16,
    /// What [`StepTemplate::value`] says.
    pub short: u32,
    /// What else it says of its job.
    pub of: &'a StepTemplate,
    /// Whose it is.
    pub thread: &'a StepThread,
}

impl StepRef<'_> {
    /// All of it.
    #[inline(always)]
    pub fn step(&self) -> Step {
        let StepRef { of, thread, .. } = *self;
        let signed = i64::from(self.short as i32);
        let all = if of.value == StepValue::Signed { -1 } else { i64::from(u32::MAX) };
        Step {
            at_ns: self.at_ns,
            context: of.context,
            seqno: self.seqno,
            ring: of.ring(),
            cpu: self.cpu,
            tid: thread.tid,
            pid: thread.pid,
            comm: thread.comm,
            client: of.has_client.then_some(of.client),
            value: (of.value != StepValue::None).then_some(signed & all),
        }
    }

    /// The event that it is.
    #[inline(always)]
    pub fn event(&self) -> Event {
        self.step().event(self.of.kind)
    }
}
