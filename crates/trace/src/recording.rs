//! Recordings: records on disk, in frames with checksums. `docs/recording.md` tells the format exactly.
//!
//! [`RecordingWriter`] writes one into any writer, [`RecordingFile`] into a file or a bounded chain of them, and [`Recording`] reads them
//! back: in order of time over all processors, with memory bounded by the rounds of the capture and not by the file, also while the
//! file is being written, cut off or damaged.

mod file;
mod frame;
mod header;
mod held;
mod merge;
mod order;
mod packed;
mod packer;
mod parts;
mod payload;
mod reader;
mod scan;
mod sorter;
mod writer;

pub use file::{CreateOptions, RecordingFile};
pub use header::{Header, Instant, MergedTrace};
pub use packed::{Packed, PackedRecord, PackedRecords, PackedTemplate, PackedThread, UnpackedData};
pub use reader::{Ended, Item, ItemSink, Recording, Step, Summary};
pub use scan::Damage;
pub use writer::RecordingWriter;

use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a recording is not written or read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// A file or call failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The file is of another kind.
    #[error("{}: not a gpuscope recording{}; give a file that `gpuscope trace record` wrote", .path.display(), kind_of(.kind.as_deref()))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, where that could be seen: `a perf.data file`.
        kind: Option<String>,
    },
    /// A later version of gpuscope wrote it.
    #[error("{}: the recording has version {version} and this gpuscope reads {}; read it with the gpuscope that wrote it, or a later one", .path.display(), frame::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A machine of the other byte order wrote its records.
    #[error("{}: its records are {order}-endian and this machine is not; read it on a machine like the one that wrote it", .path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
        /// What the file says.
        order: String,
    },
    /// Both copies of its header are damaged, or say nothing.
    #[error("{}: the header of the recording cannot be read ({what}); nothing tells what its records mean", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A second recording begins in the same file.
    #[error("{}: another recording begins at byte {offset}; split the file there", .path.display())]
    Mixed {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The file that is to be written is in the way.
    #[error("{}: {what}; {remedy}", .path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The bound on size leaves no room for a recording.
    #[error("{}: {max_bytes} bytes are too few for a recording; allow {least} or more", .path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        max_bytes: u64,
        /// What is needed.
        least: u64,
    },
}

fn kind_of(kind: Option<&str>) -> String {
    kind.map_or_else(String::new, |kind| format!(" (it is {kind})"))
}

impl RecordingError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RecordingError + '_ {
        move |source| RecordingError::Io { path: path.to_path_buf(), source }
    }
}

#[cfg(test)]
mod packing_tests;
#[cfg(test)]
mod tests;
