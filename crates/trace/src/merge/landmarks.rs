//! What two clocks are apart, by the events that stand in two traces.

use gpuscope_model::trace::{Event, EventKind, Family, JobKey, TraceNames};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher as _;

/// Landmarks that are kept. Of a longer trace, those whose hashes are small: the same ones of every trace.
const MOST: usize = 1 << 16;

/// Times that are kept of one landmark: addresses of jobs are given out again.
const MOST_TIMES: usize = 32;

/// Fewer common events than that say nothing.
const LEAST: usize = 8;

/// How far an event may lie from where the middle of all says, to agree. An emulated processor is held up between two recorders for this
/// long, and clocks drift apart by so much in some minutes; events of unrelated runs lie anywhere.
const APART_NS: u64 = 50_000_000;

/// The same where it is not certain which time belongs to which: there, few lie this close by chance.
const CLOSE_NS: u64 = 1_000_000;

/// An event that happens once in the life of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark {
    family: Family,
    kind: EventKind,
    key: Key,
}

/// A job, by what does not depend on the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Fence(u64, u64),
    FenceLow(u32, u32),
    /// With the thread, which tells those apart that had the address one after the other.
    Address(u64, u32),
    /// The ring by the hash of its name.
    InRing(u64, u64),
}

impl Mark {
    fn of(event: &Event, names: &TraceNames) -> Option<Mark> {
        let is_once = matches!(
            event.kind,
            EventKind::Submit
                | EventKind::Commit
                | EventKind::SubmitCommit
                | EventKind::Complete
                | EventKind::FenceInit
                | EventKind::FenceSignaled
        );
        let key = match event.key.filter(|_| is_once)? {
            JobKey::Fence { context, seqno } => Key::Fence(context, seqno),
            JobKey::FenceLow { context, seqno } => Key::FenceLow(context, seqno),
            JobKey::Address(address) => Key::Address(address, event.tid),
            JobKey::InRing { ring, number } => {
                let name = names.get_ring(ring).map_or("", |ring| ring.name.as_str());
                Key::InRing(FxBuildHasher.hash_one(name), number)
            }
        };
        Some(Mark { family: event.family, kind: event.kind, key })
    }

    fn is_kept(&self, thinned: u32) -> bool {
        // The upper bits of a product depend on all of its factors.
        let hash = FxBuildHasher.hash_one(self).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash.leading_zeros() >= thinned
    }
}

/// When things happened that other traces may tell of, too.
#[derive(Clone, Debug, Default)]
pub struct Landmarks {
    times: FxHashMap<Mark, Vec<u64>>,
    /// Kept are those whose hash begins with so many zeros.
    thinned: u32,
}

/// What is to be added to the times of one trace to have those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Nanoseconds.
    pub offset_ns: i64,
    /// Common events that say so.
    pub agreeing: u64,
    /// Common events that were compared: of a long trace, some of all.
    pub compared: u64,
    /// How far apart the offsets are that they give, but for the tenth at either end.
    pub spread_ns: u64,
    /// Whether they are enough, and enough of them agree, to believe it.
    pub is_sure: bool,
}

impl Landmarks {
    /// None yet.
    pub fn new() -> Landmarks {
        Landmarks::default()
    }

    /// Takes an event, whose names are these.
    pub fn event(&mut self, event: &Event, names: &TraceNames) {
        let Some(mark) = Mark::of(event, names) else { return };
        if !mark.is_kept(self.thinned) {
            return;
        }
        let times = self.times.entry(mark).or_default();
        if times.len() < MOST_TIMES {
            times.push(event.at_ns);
        }
        while self.times.len() > MOST {
            self.thinned = self.thinned.saturating_add(1);
            let thinned = self.thinned;
            self.times.retain(|mark, _| mark.is_kept(thinned));
        }
    }

    /// What is to be added to the times of this trace to have those of `to`. None where they have nothing in common.
    pub fn offset_to(&self, to: &Landmarks) -> Option<Agreement> {
        let (mut single, mut any, mut compared) = (Vec::new(), Vec::new(), 0_usize);
        for (mark, own) in self.times.iter().filter(|(mark, _)| mark.is_kept(to.thinned)) {
            let Some(other) = to.times.get(mark) else { continue };
            compared = compared.saturating_add(own.len().min(other.len()));
            if let ([own], [other]) = (own.as_slice(), other.as_slice())
                && !matches!(mark.key, Key::Address(..))
            {
                single.push(apart(*own, *other));
            }
            any.extend(own.iter().flat_map(|own| other.iter().map(|other| apart(*own, *other))));
        }
        any.sort_unstable();
        single.sort_unstable();
        match single.len() >= LEAST {
            true => by_middle(&single),
            false => by_crowd(&any, compared),
        }
    }
}

/// What is to be added to the first to have the second.
fn apart(own: u64, other: u64) -> i64 {
    other.wrapping_sub(own).cast_signed()
}

/// Of differences that are certain: nearly all must agree.
fn by_middle(sorted: &[i64]) -> Option<Agreement> {
    let offset_ns = *sorted.get(sorted.len() / 2)?;
    let agreeing: Vec<i64> = sorted.iter().copied().filter(|of| of.abs_diff(offset_ns) <= APART_NS).collect();
    let is_sure = agreeing.len() >= LEAST && agreeing.len().saturating_mul(10) >= sorted.len().saturating_mul(9);
    Some(agreement(offset_ns, &agreeing, sorted.len(), is_sure))
}

/// Of differences between all that may belong together: the true one is where most of them are.
fn by_crowd(sorted: &[i64], compared: usize) -> Option<Agreement> {
    // The longest run of differences that begins at each and is no wider than CLOSE_NS.
    let mut runs = Vec::with_capacity(sorted.len());
    let mut end = 0;
    for (begin, first) in sorted.iter().enumerate() {
        while sorted.get(end).is_some_and(|of| of.abs_diff(*first) <= CLOSE_NS) {
            end += 1;
        }
        runs.push((end.saturating_sub(begin), begin));
    }
    let &(count, begin) = runs.iter().max_by_key(|(count, begin)| (*count, std::cmp::Reverse(*begin)))?;
    let crowd = sorted.get(begin..begin.saturating_add(count))?;
    let (first, last) = (*crowd.first()?, *crowd.last()?);
    let is_beside = |at: &usize| {
        sorted.get(*at).is_some_and(|of| {
            *of > last.saturating_add_unsigned(CLOSE_NS) || *of < first.saturating_sub_unsigned(2 * CLOSE_NS)
        })
    };
    let second = runs.iter().filter(|(_, at)| is_beside(at)).map(|(count, _)| *count).max().unwrap_or(0);
    let is_sure = count >= LEAST && count.saturating_mul(2) >= compared && count >= second.saturating_mul(2);
    Some(agreement(*crowd.get(count / 2)?, crowd, compared, is_sure))
}

fn agreement(offset_ns: i64, sorted: &[i64], compared: usize, is_sure: bool) -> Agreement {
    let tenth = sorted.len() / 10;
    let at = |at: usize| sorted.get(at).copied().unwrap_or(offset_ns);
    let spread_ns = at(sorted.len().saturating_sub(1).saturating_sub(tenth)).abs_diff(at(tenth));
    Agreement { offset_ns, agreeing: sorted.len() as u64, compared: compared as u64, spread_ns, is_sure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::NameId;

    fn event(at_ns: u64, kind: EventKind, key: JobKey) -> Event {
        Event {
            at_ns,
            kind,
            family: Family::DrmSched,
            cpu: 0,
            tid: 5,
            pid: 0,
            comm: NameId::default(),
            ring: None,
            key: Some(key),
            other: None,
            client: None,
            value: None,
        }
    }

    fn chance() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |end| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        }
    }

    /// Landmarks of these events, moved, each late by less than a time.
    fn of(events: &[Event], moved_ns: i64, late_ns: u64, chance: &mut impl FnMut(u64) -> u64) -> Landmarks {
        let mut landmarks = Landmarks::new();
        for event in events {
            let at_ns = event.at_ns.checked_add_signed(moved_ns).unwrap() + chance(late_ns);
            landmarks.event(&Event { at_ns, ..*event }, &TraceNames::default());
        }
        landmarks
    }

    fn jobs(count: u64, key: impl Fn(u64) -> JobKey, chance: &mut impl FnMut(u64) -> u64) -> Vec<Event> {
        let mut at_ns = 10_000_000_000;
        let mut events = Vec::new();
        for n in 0..count {
            at_ns += chance(2_000_000);
            for kind in [EventKind::Submit, EventKind::Commit, EventKind::Complete] {
                at_ns += 1_000 + chance(300_000);
                events.push(event(at_ns, kind, key(n)));
            }
        }
        events
    }

    const FENCE: fn(u64) -> JobKey = |n| JobKey::Fence { context: 7, seqno: n };

    #[test]
    fn fences_tell_the_offset_and_how_many_say_so() {
        let mut chance = chance();
        let events = jobs(40, FENCE, &mut chance);
        let (a, b) = (of(&events, 0, 20_000, &mut chance), of(&events[30..], -5_000_000, 20_000, &mut chance));
        let found = b.offset_to(&a).unwrap();
        assert!(found.offset_ns.abs_diff(5_000_000) < 20_000, "{found:?}");
        assert_eq!((found.agreeing, found.compared, found.is_sure), (90, 90, true));
        assert!(found.spread_ns < 40_000, "{found:?}");
        let back = a.offset_to(&b).unwrap();
        // The middle of an even number of them is one of two.
        assert!(back.offset_ns.abs_diff(-found.offset_ns) < 2_000, "{back:?} {found:?}");
    }

    #[test]
    fn addresses_that_are_given_out_again_tell_it_too() {
        let mut chance = chance();
        // Five addresses, each of a dozen jobs.
        let events = jobs(60, |n| JobKey::Address(0xffff_8881_0000_0000 + n % 5 * 256), &mut chance);
        let (a, b) = (of(&events, 0, 20_000, &mut chance), of(&events, 3_600_000_000_000, 20_000, &mut chance));
        let found = b.offset_to(&a).unwrap();
        assert!(found.offset_ns.abs_diff(-3_600_000_000_000) < 20_000 && found.is_sure, "{found:?}");
        assert_eq!((found.agreeing, found.compared), (180, 180));
    }

    #[test]
    fn nothing_is_guessed_from_few_events_or_from_other_runs() {
        let mut chance = chance();
        let events = jobs(40, FENCE, &mut chance);
        let a = of(&events, 0, 20_000, &mut chance);
        assert!(a.offset_to(&Landmarks::new()).is_none());
        let few = of(&events[..LEAST - 1], 0, 20_000, &mut chance).offset_to(&a).unwrap();
        assert_eq!((few.is_sure, few.agreeing), (false, LEAST as u64 - 1));
        // After another start of the machine contexts and seqnos are given out again.
        let mut later = jobs(40, FENCE, &mut chance);
        later.iter_mut().for_each(|event| event.at_ns += event.at_ns.wrapping_mul(31) % 40_000_000_000);
        let other = of(&later, 0, 20_000, &mut chance).offset_to(&a).unwrap();
        assert!(!other.is_sure, "{other:?}");
        // The same address every two milliseconds: any multiple of that would do.
        let periodic: Vec<Event> =
            (0..30).map(|n| event(1_000_000_000 + n * 2_000_000, EventKind::Submit, JobKey::Address(64))).collect();
        let found = of(&periodic, 500, 1, &mut chance).offset_to(&of(&periodic, 0, 1, &mut chance)).unwrap();
        assert!(!found.is_sure, "{found:?}");
    }

    #[test]
    fn long_traces_are_thinned_to_the_same_landmarks() {
        let mut chance = chance();
        let events = jobs(100_000, FENCE, &mut chance);
        let (long, short) = (of(&events, 0, 1_000, &mut chance), of(&events[..30_000], 77_000, 1_000, &mut chance));
        assert!(long.times.len() <= MOST && long.times.len() > MOST / 4 && long.thinned > 0 && short.thinned == 0);
        let found = short.offset_to(&long).unwrap();
        assert!(found.offset_ns.abs_diff(-77_000) < 1_000 && found.is_sure, "{found:?}");
        assert!(found.compared > 1_000, "{found:?}");
    }
}
