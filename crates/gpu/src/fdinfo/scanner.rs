//! The DRM clients of the machine, found once and kept.
//!
//! A full walk of /proc costs microseconds an open file; what is read at every tick here is a `getdents` of /proc, one `stat` a
//! process and one `pread` a client. The `stat` is of `/proc/PID/fd`, whose size is the number of open files (`proc_fd_getattr`,
//! fs/proc/fd.c) and whose inode changes with the process: a process is walked again when these change. That is a hint only
//! (one file closed and one opened leave the number equal), hence a walk in turn over the others within a small budget. Kernels
//! before 6.2 print a size of 0: there the walk in turn does the work, with a larger budget. Where BPF may be used, one pass over the
//! open files of the whole machine takes the place of the walks in turn.

mod captured;
mod client;
mod live;
mod whole;

pub(crate) use self::client::Client;
use self::client::Clients;
#[cfg(test)]
pub(crate) use self::client::Holder;
use self::whole::WholeScan;
use super::proc::{hides_processes, is_inner_namespace};
use gpuscope_model::{Reason, Why};
use gpuscope_pmu::{Capability, Rights};
use gpuscope_sys::{Error, KernelFile, Roots, read_text};
use rustix::fs::{AtFlags, Mode, OFlags, statat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
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

/// Share of the elapsed time that walks in turn may take where the number of open files is a hint: one part in sixteen thousand. A file
/// number used again for another client is noticed without them, when the client is read.
const TURN_SHARE: u64 = 16_000;

/// The same on kernels that do not tell the number of open files.
const TURN_SHARE_BLIND: u64 = 50;

/// Folders of processes held open at most, and files of clients.
const HELD_AT_MOST: usize = 8192;

/// With this many processes the first walk costs more than loading the BPF program does.
const MANY: usize = 300;

/// With fewer the program is loaded after this refresh: whoever looks once or twice does without it.
const STREAM: u64 = 3;

/// All processes are listed again after this time; in between only those with a number that has not been given out before.
const LIST_NS: u64 = 5 * SECOND;

/// A scan of the whole machine is not repeated before this many times its cost has passed: on a large machine it takes 6 to 8 ms.
const SCAN_SPACING: u64 = 2000;

/// The same on kernels that do not tell the number of open files, where nothing but the scan finds a client.
const SCAN_SPACING_BLIND: u64 = 50;

/// The same where a process that may not be read has changed, or is new, and may hold a device.
const SCAN_SPACING_SOON: u64 = 100;

/// Scans that may fail one after the other before there are only walks.
const FAILED_SCANS: u32 = 3;

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

/// Processes that may not be read: how many, and whether it is known that they hold a device.
type Denied = (usize, bool);

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
    /// Opened with O_PATH: the kernel has made no client for it.
    path_only: bool,
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
    /// `/proc/PID/fd`, opened as a path: its `fstat` costs half of a `stat` by name, and fails once the process has ended.
    dir: Option<OwnedFd>,
    files: Vec<NodeFile>,
}

/// What the last listing of processes said.
#[derive(Clone, Copy, Debug)]
struct Listing {
    /// The number given out last, before this listing and the one before it.
    last: u32,
    before: u32,
    /// Position of a process in the folder, less its number.
    base: u64,
    full_ns: u64,
}

/// Finds DRM clients through /proc and keeps them from tick to tick.
#[derive(Debug)]
pub(crate) struct ClientScanner {
    roots: Roots,
    live: bool,
    proc_dir: Option<OwnedFd>,
    /// `/proc/loadavg`, which tells the process number given out last.
    newest: Option<KernelFile>,
    listing: Option<Listing>,
    own_pid: u32,
    targets: Vec<Target>,
    processes: HashMap<u32, Process>,
    clients: Clients,
    tick: u64,
    last_ns: Option<u64>,
    largest_id: u64,
    denied: usize,
    counts_files: bool,
    hidden: Option<Why>,
    incomplete: Option<(Denied, Why)>,
    /// The trouble of the last refresh, by its errno.
    failed: Option<(Option<i32>, Why)>,
    /// Or why there is none; not tried yet while neither.
    whole: Option<Result<WholeScan, Why>>,
    /// The whole machine is scanned in this refresh: no process needs to be walked.
    scans: bool,
    /// Folders held open, and how many may be.
    held: usize,
    /// Folders, and files of clients, that may be held open.
    folders_at_most: usize,
    files_at_most: usize,
    /// What kept something from being looked at in this refresh, that has nothing to do with it.
    trouble: Option<Error>,
    /// A process may hold a device that the last scan has not seen.
    scan_soon: bool,
    /// Scans that failed one after the other.
    failed_scans: u32,
    /// The pid after which the next walk in turn begins.
    turn: u32,
    /// Processor time that walks in turn may take now; below zero after one that took longer.
    turn_ns: i64,
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
        let may_open = getrlimit(Resource::Nofile).current.and_then(|n| usize::try_from(n).ok());
        let may_open = may_open.unwrap_or(usize::MAX).min(4 * HELD_AT_MOST);
        // Of folders and of clients' files each. A program that embeds this needs file numbers of its own, and with the usual 1,024 has few.
        let share = if may_open < 4096 { 16 } else { 4 };
        let mut scanner = ClientScanner {
            roots,
            live,
            proc_dir: None,
            newest: None,
            listing: None,
            own_pid: std::process::id(),
            targets: Vec::new(),
            processes: HashMap::new(),
            clients: Clients::default(),
            tick: 0,
            last_ns: None,
            largest_id: 0,
            denied: 0,
            counts_files: false,
            hidden: None,
            incomplete: None,
            failed: None,
            whole: None,
            scans: false,
            held: 0,
            folders_at_most: may_open / share,
            files_at_most: may_open / share,
            trouble: None,
            scan_soon: false,
            failed_scans: 0,
            turn: 0,
            turn_ns: 0,
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
                self.newest = KernelFile::open(self.roots.proc("loadavg")).ok();
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
        self.trouble = None;
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
        if self.clients.iter().any(|c| c.holders.is_empty()) {
            self.clients.retain(|c| !c.holders.is_empty());
        }
        self.largest_id = self.clients.iter().map(|c| c.id).fold(self.largest_id, u64::max);
        self.note_denied();
        self.note_trouble();
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

    /// Number of processes whose files may not be read; kernel threads and ended processes have none and do not count. Where BPF
    /// tells who holds a device, only those that do.
    pub(crate) fn denied_processes(&self) -> usize {
        self.denied
    }

    /// Whether processes hold this device open and its driver tells nothing about them.
    pub(crate) fn is_mute(&self, target: usize) -> bool {
        self.processes.values().flat_map(|p| &p.files).any(|f| f.target == target && f.mute)
    }

    /// The processes that hold this device open by files whose client is not known, ascending.
    pub(crate) fn unread_holders(&self, target: usize) -> Vec<u32> {
        let unread = |p: &Process| p.files.iter().any(|f| f.target == target && f.client.is_none() && !f.path_only);
        let mut pids: Vec<u32> = self.processes.iter().filter(|(_, p)| unread(p)).map(|(pid, _)| *pid).collect();
        pids.sort_unstable();
        pids
    }

    /// Number of open files of a device, whether its driver tells anything about them or not.
    pub(crate) fn nodes_of(&self, target: usize) -> usize {
        self.processes.values().flat_map(|p| &p.files).filter(|f| f.target == target && !f.path_only).count()
    }

    /// Why sums over all clients are not known, when not every process can be read.
    pub(crate) fn incomplete(&self) -> Option<&Why> {
        let denied = self.incomplete.as_ref().map(|(_, why)| why);
        denied.or(self.hidden.as_ref()).or(self.failed.as_ref().map(|(_, why)| why))
    }

    /// The same for the clients of one device: where it is known who has it open, the holders of others do not matter.
    pub(crate) fn incomplete_of(&self, target: usize) -> Option<&Why> {
        let holds = |p: &Process| p.access == Access::Denied && p.files.iter().any(|f| f.target == target);
        if self.sees_whole() && !self.processes.values().any(holds) {
            return self.hidden.as_ref().or(self.failed.as_ref().map(|(_, why)| why));
        }
        self.incomplete()
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
        self.clients.retain(|c| to(c.target).map(|t| c.target = t).is_some());
        for process in self.processes.values_mut() {
            process.files.retain_mut(|f| to(f.target).map(|t| f.target = t).is_some());
            process.suspect = true;
        }
        self.targets = targets.to_vec();
        let rdevs = self.rdevs();
        if let Some(Ok(whole)) = &mut self.whole {
            match whole.set_devices(&rdevs) {
                Ok(()) => whole.scanned_ns = None,
                Err(why) => self.whole = Some(Err(why)),
            }
        }
    }

    /// Device numbers of all nodes of devices whose clients are wanted.
    fn rdevs(&self) -> Vec<u64> {
        self.targets.iter().filter(|t| t.wanted).flat_map(|t| &t.rdevs).copied().collect()
    }

    /// Whether all open files of devices are known, those of processes included that may not be read.
    fn sees_whole(&self) -> bool {
        matches!(&self.whole, Some(Ok(whole)) if whole.scanned_ns.is_some())
    }

    /// Scans the whole machine with these answers, and fails after them.
    #[cfg(test)]
    pub(super) fn with_whole(mut self, answers: impl IntoIterator<Item = Vec<(u32, u32, u64)>>) -> Self {
        self.whole = Some(Ok(WholeScan::given(answers)));
        self
    }

    /// Processor time of the last scan of the whole machine, in nanoseconds; 0 without one.
    pub(crate) fn scan_ns(&self) -> u64 {
        self.whole.as_ref().and_then(|w| w.as_ref().ok()).map_or(0, |whole| whole.scan_ns)
    }

    /// Never scans the whole machine.
    pub(crate) fn walk_only(mut self) -> Self {
        self.whole = Some(Err(Why::new(Reason::NotSupported, "not asked for")));
        self
    }

    /// Whether the open files of the whole machine can be looked through with BPF, and if not why.
    pub(crate) fn can_scan_whole(&mut self) -> Result<(), &Why> {
        let rdevs = self.rdevs();
        match self.whole.get_or_insert_with(|| WholeScan::load(&self.roots, &rdevs)) {
            Ok(_) => Ok(()),
            Err(why) => Err(why),
        }
    }

    fn is_readable(&self, target: usize) -> bool {
        self.targets.get(target).is_some_and(|t| t.wanted && t.readable)
    }

    fn note_trouble(&mut self) {
        let Some(error) = &self.trouble else {
            self.failed = None;
            return;
        };
        let errno = error.errno();
        if self.failed.as_ref().is_none_or(|(before, _)| *before != errno) {
            let why = Why::new(Reason::Failed, format!("not every client could be read: {error}"));
            let files = [Errno::MFILE, Errno::NFILE].iter().any(|e| Some(e.raw_os_error()) == errno);
            let why = if files { why.remedy("let the program open more files: ulimit -n 8192") } else { why };
            self.failed = Some((errno, why));
        }
    }

    fn note_denied(&mut self) {
        let denied = (self.denied, self.sees_whole());
        if self.incomplete.as_ref().map_or((0, denied.1), |(before, _)| *before) == denied {
            return;
        }
        self.incomplete = (denied.0 > 0).then(|| {
            let detail = match denied {
                (1, false) => "1 process of another user cannot be read, and it may use the GPU".to_string(),
                (n, false) => format!("{n} processes of other users cannot be read, and any of them may use the GPU"),
                (1, true) => "1 process of another user has a GPU open and cannot be read".to_string(),
                (n, true) => format!("{n} processes of other users have a GPU open and cannot be read"),
            };
            (denied, Why::new(Reason::NoPermission, detail).remedy(remedy(&self.roots)))
        });
    }
}

/// `/proc/PID/fd` is a folder of its owner's (0500): the right to trace opens its files, and another one the folder itself.
fn remedy(roots: &Roots) -> String {
    Rights::read(roots).remedy_for(&[Capability::SysPtrace, Capability::DacReadSearch])
}

fn decimal(name: &[u8]) -> Option<u32> {
    if name.is_empty() || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}
