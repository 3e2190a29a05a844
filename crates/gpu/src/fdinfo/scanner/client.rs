//! A client and those who hold it.

use super::super::parse::{FdInfo, client_id, parse_fdinfo};
use gpuscope_sys::{Error, KernelFile, Roots, monotonic_ns};
use rustix::io::Errno;
use std::collections::HashMap;

/// An open file of a process through which a client is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The process.
    pub(crate) pid: u32,
    /// Its file number.
    pub(crate) fd: u32,
}

/// A DRM client: one open file of a device node, however many processes and file numbers hold it.
#[derive(Debug)]
pub(crate) struct Client {
    /// Index of its device in the targets of the last refresh.
    pub(crate) target: usize,
    /// `drm-client-id`.
    pub(crate) id: u64,
    /// What its fdinfo said at the last reading.
    pub(crate) info: FdInfo,
    /// CLOCK_MONOTONIC right after the last reading, in nanoseconds.
    pub(crate) read_ns: u64,
    /// Who holds it. The first is the one it is read through.
    pub(crate) holders: Vec<Holder>,
    pub(super) file: Option<KernelFile>,
    pub(super) read_tick: u64,
}

/// What came of reading a client through a holder.
pub(super) enum Outcome {
    Read,
    /// The holder has closed it or ended, or its file number means another client.
    Lost,
    /// It could not be read now; nothing is known of the holder.
    Failed(Error),
}

impl Client {
    /// Reads the client through a holder. Its file stays open where that may be.
    pub(super) fn read(&mut self, holder: Holder, roots: &Roots, text: &mut Vec<u8>, keep: bool) -> Outcome {
        let file = match self.file.take() {
            Some(file) => file,
            None => match KernelFile::open(roots.proc(format!("{}/fdinfo/{}", holder.pid, holder.fd))) {
                Ok(file) => file,
                Err(e) => return Outcome::of(e),
            },
        };
        let bytes = match file.read(text) {
            Ok(bytes) => bytes,
            Err(e) => return Outcome::of(e),
        };
        let read_ns = monotonic_ns();
        let text = String::from_utf8_lossy(bytes);
        if client_id(&text) != Some(self.id) {
            return Outcome::Lost;
        }
        parse_fdinfo(&text, &mut self.info);
        self.read_ns = read_ns;
        self.file = keep.then_some(file);
        Outcome::Read
    }
}

impl Outcome {
    fn of(error: Error) -> Self {
        if is_passing(&error) { Outcome::Failed(error) } else { Outcome::Lost }
    }
}

/// Whether an error says something about this process and this moment (no file numbers, no memory) and nothing about what was read.
pub(super) fn is_passing(error: &Error) -> bool {
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
    error.errno().is_some_and(|errno| passing.iter().any(|e| e.raw_os_error() == errno))
}

/// All clients, found by device and id.
#[derive(Debug, Default)]
pub(super) struct Clients {
    list: Vec<Client>,
    index: HashMap<(usize, u64), usize>,
}

impl Clients {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Client> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Client> {
        self.list.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Client> {
        self.list.get_mut(at)
    }

    pub(super) fn find(&self, target: usize, id: u64) -> Option<&Client> {
        self.list.get(*self.index.get(&(target, id))?)
    }

    /// Keeps the clients of which `stays` is true, which may give them another device.
    pub(super) fn retain(&mut self, stays: impl FnMut(&mut Client) -> bool) {
        self.list.retain_mut(stays);
        self.index.clear();
        self.index.extend(self.list.iter().enumerate().map(|(at, client)| ((client.target, client.id), at)));
    }

    /// The client of that id, with the holder noted; made when it is not known.
    pub(super) fn hold(&mut self, target: usize, id: u64, holder: Holder) -> Option<&mut Client> {
        let at = *self.index.entry((target, id)).or_insert_with(|| {
            let info = FdInfo::default();
            self.list.push(Client { target, id, info, read_ns: 0, holders: Vec::new(), file: None, read_tick: 0 });
            self.list.len().saturating_sub(1)
        });
        let client = self.list.get_mut(at)?;
        if !client.holders.contains(&holder) {
            client.holders.push(holder);
        }
        Some(client)
    }

    /// Takes a holder from a client.
    pub(super) fn release(&mut self, holder: Holder, target: usize, id: Option<u64>) {
        let at = id.and_then(|id| self.index.get(&(target, id)));
        if let Some(client) = at.and_then(|at| self.list.get_mut(*at)) {
            if client.holders.first() == Some(&holder) {
                client.file = None;
            }
            client.holders.retain(|h| *h != holder);
        }
    }
}
