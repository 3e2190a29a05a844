//! DRM fdinfo, and that reading into a used `FdInfo` gives what reading into a fresh one gives.
#![no_main]

use gpuscope_gpu::fuzzing::{FdInfo, client_id, parse_fdinfo};
use libfuzzer_sys::fuzz_target;

/// Names keep their places from read to read, so that only the order may differ.
fn in_order(mut info: FdInfo) -> FdInfo {
    info.engines.sort_by(|a, b| a.name.cmp(&b.name));
    info.memory.sort_by(|a, b| a.name.cmp(&b.name));
    info
}

fuzz_target!(|text: &str| {
    let (before, now) = text.split_once('\0').unwrap_or(("", text));
    let mut used = FdInfo::default();
    parse_fdinfo(before, &mut used);
    parse_fdinfo(now, &mut used);
    let mut fresh = FdInfo::default();
    parse_fdinfo(now, &mut fresh);
    assert!(fresh.engines.iter().all(|e| e.capacity() >= 1), "a capacity of zero divides by zero");
    assert!(fresh.notes.iter().all(|n| n.line >= 1 && n.line <= now.lines().count()));
    assert_eq!(client_id(now), fresh.client_id);
    assert_eq!(in_order(used), in_order(fresh));
});
