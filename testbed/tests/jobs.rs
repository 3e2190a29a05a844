// guest: -g i915,i915-discrete,xe,amdgpu -m timeout_ms=700 -m autosuspend_ms=500 -t 300
//! Jobs of the virtual GPU: the log agrees with the books, dependencies and contexts hold, hung jobs end with an error,
//! jobs overtake, and each driver's own tracepoints fire with the fields that its kernel's driver gives them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use gpuscope_testbed::{Gpu, Jobs, LoggedJob, gpu, gpus, job_log, kernel_since, log_jobs, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TRACING: &str = "/sys/kernel/tracing";
const ETIME: i32 = -62;

/// Empties the log when the jobs before have ended, runs these, and returns both sides.
fn logged(gpu: &Gpu, arguments: &[&str]) -> (Jobs, Vec<LoggedJob>) {
    log_jobs(&gpu.bdf, 10_000);
    let mut all = arguments.to_vec();
    all.push(&gpu.render);
    let jobs = Jobs::run(&all);
    let log = job_log(&gpu.bdf);
    assert_eq!(log.len() as u64, jobs.count(), "{}", gpu.identity);
    (jobs, log)
}

fn rings(gpu: &Gpu) -> [&'static str; 4] {
    if gpu.driver() == "amdgpu" { ["gfx", "compute", "dma", "dec"] } else { ["rcs0", "bcs0", "vcs0", "vcs1"] }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn the_log_agrees_with_the_books() {
    for gpu in gpus() {
        let rings = rings(&gpu);
        let before = gpu.truth();
        let list = rings.join(",");
        let (jobs, log) =
            logged(&gpu, &["--count", "40", "--rings", &list, "--us", "300", "--processes", "3", "--comm", "my app"]);
        let after = gpu.truth();
        assert_eq!((jobs.processes.len(), jobs.count()), (3, 120));
        for ring in rings {
            let of_ring: Vec<&LoggedJob> = log.iter().filter(|j| j.ring == ring).collect();
            assert_eq!(of_ring.len() as u64, after.engines[ring].jobs - before.engines[ring].jobs, "{ring}");
            let asked: u64 = of_ring.iter().map(|j| j.due_ns - j.start_ns).sum();
            assert_eq!(asked, after.busy_ns(ring) - before.busy_ns(ring), "{ring} of {}", gpu.identity);
            // One engine runs one job at a time.
            let mut spans: Vec<(u64, u64)> = of_ring.iter().map(|j| (j.start_ns, j.end_ns)).collect();
            spans.sort_unstable();
            assert!(spans.windows(2).all(|w| w[0].1 <= w[1].0), "{ring} of {}", gpu.identity);
        }
        for process in &jobs.processes {
            let own: Vec<&LoggedJob> = log.iter().filter(|j| j.tgid == process.pid).collect();
            assert_eq!(own.len() as u64, process.jobs);
            assert!(own.iter().all(|j| j.tid == process.pid && j.comm == process.comm), "{}", process.comm);
            assert!(process.comm.starts_with("my app-"), "{}", process.comm);
            assert_eq!(own.iter().map(|j| j.client).collect::<BTreeSet<_>>().len(), 1);
            for ring in rings {
                let of_ring = own.iter().filter(|j| j.ring == ring).count() as u64;
                assert_eq!(process.rings[&format!("{}:{ring}", gpu.render)], of_ring, "{ring}");
            }
        }
        for job in &log {
            let times = [job.submit_ns, job.run_ns, job.start_ns, job.due_ns, job.end_ns, job.signalled_ns];
            assert!(times.is_sorted() && times[0] > before.monotonic_ns && times[5] < after.monotonic_ns, "{job:?}");
            assert_eq!((job.status, job.due_ns - job.start_ns), (0, 300_000));
        }
        assert_eq!(log.iter().map(|j| j.fence).collect::<BTreeSet<_>>().len(), log.len(), "a fence names one job");
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_full_log_says_what_it_left_out() {
    let gpu = gpu("i915").unwrap();
    log_jobs(&gpu.bdf, 5);
    let _ = Jobs::run(&["--count", "12", &gpu.render]);
    let text = fs::read_to_string(format!("/sys/kernel/debug/vgpu-{}-jobs", gpu.bdf)).unwrap();
    assert!(text.lines().next().unwrap().ends_with(" room 5 logged 5 left_out 7"), "{text}");
    assert_eq!((text.lines().count(), LoggedJob::parse_log(&text)), (6, None));
    log_jobs(&gpu.bdf, 0);
}

#[test]
#[ignore = "needs the testbed's guest"]
fn contexts_are_queues_of_their_own() {
    for gpu in gpus() {
        let ring = rings(&gpu)[1];
        let (_, log) = logged(&gpu, &["--count", "12", "--rings", ring, "--contexts", "3", "--processes", "2"]);
        let mut queues: BTreeMap<(u32, u32), BTreeSet<u64>> = BTreeMap::new();
        for job in &log {
            queues.entry((job.tgid, job.context)).or_default().insert(job.fence.0);
        }
        assert_eq!(queues.len(), 6, "{}", gpu.identity);
        assert!(queues.values().all(|contexts| contexts.len() == 1));
        let all: BTreeSet<u64> = queues.values().flatten().copied().collect();
        assert_eq!(all.len(), 6, "a fence context belongs to one queue");
        let hardware: BTreeSet<u64> = log.iter().map(|j| j.hw_fence.0).collect();
        // i915 and xe count by queue, amdgpu by ring.
        assert_eq!(hardware.len(), if gpu.driver() == "amdgpu" { 1 } else { 6 }, "{}", gpu.identity);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_chain_runs_one_after_the_other_across_gpus() {
    let (a, b) = (gpu("i915").unwrap(), gpu("i915-discrete").unwrap());
    log_jobs(&a.bdf, 100);
    log_jobs(&b.bdf, 100);
    let nodes = format!("{},{}", a.render, b.render);
    let jobs =
        Jobs::run(&["--count", "20", "--rings", "rcs0,vcs0", "--us", "5000", "--contexts", "2", "--chain", &nodes]);
    let mut log = job_log(&a.bdf);
    assert_eq!((log.len(), jobs.count()), (10, 20));
    log.extend(job_log(&b.bdf));
    log.sort_by_key(|j| j.submit_ns);
    assert_eq!(log.len(), 20);
    assert!(log[0].deps.is_empty());
    for pair in log.windows(2) {
        assert_eq!(pair[1].deps, [pair[0].fence]);
        assert!(pair[1].run_ns >= pair[0].signalled_ns, "{pair:?}");
    }
    // They were all submitted before the tenth could run: only the dependencies held them.
    assert!(log[19].submit_ns < log[10].run_ns);
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_hung_job_ends_with_an_error_and_the_rest_goes_on() {
    for gpu in gpus() {
        let ring = rings(&gpu)[0];
        let before = gpu.truth();
        let (_, log) = logged(&gpu, &["--count", "6", "--rings", ring, "--us", "500", "--hang", "2"]);
        let after = gpu.truth();
        let hung = &log[2];
        assert!(hung.flags.hangs() && hung.due_ns == 0, "{hung:?}");
        let statuses: Vec<i32> = log.iter().map(|j| j.status).collect();
        assert_eq!(statuses, [0, 0, ETIME, 0, 0, 0], "{}", gpu.identity);
        // The timer of the timeout starts when the job is handed over; this machine may be late, never early.
        let lasted = hung.end_ns - hung.run_ns;
        assert!((690_000_000..3_000_000_000).contains(&lasted), "{lasted} ns");
        assert!(log[3..].iter().all(|j| j.start_ns >= hung.end_ns && j.end_ns >= j.due_ns), "{log:?}");
        let busy = after.busy_ns(ring) - before.busy_ns(ring);
        assert_eq!(busy, 5 * 500_000 + hung.end_ns - hung.start_ns, "{}", gpu.identity);
        let clients = gpu.clients();
        let sum = clients.clients.iter().map(|c| c.busy_ns(ring)).sum::<u64>() + clients.gone_ns[ring];
        assert_eq!(sum, clients.engines_ns[ring], "{}", gpu.identity);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_parallel_job_overtakes() {
    for gpu in gpus() {
        let ring = rings(&gpu)[0];
        let (_, log) = logged(&gpu, &["--count", "2", "--rings", ring, "--us", "60000,2000", "--parallel", "2"]);
        let [long, short] = log.as_slice() else { panic!("{log:?}") };
        assert!(!long.flags.parallel() && short.flags.parallel());
        assert_eq!((long.fence.0, long.fence.1 + 1), short.fence, "one queue, in this order");
        assert!(short.start_ns < long.end_ns && short.start_ns >= long.start_ns, "{log:?}");
        assert!(short.signalled_ns < long.signalled_ns, "{log:?}");
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn bursts_are_whole() {
    let gpu = gpu("i915").unwrap();
    log_jobs(&gpu.bdf, 20_000);
    let jobs =
        Jobs::run(&["--count", "20000", "--rings", "rcs0,bcs0,vcs0,vcs1", "--us", "0", "--batch", "64", &gpu.render]);
    let log = job_log(&gpu.bdf);
    assert_eq!((jobs.count(), log.len()), (20_000, 20_000));
    assert!(log.iter().all(|j| j.signalled_ns > 0 && j.status == 0));
    let us = jobs.processes[0].total_us;
    println!("20000 jobs of no length on four rings in {us} us, submitted in {} us", jobs.processes[0].submit_us);
    log_jobs(&gpu.bdf, 0);
}

/// The fields of an event after the common ones: type and name as the format file writes them, and the size.
fn fields(event: &str) -> Vec<(String, u64)> {
    let text = fs::read_to_string(Path::new(TRACING).join("events").join(event).join("format")).unwrap();
    let own = text.split("\n\n").nth(1).unwrap();
    let field = |line: &str| {
        let (declared, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        Some((declared.to_string(), rest.trim().split("size:").nth(1)?.split(';').next()?.parse().ok()?))
    };
    own.lines().take_while(|l| l.starts_with('\t')).filter_map(field).collect()
}

/// What the drivers' headers declare, read in i915_trace.h, xe_trace.h and amdgpu_trace.h of these kernels.
fn declared() -> BTreeMap<&'static str, Vec<(&'static str, u64)>> {
    let request = [("u32 dev", 4), ("u64 ctx", 8), ("u16 class", 2), ("u16 instance", 2), ("u32 seqno", 4)];
    let with = |last: (&'static str, u64)| request.iter().copied().chain([last]).collect::<Vec<_>>();
    let mut all = BTreeMap::from([
        ("i915/i915_request_queue", with(("u32 flags", 4))),
        ("i915/i915_request_add", with(("u32 tail", 4))),
        ("i915/i915_request_retire", with(("u32 tail", 4))),
        ("i915/i915_request_wait_begin", with(("unsigned int flags", 4))),
        ("i915/i915_request_wait_end", with(("u32 tail", 4))),
    ]);
    let (dev, ring, timeline) =
        (("__data_loc char[] dev", 4), ("__data_loc char[] ring", 4), ("__data_loc char[] timeline", 4));
    let (id, ibs, fence) = (("uint64_t sched_job_id", 8), ("u32 num_ibs", 4), ("struct dma_fence * fence", 8));
    if kernel_since(6, 17) {
        let key = [("u64 context", 8), ("u64 seqno", 8)];
        all.insert("amdgpu/amdgpu_cs_ioctl", vec![timeline, key[0], key[1], fence, ring, ibs]);
        all.insert("amdgpu/amdgpu_sched_run_job", vec![timeline, key[0], key[1], ring, ibs]);
    } else {
        let key = [("unsigned int context", 4), ("unsigned int seqno", 4)];
        all.insert("amdgpu/amdgpu_cs_ioctl", vec![id, timeline, key[0], key[1], fence, ring, ibs]);
        all.insert("amdgpu/amdgpu_sched_run_job", vec![id, timeline, key[0], key[1], ring, ibs]);
    }
    let (vmid, hub) = (("u32 vmid", 4), ("u32 vm_hub", 4));
    let grab = vec![("u32 pasid", 4), ring, ("u32 ring", 4), vmid, hub, ("u64 pd_addr", 8), ("u32 needs_flush", 4)];
    all.insert("amdgpu/amdgpu_vm_grab_id", grab);
    if !kernel_since(6, 8) {
        return all;
    }
    let (gt, guc, state, flags) = (("u8 gt_id", 1), ("u16 guc_id", 2), ("u32 guc_state", 4), ("u32 flags", 4));
    let (class, mask, width) = (("enum xe_engine_class class", 4), ("u32 logical_mask", 4), ("u16 width", 2));
    for event in ["xe/xe_exec_queue_create", "xe/xe_exec_queue_submit"] {
        all.insert(event, vec![dev, class, mask, gt, width, guc, state, flags]);
    }
    let mut job = vec![dev, ("u32 seqno", 4), ("u32 lrc_seqno", 4)];
    job.extend(kernel_since(7, 0).then_some(gt));
    job.extend([guc, state, flags, ("int error", 4), fence, ("u64 batch_addr", 8)]);
    for event in ["create", "exec", "run", "free", "timedout", "set_error"] {
        let name: &'static str = Box::leak(format!("xe/xe_sched_job_{event}").into_boxed_str());
        all.insert(name, job.clone());
    }
    for event in ["xe/xe_hw_fence_create", "xe/xe_hw_fence_signal", "xe/xe_hw_fence_try_signal"] {
        all.insert(event, vec![dev, ("u64 ctx", 8), ("u32 seqno", 4), ("struct xe_hw_fence * fence", 8)]);
    }
    all
}

#[test]
#[ignore = "needs the testbed's guest"]
fn events_have_the_fields_of_their_drivers() {
    for (event, expected) in declared() {
        let expected: Vec<(String, u64)> = expected.iter().map(|(n, s)| ((*n).to_string(), *s)).collect();
        assert_eq!(fields(event), expected, "{event}");
    }
    assert_eq!(Path::new(TRACING).join("events/xe").exists(), kernel_since(6, 8));
    assert!(!Path::new(TRACING).join("events/i915/i915_request_in").exists(), "Debian leaves these out");
}

/// A tracefs instance of this test's own, with these events on.
struct Instance(PathBuf);

impl Instance {
    fn start(events: &[&str]) -> Self {
        let dir = Path::new(TRACING).join("instances/vgpu-test");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("buffer_size_kb"), "4096").unwrap();
        for event in events {
            fs::write(dir.join("events").join(event).join("enable"), "1").unwrap();
        }
        Instance(dir)
    }

    /// How often each event came.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(self.0.join("trace")).unwrap().lines().filter(|l| !l.starts_with('#')) {
            let event = line.split_whitespace().find(|w| w.ends_with(':') && w.contains('_')).unwrap();
            *counts.entry(event.trim_end_matches(':').to_string()).or_default() += 1;
        }
        counts
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A leftover instance would fail the next test by its name.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn events_fire_once_a_job() {
    for gpu in gpus() {
        let per_job: &[&str] = match gpu.driver() {
            "xe" => &[
                "xe_sched_job_create",
                "xe_sched_job_exec",
                "xe_sched_job_run",
                "xe_sched_job_free",
                "xe_exec_queue_submit",
                "xe_hw_fence_create",
                "xe_hw_fence_signal",
                "xe_hw_fence_try_signal",
            ],
            "amdgpu" => &["amdgpu_cs_ioctl", "amdgpu_sched_run_job", "amdgpu_vm_grab_id"],
            _ => &["i915_request_queue", "i915_request_add", "i915_request_retire"],
        };
        let instance = Instance::start(&[gpu.driver()]);
        let args = ["--count", "6", "--rings", rings(&gpu)[0], "--contexts", "2", "--us", "40000", "--hang", "5"];
        let (_, log) = logged(&gpu, &args);
        // The scheduler frees a job some time after it ended.
        let freed = per_job.iter().find(|e| e.ends_with("_free") || e.ends_with("_retire"));
        let all = || freed.is_none_or(|e| instance.counts().get(*e) == Some(&6));
        assert!(wait_until(Duration::from_secs(3), all), "{}: {:?}", gpu.identity, instance.counts());
        let mut expected: BTreeMap<String, usize> = per_job.iter().map(|e| ((*e).to_string(), 6)).collect();
        match gpu.driver() {
            "xe" => {
                let others = [("xe_exec_queue_create", 2), ("xe_sched_job_timedout", 1), ("xe_sched_job_set_error", 1)];
                expected.extend(others.map(|(e, n)| (e.to_string(), n)));
            }
            // It waits for the last job of each context; the first of the two has ended by then or not.
            "i915" => {
                let waits = instance.counts().get("i915_request_wait_begin").copied().unwrap_or(0);
                assert!((1..=2).contains(&waits), "{waits}");
                expected.extend(["begin", "end"].map(|e| (format!("i915_request_wait_{e}"), waits)));
            }
            _ => {}
        }
        assert_eq!(instance.counts(), expected, "{}", gpu.identity);
        assert_eq!(log.iter().filter(|j| j.status == ETIME).count(), 1);
    }
}
