//! Jobs that ended well and of which everything is known: nearly all. They wait here until there are some, and are added up one behind the
//! other then, which takes a processor less than to do so between events.

use super::people::Of;
use super::{RingTotals, Totals};
use crate::Pool;
use crate::jobs::{Ended, Times};
use gpuscope_model::trace::{JobStatus, NameId};

/// So many wait: few enough to stay in the nearest cache.
const MOST_WAITING: usize = 128;

/// A job that was submitted, handed over and ended without an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainJob {
    pub(super) of: Of,
    pub(super) comm: NameId,
    pub(super) queue_ns: u32,
    hw_queue_ns: u32,
    pub(super) exec_ns: u32,
    pub(super) in_flight_ns: u32,
    /// That it did not fail was told.
    is_told: bool,
    /// Its start is known, and was recorded.
    has_started: bool,
    is_measured: bool,
}

impl PlainJob {
    /// A job with its times, if it is plain and they fit.
    #[inline(always)]
    pub(super) fn new(job: &Ended<'_>, times: &Times) -> Option<PlainJob> {
        let is_told = match job.status() {
            JobStatus::Completed => true,
            JobStatus::Ended => false,
            _ => return None,
        };
        let longest_ns = times.queue_ns | times.hw_queue_ns | times.exec_ns | times.in_flight_ns;
        if !times.was_queued || !times.was_in_flight || longest_ns > u64::from(u32::MAX) {
            return None;
        }
        Some(PlainJob {
            of: Of::job(job),
            comm: job.comm(),
            queue_ns: times.queue_ns as u32,
            hw_queue_ns: times.hw_queue_ns as u32,
            exec_ns: if times.was_executed { times.exec_ns as u32 } else { 0 },
            in_flight_ns: times.in_flight_ns as u32,
            is_told,
            has_started: times.was_executed,
            is_measured: job.is_measured(),
        })
    }
}

impl Totals {
    /// Takes a job to be added.
    #[inline(always)]
    pub(super) fn take_plain(&mut self, job: PlainJob) {
        if self.plain.len() >= self.plain.capacity() {
            self.add_plain();
        }
        self.plain.push(job);
    }

    /// Adds the jobs that wait.
    #[inline(never)]
    pub(super) fn add_plain(&mut self) {
        let mut plain = std::mem::take(&mut self.plain);
        for job in &plain {
            if let Some(ring) = job.of.ring().and_then(|ring| self.rings.get_mut(ring.0 as usize)) {
                ring.plain_job(job, &mut self.pool);
            }
            self.people.plain_job(job, &mut self.pool);
        }
        plain.clear();
        plain.reserve_exact(MOST_WAITING);
        self.plain = plain;
    }
}

impl RingTotals {
    #[inline(always)]
    fn plain_job(&mut self, job: &PlainJob, pool: &mut Pool) {
        let [completed, ended, ..] = &mut self.by_status;
        let status = if job.is_told { completed } else { ended };
        *status = status.wrapping_add(1);
        self.handed_over = self.handed_over.wrapping_add(1);
        self.queue.add(job.queue_ns.into(), pool);
        self.in_flight.add(job.in_flight_ns.into(), pool);
        if job.has_started {
            self.hw_queue.add(job.hw_queue_ns.into(), pool);
            self.exec.add(job.exec_ns.into(), pool);
            self.measured = self.measured.wrapping_add(u64::from(job.is_measured));
        }
    }
}
