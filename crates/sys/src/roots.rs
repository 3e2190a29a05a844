//! Where the kernel's trees are.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Inode of `/proc/self/ns/pid` in the machine's own PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INIT_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The folders in which proc, sys and dev are found: the machine's own, or those of a captured tree.
///
/// Everything that opens kernel files takes a `Roots`; no absolute path stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    proc: PathBuf,
    sys: PathBuf,
    dev: PathBuf,
    live: bool,
}

impl Roots {
    /// The running machine.
    pub fn host() -> Self {
        Roots { proc: "/proc".into(), sys: "/sys".into(), dev: "/dev".into(), live: true }
    }

    /// A captured or composed tree: `DIR/proc`, `DIR/sys`, `DIR/dev`. No system call that would answer for the running machine
    /// is made for it: its perf events do not exist.
    pub fn at(dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref();
        Roots { proc: dir.join("proc"), sys: dir.join("sys"), dev: dir.join("dev"), live: false }
    }

    /// A path under proc.
    pub fn proc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.proc.join(path)
    }

    /// A path under sys.
    pub fn sys(&self, path: impl AsRef<Path>) -> PathBuf {
        self.sys.join(path)
    }

    /// A path under dev.
    pub fn dev(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dev.join(path)
    }

    /// Whether this is the running machine, where counters move and perf events can be opened.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether this process and proc number processes as the machine itself does, and as its records do: not in a PID namespace of their own.
    pub fn has_machine_pids(&self) -> bool {
        let namespace = std::fs::metadata(self.proc("self/ns/pid"));
        !self.live || namespace.is_ok_and(|n| n.ino() == INIT_PID_NAMESPACE)
    }
}
