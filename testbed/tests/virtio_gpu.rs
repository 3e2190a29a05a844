// guest: -g i915,virtio-gpu -t 120
//! qemu's own GPU with the kernel's own driver: a second driver in the guest whose events fire.
#![allow(clippy::unwrap_used, reason = "a guest that is not as it should be is a failed test")]

use gpuscope_testbed::gpus;
use std::fs;
use std::path::Path;
use std::process::Command;

const TRACING: &str = "/sys/kernel/tracing";

fn enable(dir: &Path, event: &str, on: &str) {
    fs::write(dir.join("events").join(event).join("enable"), on).unwrap();
}

#[test]
#[ignore = "needs the testbed's guest"]
fn each_turn_is_commands_and_a_fence() {
    assert_eq!(gpus().len(), 1, "virtio-gpu is none of the module's");
    let device = Path::new("/sys/bus/pci/devices/0000:00:09.0");
    let nodes = fs::read_dir(device.join("drm")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let card = nodes.into_iter().find(|n| n.starts_with("card")).unwrap();
    let dir = Path::new(TRACING).join("instances/virtio-test");
    fs::create_dir(&dir).unwrap();
    enable(&dir, "virtio_gpu", "1");
    enable(&dir, "dma_fence", "1");
    let cache = std::env::var("TESTBED_CACHE").unwrap_or_else(|_| "/var/cache/gpu-testbed".to_string());
    let mut load = Command::new(format!("{cache}/bin/vgpu-load"));
    let out = load.args(["display", &format!("/dev/dri/{card}"), "15"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    enable(&dir, "virtio_gpu", "0");
    let trace = fs::read_to_string(dir.join("trace")).unwrap();
    fs::remove_dir(&dir).unwrap();
    let count = |what: &str| trace.lines().filter(|l| l.contains(what)).count();
    for event in
        ["dma_fence_init:", "dma_fence_emit:", "dma_fence_signaled:", "dma_fence_wait_start:", "dma_fence_wait_end:"]
    {
        assert_eq!(count(event), 15, "{event}");
    }
    // A frame is transferred, set and flushed; a cursor transferred and moved.
    assert!(count("virtio_gpu_cmd_queue:") >= 15 * 5, "{}", count("virtio_gpu_cmd_queue:"));
    assert!(count("virtio_gpu_cmd_response:") >= 15 * 4, "{}", count("virtio_gpu_cmd_response:"));
}
