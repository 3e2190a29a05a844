//! The records that `open_files.bpf.c` writes.

/// An open file of a process that is a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenFile {
    /// Process: `task->tgid`, its number in the machine's PID namespace.
    pub pid: u32,
    /// File number in the table of the process's first thread: a name in `/proc/PID/fd`.
    pub fd: u32,
    /// Device number as `stat` gives it (`makedev`).
    pub rdev: u64,
    /// When the process was started, in nanoseconds after boot, suspend included: `task->start_boottime`. With the pid, the
    /// identity of the process. `/proc/PID/stat` prints the same in clock ticks (`do_task_stat`, fs/proc/array.c).
    pub start_ns: u64,
}

/// Stands for a file number where a process has more files than the program tells of one: `TOO_MANY`.
pub(super) const TOO_MANY: u32 = u32::MAX;

/// Length of a record: `struct record`.
pub(super) const RECORD: usize = 24;

/// The files in a run of records; bytes after the last whole record are passed over.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = OpenFile> {
    bytes.chunks_exact(RECORD).filter_map(record)
}

fn record(bytes: &[u8]) -> Option<OpenFile> {
    let (start, rest) = bytes.split_first_chunk()?;
    let (pid, rest) = rest.split_first_chunk()?;
    let (fd, rest) = rest.split_first_chunk()?;
    let (major, rest) = rest.split_first_chunk()?;
    let (minor, _) = rest.split_first_chunk()?;
    Some(OpenFile {
        pid: u32::from_ne_bytes(*pid),
        fd: u32::from_ne_bytes(*fd),
        rdev: libc::makedev(u32::from_ne_bytes(*major), u32::from_ne_bytes(*minor)),
        start_ns: u64::from_ne_bytes(*start),
    })
}

/// The kernel's own number for a device that `stat` calls `rdev`: 12 bits of major, 20 of minor (`MKDEV`, include/linux/kdev_t.h).
/// `None` for a number that no device has.
pub(super) fn kernel_device(rdev: u64) -> Option<u32> {
    let (major, minor) = (libc::major(rdev), libc::minor(rdev));
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the program writes it.
    fn bytes(start: u64, words: [u32; 4]) -> Vec<u8> {
        start.to_ne_bytes().into_iter().chain(words.into_iter().flat_map(u32::to_ne_bytes)).collect()
    }

    #[test]
    fn records_one_after_the_other() {
        let mut run = bytes(5_000_000_000, [4711, 7, 226, 128]);
        run.extend(bytes(u64::MAX, [1, 1023, 4095, 0xf_ffff]));
        let found: Vec<OpenFile> = records(&run).collect();
        let render = OpenFile { pid: 4711, fd: 7, rdev: libc::makedev(226, 128), start_ns: 5_000_000_000 };
        let last = OpenFile { pid: 1, fd: 1023, rdev: libc::makedev(4095, 0xf_ffff), start_ns: u64::MAX };
        assert_eq!(found, [render, last]);
    }

    #[test]
    fn synthetic_torn_record_is_passed_over() {
        let mut run = bytes(1, [2, 3, 226, 0]);
        run.extend(&bytes(1, [2, 4, 226, 0])[..RECORD - 1]);
        assert_eq!(records(&run).map(|f| f.fd).collect::<Vec<_>>(), [3]);
        assert_eq!(records(&[]).count(), 0);
    }

    #[test]
    fn device_numbers_of_both_kinds() {
        assert_eq!(kernel_device(libc::makedev(1, 3)), Some(0x10_0003));
        assert_eq!(kernel_device(libc::makedev(226, 128)), Some(226 << 20 | 128));
        assert_eq!(kernel_device(libc::makedev(261, 300)), Some(261 << 20 | 300));
        assert_eq!(kernel_device(libc::makedev(4096, 0)), None);
        assert_eq!(kernel_device(libc::makedev(0, 1 << 20)), None);
    }
}
