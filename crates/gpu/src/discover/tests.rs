use super::*;
use crate::testing::Tree;
use gpuscope_model::{GtKind, Reason};

fn ids(all: &[DeviceInfo]) -> Vec<&str> {
    all.iter().map(|d| d.id.as_str()).collect()
}

#[test]
fn sysfs_layout_with_two_gpus_and_connectors() {
    let tree = Tree::new();
    let discrete = tree.pci_gpu("0000:03:00.0", "xe", ("8086", "E20B"), 0);
    tree.pci_gpu("0000:00:02.0", "i915", ("8086", "46A6"), 1);
    tree.folder("sys/class/drm/card0-HDMI-A-1").folder("sys/class/drm/card1-eDP-1");
    tree.file("sys/class/drm/version", "drm 1.1.0 20060810\n");
    tree.file(&format!("{discrete}/power/runtime_status"), "suspended\n");
    let all = list(&tree.roots());
    assert_eq!(ids(&all), ["0000:00:02.0", "0000:03:00.0"]);
    let igpu = &all[0];
    assert_eq!(igpu.driver, "i915");
    assert_eq!(igpu.card.as_deref(), Some("/dev/dri/card1"));
    assert_eq!(igpu.render.as_deref(), Some("/dev/dri/renderD129"));
    assert_eq!(igpu.integrated, Reading::Value(true));
    assert_eq!(igpu.name, "Intel Iris Xe Graphics (Alder Lake-P)");
    assert_eq!(igpu.runtime_status.why().unwrap().reason, Reason::NotSupported);
    let arc = &all[1];
    assert_eq!(arc.pci_id, Some(PciId { vendor: 0x8086, device: 0xe20b }));
    assert_eq!(arc.integrated, Reading::Value(false));
    assert_eq!(arc.runtime_status, Reading::Value(RuntimeStatus::Suspended));
    assert_eq!(find(&tree.roots())[1].nodes, [(226, 0), (226, 128)]);
}

#[test]
fn filter_keeps_the_named_gpu() {
    let tree = Tree::new();
    tree.pci_gpu("0000:03:00.0", "xe", ("8086", "E20B"), 0);
    tree.pci_gpu("0000:00:02.0", "i915", ("8086", "46A6"), 1);
    let options = Options { gpu_filter: vec!["0000:03:00.0".to_string()], ..Options::default() };
    assert_eq!(ids(&list_with(&tree.roots(), &options)), ["0000:03:00.0"]);
}

#[test]
fn physical_and_virtual_function() {
    let tree = Tree::new();
    let physical = tree.pci_gpu("0000:00:02.0", "i915", ("8086", "46A6"), 1);
    let virt = tree.pci_gpu("0000:00:02.1", "i915", ("8086", "46A6"), 0);
    tree.files(&physical, &[("sriov_totalvfs", "7\n"), ("sriov_numvfs", "1\n")]);
    tree.link(&format!("{virt}/physfn"), "../0000:00:02.0");
    let all = list(&tree.roots());
    // The virtual function has the lower card number and still comes second.
    assert_eq!(ids(&all), ["0000:00:02.0", "0000:00:02.1"]);
    assert_eq!(all[0].sriov, Sriov::Physical { enabled: 1, total: 7 });
    let address = "0000:00:02.0".parse().unwrap();
    assert_eq!(all[1].sriov, Sriov::Virtual { physical: Some(address) });
}

#[test]
fn a_card_without_virtual_functions_is_no_physical_function() {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:00:02.0", "i915", ("8086", "46A6"), 0);
    tree.files(&device, &[("sriov_totalvfs", "0\n"), ("sriov_numvfs", "0\n")]);
    assert_eq!(list(&tree.roots())[0].sriov, Sriov::None);
}

#[test]
fn platform_device_is_named_after_itself() {
    let tree = Tree::new();
    tree.file("sys/devices/platform/fde60000.gpu/uevent", "DRIVER=panfrost\nOF_NAME=gpu\n")
        .folder("sys/devices/platform/fde60000.gpu/drm/card0")
        .link("sys/devices/platform/fde60000.gpu/drm/card0/device", "../..")
        .link("sys/class/drm/card0", "../../devices/platform/fde60000.gpu/drm/card0");
    let all = list(&tree.roots());
    assert_eq!(ids(&all), ["fde60000.gpu"]);
    assert_eq!((all[0].driver.as_str(), all[0].pci_address, all[0].pci_id), ("panfrost", None, None));
    assert_eq!(all[0].integrated.why().unwrap().reason, Reason::NotSupported);
    assert_eq!(all[0].name, "panfrost device");
}

#[test]
fn a_card_without_a_device_stands_for_itself() {
    let tree = Tree::new();
    tree.file("sys/class/drm/card0/dev", "226:0\n");
    let all = list(&tree.roots());
    assert_eq!(ids(&all), ["card0"]);
    assert_eq!(all[0].driver, "unknown");
}

#[test]
fn capture_with_a_folder_for_a_device() {
    let tree = Tree::new();
    tree.file("sys/class/drm/card7/device/uevent", "DRIVER=nouveau\n");
    let all = list(&tree.roots());
    assert_eq!(ids(&all), ["card7"]);
    assert_eq!(all[0].card.as_deref(), Some("/dev/dri/card7"));
}

#[test]
fn no_drm_at_all_is_an_empty_list() {
    assert_eq!(list(&Tree::new().roots()), []);
}

#[test]
fn synthetic_broken_trees_do_not_panic() {
    let tree = Tree::new();
    tree.file("sys/class/drm/card0/device/uevent", "PCI_SLOT_NAME=\nPCI_ID=::\nDRIVER=\n\u{fffd}=\n")
        .file("sys/class/drm/card0/device/vendor", "0xzzzzzzzz\n")
        .file("sys/class/drm/card0/dev", "226\n")
        .file("sys/class/drm/card1/device", "a file where a folder should be")
        .file("sys/class/drm/card99999999999999999999/device/uevent", "DRIVER=i915\nPCI_ID=8086:9A49\n")
        .file("sys/class/drm/card2/device/uevent", "DRIVER=xe\nPCI_SLOT_NAME=0000:03:00.0\n")
        .folder("sys/class/drm/card2/device/tile0/gt300")
        .file("sys/class/drm/card2/device/tile0/gt0", "")
        .file("sys/class/drm/card3/device/uevent", "DRIVER=xe\nPCI_SLOT_NAME=0000:03:00.0\n")
        .link("sys/class/drm/card4", "card4")
        .link("sys/class/drm/renderD128", "nowhere");
    std::fs::create_dir_all(tree.path("sys/class/drm/card5/device")).unwrap();
    std::fs::write(tree.path("sys/class/drm/card5/device/uevent"), b"\xff\xfe\x00").unwrap();
    let all = list(&tree.roots());
    let mut seen = ids(&all);
    assert!(seen.contains(&"0000:03:00.0") && seen.contains(&"0000:03:00.0@card3"), "{seen:?}");
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    for found in find(&tree.roots()) {
        let rights = Rights::read(&tree.roots());
        let options = Options { perturbing: true, wait: true, sema: true, pmu_frequency: true, ..Options::default() };
        let mut device = drivers::open(&Context { roots: &tree.roots(), rights: &rights, options: &options }, found);
        let mut sample = device.blank();
        device.sample(&drivers::Access::Allowed, &mut sample);
        let _ = device.power();
        assert!(!device.reports().is_empty());
    }
}

#[test]
fn meteor_lake_tells_the_media_gt_and_its_engines() {
    // Engines of the media GT: `xelpmp_extra_gt` in drivers/gpu/drm/i915/i915_pci.c. Event names: create_event_attributes in
    // drivers/gpu/drm/i915/i915_pmu.c.
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:00:02.0", "i915", ("8086", "7D55"), 0);
    tree.file(&format!("{device}/drm/card0/gt/gt0/id"), "0\n").file(&format!("{device}/drm/card0/gt/gt1/id"), "1\n");
    let events = "sys/bus/event_source/devices/i915/events";
    for name in
        ["vcs0-busy", "vcs0-busy.unit", "rcs0-busy", "rcs0-sema", "vecs0-busy", "vcs2-busy", "rc6-residency-gt1"]
    {
        tree.file(&format!("{events}/{name}"), "config=0x0\n");
    }
    let info = list(&tree.roots()).remove(0);
    assert_eq!(info.pmu.as_deref(), Some("i915"));
    let kinds: Vec<_> = info.gts.iter().map(|g| (g.gt, g.kind)).collect();
    assert_eq!(kinds, [(0, GtKind::Main), (1, GtKind::Media)]);
    let engines: Vec<_> = info.engines.iter().map(|e| (e.name.as_str(), e.instance.get(), e.gt.get())).collect();
    let expected = [
        ("rcs0", Some(0), Some(0)),
        ("vcs0", Some(0), Some(1)),
        ("vcs2", Some(2), Some(1)),
        ("vecs0", Some(0), Some(1)),
    ];
    assert_eq!(engines, expected);
}

#[test]
fn two_gts_of_an_unknown_part_do_not_tell_engines_apart() {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:03:00.0", "i915", ("8086", "FFFF"), 0);
    tree.folder(&format!("{device}/drm/card0/gt/gt0")).folder(&format!("{device}/drm/card0/gt/gt1"));
    tree.folder(&format!("{device}/drm/card0/engine/vcs0"));
    let info = list(&tree.roots()).remove(0);
    assert_eq!(info.gts[1].kind, GtKind::Unknown);
    assert_eq!(info.engines[0].gt.why().unwrap().reason, Reason::NotSupported);
}

#[test]
fn a_card_does_not_take_the_integrated_gpus_pmu() {
    let tree = Tree::new();
    tree.pci_gpu("0000:03:00.0", "i915", ("8086", "56A5"), 0);
    tree.pci_gpu("0000:00:02.0", "i915", ("8086", "A780"), 1);
    tree.folder("sys/bus/event_source/devices/i915/events");
    let all = list(&tree.roots());
    assert_eq!((all[0].pmu.as_deref(), all[1].pmu.as_deref()), (Some("i915"), None));
    tree.folder("sys/bus/event_source/devices/i915_0000_03_00.0/events");
    assert_eq!(list(&tree.roots())[1].pmu.as_deref(), Some("i915_0000_03_00.0"));
}

#[test]
fn xe_gts_by_their_engine_classes() {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:03:00.0", "xe", ("8086", "E20B"), 0);
    for class in ["rcs", "bcs", "ccs"] {
        tree.folder(&format!("{device}/tile0/gt0/engines/{class}/.defaults"));
    }
    for class in ["vcs", "vecs"] {
        tree.folder(&format!("{device}/tile0/gt1/engines/{class}"));
    }
    tree.folder("sys/bus/event_source/devices/xe_0000_03_00.0");
    let info = list(&tree.roots()).remove(0);
    assert_eq!(info.pmu.as_deref(), Some("xe_0000_03_00.0"));
    let kinds: Vec<_> = info.gts.iter().map(|g| (g.gt, g.tile, g.kind)).collect();
    assert_eq!(kinds, [(0, 0, GtKind::Main), (1, 0, GtKind::Media)]);
    let engines: Vec<_> = info.engines.iter().map(|e| (e.name.as_str(), e.gt.get())).collect();
    assert_eq!(engines, [("rcs", Some(0)), ("bcs", Some(0)), ("ccs", Some(0)), ("vcs", Some(1)), ("vecs", Some(1))]);
    assert_eq!(info.engines[0].instance.why().unwrap().reason, Reason::NotSupported);
}

/// `driver_sysfs_add` (drivers/base/dd.c) links a device below its driver; files of the driver stand beside.
#[test]
fn a_card_without_drm_nodes_is_found_through_its_driver() {
    let tree = Tree::new();
    tree.pci_gpu("0000:00:02.0", "i915", ("8086", "46A6"), 0);
    let with_nodes = tree.pci_gpu("0000:02:00.0", "nvidia", ("10DE", "2684"), 1);
    let device = "sys/devices/pci0000:00/0000:01:00.0";
    let uevent = "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:20B5\nPCI_SLOT_NAME=0000:01:00.0\n";
    tree.file(&format!("{device}/uevent"), uevent)
        .file(&format!("{device}/power/runtime_status"), "active\n")
        .folder("sys/bus/pci/drivers/nvidia")
        .link(&format!("{device}/driver"), "../../../bus/pci/drivers/nvidia")
        .link("sys/bus/pci/drivers/nvidia/0000:01:00.0", "../../../../devices/pci0000:00/0000:01:00.0")
        .link("sys/bus/pci/drivers/nvidia/0000:02:00.0", format!("../../../../{}", &with_nodes[4..]))
        .file("sys/bus/pci/drivers/nvidia/new_id", "");
    let all = list(&tree.roots());
    assert_eq!(ids(&all), ["0000:00:02.0", "0000:01:00.0", "0000:02:00.0"]);
    let card = &all[1];
    assert_eq!((card.driver.as_str(), &card.card, &card.render), ("nvidia", &None, &None));
    assert_eq!(card.pci_id, Some(PciId { vendor: 0x10de, device: 0x20b5 }));
    assert_eq!(all[2].card.as_deref(), Some("/dev/dri/card1"));

    let mut set = crate::GpuSet::open(tree.roots(), Options { rescan_ns: 0, clients: true, ..Options::default() });
    let mut sample = gpuscope_model::Sample::default();
    set.sample(&mut sample);
    assert_eq!(sample.gpus.len(), 3);
    // nvidia-drm is loaded later.
    tree.node(device, "card2", 2);
    tree.node(device, "renderD130", 130);
    set.sample(&mut sample);
    assert_eq!((sample.events.len(), sample.gpus.len()), (0, 3));
    assert_eq!(set.infos().nth(1).unwrap().card.as_deref(), Some("/dev/dri/card2"));
    for name in ["card2", "renderD130"] {
        std::fs::remove_file(tree.path(&format!("sys/class/drm/{name}"))).unwrap();
    }
    set.sample(&mut sample);
    assert_eq!((sample.events.len(), set.infos().nth(1).unwrap().card.as_deref()), (0, None));
    // Unbound: without a minor it is the link to the driver that tells.
    std::fs::remove_file(tree.path(&format!("{device}/driver"))).unwrap();
    std::fs::remove_file(tree.path("sys/bus/pci/drivers/nvidia/0000:01:00.0")).unwrap();
    set.sample(&mut sample);
    assert_eq!(sample.gpus.iter().map(|g| g.id.as_str()).collect::<Vec<_>>(), ["0000:00:02.0", "0000:02:00.0"]);
}
