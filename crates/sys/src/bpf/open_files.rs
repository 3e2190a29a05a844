//! Who has a device open.

use super::call;
use super::error::BpfError;
use super::map::Map;
use super::object::{Aligned, Iterators};
use super::record::{OpenFile, RECORD, TOO_MANY, kernel_device, records};
use crate::Roots;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Compiled from `open_files.bpf.c` by `cargo xtask bpf`.
pub(super) static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../bpf/open_files.bpf.o"));

/// So many devices may be asked for at once: `max_entries` of the program's map.
pub const MAX_DEVICES: usize = 256;

/// The kernel collects 8 pages before it answers a read (`bpf_seq_read`, kernel/bpf/bpf_iter.c): two such answers of 4 KiB pages, cut
/// so that no record is torn where pages are larger.
const BUFFER_BYTES: usize = (64 << 10) / RECORD * RECORD;

/// Finds the open files of all processes that are nodes of given devices: an iterator over the kernel's tables of open files.
///
/// There are two that tell the same. One is called for every process and reads the table of its files itself, which costs half; it has
/// room for a thousand of the files asked for a process, and needs helpers that a kernel may lack or refuse. Where it may not be loaded,
/// and for a scan in which it meets a process with more, the other takes its place, which the kernel calls for every open file.
///
/// It sees what a walk through `/proc/PID/fd` of every process by root sees: character devices (files opened with O_PATH too) in the
/// table of each process's first thread. What a thread with a table of its own (`unshare(CLONE_FILES)`) has open is in neither, nor
/// what the threads of a process hold whose first thread has ended: its `/proc/PID/fd` is empty. Files of processes that come, go,
/// open and close during a scan may be found or not.
///
/// The iterator knows no hidepid, and asks for no right to look into a process.
///
/// Source: `iter/task` and `iter/task_file` (kernel/bpf/task_iter.c), Linux 5.8 and later; the helper `bpf_loop` of the first, Linux 5.17.
/// Lockdown in its mode `confidentiality` takes away another of its helpers, `bpf_probe_read_kernel`.
#[derive(Debug)]
pub struct OpenFiles {
    /// A link of `iter/task`, or why there is none. Its program has one place to collect records in: one scan at a time.
    by_process: Result<OwnedFd, BpfError>,
    /// A link of `iter/task_file`.
    by_file: OwnedFd,
    map: Map,
    devices: Vec<u32>,
    buffer: Vec<u8>,
}

impl OpenFiles {
    /// Loads the program, for devices by their numbers as `stat` gives them (`makedev`). Takes some 15 ms, most of them to read the
    /// kernel's type information; one refused for want of rights takes less than one, on machines where
    /// `kernel.unprivileged_bpf_disabled` is not 0.
    ///
    /// # Errors
    /// [`BpfError::Permission`] without CAP_BPF and CAP_PERFMON; [`BpfError::NoBtf`]; [`BpfError::Unsupported`], also for a tree
    /// that is not the running machine; [`BpfError::InnerPidNamespace`]; [`BpfError::Rejected`]; [`BpfError::Io`], with E2BIG for
    /// more than [`MAX_DEVICES`].
    pub fn load(roots: &Roots, rdevs: &[u64]) -> Result<OpenFiles, BpfError> {
        if !roots.is_live() {
            return Err(BpfError::Unsupported { what: "a captured tree has no running kernel".into() });
        }
        // The kernel walks through the reader's namespace, but the program sees the machine's numbers.
        if !roots.has_machine_pids() {
            return Err(BpfError::InnerPidNamespace);
        }
        let iterators = Iterators::new(roots, &OBJECT.0, &["task", "task_file"], *b"gpuscope_files\0\0")?;
        // First the one that every kernel takes: what it lacks is told by this.
        let by_file = iterators.link("open_files", "task_file")?;
        let by_process = iterators.link("tables", "task");
        let map = iterators.into_map("devices")?;
        let mut files = OpenFiles { by_process, by_file, map, devices: Vec::new(), buffer: vec![0; BUFFER_BYTES] };
        files.set_devices(rdevs)?;
        Ok(files)
    }

    /// Whether the cheaper of the two programs is used, and if not why.
    ///
    /// # Errors
    /// What the kernel answered to loading it.
    pub fn is_by_process(&self) -> Result<(), &BpfError> {
        self.by_process.as_ref().map(|_| ())
    }

    /// Sets which devices are looked for from now on. A number that no device can have is passed over.
    ///
    /// # Errors
    /// [`BpfError::Io`], with E2BIG for more than [`MAX_DEVICES`]: some of the devices are then looked for and others not.
    pub fn set_devices(&mut self, rdevs: &[u64]) -> Result<(), BpfError> {
        let wanted = || rdevs.iter().copied().filter_map(kernel_device);
        let map = &self.map;
        let mut failed = None;
        self.devices.retain(|old| {
            let stays = wanted().any(|new| new == *old);
            if !stays {
                failed = map.remove(&old.to_ne_bytes()).err().or(failed.take());
            }
            stays
        });
        if let Some(source) = failed {
            return Err(BpfError::calling("BPF_MAP_DELETE_ELEM", source));
        }
        for new in wanted() {
            if !self.devices.contains(&new) {
                map.insert(&new.to_ne_bytes(), &[1]).map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))?;
                self.devices.push(new);
            }
        }
        Ok(())
    }

    /// Fills `out` with the files open now, by process and file number. Costs some 0.13 µs for each open file of the machine, in
    /// kernel time of the caller, and twice that where [`OpenFiles::is_by_process`] fails. Nothing is allocated but what `out` lacks.
    ///
    /// Call it again at any time; the right to load is not needed any more.
    ///
    /// # Errors
    /// [`BpfError::Permission`] or [`BpfError::Io`]; `out` is then empty.
    pub fn scan(&mut self, out: &mut Vec<OpenFile>) -> Result<(), BpfError> {
        out.clear();
        let mut whole = false;
        if let Ok(link) = &self.by_process {
            read(link.as_fd(), &mut self.buffer, out)?;
            whole = out.iter().all(|file| file.fd != TOO_MANY);
        }
        if !whole {
            read(self.by_file.as_fd(), &mut self.buffer, out)?;
        }
        Ok(())
    }
}

/// Fills `out` with the records of an iterator. It is empty after an error.
fn read(link: BorrowedFd<'_>, buffer: &mut [u8], out: &mut Vec<OpenFile>) -> Result<(), BpfError> {
    out.clear();
    let file = call::open_iterator(link).map_err(|e| BpfError::calling("BPF_ITER_CREATE", e))?;
    let mut file = File::from(file);
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => out.extend(records(buffer.get(..n).unwrap_or_default())),
            // EAGAIN: a million tasks or files without a match (`MAX_ITER_OBJECTS`); the next read goes on behind them.
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(source) => {
                out.clear();
                return Err(BpfError::Io { call: "reading the BPF iterator".into(), source });
            }
        }
    }
}

#[cfg(test)]
mod tests;
