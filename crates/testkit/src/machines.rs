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
//! | `proc/*/status`, `stat`, `statm` | `proc_pid_status`, `do_task_stat`, `proc_pid_statm` (fs/proc/array.c) |
//! | `proc/*/cgroup` | `proc_cgroup_show` (kernel/cgroup/cgroup.c) |
//! | `proc/*/fdinfo/*` | `seq_show` (fs/proc/fd.c), `drm_show_fdinfo`, `drm_print_memory_stats` (drivers/gpu/drm/drm_file.c), then |
//! | | `i915_drm_client_fdinfo` (drivers/gpu/drm/i915/i915_drm_client.c) or `amdgpu_show_fdinfo` (amdgpu_fdinfo.c) |

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
    let vendor = match driver {
        "amdgpu" => "1002",
        "nvidia" => "10de",
        _ => "8086",
    };
    let device = format!("sys/devices/pci0000:00/{bridge}{address}");
    let up = "../".repeat(device.matches('/').count());
    tree.files(
        &device,
        &[
            (
                "uevent",
                &format!(
                    "DRIVER={driver}\nPCI_CLASS=30000\nPCI_ID={}:{}\nPCI_SUBSYS_ID={}:0000\nPCI_SLOT_NAME={address}\n",
                    vendor.to_uppercase(),
                    number.to_uppercase(),
                    vendor.to_uppercase()
                ),
            ),
            ("vendor", &format!("0x{vendor}\n")),
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

/// A GeForce with the proprietary driver. NVML is no part of a captured tree.
pub fn nvidia_without_nvml() -> Tree {
    let tree = Tree::new();
    base(&tree);
    pci_gpu(&tree, "0000:00:01.0/", "0000:01:00.0", "nvidia", "2684", 0);
    tree
}

/// A server with a compute card of NVIDIA's and without nvidia-drm: no DRM node, and the device linked below its driver
/// (`driver_sysfs_add`, drivers/base/dd.c).
pub fn nvidia_without_nodes() -> Tree {
    let tree = Tree::new();
    base(&tree);
    let device = "sys/devices/pci0000:00/0000:01:00.0";
    tree.files(
        device,
        &[
            ("uevent", "DRIVER=nvidia\nPCI_CLASS=30200\nPCI_ID=10DE:20B5\nPCI_SLOT_NAME=0000:01:00.0\n"),
            ("vendor", "0x10de\n"),
            ("device", "0x20b5\n"),
            ("power/runtime_status", "active\n"),
            ("power/control", "on\n"),
        ],
    )
    .folder("sys/bus/pci/drivers/nvidia")
    .link(&format!("{device}/driver"), "../../../bus/pci/drivers/nvidia")
    .link("sys/bus/pci/drivers/nvidia/0000:01:00.0", "../../../../devices/pci0000:00/0000:01:00.0");
    tree
}

/// The laptop of [`i915_integrated`] with an NPU: drivers/accel/ivpu/ivpu_sysfs.c prints its files.
pub fn npu() -> Tree {
    let tree = i915_integrated();
    let device = "sys/devices/pci0000:00/0000:00:0b.0";
    tree.files(
        device,
        &[
            ("uevent", "DRIVER=intel_vpu\nPCI_CLASS=120000\nPCI_ID=8086:7D1D\nPCI_SLOT_NAME=0000:00:0b.0\n"),
            ("vendor", "0x8086\n"),
            ("device", "0x7d1d\n"),
            ("power/runtime_status", "suspended\n"),
            ("power/control", "auto\n"),
            ("npu_busy_time_us", "2500000\n"),
            ("npu_memory_utilization", "134217728\n"),
            ("npu_current_frequency_mhz", "0\n"),
            ("npu_max_frequency_mhz", "1400\n"),
            ("accel/accel0/dev", "261:0\n"),
        ],
    )
    .link(&format!("{device}/driver"), "../../../bus/pci/drivers/intel_vpu")
    .link(&format!("{device}/accel/accel0/device"), "../../../0000:00:0b.0")
    .link("sys/class/accel/accel0", "../../devices/pci0000:00/0000:00:0b.0/accel/accel0");
    tree
}

/// A machine without a GPU.
pub fn no_gpu() -> Tree {
    let tree = Tree::new();
    base(&tree);
    tree.folder("sys/class/drm").folder("dev");
    tree
}

/// Id of the container in [`gpu_users`].
pub const CONTAINER: &str = "4f5ab06c53e1d2a37b1c9f0e8d7c6b5a49382716f5e4d3c2b1a09f8e7d6c5b4a";

struct Process {
    pid: u32,
    comm: &'static str,
    /// Words of the command line.
    words: &'static [&'static str],
    uid: u32,
    cgroup: String,
    /// Start time, in ticks.
    start: u32,
    /// User and system time, in ticks.
    ticks: [u32; 2],
    /// Pages.
    resident: u32,
}

fn process(tree: &Tree, p: &Process) {
    let Process { pid, comm, words, uid, cgroup, start, ticks: [user, system], resident } = p;
    let stat = format!(
        "{pid} ({comm}) S 1 {pid} {pid} 0 -1 4194560 1000 0 0 0 {user} {system} 0 0 20 0 4 0 {start} 1000000000 {resident} \
         18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    );
    let status = format!(
        "Name:\t{comm}\nTgid:\t{pid}\nPid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nVmRSS:\t{:8} kB\n",
        resident * 4
    );
    let mut command_line = words.join("\0");
    command_line.push('\0');
    tree.files(
        &format!("proc/{pid}"),
        &[
            ("stat", &stat),
            ("statm", &format!("244140 {resident} 300 10 0 5000 0\n")),
            ("status", &status),
            ("comm", &format!("{comm}\n")),
            ("cmdline", &command_line),
            ("cgroup", &format!("0::{cgroup}\n")),
            // A file that is no DRM node's.
            ("fdinfo/0", "pos:\t0\nflags:\t02\nmnt_id:\t25\nino:\t4\n"),
        ],
    );
}

fn fdinfo(tree: &Tree, pid: u32, fd: u32, drm: &str) {
    let text = format!("pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t1234\n{drm}");
    tree.file(&format!("proc/{pid}/fdinfo/{fd}"), &text);
}

/// The laptop of [`i915_integrated`] with an AMD card and three clients: a compositor's, which another process holds as well; that
/// of a container; one with a name on the AMD card.
pub fn gpu_users() -> Tree {
    let tree = i915_integrated();
    pci_gpu(&tree, "0000:00:01.0/", "0000:03:00.0", "amdgpu", "73bf", 1);
    tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n");
    tree.files(
        "proc/2",
        &[("stat", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0\n"), ("comm", "kthreadd\n")],
    )
    .folder("proc/2/fdinfo");
    let session = "/user.slice/user-1000.slice/session-2.scope";
    let all = [
        Process {
            pid: 2100,
            comm: "gnome-shell",
            words: &["/usr/bin/gnome-shell"],
            uid: 1000,
            cgroup: session.into(),
            start: 3000,
            ticks: [5000, 700],
            resident: 80_000,
        },
        Process {
            pid: 2150,
            comm: "Xwayland",
            words: &["/usr/bin/Xwayland", ":0", "-rootless"],
            uid: 1000,
            cgroup: session.into(),
            start: 3100,
            ticks: [400, 100],
            resident: 20_000,
        },
        Process {
            pid: 3300,
            comm: "ffmpeg",
            words: &["ffmpeg", "-hwaccel", "vaapi", "-i", "in.mkv", "out.mp4"],
            uid: 0,
            cgroup: format!("/system.slice/docker-{CONTAINER}.scope"),
            start: 90_000,
            ticks: [900, 30],
            resident: 30_000,
        },
        Process {
            pid: 4400,
            comm: "blender",
            words: &["blender", "-b", "scene.blend"],
            uid: 1000,
            cgroup: "/system.slice/render-farm.service".into(),
            start: 120_000,
            ticks: [100, 100],
            resident: 250_000,
        },
    ];
    all.iter().for_each(|p| process(&tree, p));
    let compositor = "drm-driver:\ti915\ndrm-client-id:\t7\ndrm-pdev:\t0000:00:02.0\n\
                      drm-total-system0:\t200 MiB\ndrm-shared-system0:\t64 MiB\ndrm-active-system0:\t0\n\
                      drm-resident-system0:\t180 MiB\ndrm-purgeable-system0:\t512 KiB\n\
                      drm-total-stolen-system0:\t0\ndrm-shared-stolen-system0:\t0\ndrm-active-stolen-system0:\t0\n\
                      drm-resident-stolen-system0:\t0\ndrm-purgeable-stolen-system0:\t0\n\
                      drm-engine-render:\t25662044495 ns\ndrm-engine-copy:\t0 ns\ndrm-engine-video:\t0 ns\n\
                      drm-engine-capacity-video:\t2\ndrm-engine-video-enhance:\t0 ns\n";
    // Passed on: the same open file in two processes.
    fdinfo(&tree, 2100, 9, compositor);
    fdinfo(&tree, 2150, 31, compositor);
    fdinfo(
        &tree,
        3300,
        5,
        "drm-driver:\ti915\ndrm-client-id:\t12\ndrm-pdev:\t0000:00:02.0\n\
         drm-total-system0:\t98304 KiB\ndrm-shared-system0:\t0\ndrm-active-system0:\t8 MiB\n\
         drm-resident-system0:\t98300 KiB\ndrm-purgeable-system0:\t0\n\
         drm-engine-render:\t0 ns\ndrm-engine-copy:\t0 ns\ndrm-engine-video:\t9288864723 ns\n\
         drm-engine-capacity-video:\t2\ndrm-engine-video-enhance:\t1200000 ns\n",
    );
    fdinfo(
        &tree,
        4400,
        17,
        "drm-driver:\tamdgpu\ndrm-client-id:\t31\ndrm-pdev:\t0000:03:00.0\ndrm-client-name:\trender-farm-3\n\
         pasid:\t32771\ndrm-total-cpu:\t0\ndrm-shared-cpu:\t0\ndrm-resident-cpu:\t0\ndrm-purgeable-cpu:\t0\n\
         drm-total-gtt:\t4 MiB\ndrm-shared-gtt:\t0\ndrm-resident-gtt:\t4 MiB\ndrm-purgeable-gtt:\t0\n\
         drm-total-vram:\t3 MiB\ndrm-shared-vram:\t2048 KiB\ndrm-resident-vram:\t2 MiB\ndrm-purgeable-vram:\t0\n\
         drm-memory-vram:\t2048 KiB\ndrm-memory-gtt: \t4096 KiB\ndrm-memory-cpu: \t0 KiB\n\
         amd-evicted-vram:\t0 KiB\ndrm-engine-gfx:\t56789012 ns\n",
    );
    tree
}
