//! The handle on one GPU.

use crate::sampling::{SamplingHandle, start};
use crate::{Error, GpuInfo, GpuStats, Result, convert};
use gpuscope_engine::Sampler;
use gpuscope_gpu::{GpuSet, Options};
use gpuscope_model::{DeviceInfo, GpuId, PciAddress};
use gpuscope_sys::Roots;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An Intel GPU of this machine, bound to i915 or xe.
pub struct IntelGpu {
    info: GpuInfo,
    id: GpuId,
    builder: Builder,
    /// Opened by the first [`read_stats`](IntelGpu::read_stats).
    sampler: Mutex<Option<Sampler>>,
}

/// What to read, beyond what can be read without a side effect.
///
/// ```no_run
/// # fn main() -> Result<(), intel_gpu_stats::Error> {
/// let gpu = intel_gpu_stats::IntelGpu::builder().wait(true).detect()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    roots: Roots,
    options: Options,
}

impl Default for Builder {
    fn default() -> Self {
        Builder { roots: Roots::host(), options: Options::default() }
    }
}

impl Builder {
    /// Read the share of time in which engines wait for events (i915). The kernel samples it 200 times a second while the GPU is
    /// awake.
    #[must_use]
    pub fn wait(mut self, on: bool) -> Self {
        self.options.wait = on;
        self
    }

    /// Read the share of time in which engines wait for semaphores (i915). The same timer as [`wait`](Self::wait).
    #[must_use]
    pub fn sema(mut self, on: bool) -> Self {
        self.options.sema = on;
        self
    }

    /// Take frequencies as means over the interval from the i915 PMU rather than of the moment from sysfs. The same timer as
    /// [`wait`](Self::wait).
    #[must_use]
    pub fn pmu_frequency(mut self, on: bool) -> Self {
        self.options.pmu_frequency = on;
        self
    }

    /// Use sources which change what they measure: on xe the PMU, which counts every engine instance and, while it is open, keeps
    /// the GPU from sleeping and its GT from C6.
    #[must_use]
    pub fn perturbing_sources(mut self, on: bool) -> Self {
        self.options.perturbing = on;
        self
    }

    /// Look in `dir/proc` and `dir/sys` rather than `/proc` and `/sys`: a captured or composed tree, whose counters stand still.
    #[must_use]
    pub fn root(mut self, dir: impl AsRef<Path>) -> Self {
        self.roots = Roots::at(dir);
        self
    }

    /// The first Intel GPU: physical functions before virtual ones, then by PCI address.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when there is none.
    pub fn detect(self) -> Result<IntelGpu> {
        let device = self.devices().into_iter().next().ok_or(Error::NoDevice)?;
        Ok(self.build(&device))
    }

    /// The Intel GPU of that name: PCI address (`0000:00:02.0`, `00:02.0`), `/dev/dri/cardN`, `/dev/dri/renderDN`, or a path in sysfs
    /// that ends in one of these.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no Intel GPU has that name, [`Error::NoDevice`] when there is none at all.
    pub fn open(self, name: &str) -> Result<IntelGpu> {
        let devices = self.devices();
        if devices.is_empty() {
            return Err(Error::NoDevice);
        }
        match devices.iter().find(|d| answers_to(d, name)) {
            Some(device) => Ok(self.build(device)),
            None => Err(Error::NotFound {
                name: name.into(),
                known: devices.iter().map(|d| d.id.as_str()).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Every Intel GPU, in the order of [`detect`](Self::detect).
    ///
    /// # Errors
    /// None today; a machine without GPUs is an empty list.
    pub fn list_gpus(&self) -> Result<Vec<GpuInfo>> {
        Ok(self.devices().iter().map(convert::info).collect())
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let mut all = gpuscope_gpu::list_with(&self.roots, &self.options);
        all.retain(|d| matches!(d.driver.as_str(), "i915" | "xe"));
        all.sort_by_key(|d| (d.sriov.is_virtual(), d.pci_address, d.id.clone()));
        all
    }

    fn build(self, device: &DeviceInfo) -> IntelGpu {
        IntelGpu { info: convert::info(device), id: device.id.clone(), builder: self, sampler: Mutex::new(None) }
    }
}

/// Whether a device has the name: its address, one of its nodes, or a path that ends in one.
fn answers_to(device: &DeviceInfo, name: &str) -> bool {
    // A path may be a link (`/dev/dri/by-path/…`) or lie below one (`/sys/class/drm/card0/device`): where it leads tells.
    let led = if name.contains('/') { std::fs::canonicalize(name).ok() } else { None };
    led.as_deref().and_then(Path::to_str).is_some_and(|path| is_named(device, path)) || is_named(device, name)
}

/// Whether the last part of a name is the device's address or one of its nodes.
fn is_named(device: &DeviceInfo, name: &str) -> bool {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    if let (Ok(asked), Some(own)) = (last.parse::<PciAddress>(), device.pci_address) {
        return asked == own;
    }
    let node = |path: &Option<String>| path.as_deref().and_then(|p| p.rsplit('/').next()) == Some(last);
    device.id.as_str() == last || node(&device.card) || node(&device.render)
}

impl IntelGpu {
    /// The first Intel GPU of this machine: physical functions before virtual ones, then by PCI address.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when there is none.
    pub fn detect() -> Result<Self> {
        Builder::default().detect()
    }

    /// The Intel GPU of that name: PCI address (`0000:00:02.0`, `00:02.0`), `/dev/dri/cardN`, `/dev/dri/renderDN`, or a path in sysfs.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no Intel GPU has that name, [`Error::NoDevice`] when there is none at all.
    pub fn open(name: &str) -> Result<Self> {
        Builder::default().open(name)
    }

    /// Every Intel GPU of this machine, in the order of [`detect`](Self::detect). Wakes none of them.
    ///
    /// # Errors
    /// None today; a machine without GPUs is an empty list.
    pub fn list_gpus() -> Result<Vec<GpuInfo>> {
        Builder::default().list_gpus()
    }

    /// To choose sources before opening.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Which GPU this is.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Reads everything once. Rates are over the time since the call before; the first call opens the sources and says of every
    /// rate that it is the first sample. It never sleeps.
    ///
    /// # Errors
    /// [`Error::Gone`] while the GPU is unplugged or unbound. Once it is back, reading goes on.
    pub fn read_stats(&self) -> Result<GpuStats> {
        // A panic while reading leaves at worst a sample half filled, and the next reading fills it anew.
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let sampler = sampler.get_or_insert_with(|| self.open_sampler());
        convert::stats(sampler.tick(), &self.id).ok_or_else(|| Error::Gone { id: self.info.id.clone() })
    }

    /// Reads at every interval on a thread of its own, and hands the values to `callback` there. The first reading, without rates,
    /// comes at once. Ticks do not drift; ticks that a slow callback makes impossible are left out and counted.
    ///
    /// When the GPU goes away the callback is told once: values of which nothing is known, each with the reason
    /// [`Gone`](crate::Reason::Gone). The callbacks go on when it is back.
    ///
    /// # Errors
    /// [`Error::ZeroInterval`], or [`Error::Thread`] when the thread cannot be started.
    pub fn start_sampling(
        &self,
        interval: Duration,
        callback: impl FnMut(GpuStats) + Send + 'static,
    ) -> Result<SamplingHandle> {
        start(self.open_sampler(), self.id.clone(), interval, callback)
    }

    pub(crate) fn open_sampler(&self) -> Sampler {
        let mut options = self.builder.options.clone();
        options.gpu_filter = vec![self.id.to_string()];
        Sampler::new(GpuSet::open(self.builder.roots.clone(), options))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn id(&self) -> &GpuId {
        &self.id
    }
}

impl std::fmt::Debug for IntelGpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntelGpu").field("info", &self.info).finish_non_exhaustive()
    }
}
