//! The kernel's tracepoints as tracefs describes them.

use crate::EventFormat;
use crate::capture::CaptureError;
use crate::families::events_of;
use gpuscope_model::trace::Family;
use gpuscope_sys::{Error, Roots, read_text};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const AS_ROOT: &str = "run it as root, or use the BPF back end, which needs CAP_BPF and CAP_PERFMON only";

/// Where tracefs is.
///
/// # Errors
/// [`CaptureError::Unsupported`] where it is not mounted, [`CaptureError::Permission`] where it must not be looked at.
pub(crate) fn find(roots: &Roots) -> Result<PathBuf, CaptureError> {
    let first = roots.sys("kernel/tracing");
    for dir in [first.clone(), roots.sys("kernel/debug/tracing")] {
        match fs::metadata(dir.join("instances")) {
            Ok(_) => return Ok(dir),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(refused(&dir, error)),
            Err(_) => {}
        }
    }
    Err(CaptureError::Unsupported {
        what: format!("{}: tracefs is not mounted there", first.display()),
        remedy: format!("mount -t tracefs nodev {}", first.display()),
    })
}

/// An error with what would help.
pub(crate) fn refused(path: &Path, source: io::Error) -> CaptureError {
    match source.kind() {
        ErrorKind::PermissionDenied => {
            CaptureError::Permission { what: path.display().to_string(), remedy: AS_ROOT.into() }
        }
        _ => CaptureError::Io { path: path.into(), source },
    }
}

/// The layouts of those events of the families that are understood and that this kernel has.
///
/// # Errors
/// [`CaptureError`] where one is there and cannot be read or understood.
pub(crate) fn formats(tracefs: &Path, wanted: &[Family]) -> Result<Vec<EventFormat>, CaptureError> {
    let mut formats = Vec::new();
    for (system, _, spec) in events_of(wanted) {
        let path = tracefs.join("events").join(system).join(spec.name).join("format");
        match read_text(&path) {
            Ok(text) => formats.push(parse(&path, system, &text)?),
            Err(Error::NotFound { .. }) => {}
            Err(Error::Permission { source, .. }) => return Err(refused(&path, source)),
            Err(error) => return Err(CaptureError::Io { path, source: io::Error::other(error) }),
        }
    }
    Ok(formats)
}

/// A format file's content.
///
/// # Errors
/// [`CaptureError::Unsupported`] where it is none.
pub(crate) fn parse(path: &Path, system: &str, text: &str) -> Result<EventFormat, CaptureError> {
    EventFormat::parse(system, text).map_err(|error| CaptureError::Unsupported {
        what: format!("{}: {error}", path.display()),
        remedy: "leave its family out".into(),
    })
}
