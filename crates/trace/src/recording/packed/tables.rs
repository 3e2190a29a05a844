//! What stands ahead of a frame's records, and how one of them lies.

use super::super::frame::at;
use super::layout::{LAYOUT, Layout};
use super::{MOST_DATA, MOST_MORE, SLOT, TABLES};

/// One entry of a table: by which layout its bytes lie, and where they stand in the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) layout: u16,
    pub(super) start: u32,
    pub(super) length: u16,
}

/// What stands ahead of a frame's records.
#[derive(Debug)]
pub(in super::super) struct Tables {
    pub(super) base_ns: u64,
    pub(super) stride: usize,
    /// Where the first record stands in the payload.
    records_at: usize,
    pub(super) layouts: Vec<Layout>,
    /// A number of each layout that differs where the layouts do.
    pub(super) layout_hashes: Vec<u64>,
    pub(super) templates: Vec<Entry>,
    pub(super) threads: Vec<Entry>,
    /// A template of each layout, by its place.
    pub(super) of_layouts: Vec<Option<u16>>,
    /// Tells the frame from all others that are read.
    pub(super) number: u64,
}

impl Tables {
    /// None where they are not whole, or say what cannot be.
    pub(in super::super) fn parse(payload: &[u8], number: u64) -> Option<Tables> {
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
            let layout = layouts.get(usize::from(entry.layout));
            layout.is_some_and(|layout| layout.fits(usize::from(entry.length)))
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

    pub(in super::super) fn stride(&self) -> usize {
        self.stride
    }

    /// Where the first record stands in the payload.
    pub(in super::super) fn records_at(&self) -> usize {
        self.records_at
    }

    /// Of records in order of time, the bytes of those that are not later than that, and how many they are.
    pub(in super::super) fn until<'a>(&self, bytes: &'a [u8], until_ns: u64) -> (&'a [u8], usize) {
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

    /// Of so many records that fill these bytes, the time of the last one, if they are in order of time, none of them before that moment, and
    /// refer to what is there: as they nearly always are, and looked at without a choice in between.
    pub(in super::super) fn last_in_order(&self, bytes: &[u8], count: usize, from_ns: u64) -> Option<u64> {
        if count == 0 || count.checked_mul(self.stride) != Some(bytes.len()) {
            return None;
        }
        let (mut are_in_order, mut last_after_ns, mut last) = (true, i32::MIN, None);
        for record in bytes.chunks_exact(self.stride) {
            let slot = Slot::parse(record)?;
            are_in_order &= slot.after_ns >= last_after_ns;
            are_in_order &= usize::from(slot.template) < self.templates.len();
            are_in_order &= usize::from(slot.thread) < self.threads.len();
            last_after_ns = slot.after_ns;
            last = Some(slot);
        }
        let (first_ns, last_ns) = (self.at_ns(&Slot::parse(bytes)?), self.at_ns(&last?));
        // A frame is no longer than the numbers reach: where they went around, its records are looked at one by one.
        (are_in_order && first_ns >= from_ns && last_ns >= first_ns).then_some(last_ns)
    }

    /// The time of the record that stands here, and how far it is to the next one. None where it refers to what is not there.
    #[inline(always)]
    pub(in super::super) fn time_and_length(&self, bytes: &[u8]) -> Option<(u64, usize)> {
        let slot = Slot::parse(bytes)?;
        let is_known =
            usize::from(slot.template) < self.templates.len() && usize::from(slot.thread) < self.threads.len();
        is_known.then_some((self.at_ns(&slot), self.stride))
    }
}

/// A record's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) long: u64,
    pub(super) after_ns: i32,
    pub(super) short: u32,
    pub(super) thread: u16,
    pub(super) template: u16,
    pub(super) cpu: u16,
    pub(super) small: u16,
}

impl Slot {
    #[inline(always)]
    pub(super) fn parse(bytes: &[u8]) -> Option<Slot> {
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
