//! What a GPU is: identity, engines, GTs.

use crate::{Reading, Text, Unavailable};
use std::fmt;
use std::str::FromStr;

/// Name of a GPU in everything gpuscope prints: its PCI address, or for a device without PCI the name of its platform device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuId(Text);

impl GpuId {
    /// An id from the device's bus name, for instance `0000:03:00.0`.
    pub fn new(name: impl Into<Text>) -> Self {
        GpuId(name.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A PCI address: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// PCI domain (segment); may need more than 16 bits under VMD.
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device (slot) number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = ();

    /// Parses `0000:03:00.0`, and `03:00.0` with domain 0.
    fn from_str(s: &str) -> Result<Self, ()> {
        let hex = |s: &str, digits: std::ops::RangeInclusive<usize>| -> Result<u32, ()> {
            if !digits.contains(&s.len()) || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(());
            }
            u32::from_str_radix(s, 16).map_err(|_| ())
        };
        let (rest, function) = s.rsplit_once('.').ok_or(())?;
        let (rest, device) = rest.rsplit_once(':').ok_or(())?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
        let device = hex(device, 1..=2)?;
        let function = hex(function, 1..=1)?;
        if device > 31 || function > 7 {
            return Err(());
        }
        Ok(PciAddress {
            domain: hex(domain, 1..=8)?,
            bus: hex(bus, 1..=2)? as u8,
            device: device as u8,
            function: function as u8,
        })
    }
}

/// PCI vendor and device numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PciId {
    /// Vendor number, 0x8086 for Intel.
    pub vendor: u16,
    /// Device number.
    pub device: u16,
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// Who made the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// PCI vendor 0x8086.
    Intel,
    /// PCI vendor 0x1002 (or 0x1022).
    Amd,
    /// PCI vendor 0x10de.
    Nvidia,
    /// Anybody else, or unknown.
    Other,
}

impl Vendor {
    /// The vendor of a PCI vendor number.
    pub fn from_pci(vendor: u16) -> Self {
        match vendor {
            0x8086 => Vendor::Intel,
            0x1002 | 0x1022 => Vendor::Amd,
            0x10de => Vendor::Nvidia,
            _ => Vendor::Other,
        }
    }

    /// The word that JSON carries.
    pub fn as_str(self) -> &'static str {
        match self {
            Vendor::Intel => "intel",
            Vendor::Amd => "amd",
            Vendor::Nvidia => "nvidia",
            Vendor::Other => "other",
        }
    }
}

/// The kind of work that an engine does.
///
/// On Intel GPUs `Video` (VCS, the "vdbox") decodes **and** encodes; `VideoEnhance` (VECS, the "vebox") scales, denoises and
/// converts. Quick Sync load is seen on `Video`. Source: `enum drm_i915_gem_engine_class` in include/uapi/drm/i915_drm.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineClass {
    /// 3D and, before dedicated compute engines, compute (RCS).
    Render,
    /// Blitter (BCS).
    Copy,
    /// Fixed-function video decode and encode (VCS).
    Video,
    /// Video post-processing (VECS).
    VideoEnhance,
    /// Compute only (CCS).
    Compute,
    /// A class this version of gpuscope has no word for.
    Other,
}

impl EngineClass {
    /// The word that JSON carries.
    pub fn as_str(self) -> &'static str {
        match self {
            EngineClass::Render => "render",
            EngineClass::Copy => "copy",
            EngineClass::Video => "video",
            EngineClass::VideoEnhance => "video_enhance",
            EngineClass::Compute => "compute",
            EngineClass::Other => "other",
        }
    }
}

/// What a GT does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GtKind {
    /// Render, copy and compute engines; on single-GT parts everything.
    Main,
    /// The media GT of Meteor Lake and later.
    Media,
    /// Not told by the driver.
    Unknown,
}

impl GtKind {
    /// The word that JSON carries.
    pub fn as_str(self) -> &'static str {
        match self {
            GtKind::Main => "main",
            GtKind::Media => "media",
            GtKind::Unknown => "unknown",
        }
    }
}

/// One GT: a group of engines with its own clock and idle state.
#[derive(Clone, Debug, PartialEq)]
pub struct GtInfo {
    /// GT number as the driver counts it.
    pub gt: u8,
    /// Tile the GT is on; 0 where the driver has no tiles.
    pub tile: u8,
    /// What it does.
    pub kind: GtKind,
}

/// One engine, or where only classes are known, one engine class.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineInfo {
    /// The driver's short name: `vcs0`, or `vcs` where instances are not known.
    pub name: Text,
    /// Class of work.
    pub class: EngineClass,
    /// Instance within its class.
    pub instance: Reading<u16>,
    /// GT that holds the engine.
    pub gt: Reading<u8>,
}

/// Role under SR-IOV.
#[derive(Clone, Debug, PartialEq)]
pub enum Sriov {
    /// Neither physical nor virtual function of SR-IOV.
    None,
    /// Physical function, with the number of virtual functions enabled and possible.
    Physical {
        /// `sriov_numvfs`.
        enabled: u16,
        /// `sriov_totalvfs`.
        total: u16,
    },
    /// Virtual function, with the address of its physical function where it is visible.
    Virtual {
        /// Target of the `physfn` link.
        physical: Option<PciAddress>,
    },
}

impl Sriov {
    /// Whether this is a virtual function.
    pub fn is_virtual(&self) -> bool {
        matches!(self, Sriov::Virtual { .. })
    }
}

/// Runtime power state. Source: `power/runtime_status` (Documentation/ABI/testing/sysfs-devices-power). Reading it wakes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeStatus {
    /// In use or able to be used at once.
    Active,
    /// Powered down; waking readings are withheld.
    Suspended,
    /// On its way up.
    Resuming,
    /// On its way down.
    Suspending,
    /// Runtime power management is off for this device: it never sleeps on its own.
    Unsupported,
}

impl RuntimeStatus {
    /// The word that the kernel prints.
    pub fn as_str(self) -> &'static str {
        match self {
            RuntimeStatus::Active => "active",
            RuntimeStatus::Suspended => "suspended",
            RuntimeStatus::Resuming => "resuming",
            RuntimeStatus::Suspending => "suspending",
            RuntimeStatus::Unsupported => "unsupported",
        }
    }

    /// Parses the kernel's word; `None` for a word it does not print today.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.trim_end() {
            "active" => RuntimeStatus::Active,
            "suspended" => RuntimeStatus::Suspended,
            "resuming" => RuntimeStatus::Resuming,
            "suspending" => RuntimeStatus::Suspending,
            "unsupported" | "error" => RuntimeStatus::Unsupported,
            _ => return None,
        })
    }
}

/// What a GPU is. Does not change while the device is bound to its driver.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Name in all output.
    pub id: GpuId,
    /// Maker.
    pub vendor: Vendor,
    /// Kernel driver: `i915`, `xe`, `amdgpu`, …
    pub driver: String,
    /// Marketing name, or where it is not known the PCI id in words.
    pub name: String,
    /// PCI address; absent for platform devices.
    pub pci_address: Option<PciAddress>,
    /// PCI vendor and device; absent for platform devices.
    pub pci_id: Option<PciId>,
    /// Primary node: `/dev/dri/card0`.
    pub card: Option<String>,
    /// Render node: `/dev/dri/renderD128`.
    pub render: Option<String>,
    /// Node of a compute accelerator (an NPU): `/dev/accel/accel0`.
    pub accel: Option<String>,
    /// perf PMU of the device: `i915`, `xe_0000_03_00.0`.
    pub pmu: Option<String>,
    /// Whether the GPU shares the processor's package and memory.
    pub integrated: Reading<bool>,
    /// Role under SR-IOV.
    pub sriov: Sriov,
    /// Runtime power state at discovery.
    pub runtime_status: Reading<RuntimeStatus>,
    /// GTs in the driver's order.
    pub gts: Vec<GtInfo>,
    /// Engines, or classes, in the driver's order.
    pub engines: Vec<EngineInfo>,
    /// Where its clients are known from, as its driver is known: `fdinfo`, `nvml`, `kfd`. Whether they show here, only looking at
    /// processes or loading NVML would tell. Empty with the reason in `unavailable` where from nothing.
    pub clients_from: Vec<Text>,
    /// What could not be found out.
    pub unavailable: Vec<Unavailable>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_address_as_the_kernel_prints_it() {
        // `pci_name`: "%04x:%02x:%02x.%d" (drivers/pci/probe.c, pci_setup_device).
        let a: PciAddress = "0000:03:00.0".parse().unwrap();
        assert_eq!(a, PciAddress { domain: 0, bus: 3, device: 0, function: 0 });
        assert_eq!(a.to_string(), "0000:03:00.0");
        assert_eq!("00:02.0".parse::<PciAddress>().unwrap().to_string(), "0000:00:02.0");
        // Domains behind Intel VMD have five digits.
        assert_eq!("10000:e1:00.0".parse::<PciAddress>().unwrap().to_string(), "10000:e1:00.0");
    }

    #[test]
    fn synthetic_pci_addresses_are_refused() {
        for text in
            ["", ".", ":.", "0000:00:02", "00:20.0", "00:02.8", "xx:02.0", "0000:00:02.0 ", "+0:02.0", "0:0:0:0.0"]
        {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn runtime_status_words() {
        // `rtpm_status_str`, drivers/base/power/sysfs.c.
        for word in ["active", "suspended", "resuming", "suspending", "unsupported"] {
            assert_eq!(RuntimeStatus::parse(&format!("{word}\n")).unwrap().as_str(), word);
        }
        assert_eq!(RuntimeStatus::parse("sleepy\n"), None);
    }
}
