//! What to open beyond the polite default.

use std::path::PathBuf;

/// What a [`GpuSet`](crate::GpuSet) opens. The default opens nothing that keeps a GPU awake or starts a kernel timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// i915: open the `-wait` events. The driver samples them with a 200 Hz timer while the GPU is awake
    /// (`FREQUENCY` in drivers/gpu/drm/i915/i915_pmu.c).
    pub wait: bool,
    /// i915: open the `-sema` events, at the same price.
    pub sema: bool,
    /// i915: take frequencies from the PMU, averaged over the interval, at the same price. Otherwise they come from sysfs.
    pub pmu_frequency: bool,
    /// xe: open PMU events. They count engines by instance, and hold the GPU awake and its GT out of C6 while they are open
    /// (`xe_pm_runtime_get` and `xe_force_wake_get` in drivers/gpu/drm/xe/xe_pmu.c).
    pub perturbing: bool,
    /// Sample every DRM client of every device: who uses the GPU. On xe each reading takes a runtime PM reference, as all of its do.
    pub clients: bool,
    /// How often devices that came or went are looked for, in nanoseconds.
    pub rescan_ns: u64,
    /// Ids of the GPUs to look at; all when empty.
    pub gpu_filter: Vec<String>,
    /// Files of PCI names (`pci.ids` of the hwdata package), tried in order; with none a small table of Intel GPUs is used.
    pub pci_ids: Vec<PathBuf>,
    /// NVIDIA's management library, instead of the `libnvidia-ml.so.1` that the loader finds. In a captured tree NVML is loaded only
    /// when this names one.
    pub nvml_library: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            wait: false,
            sema: false,
            pmu_frequency: false,
            perturbing: false,
            clients: false,
            rescan_ns: 2_000_000_000,
            gpu_filter: Vec::new(),
            pci_ids: Vec::new(),
            nvml_library: None,
        }
    }
}

impl Options {
    /// Whether the filter lets this GPU through.
    pub fn wants(&self, id: &str) -> bool {
        self.gpu_filter.is_empty() || self.gpu_filter.iter().any(|f| f == id)
    }
}
