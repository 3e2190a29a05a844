//! Which parts of records differ.

use super::super::frame::at;

/// Numbers of eight bytes that a record may have beside the first.
pub(in super::super) const MOST_MORE: usize = 4;

/// Ranges in which a record speaks of its thread.
pub(in super::super) const MOST_RANGES: usize = 8;

/// In the place of an offset: the records have no such number.
pub(in super::super) const NOWHERE: u16 = u16::MAX;

/// Where the numbers stand in data that differ from record to record. Their places in a slot are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Layout {
    /// Of eight bytes, in the slot and behind it.
    pub(in super::super) long: u16,
    pub(in super::super) more: [u16; MOST_MORE],
    /// Of four bytes.
    pub(in super::super) short: u16,
    /// Of four bytes of which the upper two are 0.
    pub(in super::super) small: u16,
    /// Where the bytes stand that tell of the thread: offset and length.
    pub(in super::super) thread: [(u16, u16); MOST_RANGES],
}

/// Length of a layout in a frame.
pub(in super::super) const LAYOUT: usize = 2 * (3 + MOST_MORE + 2 * MOST_RANGES) + 2;

const _: () = assert!(LAYOUT.is_multiple_of(8));

impl Layout {
    /// Of records without any such number.
    pub(in super::super) const NONE: Layout = Layout {
        long: NOWHERE,
        more: [NOWHERE; MOST_MORE],
        short: NOWHERE,
        small: NOWHERE,
        thread: [(0, 0); MOST_RANGES],
    };

    pub(in super::super) fn to_bytes(self) -> [u8; LAYOUT] {
        let ranges = self.thread.into_iter().flat_map(|(at, length)| [at, length]);
        let all = [self.long].into_iter().chain(self.more).chain([self.short, self.small]).chain(ranges);
        let mut bytes = [0; LAYOUT];
        for (place, number) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(all) {
            *place = number.to_le_bytes();
        }
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Layout> {
        let number = |i: usize| at(bytes, 2 * i).map(u16::from_le_bytes);
        let mut layout = Layout { long: number(0)?, ..Layout::NONE };
        for (i, place) in layout.more.iter_mut().enumerate() {
            *place = number(1 + i)?;
        }
        (layout.short, layout.small) = (number(1 + MOST_MORE)?, number(2 + MOST_MORE)?);
        for (i, place) in layout.thread.iter_mut().enumerate() {
            *place = (number(3 + MOST_MORE + 2 * i)?, number(4 + MOST_MORE + 2 * i)?);
        }
        Some(layout)
    }

    pub(super) fn hash(&self) -> u64 {
        let bytes = self.to_bytes();
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        words.fold(0, |all, word| (all.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// How many numbers stand behind the slot.
    pub(in super::super) fn more(&self) -> usize {
        self.more.iter().take_while(|place| **place != NOWHERE).count()
    }

    /// Whether all that is left out lies within so many bytes, and behind the number of the format, which is every template's.
    pub(in super::super) fn fits(&self, length: usize) -> bool {
        let is_sound = |(at, of): (u16, u16)| of == 0 || at >= 2 && usize::from(at) + usize::from(of) <= length;
        self.left_out().all(is_sound)
    }

    /// Offset and length of all that is not in a template.
    pub(in super::super) fn left_out(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let numbers = [(self.long, 8), (self.short, 4), (self.small, 4)];
        let more = self.more.iter().map(|at| (*at, 8));
        numbers.into_iter().chain(more).filter(|(at, _)| *at != NOWHERE).chain(self.thread.iter().copied())
    }
}
