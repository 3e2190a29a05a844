//! Device memory by cgroup, as the controller `dmem` counts it (Linux 6.14, `CONFIG_CGROUP_DMEM`).

use crate::source::Source;
use crate::text::{read_lossy, why};
use gpuscope_model::{CgroupMemory, CgroupSample, GpuId, Reading, Reason, SourceReport, Text, Why};
use gpuscope_sys::{Error, Roots, monotonic_ns};
use std::path::PathBuf;

/// What is not there is looked for again after this time.
const AGAIN_NS: u64 = 5_000_000_000;

/// So many cgroups have their file held open; those of more are opened at each tick. Descriptors are limited to 1,024 by default.
const HELD: usize = 64;

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
    let mut regions = Vec::new();
    parse_into(text, &mut regions)?;
    Some(regions)
}

/// The same over the regions of last time: their names hardly change.
fn parse_into(text: &str, regions: &mut Vec<DmemRegion>) -> Option<()> {
    let mut count = 0;
    for line in text.lines() {
        let (name, bytes) = line.rsplit_once(' ')?;
        let digits = !name.is_empty() && bytes.bytes().all(|b| b.is_ascii_digit());
        let bytes = digits.then(|| bytes.parse().ok()).flatten()?;
        match regions.get_mut(count) {
            Some(region) if region.name.as_str() == name => region.bytes = bytes,
            slot => {
                let region = DmemRegion { name: Text::from(name.to_string()), bytes };
                match slot {
                    Some(slot) => *slot = region,
                    None => regions.push(region),
                }
            }
        }
        count += 1;
    }
    regions.truncate(count);
    Some(())
}

/// Device memory of cgroups, from tick to tick. Everybody may read it; no device wakes.
///
/// A buffer is charged to the cgroup of the task that puts it into device memory (`ttm_resource_alloc`,
/// drivers/gpu/drm/ttm/ttm_resource.c), and stays there when it is shared or the task moves; evicted buffers are not counted.
///
/// A cgroup without the controller has no figure: its memory counts in the nearest one above that has it.
///
/// A tick costs a read of a held file for each cgroup, and one for the sizes; nothing is allocated. What is not there, the controller
/// first of all, is looked for again every five seconds.
///
/// Sources: `dmem.current` of the cgroups in the unified hierarchy; `dmem.capacity` at its top, which a cgroup namespace hides.
#[derive(Debug)]
pub struct Dmem {
    hierarchy: Hierarchy,
    /// When the hierarchy is to be looked at again.
    due_ns: u64,
    capacity: File,
    /// By path.
    known: Vec<Known>,
    buf: Vec<u8>,
}

#[derive(Debug)]
struct Known {
    cgroup: Text,
    current: File,
}

/// The unified hierarchy.
#[derive(Debug)]
struct Hierarchy {
    roots: Roots,
    top: PathBuf,
    /// Why no cgroup has figures.
    none: Option<Why>,
}

/// One of the controller's files.
#[derive(Debug)]
struct File {
    source: Result<Source, Why>,
    /// Whether it is held open.
    hold: bool,
    /// When it is to be looked for again, where it was not there.
    due_ns: u64,
    /// What it said last.
    regions: Vec<DmemRegion>,
}

impl Dmem {
    /// Reads nothing yet.
    pub fn new(roots: Roots) -> Self {
        let hierarchy = Hierarchy { roots, top: PathBuf::new(), none: None };
        Dmem { hierarchy, due_ns: 0, capacity: File::new(true), known: Vec::new(), buf: Vec::new() }
    }

    /// Fills `out` with the device memory of these cgroups, which are sorted by path. A cgroup that is not asked for is forgotten.
    pub fn sample(&mut self, cgroups: &[Text], out: &mut Vec<CgroupSample>) {
        self.sample_at(monotonic_ns(), cgroups, out);
    }

    fn sample_at(&mut self, now: u64, cgroups: &[Text], out: &mut Vec<CgroupSample>) {
        lay_out(cgroups, out);
        self.look(now);
        if let Some(why) = &self.hierarchy.none {
            self.known.clear();
            out.iter_mut().for_each(|sample| sample.device_memory = why.clone().into());
            return;
        }
        let Dmem { hierarchy, capacity, known, buf, .. } = self;
        known.retain(|k| cgroups.binary_search(&k.cgroup).is_ok());
        let capacity = if cgroups.is_empty() { Ok(&[][..]) } else { capacity.read(now, || hierarchy.capacity(), buf) };
        for sample in out {
            let at = known.binary_search_by(|k| k.cgroup.cmp(&sample.cgroup)).unwrap_or_else(|at| {
                let hold = known.len() < HELD;
                known.insert(at, Known { cgroup: sample.cgroup.clone(), current: File::new(hold) });
                at
            });
            let Some(file) = known.get_mut(at) else { continue };
            match file.current.read(now, || hierarchy.current(&sample.cgroup), buf) {
                Ok(regions) => fill(regions, &capacity, &mut sample.device_memory),
                Err(why) => sample.device_memory = why.into(),
            }
        }
    }

    /// Whether the kernel counts device memory by cgroup, for `gpuscope doctor`.
    pub fn report(mut self) -> SourceReport {
        const SOURCE: &str = "cgroup dmem";
        let now = monotonic_ns();
        self.look(now);
        let Dmem { hierarchy, mut capacity, mut buf, .. } = self;
        let regions = match &hierarchy.none {
            Some(why) => Err(why.clone()),
            None => capacity.read(now, || hierarchy.capacity(), &mut buf),
        };
        match regions {
            Ok([]) => {
                let why = Why::new(Reason::NoHardware, "no driver has registered a region of device memory");
                SourceReport::absent(SOURCE, None, why)
            }
            Ok(regions) => {
                let names: Vec<&str> = regions.iter().map(|r| r.name.as_str()).collect();
                SourceReport::works(SOURCE, None, format!("device memory of cgroups: {}", names.join(", ")))
            }
            Err(why) => SourceReport::absent(SOURCE, None, why),
        }
    }

    /// Looks for the hierarchy and the controller, until both are there.
    fn look(&mut self, now: u64) {
        if self.due_ns <= now {
            self.hierarchy.look();
            self.due_ns = if self.hierarchy.none.is_some() { now.saturating_add(AGAIN_NS) } else { u64::MAX };
        }
    }
}

/// An entry a cgroup, keeping those that are there.
fn lay_out(cgroups: &[Text], out: &mut Vec<CgroupSample>) {
    out.truncate(cgroups.len());
    for (i, cgroup) in cgroups.iter().enumerate() {
        let blank = || CgroupSample { cgroup: cgroup.clone(), device_memory: Reading::Value(Vec::new()) };
        match out.get_mut(i) {
            Some(sample) if sample.cgroup == *cgroup => {}
            Some(sample) => *sample = blank(),
            None => out.push(blank()),
        }
    }
}

/// The regions that are a DRM device's, over those of last time.
fn fill(regions: &[DmemRegion], capacity: &Result<&[DmemRegion], Why>, out: &mut Reading<Vec<CgroupMemory>>) {
    if !out.is_known() {
        *out = Reading::Value(Vec::new());
    }
    let Reading::Value(out) = out else { return };
    let mut count = 0;
    for region in regions {
        let Some((gpu, name)) = region.device() else { continue };
        let capacity_bytes = match capacity {
            Ok(all) => match all.iter().find(|other| other.name == region.name) {
                Some(same) => Reading::Value(same.bytes),
                None => Reading::absent(Reason::Gone, "dmem.capacity has no such region"),
            },
            Err(why) => why.clone().into(),
        };
        match out.get_mut(count) {
            Some(memory) if memory.gpu.as_str() == gpu && memory.region.as_str() == name => {
                memory.used_bytes = region.bytes;
                memory.capacity_bytes = capacity_bytes;
            }
            slot => {
                let (gpu, region_name) = (GpuId::new(gpu.to_string()), Text::from(name.to_string()));
                let memory = CgroupMemory { gpu, region: region_name, used_bytes: region.bytes, capacity_bytes };
                match slot {
                    Some(slot) => *slot = memory,
                    None => out.push(memory),
                }
            }
        }
        count += 1;
    }
    out.truncate(count);
}

impl Hierarchy {
    /// Where it is: systemd puts it one deeper while version 1 is in use too (file-hierarchy(7)).
    fn look(&mut self) {
        let hybrid = self.roots.sys("fs/cgroup/unified");
        let deeper = hybrid.join("cgroup.controllers").exists();
        self.top = if deeper { hybrid } else { self.roots.sys("fs/cgroup") };
        self.none = match read_lossy(self.top.join("cgroup.controllers")) {
            Ok(controllers) if controllers.split_ascii_whitespace().any(|name| name == "dmem") => None,
            Ok(_) => {
                let why = Why::new(Reason::NotSupported, "the kernel has no cgroup controller dmem here");
                Some(why.remedy("use Linux 6.14 or later with CONFIG_CGROUP_DMEM, without cgroup_disable=dmem"))
            }
            Err(_) => Some(Why::new(Reason::NotSupported, "this machine mounts no unified cgroup hierarchy")),
        };
    }

    fn capacity(&self) -> Result<PathBuf, Why> {
        Ok(self.top.join("dmem.capacity"))
    }

    fn current(&self, cgroup: &str) -> Result<PathBuf, Why> {
        if !cgroup.starts_with('/') || cgroup.split('/').any(|part| part == "..") {
            let detail = format!("cgroup {cgroup} is outside of this cgroup namespace");
            return Err(Why::new(Reason::NotSupported, detail));
        }
        Ok(self.top.join(cgroup.trim_start_matches('/')).join("dmem.current"))
    }
}

impl File {
    fn new(hold: bool) -> Self {
        let source = Err(Why::new(Reason::NotCounting, "not opened yet"));
        File { source, hold, due_ns: 0, regions: Vec::new() }
    }

    fn read(
        &mut self,
        now: u64,
        path: impl Fn() -> Result<PathBuf, Why>,
        buf: &mut Vec<u8>,
    ) -> Result<&[DmemRegion], Why> {
        // A cgroup that was removed may have come back under the same name: its file is another one.
        for _ in 0..2 {
            if self.source.is_err() && self.due_ns <= now {
                self.source = path().and_then(|path| open(path, self.hold));
                self.due_ns = now.saturating_add(AGAIN_NS);
            }
            let error = match &self.source {
                Err(why) => return Err(why.clone()),
                Ok(source) => match source.read(buf) {
                    Ok(bytes) => {
                        let parsed =
                            std::str::from_utf8(bytes).ok().and_then(|text| parse_into(text, &mut self.regions));
                        return match parsed {
                            Some(()) => Ok(&self.regions),
                            None => Err(Why::new(Reason::Failed, "unexpected text in a file of the controller dmem")),
                        };
                    }
                    Err(error) => error,
                },
            };
            if !matches!(error, Error::Gone { .. } | Error::NotFound { .. }) {
                return Err(why(&error, Reason::Gone));
            }
            self.source = Err(why(&error, Reason::Gone));
            self.due_ns = now;
        }
        Err(Why::new(Reason::Gone, "the cgroup went away"))
    }
}

/// Opens a file of the controller, or says why there is none: it is not enabled for this cgroup, or there is no such cgroup.
fn open(path: PathBuf, hold: bool) -> Result<Source, Why> {
    match Source::open(path.clone(), hold) {
        Ok(Source::Path(path)) if !path.exists() => {}
        Ok(source) => return Ok(source),
        Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(why(&error, Reason::NotSupported)),
    }
    Err(match path.parent() {
        Some(folder) if !folder.exists() => Why::new(Reason::Gone, format!("{}: not there", folder.display())),
        _ => Why::new(
            Reason::NotCounting,
            format!("{}: the controller dmem is not enabled for this cgroup", path.display()),
        )
        .remedy("write +dmem to cgroup.subtree_control of every cgroup above it"),
    })
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

    const SECOND: u64 = 1_000_000_000;

    fn texts(cgroups: &[&str]) -> Vec<Text> {
        cgroups.iter().map(|c| Text::from(c.to_string())).collect()
    }

    fn write(path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn each_way_to_have_no_figure_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::at(dir.path());
        let top = dir.path().join("sys/fs/cgroup");
        let memory = |cgroup: &str| {
            let mut out = Vec::new();
            Dmem::new(roots.clone()).sample(&texts(&[cgroup]), &mut out);
            out.remove(0).device_memory
        };
        let why = |cgroup: &str| memory(cgroup).why().cloned().unwrap();
        let report = || Dmem::new(roots.clone()).report();
        assert_eq!(why("/a.scope").reason, Reason::NotSupported);
        std::fs::create_dir_all(top.join("a.scope")).unwrap();
        write(top.join("cgroup.controllers"), "cpuset cpu io memory\n");
        assert!(why("/a.scope").remedy.unwrap().contains("CONFIG_CGROUP_DMEM"));
        assert_eq!(report().status.as_str(), "not_supported");
        write(top.join("cgroup.controllers"), "cpuset cpu io memory dmem\n");
        assert_eq!(why("/a.scope").reason, Reason::NotCounting);
        assert_eq!(why("/b.scope").reason, Reason::Gone);
        assert!(why("/../b.scope").detail.contains("namespace"));
        write(top.join("a.scope/dmem.current"), CURRENT);
        let used = memory("/a.scope");
        let used = used.value().unwrap();
        assert_eq!((used.len(), used[0].used_bytes), (2, 12288));
        assert_eq!(used[0].capacity_bytes.why().unwrap().reason, Reason::NotCounting, "a namespace hides it");
        write(top.join("dmem.capacity"), "drm/0000:03:00.0/vram0 17163091968\n");
        let used = memory("/a.scope");
        let used = used.value().unwrap();
        assert_eq!(used[0].capacity_bytes, Reading::Value(17163091968));
        assert_eq!(used[1].capacity_bytes.why().unwrap().reason, Reason::Gone);
        assert_eq!(report().status.as_str(), "works");
        assert!(report().detail.contains("drm/0000:03:00.0/vram0"));
        write(top.join("dmem.capacity"), "");
        assert_eq!(report().status.as_str(), "no_hardware");
    }

    #[test]
    fn unified_hierarchy_beside_version_1() {
        let dir = tempfile::tempdir().unwrap();
        let unified = dir.path().join("sys/fs/cgroup/unified");
        write(unified.join("cgroup.controllers"), "dmem\n");
        write(unified.join("a.scope/dmem.current"), "");
        let mut out = Vec::new();
        Dmem::new(Roots::at(dir.path())).sample(&texts(&["/a.scope"]), &mut out);
        assert_eq!(out[0].device_memory, Reading::Value(Vec::new()));
    }

    #[test]
    fn a_controller_that_is_not_there_is_looked_for_every_five_seconds() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("sys/fs/cgroup");
        let (cgroups, mut out) = (texts(&["/a.scope"]), Vec::new());
        let mut dmem = Dmem::new(Roots::at(dir.path()));
        let mut known = |at: u64| {
            dmem.sample_at(at * SECOND, &cgroups, &mut out);
            out[0].device_memory.is_known()
        };
        write(top.join("cgroup.controllers"), "memory\n");
        write(top.join("a.scope/dmem.current"), CURRENT);
        assert!(!known(1));
        write(top.join("cgroup.controllers"), "memory dmem\n");
        assert!(!known(5), "not looked for since");
        assert!(known(6));
        // Nor does a steady tick look at the hierarchy again.
        std::fs::remove_file(top.join("cgroup.controllers")).unwrap();
        assert!(known(7) && known(60));
    }

    #[test]
    fn a_cgroup_that_comes_back_is_found_again_whether_its_file_is_held_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("sys/fs/cgroup");
        write(top.join("cgroup.controllers"), "dmem\n");
        let names: Vec<String> = (100..100 + HELD + 4).map(|i| format!("/{i}.scope")).collect();
        for name in &names {
            write(top.join(&name[1..]).join("dmem.current"), CURRENT);
        }
        let cgroups = texts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let last = top.join(&names[names.len() - 1][1..]);
        let mut dmem = Dmem::new(Roots::at(dir.path()));
        let mut out = Vec::new();
        let mut reason = |at: u64| {
            dmem.sample_at(at * SECOND, &cgroups, &mut out);
            assert_eq!(out.len(), cgroups.len());
            assert!(out[..cgroups.len() - 1].iter().all(|s| s.device_memory.is_known()));
            out.last().unwrap().device_memory.why().map(|why| why.reason)
        };
        assert_eq!(reason(1), None);
        std::fs::remove_dir_all(&last).unwrap();
        assert_eq!(reason(2), Some(Reason::Gone));
        write(last.join("dmem.current"), CURRENT);
        assert_eq!((reason(3), reason(7)), (Some(Reason::Gone), None));
        dmem.sample_at(8 * SECOND, &cgroups[..1], &mut out);
        assert_eq!((out.len(), dmem.known.len()), (1, 1), "what nobody asks for is forgotten");
    }

    #[test]
    fn a_steady_tick_allocates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("sys/fs/cgroup");
        let (cgroups, mut out) = (texts(&["/a.scope", "/b.scope"]), Vec::new());
        let mut absent = Dmem::new(Roots::at(dir.path()));
        (0..2).for_each(|at| absent.sample_at(at, &cgroups, &mut out));
        assert_eq!(allocation_counter::measure(|| absent.sample_at(2, &cgroups, &mut out)).count_total, 0);
        write(top.join("cgroup.controllers"), "dmem\n");
        write(top.join("dmem.capacity"), CURRENT);
        write(top.join("a.scope/dmem.current"), CURRENT);
        let mut dmem = Dmem::new(Roots::at(dir.path()));
        (0..2).for_each(|at| dmem.sample_at(at, &cgroups, &mut out));
        write(top.join("a.scope/dmem.current"), &CURRENT.replace("12288", "20480"));
        assert_eq!(allocation_counter::measure(|| dmem.sample_at(2, &cgroups, &mut out)).count_total, 0);
        assert_eq!(out[0].device_memory.value().unwrap()[0].used_bytes, 20480);
        assert_eq!(out[1].device_memory.why().unwrap().reason, Reason::Gone);
    }
}
