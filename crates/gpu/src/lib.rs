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

/// The client scanner, for the benchmark of its cost.
#[doc(hidden)]
pub mod benching {
    use crate::fdinfo::scanner::{ClientScanner, Target};
    use gpuscope_sys::{Roots, monotonic_ns};

    /// The clients of one device.
    pub struct Clients {
        scanner: ClientScanner,
        targets: Vec<Target>,
    }

    impl Clients {
        /// Looks for open files with these device numbers, with BPF or by walks only.
        ///
        /// # Errors
        /// Why there is no BPF.
        pub fn new(rdevs: &[u64], bpf: bool) -> Result<Self, String> {
            let target = Target { rdevs: rdevs.to_vec(), pdev: None, readable: true, wanted: true };
            let mut scanner = ClientScanner::new(Roots::host());
            if bpf {
                scanner.can_scan_whole().map_err(ToString::to_string)?;
            } else {
                scanner = scanner.walk_only();
            }
            Ok(Clients { scanner, targets: vec![target] })
        }

        /// What is done at each tick.
        pub fn refresh(&mut self) {
            self.scanner.refresh(&self.targets, monotonic_ns());
        }

        /// Processor time of the last scan by BPF, in milliseconds.
        pub fn scan_ms(&self) -> f64 {
            self.scanner.scan_ns() as f64 / 1e6
        }

        /// Open files of the device that are known.
        pub fn nodes(&self) -> usize {
            self.scanner.nodes_of(0)
        }
    }
}
