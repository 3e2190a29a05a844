//! Packed records: what records of one frame have in common stands once, and what is left of each is 24 bytes.
//!
//! Of a record of a job, the names of ring and device, the numbers of its context and of its client are those of thousands of others: a
//! *template*. So is what it says of its thread. What is left are a sequence number, a count, time and processor. A frame is complete
//! by itself, so that one may be passed over or be damaged without loss to the next, and each record comes back byte by byte.

use super::frame::at;
use crate::RawRecord;

/// Longest data of a record that is packed.
pub(super) const MOST_DATA: usize = 256;

/// Bytes of a record, without further numbers.
pub(super) const SLOT: usize = 24;

/// What stands before the tables: first time, length of a slot, numbers of layouts, templates and threads, length of the tables.
pub(super) const TABLES: usize = 24;

/// Numbers of eight bytes that a record may have beside the first.
pub(super) const MOST_MORE: usize = 4;

/// Ranges in which a record speaks of its thread.
pub(super) const MOST_RANGES: usize = 8;

/// In the place of an offset: the records have no such number.
pub(super) const NOWHERE: u16 = u16::MAX;

/// Where the numbers stand in data that differ from record to record. Their places in a slot are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of eight bytes, in the slot and behind it.
    pub(super) long: u16,
    pub(super) more: [u16; MOST_MORE],
    /// Of four bytes.
    pub(super) short: u16,
    /// Of four bytes of which the upper two are 0.
    pub(super) small: u16,
    /// Where the bytes stand that tell of the thread: offset and length.
    pub(super) thread: [(u16, u16); MOST_RANGES],
}

/// Length of a layout in a frame.
pub(super) const LAYOUT: usize = 2 * (3 + MOST_MORE + 2 * MOST_RANGES) + 2;

const _: () = assert!(LAYOUT.is_multiple_of(8));

impl Layout {
    /// Of records without any such number.
    pub(super) const NONE: Layout = Layout {
        long: NOWHERE,
        more: [NOWHERE; MOST_MORE],
        short: NOWHERE,
        small: NOWHERE,
        thread: [(0, 0); MOST_RANGES],
    };

    pub(super) fn to_bytes(self) -> [u8; LAYOUT] {
        let ranges = self.thread.into_iter().flat_map(|(at, length)| [at, length]);
        let all = [self.long].into_iter().chain(self.more).chain([self.short, self.small]).chain(ranges);
        let mut bytes = [0; LAYOUT];
        for (place, number) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(all) {
            *place = number.to_le_bytes();
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Layout> {
        let number = |i: usize| at(bytes, 2 * i).map(u16::from_le_bytes);
        let mut layout = Layout { long: number(0)?, ..Layout::NONE };
        for (i, place) in layout.more.iter_mut().enumerate() {
            *place = number(1 + i)?;
        }
        (layout.short, layout.small) = (number(1 + MOST_MORE)?, number(2 + MOST_MORE)?);
        for (i, place) in layout.thread.iter_mut().enumerate() {
            *place = (number(3 + MOST_MORE + 2 * i)?, number(4 + MOST_MORE + 2 * i)?);
        }
        Some(layout)
    }

    fn hash(&self) -> u64 {
        let bytes = self.to_bytes();
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        words.fold(0, |all, word| (all.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// How many numbers stand behind the slot.
    pub(super) fn more(&self) -> usize {
        self.more.iter().take_while(|place| **place != NOWHERE).count()
    }

    /// Offset and length of all that is not in a template.
    pub(super) fn left_out(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let numbers = [(self.long, 8), (self.short, 4), (self.small, 4)];
        let more = self.more.iter().map(|at| (*at, 8));
        numbers.into_iter().chain(more).filter(|(at, _)| *at != NOWHERE).chain(self.thread.iter().copied())
    }
}

/// One entry of a table: by which layout its bytes lie, and where they stand in the payload.
#[derive(Clone, Copy, Debug)]
struct Entry {
    layout: u16,
    start: u32,
    length: u16,
}

/// What stands ahead of a frame's records.
#[derive(Debug)]
pub(super) struct Tables {
    base_ns: u64,
    stride: usize,
    /// Where the first record stands in the payload.
    records_at: usize,
    layouts: Vec<Layout>,
    /// A number of each layout that differs where the layouts do.
    layout_hashes: Vec<u64>,
    templates: Vec<Entry>,
    threads: Vec<Entry>,
    /// A template of each layout, by its place.
    of_layouts: Vec<Option<u16>>,
    /// Tells the frame from all others that are read.
    number: u64,
}

impl Tables {
    /// None where they are not whole, or say what cannot be.
    pub(super) fn parse(payload: &[u8], number: u64) -> Option<Tables> {
        let short = |offset: usize| at(payload, offset).map(u16::from_le_bytes);
        let base_ns = u64::from_le_bytes(at(payload, 0)?);
        let stride = usize::from(short(8)?);
        let [layouts, templates, threads] = [short(10)?, short(12)?, short(14)?];
        let length = u32::from_le_bytes(at(payload, 16)?) as usize;
        let records_at = TABLES.checked_add(length)?;
        let tables = payload.get(..records_at)?;
        if !(SLOT..=SLOT + 8 * MOST_MORE).contains(&stride) || !stride.is_multiple_of(8) {
            return None;
        }
        let mut offset = TABLES;
        let layouts = (0..layouts).map(|_| {
            let layout = Layout::parse(tables.get(offset..)?.get(..LAYOUT)?)?;
            offset = offset.saturating_add(LAYOUT);
            Some(layout)
        });
        let layouts = layouts.collect::<Option<Vec<_>>>()?;
        let mut entry = || {
            let layout = u16::from_le_bytes(at(tables, offset)?);
            let length = u16::from_le_bytes(at(tables, offset.saturating_add(2))?);
            let start = offset.saturating_add(4);
            offset = start.saturating_add(usize::from(length)).next_multiple_of(4);
            let is_known = usize::from(layout) < layouts.len() && usize::from(length) <= MOST_DATA;
            (is_known && offset <= tables.len()).then_some(Entry { layout, start: start as u32, length })
        };
        let templates = (0..templates).map(|_| entry()).collect::<Option<Vec<_>>>()?;
        let threads = (0..threads).map(|_| entry()).collect::<Option<Vec<_>>>()?;
        let fits = |entry: &Entry| {
            layouts.get(usize::from(entry.layout)).is_some_and(|layout| {
                layout.left_out().all(|(at, length)| u32::from(at) + u32::from(length) <= u32::from(entry.length))
            })
        };
        if !templates.iter().all(fits) {
            return None;
        }
        let mut of_layouts = vec![None; layouts.len()];
        for (place, template) in (0..).zip(&templates) {
            if let Some(first) = of_layouts.get_mut(usize::from(template.layout)) {
                first.get_or_insert(place);
            }
        }
        let layout_hashes = layouts.iter().map(Layout::hash).collect();
        Some(Tables { base_ns, stride, records_at, layouts, layout_hashes, templates, threads, of_layouts, number })
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Where the first record stands in the payload.
    pub(super) fn records_at(&self) -> usize {
        self.records_at
    }

    /// Of records in order of time, the bytes of those that are not later than that, and how many they are.
    pub(super) fn until<'a>(&self, bytes: &'a [u8], until_ns: u64) -> (&'a [u8], usize) {
        let is_now = |at: usize| {
            let slot = bytes.get(at.saturating_mul(self.stride)..).and_then(Slot::parse);
            slot.is_some_and(|slot| self.at_ns(&slot) <= until_ns)
        };
        let (mut low, mut high) = (0, bytes.len() / self.stride);
        if high.checked_sub(1).is_some_and(is_now) {
            low = high;
        }
        while low < high {
            let middle = low.midpoint(high);
            if is_now(middle) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        (bytes.get(..low.saturating_mul(self.stride)).unwrap_or_default(), low)
    }

    #[inline(always)]
    fn at_ns(&self, slot: &Slot) -> u64 {
        self.base_ns.wrapping_add_signed(slot.after_ns.into())
    }

    /// The time of the record that stands here, and how far it is to the next one. None where it refers to what is not there.
    #[inline(always)]
    pub(super) fn time_and_length(&self, bytes: &[u8]) -> Option<(u64, usize)> {
        let slot = Slot::parse(bytes)?;
        let is_known =
            usize::from(slot.template) < self.templates.len() && usize::from(slot.thread) < self.threads.len();
        is_known.then_some((self.at_ns(&slot), self.stride))
    }
}

/// What a frame of packed records has in common.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    tables: &'a Tables,
    payload: &'a [u8],
}

/// What is left of a record.
#[derive(Clone, Copy, Debug)]
pub struct PackedRecord<'a> {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub at_ns: u64,
    /// The processor.
    pub cpu: u16,
    /// Place of its template, below [`Packed::templates`].
    pub template: u16,
    /// Place of its thread, below [`Packed::threads`].
    pub thread: u16,
    /// The first number of eight bytes that differs from record to record, and the first of four: those of [`PackedTemplate`].
    pub long: u64,
    /// See there.
    pub short: u32,
    small: u16,
    more: &'a [u8],
}

/// Data that records have in common, with zeros where they differ.
#[derive(Clone, Copy, Debug)]
pub struct PackedTemplate<'a> {
    /// The data.
    pub data: &'a [u8],
    /// Where [`PackedRecord::long`] belongs.
    pub long: Option<u16>,
    /// Where [`PackedRecord::short`] belongs.
    pub short: Option<u16>,
    layout: &'a Layout,
    hash: u64,
    place: u16,
}

impl PackedTemplate<'_> {
    /// A number that differs where templates have other parts left out.
    pub fn layout(&self) -> u64 {
        self.hash
    }

    /// Place of its layout, below [`Packed::layouts`]: templates of one layout have the same parts left out.
    pub fn layout_place(&self) -> usize {
        self.place.into()
    }

    /// Whether all of these bytes, by offset and length, are what records say of their thread.
    pub fn is_of_thread(&self, (offset, length): (u16, u16)) -> bool {
        let is_in = |(at, of): &(u16, u16)| {
            *at <= offset && u32::from(offset) + u32::from(length) <= u32::from(*at) + u32::from(*of)
        };
        self.layout.thread.iter().any(is_in)
    }

    /// Whether none of these bytes is left out: they are the same in all records.
    pub fn is_common(&self, (offset, length): (u16, u16)) -> bool {
        let is_beside = |(at, of): (u16, u16)| {
            of == 0
                || u32::from(offset) + u32::from(length) <= u32::from(at)
                || u32::from(at) + u32::from(of) <= u32::from(offset)
        };
        self.layout.left_out().all(is_beside)
    }
}

/// What records of one format say of a thread.
#[derive(Clone, Copy, Debug)]
pub struct PackedThread<'a> {
    /// The format's number.
    pub format: u16,
    /// The ranges that tell of the thread, one behind the other.
    pub bytes: &'a [u8],
    length: usize,
    layout: &'a Layout,
    hash: u64,
}

impl PackedThread<'_> {
    /// A number that differs where they stand elsewhere.
    pub fn ranges(&self) -> u64 {
        self.hash
    }

    /// The same, as a record that says nothing else: its format, and zeros.
    pub fn unpack<'d>(&self, data: &'d mut UnpackedData) -> Option<&'d [u8]> {
        data.length = self.length;
        data.bytes.get_mut(..data.length)?.fill(0);
        data.put(0, &self.format.to_ne_bytes());
        data.put_ranges(self.layout, self.bytes);
        Some(data.bytes())
    }
}

/// A record's bytes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    long: u64,
    after_ns: i32,
    short: u32,
    thread: u16,
    template: u16,
    cpu: u16,
    small: u16,
}

impl Slot {
    #[inline(always)]
    fn parse(bytes: &[u8]) -> Option<Slot> {
        let bytes: &[u8; SLOT] = bytes.first_chunk()?;
        let (long, rest) = bytes.split_first_chunk()?;
        let (after_ns, rest) = rest.split_first_chunk()?;
        let (short, rest) = rest.split_first_chunk()?;
        let (thread, rest) = rest.split_first_chunk()?;
        let (template, rest) = rest.split_first_chunk()?;
        let (cpu, rest) = rest.split_first_chunk()?;
        let (small, _) = rest.split_first_chunk()?;
        Some(Slot {
            // As they stand in data, which has the byte order of the machine.
            long: u64::from_ne_bytes(*long),
            short: u32::from_ne_bytes(*short),
            after_ns: i32::from_le_bytes(*after_ns),
            thread: u16::from_le_bytes(*thread),
            // From 1, so that zeros are no record: a file system may leave them where the end of a file was to be.
            template: u16::from_le_bytes(*template).wrapping_sub(1),
            cpu: u16::from_le_bytes(*cpu),
            small: u16::from_le_bytes(*small),
        })
    }
}

/// Records of a frame that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct PackedRecords<'a> {
    bytes: &'a [u8],
    base_ns: u64,
    stride: usize,
}

impl<'a> PackedRecords<'a> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.stride.max(1)
    }

    /// Of records in order of time, those that are not outside of these two.
    pub(super) fn within(mut self, from_ns: u64, to_ns: u64) -> PackedRecords<'a> {
        let mut rest = self;
        while rest.next().is_some_and(|record| record.at_ns < from_ns) {
            self = rest;
        }
        let (mut last, mut length) = (self, 0);
        while last.next().is_some_and(|record| record.at_ns <= to_ns) {
            length = self.bytes.len().saturating_sub(last.bytes.len());
        }
        self.bytes = self.bytes.get(..length).unwrap_or_default();
        self
    }
}

impl<'a> Iterator for PackedRecords<'a> {
    type Item = PackedRecord<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<PackedRecord<'a>> {
        let slot = Slot::parse(self.bytes)?;
        let (record, rest) = self.bytes.split_at_checked(self.stride)?;
        self.bytes = rest;
        Some(PackedRecord {
            at_ns: self.base_ns.wrapping_add_signed(slot.after_ns.into()),
            cpu: slot.cpu,
            template: slot.template,
            thread: slot.thread,
            long: slot.long,
            short: slot.short,
            small: slot.small,
            more: record.get(SLOT..).unwrap_or_default(),
        })
    }
}

impl<'a> Packed<'a> {
    pub(super) fn new(tables: &'a Tables, payload: &'a [u8]) -> Packed<'a> {
        Packed { tables, payload }
    }

    /// Those that stand in these bytes.
    pub(super) fn records(&self, bytes: &'a [u8]) -> PackedRecords<'a> {
        PackedRecords { bytes, base_ns: self.tables.base_ns, stride: self.tables.stride }
    }

    /// A number that no other frame has which the same reader gives.
    pub fn number(&self) -> u64 {
        self.tables.number
    }

    /// How many templates there are.
    pub fn templates(&self) -> usize {
        self.tables.templates.len()
    }

    /// How many layouts there are.
    pub fn layouts(&self) -> usize {
        self.tables.layouts.len()
    }

    /// How many threads there are. One that spoke in records of different layouts stands there for each of them.
    pub fn threads(&self) -> usize {
        self.tables.threads.len()
    }

    /// A template.
    pub fn template(&self, place: usize) -> Option<PackedTemplate<'a>> {
        let entry = self.tables.templates.get(place)?;
        let (layout, data) = self.entry(entry)?;
        let offset = |at: u16| (at != NOWHERE).then_some(at);
        Some(PackedTemplate {
            data,
            long: offset(layout.long),
            short: offset(layout.short),
            layout,
            hash: self.layout_hash(entry),
            place: entry.layout,
        })
    }

    /// What records say of a thread.
    pub fn thread(&self, place: usize) -> Option<PackedThread<'a>> {
        let entry = self.tables.threads.get(place)?;
        let (layout, bytes) = self.entry(entry)?;
        // Any template of the layout tells the format; there is one, or no record is of this thread.
        let template = (*self.tables.of_layouts.get(usize::from(entry.layout))?)?;
        let (_, template) = self.entry(self.tables.templates.get(usize::from(template))?)?;
        Some(PackedThread {
            format: u16::from_ne_bytes(*template.first_chunk()?),
            bytes,
            length: template.len(),
            layout,
            hash: self.layout_hash(entry),
        })
    }

    fn layout_hash(&self, entry: &Entry) -> u64 {
        self.tables.layout_hashes.get(usize::from(entry.layout)).copied().unwrap_or(0)
    }

    fn entry(&self, entry: &Entry) -> Option<(&'a Layout, &'a [u8])> {
        let bytes = self.payload.get(entry.start as usize..)?.get(..usize::from(entry.length))?;
        Some((self.tables.layouts.get(usize::from(entry.layout))?, bytes))
    }

    /// A record as it was before.
    pub fn unpack<'d>(&self, record: &PackedRecord<'_>, data: &'d mut UnpackedData) -> Option<RawRecord<'d>> {
        let (layout, template) = self.entry(self.tables.templates.get(usize::from(record.template))?)?;
        let (_, thread) = self.entry(self.tables.threads.get(usize::from(record.thread))?)?;
        data.length = template.len();
        data.put(0, template);
        data.put_ranges(layout, thread);
        data.put_number(layout.long, &record.long.to_ne_bytes());
        data.put_number(layout.short, &record.short.to_ne_bytes());
        data.put_number(layout.small, &u32::from(record.small).to_ne_bytes());
        for (place, number) in layout.more.iter().zip(record.more.as_chunks::<8>().0) {
            data.put_number(*place, number);
        }
        Some(RawRecord { at_ns: record.at_ns, cpu: record.cpu, data: data.bytes() })
    }
}

/// Room for a record's data, to be put together again.
#[derive(Clone, Debug)]
pub struct UnpackedData {
    bytes: [u8; MOST_DATA],
    length: usize,
}

impl Default for UnpackedData {
    fn default() -> Self {
        UnpackedData { bytes: [0; MOST_DATA], length: 0 }
    }
}

impl UnpackedData {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn put(&mut self, at: usize, from: &[u8]) {
        if let Some(to) = self.bytes.get_mut(at..).and_then(|to| to.get_mut(..from.len())) {
            to.copy_from_slice(from);
        }
    }

    fn put_number(&mut self, at: u16, from: &[u8]) {
        if at != NOWHERE {
            self.put(usize::from(at), from);
        }
    }

    fn put_ranges(&mut self, layout: &Layout, mut bytes: &[u8]) {
        for (at, length) in layout.thread.iter().filter(|(_, length)| *length > 0) {
            let (here, rest) = bytes.split_at(bytes.len().min(usize::from(*length)));
            self.put(usize::from(*at), here);
            bytes = rest;
        }
    }
}
