//! Who uses the GPUs, as somebody asked to see it: picked, sorted, joined with the processes, added up by container.

use gpuscope_model::{
    AlwaysOn, CgroupSample, ClientMemory, ClientSnapshot, ClientsGap, EngineClass, GpuId, ProcessSnapshot, Reading,
    Reason, RuntimeStatus, Snapshot, Text, Why,
};
use std::cmp::Ordering;
use std::ops::Add;

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The busiest engine class, the largest first; then as by memory.
    Busy,
    /// Memory of all regions, the largest first: resident, or where that is not told, allocated.
    Memory,
    /// Processor time, the largest first.
    Cpu,
    /// Process number.
    Pid,
}

/// What somebody wants to see. The default is everything, by GPU, process and client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Clients that one of these processes holds; all when empty.
    pub pids: Vec<u32>,
    /// Clients of processes of these users, by name or number; all when empty.
    pub users: Vec<String>,
    /// Clients of processes whose container or cgroup contains one of these; all when empty.
    pub containers: Vec<String>,
    /// Order; by GPU, process and client where there is none.
    pub sort: Option<Sort>,
    /// Whether sums per container are wanted.
    pub by_container: bool,
}

/// One client with the facts of the process that it is counted for.
#[derive(Clone, Debug)]
pub struct ClientRow<'a> {
    /// The client.
    pub client: &'a ClientSnapshot,
    process: Option<&'a ProcessSnapshot>,
    /// Whether the client holds a GPU that is active although nobody works on it, see [`Procs`].
    pub keeps_awake: Reading<bool>,
}

/// Engine use of a container on one GPU.
#[derive(Clone, Debug)]
pub struct GroupEngine<'a> {
    /// The GPU.
    pub gpu: &'a GpuId,
    /// Class of work.
    pub class: EngineClass,
    /// The driver's word for it.
    pub name: &'a Text,
    /// Number of engines of the class.
    pub capacity: u32,
    /// Share of the class's capacity.
    pub busy_ratio: Reading<f64>,
}

/// Resident memory of a container in one region of a GPU.
#[derive(Clone, Debug)]
pub struct GroupMemory<'a> {
    /// The GPU.
    pub gpu: &'a GpuId,
    /// The region.
    pub region: &'a Text,
    /// Resident bytes; a buffer that several clients share is in each one's.
    pub resident_bytes: Reading<u64>,
}

/// All clients of one container; of one cgroup where there is no container.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The container.
    pub container: Option<&'a Text>,
    /// The cgroup, the first one where a container has several.
    pub cgroup: Option<&'a Text>,
    /// Number of clients.
    pub clients: usize,
    /// The processes that they are counted for, ascending.
    pub pids: Vec<u32>,
    /// Engine use.
    pub engines: Vec<GroupEngine<'a>>,
    /// Memory.
    pub memory: Vec<GroupMemory<'a>>,
    /// Processor use of the processes, 1 for a full CPU.
    pub cpu_ratio: Reading<f64>,
    /// Resident memory of the processes.
    pub rss_bytes: Reading<u64>,
    /// Device memory that the kernel charges to the cgroup, of all regions.
    pub charged_bytes: Reading<u64>,
}

/// Who used the GPUs over an interval.
///
/// A client *keeps a GPU awake* when it has used none of its engines over the interval while the GPU's runtime state is `active` and
/// no other client was seen working either: of such clients one (or a display, an audio function) is why the GPU does not sleep. It is
/// not known where the client's engine use is not. Where a setting keeps the GPU awake ([`AlwaysOn`]), no client does.
#[derive(Clone, Debug)]
pub struct Procs<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// The clients, picked and sorted.
    pub rows: Vec<ClientRow<'a>>,
    /// Sums per container, when asked for.
    pub groups: Option<Vec<Group<'a>>>,
    /// The GPUs that are awake, with nobody seen working on them, because a setting keeps them so.
    pub kept_awake: Vec<(&'a GpuId, AlwaysOn)>,
    /// Processes that were asked for; all when empty.
    pids: Vec<u32>,
}

/// The reason of a gap, with the processes that it is about.
fn explain(gap: &ClientsGap) -> Why {
    let pids: Vec<String> = gap.holders.iter().map(u32::to_string).collect();
    let unseen: Vec<&str> = gap.unseen.iter().map(Text::as_str).collect();
    let mut who = match pids.as_slice() {
        [] => String::new(),
        [pid] => format!("process {pid}"),
        pids => format!("processes {}", pids.join(", ")),
    };
    if !unseen.is_empty() {
        let and = if who.is_empty() { "" } else { " and " };
        who = format!("{who}{and}{} outside of this PID namespace", unseen.join(", "));
    }
    let hold = match pids.len() + unseen.len() {
        0 => return gap.why.clone(),
        1 => "holds",
        _ => "hold",
    };
    let detail = format!("{who} {hold} it open with clients that cannot be read: {}", gap.why.detail);
    Why { detail: detail.into(), ..gap.why.clone() }
}

static NO_PROCESS: Why =
    Why { reason: Reason::Gone, detail: Text::Static("the process ended while it was looked at"), remedy: None };

static NO_ENGINES: Why = Why {
    reason: Reason::NotSupported,
    detail: Text::Static("the driver tells no engine time of this client"),
    remedy: None,
};

impl<'a> Procs<'a> {
    /// What was asked for of a snapshot.
    pub fn new(snapshot: &'a Snapshot, query: &Query) -> Self {
        let busy = busy_gpus(snapshot);
        let mut rows: Vec<ClientRow<'a>> = snapshot
            .clients
            .clients
            .iter()
            .map(|client| ClientRow {
                client,
                process: snapshot.clients.process(client.pid),
                keeps_awake: keeps_awake(snapshot, client, &busy),
            })
            .filter(|row| query.wants(row))
            .collect();
        if let Some(sort) = query.sort {
            rows.sort_by(|a, b| sort.compare(&a.keys(), &b.keys()));
        }
        let groups = query.by_container.then(|| {
            let mut groups = groups(&rows, snapshot);
            if let Some(sort) = query.sort {
                groups.sort_by(|a, b| sort.compare(&a.keys(), &b.keys()));
            }
            groups
        });
        let awake = |id: &GpuId| {
            let active = Reading::Value(RuntimeStatus::Active);
            let mut engines = snapshot.clients.clients.iter().filter(|c| c.gpu == *id).flat_map(|c| &c.engines);
            !busy.contains(&id)
                && engines.all(|e| e.busy_ratio.is_known())
                && snapshot.gpus.iter().any(|g| g.id == *id && g.runtime_status == active)
        };
        let kept_awake = snapshot.clients.always_on.iter().filter(|(id, _)| awake(id));
        let kept_awake = kept_awake.map(|(id, by)| (id, *by)).collect();
        Procs { snapshot, rows, groups, kept_awake, pids: query.pids.clone() }
    }

    /// The cgroups of the clients that are shown, with their device memory.
    pub fn cgroups(&self) -> impl Iterator<Item = &'a CgroupSample> {
        let shown = |c: &&CgroupSample| self.rows.iter().any(|row| row.cgroup().is_ok_and(|path| *path == c.cgroup));
        self.snapshot.clients.cgroups.iter().filter(shown)
    }

    /// Why clients may be missing. Whose they are and what container they are in is not known either: of what may be asked for only
    /// process numbers leave some out.
    pub fn gaps(&self) -> impl Iterator<Item = (Option<&'a GpuId>, Why)> {
        let asked_for = |gap: &&ClientsGap| {
            self.pids.is_empty() || gap.holders.is_empty() || gap.holders.iter().any(|pid| self.pids.contains(pid))
        };
        self.snapshot.clients.gaps.iter().filter(asked_for).map(|gap| (gap.gpu.as_ref(), explain(gap)))
    }

    /// Processes whose files may not be read.
    pub fn denied_processes(&self) -> usize {
        self.snapshot.clients.denied_processes
    }

    /// Clients beyond the limit.
    pub fn left_out(&self) -> usize {
        self.snapshot.clients.left_out
    }
}

/// The GPUs on which somebody was seen working.
fn busy_gpus(snapshot: &Snapshot) -> Vec<&GpuId> {
    let works = |ratio: &Reading<f64>| ratio.get().is_some_and(|r| r > 0.0);
    let clients = snapshot.clients.clients.iter();
    let clients = clients.filter(|c| c.engines.iter().any(|e| works(&e.busy_ratio))).map(|c| &c.gpu);
    let gpus = snapshot.gpus.iter().filter(|g| {
        g.engines.value().into_iter().flatten().any(|e| works(&e.busy_ratio))
            || g.classes.value().into_iter().flatten().any(|c| works(&c.busy_ratio))
    });
    clients.chain(gpus.map(|g| &g.id)).collect()
}

fn keeps_awake(snapshot: &Snapshot, client: &ClientSnapshot, busy: &[&GpuId]) -> Reading<bool> {
    let Some(gpu) = snapshot.gpus.iter().find(|g| g.id == client.gpu) else {
        return Reading::absent(Reason::Gone, "the GPU went away");
    };
    match &gpu.runtime_status {
        Reading::Absent(why) => return Reading::Absent(why.clone()),
        Reading::Value(RuntimeStatus::Active) => {}
        Reading::Value(_) => return Reading::Value(false),
    }
    if busy.contains(&&client.gpu) || snapshot.clients.always_on.iter().any(|(id, _)| *id == client.gpu) {
        return Reading::Value(false);
    }
    if client.engines.is_empty() {
        return Reading::Absent(NO_ENGINES.clone());
    }
    match client.engines.iter().find_map(|e| e.busy_ratio.why()) {
        Some(why) => Reading::Absent(why.clone()),
        None => Reading::Value(true),
    }
}

impl<'a> ClientRow<'a> {
    fn fact<T>(&self, field: impl FnOnce(&'a ProcessSnapshot) -> &'a Reading<T>) -> Result<&'a T, &'a Why> {
        match self.process.map(field) {
            Some(Reading::Value(v)) => Ok(v),
            Some(Reading::Absent(why)) => Err(why),
            None => Err(&NO_PROCESS),
        }
    }

    pub(crate) fn comm(&self) -> Result<&'a Text, &'a Why> {
        self.fact(|p| &p.process.comm)
    }

    pub(crate) fn command_line(&self) -> Result<&'a Text, &'a Why> {
        self.fact(|p| &p.process.command_line)
    }

    pub(crate) fn uid(&self) -> Result<u32, &'a Why> {
        self.fact(|p| &p.process.uid).copied()
    }

    pub(crate) fn user(&self) -> Result<&'a Text, &'a Why> {
        self.fact(|p| &p.process.user)
    }

    pub(crate) fn cgroup(&self) -> Result<&'a Text, &'a Why> {
        self.fact(|p| &p.process.cgroup)
    }

    pub(crate) fn container(&self) -> Result<&'a Text, &'a Why> {
        self.fact(|p| &p.process.container)
    }

    pub(crate) fn cpu_ratio(&self) -> Result<f64, &'a Why> {
        self.fact(|p| &p.cpu_ratio).copied()
    }

    pub(crate) fn rss_bytes(&self) -> Result<u64, &'a Why> {
        self.fact(|p| &p.process.rss_bytes).copied()
    }

    /// Memory of all regions: resident, or where that is not told, what was allocated.
    pub(crate) fn held_bytes(&self) -> Option<Reading<u64>> {
        let held = |m: &ClientMemory| match &m.resident_bytes {
            Reading::Absent(why) if why.reason == Reason::NotSupported && m.total_bytes.is_known() => {
                m.total_bytes.clone()
            }
            resident => resident.clone(),
        };
        sum(self.client.memory.iter().map(held))
    }

    fn keys(&self) -> Keys {
        Keys {
            busy: self.client.engines.iter().filter_map(|e| e.busy_ratio.get()).max_by(f64::total_cmp),
            memory: self.held_bytes().and_then(|r| r.get()),
            cpu: self.cpu_ratio().ok(),
            pid: self.client.pid,
        }
    }
}

/// Private memory: total less shared.
pub(crate) fn private_bytes(m: &ClientMemory) -> Reading<u64> {
    match (&m.total_bytes, &m.shared_bytes) {
        (Reading::Value(total), Reading::Value(shared)) => Reading::Value(total.saturating_sub(*shared)),
        (Reading::Absent(why), _) | (_, Reading::Absent(why)) => Reading::Absent(why.clone()),
    }
}

impl Query {
    fn wants(&self, row: &ClientRow<'_>) -> bool {
        let user = |wanted: &String| {
            row.user().is_ok_and(|name| name.as_str() == wanted.as_str())
                || row.uid().is_ok_and(|uid| wanted.parse() == Ok(uid))
        };
        let container = |wanted: &String| {
            [row.container(), row.cgroup()].iter().any(|text| text.is_ok_and(|t| t.contains(wanted.as_str())))
        };
        (self.pids.is_empty() || self.pids.iter().any(|pid| row.client.holders.contains(pid)))
            && (self.users.is_empty() || self.users.iter().any(user))
            && (self.containers.is_empty() || self.containers.iter().any(container))
    }
}

/// What rows are compared by. What is not known comes last.
struct Keys {
    busy: Option<f64>,
    memory: Option<u64>,
    cpu: Option<f64>,
    pid: u32,
}

impl Sort {
    fn compare(self, a: &Keys, b: &Keys) -> Ordering {
        let memory = || b.memory.cmp(&a.memory);
        let first = match self {
            Sort::Busy => descending(a.busy, b.busy).then_with(memory),
            Sort::Memory => memory(),
            Sort::Cpu => descending(a.cpu, b.cpu),
            Sort::Pid => Ordering::Equal,
        };
        first.then(a.pid.cmp(&b.pid))
    }
}

fn descending(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

impl Group<'_> {
    /// Its name in texts and paths.
    pub(crate) fn label(&self) -> &str {
        self.container.or(self.cgroup).map_or("-", Text::as_str)
    }

    pub(crate) fn resident_bytes(&self) -> Option<Reading<u64>> {
        sum(self.memory.iter().map(|m| m.resident_bytes.clone()))
    }

    fn keys(&self) -> Keys {
        Keys {
            busy: self.engines.iter().filter_map(|e| e.busy_ratio.get()).max_by(f64::total_cmp),
            memory: self.resident_bytes().and_then(|r| r.get()),
            cpu: self.cpu_ratio.get(),
            pid: self.pids.first().copied().unwrap_or(0),
        }
    }
}

fn groups<'a>(rows: &[ClientRow<'a>], snapshot: &'a Snapshot) -> Vec<Group<'a>> {
    let mut groups: Vec<(Group<'a>, Vec<&ClientRow<'a>>)> = Vec::new();
    for row in rows {
        let (container, cgroup) = (row.container().ok(), row.cgroup().ok());
        let same = |g: &Group<'_>| match container {
            Some(_) => g.container == container,
            None => g.container.is_none() && g.cgroup == cgroup,
        };
        match groups.iter_mut().find(|(g, _)| same(g)) {
            Some((_, members)) => members.push(row),
            None => groups.push((Group::new(container, cgroup), vec![row])),
        }
    }
    groups
        .into_iter()
        .map(|(mut group, members)| {
            group.add_up(&members);
            group.charged_bytes = charged(&members, snapshot);
            group
        })
        .collect()
}

/// What the kernel charges to the cgroup of these clients. A container with several is left without: they may stand in one another, and
/// each has the memory of those below it.
fn charged(members: &[&ClientRow<'_>], snapshot: &Snapshot) -> Reading<u64> {
    const SEVERAL: Why = Why {
        reason: Reason::NotSupported,
        detail: Text::Static(
            "the container has several cgroups; each one's device memory stands in the list of cgroups",
        ),
        remedy: None,
    };
    let mut paths = members.iter().map(|row| row.cgroup());
    let path = match paths.next() {
        Some(Ok(path)) => path,
        Some(Err(why)) => return why.clone().into(),
        None => return NO_PROCESS.clone().into(),
    };
    if paths.any(|other| other != Ok(path)) {
        return SEVERAL.into();
    }
    match snapshot.clients.cgroup(path).map(|c| &c.device_memory) {
        Some(memory) => {
            memory.as_ref().map(|regions| regions.iter().fold(0u64, |sum, r| sum.saturating_add(r.used_bytes)))
        }
        None => NO_PROCESS.clone().into(),
    }
}

impl<'a> Group<'a> {
    fn new(container: Option<&'a Text>, cgroup: Option<&'a Text>) -> Self {
        Group {
            container,
            cgroup,
            clients: 0,
            pids: Vec::new(),
            engines: Vec::new(),
            memory: Vec::new(),
            cpu_ratio: Reading::Absent(NO_PROCESS.clone()),
            rss_bytes: Reading::Absent(NO_PROCESS.clone()),
            charged_bytes: Reading::Absent(NO_PROCESS.clone()),
        }
    }

    fn add_up(&mut self, members: &[&ClientRow<'a>]) {
        self.clients = members.len();
        for row in members {
            let gpu = &row.client.gpu;
            for e in &row.client.engines {
                match self.engines.iter_mut().find(|g| g.gpu == gpu && *g.name == e.name) {
                    Some(g) => {
                        g.capacity = g.capacity.max(e.capacity);
                        g.busy_ratio = plus(&g.busy_ratio, &e.busy_ratio);
                    }
                    None => self.engines.push(GroupEngine {
                        gpu,
                        class: e.class,
                        name: &e.name,
                        capacity: e.capacity,
                        busy_ratio: e.busy_ratio.clone(),
                    }),
                }
            }
            for m in &row.client.memory {
                match self.memory.iter_mut().find(|g| g.gpu == gpu && *g.region == m.region) {
                    Some(g) => g.resident_bytes = plus(&g.resident_bytes, &m.resident_bytes),
                    None => self.memory.push(GroupMemory {
                        gpu,
                        region: &m.region,
                        resident_bytes: m.resident_bytes.clone(),
                    }),
                }
            }
        }
        // A process with several clients is counted once.
        let mut processes: Vec<&ClientRow<'a>> = members.to_vec();
        processes.sort_by_key(|row| row.client.pid);
        processes.dedup_by_key(|row| row.client.pid);
        self.pids = processes.iter().map(|row| row.client.pid).collect();
        let known = |r: Result<f64, &Why>| Reading::from(r.map_err(Why::clone));
        if let Some(cpu) = sum(processes.iter().map(|row| known(row.cpu_ratio()))) {
            self.cpu_ratio = cpu;
        }
        if let Some(rss) = sum(processes.iter().map(|row| Reading::from(row.rss_bytes().map_err(Why::clone)))) {
            self.rss_bytes = rss;
        }
    }
}

/// A sum. What is there for the first time counts from its second sample on; any other part that is not known leaves the sum
/// unknown: a smaller one would be a lie.
fn plus<T: Copy + Add<Output = T>>(a: &Reading<T>, b: &Reading<T>) -> Reading<T> {
    match (a, b) {
        (Reading::Value(a), Reading::Value(b)) => Reading::Value(*a + *b),
        (Reading::Absent(why), other) | (other, Reading::Absent(why)) if why.reason == Reason::FirstSample => {
            other.clone()
        }
        (Reading::Absent(why), _) | (_, Reading::Absent(why)) => Reading::Absent(why.clone()),
    }
}

/// The sum of all parts; `None` without parts.
fn sum<T: Copy + Add<Output = T>>(parts: impl Iterator<Item = Reading<T>>) -> Option<Reading<T>> {
    parts.reduce(|a, b| plus(&a, &b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_known_leaves_a_sum_unknown_unless_it_is_new() {
        let one = Reading::Value(1u64);
        let new = Reading::Absent(Why::FIRST_SAMPLE);
        let refused = Reading::absent(Reason::NoPermission, "synthetic");
        assert_eq!(plus(&one, &one), Reading::Value(2));
        assert_eq!(plus(&one, &new), one);
        assert_eq!(plus(&new, &one), one);
        assert_eq!(plus(&one, &refused), refused);
        assert_eq!(plus(&new, &refused), refused);
        assert_eq!(sum::<u64>(std::iter::empty()), None);
    }

    #[test]
    fn what_is_not_known_is_sorted_last() {
        let key = |busy, pid| Keys { busy, memory: None, cpu: None, pid };
        let mut keys = [key(None, 1), key(Some(0.1), 3), key(Some(0.9), 2), key(Some(0.1), 1)];
        keys.sort_by(|a, b| Sort::Busy.compare(a, b));
        let order: Vec<_> = keys.iter().map(|k| (k.busy, k.pid)).collect();
        assert_eq!(order, [(Some(0.9), 2), (Some(0.1), 1), (Some(0.1), 3), (None, 1)]);
    }
}
