// guest: -g amdgpu -t 240
//! Switches of the jobs' threads, against the kernel's own records of the same switches, and what they say of late jobs.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::recorded::Recorded;
use common::{gpuscope, this_thread};
use gpuscope_model::trace::{Event, EventKind, Family, Switch};
use gpuscope_sys::{Roots, monotonic_ns};
use gpuscope_testbed::{Load, gpus, job_log, kernel, load_program, log_jobs, wait_until};
use gpuscope_trace::capture::settings::{Lists, Settings};
use gpuscope_trace::capture::{Capture, TracefsCapture, Wanted};
use gpuscope_trace::recording::Recording;
use gpuscope_trace::{Decoder, RawRecord};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is compared: of a switch both threads and the state of the one that was left, of a waking who woke.
type Seen = (EventKind, u32, i64);

/// What concerns a thread, in order of time: its switches, or its wakings. Those of the two come from different processors.
fn of_thread(events: &[Event], tid: u32, kind: EventKind) -> Vec<Seen> {
    let is_its = |event: &&Event| {
        let value = event.value.unwrap_or_default();
        let of = if kind == EventKind::SchedSwitch { Switch::of(value).next } else { value as u32 };
        event.kind == kind && (of == tid || kind == EventKind::SchedSwitch && event.tid == tid)
    };
    let mut its: Vec<&Event> = events.iter().filter(is_its).collect();
    its.sort_by_key(|event| event.at_ns);
    // A thread that ends is told as a zombie or, where its parent was quick between one recorder and the other, as dead.
    let ended = |value: i64| match Switch::of(value) {
        Switch { next, state: 0x10 } if kind == EventKind::SchedSwitch => Switch { next, state: 0x20 }.value(),
        _ => value,
    };
    its.into_iter().map(|event| (event.kind, event.tid, ended(event.value.unwrap()))).collect()
}

fn threads(events: &[Event], kind: EventKind) -> BTreeSet<u32> {
    events.iter().filter(|event| event.kind == kind).map(|event| event.tid).collect()
}

#[test]
#[ignore = "needs the testbed's guest"]
fn switches_of_the_jobs_threads_are_those_that_the_kernel_records_itself() {
    assert!((0..6).any(|_| are_all_compared()), "{}: each run missed events", kernel());
}

/// Whether the kernel passed no events over; then all is compared.
fn are_all_compared() -> bool {
    let gpu = &gpus()[0];
    let mut recorded =
        Recorded::open_with_switches(16 << 20, &Settings::default()).unwrap_or_else(|e| panic!("{}: {e}", kernel()));
    // All switches of the machine, of which those of the jobs' threads are a part.
    let wanted = Wanted { families: vec![Family::Sched], buffer_bytes: 64 << 20, ..Wanted::default() };
    let mut kernels = TracefsCapture::open(&Roots::host(), &wanted).unwrap();
    let start = || Load::start(&gpu.render, "gfx", 30.0, 2000, 4.0);
    let (load, denied) = (start(), start());
    let (pid, denied_pid) = (load.pid(), denied.pid());
    thread::sleep(Duration::from_millis(500));
    // Both were followed until now; from here on one of them, anew.
    let mut settings = Settings::default();
    settings.filters.pids = Lists { allow: vec![pid], deny: Vec::new() };
    recorded.capture.set(&settings).unwrap();
    let set_ns = monotonic_ns();
    for (ok, said) in recorded.follow(vec![load, denied]) {
        assert!(ok, "{said}");
    }
    let before = recorded.events.iter().filter(|event| event.at_ns <= set_ns && event.kind == EventKind::SchedSwitch);
    assert!(before.filter(|event| event.tid == denied_pid).count() > 0, "{}: both are followed at first", kernel());
    let until_ns = recorded.drain();
    recorded.events.retain(|event| event.at_ns > set_ns && event.at_ns <= until_ns);
    let dropped = recorded.dropped();
    assert_eq!((dropped.ring_full, dropped.table_full), (0, 0), "{dropped:?}");
    if dropped.missed > 0 {
        println!("{}: {dropped:?}", kernel());
        return false;
    }

    let mut decoder = Decoder::new();
    for format in kernels.formats() {
        assert!(decoder.add_format(format), "{}", format.name);
    }
    let mut all: Vec<Event> = Vec::new();
    kernels.drain(&mut |record: RawRecord<'_>| all.extend(decoder.decode(record))).unwrap();
    all.retain(|event| event.at_ns <= until_ns);
    let lost = kernels.dropped().unwrap();
    assert_eq!(lost.ring_full, 0, "{lost:?}");

    let submitters = threads(&recorded.events, EventKind::Submit);
    let workers = threads(&recorded.events, EventKind::Commit);
    assert_eq!(submitters, BTreeSet::from([pid]), "{}", kernel());
    let mut compared = [0; 2];
    for tid in submitters.iter().chain(&workers) {
        for (count, kind) in compared.iter_mut().zip([EventKind::SchedSwitch, EventKind::SchedWaking]) {
            // Before, a switch from or to another of these threads may tell of it.
            let first = recorded
                .events
                .iter()
                .filter(|event| event.tid == *tid && [EventKind::Submit, EventKind::Commit].contains(&event.kind));
            let first_ns = first.map(|event| event.at_ns).min().unwrap();
            let followed: Vec<Event> = recorded.events.iter().filter(|event| event.at_ns > first_ns).copied().collect();
            let (ours, truth) = (of_thread(&followed, *tid, kind), of_thread(&all, *tid, kind));
            // From the thread's first job on all of them, with nothing between two that is not there, and to the end: what was at that moment
            // may be on either side of it.
            let is_end = |of_ours: usize, of_truth: usize| {
                let end = |seen: &[Seen], less: usize| seen.len().saturating_sub(less);
                truth[..end(&truth, of_truth)].ends_with(&ours[..end(&ours, of_ours)])
            };
            let is_whole = (0..=2).any(|of_ours| (0..=2).any(|of_truth| is_end(of_ours, of_truth)));
            assert!(is_whole, "{}: {tid}: {ours:?}\n{truth:?}", kernel());
            *count += ours.len();
        }
    }
    assert!(compared.iter().all(|count| *count > 40), "a load of many short jobs sleeps often: {compared:?}");
    // Nobody else's.
    let is_switch = |event: &&Event| matches!(event.kind, EventKind::SchedSwitch | EventKind::SchedWaking);
    let switches: Vec<&Event> = recorded.events.iter().filter(is_switch).collect();
    for event in &switches {
        let value = event.value.unwrap();
        let of = if event.kind == EventKind::SchedSwitch { Switch::of(value).next } else { value as u32 };
        let is_known = |tid| submitters.contains(&tid) || workers.contains(&tid);
        assert!(is_known(of) || event.kind == EventKind::SchedSwitch && is_known(event.tid), "{}: {event:?}", kernel());
    }
    assert_eq!(of_thread(&recorded.events, denied_pid, EventKind::SchedWaking), []);
    println!(
        "{}: {} of {} switches and wakings are those of {} threads, {compared:?} compared",
        kernel(),
        switches.len(),
        all.len(),
        submitters.len() + workers.len()
    );
    true
}

fn report(file: &str) -> Value {
    let out = Command::new(gpuscope()).args(["trace", "report", file, "--json"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// How long threads waited for a processor while the slowest job was under way, as the report says.
fn waited_ns(report: &Value) -> u64 {
    let shares = report["late"][0]["shares"].as_array().unwrap().iter();
    let of_processors =
        shares.filter(|share| ["worker_waited", "submitter_waited"].contains(&share["cause"].as_str().unwrap()));
    of_processors.map(|share| share["ns"].as_u64().unwrap()).sum()
}

/// Of the first job that was handed over after the longest time without one: how long that time was, and the thread that did it, with
/// whether it had handed over one before.
fn after_stall(file: &str) -> (Duration, u32, bool) {
    let mut commits: Vec<(u64, u32)> = Vec::new();
    let mut decoder = Decoder::new();
    let each = |event: Event| commits.extend((event.kind == EventKind::Commit).then_some((event.at_ns, event.tid)));
    Recording::open(file).unwrap().events(&mut decoder, each).unwrap();
    let stall_ns = |at: &usize| commits[*at].0 - commits[*at - 1].0;
    let first = (1..commits.len()).max_by_key(stall_ns).unwrap();
    let (_, worker) = commits[first];
    (Duration::from_nanos(stall_ns(&first)), worker, commits[..first].iter().any(|(_, tid)| *tid == worker))
}

/// For how long the processors are taken. A class of its own may have them for 0.95 of each second.
const TAKEN: Duration = Duration::from_millis(400);

/// Records two seconds of jobs that wait in a ring's queue, and has all processors taken from the scheduler's worker for a part of that time.
fn record_starved(file: &str, switches: bool) {
    let gpu = &gpus()[0];
    let cpus = thread::available_parallelism().unwrap().get();
    let mut record = Command::new(gpuscope());
    record.args(["trace", "record", "--force", "--backend", "bpf", "-o", file]);
    record.args(switches.then_some("--switches")).args(["--", &load_program()]);
    record.args(["jobs", "--count", "200", "--rings", "gfx", "--us", "10000", &gpu.render]);
    let record = record.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (ready, since) = (AtomicUsize::new(0), OnceLock::<Instant>::new());
    // A thread of a higher class than the worker's on each processor: set up before the jobs, so that all begin and end together.
    let take = |cpu: usize| {
        this_thread("taskset", &["--cpu-list", "--pid", &cpu.to_string()]);
        this_thread("chrt", &["--fifo", "--pid", "20"]);
        ready.fetch_add(1, Ordering::Relaxed);
        assert!(wait_until(Duration::from_secs(60), || since.get().is_some()), "there were no jobs");
        while since.get().unwrap().elapsed() < TAKEN {}
    };
    let out = thread::scope(|scope| {
        for cpu in 0..cpus {
            let take = &take;
            scope.spawn(move || take(cpu));
        }
        assert!(wait_until(Duration::from_secs(20), || ready.load(Ordering::Relaxed) == cpus), "{cpus} processors");
        log_jobs(&gpu.bdf, 200);
        let record = record.spawn().unwrap();
        assert!(wait_until(Duration::from_secs(20), || job_log(&gpu.bdf).len() == 200), "{}", kernel());
        since.set(Instant::now()).unwrap();
        record.wait_with_output().unwrap()
    });
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Whether a starved worker's wait was to be told, and was: its switches are recorded from its first job on.
fn is_wait_told(switches: bool) -> bool {
    let file = "/var/tmp/starved";
    record_starved(file, switches);
    let report = report(file);
    let waited = Duration::from_nanos(waited_ns(&report));
    let (stall, worker, is_followed) = after_stall(file);
    println!(
        "{} --switches {switches}: threads waited for a processor for {waited:?} while the slowest job was under way, no job was handed over for \
         {stall:?}; worker {worker} was {}",
        kernel(),
        if is_followed { "there before" } else { "new" }
    );
    assert_eq!(report["events"]["SCHED_SWITCH"].as_u64().unwrap_or(0) > 100, switches, "{}", report["events"]);
    assert!(stall > TAKEN * 3 / 4, "{}: processors were taken for {TAKEN:?}", kernel());
    let is_told = waited > TAKEN / 2;
    assert_eq!(is_told, switches && is_followed, "{}: {report:#}", kernel());
    is_told
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_worker_without_a_processor_is_why_a_job_was_late() {
    // The kernel may have another of its pool's workers go on.
    assert!((0..5).any(|_| is_wait_told(true)), "{}: a new worker each time", kernel());
    assert!(!is_wait_told(false));
}

#[test]
#[ignore = "needs the testbed's guest"]
fn without_bpf_it_is_said_that_switches_are_not_recorded() {
    let node = &gpus()[0].render;
    for backend in ["tracefs", "perf"] {
        let file = format!("/var/tmp/switches-{backend}");
        let mut record = Command::new(gpuscope());
        record.args(["trace", "record", "--force", "--switches", "--backend", backend, "-o", &file, "--"]);
        let out = record.args([&load_program(), "jobs", "--count", "5", "--rings", "gfx", node]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{said}");
        assert!(said.contains("switches of threads are not recorded: only BPF programs"), "{said}");
        let report = report(&file);
        let sources = report["sources"].as_array().unwrap();
        let of = sources.iter().find(|of| of["source"] == "tracepoints sched").unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!(of["status"], "not_supported", "{of:#}");
        assert!(of.to_string().contains("only BPF programs") && of.to_string().contains("capture by BPF"), "{of:#}");
        assert_eq!(report["events"]["SCHED_SWITCH"], Value::Null);
    }
}
