//! Which GPUs there are. Nothing read here wakes a device: neither frequency nor idle nor hwmon files are touched.

use crate::Options;
use crate::drivers::{self, Context};
use crate::held::{small_text, why_of};
use gpuscope_model::{
    DeviceInfo, GpuId, PciAddress, PciId, Reading, RuntimeStatus, Sriov, Text, Unavailable, Vendor, Why,
};
use gpuscope_pmu::Rights;
use gpuscope_sys::{Roots, list_dir, read_link_name};
use std::path::{Path, PathBuf};

/// A device with DRM or accelerator nodes as the class folders show them, or bound to a driver that makes do without.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// Its name in all output.
    pub(crate) id: GpuId,
    /// Folder of the device (`/sys/devices/…`, or in a capture the folder `device`).
    pub(crate) device: PathBuf,
    /// Folder of the primary node: `/sys/class/drm/card0`.
    pub(crate) card: Option<PathBuf>,
    /// Folder of the render node: `/sys/class/drm/renderD128`.
    pub(crate) render: Option<PathBuf>,
    /// Folder of the compute accelerator node: `/sys/class/accel/accel0`.
    pub(crate) accel: Option<PathBuf>,
    /// Device numbers of the nodes (`dev`).
    pub(crate) nodes: Vec<(u32, u32)>,
    /// The driver's name; `unknown` for a device without one.
    pub(crate) driver: String,
    /// PCI address.
    pub(crate) pci_address: Option<PciAddress>,
    /// PCI numbers.
    pub(crate) pci_id: Option<PciId>,
}

impl Found {
    /// The folder of one of its minors.
    pub(crate) fn minor(&self) -> Option<&Path> {
        self.card.as_deref().or(self.render.as_deref()).or(self.accel.as_deref())
    }

    /// What every driver starts from: identity without engines, GTs and PMU.
    pub(crate) fn identity(&self, options: &Options) -> DeviceInfo {
        let node = |folder: &Option<PathBuf>, devices: &str| {
            let name = folder.as_ref()?.file_name()?.to_str()?;
            Some(format!("/dev/{devices}/{name}"))
        };
        let accelerator = self.accel.is_some() && self.card.is_none() && self.render.is_none();
        let noun = if accelerator { "accelerator" } else { "GPU" };
        let vendor = self.pci_id.map_or(Vendor::Other, |id| Vendor::from_pci(id.vendor));
        let mut info = DeviceInfo {
            id: self.id.clone(),
            vendor,
            driver: self.driver.clone(),
            name: crate::pci_names::name(self.pci_id, noun, &self.driver, &options.pci_ids),
            pci_address: self.pci_address,
            pci_id: self.pci_id,
            card: node(&self.card, "dri"),
            render: node(&self.render, "dri"),
            accel: node(&self.accel, "accel"),
            pmu: None,
            integrated: self.integrated(),
            sriov: sriov(&self.device),
            runtime_status: runtime_status(&self.device),
            gts: Vec::new(),
            engines: Vec::new(),
            clients_from: vec![Text::Static("fdinfo")],
            unavailable: Vec::new(),
        };
        if let Reading::Absent(why) = &info.runtime_status {
            info.unavailable.push(Unavailable::new("runtime_status", why.clone()));
        }
        if let Reading::Absent(why) = &info.integrated {
            info.unavailable.push(Unavailable::new("integrated", why.clone()));
        }
        info
    }

    fn integrated(&self) -> Reading<bool> {
        use gpuscope_model::Reason::NotSupported;
        let Some(id) = self.pci_id.filter(|id| id.vendor == crate::pci_names::INTEL) else {
            return Reading::absent(NotSupported, "the driver at hand does not tell integrated from discrete GPUs");
        };
        if let Some(family) = crate::pci_names::intel_family(id.device) {
            return Reading::Value(!family.discrete);
        }
        match self.pci_address {
            // Intel's integrated GPU has been function 0 of device 2 on bus 0 since the i830 (its virtual functions follow).
            Some(a) => Reading::Value(a.domain == 0 && a.bus == 0 && a.device == 2),
            None => Reading::absent(NotSupported, "a device number unknown to this version, and no PCI address"),
        }
    }
}

/// Value of a key in a `uevent` file.
pub fn uevent_value<'t>(uevent: &'t str, key: &str) -> Option<&'t str> {
    uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim)
}

/// A number as the PCI core prints `vendor` and `device` (`0x%04x`, drivers/pci/pci-sysfs.c).
fn hex16(text: &str) -> Option<u16> {
    let digits = text.trim().trim_start_matches("0x");
    (digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u16::from_str_radix(digits, 16).ok())
        .flatten()
}

/// PCI numbers from `PCI_ID=8086:56A5` (`pci_uevent`, drivers/pci/pci-driver.c).
pub fn uevent_pci_id(uevent: &str) -> Option<PciId> {
    let (vendor, device) = uevent_value(uevent, "PCI_ID")?.split_once(':')?;
    Some(PciId { vendor: hex16(vendor)?, device: hex16(device)? })
}

/// `226:128` of a `dev` file.
pub fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn runtime_status(device: &Path) -> Reading<RuntimeStatus> {
    let mut held = crate::held::Held::open(device.join("power/runtime_status"));
    held.read(RuntimeStatus::parse).into()
}

fn sriov(device: &Path) -> Sriov {
    if let Some(name) = read_link_name(&device.join("physfn")) {
        return Sriov::Virtual { physical: name.parse().ok() };
    }
    let number = |name: &str| small_text(device.join(name))?.parse::<u16>().ok();
    match (number("sriov_totalvfs"), number("sriov_numvfs")) {
        (Some(total), enabled) if total > 0 => Sriov::Physical { enabled: enabled.unwrap_or(0), total },
        _ => Sriov::None,
    }
}

/// What kind of node a name in the class folder is: `card0` and `renderD128`, not `card0-HDMI-A-1`.
fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Number at the end of a node's name, for sorting.
fn node_number(folder: Option<&Path>) -> u64 {
    let name = folder.and_then(Path::file_name).and_then(|n| n.to_str()).unwrap_or_default();
    name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(u64::MAX)
}

/// A folder of nodes, and how these are called there.
const CLASSES: [(&str, &[(&str, Node)]); 2] =
    [("class/drm", &[("card", Node::Card), ("renderD", Node::Render)]), ("class/accel", &[("accel", Node::Accel)])];

#[derive(Clone, Copy)]
enum Node {
    Card,
    Render,
    Accel,
}

/// The names of everything that [`find`] looks at: while they stay the same, no device has come or gone.
pub(crate) fn names(roots: &Roots) -> Vec<String> {
    let classes = CLASSES.iter().map(|(class, _)| roots.sys(class));
    let folders = classes.chain(drivers::without_nodes().map(|driver| bound_to(roots, driver)));
    folders.flat_map(|folder: PathBuf| list_dir(&folder).unwrap_or_default()).collect()
}

fn bound_to(roots: &Roots, driver: &str) -> PathBuf {
    roots.sys(format!("bus/pci/drivers/{driver}"))
}

/// All devices that have a DRM or accelerator node, or are bound to a driver that makes do without; by PCI address, those without one
/// after them by node number.
pub(crate) fn find(roots: &Roots) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for (class, kinds) in CLASSES {
        let class = roots.sys(class);
        let mut names = list_dir(&class).unwrap_or_default();
        names.sort_by_key(|n| node_number(Some(Path::new(n))));
        for name in names {
            if let Some((_, kind)) = kinds.iter().find(|(prefix, _)| is_numbered(&name, prefix)) {
                add_node(&mut all, class.join(&name), &name, *kind);
            }
        }
    }
    for driver in drivers::without_nodes() {
        let folder = bound_to(roots, driver);
        // Beside its devices stand `bind`, `module`, `new_id`.
        let addresses = list_dir(&folder).unwrap_or_default();
        for name in addresses.iter().filter(|n| n.parse::<PciAddress>().is_ok()) {
            let Ok(device) = std::fs::canonicalize(folder.join(name)) else { continue };
            let found = look_at(device, name);
            if !all.iter().any(|f| f.device == found.device || f.id == found.id) {
                all.push(found);
            }
        }
    }
    all.sort_by(|a, b| {
        let key = |f: &Found| (f.pci_address.is_none(), f.pci_address, node_number(f.minor()));
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    distinct_ids(&mut all);
    all
}

fn add_node(all: &mut Vec<Found>, folder: PathBuf, name: &str, kind: Node) {
    // A device that a driver made up (vkms on older kernels) has no `device`: its card stands for it.
    let device = std::fs::canonicalize(folder.join("device")).unwrap_or_else(|_| folder.clone());
    let number = small_text(folder.join("dev")).as_deref().and_then(device_number);
    let at = all.iter().position(|f| f.device == device);
    let index = at.unwrap_or_else(|| {
        all.push(look_at(device, name));
        all.len() - 1
    });
    if let Some(found) = all.get_mut(index) {
        found.nodes.extend(number);
        let slot = match kind {
            Node::Card => &mut found.card,
            Node::Render => &mut found.render,
            Node::Accel => &mut found.accel,
        };
        slot.get_or_insert(folder);
    }
}

/// Two devices never carry one id on a running machine; in a broken capture the later one is told apart by its node.
fn distinct_ids(all: &mut [Found]) {
    for i in 1..all.len() {
        let (before, rest) = all.split_at_mut(i);
        let Some(found) = rest.first_mut() else { continue };
        if before.iter().any(|f| f.id == found.id) {
            let node = found.minor().and_then(Path::file_name).and_then(|n| n.to_str()).unwrap_or("?");
            found.id = GpuId::new(format!("{}@{node}", found.id));
        }
    }
}

fn look_at(device: PathBuf, node: &str) -> Found {
    let uevent = small_text(device.join("uevent")).unwrap_or_default();
    let own_name = device.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
    let pci_address: Option<PciAddress> = uevent_value(&uevent, "PCI_SLOT_NAME")
        .and_then(|s| s.parse().ok())
        .or_else(|| own_name.contains(':').then(|| own_name.parse().ok()).flatten());
    let file = |name: &str| small_text(device.join(name)).as_deref().and_then(hex16);
    let pci_id = match (file("vendor"), file("device")) {
        (Some(vendor), Some(device)) => Some(PciId { vendor, device }),
        _ => uevent_pci_id(&uevent),
    };
    let driver = read_link_name(&device.join("driver"))
        .or_else(|| uevent_value(&uevent, "DRIVER").filter(|d| !d.is_empty()).map(str::to_string))
        .unwrap_or_else(|| "unknown".to_string());
    let id = match pci_address {
        Some(address) => GpuId::new(address.to_string()),
        // In a capture the folder is called `device` and says nothing; on a running machine it is the platform device's name.
        None if own_name.is_empty() || own_name == "device" => GpuId::new(node.to_string()),
        None => GpuId::new(own_name),
    };
    Found { id, device, card: None, render: None, accel: None, nodes: Vec::new(), driver, pci_address, pci_id }
}

/// The GPUs of the machine, ordered by PCI address. Wakes none of them and opens no perf event.
pub fn list(roots: &Roots) -> Vec<DeviceInfo> {
    list_with(roots, &Options::default())
}

/// As [`list`], with the files of PCI names and the filter of `options`.
pub fn list_with(roots: &Roots, options: &Options) -> Vec<DeviceInfo> {
    let rights = Rights::read(roots);
    let context = Context { roots, rights: &rights, options };
    let wanted = |found: &Found| options.wants(found.id.as_str());
    find(roots).iter().filter(|f| wanted(f)).map(|f| drivers::identify(&context, f)).collect()
}

/// Names of folders or files in `dir` that are `prefix` and a number, by number. Nothing where it cannot be read.
pub(crate) fn numbered(dir: &Path, prefix: &str) -> Result<Vec<(u8, PathBuf)>, Why> {
    let names = list_dir(dir).map_err(|e| why_of(&e))?;
    let mut all: Vec<(u8, PathBuf)> = names
        .iter()
        .filter(|n| is_numbered(n, prefix))
        .filter_map(|n| Some((n.strip_prefix(prefix)?.parse().ok()?, dir.join(n))))
        .collect();
    all.sort();
    Ok(all)
}

/// Text of a name made at run time.
pub(crate) fn shared(name: &str) -> Text {
    Text::from(name.to_string())
}

#[cfg(test)]
mod tests;
