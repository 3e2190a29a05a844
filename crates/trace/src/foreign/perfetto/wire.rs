//! The part of the protobuf wire format that a reader needs: <https://protobuf.dev/programming-guides/encoding>.
//!
//! Own code: `prost` reads messages that are declared whole, into memory of their own, and keeps its reader of single fields to itself.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number of any type but the fixed ones.
    Number(u64),
    /// A text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Of a fixed length: nothing that is read here is.
    Fixed,
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Option<u64> {
        if let Value::Number(number) = self { Some(number) } else { None }
    }

    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        if let Value::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// A number as the threads and processors of Linux have them.
    pub(super) fn small(self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A name; what is longer than any is cut off.
    pub(super) fn text(self) -> Option<String> {
        self.bytes().map(name)
    }
}

/// Names of threads, of events and their fields, of devices: none is longer.
const LONGEST_NAME: usize = 128;

/// A name; what is longer than any is cut off.
pub(super) fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..LONGEST_NAME).unwrap_or(bytes)).into_owned()
}

/// The fields of a message, in the order in which they stand there. Ends where one cannot be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    is_broken: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message, is_broken: false }
    }

    /// Whether it ended where there was more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// How much was not read.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (tag, rest) = varint(self.rest)?;
        let (value, rest) = match tag & 7 {
            0 => {
                let (number, rest) = varint(rest)?;
                (Value::Number(number), rest)
            }
            1 => (Value::Fixed, rest.get(8..)?),
            2 => {
                let (length, rest) = varint(rest)?;
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(bytes), rest)
            }
            5 => (Value::Fixed, rest.get(4..)?),
            // Groups, which Perfetto never had.
            _ => return None,
        };
        self.rest = rest;
        Some((u32::try_from(tag >> 3).ok()?, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.is_broken {
            return None;
        }
        let field = self.field();
        self.is_broken = field.is_none();
        field
    }
}

/// A number of seven bits a byte, and what stands behind it.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(u32::try_from(at).ok()?.checked_mul(7)?)?;
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at.checked_add(1)?..)?));
        }
    }
    None
}

/// Packed numbers, up to one that cannot be read.
pub(super) fn packed(mut bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    std::iter::from_fn(move || {
        let (number, rest) = varint(bytes)?;
        bytes = rest;
        Some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own document.
    #[test]
    fn examples_of_the_specification() {
        let all = |bytes: &'static [u8]| Fields::of(bytes).collect::<Vec<_>>();
        assert_eq!(all(&[0x08, 0x96, 0x01]), [(1, Value::Number(150))]);
        assert_eq!(all(b"\x12\x07testing"), [(2, Value::Bytes(b"testing"))]);
        assert_eq!(
            all(b"\x09\0\0\0\0\0\0\0\0\x25\0\0\0\0\x18\x01"),
            [(1, Value::Fixed), (4, Value::Fixed), (3, Value::Number(1))]
        );
        assert_eq!(packed(&[0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]).collect::<Vec<_>>(), [3, 270, 86942]);
        let minus_two = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(varint(&minus_two).unwrap().0.cast_signed(), -2);
    }

    #[test]
    fn what_is_no_field_ends_a_message() {
        for bytes in [
            &[0x08][..],
            &[0x12, 0x05, b'a'],
            &[0x0b, 0x0c],
            &[0x09, 1, 2],
            &[0xff; 12],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            let mut fields = Fields::of(bytes);
            assert_eq!(fields.next(), None, "{bytes:?}");
            assert!(fields.is_broken(), "{bytes:?}");
            assert_eq!(fields.next(), None);
        }
        let mut fields = Fields::of(&[]);
        assert_eq!((fields.next(), fields.is_broken(), fields.left()), (None, false, 0));
    }
}
