//! Facts of processes from tick to tick.

use crate::container::container_of;
use crate::parse::{Stat, parse_cgroup, parse_cmdline, parse_stat, parse_statm, parse_uid};
use crate::users::Users;
use gpuscope_model::{Counter, ProcessSample, Reading, Reason, Text, Why};
use gpuscope_sys::{Error, KernelFile, Roots, monotonic_ns, read_text};
use std::collections::HashMap;

/// Facts that hardly change (name, command line, cgroup) are read again after this time: a process may run another program or be moved.
const REREAD_NS: u64 = 5_000_000_000;

/// Command lines are cut at this length: some are megabytes.
const COMMAND_LINE: usize = 4096;

/// Reads facts of the processes that it is asked for, and of no others.
pub struct Processes {
    roots: Roots,
    users: Users,
    /// Nanoseconds of a clock tick.
    tick_ns: u64,
    page_bytes: u64,
    known: HashMap<u32, Known>,
    buf: Vec<u8>,
}

/// A process that was seen at the last tick.
struct Known {
    stat: KernelFile,
    statm: Option<KernelFile>,
    sample: ProcessSample,
    read_ns: u64,
    seen: bool,
}

impl Processes {
    /// Reads nothing yet.
    pub fn new(roots: Roots, users: Users) -> Self {
        // USER_HZ is 100 on every architecture of today's kernels, and at least 1 on all.
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let page_bytes = rustix::param::page_size() as u64;
        Processes { roots, users, tick_ns, page_bytes, known: HashMap::new(), buf: Vec::new() }
    }

    /// Fills `out` with the facts of these processes, in their order. One that has ended is left out.
    pub fn sample(&mut self, pids: &[u32], out: &mut Vec<ProcessSample>) {
        let now = monotonic_ns();
        out.clear();
        self.known.values_mut().for_each(|k| k.seen = false);
        for &pid in pids {
            if let Some(sample) = self.one(pid, now) {
                out.push(sample);
            }
        }
        self.known.retain(|_, k| k.seen);
    }

    fn one(&mut self, pid: u32, now: u64) -> Option<ProcessSample> {
        // A held file answers for its own process only: the number's next owner is another file.
        let mut stat = match self.known.get(&pid) {
            Some(known) => read(&known.stat, &mut self.buf, parse_stat),
            None => None,
        };
        if stat.is_none() {
            let file = KernelFile::open(self.roots.proc(format!("{pid}/stat"))).ok()?;
            stat = Some(read(&file, &mut self.buf, parse_stat)?);
            let statm = KernelFile::open(self.roots.proc(format!("{pid}/statm"))).ok();
            let sample = blank(pid, stat?.start_ticks);
            self.known.insert(pid, Known { stat: file, statm, sample, read_ns: 0, seen: true });
        }
        let stat = stat?;
        let stale = self.known.get(&pid).is_some_and(|k| k.read_ns == 0 || now.saturating_sub(k.read_ns) >= REREAD_NS);
        let facts = stale.then(|| self.facts(pid));
        let (tick_ns, page_bytes) = (self.tick_ns, self.page_bytes);
        let known = self.known.get_mut(&pid)?;
        known.seen = true;
        let sample = &mut known.sample;
        if let Some(facts) = facts {
            known.read_ns = now.max(1);
            sample.comm = facts.comm;
            sample.command_line = facts.command_line;
            sample.uid = facts.uid;
            sample.user = facts.user;
            sample.cgroup = facts.cgroup;
            sample.container = facts.container;
        }
        sample.cpu_ns = Reading::Value(cpu(stat, tick_ns));
        sample.rss_bytes = match known.statm.as_ref().and_then(|f| read(f, &mut self.buf, parse_statm)) {
            Some(pages) => Reading::Value(pages.saturating_mul(page_bytes)),
            None => Reading::absent(Reason::Failed, "/proc/PID/statm could not be read"),
        };
        Some(sample.clone())
    }

    fn facts(&self, pid: u32) -> Facts {
        let file = |name: &str| read_text(self.roots.proc(format!("{pid}/{name}"))).map_err(|e| why(&e));
        let comm = file("comm").map(|text| Text::from(text.trim_end_matches('\n').to_string()));
        let uid = file("status").and_then(|text| parse_uid(&text).ok_or_else(|| no("status has no line Uid:")));
        let user = uid.clone().and_then(|uid| {
            let missing = || Why::new(Reason::NotSupported, format!("user {uid} is not in the passwd file"));
            self.users.name(uid).cloned().ok_or_else(missing)
        });
        let cgroup = file("cgroup").and_then(|text| {
            let missing = || Why::new(Reason::NotSupported, "this machine mounts no unified cgroup hierarchy");
            parse_cgroup(&text).map(|path| Text::from(path.to_string())).ok_or_else(missing)
        });
        let container = cgroup.clone().and_then(|path| {
            let missing = || Why::new(Reason::NoHardware, "the process runs in no container or unit");
            container_of(&path).map(Text::from).ok_or_else(missing)
        });
        Facts {
            comm: comm.into(),
            command_line: self.command_line(pid).into(),
            uid: uid.into(),
            user: user.into(),
            cgroup: cgroup.into(),
            container: container.into(),
        }
    }

    fn command_line(&self, pid: u32) -> Result<Text, Why> {
        let path = self.roots.proc(format!("{pid}/cmdline"));
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(|e| why(&Error::opening(&path, e)))?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, COMMAND_LINE as u64), &mut bytes)
            .map_err(|e| why(&Error::reading(&path, e)))?;
        parse_cmdline(&bytes).map(Text::from).ok_or_else(|| no("the process has no command line"))
    }
}

struct Facts {
    comm: Reading<Text>,
    command_line: Reading<Text>,
    uid: Reading<u32>,
    user: Reading<Text>,
    cgroup: Reading<Text>,
    container: Reading<Text>,
}

fn no(what: &'static str) -> Why {
    Why::new(Reason::NotSupported, what)
}

fn why(error: &Error) -> Why {
    let reason = match error {
        Error::NotFound { .. } | Error::Gone { .. } => Reason::Gone,
        Error::Permission { .. } => Reason::NoPermission,
        Error::Io { .. } => Reason::Failed,
    };
    let why = Why::new(reason, error.to_string());
    if reason == Reason::NoPermission { why.remedy("run as root") } else { why }
}

fn read<T>(file: &KernelFile, buf: &mut Vec<u8>, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    parse(file.read_text(buf).ok()?)
}

fn cpu(stat: Stat, tick_ns: u64) -> Counter {
    let ticks = stat.user_ticks.saturating_add(stat.system_ticks);
    Counter { value: ticks.saturating_mul(tick_ns), at_ns: monotonic_ns() }
}

fn blank(pid: u32, start_ticks: u64) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks,
        comm: Why::FIRST_SAMPLE.into(),
        command_line: Why::FIRST_SAMPLE.into(),
        uid: Why::FIRST_SAMPLE.into(),
        user: Why::FIRST_SAMPLE.into(),
        cgroup: Why::FIRST_SAMPLE.into(),
        container: Why::FIRST_SAMPLE.into(),
        cpu_ns: Why::FIRST_SAMPLE.into(),
        rss_bytes: Why::FIRST_SAMPLE.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_as_the_kernel_sees_it() {
        let own = std::process::id();
        let mut processes = Processes::new(Roots::host(), Users::parse("someone:x:4294967294:0::/:\n"));
        let mut out = Vec::new();
        processes.sample(&[own], &mut out);
        let first = out[0].clone();
        assert_eq!(first.pid, own);
        assert!(first.comm.is_known() && first.command_line.is_known());
        assert_eq!(first.uid.get(), Some(rustix::process::geteuid().as_raw()));
        assert!(first.rss_bytes.get().unwrap() > 64 << 10);
        // Work until the kernel has counted some of it.
        let mut sum = 0u64;
        while out[0].cpu_ns.get().unwrap().value <= first.cpu_ns.get().unwrap().value {
            (0..100_000u64).for_each(|i| sum = sum.wrapping_add(i * i));
            processes.sample(&[own], &mut out);
        }
        assert_eq!(out[0].start_ticks, first.start_ticks, "{sum}");
    }

    #[test]
    fn an_ended_process_is_left_out_and_forgotten() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut processes = Processes::new(Roots::host(), Users::default());
        let mut out = Vec::new();
        processes.sample(&[child.id()], &mut out);
        assert_eq!(out.len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        processes.sample(&[child.id()], &mut out);
        assert!(out.is_empty() && processes.known.is_empty());
    }

    #[test]
    fn a_user_without_a_name_and_a_process_without_a_container_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join("proc/7")).unwrap();
            std::fs::write(dir.path().join("proc/7").join(name), text).unwrap();
        };
        file("stat", "7 (x) S 1 1 1 0 -1 4 9 0 0 0 100 50 0 0 20 0 1 0 4242 0 0\n");
        file("statm", "10 5 1 1 0 1 0\n");
        file("status", "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n");
        file("cgroup", "0::/\n");
        let mut out = Vec::new();
        Processes::new(Roots::at(dir.path()), Users::default()).sample(&[7], &mut out);
        let p = &out[0];
        assert_eq!((p.start_ticks, p.uid.get()), (4242, Some(1000)));
        assert_eq!(p.cpu_ns.get().unwrap().value, 150 * (1_000_000_000 / rustix::param::clock_ticks_per_second()));
        assert_eq!(p.user.why().unwrap().reason, Reason::NotSupported);
        assert_eq!(p.container.why().unwrap().reason, Reason::NoHardware);
        assert_eq!(p.comm.why().unwrap().reason, Reason::Gone);
    }
}
