//! Jobs that ended well and of which everything is known: nearly all. They wait here until there are some, and are added up one behind the
//! other then, which takes a processor less than to do so between events.

use super::{RingTotals, Totals};
use crate::Pool;
use crate::jobs::{PlainJob, Times};

/// So many wait: few enough to stay in the nearest cache.
const MOST_WAITING: usize = 96;

/// And of the times of a ring's jobs, which stand side by side until they go to four places.
const MOST_WAITING_OF_RING: usize = 32;

impl Totals {
    /// Takes a job to be added.
    #[inline(always)]
    pub(super) fn take_plain(&mut self, job: PlainJob) {
        if self.plain.len() >= self.plain.capacity() {
            self.add_plain();
        }
        self.plain.push(job);
    }

    /// Adds everything that waits.
    pub(super) fn add_all_plain(&mut self) {
        self.add_plain();
        self.rings.iter_mut().for_each(|ring| ring.add_waiting(&mut self.pool));
    }

    /// Adds the jobs that wait.
    #[inline(never)]
    pub(super) fn add_plain(&mut self) {
        let mut plain = std::mem::take(&mut self.plain);
        for job in &plain {
            self.add_plain_job(job);
        }
        plain.clear();
        plain.reserve_exact(MOST_WAITING);
        self.plain = plain;
    }

    /// Adds a job at once: those that come with others of their kind need not wait here, too.
    #[inline(always)]
    pub(super) fn add_plain_job(&mut self, job: &PlainJob) {
        let times = job.times();
        if let Some(ring) = self.rings.get_mut(job.ring_at()) {
            ring.plain_job(job, &times, &mut self.pool);
        }
        self.people.plain_job(job, &times, &mut self.pool);
    }
}

impl RingTotals {
    #[inline(always)]
    fn plain_job(&mut self, job: &PlainJob, times: &Times, pool: &mut Pool) {
        let [completed, ended, ..] = &mut self.by_status;
        let status = if job.is_told { completed } else { ended };
        *status = status.wrapping_add(1);
        self.handed_over = self.handed_over.wrapping_add(1);
        self.measured = self.measured.wrapping_add(u64::from(job.is_measured));
        let all = [times.queue_ns, times.hw_queue_ns, times.exec_ns, times.in_flight_ns];
        if job.has_started && all.iter().fold(0, |any, ns| any | ns) <= u64::from(u32::MAX) {
            if self.waiting.len() >= self.waiting.capacity() {
                self.add_waiting(pool);
            }
            self.waiting.push(all.map(|ns| ns as u32));
        } else {
            // Worked out again, so that nobody writes them to memory who does not come here.
            self.times(&job.times(), pool);
        }
    }

    /// Adds the times that wait to their distributions.
    #[inline(never)]
    fn add_waiting(&mut self, pool: &mut Pool) {
        self.queue.add_all(self.waiting.iter().map(|[queue, ..]| *queue), pool);
        self.hw_queue.add_all(self.waiting.iter().map(|[_, hw_queue, ..]| *hw_queue), pool);
        self.exec.add_all(self.waiting.iter().map(|[_, _, exec, _]| *exec), pool);
        self.in_flight.add_all(self.waiting.iter().map(|[.., in_flight]| *in_flight), pool);
        self.waiting.clear();
        self.waiting.reserve_exact(MOST_WAITING_OF_RING);
    }
}
