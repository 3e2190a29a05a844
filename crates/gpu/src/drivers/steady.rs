//! A device's sample in steady state, and the snapshot made of it, allocate nothing: a program that draws at 60 Hz leaves its
//! allocator alone.

use super::{Access, Device};
use crate::Options;
use crate::testing::Tree;
use gpuscope_model::delta::Baseline;
use gpuscope_model::{Reason, Sample, Snapshot, Why};

/// Values as `sysfs_emit` in drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c and drivers/gpu/drm/xe/xe_gt_freq.c prints them.
fn i915() -> Tree {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:03:00.0", "i915", ("8086", "56A0"), 0);
    tree.files(
        &format!("{device}/drm/card0/gt/gt0"),
        &[
            ("rps_act_freq_mhz", "1150\n"),
            ("rps_cur_freq_mhz", "1300\n"),
            ("rps_min_freq_mhz", "300\n"),
            ("rps_max_freq_mhz", "1300\n"),
            ("rc6_residency_ms", "1000\n"),
            ("throttle_reason_status", "1\n"),
            ("throttle_reason_pl1", "1\n"),
        ],
    );
    tree.folder(&format!("{device}/drm/card0/engine/vcs0"));
    tree.files(
        &format!("{device}/hwmon/hwmon0"),
        &[("name", "i915\n"), ("energy1_input", "123456\n"), ("temp1_input", "45000\n"), ("fan1_input", "1200\n")],
    );
    tree
}

fn xe() -> Tree {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:03:00.0", "xe", ("8086", "E20B"), 0);
    for gt in ["gt0", "gt1"] {
        tree.files(
            &format!("{device}/tile0/{gt}"),
            &[
                ("freq0/act_freq", "1150\n"),
                ("freq0/cur_freq", "1300\n"),
                ("freq0/min_freq", "300\n"),
                ("freq0/max_freq", "1300\n"),
                ("freq0/throttle/status", "0\n"),
                ("gtidle/idle_residency_ms", "1000\n"),
            ],
        );
    }
    tree.files(
        &format!("{device}/hwmon/hwmon0"),
        &[("name", "xe\n"), ("energy1_input", "123456\n"), ("energy1_label", "card\n"), ("temp2_input", "45000\n")],
    );
    tree
}

/// Allocations of one tick, once every buffer has its size.
fn allocations(device: &mut dyn Device, access: &Access) -> u64 {
    let mut sample = Sample { gpus: vec![device.blank()], ..Sample::default() };
    let mut baseline = Baseline::new();
    let mut snapshot = Snapshot::default();
    let mut tick = |at_ns: u64| {
        sample.at_ns = at_ns;
        let gpu = sample.gpus.first_mut().unwrap();
        let power = device.power().ok().unwrap();
        gpu.runtime_status.clone_from(&power.status);
        device.sample(access, gpu);
        baseline.step(&sample, &mut snapshot);
    };
    (1..=3).for_each(&mut tick);
    let counted = allocation_counter::measure(|| tick(4)).count_total;
    // The counter counts: building one snapshot anew allocates.
    assert!(allocation_counter::measure(|| drop(snapshot.clone())).count_total > 0);
    counted
}

#[test]
fn a_steady_tick_allocates_nothing() {
    let withheld = Access::Withheld(Why::new(Reason::NotCounting, "left alone".to_string()));
    for tree in [i915(), xe()] {
        let mut device = tree.open(&Options::default());
        assert_eq!(allocations(device.as_mut(), &Access::Allowed), 0, "{}", device.info().driver);
        assert_eq!(allocations(device.as_mut(), &withheld), 0, "{} withheld", device.info().driver);
    }
}
