//! Gauges and rates over one interval.

use crate::{
    ClientsSnapshot, DeviceEvent, EngineClass, FanSample, GpuId, MemorySample, Reading, RuntimeStatus,
    TemperatureSample, Text, ThrottleReasons,
};

/// One engine instance over the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSnapshot {
    /// The driver's short name: `vcs0`.
    pub name: Text,
    /// Class of work.
    pub class: EngineClass,
    /// Instance within its class.
    pub instance: u16,
    /// GT that holds the engine.
    pub gt: Reading<u8>,
    /// Where the values come from.
    pub source: Text,
    /// Share of the interval executing, 0 to 1.
    pub busy_ratio: Reading<f64>,
    /// Share of the interval waiting for an event, 0 to 1.
    pub wait_ratio: Reading<f64>,
    /// Share of the interval waiting for a semaphore, 0 to 1.
    pub sema_ratio: Reading<f64>,
}

/// One engine class over the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSnapshot {
    /// Class of work.
    pub class: EngineClass,
    /// The driver's word where `class` is `Other`.
    pub name: Text,
    /// Number of engines of the class.
    pub capacity: Reading<u32>,
    /// Share of the class's capacity executing, 0 to 1.
    pub busy_ratio: Reading<f64>,
}

/// One GT over the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct GtSnapshot {
    /// GT number.
    pub gt: u8,
    /// Real frequency in hertz: at the moment of reading, or the average when a counter was asked for. 0 while in RC6.
    pub actual_hz: Reading<f64>,
    /// Frequency that the driver asked for.
    pub requested_hz: Reading<f64>,
    /// Lower limit in force.
    pub min_hz: Reading<f64>,
    /// Upper limit in force.
    pub max_hz: Reading<f64>,
    /// Share of the interval in RC6 (xe: C6), 0 to 1.
    pub idle_ratio: Reading<f64>,
    /// What limits the frequency now.
    pub throttle: Reading<ThrottleReasons>,
}

/// Mean power over the interval, in watts.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerSnapshot {
    /// The GPU alone.
    pub gpu_watts: Reading<f64>,
    /// The whole card.
    pub card_watts: Reading<f64>,
    /// The package that holds the GPU.
    pub package_watts: Reading<f64>,
    /// The whole platform.
    pub psys_watts: Reading<f64>,
}

/// Memory controller traffic of the machine, in bytes a second.
#[derive(Clone, Debug, PartialEq)]
pub struct BandwidthSnapshot {
    /// Read.
    pub read_bytes_per_second: Reading<f64>,
    /// Written.
    pub write_bytes_per_second: Reading<f64>,
}

/// One GPU over the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSnapshot {
    /// The device.
    pub id: GpuId,
    /// Its driver.
    pub driver: Text,
    /// Whether sources that were asked for keep the GPU from sleeping, its GT from C6, or a kernel timer running.
    pub perturbs: bool,
    /// Runtime power state.
    pub runtime_status: Reading<RuntimeStatus>,
    /// Engine instances.
    pub engines: Reading<Vec<EngineSnapshot>>,
    /// Engine classes.
    pub classes: Reading<Vec<ClassSnapshot>>,
    /// GTs.
    pub gts: Vec<GtSnapshot>,
    /// Power.
    pub power: PowerSnapshot,
    /// Temperatures.
    pub temperatures: Reading<Vec<TemperatureSample>>,
    /// Fans.
    pub fans: Reading<Vec<FanSample>>,
    /// Device memory.
    pub memory: Reading<Vec<MemorySample>>,
    /// Memory controller traffic.
    pub bandwidth: BandwidthSnapshot,
}

/// All GPUs over the interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC at the end of the interval, in nanoseconds.
    pub at_ns: u64,
    /// Length of the interval; `None` for the first snapshot.
    pub interval_ns: Option<u64>,
    /// One entry a GPU, ordered by id.
    pub gpus: Vec<DeviceSnapshot>,
    /// Devices that came or went.
    pub events: Vec<DeviceEvent>,
    /// Who used the GPUs; empty unless it was asked for.
    pub clients: ClientsSnapshot,
}
