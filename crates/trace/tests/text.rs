//! Text that trace-cmd and tracefs wrote: the same events as the records say that it was made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod cuts;

use cuts::cuts;
use gpuscope_model::trace::{Event, EventKind, TraceNames};
use gpuscope_trace::Decoder;
use gpuscope_trace::foreign::text::TextTrace;
use gpuscope_trace::foreign::trace_dat::TraceDat;
use gpuscope_trace::foreign::{Kind, detect};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read(name: &str) -> (Vec<Event>, TextTrace) {
    let bytes = std::fs::read(path(name)).unwrap();
    assert_eq!(detect(&bytes[..1024]), Some(Kind::Text));
    let mut text = TextTrace::new();
    let mut events = Vec::new();
    text.read(bytes.as_slice(), |event| events.push(event)).unwrap();
    assert_eq!((text.unreadable(), text.passed_over(), text.lost()), (0, 0, 0), "{name}");
    (events, text)
}

/// An event with its names spelt out: their numbers are each reader's own. The idle threads have no name in records.
fn spelt(event: &Event, names: &TraceNames) -> String {
    let comm = if event.tid == 0 { "" } else { names.get(event.comm) };
    let ring = event.ring.map(|ring| names.get_ring(ring).unwrap());
    format!("{:?} {comm} {ring:?}", Event { comm: Default::default(), ring: None, ..*event })
}

#[test]
fn the_report_of_trace_cmd_says_what_the_records_say() {
    for (report, file) in [("v6-6.12.report", "v6-6.12.dat"), ("v7-zlib-7.2.report", "v7-zlib-7.2.dat")] {
        let (events, text) = read(report);
        let mut file = TraceDat::open(&path(file)).unwrap();
        let mut decoder = Decoder::new();
        for format in file.formats() {
            decoder.add_format(format);
        }
        for (tid, comm) in file.tasks().to_vec() {
            decoder.set_task(tid, 0, &comm);
        }
        let mut records = Vec::new();
        while let Some((_, record)) = file.next_record() {
            records.extend(decoder.decode(record));
        }
        assert_eq!(events.len(), records.len());
        for (event, record) in events.iter().zip(&records) {
            assert_eq!(spelt(event, text.names()), spelt(record, decoder.names()), "{report}");
        }
    }
}

#[test]
fn text_of_tracefs_has_the_jobs_that_the_load_ran() {
    let (events, text) = read("tracefs-6.1.txt");
    let mut counts: BTreeMap<EventKind, u64> = BTreeMap::new();
    for event in &events {
        *counts.entry(event.kind).or_default() += 1;
    }
    // The loads said that they ran 9 and 10 jobs.
    let each = [EventKind::Submit, EventKind::Commit, EventKind::Complete];
    assert_eq!(counts, each.map(|kind| (kind, 19)).into());
    let submits = events.iter().filter(|event| event.kind == EventKind::Submit);
    let mut by_thread: BTreeMap<u32, u64> = BTreeMap::new();
    submits.for_each(|event| *by_thread.entry(event.tid).or_default() += 1);
    assert_eq!(by_thread, [(135, 10), (136, 9)].into());
    // `record-tgid` had been switched off again when the text was read.
    assert!(events.iter().all(|event| event.pid == 0));
    assert_eq!(text.names().rings().len(), 1, "text of old kernels has no device");
}

#[test]
fn cut_text_has_the_events_of_its_whole_lines() {
    for name in ["v6-6.12.report", "v7-zlib-7.2.report", "tracefs-6.1.txt"] {
        let whole = std::fs::read(path(name)).unwrap();
        let (all, names) = read(name);
        let all: Vec<String> = all.iter().map(|event| spelt(event, names.names())).collect();
        for length in cuts(whole.len()) {
            let (mut text, mut events) = (TextTrace::new(), Vec::new());
            text.read(&whole[..length], |event| events.push(event)).unwrap();
            let told: Vec<String> = events.iter().map(|event| spelt(event, text.names())).collect();
            // What is left of the last line may be a line, too: without its last fields, or with a number cut short.
            let is_last_whole = told.last() == told.len().checked_sub(1).and_then(|last| all.get(last));
            let intact = if is_last_whole { told.len() } else { told.len().saturating_sub(1) };
            assert_eq!(told[..intact], all[..intact], "{name} cut at {length}");
            let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            let after = whole[..length].split(|byte| *byte == b'\n').take(lines);
            let mut again = TextTrace::new();
            let mut whole_lines = 0;
            again.read(after.collect::<Vec<_>>().join(&b'\n').as_slice(), |_| whole_lines += 1).unwrap();
            assert!(told.len() == whole_lines || told.len() == whole_lines + 1, "{name} cut at {length}");
        }
    }
}
