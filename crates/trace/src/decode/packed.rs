//! Packed records: what a frame's records have in common is decoded once, and of each record there are a few numbers left to take.

use super::{Decoder, KeyPlan, Plan, Seen};
use crate::record::Number;
use crate::recording::{Packed, PackedRecords, PackedTemplate, UnpackedData};
use gpuscope_model::trace::{
    Event, EventKind, Family, StepKind, StepRef, StepTemplate, StepThread, StepValue, TraceNames,
};
use rustc_hash::FxHashMap;

/// Takes what records tell of, with the names that it refers to.
pub trait StepSink {
    /// Steps of jobs that follow one another, in place of their events.
    fn steps(&mut self, steps: &mut Steps<'_>, names: &TraceNames);
    /// Any other event.
    fn event(&mut self, event: &Event, names: &TraceNames);
}

/// Steps that follow one another.
#[derive(Clone, Debug)]
pub struct Steps<'a> {
    records: PackedRecords<'a>,
    frame: &'a Frame,
}

impl<'a> Iterator for Steps<'a> {
    type Item = StepRef<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<StepRef<'a>> {
        let mut rest = self.records;
        let record = rest.next()?;
        let of = self.frame.templates.get(usize::from(record.template))?.as_ref()?;
        let thread = self.frame.threads.get(usize::from(record.thread))?;
        self.records = rest;
        Some(StepRef { at_ns: record.at_ns, seqno: record.long, cpu: record.cpu, short: record.short, of, thread })
    }
}

/// Frames that are remembered: those of a round may be given in turns.
const FRAMES: usize = 64;

/// Frames of which the common parts are decoded.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// By the lowest bits of their number.
    frames: Vec<Option<Box<Frame>>>,
    /// One of which everything was given.
    spare: Option<Box<Frame>>,
    /// Templates of all frames, which mostly are those of the frame before: by their data, with how they lie.
    templates: FxHashMap<Box<[u8]>, (u64, StepTemplate)>,
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
    known: FxHashMap<Box<[u8]>, StepThread>,
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
        self.templates.clear();
        self.forget_threads();
    }

    fn forget_threads(&mut self) {
        self.threads.clear();
        self.threads_known = 0;
    }
}

#[derive(Debug, Default)]
struct Frame {
    number: u64,
    /// None of records that are put together again to be decoded.
    templates: Vec<Option<StepTemplate>>,
    threads: Vec<StepThread>,
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
            Some(known) => known,
            None if looked_at > given.saturating_mul(LOOKS).saturating_add(LOOKS_AHEAD) => {
                let mut rest = records;
                while rest.count() > 0 {
                    self.decode_unpacked(packed, rest, sink);
                    rest.next();
                }
                return;
            }
            None => self.resolve(packed),
        };
        let is_over = packed.is_end_of(&records);
        let mut steps = Steps { records, frame: &frame };
        loop {
            sink.steps(&mut steps, &self.seen.names);
            let other = steps.records;
            if steps.records.next().is_none() {
                break;
            }
            // Which takes it out again: a record is not to stand in memory for this alone.
            self.decode_unpacked(packed, other, sink);
        }
        if is_over {
            // Whose memory is near: the next frame is to have it.
            self.packed.spare = Some(frame);
        } else if let Some(place) = self.packed.frames.get_mut(at) {
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
    fn resolve(&mut self, packed: Packed<'_>) -> Box<Frame> {
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
        if resolved.templates.len() >= MOST_KNOWN {
            resolved.templates.clear();
        }
        if resolved.threads_known >= MOST_KNOWN {
            resolved.forget_threads();
        }
        let known = &mut resolved.templates;
        let templates = (0..packed.templates()).map(|at| {
            let template = packed.template(at)?;
            if let Some((layout, found)) = known.get(template.data)
                && *layout == template.layout()
            {
                return Some(*found);
            }
            let (id, of_layout) = (*template.data.first_chunk()?, layouts.get_mut(template.layout_place())?);
            let shape = match of_layout {
                Some((of, shape)) if *of == id => *shape,
                other => other.insert((id, plan(template.data).and_then(|plan| plan.shape(&template)))).1,
            };
            let found = shape?.template(template.data, seen)?;
            known.insert(template.data.into(), (template.layout(), found));
            Some(found)
        });
        let mut frame = resolved.spare.take().unwrap_or_default();
        frame.number = packed.number();
        frame.templates.clear();
        frame.templates.extend(templates);
        let mut data = UnpackedData::default();
        let threads = (0..packed.threads()).map(|at| {
            let Some(thread) = packed.thread(at) else { return StepThread::default() };
            let Some(of_format) = plans.get(usize::from(thread.format)).and_then(Option::as_ref) else {
                return StepThread::default();
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
        frame.threads.clear();
        frame.threads.extend(threads);
        frame
    }
}

/// How the records of a layout tell of a step.
#[derive(Clone, Copy, Debug)]
struct Shape<'a> {
    plan: &'a Plan,
    kind: StepKind,
    context: Number,
    value: StepValue,
}

impl Shape<'_> {
    /// What a template's records have in common.
    fn template(&self, data: &[u8], seen: &mut Seen) -> Option<StepTemplate> {
        let ring = self.plan.ring(data, u16::from_ne_bytes(*data.first_chunk()?), seen)?;
        let client = self.plan.client;
        let client = match client {
            Some(client) => Some(client.get(data)?),
            None => None,
        };
        Some(StepTemplate::new(self.kind, self.context.get(data)?, client, ring, self.value))
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
            None => StepValue::None,
            Some(value) if template.short.map(|at| (at, 4)) != Some(value.range()) => return None,
            Some(value) if value.is_signed() => StepValue::Signed,
            Some(_) => StepValue::Unsigned,
        };
        Some(Shape { plan: self, kind, context, value })
    }

    /// Who a record says that its thread is. It may be a record that says nothing else.
    pub(super) fn thread(&self, data: &[u8], seen: &mut Seen) -> Option<StepThread> {
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
        Some(StepThread { tid, pid, comm })
    }
}
