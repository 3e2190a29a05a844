//! The kernel's tracepoints as tracefs describes them.

use crate::EventFormat;
use crate::capture::CaptureError;
use crate::families::FAMILIES;
use gpuscope_model::trace::Family;
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_sys::{Error, Roots, read_text};
use std::io;
use std::path::{Path, PathBuf};

/// Where tracefs is mounted.
///
/// # Errors
/// [`CaptureError::Permission`] where this user may not look, [`CaptureError::Unsupported`] where it is not mounted.
pub(crate) fn find(roots: &Roots) -> Result<PathBuf, CaptureError> {
    let mut refused = None;
    for place in ["kernel/tracing", "kernel/debug/tracing"] {
        let dir = roots.sys(place);
        match std::fs::metadata(dir.join("events")) {
            Ok(_) => return Ok(dir),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => refused = refused.or(Some(dir)),
            Err(_) => {}
        }
    }
    let mount = roots.sys("kernel/tracing");
    match refused {
        Some(dir) => Err(CaptureError::Permission {
            what: dir.display().to_string(),
            remedy: "run as root, or mount tracefs for a group of yours (mount -o remount,gid=GROUP,mode=0750)".into(),
        }),
        None => Err(CaptureError::Unsupported {
            what: format!("no tracefs at {}", mount.display()),
            remedy: format!(
                "mount it (mount -t tracefs tracefs {}), or use a kernel with CONFIG_TRACING",
                mount.display()
            ),
        }),
    }
}

/// The events of the wanted families that are understood and that this kernel has, and what is to be said of each family.
///
/// # Errors
/// [`CaptureError::Io`] where a format cannot be read or understood.
pub(crate) fn events(tracefs: &Path, wanted: &[Family]) -> Result<(Vec<EventFormat>, Vec<SourceReport>), CaptureError> {
    let (mut formats, mut coverage) = (Vec::new(), Vec::new());
    for (system, family, specs) in FAMILIES.iter().filter(|(_, family, _)| wanted.contains(family)) {
        let mut found = Vec::new();
        for spec in *specs {
            let path = tracefs.join("events").join(system).join(spec.name).join("format");
            let text = match read_text(&path) {
                Ok(text) => text,
                Err(Error::NotFound { .. }) => continue,
                Err(e) => return Err(CaptureError::Io { path, source: io::Error::other(e) }),
            };
            let format = EventFormat::parse(system, &text)
                .map_err(|e| CaptureError::Io { path, source: io::Error::new(io::ErrorKind::InvalidData, e) })?;
            found.push(spec.name);
            formats.push(format);
        }
        let source = format!("tracepoints {system}");
        coverage.push(if found.is_empty() {
            let detail = "this kernel has none of their events: no driver that uses them is loaded";
            SourceReport::absent(source, None, Why::new(Reason::NoHardware, detail))
        } else {
            SourceReport::works(source, None, format!("{} as {}", family.name(), found.join(", ")))
        });
    }
    Ok((formats, coverage))
}
