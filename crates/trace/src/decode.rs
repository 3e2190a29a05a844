//! From records to events.

use crate::families::{self, Joined, Key, RingFields, Spec};
use crate::record::{Number, Words, until_zero};
use crate::{EventFormat, RawRecord, retold};
use fences::Fences;
use gpuscope_model::trace::{Event, EventKind, Family, JobKey, NameId, RingId, StepThread, TraceNames};
use memo::{Memo, Recent, Short};
use packed::Resolved;
pub use packed::{StepSink, Steps};
use quick::{
    BPF_DONE, BPF_QUEUE, BPF_RUN, CommsByArrays, FENCE, Kind, Numbers, Quick, RingText, RingsByArrays, RingsByTails,
    Shape, TRACEFS_JOB,
};
use rings::{RingPlan, Rings};
use rustc_hash::FxHashMap;

mod fences;
mod memo;
mod packed;
mod quick;
mod rings;

/// Turns records into [`Event`]s. It is told the formats first, and of threads as they become known.
#[derive(Debug)]
pub struct Decoder {
    /// By format number, as what follows.
    kinds: Vec<Kind>,
    plans: Vec<Option<Plan>>,
    seen: Seen,
    /// The last one.
    event: Event,
    unreadable: u64,
    /// Of frames of packed records, those that were seen last.
    packed: Resolved,
}

/// What records refer to.
#[derive(Debug, Default)]
struct Seen {
    names: TraceNames,
    /// By the bytes of a field, what stands behind the text's end included.
    texts: Memo<Short, NameId>,
    /// By the bytes of the device's field and of the ring's.
    rings: Memo<(Short, Short), RingId>,
    tails: RingsByTails,
    arrays: RingsByArrays,
    comm_of: CommsByArrays,
    tasks: FxHashMap<u32, Task>,
    /// What is known of a thread, by its number.
    task_of: Recent<u32, Task>,
    numbered: Numbered,
    /// Rings whose names are put together.
    put_together: Rings,
    fences: Fences,
}

#[derive(Clone, Copy, Debug, Default)]
struct Task {
    pid: u32,
    comm: NameId,
}

/// Addresses of jobs by their number in their ring, while they are in flight.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    by_number: FxHashMap<(RingId, u64), u64>,
    by_address: FxHashMap<u64, (RingId, u64)>,
}

impl Numbered {
    pub(crate) fn keep(&mut self, ring: RingId, number: u64, address: u64) {
        // An address given out again: the job that had it was done without our seeing it.
        if let Some(before) = self.by_address.insert(address, (ring, number))
            && before != (ring, number)
        {
            self.by_number.remove(&before);
        }
        self.by_number.insert((ring, number), address);
    }

    pub(crate) fn address(&self, ring: RingId, number: u64) -> Option<u64> {
        self.by_number.get(&(ring, number)).copied()
    }

    pub(crate) fn forget(&mut self, address: u64) {
        if let Some(number) = self.by_address.remove(&address) {
            self.by_number.remove(&number);
        }
    }
}

/// A spec, with its fields found in a format.
#[derive(Debug)]
struct Plan {
    family: Family,
    kind: EventKind,
    spec: &'static Spec,
    tid: Option<Number>,
    pid: Option<Number>,
    comm: Option<Words>,
    key: KeyPlan,
    other: Option<(Number, Number)>,
    ring: RingPlan,
    gpu: Option<Words>,
    gpu_number: Option<(Number, &'static str)>,
    /// The driver's name, which some traces lack, and the timeline.
    fence: Option<(Option<Words>, Words)>,
    client: Option<Number>,
    value: Option<Number>,
    value_with: Option<(Number, Joined)>,
    quick: Option<Quick>,
}

#[derive(Clone, Copy, Debug)]
enum KeyPlan {
    None,
    Fence(Number, Number),
    FenceLow(Number, Number),
    Counted(Number),
    Address(Number, Option<Number>),
    NumberInRing(Number),
}

impl Plan {
    /// None where a field is missing without which the event says nothing.
    fn new(family: Family, kind: EventKind, spec: &'static Spec, format: &EventFormat) -> Option<Plan> {
        let number = |name: &str| Number::find(format, &[name]);
        let key = match spec.key {
            Key::None => KeyPlan::None,
            Key::Fence(context, seqno) => {
                let (context, seqno) = (number(context)?, number(seqno)?);
                if context.is_cut() || seqno.is_cut() {
                    KeyPlan::FenceLow(context, seqno)
                } else {
                    KeyPlan::Fence(context, seqno)
                }
            }
            Key::ShortFence(context, seqno) => KeyPlan::Fence(number(context)?, number(seqno)?),
            Key::Counted(names) => KeyPlan::Counted(Number::find(format, names)?),
            Key::Address(address, in_ring) => KeyPlan::Address(number(address)?, in_ring.and_then(number)),
            Key::NumberInRing(in_ring) => KeyPlan::NumberInRing(number(in_ring)?),
        };
        let gpu_number = spec.gpu_number.and_then(|(name, before)| Some((number(name)?, before)));
        let ring = RingPlan::new(spec.ring, format);
        let tid = Number::find(format, &[spec.tid.unwrap_or("common_pid")]);
        let gpu = spec.gpu.and_then(|name| Words::find(format, &[name]));
        let comm = spec.comm.and_then(|name| Words::find(format, &[name]));
        let value_with = spec.value_with.and_then(|(name, means)| Some((number(name)?, means)));
        let (pid, client, value) = (number("tgid"), spec.client.and_then(number), spec.value.and_then(number));
        let named = match ring {
            RingPlan::Named(name) => Some(name),
            _ => None,
        };
        let quick = is_plain(spec)
            .then(|| Quick::new(key, &Numbers { tid, pid, client, value }, RingText::of(gpu, named), comm))
            .flatten();
        Some(Plan {
            family,
            kind,
            spec,
            tid,
            quick,
            pid,
            comm,
            key,
            other: spec.other.and_then(|(context, seqno)| Some((number(context)?, number(seqno)?))),
            ring,
            gpu,
            gpu_number,
            fence: spec.fence.and_then(|(driver, timeline)| {
                Some((Words::find(format, &[driver]), Words::find(format, &[timeline])?))
            }),
            client,
            value,
            value_with,
        })
    }
}

/// Whether a record says nothing but numbers of its fence and of itself, and perhaps names its ring.
fn is_plain(spec: &Spec) -> bool {
    let is_named = matches!(spec.ring, RingFields::None | RingFields::Named(_));
    is_named && spec.other.is_none() && spec.value_as.is_none() && spec.value_with.is_none() && spec.fence.is_none()
}

/// What is written over.
const NO_EVENT: Event = Event {
    at_ns: 0,
    kind: EventKind::Test,
    family: Family::Machine,
    cpu: 0,
    tid: 0,
    pid: 0,
    comm: NameId(0),
    ring: None,
    key: None,
    other: None,
    client: None,
    value: None,
};

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            kinds: Vec::new(),
            plans: Vec::new(),
            seen: Seen::default(),
            event: NO_EVENT,
            unreadable: 0,
            packed: Resolved::default(),
        }
    }
}

impl Decoder {
    /// A decoder that knows no format yet.
    pub fn new() -> Self {
        Decoder::default()
    }

    /// Says how records of a kind are laid out. Returns whether that kind is understood; the records of others are passed over.
    pub fn add_format(&mut self, format: &EventFormat) -> bool {
        let found = match format.system.as_str() {
            retold::SYSTEM => retold::find(format),
            system => families::find(system, &format.name).map(|(family, spec)| (family, spec.kind, spec)),
        };
        let plan = found.and_then(|(family, kind, spec)| Plan::new(family, kind, spec, format));
        self.packed.forget();
        let at = usize::from(format.id);
        if self.plans.len() <= at {
            let none = Kind { shape: Shape::None, kind: NO_EVENT.kind, family: NO_EVENT.family };
            self.plans.resize_with(at.saturating_add(1), || None);
            self.kinds.resize(at.saturating_add(1), none);
        }
        let is_understood = plan.is_some();
        if let (Some(place), Some(kind)) = (self.plans.get_mut(at), self.kinds.get_mut(at)) {
            if let Some(plan) = &plan {
                *kind = Kind { shape: Shape::of(plan.quick.as_ref()), kind: plan.kind, family: plan.family };
            } else {
                kind.shape = Shape::None;
            }
            *place = plan;
        }
        is_understood
    }

    /// Says which process a thread belongs to (0: not known) and what it is called, from now on.
    pub fn set_task(&mut self, tid: u32, pid: u32, comm: &str) {
        self.packed.forget();
        let comm = self.seen.names.text(comm);
        self.seen.set_task(tid, Task { pid, comm });
    }

    /// Says which GPU a driver's own name for a device stands for, from now on: `card0`, `virtio1`.
    pub fn set_device(&mut self, own: &str, gpu: &str) {
        self.seen.put_together.set_device(own, gpu);
    }

    /// The names that events refer to.
    pub fn names(&self) -> &TraceNames {
        &self.seen.names
    }

    /// Records too short for their format, so far.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The event that a record tells of; none for a kind that is not understood, and for a record that is too short, which is counted.
    #[inline]
    pub fn decode(&mut self, record: RawRecord<'_>) -> Option<Event> {
        self.decode_here(record).map(|(event, _)| *event)
    }

    /// The same, left where it was made, with the names that it refers to: for a single place that takes tens of millions of records.
    #[inline(always)]
    pub fn decode_here(&mut self, record: RawRecord<'_>) -> Option<(&Event, &TraceNames)> {
        let id = record.id().unwrap_or(u16::MAX);
        let (seen, event) = (&mut self.seen, &mut self.event);
        // Each constant is code of its own.
        let is_done = match self.kinds.get(usize::from(id)) {
            None => None,
            Some(kind) => match kind.shape {
                Shape::TracefsJob => TRACEFS_JOB.decode(kind, record, seen, event),
                Shape::Fence => FENCE.decode(kind, record, seen, event),
                Shape::BpfQueue => BPF_QUEUE.decode(kind, record, seen, event),
                Shape::BpfRun => BPF_RUN.decode(kind, record, seen, event),
                Shape::BpfDone => BPF_DONE.decode(kind, record, seen, event),
                Shape::None | Shape::Other => None,
            },
        };
        if is_done.is_none() {
            self.decode_otherwise(record)?;
        }
        Some((&self.event, &self.seen.names))
    }

    /// Of layouts that are not among the most common, and of records that are too short for the quick way.
    #[inline(never)]
    fn decode_otherwise(&mut self, record: RawRecord<'_>) -> Option<()> {
        let Some(id) = record.id() else { return self.not_readable() };
        let plan = self.plans.get(usize::from(id))?.as_ref()?;
        if let Some(quick) = &plan.quick
            && let Some(kind) = self.kinds.get(usize::from(id))
            && let Some(()) = quick.decode(kind, record, &mut self.seen, &mut self.event)
        {
            return Some(());
        }
        match plan.event(record, &mut self.seen) {
            None => self.not_readable(),
            Some(event) => {
                self.event = event;
                Some(())
            }
        }
    }

    #[cold]
    fn not_readable(&mut self) -> Option<()> {
        self.unreadable = self.unreadable.saturating_add(1);
        None
    }
}

impl Plan {
    fn event(&self, record: RawRecord<'_>, seen: &mut Seen) -> Option<Event> {
        let data = record.data;
        let number = |field: Option<Number>| match field {
            Some(field) => field.get(data).map(Some),
            None => Some(None),
        };
        let StepThread { tid, pid, comm } = self.thread(data, seen)?;
        let mut ring = self.ring(data, record.id()?, seen)?;
        let key = match self.key {
            KeyPlan::None => None,
            KeyPlan::Fence(context, seqno) => {
                Some(JobKey::Fence { context: context.get(data)?, seqno: seqno.get(data)? })
            }
            KeyPlan::FenceLow(context, seqno) => {
                Some(JobKey::FenceLow { context: context.get(data)? as u32, seqno: seqno.get(data)? as u32 })
            }
            KeyPlan::Counted(number) => {
                let number = number.get(data)?;
                ring.filter(|_| number != 0).map(|ring| JobKey::InRing { ring, number })
            }
            KeyPlan::Address(address, in_ring) => {
                let address = address.get(data)?;
                match (number(in_ring)?, ring) {
                    (Some(in_ring), Some(ring)) => seen.numbered.keep(ring, in_ring, address),
                    _ if self.kind == EventKind::Complete => seen.numbered.forget(address),
                    _ => {}
                }
                Some(JobKey::Address(address))
            }
            KeyPlan::NumberInRing(in_ring) => {
                let number = in_ring.get(data)?;
                ring.and_then(|ring| seen.numbered.address(ring, number)).map(JobKey::Address)
            }
        };
        let other = match self.other {
            Some((context, seqno)) => {
                let (cut, context, seqno_at) = (context.is_cut() || seqno.is_cut(), context.get(data)?, seqno);
                let seqno = seqno_at.get(data)?;
                Some(if cut {
                    JobKey::FenceLow { context: context as u32, seqno: seqno as u32 }
                } else {
                    JobKey::Fence { context, seqno }
                })
            }
            None => None,
        };
        let mut kind = self.kind;
        if let (Some((driver, timeline)), Some(JobKey::FenceLow { context, .. })) = (self.fence, key) {
            let of = seen.fences.see(
                context,
                driver.map_or(Some(&[][..]), |driver| driver.get(data))?,
                timeline.get(data)?,
                &mut seen.names,
            );
            ring = of.ring;
            if of.is_job && kind == EventKind::FenceInit {
                kind = EventKind::SubmitCommit;
            }
        }
        Some(Event {
            at_ns: record.at_ns,
            kind,
            family: self.family,
            cpu: record.cpu,
            tid,
            pid,
            comm,
            ring,
            key,
            other,
            client: number(self.client)?,
            value: match (number(self.value)?, self.value_with) {
                (Some(n), Some((with, means))) => Some(means(n, with.get(data)?)),
                (n, _) => n.and_then(|n| self.spec.value_as.map_or(Some(n.cast_signed()), |means| means(n))),
            },
        })
    }

    /// The ring's number, if the record names one; none of all where it should and is too short.
    fn ring(&self, data: &[u8], id: u16, seen: &mut Seen) -> Option<Option<RingId>> {
        let RingPlan::Named(name) = self.ring else {
            return seen.put_together.get(self, data, id, &mut seen.names);
        };
        let gpu = match self.gpu {
            Some(gpu) => gpu.get(data)?,
            None => &[],
        };
        Some(Some(seen.ring(gpu, name.get(data)?)))
    }
}

impl Seen {
    #[inline(always)]
    fn task(&mut self, tid: u32) -> Task {
        match self.task_of.get(tid.into(), &tid) {
            Some(task) => task,
            None => self.remember(tid),
        }
    }

    #[cold]
    fn remember(&mut self, tid: u32) -> Task {
        let task = self.tasks.get(&tid).copied().unwrap_or_default();
        self.task_of.put(tid.into(), tid, task);
        task
    }

    fn set_task(&mut self, tid: u32, task: Task) {
        self.tasks.insert(tid, task);
        self.remember(tid);
    }

    #[inline]
    fn text(&mut self, field: &[u8]) -> NameId {
        let short = Short::new(field);
        match short.as_ref().and_then(|key| self.texts.get(key)) {
            Some(id) => id,
            None => {
                let id = self.names.text(&String::from_utf8_lossy(until_zero(field)));
                self.texts.put(short, id);
                id
            }
        }
    }

    #[inline]
    fn ring(&mut self, gpu: &[u8], name: &[u8]) -> RingId {
        let short = Short::new(gpu).zip(Short::new(name));
        match short.as_ref().and_then(|key| self.rings.get(key)) {
            Some(id) => id,
            None => self.new_ring(gpu, name, short),
        }
    }

    #[cold]
    fn new_ring(&mut self, gpu: &[u8], name: &[u8], short: Option<(Short, Short)>) -> RingId {
        let gpu = until_zero(gpu);
        let gpu = (!gpu.is_empty()).then(|| String::from_utf8_lossy(gpu));
        let id = self.names.ring(gpu.as_deref(), &String::from_utf8_lossy(until_zero(name)));
        self.rings.put(short, id);
        id
    }
}

#[cfg(test)]
mod tests;
