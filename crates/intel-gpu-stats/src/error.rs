//! Errors by what the caller does.

use std::io;

/// Why there is no GPU to read, or no longer.
///
/// A single value that is missing is not an error: see [`GpuStats::unavailable`](crate::GpuStats::unavailable).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine has no Intel GPU bound to i915 or xe.
    #[error(
        "no Intel GPU: no device under /sys/class/drm is bound to i915 or xe (is the driver loaded, is /sys mounted in this \
         container?)"
    )]
    NoDevice,
    /// The text given to [`IntelGpu::open`](crate::IntelGpu::open) names no Intel GPU of this machine.
    #[error(
        "{name}: not an Intel GPU of this machine (there are: {known}); give a PCI address, /dev/dri/cardN, /dev/dri/renderDN or a sysfs path"
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// The ids of those that are there.
        known: String,
    },
    /// The GPU went away: unplugged, or unbound from its driver. It may come back: read again later.
    #[error("{id}: the GPU is gone (unplugged, or unbound from its driver)")]
    Gone {
        /// Its id.
        id: String,
    },
    /// The operating system started no thread.
    #[error("the sampling thread could not be started: {source}")]
    Thread {
        /// Its answer.
        source: io::Error,
    },
    /// A sampling interval of zero.
    #[error("the sampling interval is zero; 250 ms suits an overlay, 1 s a log")]
    ZeroInterval,
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
