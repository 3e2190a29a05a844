//! The DRM clients of the machine, found once and kept.
//!
//! A full walk of /proc costs microseconds an open file; what is read at every tick here is a `getdents` of /proc, one `stat` a
//! process and one `pread` a client. The `stat` is of `/proc/PID/fd`, whose size is the number of open files (`proc_fd_getattr`,
//! fs/proc/fd.c) and whose inode changes with the process: a process is walked again when these change. That is a hint only
//! (one file closed and one opened leave the number equal), hence a walk in turn over the others within a small budget. Kernels
//! before 6.2 print a size of 0: there the walk in turn does the work, with a larger budget.

mod captured;
mod client;

pub(crate) use self::client::{Client, Holder};
use self::client::{hold, read_client, release};
use super::parse::{client_id, parse_fdinfo};
use super::proc::{ProcStat, hides_processes, is_inner_namespace, parse_stat};
use gpuscope_model::{Reason, Why};
use gpuscope_pmu::{Capability, Rights};
use gpuscope_sys::{Error, KernelFile, Roots, monotonic_ns, read_text};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags, makedev, openat, statat, statx};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// The number of open files of a process is looked at no more often than this.
const CHECK_NS: u64 = 400 * MS;

/// Kernel threads, ended processes and processes that may not be read are looked at again after this time; a process whose
/// number of files has not changed is due for a walk in turn, and a duplicate is read again.
const RECHECK_NS: u64 = 2 * SECOND;

/// A process whose files change all the time is not walked again before this many times the cost of its last walk has passed,
/// or [`RECHECK_NS`]: a server with ten thousand sockets must not cost a core.
const WALK_SPACING: u64 = 500;

/// A process that was started while the scanner ran is walked again at every look for so long: programs open their GPU when they begin,
/// and one that puts it in the place of another file (`dup2`) has as many files as before.
const YOUNG_NS: u64 = 5 * SECOND;

/// Share of the elapsed time that walks in turn may take where the number of open files is a hint: one part in two thousand. A file
/// number used again for another client is noticed without them, when the client is read.
const TURN_SHARE: u64 = 2_000;

/// The same on kernels that do not tell the number of open files.
const TURN_SHARE_BLIND: u64 = 50;

/// A device whose clients are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Device numbers of its primary and render node (`makedev`).
    pub(crate) rdevs: Vec<u64>,
    /// Its PCI address as fdinfo prints it. In a captured tree clients are matched by it.
    pub(crate) pdev: Option<String>,
    /// Whether its fdinfo may be read at this tick: not when that would wake it.
    pub(crate) readable: bool,
    /// Whether its clients are wanted at all.
    pub(crate) wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Open,
    Denied,
    /// Kernel threads and ended processes.
    NoFiles,
}

/// An open file of a process whose node is a target's.
#[derive(Debug)]
struct NodeFile {
    fd: u32,
    target: usize,
    client: Option<u64>,
    /// Its fdinfo holds no client: the driver prints none.
    mute: bool,
    identified_ns: u64,
}

#[derive(Debug)]
struct Process {
    start: u64,
    inode: u64,
    uid: u32,
    file_count: u64,
    access: Access,
    checked_ns: u64,
    walked_ns: u64,
    walk_cost_ns: u64,
    /// Until when it is [young](YOUNG_NS); zero for one that was there before the scanner.
    young_until_ns: u64,
    /// A client was lost here: walk at once, something else may have its file number.
    suspect: bool,
    tick: u64,
    files: Vec<NodeFile>,
}

/// Finds DRM clients through /proc and keeps them from tick to tick.
#[derive(Debug)]
pub(crate) struct ClientScanner {
    roots: Roots,
    live: bool,
    proc_dir: Option<OwnedFd>,
    targets: Vec<Target>,
    processes: HashMap<u32, Process>,
    clients: Vec<Client>,
    tick: u64,
    last_ns: Option<u64>,
    largest_id: u64,
    denied: usize,
    counts_files: bool,
    hidden: Option<Why>,
    incomplete: Option<(usize, Why)>,
    /// The pid after which the next walk in turn begins.
    turn: u32,
    // Kept between refreshes so that they do not allocate.
    pids: Vec<u32>,
    found: Vec<(u32, usize)>,
    path: String,
    text: Vec<u8>,
    dir_buffer: Vec<MaybeUninit<u8>>,
}

impl ClientScanner {
    /// A scanner that has seen nothing yet. Never fails: what cannot be read is told by [`incomplete`](Self::incomplete).
    pub(crate) fn new(roots: Roots) -> Self {
        let live = roots.is_live();
        ClientScanner::with_mode(roots, live)
    }

    /// `live`: whether `/proc/PID/fd` holds links that can be followed to device nodes.
    pub(super) fn with_mode(roots: Roots, live: bool) -> Self {
        let mut scanner = ClientScanner {
            roots,
            live,
            proc_dir: None,
            targets: Vec::new(),
            processes: HashMap::new(),
            clients: Vec::new(),
            tick: 0,
            last_ns: None,
            largest_id: 0,
            denied: 0,
            counts_files: false,
            hidden: None,
            incomplete: None,
            turn: 0,
            pids: Vec::new(),
            found: Vec::new(),
            path: String::new(),
            text: Vec::new(),
            dir_buffer: vec![MaybeUninit::uninit(); 32 << 10],
        };
        if scanner.live {
            scanner.open_live();
        }
        scanner
    }

    fn open_live(&mut self) {
        let at = self.roots.proc("");
        match rustix::fs::open(&at, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(dir) => {
                self.counts_files = statat(&dir, "self/fd", AtFlags::empty()).is_ok_and(|s| s.st_size > 0);
                self.proc_dir = Some(dir);
            }
            Err(e) => {
                self.hidden = Some(Why::new(Reason::Failed, format!("{}: {}", at.display(), std::io::Error::from(e))))
            }
        }
        let text = |path: &str| read_text(self.roots.proc(path)).unwrap_or_default();
        let mount_point = self.roots.proc("");
        let mount_point = mount_point.to_str().unwrap_or_default().trim_end_matches('/');
        let namespace = std::fs::read_link(self.roots.proc("self/ns/pid")).unwrap_or_default();
        if namespace.to_str().is_some_and(is_inner_namespace) {
            self.hidden = Some(
                Why::new(
                    Reason::NoPermission,
                    "processes outside this PID namespace cannot be seen, and any of them may use the GPU",
                )
                .remedy("run in the PID namespace of the machine (docker, podman: --pid=host)"),
            );
        } else if hides_processes(&text("self/mountinfo"), mount_point, &text("self/status")) {
            self.hidden = Some(
                Why::new(
                    Reason::NoPermission,
                    "processes of other users are hidden (proc is mounted with hidepid), and any of them may use the GPU",
                )
                .remedy(remedy(&self.roots)),
            );
        }
    }

    /// Looks for clients that came and went, and reads those of the devices that may be read.
    pub(crate) fn refresh(&mut self, targets: &[Target], now_ns: u64) {
        self.tick = self.tick.wrapping_add(1);
        let elapsed_ns = now_ns.saturating_sub(self.last_ns.replace(now_ns).unwrap_or(now_ns));
        self.set_targets(targets);
        if !self.targets.iter().any(|t| t.wanted) {
            return;
        }
        if self.live {
            self.refresh_live(now_ns, elapsed_ns);
        } else {
            self.refresh_captured();
        }
        self.clients.retain(|c| !c.holders.is_empty());
        self.largest_id = self.clients.iter().map(|c| c.id).fold(self.largest_id, u64::max);
        self.note_denied();
    }

    /// The clients of all devices.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter()
    }

    /// Whether the client was read in the last refresh.
    pub(crate) fn is_fresh(&self, client: &Client) -> bool {
        client.read_tick == self.tick
    }

    /// When a process was started, in clock ticks after boot; the end of time for one that is not known.
    pub(crate) fn started(&self, pid: u32) -> u64 {
        self.processes.get(&pid).map_or(u64::MAX, |p| p.start)
    }

    /// The clients of one device, by its index in the targets, as read in the last refresh. One that could not be read in it is
    /// left out.
    pub(crate) fn clients_of(&self, target: usize) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(move |c| c.target == target && c.read_tick == self.tick)
    }

    /// The largest client id seen so far. The kernel counts them up over all devices (`drm_file_alloc`, drivers/gpu/drm/drm_file.c):
    /// a larger one belongs to a client that was opened later.
    pub(crate) fn largest_client_id(&self) -> u64 {
        self.largest_id
    }

    /// Number of processes whose files may not be read; kernel threads and ended processes have none and do not count.
    pub(crate) fn denied_processes(&self) -> usize {
        self.denied
    }

    /// Whether processes hold this device open and its driver tells nothing about them.
    pub(crate) fn is_mute(&self, target: usize) -> bool {
        self.processes.values().flat_map(|p| &p.files).any(|f| f.target == target && f.mute)
    }

    /// The processes that hold this device open by files whose client is not known, ascending.
    pub(crate) fn unread_holders(&self, target: usize) -> Vec<u32> {
        let unread = |p: &Process| p.files.iter().any(|f| f.target == target && f.client.is_none());
        let mut pids: Vec<u32> = self.processes.iter().filter(|(_, p)| unread(p)).map(|(pid, _)| *pid).collect();
        pids.sort_unstable();
        pids
    }

    /// Why sums over all clients are not known, when not every process can be read.
    pub(crate) fn incomplete(&self) -> Option<&Why> {
        self.incomplete.as_ref().map(|(_, why)| why).or(self.hidden.as_ref())
    }

    fn set_targets(&mut self, targets: &[Target]) {
        let same_devices = self.targets.len() == targets.len()
            && self
                .targets
                .iter()
                .zip(targets)
                .all(|(a, b)| a.rdevs == b.rdevs && a.pdev == b.pdev && a.wanted == b.wanted);
        if same_devices {
            for (old, new) in self.targets.iter_mut().zip(targets) {
                old.readable = new.readable;
            }
            return;
        }
        // Devices came or went: what is known of those that stay moves to their new index, and all processes are walked, since
        // they may have held a new device for long.
        let moved: Vec<Option<usize>> = self
            .targets
            .iter()
            .map(|old| targets.iter().position(|new| new.rdevs == old.rdevs && new.pdev == old.pdev && new.wanted))
            .collect();
        let to = |target: usize| moved.get(target).copied().flatten();
        self.clients.retain_mut(|c| to(c.target).map(|t| c.target = t).is_some());
        for process in self.processes.values_mut() {
            process.files.retain_mut(|f| to(f.target).map(|t| f.target = t).is_some());
            process.suspect = true;
        }
        self.targets = targets.to_vec();
    }

    fn is_readable(&self, target: usize) -> bool {
        self.targets.get(target).is_some_and(|t| t.wanted && t.readable)
    }

    fn note_denied(&mut self) {
        let n = self.denied;
        if self.incomplete.as_ref().map_or(0, |(n, _)| *n) == n {
            return;
        }
        self.incomplete = (n > 0).then(|| {
            let detail = match n {
                1 => "1 process of another user cannot be read, and it may use the GPU".to_string(),
                n => format!("{n} processes of other users cannot be read, and any of them may use the GPU"),
            };
            (n, Why::new(Reason::NoPermission, detail).remedy(remedy(&self.roots)))
        });
    }

    // The running machine.

    fn refresh_live(&mut self, now_ns: u64, elapsed_ns: u64) {
        if !self.list_pids() {
            return;
        }
        let mut processes = std::mem::take(&mut self.processes);
        let pids = std::mem::take(&mut self.pids);
        for &pid in &pids {
            self.visit(pid, &mut processes, now_ns);
        }
        let tick = self.tick;
        processes.retain(|pid, process| {
            let stays = process.tick == tick;
            if !stays {
                self.forget_files(*pid, process);
            }
            stays
        });
        self.walk_in_turn(&pids, &mut processes, now_ns, elapsed_ns);
        self.identify_pending(&mut processes, now_ns);
        self.read_clients(&mut processes);
        for &pid in &pids {
            if let Some(process) = processes.get_mut(&pid) {
                if process.suspect && process.access == Access::Open {
                    self.walk(pid, process, now_ns);
                }
            }
        }
        self.denied = processes.values().filter(|p| p.access == Access::Denied).count();
        self.processes = processes;
        self.pids = pids;
    }

    /// Fills `pids`, in the order in which the kernel lists them: ascending.
    fn list_pids(&mut self) -> bool {
        self.pids.clear();
        let Some(proc_dir) = &self.proc_dir else { return false };
        // A directory's position belongs to its open file: the held one is rewound.
        if rustix::fs::seek(proc_dir, rustix::fs::SeekFrom::Start(0)).is_err() {
            return false;
        }
        let mut entries = RawDir::new(proc_dir, &mut self.dir_buffer);
        while let Some(Ok(entry)) = entries.next() {
            if let Some(pid) = decimal(entry.file_name().to_bytes()) {
                self.pids.push(pid);
            }
        }
        true
    }

    fn visit(&mut self, pid: u32, processes: &mut HashMap<u32, Process>, now_ns: u64) {
        if let Some(process) = processes.get_mut(&pid) {
            process.tick = self.tick;
            let due_ns = if process.access == Access::Open { CHECK_NS } else { RECHECK_NS };
            if now_ns.saturating_sub(process.checked_ns) < due_ns && !process.suspect {
                return;
            }
            let Some((inode, uid, count)) = self.stat_files(pid) else { return };
            process.checked_ns = now_ns;
            let mut changed = process.suspect || process.uid != uid;
            if process.inode != inode || changed || process.access == Access::NoFiles {
                // Another process may have the pid now, or the kernel has dropped and made the inode anew.
                let Some(stat) = self.stat(pid) else { return };
                if stat.start != process.start {
                    self.forget_files(pid, process);
                    processes.remove(&pid);
                    return self.visit(pid, processes, now_ns);
                }
                process.inode = inode;
                process.uid = uid;
                if stat.kernel || stat.ended {
                    self.forget_files(pid, process);
                    process.access = Access::NoFiles;
                    return;
                }
            }
            if process.access != Access::Open {
                changed = true;
            } else if process.file_count != count || now_ns < process.young_until_ns {
                // A walk takes long, too, where this process had to wait for a CPU: a client of two seconds must not be missed for it.
                let longest_ns = if now_ns < process.young_until_ns { 2 * CHECK_NS } else { RECHECK_NS };
                let spacing_ns = process.walk_cost_ns.saturating_mul(WALK_SPACING).min(longest_ns);
                changed |= now_ns.saturating_sub(process.walked_ns) >= spacing_ns;
            }
            if changed {
                process.file_count = count;
                self.walk(pid, process, now_ns);
            }
            return;
        }
        let Some(stat) = self.stat(pid) else { return };
        let Some((inode, uid, file_count)) = self.stat_files(pid) else { return };
        let mut process = Process {
            start: stat.start,
            inode,
            uid,
            file_count,
            access: if stat.kernel || stat.ended { Access::NoFiles } else { Access::Open },
            checked_ns: now_ns,
            walked_ns: now_ns,
            walk_cost_ns: 0,
            young_until_ns: if self.tick > 1 { now_ns.saturating_add(YOUNG_NS) } else { 0 },
            suspect: false,
            tick: self.tick,
            files: Vec::new(),
        };
        if process.access == Access::Open {
            self.walk(pid, &mut process, now_ns);
        }
        processes.insert(pid, process);
    }

    fn stat(&mut self, pid: u32) -> Option<ProcStat> {
        let path = self.roots.proc(format!("{pid}/stat"));
        // Names of threads need not be UTF-8.
        let file = KernelFile::open(path).ok()?;
        let text = file.read(&mut self.text).ok()?;
        parse_stat(&String::from_utf8_lossy(text))
    }

    /// Inode, owner and size of `/proc/PID/fd`. The owner is root where the process may not be traced by its user.
    fn stat_files(&mut self, pid: u32) -> Option<(u64, u32, u64)> {
        self.path.clear();
        write!(self.path, "{pid}/fd").ok()?;
        let stat = statat(self.proc_dir.as_ref()?, self.path.as_str(), AtFlags::empty()).ok()?;
        Some((stat.st_ino, stat.st_uid, u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Looks through all open files of a process for device nodes.
    fn walk(&mut self, pid: u32, process: &mut Process, now_ns: u64) {
        let begun_ns = monotonic_ns();
        process.suspect = false;
        process.walked_ns = now_ns;
        process.access = match self.find_nodes(pid) {
            Ok(()) => Access::Open,
            Err(Errno::ACCESS | Errno::PERM) => Access::Denied,
            // It has just ended: the next listing will not have it.
            Err(_) => {
                self.forget_files(pid, process);
                return;
            }
        };
        let found = std::mem::take(&mut self.found);
        process.files.retain(|file| {
            let stays = found.contains(&(file.fd, file.target));
            if !stays {
                self.release(pid, file);
            }
            stays
        });
        for &(fd, target) in &found {
            if !process.files.iter().any(|f| f.fd == fd) {
                process.files.push(NodeFile { fd, target, client: None, mute: false, identified_ns: 0 });
            }
        }
        self.found = found;
        self.identify(pid, process, now_ns);
        process.walk_cost_ns = monotonic_ns().saturating_sub(begun_ns);
    }

    /// Fills `found` with the file numbers of a process that are nodes of targets.
    fn find_nodes(&mut self, pid: u32) -> Result<(), Errno> {
        self.found.clear();
        let Some(proc_dir) = &self.proc_dir else { return Err(Errno::NOENT) };
        self.path.clear();
        // Writing into a string does not fail.
        let _ = write!(self.path, "{pid}/fd");
        let dir =
            openat(proc_dir, self.path.as_str(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut entries = RawDir::new(&dir, &mut self.dir_buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            let Some(fd) = decimal(name.to_bytes()) else { continue };
            match device_number(&dir, name) {
                Ok(None) => {}
                Ok(Some(rdev)) => {
                    let target = self.targets.iter().position(|t| t.wanted && t.rdevs.contains(&rdev));
                    self.found.extend(target.map(|t| (fd, t)));
                }
                // Its user's files, but not for others to follow: a process with more rights than this one.
                Err(e @ (Errno::ACCESS | Errno::PERM)) => return Err(e),
                // Closed since it was listed, or a file system that does not answer.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Finds out which clients the nodes of a process belong to, where this is not known or was long ago.
    fn identify(&mut self, pid: u32, process: &mut Process, now_ns: u64) {
        for file in &mut process.files {
            if !self.is_readable(file.target) {
                continue;
            }
            let holder = Holder { pid, fd: file.fd };
            if let Some(id) = file.client {
                // What a client is read through is checked at every reading.
                let primary = self.clients.iter().any(|c| {
                    c.target == file.target && c.id == id && c.file.is_some() && c.holders.first() == Some(&holder)
                });
                if primary || now_ns.saturating_sub(file.identified_ns) < RECHECK_NS {
                    continue;
                }
            }
            file.identified_ns = now_ns;
            let opened = KernelFile::open(self.roots.proc(format!("{pid}/fdinfo/{}", file.fd)));
            let read = opened.and_then(|f| f.read(&mut self.text).map(|_| f));
            match read {
                Ok(kernel_file) => {
                    let read_ns = monotonic_ns();
                    let text = String::from_utf8_lossy(&self.text);
                    let id = client_id(&text);
                    if file.client.is_some() && file.client != id {
                        release(&mut self.clients, holder, file.target, file.client);
                    }
                    file.client = id;
                    file.mute = id.is_none();
                    let Some(id) = id else { continue };
                    let Some(client) = hold(&mut self.clients, file.target, id, holder) else { continue };
                    if client.file.is_none() {
                        if let Some(at) = client.holders.iter().position(|h| *h == holder) {
                            client.holders.swap(0, at);
                        }
                        client.file = Some(kernel_file);
                    }
                    if client.read_tick != self.tick {
                        parse_fdinfo(&text, &mut client.info);
                        client.read_ns = read_ns;
                        client.read_tick = self.tick;
                    }
                }
                Err(Error::Permission { .. }) => process.access = Access::Denied,
                Err(_) => {
                    release(&mut self.clients, holder, file.target, file.client);
                    file.client = None;
                }
            }
        }
    }

    /// Nodes found while their device slept.
    fn identify_pending(&mut self, processes: &mut HashMap<u32, Process>, now_ns: u64) {
        for (pid, process) in processes {
            if process.files.iter().any(|f| f.client.is_none() && !f.mute) {
                self.identify(*pid, process, now_ns);
            }
        }
    }

    /// Walks processes whose number of files gave no reason to, the one after the other over many refreshes.
    fn walk_in_turn(&mut self, pids: &[u32], processes: &mut HashMap<u32, Process>, now_ns: u64, elapsed_ns: u64) {
        let share = if self.counts_files { TURN_SHARE } else { TURN_SHARE_BLIND };
        let budget_ns = (elapsed_ns / share).min(SECOND / share);
        let begun_ns = monotonic_ns();
        let split = pids.partition_point(|pid| *pid <= self.turn);
        let (before, after) = pids.split_at_checked(split).unwrap_or((pids, &[]));
        for &pid in after.iter().chain(before) {
            if monotonic_ns().saturating_sub(begun_ns) >= budget_ns {
                return;
            }
            if let Some(process) = processes.get_mut(&pid) {
                if process.access == Access::Open && now_ns.saturating_sub(process.walked_ns) >= RECHECK_NS {
                    self.walk(pid, process, now_ns);
                    self.turn = pid;
                }
            }
        }
    }

    /// Reads every client of a readable device that was not read in this refresh yet: one system call each.
    fn read_clients(&mut self, processes: &mut HashMap<u32, Process>) {
        // A held file shows whatever has its file number now. Where that could be a node of a device that must not be woken,
        // the node is looked at first.
        let careful = self.targets.iter().any(|t| t.wanted && !t.readable);
        for i in 0..self.clients.len() {
            let Some(client) = self.clients.get(i) else { break };
            if client.read_tick == self.tick || !self.is_readable(client.target) {
                continue;
            }
            // Through another holder, when the one it was read through has closed it or ended.
            while let Some(client) = self.clients.get_mut(i) {
                let Some(&holder) = client.holders.first() else { break };
                let node = |rdevs: &[u64]| {
                    let path = format!("{}/fd/{}", holder.pid, holder.fd);
                    let rdev = self.proc_dir.as_ref().and_then(|dir| device_number(dir, path.as_str()).ok().flatten());
                    rdev.is_some_and(|rdev| rdevs.contains(&rdev))
                };
                let reads = (!careful || self.targets.get(client.target).is_some_and(|t| node(&t.rdevs)))
                    && read_client(client, holder, &self.roots, &mut self.text);
                if reads {
                    client.read_tick = self.tick;
                    break;
                }
                client.file = None;
                client.holders.remove(0);
                if let Some(process) = processes.get_mut(&holder.pid) {
                    process.suspect = true;
                    process.files.retain(|f| f.fd != holder.fd);
                }
            }
        }
    }

    fn release(&mut self, pid: u32, file: &NodeFile) {
        release(&mut self.clients, Holder { pid, fd: file.fd }, file.target, file.client);
    }

    fn forget_files(&mut self, pid: u32, process: &mut Process) {
        for file in process.files.drain(..) {
            self.release(pid, &file);
        }
    }
}

/// `/proc/PID/fd` is a folder of its owner's (0500): the right to trace opens its files, and another one the folder itself.
fn remedy(roots: &Roots) -> String {
    let setcap = Rights::read(roots).setcap(&[Capability::SysPtrace, Capability::DacReadSearch]);
    format!("run as root, or give the program CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: {setcap}")
}

fn decimal(name: &[u8]) -> Option<u32> {
    if name.is_empty() || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Device number behind an entry of `/proc/PID/fd`; `None` for what is no character device.
///
/// Asked for with `statx`, which can be told not to ask a file server: a dead NFS mount would hold up a plain `stat` for ever.
fn device_number<P: rustix::path::Arg + Copy>(dir: &OwnedFd, name: P) -> Result<Option<u64>, Errno> {
    match statx(dir, name, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE) {
        Ok(s) => {
            let is_device = rustix::fs::FileType::from_raw_mode(u32::from(s.stx_mode)).is_char_device();
            Ok(is_device.then(|| makedev(s.stx_rdev_major, s.stx_rdev_minor)))
        }
        // Sandboxes of some container engines do not know the call.
        Err(Errno::NOSYS) => {
            let s = statat(dir, name, AtFlags::empty())?;
            Ok(rustix::fs::FileType::from_raw_mode(s.st_mode).is_char_device().then_some(s.st_rdev))
        }
        Err(e) => Err(e),
    }
}
