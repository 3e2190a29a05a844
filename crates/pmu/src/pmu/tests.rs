use crate::testing::Tree;
use crate::{Error, EventAttr, Pmu};
use gpuscope_model::Reason;

/// drivers/gpu/drm/i915/i915_pmu.c: the attributes of a part with a media GT, `create_event_attributes`.
fn i915() -> Tree {
    let tree = Tree::new();
    tree.pmu("i915", "type", "18\n")
        .pmu("i915", "cpumask", "2\n")
        .pmu("i915", "format/i915_eventid", "config:0-20\n")
        .pmu("i915", "events/vcs1-busy", "config=0x2010\n")
        .pmu("i915", "events/vcs1-busy.unit", "ns\n")
        .pmu("i915", "events/rc6-residency-gt1", "config=0x1000000000100003\n")
        .pmu("i915", "events/rc6-residency-gt1.unit", "ns\n")
        .pmu("i915", "events/interrupts", "config=0x100002\n");
    tree
}

/// drivers/gpu/drm/xe/xe_pmu.c: format and event attributes.
fn xe() -> Tree {
    let tree = Tree::new();
    let name = "xe_0000_00_02.0";
    for (term, bits) in [
        ("event", "0-11"),
        ("engine_instance", "12-19"),
        ("engine_class", "20-27"),
        ("function", "44-59"),
        ("gt", "60-63"),
    ] {
        tree.pmu(name, &format!("format/{term}"), &format!("config:{bits}\n"));
    }
    tree.pmu(name, "type", "33\n").pmu(name, "cpumask", "0\n").pmu(name, "events/engine-active-ticks", "event=0x02\n");
    tree
}

#[test]
fn event_config_passes_bits_beyond_the_format() {
    let tree = i915();
    let pmu = Pmu::open(&tree.roots(), "i915").unwrap();
    assert_eq!((pmu.type_id, pmu.cpu(), pmu.cpus()), (18, 2, &[2][..]));
    assert_eq!(pmu.event("vcs1-busy").unwrap().attr.config, 0x2010);
    assert_eq!(pmu.event("vcs1-busy").unwrap().unit.as_deref(), Some("ns"));
    assert_eq!(pmu.event("rc6-residency-gt1").unwrap().attr.config, 0x1000_0000_0010_0003);
    assert_eq!(pmu.event("interrupts").unwrap().unit, None);
    assert_eq!(pmu.events().count(), 3);
    assert!(pmu.notes().is_empty());
}

#[test]
fn terms_are_encoded_through_the_formats() {
    let tree = xe();
    let pmu = Pmu::open(&tree.roots(), "xe_0000_00_02.0").unwrap();
    let attr = pmu.encode(&[("event", 2), ("engine_class", 2), ("engine_instance", 1), ("gt", 1)]).unwrap();
    assert_eq!(attr, EventAttr { type_id: 33, config: 0x1000_0000_0020_1002, config1: 0, config2: 0 });
    assert_eq!(pmu.event("engine-active-ticks").unwrap().attr.config, 2);
    assert!(matches!(pmu.encode(&[("gt", 16)]), Err(Error::TooLarge { .. })));
    assert!(matches!(pmu.encode(&[("slice", 1)]), Err(Error::UnknownTerm { .. })));
    let over = pmu.encode(&[("event", 3), ("config", 0xf000)]).unwrap();
    assert_eq!(over.config, 0xf003, "a whole word stands before its parts, in whatever order they are given");
}

#[test]
fn scale_and_unit_come_from_their_files() {
    let tree = Tree::new();
    // arch/x86/events/intel/uncore_snb.c, tgl_uncore_imc_events.
    tree.pmu("uncore_imc_free_running_0", "type", "24\n")
        .pmu("uncore_imc_free_running_0", "format/event", "config:0-7\n")
        .pmu("uncore_imc_free_running_0", "format/umask", "config:8-15\n")
        .pmu("uncore_imc_free_running_0", "events/data_read", "event=0xff,umask=0x20\n")
        .pmu("uncore_imc_free_running_0", "events/data_read.scale", "6.103515625e-5\n")
        .pmu("uncore_imc_free_running_0", "events/data_read.unit", "MiB\n");
    let pmu = Pmu::open(&tree.roots(), "uncore_imc_free_running_0").unwrap();
    let event = pmu.event("data_read").unwrap();
    assert_eq!(event.attr.config, 0x20ff);
    assert_eq!(event.scale * f64::from(1 << 20), 64.0);
    assert_eq!(pmu.cpus(), &[0], "no mask: CPU 0");
}

#[test]
fn missing_pmu_is_not_supported() {
    let tree = i915();
    for name in ["xe_0000_03_00.0", "", "..", "../devices/i915"] {
        assert_eq!(Pmu::open(&tree.roots(), name).unwrap_err().reason, Reason::NotSupported, "{name:?}");
    }
    assert_eq!(Pmu::names(&tree.roots()), ["i915"]);
    assert!(Pmu::names(&Tree::new().roots()).is_empty());
}

#[test]
fn synthetic_bad_event_is_noted_and_the_others_stay() {
    let tree = i915();
    tree.pmu("i915", "events/broken", "config=zebra\n")
        .pmu("i915", "events/chosen", "config=?\n")
        .pmu("i915", "events/scaled", "config=0x1\n")
        .pmu("i915", "events/scaled.scale", "much\n")
        .pmu("i915", "format/odd", "config9:1\n");
    let pmu = Pmu::open(&tree.roots(), "i915").unwrap();
    assert_eq!(pmu.events().count(), 3);
    assert_eq!(pmu.notes().len(), 4);
    assert!(pmu.notes().iter().any(|n| n.contains("events/broken") && n.contains("config=zebra")));
}

#[test]
fn synthetic_bad_type_or_mask_fails() {
    let tree = i915();
    tree.pmu("i915", "cpumask", "all\n");
    assert_eq!(Pmu::open(&tree.roots(), "i915").unwrap_err().reason, Reason::Failed);
    tree.pmu("i915", "cpumask", "0\n").pmu("i915", "type", "-1\n");
    assert_eq!(Pmu::open(&tree.roots(), "i915").unwrap_err().reason, Reason::Failed);
}

#[test]
fn empty_mask_gives_no_cpus_and_cpu_0() {
    let tree = i915();
    tree.pmu("i915", "cpumask", "\n");
    let pmu = Pmu::open(&tree.roots(), "i915").unwrap();
    assert_eq!((pmu.cpus().len(), pmu.cpu()), (0, 0));
}
