//! Jobs from events.

mod ended;
mod homes;
mod live;
mod lost;
mod plain;
mod ring;
mod steps;
mod table;

pub(crate) use ended::{Ended, PlainJob, Times};
use gpuscope_model::trace::{Event, EventKind, Family, Job, JobKey, RingId, Step};
use live::{Live, Whole, WholeMut, is};
use lost::Suspects;
use plain::{AllAsked, Waiting};
use ring::RingState;
use rustc_hash::FxHashMap;
use table::{Key, Slot, Table};

/// Families that tell again of jobs that the DRM scheduler tells of, by names that are not always the scheduler's.
const ECHOES: [Family; 4] = [Family::Xe, Family::Amdgpu, Family::V3d, Family::Msm];

/// Puts the events of jobs together. Feed it events in order of time.
#[derive(Debug)]
pub struct Jobs {
    live: Table,
    /// By the lower halves of their numbers: keys of live jobs of which the upper halves are not 0.
    wide: FxHashMap<(u32, u32), JobKey>,
    /// The scheduler's events are in the trace: others that tell of its jobs do not count.
    has_scheduler: bool,
    /// What steps are asked.
    asked: &'static AllAsked,
    /// By processor, from 1: the thread that handed over the scheduler's last job there. The first is nobody's.
    handing_over: Vec<u32>,
    rings: Vec<RingState>,
    suspects: Suspects,
    unmatched_ends: u64,
    /// What was handed over until then may have waited for a job of which only the end was seen. 0 if there was none.
    doubtful_until_ns: u64,
    waiting: Waiting,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs::new()
    }
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

impl Jobs {
    /// Nothing is in flight.
    pub fn new() -> Self {
        Jobs {
            live: Table::default(),
            wide: FxHashMap::default(),
            has_scheduler: false,
            asked: plain::asked(false),
            handing_over: Vec::new(),
            rings: Vec::new(),
            suspects: Suspects::default(),
            unmatched_ends: 0,
            doubtful_until_ns: 0,
            waiting: Waiting::default(),
        }
    }

    /// Whether a job handed over at that moment waited for no job but those that were seen.
    #[inline(always)]
    fn is_sure(&self, run_ns: u64) -> bool {
        run_ns >= self.doubtful_until_ns
    }

    /// Looks again at what concerns all steps: no job is plain while jobs may have ended unseen.
    fn choose_asked(&mut self) {
        self.asked = plain::asked(self.has_scheduler && self.suspects.is_empty());
    }

    /// Takes an event, and gives the job that it ends, if it ends one.
    #[inline]
    pub fn event(&mut self, event: &Event, mut ended: impl FnMut(&Job)) {
        self.take(event, &mut |of: Ended<'_>| ended(&of.job()));
    }

    /// The same, for those who do not want to know everything of every job.
    #[inline]
    pub(crate) fn take(&mut self, event: &Event, ended: &mut impl FnMut(Ended<'_>)) {
        self.give_all_waiting(ended);
        if event.family != Family::DrmSched && self.is_told_otherwise(event) {
            return;
        }
        if event.family == Family::DrmSched && matches!(event.kind, EventKind::Submit | EventKind::Commit) {
            if !self.has_scheduler {
                self.find_scheduler();
            }
            if event.kind == EventKind::Commit {
                self.note_hand_over(place_of_cpu(event.cpu), event.tid);
            }
        }
        let step = || Step::of(event);
        match (event.kind, self.key_of(event)) {
            (EventKind::Submit, Some(key)) => self.submit(&key, &step(), event.family, ended),
            (EventKind::Commit, Some(key)) => self.commit(&key, &step(), event.family, ended),
            (EventKind::Complete, Some(key)) => self.complete(&key, event.at_ns, event.family, event.value, ended),
            (_, Some(key)) => self.take_other(event, &key, ended),
            _ => {}
        }
    }

    /// An event of which not every job has one.
    fn take_other(&mut self, event: &Event, key: &Key, ended: &mut impl FnMut(Ended<'_>)) {
        match event.kind {
            EventKind::SubmitCommit => {
                self.submit(key, &Step::of(event), event.family, ended);
                // The first step may have ended a job, whose key may have meant this one.
                if let Some(key) = self.key_of(event) {
                    self.commit(&key, &Step::of(event), event.family, ended);
                }
            }
            EventKind::FenceSignaled if self.live.find(key).is_some() => {
                self.complete(key, event.at_ns, event.family, None, ended);
            }
            EventKind::Retired => {
                if let Some(took_ns) = event.value.and_then(|ns| u64::try_from(ns).ok())
                    && let Some(mut live) = self.live_mut(key)
                {
                    live.started(event.at_ns.saturating_sub(took_ns));
                    self.complete(key, event.at_ns, event.family, None, ended);
                }
            }
            EventKind::Start => {
                if let Some(mut of) = self.live_mut(key)
                    && !of.live.is(is::STARTED)
                {
                    of.started(event.at_ns);
                }
            }
            EventKind::Dependency => {
                if let Some(mut live) = self.live_mut(key) {
                    live.depend();
                }
            }
            EventKind::Blocked => {
                if let Some(mut live) = self.live_mut(key) {
                    live.block(event.other);
                }
            }
            EventKind::Error if event.family == Family::DrmSched => self.fence_error(event, key, ended),
            EventKind::Error => {
                if let Some(mut live) = self.live_mut(key) {
                    live.fail(event.value.unwrap_or(0));
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
                self.handing_over.get(place_of_cpu(event.cpu)) == Some(&event.tid)
            }
            _ => false,
        }
    }

    /// The scheduler's first event: what others told of its jobs until now is forgotten.
    #[cold]
    fn find_scheduler(&mut self) {
        self.has_scheduler = true;
        self.choose_asked();
        let of_echoes: Vec<(Slot, Key, Option<RingId>)> = self
            .live
            .iter()
            .filter(|(_, live)| ECHOES.contains(&live.family))
            .map(|(slot, live)| (slot, live.key(), live.ring()))
            .collect();
        let mut forgotten = Vec::new();
        for (slot, key, ring) in of_echoes {
            self.unlink(&key);
            self.live.free(slot);
            if let Some(of) = ring
                && let Some(ring) = self.rings.get_mut(of.0 as usize)
            {
                ring.forget();
                forgotten.push(of);
            }
        }
        // Jobs that others still tell of have lost their places there.
        self.live
            .iter_mut()
            .filter(|live| live.ring().is_some_and(|ring| forgotten.contains(&ring)))
            .for_each(Live::forget);
    }

    /// The thread that hands over the scheduler's job on the processor of this place.
    #[inline(always)]
    fn note_hand_over(&mut self, place: usize, tid: u32) {
        match self.handing_over.get_mut(place) {
            Some(thread) => *thread = tid,
            None => self.note_first_hand_over(place, tid),
        }
    }

    #[cold]
    fn note_first_hand_over(&mut self, place: usize, tid: u32) {
        self.handing_over.resize(place, u32::MAX);
        self.handing_over.push(tid);
    }

    #[inline]
    fn key_of(&self, event: &Event) -> Option<Key> {
        event.key.as_ref().map(|key| self.whole(key))
    }

    /// The key of a live job that may be cut to 32 bits here.
    #[inline]
    fn whole(&self, key: &JobKey) -> Key {
        match key {
            // Of nearly all events. A key is not moved on the way: it would be read again before it is written.
            JobKey::Fence { context, seqno } => Key::fence(*context, *seqno),
            _ => self.whole_other(key),
        }
    }

    #[inline(never)]
    fn whole_other(&self, key: &JobKey) -> Key {
        match *key {
            JobKey::FenceLow { context, seqno } => {
                let plain = JobKey::Fence { context: u64::from(context), seqno: u64::from(seqno) };
                Key::of(self.wide.get(&(context, seqno)).unwrap_or(&plain))
            }
            _ => Key::of(key),
        }
    }

    /// The ring of a job in flight.
    pub fn ring_of(&self, key: JobKey) -> Option<RingId> {
        self.live.get(self.live.find(&self.whole(&key))?)?.ring()
    }

    /// On this ring firmware decides what executes when: the end of one job does not tell when the next one began.
    pub fn by_firmware(&mut self, ring: RingId) {
        if let Some(ring) = ring_mut(&mut self.rings, Some(ring)) {
            ring.by_firmware = true;
        }
    }

    /// The trace ends: gives the jobs in flight, and counts the time of those with the hardware.
    pub fn finish(&mut self, at_ns: u64, mut ended: impl FnMut(&Job)) {
        self.take_end(at_ns, &mut |of: Ended<'_>| ended(&of.job()));
    }

    /// The same, as [`Jobs::take`] does.
    pub(crate) fn take_end(&mut self, at_ns: u64, ended: &mut impl FnMut(Ended<'_>)) {
        self.give_all_waiting(ended);
        for ring in &mut self.rings {
            let first = ring.first_running().and_then(|first| self.live.get(first));
            ring.add_busy(first.map(|live| live.run_ns), at_ns);
        }
        let live = std::mem::take(&mut self.live);
        let mut rest: Vec<Whole<'_>> = live.all().collect();
        rest.sort_unstable_by_key(|of| (of.live.begun_ns(), of.live.key().job_key()));
        rest.into_iter().for_each(|of| ended(of.in_flight()));
    }

    /// Jobs in flight: what was submitted or handed over and has not ended.
    pub fn in_flight(&self) -> impl Iterator<Item = Job> {
        self.live.all().map(|of| of.in_flight().job())
    }

    /// What a ring did so far.
    pub fn ring(&self, ring: RingId) -> JobCounts {
        self.rings.get(ring.0 as usize).map(|ring| ring.counts).unwrap_or_default()
    }

    /// Ends of jobs of which nothing else was seen.
    pub fn unmatched_ends(&self) -> u64 {
        self.unmatched_ends
    }

    fn live_mut(&mut self, key: &Key) -> Option<WholeMut<'_>> {
        let slot = self.live.find(key)?;
        self.live.whole_mut(slot)
    }

    /// Puts in a job whose key is not there, with what the event says.
    fn insert(&mut self, key: &Key, step: &Step, family: Family) -> Slot {
        if let Some(low) = key.low_of_wide() {
            self.wide.insert(low, key.job_key());
        }
        let slot = self.live.insert(key, step, family);
        for (before, now) in self.live.take_moved() {
            if let Some(ring) = self.live.get(now).and_then(Live::ring).and_then(|of| self.rings.get_mut(of.0 as usize))
            {
                ring.moved(before, now);
            }
        }
        slot
    }

    /// Forgets a key; its slot stays until it is freed.
    #[inline(always)]
    fn unlink(&mut self, key: &Key) -> Option<Slot> {
        if !self.wide.is_empty()
            && let Some(low) = key.low_of_wide()
        {
            self.wide.remove(&low);
        }
        self.live.unlink(key)
    }

    /// A fence signalled with an error. If it is a job's of which the scheduler did not say that it is done, that job was killed before it
    /// ran.
    fn fence_error(&mut self, event: &Event, key: &Key, ended: &mut impl FnMut(Ended<'_>)) {
        if event.key.is_some_and(|key| self.live.find(&Key::of(&key)).is_some()) {
            self.complete(key, event.at_ns, event.family, event.value, ended);
        }
    }
}

/// Place of a processor in [`Jobs::handing_over`], where the first is nobody's.
#[inline(always)]
fn place_of_cpu(cpu: u16) -> usize {
    usize::from(cpu).wrapping_add(1)
}

/// A ring's state, made at its first event.
#[inline]
fn ring_mut(rings: &mut Vec<RingState>, ring: Option<RingId>) -> Option<&mut RingState> {
    let at = ring?.0 as usize;
    if rings.len() <= at {
        add_rings(rings, at);
    }
    rings.get_mut(at)
}

#[cold]
fn add_rings(rings: &mut Vec<RingState>, at: usize) {
    rings.resize_with(at.saturating_add(1), RingState::default);
}

#[cfg(test)]
use gpuscope_model::trace::{ExecKind, JobStatus, NameId};

#[cfg(test)]
mod families;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
