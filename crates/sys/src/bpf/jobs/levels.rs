//! Programs that follow one another on a tracepoint, for events at which the kernel passes over the first: `PROGRAM` in `jobs.h`.

use super::super::error::BpfError;
use super::super::object::{Attached, Tracepoints};
use super::places::Places;
use super::programs::{DONE, FENCE_ERROR, PROGRAMS, Program, attach_all};
use super::rules::InForce;
use crate::Roots;
use std::thread::{self, JoinHandle};

/// How many may follow one another.
const LEVELS: usize = 4;

/// So many places for records that are known again, as a power of two.
const RECENT_BITS: u32 = 12;

/// Length of `struct dependency` in `jobs.bpf.c` behind its head.
const DEPENDENCY: usize = 40;

/// Of which programs there are two from the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twice {
    /// Whether tasks may be preempted within a tracepoint's programs: from Linux 7.0 on (`__DECLARE_TRACE`, include/linux/tracepoint.h, holds
    /// RCU's fast SRCU lock instead of switching preemption off). Before, only an interrupt can come in between, and what interrupts tell are
    /// ends. Of these a task may tell, too, with interrupts on: of a job whose hardware fence had signalled before anybody waited for it
    /// (drm_sched_run_job_work calls drm_sched_job_done).
    is_preempted: bool,
    /// Whether locks leave interrupts on (PREEMPT_RT). Where they do not, it is told with interrupts off that a fence signalled.
    is_realtime: bool,
}

impl Twice {
    /// By the running kernel. A release that cannot be read counts as a new one: that costs time alone.
    pub(super) fn on(roots: &Roots) -> Twice {
        let release = crate::read_text(roots.proc("sys/kernel/osrelease")).unwrap_or_default();
        let major = release.split('.').next().and_then(|major| major.trim().parse::<u32>().ok());
        Twice { is_preempted: major.is_none_or(|major| major >= 7), is_realtime: roots.sys("kernel/realtime").exists() }
    }

    /// Whether this one is. While jobs are remembered, the program of fences finds the ends that were passed over.
    pub(super) fn is(self, program: &Program, is_tracking: bool) -> bool {
        match program.record {
            of if of == FENCE_ERROR.record => self.is_preempted && self.is_realtime,
            of if of == DONE.record => !is_tracking,
            _ => self.is_preempted,
        }
    }
}

/// The programs on the tracepoints.
#[derive(Debug)]
pub(super) struct Levels {
    first: Vec<Attached>,
    later: Vec<Attached>,
    /// One more, on its way.
    attaching: Option<JoinHandle<Result<Option<Attached>, BpfError>>>,
    recent: Recent,
}

impl Levels {
    /// Loads and attaches them.
    pub(super) fn attach(
        roots: &Roots,
        maps: &Tracepoints,
        places: &Places,
        in_force: &mut InForce,
        is_tracking: bool,
    ) -> Result<Levels, BpfError> {
        let twice = Twice::on(roots);
        let first = attach_all(&maps.with_constants(&places.constants(0))?, |_| true)?;
        let are_fences_seen = are_fences_seen(&first);
        let is_twice = |program: &Program| twice.is(program, is_tracking && are_fences_seen);
        in_force.expect_more(maps, bits(is_twice))?;
        let later = attach_all(&maps.with_constants(&places.constants(1))?, is_twice)?;
        Ok(Levels { first, later, attaching: None, recent: Recent::default() })
    }

    /// Where the kernel has passed a program over, those of it that there are are not enough: those who hold the processor while one is inside
    /// of the first may be preempted in the next. One more at a time, beside this: loading takes milliseconds, in which the ring must be
    /// read. The kernel calls them in the order in which they were attached. Kernels before 7.0 hardly ever come here.
    pub(super) fn reinforce(
        &mut self,
        maps: &Tracepoints,
        places: &Places,
        in_force: &mut InForce,
    ) -> Result<(), BpfError> {
        if self.attaching.as_ref().is_some_and(|loading| !loading.is_finished()) {
            return Ok(());
        }
        // It panics nowhere; were it to, it would be as if it had not been tried.
        if let Some(Ok(more)) = self.attaching.take().map(JoinHandle::join) {
            self.later.extend(more?);
        }
        self.leave_ends_to_fences(maps, in_force)?;
        let are_ends_found = in_force.is_tracking() && are_fences_seen(&self.first);
        for of in &self.first {
            let Some(program) = PROGRAMS.iter().find(|program| program.name == of.name()) else { continue };
            let level = 1 + self.later.iter().filter(|later| later.name() == program.name).count();
            let is_enough = program.record == FENCE_ERROR.record || are_ends_found && program.record == DONE.record;
            if is_enough || level >= LEVELS || of.counted()?.misses == 0 {
                continue;
            }
            let programs = maps.with_constants(&places.constants(level as u32))?;
            in_force.expect_more(maps, program.bit())?;
            let load = move || programs.attach(program.name, program.tracepoints);
            let loading = thread::Builder::new().name("load".into()).spawn(load);
            self.attaching =
                Some(loading.map_err(|source| BpfError::Io { call: "beginning a thread".into(), source })?);
            return Ok(());
        }
        Ok(())
    }

    /// Once jobs are remembered, a fence tells of an end that was passed over: no program need follow that of ends.
    pub(super) fn leave_ends_to_fences(&mut self, maps: &Tracepoints, in_force: &mut InForce) -> Result<(), BpfError> {
        // One that is still being loaded would meet notes of ends that are told by then; this is asked again once it is there.
        if !in_force.is_tracking() || !are_fences_seen(&self.first) || self.attaching.is_some() {
            return Ok(());
        }
        let before = self.later.len();
        self.later.retain(|program| program.name() != DONE.name);
        if self.later.len() < before { in_force.expect_no_more(maps, DONE.bit()) } else { Ok(()) }
    }

    /// The first on its tracepoint.
    pub(super) fn first(&self, name: &str) -> Option<&Attached> {
        self.first.iter().find(|attached| attached.name() == name)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Attached> {
        self.first.iter().chain(&self.later)
    }

    /// How often programs of the first level were passed over; that of fences left out, which is called for every fence.
    pub(super) fn misses(&self) -> Result<u64, BpfError> {
        let of_jobs = self.first.iter().filter(|program| program.name() != FENCE_ERROR.name);
        of_jobs.map(|program| Ok(program.counted()?.misses)).sum()
    }

    /// Whether a record tells what was not told before.
    pub(super) fn is_new(&mut self, data: &[u8], is_later: bool) -> bool {
        self.recent.is_new(data, is_later)
    }

    /// How often a record did not, of events that count among those that were recovered.
    pub(super) fn twice(&self) -> u64 {
        self.recent.twice
    }
}

/// Whether the program of fences is among them: the tracepoint is there wherever there are fences.
fn are_fences_seen(first: &[Attached]) -> bool {
    first.iter().any(|program| program.name() == FENCE_ERROR.name)
}

/// A bit for the type of the records that each of these programs writes.
fn bits(is_among: impl Fn(&Program) -> bool) -> u32 {
    PROGRAMS.iter().filter(|program| is_among(program)).fold(0, |all, program| all | program.bit())
}

/// What was recorded last, to know it again when a program of a later level records the same.
#[derive(Debug)]
struct Recent {
    /// By the upper bits of a record's hash, the last four of each. Between the two, a task may have been away for milliseconds, and thousands of
    /// others recorded.
    hashes: Vec<[u64; 4]>,
    /// How often that was the case.
    twice: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Recent { hashes: vec![[0; 4]; 1 << RECENT_BITS], twice: 0 }
    }
}

impl Recent {
    /// Whether a record tells what was not told before. A later level's record comes soon after that of the one before: its room is
    /// reserved later, by the same task.
    fn is_new(&mut self, data: &[u8], is_later: bool) -> bool {
        // Type and thread, job, and of a dependency (the only records of that length) the other job; what follows may have changed
        // between the two.
        let words = data.chunks_exact(8).take(if data.len() == DEPENDENCY { 5 } else { 3 });
        let hash = words.fold(0, |hash: u64, word| {
            let word = word.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
        });
        let Some(last) = self.hashes.get_mut((hash >> (64 - RECENT_BITS)) as usize) else { return true };
        if is_later && last.contains(&hash) {
            self.twice += u64::from(!data.starts_with(&FENCE_ERROR.record.to_ne_bytes()));
            return false;
        }
        last.rotate_right(1);
        let [newest, ..] = last;
        *newest = hash;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_programs_recorded_is_told_once() {
        let data = |kind: u64, job: u64, rest: u64| [kind, job, 1, rest].iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut recent = Recent::default();
        let is_new = |recent: &mut Recent, data: Vec<u8>, is_later| recent.is_new(&data, is_later);
        assert!(is_new(&mut recent, data(1, 7, 0), false));
        assert!(is_new(&mut recent, data(1, 8, 0), true), "another job");
        assert!(is_new(&mut recent, data(2, 7, 0), true), "another event of it");
        assert!(!is_new(&mut recent, data(1, 7, 5), true), "the first's, with a longer queue");
        assert!(is_new(&mut recent, data(1, 7, 0), false), "the first programs do not repeat themselves");
        assert_eq!(recent.twice, 1);
        let dependency = |on: u64| [4, 7, 1, on, 1].iter().flat_map(|w: &u64| w.to_ne_bytes()).collect::<Vec<u8>>();
        assert!(recent.is_new(&dependency(20), false));
        assert!(recent.is_new(&dependency(21), true), "on another job");
        assert!(!recent.is_new(&dependency(21), true));
    }

    fn names(twice: Twice, is_tracking: bool) -> Vec<&'static str> {
        PROGRAMS.iter().filter(|program| twice.is(program, is_tracking)).map(|program| program.name).collect()
    }

    #[test]
    fn what_may_be_passed_over_is_there_twice() {
        let old = Twice { is_preempted: false, is_realtime: false };
        assert_eq!(names(old, false), ["done"]);
        assert_eq!(names(old, true), [""; 0], "fences tell of ends");
        let new = Twice { is_preempted: true, is_realtime: false };
        assert_eq!(names(new, false), ["done", "run", "unschedulable", "add_dep", "queue"]);
        assert_eq!(names(new, true), ["run", "unschedulable", "add_dep", "queue"]);
        let realtime = Twice { is_realtime: true, ..new };
        assert_eq!(names(realtime, true), ["fence_error", "run", "unschedulable", "add_dep", "queue"]);
        assert_eq!(names(Twice { is_realtime: true, ..old }, true), [""; 0]);
    }

    #[test]
    fn kernels_of_seven_and_later_preempt_in_tracepoints() {
        let tree = tempfile::tempdir().unwrap();
        let roots = Roots::at(tree.path());
        let release = roots.proc("sys/kernel/osrelease");
        assert!(Twice::on(&roots).is_preempted, "not known");
        std::fs::create_dir_all(release.parent().unwrap()).unwrap();
        for (text, is_preempted) in [("6.1.0-56-amd64\n", false), ("7.0.0\n", true), ("10.2\n", true), ("\n", true)] {
            std::fs::write(&release, text).unwrap();
            assert_eq!(Twice::on(&roots).is_preempted, is_preempted, "{text}");
        }
        assert!(!Twice::on(&roots).is_realtime);
    }
}
