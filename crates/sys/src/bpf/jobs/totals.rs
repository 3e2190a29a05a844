//! What jobs take, added up in the kernel: `totals.h`, from this side.

use super::super::error::BpfError;
use super::super::object::Tracepoints;

/// Buckets of a histogram: `BUCKETS` in `totals.h`.
pub const JOB_BUCKETS: usize = 304;

/// A part of a job's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobStage {
    /// From queue to run.
    Queued,
    /// From run to done.
    InFlight,
    /// From queue to done.
    Whole,
}

/// What the jobs of one process on one ring took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTotal {
    /// The device's name.
    pub device: String,
    /// The ring's.
    pub ring: String,
    /// The process.
    pub pid: u32,
    /// Which part of their life.
    pub stage: JobStage,
    /// How many jobs.
    pub jobs: u64,
    /// Nanoseconds of all of them.
    pub sum_ns: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How many in each bucket ([`bucket_range`]).
    pub buckets: Vec<u32>,
}

/// A ring now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingTotal {
    /// The device's name.
    pub device: String,
    /// The ring's.
    pub ring: String,
    /// Jobs that are queued and do not run yet.
    pub waiting: u64,
    /// Jobs that run.
    pub in_flight: u64,
    /// The most that waited at once since the window began.
    pub peak_waiting: u64,
    /// The most that ran at once since the window began.
    pub peak_in_flight: u64,
    /// Time with a job in flight since the beginning, to the moment at which this was read.
    pub busy_ns: u64,
    /// Jobs that were done since the beginning.
    pub done: u64,
}

/// The nanoseconds of a bucket: its first, and the first behind it; none behind the last.
pub fn bucket_range(bucket: usize) -> (u64, Option<u64>) {
    let first = |bucket: usize| match bucket {
        0..8 => bucket as u64,
        _ => ((bucket % 8) as u64 + 8) << (bucket / 8 - 1),
    };
    (first(bucket), (bucket + 1 < JOB_BUCKETS).then(|| first(bucket + 1)))
}

/// The histograms of a window that is over, which are taken out.
pub(super) fn take(maps: &Tracepoints, window: u32) -> Result<Vec<JobTotal>, BpfError> {
    let map = maps.map("totals")?;
    let (mut found, mut keys) = (Vec::new(), Vec::new());
    map.each(|key, value| {
        if key.get(..4) == Some(&window.to_ne_bytes()[..]) {
            keys.push(key.to_vec());
            found.extend(total(key, value));
        }
    })
    .map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
    for key in keys {
        map.remove(&key).map_err(|e| BpfError::calling("BPF_MAP_DELETE_ELEM", e))?;
    }
    Ok(found)
}

/// All rings, as they are at `now_ns`.
pub(super) fn rings(maps: &Tracepoints, now_ns: u64) -> Result<Vec<RingTotal>, BpfError> {
    let mut found = Vec::new();
    let each = |key: &[u8], value: &[u8]| found.extend(ring(key, value, now_ns));
    maps.map("rings")?.each(each).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
    Ok(found)
}

/// `struct total_key` and `struct total`.
fn total(key: &[u8], value: &[u8]) -> Option<JobTotal> {
    let stage = match half(key, 4)? {
        0 => JobStage::Queued,
        1 => JobStage::InFlight,
        _ => JobStage::Whole,
    };
    let buckets = value.get(32..)?.chunks_exact(4).filter_map(|count| half(count, 0)).collect();
    Some(JobTotal {
        device: text(key.get(40..72)?),
        ring: text(key.get(16..40)?),
        pid: half(key, 8)?,
        stage,
        jobs: word(value, 0)?,
        sum_ns: word(value, 8)?,
        min_ns: !word(value, 16)?,
        max_ns: word(value, 24)?,
        buckets,
    })
}

/// `struct ring_key` and `struct ring_state`.
fn ring(key: &[u8], value: &[u8], now_ns: u64) -> Option<RingTotal> {
    let in_flight = word(value, 8)?;
    let until_now = if in_flight > 0 { now_ns } else { 0 };
    Some(RingTotal {
        device: text(key.get(24..56)?),
        ring: text(key.get(..24)?),
        waiting: word(value, 0)?,
        in_flight,
        peak_waiting: word(value, 16)?,
        peak_in_flight: word(value, 24)?,
        busy_ns: word(value, 32)?.wrapping_add(until_now),
        done: word(value, 40)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_are_an_eighth_wide() {
        assert_eq!(bucket_range(0), (0, Some(1)));
        assert_eq!(bucket_range(7), (7, Some(8)));
        assert_eq!(bucket_range(8), (8, Some(9)));
        assert_eq!(bucket_range(16), (16, Some(18)));
        assert_eq!(bucket_range(JOB_BUCKETS - 1), (15 << 36, None));
        for bucket in 8..JOB_BUCKETS - 1 {
            let (first, behind) = bucket_range(bucket);
            let behind = behind.unwrap();
            assert_eq!(behind, bucket_range(bucket + 1).0);
            assert!((behind - first) * 8 <= first, "{bucket}: {first} to {behind}");
        }
    }

    #[test]
    fn a_busy_ring_is_busy_until_now() {
        let mut key = b"gfx".to_vec();
        key.resize(24, 0);
        key.extend(b"0000:03:00.0");
        key.resize(56, 0);
        let value = |in_flight: u64, busy: u64| {
            let words = [2, in_flight, 5, 3, busy, 9, 0];
            words.iter().flat_map(|w: &u64| w.to_ne_bytes()).collect::<Vec<u8>>()
        };
        // Busy from 100 on, for now.
        let found = ring(&key, &value(1, 100_u64.wrapping_neg()), 150).unwrap();
        assert_eq!((found.device.as_str(), found.ring.as_str(), found.busy_ns), ("0000:03:00.0", "gfx", 50));
        assert_eq!(
            (found.waiting, found.in_flight, found.peak_waiting, found.peak_in_flight, found.done),
            (2, 1, 5, 3, 9)
        );
        assert_eq!(ring(&key, &value(0, 70), 150).unwrap().busy_ns, 70);
        assert!(ring(&key[..30], &value(0, 70), 0).is_none());
    }
}
