//! Events of several traces in order of time, those that stand in several told once.

use super::names::{Delay, InRow, Jobs, MOST_IN_ROW, Naming, is_certain, partner};
use gpuscope_model::trace::{Event, EventKind, JobKey, NameId};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Traces that can be merged: each has a bit in a word.
pub const MOST_TRACES: usize = 64;

/// How long an event is held back for the same one in another trace, which comes later by the time between two recorders and by what the
/// clocks are apart all the same.
const HOLD_NS: u64 = 500_000_000;

/// The same of a job that is named by an address, which another job has after it.
const ADDRESS_NS: u64 = 250_000_000;

/// The same of what happens again and again, and where nothing tells one time from another.
const AGAIN_NS: u64 = 5_000_000;

/// Events that are held back at most: the eldest are given early then.
const MOST_HELD: usize = 400_000;

/// Of events alike within their time, how many are looked at.
const MOST_ALIKE: usize = 64;

/// What tells an event from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Same {
    family: gpuscope_model::trace::Family,
    kind: EventKind,
    key: Option<JobKey>,
    /// What else, where the key is not enough.
    else_: Option<Else>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Else {
    cpu: u16,
    tid: u32,
    other: Option<JobKey>,
    /// Of events without a key alone: tools tell more or less of those with one.
    value: Option<i64>,
}

impl Same {
    /// What it is, and how long another one may be the same.
    fn of(event: &Event) -> (Same, u64) {
        let is_once = matches!(
            event.kind,
            EventKind::Submit
                | EventKind::Commit
                | EventKind::SubmitCommit
                | EventKind::Start
                | EventKind::End
                | EventKind::Complete
                | EventKind::Retired
                | EventKind::FenceInit
                | EventKind::FenceSignaled
        );
        let within_ns = match event.key {
            Some(JobKey::Address(_)) if is_once => ADDRESS_NS,
            Some(_) if is_once => HOLD_NS,
            _ => AGAIN_NS,
        };
        let else_ = (within_ns != HOLD_NS).then_some(Else {
            cpu: event.cpu,
            tid: event.tid,
            other: event.other,
            value: event.value.filter(|_| event.key.is_none()),
        });
        (Same { family: event.family, kind: event.kind, key: event.key, else_ }, within_ns)
    }
}

#[derive(Debug)]
struct Held {
    event: Event,
    trace: usize,
    /// The traces that tell of it, a bit each.
    told_by: u64,
    same: Same,
    /// The number of the one before that is alike.
    before: Option<u64>,
    /// Where the same events of traces that name jobs in another way are.
    row: Option<(Row, Naming)>,
    /// Another one tells the same better.
    is_out: bool,
}

/// What the events have in common of which no two can be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    machine: usize,
    kind: EventKind,
    cpu: u16,
    tid: u32,
}

/// Events of a row that are held, by number, and when the last was that was given.
#[derive(Debug, Default)]
struct InOneRow {
    numbers: VecDeque<u64>,
    last_ns: Option<u64>,
}

/// Which machine a trace is of, and how it names jobs that others name by fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Number of the machine.
    pub machine: usize,
    /// The best way in which any trace of that machine names them.
    pub best: Naming,
    /// Whether it is text, which may have hashes in the place of addresses.
    pub is_text: bool,
}

/// What became of a trace's events whose jobs another trace names better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherNames {
    /// Left out, because that one tells the same event.
    pub left_out: u64,
    /// Kept, because none does.
    pub kept: u64,
    /// Of these, told with the name that others have for the job.
    pub renamed: u64,
}

/// Holds events back until no other trace can tell of them any more.
///
/// Of an event that several traces tell of, what the trace named first says is kept; what is absent there is taken from the others.
#[derive(Debug)]
pub struct Window {
    /// By number, from `first` on.
    held: VecDeque<Held>,
    first: u64,
    last_alike: FxHashMap<Same, u64>,
    told_twice: Vec<u64>,
    /// Of each trace, where they name jobs in several ways.
    telling: Vec<Telling>,
    rows: FxHashMap<Row, InOneRow>,
    /// Of each two ways to name jobs.
    delays: [Delay; 3],
    jobs: Jobs,
    other_names: Vec<OtherNames>,
}

impl Window {
    /// For so many traces, of which an earlier one is believed before a later one.
    pub fn new(traces: usize) -> Window {
        let traces = traces.min(MOST_TRACES);
        Window {
            held: VecDeque::new(),
            first: 0,
            last_alike: FxHashMap::default(),
            told_twice: vec![0; traces],
            telling: Vec::new(),
            rows: FxHashMap::default(),
            delays: <[Delay; 3]>::default(),
            jobs: Jobs::default(),
            other_names: vec![OtherNames::default(); traces],
        }
    }

    /// The same for traces that name the scheduler's jobs in several ways: what two tell of one event is told once, by the better name.
    pub fn with_other_names(traces: Vec<Telling>) -> Window {
        Window { telling: traces.clone(), ..Window::new(traces.len()) }
    }

    /// Takes an event of a trace, no earlier than those before, and gives those that need not wait any longer, with their traces.
    pub fn put(&mut self, trace: usize, event: Event, mut each: impl FnMut(usize, &Event)) {
        let now_ns = event.at_ns;
        let is_old = |of: &Held| of.event.at_ns.saturating_add(HOLD_NS) < now_ns;
        while self.held.len() > MOST_HELD || self.held.front().is_some_and(is_old) {
            self.give(&mut each);
        }
        let (same, within_ns) = Same::of(&event);
        let bit = 1_u64.checked_shl(u32::try_from(trace).unwrap_or(u32::MAX)).unwrap_or(0);
        let row = self.telling.get(trace).and_then(|telling| {
            let row = Row { machine: telling.machine, kind: event.kind, cpu: event.cpu, tid: event.tid };
            Some((row, Naming::of(&event, telling.is_text)?))
        });
        let mut held = Held { event, trace, told_by: bit, same, before: None, row, is_out: false };
        if let Some(number) = self.find(&held, within_ns) {
            let Some(found) = self.place(number) else { return };
            found.told_by |= bit;
            // What has the same name in both is no hash in one of them.
            if let (Some((_, own)), Some((_, other))) = (&mut held.row, &mut found.row) {
                (*own, *other) = (*own.min(other), *own.min(other));
            }
            let worse = found.trace.max(trace);
            let is_better = found.trace <= trace;
            if is_better {
                fill(&mut found.event, &held.event);
            } else {
                held.told_by = found.told_by;
                fill(&mut held.event, &found.event);
            }
            if let Some(count) = self.told_twice.get_mut(worse) {
                *count = count.saturating_add(1);
            }
            if is_better {
                return;
            }
            self.take_out(number);
        }
        let number = self.first.saturating_add(self.held.len() as u64);
        held.before = self.last_alike.insert(held.same, number);
        if let Some((row, _)) = held.row {
            self.rows.entry(row).or_default().numbers.push_back(number);
        }
        self.held.push_back(held);
    }

    /// Gives all that is left.
    pub fn finish(&mut self, mut each: impl FnMut(usize, &Event)) {
        while !self.held.is_empty() {
            self.give(&mut each);
        }
    }

    /// How many events of each trace an earlier one told of, too.
    pub fn told_twice(&self) -> &[u64] {
        &self.told_twice
    }

    /// What became of the events of each trace whose jobs another one names better.
    pub fn other_names(&self) -> &[OtherNames] {
        &self.other_names
    }

    fn place(&mut self, number: u64) -> Option<&mut Held> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.held.get_mut(at).filter(|held| !held.is_out)
    }

    /// The nearest of those alike that this trace did not tell of: an address is given out again and again.
    fn find(&mut self, of: &Held, within_ns: u64) -> Option<u64> {
        let mut next = self.last_alike.get(&of.same).copied();
        for _ in 0..MOST_ALIKE {
            let Some(number) = next else { break };
            let Some(held) = self.place(number) else { break };
            if held.event.at_ns.saturating_add(within_ns) < of.event.at_ns {
                break;
            }
            if held.told_by & of.told_by == 0 {
                return Some(number);
            }
            next = held.before;
        }
        None
    }

    /// Out of its place, and of the row of those alike.
    fn take_out(&mut self, number: u64) {
        let Some(Held { same, before, is_out, .. }) = self.place(number) else { return };
        *is_out = true;
        let (same, before) = (*same, *before);
        let last = self.last_alike.get(&same).copied();
        if last == Some(number) {
            match before.filter(|before| self.place(*before).is_some()) {
                Some(before) => self.last_alike.insert(same, before),
                None => self.last_alike.remove(&same),
            };
            return;
        }
        let mut next = last;
        while let Some(held) = next.and_then(|number| self.place(number)) {
            if held.before == Some(number) {
                held.before = before;
                return;
            }
            next = held.before;
        }
    }

    fn give(&mut self, each: &mut impl FnMut(usize, &Event)) {
        let number = self.first;
        let mut is_told = false;
        if !self.telling.is_empty() {
            is_told = self.join(number);
        }
        let Some(mut held) = self.held.pop_front() else { return };
        self.first = number.saturating_add(1);
        if self.last_alike.get(&held.same) == Some(&number) {
            self.last_alike.remove(&held.same);
        }
        if let Some((row, _)) = held.row
            && let Some(in_row) = self.rows.get_mut(&row)
        {
            in_row.numbers.pop_front();
            in_row.last_ns = Some(held.event.at_ns);
            if in_row.numbers.is_empty() {
                self.rows.remove(&row);
            }
        }
        if held.is_out || is_told {
            return;
        }
        if let Some((_, naming)) = held.row {
            let is_renamed = self.jobs.give(&mut held.event);
            let is_worse = self.telling.get(held.trace).is_some_and(|telling| telling.best < naming);
            if let Some(of) = self.other_names.get_mut(held.trace).filter(|_| is_worse) {
                of.kept = of.kept.saturating_add(1);
                of.renamed = of.renamed.saturating_add(u64::from(is_renamed));
            }
        }
        each(held.trace, &held.event);
    }

    /// Puts the first event together with those that tell the same with other names. Whether one of these tells it better.
    fn join(&mut self, number: u64) -> bool {
        let Some(Held { event, trace, row: Some((row, naming)), .. }) = self.place(number) else { return false };
        let (event, trace, row, naming) = (*event, *trace, *row, *naming);
        self.jobs.begin(&event);
        for other in Naming::ALL.into_iter().filter(|of| *of != naming) {
            let Some((found, is_certain)) = self.partner(row, naming, other) else { continue };
            let (first, told_by) = match self.place(number) {
                Some(held) => (held.event, held.told_by),
                None => return false,
            };
            let Some(second) = self.place(found) else { continue };
            let (found_event, found_trace) = (second.event, second.trace);
            if other < naming {
                second.told_by |= told_by;
                fill(&mut second.event, &first);
            } else {
                let told_by = second.told_by;
                self.take_out(found);
                self.jobs.begin(&found_event);
                if let Some(held) = self.place(number) {
                    held.told_by |= told_by;
                    fill(&mut held.event, &found_event);
                }
            }
            let (worse, better, of) = match other < naming {
                true => (event, found_event, trace),
                false => (found_event, event, found_trace),
            };
            if let (Some(better), Some(worse)) = (better.key, worse.key) {
                self.jobs.same(better, worse);
            }
            if let Some(delay) = self.delays.get_mut(between(naming, other)).filter(|_| is_certain) {
                delay.learn(worse.at_ns.wrapping_sub(better.at_ns).cast_signed());
            }
            if let Some(of) = self.other_names.get_mut(of) {
                of.left_out = of.left_out.saturating_add(1);
            }
            if other < naming {
                return true;
            }
        }
        false
    }

    /// The event that tells, with another name, what the first one of this row does, and whether that is certain.
    fn partner(&self, row: Row, naming: Naming, other: Naming) -> Option<(u64, bool)> {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        let in_row = self.rows.get(&row)?;
        let delay = self.delays.get(between(naming, other)).copied().unwrap_or_default();
        let place = |number: &u64| {
            let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
            let held = self.held.get(at).filter(|held| !held.is_out)?;
            Some((*number, held, held.event.key?, held.row?.1))
        };
        let of_both = |(.., of): &(u64, &Held, JobKey, Naming)| *of == naming || *of == other;
        for (number, held, key, of) in in_row.numbers.iter().filter_map(place).filter(of_both).take(MOST_IN_ROW) {
            let Held { event, told_by, .. } = held;
            // An address that is submitted is another job's than before.
            let is_new = matches!(event.kind, EventKind::Submit | EventKind::SubmitCommit) && of != Naming::Fence;
            let job = self.jobs.name(key).filter(|_| !is_new);
            let is_worse = of == naming.max(other);
            let at_ns = if is_worse {
                event.at_ns.saturating_add_signed(delay.middle_ns.saturating_neg())
            } else {
                event.at_ns
            };
            let row = if of == naming { &mut own } else { &mut others };
            row.push(InRow { number, at_ns, told_by: *told_by, key, job });
        }
        let at = partner(&own, &others, delay.near_ns())?;
        Some((others.get(at)?.number, is_certain(&own, &others, at, in_row.last_ns)))
    }
}

/// Which delay is that of two ways to name jobs.
fn between(one: Naming, other: Naming) -> usize {
    match (one.min(other), one.max(other)) {
        (Naming::Fence, Naming::Hash) => 1,
        (Naming::Fence, _) => 0,
        _ => 2,
    }
}

/// Takes from another what is absent.
fn fill(event: &mut Event, other: &Event) {
    if event.pid == 0 && event.tid == other.tid {
        event.pid = other.pid;
    }
    if event.comm == NameId::default() {
        event.comm = other.comm;
    }
    event.ring = event.ring.or(other.ring);
    event.client = event.client.or(other.client);
    event.value = event.value.or(other.value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::Family;

    fn event(at_ns: u64, kind: EventKind, key: Option<JobKey>) -> Event {
        Event {
            at_ns,
            kind,
            family: Family::DrmSched,
            cpu: 2,
            tid: 5,
            pid: 0,
            comm: NameId::default(),
            ring: None,
            key,
            other: None,
            client: None,
            value: None,
        }
    }

    const MS: u64 = 1_000_000;

    fn fence(seqno: u64) -> Option<JobKey> {
        Some(JobKey::Fence { context: 1, seqno })
    }

    /// What comes out: trace, time and key, in order.
    fn merged(window: &mut Window, events: &[(usize, Event)]) -> Vec<(usize, Event)> {
        let mut out = Vec::new();
        for (trace, event) in events {
            window.put(*trace, *event, |trace, event| out.push((trace, *event)));
        }
        window.finish(|trace, event| out.push((trace, *event)));
        assert!(out.is_sorted_by_key(|(_, event)| event.at_ns));
        out
    }

    #[test]
    fn the_same_event_is_told_once_as_the_first_trace_has_it() {
        let mut window = Window::new(3);
        let told = Event { pid: 9, client: Some(3), ..event(10 * MS, EventKind::Submit, fence(1)) };
        let events = [
            (1, told),
            (2, event(10 * MS + 1_000, EventKind::Submit, fence(1))),
            (0, event(10 * MS + 2_000, EventKind::Submit, fence(1))),
            (1, event(10 * MS + 3_000, EventKind::Submit, fence(2))),
            (1, event(11 * MS, EventKind::Commit, fence(1))),
        ];
        let out = merged(&mut window, &events);
        // What the first does not know is taken from the others.
        assert_eq!(out[0], (0, Event { at_ns: 10 * MS + 2_000, ..told }));
        assert_eq!(out[1..], [events[3], events[4]]);
        assert_eq!(window.told_twice(), [0, 1, 1]);
    }

    #[test]
    fn what_one_trace_tells_twice_happened_twice() {
        let mut window = Window::new(2);
        let at = |at_ns, kind| event(at_ns, kind, None);
        let events = [
            (0, at(MS, EventKind::Irq)),
            (1, at(MS + 10, EventKind::Irq)),
            (0, at(MS + 20, EventKind::Irq)),
            (0, at(MS + 30, EventKind::Irq)),
            (1, at(MS + 40, EventKind::Irq)),
            // Too late for the third.
            (1, at(7 * MS, EventKind::Irq)),
        ];
        let out = merged(&mut window, &events);
        assert_eq!(out, [events[0], events[2], events[3], events[5]]);
        assert_eq!(window.told_twice(), [0, 2]);
    }

    #[test]
    fn an_address_is_of_the_next_job_after_a_while() {
        let mut window = Window::new(2);
        let job = |at_ns| event(at_ns, EventKind::Submit, Some(JobKey::Address(64)));
        let events = [
            (0, job(MS)),
            (1, job(2 * MS)),
            (0, job(50 * MS)),
            (1, job(51 * MS)),
            (1, job(200 * MS)),
            (0, job(900 * MS)),
        ];
        let out = merged(&mut window, &events);
        assert_eq!(out, [events[0], events[2], events[4], events[5]]);
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut window = Window::new(2);
        let mut given = 0_u64;
        for n in 0..MOST_HELD as u64 + 1_000 {
            window.put(0, event(MS, EventKind::Submit, fence(n)), |_, _| given += 1);
        }
        assert!(given >= 999 && window.held.len() <= MOST_HELD + 1, "{given}");
        assert!(window.last_alike.len() <= MOST_HELD + 1);
        // After a time with nothing, nothing is held but the last.
        window.put(1, event(2_000 * MS, EventKind::Submit, fence(0)), |_, _| given += 1);
        assert_eq!((given, window.held.len(), window.last_alike.len()), (MOST_HELD as u64 + 1_000, 1, 1));
    }

    /// A job's three events: of this trace, late by so much, by this name.
    fn job(trace: usize, n: u64, late_ns: u64, key: JobKey) -> [(usize, Event); 3] {
        let at = 10 * MS + n * 3 * MS + n * n % 7 * 100_000 + late_ns;
        let kinds = [(EventKind::Submit, 5, 0), (EventKind::Commit, 6, 40_000), (EventKind::Complete, 0, 2 * MS)];
        kinds.map(|(kind, tid, later)| (trace, Event { tid, ..event(at + later, kind, Some(key)) }))
    }

    /// The second trace names by three addresses, given out in turn, what the first one names by fences.
    fn two_names(of_fences: impl Fn(u64) -> bool, of_addresses: impl Fn(u64) -> bool) -> (Vec<(usize, Event)>, Window) {
        let name = |n: u64| fence(n).unwrap();
        let mut events: Vec<(usize, Event)> =
            (0..40).filter(|n| of_fences(*n)).flat_map(|n| job(0, n, 0, name(n))).collect();
        let address = |n: u64| JobKey::Address(0xffff_8881_0000_1000 + n % 3 * 256);
        events.extend((0..40).filter(|n| of_addresses(*n)).flat_map(|n| job(1, n, 30_000, address(n))));
        events.sort_by_key(|(_, event)| event.at_ns);
        (events, Window::with_other_names(vec![Telling { machine: 0, best: Naming::Fence, is_text: false }; 2]))
    }

    #[test]
    fn jobs_with_two_names_are_told_once_by_the_better_one() {
        let (events, mut window) = two_names(|_| true, |_| true);
        let out = merged(&mut window, &events);
        let told: Vec<_> = events.iter().copied().filter(|(trace, _)| *trace == 0).collect();
        assert_eq!(out, told);
        let all = OtherNames { left_out: 120, ..OtherNames::default() };
        assert_eq!(window.other_names(), [OtherNames::default(), all]);
        assert!(window.rows.is_empty());
    }

    #[test]
    fn what_the_better_trace_left_out_or_lost_is_kept() {
        // It has one job of four, as a sampled one.
        let (events, mut window) = two_names(|n| n % 4 == 0, |_| true);
        let out = merged(&mut window, &events);
        let expected: Vec<_> = events
            .iter()
            .copied()
            .filter(|(trace, event)| {
                let n = events
                    .iter()
                    .filter(|(of, at)| *of == 1 && at.kind == event.kind && at.at_ns < event.at_ns)
                    .count();
                *trace == 0 || n % 4 != 0
            })
            .collect();
        assert_eq!(out, expected);
        assert_eq!(window.other_names()[1], OtherNames { left_out: 30, kept: 90, renamed: 0 });
        // It lost everything for a while: of jobs that it tells in part the other's events have the same name.
        let (events, mut window) = two_names(|_| true, |_| true);
        let lost = |at_ns: u64| (50 * MS..71 * MS + 500_000).contains(&at_ns);
        let events: Vec<_> = events.into_iter().filter(|(trace, event)| *trace == 1 || !lost(event.at_ns)).collect();
        let out = merged(&mut window, &events);
        assert_eq!(out.len(), 120);
        let mut jobs: FxHashMap<JobKey, Vec<EventKind>> = FxHashMap::default();
        for (_, event) in &out {
            jobs.entry(event.key.unwrap()).or_default().push(event.kind);
        }
        let whole = [EventKind::Submit, EventKind::Commit, EventKind::Complete];
        for (key, kinds) in jobs {
            assert!(kinds.chunks(3).all(|kinds| kinds == whole), "{key:?}: {kinds:?}");
        }
        let OtherNames { left_out, kept, renamed } = window.other_names()[1];
        assert_eq!((left_out + kept, kept > renamed && renamed > 0), (120, true), "{kept} {renamed}");
    }

    #[test]
    fn nothing_vanishes_whatever_comes() {
        let mut state = 1_u64;
        let mut chance = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        let kinds = [EventKind::Submit, EventKind::Commit, EventKind::Complete, EventKind::Blocked, EventKind::Irq];
        let telling = |n: usize| Telling { machine: n / 3, best: Naming::Fence, is_text: n == 2 };
        let mut window = Window::with_other_names((0..4).map(telling).collect());
        let (mut at_ns, mut given) = (0, 0);
        for _ in 0..20_000 {
            at_ns += chance(400_000);
            let key = match chance(4) {
                0 => None,
                1 => Some(JobKey::Address(chance(4))),
                _ => fence(chance(6)),
            };
            let of = Event { tid: chance(2) as u32, ..event(at_ns, kinds[chance(5) as usize], key) };
            window.put(chance(4) as usize, of, |_, _| given += 1);
        }
        window.finish(|_, _| given += 1);
        let twice: u64 = window.told_twice().iter().sum();
        let left_out: u64 = window.other_names().iter().map(|of| of.left_out).sum();
        assert_eq!(given + twice + left_out, 20_000);
        assert!(twice > 1_000 && left_out > 100 && given > 1_000, "{given} {twice} {left_out}");
        assert!(window.rows.is_empty() && window.last_alike.is_empty());
    }
}
