//! A capture by BPF with what it gave so far, and the jobs that its events tell of.

use gpuscope_model::trace::{Event, EventKind, Family, JobKey};
use gpuscope_sys::Roots;
use gpuscope_testbed::{Gpu, Load};
use gpuscope_trace::capture::bpf::BpfCapture;
use gpuscope_trace::capture::settings::Settings;
use gpuscope_trace::capture::{Capture, CaptureError, Wanted};
use gpuscope_trace::{Decoder, RawRecord};
use std::collections::BTreeMap;
use std::time::Duration;

fn wanted(buffer_bytes: usize) -> Wanted {
    Wanted { families: vec![Family::DrmSched], buffer_bytes }
}

/// A capture with what it gave so far.
pub struct Recorded {
    pub capture: BpfCapture,
    pub decoder: Decoder,
    pub events: Vec<Event>,
}

impl Recorded {
    pub fn open(buffer_bytes: usize, settings: &Settings) -> Result<Recorded, CaptureError> {
        let capture = BpfCapture::open(&Roots::host(), &wanted(buffer_bytes), settings)?;
        let mut decoder = Decoder::new();
        for format in capture.formats() {
            assert!(decoder.add_format(format), "{}", format.name);
        }
        Ok(Recorded { capture, decoder, events: Vec::new() })
    }

    pub fn drain(&mut self) -> u64 {
        let (decoder, events) = (&mut self.decoder, &mut self.events);
        let mut sink = |record: RawRecord<'_>| events.extend(decoder.decode(record));
        let drained = self.capture.drain(&mut sink).unwrap();
        drained.until_ns
    }

    /// Drains while the loads go on and until all is told; every record must come before its time is promised to be over.
    pub fn follow(&mut self, loads: Vec<Load>) -> Vec<(bool, String)> {
        let waiting = std::thread::spawn(move || loads.into_iter().map(Load::wait).collect());
        let mut promised = 0;
        let mut rounds_after = 0;
        while rounds_after < 30 {
            let seen = self.events.len();
            let until = self.drain();
            let early = self.events[seen..].iter().find(|e| e.at_ns < promised);
            assert_eq!(early, None, "promised {promised}");
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
