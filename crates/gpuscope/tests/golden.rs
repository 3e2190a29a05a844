//! Every command in every form over composed machines. `GPUSCOPE_BLESS=1` rewrites the golden files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod common;

use common::{golden_path, normalised, over, stdout, valid_lines};
use gpuscope_testkit::{Tree, golden, machines};

/// Short, and long enough for a tick.
const STAT: [&str; 5] = ["stat", "--interval", "20ms", "--count", "1"];

#[track_caller]
fn check(name: &str, tree: &Tree) {
    for command in ["list", "doctor"] {
        golden(golden_path(&format!("{name}.{command}.txt")), &stdout(&mut over(tree, &[command])));
        golden(golden_path(&format!("{name}.{command}.json")), &json(tree, &[command]));
    }
    golden(golden_path(&format!("{name}.stat.txt")), &stdout(&mut over(tree, &STAT)));
    golden(golden_path(&format!("{name}.stat.json")), &json(tree, &STAT));
    golden(golden_path(&format!("{name}.stat.csv")), &csv(tree));
}

#[track_caller]
fn json(tree: &Tree, args: &[&str]) -> String {
    let text = stdout(over(tree, args).arg("--json"));
    let mut lines = valid_lines(&text);
    assert_eq!(lines.len(), 1);
    normalised(lines.remove(0))
}

/// The rows without their time.
#[track_caller]
fn csv(tree: &Tree) -> String {
    let text = stdout(over(tree, &STAT).args(["--format", "csv"]));
    let mut rows = text.lines();
    let mut kept = format!("{}\n", rows.next().unwrap());
    for row in rows {
        let fields: Vec<&str> = row.splitn(3, ',').collect();
        assert!(fields[0].ends_with('Z') && fields[1].parse::<u64>().is_ok(), "{row}");
        kept.push_str(&format!("TIME,NS,{}\n", fields[2]));
    }
    kept
}

#[test]
fn i915_integrated() {
    check("i915-integrated", &machines::i915_integrated());
}

#[test]
fn i915_discrete() {
    check("i915-discrete", &machines::i915_discrete());
}

#[test]
fn xe_two_gts() {
    check("xe-two-gts", &machines::xe_two_gts());
}

#[test]
fn npu() {
    check("npu", &machines::npu());
}

#[test]
fn nvidia_without_nodes() {
    check("nvidia-without-nodes", &machines::nvidia_without_nodes());
}

#[test]
fn no_gpu() {
    check("no-gpu", &machines::no_gpu());
}

#[test]
fn text_without_utf_8_is_ascii() {
    for args in [&["list"][..], &["doctor"], &STAT] {
        let text = stdout(over(&machines::i915_discrete(), args).env("LC_ALL", "C"));
        assert!(text.is_ascii(), "{text}");
    }
}

#[test]
fn text_keeps_to_eighty_columns() {
    for tree in [machines::i915_integrated(), machines::i915_discrete(), machines::xe_two_gts(), machines::no_gpu()] {
        for args in [&["list"][..], &["doctor"], &STAT] {
            for line in stdout(&mut over(&tree, args)).lines() {
                // A word longer than a line cannot be wrapped.
                assert!(line.chars().count() <= 80 || !line.trim_start().contains(' '), "{line}");
            }
        }
    }
}

#[test]
fn without_a_command_and_a_terminal_it_lists() {
    let tree = machines::i915_integrated();
    assert_eq!(stdout(&mut over(&tree, &[])), stdout(&mut over(&tree, &["list"])));
}

#[test]
fn one_gpu_can_be_picked() {
    let tree = machines::i915_discrete();
    machines::add_i915_integrated(&tree);
    let ids = |extra: &[&str]| -> Vec<String> {
        let text = stdout(over(&tree, &STAT).arg("--json").args(extra));
        let line = &valid_lines(&text)[0];
        line["gpus"].as_array().unwrap().iter().map(|g| g["id"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(ids(&[]), ["0000:00:02.0", "0000:03:00.0"]);
    for word in ["0000:03:00.0", "03:00.0", "card1", "/dev/dri/renderD129", "1"] {
        assert_eq!(ids(&["--gpu", word]), ["0000:03:00.0"], "{word}");
    }
    assert_eq!(ids(&["--gpu", "card1", "--gpu", "card0"]), ["0000:00:02.0", "0000:03:00.0"]);
}

#[test]
fn names_come_from_the_tree_s_hwdata() {
    let tree = machines::i915_integrated();
    tree.file("usr/share/hwdata/pci.ids", "8086  Intel Corporation\n\t46a6  Alder Lake from hwdata\n");
    let text = stdout(over(&tree, &["list"]).arg("--json"));
    assert!(valid_lines(&text)[0]["gpus"][0]["name"].as_str().unwrap().contains("Alder Lake from hwdata"));
}
