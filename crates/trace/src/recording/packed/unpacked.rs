//! Records as they were before.

use super::MOST_DATA;
use super::layout::{Layout, NOWHERE};

/// Room for a record's data, to be put together again.
#[derive(Clone, Debug)]
pub struct UnpackedData {
    pub(super) bytes: [u8; MOST_DATA],
    pub(super) length: usize,
}

impl Default for UnpackedData {
    fn default() -> Self {
        UnpackedData { bytes: [0; MOST_DATA], length: 0 }
    }
}

impl UnpackedData {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn put(&mut self, at: usize, from: &[u8]) {
        if let Some(to) = self.bytes.get_mut(at..).and_then(|to| to.get_mut(..from.len())) {
            to.copy_from_slice(from);
        }
    }

    pub(super) fn put_number(&mut self, at: u16, from: &[u8]) {
        if at != NOWHERE {
            self.put(usize::from(at), from);
        }
    }

    pub(super) fn put_ranges(&mut self, layout: &Layout, mut bytes: &[u8]) {
        for (at, length) in layout.thread.iter().filter(|(_, length)| *length > 0) {
            let (here, rest) = bytes.split_at(bytes.len().min(usize::from(*length)));
            self.put(usize::from(*at), here);
            bytes = rest;
        }
    }
}
