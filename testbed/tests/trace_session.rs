// guest: -g amdgpu,amdgpu -m timeout_ms=3000 -t 400
//! Sessions in the background, and the flight recorder: what `trace start` leaves behind, what `status` says, and what is in the files that
//! triggers write, against the module's own log of each job.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::gpuscope;
use gpuscope_sys::monotonic_ns;
use gpuscope_testbed::{Jobs, LoggedJob, gpus, job_log, kernel, log_jobs, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

fn run(arguments: &[&str]) -> Output {
    let out = Command::new(gpuscope()).arg("trace").args(arguments).output().unwrap();
    if out.stdout.len() < 4000 {
        print!("{}", String::from_utf8_lossy(&out.stdout));
    }
    print!("{}", String::from_utf8_lossy(&out.stderr));
    out
}

/// What a command says; it has to succeed.
#[track_caller]
fn said(arguments: &[&str]) -> String {
    let out = run(arguments);
    assert!(out.status.success() && out.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What a command complains of.
#[track_caller]
fn complaint(arguments: &[&str]) -> String {
    let out = run(arguments);
    assert_eq!(out.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(out.stderr).unwrap()
}

fn sessions() -> Vec<Value> {
    let document: Value = serde_json::from_str(&said(&["status", "--json"])).unwrap();
    assert_eq!(document["schema"], "gpuscope.trace_status/1");
    document["sessions"].as_array().unwrap().clone()
}

fn session(name: &str) -> Value {
    sessions().into_iter().find(|of| of["name"] == name).unwrap_or_else(|| panic!("no session {name}"))
}

/// A report, and a line for each job.
fn report(file: &str) -> (Value, Vec<Value>) {
    let text = said(&["report", "--jobs", "--json", file]);
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines.pop().unwrap(), lines)
}

/// Events that the kernel passed over, and said so: a run of the guest may have them.
fn missed(of: &Value) -> u64 {
    of["dropped"]["missed"].as_u64().unwrap()
}

fn kill(signal: &str, pid: &Value) {
    let done = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn sessions_run_by_name_record_everything_and_end_when_told() {
    let gpus = gpus();
    for gpu in &gpus {
        log_jobs(&gpu.bdf, 10_000);
    }
    assert_eq!(said(&["status"]), "no session runs; `gpuscope trace start` begins one\n");
    let began = said(&["start", "-o", "/var/tmp/one", "--name", "one", "--max-size", "8MiB"]);
    assert!(began.starts_with("session one records into /var/tmp/one by bpf, process "), "{began}");
    said(&["start", "-o", "/var/tmp/two", "--name", "two", "--backend", "tracefs", "--alarm", "1s"]);
    for (path, mode) in
        [("/run/gpuscope", 0o40700), ("/run/gpuscope/one.json", 0o100600), ("/run/gpuscope/one.log", 0o100600)]
    {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode(), mode, "{path}");
    }
    let again = complaint(&["start", "-o", "/var/tmp/three", "--name", "one"]);
    assert!(again.contains("session one runs already") && again.lines().count() == 1, "{again}");
    assert!(!fs::exists("/var/tmp/three").unwrap());

    let jobs = Jobs::run(&["--count", "200", "--rings", "gfx,dma", "--us", "300", "--gap", "2000", &gpus[0].render]);
    assert_eq!(jobs.count(), 200);
    assert!(wait_until(Duration::from_secs(20), || session("one")["events"].as_u64().unwrap()
        >= 600 - 3 * missed(&session("one"))));
    let (one, two) = (session("one"), session("two"));
    assert_eq!(
        (&one["state"], &one["backend"], &one["max_file_bytes"]),
        (&"recording".into(), &"bpf".into(), &(8 << 20).into())
    );
    assert_eq!((&two["alarm"]["threshold_s"], &two["alarm"]["raised"]), (&1.0.into(), &0.into()));
    let stopped = said(&["stop", "--name", "one"]);
    assert!(stopped.contains("one: ended") && stopped.contains("/var/tmp/one"), "{stopped}");
    let (of_one, told) = report("/var/tmp/one");
    if missed(&one) == 0 {
        assert_eq!((told.len(), &of_one["dropped"]["ring_full"]), (200, &0.into()));
    }
    assert_eq!(sessions().len(), 1);

    // A killed one is recognised, and what it recorded can be read.
    kill("-KILL", &two["pid"]);
    assert!(wait_until(Duration::from_secs(5), || session("two")["state"] == "killed"));
    assert!(session("two")["unavailable"][0]["reason"] == "gone");
    let killed = complaint(&["stop", "--name", "two"]);
    assert!(killed.contains("its process was killed; /var/tmp/two holds what was recorded until then"), "{killed}");
    assert_eq!(report("/var/tmp/two").1.len(), 200);
    assert!(complaint(&["stop", "--name", "two"]).contains("there is no session two"));
    // The next one of that name begins as if nothing had been.
    said(&["start", "-o", "/var/tmp/two", "--name", "two"]);
    kill("-TERM", &session("two")["pid"]);
    assert!(wait_until(Duration::from_secs(20), || sessions().is_empty()));
    assert_eq!(fs::read_dir("/run/gpuscope").unwrap().count(), 0, "nothing is left behind");
    assert!(said(&["report", "/var/tmp/two"]).contains("traced"));

    // Without rights: `start` itself says so.
    let nobody = format!("XDG_RUNTIME_DIR=/var/tmp/nobody {} trace start -o /var/tmp/nobody/t", gpuscope());
    let script = format!(
        "mkdir -p /var/tmp/nobody && chown 65534 /var/tmp/nobody && setpriv --reuid=65534 --clear-groups --inh-caps=-all sh -c '{nobody}'"
    );
    let out = Command::new("sh").args(["-c", &script]).output().unwrap();
    let why = String::from_utf8(out.stderr).unwrap();
    println!("{why}");
    assert_eq!((out.status.code(), why.lines().count()), (Some(1), 1), "{why}");
    assert!(why.contains("permission denied") && why.contains("cap"), "{why}");
    assert_eq!(fs::read_dir("/var/tmp/nobody/gpuscope").unwrap().count(), 0);
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_session_keeps_what_it_is_told_to_and_other_jobs_once_it_is_told_so() {
    let gpus = gpus();
    let file = "/var/tmp/changed";
    said(&["start", "-o", file, "--name", "ch", "--ring", "gfx", "--alarm", "5s"]);
    assert_eq!(session("ch")["settings"], serde_json::json!(["--ring gfx"]));
    let jobs = |count: &str, us: &str| {
        let jobs = Jobs::run(&["--count", count, "--rings", "gfx,dma", "--us", us, "--gap", "2000", &gpus[0].render]);
        assert_eq!(jobs.count().to_string(), count);
    };
    jobs("40", "300");
    let changed = said(&["change", "--name", "ch", "--ring", "dma", "--not-comm", "nobody at all"]);
    assert!(changed.contains("keeps --not-comm nobody at all --ring dma"), "{changed}");
    // What cannot be done changes nothing, and is told to who asked.
    for (options, remedy) in [(&["--ring", "card7/gfx"][..], "gpuscope list"), (&["--slower-than", "1ms"], "the alarm")]
    {
        let error = complaint(&[&["change", "--name", "ch"], options].concat());
        assert!(error.contains(remedy) && error.lines().count() == 1, "{options:?}: {error}");
    }
    assert_eq!(session("ch")["settings"], serde_json::json!(["--not-comm nobody at all", "--ring dma"]));
    jobs("60", "400");
    assert!(!said(&["change", "--name", "ch"]).contains("keeps"));
    jobs("20", "500");
    let missed = missed(&session("ch"));
    said(&["stop", "--name", "ch"]);
    let (report, told) = report(file);
    // Half of each on either ring.
    let on = |ring: &str| told.iter().filter(|job| job["ring"] == ring && job["status"] == "completed").count() as u64;
    println!("{}: {} on gfx, {} on dma, {missed} missed", kernel(), on("gfx"), on("dma"));
    for (ring, jobs) in [("gfx", 20 + 10), ("dma", 30 + 10)] {
        assert!(on(ring) <= jobs && on(ring) + missed >= jobs, "{}: {} on {ring}", kernel(), on(ring));
    }
    assert_eq!(report["settings"], serde_json::json!(["--ring gfx"]));
    let filtered = report["dropped"]["filtered"].as_u64().unwrap();
    assert!(filtered.abs_diff(3 * (20 + 30)) <= 3 * missed, "{}: {filtered}", kernel());
    let notes: Vec<&str> =
        report["notes"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect();
    assert_eq!(
        notes,
        [
            "settings changed to: --not-comm nobody at all --ring dma; before: --ring gfx",
            "settings changed to: all jobs; before: --not-comm nobody at all --ring dma"
        ]
    );
    assert!(complaint(&["change", "--name", "ch"]).contains("no session ch runs"));
}

/// The jobs of the log that ended between two moments are told, each.
fn assert_complete(told: &[Value], log: &[LoggedJob], from_ns: u64, to_ns: u64) -> usize {
    let within: Vec<&LoggedJob> =
        log.iter().filter(|job| job.submit_ns > from_ns && job.signalled_ns > 0 && job.signalled_ns < to_ns).collect();
    for job in &within {
        let is_it = |of: &&Value| of["context"] == job.fence.0 && of["seqno"] == job.fence.1;
        assert!(told.iter().any(|of| is_it(&of)), "{job:?} is missing between {from_ns} and {to_ns}");
    }
    within.len()
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_flight_recorder_saves_the_seconds_around_a_hung_job() {
    let gpus = gpus();
    let gpu = &gpus[0];
    for gpu in &gpus {
        log_jobs(&gpu.bdf, 20_000);
    }
    fs::create_dir_all("/var/tmp/flights").unwrap();
    let flight =
        ["start", "--flight", "4s", "--after", "1s", "--on", "stuck:1s,timeout,signal", "-o", "/var/tmp/flights"];
    said(&flight);
    let capture_ns = monotonic_ns();
    // Work that is no reason to save anything, on both GPUs, and then a job that hangs.
    let other = gpus[1].render.clone();
    let busy = thread::spawn(move || {
        Jobs::run(&["--count", "900", "--rings", "gfx", "--us", "500", "--gap", "10000", "--comm", "busy", &other])
    });
    let _ = Jobs::run(&["--count", "100", "--rings", "gfx", "--us", "500", "--gap", "10000", &gpu.render]);
    assert_eq!(session("default")["flight"]["triggers"], 0);
    let _ =
        Jobs::run(&["--count", "6", "--rings", "gfx", "--us", "500", "--hang", "2", "--comm", "hanger", &gpu.render]);
    let files = || fs::read_dir("/var/tmp/flights").unwrap().count();
    let has_saved = |n: usize| session("default")["flight"]["saved"].as_array().unwrap().len() == n;
    // One for the stuck job, and one for its end by the module, unless both were within the second after.
    assert!(wait_until(Duration::from_secs(30), || has_saved(2)), "{:#}", session("default"));
    let state = session("default");
    println!("{state:#}");
    let saved = state["flight"]["saved"].as_array().unwrap();
    let log = job_log(&gpu.bdf);
    let hung = log.iter().find(|job| job.flags.hangs()).unwrap();
    for (i, word) in [(0, "stuck"), (1, "timeout")] {
        let file = saved[i]["file"].as_str().unwrap();
        assert!(saved[i]["reason"].as_str().unwrap().contains(&format!("of pid {} (hanger)", hung.tgid)), "{saved:#?}");
        let (report, told) = report(file);
        let from_ns = report["monotonic_ns"].as_u64().unwrap();
        let to_ns = from_ns + (report["span_s"].as_f64().unwrap() * 1e9) as u64;
        let reason = format!("flight recorder triggered by {word}: ");
        let notes = report["notes"].as_array().unwrap();
        let note = notes.iter().find(|note| note["text"].as_str().unwrap().starts_with(&reason));
        let at_ns = note.unwrap_or_else(|| panic!("{notes:#?}"))["monotonic_ns"].as_u64().unwrap();
        // The moment is that of the thing itself: of the job's end, or when it had been stuck for so long.
        let truth_ns = if word == "stuck" { hung.start_ns + SECOND } else { hung.signalled_ns };
        assert!(at_ns.abs_diff(truth_ns) < SECOND, "{word}: {at_ns} {truth_ns}");
        println!(
            "{} {word}: {:.2} s before, {:.2} s after",
            kernel(),
            (at_ns - from_ns) as f64 / 1e9,
            (to_ns - at_ns) as f64 / 1e9
        );
        // Everything since the span before the trigger, or since the capture began; and what came after.
        assert!(from_ns <= (at_ns - 4 * SECOND).max(capture_ns), "{word}: {from_ns} {at_ns} {capture_ns}");
        assert!((SECOND / 2..3 * SECOND).contains(&(to_ns - at_ns)), "{word}: {to_ns} {at_ns}");
        if missed(&report) == 0 {
            let whole: usize =
                gpus.iter().map(|gpu| assert_complete(&told, &job_log(&gpu.bdf), from_ns, to_ns - SECOND / 4)).sum();
            assert!(whole > 50, "{word}: {whole} jobs were compared");
        }
        let is_hung = |of: &&Value| of["context"] == hung.fence.0 && of["seqno"] == hung.fence.1;
        let of_hung = told.iter().find(is_hung).expect("the job that hung is in the file");
        if word == "timeout" {
            assert_eq!(
                (&of_hung["status"], &of_hung["errno"], &of_hung["pid"]),
                (&"failed".into(), &(-62).into(), &hung.tgid.into())
            );
            assert!(report["events"]["ERROR"].as_u64().unwrap() > 0 && report["error_count"] == 1, "{report:#}");
        } else {
            assert_eq!(of_hung["status"], "in_flight", "{of_hung}");
        }
    }
    // By hand: a signal, and a command.
    kill("-USR1", &state["pid"]);
    assert!(wait_until(Duration::from_secs(20), || has_saved(3)));
    let by_command = said(&["save", "--reason", "to see"]);
    assert!(by_command.contains("-save: ") && files() == 4, "{by_command}");
    let last = by_command.split(": ").next().unwrap();
    assert!(
        report(last).0["notes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|note| note["text"] == "flight recorder triggered by save: to see")
    );
    assert_eq!(busy.join().unwrap().count(), 900);
    said(&["stop"]);
    assert_eq!((sessions().len(), files()), (0, 4));

    // Into a file: the first trigger ends the session.
    said(&["start", "--flight", "10s", "--after", "500ms", "--on", "slow:400ms", "-o", "/var/tmp/slow"]);
    let _ = Jobs::run(&["--count", "5", "--rings", "gfx", "--us", "200", &gpu.render]);
    assert!(!fs::exists("/var/tmp/slow").unwrap());
    let _ = Jobs::run(&["--count", "1", "--rings", "gfx", "--us", "600000", &gpu.render]);
    assert!(wait_until(Duration::from_secs(20), || session("default")["state"] == "ended"));
    assert!(said(&["stop"]).contains("it saved /var/tmp/slow"));
    assert_eq!(report("/var/tmp/slow").1.len(), 6);
}

/// What fires without being asked for: a job that a driver could not run is an error, and no timeout.
#[test]
#[ignore = "needs the testbed's guest"]
fn a_job_that_fails_is_saved_by_default() {
    let gpu = &gpus()[0];
    said(&["start", "--flight", "10s", "--after", "500ms", "-o", "/var/tmp/failing"]);
    let _ = Jobs::run(&["--count", "5", "--rings", "gfx", "--us", "200", &gpu.render]);
    assert!(!fs::exists("/var/tmp/failing").unwrap());
    let _ =
        Jobs::run(&["--count", "3", "--rings", "gfx", "--us", "200", "--fail", "2", "--comm", "failing", &gpu.render]);
    assert!(wait_until(Duration::from_secs(20), || session("default")["state"] == "ended"));
    assert!(said(&["stop"]).contains("it saved /var/tmp/failing"));
    let (report, jobs) = report("/var/tmp/failing");
    let notes = report["notes"].as_array().unwrap();
    let is_error = |note: &Value| note["text"].as_str().unwrap().starts_with("flight recorder triggered by error: ");
    assert!(notes.iter().any(is_error), "{notes:#?}");
    let failed: Vec<&Value> = jobs.iter().filter(|job| job["status"] == "failed").collect();
    assert!(failed.len() == 1 && failed[0]["errno"] == -5 && failed[0]["comm"] == "failing", "{failed:#?}");
}
