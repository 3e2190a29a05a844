//! Why a BPF program does not run, by what the caller does about it.

use std::io;
use std::path::PathBuf;

/// Why a BPF program could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// bpf(2) was refused with EPERM or EACCES. CAP_BPF and CAP_PERFMON, both in the machine's own user namespace, are what it asks
    /// for (`bpf_prog_load`, kernel/bpf/syscall.c); a seccomp filter or a security module may refuse all the same.
    #[error("bpf(2), {call}: {source}")]
    Permission {
        /// The command.
        call: &'static str,
        /// The refusal.
        source: io::Error,
    },
    /// The kernel offers no type information: CONFIG_DEBUG_INFO_BTF is off, or for a module CONFIG_DEBUG_INFO_BTF_MODULES.
    #[error("{path}: not there, the kernel has no type information (CONFIG_DEBUG_INFO_BTF)", path = path.display())]
    NoBtf {
        /// `/sys/kernel/btf/vmlinux`, or a module's beside it.
        path: PathBuf,
    },
    /// The kernel has no bpf(2) (CONFIG_BPF_SYSCALL), no such iterator, or not the fields that are read; or this is not the running
    /// machine.
    #[error("{what}")]
    Unsupported {
        /// What is missing.
        what: String,
    },
    /// The kernel, with the modules that are loaded, has no such tracepoint.
    #[error("the kernel has no tracepoint {name}")]
    NoTracepoint {
        /// `system:name`.
        name: String,
    },
    /// This process lives in a PID namespace of its own: the program would report the machine's numbers of processes, and only of
    /// those in the namespace.
    #[error("this PID namespace is not the machine's own")]
    InnerPidNamespace,
    /// The kernel's verifier does not take the program.
    #[error("the kernel refused the program ({source}): {log}")]
    Rejected {
        /// What bpf(2) answered.
        source: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// Anything else.
    #[error("{call}: {source}")]
    Io {
        /// The command of bpf(2), or the file.
        call: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl BpfError {
    /// Sorts what a command of bpf(2) answered.
    pub(super) fn calling(call: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => BpfError::Permission { call, source },
            Some(libc::ENOSYS) => {
                BpfError::Unsupported { what: "this kernel is built without bpf(2) (CONFIG_BPF_SYSCALL)".into() }
            }
            _ => BpfError::Io { call: format!("bpf(2), {call}"), source },
        }
    }

    /// The kernel's error number, where one was given.
    pub fn errno(&self) -> Option<i32> {
        match self {
            BpfError::Permission { source, .. } | BpfError::Rejected { source, .. } | BpfError::Io { source, .. } => {
                source.raw_os_error()
            }
            BpfError::NoBtf { .. } => Some(libc::ENOENT),
            BpfError::Unsupported { .. } | BpfError::NoTracepoint { .. } | BpfError::InnerPidNamespace => None,
        }
    }
}
