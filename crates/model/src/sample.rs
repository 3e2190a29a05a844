//! What the kernel said: raw and cumulative, each counter with the time at which it was read.

use crate::{ClientsSample, EngineClass, GpuId, Reading, RuntimeStatus, Text, ThrottleReasons, Why};

/// A cumulative value and the time of its reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The counter, in the unit that the field's name says.
    pub value: u64,
    /// CLOCK_MONOTONIC at the reading, in nanoseconds.
    pub at_ns: u64,
}

/// A cumulative part of a cumulative whole, both in one unit: busy nanoseconds of enabled nanoseconds, active ticks of all ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The part.
    pub part: u64,
    /// The whole.
    pub whole: u64,
}

/// A clock frequency as its source gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clock {
    /// The frequency at the moment of reading, in hertz.
    Now(f64),
    /// Cumulative millions of cycles: the i915 PMU's frequency events (drivers/gpu/drm/i915/i915_pmu.c), which stand still while
    /// the GT is parked.
    Megacycles(Counter),
}

/// One engine instance.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSample {
    /// The driver's short name: `vcs0`.
    pub name: Text,
    /// Class of work.
    pub class: EngineClass,
    /// Instance within its class.
    pub instance: u16,
    /// GT that holds the engine.
    pub gt: Reading<u8>,
    /// Where the values come from: `pmu`.
    pub source: Text,
    /// Time executing.
    pub busy: Reading<Share>,
    /// Time waiting for an event (MI_WAIT_FOR_EVENT).
    pub wait: Reading<Share>,
    /// Time waiting for a semaphore.
    pub sema: Reading<Share>,
}

/// All engines of one class together, as DRM fdinfo counts.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSample {
    /// Class of work.
    pub class: EngineClass,
    /// The driver's word where `class` is [`EngineClass::Other`], else the model's.
    pub name: Text,
    /// Number of engines of the class.
    pub capacity: Reading<u32>,
    /// Engine time of all clients since the first sample (nanoseconds), of all the time since then, times `capacity`.
    pub busy: Reading<Share>,
}

/// One GT.
#[derive(Clone, Debug, PartialEq)]
pub struct GtSample {
    /// GT number.
    pub gt: u8,
    /// Real frequency. 0 while the GT is idle in RC6.
    pub actual: Reading<Clock>,
    /// Frequency that the driver asked for.
    pub requested: Reading<Clock>,
    /// Lower limit in force, in hertz.
    pub min_hz: Reading<f64>,
    /// Upper limit in force, in hertz.
    pub max_hz: Reading<f64>,
    /// Time in RC6 (xe: C6), in nanoseconds.
    pub idle_ns: Reading<Counter>,
    /// What limits the frequency now.
    pub throttle: Reading<ThrottleReasons>,
}

/// Cumulative energy of the power domains, in microjoules.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerSample {
    /// The GPU alone: RAPL's `energy-gpu` (integrated), absent for discrete GPUs.
    pub gpu_uj: Reading<Counter>,
    /// The whole card (discrete).
    pub card_uj: Reading<Counter>,
    /// The processor package that holds an integrated GPU, or the GPU package of a card.
    pub package_uj: Reading<Counter>,
    /// The whole platform (RAPL psys).
    pub psys_uj: Reading<Counter>,
    /// Time between two readings over which these counters can be trusted: a longer one may hide a turn of the hardware's counter. `None`
    /// where the kernel keeps count by itself.
    pub longest_gap_ns: Option<u64>,
}

impl PowerSample {
    /// Energy of no domain, for one reason.
    pub fn absent(why: &Why) -> Self {
        let none = || Reading::Absent(why.clone());
        PowerSample { gpu_uj: none(), card_uj: none(), package_uj: none(), psys_uj: none(), longest_gap_ns: None }
    }
}

/// A temperature sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TemperatureSample {
    /// The driver's label: `pkg`, `vram`, or `gpu` where the driver has one sensor without a label.
    pub label: Text,
    /// Degrees Celsius.
    pub celsius: Reading<f64>,
}

/// A fan.
#[derive(Clone, Debug, PartialEq)]
pub struct FanSample {
    /// `fan1`, `fan2`, …
    pub label: Text,
    /// Revolutions a minute.
    pub rpm: Reading<f64>,
}

/// A memory region of the device.
#[derive(Clone, Debug, PartialEq)]
pub struct MemorySample {
    /// Region: `vram`, `vram0`, `gtt`, …
    pub region: Text,
    /// Size in bytes.
    pub total_bytes: Reading<u64>,
    /// Used bytes.
    pub used_bytes: Reading<u64>,
}

/// Cumulative bytes over the memory controllers of the processor: the whole machine's traffic, the GPU's part included.
#[derive(Clone, Debug, PartialEq)]
pub struct BandwidthSample {
    /// Bytes read.
    pub read_bytes: Reading<Counter>,
    /// Bytes written.
    pub write_bytes: Reading<Counter>,
}

impl BandwidthSample {
    /// No traffic known, for one reason.
    pub fn absent(why: &Why) -> Self {
        BandwidthSample { read_bytes: why.clone().into(), write_bytes: why.clone().into() }
    }
}

/// Everything the kernel said about one GPU at one tick.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSample {
    /// The device.
    pub id: GpuId,
    /// Its driver.
    pub driver: Text,
    /// Whether a running kernel answered. In a captured tree counters stand still and give no rate.
    pub live: bool,
    /// Whether sources that were asked for keep the GPU from sleeping, its GT from C6, or a kernel timer running.
    pub perturbs: bool,
    /// Runtime power state, read before anything that wakes.
    pub runtime_status: Reading<RuntimeStatus>,
    /// Engine instances; absent as a whole where no source counts instances.
    pub engines: Reading<Vec<EngineSample>>,
    /// Engine classes; absent as a whole where the source is not in use.
    pub classes: Reading<Vec<ClassSample>>,
    /// GTs, in the order of [`DeviceInfo::gts`](crate::DeviceInfo::gts).
    pub gts: Vec<GtSample>,
    /// Energy.
    pub power: PowerSample,
    /// Temperatures; empty where `temperatures_absent` says why.
    pub temperatures: Reading<Vec<TemperatureSample>>,
    /// Fans.
    pub fans: Reading<Vec<FanSample>>,
    /// Device memory.
    pub memory: Reading<Vec<MemorySample>>,
    /// Memory controller traffic of the machine, shown with integrated GPUs.
    pub bandwidth: BandwidthSample,
}

/// What happened to a device between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceEventKind {
    /// It went away: unplugged, or unbound from its driver.
    Gone,
    /// It appeared, or came back.
    Added,
}

impl DeviceEventKind {
    /// The word that JSON carries.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceEventKind::Gone => "gpu_gone",
            DeviceEventKind::Added => "gpu_added",
        }
    }
}

/// A device that appeared or went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// CLOCK_MONOTONIC when it was noticed, in nanoseconds.
    pub at_ns: u64,
    /// What happened.
    pub kind: DeviceEventKind,
    /// The device.
    pub id: GpuId,
    /// Its driver.
    pub driver: String,
}

/// Everything the kernel said at one tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// CLOCK_MONOTONIC at the start of the tick, in nanoseconds.
    pub at_ns: u64,
    /// One entry a GPU, ordered by id.
    pub gpus: Vec<DeviceSample>,
    /// Devices that came or went since the last tick.
    pub events: Vec<DeviceEvent>,
    /// Who uses the GPUs; empty unless it was asked for.
    pub clients: ClientsSample,
}
