//! Which jobs are recorded: `rules.h`, from this side.

use super::super::error::BpfError;
use super::super::map::Map;
use super::super::object::Tracepoints;
use crate::monotonic_ns;
use rustix::thread::{MembarrierCommand, membarrier};
use std::time::Duration;

/// What a job is told by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobSubject {
    /// Process that submitted it.
    Pid(u32),
    /// Its user.
    Uid(u32),
    /// Its cgroup's number (inode of the folder in cgroup2).
    Cgroup(u64),
    /// The submitting thread's name, as the kernel has it: 15 letters at most.
    Comm(String),
    /// The device's name: `0000:03:00.0`.
    Device(String),
    /// The ring's name, of one device or of all.
    Ring {
        /// Its name, 23 letters at most.
        name: String,
        /// The device's.
        device: Option<String>,
    },
    /// The letters (a to z) that the ring's name begins with: `vcs` of `vcs17`.
    Stem(String),
}

/// How many jobs may be recorded, whichever process, ring and processor they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobLimit {
    /// A bucket that holds `burst` jobs and is filled with one each `job_ns`.
    Bucket {
        /// Nanoseconds a job.
        job_ns: u64,
        /// Jobs at once.
        burst: u64,
    },
    /// So many in each window, which begin at multiples of its length.
    Window {
        /// Nanoseconds.
        length_ns: u64,
        /// Jobs.
        jobs: u64,
    },
}

/// Which jobs are recorded, and what of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRules {
    /// What is allowed (true) or denied. Of a kind of subject of which something is allowed, all else is denied; of one that stands here
    /// twice, the last counts.
    pub lists: Vec<(JobSubject, bool)>,
    /// Which records are wanted: a bit for each number of a record's layout.
    pub types: u32,
    /// Share of the jobs, of [`ALL_JOBS`].
    pub sample: u64,
    /// Whether that will be changed ([`Jobs::set_sample`](super::Jobs::set_sample)): jobs are remembered from the beginning then.
    pub is_sample_to_change: bool,
    /// Other shares for single rings.
    pub ring_samples: Vec<(JobSubject, u64)>,
    /// Only jobs that take at least so long from queue to done, and those that fail; they are recorded when they are done.
    pub slow_ns: Option<u64>,
    /// How many.
    pub limit: Option<JobLimit>,
    /// Whether what they take is added up.
    pub totals: bool,
    /// Whether they are recorded at all.
    pub records: bool,
}

/// All of them, as a share.
pub const ALL_JOBS: u64 = 1 << 32;

impl Default for JobRules {
    fn default() -> Self {
        JobRules {
            lists: Vec::new(),
            types: u32::MAX,
            sample: ALL_JOBS,
            is_sample_to_change: false,
            ring_samples: Vec::new(),
            slow_ns: None,
            limit: None,
            totals: false,
            records: true,
        }
    }
}

impl JobRules {
    /// Whether they are about jobs, so that each job must be remembered to its end: any but what kinds of records are wanted.
    pub(super) fn is_of_jobs(&self) -> bool {
        let is_sampling = self.sample < ALL_JOBS || self.is_sample_to_change || !self.ring_samples.is_empty();
        let is_some = self.limit.is_some() || self.slow_ns.is_some();
        !self.lists.is_empty() || is_sampling || is_some || self.totals || !self.records
    }
}

// `enum cause`, `enum subject` and the flags of `struct rules`.
pub(super) const FILTERED: u32 = 2;
pub(super) const SAMPLED_OUT: u32 = 3;
pub(super) const RATE_LIMITED: u32 = 4;
const RING_SAMPLE: u32 = 6;
const TRACK: u32 = 1;
pub(super) const SLOW_ONLY: u32 = 4;
const BUCKET: u32 = 8;
const WINDOW: u32 = 16;
const TOTALS: u32 = 32;
const SILENT: u32 = 64;
/// `NOTED` is one bit shifted by a type of record.
const NOTED_BIT: u32 = 7;

/// `RULES` in `rules.h`: places for rules, of which one is in force.
const PLACES: u32 = 16;

/// So long, jobs are recorded that were queued before any was kept.
const EARLIER_NS: u64 = 10_000_000_000;

/// A bucket holds no more: 146 years.
const MOST_NS: u64 = 1 << 62;

/// Length of `struct list_key`.
const LIST_KEY: usize = 64;

/// Where a subject stands: which table, and its key there. Both begin with generation and subject; then come a number, or 24 bytes of name and
/// 32 of the device's.
fn entry(generation: u32, number: u32, subject: &JobSubject) -> (&'static str, Vec<u8>) {
    let of_number = |value: u64| {
        let mut key: Vec<u8> = [generation, number].iter().flat_map(|half| half.to_ne_bytes()).collect();
        key.extend(value.to_ne_bytes());
        ("numbers", key)
    };
    // Names in the kernel's records end with a zero.
    let of_names = |name: &str, room: usize, device: &str| {
        let mut key = vec![0; LIST_KEY];
        let mut put = |at: usize, room: usize, bytes: &[u8]| {
            let room = key.get_mut(at..at + room).unwrap_or_default();
            room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(0, 4, &generation.to_ne_bytes());
        put(4, 4, &number.to_ne_bytes());
        put(8, room, name.as_bytes());
        put(32, 31, device.as_bytes());
        ("lists", key)
    };
    match subject {
        JobSubject::Pid(number) | JobSubject::Uid(number) => of_number(u64::from(*number)),
        JobSubject::Cgroup(number) => of_number(*number),
        JobSubject::Comm(name) => of_names(name, 15, ""),
        JobSubject::Stem(letters) => of_names(letters, 24, ""),
        JobSubject::Device(name) => of_names("", 0, name),
        JobSubject::Ring { name, device } => of_names(name, 23, device.as_deref().unwrap_or_default()),
    }
}

/// `enum subject`.
fn number(subject: &JobSubject) -> u32 {
    match subject {
        JobSubject::Pid(_) => 0,
        JobSubject::Uid(_) => 1,
        JobSubject::Cgroup(_) => 2,
        JobSubject::Comm(_) => 3,
        JobSubject::Device(_) => 4,
        JobSubject::Ring { .. } => 5,
        JobSubject::Stem(_) => 7,
    }
}

fn verdict(is_allowed: bool) -> [u8; 8] {
    // `ALLOWED` and `DENIED` in `rules.h`.
    if is_allowed { 1_u64.to_ne_bytes() } else { 2_u64.to_ne_bytes() }
}

/// Takes out what is of other generations: rules that were in force before, children of listed processes included, or that never were.
fn remove_others(maps: &Tracepoints, generation: u32) -> Result<(), BpfError> {
    for table in ["lists", "numbers"] {
        let lists = maps.map(table)?;
        let mut others = Vec::new();
        lists
            .each(|key, _| {
                if key.get(..4) != Some(&generation.to_ne_bytes()[..]) {
                    others.push(key.to_vec());
                }
            })
            .map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
        for key in others {
            // It may have gone with its process.
            let _ = lists.remove(&key);
        }
    }
    Ok(())
}

/// The rules in force, and what is needed to change them.
#[derive(Debug, Default)]
pub(super) struct InForce {
    /// Of the lists in force.
    generation: u32,
    /// The last that was given to lists, in force or not: one that could not be put in force is never used again.
    last_generation: u32,
    /// How often rules were written: what a program remembers of lists holds for one of them.
    epoch: u32,
    /// Which place is in force; none before the first.
    active: Option<u32>,
    /// A bit for each place that a program may still be reading.
    maybe_read: u32,
    /// Once jobs were kept, they are, since then: what is kept must go again.
    tracking_since_ns: Option<u64>,
    /// Whether jobs are recorded that were queued before: those that were recorded when nothing was kept.
    are_earlier_recorded: bool,
    /// Types of records, a bit each, of which programs follow one another on their tracepoint.
    noted: u32,
    pub(super) window: u32,
    pub(super) rules: JobRules,
}

impl InForce {
    /// Puts other rules in force, at one moment for all processors. Jobs that are in flight keep what was decided of them. After an error
    /// the rules before stay in force, and nothing of the others is left.
    pub(super) fn set(&mut self, maps: &Tracepoints, rules: JobRules) -> Result<(), BpfError> {
        let generation = self.last_generation.wrapping_add(1);
        self.last_generation = generation;
        let before = (self.generation, std::mem::replace(&mut self.rules, rules));
        self.generation = generation;
        let done = self.fill_lists(maps).and_then(|()| self.write(maps));
        if let Err(error) = done {
            (self.generation, self.rules) = before;
            // The first error is the one to tell; what is left takes room, and is tried again at the next change.
            let _ = remove_others(maps, self.generation);
            return Err(error);
        }
        // No program may find the lists gone that it is looking into.
        self.wait_for_readers();
        remove_others(maps, generation)
    }

    fn fill_lists(&self, maps: &Tracepoints) -> Result<(), BpfError> {
        let failed = |e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e);
        for (subject, is_allowed) in &self.rules.lists {
            let (table, key) = entry(self.generation, number(subject), subject);
            maps.map(table)?.insert(&key, &verdict(*is_allowed)).map_err(failed)?;
        }
        for (ring, share) in &self.rules.ring_samples {
            let (table, key) = entry(self.generation, RING_SAMPLE, ring);
            maps.map(table)?.insert(&key, &share.to_ne_bytes()).map_err(failed)?;
        }
        Ok(())
    }

    /// The same rules with more on their lists. What is denied stays so.
    pub(super) fn also_list(&mut self, maps: &Tracepoints, more: &[(JobSubject, bool)]) -> Result<(), BpfError> {
        let put = |(subject, is_allowed): &(JobSubject, bool)| {
            let (table, key) = entry(self.generation, number(subject), subject);
            let put = if *is_allowed { Map::insert_new } else { Map::insert };
            put(maps.map(table)?, &key, &verdict(*is_allowed)).map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))
        };
        let listed = more.iter().try_for_each(put);
        // What the lists said before is no longer true, also where not all of these had room.
        let written = if more.is_empty() { Ok(()) } else { self.write(maps) };
        listed.and(written)
    }

    /// Writes the rules to a place that no program reads, and puts them in force.
    pub(super) fn write(&mut self, maps: &Tracepoints) -> Result<(), BpfError> {
        self.epoch = self.epoch.wrapping_add(1);
        let bytes = self.bytes(monotonic_ns());
        let failed = |e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e);
        let next = self.active.map_or(0, |active| (active + 1) % PLACES);
        if self.maybe_read & 1 << next != 0 {
            self.wait_for_readers();
        }
        maps.map("rules")?.insert(&next.to_ne_bytes(), &bytes).map_err(failed)?;
        maps.map("active")?.insert(&0_u32.to_ne_bytes(), &(next + 1).to_ne_bytes()).map_err(failed)?;
        self.active = Some(next);
        self.maybe_read |= 1 << next;
        Ok(())
    }

    /// Waits until every program has ended that began before this: they run under RCU's read lock, and this waits for its grace period
    /// (`membarrier_global`, kernel/sched/membarrier.c, calls synchronize_rcu). Some ten milliseconds.
    pub(super) fn wait_for_readers(&mut self) {
        if membarrier(MembarrierCommand::Global).is_err() {
            // EINVAL with nohz_full processors. A program takes microseconds, unless its task is preempted in it.
            std::thread::sleep(Duration::from_millis(50));
        }
        self.maybe_read = self.active.map_or(0, |active| 1 << active);
    }

    /// Programs will follow others on the tracepoints of these types of records: all that run leave notes for them from now on.
    pub(super) fn expect_more(&mut self, maps: &Tracepoints, types: u32) -> Result<(), BpfError> {
        let before = self.noted;
        self.noted |= types;
        if self.noted == before || self.active.is_none() {
            return Ok(());
        }
        if let Err(error) = self.write(maps) {
            self.noted = before;
            return Err(error);
        }
        self.wait_for_readers();
        Ok(())
    }

    /// No programs follow others any more on the tracepoints of these types of records.
    pub(super) fn expect_no_more(&mut self, maps: &Tracepoints, types: u32) -> Result<(), BpfError> {
        self.noted &= !types;
        self.write(maps)
    }

    /// Whether jobs are remembered.
    pub(super) fn is_tracking(&self) -> bool {
        self.tracking_since_ns.is_some()
    }

    /// Ends the time in which jobs are recorded that were queued before any was kept: they are done by now, or stuck.
    pub(super) fn settle(&mut self, maps: &Tracepoints, now_ns: u64) -> Result<(), BpfError> {
        let since = self.tracking_since_ns.unwrap_or(now_ns);
        if !self.are_earlier_recorded || now_ns.saturating_sub(since) < EARLIER_NS {
            return Ok(());
        }
        self.are_earlier_recorded = false;
        self.write(maps)
    }

    /// `struct rules`.
    fn bytes(&mut self, now_ns: u64) -> Vec<u8> {
        let rules = &self.rules;
        let bits = |allowed: bool| {
            rules.lists.iter().filter(|(_, is)| *is == allowed).fold(0, |bits, (of, _)| bits | 1 << number(of))
        };
        let (allow, mut deny): (u32, u32) = (bits(true), bits(false));
        if !rules.ring_samples.is_empty() {
            deny |= 1 << RING_SAMPLE;
        }
        if self.tracking_since_ns.is_none() && rules.is_of_jobs() {
            self.tracking_since_ns = Some(now_ns);
            self.are_earlier_recorded = self.active.is_some();
        }
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let flags = flag(self.tracking_since_ns.is_some(), TRACK)
            | flag(rules.slow_ns.is_some(), SLOW_ONLY)
            | flag(matches!(rules.limit, Some(JobLimit::Bucket { .. })), BUCKET)
            | flag(matches!(rules.limit, Some(JobLimit::Window { .. })), WINDOW)
            | flag(rules.totals, TOTALS)
            | flag(!rules.records, SILENT)
            | self.noted << NOTED_BIT;
        let miss_cause = if self.are_earlier_recorded { 0 } else { FILTERED };
        let (job_ns, burst_ns) = match rules.limit {
            // Times are added to what the bucket holds: half of what 64 bits hold is left for them.
            Some(JobLimit::Bucket { job_ns, burst }) => {
                (job_ns.min(MOST_NS), job_ns.saturating_mul(burst).min(MOST_NS))
            }
            _ => (0, 0),
        };
        let (window_ns, window_jobs) = match rules.limit {
            // The jobs of a window are counted in 24 bits.
            Some(JobLimit::Window { length_ns, jobs }) => (length_ns.max(1), jobs.min((1 << 24) - 1)),
            _ => (0, 0),
        };
        let halves = [self.generation, flags, rules.types, allow, deny, miss_cause];
        let words = [rules.sample, rules.slow_ns.unwrap_or(0), job_ns, burst_ns, window_ns, window_jobs];
        let mut bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_ne_bytes()).collect();
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(self.window.to_ne_bytes());
        bytes.extend(self.epoch.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        let (_, key) = entry(7, 3, &JobSubject::Comm("a_name_of_more_than_fifteen".into()));
        assert_eq!(key[..8], [7, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(&key[8..24], b"a_name_of_more_\0");
        assert!(key[24..].iter().all(|byte| *byte == 0));
        let (_, key) = entry(1, 5, &JobSubject::Ring { name: "gfx".into(), device: Some("0000:03:00.0".into()) });
        assert_eq!((&key[8..12], &key[32..45]), (&b"gfx\0"[..], &b"0000:03:00.0\0"[..]));
        let (table, key) = entry(1, 0, &JobSubject::Pid(9));
        assert_eq!((table, &key[8..]), ("numbers", &9_u64.to_ne_bytes()[..]));
    }

    /// Flags and the cause of a miss.
    fn told(force: &mut InForce, now_ns: u64) -> (u32, u32) {
        let bytes = force.bytes(now_ns);
        assert_eq!(bytes.len(), 80);
        let half = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
        (half(4), half(20))
    }

    #[test]
    fn jobs_are_tracked_from_the_first_rule_on() {
        let mut force = InForce::default();
        assert_eq!(told(&mut force, 1).0, 0);
        force.active = Some(0);
        force.rules.sample = 1;
        assert_eq!(told(&mut force, 2), (TRACK, 0), "what was queued before was recorded");
        force.are_earlier_recorded = false;
        force.rules = JobRules::default();
        assert_eq!(told(&mut force, 3), (TRACK, FILTERED), "what is kept must go again");
    }

    #[test]
    fn of_what_was_queued_before_a_capture_with_rules_nothing_is_recorded() {
        let mut force = InForce::default();
        force.rules.lists = vec![(JobSubject::Pid(1), true)];
        assert_eq!(told(&mut force, 1), (TRACK, FILTERED));
    }
}
