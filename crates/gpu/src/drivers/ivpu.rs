//! intel_vpu (drivers/accel/ivpu): Intel's NPU, in the processor's package, with system memory.
//!
//! Everything stands in files of the PCI device (`ivpu_dev_attrs` in ivpu_sysfs.c), of which older kernels have the first ones only, or
//! none. None of them wakes the NPU: busy time and memory are counted by the driver, the highest clock is a constant, and the
//! clock is asked for only while the NPU is active. That, however, begins its autosuspend delay anew (`pm_runtime_put_autosuspend`), so
//! the clock is read like a file that wakes. fdinfo tells the memory of each client.

use super::{Access, Context, Device, FdinfoNeed, Gone, PowerState};
use crate::discover::Found;
use crate::held::{Held, parse_u64};
use crate::power_state::PowerFiles;
use gpuscope_model::{
    BandwidthSample, Clock, DeviceInfo, DeviceSample, EngineClass, EngineInfo, EngineSample, GtInfo, GtKind, GtSample,
    MemorySample, PowerSample, Reading, Reason, Share, SourceReport, Text, Unavailable, Why,
};
use gpuscope_sys::monotonic_ns;

const BUSY: &str = "npu_busy_time_us";
const MEMORY: &str = "npu_memory_utilization";
const CLOCK: &str = "npu_current_frequency_mhz";
const HIGHEST: &str = "npu_max_frequency_mhz";

const NO_WAITING: Why = Why::not_supported("the driver counts no waiting time");
const NO_REQUEST: Why = Why::not_supported("the driver does not tell the frequency that was asked for");
const NO_MINIMUM: Why = Why::not_supported("the driver does not tell the lowest frequency");
const NO_IDLE: Why = Why::not_supported("the driver does not tell the time in idle states");
const NO_THROTTLE: Why = Why::not_supported("the driver does not tell what limits the clock");
const NO_SENSORS: Why = Why::not_supported("the driver has no hwmon device");
const NO_POWER: Why = Why::not_supported("the driver does not tell the NPU's power; it is part of the package's");
const NO_CLASSES: Why =
    Why::not_supported("the driver counts the NPU as a whole, and prints no use of engines in fdinfo");
const NO_SIZE: Why =
    Why { reason: Reason::NoHardware, detail: Text::Static("the NPU has no memory of its own"), remedy: None };
const NO_BANDWIDTH: Why = Why::not_supported("the driver does not count memory traffic");

pub(super) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    let mut info = found.identity(context.options);
    // All that this driver knows are functions of the processor (`ivpu_pci_ids` in ivpu_drv.c).
    info.integrated = Reading::Value(true);
    info.gts = vec![GtInfo { gt: 0, tile: 0, kind: GtKind::Main }];
    info.engines = vec![EngineInfo {
        name: Text::Static("npu"),
        class: EngineClass::Compute,
        instance: Reading::Value(0),
        gt: Reading::Value(0),
    }];
    info.unavailable.push(Unavailable::new("pmu", Why::not_supported("the driver registers no perf PMU")));
    info
}

struct Ivpu {
    info: DeviceInfo,
    live: bool,
    power: PowerFiles,
    busy: Held,
    memory: Held,
    clock: Held,
    highest: Held,
}

pub(super) fn open(context: &Context<'_>, found: Found) -> Box<dyn Device> {
    let file = |name: &str| Held::open(found.device.join(name));
    Box::new(Ivpu {
        info: identify(context, &found),
        live: context.roots.is_live(),
        power: PowerFiles::open(&found.device, found.minor()),
        busy: file(BUSY),
        memory: file(MEMORY),
        clock: file(CLOCK),
        highest: file(HIGHEST),
    })
}

impl Ivpu {
    /// The clock, which the driver gives as 0 while the NPU is not active (`npu_current_frequency_mhz_show`).
    fn clock(&mut self, access: &Access) -> Reading<Clock> {
        if let Access::Withheld(why) = access {
            return why.clone().into();
        }
        match self.clock.number() {
            Ok(0) => Why::ASLEEP.into(),
            Ok(mhz) => Reading::Value(Clock::Now(mhz as f64 * 1e6)),
            Err(why) => why.into(),
        }
    }
}

impl Device for Ivpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn power(&mut self) -> Result<PowerState, Gone> {
        self.power.read()
    }

    fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        if let Reading::Value(engines) = &mut out.engines {
            for engine in engines {
                let busy = self.busy.read(parse_u64);
                let share = |us: u64| Share { part: us.saturating_mul(1000), whole: monotonic_ns() };
                engine.busy = busy.map(share).into();
            }
        }
        for gt in &mut out.gts {
            gt.actual = self.clock(access);
            gt.max_hz = self.highest.megahertz();
        }
        if let Reading::Value(regions) = &mut out.memory {
            regions.iter_mut().for_each(|r| r.used_bytes = self.memory.number().into());
        }
    }

    fn blank(&self) -> DeviceSample {
        let engine = EngineSample {
            name: Text::Static("npu"),
            class: EngineClass::Compute,
            instance: 0,
            gt: Reading::Value(0),
            source: Text::Static(BUSY),
            busy: Why::FIRST_SAMPLE.into(),
            wait: NO_WAITING.into(),
            sema: NO_WAITING.into(),
        };
        let gt = GtSample {
            gt: 0,
            actual: Why::FIRST_SAMPLE.into(),
            requested: NO_REQUEST.into(),
            min_hz: NO_MINIMUM.into(),
            max_hz: Why::FIRST_SAMPLE.into(),
            idle_ns: NO_IDLE.into(),
            throttle: NO_THROTTLE.into(),
        };
        let memory = MemorySample {
            region: Text::Static("memory"),
            total_bytes: NO_SIZE.into(),
            used_bytes: Why::FIRST_SAMPLE.into(),
        };
        DeviceSample {
            id: self.info.id.clone(),
            driver: Text::Static("intel_vpu"),
            live: self.live,
            perturbs: false,
            runtime_status: self.info.runtime_status.clone(),
            engines: Reading::Value(vec![engine]),
            classes: NO_CLASSES.into(),
            gts: vec![gt],
            power: PowerSample::absent(&NO_POWER),
            temperatures: NO_SENSORS.into(),
            fans: NO_SENSORS.into(),
            memory: Reading::Value(vec![memory]),
            bandwidth: BandwidthSample::absent(&NO_BANDWIDTH),
        }
    }

    fn fdinfo(&self) -> FdinfoNeed {
        FdinfoNeed { needed: false, wakes: false, hidden: &[] }
    }

    fn holds_awake(&self) -> bool {
        false
    }

    fn reports(&self) -> Vec<SourceReport> {
        const UNLOCKS: [&str; 4] = [
            "gpuscope_engine_busy_ratio",
            "gpuscope_frequency_actual_hertz",
            "gpuscope_frequency_max_hertz",
            "gpuscope_memory_used_bytes",
        ];
        let files = [(BUSY, &self.busy), (CLOCK, &self.clock), (HIGHEST, &self.highest), (MEMORY, &self.memory)];
        let there: Vec<&str> = files.iter().filter(|(_, file)| file.is_open()).map(|(name, _)| *name).collect();
        let id = Some(&self.info.id);
        let report = match self.busy.why() {
            Some(why) if there.is_empty() => SourceReport::absent("NPU files", id, why.clone()),
            _ => SourceReport::works("NPU files", id, format!("{}, which wake nothing", there.join(", "))),
        };
        vec![report.unlocks(&UNLOCKS)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;
    use crate::{GpuSet, Options};
    use gpuscope_model::{ClientKey, Sample};

    const DEVICE: &str = "sys/devices/pci0000:00/0000:00:0b.0";

    /// Files as drivers/accel/ivpu/ivpu_sysfs.c prints them; `uevent` by `pci_uevent` (drivers/pci/pci-driver.c).
    fn npu() -> Tree {
        let tree = Tree::new();
        let uevent = "DRIVER=intel_vpu\nPCI_CLASS=120000\nPCI_ID=8086:7D1D\nPCI_SLOT_NAME=0000:00:0b.0\n";
        tree.files(
            DEVICE,
            &[
                ("uevent", uevent),
                ("vendor", "0x8086\n"),
                ("device", "0x7d1d\n"),
                ("power/runtime_status", "active\n"),
                ("power/control", "auto\n"),
                (BUSY, "2500000\n"),
                (MEMORY, "134217728\n"),
                (CLOCK, "1400\n"),
                (HIGHEST, "1400\n"),
            ],
        )
        .link(&format!("{DEVICE}/driver"), "../../../bus/pci/drivers/intel_vpu")
        .file(&format!("{DEVICE}/accel/accel0/dev"), "261:0\n")
        .link(&format!("{DEVICE}/accel/accel0/device"), "../..")
        .link("sys/class/accel/accel0", "../../devices/pci0000:00/0000:00:0b.0/accel/accel0");
        tree
    }

    fn reason<T>(reading: &Reading<T>) -> Option<Reason> {
        reading.why().map(|why| why.reason)
    }

    #[test]
    fn an_npu_is_found_by_its_accelerator_node() {
        let tree = npu();
        let found = crate::discover::find(&tree.roots()).remove(0);
        assert_eq!(found.nodes, [(261, 0)]);
        let info = crate::list(&tree.roots()).remove(0);
        assert_eq!((info.id.as_str(), info.name.as_str()), ("0000:00:0b.0", "Intel accelerator 8086:7d1d"));
        assert_eq!((info.accel.as_deref(), info.card), (Some("/dev/accel/accel0"), None));
    }

    #[test]
    fn every_value_equals_its_file() {
        let tree = npu();
        let mut device = tree.open(&Options::default());
        let mut sample = device.blank();
        device.sample(&Access::Allowed, &mut sample);
        assert_eq!(sample.engines.value().unwrap()[0].busy.get().unwrap().part, 2_500_000_000);
        assert_eq!(sample.gts[0].actual, Reading::Value(Clock::Now(1.4e9)));
        assert_eq!(sample.gts[0].max_hz, Reading::Value(1.4e9));
        assert_eq!(sample.memory.value().unwrap()[0].used_bytes, Reading::Value(128 << 20));
        assert!(device.reports()[0].detail.contains(BUSY));
        // 0 MHz stands for an NPU that is not active.
        tree.file(&format!("{DEVICE}/{CLOCK}"), "0\n");
        device.sample(&Access::Allowed, &mut sample);
        assert_eq!(reason(&sample.gts[0].actual), Some(Reason::Asleep));
        device.sample(&Access::Withheld(Why::new(Reason::NotCounting, "left alone")), &mut sample);
        assert_eq!(reason(&sample.gts[0].actual), Some(Reason::NotCounting));
        assert!(sample.engines.value().unwrap()[0].busy.is_known());
    }

    #[test]
    fn an_older_kernel_without_the_files_says_so() {
        let tree = npu();
        for name in [BUSY, MEMORY, CLOCK, HIGHEST] {
            std::fs::remove_file(tree.path(&format!("{DEVICE}/{name}"))).unwrap();
        }
        let mut device = tree.open(&Options::default());
        let mut sample = device.blank();
        device.sample(&Access::Allowed, &mut sample);
        assert_eq!(reason(&sample.engines.value().unwrap()[0].busy), Some(Reason::NotSupported));
        assert_eq!(reason(&sample.gts[0].actual), Some(Reason::NotSupported));
        assert_eq!(device.reports()[0].status.as_str(), "not_supported");
    }

    /// fdinfo as `drm_show_fdinfo` and `drm_show_memory_stats` (drivers/gpu/drm/drm_file.c) print it, which is all that ivpu prints.
    #[test]
    fn clients_have_memory_and_no_engines() {
        let tree = npu();
        tree.file("proc/500/stat", "500 (python3) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n").file(
            "proc/500/fdinfo/7",
            "pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t1234\ndrm-driver:\tintel_vpu\ndrm-client-id:\t77\n\
             drm-pdev:\t0000:00:0b.0\ndrm-total-memory:\t128 MiB\ndrm-shared-memory:\t0\ndrm-active-memory:\t0\n\
             drm-resident-memory:\t64 MiB\ndrm-purgeable-memory:\t0\n",
        );
        let mut set = GpuSet::open(tree.roots(), Options { clients: true, ..Options::default() });
        let mut sample = Sample::default();
        set.sample(&mut sample);
        let [client] = &sample.clients.clients[..] else { panic!("{:?}", sample.clients) };
        assert_eq!((client.key, client.pid, client.gpu.as_str()), (ClientKey::Drm(77), 500, "0000:00:0b.0"));
        assert!(client.engines.is_empty() && sample.clients.gaps.is_empty());
        assert_eq!(client.memory[0].resident_bytes, Reading::Value(64 << 20));
    }
}
