//! Over captured machines: every value equals the file that it came from, and what only a running machine counts is absent with
//! its reason. The tests read the files themselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod common;

use common::{gpuscope, reason, stdout, valid_lines};
use gpuscope_testkit::{Captured, captured, captured_names};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn run(machine: &Captured, args: &[&str]) -> Vec<Value> {
    valid_lines(&stdout(gpuscope().args(args).args(["--json", "--root"]).arg(machine.tree.root())))
}

/// Text of a file. The captures of AMD cards hold files padded with zeros to a page.
fn text(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim_end_matches('\0').trim().to_string())
}

fn number(path: &Path) -> Option<f64> {
    let text = text(path)?;
    Some(text.parse().unwrap_or_else(|e| panic!("{}: {e}: {text:?}", path.display())))
}

#[test]
fn list_and_stat_answer_over_every_tree() {
    for name in captured_names() {
        let machine = captured(&name).unwrap();
        let list = run(&machine, &["list"]);
        let listed = list[0]["gpus"].as_array().unwrap();
        assert_eq!(listed.len(), 1, "{name}");
        let uevent = std::fs::read_to_string(machine.card.join("device/uevent")).unwrap();
        let value = |key: &str| uevent.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap();
        assert_eq!(listed[0]["driver"], value("DRIVER"), "{name}");
        assert_eq!(listed[0]["id"], value("PCI_SLOT_NAME"), "{name}");
        assert_eq!(listed[0]["pci_id"], value("PCI_ID").to_lowercase(), "{name}");
        let card = machine.card.file_name().unwrap().to_str().unwrap();
        assert_eq!(listed[0]["card"], format!("/dev/dri/{card}"), "{name}");

        let samples = run(&machine, &["stat", "--count", "2", "--interval", "20ms"]);
        assert_eq!(samples.len(), 2, "{name}");
        for sample in &samples {
            let gpu = &sample["gpus"][0];
            assert_eq!(gpu["id"], listed[0]["id"], "{name}");
            check_rates(&name, gpu);
            check_sensors(&name, &machine, gpu);
            check_status(&name, &machine, gpu);
            match value("DRIVER") {
                "i915" => check_i915(&name, &machine, gpu),
                "xe" => check_xe(&name, &machine, gpu),
                _ => {}
            }
        }
        run(&machine, &["doctor"]);
        for command in ["list", "doctor"] {
            stdout(gpuscope().args([command, "--root"]).arg(machine.tree.root()));
        }
    }
}

/// Nothing that is a rate is known: the counters of a capture stand still. amdgpu's busy percentages and power are no counters but
/// levels, which a capture has.
fn check_rates(name: &str, gpu: &Value) {
    let levels = gpu["driver"] == "amdgpu";
    let null = |value: &Value, metric: &str| {
        assert!(value.is_null(), "{name}: {metric} is {value}");
        reason(gpu, metric)
    };
    for field in ["gpu_watts", "card_watts", "package_watts", "psys_watts"] {
        if levels && gpu["power"][field].is_number() {
            continue;
        }
        null(&gpu["power"][field], &format!("power.{field}"));
    }
    // Of a driver without GTs the whole list is not known.
    if gpu["rc6"].is_null() {
        reason(gpu, "rc6");
        reason(gpu, "frequency");
    }
    for rc6 in gpu["rc6"].as_array().into_iter().flatten() {
        let metric = format!("rc6[{}].residency_percent", rc6["gt"]);
        let expected = if levels { "not_supported" } else { "not_counting" };
        assert_eq!(null(&rc6["residency_percent"], &metric), expected, "{name}: {metric}");
    }
    for (list, fields) in
        [("engines", &["busy_percent", "wait_percent", "sema_percent"][..]), ("classes", &["busy_percent"])]
    {
        for entry in gpu[list].as_array().into_iter().flatten() {
            for field in fields {
                if levels && *field == "busy_percent" {
                    continue;
                }
                null(&entry[*field], &format!("{list}[{}].{field}", entry["name"].as_str().unwrap()));
            }
        }
    }
    for field in ["read_bytes_per_second", "write_bytes_per_second"] {
        null(&gpu["system_memory_bandwidth"][field], &format!("system_memory_bandwidth.{field}"));
    }
}

/// Temperatures and fans are those of hwmon.
fn check_sensors(name: &str, machine: &Captured, gpu: &Value) {
    let hwmon = machine.card.join("device/hwmon");
    let files: Vec<PathBuf> = std::fs::read_dir(hwmon)
        .into_iter()
        .flatten()
        .flat_map(|chip| std::fs::read_dir(chip.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    for (list, field, prefix, scale) in [("temperature", "celsius", "temp", 1000.0), ("fans", "rpm", "fan", 1.0)] {
        // Not read by the driver at hand, and the sample says why.
        if gpu[list].is_null() {
            continue;
        }
        let mut expected: Vec<f64> = files
            .iter()
            .filter(|f| {
                let file = f.file_name().unwrap().to_str().unwrap();
                file.starts_with(prefix) && file.ends_with("_input")
            })
            .map(|f| number(f).unwrap() / scale)
            .collect();
        let shown = gpu[list].as_array().into_iter().flatten();
        let mut shown: Vec<f64> = shown.filter_map(|entry| entry[field].as_f64()).collect();
        expected.sort_by(f64::total_cmp);
        shown.sort_by(f64::total_cmp);
        assert_eq!(shown, expected, "{name}: {list}");
    }
}

fn check_status(name: &str, machine: &Captured, gpu: &Value) {
    let file = text(&machine.card.join("device/power/runtime_status"));
    assert_eq!(gpu["runtime_status"].as_str(), file.as_deref(), "{name}");
}

fn check_i915(name: &str, machine: &Captured, gpu: &Value) {
    check_frequency(name, gpu, |gt| {
        let folder = machine.card.join(format!("gt/gt{gt}"));
        Gt {
            frequency: ["rps_act_freq_mhz", "rps_cur_freq_mhz", "rps_min_freq_mhz", "rps_max_freq_mhz"]
                .map(|f| folder.join(f)),
            throttle: (folder, "throttle_reason_"),
        }
    });
}

fn check_xe(name: &str, machine: &Captured, gpu: &Value) {
    check_frequency(name, gpu, |gt| {
        let folder = machine.card.join(format!("device/tile0/gt{gt}/freq0"));
        Gt {
            frequency: ["act_freq", "cur_freq", "min_freq", "max_freq"].map(|f| folder.join(f)),
            throttle: (folder.join("throttle"), "reason_"),
        }
    });
}

struct Gt {
    frequency: [PathBuf; 4],
    throttle: (PathBuf, &'static str),
}

fn check_frequency(name: &str, gpu: &Value, files: impl Fn(u64) -> Gt) {
    let all = gpu["frequency"].as_array().unwrap();
    assert!(!all.is_empty(), "{name}");
    for entry in all {
        let gt = entry["gt"].as_u64().unwrap();
        let files = files(gt);
        for (field, file) in ["actual_mhz", "requested_mhz", "min_mhz", "max_mhz"].into_iter().zip(&files.frequency) {
            assert_eq!(entry[field].as_f64(), number(file), "{name}: {field} of gt{gt}");
        }
        let (folder, prefix) = &files.throttle;
        let mut set: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap())
            .filter_map(|e| {
                let reason = e.file_name().to_str().unwrap().strip_prefix(prefix)?.to_string();
                (reason != "status" && number(&e.path()) == Some(1.0)).then_some(reason)
            })
            .collect();
        set.sort();
        let mut shown: Vec<&str> = entry["throttle"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        shown.sort();
        assert_eq!(shown, set, "{name}: throttle of gt{gt}");
    }
}
