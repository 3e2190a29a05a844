//! perf events: groups of counting events, read with one system call.
//!
//! Only device-wide (`pid` -1, one CPU), without inheritance; counting, or tracepoints into a buffer ([`TracepointBuffer`]). The structures are those of
//! include/uapi/linux/perf_event.h as `perf-event-open-sys2` 5.0 binds them (header of Linux 6.9).

mod tracepoints;

pub use tracepoints::{Tracepoint, TracepointBuffer};

use perf_event_open_sys::bindings;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// The kernel knows a structure by its size alone: the one sent has to be a size that it published and hold `config2` (VER1).
const _: () = assert!(size_of::<bindings::perf_event_attr>() >= bindings::PERF_ATTR_SIZE_VER1 as usize);
const _: () = assert!(size_of::<bindings::perf_event_attr>() % 8 == 0);
const _: () = assert!(size_of::<bindings::perf_event_attr>() <= 4096);

/// Words before the values in a group read with PERF_FORMAT_TOTAL_TIME_ENABLED: `nr`, `time_enabled`
/// (`perf_read_group`, kernel/events/core.c).
const HEADER: usize = 2;

/// What to count: the parts of `perf_event_attr` that a counting event of a PMU needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventAttr {
    /// Number of the PMU: `/sys/bus/event_source/devices/<pmu>/type`.
    pub type_id: u32,
    /// The event, in the PMU's own encoding.
    pub config: u64,
    /// More of the event.
    pub config1: u64,
    /// More of the event.
    pub config2: u64,
}

/// One reading of a [`PerfGroup`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupValues {
    /// Time during which the group was enabled, in nanoseconds, as the kernel counted it at this very read.
    pub time_enabled_ns: u64,
    /// CLOCK_MONOTONIC just after the read, in nanoseconds.
    pub at_ns: u64,
    /// The counts, in the order in which the events were added.
    pub values: Vec<u64>,
}

/// A group of counting events on one CPU, which one call reads together.
///
/// The kernel closes and frees the events when the group is dropped.
#[derive(Debug)]
pub struct PerfGroup {
    leader: OwnedFd,
    members: Vec<OwnedFd>,
    cpu: u32,
}

impl PerfGroup {
    /// Opens the first event; it counts from now on.
    ///
    /// # Errors
    /// Whatever `perf_event_open(2)` answers, its errno kept: EACCES (rights), EPERM (a seccomp filter), ENOENT and ENODEV (no
    /// such PMU, event or instance), EINVAL (encoding, or a CPU that the PMU does not take), EMFILE (file limit).
    pub fn open(leader: EventAttr, cpu: u32) -> Result<Self, io::Error> {
        Ok(PerfGroup { leader: open_event(leader, cpu, None)?, members: Vec::new(), cpu })
    }

    /// Adds an event and gives the index of its value.
    ///
    /// # Errors
    /// As [`open`](Self::open); EINVAL too when the group does not fit the hardware. The group stays as it was.
    pub fn add(&mut self, attr: EventAttr) -> Result<usize, io::Error> {
        let event = open_event(attr, self.cpu, Some(self.leader.as_fd()))?;
        self.members.push(event);
        Ok(self.members.len())
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.members.len() + 1
    }

    /// Never: a group has its leader.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The CPU on which the group was opened. The kernel may have moved it to another since.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Reads all events with one call. After the first call with the same `out` nothing is allocated.
    ///
    /// # Errors
    /// `UnexpectedEof` when the kernel answers with nothing, which it does once the events are in the error state
    /// (`__perf_read`, kernel/events/core.c); `InvalidData` for an answer of another length; otherwise the kernel's errno.
    /// The values are then empty.
    pub fn read(&self, out: &mut GroupValues) -> Result<(), io::Error> {
        let words = self.len() + HEADER;
        out.values.clear();
        out.values.resize(words, 0);
        let filled = loop {
            match read_words(self.leader.as_fd(), &mut out.values) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        out.at_ns = crate::monotonic_ns();
        let taken = filled.and_then(|bytes| match (bytes, out.values.as_slice()) {
            (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
            (n, [nr, enabled, ..]) if n == words * size_of::<u64>() && *nr == self.len() as u64 => Ok(*enabled),
            _ => Err(io::ErrorKind::InvalidData.into()),
        });
        match taken {
            Ok(enabled) => {
                out.time_enabled_ns = enabled;
                out.values.copy_within(HEADER.., 0);
                out.values.truncate(self.len());
                Ok(())
            }
            Err(e) => {
                out.values.clear();
                Err(e)
            }
        }
    }
}

/// Opens an event and closes it again: whether it could be counted.
///
/// # Errors
/// As [`PerfGroup::open`].
pub fn probe(attr: EventAttr, cpu: u32) -> Result<(), io::Error> {
    open_event(attr, cpu, None).map(drop)
}

/// Opens an event, device-wide on one CPU.
fn open_event(event: EventAttr, cpu: u32, group: Option<BorrowedFd<'_>>) -> Result<OwnedFd, io::Error> {
    let cpu = libc::c_int::try_from(cpu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut attr = attr_of(event);
    match perf_event_open(&mut attr, cpu, group) {
        // The kernel wrote the size that it knows. What it does not know is zero here, so the shorter structure says the same,
        // unless even `config2` lies beyond it.
        Err(e) if e.raw_os_error() == Some(libc::E2BIG) => {
            let needed = if event.config2 == 0 { bindings::PERF_ATTR_SIZE_VER0 } else { bindings::PERF_ATTR_SIZE_VER1 };
            if attr.size < needed || attr.size as usize >= size_of::<bindings::perf_event_attr>() {
                return Err(e);
            }
            perf_event_open(&mut attr, cpu, group)
        }
        other => other,
    }
}

/// The kernel's structure for a counting event: enabled at once, nothing excluded (uncore PMUs refuse every `exclude_*` bit),
/// no sampling, no inheritance.
fn attr_of(event: EventAttr) -> bindings::perf_event_attr {
    let mut attr = bindings::perf_event_attr::default();
    attr.type_ = event.type_id;
    attr.size = size_of::<bindings::perf_event_attr>() as u32;
    attr.config = event.config;
    attr.read_format = u64::from(bindings::PERF_FORMAT_GROUP | bindings::PERF_FORMAT_TOTAL_TIME_ENABLED);
    attr.__bindgen_anon_3.config1 = event.config1;
    attr.__bindgen_anon_4.config2 = event.config2;
    attr
}

/// The system call itself. The C library has no wrapper for it.
fn perf_event_open(
    attr: &mut bindings::perf_event_attr,
    cpu: libc::c_int,
    group: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, io::Error> {
    const ALL_PROCESSES: libc::pid_t = -1;
    const NO_GROUP: libc::c_int = -1;
    let group = group.map_or(NO_GROUP, |fd| fd.as_raw_fd());
    // The kernel takes the flags as an unsigned long.
    let flags = libc::c_ulong::from(bindings::PERF_FLAG_FD_CLOEXEC);
    let attr: *mut bindings::perf_event_attr = attr;
    // SAFETY: `attr` comes from an exclusive reference to an initialised structure whose `size` field is at most its size, so
    // the kernel reads within it and writes at most `size` back. It asks for no mapping, no signal and no user callback.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attr, ALL_PROCESSES, cpu, group, flags) };
    match libc::c_int::try_from(fd) {
        // SAFETY: the call has just returned this descriptor, and nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads 64-bit words in the machine's byte order, without a buffer of bytes in between.
fn read_words(fd: BorrowedFd<'_>, words: &mut [u64]) -> Result<usize, io::Error> {
    let start: *mut u64 = words.as_mut_ptr();
    let bytes = std::mem::size_of_val(words);
    // SAFETY: `start` points to `bytes` writable bytes of the exclusively borrowed slice, and every bit pattern is a valid u64.
    let n = unsafe { libc::read(fd.as_raw_fd(), start.cast(), bytes) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK: there on every kernel with CONFIG_PERF_EVENTS.
    const CPU_CLOCK: EventAttr = EventAttr { type_id: 1, config: 0, config1: 0, config2: 0 };
    /// PERF_COUNT_SW_CONTEXT_SWITCHES.
    const SWITCHES: EventAttr = EventAttr { type_id: 1, config: 3, config1: 0, config2: 0 };

    fn open_or_skip(attr: EventAttr) -> Option<PerfGroup> {
        match PerfGroup::open(attr, 0) {
            Ok(group) => Some(group),
            Err(e) => {
                let refused = [libc::EACCES, libc::EPERM, libc::ENOENT, libc::ENOSYS];
                assert!(e.raw_os_error().is_some_and(|n| refused.contains(&n)), "{e}");
                eprintln!("SKIPPED: perf events cannot be opened here: {e}");
                None
            }
        }
    }

    #[test]
    fn group_is_read_whole_and_time_advances() {
        let Some(mut group) = open_or_skip(CPU_CLOCK) else { return };
        assert_eq!(group.add(SWITCHES).unwrap(), 1);
        let mut values = GroupValues::default();
        group.read(&mut values).unwrap();
        assert_eq!(values.values.len(), 2);
        let first = values.clone();
        let room = values.values.as_ptr();
        std::thread::sleep(std::time::Duration::from_millis(5));
        group.read(&mut values).unwrap();
        assert_eq!(values.values.as_ptr(), room, "a second reading must not allocate");
        assert!(values.time_enabled_ns >= first.time_enabled_ns + 4_000_000);
        assert!(values.at_ns >= first.at_ns + 4_000_000);
        assert!(values.values[0] > first.values[0]);
    }

    #[test]
    fn errno_of_an_event_that_does_not_exist_is_kept() {
        if open_or_skip(CPU_CLOCK).is_none() {
            return;
        }
        // A type number no PMU has: `perf_init_event` answers ENOENT.
        let e = probe(EventAttr { type_id: 0x7fff_fff0, ..EventAttr::default() }, 0).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ENOENT), "{e}");
    }

    #[test]
    fn cpu_beyond_the_kernels_range_is_einval() {
        assert_eq!(probe(CPU_CLOCK, u32::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn attr_carries_all_three_words_and_excludes_nothing() {
        let attr = attr_of(EventAttr { type_id: 7, config: 1 << 60, config1: 2, config2: 3 });
        assert_eq!(attr.type_, 7);
        assert_eq!(attr.size as usize, size_of::<bindings::perf_event_attr>());
        assert_eq!(attr.config, 1 << 60);
        assert_eq!(attr._bitfield_1.get(0, 63), 0, "no flag bit set: enabled, counting, nothing excluded");
    }
}
