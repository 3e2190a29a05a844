//! The reading end of a ring buffer (BPF_MAP_TYPE_RINGBUF, Documentation/bpf/ringbuf.rst).
//!
//! Programs of all processors reserve records in it one behind the other, fill them, and submit or discard them. The kernel maps two
//! positions and the data into this process, the data twice in a row, so that no record is torn at the end. Nothing is waited for:
//! whoever reads comes by time.

use super::map::Map;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

/// In the length of a record: it is reserved and not yet submitted (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;
/// It is given back empty (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARDED: u32 = 1 << 30;
/// In front of each record: its length and the place of its page (`struct bpf_ringbuf_hdr`).
const HEADER: usize = 8;

/// How one reading ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Records that were given.
    pub(super) records: u64,
    /// Whether every record was given that had been reserved when the reading began. Otherwise one of them was still being filled,
    /// and hides those behind it until the next reading.
    pub(super) is_complete: bool,
}

/// A ring, mapped.
#[derive(Debug)]
pub(super) struct Ring {
    view: View,
    /// The consumer's page, and the producer's page with the data: unmapped at the end.
    _mappings: [Mapping; 2],
}

impl Ring {
    /// Maps a map of that kind. The mapping keeps it.
    pub(super) fn new(map: &Map) -> io::Result<Ring> {
        let page = rustix::param::page_size();
        let size = map.max_entries() as usize;
        let whole = size.checked_mul(2).and_then(|twice| twice.checked_add(page)).ok_or(io::ErrorKind::InvalidInput)?;
        let consumer = Mapping::new(map, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let producer = Mapping::new(map, page, whole, libc::PROT_READ)?;
        // SAFETY: the mapping is `whole` bytes long, more than a page.
        let data = unsafe { producer.start.add(page) };
        let view = View { consumer: consumer.start.cast(), producer: producer.start.cast(), data, size };
        Ok(Ring { view, _mappings: [consumer, producer] })
    }

    /// Gives all records that have been submitted, and makes their room free.
    pub(super) fn read(&mut self, each: impl FnMut(&[u8])) -> Progress {
        // SAFETY: the mappings live as long as `self`, and hold what `View` asks for: the kernel keeps both positions as an `unsigned
        // long` at the start of a page (`struct bpf_ringbuf`, kernel/bpf/ringbuf.c), maps the data twice, changes a record until it
        // is submitted and not again before the consumer's position has passed it, and writes headers as atomic words. `&mut self`:
        // nobody else in this process reads.
        unsafe { self.view.read(each) }
    }
}

/// A part of a map's memory.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: memory that is shared with the kernel alone, and reached through `&mut Ring` only.
unsafe impl Send for Ring {}

impl Mapping {
    fn new(map: &Map, offset: usize, length: usize, protection: libc::c_int) -> io::Result<Mapping> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let fd = map.fd().as_raw_fd();
        // SAFETY: a new mapping where the kernel likes it; no memory of this process is concerned.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Mapping { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and what pointed into it goes with it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Where the parts of a ring lie in memory.
#[derive(Debug)]
struct View {
    consumer: NonNull<AtomicUsize>,
    producer: NonNull<AtomicUsize>,
    data: NonNull<u8>,
    /// Bytes of data: a power of two.
    size: usize,
}

impl View {
    /// # Safety
    /// The positions are live, and `data` is followed by twice `size` bytes, the second half showing the first. A record's bytes do not
    /// change between its submission and the consumer's position passing it; headers are written as atomic words. There is no other
    /// reader.
    unsafe fn read(&self, mut each: impl FnMut(&[u8])) -> Progress {
        // SAFETY: live, says the caller, and an atomic.
        let consumer = unsafe { self.consumer.as_ref() };
        // SAFETY: as above.
        let producer = unsafe { self.producer.as_ref() };
        let mut progress = Progress::default();
        let mut at = consumer.load(Ordering::Relaxed);
        // What is reserved now is the end, so that a reading ends while programs go on. The fence acquires: the headers up to there are
        // written, as busy at least (`__bpf_ringbuf_reserve` releases the position behind them). Of pages that may only be read, plain
        // loads are all that the language promises.
        let end = producer.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        while at != end {
            let place = at & (self.size - 1);
            // SAFETY: below `size`, so within the data; a header begins at a multiple of 8.
            let header = unsafe { self.data.add(place) };
            // SAFETY: there is a header, an aligned word that is written atomically.
            let word = unsafe { header.cast::<AtomicU32>().as_ref() };
            // With the busy bit gone the record is there (`bpf_ringbuf_commit` exchanges the word).
            let word = word.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let length = (word & !(BUSY | DISCARDED)) as usize;
            // The kernel gives no longer one; if it did, there would be no telling where the next begins.
            if word & BUSY != 0 || length > self.size - HEADER {
                return progress;
            }
            if word & DISCARDED == 0 {
                // SAFETY: within twice `size`: `place` is below `size`, header and record together no longer.
                let start = unsafe { header.add(HEADER) };
                // SAFETY: so many bytes of data, which do not change until the position below is passed on.
                let record = unsafe { std::slice::from_raw_parts(start.as_ptr(), length) };
                each(record);
                progress.records += 1;
            }
            at = at.wrapping_add((length + HEADER).next_multiple_of(8));
            // Release: the kernel may write there once it sees this.
            consumer.store(at, Ordering::Release);
        }
        progress.is_complete = true;
        progress
    }
}

#[cfg(test)]
mod tests;
