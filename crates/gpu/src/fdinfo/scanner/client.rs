//! A client and those who hold it.

use super::super::parse::{FdInfo, client_id, parse_fdinfo};
use gpuscope_sys::{KernelFile, Roots, monotonic_ns};

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

/// Reads a client through a holder, and says whether it was still that client.
pub(super) fn read_client(client: &mut Client, holder: Holder, roots: &Roots, text: &mut Vec<u8>) -> bool {
    if client.file.is_none() {
        client.file = KernelFile::open(roots.proc(format!("{}/fdinfo/{}", holder.pid, holder.fd))).ok();
    }
    let Some(Ok(bytes)) = client.file.as_ref().map(|file| file.read(text)) else { return false };
    let read_ns = monotonic_ns();
    let text = String::from_utf8_lossy(bytes);
    if client_id(&text) != Some(client.id) {
        return false;
    }
    parse_fdinfo(&text, &mut client.info);
    client.read_ns = read_ns;
    true
}

/// The client of that id, with the holder noted; made when it is not known.
pub(super) fn hold(clients: &mut Vec<Client>, target: usize, id: u64, holder: Holder) -> Option<&mut Client> {
    let at = clients.iter().position(|c| c.target == target && c.id == id).unwrap_or_else(|| {
        let info = FdInfo::default();
        clients.push(Client { target, id, info, read_ns: 0, holders: Vec::new(), file: None, read_tick: 0 });
        clients.len().saturating_sub(1)
    });
    let client = clients.get_mut(at)?;
    if !client.holders.contains(&holder) {
        client.holders.push(holder);
    }
    Some(client)
}

/// Takes a holder from a client.
pub(super) fn release(clients: &mut [Client], holder: Holder, target: usize, id: Option<u64>) {
    let Some(id) = id else { return };
    if let Some(client) = clients.iter_mut().find(|c| c.target == target && c.id == id) {
        if client.holders.first() == Some(&holder) {
            client.file = None;
        }
        client.holders.retain(|h| *h != holder);
    }
}
