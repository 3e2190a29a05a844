//! An instance of tracefs (Documentation/trace/ftrace.rst, "Instances"): buffers and events of its own, which other tracers do not see.

use crate::capture::CaptureError;
use crate::tracefs::refused;
use gpuscope_sys::Roots;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// What instances of this program are called, with the process and a number behind it.
const PREFIX: &str = "gpuscope-";

/// A process may hold so many at a time.
const MOST: u32 = 64;

/// Takes away what processes that were killed left behind. One that lives cannot be hit even where its process is not seen from here
/// (in another PID namespace): the kernel refuses while its buffers are open (`__remove_instance`).
fn remove_stale(instances: &Path, roots: &Roots) {
    let Ok(names) = gpuscope_sys::list_dir(instances) else { return };
    for name in names {
        let Some((pid, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else { continue };
        if pid.parse::<u32>().is_ok() && !roots.proc(pid).exists() {
            let _ = fs::remove_dir(instances.join(name));
        }
    }
}

/// An instance, removed when it is dropped. The files that were opened in it must be closed by then.
#[derive(Debug)]
pub(super) struct Instance {
    dir: PathBuf,
}

impl Instance {
    /// Makes one.
    ///
    /// # Errors
    /// [`CaptureError::Permission`] or [`CaptureError::Io`].
    pub(super) fn make(tracefs: &Path, roots: &Roots) -> Result<Instance, CaptureError> {
        let instances = tracefs.join("instances");
        remove_stale(&instances, roots);
        let mut number = 0;
        loop {
            let dir = instances.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Instance { dir }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < MOST => number += 1,
                Err(error) => return Err(refused(&dir, error)),
            }
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a setting.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<(), CaptureError> {
        let path = self.path(name);
        // Without O_TRUNC, which empties `trace` and event filters.
        let written = OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
        written.map_err(|error| refused(&path, error))
    }

    /// Writes a setting that this kernel may not have.
    pub(super) fn write_if_there(&self, name: &str, value: &str) -> Result<(), CaptureError> {
        match self.write(name, value) {
            Err(CaptureError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Reads a file; none where there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, CaptureError> {
        let path = self.path(name);
        // Some answer one call and no second (`show_header_page_file`): the first one must have room for all.
        let mut text = String::with_capacity(8192);
        match File::open(&path).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused(&path, error)),
        }
    }

    /// Opens a file to be read without waiting.
    pub(super) fn open_raw(&self, name: &str) -> Result<File, CaptureError> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path(name);
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(|error| refused(&path, error))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The kernel disables its events and frees its buffers. Where it refuses, the next run takes the rest away.
        let _ = fs::remove_dir(&self.dir);
    }
}
