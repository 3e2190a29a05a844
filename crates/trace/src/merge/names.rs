//! Jobs of the DRM scheduler that two traces name in two ways, told by what both say of each of their events.
//!
//! On kernels before 6.17 our recordings by BPF name jobs by fences, the kernel's records by addresses, and its text by hashes of these.
//! Both recorders run in the same tracepoint: kind, processor and thread are the same, and the order is. So of the events of one row, of
//! which no two can be at once, those belong together that pair up best in their order ([`partner`]). What was paired once tells the
//! names of a job ([`Jobs`]), so that events that one trace alone has are told with the name that the job's others have.

use gpuscope_model::trace::{Event, EventKind, Family, JobKey};
use rustc_hash::FxHashMap;

/// How far the records of one event lie apart at most: what is held up between two recorders on the same processor comes later by this.
const PAIR_NS: u64 = 10_000_000;

/// How far apart they are taken to lie before it is known, and what is not too far in any case.
const UNKNOWN_NS: u64 = 1_000_000;
const NEAR_NS: u64 = 50_000;

/// Jobs whose names are kept: those that do not end in any trace are forgotten when there are more.
const MOST_JOBS: usize = 1 << 17;

/// Events of a row that are looked at to find the first one's partner.
pub(super) const MOST_IN_ROW: usize = 32;

/// How an event of the DRM scheduler names its job, from the best way to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Naming {
    /// By its fence.
    Fence,
    /// By an address of the kernel.
    Address,
    /// By what text has in the place of an address.
    Hash,
}

impl Naming {
    /// All ways, the best first.
    pub const ALL: [Naming; 3] = [Naming::Fence, Naming::Address, Naming::Hash];

    /// That of an event. None where it names no job, or is not the scheduler's.
    pub fn of(event: &Event, is_text: bool) -> Option<Naming> {
        match event.key.filter(|_| event.family == Family::DrmSched)? {
            JobKey::Fence { .. } => Some(Naming::Fence),
            JobKey::Address(_) if is_text => Some(Naming::Hash),
            JobKey::Address(_) => Some(Naming::Address),
            JobKey::FenceLow { .. } | JobKey::InRing { .. } => None,
        }
    }
}

/// An event, as far as it decides which other one is the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct InRow {
    pub(super) number: u64,
    pub(super) at_ns: u64,
    pub(super) told_by: u64,
    /// What it calls its job, and what that is called where it is known already.
    pub(super) key: JobKey,
    pub(super) job: Option<JobKey>,
}

/// How much later than the better names the worse ones come: both recorders run in one tracepoint, always in the same order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delay {
    /// Nanoseconds, and by how much it is more or less.
    pub(super) middle_ns: i64,
    apart_ns: u64,
    pairs: u64,
}

impl Delay {
    /// Takes a pair that is certain.
    pub(super) fn learn(&mut self, delay_ns: i64) {
        let off = delay_ns.saturating_sub(self.middle_ns);
        if self.pairs == 0 {
            (self.middle_ns, self.apart_ns) = (delay_ns, delay_ns.unsigned_abs() / 2);
        } else if off.unsigned_abs() <= self.near_ns() {
            self.middle_ns = self.middle_ns.saturating_add(off / 8);
            self.apart_ns = (self.apart_ns.saturating_mul(7).saturating_add(off.unsigned_abs())) / 8;
        }
        self.pairs = self.pairs.saturating_add(1);
    }

    /// What lies further apart belongs together only if nothing nearer does.
    pub(super) fn near_ns(&self) -> u64 {
        if self.pairs < 4 { UNKNOWN_NS } else { self.apart_ns.saturating_mul(8).clamp(NEAR_NS, PAIR_NS) }
    }
}

impl InRow {
    /// How much speaks for it that both are one event; and whether it is certain.
    fn gain(&self, other: &InRow, near_ns: u64) -> Option<u64> {
        /// More than all that could be near.
        const CERTAIN: u64 = PAIR_NS * MOST_IN_ROW as u64;
        let name = |of: &InRow| of.job.unwrap_or(of.key);
        let is_known = |of: &InRow| name(of) != of.key;
        let apart_ns = self.at_ns.abs_diff(other.at_ns);
        if self.told_by & other.told_by != 0 {
            return None;
        }
        if name(self) == name(other) {
            return Some(CERTAIN.saturating_sub(apart_ns.min(PAIR_NS)));
        }
        // One that has another name in the other trace has that one alone.
        if is_known(self) || is_known(other) || apart_ns > PAIR_NS {
            return None;
        }
        // What is far is taken where nothing else is there, and never moves what is near.
        let far = near_ns.saturating_mul(PAIR_NS.saturating_sub(apart_ns)) / PAIR_NS / 64;
        Some(near_ns.saturating_sub(apart_ns).saturating_add(far).saturating_add(1))
    }
}

/// Which of the others is the same event as the first of `own`: both rows keep their order, and of all ways to pair them up that one is
/// taken in which most of them have a partner that is near. Times are without the recorders' delay.
pub(super) fn partner(own: &[InRow], others: &[InRow], near_ns: u64) -> Option<usize> {
    let (first, rest) = own.split_first()?;
    // What can be gained with what is left of `others` from each place on.
    let mut best = vec![0_u64; others.len().saturating_add(1)];
    let mut next = best.clone();
    let of = |best: &[u64], at: usize| best.get(at).copied().unwrap_or(0);
    for own in rest.iter().rev() {
        for (at, other) in others.iter().enumerate().rev() {
            let skipped = of(&best, at).max(of(&next, at.saturating_add(1)));
            let gain = own.gain(other, near_ns);
            let here = gain.map_or(0, |gain| gain.saturating_add(of(&best, at.saturating_add(1))));
            if let Some(place) = next.get_mut(at) {
                *place = here.max(skipped);
            }
        }
        std::mem::swap(&mut best, &mut next);
    }
    let ways = others.iter().enumerate().filter_map(|(at, other)| {
        let gain = first.gain(other, near_ns)?;
        Some((gain.saturating_add(of(&best, at.saturating_add(1))), at))
    });
    let (found, at) = ways.max_by_key(|(found, at)| (*found, std::cmp::Reverse(*at)))?;
    (found > of(&best, 0)).then_some(at)
}

/// Whether the first of `own` and this one are surely a pair: the same job, or nothing else is anywhere near.
pub(super) fn is_certain(own: &[InRow], others: &[InRow], at: usize, before_ns: Option<u64>) -> bool {
    let (Some(first), Some(found)) = (own.first(), others.get(at)) else { return false };
    if first.job.is_some() && first.job == found.job {
        return true;
    }
    let apart_ns = first.at_ns.abs_diff(found.at_ns);
    let next = own.get(1).into_iter().chain(others.get(at.saturating_add(1))).map(|of| of.at_ns).min();
    let is_far = |of: u64| of.abs_diff(first.at_ns).min(of.abs_diff(found.at_ns)) >= apart_ns.saturating_mul(4);
    at == 0 && apart_ns <= UNKNOWN_NS && next.is_none_or(is_far) && before_ns.is_none_or(is_far)
}

/// The names of jobs that have more than one, from the first of their events to the last.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// The name that is used. It stands there for itself as long as the job lives.
    of: FxHashMap<JobKey, JobKey>,
}

impl Jobs {
    /// The name of a job. None for one of which nothing came yet.
    pub(super) fn name(&self, key: JobKey) -> Option<JobKey> {
        let name = self.of.get(&key)?;
        (self.of.get(name) == Some(name)).then_some(*name)
    }

    /// An address that is submitted is another job's from now on.
    pub(super) fn begin(&mut self, event: &Event) {
        if let (EventKind::Submit | EventKind::SubmitCommit, Some(key @ JobKey::Address(_))) = (event.kind, event.key) {
            self.of.remove(&key);
        }
    }

    /// Two names turned out to be one job's. What was told of it already keeps its name.
    pub(super) fn same(&mut self, better: JobKey, worse: JobKey) {
        self.make_room();
        let name = self.name(better).or_else(|| self.name(worse)).unwrap_or(better);
        for key in [name, better, worse] {
            self.of.insert(key, name);
        }
    }

    /// Gives an event its job's name. Whether that is another one than it had.
    pub(super) fn give(&mut self, event: &mut Event) -> bool {
        event.other = event.other.map(|other| self.name(other).unwrap_or(other));
        let Some(key) = event.key else { return false };
        let known = self.name(key);
        let name = known.unwrap_or(key);
        event.key = Some(name);
        match event.kind {
            EventKind::Complete | EventKind::Retired => {
                self.of.remove(&name);
            }
            EventKind::Error => {}
            _ if known.is_none() => {
                self.make_room();
                self.of.insert(key, key);
            }
            _ => {}
        }
        name != key
    }

    fn make_room(&mut self) {
        if self.of.len() >= MOST_JOBS {
            self.of.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(times: &[u64], told_by: u64) -> Vec<InRow> {
        let of =
            |at_ns: u64| InRow { number: 0, at_ns, told_by, key: JobKey::Address(at_ns << 8 | told_by), job: None };
        times.iter().copied().map(of).collect()
    }

    /// The partners of all of `own`, each found as the first of what is left.
    fn partners(own: &[u64], others: &[u64]) -> Vec<Option<u64>> {
        let (own, mut others) = (row(own, 1), row(others, 2));
        let mut found = Vec::new();
        for at in 0..own.len() {
            let at = partner(&own[at..], &others, UNKNOWN_NS);
            found.push(at.map(|at| others[at].at_ns));
            if let Some(at) = at {
                others.drain(..=at);
            }
        }
        found
    }

    #[test]
    fn events_pair_up_in_their_order_also_where_the_next_one_is_nearer() {
        // The second recorder comes later by more than half of the time between two events.
        assert_eq!(partners(&[0, 250, 500, 750], &[150, 400, 650, 900]), [Some(150), Some(400), Some(650), Some(900)]);
        // Of some, either of them has none: the nearest are taken.
        assert_eq!(partners(&[0, 250, 500, 750], &[501]), [None, None, Some(501), None]);
        assert_eq!(partners(&[500], &[0, 249, 499, 752]), [Some(499)]);
        assert_eq!(partners(&[0, 500, 1_000], &[10, 1_010]), [Some(10), None, Some(1_010)]);
        // What the last one could have beside is no reason to move all others.
        let own: Vec<u64> = (0..20).map(|n| n * 250_000).collect();
        let others: Vec<u64> = (3..21).map(|n| n * 250_000 + 10_000).collect();
        let expected = own.iter().map(|at| Some(at + 10_000).filter(|of| others.contains(of))).collect::<Vec<_>>();
        assert_eq!(partners(&own, &others), expected);
        // Far, but the only one; and too far.
        assert_eq!(partners(&[0, 30_000_000], &[PAIR_NS, 30_000_001]), [Some(PAIR_NS), Some(30_000_001)]);
        assert_eq!(partners(&[0], &[PAIR_NS + 1]), [None]);
        assert_eq!(partners(&[], &[1]), []);
    }

    #[test]
    fn known_names_decide_and_a_trace_has_no_partner_in_itself() {
        let (job, other) = (JobKey::Fence { context: 1, seqno: 1 }, JobKey::Fence { context: 1, seqno: 2 });
        let (own, mut others) = (row(&[100], 1), row(&[101, 50 * PAIR_NS], 2));
        let own = [InRow { job: Some(job), ..own[0] }];
        (others[0].key, others[1].key) = (other, job);
        assert_eq!(partner(&own, &others, UNKNOWN_NS), Some(1));
        assert_eq!(partner(&own, &others[..1], UNKNOWN_NS), None);
        assert_eq!(partner(&row(&[100], 1), &row(&[101], 3), UNKNOWN_NS), None);
    }

    #[test]
    fn the_delay_is_learnt_of_what_is_certain() {
        let mut delay = Delay::default();
        assert_eq!(delay.near_ns(), UNKNOWN_NS);
        for n in 0..40 {
            delay.learn(1_500 + n % 3 * 100);
            delay.learn(5_000_000);
        }
        assert!((1_500..1_700).contains(&delay.middle_ns) && delay.near_ns() == NEAR_NS, "{delay:?}");
        let certain = |own: &[u64], others: &[u64], before| is_certain(&row(own, 1), &row(others, 2), 0, before);
        assert!(certain(&[1_000, 1_500], &[1_100], None) && certain(&[1_000], &[1_100, 1_500], Some(600)));
        assert!(!certain(&[1_000, 1_400], &[1_100], None) && !certain(&[1_000], &[1_100], Some(601)));
        assert!(!certain(&[0], &[UNKNOWN_NS + 1], None));
    }

    #[test]
    fn a_job_keeps_the_name_under_which_it_was_told_first() {
        let (fence, address) = (JobKey::Fence { context: 1, seqno: 1 }, JobKey::Address(64));
        let event = |kind, key| Event {
            at_ns: 0,
            kind,
            family: Family::DrmSched,
            cpu: 0,
            tid: 0,
            pid: 0,
            comm: gpuscope_model::trace::NameId::default(),
            ring: None,
            key: Some(key),
            other: None,
            client: None,
            value: None,
        };
        let mut jobs = Jobs::default();
        let give = |jobs: &mut Jobs, kind, key| {
            let mut event = event(kind, key);
            jobs.begin(&event);
            let is_changed = jobs.give(&mut event);
            (event.key.unwrap(), is_changed)
        };
        // Submitted before the trace began that knows the fence.
        assert_eq!(give(&mut jobs, EventKind::Submit, address), (address, false));
        jobs.same(fence, address);
        assert_eq!(give(&mut jobs, EventKind::Complete, fence), (address, true));
        // The address is another job's then, and a fence never is.
        jobs.begin(&event(EventKind::Submit, address));
        let next = JobKey::Fence { context: 1, seqno: 2 };
        jobs.same(next, address);
        assert_eq!(give(&mut jobs, EventKind::Commit, next), (next, false));
        assert_eq!(give(&mut jobs, EventKind::Complete, address), (next, true));
        assert_eq!(give(&mut jobs, EventKind::Commit, address), (address, false));
    }

    #[test]
    fn names_are_bounded() {
        let mut jobs = Jobs::default();
        for n in 0..MOST_JOBS as u64 {
            jobs.same(JobKey::Fence { context: 1, seqno: n }, JobKey::Address(n));
        }
        assert!(jobs.of.len() <= MOST_JOBS + 2, "{}", jobs.of.len());
    }
}
