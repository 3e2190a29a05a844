//! Captured trees of real machines, from the folder that `GPUSCOPE_FIXTURES` names: every value equals the file it comes from, as
//! this test reads it.

use super::Access;
use crate::Options;
use crate::testing::Tree;
use gpuscope_model::{Clock, DeviceSample, Reading, ThrottleReason};
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

#[test]
fn amd_cards_give_sensors_and_say_the_rest_comes_later() {
    for machine in ["amd/rx6900xt", "amd/vangogh"] {
        let Some(machine) = capture(machine) else { return };
        let card = machine.join("card0");
        let tree = tree_of(&card);
        let (device, sample) = sample_of(&tree);
        assert_eq!(device.info().driver, "amdgpu");
        assert!(sample.engines.why().unwrap().detail.contains("later version"));
        let folder = card.join("device/hwmon");
        let hwmon = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
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
}
