//! The values.

use gpuscope_model::EngineClass;
use std::fmt;
use std::time::{Instant, SystemTime};

/// Use of an engine, or of all engines of a class together, over the interval: percent of its time, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EngineUtilization {
    /// Executing.
    pub busy_percent: f64,
    /// Waiting for an event; known only when [`Builder::wait`](crate::Builder::wait) asked for it, on i915.
    pub wait_percent: Option<f64>,
    /// Waiting for a semaphore; known only when [`Builder::sema`](crate::Builder::sema) asked for it, on i915.
    pub sema_percent: Option<f64>,
}

/// One engine: `vcs0`, `rcs0`, …
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EngineInstance {
    /// The driver's short name.
    pub name: String,
    /// Class in words: `render`, `copy`, `video`, `video_enhance`, `compute`, `other`.
    pub class: &'static str,
    /// Instance within its class.
    pub instance: u16,
    /// GT that holds it, where known.
    pub gt: Option<u8>,
    /// Its use, where known.
    pub utilization: Option<EngineUtilization>,
}

/// Use of the engines.
///
/// Per class: percent of the capacity of all its engines. A class that the GPU does not have is `None` too, without an entry in
/// [`GpuStats::unavailable`].
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EngineStats {
    /// 3D (RCS).
    pub render: Option<EngineUtilization>,
    /// Video decode **and** encode (VCS): Quick Sync load.
    pub video: Option<EngineUtilization>,
    /// Scaling, denoising, colour conversion (VECS).
    pub video_enhance: Option<EngineUtilization>,
    /// Copies (BCS).
    pub blitter: Option<EngineUtilization>,
    /// Compute only (CCS; Arc and later).
    pub compute: Option<EngineUtilization>,
    /// Every engine. Empty where only classes are counted: on xe, unless perturbing sources were asked for.
    pub instances: Vec<EngineInstance>,
}

impl EngineStats {
    /// The video engines (VCS), which decode and encode: Quick Sync load per instance.
    pub fn video_instances(&self) -> impl Iterator<Item = &EngineInstance> {
        self.instances.iter().filter(|e| e.class == EngineClass::Video.as_str())
    }
}

/// Frequencies of a GT, in MHz.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FrequencyStats {
    /// At which it runs; 0 while it is idle in RC6.
    pub actual_mhz: Option<f64>,
    /// Which the driver or firmware asked for.
    pub requested_mhz: Option<f64>,
    /// Lower limit in force.
    pub min_mhz: Option<f64>,
    /// Upper limit in force.
    pub max_mhz: Option<f64>,
}

/// Time in RC6 (xe: C6), the power-saving state of an idle GT.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rc6Stats {
    /// Percent of the interval.
    pub residency_percent: f64,
}

/// One GT.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GtStats {
    /// Its number.
    pub gt: u8,
    /// Its frequencies.
    pub frequency: FrequencyStats,
    /// Its idle residency, where known.
    pub rc6: Option<Rc6Stats>,
    /// What limits its frequency now: empty means nothing does; `None` means not known. Words: `pl1`, `pl2`, `pl4`, `thermal`,
    /// `prochot`, `ratl`, `vr_thermalert`, `vr_tdc`, `other`.
    pub throttle: Option<Vec<&'static str>>,
}

/// Mean power over the interval, in watts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PowerStats {
    /// The GPU alone (integrated GPUs of client processors, RAPL).
    pub gpu_watts: Option<f64>,
    /// The whole card (discrete, hwmon).
    pub card_watts: Option<f64>,
    /// The package that holds the GPU: the processor's (integrated) or the card's (discrete).
    pub package_watts: Option<f64>,
    /// The whole platform (RAPL psys).
    pub psys_watts: Option<f64>,
}

/// A temperature.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TemperatureStats {
    /// The driver's label: `pkg`, `vram`, …
    pub label: String,
    /// Degrees Celsius, where it could be read.
    pub celsius: Option<f64>,
}

/// A fan.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FanStats {
    /// `fan1`, `fan2`, …
    pub label: String,
    /// Revolutions a minute, where it could be read.
    pub rpm: Option<f64>,
}

/// Traffic over the processor's memory controllers: the whole machine's, an integrated GPU's part included.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SystemMemoryBandwidth {
    /// Bytes a second read.
    pub read_bytes_per_second: f64,
    /// Bytes a second written.
    pub write_bytes_per_second: f64,
}

/// Why a value is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reason {
    /// The machine or GPU does not have it.
    NoHardware,
    /// Reading it was refused.
    NoPermission,
    /// The driver or kernel at hand does not offer it.
    NotSupported,
    /// The GPU sleeps, and reading it would wake it.
    Asleep,
    /// The source is not counting, or was left alone on purpose.
    NotCounting,
    /// Somebody else holds the source.
    Busy,
    /// A rate needs two readings.
    FirstSample,
    /// The GPU went away.
    Gone,
    /// Reading failed in an unexpected way.
    Failed,
}

impl Reason {
    /// The word that gpuscope's JSON carries.
    pub fn as_str(self) -> &'static str {
        gpuscope_model::Reason::from(self).as_str()
    }
}

/// A value that is missing, why, and the remedy.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Unavailable {
    /// Path of the field: `engines.video`, `engines.instances[vcs0].busy_percent`, `power.card_watts`, `gts[1].rc6`, …
    pub metric: String,
    /// Why, as a program tells it apart.
    pub reason: Reason,
    /// Why, as a person reads it.
    pub detail: String,
    /// What to do, when something can be done.
    pub remedy: Option<String>,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.metric, self.reason.as_str(), self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Everything about one GPU over one interval.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GpuStats {
    /// When the values were taken, on Rust's clock.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub timestamp: Instant,
    /// The same moment as CLOCK_MONOTONIC in nanoseconds: one clock with traces and other tools.
    pub monotonic_ns: u64,
    /// The same moment as wall time.
    pub time: SystemTime,
    /// Seconds since the reading before; `None` for the first.
    pub interval_seconds: Option<f64>,
    /// Whether the GPU was awake, in the kernel's word: `active`, `suspended`, …
    pub runtime_status: Option<&'static str>,
    /// Whether the sources that were asked for keep the GPU from sleeping, its GT from C6, or a kernel timer running.
    pub perturbs: bool,
    /// Use of the engines.
    pub engines: EngineStats,
    /// Frequencies of the first GT; see [`gts`](Self::gts) for all.
    pub frequency: FrequencyStats,
    /// Idle residency of the first GT, where known.
    pub rc6: Option<Rc6Stats>,
    /// Every GT.
    pub gts: Vec<GtStats>,
    /// Power, where any of it is known.
    pub power: Option<PowerStats>,
    /// Temperatures; empty when none is known.
    pub temperatures: Vec<TemperatureStats>,
    /// Fans; empty when none is known.
    pub fans: Vec<FanStats>,
    /// Memory traffic of the machine, where known.
    pub system_memory_bandwidth: Option<SystemMemoryBandwidth>,
    /// What is missing, and why.
    pub unavailable: Vec<Unavailable>,
}

impl GpuStats {
    /// Why a field is missing: the entry whose path is `metric`, or the first that lies under it.
    ///
    /// `stats.why("engines.video")` answers for the class; `stats.why("engines")` for the first engine value that is missing.
    pub fn why(&self, metric: &str) -> Option<&Unavailable> {
        self.entry(metric).or_else(|| {
            // What stands for the first GT, and for a class of engines, is listed under these.
            if metric.starts_with("frequency") || metric.starts_with("rc6") {
                return self.entry(&format!("gts[{}].{metric}", self.gts.first()?.gt));
            }
            let (class, field) = metric.strip_prefix("engines.")?.split_once('.')?;
            let class = if class == "blitter" { "copy" } else { class };
            let engine = self.engines.instances.iter().find(|e| e.class == class)?;
            self.entry(&format!("engines.instances[{}].{field}", engine.name))
        })
    }

    fn entry(&self, metric: &str) -> Option<&Unavailable> {
        self.unavailable.iter().find(|u| u.metric == metric).or_else(|| {
            self.unavailable.iter().find(|u| {
                u.metric.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['.', '[']))
                    || metric.strip_prefix(u.metric.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
            })
        })
    }
}
