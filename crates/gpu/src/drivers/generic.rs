//! Any driver without code of its own: identity, power state, hwmon temperatures and fans.

use super::{Access, Context, Device, FdinfoNeed, Gone, PowerState};
use crate::discover::{Found, shared};
use crate::hwmon::{Hwmon, Meanings};
use crate::power_state::PowerFiles;
use gpuscope_model::{
    BandwidthSample, DeviceInfo, DeviceSample, PowerSample, Reading, Reason, SourceReport, Text, Unavailable, Why,
};

struct Generic {
    info: DeviceInfo,
    live: bool,
    power: PowerFiles,
    hwmon: Hwmon,
    why: Why,
}

/// Why what only a driver's own code could read is absent.
fn not_yet(driver: &str) -> Why {
    Why::new(Reason::NotSupported, format!("gpuscope has no code for the driver {driver} yet"))
}

pub(super) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    let mut info = found.identity(context.options);
    let why = not_yet(&info.driver);
    info.unavailable.extend(["pmu", "gts", "engines"].map(|field| Unavailable::new(field, why.clone())));
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
        self.power.read()
    }

    fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        self.hwmon.sample(access, out);
    }

    fn blank(&self) -> DeviceSample {
        let mut power = blank_power(&self.why);
        self.hwmon.blank_power(&mut power);
        DeviceSample {
            id: self.info.id.clone(),
            driver: shared(&self.info.driver),
            live: self.live,
            perturbs: false,
            runtime_status: self.info.runtime_status.clone(),
            engines: self.why.clone().into(),
            classes: Reading::Absent(Why::FIRST_SAMPLE),
            gts: Vec::new(),
            power,
            temperatures: self.hwmon.blank_temperatures(),
            fans: self.hwmon.blank_fans(),
            memory: self.why.clone().into(),
            bandwidth: BandwidthSample { read_bytes: self.why.clone().into(), write_bytes: self.why.clone().into() },
        }
    }

    fn fdinfo(&self) -> FdinfoNeed {
        // Of the drivers that print engines in fdinfo, xe alone takes a runtime PM reference for it.
        FdinfoNeed { needed: true, wakes: false }
    }

    fn holds_awake(&self) -> bool {
        false
    }

    fn reports(&self) -> Vec<SourceReport> {
        let source = Text::from(format!("{} driver", self.info.driver));
        vec![SourceReport::absent(source, Some(&self.info.id), self.why.clone()), self.hwmon.report(&self.info)]
    }
}

/// Energy of no domain, for one reason.
pub(super) fn blank_power(why: &Why) -> PowerSample {
    PowerSample {
        gpu_uj: why.clone().into(),
        card_uj: why.clone().into(),
        package_uj: why.clone().into(),
        longest_gap_ns: None,
        psys_uj: why.clone().into(),
    }
}
