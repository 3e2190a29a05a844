//! Two files made one, each a recording or a trace of another tool: offsets are found in both directions or in none, events come out in
//! order of time, and each of them once or counted.
#![no_main]

use gpuscope_model::trace::{Event, TraceNames};
use gpuscope_trace::foreign::perf_data::{Item as PerfItem, PerfData};
use gpuscope_trace::foreign::perfetto::{Item as PerfettoItem, PerfettoTrace};
use gpuscope_trace::foreign::text::TextTrace;
use gpuscope_trace::foreign::trace_dat::TraceDat;
use gpuscope_trace::foreign::{Kind, detect};
use gpuscope_trace::merge::{Landmarks, Naming, Telling, Window};
use gpuscope_trace::recording::{Item, Recording};
use gpuscope_trace::{Decoder, EventFormat, RawRecord};
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use std::path::Path;

/// Events that are taken of each: what is packed a thousandfold is read for long.
const MOST: usize = 5_000;

// The first two bytes say how long the first file is.
fuzz_target!(|input: &[u8]| {
    let Some((length, files)) = input.split_first_chunk::<2>() else { return };
    let (first, second) = files.split_at(files.len().min(usize::from(u16::from_le_bytes(*length))));
    let files = [read(first), read(second)];
    let [a, b] = [0, 1].map(|at| &files[at].landmarks);
    let there = a.offset_to(b);
    assert_eq!(there.is_some(), b.offset_to(a).is_some());
    if let Some(found) = there {
        assert!(
            found.agreeing <= found.compared.saturating_mul(32) && (!found.is_sure() || found.agreeing >= 8),
            "{found:?}"
        );
    }
    merge(&files, Window::new(2));
    let is_mixed = input.len() % 2 == 0;
    let telling = |is_text| Telling { machine: usize::from(is_text && is_mixed), best: Naming::Fence, is_text };
    merge(&files, Window::with_other_names(files.iter().map(|file| telling(file.is_text)).collect()));
});

fn merge(files: &[File; 2], mut window: Window) {
    let mut all: Vec<(usize, Event)> =
        files.iter().enumerate().flat_map(|(at, file)| file.events.iter().map(move |event| (at, *event))).collect();
    all.sort_by_key(|(_, event)| event.at_ns);
    let (mut given, mut last_ns) = (0_u64, 0);
    let mut take = |trace: usize, event: &Event| {
        assert!(trace < 2 && event.at_ns >= last_ns, "out of order");
        (given, last_ns) = (given + 1, event.at_ns);
    };
    for (trace, event) in &all {
        window.put(*trace, *event, &mut take);
    }
    window.finish(&mut take);
    let left_out: u64 = window.other_names().iter().map(|of| of.left_out).sum();
    let twice: u64 = window.told_twice().iter().sum();
    assert_eq!(given + twice + left_out, all.len() as u64, "{twice} twice, {left_out} left out");
}

#[derive(Default)]
struct File {
    events: Vec<Event>,
    landmarks: Landmarks,
    is_text: bool,
}

impl File {
    fn take(&mut self, event: Option<&Event>, names: &TraceNames) {
        if let Some(event) = event.filter(|_| self.events.len() < MOST) {
            self.events.push(*event);
            self.landmarks.event(event, names);
        }
    }

    fn record(&mut self, record: RawRecord<'_>, decoder: &mut Decoder) {
        let event = decoder.decode(record);
        self.take(event.as_ref(), decoder.names());
    }
}

/// What is not understood is passed over.
fn add(decoder: &mut Decoder, format: &EventFormat) {
    decoder.add_format(format);
}

fn read(bytes: &[u8]) -> File {
    let (path, mut file, mut decoder) = (Path::new("fuzzed"), File::default(), Decoder::new());
    match detect(&bytes[..bytes.len().min(1024)]) {
        Some(Kind::Perfetto) => {
            let Ok(mut trace) = PerfettoTrace::read(path, Box::new(bytes.to_vec())) else { return file };
            for _ in 0..2 * MOST {
                match trace.next_item() {
                    Some(PerfettoItem::Record(record)) => file.record(record, &mut decoder),
                    Some(PerfettoItem::Format(format)) => add(&mut decoder, format),
                    Some(PerfettoItem::Task { tid, pid, comm }) => decoder.set_task(tid, pid, comm),
                    Some(PerfettoItem::Lost) => {}
                    None => break,
                }
            }
        }
        Some(Kind::PerfData) => {
            let Ok(mut trace) = PerfData::read(path, Box::new(bytes.to_vec())) else { return file };
            trace.formats().iter().for_each(|format| add(&mut decoder, format));
            for _ in 0..2 * MOST {
                match trace.next_item() {
                    Some(PerfItem::Record(record)) => file.record(record, &mut decoder),
                    Some(PerfItem::Task { tid, pid, comm }) => decoder.set_task(tid, pid, comm),
                    Some(PerfItem::Lost) => {}
                    None => break,
                }
            }
        }
        Some(Kind::TraceDat) => {
            let Ok(mut trace) = TraceDat::read(path, Box::new(bytes.to_vec())) else { return file };
            trace.formats().iter().for_each(|format| add(&mut decoder, format));
            for _ in 0..2 * MOST {
                let Some((_, record)) = trace.next_record() else { break };
                file.record(record, &mut decoder);
            }
        }
        Some(Kind::Text) => {
            let mut reader = TextTrace::new();
            file.is_text = true;
            for line in String::from_utf8_lossy(bytes).lines().take(2 * MOST) {
                let event = reader.line(line);
                file.take(event.as_ref(), reader.names());
            }
        }
        _ => {
            let Ok(recording) = Recording::from_reader(Cursor::new(bytes), path) else { return file };
            let _ = recording.items(|item| match item {
                Item::Record(record) => file.record(record, &mut decoder),
                Item::Format(format) => add(&mut decoder, format),
                Item::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
                Item::Dropped { .. } | Item::Mark { .. } | Item::Round(_) => {}
            });
        }
    }
    file
}
