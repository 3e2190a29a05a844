//! Where the kernel's members are that the programs read: `places` in `jobs.h`.

use super::super::cast::Cast;
use super::super::error::BpfError;
use super::super::object::member_places;
use super::JobFields;
use crate::Roots;

/// Where the scheduler's types are, when it is a module.
const MODULE: &str = "gpu_sched";

/// One place in the order of `places` in `jobs.h`: structures and members to go through, and whether a job says anything without.
struct Place {
    path: &'static [(&'static str, &'static str)],
    is_needed: bool,
}

const fn needed(path: &'static [(&'static str, &'static str)]) -> Place {
    Place { path, is_needed: true }
}

const fn optional(path: &'static [(&'static str, &'static str)]) -> Place {
    Place { path, is_needed: false }
}

/// Source: include/drm/gpu_scheduler.h, include/linux/dma-fence.h, include/drm/spsc_queue.h, include/linux/device.h, include/linux/sched.h,
/// include/linux/cred.h, include/linux/cgroup-defs.h, include/linux/kernfs.h.
const PLACES: [Place; 25] = [
    needed(&[("drm_sched_job", "s_fence")]),
    needed(&[("drm_sched_job", "sched")]),
    needed(&[("drm_sched_fence", "finished"), ("dma_fence", "context")]),
    needed(&[("drm_sched_fence", "finished"), ("dma_fence", "seqno")]),
    optional(&[("drm_sched_fence", "finished"), ("dma_fence", "error")]),
    optional(&[("drm_sched_fence", "parent")]),
    optional(&[("drm_sched_fence", "drm_client_id")]),
    needed(&[("dma_fence", "context")]),
    needed(&[("dma_fence", "seqno")]),
    optional(&[("dma_fence", "error")]),
    needed(&[("drm_gpu_scheduler", "name")]),
    needed(&[("drm_gpu_scheduler", "dev")]),
    needed(&[("device", "kobj"), ("kobject", "name")]),
    optional(&[("drm_sched_entity", "job_queue"), ("spsc_queue", "job_count")]),
    needed(&[("task_struct", "pid")]),
    needed(&[("task_struct", "tgid")]),
    needed(&[("task_struct", "comm")]),
    optional(&[("task_struct", "prio")]),
    optional(&[("task_struct", "exit_state")]),
    optional(&[("task_struct", "cred")]),
    optional(&[("cred", "uid")]),
    optional(&[("task_struct", "cgroups")]),
    optional(&[("css_set", "dfl_cgrp")]),
    optional(&[("cgroup", "kn")]),
    optional(&[("kernfs_node", "id")]),
];

/// How many there are.
pub(super) const COUNT: usize = PLACES.len();

/// `ABSENT` in `reads.h`.
pub(super) const ABSENT: u16 = u16::MAX;

/// Which of [`PLACES`] decide over fields that a kernel may lack.
const FINISHED_ERROR: usize = 4;
const CLIENT: usize = 6;
const ERROR: usize = 9;
const QUEUE_LENGTH: usize = 13;

/// From here on places are those of threads, which are built in everywhere.
const FIRST_OF_THREADS: usize = 14;

/// On one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places(pub(super) [u16; COUNT]);

impl Places {
    /// On the running kernel, and how what is there may be read by loads.
    pub(super) fn find(roots: &Roots) -> Result<(Places, Option<Cast>), BpfError> {
        Places([ABSENT; COUNT]).look_up(roots, 0)
    }

    /// These, but for those of threads, which are the running kernel's: for jobs that are made up, on machines without a scheduler.
    pub(super) fn with_threads(self, roots: &Roots) -> Result<(Places, Option<Cast>), BpfError> {
        self.look_up(roots, FIRST_OF_THREADS)
    }

    fn look_up(mut self, roots: &Roots, first: usize) -> Result<(Places, Option<Cast>), BpfError> {
        let all = || PLACES.iter().skip(first);
        let wanted: Vec<(&str, &str)> = all().flat_map(|place| place.path).copied().collect();
        let (found, cast) = member_places(roots, MODULE, &wanted)?;
        let mut steps = wanted.iter().zip(found);
        let mut is_loaded = first > 0;
        for (place, of) in self.0.iter_mut().skip(first).zip(all()) {
            let mut sum = Some(0_u32);
            for ((structure, member), found) in steps.by_ref().take(of.path.len()) {
                is_loaded |= found.is_some() && *structure == "drm_sched_job";
                if found.is_none() && of.is_needed {
                    return Err(lacking(roots, is_loaded, structure, member));
                }
                sum = sum.zip(found).map(|(sum, step)| sum.saturating_add(step));
            }
            *place = sum.and_then(|sum| u16::try_from(sum).ok()).unwrap_or(ABSENT);
        }
        Ok((self, cast))
    }

    /// The constants of programs of a level.
    pub(super) fn constants(&self, level: u32) -> [(&'static str, Vec<u8>); 2] {
        let places = self.0.iter().flat_map(|place| place.to_ne_bytes()).collect();
        [("places", places), ("level", level.to_ne_bytes().to_vec())]
    }

    /// Which fields there are.
    pub(super) fn fields(&self) -> JobFields {
        let has = |at: usize| self.0.get(at).is_some_and(|place| *place != ABSENT);
        JobFields { client: has(CLIENT), queue_length: has(QUEUE_LENGTH), error: has(ERROR) && has(FINISHED_ERROR) }
    }
}

/// Why a member is not found.
fn lacking(roots: &Roots, is_loaded: bool, structure: &str, member: &str) -> BpfError {
    if is_loaded {
        let what = format!("this kernel's structures lack a field that is read: {structure}.{member}");
        BpfError::Unsupported { what }
    } else if roots.sys(format!("module/{MODULE}")).exists() {
        let path = roots.sys(format!("kernel/btf/{MODULE}"));
        BpfError::NoBtf { path }
    } else {
        BpfError::NoTracepoint { name: "gpu_scheduler:drm_sched_job_queue".into() }
    }
}
