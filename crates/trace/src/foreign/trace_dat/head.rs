//! What versions 6 and 7 have in common: layouts, names, options.

use crate::EventFormat;
use crate::capture::lost_of_stats;
use crate::foreign::Fault;
use crate::foreign::cursor::{Cursor, Stop};
use crate::ftrace::PageLayout;

/// More kinds of events than numbers of kinds.
const MOST_FORMATS: usize = 1 << 16;

/// All that stands before the records.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) page_size: u32,
    pub(super) layout: Option<PageLayout>,
    pub(super) formats: Vec<EventFormat>,
    /// Formats that could not be read.
    pub(super) bad_formats: u32,
    pub(super) tasks: Vec<(u32, String)>,
    pub(super) clock: Option<String>,
    pub(super) uname: Option<String>,
    pub(super) tool: Option<String>,
    /// What trace-cmd adds to times when it prints them.
    pub(super) offset_ns: i64,
    pub(super) tsc: Option<(u32, u32)>,
    pub(super) has_time_shift: bool,
    /// Events lost while recording, by the kernel's own count.
    pub(super) lost: Option<u64>,
    pub(super) cpus: u32,
    pub(super) buffers: Vec<BufferAt>,
    pub(super) faults: Vec<Fault>,
}

/// Where the records of one buffer stand.
#[derive(Clone, Debug)]
pub(super) struct BufferAt {
    /// Name of its instance; empty for the uppermost buffer.
    pub(super) name: String,
    pub(super) clock: Option<String>,
    pub(super) page_size: u32,
    pub(super) data: Vec<CpuData>,
}

/// Where the pages of a processor stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuData {
    pub(super) cpu: u32,
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) is_packed: bool,
}

/// An option and its data.
pub(super) struct Option_ {
    pub(super) id: u16,
    pub(super) data: Vec<u8>,
}

impl Head {
    pub(super) fn fault(&mut self, stop: Stop, what: &str) {
        self.faults.push(Fault::of(stop, what));
    }

    /// `header_page` and `header_event`, as tracefs has them.
    pub(super) fn header_info(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        cursor.expect(b"header_page\0", "no header_page")?;
        let (length, at) = (cursor.u64()?, cursor.at);
        let text = cursor.text(length)?;
        let layout = PageLayout::parse(&text).map_err(|_| Stop::Bad(at, "a header_page that is not understood"))?;
        cursor.expect(b"header_event\0", "no header_event")?;
        let length = cursor.u64()?;
        cursor.skip(length)?;
        self.layout = Some(layout);
        Ok(())
    }

    fn format(&mut self, system: &str, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let (length, at) = (cursor.u64()?, cursor.at);
        let text = cursor.text(length)?;
        if self.formats.len() >= MOST_FORMATS {
            return Err(Stop::Bad(at, "more formats than there can be"));
        }
        match EventFormat::parse(system, &text) {
            Ok(format) => self.formats.push(format),
            Err(_) => self.bad_formats = self.bad_formats.saturating_add(1),
        }
        Ok(())
    }

    /// Formats of the tracers' own events.
    pub(super) fn ftrace_formats(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        for _ in 0..cursor.u32()? {
            self.format("ftrace", cursor)?;
        }
        Ok(())
    }

    /// Formats of tracepoints, system by system.
    pub(super) fn event_formats(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        for _ in 0..cursor.u32()? {
            let system = cursor.name()?;
            for _ in 0..cursor.u32()? {
                self.format(&system, cursor)?;
            }
        }
        Ok(())
    }

    /// `saved_cmdlines`: a number and a name a line.
    pub(super) fn cmdlines(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let length = cursor.u64()?;
        let text = cursor.text(length)?;
        let task = |line: &str| {
            let (tid, comm) = line.split_once(' ')?;
            Some((tid.parse().ok()?, comm.to_string()))
        };
        self.tasks.extend(text.lines().filter_map(task));
        Ok(())
    }

    /// The options that mean the same in both versions (`TRACECMD_OPTION_*`).
    pub(super) fn option(&mut self, option: &Option_) {
        let bytes = option.data.as_slice();
        let text = || {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
        };
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        match option.id {
            // Microseconds, in hexadecimal, and nanoseconds.
            1 => self.offset_ns = self.offset_ns.saturating_add(number(&text()).unwrap_or(0).saturating_mul(1000)),
            7 => self.offset_ns = self.offset_ns.saturating_add(number(&text()).unwrap_or(0)),
            2 => self.lost = Some(self.lost.unwrap_or(0).saturating_add(lost_of_stats(&text()))),
            // `local [mono] boot`.
            4 => {
                let text = text();
                let name = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                self.clock = name.map(|(name, _)| name.to_string());
            }
            5 => self.uname = Some(text()),
            8 => self.cpus = word(0).unwrap_or(self.cpus),
            9 => self.tool = Some(text()),
            12 => self.has_time_shift = true,
            14 => self.tsc = word(0).zip(word(4)).filter(|(_, shift)| *shift < 64),
            _ => {}
        }
    }
}

/// A number as `strtoll` reads it.
fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let value = match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if is_negative { value.saturating_neg() } else { value })
}
