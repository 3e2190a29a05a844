//! The clock of a device as devfreq governs it (drivers/devfreq/devfreq.c): panfrost, panthor, lima; msm only where
//! the DRM device is the GPU, and not the display controller before it.
//!
//! `devfreq/NAME` in the device's folder has `cur_freq`, `target_freq`, `min_freq` and `max_freq`, in hertz. None of them wakes the
//! device: `cur_freq_show` asks the driver for the rate its clock is set to, or gives the last one that was chosen. A suspended device's
//! clock is off, whatever rate it is set to. The load that a governor acts upon is in no file.

use crate::held::{Held, why_of};
use gpuscope_model::{Clock, GtInfo, GtKind, GtSample, Reading, RuntimeStatus, Why};
use gpuscope_sys::list_dir;
use std::path::Path;

const NO_IDLE: Why = Why::not_supported("devfreq does not tell the time in idle states");
const NO_THROTTLE: Why = Why::not_supported("devfreq does not tell what limits the clock");
const NONE: Why = Why::not_supported("the driver has no devfreq device, which would tell its clock");

/// The files of one device's clock, held open.
pub(crate) struct Devfreq {
    actual: Held,
    requested: Held,
    min: Held,
    max: Held,
}

impl Devfreq {
    /// The first devfreq device in the folder of a device; no driver of a GPU has two.
    pub(crate) fn open(device: &Path) -> Result<Self, Why> {
        let class = device.join("devfreq");
        let mut names = match list_dir(&class) {
            Ok(names) => names,
            Err(error) => return Err(if class.exists() { why_of(&error) } else { NONE }),
        };
        names.sort();
        let folder = class.join(names.first().ok_or(NONE)?);
        Ok(Devfreq {
            actual: Held::open(folder.join("cur_freq")),
            requested: Held::open(folder.join("target_freq")),
            min: Held::open(folder.join("min_freq")),
            max: Held::open(folder.join("max_freq")),
        })
    }

    /// What the clock belongs to: the device as a whole.
    pub(crate) fn gt() -> GtInfo {
        GtInfo { gt: 0, tile: 0, kind: GtKind::Unknown }
    }

    /// Nothing read yet.
    pub(crate) fn blank() -> GtSample {
        GtSample {
            gt: 0,
            actual: Why::FIRST_SAMPLE.into(),
            requested: Why::FIRST_SAMPLE.into(),
            min_hz: Why::FIRST_SAMPLE.into(),
            max_hz: Why::FIRST_SAMPLE.into(),
            idle_ns: NO_IDLE.into(),
            throttle: NO_THROTTLE.into(),
        }
    }

    /// Reads the clock of a device whose runtime state is `status`.
    pub(crate) fn sample(&mut self, status: &Reading<RuntimeStatus>, out: &mut GtSample) {
        let hertz = |file: &mut Held| file.number().map(|hz| hz as f64);
        out.actual = match status {
            Reading::Value(RuntimeStatus::Suspended) => Why::ASLEEP.into(),
            _ => hertz(&mut self.actual).map(Clock::Now).into(),
        };
        out.requested = hertz(&mut self.requested).map(Clock::Now).into();
        out.min_hz = hertz(&mut self.min).into();
        out.max_hz = hertz(&mut self.max).into();
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;
    use crate::{GpuSet, Options};
    use gpuscope_model::{Clock, Reading, Reason, Sample};

    const DEVICE: &str = "sys/devices/platform/fde60000.gpu";

    /// An RK3568: panfrost, whose devfreq device carries the name of its platform device (`devfreq_add_device`). Files as
    /// `cur_freq_show`, `target_freq_show`, `min_freq_show` and `max_freq_show` (drivers/devfreq/devfreq.c) print them.
    fn panfrost() -> Tree {
        let tree = Tree::new();
        tree.files(
            DEVICE,
            &[
                ("uevent", "DRIVER=panfrost\nOF_NAME=gpu\n"),
                ("power/runtime_status", "active\n"),
                ("power/control", "auto\n"),
                ("devfreq/fde60000.gpu/cur_freq", "400000000\n"),
                ("devfreq/fde60000.gpu/target_freq", "400000000\n"),
                ("devfreq/fde60000.gpu/min_freq", "200000000\n"),
                ("devfreq/fde60000.gpu/max_freq", "800000000\n"),
            ],
        )
        .folder(&format!("{DEVICE}/drm/card0"))
        .link(&format!("{DEVICE}/drm/card0/device"), "../..")
        .link("sys/class/drm/card0", "../../devices/platform/fde60000.gpu/drm/card0");
        tree
    }

    fn sample(set: &mut GpuSet) -> Sample {
        let mut sample = Sample::default();
        set.sample(&mut sample);
        sample
    }

    #[test]
    fn every_value_equals_its_file() {
        let tree = panfrost();
        let info = crate::list(&tree.roots()).remove(0);
        assert_eq!(info.gts.len(), 1);
        assert!(!info.unavailable.iter().any(|u| u.metric == "gts"));
        let mut set = GpuSet::open(tree.roots(), Options::default());
        let gts = sample(&mut set).gpus.remove(0).gts;
        assert_eq!(gts[0].actual, Reading::Value(Clock::Now(4e8)));
        assert_eq!(gts[0].requested, Reading::Value(Clock::Now(4e8)));
        assert_eq!((gts[0].min_hz.get(), gts[0].max_hz.get()), (Some(2e8), Some(8e8)));
        assert!(set.reports().iter().any(|r| r.source.as_str() == "devfreq" && r.status.as_str() == "works"));
    }

    #[test]
    fn the_rate_of_a_suspended_devices_clock_is_no_clock() {
        let tree = panfrost();
        tree.file(&format!("{DEVICE}/power/runtime_status"), "suspended\n");
        let mut set = GpuSet::open(tree.roots(), Options::default());
        let gts = sample(&mut set).gpus.remove(0).gts;
        assert_eq!(gts[0].actual.why().unwrap().reason, Reason::Asleep);
        assert!(gts[0].max_hz.is_known());
    }

    #[test]
    fn without_devfreq_there_is_no_gt_and_a_reason() {
        let tree = panfrost();
        std::fs::remove_dir_all(tree.path(&format!("{DEVICE}/devfreq"))).unwrap();
        let info = crate::list(&tree.roots()).remove(0);
        let why = &info.unavailable.iter().find(|u| u.metric == "gts").unwrap().why;
        assert!(info.gts.is_empty() && why.detail.contains("devfreq"));
        assert!(sample(&mut GpuSet::open(tree.roots(), Options::default())).gpus[0].gts.is_empty());
    }
}
