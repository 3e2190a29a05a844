//! Packing of records for a frame; `packed.rs` tells what comes of it.

use super::frame::record_length;
use super::packed::{LAYOUT, Layout, MOST_DATA, MOST_MORE, NOWHERE, Packed, SLOT, TABLES, Tables, UnpackedData};
use super::sorter::Sorter;
use crate::families::{self, Key, Spec};
use crate::{EventFormat, FieldKind, RawRecord, retold};
use rustc_hash::FxHashMap;

/// Fields that no event is made of and that are other ones in nearly every record.
const CHANGING: [&str; 2] = ["hw_job_count", "arg"];

/// Fields that tell of the thread, beside the one that a spec names. A client is not of them: a context has one alone, and a worker of the
/// scheduler works for all.
const OF_THREAD: [&str; 7] = ["common_pid", "comm", "tgid", "uid", "cgroup", "prev_pid", "prev_comm"];

/// Entries of a table: they are counted in 16 bits.
const MOST_ENTRIES: usize = u16::MAX as usize;

/// Bytes of records up to which room is made behind each of them. Where there are more, a frame of its own begins with one that needs it:
/// a bound on a file's size knows of no more than the record that comes.
const FEW_BYTES: usize = 2 << 10;

/// Packs records.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// By format number.
    layouts: Vec<Option<Layout>>,
    open: Open,
    sorter: Sorter,
}

/// A frame that is being filled.
#[derive(Debug, Default)]
struct Open {
    first_ns: u64,
    last_ns: u64,
    /// Which all times are told from: that of the first record.
    base_ns: u64,
    count: u32,
    stride: usize,
    slots: Vec<u8>,
    /// Whether none of them is earlier than one before it.
    is_in_order: bool,
    /// Formats in use, by their place.
    layouts: Vec<u16>,
    templates: Table,
    threads: Table,
    /// What the records would take as they came.
    plain_bytes: usize,
}

/// Byte strings by their place.
#[derive(Debug, Default)]
struct Table {
    bytes: Vec<u8>,
    /// Where each stands, and the place of its layout.
    entries: Vec<(u16, u32, u16)>,
    /// By their hash. One whose hash is another's already is put in again each time it comes: that costs room and nothing else.
    known: FxHashMap<u64, u16>,
}

impl Table {
    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.known.clear();
    }

    /// The place of a byte string of a layout; none where the table is full.
    #[inline]
    fn place(&mut self, layout: u16, bytes: &[u8]) -> Option<u16> {
        let hash = hash(layout, bytes);
        if let Some(place) = self.known.get(&hash)
            && self.get(*place) == Some((layout, bytes))
        {
            return Some(*place);
        }
        self.add(layout, bytes, hash)
    }

    fn get(&self, place: u16) -> Option<(u16, &[u8])> {
        let (layout, start, length) = *self.entries.get(usize::from(place))?;
        Some((layout, self.bytes.get(start as usize..)?.get(..usize::from(length))?))
    }

    #[cold]
    fn add(&mut self, layout: u16, bytes: &[u8], hash: u64) -> Option<u16> {
        if self.entries.len() >= MOST_ENTRIES {
            return None;
        }
        let place = self.entries.len() as u16;
        self.entries.push((layout, self.bytes.len() as u32, bytes.len() as u16));
        self.bytes.extend_from_slice(bytes);
        self.known.insert(hash, place);
        Some(place)
    }

    /// How long it is in a frame, at most.
    fn length(&self) -> usize {
        self.bytes.len().saturating_add(self.entries.len().saturating_mul(4 + 3))
    }

    /// Puts it behind what is there of the payload, which begins at `start`.
    fn write(&self, payload: &mut Vec<u8>, start: usize) {
        for (layout, at, length) in &self.entries {
            payload.extend_from_slice(&layout.to_le_bytes());
            payload.extend_from_slice(&length.to_le_bytes());
            let bytes = self.bytes.get(*at as usize..).and_then(|rest| rest.get(..usize::from(*length)));
            payload.extend_from_slice(bytes.unwrap_or_default());
            fill(payload, start, 4);
        }
    }
}

/// Puts zeros behind a payload that begins at `start`, up to a whole number of so many bytes.
fn fill(payload: &mut Vec<u8>, start: usize, bytes: usize) {
    let length = payload.len().saturating_sub(start).next_multiple_of(bytes);
    payload.resize(start.saturating_add(length), 0);
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn hash(layout: u16, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let hash = words.iter().fold(u64::from(layout), |hash, word| mix(hash, u64::from_ne_bytes(*word)));
    rest.iter().fold(hash ^ bytes.len() as u64, |hash, byte| mix(hash, u64::from(*byte)))
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is in the open frame.
    Packed,
    /// It has no place in the open frame, and has one in the next.
    Full,
    /// It cannot be packed.
    Not,
}

impl Packer {
    /// Records of this format are to be packed, if it is one that is understood.
    pub(super) fn add_format(&mut self, format: &EventFormat) {
        let at = usize::from(format.id);
        if self.layouts.len() <= at {
            self.layouts.resize(at.saturating_add(1), None);
        }
        if let Some(place) = self.layouts.get_mut(at) {
            *place = layout(format);
        }
    }

    /// Puts a record into the open frame.
    pub(super) fn pack(&mut self, record: RawRecord<'_>) -> Taken {
        let Some((id, layout)) = record.id().and_then(|id| Some((id, *self.layouts.get(usize::from(id))?.as_ref()?)))
        else {
            return Taken::Not;
        };
        self.open.pack(id, &layout, record)
    }

    /// How long the payload is so far, at most.
    pub(super) fn length(&self) -> usize {
        self.open.length().min(self.open.plain_bytes)
    }

    /// Ends the frame, and puts its payload behind what is there already. None where there is no record.
    pub(super) fn close(&mut self, payload: &mut Vec<u8>) -> Option<Closed> {
        let open = &mut self.open;
        if open.count == 0 {
            return None;
        }
        if !open.is_in_order {
            self.sorter.sort(&mut open.slots, open.stride);
        }
        let start = payload.len();
        open.write(payload, &self.layouts);
        let is_packed = payload.len().saturating_sub(start) < open.plain_bytes || !unpack(payload, start, open.count);
        let closed = Closed { is_packed, first_ns: open.first_ns, last_ns: open.last_ns, count: open.count };
        open.clear();
        Some(closed)
    }
}

/// A frame that was ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// Or else its records stand there as they came: few have little in common.
    pub(super) is_packed: bool,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) count: u32,
}

/// Puts the records themselves in the place of a packed payload.
fn unpack(payload: &mut Vec<u8>, start: usize, count: u32) -> bool {
    let packed = payload.split_off(start);
    let plain = Tables::parse(&packed, 0).and_then(|tables| {
        let (mut plain, mut data, frame) = (Vec::new(), UnpackedData::default(), Packed::new(&tables, &packed));
        for record in frame.records(packed.get(tables.records_at()..)?).take(count as usize) {
            super::writer::put_record(&mut plain, frame.unpack(&record, &mut data)?)?;
        }
        Some(plain)
    });
    payload.extend_from_slice(plain.as_ref().unwrap_or(&packed));
    plain.is_some()
}

impl Open {
    fn clear(&mut self) {
        (self.count, self.plain_bytes, self.stride) = (0, 0, SLOT);
        self.slots.clear();
        self.layouts.clear();
        self.templates.clear();
        self.threads.clear();
    }

    fn length(&self) -> usize {
        let tables = self.templates.length().saturating_add(self.threads.length());
        let layouts = self.layouts.len().saturating_mul(LAYOUT);
        TABLES.saturating_add(layouts).saturating_add(tables).saturating_add(self.slots.len())
    }

    fn pack(&mut self, id: u16, layout: &Layout, record: RawRecord<'_>) -> Taken {
        let Some(parts) = Parts::of(layout, record.data) else { return Taken::Not };
        if self.count == 0 {
            self.clear();
            (self.base_ns, self.first_ns, self.last_ns) = (record.at_ns, record.at_ns, record.at_ns);
            self.is_in_order = true;
        }
        let after_ns = record.at_ns.wrapping_sub(self.base_ns).cast_signed();
        let Ok(after_ns) = i32::try_from(after_ns) else { return Taken::Full };
        let more = layout.more();
        let needed = SLOT + 8 * more;
        if needed > self.stride && self.slots.len() > FEW_BYTES {
            return Taken::Full;
        }
        let layout_at = match self.layouts.iter().position(|of| *of == id) {
            Some(at) => at,
            None if self.layouts.len() < MOST_ENTRIES => {
                self.layouts.push(id);
                self.layouts.len().saturating_sub(1)
            }
            None => return Taken::Full,
        };
        let (Some(template), Some(thread)) = (
            self.templates.place(layout_at as u16, parts.template()),
            self.threads.place(layout_at as u16, parts.thread()),
        ) else {
            return Taken::Full;
        };
        if needed > self.stride {
            self.widen(needed);
        }
        let slots = &mut self.slots;
        let end = slots.len().saturating_add(self.stride);
        let mut slot = [0; SLOT];
        let (long, rest) = slot.split_at_mut(8);
        let (times, rest) = rest.split_at_mut(8);
        long.copy_from_slice(&parts.long);
        let [a, b, c, d] = after_ns.to_le_bytes();
        let [e, f, g, h] = parts.short;
        times.copy_from_slice(&[a, b, c, d, e, f, g, h]);
        let numbers = [thread, template.wrapping_add(1), record.cpu, parts.small]
            .into_iter()
            .fold(0_u64, |all, n| all >> 16 | u64::from(n) << 48);
        rest.copy_from_slice(&numbers.to_le_bytes());
        slots.extend_from_slice(&slot);
        for number in parts.more.iter().take(more) {
            slots.extend_from_slice(number);
        }
        slots.resize(end, 0);
        self.count = self.count.saturating_add(1);
        self.is_in_order &= record.at_ns >= self.last_ns;
        self.first_ns = self.first_ns.min(record.at_ns);
        self.last_ns = self.last_ns.max(record.at_ns);
        self.plain_bytes = self.plain_bytes.saturating_add(record_length(record.data.len()));
        Taken::Packed
    }

    /// Makes room behind each slot.
    #[cold]
    fn widen(&mut self, stride: usize) {
        let mut slots = Vec::with_capacity(self.slots.len() / self.stride.max(1) * stride);
        for slot in self.slots.chunks(self.stride.max(1)) {
            let end = slots.len().saturating_add(stride);
            slots.extend_from_slice(slot);
            slots.resize(end, 0);
        }
        (self.slots, self.stride) = (slots, stride);
    }

    fn write(&self, payload: &mut Vec<u8>, layouts: &[Option<Layout>]) {
        let start = payload.len();
        let count = |table: &Table| table.entries.len() as u16;
        payload.extend_from_slice(&self.base_ns.to_le_bytes());
        payload.extend_from_slice(&(self.stride as u16).to_le_bytes());
        payload.extend_from_slice(&(self.layouts.len() as u16).to_le_bytes());
        payload.extend_from_slice(&count(&self.templates).to_le_bytes());
        payload.extend_from_slice(&count(&self.threads).to_le_bytes());
        payload.extend_from_slice(&[0; 8]);
        for id in &self.layouts {
            let layout = layouts.get(usize::from(*id)).copied().flatten();
            payload.extend_from_slice(&layout.unwrap_or(Layout::NONE).to_bytes());
        }
        self.templates.write(payload, start);
        self.threads.write(payload, start);
        fill(payload, start, 8);
        let length = payload.len().saturating_sub(start).saturating_sub(TABLES) as u32;
        if let Some(place) = payload.get_mut(start.saturating_add(16)..start.saturating_add(20)) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        payload.extend_from_slice(&self.slots);
    }
}

/// A record, taken apart.
struct Parts {
    /// Its data with zeros where other parts were.
    data: [u8; MOST_DATA],
    length: usize,
    of_thread: [u8; MOST_DATA],
    thread_length: usize,
    long: [u8; 8],
    more: [[u8; 8]; MOST_MORE],
    short: [u8; 4],
    small: u16,
}

impl Parts {
    /// None of data that this layout does not fit.
    #[inline]
    fn of(layout: &Layout, data: &[u8]) -> Option<Parts> {
        let mut parts = Parts {
            data: [0; MOST_DATA],
            length: data.len(),
            of_thread: [0; MOST_DATA],
            thread_length: 0,
            long: [0; 8],
            more: [[0; 8]; MOST_MORE],
            short: [0; 4],
            small: 0,
        };
        parts.data.get_mut(..data.len())?.copy_from_slice(data);
        fn number<const N: usize>(data: &[u8], at: u16) -> Option<[u8; N]> {
            if at == NOWHERE { Some([0; N]) } else { data.get(usize::from(at)..)?.first_chunk().copied() }
        }
        parts.long = number(data, layout.long)?;
        parts.short = number(data, layout.short)?;
        parts.small = u16::try_from(u32::from_ne_bytes(number(data, layout.small)?)).ok()?;
        for (place, at) in parts.more.iter_mut().zip(layout.more) {
            *place = number(data, at)?;
        }
        for (at, length) in layout.thread {
            let (at, length) = (usize::from(at), usize::from(length));
            let from = data.get(at..)?.get(..length)?;
            let to = parts.thread_length;
            parts.of_thread.get_mut(to..to.saturating_add(length))?.copy_from_slice(from);
            parts.thread_length = to.saturating_add(length);
        }
        for (at, length) in layout.left_out() {
            parts.data.get_mut(usize::from(at)..)?.get_mut(..usize::from(length))?.fill(0);
        }
        Some(parts)
    }

    fn template(&self) -> &[u8] {
        self.data.get(..self.length).unwrap_or_default()
    }

    fn thread(&self) -> &[u8] {
        self.of_thread.get(..self.thread_length).unwrap_or_default()
    }
}

/// Where the numbers stand that differ from record to record; none for a format that is not understood: nothing tells which they are.
fn layout(format: &EventFormat) -> Option<Layout> {
    let spec = match format.system.as_str() {
        retold::SYSTEM => retold::find(format)?.2,
        system => families::find(system, &format.name)?.1,
    };
    let mut layout = Layout::NONE;
    let mut more = layout.more.iter_mut();
    let (mut long, mut small) = (Some(&mut layout.long), Some(&mut layout.small));
    let mut short = Some(&mut layout.short);
    for name in changing(spec) {
        let Some(field) = format.field(name).filter(|field| field.kind == FieldKind::Number) else { continue };
        let place = match field.size {
            8 => long.take().or_else(|| more.next()),
            4 => short.take().or_else(|| small.take()),
            _ => None,
        };
        if let Some(place) = place {
            *place = field.offset;
        }
    }
    let of_thread = OF_THREAD.into_iter().chain(spec.tid);
    let fields = of_thread.filter_map(|name| format.field(name));
    let fields = fields.filter(|field| matches!(field.kind, FieldKind::Number | FieldKind::Array));
    let mut ranges = layout.thread.iter_mut();
    for field in fields {
        if let Some(place) = ranges.next() {
            *place = (field.offset, field.size);
        }
    }
    layout.fits(MOST_DATA).then_some(layout)
}

/// Fields of numbers that are other ones in nearly every record, those of the job first.
fn changing(spec: &Spec) -> impl Iterator<Item = &'static str> {
    let (first, others): (Option<&str>, &'static [&str]) = match spec.key {
        Key::None => (None, &[]),
        Key::Fence(_, seqno) | Key::ShortFence(_, seqno) => (Some(seqno), &[]),
        Key::Counted(names) => (None, names),
        Key::Address(number, _) | Key::NumberInRing(number) => (Some(number), &[]),
    };
    let second = match spec.key {
        Key::Address(_, number) => number,
        _ => None,
    };
    let other = spec.other.map(|(_, seqno)| seqno);
    first.into_iter().chain(others.iter().copied()).chain(second).chain(other).chain(spec.value).chain(CHANGING)
}
