//! Kernel files: read whole, once; held open where they are read at every tick.

use crate::Error;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A kernel file held open and read from its start each time: one system call a reading.
///
/// sysfs and procfs make the text anew when a read starts at offset 0, and answer ENODEV (sysfs) or ENOENT (fdinfo) once their
/// subject is gone, even when a file of the same name has come back.
#[derive(Debug)]
pub struct KernelFile {
    file: File,
    path: PathBuf,
}

impl KernelFile {
    /// Opens the file for reading.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Permission`], [`Error::Gone`] or [`Error::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        match File::open(&path) {
            Ok(file) => Ok(KernelFile { file, path }),
            Err(e) => Err(Error::opening(&path, e)),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file into `buf` (cleared first, grown only when the text has never been that long).
    ///
    /// Meant for sysfs attributes and for proc files of one record (fdinfo, status): those fill the buffer in one call, so a
    /// short read is the end. A file of many records (interrupts) may stop short at a page: use [`read_text`] for it.
    ///
    /// # Errors
    /// [`Error::Gone`] when the device or process ended, [`Error::Permission`], [`Error::Io`] with the kernel's errno.
    pub fn read<'b>(&self, buf: &'b mut Vec<u8>) -> Result<&'b [u8], Error> {
        const FIRST: usize = 512;
        let room = buf.capacity().max(FIRST);
        buf.resize(room, 0);
        let mut filled = 0;
        loop {
            let space = buf.get_mut(filled..).unwrap_or_default();
            match self.file.read_at(space, filled as u64) {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    if filled < buf.len() {
                        break;
                    }
                    buf.resize(buf.len() * 2, 0);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    buf.clear();
                    return Err(Error::reading(&self.path, e));
                }
            }
        }
        buf.truncate(filled);
        Ok(buf)
    }

    /// The same as text; what is not UTF-8 becomes an error.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Io`] with `InvalidData` for text that is not UTF-8.
    pub fn read_text<'b>(&self, buf: &'b mut Vec<u8>) -> Result<&'b str, Error> {
        let bytes = self.read(buf)?;
        std::str::from_utf8(bytes)
            .map_err(|_| Error::Io { path: self.path.clone(), source: std::io::ErrorKind::InvalidData.into() })
    }
}

impl AsFd for KernelFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Reads a kernel file whole, once, as text.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Permission`], [`Error::Gone`], or [`Error::Io`] (`InvalidData` for what is not UTF-8).
pub fn read_text(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    std::fs::read_to_string(path).map_err(|e| Error::opening(path, e))
}

/// Names in a directory, sorted. Names that are not UTF-8 are left out: the kernel makes none.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Permission`], [`Error::Gone`] or [`Error::Io`].
pub fn list_dir(path: &Path) -> Result<Vec<String>, Error> {
    let entries = std::fs::read_dir(path).map_err(|e| Error::opening(path, e))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::reading(path, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Last component of a symbolic link's target: the driver's name behind `device/driver`. `None` when it is no link.
pub fn read_link_name(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_string())
}
