//! The open files of all processes at once, where the kernel can be asked with BPF.

use gpuscope_model::{Reason, Why};
#[cfg(feature = "bpf")]
use gpuscope_pmu::{Capability, Rights};
use gpuscope_sys::Roots;
#[cfg(feature = "bpf")]
use gpuscope_sys::bpf::{BpfError, OpenFile, OpenFiles};

/// An open file of a process: pid, file number, device number.
pub(super) type Node = (u32, u32, u64);

/// Finds the open files of devices in one pass over the machine: an eighth of a microsecond an open file where the
/// kernel takes the cheaper of two programs, otherwise a quarter; a tenth of a walk and less.
#[derive(Debug)]
pub(super) struct WholeScan {
    source: Source,
    /// By process and file number, as of the last scan.
    pub(super) nodes: Vec<Node>,
    /// When the last scan was made.
    pub(super) scanned_ns: Option<u64>,
    /// Processor time that it took, and with what was made of its answer.
    pub(super) scan_ns: u64,
    pub(super) cost_ns: u64,
}

#[derive(Debug)]
enum Source {
    #[cfg(feature = "bpf")]
    Bpf { files: OpenFiles, found: Vec<OpenFile> },
    /// What a test says; nothing more after an empty answer.
    #[cfg(test)]
    Given(std::collections::VecDeque<Vec<Node>>),
}

impl WholeScan {
    #[cfg(feature = "bpf")]
    pub(super) fn load(roots: &Roots, rdevs: &[u64]) -> Result<Self, Why> {
        let files = OpenFiles::load(roots, rdevs).map_err(|e| reason(&e, roots))?;
        Ok(WholeScan::of(Source::Bpf { files, found: Vec::new() }))
    }

    #[cfg(not(feature = "bpf"))]
    pub(super) fn load(_: &Roots, _: &[u64]) -> Result<Self, Why> {
        Err(Why::new(Reason::NotSupported, "this program was built without BPF"))
    }

    #[cfg(test)]
    pub(super) fn given(answers: impl IntoIterator<Item = Vec<Node>>) -> Self {
        WholeScan::of(Source::Given(answers.into_iter().collect()))
    }

    #[cfg(any(test, feature = "bpf"))]
    fn of(source: Source) -> Self {
        WholeScan { source, nodes: Vec::new(), scanned_ns: None, scan_ns: 0, cost_ns: 0 }
    }

    pub(super) fn set_devices(&mut self, rdevs: &[u64]) -> Result<(), Why> {
        let _ = rdevs;
        match &mut self.source {
            #[cfg(feature = "bpf")]
            Source::Bpf { files, .. } => files.set_devices(rdevs).map_err(failed),
            #[cfg(test)]
            Source::Given(_) => Ok(()),
            #[cfg(not(any(test, feature = "bpf")))]
            _ => Ok(()),
        }
    }

    pub(super) fn scan(&mut self) -> Result<(), Why> {
        self.nodes.clear();
        match &mut self.source {
            #[cfg(feature = "bpf")]
            Source::Bpf { files, found } => {
                files.scan(found).map_err(failed)?;
                self.nodes.extend(found.iter().map(|f| (f.pid, f.fd, f.rdev)));
            }
            #[cfg(test)]
            Source::Given(answers) => {
                self.nodes = answers.pop_front().ok_or_else(|| Why::new(Reason::Failed, "no more answers"))?;
            }
            #[cfg(not(any(test, feature = "bpf")))]
            _ => {}
        }
        self.nodes.sort_unstable();
        Ok(())
    }
}

#[cfg(feature = "bpf")]
fn failed(error: BpfError) -> Why {
    Why::new(Reason::Failed, error.to_string())
}

#[cfg(feature = "bpf")]
fn reason(error: &BpfError, roots: &Roots) -> Why {
    let why = |reason| Why::new(reason, error.to_string());
    match error {
        BpfError::Permission { .. } => {
            let remedy = Rights::read(roots).remedy_for(&[Capability::Bpf, Capability::Perfmon]);
            why(Reason::NoPermission).remedy(remedy)
        }
        BpfError::NoBtf { .. } | BpfError::Unsupported { .. } | BpfError::NoTracepoint { .. } => {
            why(Reason::NotSupported)
        }
        BpfError::InnerPidNamespace => {
            why(Reason::NotSupported).remedy("run in the PID namespace of the machine (docker, podman: --pid=host)")
        }
        BpfError::Rejected { .. } | BpfError::Io { .. } => why(Reason::Failed),
    }
}
