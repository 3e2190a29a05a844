use super::*;
use crate::testing::{Tree, user_at};

const SCALE: &str = "6.103515625e-5\n";

fn pmu(tree: &Tree, name: &str, events: [(&str, &str); 2], unit: &str) {
    tree.pmu(name, "type", "24\n").pmu(name, "cpumask", "0\n").pmu(name, "format/event", "config:0-7\n").pmu(
        name,
        "format/umask",
        "config:8-15\n",
    );
    for (event, terms) in events {
        tree.pmu(name, &format!("events/{event}"), terms).pmu(name, &format!("events/{event}.scale"), SCALE).pmu(
            name,
            &format!("events/{event}.unit"),
            unit,
        );
    }
}

/// `snb_uncore_imc_events`, arch/x86/events/intel/uncore_snb.c.
const OLD: [(&str, &str); 2] = [("data_reads", "event=0x01\n"), ("data_writes", "event=0x02\n")];
/// `tgl_uncore_imc_events`, the same file.
const FREE: [(&str, &str); 2] = [("data_read", "event=0xff,umask=0x20\n"), ("data_write", "event=0xff,umask=0x30\n")];
/// `hswep_uncore_imc_events`, arch/x86/events/intel/uncore_snbep.c.
const SERVER: [(&str, &str); 2] =
    [("cas_count_read", "event=0x04,umask=0x03\n"), ("cas_count_write", "event=0x04,umask=0x0c\n")];

fn found(tree: &Tree) -> Vec<(String, u64, u64, u64)> {
    find(&tree.roots())
        .unwrap()
        .iter()
        .map(|(pmu, family)| {
            let config = |events: &[&str]| pmu.event(events[0]).unwrap().attr.config;
            let unit = Unit::of(pmu, family.read[0]).unwrap();
            (pmu.name.clone(), config(family.read), config(family.write), unit.to_bytes(1_000))
        })
        .collect()
}

#[test]
fn all_families_count_64_bytes() {
    let tree = Tree::new();
    pmu(&tree, "uncore_imc", OLD, "MiB\n");
    assert_eq!(found(&tree), [("uncore_imc".into(), 1, 2, 64_000)]);

    let tree = Tree::new();
    pmu(&tree, "uncore_imc_free_running_0", FREE, "MiB\n");
    pmu(&tree, "uncore_imc_free_running_1", FREE, "MiB\n");
    let expected: Vec<_> = (0..2).map(|n| (format!("uncore_imc_free_running_{n}"), 0x20ff, 0x30ff, 64_000)).collect();
    assert_eq!(found(&tree), expected);

    let tree = Tree::new();
    for n in 0..6 {
        pmu(&tree, &format!("uncore_imc_{n}"), SERVER, "MiB\n");
    }
    assert_eq!(found(&tree).len(), 6);
    assert_eq!(found(&tree)[0], ("uncore_imc_0".into(), 0x304, 0xc04, 64_000));
}

#[test]
fn channels_with_two_schedulers_are_both_counted() {
    // `gnr_uncore_imc_events`, arch/x86/events/intel/uncore_snbep.c.
    let tree = Tree::new();
    pmu(
        &tree,
        "uncore_imc_0",
        [("cas_count_read_sch0", "event=0x05,umask=0xcf\n"), ("cas_count_read_sch1", "event=0x06,umask=0xcf\n")],
        "MiB\n",
    );
    assert!(find(&tree.roots()).is_err(), "reads without writes are no family");
    pmu(
        &tree,
        "uncore_imc_0",
        [("cas_count_write_sch0", "event=0x05,umask=0xf0\n"), ("cas_count_write_sch1", "event=0x06,umask=0xf0\n")],
        "MiB\n",
    );
    let pmus = find(&tree.roots()).unwrap();
    assert_eq!(pmus[0].1.events().filter(|(direction, _)| *direction == Direction::Read).count(), 2);
    assert_eq!(pmus[0].1.events().count(), 4);
}

#[test]
fn free_running_counters_stand_before_programmable_ones() {
    let tree = Tree::new();
    pmu(&tree, "uncore_imc_0", SERVER, "MiB\n");
    pmu(&tree, "uncore_imc_free_running_0", FREE, "MiB\n");
    assert_eq!(found(&tree).len(), 1);
    assert_eq!(found(&tree)[0].0, "uncore_imc_free_running_0");
}

#[test]
fn machine_without_them_says_so() {
    let mut imc = Imc::open(&Tree::new().roots(), &user_at(2));
    let sample = imc.sample();
    assert_eq!(sample.read_bytes.why().unwrap().reason, Reason::NotSupported);
    assert_eq!(sample.read_bytes.why(), sample.write_bytes.why());
    assert_eq!(imc.reports()[0].unlocks, METRICS);
}

#[test]
fn captured_tree_does_not_count() {
    let tree = Tree::new();
    pmu(&tree, "uncore_imc", OLD, "MiB\n");
    let sample = Imc::open(&tree.roots(), &user_at(2)).sample();
    assert_eq!(sample.read_bytes.why().unwrap().reason, Reason::NotCounting);
}

#[test]
fn synthetic_unknown_unit_is_not_a_factor_of_one() {
    let tree = Tree::new();
    pmu(&tree, "uncore_imc", OLD, "cachelines\n");
    let why = Imc::open(&tree.roots(), &user_at(2)).sample().read_bytes.why().unwrap().clone();
    assert_eq!(why.reason, Reason::NotSupported);
    assert!(why.detail.contains("cachelines"), "{why}");
}

#[test]
fn unlocked_metrics_are_in_the_catalogue() {
    let names: Vec<_> = gpuscope_model::catalogue::METRICS.iter().map(|m| m.name).collect();
    assert!(METRICS.iter().all(|m| names.contains(m)), "{names:?}");
}
