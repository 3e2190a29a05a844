//! From samples to snapshots: the one place that knows resets, counters that stand still and readings left out.
//!
//! A rate is taken between the last reading of a counter and the present one, each with its own time, so a reading that was left
//! out (a device left alone so that it can fall asleep) lengthens the interval of the next rate and distorts nothing. A device that
//! slept starts anew: the mean over its sleep would say nothing about the moment it woke.

mod clients;

use self::clients::ClientsBaseline;
use crate::{
    BandwidthSample, BandwidthSnapshot, ClassSample, ClassSnapshot, Clock, Counter, DeviceSample, DeviceSnapshot,
    EngineClass, EngineSample, EngineSnapshot, GpuId, GtSample, GtSnapshot, PowerSample, PowerSnapshot, Reading,
    Reason, Sample, Share, Snapshot, Text, Why,
};

const RESTARTED: Why = Why {
    reason: Reason::FirstSample,
    detail: Text::Static("the counter restarted; a rate needs two readings since then"),
    remedy: None,
};

const NOT_READ_AGAIN: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("the counter was not read again in this interval"),
    remedy: None,
};

const STANDS_STILL: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("this is a captured tree: its counters stand still"),
    remedy: None,
};

const TOO_LONG_AGO: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static(
        "the energy was last read so long ago that the hardware's counter may have turned over since: power is known from readings \
         less than four minutes apart",
    ),
    remedy: None,
};

const NEVER_MOVED: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("the energy counter is there but has not moved since it was first read"),
    remedy: None,
};

/// Change of a counter over a time, in units a second.
///
/// Absent when the counter restarted (it is lower than before) and when no time passed.
pub fn rate(before: Counter, now: Counter) -> Result<f64, Why> {
    if now.value < before.value {
        return Err(RESTARTED);
    }
    match now.at_ns.checked_sub(before.at_ns) {
        None | Some(0) => Err(NOT_READ_AGAIN),
        Some(ns) => Ok((now.value - before.value) as f64 / (ns as f64 / 1e9)),
    }
}

/// Part of the whole by which a [`Share`] grew.
///
/// May exceed 1 a little, where the kernel adds up time in steps; what is shown is clamped at the edge.
pub fn ratio(before: Share, now: Share) -> Result<f64, Why> {
    if now.whole < before.whole || now.part < before.part {
        return Err(RESTARTED);
    }
    match now.whole - before.whole {
        0 => Err(NOT_READ_AGAIN),
        whole => Ok((now.part - before.part) as f64 / whole as f64),
    }
}

/// The last reading of every counter: what the next sample is compared with.
#[derive(Debug, Default)]
pub struct Baseline {
    at_ns: Option<u64>,
    devices: Vec<DeviceBaseline>,
    clients: ClientsBaseline,
}

#[derive(Debug)]
struct DeviceBaseline {
    last: DeviceSample,
    /// Which of gpu, card, package and psys energy ever moved: a counter that never did says nothing, not 0 W.
    energy_moved: [bool; 4],
}

impl Baseline {
    /// Nothing read yet: the first [`step`](Self::step) gives gauges, and rates that say `first_sample`.
    pub fn new() -> Self {
        Baseline::default()
    }

    /// Compares a sample with what was read before, writes gauges and rates into `out`, and remembers the sample's counters.
    ///
    /// `out` is overwritten; its memory is used again.
    pub fn step(&mut self, sample: &Sample, out: &mut Snapshot) {
        out.interval_ns = self.at_ns.and_then(|before| sample.at_ns.checked_sub(before));
        out.at_ns = sample.at_ns;
        self.at_ns = Some(sample.at_ns);
        out.events.clear();
        out.events.extend_from_slice(&sample.events);

        let live = sample.gpus.iter().all(|g| g.live);
        self.clients.step(&sample.clients, &mut out.clients, live);
        self.devices.retain(|b| sample.gpus.iter().any(|g| g.id == b.last.id));
        out.gpus.truncate(sample.gpus.len());
        for (i, gpu) in sample.gpus.iter().enumerate() {
            let known = self.devices.iter().position(|b| b.last.id == gpu.id);
            if out.gpus.get(i).is_none_or(|o| o.id != gpu.id) {
                out.gpus.truncate(i);
                out.gpus.push(DeviceSnapshot::blank(&gpu.id));
            }
            let Some(slot) = out.gpus.get_mut(i) else { continue };
            match known.and_then(|k| self.devices.get_mut(k)) {
                Some(base) => {
                    device(Some(base), gpu, slot);
                    base.remember(gpu);
                }
                None => {
                    device(None, gpu, slot);
                    self.devices.push(DeviceBaseline { last: gpu.clone(), energy_moved: [false; 4] });
                }
            }
        }
    }
}

impl DeviceSnapshot {
    /// A snapshot with nothing in it, to be filled.
    fn blank(id: &GpuId) -> Self {
        let nothing = || Reading::Absent(Why::FIRST_SAMPLE);
        DeviceSnapshot {
            id: id.clone(),
            driver: Text::Static(""),
            perturbs: false,
            runtime_status: Reading::Absent(Why::FIRST_SAMPLE),
            engines: Reading::Absent(Why::FIRST_SAMPLE),
            classes: Reading::Absent(Why::FIRST_SAMPLE),
            gts: Vec::new(),
            power: PowerSnapshot {
                gpu_watts: nothing(),
                card_watts: nothing(),
                package_watts: nothing(),
                psys_watts: nothing(),
            },
            temperatures: Reading::Absent(Why::FIRST_SAMPLE),
            fans: Reading::Absent(Why::FIRST_SAMPLE),
            memory: Reading::Absent(Why::FIRST_SAMPLE),
            bandwidth: BandwidthSnapshot { read_bytes_per_second: nothing(), write_bytes_per_second: nothing() },
        }
    }
}

impl DeviceBaseline {
    /// Keeps the newest reading of every counter. One that was only left out keeps its older reading; one behind a device that
    /// slept or went away is forgotten.
    fn remember(&mut self, now: &DeviceSample) {
        let last = &mut self.last;
        last.driver = now.driver.clone();
        match (&mut last.engines, &now.engines) {
            (Reading::Value(old), Reading::Value(new)) if same(old, new, |e| &e.name) => {
                for (o, n) in old.iter_mut().zip(new) {
                    keep(&mut o.busy, &n.busy);
                    keep(&mut o.wait, &n.wait);
                    keep(&mut o.sema, &n.sema);
                }
            }
            (old, new) => keep(old, new),
        }
        match (&mut last.classes, &now.classes) {
            (Reading::Value(old), Reading::Value(new)) if same(old, new, |c| &c.name) => {
                for (o, n) in old.iter_mut().zip(new) {
                    o.capacity.clone_from(&n.capacity);
                    keep(&mut o.busy, &n.busy);
                }
            }
            (old, new) => keep(old, new),
        }
        if last.gts.len() == now.gts.len() {
            for (o, n) in last.gts.iter_mut().zip(&now.gts) {
                keep(&mut o.actual, &n.actual);
                keep(&mut o.requested, &n.requested);
                keep(&mut o.idle_ns, &n.idle_ns);
            }
        } else {
            last.gts.clone_from(&now.gts);
        }
        for (moved, (old, new)) in
            self.energy_moved.iter_mut().zip(energies(&last.power).into_iter().zip(energies(&now.power)))
        {
            if let (Reading::Value(old), Reading::Value(new)) = (old, new) {
                *moved |= old.value != new.value;
            }
        }
        keep(&mut last.power.gpu_uj, &now.power.gpu_uj);
        keep(&mut last.power.card_uj, &now.power.card_uj);
        keep(&mut last.power.package_uj, &now.power.package_uj);
        keep(&mut last.power.psys_uj, &now.power.psys_uj);
        keep(&mut last.bandwidth.read_bytes, &now.bandwidth.read_bytes);
        keep(&mut last.bandwidth.write_bytes, &now.bandwidth.write_bytes);
    }
}

fn energies(p: &PowerSample) -> [&Reading<Counter>; 4] {
    [&p.gpu_uj, &p.card_uj, &p.package_uj, &p.psys_uj]
}

fn same<T>(old: &[T], new: &[T], name: impl Fn(&T) -> &Text) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| name(a) == name(b))
}

fn keep<T: Clone>(old: &mut Reading<T>, new: &Reading<T>) {
    let left_out = match new {
        Reading::Value(_) => false,
        Reading::Absent(why) => matches!(why.reason, Reason::NotCounting | Reason::Busy | Reason::Failed),
    };
    if !(left_out && old.is_known()) {
        old.clone_from(new);
    }
}

fn device(base: Option<&DeviceBaseline>, now: &DeviceSample, out: &mut DeviceSnapshot) {
    let last = base.map(|b| &b.last);
    let live = now.live;
    out.driver = now.driver.clone();
    out.perturbs = now.perturbs;
    out.runtime_status = now.runtime_status.clone();

    let before = last.and_then(|l| l.engines.value()).map(Vec::as_slice).unwrap_or_default();
    let mut engines_out = reuse(&mut out.engines);
    out.engines = match &now.engines {
        Reading::Absent(why) => Reading::Absent(why.clone()),
        Reading::Value(engines) => {
            engines_out.extend(
                engines.iter().enumerate().map(|(i, e)| engine(find(before, i, &e.name, |b| &b.name), e, live)),
            );
            Reading::Value(engines_out)
        }
    };

    let before = last.and_then(|l| l.classes.value()).map(Vec::as_slice).unwrap_or_default();
    let mut classes_out = reuse(&mut out.classes);
    out.classes = match (&now.classes, &out.engines) {
        (Reading::Value(classes), _) => {
            classes_out
                .extend(classes.iter().enumerate().map(|(i, c)| class(find(before, i, &c.name, |b| &b.name), c, live)));
            Reading::Value(classes_out)
        }
        (Reading::Absent(_), Reading::Value(engines)) if !engines.is_empty() => {
            classes_of_engines(engines, &mut classes_out);
            Reading::Value(classes_out)
        }
        (Reading::Absent(why), _) => Reading::Absent(why.clone()),
    };

    out.gts.clear();
    for (i, gt) in now.gts.iter().enumerate() {
        let before = last.and_then(|l| l.gts.get(i)).filter(|b| b.gt == gt.gt);
        out.gts.push(gt_snapshot(before, gt, live));
    }

    let moved = base.map(|b| b.energy_moved).unwrap_or_default();
    let [gpu, card, package, psys] = energies(&now.power);
    let before = last.map(|l| energies(&l.power));
    let [gpu0, card0, package0, psys0] = match before {
        Some(all) => all.map(Some),
        None => [None; 4],
    };
    let [m0, m1, m2, m3] = moved;
    let gap = now.power.longest_gap_ns;
    let watts = |before, now, moved| watts(before, now, moved, live, gap);
    out.power = PowerSnapshot {
        gpu_watts: watts(gpu0, gpu, m0),
        card_watts: watts(card0, card, m1),
        package_watts: watts(package0, package, m2),
        psys_watts: watts(psys0, psys, m3),
    };

    clone_list(&mut out.temperatures, &now.temperatures);
    clone_list(&mut out.fans, &now.fans);
    clone_list(&mut out.memory, &now.memory);
    out.bandwidth = bandwidth(last.map(|l| &l.bandwidth), &now.bandwidth, live);
}

/// Copies a list into a slot whose memory is used again.
fn clone_list<T: Clone>(out: &mut Reading<Vec<T>>, now: &Reading<Vec<T>>) {
    let mut list = reuse(out);
    *out = match now {
        Reading::Value(v) => {
            list.extend_from_slice(v);
            Reading::Value(list)
        }
        Reading::Absent(why) => Reading::Absent(why.clone()),
    };
}

fn reuse<T>(slot: &mut Reading<Vec<T>>) -> Vec<T> {
    match std::mem::replace(slot, Reading::Value(Vec::new())) {
        Reading::Value(mut v) => {
            v.clear();
            v
        }
        Reading::Absent(_) => Vec::new(),
    }
}

/// The entry of the same name, looked for first where it stood before.
fn find<'a, T>(before: &'a [T], i: usize, name: &Text, key: impl Fn(&T) -> &Text) -> Option<&'a T> {
    before.get(i).filter(|b| key(b) == name).or_else(|| before.iter().find(|b| key(b) == name))
}

/// A reading compared with the one before it, by `f`.
fn compare<T: Copy, U>(
    before: Option<&Reading<T>>,
    now: &Reading<T>,
    f: impl FnOnce(T, T) -> Result<U, Why>,
) -> Reading<U> {
    match (before, now) {
        (_, Reading::Absent(why)) => Reading::Absent(why.clone()),
        (Some(Reading::Value(b)), Reading::Value(n)) => f(*b, *n).into(),
        _ => Reading::Absent(Why::FIRST_SAMPLE),
    }
}

fn share(before: Option<&Reading<Share>>, now: &Reading<Share>, live: bool) -> Reading<f64> {
    compare(before, now, |b, n| if !live && b.part == n.part { Err(STANDS_STILL) } else { ratio(b, n) })
}

fn per_second(before: Option<&Reading<Counter>>, now: &Reading<Counter>, live: bool) -> Reading<f64> {
    compare(before, now, |b, n| if !live && b.value == n.value { Err(STANDS_STILL) } else { rate(b, n) })
}

fn watts(
    before: Option<&Reading<Counter>>,
    now: &Reading<Counter>,
    moved: bool,
    live: bool,
    gap_ns: Option<u64>,
) -> Reading<f64> {
    compare(before, now, |b, n| match () {
        () if !live && b.value == n.value => Err(STANDS_STILL),
        () if gap_ns.is_some_and(|gap| n.at_ns.saturating_sub(b.at_ns) > gap) => Err(TOO_LONG_AGO),
        () if b.value == n.value && !moved => Err(NEVER_MOVED),
        () => rate(b, n).map(|uj_per_s| uj_per_s / 1e6),
    })
}

fn hertz(before: Option<&Reading<Clock>>, now: &Reading<Clock>, live: bool) -> Reading<f64> {
    match now {
        Reading::Absent(why) => Reading::Absent(why.clone()),
        Reading::Value(Clock::Now(hz)) => Reading::Value(*hz),
        Reading::Value(Clock::Megacycles(n)) => match before {
            Some(Reading::Value(Clock::Megacycles(b))) => {
                if !live && b.value == n.value {
                    return Reading::Absent(STANDS_STILL);
                }
                rate(*b, *n).map(|mhz| mhz * 1e6).into()
            }
            _ => Reading::Absent(Why::FIRST_SAMPLE),
        },
    }
}

fn engine(before: Option<&EngineSample>, now: &EngineSample, live: bool) -> EngineSnapshot {
    EngineSnapshot {
        name: now.name.clone(),
        class: now.class,
        instance: now.instance,
        gt: now.gt.clone(),
        source: now.source.clone(),
        busy_ratio: share(before.map(|b| &b.busy), &now.busy, live),
        wait_ratio: share(before.map(|b| &b.wait), &now.wait, live),
        sema_ratio: share(before.map(|b| &b.sema), &now.sema, live),
    }
}

fn class(before: Option<&ClassSample>, now: &ClassSample, live: bool) -> ClassSnapshot {
    ClassSnapshot {
        class: now.class,
        name: now.name.clone(),
        capacity: now.capacity.clone(),
        busy_ratio: share(before.map(|b| &b.busy), &now.busy, live),
    }
}

/// Where instances are counted the class is their mean; it is known only when all of them are.
fn classes_of_engines(engines: &[EngineSnapshot], out: &mut Vec<ClassSnapshot>) {
    const CLASSES: [EngineClass; 6] = [
        EngineClass::Render,
        EngineClass::Copy,
        EngineClass::Video,
        EngineClass::VideoEnhance,
        EngineClass::Compute,
        EngineClass::Other,
    ];
    for class in CLASSES {
        let mut capacity = 0;
        let mut sum = Ok(0.0);
        for e in engines.iter().filter(|e| e.class == class) {
            capacity += 1;
            sum = match (sum, &e.busy_ratio) {
                (Ok(s), Reading::Value(v)) => Ok(s + v),
                (Ok(_), Reading::Absent(why)) => Err(why.clone()),
                (Err(why), _) => Err(why),
            };
        }
        if capacity > 0 {
            out.push(ClassSnapshot {
                class,
                name: Text::Static(class.as_str()),
                capacity: Reading::Value(capacity),
                busy_ratio: sum.map(|s| s / f64::from(capacity)).into(),
            });
        }
    }
}

fn gt_snapshot(before: Option<&GtSample>, now: &GtSample, live: bool) -> GtSnapshot {
    GtSnapshot {
        gt: now.gt,
        actual_hz: hertz(before.map(|b| &b.actual), &now.actual, live),
        requested_hz: hertz(before.map(|b| &b.requested), &now.requested, live),
        min_hz: now.min_hz.clone(),
        max_hz: now.max_hz.clone(),
        idle_ratio: per_second(before.map(|b| &b.idle_ns), &now.idle_ns, live).map(|ns_per_s| ns_per_s / 1e9),
        throttle: now.throttle.clone(),
    }
}

fn bandwidth(before: Option<&BandwidthSample>, now: &BandwidthSample, live: bool) -> BandwidthSnapshot {
    BandwidthSnapshot {
        read_bytes_per_second: per_second(before.map(|b| &b.read_bytes), &now.read_bytes, live),
        write_bytes_per_second: per_second(before.map(|b| &b.write_bytes), &now.write_bytes, live),
    }
}

#[cfg(test)]
mod tests;
