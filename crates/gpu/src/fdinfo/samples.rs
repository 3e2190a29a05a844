//! The scanner's clients as samples: sorted, bounded, laid out in place.

use super::classes::class_of;
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
    out.clients.truncate(order.len());
    for (i, (client, of, pid)) in order.into_iter().enumerate() {
        let fresh = scanner.is_fresh(client);
        let why =
            of.withheld.clone().or_else(|| (!fresh).then(|| Why::new(Reason::Failed, "its fdinfo could not be read")));
        match out.clients.get_mut(i) {
            Some(slot) if slot.key == ClientKey::Drm(client.id) && slot.gpu == of.gpu => {
                update(slot, client, of, pid, why.as_ref())
            }
            slot => {
                let mut sample = blank(&of.gpu, client.id);
                update(&mut sample, client, of, pid, why.as_ref());
                match slot {
                    Some(slot) => *slot = sample,
                    None => out.clients.push(sample),
                }
            }
        }
    }
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
        _ => Reading::Absent(NOT_PRINTED),
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
