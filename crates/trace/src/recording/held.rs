//! Frames of which records wait, as they were read.

use super::frame::{Kind, RECORD_HEAD, RecordHead, record_length};
use super::packed::{Packed, PackedRecords, Tables};
use super::scan::{Blocks, Frame};
use crate::RawRecord;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes records in order of time.
pub(super) trait Give {
    fn record(&mut self, record: RawRecord<'_>);
    /// Some of one frame.
    fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>);
}

/// The frames, the one that was read first in front.
#[derive(Debug, Default)]
pub(super) struct Held {
    frames: VecDeque<HeldFrame>,
    /// Number of the first one.
    first: u32,
}

/// Packed frames so far, of all readers: who keeps what one says is never to take another for it.
static PACKED: AtomicU64 = AtomicU64::new(0);

/// One of them.
#[derive(Debug)]
pub(super) struct HeldFrame {
    block: u32,
    start: usize,
    length: usize,
    tables: Option<Box<Tables>>,
}

impl Held {
    /// Holds a frame with so many bytes of payload, and gives its number. None of one whose tables are not sound.
    pub(super) fn add(&mut self, blocks: &Blocks, frame: &Frame, length: usize) -> Option<u32> {
        let payload = blocks.from(frame.block, frame.start).get(..length).unwrap_or_default();
        let tables = match Kind::of(frame.head.kind) {
            Some(Kind::Packed) => Some(Box::new(Tables::parse(payload, PACKED.fetch_add(1, Ordering::Relaxed))?)),
            _ => None,
        };
        let number = self.first.wrapping_add(self.frames.len() as u32);
        self.frames.push_back(HeldFrame { block: frame.block, start: frame.start, length: payload.len(), tables });
        Some(number)
    }

    /// A frame by its number.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&HeldFrame> {
        self.frames.get(self.age(number) as usize)
    }

    /// How many frames that are held were read before that one.
    #[inline]
    pub(super) fn age(&self, number: u32) -> u32 {
        number.wrapping_sub(self.first)
    }

    /// Lets go of the frames before that one, or of all, and of what they stand in.
    pub(super) fn release_before(&mut self, number: Option<u32>, blocks: &mut Blocks) {
        let gone = number.map_or(self.frames.len(), |number| self.age(number) as usize);
        self.first = self.first.wrapping_add(self.frames.drain(..gone.min(self.frames.len())).len() as u32);
        blocks.release_before(self.frames.front().map_or_else(|| blocks.last(), |frame| frame.block));
    }
}

impl HeldFrame {
    #[inline]
    pub(super) fn payload<'a>(&self, blocks: &'a Blocks) -> &'a [u8] {
        blocks.from(self.block, self.start).get(..self.length).unwrap_or_default()
    }

    /// Where its first record stands.
    pub(super) fn records_at(&self) -> usize {
        self.tables.as_ref().map_or(0, |tables| tables.records_at())
    }

    /// The time of the record that stands here, and how far it is to the next one: all that tells their order.
    #[inline(always)]
    pub(super) fn time_and_length(&self, bytes: &[u8]) -> Option<(u64, usize)> {
        match &self.tables {
            None => {
                let head = RecordHead::parse(bytes)?;
                Some((head.at_ns, record_length(usize::from(head.size))))
            }
            Some(tables) => tables.time_and_length(bytes),
        }
    }

    /// Of so many packed records, the time of the last one, if they are in order of time and none is before that moment.
    pub(super) fn last_in_order(&self, bytes: &[u8], count: usize, from_ns: u64) -> Option<u64> {
        self.tables.as_ref()?.last_in_order(bytes, count, from_ns)
    }

    /// Gives the records from `start` to `end` that are not later than that; they are in order of time. Says how many they are, and where
    /// the first stands that is later.
    pub(super) fn give(
        &self,
        blocks: &Blocks,
        place: (usize, usize),
        until_ns: u64,
        sink: &mut impl Give,
    ) -> (usize, usize) {
        let payload = self.payload(blocks);
        let (start, end) = place;
        let bytes = payload.get(start..end).unwrap_or_default();
        if let Some(tables) = &self.tables {
            let frame = Packed::new(tables, payload);
            let (now, count) = tables.until(bytes, until_ns);
            sink.packed(frame, frame.records(now));
            return (count, start.saturating_add(now.len()));
        }
        let (mut rest, mut count) = (bytes, 0_usize);
        while let Some((record, after)) = split_record(rest) {
            if record.at_ns > until_ns {
                break;
            }
            sink.record(record);
            rest = after;
            count = count.saturating_add(1);
        }
        (count, end.saturating_sub(rest.len()))
    }

    /// Gives the record that stands at an offset of its payload.
    // Not where it is called: what takes records may be large.
    #[inline(never)]
    pub(super) fn give_one(&self, payload: &[u8], offset: usize, sink: &mut impl Give) {
        let bytes = payload.get(offset..).unwrap_or_default();
        match &self.tables {
            None => {
                if let Some((record, _)) = split_record(bytes) {
                    sink.record(record);
                }
            }
            Some(tables) => {
                let frame = Packed::new(tables, payload);
                sink.packed(frame, frame.records(bytes.get(..tables.stride()).unwrap_or_default()));
            }
        }
    }
}

/// The record that stands here, and what stands behind it.
#[inline(always)]
fn split_record(bytes: &[u8]) -> Option<(RawRecord<'_>, &[u8])> {
    let head = RecordHead::parse(bytes)?;
    let size = usize::from(head.size);
    let after = bytes.get(record_length(size)..)?;
    let data = bytes.get(RECORD_HEAD..RECORD_HEAD + size)?;
    Some((RawRecord { at_ns: head.at_ns, cpu: head.cpu, data }, after))
}
