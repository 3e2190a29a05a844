//! The processes that hold clients, and their cgroups.

use crate::unseen::Unseen;
use gpuscope_host::{Dmem, Processes};
use gpuscope_model::{ClientsSample, DeviceInfo, Text};

/// Looks at the processes that hold a client, and at no others.
pub(crate) struct Holders {
    processes: Processes,
    dmem: Dmem,
    unseen: Unseen,
    /// Kept between ticks so that they do not allocate.
    pids: Vec<u32>,
    cgroups: Vec<Text>,
}

impl Holders {
    pub(crate) fn new(processes: Processes) -> Self {
        let dmem = Dmem::new(processes.roots().clone());
        let unseen = Unseen::new(processes.roots().clone());
        Holders { processes, dmem, unseen, pids: Vec::new(), cgroups: Vec::new() }
    }

    /// Fills the facts of every holder of a client, by pid, the device memory of their cgroups, and who else holds a GPU.
    pub(crate) fn sample<'i>(&mut self, gpus: impl Iterator<Item = &'i DeviceInfo>, clients: &mut ClientsSample) {
        self.pids.clear();
        self.pids.extend(clients.clients.iter().flat_map(|c| c.holders.iter().copied()));
        self.pids.sort_unstable();
        self.pids.dedup();
        self.processes.sample(&self.pids, &mut clients.processes);
        self.cgroups.clear();
        self.cgroups.extend(clients.processes.iter().filter_map(|p| p.cgroup.value().cloned()));
        self.cgroups.sort_unstable();
        self.cgroups.dedup();
        self.dmem.sample(&self.cgroups, &mut clients.cgroups);
        self.unseen.name(gpus, clients);
    }
}
