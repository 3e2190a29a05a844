//! A page of the ring buffer and its records.
//!
//! Source: `struct ring_buffer_event` (include/linux/ring_buffer.h) and `ring_buffer_read_page` (kernel/trace/ring_buffer.c), the same
//! in Linux 6.1, 6.12 and 7.2.

use super::PageLayout;

/// Flags in the upper bits of `commit`. They are added to a long as signed numbers of 32 bits, so that all bits above are set with them:
/// the lower half is what counts.
const MISSED: u32 = 1 << 31;
const MISSED_STORED: u32 = 1 << 30;

/// `RINGBUF_TYPE_*`. Types below are data: the length in words, or 0 where it stands in a word of its own.
pub(super) const PADDING: u32 = 29;
pub(super) const TIME_EXTEND: u32 = 30;
pub(super) const TIME_STAMP: u32 = 31;

/// Bits that an absolute time has not (`TS_MSB`): those of the time before it.
const STAMP_MISSES: u64 = 0xf8 << 56;

/// Events that were overwritten between the page before and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// None.
    None,
    /// So many.
    Events(u64),
    /// Some: the page had no room left for their number.
    Some,
}

/// Why there are no more records in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of them were given.
    Whole,
    /// The bytes end here, counted from the page's beginning, before the page does.
    Cut(usize),
    /// What stands here, counted from the page's beginning, is no record.
    Broken(usize),
}

/// A page, or the part of one that is there.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    begin_ns: u64,
    missed: Missed,
    /// Records, as far as they are there.
    body: &'a [u8],
    data: usize,
    is_cut: bool,
}

/// A record as it stands in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRecord<'a> {
    /// On the clock of the trace.
    pub at: u64,
    /// From `common_type` on.
    pub data: &'a [u8],
}

impl<'a> Page<'a> {
    /// The page that these bytes begin with. None where not even its head is there.
    pub fn new(layout: &PageLayout, bytes: &'a [u8]) -> Option<Page<'a>> {
        let begin_ns = u64::from_ne_bytes(*bytes.get(layout.time..)?.first_chunk()?);
        let commit = u64::from_ne_bytes(*bytes.get(layout.commit..)?.first_chunk()?) as u32;
        let bytes = bytes.get(..layout.size).unwrap_or(bytes);
        let after_head = bytes.get(layout.data..)?;
        let length = (commit & !(MISSED | MISSED_STORED)) as usize;
        let missed = match (commit & MISSED != 0, commit & MISSED_STORED != 0) {
            (false, _) => Missed::None,
            (true, false) => Missed::Some,
            (true, true) => match after_head.get(length..).and_then(|rest| rest.first_chunk()) {
                Some(count) => Missed::Events(u64::from_ne_bytes(*count)),
                None => Missed::Some,
            },
        };
        let body = after_head.get(..length).unwrap_or(after_head);
        Some(Page { begin_ns, missed, body, data: layout.data, is_cut: length > after_head.len() })
    }

    /// Time at which it begins, on the clock of the trace: no record of it is earlier.
    pub fn begin_ns(&self) -> u64 {
        self.begin_ns
    }

    /// What was lost before it.
    pub fn missed(&self) -> Missed {
        self.missed
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Its records.
    pub fn records(&self) -> Records<'a> {
        Records { body: self.body, at: 0, now: self.begin_ns, end: None, data: self.data, is_cut: self.is_cut }
    }
}

/// Records of a page, in order of time.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    at: usize,
    now: u64,
    end: Option<End>,
    data: usize,
    is_cut: bool,
}

impl<'a> Records<'a> {
    /// Why there are no more. None while there may be some.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Where in the page the next record stands.
    pub fn position(&self) -> usize {
        self.data.saturating_add(self.at)
    }

    /// No record can be read where it should stand.
    #[cold]
    fn stop(&mut self, is_short: bool) -> Option<PageRecord<'a>> {
        let place = self.data.saturating_add(self.at);
        self.end = Some(if is_short && self.is_cut { End::Cut(place) } else { End::Broken(place) });
        self.body = &[];
        self.at = 0;
        None
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = PageRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<PageRecord<'a>> {
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            let Some((head, rest)) = rest.split_first_chunk() else {
                if self.end.is_none() {
                    if !rest.is_empty() || self.is_cut {
                        return self.stop(true);
                    }
                    self.end = Some(End::Whole);
                }
                return None;
            };
            let head = u32::from_ne_bytes(*head);
            let (kind, delta) = (head & 31, u64::from(head >> 5));
            // Its data, where the length stands in the type.
            if kind.wrapping_sub(1) < PADDING - 1 {
                let length = (kind as usize) << 2;
                let Some(data) = rest.get(..length) else { return self.stop(true) };
                self.at = self.at.wrapping_add(length).wrapping_add(4);
                self.now = self.now.wrapping_add(delta);
                return Some(PageRecord { at: self.now, data });
            }
            if kind == PADDING && delta == 0 {
                // To the end of the page.
                self.at = self.body.len();
                self.end = Some(End::Whole);
                return None;
            }
            let Some((word, rest)) = rest.split_first_chunk() else { return self.stop(true) };
            let word = u32::from_ne_bytes(*word);
            match kind {
                TIME_EXTEND => {
                    self.now = self.now.wrapping_add(u64::from(word) << 27 | delta);
                    self.at = self.at.wrapping_add(8);
                }
                TIME_STAMP => {
                    self.now = self.now & STAMP_MISSES | u64::from(word) << 27 | delta;
                    self.at = self.at.wrapping_add(8);
                }
                kind => {
                    // The length counts its own word.
                    let Some(length) = (word as usize).checked_sub(4) else { return self.stop(false) };
                    let Some(data) = rest.get(..length) else { return self.stop(true) };
                    self.at = self.at.wrapping_add(length).wrapping_add(8);
                    if kind != PADDING {
                        self.now = self.now.wrapping_add(delta);
                        return Some(PageRecord { at: self.now, data });
                    }
                    // A record that was taken back behind which others stood already: they count from it. The kernel writes 1 where
                    // it had no time of its own (`rb_event_discard`, `check_buffer`).
                    if delta != 1 {
                        self.now = self.now.wrapping_add(delta);
                    }
                }
            }
        }
    }
}
