//! What was recorded: `struct perf_event_attr` (include/uapi/linux/perf_event.h), and where the fields of its records stand.

use crate::perf_record::{u32_at, u64_at};

const TRACEPOINT: u32 = 2;
const CLOCK_MONOTONIC: i32 = 1;

/// Bits of `sample_type`.
const IP: u64 = 1 << 0;
const TID: u64 = 1 << 1;
const TIME: u64 = 1 << 2;
const ADDR: u64 = 1 << 3;
const READ: u64 = 1 << 4;
const CALLCHAIN: u64 = 1 << 5;
const ID: u64 = 1 << 6;
const CPU: u64 = 1 << 7;
const PERIOD: u64 = 1 << 8;
const STREAM_ID: u64 = 1 << 9;
const RAW: u64 = 1 << 10;
const IDENTIFIER: u64 = 1 << 16;

/// Bits of `read_format`.
const FORMAT_ENABLED: u64 = 1 << 0;
const FORMAT_RUNNING: u64 = 1 << 1;
const FORMAT_ID: u64 = 1 << 2;
const FORMAT_GROUP: u64 = 1 << 3;
const FORMAT_LOST: u64 = 1 << 4;

/// Bits of the flags.
const SAMPLE_ID_ALL: u64 = 1 << 18;
const USE_CLOCKID: u64 = 1 << 25;

/// `PERF_ATTR_SIZE_VER0`: the least that any version has.
pub(super) const LEAST: usize = 64;

/// One event that was recorded, so far as its records need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attr {
    kind: u32,
    /// Its whole length.
    pub(super) size: u32,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    clockid: i32,
}

/// What a sample of a tracepoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    /// Process and thread, where they are known.
    pub(super) task: Option<(u32, u32)>,
    pub(super) at_ns: u64,
    pub(super) cpu: Option<u32>,
    /// The tracepoint's own record.
    pub(super) data: &'a [u8],
}

impl Attr {
    /// Reads one. Versions before fields are those without them.
    pub(super) fn parse(bytes: &[u8]) -> Option<Attr> {
        let size = match u32_at(bytes, 4)? {
            0 => LEAST as u32,
            size => size,
        };
        let bytes = bytes.get(..bytes.len().min(size as usize))?;
        Some(Attr {
            kind: u32_at(bytes, 0)?,
            size,
            sample_type: u64_at(bytes, 24)?,
            read_format: u64_at(bytes, 32)?,
            flags: u64_at(bytes, 40)?,
            clockid: u32_at(bytes, 92).unwrap_or(0).cast_signed(),
        })
    }

    pub(super) fn is_tracepoint(&self) -> bool {
        self.kind == TRACEPOINT
    }

    /// The clock of its times. None for perf's own, which no other tool has.
    pub(super) fn clock(&self) -> Option<i32> {
        (self.flags & USE_CLOCKID != 0).then_some(self.clockid)
    }

    pub(super) fn is_monotonic(&self) -> bool {
        self.clock() == Some(CLOCK_MONOTONIC)
    }

    /// Where samples have the number of their event, from the header's end on.
    pub(super) fn id_offset(&self) -> Option<usize> {
        if self.sample_type & IDENTIFIER != 0 {
            return Some(0);
        }
        let before = [IP, TID, TIME, ADDR].iter().filter(|bit| self.sample_type & **bit != 0).count();
        (self.sample_type & ID != 0).then_some(before.saturating_mul(8))
    }

    /// Where other records have it, counted back from their end.
    pub(super) fn id_offset_back(&self) -> Option<usize> {
        if self.flags & SAMPLE_ID_ALL == 0 {
            return None;
        }
        self.back(IDENTIFIER, &[]).or_else(|| self.back(ID, &[STREAM_ID, CPU, IDENTIFIER]))
    }

    /// When a record that is no sample was written (`perf_event__output_id_sample`, kernel/events/core.c).
    pub(super) fn time_of_other(&self, record: &[u8]) -> Option<u64> {
        if self.flags & SAMPLE_ID_ALL == 0 {
            return None;
        }
        let back = self.back(TIME, &[ID, STREAM_ID, CPU, IDENTIFIER])?;
        u64_at(record, record.len().checked_sub(back)?)
    }

    /// Place of a field of eight bytes behind which those stand, of these, that there are.
    fn back(&self, field: u64, behind: &[u64]) -> Option<usize> {
        let behind = behind.iter().filter(|bit| self.sample_type & **bit != 0).count();
        (self.sample_type & field != 0).then_some(behind.saturating_add(1).saturating_mul(8))
    }

    /// Reads what stands behind the header of a sample, as `perf_output_sample` (kernel/events/core.c) writes it. None for one that is too
    /// short, or has no time or no record.
    pub(super) fn sample<'a>(&self, body: &'a [u8]) -> Option<Sample<'a>> {
        let has = |bit: u64| self.sample_type & bit != 0;
        let mut at = 0_usize;
        let mut skip = |bit: u64| {
            let place = at;
            if has(bit) {
                at = at.saturating_add(8);
            }
            has(bit).then_some(place)
        };
        skip(IDENTIFIER);
        skip(IP);
        let task = skip(TID);
        let time = skip(TIME);
        skip(ADDR);
        skip(ID);
        skip(STREAM_ID);
        let cpu = skip(CPU);
        skip(PERIOD);
        if has(READ) {
            at = at.saturating_add(self.read_length(body.get(at..)?)?);
        }
        if has(CALLCHAIN) {
            let frames = usize::try_from(u64_at(body, at)?).ok()?;
            at = at.saturating_add(frames.saturating_add(1).checked_mul(8)?);
        }
        if !has(RAW) {
            return None;
        }
        let length = u32_at(body, at)? as usize;
        let data = body.get(at.saturating_add(4)..)?.get(..length)?;
        let task = task.and_then(|at| Some((u32_at(body, at)?, u32_at(body, at.saturating_add(4))?)));
        Some(Sample { task, at_ns: u64_at(body, time?)?, cpu: cpu.and_then(|at| u32_at(body, at)), data })
    }

    /// How long the counts of a sample are (`perf_output_read`).
    fn read_length(&self, bytes: &[u8]) -> Option<usize> {
        let count = |bits: &[u64]| bits.iter().filter(|bit| self.read_format & **bit != 0).count();
        let times = count(&[FORMAT_ENABLED, FORMAT_RUNNING]);
        let each = count(&[FORMAT_ID, FORMAT_LOST]).saturating_add(1);
        let words = match self.read_format & FORMAT_GROUP {
            0 => times.saturating_add(each),
            _ => usize::try_from(u64_at(bytes, 0)?).ok()?.checked_mul(each)?.saturating_add(times).saturating_add(1),
        };
        words.checked_mul(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(sample_type: u64, read_format: u64) -> Attr {
        Attr { kind: TRACEPOINT, size: 128, sample_type, read_format, flags: SAMPLE_ID_ALL, clockid: 0 }
    }

    fn words(all: &[u64]) -> Vec<u8> {
        all.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Two halves of a word, in memory's order.
    fn halves(first: u32, second: u32) -> u64 {
        u64::from_ne_bytes([first.to_ne_bytes(), second.to_ne_bytes()].concat().try_into().unwrap())
    }

    #[test]
    fn fields_of_a_sample_stand_in_the_order_of_the_kernel() {
        let all = IP | TID | TIME | ADDR | READ | CALLCHAIN | ID | CPU | PERIOD | STREAM_ID | RAW | IDENTIFIER;
        let format = FORMAT_ENABLED | FORMAT_RUNNING | FORMAT_ID | FORMAT_GROUP | FORMAT_LOST;
        let head = [1, 2, halves(70, 77), 123, 4, 1, 6, halves(3, 0), 8];
        let counts = [2, 100, 200, 11, 12, 13, 21, 22, 23];
        let chain = [2, 0xaaaa, 0xbbbb];
        let raw = [halves(4, u32::from_ne_bytes([1, 2, 3, 4]))];
        let body = words(&[&head[..], &counts, &chain, &raw].concat());
        let sample = Sample { task: Some((70, 77)), at_ns: 123, cpu: Some(3), data: &[1, 2, 3, 4] };
        assert_eq!(attr(all, format).sample(&body), Some(sample));
        for length in 0..body.len() {
            assert_eq!(attr(all, format).sample(&body[..length]), None, "{length}");
        }
        // Counts of one event alone.
        let few = TIME | READ | RAW;
        let body = words(&[123, 1, 2, raw[0]]);
        let sample = Sample { task: None, at_ns: 123, cpu: None, data: &[1, 2, 3, 4] };
        assert_eq!(attr(few, FORMAT_LOST).sample(&body), Some(sample));
        // Numbers that no file can hold.
        assert_eq!(attr(TIME | CALLCHAIN | RAW, 0).sample(&words(&[1, u64::MAX, 0, 0])), None);
        assert_eq!(attr(TIME | READ | RAW, FORMAT_GROUP).sample(&words(&[1, u64::MAX, 0, 0])), None);
        assert_eq!(attr(TID | RAW, 0).sample(&words(&[1, raw[0]])), None, "without a time");
    }

    #[test]
    fn events_are_told_by_a_number_at_a_place_of_its_own() {
        assert_eq!(attr(IDENTIFIER | IP | TID, 0).id_offset(), Some(0));
        assert_eq!(attr(IP | TID | TIME | ID | CPU, 0).id_offset(), Some(24));
        assert_eq!(attr(IP | TID | TIME, 0).id_offset(), None);
        assert_eq!(attr(TID | TIME | ID | CPU | IDENTIFIER, 0).id_offset_back(), Some(8));
        assert_eq!(attr(TID | TIME | ID | CPU, 0).id_offset_back(), Some(16));
        let record = words(&[0, 55, halves(70, 77), 123, 9, halves(3, 0)]);
        assert_eq!(attr(TID | TIME | ID | CPU, 0).time_of_other(&record), Some(123));
        assert_eq!(attr(TID | ID | CPU, 0).time_of_other(&record), None);
    }
}
