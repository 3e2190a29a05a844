//! Who has a device open.

use super::call;
use super::error::BpfError;
use super::object::{Aligned, Iterator, Parts, load_iterator};
use super::record::{OpenFile, RECORD, kernel_device, records};
use crate::Roots;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// Compiled from `open_files.bpf.c` by `cargo xtask bpf`.
pub(super) static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../bpf/open_files.bpf.o"));

/// So many devices may be asked for at once: `max_entries` of the program's map.
pub const MAX_DEVICES: usize = 256;

/// The kernel collects 8 pages before it answers a read (`bpf_seq_read`, kernel/bpf/bpf_iter.c): two such answers of 4 KiB pages, cut
/// so that no record is torn where pages are larger.
const BUFFER_BYTES: usize = (64 << 10) / RECORD * RECORD;

/// Finds the open files of all processes that are nodes of given devices: an iterator over the kernel's tables of open files.
///
/// It sees what a walk through `/proc/PID/fd` of every process by root sees: character devices (files opened with O_PATH too) in the
/// table of each process's first thread. What a thread with a table of its own (`unshare(CLONE_FILES)`) has open is in neither, nor
/// what the threads of a process hold whose first thread has ended: its `/proc/PID/fd` is empty. Files of processes that come, go,
/// open and close during a scan may be found or not.
///
/// The iterator knows no hidepid, and asks for no right to look into a process.
///
/// Source: `iter/task_file` (kernel/bpf/task_iter.c), Linux 5.8 and later.
#[derive(Debug)]
pub struct OpenFiles {
    iterator: Iterator,
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
        let parts =
            Parts { program: "open_files", iterator: "task_file", map: "devices", name: *b"gpuscope_files\0\0" };
        let iterator = load_iterator(roots, &OBJECT.0, &parts)?;
        let mut files = OpenFiles { iterator, devices: Vec::new(), buffer: vec![0; BUFFER_BYTES] };
        files.set_devices(rdevs)?;
        Ok(files)
    }

    /// Sets which devices are looked for from now on. A number that no device can have is passed over.
    ///
    /// # Errors
    /// [`BpfError::Io`], with E2BIG for more than [`MAX_DEVICES`]: some of the devices are then looked for and others not.
    pub fn set_devices(&mut self, rdevs: &[u64]) -> Result<(), BpfError> {
        let wanted = || rdevs.iter().copied().filter_map(kernel_device);
        let map = &self.iterator.map;
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

    /// Fills `out` with the files open now, by process and file number. Costs some 0.25 µs for each open file of the machine, in
    /// kernel time of the caller. Nothing is allocated but what `out` lacks.
    ///
    /// Call it again at any time; the right to load is not needed any more.
    ///
    /// # Errors
    /// [`BpfError::Permission`] or [`BpfError::Io`]; `out` is then empty.
    pub fn scan(&mut self, out: &mut Vec<OpenFile>) -> Result<(), BpfError> {
        out.clear();
        let link = self.iterator.link.as_fd();
        let file = call::open_iterator(link).map_err(|e| BpfError::calling("BPF_ITER_CREATE", e))?;
        let mut file = File::from(file);
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => out.extend(records(self.buffer.get(..n).unwrap_or_default())),
                // EAGAIN: a million files without a match (`MAX_ITER_OBJECTS`); the next read goes on behind them.
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(source) => {
                    out.clear();
                    return Err(BpfError::Io { call: "reading the BPF iterator".into(), source });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
