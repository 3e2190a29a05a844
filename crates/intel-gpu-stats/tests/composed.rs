//! The public face over composed trees: what is found, what is known, what is not and why.
//!
//! Texts as `sysfs_emit(buf, "%u\n", …)` in drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c, drivers/gpu/drm/xe/xe_gt_freq.c and
//! drivers/pci/pci-driver.c (`pci_uevent`) print them.

use gpuscope_testkit::Tree;
use intel_gpu_stats::{Builder, Error, IntelGpu, Reason};
use std::sync::mpsc;
use std::time::Duration;

/// A device folder with its nodes, as the kernel lays them out.
fn device(tree: &Tree, bdf: &str, driver: &str, id: &str, card: &str, render: &str) {
    let at = format!("sys/devices/pci0000:00/{bdf}");
    let uevent = format!("DRIVER={driver}\nPCI_CLASS=30000\nPCI_ID=8086:{id}\nPCI_SLOT_NAME={bdf}\n");
    tree.file(&format!("{at}/uevent"), &uevent)
        .file(&format!("{at}/vendor"), "0x8086\n")
        .file(&format!("{at}/device"), &format!("0x{}\n", id.to_lowercase()))
        .file(&format!("{at}/power/runtime_status"), "active\n")
        .file(&format!("{at}/power/control"), "on\n");
    for (node, number) in [(card, "226:0"), (render, "226:128")] {
        tree.file(&format!("{at}/drm/{node}/dev"), &format!("{number}\n"))
            .link(&format!("{at}/drm/{node}/device"), "../..")
            .link(&format!("sys/class/drm/{node}"), tree.path(&format!("{at}/drm/{node}")));
    }
}

fn i915(tree: &Tree, bdf: &str, card: &str, render: &str) {
    device(tree, bdf, "i915", "46A6", card, render);
    let gt = format!("sys/devices/pci0000:00/{bdf}/drm/{card}/gt/gt0");
    for (name, text) in [
        ("rps_act_freq_mhz", "1150\n"),
        ("rps_cur_freq_mhz", "1300\n"),
        ("rps_min_freq_mhz", "100\n"),
        ("rps_max_freq_mhz", "1400\n"),
        ("rc6_residency_ms", "123456\n"),
        ("throttle_reason_status", "1\n"),
        ("throttle_reason_pl1", "1\n"),
        ("throttle_reason_thermal", "0\n"),
    ] {
        tree.file(&format!("{gt}/{name}"), text);
    }
    for (name, class, instance) in [("rcs0", 0, 0), ("vcs0", 2, 0), ("vcs1", 2, 1)] {
        let engine = format!("sys/devices/pci0000:00/{bdf}/drm/{card}/engine/{name}");
        tree.file(&format!("{engine}/name"), &format!("{name}\n"));
        tree.file(&format!("{engine}/class"), &format!("{class}\n"));
        tree.file(&format!("{engine}/instance"), &format!("{instance}\n"));
    }
}

fn at(tree: &Tree) -> Builder {
    IntelGpu::builder().root(tree.root())
}

#[test]
fn a_machine_without_an_intel_gpu_is_no_device() {
    let tree = Tree::new();
    assert!(matches!(at(&tree).detect(), Err(Error::NoDevice)));
    assert!(matches!(at(&tree).open("0000:00:02.0"), Err(Error::NoDevice)));
    assert!(at(&tree).list_gpus().unwrap().is_empty());

    device(&tree, "0000:03:00.0", "amdgpu", "73BF", "card0", "renderD128");
    assert!(matches!(at(&tree).detect(), Err(Error::NoDevice)));
}

#[test]
fn detect_prefers_a_physical_function_though_the_virtual_one_comes_first() {
    let tree = Tree::new();
    device(&tree, "0000:00:01.0", "i915", "46A6", "card0", "renderD128");
    tree.link("sys/devices/pci0000:00/0000:00:01.0/physfn", "../0000:00:02.0");
    i915(&tree, "0000:00:02.0", "card1", "renderD129");
    let gpu = at(&tree).detect().unwrap();
    assert_eq!(gpu.info().id, "0000:00:02.0");
    assert!(!gpu.info().virtual_function);
    let all = at(&tree).list_gpus().unwrap();
    assert_eq!(all.iter().map(|g| g.id.as_str()).collect::<Vec<_>>(), ["0000:00:02.0", "0000:00:01.0"]);
    assert!(all[1].virtual_function);
}

#[test]
fn open_takes_every_name_of_a_gpu() {
    let tree = Tree::new();
    i915(&tree, "0000:00:02.0", "card1", "renderD129");
    let sysfs = tree.path("sys/class/drm/card1");
    let device = tree.path("sys/class/drm/card1/device");
    for name in [
        "0000:00:02.0",
        "00:02.0",
        "/dev/dri/card1",
        "/dev/dri/renderD129",
        "card1",
        sysfs.to_str().unwrap(),
        device.to_str().unwrap(),
    ] {
        assert_eq!(at(&tree).open(name).unwrap().info().id, "0000:00:02.0", "{name}");
    }
    match at(&tree).open("/dev/dri/card7") {
        Err(e @ Error::NotFound { .. }) => assert!(e.to_string().contains("0000:00:02.0"), "{e}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn gauges_equal_their_files_and_what_is_missing_says_why() {
    let tree = Tree::new();
    i915(&tree, "0000:00:02.0", "card1", "renderD129");
    let gpu = at(&tree).detect().unwrap();
    let first = gpu.read_stats().unwrap();
    assert_eq!(first.interval_seconds, None);
    assert_eq!(first.frequency.actual_mhz, Some(1150.0));
    assert_eq!(first.frequency.requested_mhz, Some(1300.0));
    assert_eq!((first.frequency.min_mhz, first.frequency.max_mhz), (Some(100.0), Some(1400.0)));
    assert_eq!(first.gts[0].throttle.as_deref(), Some(&["pl1"][..]));
    assert_eq!(first.rc6, None);
    assert_eq!(first.why("gts[0].rc6").unwrap().reason, Reason::FirstSample);
    assert_eq!(first.runtime_status, Some("active"));

    // A captured tree has no running counters: no rate, and no zero.
    let second = gpu.read_stats().unwrap();
    assert!(second.interval_seconds.is_some());
    assert_eq!(second.why("gts[0].rc6").unwrap().reason, Reason::NotCounting);
    let names: Vec<_> = second.engines.video_instances().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["vcs0", "vcs1"]);
    assert!(second.engines.instances.iter().all(|e| e.utilization.is_none()));
    assert!(second.engines.video.is_none());
    assert!(second.why("engines.video").is_some());
    assert!(second.why("engines.instances[vcs0].busy_percent").is_some());
    assert!(second.power.is_none());
    assert!(second.why("power").is_some());
    // The fields that stand for the first GT and for a class answer too.
    assert_eq!(second.why("rc6").unwrap().reason, Reason::NotCounting);
    assert!(second.why("engines.video.wait_percent").is_some());
    assert!(second.why("frequency.actual_mhz").is_none(), "known: {:?}", second.frequency);
    assert!(second.system_memory_bandwidth.is_none());
    for u in &second.unavailable {
        assert!(!u.detail.is_empty(), "{u}");
    }
}

#[test]
fn sampling_hands_over_stats_and_stops_with_its_handle() {
    let tree = Tree::new();
    i915(&tree, "0000:00:02.0", "card1", "renderD129");
    let gpu = at(&tree).detect().unwrap();
    let (tx, rx) = mpsc::channel();
    let handle = gpu.start_sampling(Duration::from_millis(2), move |stats| drop(tx.send(stats))).unwrap();
    let first = rx.recv().unwrap();
    let second = rx.recv().unwrap();
    assert!(second.monotonic_ns > first.monotonic_ns);
    assert!(second.timestamp > first.timestamp);
    let report = handle.stop();
    assert!(report.ticks >= 2);
    assert_eq!(report.panic, None);
    while rx.try_recv().is_ok() {}
    assert_eq!(rx.try_recv().unwrap_err(), mpsc::TryRecvError::Disconnected);
    assert!(matches!(gpu.start_sampling(Duration::ZERO, |_| ()), Err(Error::ZeroInterval)));
}

#[test]
fn a_panicking_callback_is_reported_and_the_gpu_still_reads() {
    let tree = Tree::new();
    i915(&tree, "0000:00:02.0", "card1", "renderD129");
    let gpu = at(&tree).detect().unwrap();
    let handle = gpu.start_sampling(Duration::from_millis(1), |_| panic!("mixer bug")).unwrap();
    while handle.is_running() {
        std::thread::yield_now();
    }
    assert_eq!(handle.report().panic.as_deref(), Some("mixer bug"));
    drop(handle);
    assert_eq!(gpu.read_stats().unwrap().frequency.actual_mhz, Some(1150.0));
}

#[cfg(feature = "serde")]
#[test]
fn stats_serialise() {
    let tree = Tree::new();
    i915(&tree, "0000:00:02.0", "card1", "renderD129");
    let stats = at(&tree).detect().unwrap().read_stats().unwrap();
    let json = serde_json::to_value(&stats).unwrap();
    assert_eq!(json["frequency"]["actual_mhz"], 1150.0);
    assert!(json["engines"]["video"].is_null());
    assert!(json["unavailable"].as_array().unwrap().iter().any(|u| u["metric"] == "engines.video"));
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn stream_yields_samples() {
    let tree = Tree::new();
    i915(&tree, "0000:00:02.0", "card1", "renderD129");
    let gpu = at(&tree).detect().unwrap();
    let mut stream = gpu.stream(Duration::from_millis(2)).unwrap();
    let first = stream.next().await.unwrap();
    let second = stream.next().await.unwrap();
    assert!(second.monotonic_ns > first.monotonic_ns);
    assert!(stream.handle().is_running());
}
