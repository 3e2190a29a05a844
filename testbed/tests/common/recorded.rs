//! A capture by BPF with what it gave so far, and the jobs that its events tell of.

use gpuscope_model::trace::{Dropped, Event, EventKind, Family, JobKey};
use gpuscope_sys::Roots;
use gpuscope_testbed::{Gpu, Load};
use gpuscope_trace::capture::bpf::BpfCapture;
use gpuscope_trace::capture::settings::Settings;
use gpuscope_trace::capture::{Capture, CaptureError, Wanted};
use gpuscope_trace::{Decoder, RawRecord};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::time::Duration;

fn wanted(buffer_bytes: usize) -> Wanted {
    Wanted { families: vec![Family::DrmSched], buffer_bytes, ..Wanted::default() }
}

/// A capture that goes on under other settings in the next test: to load its programs takes an emulated processor seconds.
static SPARE: Mutex<Option<BpfCapture>> = Mutex::new(None);

/// A capture, given back where it may be used again.
pub struct Lent {
    capture: Option<BpfCapture>,
    is_spare: bool,
}

impl Deref for Lent {
    type Target = BpfCapture;

    fn deref(&self) -> &BpfCapture {
        self.capture.as_ref().unwrap()
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut BpfCapture {
        self.capture.as_mut().unwrap()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_spare && !std::thread::panicking() {
            *SPARE.lock().unwrap() = self.capture.take();
        }
    }
}

/// A capture with what it gave so far.
pub struct Recorded {
    pub capture: Lent,
    pub decoder: Decoder,
    pub events: Vec<Event>,
    /// What it had lost or left out before.
    before: Dropped,
}

impl Recorded {
    pub fn open(buffer_bytes: usize, settings: &Settings) -> Result<Recorded, CaptureError> {
        Self::of(BpfCapture::open(&Roots::host(), &wanted(buffer_bytes), settings)?, false)
    }

    /// The same, with the switches of the jobs' threads.
    pub fn open_with_switches(buffer_bytes: usize, settings: &Settings) -> Result<Recorded, CaptureError> {
        let wanted = Wanted { switches: true, ..wanted(buffer_bytes) };
        Self::of(BpfCapture::open(&Roots::host(), &wanted, settings)?, false)
    }

    /// The same with the capture of an earlier test, if there is one: always of the same size.
    pub fn open_or_go_on(buffer_bytes: usize, settings: &Settings) -> Result<Recorded, CaptureError> {
        let spare = SPARE.lock().unwrap().take();
        let Some(mut capture) = spare else {
            return Self::of(BpfCapture::open(&Roots::host(), &wanted(buffer_bytes), settings)?, true);
        };
        capture.set(settings)?;
        // What the test before left behind.
        capture.drain(&mut |_: RawRecord<'_>| {})?;
        Self::of(capture, true)
    }

    fn of(mut capture: BpfCapture, is_spare: bool) -> Result<Recorded, CaptureError> {
        let before = capture.dropped()?;
        let mut decoder = Decoder::new();
        for format in capture.formats() {
            assert!(decoder.add_format(format), "{}", format.name);
        }
        let capture = Lent { capture: Some(capture), is_spare };
        Ok(Recorded { capture, decoder, events: Vec::new(), before })
    }

    /// What was lost or left out since it was opened.
    pub fn dropped(&mut self) -> Dropped {
        let now = self.capture.dropped().unwrap();
        Dropped {
            ring_full: now.ring_full - self.before.ring_full,
            missed: now.missed.saturating_sub(self.before.missed),
            rate_limited: now.rate_limited - self.before.rate_limited,
            sampled_out: now.sampled_out - self.before.sampled_out,
            filtered: now.filtered - self.before.filtered,
            table_full: now.table_full - self.before.table_full,
            unreadable: now.unreadable - self.before.unreadable,
        }
    }

    pub fn drain(&mut self) -> u64 {
        let (decoder, events) = (&mut self.decoder, &mut self.events);
        let mut sink = |record: RawRecord<'_>| events.extend(decoder.decode(record));
        let drained = self.capture.drain(&mut sink).unwrap();
        drained.until_ns
    }

    /// Drains while the loads go on and until all is told; records must come before their time is promised to be over, but for few whose
    /// program was held up for longer than a round after it had taken the time.
    pub fn follow(&mut self, loads: Vec<Load>) -> Vec<(bool, String)> {
        let waiting = std::thread::spawn(move || loads.into_iter().map(Load::wait).collect());
        let mut promised: u64 = 0;
        let mut rounds_after = 0;
        let mut late: Vec<(u64, Event)> = Vec::new();
        while rounds_after < 30 {
            let seen = self.events.len();
            let until = self.drain();
            late.extend(self.events[seen..].iter().filter(|e| e.at_ns < promised).map(|e| (promised, *e)));
            let is_held_up = |(promised, event): &(u64, Event)| promised - event.at_ns < 500_000_000;
            assert!(late.len() <= 3 && late.iter().all(is_held_up), "promised, and came later: {late:?}");
            assert!(until >= promised, "{until} after {promised}");
            promised = until;
            if waiting.is_finished() {
                rounds_after += 1;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        waiting.join().unwrap()
    }

    /// Device and ring of an event.
    pub fn ring(&self, event: &Event) -> (String, String) {
        let ring = self.decoder.names().get_ring(event.ring.unwrap()).unwrap();
        (ring.gpu.as_ref().unwrap().as_str().to_string(), ring.name.as_str().to_string())
    }
}

/// Finished jobs by device and ring, as the devices count them.
pub fn jobs(gpus: &[Gpu]) -> BTreeMap<(String, String), u64> {
    let of =
        |g: &Gpu| g.truth().engines.into_iter().map(|(name, e)| ((g.bdf.clone(), name), e.jobs)).collect::<Vec<_>>();
    gpus.iter().flat_map(of).collect()
}

/// Times of one job's events.
#[derive(Debug, Default)]
pub struct Life {
    pub queue: Vec<Event>,
    pub run: Vec<Event>,
    pub done: Vec<Event>,
}

pub fn lives(events: &[Event]) -> BTreeMap<JobKey, Life> {
    let mut lives: BTreeMap<JobKey, Life> = BTreeMap::new();
    for event in events {
        let life = lives.entry(event.key.unwrap()).or_default();
        match event.kind {
            EventKind::Submit => life.queue.push(*event),
            EventKind::Commit => life.run.push(*event),
            EventKind::Complete => life.done.push(*event),
            _ => {}
        }
    }
    lives
}
