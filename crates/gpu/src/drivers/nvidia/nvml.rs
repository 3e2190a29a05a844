//! NVML for one card: the library is loaded and initialized by [`Nvml::open`] and let go by [`Nvml::close`], as often as wanted.
//!
//! The functions and what they answer: NVML API reference (<https://docs.nvidia.com/deploy/nvml-api/>). A function that this card or
//! driver does not have is asked again only now and then.

use super::parse::{Memory, Process, Readings};
use gpuscope_model::{PciAddress, Reason, Why};
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::{Bits, NvmlError};
use nvml_wrapper::struct_wrappers::device::{MemoryInfo, ProcessInfo, ProcessUtilizationSample};
use nvml_wrapper::{Device, Nvml as Library};
use std::path::PathBuf;

/// A function that was refused for good is asked again at every so many readings.
const ASK_AGAIN: u32 = 60;

/// The longest sample period of NVML's utilisation; 1/6 s by other products.
const LONGEST_PERIOD_NS: u64 = 1_000_000_000;

/// One function of NVML, and why it last gave nothing.
struct Call {
    name: &'static str,
    refused: Option<Why>,
    again_in: u32,
}

impl Call {
    const fn new(name: &'static str) -> Self {
        Call { name, refused: None, again_in: 0 }
    }

    fn ask<T>(&mut self, question: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, Why> {
        if let (Some(why), true) = (&self.refused, self.again_in > 0) {
            self.again_in -= 1;
            return Err(why.clone());
        }
        question().map_err(|error| {
            let why = why_of(self.name, &error);
            let lasting = matches!(why.reason, Reason::NotSupported | Reason::NoPermission);
            self.again_in = if lasting { ASK_AGAIN } else { 0 };
            self.refused = lasting.then(|| why.clone());
            why
        })
    }
}

/// The functions of a reading.
struct Calls {
    utilization: Call,
    encoder: Call,
    decoder: Call,
    memory: Call,
    energy: Call,
    power: Call,
    graphics: Call,
    graphics_max: Call,
    video: Call,
    video_max: Call,
    temperature: Call,
    throttle: Call,
    fans: Call,
    fan_rpm: Call,
    mig_mode: Call,
    mig_memory: Call,
    compute_processes: Call,
    graphics_processes: Call,
    process_utilization: Call,
}

impl Calls {
    const fn new() -> Self {
        Calls {
            utilization: Call::new("nvmlDeviceGetUtilizationRates"),
            encoder: Call::new("nvmlDeviceGetEncoderUtilization"),
            decoder: Call::new("nvmlDeviceGetDecoderUtilization"),
            memory: Call::new("nvmlDeviceGetMemoryInfo_v2"),
            energy: Call::new("nvmlDeviceGetTotalEnergyConsumption"),
            power: Call::new("nvmlDeviceGetPowerUsage"),
            graphics: Call::new("nvmlDeviceGetClockInfo"),
            graphics_max: Call::new("nvmlDeviceGetMaxClockInfo"),
            video: Call::new("nvmlDeviceGetClockInfo (video)"),
            video_max: Call::new("nvmlDeviceGetMaxClockInfo (video)"),
            temperature: Call::new("nvmlDeviceGetTemperature"),
            throttle: Call::new("nvmlDeviceGetCurrentClocksThrottleReasons"),
            fans: Call::new("nvmlDeviceGetNumFans"),
            fan_rpm: Call::new("nvmlDeviceGetFanSpeedRPM"),
            mig_mode: Call::new("nvmlDeviceGetMigMode"),
            mig_memory: Call::new("nvmlDeviceGetMemoryInfo_v2 (MIG)"),
            compute_processes: Call::new("nvmlDeviceGetComputeRunningProcesses_v3"),
            graphics_processes: Call::new("nvmlDeviceGetGraphicsRunningProcesses_v3"),
            process_utilization: Call::new("nvmlDeviceGetProcessUtilization"),
        }
    }
}

/// The library, initialized.
struct Session {
    library: Library,
    /// The card's number in this session: asking by number does not allocate.
    index: u32,
    /// Time of the newest process utilisation that was seen.
    seen: u64,
    /// When processes were read last, and when their utilisation was told last.
    read_ns: Option<u64>,
    told_ns: u64,
}

impl Session {
    /// Whether a reading without a new sample means that nobody worked, and not that the sample period has not ended. A reading later
    /// than the period waits for one more, where readings are frequent: the sample may be written just after it.
    fn is_quiet(&self, now_ns: u64) -> bool {
        self.read_ns.is_none_or(|read_ns| {
            read_ns.saturating_sub(self.told_ns) >= LONGEST_PERIOD_NS
                || now_ns.saturating_sub(read_ns) >= LONGEST_PERIOD_NS / 10 * 9
        })
    }
}

/// NVML for one card.
pub(super) struct Nvml {
    path: Option<PathBuf>,
    address: String,
    /// Of the kernel module, to word what is missing.
    version: Option<String>,
    session: Option<Session>,
    calls: Calls,
    /// Scratch of [`Nvml::processes`].
    samples: Vec<ProcessUtilizationSample>,
}

/// Why NVML could not be used at all.
fn why_closed(error: &NvmlError, version: Option<&str>) -> Why {
    let remedy = || match version {
        Some(version) => format!("install libnvidia-ml.so.1 of the driver's version, {version}"),
        None => "install libnvidia-ml.so.1 of the driver's version".to_string(),
    };
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::FailedToLoadSymbol(_) => {
            Why::new(Reason::NotSupported, format!("NVML: {error}")).remedy(remedy())
        }
        NvmlError::LibRmVersionMismatch => Why::new(Reason::NotSupported, format!("nvmlInit_v2: {error}")).remedy(
            format!("{}, or load the kernel module of the library's version (after an update: restart)", remedy()),
        ),
        NvmlError::DriverNotLoaded | NvmlError::Uninitialized => {
            Why::new(Reason::NotSupported, format!("nvmlInit_v2: {error}"))
                .remedy(format!("load the kernel module nvidia, and {}", remedy()))
        }
        _ => why_of("nvmlInit_v2", error),
    }
}

/// Why one function gave nothing.
fn why_of(function: &str, error: &NvmlError) -> Why {
    use NvmlError::{
        FailedToLoadSymbol, FunctionNotFound, GpuLost, NoPermission, NotFound, NotSupported, OperatingSystem,
        ResetRequired, Uninitialized,
    };
    match error {
        NotSupported => Why::new(Reason::NotSupported, format!("{function}: this GPU does not support it")),
        // NVML_ERROR_ARGUMENT_VERSION_MISMATCH and NVML_ERROR_DEPRECATED in nvml.h.
        FailedToLoadSymbol(_) | FunctionNotFound | NvmlError::UnexpectedVariant(25 | 26) => {
            Why::new(Reason::NotSupported, format!("{function}: the driver's NVML does not have it"))
                .remedy("a newer NVIDIA driver may")
        }
        NoPermission | OperatingSystem => Why::new(Reason::NoPermission, format!("{function}: {error}"))
            .remedy("run as a user who may open /dev/nvidiactl and the card's /dev/nvidia node, or as root"),
        GpuLost => Why::new(Reason::Gone, format!("{function}: {error}")),
        NotFound => Why::new(Reason::NoHardware, format!("{function}: NVML does not know this card")),
        Uninitialized => Why::new(Reason::NotSupported, format!("{function}: {error}")),
        ResetRequired => Why::new(Reason::Failed, format!("{function}: {error}")).remedy("reset the GPU"),
        _ => Why::new(Reason::Failed, format!("{function}: {error}")),
    }
}

fn memory(info: MemoryInfo) -> Memory {
    Memory { total: info.total, used: info.used, reserved: info.reserved }
}

fn by_mig() -> Why {
    Why::new(Reason::NotSupported, "MIG is on: NVML gives no utilisation for the GPU as a whole")
}

impl Nvml {
    /// Nothing is loaded yet.
    ///
    /// # Errors
    ///
    /// None here: without the feature `nvml`, always.
    #[expect(clippy::unnecessary_wraps, reason = "its counterpart without NVML always fails")]
    pub(super) fn new(library: Option<PathBuf>, address: PciAddress, version: Option<String>) -> Result<Self, Why> {
        Ok(Nvml {
            path: library,
            address: address.to_string(),
            version,
            session: None,
            calls: Calls::new(),
            samples: Vec::new(),
        })
    }

    /// Whether it is loaded.
    pub(super) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    fn start(&self) -> Result<Session, Why> {
        let mut builder = Library::builder();
        if let Some(path) = &self.path {
            builder.lib_path(path.as_os_str());
        }
        let library = builder.init().map_err(|e| why_closed(&e, self.version.as_deref()))?;
        let index = library
            .device_by_pci_bus_id(self.address.as_str())
            .and_then(|device| device.index())
            .map_err(|e| why_of("nvmlDeviceGetHandleByPciBusId_v2", &e))?;
        Ok(Session { library, index, seen: 0, read_ns: None, told_ns: 0 })
    }

    /// Loads and initializes it. This wakes the card.
    pub(super) fn open(&mut self) -> Result<(), Why> {
        if self.session.is_none() {
            self.session = Some(self.start()?);
            self.calls = Calls::new();
        }
        Ok(())
    }

    /// Lets go of the library, and with it of the card.
    pub(super) fn close(&mut self) {
        if let Some(session) = self.session.take() {
            // A shutdown that fails is tried once more when the library is dropped; there is nobody who could do more.
            let _ = session.library.shutdown();
        }
    }

    /// Reads everything. Wakes the card.
    pub(super) fn read(&mut self, out: &mut Readings) {
        let Some(session) = &self.session else {
            *out = Readings::absent(&Why::new(Reason::NotCounting, "NVML is not loaded"));
            return;
        };
        let device = match session.library.device_by_index(session.index) {
            Ok(device) => device,
            Err(error) => {
                let why = why_of("nvmlDeviceGetHandleByIndex_v2", &error);
                *out = Readings::absent(&why);
                out.lost = Some(why);
                return;
            }
        };
        let calls = &mut self.calls;
        let mig = calls.mig_mode.ask(|| device.mig_mode()).is_ok_and(|mode| mode.current == 1);
        out.lost = None;
        if mig {
            out.gpu = Err(by_mig());
            out.memory_busy = Err(by_mig());
            out.encoder = Err(by_mig());
            out.decoder = Err(by_mig());
        } else {
            let rates = calls.utilization.ask(|| device.utilization_rates());
            out.gpu = rates.as_ref().map(|u| u.gpu).map_err(Why::clone);
            out.memory_busy = rates.map(|u| u.memory);
            out.encoder = calls.encoder.ask(|| device.encoder_utilization()).map(|u| u.utilization);
            out.decoder = calls.decoder.ask(|| device.decoder_utilization()).map(|u| u.utilization);
        }
        out.memory = calls.memory.ask(|| device.memory_info()).map(memory);
        out.energy_mj = calls.energy.ask(|| device.total_energy_consumption());
        out.power_mw = match &out.energy_mj {
            // Not needed beside the counter, and a call less.
            Ok(_) => Err(Why::FIRST_SAMPLE),
            Err(_) => calls.power.ask(|| device.power_usage()),
        };
        out.graphics_mhz = calls.graphics.ask(|| device.clock_info(Clock::Graphics));
        out.graphics_max_mhz = calls.graphics_max.ask(|| device.max_clock_info(Clock::Graphics));
        out.video_mhz = calls.video.ask(|| device.clock_info(Clock::Video));
        out.video_max_mhz = calls.video_max.ask(|| device.max_clock_info(Clock::Video));
        out.celsius = calls.temperature.ask(|| device.temperature(TemperatureSensor::Gpu));
        out.throttle = calls.throttle.ask(|| match device.current_throttle_reasons_strict() {
            Ok(reasons) => Ok(reasons.bits()),
            // Bits of later versions: they are told as such.
            Err(NvmlError::IncorrectBits(Bits::U64(bits))) => Ok(bits),
            Err(error) => Err(error),
        });
        read_fans(calls, &device, out);
        read_mig(calls, &device, mig, out);
        let mut failures = [&out.gpu, &out.celsius, &out.graphics_mhz].into_iter().filter_map(|r| r.as_ref().err());
        out.lost = failures.find(|why| why.reason == Reason::Gone).cloned();
    }

    /// Which processes use the card, by pid. Pids are those of the host, in containers too.
    pub(super) fn processes(&mut self, now_ns: u64, out: &mut Vec<Process>) -> Result<(), Why> {
        out.clear();
        let Some(session) = &mut self.session else {
            return Err(Why::new(Reason::NotCounting, "NVML is not loaded"));
        };
        let device =
            session.library.device_by_index(session.index).map_err(|e| why_of("nvmlDeviceGetHandleByIndex_v2", &e))?;
        let calls = &mut self.calls;
        let compute = calls.compute_processes.ask(|| device.running_compute_processes());
        let graphics = calls.graphics_processes.ask(|| device.running_graphics_processes());
        let mut all: Vec<ProcessInfo> = Vec::new();
        match (compute, graphics) {
            (Err(why), Err(_)) => return Err(why),
            (compute, graphics) => {
                all.extend(compute.unwrap_or_default());
                all.extend(graphics.unwrap_or_default());
            }
        }
        // A process with contexts of both kinds stands in both lists, with the same memory: it counts once an instance.
        let key = |p: &ProcessInfo| (p.pid, p.gpu_instance_id, p.compute_instance_id);
        all.sort_by_key(key);
        all.dedup_by(|again, first| key(again) == key(first));
        self.samples.clear();
        let percent = calls.process_utilization.ask(|| match device.process_utilization_stats(session.seen) {
            Ok(samples) => {
                self.samples = samples;
                Ok(())
            }
            // No sample since the last time.
            Err(NvmlError::NotFound) => Ok(()),
            Err(error) => Err(error),
        });
        self.samples.retain(|s| s.timestamp > session.seen);
        let tells = !self.samples.is_empty() || session.is_quiet(now_ns);
        session.told_ns = if tells { now_ns } else { session.told_ns };
        session.read_ns = Some(now_ns);
        session.seen = self.samples.iter().map(|s| s.timestamp).max().unwrap_or(session.seen).max(session.seen);
        for process in &all {
            let used = match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Ok(bytes),
                UsedGpuMemory::Unavailable => {
                    Err(Why::new(Reason::NotSupported, "NVML does not tell this process's memory"))
                }
            };
            match out.last_mut().filter(|last| last.pid == process.pid) {
                Some(last) => {
                    last.used_bytes = match (&last.used_bytes, used) {
                        (Ok(a), Ok(b)) => Ok(a.saturating_add(b)),
                        (Err(why), _) => Err(why.clone()),
                        (_, Err(why)) => Err(why),
                    }
                }
                None => out.push(Process {
                    pid: process.pid,
                    used_bytes: used,
                    percent: percent.clone().map(|()| tells.then(|| mean(&self.samples, process.pid))),
                }),
            }
        }
        Ok(())
    }

    /// For the doctor. Loads the library for the moment where it is not open: call it only while the card is awake.
    pub(super) fn describe(&self) -> Result<String, Why> {
        let opened;
        let session = match &self.session {
            Some(session) => session,
            None => {
                opened = self.start()?;
                &opened
            }
        };
        let version = session.library.sys_driver_version().unwrap_or_else(|_| "of unknown version".to_string());
        let device =
            session.library.device_by_index(session.index).map_err(|e| why_of("nvmlDeviceGetHandleByIndex_v2", &e))?;
        let mig = device.mig_mode().is_ok_and(|mode| mode.current == 1);
        let rates = if mig { Err(by_mig()) } else { Ok(()) };
        let detail = format!(
            "driver {version}; loaded while the card is awake, and released once it is idle; tells of processes too"
        );
        Ok(match rates {
            Ok(()) => detail,
            Err(why) => format!("{detail}; {}", why.detail),
        })
    }
}

/// Mean of a process's samples; a process without any did nothing.
fn mean(samples: &[ProcessUtilizationSample], pid: u32) -> [u32; 3] {
    let mut sums = [0u64; 3];
    let mut count = 0u64;
    for s in samples.iter().filter(|s| s.pid == pid) {
        for (sum, value) in sums.iter_mut().zip([s.sm_util, s.enc_util, s.dec_util]) {
            *sum = sum.saturating_add(u64::from(value));
        }
        count += 1;
    }
    sums.map(|sum| sum.checked_div(count).unwrap_or(0) as u32)
}

fn read_fans(calls: &mut Calls, device: &Device<'_>, out: &mut Readings) {
    let count = match calls.fans.ask(|| device.num_fans()) {
        Ok(count) => count.min(16),
        Err(why) => {
            out.fans = Err(why);
            return;
        }
    };
    let mut fans = std::mem::replace(&mut out.fans, Ok(Vec::new())).unwrap_or_default();
    fans.clear();
    fans.extend((0..count).map(|fan| calls.fan_rpm.ask(|| device.fan_speed_rpm(fan))));
    out.fans = Ok(fans);
}

fn read_mig(calls: &mut Calls, device: &Device<'_>, on: bool, out: &mut Readings) {
    out.mig.clear();
    if !on {
        return;
    }
    for slot in 0..device.mig_device_count().unwrap_or(0).min(super::MIG_REGIONS.len() as u32) {
        // Places without an instance answer NVML_ERROR_NOT_FOUND.
        if let Ok(instance) = device.mig_device_by_index(slot) {
            out.mig.push((slot, calls.mig_memory.ask(|| instance.memory_info()).map(memory)));
        }
    }
}
