//! Texts as drivers/gpu/drm/amd/pm/amdgpu_pm.c, amdgpu_vram_mgr.c and amdgpu_gtt_mgr.c of drivers/gpu/drm/amd/amdgpu print them.

use super::*;
use crate::Options;
use crate::testing::Tree;
use gpuscope_model::delta::Baseline;
use gpuscope_model::{ClientKey, Clock, EngineClass, Sample, Snapshot, ThrottleReason};
use gpuscope_sys::Error;

/// `gpu_metrics_v1_3` with nothing but `indep_throttle_status` (offset 112).
fn table(throttle: u64) -> Vec<u8> {
    let mut bytes = vec![0xff; 120];
    bytes[..4].copy_from_slice(&[120, 0, 1, 3]);
    bytes[112..].copy_from_slice(&throttle.to_le_bytes());
    bytes
}

/// A card of the RDNA 2 generation.
fn card() -> (Tree, String) {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:03:00.0", "amdgpu", ("1002", "73BF"), 0);
    tree.files(
        &device,
        &[
            ("gpu_busy_percent", "42\n"),
            ("mem_busy_percent", "7\n"),
            ("vcn_busy_percent", "100\n"),
            ("pp_dpm_sclk", "S: 19Mhz *\n0: 500Mhz \n1: 2660Mhz \n"),
            ("pp_dpm_vclk", "0: 480Mhz *\n1: 1290Mhz \n"),
            ("mem_info_vram_total", "17163091968\n"),
            ("mem_info_vram_used", "668274688\n"),
            ("mem_info_vis_vram_total", "268435456\n"),
            ("mem_info_vis_vram_used", "1048576\n"),
            ("mem_info_gtt_total", "16786171904\n"),
            ("mem_info_gtt_used", "62369792\n"),
        ],
    );
    tree.files(
        &format!("{device}/hwmon/hwmon5"),
        &[
            ("name", "amdgpu\n"),
            ("temp1_input", "56000\n"),
            ("temp1_label", "edge\n"),
            ("temp2_input", "59000\n"),
            ("temp2_label", "junction\n"),
            ("temp3_input", "54000\n"),
            ("temp3_label", "mem\n"),
            ("fan1_input", "1200\n"),
            ("power1_average", "36000000\n"),
            ("freq1_input", "19000000\n"),
            ("freq1_label", "sclk\n"),
            ("freq2_label", "mclk\n"),
        ],
    );
    std::fs::write(tree.path(&format!("{device}/gpu_metrics")), table(1 << 5 | 1 << 40)).unwrap();
    (tree, device)
}

fn sample(device: &mut dyn Device) -> DeviceSample {
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    sample
}

#[test]
fn everything_of_a_card() {
    let (tree, _) = card();
    let mut device = tree.open(&Options::default());
    let sample = sample(device.as_mut());
    assert_eq!(device.info().integrated, Reading::Value(false));
    assert!(!device.info().unavailable.iter().any(|u| u.metric == "integrated"));
    let [main, media] = sample.gts.as_slice() else { panic!() };
    assert_eq!(main.actual, Reading::Value(Clock::Now(19e6)));
    assert_eq!((main.min_hz.get(), main.max_hz.get()), (Some(5e8), Some(2.66e9)));
    let reasons: Vec<_> = main.throttle.get().unwrap().iter().collect();
    assert_eq!(reasons, [ThrottleReason::Pl2, ThrottleReason::VrThermalert]);
    assert_eq!(media.actual, Reading::Value(Clock::Now(4.8e8)));
    assert_eq!((media.min_hz.get(), media.max_hz.get()), (Some(4.8e8), Some(1.29e9)));
    assert_eq!(media.throttle.why().unwrap().reason, Reason::NotSupported);
    let memory: Vec<_> = sample
        .memory
        .value()
        .unwrap()
        .iter()
        .map(|m| (m.region.as_str(), m.used_bytes.get(), m.total_bytes.get()))
        .collect();
    let expected = [
        ("vram", Some(668_274_688), Some(17_163_091_968)),
        ("visible_vram", Some(1_048_576), Some(268_435_456)),
        ("gtt", Some(62_369_792), Some(16_786_171_904)),
    ];
    assert_eq!(memory, expected);
    let temperatures: Vec<_> =
        sample.temperatures.value().unwrap().iter().map(|t| (t.label.as_str(), t.celsius.get())).collect();
    assert_eq!(temperatures, [("edge", Some(56.0)), ("junction", Some(59.0)), ("mem", Some(54.0))]);
    assert_eq!(sample.fans.value().unwrap()[0].rpm, Reading::Value(1200.0));
    assert_eq!(device.fdinfo(), FdinfoNeed { needed: true, wakes: false, hidden: &HIDDEN_ENGINES });
    assert!(device.reports().iter().any(|r| r.detail.ends_with("a gpu_metrics_v1_3")));
}

#[test]
fn percentages_and_power_are_summed_up_over_time() {
    let (tree, _) = card();
    let mut device = tree.open(&Options::default());
    let (mut baseline, mut snapshot) = (Baseline::new(), Snapshot::default());
    let mut sample = Sample { gpus: vec![sample(device.as_mut())], ..Sample::default() };
    baseline.step(&sample, &mut snapshot);
    assert_eq!(snapshot.gpus[0].power.card_watts.why().unwrap().reason, Reason::FirstSample);
    std::thread::sleep(std::time::Duration::from_millis(20));
    device.sample(&Access::Allowed, &mut sample.gpus[0]);
    baseline.step(&sample, &mut snapshot);
    let watts = snapshot.gpus[0].power.card_watts.get().unwrap();
    assert!((watts - 36.0).abs() < 0.01, "{watts}");
    assert_eq!(snapshot.gpus[0].power.package_watts.why().unwrap().reason, Reason::NotSupported);
    let engines = snapshot.gpus[0].engines.value().unwrap();
    let expected =
        [("gpu", EngineClass::Render, 0.42), ("vcn", EngineClass::Video, 1.0), ("mem", EngineClass::Other, 0.07)];
    assert_eq!(engines.len(), expected.len());
    for (engine, (name, class, ratio)) in engines.iter().zip(expected) {
        assert_eq!((engine.name.as_str(), engine.class), (name, class));
        assert!(engine.source.ends_with("_busy_percent (sampled)"));
        assert!((engine.busy_ratio.get().unwrap() - ratio).abs() < 1e-4, "{name}");
    }
}

#[test]
fn memory_is_read_while_the_card_sleeps_and_nothing_else() {
    let (tree, _) = card();
    let mut device = tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Withheld(Why::ASLEEP), &mut sample);
    let asleep = Some(&Why::ASLEEP);
    assert!(sample.engines.value().unwrap().iter().all(|e| e.busy.why() == asleep));
    for gt in &sample.gts {
        assert_eq!((gt.actual.why(), gt.min_hz.why(), gt.max_hz.why()), (asleep, asleep, asleep));
    }
    assert_eq!(sample.gts[0].throttle.why(), asleep);
    assert_eq!(sample.power.card_uj.why(), asleep);
    assert!(sample.temperatures.value().unwrap().iter().all(|t| t.celsius.why() == asleep));
    assert!(sample.memory.value().unwrap().iter().all(|m| m.used_bytes.is_known()));
}

#[test]
fn the_time_asleep_counts_for_nothing() {
    let (tree, device_folder) = card();
    let mut device = tree.open(&Options::default());
    let mut now = sample(device.as_mut());
    device.sample(&Access::Withheld(Why::ASLEEP), &mut now);
    tree.file(&format!("{device_folder}/gpu_busy_percent"), "100\n");
    std::thread::sleep(std::time::Duration::from_millis(5));
    device.sample(&Access::Allowed, &mut now);
    let busy = now.engines.value().unwrap()[0].busy.get().unwrap();
    assert_eq!((busy.part, busy.whole), (0, 0));
    assert_eq!(now.power.card_uj.get().unwrap().value, 0);
}

#[test]
fn a_refusal_means_asleep() {
    // `amdgpu_pm_get_access_if_active` answers EPERM (1).
    let refusal = Error::reading(Path::new("gpu_busy_percent"), std::io::Error::from_raw_os_error(1));
    assert_eq!(refused(&refusal).unwrap().reason, Reason::Asleep);
    let other = Error::reading(Path::new("gpu_busy_percent"), std::io::Error::from_raw_os_error(22));
    assert_eq!(refused(&other), None);
}

#[test]
fn an_apu_has_a_package_and_no_card() {
    let tree = Tree::new();
    let device = tree.pci_gpu("0000:04:00.0", "amdgpu", ("1002", "163F"), 0);
    tree.files(
        &format!("{device}/hwmon/hwmon4"),
        &[("name", "amdgpu\n"), ("in1_label", "vddnb\n"), ("power1_input", "4057000\n")],
    );
    let mut device = tree.open(&Options::default());
    assert_eq!(device.info().integrated, Reading::Value(true));
    let sample = sample(device.as_mut());
    assert_eq!(sample.power.card_uj.why().unwrap().reason, Reason::NoHardware);
    assert!(sample.power.package_uj.is_known());
    assert!(sample.gts.is_empty() && device.info().unavailable.iter().any(|u| u.metric == "gts"));
    assert!(sample.engines.why().is_some() && sample.memory.why().is_some());
}

#[test]
fn an_average_that_the_chip_does_not_have_is_the_momentary_power() {
    let (tree, device) = card();
    // An unsupported sensor is EOPNOTSUPP when read; no number has the same effect.
    tree.file(&format!("{device}/hwmon/hwmon5/power1_average"), "synthetic\n")
        .file(&format!("{device}/hwmon/hwmon5/power1_input"), "5000000\n");
    let mut watts = PowerSensor::open(Some(&tree.path(&format!("{device}/hwmon/hwmon5"))));
    assert_eq!(watts.microwatts(), Ok(5_000_000));
    assert_eq!(PowerSensor::open(None).microwatts(), Err(NO_POWER));
}

#[test]
fn a_clock_without_sensor_is_the_marked_level() {
    let (tree, device) = card();
    let file = tree.path(&format!("{device}/pp_dpm_sclk"));
    let mut clock = ClockFiles::open(file, None);
    let mut slot = tree.open(&Options::default()).blank().gts.remove(0);
    clock.read(&mut slot);
    assert_eq!(slot.actual, Reading::Value(Clock::Now(19e6)));
    for (text, actual, min) in [
        ("0: 500Mhz \n1: 2660Mhz \n", Reason::NotSupported, Ok(5e8)),
        ("\n", Reason::NotSupported, Err(Reason::NotSupported)),
        ("0: 0Mhz \n1: 0Mhz \n", Reason::NotSupported, Err(Reason::NotCounting)),
    ] {
        tree.file(&format!("{device}/pp_dpm_sclk"), text);
        clock.read(&mut slot);
        assert_eq!(slot.actual.why().unwrap().reason, actual, "{text:?}");
        let limit = slot.min_hz.get().ok_or_else(|| slot.min_hz.why().unwrap().reason);
        assert_eq!(limit, min, "{text:?}");
    }
}

#[test]
fn a_table_of_an_unknown_version_is_named() {
    let (tree, device) = card();
    std::fs::write(tree.path(&format!("{device}/gpu_metrics")), [4, 0, 9, 9]).unwrap();
    let mut device = tree.open(&Options::default());
    let why = sample(device.as_mut()).gts[0].throttle.why().unwrap().clone();
    assert!(why.detail.contains("version 9.9"), "{why}");
}

#[test]
fn a_steady_tick_allocates_nothing() {
    let (tree, device_folder) = card();
    for broken in [false, true] {
        if broken {
            std::fs::write(tree.path(&format!("{device_folder}/gpu_metrics")), [4, 0, 9, 9]).unwrap();
        }
        let mut device = tree.open(&Options::default());
        for access in [Access::Allowed, Access::Withheld(Why::new(Reason::NotCounting, "left alone".to_string()))] {
            let mut sample = Sample { gpus: vec![device.blank()], ..Sample::default() };
            let (mut baseline, mut snapshot) = (Baseline::new(), Snapshot::default());
            let mut tick = |at_ns: u64| {
                sample.at_ns = at_ns;
                device.sample(&access, sample.gpus.first_mut().unwrap());
                baseline.step(&sample, &mut snapshot);
            };
            (1..=3).for_each(&mut tick);
            assert_eq!(allocation_counter::measure(|| tick(4)).count_total, 0, "{broken} {access:?}");
        }
    }
}

/// A line as `kfd_procfs_show` (drivers/gpu/drm/amd/amdkfd/kfd_process.c) prints it, the topology as in `node_show`
/// (kfd_topology.c); fdinfo as `amdgpu_show_fdinfo` prints it.
fn compute(tree: &Tree) {
    tree.file("sys/class/kfd/kfd/topology/nodes/1/gpu_id", "8784\n")
        .file("sys/class/kfd/kfd/topology/nodes/1/properties", "location_id 768\ndomain 0\n")
        .file("sys/class/kfd/kfd/proc/1234/vram_8784", "4096\n")
        .file("sys/class/kfd/kfd/proc/4400/vram_8784", "2097152\n");
    for pid in [1234, 4400] {
        tree.file(
            &format!("proc/{pid}/stat"),
            &format!("{pid} (python3) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"),
        );
    }
    tree.file("proc/1234/fdinfo/0", "pos:\t0\nflags:\t02\nmnt_id:\t25\nino:\t4\n").file(
        "proc/4400/fdinfo/17",
        "pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t1234\ndrm-driver:\tamdgpu\ndrm-client-id:\t31\n\
         drm-pdev:\t0000:03:00.0\npasid:\t32771\ndrm-total-vram:\t3 MiB\ndrm-shared-vram:\t0\n\
         drm-resident-vram:\t3 MiB\ndrm-purgeable-vram:\t0\n",
    );
}

#[test]
fn a_kfd_process_is_a_client_of_its_own_unless_its_drm_client_is_seen() {
    let (tree, _) = card();
    let from = || crate::list(&tree.roots()).remove(0).clients_from.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    assert_eq!(from(), ["fdinfo"]);
    compute(&tree);
    assert_eq!(from(), ["fdinfo", "kfd"]);
    let mut set = crate::GpuSet::open(tree.roots(), Options { clients: true, ..Options::default() });
    let mut sample = Sample::default();
    for _ in 0..2 {
        set.sample(&mut sample);
        let clients = &sample.clients.clients;
        let keys: Vec<_> = clients.iter().map(|c| (c.pid, c.key, c.source.as_str())).collect();
        assert_eq!(keys, [(1234, ClientKey::Process(1234), "kfd"), (4400, ClientKey::Drm(31), "fdinfo")]);
        assert_eq!(clients[0].memory[0].total_bytes, Reading::Value(4096));
        assert_eq!(clients[0].memory[0].resident_bytes.why().unwrap().reason, Reason::NotSupported);
        assert!(clients[0].engines.is_empty() && sample.clients.gaps.is_empty());
    }
}

#[test]
fn kfd_processes_are_left_out_in_an_inner_pid_namespace() {
    let (tree, _) = card();
    compute(&tree);
    tree.link("proc/self/ns/pid", "pid:[4026532999]");
    let mut set = crate::GpuSet::open(tree.roots(), Options { clients: true, ..Options::default() });
    let mut sample = Sample::default();
    set.sample(&mut sample);
    assert_eq!(sample.clients.clients.iter().map(|c| c.pid).collect::<Vec<_>>(), [4400]);
}

#[test]
fn what_a_process_uses_through_kfd_is_not_taken_for_nothing() {
    let (tree, _) = card();
    compute(&tree);
    // A client that uses no KFD, and one that does beside a little work of the ordinary kind.
    let drm = |pid: u32, id: u32, engines: &str| {
        tree.file(&format!("proc/{pid}/stat"), &format!("{pid} (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"))
            .file(
                &format!("proc/{pid}/fdinfo/17"),
                &format!(
                    "pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t1\ndrm-driver:\tamdgpu\ndrm-client-id:\t{id}\n\
                 drm-pdev:\t0000:03:00.0\n{engines}"
                ),
            );
    };
    drm(500, 40, "drm-engine-gfx:\t7 ns\ndrm-engine-compute:\t5 ns\n");
    drm(600, 41, "drm-engine-compute:\t6 ns\n");
    tree.file("sys/class/kfd/kfd/proc/600/vram_8784", "0\n");
    let options = || Options { clients: true, ..Options::default() };
    let mut sample = Sample::default();
    crate::GpuSet::open(tree.roots(), options()).sample(&mut sample);
    let engine = |sample: &Sample, pid: u32, name: &str| {
        let client = sample.clients.clients.iter().find(|c| c.pid == pid).unwrap();
        let engine = client.engines.iter().find(|e| e.name.as_str() == name).unwrap();
        engine.busy.get().map(|share| share.part).ok_or(engine.busy.why().map(|why| why.reason))
    };
    let not_counted = Err(Some(Reason::NotCounting));
    for name in ["compute", "dma"] {
        assert_eq!((engine(&sample, 4400, name), engine(&sample, 600, name)), (not_counted, not_counted), "{name}");
    }
    assert_eq!((engine(&sample, 4400, "gfx"), engine(&sample, 500, "compute")), (Ok(0), Ok(5)));
    let class = |sample: &Sample, class| {
        let classes = sample.gpus[0].classes.value().unwrap();
        classes.iter().find(|c| c.class == class).unwrap().busy.is_known()
    };
    assert!(!class(&sample, EngineClass::Compute) && class(&sample, EngineClass::Render));
    // Nobody works through /dev/kfd any more.
    std::fs::remove_dir_all(tree.path("sys/class/kfd/kfd/proc")).unwrap();
    crate::GpuSet::open(tree.roots(), options()).sample(&mut sample);
    assert_eq!((engine(&sample, 4400, "compute"), class(&sample, EngineClass::Compute)), (Ok(0), true));
    // Where numbers mean other processes, each client may be one of those.
    let (tree, _) = card();
    compute(&tree);
    tree.link("proc/self/ns/pid", "pid:[4026532999]");
    tree.file("sys/class/kfd/kfd/proc/4400/vram_8784", "x").file("sys/class/kfd/kfd/proc/77/vram_8784", "1\n");
    crate::GpuSet::open(tree.roots(), options()).sample(&mut sample);
    assert_eq!((engine(&sample, 4400, "compute"), engine(&sample, 4400, "gfx")), (not_counted, Ok(0)));
}
