//! Records of a running capture in order of time.

use crate::{RawRecord, RecordSink};

/// Copies that wait at most. When more come before a round ends, all are given at once, in order among themselves.
const MOST_BYTES: usize = 64 << 20;

/// Keeps records until it is known that nothing earlier can come, and gives them in order of time.
///
/// Captures give the records of one processor after those of another; what puts jobs together wants them by time. Memory is bounded by
/// what comes between two rounds of the capture, and by 64 MiB.
#[derive(Debug, Default)]
pub struct InOrder {
    waiting: Vec<Waiting>,
    bytes: Vec<u8>,
    hurried: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    at_ns: u64,
    offset: u32,
    size: u16,
    cpu: u16,
}

impl InOrder {
    /// Nothing waits.
    pub fn new() -> InOrder {
        InOrder::default()
    }

    /// Whether so much waits that it should be given now, whatever may come.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= MOST_BYTES
    }

    /// Records that were given before it was known that nothing earlier can come.
    pub fn hurried(&self) -> u64 {
        self.hurried
    }

    /// Gives all records that are not later than this ([`Drained::until_ns`](crate::capture::Drained)), and all where too many wait.
    pub fn give_until(&mut self, until_ns: u64, mut each: impl FnMut(RawRecord<'_>)) {
        // Records of one moment stay as they came.
        self.waiting.sort_by_key(|record| record.at_ns);
        let mut end = self.waiting.partition_point(|record| record.at_ns <= until_ns);
        if self.is_full() {
            self.hurried = self.hurried.saturating_add((self.waiting.len().saturating_sub(end)) as u64);
            end = self.waiting.len();
        }
        for record in self.waiting.drain(..end) {
            let start = record.offset as usize;
            let data = self.bytes.get(start..start.saturating_add(usize::from(record.size))).unwrap_or_default();
            each(RawRecord { at_ns: record.at_ns, cpu: record.cpu, data });
        }
        let mut kept = Vec::new();
        for record in &mut self.waiting {
            let start = record.offset as usize;
            let data = self.bytes.get(start..start.saturating_add(usize::from(record.size))).unwrap_or_default();
            record.offset = kept.len() as u32;
            kept.extend_from_slice(data);
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(&kept);
    }
}

impl RecordSink for InOrder {
    /// One that is longer than a record can be is passed over: no decoder knows its like.
    fn record(&mut self, record: RawRecord<'_>) {
        let (Ok(size), Ok(offset)) = (u16::try_from(record.data.len()), u32::try_from(self.bytes.len())) else {
            return;
        };
        self.bytes.extend_from_slice(record.data);
        self.waiting.push(Waiting { at_ns: record.at_ns, offset, size, cpu: record.cpu });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(of: &mut InOrder, until_ns: u64) -> Vec<(u64, u16, Vec<u8>)> {
        let mut given = Vec::new();
        of.give_until(until_ns, |record| given.push((record.at_ns, record.cpu, record.data.to_vec())));
        given
    }

    #[test]
    fn processors_that_come_one_after_the_other_are_merged_up_to_the_round() {
        let mut of = InOrder::new();
        for (at_ns, cpu) in [(10, 0), (30, 0), (50, 0), (20, 1), (30, 1), (60, 1)] {
            of.record(RawRecord { at_ns, cpu, data: &[at_ns as u8; 3] });
        }
        let first: Vec<(u64, u16)> = given(&mut of, 40).iter().map(|(at_ns, cpu, _)| (*at_ns, *cpu)).collect();
        assert_eq!(first, [(10, 0), (20, 1), (30, 0), (30, 1)]);
        of.record(RawRecord { at_ns: 45, cpu: 1, data: &[45] });
        assert_eq!(given(&mut of, 55), [(45, 1, vec![45]), (50, 0, vec![50; 3])]);
        assert_eq!(given(&mut of, u64::MAX), [(60, 1, vec![60; 3])]);
        assert_eq!((given(&mut of, u64::MAX).len(), of.hurried()), (0, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut of = InOrder::new();
        let data = vec![0; usize::from(u16::MAX)];
        let mut records = 0_u64;
        while !of.is_full() {
            of.record(RawRecord { at_ns: 10_000 - records, cpu: 0, data: &data });
            records += 1;
        }
        let given = given(&mut of, 0);
        assert!(given.is_sorted_by_key(|(at_ns, ..)| *at_ns));
        assert_eq!((given.len() as u64, of.hurried()), (records, records));
    }
}
