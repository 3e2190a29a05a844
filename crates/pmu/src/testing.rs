//! Trees for tests, composed from what the kernel prints.

use crate::Rights;
use gpuscope_sys::Roots;
use std::path::Path;
use tempfile::TempDir;

/// A captured tree in a temporary folder.
pub(crate) struct Tree {
    folder: TempDir,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        Tree { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self, path: &str, text: &str) -> &Tree {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// A file of a PMU.
    pub(crate) fn pmu(&self, pmu: &str, path: &str, text: &str) -> &Tree {
        self.file(&format!("sys/bus/event_source/devices/{pmu}/{path}"), text)
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::at(self.folder.path())
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Rights of an ordinary user at a level of perf_event_paranoid.
pub(crate) fn user_at(level: i32) -> Rights {
    Rights {
        perf_event_paranoid: Some(level),
        capabilities: 0,
        bounding: 0x1ff_ffff_ffff,
        uid: 1000,
        seccomp: false,
        no_new_privs: false,
        lockdown: None,
        kernel: "6.12.107".into(),
        user_namespace: false,
    }
}
