//! From gpuscope's model to this crate's stable face: units to MHz and percent, absence to `None` plus an entry that says why.

use crate::GpuInfo;
use crate::stats::{
    EngineInstance, EngineStats, EngineUtilization, FanStats, FrequencyStats, GpuStats, GtStats, PowerStats, Rc6Stats,
    Reason, SystemMemoryBandwidth, TemperatureStats, Unavailable,
};
use gpuscope_model as model;
use gpuscope_model::{EngineClass, Reading, Snapshot, Why};
use std::time::{Duration, Instant, SystemTime};

impl From<model::Reason> for Reason {
    fn from(r: model::Reason) -> Self {
        match r {
            model::Reason::NoHardware => Reason::NoHardware,
            model::Reason::NoPermission => Reason::NoPermission,
            model::Reason::NotSupported => Reason::NotSupported,
            model::Reason::Asleep => Reason::Asleep,
            model::Reason::NotCounting => Reason::NotCounting,
            model::Reason::Busy => Reason::Busy,
            model::Reason::FirstSample => Reason::FirstSample,
            model::Reason::Gone => Reason::Gone,
            model::Reason::Failed => Reason::Failed,
        }
    }
}

impl From<Reason> for model::Reason {
    fn from(r: Reason) -> Self {
        match r {
            Reason::NoHardware => model::Reason::NoHardware,
            Reason::NoPermission => model::Reason::NoPermission,
            Reason::NotSupported => model::Reason::NotSupported,
            Reason::Asleep => model::Reason::Asleep,
            Reason::NotCounting => model::Reason::NotCounting,
            Reason::Busy => model::Reason::Busy,
            Reason::FirstSample => model::Reason::FirstSample,
            Reason::Gone => model::Reason::Gone,
            Reason::Failed => model::Reason::Failed,
        }
    }
}

/// The face of a device's identity.
pub(crate) fn info(d: &model::DeviceInfo) -> GpuInfo {
    GpuInfo {
        id: d.id.to_string(),
        name: d.name.clone(),
        driver: d.driver.clone(),
        device_id: d.pci_id.map(|p| p.device),
        card: d.card.clone(),
        render: d.render.clone(),
        integrated: d.integrated.get(),
        virtual_function: d.sriov.is_virtual(),
        gt_count: d.gts.len(),
    }
}

/// Collects what is missing while the values are taken.
struct Missing(Vec<Unavailable>);

impl Missing {
    fn note(&mut self, metric: impl FnOnce() -> String, why: &Why) {
        self.0.push(Unavailable {
            metric: metric(),
            reason: why.reason.into(),
            detail: why.detail.to_string(),
            remedy: why.remedy.as_deref().map(for_embedders),
        });
    }

    fn take<T: Copy>(&mut self, r: &Reading<T>, metric: impl FnOnce() -> String) -> Option<T> {
        match r {
            Reading::Value(v) => Some(*v),
            Reading::Absent(why) => {
                self.note(metric, why);
                None
            }
        }
    }
}

/// A remedy as the user of a program that embeds this crate can follow it.
///
/// The model's remedies are worded for the tool: they name its binary and its options. Here the binary is the program that runs, and
/// the options are the builder's, for the program's author.
fn for_embedders(remedy: &str) -> String {
    let program = std::env::current_exe().ok().and_then(|p| p.to_str().map(str::to_string));
    let program = program.as_deref().unwrap_or("PROGRAM");
    remedy
        .replace("$(command -v gpuscope)", program)
        .replace("sudo gpuscope", &format!("sudo {program}"))
        .replace("run gpuscope ", "run it ")
        .replace("--perturbing", "Builder::perturbing_sources(true)")
        .replace("--pmu-frequency", "Builder::pmu_frequency(true)")
        .replace("--wait", "Builder::wait(true)")
        .replace("--sema", "Builder::sema(true)")
}

fn percent(ratio: f64) -> f64 {
    // The kernel adds busy time in steps, so a full engine may come out a hair above 1.
    (ratio * 100.0).clamp(0.0, 100.0)
}

const MHZ: f64 = 1e6;

/// The face of one device of a snapshot; `None` when the device is not in it.
pub(crate) fn stats(snapshot: &Snapshot, id: &model::GpuId) -> Option<GpuStats> {
    let d = snapshot.gpus.iter().find(|g| &g.id == id)?;
    let mut missing = Missing(Vec::new());
    let engines = engines(d, &mut missing);
    let gts: Vec<GtStats> = d.gts.iter().map(|g| gt(g, &mut missing)).collect();
    let power = PowerStats {
        gpu_watts: missing.take(&d.power.gpu_watts, || "power.gpu_watts".into()),
        card_watts: missing.take(&d.power.card_watts, || "power.card_watts".into()),
        package_watts: missing.take(&d.power.package_watts, || "power.package_watts".into()),
        psys_watts: missing.take(&d.power.psys_watts, || "power.psys_watts".into()),
    };
    let mut temperatures = Vec::new();
    match &d.temperatures {
        Reading::Absent(why) => missing.note(|| "temperatures".into(), why),
        Reading::Value(all) => temperatures.extend(all.iter().map(|t| TemperatureStats {
            label: t.label.to_string(),
            celsius: missing.take(&t.celsius, || format!("temperatures[{}]", t.label)),
        })),
    }
    let mut fans = Vec::new();
    match &d.fans {
        Reading::Absent(why) => missing.note(|| "fans".into(), why),
        Reading::Value(all) => fans.extend(all.iter().map(|f| FanStats {
            label: f.label.to_string(),
            rpm: missing.take(&f.rpm, || format!("fans[{}]", f.label)),
        })),
    }
    let read = missing.take(&d.bandwidth.read_bytes_per_second, || "system_memory_bandwidth".into());
    let system_memory_bandwidth = match (read, &d.bandwidth.write_bytes_per_second) {
        (Some(read), Reading::Value(write)) => {
            Some(SystemMemoryBandwidth { read_bytes_per_second: read, write_bytes_per_second: *write })
        }
        (Some(_), Reading::Absent(why)) => {
            missing.note(|| "system_memory_bandwidth".into(), why);
            None
        }
        (None, _) => None,
    };
    // The three clocks name one moment: the start of the reading, some microseconds ago.
    let ago = Duration::from_nanos(gpuscope_sys::monotonic_ns().saturating_sub(snapshot.at_ns));
    let (now, wall) = (Instant::now(), SystemTime::now());
    Some(GpuStats {
        timestamp: now.checked_sub(ago).unwrap_or(now),
        monotonic_ns: snapshot.at_ns,
        time: wall.checked_sub(ago).unwrap_or(wall),
        interval_seconds: snapshot.interval_ns.map(|ns| ns as f64 / 1e9),
        runtime_status: missing.take(&d.runtime_status, || "runtime_status".into()).map(model::RuntimeStatus::as_str),
        perturbs: d.perturbs,
        engines,
        frequency: gts.first().map(|g| g.frequency).unwrap_or_default(),
        rc6: gts.first().and_then(|g| g.rc6),
        gts,
        power: (power != PowerStats::default()).then_some(power),
        temperatures,
        fans,
        system_memory_bandwidth,
        unavailable: missing.0,
    })
}

/// What is handed over once when the device went away: nothing is known, and why.
pub(crate) fn gone(snapshot: &Snapshot, id: &model::GpuId) -> GpuStats {
    const FIELDS: [&str; 12] = [
        "engines.instances",
        "engines.render",
        "engines.video",
        "engines.video_enhance",
        "engines.blitter",
        "engines.compute",
        "frequency",
        "rc6",
        "power",
        "temperatures",
        "fans",
        "system_memory_bandwidth",
    ];
    let why = Why::new(model::Reason::Gone, format!("{id}: the GPU is gone (unplugged, or unbound from its driver)"));
    let mut missing = Missing(Vec::new());
    for field in FIELDS.iter().chain(&["runtime_status"]) {
        missing.note(|| (*field).to_string(), &why);
    }
    GpuStats {
        timestamp: Instant::now(),
        monotonic_ns: snapshot.at_ns,
        time: SystemTime::now(),
        interval_seconds: snapshot.interval_ns.map(|ns| ns as f64 / 1e9),
        runtime_status: None,
        perturbs: false,
        engines: EngineStats::default(),
        frequency: FrequencyStats::default(),
        rc6: None,
        gts: Vec::new(),
        power: None,
        temperatures: Vec::new(),
        fans: Vec::new(),
        system_memory_bandwidth: None,
        unavailable: missing.0,
    }
}

fn engines(d: &model::DeviceSnapshot, missing: &mut Missing) -> EngineStats {
    let mut out = EngineStats::default();
    match &d.engines {
        Reading::Absent(why) => missing.note(|| "engines.instances".into(), why),
        Reading::Value(engines) => {
            for e in engines {
                let path = |field: &str| format!("engines.instances[{}].{field}", e.name);
                let busy = missing.take(&e.busy_ratio, || path("busy_percent"));
                let wait = missing.take(&e.wait_ratio, || path("wait_percent"));
                let sema = missing.take(&e.sema_ratio, || path("sema_percent"));
                out.instances.push(EngineInstance {
                    name: e.name.to_string(),
                    class: e.class.as_str(),
                    instance: e.instance,
                    gt: missing.take(&e.gt, || path("gt")),
                    utilization: busy.map(|busy| EngineUtilization {
                        busy_percent: percent(busy),
                        wait_percent: wait.map(percent),
                        sema_percent: sema.map(percent),
                    }),
                });
            }
        }
    }
    match &d.classes {
        Reading::Absent(why) => {
            for class in ["render", "video", "video_enhance", "blitter", "compute"] {
                missing.note(|| format!("engines.{class}"), why);
            }
        }
        Reading::Value(classes) => {
            for c in classes {
                let (slot, name) = match c.class {
                    EngineClass::Render => (&mut out.render, "render"),
                    EngineClass::Video => (&mut out.video, "video"),
                    EngineClass::VideoEnhance => (&mut out.video_enhance, "video_enhance"),
                    EngineClass::Copy => (&mut out.blitter, "blitter"),
                    EngineClass::Compute => (&mut out.compute, "compute"),
                    EngineClass::Other => continue,
                };
                let of_class = |pick: fn(&EngineUtilization) -> Option<f64>| mean(&out.instances, c.class, pick);
                let (wait, sema) = (of_class(|u| u.wait_percent), of_class(|u| u.sema_percent));
                *slot = missing.take(&c.busy_ratio, || format!("engines.{name}")).map(|busy| EngineUtilization {
                    busy_percent: percent(busy),
                    wait_percent: wait,
                    sema_percent: sema,
                });
            }
        }
    }
    out
}

/// Mean of a value over the engines of a class; `None` unless it is known of all.
fn mean(engines: &[EngineInstance], class: EngineClass, pick: fn(&EngineUtilization) -> Option<f64>) -> Option<f64> {
    let all: Option<Vec<f64>> =
        engines.iter().filter(|e| e.class == class.as_str()).map(|e| e.utilization.as_ref().and_then(pick)).collect();
    let all = all.filter(|v| !v.is_empty())?;
    Some(all.iter().sum::<f64>() / all.len() as f64)
}

fn gt(g: &model::GtSnapshot, missing: &mut Missing) -> GtStats {
    let path = |field: &str| format!("gts[{}].{field}", g.gt);
    let mut mhz = |r: &Reading<f64>, field: &str| missing.take(r, || path(field)).map(|hz| hz / MHZ);
    let frequency = FrequencyStats {
        actual_mhz: mhz(&g.actual_hz, "frequency.actual_mhz"),
        requested_mhz: mhz(&g.requested_hz, "frequency.requested_mhz"),
        min_mhz: mhz(&g.min_hz, "frequency.min_mhz"),
        max_mhz: mhz(&g.max_hz, "frequency.max_mhz"),
    };
    GtStats {
        gt: g.gt,
        frequency,
        rc6: missing.take(&g.idle_ratio, || path("rc6")).map(|r| Rc6Stats { residency_percent: percent(r) }),
        throttle: missing
            .take(&g.throttle, || path("throttle"))
            .map(|set| set.iter().map(model::ThrottleReason::as_str).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_name_the_program_that_runs_and_the_builder() {
        let text = for_embedders("sudo setcap cap_perfmon=ep $(command -v gpuscope); or run as root: sudo gpuscope");
        assert!(!text.contains("gpuscope)") && !text.contains("sudo gpuscope"), "{text}");
        assert!(text.contains(std::env::current_exe().unwrap().to_str().unwrap()), "{text}");
        assert_eq!(for_embedders("ask for them: --wait"), "ask for them: Builder::wait(true)");
    }
}
