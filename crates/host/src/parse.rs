//! Parsers of `/proc/PID` files: text in, values out.

/// What `stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Time in user mode, in clock ticks, of all threads.
    pub user_ticks: u64,
    /// Time in the kernel.
    pub system_ticks: u64,
    /// Start, in clock ticks after boot.
    pub start_ticks: u64,
}

/// Parses `/proc/PID/stat` (`do_task_stat`, fs/proc/array.c). The name in parentheses may hold anything.
pub fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // Counted from 1, the state is the third field; utime the 14th, stime the 15th, starttime the 22nd.
    let user_ticks = fields.nth(11)?.parse().ok()?;
    let system_ticks = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(6)?.parse().ok()?;
    Some(Stat { user_ticks, system_ticks, start_ticks })
}

/// Resident pages: the second number of `/proc/PID/statm` (`proc_pid_statm`, fs/proc/array.c).
pub fn parse_statm(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The effective user: the second number behind `Uid:` in `/proc/PID/status` (`task_state`, fs/proc/array.c).
pub fn parse_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|l| l.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The path in the unified hierarchy: the line `0::PATH` of `/proc/PID/cgroup` (`proc_cgroup_show`, kernel/cgroup/cgroup.c). A removed
/// cgroup is marked `(deleted)`, which is no part of its path.
pub fn parse_cgroup(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(path))
}

/// The words of `/proc/PID/cmdline`, each ended by NUL, joined by spaces; `None` when there are none (a kernel thread, or a process that
/// has ended).
pub fn parse_cmdline(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim_end_matches('\0').replace('\0', " ");
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_parentheses_and_spaces_in_the_name() {
        let text = "3300 (a) b (c)) S 1 1 1 0 -1 4194304 9 0 0 0 900 30 0 0 20 0 27 0 90000 1000 30000\n";
        assert_eq!(parse_stat(text), Some(Stat { user_ticks: 900, system_ticks: 30, start_ticks: 90_000 }));
    }

    #[test]
    fn small_files() {
        assert_eq!(parse_statm("100 30000 200 5 0 70 0\n"), Some(30_000));
        assert_eq!(parse_uid("Name:\tx\nUid:\t1000\t1001\t1000\t1000\n"), Some(1001));
        assert_eq!(parse_cgroup("12:cpu:/old\n0::/user.slice/session-2.scope\n"), Some("/user.slice/session-2.scope"));
        assert_eq!(parse_cgroup("0::/gone.scope (deleted)\n"), Some("/gone.scope"));
        assert_eq!(parse_cmdline(b"ffmpeg\0-i\0in.mkv\0"), Some("ffmpeg -i in.mkv".into()));
        assert_eq!(parse_cmdline(b""), None);
    }

    #[test]
    fn synthetic_text_is_nothing() {
        for text in ["", ")", "1 (x", "1 (x) S", "1 (x) S 1 1 1 0 -1 4 9 0 0 0 -1 30 0 0 20 0 27 0 90000"] {
            assert_eq!(parse_stat(text), None, "{text:?}");
        }
        assert_eq!((parse_statm("1"), parse_uid("Uid:\t1\n"), parse_cgroup("1:cpu:/x\n")), (None, None, None));
    }
}
