//! Texts as drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c and drivers/gpu/drm/i915/i915_hwmon.c print them.

use super::*;
use crate::Options;
use crate::testing::Tree;
use gpuscope_model::RuntimeStatus;

const ASLEEP: Why = Why::ASLEEP;

fn alchemist() -> Tree {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:03:00.0", "i915", ("8086", "56A5"), 0);
    let gt = format!("{device}/drm/card0/gt/gt0");
    tree.files(
        &gt,
        &[
            ("rps_act_freq_mhz", "2000\n"),
            ("rps_cur_freq_mhz", "2450\n"),
            ("rps_min_freq_mhz", "300\n"),
            ("rps_max_freq_mhz", "2450\n"),
            ("rc6_residency_ms", "6534\n"),
            ("throttle_reason_status", "1\n"),
            ("throttle_reason_pl1", "1\n"),
            ("throttle_reason_pl2", "0\n"),
            ("throttle_reason_pl4", "0\n"),
            ("throttle_reason_thermal", "1\n"),
            ("throttle_reason_prochot", "0\n"),
            ("throttle_reason_ratl", "0\n"),
            ("throttle_reason_vr_thermalert", "0\n"),
            ("throttle_reason_vr_tdc", "0\n"),
        ],
    );
    tree.files(
        &format!("{device}/hwmon/hwmon1"),
        &[
            ("name", "i915\n"),
            ("energy1_input", "25637161804\n"),
            ("temp1_input", "55000\n"),
            ("fan1_input", "1200\n"),
            ("power1_max", "55000000\n"),
        ],
    );
    tree.files(
        &format!("{device}/power"),
        &[("runtime_status", "active\n"), ("control", "auto\n"), ("autosuspend_delay_ms", "1000\n")],
    );
    for name in ["rcs0", "bcs0", "vcs0", "vcs1", "vecs0", "vecs1", "ccs0"] {
        tree.folder(&format!("{device}/drm/card0/engine/{name}"));
    }
    tree
}

#[test]
fn a_card_that_may_be_woken() {
    let tree = alchemist();
    let mut device = tree.open(&Options::default());
    assert_eq!(device.power().unwrap().status, Reading::Value(RuntimeStatus::Active));
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    let gt = &sample.gts[0];
    assert_eq!(gt.actual, Reading::Value(Clock::Now(2e9)));
    assert_eq!(gt.requested, Reading::Value(Clock::Now(2.45e9)));
    assert_eq!((gt.min_hz.get(), gt.max_hz.get()), (Some(3e8), Some(2.45e9)));
    assert_eq!(gt.idle_ns.get().unwrap().value, 6_534_000_000);
    let reasons: Vec<_> = gt.throttle.get().unwrap().iter().collect();
    assert_eq!(reasons, [ThrottleReason::Pl1, ThrottleReason::Thermal]);
    assert_eq!(sample.power.package_uj.get().unwrap().value, 25_637_161_804);
    assert_eq!(sample.power.gpu_uj.why().unwrap().reason, Reason::NoHardware);
    assert_eq!(sample.power.card_uj.why().unwrap().reason, Reason::NotSupported);
    assert_eq!(sample.temperatures.value().unwrap()[0].celsius, Reading::Value(55.0));
    assert_eq!(sample.temperatures.value().unwrap()[0].label.as_str(), "gpu");
    assert_eq!(sample.fans.value().unwrap()[0].rpm, Reading::Value(1200.0));
    assert!(!sample.perturbs && !sample.live);
}

#[test]
fn a_card_that_may_not_be_woken_still_gives_its_frequencies() {
    let tree = alchemist();
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Withheld(ASLEEP), &mut sample);
    let gt = &sample.gts[0];
    assert_eq!(gt.actual, Reading::Value(Clock::Now(2e9)));
    assert_eq!(gt.idle_ns.why(), Some(&ASLEEP));
    assert_eq!(gt.throttle.why(), Some(&ASLEEP));
    assert_eq!(sample.power.package_uj.why(), Some(&ASLEEP));
    assert_eq!(sample.temperatures.value().unwrap()[0].celsius.why(), Some(&ASLEEP));
    assert_eq!(sample.fans.value().unwrap()[0].rpm.why(), Some(&ASLEEP));
}

#[test]
fn engines_are_listed_when_the_pmu_is_missing() {
    let tree = alchemist();
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    let engines = sample.engines.value().unwrap();
    let names: Vec<&str> = engines.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["rcs0", "bcs0", "vcs0", "vcs1", "vecs0", "vecs1", "ccs0"]);
    assert!(engines.iter().all(|e| e.gt == Reading::Value(0) && e.busy.why().unwrap().reason == Reason::NotSupported));
    let wait = engines[0].wait.why().unwrap();
    assert_eq!(wait.reason, Reason::NotSupported, "asking for more of a PMU that is missing is no remedy");
    assert!(wait.remedy.is_none());
    assert_eq!(device.fdinfo(), FdinfoNeed { needed: true, wakes: false, hidden: &[] });
}

#[test]
fn throttle_reasons_are_not_read_while_the_status_is_zero() {
    let tree = alchemist();
    let gt = "sys/devices/pci0000:00/0000:03:00.0/drm/card0/gt/gt0";
    tree.file(&format!("{gt}/throttle_reason_status"), "0\n").file(&format!("{gt}/throttle_reason_pl1"), "nonsense\n");
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    assert_eq!(sample.gts[0].throttle, Reading::Value(ThrottleReasons::NONE));
}

#[test]
fn residency_goes_on_over_the_wrap_of_its_file() {
    let tree = alchemist();
    let path = "sys/devices/pci0000:00/0000:03:00.0/drm/card0/gt/gt0/rc6_residency_ms";
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    let mut read = |text: &str| {
        tree.file(path, text);
        device.sample(&Access::Allowed, &mut sample);
        sample.gts[0].idle_ns.get().unwrap().value
    };
    let before = read("4294967290\n");
    assert_eq!(read("4\n") - before, 10_000_000);
}

#[test]
fn before_gt_folders_the_cards_files_stand_for_the_gt() {
    // drivers/gpu/drm/i915/i915_sysfs.c of Linux 5.10.
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:00:02.0", "i915", ("8086", "5912"), 0);
    let card = format!("{device}/drm/card0");
    tree.files(
        &card,
        &[
            ("gt_act_freq_mhz", "0\n"),
            ("gt_cur_freq_mhz", "350\n"),
            ("gt_min_freq_mhz", "350\n"),
            ("gt_max_freq_mhz", "1150\n"),
            ("power/rc6_residency_ms", "12345\n"),
        ],
    );
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    let gt = &sample.gts[0];
    assert_eq!(gt.actual, Reading::Value(Clock::Now(0.0)));
    assert_eq!(gt.requested, Reading::Value(Clock::Now(350e6)));
    assert_eq!(gt.idle_ns.get().unwrap().value, 12_345_000_000);
    assert_eq!(gt.throttle.why().unwrap().reason, Reason::NotSupported);
    assert_eq!(sample.power.card_uj.why().unwrap().reason, Reason::NoHardware);
    assert_eq!(sample.memory.why().unwrap().reason, Reason::NoHardware);
    assert!(sample.engines.why().is_some());
    assert_eq!(device.info().engines.len(), 0);
}

#[test]
fn a_sample_keeps_its_memory() {
    let tree = alchemist();
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    let place = |s: &DeviceSample| (s.engines.value().unwrap().as_ptr(), s.gts.as_ptr());
    let before = place(&sample);
    device.sample(&Access::Withheld(ASLEEP), &mut sample);
    device.sample(&Access::Allowed, &mut sample);
    assert_eq!(before, place(&sample));
}

#[test]
fn every_source_is_reported_with_what_it_unlocks() {
    let tree = alchemist();
    let names: Vec<&str> = gpuscope_model::catalogue::METRICS.iter().map(|m| m.name).collect();
    let reports = tree.open(&Options::default()).reports();
    assert!(reports.len() >= 5);
    for report in reports {
        assert!(!report.unlocks.is_empty(), "{report:?}");
        assert!(report.unlocks.iter().all(|m| names.contains(m)), "{report:?}");
    }
}

/// Names and encodings as create_event_attributes (drivers/gpu/drm/i915/i915_pmu.c) prints them: `config=0x%lx`.
fn with_pmu(tree: &Tree, name: &str, events: &[(&str, &str)]) {
    let pmu = format!("sys/bus/event_source/devices/{name}");
    tree.files(&pmu, &[("type", "24\n"), ("cpumask", "0\n"), ("format/i915_eventid", "config:0-20\n")]);
    for (event, text) in events {
        tree.file(&format!("{pmu}/events/{event}"), text);
    }
}

fn opened(tree: &Tree, options: &Options) -> I915 {
    let roots = tree.roots();
    let rights = gpuscope_pmu::Rights::read(&roots);
    let found = crate::discover::find(&roots).remove(0);
    I915::open(&Context { roots: &roots, rights: &rights, options }, &found)
}

#[test]
fn one_group_gives_every_engine_and_rc6() {
    let tree = alchemist();
    let events = [
        ("rcs0-busy", "config=0x0"),
        ("rcs0-sema", "config=0x2"),
        ("rcs0-wait", "config=0x1"),
        ("vcs1-busy", "config=0x2010"),
        ("vcs0-busy", "config=0x2000"),
        ("rc6-residency", "config=0x100003"),
        ("actual-frequency", "config=0x100000"),
    ];
    with_pmu(&tree, "i915_0000_03_00.0", &events);
    let mut device = opened(&tree, &Options::default());
    assert_eq!(device.info.pmu.as_deref(), Some("i915_0000_03_00.0"));
    let names: Vec<&str> = device.info.engines.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["rcs0", "vcs0", "vcs1"]);
    // A capture has no counters; the places of the events are known all the same.
    assert_eq!(device.counters.as_ref().err().unwrap().reason, Reason::NotCounting);
    assert!(device.fdinfo().needed);
    let values = GroupValues { time_enabled_ns: 1000, at_ns: 77, values: vec![10, 20, 30, 40] };
    let mut sample = device.blank();
    fill(true, &Ok(&values), &device.engines, &mut device.gts, &Access::Withheld(ASLEEP), &mut sample);
    let busy: Vec<_> = sample.engines.value().unwrap().iter().map(|e| e.busy.get().unwrap()).collect();
    assert_eq!(busy, [10, 20, 30].map(|part| Share { part, whole: 1000 }));
    assert_eq!(sample.gts[0].idle_ns, Reading::Value(Counter { value: 40, at_ns: 77 }));
    assert_eq!(sample.gts[0].actual, Reading::Value(Clock::Now(2e9)));
}

#[test]
fn a_group_that_gives_too_little_is_a_failure() {
    let tree = alchemist();
    with_pmu(&tree, "i915_0000_03_00.0", &[("rcs0-busy", "config=0x0"), ("vcs0-busy", "config=0x2000")]);
    let mut device = opened(&tree, &Options::default());
    let values = GroupValues { time_enabled_ns: 1000, at_ns: 77, values: vec![10] };
    let mut sample = device.blank();
    fill(true, &Ok(&values), &device.engines, &mut device.gts, &Access::Allowed, &mut sample);
    let engines = sample.engines.value().unwrap();
    assert!(engines[0].busy.is_known());
    assert_eq!(engines[1].busy.why().unwrap().reason, Reason::Failed);
    // Without an RC6 event the file is read.
    assert_eq!(sample.gts[0].idle_ns.get().unwrap().value, 6_534_000_000);
}

#[test]
fn a_refused_event_leaves_the_others_their_values() {
    let tree = alchemist();
    let events = [("rcs0-busy", "config=0x0"), ("vcs0-busy", "config=0x2000"), ("rc6-residency", "config=0x100003")];
    with_pmu(&tree, "i915_0000_03_00.0", &events);
    let mut device = opened(&tree, &Options::default());
    let gone = Why::new(Reason::NotSupported, "no such engine");
    device.take_places(&[Some(gone.clone()), None, None]);
    let values = GroupValues { time_enabled_ns: 1000, at_ns: 77, values: vec![20, 40] };
    let mut sample = device.blank();
    fill(true, &Ok(&values), &device.engines, &mut device.gts, &Access::Withheld(ASLEEP), &mut sample);
    let engines = sample.engines.value().unwrap();
    assert_eq!(engines[0].busy, Reading::Absent(gone));
    assert_eq!(engines[1].busy, Reading::Value(Share { part: 20, whole: 1000 }));
    assert_eq!(sample.gts[0].idle_ns.get().unwrap().value, 40);
}

#[test]
fn what_starts_the_timer_is_opened_on_request_only() {
    let tree = alchemist();
    let events = [
        ("rcs0-busy", "config=0x0"),
        ("rcs0-sema", "config=0x2"),
        ("rcs0-wait", "config=0x1"),
        ("actual-frequency", "config=0x100000"),
        ("requested-frequency", "config=0x100001"),
    ];
    with_pmu(&tree, "i915_0000_03_00.0", &events);
    let polite = opened(&tree, &Options::default());
    assert!(polite.engines[0].busy.is_ok() && polite.engines[0].wait.is_err() && polite.engines[0].sema.is_err());
    assert!(polite.gts[0].pmu_actual.is_none());
    let options = Options { wait: true, sema: true, pmu_frequency: true, ..Options::default() };
    let mut asked = opened(&tree, &options);
    let values = GroupValues { time_enabled_ns: 9, at_ns: 77, values: vec![1, 2, 3, 400, 500] };
    let mut sample = asked.blank();
    fill(true, &Ok(&values), &asked.engines, &mut asked.gts, &Access::Withheld(ASLEEP), &mut sample);
    let engine = &sample.engines.value().unwrap()[0];
    assert_eq!(engine.wait, Reading::Value(Share { part: 2, whole: 9 }));
    assert_eq!(engine.sema, Reading::Value(Share { part: 3, whole: 9 }));
    assert_eq!(sample.gts[0].actual, Reading::Value(Clock::Megacycles(Counter { value: 400, at_ns: 77 })));
    assert_eq!(sample.gts[0].requested, Reading::Value(Clock::Megacycles(Counter { value: 500, at_ns: 77 })));
}
