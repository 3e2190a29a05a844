//! `gpuscope trace` over files: recordings that this test writes, and real ones of trace-cmd.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod common;

use common::{complaint, gpuscope, stdout, valid_lines};
use gpuscope_model::trace::Dropped;
use gpuscope_sys::Roots;
use gpuscope_testkit::golden;
use gpuscope_trace::capture::Backend;
use gpuscope_trace::foreign::perfetto::{Item as PerfettoItem, PerfettoTrace};
use gpuscope_trace::recording::{CreateOptions, Header, RecordingFile};
use gpuscope_trace::{EventFormat, RawRecord, RecordSink as _};
use std::fs;
use std::path::{Path, PathBuf};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../trace/tests/fixtures");

/// Layouts of gpu_scheduler_trace.h of Linux 7.2, with texts in place: what the BPF programs write.
fn format(id: u16, name: &str, fields: &[(&str, &str, u16)]) -> EventFormat {
    format_of("gpu_scheduler", id, name, fields)
}

fn format_of(system: &str, id: u16, name: &str, fields: &[(&str, &str, u16)]) -> EventFormat {
    let mut text =
        format!("name: {name}\nID: {id}\nformat:\n\tfield:u16 common_type;\toffset:0;\tsize:2;\tsigned:0;\n");
    text.push_str("\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n");
    let mut offset = 8;
    for (declaration, field, size) in fields {
        let array = if *declaration == "char" { format!("[{size}]") } else { String::new() };
        text.push_str(&format!("\tfield:{declaration} {field}{array};\toffset:{offset};\tsize:{size};\tsigned:0;\n"));
        offset += size;
    }
    EventFormat::parse(system, &text).unwrap()
}

const KEY: [(&str, &str, u16); 2] = [("u64", "fence_context", 8), ("u64", "fence_seqno", 8)];
const WHERE: [(&str, &str, u16); 3] = [("u64", "client_id", 8), ("char", "name", 24), ("char", "dev", 32)];

fn formats() -> [EventFormat; 3] {
    let queue: Vec<_> = KEY.into_iter().chain(WHERE).chain([("u64", "tgid", 8), ("char", "comm", 16)]).collect();
    let run: Vec<_> = KEY.into_iter().chain(WHERE).collect();
    let done: Vec<_> = KEY.into_iter().chain([("s64", "error", 8)]).collect();
    [
        format(1, "drm_sched_job_queue", &queue),
        format(2, "drm_sched_job_run", &run),
        format(3, "drm_sched_job_done", &done),
    ]
}

/// A record of a format: numbers and texts in the order of its fields.
fn record(format: &EventFormat, numbers: &[u64], texts: &[&str]) -> Vec<u8> {
    let end = format.fields.iter().map(|f| usize::from(f.offset + f.size)).max().unwrap();
    let mut data = vec![0; end];
    data[..2].copy_from_slice(&format.id.to_ne_bytes());
    data[4..8].copy_from_slice(&11_u32.to_ne_bytes());
    let (mut numbers, mut texts) = (numbers.iter(), texts.iter());
    for field in &format.fields[2..] {
        let at = usize::from(field.offset);
        match field.size {
            8 => data[at..at + 8].copy_from_slice(&numbers.next().unwrap().to_ne_bytes()),
            _ => {
                let text = texts.next().unwrap().as_bytes();
                data[at..at + text.len()].copy_from_slice(text);
            }
        }
    }
    data
}

/// A recording of three jobs: one behind another on a ring of one GPU, and one that fails on a ring of the same name of another.
fn recording(dir: &Path) -> PathBuf {
    recording_with(dir, &[])
}

/// The same, with what was asked for that left something out.
fn recording_with(dir: &Path, settings: &[&str]) -> PathBuf {
    recording_of(dir, settings, 1_000_000_000, &formats())
}

/// The same, of a header with this moment, on a kernel that has these events.
fn recording_of(dir: &Path, settings: &[&str], started_ns: u64, formats: &[EventFormat]) -> PathBuf {
    let path = dir.join("t");
    let [queue, run, done, ..] = formats else { panic!("{formats:?}") };
    let mut header = Header::begin(&Roots::at(dir), "gpuscope test", Backend::Bpf);
    header.started.monotonic_ns = started_ns;
    header.started.realtime_ns = Some(1_790_000_000_000_000_000);
    header.gpus = vec![("0000:03:00.0".into(), "amdgpu".into()), ("0000:04:00.0".into(), "amdgpu".into())];
    header.settings = settings.iter().map(|word| (*word).to_string()).collect();
    let mut file = RecordingFile::create(&path, header, formats, CreateOptions::default()).unwrap();
    let (gpu, other) = (["gfx", "0000:03:00.0"], ["gfx", "0000:04:00.0"]);
    let mut put = |at_us: u64, data: Vec<u8>| {
        file.record(RawRecord { at_ns: 1_000_000_000 + at_us * 1_000, cpu: 0, data: &data });
    };
    put(0, record(queue, &[9, 1, 4, 10], &[gpu[0], gpu[1], "game"]));
    put(5, record(queue, &[9, 2, 4, 10], &[gpu[0], gpu[1], "game"]));
    put(20, record(run, &[9, 1, 4], &gpu));
    put(25, record(run, &[9, 2, 4], &gpu));
    put(30, record(queue, &[12, 1, 7, 20], &[other[0], other[1], "trainer"]));
    put(40, record(run, &[12, 1, 7], &other));
    put(1_020, record(done, &[9, 1, 0], &[]));
    put(1_220, record(done, &[9, 2, 0], &[]));
    put(2_040, record(done, &[12, 1, (-62_i64).cast_unsigned()], &[]));
    file.mark(1_002_000_000, "stuck: a job").unwrap();
    file.dropped(1_001_000_000, Dropped { sampled_out: 5, ..Dropped::default() }).unwrap();
    file.round(2_000_000_000).unwrap();
    file.finish().unwrap();
    path
}

#[test]
fn a_report_is_valid_and_complete() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--jobs", "--json"]).arg(&file)));
    let [first, second, third, report] = &lines[..] else { panic!("{lines:#?}") };
    assert_eq!(
        (&first["queue_ns"], &first["hw_queue_ns"], &first["exec_ns"]),
        (&20_000.into(), &0.into(), &1_000_000.into())
    );
    assert_eq!(
        (&second["queue_ns"], &second["hw_queue_ns"], &second["exec_ns"]),
        (&20_000.into(), &995_000.into(), &200_000.into())
    );
    assert_eq!(
        (&second["pid"], &second["tid"], &second["comm"], &second["client_id"]),
        (&10.into(), &11.into(), &"game".into(), &4.into())
    );
    assert_eq!(
        (&third["status"], &third["errno"], &third["gpu"]),
        (&"failed".into(), &(-62).into(), &"0000:04:00.0".into())
    );
    assert_eq!(report["rings"].as_array().unwrap().len(), 2);
    assert_eq!(report["dropped"]["sampled_out"], 5);
    assert_eq!(report["error_count"], 1);
    assert_eq!((&report["note_count"], &report["notes"][0]["text"]), (&1.into(), &"stuck: a job".into()));
}

#[test]
fn a_report_reads_well() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let text = stdout(gpuscope().args(["trace", "report"]).arg(&file));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let text = stdout(gpuscope().args(["trace", "report", "--jobs"]).arg(&file));
    golden(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/trace-report.txt"), &text);
}

#[test]
fn why_a_job_was_late_is_told_piece_by_piece() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let text = stdout(gpuscope().args(["trace", "report", "--why", "9:2"]).arg(&file));
    golden(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/trace-why.txt"), &text);
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json", "--why", "9:2"]).arg(&file)));
    let late = &lines[0]["late"][0];
    assert_eq!((&late["seqno"], &late["total_ns"]), (&2.into(), &1_215_000.into()));
    let links = late["links"].as_array().unwrap();
    let told: Vec<_> = links.iter().map(|l| (l["cause"].as_str().unwrap(), l["ns"].as_u64().unwrap())).collect();
    // Its queue was handed over in order: 9:1 went 5 us before.
    assert_eq!(told, [("dispatch", 15_000), ("dispatch", 5_000), ("behind_on_ring", 995_000), ("executed", 200_000)]);
    assert_eq!((&links[2]["by"]["context"], &links[2]["by"]["seqno"]), (&9.into(), &1.into()));
    // The report has those of the slowest.
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json", "--top", "2"]).arg(&file)));
    let late: Vec<_> = lines[0]["late"].as_array().unwrap().iter().map(|of| of["total_ns"].as_u64().unwrap()).collect();
    assert_eq!(late, [2_010_000, 1_215_000]);
    let (status, line) = complaint(gpuscope().args(["trace", "report", "--why", "9:3"]).arg(&file));
    assert_eq!(status, 1);
    assert!(line.contains("it holds no such job"), "{line}");
    let (status, line) = complaint(gpuscope().args(["trace", "report", "--why", "nine"]).arg(&file));
    assert_eq!(status, 2);
    assert!(line.contains("CONTEXT:SEQNO"), "{line}");
}

#[test]
fn a_timeline_shows_rings_jobs_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let text = stdout(gpuscope().args(["trace", "timeline"]).arg(&file).args(["--to", "2.1ms"]));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    golden(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/trace-timeline.txt"), &text);
    let around = stdout(gpuscope().args(["trace", "timeline", "--around", "9:2", "--width", "60"]).arg(&file));
    assert!(around.lines().all(|line| line.chars().count() <= 60), "{around}");
    assert!(around.contains(">a 9:2"), "{around}");
    // What began before the stretch is in it.
    let late = stdout(gpuscope().args(["trace", "timeline", "--from", "500us", "--to", "600us"]).arg(&file));
    let lane = late.lines().find(|line| line.starts_with("1 gfx")).unwrap();
    assert_eq!(lane.matches('A').count(), 65, "{late}");
    let (_, one) = stdout(gpuscope().args(["trace", "timeline", "--gpu", "0000:04:00.0"]).arg(&file))
        .split_once("GPU ")
        .map(|(a, b)| (a.to_string(), b.to_string()))
        .unwrap();
    assert!(one.starts_with("0000:04:00.0") && !one.contains("0000:03:00.0"), "{one}");
    for (args, complains) in [
        (&["--ring", "none"][..], "no such ring"),
        (&["--from", "2s"], "nothing lies between"),
        (&["--around", "9:7"], "no such job"),
    ] {
        let (status, line) = complaint(gpuscope().args(["trace", "timeline"]).args(args).arg(&file));
        assert_eq!(status, 1, "{line}");
        assert!(line.contains(complains), "{line}");
    }
}

/// A job on the first of two GPUs of different drivers, and the calls of its submitter, as `trace_event` of kernel/trace/trace_syscalls.c lays
/// them out: all fields of a call are words.
fn recording_of_ioctls(dir: &Path, drivers: [&str; 2]) -> PathBuf {
    let path = dir.join("ioctls");
    let [queue, run, done] = formats();
    let people = [("u64", "tgid", 8), ("char", "comm", 16)];
    let enter: Vec<_> = [("u64", "fd", 8), ("u64", "cmd", 8), ("u64", "arg", 8)].into_iter().chain(people).collect();
    let exit: Vec<_> = [("s64", "ret", 8)].into_iter().chain(people).collect();
    let enter = format_of("syscalls", 4, "sys_enter_ioctl", &enter);
    let exit = format_of("syscalls", 5, "sys_exit_ioctl", &exit);
    let mut header = Header::begin(&Roots::at(dir), "gpuscope test", Backend::Bpf);
    header.started.monotonic_ns = 1_000_000_000;
    header.gpus = vec![("0000:03:00.0".into(), drivers[0].into()), ("0000:04:00.0".into(), drivers[1].into())];
    let formats = [queue.clone(), run.clone(), done.clone(), enter.clone(), exit.clone()];
    let mut file = RecordingFile::create(&path, header, &formats, CreateOptions::default()).unwrap();
    let mut put = |at_us: u64, data: Vec<u8>| {
        file.record(RawRecord { at_ns: 1_000_000_000 + at_us * 1_000, cpu: 0, data: &data });
    };
    let gpu = ["gfx", "0000:03:00.0"];
    let call = |request: u64| record(&enter, &[3, request, 0x7fff_0000, 10], &["game"]);
    let back = |value: i64| record(&exit, &[value.cast_unsigned(), 10], &["game"]);
    // The end of one that asked something else: it has no begin here.
    put(0, back(0));
    // The kernel takes the lower half of the word alone.
    put(10, call(0xffff_ffff_c018_6444));
    put(15, record(&queue, &[9, 1, 4, 10], &[gpu[0], gpu[1], "game"]));
    put(20, record(&run, &[9, 1, 4], &gpu));
    put(30, back(0));
    put(40, call(0xc018_6444));
    put(44, back(-16));
    put(50, call(0xc020_6449));
    put(820, record(&done, &[9, 1, 0], &[]));
    put(850, back(0));
    put(860, call(0xc010_640c));
    put(861, back(-22));
    put(900, call(0xc020_6449));
    file.round(1_001_000_000).unwrap();
    file.finish().unwrap();
    path
}

#[test]
fn ioctls_are_told_by_name_with_their_times_and_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording_of_ioctls(dir.path(), ["amdgpu", "amdgpu"]);
    let report = |file: &Path| valid_lines(&stdout(gpuscope().args(["trace", "report", "--json"]).arg(file))).remove(0);
    let all = &report(&file)["ioctls"];
    assert_eq!((&all["unfinished"], &all["left_out"]), (&1.into(), &0.into()), "{all:#}");
    let calls = all["calls"].as_array().unwrap();
    let told: Vec<_> = calls
        .iter()
        .map(|call| {
            (call["name"].as_str().unwrap(), call["took_us"]["count"].as_u64(), call["total_us"].as_f64().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [("AMDGPU_WAIT_CS", Some(1), 800.0), ("AMDGPU_CS", Some(2), 24.0), ("GET_CAP", Some(1), 1.0)],
        "{all:#}"
    );
    assert_eq!(
        (&calls[1]["pid"], &calls[1]["comm"], &calls[1]["request"]),
        (&10.into(), &"game".into(), &0xc018_6444_u32.into())
    );
    assert_eq!((&calls[1]["errors"][0]["errno"], &calls[1]["errors"][0]["count"]), (&(-16).into(), &1.into()));
    assert_eq!(calls[1]["errors"].as_array().unwrap().len(), 1);
    let text = stdout(gpuscope().args(["trace", "report"]).arg(&file));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let (_, told) = text.split_once("DRM ioctls\n").unwrap();
    let (told, _) = told.split_once("\n\n").unwrap_or((told, ""));
    golden(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/trace-ioctls.txt"), &format!("{}\n", told.trim_end()));
    let timeline = stdout(gpuscope().args(["trace", "timeline", "--to", "1ms"]).arg(&file));
    let thread = timeline.lines().find(|line| line.starts_with("game 11")).unwrap();
    // It waits for most of the time, and its last call lasts on; one column is about 15 us.
    assert!((50..=64).contains(&thread.matches('-').count()), "{timeline}");
    assert!(timeline.contains("- within a DRM ioctl"), "{timeline}");
    let slices = fs::read(for_perfetto(dir.path(), &file)).unwrap();
    let count = |name: &[u8]| slices.windows(name.len()).filter(|window| *window == name).count();
    assert_eq!((count(b"AMDGPU_CS"), count(b"AMDGPU_WAIT_CS"), count(b"GET_CAP")), (2, 2, 1));
    // A number means something else to each driver; the core's do not.
    let file = recording_of_ioctls(dir.path(), ["amdgpu", "xe"]);
    let calls = &report(&file)["ioctls"]["calls"];
    let named: Vec<_> = calls.as_array().unwrap().iter().map(|call| call["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["AMDGPU_WAIT_CS or XE_EXEC", "AMDGPU_CS or XE_VM_DESTROY", "GET_CAP"]);
    let file = recording_of_ioctls(dir.path(), ["", ""]);
    let calls = &report(&file)["ioctls"]["calls"];
    assert_eq!(
        (&calls[0]["name"], &calls[1]["name"], &calls[2]["name"]),
        (&serde_json::Value::Null, &serde_json::Value::Null, &"GET_CAP".into())
    );
    assert!(report(&recording(dir.path()))["ioctls"].is_null());
}

#[test]
fn a_report_says_by_what_settings_jobs_were_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording_with(dir.path(), &["--sample 50%", "--pid 10"]);
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json"]).arg(&file)));
    assert_eq!(lines[0]["settings"], serde_json::json!(["--sample 50%", "--pid 10"]));
    let text = stdout(gpuscope().args(["trace", "report"]).arg(&file));
    assert!(text.contains("recorded with --sample 50% --pid 10: all else was left out"), "{text}");
    assert!(text.contains("not recorded: sampled out 5"), "{text}");
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json"]).arg(recording(dir.path()))));
    assert_eq!(lines[0]["settings"], serde_json::json!([]));
}

#[test]
fn dependencies_are_null_where_no_event_tells_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let told = |settings: &[&str], formats: &[EventFormat]| {
        let file = recording_of(dir.path(), settings, 1_000_000_000, formats);
        let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--jobs", "--json"]).arg(&file)));
        let (report, jobs) = lines.split_last().unwrap();
        let slowest = report["slowest"].as_array().unwrap();
        let all: Vec<_> = jobs.iter().chain(slowest).map(|job| job["dependencies"].clone()).collect();
        assert!(all.len() == 6 && all.iter().all(|of| *of == all[0]), "{all:?}");
        all[0].clone()
    };
    let dependency: Vec<_> = KEY.into_iter().chain([("u64", "ctx", 8), ("u64", "seqno", 8)]).collect();
    let mut with: Vec<EventFormat> = formats().into();
    with.push(format(4, "drm_sched_job_add_dep", &dependency));
    let (null, none) = (serde_json::Value::Null, serde_json::Value::from(0));
    assert_eq!(told(&[], &formats()), null, "a kernel before 6.17");
    assert_eq!(told(&[], &with), none);
    assert_eq!(told(&["--event submit", "--event dependency"], &with), none);
    assert_eq!(told(&["--event submit", "--event complete"], &with), null);
    assert_eq!(told(&["--not-event dependency"], &with), null);
    assert_eq!(told(&["--not-event blocked", "--pid 10"], &with), none);
}

#[test]
fn the_span_is_that_of_the_events_where_the_header_is_of_another_time() {
    let dir = tempfile::tempdir().unwrap();
    let span = |file: &Path| {
        let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json"]).arg(file)));
        let text = stdout(gpuscope().args(["trace", "timeline", "--to", "2ms"]).arg(file));
        assert!(text.contains("gfx"), "{text}");
        (lines[0]["monotonic_ns"].as_u64().unwrap(), lines[0]["span_s"].as_f64().unwrap())
    };
    for (started_ns, from_ns, span_s) in [
        // As it should be: a millisecond before the first event.
        (999_000_000, 999_000_000, 1.001),
        // Of a machine that has run for longer than the one whose events these are.
        (7_000_000_000_000, 1_000_000_000, 1.0),
    ] {
        let file = recording_of(dir.path(), &[], started_ns, &formats());
        assert_eq!(span(&file), (from_ns, span_s));
        let merged = dir.path().join("merged");
        let out = gpuscope().args(["trace", "merge", "-o"]).arg(&merged).arg(&file).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(span(&merged), (from_ns, span_s), "merged");
    }
}

/// As a bound on the size asks, the first parts are gone: what was recorded is known from the first event on that is left.
#[test]
fn the_span_begins_behind_the_parts_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let [queue, run, done] = formats();
    let mut header = Header::begin(&Roots::at(dir.path()), "gpuscope test", Backend::Bpf);
    header.started.monotonic_ns = 1_000_000_000;
    let options = CreateOptions { max_bytes: Some(8 << 20), ..CreateOptions::default() };
    let mut file = RecordingFile::create(&path, header, &[queue.clone(), run.clone(), done.clone()], options).unwrap();
    let gpu = ["gfx", "0000:03:00.0"];
    for job in 0..200_000_u64 {
        let at_ns = 1_000_000_000 + job * 100_000;
        let mut put = |after_ns: u64, data: Vec<u8>| {
            file.record(RawRecord { at_ns: at_ns + after_ns, cpu: 0, data: &data });
        };
        put(0, record(&queue, &[9, job, 4, 10], &[gpu[0], gpu[1], "game"]));
        put(0, record(&run, &[9, job, 4], &gpu));
        put(50_000, record(&done, &[9, job, 0], &[]));
        if job % 100 == 99 {
            file.round(at_ns + 50_000).unwrap();
        }
    }
    file.finish().unwrap();
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json"]).arg(&path)));
    let report = &lines[0];
    let (from_ns, busy) = (report["monotonic_ns"].as_u64().unwrap(), &report["rings"][0]["utilisation_percent"]);
    assert!(from_ns > 1_100_000_000, "{from_ns}: parts are gone");
    assert!((busy.as_f64().unwrap() - 50.0).abs() < 0.1, "{busy}");
}

#[test]
fn what_is_asked_for_and_cannot_be_is_refused_before_a_recording_begins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t");
    for (args, said) in [
        (&["--rate-limit", "0/s"][..], "lets nothing through"),
        (&["--sample", "10"], "as in 10%"),
        (&["--slower-than", "0ms"], "1us or more"),
        (&["--window-limit", "5"], "as in 100/250ms"),
        (&["--rate-limit", "5/s", "--window-limit", "5/1s"], "cannot be used with"),
        (&["--class", "lasers"], "video-enhance"),
        (&["--only-cmd"], "CMD"),
    ] {
        let out = gpuscope().args(["trace", "record", "-o"]).arg(&file).args(args).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && text.contains(said), "{args:?}: {text}");
    }
    for (args, said) in [
        (&["--user", "no-such-user"][..], "give the user's number"),
        (&["--cgroup", "no/such"], "or its number"),
        (&["--children"], "add --pid"),
    ] {
        let (status, line) = complaint(gpuscope().args(["trace", "record", "-o"]).arg(&file).args(args));
        assert!(status == 1 && line.contains(said), "{args:?}: {line}");
    }
    for way in ["tracefs", "perf"] {
        let options = ["--backend", way, "--sample", "50%"];
        let (status, line) = complaint(gpuscope().args(["trace", "record", "-o"]).arg(&file).args(options));
        assert!(status == 1 && line.contains("record everything"), "{way}: {line}");
    }
    assert!(!file.exists());
}

#[test]
fn two_traces_are_compared_and_few_jobs_say_nothing() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (recording(first.path()), recording(second.path()));
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "compare", "--json"]).arg(&a).arg(&b)));
    let rings = lines[0]["rings"].as_array().unwrap();
    assert_eq!(rings.len(), 2);
    let p50 = &rings[0]["exec_us"][0];
    assert_eq!((&rings[0]["a"]["jobs"], &p50["a"], &p50["b"]), (&2.into(), &200.0.into(), &200.0.into()));
    assert_eq!((&p50["verdict"], &p50["low"]), (&"too_few".into(), &serde_json::Value::Null));
    let text = stdout(gpuscope().args(["trace", "compare"]).arg(&a).arg(&b));
    assert!(text.lines().skip(2).all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("exec p50         200µs -> 200µs    too few jobs"), "{text}");
}

#[test]
fn a_recording_that_was_cut_off_says_so_and_gives_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let bytes = fs::read(&file).unwrap();
    // The frames behind the records go first.
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json"]).arg(&file)));
    assert_eq!(lines[0]["events"]["SUBMIT"], 3);
    let told = lines[0]["sources"].as_array().unwrap().iter().any(|source| {
        let detail = source["detail"].as_str().unwrap();
        source["source"] == "recording" && (detail.contains("cut off") || detail.contains("does not end"))
    });
    assert!(told, "{:#}", lines[0]["sources"]);
}

#[test]
fn files_of_trace_cmd_and_perf_and_text_of_tracefs_are_read() {
    let fixtures: Vec<PathBuf> = fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_trace =
        |path: &&PathBuf| path.extension().is_some_and(|e| e == "dat" || e == "data" || e == "txt" || e == "report");
    let mut read = 0;
    for path in fixtures.iter().filter(is_trace) {
        let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--jobs", "--json"]).arg(path)));
        let (report, jobs) = lines.split_last().unwrap();
        assert!(report["events"]["SUBMIT"].as_u64().unwrap() > 0, "{}: {report:#}", path.display());
        assert!(!jobs.is_empty(), "{}", path.display());
        // Whether something was left out on purpose is not in such a file.
        let is_said = |of: &serde_json::Value| of["metric"] == "settings" && of["reason"] == "not_supported";
        assert!(report["settings"].is_null() && report["unavailable"].as_array().unwrap().iter().any(is_said));
        read += 1;
    }
    assert!(read >= 12, "{read} files in {FIXTURES}");
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes, kind) in [
        (&b"2ELIFREP\0\0\0\0"[..], "a perf.data of a big-endian machine"),
        (b"PERFILE2\0\0\0\0", "a perf.data cut off in its head"),
        (b"\x1f\x8b\x08\0", "it is a file packed by gzip"),
        (b"{\"traceEvents\":[]}", "a Chrome JSON trace"),
        (b"\x7fELF\x02\x01\x01", "not a gpuscope recording"),
    ] {
        let file = dir.path().join("other");
        fs::write(&file, bytes).unwrap();
        for command in [&["trace", "report"][..], &["trace", "export", "-o", "-"]] {
            let (status, line) = complaint(gpuscope().args(command).arg(&file));
            assert_eq!(status, 1);
            assert!(line.contains("other: ") && line.contains(kind), "{line}");
        }
    }
    let (status, line) = complaint(gpuscope().args(["trace", "report"]).arg(dir.path().join("none")));
    assert_eq!(status, 1);
    assert!(line.contains("none: No such file"), "{line}");
}

#[test]
fn an_export_does_not_write_over_what_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let (status, line) = complaint(gpuscope().args(["trace", "export", "-o"]).arg(&file).arg(&file));
    assert_eq!(status, 1);
    assert!(line.contains("is the trace itself"), "{line}");
    stdout(gpuscope().args(["trace", "report"]).arg(&file));
}

/// A row for each job, with the columns of its JSON line in their order, and what they hold.
fn same_in_csv(csv: &str, json: &str, jobs: &[serde_json::Value]) {
    let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let columns = rows.next().unwrap();
    // An object that is read has its keys in another order.
    let first = json.lines().next().unwrap();
    let places: Vec<_> = columns.iter().map(|column| first.find(&format!("\"{column}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{columns:?} {first}");
    assert_eq!(columns.len() + 1, jobs[0].as_object().unwrap().len(), "all but the schema");
    let mut read = 0;
    for (row, job) in rows.zip(jobs) {
        assert_eq!(row.len(), columns.len(), "{row:?}");
        for (column, told) in columns.iter().zip(row) {
            let expected = match &job[*column] {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            assert_eq!(told, expected, "{column} of {job}");
        }
        read += 1;
    }
    assert_eq!(read, jobs.len());
}

/// The same in a Parquet file, read by the library that wrote it; and what belongs to the whole trace.
fn same_in_parquet(path: &Path, json: &str, jobs: &[serde_json::Value]) {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    let file = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let rows: Vec<_> = file.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect();
    assert_eq!(rows.len(), jobs.len());
    for (row, job) in rows.iter().zip(jobs) {
        assert_eq!(row.len() + 1, job.as_object().unwrap().len(), "all but the schema");
        for (column, field) in row {
            let told = match field {
                parquet::record::Field::Null => serde_json::Value::Null,
                parquet::record::Field::Str(text) => text.as_str().into(),
                parquet::record::Field::Long(n) => (*n).into(),
                parquet::record::Field::ULong(n) => (*n).into(),
                other => panic!("{column}: {other:?}"),
            };
            assert_eq!(told, job[column], "{column} of {job}");
        }
    }
    let first = json.lines().next().unwrap();
    let places: Vec<_> = rows[0].iter().map(|(column, _)| first.find(&format!("\"{column}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{first}");
    let metadata = file.metadata().file_metadata().key_value_metadata().unwrap();
    let of = |key: &str| -> serde_json::Value {
        let pair = metadata.iter().find(|pair| pair.key == key).unwrap();
        serde_json::from_str(pair.value.as_ref().unwrap()).unwrap()
    };
    assert_eq!(of("gpuscope.dropped")["sampled_out"], 5);
    assert_eq!(of("gpuscope.started")["realtime_ns"], 1_790_000_000_000_000_000_u64);
    assert!(of("gpuscope.coverage").is_array());
}

#[test]
fn an_export_holds_the_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let export = |args: &[&str]| {
        let out = gpuscope().args(["trace", "export"]).args(args).arg(&file).output().unwrap();
        assert!(out.status.success());
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.ends_with("t: not recorded: sampled_out 5\n") && said.lines().count() == 1, "{said}");
        String::from_utf8(out.stdout).unwrap()
    };
    let json = export(&["--to", "json", "-o", "-"]);
    let lines = valid_lines(&json);
    let (losses, jobs) = lines.split_last().unwrap();
    assert_eq!(
        (jobs.len(), &losses["schema"], &losses["dropped"]["sampled_out"]),
        (3, &"gpuscope.losses/1".into(), &5.into())
    );
    same_in_csv(&export(&["--to", "csv", "-o", "-"]), &json, jobs);
    let chrome: serde_json::Value = serde_json::from_str(&export(&["--to", "chrome", "-o", "-"])).unwrap();
    let lost: Vec<_> =
        chrome["traceEvents"].as_array().unwrap().iter().filter(|row| row["name"] == "records lost").collect();
    assert_eq!((lost.len(), &lost[0]["args"]["sampled_out"], &lost[0]["s"]), (1, &5.into(), &"g".into()));
    let columns = dir.path().join("t.parquet");
    export(&["--to", "parquet", "-o", columns.to_str().unwrap()]);
    same_in_parquet(&columns, &json, jobs);
    let perfetto = dir.path().join("t.pftrace");
    export(&["-o", perfetto.to_str().unwrap()]);
    let bytes = fs::read(&perfetto).unwrap();
    // `Trace.packet`, field 1, with a length.
    assert!(bytes.len() > 500 && bytes[0] == 0x0a, "{} bytes", bytes.len());
    assert!(bytes.windows(12).any(|w| w == b"0000:04:00.0"));
}

/// Rounds of jobs on two GPUs with rings of one name, by two processes; some fail, some do not end.
fn recording_of_many(dir: &Path) -> PathBuf {
    let path = dir.join("many");
    let [queue, run, done] = formats();
    let mut header = Header::begin(&Roots::at(dir), "gpuscope test", Backend::Bpf);
    header.started.monotonic_ns = 1_000_000_000;
    header.started.boottime_ns = Some(4_000_000_000);
    header.gpus = vec![("0000:03:00.0".into(), "amdgpu".into()), ("0000:04:00.0".into(), "xe".into())];
    let formats = [queue.clone(), run.clone(), done.clone()];
    let mut file = RecordingFile::create(&path, header, &formats, CreateOptions::default()).unwrap();
    for job in 0..600_u64 {
        let gpu = ["gfx", if job % 3 == 0 { "0000:04:00.0" } else { "0000:03:00.0" }];
        let (context, at_us) = (20 + job % 3, 100 * job);
        let mut put = |after_us: u64, data: Vec<u8>| {
            file.record(RawRecord {
                at_ns: 1_000_000_000 + (at_us + after_us) * 1_000,
                cpu: (job % 4) as u16,
                data: &data,
            });
        };
        put(0, record(&queue, &[context, job, 4 + context, 10], &[gpu[0], gpu[1], "game"]));
        put(3 + job % 7, record(&run, &[context, job, 4 + context], &gpu));
        if job % 50 != 49 {
            let error = if job % 40 == 7 { -125_i64 } else { 0 };
            put(60 + job % 30, record(&done, &[context, job, error.cast_unsigned()], &[]));
        }
    }
    file.dropped(1_050_000_000, Dropped { ring_full: 3, ..Dropped::default() }).unwrap();
    file.round(2_000_000_000).unwrap();
    file.finish().unwrap();
    path
}

/// The recording as a Perfetto trace. What was not recorded is told on stderr.
fn for_perfetto(dir: &Path, file: &Path) -> PathBuf {
    let perfetto = dir.join("t.pftrace");
    let out = gpuscope().args(["trace", "export", "-o"]).arg(&perfetto).arg(file).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    perfetto
}

/// What a Perfetto trace does not carry is left out of the comparison: what could be captured, settings and notes.
#[test]
fn a_perfetto_trace_of_a_recording_gives_the_same_report() {
    let dir = tempfile::tempdir().unwrap();
    for file in [recording(dir.path()), recording_of_many(dir.path())] {
        let perfetto = for_perfetto(dir.path(), &file);
        let report = |path: &Path| {
            let mut lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--jobs", "--json"]).arg(path)));
            let report = lines.last_mut().unwrap().as_object_mut().unwrap();
            for of in ["sources", "unavailable", "settings", "notes", "note_count"] {
                report.remove(of);
            }
            lines
        };
        let (ours, theirs) = (report(&file), report(&perfetto));
        assert!(ours.len() > 3);
        assert_eq!(ours.len(), theirs.len(), "{:#}", theirs.last().unwrap());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn a_perfetto_trace_that_was_cut_off_gives_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let perfetto = for_perfetto(dir.path(), &recording_of_many(dir.path()));
    let bytes = fs::read(&perfetto).unwrap();
    fs::write(&perfetto, &bytes[..bytes.len() - 9]).unwrap();
    let lines = valid_lines(&stdout(gpuscope().args(["trace", "report", "--json"]).arg(&perfetto)));
    assert!(lines[0]["events"]["SUBMIT"].as_u64().unwrap() > 300, "{:#}", lines[0]["events"]);
    let sources = lines[0]["sources"].as_array().unwrap();
    let is_said =
        |of: &serde_json::Value| of["detail"].as_str().is_some_and(|detail| detail.contains("cut off at byte"));
    assert!(sources.iter().any(is_said), "{sources:#?}");
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..200 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let length = 64 + (random % (bytes.len() as u64 - 64)) as usize;
        let mut cut = PerfettoTrace::read(Path::new("cut"), Box::new(bytes[..length].to_vec())).unwrap();
        let mut records = 0;
        while let Some(item) = cut.next_item() {
            records += u64::from(matches!(item, PerfettoItem::Record(_)));
        }
        assert!(records <= 600 * 3 && cut.faults().iter().all(|fault| fault.is_cut), "{length}: {:?}", cut.faults());
    }
}

#[test]
fn recording_says_what_is_wrong_before_anything_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t");
    fs::write(&file, "precious").unwrap();
    let (status, line) =
        complaint(gpuscope().args(["trace", "record", "-o"]).arg(&file).args(["--", "/no/such/program"]));
    assert_eq!(status, 1);
    assert!(line.contains("/no/such/program: no such program"), "{line}");
    let (status, line) = complaint(gpuscope().args(["--root", ".", "trace", "record", "-o"]).arg(&file));
    assert_eq!(status, 1);
    assert!(line.contains("--root"), "{line}");
    let other = dir.path().join("other");
    for (command, option) in [("record", "--totals"), ("totals", "-o")] {
        let output = if command == "record" { vec!["-o", other.to_str().unwrap()] } else { Vec::new() };
        let (status, line) = complaint(gpuscope().args(["trace", command]).args(output).arg(option).arg(&file));
        assert!(status == 1 && line.contains("holds no totals") && line.contains("--force"), "{command}: {line}");
    }
    assert!(!other.exists());
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    for args in [
        &["trace"][..],
        &["trace", "record"],
        &["trace", "record", "-o", "t", "--buffer", "8"],
        &["trace", "report", "--format", "csv", "t"],
    ] {
        let (status, line) = complaint(gpuscope().args(args));
        assert_eq!(status, 2, "{args:?}: {line}");
    }
}

#[test]
fn sessions_that_make_no_sense_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let trace = |args: &[&str]| complaint(gpuscope().current_dir(dir.path()).arg("trace").args(args));
    for (args, why) in [
        (["start", "--after", "5s"].as_slice(), "--flight"),
        (&["start", "--flight", "5s", "--on", "slow"], "slow needs a time"),
        (&["start", "--flight", "5s", "--max-size", "8MiB"], "cannot be used with"),
        (&["start", "--name", "../x"], "not a name of a session"),
        (&["stop", "--format", "csv"], "has no csv form"),
    ] {
        let (status, said) = trace(args);
        assert!(status == 2 && said.contains(why), "{args:?}: {status} {said}");
    }
    for (args, why) in [
        (["start", "--root", "."].as_slice(), "--root"),
        (&["start", "--flight", "5s", "--alarm", "1s", "--on", "stuck:2s"], "give one of them"),
        (&["stop", "--name", "of-nobody"], "of-nobody"),
        (&["status", "--name", "of-nobody"], "of-nobody"),
        (&["save", "--name", "of-nobody"], "of-nobody"),
    ] {
        let (status, said) = trace(args);
        // A user without a folder for sessions is told that instead.
        assert!(status == 1 && (said.contains(why) || said.contains("XDG_RUNTIME_DIR")), "{args:?}: {status} {said}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
}
