//! What `gpuscope doctor` found.

use gpuscope_model::{DeviceInfo, SourceReport};

/// The rights of the calling process, the GPUs, and every source with its state: the whole answer of `gpuscope doctor`.
#[derive(Clone, Debug, PartialEq)]
pub struct Doctor<'a> {
    /// Release of the running kernel, `None` where it cannot be read (a captured tree without `/proc/sys/kernel/osrelease`).
    pub kernel: Option<&'a str>,
    /// Number of the effective user.
    pub user: u32,
    /// Capabilities in force that bear on a source, as `cap_perfmon`.
    pub capabilities: &'a [&'a str],
    /// `kernel.perf_event_paranoid`, `None` where the kernel has no perf events.
    pub perf_event_paranoid: Option<i32>,
    /// Mode of the lockdown security module (`integrity`, `confidentiality`), `None` where it restricts nothing.
    pub lockdown: Option<&'a str>,
    /// The GPUs; empty on a machine without one.
    pub gpus: &'a [DeviceInfo],
    /// The sources: those of the whole machine and those of each GPU.
    pub sources: &'a [SourceReport],
}
