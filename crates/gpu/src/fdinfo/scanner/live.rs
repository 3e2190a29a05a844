//! The running machine: processes come and go, their files are looked through, their clients read.

use super::super::parse::{client_id, parse_fdinfo};
use super::super::proc::{ProcStat, is_path_only, parse_stat};
use super::client::{Holder, Outcome, is_passing};
use super::whole::{Node, WholeScan};
use super::{
    Access, CHECK_NS, ClientScanner, FAILED_SCANS, LIST_NS, Listing, MANY, NodeFile, Process, RECHECK_NS, SCAN_SPACING,
    SCAN_SPACING_BLIND, SCAN_SPACING_SOON, SECOND, STREAM, TURN_SHARE, TURN_SHARE_BLIND, WALK_SPACING, YOUNG_NS,
    decimal,
};
use gpuscope_sys::{Error, KernelFile, monotonic_ns};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags, fstat, makedev, openat, statat, statx};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;

impl ClientScanner {
    pub(super) fn refresh_live(&mut self, now_ns: u64, elapsed_ns: u64) {
        if !self.list_pids(now_ns) {
            return;
        }
        let mut processes = std::mem::take(&mut self.processes);
        let mut pids = std::mem::take(&mut self.pids);
        if self.tick <= 1 && pids.len() >= MANY {
            self.load_whole();
        }
        self.scans = self.scan_is_due(now_ns);
        for &pid in &pids {
            self.visit(pid, &mut processes, now_ns);
        }
        let tick = self.tick;
        processes.retain(|pid, process| {
            let stays = process.tick == tick;
            if !stays {
                self.forget(*pid, process);
            }
            stays
        });
        // After the visits: a file opened later than the scan shows in the number that a visit has noted.
        if self.scans {
            self.scan_whole(&mut processes, now_ns);
        } else if !self.sees_whole() {
            self.walk_in_turn(&pids, &mut processes, now_ns, elapsed_ns);
        }
        self.identify_pending(&mut processes, now_ns);
        self.read_clients(&mut processes);
        for (&pid, process) in &mut processes {
            if process.suspect && process.access == Access::Open {
                self.walk(pid, process, now_ns);
            }
        }
        self.denied = processes.values().filter(|p| p.access == Access::Denied).count();
        if self.tick >= STREAM || pids.len() >= MANY {
            self.load_whole();
        }
        if pids.len() != processes.len() {
            pids.retain(|pid| processes.contains_key(pid));
        }
        self.processes = processes;
        self.pids = pids;
    }

    /// Loads what a scan of the whole machine takes. It may take as long as an interval does: it comes after the readings, whose own
    /// intervals would end late otherwise, and the next ones be short.
    fn load_whole(&mut self) {
        if self.whole.is_none() {
            self.whole = Some(WholeScan::load(&self.roots, &self.rdevs()));
        }
    }

    /// Fills `pids`, ascending: all of them, or where that is enough those that are new.
    fn list_pids(&mut self, now_ns: u64) -> bool {
        let last = self.newest.as_ref().and_then(|file| newest_pid(file.read(&mut self.text).ok()?));
        let from = match (last, self.listing) {
            (Some(last), Some(listing)) if last >= listing.last && now_ns.saturating_sub(listing.full_ns) < LIST_NS => {
                // A process has its number before it can be seen: those of the refresh before are looked for once more.
                self.listing = Some(Listing { last, before: listing.last, ..listing });
                Some(u64::from(listing.before.saturating_add(1)).saturating_add(listing.base))
            }
            _ => None,
        };
        if from.is_none() {
            self.pids.clear();
        }
        let Some(proc_dir) = &self.proc_dir else { return false };
        // A directory's position belongs to its open file: the held one is set anew.
        if rustix::fs::seek(proc_dir, rustix::fs::SeekFrom::Start(from.unwrap_or(0))).is_err() {
            return false;
        }
        // Where a process stands in the folder: its number and a constant (`TGID_OFFSET`, fs/proc/base.c), if it is one.
        let (mut at, mut base, mut is_constant) = (None, None, true);
        let mut entries = RawDir::new(proc_dir, &mut self.dir_buffer);
        while let Some(Ok(entry)) = entries.next() {
            let place = at.replace(entry.next_entry_cookie());
            let Some(pid) = decimal(entry.file_name().to_bytes()) else { continue };
            if let Some(place) = place {
                let offset = place.checked_sub(u64::from(pid));
                is_constant &= offset.is_some() && *base.get_or_insert(offset) == offset;
            }
            self.pids.push(pid);
        }
        if from.is_some() {
            self.pids.sort_unstable();
            self.pids.dedup();
        } else {
            let base = base.flatten().filter(|_| is_constant && self.counts_files);
            self.listing = last.zip(base).map(|(last, base)| Listing { last, before: last, base, full_ns: now_ns });
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
            let (inode, uid, count) = match &process.dir {
                Some(dir) => match fstat(dir) {
                    Ok(stat) => (process.inode, process.uid, u64::try_from(stat.st_size).unwrap_or(0)),
                    // It has ended, and another one has its number.
                    Err(_) => {
                        self.forget(pid, process);
                        processes.remove(&pid);
                        return self.visit(pid, processes, now_ns);
                    }
                },
                None => match self.stat_files(pid) {
                    Some(facts) => facts,
                    None => {
                        self.forget(pid, process);
                        processes.remove(&pid);
                        return;
                    }
                },
            };
            // What the scanner itself opens and closes is no reason to look through this process.
            let count = if pid == self.own_pid { count.saturating_sub(self.own_files()) } else { count };
            process.checked_ns = now_ns;
            let mut changed = process.suspect || process.uid != uid;
            // A kernel thread may become a program (`call_usermodehelper`, kernel/umh.c), which it does at once.
            let may_begin = process.access == Access::NoFiles && now_ns < process.young_until_ns;
            if process.inode == inode && !changed && !may_begin && process.access == Access::NoFiles {
                return;
            }
            if process.inode != inode || changed || may_begin {
                // Another process may have the pid now, or the kernel has dropped and made the inode anew.
                let Some(stat) = self.stat(pid) else { return };
                if stat.start != process.start {
                    self.forget(pid, process);
                    processes.remove(&pid);
                    return self.visit(pid, processes, now_ns);
                }
                process.inode = inode;
                process.uid = uid;
                if stat.kernel || stat.ended {
                    self.forget(pid, process);
                    process.access = Access::NoFiles;
                    return;
                }
            }
            if process.access != Access::Open {
                changed = true;
            } else if process.file_count != count || now_ns < process.young_until_ns {
                // A client of two seconds in a young process must not be missed for the cost of the walks.
                let longest_ns = if now_ns < process.young_until_ns { 2 * CHECK_NS } else { RECHECK_NS };
                let spacing_ns = process.walk_cost_ns.saturating_mul(WALK_SPACING).min(longest_ns);
                changed |= now_ns.saturating_sub(process.walked_ns) >= spacing_ns;
            }
            if changed {
                process.file_count = count;
                if !self.scans {
                    self.walk(pid, process, now_ns);
                }
            }
            return;
        }
        let Some(stat) = self.stat(pid) else { return };
        let Some((inode, uid, file_count)) = self.stat_files(pid) else { return };
        let file_count = if pid == self.own_pid { file_count.saturating_sub(self.own_files()) } else { file_count };
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
            dir: None,
            files: Vec::new(),
        };
        if process.access == Access::Open && !self.scans {
            self.walk(pid, &mut process, now_ns);
        }
        if self.counts_files && self.held < self.folders_at_most {
            // Not that of a process which has the number by now.
            let dir = self.open_folder(pid);
            process.dir = dir.filter(|dir| fstat(dir).is_ok_and(|stat| stat.st_ino == process.inode));
            self.held = self.held.saturating_add(usize::from(process.dir.is_some()));
        }
        processes.insert(pid, process);
    }

    /// Files that the scanner holds open.
    fn own_files(&self) -> u64 {
        self.clients.iter().filter(|c| c.file.is_some()).count().saturating_add(self.held) as u64
    }

    /// Whether a process's folder of open files may not be opened. Wakes nothing.
    fn is_refused(&self, pid: u32) -> bool {
        let Some(proc_dir) = &self.proc_dir else { return false };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(proc_dir, format!("{pid}/fd"), flags, Mode::empty());
        matches!(opened, Err(Errno::ACCESS | Errno::PERM))
    }

    fn open_folder(&mut self, pid: u32) -> Option<OwnedFd> {
        self.path.clear();
        write!(self.path, "{pid}/fd").ok()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(self.proc_dir.as_ref()?, self.path.as_str(), flags, Mode::empty()).ok()
    }

    fn stat(&mut self, pid: u32) -> Option<ProcStat> {
        let path = self.roots.proc(format!("{pid}/stat"));
        // Names of threads need not be UTF-8.
        let read = KernelFile::open(path).and_then(|file| file.read(&mut self.text).map(|_| ()));
        match read {
            Ok(()) => parse_stat(&String::from_utf8_lossy(&self.text)),
            Err(e) => {
                if is_passing(&e) {
                    // A new process is looked for once more: all are listed at the next refresh.
                    self.trouble = Some(e);
                    self.listing = None;
                }
                None
            }
        }
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
        let begun_ns = cpu_ns();
        process.suspect = false;
        process.walked_ns = now_ns;
        process.access = match self.find_nodes(pid) {
            Ok(()) => Access::Open,
            Err(Errno::ACCESS | Errno::PERM) => {
                // Whether it holds a device the next scan of the whole machine tells.
                self.scan_soon = true;
                process.access = Access::Denied;
                return;
            }
            // It has just ended: the next listing will not have it.
            Err(Errno::NOENT | Errno::SRCH) => {
                self.forget(pid, process);
                return;
            }
            Err(e) => {
                let path = self.roots.proc(format!("{pid}/fd"));
                self.trouble = Some(Error::Io { path, source: e.into() });
                process.suspect = true;
                return;
            }
        };
        self.take_found(pid, process, now_ns);
        process.walk_cost_ns = cpu_ns().saturating_sub(begun_ns);
    }

    /// Makes `found` the files of a process.
    fn take_found(&mut self, pid: u32, process: &mut Process, now_ns: u64) {
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
                process.files.push(NodeFile {
                    fd,
                    target,
                    client: None,
                    mute: false,
                    path_only: false,
                    identified_ns: 0,
                });
            }
        }
        self.found = found;
        self.identify(pid, process, now_ns);
    }

    /// Whether this refresh looks through the open files of the whole machine.
    fn scan_is_due(&self, now_ns: u64) -> bool {
        let Some(Ok(whole)) = &self.whole else { return false };
        let (spacing, at_least_ns) =
            if self.counts_files { (SCAN_SPACING, RECHECK_NS) } else { (SCAN_SPACING_BLIND, CHECK_NS) };
        let (spacing, at_least_ns) =
            if self.scan_soon { (SCAN_SPACING_SOON, CHECK_NS) } else { (spacing, at_least_ns) };
        let pause_ns = whole.cost_ns.saturating_mul(spacing).max(at_least_ns);
        whole.scanned_ns.is_none_or(|at| now_ns.saturating_sub(at) >= pause_ns)
    }

    fn scan_whole(&mut self, processes: &mut HashMap<u32, Process>, now_ns: u64) {
        let Some(Ok(whole)) = &mut self.whole else { return };
        let begun_ns = cpu_ns();
        if let Err(why) = whole.scan() {
            // Without file numbers or memory for a moment; walks do meanwhile.
            whole.scanned_ns = None;
            self.failed_scans = self.failed_scans.saturating_add(1);
            if self.failed_scans >= FAILED_SCANS {
                self.whole = Some(Err(why));
            }
            processes.values_mut().for_each(|p| p.suspect = true);
            return;
        }
        whole.scan_ns = cpu_ns().saturating_sub(begun_ns);
        self.failed_scans = 0;
        self.scan_soon = false;
        whole.scanned_ns = Some(now_ns);
        let nodes = std::mem::take(&mut whole.nodes);
        self.take_nodes(&nodes, processes, now_ns);
        if let Some(Ok(whole)) = &mut self.whole {
            whole.nodes = nodes;
            whole.cost_ns = cpu_ns().saturating_sub(begun_ns);
        }
    }

    /// Makes the nodes, sorted, the files of all processes.
    pub(super) fn take_nodes(&mut self, nodes: &[Node], processes: &mut HashMap<u32, Process>, now_ns: u64) {
        for (&pid, process) in processes {
            if process.access == Access::NoFiles {
                continue;
            }
            process.suspect = false;
            process.walked_ns = now_ns;
            // What may not be read is found out where it is read.
            process.access = Access::Open;
            let first = nodes.partition_point(|node| node.0 < pid);
            let own = nodes.get(first..).unwrap_or_default().iter().take_while(|node| node.0 == pid);
            self.found.clear();
            for &(_, fd, rdev) in own {
                let target = self.targets.iter().position(|t| t.wanted && t.rdevs.contains(&rdev));
                self.found.extend(target.map(|t| (fd, t)));
            }
            if self.found.is_empty() && process.files.is_empty() {
                continue;
            }
            self.take_found(pid, process, now_ns);
            // The files of a device that must not be woken are not read: whether they could be, their folder tells.
            let is_unread = |f: &NodeFile| !self.is_readable(f.target);
            if process.access == Access::Open && process.files.iter().any(is_unread) && self.is_refused(pid) {
                process.access = Access::Denied;
            }
        }
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
                let client = self.clients.find(file.target, id);
                let primary = client.is_some_and(|c| c.read_tick > 0 && c.holders.first() == Some(&holder));
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
                        self.clients.release(holder, file.target, file.client);
                    }
                    file.client = id;
                    file.path_only = is_path_only(&text);
                    file.mute = id.is_none() && !file.path_only;
                    let Some(id) = id else { continue };
                    let keep = self.clients.len() <= self.files_at_most;
                    let Some(client) = self.clients.hold(file.target, id, holder) else { continue };
                    if client.file.is_none() && keep {
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
                Err(e) if is_passing(&e) => {
                    // Once more at the next refresh.
                    file.identified_ns = 0;
                    self.trouble = Some(e);
                }
                Err(_) => {
                    self.clients.release(holder, file.target, file.client);
                    file.client = None;
                }
            }
        }
    }

    /// Nodes found while their device slept.
    fn identify_pending(&mut self, processes: &mut HashMap<u32, Process>, now_ns: u64) {
        for (pid, process) in processes {
            let is_pending = |f: &NodeFile| f.client.is_none() && !f.mute && !f.path_only;
            if process.access == Access::Open && process.files.iter().any(is_pending) {
                self.identify(*pid, process, now_ns);
            }
        }
    }

    /// Walks processes whose number of files gave no reason to, the one after the other over many refreshes.
    fn walk_in_turn(&mut self, pids: &[u32], processes: &mut HashMap<u32, Process>, now_ns: u64, elapsed_ns: u64) {
        let share = if self.counts_files { TURN_SHARE } else { TURN_SHARE_BLIND };
        // What the last walk took too long is missing now; what was not used is kept for a second.
        let most_ns = SECOND / share;
        self.turn_ns = self.turn_ns.saturating_add((elapsed_ns / share).min(most_ns) as i64).min(most_ns as i64);
        let split = pids.partition_point(|pid| *pid <= self.turn);
        let (before, after) = pids.split_at_checked(split).unwrap_or((pids, &[]));
        for &pid in after.iter().chain(before) {
            if self.turn_ns <= 0 {
                return;
            }
            if let Some(process) = processes.get_mut(&pid) {
                if process.access == Access::Open && now_ns.saturating_sub(process.walked_ns) >= RECHECK_NS {
                    let begun_ns = cpu_ns();
                    self.walk(pid, process, now_ns);
                    self.turn_ns = self.turn_ns.saturating_sub(cpu_ns().saturating_sub(begun_ns) as i64);
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
            let keep = i < self.files_at_most;
            let Some((read_tick, target)) = self.clients.get_mut(i).map(|c| (c.read_tick, c.target)) else { break };
            if read_tick == self.tick || !self.is_readable(target) {
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
                let outcome = if !careful || self.targets.get(target).is_some_and(|t| node(&t.rdevs)) {
                    client.read(holder, &self.roots, &mut self.text, keep)
                } else {
                    Outcome::Lost
                };
                match outcome {
                    Outcome::Read => {
                        client.read_tick = self.tick;
                        break;
                    }
                    Outcome::Failed(e) => {
                        self.trouble = Some(e);
                        break;
                    }
                    Outcome::Lost => {}
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
        self.clients.release(Holder { pid, fd: file.fd }, file.target, file.client);
    }

    fn forget(&mut self, pid: u32, process: &mut Process) {
        self.held = self.held.saturating_sub(usize::from(process.dir.take().is_some()));
        for file in process.files.drain(..) {
            self.release(pid, &file);
        }
    }
}

/// The number given to a process or thread last: the fifth field of `/proc/loadavg` (`loadavg_proc_show`, fs/proc/loadavg.c).
fn newest_pid(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(4)?.parse().ok()
}

/// Processor time of this thread: what a walk costs, however long it waits for a processor.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(SECOND)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
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
