use super::*;
use crate::testing::{Tree, user_at};

/// arch/x86/events/rapl.c on a client processor: `rapl_events_…` with `.unit` and `.scale`.
fn client() -> Tree {
    let tree = Tree::new();
    tree.pmu("power", "type", "12\n").pmu("power", "cpumask", "0\n").pmu("power", "format/event", "config:0-7\n");
    for (event, number) in [("cores", 1), ("pkg", 2), ("gpu", 4), ("psys", 5)] {
        tree.pmu("power", &format!("events/energy-{event}"), &format!("event=0x{number:02}\n"))
            .pmu("power", &format!("events/energy-{event}.unit"), "Joules\n")
            .pmu("power", &format!("events/energy-{event}.scale"), "2.3283064365386962890625e-10\n");
    }
    tree
}

fn zone(tree: &Tree, zone: &str, name: &str, energy: &str) {
    tree.file(&format!("sys/class/powercap/{zone}/name"), &format!("{name}\n"))
        .file(&format!("sys/class/powercap/{zone}/energy_uj"), energy)
        .file(&format!("sys/class/powercap/{zone}/max_energy_range_uj"), "262143328850\n");
}

#[test]
fn captured_tree_has_no_running_counters_and_missing_domains_say_so() {
    let tree = client();
    let mut rapl = Rapl::open(&tree.roots(), &user_at(2));
    let sample = rapl.sample();
    assert_eq!(sample.gpu_uj.why().unwrap().reason, Reason::NotCounting);
    assert_eq!(sample.package_uj.why().unwrap().reason, Reason::NotCounting);
    let ram = sample.ram_uj.why().unwrap();
    assert_eq!(ram.reason, Reason::NoHardware);
    assert!(ram.detail.contains("energy-ram"), "{ram}");
}

#[test]
fn machine_without_the_pmu_is_not_supported() {
    let mut rapl = Rapl::open(&Tree::new().roots(), &user_at(2));
    let sample = rapl.sample();
    assert_eq!(sample.package_uj.why().unwrap().reason, Reason::NotSupported);
    assert_eq!(rapl.reports().len(), 3);
    assert!(rapl.reports().iter().all(|r| r.unlocks.len() == 1));
}

#[test]
fn powercap_takes_over_and_is_summed_over_packages() {
    let tree = Tree::new();
    zone(&tree, "intel-rapl:0", "package-0", "1000\n");
    zone(&tree, "intel-rapl:0:0", "core", "10\n");
    zone(&tree, "intel-rapl:0:1", "uncore", "20\n");
    zone(&tree, "intel-rapl:1", "package-1", "500\n");
    zone(&tree, "intel-rapl:2", "psys", "7\n");
    // The same counters over MMIO must not be added.
    zone(&tree, "intel-rapl-mmio:0", "package-0", "1000\n");
    let mut rapl = Rapl::open(&tree.roots(), &user_at(2));
    let sample = rapl.sample();
    let value = |r: &Reading<Counter>| r.get().map(|c| c.value);
    assert_eq!(value(&sample.package_uj), Some(1500));
    assert_eq!(value(&sample.gpu_uj), Some(20));
    assert_eq!(value(&sample.cores_uj), Some(10));
    assert_eq!(value(&sample.psys_uj), Some(7));
    assert!(!sample.ram_uj.is_known());

    std::fs::write(tree.path().join("sys/class/powercap/intel-rapl:1/energy_uj"), "100\n").unwrap();
    let sample = rapl.sample();
    assert_eq!(value(&sample.package_uj), Some(1000 + 262_143_328_850 + 100), "the counter turned over once");
}

#[test]
fn amd_has_its_package_only() {
    // rapl.c, `rapl_attr_groups` with amd_rapl_pkg_msrs: energy-pkg alone.
    let tree = Tree::new();
    tree.pmu("power", "type", "12\n")
        .pmu("power", "cpumask", "0\n")
        .pmu("power", "format/event", "config:0-7\n")
        .pmu("power", "events/energy-pkg", "event=0x02\n")
        .pmu("power", "events/energy-pkg.unit", "Joules\n")
        .pmu("power", "events/energy-pkg.scale", "2.3283064365386962890625e-10\n");
    let sample = Rapl::open(&tree.roots(), &user_at(2)).sample();
    assert_eq!(sample.gpu_uj.why().unwrap().reason, Reason::NoHardware);
    assert_eq!(sample.package_uj.why().unwrap().reason, Reason::NotCounting);
}

#[test]
fn synthetic_unknown_unit_is_not_taken_for_joules() {
    let tree = client();
    tree.pmu("power", "events/energy-gpu.unit", "Calories\n");
    let sample = Rapl::open(&tree.roots(), &user_at(2)).sample();
    let why = sample.gpu_uj.why().unwrap();
    assert_eq!(why.reason, Reason::NotSupported);
    assert!(why.detail.contains("Calories"), "{why}");
}

#[test]
fn synthetic_energy_that_is_no_number_fails() {
    let tree = Tree::new();
    zone(&tree, "intel-rapl:0", "package-0", "much\n");
    let sample = Rapl::open(&tree.roots(), &user_at(2)).sample();
    assert_eq!(sample.package_uj.why().unwrap().reason, Reason::Failed);
}
