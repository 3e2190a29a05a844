//! Ends of jobs of which it was not known yet what they ended with: `ENDED` in `jobs.h`.
//!
//! Such a job's finished fence signals right after that, in the same thread, and `fence_error` tells of an error. So the record is held until
//! that one comes, and told with its error; where none comes, it is told without one, as not known: that a job has not failed is nothing that
//! a missing record proves.

use super::JobRecord;
use super::programs::{DONE, FENCE_ERROR};

/// The number of the records' layout.
const ENDED: u16 = 7;

/// Length of `struct done` behind its head, and where its job and its error are: `struct common` is in front.
const LENGTH: usize = 32;
const JOB: usize = 8;
const ERROR: usize = 24;

/// So long after a job's end its error is waited for. A task may be preempted between the two.
const PATIENCE_NS: u64 = 20_000_000;

/// No more are held; the oldest is told as it is.
const MOST: usize = 1024;

/// Ends that are held, by time.
#[derive(Debug, Default)]
pub(super) struct Ends {
    held: Vec<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at_ns: u64,
    cpu: u16,
    data: [u8; LENGTH],
}

impl End {
    fn of(record: &JobRecord<'_>) -> Option<End> {
        Some(End { at_ns: record.at_ns, cpu: record.cpu, data: *record.data.first_chunk()? })
    }

    /// What stands there.
    fn error(&self) -> Option<i32> {
        Some(i32::from_ne_bytes(*self.data.get(ERROR..)?.first_chunk()?))
    }

    /// A record of DONE, with this error.
    fn with_error(mut self, error: i32) -> End {
        self.put(0, &DONE.record.to_ne_bytes());
        self.put(ERROR, &error.to_ne_bytes());
        self
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.data.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }

    fn give(&self, each: &mut impl FnMut(JobRecord<'_>)) {
        each(JobRecord { at_ns: self.at_ns, cpu: self.cpu, data: &self.data });
    }

    /// As it is: a driver may have set an error before.
    fn give_up(self, each: &mut impl FnMut(JobRecord<'_>)) {
        match self.error() {
            Some(error) if error != 0 => self.with_error(error).give(each),
            _ => self.give(each),
        }
    }
}

impl Ends {
    /// Takes a record, and gives what can be told now.
    pub(super) fn record(&mut self, record: JobRecord<'_>, each: &mut impl FnMut(JobRecord<'_>)) {
        if record.data.starts_with(&ENDED.to_ne_bytes())
            && let Some(end) = End::of(&record)
        {
            if self.held.len() >= MOST {
                self.held.remove(0).give_up(each);
            }
            self.held.push(end);
            return;
        }
        if !self.held.is_empty()
            && record.data.starts_with(&FENCE_ERROR.record.to_ne_bytes())
            && let Some(of) = End::of(&record)
        {
            let is_its = |end: &End| end.data.get(JOB..ERROR) == of.data.get(JOB..ERROR);
            if let Some(at) = self.held.iter().position(is_its) {
                let end = self.held.remove(at);
                end.with_error(of.error().unwrap_or(0)).give(each);
            }
        }
        each(record);
    }

    /// Gives those whose error would have come by now: all records until this moment were given.
    pub(super) fn settle(&mut self, complete_ns: u64, each: &mut impl FnMut(JobRecord<'_>)) {
        let is_over = |end: &End| end.at_ns.saturating_add(PATIENCE_NS) < complete_ns;
        self.held.iter().filter(|end| is_over(end)).for_each(|end| end.give_up(each));
        self.held.retain(|end| !is_over(end));
    }

    /// When the oldest ended that is held.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.held.iter().map(|end| end.at_ns).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: u16 = super::DONE.record;
    const FENCE_ERROR: u16 = super::FENCE_ERROR.record;

    /// `struct common`, `struct job`, error and padding.
    fn data(kind: u16, job: u64, error: i32) -> Vec<u8> {
        let mut data = Vec::from(kind.to_ne_bytes());
        data.extend([0, 0, 77, 0, 0, 0]);
        [5, job].iter().for_each(|word| data.extend(word.to_ne_bytes()));
        data.extend(error.to_ne_bytes());
        data.extend([0; 4]);
        data
    }

    /// Kind, job, error and time of what is given for these, and at last when all until a moment was given.
    fn told(ends: &mut Ends, records: &[(u64, Vec<u8>)], complete_ns: u64) -> Vec<(u16, u64, i32, u64)> {
        let mut told = Vec::new();
        let mut each = |record: JobRecord<'_>| {
            let word = |at: usize| u64::from_ne_bytes(record.data[at..at + 8].try_into().unwrap());
            let kind = u16::from_ne_bytes(record.data[..2].try_into().unwrap());
            let error = i32::from_ne_bytes(record.data[24..28].try_into().unwrap());
            told.push((kind, word(16), error, record.at_ns));
        };
        for (at_ns, data) in records {
            ends.record(JobRecord { at_ns: *at_ns, cpu: 1, data }, &mut each);
        }
        ends.settle(complete_ns, &mut each);
        told
    }

    #[test]
    fn an_end_has_the_error_that_its_fence_tells_of() {
        let records = [(10, data(ENDED, 1, 0)), (11, data(DONE, 2, 0)), (12, data(FENCE_ERROR, 1, -5))];
        let expected = [(DONE, 2, 0, 11), (DONE, 1, -5, 10), (FENCE_ERROR, 1, -5, 12)];
        assert_eq!(told(&mut Ends::default(), &records, 13), expected);
    }

    #[test]
    fn an_end_without_an_error_stays_not_known() {
        let mut ends = Ends::default();
        let other = data(FENCE_ERROR, 9, -125);
        let records = [(10, data(ENDED, 1, 0)), (12, other)];
        assert_eq!(told(&mut ends, &records, 10 + PATIENCE_NS), [(FENCE_ERROR, 9, -125, 12)]);
        assert_eq!(ends.oldest_ns(), Some(10));
        assert_eq!(told(&mut ends, &[], 11 + PATIENCE_NS), [(ENDED, 1, 0, 10)]);
        assert_eq!(ends.oldest_ns(), None);
    }

    #[test]
    fn an_error_that_was_set_before_is_told_where_no_other_comes() {
        assert_eq!(told(&mut Ends::default(), &[(10, data(ENDED, 1, -62))], u64::MAX), [(DONE, 1, -62, 10)]);
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for() {
        let mut ends = Ends::default();
        let records: Vec<_> = (0..MOST as u64 + 1).map(|job| (job, data(ENDED, job, 0))).collect();
        assert_eq!(told(&mut ends, &records, 0), [(ENDED, 0, 0, 0)]);
        assert_eq!(ends.held.len(), MOST);
    }

    #[test]
    fn synthetic_short_records_pass() {
        let mut records = 0;
        for length in 0..LENGTH {
            let data = &data(ENDED, 1, 0)[..length];
            Ends::default().record(JobRecord { at_ns: 1, cpu: 0, data }, &mut |_| records += 1);
        }
        assert_eq!(records, LENGTH);
    }
}
