//! Names of GPUs by their PCI numbers: from the hwdata package's `pci.ids` where the caller knows one, else from a table of Intel
//! GPUs since Skylake.

use gpuscope_model::PciId;
use std::path::PathBuf;

/// Intel's PCI vendor number.
pub(crate) const INTEL: u16 = 0x8086;

/// A generation of Intel GPUs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// Intel's code name.
    pub(crate) name: &'static str,
    /// Has memory of its own.
    pub(crate) discrete: bool,
    /// Its video engines are on a GT of their own (`GT_MEDIA` in drivers/gpu/drm/i915/i915_pci.c; xe: media version 13 and later).
    pub(crate) media_gt: bool,
    /// Device numbers, with the name on the box where there is one.
    devices: &'static [(u16, &'static str)],
}

const fn family(name: &'static str, devices: &'static [(u16, &'static str)]) -> Family {
    Family { name, discrete: false, media_gt: false, devices }
}

const fn card(name: &'static str, devices: &'static [(u16, &'static str)]) -> Family {
    Family { name, discrete: true, media_gt: false, devices }
}

/// Device numbers: include/drm/intel/pciids.h. An empty name: several products, or none on the market.
const FAMILIES: &[Family] = &[
    family(
        "Skylake",
        &[
            (0x1902, "HD Graphics 510"),
            (0x1906, "HD Graphics 510"),
            (0x190a, ""),
            (0x190b, "HD Graphics 510"),
            (0x190e, ""),
            (0x1912, "HD Graphics 530"),
            (0x1913, ""),
            (0x1915, ""),
            (0x1916, "HD Graphics 520"),
            (0x1917, ""),
            (0x191a, ""),
            (0x191b, "HD Graphics 530"),
            (0x191d, "HD Graphics P530"),
            (0x191e, "HD Graphics 515"),
            (0x1921, "HD Graphics 520"),
            (0x1923, "HD Graphics 535"),
            (0x1926, "Iris Graphics 540"),
            (0x1927, "Iris Graphics 550"),
            (0x192a, ""),
            (0x192b, "Iris Graphics 555"),
            (0x192d, "Iris Graphics P555"),
            (0x1932, ""),
            (0x193a, ""),
            (0x193b, "Iris Pro Graphics 580"),
            (0x193d, "Iris Pro Graphics P580"),
        ],
    ),
    family("Broxton", &[(0x0a84, ""), (0x1a84, ""), (0x1a85, "")]),
    family("Apollo Lake", &[(0x5a84, "HD Graphics 505"), (0x5a85, "HD Graphics 500")]),
    family("Gemini Lake", &[(0x3184, "UHD Graphics 605"), (0x3185, "UHD Graphics 600")]),
    family(
        "Kaby Lake",
        &[
            (0x5902, "HD Graphics 610"),
            (0x5906, "HD Graphics 610"),
            (0x5908, ""),
            (0x590a, ""),
            (0x590b, ""),
            (0x590e, ""),
            (0x5912, "HD Graphics 630"),
            (0x5913, ""),
            (0x5915, ""),
            (0x5916, "HD Graphics 620"),
            (0x5917, "UHD Graphics 620"),
            (0x591a, "HD Graphics P630"),
            (0x591b, "HD Graphics 630"),
            (0x591c, "UHD Graphics 615"),
            (0x591d, "HD Graphics P630"),
            (0x591e, "HD Graphics 615"),
            (0x5921, "HD Graphics 620"),
            (0x5923, "HD Graphics 635"),
            (0x5926, "Iris Plus Graphics 640"),
            (0x5927, "Iris Plus Graphics 650"),
            (0x593b, ""),
            (0x87c0, "UHD Graphics 617"),
        ],
    ),
    family(
        "Coffee Lake",
        &[
            (0x3e90, "UHD Graphics 610"),
            (0x3e91, "UHD Graphics 630"),
            (0x3e92, "UHD Graphics 630"),
            (0x3e93, "UHD Graphics 610"),
            (0x3e94, "UHD Graphics P630"),
            (0x3e96, "UHD Graphics P630"),
            (0x3e98, "UHD Graphics 630"),
            (0x3e99, "UHD Graphics 610"),
            (0x3e9a, "UHD Graphics P630"),
            (0x3e9b, "UHD Graphics 630"),
            (0x3e9c, "UHD Graphics 610"),
            (0x3ea5, "Iris Plus Graphics 655"),
            (0x3ea6, ""),
            (0x3ea7, ""),
            (0x3ea8, "Iris Plus Graphics 655"),
            (0x3ea9, "UHD Graphics 620"),
            (0x87ca, ""),
        ],
    ),
    family(
        "Whiskey Lake",
        &[(0x3ea0, "UHD Graphics 620"), (0x3ea1, "UHD Graphics 610"), (0x3ea2, ""), (0x3ea3, ""), (0x3ea4, "")],
    ),
    family(
        "Comet Lake",
        &[
            (0x9b21, "UHD Graphics"),
            (0x9b41, "UHD Graphics"),
            (0x9ba2, ""),
            (0x9ba4, "UHD Graphics 610"),
            (0x9ba5, "UHD Graphics 610"),
            (0x9ba8, "UHD Graphics 610"),
            (0x9baa, "UHD Graphics"),
            (0x9bac, "UHD Graphics"),
            (0x9bc2, ""),
            (0x9bc4, "UHD Graphics"),
            (0x9bc5, "UHD Graphics 630"),
            (0x9bc6, "UHD Graphics P630"),
            (0x9bc8, "UHD Graphics 630"),
            (0x9bca, "UHD Graphics"),
            (0x9bcc, "UHD Graphics"),
            (0x9be6, "UHD Graphics P630"),
            (0x9bf6, "UHD Graphics P630"),
        ],
    ),
    family(
        "Ice Lake",
        &[
            (0x8a50, ""),
            (0x8a51, "Iris Plus Graphics G7"),
            (0x8a52, "Iris Plus Graphics G7"),
            (0x8a53, "Iris Plus Graphics G7"),
            (0x8a54, ""),
            (0x8a56, "UHD Graphics G1"),
            (0x8a57, ""),
            (0x8a58, "UHD Graphics G1"),
            (0x8a59, ""),
            (0x8a5a, "Iris Plus Graphics G4"),
            (0x8a5b, ""),
            (0x8a5c, "Iris Plus Graphics G4"),
            (0x8a5d, ""),
            (0x8a70, ""),
            (0x8a71, ""),
        ],
    ),
    family(
        "Elkhart Lake",
        &[
            (0x4541, "UHD Graphics"),
            (0x4551, "UHD Graphics"),
            (0x4555, "UHD Graphics"),
            (0x4557, "UHD Graphics"),
            (0x4570, "UHD Graphics"),
            (0x4571, "UHD Graphics"),
        ],
    ),
    family(
        "Jasper Lake",
        &[
            (0x4e51, "UHD Graphics"),
            (0x4e55, "UHD Graphics"),
            (0x4e57, "UHD Graphics"),
            (0x4e61, "UHD Graphics"),
            (0x4e71, "UHD Graphics"),
        ],
    ),
    family(
        "Tiger Lake",
        &[
            (0x9a40, "Iris Xe Graphics"),
            (0x9a49, "Iris Xe Graphics"),
            (0x9a59, ""),
            (0x9a60, "UHD Graphics"),
            (0x9a68, "UHD Graphics"),
            (0x9a70, "UHD Graphics"),
            (0x9a78, "UHD Graphics"),
            (0x9ac0, ""),
            (0x9ac9, ""),
            (0x9ad9, ""),
            (0x9af8, ""),
        ],
    ),
    family(
        "Rocket Lake",
        &[
            (0x4c80, ""),
            (0x4c8a, "UHD Graphics 750"),
            (0x4c8b, "UHD Graphics 730"),
            (0x4c8c, ""),
            (0x4c90, "UHD Graphics P750"),
            (0x4c9a, "UHD Graphics"),
        ],
    ),
    card(
        "DG1",
        &[
            (0x4905, "Iris Xe MAX"),
            (0x4906, "Iris Xe Pod"),
            (0x4907, "Server GPU SG1"),
            (0x4908, "Iris Xe"),
            (0x4909, ""),
        ],
    ),
    family(
        "Alder Lake-S",
        &[
            (0x4680, "UHD Graphics 770"),
            (0x4682, "UHD Graphics 730"),
            (0x4688, "UHD Graphics"),
            (0x468a, "UHD Graphics"),
            (0x468b, "UHD Graphics"),
            (0x4690, "UHD Graphics 770"),
            (0x4692, "UHD Graphics 730"),
            (0x4693, "UHD Graphics 710"),
        ],
    ),
    family(
        "Alder Lake-P",
        &[
            (0x4626, ""),
            (0x4628, "UHD Graphics"),
            (0x462a, "UHD Graphics"),
            (0x46a0, ""),
            (0x46a1, ""),
            (0x46a2, ""),
            (0x46a3, "UHD Graphics"),
            (0x46a6, "Iris Xe Graphics"),
            (0x46a8, "Iris Xe Graphics"),
            (0x46aa, "Iris Xe Graphics"),
            (0x46b0, ""),
            (0x46b1, ""),
            (0x46b2, ""),
            (0x46b3, "UHD Graphics"),
            (0x46c0, ""),
            (0x46c1, ""),
            (0x46c2, ""),
            (0x46c3, "UHD Graphics"),
        ],
    ),
    family(
        "Alder Lake-N",
        &[
            (0x46d0, "UHD Graphics"),
            (0x46d1, "UHD Graphics"),
            (0x46d2, "UHD Graphics"),
            (0x46d3, "Intel Graphics"),
            (0x46d4, "Intel Graphics"),
        ],
    ),
    family(
        "Raptor Lake-S",
        &[
            (0xa780, "UHD Graphics 770"),
            (0xa781, "UHD Graphics"),
            (0xa782, "UHD Graphics 730"),
            (0xa783, "UHD Graphics"),
            (0xa788, "UHD Graphics"),
            (0xa789, "UHD Graphics"),
            (0xa78a, "UHD Graphics"),
            (0xa78b, "UHD Graphics"),
        ],
    ),
    family(
        "Raptor Lake-P",
        &[
            (0xa720, "UHD Graphics"),
            (0xa721, "UHD Graphics"),
            (0xa7a0, "Iris Xe Graphics"),
            (0xa7a1, "Iris Xe Graphics"),
            (0xa7a8, "UHD Graphics"),
            (0xa7a9, "UHD Graphics"),
            (0xa7aa, "Intel Graphics"),
            (0xa7ab, "Intel Graphics"),
            (0xa7ac, "Intel Graphics"),
            (0xa7ad, "Intel Graphics"),
        ],
    ),
    card(
        "Alchemist",
        &[
            (0x5690, "Arc A770M"),
            (0x5691, "Arc A730M"),
            (0x5692, "Arc A550M"),
            (0x5693, "Arc A370M"),
            (0x5694, "Arc A350M"),
            (0x5695, ""),
            (0x5696, "Arc A570M"),
            (0x5697, "Arc A530M"),
            (0x56a0, "Arc A770"),
            (0x56a1, "Arc A750"),
            (0x56a2, "Arc A580"),
            (0x56a3, ""),
            (0x56a4, ""),
            (0x56a5, "Arc A380"),
            (0x56a6, "Arc A310"),
            (0x56b0, "Arc Pro A30M"),
            (0x56b1, "Arc Pro A40/A50"),
            (0x56b2, "Arc Pro A60M"),
            (0x56b3, "Arc Pro A60"),
            (0x56ba, "Arc A380E"),
            (0x56bb, "Arc A310E"),
            (0x56bc, "Arc A370E"),
            (0x56bd, "Arc A350E"),
            (0x56be, "Arc A750E"),
            (0x56bf, "Arc A580E"),
            (0x56c0, "Data Center GPU Flex 170"),
            (0x56c1, "Data Center GPU Flex 140"),
            (0x56c2, ""),
        ],
    ),
    card(
        "Ponte Vecchio",
        &[
            (0x0b69, ""),
            (0x0b6e, ""),
            (0x0bd4, ""),
            (0x0bd5, "Data Center GPU Max 1550"),
            (0x0bd6, ""),
            (0x0bd7, ""),
            (0x0bd8, ""),
            (0x0bd9, ""),
            (0x0bda, "Data Center GPU Max 1100"),
            (0x0bdb, ""),
            (0x0be0, ""),
            (0x0be1, ""),
            (0x0be5, ""),
        ],
    ),
    Family {
        name: "Meteor Lake",
        discrete: false,
        media_gt: true,
        devices: &[
            (0x7d40, "Intel Graphics"),
            (0x7d45, "Intel Graphics"),
            (0x7d55, "Arc Graphics"),
            (0x7d60, "Intel Graphics"),
            (0x7dd5, "Intel Graphics"),
        ],
    },
    Family {
        name: "Arrow Lake",
        discrete: false,
        media_gt: true,
        devices: &[
            (0x7d41, "Intel Graphics"),
            (0x7d51, "Arc Graphics 130T/140T"),
            (0x7d67, "Intel Graphics"),
            (0x7dd1, "Intel Graphics"),
            (0xb640, "Intel Graphics"),
        ],
    },
    Family {
        name: "Lunar Lake",
        discrete: false,
        media_gt: true,
        devices: &[(0x6420, "Intel Graphics"), (0x64a0, "Arc Graphics 130V/140V"), (0x64b0, "Intel Graphics")],
    },
    Family {
        name: "Battlemage",
        discrete: true,
        media_gt: true,
        devices: &[
            (0xe202, ""),
            (0xe209, ""),
            (0xe20b, "Arc B580"),
            (0xe20c, "Arc B570"),
            (0xe20d, ""),
            (0xe210, ""),
            (0xe211, "Arc Pro B60"),
            (0xe212, "Arc Pro B50"),
            (0xe216, ""),
            (0xe220, ""),
            (0xe221, ""),
            (0xe222, ""),
            (0xe223, ""),
        ],
    },
    Family {
        name: "Panther Lake",
        discrete: false,
        media_gt: true,
        devices: &[
            (0xb080, ""),
            (0xb081, ""),
            (0xb082, ""),
            (0xb083, ""),
            (0xb084, ""),
            (0xb085, ""),
            (0xb086, ""),
            (0xb087, ""),
            (0xb08f, ""),
            (0xb090, ""),
            (0xb0a0, ""),
            (0xb0b0, ""),
        ],
    },
    Family { name: "Wildcat Lake", discrete: false, media_gt: true, devices: &[(0xfd80, ""), (0xfd81, "")] },
];

/// The family of an Intel device number and the name on its box.
fn intel_device(device: u16) -> Option<(&'static Family, &'static str)> {
    FAMILIES.iter().find_map(|family| {
        let (_, name) = family.devices.iter().find(|(id, _)| *id == device)?;
        Some((family, *name))
    })
}

/// The family of an Intel device number.
pub(crate) fn intel_family(device: u16) -> Option<&'static Family> {
    intel_device(device).map(|(family, _)| family)
}

/// A device's name in words; `noun` says what it is where nothing else does.
pub(crate) fn name(id: Option<PciId>, noun: &str, driver: &str, files: &[PathBuf]) -> String {
    let Some(id) = id else { return format!("{driver} device") };
    for file in files {
        let bytes = std::fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if let Some((vendor, device)) = find_in_pci_ids(&text, id.vendor, id.device) {
            return in_words(id.vendor, vendor, device);
        }
    }
    if id.vendor == INTEL {
        return match intel_device(id.device) {
            Some((family, "")) => format!("Intel {} GPU {id}", family.name),
            Some((family, "Intel Graphics")) => format!("Intel Graphics ({})", family.name),
            Some((family, name)) => format!("Intel {name} ({})", family.name),
            None => format!("Intel {noun} {id}"),
        };
    }
    match short_vendor(id.vendor) {
        Some(vendor) => format!("{vendor} {noun} {id}"),
        None => format!("{noun} {id}"),
    }
}

fn short_vendor(vendor: u16) -> Option<&'static str> {
    match vendor {
        INTEL => Some("Intel"),
        0x1002 | 0x1022 => Some("AMD"),
        0x10de => Some("NVIDIA"),
        _ => None,
    }
}

/// `pci.ids` gives the chip and in brackets the product: `DG2 [Arc A380]`.
fn in_words(id: u16, vendor: &str, device: &str) -> String {
    let vendor = short_vendor(id).unwrap_or(vendor);
    let product = device.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']')).map(|(product, _)| product.trim());
    let product = product.filter(|p| !p.is_empty()).unwrap_or(device);
    if product.starts_with(vendor) { product.to_string() } else { format!("{vendor} {product}") }
}

/// Vendor and device names in the text of a `pci.ids` file: vendors at the start of a line, devices after one tab, subsystems after
/// two, device classes (which look like vendors) after a `C`.
pub fn find_in_pci_ids(text: &str, vendor: u16, device: u16) -> Option<(&str, &str)> {
    let entry = |line: &'_ str, number: u16| -> Option<usize> {
        let (digits, rest) = line.split_at_checked(4)?;
        let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let same = plain && u16::from_str_radix(digits, 16) == Ok(number);
        (same && rest.starts_with("  ")).then_some(6)
    };
    let mut lines = text.lines();
    let vendor_name = lines.by_ref().find_map(|line| line.get(entry(line, vendor)?..))?.trim();
    for line in lines {
        if line.is_empty() || line.starts_with('#') || line.starts_with("\t\t") {
            continue;
        }
        let device_line = line.strip_prefix('\t')?;
        if let Some(at) = entry(device_line, device) {
            return Some((vendor_name, device_line.get(at..)?.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form of the file is described in its own head (`pci.ids`, "Syntax").
    const PCI_IDS: &str = "# comment\n1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t163f  VanGogh [AMD Custom GPU 0405]\n\
        \t\t1002 0123  AMD Custom GPU 0405\n\t73bf  Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]\n8086  Intel Corporation\n\
        \t56a5  DG2 [Arc A380]\n\t0007  82379AB\nC 00  Unclassified device\n";

    fn id(vendor: u16, device: u16) -> Option<PciId> {
        Some(PciId { vendor, device })
    }

    #[test]
    fn the_table_names_what_is_on_the_box() {
        assert_eq!(name(id(0x8086, 0x56a5), "GPU", "i915", &[]), "Intel Arc A380 (Alchemist)");
        assert_eq!(name(id(0x8086, 0x9a49), "GPU", "xe", &[]), "Intel Iris Xe Graphics (Tiger Lake)");
        assert_eq!(name(id(0x8086, 0x7dd5), "GPU", "xe", &[]), "Intel Graphics (Meteor Lake)");
        assert_eq!(name(id(0x8086, 0xb080), "GPU", "xe", &[]), "Intel Panther Lake GPU 8086:b080");
    }

    #[test]
    fn unknown_devices_get_their_numbers() {
        assert_eq!(name(id(0x8086, 0xffff), "GPU", "xe", &[]), "Intel GPU 8086:ffff");
        assert_eq!(name(id(0x1002, 0x73bf), "GPU", "amdgpu", &[]), "AMD GPU 1002:73bf");
        assert_eq!(name(id(0x1af4, 0x1050), "GPU", "virtio_gpu", &[]), "GPU 1af4:1050");
        assert_eq!(name(None, "GPU", "vc4", &[]), "vc4 device");
    }

    #[test]
    fn pci_ids_file_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pci.ids");
        std::fs::write(&file, PCI_IDS).unwrap();
        let files = [dir.path().join("missing"), file];
        assert_eq!(name(id(0x8086, 0x56a5), "GPU", "i915", &files), "Intel Arc A380");
        assert_eq!(name(id(0x1002, 0x73bf), "GPU", "amdgpu", &files), "AMD Radeon RX 6800/6800 XT / 6900 XT");
        assert_eq!(name(id(0x1002, 0x163f), "GPU", "amdgpu", &files), "AMD Custom GPU 0405");
        assert_eq!(name(id(0x8086, 0x9a49), "GPU", "xe", &files), "Intel Iris Xe Graphics (Tiger Lake)");
    }

    #[test]
    fn devices_of_another_vendor_and_subsystems_do_not_match() {
        assert_eq!(find_in_pci_ids(PCI_IDS, 0x1002, 0x56a5), None);
        assert_eq!(find_in_pci_ids(PCI_IDS, 0x1002, 0x1002), None);
        assert_eq!(find_in_pci_ids(PCI_IDS, 0x10de, 0x0000), None);
        assert_eq!(find_in_pci_ids("8086\n8086  \u{e9}\n\t\u{e9}\u{e9}\u{e9}  x\n", 0x8086, 1), None);
    }

    #[test]
    fn no_device_number_stands_twice() {
        let mut all: Vec<u16> = FAMILIES.iter().flat_map(|f| f.devices.iter().map(|(id, _)| *id)).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(count > 100);
    }

    #[test]
    fn families_tell_discrete_and_media_gt() {
        assert!(intel_family(0x56a5).unwrap().discrete && !intel_family(0x56a5).unwrap().media_gt);
        assert!(intel_family(0xe20b).unwrap().discrete && intel_family(0xe20b).unwrap().media_gt);
        assert!(!intel_family(0x7d55).unwrap().discrete && intel_family(0x7d55).unwrap().media_gt);
    }
}
