//! The jobs of the DRM scheduler, as its tracepoints tell of them.

mod cost;
mod ends;
mod kept;
mod levels;
mod made;
mod places;
mod programs;
mod rules;
mod totals;

pub use cost::{JobsCost, JobsCostOf};
pub use made::{MADE_CONTEXT, MadeJob};
pub use rules::{ALL_JOBS, JobLimit, JobRules, JobSubject};
pub use totals::{JOB_BUCKETS, JobStage, JobTotal, RingTotal, bucket_range};

use super::error::BpfError;
use super::object::{Aligned, Attached, Loaded, Measuring, Tracepoints};
use super::ring::Ring;
use crate::{Roots, monotonic_ns};
use ends::Ends;
use kept::LeftOut;
use levels::Levels;
use places::Places;
use rules::InForce;
use totals::Busy;

/// Compiled from `jobs.bpf.c` by `cargo xtask bpf`.
pub(super) static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../bpf/jobs.bpf.o"));

/// What the kernel is to call programs and maps, for those who list them.
const NAME: [u8; 16] = *b"gpuscope_jobs\0\0\0";

/// Length of what stands in front of a record: `struct head` in `jobs.bpf.c`.
const HEAD: usize = 16;

/// So many processors are counted for where the kernel does not say how many there may be: the most that it is built for (NR_CPUS_RANGE_END,
/// arch/x86/Kconfig).
const MOST_PROCESSORS: u32 = 8192;

/// Which fields of the records this kernel fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobFields {
    /// The DRM client: Linux 6.17 and later.
    pub client: bool,
    /// How many jobs wait in the queue.
    pub queue_length: bool,
    /// What a fence ended with.
    pub error: bool,
}

/// A record as a program wrote it.
#[derive(Clone, Copy, Debug)]
pub struct JobRecord<'a> {
    /// CLOCK_MONOTONIC: taken first, or under rules as soon as it is known that the job is not left out.
    pub at_ns: u64,
    /// The processor.
    pub cpu: u16,
    /// What follows: `struct common` of `jobs.bpf.c` and the fields.
    pub data: &'a [u8],
}

/// How one reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsRead {
    /// Records that were given.
    pub records: u64,
    /// Of these, switches and wakings of threads.
    pub switches: u64,
    /// When the reading began, if it gave every record that had been begun by then.
    pub complete_at_ns: Option<u64>,
}

/// What the programs are to record beside what rules say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobsWanted {
    /// Room between the kernel and this process, in bytes: rounded up to what rings may have.
    pub ring_bytes: usize,
    /// When processors go to the threads that submit jobs or hand them over, and leave them: records as those of `sched_switch` and `sched_waking`.
    /// It costs every switch of the machine some hundred nanoseconds (docs/benchmarks.md).
    pub switches: bool,
}

/// Programs on the scheduler's tracepoints. They end with this.
#[derive(Debug)]
pub struct Jobs {
    fields: JobFields,
    places: Places,
    programs: Tracepoints,
    ring: Ring,
    levels: Levels,
    ends: Ends,
    left_out: LeftOut,
    /// Gives up jobs of which no end is seen.
    give_up: Option<Loaded>,
    /// Frees places of totals that were read.
    free_total: Option<Loaded>,
    /// So many were, of those that are not left out.
    given_up: u64,
    /// So many jobs were put in by hand.
    made: u64,
    followers: Vec<Attached>,
    switches: Vec<Attached>,
    checked_ns: u64,
    busy: Busy,
    in_force: InForce,
    /// As long as it is to be known what the programs take.
    measuring: Option<Measuring>,
}

/// So often it is asked, while records are read, whether the programs on the tracepoints are enough.
const CHECK_NS: u64 = 20_000_000;

/// Programs that keep the lists of processes, once a list is to follow children.
const FOLLOWERS: [(&str, &str); 2] = [("process_free", "sched_process_free"), ("process_fork", "sched_process_fork")];

/// Programs that follow threads, if that is asked for.
const SWITCHES: [(&str, &str); 2] = [("sched_waking", "sched_waking"), ("sched_switch", "sched_switch")];

/// Their records' layouts.
const OF_SWITCHES: [u16; 2] = [8, 9];

/// Threads that there can be at a time (PID_MAX_LIMIT, include/linux/threads.h).
const MOST_THREADS: u32 = 4 << 20;

/// Events that were not recorded, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobsLost {
    /// There was no room in the ring.
    pub ring_full: u64,
    /// Kept out by a list, or of a job that was queued before the first rule.
    pub filtered: u64,
    /// Of jobs that the sample left out.
    pub sampled_out: u64,
    /// Of jobs that were not slow.
    pub quick: u64,
    /// Of jobs over the limit.
    pub rate_limited: u64,
    /// A table of the kernel's side was full: a job could not be kept, a process not be listed, or what jobs take not be added up. Also what was
    /// kept of a job that was given up ([`Jobs::oldest_kept_ns`]).
    pub table_full: u64,
    /// The kernel ran no program: all of a tracepoint's were running on that processor already, in tasks that it had been taken from.
    pub missed: u64,
}

impl Jobs {
    /// Loads and attaches the programs, and lets them begin at one moment.
    ///
    /// # Errors
    /// [`BpfError::Permission`] without CAP_BPF and CAP_PERFMON; [`BpfError::NoBtf`]; [`BpfError::NoTracepoint`] where no driver that
    /// uses the scheduler is loaded; [`BpfError::Unsupported`] for a kernel with other structures, and for a tree that is not the
    /// running machine; [`BpfError::Rejected`]; [`BpfError::Io`].
    pub fn open(roots: &Roots, wanted: JobsWanted, rules: JobRules) -> Result<Jobs, BpfError> {
        if !roots.is_live() {
            return Err(BpfError::Unsupported { what: "a captured tree has no running kernel".into() });
        }
        let sizes = [
            ("ring", ring_size(wanted.ring_bytes, rustix::param::page_size())),
            ("counts", possible_processors(roots)),
            ("involved", if wanted.switches { MOST_THREADS / 64 } else { 1 }),
        ];
        // First what costs little: a process without rights learns it here on most machines.
        let mut programs = Tracepoints::new(&OBJECT.0, &sizes, &[("switches", wanted.switches.into())], NAME)?;
        let (places, cast) = Places::find(roots)?;
        programs.read_by(cast)?;
        let ring = Ring::new(programs.map("ring")?)
            .map_err(|source| BpfError::Io { call: "mapping the ring buffer".into(), source })?;
        let mut in_force = InForce::default();
        let levels = Levels::attach(roots, &programs, &places, &mut in_force, rules.is_of_jobs())?;
        let mut jobs = Jobs {
            fields: places.fields(),
            places,
            programs,
            ring,
            levels,
            ends: Ends::default(),
            left_out: LeftOut::default(),
            give_up: None,
            free_total: None,
            given_up: 0,
            made: 0,
            followers: Vec::new(),
            switches: Vec::new(),
            checked_ns: 0,
            busy: Busy::since(monotonic_ns()),
            in_force,
            measuring: None,
        };
        if wanted.switches {
            may_follow(roots)?;
            jobs.switches = attach(&jobs.programs, &jobs.places, &SWITCHES)?;
        }
        jobs.set_rules(rules)?;
        Ok(jobs)
    }

    /// Puts other rules in force, at one moment for all processors. Jobs in flight keep what was decided of them when they were queued.
    ///
    /// # Errors
    /// [`BpfError::Io`], with E2BIG for more than 8192 entries of lists; the rules before stay in force, unless [`Jobs::rules`] tells these: then
    /// what belonged to the rules before could not be taken away.
    pub fn set_rules(&mut self, rules: JobRules) -> Result<(), BpfError> {
        self.in_force.set(&self.programs, rules)?;
        self.forget_threads()?;
        // Another time, if not now: one program too many costs time alone.
        let _ = self.levels.leave_ends_to_fences(&self.programs, &mut self.in_force);
        Ok(())
    }

    /// Under other rules, other threads are followed: those whose jobs come from now on.
    fn forget_threads(&self) -> Result<(), BpfError> {
        if self.switches.is_empty() {
            return Ok(());
        }
        let (table, mut words) = (self.programs.map("involved")?, Vec::new());
        let add = |at: &[u8], word: &[u8]| {
            if word.iter().any(|byte| *byte != 0) {
                words.push(at.to_vec());
            }
        };
        table.each(add).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
        let forget = |at: &Vec<u8>| table.insert(at, &0_u64.to_ne_bytes());
        words.iter().try_for_each(forget).map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))
    }

    /// How often the kernel passed over the programs that follow threads. Most threads of the machine are not followed: so many switches and
    /// wakings may be missing, at most.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn switches_passed_over(&self) -> Result<u64, BpfError> {
        self.switches.iter().map(|program| Ok(program.counted()?.misses)).sum()
    }

    /// The rules in force.
    pub fn rules(&self) -> &JobRules {
        &self.in_force.rules
    }

    /// Changes the share of jobs that are recorded, and nothing else.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn set_sample(&mut self, share: u64) -> Result<(), BpfError> {
        self.in_force.rules.sample = share;
        self.in_force.write(&self.programs)
    }

    /// From now on, the children of listed processes are listed as their parents are. Those that there are already are not known:
    /// [`Jobs::also_list`].
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn follow_children(&mut self) -> Result<(), BpfError> {
        if self.followers.is_empty() {
            self.followers = attach(&self.programs, &self.places, &FOLLOWERS)?;
        }
        Ok(())
    }

    /// Puts more on the lists that are in force, as allowed (true) or denied.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn also_list(&mut self, more: &[(JobSubject, bool)]) -> Result<(), BpfError> {
        self.in_force.also_list(&self.programs, more)
    }

    /// What jobs took that were done since this was asked last, and the rings as they are now.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn take_totals(&mut self) -> Result<(Vec<JobTotal>, Vec<RingTotal>), BpfError> {
        let free = loaded(&mut self.free_total, "free_total", &self.programs, &self.places)?;
        let rings = self.busy.rings(&self.programs)?;
        let over = self.in_force.window;
        self.in_force.window = over.wrapping_add(1);
        self.in_force.write(&self.programs)?;
        // Programs that had read the rules before add to the old window still.
        self.in_force.wait_for_readers();
        Ok((totals::take(&self.programs, self.in_force.window, free)?, rings))
    }

    /// When the oldest job was queued that may be recorded later, with that time: of rules for slow jobs. None where there is none.
    ///
    /// Jobs that were queued before `too_old_ns` are given up: their ends were not seen, or will not come, and they would be waited for, and take
    /// their places, for ever.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn oldest_kept_ns(&mut self, too_old_ns: u64) -> Result<Option<u64>, BpfError> {
        let (mut oldest, mut too_old) = (None, Vec::new());
        let jobs = self.programs.map("kept")?;
        let now_ns = monotonic_ns();
        let taken = kept::places(self.programs.map("sets")?)?;
        self.left_out.retain(&taken.iter().map(|(_, word)| *word).collect());
        for (place, word) in taken {
            let value = jobs.get(&place.to_ne_bytes()).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_ELEM", e))?;
            let Some(job) = value.as_deref().and_then(kept::parse) else { continue };
            // One that is being filled has no time yet: that comes soon, and is now.
            if job.at_ns == 0 {
                continue;
            }
            let at_ns = self.left_out.queued_ns(word, job.at_ns, now_ns);
            if at_ns < too_old_ns {
                too_old.push((place, word, job.is_kept));
            } else if job.is_told_late {
                oldest = Some(oldest.map_or(at_ns, |oldest: u64| oldest.min(at_ns)));
            }
        }
        self.give_up(&too_old, too_old_ns)?;
        Ok(oldest)
    }

    /// A program does it, in two steps: what is closed is found no more, and once those have ended that had found it before, either one of them
    /// was its end or nobody was.
    fn give_up(&mut self, jobs: &[(u32, u64, bool)], before_ns: u64) -> Result<(), BpfError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let program = loaded(&mut self.give_up, "give_up", &self.programs, &self.places)?;
        for (place, word, _) in jobs {
            program.run(&[u64::from(*place), *word, before_ns])?;
        }
        // One that ended at this moment is in the ring then.
        self.in_force.wait_for_readers();
        for (place, _, is_kept) in jobs {
            // One that has ended meanwhile is not there any more.
            let was_there = program.run(&[u64::from(*place), 0, 0])? != 0;
            self.given_up = self.given_up.saturating_add(u64::from(was_there && *is_kept));
        }
        Ok(())
    }

    /// Jobs that were given up since the beginning ([`Jobs::oldest_kept_ns`]), those apart that are left out anyway: how they end is not recorded.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Whether jobs in flight are remembered: once rules have been set that ask for it.
    pub fn is_tracking(&self) -> bool {
        self.in_force.is_tracking()
    }

    /// Which fields this kernel fills.
    pub fn fields(&self) -> JobFields {
        self.fields
    }

    /// Gives all records that are there, in the order in which their room was reserved: nearly that of their times. Nothing is waited for.
    pub fn read(&mut self, mut each: impl FnMut(JobRecord<'_>)) -> JobsRead {
        let began_ns = monotonic_ns();
        if began_ns.saturating_sub(self.checked_ns) >= CHECK_NS {
            self.checked_ns = began_ns;
            // Another time, if not now: what is missed is counted.
            let _ = self.levels.reinforce(&self.programs, &self.places, &mut self.in_force);
            let _ = self.in_force.settle(&self.programs, began_ns);
        }
        let (mut records, mut switches) = (0, 0);
        let mut give = |record: JobRecord<'_>| {
            records += 1;
            each(record);
        };
        let (levels, ends) = (&mut self.levels, &mut self.ends);
        let progress = self.ring.read(|bytes| {
            let Some((record, is_later)) = record(bytes) else { return };
            if OF_SWITCHES.iter().any(|of| record.data.starts_with(&of.to_ne_bytes())) {
                switches += 1;
                give(record);
            } else if levels.is_new(record.data, is_later) {
                ends.record(record, &mut give);
            }
        });
        let complete_at_ns = progress.is_complete.then_some(began_ns);
        if let Some(at_ns) = complete_at_ns {
            self.ends.settle(at_ns, &mut give);
        }
        // What is held is told later, with its own time.
        let complete_at_ns =
            complete_at_ns.map(|at_ns| self.ends.oldest_ns().map_or(at_ns, |oldest| oldest.min(at_ns)));
        JobsRead { records, switches, complete_at_ns }
    }

    /// From now on, or no longer, the kernel measures the time that its programs take: all programs of the machine, at some twenty nanoseconds
    /// each time that one runs. Somebody else may have it measure them, too.
    ///
    /// # Errors
    /// [`BpfError::Permission`] without CAP_SYS_ADMIN.
    pub fn measure(&mut self, is_wanted: bool) -> Result<(), BpfError> {
        self.measuring = match self.measuring.take() {
            None if is_wanted => Some(Measuring::begin()?),
            of => of.filter(|_| is_wanted),
        };
        Ok(())
    }

    /// Whether the programs read the kernel's memory by loads: Linux 6.2 and later, where it compiles programs. Else each read is a call of a helper,
    /// and an event costs about half as much again (docs/benchmarks.md).
    pub fn reads_by_loads(&self) -> bool {
        self.programs.reads_by_loads()
    }

    /// Nanoseconds that the programs took on all processors together, while that was measured; those apart that are called at every switch of a
    /// thread.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn spent_ns(&self) -> Result<u64, BpfError> {
        self.levels.all().chain(&self.followers).map(|program| Ok(program.counted()?.time_ns)).sum()
    }

    /// Events since the beginning that were not recorded.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn lost(&mut self) -> Result<JobsLost, BpfError> {
        let misses = self.levels.misses()?;
        // `events` of `struct counts`, of all processors.
        let mut sums = [0_u64; 8];
        let add = |_: &[u8], value: &[u8]| {
            for (sum, number) in sums.iter_mut().zip(value.chunks_exact(8)) {
                *sum = sum.wrapping_add(number.first_chunk().map_or(0, |number| u64::from_ne_bytes(*number)));
            }
        };
        self.programs.map("counts")?.each(add).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
        // `enum cause`.
        let of = |cause: u32| sums.get(cause as usize).copied().unwrap_or(0);
        // Taken back where it was not counted, for a moment.
        let recovered = (of(6).wrapping_sub(self.levels.twice()) as i64).max(0) as u64;
        Ok(JobsLost {
            ring_full: of(1),
            filtered: of(rules::FILTERED),
            sampled_out: of(rules::SAMPLED_OUT),
            quick: of(7),
            rate_limited: of(rules::RATE_LIMITED),
            table_full: of(5),
            missed: misses.saturating_sub(recovered),
        })
    }
}

/// Whether threads may be followed: where locks sleep (PREEMPT_RT), the ring's may (kernel/bpf/ringbuf.c), and a switch must not wait for it. That
/// later kernels see to it was not tried.
fn may_follow(roots: &Roots) -> Result<(), BpfError> {
    if roots.sys("kernel/realtime").exists() {
        let what = "threads are not followed on a realtime kernel, whose ring buffer may sleep; leave switches out";
        return Err(BpfError::Unsupported { what: what.into() });
    }
    Ok(())
}

/// Attaches programs, each to its tracepoint of the kernel's own scheduler.
fn attach(
    programs: &Tracepoints,
    places: &Places,
    all: &[(&'static str, &'static str)],
) -> Result<Vec<Attached>, BpfError> {
    let programs = programs.with_constants(&places.constants(0))?;
    let attach = |(program, tracepoint): &(&'static str, &'static str)| {
        let missing = || BpfError::NoTracepoint { name: format!("sched:{tracepoint}") };
        programs.attach(program, &[tracepoint])?.ok_or_else(missing)
    };
    all.iter().map(attach).collect()
}

/// A program that is run from here, loaded when it is first asked for.
fn loaded<'a>(
    slot: &'a mut Option<Loaded>,
    name: &'static str,
    programs: &Tracepoints,
    places: &Places,
) -> Result<&'a Loaded, BpfError> {
    match slot {
        Some(loaded) => Ok(loaded),
        none => Ok(none.insert(programs.with_constants(&places.constants(0))?.load(name)?)),
    }
}

/// What stands in the ring: `struct head` and the record.
fn record(bytes: &[u8]) -> Option<(JobRecord<'_>, bool)> {
    let (head, data) = bytes.split_at_checked(HEAD)?;
    let (at_ns, rest) = head.split_first_chunk()?;
    let (cpu, rest) = rest.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let is_later = u32::from_ne_bytes(*rest.first_chunk()?) != 0;
    let data = data.get(..usize::from(u16::from_ne_bytes(*size)))?;
    Some((JobRecord { at_ns: u64::from_ne_bytes(*at_ns), cpu: u16::from_ne_bytes(*cpu), data }, is_later))
}

/// How many processors there may ever be.
fn possible_processors(roots: &Roots) -> u32 {
    let possible = crate::read_text(roots.sys("devices/system/cpu/possible")).ok();
    possible.and_then(|text| processors(&text)).unwrap_or(MOST_PROCESSORS)
}

/// How many processors there can be, by what the kernel says: `0-15`, `0,2-3`.
fn processors(possible: &str) -> Option<u32> {
    let last = possible.trim().rsplit([',', '-']).next()?;
    last.parse::<u32>().ok()?.checked_add(1).filter(|n| *n <= MOST_PROCESSORS)
}

/// The next power of two pages, up to a gigabyte.
fn ring_size(bytes: usize, page: usize) -> u32 {
    let most = 1 << 30;
    u32::try_from(bytes.clamp(page, most).next_power_of_two()).unwrap_or(most as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_a_power_of_two_pages() {
        let sizes = [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (3 << 20, 4 << 20), (usize::MAX, 1 << 30)];
        for (asked, given) in sizes {
            assert_eq!(ring_size(asked, 4096), given, "{asked}");
        }
        assert_eq!(ring_size(5, 65536), 65536);
    }

    #[test]
    fn as_many_processors_as_there_can_be() {
        let cases = [("0-15\n", Some(16)), ("0\n", Some(1)), ("0,2-511\n", Some(512)), ("", None), ("0-x", None)];
        for (text, expected) in cases {
            assert_eq!(processors(text), expected, "{text}");
        }
        assert_eq!(processors("0-4294967295"), None);
    }

    #[test]
    fn realtime_kernels_follow_no_threads() {
        let tree = tempfile::tempdir().unwrap();
        let roots = Roots::at(tree.path());
        assert!(may_follow(&roots).is_ok());
        let path = roots.sys("kernel/realtime");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "1\n").unwrap();
        assert!(may_follow(&roots).unwrap_err().to_string().contains("realtime kernel"));
    }

    #[test]
    fn a_record_is_as_long_as_it_says() {
        let mut bytes = Vec::from(7_u64.to_ne_bytes());
        bytes.extend([3, 0, 4, 0, 0, 0, 0, 0, b'd', b'a', b't', b'a', 0, 0, 0, 0]);
        let (found, is_later) = record(&bytes).unwrap();
        assert!(!is_later);
        assert_eq!((found.at_ns, found.cpu, found.data), (7, 3, &b"data"[..]));
        for length in 0..bytes.len() {
            let found = record(&bytes[..length]);
            assert_eq!(found.is_some(), length >= 20, "{length}");
        }
    }

    #[test]
    fn a_captured_tree_has_no_tracepoints() {
        let tree = tempfile::tempdir().unwrap();
        let error = Jobs::open(&Roots::at(tree.path()), JobsWanted::default(), JobRules::default()).unwrap_err();
        assert!(matches!(error, BpfError::Unsupported { .. }), "{error}");
    }
}
