//! A stand-in for `libnvidia-ml.so.1`: the functions of NVML that gpuscope calls, for tests on machines without an NVIDIA GPU.
//!
//! What it answers stands in `<library>.conf` beside the library, read anew at every call: one `name value` a line.
//!
//! - `gpu`, `memory`, `encoder`, `decoder`: utilisation in percent
//! - `total`, `used`, `reserved`: bytes; `energy`: millijoules; `power`: milliwatts; `temperature`: °C; `reasons`: bits
//! - `clock.0`, `max.0`: MHz by `nvmlClockType_t`; `fans`, `rpm.0`; `mig` (1: on), `mig.slots`, `mig.0.used` …
//! - `compute`, `graphics`: `pid:bytes` separated by commas; `utilization`: `pid:timestamp:sm:enc:dec`
//! - `fail.<function> <number>`: that function returns this `nvmlReturn_t`
//!
//! A value that is not there makes its function answer `NVML_ERROR_NOT_SUPPORTED`. Each call is a line in `<library>.log`. Tests copy the
//! library: a copy under another name is loaded apart, with a state of its own.
//!
//! Signatures and numbers are those of nvml.h (NVML API reference, <https://docs.nvidia.com/deploy/nvml-api/>).
#![allow(clippy::not_unsafe_ptr_arg_deref, reason = "C functions, called through pointers by NVML's contract only")]

use std::ffi::{CStr, OsStr, c_char, c_uint, c_ulonglong, c_void};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

/// `nvmlReturn_t`.
type Return = c_uint;
/// `nvmlDevice_t`: here the number of the device plus 1, or of a MIG instance plus [`MIG`].
type Device = *mut c_void;

const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const VERSION_MISMATCH: Return = 25;

const MIG: usize = 100;
const BUS_ID: &str = "0000:01:00.0";

static INITIALIZED: AtomicI64 = AtomicI64::new(0);

/// `nvmlUtilization_t`.
#[derive(Debug)]
#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlMemory_v2_t`.
#[derive(Debug)]
#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlFanSpeedInfo_v1_t`.
#[derive(Debug)]
#[repr(C)]
pub struct FanSpeed {
    version: c_uint,
    fan: c_uint,
    speed: c_uint,
}

/// `nvmlProcessInfo_v2_t`.
#[derive(Debug)]
#[repr(C)]
pub struct ProcessInfo {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// `nvmlProcessUtilizationSample_t`.
#[derive(Debug)]
#[repr(C)]
pub struct ProcessUtilization {
    pid: c_uint,
    timestamp: c_ulonglong,
    sm: c_uint,
    mem: c_uint,
    enc: c_uint,
    dec: c_uint,
}

/// `NVML_STRUCT_VERSION`: the structure's size and its version in the top byte.
fn version<T>(number: c_uint) -> c_uint {
    std::mem::size_of::<T>() as c_uint | (number << 24)
}

/// This library's file with another ending.
fn beside(ending: &str) -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is one of this library's functions, and `info` is valid for writing.
    let found = unsafe { libc::dladdr(nvmlShutdown as *const c_void, info.as_mut_ptr()) };
    if found == 0 {
        return None;
    }
    // SAFETY: all-zero bytes are a valid Dl_info, and dladdr filled it.
    let info = unsafe { info.assume_init() };
    // SAFETY: dladdr gave a name that ends in NUL and lives as long as the library is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let mut path = OsStr::from_bytes(name.to_bytes()).to_os_string();
    path.push(ending);
    Some(path.into())
}

fn text_of(name: &str) -> Option<String> {
    let conf = std::fs::read_to_string(beside(".conf")?).ok()?;
    conf.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().to_string())
    })
}

fn value(name: &str) -> Option<u64> {
    text_of(name)?.parse().ok()
}

/// Notes the call; the answer of a function that is told to fail.
fn enter(function: &str) -> Result<(), Return> {
    if let Some(mut log) =
        beside(".log").and_then(|p| std::fs::OpenOptions::new().append(true).create(true).open(p).ok())
    {
        // A log that cannot be written fails the test that reads it.
        let _ = writeln!(log, "{function}");
    }
    match value(&format!("fail.{function}")) {
        Some(code) => Err(code as Return),
        None if function != "nvmlInit_v2" && INITIALIZED.load(Ordering::SeqCst) <= 0 => Err(UNINITIALIZED),
        None => Ok(()),
    }
}

/// Writes a result where NVML's caller wants it.
fn answer<T>(out: *mut T, function: &str, value: impl FnOnce() -> Result<T, Return>) -> Return {
    match enter(function).and_then(|()| value()) {
        Ok(value) => {
            // SAFETY: NVML's contract: the caller gives a pointer that is valid for writing the result.
            unsafe { out.write(value) };
            SUCCESS
        }
        Err(code) => code,
    }
}

/// One number of the configuration.
fn number(out: *mut c_uint, function: &str, name: &str) -> Return {
    answer(out, function, || value(name).map(|v| v as c_uint).ok_or(NOT_SUPPORTED))
}

macro_rules! nvml {
    ($($name:ident($($arg:ident: $type:ty),*) $body:block)*) => {$(
        /// The function of that name in nvml.h.
        // SAFETY: nobody else in a program that loads this library by its path defines the name; nothing is linked against it.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($arg: $type),*) -> Return $body
    )*};
}

nvml! {
    nvmlInit_v2() {
        match enter("nvmlInit_v2") {
            Ok(()) => {
                INITIALIZED.fetch_add(1, Ordering::SeqCst);
                SUCCESS
            }
            Err(code) => code,
        }
    }

    nvmlShutdown() {
        match enter("nvmlShutdown") {
            Ok(()) => {
                INITIALIZED.fetch_sub(1, Ordering::SeqCst);
                SUCCESS
            }
            Err(code) => code,
        }
    }

    nvmlSystemGetDriverVersion(out: *mut c_char, length: c_uint) {
        let text = b"580.82.07\0";
        if (length as usize) < text.len() {
            return INSUFFICIENT_SIZE;
        }
        answer(out.cast(), "nvmlSystemGetDriverVersion", || Ok(*text))
    }

    nvmlDeviceGetHandleByPciBusId_v2(bus_id: *const c_char, out: *mut Device) {
        answer(out, "nvmlDeviceGetHandleByPciBusId_v2", || {
            // SAFETY: NVML's contract: the caller gives text that ends in NUL.
            let wanted = unsafe { CStr::from_ptr(bus_id) };
            if wanted.to_str() == Ok(BUS_ID) { Ok(1 as Device) } else { Err(NOT_FOUND) }
        })
    }

    nvmlDeviceGetIndex(device: Device, out: *mut c_uint) {
        answer(out, "nvmlDeviceGetIndex", || Ok((device as usize).saturating_sub(1) as c_uint))
    }

    nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut Device) {
        answer(out, "nvmlDeviceGetHandleByIndex_v2", || if index == 0 { Ok(1 as Device) } else { Err(NOT_FOUND) })
    }

    nvmlDeviceGetUtilizationRates(_device: Device, out: *mut Utilization) {
        answer(out, "nvmlDeviceGetUtilizationRates", || {
            let of = |name| value(name).map(|v| v as c_uint).ok_or(NOT_SUPPORTED);
            Ok(Utilization { gpu: of("gpu")?, memory: of("memory")? })
        })
    }

    nvmlDeviceGetEncoderUtilization(_device: Device, out: *mut c_uint, _period: *mut c_uint) {
        number(out, "nvmlDeviceGetEncoderUtilization", "encoder")
    }

    nvmlDeviceGetDecoderUtilization(_device: Device, out: *mut c_uint, _period: *mut c_uint) {
        number(out, "nvmlDeviceGetDecoderUtilization", "decoder")
    }

    nvmlDeviceGetMemoryInfo_v2(device: Device, out: *mut Memory) {
        // SAFETY: NVML's contract: the caller gives a structure with its version filled in.
        let asked = unsafe { (*out).version };
        answer(out, "nvmlDeviceGetMemoryInfo_v2", || {
            if asked != version::<Memory>(2) {
                return Err(VERSION_MISMATCH);
            }
            let instance = (device as usize).checked_sub(MIG).map(|i| format!("mig.{i}.")).unwrap_or_default();
            let of = |name: &str| value(&format!("{instance}{name}")).ok_or(NOT_SUPPORTED);
            let (total, used, reserved) = (of("total")?, of("used")?, of("reserved")?);
            let free = total.saturating_sub(used).saturating_sub(reserved);
            Ok(Memory { version: asked, total, reserved, free, used })
        })
    }

    nvmlDeviceGetTotalEnergyConsumption(_device: Device, out: *mut c_ulonglong) {
        answer(out, "nvmlDeviceGetTotalEnergyConsumption", || value("energy").ok_or(NOT_SUPPORTED))
    }

    nvmlDeviceGetPowerUsage(_device: Device, out: *mut c_uint) {
        number(out, "nvmlDeviceGetPowerUsage", "power")
    }

    nvmlDeviceGetClockInfo(_device: Device, kind: c_uint, out: *mut c_uint) {
        number(out, "nvmlDeviceGetClockInfo", &format!("clock.{kind}"))
    }

    nvmlDeviceGetMaxClockInfo(_device: Device, kind: c_uint, out: *mut c_uint) {
        number(out, "nvmlDeviceGetMaxClockInfo", &format!("max.{kind}"))
    }

    nvmlDeviceGetTemperature(_device: Device, _sensor: c_uint, out: *mut c_uint) {
        number(out, "nvmlDeviceGetTemperature", "temperature")
    }

    nvmlDeviceGetCurrentClocksThrottleReasons(_device: Device, out: *mut c_ulonglong) {
        answer(out, "nvmlDeviceGetCurrentClocksThrottleReasons", || value("reasons").ok_or(NOT_SUPPORTED))
    }

    nvmlDeviceGetNumFans(_device: Device, out: *mut c_uint) {
        number(out, "nvmlDeviceGetNumFans", "fans")
    }

    nvmlDeviceGetFanSpeedRPM(_device: Device, out: *mut FanSpeed) {
        // SAFETY: NVML's contract: the caller gives a structure with its version and the fan filled in.
        let asked = unsafe { (*out).version };
        // SAFETY: as above.
        let fan = unsafe { (*out).fan };
        answer(out, "nvmlDeviceGetFanSpeedRPM", || {
            if asked != version::<FanSpeed>(1) {
                return Err(VERSION_MISMATCH);
            }
            let speed = value(&format!("rpm.{fan}")).ok_or(NOT_SUPPORTED)? as c_uint;
            Ok(FanSpeed { version: asked, fan, speed })
        })
    }

    nvmlDeviceGetMigMode(_device: Device, current: *mut c_uint, pending: *mut c_uint) {
        let code = number(current, "nvmlDeviceGetMigMode", "mig");
        if code == SUCCESS { number(pending, "nvmlDeviceGetMigMode", "mig") } else { code }
    }

    nvmlDeviceGetMaxMigDeviceCount(_device: Device, out: *mut c_uint) {
        number(out, "nvmlDeviceGetMaxMigDeviceCount", "mig.slots")
    }

    nvmlDeviceGetMigDeviceHandleByIndex(_device: Device, index: c_uint, out: *mut Device) {
        answer(out, "nvmlDeviceGetMigDeviceHandleByIndex", || {
            value(&format!("mig.{index}.used")).ok_or(NOT_FOUND)?;
            Ok((MIG + index as usize) as Device)
        })
    }

    nvmlDeviceGetComputeRunningProcesses_v3(_device: Device, count: *mut c_uint, out: *mut ProcessInfo) {
        processes("nvmlDeviceGetComputeRunningProcesses_v3", "compute", count, out)
    }

    nvmlDeviceGetGraphicsRunningProcesses_v3(_device: Device, count: *mut c_uint, out: *mut ProcessInfo) {
        processes("nvmlDeviceGetGraphicsRunningProcesses_v3", "graphics", count, out)
    }

    nvmlDeviceGetProcessUtilization(
        _device: Device,
        out: *mut ProcessUtilization,
        count: *mut c_uint,
        since: c_ulonglong
    ) {
        let parse = |entry: &str| {
            let mut parts = entry.split(':').map(|p| p.parse::<u64>().ok());
            let mut next = || parts.next().flatten();
            let (pid, timestamp) = (next()? as c_uint, next()?);
            let (sm, enc, dec) = (next()? as c_uint, next()? as c_uint, next()? as c_uint);
            (timestamp > since).then_some(ProcessUtilization { pid, timestamp, sm, mem: 0, enc, dec })
        };
        match enter("nvmlDeviceGetProcessUtilization") {
            Ok(()) => {
                let text = text_of("utilization").unwrap_or_default();
                let all: Vec<_> = text.split(',').filter_map(parse).collect();
                if all.is_empty() { NOT_FOUND } else { list(all, count, out) }
            }
            Err(code) => code,
        }
    }
}

fn processes(function: &str, name: &str, count: *mut c_uint, out: *mut ProcessInfo) -> Return {
    let parse = |entry: &str| {
        let (pid, used) = entry.split_once(':')?;
        let none = c_uint::MAX;
        let used = if used == "-" { c_ulonglong::MAX } else { used.parse().ok()? };
        Some(ProcessInfo { pid: pid.parse().ok()?, used, gpu_instance: none, compute_instance: none })
    };
    match enter(function) {
        Ok(()) => list(text_of(name).unwrap_or_default().split(',').filter_map(parse).collect(), count, out),
        Err(code) => code,
    }
}

/// A list as NVML hands it over: the number of entries first, when there is no room for them.
fn list<T>(all: Vec<T>, count: *mut c_uint, out: *mut T) -> Return {
    // SAFETY: NVML's contract: the caller gives the room it has, in entries.
    let room = if out.is_null() { 0 } else { unsafe { count.read() } } as usize;
    // SAFETY: as above, the pointer is valid for writing.
    unsafe { count.write(all.len() as c_uint) };
    if all.len() > room {
        return INSUFFICIENT_SIZE;
    }
    for (i, entry) in all.into_iter().enumerate() {
        // SAFETY: `i` is below the room that the caller gave.
        let place = unsafe { out.add(i) };
        // SAFETY: the place lies within the caller's array.
        unsafe { place.write(entry) };
    }
    SUCCESS
}
