//! Version 7: sections, found by options, packed or not (trace-cmd.dat.v7(5), and where it differs lib/trace-cmd/trace-input.c: lengths of
//! sections have 8 bytes, and buffers say their page size).

use super::head::{BufferAt, CpuData, Head, Option_};
use super::pack::Packing;
use crate::foreign::ReadAt;
use crate::foreign::cursor::{Cursor, Stop};

/// Chains of options are longer by one for each buffer.
const MOST_OPTION_SECTIONS: usize = 4096;

/// The flag of a packed section.
const PACKED: u16 = 1;

/// Numbers of sections and of the options that tell where they are.
const OPTIONS: u16 = 0;
const BUFFER: u16 = 3;
const HEADER_INFO: u16 = 16;
const FTRACE_EVENTS: u16 = 17;
const EVENT_FORMATS: u16 = 18;
const CMDLINES: u16 = 21;

/// The head of a section.
struct Section {
    id: u16,
    is_packed: bool,
    /// Where its data begins.
    at: u64,
    size: u64,
}

fn section(source: &dyn ReadAt, at: u64) -> Result<Section, Stop> {
    let mut cursor = Cursor::new(source, at);
    let (id, flags, _description) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
    let size = cursor.u64()?;
    Ok(Section { id, is_packed: flags & PACKED != 0, at: cursor.at, size })
}

/// The data of a section, unpacked.
fn data(source: &dyn ReadAt, section: &Section, packing: Packing) -> Result<Vec<u8>, Stop> {
    let mut cursor = Cursor::new(source, section.at);
    if !section.is_packed {
        return cursor.bytes(section.size);
    }
    let (packed, plain) = (cursor.u32()?, cursor.u32()?);
    let bytes = cursor.bytes(packed.into())?;
    let mut all = Vec::new();
    packing.unpack(&bytes, plain, &mut all).map_err(|why| Stop::Bad(section.at, why))?;
    Ok(all)
}

/// Reads what the chain of options leads to, which begins at `at`. What cannot be read becomes a fault.
pub(super) fn read(source: &dyn ReadAt, mut at: u64, packing: Packing, head: &mut Head) {
    let mut parts = Vec::new();
    let mut end_of_last = at;
    for _ in 0..MOST_OPTION_SECTIONS {
        match options(source, at, packing, head, &mut parts) {
            Ok((0, _)) => break,
            // Sections are written one after the other: a chain that leads back is a circle.
            Ok((next, end)) if next > at => (at, end_of_last) = (next, end),
            Ok(_) => {
                head.fault(Stop::Bad(at, "it leads back"), "the chain of options");
                break;
            }
            Err(stop) => {
                head.fault(
                    stop,
                    "options: the clock of records and their processors' numbers, which are counted from 0",
                );
                head.buffers.extend(recover(source, end_of_last, head));
                break;
            }
        }
    }
    for (id, at) in parts {
        let read = |head: &mut Head| {
            let section = section(source, at)?;
            if section.id != id {
                return Err(Stop::Bad(at, "a section of another kind"));
            }
            let data = data(source, &section, packing)?;
            let mut cursor = Cursor::new(&data, 0);
            let place = |stop| match stop {
                // Within the section, which may be packed: its own beginning is what the file knows.
                Stop::Cut(_) => Stop::Bad(at, "shorter than it says"),
                Stop::Bad(_, why) => Stop::Bad(at, why),
            };
            match id {
                HEADER_INFO => head.header_info(&mut cursor),
                FTRACE_EVENTS => head.ftrace_formats(&mut cursor),
                EVENT_FORMATS => head.event_formats(&mut cursor),
                _ => head.cmdlines(&mut cursor),
            }
            .map_err(place)
        };
        let what = match id {
            HEADER_INFO => "the layout of pages",
            CMDLINES => "names of threads",
            _ => "formats of events",
        };
        if let Err(stop) = read(head) {
            head.fault(stop, what);
        }
    }
}

/// One section of options. Returns where the next one is (0: nowhere), and where this one ends.
fn options(
    source: &dyn ReadAt,
    at: u64,
    packing: Packing,
    head: &mut Head,
    parts: &mut Vec<(u16, u64)>,
) -> Result<(u64, u64), Stop> {
    let section = section(source, at)?;
    if section.id != OPTIONS {
        return Err(Stop::Bad(at, "no options"));
    }
    let data = data(source, &section, packing)?;
    let end = section.at.saturating_add(section.size);
    let mut cursor = Cursor::new(&data, 0);
    let inner = |_| Stop::Bad(at, "options shorter than they say");
    loop {
        let (id, length) = (cursor.u16().map_err(inner)?, cursor.u32().map_err(inner)?);
        let option = Option_ { id, data: cursor.bytes(length.into()).map_err(inner)? };
        let mut inner_cursor = Cursor::new(&option.data, 0);
        match id {
            OPTIONS => return Ok((inner_cursor.u64().map_err(inner)?, end)),
            BUFFER => match buffer(source, &mut inner_cursor) {
                Ok(buffer) => head.buffers.push(buffer),
                Err(_) => head.fault(Stop::Bad(at, "it cannot be read"), "the place of a buffer"),
            },
            HEADER_INFO | FTRACE_EVENTS | EVENT_FORMATS | CMDLINES => {
                parts.push((id, inner_cursor.u64().map_err(inner)?));
            }
            _ => head.option(&option),
        }
    }
}

/// Place, instance, clock, page size, and a place and a length for each processor that has records.
fn buffer(source: &dyn ReadAt, cursor: &mut Cursor<'_>) -> Result<BufferAt, Stop> {
    let at = cursor.u64()?;
    let (name, clock, page_size) = (cursor.name()?, cursor.name()?, cursor.u32()?);
    let is_packed = section(source, at)?.is_packed;
    let mut data = Vec::new();
    for _ in 0..cursor.u32()? {
        let (cpu, at, size) = (cursor.u32()?, cursor.u64()?, cursor.u64()?);
        data.push(CpuData { cpu, at, size, is_packed });
    }
    Ok(BufferAt { name, clock: Some(clock), page_size, data })
}

/// Finds the records of a file that was cut off: where they stand is said behind them. Sections follow one another, and within one the
/// processors do. Their numbers are lost: they are counted from 0. So is the clock: that of an instance is not the uppermost buffer's.
fn recover(source: &dyn ReadAt, from: u64, head: &Head) -> Vec<BufferAt> {
    let mut found = Vec::new();
    let mut at = from;
    while let Ok(section) = section(source, at) {
        let end = section.at.saturating_add(section.size).min(source.size());
        if section.id == BUFFER {
            let data = if section.is_packed {
                packed_cpus(source, section.at, end)
            } else {
                plain_cpus(source, section.at, end, head.page_size.into())
            };
            found.push(BufferAt { name: String::new(), clock: None, page_size: head.page_size, data });
        }
        // The length of a section that was not finished is 0, as that of an empty one.
        match section.at.checked_add(section.size) {
            Some(next) if next > at => at = next,
            _ => break,
        }
    }
    found
}

/// Each processor has a number of chunks and the chunks.
fn packed_cpus(source: &dyn ReadAt, mut at: u64, end: u64) -> Vec<CpuData> {
    let mut cpus = Vec::new();
    while at < end {
        let mut cursor = Cursor::new(source, at);
        let mut size = || {
            for _ in 0..cursor.u32()? {
                let (packed, _plain) = (cursor.u32()?, cursor.u32()?);
                cursor.skip(packed.into())?;
            }
            Ok::<u64, Stop>(cursor.at.saturating_sub(at))
        };
        let size = size().unwrap_or(end.saturating_sub(at)).min(end.saturating_sub(at)).max(1);
        cpus.push(CpuData { cpu: cpus.len() as u32, at, size, is_packed: true });
        at = at.saturating_add(size);
    }
    cpus
}

/// Pages in order of time, aligned in the file; where time steps back, the next processor begins.
fn plain_cpus(source: &dyn ReadAt, at: u64, end: u64, page_size: u64) -> Vec<CpuData> {
    let mut cpus: Vec<CpuData> = Vec::new();
    if page_size == 0 {
        return cpus;
    }
    let mut before = None;
    let mut at = at.div_ceil(page_size).saturating_mul(page_size);
    while at < end {
        let Ok(begin) = Cursor::new(source, at).u64() else { break };
        let size = page_size.min(end.saturating_sub(at));
        match cpus.last_mut() {
            Some(cpu) if before.is_some_and(|before| before <= begin) => cpu.size = cpu.size.saturating_add(size),
            _ => cpus.push(CpuData { cpu: cpus.len() as u32, at, size, is_packed: false }),
        }
        before = Some(begin);
        at = at.saturating_add(page_size);
    }
    cpus
}
