// guest: -g amdgpu -t 200
//! DRM ioctls of a load whose calls are known: by name, how many, how long, and that none failed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::gpuscope;
use gpuscope_testbed::{gpus, kernel, load_program};
use serde_json::Value;
use std::fs;
use std::process::Command;

const JOBS: u64 = 40;
const JOB_US: f64 = 3000.0;

/// Each job is one EXEC (number 6 of the module's driver: 0x46) and one WAIT (0x47) until it has ended. The module answers as amdgpu's driver,
/// whose names the numbers have.
#[test]
#[ignore = "needs the testbed's guest"]
fn ioctls_are_named_and_put_together() {
    let node = &gpus()[0].render;
    for backend in ["bpf", "perf", "tracefs"] {
        let file = format!("/var/tmp/ioctls-{backend}");
        let load =
            format!("{} jobs --count {JOBS} --rings gfx --us {JOB_US} --sync --comm caller {node}", load_program());
        // What is no DRM ioctl: a terminal's request of something that is none.
        let script = format!("{load}; stty < /dev/null 2> /dev/null; true");
        let out = Command::new(gpuscope())
            .args([
                "trace",
                "record",
                "--backend",
                backend,
                "--family",
                "drm-sched,ioctl",
                "-o",
                &file,
                "--",
                "sh",
                "-c",
            ])
            .arg(&script)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.contains("nothing lost"), "{} {backend}: {said}", kernel());
        let out = Command::new(gpuscope()).args(["trace", "report", "--json", &file]).output().unwrap();
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        let all = &report["ioctls"];
        assert_eq!(all["unfinished"], 0, "{} {backend}: {all:#}", kernel());
        let calls = all["calls"].as_array().unwrap();
        let of = |name: &str| {
            let call = calls.iter().find(|call| call["comm"] == "caller" && call["name"] == name);
            call.unwrap_or_else(|| panic!("{} {backend}: no {name}: {all:#}", kernel()))
        };
        let (exec, wait) = (of("AMDGPU_GEM_METADATA"), of("AMDGPU_GEM_WAIT_IDLE"));
        for (call, number) in [(exec, 0x46), (wait, 0x47)] {
            assert_eq!(call["request"].as_u64().unwrap() & 0xffff, 0x6400 | number, "{call:#}");
            assert_eq!(call["took_us"]["count"], JOBS, "{} {backend}: {call:#}", kernel());
            assert_eq!(call["errors"].as_array().unwrap().len(), 0, "{call:#}");
        }
        // It waits for what is left of its job.
        let (submits, waits) = (exec["took_us"]["p50"].as_f64().unwrap(), wait["took_us"]["p50"].as_f64().unwrap());
        assert!(waits > JOB_US / 2.0 && submits < waits, "{} {backend}: {calls:#?}", kernel());
        assert!(wait["total_us"].as_f64().unwrap() >= waits * JOBS as f64 / 2.0, "{wait:#}");
        let is_drm = |call: &Value| call["request"].as_u64().unwrap() >> 8 & 0xff == u64::from(b'd');
        assert!(calls.iter().all(is_drm), "{calls:#?}");
    }
    // The export for Perfetto has the names, too.
    let script = format!("{} jobs --count 1 --rings gfx --us 100 --comm caller {node}", load_program());
    let file = "/var/tmp/ioctls-perfetto";
    let record = ["trace", "record", "--family", "drm-sched,ioctl", "-o", file, "--", "sh", "-c", &script];
    assert!(Command::new(gpuscope()).args(record).status().unwrap().success());
    let exported = "/var/tmp/ioctls.pftrace";
    assert!(Command::new(gpuscope()).args(["trace", "export", "-o", exported, file]).status().unwrap().success());
    let bytes = fs::read(exported).unwrap();
    let name = b"AMDGPU_GEM_WAIT_IDLE";
    assert!(bytes.windows(name.len()).any(|window| window == name), "{}", kernel());
}
