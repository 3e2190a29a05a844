// guest: -g amdgpu,amdgpu -t 300
//! One run of known jobs, recorded at once by gpuscope, by trace-cmd and by perf: all three files hold the same jobs, by the same keys, with the
//! same rings, processes and times. Merged, they are those jobs once, and one that is shifted is brought back.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::gpuscope;
use gpuscope_testbed::{Gpu, gpus, job_log, kernel, kernel_since, load_program, log_jobs, sid_program};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Output};

/// Where the guest has room: not in a folder of the host, into which perf cannot write what it has mapped.
const DIR: &str = "/var/tmp/foreign";

/// Jobs of each of two processes.
const JOBS: usize = 60;

/// How far apart the times of one event may lie, in the middle of all: each tool has a record of its own, made one after the other while the
/// tracepoint fires. An emulated processor may be held up between two of them, for as long as the machine below it is busy; a clock that begins
/// elsewhere puts all of them apart.
const APART_NS: u64 = 1_000_000;
const MOST_APART_NS: u64 = 250_000_000;

fn run(program: &str, args: &[&str]) -> Output {
    let out = Command::new(program).args(args).current_dir(DIR).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {args:?}: {said}");
    println!("{} {program}: {}", kernel(), said.trim());
    out
}

/// The report of a file, and its jobs.
fn report(file: &str) -> (Value, Vec<Value>) {
    let out = Command::new(gpuscope()).args(["trace", "report", "--jobs", "--json", file]).current_dir(DIR).output();
    let out = out.unwrap();
    assert!(out.status.success(), "{file}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines.pop().unwrap(), lines)
}

/// Makes one recording of these files, and gives what was said.
fn merge(out: &str, args: &[&str], files: &[&str]) -> String {
    let args = [&["trace", "merge", "-o", out], args, files].concat();
    String::from_utf8(run(&gpuscope(), &args).stderr).unwrap()
}

/// The three made one tell what ours alone does: the same jobs, to the nanosecond. And so they do where one of them is 5 ms off.
fn merged_is_the_same(own_report: &Value) {
    let mut own = report("own").1;
    // Whether all dependencies were recorded is not handed on: where none was seen, that is not known any more.
    let is_none = |job: &&mut Value| job["dependencies"] == 0;
    own.iter_mut().filter(is_none).for_each(|job| job["dependencies"] = Value::Null);
    let same = |merged: &str| {
        let (told, jobs) = report(merged);
        assert_eq!(jobs, own, "{} {merged}", kernel());
        for field in ["events", "rings", "processes"] {
            assert_eq!(told[field], own_report[field], "{} {merged}: {field}", kernel());
        }
    };
    let said = merge("merged", &[], &["own", "trace.dat", "perf.data"]);
    let events = own_report["events"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    for file in ["trace.dat", "perf.data"] {
        let twice = format!("{file}: {events} of its {events} events stand in a trace named before, too: kept once");
        assert!(said.contains(&twice), "{} {said}", kernel());
    }
    same("merged");
    // Named last, ours adds the processes that trace.dat does not know, and nothing else.
    merge("other", &[], &["trace.dat", "own"]);
    let (told, jobs) = report("other");
    assert_eq!((jobs.len(), &told["events"]), (own.len(), &own_report["events"]), "{}", kernel());
    assert!(jobs.iter().all(|job| job["pid"].is_u64()), "{}", kernel());

    merge("shifted", &["--clock-offset", "perf.data=+5ms"], &["perf.data"]);
    let said = merge("again", &[], &["own", "shifted"]);
    let offset = said.split_once("shifted: offset -").and_then(|(_, rest)| rest.split_once("ms from "));
    let offset_ms: f64 = offset.unwrap_or_else(|| panic!("{} {said}", kernel())).0.parse().unwrap();
    assert!((offset_ms - 5.0).abs() < APART_NS as f64 / 1e6, "{} {said}", kernel());
    same("again");
}

/// What tells one job from all others in records that have no fence: its thread and how many of that thread's were before it.
type Key = (u64, usize);

/// Jobs by their thread and turn.
fn by_turn(mut jobs: Vec<Value>) -> BTreeMap<Key, Value> {
    jobs.sort_by_key(|job| job["submit_ns"].as_u64());
    let (mut turns, mut all) = (BTreeMap::<u64, usize>::new(), BTreeMap::new());
    for job in jobs {
        let tid = job["tid"].as_u64().unwrap();
        let turn = turns.entry(tid).or_default();
        all.insert((tid, *turn), job);
        *turn += 1;
    }
    all
}

/// What is recorded: two processes, one on each GPU, whose jobs the devices log from now on.
fn script(gpus: &[Gpu]) -> String {
    std::fs::create_dir_all(DIR).unwrap();
    gpus.iter().for_each(|gpu| log_jobs(&gpu.bdf, 4096));
    let load = |gpu: usize, rings: &str, comm: &str| {
        let (load, node) = (load_program(), &gpus[gpu].render);
        format!("{load} jobs --count {JOBS} --rings {rings} --us 300,2000,700 --gap 8000 --comm {comm} {node} & ")
    };
    format!("{}{}wait", load(0, "gfx,dma", "game"), load(1, "gfx,compute", "trainer"))
}

/// A file has the jobs of ours: the same keys, rings, processes and times.
fn tells_the_same(file: &str, has_pid: bool, own_report: &Value, own: &BTreeMap<Key, Value>) {
    let (told, jobs) = report(file);
    assert_eq!(told["events"], own_report["events"], "{} {file}", kernel());
    assert!(told["dropped"].as_object().unwrap().values().all(|n| n == 0), "{file}: {}", told["dropped"]);
    // Nothing is wrong with the file, and its clock is ours.
    let sources = told["sources"].as_array().unwrap();
    let wrong = ["CLOCK_MONOTONIC", "trace.dat", "perf.data"];
    let is_wrong = |of: &&Value| of["status"] != "works" && wrong.contains(&of["source"].as_str().unwrap());
    assert_eq!(sources.iter().find(is_wrong), None, "{file}");
    let jobs = by_turn(jobs);
    assert!(jobs.keys().eq(own.keys()), "{} {file}: other threads or other numbers of jobs", kernel());
    let mut apart = Vec::new();
    for (key, job) in &jobs {
        let own = &own[key];
        let mut same = vec!["ring", "gpu", "tid", "comm", "status"];
        if has_pid {
            same.push("pid");
        }
        if kernel_since(6, 17) {
            same.extend(["context", "seqno", "client_id"]);
        }
        for field in same {
            assert_eq!(job[field], own[field], "{} {file}: {field} of {job} and {own}", kernel());
        }
        for field in ["submit_ns", "run_ns", "done_ns"] {
            let (at, own) = (job[field].as_u64().unwrap(), own[field].as_u64().unwrap());
            apart.push(at.abs_diff(own));
        }
    }
    apart.sort_unstable();
    let (middle, most) = (apart[apart.len() / 2], apart[apart.len() - 1]);
    let (jobs, middle_us, most_us) = (jobs.len(), middle / 1000, most / 1000);
    println!("{} {file}: {jobs} jobs, times {middle_us} us apart in the middle, {most_us} us at most", kernel());
    assert!(middle <= APART_NS && most <= MOST_APART_NS, "{} {file}: {middle_us} us, {most_us} us", kernel());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn three_recorders_of_one_run_tell_the_same_jobs() {
    let gpus = gpus();
    let script = script(&gpus);
    // Each recorder runs the next one; the innermost runs the jobs. Ours is by tracefs, whose records are the kernel's own as theirs are.
    let gpuscope = gpuscope();
    let out = run(
        "trace-cmd",
        &[
            "record",
            "-q",
            "-C",
            "mono",
            "-e",
            "gpu_scheduler",
            "-o",
            "trace.dat",
            "perf",
            "record",
            "-q",
            "-a",
            "-B",
            "-N",
            "-k",
            "CLOCK_MONOTONIC",
            "-e",
            "gpu_scheduler:*",
            "-o",
            "perf.data",
            &gpuscope,
            "trace",
            "record",
            "--backend",
            "tracefs",
            "--family",
            "drm-sched",
            "-o",
            "own",
            "--",
            "sh",
            "-c",
            &script,
        ],
    );
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("events by tracefs, nothing lost"), "{said}");
    let truth: Vec<_> = gpus.iter().flat_map(|gpu| job_log(&gpu.bdf)).collect();
    assert_eq!(truth.len(), 2 * JOBS);

    let (own_report, own) = report("own");
    assert_eq!(own.len(), truth.len(), "{own_report:#}");
    let own = by_turn(own);
    for (file, has_pid) in [("trace.dat", false), ("perf.data", true)] {
        tells_the_same(file, has_pid, &own_report, &own);
    }
    merged_is_the_same(&own_report);
    // And ours are those that were submitted.
    let mut submitted: BTreeMap<u64, usize> = BTreeMap::new();
    truth.iter().for_each(|job| *submitted.entry(job.tid.into()).or_default() += 1);
    let mut told: BTreeMap<u64, usize> = BTreeMap::new();
    own.keys().for_each(|(tid, _)| *told.entry(*tid).or_default() += 1);
    assert_eq!(told, submitted, "{}", kernel());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn each_version_of_trace_dat_tells_what_ours_does() {
    let gpus = gpus();
    let debian = vec!["trace-cmd".to_string()];
    let sid = sid_program("trace-cmd");
    assert!(sid.is_some() || !kernel_since(7, 0), "Debian sid's trace-cmd is missing: testbed/setup.sh");
    let versions: [(u8, &[&str]); 3] =
        [(b'6', &["--file-version", "6"]), (b'7', &["--compression", "none"]), (b'7', &["--compression", "zstd"])];
    for program in [Some(debian), sid].into_iter().flatten() {
        for (version, options) in versions {
            let script = script(&gpus);
            let recorder = ["record", "-q", "-C", "mono", "-e", "gpu_scheduler", "-o", "version.dat"];
            let own = ["trace", "record", "--backend", "tracefs", "--family", "drm-sched", "--force", "-o", "beside"];
            let gpuscope = gpuscope();
            let args = [&recorder[..], options, &[&gpuscope], &own, &["--", "sh", "-c", &script]].concat();
            let (first, rest) = program.split_first().unwrap();
            run(first, &rest.iter().map(String::as_str).chain(args).collect::<Vec<_>>());
            // Three bytes, "tracing" and the version (trace-cmd.dat(5)).
            let bytes = std::fs::read(format!("{DIR}/version.dat")).unwrap();
            assert_eq!((&bytes[3..10], bytes[10]), (&b"tracing"[..], version), "{program:?} {options:?}");
            let (own_report, own) = report("beside");
            assert_eq!(own.len(), 2 * JOBS, "{own_report:#}");
            println!("{} {} {options:?}", kernel(), program.join(" "));
            tells_the_same("version.dat", false, &own_report, &by_turn(own));
        }
    }
}
