//! The programs on a job that is made up, to measure what they cost: for benchmarks alone.

use super::super::cast::Cast;
use super::super::error::BpfError;
use super::super::object::{Attached, Tracepoints};
use super::super::ring::Ring;
use super::levels::Twice;
use super::places::{ABSENT, COUNT, Places};
use super::programs::{PROGRAMS, Program};
use super::rules::{InForce, JobRules};
use super::{MOST_THREADS, NAME, SWITCHES, attach, possible_processors, ring_size};
use crate::Roots;
use std::collections::BTreeMap;

/// Length of `struct made_up` in `cost.bpf.c`, and where its texts stand.
const MADE_UP: usize = 264;
const NAME_AT: usize = 160;
const DEVICE_AT: usize = 184;

/// Where `struct made_up` has what [`Places`] names, each from the start of what points to it, and the running kernel its threads.
fn places(roots: &Roots) -> Result<(Places, Option<Cast>), BpfError> {
    let mut places = [ABSENT; COUNT];
    for (place, of_job) in places.iter_mut().zip([8, 0, 0, 8, 28, 32, 40, 0, 8, 28, 0, 8, 0, 0]) {
        *place = of_job;
    }
    Places(places).with_threads(roots)
}

/// How the programs of [`JobsCost`] are.
#[derive(Clone, Copy, Debug)]
pub struct JobsCostOf {
    /// How many follow one another at an event.
    pub levels: u32,
    /// With that of fences.
    pub fences: bool,
    /// They read memory by calls, as on kernels before Linux 6.2.
    pub calls: bool,
}

/// The programs that record jobs, called where a thread asks for its parent, its group and its session (`raw_syscalls:sys_enter`): the three
/// stand for a job's queue, run and end. Where each returns, one of the job's fences signals. They end with this.
#[derive(Debug)]
pub struct JobsCost {
    programs: Tracepoints,
    ring: Ring,
    _attached: Vec<Attached>,
}

impl JobsCost {
    /// Attaches the programs under these rules; without rules, one that does nothing. The object is what `cargo xtask bpf` makes of
    /// `cost.bpf.c`.
    ///
    /// # Errors
    /// As [`Jobs::open`](super::Jobs::open).
    pub fn open(
        object: &[u8],
        ring_bytes: usize,
        rules: Option<JobRules>,
        of: JobsCostOf,
    ) -> Result<JobsCost, BpfError> {
        let JobsCostOf { levels, fences, calls } = of;
        let sizes = [
            ("ring", ring_size(ring_bytes, rustix::param::page_size())),
            ("counts", possible_processors(&Roots::host())),
        ];
        let mut programs = Tracepoints::new(object, &sizes, &[], NAME)?;
        let (places, cast) = places(&Roots::host())?;
        programs.read_by(cast.filter(|_| !calls))?;
        let at_level = |level: u32| {
            let [places, level] = places.constants(level);
            programs.with_constants(&[
                places,
                level,
                ("call_of_queue", libc::SYS_getppid.to_ne_bytes().to_vec()),
                ("call_of_run", libc::SYS_getpgid.to_ne_bytes().to_vec()),
                ("call_of_done", libc::SYS_getsid.to_ne_bytes().to_vec()),
            ])
        };
        let attach = |level, program, tracepoint| {
            let missing = || BpfError::NoTracepoint { name: format!("raw_syscalls:{tracepoint}") };
            at_level(level)?.attach(program, &[tracepoint])?.ok_or_else(missing)
        };
        let ring = Ring::new(programs.map("ring")?)
            .map_err(|source| BpfError::Io { call: "mapping the ring buffer".into(), source })?;
        let Some(rules) = rules else {
            let attached = vec![attach(0, "nothing", "sys_enter")?];
            return Ok(JobsCost { programs, ring, _attached: attached });
        };
        let mut job = [0; MADE_UP];
        for (at, text) in [(NAME_AT, b"gfx_0.0.0".as_slice()), (DEVICE_AT, b"0000:03:00.0")] {
            if let Some(place) = job.get_mut(at..).and_then(|rest| rest.get_mut(..text.len())) {
                place.copy_from_slice(text);
            }
        }
        let failed = |e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e);
        programs.map("made_up")?.insert(&0_u32.to_ne_bytes(), &job).map_err(failed)?;
        let mut attached =
            (0..levels).map(|level| attach(level, "cost", "sys_enter")).collect::<Result<Vec<_>, _>>()?;
        if fences {
            attached.push(attach(0, "cost_of_fence", "sys_exit")?);
        }
        let mut in_force = InForce::default();
        if levels > 1 {
            in_force.expect_more(&programs, u32::MAX >> 24)?;
        }
        in_force.set(&programs, rules)?;
        Ok(JobsCost { programs, ring, _attached: attached })
    }

    /// Attaches the programs that follow threads, to these alone.
    ///
    /// # Errors
    /// As [`Jobs::open`](super::Jobs::open).
    pub fn follow(object: &[u8], ring_bytes: usize, tids: &[u32]) -> Result<JobsCost, BpfError> {
        let roots = Roots::host();
        let sizes = [
            ("ring", ring_size(ring_bytes, rustix::param::page_size())),
            ("counts", possible_processors(&roots)),
            ("involved", MOST_THREADS / 64),
        ];
        let mut programs = Tracepoints::new(object, &sizes, &[("switches", 1)], NAME)?;
        let (places, cast) = places(&roots)?;
        programs.read_by(cast)?;
        let ring = Ring::new(programs.map("ring")?)
            .map_err(|source| BpfError::Io { call: "mapping the ring buffer".into(), source })?;
        let mut words: BTreeMap<u32, u64> = BTreeMap::new();
        for tid in tids {
            *words.entry(tid / 64).or_default() |= 1 << (tid % 64);
        }
        for (at, word) in words {
            let put = programs.map("involved")?.insert(&at.to_ne_bytes(), &word.to_ne_bytes());
            put.map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))?;
        }
        let attached = attach(&programs, &places, &SWITCHES)?;
        InForce::default().set(&programs, JobRules::default())?;
        Ok(JobsCost { programs, ring, _attached: attached })
    }

    /// How many events of three pass programs of two levels, when [`Jobs`](super::Jobs) begins under these rules.
    pub fn events_with_two_levels(rules: &JobRules) -> u32 {
        let twice = Twice::on(&Roots::host());
        let is_event = |program: &&Program| ["queue", "run", "done"].contains(&program.name);
        let twice_of_them = PROGRAMS.iter().filter(is_event).filter(|of| twice.is(of, rules.is_of_jobs()));
        twice_of_them.count() as u32
    }

    /// Empties the ring: records that there were, and events by cause, in the order of `enum cause` in `jobs.h`.
    ///
    /// # Errors
    /// [`BpfError`] when the kernel refuses.
    pub fn counts(&mut self) -> Result<(u64, [u64; 8]), BpfError> {
        let mut records: u64 = 0;
        self.ring.read(|_| records = records.saturating_add(1));
        let mut causes = [0_u64; 8];
        let add = |_: &[u8], value: &[u8]| {
            for (cause, number) in causes.iter_mut().zip(value.chunks_exact(8)) {
                *cause = cause.wrapping_add(number.first_chunk().map_or(0, |number| u64::from_ne_bytes(*number)));
            }
        };
        self.programs.map("counts")?.each(add).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
        Ok((records, causes))
    }
}
