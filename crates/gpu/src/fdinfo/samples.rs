//! The scanner's clients as samples: sorted, bounded, laid out in place.

use super::classes::{NOT_PRINTED_NOW, PROFILING_OFF, class_of};
use super::parse::{EngineUsage, FdInfo, RegionUsage};
use super::scanner::{Client, ClientScanner};
use crate::drivers::Beside;
use gpuscope_model::{
    ClientEngineSample, ClientKey, ClientMemory, ClientSample, ClientsGap, ClientsSample, GpuId, Reading, Reason,
    Share, Text, Why,
};

/// Clients that are sampled at most; a machine with more is told how many were left out.
const LIMIT: usize = 4096;

/// What clients are sampled for.
pub(crate) struct ClientsOf<'a> {
    /// The device.
    pub(crate) gpu: GpuId,
    /// Why its clients could not be read at this tick, if so.
    pub(crate) withheld: Option<Why>,
    /// Engines that stand at 0 where they are not printed, see [`FdinfoNeed`](crate::drivers::FdinfoNeed).
    pub(crate) hidden: &'static [&'static str],
    /// Work that is in no fdinfo.
    pub(crate) beside: Option<Beside<'a>>,
    /// Processes have other numbers here than on the host.
    pub(crate) inner_namespace: bool,
}

impl ClientsOf<'_> {
    /// What fdinfo does not tell of a client: its process works in another way too, or may.
    fn beside(&self, client: &Client) -> Option<&Beside<'_>> {
        let works = |b: &Beside<'_>| self.inner_namespace || client.holders.iter().any(|h| b.pids.contains(&h.pid));
        self.beside.as_ref().filter(|b| works(b))
    }
}

const NOT_PRINTED: Why = Why {
    reason: Reason::NotSupported,
    detail: Text::Static("the driver prints no such number in fdinfo"),
    remedy: None,
};

/// Writes the clients into `out`, sorted by device, owner and id. `devices` has an entry for each of the scanner's targets.
pub(crate) fn fill(scanner: &ClientScanner, devices: &[ClientsOf<'_>], out: &mut ClientsSample) {
    let mut order: Vec<(&Client, &ClientsOf<'_>, u32)> = scanner
        .clients()
        .filter_map(|client| Some((client, devices.get(client.target)?, owner(scanner, client)?)))
        .collect();
    order.sort_by_key(|(client, of, pid)| (&of.gpu, *pid, client.id));
    out.left_out = order.len().saturating_sub(LIMIT);
    order.truncate(LIMIT);
    out.denied_processes = scanner.denied_processes();
    out.gaps.clear();
    let gap = |why: &Why| ClientsGap { gpu: None, holders: Vec::new(), unseen: Vec::new(), why: why.clone() };
    out.gaps.extend(scanner.incomplete().map(gap));
    // What drivers added at the last tick stands between them.
    out.clients.retain(|c| matches!(c.key, ClientKey::Drm(_)));
    let wanted = order.len();
    for (i, (client, of, pid)) in order.into_iter().enumerate() {
        let fresh = scanner.is_fresh(client);
        let why =
            of.withheld.clone().or_else(|| (!fresh).then(|| Why::new(Reason::Failed, "its fdinfo could not be read")));
        // It keeps what is known of it when others come and go before it.
        let is = |s: &ClientSample| s.key == ClientKey::Drm(client.id) && s.gpu == of.gpu;
        match out.clients.get_mut(i..).and_then(|rest| Some((rest.iter().position(is)?, rest))) {
            Some((0, _)) => {}
            Some((at, rest)) => rest.get_mut(..=at).into_iter().for_each(|r| r.rotate_right(1)),
            None => out.clients.insert(i, blank(&of.gpu, client.id)),
        }
        if let Some(slot) = out.clients.get_mut(i) {
            update(slot, client, of, pid, why.as_ref());
        }
    }
    out.clients.truncate(wanted);
}

/// Adds the clients that drivers know otherwise, where they belong in the order.
pub(crate) fn merge(added: &mut Vec<ClientSample>, out: &mut ClientsSample) {
    if added.is_empty() {
        return;
    }
    out.clients.append(added);
    out.clients.sort_by(|a, b| (&a.gpu, a.pid, a.key).cmp(&(&b.gpu, b.pid, b.key)));
    out.left_out += out.clients.len().saturating_sub(LIMIT);
    out.clients.truncate(LIMIT);
}

/// The process that a client is counted for: of its holders the one that was started first. A compositor's file that its children
/// inherited, or that it passed on, stays the compositor's; a file that a launcher opened and handed over is the launcher's.
fn owner(scanner: &ClientScanner, client: &Client) -> Option<u32> {
    client.holders.iter().map(|h| h.pid).min_by_key(|pid| (scanner.started(*pid), *pid))
}

fn blank(gpu: &GpuId, client_id: u64) -> ClientSample {
    ClientSample {
        gpu: gpu.clone(),
        key: ClientKey::Drm(client_id),
        source: Text::Static("fdinfo"),
        client_name: None,
        read_ns: Reading::Value(0),
        pid: 0,
        holders: Vec::new(),
        engines: Vec::new(),
        memory: Vec::new(),
    }
}

fn update(slot: &mut ClientSample, client: &Client, of: &ClientsOf<'_>, pid: u32, why: Option<&Why>) {
    slot.pid = pid;
    slot.read_ns = why.map_or(Reading::Value(client.read_ns), |why| Reading::Absent(why.clone()));
    slot.holders.clear();
    slot.holders.extend(client.holders.iter().map(|h| h.pid));
    slot.holders.sort_unstable();
    slot.holders.dedup();
    let name = Some(client.info.client_name.as_str()).filter(|n| !n.is_empty());
    if slot.client_name.as_deref() != name {
        slot.client_name = name.map(|n| Text::from(n.to_string()));
    }
    engines(&mut slot.engines, client, of, why);
    memory(&mut slot.memory, &client.info, why);
}

fn engines(out: &mut Vec<ClientEngineSample>, client: &Client, of: &ClientsOf<'_>, why: Option<&Why>) {
    let info = &client.info;
    let beside = of.beside(client);
    if info.engines.is_empty() && of.hidden.is_empty() {
        // Those that it had are still there.
        out.iter_mut().for_each(|e| e.busy = Reading::Absent(why.cloned().unwrap_or(NOT_PRINTED_NOW)));
        return;
    }
    let printed = info.engines.iter().map(|e| (e.name.as_str(), Some(e)));
    let unprinted =
        of.hidden.iter().filter(|name| info.engines.iter().all(|e| e.name != **name)).map(|name| (*name, None));
    let mut count = 0;
    for (name, usage) in printed.chain(unprinted) {
        let capacity = usage.map_or(1, EngineUsage::capacity);
        let why = why.or(beside.filter(|b| b.engines.contains(&name)).map(|b| &b.why));
        let busy = match (why, usage) {
            (Some(why), _) => Reading::Absent(why.clone()),
            (None, Some(usage)) => busy(usage, client.read_ns),
            (None, None) => Reading::Value(Share { part: 0, whole: client.read_ns }),
        };
        match out.get_mut(count) {
            Some(slot) if slot.name.as_str() == name => {
                slot.capacity = capacity;
                slot.busy = busy;
            }
            _ => {
                let (class, name) = class_of(name);
                out.truncate(count);
                out.push(ClientEngineSample { class, name: Text::from(name.to_string()), capacity, busy });
            }
        }
        count += 1;
    }
    out.truncate(count);
}

/// What the client used of its engine class's time: nanoseconds of its own reading's clock, or the engine's ticks.
fn busy(usage: &EngineUsage, read_ns: u64) -> Reading<Share> {
    let capacity = u64::from(usage.capacity());
    match (usage.busy_ns, usage.cycles, usage.total_cycles) {
        (Some(part), ..) => Reading::Value(Share { part, whole: read_ns.saturating_mul(capacity) }),
        (None, Some(part), Some(total)) => Reading::Value(Share { part, whole: total.saturating_mul(capacity) }),
        // Named by its frequency alone.
        _ => Reading::Absent(PROFILING_OFF),
    }
}

fn memory(out: &mut Vec<ClientMemory>, info: &FdInfo, why: Option<&Why>) {
    out.truncate(info.memory.len());
    for (i, region) in info.memory.iter().enumerate() {
        if out.get(i).is_none_or(|slot| slot.region.as_str() != region.name) {
            out.truncate(i);
            out.push(blank_region(region));
        }
        let Some(slot) = out.get_mut(i) else { continue };
        let set = |field: &mut Reading<u64>, value: Option<u64>| {
            *field = match (why, value) {
                (Some(why), _) => Reading::Absent(why.clone()),
                (None, Some(bytes)) => Reading::Value(bytes),
                (None, None) => Reading::Absent(NOT_PRINTED),
            };
        };
        set(&mut slot.total_bytes, region.total_bytes);
        set(&mut slot.shared_bytes, region.shared_bytes);
        set(&mut slot.resident_bytes, region.resident_bytes);
        set(&mut slot.active_bytes, region.active_bytes);
        set(&mut slot.purgeable_bytes, region.purgeable_bytes);
    }
}

fn blank_region(region: &RegionUsage) -> ClientMemory {
    ClientMemory {
        region: Text::from(region.name.clone()),
        total_bytes: NOT_PRINTED.into(),
        shared_bytes: NOT_PRINTED.into(),
        resident_bytes: NOT_PRINTED.into(),
        active_bytes: NOT_PRINTED.into(),
        purgeable_bytes: NOT_PRINTED.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;
    use crate::{GpuSet, Options};
    use gpuscope_model::{Reason, Sample};

    fn client(tree: &Tree, pid: u32, driver: &str, engines: &str) {
        tree.file(&format!("proc/{pid}/stat"), &format!("{pid} (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"))
            .file(
                &format!("proc/{pid}/fdinfo/17"),
                &format!(
                    "pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t1\ndrm-driver:\t{driver}\ndrm-client-id:\t{pid}\n\
                 drm-pdev:\t0000:03:00.0\n{engines}"
                ),
            );
    }

    /// `show_run_ticks` (drivers/gpu/drm/xe/xe_drm_client.c) prints nothing when it cannot wake the GT.
    #[test]
    fn engines_of_a_client_stay_when_they_are_not_printed_and_when_others_come() {
        let tree = Tree::new();
        tree.pci_gpu("0000:03:00.0", "xe", ("8086", "E20B"), 0);
        let rcs = "drm-cycles-rcs:\t4\ndrm-total-cycles-rcs:\t9\n";
        client(&tree, 20, "xe", rcs);
        client(&tree, 30, "xe", rcs);
        let mut set = GpuSet::open(tree.roots(), Options { clients: true, ..Options::default() });
        let mut sample = Sample::default();
        set.sample(&mut sample);
        let engines = |sample: &Sample, pid: u32| -> Vec<(String, Option<Reason>)> {
            let of_pid = sample.clients.clients.iter().find(|c| c.pid == pid).unwrap();
            of_pid.engines.iter().map(|e| (e.name.to_string(), e.busy.why().map(|why| why.reason))).collect()
        };
        assert_eq!(engines(&sample, 30), [("rcs".to_string(), None)]);
        client(&tree, 10, "xe", rcs);
        client(&tree, 20, "xe", "");
        client(&tree, 30, "xe", "");
        let mut seen = sample.clone();
        let mut again = GpuSet::open(tree.roots(), Options { clients: true, ..Options::default() });
        again.sample(&mut seen);
        let pids: Vec<u32> = seen.clients.clients.iter().map(|c| c.pid).collect();
        assert_eq!(pids, [10, 20, 30]);
        for pid in [20, 30] {
            assert_eq!(engines(&seen, pid), [("rcs".to_string(), Some(Reason::NotCounting))], "{pid}");
        }
        std::fs::remove_dir_all(tree.path("proc/10")).unwrap();
        GpuSet::open(tree.roots(), Options { clients: true, ..Options::default() }).sample(&mut seen);
        assert_eq!(seen.clients.clients.len(), 2);
        assert_eq!(engines(&seen, 30), [("rcs".to_string(), Some(Reason::NotCounting))]);
    }

    /// `panthor_gpu_show_fdinfo` (drivers/gpu/drm/panthor/panthor_drv.c) with 0 in `profiling`.
    #[test]
    fn an_engine_that_is_named_and_not_counted_has_profiling_for_a_remedy() {
        let tree = Tree::new();
        tree.pci_gpu("0000:03:00.0", "panthor", ("13B5", "0001"), 0);
        client(&tree, 20, "panthor", "drm-maxfreq-panthor:\t1000000000 Hz\n");
        let mut sample = Sample::default();
        GpuSet::open(tree.roots(), Options { clients: true, ..Options::default() }).sample(&mut sample);
        let why = sample.clients.clients[0].engines[0].busy.why().unwrap();
        assert_eq!(why.reason, Reason::NotCounting);
        assert!(why.remedy.as_ref().unwrap().as_str().contains("profiling"));
    }
}
