//! Statistics of Intel GPUs on Linux, for programs that show them: engine use, frequency, power, RC6, temperature, fans and memory
//! bandwidth, from the `i915` and `xe` drivers of a stock kernel.
//!
//! ```no_run
//! use intel_gpu_stats::IntelGpu;
//! use std::time::Duration;
//!
//! fn main() -> Result<(), intel_gpu_stats::Error> {
//!     let gpu = IntelGpu::detect()?;
//!     println!("{} ({})", gpu.info().name, gpu.info().driver);
//!
//!     gpu.read_stats()?; // opens the sources; rates need two readings
//!     std::thread::sleep(Duration::from_millis(250));
//!     let stats = gpu.read_stats()?;
//!
//!     for engine in stats.engines.video_instances() {
//!         match engine.utilization {
//!             Some(u) => println!("{}: {:.1} % busy", engine.name, u.busy_percent),
//!             None => println!("{}: not known", engine.name),
//!         }
//!     }
//!     for missing in &stats.unavailable {
//!         eprintln!("{missing}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What the engines of Quick Sync are
//!
//! The **video** engines (VCS, "vdbox") decode *and* encode: a Quick Sync transcode keeps them busy on both sides. The **video
//! enhance** engines (VECS, "vebox") scale, denoise and convert colours. There is no engine that only encodes. A part with two VCS
//! (`vcs0`, `vcs1`) balances sessions over both, so the load is shown per instance: one at 100 % and one idle is a different
//! machine than two at 50 %.
//!
//! # Three promises
//!
//! - **Unknown is never zero.** A field that cannot be known is `None`, and [`GpuStats::unavailable`] says why and what to do about
//!   it ([`GpuStats::why`] finds the entry for a field).
//! - **Looking changes nothing.** A GPU that sleeps is left asleep; sources that would wake it are read only while it is awake, and
//!   an idle GPU is left alone long enough to fall asleep. What cannot be read without a side effect is off until
//!   [`Builder`] is asked for it.
//! - **No root where possible.** Frequency and power state need no rights. Engine use needs the perf PMU (CAP_PERFMON, or
//!   `kernel.perf_event_paranoid` at 0) or the right to read all DRM clients; the reason given for a missing value names the remedy
//!   for the machine at hand.
//!
//! # From start to finish
//!
//! A mixer that shows Quick Sync load four times a second keeps one [`SamplingHandle`] and reads what its callback left:
//!
//! ```no_run
//! use intel_gpu_stats::{GpuStats, IntelGpu};
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! // 1. At start: find the GPU. No Intel GPU is an answer, not a failure of the program.
//! let gpu = match IntelGpu::detect() {
//!     Ok(gpu) => Some(gpu),
//!     Err(intel_gpu_stats::Error::NoDevice) => None,
//!     Err(e) => {
//!         eprintln!("no GPU statistics: {e}");
//!         None
//!     }
//! };
//!
//! // 2. Sample in the background. The callback runs on the sampler's thread: leave the newest values and return.
//! let newest: Arc<Mutex<Option<GpuStats>>> = Arc::default();
//! let handle = gpu.as_ref().and_then(|gpu| {
//!     let newest = newest.clone();
//!     gpu.start_sampling(Duration::from_millis(250), move |stats| {
//!         if let Ok(mut slot) = newest.lock() {
//!             *slot = Some(stats);
//!         }
//!     })
//!     .ok()
//! });
//!
//! // 3. In the render loop: take what is there. It never waits for the GPU.
//! if let Some(stats) = newest.lock().ok().and_then(|slot| slot.clone()) {
//!     match stats.engines.video {
//!         Some(video) => println!("QSV {:3.0} %", video.busy_percent),
//!         None => println!("QSV -- ({})", stats.why("engines.video").map_or("not known".into(), |w| w.to_string())),
//!     }
//! }
//!
//! // 4. At the end: dropping the handle stops the thread and waits for it.
//! drop(handle);
//! ```
//!
//! `examples/overlay.rs` is that program in full.
//!
//! # What this crate does not do
//!
//! It opens no DRM node, needs no libdrm, Level Zero or VA-API, starts no process and draws nothing. It knows Intel GPUs only; other
//! makers' and other processes' use of the GPU are the business of the `gpuscope` tool it was cut from.
#![forbid(unsafe_code)]

mod convert;
mod error;
mod gpu;
mod info;
mod sampling;
mod stats;
#[cfg(feature = "tokio")]
mod stream;

pub use error::{Error, Result};
pub use gpu::{Builder, IntelGpu};
pub use info::GpuInfo;
pub use sampling::{SamplingHandle, SamplingReport};
pub use stats::{
    EngineInstance, EngineStats, EngineUtilization, FanStats, FrequencyStats, GpuStats, GtStats, PowerStats, Rc6Stats,
    Reason, SystemMemoryBandwidth, TemperatureStats, Unavailable,
};
#[cfg(feature = "tokio")]
pub use stream::StatsStream;
