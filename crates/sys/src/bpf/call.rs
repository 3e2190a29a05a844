//! The commands of bpf(2) that are needed, each with its part of `union bpf_attr` (include/uapi/linux/bpf.h of Linux 6.1).
//!
//! The kernel takes any length and reads what is not sent as zero (`bpf_check_uarg_tail_zero`, kernel/bpf/syscall.c). Descriptors
//! come with close-on-exec set.

use aya_obj::generated::{bpf_func_info, bpf_insn};
use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ENABLE_STATS: libc::c_int = 32;
const BPF_ITER_CREATE: libc::c_int = 33;

const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_ITER: u32 = 28;

const BPF_STATS_RUN_TIME: u32 = 0;

/// Names of programs and maps: 15 letters and a zero (`BPF_OBJ_NAME_LEN`).
pub(super) type Name = [u8; 16];

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: Name,
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}
const _: () = assert!(size_of::<ProgLoad>() == 112);

#[repr(C)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}
const _: () = assert!(size_of::<BtfLoad>() == 32);

/// `struct bpf_prog_info` up to what is read. Counts of arrays are left 0: the kernel then writes none.
#[repr(C)]
struct ProgInfo {
    before: [u64; 24],
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
}
const _: () = assert!(size_of::<ProgInfo>() == 216);

#[repr(C)]
struct GetInfo {
    fd: u32,
    info_len: u32,
    info: u64,
}
const _: () = assert!(size_of::<GetInfo>() == 16);

#[repr(C)]
struct ProgRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}
const _: () = assert!(size_of::<ProgRun>() == 64);

#[repr(C)]
struct RawTracepoint {
    name: u64,
    prog_fd: u32,
    padding: u32,
}
const _: () = assert!(size_of::<RawTracepoint>() == 16);

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}
const _: () = assert!(size_of::<LinkCreate>() == 16);

#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}
const _: () = assert!(size_of::<IterCreate>() == 8);

/// The functions that a program consists of, and the type information that describes them ([`load_types`]).
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions<'a> {
    pub(super) types: BorrowedFd<'a>,
    pub(super) numbers: &'a [bpf_func_info],
}
// 8 bytes that the kernel knows (`MIN_BPF_FUNCINFO_SIZE`, kernel/bpf/verifier.c).
const _: () = assert!(size_of::<bpf_func_info>() == 8);

/// What a program is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'a> {
    /// An iterator: the number of its function in the kernel's type information, and its own functions where the kernel asks for them.
    Iterator(u32, Option<Functions<'a>>),
    /// A raw tracepoint.
    RawTracepoint,
}

/// So often a program is loaded once more that the kernel did not finish to verify because a signal came (EAGAIN, `do_check` in
/// kernel/bpf/verifier.c).
const LOADS: u32 = 5;

/// Loads a program. The verifier's words go to `log`, when that has room.
pub(super) fn load_program(
    instructions: &[bpf_insn],
    license: &CStr,
    purpose: Purpose<'_>,
    prog_name: Name,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let (prog_type, expected_attach_type, attach_btf_id, functions) = match purpose {
        Purpose::Iterator(function, own) => (BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, function, own),
        Purpose::RawTracepoint => (BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0, None),
    };
    let numbers = functions.map_or(&[][..], |functions| functions.numbers);
    let attr = ProgLoad {
        prog_type,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // A size without a buffer, or the other way round, is refused.
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name,
        prog_ifindex: 0,
        expected_attach_type,
        prog_btf_fd: functions.map_or(Ok(0), |functions| number(functions.types))?,
        func_info_rec_size: if numbers.is_empty() { 0 } else { size_of::<bpf_func_info>() as u32 },
        func_info: if numbers.is_empty() { 0 } else { numbers.as_ptr() as u64 },
        func_info_cnt: u32::try_from(numbers.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        line_info_rec_size: 0,
        line_info: 0,
        line_info_cnt: 0,
        attach_btf_id,
    };
    again(LOADS, || {
        // SAFETY: the part of this command. Its pointers lead to the instructions, to the numbers of functions and to a text that ends
        // with a zero, all borrowed for the call and read only, and to the exclusively borrowed log, with their lengths.
        unsafe { bpf(BPF_PROG_LOAD, &attr) }
    })
    .and_then(own)
}

/// Loads type information, for programs that are told by it what functions they have.
pub(super) fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let attr = BtfLoad {
        btf: types.as_ptr() as u64,
        log_buf: 0,
        size: u32::try_from(types.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        log_size: 0,
        log_level: 0,
        padding: 0,
    };
    // SAFETY: the part of this command. Its one pointer leads to the bytes, borrowed for the call and read only, with their length.
    let fd = unsafe { bpf(BPF_BTF_LOAD, &attr) }?;
    own(fd)
}

/// Calls again while the kernel says EAGAIN, so many times in all.
fn again<T>(times: u32, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = times;
    loop {
        left = left.saturating_sub(1);
        match call() {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && left > 0 => {}
            answer => return answer,
        }
    }
}

/// Runs a program for a raw tracepoint once, here and now, with these arguments. Linux 5.10 and later. What it returned.
pub(super) fn run_program(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<u32> {
    let mut attr = ProgRun {
        prog_fd: number(program)?,
        retval: 0,
        data_size_in: 0,
        data_size_out: 0,
        data_in: 0,
        data_out: 0,
        repeat: 0,
        duration: 0,
        ctx_size_in: u32::try_from(size_of_val(arguments)).map_err(|_| io::ErrorKind::InvalidInput)?,
        ctx_size_out: 0,
        ctx_in: arguments.as_ptr() as u64,
        ctx_out: 0,
    };
    // SAFETY: the part of this command, exclusively borrowed. Its one pointer leads to the arguments, borrowed for the call and read only,
    // with their length.
    unsafe { bpf_answering(BPF_PROG_RUN, &mut attr) }?;
    Ok(attr.retval)
}

/// Attaches a program to a tracepoint, one of a loaded module too. ENOENT where there is none of that name. It stays attached as long as
/// the descriptor is open.
pub(super) fn open_raw_tracepoint(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let attr = RawTracepoint { name: name.as_ptr() as u64, prog_fd: number(program)?, padding: 0 };
    // SAFETY: the part of this command. Its pointer leads to a text that ends with a zero, borrowed for the call and read only.
    let fd = unsafe { bpf(BPF_RAW_TRACEPOINT_OPEN, &attr) }?;
    own(fd)
}

/// Has the kernel measure the time that programs take, all programs of the machine, as long as the descriptor is open. Needs CAP_SYS_ADMIN,
/// whatever else there is (`bpf_enable_stats`, kernel/bpf/syscall.c). Linux 5.8 and later.
pub(super) fn enable_stats() -> io::Result<OwnedFd> {
    let attr = BPF_STATS_RUN_TIME;
    // SAFETY: the part of this command, without pointers.
    let fd = unsafe { bpf(BPF_ENABLE_STATS, &attr) }?;
    own(fd)
}

/// What the kernel has counted of a program, on all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// How often it passed it over, because it was running already on that processor. Linux 5.12 and later.
    pub(super) misses: u64,
    /// Time that it took, while that was measured ([`enable_stats`]).
    pub(super) time_ns: u64,
    /// How often it ran meanwhile.
    pub(super) runs: u64,
}

/// What the kernel has counted of a program.
pub(super) fn counted(program: BorrowedFd<'_>) -> io::Result<Counted> {
    let mut info = ProgInfo { before: [0; 24], run_time_ns: 0, run_cnt: 0, recursion_misses: 0 };
    let attr = GetInfo {
        fd: number(program)?,
        info_len: size_of::<ProgInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the part of this command. Its pointer leads to the exclusively borrowed structure, of the length that stands beside, which
    // any bytes fill. The structure itself is read too: it asks for no arrays and holds no pointers.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) }?;
    Ok(Counted { misses: info.recursion_misses, time_ns: info.run_time_ns, runs: info.run_cnt })
}

/// Attaches an iterator's program: a link, from which any number of readings are made.
pub(super) fn link_iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attr = LinkCreate { prog_fd: number(program)?, target_fd: 0, attach_type: BPF_TRACE_ITER, flags: 0 };
    // SAFETY: the part of this command, without pointers.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &attr) }?;
    own(fd)
}

/// Begins a reading: a file that runs the iterator while it is read.
pub(super) fn open_iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attr = IterCreate { link_fd: number(link)?, flags: 0 };
    // SAFETY: the part of this command, without pointers.
    let fd = unsafe { bpf(BPF_ITER_CREATE, &attr) }?;
    own(fd)
}

/// The system call itself. The C library has no wrapper for it.
///
/// # Safety
/// `attr` is the part of `union bpf_attr` that belongs to the command, and what it points to lives until after the call, is as long
/// as it says, and may be written where the command writes.
pub(super) unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_int> {
    let attr: *const T = attr;
    // SAFETY: the kernel reads the given number of bytes at `attr`, which is a live reference's, and what the caller vouches for.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    match libc::c_int::try_from(answer) {
        Ok(n) if n >= 0 => Ok(n),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The same for commands that write into their part.
///
/// # Safety
/// As above.
pub(super) unsafe fn bpf_answering<T>(command: libc::c_int, attr: &mut T) -> io::Result<()> {
    let attr: *mut T = attr;
    // SAFETY: as above; `attr` is exclusively borrowed.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The descriptor that a command has just returned.
pub(super) fn own(fd: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a command that makes something has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn number(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn an_interrupted_load_is_tried_again_and_not_for_ever() {
        let calls = Cell::new(0);
        let answer = |interrupted: u32| {
            calls.set(0);
            again(LOADS, || {
                calls.set(calls.get() + 1);
                let eagain = || io::Error::from_raw_os_error(libc::EAGAIN);
                if calls.get() <= interrupted { Err(eagain()) } else { Ok(calls.get()) }
            })
        };
        assert_eq!(answer(0).unwrap(), 1);
        assert_eq!(answer(4).unwrap(), 5);
        assert_eq!(answer(100).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        assert_eq!(calls.get(), LOADS);
        let refused = again(LOADS, || Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM)));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
