//! amdgpu: busy percentages, clocks, memory and the firmware's `gpu_metrics` from sysfs, sensors and power from hwmon, engine classes
//! from DRM fdinfo.
//!
//! The power management files and the sensors resume a sleeping card up to Linux 6.12 (`pm_runtime_get_sync` in
//! drivers/gpu/drm/amd/pm/amdgpu_pm.c) and answer EPERM since (`amdgpu_pm_get_access_if_active`): they are read only where waking is
//! allowed, and EPERM means asleep. `mem_info_*` (`amdgpu_mem_info_vram_used_show` and its like) and fdinfo touch no hardware.
//! `pcie_bw` counts for a second inside the kernel and is never read.
//!
//! `*_busy_percent` are what the firmware sampled over a short window of its own and jump between 0 and 100: they are summed up over the
//! times between readings, and their source is named `(sampled)`. Power, which hwmon gives at the moment, becomes energy in the
//! same way.

mod files;
pub mod kfd;
pub mod metrics;
pub mod parse;

use self::files::{Busy, ClockFiles, NO_LEVELS, NO_POWER, PowerSensor, Region, Table, busy_files, refused, regions};
use self::kfd::Kfd;
use self::parse::parse_percent;
use super::{Access, Beside, Context, Device, FdinfoNeed, Gone, PowerState};
use crate::discover::{Found, numbered};
use crate::held::small_text;
use crate::hwmon::{Hwmon, Meanings};
use crate::power_state::PowerFiles;
use gpuscope_model::{
    BandwidthSample, ClientSample, DeviceInfo, DeviceSample, EngineSample, GtInfo, GtKind, GtSample, MemorySample,
    PciId, PowerSample, Reading, Reason, SourceReport, Text, Unavailable, Why,
};
use gpuscope_sys::{Roots, monotonic_ns};
use std::path::{Path, PathBuf};

/// MI300A: an APU whose sensors are those of a card.
const MI300A: PciId = PciId { vendor: 0x1002, device: 0x74a0 };

const NO_REQUEST: Why = Why::not_supported("amdgpu does not tell the frequency that was asked for");
const NO_IDLE: Why = Why::not_supported("amdgpu does not tell the time in idle states");
const THROTTLE_OF_GT0: Why = Why::not_supported("throttling is told of the whole GPU, which is shown with GT 0");
const NO_GT: Why = Why::not_supported("memory has a clock of its own, which is no GT's");
const NO_WAITING: Why = Why::not_supported("amdgpu counts no waiting time");
const CARD_ONLY: Why = Why::not_supported("amdgpu tells the power of the whole card");
const APU_ONLY: Why = Why::not_supported("amdgpu tells the power of the whole APU");
const NO_CARD: Why =
    Why { reason: Reason::NoHardware, detail: Text::Static("an APU has no card of its own"), remedy: None };
const NO_BANDWIDTH: Why = Why::not_supported("amdgpu does not count memory traffic");

/// Engines of fdinfo, which has only those that a client has used (`amdgpu_show_fdinfo`, drivers/gpu/drm/amd/amdgpu/amdgpu_fdinfo.c).
const HIDDEN_ENGINES: [&str; 8] = ["gfx", "compute", "dma", "dec", "enc", "enc_1", "jpeg", "vpe"];

/// The folder of the sensors.
fn hwmon_folder(device: &Path) -> Option<PathBuf> {
    let folders = numbered(&device.join("hwmon"), "hwmon").unwrap_or_default();
    folders.into_iter().map(|(_, f)| f).find(|f| small_text(f.join("name")).as_deref() == Some("amdgpu"))
}

/// Only APUs have the voltage of a north bridge, and only cards a memory clock of their own (`hwmon_attributes_visible`, amdgpu_pm.c).
fn integrated(pci_id: Option<PciId>, hwmon: Option<&Path>) -> Reading<bool> {
    let has = |name: &str| hwmon.is_some_and(|folder| folder.join(name).exists());
    if pci_id == Some(MI300A) || has("in1_label") {
        Reading::Value(true)
    } else if has("freq2_label") {
        Reading::Value(false)
    } else {
        Reading::absent(Reason::NotSupported, "amdgpu has no sensors here that tell an APU from a card")
    }
}

pub(super) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    let mut info = found.identity(context.options);
    info.unavailable.retain(|u| u.metric != "integrated");
    info.integrated = integrated(info.pci_id, hwmon_folder(&found.device).as_deref());
    if let Reading::Absent(why) = &info.integrated {
        info.unavailable.push(Unavailable::new("integrated", why.clone()));
    }
    if found.device.join("pp_dpm_sclk").exists() {
        info.gts.push(GtInfo { gt: 0, tile: 0, kind: GtKind::Main });
        if found.device.join("pp_dpm_vclk").exists() {
            info.gts.push(GtInfo { gt: 1, tile: 0, kind: GtKind::Media });
        }
    } else {
        let why = Why::not_supported("the device has no pp_dpm_sclk: the driver does not manage its clocks");
        info.unavailable.push(Unavailable::new("gts", why));
    }
    let engines = Why::not_supported("amdgpu names its engines in its clients' fdinfo only");
    info.unavailable.push(Unavailable::new("engines", engines));
    if info.pci_address.is_some_and(|a| !kfd::gpu_ids(context.roots, a).is_empty()) {
        info.clients_from.push(Text::Static("kfd"));
    }
    info.unavailable.push(Unavailable::new("pmu", Why::not_supported("amdgpu registers no perf PMU for engines")));
    info
}

struct Amdgpu {
    info: DeviceInfo,
    live: bool,
    roots: Roots,
    power: PowerFiles,
    busy: Vec<Busy>,
    clocks: Vec<ClockFiles>,
    table: Table,
    watts: PowerSensor,
    memory: Vec<Region>,
    hwmon: Hwmon,
    kfd: Kfd,
}

pub(super) fn open(context: &Context<'_>, found: Found) -> Box<dyn Device> {
    let info = identify(context, &found);
    let device = &found.device;
    let folder = hwmon_folder(device);
    let meanings = Meanings {
        name: Some("amdgpu"),
        first_temperature: "edge",
        refusal_is_sleep: true,
        none: Why::not_supported("the driver has no hwmon device: it does not manage this device's power"),
    };
    let clock = |gt: &GtInfo| match gt.gt {
        0 => ClockFiles::open(device.join("pp_dpm_sclk"), folder.as_ref().map(|f| f.join("freq1_input"))),
        _ => ClockFiles::open(device.join("pp_dpm_vclk"), None),
    };
    Box::new(Amdgpu {
        live: context.roots.is_live(),
        roots: context.roots.clone(),
        power: PowerFiles::open(device, found.minor()),
        busy: busy_files(device, &info.gts),
        clocks: info.gts.iter().map(clock).collect(),
        table: Table::open(device.join("gpu_metrics")),
        watts: PowerSensor::open(folder.as_deref()),
        memory: regions(device),
        hwmon: Hwmon::open(device, meanings),
        kfd: Kfd::open(context.roots, info.pci_address),
        info,
    })
}

impl Amdgpu {
    fn is_apu(&self) -> bool {
        self.info.integrated.get() == Some(true)
    }

    /// Everything that may wake the device.
    fn fill(&mut self, now_ns: u64, out: &mut DeviceSample) {
        if let Reading::Value(engines) = &mut out.engines {
            for (busy, slot) in self.busy.iter_mut().zip(engines) {
                let percent = busy.file.read_with(parse_percent, refused);
                if percent.is_err() {
                    busy.time.interrupt();
                }
                slot.busy = percent.map(|percent| busy.time.percent(percent, now_ns)).into();
            }
        }
        for (clock, slot) in self.clocks.iter_mut().zip(&mut out.gts) {
            clock.read(slot);
        }
        if let Some(main) = out.gts.first_mut() {
            main.throttle = self.table.throttle().into();
        }
        let microwatts = self.watts.microwatts();
        if microwatts.is_err() {
            self.watts.sum.interrupt();
        }
        let energy = microwatts.map(|microwatts| self.watts.sum.microwatts(microwatts, now_ns)).into();
        self.set_energy(energy, out);
    }

    fn set_energy(&self, energy: Reading<gpuscope_model::Counter>, out: &mut DeviceSample) {
        if self.is_apu() {
            out.power.package_uj = energy;
        } else {
            out.power.card_uj = energy;
        }
    }

    /// Leaves alone what may wake the device.
    fn withhold(&mut self, why: &Why, out: &mut DeviceSample) {
        if why.reason == Reason::Asleep {
            self.busy.iter_mut().for_each(|b| b.time.interrupt());
            self.watts.sum.interrupt();
        }
        if let Reading::Value(engines) = &mut out.engines {
            engines.iter_mut().for_each(|e| e.busy = why.clone().into());
        }
        for gt in &mut out.gts {
            gt.actual = why.clone().into();
            gt.min_hz = why.clone().into();
            gt.max_hz = why.clone().into();
        }
        if let Some(main) = out.gts.first_mut() {
            main.throttle = why.clone().into();
        }
        let energy = if self.watts.is_open() { why.clone() } else { NO_POWER };
        self.set_energy(energy.into(), out);
    }

    fn no_memory(&self) -> Why {
        Why::not_supported(
            "the device has no mem_info files: it has no memory of its own, or this is a capture without them",
        )
    }

    fn no_busy(&self) -> Why {
        Why::not_supported("the device has no gpu_busy_percent")
    }
}

impl Device for Amdgpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn power(&mut self) -> Result<PowerState, Gone> {
        self.power.read()
    }

    fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        let laid_out = out.engines.value().map_or(0, Vec::len) == self.busy.len()
            && out.gts.len() == self.clocks.len()
            && out.memory.value().map_or(0, Vec::len) == self.memory.len();
        if !laid_out {
            *out = DeviceSample { runtime_status: out.runtime_status.clone(), ..self.blank() };
        }
        match access {
            Access::Allowed => self.fill(monotonic_ns(), out),
            Access::Withheld(why) => self.withhold(why, out),
        }
        if let Reading::Value(regions) = &mut out.memory {
            for (region, slot) in self.memory.iter_mut().zip(regions) {
                slot.used_bytes = region.used.number().into();
            }
        }
        self.hwmon.sample(access, out);
        self.kfd.refresh(monotonic_ns());
    }

    fn blank(&self) -> DeviceSample {
        let engines = self.busy.iter().map(|b| EngineSample {
            name: Text::Static(b.name),
            class: b.class,
            instance: 0,
            gt: b.gt.ok_or(NO_GT).into(),
            source: Text::Static(b.source),
            busy: Why::FIRST_SAMPLE.into(),
            wait: NO_WAITING.into(),
            sema: NO_WAITING.into(),
        });
        let gts = self.info.gts.iter().map(|gt| GtSample {
            gt: gt.gt,
            actual: Why::FIRST_SAMPLE.into(),
            requested: NO_REQUEST.into(),
            min_hz: Why::FIRST_SAMPLE.into(),
            max_hz: Why::FIRST_SAMPLE.into(),
            idle_ns: NO_IDLE.into(),
            throttle: if gt.gt == 0 { Why::FIRST_SAMPLE.into() } else { THROTTLE_OF_GT0.into() },
        });
        let memory = self.memory.iter().map(|r| MemorySample {
            region: Text::Static(r.name),
            total_bytes: r.total.clone(),
            used_bytes: Why::FIRST_SAMPLE.into(),
        });
        let only = if self.is_apu() { APU_ONLY } else { CARD_ONLY };
        let mut power = PowerSample::absent(&only);
        let energy = if self.watts.is_open() { Why::FIRST_SAMPLE } else { NO_POWER };
        if self.is_apu() {
            power.card_uj = NO_CARD.into();
            power.package_uj = energy.into();
        } else {
            power.card_uj = energy.into();
        }
        let list_or = |empty: bool, why: Why| if empty { Err(why) } else { Ok(()) };
        DeviceSample {
            id: self.info.id.clone(),
            driver: Text::Static("amdgpu"),
            live: self.live,
            perturbs: false,
            runtime_status: self.info.runtime_status.clone(),
            engines: list_or(self.busy.is_empty(), self.no_busy()).map(|()| engines.collect()).into(),
            classes: Why::FIRST_SAMPLE.into(),
            gts: gts.collect(),
            power,
            temperatures: self.hwmon.blank_temperatures(),
            fans: self.hwmon.blank_fans(),
            memory: list_or(self.memory.is_empty(), self.no_memory()).map(|()| memory.collect()).into(),
            bandwidth: BandwidthSample::absent(&NO_BANDWIDTH),
        }
    }

    fn fdinfo(&self) -> FdinfoNeed {
        // `amdgpu_show_fdinfo` adds up fences and buffers, and takes no runtime PM reference.
        FdinfoNeed { needed: true, wakes: false, hidden: &HIDDEN_ENGINES }
    }

    fn processes(&mut self, drm: &[ClientSample], out: &mut Vec<ClientSample>) -> Option<Result<(), Why>> {
        self.kfd.clients(&self.info, drm, out);
        // Its DRM clients are told by fdinfo.
        None
    }

    fn beside_fdinfo(&self) -> Option<Beside<'_>> {
        self.kfd.beside_fdinfo()
    }

    fn knows_processes(&self) -> bool {
        self.kfd.has_gpu()
    }

    fn holds_awake(&self) -> bool {
        false
    }

    fn reports(&self) -> Vec<SourceReport> {
        let id = Some(&self.info.id);
        let report = |source: &'static str, found: Result<String, Why>, unlocks: &[&'static str]| {
            SourceReport::of(source, id, found).unlocks(unlocks)
        };
        let names: Vec<&str> = self.busy.iter().map(|b| b.source.trim_end_matches(" (sampled)")).collect();
        let busy = match names.as_slice() {
            [] => Err(self.no_busy()),
            _ => Ok(format!(
                "{}: what the firmware sampled over a short window, jumping between 0 and 100; read while the device is awake",
                names.join(", ")
            )),
        };
        let clocks = match self.clocks.as_slice() {
            [] => Err(NO_LEVELS),
            [_] => Ok("the graphics clock and its levels; read while the device is awake".to_string()),
            _ => Ok("the graphics and video clocks and their levels; read while the device is awake".to_string()),
        };
        let table = match (&self.table.file, &self.table.structure, &self.table.failed) {
            (Err(why), _, _) | (_, None, Some((_, why))) => Err(why.clone()),
            (Ok(_), Some(structure), _) => Ok(format!("the firmware's table is a {structure}")),
            (Ok(_), None, None) => Ok("the firmware's table; read while the device is awake".to_string()),
        };
        let power = match self.watts.is_open() {
            true if self.is_apu() => Ok("hwmon power1: the whole APU, its processor cores included".to_string()),
            true => Ok("hwmon power1: the card, or on older ones its GPU".to_string()),
            false => Err(NO_POWER),
        };
        let memory = match self.memory.is_empty() {
            true => Err(self.no_memory()),
            false => Ok("mem_info files, which wake nothing".to_string()),
        };
        vec![
            report("amdgpu busy files", busy, &["gpuscope_engine_busy_ratio", "gpuscope_class_busy_ratio"]),
            report(
                "amdgpu clocks",
                clocks,
                &["gpuscope_frequency_actual_hertz", "gpuscope_frequency_min_hertz", "gpuscope_frequency_max_hertz"],
            ),
            report("amdgpu gpu_metrics", table, &["gpuscope_throttled"]),
            report("amdgpu power", power, &["gpuscope_power_card_watts", "gpuscope_power_package_watts"]),
            report("amdgpu memory", memory, &["gpuscope_memory_total_bytes", "gpuscope_memory_used_bytes"]),
            report("KFD processes", self.compute(), &[]),
            self.hwmon.report(&self.info),
        ]
    }
}

impl Amdgpu {
    /// The processes behind /dev/kfd, which fdinfo does not show.
    fn compute(&self) -> Result<String, Why> {
        let now = Kfd::open(&self.roots, self.info.pci_address);
        if !now.has_gpu() {
            return Err(Why::not_supported("the kernel fusion driver (KFD) does not have this GPU"));
        }
        let (count, bytes) = now.processes().fold((0, 0u64), |(n, sum), (_, bytes)| (n + 1, sum.saturating_add(bytes)));
        Ok(format!("{count} processes compute through /dev/kfd and hold {} MiB of its memory", bytes >> 20))
    }
}

#[cfg(test)]
mod tests;
