//! A tree of kernel files in a temporary folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A folder with `proc`, `sys` and `dev` in it, gone when dropped.
pub struct Tree {
    dir: tempfile::TempDir,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// An empty one: a machine that tells nothing.
    pub fn new() -> Self {
        Tree { dir: tempfile::tempdir().unwrap() }
    }

    /// The folder, for `--root` and `Roots::at`.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file, with the folders above it.
    pub fn file(&self, path: &str, text: &str) -> &Self {
        fs::write(self.with_parents(path), text).unwrap();
        self
    }

    /// Writes several files into one folder.
    pub fn files(&self, folder: &str, files: &[(&str, &str)]) -> &Self {
        for (name, text) in files {
            self.file(&format!("{folder}/{name}"), text);
        }
        self
    }

    /// Makes a folder.
    pub fn folder(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    /// Makes a symbolic link; a relative target starts at the link's folder, as in sysfs.
    pub fn link(&self, path: &str, target: impl AsRef<Path>) -> &Self {
        symlink(target, self.with_parents(path)).unwrap();
        self
    }

    fn with_parents(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}
