//! Busy time of a device's engine classes, as the sum over its clients.

use super::parse::{EngineUsage, FdInfo};
use gpuscope_model::{ClassSample, EngineClass, Reading, Reason, Share, Text, Why};

/// What the sums need of one client, see [`Client`](super::scanner::Client).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientUse<'a> {
    /// `drm-client-id`.
    pub(crate) id: u64,
    /// CLOCK_MONOTONIC right after its fdinfo was read, in nanoseconds.
    pub(crate) read_ns: u64,
    /// What it said.
    pub(crate) info: &'a FdInfo,
}

#[derive(Debug)]
struct Class {
    class: EngineClass,
    name: Text,
    capacity: u32,
    /// Whether the driver or a client has told the capacity; until then it is taken for 1, which no client contradicts by being busy.
    told: bool,
    busy_ns: u64,
    whole_ns: u64,
}

const NO_ENGINES: Why = Why {
    reason: Reason::NotSupported,
    detail: Text::Static("the driver prints no use of engines in fdinfo"),
    remedy: None,
};

/// panfrost and panthor (Documentation/gpu/panfrost.rst, panthor.rst): names and frequencies are printed at all times.
pub(super) const PROFILING_OFF: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("the driver names its engines in fdinfo and does not count the time that clients use them"),
    remedy: Some(Text::Static("switch job profiling on, as root: the file profiling in the device's folder in sysfs")),
};

/// xe where it cannot wake the GT.
pub(super) const NOT_PRINTED_NOW: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("a client's use of engines was not printed at this reading"),
    remedy: None,
};

impl Class {
    fn known_capacity(&self) -> Reading<u32> {
        const NOT_TOLD: Why = Why {
            reason: Reason::NotCounting,
            detail: Text::Static(
                "the driver tells the number of engines of a class with its clients, and none has been seen",
            ),
            remedy: None,
        };
        if self.told { Reading::Value(self.capacity) } else { NOT_TOLD.into() }
    }
}

/// What an engine key said last. Counters may step back for a while; the larger value stands until it is passed.
#[derive(Debug)]
struct EngineBase {
    name: String,
    class: usize,
    busy_ns: Option<u64>,
    /// `drm-cycles` and `drm-total-cycles` of one reading.
    cycles: Option<(u64, u64)>,
}

#[derive(Debug)]
struct ClientBase {
    id: u64,
    /// Time of its reading with counters that came last.
    read_ns: u64,
    /// Time of the update with that reading.
    updated_ns: u64,
    engines: Vec<EngineBase>,
    seen: bool,
}

/// Cumulative busy time of the engine classes of one device.
///
/// A client adds what it used between two of its readings, scaled from the time between these to the time between the refreshes:
/// then sums and `whole` cover the same interval. What it used before its first reading counts only when it was opened since
/// the refresh before.
#[derive(Debug, Default)]
pub(crate) struct ClassSums {
    classes: Vec<Class>,
    /// Sorted by id.
    clients: Vec<ClientBase>,
    /// Time of the last update; `None` when the next one only sets baselines.
    last_ns: Option<u64>,
    updated: bool,
    /// Largest client id of the machine at the end of the last update.
    horizon: u64,
    /// Nanoseconds of so many ticks of `drm-total-cycles`, as measured last.
    clock: Option<(u64, u64)>,
    clients_seen: bool,
    /// Whether a client has named engines, counted or not.
    engines_seen: bool,
    counters_seen: bool,
    /// Whether a client printed no counters at the last update, so that what it used is not known.
    uncounted: bool,
    /// The driver leaves out engines that a client has not used: a key that appears began at 0 after the reading before.
    hides_unused: bool,
}

/// Whether a client's engine time is counted.
fn counts(info: &FdInfo) -> bool {
    info.engines.iter().any(|e| e.busy_ns.is_some() || e.cycles.and(e.total_cycles).is_some())
}

impl ClassSums {
    /// Sums that begin with the classes known from the driver, with their number of engines where that is known. May be empty.
    pub(crate) fn new(classes: &[(EngineClass, Option<u32>)]) -> Self {
        let mut sums = ClassSums::default();
        for &(class, capacity) in classes {
            let told = capacity.is_some();
            let capacity = capacity.unwrap_or(1);
            sums.classes.push(Class { class, name: class.as_str().into(), capacity, told, busy_ns: 0, whole_ns: 0 });
        }
        sums
    }

    /// The same, of a driver that leaves out engines which a client has not used.
    pub(crate) fn hiding_unused(self, hides_unused: bool) -> Self {
        ClassSums { hides_unused, ..self }
    }

    /// Drops the baselines: the device has slept, and counters may have begun anew. The sums stay.
    pub(crate) fn rebase(&mut self) {
        self.clients.clear();
        self.last_ns = None;
        self.clock = None;
    }

    /// Adds what the clients used since the last update. `largest_id` is the largest client id of the whole machine that has been
    /// seen up to now. Returns whether any engine was busy.
    pub(crate) fn update<'a>(
        &mut self,
        now_ns: u64,
        largest_id: u64,
        clients: impl Iterator<Item = ClientUse<'a>>,
    ) -> bool {
        let last_ns = self.last_ns;
        let elapsed_ns = last_ns.map_or(0, |last| now_ns.saturating_sub(last));
        let before: u64 = self.busy_total();
        self.clients.iter_mut().for_each(|c| c.seen = false);
        self.uncounted = false;
        for client in clients {
            let counted = self.hides_unused || counts(client.info);
            self.clients_seen = true;
            self.engines_seen |= !client.info.engines.is_empty();
            self.counters_seen |= counted;
            self.uncounted |= !counted;
            match self.clients.binary_search_by_key(&client.id, |c| c.id) {
                Ok(at) if counted => self.add_known(at, client, now_ns),
                // Its baselines stay: the next reading with counters tells the time until then.
                Ok(at) => self.clients.get_mut(at).into_iter().for_each(|c| c.seen = true),
                Err(at) => {
                    let (id, read_ns) = (client.id, client.read_ns);
                    let base = ClientBase { id, read_ns, updated_ns: now_ns, engines: Vec::new(), seen: true };
                    self.clients.insert(at, base);
                    // Ids are counted up for all devices together (`drm_file_alloc`): a larger one than any before is of a client
                    // opened since. In Linux 6.1 each device of i915 has a count of its own, and a client opened since may be
                    // taken for one that was only found late.
                    let born_after = last_ns.filter(|_| client.id > self.horizon);
                    self.add_new(at, client, born_after, elapsed_ns);
                }
            }
        }
        self.clients.retain(|c| c.seen);
        for class in &mut self.classes {
            class.whole_ns = class.whole_ns.saturating_add(u64::from(class.capacity).saturating_mul(elapsed_ns));
        }
        self.last_ns = Some(now_ns);
        self.updated = true;
        self.horizon = self.horizon.max(largest_id);
        self.busy_total() > before
    }

    /// Writes the sums into a sample, in place where it holds these classes already. `incomplete` says why not every client can be
    /// seen, `mute` that the driver tells nothing about clients.
    pub(crate) fn fill(&self, incomplete: Option<&Why>, mute: bool, out: &mut Reading<Vec<ClassSample>>) {
        if let Some(why) = self.absent(incomplete, mute) {
            *out = Reading::Absent(why);
            return;
        }
        let share = |c: &Class| Reading::Value(Share { part: c.busy_ns, whole: c.whole_ns });
        if let Reading::Value(samples) = out {
            let same = samples.len() == self.classes.len()
                && samples.iter().zip(&self.classes).all(|(s, c)| s.class == c.class && s.name == c.name);
            if same {
                for (sample, class) in samples.iter_mut().zip(&self.classes) {
                    sample.capacity = class.known_capacity();
                    sample.busy = share(class);
                }
                return;
            }
        }
        *out = Reading::Value(
            self.classes
                .iter()
                .map(|c| ClassSample {
                    class: c.class,
                    name: c.name.clone(),
                    capacity: c.known_capacity(),
                    busy: share(c),
                })
                .collect(),
        );
    }

    fn absent(&self, incomplete: Option<&Why>, mute: bool) -> Option<Why> {
        if mute && !self.clients_seen {
            return Some(Why::new(Reason::NotSupported, "the driver says nothing about its clients in fdinfo"));
        }
        if self.clients_seen && !self.counters_seen {
            return Some(if self.engines_seen { PROFILING_OFF } else { NO_ENGINES });
        }
        if let Some(why) = incomplete {
            return Some(why.clone());
        }
        if !self.updated {
            return Some(Why::FIRST_SAMPLE);
        }
        if self.uncounted {
            return Some(NOT_PRINTED_NOW);
        }
        self.classes.is_empty().then(|| {
            let what = if self.clients_seen {
                "no client has used an engine yet, and engine classes are told by those that have"
            } else {
                "no process has the GPU open, and its engine classes are told by those that do"
            };
            Why::new(Reason::NotCounting, what)
        })
    }

    fn busy_total(&self) -> u64 {
        self.classes.iter().fold(0, |sum, c| sum.saturating_add(c.busy_ns))
    }

    /// Index of the class of an engine; the class is made when it is new, and takes over a capacity that is printed.
    fn class_of(&mut self, engine: &EngineUsage) -> usize {
        let (class, name) = class_of(&engine.name);
        let is = |c: &Class| c.class == class && (class != EngineClass::Other || c.name.as_str() == name);
        match self.classes.iter_mut().position(|c| is(c)) {
            Some(at) => {
                if let Some(c) = self.classes.get_mut(at) {
                    c.told = true;
                    c.capacity = engine.printed_capacity.unwrap_or(c.capacity);
                }
                at
            }
            None => {
                let name =
                    if class == EngineClass::Other { Text::from(name.to_string()) } else { class.as_str().into() };
                let capacity = engine.capacity();
                self.classes.push(Class { class, name, capacity, told: true, busy_ns: 0, whole_ns: 0 });
                self.classes.len().saturating_sub(1)
            }
        }
    }

    fn add(&mut self, class: usize, busy_ns: u64) {
        if let Some(class) = self.classes.get_mut(class) {
            class.busy_ns = class.busy_ns.saturating_add(busy_ns);
        }
    }

    fn add_known(&mut self, at: usize, client: ClientUse<'_>, now_ns: u64) {
        // Taken out while the classes change.
        let Some(base) = self.clients.get_mut(at) else { return };
        let mut engines = std::mem::take(&mut base.engines);
        let own_ns = client.read_ns.saturating_sub(base.read_ns);
        let elapsed_ns = now_ns.saturating_sub(base.updated_ns);
        base.seen = true;
        base.read_ns = client.read_ns;
        base.updated_ns = now_ns;
        for engine in &client.info.engines {
            let Some(known) = engines.iter_mut().find(|e| e.name == engine.name) else {
                let mut new = self.base_of(engine);
                // A key that appears began at 0 after the reading before.
                if self.hides_unused && elapsed_ns > 0 {
                    if let Some(busy_ns) = new.busy_ns.replace(0) {
                        let used_ns = scale(busy_ns, elapsed_ns, own_ns);
                        new.busy_ns = Some(busy_ns);
                        self.add(new.class, used_ns);
                    }
                }
                engines.push(new);
                continue;
            };
            let mut used_ns = 0;
            if let Some(busy_ns) = engine.busy_ns {
                if let Some(before_ns) = known.busy_ns {
                    used_ns = scale(busy_ns.saturating_sub(before_ns), elapsed_ns, own_ns);
                }
                known.busy_ns = Some(known.busy_ns.unwrap_or(0).max(busy_ns));
            }
            if let (Some(cycles), Some(total)) = (engine.cycles, engine.total_cycles) {
                match known.cycles {
                    // The clock of the engine has moved.
                    Some((cycles_before, total_before)) if total > total_before => {
                        let ticks = total.saturating_sub(total_before);
                        if engine.busy_ns.is_none() {
                            used_ns = scale(cycles.saturating_sub(cycles_before), elapsed_ns, ticks);
                        }
                        if own_ns > 0 {
                            self.clock = Some((own_ns, ticks));
                        }
                        known.cycles = Some((cycles.max(cycles_before), total));
                    }
                    Some((_, total_before)) if total == total_before => {}
                    // It has stepped back: the device was reset or slept, and both begin anew.
                    _ => known.cycles = Some((cycles, total)),
                }
            }
            let class = known.class;
            if engine.printed_capacity.is_some() {
                self.class_of(engine);
            }
            self.add(class, used_ns);
        }
        if let Some(base) = self.clients.get_mut(at) {
            base.engines = engines;
        }
    }

    fn add_new(&mut self, at: usize, client: ClientUse<'_>, born_after_ns: Option<u64>, elapsed_ns: u64) {
        let mut engines = Vec::with_capacity(client.info.engines.len());
        for engine in &client.info.engines {
            let base = self.base_of(engine);
            if let Some(born_after_ns) = born_after_ns {
                let own_ns = client.read_ns.saturating_sub(born_after_ns);
                let busy_ns = engine.busy_ns.or_else(|| {
                    let (ns, ticks) = self.clock?;
                    engine.total_cycles.and(engine.cycles).map(|cycles| scale(cycles, ns, ticks))
                });
                // More than its life can hold: it was only found late.
                let most_ns = u64::from(engine.capacity()).saturating_mul(own_ns);
                let used_ns = busy_ns.filter(|busy_ns| *busy_ns <= most_ns);
                self.add(base.class, scale(used_ns.unwrap_or(0), elapsed_ns, own_ns));
            }
            engines.push(base);
        }
        if let Some(base) = self.clients.get_mut(at) {
            base.engines = engines;
        }
    }

    fn base_of(&mut self, engine: &EngineUsage) -> EngineBase {
        let cycles = engine.cycles.zip(engine.total_cycles);
        EngineBase { name: engine.name.clone(), class: self.class_of(engine), busy_ns: engine.busy_ns, cycles }
    }
}

/// Takes back what was written of the classes of these engines: not all work that they do is in fdinfo.
pub(crate) fn withhold(classes: &mut Reading<Vec<ClassSample>>, engines: &[&str], why: &Why) {
    if let Reading::Value(classes) = classes {
        let concerned = |c: &&mut ClassSample| engines.iter().any(|e| class_of(e).0 == c.class);
        classes.iter_mut().filter(concerned).for_each(|c| c.busy = Reading::Absent(why.clone()));
    }
}

/// `value * to / from`, or 0 where nothing has elapsed.
fn scale(value: u64, to: u64, from: u64) -> u64 {
    let product = u128::from(value).saturating_mul(u128::from(to));
    product.checked_div(u128::from(from)).map_or(0, |n| u64::try_from(n).unwrap_or(u64::MAX))
}

/// The class of a driver's engine name, and the name.
///
/// i915: `uabi_class_names` in drivers/gpu/drm/i915/i915_drm_client.c. xe: `xe_hw_engine_class_to_str` in
/// drivers/gpu/drm/xe/xe_hw_engine.c. amdgpu: `amdgpu_ip_name` in drivers/gpu/drm/amd/amdgpu/amdgpu_fdinfo.c, of which only those
/// that mean the same as a class of the model are taken for it.
pub(super) fn class_of(name: &str) -> (EngineClass, &str) {
    let class = match name {
        "render" | "rcs" | "gfx" => EngineClass::Render,
        "copy" | "bcs" | "dma" => EngineClass::Copy,
        "video" | "vcs" => EngineClass::Video,
        "video-enhance" | "vecs" => EngineClass::VideoEnhance,
        "compute" | "ccs" => EngineClass::Compute,
        _ => EngineClass::Other,
    };
    (class, name)
}
