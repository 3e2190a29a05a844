//! Jobs from events.

mod lost;
mod ring;
mod table;

use gpuscope_model::trace::{Event, EventKind, ExecKind, Family, Job, JobKey, JobStatus, NameId, RingId};
use lost::Suspects;
use ring::RingState;
use rustc_hash::FxHashMap;
use table::{Slot, Table};

/// Families that tell again of jobs that the DRM scheduler tells of, by names that are not always the scheduler's.
const ECHOES: [Family; 4] = [Family::Xe, Family::Amdgpu, Family::V3d, Family::Msm];

/// Puts the events of jobs together. Feed it events in order of time.
#[derive(Debug, Default)]
pub struct Jobs {
    live: Table<Live>,
    /// By the lower halves of their numbers: keys of live jobs of which the upper halves are not 0.
    wide: FxHashMap<(u32, u32), JobKey>,
    /// The scheduler's events are in the trace: others that tell of its jobs do not count.
    has_scheduler: bool,
    /// By processor: the thread that handed over the scheduler's last job there.
    handing_over: Vec<u32>,
    rings: Vec<RingState>,
    suspects: Suspects,
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
    /// Who told of it first.
    family: Family,
}

impl Live {
    fn new(job: Job, family: Family) -> Live {
        Live { job, order: None, beside: false, ends_before: 0, family }
    }
}

impl Jobs {
    /// Nothing is in flight.
    pub fn new() -> Self {
        Jobs::default()
    }

    /// Takes an event, and gives the job that it ends, if it ends one.
    #[inline]
    pub fn event(&mut self, event: &Event, mut ended: impl FnMut(&Job)) {
        if event.family != Family::DrmSched && self.is_told_otherwise(event) {
            return;
        }
        match event.kind {
            EventKind::Submit => {
                if event.family == Family::DrmSched && !self.has_scheduler {
                    self.find_scheduler();
                }
                self.submit(event, &mut ended);
            }
            EventKind::Commit => {
                if event.family == Family::DrmSched {
                    if !self.has_scheduler {
                        self.find_scheduler();
                    }
                    self.note_hand_over(event);
                }
                self.commit(event, &mut ended);
            }
            EventKind::SubmitCommit => {
                self.submit(event, &mut ended);
                self.commit(event, &mut ended);
            }
            EventKind::Complete => self.complete(event, &mut ended),
            EventKind::FenceSignaled if event.key.is_some_and(|key| self.live.find(&self.whole(key)).is_some()) => {
                self.complete(&Event { value: None, ..*event }, &mut ended);
            }
            EventKind::Retired => {
                if let Some(took_ns) = event.value.and_then(|ns| u64::try_from(ns).ok())
                    && let Some(job) = self.job_mut(event.key)
                {
                    job.start_ns = Some((event.at_ns.saturating_sub(took_ns), ExecKind::Measured));
                    self.complete(&Event { value: None, ..*event }, &mut ended);
                }
            }
            EventKind::Start => {
                if let Some(job) = self.job_mut(event.key) {
                    job.start_ns.get_or_insert((event.at_ns, ExecKind::Measured));
                }
            }
            EventKind::Dependency => {
                if let Some(job) = self.job_mut(event.key) {
                    job.dependencies = job.dependencies.saturating_add(1);
                }
            }
            EventKind::Blocked => {
                if let Some(job) = self.job_mut(event.key) {
                    job.blocked_by = event.other;
                }
            }
            EventKind::Error if event.family == Family::DrmSched => self.fence_error(event, &mut ended),
            EventKind::Error => {
                if let Some(job) = self.job_mut(event.key) {
                    job.status = JobStatus::Failed(event.value.unwrap_or(0));
                }
            }
            _ => {}
        }
    }

    /// Whether the scheduler's events tell what this one does.
    fn is_told_otherwise(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Submit | EventKind::Commit | EventKind::Complete | EventKind::Retired => {
                self.has_scheduler && ECHOES.contains(&event.family)
            }
            // A driver makes its own fence as it hands over the scheduler's job.
            EventKind::SubmitCommit if event.family == Family::DmaFence => {
                self.handing_over.get(usize::from(event.cpu)) == Some(&event.tid)
            }
            _ => false,
        }
    }

    /// The scheduler's first event: what others told of its jobs until now is forgotten.
    #[cold]
    fn find_scheduler(&mut self) {
        self.has_scheduler = true;
        let of_echoes: Vec<(Slot, JobKey, Option<RingId>)> = self
            .live
            .iter()
            .filter(|(_, live)| ECHOES.contains(&live.family))
            .map(|(slot, live)| (slot, live.job.key, live.job.ring))
            .collect();
        for (slot, key, ring) in of_echoes {
            self.unlink(&key);
            self.live.free(slot);
            if let Some(ring) = ring.and_then(|ring| self.rings.get_mut(ring.0 as usize)) {
                ring.forget();
            }
        }
    }

    fn note_hand_over(&mut self, event: &Event) {
        let at = usize::from(event.cpu);
        if self.handing_over.len() <= at {
            self.handing_over.resize(at.saturating_add(1), u32::MAX);
        }
        if let Some(thread) = self.handing_over.get_mut(at) {
            *thread = event.tid;
        }
    }

    /// The key of a live job that may be cut to 32 bits here.
    fn whole(&self, key: JobKey) -> JobKey {
        match key {
            JobKey::FenceLow { context, seqno } => {
                let plain = JobKey::Fence { context: u64::from(context), seqno: u64::from(seqno) };
                self.wide.get(&(context, seqno)).copied().unwrap_or(plain)
            }
            key => key,
        }
    }

    /// The ring of a job in flight.
    pub fn ring_of(&self, key: JobKey) -> Option<RingId> {
        self.live.get(self.live.find(&self.whole(key))?)?.job.ring
    }

    /// On this ring firmware decides what executes when: the end of one job does not tell when the next one began.
    pub fn by_firmware(&mut self, ring: RingId) {
        if let Some(ring) = ring_mut(&mut self.rings, Some(ring)) {
            ring.by_firmware = true;
        }
    }

    /// The trace ends: gives the jobs in flight, and counts the time of those with the hardware.
    pub fn finish(&mut self, at_ns: u64, mut ended: impl FnMut(&Job)) {
        for ring in &mut self.rings {
            ring.finish(at_ns);
        }
        let live = std::mem::take(&mut self.live);
        let mut rest: Vec<&Job> = live.iter().map(|(_, live)| &live.job).collect();
        rest.sort_unstable_by_key(|job| (job.submit_ns.or(job.run_ns), job.key));
        rest.into_iter().for_each(&mut ended);
    }

    /// Jobs in flight: what was submitted or handed over and has not ended.
    pub fn in_flight(&self) -> impl Iterator<Item = &Job> {
        self.live.iter().map(|(_, live)| &live.job)
    }

    /// What a ring did so far.
    pub fn ring(&self, ring: RingId) -> JobCounts {
        self.rings.get(ring.0 as usize).map(|ring| ring.counts).unwrap_or_default()
    }

    /// Ends of jobs of which nothing else was seen.
    pub fn unmatched_ends(&self) -> u64 {
        self.unmatched_ends
    }

    fn job_mut(&mut self, key: Option<JobKey>) -> Option<&mut Job> {
        let slot = self.live.find(&self.whole(key?))?;
        Some(&mut self.live.get_mut(slot)?.job)
    }

    /// Puts in a job whose key is not there.
    #[inline]
    fn insert(&mut self, key: JobKey, live: Live) -> Slot {
        if let Some(low) = low_of_wide(key) {
            self.wide.insert(low, key);
        }
        self.live.insert(&key, live)
    }

    /// Forgets a key; its slot stays until it is freed.
    #[inline]
    fn unlink(&mut self, key: &JobKey) -> Option<Slot> {
        if !self.wide.is_empty()
            && let Some(low) = low_of_wide(*key)
        {
            self.wide.remove(&low);
        }
        self.live.unlink(key)
    }

    #[inline]
    fn submit(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        let Some(key) = event.key.map(|key| self.whole(key)) else { return };
        if let Some(before) = self.live.find(&key) {
            // Told twice: a fence's numbers are never given out again.
            let was_told = |live: &Live| live.job.submit_ns.is_some() && matches!(key, JobKey::Fence { .. });
            if self.live.get(before).is_some_and(was_told) {
                return;
            }
            // The end of the job before, whose key this one has, was not seen.
            self.end_as_lost(before, ended);
        }
        let job = Job {
            pid: event.pid,
            tid: event.tid,
            comm: event.comm,
            submit_ns: Some(event.at_ns),
            ..unseen(key, event)
        };
        self.insert(key, Live::new(job, event.family));
        if let Some(ring) = ring_mut(&mut self.rings, event.ring) {
            ring.submitted();
        }
    }

    #[inline]
    fn commit(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        let Some(key) = event.key.map(|key| self.whole(key)) else { return };
        let mut found = self.live.find(&key);
        if let Some(slot) = found
            && let Some(live) = self.live.get(slot)
            && live.job.run_ns.is_some()
        {
            if matches!(key, JobKey::Fence { .. }) {
                return;
            }
            // Handed over twice under one address: the end of the first was lost, and the submission of the second.
            self.end_as_lost(slot, ended);
            found = None;
        }
        let slot = match found {
            Some(slot) => slot,
            None => self.insert(key, Live::new(unseen(key, event), event.family)),
        };
        let Some(live) = self.live.get_mut(slot) else { return };
        let ring = event.ring.or(live.job.ring);
        if ring != live.job.ring && live.job.submit_ns.is_some() {
            // Its queue moved to another ring meanwhile.
            if let Some(before) = ring_mut(&mut self.rings, live.job.ring) {
                before.depth = before.depth.saturating_sub(1);
            }
            if let Some(now) = ring_mut(&mut self.rings, ring) {
                now.submitted();
            }
        }
        live.job.ring = ring;
        live.job.run_ns = Some(event.at_ns);
        live.ends_before = self.unmatched_ends;
        live.order = ring_mut(&mut self.rings, ring).map(|ring| ring.hand_over(slot, event.at_ns));
    }

    #[inline]
    fn complete(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        let Some(key) = event.key.map(|key| self.whole(key)) else { return };
        let Some(slot) = self.unlink(&key) else {
            // Of a request of i915 the fence has told the end, and it is retired at some time later.
            if event.family != Family::I915 {
                self.unmatched_ends = self.unmatched_ends.saturating_add(1);
            }
            return;
        };
        if !self.suspects.is_empty() {
            self.end_suspects(slot, ended);
        }
        let last_done_ns = self.leave(slot, event.at_ns, ended);
        let Some(live) = self.live.get_mut(slot) else { return };
        let job = &mut live.job;
        job.done_ns = Some(event.at_ns);
        job.status = match (job.status, event.value) {
            (failed @ JobStatus::Failed(_), _) => failed,
            (_, Some(0)) => JobStatus::Completed,
            (_, Some(error)) => JobStatus::Failed(error),
            (_, None) => JobStatus::Ended,
        };
        // A job that nobody saw begin has ended meanwhile, perhaps on this ring: it may be the one that this one waited for.
        let is_sure = live.ends_before == self.unmatched_ends;
        let infers = job.ring.and_then(|ring| self.rings.get(ring.0 as usize)).is_some_and(|ring| !ring.by_firmware);
        if infers
            && is_sure
            && job.start_ns.is_none()
            && !live.beside
            && let Some(run_ns) = job.run_ns
        {
            // An end before the hand-over was that of an earlier job.
            let start_ns = last_done_ns.map_or(run_ns, |done| done.max(run_ns)).min(event.at_ns);
            job.start_ns = Some((start_ns, ExecKind::Inferred));
        }
        ended(job);
        self.live.free(slot);
    }

    /// A fence signalled with an error. If it is a job's of which the scheduler did not say that it is done, that job was killed before it
    /// ran.
    fn fence_error(&mut self, event: &Event, ended: &mut impl FnMut(&Job)) {
        if event.key.is_some_and(|key| self.live.find(&key).is_some()) {
            self.complete(event, ended);
        }
    }

    /// Takes a job off its ring, and says when the job before it ended there.
    #[inline]
    fn leave(&mut self, slot: Slot, at_ns: u64, ended: &mut impl FnMut(&Job)) -> Option<u64> {
        let live = self.live.get(slot)?;
        let (of, order) = (live.job.ring?, live.order);
        let (was_submitted, was_running) = (live.job.submit_ns.is_some(), live.job.run_ns.is_some());
        let ring = self.rings.get_mut(of.0 as usize)?;
        ring.depth = ring.depth.saturating_sub(u64::from(was_submitted));
        if !was_running {
            return ring.last_done_ns;
        }
        if let Some(order) = order
            && !ring.end_first(order)
        {
            self.leave_among_others(slot, of, order, ended);
        }
        let ring = self.rings.get_mut(of.0 as usize)?;
        ring.leave();
        ring.rest(at_ns);
        ring.last_done_ns.replace(at_ns)
    }

    /// The same, where others were handed over before and have not ended, or did so out of order.
    #[cold]
    fn leave_among_others(&mut self, slot: Slot, of: RingId, order: u64, ended: &mut impl FnMut(&Job)) {
        let Some(ring) = self.rings.get_mut(of.0 as usize) else { return };
        // Handed over before records were lost: its end was among them.
        let (lost, passed): (Vec<_>, Vec<_>) =
            ring.end(order).into_iter().partition(|(order, _)| ring.is_suspect(*order));
        if !passed.is_empty() {
            ring.counts.out_of_order = ring.counts.out_of_order.saturating_add(1);
        }
        for (_, other) in &passed {
            if let Some(other) = self.live.get_mut(*other) {
                other.beside = true;
            }
        }
        if let Some(live) = self.live.get_mut(slot) {
            live.beside |= !passed.is_empty();
        }
        for (_, gone) in lost {
            self.end_as_lost(gone, ended);
        }
        let Some(ring) = self.rings.get_mut(of.0 as usize) else { return };
        for stray in ring.tidy() {
            if let Some(other) = self.live.get_mut(stray) {
                other.order = None;
            }
        }
    }
}

/// A ring's state, made at its first event.
#[inline]
fn ring_mut(rings: &mut Vec<RingState>, ring: Option<RingId>) -> Option<&mut RingState> {
    let at = ring?.0 as usize;
    if rings.len() <= at {
        rings.resize_with(at.saturating_add(1), RingState::default);
    }
    rings.get_mut(at)
}

/// The lower halves of a fence's numbers, if the upper ones are not 0.
#[inline]
fn low_of_wide(key: JobKey) -> Option<(u32, u32)> {
    match key {
        JobKey::Fence { context, seqno } if (context | seqno) >> 32 != 0 => Some((context as u32, seqno as u32)),
        _ => None,
    }
}

/// A job of which nothing is known but what the event says.
#[inline]
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
mod families;
#[cfg(test)]
mod tests;
