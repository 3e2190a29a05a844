//! The clients of a device as debugfs lists them.

use crate::text::{read_lossy, why};
use gpuscope_model::{DeviceInfo, GpuId, Reading, Reason, SourceReport, Why};
use gpuscope_sys::{Error, Roots};

/// A line of debugfs `clients`: an open file of the device, by the process that opened it or was given it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugfsClient {
    /// Name of the process; `None` when it has ended and others hold the file.
    pub command: Option<String>,
    /// The process that uses the file. Source: the column `tgid`; 0, a process outside of the reader's PID namespace, is `None`. Where
    /// there is no such column [`debugfs_clients`] asks `/proc` for the process of the thread.
    pub process: Option<u32>,
    /// The thread that opened the file. Source: the column `pid` of older kernels, 6.1 among them.
    pub thread: Option<u32>,
    /// Minor number of the node: `card0` is 0, `renderD128` is 128.
    pub minor: u32,
    /// Whether it is the DRM master: it drives the displays.
    pub master: bool,
    /// Whether it may use privileged calls of the primary node.
    pub authenticated: bool,
    /// Effective user; `None` when the process has ended, for which the kernel prints 0.
    pub uid: Option<u32>,
    /// `drm-client-name`; `None` without one, and on kernels that do not print it.
    pub client_name: Option<String>,
    /// `drm-client-id`; `None` on kernels that do not print it, 6.1 and 6.12 among them.
    pub client_id: Option<u64>,
}

/// All open files of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugfsClients {
    /// The oldest first.
    pub clients: Vec<DebugfsClient>,
    /// Lines that could not be read: a process has a newline in its name.
    pub unread_lines: usize,
}

/// Parses debugfs `clients` (`drm_clients_info`, drivers/gpu/drm/drm_debugfs.c) by its header, since the columns grew over time:
/// `command pid dev master a uid magic` (6.1), `tgid` in place of `pid` (6.12), `name` and `id` behind them (7.2).
///
/// `None` when the header is of another shape. The command may hold spaces, which nothing behind it may: the kernel takes only
/// printable characters without spaces for a client's name (`drm_validate_value_string`, drivers/gpu/drm/drm_ioctl.c).
pub fn parse_debugfs_clients(text: &str) -> Option<DebugfsClients> {
    let mut lines = text.lines();
    let mut columns = lines.next()?.split_ascii_whitespace();
    if columns.next() != Some("command") {
        return None;
    }
    let columns: Vec<&str> = columns.collect();
    if !columns.contains(&"dev") {
        return None;
    }
    let mut found = DebugfsClients::default();
    for line in lines {
        match parse_line(line, &columns) {
            Some(client) => found.clients.push(client),
            None => found.unread_lines = found.unread_lines.saturating_add(1),
        }
    }
    Some(found)
}

fn parse_line(line: &str, columns: &[&str]) -> Option<DebugfsClient> {
    let mut client = DebugfsClient::default();
    let mut rest = line;
    for column in columns.iter().rev() {
        let (front, value) = rest.trim_ascii_end().rsplit_once(' ')?;
        rest = front;
        match *column {
            "pid" => client.thread = Some(value.parse().ok()?).filter(|pid| *pid != 0),
            "tgid" => client.process = Some(value.parse().ok()?).filter(|pid| *pid != 0),
            "dev" => client.minor = value.parse().ok()?,
            "master" => client.master = flag(value)?,
            "a" => client.authenticated = flag(value)?,
            "uid" => client.uid = Some(value.parse().ok()?),
            "name" => client.client_name = Some(value.to_string()).filter(|name| name != "<unset>"),
            "id" => client.client_id = Some(value.parse().ok()?),
            _ => {}
        }
    }
    let command = rest.trim_ascii();
    if command == "<unknown>" {
        client.uid = None;
    } else {
        client.command = Some(command.to_string());
    }
    Some(client)
}

fn flag(word: &str) -> Option<bool> {
    match word {
        "y" => Some(true),
        "n" => Some(false),
        _ => None,
    }
}

/// Reads the list of a device: `dri/BUS-NAME/clients` in debugfs, or `dri/MINOR/clients` on kernels that have no folder by the bus
/// name (6.1). For root only. `minors` are the device's card and render node.
///
/// It does not wake the device: `drm_clients_info` walks the device's list of files under a lock and prints what stands in memory; there
/// is no callback of the driver and no `pm_runtime_get` on its way.
pub fn debugfs_clients(roots: &Roots, gpu: &GpuId, minors: &[u32]) -> Reading<DebugfsClients> {
    let mut text = read_lossy(roots.sys(format!("kernel/debug/dri/{gpu}/clients")));
    for minor in minors {
        if matches!(text, Err(Error::NotFound { .. })) {
            text = read_lossy(roots.sys(format!("kernel/debug/dri/{minor}/clients")));
        }
    }
    match text {
        Ok(text) => match parse_debugfs_clients(&text) {
            Some(mut found) => {
                for client in found.clients.iter_mut().filter(|c| c.process.is_none()) {
                    client.process = client.thread.and_then(|thread| process_of(roots, thread));
                }
                Reading::Value(found)
            }
            None => Reading::absent(Reason::Failed, "debugfs clients begins with a line that is no known header"),
        },
        Err(Error::NotFound { .. }) if roots.sys("kernel/debug/dri").exists() => {
            Reading::absent(Reason::NotSupported, format!("debugfs lists no clients of {gpu}"))
        }
        Err(Error::NotFound { .. }) => Why::new(Reason::NotSupported, "debugfs is not mounted, or the kernel has none")
            .remedy("mount -t debugfs none /sys/kernel/debug")
            .into(),
        Err(error) => why(&error, Reason::NotSupported).into(),
    }
}

/// The process of a thread. Source: `Tgid:` in `/proc/TID/status` (`task_state`, fs/proc/array.c), which threads have too.
fn process_of(roots: &Roots, thread: u32) -> Option<u32> {
    let status = read_lossy(roots.proc(format!("{thread}/status"))).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Whether debugfs names who has the GPUs open, for `gpuscope doctor`; nothing without a GPU.
pub fn debugfs_report(roots: &Roots, gpus: &[DeviceInfo]) -> Option<SourceReport> {
    const SOURCE: &str = "debugfs clients";
    let mut clients = gpus.iter().filter(|gpu| gpu.card.is_some()).map(|gpu| clients_of(roots, gpu));
    let first = clients.next()?;
    Some(match std::iter::once(first.clone()).chain(clients).find(Reading::is_known).unwrap_or(first) {
        Reading::Value(_) => SourceReport::works(
            SOURCE,
            None,
            "names who has a GPU open where its driver, or a PID namespace, hides them; wakes nothing",
        ),
        Reading::Absent(why) => SourceReport::absent(SOURCE, None, why),
    })
}

/// The list of a device, by its nodes.
pub fn clients_of(roots: &Roots, gpu: &DeviceInfo) -> Reading<DebugfsClients> {
    let minor = |node: &Option<String>| {
        let name = node.as_deref()?.rsplit('/').next()?;
        name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    };
    let minors: Vec<u32> = [&gpu.card, &gpu.render].into_iter().filter_map(minor).collect();
    debugfs_clients(roots, &gpu.id, &minors)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Composed from the two formats of `drm_clients_info` (drivers/gpu/drm/drm_debugfs.c) at the kernel named.
    const V6_1: &str = "\
             command   pid dev master a   uid      magic
                Xorg  1200   0   y    y     0          0
     Web Content (1)  4711 128   n    n  1000          0
";
    const V6_12: &str = "\
             command  tgid dev master a   uid      magic
                Xorg  1200   0   y    y     0          1
           <unknown>  4711 128   n    n     0          0
";

    fn v7_2() -> String {
        let header = format!(
            "{:>20} {:>5} {:>3} master a {:>5} {:>10} {:>64} {:>20}\n",
            "command", "tgid", "dev", "uid", "magic", "name", "id"
        );
        let row = |command: &str, tgid: i32, minor: i32, name: &str, id: u64| {
            format!("{command:>20} {tgid:>5} {minor:>3}   n    y {:>5} {:>10} {name:>64} {id:>20}\n", 1000, 0)
        };
        header + &row("a b 1 2 n n 3 4", 4711, 128, "<unset>", 7) + &row("blender", 0, 129, &"x".repeat(64), u64::MAX)
    }

    #[test]
    fn the_columns_of_6_1() {
        let found = parse_debugfs_clients(V6_1).unwrap();
        let xorg = DebugfsClient {
            command: Some("Xorg".into()),
            thread: Some(1200),
            master: true,
            authenticated: true,
            uid: Some(0),
            ..DebugfsClient::default()
        };
        assert_eq!(found.clients[0], xorg);
        let web = &found.clients[1];
        assert_eq!((web.command.as_deref(), web.thread, web.minor), (Some("Web Content (1)"), Some(4711), 128));
        assert_eq!((web.uid, web.process, web.client_id), (Some(1000), None, None));
        assert_eq!(found.unread_lines, 0);
    }

    #[test]
    fn a_process_that_ended_has_neither_name_nor_user() {
        let found = parse_debugfs_clients(V6_12).unwrap();
        let ended = &found.clients[1];
        assert_eq!((&ended.command, ended.uid, ended.process), (&None, None, Some(4711)));
    }

    #[test]
    fn the_columns_of_7_2() {
        let found = parse_debugfs_clients(&v7_2()).unwrap();
        let [a, b] = &found.clients[..] else { panic!("{found:?}") };
        assert_eq!((a.command.as_deref(), a.process, &a.client_name), (Some("a b 1 2 n n 3 4"), Some(4711), &None));
        assert_eq!((a.client_id, b.client_id), (Some(7), Some(u64::MAX)));
        assert_eq!((b.process, b.client_name.as_deref()), (None, Some("x".repeat(64).as_str())));
    }

    #[test]
    fn synthetic_lines_are_counted_and_passed_over() {
        let found =
            parse_debugfs_clients(&format!("{V6_12}broken\n        name  1 x   n    n     0          0\n\n")).unwrap();
        assert_eq!((found.clients.len(), found.unread_lines), (2, 3));
        for text in ["", "\n", "command\n", "name dev\n", "command pid\n"] {
            assert_eq!(parse_debugfs_clients(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_folder_by_bus_name_then_the_one_by_minor() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::at(dir.path());
        let gpu = GpuId::new("0000:03:00.0");
        let dri = dir.path().join("sys/kernel/debug/dri");
        let read = || debugfs_clients(&roots, &gpu, &[0, 128]);
        assert_eq!(read().why().unwrap().reason, Reason::NotSupported);
        assert!(read().why().unwrap().remedy.as_deref().unwrap().contains("mount"));
        std::fs::create_dir_all(dri.join("128")).unwrap();
        assert_eq!(read().why().unwrap().remedy, None, "it is mounted");
        std::fs::write(dri.join("128/clients"), V6_1).unwrap();
        assert_eq!(read().value().unwrap().clients[0].thread, Some(1200));
        assert_eq!(read().value().unwrap().clients[0].process, None);
        std::fs::create_dir_all(dir.path().join("proc/1200")).unwrap();
        // As `proc_pid_status` begins: `task_name`, then `task_state` (fs/proc/array.c).
        let status = "Name:\tXorg:gdrv0\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t1190\nNgid:\t0\nPid:\t1200\n";
        std::fs::write(dir.path().join("proc/1200/status"), status).unwrap();
        assert_eq!(read().value().unwrap().clients[0].process, Some(1190));
        std::fs::create_dir_all(dri.join("0000:03:00.0")).unwrap();
        std::fs::write(dri.join("0000:03:00.0/clients"), V6_12).unwrap();
        assert_eq!(read().value().unwrap().clients[0].process, Some(1200));
        std::fs::write(dri.join("0000:03:00.0/clients"), "synthetic").unwrap();
        assert_eq!(read().why().unwrap().reason, Reason::Failed);
    }
}
