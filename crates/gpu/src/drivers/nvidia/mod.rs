//! nvidia, the proprietary driver and its open kernel modules: everything from NVML, NVIDIA's management library.
//!
//! NVML is loaded when the card is awake and let go once it is idle, since an open handle keeps the card from suspending and any query
//! wakes it. The driver has no hwmon device and prints nothing into fdinfo. NVML's utilisation is a percentage of a sample period of its
//! own (1/6 s to 1 s, by product): it is summed up over the times between readings, so that it fits beside real counters; the source
//! is named `nvml (sampled)`. See docs/sources/nvml.md.

mod parse;
mod processes;
mod release;

#[cfg(feature = "nvml")]
mod nvml;
#[cfg(not(feature = "nvml"))]
#[path = "without_nvml.rs"]
mod nvml;

use self::nvml::Nvml;
use self::parse::{Readings, hertz, percentage, throttle_reasons};
use self::processes::Processes;
use self::release::Release;
use super::over_time::OverTime;
use super::{Access, Context, Device, FdinfoNeed, Gone, PowerState};
use crate::discover::Found;
use crate::held::small_text;
use crate::power_state::PowerFiles;
use gpuscope_model::{
    BandwidthSample, ClientSample, Clock, Counter, DeviceInfo, DeviceSample, EngineClass, EngineInfo, EngineSample,
    FanSample, GtInfo, GtKind, GtSample, MemorySample, PowerSample, Reading, Reason, RuntimeStatus, SourceReport,
    TemperatureSample, Text, Unavailable, Why,
};
use gpuscope_sys::monotonic_ns;

/// Where engine times come from.
const SOURCE: Text = Text::Static("nvml (sampled)");

/// What NVML gives as utilisation: a name, the class, the instance within it, and the GT whose clock it runs at.
const ENGINES: [(&str, EngineClass, u16, Option<u8>); 4] = [
    // Kernels of any kind: graphics and compute.
    ("gpu", EngineClass::Render, 0, Some(0)),
    ("enc", EngineClass::Video, 0, Some(1)),
    ("dec", EngineClass::Video, 1, Some(1)),
    ("mem", EngineClass::Other, 0, None),
];

/// Names of the memory regions of MIG instances, by the instance's place.
const MIG_REGIONS: [&str; 8] = ["mig0", "mig1", "mig2", "mig3", "mig4", "mig5", "mig6", "mig7"];

const FANS: [&str; 16] = [
    "fan1", "fan2", "fan3", "fan4", "fan5", "fan6", "fan7", "fan8", "fan9", "fan10", "fan11", "fan12", "fan13",
    "fan14", "fan15", "fan16",
];

const METRICS: [&str; 10] = [
    "gpuscope_engine_busy_ratio",
    "gpuscope_class_busy_ratio",
    "gpuscope_frequency_actual_hertz",
    "gpuscope_frequency_max_hertz",
    "gpuscope_throttled",
    "gpuscope_power_card_watts",
    "gpuscope_temperature_celsius",
    "gpuscope_fan_rpm",
    "gpuscope_memory_total_bytes",
    "gpuscope_memory_used_bytes",
];

const NO_GT: Why = Why::not_supported("device memory has a clock of its own, which is no GT's");
const NO_WAITING: Why = Why::not_supported("NVML counts no waiting time");
const NO_REQUEST: Why = Why::not_supported("NVML does not tell the frequency that the driver asked for");
const NO_MINIMUM: Why = Why::not_supported("NVML does not tell the lower limit in force");
const NO_IDLE: Why = Why::not_supported("NVML does not tell the time in idle states");
const NO_THROTTLE: Why = Why::not_supported("NVML tells throttling of the whole GPU, which is shown with GT 0");
const CARD_ONLY: Why = Why::not_supported("NVML tells the power of the whole card");
const NO_FDINFO: Why =
    Why { reason: Reason::NotSupported, detail: Text::Static("the driver prints no fdinfo"), remedy: None };
const NO_BANDWIDTH: Why = Why::not_supported("the processor's memory controllers do not serve this GPU's memory");

pub(super) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    let mut info = found.identity(context.options);
    info.gts = vec![
        GtInfo { gt: 0, tile: 0, kind: GtKind::Main },
        // The video clock, which encoder and decoder run at.
        GtInfo { gt: 1, tile: 0, kind: GtKind::Media },
    ];
    info.engines = ENGINES
        .iter()
        .map(|(name, class, instance, gt)| EngineInfo {
            name: Text::Static(name),
            class: *class,
            instance: Reading::Value(*instance),
            gt: gt.ok_or(NO_GT).into(),
        })
        .collect();
    // Its nvidia-drm prints nothing in fdinfo. Whether NVML is there, only loading it would tell, which wakes the card.
    info.clients_from = vec![Text::Static("nvml")];
    info.unavailable.push(Unavailable::new("pmu", Why::not_supported("the driver registers no perf PMU")));
    info
}

pub(super) fn open(context: &Context<'_>, found: Found) -> Box<dyn Device> {
    Box::new(Nvidia::open(context, &found))
}

/// Which of NVML's two ways gives the card's energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EnergySource {
    /// `nvmlDeviceGetTotalEnergyConsumption`.
    Counter,
    /// `nvmlDeviceGetPowerUsage`, summed up over time.
    Power,
}

struct Nvidia {
    info: DeviceInfo,
    live: bool,
    power: PowerFiles,
    /// As last read.
    state: PowerState,
    nvml: Result<Nvml, Why>,
    release: Release,
    readings: Readings,
    /// In the order of [`ENGINES`].
    busy: [OverTime; 4],
    energy: OverTime,
    energy_source: Option<EnergySource>,
    /// Only where clients are asked for.
    processes: Option<Processes>,
}

impl Nvidia {
    fn open(context: &Context<'_>, found: &Found) -> Self {
        let info = identify(context, found);
        let library = context.options.nvml_library.clone();
        let live = context.roots.is_live() || library.is_some();
        // The kernel module's version (MODULE_VERSION), which NVML's must equal.
        let version = small_text(context.roots.sys("module/nvidia/version")).filter(|v| !v.is_empty());
        let nvml = match (info.pci_address, live) {
            (_, false) => Err(Why::new(Reason::NotCounting, "a captured tree has no NVML to ask")),
            (None, _) => Err(Why::not_supported("NVML knows its GPUs by their PCI address, and this one has none")),
            (Some(address), true) => Nvml::new(library, address, version),
        };
        let mut power = PowerFiles::open(&found.device, found.minor());
        let status = info.runtime_status.clone();
        let unknown = PowerState { status, autosuspend_delay_ns: None, always_on: false, forced: None };
        Nvidia {
            live,
            state: power.read().unwrap_or(unknown),
            power,
            nvml,
            release: Release::default(),
            readings: Readings::absent(&Why::FIRST_SAMPLE),
            busy: Default::default(),
            energy: OverTime::default(),
            energy_source: None,
            processes: context.options.clients.then(Processes::default),
            info,
        }
    }

    /// Not even awake for others: on its way down or up, or down.
    fn sleeps(&self) -> bool {
        use RuntimeStatus::{Resuming, Suspended, Suspending};
        matches!(self.state.status, Reading::Value(Suspended | Suspending | Resuming))
    }

    /// Reads NVML, opening it where that is allowed now, and letting go of it where that is due.
    fn read(&mut self, now_ns: u64, access: &Access) -> Result<(), Why> {
        let read = self.read_now(now_ns, access);
        if let (Err(why), Some(processes)) = (&read, &mut self.processes) {
            processes.none(why);
        }
        read
    }

    fn read_now(&mut self, now_ns: u64, access: &Access) -> Result<(), Why> {
        let asleep = self.sleeps();
        if asleep {
            self.release.slept();
            self.busy.iter_mut().for_each(OverTime::interrupt);
            self.energy.interrupt();
        }
        let withheld = match access {
            Access::Withheld(why) => Some(why.clone()),
            Access::Allowed if asleep => Some(Why::ASLEEP),
            Access::Allowed => self.release.withheld(now_ns),
        };
        let nvml = self.nvml.as_mut().map_err(|why| why.clone())?;
        if let Some(why) = withheld {
            if nvml.is_open() {
                nvml.close();
                if !asleep {
                    self.release.released(now_ns);
                }
            }
            return Err(why);
        }
        if let Err(why) = nvml.open() {
            self.release.failed(now_ns, why.clone());
            return Err(why);
        }
        nvml.read(&mut self.readings);
        if let Some(why) = &self.readings.lost {
            nvml.close();
            self.release.failed(now_ns, why.clone());
            return Err(why.clone());
        }
        if let Some(processes) = &mut self.processes {
            processes.read(nvml, now_ns);
        }
        if self.release.after_reading(now_ns, self.readings.busy(), !self.state.always_on) {
            nvml.close();
            self.release.released(now_ns);
        }
        Ok(())
    }

    /// The card's energy, in one of two ways. Changing from one to the other begins anew.
    fn energy(&mut self, now_ns: u64) -> Result<Counter, Why> {
        match &self.readings.energy_mj {
            Ok(millijoules) => {
                if self.energy_source.replace(EnergySource::Counter) == Some(EnergySource::Power) {
                    return Err(Why::FIRST_SAMPLE);
                }
                Ok(Counter { value: millijoules.saturating_mul(1000), at_ns: now_ns })
            }
            Err(why) if self.energy_source == Some(EnergySource::Counter) => Err(why.clone()),
            Err(why) if !matches!(why.reason, Reason::NotSupported | Reason::NoPermission) => Err(why.clone()),
            Err(_) => {
                let milliwatts = self.readings.power_mw.clone()?;
                self.energy_source = Some(EnergySource::Power);
                Ok(self.energy.microwatts(u64::from(milliwatts).saturating_mul(1000), now_ns))
            }
        }
    }

    fn fill(&mut self, now_ns: u64, out: &mut DeviceSample) {
        out.power.card_uj = self.energy(now_ns).into();
        let readings = &self.readings;
        if let Reading::Value(engines) = &mut out.engines {
            let percent = [&readings.gpu, &readings.encoder, &readings.decoder, &readings.memory_busy];
            for ((slot, busy), percent) in engines.iter_mut().zip(&mut self.busy).zip(percent) {
                slot.busy = percent.clone().and_then(percentage).map(|p| busy.percent(p, now_ns)).into();
            }
        }
        let clocks =
            [(&readings.graphics_mhz, &readings.graphics_max_mhz), (&readings.video_mhz, &readings.video_max_mhz)];
        for (gt, (actual, max)) in out.gts.iter_mut().zip(clocks) {
            gt.actual = actual.clone().map(|mhz| Clock::Now(hertz(mhz))).into();
            gt.max_hz = max.clone().map(hertz).into();
        }
        if let Some(main) = out.gts.first_mut() {
            main.throttle = readings.throttle.clone().map(throttle_reasons).into();
        }
        if let Reading::Value(temperatures) = &mut out.temperatures {
            if let Some(gpu) = temperatures.first_mut() {
                gpu.celsius = readings.celsius.clone().map(f64::from).into();
            }
        }
        fill_fans(readings, out);
        fill_memory(readings, out);
    }
}

fn fill_fans(readings: &Readings, out: &mut DeviceSample) {
    let speeds = match &readings.fans {
        Ok(speeds) if !speeds.is_empty() => speeds,
        Ok(_) => {
            out.fans = Reading::absent(Reason::NoHardware, "the card has no fan");
            return;
        }
        Err(why) => {
            out.fans = why.clone().into();
            return;
        }
    };
    // How many there are is known only once NVML is open.
    if out.fans.value().map(Vec::len) != Some(speeds.len().min(FANS.len())) {
        let blank = |name: &&'static str| FanSample { label: Text::Static(name), rpm: Why::FIRST_SAMPLE.into() };
        out.fans = Reading::Value(FANS.iter().take(speeds.len()).map(blank).collect());
    }
    if let Reading::Value(fans) = &mut out.fans {
        for (fan, speed) in fans.iter_mut().zip(speeds) {
            fan.rpm = speed.clone().map(f64::from).into();
        }
    }
}

fn fill_memory(readings: &Readings, out: &mut DeviceSample) {
    let Reading::Value(list) = &mut out.memory else { return };
    let regions = 2 + readings.mig.len();
    let name = |slot: u32| MIG_REGIONS.get(slot as usize).copied().unwrap_or("mig");
    let same = list.len() == regions
        && list.iter().skip(2).zip(&readings.mig).all(|(region, (slot, _))| region.region.as_str() == name(*slot));
    if !same {
        list.truncate(2);
        list.extend(readings.mig.iter().map(|(slot, _)| blank_memory(name(*slot))));
    }
    let mut slots = list.iter_mut();
    if let (Some(vram), Some(reserved)) = (slots.next(), slots.next()) {
        vram.total_bytes = readings.memory.clone().map(|m| m.total).into();
        vram.used_bytes = readings.memory.clone().map(|m| m.used).into();
        reserved.total_bytes = readings.memory.clone().map(|m| m.reserved).into();
        reserved.used_bytes = reserved.total_bytes.clone();
    }
    for (slot, (_, memory)) in slots.zip(&readings.mig) {
        slot.total_bytes = memory.clone().map(|m| m.total).into();
        slot.used_bytes = memory.clone().map(|m| m.used).into();
    }
}

fn blank_memory(region: &'static str) -> MemorySample {
    MemorySample {
        region: Text::Static(region),
        total_bytes: Why::FIRST_SAMPLE.into(),
        used_bytes: Why::FIRST_SAMPLE.into(),
    }
}

/// Every value that a reading would have filled is absent for this reason; the lists keep their entries.
fn withhold(why: &Why, out: &mut DeviceSample) {
    if let Reading::Value(list) = &mut out.engines {
        list.iter_mut().for_each(|e| e.busy = why.clone().into());
    }
    for gt in &mut out.gts {
        gt.actual = why.clone().into();
        gt.max_hz = why.clone().into();
    }
    if let Some(main) = out.gts.first_mut() {
        main.throttle = why.clone().into();
    }
    out.power.card_uj = why.clone().into();
    if let Reading::Value(list) = &mut out.temperatures {
        list.iter_mut().for_each(|t| t.celsius = why.clone().into());
    }
    match &mut out.fans {
        Reading::Value(list) => list.iter_mut().for_each(|f| f.rpm = why.clone().into()),
        absent => *absent = why.clone().into(),
    }
    if let Reading::Value(list) = &mut out.memory {
        for memory in list {
            memory.total_bytes = why.clone().into();
            memory.used_bytes = why.clone().into();
        }
    }
}

impl Device for Nvidia {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn power(&mut self) -> Result<PowerState, Gone> {
        self.state = self.power.read()?;
        Ok(self.state.clone())
    }

    fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        let laid_out = out.engines.value().map_or(0, Vec::len) == ENGINES.len() && out.gts.len() == 2;
        if !laid_out {
            let blank = self.blank();
            out.engines = blank.engines;
            out.gts = blank.gts;
            out.temperatures = blank.temperatures;
            out.fans = blank.fans;
            out.memory = blank.memory;
        }
        let now_ns = monotonic_ns();
        match self.read(now_ns, access) {
            Ok(()) => self.fill(now_ns, out),
            Err(why) => withhold(&why, out),
        }
        out.perturbs = !self.state.always_on && self.nvml.as_ref().is_ok_and(Nvml::is_open);
    }

    fn blank(&self) -> DeviceSample {
        let engines = self.info.engines.iter().map(|e| EngineSample {
            name: e.name.clone(),
            class: e.class,
            instance: e.instance.get().unwrap_or(0),
            gt: e.gt.clone(),
            source: SOURCE,
            busy: Why::FIRST_SAMPLE.into(),
            wait: NO_WAITING.into(),
            sema: NO_WAITING.into(),
        });
        let gts = self.info.gts.iter().map(|gt| GtSample {
            gt: gt.gt,
            actual: Why::FIRST_SAMPLE.into(),
            requested: NO_REQUEST.into(),
            min_hz: NO_MINIMUM.into(),
            max_hz: Why::FIRST_SAMPLE.into(),
            idle_ns: NO_IDLE.into(),
            throttle: if gt.gt == 0 { Why::FIRST_SAMPLE.into() } else { NO_THROTTLE.into() },
        });
        let temperature = TemperatureSample { label: Text::Static("gpu"), celsius: Why::FIRST_SAMPLE.into() };
        let mut power = PowerSample::absent(&CARD_ONLY);
        power.card_uj = Why::FIRST_SAMPLE.into();
        DeviceSample {
            id: self.info.id.clone(),
            driver: Text::Static("nvidia"),
            live: self.live,
            perturbs: false,
            runtime_status: self.info.runtime_status.clone(),
            engines: Reading::Value(engines.collect()),
            classes: NO_FDINFO.into(),
            gts: gts.collect(),
            power,
            temperatures: Reading::Value(vec![temperature]),
            fans: Why::FIRST_SAMPLE.into(),
            memory: Reading::Value(vec![blank_memory("vram"), blank_memory("reserved")]),
            bandwidth: BandwidthSample::absent(&NO_BANDWIDTH),
        }
    }

    fn fdinfo(&self) -> FdinfoNeed {
        FdinfoNeed { needed: false, wakes: false, hidden: &[] }
    }

    fn holds_awake(&self) -> bool {
        // An open NVML does, and is let go by a rule of its own (see `release`).
        false
    }

    fn processes(&mut self, _drm: &[ClientSample], out: &mut Vec<ClientSample>) -> Option<Result<(), Why>> {
        Some(self.processes.as_mut()?.clients(&self.info.id, out))
    }

    fn knows_processes(&self) -> bool {
        true
    }

    fn reports(&self) -> Vec<SourceReport> {
        let id = Some(&self.info.id);
        let found = match &self.nvml {
            Err(why) => Err(why.clone()),
            // Asking would load the library, and that wakes the card.
            Ok(_) if self.sleeps() => Err(Why::ASLEEP),
            Ok(nvml) => nvml.describe(),
        };
        vec![SourceReport::of("NVML", id, found).unlocks(&METRICS)]
    }
}

#[cfg(test)]
#[cfg(feature = "nvml")]
mod tests;
