//! What processes asked of DRM devices, and how long it took.

use super::Summary;
use crate::Text;

/// The DRM ioctls of a trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ioctls {
    /// By process and request: those that took longest together first.
    pub calls: Vec<IoctlReport>,
    /// Calls of which the begin was seen and the end was not: they lasted when the trace ended, or their end was lost.
    pub unfinished: u64,
    /// Calls of further processes and requests, for which there was no room.
    pub left_out: u64,
}

/// Whether an ioctl is one of DRM: its type, the second byte of the request, is `d` (DRM_IOCTL_BASE, include/uapi/drm/drm.h). Traces of other
/// tools hold all ioctls.
pub fn is_drm_ioctl(request: i64) -> bool {
    request >> 8 & 0xff == i64::from(b'd')
}

/// One request of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct IoctlReport {
    /// The process; the thread's number where the process is not known.
    pub pid: u32,
    /// Its name.
    pub comm: Text,
    /// The request: direction, size, type and number, as `ioctl(2)` is given it.
    pub request: u32,
    /// Its name, without `DRM_IOCTL_`. Where it is not known which of several drivers was asked, all that it may be, with `or` between them.
    pub name: Option<Text>,
    /// How long each call took, from the begin to the end of the system call.
    pub times: Summary,
    /// All of them together, in nanoseconds.
    pub total_ns: u64,
    /// How many failed with which (negative) error number.
    pub errors: Vec<(i64, u64)>,
}
