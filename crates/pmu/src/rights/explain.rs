//! The words for a refusal: one cause and one remedy for each errno and level.

use super::{Capability, Rights};
use gpuscope_model::{Reason, Why};
use gpuscope_sys as sys;

const BINARY: &str = "$(command -v gpuscope)";

impl Rights {
    /// The command that gives the program these capabilities. setcap(8) replaces what a file had: what this process holds is given
    /// again, so that following one remedy does not undo another.
    pub fn setcap(&self, needed: &[Capability]) -> String {
        const GIVEN: [Capability; 4] =
            [Capability::Perfmon, Capability::Bpf, Capability::SysPtrace, Capability::DacReadSearch];
        let kept = GIVEN.into_iter().filter(|c| self.uid != 0 && self.has(*c) && !needed.contains(c));
        let names: Vec<&str> = needed.iter().copied().chain(kept).map(Capability::name).collect();
        format!("sudo setcap {}=ep {BINARY}", names.join(","))
    }

    /// What gives this process these capabilities, or what else to do where it has them and is refused all the same.
    ///
    /// A file's capabilities beyond the bounding set keep a program from starting at all (`bprm_caps_from_vfs_caps` in
    /// security/commoncap.c answers EPERM), and root has none beyond it either: setcap and root are offered only where they help.
    pub fn remedy_for(&self, needed: &[Capability]) -> String {
        if self.user_namespace {
            return "run gpuscope on the host (capabilities inside a user namespace do not count)".into();
        }
        let missing: Vec<Capability> = needed.iter().copied().filter(|c| !self.serves_as(*c)).collect();
        if missing.is_empty() {
            return self.remedy_for_filter(needed);
        }
        if missing.iter().any(|c| !c.is_in(self.bounding)) {
            let add: Vec<String> = missing.iter().map(|c| format!("--cap-add {}", docker_name(*c))).collect();
            let root = if self.uid == 0 { "" } else { " --user 0" };
            return format!(
                "start the container with {}{root} (a systemd unit: CapabilityBoundingSet=), or run gpuscope on the host",
                add.join(" ")
            );
        }
        if self.no_new_privs {
            let root = if self.uid == 0 { "" } else { " as root" };
            return format!("start gpuscope{root} from a session that may gain privileges (NoNewPrivs is set here)");
        }
        let names: Vec<String> = missing.iter().map(|c| c.name().to_ascii_uppercase()).collect();
        let root = if self.uid == 0 { "" } else { "run as root, or " };
        format!("{root}give the program {}: {}", names.join(" and "), self.setcap(needed))
    }

    /// Whether a capability, or one that the kernel takes for it (`bpf_capable`, `perfmon_capable`), is there.
    fn serves_as(&self, capability: Capability) -> bool {
        let by_admin = matches!(capability, Capability::Bpf | Capability::Perfmon);
        self.has(capability) || by_admin && self.has(Capability::SysAdmin)
    }

    /// For a process that is refused what its capabilities allow.
    fn remedy_for_filter(&self, needed: &[Capability]) -> String {
        // Files of /proc are opened by calls that no filter takes away.
        if self.seccomp && needed.contains(&Capability::Bpf) {
            return "the capabilities are there: allow the system call bpf in the seccomp filter (docker, podman: --security-opt \
                    seccomp=unconfined; a systemd unit: SystemCallFilter=bpf) or in the security module's policy"
                .into();
        }
        "the capabilities are there: allow it in the security module's policy (docker: --security-opt apparmor=unconfined), see \
         sudo dmesg, sudo ausearch -m avc"
            .into()
    }

    /// Explains why `perf_event_open` refused `what` (a PMU or an event, as a person reads it).
    ///
    /// Being in a group (render, video) never changes the answer, so no remedy speaks of one.
    pub fn explain_perf(&self, errno: i32, what: &str) -> Why {
        match errno {
            libc::EACCES => self.explain_level(what),
            libc::EPERM => self.explain_filter(what),
            libc::ENOENT => {
                Why::new(Reason::NotSupported, format!("{what}: the kernel has no such event or PMU (ENOENT)"))
            }
            libc::ENODEV | libc::ENXIO => {
                Why::new(Reason::NoHardware, format!("{what}: this machine has no such unit or engine (ENODEV)"))
            }
            libc::EINVAL => Why::new(
                Reason::NotSupported,
                format!("{what}: the PMU does not take this event, this CPU, or so many events at once (EINVAL)"),
            ),
            libc::EOPNOTSUPP => {
                Why::new(Reason::NotSupported, format!("{what}: the PMU cannot count this (EOPNOTSUPP)"))
            }
            libc::ENOSYS if self.seccomp => self.explain_filter(what),
            libc::ENOSYS => Why::new(
                Reason::NotSupported,
                format!("{what}: this kernel is built without perf events (CONFIG_PERF_EVENTS)"),
            ),
            libc::EMFILE => Why::new(Reason::Failed, format!("{what}: this process may open no more files (EMFILE)"))
                .remedy("raise the limit in the shell that starts it: ulimit -n 4096"),
            libc::ENFILE => Why::new(Reason::Failed, format!("{what}: the machine has too many open files (ENFILE)"))
                .remedy("sudo sysctl fs.file-max=1000000"),
            libc::EBUSY => Why::new(Reason::Busy, format!("{what}: somebody else holds the counter (EBUSY)")),
            libc::ENOSPC => Why::new(Reason::Busy, format!("{what}: all counters are taken (ENOSPC)")),
            libc::ENOMEM => Why::new(Reason::Failed, format!("{what}: out of memory (ENOMEM)")),
            other => {
                let error = std::io::Error::from_raw_os_error(other);
                Why::new(Reason::Failed, format!("{what}: perf_event_open failed: {error}"))
            }
        }
    }

    /// The same for an I/O error of [`PerfGroup`](gpuscope_sys::perf::PerfGroup).
    pub fn explain_perf_error(&self, error: &std::io::Error, what: &str) -> Why {
        match error.raw_os_error() {
            Some(errno) => self.explain_perf(errno, what),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Why::new(Reason::NotCounting, format!("{what}: the kernel has stopped the counters"))
            }
            None => Why::new(Reason::Failed, format!("{what}: {error}")),
        }
    }

    /// Explains why a file could not be read. `needs` is the capability that opens it, when one does.
    pub fn explain_file(&self, error: &sys::Error, needs: Option<Capability>) -> Why {
        match error {
            sys::Error::NotFound { .. } => Why::new(Reason::NotSupported, error.to_string()),
            sys::Error::Gone { .. } => Why::new(Reason::Gone, error.to_string()),
            sys::Error::Io { .. } => Why::new(Reason::Failed, error.to_string()),
            sys::Error::Permission { .. } => {
                let why = Why::new(Reason::NoPermission, error.to_string());
                match needs {
                    _ if self.uid == 0 && self.confined() => why.remedy("run gpuscope outside the container, as root"),
                    _ if self.confined() => why.remedy("run gpuscope outside the container, as root: sudo gpuscope"),
                    // Root that is refused, or a capability that does not help: a security module. Nothing to type.
                    Some(capability) if self.has(capability) => why,
                    _ if self.uid == 0 => why,
                    _ if self.no_new_privs => why.remedy(
                        "start gpuscope as root from a session that may gain privileges (NoNewPrivs is set here)",
                    ),
                    Some(capability) => {
                        why.remedy(format!("run as root: sudo gpuscope; or once: {}", self.setcap(&[capability])))
                    }
                    None => why.remedy("run as root: sudo gpuscope"),
                }
            }
        }
    }

    /// EACCES: the level, or a security module when level and capabilities would allow it.
    fn explain_level(&self, what: &str) -> Why {
        let Some(level) = self.perf_event_paranoid else {
            return Why::new(Reason::NoPermission, format!("{what}: perf_event_open was refused (EACCES)"))
                .remedy("run as root: sudo gpuscope");
        };
        if self.may_count() == Some(true) {
            return Why::new(
                Reason::NoPermission,
                format!(
                    "{what}: perf_event_open was refused (EACCES) though kernel.perf_event_paranoid={level} and the \
                     capabilities allow it: a security module (SELinux, AppArmor) decides"
                ),
            )
            .remedy("allow perf_event for this program in the security module's policy: see sudo dmesg, sudo ausearch -m avc");
        }
        let held = self.has(Capability::Perfmon);
        let detail = match (level >= 3, held) {
            (true, true) => format!(
                "{what}: kernel.perf_event_paranoid={level} (a distribution's own level) refuses CAP_PERFMON alone (EACCES)"
            ),
            (true, false) => format!(
                "{what}: kernel.perf_event_paranoid={level} (a distribution's own level) keeps counters from all but \
                 CAP_SYS_ADMIN (EACCES)"
            ),
            (false, _) => format!(
                "{what}: kernel.perf_event_paranoid={level} keeps device-wide counters from processes without {}{} (EACCES)",
                self.counting_capability().name().to_ascii_uppercase(),
                if self.user_namespace { "; capabilities inside a user namespace do not count" } else { "" }
            ),
        };
        Why::new(Reason::NoPermission, detail).remedy(self.level_remedy(level, held))
    }

    /// What opens device-wide counters at this level. Every command here is enough by itself unless joined by "and".
    fn level_remedy(&self, level: i32, held: bool) -> String {
        let setcap = self.setcap(&[self.counting_capability()]);
        if self.confined() {
            let give = if self.user_namespace {
                // perfmon_capable() asks the first user namespace: no capability of a rootless container counts.
                String::new()
            } else if level >= 3 {
                ", or start the container with --cap-add SYS_ADMIN".to_string()
            } else {
                format!(", or start the container with --cap-add {}", docker_name(self.counting_capability()))
            };
            return format!("on the host, for everybody: sudo sysctl kernel.perf_event_paranoid=0{give}");
        }
        let everybody = "for everybody: sudo sysctl kernel.perf_event_paranoid=0";
        if self.no_new_privs && !held {
            // File capabilities and sudo have no effect below such a process.
            return format!("{everybody}, from a session that may gain privileges (NoNewPrivs is set here)");
        }
        let root = if self.uid == 0 { "" } else { "; or run as root: sudo gpuscope" };
        match (level >= 3, held) {
            (true, true) => format!("sudo sysctl kernel.perf_event_paranoid=2{root}"),
            (true, false) => format!("sudo sysctl kernel.perf_event_paranoid=2 and {setcap}; or {everybody}{root}"),
            (false, _) => format!("{setcap}; or {everybody}{root}"),
        }
    }

    /// EPERM: perf itself answers EACCES to counting events, so somebody else said no.
    fn explain_filter(&self, what: &str) -> Why {
        if !self.seccomp && !self.confined() {
            return Why::new(
                Reason::NoPermission,
                format!("{what}: perf_event_open is not permitted (EPERM): a security module or a sandbox decides"),
            )
            .remedy("run gpuscope outside the sandbox");
        }
        let why = Why::new(
            Reason::NoPermission,
            format!("{what}: a seccomp filter (container or sandbox) blocks the system call perf_event_open"),
        );
        // The profile of Docker and Podman lets the call pass with one of these capabilities; then the level applies.
        let level = self.perf_event_paranoid.unwrap_or(2);
        if self.user_namespace {
            return why.remedy(
                "run gpuscope on the host; or start the container with --security-opt seccomp=unconfined and, on the host, \
                 sudo sysctl kernel.perf_event_paranoid=0",
            );
        }
        if !self.confined() {
            return why.remedy("run gpuscope outside the sandbox (a systemd unit: SystemCallFilter=perf_event_open)");
        }
        let capability = if level >= 3 { "SYS_ADMIN" } else { docker_name(self.counting_capability()) };
        why.remedy(format!("run gpuscope on the host; or start the container with --cap-add {capability}"))
    }

    /// CAP_PERFMON came with Linux 5.8; before it, CAP_SYS_ADMIN was asked for.
    fn counting_capability(&self) -> Capability {
        let mut numbers = self.kernel.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) if (major, minor) < (5, 8) => Capability::SysAdmin,
            _ => Capability::Perfmon,
        }
    }
}

/// Container engines spell capabilities in capitals and without the prefix.
fn docker_name(capability: Capability) -> &'static str {
    match capability {
        Capability::DacReadSearch => "DAC_READ_SEARCH",
        Capability::SysPtrace => "SYS_PTRACE",
        Capability::SysAdmin => "SYS_ADMIN",
        Capability::Perfmon => "PERFMON",
        Capability::Bpf => "BPF",
    }
}
