//! Packed records in order of time.
//!
//! A capture empties its buffers one after the other. Who reads a recording would have to put that together again each time, record by
//! record; here it is done once, while a frame is in the processor's cache.

use super::packed::{AFTER_NS, SLOT};

/// Sorts, and keeps the memory that this takes.
#[derive(Debug, Default)]
pub(super) struct Sorter {
    /// Time and place of each record, as one number.
    order: Vec<u64>,
    sorted: Vec<u8>,
}

impl Sorter {
    /// Puts records of so many bytes each in order of time, those of one moment in the order in which they stand.
    pub(super) fn sort(&mut self, records: &mut Vec<u8>, length: usize) {
        let times = records.chunks_exact(length.max(SLOT)).map(|record| {
            let after_ns = record.get(AFTER_NS..).and_then(|rest| rest.first_chunk()).copied();
            // From the least number on.
            i32::from_le_bytes(after_ns.unwrap_or_default()).cast_unsigned() ^ 1 << 31
        });
        self.order.clear();
        self.order.extend(times.zip(0..).map(|(time, place): (u32, u32)| u64::from(time) << 32 | u64::from(place)));
        // They come in few runs, which this one merges.
        self.order.sort();
        self.sorted.clear();
        self.sorted.reserve(records.len());
        for place in &self.order {
            let start = (*place as u32 as usize).saturating_mul(length);
            let record = records.get(start..).and_then(|rest| rest.get(..length));
            self.sorted.extend_from_slice(record.unwrap_or_default());
        }
        std::mem::swap(records, &mut self.sorted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_length_are_sorted_by_time_alone() {
        for length in [SLOT, SLOT + 8, SLOT + 32] {
            // Some are of one moment, and some are before the time that all others are told from.
            let after_ns = |n: i32| n.wrapping_mul(-1_640_531_527) >> (n % 2 * 26);
            let mut records = Vec::new();
            for n in 0..3000_i32 {
                let start = records.len();
                records.resize(start + length, 0);
                records[start..start + 4].copy_from_slice(&n.to_le_bytes());
                records[start + AFTER_NS..start + AFTER_NS + 4].copy_from_slice(&after_ns(n).to_le_bytes());
            }
            let mut expected: Vec<i32> = (0..3000).collect();
            expected.sort_by_key(|n| after_ns(*n));
            let mut sorter = Sorter::default();
            sorter.sort(&mut records, length);
            let numbers = |records: &[u8]| -> Vec<i32> {
                records.chunks(length).map(|record| i32::from_le_bytes(*record.first_chunk().unwrap())).collect()
            };
            assert_eq!(numbers(&records), expected);
            // What is sorted stays so, and nothing of it is left for the next.
            sorter.sort(&mut records, length);
            assert_eq!(numbers(&records), expected);
        }
    }
}
