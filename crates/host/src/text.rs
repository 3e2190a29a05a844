//! Kernel text that may hold any bytes: names of processes and cgroups are no promise of UTF-8.

use gpuscope_model::{Reason, Why};
use gpuscope_sys::Error;
use std::path::Path;

/// Reads a file whole, once. What is not UTF-8 in it is replaced by U+FFFD.
pub(crate) fn read_lossy(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| gone(path, e))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Sorts an error of opening and reading in one: ESRCH, which a process gives that ended in between, can only come from reading.
pub(crate) fn gone(path: &Path, error: std::io::Error) -> Error {
    match Error::opening(path, error) {
        Error::Io { path, source } => Error::reading(&path, source),
        other => other,
    }
}

/// The reason of a file that did not answer; `missing` is what its absence means.
pub(crate) fn why(error: &Error, missing: Reason) -> Why {
    match error {
        Error::NotFound { .. } => Why::new(missing, error.to_string()),
        Error::Gone { .. } => Why::new(Reason::Gone, error.to_string()),
        Error::Permission { .. } => Why::new(Reason::NoPermission, error.to_string()).remedy("run as root"),
        Error::Io { .. } => Why::new(Reason::Failed, error.to_string()),
    }
}
