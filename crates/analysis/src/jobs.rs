//! Jobs from events.

mod live;
mod lost;
mod ring;
mod table;

use gpuscope_model::trace::{Event, EventKind, ExecKind, Family, Job, JobKey, RingId};
pub(crate) use live::{Ended, Times};
use live::{Live, is};
use lost::Suspects;
use ring::RingState;
use rustc_hash::FxHashMap;
use table::{Key, Slot, Table};

/// Families that tell again of jobs that the DRM scheduler tells of, by names that are not always the scheduler's.
const ECHOES: [Family; 4] = [Family::Xe, Family::Amdgpu, Family::V3d, Family::Msm];

/// Puts the events of jobs together. Feed it events in order of time.
#[derive(Debug, Default)]
pub struct Jobs {
    live: Table,
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

impl Jobs {
    /// Nothing is in flight.
    pub fn new() -> Self {
        Jobs::default()
    }

    /// Takes an event, and gives the job that it ends, if it ends one.
    #[inline]
    pub fn event(&mut self, event: &Event, mut ended: impl FnMut(&Job)) {
        self.take(event, &mut |of: Ended<'_>| ended(&of.job()));
    }

    /// The same, for those who do not want to know everything of every job.
    #[inline]
    pub(crate) fn take(&mut self, event: &Event, ended: &mut impl FnMut(Ended<'_>)) {
        if event.family != Family::DrmSched && self.is_told_otherwise(event) {
            return;
        }
        match event.kind {
            EventKind::Submit => {
                if event.family == Family::DrmSched && !self.has_scheduler {
                    self.find_scheduler();
                }
                self.submit(event, ended);
            }
            EventKind::Commit => {
                if event.family == Family::DrmSched {
                    if !self.has_scheduler {
                        self.find_scheduler();
                    }
                    self.note_hand_over(event);
                }
                self.commit(event, ended);
            }
            EventKind::Complete => self.complete(event, event.value, ended),
            _ => self.take_other(event, ended),
        }
    }

    /// An event of which not every job has one.
    fn take_other(&mut self, event: &Event, ended: &mut impl FnMut(Ended<'_>)) {
        match event.kind {
            EventKind::SubmitCommit => {
                self.submit(event, ended);
                self.commit(event, ended);
            }
            EventKind::FenceSignaled
                if event.key.as_ref().is_some_and(|key| self.live.find(&self.whole(key)).is_some()) =>
            {
                self.complete(event, None, ended);
            }
            EventKind::Retired => {
                if let Some(took_ns) = event.value.and_then(|ns| u64::try_from(ns).ok())
                    && let Some(live) = self.live_mut(event.key)
                {
                    live.start_ns = event.at_ns.saturating_sub(took_ns);
                    live.set(is::STARTED);
                    self.complete(event, None, ended);
                }
            }
            EventKind::Start => {
                if let Some(live) = self.live_mut(event.key)
                    && !live.is(is::STARTED)
                {
                    live.start_ns = event.at_ns;
                    live.set(is::STARTED);
                }
            }
            EventKind::Dependency => {
                if let Some(live) = self.live_mut(event.key) {
                    live.dependencies = live.dependencies.saturating_add(1);
                }
            }
            EventKind::Blocked => {
                if let Some(live) = self.live_mut(event.key) {
                    live.block(event.other);
                }
            }
            EventKind::Error if event.family == Family::DrmSched => self.fence_error(event, ended),
            EventKind::Error => {
                if let Some(live) = self.live_mut(event.key) {
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
                self.handing_over.get(usize::from(event.cpu)) == Some(&event.tid)
            }
            _ => false,
        }
    }

    /// The scheduler's first event: what others told of its jobs until now is forgotten.
    #[cold]
    fn find_scheduler(&mut self) {
        self.has_scheduler = true;
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
            .for_each(Live::leave_order);
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
        for ring in &mut self.rings {
            ring.finish(at_ns);
        }
        let live = std::mem::take(&mut self.live);
        let mut rest: Vec<&Live> = live.iter().map(|(_, live)| live).collect();
        rest.sort_unstable_by_key(|live| (live.begun_ns(), live.key().job_key()));
        rest.into_iter().for_each(|live| ended(live.in_flight()));
    }

    /// Jobs in flight: what was submitted or handed over and has not ended.
    pub fn in_flight(&self) -> impl Iterator<Item = Job> {
        self.live.iter().map(|(_, live)| live.in_flight().job())
    }

    /// What a ring did so far.
    pub fn ring(&self, ring: RingId) -> JobCounts {
        self.rings.get(ring.0 as usize).map(|ring| ring.counts).unwrap_or_default()
    }

    /// Ends of jobs of which nothing else was seen.
    pub fn unmatched_ends(&self) -> u64 {
        self.unmatched_ends
    }

    fn live_mut(&mut self, key: Option<JobKey>) -> Option<&mut Live> {
        let slot = self.live.find(&self.whole(&key?))?;
        self.live.get_mut(slot)
    }

    /// Puts in a job whose key is not there, with what the event says.
    #[inline(always)]
    fn insert(&mut self, key: &Key, event: &Event) -> Slot {
        if let Some(low) = key.low_of_wide() {
            self.wide.insert(low, key.job_key());
        }
        self.live.insert(key, event)
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

    #[inline(always)]
    fn submit(&mut self, event: &Event, ended: &mut impl FnMut(Ended<'_>)) {
        let Some(key) = event.key.as_ref().map(|key| self.whole(key)) else { return };
        if let Some(before) = self.live.find(&key) {
            // Told twice: a fence's numbers are never given out again.
            if key.is_fence() && self.live.get(before).is_some_and(|live| live.is(is::SUBMITTED)) {
                return;
            }
            // The end of the job before, whose key this one has, was not seen.
            self.end_as_lost(before, ended);
        }
        let slot = self.insert(&key, event);
        if let Some(live) = self.live.get_mut(slot) {
            live.submitted(event);
        }
        if let Some(ring) = ring_mut(&mut self.rings, event.ring) {
            ring.submitted();
        }
    }

    #[inline(always)]
    fn commit(&mut self, event: &Event, ended: &mut impl FnMut(Ended<'_>)) {
        let Some(key) = event.key.as_ref().map(|key| self.whole(key)) else { return };
        let mut found = self.live.find(&key);
        if let Some(slot) = found
            && self.live.get(slot).is_some_and(|live| live.is(is::HANDED_OVER))
        {
            if key.is_fence() {
                return;
            }
            // Handed over twice under one address: the end of the first was lost, and the submission of the second.
            self.end_as_lost(slot, ended);
            found = None;
        }
        let slot = match found {
            Some(slot) => slot,
            None => self.insert(&key, event),
        };
        let Some(live) = self.live.get_mut(slot) else { return };
        let ring = event.ring.or(live.ring());
        if ring != live.ring() && live.is(is::SUBMITTED) {
            // Its queue moved to another ring meanwhile.
            if let Some(before) = ring_mut(&mut self.rings, live.ring()) {
                before.depth = before.depth.saturating_sub(1);
            }
            if let Some(now) = ring_mut(&mut self.rings, ring) {
                now.submitted();
            }
        }
        live.set_ring(ring);
        live.run_ns = event.at_ns;
        live.set(is::HANDED_OVER);
        live.ends_before = self.unmatched_ends as u32;
        if let Some(ring) = ring_mut(&mut self.rings, ring) {
            live.order = ring.hand_over(slot, event.at_ns);
            live.set(is::IN_ORDER);
        }
    }

    /// A job ended with this error number, or 0, where that is told.
    #[inline(always)]
    fn complete(&mut self, event: &Event, error: Option<i64>, ended: &mut impl FnMut(Ended<'_>)) {
        let Some(key) = event.key.as_ref().map(|key| self.whole(key)) else { return };
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
        let Some(live) = self.live.get(slot) else { return };
        let mut start = live.start();
        // A job that nobody saw begin has ended meanwhile, perhaps on this ring: it may be the one that this one waited for.
        let is_sure = live.ends_before == self.unmatched_ends as u32;
        if start.is_none()
            && is_sure
            && live.is(is::HANDED_OVER)
            && !live.is(is::BESIDE)
            && live.ring().and_then(|ring| self.rings.get(ring.0 as usize)).is_some_and(|ring| !ring.by_firmware)
        {
            // An end before the hand-over was that of an earlier job.
            let start_ns = last_done_ns.map_or(live.run_ns, |done| done.max(live.run_ns)).min(event.at_ns);
            start = Some((start_ns, ExecKind::Inferred));
        }
        ended(live.done(event.at_ns, start, error));
        self.live.free(slot);
    }

    /// A fence signalled with an error. If it is a job's of which the scheduler did not say that it is done, that job was killed before it
    /// ran.
    fn fence_error(&mut self, event: &Event, ended: &mut impl FnMut(Ended<'_>)) {
        if event.key.is_some_and(|key| self.live.find(&Key::of(&key)).is_some()) {
            self.complete(event, event.value, ended);
        }
    }

    /// Takes a job off its ring, and says when the job before it ended there.
    #[inline]
    fn leave(&mut self, slot: Slot, at_ns: u64, ended: &mut impl FnMut(Ended<'_>)) -> Option<u64> {
        let live = self.live.get(slot)?;
        let (of, order) = (live.ring()?, live.is(is::IN_ORDER).then_some(live.order));
        let (was_submitted, was_running) = (live.is(is::SUBMITTED), live.is(is::HANDED_OVER));
        let mut ring = self.rings.get_mut(of.0 as usize)?;
        ring.depth = ring.depth.saturating_sub(u64::from(was_submitted));
        if !was_running {
            return ring.last_done_ns;
        }
        if let Some(order) = order
            && !ring.end_first(order)
        {
            self.leave_among_others(slot, of, order, ended);
            ring = self.rings.get_mut(of.0 as usize)?;
        }
        ring.leave();
        ring.rest(at_ns);
        ring.last_done_ns.replace(at_ns)
    }

    /// The same, where others were handed over before and have not ended, or did so out of order.
    #[cold]
    fn leave_among_others(&mut self, slot: Slot, of: RingId, order: u64, ended: &mut impl FnMut(Ended<'_>)) {
        let Some(ring) = self.rings.get_mut(of.0 as usize) else { return };
        // Handed over before records were lost: its end was among them.
        let (lost, passed): (Vec<_>, Vec<_>) =
            ring.end(order).into_iter().partition(|(order, _)| ring.is_suspect(*order));
        if !passed.is_empty() {
            ring.counts.out_of_order = ring.counts.out_of_order.saturating_add(1);
        }
        for (_, other) in &passed {
            if let Some(other) = self.live.get_mut(*other) {
                other.set(is::BESIDE);
            }
        }
        if !passed.is_empty()
            && let Some(live) = self.live.get_mut(slot)
        {
            live.set(is::BESIDE);
        }
        for (_, gone) in lost {
            self.end_as_lost(gone, ended);
        }
        let Some(ring) = self.rings.get_mut(of.0 as usize) else { return };
        for stray in ring.tidy() {
            if let Some(other) = self.live.get_mut(stray) {
                other.leave_order();
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

#[cfg(test)]
use gpuscope_model::trace::{JobStatus, NameId};

#[cfg(test)]
mod families;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
