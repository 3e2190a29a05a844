//! i915: engines and RC6 from its perf PMU, frequencies from sysfs, energy and sensors from hwmon.
//!
//! Polite, read at every tick: the PMU's `-busy` and `rc6-residency` events, and the `rps_*` files (`intel_rps_read_actual_frequency`
//! and `intel_rps_read_punit_req` read the hardware only while it is in use). Waking, read when allowed: `rc6_residency_ms`,
//! `throttle_reason_*` (both `with_intel_runtime_pm`) and hwmon.

pub mod parse;

use self::parse::{EngineEvent, Residency, parse_engine_event, parse_engine_name, parse_flag};
use super::{Access, Context, Device, FdinfoNeed, Gone, PowerState, intel};
use crate::discover::{Found, numbered, shared};
use crate::held::Held;
use crate::hwmon::{Hwmon, Meanings};
use crate::power_state::PowerFiles;
use gpuscope_model::{
    Clock, Counter, DeviceInfo, DeviceSample, EngineClass, EngineInfo, GtInfo, GtKind, Reading, Reason, Share,
    SourceReport, Text, ThrottleReason, ThrottleReasons, Unavailable, Why,
};
use gpuscope_pmu::{CounterGroup, EventAttr, GroupValues, Pmu};
use gpuscope_sys::{list_dir, monotonic_ns};
use std::path::{Path, PathBuf};

/// The `-wait` and `-sema` events.
fn timer_event(what: &'static str, remedy: &'static str) -> Why {
    Why::new(Reason::NotCounting, what).remedy(remedy)
}

/// Name and folder of the device's PMU: `i915` is the integrated GPU's, `i915_0000_03_00.0` a card's (`i915_pmu_register`,
/// drivers/gpu/drm/i915/i915_pmu.c).
fn pmu(context: &Context<'_>, info: &DeviceInfo) -> Option<(String, PathBuf)> {
    let own = info.pci_address.map(|a| format!("i915_{}", a.to_string().replace(':', "_")));
    // A virtual function beside its physical one would find that one's PMU.
    let integrated = info.integrated.get() == Some(true) && !info.sriov.is_virtual();
    let plain = integrated.then(|| "i915".to_string());
    [own, plain].into_iter().flatten().find_map(|name| {
        let folder = context.roots.sys("bus/event_source/devices").join(&name);
        folder.is_dir().then_some((name, folder))
    })
}

/// Names of the engines: the PMU's `-busy` events, else the folders `engine/*` of the card.
fn engine_names(pmu: Option<&Path>, card: Option<&Path>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if let Some(folder) = pmu {
        let events = list_dir(&folder.join("events")).unwrap_or_default();
        let busy = events.iter().filter_map(|e| match parse_engine_event(e)? {
            (engine, EngineEvent::Busy) => Some(engine.to_string()),
            _ => None,
        });
        names.extend(busy);
    }
    if names.is_empty() {
        let folders = card.map(|c| list_dir(&c.join("engine")).unwrap_or_default()).unwrap_or_default();
        names.extend(folders.into_iter().filter(|n| parse_engine_name(n).is_some()));
    }
    names.sort_by_key(|n| parse_engine_name(n).map(|(class, instance)| (intel::class_order(class), instance)));
    names
}

/// The GT of an engine. The kernel says it for parts with one GT, and in its device table for those whose second GT is the media GT
/// (`xelpmp_extra_gt` in drivers/gpu/drm/i915/i915_pci.c gives that GT the video engines).
fn gt_of_engine(class: EngineClass, gts: usize, media_gt: bool) -> Reading<u8> {
    match (gts, media_gt) {
        (0 | 1, _) => Reading::Value(0),
        (2, true) => Reading::Value(u8::from(matches!(class, EngineClass::Video | EngineClass::VideoEnhance))),
        _ => Reading::absent(Reason::NotSupported, "i915 does not tell which GT holds an engine"),
    }
}

pub(super) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    let mut info = found.identity(context.options);
    let media_gt = found.pci_id.and_then(|id| crate::pci_names::intel_family(id.device)).is_some_and(|f| f.media_gt);
    let pmu = pmu(context, &info);
    if pmu.is_none() {
        info.unavailable.push(Unavailable::new("pmu", no_pmu()));
    }
    let folders = found.card.as_ref().and_then(|card| numbered(&card.join("gt"), "gt").ok()).unwrap_or_default();
    let count = folders.len().max(1);
    let numbers = if folders.is_empty() { vec![0] } else { folders.iter().map(|(n, _)| *n).collect() };
    let kind = |gt: u8| match (gt, count, media_gt) {
        (0, ..) => GtKind::Main,
        (1, 2, true) => GtKind::Media,
        _ => GtKind::Unknown,
    };
    info.gts = numbers.into_iter().map(|gt| GtInfo { gt, tile: 0, kind: kind(gt) }).collect();
    for name in engine_names(pmu.as_ref().map(|(_, folder)| folder.as_path()), found.card.as_deref()) {
        let Some((class, instance)) = parse_engine_name(&name) else { continue };
        let gt = gt_of_engine(class, count, media_gt);
        info.engines.push(EngineInfo { name: shared(&name), class, instance: Reading::Value(instance), gt });
    }
    if info.engines.is_empty() {
        info.unavailable.push(Unavailable::new("engines", no_engines()));
    }
    info.pmu = pmu.map(|(name, _)| name);
    info
}

fn no_pmu() -> Why {
    Why::new(Reason::NotSupported, "i915 registered no perf PMU for this device")
}

fn no_engines() -> Why {
    Why::new(Reason::NotSupported, "neither the PMU's events nor the folder engine/ of the card names engines")
}

/// The events of one engine: places in the group.
struct EngineEvents {
    busy: Result<usize, Why>,
    wait: Result<usize, Why>,
    sema: Result<usize, Why>,
}

/// One GT's sources.
struct Gt {
    actual: Held,
    requested: Held,
    min: Held,
    max: Held,
    throttled: Held,
    reasons: Vec<(ThrottleReason, Held)>,
    residency_file: Held,
    residency: Residency,
    /// Places in the group.
    pmu_actual: Option<usize>,
    pmu_requested: Option<usize>,
    pmu_rc6: Option<usize>,
}

impl Gt {
    fn open(folder: Option<&Path>, card: Option<&Path>) -> Self {
        let none = || Held::absent(Why::new(Reason::NotSupported, "the device has no primary node (cardN)"));
        let file = |own: &str, legacy: &str| match (folder, card) {
            (Some(gt), _) => Held::open(gt.join(own)),
            // Before Linux 5.18 there is no folder a GT; the card's own files stand for the only one.
            (None, Some(card)) => Held::open(card.join(legacy)),
            (None, None) => none(),
        };
        let throttle = |name: &str| match (folder, card) {
            (Some(gt), _) => Held::open(gt.join(format!("throttle_reason_{name}"))),
            (None, Some(card)) => Held::open(card.join(format!("gt/gt0/throttle_reason_{name}"))),
            (None, None) => none(),
        };
        let reasons = ThrottleReason::ALL.into_iter().map(|r| (r, throttle(r.as_str()))).filter(|(_, f)| f.is_open());
        Gt {
            actual: file("rps_act_freq_mhz", "gt_act_freq_mhz"),
            requested: file("rps_cur_freq_mhz", "gt_cur_freq_mhz"),
            min: file("rps_min_freq_mhz", "gt_min_freq_mhz"),
            max: file("rps_max_freq_mhz", "gt_max_freq_mhz"),
            throttled: throttle("status"),
            reasons: reasons.collect(),
            residency_file: file("rc6_residency_ms", "power/rc6_residency_ms"),
            residency: Residency::default(),
            pmu_actual: None,
            pmu_requested: None,
            pmu_rc6: None,
        }
    }

    /// The status file is the OR of the others: while it says 0, they are not read.
    fn throttle(&mut self) -> Result<ThrottleReasons, Why> {
        let mut set = ThrottleReasons::NONE;
        if !self.throttled.read(parse_flag)? {
            return Ok(set);
        }
        for (reason, file) in &mut self.reasons {
            if file.read(parse_flag)? {
                set.insert(*reason);
            }
        }
        if set.is_empty() {
            // Over between the two readings, or a bit of the mask without a file of its own.
            let still = self.throttled.read(parse_flag)?;
            if still {
                set.insert(ThrottleReason::Other);
            }
        }
        Ok(set)
    }

    /// With GuC SLPC the driver reads the request register only while the device is in use, and prints 0 otherwise
    /// (`intel_rps_read_punit_req`, drivers/gpu/drm/i915/gt/intel_rps.c): not a request for 0 MHz.
    fn requested(&mut self) -> Reading<Clock> {
        const IDLE: Why = Why {
            reason: Reason::NotCounting,
            detail: Text::Static("the GPU is idle, and i915 reads the requested frequency only while it is in use"),
            remedy: None,
        };
        match self.requested.megahertz() {
            Reading::Value(0.0) => IDLE.into(),
            reading => reading.map(Clock::Now),
        }
    }

    fn residency(&mut self) -> Result<Counter, Why> {
        let ms = self.residency_file.read(|text| crate::held::parse_u64(text)?.try_into().ok())?;
        let total = self.residency.add(ms);
        Ok(Counter { value: total.saturating_mul(1_000_000), at_ns: monotonic_ns() })
    }
}

struct I915 {
    /// Events were asked for that the driver samples with a timer.
    timer: bool,
    info: DeviceInfo,
    live: bool,
    power: PowerFiles,
    counters: Result<CounterGroup, Why>,
    engines: Vec<EngineEvents>,
    gts: Vec<Gt>,
    hwmon: Hwmon,
}

pub(super) fn open(context: &Context<'_>, found: Found) -> Box<dyn Device> {
    Box::new(I915::open(context, &found))
}

impl I915 {
    fn open(context: &Context<'_>, found: &Found) -> Self {
        let info = identify(context, found);
        let discrete = intel::is_discrete(&info);
        let card = found.card.as_deref();
        let folders = card.and_then(|card| numbered(&card.join("gt"), "gt").ok()).unwrap_or_default();
        let folder_of = |gt: u8| folders.iter().find(|(n, _)| *n == gt).map(|(_, f)| f.as_path());
        let gts = info.gts.iter().map(|gt| Gt::open(folder_of(gt.gt), card)).collect();
        let meanings = Meanings {
            name: Some("i915"),
            first_temperature: "gpu",
            refusal_is_sleep: false,
            none: intel::no_hwmon(discrete),
        };
        let options = context.options;
        let mut device = I915 {
            timer: options.wait || options.sema || options.pmu_frequency,
            live: context.roots.is_live(),
            power: PowerFiles::open(&found.device, found.minor()),
            counters: Err(no_pmu()),
            engines: Vec::new(),
            gts,
            hwmon: Hwmon::open(&found.device, meanings),
            info,
        };
        device.open_counters(context);
        device
    }

    /// Opens one group: every engine's busy time, RC6 of every GT, and what was asked for beyond that.
    fn open_counters(&mut self, context: &Context<'_>) {
        let not_opened = |asked: bool, what: &'static str, remedy: &'static str| {
            if asked {
                Why::new(Reason::NotSupported, "the i915 PMU has no such event for this engine")
            } else {
                timer_event(what, remedy)
            }
        };
        const TIMER: &str = "not opened: wait and sema events start a 200 Hz kernel timer";
        let no_wait = not_opened(context.options.wait, TIMER, "ask for them: --wait");
        let no_sema = not_opened(context.options.sema, TIMER, "ask for them: --sema");
        let no_busy = Why::new(Reason::NotSupported, "the i915 PMU has no busy event for this engine");
        let blank =
            || EngineEvents { busy: Err(no_busy.clone()), wait: Err(no_wait.clone()), sema: Err(no_sema.clone()) };
        self.engines = self.info.engines.iter().map(|_| blank()).collect();
        let Some(name) = self.info.pmu.as_deref() else { return };
        let pmu = match Pmu::open(context.roots, name) {
            Ok(pmu) => pmu,
            Err(why) => {
                self.counters = Err(why);
                return;
            }
        };
        let mut attrs: Vec<EventAttr> = Vec::new();
        let mut add = |name: &str| -> Option<usize> {
            attrs.push(pmu.event(name)?.attr);
            Some(attrs.len() - 1)
        };
        for (engine, events) in self.info.engines.iter().zip(&mut self.engines) {
            let wanted = [
                (true, &mut events.busy, "busy"),
                (context.options.wait, &mut events.wait, "wait"),
                (context.options.sema, &mut events.sema, "sema"),
            ];
            for (wanted, slot, what) in wanted {
                if let Some(place) = wanted.then(|| add(&format!("{}-{what}", engine.name))).flatten() {
                    *slot = Ok(place);
                }
            }
        }
        for (info, gt) in self.info.gts.iter().zip(&mut self.gts) {
            // Parts with one GT have no suffix.
            let mut of_gt = |event: &str| {
                add(&format!("{event}-gt{}", info.gt)).or_else(|| if info.gt == 0 { add(event) } else { None })
            };
            gt.pmu_rc6 = of_gt("rc6-residency");
            if context.options.pmu_frequency {
                gt.pmu_actual = of_gt("actual-frequency");
                gt.pmu_requested = of_gt("requested-frequency");
            }
        }
        if attrs.is_empty() {
            self.counters = Err(Why::new(Reason::NotSupported, format!("the PMU {name} has no event that is known")));
            return;
        }
        match CounterGroup::open_available(context.roots, context.rights, &pmu, 0, &attrs) {
            Ok((group, refused)) => {
                self.take_places(&refused);
                self.counters = Ok(group);
            }
            Err(why) => self.counters = Err(why),
        }
    }

    /// An event that was refused alone (an engine fused off, no RC6) has no place in the group: the others move up.
    fn take_places(&mut self, refused: &[Option<Why>]) {
        let place_of = |asked: usize| -> Result<usize, Why> {
            match refused.get(asked) {
                Some(Some(why)) => Err(why.clone()),
                _ => Ok(refused.iter().take(asked).filter(|r| r.is_none()).count()),
            }
        };
        for events in &mut self.engines {
            for slot in [&mut events.busy, &mut events.wait, &mut events.sema] {
                if let Ok(asked) = slot {
                    *slot = place_of(*asked);
                }
            }
        }
        for gt in &mut self.gts {
            for slot in [&mut gt.pmu_rc6, &mut gt.pmu_actual, &mut gt.pmu_requested] {
                *slot = slot.and_then(|asked| place_of(asked).ok());
            }
        }
    }
}

/// Puts one reading of the group and the files of the GTs into a sample that was laid out. `opened`: the group was, even if it cannot
/// be read now; RC6 has one source for good, since the event counts from its opening and the file from boot.
fn fill(
    opened: bool,
    counters: &Result<&GroupValues, Why>,
    engines: &[EngineEvents],
    gts: &mut [Gt],
    access: &Access,
    out: &mut DeviceSample,
) {
    let value = |place: usize| -> Result<u64, Why> {
        let values = counters.as_ref().map_err(Why::clone)?;
        let missing = || Why::new(Reason::Failed, "the kernel gave fewer values than the group has events");
        values.values.get(place).copied().ok_or_else(missing)
    };
    let share = |place: usize| -> Reading<Share> {
        let part = value(place);
        let whole = counters.as_ref().map(|c| c.time_enabled_ns).unwrap_or(0);
        part.map(|part| Share { part, whole }).into()
    };
    let at_ns = counters.as_ref().map(|c| c.at_ns).unwrap_or(0);
    if let Reading::Value(list) = &mut out.engines {
        for (events, slot) in engines.iter().zip(list) {
            let reading = |slot: &Result<usize, Why>| match slot {
                Ok(place) => share(*place),
                Err(why) => why.clone().into(),
            };
            // Where the PMU as a whole is refused, asking for more of it would not help: its reason comes first.
            let reading = |slot: &Result<usize, Why>| match counters {
                Ok(_) => reading(slot),
                Err(why) => why.clone().into(),
            };
            slot.busy = reading(&events.busy);
            slot.wait = reading(&events.wait);
            slot.sema = reading(&events.sema);
        }
    }
    for (gt, slot) in gts.iter_mut().zip(&mut out.gts) {
        let cycles = |place: usize| value(place).map(|value| Clock::Megacycles(Counter { value, at_ns })).into();
        slot.actual = match gt.pmu_actual {
            Some(place) => cycles(place),
            None => gt.actual.megahertz().map(Clock::Now),
        };
        slot.requested = match gt.pmu_requested {
            Some(place) => cycles(place),
            None => gt.requested(),
        };
        slot.min_hz = gt.min.megahertz();
        slot.max_hz = gt.max.megahertz();
        slot.idle_ns = match (gt.pmu_rc6.filter(|_| opened), access) {
            (Some(place), _) => value(place).map(|value| Counter { value, at_ns }).into(),
            (None, Access::Allowed) => gt.residency().into(),
            (None, Access::Withheld(why)) => why.clone().into(),
        };
        slot.throttle = match access {
            Access::Allowed => gt.throttle().into(),
            Access::Withheld(why) => why.clone().into(),
        };
    }
}

impl Device for I915 {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn power(&mut self) -> Result<PowerState, Gone> {
        self.power.read()
    }

    fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        intel::align(out, self.info.engines.len(), self.gts.len(), || self.blank());
        let opened = self.counters.is_ok();
        let counters = match &mut self.counters {
            Ok(group) => group.read(),
            Err(why) => Err(why.clone()),
        };
        fill(opened, &counters, &self.engines, &mut self.gts, access, out);
        self.hwmon.sample(access, out);
    }

    fn blank(&self) -> DeviceSample {
        let engines = if self.info.engines.is_empty() {
            let why = self.counters.as_ref().err().cloned().unwrap_or_else(no_engines);
            Reading::Absent(why)
        } else {
            let engine = |e| intel::blank_engine(e, &Why::FIRST_SAMPLE);
            Reading::Value(self.info.engines.iter().map(engine).collect())
        };
        let blank = intel::blank(&self.info, "i915", self.live, engines, self.fdinfo().needed, &self.hwmon);
        // Wait, sema and frequency events keep a 200 Hz timer running while the GPU is awake.
        DeviceSample { perturbs: self.timer && self.counters.is_ok(), ..blank }
    }

    fn holds_awake(&self) -> bool {
        false
    }

    fn fdinfo(&self) -> FdinfoNeed {
        FdinfoNeed { needed: self.counters.is_err() || self.info.engines.is_empty(), wakes: false, hidden: &[] }
    }

    fn reports(&self) -> Vec<SourceReport> {
        let id = Some(&self.info.id);
        let pmu = self.info.pmu.as_deref().unwrap_or("i915");
        let source = format!("i915 PMU ({pmu})");
        let detail = |_: &_| format!("{} engines and RC6 in one group", self.engines.len());
        let counters = self.counters.as_ref().map(detail).map_err(Why::clone);
        let mut all = vec![SourceReport::of(source, id, counters).unlocks(&intel::ENGINE_METRICS)];
        let on_request = [
            ("i915 PMU wait events", "gpuscope_engine_wait_ratio", true),
            ("i915 PMU sema events", "gpuscope_engine_sema_ratio", false),
        ];
        for (source, metric, wait) in on_request {
            let Some(first) = self.engines.first() else { continue };
            let slot = if wait { &first.wait } else { &first.sema };
            let report = match (slot, &self.counters) {
                (_, Err(why)) | (Err(why), _) => SourceReport::absent(source, id, why.clone()),
                (Ok(_), Ok(_)) => SourceReport::works(source, id, "opened on request: a 200 Hz kernel timer runs"),
            };
            all.push(report.unlocks(&[metric]));
        }
        for (info, gt) in self.info.gts.iter().zip(&self.gts) {
            let why = gt.actual.why().cloned().unwrap_or(Why::FIRST_SAMPLE);
            let works = gt.actual.is_open();
            let detail = match (gt.pmu_rc6.is_some() && self.counters.is_ok(), gt.throttled.is_open()) {
                (true, true) => {
                    "frequencies wake nothing, RC6 comes from the PMU; throttle reasons are read while awake"
                }
                (true, false) => {
                    "frequencies wake nothing, RC6 comes from the PMU; the kernel gives no throttle reasons"
                }
                (false, true) => {
                    "frequencies wake nothing; RC6 and throttle reasons are read while the device is awake"
                }
                (false, false) => {
                    "frequencies wake nothing; RC6 is read while awake; the kernel gives no throttle reasons"
                }
            };
            all.push(intel::gt_report(&self.info, info.gt, works, detail.to_string(), why));
        }
        all.push(self.hwmon.report(&self.info));
        all
    }
}

#[cfg(test)]
mod tests;
