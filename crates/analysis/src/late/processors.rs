//! When threads could have gone on, and had no processor.

use gpuscope_model::trace::{Event, EventKind, Switch};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Threads of which it is kept; with more, all are forgotten.
const MOST_THREADS: usize = 1 << 14;
/// Times that are kept of each, the last ones.
const MOST_TIMES: usize = 16;

/// When a thread waited for a processor, lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waited {
    /// Of before this moment nothing is kept.
    pub(super) from_ns: u64,
    /// From when to when, in order of time.
    pub(super) times: Vec<(u64, u64)>,
}

/// Threads whose switches were recorded.
#[derive(Debug, Default)]
pub(super) struct Processors {
    by_tid: FxHashMap<u32, Thread>,
}

#[derive(Debug, Default)]
struct Thread {
    now: Now,
    from_ns: u64,
    times: VecDeque<(u64, u64)>,
    /// All of it, as it was last asked for: jobs of a thread mostly share it.
    told: Option<Arc<Waited>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Now {
    /// It has a processor, or nothing is known of it.
    #[default]
    On,
    /// It waits for something else, as far as is known.
    Asleep,
    /// It was pushed aside at that moment, and can go on.
    Pushed(u64),
    /// It was woken at that moment.
    Woken(u64),
}

impl Processors {
    /// Takes an event, if it tells of a thread's processor.
    pub(super) fn event(&mut self, event: &Event) {
        match (event.kind, event.value) {
            (EventKind::SchedSwitch, Some(value)) => {
                let switch = Switch::of(value);
                if event.tid != 0 {
                    let pushed = Now::Pushed(event.at_ns);
                    self.thread(event.tid).now = if switch.was_preempted() { pushed } else { Now::Asleep };
                }
                if let Some(thread) = self.by_tid.get_mut(&switch.next) {
                    thread.goes_on(event.at_ns);
                }
            }
            (EventKind::SchedWaking, Some(tid)) => {
                if let Some(thread) = u32::try_from(tid).ok().and_then(|tid| self.by_tid.get_mut(&tid))
                    // Nobody is woken twice: what came in between was lost.
                    && matches!(thread.now, Now::Asleep | Now::Woken(_))
                {
                    thread.now = Now::Woken(event.at_ns);
                }
            }
            _ => {}
        }
    }

    /// Events were lost about now: what threads are at is not known.
    pub(super) fn lost(&mut self) {
        self.by_tid.values_mut().for_each(|thread| thread.now = Now::On);
    }

    /// When a thread waited, lately; none where nothing is known.
    pub(super) fn waited(&mut self, tid: u32) -> Option<Arc<Waited>> {
        let thread = self.by_tid.get_mut(&tid).filter(|thread| !thread.times.is_empty())?;
        let (from_ns, times) = (thread.from_ns, &thread.times);
        let told = || Arc::new(Waited { from_ns, times: times.iter().copied().collect() });
        Some(thread.told.get_or_insert_with(told).clone())
    }

    fn thread(&mut self, tid: u32) -> &mut Thread {
        if self.by_tid.len() >= MOST_THREADS && !self.by_tid.contains_key(&tid) {
            self.by_tid.clear();
        }
        self.by_tid.entry(tid).or_default()
    }
}

impl Thread {
    fn goes_on(&mut self, at_ns: u64) {
        let now = std::mem::take(&mut self.now);
        if let Now::Pushed(ready_ns) | Now::Woken(ready_ns) = now
            && ready_ns < at_ns
        {
            if self.times.len() >= MOST_TIMES {
                self.from_ns = self.times.pop_front().map_or(self.from_ns, |(_, to_ns)| to_ns);
            }
            self.times.push_back((ready_ns, at_ns));
            self.told = None;
        }
    }
}
