//! Packed records: what a frame's records have in common is decoded once, and of each record there are a few numbers left to take.

use super::{Decoder, KeyPlan, Plan, Seen};
use crate::record::Number;
use crate::recording::{Packed, PackedRecord, PackedRecords, PackedTemplate, UnpackedData};
use gpuscope_model::trace::{Event, EventKind, Family, NameId, RingId, Step, StepKind, TraceNames};
use rustc_hash::FxHashMap;

/// Takes what records tell of, with the names that it refers to.
pub trait StepSink {
    /// A step of a job, in place of its event. Each kind is given by itself.
    fn step(&mut self, kind: StepKind, step: &Step, names: &TraceNames);
    /// Any other event.
    fn event(&mut self, event: &Event, names: &TraceNames);
}

/// Frames that are remembered: those of a round may be given in turns.
const FRAMES: usize = 64;

/// Frames of which the common parts are decoded.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// By the lowest bits of their number.
    frames: Vec<Option<Box<Frame>>>,
    /// Templates of all frames, which mostly are those of the frame before: by their data, with how they lie.
    places: FxHashMap<Box<[u8]>, (u64, Place)>,
    /// Threads of all frames in the same way: by their format and what it says of them.
    threads: FxHashMap<u16, Threads>,
    /// How many threads those are.
    threads_known: usize,
    /// Templates and threads that were looked at, and records that were given.
    looked_at: u64,
    given: u64,
}

/// Threads, as records of one format tell of them.
#[derive(Debug, Default)]
struct Threads {
    /// In which of their bytes.
    ranges: u64,
    known: FxHashMap<Box<[u8]>, Thread>,
}

/// Templates and threads that are looked at for each record, at most, and as many ahead. Frames that are given in turns may push each other
/// out of what is remembered: then records are decoded one by one.
const LOOKS: u64 = 16;
const LOOKS_AHEAD: u64 = 1 << 20;

/// Templates, and threads, that are remembered. Where there are more, all are forgotten: those that are still there come again.
const MOST_KNOWN: usize = 1 << 16;

impl Resolved {
    /// What was decoded may mean something else now.
    pub(super) fn forget(&mut self) {
        self.frames.clear();
        self.places.clear();
        self.forget_threads();
    }

    fn forget_threads(&mut self) {
        self.threads.clear();
        self.threads_known = 0;
    }
}

#[derive(Debug)]
struct Frame {
    number: u64,
    places: Vec<Place>,
    threads: Vec<Thread>,
}

/// A template, as small as will do: those of a frame are to stay in the nearest cache.
#[derive(Clone, Copy, Debug)]
struct Place {
    context: u64,
    client: u64,
    ring: u32,
    /// None of records that are put together again to be decoded.
    kind: Option<StepKind>,
    has_client: bool,
    value: Value,
}

const _: () = assert!(size_of::<Place>() == 24);

impl Place {
    #[inline(always)]
    fn step(&self, thread: &Thread, record: PackedRecord<'_>) -> Step {
        Step {
            at_ns: record.at_ns,
            context: self.context,
            seqno: record.long,
            ring: (self.ring != NO_RING).then_some(RingId(self.ring)),
            cpu: record.cpu,
            tid: thread.tid,
            pid: thread.pid,
            comm: thread.comm,
            client: self.has_client.then_some(self.client),
            value: self.value.of(record.short),
        }
    }
}

/// No ring.
const NO_RING: u32 = u32::MAX;

/// What a record's short number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Nothing that an event has.
    None,
    Unsigned,
    Signed,
}

impl Value {
    #[inline(always)]
    fn of(self, short: u32) -> Option<i64> {
        let signed = i64::from(short.cast_signed());
        let all = if self == Value::Signed { -1 } else { i64::from(u32::MAX) };
        (self != Value::None).then_some(signed & all)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thread {
    pub(super) tid: u32,
    pub(super) pid: u32,
    pub(super) comm: NameId,
}

impl Decoder {
    /// Gives what packed records tell of.
    pub fn decode_packed(&mut self, packed: Packed<'_>, records: PackedRecords<'_>, sink: &mut impl StepSink) {
        let at = packed.number() as usize % FRAMES;
        if self.packed.frames.len() < FRAMES {
            self.packed.frames.resize_with(FRAMES, || None);
        }
        let known =
            self.packed.frames.get_mut(at).and_then(Option::take).filter(|frame| frame.number == packed.number());
        let (looked_at, given) = (self.packed.looked_at, self.packed.given);
        self.packed.given = given.saturating_add(records.count() as u64);
        let frame = match known {
            Some(frame) => frame,
            None if looked_at > given.saturating_mul(LOOKS).saturating_add(LOOKS_AHEAD) => {
                let mut rest = records;
                while rest.count() > 0 {
                    self.decode_unpacked(packed, rest, sink);
                    rest.next();
                }
                return;
            }
            None => Box::new(self.resolve(packed)),
        };
        let mut rest = records;
        loop {
            let here = rest;
            let Some(record) = rest.next() else { break };
            let Some(place) = frame.places.get(usize::from(record.template)) else { continue };
            let Some(thread) = frame.threads.get(usize::from(record.thread)) else { continue };
            let names = &self.seen.names;
            // Each arm makes a step of its own, so that none makes what it does not use.
            match place.kind {
                Some(StepKind::Submit) => sink.step(StepKind::Submit, &place.step(thread, record), names),
                Some(StepKind::Commit) => sink.step(StepKind::Commit, &place.step(thread, record), names),
                Some(StepKind::Complete) => sink.step(StepKind::Complete, &place.step(thread, record), names),
                // Which takes it out again: a record is not to stand in memory for this alone.
                None => self.decode_unpacked(packed, here, sink),
            }
        }
        if let Some(place) = self.packed.frames.get_mut(at) {
            *place = Some(frame);
        }
    }

    /// Of the first of these.
    #[inline(never)]
    fn decode_unpacked(&mut self, packed: Packed<'_>, mut records: PackedRecords<'_>, sink: &mut impl StepSink) {
        let mut data = UnpackedData::default();
        if let Some(record) = records.next()
            && let Some(record) = packed.unpack(&record, &mut data)
            && let Some((event, names)) = self.decode_here(record)
        {
            sink.event(event, names);
        }
    }

    #[cold]
    fn resolve(&mut self, packed: Packed<'_>) -> Frame {
        let plans = &self.plans;
        let plan = |data: &[u8]| {
            let id = u16::from_ne_bytes(*data.first_chunk()?);
            plans.get(usize::from(id))?.as_ref()
        };
        let seen = &mut self.seen;
        // What is asked of a layout has one answer for all of its templates, as long as they are of one format.
        let mut layouts: Vec<Option<([u8; 2], Option<Shape<'_>>)>> = vec![None; packed.layouts()];
        let resolved = &mut self.packed;
        let looks = packed.templates().saturating_add(packed.threads());
        resolved.looked_at = resolved.looked_at.saturating_add(looks as u64);
        if resolved.places.len() >= MOST_KNOWN {
            resolved.places.clear();
        }
        if resolved.threads_known >= MOST_KNOWN {
            resolved.forget_threads();
        }
        let known = &mut resolved.places;
        let places = (0..packed.templates()).map(|at| {
            let template = packed.template(at)?;
            if let Some((layout, place)) = known.get(template.data)
                && *layout == template.layout()
            {
                return Some(*place);
            }
            let (id, of_layout) = (*template.data.first_chunk()?, layouts.get_mut(template.layout_place())?);
            let shape = match of_layout {
                Some((of, shape)) if *of == id => *shape,
                other => other.insert((id, plan(template.data).and_then(|plan| plan.shape(&template)))).1,
            };
            let place = shape?.place(template.data, seen)?;
            known.insert(template.data.into(), (template.layout(), place));
            Some(place)
        });
        let none = Place { context: 0, client: 0, ring: NO_RING, kind: None, has_client: false, value: Value::None };
        let places = places.map(|place| place.unwrap_or(none)).collect();
        let mut data = UnpackedData::default();
        let threads = (0..packed.threads()).map(|at| {
            let Some(thread) = packed.thread(at) else { return Thread::default() };
            let Some(of_format) = plans.get(usize::from(thread.format)).and_then(Option::as_ref) else {
                return Thread::default();
            };
            let of = resolved.threads.entry(thread.format).or_default();
            if of.ranges != thread.ranges() {
                resolved.threads_known = resolved.threads_known.saturating_sub(of.known.len());
                *of = Threads { ranges: thread.ranges(), known: FxHashMap::default() };
            }
            if let Some(known) = of.known.get(thread.bytes) {
                return *known;
            }
            let bytes = thread.unpack(&mut data);
            let found = bytes.and_then(|bytes| of_format.thread(bytes, seen)).unwrap_or_default();
            of.known.insert(thread.bytes.into(), found);
            resolved.threads_known = resolved.threads_known.saturating_add(1);
            found
        });
        Frame { number: packed.number(), places, threads: threads.collect() }
    }
}

/// How the records of a layout tell of a step.
#[derive(Clone, Copy, Debug)]
struct Shape<'a> {
    plan: &'a Plan,
    kind: StepKind,
    context: Number,
    value: Value,
}

impl Shape<'_> {
    /// What a template's records have in common.
    fn place(&self, data: &[u8], seen: &mut Seen) -> Option<Place> {
        let ring = self.plan.ring(data, u16::from_ne_bytes(*data.first_chunk()?), seen)?;
        let client = self.plan.client;
        Some(Place {
            context: self.context.get(data)?,
            client: client.map_or(Some(0), |client| client.get(data))?,
            ring: ring.map_or(NO_RING, |ring| ring.0),
            kind: Some(self.kind),
            has_client: client.is_some(),
            value: self.value,
        })
    }
}

impl Plan {
    /// None of records that say more than a step does, or lie in another way.
    fn shape(&self, template: &PackedTemplate<'_>) -> Option<Shape<'_>> {
        let kind = match self.kind {
            EventKind::Submit => StepKind::Submit,
            EventKind::Commit => StepKind::Commit,
            EventKind::Complete => StepKind::Complete,
            _ => return None,
        };
        let KeyPlan::Fence(context, seqno) = self.key else { return None };
        let is_plain = self.family == Family::DrmSched && self.quick.is_some();
        let of_thread = [self.tid, self.pid].into_iter().flatten().map(Number::range);
        let of_thread = of_thread.chain(self.comm.map(|comm| comm.field().unwrap_or((0, u16::MAX))));
        if !is_plain
            || seqno.range() != (template.long?, 8)
            || ![Some(context), self.client].into_iter().flatten().all(|of| template.is_common(of.range()))
            || !of_thread.into_iter().all(|range| template.is_of_thread(range))
        {
            return None;
        }
        let value = match self.value {
            None => Value::None,
            Some(value) if template.short.map(|at| (at, 4)) != Some(value.range()) => return None,
            Some(value) if value.is_signed() => Value::Signed,
            Some(_) => Value::Unsigned,
        };
        Some(Shape { plan: self, kind, context, value })
    }

    /// Who a record says that its thread is. It may be a record that says nothing else.
    pub(super) fn thread(&self, data: &[u8], seen: &mut Seen) -> Option<Thread> {
        let number = |field: Option<Number>| match field {
            Some(field) => field.get(data).map(Some),
            None => Some(None),
        };
        let tid = number(self.tid)?.unwrap_or(0) as u32;
        let task = seen.task(tid);
        let comm = match self.comm {
            Some(words) => seen.text(words.get(data)?),
            None => task.comm,
        };
        let pid = number(self.pid)?.map_or(task.pid, |pid| pid as u32);
        Some(Thread { tid, pid, comm })
    }
}
