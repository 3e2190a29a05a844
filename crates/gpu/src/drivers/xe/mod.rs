//! xe: frequencies, idle time and throttle reasons from sysfs, energy and sensors from hwmon, engines from DRM fdinfo.
//!
//! Every one of these files takes a runtime PM reference (`xe_pm_runtime_get` in xe_gt_freq.c, xe_gt_idle.c, xe_gt_throttle.c,
//! xe_hwmon.c of drivers/gpu/drm/xe): nothing is read unless waking the device is allowed. The PMU counts engines by instance, but
//! an open event keeps the device from suspending and its GT from C6 (`xe_pmu_event_init`): it is opened on request only.

pub mod parse;

use self::parse::{class_of_number, parse_flag, parse_reasons};
use super::i915::parse::engine_class;
use super::{Access, Context, Device, FdinfoNeed, Gone, PowerState, intel};
use crate::discover::{Found, numbered, shared};
use crate::held::Held;
use crate::hwmon::{Hwmon, Meanings};
use crate::power_state::PowerFiles;
use gpuscope_model::{
    Clock, Counter, DeviceInfo, DeviceSample, EngineClass, EngineInfo, GtInfo, GtKind, Reading, Reason, Share,
    SourceReport, ThrottleReason, ThrottleReasons, Unavailable, Why,
};
use gpuscope_pmu::{CounterGroup, EventAttr, GroupValues, Pmu};
use gpuscope_sys::perf::probe;
use gpuscope_sys::{Error, list_dir, monotonic_ns};
use std::path::{Path, PathBuf};

/// `ENOENT`, the PMU's answer for an engine that is not there (`event_supported` and `event_param_valid`, xe_pmu.c).
const ENOENT: i32 = 2;

/// `EACCES`, what opening it would answer a process without the right to count.
const EACCES: i32 = 13;

fn pmu_name(found: &Found) -> Option<String> {
    found.pci_address.map(|a| format!("xe_{}", a.to_string().replace(':', "_")))
}

/// A GT's folder, `device/tileT/gtG`, and the engine classes in it.
struct GtFolder {
    gt: u8,
    tile: u8,
    path: PathBuf,
    classes: Vec<(String, EngineClass)>,
}

fn gt_folders(device: &Path) -> Vec<GtFolder> {
    let mut all = Vec::new();
    for (tile, tile_path) in numbered(device, "tile").unwrap_or_default() {
        for (gt, path) in numbered(&tile_path, "gt").unwrap_or_default() {
            let names = list_dir(&path.join("engines")).unwrap_or_default();
            let mut classes: Vec<(String, EngineClass)> =
                names.into_iter().filter_map(|name| engine_class(&name).map(|class| (name, class))).collect();
            classes.sort_by_key(|(_, class)| intel::class_order(*class));
            all.push(GtFolder { gt, tile, path, classes });
        }
    }
    all.sort_by_key(|f| (f.gt, f.tile));
    all
}

impl GtFolder {
    /// `gtidle/name` would say it and wake the device; the engine classes say it too.
    fn kind(&self) -> GtKind {
        let has = |classes: &[EngineClass]| self.classes.iter().any(|(_, c)| classes.contains(c));
        if has(&[EngineClass::Render, EngineClass::Copy, EngineClass::Compute]) {
            GtKind::Main
        } else if has(&[EngineClass::Video, EngineClass::VideoEnhance]) {
            GtKind::Media
        } else {
            GtKind::Unknown
        }
    }
}

pub(super) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    let mut info = found.identity(context.options);
    let folders = gt_folders(&found.device);
    info.gts = folders.iter().map(|f| GtInfo { gt: f.gt, tile: f.tile, kind: f.kind() }).collect();
    if folders.is_empty() {
        let why = Why::new(Reason::NotSupported, format!("{}: no tile*/gt* folder", found.device.display()));
        info.unavailable.push(Unavailable::new("gts", why.clone()));
        info.unavailable.push(Unavailable::new("engines", why));
    }
    for folder in &folders {
        for (name, class) in &folder.classes {
            let instance = Reading::absent(Reason::NotSupported, "xe's folders name engine classes, not instances");
            info.engines.push(EngineInfo {
                name: shared(name),
                class: *class,
                instance,
                gt: Reading::Value(folder.gt),
            });
        }
    }
    info.pmu = pmu_name(found).filter(|name| context.roots.sys("bus/event_source/devices").join(name).is_dir());
    if info.pmu.is_none() {
        info.unavailable.push(Unavailable::new("pmu", no_pmu(&info)));
    }
    info
}

fn no_pmu(info: &DeviceInfo) -> Why {
    if info.sriov.is_virtual() {
        // xe_pmu_register returns early on a VF.
        return Why::new(Reason::NotSupported, "xe registers no perf PMU on a virtual function");
    }
    Why::new(Reason::NotSupported, "xe registered no perf PMU for this device")
        .remedy("Linux 6.16 or later has a PMU for xe")
}

/// One GT's files; all of them wake.
struct Gt {
    actual: Held,
    requested: Held,
    min: Held,
    max: Held,
    idle: Held,
    reasons: Held,
    throttled: Held,
    each_reason: Vec<(ThrottleReason, Held)>,
    pmu_idle: Option<usize>,
}

impl Gt {
    fn open(folder: &Path) -> Self {
        let freq = folder.join("freq0");
        let throttle = freq.join("throttle");
        let reasons = Held::open(throttle.join("reasons"));
        let names = if reasons.is_open() { Vec::new() } else { list_dir(&throttle).unwrap_or_default() };
        let each =
            names.iter().filter(|n| n.starts_with("reason_")).map(|n| (parse::reason(n), Held::open(throttle.join(n))));
        Gt {
            actual: Held::open(freq.join("act_freq")),
            requested: Held::open(freq.join("cur_freq")),
            min: Held::open(freq.join("min_freq")),
            max: Held::open(freq.join("max_freq")),
            idle: Held::open(folder.join("gtidle/idle_residency_ms")),
            reasons,
            throttled: Held::open(throttle.join("status")),
            each_reason: each.collect(),
            pmu_idle: None,
        }
    }

    fn throttle(&mut self) -> Result<ThrottleReasons, Why> {
        if self.reasons.is_open() {
            return self.reasons.read(parse_reasons);
        }
        let mut set = ThrottleReasons::NONE;
        if !self.throttled.read(parse_flag)? {
            return Ok(set);
        }
        for (reason, file) in &mut self.each_reason {
            if file.read(parse_flag)? {
                set.insert(*reason);
            }
        }
        if set.is_empty() && self.throttled.read(parse_flag)? {
            set.insert(ThrottleReason::Other);
        }
        Ok(set)
    }

    /// `cur_freq` takes forcewake, which may fail for the moment (`cur_freq_show`, drivers/gpu/drm/xe/xe_gt_freq.c).
    fn requested(&mut self) -> Reading<f64> {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        let explain = |error: &Error| match error {
            Error::Io { source, .. } if source.kind() == WouldBlock => {
                Some(Why::new(Reason::Failed, "cur_freq: forcewake was not granted (EAGAIN)"))
            }
            Error::Io { source, .. } if source.kind() == TimedOut => {
                Some(Why::new(Reason::Failed, "cur_freq: forcewake timed out (ETIMEDOUT)"))
            }
            _ => None,
        };
        self.requested.read_with(crate::held::parse_u64, explain).map(|mhz| mhz as f64 * 1e6).into()
    }
}

/// The events of one engine: places in the group.
struct EngineTicks {
    active: usize,
    total: usize,
}

struct Xe {
    info: DeviceInfo,
    live: bool,
    power: PowerFiles,
    gts: Vec<Gt>,
    hwmon: Hwmon,
    /// On request: see [`Options::perturbing`](crate::Options::perturbing).
    counters: Result<CounterGroup, Why>,
    engines: Vec<EngineTicks>,
}

pub(super) fn open(context: &Context<'_>, found: Found) -> Box<dyn Device> {
    Box::new(Xe::open(context, &found))
}

impl Xe {
    fn open(context: &Context<'_>, found: &Found) -> Self {
        let info = identify(context, found);
        let folders = gt_folders(&found.device);
        let meanings = Meanings {
            name: Some("xe"),
            first_temperature: "gpu",
            refusal_is_sleep: false,
            none: intel::no_hwmon(intel::is_discrete(&info)),
        };
        let mut device = Xe {
            live: context.roots.is_live(),
            power: PowerFiles::open(&found.device, found.minor()),
            gts: folders.iter().map(|f| Gt::open(&f.path)).collect(),
            hwmon: Hwmon::open(&found.device, meanings),
            counters: Err(classes_only(context, &info)),
            engines: Vec::new(),
            info,
        };
        if context.options.perturbing {
            device.open_counters(context);
        }
        device
    }

    /// Looks for engines by opening their events, as no file and no event name tells instances, and opens all in one group.
    fn open_counters(&mut self, context: &Context<'_>) {
        let Some(name) = self.info.pmu.clone() else {
            self.counters = Err(no_pmu(&self.info));
            return;
        };
        let pmu = match Pmu::open(context.roots, &name) {
            Ok(pmu) => pmu,
            Err(why) => {
                self.counters = Err(why);
                return;
            }
        };
        if !context.roots.is_live() {
            self.counters = Err(Why::new(Reason::NotCounting, "a captured tree has no running counters"));
            return;
        }
        let mut attrs: Vec<EventAttr> = Vec::new();
        let mut ticks = Vec::new();
        let mut infos = Vec::new();
        for gt in &self.info.gts {
            for number in 0..=4u64 {
                let Some((short, class)) = class_of_number(number) else { continue };
                for instance in 0..=8u16 {
                    let event = |name: &str| engine_event(&pmu, name, number, instance, gt.gt);
                    let (active, total) = match (event("engine-active-ticks"), event("engine-total-ticks")) {
                        (Ok(active), Ok(total)) => (active, total),
                        (Err(why), _) | (_, Err(why)) => {
                            self.counters = Err(why);
                            return;
                        }
                    };
                    if let Err(error) = probe(active, pmu.cpu()) {
                        if error.raw_os_error() == Some(ENOENT) {
                            continue;
                        }
                        self.counters = Err(context.rights.explain_perf_error(&error, &name));
                        return;
                    }
                    ticks.push(EngineTicks { active: attrs.len(), total: attrs.len() + 1 });
                    attrs.extend([active, total]);
                    infos.push(EngineInfo {
                        name: shared(&format!("{short}{instance}")),
                        class,
                        instance: Reading::Value(instance),
                        gt: Reading::Value(gt.gt),
                    });
                }
            }
        }
        for (info, gt) in self.info.gts.iter().zip(&mut self.gts) {
            if let Some(attr) = gt_event(&pmu, "gt-c6-residency", info.gt) {
                gt.pmu_idle = Some(attrs.len());
                attrs.push(attr);
            }
        }
        if ticks.is_empty() {
            let why =
                Why::new(Reason::NotSupported, format!("the PMU {name} counts no engine: its firmware is too old"));
            self.counters = Err(why);
            return;
        }
        self.counters = CounterGroup::open(context.roots, context.rights, &pmu, &attrs);
        if self.counters.is_err() {
            self.gts.iter_mut().for_each(|gt| gt.pmu_idle = None);
        } else {
            self.engines = ticks;
            self.info.engines = infos;
        }
    }
}

/// The event's number through its file, its place through the format files: both have moved between kernels of other drivers.
fn engine_event(pmu: &Pmu, name: &str, class: u64, instance: u16, gt: u8) -> Result<EventAttr, Why> {
    let missing =
        || Why::new(Reason::NotSupported, format!("the xe PMU has no event {name}: its firmware or kernel is too old"));
    let base = pmu.event(name).ok_or_else(missing)?.attr;
    let terms = [("engine_class", class), ("engine_instance", u64::from(instance)), ("gt", u64::from(gt))];
    let place = pmu.encode(&terms).map_err(|e| Why::new(Reason::NotSupported, format!("the xe PMU's format: {e}")))?;
    Ok(EventAttr { config: base.config | place.config, ..base })
}

fn gt_event(pmu: &Pmu, name: &str, gt: u8) -> Option<EventAttr> {
    let base = pmu.event(name)?.attr;
    let place = pmu.encode(&[("gt", u64::from(gt))]).ok()?;
    Some(EventAttr { config: base.config | place.config, ..base })
}

/// Why there are no engine instances by default.
fn classes_only(context: &Context<'_>, info: &DeviceInfo) -> Why {
    let why = Why::new(
        Reason::NotSupported,
        "fdinfo counts engine classes, not instances; the xe PMU counts instances, but keeps the GT awake while it is open",
    );
    match (&info.pmu, info.sriov.is_virtual()) {
        (Some(pmu), _) if context.rights.may_count() == Some(false) => {
            let right = context.rights.explain_perf(EACCES, pmu).remedy;
            let right = right.as_deref().unwrap_or("the right to open device-wide perf events");
            why.remedy(format!("ask for it: --perturbing, which needs a right: {right}"))
        }
        (Some(_), _) => why.remedy("ask for it: --perturbing"),
        (None, true) => why,
        (None, false) => why.remedy("Linux 6.16 or later has a PMU for xe"),
    }
}

/// Puts one reading of the group and the files of the GTs into a sample that was laid out.
fn fill(
    counters: &Result<&GroupValues, Why>,
    engines: &[EngineTicks],
    gts: &mut [Gt],
    access: &Access,
    out: &mut DeviceSample,
) {
    let value = |place: usize| -> Result<u64, Why> {
        let values = counters.as_ref().map_err(Why::clone)?;
        let missing = || Why::new(Reason::Failed, "the kernel gave fewer values than the group has events");
        values.values.get(place).copied().ok_or_else(missing)
    };
    if let Reading::Value(list) = &mut out.engines {
        for (ticks, slot) in engines.iter().zip(list) {
            let share = value(ticks.active).and_then(|part| Ok(Share { part, whole: value(ticks.total)? }));
            slot.busy = share.into();
        }
    }
    let at_ns = counters.as_ref().map(|c| c.at_ns).unwrap_or(0);
    for (gt, slot) in gts.iter_mut().zip(&mut out.gts) {
        // Chosen once: the event counts from its opening and the file from boot, and no rate may be taken between the two.
        let from_pmu = gt.pmu_idle;
        if let Some(place) = from_pmu {
            slot.idle_ns = value(place).map(|ms| Counter { value: ms.saturating_mul(1_000_000), at_ns }).into();
        }
        match access {
            Access::Withheld(why) => {
                slot.actual = why.clone().into();
                slot.requested = why.clone().into();
                slot.min_hz = why.clone().into();
                slot.max_hz = why.clone().into();
                slot.throttle = why.clone().into();
                if from_pmu.is_none() {
                    slot.idle_ns = why.clone().into();
                }
            }
            Access::Allowed => {
                slot.actual = gt.actual.megahertz().map(Clock::Now);
                slot.requested = gt.requested().map(Clock::Now);
                slot.min_hz = gt.min.megahertz();
                slot.max_hz = gt.max.megahertz();
                slot.throttle = gt.throttle().into();
                if from_pmu.is_none() {
                    let ns = |ms: u64| Counter { value: ms.saturating_mul(1_000_000), at_ns: monotonic_ns() };
                    slot.idle_ns = gt.idle.number().map(ns).into();
                }
            }
        }
    }
}

impl Device for Xe {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn power(&mut self) -> Result<PowerState, Gone> {
        self.power.read()
    }

    fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        intel::align(out, self.engines.len(), self.gts.len(), || self.blank());
        let counters = match &mut self.counters {
            Ok(group) => group.read(),
            Err(why) => Err(why.clone()),
        };
        fill(&counters, &self.engines, &mut self.gts, access, out);
        self.hwmon.sample(access, out);
    }

    fn blank(&self) -> DeviceSample {
        let no_event = Why::new(Reason::NotSupported, "the xe PMU counts no waiting time");
        let engines = match &self.counters {
            Ok(_) => Reading::Value(self.info.engines.iter().map(|e| intel::blank_engine(e, &no_event)).collect()),
            Err(why) => why.clone().into(),
        };
        let blank = intel::blank(&self.info, "xe", self.live, engines, self.fdinfo().needed, &self.hwmon);
        DeviceSample { perturbs: self.counters.is_ok(), ..blank }
    }

    fn fdinfo(&self) -> FdinfoNeed {
        FdinfoNeed { needed: self.counters.is_err(), wakes: true, hidden: &[] }
    }

    fn holds_awake(&self) -> bool {
        self.counters.is_ok()
    }

    fn reports(&self) -> Vec<SourceReport> {
        let id = Some(&self.info.id);
        let source = format!("xe PMU ({})", self.info.pmu.as_deref().unwrap_or("xe"));
        let detail = |_: &_| format!("{} engines; opened on request: the GPU does not sleep", self.engines.len());
        let counters = self.counters.as_ref().map(detail).map_err(Why::clone);
        let mut all = vec![SourceReport::of(source, id, counters).unlocks(&intel::ENGINE_METRICS)];
        for (info, gt) in self.info.gts.iter().zip(&self.gts) {
            let why = gt.actual.why().cloned().unwrap_or(Why::FIRST_SAMPLE);
            let detail = "read only while the device is awake and in use: each reading resumes it".to_string();
            all.push(intel::gt_report(&self.info, info.gt, gt.actual.is_open(), detail, why));
        }
        all.push(self.hwmon.report(&self.info));
        all
    }
}

#[cfg(test)]
mod tests;
