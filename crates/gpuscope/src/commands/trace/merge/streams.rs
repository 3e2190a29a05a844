//! The second look: the events of all traces in order of time. Each trace is read by a thread, which waits while enough of it is ahead.

use super::super::input::{Input, Seen};
use super::place::{Place, Places};
use super::survey::Surveyed;
use anyhow::anyhow;
use gpuscope_model::GpuId;
use gpuscope_model::trace::{Event, EventKind, JobKey, NameId, Ring, RingId, Switch, TraceNames};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Events that are handed over at once.
const BATCH: usize = 4096;

/// Batches that wait, of each trace.
const AHEAD: usize = 2;

/// What a trace of another machine has its threads counted from: above the highest number that a thread can have (`PID_MAX_LIMIT`), and
/// such that the number is still read off the result.
const THREADS_OF_A_MACHINE: u32 = 10_000_000;

/// The same of fence contexts and of clients. Contexts have 32 bits in some records.
const CONTEXTS_OF_A_MACHINE: u32 = 1_000_000_000;

/// Bit from which on addresses are told apart: those of the kernel have the uppermost all set.
const ADDRESS_BITS: u32 = 60;

/// What a thread hands over: events, and the names that they are the first to have.
#[derive(Default)]
struct Batch {
    texts: Vec<String>,
    rings: Vec<Ring>,
    told: Vec<Told>,
}

#[derive(Clone, Copy)]
enum Told {
    Event(Event),
    /// Records are missing about here.
    Lost,
}

/// What comes next.
pub(super) enum Next {
    Event(Event),
    /// Records of this trace are missing about this time.
    Lost(u64),
}

/// A trace that is read.
struct Stream<'a> {
    receiver: Receiver<Batch>,
    told: std::vec::IntoIter<Told>,
    next: Option<Told>,
    texts: Vec<NameId>,
    rings: Vec<RingId>,
    place: &'a Place,
    last_ns: u64,
}

/// All traces, and the names that events of the recording refer to.
pub(super) struct Streams<'a> {
    streams: Vec<Stream<'a>>,
    pub(super) names: TraceNames,
    known: Known<'a>,
}

/// What is known of the machines.
struct Known<'a> {
    machines: &'a [String],
    /// Processes of threads, by machine and thread.
    processes: HashMap<(usize, u32), u32>,
    /// Names of devices, by machine and the driver's own name.
    devices: HashMap<(usize, &'a str), &'a str>,
}

/// Reads all traces, and gives them to `each`.
pub(super) fn read<T>(
    traces: &[Surveyed],
    places: &Places,
    each: impl FnOnce(&mut Streams<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let (mut streams, mut threads) = (Vec::new(), Vec::new());
        for (trace, place) in traces.iter().zip(&places.of) {
            let (sender, receiver) = sync_channel(AHEAD);
            threads.push(scope.spawn(move || send(&trace.path, &sender)));
            streams.push(Stream {
                receiver,
                told: Vec::new().into_iter(),
                next: None,
                texts: Vec::new(),
                rings: Vec::new(),
                place,
                last_ns: 0,
            });
        }
        let mut streams = Streams::new(streams, traces, places);
        let done = each(&mut streams);
        // Threads that still have something to hand over end when nobody takes it.
        drop(streams);
        for thread in threads {
            let read = thread.join().map_err(|_| anyhow!("a reading thread failed"))?;
            // What went wrong with the recording that is made is told first.
            if done.is_ok() {
                read?;
            }
        }
        done
    })
}

/// Reads a trace, and hands over its events until nobody takes them.
fn send(path: &Path, to: &SyncSender<Batch>) -> anyhow::Result<()> {
    let (mut batch, mut texts, mut rings, mut is_taken) = (Batch::default(), 0, 0, true);
    let read = Input::open(path)?.read(|seen| {
        let told = match seen {
            Seen::Event(event, names) => {
                while texts <= event.comm.0 {
                    batch.texts.push(names.get(NameId(texts)).to_string());
                    texts = texts.saturating_add(1);
                }
                batch.rings.extend(names.rings().iter().skip(rings).cloned());
                rings = names.rings().len();
                Told::Event(*event)
            }
            Seen::Lost(_) => Told::Lost,
        };
        batch.told.push(told);
        if batch.told.len() < BATCH {
            return Ok(());
        }
        let full = std::mem::take(&mut batch);
        batch.told.reserve(BATCH);
        is_taken = to.send(full).is_ok();
        if is_taken { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    });
    if is_taken {
        read?;
        let _ = to.send(batch);
    }
    Ok(())
}

impl<'a> Streams<'a> {
    fn new(streams: Vec<Stream<'a>>, traces: &'a [Surveyed], places: &'a Places) -> Streams<'a> {
        let mut known = Known { machines: &places.machines, processes: HashMap::new(), devices: HashMap::new() };
        for (trace, place) in traces.iter().zip(&places.of) {
            for (tid, pid) in &trace.processes {
                known.processes.entry((place.machine, *tid)).or_insert(*pid);
            }
            for (own, gpu) in &trace.origin.devices {
                known.devices.entry((place.machine, own.as_str())).or_insert(gpu.as_str());
            }
        }
        Streams { streams, names: TraceNames::default(), known }
    }

    /// The next thing in order of time, and the trace that it is of.
    pub(super) fn next(&mut self) -> Option<(usize, Next)> {
        let mut first: Option<(u64, usize)> = None;
        for (at, stream) in self.streams.iter_mut().enumerate() {
            let at_ns = match stream.peek(&mut self.names, &self.known) {
                None => continue,
                Some(Told::Lost) => 0,
                Some(Told::Event(event)) => moved(event.at_ns, stream.place),
            };
            if first.is_none_or(|(first_ns, _)| at_ns < first_ns) {
                first = Some((at_ns, at));
            }
        }
        let (at_ns, at) = first?;
        let stream = self.streams.get_mut(at)?;
        let Told::Event(event) = stream.next.take()? else {
            return Some((at, Next::Lost(stream.last_ns)));
        };
        stream.last_ns = stream.last_ns.max(at_ns);
        Some((at, Next::Event(stream.event(event, at_ns, &self.known))))
    }
}

impl Stream<'_> {
    /// What comes next of it; waits for the thread.
    fn peek(&mut self, names: &mut TraceNames, known: &Known<'_>) -> Option<&Told> {
        while self.next.is_none() {
            self.next = self.told.next();
            if self.next.is_none() {
                let batch = self.receiver.recv().ok()?;
                self.texts.extend(batch.texts.iter().map(|text| names.text(text)));
                let machine = self.place.machine;
                self.rings.extend(batch.rings.iter().map(|ring| known.ring(ring, machine, names)));
                self.told = batch.told.into_iter();
            }
        }
        self.next.as_ref()
    }

    /// The same event with the numbers of the recording.
    fn event(&self, event: Event, at_ns: u64, known: &Known<'_>) -> Event {
        let machine = self.place.machine;
        let number = u32::try_from(machine).unwrap_or(0);
        let ring = |ring: RingId| self.rings.get(ring.0 as usize).copied();
        let key = |key: JobKey| {
            let contexts = number.saturating_mul(CONTEXTS_OF_A_MACHINE);
            Some(match key {
                JobKey::Fence { context, seqno } => {
                    JobKey::Fence { context: context.wrapping_add(contexts.into()), seqno }
                }
                JobKey::FenceLow { context, seqno } => {
                    JobKey::FenceLow { context: context.wrapping_add(contexts), seqno }
                }
                JobKey::Address(address) => {
                    JobKey::Address(address ^ u64::from(number).checked_shl(ADDRESS_BITS).unwrap_or(0))
                }
                JobKey::InRing { ring: of, number } => JobKey::InRing { ring: ring(of)?, number },
            })
        };
        let of_machine = |of: u32| match of {
            0 => 0,
            of => of.saturating_add(number.saturating_mul(THREADS_OF_A_MACHINE)),
        };
        let pid = match event.pid {
            0 => known.processes.get(&(machine, event.tid)).copied().unwrap_or(0),
            pid => pid,
        };
        Event {
            at_ns,
            value: event.value.map(|value| value_of(event.kind, value, of_machine)),
            tid: of_machine(event.tid),
            pid: of_machine(pid),
            comm: self.texts.get(event.comm.0 as usize).copied().unwrap_or_default(),
            ring: event.ring.and_then(ring),
            key: event.key.and_then(key),
            other: event.other.and_then(key),
            client: event
                .client
                .map(|client| client.wrapping_add(u64::from(number).saturating_mul(CONTEXTS_OF_A_MACHINE.into()))),
            ..event
        }
    }
}

impl Known<'_> {
    /// A ring, with the name of its device that all traces have, and of its machine where there are several.
    fn ring(&self, ring: &Ring, machine: usize, names: &mut TraceNames) -> RingId {
        let gpu = ring.gpu.as_ref().map(GpuId::as_str);
        let gpu = gpu.map(|gpu| self.devices.get(&(machine, gpu)).copied().unwrap_or(gpu));
        match (gpu, self.machines) {
            (gpu, [] | [_]) => names.ring(gpu, &ring.name),
            (Some(gpu), _) => names.ring(Some(&of_machine(self.machines, machine, gpu)), &ring.name),
            (None, _) => names.ring(None, &of_machine(self.machines, machine, &ring.name)),
        }
    }
}

/// `host/0000:03:00.0` where there are several machines.
pub(super) fn of_machine(machines: &[String], machine: usize, name: &str) -> String {
    match machines.get(machine).filter(|_| machines.len() > 1) {
        Some(host) => format!("{host}/{name}"),
        None => name.to_string(),
    }
}

/// A time of a trace on the clock that is kept.
pub(super) fn moved(at_ns: u64, place: &Place) -> u64 {
    at_ns.saturating_add_signed(place.offset_ns)
}

/// The number of an event whose threads get other ones: of some kinds it is a thread, too.
fn value_of(kind: EventKind, value: i64, thread: impl Fn(u32) -> u32) -> i64 {
    match kind {
        EventKind::SchedSwitch => {
            let switch = Switch::of(value);
            Switch { next: thread(switch.next), ..switch }.value()
        }
        EventKind::SchedWaking => u32::try_from(value).map_or(value, |tid| thread(tid).into()),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_events_tell_of_are_those_of_their_machine() {
        let moved = |tid| if tid == 0 { 0 } else { tid + 10_000_000 };
        let switch = Switch { next: 500, state: 0x100 };
        let of = Switch::of(value_of(EventKind::SchedSwitch, switch.value(), moved));
        assert_eq!(of, Switch { next: 10_000_500, state: 0x100 });
        let rests = Switch { next: 0, state: 1 };
        assert_eq!(Switch::of(value_of(EventKind::SchedSwitch, rests.value(), moved)), rests);
        assert_eq!(value_of(EventKind::SchedWaking, 500, moved), 10_000_500);
        assert_eq!(value_of(EventKind::Error, -62, moved), -62);
        assert_eq!(value_of(EventKind::Frequency, 500, moved), 500);
    }
}
