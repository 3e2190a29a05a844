// guest: -g i915,amdgpu,xe,virtio-gpu -m timeout_ms=700 -t 300
//! Families of tracepoints beside the DRM scheduler's: jobs of drivers that have no scheduler, jobs that two families tell of, waits, errors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::gpuscope;
use gpuscope_testbed::{gpu, kernel, kernel_since, load_program};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const JOBS: u64 = 40;

/// Where qemu's own GPU is.
const VIRTIO: &str = "0000:00:09.0";

/// Records a command with these options, and gives the report and its jobs.
fn record(options: &[&str], command: &str) -> (Value, Vec<Value>) {
    let file = "/var/tmp/families";
    let mut args = vec!["trace", "record", "--force", "-o", file];
    args.extend(options);
    args.extend(["--", "sh", "-c", command]);
    let out = Command::new(gpuscope()).args(&args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{} {options:?}: {said}", kernel());
    assert!(said.contains("nothing lost"), "{} {options:?}: {said}", kernel());
    let out = Command::new(gpuscope()).args(["trace", "report", file, "--jobs", "--json"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let report = lines.pop().unwrap();
    (report, lines)
}

/// A load of jobs on one ring of a GPU, a submission at a time, each waited for.
fn jobs(identity: &str, ring: &str, more: &str) -> String {
    let render = gpu(identity).unwrap().render;
    format!(
        "{} jobs --count {JOBS} --rings {ring} --us 500 --sync --comm {identity}-load {more} {render}",
        load_program()
    )
}

/// What was told of jobs whose submitter has this name.
fn of_load<'a>(jobs: &'a [Value], identity: &str) -> Vec<&'a Value> {
    jobs.iter().filter(|job| job["comm"] == format!("{identity}-load")).collect()
}

/// How often the load waited for this ring, by the report.
fn waits(report: &Value, identity: &str, ring: &str) -> u64 {
    let waits = report["waits"].as_array().unwrap().iter();
    let of = waits.filter(|wait| wait["comm"] == format!("{identity}-load") && wait["ring"] == ring);
    of.map(|wait| wait["wait_us"]["count"].as_u64().unwrap()).sum()
}

/// Every event of a kind that a family gave.
fn count(report: &Value, family: &str, kind: &str) -> u64 {
    let families = report["families"].as_array().unwrap().iter();
    families.filter(|of| of["family"] == family).filter_map(|of| of["events"][kind].as_u64()).sum()
}

#[test]
#[ignore = "needs the testbed's guest"]
fn commands_of_virtio_gpu_are_jobs_by_every_way() {
    let device = Path::new("/sys/bus/pci/devices").join(VIRTIO);
    let nodes = fs::read_dir(device.join("drm")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let card = nodes.into_iter().find(|n| n.starts_with("card")).unwrap();
    let command = format!("{} display /dev/dri/{card} 15", load_program());
    for options in [
        &["--backend", "tracefs", "--family", "virtio-gpu"][..],
        &["--backend", "perf", "--family", "virtio-gpu"],
        &["--backend", "bpf", "--family", "drm-sched,virtio-gpu,waits"],
        &[],
    ] {
        // What the same tracepoints say meanwhile in an instance of the test's own.
        let other = Instance::new("families-test", &["virtio_gpu"]);
        let (report, jobs) = record(options, &command);
        let text = other.end();
        let ours = |line: &&str| line.trim_start().starts_with("vgpu-load-");
        // Before commands were numbered, only those with a fence can be followed.
        let is_followed = |line: &&str| kernel_since(6, 10) || !line.contains("fence_id=0 ");
        let queued = text.lines().filter(ours).filter(|line| line.contains("virtio_gpu_cmd_queue:"));
        let followed: Vec<&str> = queued.filter(is_followed).collect();
        assert!(followed.len() >= 15, "{text}");
        let told: Vec<&Value> = jobs.iter().filter(|job| job["comm"] == "vgpu-load").collect();
        for (ring, queue) in [("control", " vq=0 "), ("cursor", " vq=1 ")] {
            let told: Vec<&&Value> = told.iter().filter(|job| job["ring"] == ring).collect();
            let queued = followed.iter().filter(|line| line.contains(queue)).count();
            assert_eq!(told.len(), queued, "{options:?} {ring}: {text}");
            for job in told {
                assert_eq!(job["gpu"], VIRTIO, "{job}");
                assert_eq!(job["status"], if ring == "control" { "completed" } else { "ended" }, "{job}");
                assert!(job["in_flight_ns"].as_u64().is_some_and(|ns| ns > 0), "{job}");
            }
        }
        let control_ring = report["rings"].as_array().unwrap().iter().find(|ring| ring["ring"] == "control").unwrap();
        assert_eq!(control_ring["exec_kind"], "in_flight", "the host decides: {control_ring}");
        assert_eq!(count(&report, "virtio_gpu", "SUBMIT_COMMIT"), report["events"]["SUBMIT_COMMIT"].as_u64().unwrap());
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn jobs_of_amdgpu_are_told_once_with_and_without_the_scheduler() {
    let command = jobs("amdgpu", "gfx", "");
    for (backend, families, gpu_is_known) in [
        ("tracefs", "amdgpu,dma-fence", false),
        ("perf", "amdgpu,dma-fence", false),
        ("tracefs", "drm-sched,amdgpu,dma-fence,waits", kernel_since(6, 17)),
        ("bpf", "drm-sched,amdgpu,dma-fence,waits", true),
    ] {
        let (report, jobs) = record(&["--backend", backend, "--family", families], &command);
        let told = of_load(&jobs, "amdgpu");
        assert_eq!(told.len() as u64, JOBS, "{backend} {families}: {}", report["rings"]);
        for job in &told {
            let gpu = gpu("amdgpu").unwrap().bdf;
            assert_eq!(job["ring"], "gfx", "{job}");
            assert_eq!(job["gpu"], if gpu_is_known { Value::from(gpu) } else { Value::Null }, "{job}");
            let is_done = job["status"] == "completed" || job["status"] == "ended";
            assert!(is_done && !job["queue_ns"].is_null() && !job["in_flight_ns"].is_null(), "{job}");
        }
        let has_scheduler = families.contains("drm-sched");
        assert_eq!(count(&report, "amdgpu", "SUBMIT"), if has_scheduler { 0 } else { JOBS }, "{}", report["families"]);
        assert!(count(&report, "amdgpu", "CTX_SWITCH") >= JOBS, "{}", report["families"]);
        if families.contains("waits") {
            assert_eq!(waits(&report, "amdgpu", "gfx"), JOBS, "{backend}: {}", report["waits"]);
        }
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn requests_of_i915_end_with_their_fences() {
    let command = jobs("i915", "rcs0", "");
    for backend in ["tracefs", "perf"] {
        let (report, jobs) = record(&["--backend", backend, "--family", "i915,dma-fence,waits"], &command);
        let told = of_load(&jobs, "i915");
        assert_eq!(told.len() as u64, JOBS, "{backend}: {}", report["rings"]);
        for job in &told {
            assert_eq!((&job["gpu"], &job["ring"]), (&gpu("i915").unwrap().bdf.into(), &"rcs0".into()), "{job}");
            assert_eq!(job["status"], "ended", "{job}");
            assert!(job["run_ns"].is_null() && job["exec_ns"].is_null(), "no event tells of a hand-over: {job}");
            assert!(job["done_ns"].as_u64() > job["submit_ns"].as_u64(), "{job}");
        }
        let ring = report["rings"].as_array().unwrap().iter().find(|ring| ring["ring"] == "rcs0").unwrap();
        assert!(ring["utilisation_percent"].is_null(), "{ring}");
        assert_eq!(waits(&report, "i915", "rcs0"), JOBS, "{backend}: {}", report["waits"]);
        assert_eq!(report["unmatched_ends"], 0);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_hung_job_of_xe_is_an_error_of_its_driver_too() {
    // Linux 6.1 has no xe.
    if !kernel_since(6, 8) {
        return;
    }
    let command = jobs("xe", "rcs0", "");
    let (report, jobs_told) = record(&["--backend", "tracefs", "--family", "xe"], &command);
    assert_eq!(of_load(&jobs_told, "xe").len() as u64, JOBS, "{}", report["rings"]);
    assert!(of_load(&jobs_told, "xe").iter().all(|job| job["status"] == "ended"), "{}", report["rings"]);

    let command = format!("{} || true", jobs("xe", "rcs0", "--hang 3"));
    let (report, told) = record(&[], &command);
    assert_eq!(of_load(&told, "xe").len() as u64, JOBS, "{}", report["rings"]);
    assert_eq!(report["error_count"], 1, "{}", report["errors"]);
    // It timed out, and was given an error.
    assert_eq!(count(&report, "xe", "ERROR"), 2, "{}", report["families"]);
    assert_eq!(report["fault_count"], 2);
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.iter().all(|fault| fault["family"] == "xe" && fault["gpu"] == gpu("xe").unwrap().bdf), "{faults:?}");
    assert!(faults.iter().any(|fault| fault["errno"].as_i64().is_some_and(|errno| errno < 0)), "{faults:?}");
}

/// An instance of tracefs with all events of some systems.
struct Instance(PathBuf);

impl Instance {
    fn new(name: &str, systems: &[&str]) -> Instance {
        let dir = Path::new("/sys/kernel/tracing/instances").join(name);
        fs::create_dir(&dir).unwrap();
        for system in systems {
            fs::write(dir.join("events").join(system).join("enable"), "1").unwrap();
        }
        Instance(dir)
    }

    /// What it saw.
    fn end(self) -> String {
        let text = fs::read_to_string(self.0.join("trace")).unwrap();
        fs::remove_dir(&self.0).unwrap();
        text
    }
}
