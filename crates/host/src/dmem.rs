//! Device memory by cgroup, as the controller `dmem` counts it (Linux 6.14, `CONFIG_CGROUP_DMEM`).

use crate::text::{read_lossy, why};
use gpuscope_model::{Reading, Reason, SourceReport, Text, Why};
use gpuscope_sys::{Error, Roots};
use std::path::PathBuf;

/// Bytes of one region: used by a cgroup and those below it, or the region's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmemRegion {
    /// `drm/BUS-NAME/REGION`: `drm/0000:03:00.0/vram0` (xe), `…/vram` (amdgpu). Other drivers may register other names.
    pub name: Text,
    /// Bytes.
    pub bytes: u64,
}

impl DmemRegion {
    /// The device's bus name and the driver's word for the region, for a region of DRM (`drmm_cgroup_register_region`,
    /// drivers/gpu/drm/drm_drv.c).
    pub fn device(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("drm/")?.split_once('/')
    }
}

/// Parses `dmem.current` and `dmem.capacity` (`dmemcg_limit_show` and `dmem_cgroup_region_capacity_show`, kernel/cgroup/dmem.c): a
/// line `NAME BYTES` a region. `None` when a line is of another shape; no region is an empty list.
pub fn parse_dmem(text: &str) -> Option<Vec<DmemRegion>> {
    let region = |line: &str| {
        let (name, bytes) = line.rsplit_once(' ')?;
        let digits = !name.is_empty() && bytes.bytes().all(|b| b.is_ascii_digit());
        let bytes = digits.then(|| bytes.parse().ok()).flatten()?;
        Some(DmemRegion { name: Text::from(name.to_string()), bytes })
    };
    text.lines().map(region).collect()
}

/// Device memory that a cgroup of the unified hierarchy and those below it use. Everybody may read it; no device wakes.
///
/// A buffer is charged to the cgroup of the task that puts it into device memory (`ttm_resource_alloc`,
/// drivers/gpu/drm/ttm/ttm_resource.c), and stays there when it is shared or the task moves; evicted buffers are not counted.
///
/// A cgroup without the controller has no figure: its memory counts in the nearest one above that has it.
///
/// Source: `dmem.current` below `/sys/fs/cgroup`.
pub fn dmem_current(roots: &Roots, cgroup: &str) -> Reading<Vec<DmemRegion>> {
    let root = hierarchy(roots);
    if !cgroup.starts_with('/') || cgroup.split('/').any(|part| part == "..") {
        return Reading::absent(Reason::NotSupported, format!("cgroup {cgroup} is outside of this cgroup namespace"));
    }
    read(roots, root.join(cgroup.trim_start_matches('/')).join("dmem.current"))
}

/// Sizes of all regions. Source: `dmem.capacity` at the top of the unified hierarchy, which a cgroup namespace hides.
pub fn dmem_capacity(roots: &Roots) -> Reading<Vec<DmemRegion>> {
    read(roots, hierarchy(roots).join("dmem.capacity"))
}

/// Whether the kernel counts device memory by cgroup, for `gpuscope doctor`.
pub fn dmem_report(roots: &Roots) -> SourceReport {
    const SOURCE: &str = "cgroup dmem";
    match dmem_capacity(roots) {
        Reading::Value(regions) if regions.is_empty() => {
            let why = Why::new(Reason::NoHardware, "no driver has registered a region of device memory");
            SourceReport::absent(SOURCE, None, why)
        }
        Reading::Value(regions) => {
            let names: Vec<&str> = regions.iter().map(|r| r.name.as_str()).collect();
            SourceReport::works(SOURCE, None, format!("device memory of cgroups: {}", names.join(", ")))
        }
        Reading::Absent(why) => SourceReport::absent(SOURCE, None, why),
    }
}

/// Where the unified hierarchy is: systemd puts it one deeper while version 1 is in use too (file-hierarchy(7)).
fn hierarchy(roots: &Roots) -> PathBuf {
    let hybrid = roots.sys("fs/cgroup/unified");
    if hybrid.join("cgroup.controllers").exists() { hybrid } else { roots.sys("fs/cgroup") }
}

fn read(roots: &Roots, path: PathBuf) -> Reading<Vec<DmemRegion>> {
    match read_lossy(&path) {
        Ok(text) => match parse_dmem(&text) {
            Some(regions) => Reading::Value(regions),
            None => Reading::absent(Reason::Failed, format!("{}: unexpected text", path.display())),
        },
        Err(Error::NotFound { .. }) => missing(roots, path).into(),
        Err(error) => why(&error, Reason::NotSupported).into(),
    }
}

/// Why there is no such file: no unified hierarchy, no controller, not enabled for this cgroup, or no such cgroup.
fn missing(roots: &Roots, path: PathBuf) -> Why {
    let Ok(controllers) = read_lossy(hierarchy(roots).join("cgroup.controllers")) else {
        return Why::new(Reason::NotSupported, "this machine mounts no unified cgroup hierarchy");
    };
    if !controllers.split_ascii_whitespace().any(|name| name == "dmem") {
        return Why::new(Reason::NotSupported, "the kernel has no cgroup controller dmem here")
            .remedy("use Linux 6.14 or later with CONFIG_CGROUP_DMEM, without cgroup_disable=dmem");
    }
    match path.parent() {
        Some(folder) if !folder.exists() => Why::new(Reason::Gone, format!("{}: not there", folder.display())),
        _ => Why::new(
            Reason::NotCounting,
            format!("{}: the controller dmem is not enabled for this cgroup", path.display()),
        )
        .remedy("write +dmem to cgroup.subtree_control of every cgroup above it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Composed from `dmemcg_limit_show` (kernel/cgroup/dmem.c) and the names that xe_ttm_vram_mgr.c and amdgpu_vram_mgr.c register.
    const CURRENT: &str = "drm/0000:03:00.0/vram0 12288\ndrm/0000:0a:00.0/vram 0\n";

    #[test]
    fn regions_of_two_devices() {
        let regions = parse_dmem(CURRENT).unwrap();
        assert_eq!(regions.len(), 2);
        assert_eq!((regions[0].device(), regions[0].bytes), (Some(("0000:03:00.0", "vram0")), 12288));
        assert_eq!((regions[1].device(), regions[1].bytes), (Some(("0000:0a:00.0", "vram")), 0));
        assert_eq!(parse_dmem(""), Some(Vec::new()));
    }

    #[test]
    fn regions_of_others_have_no_drm_device() {
        let regions = parse_dmem("dmem_selftest 18446744073709551615\n").unwrap();
        assert_eq!((regions[0].device(), regions[0].bytes), (None, u64::MAX));
    }

    #[test]
    fn synthetic_lines_are_refused() {
        for text in [
            "drm/x/vram0\n",
            "drm/x/vram0 max\n",
            " 5\n",
            "a -1\n",
            "a +1\n",
            "a 18446744073709551616\n",
            "a 1\n\nb 2\n",
        ] {
            assert_eq!(parse_dmem(text), None, "{text:?}");
        }
    }

    #[test]
    fn each_way_to_have_no_figure_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::at(dir.path());
        let top = dir.path().join("sys/fs/cgroup");
        let why = |cgroup: &str| dmem_current(&roots, cgroup).why().cloned().unwrap();
        assert_eq!(why("/a.scope").reason, Reason::NotSupported);
        std::fs::create_dir_all(top.join("a.scope")).unwrap();
        std::fs::write(top.join("cgroup.controllers"), "cpuset cpu io memory\n").unwrap();
        assert!(why("/a.scope").remedy.unwrap().contains("CONFIG_CGROUP_DMEM"));
        std::fs::write(top.join("cgroup.controllers"), "cpuset cpu io memory dmem\n").unwrap();
        assert_eq!(why("/a.scope").reason, Reason::NotCounting);
        assert_eq!(why("/b.scope").reason, Reason::Gone);
        assert!(why("/../b.scope").detail.contains("namespace"));
        std::fs::write(top.join("a.scope/dmem.current"), CURRENT).unwrap();
        assert_eq!(dmem_current(&roots, "/a.scope").value().unwrap().len(), 2);
        std::fs::write(top.join("dmem.capacity"), "drm/0000:03:00.0/vram0 17163091968\n").unwrap();
        assert_eq!(dmem_capacity(&roots).value().unwrap()[0].bytes, 17163091968);
        let report = dmem_report(&roots);
        assert_eq!(report.status.as_str(), "works");
        assert!(report.detail.contains("drm/0000:03:00.0/vram0"));
        std::fs::write(top.join("dmem.capacity"), "").unwrap();
        assert_eq!(dmem_report(&roots).status.as_str(), "no_hardware");
    }

    #[test]
    fn unified_hierarchy_beside_version_1() {
        let dir = tempfile::tempdir().unwrap();
        let unified = dir.path().join("sys/fs/cgroup/unified");
        std::fs::create_dir_all(unified.join("a.scope")).unwrap();
        std::fs::write(unified.join("cgroup.controllers"), "dmem\n").unwrap();
        std::fs::write(unified.join("a.scope/dmem.current"), "").unwrap();
        assert_eq!(dmem_current(&Roots::at(dir.path()), "/a.scope"), Reading::Value(Vec::new()));
    }
}
