//! What a guest test needs: the books of the virtual GPU, its knobs, its loads, and hotplug.
//!
//! Everything here works inside a guest of `testbed/boot.sh`, as root. It measures nothing itself: the thing under test
//! does, and [`Truth`] says what it should have found.

//!
//! These are helpers of tests: they panic, with the path, where the guest is not as it should be.

#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::expect_used, reason = "a helper that fails fails its test")]

mod jobs;

pub use jobs::{JobFlags, Jobs, LoggedJob, ProcessJobs, job_log, log_jobs, try_log_jobs};

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const DEVICES: &str = "/sys/bus/pci/devices";
const PLATFORM_DEVICES: &str = "/sys/bus/platform/devices";

/// What the module knows of one device, all of one moment.
///
/// Source: `/sys/kernel/debug/vgpu-<bdf>`; reading it never takes part in runtime power management.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// `CLOCK_MONOTONIC` at which the clocked values hold.
    pub monotonic_ns: u64,
    /// Which real device this one plays: `i915`, `xe`, ...
    pub identity: String,
    /// `CLOCK_MONOTONIC` at which the driver was bound; residencies and energy count from there.
    pub born_ns: u64,
    /// `active` or `suspended` (or, for a moment, `suspending`, `resuming`).
    pub runtime_status: String,
    /// Accesses with a runtime PM reference that found the device not active.
    pub waking_accesses: u64,
    /// All accesses with a runtime PM reference, jobs excepted.
    pub touches: u64,
    /// Jobs that found the device not active.
    pub job_wakes: u64,
    /// Runtime suspends.
    pub suspends: u64,
    /// Runtime resumes.
    pub resumes: u64,
    /// Open perf events.
    pub pmu_events: u64,
    /// Open i915 events for which the real driver runs its 200 Hz timer: wait, sema, frequencies.
    pub pmu_sampling_events: u64,
    /// Open xe events that hold forcewake: engines and frequencies.
    pub pmu_forcewake_events: u64,
    /// Finished jobs, an interrupt each.
    pub interrupts: u64,
    /// Energy of the card (xe) or the package (i915), in microjoules.
    pub energy1_uj: u64,
    /// Energy of the package (xe), in microjoules.
    pub energy2_uj: u64,
    /// Temperature of the package, in thousandths of a degree Celsius.
    pub temp_mc: u64,
    /// Temperature of the memory, in thousandths of a degree Celsius.
    pub vram_temp_mc: u64,
    /// Speed of the fan.
    pub fan_rpm: u64,
    /// Which part of busy time counts as waiting for an event.
    pub wait_permille: u64,
    /// Which part of busy time counts as waiting for a semaphore.
    pub sema_permille: u64,
    /// The GTs, by number.
    pub gts: Vec<Gt>,
    /// The engines, by name.
    pub engines: BTreeMap<String, Engine>,
}

/// One GT's truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gt {
    /// Time in RC6 or C6: no job ran and nobody held forcewake.
    pub rc6_ns: u64,
    /// Actual frequency while awake, as set.
    pub act_mhz: u64,
    /// Requested frequency, as set.
    pub req_mhz: u64,
    /// Actual frequency summed over awake time, in MHz·µs.
    pub act_integral: u64,
    /// Requested frequency summed over awake time, in MHz·µs.
    pub req_integral: u64,
    /// Throttle reasons, a bit each: pl1, pl2, pl4, thermal, prochot, ratl, vr_thermalert, vr_tdc.
    pub throttle: u64,
}

/// One engine's truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Engine {
    /// Number of its GT.
    pub gt: usize,
    /// Time with a job.
    pub busy_ns: u64,
    /// Finished jobs.
    pub jobs: u64,
    /// Time waiting for an event.
    pub wait_ns: u64,
    /// Time waiting for a semaphore.
    pub sema_ns: u64,
}

impl Truth {
    /// Reads the truth of the device at this PCI address (`0000:00:02.0`).
    ///
    /// # Panics
    ///
    /// The device is not bound, or this is no guest.
    #[must_use]
    pub fn read(bdf: &str) -> Self {
        Self::try_read(bdf).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The same of a device that may be gone.
    ///
    /// # Errors
    ///
    /// The device is not bound, or this is no guest.
    pub fn try_read(bdf: &str) -> io::Result<Self> {
        let text = Self::try_read_text(bdf)?;
        Self::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{bdf}: {text}")))
    }

    /// Reads the text that [`parse`](Self::parse) takes apart.
    ///
    /// # Errors
    ///
    /// The device is not bound, or this is no guest.
    pub fn try_read_text(bdf: &str) -> io::Result<String> {
        let path = format!("/sys/kernel/debug/vgpu-{bdf}");
        fs::read_to_string(&path).map_err(|e| named(&path, &e))
    }

    /// Takes the text of a truth file apart; lines with unknown keys pass.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut truth = Truth::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["identity", name] => truth.identity = (*name).to_string(),
                ["runtime_status", status] => truth.runtime_status = (*status).to_string(),
                ["engine", name, gt, rest @ ..] => {
                    let pairs = pairs(rest)?;
                    let engine = Engine {
                        gt: gt.strip_prefix("gt")?.parse().ok()?,
                        busy_ns: *pairs.get("busy")?,
                        jobs: *pairs.get("jobs")?,
                        wait_ns: *pairs.get("wait")?,
                        sema_ns: *pairs.get("sema")?,
                    };
                    truth.engines.insert((*name).to_string(), engine);
                }
                [key, value] => truth.single(key, value.parse().ok()?),
                [gt, rest @ ..] if gt.starts_with("gt") => {
                    let pairs = pairs(rest)?;
                    let value = |key| pairs.get(key).copied();
                    truth.gts.push(Gt {
                        rc6_ns: value("rc6_ns")?,
                        act_mhz: value("act_mhz")?,
                        req_mhz: value("req_mhz")?,
                        act_integral: value("act_integral")?,
                        req_integral: value("req_integral")?,
                        throttle: value("throttle")?,
                    });
                }
                _ => {}
            }
        }
        (truth.monotonic_ns > 0).then_some(truth)
    }

    fn single(&mut self, key: &str, value: u64) {
        let field = match key {
            "monotonic_ns" => &mut self.monotonic_ns,
            "born_ns" => &mut self.born_ns,
            "waking_accesses" => &mut self.waking_accesses,
            "touches" => &mut self.touches,
            "job_wakes" => &mut self.job_wakes,
            "suspends" => &mut self.suspends,
            "resumes" => &mut self.resumes,
            "pmu_events" => &mut self.pmu_events,
            "pmu_sampling_events" => &mut self.pmu_sampling_events,
            "pmu_forcewake_events" => &mut self.pmu_forcewake_events,
            "interrupts" => &mut self.interrupts,
            "energy1_uj" => &mut self.energy1_uj,
            "energy2_uj" => &mut self.energy2_uj,
            "temp_mc" => &mut self.temp_mc,
            "vram_temp_mc" => &mut self.vram_temp_mc,
            "fan_rpm" => &mut self.fan_rpm,
            "wait_permille" => &mut self.wait_permille,
            "sema_permille" => &mut self.sema_permille,
            _ => return,
        };
        *field = value;
    }

    /// Busy time of one engine; 0 for one that is not there.
    #[must_use]
    pub fn busy_ns(&self, engine: &str) -> u64 {
        self.engines.get(engine).map_or(0, |e| e.busy_ns)
    }

    /// Whether the device sleeps.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.runtime_status == "suspended"
    }
}

/// Who holds what of one device, all of one moment.
///
/// Source: `/sys/kernel/debug/vgpu-<bdf>-clients`; reading it never takes part in runtime power management. The busy time
/// of the clients and of [`gone`](Self::gone_ns) add up to the engines', to the nanosecond.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clients {
    /// `CLOCK_MONOTONIC` at which it all holds.
    pub monotonic_ns: u64,
    /// Busy time of each engine since the driver was bound.
    pub engines_ns: BTreeMap<String, u64>,
    /// Busy time by engine of clients that are no more.
    pub gone_ns: BTreeMap<String, u64>,
    /// The clients, oldest first.
    pub clients: Vec<Client>,
}

/// One client's truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    /// As fdinfo prints it: `drm-client-id`.
    pub id: u64,
    /// The process that opened the node.
    pub pid: u32,
    /// Whether a descriptor is left; a closed client's jobs may still run.
    pub open: bool,
    /// Busy time by engine.
    pub busy_ns: BTreeMap<String, u64>,
    /// Memory by region, as the identity's fdinfo names it.
    pub memory: BTreeMap<String, Memory>,
    /// Its name; empty without. Only Linux 6.14 and later print one.
    pub name: String,
}

/// A client's memory in a region, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All buffers.
    pub total: u64,
    /// Of it, buffers that another client holds too.
    pub shared: u64,
    /// Of it, buffers with pages.
    pub resident: u64,
    /// Of it, buffers in use by a job.
    pub active: u64,
    /// Of it, resident buffers that may be taken away.
    pub purgeable: u64,
}

impl Clients {
    /// Reads the clients of the device at this address (`0000:00:02.0`, `fb000000.gpu`).
    ///
    /// # Panics
    ///
    /// The device is not bound, or this is no guest.
    #[must_use]
    pub fn read(bdf: &str) -> Self {
        let text = Self::read_text(bdf);
        Self::parse(&text).unwrap_or_else(|| panic!("{bdf}: {text}"))
    }

    /// Reads the text that [`parse`](Self::parse) takes apart.
    ///
    /// # Panics
    ///
    /// The device is not bound, or this is no guest.
    #[must_use]
    pub fn read_text(bdf: &str) -> String {
        let path = format!("/sys/kernel/debug/vgpu-{bdf}-clients");
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Takes the text of a clients file apart; lines with unknown keys pass. None if clients were left out.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Clients::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["monotonic_ns", value] => all.monotonic_ns = value.parse().ok()?,
                ["left_out", left] if *left != "0" => return None,
                ["engines", busy @ ..] => all.engines_ns = equations(busy)?,
                ["gone", busy @ ..] => all.gone_ns = equations(busy)?,
                ["client", ..] => all.clients.push(Client::parse(line)?),
                _ => {}
            }
        }
        (all.monotonic_ns > 0).then_some(all)
    }

    /// The client of that number.
    #[must_use]
    pub fn client(&self, id: u64) -> Option<&Client> {
        self.clients.iter().find(|c| c.id == id)
    }
}

impl Client {
    fn parse(line: &str) -> Option<Self> {
        // The name is the rest of the line: it may hold anything, " name " too.
        let (fixed, name) = line.split_once(" name ")?;
        let (head, memory) = fixed.split_once(" mem ")?;
        let (head, busy) = head.split_once(" busy ")?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let ["client", id, "pid", pid, "open", open] = words.as_slice() else { return None };
        let busy: Vec<&str> = busy.split_whitespace().collect();
        let memory = memory.split_whitespace().map(|region| {
            let (name, sizes) = region.split_once('=')?;
            let sizes: Vec<u64> = sizes.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
            let [total, shared, resident, active, purgeable] = *sizes.as_slice() else { return None };
            Some((name.to_string(), Memory { total, shared, resident, active, purgeable }))
        });
        Some(Client {
            id: id.parse().ok()?,
            pid: pid.parse().ok()?,
            open: *open == "1",
            busy_ns: equations(&busy)?,
            memory: memory.collect::<Option<_>>()?,
            name: name.to_string(),
        })
    }

    /// Busy time of one engine; 0 for one that is not there.
    #[must_use]
    pub fn busy_ns(&self, engine: &str) -> u64 {
        self.busy_ns.get(engine).copied().unwrap_or(0)
    }
}

fn equations(words: &[&str]) -> Option<BTreeMap<String, u64>> {
    words
        .iter()
        .map(|word| word.split_once('=').and_then(|(name, value)| Some((name.to_string(), value.parse().ok()?))))
        .collect()
}

fn pairs<'a>(words: &[&'a str]) -> Option<BTreeMap<&'a str, u64>> {
    words.chunks(2).map(|pair| Some((*pair.first()?, pair.get(1)?.parse().ok()?))).collect()
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

fn try_write(path: &str, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|e| named(path, &e))
}

fn write(path: &str, text: &str) {
    try_write(path, text).unwrap_or_else(|e| panic!("{text}: {e}"));
}

/// Turns a knob of the device: `gt0 act_mhz 900`, `gt1 throttle pl1 1`, `temp 61000`, `wait_permille 250`, ...
///
/// # Panics
///
/// No such knob or device.
pub fn set(bdf: &str, line: &str) {
    try_set(bdf, line).unwrap_or_else(|e| panic!("{line}: {e}"));
}

/// The same for a knob that may be refused.
///
/// # Errors
///
/// No such knob or device.
pub fn try_set(bdf: &str, line: &str) -> io::Result<()> {
    try_write(&format!("/sys/kernel/debug/vgpu-{bdf}-set"), line)
}

/// A virtual GPU of this guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// PCI address, `0000:00:02.0`; the platform device's name, `fb000000.gpu`, where there is none.
    pub bdf: String,
    /// Which real device it plays.
    pub identity: String,
    /// `/dev/dri/cardN`.
    pub card: String,
    /// `/dev/dri/renderDN`.
    pub render: String,
}

impl Gpu {
    /// Its folder under `/sys/bus/pci/devices` or `/sys/bus/platform/devices`.
    #[must_use]
    pub fn device(&self) -> PathBuf {
        Path::new(if self.identity == "panthor" { PLATFORM_DEVICES } else { DEVICES }).join(&self.bdf)
    }

    /// Its card's folder under `/sys/class/drm`.
    #[must_use]
    pub fn card_sysfs(&self) -> PathBuf {
        Path::new("/sys/class/drm").join(self.card.trim_start_matches("/dev/dri/"))
    }

    /// Name of the driver it is bound to.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        match self.identity.as_str() {
            "amdgpu" => "amdgpu",
            "panthor" => "panthor",
            name if name.starts_with("xe") => "xe",
            _ => "i915",
        }
    }

    /// Name of its perf PMU (Intel's only), whether or not this kernel offers one.
    #[must_use]
    pub fn pmu(&self) -> String {
        match (self.identity.as_str(), self.bdf.as_str()) {
            ("i915" | "i915-mtl", "0000:00:02.0") => "i915".to_string(),
            _ => format!("{}_{}", self.driver(), self.bdf.replace(':', "_")),
        }
    }

    /// Its truth now.
    ///
    /// # Panics
    ///
    /// See [`Truth::read`].
    #[must_use]
    pub fn truth(&self) -> Truth {
        Truth::read(&self.bdf)
    }

    /// Its clients now.
    ///
    /// # Panics
    ///
    /// See [`Clients::read`].
    #[must_use]
    pub fn clients(&self) -> Clients {
        Clients::read(&self.bdf)
    }
}

/// The virtual GPUs that are bound, in PCI order, the one that is no PCI device last. Found by address: card numbers are given driver by driver.
///
/// # Panics
///
/// There is no `/sys`.
#[must_use]
pub fn gpus() -> Vec<Gpu> {
    let mut gpus = Vec::new();
    let pci = fs::read_dir(DEVICES).unwrap_or_else(|e| panic!("{DEVICES}: {e}"));
    for device in pci.chain(fs::read_dir(PLATFORM_DEVICES).into_iter().flatten()).flatten() {
        let bdf = device.file_name().to_string_lossy().into_owned();
        let Ok(nodes) = fs::read_dir(device.path().join("drm")) else { continue };
        let names: Vec<String> = nodes.flatten().map(|n| n.file_name().to_string_lossy().into_owned()).collect();
        let node = |prefix| names.iter().find(|n| n.starts_with(prefix)).map(|n| format!("/dev/dri/{n}"));
        if let (Ok(truth), Some(card), Some(render)) = (Truth::try_read(&bdf), node("card"), node("renderD")) {
            gpus.push(Gpu { bdf, identity: truth.identity, card, render });
        }
    }
    gpus.sort_by(|a, b| a.bdf.cmp(&b.bdf));
    gpus
}

/// The bound GPU that plays this device; none where the kernel has no driver for it, or the guest was started without.
///
/// # Panics
///
/// There is no `/sys`.
#[must_use]
pub fn gpu(identity: &str) -> Option<Gpu> {
    gpus().into_iter().find(|g| g.identity == identity)
}

/// Where `vgpu-load` is.
#[must_use]
pub fn load_program() -> String {
    format!("{}/bin/vgpu-load", cache())
}

/// What setup.sh has made.
fn cache() -> String {
    std::env::var("TESTBED_CACHE").unwrap_or_else(|_| "/var/cache/gpu-testbed".to_string())
}

/// A program of Debian sid, with its own libraries, if setup.sh has made the tree: it does for the newest kernel.
pub fn sid_program(name: &str) -> Option<Vec<String>> {
    let sid = format!("{}/sid/usr", cache());
    let program = format!("{sid}/bin/{name}");
    let libraries = format!("{sid}/lib/x86_64-linux-gnu");
    let loader = format!("{libraries}/ld-linux-x86-64.so.2");
    Path::new(&program).exists().then(|| vec![loader, "--library-path".into(), libraries, program])
}

fn program(arguments: &[String]) -> Child {
    let program = load_program();
    Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Reads up to the line "ready" and returns what came before it.
fn until_ready(child: &mut Child) -> (BufReader<ChildStdout>, Vec<String>) {
    let mut out = BufReader::new(child.stdout.take().expect("its output is piped"));
    let mut said = Vec::new();
    loop {
        let mut line = String::new();
        if out.read_line(&mut line).expect("the load writes text") == 0 {
            let mut why = String::new();
            let _ = child.stderr.take().map(|mut e| e.read_to_string(&mut why));
            panic!("the load ended before it was ready: {why}");
        }
        if line.trim() == "ready" {
            return (out, said);
        }
        said.push(line);
    }
}

/// A load on one engine, from `vgpu-load`; ended when dropped.
#[derive(Debug)]
pub struct Load {
    child: Child,
    out: BufReader<ChildStdout>,
    clients: Vec<LoadClient>,
}

/// A client that a load opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadClient {
    /// As fdinfo prints it.
    pub id: u64,
    /// The node it was opened by.
    pub node: String,
    /// The processes with a descriptor of it, the one that opened it first.
    pub pids: Vec<u32>,
}

impl LoadClient {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["client", id, "node", node, "pids", pids] = words.as_slice() else { return None };
        let pids = pids.split(',').map(|p| p.parse().ok()).collect::<Option<_>>()?;
        Some(LoadClient { id: id.parse().ok()?, node: (*node).to_string(), pids })
    }
}

fn positional(node: impl AsRef<Path>, engine: &str, duty: f64, job_us: u64, seconds: f64) -> [String; 5] {
    let node = node.as_ref().display().to_string();
    [node, engine.to_string(), duty.to_string(), job_us.to_string(), seconds.to_string()]
}

impl Load {
    /// Starts jobs of `job_us` microseconds, so many that the engine is busy `duty` percent of `seconds`.
    ///
    /// # Panics
    ///
    /// `setup.sh` did not build the program.
    #[must_use]
    pub fn start(node: impl AsRef<Path>, engine: &str, duty: f64, job_us: u64, seconds: f64) -> Self {
        let mut child = program(&positional(node, engine, duty, job_us, seconds));
        let out = BufReader::new(child.stdout.take().expect("its output is piped"));
        Load { child, out, clients: Vec::new() }
    }

    /// The same with options of `vgpu-load` (`--fork`, `--alloc`, `16M:local`, ...); returns when all it opens is open.
    ///
    /// # Panics
    ///
    /// The load refuses.
    #[must_use]
    pub fn with(options: &[&str], node: impl AsRef<Path>, engine: &str, duty: f64, job_us: u64, seconds: f64) -> Self {
        assert!(!options.is_empty(), "without options a load does not say when it is ready");
        let mut arguments: Vec<String> = options.iter().map(|o| (*o).to_string()).collect();
        arguments.extend(positional(node, engine, duty, job_us, seconds));
        let mut child = program(&arguments);
        let (out, said) = until_ready(&mut child);
        let clients = said.iter().map(|l| LoadClient::parse(l).unwrap_or_else(|| panic!("a load said {l}"))).collect();
        Load { child, out, clients }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its clients, where it was started [`with`](Self::with) options: the node's, the other node's (`--both`), the
    /// sharing child's (`--shared`).
    #[must_use]
    pub fn clients(&self) -> &[LoadClient] {
        &self.clients
    }

    /// Waits for its end and returns how it ended and what it said.
    ///
    /// # Panics
    ///
    /// The process is lost.
    pub fn wait(mut self) -> (bool, String) {
        let mut text = String::new();
        self.out.read_to_string(&mut text).expect("the load writes text");
        if let Some(err) = &mut self.child.stderr {
            err.read_to_string(&mut text).expect("the load writes text");
        }
        (self.child.wait().expect("the load is a child").success(), text)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself: then both have nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that come and go (fork without exec), some with a client, from `vgpu-load churn`; ended when dropped.
#[derive(Debug)]
pub struct Churn {
    load: Load,
}

/// A process of [`Churn`] that held a client for two seconds or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its process.
    pub pid: u32,
    /// Its client, as fdinfo prints it.
    pub client: u64,
    /// `CLOCK_MONOTONIC` at which it had the client.
    pub from_ns: u64,
    /// `CLOCK_MONOTONIC` just before it ended.
    pub to_ns: u64,
    /// Whether its descriptor took the place of another file's.
    pub swapped: bool,
}

impl Life {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["lived", rest @ ..] = words.as_slice() else { return None };
        let of = pairs(rest)?;
        Some(Life {
            pid: (*of.get("pid")?).try_into().ok()?,
            client: *of.get("client")?,
            from_ns: *of.get("from_ns")?,
            to_ns: *of.get("to_ns")?,
            swapped: *of.get("swapped")? == 1,
        })
    }
}

impl Churn {
    /// Starts `rate` processes a second for `seconds`.
    ///
    /// # Panics
    ///
    /// `setup.sh` did not build the program.
    #[must_use]
    pub fn start(node: impl AsRef<Path>, rate: f64, seconds: f64) -> Self {
        let node = node.as_ref().display().to_string();
        let mut child = program(&["churn".to_string(), node, rate.to_string(), seconds.to_string()]);
        let (out, _) = until_ready(&mut child);
        Churn { load: Load { child, out, clients: Vec::new() } }
    }

    /// Waits for its last process, and returns those that lived long, and how many there were in all.
    ///
    /// # Panics
    ///
    /// It failed.
    pub fn wait(self) -> (Vec<Life>, u64) {
        let (ok, said) = self.load.wait();
        assert!(ok, "{said}");
        let forked = said.lines().find_map(|l| l.strip_prefix("churn forked ")?.split(' ').next()?.parse().ok());
        (said.lines().filter_map(Life::parse).collect(), forked.unwrap_or_else(|| panic!("{said}")))
    }
}

/// Processes with files and without a client, from `vgpu-load idle`; ended when dropped.
#[derive(Debug)]
pub struct Idle {
    load: Load,
}

impl Idle {
    /// Starts so many, each with so many files beside its three; returns when all were started.
    ///
    /// # Panics
    ///
    /// There are too many.
    #[must_use]
    pub fn start(count: u32, files: u32) -> Self {
        let mut child = program(&["idle".to_string(), count.to_string(), files.to_string(), "100000".to_string()]);
        let (out, _) = until_ready(&mut child);
        Idle { load: Load { child, out, clients: Vec::new() } }
    }

    /// The process that started them.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.load.pid()
    }
}

/// Pulls the device out.
///
/// # Panics
///
/// No such device.
pub fn unplug(bdf: &str) {
    write(&format!("{DEVICES}/{bdf}/remove"), "1");
}

/// Finds devices that were pulled out.
///
/// # Panics
///
/// This is no guest.
pub fn rescan() {
    write("/sys/bus/pci/rescan", "1");
}

/// Takes the driver off a device.
///
/// # Panics
///
/// The device has none.
pub fn unbind(bdf: &str) {
    let pci = format!("{DEVICES}/{bdf}/driver/unbind");
    let driver = if Path::new(&pci).exists() { pci } else { format!("{PLATFORM_DEVICES}/{bdf}/driver/unbind") };
    write(&driver, bdf);
}

/// Puts the driver on a device: the one that takes it.
///
/// # Panics
///
/// None does.
pub fn bind(bdf: &str) {
    let drivers = ["pci/drivers/i915", "pci/drivers/xe", "pci/drivers/amdgpu", "platform/drivers/panthor"];
    let taken = drivers.iter().any(|d| try_write(&format!("/sys/bus/{d}/bind"), bdf).is_ok());
    assert!(taken, "no driver takes {bdf}");
}

/// Sets `kernel.perf_event_paranoid`.
///
/// # Panics
///
/// Not root.
pub fn paranoid(level: i32) {
    write("/proc/sys/kernel/perf_event_paranoid", &level.to_string());
}

/// Sets a CPU on or off line.
///
/// # Panics
///
/// The kernel does not let go of this CPU; since 6.5 x86 never does of CPU 0.
pub fn cpu_online(cpu: u32, online: bool) {
    write(&format!("/sys/devices/system/cpu/cpu{cpu}/online"), if online { "1" } else { "0" });
}

/// The kernel's version, its first two numbers: `6.1`, `6.12`, `7.2`.
///
/// # Panics
///
/// There is no `/proc`.
#[must_use]
pub fn kernel() -> String {
    let (major, minor) = version();
    format!("{major}.{minor}")
}

/// Whether the kernel is this version or newer.
///
/// # Panics
///
/// There is no `/proc`.
#[must_use]
pub fn kernel_since(major: u32, minor: u32) -> bool {
    version() >= (major, minor)
}

fn version() -> (u32, u32) {
    let path = "/proc/sys/kernel/osrelease";
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => panic!("{path}: {text}"),
    }
}

/// Asks again and again until the answer is yes; false when `timeout` has passed.
pub fn wait_until(timeout: Duration, mut f: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if f() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_with_two_gts() {
        let text = "monotonic_ns 5\nidentity xe\nruntime_status suspended\ntouches 3\nnew_key 9\n\
            gt0 rc6_ns 1 act_mhz 2 req_mhz 3 act_integral 4 req_integral 5 throttle 1\n\
            gt1 rc6_ns 6 act_mhz 7 req_mhz 8 act_integral 9 req_integral 10 throttle 0\n\
            engine vcs1 gt1 busy 11 jobs 12 wait 13 sema 14\n";
        let truth = Truth::parse(text).unwrap();
        assert!(truth.is_suspended());
        assert_eq!((truth.touches, truth.gts[1].act_mhz, truth.gts.len()), (3, 7, 2));
        assert_eq!(truth.engines["vcs1"], Engine { gt: 1, busy_ns: 11, jobs: 12, wait_ns: 13, sema_ns: 14 });
        assert_eq!(truth.busy_ns("rcs0"), 0);
    }

    #[test]
    fn clients_with_a_name_of_words() {
        let text = "monotonic_ns 7\nleft_out 0\nengines rcs0=5 bcs0=0\ngone rcs0=1 bcs0=0\n\
            client 3 pid 45 open 1 busy rcs0=4 bcs0=0 mem system0=5,4,3,2,1 local0=0,0,0,0,0 name my name app\n\
            client 4 pid 46 open 0 busy rcs0=0 bcs0=0 mem system0=0,0,0,0,0 name \n";
        let all = Clients::parse(text).unwrap();
        assert_eq!((all.engines_ns["rcs0"], all.gone_ns["rcs0"], all.clients.len()), (5, 1, 2));
        let first = all.client(3).unwrap();
        assert_eq!((first.pid, first.open, first.busy_ns("rcs0"), first.name.as_str()), (45, true, 4, "my name app"));
        let memory = Memory { total: 5, shared: 4, resident: 3, active: 2, purgeable: 1 };
        assert_eq!(first.memory["system0"], memory);
        assert_eq!((all.clients[1].open, all.clients[1].name.as_str()), (false, ""));
        assert_eq!(Clients::parse("monotonic_ns 7\nleft_out 2\n"), None);
    }

    #[test]
    fn lines_of_loads() {
        let client = LoadClient::parse("client 7 node /dev/dri/card0 pids 12,13\n").unwrap();
        assert_eq!(client, LoadClient { id: 7, node: "/dev/dri/card0".to_string(), pids: vec![12, 13] });
        let life = Life::parse("lived pid 5 client 6 from_ns 7 to_ns 8 swapped 1").unwrap();
        assert_eq!(life, Life { pid: 5, client: 6, from_ns: 7, to_ns: 8, swapped: true });
    }

    #[test]
    fn truth_that_is_none() {
        assert_eq!(Truth::parse(""), None);
        assert_eq!(Truth::parse("monotonic_ns x\n"), None);
    }
}
