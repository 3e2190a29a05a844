//! Traces that other tools wrote.

mod cursor;
pub mod perf_data;
pub mod perfetto;
pub mod text;
pub mod trace_dat;

use cursor::Stop;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Kinds of files that are told apart by how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// trace-cmd's `trace.dat`, versions 6 and 7.
    TraceDat,
    /// Text of tracefs (`trace`, `trace_pipe`) or of `trace-cmd report`.
    Text,
    /// perf's `perf.data`.
    PerfData,
    /// Perfetto's protobuf.
    Perfetto,
    /// Chrome's JSON.
    ChromeJson,
    /// A file that gzip packed.
    Gzip,
    /// A file that zstd packed.
    Zstd,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::TraceDat => "a trace.dat of trace-cmd",
            Kind::Text => "a text of tracefs",
            Kind::PerfData => "a perf.data",
            Kind::Perfetto => "a Perfetto trace",
            Kind::ChromeJson => "a Chrome JSON trace",
            Kind::Gzip => "a file packed by gzip",
            Kind::Zstd => "a file packed by zstd",
        })
    }
}

/// How a `trace.dat` begins.
const TRACE_DAT: &[u8] = b"\x17\x08\x44tracing";

/// The kind of a file, by its first kilobyte. None for one that is not known.
pub fn detect(head: &[u8]) -> Option<Kind> {
    const MAGICS: [(&[u8], Kind); 5] = [
        (TRACE_DAT, Kind::TraceDat),
        // "PERFFILE" is the version before, of which 2 is the last.
        (b"PERFILE2", Kind::PerfData),
        (b"2ELIFREP", Kind::PerfData),
        (b"\x1f\x8b", Kind::Gzip),
        (b"\x28\xb5\x2f\xfd", Kind::Zstd),
    ];
    if let Some((_, kind)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(*kind);
    }
    let first = head.iter().position(|byte| !byte.is_ascii_whitespace()).and_then(|at| head.get(at..))?;
    if first.starts_with(b"{") || first.starts_with(b"[") {
        return has(first, b"\"traceEvents\"").or_else(|| has(first, b"\"ph\"")).map(|()| Kind::ChromeJson);
    }
    // `# tracer: nop`, `cpus=2`; or a line of an event at once, of which the bracketed processor is the mark.
    if first.starts_with(b"# tracer:") || first.starts_with(b"cpus=") {
        return Some(Kind::Text);
    }
    let is_text = head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let is_event = |line: &&[u8]| line.contains(&b'[') && line.windows(2).any(|two| two == b": ");
    if !is_text {
        return is_perfetto(head).then_some(Kind::Perfetto);
    }
    first.split(|byte| *byte == b'\n').next().is_some_and(|line| is_event(&line)).then_some(Kind::Text)
}

fn has(bytes: &[u8], words: &[u8]) -> Option<()> {
    bytes.windows(words.len()).any(|window| window == words).then_some(())
}

/// `Trace.packet`, field 1, of a length in one to four bytes; within it a field of `TracePacket` with a small number.
fn is_perfetto(head: &[u8]) -> bool {
    let Some((0x0a, rest)) = head.split_first() else { return false };
    let Some(length) = rest.iter().take(4).position(|byte| byte & 0x80 == 0) else { return false };
    let Some(field) = rest.get(length.saturating_add(1)) else { return false };
    // A number of a field above 0, and a wire type that protobuf has: 0, 1, 2 or 5.
    field >> 3 != 0 && matches!(field & 7, 0 | 1 | 2 | 5)
}

/// Why a file is not read at all.
#[derive(Debug, Error)]
pub enum ForeignError {
    /// It cannot be opened or read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// It is of a kind, or a version of one, that is not read.
    #[error("{}: {what}; {remedy}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What can be done.
        remedy: &'static str,
    },
}

/// A place in a file behind which something is missing. What stands before it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte in the file.
    pub at: u64,
    /// Whether the file ends there, as one does that was not written or copied to its end.
    pub is_cut: bool,
    /// What is missing from there on.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, what) = (self.at, &self.what);
        match self.is_cut {
            true => write!(f, "cut off at byte {at}: {what}"),
            false => write!(f, "broken at byte {at}: {what}"),
        }
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Fault {
        match stop {
            Stop::Cut(at) => Fault { at, is_cut: true, what: String::new() },
            Stop::Bad(at, why) => Fault { at, is_cut: false, what: why.into() },
        }
    }
}

impl Fault {
    /// Says what is missing, and why where that is known.
    fn of(stop: Stop, what: &str) -> Fault {
        match stop {
            Stop::Cut(at) => Fault { at, is_cut: true, what: what.into() },
            Stop::Bad(at, why) => Fault { at, is_cut: false, what: format!("{what}: {why}") },
        }
    }
}

/// Bytes that are read from any place.
pub trait ReadAt: Send {
    /// How many there are.
    fn size(&self) -> u64;

    /// Reads at a place, as many bytes as there are and fit.
    ///
    /// # Errors
    /// Those of reading files.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

/// A file on disk.
struct OnDisk {
    file: File,
    size: u64,
}

impl ReadAt for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(length) => filled = filled.saturating_add(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Opens a file.
fn on_disk(path: &Path) -> Result<Box<dyn ReadAt>, ForeignError> {
    let open = || {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Box::new(OnDisk { file, size }) as Box<dyn ReadAt>)
    };
    open().map_err(|source| ForeignError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests;
