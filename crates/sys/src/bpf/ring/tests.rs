//! A ring composed as kernel/bpf/ringbuf.c lays one out, and written as it writes.

use super::*;

/// 64 bytes of data, shown twice.
struct Composed {
    consumer: AtomicUsize,
    producer: AtomicUsize,
    data: Box<[u64; 16]>,
}

impl Composed {
    fn at(position: usize) -> Composed {
        let data = Box::new([0; 16]);
        Composed { consumer: AtomicUsize::new(position), producer: AtomicUsize::new(position), data }
    }

    fn put(&mut self, at: usize, byte: u8) {
        let (word, shift) = (at % 64 / 8, at % 8 * 8);
        for half in [0, 8] {
            let bytes = &mut self.data[word + half];
            *bytes = (*bytes & !(0xff << shift)) | u64::from(byte) << shift;
        }
    }

    fn set_header(&mut self, at: usize, word: u32) {
        for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
            self.put(at.wrapping_add(i), byte);
        }
    }

    /// A record with these bits in its header; returns its place.
    fn add(&mut self, record: &[u8], bits: u32) -> usize {
        let at = *self.producer.get_mut();
        self.set_header(at, record.len() as u32 | bits);
        for (i, byte) in record.iter().enumerate() {
            self.put(at.wrapping_add(8 + i), *byte);
        }
        *self.producer.get_mut() = at.wrapping_add((record.len() + 8).next_multiple_of(8));
        at
    }

    fn read(&mut self) -> (Vec<Vec<u8>>, bool) {
        let view = View {
            consumer: NonNull::from(&self.consumer),
            producer: NonNull::from(&self.producer),
            data: NonNull::from(&mut *self.data).cast(),
            size: 64,
        };
        let mut records = Vec::new();
        // SAFETY: all of it is borrowed here, twice 64 bytes of data, and nobody writes meanwhile.
        let progress = unsafe { view.read(|record| records.push(record.to_vec())) };
        assert_eq!(progress.records, records.len() as u64);
        (records, progress.is_complete)
    }
}

fn record(text: &[u8]) -> Vec<u8> {
    text.to_vec()
}

#[test]
fn records_come_in_order_and_their_room_is_free_again() {
    let mut ring = Composed::at(0);
    for round in 0..100_u8 {
        ring.add(&[round; 5], 0);
        ring.add(&[round, 1], 0);
        assert_eq!(ring.read(), (vec![record(&[round; 5]), record(&[round, 1])], true));
        assert_eq!(ring.read(), (vec![], true));
        assert_eq!(ring.consumer.get_mut(), ring.producer.get_mut());
    }
}

#[test]
fn a_record_over_the_end_is_whole() {
    let mut ring = Composed::at(48);
    let long: Vec<u8> = (1..=30).collect();
    ring.add(&long, 0);
    assert_eq!(ring.read(), (vec![long], true));
}

#[test]
fn positions_that_wrap_go_on() {
    let mut ring = Composed::at(usize::MAX - 7);
    ring.add(b"one", 0);
    ring.add(b"two", 0);
    assert_eq!(ring.read(), (vec![record(b"one"), record(b"two")], true));
}

#[test]
fn what_was_discarded_is_passed_over() {
    let mut ring = Composed::at(0);
    ring.add(b"no", DISCARDED);
    ring.add(b"yes", 0);
    ring.add(b"no", DISCARDED);
    assert_eq!(ring.read(), (vec![record(b"yes")], true));
}

#[test]
fn a_record_that_is_being_filled_holds_back_those_behind_it() {
    let mut ring = Composed::at(0);
    ring.add(b"one", 0);
    let busy = ring.add(b"two", BUSY);
    ring.add(b"three", 0);
    assert_eq!(ring.read(), (vec![record(b"one")], false));
    assert_eq!(ring.read(), (vec![], false));
    ring.set_header(busy, 3);
    assert_eq!(ring.read(), (vec![record(b"two"), record(b"three")], true));
}

#[test]
fn synthetic_length_beyond_the_ring_ends_the_reading() {
    let mut ring = Composed::at(0);
    ring.add(b"one", 0);
    let at = ring.add(b"two", 0);
    ring.set_header(at, 57);
    assert_eq!(ring.read(), (vec![record(b"one")], false));
    ring.set_header(at, !(BUSY | DISCARDED));
    assert_eq!(ring.read(), (vec![], false));
}
