//! Captured machines of others: a folder outside the repository.

use crate::Tree;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A captured machine, laid out as a root.
pub struct Captured {
    /// The root.
    pub tree: Tree,
    /// Its folder `cardN`, for tests that read the files themselves.
    pub card: PathBuf,
}

/// Folder of the captured trees, from `GPUSCOPE_FIXTURES`. Says so in one loud line where there is none: the tests that want it are
/// then left out.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("GPUSCOPE_FIXTURES").filter(|v| !v.is_empty()).map(PathBuf::from);
    match folder {
        Some(folder) => {
            // A wrong path must not pass as a run without fixtures.
            assert!(folder.is_dir(), "GPUSCOPE_FIXTURES={}: not a folder", folder.display());
            Some(folder)
        }
        None => {
            // Not `eprintln!`, which the test harness hides when a test passes.
            let _ =
                io::stderr().write_all(b"!!! GPUSCOPE_FIXTURES is not set: NOT tested against captured machines !!!\n");
            None
        }
    }
}

/// Names of the captured machines: `intel/a380-i915`. Empty where there are none.
pub fn captured_names() -> Vec<String> {
    let Some(folder) = folder() else { return Vec::new() };
    let mut names = Vec::new();
    for vendor in entries(&folder.join("sysfs")) {
        for machine in entries(&vendor) {
            let relative = machine.strip_prefix(folder.join("sysfs")).unwrap();
            names.push(relative.to_str().unwrap().to_string());
        }
    }
    assert!(!names.is_empty(), "GPUSCOPE_FIXTURES={}: no machine under sysfs", folder.display());
    names
}

/// The captured machine of that name, under a root of its own. `None` where there are no captured machines.
pub fn captured(name: &str) -> Option<Captured> {
    let machine = folder()?.join("sysfs").join(name);
    let is_card = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_str().unwrap().starts_with("card"));
    let card = entries(&machine).into_iter().find(is_card);
    let card = card.unwrap_or_else(|| panic!("{}: no card folder", machine.display()));
    let tree = Tree::new();
    tree.link(&format!("sys/class/drm/{}", card.file_name().unwrap().to_str().unwrap()), &card);
    Some(Captured { tree, card })
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}
