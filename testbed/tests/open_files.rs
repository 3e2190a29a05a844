// guest: -g i915,xe -t 150
//! The BPF iterator over open files against a walk through /proc, on real DRM nodes: as root, and as nobody with no more than the two
//! capabilities it needs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

use gpuscope_sys::Roots;
use gpuscope_sys::bpf::{BpfError, OpenFile, OpenFiles};
use gpuscope_testbed::{Gpu, Idle, Load, gpus, kernel, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Process, file number, device number.
type File = (u32, u32, u64);

fn rdev(node: &str) -> u64 {
    fs::metadata(node).unwrap().rdev()
}

/// Both nodes of every GPU.
fn nodes(gpus: &[Gpu]) -> Vec<u64> {
    gpus.iter().flat_map(|g| [rdev(&g.card), rdev(&g.render)]).collect()
}

fn numbers(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}

/// The same by `/proc/PID/fd` of every process.
fn walk(rdevs: &[u64]) -> Vec<File> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = numbers(&process.file_name()) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        for file in files.flatten() {
            let Some((fd, meta)) = numbers(&file.file_name()).zip(fs::metadata(file.path()).ok()) else { continue };
            if meta.file_type().is_char_device() && rdevs.contains(&meta.rdev()) {
                found.push((pid, fd, meta.rdev()));
            }
        }
    }
    found.sort_unstable();
    found
}

fn scan(files: &mut OpenFiles) -> Vec<File> {
    let mut found = Vec::new();
    files.scan(&mut found).unwrap();
    found.iter().map(|f: &OpenFile| (f.pid, f.fd, f.rdev)).collect()
}

fn load(rdevs: &[u64]) -> OpenFiles {
    let files = OpenFiles::load(&Roots::host(), rdevs).unwrap_or_else(|e| panic!("{}: {e}", kernel()));
    files.is_by_process().unwrap_or_else(|e| panic!("{}: {e}", kernel()));
    files
}

/// Clients in every way in which a process comes to hold one.
fn clients(gpus: &[Gpu]) -> Vec<Load> {
    let start = |gpu: &Gpu, options: &[&str]| Load::with(options, &gpu.render, "rcs0", 20.0, 2000, 100.0);
    let of = |gpu| [start(gpu, &["--dup", "2", "--fork", "--pass"]), start(gpu, &["--both"]), start(gpu, &["--stay"])];
    gpus.iter().flat_map(of).collect()
}

#[test]
#[ignore = "needs the testbed's guest"]
fn the_iterator_finds_what_proc_shows() {
    let gpus = gpus();
    let mut files = load(&nodes(&gpus));
    assert_eq!(scan(&mut files), walk(&nodes(&gpus)));
    let loads = clients(&gpus);
    let found = scan(&mut files);
    assert_eq!(found, walk(&nodes(&gpus)), "{}", kernel());
    // Three descriptors, three with its heir, one with the receiver; one for each node; one.
    assert_eq!(found.len(), gpus.len() * (3 + 3 + 1 + 2 + 1), "{found:?}");
    let holders: BTreeSet<u32> = loads.iter().flat_map(Load::clients).flat_map(|c| c.pids.clone()).collect();
    assert_eq!(found.iter().map(|f| f.0).collect::<BTreeSet<_>>(), holders);

    for gpu in &gpus {
        let only = [rdev(&gpu.render)];
        files.set_devices(&only).unwrap();
        let found = scan(&mut files);
        assert!(!found.is_empty() && found.iter().all(|f| f.2 == only[0]));
        assert_eq!(found, walk(&only), "{}", gpu.identity);
    }
    drop(loads);
    // Those who inherited files end a moment after those whom they inherited them from.
    assert!(wait_until(Duration::from_secs(20), || walk(&nodes(&gpus)).is_empty()));
    files.set_devices(&nodes(&gpus)).unwrap();
    assert_eq!(scan(&mut files), []);
}

#[test]
#[ignore = "needs the testbed's guest"]
fn all_character_devices_of_the_machine() {
    let _idle = Idle::start(200, 4);
    // Whatever is open anywhere: the terminal, /dev/null, the nodes of the test.
    let rdevs: BTreeSet<u64> =
        fs::read_dir("/dev").unwrap().flatten().filter_map(|e| Some(e.metadata().ok()?.rdev())).collect();
    let rdevs: Vec<u64> = rdevs.into_iter().filter(|r| *r != 0).take(200).collect();
    let mut files = load(&rdevs);
    let found = scan(&mut files);
    assert_eq!(found, walk(&rdevs), "{}", kernel());
    println!("{}: {} files of {} devices", kernel(), found.len(), rdevs.len());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn cost_beside_the_walk() {
    let gpus = gpus();
    let _idle = Idle::start(1000, 28);
    let _loads = clients(&gpus);
    let rdevs = nodes(&gpus);
    let begun = Instant::now();
    let mut files = load(&rdevs);
    let load = begun.elapsed();
    let fastest = |work: &mut dyn FnMut()| {
        let times = (0..5).map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        });
        times.min().unwrap()
    };
    let scan = fastest(&mut || drop(scan(&mut files)));
    let walk = fastest(&mut || drop(walk(&rdevs)));
    println!("{}: load {load:?}, scan {scan:?}, walk {walk:?}", kernel());
    // It is an order of magnitude and more; emulated, and on a busy machine, a part of it is asked for.
    assert!(scan * 3 < walk, "scan {scan:?}, walk {walk:?}");
}

/// What `as_nobody` runs as another user: prints what it finds.
#[test]
#[ignore = "needs the testbed's guest"]
fn child_of_the_next_test() {
    let Ok(rdevs) = std::env::var("OPEN_FILES_OF") else { return };
    let rdevs: Vec<u64> = rdevs.split(',').map(|n| n.parse().unwrap()).collect();
    match OpenFiles::load(&Roots::host(), &rdevs) {
        Ok(mut files) => {
            for (pid, fd, rdev) in scan(&mut files) {
                println!("\nfile {pid} {fd} {rdev}");
            }
        }
        Err(e @ BpfError::Permission { .. }) => println!("\nrefused {e}"),
        Err(e) => panic!("{e}"),
    }
}

/// Runs it with these capabilities and no others (`setpriv` words), and returns its lines.
fn as_nobody(capabilities: &str, rdevs: &[u64]) -> Vec<String> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if capabilities.is_empty() {
        command.arg("--inh-caps=-all");
    } else {
        command.arg(format!("--inh-caps={capabilities}")).arg(format!("--ambient-caps={capabilities}"));
    }
    command.arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child_of_the_next_test", "--nocapture"]);
    command.env("OPEN_FILES_OF", rdevs.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
    let out = command.output().unwrap();
    assert!(out.status.success(), "{capabilities}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().filter(|l| l.starts_with("file ") || l.starts_with("refused ")).map(str::to_string).collect()
}

#[test]
#[ignore = "needs the testbed's guest"]
fn two_capabilities_are_enough_and_needed() {
    let gpus = gpus();
    let rdevs = nodes(&gpus);
    let _loads = clients(&gpus);
    let expected: Vec<String> = walk(&rdevs).iter().map(|(pid, fd, rdev)| format!("file {pid} {fd} {rdev}")).collect();
    assert!(!expected.is_empty());
    assert_eq!(as_nobody("+bpf,+perfmon", &rdevs), expected, "{}: it sees the processes of root", kernel());
    for too_few in ["", "+bpf", "+perfmon", "+sys_ptrace,+dac_read_search"] {
        let said = as_nobody(too_few, &rdevs);
        println!("{} {too_few}: {said:?}", kernel());
        assert!(said.len() == 1 && said[0].starts_with("refused "), "{too_few}: {said:?}");
    }
}

/// The last of the file: there is no way back from lockdown.
#[test]
#[ignore = "needs the testbed's guest"]
fn without_the_helper_that_lockdown_takes_away() {
    let lockdown = "/sys/kernel/security/lockdown";
    if !Path::new(lockdown).exists() {
        let mounted =
            Command::new("mount").args(["-t", "securityfs", "none", "/sys/kernel/security"]).status().unwrap();
        assert!(mounted.success());
    }
    fs::write(lockdown, "confidentiality").unwrap();
    let gpus = gpus();
    let mut files = OpenFiles::load(&Roots::host(), &nodes(&gpus)).unwrap();
    let refused = files.is_by_process().unwrap_err().to_string();
    println!("{}: {refused}", kernel());
    let _loads = clients(&gpus);
    let found = scan(&mut files);
    assert!(!found.is_empty());
    assert_eq!(found, walk(&nodes(&gpus)), "{}", kernel());
}
