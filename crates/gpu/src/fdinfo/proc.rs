//! The few files of /proc that the scanner needs beside fdinfo: pure parsers.

/// Flag of kernel threads in `/proc/PID/stat` (`PF_KTHREAD`, include/linux/sched.h): they have no files.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Bit of CAP_SYS_PTRACE in `CapEff` (include/uapi/linux/capability.h).
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// What `/proc/PID/stat` says (`do_task_stat`, fs/proc/array.c). Readable for every process that is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// Start time in ticks since boot: with the pid, the identity of the process.
    pub start: u64,
    /// Whether it is a kernel thread.
    pub kernel: bool,
    /// Whether it has ended and waits for its parent: no files any more.
    pub ended: bool,
}

/// Parses `/proc/PID/stat`. The name in parentheses may hold anything, parentheses and spaces included.
pub fn parse_stat(text: &str) -> Option<ProcStat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // Fields count from 1; the state is the third, the flags the ninth, the start time the twenty-second.
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let start: u64 = fields.nth(12)?.parse().ok()?;
    Some(ProcStat { start, kernel: flags & PF_KTHREAD != 0, ended: matches!(state, "Z" | "X" | "x") })
}

/// Whether fdinfo is that of a file opened with O_PATH: its `flags` are octal (`seq_show`, fs/proc/fd.c). Such a file is a name, and
/// no client: the driver's `open` was not called.
pub(super) fn is_path_only(fdinfo: &str) -> bool {
    const O_PATH: u32 = 0o10_000_000;
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).is_some_and(|flags| flags & O_PATH != 0)
}

/// Whether the proc file system at `mount_point` hides processes of others from a process with this `/proc/self/status`.
///
/// Options `hidepid=invisible` (2) and `hidepid=ptraceable` (4), and the group of `gid=` for which the former does not hold:
/// Documentation/filesystems/proc.rst, chapter 4. `hidepid=noaccess` (1) leaves the processes visible; they are counted when
/// reading them is refused.
pub fn hides_processes(mountinfo: &str, mount_point: &str, status: &str) -> bool {
    let field = |name: &str| status.lines().filter_map(|l| l.split_once(':')).find(|(k, _)| *k == name).map(|(_, v)| v);
    let capabilities = field("CapEff").and_then(|v| u64::from_str_radix(v.trim(), 16).ok()).unwrap_or(0);
    if capabilities & CAP_SYS_PTRACE != 0 {
        return false;
    }
    // The last mount on a mount point is the one that is seen.
    let Some(options) = mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(mount_point))
        .filter_map(|line| line.split_once(" - ")?.1.split(' ').nth(2))
        .next_back()
    else {
        return false;
    };
    let mut hides = false;
    let mut open_to = None;
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("hidepid", "invisible" | "2")) => hides = true,
            Some(("hidepid", "ptraceable" | "4")) => return true,
            Some(("gid", gid)) => open_to = Some(gid),
            _ => {}
        }
    }
    let member =
        open_to.is_some_and(|gid| field("Groups").is_some_and(|g| g.split_ascii_whitespace().any(|g| g == gid)));
    hides && !member
}

/// Whether the target of `/proc/self/ns/pid` is a PID namespace below the machine's own, whose number is fixed
/// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h): processes outside it cannot be seen.
pub fn is_inner_namespace(link: &str) -> bool {
    link.starts_with("pid:[") && link != "pid:[4026531836]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_process_with_parentheses_in_its_name() {
        let text = "77 (a) Z (b) S 1 77 77 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 4711 1000 200 18446744073709551615";
        assert_eq!(parse_stat(text), Some(ProcStat { start: 4711, kernel: false, ended: false }));
    }

    #[test]
    fn stat_of_kernel_threads_and_zombies() {
        let kthread = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0";
        assert!(parse_stat(kthread).unwrap().kernel);
        let zombie = "9 (x) Z 1 9 9 0 -1 4194564 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0";
        assert!(parse_stat(zombie).unwrap().ended);
        assert_eq!(parse_stat("synthetic"), None);
        assert_eq!(parse_stat("1 (x) S 1 2"), None);
    }

    #[test]
    fn files_opened_as_a_path_only() {
        assert!(is_path_only("pos:\t0\nflags:\t012000000\nmnt_id:\t9\nino:\t4\n"));
        assert!(!is_path_only("pos:\t0\nflags:\t02100002\nmnt_id:\t9\nino:\t4\n"));
        assert!(!is_path_only("flags:\tsynthetic\n"));
        assert!(!is_path_only(""));
    }

    #[test]
    fn hidepid_counts_unless_rights_or_group_lift_it() {
        let mount = "22 27 0:21 / /proc rw,relatime - proc proc rw,gid=26,hidepid=invisible\n";
        let user = "Groups:\t4 27 \nCapEff:\t0000000000000000\n";
        assert!(hides_processes(mount, "/proc", user));
        assert!(!hides_processes(mount, "/proc", "Groups:\t26 27 \nCapEff:\t0000000000000000\n"));
        assert!(!hides_processes(mount, "/proc", "Groups:\t\nCapEff:\t0000000000080000\n"));
        assert!(!hides_processes("22 27 0:21 / /proc rw - proc proc rw,hidepid=noaccess\n", "/proc", user));
        assert!(!hides_processes("22 27 0:21 / /proc rw - proc proc rw\n", "/proc", user));
        assert!(hides_processes("22 27 0:21 / /proc rw - proc proc rw,hidepid=ptraceable\n", "/proc", user));
    }

    #[test]
    fn inner_pid_namespaces_are_told_by_number() {
        assert!(!is_inner_namespace("pid:[4026531836]"));
        assert!(is_inner_namespace("pid:[4026532999]"));
    }
}
