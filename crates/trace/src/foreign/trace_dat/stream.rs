//! The pages of all processors, merged by time.

use super::Lost;
use super::head::{CpuData, Head};
use super::pack::Packing;
use crate::RawRecord;
use crate::foreign::cursor::{Cursor, Stop};
use crate::foreign::{Fault, ReadAt};
use crate::ftrace::{End, Missed, Page, PageLayout};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// What all processors have left.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// Time of the next record of each stream that has one.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    /// The stream that gave the last record.
    given: Option<usize>,
    packing: Option<Packing>,
    tsc: Option<(u32, u32)>,
    lost: Lost,
}

/// The pages of one processor.
#[derive(Debug)]
struct Stream {
    buffer: usize,
    cpu: u16,
    layout: PageLayout,
    is_tsc: bool,
    at: u64,
    end: u64,
    /// Chunks that are left, where they are packed.
    chunks: Option<u32>,
    /// Bytes read, and which of them are pages to come.
    bytes: Vec<u8>,
    pages: Range<usize>,
    /// Records of the current page, by their place in `bytes`, last first.
    records: Vec<(u64, Range<usize>)>,
    /// The place of `bytes` in the file.
    bytes_at: u64,
}

impl Streams {
    pub(super) fn new(source: &dyn ReadAt, packing: Packing, head: &mut Head) -> Streams {
        let mut all = Streams { packing: Some(packing), tsc: head.tsc, ..Streams::default() };
        let mut faults = std::mem::take(&mut head.faults);
        for (buffer, place) in head.buffers.iter().enumerate() {
            if place.data.iter().all(|data| data.size == 0) {
                continue;
            }
            let layout = head.layout.and_then(|layout| layout.with_size(place.page_size as usize));
            let Some(layout) = layout else {
                let what = "records of which the layout of pages is not known".to_string();
                faults.push(Fault { at: place.data.first().map_or(0, |data| data.at), is_cut: false, what });
                continue;
            };
            let is_tsc = matches!(place.clock.as_deref(), Some("x86-tsc" | "tsc2nsec"));
            for data in place.data.iter().filter(|data| data.size > 0) {
                all.streams.push(Stream::new(source, data, buffer, layout, is_tsc, &mut faults));
            }
        }
        for number in 0..all.streams.len() {
            all.put_back(number, source, &mut faults);
        }
        head.faults = faults;
        all
    }

    pub(super) fn lost(&self) -> Lost {
        self.lost
    }

    /// Puts a stream where its next record stands in time.
    fn put_back(&mut self, number: usize, source: &dyn ReadAt, faults: &mut Vec<Fault>) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        while stream.records.is_empty() && stream.page(source, self.packing, &mut self.lost, faults) {}
        if let Some((at, _)) = stream.records.last() {
            self.next.push(Reverse((*at, number)));
        }
    }

    pub(super) fn next(&mut self, source: &dyn ReadAt, faults: &mut Vec<Fault>) -> Option<(usize, RawRecord<'_>)> {
        if let Some(number) = self.given.take() {
            self.put_back(number, source, faults);
        }
        let Reverse((at, number)) = self.next.pop()?;
        self.given = Some(number);
        let tsc = self.tsc;
        let stream = self.streams.get_mut(number)?;
        let (_, place) = stream.records.pop()?;
        let at_ns = match tsc.filter(|_| stream.is_tsc) {
            // `mul_u64_u32_shr`.
            Some((mult, shift)) => (u128::from(at).wrapping_mul(mult.into()) >> shift) as u64,
            None => at,
        };
        Some((stream.buffer, RawRecord { at_ns, cpu: stream.cpu, data: stream.bytes.get(place)? }))
    }
}

impl Stream {
    fn new(
        source: &dyn ReadAt,
        data: &CpuData,
        buffer: usize,
        layout: PageLayout,
        is_tsc: bool,
        faults: &mut Vec<Fault>,
    ) -> Stream {
        let CpuData { cpu, mut at, size, is_packed } = *data;
        let mut end = at.saturating_add(size);
        let mut chunks = None;
        if is_packed {
            match Cursor::new(source, at).u32() {
                Ok(count) => chunks = Some(count),
                Err(stop) => {
                    faults.push(Fault { what: format!("records of processor {cpu}"), ..Fault::from(stop) });
                    end = at;
                }
            }
            at = at.saturating_add(4);
        }
        if end > source.size() {
            let what = format!("records of processor {cpu}");
            faults.push(Fault { at: source.size(), is_cut: true, what });
            end = source.size();
        }
        let cpu = u16::try_from(cpu).unwrap_or(u16::MAX);
        let (bytes, pages, records) = (Vec::new(), 0..0, Vec::new());
        Stream { buffer, cpu, layout, is_tsc, at, end, chunks, bytes, pages, records, bytes_at: at }
    }

    /// Goes to the next page. False after the last one.
    fn page(
        &mut self,
        source: &dyn ReadAt,
        packing: Option<Packing>,
        lost: &mut Lost,
        faults: &mut Vec<Fault>,
    ) -> bool {
        if self.pages.is_empty() && !self.more(source, packing, faults) {
            return false;
        }
        let begin = self.pages.start;
        let end = begin.saturating_add(self.layout.page_size()).min(self.pages.end);
        self.pages.start = end;
        let place = self.bytes_at.saturating_add(if self.chunks.is_some() { 0 } else { begin as u64 });
        let page = self.bytes.get(begin..end).unwrap_or_default();
        // Less than a page's head is left of a file that was cut, which was said before.
        let Some(page) = Page::new(&self.layout, page) else { return true };
        match page.missed() {
            Missed::None => {}
            Missed::Events(count) => lost.before_pages = lost.before_pages.saturating_add(count),
            Missed::Some => lost.uncounted_gaps = lost.uncounted_gaps.saturating_add(1),
        }
        let mut records = page.records();
        while let Some(record) = records.next() {
            let end = begin.saturating_add(records.position());
            self.records.push((record.at, end.saturating_sub(record.data.len())..end));
        }
        self.records.reverse();
        if let Some(End::Broken(at)) = records.end() {
            let (at, cpu) = (place.saturating_add(at as u64), self.cpu);
            faults.push(Fault { at, is_cut: false, what: format!("the rest of a page of processor {cpu}") });
        }
        true
    }

    /// Reads a page, or unpacks a chunk of some. False where there are no more.
    fn more(&mut self, source: &dyn ReadAt, packing: Option<Packing>, faults: &mut Vec<Fault>) -> bool {
        self.bytes_at = self.at;
        let read = match self.chunks {
            None => self.plain(source),
            Some(left) => self.chunk(source, left, packing.unwrap_or(Packing::None)),
        };
        match read {
            Ok(is_there) => is_there,
            Err(stop) => {
                // That a file ends before its records do was said at once.
                if let Stop::Bad(..) = stop {
                    let fault = Fault::from(stop);
                    let what = format!("records of processor {}: {}", self.cpu, fault.what);
                    faults.push(Fault { what, ..fault });
                }
                self.at = self.end;
                self.chunks = self.chunks.map(|_| 0);
                false
            }
        }
    }

    fn plain(&mut self, source: &dyn ReadAt) -> Result<bool, Stop> {
        let length = self.end.saturating_sub(self.at).min(self.layout.page_size() as u64);
        if length == 0 {
            return Ok(false);
        }
        self.bytes.resize(length as usize, 0);
        let read = source.read_at(self.at, &mut self.bytes).unwrap_or(0);
        self.bytes.truncate(read);
        self.pages = 0..read;
        self.at = self.at.saturating_add(length);
        Ok(read > 0)
    }

    fn chunk(&mut self, source: &dyn ReadAt, left: u32, packing: Packing) -> Result<bool, Stop> {
        if left == 0 {
            return Ok(false);
        }
        let mut cursor = Cursor::new(source, self.at);
        let (packed, plain) = (cursor.u32()?, cursor.u32()?);
        let bytes = cursor.bytes(packed.into())?;
        packing.unpack(&bytes, plain, &mut self.bytes).map_err(|why| Stop::Bad(self.at, why))?;
        self.pages = 0..self.bytes.len();
        self.at = cursor.at;
        self.chunks = Some(left.saturating_sub(1));
        Ok(true)
    }
}
