//! Trees composed for tests.

use crate::Options;
use crate::discover::find;
use crate::drivers::{self, Context, Device};
use gpuscope_pmu::Rights;
use gpuscope_sys::Roots;
use std::path::{Path, PathBuf};

/// A machine in a temporary folder.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Tree { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::at(self.dir.path())
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn files(&self, folder: &str, files: &[(&str, &str)]) -> &Self {
        for (name, text) in files {
            self.file(&format!("{folder}/{name}"), text);
        }
        self
    }

    pub(crate) fn folder(&self, path: &str) -> &Self {
        std::fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) -> &Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
        self
    }

    /// A PCI GPU as sysfs lays it out: the device under `devices`, its nodes below it, links from the class folder. `uevent` as
    /// `pci_uevent` (drivers/pci/pci-driver.c) prints it.
    pub(crate) fn pci_gpu(&self, address: &str, driver: &str, id: (&str, &str), card: u32) -> String {
        let device = format!("sys/devices/pci0000:00/{address}");
        let (vendor, number) = id;
        let uevent = format!("DRIVER={driver}\nPCI_CLASS=30000\nPCI_ID={vendor}:{number}\nPCI_SLOT_NAME={address}\n");
        self.file(&format!("{device}/uevent"), &uevent)
            .file(&format!("{device}/vendor"), &format!("0x{}\n", vendor.to_lowercase()))
            .file(&format!("{device}/device"), &format!("0x{}\n", number.to_lowercase()))
            .link(&format!("{device}/driver"), format!("../../../bus/pci/drivers/{driver}"));
        self.node(&device, &format!("card{card}"), card);
        self.node(&device, &format!("renderD{}", 128 + card), 128 + card);
        device
    }

    pub(crate) fn node(&self, device: &str, name: &str, minor: u32) {
        let target = device.strip_prefix("sys/").unwrap();
        self.file(&format!("{device}/drm/{name}/dev"), &format!("226:{minor}\n"))
            .link(&format!("{device}/drm/{name}/device"), "../..")
            .link(&format!("sys/class/drm/{name}"), format!("../../{target}/drm/{name}"));
    }

    /// The only GPU of the tree, opened.
    pub(crate) fn open(&self, options: &Options) -> Box<dyn Device> {
        let roots = self.roots();
        let rights = Rights::read(&roots);
        let mut all = find(&roots);
        assert_eq!(all.len(), 1);
        drivers::open(&Context { roots: &roots, rights: &rights, options }, all.remove(0))
    }
}
