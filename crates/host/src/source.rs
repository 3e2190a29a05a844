//! Files that are read at every tick.

use crate::text::gone;
use gpuscope_sys::{Error, KernelFile};
use std::io::Read;
use std::path::PathBuf;

/// A file held open, or the path of one that is opened at each reading.
#[derive(Debug)]
pub(crate) enum Source {
    Held(KernelFile),
    Path(PathBuf),
}

impl Source {
    pub(crate) fn open(path: PathBuf, hold: bool) -> Result<Self, Error> {
        if !hold {
            return Ok(Source::Path(path));
        }
        match KernelFile::open(path.clone()) {
            Ok(file) => Ok(Source::Held(file)),
            // No descriptor to spare, perhaps: a reading that opens and closes may still find one.
            Err(Error::Io { .. }) => Ok(Source::Path(path)),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn read<'b>(&self, buf: &'b mut Vec<u8>) -> Result<&'b [u8], Error> {
        match self {
            Source::Held(file) => file.read(buf),
            Source::Path(path) => {
                buf.clear();
                let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(buf));
                read.map_err(|e| gone(path, e))?;
                Ok(buf)
            }
        }
    }
}
