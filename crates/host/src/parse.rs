//! Parsers of `/proc/PID` files: text in, values out.

/// What `stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// The name as `stat` prints it, which escapes `\` and newline: to see whether it changed, not to show it.
    pub name: &'a str,
    /// Whether the process has ended and waits for its parent (state Z or X): it has no files any more.
    pub ended: bool,
    /// Time in user mode, in clock ticks, of all threads.
    pub user_ticks: u64,
    /// Time in the kernel, in clock ticks, of all threads.
    pub system_ticks: u64,
    /// Start, in clock ticks after boot.
    pub start_ticks: u64,
}

/// Parses `/proc/PID/stat` (`do_task_stat`, fs/proc/array.c). The name in parentheses may hold anything.
pub fn parse_stat(text: &str) -> Option<Stat<'_>> {
    let (front, rest) = text.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    let mut fields = rest.split_ascii_whitespace();
    // Counted from 1, the state is the third field; utime the 14th, stime the 15th, starttime the 22nd.
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let user_ticks = fields.nth(10)?.parse().ok()?;
    let system_ticks = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(6)?.parse().ok()?;
    Some(Stat { name, ended, user_ticks, system_ticks, start_ticks })
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

/// Where a process stands in the cgroup hierarchies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroups<'a> {
    /// Path in the unified hierarchy (version 2); `None` where none was ever mounted.
    pub unified: Option<&'a str>,
    /// Path in systemd's own hierarchy of version 1 (`name=systemd`), else in the first of the others; `None` where version 1 is
    /// not in use.
    pub legacy: Option<&'a str>,
}

/// Parses `/proc/PID/cgroup` (`proc_cgroup_show`, kernel/cgroup/cgroup.c): a line `ID:CONTROLLERS:PATH` for each hierarchy, in no
/// particular order, the unified one as `0::PATH`.
///
/// A removed cgroup is marked `(deleted)`, which is no part of its path. Paths are relative to the reader's cgroup namespace: what
/// lies outside of it begins with `/..`. A name holds no newline (`cgroup_mkdir` refuses it).
pub fn parse_cgroup(text: &str) -> Cgroups<'_> {
    let mut found = Cgroups::default();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if !path.starts_with('/') {
            continue;
        }
        if id == "0" && controllers.is_empty() {
            found.unified = Some(path);
        } else if found.legacy.is_none() || controllers == "name=systemd" {
            found.legacy = Some(path);
        }
    }
    found
}

/// The words of `/proc/PID/cmdline` (`get_mm_cmdline`, fs/proc/base.c), each ended by NUL, joined by spaces and cut at `limit` bytes,
/// which a `…` says; `None` when there are none (a kernel thread, or a process that has ended).
pub fn parse_cmdline(bytes: &[u8], limit: usize) -> Option<String> {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last.saturating_add(1));
    let words = bytes.get(..end).unwrap_or_default();
    let kept = words.get(..limit).unwrap_or(words);
    let mut line = String::from_utf8_lossy(kept).replace('\0', " ");
    if kept.len() < words.len() {
        // The cut may have gone through a character.
        line.truncate(line.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Composed from `do_task_stat` (fs/proc/array.c), all 52 fields.
    const STAT: &str = "3300 (a) b (c)) S 1 3300 3300 0 -1 4194304 9 0 0 0 900 30 5 6 20 0 27 0 90000 2543157248 3021 \
        18446744073709551615 1 1 0 0 0 0 0 16781312 83128 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn stat_with_parentheses_and_spaces_in_the_name() {
        let expected = Stat { name: "a) b (c)", ended: false, user_ticks: 900, system_ticks: 30, start_ticks: 90_000 };
        assert_eq!(parse_stat(STAT), Some(expected));
    }

    #[test]
    fn stat_of_a_process_that_waits_for_its_parent() {
        let text = STAT.replace(") S ", ") Z ");
        assert!(parse_stat(&text).unwrap().ended);
    }

    #[test]
    fn resident_pages_and_effective_user() {
        // `proc_pid_statm` and `task_state` (fs/proc/array.c).
        assert_eq!(parse_statm("100 30000 200 5 0 70 0\n"), Some(30_000));
        assert_eq!(parse_uid("Name:\tx\nUmask:\t0022\nUid:\t1000\t1001\t1000\t1000\nGid:\t0\t0\t0\t0\n"), Some(1001));
        assert_eq!(parse_uid("Name:\tUid:\nUid:\t0\t0\t0\t0\n"), Some(0));
    }

    #[test]
    fn cgroup_of_the_unified_hierarchy_alone() {
        let found = parse_cgroup("0::/user.slice/session-2.scope\n");
        assert_eq!(found, Cgroups { unified: Some("/user.slice/session-2.scope"), legacy: None });
        assert_eq!(parse_cgroup("0::/gone.scope (deleted)\n").unified, Some("/gone.scope"));
        assert_eq!(parse_cgroup("0::/../other.scope\n").unified, Some("/../other.scope"));
        assert_eq!(parse_cgroup("0::/with:colons:in it\n").unified, Some("/with:colons:in it"));
    }

    #[test]
    fn cgroups_of_both_versions_and_of_the_old_one_alone() {
        let hybrid = "12:cpu,cpuacct:/a\n1:name=systemd:/docker/b\n3:memory:/c\n0::/system.slice/containerd.service\n";
        let expected = Cgroups { unified: Some("/system.slice/containerd.service"), legacy: Some("/docker/b") };
        assert_eq!(parse_cgroup(hybrid), expected);
        assert_eq!(parse_cgroup("3:memory:/c\n2:cpu:/d\n"), Cgroups { unified: None, legacy: Some("/c") });
        // What a process sees of a hierarchy that is being unmounted.
        assert_eq!(parse_cgroup("7995:name=cgrp2: (deleted)\n"), Cgroups::default());
    }

    #[test]
    fn command_lines() {
        assert_eq!(parse_cmdline(b"ffmpeg\0-i\0in.mkv\0", 100).as_deref(), Some("ffmpeg -i in.mkv"));
        assert_eq!(parse_cmdline(b"title set by the process\0\0\0\0", 24).as_deref(), Some("title set by the process"));
        assert_eq!(parse_cmdline(b"", 100), None);
        assert_eq!(parse_cmdline(b"\0\0", 100), None);
        assert_eq!(parse_cmdline("h\u{e9}\u{e9}llo\0".as_bytes(), 4).as_deref(), Some("hé…"));
        assert_eq!(parse_cmdline(b"caf\xe9\0", 100).as_deref(), Some("caf\u{fffd}"));
    }

    #[test]
    fn synthetic_text_is_nothing() {
        for text in ["", ")", "1 x) S", "1 (x", "1 (x) S", "1 (x) S 1 1 1 0 -1 4 9 0 0 0 -1 30 0 0 20 0 27 0 90000"] {
            assert_eq!(parse_stat(text), None, "{text:?}");
        }
        assert_eq!((parse_statm("1"), parse_statm("1 -2"), parse_uid("Uid:\t1\n")), (None, None, None));
        for text in ["", "0", "0:", "0::", "0::relative", "::/x:", "\n\n"] {
            assert_eq!(parse_cgroup(text).unified, None, "{text:?}");
        }
    }
}
