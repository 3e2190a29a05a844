//! Cost of finding the GPU's clients among a machine's processes, beside the full walks that other tools make at every refresh.
//!
//! `cargo bench -p gpuscope-gpu --bench clients -- PROCESSES FILES`: starts sleeping processes with so many open files each until the
//! machine has that many processes. Twenty hold a stand-in for a device node: /dev/full, which nothing else has open. Prints one line
//! a method: CPU milliseconds a refresh, the median of all refreshes. `cargo xtask bench` runs it and compares with the budgets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot measure ends"
)]

use gpuscope_gpu::benching::Clients;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::FdFlags;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Clients of the budget.
const CLIENTS: usize = 20;

/// Refreshes measured, one a second.
const REFRESHES: usize = 12;

/// What stands for a device node.
const STAND_IN: &str = "/dev/full";

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (processes, files) = match numbers[..] {
        [processes, files] => (processes, files),
        // `cargo test --benches` and the like: a small machine, to see that it runs.
        _ => (30, 10),
    };
    let crowd = Crowd::start(processes.saturating_sub(count().0).max(CLIENTS), files);
    let rdev = statat(rustix::fs::CWD, STAND_IN, AtFlags::empty()).unwrap().st_rdev;
    let (all, open) = count();
    println!("processes,{all}");
    println!("open files,{open}");

    let held: Vec<File> = crowd.clients.iter().map(|path| File::open(path).unwrap()).collect();
    for (name, bpf) in [("gpuscope", false), ("gpuscope bpf", true)] {
        let mut clients = match Clients::new(&[rdev], bpf) {
            Ok(clients) => clients,
            Err(why) => {
                println!("{name}: {why}");
                continue;
            }
        };
        println!("{name} first,{:.3}", cpu_ms(|| clients.refresh()));
        assert_eq!(clients.nodes(), CLIENTS, "{name}: the nodes of the stand-in");
        let mut all: Vec<f64> = Vec::new();
        for _ in 0..REFRESHES {
            std::thread::sleep(Duration::from_secs(1));
            all.push(cpu_ms(|| {
                clients.refresh();
                read_held(&held);
            }));
        }
        assert_eq!(clients.nodes(), CLIENTS, "{name}: the nodes of the stand-in");
        if bpf {
            println!("bpf scan,{:.3}", clients.scan_ms());
        }
        println!("{name} mean,{:.3}", all.iter().sum::<f64>() / all.len() as f64);
        println!("{name},{:.3}", median(all));
    }
    for (name, walk) in [
        ("walk readlink", walk_by_link as fn(u64) -> usize),
        ("walk fstatat", walk_by_stat),
        ("walk fdinfo", walk_by_fdinfo),
    ] {
        let once = || {
            let mut found = 0;
            let ms = cpu_ms(|| found = walk(rdev));
            assert_eq!(found, CLIENTS, "{name}: the nodes of the stand-in");
            ms
        };
        println!("{name},{:.3}", median((0..5).map(|_| once()).collect()));
    }
}

/// Sleeping processes, ended when dropped.
struct Crowd {
    children: Vec<Child>,
    /// fdinfo of the stand-ins' holders.
    clients: Vec<String>,
}

impl Crowd {
    fn start(processes: usize, files: usize) -> Crowd {
        // A shell's usual mix, inherited by each: three standard files, one node or one file more, the rest here.
        let kept: Vec<OwnedFd> = (0..files.saturating_sub(4)).map(some_file).collect();
        for fd in &kept {
            rustix::io::fcntl_setfd(fd, FdFlags::empty()).unwrap();
        }
        let mut crowd = Crowd { children: Vec::new(), clients: Vec::new() };
        let every = (processes / CLIENTS).max(1);
        for i in 0..processes {
            let is_client = i % every == 0 && crowd.clients.len() < CLIENTS;
            let last: OwnedFd = File::open(if is_client { STAND_IN } else { "/proc/self/status" }).unwrap().into();
            rustix::io::fcntl_setfd(&last, FdFlags::empty()).unwrap();
            let child = Command::new("sleep")
                .arg("1000")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if is_client {
                use std::os::fd::AsRawFd;
                crowd.clients.push(format!("/proc/{}/fdinfo/{}", child.id(), last.as_raw_fd()));
            }
            crowd.children.push(child);
        }
        // They have to have called exec, whose close-on-exec changes the files once more.
        std::thread::sleep(Duration::from_millis(500));
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Files, pipes, sockets and event counters in turn.
fn some_file(i: usize) -> OwnedFd {
    match i % 4 {
        0 => File::open("/etc/passwd").unwrap().into(),
        1 => std::os::unix::net::UnixStream::pair().unwrap().0.into(),
        2 => std::os::unix::net::UnixDatagram::unbound().unwrap().into(),
        _ => rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap(),
    }
}

fn read_held(files: &[File]) {
    use std::os::unix::fs::FileExt;
    let mut text = [0; 4096];
    for file in files {
        file.read_at(&mut text, 0).unwrap();
    }
}

/// Processor time of this thread that a call takes, in milliseconds.
fn cpu_ms(call: impl FnOnce()) -> f64 {
    let now = || {
        let t = clock_gettime(ClockId::ThreadCPUTime);
        t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
    };
    let before = now();
    call();
    now() - before
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap()
}

/// Processes of the machine and their open files.
fn count() -> (usize, usize) {
    let mut sum = (0, 0);
    each_process(|_, fds| {
        sum.0 += 1;
        each_entry(fds, |_, _| sum.1 += 1);
    });
    sum
}

/// The folder `fd` of every process.
fn each_process(mut call: impl FnMut(&str, &OwnedFd)) {
    let proc_dir = openat(rustix::fs::CWD, "/proc", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    each_entry(&proc_dir, |dir, name| {
        if name.parse::<u32>().is_ok() {
            if let Ok(fds) = openat(dir, format!("{name}/fd"), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
                call(name, &fds);
            }
        }
    });
}

fn each_entry(dir: &OwnedFd, mut call: impl FnMut(&OwnedFd, &str)) {
    let mut buffer = [MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_str().unwrap();
        if !name.starts_with('.') {
            call(dir, name);
        }
    }
}

/// The way of nvtop, qmassa and intel_gpu_top: `fstatat` of every open file.
fn walk_by_stat(rdev: u64) -> usize {
    let mut found = 0;
    each_process(|pid, fds| {
        each_entry(fds, |dir, name| {
            let Ok(stat) = statat(dir, name, AtFlags::empty()) else { return };
            if FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == rdev {
                read_fdinfo(pid, name);
                found += 1;
            }
        });
    });
    found
}

/// The way of amdgpu_top, resources and sysinfo: `readlink` of every open file.
fn walk_by_link(_rdev: u64) -> usize {
    let mut found = 0;
    each_process(|pid, fds| {
        each_entry(fds, |dir, name| {
            let mut target = [MaybeUninit::uninit(); 256];
            let Ok((link, _)) = rustix::fs::readlinkat_raw(dir, name, &mut target) else { return };
            if link == STAND_IN.as_bytes() {
                read_fdinfo(pid, name);
                found += 1;
            }
        });
    });
    found
}

/// The way of btop: the fdinfo of every open file.
fn walk_by_fdinfo(_rdev: u64) -> usize {
    // The text tells a DRM client; the stand-in is told by its inode.
    let inode = format!("ino:\t{}\n", statat(rustix::fs::CWD, STAND_IN, AtFlags::empty()).unwrap().st_ino);
    let mut found = 0;
    each_process(|pid, fds| {
        each_entry(fds, |_, name| found += usize::from(read_fdinfo(pid, name).contains(&inode)));
    });
    found
}

fn read_fdinfo(pid: &str, fd: &str) -> String {
    let mut text = String::with_capacity(1024);
    // Closed since it was listed.
    if let Ok(mut file) = File::open(format!("/proc/{pid}/fdinfo/{fd}")) {
        let _ = file.read_to_string(&mut text);
    }
    text
}
