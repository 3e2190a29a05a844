//! Texts as xe_gt_freq.c, xe_gt_idle.c, xe_gt_throttle.c and xe_hwmon.c of drivers/gpu/drm/xe print them.

use super::*;
use crate::Options;
use crate::testing::Tree;
use gpuscope_model::{EngineSample, Text};

fn battlemage() -> Tree {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:03:00.0", "xe", ("8086", "E20B"), 0);
    for (gt, classes) in [(0, &["rcs", "bcs", "ccs"][..]), (1, &["vcs", "vecs"])] {
        let folder = format!("{device}/tile0/gt{gt}");
        tree.files(
            &folder,
            &[
                ("freq0/act_freq", "0\n"),
                ("freq0/cur_freq", "1200\n"),
                ("freq0/min_freq", "400\n"),
                ("freq0/max_freq", "2850\n"),
                ("gtidle/idle_status", "gt-c6\n"),
                ("gtidle/idle_residency_ms", "5708894\n"),
                ("freq0/throttle/status", "1\n"),
                ("freq0/throttle/reason_pl1", "0\n"),
                ("freq0/throttle/reason_thermal", "1\n"),
                ("freq0/throttle/reason_vr_tdc", "0\n"),
            ],
        );
        for class in classes {
            tree.folder(&format!("{folder}/engines/{class}"));
        }
    }
    tree.files(
        &format!("{device}/hwmon/hwmon4"),
        &[
            ("name", "xe\n"),
            ("energy1_input", "0\n"),
            ("energy1_label", "card\n"),
            ("energy2_input", "911\n"),
            ("energy2_label", "pkg\n"),
            ("temp2_input", "41000\n"),
            ("temp2_label", "pkg\n"),
            ("temp3_input", "44000\n"),
            ("temp3_label", "vram\n"),
            ("fan1_input", "0\n"),
        ],
    );
    tree
}

#[test]
fn two_gts_of_a_card() {
    let tree = battlemage();
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    assert_eq!(sample.gts.len(), 2);
    for (number, gt) in sample.gts.iter().enumerate() {
        assert_eq!(usize::from(gt.gt), number);
        // 0 while in C6 is what the kernel says, not a missing value.
        assert_eq!(gt.actual, Reading::Value(Clock::Now(0.0)));
        assert_eq!(gt.requested, Reading::Value(Clock::Now(1.2e9)));
        assert_eq!((gt.min_hz.get(), gt.max_hz.get()), (Some(4e8), Some(2.85e9)));
        assert_eq!(gt.idle_ns.get().unwrap().value, 5_708_894_000_000);
        assert_eq!(gt.throttle.get().unwrap().iter().collect::<Vec<_>>(), [ThrottleReason::Thermal]);
    }
    assert_eq!(sample.power.card_uj.why().unwrap().reason, Reason::NotCounting);
    assert_eq!(sample.power.package_uj.get().unwrap().value, 911);
    let labels: Vec<_> =
        sample.temperatures.value().unwrap().iter().map(|t| (t.label.as_str(), t.celsius.get())).collect();
    assert_eq!(labels, [("pkg", Some(41.0)), ("vram", Some(44.0))]);
    assert_eq!(sample.fans.value().unwrap()[0].rpm, Reading::Value(0.0));
}

#[test]
fn one_file_of_reasons_is_preferred() {
    let tree = battlemage();
    let device = "sys/devices/pci0000:00/0000:03:00.0";
    tree.file(&format!("{device}/tile0/gt0/freq0/throttle/reasons"), "pl1 soc_thermal\n");
    tree.file(&format!("{device}/tile0/gt1/freq0/throttle/reasons"), "none\n");
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    let reasons: Vec<_> = sample.gts[0].throttle.get().unwrap().iter().collect();
    assert_eq!(reasons, [ThrottleReason::Pl1, ThrottleReason::Other]);
    assert!(sample.gts[1].throttle.get().unwrap().is_empty());
}

#[test]
fn nothing_is_read_while_waking_is_withheld() {
    let tree = battlemage();
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Withheld(Why::ASLEEP), &mut sample);
    let asleep = Some(&Why::ASLEEP);
    for gt in &sample.gts {
        assert_eq!((gt.actual.why(), gt.requested.why()), (asleep, asleep));
        assert_eq!((gt.min_hz.why(), gt.max_hz.why()), (asleep, asleep));
        assert_eq!((gt.idle_ns.why(), gt.throttle.why()), (asleep, asleep));
    }
    assert_eq!((sample.power.card_uj.why(), sample.power.package_uj.why()), (asleep, asleep));
    assert!(sample.temperatures.value().unwrap().iter().all(|t| t.celsius.why() == asleep));
    assert!(sample.fans.value().unwrap().iter().all(|f| f.rpm.why() == asleep));
}

#[test]
fn engines_are_left_to_fdinfo_and_say_what_would_count_instances() {
    let tree = battlemage();
    let device = tree.open(&Options::default());
    let why = device.blank().engines.why().unwrap().clone();
    assert_eq!(why.reason, Reason::NotSupported);
    assert!(why.remedy.unwrap().contains("6.16"));
    assert_eq!(device.fdinfo(), FdinfoNeed { needed: true, wakes: true, hidden: &[] });

    tree.folder("sys/bus/event_source/devices/xe_0000_03_00.0");
    let device = tree.open(&Options::default());
    assert!(device.blank().engines.why().unwrap().remedy.as_ref().unwrap().contains("--perturbing"));
    assert!(!device.blank().perturbs);
}

#[test]
fn a_capture_has_no_counters_to_open() {
    let tree = battlemage();
    tree.files("sys/bus/event_source/devices/xe_0000_03_00.0", &[("type", "30\n"), ("format/event", "config:0-11\n")]);
    let device = tree.open(&Options { perturbing: true, ..Options::default() });
    let blank = device.blank();
    assert!(blank.engines.why().is_some() && !blank.perturbs);
    assert!(device.fdinfo().needed);
}

#[test]
fn a_virtual_function_has_no_pmu_and_no_package() {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:00:02.1", "xe", ("8086", "64A0"), 0);
    tree.link(&format!("{device}/physfn"), "../0000:00:02.0");
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    assert_eq!(sample.engines.why().unwrap().remedy, None);
    assert_eq!(sample.power.gpu_uj.why().unwrap().reason, Reason::NotSupported);
    assert_eq!(device.info().unavailable.iter().filter(|u| u.metric == "pmu").count(), 1);
}

#[test]
fn events_are_placed_through_the_format_files() {
    // PMU_FORMAT_ATTR and the event strings of drivers/gpu/drm/xe/xe_pmu.c (Linux 6.16).
    let tree = battlemage();
    let folder = "sys/bus/event_source/devices/xe_0000_03_00.0";
    tree.files(
        folder,
        &[
            ("type", "30\n"),
            ("format/event", "config:0-11\n"),
            ("format/engine_instance", "config:12-19\n"),
            ("format/engine_class", "config:20-27\n"),
            ("format/gt", "config:60-63\n"),
            ("events/gt-c6-residency", "event=0x01\n"),
            ("events/engine-active-ticks", "event=0x02\n"),
            ("events/engine-total-ticks", "event=0x03\n"),
        ],
    );
    let pmu = Pmu::open(&tree.roots(), "xe_0000_03_00.0").unwrap();
    let attr = engine_event(&pmu, "engine-active-ticks", 2, 1, 1).unwrap();
    assert_eq!((attr.type_id, attr.config), (30, 0x1000_0000_0020_1002));
    assert_eq!(gt_event(&pmu, "gt-c6-residency", 1).unwrap().config, 0x1000_0000_0000_0001);
    assert!(engine_event(&pmu, "no-such-event", 0, 0, 0).is_err());
}

#[test]
fn ticks_are_shares_and_residency_is_nanoseconds() {
    let tree = battlemage();
    let mut gts = vec![Gt::open(&tree.path("sys/devices/pci0000:00/0000:03:00.0/tile0/gt0"))];
    gts[0].pmu_idle = Some(2);
    let engines = [EngineTicks { active: 0, total: 1 }];
    let mut sample = tree.open(&Options::default()).blank();
    sample.gts.truncate(1);
    sample.engines = Reading::Value(vec![EngineSample {
        name: Text::Static("rcs0"),
        class: EngineClass::Render,
        instance: 0,
        gt: Reading::Value(0),
        source: Text::Static("pmu"),
        busy: Reading::Absent(Why::FIRST_SAMPLE),
        wait: Reading::Absent(Why::FIRST_SAMPLE),
        sema: Reading::Absent(Why::FIRST_SAMPLE),
    }]);
    let values = GroupValues { time_enabled_ns: 5, at_ns: 77, values: vec![250, 1000, 12] };
    fill(&Ok(&values), &engines, &mut gts, &Access::Withheld(Why::ASLEEP), &mut sample);
    assert_eq!(sample.engines.value().unwrap()[0].busy, Reading::Value(Share { part: 250, whole: 1000 }));
    assert_eq!(sample.gts[0].idle_ns, Reading::Value(Counter { value: 12_000_000, at_ns: 77 }));
    assert_eq!(sample.gts[0].actual.why(), Some(&Why::ASLEEP));
}
