//! The quick way from a record to its event, for kinds that name their job by its whole fence and perhaps their ring by a text, and say
//! nothing else: nearly all of a recording.
//!
//! Where the fields stand is found by their names, as always. A few ways to lay them out are so common that the code is there once for
//! each of them, with the places as constants: a record's length is compared once, and each number is a load.

use super::memo::Recent;
use super::{KeyPlan, Seen};
use crate::RawRecord;
use crate::record::{Load, Number, Words};
use gpuscope_model::trace::{Event, EventKind, Family, JobKey, NameId, RingId};

/// Where everything stands that an event is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quick {
    /// Shorter records go the other way: they may be whole all the same, at the end of their last field.
    length: usize,
    tid: Load,
    pid: Option<Load>,
    context: Load,
    seqno: Load,
    client: Option<Load>,
    value: Option<Load>,
    ring: RingText,
    comm: CommText,
}

/// How a record names its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingText {
    /// It does not.
    None,
    /// Device and ring behind the fields, as tracefs has them.
    Tails(Words, Words),
    /// The ring's field and the device's behind it, as long as those of our own programs.
    Arrays(Words, Words),
    /// By texts in another way: device, if it is named, and ring.
    Other(Option<Words>, Words),
}

impl RingText {
    pub(super) fn of(gpu: Option<Words>, name: Option<Words>) -> RingText {
        let Some(name) = name else { return RingText::None };
        let Some(of) = gpu else { return RingText::Other(None, name) };
        if of.tail_at().is_some() && name.tail_at().is_some() {
            return RingText::Tails(of, name);
        }
        match (name.array_at(NAME), of.array_at(GPU)) {
            (Some(first), Some(second)) if second == first.saturating_add(NAME) => RingText::Arrays(of, name),
            _ => RingText::Other(gpu, name),
        }
    }
}

/// How a record names its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommText {
    /// By its number alone.
    OfTask,
    /// In a field as long as the kernel's own.
    Array(Words),
    /// In another way.
    Other(Words),
}

/// Fields of our own programs' records.
const NAME: u16 = 24;
const GPU: u16 = 32;
const COMM: u16 = 16;

/// Where the numbers stand.
pub(super) struct Numbers {
    pub(super) tid: Option<Number>,
    pub(super) pid: Option<Number>,
    pub(super) client: Option<Number>,
    pub(super) value: Option<Number>,
}

impl Quick {
    /// None for a record that does not name its job by a whole fence.
    pub(super) fn new(key: KeyPlan, numbers: &Numbers, ring: RingText, comm: Option<Words>) -> Option<Quick> {
        let KeyPlan::Fence(context, seqno) = key else { return None };
        let quick = Quick {
            length: 0,
            tid: numbers.tid.map_or(Load::ZERO, Load::of),
            pid: numbers.pid.map(Load::of),
            context: Load::of(context),
            seqno: Load::of(seqno),
            client: numbers.client.map(Load::of),
            value: numbers.value.map(Load::of),
            ring,
            comm: match comm {
                None => CommText::OfTask,
                Some(comm) if comm.array_at(COMM).is_some() => CommText::Array(comm),
                Some(comm) => CommText::Other(comm),
            },
        };
        Some(quick.measured())
    }

    /// With the length that its fields need.
    const fn measured(self) -> Quick {
        let numbers = [Some(self.tid), self.pid, Some(self.context), Some(self.seqno), self.client, self.value];
        let (mut length, mut i) = (0, 0);
        while i < numbers.len() {
            #[expect(clippy::indexing_slicing, reason = "a constant function has no iterators")]
            if let Some(number) = numbers[i] {
                length = larger(length, number.end());
            }
            i += 1;
        }
        match self.ring {
            RingText::Tails(gpu, name) => length = larger(length, larger(gpu.end(), name.end())),
            RingText::Arrays(gpu, name) => length = larger(length, larger(gpu.end(), name.end())),
            RingText::None | RingText::Other(..) => {}
        }
        if let CommText::Array(comm) = self.comm {
            length = larger(length, comm.end());
        }
        Quick { length, ..self }
    }

    /// Writes the event of a record; none where it is too short for this way.
    #[inline(always)]
    pub(super) fn decode(&self, kind: &Kind, record: RawRecord<'_>, seen: &mut Seen, event: &mut Event) -> Option<()> {
        let data = record.data;
        let fields = data.get(..self.length)?;
        let (context, seqno) = (self.context.get(fields)?, self.seqno.get(fields)?);
        let tid = self.tid.get(fields)? as u32;
        let ring = match self.ring {
            RingText::None => None,
            RingText::Tails(gpu, name) => Some(match seen.tails.get(context, gpu, name, fields, data) {
                Some(ring) => ring,
                None => seen.new_tails(context, gpu, name, data)?,
            }),
            RingText::Arrays(gpu, name) => {
                let texts = name.get_bytes(fields)?;
                Some(match seen.arrays.get(context, texts) {
                    Some(ring) => ring,
                    None => seen.new_arrays(context, gpu, name, *texts, data)?,
                })
            }
            RingText::Other(gpu, name) => {
                let gpu = match gpu {
                    Some(gpu) => gpu.get(data)?,
                    None => &[],
                };
                Some(seen.ring(gpu, name.get(data)?))
            }
        };
        let (mut pid, mut comm) = (0, NameId(0));
        if self.pid.is_none() || matches!(self.comm, CommText::OfTask) {
            let task = seen.task(tid);
            (pid, comm) = (task.pid, task.comm);
        }
        if let Some(field) = self.pid {
            pid = field.get(fields)? as u32;
        }
        match self.comm {
            CommText::OfTask => {}
            CommText::Array(words) => {
                let text = words.get_bytes(fields)?;
                comm = match seen.comm_of.get(tid.into(), text) {
                    Some(comm) => comm,
                    None => seen.new_comm(tid, *text),
                };
            }
            CommText::Other(words) => comm = seen.text(words.get(data)?),
        }
        let client = match self.client {
            Some(field) => Some(field.get(fields)?),
            None => None,
        };
        let value = match self.value {
            Some(field) => Some(field.get(fields)?.cast_signed()),
            None => None,
        };
        *event = Event {
            at_ns: record.at_ns,
            kind: kind.kind,
            family: kind.family,
            cpu: record.cpu,
            tid,
            pid,
            comm,
            ring,
            key: Some(JobKey::Fence { context, seqno }),
            other: None,
            client,
            value,
        };
        Some(())
    }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// How records of a kind are decoded, by its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) shape: Shape,
    pub(super) kind: EventKind,
    pub(super) family: Family,
}

/// Which of the quick ways there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// None.
    None,
    /// One that is looked up.
    Other,
    TracefsJob,
    Fence,
    BpfQueue,
    BpfRun,
    BpfDone,
}

impl Shape {
    /// The one for these places.
    pub(super) fn of(quick: Option<&Quick>) -> Shape {
        let Some(quick) = quick else { return Shape::None };
        let known = [
            (TRACEFS_JOB, Shape::TracefsJob),
            (FENCE, Shape::Fence),
            (BPF_QUEUE, Shape::BpfQueue),
            (BPF_RUN, Shape::BpfRun),
            (BPF_DONE, Shape::BpfDone),
        ];
        known.iter().find(|(places, _)| places == quick).map_or(Shape::Other, |(_, shape)| *shape)
    }
}

/// A fence and nothing else, as in `drm_sched_job_done` of drivers/gpu/drm/scheduler/gpu_scheduler_trace.h since Linux 6.17, and where
/// our own programs saw no error.
pub(super) const FENCE: Quick = Quick {
    length: 0,
    tid: Load::of(Number::at(4, 4, true)),
    pid: None,
    context: Load::of(Number::at(8, 8, false)),
    seqno: Load::of(Number::at(16, 8, false)),
    client: None,
    value: None,
    ring: RingText::None,
    comm: CommText::OfTask,
}
.measured();

/// `drm_sched_job_queue` and `drm_sched_job_run` there.
pub(super) const TRACEFS_JOB: Quick = Quick {
    context: Load::of(Number::at(24, 8, false)),
    seqno: Load::of(Number::at(32, 8, false)),
    client: Some(Load::of(Number::at(40, 8, false))),
    value: Some(Load::of(Number::at(12, 4, false))),
    ring: RingText::Tails(Words::tail(20), Words::tail(8)),
    ..FENCE
}
.measured();

/// Of our own programs (capture/bpf/formats.rs), on kernels that have all that they tell of.
pub(super) const BPF_QUEUE: Quick = Quick {
    pid: Some(Load::of(Number::at(40, 4, false))),
    client: Some(Load::of(Number::at(24, 8, false))),
    value: Some(Load::of(Number::at(48, 4, false))),
    ring: RingText::Arrays(Words::array(52 + NAME, GPU), Words::array(52, NAME)),
    comm: CommText::Array(Words::array(52 + NAME + GPU, COMM)),
    ..FENCE
}
.measured();

/// The same of the hand-over.
pub(super) const BPF_RUN: Quick = Quick {
    client: Some(Load::of(Number::at(24, 8, false))),
    value: Some(Load::of(Number::at(32, 4, false))),
    ring: RingText::Arrays(Words::array(36 + NAME, GPU), Words::array(36, NAME)),
    ..FENCE
}
.measured();

/// The same of the end.
pub(super) const BPF_DONE: Quick = Quick { value: Some(Load::of(Number::at(24, 4, true))), ..FENCE }.measured();

/// Bytes of the texts that a record names its device and its ring with.
const TEXTS: usize = NAME as usize + GPU as usize;
const WORDS: usize = TEXTS / 8;

/// The ring that records of a context named last, by the fields of ring and device, whatever stands behind the texts included.
pub(super) type RingsByArrays = Recent<[u8; TEXTS], RingId>;

/// The name that records of a thread had last, by the same.
pub(super) type CommsByArrays = Recent<[u8; COMM as usize], NameId>;

/// The same of texts behind the fields.
#[derive(Debug)]
pub(super) struct RingsByTails {
    places: Vec<Tails>,
}

/// The bytes that end where the later text ends. Those that belong to neither are masked away: a comparison needs no loop, and no length
/// that is known only then.
#[derive(Clone, Copy, Debug)]
struct Tails {
    /// Where the texts stand, as the record's fields tell.
    at: u64,
    end: usize,
    words: [u64; WORDS],
    mask: [u64; WORDS],
    ring: RingId,
}

/// A power of two.
const RINGS: usize = 1024;

impl Default for RingsByTails {
    fn default() -> Self {
        // No record has its texts' end at 0.
        let none = Tails { at: 0, end: 0, words: [0; WORDS], mask: [0; WORDS], ring: RingId(0) };
        RingsByTails { places: vec![none; RINGS] }
    }
}

impl RingsByTails {
    #[inline(always)]
    fn get(&self, context: u64, gpu: Words, name: Words, fields: &[u8], data: &[u8]) -> Option<RingId> {
        let known = self.places.get(context as usize & (RINGS - 1))?;
        let words = window(data, known.end)?;
        let masked = words.iter().zip(&known.mask).map(|(word, mask)| word & mask);
        let differ = masked.zip(&known.words).fold(known.at ^ place(gpu, name, fields)?, |all, (a, b)| all | (a ^ b));
        (differ == 0).then_some(known.ring)
    }

    fn put(&mut self, context: u64, gpu: Words, name: Words, data: &[u8], ring: RingId) -> Option<()> {
        let [(gpu_at, gpu_end), (name_at, name_end)] = [gpu.range(data)?, name.range(data)?];
        let end = gpu_end.max(name_end);
        let start = end.checked_sub(TEXTS)?;
        if gpu_at.min(name_at) < start {
            return None;
        }
        let mut mask = [0_u8; TEXTS];
        for (at, end) in [(gpu_at, gpu_end), (name_at, name_end)] {
            mask.get_mut(at.checked_sub(start)?..end.checked_sub(start)?)?.fill(0xff);
        }
        let mask = window(&mask, mask.len())?;
        let mut words = window(data, end)?;
        words.iter_mut().zip(&mask).for_each(|(word, mask)| *word &= mask);
        let at = place(gpu, name, data)?;
        *self.places.get_mut(context as usize & (RINGS - 1))? = Tails { at, end, words, mask, ring };
        Some(())
    }
}

/// The words that end there.
#[inline(always)]
fn window(data: &[u8], end: usize) -> Option<[u64; WORDS]> {
    let bytes: &[u8; TEXTS] = data.get(..end)?.last_chunk()?;
    Some(bytes.as_chunks::<8>().0.first_chunk::<WORDS>()?.map(u64::from_ne_bytes))
}

/// What the fields of both texts say.
#[inline(always)]
fn place(gpu: Words, name: Words, fields: &[u8]) -> Option<u64> {
    Some(u64::from(gpu.get_place(fields)?) << 32 | u64::from(name.get_place(fields)?))
}

impl Seen {
    #[cold]
    fn new_tails(&mut self, context: u64, gpu: Words, name: Words, data: &[u8]) -> Option<RingId> {
        let ring = self.ring(gpu.get(data)?, name.get(data)?);
        // Longer texts are looked up again.
        let _ = self.tails.put(context, gpu, name, data, ring);
        Some(ring)
    }

    #[cold]
    fn new_arrays(&mut self, context: u64, gpu: Words, name: Words, texts: [u8; TEXTS], data: &[u8]) -> Option<RingId> {
        let ring = self.ring(gpu.get(data)?, name.get(data)?);
        self.arrays.put(context, texts, ring);
        Some(ring)
    }

    #[cold]
    fn new_comm(&mut self, tid: u32, field: [u8; COMM as usize]) -> NameId {
        let id = self.text(&field);
        self.comm_of.put(tid.into(), field, id);
        id
    }
}
