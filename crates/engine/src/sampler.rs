//! Sample, compare, snapshot: one tick's work.

use crate::processes::Holders;
use gpuscope_gpu::GpuSet;
use gpuscope_host::Processes;
use gpuscope_model::delta::Baseline;
use gpuscope_model::{Sample, Snapshot};

/// The GPUs of a machine, sampled tick by tick. Its buffers are used again: a steady tick allocates nothing.
pub struct Sampler {
    set: GpuSet,
    holders: Option<Holders>,
    sample: Sample,
    baseline: Baseline,
    snapshot: Snapshot,
}

impl Sampler {
    /// Takes the set over; nothing is read yet.
    pub fn new(set: GpuSet) -> Self {
        Sampler {
            set,
            holders: None,
            sample: Sample::default(),
            baseline: Baseline::new(),
            snapshot: Snapshot::default(),
        }
    }

    /// The same, with the facts of the processes that hold clients. The set has to sample clients
    /// ([`Options::clients`](gpuscope_gpu::Options)).
    pub fn with_processes(set: GpuSet, processes: Processes) -> Self {
        Sampler { holders: Some(Holders::new(processes)), ..Sampler::new(set) }
    }

    /// Reads every device once and compares with the tick before.
    pub fn tick(&mut self) -> &Snapshot {
        self.set.sample(&mut self.sample);
        if let Some(holders) = &mut self.holders {
            holders.sample(self.set.infos(), &mut self.sample.clients);
        }
        self.baseline.step(&self.sample, &mut self.snapshot);
        &self.snapshot
    }

    /// The snapshot of the last tick.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the kernel said at the last tick.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The devices.
    pub fn set(&self) -> &GpuSet {
        &self.set
    }
}
