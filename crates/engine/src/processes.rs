//! The processes that hold clients, and their cgroups.

use gpuscope_host::{DmemRegion, Processes, dmem_capacity, dmem_current};
use gpuscope_model::{CgroupMemory, CgroupSample, ClientsSample, GpuId, Reading, Reason, Text, Why};

/// Looks at the processes that hold a client, and at no others.
pub(crate) struct Holders {
    processes: Processes,
    /// Kept between ticks so that it does not allocate.
    pids: Vec<u32>,
}

impl Holders {
    pub(crate) fn new(processes: Processes) -> Self {
        Holders { processes, pids: Vec::new() }
    }

    /// Fills the facts of every holder of a client, by pid.
    pub(crate) fn sample(&mut self, clients: &mut ClientsSample) {
        self.pids.clear();
        self.pids.extend(clients.clients.iter().flat_map(|c| c.holders.iter().copied()));
        self.pids.sort_unstable();
        self.pids.dedup();
        self.processes.sample(&self.pids, &mut clients.processes);
        self.cgroups(clients);
    }

    /// Fills the device memory of every cgroup that one of the processes is in.
    fn cgroups(&self, clients: &mut ClientsSample) {
        let mut paths: Vec<&Text> = clients.processes.iter().filter_map(|p| p.cgroup.value()).collect();
        paths.sort();
        paths.dedup();
        let roots = self.processes.roots();
        let capacity = if paths.is_empty() { Reading::Value(Vec::new()) } else { dmem_capacity(roots) };
        let cgroup = |path: &&Text| CgroupSample {
            cgroup: Text::clone(path),
            device_memory: dmem_current(roots, path).map(|regions| of_devices(&regions, &capacity)),
        };
        clients.cgroups = paths.iter().map(cgroup).collect();
    }
}

/// The regions that are a DRM device's.
fn of_devices(regions: &[DmemRegion], capacity: &Reading<Vec<DmemRegion>>) -> Vec<CgroupMemory> {
    let memory = |region: &DmemRegion| {
        let (gpu, name) = region.device()?;
        let size = |all: &Vec<DmemRegion>| {
            let same = all.iter().find(|other| other.name == region.name).map(|other| other.bytes);
            same.ok_or_else(|| Why::new(Reason::Gone, "dmem.capacity has no such region"))
        };
        Some(CgroupMemory {
            gpu: GpuId::new(gpu.to_string()),
            region: Text::from(name.to_string()),
            used_bytes: region.bytes,
            capacity_bytes: match capacity {
                Reading::Value(all) => size(all).into(),
                Reading::Absent(why) => why.clone().into(),
            },
        })
    };
    regions.iter().filter_map(memory).collect()
}
