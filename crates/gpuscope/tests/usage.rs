//! Wrong usage and failures: one line on stderr, and a status that tells them apart.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod common;

use common::{complaint, gpuscope, over, stdout};
use gpuscope_testkit::machines;

#[test]
fn wrong_usage_is_status_2_and_one_line() {
    for args in [
        &["--nonsense"][..],
        &["nonsense"],
        &["stat", "--interval", "0s"],
        &["stat", "--interval", "9ms"],
        &["stat", "--interval", "500"],
        &["stat", "--interval", "soon"],
        &["stat", "--count", "0"],
        &["stat", "--count", "-1"],
        &["stat", "--format", "xml"],
        &["stat", "--json", "--format", "csv"],
        &["list", "--format", "csv"],
        &["doctor", "--format", "csv"],
        &["--root"],
    ] {
        let (status, line) = complaint(gpuscope().args(args));
        assert_eq!(status, 2, "{args:?}: {line}");
        assert!(line.starts_with("gpuscope: "), "{line}");
    }
}

#[test]
fn a_missing_unit_is_named() {
    let (_, line) = complaint(gpuscope().args(["stat", "--interval", "500"]));
    assert!(line.contains("500ms"), "{line}");
}

#[test]
fn a_root_that_is_not_there_is_status_1() {
    for command in ["list", "doctor", "stat", "procs"] {
        let (status, line) = complaint(gpuscope().args([command, "--root", "/nonexistent/machine"]));
        assert_eq!(status, 1);
        assert!(line.contains("/nonexistent/machine") && line.contains("proc, sys and dev"), "{line}");
    }
}

#[test]
fn a_root_that_is_a_file_is_status_1() {
    let tree = machines::no_gpu();
    let (status, line) = complaint(gpuscope().args(["list", "--root"]).arg(tree.path("proc/self/status")));
    assert_eq!(status, 1);
    assert!(line.contains("not a folder"), "{line}");
}

#[test]
fn a_gpu_that_is_not_there_is_status_1_and_names_what_there_is() {
    let (status, line) = complaint(&mut over(&machines::i915_discrete(), &["stat", "--gpu", "card7"]));
    assert_eq!(status, 1);
    assert!(line.contains("card7") && line.contains("0000:03:00.0"), "{line}");
    let (status, line) = complaint(&mut over(&machines::no_gpu(), &["stat", "--gpu", "card0"]));
    assert_eq!(status, 1);
    assert!(line.contains("gpuscope doctor"), "{line}");
}

#[test]
fn help_version_completions_and_man_pages() {
    assert!(stdout(gpuscope().arg("--version")).starts_with("gpuscope "));
    let help = stdout(gpuscope().args(["stat", "--help"]));
    for option in ["--wait", "--sema", "--pmu-frequency", "--perturbing"] {
        assert!(help.contains(option), "{option}");
    }
    assert_eq!(help.matches("Side effect").count(), 4);
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(gpuscope().args(["completions", shell])).contains("perturbing"), "{shell}");
    }
    let tree = machines::no_gpu();
    assert_eq!(stdout(gpuscope().arg("man").arg(tree.path("man"))), "");
    for page in ["gpuscope.1", "gpuscope-list.1", "gpuscope-stat.1", "gpuscope-procs.1", "gpuscope-doctor.1"] {
        assert!(tree.path("man").join(page).is_file(), "{page}");
    }
    assert!(!tree.path("man/gpuscope-man.1").exists());
}
