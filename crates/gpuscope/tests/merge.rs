//! `gpuscope trace merge`: recordings that this test writes, and files that trace-cmd and perf wrote.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod common;

use common::{complaint, gpuscope, stdout, valid_lines};
use gpuscope_model::trace::{Dropped, Event, EventKind, Family, JobKey, TraceNames};
use gpuscope_sys::Roots;
use gpuscope_trace::capture::Backend;
use gpuscope_trace::recording::{CreateOptions, Header, Recording, RecordingFile};
use gpuscope_trace::{RecordSink as _, Retold};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../trace/tests/fixtures");

/// Half past a day of 2026, when recordings here begin: at 1 s of their clocks.
const DAY_NS: u64 = 1_790_000_000_000_000_000;

/// A recording to be written.
struct Made {
    boot: &'static str,
    host: &'static str,
    /// The time of day of its clock's first second.
    day_ns: Option<u64>,
    gpu: &'static str,
    /// Of the first job; each other one has the next seqno.
    key: JobKey,
    tid: u32,
    pid: u32,
    comm: &'static str,
    /// When the first job is submitted; each other one comes about 3 ms later.
    from_us: u64,
    jobs: u64,
    /// Of so many jobs, one is recorded.
    sampled: u64,
    /// What is added to all times.
    shift_us: i64,
}

const MADE: Made = Made {
    boot: "boot-a",
    host: "alpha",
    day_ns: Some(DAY_NS),
    gpu: "0000:03:00.0",
    key: JobKey::Fence { context: 9, seqno: 1 },
    tid: 11,
    pid: 10,
    comm: "game",
    from_us: 100,
    jobs: 10,
    sampled: 1,
    shift_us: 0,
};

impl Made {
    fn write(&self, path: &Path) -> PathBuf {
        self.write_with(path, |_| {})
    }

    fn write_with(&self, path: &Path, more: impl FnOnce(&mut RecordingFile)) -> PathBuf {
        let mut header = Header::begin(&Roots::at(path.parent().unwrap()), "gpuscope test", Backend::Bpf);
        (header.boot_id, header.host) = (self.boot.into(), self.host.into());
        header.started.monotonic_ns = 1_000_000_000_u64.checked_add_signed(self.shift_us * 1_000).unwrap();
        header.started.realtime_ns = self.day_ns;
        header.gpus = vec![(self.gpu.into(), "amdgpu".into())];
        let mut file = RecordingFile::create(path, header, &[], CreateOptions::default()).unwrap();
        let (mut retold, mut names) = (Retold::new(), TraceNames::default());
        let (ring, comm) = (names.ring(Some(self.gpu), "gfx"), names.text(self.comm));
        for n in (0..self.jobs).filter(|n| n.is_multiple_of(self.sampled)) {
            let key = match self.key {
                JobKey::Fence { context, seqno } => JobKey::Fence { context, seqno: seqno + n },
                JobKey::Address(address) => JobKey::Address(address + n % 3 * 256),
                key => key,
            };
            // A job is not as long after the one before as the next one is after it, so that a wrong offset is not right for other jobs.
            let turn = n + (self.from_us - 100) / 3_000;
            let (later, long) = (turn * turn * 137 % 1_700, 1_020 + turn * 37);
            let times = [later, later + 20, later + long];
            for (kind, at_us) in [EventKind::Submit, EventKind::Commit, EventKind::Complete].into_iter().zip(times) {
                let at_us = (1_000_000 + self.from_us + n * 3_000 + at_us).checked_add_signed(self.shift_us).unwrap();
                let is_submit = kind == EventKind::Submit;
                let event = Event {
                    at_ns: at_us * 1_000,
                    kind,
                    family: Family::DrmSched,
                    cpu: 0,
                    tid: if is_submit { self.tid } else { 99 },
                    pid: if is_submit { self.pid } else { 0 },
                    comm,
                    ring: (kind != EventKind::Complete).then_some(ring),
                    key: Some(key),
                    other: None,
                    client: None,
                    value: None,
                };
                let (format, record) = retold.record(&event, &names);
                if let Some(format) = format {
                    file.format(format).unwrap();
                }
                file.record(record);
            }
        }
        more(&mut file);
        file.round(3_000_000_000).unwrap();
        file.finish().unwrap();
        path.to_path_buf()
    }
}

/// Merges, and gives what was said.
#[track_caller]
fn merge(out: &Path, args: &[&str], files: &[&Path]) -> String {
    let mut command = gpuscope();
    command.args(["trace", "merge", "-o"]).arg(out).args(args).args(files);
    let done = command.output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && done.stdout.is_empty(), "{command:?}: {said}");
    assert!(said.lines().all(|line| line.starts_with("gpuscope: ")), "{said}");
    said
}

/// The report of a file, and its jobs.
#[track_caller]
fn report(file: &Path) -> (Value, Vec<Value>) {
    let mut lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--jobs", "--json"]).arg(file)));
    (lines.pop().unwrap(), lines)
}

#[track_caller]
fn refused(args: &[&str], files: &[&Path], out: &Path) -> String {
    let (status, line) = complaint(gpuscope().args(["trace", "merge", "-o"]).arg(out).args(args).args(files));
    assert_eq!(status, 1, "{line}");
    line
}

fn source<'a>(report: &'a Value, name: &str) -> &'a Value {
    let sources = report["sources"].as_array().unwrap();
    sources.iter().find(|of| of["source"] == name).unwrap_or_else(|| panic!("{name}: {sources:#?}"))
}

#[test]
fn recordings_of_different_jobs_become_one_with_the_jobs_notes_and_losses_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let a = MADE.write_with(&at("a"), |file| {
        file.mark(1_005_000_000, "stuck: a job").unwrap();
        file.dropped(1_006_000_000, Dropped { sampled_out: 5, ring_full: 2, ..Dropped::default() }).unwrap();
    });
    let other = Made {
        gpu: "0000:04:00.0",
        key: JobKey::Fence { context: 12, seqno: 1 },
        tid: 21,
        pid: 20,
        comm: "trainer",
        ..MADE
    };
    let b = other.write_with(&at("b"), |file| {
        file.dropped(1_006_000_000, Dropped { ring_full: 3, missed: 1, ..Dropped::default() }).unwrap();
    });
    let said = merge(&at("c"), &[], &[&a, &b]);
    assert_eq!(said, format!("gpuscope: {}: 60 events of 2 traces\n", at("c").display()));
    let (told, jobs) = report(&at("c"));
    // In order of their ends, each as it was.
    let mut single = report(&a).1;
    single.extend(report(&b).1);
    single.sort_by_key(|job| job["done_ns"].as_u64());
    assert_eq!(jobs, single);
    assert_eq!((&told["dropped"]["ring_full"], &told["dropped"]["missed"]), (&5.into(), &1.into()));
    assert_eq!(told["dropped"]["sampled_out"], 5);
    assert_eq!((&told["note_count"], &told["notes"][0]["text"]), (&1.into(), &"a: stuck: a job".into()));
    assert_eq!(told["notes"][0]["monotonic_ns"], 1_005_000_000);
    assert_eq!(told["settings"], serde_json::json!([]));
    let detail = source(&told, "merged trace b")["detail"].as_str().unwrap();
    assert!(detail.contains("30 events") && detail.contains("on the same clock"), "{detail}");
    assert!(detail.ends_with("not recorded: ring_full 3, missed 1"), "{detail}");
    // What the file says of itself.
    let recording = Recording::open(at("c")).unwrap();
    let merged = &recording.header().merged;
    assert_eq!((merged[1].file.as_str(), merged[1].events, merged[1].offset_from.as_str()), ("b", 30, "same_clock"));
    assert_eq!((merged[0].dropped["ring_full"], merged[0].dropped["sampled_out"]), (2, 5));
    assert_eq!(recording.header().started.realtime_ns, Some(DAY_NS));
    let drivers: Vec<_> = recording.header().gpus.iter().map(|(gpu, _)| gpu.as_str()).collect();
    assert_eq!(drivers, ["0000:03:00.0", "0000:04:00.0"]);
    // What was merged is merged again.
    merge(&at("d"), &[], &[&at("c")]);
    assert_eq!(report(&at("d")).1, jobs);
}

#[test]
fn what_two_traces_tell_of_is_kept_once_and_a_shifted_one_is_brought_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let a = Made { jobs: 12, ..MADE }.write(&at("a"));
    // It began later, ended later, says 5 ms too much, and does not tell its boot.
    let late = Made { key: JobKey::Fence { context: 9, seqno: 4 }, from_us: 9_100, pid: 0, shift_us: 5_000, ..MADE };
    let b = Made { boot: "", ..late }.write(&at("b"));
    let said = merge(&at("c"), &[], &[&a, &b]);
    assert!(said.contains("b: offset -5ms from 27 of 27 events that a has, too; spread 0ns"), "{said}");
    assert!(said.contains("it says that it is on the same clock, and not of which boot"), "{said}");
    assert!(said.contains("b: 27 of its 30 events stand in a trace named before, too: kept once"), "{said}");
    let (told, jobs) = report(&at("c"));
    assert_eq!((jobs.len(), &told["events"]["SUBMIT"]), (13, &13.into()));
    assert_eq!(jobs[..12], report(&a).1);
    assert!(jobs[12..].iter().all(|job| job["pid"] == 10), "the process of a thread is known of the other trace");
    let recording = Recording::open(at("c")).unwrap();
    let merged = &recording.header().merged[1];
    assert_eq!((merged.agreeing_events, merged.compared_events), (Some(27), Some(27)));
    assert_eq!((merged.offset_from.as_str(), merged.offset_ns, merged.spread_ns), ("estimated", -5_000_000, Some(0)));
    // What is given is kept, and what contradicts it is said.
    let said = merge(&at("c"), &["--clock-offset", "b=-1ms"], &[&a, &b]);
    assert!(
        said.contains("b: the offset -1ms that was given is kept, and 27 events that stand in a, too, say -5ms"),
        "{said}"
    );
    let said = merge(&at("c"), &["--clock-offset", "2=-5ms"], &[&a, &b]);
    assert!(!said.contains("given"), "{said}");
    assert_eq!(Recording::open(at("c")).unwrap().header().merged[1].offset_from, "given");
    // One alone is moved.
    merge(&at("e"), &["--clock-offset", "a=+5ms"], &[&a]);
    let moved = report(&at("e")).1;
    let submit = |job: &Value| job["submit_ns"].as_u64().unwrap();
    assert_eq!(submit(&moved[0]), submit(&jobs[0]) + 5_000_000);
}

#[test]
fn the_monotonic_clock_of_one_boot_is_kept_whatever_common_events_say() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let a = MADE.write(&at("a"));
    let b = Made { shift_us: 5_000, ..MADE }.write(&at("b"));
    let said = merge(&at("c"), &[], &[&a, &b]);
    assert!(
        said.contains("b: it is on the same clock of the same boot, so that nothing is added, but 30 events"),
        "{said}"
    );
    assert!(
        said.contains("say -5ms; if one of the two was moved, give the offset with --clock-offset b=TIME"),
        "{said}"
    );
    let placed = |n: usize| {
        let recording = Recording::open(at("c")).unwrap();
        let merged = &recording.header().merged;
        (merged[n].offset_from.clone(), merged[n].offset_ns)
    };
    assert_eq!(placed(1), ("same_clock".into(), 0));
    // What is given for one is that one's alone.
    merge(&at("c"), &["--clock-offset", "a=+5ms"], &[&a, &b]);
    assert_eq!((placed(0), placed(1)), (("given".into(), 5_000_000), ("same_clock".into(), 0)));
    // Two of one boot stay together where both are moved to the clock of one that does not tell its own.
    let none = Made { boot: "", shift_us: -2_000, ..MADE }.write(&at("none"));
    let same = Made { key: JobKey::Fence { context: 12, seqno: 1 }, comm: "trainer", ..MADE }.write(&at("same"));
    let said = merge(&at("c"), &[], &[&none, &a, &same]);
    assert!(said.contains("a: offset -2ms from 30 of 30 events"), "{said}");
    assert_eq!((placed(1), placed(2)), (("estimated".into(), -2_000_000), ("same_clock".into(), -2_000_000)));
}

#[test]
fn of_several_machines_nothing_is_mixed_up() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let a = MADE.write(&at("a"));
    // The same numbers of everything, half a second later by the time of day.
    let other = Made { boot: "boot-b", host: "beta", day_ns: Some(DAY_NS + 500_000_000), ..MADE };
    let b = other.write(&at("b"));
    let said = merge(&at("c"), &[], &[&a, &b]);
    assert!(said.contains("b: it is of another boot or machine (beta): placed by the time of day"), "{said}");
    let (told, jobs) = report(&at("c"));
    assert_eq!(jobs.len(), 20);
    let rings: Vec<_> = told["rings"].as_array().unwrap().iter().map(|ring| (&ring["gpu"], &ring["jobs"])).collect();
    assert_eq!(rings, [(&"alpha/0000:03:00.0".into(), &10.into()), (&"beta/0000:03:00.0".into(), &10.into())]);
    let (here, there) = (&jobs[0], &jobs[10]);
    assert_eq!((&here["context"], &here["tid"], &here["pid"]), (&9.into(), &11.into(), &10.into()));
    assert_eq!(
        (&there["context"], &there["tid"], &there["pid"]),
        (&1_000_000_009_u64.into(), &10_000_011.into(), &10_000_010.into())
    );
    assert_eq!(there["submit_ns"].as_u64().unwrap(), here["submit_ns"].as_u64().unwrap() + 500_000_000);
    // Without a time of day nothing tells how the clocks stand to each other.
    let c = Made { day_ns: None, ..other }.write(&at("none"));
    let line = refused(&[], &[&a, &c], &at("d"));
    assert!(line.contains("of another boot or machine (beta)") && line.contains("--clock-offset none=TIME"), "{line}");
    merge(&at("d"), &["--clock-offset", "none=-20ms"], &[&a, &c]);
    assert_eq!(report(&at("d")).1.len(), 20);
}

#[test]
fn jobs_that_are_named_in_two_ways_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let a = MADE.write(&at("a"));
    let by_address = Made { key: JobKey::Address(0xffff_8881_0000_1000), ..MADE };
    let b = by_address.write(&at("b"));
    for files in [[&a, &b], [&b, &a]] {
        let said = merge(&at("c"), &[], &files.map(PathBuf::as_path));
        assert!(
            said.contains("b: 30 events of the DRM scheduler stand in a trace that names their jobs better, too"),
            "{said}"
        );
        assert!(!said.contains("in no trace"), "{said}");
        assert_eq!(report(&at("c")).1, report(&a).1);
    }
    // Of another time they are all there is.
    let later = Made { from_us: 2_100_000, ..by_address }.write(&at("later"));
    merge(&at("c"), &[], &[&a, &later]);
    assert_eq!(report(&at("c")).1.len(), 20);
    // Where that one has a part of the jobs, the others are told as this one has them, and it is said.
    let half = Made { sampled: 2, ..MADE }.write(&at("half"));
    let said = merge(&at("c"), &[], &[&half, &b]);
    for words in [
        "b: 15 events of the DRM scheduler stand in a trace that names",
        "b: 15 events of the DRM scheduler name jobs by addresses",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let (told, jobs) = report(&at("c"));
    let times = |jobs: &[Value]| -> Vec<_> {
        jobs.iter().map(|job| (job["submit_ns"].clone(), job["done_ns"].clone())).collect()
    };
    assert_eq!(times(&jobs), times(&report(&a).1));
    assert!(jobs.iter().enumerate().all(|(n, job)| job["context"].is_null() == (n % 2 == 1)), "{jobs:#?}");
    assert_eq!(told["note_count"], 2);
}

#[test]
fn files_of_other_tools_are_merged_as_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("c");
    let fixture = |name: &str| Path::new(FIXTURES).join(name);
    for name in ["v7-zlib-7.2", "v6-6.12"] {
        let (dat, text) = (fixture(&format!("{name}.dat")), fixture(&format!("{name}.report")));
        // The text is of the same records, and does not name its clock.
        let said = merge(&out, &[], &[&dat, &text]);
        assert!(said.contains(&format!("{name}.report: offset +0ns from ")), "{said}");
        assert_eq!(report(&out).1, report(&dat).1, "{name}");
    }
    // Each alone, made a recording.
    let mut read = 0;
    for entry in fs::read_dir(FIXTURES).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|of| of == "md") {
            continue;
        }
        merge(&out, &[], &[&path]);
        let ((told, jobs), (single, mut expected)) = (report(&out), report(&path));
        // Whether all dependencies were recorded is not handed on: where none was seen, that is not known any more.
        let is_none = |job: &&mut Value| job["dependencies"] == 0;
        expected.iter_mut().filter(is_none).for_each(|job| job["dependencies"] = Value::Null);
        assert_eq!(jobs, expected, "{}", path.display());
        for field in ["events", "rings", "processes", "errors", "waits", "unmatched_ends"] {
            assert_eq!(told[field], single[field], "{field} of {}", path.display());
        }
        // Nobody knows what was left out on purpose, and whose day it was.
        assert!(told["settings"].is_null(), "{told:#}");
        read += 1;
    }
    assert!(read >= 12, "{read} files in {FIXTURES}");
    // Of other runs, both on CLOCK_MONOTONIC.
    merge(&out, &[], &[&fixture("v7-zlib-7.2.dat"), &fixture("perf-7.2.data")]);
    let single = report(&fixture("v7-zlib-7.2.dat")).1.len() + report(&fixture("perf-7.2.data")).1.len();
    assert_eq!(report(&out).1.len(), single);
    // On a clock of its own, nothing in common with the other.
    let (a, b) = (fixture("v7-zlib-7.2.dat"), fixture("v7-zstd-local-7.2.dat"));
    let line = refused(&[], &[&a, &b], &dir.path().join("none"));
    for words in ["v7-zstd-local-7.2.dat: its times are on the clock local", "none of its events", "--clock-offset"] {
        assert!(line.contains(words), "{line}");
    }
    assert!(line.trim_end().ends_with("record with trace-cmd record -C mono"), "{line}");
    assert!(!dir.path().join("none").exists());
    merge(&out, &["--clock-offset", "v7-zstd-local-7.2.dat=+1s"], &[&a, &b]);
}

#[test]
fn too_few_common_events_say_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let dat = Path::new(FIXTURES).join("v7-zlib-7.2.dat");
    // Two lines of the text, which does not name its clock.
    let text = fs::read_to_string(Path::new(FIXTURES).join("v7-zlib-7.2.report")).unwrap();
    let few: Vec<&str> = text.lines().take(5).collect();
    fs::write(at("few.txt"), few.join("\n")).unwrap();
    let line = refused(&[], &[&dat, &at("few.txt")], &at("c"));
    assert!(line.contains("too few; give its offset with --clock-offset few.txt=TIME"), "{line}");
    assert!(line.contains("a clock that it does not name"), "{line}");
}

/// Text of a job every two milliseconds, as the kernel prints it: `pad` later than that, and another time each.
fn regular(pad: impl Fn(u64) -> u64) -> String {
    let mut text = String::from("cpus=1\n");
    for n in 0..50 {
        for (name, later, rest) in
            [("queue", 0, " ring=gfx, job count:0, hw job count:0, client_id:7"), ("done", 900, " signaled")]
        {
            let at_us = 23_000_000 + n * 2_000 + later + pad(n);
            let (s, us, seqno) = (at_us / 1_000_000, at_us % 1_000_000, n + 1);
            let fence = if name == "queue" {
                format!("dev=0000:00:02.0, fence=86:{seqno},")
            } else {
                format!("fence=86:{seqno}")
            };
            text.push_str(&format!(
                "  vgpu-load-199   [000] ..... {s:5}.{us:06}: drm_sched_job_{name}: {fence}{rest}\n"
            ));
        }
    }
    text
}

#[test]
fn regular_jobs_do_not_tell_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a.txt"), regular(|_| 0)).unwrap();
    fs::write(at("b.txt"), regular(|_| 5_000)).unwrap();
    let line = refused(&[], &[&at("a.txt"), &at("b.txt")], &at("c"));
    assert!(
        line.contains("of 100 events that stand in a.txt, too, 100 agree about the offset -5ms: the offset"),
        "{line}"
    );
    assert!(
        line.contains("as of jobs that come at regular times; give its offset with --clock-offset b.txt=TIME"),
        "{line}"
    );
    merge(&at("c"), &["--clock-offset", "b.txt=-5ms"], &[&at("a.txt"), &at("b.txt")]);
    assert_eq!(report(&at("c")).1.len(), 50);
    // Where they are not as regular, they do.
    let irregular = |n: u64| n * n * 137 % 900;
    fs::write(at("a.txt"), regular(irregular)).unwrap();
    fs::write(at("b.txt"), regular(|n| 5_000 + irregular(n))).unwrap();
    let said = merge(&at("c"), &[], &[&at("a.txt"), &at("b.txt")]);
    assert!(said.contains("b.txt: offset -5ms from 100 of 100 events"), "{said}");
}

#[test]
fn a_file_that_is_cut_off_is_merged_up_to_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let a = MADE.write(&at("a"));
    let bytes = fs::read(&a).unwrap();
    fs::write(at("b"), &bytes[..bytes.len() - 600]).unwrap();
    let other = Made { key: JobKey::Fence { context: 12, seqno: 1 }, comm: "trainer", ..MADE }.write(&at("other"));
    let said = merge(&at("c"), &[], &[&at("b"), &other]);
    assert!(said.contains("b: the file is cut off in the frame that begins at byte"), "{said}");
    let (told, jobs) = report(&at("c"));
    let detail = source(&told, "recording (b)")["detail"].as_str().unwrap();
    assert!(detail.contains("cut off"), "{detail}");
    let expected = report(&at("b")).1.len() + 10;
    assert!(jobs.len() == expected && expected > 12 && expected < 20, "{} {expected}", jobs.len());
}

#[test]
fn what_cannot_be_merged_is_said_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (a, b) = (MADE.write(&at("a")), MADE.write(&at("b")));
    let out = at("c");
    for (args, said) in [
        (&["--clock-offset", "x=1ms"][..], "none of the files"),
        (&["--clock-offset", "3=1ms"], "none of the files"),
        (&["--clock-offset", "a=1ms", "--clock-offset", "1=2ms"], "has one already"),
        (
            &["--clock-offset", "b=-2s"],
            "b: an offset of -2s puts its times before the clock begins; give another with --clock-offset b=",
        ),
        (
            &["--clock-offset", "a=-2s"],
            "a: an offset of -2s puts its times before the clock begins; give another with --clock-offset a=",
        ),
    ] {
        let line = refused(args, &[&a, &b], &out);
        assert!(line.contains(said), "{line}");
    }
    assert!(!out.exists());
    let line = refused(&[], &[&a, &b], &b);
    assert!(line.contains("is one of the traces itself"), "{line}");
    fs::create_dir(at("dir")).unwrap();
    let same = MADE.write(&at("dir/a"));
    let line = refused(&["--clock-offset", "a=1ms"], &[&a, &same], &out);
    assert!(line.contains("several of the files have this name"), "{line}");
    fs::write(at("text"), "no trace").unwrap();
    let line = refused(&[], &[&a, &at("text")], &out);
    assert!(line.contains("text: not a gpuscope recording"), "{line}");
    let line = refused(&[], &[&a], &at("text"));
    assert!(line.contains("a file that is no recording stands there"), "{line}");
    let done = gpuscope().args(["trace", "merge", "-o"]).arg(&out).args(["--clock-offset", "a=soon"]).arg(&a).output();
    let done = done.unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8(done.stderr).unwrap().contains("as in b.dat=+1.5ms"));
    let before = Made { boot: "boot-b", day_ns: Some(DAY_NS - 10_000_000_000), ..MADE }.write(&at("before"));
    let line = refused(&[], &[&a, &before], &out);
    assert!(line.contains("before the clock begins; name it first, so that its clock is kept"), "{line}");
    let boots = ["boot-b", "boot-c", "boot-d", "boot-e"].map(|boot| Made { boot, ..MADE }.write(&at(boot)));
    let files: Vec<&Path> = std::iter::once(&a).chain(&boots).map(PathBuf::as_path).collect();
    let line = refused(&[], &files, &out);
    assert!(line.contains("5 boots or machines"), "{line}");
}
