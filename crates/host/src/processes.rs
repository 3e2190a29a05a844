//! Facts of processes from tick to tick.

use crate::container::container_of;
use crate::parse::{Cgroups, Stat, parse_cgroup, parse_cmdline, parse_stat, parse_statm, parse_uid};
use crate::source::Source;
use crate::text::{gone, read_lossy, why};
use crate::users::Users;
use gpuscope_model::{Counter, ProcessSample, Reading, Reason, Text, Why};
use gpuscope_sys::{Error, Roots, monotonic_ns};
use std::collections::HashMap;
use std::io::Read;

/// Facts that hardly change (user, command line, cgroup) are read again after this time: a process may be moved or change its user.
const REREAD_NS: u64 = 5_000_000_000;

/// Processes that are seen for the first time together are read again in so many ticks' time apart.
const SPREAD: u64 = 16;

/// Command lines are cut at this length: some are megabytes.
const COMMAND_LINE: usize = 4096;

/// So many processes have their two files held open; those of more are opened at each tick. Descriptors are limited to 1,024 by
/// default, and the clients need some.
const HELD: usize = 128;

/// Reads facts of the processes that it is asked for, and of no others.
///
/// At each tick a known process costs two reads of held files (`stat`, `statm`); nothing is allocated. The other facts are read
/// when it is seen first, when its name changes (it runs another program) and every five seconds.
#[derive(Debug)]
pub struct Processes {
    reader: Reader,
    known: HashMap<u32, Known>,
}

/// What it takes to read a process.
#[derive(Debug)]
struct Reader {
    roots: Roots,
    users: Users,
    /// Nanoseconds of a clock tick.
    tick_ns: u64,
    page_bytes: u64,
    buf: Vec<u8>,
}

/// A process that was seen at the last tick.
#[derive(Debug)]
struct Known {
    stat: Source,
    statm: Source,
    /// Name as `stat` prints it.
    name: String,
    sample: ProcessSample,
    /// When its facts are to be read again.
    due_ns: u64,
    seen: bool,
}

impl Processes {
    /// Where the kernel's trees are.
    pub fn roots(&self) -> &Roots {
        &self.reader.roots
    }

    /// Reads nothing yet.
    pub fn new(roots: Roots, users: Users) -> Self {
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let page_bytes = rustix::param::page_size() as u64;
        let reader = Reader { roots, users, tick_ns, page_bytes, buf: Vec::new() };
        Processes { reader, known: HashMap::new() }
    }

    /// Fills `out` with the facts of these processes, in their order. One that has ended is left out, and so is one whose
    /// `stat` may not be read (`hidepid`). A process that is not asked for is forgotten.
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
        if let Some(known) = self.known.get_mut(&pid) {
            if self.reader.tick(known, now).is_some() {
                return Some(known.sample.clone());
            }
        }
        // It has ended, or is new. A held file answers for its own process only: the number's next owner is another file.
        let mut known = self.reader.meet(pid, self.known.len() < HELD)?;
        self.reader.tick(&mut known, now)?;
        let sample = known.sample.clone();
        self.known.insert(pid, known);
        Some(sample)
    }
}

impl Reader {
    fn meet(&self, pid: u32, hold: bool) -> Option<Known> {
        let file = |name: &str| Source::open(self.roots.proc(format!("{pid}/{name}")), hold);
        let (stat, statm) = (file("stat").ok()?, file("statm").ok()?);
        let name = String::new();
        Some(Known { stat, statm, name, sample: blank(pid), due_ns: 0, seen: false })
    }

    /// Reads a process once more; nothing when it has ended.
    fn tick(&mut self, known: &mut Known, now: u64) -> Option<()> {
        let bytes = known.stat.read(&mut self.buf).ok()?;
        let at_ns = monotonic_ns();
        // Borrowed, unless a name is no UTF-8.
        let text = String::from_utf8_lossy(bytes);
        let stat: Stat<'_> = parse_stat(&text).filter(|stat| !stat.ended)?;
        let sample = &mut known.sample;
        if stat.name != known.name || stat.start_ticks != sample.start_ticks {
            known.name.clear();
            known.name.push_str(stat.name);
            known.due_ns = 0;
        }
        sample.start_ticks = stat.start_ticks;
        let ticks = stat.user_ticks.saturating_add(stat.system_ticks);
        sample.cpu_ns = Reading::Value(Counter { value: ticks.saturating_mul(self.tick_ns), at_ns });
        drop(text);
        sample.rss_bytes = match known.statm.read(&mut self.buf) {
            Ok(bytes) => match std::str::from_utf8(bytes).ok().and_then(parse_statm) {
                Some(pages) => Reading::Value(pages.saturating_mul(self.page_bytes)),
                None => no(Reason::Failed, "/proc/PID/statm has no second number").into(),
            },
            Err(Error::Gone { .. }) => return None,
            Err(error) => why(&error, Reason::Gone).into(),
        };
        if known.due_ns <= now {
            let spread = u64::from(sample.pid) % SPREAD * (REREAD_NS / SPREAD);
            known.due_ns = now.saturating_add(REREAD_NS).saturating_add(if known.due_ns == 0 { spread } else { 0 });
            self.facts(sample);
        }
        known.seen = true;
        Some(())
    }

    fn facts(&self, sample: &mut ProcessSample) {
        let pid = sample.pid;
        let file = |name: &str| read_lossy(self.roots.proc(format!("{pid}/{name}"))).map_err(|e| why(&e, Reason::Gone));
        let comm = file("comm").map(|text| Text::from(text.strip_suffix('\n').unwrap_or(&text).to_string()));
        let uid = file("status")
            .and_then(|text| parse_uid(&text).ok_or_else(|| no(Reason::Failed, "/proc/PID/status has no line Uid:")));
        let user = uid.clone().and_then(|uid| {
            let unknown = || Why::new(Reason::NotSupported, format!("user {uid} is not in the passwd file"));
            self.users.name(uid).cloned().ok_or_else(unknown)
        });
        let (cgroup, container) = match file("cgroup") {
            Ok(text) => places(parse_cgroup(&text)),
            Err(why) => (Err(why.clone()), Err(why)),
        };
        sample.comm = comm.into();
        sample.uid = uid.into();
        sample.user = user.into();
        sample.cgroup = cgroup.into();
        sample.container = container.into();
        sample.command_line = self.command_line(pid).into();
    }

    fn command_line(&self, pid: u32) -> Result<Text, Why> {
        let path = self.roots.proc(format!("{pid}/cmdline"));
        let mut bytes = Vec::new();
        // One byte more than is shown tells whether it was all.
        let file = std::fs::File::open(&path).and_then(|f| f.take(COMMAND_LINE as u64 + 1).read_to_end(&mut bytes));
        file.map_err(|e| why(&gone(&path, e), Reason::Gone))?;
        let none = || no(Reason::NotSupported, "the process has no command line");
        parse_cmdline(&bytes, COMMAND_LINE).map(Text::from).ok_or_else(none)
    }
}

/// The cgroup of the unified hierarchy, and the container. While engines still use version 1, only its path tells the container.
fn places(cgroups: Cgroups<'_>) -> (Result<Text, Why>, Result<Text, Why>) {
    let cgroup = cgroups.unified.map(|path| Text::from(path.to_string())).ok_or_else(|| match cgroups.legacy {
        Some(path) => {
            Why::new(Reason::NotSupported, format!("only cgroup version 1 is in use here, where it is {path}"))
        }
        None => no(Reason::NotSupported, "this machine uses no cgroups"),
    });
    let unified = cgroups.unified.and_then(container_of);
    let legacy = cgroups.legacy.and_then(container_of);
    let container = match (unified, legacy) {
        (Some(unit), Some(container)) if unit.starts_with("unit:") => Some(container),
        (unified, legacy) => unified.or(legacy),
    };
    let none = || match (cgroups.unified, cgroups.legacy) {
        (None, None) => no(Reason::NotSupported, "this machine uses no cgroups"),
        _ => no(Reason::NoHardware, "the process runs in no container or unit"),
    };
    (cgroup, container.map(Text::from).ok_or_else(none))
}

fn no(reason: Reason, what: &'static str) -> Why {
    Why::new(reason, what)
}

fn blank(pid: u32) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks: 0,
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
        // Until its parent waits for it, it is there and has ended.
        while !std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        processes.sample(&[child.id()], &mut out);
        assert!(out.is_empty() && processes.known.is_empty());
        child.wait().unwrap();
        processes.sample(&[child.id()], &mut out);
        assert!(out.is_empty() && processes.known.is_empty());
    }

    /// A process as a tree of files; `stat` and `status` as `do_task_stat` and `proc_pid_status` print them (fs/proc/array.c).
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Tree(tempfile::tempdir().unwrap());
            tree.stat("x", 'S', 4242);
            tree.file("statm", b"10 5 1 1 0 1 0\n");
            tree.file("status", b"Name:\tx\nUid:\t1000\t1000\t1000\t1000\n");
            tree.file("cgroup", b"0::/\n");
            tree
        }

        fn file(&self, name: &str, text: &[u8]) {
            let folder = self.0.path().join("proc/7");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), text).unwrap();
        }

        fn stat(&self, name: &str, state: char, start: u64) {
            let text = format!("7 ({name}) {state} 1 1 1 0 -1 4 9 0 0 0 100 50 0 0 20 0 1 0 {start} 0 0\n");
            self.file("stat", text.as_bytes());
            self.file("comm", format!("{name}\n").as_bytes());
            self.file("cmdline", format!("/bin/{name}\0-v\0").as_bytes());
        }

        fn processes(&self) -> Processes {
            Processes::new(Roots::at(self.0.path()), Users::default())
        }

        fn sample(&self) -> ProcessSample {
            one(&mut self.processes()).unwrap()
        }
    }

    fn one(processes: &mut Processes) -> Option<ProcessSample> {
        let mut out = Vec::new();
        processes.sample(&[7], &mut out);
        out.pop()
    }

    fn text(reading: &Reading<Text>) -> &str {
        reading.value().unwrap()
    }

    #[test]
    fn a_user_without_a_name_and_a_process_without_a_container_say_so() {
        let p = Tree::new().sample();
        assert_eq!((p.start_ticks, p.uid.get()), (4242, Some(1000)));
        assert_eq!(p.cpu_ns.get().unwrap().value, 150 * (1_000_000_000 / rustix::param::clock_ticks_per_second()));
        assert_eq!(p.rss_bytes.get(), Some(5 * rustix::param::page_size() as u64));
        assert_eq!(p.user.why().unwrap().reason, Reason::NotSupported);
        assert_eq!(p.container.why().unwrap().reason, Reason::NoHardware);
    }

    #[test]
    fn a_program_that_runs_another_is_named_anew_at_once() {
        let tree = Tree::new();
        let mut processes = tree.processes();
        assert_eq!(text(&one(&mut processes).unwrap().comm), "x");
        tree.stat("blender", 'R', 4242);
        let p = one(&mut processes).unwrap();
        assert_eq!((text(&p.comm), text(&p.command_line)), ("blender", "/bin/blender -v"));
    }

    #[test]
    fn a_number_that_was_given_to_another_process_is_read_anew() {
        let tree = Tree::new();
        let mut processes = tree.processes();
        one(&mut processes).unwrap();
        tree.file("status", b"Name:\tx\nUid:\t0\t0\t0\t0\n");
        assert_eq!(one(&mut processes).unwrap().uid.get(), Some(1000));
        tree.stat("x", 'S', 5000);
        let p = one(&mut processes).unwrap();
        assert_eq!((p.start_ticks, p.uid.get()), (5000, Some(0)));
    }

    #[test]
    fn a_process_that_waits_for_its_parent_is_left_out() {
        let tree = Tree::new();
        tree.stat("x", 'Z', 4242);
        assert_eq!(one(&mut tree.processes()), None);
    }

    #[test]
    fn names_that_are_no_utf8_are_shown_as_far_as_they_go() {
        let tree = Tree::new();
        tree.file("stat", b"7 (caf\xe9) S 1 1 1 0 -1 4 9 0 0 0 100 50 0 0 20 0 1 0 4242 0 0\n");
        tree.file("comm", b"caf\xe9\n");
        tree.file("status", b"Name:\tcaf\xe9\nUid:\t1000\t1000\t1000\t1000\n");
        let p = tree.sample();
        assert_eq!((text(&p.comm), p.uid.get()), ("caf\u{fffd}", Some(1000)));
    }

    #[test]
    fn containers_of_version_1_beside_the_unified_hierarchy() {
        let tree = Tree::new();
        let id = "4f5a0c1de2b3948576a7b8c9d0e1f20314253647586970a1b2c3d4e5f6071829";
        tree.file("cgroup", format!("1:name=systemd:/docker/{id}\n0::/system.slice/containerd.service\n").as_bytes());
        let p = tree.sample();
        assert_eq!((text(&p.cgroup), text(&p.container)), ("/system.slice/containerd.service", "docker:4f5a0c1de2b3"));
        tree.file("cgroup", format!("1:name=systemd:/docker/{id}\n").as_bytes());
        let p = tree.sample();
        assert!(p.cgroup.why().unwrap().detail.contains("version 1"));
        assert_eq!(text(&p.container), "docker:4f5a0c1de2b3");
    }

    #[test]
    fn long_command_lines_are_cut_and_empty_ones_say_so() {
        let tree = Tree::new();
        tree.file("cmdline", &[b'a'; 10_000]);
        let p = tree.sample();
        assert_eq!(text(&p.command_line).len(), COMMAND_LINE + '…'.len_utf8());
        tree.file("cmdline", b"");
        assert_eq!(tree.sample().command_line.why().unwrap().reason, Reason::NotSupported);
    }

    #[test]
    fn many_processes_are_read_without_holding_their_files() {
        let tree = Tree::new();
        let pids: Vec<u32> = (1000..1000 + 2 * HELD as u32).collect();
        for pid in &pids {
            let folder = tree.0.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&folder).unwrap();
            for name in ["stat", "statm"] {
                std::fs::copy(tree.0.path().join("proc/7").join(name), folder.join(name)).unwrap();
            }
        }
        let (mut processes, mut out) = (tree.processes(), Vec::new());
        for _ in 0..2 {
            processes.sample(&pids, &mut out);
            assert!(out.iter().map(|p| p.pid).eq(pids.iter().copied()));
            assert!(out.iter().all(|p| p.rss_bytes.is_known() && p.comm.why().unwrap().reason == Reason::Gone));
        }
        let held = processes.known.values().filter(|k| matches!(k.stat, Source::Held(_))).count();
        assert_eq!(held, HELD);
    }

    #[test]
    fn known_processes_are_read_without_allocating() {
        let own = [std::process::id()];
        let mut processes = Processes::new(Roots::host(), Users::default());
        let mut out = Vec::new();
        (0..3).for_each(|_| processes.sample(&own, &mut out));
        // Long before its facts are due again.
        let counted = allocation_counter::measure(|| processes.sample(&own, &mut out)).count_total;
        assert_eq!((counted, out.len()), (0, 1));
    }
}
