// guest: -g amdgpu,amdgpu -m 'timeout_ms=300' -t 240
//! Jobs as BPF programs record them, against the books of the devices and of the loads: two devices whose rings have the same names.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::recorded::{Recorded, jobs, lives};
use gpuscope_model::trace::{EventKind, JobKey};
use gpuscope_sys::Roots;
use gpuscope_sys::bpf::{JobRules, Jobs, JobsWanted};
use gpuscope_testbed::{Gpu, Load, gpus, job_log, kernel, kernel_since, load_program, log_jobs};
use gpuscope_trace::capture::bpf::{MADE_CONTEXT, MadeJob};
use gpuscope_trace::capture::settings::{Lists, RingName, Settings};
use gpuscope_trace::capture::{Capture, CaptureError};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

#[test]
#[ignore = "needs the testbed's guest"]
fn every_job_of_known_processes_is_recorded_once_with_its_ring_and_device() {
    let gpus = gpus();
    assert_eq!(gpus.len(), 2);
    // Emulated processors are slow enough for tasks to be preempted inside of the programs, so that some events may be passed over and
    // counted (Linux 7.0 and later): another run then.
    assert!((0..6).any(|_| is_whole(&gpus)), "{}: each run missed events", kernel());
}

/// What a record of a queued job says of who submitted it, as `struct queue` in jobs.h has it behind the job and its client.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Submitter {
    tid: u32,
    cgroup: u64,
    tgid: u32,
    uid: u32,
    comm: String,
}

impl Submitter {
    fn of(data: &[u8]) -> Option<Submitter> {
        let number = |at: usize| u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
        let cgroup = u64::from_ne_bytes(data.get(32..40)?.try_into().unwrap());
        let comm = String::from_utf8(data.get(108..124)?.to_vec()).unwrap();
        let is_queued = data[0] == 1;
        let comm = comm.trim_end_matches('\0').to_string();
        is_queued.then(|| Submitter { tid: number(4), cgroup, tgid: number(40), uid: number(44), comm })
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_submitter_is_told_as_the_kernel_tells_of_it_by_loads_too() {
    use std::collections::BTreeSet;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let gpu = &gpus()[0];
    std::fs::set_permissions(&gpu.render, std::fs::Permissions::from_mode(0o666)).unwrap();
    let cgroup = std::env::var("TMPDIR").unwrap() + "/submitter";
    std::fs::create_dir_all(&cgroup).unwrap();
    let mounted = Command::new("mount").args(["-t", "cgroup2", "none", &cgroup]).status().unwrap();
    assert!(mounted.success());
    let cgroup = cgroup + "/its";
    std::fs::create_dir_all(&cgroup).unwrap();

    let mut jobs = Jobs::open(&Roots::host(), JobsWanted { ring_bytes: 1 << 20, switches: false }, JobRules::default())
        .unwrap_or_else(|e| panic!("{}: {e}", kernel()));
    assert_eq!(jobs.reads_by_loads(), kernel_since(6, 2), "{}", kernel());
    let load = format!(
        "echo $$ > {cgroup}/cgroup.procs; \
         exec setpriv --ruid=12345 --euid=23456 --clear-groups {} jobs --comm fifteen-letters --count 20 --rings gfx {}",
        load_program(),
        gpu.render
    );
    let load = Command::new("sh").args(["-c", &load]).output().unwrap();
    let said = String::from_utf8(load.stdout).unwrap();
    assert!(load.status.success(), "{said} {}", String::from_utf8_lossy(&load.stderr));
    let pid: u32 = said.split_whitespace().nth(1).unwrap().parse().unwrap();
    let mut told = Vec::new();
    jobs.read(|record| told.extend(Submitter::of(record.data)));
    let expected = Submitter {
        tid: pid,
        cgroup: std::fs::metadata(&cgroup).unwrap().ino(),
        tgid: pid,
        uid: 12345,
        comm: "fifteen-letters".into(),
    };
    assert_eq!(told.len(), 20, "{}: {said}", kernel());
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([expected]), "{}", kernel());
}

/// Whether nothing was missed; then all is compared.
fn is_whole(gpus: &[Gpu]) -> bool {
    let mut recorded = Recorded::open(4 << 20, &Settings::default()).unwrap_or_else(|e| panic!("{}: {e}", kernel()));
    let before = jobs(gpus);
    let start = |gpu: &Gpu, ring, job_us| {
        let load = Load::with(&["--dup", "1"], &gpu.render, ring, 30.0, job_us, 4.0);
        ((gpu.bdf.clone(), ring.to_string()), load)
    };
    let loads = [
        start(&gpus[0], "gfx", 4000),
        start(&gpus[0], "compute", 1000),
        start(&gpus[1], "gfx", 2000),
        start(&gpus[1], "dma", 500),
        // The same ring from a second process.
        start(&gpus[1], "gfx", 3000),
    ];
    // Ring, client and own count of each process.
    let mut by_pid = BTreeMap::new();
    for (ring, load) in &loads {
        by_pid.insert(load.pid(), (ring.clone(), load.clients()[0].id));
    }
    let pids: Vec<u32> = loads.iter().map(|(_, load)| load.pid()).collect();
    let ended = recorded.follow(loads.into_iter().map(|(_, load)| load).collect());
    let after = jobs(gpus);
    let dropped = recorded.capture.dropped().unwrap();
    if dropped.missed > 0 {
        println!("{}: {dropped:?}", kernel());
        return false;
    }

    let mut queued_by_pid: BTreeMap<u32, u64> = BTreeMap::new();
    let mut done_by_ring: BTreeMap<(String, String), u64> = BTreeMap::new();
    let lives = lives(&recorded.events);
    for (key, life) in &lives {
        assert!(matches!(key, JobKey::Fence { .. }), "{key:?}");
        let ([queue], [run], [done]) = (&life.queue[..], &life.run[..], &life.done[..]) else {
            panic!("{}: {key:?}: {life:?}", kernel());
        };
        assert!(queue.at_ns <= run.at_ns && run.at_ns <= done.at_ns, "{life:?}");
        assert_eq!(done.value, Some(0), "it ended well");
        let (ring, client) = by_pid.get(&queue.pid).unwrap_or_else(|| panic!("{queue:?}"));
        assert_eq!((&recorded.ring(queue), &recorded.ring(run)), (ring, ring));
        assert_eq!((queue.tid, recorded.decoder.names().get(queue.comm)), (queue.pid, "vgpu-load"));
        let has_client = kernel_since(6, 17).then_some(*client);
        assert_eq!((queue.client, run.client), (has_client, has_client), "{}", kernel());
        *queued_by_pid.entry(queue.pid).or_default() += 1;
        *done_by_ring.entry(recorded.ring(run)).or_default() += 1;
    }
    let expected: BTreeMap<(String, String), u64> =
        after.iter().map(|(ring, jobs)| (ring.clone(), jobs - before[ring])).filter(|(_, jobs)| *jobs > 0).collect();
    println!("{}: {} events of {} jobs: {done_by_ring:?}", kernel(), recorded.events.len(), lives.len());
    assert_eq!(done_by_ring, expected, "{}: the devices' books", kernel());
    for (pid, (ok, said)) in pids.iter().zip(&ended) {
        assert!(ok, "{said}");
        let own: u64 = said.split("jobs=").nth(1).and_then(|s| s.split(' ').next()?.parse().ok()).unwrap();
        assert_eq!(queued_by_pid.get(pid), Some(&own), "{}: {said}", kernel());
    }
    assert!(dropped.each().iter().all(|(_, n)| *n == 0), "{dropped:?}");
    assert_eq!(recorded.decoder.unreadable(), 0);
    true
}

#[test]
#[ignore = "needs the testbed's guest"]
fn what_a_full_ring_refuses_is_counted() {
    let gpus = gpus();
    let before: u64 = jobs(&gpus).values().sum();
    let mut recorded = Recorded::open(4096, &Settings::default()).unwrap();
    let (ok, said) = Load::start(&gpus[0].render, "gfx", 80.0, 1000, 1.0).wait();
    assert!(ok, "{said}");
    std::thread::sleep(Duration::from_millis(300));
    recorded.drain();
    let jobs = jobs(&gpus).values().sum::<u64>() - before;
    let dropped = recorded.capture.dropped().unwrap();
    println!("{}: {jobs} jobs, {} events kept, {dropped:?}", kernel(), recorded.events.len());
    assert!(dropped.ring_full > 0 && !recorded.events.is_empty());
    // Three events a job: each submission waits for nothing else here.
    let told = recorded.events.iter().filter(|e| e.kind != EventKind::Blocked && e.kind != EventKind::Dependency);
    assert_eq!(told.count() as u64 + dropped.ring_full, 3 * jobs, "{}", kernel());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn many_submitters_that_preempt_one_another_lose_nothing_uncounted() {
    let gpus = gpus();
    let before: u64 = jobs(&gpus).values().sum();
    let mut recorded = Recorded::open(16 << 20, &Settings::default()).unwrap();
    let start = |i: usize| Load::start(&gpus[i % 2].render, ["gfx", "compute", "dma"][i % 3], 50.0, 50, 5.0);
    recorded.follow((0..12).map(start).collect());
    let jobs = jobs(&gpus).values().sum::<u64>() - before;
    let dropped = recorded.capture.dropped().unwrap();
    let lives = lives(&recorded.events);
    let told: usize = lives.values().map(|l| l.queue.len() + l.run.len() + l.done.len()).sum();
    println!("{}: {jobs} jobs, {told} events, {dropped:?}", kernel());
    assert_eq!(told as u64 + dropped.ring_full + dropped.missed, 3 * jobs, "{}", kernel());
    assert!(lives.values().all(|l| l.queue.len() <= 1 && l.run.len() <= 1 && l.done.len() <= 1), "none is told twice");
}

/// Jobs that fail in every way, with what the scheduler says of them and what the module logged.
fn statuses(settings: &Settings) -> Option<BTreeMap<&'static str, u64>> {
    let gpu = &gpus()[0];
    log_jobs(&gpu.bdf, 4096);
    let mut recorded = Recorded::open(4 << 20, settings).unwrap_or_else(|e| panic!("{}: {e}", kernel()));
    // Each fifth fails in run_job; of each sixth that does not, it has nothing to do; one hangs.
    let args = ["jobs", "--count", "200", "--rings", "gfx", "--us", "300", "--gap", "2000", "--contexts", "2"];
    let mut load = Command::new(load_program());
    load.args(args).args(["--fail", "5", "--nothing", "6", "--hang", "60", &gpu.render]);
    let mut load = load.spawn().unwrap();
    while load.try_wait().unwrap().is_none() {
        recorded.drain();
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..10 {
        recorded.drain();
        std::thread::sleep(Duration::from_millis(10));
    }
    let dropped = recorded.capture.dropped().unwrap();
    if dropped.missed > 0 {
        println!("{}: {dropped:?}", kernel());
        return None;
    }
    let log = job_log(&gpu.bdf);
    assert_eq!(log.len(), 200);
    let lives = lives(&recorded.events);
    let mut told = BTreeMap::from([("failed", 0), ("not known", 0), ("completed", 0)]);
    for job in &log {
        let (context, seqno) = job.fence;
        let [done] = &lives[&JobKey::Fence { context, seqno }].done[..] else { panic!("{}: {job:?}", kernel()) };
        let kind = match done.value {
            Some(0) => "completed",
            Some(_) => "failed",
            None => "not known",
        };
        *told.get_mut(kind).unwrap() += 1;
        // True, or not known; never not known where there was an error.
        if done.value.is_none() {
            assert!(job.status == 0 && job.flags.has_nothing(), "{}: {job:?}", kernel());
        } else {
            assert_eq!(done.value, Some(i64::from(job.status)), "{}: {job:?}", kernel());
        }
    }
    let expected = |status: i32| log.iter().filter(|job| job.status == status).count();
    let of_fences = recorded.events.iter().filter(|e| e.kind == EventKind::Error);
    println!("{}: {told:?}, {} EIO, {} ETIME", kernel(), expected(-5), expected(-62));
    assert_eq!((expected(-5), expected(-62)), (40, 1), "{}: the load's", kernel());
    assert!(of_fences.filter(|e| e.value == Some(-5)).count() >= 40, "{}: ERROR is told beside", kernel());
    Some(told)
}

#[test]
#[ignore = "needs the testbed's guest"]
fn how_a_job_ended_is_true_or_not_known() {
    let tracked = Settings { totals: true, ..Settings::default() };
    let mut slow = Settings::default();
    slow.sampling.slower_than_ns = Some(1);
    for settings in [Settings::default(), tracked, slow] {
        let told = (0..6).find_map(|_| statuses(&settings)).unwrap_or_else(|| panic!("{}: missed", kernel()));
        let expected = BTreeMap::from([("failed", 41), ("not known", 27), ("completed", 132)]);
        assert_eq!(told, expected, "{}: {settings:?}", kernel());
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_job_that_is_put_in_by_hand_passes_the_same_programs_as_any_other() {
    let mut recorded = Recorded::open(1 << 20, &Settings::default()).unwrap();
    recorded.capture.prove().unwrap();
    let put_in = |recorded: &mut Recorded, ring: &str, device: &str, error| {
        recorded.events.clear();
        let job = MadeJob { ring: ring.into(), device: device.into(), error, is_end_missed: false };
        let seqno = recorded.capture.put_in(&job).unwrap_or_else(|e| panic!("{}: {e}", kernel()));
        recorded.drain();
        let key = Some(JobKey::Fence { context: MADE_CONTEXT, seqno });
        recorded.events.iter().filter(|event| event.key == key).copied().collect::<Vec<_>>()
    };
    let events = put_in(&mut recorded, "gfx_0.0.0", "0000:aa:00.0", -5);
    let [queue, run, done] = &events[..] else { panic!("{}: {events:?}", kernel()) };
    assert_eq!((queue.kind, run.kind, done.kind), (EventKind::Submit, EventKind::Commit, EventKind::Complete));
    assert_eq!(recorded.ring(queue), ("0000:aa:00.0".to_string(), "gfx_0.0.0".to_string()), "{}", kernel());
    assert_eq!(recorded.ring(run), recorded.ring(queue));
    assert_eq!((queue.pid, done.value), (std::process::id(), Some(-5)), "{}", kernel());
    assert!(queue.at_ns <= run.at_ns && run.at_ns <= done.at_ns);
    // And the same settings.
    let mut settings = Settings::default();
    let only = |name: &str| Lists { allow: vec![RingName { gpu: None, name: name.into() }], deny: Vec::new() };
    settings.filters.rings = only("gfx_0.0.0");
    recorded.capture.set(&settings).unwrap();
    assert_eq!(put_in(&mut recorded, "gfx_0.0.0", "0000:aa:00.0", 0).len(), 3, "{}", kernel());
    assert_eq!(put_in(&mut recorded, "sdma0", "0000:aa:00.0", 0).len(), 0, "{}", kernel());
    assert_eq!(recorded.capture.dropped().unwrap().filtered, 3, "{}", kernel());
    settings.filters.rings = only("sdma0");
    recorded.capture.set(&settings).unwrap();
    let slow = |settings: &mut Settings, ns| settings.sampling.slower_than_ns = Some(ns);
    slow(&mut settings, 60_000_000_000);
    recorded.capture.set(&settings).unwrap();
    assert_eq!(put_in(&mut recorded, "sdma0", "0000:aa:00.0", 0).len(), 0, "{}: quick", kernel());
    assert_eq!(put_in(&mut recorded, "sdma0", "0000:aa:00.0", -62).len(), 3, "{}: quick, but it failed", kernel());
    let out = Command::new(common::gpuscope()).args(["doctor"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("a job put in as a test came through"), "{}: {said}", kernel());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn an_end_that_the_kernel_passes_over_is_told_by_its_fence_once_jobs_are_remembered() {
    let mut recorded = Recorded::open(1 << 20, &Settings::default()).unwrap();
    let put_in = |recorded: &mut Recorded, ring: &str, error| {
        recorded.events.clear();
        let job = MadeJob { ring: ring.into(), device: "0000:aa:00.0".into(), error, is_end_missed: true };
        let seqno = recorded.capture.put_in(&job).unwrap();
        recorded.drain();
        let key = Some(JobKey::Fence { context: MADE_CONTEXT, seqno });
        let of_it = recorded.events.iter().filter(|event| event.key == key);
        of_it.map(|event| (event.kind, event.value)).collect::<Vec<_>>()
    };
    let ends = |told: &[(EventKind, Option<i64>)]| {
        told.iter().filter(|(kind, _)| *kind == EventKind::Complete).map(|(_, value)| *value).collect::<Vec<_>>()
    };
    // The second program of ends, which no job that is put in comes to, tells of it otherwise.
    assert_eq!(put_in(&mut recorded, "gfx", 0).len(), 2, "{}: nothing is remembered", kernel());
    recorded.capture.set(&Settings { totals: true, ..Settings::default() }).unwrap();
    for error in [0_i32, -5] {
        let told = put_in(&mut recorded, "gfx", error);
        assert_eq!((told.len(), ends(&told)), (3, vec![Some(i64::from(error))]), "{}: {told:?}", kernel());
    }
    let (totals, rings) = recorded.capture.take_totals().unwrap();
    let ring = rings.iter().find(|ring| ring.ring == "gfx").unwrap_or_else(|| panic!("{}: {rings:?}", kernel()));
    assert_eq!((ring.done, ring.waiting, ring.in_flight), (2, 0, 0), "{}: {ring:?}", kernel());
    assert_eq!(totals.iter().map(|total| total.jobs).collect::<Vec<_>>(), [2, 2, 2], "{}: {totals:?}", kernel());
    // A job that is told late, one that was too quick, and one that is left out.
    let mut settings = Settings { totals: true, ..Settings::default() };
    settings.sampling.slower_than_ns = Some(1);
    recorded.capture.set(&settings).unwrap();
    assert_eq!(put_in(&mut recorded, "gfx", 0).len(), 3, "{}", kernel());
    settings.sampling.slower_than_ns = Some(60_000_000_000);
    recorded.capture.set(&settings).unwrap();
    assert_eq!(put_in(&mut recorded, "gfx", 0).len(), 0, "{}: quick", kernel());
    settings.sampling.slower_than_ns = None;
    settings.sampling.share = 0.0;
    recorded.capture.set(&settings).unwrap();
    assert_eq!(put_in(&mut recorded, "gfx", 0).len(), 0, "{}: left out", kernel());
    let dropped = recorded.capture.dropped().unwrap();
    assert_eq!(dropped.sampled_out, 6, "{}: {dropped:?}", kernel());
    assert_eq!((dropped.missed, dropped.table_full), (0, 0), "{}: {dropped:?}", kernel());
}

/// What `as_nobody` runs as another user: says how far it came.
#[test]
#[ignore = "needs the testbed's guest"]
fn child_of_the_next_test() {
    let Ok(node) = std::env::var("TRACE_LOAD_ON") else { return };
    match Recorded::open(1 << 20, &Settings::default()) {
        Ok(mut recorded) => {
            recorded.capture.prove().unwrap();
            let beside = Jobs::open(&Roots::host(), JobsWanted::default(), JobRules::default()).unwrap();
            println!("\nopen, by loads: {}", beside.reads_by_loads());
            drop(beside);
            let load = Load::start(node, "gfx", 50.0, 1000, 0.5);
            recorded.follow(vec![load]);
            println!("\njobs {}", lives(&recorded.events).len());
        }
        Err(CaptureError::Permission { what, remedy }) => println!("\nrefused {what}; {remedy}"),
        Err(e) => panic!("{e}"),
    }
}

fn as_nobody(capabilities: &str, node: &str) -> Vec<String> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if capabilities.is_empty() {
        command.arg("--inh-caps=-all");
    } else {
        command.arg(format!("--inh-caps={capabilities}")).arg(format!("--ambient-caps={capabilities}"));
    }
    command.arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child_of_the_next_test", "--nocapture"]);
    command.env("TRACE_LOAD_ON", node);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{capabilities}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let is_said = |line: &&str| ["open", "jobs ", "refused "].iter().any(|word| line.starts_with(word));
    text.lines().filter(is_said).map(str::to_string).collect()
}

#[test]
#[ignore = "needs the testbed's guest"]
fn two_capabilities_are_enough_and_needed() {
    use std::os::unix::fs::PermissionsExt;
    let gpu = &gpus()[0];
    // The guest has no udev, which lets users at the nodes.
    std::fs::set_permissions(&gpu.render, std::fs::Permissions::from_mode(0o666)).unwrap();
    let before = gpu.truth().engines["gfx"].jobs;
    let said = as_nobody("+bpf,+perfmon", &gpu.render);
    let jobs = gpu.truth().engines["gfx"].jobs - before;
    assert!(jobs > 0);
    let open = format!("open, by loads: {}", kernel_since(6, 2));
    assert_eq!(said, [open, format!("jobs {jobs}")], "{}", kernel());
    for too_few in ["", "+bpf", "+perfmon", "+sys_ptrace,+dac_read_search"] {
        let said = as_nobody(too_few, &gpu.render);
        println!("{} {too_few}: {said:?}", kernel());
        assert!(said.len() == 1 && said[0].starts_with("refused "), "{too_few}: {said:?}");
        assert!(said[0].contains("setcap") && said[0].contains("cap_bpf"), "{said:?}");
    }
}
