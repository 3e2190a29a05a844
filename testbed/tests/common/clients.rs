//! Clients as `gpuscope procs` and `stat --processes` list them, and what the module's books say of the same.

use gpuscope_testbed::{Client, Gpu, LoadClient, Memory, kernel_since};
use serde_json::Value;
use std::fs;

/// The clients of a line.
pub fn clients(line: &Value) -> &[Value] {
    line["clients"].as_array().unwrap_or_else(|| panic!("no clients: {line}"))
}

/// The client of a GPU in a line.
///
/// # Panics
///
/// It is there twice.
pub fn client<'a>(line: &'a Value, gpu: &Gpu, id: u64) -> Option<&'a Value> {
    let mut found = clients(line).iter().filter(|c| c["gpu"] == gpu.bdf && c["client_id"] == id);
    let first = found.next();
    assert!(found.next().is_none(), "client {id} of {} is counted twice: {line}", gpu.bdf);
    first
}

/// The client numbers of a GPU in a line, as listed.
pub fn ids(line: &Value, gpu: &Gpu) -> Vec<u64> {
    clients(line).iter().filter(|c| c["gpu"] == gpu.bdf).filter_map(|c| c["client_id"].as_u64()).collect()
}

/// CLOCK_MONOTONIC of a client's own reading.
pub fn read_ns(client: &Value) -> u64 {
    client["read_monotonic_ns"].as_u64().unwrap_or_else(|| panic!("not read: {client}"))
}

/// The engines that a driver's word in fdinfo stands for; none for what this GPU does not have.
pub fn members(gpu: &Gpu, word: &str) -> Vec<String> {
    let engines = match (gpu.driver(), word) {
        ("amdgpu", "enc_1" | "vpe") => &[][..],
        (_, "render" | "rcs") => &["rcs0"],
        (_, "copy" | "bcs") => &["bcs0"],
        (_, "video" | "vcs") => &["vcs0", "vcs1"],
        (_, "video-enhance" | "vecs") => &["vecs0"],
        ("i915", "compute") | (_, "ccs") => &["ccs0"],
        _ => return vec![word.to_string()],
    };
    engines.iter().map(|e| (*e).to_string()).collect()
}

/// The holder that was started first, by field 22 of `/proc/PID/stat`; the lower number of two in the same clock tick.
pub fn first_started(holders: &[u32]) -> u32 {
    let start = |pid: u32| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat[stat.rfind(')').unwrap()..].split_whitespace().nth(20).unwrap().parse().unwrap()
    };
    holders.iter().copied().min_by_key(|pid| (start(*pid), *pid)).unwrap()
}

/// What this kernel's driver prints of a region, by JSON field; nothing where it prints no memory.
fn printed(gpu: &Gpu, region: &str, m: &Memory) -> Vec<(&'static str, u64)> {
    let (total, shared, resident) =
        (("total_bytes", m.total), ("shared_bytes", m.shared), ("resident_bytes", m.resident));
    let (active, purgeable) = (("active_bytes", m.active), ("purgeable_bytes", m.purgeable));
    match (gpu.driver(), region) {
        ("i915", _) if !kernel_since(6, 7) => Vec::new(),
        ("i915", _) | ("xe", "system") => vec![total, shared, resident, active, purgeable],
        ("amdgpu", _) if kernel_since(6, 13) => vec![total, shared, resident, purgeable],
        ("amdgpu", _) if kernel_since(6, 6) => vec![shared, resident],
        ("amdgpu", _) => vec![resident],
        _ => vec![total, shared, resident, active],
    }
}

/// Asserts that the memory of a client is what the books say, to the byte, and that a number which this kernel does not print is
/// null with a reason. Returns how many numbers were compared.
pub fn assert_memory(line: &Value, seen: &Value, gpu: &Gpu, truth: &Client) -> usize {
    let listed = seen["memory"].as_array().unwrap();
    let mut compared = 0;
    for (region, memory) in &truth.memory {
        let printed = printed(gpu, region, memory);
        let of_region = listed.iter().find(|m| m["region"] == *region);
        let Some(of_region) = of_region else {
            assert!(printed.is_empty(), "{} {region} is missing: {seen}", gpu.identity);
            continue;
        };
        for field in ["total_bytes", "shared_bytes", "resident_bytes", "active_bytes", "purgeable_bytes"] {
            let value = &of_region[field];
            if let Some((_, bytes)) = printed.iter().find(|p| p.0 == field) {
                assert_eq!(value, bytes, "{} client {} {region} {field}: {seen}", gpu.identity, truth.id);
                compared += 1;
            } else {
                assert!(value.is_null(), "{} {region} {field} is not printed: {seen}", gpu.identity);
                let path = format!("clients[{}/{}].memory[{region}].{field}", gpu.bdf, truth.id);
                let why = super::why(line, &path).unwrap_or_else(|| panic!("{path} is null without a reason: {line}"));
                assert_eq!(why["reason"], "not_supported", "{why}");
            }
        }
    }
    for region in listed.iter().filter(|m| !truth.memory.contains_key(m["region"].as_str().unwrap())) {
        let of_it = region.as_object().unwrap().iter();
        let invented = of_it.filter(|(field, v)| *field != "region" && v.as_u64().is_some_and(|bytes| bytes > 0));
        assert_eq!(invented.count(), 0, "{}: nothing is in a region that the books lack: {region}", gpu.identity);
    }
    compared
}

/// Asserts who holds a client, who it is counted for, and its name.
pub fn assert_holders(seen: &Value, gpu: &Gpu, load: &LoadClient, truth: &Client) {
    let mut pids = load.pids.clone();
    pids.sort_unstable();
    assert_eq!(seen["holders"], serde_json::json!(pids), "{} client {}: all holders", gpu.identity, load.id);
    assert_eq!(seen["pid"], first_started(&pids), "{} client {}: its owner", gpu.identity, load.id);
    let name = (kernel_since(6, 14) && !truth.name.is_empty()).then_some(truth.name.as_str());
    assert_eq!(seen["client_name"].as_str(), name, "{} client {}: its name", gpu.identity, load.id);
}
