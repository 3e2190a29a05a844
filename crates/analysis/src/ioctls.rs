//! DRM ioctls: begins and ends put together, by thread.
//!
//! The end of a system call does not say which request it was of, and the ends of all ioctls are recorded. So an end counts where the begin of
//! a DRM one of the same thread was the last that was seen.

use crate::distribution::{Distribution, Pool};
use gpuscope_model::Text;
use gpuscope_model::trace::{
    Event, EventKind, InIoctl, InIoctls, IoctlReport, Ioctls, NameId, TraceNames, is_drm_ioctl,
};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;

/// Threads within an ioctl at a time.
const MOST_WITHIN: usize = 1 << 16;
/// Processes and requests that are told apart. One that is called often takes the 60 KB of a histogram.
const MOST_CALLS: usize = 1 << 11;
/// Error numbers of one request. The kernel has some hundred, a request gives a few.
const MOST_ERRORS: usize = 16;
/// Values that are kept of one request, and of all.
const MOST_VALUES: usize = 1 << 12;
const MOST_VALUES_OF_ALL: usize = 1 << 20;

/// Puts calls together. Feed it the events in order of time.
#[derive(Debug)]
pub(crate) struct IoctlCalls {
    within: FxHashMap<u32, Within>,
    calls: FxHashMap<(u32, u32), Call>,
    pool: Pool,
    unfinished: u64,
    left_out: u64,
    is_there: bool,
}

#[derive(Clone, Copy, Debug)]
struct Within {
    at_ns: u64,
    request: u32,
    pid: u32,
    comm: NameId,
}

#[derive(Debug, Default)]
struct Call {
    comm: NameId,
    times: Distribution,
    total_ns: u64,
    errors: Vec<(i64, u64)>,
}

impl Default for IoctlCalls {
    fn default() -> Self {
        IoctlCalls {
            within: FxHashMap::default(),
            calls: FxHashMap::default(),
            pool: Pool::of(MOST_VALUES_OF_ALL),
            unfinished: 0,
            left_out: 0,
            is_there: false,
        }
    }
}

/// Traces of other tools hold all ioctls.
fn is_of_another_driver(request: Option<i64>) -> bool {
    request.is_some_and(|request| !is_drm_ioctl(request))
}

impl IoctlCalls {
    /// Takes an event.
    pub(crate) fn event(&mut self, event: &Event) {
        match event.kind {
            EventKind::IoctlEnter => self.begin(event),
            EventKind::IoctlExit => self.end(event),
            _ => {}
        }
    }

    fn begin(&mut self, event: &Event) {
        // A system call is left before the next one begins: the end of what the thread was in before is not in the trace.
        if self.within.remove(&event.tid).is_some() {
            self.unfinished = self.unfinished.saturating_add(1);
        }
        if is_of_another_driver(event.value) {
            return;
        }
        self.is_there = true;
        let Some(request) = event.value.filter(|_| self.within.len() < MOST_WITHIN) else {
            self.left_out = self.left_out.saturating_add(1);
            return;
        };
        // Registers have 64 bits, the request has the lower 32 of them.
        let pid = if event.pid == 0 { event.tid } else { event.pid };
        self.within.insert(event.tid, Within { at_ns: event.at_ns, request: request as u32, pid, comm: event.comm });
    }

    fn end(&mut self, event: &Event) {
        let Some(within) = self.within.remove(&event.tid) else { return };
        let key = (within.pid, within.request);
        if self.calls.len() >= MOST_CALLS && !self.calls.contains_key(&key) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let call = self
            .calls
            .entry(key)
            .or_insert_with(|| Call { times: Distribution::keeping(MOST_VALUES), ..Call::default() });
        call.comm = within.comm;
        let took_ns = event.at_ns.saturating_sub(within.at_ns);
        call.times.add(took_ns, &mut self.pool);
        call.total_ns = call.total_ns.saturating_add(took_ns);
        if let Some(error) = event.value.filter(|value| *value < 0) {
            let has_room = call.errors.len() < MOST_ERRORS;
            match call.errors.iter_mut().find(|(known, _)| *known == error) {
                Some((_, count)) => *count = count.saturating_add(1),
                None if has_room => call.errors.push((error, 1)),
                None => {}
            }
        }
    }

    /// Events were lost about here: what began before has perhaps ended, and the next end is perhaps of another call.
    pub(crate) fn lost(&mut self) {
        self.unfinished = self.unfinished.saturating_add(self.within.len() as u64);
        self.within.clear();
    }

    /// All calls, without names: those are known where the drivers are. None where the trace holds none.
    pub(crate) fn finish(mut self, names: &TraceNames) -> Option<Ioctls> {
        self.lost();
        if !self.is_there {
            return None;
        }
        let mut calls: Vec<IoctlReport> = self
            .calls
            .into_iter()
            .filter_map(|((pid, request), mut call)| {
                call.errors.sort_by_key(|(error, count)| (Reverse(*count), Reverse(*error)));
                Some(IoctlReport {
                    pid,
                    comm: Text::from(names.get(call.comm).to_string()),
                    request,
                    name: None,
                    times: call.times.summary()?,
                    total_ns: call.total_ns,
                    errors: call.errors,
                })
            })
            .collect();
        calls.sort_by_key(|call| (Reverse(call.total_ns), call.pid, call.request));
        Some(Ioctls { calls, unfinished: self.unfinished, left_out: self.left_out })
    }
}

/// Calls that are kept of a stretch; with more, later ones are left out.
const MOST_SPANS: usize = 1 << 18;

/// When threads were within DRM ioctls, in a stretch of a trace.
#[derive(Debug)]
pub struct IoctlSpans {
    from_ns: u64,
    to_ns: u64,
    within: FxHashMap<u32, u64>,
    found: InIoctls,
}

impl IoctlSpans {
    /// Of calls that were under way in this stretch, of which the trace is read no further.
    pub fn of((from_ns, to_ns): (u64, u64)) -> IoctlSpans {
        IoctlSpans { from_ns, to_ns, within: FxHashMap::default(), found: InIoctls::default() }
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event) {
        match event.kind {
            EventKind::IoctlEnter => {
                // What a thread was in before has no end, whether there is room for the next or not.
                let had_room = self.within.remove(&event.tid).is_some();
                if is_of_another_driver(event.value) {
                    return;
                }
                if had_room || self.within.len() < MOST_WITHIN {
                    self.within.insert(event.tid, event.at_ns);
                } else {
                    self.found.left_out = self.found.left_out.saturating_add(1);
                }
            }
            EventKind::IoctlExit => {
                if let Some(from_ns) = self.within.remove(&event.tid) {
                    self.add(InIoctl { tid: event.tid, from_ns, to_ns: event.at_ns });
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, span: InIoctl) {
        if span.from_ns > self.to_ns || span.to_ns < self.from_ns {
            return;
        }
        if self.found.spans.len() < MOST_SPANS {
            self.found.spans.push(span);
        } else {
            self.found.left_out = self.found.left_out.saturating_add(1);
        }
    }

    /// Events were lost about here: which begin the next end belongs to is not known.
    pub fn lost(&mut self) {
        self.within.clear();
    }

    /// All that were found, those under way at the end of the stretch included.
    pub fn finish(mut self) -> InIoctls {
        let to_ns = self.to_ns;
        let mut open: Vec<(u32, u64)> = std::mem::take(&mut self.within).into_iter().collect();
        open.sort_unstable();
        open.into_iter().for_each(|(tid, from_ns)| self.add(InIoctl { tid, from_ns, to_ns }));
        self.found.spans.sort_unstable_by_key(|span| (span.from_ns, span.tid));
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::Family;

    fn event(at_ns: u64, kind: EventKind, tid: u32, value: i64) -> Event {
        Event {
            at_ns,
            kind,
            family: Family::Ioctl,
            cpu: 0,
            tid,
            pid: tid / 10 * 10,
            comm: NameId::default(),
            ring: None,
            key: None,
            other: None,
            client: None,
            value: Some(value),
        }
    }

    #[test]
    fn ioctls_of_other_drivers_are_none() {
        // TCGETS, in a trace of another tool.
        let others = [event(1, EventKind::IoctlEnter, 9, 0x5401), event(2, EventKind::IoctlExit, 9, 0)];
        let (mut calls, mut spans) = (IoctlCalls::default(), IoctlSpans::of((0, 10)));
        for event in &others {
            calls.event(event);
            spans.event(event);
        }
        assert!(!calls.is_there && calls.calls.is_empty() && spans.within.is_empty() && spans.found.spans.is_empty());
    }

    #[test]
    fn begins_and_ends_are_put_together_by_thread() {
        use EventKind::{IoctlEnter, IoctlExit};
        let mut calls = IoctlCalls::default();
        let (submit, wait) = (0x4020_6444_i64, 0xc010_6449_i64);
        for (at, kind, tid, value) in [
            // An ioctl of another kind of file: only its end comes.
            (1, IoctlExit, 11, 0),
            (10, IoctlEnter, 11, submit),
            (12, IoctlEnter, 12, submit),
            (15, IoctlExit, 12, -16),
            (20, IoctlExit, 11, 0),
            (21, IoctlEnter, 11, wait),
            // Its end was lost; the next one is of another.
            (30, IoctlEnter, 11, submit),
            (34, IoctlExit, 11, 0),
            (40, IoctlEnter, 21, submit),
        ] {
            calls.event(&event(at, kind, tid, value));
        }
        let names = TraceNames::default();
        let all = calls.finish(&names).unwrap();
        let [call] = &all.calls[..] else { panic!("{all:#?}") };
        assert_eq!((call.pid, call.request), (10, 0x4020_6444));
        assert_eq!((call.times.count, call.times.min_ns, call.times.max_ns, call.total_ns), (3, 3, 10, 17));
        assert_eq!((&call.errors[..], all.unfinished, all.left_out), (&[(-16, 1)][..], 2, 0));
    }

    #[test]
    fn spans_are_those_of_the_stretch() {
        use EventKind::{IoctlEnter, IoctlExit};
        let mut spans = IoctlSpans::of((20, 30));
        for (at, kind, tid) in [
            (1, IoctlEnter, 5),
            (9, IoctlExit, 5),
            (15, IoctlEnter, 5),
            (16, IoctlEnter, 6),
            (25, IoctlExit, 5),
            (26, IoctlExit, 7),
        ] {
            spans.event(&event(at, kind, tid, 0x6400));
        }
        let span = |tid, from_ns, to_ns| InIoctl { tid, from_ns, to_ns };
        let found = spans.finish();
        assert_eq!((&found.spans[..], found.left_out), (&[span(5, 15, 25), span(6, 16, 30)][..], 0));
    }

    #[test]
    fn calls_without_room_are_counted() {
        let mut calls = IoctlCalls::default();
        let threads = u32::try_from(MOST_WITHIN).unwrap() + 10;
        for tid in 0..threads {
            calls.event(&event(u64::from(tid), EventKind::IoctlEnter, tid * 10, 0x6400));
        }
        assert_eq!((calls.within.len(), calls.left_out), (MOST_WITHIN, 10));
        // One that has room begins another: the first has no end, and the new one takes its place.
        calls.event(&event(u64::from(threads), EventKind::IoctlEnter, 0, 0x6400));
        assert_eq!((calls.within.len(), calls.left_out, calls.unfinished), (MOST_WITHIN, 10, 1));
        for tid in 0..threads {
            calls.event(&event(u64::from(threads) + 5, EventKind::IoctlExit, tid * 10, 0));
        }
        let all = calls.finish(&TraceNames::default()).unwrap();
        let (told, more) = (MOST_CALLS as u64, (MOST_WITHIN - MOST_CALLS) as u64);
        assert_eq!((all.calls.len() as u64, all.left_out, all.unfinished), (told, 10 + more, 1));
    }

    #[test]
    fn what_is_lost_puts_no_two_calls_together() {
        let mut calls = IoctlCalls::default();
        calls.event(&event(1, EventKind::IoctlEnter, 5, 0x6400));
        calls.lost();
        calls.event(&event(9, EventKind::IoctlExit, 5, 0));
        let all = calls.finish(&TraceNames::default()).unwrap();
        assert_eq!((all.calls.len(), all.unfinished), (0, 1));
        assert!(IoctlCalls::default().finish(&TraceNames::default()).is_none());
    }
}
