// guest: -g amdgpu,amdgpu -m timeout_ms=1500 -t 300
//! The same workload gives the same report on every kernel, by every way: the same keys, counts, statuses and attributions, apart from what is told
//! to be unknown there; times are those of the workload.
//!
//! Each guest compares its report with what the workload alone says, which is the same on all kernels: no report is compared with one of our own.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::gpuscope;
use gpuscope_testbed::{Gpu, LoggedJob, gpus, job_log, kernel, kernel_since, load_program, log_jobs};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

/// GPU, rings, name, jobs, lengths.
type Load = (usize, &'static [&'static str], &'static str, u64, &'static [u64]);

/// GPU, rings, name, jobs, and their lengths in microseconds, in turn. A job's ring is its number modulo theirs, and so is its length.
const LOADS: [Load; 3] = [
    (0, &["gfx", "dma"], "game", 80, &[300, 2000]),
    (1, &["gfx", "compute"], "trainer", 60, &[500]),
    (1, &["gfx"], "helper", 40, &[800, 100, 400]),
];

/// One more job, which never ends by itself, on a ring of its own.
const HUNG: (usize, &str, &str) = (0, "compute", "stuck");

/// Runs the kernel has to record in one piece by BPF: what it passes over, as a preempted program of Linux 7.0 and later is, it counts.
const RUNS: usize = 4;

/// What a report says whatever the kernel, put in order.
#[derive(Debug, PartialEq)]
struct Told {
    keys: Vec<String>,
    /// Jobs and statuses by GPU, ring, process.
    jobs: BTreeMap<(Option<usize>, String, String, String), u64>,
    events: BTreeMap<String, u64>,
    /// Jobs and failed ones.
    rings: BTreeMap<(Option<usize>, String), (u64, u64)>,
    processes: BTreeMap<String, (u64, u64)>,
}

/// Lists in a report of which each member has the same keys.
const LISTS: [&str; 2] = ["rings", "processes"];

/// Every key that a report, its rings and processes, and a job have, by their schemas.
fn keys() -> Vec<String> {
    let required = |of: &Value, name: &str| -> Vec<String> {
        of["required"].as_array().unwrap().iter().map(|key| format!("{name}{}", key.as_str().unwrap())).collect()
    };
    let report: Value = serde_json::from_str(include_str!("../../docs/schema/trace.schema.json")).unwrap();
    let job: Value = serde_json::from_str(include_str!("../../docs/schema/job.schema.json")).unwrap();
    let mut keys = required(&report, "");
    for list in LISTS {
        keys.extend(required(&report["properties"][list]["items"], &format!("{list}.")));
    }
    keys.extend(required(&job, "job."));
    keys.sort();
    keys
}

/// What the workload says.
fn expected(has_gpu: bool, has_error: bool) -> Told {
    let gpu = |of: usize| has_gpu.then_some(of);
    let (mut jobs, mut rings, mut processes) = (BTreeMap::new(), BTreeMap::<_, (u64, u64)>::new(), BTreeMap::new());
    let ended = if has_error { "completed" } else { "ended" };
    for (on, names, comm, count, _) in LOADS {
        for (i, ring) in names.iter().enumerate() {
            let own = (count + (names.len() - 1 - i) as u64) / names.len() as u64;
            *jobs.entry((gpu(on), (*ring).to_string(), comm.to_string(), ended.to_string())).or_default() += own;
            rings.entry((gpu(on), (*ring).to_string())).or_default().0 += own;
        }
        processes.insert(comm.to_string(), (count, 0));
    }
    let (on, ring, comm) = HUNG;
    let failed = if has_error { "failed" } else { "ended" };
    jobs.insert((gpu(on), ring.to_string(), comm.to_string(), failed.to_string()), 1);
    let of_ring = rings.entry((gpu(on), ring.to_string())).or_default();
    *of_ring = (of_ring.0 + 1, of_ring.1 + u64::from(has_error));
    processes.insert(comm.to_string(), (1, u64::from(has_error)));
    let total = LOADS.iter().map(|load| load.3).sum::<u64>() + 1;
    let events = ["SUBMIT", "COMMIT", "COMPLETE"].map(|kind| (kind.to_string(), total)).into();
    Told { keys: keys(), jobs, events, rings, processes }
}

/// What a report and its jobs say.
fn told(gpus: &[Gpu], report: &Value, jobs: &[Value]) -> Told {
    let gpu = |of: &Value| of["gpu"].as_str().map(|bdf| gpus.iter().position(|gpu| gpu.bdf == bdf).unwrap());
    let text = |of: &Value, key: &str| of[key].as_str().unwrap().to_string();
    let number = |of: &Value, key: &str| of[key].as_u64().unwrap();
    let named = |of: &Value, name: &str| -> Vec<String> {
        of.as_object().unwrap().keys().map(|key| format!("{name}{key}")).collect()
    };
    let mut keys = named(report, "");
    for list in LISTS {
        let of = report[list].as_array().unwrap();
        let one = named(&of[0], &format!("{list}."));
        assert!(of.iter().all(|other| named(other, &format!("{list}.")) == one), "{}: {of:?}", kernel());
        keys.extend(one);
    }
    keys.extend(named(&jobs[0], "job."));
    keys.sort();
    let mut by = BTreeMap::new();
    for job in jobs {
        *by.entry((gpu(job), text(job, "ring"), text(job, "comm"), text(job, "status"))).or_default() += 1;
    }
    let of_ring = |ring: &Value| ((gpu(ring), text(ring, "ring")), (number(ring, "jobs"), number(ring, "failed")));
    let of_process = |of: &Value| (text(of, "comm"), (number(of, "jobs"), number(of, "failed")));
    let events = report["events"].as_object().unwrap();
    // That a fence ended with an error is told besides the job's own end.
    let of_jobs = events.iter().filter(|(kind, _)| kind.as_str() != "ERROR");
    Told {
        keys,
        jobs: by,
        events: of_jobs.map(|(kind, n)| (kind.clone(), n.as_u64().unwrap())).collect(),
        rings: report["rings"].as_array().unwrap().iter().map(of_ring).collect(),
        processes: report["processes"].as_array().unwrap().iter().map(of_process).collect(),
    }
}

/// Records the workload. None where the kernel passed events over, and said so.
fn record(gpus: &[Gpu], way: &str) -> Option<(Value, Vec<Value>, Vec<LoggedJob>)> {
    gpus.iter().for_each(|gpu| log_jobs(&gpu.bdf, 1024));
    let load = load_program();
    let mut script = String::new();
    for (on, rings, comm, count, lengths) in LOADS {
        let (rings, node) = (rings.join(","), &gpus[on].render);
        let lengths = lengths.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        script.push_str(&format!(
            "{load} jobs --count {count} --rings {rings} --us {lengths} --gap 9000 --contexts 2 --comm {comm} {node} & "
        ));
    }
    let (on, ring, comm) = HUNG;
    script.push_str(&format!("{load} jobs --count 1 --rings {ring} --hang 0 --comm {comm} {} & wait", gpus[on].render));
    let file = format!("/var/tmp/same-{way}");
    let out = Command::new(gpuscope())
        .args(["trace", "record", "--backend", way, "--family", "drm-sched", "-o", &file, "--", "sh", "-c", &script])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{way}: {said}");
    if way == "bpf" && said.contains("events by bpf, not recorded: missed ") {
        println!("{} {said}", kernel());
        return None;
    }
    assert!(said.contains(&format!("events by {way}, nothing lost")), "{way}: {said}");
    let out = Command::new(gpuscope()).args(["trace", "report", &file, "--jobs", "--json"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let report = lines.pop().unwrap();
    Some((report, lines, gpus.iter().flat_map(|gpu| job_log(&gpu.bdf)).collect()))
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_report_is_what_the_workload_says_on_every_kernel() {
    let gpus = gpus();
    for way in ["bpf", "tracefs", "perf"] {
        let (has_gpu, has_error) = (way == "bpf" || kernel_since(6, 17), way == "bpf");
        let run = (0..RUNS).find_map(|_| record(&gpus, way));
        let (report, jobs, log) = run.unwrap_or_else(|| panic!("{} {way}: each run missed events", kernel()));
        assert_eq!(told(&gpus, &report, &jobs), expected(has_gpu, has_error), "{} {way}", kernel());
        // What is not known is said, and nothing else.
        let unavailable = report["unavailable"].as_array().unwrap();
        let no_gpu = unavailable.iter().filter(|of| of["metric"].as_str().unwrap().ends_with(".gpu")).count();
        assert_eq!(no_gpu > 0, !has_gpu, "{} {way}: {unavailable:?}", kernel());
        for job in &jobs {
            assert_eq!(job["context"].is_null(), !has_gpu, "{} {way}: {job}", kernel());
            let errno = if has_error && job["comm"] == HUNG.2 {
                json!(-62)
            } else if has_error {
                json!(0)
            } else {
                Value::Null
            };
            assert!(job["errno"] == errno || errno == 0 && job["errno"].is_null(), "{} {way}: {job}", kernel());
        }
        // Times: from hand-over to end a job takes what it was given and what stood before it, and the engine's timer was so late.
        for (_, rings, comm, count, lengths) in LOADS {
            let mut own: Vec<&LoggedJob> = log.iter().filter(|job| job.comm == comm).collect();
            own.sort_by_key(|job| job.submit_ns);
            assert_eq!(own.len() as u64, count);
            let given: u64 = (0..count).map(|k| lengths[k as usize % lengths.len()] * 1000).sum();
            let late: u64 = own.iter().map(|job| job.signalled_ns - job.due_ns).sum();
            let ran: u64 = own.iter().map(|job| job.signalled_ns - job.run_ns).sum();
            let mut jobs: Vec<&Value> = jobs.iter().filter(|job| job["comm"] == comm).collect();
            jobs.sort_by_key(|job| job["submit_ns"].as_u64());
            let told = jobs.iter().map(|job| job["in_flight_ns"].as_u64().unwrap());
            // One process submits them one after the other.
            let mut off: Vec<u64> =
                told.clone().zip(&own).map(|(told, job)| told.abs_diff(job.signalled_ns - job.run_ns)).collect();
            off.sort_unstable();
            let (middle, told): (u64, u64) = (off[off.len() / 2], told.sum());
            println!(
                "{} {way}: {comm} on {rings:?}: in flight {told} ns, the log says {ran} ns, given {given} ns, late {late} ns; off by {middle} ns in the middle",
                kernel()
            );
            // Between a record and the module's own clock the guest may be interrupted: of all of them a quarter of what was given is let pass.
            assert!(
                told >= given && middle <= late / count && told.abs_diff(ran) <= late + given / 4,
                "{} {way}: {comm}: {told}, the log says {ran}: {off:?}",
                kernel()
            );
        }
    }
}
