//! `gpuscope.procs/1`, and the clients in `gpuscope.stat/1`.

use super::{Each, Missing, each, line};
use crate::procs::{ClientRow, Group, GroupEngine, GroupMemory, Procs, private_bytes};
use crate::procs_fields::{each_client_field, each_group_field};
use crate::time::Rfc3339;
use crate::units::{percent, seconds};
use gpuscope_model::{AlwaysOn, CgroupMemory, CgroupSample, ClientEngineSnapshot, ClientMemory, GpuId, Reading};
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes who used the GPUs as one line.
///
/// # Errors
/// Those of the writer.
pub fn procs_line(w: &mut dyn Write, procs: &Procs<'_>, wall: SystemTime) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<U> {
        schema: &'static str,
        time: Rfc3339,
        monotonic_ns: u64,
        interval_s: Option<f64>,
        #[serde(flatten)]
        users: U,
    }
    line(
        w,
        &Document {
            schema: "gpuscope.procs/1",
            time: Rfc3339::new(wall),
            monotonic_ns: procs.snapshot.at_ns,
            interval_s: procs.snapshot.interval_ns.map(seconds),
            users: users(procs),
        },
    )
}

/// The fields that both documents have.
pub(super) fn users<'a>(procs: &'a Procs<'a>) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Users<'a, C, G, D, K> {
        clients: C,
        cgroups: D,
        #[serde(skip_serializing_if = "Option::is_none")]
        containers: Option<G>,
        kept_awake: K,
        denied_processes: usize,
        left_out: usize,
        unavailable: Absences<'a>,
    }
    Users {
        clients: each(&procs.rows, client),
        cgroups: procs.cgroups().map(cgroup).collect::<Vec<_>>(),
        containers: procs.groups.as_deref().map(|groups| each(groups, group)),
        kept_awake: procs.kept_awake.iter().map(kept_awake).collect::<Vec<_>>(),
        denied_processes: procs.denied_processes(),
        left_out: procs.left_out(),
        unavailable: Absences(procs),
    }
}

fn kept_awake<'a>(&(gpu, by): &(&'a GpuId, AlwaysOn)) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct KeptAwake<'a> {
        gpu: &'a str,
        by: &'static str,
    }
    KeptAwake { gpu: gpu.as_str(), by: by.as_str() }
}

fn client<'a>(row: &'a ClientRow<'a>) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Client<'a, E, M> {
        gpu: &'a str,
        client_id: Option<u64>,
        source: &'a str,
        client_name: Option<&'a str>,
        read_monotonic_ns: Option<u64>,
        pid: u32,
        comm: Option<&'a str>,
        command_line: Option<&'a str>,
        uid: Option<u32>,
        user: Option<&'a str>,
        cgroup: Option<&'a str>,
        container: Option<&'a str>,
        holders: &'a [u32],
        engines: E,
        memory: M,
        cpu_percent: Option<f64>,
        rss_bytes: Option<u64>,
        keeps_awake: Option<bool>,
    }
    let c = row.client;
    Client {
        gpu: c.gpu.as_str(),
        client_id: c.key.drm_id(),
        source: &c.source,
        client_name: c.client_name.as_deref(),
        read_monotonic_ns: c.read_ns.get(),
        pid: c.pid,
        comm: row.comm().ok().map(|t| t.as_str()),
        command_line: row.command_line().ok().map(|t| t.as_str()),
        uid: row.uid().ok(),
        user: row.user().ok().map(|t| t.as_str()),
        cgroup: row.cgroup().ok().map(|t| t.as_str()),
        container: row.container().ok().map(|t| t.as_str()),
        holders: &c.holders,
        engines: each(&c.engines, engine),
        memory: each(&c.memory, memory),
        cpu_percent: row.cpu_ratio().ok().map(percent),
        rss_bytes: row.rss_bytes().ok(),
        keeps_awake: row.keeps_awake.get(),
    }
}

fn engine(e: &ClientEngineSnapshot) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Engine<'a> {
        name: &'a str,
        class: &'static str,
        capacity: u32,
        busy_percent: Option<f64>,
    }
    Engine {
        name: &e.name,
        class: e.class.as_str(),
        capacity: e.capacity,
        busy_percent: e.busy_ratio.get().map(percent),
    }
}

fn memory(m: &ClientMemory) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Memory<'a> {
        region: &'a str,
        total_bytes: Option<u64>,
        shared_bytes: Option<u64>,
        private_bytes: Option<u64>,
        resident_bytes: Option<u64>,
        active_bytes: Option<u64>,
        purgeable_bytes: Option<u64>,
    }
    Memory {
        region: &m.region,
        total_bytes: m.total_bytes.get(),
        shared_bytes: m.shared_bytes.get(),
        private_bytes: private_bytes(m).get(),
        resident_bytes: m.resident_bytes.get(),
        active_bytes: m.active_bytes.get(),
        purgeable_bytes: m.purgeable_bytes.get(),
    }
}

fn cgroup(c: &CgroupSample) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Cgroup<'a, M> {
        cgroup: &'a str,
        device_memory: Option<M>,
    }
    Cgroup { cgroup: &c.cgroup, device_memory: c.device_memory.value().map(|regions| each(regions, cgroup_memory)) }
}

fn cgroup_memory(m: &CgroupMemory) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Memory<'a> {
        gpu: &'a str,
        region: &'a str,
        used_bytes: u64,
        capacity_bytes: Option<u64>,
    }
    Memory { gpu: m.gpu.as_str(), region: &m.region, used_bytes: m.used_bytes, capacity_bytes: m.capacity_bytes.get() }
}

fn group<'a>(g: &'a Group<'a>) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Container<'a, E, M> {
        container: Option<&'a str>,
        cgroup: Option<&'a str>,
        clients: usize,
        pids: &'a [u32],
        engines: E,
        memory: M,
        cpu_percent: Option<f64>,
        rss_bytes: Option<u64>,
        charged_bytes: Option<u64>,
    }
    let engines: Each<'a, _, _> = each(&g.engines, group_engine);
    Container {
        container: g.container.map(|t| t.as_str()),
        cgroup: g.cgroup.map(|t| t.as_str()),
        clients: g.clients,
        pids: &g.pids,
        engines,
        memory: each(&g.memory, group_memory),
        cpu_percent: g.cpu_ratio.get().map(percent),
        rss_bytes: g.rss_bytes.get(),
        charged_bytes: g.charged_bytes.get(),
    }
}

fn group_engine<'a>(e: &'a GroupEngine<'a>) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Engine<'a> {
        gpu: &'a str,
        name: &'a str,
        class: &'static str,
        capacity: u32,
        busy_percent: Option<f64>,
    }
    Engine {
        gpu: e.gpu.as_str(),
        name: e.name,
        class: e.class.as_str(),
        capacity: e.capacity,
        busy_percent: e.busy_ratio.get().map(percent),
    }
}

fn group_memory<'a>(m: &'a GroupMemory<'a>) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Memory<'a> {
        gpu: &'a str,
        region: &'a str,
        resident_bytes: Option<u64>,
    }
    Memory { gpu: m.gpu.as_str(), region: m.region, resident_bytes: m.resident_bytes.get() }
}

/// The list `unavailable`: first `clients` itself, when some may be missing.
struct Absences<'a>(&'a Procs<'a>);

impl Serialize for Absences<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(None)?;
        for (gpu, why) in self.0.gaps() {
            let path = gpu.map_or_else(|| "clients".into(), |gpu| format!("clients[{gpu}]"));
            seq.serialize_element(&Missing::new(path, &why))?;
        }
        for row in &self.0.rows {
            each_client_field(row, &mut |field| match field.value {
                Ok(_) => Ok(()),
                Err(why) => {
                    let path = format!("clients[{}/{}].{field}", row.client.gpu, row.client.key);
                    seq.serialize_element(&Missing::new(path, why))
                }
            })?;
        }
        for c in self.0.cgroups() {
            let path = format!("cgroups[{}].device_memory", c.cgroup);
            match &c.device_memory {
                Reading::Absent(why) => seq.serialize_element(&Missing::new(path, why))?,
                Reading::Value(regions) => {
                    for m in regions {
                        if let Some(why) = m.capacity_bytes.why() {
                            let path = format!("{path}[{}/{}].capacity_bytes", m.gpu, m.region);
                            seq.serialize_element(&Missing::new(path, why))?;
                        }
                    }
                }
            }
        }
        for group in self.0.groups.iter().flatten() {
            each_group_field(group, &mut |field| match field.value {
                Ok(_) => Ok(()),
                Err(why) => seq.serialize_element(&Missing::new(format!("containers[{}].{field}", group.label()), why)),
            })?;
        }
        seq.end()
    }
}
