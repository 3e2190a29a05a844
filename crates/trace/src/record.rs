//! Records, and how their fields are read.

use crate::{EventFormat, Field, FieldKind};

/// One record: bytes as they were laid out when the tracepoint fired, from the common fields on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub at_ns: u64,
    /// The processor.
    pub cpu: u16,
    /// The record: `common_type` in its first two bytes says which [`EventFormat`] describes it.
    pub data: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// The number of its format.
    pub fn id(&self) -> Option<u16> {
        Some(u16::from_ne_bytes(*self.data.first_chunk()?))
    }
}

/// Takes records as a capture or a reader comes upon them: those of one processor in order of time, others between them.
pub trait RecordSink {
    /// One record. It may be kept only as a copy.
    fn record(&mut self, record: RawRecord<'_>);
}

impl<F: FnMut(RawRecord<'_>)> RecordSink for F {
    fn record(&mut self, record: RawRecord<'_>) {
        self(record);
    }
}

/// A number in a record, found once by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    offset: u16,
    size: u8,
    is_signed: bool,
}

impl Number {
    /// A number that stands there.
    pub(crate) const fn at(offset: u16, size: u8, is_signed: bool) -> Number {
        Number { offset, size, is_signed }
    }

    /// The first of `names` that is a number of this format.
    pub(crate) fn find(format: &EventFormat, names: &[&str]) -> Option<Number> {
        let field = names.iter().find_map(|name| format.field(name))?;
        let size = u8::try_from(field.size).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
        (field.kind == FieldKind::Number).then_some(Number { offset: field.offset, size, is_signed: field.is_signed })
    }

    /// Where it stands, and how long it is.
    pub(crate) const fn range(self) -> (u16, u16) {
        (self.offset, self.size as u16)
    }

    /// Whether it has a sign.
    pub(crate) const fn is_signed(self) -> bool {
        self.is_signed
    }

    /// Its value, signed numbers extended to all 64 bits; none where the record is too short.
    pub(crate) fn get(self, data: &[u8]) -> Option<u64> {
        let bytes = data.get(usize::from(self.offset)..)?;
        Some(match (self.size, self.is_signed) {
            (8, _) => u64::from_ne_bytes(*bytes.first_chunk()?),
            (4, false) => u64::from(u32::from_ne_bytes(*bytes.first_chunk()?)),
            (4, true) => i64::from(i32::from_ne_bytes(*bytes.first_chunk()?)).cast_unsigned(),
            (2, false) => u64::from(u16::from_ne_bytes(*bytes.first_chunk()?)),
            (2, true) => i64::from(i16::from_ne_bytes(*bytes.first_chunk()?)).cast_unsigned(),
            (_, false) => u64::from(*bytes.first()?),
            (_, true) => i64::from(bytes.first()?.cast_signed()).cast_unsigned(),
        })
    }

    /// Whether it is half as wide as numbers of fences are: the upper half is lost.
    pub(crate) fn is_cut(self) -> bool {
        self.size < 8
    }
}

/// A number, ready to be taken out without a branch: eight bytes are read, and what is not the field's is shifted and masked away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    offset: u16,
    unused: u8,
    mask: u64,
}

impl Load {
    /// Of no field at all: 0 in every record that has eight bytes.
    pub(crate) const ZERO: Load = Load { offset: 0, unused: 0, mask: 0 };

    pub(crate) const fn of(number: Number) -> Load {
        let unused = 64_u8.saturating_sub(number.size.saturating_mul(8));
        let mask = if number.is_signed { u64::MAX } else { u64::MAX >> unused };
        Load { offset: number.offset, unused, mask }
    }

    /// How long a record is that has these eight bytes.
    pub(crate) const fn end(self) -> usize {
        self.offset as usize + 8
    }

    /// Its value; none where there are no eight bytes from there on, though the field may be whole.
    #[inline(always)]
    pub(crate) fn get(self, data: &[u8]) -> Option<u64> {
        let eight = data.get(usize::from(self.offset)..)?.first_chunk()?;
        // The first bytes of eight are the lower ones, or are brought there.
        let low = match cfg!(target_endian = "little") {
            true => u64::from_ne_bytes(*eight),
            false => u64::from_ne_bytes(*eight) >> (self.unused & 63),
        };
        let high = low << (self.unused & 63);
        Some((high.cast_signed() >> (self.unused & 63)).cast_unsigned() & self.mask)
    }
}

/// Text in a record, found once by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    offset: u16,
    size: u16,
    kind: FieldKind,
}

impl Words {
    /// The first of `names` that is text in the record itself.
    pub(crate) fn find(format: &EventFormat, names: &[&str]) -> Option<Words> {
        let Field { offset, size, kind, .. } = *names.iter().find_map(|name| format.field(name))?;
        matches!(kind, FieldKind::Array | FieldKind::DataLoc | FieldKind::RelLoc).then_some(Words {
            offset,
            size,
            kind,
        })
    }

    /// Text behind the fields, told of there.
    pub(crate) const fn tail(offset: u16) -> Words {
        Words { offset, size: 4, kind: FieldKind::DataLoc }
    }

    /// Text in a field of so many bytes.
    pub(crate) const fn array(offset: u16, size: u16) -> Words {
        Words { offset, size, kind: FieldKind::Array }
    }

    /// How long a record is that has the field.
    pub(crate) const fn end(self) -> usize {
        self.offset as usize + self.size as usize
    }

    /// So many bytes from where it stands on.
    #[inline(always)]
    pub(crate) fn get_bytes<const N: usize>(self, data: &[u8]) -> Option<&[u8; N]> {
        data.get(usize::from(self.offset)..)?.first_chunk()
    }

    /// What the field says of a text behind the fields.
    #[inline(always)]
    pub(crate) fn get_place(self, data: &[u8]) -> Option<u32> {
        Some(u32::from_ne_bytes(*data.get(usize::from(self.offset)..)?.first_chunk()?))
    }

    /// Where a text behind the fields begins and ends.
    pub(crate) fn range(self, data: &[u8]) -> Option<(usize, usize)> {
        let place = self.get_place(data)?;
        let (at, length) = ((place & 0xffff) as usize, (place >> 16) as usize);
        Some((at, at + length))
    }

    /// Where the field stands, if the text itself stands behind the fields.
    pub(crate) fn tail_at(self) -> Option<u16> {
        (self.kind == FieldKind::DataLoc).then_some(self.offset)
    }

    /// Where it stands, if it is a field of so many bytes.
    pub(crate) fn array_at(self, bytes: u16) -> Option<u16> {
        (self.kind == FieldKind::Array && self.size == bytes).then_some(self.offset)
    }

    /// Where it stands, if that is in a field of its own.
    pub(crate) fn field(self) -> Option<(u16, u16)> {
        (self.kind == FieldKind::Array).then_some((self.offset, self.size))
    }

    /// All its bytes: the text, a zero, and whatever stands behind that.
    #[inline]
    pub(crate) fn get(self, data: &[u8]) -> Option<&[u8]> {
        let offset = usize::from(self.offset);
        match self.kind {
            FieldKind::Array => data.get(offset..)?.get(..usize::from(self.size)),
            kind => {
                let place = u32::from_ne_bytes(*data.get(offset..)?.first_chunk()?);
                let (at, length) = ((place & 0xffff) as usize, (place >> 16) as usize);
                let base = if kind == FieldKind::RelLoc { offset.saturating_add(4) } else { 0 };
                data.get(base.saturating_add(at)..)?.get(..length)
            }
        }
    }
}

/// Bytes up to the first zero.
pub(crate) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
