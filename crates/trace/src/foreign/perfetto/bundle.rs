//! One `FtraceEventBundle`: events of one processor.

use super::clocks::{Clock, Clocks};
use super::layouts::{Content, Given, Layouts, No};
use super::schema::{self, Type};
use super::wire::{Fields, Value, packed};
use rustc_hash::FxHashMap;

/// Fields of `FtraceEventBundle` that are read.
const CPU: u32 = 1;
const EVENT: u32 = 2;
const LOST: u32 = 3;
const COMPACT: u32 = 4;
const CLOCK: u32 = 5;
const OWN_TIME: u32 = 6;
const BOOTTIME: u32 = 7;
const ERROR: u32 = 8;
const PREVIOUS_END: u32 = 10;
const DESCRIPTOR: u32 = 11;

/// What a bundle says ahead of its events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) cpu: Option<u32>,
    clock: u64,
    own: Option<u64>,
    boottime: Option<u64>,
    /// The time of the first event, and of that before it where Perfetto says.
    pub(super) first: Option<u64>,
    pub(super) before: Option<u64>,
    /// Whether the kernel lost events ahead of this.
    pub(super) is_behind_loss: bool,
    /// Parts of the kernel's buffer that Perfetto could not read.
    pub(super) errors: u64,
}

/// A generic event, as its descriptor tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    system: Option<String>,
    name: String,
    fields: FxHashMap<u32, (String, Type)>,
}

/// Descriptors of generic events, by the number of their field.
pub(super) type Descriptors = FxHashMap<u32, Described>;

impl Head {
    pub(super) fn read(bundle: &[u8], descriptors: &mut Descriptors) -> Head {
        let mut head = Head::default();
        for (field, value) in Fields::of(bundle) {
            match (field, value) {
                (CPU, value) => head.cpu = value.small(),
                (EVENT, Value::Bytes(event)) if head.first.is_none() => {
                    head.first = Fields::of(event).find(|(field, _)| *field == 1).and_then(|(_, value)| value.number());
                }
                (COMPACT, Value::Bytes(compact)) => {
                    let firsts = Fields::of(compact).filter(|(field, _)| matches!(field, 1 | 7));
                    let firsts = firsts.filter_map(|(_, value)| packed(value.bytes()?).next());
                    head.first = firsts.chain(head.first).min();
                }
                (LOST, value) => head.is_behind_loss = value.number().is_some_and(|lost| lost != 0),
                (CLOCK, value) => head.clock = value.number().unwrap_or(u64::MAX),
                (OWN_TIME, value) => head.own = value.number(),
                (BOOTTIME, value) => head.boottime = value.number(),
                (ERROR, _) => head.errors = head.errors.saturating_add(1),
                (PREVIOUS_END, value) => head.before = value.number(),
                (DESCRIPTOR, Value::Bytes(descriptor)) => describe(descriptor, descriptors),
                _ => {}
            }
        }
        head
    }

    pub(super) fn clock(&self, sequence: u32) -> Clock {
        match self.clock {
            0 => Clock::Boottime,
            2 | 3 => Clock::Kernel(sequence),
            4 => Clock::MonotonicRaw,
            _ => Clock::Unknown,
        }
    }

    /// A moment on the kernel's clock and on CLOCK_BOOTTIME.
    pub(super) fn moment(&self) -> Option<(u64, u64)> {
        self.own.zip(self.boottime)
    }
}

/// Takes a `GenericEventDescriptor`.
fn describe(message: &[u8], descriptors: &mut Descriptors) {
    const MOST: usize = 1 << 12;
    const MOST_FIELDS: usize = 64;
    let (mut number, mut described) = (None, Described::default());
    for (field, value) in Fields::of(message) {
        match (field, value) {
            (1, value) => number = value.small(),
            (3, value) => described.system = value.text().filter(|system| !system.is_empty()),
            (2, Value::Bytes(message)) => {
                // DescriptorProto: name, field.
                for (field, value) in Fields::of(message) {
                    match (field, value) {
                        (1, value) => described.name = value.text().unwrap_or_default(),
                        (2, Value::Bytes(field)) if described.fields.len() < MOST_FIELDS => {
                            let (mut name, mut number, mut of) = (None, None, None);
                            for (field, value) in Fields::of(field) {
                                match field {
                                    1 => name = value.text(),
                                    3 => number = value.small(),
                                    5 => of = value.number().and_then(Type::of_descriptor),
                                    _ => {}
                                }
                            }
                            if let (Some(name), Some(number), Some(of)) = (name, number, of) {
                                described.fields.insert(number, (name, of));
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // The first one counts, as for Perfetto.
    if let Some(number) = number.filter(|number| *number >= schema::FIRST_DESCRIBED)
        && descriptors.len() < MOST
    {
        descriptors.entry(number).or_insert(described);
    }
}

/// What an event became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A record, from here to there.
    Record(u32, u32),
    /// A thread's name, from here to there.
    Name(u32, u32, u32),
    /// Something was lost ahead of this.
    Lost,
}

/// The events of a bundle, in order of time.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The last comes first.
    entries: Vec<(u64, What)>,
    bytes: Vec<u8>,
    /// How much memory it may take, and whether it was too little.
    room: usize,
    pub(super) is_cut: bool,
}

impl Loaded {
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.entries.last().map(|(at_ns, _)| *at_ns)
    }

    pub(super) fn take(&mut self) -> Option<(u64, What)> {
        self.entries.pop()
    }

    pub(super) fn bytes(&self, from: u32, to: u32) -> &[u8] {
        self.bytes.get(from as usize..to as usize).unwrap_or_default()
    }

    /// The memory that it takes.
    pub(super) fn weight(&self) -> usize {
        self.entries.capacity().saturating_mul(size_of::<(u64, What)>()).saturating_add(self.bytes.capacity())
    }

    fn put(&mut self, at_ns: u64, from: usize, what: impl FnOnce(u32, u32) -> What) {
        if self.weight() > self.room {
            self.is_cut = true;
            return;
        }
        if let (Ok(from), Ok(to)) = (u32::try_from(from), u32::try_from(self.bytes.len())) {
            self.entries.push((at_ns, what(from, to)));
        }
    }
}

/// Makes records of bundles.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) layouts: Layouts,
    /// Events of other kinds, and those that could not be read.
    pub(super) passed_over: u64,
    pub(super) unreadable: u64,
}

impl Reader {
    /// Reads a bundle whole, or as much as there is room for. Times that no snapshot brings to CLOCK_MONOTONIC stay as they are.
    pub(super) fn load(
        &mut self,
        bundle: &[u8],
        (sequence, is_behind_gap): (u32, bool),
        (clocks, descriptors): (&Clocks, &Descriptors),
        room: usize,
    ) -> Loaded {
        let head = Head::read(bundle, &mut Descriptors::default());
        let clock = head.clock(sequence);
        let time = |at| clocks.monotonic(clock, at).unwrap_or(at);
        let mut loaded = Loaded { room, ..Loaded::default() };
        let mut fields = Fields::of(bundle);
        for (field, value) in fields.by_ref() {
            match (field, value) {
                (EVENT, Value::Bytes(event)) => {
                    let is_read = self.event(event, time, descriptors, &mut loaded).is_some();
                    self.unreadable = self.unreadable.saturating_add(u64::from(!is_read));
                }
                (COMPACT, Value::Bytes(compact)) => self.compact(compact, time, &mut loaded),
                _ => {}
            }
            if loaded.is_cut {
                break;
            }
        }
        if fields.is_broken() {
            self.unreadable = self.unreadable.saturating_add(1);
        }
        // Those of one moment stay as they came.
        loaded.entries.sort_by_key(|(at_ns, _)| *at_ns);
        if is_behind_gap {
            let at_ns = head.first.map_or(0, time);
            loaded.entries.insert(0, (loaded.next_first().unwrap_or(at_ns), What::Lost));
        }
        loaded.entries.reverse();
        loaded
    }

    /// Takes an `FtraceEvent`. None for one that cannot be read.
    fn event(
        &mut self,
        event: &[u8],
        time: impl Fn(u64) -> u64,
        descriptors: &Descriptors,
        loaded: &mut Loaded,
    ) -> Option<()> {
        let (mut at, mut tid, mut body) = (None, None, None);
        let mut fields = Fields::of(event);
        for (field, value) in fields.by_ref() {
            match (field, value) {
                (1, value) => at = value.number(),
                // A number of 32 bits with a sign: 0 is the idle thread.
                (2, value) => tid = value.number().map(|tid| tid as u32),
                (_, Value::Bytes(bytes)) => body = Some((field, bytes)),
                _ => {}
            }
        }
        if fields.is_broken() {
            return None;
        }
        let Some((number, body)) = body else {
            self.passed_over = self.passed_over.saturating_add(1);
            return Some(());
        };
        let (at_ns, tid) = (time(at?), tid?);
        if let Some((tid, name)) = renamed(number, body) {
            let from = loaded.bytes.len();
            loaded.bytes.extend_from_slice(name.get(..name.len().min(64)).unwrap_or_default());
            loaded.put(at_ns, from, |from, to| What::Name(tid, from, to));
        }
        let from = loaded.bytes.len();
        let put = match (schema::find(number), descriptors.get(&number)) {
            (Some(message), _) => self.typed(message, tid, body, loaded)?,
            (None, _) if number == schema::GENERIC => self.generic(tid, body, loaded)?,
            (None, Some(described)) => self.described(described, tid, body, loaded)?,
            (None, None) => Err(No::NotOurs),
        };
        match put {
            Ok(()) => loaded.put(at_ns, from, What::Record),
            Err(No::NotOurs) => self.passed_over = self.passed_over.saturating_add(1),
            Err(No::TooLarge) => return None,
        }
        Some(())
    }

    fn typed(&mut self, of: &schema::Message, tid: u32, body: &[u8], loaded: &mut Loaded) -> Option<Result<(), No>> {
        let mut given = Vec::with_capacity(of.fields.len());
        let mut fields = Fields::of(body);
        for (field, value) in fields.by_ref() {
            if let Some((_, name, of)) = of.fields.iter().find(|(number, ..)| *number == field) {
                given.push(Given { name, of: *of, content: content(*of, value)? });
            }
        }
        let name = (Some(of.system), of.name);
        (!fields.is_broken()).then(|| self.layouts.put(name, tid, &given, &mut loaded.bytes))
    }

    /// `GenericFtraceEvent`: all names and values as they are. Which of Perfetto's two numbers it is says whether the kernel's has a sign.
    fn generic(&mut self, tid: u32, body: &[u8], loaded: &mut Loaded) -> Option<Result<(), No>> {
        let (mut name, mut given) = (None, Vec::new());
        let mut fields = Fields::of(body);
        for (field, value) in fields.by_ref() {
            match (field, value) {
                (1, Value::Bytes(bytes)) => name = Some(std::str::from_utf8(bytes).ok()?),
                (2, Value::Bytes(field)) => {
                    let (mut name, mut content) = (None, None);
                    for (field, value) in Fields::of(field) {
                        match (field, value) {
                            (1, Value::Bytes(bytes)) => name = Some(std::str::from_utf8(bytes).ok()?),
                            (3, Value::Bytes(text)) => content = Some((Type::Text, Content::Text(text))),
                            (4, Value::Number(number)) => content = Some((Type::I64, Content::Number(number))),
                            (5, Value::Number(number)) => content = Some((Type::U64, Content::Number(number))),
                            _ => {}
                        }
                    }
                    if let (Some(name), Some((of, content))) = (name, content) {
                        given.push(Given { name, of, content });
                    }
                }
                _ => {}
            }
        }
        if fields.is_broken() {
            return None;
        }
        Some(self.layouts.put((None, name?), tid, &given, &mut loaded.bytes))
    }

    fn described(&mut self, of: &Described, tid: u32, body: &[u8], loaded: &mut Loaded) -> Option<Result<(), No>> {
        let mut given = Vec::with_capacity(of.fields.len());
        let mut fields = Fields::of(body);
        for (field, value) in fields.by_ref() {
            if let Some((name, of)) = of.fields.get(&field) {
                given.push(Given { name, of: *of, content: content(*of, value)? });
            }
        }
        let name = (of.system.as_deref(), of.name.as_str());
        (!fields.is_broken()).then(|| self.layouts.put(name, tid, &given, &mut loaded.bytes))
    }

    /// `CompactSched`: switches and wakings, a list for each of their fields.
    fn compact(&mut self, message: &[u8], time: impl Fn(u64) -> u64, loaded: &mut Loaded) {
        const MOST_WORDS: usize = 1 << 16;
        let mut lists: [&[u8]; 13] = [&[]; 13];
        let mut words: Vec<&[u8]> = Vec::new();
        for (field, value) in Fields::of(message) {
            let Some(bytes) = value.bytes() else { continue };
            match (field, lists.get_mut(field as usize)) {
                (5, _) if words.len() < MOST_WORDS => words.push(bytes),
                (_, Some(list)) => *list = bytes,
                _ => {}
            }
        }
        let [_, switches, states, nexts, next_prios, _, next_comms, wakings, woken, targets, prios, comms, _] = lists;
        let mut at = 0_u64;
        let mut switches = packed(switches);
        let mut rest = packed(states).zip(packed(nexts)).zip(packed(next_prios)).zip(packed(next_comms));
        while !loaded.is_cut {
            let (delta, fields) = match (switches.next(), rest.next()) {
                (Some(delta), Some(fields)) => (delta, fields),
                (None, None) => break,
                _ => return self.count_unreadable(),
            };
            let (((_, next), _), comm) = fields;
            at = at.wrapping_add(delta);
            let Some(comm) = usize::try_from(comm).ok().and_then(|comm| words.get(comm)) else {
                return self.count_unreadable();
            };
            self.compact_name((time(at), next as u32, comm), loaded);
        }
        at = 0;
        let mut wakings = packed(wakings);
        let mut rest = packed(woken).zip(packed(targets)).zip(packed(prios)).zip(packed(comms));
        while !loaded.is_cut {
            let (delta, fields) = match (wakings.next(), rest.next()) {
                (Some(delta), Some(fields)) => (delta, fields),
                (None, None) => break,
                _ => return self.count_unreadable(),
            };
            let (((pid, _), _), comm) = fields;
            at = at.wrapping_add(delta);
            let Some(comm) = usize::try_from(comm).ok().and_then(|comm| words.get(comm)) else {
                return self.count_unreadable();
            };
            self.compact_name((time(at), pid as u32, comm), loaded);
        }
    }

    /// A compact event names a thread. It is no event of its own: which thread was left stands in the switch before, which may be in another
    /// bundle, or lost.
    fn compact_name(&mut self, (at_ns, tid, comm): (u64, u32, &[u8]), loaded: &mut Loaded) {
        let from = loaded.bytes.len();
        loaded.bytes.extend_from_slice(comm.get(..comm.len().min(64)).unwrap_or_default());
        loaded.put(at_ns, from, |from, to| What::Name(tid, from, to));
        self.passed_over = self.passed_over.saturating_add(1);
    }

    fn count_unreadable(&mut self) {
        self.unreadable = self.unreadable.saturating_add(1);
    }
}

impl Loaded {
    /// The time of the first entry, while they stand in order.
    fn next_first(&self) -> Option<u64> {
        self.entries.first().map(|(at_ns, _)| *at_ns)
    }
}

/// None where the field is of another type than it should be.
fn content(of: Type, value: Value<'_>) -> Option<Content<'_>> {
    match (of, value) {
        (Type::Text, Value::Bytes(text)) => Some(Content::Text(text)),
        (Type::Text, _) => None,
        (_, Value::Number(number)) => Some(Content::Number(number)),
        (_, _) => None,
    }
}

/// A thread and its name, where an event tells them.
fn renamed(number: u32, body: &[u8]) -> Option<(u32, &[u8])> {
    let (tid, comm) = match number {
        schema::SCHED_SWITCH => (6, 5),
        schema::TASK_NEWTASK => (1, 2),
        schema::TASK_RENAME => (1, 3),
        _ => return None,
    };
    let (mut of, mut name) = (None, None);
    for (field, value) in Fields::of(body) {
        if field == tid {
            of = value.small();
        } else if field == comm {
            name = value.bytes();
        }
    }
    of.zip(name).filter(|(tid, _)| *tid != 0)
}
