//! What i915 and xe have in common: what an integrated and a discrete Intel GPU lack.

use crate::hwmon::Hwmon;
use gpuscope_model::{
    BandwidthSample, DeviceInfo, DeviceSample, EngineClass, EngineInfo, EngineSample, GtSample, MemorySample,
    PowerSample, Reading, Reason, SourceReport, Text, Why,
};

/// The names of the metrics that engine counts unlock.
pub(super) const ENGINE_METRICS: [&str; 2] = ["gpuscope_engine_busy_ratio", "gpuscope_class_busy_ratio"];

/// The names of the metrics that a GT's files unlock.
pub(super) const GT_METRICS: [&str; 6] = [
    "gpuscope_frequency_actual_hertz",
    "gpuscope_frequency_requested_hertz",
    "gpuscope_frequency_min_hertz",
    "gpuscope_frequency_max_hertz",
    "gpuscope_throttled",
    "gpuscope_rc6_residency_ratio",
];

/// The place of a class in the drivers' order.
pub(super) fn class_order(class: EngineClass) -> u8 {
    match class {
        EngineClass::Render => 0,
        EngineClass::Copy => 1,
        EngineClass::Video => 2,
        EngineClass::VideoEnhance => 3,
        EngineClass::Compute => 4,
        EngineClass::Other => 5,
    }
}

/// Whether the GPU is known to be a card of its own.
pub(super) fn is_discrete(info: &DeviceInfo) -> bool {
    info.integrated.get() == Some(false)
}

const NOT_THE_PROCESSORS: Why = Why {
    reason: Reason::NoHardware,
    detail: gpuscope_model::Text::Static("this is a discrete GPU: RAPL measures the processor's package"),
    remedy: None,
};

const NO_CARD: Why = Why {
    reason: Reason::NoHardware,
    detail: gpuscope_model::Text::Static("an integrated GPU has no card of its own"),
    remedy: None,
};

const VIRTUAL: Why = Why {
    reason: Reason::NotSupported,
    detail: gpuscope_model::Text::Static(
        "a virtual function: what the processor's package uses is shown with the physical one",
    ),
    remedy: None,
};

/// One engine that the PMU counts, before its first reading; `waiting` is why wait and sema are absent.
pub(super) fn blank_engine(engine: &EngineInfo, waiting: &Why) -> EngineSample {
    EngineSample {
        name: engine.name.clone(),
        class: engine.class,
        instance: engine.instance.get().unwrap_or(0),
        gt: engine.gt.clone(),
        source: Text::Static("pmu"),
        busy: Why::FIRST_SAMPLE.into(),
        wait: waiting.clone().into(),
        sema: waiting.clone().into(),
    }
}

/// A sample with every entry laid out and nothing read. `fdinfo`: engine classes are summed over the DRM clients.
pub(super) fn blank(
    info: &DeviceInfo,
    driver: &'static str,
    live: bool,
    engines: Reading<Vec<EngineSample>>,
    fdinfo: bool,
    hwmon: &Hwmon,
) -> DeviceSample {
    let discrete = is_discrete(info);
    let gts = info.gts.iter().map(|gt| GtSample {
        gt: gt.gt,
        actual: Why::FIRST_SAMPLE.into(),
        requested: Why::FIRST_SAMPLE.into(),
        min_hz: Why::FIRST_SAMPLE.into(),
        max_hz: Why::FIRST_SAMPLE.into(),
        idle_ns: Why::FIRST_SAMPLE.into(),
        throttle: Why::FIRST_SAMPLE.into(),
    });
    let mut power = blank_power(info);
    if discrete {
        hwmon.blank_power(&mut power);
    }
    DeviceSample {
        id: info.id.clone(),
        driver: Text::Static(driver),
        live,
        perturbs: false,
        runtime_status: info.runtime_status.clone(),
        engines,
        classes: if fdinfo {
            Why::FIRST_SAMPLE.into()
        } else {
            Reading::absent(Reason::NotCounting, "the PMU counts engines by instance: fdinfo is not read")
        },
        gts: gts.collect(),
        power,
        temperatures: hwmon.blank_temperatures(),
        fans: hwmon.blank_fans(),
        memory: blank_memory(discrete),
        bandwidth: blank_bandwidth(info),
    }
}

/// Lays out anew the lists of a sample that does not have this device's engines and GTs.
pub(super) fn align(out: &mut DeviceSample, engines: usize, gts: usize, blank: impl FnOnce() -> DeviceSample) {
    if out.engines.value().map_or(0, Vec::len) == engines && out.gts.len() == gts {
        return;
    }
    let blank = blank();
    out.engines = blank.engines;
    out.gts = blank.gts;
    out.temperatures = blank.temperatures;
    out.fans = blank.fans;
}

/// Energy as far as it is known without reading: hwmon fills a card's, the owner of RAPL an integrated GPU's.
pub(super) fn blank_power(info: &DeviceInfo) -> PowerSample {
    if is_discrete(info) {
        // The register has 32 bits of 2^-14 J, and the driver adds it up at its own readings only (hwm_energy, xe_hwmon_energy_get): one
        // turn lasts 4.4 minutes at 1000 W.
        const TURN_NS: u64 = 240_000_000_000;
        let power = PowerSample::absent(&NOT_THE_PROCESSORS);
        return PowerSample { longest_gap_ns: Some(TURN_NS), ..power };
    }
    if info.sriov.is_virtual() {
        return PowerSample::absent(&VIRTUAL);
    }
    PowerSample { card_uj: NO_CARD.into(), ..PowerSample::absent(&Why::FIRST_SAMPLE) }
}

/// Memory controller traffic: the machine's, filled in by its owner for an integrated GPU.
pub(super) fn blank_bandwidth(info: &DeviceInfo) -> BandwidthSample {
    let why = if info.sriov.is_virtual() {
        VIRTUAL
    } else if is_discrete(info) {
        Why::new(
            Reason::NoHardware,
            "this is a discrete GPU: the processor's memory controllers do not serve its memory",
        )
    } else {
        Why::FIRST_SAMPLE
    };
    BandwidthSample::absent(&why)
}

/// Device memory, which this version does not ask for: the queries are ioctls on the DRM node.
pub(super) fn blank_memory(discrete: bool) -> Reading<Vec<MemorySample>> {
    if discrete {
        Reading::absent(Reason::NotSupported, "device memory totals come in a later version")
    } else {
        Reading::absent(Reason::NoHardware, "an integrated GPU has no memory of its own")
    }
}

/// Why there is no hwmon device.
pub(super) fn no_hwmon(discrete: bool) -> Why {
    if discrete {
        Why::new(
            Reason::NotSupported,
            "the driver has no hwmon device: the kernel is too old for this GPU, or built without hwmon",
        )
    } else {
        Why::new(Reason::NotSupported, "the driver has hwmon sensors for discrete GPUs only")
    }
}

/// One report a GT.
pub(super) fn gt_report(info: &DeviceInfo, gt: u8, works: bool, detail: String, why: Why) -> SourceReport {
    let source = format!("GT {gt} frequency and idle files");
    SourceReport::of(source, Some(&info.id), if works { Ok(detail) } else { Err(why) }).unlocks(&GT_METRICS)
}
