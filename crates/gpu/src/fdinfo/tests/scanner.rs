//! Trees under a temporary folder. Links in `fd` to /dev/null and /dev/zero stand for device nodes: a character device is a
//! character device.

use super::{i915, xe};
use crate::fdinfo::samples::{ClientsOf, fill};
use crate::fdinfo::scanner::{ClientScanner, Holder, Target};
use gpuscope_model::{ClientsSample, GpuId, Reading, Reason, Why};
use gpuscope_sys::{Roots, monotonic_ns};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const S: u64 = 1_000_000_000;

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("proc")).unwrap();
        Tree { dir }
    }

    fn proc(&self, path: &str) -> PathBuf {
        self.dir.path().join("proc").join(path)
    }

    /// `flags` as in the ninth field of `/proc/PID/stat`.
    fn process(&self, pid: u32, flags: u64) {
        fs::create_dir_all(self.proc(&format!("{pid}/fd"))).unwrap();
        fs::create_dir_all(self.proc(&format!("{pid}/fdinfo"))).unwrap();
        let stat = format!("{pid} (p) S 1 {pid} {pid} 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 {} 0 0\n", pid * 10);
        fs::write(self.proc(&format!("{pid}/stat")), stat).unwrap();
        fs::write(self.proc(&format!("{pid}/comm")), "player\n").unwrap();
    }

    fn open(&self, pid: u32, fd: u32, node: &str, text: &str) {
        let link = self.proc(&format!("{pid}/fd/{fd}"));
        if !link.is_symlink() {
            symlink(node, link).unwrap();
        }
        fs::write(self.proc(&format!("{pid}/fdinfo/{fd}")), text).unwrap();
    }

    fn close(&self, pid: u32, fd: u32) {
        fs::remove_file(self.proc(&format!("{pid}/fd/{fd}"))).unwrap();
        fs::remove_file(self.proc(&format!("{pid}/fdinfo/{fd}"))).unwrap();
    }

    fn exit(&self, pid: u32) {
        fs::remove_dir_all(self.proc(&pid.to_string())).unwrap();
    }

    fn scanner(&self, live: bool) -> ClientScanner {
        ClientScanner::with_mode(Roots::at(self.dir.path()), live)
    }
}

const NULL: &str = "/dev/null";
const ZERO: &str = "/dev/zero";

fn target(dev: &str, pdev: &str, readable: bool) -> Target {
    let (major, minor) = dev.trim_end().split_once(':').unwrap();
    let rdev = rustix::fs::makedev(major.parse().unwrap(), minor.parse().unwrap());
    Target { rdevs: vec![rdev], pdev: Some(pdev.into()), readable, wanted: true }
}

fn xe_target(readable: bool) -> Target {
    target("1:3\n", "0000:03:00.0", readable)
}

fn i915_target(readable: bool) -> Target {
    target("1:5\n", "0000:00:02.0", readable)
}

fn ids(scanner: &ClientScanner, target: usize) -> Vec<u64> {
    let mut ids: Vec<u64> = scanner.clients_of(target).map(|c| c.id).collect();
    ids.sort_unstable();
    ids
}

/// The walk in turn comes by after two seconds at the earliest: it is not what finds this one.
#[test]
fn a_young_process_that_puts_a_client_in_the_place_of_a_file_is_seen_at_the_next_look() {
    let tree = Tree::new();
    let mut scanner = tree.scanner(true);
    scanner.refresh(&[xe_target(true)], S);
    tree.process(10, 0);
    tree.open(10, 4, "/dev/full", "pos:\t0\n");
    scanner.refresh(&[xe_target(true)], 2 * S);
    assert_eq!(ids(&scanner, 0), []);
    tree.close(10, 4);
    tree.open(10, 4, NULL, &xe(7, 1, 0, 100));
    scanner.refresh(&[xe_target(true)], 3 * S);
    assert_eq!(ids(&scanner, 0), [7]);
}

#[test]
fn a_client_says_when_it_was_read_and_why_it_was_not() {
    let tree = Tree::new();
    tree.process(10, 0);
    tree.open(10, 4, NULL, &xe(7, 1, 0, 100));
    let mut scanner = tree.scanner(true);
    let (mut times, mut out) = (vec![monotonic_ns()], ClientsSample::default());
    for tick in 1..4 {
        scanner.refresh(&[xe_target(true)], tick * S);
        let withheld = (tick == 3).then_some(Why::ASLEEP);
        fill(
            &scanner,
            &[ClientsOf {
                gpu: GpuId::new("0000:03:00.0"),
                withheld,
                hidden: &[],
                beside: None,
                inner_namespace: false,
            }],
            &mut out,
        );
        let [client] = out.clients.as_slice() else { panic!("{out:?}") };
        match &client.read_ns {
            Reading::Value(ns) => times.extend([*ns, monotonic_ns()]),
            Reading::Absent(why) => assert_eq!((tick, why.reason), (3, Reason::Asleep)),
        }
    }
    assert!(times.len() == 5 && times.is_sorted(), "{times:?}");
}

fn node(dev: &str) -> u64 {
    target(dev, "", true).rdevs[0]
}

#[test]
fn a_scan_of_the_whole_machine_takes_the_place_of_the_walks() {
    let tree = Tree::new();
    for (pid, fd, id) in [(10, 4, 7), (10, 5, 8), (11, 4, 7), (12, 4, 9)] {
        tree.process(pid, 0);
        tree.open(pid, fd, NULL, &xe(id, 1, 0, 100));
    }
    tree.process(2, 0x0020_8040);
    let xe_node = node("1:3");
    let all = vec![(10, 4, xe_node), (10, 5, xe_node), (11, 4, xe_node), (2, 4, xe_node), (12, 3, node("1:7"))];
    let mut scanner = tree.scanner(true).with_whole([all.clone(), vec![(10, 5, xe_node), (12, 4, xe_node)]]);
    scanner.refresh(&[xe_target(true)], S);
    // What the scan says, and nothing of the walks: process 12 has another device's node, and 2 is a kernel thread.
    assert_eq!((ids(&scanner, 0), scanner.clients().map(|c| c.holders.len()).sum::<usize>()), (vec![7, 8], 3));
    // Not due: the clients are read all the same.
    tree.open(10, 5, NULL, &xe(8, 5, 0, 200));
    scanner.refresh(&[xe_target(true)], S + S / 10);
    let cycles = |scanner: &ClientScanner, id| {
        scanner.clients().find(|c| c.id == id).and_then(|c| c.info.engines.first()?.cycles)
    };
    assert_eq!(cycles(&scanner, 8), Some(5));
    scanner.refresh(&[xe_target(true)], 5 * S);
    assert_eq!(ids(&scanner, 0), [8, 9]);
    // It fails: the walks take over, and it is tried a few times more.
    for (now_ns, lives) in [(10 * S, true), (11 * S, true), (12 * S, false)] {
        scanner.refresh(&[xe_target(true)], now_ns);
        assert_eq!((ids(&scanner, 0), scanner.can_scan_whole().is_ok()), (vec![7, 8, 9], lives));
    }
}

#[test]
fn with_a_scan_of_the_whole_machine_other_processes_are_not_looked_into() {
    let tree = Tree::new();
    for pid in [10, 11] {
        tree.process(pid, 0);
        tree.open(pid, 4, NULL, &xe(u64::from(pid), 1, 0, 100));
    }
    let mut scanner = tree.scanner(true).with_whole([vec![(10, 4, node("1:3"))]]);
    scanner.refresh(&[xe_target(true)], S);
    assert_eq!((ids(&scanner, 0), scanner.denied_processes(), scanner.incomplete()), (vec![10], 0, None));
}

#[test]
fn a_file_opened_as_a_path_is_neither_a_client_nor_a_driver_that_says_nothing() {
    let tree = Tree::new();
    for pid in [10, 11] {
        tree.process(pid, 0);
    }
    tree.open(10, 4, NULL, &xe(7, 1, 0, 100));
    tree.open(11, 4, NULL, "pos:\t0\nflags:\t010000000\nmnt_id:\t9\nino:\t4\n");
    let mut scanner = tree.scanner(true);
    scanner.refresh(&[xe_target(true)], S);
    assert_eq!((ids(&scanner, 0), scanner.is_mute(0), scanner.unread_holders(0)), (vec![7], false, vec![]));
}

/// Run once more by itself, by a shell that lets it open few files: a limit is the whole process's.
#[test]
fn without_file_numbers_no_client_is_lost_and_the_reason_is_told() {
    const FEW: &str = "GPUSCOPE_TEST_FEW_FILES";
    const NAME: &str = "fdinfo::tests::scanner::without_file_numbers_no_client_is_lost_and_the_reason_is_told";
    if std::env::var_os(FEW).is_none() {
        let exe = std::env::current_exe().unwrap();
        let line = format!("ulimit -n 64; exec \"$0\" --exact {NAME} --test-threads 1");
        let out = std::process::Command::new("sh").args(["-c", &line]).arg(exe).env(FEW, "1").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let tree = Tree::new();
    for pid in 10..110 {
        tree.process(pid, 0);
        tree.open(pid, 4, NULL, &xe(u64::from(pid), 1, 0, 100));
    }
    let mut scanner = tree.scanner(true);
    for tick in 1..4 {
        scanner.refresh(&[xe_target(true)], tick * S);
        assert_eq!((ids(&scanner, 0).len(), scanner.incomplete()), (100, None));
    }
    // Somebody else takes the rest of them.
    let taken: Vec<fs::File> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    scanner.refresh(&[xe_target(true)], 4 * S);
    assert_eq!(scanner.clients().count(), 100);
    assert!(scanner.incomplete().unwrap().remedy.as_ref().unwrap().contains("ulimit -n"));
    drop(taken);
    scanner.refresh(&[xe_target(true)], 5 * S);
    assert_eq!((ids(&scanner, 0).len(), scanner.incomplete()), (100, None));
}

/// panthor before Linux 6.13 prints the core's keys of no driver at all.
#[test]
fn holders_of_which_no_client_is_known_are_named_with_the_reason() {
    let tree = Tree::new();
    for pid in [12, 10] {
        tree.process(pid, 0);
        tree.open(pid, 4, NULL, &xe(7, 1, 0, 100));
        tree.open(pid, 5, ZERO, "pos:\t0\nflags:\t02100002\n");
    }
    let mut scanner = tree.scanner(true);
    let mut unread = |xe_readable: bool, now_ns: u64| {
        scanner.refresh(&[xe_target(xe_readable), i915_target(true)], now_ns);
        assert!(!scanner.is_mute(0) && scanner.is_mute(1));
        (scanner.unread_holders(0), scanner.unread_holders(1))
    };
    assert_eq!(unread(false, S), (vec![10, 12], vec![10, 12]));
    // A client that is known is listed, with the reason for what it used.
    assert_eq!(unread(true, 2 * S), (vec![], vec![10, 12]));
    assert_eq!(unread(false, 3 * S), (vec![], vec![10, 12]));
}

#[test]
fn a_client_held_by_many_counts_once_and_outlives_its_first_holder() {
    let tree = Tree::new();
    for pid in [10, 11] {
        tree.process(pid, 0);
        tree.open(pid, 4, NULL, &xe(7, 1, 0, 100));
        tree.open(pid, 5, NULL, &xe(7, 1, 0, 100));
    }
    let mut scanner = tree.scanner(true);
    scanner.refresh(&[xe_target(true)], S);
    assert_eq!(ids(&scanner, 0), [7]);
    let first = scanner.clients().next().unwrap().holders[0];
    assert_eq!(scanner.clients().next().unwrap().holders.len(), 4);

    tree.exit(first.pid);
    let other = if first.pid == 10 { 11 } else { 10 };
    for fd in [4, 5] {
        tree.open(other, fd, NULL, &xe(7, 9, 0, 200));
    }
    scanner.refresh(&[xe_target(true)], 2 * S);
    assert_eq!(ids(&scanner, 0), [7]);
    let client = scanner.clients().next().unwrap();
    assert_eq!(client.info.engines[0].cycles, Some(9));
    assert!(client.holders.iter().all(|h| h.pid == other));

    tree.exit(other);
    scanner.refresh(&[xe_target(true)], 3 * S);
    assert_eq!(scanner.clients().count(), 0);
    assert_eq!(scanner.largest_client_id(), 7);
}

#[test]
fn a_file_number_used_again_is_another_client() {
    let tree = Tree::new();
    tree.process(10, 0);
    tree.open(10, 4, NULL, &xe(7, 1, 0, 100));
    let mut scanner = tree.scanner(true);
    scanner.refresh(&[xe_target(true)], S);
    tree.open(10, 4, NULL, &xe(8, 2, 0, 200));
    scanner.refresh(&[xe_target(true)], 2 * S);
    assert_eq!(ids(&scanner, 0), [8]);
}

#[test]
fn files_opened_and_closed_are_noticed_by_the_walk_in_turn() {
    let tree = Tree::new();
    tree.process(10, 0);
    tree.open(10, 4, NULL, &xe(7, 1, 0, 100));
    let mut scanner = tree.scanner(true);
    scanner.refresh(&[xe_target(true)], S);
    tree.close(10, 4);
    tree.open(10, 6, NULL, &xe(9, 1, 0, 100));
    scanner.refresh(&[xe_target(true)], 4 * S);
    scanner.refresh(&[xe_target(true)], 7 * S);
    assert_eq!(ids(&scanner, 0), [9]);
}

#[test]
fn nothing_of_a_sleeping_device_is_read() {
    let tree = Tree::new();
    tree.process(10, 0);
    tree.open(10, 4, NULL, &xe(7, 1, 0, 100));
    tree.open(10, 5, ZERO, &i915(8, 5, 0));
    let mut scanner = tree.scanner(true);
    let asleep = [xe_target(false), i915_target(true)];
    scanner.refresh(&asleep, S);
    assert_eq!((ids(&scanner, 0), ids(&scanner, 1)), (vec![], vec![8]));
    // The file number of the i915 client now belongs to the sleeping device: its fdinfo must not be read either.
    fs::remove_file(tree.proc("10/fd/5")).unwrap();
    tree.open(10, 5, NULL, &i915(8, 99, 0));
    scanner.refresh(&asleep, 2 * S);
    assert_eq!((ids(&scanner, 0), ids(&scanner, 1)), (vec![], vec![]));
    // Awake: both files are of the first device, found in the walk of before.
    tree.open(10, 5, NULL, &xe(9, 5, 0, 0));
    scanner.refresh(&[xe_target(true), i915_target(true)], 3 * S);
    assert_eq!((ids(&scanner, 0), ids(&scanner, 1)), (vec![7, 9], vec![]));
    // Asleep again: the clients stay known and are not among those read.
    scanner.refresh(&asleep, 4 * S);
    assert_eq!((ids(&scanner, 0), scanner.clients().count()), (vec![], 2));
}

#[test]
fn devices_that_come_and_go_keep_the_clients_of_the_others() {
    let tree = Tree::new();
    tree.process(10, 0);
    tree.open(10, 4, NULL, &xe(7, 1, 0, 100));
    tree.open(10, 5, ZERO, &i915(8, 5, 0));
    let mut scanner = tree.scanner(true);
    scanner.refresh(&[xe_target(true)], S);
    assert_eq!(ids(&scanner, 0), [7]);
    scanner.refresh(&[i915_target(true), xe_target(true)], 2 * S);
    assert_eq!((ids(&scanner, 0), ids(&scanner, 1)), (vec![8], vec![7]));
    scanner.refresh(&[i915_target(true)], 3 * S);
    assert_eq!((ids(&scanner, 0), scanner.clients().count()), (vec![8], 1));
    let unwanted = Target { wanted: false, ..i915_target(true) };
    scanner.refresh(&[unwanted], 4 * S);
    assert_eq!(scanner.clients().count(), 0);
}

#[test]
fn kernel_threads_are_not_walked_and_a_tree_without_processes_says_so() {
    let tree = Tree::new();
    tree.process(2, 0x0020_8040);
    tree.open(2, 4, NULL, &xe(7, 1, 0, 100));
    for live in [true, false] {
        let mut scanner = tree.scanner(live);
        scanner.refresh(&[xe_target(true)], S);
        assert_eq!((scanner.clients().count(), scanner.denied_processes()), (0, 0));
        assert_eq!(scanner.incomplete(), None);
    }
    let empty = tempfile::tempdir().unwrap();
    let mut scanner = ClientScanner::new(Roots::at(empty.path()));
    scanner.refresh(&[xe_target(true)], S);
    assert_eq!(scanner.incomplete().map(|w| w.reason), Some(Reason::NotSupported));
}

#[test]
fn captured_tree_is_matched_by_pci_address() {
    let tree = Tree::new();
    for pid in [10, 11] {
        tree.process(pid, 0);
        fs::remove_dir(tree.proc(&format!("{pid}/fd"))).unwrap();
        fs::write(tree.proc(&format!("{pid}/fdinfo/0")), "pos:\t0\nflags:\t02\n").unwrap();
        fs::write(tree.proc(&format!("{pid}/fdinfo/4")), xe(7, 1, 0, 100)).unwrap();
    }
    fs::write(tree.proc("11/fdinfo/5"), i915(8, 1, 0)).unwrap();
    fs::write(tree.proc("11/fdinfo/synthetic"), "x").unwrap();
    let mut scanner = tree.scanner(false);
    let targets = [i915_target(true), xe_target(true)];
    scanner.refresh(&targets, S);
    assert_eq!((ids(&scanner, 0), ids(&scanner, 1)), (vec![8], vec![7]));
    let holders = &scanner.clients().find(|c| c.id == 7).unwrap().holders;
    assert_eq!(holders[..], [Holder { pid: 10, fd: 4 }, Holder { pid: 11, fd: 4 }]);
    tree.exit(11);
    scanner.refresh(&targets, 2 * S);
    assert_eq!((ids(&scanner, 0), ids(&scanner, 1)), (vec![], vec![7]));
}

/// /dev/null of the running machine: a node whose driver prints nothing about its clients.
#[test]
fn the_running_machine_is_walked_and_a_driver_without_fdinfo_is_mute() {
    if !std::path::Path::new("/proc/self/fd").exists() {
        return;
    }
    let held = fs::File::open(NULL).unwrap();
    let mut scanner = ClientScanner::new(Roots::host());
    scanner.refresh(&[xe_target(false)], S);
    assert!(!scanner.is_mute(0));
    scanner.refresh(&[xe_target(true)], 2 * S);
    assert!(scanner.is_mute(0));
    assert_eq!(scanner.clients().count(), 0);
    for tick in 3..6 {
        scanner.refresh(&[xe_target(true)], tick * S);
    }
    drop(held);
}
