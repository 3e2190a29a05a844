//! DRM ioctls, as the system call's tracepoints tell them.
//!
//! Source: the events that CONFIG_FTRACE_SYSCALLS makes (kernel/trace/trace_syscalls.c); their fields are the call's arguments. The kernel
//! passes on requests of type `d` (DRM_IOCTL_BASE, include/uapi/drm/drm.h) alone. The end does not say of which request it is, so that the
//! ends of all ioctls come.

use super::{NOTHING, Spec};
use gpuscope_model::trace::EventKind;

/// The type is the second byte: 0x64.
const IS_DRM: &str = "(cmd & 0x4000) && (cmd & 0x2000) && (cmd & 0x400) && !(cmd & 0x8000) && !(cmd & 0x1000) && !(cmd & 0x800) && \
                      !(cmd & 0x200) && !(cmd & 0x100)";

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "sys_enter_ioctl", kind: EventKind::IoctlEnter, value: Some("cmd"), filter: Some(IS_DRM), ..NOTHING },
    Spec { name: "sys_exit_ioctl", kind: EventKind::IoctlExit, value: Some("ret"), ..NOTHING },
];
