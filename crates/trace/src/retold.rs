//! Events written as records again, for recordings that are made of other traces.
//!
//! Those come from text, from kernels with other layouts, from machines whose numbers mean something else, and each numbers its layouts
//! as it likes. What they have in common is what the decoder made of them, an [`Event`]; so this is what is kept, in layouts of our own.
//! Each layout is of one family and kind, which its name says (`gpu_scheduler.SUBMIT`), and has the fields that its events have: what is
//! not known is not in it.

use crate::families::{Key, NOTHING, RingFields, Spec};
use crate::{EventFormat, Field, FieldKind, RawRecord};
use gpuscope_model::trace::{Event, EventKind, Family, JobKey, TraceNames};
use rustc_hash::FxHashMap;

/// The system that these layouts are of.
pub(crate) const SYSTEM: &str = "gpuscope";

const CONTEXT: &str = "fence_context";
const SEQNO: &str = "fence_seqno";
const ADDRESS: &str = "fence_address";
const NUMBER: &str = "number_in_ring";
const OTHER_CONTEXT: &str = "other_context";
const OTHER_SEQNO: &str = "other_seqno";

/// Longest name of a thread, with the zero behind it (`TASK_COMM_LEN`).
const COMM: usize = 16;

const PLAIN: Spec = Spec {
    ring: RingFields::Named("name"),
    gpu: Some("dev"),
    client: Some("client_id"),
    value: Some("value"),
    ..NOTHING
};
const FENCE: Spec = Spec { key: Key::Fence(CONTEXT, SEQNO), ..PLAIN };
const OTHER: Option<(&str, &str)> = Some((OTHER_CONTEXT, OTHER_SEQNO));

/// What a layout of ours says, by the name of its key's first field. Whether a fence's numbers are whole is seen by their size.
static SPECS: [(Option<&str>, bool, Spec); 8] = [
    (Some(CONTEXT), false, FENCE),
    (Some(CONTEXT), true, Spec { other: OTHER, ..FENCE }),
    (Some(ADDRESS), false, Spec { key: Key::Address(ADDRESS, None), ..PLAIN }),
    (Some(ADDRESS), true, Spec { key: Key::Address(ADDRESS, None), other: OTHER, ..PLAIN }),
    (Some(NUMBER), false, Spec { key: Key::Counted(&[NUMBER]), ..PLAIN }),
    (Some(NUMBER), true, Spec { key: Key::Counted(&[NUMBER]), other: OTHER, ..PLAIN }),
    (None, false, PLAIN),
    (None, true, Spec { other: OTHER, ..PLAIN }),
];

/// Family, kind and fields of a layout of ours. None for one of a later version that has other kinds.
pub(crate) fn find(format: &EventFormat) -> Option<(Family, EventKind, &'static Spec)> {
    let (family, kind) = format.name.split_once('.')?;
    let family = Family::ALL.into_iter().find(|of| of.name() == family)?;
    let kind = EventKind::ALL.into_iter().find(|of| of.name() == kind)?;
    let has_other = format.field(OTHER_CONTEXT).is_some();
    let is_it = |(key, other, _): &&(Option<&str>, bool, Spec)| {
        *other == has_other && key.is_none_or(|key| format.field(key).is_some())
    };
    SPECS.iter().find(is_it).map(|(.., spec)| (family, kind, spec))
}

/// Makes records of events.
#[derive(Debug, Default)]
pub struct Retold {
    formats: Vec<EventFormat>,
    by_shape: FxHashMap<Shape, usize>,
    data: Vec<u8>,
}

/// Which fields an event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    family: Family,
    kind: EventKind,
    key: Named,
    other: Named,
    has_client: bool,
    has_value: bool,
    has_ring: bool,
}

/// How a job is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Named {
    Not,
    Fence,
    FenceLow,
    Address,
    InRing,
}

impl Named {
    fn of(key: Option<JobKey>) -> Named {
        match key {
            None => Named::Not,
            Some(JobKey::Fence { .. }) => Named::Fence,
            Some(JobKey::FenceLow { .. }) => Named::FenceLow,
            Some(JobKey::Address(_)) => Named::Address,
            Some(JobKey::InRing { .. }) => Named::InRing,
        }
    }
}

impl Shape {
    fn of(event: &Event) -> Shape {
        Shape {
            family: event.family,
            kind: event.kind,
            key: Named::of(event.key),
            // Records name what a job waits for by its fence alone; there is no other way to keep.
            other: match Named::of(event.other) {
                of @ (Named::Fence | Named::FenceLow) => of,
                Named::Not | Named::Address | Named::InRing => Named::Not,
            },
            has_client: event.client.is_some(),
            has_value: event.value.is_some(),
            has_ring: event.ring.is_some(),
        }
    }

    fn format(&self, id: u16) -> EventFormat {
        let (mut fields, mut offset) = (Vec::new(), 0_u16);
        let mut put = |name: &str, size: u16, is_signed: bool, kind: FieldKind| {
            fields.push(Field { name: name.into(), offset, size, is_signed, kind });
            offset = offset.saturating_add(size);
        };
        let number = FieldKind::Number;
        put("common_type", 2, false, number);
        put("common_flags", 1, false, number);
        put("common_preempt_count", 1, false, number);
        put("common_pid", 4, true, number);
        put("comm", COMM as u16, false, FieldKind::Array);
        for (named, first, second) in [(self.key, CONTEXT, SEQNO), (self.other, OTHER_CONTEXT, OTHER_SEQNO)] {
            match named {
                Named::Not => {}
                Named::Fence | Named::FenceLow => {
                    let size = if named == Named::Fence { 8 } else { 4 };
                    put(first, size, false, number);
                    put(second, size, false, number);
                }
                Named::Address => put(ADDRESS, 8, false, number),
                Named::InRing => put(NUMBER, 8, false, number),
            }
        }
        if self.has_client {
            put("client_id", 8, false, number);
        }
        if self.has_value {
            put("value", 8, true, number);
        }
        put("tgid", 4, false, number);
        if self.has_ring {
            put("name", 4, false, FieldKind::DataLoc);
            put("dev", 4, false, FieldKind::DataLoc);
        }
        EventFormat { id, system: SYSTEM.into(), name: format!("{}.{}", self.family.name(), self.kind.name()), fields }
    }
}

impl Retold {
    /// No layout is in use yet.
    pub fn new() -> Retold {
        Retold::default()
    }

    /// The record of an event, whose names are these; with its layout where none like it came before.
    pub fn record(&mut self, event: &Event, names: &TraceNames) -> (Option<&EventFormat>, RawRecord<'_>) {
        let shape = Shape::of(event);
        let count = self.formats.len();
        let at = *self.by_shape.entry(shape).or_insert(count);
        let id = u16::try_from(at.saturating_add(1)).unwrap_or(u16::MAX);
        let is_new = at == count;
        if is_new {
            self.formats.push(shape.format(id));
        }
        let data = &mut self.data;
        data.clear();
        data.extend_from_slice(&id.to_ne_bytes());
        data.extend_from_slice(&[0; 2]);
        data.extend_from_slice(&event.tid.to_ne_bytes());
        let mut comm = [0; COMM];
        let text = names.get(event.comm);
        let text = text.get(..text.floor_char_boundary(COMM - 1)).unwrap_or_default().as_bytes();
        comm.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        data.extend_from_slice(&comm);
        for key in [event.key, event.other.filter(|_| shape.other != Named::Not)].into_iter().flatten() {
            match key {
                JobKey::Fence { context, seqno } => {
                    data.extend_from_slice(&context.to_ne_bytes());
                    data.extend_from_slice(&seqno.to_ne_bytes());
                }
                JobKey::FenceLow { context, seqno } => {
                    data.extend_from_slice(&context.to_ne_bytes());
                    data.extend_from_slice(&seqno.to_ne_bytes());
                }
                JobKey::Address(number) | JobKey::InRing { number, .. } => {
                    data.extend_from_slice(&number.to_ne_bytes());
                }
            }
        }
        if let Some(client) = event.client {
            data.extend_from_slice(&client.to_ne_bytes());
        }
        if let Some(value) = event.value {
            data.extend_from_slice(&value.to_ne_bytes());
        }
        data.extend_from_slice(&event.pid.to_ne_bytes());
        if let Some(ring) = event.ring {
            let ring = names.get_ring(ring);
            let name = ring.map_or("", |ring| ring.name.as_str());
            let gpu = ring.and_then(|ring| ring.gpu.as_ref()).map_or("", |gpu| gpu.as_str());
            let begin = data.len().saturating_add(8);
            let middle = begin.saturating_add(name.len()).saturating_add(1);
            for (at, text) in [(begin, name), (middle, gpu)] {
                // A record has 64 KiB at most, and so has its place for a text.
                let at = u32::from(u16::try_from(at).unwrap_or(u16::MAX));
                let length = u32::from(u16::try_from(text.len().saturating_add(1)).unwrap_or(u16::MAX));
                data.extend_from_slice(&(at | length << 16).to_ne_bytes());
            }
            for text in [name, gpu] {
                data.extend_from_slice(text.as_bytes());
                data.push(0);
            }
        }
        let record = RawRecord { at_ns: event.at_ns, cpu: event.cpu, data };
        (self.formats.get(at).filter(|_| is_new), record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoder;

    /// An event of each way to name a job, with and without everything that may be absent.
    fn events(names: &mut TraceNames) -> Vec<Event> {
        let of_gpu = names.ring(Some("0000:03:00.0"), "gfx_0.0.0");
        let of_none = names.ring(None, "a ring with a long name, as some drivers give");
        let comm = names.text("fifteen letters");
        let event = Event {
            at_ns: 7,
            kind: EventKind::Submit,
            family: Family::DrmSched,
            cpu: 3,
            tid: 41,
            pid: 40,
            comm,
            ring: None,
            key: None,
            other: None,
            client: None,
            value: None,
        };
        let fence = JobKey::Fence { context: 1 << 40, seqno: 9 };
        let low = JobKey::FenceLow { context: 5, seqno: u32::MAX };
        let mut all = Vec::new();
        for family in Family::ALL {
            for kind in EventKind::ALL {
                all.push(Event { family, kind, ..event });
            }
        }
        for ring in [None, Some(of_gpu), Some(of_none)] {
            let mut keys = vec![None, Some(fence), Some(low), Some(JobKey::Address(0xffff_8881_0000_1000))];
            keys.extend(ring.map(|ring| Some(JobKey::InRing { ring, number: 12 })));
            for key in keys {
                for other in [None, Some(fence), Some(low)] {
                    for (client, value) in [(None, None), (Some(8), Some(-62)), (Some(0), None), (None, Some(0))] {
                        all.push(Event { ring, key, other, client, value, ..event });
                    }
                }
            }
        }
        all.push(Event { comm: NameId::default(), pid: 0, tid: 0, ..event });
        all
    }

    use gpuscope_model::trace::NameId;

    #[test]
    fn events_come_back_as_they_were() {
        let mut names = TraceNames::default();
        let events = events(&mut names);
        let (mut retold, mut decoder, mut formats) = (Retold::new(), Decoder::new(), 0);
        for event in &events {
            let (format, record) = retold.record(event, &names);
            if let Some(format) = format {
                // As it stands in a file.
                let read = EventFormat::parse(SYSTEM, &format.to_text()).unwrap();
                assert_eq!(&read, format);
                assert!(decoder.add_format(&read), "{format:?}");
                formats += 1;
            }
            let read = decoder.decode(record).unwrap_or_else(|| panic!("{event:?}"));
            let ring = |names: &TraceNames, of: &Event| of.ring.and_then(|ring| names.get_ring(ring)).cloned();
            assert_eq!(ring(decoder.names(), &read), ring(&names, event), "{event:?}");
            assert_eq!(decoder.names().get(read.comm), names.get(event.comm));
            // Numbers of names are those of the decoder.
            let key = match (event.key, read.ring) {
                (Some(JobKey::InRing { number, .. }), Some(ring)) => Some(JobKey::InRing { ring, number }),
                (key, _) => key,
            };
            assert_eq!(read, Event { ring: read.ring, comm: read.comm, key, ..*event });
        }
        assert!(formats > 250 && formats < events.len(), "{formats} layouts of {} events", events.len());
    }

    #[test]
    fn a_layout_of_a_kind_that_is_not_known_is_passed_over() {
        let mut decoder = Decoder::new();
        for name in ["gpu_scheduler.LATER", "later.SUBMIT", "SUBMIT"] {
            let format = EventFormat { id: 1, system: SYSTEM.into(), name: name.into(), fields: Vec::new() };
            assert!(!decoder.add_format(&format), "{name}");
        }
        assert_eq!(decoder.decode(RawRecord { at_ns: 1, cpu: 0, data: &[1, 0, 0, 0] }), None);
    }
}
