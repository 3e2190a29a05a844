//! `perf.data` files that perf wrote: the same as `perf script` says, and of a cut one what is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod cuts;

use cuts::cuts;
use gpuscope_model::trace::{Event, EventKind};
use gpuscope_trace::Decoder;
use gpuscope_trace::foreign::ForeignError;
use gpuscope_trace::foreign::perf_data::{Item, Lost, PerfData};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE: &str = "perf-7.2.data";
const PIPE: &str = "perf-pipe-7.2.data";
const ZSTD: &str = "perf-zstd-6.12.data";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn of(bytes: &[u8]) -> Result<PerfData, ForeignError> {
    PerfData::read(Path::new("cut.data"), Box::new(bytes.to_vec()))
}

/// A record kept.
type Kept = (u64, u16, Vec<u8>);

fn records(file: &mut PerfData) -> Vec<Kept> {
    let mut all = Vec::new();
    while let Some(item) = file.next_item() {
        if let Item::Record(record) = item {
            all.push((record.at_ns, record.cpu, record.data.to_vec()));
        }
    }
    all
}

fn events(file: &mut PerfData) -> (Vec<Event>, Decoder) {
    let mut decoder = Decoder::new();
    let known = file.formats().to_vec();
    assert!(known.iter().filter(|format| decoder.add_format(format)).count() >= 3);
    let mut events = Vec::new();
    while let Some(item) = file.next_item() {
        match item {
            Item::Record(record) => events.extend(decoder.decode(record)),
            Item::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
            Item::Lost => panic!("something was lost"),
        }
    }
    assert_eq!(decoder.unreadable(), 0);
    (events, decoder)
}

/// A file, whether it is a pipe's, how many of each kind there are, and the first and last time, as `perf script --ns` has them.
const FILES: [(&str, bool, u64, u64, u64); 3] = [
    (FILE, false, 40, 37_072_567_872, 37_260_772_847),
    (PIPE, true, 40, 39_507_045_736, 39_719_666_544),
    (ZSTD, false, 40, 56_576_274_332, 56_767_599_335),
];

#[test]
fn files_have_the_jobs_that_perf_script_tells() {
    for (name, is_pipe, jobs, first, last) in FILES {
        let mut file = PerfData::open(&path(name)).unwrap();
        assert_eq!(file.is_pipe(), is_pipe, "{name}");
        assert!(file.has_tracepoints() && file.is_monotonic(), "{name}");
        assert_eq!((file.clock(), file.tool(), file.unreadable_formats()), (Some(1), Some("6.1.187"), 0), "{name}");
        let release = if name == ZSTD { "6.12.95+deb12-amd64" } else { "7.2.13+deb14-amd64" };
        assert_eq!(file.release(), Some(release));
        // The moment that both clocks are told of lies just ahead of the recording.
        let (monotonic_ns, realtime_ns) = file.started().unwrap();
        assert!(first - 2_000_000_000 < monotonic_ns && monotonic_ns < first, "{name}: {monotonic_ns}");
        assert!(realtime_ns > 1_795_000_000_000_000_000);

        let (events, decoder) = events(&mut file);
        assert_eq!(file.faults(), [], "{name}");
        assert_eq!(file.lost(), Lost::default(), "{name}");
        let mut counts: BTreeMap<EventKind, u64> = BTreeMap::new();
        for event in &events {
            *counts.entry(event.kind).or_default() += 1;
        }
        let each = [EventKind::Submit, EventKind::Commit, EventKind::Complete];
        assert_eq!(counts, each.map(|kind| (kind, jobs)).into(), "{name}");
        assert_eq!((events[0].at_ns, events.last().unwrap().at_ns), (first, last), "{name}");
        assert!(events.is_sorted_by_key(|event| event.at_ns), "{name}");
        assert!(events.iter().any(|event| event.cpu == 0) && events.iter().any(|event| event.cpu == 1), "{name}");
        // Two GPUs with rings of the same name, told apart where the records carry the device.
        assert_eq!(decoder.names().rings().len(), if name == ZSTD { 1 } else { 2 }, "{name}");
        let mut processes: BTreeMap<u32, u64> = BTreeMap::new();
        for event in events.iter().filter(|event| event.kind == EventKind::Submit) {
            assert_eq!(decoder.names().get(event.comm), "vgpu-load", "{name}");
            assert_eq!(event.pid, event.tid, "{name}");
            *processes.entry(event.pid).or_default() += 1;
        }
        assert_eq!(processes.values().collect::<Vec<_>>(), [&20, &20], "{name}");
    }
}

#[test]
fn a_cut_file_keeps_what_is_whole_and_says_where_it_ends() {
    for (name, is_pipe, ..) in FILES {
        let whole = bytes(name);
        let all = records(&mut of(&whole).unwrap());
        let mut most = 0;
        for length in cuts(whole.len()) {
            let Ok(mut file) = of(&whole[..length]) else {
                assert!(length < 104, "{name} cut at {length} has a head");
                continue;
            };
            let left = records(&mut file);
            let told = file.faults().iter().any(|fault| fault.is_cut);
            // A pipe may be cut between two records, and what perf wrote behind the last of ours says nothing of them.
            assert!(told || left == all || is_pipe && between_records(&whole, length), "{name} cut at {length}");
            let mut rest = all.iter();
            assert!(left.iter().all(|record| rest.any(|other| other == record)), "{name} cut at {length}");
            // Layouts stand behind the records of a file, and ahead of those of a pipe.
            assert!(is_pipe || told == file.formats().is_empty() || left == all, "{name} cut at {length}");
            most = most.max(left.len());
        }
        assert_eq!(most, all.len(), "{name}");
        // Half of a file has some of its records.
        let half = records(&mut of(&whole[..whole.len() - whole.len() / 4]).unwrap());
        assert!(name == ZSTD || !half.is_empty(), "{name}");
    }
}

/// Whether a record of a pipe begins there.
fn between_records(whole: &[u8], length: usize) -> bool {
    let mut at = 16;
    while at < length {
        let word = |at: usize| u32::from_ne_bytes(whole[at..at + 4].try_into().unwrap());
        // `HEADER_TRACING_DATA` says how much stands behind it.
        let behind = if word(at) == 66 { word(at + 8) as usize } else { 0 };
        at += usize::from(u16::from_ne_bytes([whole[at + 6], whole[at + 7]])) + behind;
    }
    at == length
}

#[test]
fn every_damaged_byte_leaves_a_file_that_is_read_to_its_end() {
    for (name, ..) in FILES {
        let mut whole = bytes(name);
        // One byte in five hundred, each set to all ones and to nothing.
        for at in (0..whole.len()).step_by(503) {
            let before = whole[at];
            for byte in [0, 0xff] {
                whole[at] = byte;
                if let Ok(mut file) = of(&whole) {
                    assert!(records(&mut file).len() <= whole.len(), "{name} at {at}");
                }
            }
            whole[at] = before;
        }
    }
}

/// A record as `perf` and the kernel begin it.
fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
    let head = [&kind.to_ne_bytes()[..], &misc.to_ne_bytes(), &(8 + body.len() as u16).to_ne_bytes()];
    [&head.concat(), body].concat()
}

/// A pipe's file with records behind its own.
fn pipe_and(records: &[Vec<u8>]) -> PerfData {
    of(&[bytes(PIPE), records.concat()].concat()).unwrap()
}

fn words(all: &[u64]) -> Vec<u8> {
    all.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn losses_are_counted_by_cause_and_once() {
    let lost = |records: &[Vec<u8>]| {
        let mut file = pipe_and(records);
        let mut gaps = 0;
        while let Some(item) = file.next_item() {
            gaps += u32::from(item == Item::Lost);
        }
        (file.lost(), gaps)
    };
    // `PERF_RECORD_LOST`: number of the event, count, and behind it what all records have (thread, time, processor, number).
    let told = |count| record(2, 0, &words(&[9, count, 0, 20_000_000_000, 0, 9]));
    assert_eq!(lost(&[told(3), told(4)]), (Lost { ring_full: 7, ..Lost::default() }, 2));
    // `PERF_RECORD_LOST_SAMPLES`, which perf writes in the end: the same, counted by event.
    let at_end = |misc, count| record(13, misc, &words(&[count, 0, 0, 0, 0]));
    assert_eq!(lost(&[told(3), at_end(0, 9)]), (Lost { ring_full: 9, ..Lost::default() }, 1));
    assert_eq!(lost(&[at_end(1 << 15, 5)]), (Lost { filtered: 5, ..Lost::default() }, 0));
    // Samples of an event that nothing describes, and one that is cut.
    let unknown = record(9, 0, &words(&[4711, 0, 0, 0, 0, 0]));
    assert_eq!(lost(&[unknown]), (Lost { unreadable: 1, ..Lost::default() }, 0));
}

/// The same file as perf 6.16 and later write it: `PERF_RECORD_COMPRESSED2` says how long its data is and is rounded up to eight.
#[test]
fn packed_records_of_both_kinds_are_the_same() {
    let whole = bytes(ZSTD);
    let word = |at: usize| u64::from_ne_bytes(whole[at..at + 8].try_into().unwrap());
    let (data, length) = (word(40) as usize, word(48) as usize);
    let (mut at, mut changed, mut packed) = (data, whole[..data].to_vec(), 0);
    while at < data + length {
        let size = usize::from(u16::from_ne_bytes([whole[at + 6], whole[at + 7]]));
        let body = &whole[at + 8..at + size];
        if whole[at..at + 4] == 81_u32.to_ne_bytes() {
            let mut longer = [&(body.len() as u64).to_ne_bytes()[..], body].concat();
            longer.resize(longer.len().next_multiple_of(8), 0xee);
            changed.extend(record(83, 0, &longer));
            packed += 1;
        } else {
            changed.extend(&whole[at..at + size]);
        }
        at += size;
    }
    assert!(packed > 0);
    // The features move.
    let moved = changed.len() - at;
    changed[48..56].copy_from_slice(&((length + moved) as u64).to_ne_bytes());
    let sections = changed.len();
    changed.extend(&whole[at..]);
    let features: u32 = whole[72..104].iter().map(|byte| byte.count_ones()).sum();
    for feature in 0..features as usize {
        let place = sections + feature * 16;
        let to = u64::from_ne_bytes(changed[place..place + 8].try_into().unwrap()) + moved as u64;
        changed[place..place + 8].copy_from_slice(&to.to_ne_bytes());
    }
    let mut file = of(&changed).unwrap();
    assert_eq!(records(&mut file), records(&mut of(&whole).unwrap()));
    assert_eq!((file.faults(), file.formats().len()), (&[][..], of(&whole).unwrap().formats().len()));
}

#[test]
fn other_files_are_refused_by_name() {
    let refused = |bytes: &[u8]| of(bytes).unwrap_err().to_string();
    let swapped = refused(b"2ELIFREP\0\0\0\0\0\0\0\x68");
    assert!(swapped.starts_with("cut.data: a perf.data of a big-endian machine; "), "{swapped}");
    assert!(refused(b"PERFFILE\x68\0\0\0\0\0\0\0").contains("first version"));
    assert!(refused(b"PERFILE2\x68\0\0").contains("cut off in its head"));
    assert_eq!(refused(b"\x17\x08\x44tracing6\0\0\x08"), "cut.data: a trace.dat of trace-cmd; it is no perf.data");
    assert!(refused(b"hello").starts_with("cut.data: no perf.data; "));
    let missing = PerfData::open(Path::new("/nowhere/perf.data")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/perf.data: "), "{missing}");
}
