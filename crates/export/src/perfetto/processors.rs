//! When the jobs' threads had a processor, and when they waited for one.

use super::packets::{Name, Packets, Phase, Track, Word};
use super::tracks::Tracks;
use gpuscope_model::trace::{Event, EventKind, NameId, Switch, TraceNames};
use std::collections::HashMap;
use std::io::{self, Write};

/// Threads that are followed.
const MOST_THREADS: usize = 1 << 14;

/// Threads that submit jobs, or hand them over. Of others whose switches stand in the trace, not all do.
#[derive(Debug, Default)]
pub(super) struct Processors {
    by_tid: HashMap<u32, Thread>,
}

#[derive(Debug, Default)]
struct Thread {
    pid: u32,
    comm: NameId,
    /// Described with the first slice.
    track: Option<Track>,
    now: Now,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Now {
    /// Nothing was seen of it yet.
    #[default]
    NotKnown,
    Asleep,
    /// A slice is open.
    Waits,
    Runs,
}

impl Processors {
    /// Takes an event.
    pub(super) fn event<W: Write>(
        &mut self,
        event: &Event,
        names: &TraceNames,
        (tracks, packets): (&mut Tracks, &mut Packets<W>),
    ) -> io::Result<()> {
        let changes = match (event.kind, event.value) {
            (EventKind::Submit | EventKind::Commit | EventKind::SubmitCommit, _) => {
                self.of_job(event);
                return Ok(());
            }
            (EventKind::SchedSwitch, Some(value)) => {
                let switch = Switch::of(value);
                let left = if switch.was_preempted() { Now::Waits } else { Now::Asleep };
                [Some((event.tid, event.comm, left)), Some((switch.next, NameId::default(), Now::Runs))]
            }
            (EventKind::SchedWaking, Some(tid)) => {
                let tid = u32::try_from(tid).unwrap_or(0);
                // One that has a processor is woken, too: it is about to go to sleep, and does not.
                let is_asleep = self.by_tid.get(&tid).is_some_and(|of| of.now == Now::Asleep);
                [is_asleep.then_some((tid, NameId::default(), Now::Waits)), None]
            }
            _ => return Ok(()),
        };
        for (tid, comm, now) in changes.into_iter().flatten() {
            if let Some(thread) = self.by_tid.get_mut(&tid) {
                thread.is_now(now, tid, (event, comm), names, (&mut *tracks, &mut *packets))?;
            }
        }
        Ok(())
    }

    /// Events were lost about now: what threads are at is not known until their next switch.
    pub(super) fn lost<W: Write>(&mut self, at_ns: u64, packets: &mut Packets<W>) -> io::Result<()> {
        let mut open: Vec<Track> = Vec::new();
        for thread in self.by_tid.values_mut() {
            let was_open = matches!(std::mem::take(&mut thread.now), Now::Waits | Now::Runs);
            open.extend(thread.track.filter(|_| was_open));
        }
        // The same file each time.
        open.sort_unstable_by_key(|track| track.0);
        open.into_iter().try_for_each(|track| packets.end(at_ns, track))
    }

    /// A thread submits a job, or hands it over.
    fn of_job(&mut self, event: &Event) {
        if event.tid == 0 || self.by_tid.len() >= MOST_THREADS && !self.by_tid.contains_key(&event.tid) {
            return;
        }
        let thread = self.by_tid.entry(event.tid).or_default();
        thread.pid = if event.pid == 0 { thread.pid } else { event.pid };
        thread.comm = if event.comm == NameId::default() { thread.comm } else { event.comm };
    }
}

impl Thread {
    fn is_now<W: Write>(
        &mut self,
        now: Now,
        tid: u32,
        (event, comm): (&Event, NameId),
        names: &TraceNames,
        (tracks, packets): (&mut Tracks, &mut Packets<W>),
    ) -> io::Result<()> {
        if comm != NameId::default() {
            self.comm = comm;
        }
        let track = match self.track {
            Some(track) => track,
            None => {
                let of = tracks.thread((self.pid, tid), self.comm, names, packets)?;
                *self.track.insert(tracks.processor(of, packets)?)
            }
        };
        if matches!(self.now, Now::Waits | Now::Runs) {
            packets.end(event.at_ns, track)?;
        }
        self.now = now;
        let word = match now {
            Now::Waits => Word::WaitsForProcessor,
            Now::Runs => Word::OnProcessor,
            Now::NotKnown | Now::Asleep => return Ok(()),
        };
        packets.begin(Phase::Begin, event.at_ns, track, Name::Word(word), names, &[], &[], |notes| {
            if now == Now::Runs {
                notes.uint(Word::Cpu, event.cpu.into());
            }
        })
    }
}
