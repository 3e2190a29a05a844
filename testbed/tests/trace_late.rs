// guest: -g amdgpu -t 300
//! `gpuscope trace report --why` against the module's own log: which job each one waited for, and how long each took.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::gpuscope;
use gpuscope_testbed::{LoggedJob, gpus, job_log, kernel, kernel_since, load_program, log_jobs};
use serde_json::Value;
use std::process::Command;

/// Jobs that wait for each other one after the other, over three rings in turn.
const CHAIN: usize = 12;

/// Runs a load under `trace record`, and returns the module's log. None where the kernel passed events over, and said so.
fn record(backend: &str, file: &str, load: &str) -> Option<Vec<LoggedJob>> {
    let gpu = &gpus()[0];
    log_jobs(&gpu.bdf, 4096);
    let script = load.replace("LOAD", &format!("{} jobs", load_program())).replace("NODE", &gpu.render);
    let out = Command::new(gpuscope())
        .args(["trace", "record", "--backend", backend, "-o", file, "--", "sh", "-c", &script])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{backend}: {said}");
    if said.contains("not recorded: missed ") {
        println!("{} {said}", kernel());
        return None;
    }
    assert!(said.contains("nothing lost"), "{backend}: {said}");
    Some(job_log(&gpu.bdf))
}

fn recorded(backend: &str, file: &str, load: &str) -> Vec<LoggedJob> {
    (0..10).find_map(|_| record(backend, file, load)).unwrap_or_else(|| panic!("{}: each run missed events", kernel()))
}

/// What a job's time went to.
fn why(file: &str, job: &LoggedJob) -> Value {
    let name = format!("{}:{}", job.fence.0, job.fence.1);
    let out = Command::new(gpuscope()).args(["trace", "report", file, "--json", "--why", &name]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let late = report["late"][0].clone();
    // The pieces follow each other, and add up.
    let mut at = late["submit_ns"].as_u64().unwrap();
    for link in late["links"].as_array().unwrap() {
        assert_eq!(link["from_ns"].as_u64().unwrap(), at, "{late:#}");
        at += link["ns"].as_u64().unwrap();
    }
    let total = late["total_ns"].as_u64().unwrap();
    assert_eq!(at, late["submit_ns"].as_u64().unwrap() + total, "{late:#}");
    let shares: u64 = late["shares"].as_array().unwrap().iter().map(|share| share["ns"].as_u64().unwrap()).sum();
    assert_eq!(shares, total, "{late:#}");
    late
}

fn fence(of: &Value) -> (u64, u64) {
    (of["context"].as_u64().unwrap(), of["seqno"].as_u64().unwrap())
}

fn backends() -> &'static [&'static str] {
    // Records without BPF name jobs by address before 6.17: nothing tells there which one is waited for.
    if kernel_since(6, 17) { &["bpf", "tracefs"] } else { &["bpf"] }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_chain_of_dependencies_is_told_job_by_job() {
    for backend in backends() {
        let file = format!("/var/tmp/chain-{backend}");
        let load =
            format!("LOAD --count {CHAIN} --rings gfx,compute,dma --us 20000,45000,30000 --chain --comm chain NODE");
        let log = recorded(backend, &file, &load);
        assert_eq!(log.len(), CHAIN);
        let last = log.last().unwrap();
        let late = why(&file, last);
        let links = late["links"].as_array().unwrap();
        // Whose execution it waited for, in order: as the module handed the dependencies to the scheduler.
        let executed: Vec<&Value> = links.iter().filter(|link| link["cause"] == "executed").collect();
        let told: Vec<(u64, u64)> = executed.iter().map(|link| fence(&link["of"])).collect();
        let mut expected = vec![last.fence];
        while let Some(job) = log.iter().find(|job| job.fence == *expected.last().unwrap())
            && let [before] = job.deps[..]
        {
            expected.push(before);
        }
        expected.reverse();
        assert_eq!(expected.len(), CHAIN);
        // What had ended before the last one was submitted is not of its time.
        let ended = log.iter().filter(|job| job.signalled_ns < last.submit_ns).count();
        assert!(ended < CHAIN / 2, "{}: the guest was too slow for this test", kernel());
        assert_eq!(told, expected[ended..], "{backend}: {late:#}");
        let lateness = log.iter().map(|job| job.end_ns - job.due_ns).max().unwrap();
        for link in executed.iter().skip(1) {
            let truth = log.iter().find(|job| job.fence == fence(&link["of"])).unwrap();
            let (told, ran) = (link["ns"].as_u64().unwrap(), truth.end_ns - truth.start_ns);
            let off = told.abs_diff(ran);
            // From the hand-over, a little before the engine begins, to the scheduler's callback, a little after it has ended.
            // Between an event and the module's own clock the guest may be interrupted: so long as a tenth of the job, where load is high.
            let most = lateness + (truth.start_ns - truth.run_ns) + (truth.signalled_ns - truth.end_ns) + ran / 10;
            assert!(off <= most, "{backend}: {link} ran {ran} ns, {most} ns are allowed");
            assert_eq!(link["of"]["comm"], "chain", "{backend}: {link}");
            assert_eq!(link["of"]["ring"], truth.ring.as_str(), "{backend}: {link}");
            assert_eq!(
                link["via"],
                if truth.fence == last.fence { "itself" } else { "dependency" },
                "{backend}: {link}"
            );
        }
        // Nothing else was in the way.
        for link in links {
            assert!(["executed", "dispatch"].contains(&link["cause"].as_str().unwrap()), "{backend}: {link}");
        }
        let ran: u64 = executed.iter().map(|link| link["ns"].as_u64().unwrap()).sum();
        println!("{} {backend}: of {} ns {ran} ns were execution", kernel(), late["total_ns"]);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_job_behind_those_of_another_process_names_it() {
    fn victim_of(log: &[LoggedJob]) -> &LoggedJob {
        log.iter().find(|job| job.comm == "second").unwrap()
    }
    /// What the engine did for the other process between the job's submission and its start.
    fn truth_of(log: &[LoggedJob]) -> u64 {
        let (victim, of) = (victim_of(log), log.iter().filter(|job| job.comm == "first"));
        of.map(|job| job.end_ns.min(victim.start_ns).saturating_sub(job.start_ns.max(victim.submit_ns))).sum()
    }
    for backend in backends() {
        let file = format!("/var/tmp/behind-{backend}");
        // The ring takes two at a time; those of the other process, 1.2 s of them, are in its queue before.
        let load = "LOAD --count 120 --rings gfx --us 10000 --comm first NODE & sleep 0.03; LOAD --count 1 --rings gfx --us 500 --comm second NODE & wait";
        // Where the second process comes too late, or comes first, it waits for nobody.
        let log = (0..5).map(|_| recorded(backend, &file, load)).find(|log| truth_of(log) > 5_000_000);
        let log = log.unwrap_or_else(|| panic!("{}: the second process never had to wait", kernel()));
        let victim = victim_of(&log);
        let first = log.iter().find(|job| job.comm == "first").unwrap().tgid;
        let late = why(&file, victim);
        let total = late["total_ns"].as_u64().unwrap();
        let truth = truth_of(&log);
        let told: u64 = late["links"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|link| {
                link["by"]["pid"] == first && ["behind_on_ring", "ring_full"].contains(&link["cause"].as_str().unwrap())
            })
            .map(|link| link["ns"].as_u64().unwrap())
            .sum();
        println!("{} {backend}: of {total} ns the other process took {told} ns, the log says {truth} ns", kernel());
        // The gaps between two jobs are the scheduler's, or are told with the job after them: all that passed until its start, at most.
        let (waited, lateness) =
            (victim.start_ns - victim.submit_ns, log.iter().map(|j| j.end_ns - j.due_ns).max().unwrap());
        let is_enough = told + truth / 5 + lateness >= truth;
        assert!(is_enough && told <= waited + truth / 10 + lateness, "{backend}: {told} {truth} {waited} {late:#}");
        assert!(told <= total, "{backend}: {late:#}");
    }
}
