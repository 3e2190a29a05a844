//! What gpuscope knows about GPUs, as data.
//!
//! Two shapes carry every value (a third one between them is a mistake):
//!
//! - a [`Sample`] is what the kernel said: raw, cumulative, each reading with the time at which it was read;
//! - a [`Snapshot`] is what people look at: gauges and rates over one interval, computed from two samples by [`delta`].
//!
//! A value that is not known is [`Reading::Absent`] with a [`Why`]: a reason, what happened, and the remedy where there is one.
//!
//! This crate does no I/O, reads no clock and calls no operating system: a recording replays through it anywhere.
#![forbid(unsafe_code)]

pub mod catalogue;
mod client;
pub mod delta;
mod device;
mod doctor;
mod reading;
mod sample;
mod snapshot;
mod throttle;
pub mod trace;
mod unavailable;

pub use client::{
    AlwaysOn, CgroupMemory, CgroupSample, ClientEngineSample, ClientEngineSnapshot, ClientKey, ClientMemory,
    ClientSample, ClientSnapshot, ClientsGap, ClientsSample, ClientsSnapshot, ProcessSample, ProcessSnapshot,
};
pub use device::{
    DeviceInfo, EngineClass, EngineInfo, GpuId, GtInfo, GtKind, PciAddress, PciId, RuntimeStatus, Sriov, Vendor,
};
pub use doctor::{SourceReport, SourceStatus};
pub use reading::{Reading, Reason, Text, Why};
pub use sample::{
    BandwidthSample, ClassSample, Clock, Counter, DeviceEvent, DeviceEventKind, DeviceSample, EngineSample, FanSample,
    GtSample, MemorySample, PowerSample, Sample, Share, TemperatureSample,
};
pub use snapshot::{
    BandwidthSnapshot, ClassSnapshot, DeviceSnapshot, EngineSnapshot, GtSnapshot, PowerSnapshot, Snapshot,
};
pub use throttle::{ThrottleReason, ThrottleReasons};
pub use unavailable::Unavailable;
