//! The processes that use the card, as clients. NVML tells processes, not the open files behind them: a client's identity is its pid.
//!
//! They are read together with the card, before NVML may be let go: an idle card's processes are what keeps it from sleeping.

use super::super::over_time::OverTime;
use super::nvml::Nvml;
use super::parse::{Process, percentage};
use super::{ENGINES, SOURCE};
use gpuscope_model::{ClientEngineSample, ClientKey, ClientMemory, ClientSample, GpuId, Reading, Text, Why};

/// One process between readings: kernels, encoder, decoder.
struct Known {
    pid: u32,
    busy: [OverTime; 3],
    alive: bool,
}

/// What NVML said of processes at the last reading.
pub(super) struct Processes {
    listed: Result<(), Why>,
    read_ns: u64,
    list: Vec<Process>,
    known: Vec<Known>,
}

impl Default for Processes {
    fn default() -> Self {
        Processes { listed: Err(Why::FIRST_SAMPLE), read_ns: 0, list: Vec::new(), known: Vec::new() }
    }
}

impl Processes {
    /// Asks NVML, which has to be open.
    pub(super) fn read(&mut self, nvml: &mut Nvml, now_ns: u64) {
        self.listed = nvml.processes(now_ns, &mut self.list);
        self.read_ns = now_ns;
    }

    /// NVML could not be asked. What a process used until it can be again is not known.
    pub(super) fn none(&mut self, why: &Why) {
        self.listed = Err(why.clone());
        self.known.clear();
    }

    /// Adds the processes of the last reading.
    pub(super) fn clients(&mut self, gpu: &GpuId, out: &mut Vec<ClientSample>) -> Result<(), Why> {
        self.listed.clone()?;
        self.known.iter_mut().for_each(|k| k.alive = false);
        for process in &self.list {
            let at = match self.known.iter().position(|k| k.pid == process.pid) {
                Some(at) => at,
                None => {
                    self.known.push(Known { pid: process.pid, busy: Default::default(), alive: false });
                    self.known.len() - 1
                }
            };
            let Some(known) = self.known.get_mut(at) else { continue };
            known.alive = true;
            out.push(client(gpu, process, known, self.read_ns));
        }
        self.known.retain(|k| k.alive);
        Ok(())
    }
}

fn client(gpu: &GpuId, process: &Process, known: &mut Known, read_ns: u64) -> ClientSample {
    let engines = ENGINES.iter().zip(&mut known.busy).enumerate().map(|(i, ((name, class, _, _), busy))| {
        let share = match &process.percent {
            Ok(Some(p)) => percentage(p.get(i).copied().unwrap_or(0)).map(|p| busy.percent(p, read_ns)),
            // The next mean stands for the time since the last one.
            Ok(None) => Ok(busy.so_far(read_ns)),
            Err(why) => Err(why.clone()),
        };
        ClientEngineSample { class: *class, name: Text::Static(name), capacity: 1, busy: share.into() }
    });
    let no = || Reading::Absent(Why::not_supported("NVML tells what a process has allocated, and no more"));
    let memory = ClientMemory {
        region: Text::Static("vram"),
        total_bytes: no(),
        shared_bytes: no(),
        resident_bytes: process.used_bytes.clone().into(),
        active_bytes: no(),
        purgeable_bytes: no(),
    };
    ClientSample {
        gpu: gpu.clone(),
        key: ClientKey::Process(process.pid),
        source: SOURCE,
        client_name: None,
        read_ns: Reading::Value(read_ns),
        pid: process.pid,
        holders: vec![process.pid],
        engines: engines.collect(),
        memory: vec![memory],
    }
}
