//! Tracepoints as perf events: one buffer a CPU, which kernel and program share.
//!
//! The kernel writes records behind one another and never over what was not taken; what does not fit is lost and counted. Nothing wakes
//! this process: it looks when it likes.

use super::bindings;
use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// `PERF_FORMAT_LOST`, since Linux 6.0: the count of lost records can be read.
const FORMAT_LOST: u64 = 1 << 4;
/// `_IO('$', n)` of include/uapi/linux/perf_event.h; SET_OUTPUT takes a descriptor, SET_FILTER an address.
const IOC_ENABLE: libc::c_ulong = 0x2400;
const IOC_SET_OUTPUT: libc::c_ulong = 0x2405;
const IOC_SET_FILTER: libc::c_ulong = 0x4008_2406;

/// A tracepoint to open.
#[derive(Clone, Copy, Debug)]
pub struct Tracepoint<'a> {
    /// Its number: `events/SYSTEM/NAME/id` of tracefs.
    pub id: u64,
    /// Which of its records are wanted, in the language of tracefs: `common_pid != 77`.
    pub filter: Option<&'a CStr>,
}

/// All wanted tracepoints of one CPU.
#[derive(Debug)]
pub struct TracepointBuffer {
    events: Vec<OwnedFd>,
    /// Tells names of threads. An event of its own, so that a name that did not fit is not counted as a tracepoint.
    names: OwnedFd,
    shared: Shared,
    cpu: u32,
    counts_losses: bool,
    /// A record that goes around the end of the buffer, put together.
    joined: Vec<u8>,
}

impl TracepointBuffer {
    /// Opens tracepoints on a CPU, with a buffer of `bytes`, a power of two of at least a page. They do not fire until
    /// [`enable`](Self::enable).
    ///
    /// # Errors
    /// What `perf_event_open(2)`, `mmap(2)` and the ioctls answer: EACCES and EPERM (rights), ENODEV (no such CPU), EPERM of mmap where
    /// `perf_event_mlock_kb` is too low for a buffer of that size, EINVAL (a filter that names no field of the event).
    pub fn open(cpu: u32, tracepoints: &[Tracepoint<'_>], bytes: usize) -> Result<Self, io::Error> {
        let (first, rest) = tracepoints.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (leader, counts_losses) = match open_tracepoint(cpu, first.id, true) {
            // A kernel before 6.0.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => (open_tracepoint(cpu, first.id, false)?, false),
            other => (other?, true),
        };
        let shared = Shared::map(leader.as_fd(), bytes)?;
        let mut events = vec![leader];
        for tracepoint in rest {
            let event = open_tracepoint(cpu, tracepoint.id, counts_losses)?;
            if let Some(leader) = events.first() {
                let leader = leader.as_raw_fd() as libc::c_ulong;
                // SAFETY: SET_OUTPUT takes a descriptor as a number, and both are open perf events.
                unsafe { control(event.as_fd(), IOC_SET_OUTPUT, leader) }?;
            }
            events.push(event);
        }
        let names = open_names(cpu)?;
        if let Some(leader) = events.first() {
            let leader = leader.as_raw_fd() as libc::c_ulong;
            // SAFETY: SET_OUTPUT takes a descriptor as a number, and both are open perf events.
            unsafe { control(names.as_fd(), IOC_SET_OUTPUT, leader) }?;
        }
        for (event, tracepoint) in events.iter().zip(tracepoints) {
            if let Some(filter) = tracepoint.filter {
                // SAFETY: SET_FILTER reads a text that ends with a zero, which is borrowed for the call.
                unsafe { control(event.as_fd(), IOC_SET_FILTER, filter.as_ptr() as libc::c_ulong) }?;
            }
        }
        Ok(TracepointBuffer { events, names, shared, cpu, counts_losses, joined: Vec::new() })
    }

    /// Lets them fire from now on.
    ///
    /// # Errors
    /// That of the ioctl.
    pub fn enable(&self) -> Result<(), io::Error> {
        for event in self.events.iter().chain([&self.names]) {
            // SAFETY: ENABLE takes no address.
            unsafe { control(event.as_fd(), IOC_ENABLE, 0) }?;
        }
        Ok(())
    }

    /// The CPU.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Calls `each` with every record that is there: the kernel's header (`perf_event_header`: type, misc, size) and what follows it. Then
    /// they are gone. Beside samples there are names of threads as they change and losses. A sample has process and thread (4 bytes each), time (CLOCK_MONOTONIC, 8), CPU (4 and 4 unused), and the length (4)
    /// and bytes of the tracepoint's record.
    pub fn take(&mut self, mut each: impl FnMut(&[u8])) {
        let head = self.shared.head();
        let mut tail = self.shared.tail();
        // More than the buffer holds is not to be believed; the kernel never lets it come so far.
        if head.wrapping_sub(tail) > self.shared.data_bytes as u64 {
            tail = head;
        }
        while tail != head {
            let left = usize::try_from(head.wrapping_sub(tail)).unwrap_or(0);
            self.joined.clear();
            self.shared.copy(tail, 8, &mut self.joined);
            let size = match self.joined.get(6..8).and_then(|bytes| bytes.first_chunk()) {
                Some(size) => usize::from(u16::from_ne_bytes(*size)),
                None => 0,
            };
            if size < 8 || size > left {
                tail = head;
                break;
            }
            self.shared.copy(tail.wrapping_add(8), size.saturating_sub(8), &mut self.joined);
            each(&self.joined);
            tail = tail.wrapping_add(size as u64);
        }
        self.shared.set_tail(tail);
    }

    /// Records lost since the beginning, of all its tracepoints; none on kernels before 6.0, where only the records of loss
    /// (`PERF_RECORD_LOST`) tell.
    ///
    /// # Errors
    /// That of `read(2)`.
    pub fn lost(&self) -> Result<Option<u64>, io::Error> {
        if !self.counts_losses {
            return Ok(None);
        }
        let mut lost = 0_u64;
        for event in &self.events {
            // Count and lost.
            let mut words = [0_u64; 2];
            super::read_words(event.as_fd(), &mut words)?;
            lost = lost.saturating_add(words[1]);
        }
        Ok(Some(lost))
    }
}

fn open_tracepoint(cpu: u32, id: u64, counts_losses: bool) -> Result<OwnedFd, io::Error> {
    let mut attr = attributes(bindings::PERF_TYPE_TRACEPOINT, id);
    attr.__bindgen_anon_1.sample_period = 1;
    attr.sample_type = u64::from(
        bindings::PERF_SAMPLE_TID | bindings::PERF_SAMPLE_TIME | bindings::PERF_SAMPLE_CPU | bindings::PERF_SAMPLE_RAW,
    );
    attr.read_format = if counts_losses { FORMAT_LOST } else { 0 };
    open_on(cpu, attr)
}

/// An event that never fires, and tells the names of threads as they change.
fn open_names(cpu: u32) -> Result<OwnedFd, io::Error> {
    let mut attr = attributes(bindings::PERF_TYPE_SOFTWARE, u64::from(bindings::PERF_COUNT_SW_DUMMY));
    attr.set_comm(1);
    open_on(cpu, attr)
}

/// What all of them have in common.
fn attributes(kind: u32, config: u64) -> bindings::perf_event_attr {
    let mut attr = bindings::perf_event_attr::default();
    attr.type_ = kind;
    attr.size = size_of::<bindings::perf_event_attr>() as u32;
    attr.config = config;
    attr.set_disabled(1);
    // CLOCK_MONOTONIC, as everything else.
    attr.set_use_clockid(1);
    attr.clockid = libc::CLOCK_MONOTONIC;
    // A wake-up at so many bytes, of which there are never so many: nobody waits.
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = u32::MAX;
    attr
}

fn open_on(cpu: u32, mut attr: bindings::perf_event_attr) -> Result<OwnedFd, io::Error> {
    let cpu = libc::c_int::try_from(cpu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    super::perf_event_open(&mut attr, cpu, None)
}

/// An ioctl of a perf event.
///
/// # Safety
/// `argument` is what the request takes.
unsafe fn control(event: BorrowedFd<'_>, request: libc::c_ulong, argument: libc::c_ulong) -> Result<(), io::Error> {
    // SAFETY: the descriptor is open; the caller vouches for the argument.
    let answer = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The memory shared with the kernel: a page about the buffer, then the buffer.
#[derive(Debug)]
struct Shared {
    start: NonNull<u8>,
    page: usize,
    data_bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and nothing in it belongs to a thread.
unsafe impl Send for Shared {}

/// Offsets in `perf_event_mmap_page` (include/uapi/linux/perf_event.h).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

impl Shared {
    fn map(event: BorrowedFd<'_>, data_bytes: usize) -> Result<Self, io::Error> {
        let page = rustix::param::page_size();
        if !data_bytes.is_power_of_two() || data_bytes < page {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel puts it, of an open perf event.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), page + data_bytes, protection, libc::MAP_SHARED, event.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Shared { start, page, data_bytes })
    }

    /// A word of the first page.
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets lie in the first page of the mapping, which is never shorter.
        let place = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: they are multiples of 8, so the word is aligned; it lives as long as the mapping, which outlives the borrow, and is
        // only accessed atomically here, as by the kernel.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }

    fn head(&self) -> u64 {
        // What the kernel wrote before it moved the head is seen after this (`perf_output_put_handle`, kernel/events/ring_buffer.c).
        self.word(DATA_HEAD).load(Ordering::Acquire)
    }

    fn tail(&self) -> u64 {
        self.word(DATA_TAIL).load(Ordering::Relaxed)
    }

    fn set_tail(&self, tail: u64) {
        // All reading is done before the kernel may write here again.
        self.word(DATA_TAIL).store(tail, Ordering::Release);
    }

    /// Appends bytes from a position in the stream of records, which goes round in the buffer.
    fn copy(&self, from: u64, length: usize, to: &mut Vec<u8>) {
        let length = length.min(self.data_bytes);
        let at = (from % self.data_bytes as u64) as usize;
        let first = length.min(self.data_bytes - at);
        for (at, length) in [(at, first), (0, length - first)] {
            // SAFETY: the place is within the buffer, which begins after the first page.
            let place = unsafe { self.start.as_ptr().add(self.page + at) };
            // SAFETY: `length` bytes from there are within the buffer, initialised, and not written by the kernel until the tail is moved
            // past them; the slice ends before that.
            let bytes = unsafe { std::slice::from_raw_parts(place, length) };
            to.extend_from_slice(bytes);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, with its length; nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.page + self.data_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    /// The number of a tracepoint that system calls fire, where this process may know it.
    fn getppid() -> Option<u64> {
        let path = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";
        let id = std::fs::read_to_string(path).ok()?;
        id.trim().parse().ok()
    }

    fn open(cpu: u32, bytes: usize, filter: Option<&CStr>) -> Option<TracepointBuffer> {
        let Some(id) = getppid() else {
            eprintln!("SKIPPED: tracefs cannot be read here");
            return None;
        };
        match TracepointBuffer::open(cpu, &[Tracepoint { id, filter }], bytes) {
            Ok(buffer) => Some(buffer),
            Err(e) => {
                assert!([libc::EACCES, libc::EPERM].contains(&e.raw_os_error().unwrap_or(0)), "{e}");
                eprintln!("SKIPPED: tracepoints cannot be opened here: {e}");
                None
            }
        }
    }

    /// Calls that this thread makes on the first CPU it may run on.
    fn calls(n: usize) -> u32 {
        let cpu = 0;
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set).unwrap();
        for _ in 0..n {
            let _ = rustix::process::getppid();
        }
        cpu as u32
    }

    /// `PERF_RECORD_SAMPLE` with the number of the system call in the tracepoint's record.
    fn is_call(record: &[u8], number: i64) -> bool {
        record[0..4] == 9_u32.to_ne_bytes() && record[8 + 8 + 8 + 8 + 4 + 8..][..8] == number.to_ne_bytes()
    }

    #[test]
    fn every_call_of_this_thread_is_there_once() {
        let own = CString::new(format!("common_pid == {}", rustix::thread::gettid().as_raw_nonzero())).unwrap();
        calls(0);
        let Some(mut buffer) = open(0, 1 << 20, Some(&own)) else { return };
        calls(10);
        buffer.enable().unwrap();
        // Several times round the buffer, in pieces.
        let (mut seen, mut times) = (0, Vec::new());
        for _ in 0..20 {
            calls(1_000);
            buffer.take(|record| {
                if is_call(record, libc::SYS_getppid) {
                    seen += 1;
                    times.push(u64::from_ne_bytes(record[16..24].try_into().unwrap()));
                }
            });
        }
        let now = crate::monotonic_ns();
        assert_eq!((seen, buffer.lost().unwrap().unwrap_or(0)), (20_000, 0));
        assert!(times.is_sorted());
        assert!(times.last().is_some_and(|t| *t <= now && now - t < 10_000_000_000), "CLOCK_MONOTONIC");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let own = CString::new(format!("common_pid == {}", rustix::thread::gettid().as_raw_nonzero())).unwrap();
        calls(0);
        let page = rustix::param::page_size();
        let Some(mut buffer) = open(0, page, Some(&own)) else { return };
        let Some(0) = buffer.lost().unwrap() else { return };
        buffer.enable().unwrap();
        calls(1_000);
        let mut seen = 0;
        buffer.take(|record| seen += usize::from(is_call(record, libc::SYS_getppid)));
        let lost = buffer.lost().unwrap().unwrap() as usize;
        assert!(seen > 10 && lost > 100, "{seen} seen, {lost} lost");
        // Other calls of this thread are among the lost (the ioctl that enables returns after it has taken effect).
        assert!((1_000..1_010).contains(&(seen + lost)), "{seen} seen, {lost} lost");
    }

    #[test]
    fn a_buffer_of_no_power_of_two_is_refused() {
        let Some(id) = getppid() else { return };
        assert!(TracepointBuffer::open(0, &[Tracepoint { id, filter: None }], 12_345).is_err());
        assert!(TracepointBuffer::open(0, &[], 1 << 20).is_err());
    }
}
