//! Errors by what the caller does about them.

use std::io;
use std::path::{Path, PathBuf};

/// Why a kernel file or call did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{path}: not there", path = path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// Reading was refused (EACCES or EPERM).
    #[error("{path}: {source}", path = path.display())]
    Permission {
        /// The file.
        path: PathBuf,
        /// The refusal; its errno tells EACCES from EPERM.
        source: io::Error,
    },
    /// The device behind the file went away (ENODEV, ENXIO, or ENOENT and ESRCH on a held file).
    #[error("{path}: the device is gone", path = path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl Error {
    /// Sorts an I/O error on opening `path`.
    pub fn opening(path: &Path, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Error::NotFound { path: path.into() },
            Some(libc::EACCES | libc::EPERM) => Error::Permission { path: path.into(), source },
            Some(libc::ENODEV | libc::ENXIO) => Error::Gone { path: path.into() },
            _ => Error::Io { path: path.into(), source },
        }
    }

    /// Sorts an I/O error on reading a file that was opened before: there ENOENT and ESRCH too mean that its subject ended.
    pub fn reading(path: &Path, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO | libc::ENOENT | libc::ESRCH) => Error::Gone { path: path.into() },
            Some(libc::EACCES | libc::EPERM) => Error::Permission { path: path.into(), source },
            _ => Error::Io { path: path.into(), source },
        }
    }

    /// The kernel's error number, where one was given.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::NotFound { .. } => Some(libc::ENOENT),
            Error::Gone { .. } => Some(libc::ENODEV),
            Error::Permission { source, .. } | Error::Io { source, .. } => source.raw_os_error(),
        }
    }
}
