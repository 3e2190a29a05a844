//! Sampling in the background.

use crate::{Error, GpuStats, Result, convert};
use gpuscope_engine::{Handle, Sampler, spawn};
use gpuscope_model::GpuId;
use std::time::Duration;

/// A running sampler. Dropping it stops its thread and waits for it.
#[must_use = "dropping the handle stops the sampling"]
pub struct SamplingHandle(Handle);

/// How a sampler fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SamplingReport {
    /// Ticks served.
    pub ticks: u64,
    /// Ticks left out because the callback took too long, or the machine slept.
    pub late_ticks: u64,
    /// The message of the callback's panic, if it panicked: sampling ended then.
    pub panic: Option<String>,
}

pub(crate) fn start(
    sampler: Sampler,
    id: GpuId,
    interval: Duration,
    mut callback: impl FnMut(GpuStats) + Send + 'static,
) -> Result<SamplingHandle> {
    if interval.is_zero() {
        return Err(Error::ZeroInterval);
    }
    let mut present = true;
    let handle = spawn(sampler, interval, move |snapshot, _| match convert::stats(snapshot, &id) {
        Some(stats) => {
            present = true;
            callback(stats);
        }
        // Told once, so that nobody goes on showing the last values.
        None if present => {
            present = false;
            callback(convert::gone(snapshot, &id));
        }
        None => {}
    })
    .map_err(|source| Error::Thread { source })?;
    Ok(SamplingHandle(handle))
}

impl From<gpuscope_engine::Report> for SamplingReport {
    fn from(r: gpuscope_engine::Report) -> Self {
        SamplingReport { ticks: r.ticks, late_ticks: r.missed, panic: r.panic }
    }
}

impl SamplingHandle {
    /// How the sampler fares.
    pub fn report(&self) -> SamplingReport {
        self.0.report().into()
    }

    /// Whether it still samples: false after the callback panicked.
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// Stops the thread, waits for it and says how it fared.
    pub fn stop(self) -> SamplingReport {
        self.0.stop().into()
    }
}

impl std::fmt::Debug for SamplingHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SamplingHandle").field(&self.report()).finish()
    }
}
