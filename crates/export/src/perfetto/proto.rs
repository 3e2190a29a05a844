//! The part of the protobuf wire format that a writer needs: <https://protobuf.dev/programming-guides/encoding>.

/// A message under construction. Numbers of fields are those of the `.proto` files that the caller names.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

impl Message {
    /// `uint32`, `uint64`, an enum.
    pub(super) fn uint(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    /// `int32`, `int64`: a negative number takes ten bytes.
    pub(super) fn int(&mut self, field: u32, value: i64) {
        self.uint(field, value.cast_unsigned());
    }

    /// `bool`.
    pub(super) fn bool(&mut self, field: u32, value: bool) {
        self.uint(field, u64::from(value));
    }

    /// `fixed64`.
    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `double`.
    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// `string`.
    pub(super) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// `bytes`, or a message that is written already.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message within this one. Its length stands before it and is known after it, so what was written moves by the length's few
    /// bytes: messages here are small, and a second buffer for each level would be more to keep in mind.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Message)) {
        self.tag(field, LENGTH_DELIMITED);
        let start = self.0.len();
        write(self);
        let body = self.0.len();
        self.varint(body.saturating_sub(start) as u64);
        let length = self.0.len().saturating_sub(body);
        if let Some(written) = self.0.get_mut(start..) {
            written.rotate_right(length);
        }
    }

    /// Appends fields that were written elsewhere.
    pub(super) fn append(&mut self, fields: &Message) {
        self.0.extend_from_slice(&fields.0);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn tag(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    fn written(write: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        write(&mut message);
        message.as_bytes().to_vec()
    }

    /// The examples of the encoding's own document.
    #[test]
    fn examples_of_the_specification() {
        assert_eq!(written(|m| m.uint(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|m| m.text(2, "testing")), [0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g']);
        assert_eq!(written(|m| m.message(3, |m| m.uint(1, 150))), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(written(|m| m.int(1, -2)), [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn numbers_at_their_limits() {
        assert_eq!(written(|m| m.uint(1, 0)), [0x08, 0x00]);
        assert_eq!(written(|m| m.uint(16, 127)), [0x80, 0x01, 0x7f]);
        assert_eq!(written(|m| m.uint(1, u64::MAX)).len(), 11);
        assert_eq!(written(|m| m.fixed64(1, 1)), [0x09, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(|m| m.double(2, 1.0)), [0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(written(|m| m.bool(3, true)), [0x18, 1]);
    }

    /// A message of 128 bytes and more has a length of two bytes, within others, too.
    #[test]
    fn long_messages_within_messages() {
        let text = "x".repeat(200);
        let bytes = written(|m| {
            m.uint(1, 7);
            m.message(2, |m| {
                m.message(3, |m| m.text(4, &text));
                m.uint(5, 9);
            });
        });
        let mut expected = vec![0x08, 7, 0x12, 0xd0, 0x01, 0x1a, 0xcb, 0x01, 0x22, 0xc8, 0x01];
        expected.extend_from_slice(text.as_bytes());
        expected.extend([0x28, 9]);
        assert_eq!(bytes, expected);
    }
}
