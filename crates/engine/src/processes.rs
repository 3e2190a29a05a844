//! The processes that hold DRM clients.

use gpuscope_host::Processes;
use gpuscope_model::ClientsSample;

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
    }
}
