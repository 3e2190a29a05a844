//! Records made of messages, as the kernel would have laid them out.
//!
//! A message may lack any of its fields. What is not there gets no field in the record's layout, rather than a zero in it: there is a layout
//! for each set of fields that was seen together.

use super::schema::Type;
use crate::{EventFormat, Field, FieldKind, families};
use rustc_hash::FxHashMap;

/// Layouts that a trace may have: some tens are usual.
const MOST_LAYOUTS: usize = 4096;
/// Fields of an event. The kernel's have 30 at most.
const MOST_FIELDS: usize = 64;
/// No text of an event is longer.
const LONGEST_TEXT: usize = 4096;
/// `common_type`, `common_flags`, `common_preempt_count`, `common_pid`.
const COMMON: u16 = 8;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Number(u64),
    Text(&'a [u8]),
}

/// A field of a message, by the kernel's name for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) name: &'a str,
    pub(super) of: Type,
    pub(super) content: Content<'a>,
}

/// The layouts of a trace, in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    formats: Vec<EventFormat>,
    known: FxHashMap<Vec<u8>, Option<u16>>,
    signature: Vec<u8>,
}

/// Why there is no record of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum No {
    /// It is none that is understood.
    NotOurs,
    /// It is larger than any, or there are more kinds than any trace has.
    TooLarge,
}

impl Layouts {
    pub(super) fn format(&self, at: usize) -> Option<&EventFormat> {
        self.formats.get(at)
    }

    /// Appends the record of an event to `out`. Of a generic event the system may not be known.
    pub(super) fn put(
        &mut self,
        (system, name): (Option<&str>, &str),
        tid: u32,
        fields: &[Given<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), No> {
        if fields.len() > MOST_FIELDS || name.len() > LONGEST_TEXT {
            return Err(No::TooLarge);
        }
        self.signature.clear();
        for word in [system.unwrap_or_default(), name] {
            self.signature.extend_from_slice(word.as_bytes());
            self.signature.push(0);
        }
        for field in fields {
            self.signature.push(field.of as u8);
            self.signature.extend_from_slice(field.name.as_bytes());
            self.signature.push(0);
        }
        let id = match self.known.get(&self.signature) {
            Some(id) => *id,
            None => {
                if self.known.len() >= MOST_LAYOUTS || self.signature.len() > LONGEST_TEXT {
                    return Err(No::TooLarge);
                }
                let id = self.add(system, name, fields);
                self.known.insert(self.signature.clone(), id);
                id
            }
        };
        let id = id.ok_or(No::NotOurs)?;
        write(id, tid, fields, out).ok_or(No::TooLarge)
    }

    /// A new layout, if the event is understood.
    fn add(&mut self, system: Option<&str>, name: &str, fields: &[Given<'_>]) -> Option<u16> {
        let system = match system {
            Some(system) => families::find(system, name).map(|_| system)?,
            None => families::system_of(name)?,
        };
        let id = u16::try_from(self.formats.len()).ok()?.checked_add(1)?;
        let common = |name: &str, offset, size| Field {
            name: name.into(),
            offset,
            size,
            is_signed: true,
            kind: FieldKind::Number,
        };
        let mut all = vec![common("common_type", 0, 2), common("common_pid", 4, 4)];
        let mut offset = COMMON;
        for field in fields {
            let kind = if field.of == Type::Text { FieldKind::DataLoc } else { FieldKind::Number };
            let is_signed = matches!(field.of, Type::I32 | Type::I64);
            let size = field.of.size();
            all.push(Field { name: field.name.into(), offset, size, is_signed, kind });
            offset = offset.checked_add(size)?;
        }
        self.formats.push(EventFormat { id, system: system.into(), name: name.into(), fields: all });
        Some(id)
    }
}

/// The record: common fields, numbers and places of texts, texts.
fn write(id: u16, tid: u32, fields: &[Given<'_>], out: &mut Vec<u8>) -> Option<()> {
    let begin = out.len();
    out.extend_from_slice(&id.to_ne_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&tid.to_ne_bytes());
    let head: u16 = fields.iter().map(|field| field.of.size()).sum();
    let mut end = COMMON.checked_add(head)?;
    for field in fields {
        match (field.of, field.content) {
            (Type::Text, Content::Text(text)) => {
                let length = u16::try_from(text.len()).ok().filter(|length| usize::from(*length) < LONGEST_TEXT);
                let Some(length) = length.and_then(|length| length.checked_add(1)) else {
                    out.truncate(begin);
                    return None;
                };
                out.extend_from_slice(&(u32::from(length) << 16 | u32::from(end)).to_ne_bytes());
                let Some(next) = end.checked_add(length) else {
                    out.truncate(begin);
                    return None;
                };
                end = next;
            }
            (Type::U32 | Type::I32, Content::Number(number)) => out.extend_from_slice(&(number as u32).to_ne_bytes()),
            (Type::U64 | Type::I64, Content::Number(number)) => out.extend_from_slice(&number.to_ne_bytes()),
            // Its type and its content are of one hand.
            (Type::Text, Content::Number(_)) | (_, Content::Text(_)) => {
                out.truncate(begin);
                return None;
            }
        }
    }
    for field in fields {
        if let Content::Text(text) = field.content {
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Number, Words, until_zero};

    #[test]
    fn what_a_message_lacks_has_no_field_in_its_record() {
        let mut layouts = Layouts::default();
        let number = |name, of, number| Given { name, of, content: Content::Number(number) };
        let ring = Given { name: "name", of: Type::Text, content: Content::Text(b"gfx_0") };
        let fence = [number("fence_context", Type::U64, u64::MAX), ring, number("fence_seqno", Type::U64, 7)];
        let mut out = Vec::new();
        let name = (Some("gpu_scheduler"), "drm_sched_job_run");
        assert_eq!(layouts.put(name, 11, &fence, &mut out), Ok(()));
        let whole = out.len();
        assert_eq!(layouts.put(name, 11, &fence[..2], &mut out), Ok(()));
        assert_eq!(layouts.put((None, "drm_sched_job_run"), 12, &fence, &mut out), Ok(()));
        assert_eq!(layouts.put((Some("sched"), "nothing"), 12, &fence, &mut out), Err(No::NotOurs));
        assert_eq!(layouts.put((None, "nothing"), 12, &fence, &mut out), Err(No::NotOurs));
        let format = layouts.format(0).unwrap();
        assert!(layouts.format(1).unwrap().field("fence_seqno").is_none());
        assert_eq!(layouts.format(2).unwrap().system, "gpu_scheduler");
        assert!(layouts.format(3).is_none());
        let record = &out[..whole];
        let get = |name| Number::find(format, &[name]).unwrap().get(record);
        assert_eq!((get("common_pid"), get("fence_context"), get("fence_seqno")), (Some(11), Some(u64::MAX), Some(7)));
        assert_eq!(until_zero(Words::find(format, &["name"]).unwrap().get(record).unwrap()), b"gfx_0");
    }

    #[test]
    fn what_is_larger_than_any_event_is_none() {
        let mut layouts = Layouts::default();
        let name = (Some("gpu_scheduler"), "drm_sched_job_run");
        let text = vec![b'a'; 5000];
        let long = Given { name: "name", of: Type::Text, content: Content::Text(&text) };
        let mut out = Vec::new();
        assert_eq!(layouts.put(name, 1, &[long], &mut out), Err(No::TooLarge));
        let field = Given { name: "name", of: Type::U64, content: Content::Number(1) };
        assert_eq!(layouts.put(name, 1, &[field; 65], &mut out), Err(No::TooLarge));
        assert!(out.is_empty());
    }
}
