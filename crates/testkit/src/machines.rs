//! Whole machines, composed from the kernel functions that print their files (read in Linux 7.2).
//!
//! | files | printed by |
//! |---|---|
//! | `uevent`, `vendor`, `device` | `pci_uevent` (drivers/pci/pci-driver.c), `pci_config_attr` (drivers/pci/pci-sysfs.c) |
//! | `power/runtime_status`, `power/control` | `runtime_status_show`, `control_show` (drivers/base/power/sysfs.c) |
//! | `card*/dev` | `dev_show` (drivers/base/core.c) |
//! | `gt/gt*/rps_*`, `rc6_residency_ms`, `throttle_reason_*` | drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c |
//! | `engine/*/{name,class,instance}` | drivers/gpu/drm/i915/gt/sysfs_engines.c |
//! | the PMU `i915` | `create_event_attributes` (drivers/gpu/drm/i915/i915_pmu.c) |
//! | `tile*/gt*/freq0` | drivers/gpu/drm/xe/xe_gt_freq.c |
//! | `tile*/gt*/gtidle` | drivers/gpu/drm/xe/xe_gt_idle.c |
//! | `freq0/throttle` | drivers/gpu/drm/xe/xe_gt_throttle.c |
//! | the PMU `xe_*` | drivers/gpu/drm/xe/xe_pmu.c |
//! | `hwmon*` | drivers/hwmon/hwmon.c; the channels: i915_hwmon.c, xe_hwmon.c |
//! | `proc/self/status` | `proc_pid_status` (fs/proc/array.c) |

use crate::Tree;

/// What every machine has: an ordinary user on Linux 7.2 with mainline's default of perf_event_paranoid.
fn base(tree: &Tree) {
    tree.file("proc/sys/kernel/osrelease", "7.2.13\n")
        .file("proc/sys/kernel/perf_event_paranoid", "2\n")
        .file(
            "proc/self/status",
            "Name:\tgpuscope\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n\
             NoNewPrivs:\t0\nSeccomp:\t0\n",
        )
        .file("proc/self/uid_map", "         0          0 4294967295\n");
}

/// A PCI GPU as sysfs lays it out: the device under `devices`, its nodes below it, links from the class folder. Gives the device's
/// folder.
fn pci_gpu(tree: &Tree, bridge: &str, address: &str, driver: &str, number: &str, card: u32) -> String {
    let device = format!("sys/devices/pci0000:00/{bridge}{address}");
    let up = "../".repeat(device.matches('/').count());
    tree.files(
        &device,
        &[
            (
                "uevent",
                &format!(
                    "DRIVER={driver}\nPCI_CLASS=30000\nPCI_ID=8086:{}\nPCI_SUBSYS_ID=8086:0000\nPCI_SLOT_NAME={address}\n",
                    number.to_uppercase()
                ),
            ),
            ("vendor", "0x8086\n"),
            ("device", &format!("0x{number}\n")),
            ("power/runtime_status", "active\n"),
            ("power/control", "auto\n"),
        ],
    )
    .link(&format!("{device}/driver"), format!("{up}bus/pci/drivers/{driver}"));
    for (node, minor) in [(format!("card{card}"), card), (format!("renderD{}", 128 + card), 128 + card)] {
        tree.file(&format!("{device}/drm/{node}/dev"), &format!("226:{minor}\n"))
            .link(&format!("{device}/drm/{node}/device"), format!("../../../{address}"))
            .link(&format!("sys/class/drm/{node}"), format!("../../{}/drm/{node}", device.trim_start_matches("sys/")));
    }
    device
}

/// Engines by name, class and instance, the classes numbered as in `enum drm_i915_gem_engine_class`.
type Engines<'a> = &'a [(&'a str, u32, u32)];

fn i915_gt(tree: &Tree, card: &str, engines: Engines<'_>, mhz: [u32; 4], throttle: &str) {
    let [actual, requested, min, max] = mhz.map(|v| format!("{v}\n"));
    let gt = format!("{card}/gt/gt0");
    tree.files(
        &gt,
        &[
            ("id", "0\n"),
            ("rps_act_freq_mhz", &actual),
            ("rps_cur_freq_mhz", &requested),
            ("rps_min_freq_mhz", &min),
            ("rps_max_freq_mhz", &max),
            ("rc6_enable", "1\n"),
            ("rc6_residency_ms", "123456\n"),
        ],
    );
    for reason in ["status", "pl1", "pl2", "pl4", "thermal", "prochot", "ratl", "vr_thermalert", "vr_tdc"] {
        let set = reason == throttle || (reason == "status" && !throttle.is_empty());
        tree.file(&format!("{gt}/throttle_reason_{reason}"), if set { "1\n" } else { "0\n" });
    }
    for (name, class, instance) in engines {
        tree.files(
            &format!("{card}/engine/{name}"),
            &[("name", &format!("{name}\n")), ("class", &format!("{class}\n")), ("instance", &format!("{instance}\n"))],
        );
    }
}

fn i915_pmu(tree: &Tree, pmu: &str, engines: Engines<'_>) {
    let folder = format!("sys/bus/event_source/devices/{pmu}");
    tree.files(&folder, &[("type", "24\n"), ("cpumask", "0\n"), ("format/i915_eventid", "config:0-20\n")]);
    let event = |name: &str, config: u64, unit: &str| {
        tree.file(&format!("{folder}/events/{name}"), &format!("config=0x{config:x}\n"));
        if !unit.is_empty() {
            tree.file(&format!("{folder}/events/{name}.unit"), &format!("{unit}\n"));
        }
    };
    // __I915_PMU_OTHER (include/uapi/drm/i915_drm.h): one past the last engine event.
    const OTHER: u64 = 0x10_0000;
    event("actual-frequency", OTHER, "M");
    event("requested-frequency", OTHER + 1, "M");
    event("interrupts", OTHER + 2, "");
    event("rc6-residency", OTHER + 3, "ns");
    event("software-gt-awake-time", OTHER + 4, "ns");
    for (name, class, instance) in engines {
        // __I915_PMU_ENGINE: class << 12 | instance << 4 | sample
        let config = u64::from(*class) << 12 | u64::from(*instance) << 4;
        event(&format!("{name}-busy"), config, "ns");
        event(&format!("{name}-wait"), config | 1, "ns");
        event(&format!("{name}-sema"), config | 2, "ns");
    }
}

/// An Alder Lake-P laptop: one integrated GPU on i915.
pub fn i915_integrated() -> Tree {
    let tree = Tree::new();
    base(&tree);
    add_i915_integrated(&tree);
    tree
}

/// Adds the GPU of [`i915_integrated`] to a machine.
pub fn add_i915_integrated(tree: &Tree) {
    let engines: Engines<'_> = &[("rcs0", 0, 0), ("bcs0", 1, 0), ("vcs0", 2, 0), ("vcs1", 2, 1), ("vecs0", 3, 0)];
    i915_pmu(tree, "i915", engines);
    let device = pci_gpu(tree, "", "0000:00:02.0", "i915", "46a6", 0);
    i915_gt(tree, &format!("{device}/drm/card0"), engines, [0, 300, 100, 1400], "");
}

/// A workstation with an Arc A380 on i915: hwmon with energy, temperature and fan, throttled by PL1.
pub fn i915_discrete() -> Tree {
    let tree = Tree::new();
    base(&tree);
    let engines: Engines<'_> = &[
        ("rcs0", 0, 0),
        ("bcs0", 1, 0),
        ("vcs0", 2, 0),
        ("vcs1", 2, 1),
        ("vecs0", 3, 0),
        ("vecs1", 3, 1),
        ("ccs0", 4, 0),
    ];
    let device = pci_gpu(&tree, "0000:00:01.0/", "0000:03:00.0", "i915", "56a5", 1);
    i915_gt(&tree, &format!("{device}/drm/card1"), engines, [2250, 2450, 300, 2450], "pl1");
    i915_pmu(&tree, "i915_0000_03_00.0", engines);
    tree.files(
        &format!("{device}/hwmon/hwmon3"),
        &[
            ("name", "i915\n"),
            ("energy1_input", "25637161804\n"),
            ("temp1_input", "55000\n"),
            ("fan1_input", "1160\n"),
            ("in0_input", "603\n"),
            ("power1_max", "55000000\n"),
        ],
    );
    tree
}

struct XeGt {
    name: &'static str,
    classes: &'static [&'static str],
    /// `act_freq`, `cur_freq`, `min_freq`, `max_freq`.
    freq: [&'static str; 4],
    idle: &'static str,
    residency: &'static str,
    /// The reason set, or nothing.
    throttle: &'static str,
}

/// A Lunar Lake laptop: one integrated GPU on xe, with a main GT and a media GT.
pub fn xe_two_gts() -> Tree {
    let tree = Tree::new();
    base(&tree);
    let device = pci_gpu(&tree, "", "0000:00:02.0", "xe", "64a0", 0);
    let gts = [
        XeGt {
            name: "gt0",
            classes: &["rcs", "bcs", "ccs"],
            freq: ["1950\n", "1950\n", "400\n", "1950\n"],
            idle: "gt0-rc\n",
            residency: "98765\n",
            throttle: "thermal",
        },
        XeGt {
            name: "gt1",
            classes: &["vcs", "vecs"],
            freq: ["0\n", "400\n", "400\n", "1500\n"],
            idle: "gt1-mc\n",
            residency: "123456\n",
            throttle: "",
        },
    ];
    for XeGt { name, classes, freq: [actual, requested, min, max], idle, residency, throttle } in gts {
        let gt = format!("{device}/tile0/{name}");
        tree.files(
            &format!("{gt}/freq0"),
            &[
                ("act_freq", actual),
                ("cur_freq", requested),
                ("min_freq", min),
                ("max_freq", max),
                ("rp0_freq", max),
                ("rpn_freq", min),
            ],
        )
        .files(
            &format!("{gt}/gtidle"),
            &[("name", idle), ("idle_status", "gt-c0\n"), ("idle_residency_ms", residency)],
        );
        for reason in ["status", "reason_pl1", "reason_pl2", "reason_pl4", "reason_thermal", "reason_prochot"] {
            let set = !throttle.is_empty() && (reason == "status" || reason.ends_with(throttle));
            tree.file(&format!("{gt}/freq0/throttle/{reason}"), if set { "1\n" } else { "0\n" });
        }
        for class in classes {
            tree.file(&format!("{gt}/engines/{class}/job_timeout_ms"), "5000\n");
        }
    }
    let pmu = "sys/bus/event_source/devices/xe_0000_00_02.0";
    tree.files(
        pmu,
        &[
            ("type", "25\n"),
            ("cpumask", "0\n"),
            ("format/event", "config:0-11\n"),
            ("format/engine_instance", "config:12-19\n"),
            ("format/engine_class", "config:20-27\n"),
            ("format/function", "config:44-59\n"),
            ("format/gt", "config:60-63\n"),
            ("events/gt-c6-residency", "event=0x01\n"),
            ("events/gt-c6-residency.unit", "ms\n"),
            ("events/engine-active-ticks", "event=0x02\n"),
            ("events/engine-total-ticks", "event=0x03\n"),
        ],
    );
    tree
}

/// A machine without a GPU.
pub fn no_gpu() -> Tree {
    let tree = Tree::new();
    base(&tree);
    tree.folder("sys/class/drm").folder("dev");
    tree
}
