// guest: -g amdgpu,amdgpu -m timeout_ms=4000 -t 240
//! A job that hangs: told while it does, with the right process and ring and who waits behind it, and found in the recording with its
//! error. What is right is in the module's own log of each job.
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
use gpuscope_testbed::{Gpu, LoggedJob, gpus, job_log, kernel, kernel_since, load_program, log_jobs, wait_until};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// The threshold, and what the module gives a job before it ends it.
const ALARM_NS: u64 = 2 * SECOND;

/// Lines of stderr, and when each came.
type Lines = Arc<Mutex<Vec<(u64, String)>>>;

fn lines_of(child: &mut Child) -> Lines {
    let lines = Lines::default();
    let (stderr, kept) = (child.stderr.take().unwrap(), lines.clone());
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            println!("{line}");
            kept.lock().unwrap().push((monotonic_ns(), line));
        }
    });
    lines
}

fn find(lines: &Lines, word: &str) -> Option<(u64, String)> {
    lines.lock().unwrap().iter().find(|(_, line)| line.contains(word)).cloned()
}

fn load(gpu: &Gpu, arguments: &str) -> Child {
    Command::new(load_program())
        .arg("jobs")
        .args(arguments.split(' '))
        .arg(&gpu.render)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn hung(gpu: &Gpu) -> LoggedJob {
    job_log(&gpu.bdf).into_iter().find(|job| job.flags.hangs()).expect("a job that hangs is in the log")
}

/// Lets a job hang while its own process and another one wait behind it, and another GPU works.
fn alarm(gpus: &[Gpu], backend: &str) {
    let (gpu, other) = (&gpus[0], &gpus[1]);
    for gpu in gpus {
        log_jobs(&gpu.bdf, 10_000);
    }
    let file = format!("/var/tmp/alarm-{backend}");
    let mut record = Command::new(gpuscope())
        .args(["trace", "record", "--alarm", "2s", "--backend", backend, "-o", &file])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines_of(&mut record);
    // It says nothing when it begins: its file is there once the capture is.
    assert!(wait_until(Duration::from_secs(90), || std::path::Path::new(&file).exists()));

    // Records that name no device make one ring of two with one name, on which the other GPU's jobs overtake the one that hangs.
    let names_device = backend == "bpf" || kernel_since(6, 17);
    let ring = if names_device { "gfx" } else { "compute" };
    let mut busy = load(other, &format!("--count 300 --rings {ring} --us 2000 --gap 20000 --comm busy"));
    let mut hanger = load(gpu, "--count 8 --rings gfx --us 500 --hang 3 --comm hanger");
    assert!(wait_until(Duration::from_secs(5), || job_log(&gpu.bdf).len() == 8));
    let mut waiter = load(gpu, "--count 5 --rings gfx --us 500 --comm waiter");
    assert!(wait_until(Duration::from_secs(5), || job_log(&gpu.bdf).len() == 13));

    assert!(wait_until(Duration::from_secs(10), || find(&lines, "gpuscope: stuck: ").is_some()), "no alarm came");
    let (told_ns, line) = find(&lines, "gpuscope: stuck: ").unwrap();
    let truth = hung(gpu);
    assert_eq!(truth.end_ns, 0, "it is told while it is stuck: {truth:?}");
    let behind = job_log(&gpu.bdf).into_iter().find(|job| job.comm == "waiter").unwrap();
    let age_ns = told_ns - truth.start_ns;
    println!("{} {backend}: told {} ms after it began to hang", kernel(), age_ns / 1_000_000);
    assert!((ALARM_NS..ALARM_NS + SECOND).contains(&age_ns), "{age_ns} ns: {line}");
    let device = if names_device { format!("{} gfx,", gpu.bdf) } else { "gfx,".into() };
    for word in [
        format!("stuck: {device}"),
        format!("of pid {} (hanger)", truth.tgid),
        "with the hardware for 2.".into(),
        "; 9 jobs wait behind it: ".into(),
        format!("5 of pid {} (waiter)", behind.tgid),
        format!("4 of pid {} (hanger)", truth.tgid),
    ] {
        assert!(line.contains(&word), "{word} is not in: {line}");
    }

    // The module ends it after its time; what waited goes on.
    assert!(
        wait_until(Duration::from_secs(10), || find(&lines, "no longer stuck: ").is_some()),
        "its end was not told"
    );
    let (_, ended) = find(&lines, "no longer stuck: ").unwrap();
    let how = if backend == "bpf" { "failed with error -62 (ETIME: timed out)" } else { "the records do not say how" };
    assert!(ended.contains(how) && ended.contains("(hanger)"), "{ended}");
    // What hung is no failure of who waited behind it.
    hanger.wait().unwrap();
    assert!(waiter.wait().unwrap().success() && busy.wait().unwrap().success());
    let stop = Command::new("kill").args(["-INT", &record.id().to_string()]).status().unwrap();
    assert!(stop.success() && record.wait().unwrap().success());
    let alarms = lines.lock().unwrap().iter().filter(|(_, line)| line.contains("gpuscope: stuck: ")).count();
    assert_eq!(alarms, 1, "one job was stuck");

    let out = Command::new(gpuscope()).args(["trace", "report", "--json", &file]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let notes: Vec<&str> =
        report["notes"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(line.ends_with(notes[0]) && ended.ends_with(notes[1]), "{notes:?}");
    if backend == "bpf" {
        let errors = report["errors"].as_array().unwrap();
        assert_eq!((errors.len(), &report["error_count"]), (1, &1.into()), "{errors:?}");
        assert_eq!((&errors[0]["pid"], &errors[0]["errno"]), (&truth.tgid.into(), &(-62).into()));
        assert_eq!((&errors[0]["ring"], &errors[0]["gpu"]), (&"gfx".into(), &gpu.bdf.as_str().into()));
        assert!(report["events"]["ERROR"].as_u64().unwrap() > 0, "{}", report["events"]);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_hung_job_is_told_within_a_second_of_the_threshold_while_it_hangs() {
    let gpus = gpus();
    for backend in ["bpf", "tracefs"] {
        alarm(&gpus, backend);
    }
}
