//! Any driver without code of its own: identity, power state, the clock that devfreq governs, hwmon temperatures and fans.

use super::{Access, Context, Device, FdinfoNeed, Gone, PowerState};
use crate::devfreq::Devfreq;
use crate::discover::{Found, shared};
use crate::hwmon::{Hwmon, Meanings};
use crate::power_state::PowerFiles;
use gpuscope_model::{
    BandwidthSample, DeviceInfo, DeviceSample, PowerSample, Reading, Reason, RuntimeStatus, SourceReport, Text,
    Unavailable, Why,
};

struct Generic {
    info: DeviceInfo,
    live: bool,
    power: PowerFiles,
    /// As last read.
    status: Reading<RuntimeStatus>,
    devfreq: Result<Devfreq, Why>,
    hwmon: Hwmon,
    why: Why,
}

/// Drivers that print nothing into fdinfo (those without `show_fdinfo` among drivers/gpu/drm and drivers/accel of Linux 7.2). This
/// words a reason and decides nothing: what is printed is read.
const SILENT: [&str; 14] = [
    "ethosu",
    "habanalabs",
    "lima",
    "nouveau",
    "powervr",
    "qaic",
    "qxl",
    "radeon",
    "rocket",
    "vc4-drm",
    "virtio-pci",
    "virtio_gpu",
    "vkms",
    "vmwgfx",
];

/// Those that print memory there, and no use of engines (`drm_show_memory_stats` alone).
const MEMORY_ONLY: [&str; 2] = ["amdxdna", "etnaviv"];

/// Why what only a driver's own code could read is absent.
fn not_yet(driver: &str) -> Why {
    Why::new(Reason::NotSupported, format!("gpuscope has no code for the driver {driver} yet"))
}

/// Why engines are not listed: clients name them, where the driver prints any.
fn no_engines(driver: &str) -> Why {
    let detail = if SILENT.contains(&driver) {
        format!(
            "the driver {driver} prints nothing into fdinfo (as of Linux 7.2), which would tell of engines and clients"
        )
    } else if MEMORY_ONLY.contains(&driver) {
        format!("the driver {driver} prints its clients' memory into fdinfo, and no use of engines (as of Linux 7.2)")
    } else {
        format!("gpuscope has no code for the driver {driver} yet; what its clients' fdinfo tells is read")
    };
    Why::new(Reason::NotSupported, detail)
}

pub(super) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    let mut info = found.identity(context.options);
    match Devfreq::open(&found.device) {
        Ok(_) => info.gts.push(Devfreq::gt()),
        Err(why) => info.unavailable.push(Unavailable::new("gts", why)),
    }
    info.unavailable.push(Unavailable::new("pmu", not_yet(&info.driver)));
    info.unavailable.push(Unavailable::new("engines", no_engines(&info.driver)));
    if SILENT.contains(&info.driver.as_str()) {
        info.clients_from.clear();
        info.unavailable.push(Unavailable::new("clients_from", no_engines(&info.driver)));
    }
    info
}

pub(super) fn open(context: &Context<'_>, found: Found) -> Box<dyn Device> {
    let info = identify(context, &found);
    let why = not_yet(&info.driver);
    let meanings = Meanings {
        name: None,
        first_temperature: "gpu",
        refusal_is_sleep: false,
        none: Why::new(Reason::NotSupported, "the driver has no hwmon device"),
    };
    Box::new(Generic {
        live: context.roots.is_live(),
        power: PowerFiles::open(&found.device, found.minor()),
        status: info.runtime_status.clone(),
        devfreq: Devfreq::open(&found.device),
        hwmon: Hwmon::open(&found.device, meanings),
        info,
        why,
    })
}

impl Device for Generic {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn power(&mut self) -> Result<PowerState, Gone> {
        let state = self.power.read()?;
        self.status.clone_from(&state.status);
        Ok(state)
    }

    fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        if let (Ok(devfreq), Some(gt)) = (&mut self.devfreq, out.gts.first_mut()) {
            devfreq.sample(&self.status, gt);
        }
        self.hwmon.sample(access, out);
    }

    fn blank(&self) -> DeviceSample {
        let mut power = PowerSample::absent(&self.why);
        self.hwmon.blank_power(&mut power);
        DeviceSample {
            id: self.info.id.clone(),
            driver: shared(&self.info.driver),
            live: self.live,
            perturbs: false,
            runtime_status: self.info.runtime_status.clone(),
            engines: no_engines(&self.info.driver).into(),
            classes: Reading::Absent(Why::FIRST_SAMPLE),
            gts: self.devfreq.iter().map(|_| Devfreq::blank()).collect(),
            power,
            temperatures: self.hwmon.blank_temperatures(),
            fans: self.hwmon.blank_fans(),
            memory: self.why.clone().into(),
            bandwidth: BandwidthSample::absent(&self.why),
        }
    }

    fn fdinfo(&self) -> FdinfoNeed {
        // Of the drivers that print engines in fdinfo, xe alone takes a runtime PM reference for it.
        FdinfoNeed { needed: true, wakes: false, hidden: &[] }
    }

    fn holds_awake(&self) -> bool {
        false
    }

    fn reports(&self) -> Vec<SourceReport> {
        let id = Some(&self.info.id);
        let source = Text::from(format!("{} driver", self.info.driver));
        let clock = self.devfreq.as_ref().map(|_| "the clock, its target and limits, which wake nothing");
        let clock = SourceReport::of("devfreq", id, clock.map_err(Why::clone)).unlocks(&[
            "gpuscope_frequency_actual_hertz",
            "gpuscope_frequency_requested_hertz",
            "gpuscope_frequency_min_hertz",
            "gpuscope_frequency_max_hertz",
        ]);
        vec![SourceReport::absent(source, id, no_engines(&self.info.driver)), clock, self.hwmon.report(&self.info)]
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn a_driver_that_prints_nothing_into_fdinfo_tells_no_clients() {
        for (driver, from) in [("lima", &[][..]), ("panfrost", &["fdinfo"])] {
            const DEVICE: &str = "sys/devices/platform/ff400000.gpu";
            let tree = Tree::new();
            tree.files(DEVICE, &[("uevent", &format!("DRIVER={driver}\nOF_NAME=gpu\n"))])
                .folder(&format!("{DEVICE}/drm/card0"))
                .link(&format!("{DEVICE}/drm/card0/device"), "../..")
                .link("sys/class/drm/card0", "../../devices/platform/ff400000.gpu/drm/card0");
            let info = crate::list(&tree.roots()).remove(0);
            assert_eq!(info.clients_from.iter().map(|t| t.as_str()).collect::<Vec<_>>(), from);
            let why = info.unavailable.iter().find(|u| u.metric == "clients_from");
            assert_eq!(why.is_some(), from.is_empty(), "{driver}: {why:?}");
        }
    }
}
