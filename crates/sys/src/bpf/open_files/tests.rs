//! The iterators against a walk through /proc. Where this process may not load programs the tests say so and pass.

use super::*;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

/// Stand-ins for GPUs: open in nearly every process.
fn null() -> u64 {
    libc::makedev(1, 3)
}

fn zero() -> u64 {
    libc::makedev(1, 5)
}

/// One that uses the program called for every process, and one that uses the other. None where none may be loaded.
fn load_or_skip(rdevs: &[u64]) -> Vec<OpenFiles> {
    let load = || OpenFiles::load(&Roots::host(), rdevs);
    match load().and_then(|first| Ok(vec![first, without_program_by_process(load()?)])) {
        Ok(both) => {
            both[0].is_by_process().unwrap_or_else(|e| panic!("Linux 5.17 without lockdown, or later, takes it: {e}"));
            both
        }
        Err(e @ (BpfError::Rejected { .. } | BpfError::Io { .. })) => panic!("{e}"),
        Err(BpfError::Unsupported { what }) if !what.contains("CONFIG_BPF_SYSCALL") => panic!("{what}"),
        Err(e) => {
            eprintln!("SKIPPED: BPF programs cannot be loaded here: {e}");
            Vec::new()
        }
    }
}

/// As on a kernel that does not take it.
fn without_program_by_process(files: OpenFiles) -> OpenFiles {
    OpenFiles { by_process: Err(BpfError::Unsupported { what: "not asked for".into() }), ..files }
}

fn scan(files: &mut OpenFiles) -> Vec<OpenFile> {
    let mut found = Vec::new();
    files.scan(&mut found).unwrap();
    found
}

fn of_process(found: &[OpenFile], pid: u32) -> Vec<(u32, u64)> {
    found.iter().filter(|f| f.pid == pid).map(|f| (f.fd, f.rdev)).collect()
}

/// What `/proc/PID/fd` says, by file number.
fn walk(pid: u32, rdevs: &[u64]) -> Vec<(u32, u64)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let Ok(meta) = std::fs::metadata(entry.path()) else { continue };
        if meta.file_type().is_char_device() && rdevs.contains(&meta.rdev()) {
            files.push((entry.file_name().to_str().unwrap().parse().unwrap(), meta.rdev()));
        }
    }
    files.sort_unstable();
    files
}

/// A process that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    /// A shell opens files and becomes `sleep`.
    fn start(redirections: &str) -> Sleeper {
        let script = format!("exec {redirections}; exec sleep 60");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let sleeper = Sleeper(command.spawn().unwrap());
        for _ in 0..1000 {
            if std::fs::read_to_string(format!("/proc/{}/comm", sleeper.pid())).unwrap() == "sleep\n" {
                return sleeper;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no sleep: {script}");
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn files_of_children_are_those_in_proc() {
    for mut files in load_or_skip(&[null(), zero()]) {
        let several = Sleeper::start("5</dev/null 6</dev/null 7<&5 8</dev/zero 9</dev/full");
        let bare = Sleeper::start("0</dev/full");
        let found = scan(&mut files);
        let expected = [(0, null()), (5, null()), (6, null()), (7, null()), (8, zero())];
        let files = of_process(&found, several.pid());
        // Some shells leave a copy behind.
        assert!(expected.iter().all(|file| files.contains(file)), "{files:?}");
        for child in [&several, &bare] {
            assert_eq!(of_process(&found, child.pid()), walk(child.pid(), &[null(), zero()]));
        }
        assert!(found.is_sorted_by_key(|f| (f.pid, f.fd)));
    }
}

#[test]
fn devices_may_be_changed() {
    for mut files in load_or_skip(&[]) {
        let child = Sleeper::start("5</dev/null 6</dev/zero");
        assert_eq!(scan(&mut files), []);
        for rdevs in [&[zero()][..], &[null(), zero(), zero()], &[null()], &[libc::makedev(4096, 1)], &[]] {
            files.set_devices(rdevs).unwrap();
            assert_eq!(of_process(&scan(&mut files), child.pid()), walk(child.pid(), rdevs), "{rdevs:?}");
        }
        let many: Vec<u64> = (0..=MAX_DEVICES as u32).map(|minor| libc::makedev(226, minor)).collect();
        assert_eq!(files.set_devices(&many).unwrap_err().errno(), Some(libc::E2BIG));
        files.set_devices(&[null()]).unwrap();
        assert_eq!(of_process(&scan(&mut files), child.pid()), walk(child.pid(), &[null()]));
    }
}

#[test]
fn start_time_is_that_of_proc() {
    for mut files in load_or_skip(&[zero()]) {
        let child = Sleeper::start("5</dev/zero");
        let found = scan(&mut files);
        let file = found.iter().find(|f| f.pid == child.pid()).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        // USER_HZ is 100 on every architecture that matters here.
        assert_eq!(file.start_ns / 10_000_000, ticks);
    }
}

#[test]
fn a_path_only_file_counts_and_a_thread_s_own_table_does_not() {
    use std::os::unix::fs::OpenOptionsExt;
    let full = libc::makedev(1, 7);
    for mut files in load_or_skip(&[full]) {
        let path_only = File::options().read(true).custom_flags(libc::O_PATH).open("/dev/full").unwrap();
        let (opened, is_open) = channel();
        let (done, is_done) = channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: gives this thread a copy of the table of open files; no memory is concerned.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            let own = File::open("/dev/full").unwrap();
            opened.send(own.metadata().unwrap().rdev()).unwrap();
            // Until the test is over, whether or not it succeeds.
            let _ = is_done.recv();
        });
        assert_eq!(is_open.recv(), Ok(full));
        let found = of_process(&scan(&mut files), std::process::id());
        assert_eq!(found, [(path_only.as_raw_fd() as u32, full)]);
        assert_eq!(found, walk(std::process::id(), &[full]));
        drop(done);
        thread.join().unwrap();
    }
}

/// A process whose first thread has ended while another goes on. Ends with the test.
struct Headless(rustix::process::Pid);

impl Headless {
    /// With /dev/full open.
    fn start() -> Headless {
        // SAFETY: the child opens a file, starts a thread and ends this one, never to return; the C library's allocator and threads
        // stand a fork, and no other lock is taken.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let _file = File::open("/dev/full");
            let thread = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
            std::mem::forget(thread);
            // SAFETY: the system call ends this thread alone, and leaves what is on its stack as it is.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        Headless(rustix::process::Pid::from_raw(pid).unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.as_raw_pid() as u32
    }
}

impl Drop for Headless {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.0), rustix::process::WaitOptions::empty());
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_shows_no_files() {
    let full = libc::makedev(1, 7);
    for mut files in load_or_skip(&[full]) {
        let process = Headless::start();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
        for _ in 0..1000 {
            if state().contains(") Z ") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(state().contains(") Z "), "{}", state());
        // The file is there, in the other thread's folder.
        let threads: Vec<_> = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().flatten().collect();
        assert!(threads.iter().any(|t| {
            let files = std::fs::read_dir(t.path().join("fd")).unwrap();
            files.flatten().any(|f| std::fs::metadata(f.path()).is_ok_and(|m| m.rdev() == full))
        }));
        assert_eq!(walk(process.pid(), &[full]), []);
        assert_eq!(of_process(&scan(&mut files), process.pid()), []);
    }
}

#[test]
fn the_buffer_of_the_last_scan_is_used_again() {
    for mut files in load_or_skip(&[null()]) {
        let _child = Sleeper::start("5</dev/null");
        let mut found = Vec::with_capacity(100_000);
        let room = found.as_ptr();
        for _ in 0..3 {
            files.scan(&mut found).unwrap();
            assert!(!found.is_empty());
        }
        assert_eq!(found.as_ptr(), room);
    }
}

#[test]
fn files_anywhere_in_a_table() {
    let random = libc::makedev(1, 8);
    for mut files in load_or_skip(&[random]) {
        let file = File::open("/dev/random").unwrap();
        let places = [62, 63, 64, 127, 128, 255, 256, 511, 1000];
        let held: Vec<_> = places.map(|at| rustix::io::fcntl_dupfd_cloexec(&file, at).unwrap()).into_iter().collect();
        let mine = of_process(&scan(&mut files), std::process::id());
        assert_eq!(mine, walk(std::process::id(), &[random]));
        assert!(
            held.iter().chain([&file.into()]).all(|fd| mine.contains(&(fd.as_raw_fd() as u32, random))),
            "{mine:?}"
        );
    }
}

#[test]
fn as_many_as_are_told_of_a_process_and_one_more() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const MOST: usize = 1024;
    let tty = libc::makedev(5, 2);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    for mut files in load_or_skip(&[tty]) {
        // By path alone: nothing else of this device is open here.
        let path = || rustix::fs::open("/dev/ptmx", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let mut held: Vec<OwnedFd> = (0..MOST).map(|_| path()).collect();
        for count in [MOST, MOST + 1] {
            held.resize_with(count, path);
            let mine = of_process(&scan(&mut files), std::process::id());
            assert_eq!(mine.len(), count);
            assert_eq!(mine, walk(std::process::id(), &[tty]));
            if let Ok(link) = &files.by_process {
                let mut told = Vec::new();
                read(link.as_fd(), &mut files.buffer, &mut told).unwrap();
                let more = told.iter().any(|file| file.pid == std::process::id() && file.fd == TOO_MANY);
                assert_eq!(more, count > MOST);
            }
        }
    }
}

#[test]
fn more_records_than_the_kernel_collects() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for mut files in load_or_skip(&[zero()]) {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        // Two readings of the kernel's, and one of ours.
        let count = BUFFER_BYTES / RECORD + 100;
        let many: Vec<File> = (0..count).map_while(|_| File::open("/dev/zero").ok()).collect();
        assert_eq!(many.len(), count, "the hard limit of open files is too low: {limit:?}");
        let mine = of_process(&scan(&mut files), std::process::id());
        assert_eq!(mine, walk(std::process::id(), &[zero()]));
        assert!(mine.len() >= count);
    }
}

#[test]
fn a_captured_tree_has_no_iterator() {
    let tree = tempfile::tempdir().unwrap();
    let error = OpenFiles::load(&Roots::at(tree.path()), &[null()]).unwrap_err();
    assert!(matches!(error, BpfError::Unsupported { .. }), "{error}");
}
