//! What this process may do, and what would help when it may not.

mod explain;

use crate::parse::{Status, parse_status, parse_uid_map_is_whole};
use gpuscope_sys::{Roots, read_text};

/// Capabilities that matter to a monitor, numbered as in include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// CAP_DAC_READ_SEARCH: read files whatever their mode.
    DacReadSearch,
    /// CAP_SYS_PTRACE: look into processes of others.
    SysPtrace,
    /// CAP_SYS_ADMIN.
    SysAdmin,
    /// CAP_PERFMON: performance monitoring (Linux 5.8 and later).
    Perfmon,
    /// CAP_BPF.
    Bpf,
}

impl Capability {
    /// All of them, by number.
    pub const ALL: [Capability; 5] =
        [Capability::DacReadSearch, Capability::SysPtrace, Capability::SysAdmin, Capability::Perfmon, Capability::Bpf];

    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Capability::DacReadSearch => 2,
            Capability::SysPtrace => 19,
            Capability::SysAdmin => 21,
            Capability::Perfmon => 38,
            Capability::Bpf => 39,
        }
    }

    /// Its name, as setcap(8) spells it.
    pub fn name(self) -> &'static str {
        match self {
            Capability::DacReadSearch => "cap_dac_read_search",
            Capability::SysPtrace => "cap_sys_ptrace",
            Capability::SysAdmin => "cap_sys_admin",
            Capability::Perfmon => "cap_perfmon",
            Capability::Bpf => "cap_bpf",
        }
    }

    fn is_in(self, set: u64) -> bool {
        set & (1 << self.number()) != 0
    }
}

/// What the process may do, as proc and sys say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// `/proc/sys/kernel/perf_event_paranoid`: -1 to 2 in mainline; 3 on Debian and 4 on Ubuntu are patches. `None` where the
    /// kernel has no perf events.
    pub perf_event_paranoid: Option<i32>,
    /// `CapEff` of `/proc/self/status`.
    pub capabilities: u64,
    /// `CapBnd` of `/proc/self/status`: what a file's capabilities can give at most. All ones where it is not known.
    pub bounding: u64,
    /// Effective user id.
    pub uid: u32,
    /// Whether a seccomp filter is in force (`Seccomp: 2`).
    pub seccomp: bool,
    /// Whether file capabilities and set-user-id have no effect on what the process starts (`NoNewPrivs: 1`).
    pub no_new_privs: bool,
    /// Kernel lockdown (`/sys/kernel/security/lockdown`), when not `none`. It does not keep counters from being opened:
    /// `perf_event_open` asks it about register samples only.
    pub lockdown: Option<String>,
    /// Release of the kernel (`/proc/sys/kernel/osrelease`); words messages, decides nothing.
    pub kernel: String,
    /// Whether the process lives in a user namespace of its own: the kernel then ignores its capabilities where it asks for
    /// those of the machine, as perf does (`perfmon_capable`).
    pub user_namespace: bool,
}

impl Rights {
    /// Reads the rights of this process. What cannot be read counts as not given.
    pub fn read(roots: &Roots) -> Rights {
        let proc = |path: &str| read_text(roots.proc(path)).ok();
        let status: Status = proc("self/status").and_then(|text| parse_status(&text).ok()).unwrap_or_default();
        let paranoid = proc("sys/kernel/perf_event_paranoid").and_then(|text| text.trim().parse().ok());
        let lockdown = read_text(roots.sys("kernel/security/lockdown")).ok().and_then(|text| {
            // `none [integrity] confidentiality` (security/lockdown/lockdown.c, `lockdown_read`).
            let (_, rest) = text.split_once('[')?;
            let (level, _) = rest.split_once(']')?;
            (level != "none").then(|| level.to_string())
        });
        let whole_ids = proc("self/uid_map").and_then(|text| parse_uid_map_is_whole(&text).ok());
        Rights {
            perf_event_paranoid: paranoid,
            capabilities: status.effective.unwrap_or(0),
            bounding: status.bounding.unwrap_or(u64::MAX),
            // An id that is nobody's: not knowing must not pass for root.
            uid: status.uid.unwrap_or(u32::MAX),
            seccomp: status.seccomp == Some(2),
            no_new_privs: status.no_new_privs.unwrap_or(false),
            lockdown,
            kernel: proc("sys/kernel/osrelease").map(|text| text.trim().to_string()).unwrap_or_default(),
            // A kernel without user namespaces has no such file.
            user_namespace: whole_ids == Some(false),
        }
    }

    /// Whether the process has the capability towards the machine, not only within a user namespace of its own.
    pub fn has(&self, capability: Capability) -> bool {
        !self.user_namespace && capability.is_in(self.capabilities)
    }

    /// Names of the capabilities it has, as setcap(8) spells them.
    pub fn capability_names(&self) -> Vec<&'static str> {
        Capability::ALL.iter().filter(|c| self.has(**c)).map(|c| c.name()).collect()
    }

    /// Whether the process shows signs of a container: a user namespace of its own, or capabilities taken away for good.
    pub fn confined(&self) -> bool {
        self.user_namespace || !Capability::SysAdmin.is_in(self.bounding)
    }

    /// Whether a device-wide counter may be opened, as far as level and capabilities decide: `perf_allow_cpu` of
    /// kernel/events/core.c, and the patches of Debian and Ubuntu. `None` when the level is not known.
    ///
    /// Seccomp filters and security modules can refuse all the same; only opening tells.
    pub fn may_count(&self) -> Option<bool> {
        let level = self.perf_event_paranoid?;
        Some(match level {
            i32::MIN..=0 => true,
            1 | 2 => self.has(Capability::Perfmon) || self.has(Capability::SysAdmin),
            _ => self.has(Capability::SysAdmin),
        })
    }
}

#[cfg(test)]
mod tests;
