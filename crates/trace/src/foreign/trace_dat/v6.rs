//! Version 6: one part after the other (trace-cmd.dat.v6(5)).

use super::head::{BufferAt, CpuData, Head, Option_};
use crate::foreign::ReadAt;
use crate::foreign::cursor::{Cursor, Stop};

/// Processors that the kernel can be built for (`NR_CPUS_RANGE_END`).
const MOST_CPUS: u32 = 8192;

/// An option of version 6: a buffer of an instance, where it stands.
const BUFFER: u16 = 3;

/// Reads what comes after the page size. What cannot be read becomes a fault.
pub(super) fn read(source: &dyn ReadAt, at: u64, head: &mut Head) {
    let mut cursor = Cursor::new(source, at);
    if let Err((stop, what)) = parts(source, &mut cursor, head) {
        head.fault(stop, what);
    }
}

/// With a fault goes what was being read.
fn parts(source: &dyn ReadAt, cursor: &mut Cursor<'_>, head: &mut Head) -> Result<(), (Stop, &'static str)> {
    layouts(cursor, head)?;
    let in_options = |stop| (stop, "options, and all records");
    head.cpus = cursor.u32().map_err(in_options)?;
    let mut instances = Vec::new();
    let data = records(cursor, head, &mut instances).map_err(in_options)?;
    let page_size = head.page_size;
    head.buffers.push(BufferAt { name: String::new(), clock: head.clock.clone(), page_size, data });
    for (at, name) in instances {
        let mut cursor = Cursor::new(source, at);
        match records(&mut cursor, head, &mut Vec::new()) {
            // Which clock an instance has, this version does not say.
            Ok(data) => head.buffers.push(BufferAt { name, clock: None, page_size, data }),
            Err(stop) => head.fault(stop, &format!("records of the instance {name}")),
        }
    }
    Ok(())
}

/// What stands ahead of the number of processors.
pub(super) fn layouts(cursor: &mut Cursor<'_>, head: &mut Head) -> Result<(), (Stop, &'static str)> {
    head.header_info(cursor).map_err(|stop| (stop, "the layout of pages, and all behind it"))?;
    let in_formats = |stop| (stop, "formats of events, and all records");
    head.ftrace_formats(cursor).map_err(in_formats)?;
    head.event_formats(cursor).map_err(in_formats)?;
    let in_names = |stop| (stop, "names, and all records");
    for _ in ["kallsyms", "printk"] {
        let length = cursor.u32().map_err(in_names)?;
        cursor.skip(length.into()).map_err(in_names)?;
    }
    head.cmdlines(cursor).map_err(in_names)
}

/// `options`, then `flyrecord` with a place and a length for each processor.
fn records(cursor: &mut Cursor<'_>, head: &mut Head, instances: &mut Vec<(u64, String)>) -> Result<Vec<CpuData>, Stop> {
    let mut at = cursor.at;
    let mut kind = cursor.bytes(10)?;
    if kind.starts_with(b"options") {
        loop {
            let id = cursor.u16()?;
            if id == 0 {
                break;
            }
            let length = cursor.u32()?;
            let option = Option_ { id, data: cursor.bytes(length.into())? };
            if id == BUFFER {
                let mut inner = Cursor::new(&option.data, 0);
                if let (Ok(at), Ok(name)) = (inner.u64(), inner.name()) {
                    instances.push((at, name));
                }
            }
            head.option(&option);
        }
        at = cursor.at;
        kind = cursor.bytes(10)?;
    }
    if !kind.starts_with(b"flyrecord") {
        let what = if kind.starts_with(b"latency") { "text of a latency tracer" } else { "no flyrecord" };
        return Err(Stop::Bad(at, what));
    }
    if head.cpus > MOST_CPUS {
        return Err(Stop::Bad(at, "more processors than there can be"));
    }
    let mut data = Vec::new();
    for cpu in 0..head.cpus {
        let (at, size) = (cursor.u64()?, cursor.u64()?);
        data.push(CpuData { cpu, at, size, is_packed: false });
    }
    Ok(data)
}
