//! What a file says of itself: `struct perf_file_header` and the features behind its records (tools/perf/util/header.c), which a pipe has as
//! records of their own.

use super::attr::{Attr, LEAST};
use crate::foreign::cursor::{Cursor, Stop};
use crate::foreign::trace_dat::Layouts;
use crate::foreign::{Fault, ReadAt};
use crate::perf_record::{u32_at, u64_at};
use rustc_hash::FxHashMap;

/// Numbers of features.
const TRACING_DATA: u64 = 1;
const OSRELEASE: u64 = 4;
const VERSION: u64 = 5;
const CLOCK_DATA: u64 = 29;
const FEATURES: u64 = 256;

/// `struct perf_pipe_file_header`: a magic number and the length of both.
pub(super) const PIPE_HEADER: u64 = 16;

/// Everything but records.
#[derive(Debug, Default)]
pub(super) struct Head {
    attrs: Vec<Attr>,
    /// The attribute of each event's number.
    by_id: FxHashMap<u64, usize>,
    pub(super) layouts: Layouts,
    pub(super) has_layouts: bool,
    pub(super) uname: Option<String>,
    pub(super) tool: Option<String>,
    /// One moment on the clock of that number and in the time of day.
    pub(super) clock: Option<(u32, u64, u64)>,
    pub(super) faults: Vec<Fault>,
}

/// Where the records of a file stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) at: u64,
    pub(super) end: u64,
}

impl Head {
    /// Reads the head of a file that is none of a pipe, and its features.
    pub(super) fn read(&mut self, source: &dyn ReadAt, cursor: &mut Cursor<'_>) -> Result<Data, Stop> {
        let attr_size = cursor.u64()?;
        let (attrs_at, attrs_size) = (cursor.u64()?, cursor.u64()?);
        let (data_at, data_size) = (cursor.u64()?, cursor.u64()?);
        cursor.skip(16)?;
        let flags = [cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?];
        if let Err(stop) = self.attrs(source, attrs_at, attrs_size, attr_size) {
            self.faults.push(Fault::of(stop, "what was recorded"));
        }
        let size = source.size();
        if data_size == 0 {
            // It is written at last, as the features are.
            let what = "perf record did not finish this file: the layouts of its records are not in it";
            self.faults.push(Fault { at: size, is_cut: true, what: what.into() });
            return Ok(Data { at: data_at, end: size });
        }
        let end = data_at.saturating_add(data_size);
        if end > size {
            let what = "records, and the layouts of all of them, which stand behind";
            self.faults.push(Fault { at: size, is_cut: true, what: what.into() });
            return Ok(Data { at: data_at, end: size });
        }
        let mut sections = Cursor::new(source, end);
        for feature in 1..FEATURES {
            let word = flags.get((feature >> 6) as usize).copied().unwrap_or(0);
            if word >> (feature & 63) & 1 == 0 {
                continue;
            }
            let section = sections.u64().and_then(|at| Ok((at, sections.u64()?)));
            let read = section.and_then(|(at, length)| self.section(source, feature, at, length));
            if let Err(stop) = read {
                self.faults.push(Fault::of(stop, "what the file says of itself, the layouts of records perhaps"));
                break;
            }
        }
        Ok(Data { at: data_at, end })
    }

    fn section(&mut self, source: &dyn ReadAt, feature: u64, at: u64, length: u64) -> Result<(), Stop> {
        match feature {
            TRACING_DATA => self.layouts(source, at),
            OSRELEASE | VERSION | CLOCK_DATA => {
                let bytes = Cursor::new(source, at).bytes(length.min(4096))?;
                self.feature(feature, &bytes);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the layouts that begin at a place of the file.
    pub(super) fn layouts(&mut self, source: &dyn ReadAt, at: u64) {
        self.layouts = Layouts::read(source, at);
        self.has_layouts = true;
        self.faults.append(&mut self.layouts.faults);
    }

    /// Takes what a feature says.
    pub(super) fn feature(&mut self, feature: u64, bytes: &[u8]) {
        match feature {
            OSRELEASE => self.uname = text(bytes),
            VERSION => self.tool = text(bytes),
            CLOCK_DATA => {
                // Version, number of the clock, time of day, time on the clock.
                self.clock = u32_at(bytes, 4)
                    .zip(u64_at(bytes, 16))
                    .zip(u64_at(bytes, 8))
                    .map(|((id, own), day)| (id, own, day));
            }
            _ => {}
        }
    }

    fn attrs(&mut self, source: &dyn ReadAt, at: u64, length: u64, each: u64) -> Result<(), Stop> {
        // An attribute, and the place and length of its numbers.
        let own = each.checked_sub(16).filter(|own| *own >= LEAST as u64).ok_or(Stop::Bad(at, "entries too short"))?;
        let mut cursor = Cursor::new(source, at);
        // Numbers of different attributes stand in different places: all of them are no more than the file.
        let mut left = source.size() >> 3;
        for _ in 0..length.checked_div(each).unwrap_or(0) {
            let place = cursor.at;
            let bytes = cursor.bytes(own)?;
            let (ids_at, ids) = (cursor.u64()?, cursor.u64()? >> 3);
            left = left.checked_sub(ids).ok_or(Stop::Bad(place, "more numbers of events than the file can hold"))?;
            let bytes_of_ids = Cursor::new(source, ids_at).bytes(ids << 3)?;
            self.attr(&bytes, &bytes_of_ids);
        }
        Ok(())
    }

    /// Takes an attribute with the numbers of its events.
    pub(super) fn attr(&mut self, bytes: &[u8], ids: &[u8]) {
        let Some(attr) = Attr::parse(bytes) else { return };
        let number = self.attrs.len();
        self.attrs.push(attr);
        for id in ids.as_chunks::<8>().0 {
            self.by_id.insert(u64::from_ne_bytes(*id), number);
        }
    }

    /// The attributes that tell of tracepoints.
    pub(super) fn tracepoints(&self) -> impl Iterator<Item = &Attr> {
        self.attrs.iter().filter(|attr| attr.is_tracepoint())
    }

    /// The attribute of a sample, by what stands behind its header.
    pub(super) fn of_sample(&self, body: &[u8]) -> Option<&Attr> {
        self.find(|first| u64_at(body, first.id_offset()?))
    }

    /// That of another record.
    pub(super) fn of_other(&self, record: &[u8]) -> Option<&Attr> {
        self.find(|first| u64_at(record, record.len().checked_sub(first.id_offset_back()?)?))
    }

    /// Where the number stands all attributes agree about. What the tool itself wrote has 0; it is laid out as the first of them says.
    fn find(&self, id: impl Fn(&Attr) -> Option<u64>) -> Option<&Attr> {
        let first = self.attrs.first()?;
        match (self.attrs.len(), id(first)) {
            (1, _) | (_, Some(0)) => Some(first),
            (_, id) => self.attrs.get(*self.by_id.get(&id?)?),
        }
    }
}

/// `struct perf_header_string`: a length and a text with a zero at its end.
fn text(bytes: &[u8]) -> Option<String> {
    let length = u32_at(bytes, 0)? as usize;
    let text = bytes.get(4..)?;
    let text = text.get(..length.min(text.len()))?;
    let text = text.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}
