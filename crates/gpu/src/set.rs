//! All GPUs of a machine, sampled together: devices that come and go, sleeping devices left asleep, sources that the whole machine
//! shares read once.

use crate::Options;
use crate::discover;
use crate::drivers::{self, Access, Context, Device, PowerState};
use crate::fdinfo::classes::{self, ClassSums, ClientUse};
use crate::fdinfo::is_inner_namespace;
use crate::fdinfo::samples::{self, ClientsOf};
use crate::fdinfo::scanner::{ClientScanner, Target};
use crate::wake::{Decision, Governor, PowerFacts};
use gpuscope_model::{
    BandwidthSample, ClientsGap, ClientsSample, Clock, DeviceEvent, DeviceEventKind, DeviceInfo, DeviceSample,
    EngineClass, GpuId, Reading, Reason, Sample, SourceReport, Text, Vendor, Why,
};
use gpuscope_pmu::Rights;
use gpuscope_pmu::imc::Imc;
use gpuscope_pmu::rapl::{Rapl, RaplSample};
use gpuscope_sys::{Roots, monotonic_ns};

/// A driver that is binding shows its DRM nodes before its PMU and its hwmon device: a GPU that appears is opened this long after it
/// was first seen.
const SETTLE_NS: u64 = 500_000_000;

const MUTE: Why = Why {
    reason: Reason::NotSupported,
    detail: Text::Static("processes hold it open, and its driver says nothing about them in fdinfo"),
    remedy: None,
};

/// The GPUs of a machine.
///
/// Opening never fails: a machine without a GPU is an empty set, and a GPU that appears later joins it. One device's trouble never
/// ends the others' sampling.
pub struct GpuSet {
    roots: Roots,
    options: Options,
    rights: Rights,
    slots: Vec<Slot>,
    /// Names of nodes and bound devices when devices were last looked for.
    nodes: Vec<String>,
    /// A device left: it may come back under the very same names, so the next look is made whatever the names say.
    stale: bool,
    /// A device was opened anew, with other nodes.
    reopened: bool,
    looked_at_ns: u64,
    /// Devices seen for the first time after the start, and when: see [`SETTLE_NS`].
    arriving: Vec<(GpuId, u64)>,
    machine: Option<Machine>,
    clients: Option<ClientScanner>,
    /// This program does not see the numbers that processes have on the host.
    inner_namespace: bool,
    /// One a slot, in their order.
    targets: Vec<Target>,
}

/// One device and what is remembered of it between ticks.
struct Slot {
    device: Box<dyn Device>,
    governor: Governor,
    power: PowerState,
    sums: ClassSums,
    /// Whether sources that wake may be read at this tick.
    access: Access,
    rdevs: Vec<u64>,
    /// A client was busy, seen even where not all clients can be.
    clients_busy: bool,
    /// Sum of all busy counters at the last tick.
    work: Option<u64>,
}

/// Sources of the whole machine, opened with the first integrated Intel GPU.
struct Machine {
    rapl: Rapl,
    imc: Imc,
}

impl GpuSet {
    /// Looks for GPUs and opens their sources. Wakes nothing unless [`Options::perturbing`] asks for it.
    pub fn open(roots: Roots, options: Options) -> Self {
        let rights = Rights::read(&roots);
        let namespace = std::fs::read_link(roots.proc("self/ns/pid")).unwrap_or_default();
        let mut set = GpuSet {
            inner_namespace: namespace.to_str().is_some_and(is_inner_namespace),
            roots,
            options,
            rights,
            slots: Vec::new(),
            nodes: Vec::new(),
            stale: true,
            reopened: false,
            looked_at_ns: 0,
            arriving: Vec::new(),
            machine: None,
            clients: None,
            targets: Vec::new(),
        };
        // What is there at the start is no news.
        set.look(monotonic_ns(), &mut Vec::new());
        set
    }

    /// The devices, ordered by PCI address.
    pub fn infos(&self) -> impl Iterator<Item = &DeviceInfo> {
        self.slots.iter().map(|s| s.device.info())
    }

    /// What this process may do, as it was when the set was opened.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Reads every device once, into `out`, whose memory is used again.
    pub fn sample(&mut self, out: &mut Sample) {
        let now = monotonic_ns();
        out.at_ns = now;
        out.events.clear();
        self.read_power(now, &mut out.events);
        let pause_ns = if self.arriving.is_empty() { self.options.rescan_ns } else { SETTLE_NS };
        if now.saturating_sub(self.looked_at_ns) >= pause_ns {
            self.look(now, &mut out.events);
        }
        self.align(out);
        for ((slot, target), gpu) in self.slots.iter_mut().zip(&mut self.targets).zip(&mut out.gpus) {
            slot.decide(now);
            let need = slot.device.fdinfo();
            target.wanted = need.needed || self.options.clients;
            target.readable = !need.wakes || matches!(slot.access, Access::Allowed);
            gpu.runtime_status.clone_from(&slot.power.status);
            slot.device.sample(&slot.access, gpu);
        }
        self.read_clients(now, out);
        self.read_machine(out);
        for (slot, gpu) in self.slots.iter_mut().zip(&out.gpus) {
            slot.observe(now, gpu);
        }
    }

    /// Whether each source works, why not, and what would help: what `gpuscope doctor` prints.
    pub fn reports(&self) -> Vec<SourceReport> {
        let mut reports: Vec<SourceReport> = self.slots.iter().flat_map(|s| s.device.reports()).collect();
        let opened;
        let machine = match &self.machine {
            Some(machine) => machine,
            None => {
                opened = Machine::open(&self.roots, &self.rights);
                &opened
            }
        };
        reports.extend(machine.rapl.reports());
        reports.extend(machine.imc.reports());
        reports.extend(self.clients_reports());
        reports
    }

    /// Whether the clients of each device, and those of all processes, can be read, and how they are found.
    fn clients_reports(&self) -> Vec<SourceReport> {
        const UNLOCKS: &[&str] = &["gpuscope_class_busy_ratio"];
        let mut scanner = ClientScanner::new(self.roots.clone());
        let mut targets: Vec<Target> = self.slots.iter().map(Slot::target).collect();
        // Looking for clients wakes nothing; fdinfo that would is not read here.
        for (target, slot) in targets.iter_mut().zip(&self.slots) {
            target.wanted = true;
            target.readable = !slot.device.fdinfo().wakes;
        }
        scanner.refresh(&targets, monotonic_ns());
        let of_gpu = |(i, slot): (usize, &Slot)| {
            let id = Some(&slot.device.info().id);
            let count = scanner.clients().filter(|c| c.target == i).count();
            match (count, tells_nothing(&scanner, i), slot.device.knows_processes()) {
                // What tells of processes instead has a line of its own.
                (0, _, true) => None,
                (0, true, false) => Some(SourceReport::absent("clients", id, MUTE)),
                (0, false, false) if scanner.nodes_of(i) > 0 => {
                    let text = format!(
                        "DRM fdinfo; its nodes are open {} times, and not read now, which would keep it awake",
                        scanner.nodes_of(i)
                    );
                    Some(SourceReport::works("clients", id, text))
                }
                (0, false, false) => Some(SourceReport::works("clients", id, "DRM fdinfo; none is seen now")),
                (1, ..) => Some(SourceReport::works("clients", id, "DRM fdinfo; 1 is seen now")),
                (n, ..) => Some(SourceReport::works("clients", id, format!("DRM fdinfo; {n} are seen now"))),
            }
        };
        let mut reports: Vec<SourceReport> = self.slots.iter().enumerate().filter_map(of_gpu).collect();
        let all = match scanner.incomplete() {
            Some(why) => SourceReport::absent("DRM fdinfo", None, why.clone()),
            None => SourceReport::works("DRM fdinfo", None, "the clients of all processes can be read"),
        };
        let by_bpf = match scanner.can_scan_whole() {
            Err(why) => SourceReport::absent("BPF open files", None, why.clone()),
            Ok(()) => SourceReport::works(
                "BPF open files",
                None,
                "who has a GPU open is found in one pass, at a tenth of the cost of a walk through /proc",
            ),
        };
        reports.extend([all.unlocks(UNLOCKS), by_bpf]);
        if self.inner_namespace && self.slots.iter().any(|s| s.device.knows_processes()) {
            let why = Why::new(
                Reason::NoPermission,
                "drivers tell processes by the host's numbers, which mean others in this PID namespace",
            );
            let remedy = "run in the PID namespace of the machine (docker, podman: --pid=host)";
            reports.push(SourceReport::absent("processes of drivers", None, why.remedy(remedy)));
        }
        reports
    }

    /// Reads every device's power state, which wakes nothing, and drops the devices that are no longer there.
    fn read_power(&mut self, now: u64, events: &mut Vec<DeviceEvent>) {
        let before = self.slots.len();
        self.slots.retain_mut(|slot| match slot.device.power() {
            Ok(power) => {
                slot.power = power;
                true
            }
            Err(_gone) => {
                events.push(event(now, DeviceEventKind::Gone, slot.device.info()));
                false
            }
        });
        self.stale |= self.slots.len() != before;
    }

    /// Looks for devices, when the names in the folders that show them have changed.
    fn look(&mut self, now: u64, events: &mut Vec<DeviceEvent>) {
        let first = self.looked_at_ns == 0;
        self.looked_at_ns = now;
        let arriving = std::mem::take(&mut self.arriving);
        let nodes = discover::names(&self.roots);
        if nodes == self.nodes && !self.stale {
            return;
        }
        self.nodes = nodes;
        self.stale = false;
        let context = Context { roots: &self.roots, rights: &self.rights, options: &self.options };
        for found in discover::find(&self.roots) {
            let rdevs: Vec<u64> = found.nodes.iter().map(|&(major, minor)| rustix::fs::makedev(major, minor)).collect();
            if let Some(slot) = self.slots.iter_mut().find(|s| s.device.info().id == found.id) {
                if slot.rdevs != rdevs {
                    // Nodes may be made by a module of its own, long after the device was bound.
                    slot.reopen(drivers::open(&context, found), rdevs);
                    self.reopened = true;
                }
                continue;
            }
            if !self.options.wants(found.id.as_str()) {
                continue;
            }
            let seen_ns = arriving.iter().find(|(id, _)| *id == found.id).map_or(now, |(_, seen)| *seen);
            if !first && now.saturating_sub(seen_ns) < SETTLE_NS {
                self.arriving.push((found.id.clone(), seen_ns));
                self.stale = true;
                continue;
            }
            let mut device = drivers::open(&context, found);
            // Between being found and being opened it may have left again.
            let Ok(power) = device.power() else {
                self.stale = true;
                continue;
            };
            if !first {
                events.push(event(now, DeviceEventKind::Added, device.info()));
            }
            self.slots.push(Slot::new(device, power, rdevs));
        }
        self.slots.sort_by(|a, b| {
            let key = |s: &Slot| (s.device.info().pci_address.is_none(), s.device.info().pci_address);
            key(a).cmp(&key(b)).then_with(|| a.device.info().id.cmp(&b.device.info().id))
        });
    }

    /// Lays out one entry a device, keeping those that are there.
    fn align(&mut self, out: &mut Sample) {
        let same = out.gpus.len() == self.slots.len()
            && out.gpus.iter().zip(&self.slots).all(|(g, s)| g.id == s.device.info().id);
        // A device that left and came back between two ticks, or got other nodes, has a new layout under its old id.
        let reopened = std::mem::take(&mut self.reopened);
        if !same || reopened || !out.events.is_empty() {
            out.gpus.clear();
            out.gpus.extend(self.slots.iter().map(|s| s.device.blank()));
        }
        if self.targets.len() != self.slots.len() || reopened || !out.events.is_empty() {
            self.targets.clear();
            self.targets.extend(self.slots.iter().map(Slot::target));
        }
    }

    /// Class sums over all DRM clients, for the devices which count their engines in no other way.
    fn read_clients(&mut self, now: u64, out: &mut Sample) {
        if !self.targets.iter().any(|t| t.wanted) {
            return;
        }
        let scanner = self.clients.get_or_insert_with(|| ClientScanner::new(self.roots.clone()));
        scanner.refresh(&self.targets, now);
        let largest = scanner.largest_client_id();
        for (i, ((slot, target), gpu)) in self.slots.iter_mut().zip(&self.targets).zip(&mut out.gpus).enumerate() {
            let needed = slot.device.fdinfo().needed;
            if !(target.wanted && needed) {
                continue;
            }
            if let (Access::Withheld(why), false) = (&slot.access, target.readable) {
                gpu.classes = Reading::Absent(why.clone());
                continue;
            }
            let uses = scanner.clients_of(i).map(|c| ClientUse { id: c.id, read_ns: c.read_ns, info: &c.info });
            slot.clients_busy = slot.sums.update(now, largest, uses);
            slot.sums.fill(scanner.incomplete_of(i), scanner.is_mute(i), &mut gpu.classes);
            if let Some(beside) = slot.device.beside_fdinfo() {
                classes::withhold(&mut gpu.classes, beside.engines, &beside.why);
            }
        }
        if self.options.clients {
            let devices: Vec<ClientsOf<'_>> = self
                .slots
                .iter()
                .zip(&self.targets)
                .map(|(slot, target)| {
                    let withheld = match &slot.access {
                        Access::Withheld(why) if !target.readable => Some(why.clone()),
                        _ => None,
                    };
                    let gpu = slot.device.info().id.clone();
                    let (hidden, beside) = (slot.device.fdinfo().hidden, slot.device.beside_fdinfo());
                    ClientsOf { gpu, withheld, hidden, beside, inner_namespace: self.inner_namespace }
                })
                .collect();
            samples::fill(scanner, &devices, &mut out.clients);
            self.add_processes(&mut out.clients);
            let forced = |slot: &Slot| Some((slot.device.info().id.clone(), slot.power.forced?));
            out.clients.always_on.clear();
            out.clients.always_on.extend(self.slots.iter().filter_map(forced));
        }
    }

    /// Clients that drivers know by their process, and why those of a device are not known.
    fn add_processes(&mut self, out: &mut ClientsSample) {
        let mut added = Vec::new();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            // The drivers' numbers are the host's: in an inner PID namespace they would mean other processes.
            let told = if self.inner_namespace { None } else { slot.device.processes(&out.clients, &mut added) };
            let holders = self.clients.as_ref().map(|scanner| scanner.unread_holders(i)).unwrap_or_default();
            let readable = self.targets.get(i).is_some_and(|t| t.readable);
            let (holders, why) = match (told, &slot.access) {
                (Some(Ok(())), _) => continue,
                (Some(Err(why)), _) => (holders, why),
                (None, _) if holders.is_empty() => continue,
                (None, Access::Withheld(why)) if !readable => (holders, why.clone()),
                (None, _) if self.clients.as_ref().is_some_and(|scanner| scanner.is_mute(i)) => (holders, MUTE),
                // Another user's: counted among the processes that cannot be read.
                (None, _) => continue,
            };
            let gpu = Some(slot.device.info().id.clone());
            out.gaps.push(ClientsGap { gpu, holders, unseen: Vec::new(), why });
        }
        samples::merge(&mut added, out);
    }

    /// Power and memory traffic of the machine, shown with integrated Intel GPUs; an accelerator beside them is none.
    fn read_machine(&mut self, out: &mut Sample) {
        let integrated = |s: &Slot| {
            let info = s.device.info();
            info.accel.is_none()
                && info.vendor == Vendor::Intel
                && info.integrated.get() == Some(true)
                && !info.sriov.is_virtual()
        };
        if !self.slots.iter().any(integrated) {
            return;
        }
        let machine = self.machine.get_or_insert_with(|| Machine::open(&self.roots, &self.rights));
        let power = machine.rapl.sample();
        let bandwidth = machine.imc.sample();
        for (slot, gpu) in self.slots.iter().zip(&mut out.gpus).filter(|(s, _)| integrated(s)) {
            debug_assert_eq!(slot.device.info().id, gpu.id);
            fill_machine(&power, &bandwidth, gpu);
        }
    }
}

fn fill_machine(power: &RaplSample, bandwidth: &BandwidthSample, gpu: &mut DeviceSample) {
    gpu.power.gpu_uj.clone_from(&power.gpu_uj);
    gpu.power.package_uj.clone_from(&power.package_uj);
    gpu.power.psys_uj.clone_from(&power.psys_uj);
    gpu.bandwidth.clone_from(bandwidth);
}

impl Machine {
    fn open(roots: &Roots, rights: &Rights) -> Self {
        Machine { rapl: Rapl::open(roots, rights), imc: Imc::open(roots, rights) }
    }
}

impl Slot {
    fn new(device: Box<dyn Device>, power: PowerState, rdevs: Vec<u64>) -> Self {
        let engines = &device.info().engines;
        let mut classes: Vec<(EngineClass, Option<u32>)> = Vec::new();
        for engine in engines {
            // Where the driver names classes only, a client tells later how many engines each has.
            let counts = engine.instance.is_known();
            match classes.iter_mut().find(|(class, _)| *class == engine.class) {
                Some((_, count)) => *count = count.filter(|_| counts).map(|n| n + 1),
                None => classes.push((engine.class, counts.then_some(1))),
            }
        }
        let sums = ClassSums::new(&classes).hiding_unused(!device.fdinfo().hidden.is_empty());
        Slot {
            device,
            rdevs,
            governor: Governor::new(),
            power,
            sums,
            access: Access::Allowed,
            clients_busy: false,
            work: None,
        }
    }

    /// Takes the same device with other nodes, unless it is leaving: then the next tick tells.
    fn reopen(&mut self, mut device: Box<dyn Device>, rdevs: Vec<u64>) {
        if let Ok(power) = device.power() {
            self.device = device;
            self.rdevs = rdevs;
            self.power = power;
        }
    }

    fn target(&self) -> Target {
        let pdev = self.device.info().pci_address.map(|a| a.to_string());
        Target { rdevs: self.rdevs.clone(), pdev, readable: false, wanted: false }
    }

    /// Decides whether sources that wake the device may be read at this tick.
    fn decide(&mut self, now: u64) {
        let facts = PowerFacts {
            status: self.power.status.get(),
            autosuspend_delay_ns: self.power.autosuspend_delay_ns,
            always_on: self.power.always_on || self.device.holds_awake(),
        };
        self.access = match self.governor.decide(now, &facts) {
            Decision::Allowed { rebase } => {
                if rebase {
                    self.sums.rebase();
                }
                Access::Allowed
            }
            Decision::Withheld(why) => Access::Withheld(why),
        };
    }

    /// Tells the governor whether the device worked since the tick before.
    fn observe(&mut self, now: u64, gpu: &DeviceSample) {
        let counted = work(gpu);
        let busy = std::mem::take(&mut self.clients_busy)
            || match (self.work, counted) {
                (Some(before), Some(now)) => now != before,
                (None, Some(_)) => false,
                // Nothing counts engines: a GT that runs at any frequency is out of its idle state.
                (_, None) => gpu.gts.iter().any(|g| matches!(g.actual, Reading::Value(Clock::Now(hz)) if hz > 0.0)),
            };
        self.work = counted.or(self.work);
        match (&self.access, busy) {
            (Access::Allowed, _) => self.governor.observed(now, busy),
            (Access::Withheld(_), true) => self.governor.noticed_busy(now),
            (Access::Withheld(_), false) => {}
        }
    }
}

/// Whether processes hold the device open and none of them shows as a client.
fn tells_nothing(scanner: &ClientScanner, target: usize) -> bool {
    scanner.is_mute(target) && !scanner.clients().any(|client| client.target == target)
}

/// Sum of all busy counters that could be read: it grows exactly when the device worked.
fn work(gpu: &DeviceSample) -> Option<u64> {
    let engines = gpu.engines.value().into_iter().flatten().filter_map(|e| e.busy.get());
    let classes = gpu.classes.value().into_iter().flatten().filter_map(|c| c.busy.get());
    let mut counted = None;
    for share in engines.chain(classes) {
        counted = Some(counted.unwrap_or(0u64).wrapping_add(share.part));
    }
    counted
}

fn event(at_ns: u64, kind: DeviceEventKind, info: &DeviceInfo) -> DeviceEvent {
    DeviceEvent { at_ns, kind, id: info.id.clone(), driver: info.driver.clone() }
}
