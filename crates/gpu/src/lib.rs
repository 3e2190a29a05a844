//! GPUs of a Linux machine: which there are, and what their drivers say about them.
//!
//! One folder a driver under `drivers/`, and one line in its table; everything else speaks of engines, GTs, hwmon sensors and
//! DRM clients without knowing who made the GPU. Nothing that would wake a suspended GPU is read unless the caller allows it.
//!
//! This crate computes no rates (see `gpuscope_model::delta`) and exports nothing.
#![forbid(unsafe_code)]

mod devfreq;
mod discover;
mod drivers;
mod fdinfo;
mod held;
mod hwmon;
mod options;
mod pci_names;
mod power_state;
mod set;
#[cfg(test)]
mod testing;
mod wake;

pub use discover::{list, list_with};
pub use options::Options;
pub use set::GpuSet;

/// The pure parsers, for fuzzing.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::discover::{device_number, uevent_pci_id, uevent_value};
    pub use crate::drivers::amdgpu::{kfd, metrics, parse as amdgpu};
    pub use crate::drivers::i915::parse as i915;
    pub use crate::drivers::xe::parse as xe;
    pub use crate::fdinfo::{EngineUsage, FdInfo, ParseNote, RegionUsage, client_id, parse_fdinfo};
    pub use crate::fdinfo::{ProcStat, hides_processes, is_inner_namespace, parse_stat};
    pub use crate::held::{parse_i64, parse_u64};
    pub use crate::hwmon::{Sensor, SensorKind, parse_sensor_name};
    pub use crate::pci_names::find_in_pci_ids;
    pub use crate::power_state::{parse_autosuspend_ms, parse_control};
}
