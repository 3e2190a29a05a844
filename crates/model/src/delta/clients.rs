//! Engine use of clients and processor use of processes over an interval.

use super::{compare, ratio};
use crate::{
    ClientEngineSample, ClientEngineSnapshot, ClientKey, ClientSnapshot, ClientsSample, ClientsSnapshot, Counter,
    GpuId, ProcessSnapshot, Reading, Reason, Share, Text, Why,
};
use std::collections::BTreeMap;

/// The last reading of every client's counters.
#[derive(Debug, Default)]
pub(super) struct ClientsBaseline {
    clients: BTreeMap<(GpuId, ClientKey), ClientBaseline>,
    /// By pid and start time.
    processes: BTreeMap<(u32, u64), ProcessBaseline>,
}

#[derive(Debug, Default)]
struct ClientBaseline {
    engines: Vec<(Text, Share)>,
    seen: bool,
}

#[derive(Debug)]
struct ProcessBaseline {
    cpu: Counter,
    seen: bool,
}

impl ClientsBaseline {
    /// Compares with the readings before, writes use over the interval and remembers the readings.
    pub(super) fn step(&mut self, now: &ClientsSample, out: &mut ClientsSnapshot, live: bool) {
        out.denied_processes = now.denied_processes;
        out.left_out = now.left_out;
        out.gaps.clone_from(&now.gaps);
        out.always_on.clone_from(&now.always_on);
        out.cgroups.clone_from(&now.cgroups);
        self.clients.values_mut().for_each(|c| c.seen = false);
        self.processes.values_mut().for_each(|p| p.seen = false);
        out.clients.clear();
        for client in &now.clients {
            let base = self.clients.entry((client.gpu.clone(), client.key)).or_default();
            base.seen = true;
            let engines = client.engines.iter().map(|e| base.engine(e, live)).collect();
            out.clients.push(ClientSnapshot {
                gpu: client.gpu.clone(),
                key: client.key,
                source: client.source.clone(),
                client_name: client.client_name.clone(),
                read_ns: client.read_ns.clone(),
                pid: client.pid,
                holders: client.holders.clone(),
                engines,
                memory: client.memory.clone(),
            });
        }
        out.processes.clear();
        for process in &now.processes {
            let cpu_ratio = self.cpu(process.pid, process.start_ticks, &process.cpu_ns, live);
            out.processes.push(ProcessSnapshot { process: process.clone(), cpu_ratio });
        }
        self.clients.retain(|_, c| c.seen);
        self.processes.retain(|_, p| p.seen);
    }

    fn cpu(&mut self, pid: u32, start_ticks: u64, now: &Reading<Counter>, live: bool) -> Reading<f64> {
        let base = self.processes.get_mut(&(pid, start_ticks));
        let before = base.as_ref().map(|b| Reading::Value(b.cpu));
        let ratio = super::per_second(before.as_ref(), now, live).map(|ns_per_s| ns_per_s / 1e9);
        match (base, now) {
            (Some(base), now) => {
                base.seen = true;
                if let Reading::Value(cpu) = now {
                    base.cpu = *cpu;
                }
            }
            (None, Reading::Value(cpu)) => {
                self.processes.insert((pid, start_ticks), ProcessBaseline { cpu: *cpu, seen: true });
            }
            (None, Reading::Absent(_)) => {}
        }
        ratio
    }
}

impl ClientBaseline {
    fn engine(&mut self, now: &ClientEngineSample, live: bool) -> ClientEngineSnapshot {
        let at = self.engines.iter().position(|(name, _)| *name == now.name);
        let before = at.and_then(|at| self.engines.get(at)).map(|(_, share)| Reading::Value(*share));
        let busy_ratio = compare(before.as_ref(), &now.busy, |b, n| use_of(b, n, live));
        match (&now.busy, at.and_then(|at| self.engines.get_mut(at))) {
            (Reading::Value(share), Some((_, base))) => *base = advance(*base, *share),
            (Reading::Value(share), None) => self.engines.push((now.name.clone(), *share)),
            // Asleep, its counters may begin anew; left alone, they go on.
            (Reading::Absent(why), Some(_))
                if !matches!(why.reason, Reason::NotCounting | Reason::Busy | Reason::Failed) =>
            {
                self.engines.retain(|(name, _)| *name != now.name);
            }
            (Reading::Absent(_), _) => {}
        }
        ClientEngineSnapshot { class: now.class, name: now.name.clone(), capacity: now.capacity, busy_ratio }
    }
}

/// A client's busy time may step back for a while: the larger value stands until it is passed
/// (Documentation/gpu/drm-usage-stats.rst). A whole that steps back is a new beginning.
fn advance(before: Share, now: Share) -> Share {
    if now.whole < before.whole { now } else { Share { part: now.part.max(before.part), whole: now.whole } }
}

fn use_of(before: Share, now: Share, live: bool) -> Result<f64, Why> {
    let now = advance(before, now);
    if !live && now.part == before.part { Err(super::STANDS_STILL) } else { ratio(before, now) }
}
