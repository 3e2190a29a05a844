//! The commands, a file each.

mod doctor;
mod generate;
mod list;
mod procs;
mod stat;
mod trace;

pub(crate) use doctor::doctor;
pub(crate) use generate::{completions, man};
pub(crate) use list::list;
pub(crate) use procs::procs;
pub(crate) use stat::stat;
pub(crate) use trace::trace;

use crate::args::Common;
use anyhow::bail;
use gpuscope_gpu::Options;
use gpuscope_host::{Processes, Users};
use gpuscope_model::Snapshot;
use gpuscope_sys::Roots;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where to look: this machine, or the folder of `--root`.
fn roots(common: &Common) -> anyhow::Result<Roots> {
    let Some(dir) = &common.root else { return Ok(Roots::host()) };
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(Roots::at(dir)),
        Ok(_) => bail!("--root {}: not a folder; give one that holds proc, sys and dev", dir.display()),
        Err(e) => bail!("--root {}: {e}; give a folder that holds proc, sys and dev", dir.display()),
    }
}

/// The polite options, with the files of PCI names that the hwdata package installs. A captured machine brings its own or has none:
/// its output must not depend on the machine that reads it.
fn options(common: &Common) -> Options {
    let root = common.root.as_deref().unwrap_or(Path::new("/"));
    let pci_ids: Vec<PathBuf> =
        ["usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids"].iter().map(|path| root.join(path)).collect();
    Options { pci_ids, ..Options::default() }
}

/// Facts of processes. Their users' names come from the passwd file: a captured machine's own, or none.
fn processes(common: &Common, roots: &Roots) -> Processes {
    let root = common.root.as_deref().unwrap_or(Path::new("/"));
    let passwd = std::fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    Processes::new(roots.clone(), Users::parse(&passwd))
}

/// The moment that the snapshot's `monotonic_ns` names, the start of the sample, as wall time.
fn wall_time(snapshot: &Snapshot) -> SystemTime {
    let ago = Duration::from_nanos(gpuscope_sys::monotonic_ns().saturating_sub(snapshot.at_ns));
    let now = SystemTime::now();
    now.checked_sub(ago).unwrap_or(now)
}

/// Where GPUs are looked for, in words.
fn looked_at(roots: &Roots) -> String {
    roots.sys("class/drm").display().to_string()
}
