//! What two clocks are apart, by the events that stand in two traces.

use super::unique::{doubt, spread};
use gpuscope_model::trace::{Event, EventKind, Family, JobKey, TraceNames};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher as _;

/// Times of landmarks that are kept of a trace. Of a longer one, those whose hashes are small: the same ones of every trace.
const MOST: usize = 1 << 16;

/// The same of all traces that are merged at once.
const MOST_OF_ALL: usize = 1 << 18;

/// Times that are kept of one landmark: addresses of jobs are given out again.
const MOST_TIMES: usize = 32;

/// Pairs of times that are looked at where it is not certain which belong together.
const MOST_PAIRS: usize = 1 << 20;

/// Bits of a job's number that do not decide whether it is kept: of those that follow each other all are, or none.
const BLOCK_BITS: u32 = 6;

/// Fewer common jobs than that say nothing.
const LEAST: usize = 8;

/// How far apart the offsets may be that events say, but for the tenth at either end. An emulated processor is held up between two
/// recorders for this long, and clocks drift apart by so much in some minutes; events of unrelated runs lie anywhere.
const APART_NS: u64 = 50_000_000;

/// The same where it is not certain which time belongs to which: there, few lie this close by chance.
const CLOSE_NS: u64 = 1_000_000;

/// By how much offsets may differ in any case.
const LEAST_APART_NS: u64 = 20_000;

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

    /// All kinds of a job, and jobs that follow each other, are kept together: whether they come at regular times is seen by these alone.
    fn is_kept(&self, thinned: u32) -> bool {
        let block = match self.key {
            Key::Fence(context, seqno) => Key::Fence(context, seqno >> BLOCK_BITS),
            Key::FenceLow(context, seqno) => Key::FenceLow(context, seqno >> BLOCK_BITS),
            Key::InRing(ring, number) => Key::InRing(ring, number >> BLOCK_BITS),
            Key::Address(..) => self.key,
        };
        // The upper bits of a product depend on all of its factors.
        let hash = FxBuildHasher.hash_one((self.family, block)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash.leading_zeros() >= thinned
    }

    /// A number for its kind, and one for those among which another one of that kind may be taken for it.
    fn lane(&self) -> (u64, u64) {
        let kind = FxBuildHasher.hash_one((self.family, self.kind));
        let of = match self.key {
            Key::Fence(context, _) => (0_u8, context),
            Key::FenceLow(context, _) => (1, context.into()),
            Key::InRing(ring, _) => (2, ring),
            Key::Address(..) => (3, 0),
        };
        (kind, FxBuildHasher.hash_one((kind, of)))
    }
}

/// When things happened that other traces may tell of, too.
#[derive(Clone, Debug)]
pub struct Landmarks {
    times: FxHashMap<Mark, Vec<u64>>,
    /// How many times there are, and may be.
    count: usize,
    most: usize,
    /// Kept are those whose hash begins with so many zeros.
    thinned: u32,
}

impl Default for Landmarks {
    fn default() -> Landmarks {
        Landmarks::new()
    }
}

/// Two times that seem to be of one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) own: u64,
    pub(super) other: u64,
    /// Those among which another event may be taken for it have the same number.
    pub(super) lane: u64,
    pub(super) kind: u64,
}

impl Pair {
    /// What is to be added to the own time to have the other.
    pub(super) fn apart(&self) -> i64 {
        self.other.wrapping_sub(self.own).cast_signed()
    }
}

/// Why what events say is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There are too few common jobs.
    Few,
    /// Of all, too few agree.
    Disagree,
    /// They agree, but not nearly enough.
    Apart {
        /// What the offsets that they say differ by.
        apart_ns: u64,
    },
    /// All lie in a time that is hardly longer than what they differ by.
    Short {
        /// That time.
        length_ns: u64,
        /// What the offsets that they say differ by.
        apart_ns: u64,
    },
    /// Another offset explains more than half of them as well.
    Other {
        /// That one.
        offset_ns: i64,
        /// Events that meet one of their kind then.
        events: u64,
    },
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
    /// Why not to believe it. None where it is the only one that explains the times of enough jobs.
    pub doubt: Option<Doubt>,
}

impl Agreement {
    /// Whether it is to be believed.
    pub fn is_sure(&self) -> bool {
        self.doubt.is_none()
    }

    /// The same with regard to a clock to which this much is to be added.
    #[must_use]
    pub fn moved(self, by_ns: i64) -> Agreement {
        let doubt = self.doubt.map(|doubt| match doubt {
            Doubt::Other { offset_ns, events } => Doubt::Other { offset_ns: offset_ns.saturating_add(by_ns), events },
            other => other,
        });
        Agreement { offset_ns: self.offset_ns.saturating_add(by_ns), doubt, ..self }
    }
}

impl Landmarks {
    /// None yet.
    pub fn new() -> Landmarks {
        Landmarks::of_one_in(1)
    }

    /// The same for one of so many traces that are merged: all together have a bound.
    pub fn of_one_in(traces: usize) -> Landmarks {
        let most = MOST.min(MOST_OF_ALL.checked_div(traces).unwrap_or(MOST));
        Landmarks { times: FxHashMap::default(), count: 0, most, thinned: 0 }
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
            self.count = self.count.saturating_add(1);
        }
        while self.count > self.most {
            self.thinned = self.thinned.saturating_add(1);
            let thinned = self.thinned;
            self.times.retain(|mark, _| mark.is_kept(thinned));
            self.count = self.times.values().map(Vec::len).sum();
        }
    }

    /// What is to be added to the times of this trace to have those of `to`. None where they have nothing in common.
    pub fn offset_to(&self, to: &Landmarks) -> Option<Agreement> {
        let common = |thinned: u32| {
            let kept = self.times.iter().filter(move |(mark, _)| mark.is_kept(thinned));
            kept.filter_map(|(mark, own)| Some((mark, own, to.times.get(mark)?)))
        };
        let mut thinned = self.thinned.max(to.thinned);
        let pairs = |thinned| common(thinned).map(|(_, own, others)| own.len().saturating_mul(others.len())).sum();
        while MOST_PAIRS < pairs(thinned) {
            thinned = thinned.saturating_add(1);
        }
        let (mut single, mut any, mut compared) = (Vec::new(), Vec::new(), 0_usize);
        for (mark, own, others) in common(thinned) {
            compared = compared.saturating_add(own.len().min(others.len()));
            let (kind, lane) = mark.lane();
            let pair = |own: u64, other: u64| Pair { own, other, lane, kind };
            if let ([own], [other]) = (own.as_slice(), others.as_slice())
                && !matches!(mark.key, Key::Address(..))
            {
                single.push(pair(*own, *other));
            }
            any.extend(own.iter().flat_map(|own| others.iter().map(move |other| pair(*own, *other))));
        }
        any.sort_unstable_by_key(Pair::apart);
        single.sort_unstable_by_key(Pair::apart);
        match single.len() >= LEAST {
            true => by_middle(&single),
            false => by_crowd(&any, compared),
        }
    }
}

/// Of differences that are certain: nearly all must agree.
fn by_middle(sorted: &[Pair]) -> Option<Agreement> {
    let offset_ns = sorted.get(sorted.len() / 2)?.apart();
    let apart: Vec<i64> = sorted.iter().map(Pair::apart).collect();
    let apart_ns = spread(&apart);
    let within_ns = apart_ns.saturating_mul(2).clamp(LEAST_APART_NS, APART_NS);
    let agreeing: Vec<Pair> = sorted.iter().copied().filter(|of| of.apart().abs_diff(offset_ns) <= within_ns).collect();
    let doubt = if agreeing.len().saturating_mul(10) < sorted.len().saturating_mul(9) {
        Some(Doubt::Disagree)
    } else {
        (apart_ns > APART_NS).then_some(Doubt::Apart { apart_ns })
    };
    Some(agreement(offset_ns, agreeing, sorted.len(), doubt))
}

/// Of differences between all that may belong together: the true one is where most of them are.
fn by_crowd(sorted: &[Pair], compared: usize) -> Option<Agreement> {
    let apart = |at: usize| sorted.get(at).map(Pair::apart);
    // The longest run of differences that begins at each and is no wider than CLOSE_NS.
    let mut runs = Vec::with_capacity(sorted.len());
    let mut end = 0;
    for (begin, first) in sorted.iter().enumerate() {
        while apart(end).is_some_and(|of| of.abs_diff(first.apart()) <= CLOSE_NS) {
            end += 1;
        }
        runs.push((end.saturating_sub(begin), begin));
    }
    let &(count, begin) = runs.iter().max_by_key(|(count, begin)| (*count, std::cmp::Reverse(*begin)))?;
    let crowd = sorted.get(begin..begin.saturating_add(count))?;
    let (first, last) = (crowd.first()?.apart(), crowd.last()?.apart());
    let is_beside = |at: &usize| {
        apart(*at).is_some_and(|of| {
            of > last.saturating_add_unsigned(CLOSE_NS) || of < first.saturating_sub_unsigned(2 * CLOSE_NS)
        })
    };
    let second = runs.iter().filter(|(_, at)| is_beside(at)).max_by_key(|(count, _)| *count);
    let doubt = match second.and_then(|(events, at)| Some((*events, apart(*at)?))) {
        _ if count.saturating_mul(2) < compared => Some(Doubt::Disagree),
        Some((events, offset_ns)) if events.saturating_mul(2) > count => {
            Some(Doubt::Other { offset_ns, events: events as u64 })
        }
        _ => None,
    };
    Some(agreement(crowd.get(count / 2)?.apart(), crowd.to_vec(), compared, doubt))
}

fn agreement(offset_ns: i64, mut pairs: Vec<Pair>, compared: usize, why: Option<Doubt>) -> Agreement {
    let apart: Vec<i64> = pairs.iter().map(Pair::apart).collect();
    let mut kinds: FxHashMap<u64, usize> = FxHashMap::default();
    for pair in &pairs {
        let count = kinds.entry(pair.kind).or_default();
        *count = count.saturating_add(1);
    }
    // Each job has one event of a kind.
    let jobs = kinds.values().copied().max().unwrap_or(0);
    pairs.sort_unstable_by_key(|pair| pair.own);
    let doubt = if jobs < LEAST { Some(Doubt::Few) } else { why.or_else(|| doubt(&pairs)) };
    Agreement { offset_ns, agreeing: pairs.len() as u64, compared: compared as u64, spread_ns: spread(&apart), doubt }
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
        assert_eq!((found.agreeing, found.compared, found.is_sure()), (90, 90, true));
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
        assert!(found.offset_ns.abs_diff(-3_600_000_000_000) < 20_000 && found.is_sure(), "{found:?}");
        assert_eq!((found.agreeing, found.compared), (180, 180));
    }

    #[test]
    fn nothing_is_guessed_from_few_events_or_from_other_runs() {
        let mut chance = chance();
        let events = jobs(40, FENCE, &mut chance);
        let a = of(&events, 0, 20_000, &mut chance);
        assert!(a.offset_to(&Landmarks::new()).is_none());
        let few = of(&events[..LEAST - 1], 0, 20_000, &mut chance).offset_to(&a).unwrap();
        assert_eq!((few.doubt, few.agreeing), (Some(Doubt::Few), LEAST as u64 - 1));
        // After another start of the machine contexts and seqnos are given out again.
        let mut later = jobs(40, FENCE, &mut chance);
        later.iter_mut().for_each(|event| event.at_ns += event.at_ns.wrapping_mul(31) % 40_000_000_000);
        let other = of(&later, 0, 20_000, &mut chance).offset_to(&a).unwrap();
        assert!(!other.is_sure(), "{other:?}");
        // The same address every two milliseconds: any multiple of that would do.
        let periodic: Vec<Event> =
            (0..30).map(|n| event(1_000_000_000 + n * 2_000_000, EventKind::Submit, JobKey::Address(64))).collect();
        let found = of(&periodic, 500, 1, &mut chance).offset_to(&of(&periodic, 0, 1, &mut chance)).unwrap();
        assert!(!found.is_sure(), "{found:?}");
    }

    #[test]
    fn regular_jobs_and_short_bursts_tell_nothing_though_they_have_fences() {
        let mut chance = chance();
        // A frame every sixteen milliseconds, in each of two runs, and the recorders differ by more than the frames do.
        let frames = |count: u64| -> Vec<Event> {
            let frame = |n: u64| (1_000_000_000 + n * 16_000_000, FENCE(n));
            let kinds = [(EventKind::Submit, 0), (EventKind::Commit, 40_000), (EventKind::Complete, 4_000_000)];
            let of = |(at_ns, key)| kinds.map(|(kind, later)| event(at_ns + later, kind, key));
            (0..count).map(frame).flat_map(of).collect()
        };
        let frames = frames(60);
        let (a, b) = (of(&frames, 0, 20_000, &mut chance), of(&frames, 5_000_000, 20_000, &mut chance));
        let found = b.offset_to(&a).unwrap();
        let Some(Doubt::Other { offset_ns, events }) = found.doubt else { panic!("{found:?}") };
        assert_eq!((offset_ns + 5_000_000).unsigned_abs().div_ceil(1_000_000) % 16, 0, "{found:?}");
        assert!(events > 150, "{found:?}");
        // Seen from a clock that is moved, the other offset is, too.
        let Some(Doubt::Other { offset_ns: moved, .. }) = found.moved(7).doubt else { panic!("{found:?}") };
        assert_eq!((moved, found.moved(7).offset_ns), (offset_ns + 7, found.offset_ns + 7));
        // Jobs of two runs, each in 300 us.
        let burst = |chance: &mut dyn FnMut(u64) -> u64| -> Vec<Event> {
            (0..12).map(|n| event(1_000_000_000 + n * 25_000 + chance(20_000), EventKind::Submit, FENCE(n))).collect()
        };
        let (here, there) = (burst(&mut chance), burst(&mut chance));
        let found = of(&here, 0, 1, &mut chance).offset_to(&of(&there, 0, 1, &mut chance)).unwrap();
        assert!(matches!(found.doubt, Some(Doubt::Short { .. } | Doubt::Other { .. })), "{found:?}");
        // What differs by a second is of no one run.
        let later: Vec<Event> =
            frames.iter().map(|of| Event { at_ns: of.at_ns + of.at_ns % 16_000_001 * 100, ..*of }).collect();
        let found = of(&later, 0, 1, &mut chance).offset_to(&a).unwrap();
        assert!(matches!(found.doubt, Some(Doubt::Disagree | Doubt::Apart { .. })), "{found:?}");
    }

    #[test]
    fn what_is_kept_of_all_traces_is_bounded_and_so_is_what_is_compared() {
        let mut chance = chance();
        let events = jobs(30_000, FENCE, &mut chance);
        let mut many = Landmarks::of_one_in(64);
        // Thirty-two addresses of one thread, each of a thousand jobs.
        let again = jobs(32_000, |n| JobKey::Address(n % 2_048), &mut chance);
        let mut addresses = Landmarks::new();
        for (at, event) in events.iter().enumerate() {
            many.event(event, &TraceNames::default());
            assert!(many.count <= MOST_OF_ALL / 64, "{} of {at}", many.count);
        }
        again.iter().for_each(|event| addresses.event(event, &TraceNames::default()));
        assert_eq!(many.count, many.times.values().map(Vec::len).sum::<usize>());
        assert!(addresses.count > MOST / 4 && addresses.count <= MOST, "{}", addresses.count);
        let pairs: usize = addresses.times.values().map(|of| of.len() * of.len()).sum();
        assert!(pairs > MOST_PAIRS / 2, "{pairs}");
        let found = addresses.offset_to(&addresses).unwrap();
        assert_eq!((found.offset_ns, found.doubt), (0, None), "{found:?}");
        let found = many.offset_to(&of(&events, 500, 1, &mut chance)).unwrap();
        assert!(found.is_sure() && found.offset_ns == 500 && found.compared > 500, "{found:?}");
    }

    #[test]
    fn long_traces_are_thinned_to_the_same_landmarks() {
        let mut chance = chance();
        let events = jobs(100_000, FENCE, &mut chance);
        let (long, short) = (of(&events, 0, 1_000, &mut chance), of(&events[..30_000], 77_000, 1_000, &mut chance));
        assert!(long.count <= MOST && long.count > MOST / 4 && long.thinned > 0);
        let found = short.offset_to(&long).unwrap();
        assert!(found.offset_ns.abs_diff(-77_000) < 1_000 && found.is_sure(), "{found:?}");
        assert!(found.compared > 1_000, "{found:?}");
    }
}
