//! Captured trees of real machines, from the folder that `GPUSCOPE_FIXTURES` names: every value equals the file it comes from, as
//! this test reads it.

use super::Access;
use crate::Options;
use crate::testing::Tree;
use gpuscope_model::delta::Baseline;
use gpuscope_model::{Clock, DeviceSample, DeviceSnapshot, Reading, Reason, Sample, Snapshot, ThrottleReason};
use std::path::{Path, PathBuf};

fn capture(path: &str) -> Option<PathBuf> {
    let Some(fixtures) = std::env::var_os("GPUSCOPE_FIXTURES") else {
        eprintln!("SKIPPED: GPUSCOPE_FIXTURES is not set: the captured tree {path} was NOT checked");
        return None;
    };
    let path = Path::new(&fixtures).join("sysfs").join(path);
    assert!(path.is_dir(), "GPUSCOPE_FIXTURES has no {}", path.display());
    Some(path)
}

/// Text of a file; some captures were copied page by page and are padded with NULs.
fn text(path: PathBuf) -> String {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim_end_matches('\0').trim().to_string()
}

/// A tree whose class folder shows the captured card.
fn tree_of(card: &Path) -> Tree {
    let tree = Tree::new();
    let name = card.file_name().unwrap().to_str().unwrap();
    tree.link(&format!("sys/class/drm/{name}"), card);
    tree
}

fn number(path: PathBuf) -> f64 {
    text(path).parse().unwrap()
}

fn sample_of(tree: &Tree) -> (Box<dyn super::Device>, DeviceSample) {
    let mut device = tree.open(&Options::default());
    device.power().unwrap();
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    (device, sample)
}

fn now(clock: &Reading<Clock>) -> f64 {
    match clock {
        Reading::Value(Clock::Now(hz)) => *hz,
        other => panic!("{other:?}"),
    }
}

fn reasons_of(folder: &Path, prefix: &str) -> Vec<&'static str> {
    let on = |r: &ThrottleReason| {
        let path = folder.join(format!("{prefix}{}", r.as_str()));
        path.exists() && text(path) == "1"
    };
    ThrottleReason::ALL.iter().filter(|r| on(r)).map(|r| r.as_str()).collect()
}

#[test]
fn arc_a380_with_i915() {
    let Some(machine) = capture("intel/a380-i915") else { return };
    let card = machine.join("card1");
    let tree = tree_of(&card);
    let (device, sample) = sample_of(&tree);
    let info = device.info();
    assert_eq!((info.id.as_str(), info.driver.as_str()), ("0000:0b:00.0", "i915"));
    assert_eq!(info.name, "Intel Arc A380 (Alchemist)");
    assert_eq!(info.integrated, Reading::Value(false));
    assert_eq!(sample.gts.len(), 1);
    let gt = card.join("gt/gt0");
    let mhz = |name: &str| number(gt.join(name)) * 1e6;
    assert_eq!(now(&sample.gts[0].actual), mhz("rps_act_freq_mhz"));
    assert_eq!(now(&sample.gts[0].requested), mhz("rps_cur_freq_mhz"));
    assert_eq!(sample.gts[0].min_hz, Reading::Value(mhz("rps_min_freq_mhz")));
    assert_eq!(sample.gts[0].max_hz, Reading::Value(mhz("rps_max_freq_mhz")));
    assert_eq!(sample.gts[0].idle_ns.get().unwrap().value as f64, number(gt.join("rc6_residency_ms")) * 1e6);
    let reasons: Vec<_> = sample.gts[0].throttle.get().unwrap().iter().map(|r| r.as_str()).collect();
    assert_eq!(reasons, reasons_of(&gt, "throttle_reason_"));
    let hwmon = card.join("device/hwmon/hwmon1");
    assert_eq!(sample.power.package_uj.get().unwrap().value as f64, number(hwmon.join("energy1_input")));
    let temperatures = sample.temperatures.value().unwrap();
    assert_eq!(temperatures.len(), 1);
    assert_eq!(temperatures[0].celsius, Reading::Value(number(hwmon.join("temp1_input")) / 1000.0));
    let fans = sample.fans.value().unwrap();
    assert_eq!(fans.len(), 1);
    assert_eq!(fans[0].rpm, Reading::Value(number(hwmon.join("fan1_input"))));
    // The limit in power1_max is not the power.
    assert!(sample.power.gpu_uj.why().is_some() && sample.power.card_uj.why().is_some());
    assert!(sample.engines.why().is_some() && device.fdinfo().needed);
}

#[test]
fn tiger_lake_with_xe() {
    let Some(machine) = capture("intel/tigerlake") else { return };
    let card = machine.join("card0");
    let tree = tree_of(&card);
    let (device, sample) = sample_of(&tree);
    let info = device.info();
    assert_eq!((info.id.as_str(), info.driver.as_str()), ("0000:00:02.0", "xe"));
    assert_eq!(info.integrated, Reading::Value(true));
    let classes: Vec<&str> = info.engines.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(classes, ["rcs", "bcs", "vcs", "vecs"]);
    assert_eq!(sample.gts.len(), 1);
    let gt = card.join("device/tile0/gt0");
    let mhz = |name: &str| number(gt.join("freq0").join(name)) * 1e6;
    assert_eq!(now(&sample.gts[0].actual), mhz("act_freq"));
    assert_eq!(now(&sample.gts[0].requested), mhz("cur_freq"));
    assert_eq!(sample.gts[0].min_hz, Reading::Value(mhz("min_freq")));
    assert_eq!(sample.gts[0].max_hz, Reading::Value(mhz("max_freq")));
    assert_eq!(sample.gts[0].idle_ns.get().unwrap().value as f64, number(gt.join("gtidle/idle_residency_ms")) * 1e6);
    let reasons: Vec<_> = sample.gts[0].throttle.get().unwrap().iter().map(|r| r.as_str()).collect();
    assert_eq!(reasons, reasons_of(&gt.join("freq0/throttle"), "reason_"));
    assert!(sample.temperatures.why().is_some() && sample.fans.why().is_some() && sample.power.card_uj.why().is_some());
}

/// Temperatures and fans of an AMD device, which stand in the order of their channels.
fn amd_sensors(hwmon: &Path, sample: &DeviceSample) {
    let temperatures = sample.temperatures.value().unwrap();
    assert!(!temperatures.is_empty());
    for (channel, temperature) in temperatures.iter().enumerate() {
        let stem = format!("temp{}", channel + 1);
        assert_eq!(temperature.label.as_str(), text(hwmon.join(format!("{stem}_label"))));
        let celsius = number(hwmon.join(format!("{stem}_input"))) / 1000.0;
        assert_eq!(temperature.celsius, Reading::Value(celsius));
    }
    for (channel, fan) in sample.fans.value().unwrap_or(&Vec::new()).iter().enumerate() {
        assert_eq!(fan.rpm, Reading::Value(number(hwmon.join(format!("fan{}_input", channel + 1)))));
    }
}

/// Two samples a moment apart: what is told at the moment is summed up over the time between them.
fn snapshot_of(device: &mut dyn super::Device, sample: DeviceSample) -> DeviceSnapshot {
    let mut baseline = Baseline::new();
    let mut snapshot = Snapshot::default();
    let mut sample = Sample { gpus: vec![sample], ..Sample::default() };
    baseline.step(&sample, &mut snapshot);
    std::thread::sleep(std::time::Duration::from_millis(20));
    device.sample(&Access::Allowed, &mut sample.gpus[0]);
    sample.at_ns = 20_000_000;
    baseline.step(&sample, &mut snapshot);
    snapshot.gpus.remove(0)
}

fn near(reading: &Reading<f64>, expected: f64) {
    let value = reading.get().unwrap();
    assert!((value - expected).abs() < 1e-3 * expected.max(1.0), "{value} is not {expected}");
}

#[test]
fn rx_6900_xt() {
    let Some(machine) = capture("amd/rx6900xt") else { return };
    let card = machine.join("card0");
    let tree = tree_of(&card);
    let (mut device, sample) = sample_of(&tree);
    let info = device.info();
    assert_eq!((info.id.as_str(), info.driver.as_str()), ("0000:0c:00.0", "amdgpu"));
    assert_eq!(info.integrated, Reading::Value(false));
    let folder = card.join("device");
    let hwmon = folder.join("hwmon/hwmon5");
    amd_sensors(&hwmon, &sample);
    let memory = sample.memory.value().unwrap();
    assert_eq!(memory.len(), 3);
    for (region, file) in memory.iter().zip(["vram", "vis_vram", "gtt"]) {
        let bytes = |what: &str| number(folder.join(format!("mem_info_{file}_{what}"))) as u64;
        assert_eq!(region.total_bytes, Reading::Value(bytes("total")), "{file}");
        assert_eq!(region.used_bytes, Reading::Value(bytes("used")), "{file}");
    }
    assert_eq!(now(&sample.gts[0].actual), number(hwmon.join("freq1_input")));
    // pp_dpm_sclk: "0: 500Mhz *", "1: 2660Mhz"; pp_dpm_vclk has two levels of 0 MHz.
    assert_eq!((sample.gts[0].min_hz.get(), sample.gts[0].max_hz.get()), (Some(5e8), Some(2.66e9)));
    assert_eq!(now(&sample.gts[1].actual), 0.0);
    assert!(sample.gts[1].max_hz.why().is_some());
    // indep_throttle_status is 0.
    assert!(sample.gts[0].throttle.get().unwrap().is_empty());
    let table = std::fs::read(folder.join("gpu_metrics")).unwrap();
    let table = super::amdgpu::metrics::parse_gpu_metrics(&table).unwrap();
    assert_eq!(table.structure(), "gpu_metrics_v1_3");
    for (name, file, scale) in [
        ("temperature_edge", "temp1_input", 1000.0),
        ("temperature_hotspot", "temp2_input", 1000.0),
        ("temperature_mem", "temp3_input", 1000.0),
        ("average_socket_power", "power1_average", 1e6),
        ("current_fan_speed", "fan1_input", 1.0),
        ("current_uclk", "freq2_input", 1.0),
    ] {
        assert_eq!(table.value(name), Some(number(hwmon.join(file)) / scale), "{name}");
    }
    assert_eq!(table.value("average_gfx_activity"), Some(number(folder.join("gpu_busy_percent")) / 100.0));
    assert_eq!(table.value("pcie_link_width"), Some(number(folder.join("current_link_width"))));
    let snapshot = snapshot_of(device.as_mut(), sample);
    near(&snapshot.power.card_watts, number(hwmon.join("power1_average")) / 1e6);
    assert!(snapshot.power.package_watts.why().is_some());
    let engines = snapshot.engines.value().unwrap();
    assert_eq!((engines[0].name.as_str(), engines[1].name.as_str()), ("gpu", "mem"));
    near(&engines[0].busy_ratio, number(folder.join("gpu_busy_percent")) / 100.0);
    // Nothing to count in a capture.
    assert!(engines[1].busy_ratio.why().is_some());
}

#[test]
fn steam_deck() {
    let Some(machine) = capture("amd/vangogh") else { return };
    let card = machine.join("card0");
    let tree = tree_of(&card);
    tree.link("sys/class/kfd/kfd", machine.join("kfd"));
    let (mut device, sample) = sample_of(&tree);
    let info = device.info();
    assert_eq!((info.id.as_str(), info.driver.as_str()), ("0000:04:00.0", "amdgpu"));
    assert_eq!(info.integrated, Reading::Value(true));
    let hwmon = card.join("device/hwmon/hwmon4");
    amd_sensors(&hwmon, &sample);
    assert!(sample.memory.why().is_some() && sample.fans.why().is_some());
    assert_eq!(now(&sample.gts[0].actual), number(hwmon.join("freq1_input")));
    assert_eq!((sample.gts[0].min_hz.get(), sample.gts[0].max_hz.get()), (Some(2e8), Some(1.6e9)));
    assert_eq!(sample.gts.len(), 1);
    // The capture has no gpu_metrics.
    assert_eq!(sample.gts[0].throttle.why().unwrap().reason, Reason::NotSupported);
    let reports = device.reports();
    let kfd = reports.iter().find(|r| r.source.as_str() == "KFD processes").unwrap();
    assert!(kfd.detail.starts_with("0 processes"), "{}", kfd.detail);
    let snapshot = snapshot_of(device.as_mut(), sample);
    near(&snapshot.power.package_watts, number(hwmon.join("power1_average")) / 1e6);
    assert_eq!(snapshot.power.card_watts.why().unwrap().reason, Reason::NoHardware);
}
