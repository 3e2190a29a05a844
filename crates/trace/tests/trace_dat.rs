//! `trace.dat` files that trace-cmd wrote: the same as `trace-cmd report` says, and of a cut one what is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod cuts;

use cuts::cuts;
use gpuscope_model::trace::{Event, EventKind};
use gpuscope_trace::Decoder;
use gpuscope_trace::foreign::ForeignError;
use gpuscope_trace::foreign::trace_dat::TraceDat;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn of(bytes: &[u8]) -> Result<TraceDat, ForeignError> {
    TraceDat::read(Path::new("cut.dat"), Box::new(bytes.to_vec()))
}

/// A record kept.
type Kept = (u64, u16, Vec<u8>);

fn records(file: &mut TraceDat) -> Vec<Kept> {
    let mut all = Vec::new();
    while let Some((_, record)) = file.next_record() {
        all.push((record.at_ns, record.cpu, record.data.to_vec()));
    }
    all
}

fn events(file: &mut TraceDat) -> (Vec<Event>, Decoder) {
    let mut decoder = Decoder::new();
    let known = file.formats().to_vec();
    assert!(known.iter().filter(|format| decoder.add_format(format)).count() >= 3);
    for (tid, comm) in file.tasks().to_vec() {
        decoder.set_task(tid, 0, &comm);
    }
    let mut events = Vec::new();
    while let Some((_, record)) = file.next_record() {
        events.extend(decoder.decode(record));
    }
    assert_eq!(decoder.unreadable(), 0);
    (events, decoder)
}

/// A file, its version, its tool, the clock of its records, how many of each kind there are, and the first and last time, as trace-cmd's
/// own report has them.
type Expected = (&'static str, u32, &'static str, Option<&'static str>, u64, u64, u64);

const FILES: [Expected; 7] = [
    ("v6-6.12.dat", 6, "3.1.6", Some("mono"), 94, 18_286_309_898, 18_839_410_029),
    ("v6-instance-7.2.dat", 6, "3.4.0", None, 100, 28_414_637_889, 28_915_523_494),
    ("v7-instance-7.2.dat", 7, "3.1.6", Some("local"), 100, 20_990_719_445, 21_519_000_798),
    ("v7-zstd-6.12.dat", 7, "3.1.6", Some("mono"), 78, 26_381_166_324, 26_924_778_428),
    ("v7-zlib-7.2.dat", 7, "3.4.0", Some("mono"), 90, 23_112_842_490, 23_635_742_380),
    ("v7-zstd-local-7.2.dat", 7, "3.4.0", Some("local"), 100, 27_215_754_939, 27_709_930_655),
    ("v7-tsc-6.12.dat", 7, "3.1.6", Some("tsc2nsec"), 100, 79_994_613_758, 80_495_681_766),
];

#[test]
fn files_have_the_jobs_that_trace_cmd_reports() {
    for (name, version, tool, clock, jobs, first, last) in FILES {
        let mut file = TraceDat::open(&path(name)).unwrap();
        assert_eq!(file.version(), version, "{name}");
        assert!(file.tool().unwrap().starts_with(tool), "{name}: {:?}", file.tool());
        let release = if name.contains("6.12") { "6.12.95+deb12" } else { "7.2.13+deb14" };
        assert!(file.uname().unwrap().contains(release));
        assert_eq!(file.unreadable_formats(), 0);
        let buffer = file.buffers().last().unwrap();
        assert_eq!(buffer.clock.as_deref(), clock, "{name}");
        assert_eq!(buffer.is_monotonic(), clock == Some("mono"));
        assert_eq!(buffer.instance, if name.contains("instance") { "side" } else { "" });

        let (events, decoder) = events(&mut file);
        assert_eq!(file.faults(), []);
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
        let rings = if release.starts_with("7.2") { 2 } else { 1 };
        assert_eq!(decoder.names().rings().len(), rings, "{name}");
        let submitters = events.iter().filter(|event| event.kind == EventKind::Submit);
        assert!(submitters.map(|event| decoder.names().get(event.comm)).all(|comm| comm == "vgpu-load"), "{name}");
        assert_eq!(file.lost().counted, Some(0), "{name}");
        assert_eq!((file.lost().before_pages, file.lost().uncounted_gaps), (0, 0), "{name}");
    }
}

#[test]
fn a_cut_file_keeps_what_is_whole_and_says_where_it_ends() {
    for (name, ..) in FILES {
        let whole = bytes(name);
        let mut file = of(&whole).unwrap();
        let all = records(&mut file);
        let mut most = 0;
        for length in cuts(whole.len()) {
            let Ok(mut file) = of(&whole[..length]) else {
                assert!(length < 64, "{name} cut at {length} has a head");
                continue;
            };
            let left = records(&mut file);
            // Behind the records of version 7 stand the descriptions of its sections, which nobody needs.
            assert!(!file.faults().is_empty() || left == all, "{name} cut at {length} is said to be whole");
            // Each processor's records are the first ones that it has in the whole file. Numbers of processors, and the factor of the
            // TSC, may stand behind the cut.
            if !name.contains("tsc") {
                let mut rest = all.iter();
                let mut by_cpu: BTreeMap<u16, Vec<&Kept>> = BTreeMap::new();
                left.iter().for_each(|record| by_cpu.entry(record.1).or_default().push(record));
                assert!(
                    left.iter().all(|record| rest.any(|other| other.0 == record.0 && other.2 == record.2)),
                    "{name} at {length}"
                );
                for (cpu, of_cpu) in by_cpu {
                    let mut rest = all.iter().filter(|record| record.1 == cpu);
                    assert!(of_cpu.iter().all(|record| rest.next() == Some(record)), "{name} cut at {length}, {cpu}");
                }
            }
            most = most.max(left.len());
        }
        assert!(most * 2 > all.len(), "{name}: at most {most} of {} records were left", all.len());
    }
}

#[test]
fn a_clock_that_is_behind_the_cut_is_not_guessed() {
    let whole = bytes("v7-instance-7.2.dat");
    let mut file = of(&whole[..49_000]).unwrap();
    // The uppermost buffer, which is empty, and what was found behind it.
    assert_eq!(file.buffers().len(), 2);
    assert_eq!((file.buffers()[1].clock.as_deref(), file.buffers()[1].is_monotonic()), (None, false));
    assert!(
        file.faults()[0].to_string().starts_with("cut off at byte 49000: options: the clock"),
        "{:?}",
        file.faults()
    );
    assert!(records(&mut file).len() > 200);
}

#[test]
fn other_files_are_refused_by_name() {
    let refused = |bytes: &[u8]| of(bytes).unwrap_err().to_string();
    assert_eq!(refused(b"PERFILE2\x68\0\0\0\0\0\0\0"), "cut.dat: a perf.data; it is no trace.dat of trace-cmd");
    assert!(refused(b"hello").starts_with("cut.dat: no trace.dat of trace-cmd; "));
    let head = |version: &[u8], big_endian, long_size| {
        [b"\x17\x08\x44tracing", version, &[0, big_endian, long_size, 0, 0x10, 0, 0]].concat()
    };
    assert!(refused(&head(b"6", 1, 8)).contains("a trace.dat of a big-endian machine; "));
    assert!(refused(&head(b"6", 0, 4)).contains("longs of 32 bits; "));
    assert!(refused(&head(b"8", 0, 8)).contains("a trace.dat of version 8; "));
    let packed = [head(b"7", 0, 8).as_slice(), b"lzma\x001\0", &[0; 8]].concat();
    assert!(refused(&packed).contains("packed with lzma; convert it"));
    let missing = TraceDat::open(Path::new("/nowhere/trace.dat")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/trace.dat: "), "{missing}");
}
