//! Events of several traces in order of time, those that stand in several told once.

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
}

/// Holds events back until no other trace can tell of them any more.
///
/// Of an event that several traces tell of, what the trace named first says is kept; what is absent there is taken from the others.
#[derive(Debug)]
pub struct Window {
    /// By number, from `first` on. None: another trace, named earlier, told it better.
    held: VecDeque<Option<Held>>,
    first: u64,
    last_alike: FxHashMap<Same, u64>,
    told_twice: Vec<u64>,
}

impl Window {
    /// For so many traces, of which an earlier one is believed before a later one.
    pub fn new(traces: usize) -> Window {
        let told_twice = vec![0; traces.min(MOST_TRACES)];
        Window { held: VecDeque::new(), first: 0, last_alike: FxHashMap::default(), told_twice }
    }

    /// Takes an event of a trace, no earlier than those before, and gives those that need not wait any longer, with their traces.
    pub fn put(&mut self, trace: usize, event: Event, mut each: impl FnMut(usize, &Event)) {
        let now_ns = event.at_ns;
        let is_old = |of: &Option<Held>| of.as_ref().is_none_or(|of| of.event.at_ns.saturating_add(HOLD_NS) < now_ns);
        while self.held.len() > MOST_HELD || self.held.front().is_some_and(is_old) {
            self.give(&mut each);
        }
        let (same, within_ns) = Same::of(&event);
        let bit = 1_u64.checked_shl(u32::try_from(trace).unwrap_or(u32::MAX)).unwrap_or(0);
        let mut held = Held { event, trace, told_by: bit, same, before: None };
        if let Some(number) = self.find(&held, within_ns) {
            let place = self.place(number);
            let Some(found) = place else { return };
            found.told_by |= bit;
            let worse = found.trace.max(trace);
            if let Some(count) = self.told_twice.get_mut(worse) {
                *count = count.saturating_add(1);
            }
            let Some(found) = self.place(number) else { return };
            if found.trace <= trace {
                fill(&mut found.event, &held.event);
                return;
            }
            held.told_by = found.told_by;
            fill(&mut held.event, &found.event);
            self.take_out(number);
        }
        let number = self.first.saturating_add(self.held.len() as u64);
        held.before = self.last_alike.insert(held.same, number);
        self.held.push_back(Some(held));
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

    fn place(&mut self, number: u64) -> Option<&mut Held> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.held.get_mut(at)?.as_mut()
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
        let Some(at) = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else { return };
        let Some(Held { same, before, .. }) = self.held.get_mut(at).and_then(Option::take) else { return };
        let last = self.last_alike.get(&same).copied();
        if last == Some(number) {
            match before {
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
        let Some(front) = self.held.pop_front() else { return };
        self.first = number.saturating_add(1);
        let Some(held) = front else { return };
        if self.last_alike.get(&held.same) == Some(&number) {
            self.last_alike.remove(&held.same);
        }
        each(held.trace, &held.event);
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
}
