//! Who uses the GPU: DRM clients and the processes that hold them.

use crate::{Counter, EngineClass, GpuId, Reading, Share, Text, Why};
use std::fmt;

/// What tells a client from the others of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKey {
    /// `drm-client-id`.
    Drm(u64),
    /// The number of the process: NVML and the kernel fusion driver tell processes, not the open files behind them.
    Process(u32),
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientKey::Drm(id) => write!(f, "{id}"),
            ClientKey::Process(pid) => write!(f, "pid{pid}"),
        }
    }
}

impl ClientKey {
    /// `drm-client-id`; none where a client is known as a process only.
    pub fn drm_id(self) -> Option<u64> {
        match self {
            ClientKey::Drm(id) => Some(id),
            ClientKey::Process(_) => None,
        }
    }
}

/// Engine time of one client on the engines of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientEngineSample {
    /// Class of work.
    pub class: EngineClass,
    /// The driver's word for it.
    pub name: Text,
    /// Number of engines of the class.
    pub capacity: u32,
    /// Time executing (part) of the class's time (whole): nanoseconds and nanoseconds times capacity, or cycles of cycles times
    /// capacity.
    pub busy: Reading<Share>,
}

/// Memory of one client in one region, in bytes. Private memory is total less shared.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientMemory {
    /// Region: `vram0`, `gtt`, `system0`, `memory`, …
    pub region: Text,
    /// All live buffers, those without backing included (`drm-total-`).
    pub total_bytes: Reading<u64>,
    /// Buffers with more than one handle (`drm-shared-`).
    pub shared_bytes: Reading<u64>,
    /// What is backed by memory now (`drm-resident-`): what the device's use is compared with.
    pub resident_bytes: Reading<u64>,
    /// Resident and in use by a job (`drm-active-`).
    pub active_bytes: Reading<u64>,
    /// What the kernel may take back (`drm-purgeable-`).
    pub purgeable_bytes: Reading<u64>,
}

/// One client: an open file of a device node, however many processes hold it, counted once by device and client id; or where a driver
/// tells of processes only, a process.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSample {
    /// The device.
    pub gpu: GpuId,
    /// With the device its identity.
    pub key: ClientKey,
    /// Where it is known from: `fdinfo`, `nvml (sampled)`, `kfd`.
    pub source: Text,
    /// `drm-client-name`, when the client gave itself one.
    pub client_name: Option<Text>,
    /// CLOCK_MONOTONIC when it was read (of fdinfo right after), in nanoseconds; absent where it was not read at this tick.
    pub read_ns: Reading<u64>,
    /// The process that it is counted for: of its holders the one that was started first.
    pub pid: u32,
    /// All processes that hold it, ascending, `pid` among them.
    pub holders: Vec<u32>,
    /// Engine time.
    pub engines: Vec<ClientEngineSample>,
    /// Memory.
    pub memory: Vec<ClientMemory>,
}

/// Facts of a process that holds a client.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSample {
    /// Process number.
    pub pid: u32,
    /// Start time in clock ticks after boot: with the pid the process's identity.
    pub start_ticks: u64,
    /// `comm`.
    pub comm: Reading<Text>,
    /// Command line, its words joined by spaces.
    pub command_line: Reading<Text>,
    /// Effective user number.
    pub uid: Reading<u32>,
    /// The user's name, where the system knows one.
    pub user: Reading<Text>,
    /// Path in the unified cgroup hierarchy.
    pub cgroup: Reading<Text>,
    /// Container: `docker:4f5a…` (12 digits), `podman:…`, `kubernetes:POD/…`, or a systemd unit `unit:NAME`.
    pub container: Reading<Text>,
    /// Time on CPUs, in nanoseconds.
    pub cpu_ns: Reading<Counter>,
    /// Resident memory.
    pub rss_bytes: Reading<u64>,
}

/// Device memory in one region, as a cgroup is charged for it.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupMemory {
    /// The device.
    pub gpu: GpuId,
    /// The driver's word for the region: `vram0`, `vram`.
    pub region: Text,
    /// Bytes in use by the cgroup and those below it. Source: `dmem.current`.
    pub used_bytes: u64,
    /// Size of the region. Source: `dmem.capacity` of the root.
    pub capacity_bytes: Reading<u64>,
}

/// A cgroup in which processes hold clients.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupSample {
    /// Path in the unified hierarchy.
    pub cgroup: Text,
    /// Device memory, a region each, whoever the clients are that use it.
    pub device_memory: Reading<Vec<CgroupMemory>>,
}

/// Why clients may be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientsGap {
    /// The GPU of which they may be missing; all of them without one.
    pub gpu: Option<GpuId>,
    /// Processes that hold this GPU open by files of which no client could be read, ascending: how many clients these are, and what
    /// they use, is not known. Empty where the processes are not known either.
    pub holders: Vec<u32>,
    /// Processes that hold it open and have no number here, being outside of this PID namespace: `COMMAND (uid N)`, sorted. Known to
    /// root only, from debugfs.
    pub unseen: Vec<Text>,
    /// Why.
    pub why: Why,
}

/// What keeps a GPU awake whoever holds it: a setting of its runtime power management.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlwaysOn {
    /// `power/control` is `on`.
    PowerControl,
    /// `power/autosuspend_delay_ms` is negative.
    AutosuspendDelay,
}

impl AlwaysOn {
    /// The word that JSON carries.
    pub fn as_str(self) -> &'static str {
        match self {
            AlwaysOn::PowerControl => "power_control",
            AlwaysOn::AutosuspendDelay => "autosuspend_delay",
        }
    }
}

/// Who uses the GPUs, at one tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientsSample {
    /// Sorted by GPU, owner and client id.
    pub clients: Vec<ClientSample>,
    /// Sorted by pid: every holder of a client.
    pub processes: Vec<ProcessSample>,
    /// Sorted by path: every cgroup of these processes.
    pub cgroups: Vec<CgroupSample>,
    /// Processes whose files may not be read: any of them may hold clients.
    pub denied_processes: usize,
    /// Why clients may be missing: of all GPUs first.
    pub gaps: Vec<ClientsGap>,
    /// Clients beyond the limit, which were left out.
    pub left_out: usize,
    /// The GPUs that a setting keeps awake, whoever holds them.
    pub always_on: Vec<(GpuId, AlwaysOn)>,
}

/// Engine use of one client over the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientEngineSnapshot {
    /// Class of work.
    pub class: EngineClass,
    /// The driver's word for it.
    pub name: Text,
    /// Number of engines of the class.
    pub capacity: u32,
    /// Share of the class's capacity, 0 to 1.
    pub busy_ratio: Reading<f64>,
}

/// One client over the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSnapshot {
    /// The device.
    pub gpu: GpuId,
    /// With the device its identity.
    pub key: ClientKey,
    /// Where it is known from.
    pub source: Text,
    /// `drm-client-name`.
    pub client_name: Option<Text>,
    /// CLOCK_MONOTONIC right after it was read, in nanoseconds: where the interval of its own use ends.
    pub read_ns: Reading<u64>,
    /// The process that it is counted for.
    pub pid: u32,
    /// All processes that hold it.
    pub holders: Vec<u32>,
    /// Engine use.
    pub engines: Vec<ClientEngineSnapshot>,
    /// Memory.
    pub memory: Vec<ClientMemory>,
}

/// One process over the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSnapshot {
    /// What does not change, as sampled.
    pub process: ProcessSample,
    /// Share of one CPU, 1 for a full one; more for several threads.
    pub cpu_ratio: Reading<f64>,
}

/// Who used the GPUs over the interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientsSnapshot {
    /// Sorted by GPU, owner and client id.
    pub clients: Vec<ClientSnapshot>,
    /// Sorted by pid.
    pub processes: Vec<ProcessSnapshot>,
    /// Sorted by path: every cgroup of these processes.
    pub cgroups: Vec<CgroupSample>,
    /// Processes whose files may not be read.
    pub denied_processes: usize,
    /// Why clients may be missing: of all GPUs first.
    pub gaps: Vec<ClientsGap>,
    /// Clients beyond the limit.
    pub left_out: usize,
    /// The GPUs that a setting keeps awake, whoever holds them.
    pub always_on: Vec<(GpuId, AlwaysOn)>,
}

impl ClientsSnapshot {
    /// Device memory of a cgroup.
    pub fn cgroup(&self, path: &str) -> Option<&CgroupSample> {
        let at = self.cgroups.binary_search_by(|c| c.cgroup.as_str().cmp(path)).ok()?;
        self.cgroups.get(at)
    }

    /// Facts of a process.
    pub fn process(&self, pid: u32) -> Option<&ProcessSnapshot> {
        let at = self.processes.binary_search_by_key(&pid, |p| p.process.pid).ok()?;
        self.processes.get(at)
    }
}
