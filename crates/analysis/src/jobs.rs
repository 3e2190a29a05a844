//! Jobs from events.

use gpuscope_model::trace::{Event, EventKind, ExecKind, Family, Job, JobKey, JobStatus, NameId, RingId};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// A job overtaken by so many others is no longer looked at in its ring's order: one that hangs must not cost the others more.
const MOST_OVERTAKEN: usize = 256;

/// Puts the events of jobs together. Feed it events in order of time.
#[derive(Debug, Default)]
pub struct Jobs {
    live: FxHashMap<JobKey, Live>,
    rings: Vec<RingState>,
    unmatched_ends: u64,
}

/// What a ring did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Jobs that ended while one handed over before them had not.
    pub out_of_order: u64,
    /// Jobs submitted and not ended, at most.
    pub depth_peak: u64,
    /// Time in which at least one job was with the hardware.
    pub busy_ns: u64,
}

#[derive(Debug)]
struct Live {
    job: Job,
    /// Its place among those handed over to its ring.
    order: Option<u64>,
    /// Ran beside another: its start cannot be told from the end of that one.
    beside: bool,
    /// Ends of unseen jobs until its hand-over.
    ends_before: u64,
}

#[derive(Debug, Default)]
struct RingState {
    counts: JobCounts,
    depth: u64,
    /// When the last job ended.
    last_done_ns: Option<u64>,
    /// Jobs with the hardware, in the order in which they were handed over: key, and whether it has ended already.
    with_hardware: VecDeque<(JobKey, bool)>,
    /// Place of the first of these.
    first: u64,
    /// Jobs with the hardware, those included that were overtaken too often to be kept in order.
    running: u64,
    /// Since when there has been one.
    busy_since_ns: u64,
    /// Firmware decides what executes when: starts are not inferred.
    by_firmware: bool,
    /// Jobs handed over before this place may have ended without our seeing it: records were lost.
    suspect_before: u64,
}

impl Jobs {
    /// Nothing is in flight.
    pub fn new() -> Self {
        Jobs::default()
    }

    /// Takes an event, and gives the job that it ends, if it ends one.
    pub fn event(&mut self, event: &Event, mut ended: impl FnMut(&Job)) {
        match event.kind {
            EventKind::Submit => self.submit(event, &mut ended),
            EventKind::Commit => self.commit(event, &mut ended),
            EventKind::Complete => self.complete(event, &mut ended),
            EventKind::Start => {
                if let Some(live) = event.key.and_then(|key| self.live.get_mut(&key)) {
                    live.job.start_ns.get_or_insert((event.at_ns, ExecKind::Measured));
                }
            }
            EventKind::Dependency => {
                if let Some(live) = event.key.and_then(|key| self.live.get_mut(&key)) {
                    live.job.dependencies = live.job.dependencies.saturating_add(1);
                }
            }
            EventKind::Blocked => {
                if let Some(live) = event.key.and_then(|key| self.live.get_mut(&key)) {
                    live.job.blocked_by = event.other;
                }
            }
            EventKind::Error if event.family == Family::DrmSched => self.fence_error(event, &mut ended),
            EventKind::Error => {
                if let Some(live) = event.key.and_then(|key| self.live.get_mut(&key)) {
                    live.job.status = JobStatus::Failed(event.value.unwrap_or(0));
                }
            }
            _ => {}
        }
    }

    /// On this ring firmware decides what executes when: the end of one job does not tell when the next one began.
    pub fn by_firmware(&mut self, ring: RingId) {
        if let Some(ring) = self.ring_state(Some(ring)) {
            ring.by_firmware = true;
        }
    }

    /// Records were lost about now: the ends of jobs that are in flight may be among them.
    pub fn lost(&mut self) {
        for ring in &mut self.rings {
            ring.suspect_before = ring.first.saturating_add(ring.with_hardware.len() as u64);
        }
    }

    /// The trace ends: gives the jobs in flight, and counts the time of those with the hardware.
    pub fn finish(&mut self, at_ns: u64, mut ended: impl FnMut(&Job)) {
        for ring in &mut self.rings {
            if ring.running > 0 {
                ring.counts.busy_ns = ring.counts.busy_ns.saturating_add(at_ns.saturating_sub(ring.busy_since_ns));
            }
            ring.running = 0;
            ring.with_hardware.clear();
        }
        let mut rest: Vec<Live> = self.live.drain().map(|(_, live)| live).collect();
        rest.sort_unstable_by_key(|live| (live.job.submit_ns.or(live.job.run_ns), live.job.key));
        for live in rest {
            ended(&live.job);
        }
    }

    /// Jobs in flight: what was submitted or handed over and has not ended.
    pub fn in_flight(&self) -> impl Iterator<Item = &Job> {
        self.live.values().map(|live| &live.job)
    }

    /// What a ring did so far.
    pub fn ring(&self, ring: RingId) -> JobCounts {
        self.rings.get(ring.0 as usize).map(|ring| ring.counts).unwrap_or_default()
    }

    /// Ends of jobs of which nothing else was seen.
    pub fn unmatched_ends(&self) -> u64 {
        self.unmatched_ends
    }

    fn submit(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        let Some(key) = event.key else { return };
        // Told twice: a fence's numbers are never given out again.
        if matches!(key, JobKey::Fence { .. }) && self.live.get(&key).is_some_and(|live| live.job.submit_ns.is_some()) {
            return;
        }
        let job = Job {
            pid: event.pid,
            tid: event.tid,
            comm: event.comm,
            submit_ns: Some(event.at_ns),
            ..unseen(key, event)
        };
        if let Some(before) = self.live.insert(key, Live { job, order: None, beside: false, ends_before: 0 }) {
            self.give_up(before, event.at_ns, ended);
        }
        if let Some(ring) = self.ring_state(event.ring) {
            ring.depth = ring.depth.saturating_add(1);
            ring.counts.depth_peak = ring.counts.depth_peak.max(ring.depth);
        }
    }

    fn commit(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        let Some(key) = event.key else { return };
        if matches!(key, JobKey::Fence { .. }) && self.live.get(&key).is_some_and(|live| live.job.run_ns.is_some()) {
            return;
        }
        // Handed over twice under one address: the end of the first was lost, and the submission of the second.
        if self.live.get(&key).is_some_and(|live| live.order.is_some())
            && let Some(before) = self.live.remove(&key)
        {
            self.give_up(before, event.at_ns, ended);
        }
        let order = self.ring_state(event.ring).map(|ring| {
            if ring.running == 0 {
                ring.busy_since_ns = event.at_ns;
            }
            ring.running = ring.running.saturating_add(1);
            ring.with_hardware.push_back((key, false));
            ring.first.saturating_add(ring.with_hardware.len() as u64).saturating_sub(1)
        });
        let unmatched_ends = self.unmatched_ends;
        let live = self.live.entry(key).or_insert_with(|| Live {
            job: unseen(key, event),
            order: None,
            beside: false,
            ends_before: 0,
        });
        live.job.run_ns = Some(event.at_ns);
        live.ends_before = unmatched_ends;
        live.job.ring = event.ring.or(live.job.ring);
        live.order = order;
    }

    fn complete(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        let Some(key) = event.key else { return };
        let Some(mut live) = self.live.remove(&key) else {
            self.unmatched_ends = self.unmatched_ends.saturating_add(1);
            return;
        };
        live.job.done_ns = Some(event.at_ns);
        live.job.status = match (live.job.status, event.value) {
            (failed @ JobStatus::Failed(_), _) => failed,
            (_, Some(0)) => JobStatus::Completed,
            (_, Some(error)) => JobStatus::Failed(error),
            (_, None) => JobStatus::Ended,
        };
        let last_done_ns = self.leave(&mut live, event.at_ns, ended);
        // A job that nobody saw begin has ended meanwhile, perhaps on this ring: it may be the one that this one waited for.
        let is_sure = live.ends_before == self.unmatched_ends;
        let infers = self.ring_state(live.job.ring).is_some_and(|ring| !ring.by_firmware);
        if infers
            && is_sure
            && live.job.start_ns.is_none()
            && !live.beside
            && let Some(run_ns) = live.job.run_ns
        {
            // An end before the hand-over was that of an earlier job.
            let start_ns = last_done_ns.map_or(run_ns, |done| done.max(run_ns)).min(event.at_ns);
            live.job.start_ns = Some((start_ns, ExecKind::Inferred));
        }
        ended(&live.job);
    }

    /// A fence signalled with an error. If it is a job's of which the scheduler did not say that it is done, that job was killed before it
    /// ran.
    fn fence_error(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        if event.key.is_some_and(|key| self.live.contains_key(&key)) {
            self.complete(event, ended);
        }
    }

    /// Takes a job off its ring, and says when the job before it ended there.
    fn leave(&mut self, live: &mut Live, at_ns: u64, ended: &mut impl FnMut(&Job)) -> Option<u64> {
        let (was_submitted, was_running) = (live.job.submit_ns.is_some(), live.job.run_ns.is_some());
        let order = live.order;
        let ring = self.ring_state(live.job.ring)?;
        ring.depth = ring.depth.saturating_sub(u64::from(was_submitted));
        if !was_running {
            return ring.last_done_ns;
        }
        let overtaken = order.map(|order| ring.end(order)).unwrap_or_default();
        ring.running = ring.running.saturating_sub(1);
        let (suspect_before, mut gone, mut overtook) = (ring.suspect_before, Vec::new(), false);
        let (lost, passed): (Vec<_>, Vec<_>) = overtaken.into_iter().partition(|(order, _)| *order < suspect_before);
        for (order, key) in lost {
            // Handed over before records were lost: its end was among them.
            ring.end(order);
            ring.running = ring.running.saturating_sub(1);
            gone.push(key);
        }
        for (_, key) in passed {
            overtook = true;
            live.beside = true;
            if let Some(other) = self.live.get_mut(&key) {
                other.beside = true;
            }
        }
        let ring = self.ring_state(live.job.ring)?;
        ring.counts.out_of_order = ring.counts.out_of_order.saturating_add(u64::from(overtook));
        let strays = ring.tidy();
        if ring.running == 0 {
            ring.counts.busy_ns = ring.counts.busy_ns.saturating_add(at_ns.saturating_sub(ring.busy_since_ns));
        }
        let before = ring.last_done_ns.replace(at_ns);
        for key in strays {
            if let Some(other) = self.live.get_mut(&key) {
                other.order = None;
            }
        }
        for key in gone {
            if let Some(mut other) = self.live.remove(&key) {
                other.job.status = JobStatus::Lost;
                let was_submitted = u64::from(other.job.submit_ns.is_some());
                if let Some(ring) = self.ring_state(other.job.ring) {
                    ring.depth = ring.depth.saturating_sub(was_submitted);
                }
                ended(&other.job);
            }
        }
        before
    }

    /// A job whose end was not seen, and whose key another one has now.
    fn give_up(&mut self, mut live: Live, at_ns: u64, ended: &mut impl FnMut(&Job)) {
        live.job.status = JobStatus::Lost;
        self.leave(&mut live, at_ns, ended);
        ended(&live.job);
    }

    fn ring_state(&mut self, ring: Option<RingId>) -> Option<&mut RingState> {
        let at = ring?.0 as usize;
        if self.rings.len() <= at {
            self.rings.resize_with(at.saturating_add(1), RingState::default);
        }
        self.rings.get_mut(at)
    }
}

impl RingState {
    /// Marks the job at a place as ended, and gives those before it that have not.
    fn end(&mut self, order: u64) -> Vec<(u64, JobKey)> {
        let Some(at) = order.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else {
            return Vec::new();
        };
        if let Some((_, has_ended)) = self.with_hardware.get_mut(at) {
            *has_ended = true;
        }
        let before = self.with_hardware.iter().take(at).zip(self.first..);
        before.filter(|((_, has_ended), _)| !has_ended).map(|((key, _), order)| (order, *key)).collect()
    }

    /// Forgets those that ended, up to the first that has not, and gives those that too many others overtook.
    fn tidy(&mut self) -> Vec<JobKey> {
        let mut strays = Vec::new();
        while let Some((key, has_ended)) = self.with_hardware.front() {
            if !has_ended {
                let ended = self.with_hardware.iter().filter(|(_, has_ended)| *has_ended).count();
                if ended < MOST_OVERTAKEN {
                    break;
                }
                strays.push(*key);
            }
            self.with_hardware.pop_front();
            self.first = self.first.saturating_add(1);
        }
        strays
    }
}

/// A job of which nothing is known but what the event says.
fn unseen(key: JobKey, event: &Event) -> Job {
    Job {
        key,
        ring: event.ring,
        client: event.client,
        pid: 0,
        tid: 0,
        comm: NameId::default(),
        submit_ns: None,
        run_ns: None,
        start_ns: None,
        done_ns: None,
        dependencies: 0,
        blocked_by: None,
        status: JobStatus::InFlight,
    }
}

#[cfg(test)]
mod tests;
