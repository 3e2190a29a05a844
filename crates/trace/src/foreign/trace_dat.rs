//! `trace.dat`, as trace-cmd and KernelShark write and read it: versions 6 and 7, packed too.
//!
//! A file is read front to back with memory for a page (or a packed chunk) of each processor. One that was cut off gives what is whole;
//! where it was cut stands in [`TraceDat::faults`].
//!
//! **Times** are on the clock of the recording, as the kernel wrote them. Only those of the clock `mono` can be put beside our recordings;
//! trace-cmd's default is `local`, which is not. Those of `x86-tsc` are nanoseconds where the file says how to make them. What trace-cmd adds
//! when it prints (`--date`, `--ts-offset`) is left out, and said.

mod head;
mod pack;
mod stream;
mod v6;
mod v7;

use super::{Fault, ForeignError, Kind, ReadAt, TRACE_DAT, detect, on_disk};
use crate::foreign::cursor::Cursor;
use crate::{EventFormat, RawRecord};
use head::Head;
use pack::Packing;
use std::path::Path;
use stream::Streams;

/// An open file.
pub struct TraceDat {
    version: u32,
    head: Head,
    buffers: Vec<Buffer>,
    source: Box<dyn ReadAt>,
    streams: Streams,
}

/// One of the file's buffers: the uppermost one of tracefs, or that of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Name of its instance; empty for the uppermost.
    pub instance: String,
    /// Clock of its times. None where the file does not say.
    pub clock: Option<String>,
}

impl Buffer {
    /// Whether its times are CLOCK_MONOTONIC, as those of our recordings are.
    pub fn is_monotonic(&self) -> bool {
        self.clock.as_deref() == Some("mono")
    }
}

/// Events that were lost while the file was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// By the kernel's count at the end, where the file has it.
    pub counted: Option<u64>,
    /// By what pages said that were read so far.
    pub before_pages: u64,
    /// Pages read so far that said that some were lost, and not how many.
    pub uncounted_gaps: u64,
}

impl std::fmt::Debug for TraceDat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TraceDat { version, buffers, head, .. } = self;
        f.debug_struct("TraceDat").field("version", version).field("buffers", buffers).field("head", head).finish()
    }
}

impl TraceDat {
    /// Opens a file and reads its head.
    ///
    /// # Errors
    /// [`ForeignError::Io`], and [`ForeignError::Refused`] for a file of another kind, version, or byte order.
    pub fn open(path: &Path) -> Result<TraceDat, ForeignError> {
        TraceDat::read(path, on_disk(path)?)
    }

    /// The same of bytes from elsewhere; the path is what errors name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(path: &Path, source: Box<dyn ReadAt>) -> Result<TraceDat, ForeignError> {
        let refused = |what: String, remedy| ForeignError::Refused { path: path.into(), what, remedy };
        let mut first = vec![0; 1024];
        let length = source.read_at(0, &mut first).map_err(|e| ForeignError::Io { path: path.into(), source: e })?;
        first.truncate(length);
        match detect(&first) {
            Some(Kind::TraceDat) => {}
            Some(kind) => return Err(refused(kind.to_string(), "it is no trace.dat of trace-cmd")),
            None => {
                return Err(refused(
                    "no trace.dat of trace-cmd".into(),
                    "give it a file that `trace-cmd record` wrote",
                ));
            }
        }
        let short = |_| refused("cut off before its head begins".into(), "copy it again");
        let mut cursor = Cursor::new(&*source, TRACE_DAT.len() as u64);
        let version = cursor.name().map_err(short)?;
        let (big_endian, long_size) = (cursor.byte().map_err(short)?, cursor.byte().map_err(short)?);
        if (big_endian != 0) != cfg!(target_endian = "big") {
            let order = if big_endian != 0 { "big-endian" } else { "little-endian" };
            return Err(refused(format!("a trace.dat of a {order} machine"), "read it on a machine of the same kind"));
        }
        if long_size != 8 {
            let what = format!("a trace.dat of a system with longs of {} bits", u32::from(long_size) * 8);
            return Err(refused(what, "those of 64-bit systems are read"));
        }
        let page_size = cursor.u32().map_err(short)?;
        let mut head = Head { page_size, ..Head::default() };
        let mut packing = Packing::None;
        let version = match version.as_str() {
            "6" => {
                v6::read(&*source, cursor.at, &mut head);
                6
            }
            "7" => {
                let (name, _version) = (cursor.name().map_err(short)?, cursor.name().map_err(short)?);
                let unknown =
                    || refused(format!("packed with {name}"), "convert it: trace-cmd convert --compression none");
                packing = Packing::of(&name).ok_or_else(unknown)?;
                let at = cursor.u64().map_err(short)?;
                v7::read(&*source, at, packing, &mut head);
                7
            }
            other => {
                let what = format!("a trace.dat of version {other}");
                return Err(refused(what, "convert it: trace-cmd convert --file-version 6"));
            }
        };
        let streams = Streams::new(&*source, packing, &mut head);
        let buffer = |b: &head::BufferAt| Buffer { instance: b.name.clone(), clock: b.clock.clone() };
        let buffers = head.buffers.iter().map(buffer).collect();
        Ok(TraceDat { version, head, buffers, source, streams })
    }

    /// 6 or 7.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The layouts of its records.
    pub fn formats(&self) -> &[EventFormat] {
        &self.head.formats
    }

    /// Formats in it that could not be read: records of theirs are not understood.
    pub fn unreadable_formats(&self) -> u32 {
        self.head.bad_formats
    }

    /// Names of threads, as they were at the end. Which process a thread belongs to is not in the file.
    pub fn tasks(&self) -> &[(u32, String)] {
        &self.head.tasks
    }

    /// Its buffers.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The system it was recorded on, as `uname` says.
    pub fn uname(&self) -> Option<&str> {
        self.head.uname.as_deref()
    }

    /// The version of trace-cmd that wrote it.
    pub fn tool(&self) -> Option<&str> {
        self.head.tool.as_deref()
    }

    /// What trace-cmd would add to each time: the file was recorded with `--date` or `--ts-offset`. It is not added here.
    pub fn offset_ns(&self) -> i64 {
        self.head.offset_ns
    }

    /// Whether it is that of a virtual machine with corrections of its times to those of its host, which are not applied.
    pub fn has_time_shift(&self) -> bool {
        self.head.has_time_shift
    }

    /// What is missing, so far as it was seen: complete once all records are read.
    pub fn faults(&self) -> &[Fault] {
        &self.head.faults
    }

    /// What was lost while it was recorded.
    pub fn lost(&self) -> Lost {
        Lost { counted: self.head.lost, ..self.streams.lost() }
    }

    /// The next record of all buffers and processors in order of time, with the number of its buffer. None after the last.
    ///
    /// Of buffers with different clocks the order among them means nothing.
    pub fn next_record(&mut self) -> Option<(usize, RawRecord<'_>)> {
        self.streams.next(&*self.source, &mut self.head.faults)
    }
}

/// Layouts and names as version 6 has them, and as perf keeps them in files of its own (`HEADER_TRACING_DATA`).
#[derive(Debug, Default)]
pub(super) struct Layouts {
    pub(super) formats: Vec<EventFormat>,
    pub(super) bad_formats: u32,
    pub(super) tasks: Vec<(u32, String)>,
    pub(super) faults: Vec<Fault>,
}

impl Layouts {
    /// Reads those that begin at a place of a file.
    pub(super) fn read(source: &dyn ReadAt, at: u64) -> Layouts {
        let mut head = Head::default();
        let mut cursor = Cursor::new(source, at);
        let what = "the layouts of records";
        let begin = |cursor: &mut Cursor<'_>| {
            cursor.expect(TRACE_DAT, "no layouts of records")?;
            // Version, byte order, size of a long and of a page: perf's own head tells the order, and sizes do not matter to formats.
            cursor.name()?;
            cursor.skip(6)
        };
        match begin(&mut cursor) {
            Err(stop) => head.fault(stop, what),
            Ok(()) => {
                if let Err((stop, _)) = v6::layouts(&mut cursor, &mut head) {
                    head.fault(stop, what);
                }
            }
        }
        let Head { formats, bad_formats, tasks, faults, .. } = head;
        Layouts { formats, bad_formats, tasks, faults }
    }
}
