//! What jobs take, added up in the kernel: `totals.h`, from this side.

use super::super::error::BpfError;
use super::super::object::{Loaded, Tracepoints};
use super::kept::places;
use crate::monotonic_ns;
use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::time::Duration;

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
    /// Time with a job in flight since the beginning, to the moment at which this was read. None where jobs came or ended at every try to read it.
    pub busy_ns: Option<u64>,
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

/// The histograms of windows that are over, which are taken out: all but those of the one in force. There is one, but where an earlier one could
/// not be read. `free` gives their places back.
pub(super) fn take(maps: &Tracepoints, in_force: u32, free: &Loaded) -> Result<Vec<JobTotal>, BpfError> {
    let mut rings = HashMap::new();
    maps.map("rings")?
        .each(|number, state| {
            if let Some(names) = half(number, 0).zip(names(state)) {
                rings.insert(names.0, names.1);
            }
        })
        .map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
    let map = maps.map("totals")?;
    let mut values: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (place, word) in places(maps.map("total_sets")?)? {
        if word >> WINDOW_AT == u64::from(in_force) & WINDOW_MASK {
            continue;
        }
        let at = place.to_ne_bytes();
        let value = map.get(&at).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_ELEM", e))?;
        let Some(value) = value else { continue };
        // Whoever takes the place next begins with nothing.
        map.insert(&at, &vec![0; value.len()]).map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))?;
        free.run(&[u64::from(place)])?;
        match values.entry(word & !(WINDOW_MASK << WINDOW_AT)) {
            Entry::Vacant(entry) => _ = entry.insert(value),
            Entry::Occupied(mut entry) => merge(entry.get_mut(), &value),
        }
    }
    Ok(values.iter().flat_map(|(word, value)| totals(*word, value, &rings)).collect())
}

/// Adds what another processor has added up for the same: two may make a place at one moment.
fn merge(into: &mut [u8], from: &[u8]) {
    for (into, from) in into.chunks_exact_mut(TOTAL).zip(from.chunks_exact(TOTAL)) {
        let words = |bytes: &[u8]| [0, 8, 16].map(|at| word(bytes, at).unwrap_or(0));
        let ([sum, min_inverted, max], [more, lesser_inverted, greater]) = (words(into), words(from));
        let (head, counts) = into.split_at_mut(24);
        let new = [sum.saturating_add(more), min_inverted.max(lesser_inverted), max.max(greater)];
        head.iter_mut().zip(new.iter().flat_map(|word| word.to_ne_bytes())).for_each(|(to, byte)| *to = byte);
        for (to, more) in counts.chunks_exact_mut(4).zip(from.chunks_exact(4).skip(6)) {
            let sum = half(to, 0).unwrap_or(0).saturating_add(half(more, 0).unwrap_or(0));
            to.copy_from_slice(&sum.to_ne_bytes());
        }
    }
}

/// So often a ring is read whose numbers do not fit together, and the time between: who adds to it may have been taken from its processor.
const TRIES: usize = 16;
const PAUSE: Duration = Duration::from_millis(1);

/// How long rings were busy, as last seen.
#[derive(Debug)]
pub(super) struct Busy {
    since_ns: u64,
    /// By ring's number: it grows, whatever two processors' clocks say.
    last_ns: HashMap<u32, u64>,
}

impl Busy {
    /// Jobs are added up from then on.
    pub(super) fn since(since_ns: u64) -> Busy {
        Busy { since_ns, last_ns: HashMap::new() }
    }

    /// All rings of which jobs were added up, as they are now.
    pub(super) fn rings(&mut self, maps: &Tracepoints) -> Result<Vec<RingTotal>, BpfError> {
        let map = maps.map("rings")?;
        let now_ns = monotonic_ns();
        let mut found = Vec::new();
        map.each(|number, state| {
            // Others have a number, too: their names were asked for.
            let was_used = |ring: &RingTotal| ring.done > 0 || ring.waiting > 0 || ring.in_flight > 0;
            found.extend(half(number, 0).zip(ring(state, now_ns).filter(was_used)));
        })
        .map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
        for (number, of) in &mut found {
            let mut is_whole = self.is_whole(of, now_ns);
            for _ in 0..TRIES {
                if is_whole {
                    break;
                }
                let state = map.get(&number.to_ne_bytes()).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_ELEM", e))?;
                let now_ns = monotonic_ns();
                if let Some(again) = state.and_then(|state| ring(&state, now_ns)) {
                    is_whole = self.is_whole(&again, now_ns);
                    *of = again;
                }
                if !is_whole {
                    std::thread::sleep(PAUSE);
                }
            }
            of.busy_ns = of.busy_ns.filter(|_| is_whole).map(|busy_ns| self.at_least_as_before(*number, busy_ns));
        }
        Ok(found.into_iter().map(|(_, ring)| ring).collect())
    }

    fn at_least_as_before(&mut self, ring: u32, busy_ns: u64) -> u64 {
        let last_ns = self.last_ns.entry(ring).or_insert(0);
        *last_ns = busy_ns.max(*last_ns);
        *last_ns
    }

    /// Read between a job's coming or going and the time that is taken off or added for it, a ring is busy by the machine's whole time. So is
    /// one whose job came after `now_ns`.
    fn is_whole(&self, ring: &RingTotal, now_ns: u64) -> bool {
        ring.busy_ns.is_some_and(|busy_ns| busy_ns <= now_ns.saturating_sub(self.since_ns))
    }
}

/// Lengths of `struct ring_names` and `struct total`.
const NAMES: usize = 56;
const TOTAL: usize = 24 + 4 * JOB_BUCKETS;

/// `word_of_total` in `totals.h`: the window's number stands from here on, and so much of it; the ring's, and 1, below, and the process last.
const WINDOW_AT: u32 = 33;
const WINDOW_MASK: u64 = u64::MAX >> WINDOW_AT;
const RING_AT: u32 = 22;
const RING_MASK: u64 = u64::MAX >> (64 - WINDOW_AT + RING_AT);
const PID_MASK: u64 = u64::MAX >> (64 - RING_AT);

/// Such a word and `struct total_of_stages`: those stages of which there is a job.
fn totals(key: u64, value: &[u8], rings: &HashMap<u32, (String, String)>) -> Vec<JobTotal> {
    let (ring, pid) = ((key >> RING_AT & RING_MASK) as u32, (key & PID_MASK) as u32);
    let Some((ring, device)) = ring.checked_sub(1).and_then(|ring| rings.get(&ring)) else { return Vec::new() };
    let stages = [JobStage::Queued, JobStage::InFlight, JobStage::Whole];
    let sum = |stage: usize| value.chunks_exact(TOTAL).nth(stage).and_then(|value| word(value, 0));
    let of_stage = |(stage, value): (JobStage, &[u8])| {
        let buckets: Vec<u32> = value.get(24..)?.chunks_exact(4).filter_map(|count| half(count, 0)).collect();
        let jobs = buckets.iter().fold(0, |sum: u64, count| sum.saturating_add(u64::from(*count)));
        Some(JobTotal {
            device: device.clone(),
            ring: ring.clone(),
            pid,
            stage,
            jobs,
            // All three are added up at once, and the last without a sum: it is that of the two before.
            sum_ns: match stage {
                JobStage::Whole => sum(0)?.saturating_add(sum(1)?),
                JobStage::Queued | JobStage::InFlight => word(value, 0)?,
            },
            min_ns: !word(value, 8)?,
            max_ns: word(value, 16)?,
            buckets,
        })
    };
    stages.into_iter().zip(value.chunks_exact(TOTAL)).filter_map(of_stage).filter(|total| total.jobs > 0).collect()
}

/// The names in a `struct ring_state`: the ring's and its device's. None where no ring has that number.
fn names(state: &[u8]) -> Option<(String, String)> {
    let (ring, device) = (text(state.get(..24)?), text(state.get(24..NAMES)?));
    (!ring.is_empty() || !device.is_empty()).then_some((ring, device))
}

/// Where the halves of `depth` in `struct ring_state` stand.
const LOW: usize = if cfg!(target_endian = "little") { 0 } else { 4 };
const HIGH: usize = 4 - LOW;

/// `struct ring_state`.
fn ring(state: &[u8], now_ns: u64) -> Option<RingTotal> {
    let (ring, device) = names(state)?;
    let state = state.get(NAMES..)?;
    let in_flight = half(state, HIGH)?;
    let until_now = if in_flight > 0 { now_ns } else { 0 };
    Some(RingTotal {
        device,
        ring,
        waiting: half(state, LOW)?.into(),
        in_flight: in_flight.into(),
        peak_waiting: word(state, 8)?,
        peak_in_flight: word(state, 16)?,
        busy_ns: Some(word(state, 24)?.wrapping_add(until_now)),
        done: word(state, 32)?,
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

    fn state(in_flight: u64, busy: u64) -> Vec<u8> {
        let mut state = b"gfx".to_vec();
        state.resize(24, 0);
        state.extend(b"0000:03:00.0");
        state.resize(56, 0);
        state.extend([2 | in_flight << 32, 5, 3, busy, 9, 0].iter().flat_map(|w: &u64| w.to_ne_bytes()));
        state
    }

    #[test]
    fn a_busy_ring_is_busy_until_now() {
        // Busy from 100 on, for now.
        let found = ring(&state(1, 100_u64.wrapping_neg()), 150).unwrap();
        assert_eq!((found.device.as_str(), found.ring.as_str(), found.busy_ns), ("0000:03:00.0", "gfx", Some(50)));
        assert_eq!(
            (found.waiting, found.in_flight, found.peak_waiting, found.peak_in_flight, found.done),
            (2, 1, 5, 3, 9)
        );
        assert_eq!(ring(&state(0, 70), 150).unwrap().busy_ns, Some(70));
        assert!(ring(&state(0, 70)[..30], 0).is_none());
        assert!(ring(&[0; 112], 0).is_none(), "a number that no ring has");
    }

    #[test]
    fn a_busy_time_of_more_than_there_was_is_none() {
        let mut busy = Busy::since(100);
        let at = |now_ns, busy_ns| ring(&state(0, busy_ns), now_ns).unwrap();
        assert!(busy.is_whole(&at(150, 50), 150));
        assert!(!busy.is_whole(&at(150, 51), 150));
        assert!(!busy.is_whole(&RingTotal { busy_ns: None, ..at(150, 50) }, 150));
        assert_eq!([7, 5, 9].map(|busy_ns| busy.at_least_as_before(3, busy_ns)), [7, 7, 9]);
        assert_eq!(busy.at_least_as_before(4, 1), 1, "another ring");
    }

    #[test]
    fn only_stages_with_jobs_are_told() {
        let key = 1 << 33 | 4 << 22 | 77;
        let mut value = vec![0; 3 * TOTAL];
        // Of the second stage: two jobs, 100 and 120 ns.
        let words = [220, !100_u64, 120];
        for (at, word) in words.iter().enumerate() {
            value[TOTAL + 8 * at..TOTAL + 8 * at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        value[TOTAL + 24 + 4 * 36] = 1;
        value[TOTAL + 24 + 4 * 39] = 1;
        // Of the whole, one job, and no sum of its own.
        value[2 * TOTAL + 24 + 4 * 40] = 1;
        let rings = HashMap::from([(3, ("gfx".to_string(), "0000:03:00.0".to_string()))]);
        let found = totals(key, &value, &rings);
        let [total, whole] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((whole.stage, whole.jobs, whole.sum_ns), (JobStage::Whole, 1, 220));
        assert_eq!((total.stage, total.pid, total.jobs), (JobStage::InFlight, 77, 2));
        assert_eq!((total.sum_ns, total.min_ns, total.max_ns), (220, 100, 120));
        assert_eq!((total.ring.as_str(), total.buckets[36], total.buckets.len()), ("gfx", 1, JOB_BUCKETS));
        assert!(totals(key, &value, &HashMap::new()).is_empty());
        let mut twice = value.clone();
        twice[TOTAL..TOTAL + 24].copy_from_slice(&[100_u64, !90, 100].map(u64::to_ne_bytes).concat());
        merge(&mut twice, &value);
        let found = totals(key, &twice, &rings);
        let of = |total: &JobTotal| (total.stage, total.jobs, total.sum_ns, total.min_ns, total.max_ns);
        assert_eq!(of(&found[0]), (JobStage::InFlight, 4, 320, 90, 120));
        assert_eq!((found[0].buckets[36], found[0].buckets[39]), (2, 2));
    }
}
