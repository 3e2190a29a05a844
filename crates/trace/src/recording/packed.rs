//! Packed records: what records of one frame have in common stands once, and what is left of each is 24 bytes.
//!
//! Of a record of a job, the names of ring and device, the numbers of its context and of its client are those of thousands of others: a
//! *template*. So is what it says of its thread. What is left are a sequence number, a count, time and processor. A frame is complete
//! by itself, so that one may be passed over or be damaged without loss to the next, and each record comes back byte by byte.

mod layout;
mod tables;
mod unpacked;

use crate::RawRecord;
pub(super) use layout::{LAYOUT, Layout, MOST_MORE, NOWHERE};
pub(super) use tables::Tables;
use tables::{Entry, Slot};
pub use unpacked::UnpackedData;

/// Longest data of a record that is packed.
pub(super) const MOST_DATA: usize = 256;

/// Bytes of a record, without further numbers.
pub(super) const SLOT: usize = 24;
/// Where its time stands in them: 4 bytes.
pub(super) const AFTER_NS: usize = 8;

/// What stands before the tables: first time, length of a slot, numbers of layouts, templates and threads, length of the tables.
pub(super) const TABLES: usize = 24;

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

    /// Whether no record of the frame follows these.
    pub fn is_end_of(&self, records: &PackedRecords<'_>) -> bool {
        records.bytes.as_ptr_range().end == self.payload.as_ptr_range().end
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
