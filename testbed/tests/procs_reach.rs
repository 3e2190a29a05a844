// guest: -g i915,xe,amdgpu -m arm=1 -m autosuspend_ms=500 -m autosuspend_ms_i915=500 -m autosuspend_ms_amdgpu=500 -t 240
//! What `gpuscope procs` can and cannot see: as an unprivileged user, of GPUs that sleep, and of a driver that prints nothing. What it
//! cannot see it says, with the reason and the remedy.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::books::{Books, of_client};
use common::clients::{assert_holders, assert_memory, client, clients, ids, read_ns};
use common::{Stream, why};
use gpuscope_testbed::{Gpu, Idle, Load, Truth, gpu, gpus, kernel, kernel_since, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(30);

/// A command of nobody's.
fn as_nobody(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).arg(program.as_ref());
    command
}

/// One snapshot of `procs`, as nobody, by this binary.
fn procs_as_nobody(binary: &Path) -> Value {
    let mut command = as_nobody(binary);
    command.args(["procs", "--json", "--interval", "500ms"]);
    Stream::of(command).next(WITHIN).expect("a snapshot")
}

/// Processes whose files nobody may not list, counted as nobody: neither kernel threads (PF_KTHREAD of include/linux/sched.h) nor ended
/// ones, which have no files.
fn count_unreadable() -> u64 {
    const SCRIPT: &str = r#"n=0; for p in /proc/[0-9]*; do
        { read -r stat <$p/stat; } 2>/dev/null || continue; set -- ${stat##*) }
        [ "$1" = Z ] || [ "$1" = X ] || [ $(($7 & 0x200000)) != 0 ] || [ -r $p/fd ] || n=$((n + 1)); done; echo $n"#;
    let out = as_nobody("bash").args(["-c", SCRIPT]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().parse().unwrap_or_else(|_| panic!("{out:?}"))
}

/// A load that nobody runs; ended when dropped.
struct OfNobody {
    child: Child,
    client: u64,
}

impl OfNobody {
    fn start(gpu: &Gpu) -> OfNobody {
        // The guest has no udev, which lets users at the nodes.
        fs::set_permissions(&gpu.render, fs::Permissions::from_mode(0o666)).unwrap();
        let cache = std::env::var("TESTBED_CACHE").unwrap_or_else(|_| "/var/cache/gpu-testbed".to_string());
        let mut command = as_nobody(format!("{cache}/bin/vgpu-load"));
        command.args(["--stay", &gpu.render, "0", "10", "2000", "1000"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let client = line.split(' ').nth(1).and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        OfNobody { child, client }
    }
}

impl Drop for OfNobody {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn an_unprivileged_user_sees_its_own_and_the_remedy_shows_the_rest() {
    let gpus: Vec<Gpu> = gpus().into_iter().filter(|g| g.driver() != "panthor").collect();
    let integrated = gpus.iter().find(|g| g.identity == "i915").unwrap();
    let own = OfNobody::start(integrated);
    let engine = |g: &Gpu| if g.driver() == "amdgpu" { "gfx" } else { "rcs0" };
    let _others: Vec<Load> =
        gpus.iter().map(|g| Load::with(&["--fork"], &g.render, engine(g), 20.0, 4000, 1000.0)).collect();
    // A copy whose rights may be changed: the guest sees the machine's files read-only.
    let binary = PathBuf::from(std::env::var("TMPDIR").unwrap()).join("gpuscope");
    fs::copy(common::gpuscope(), &binary).unwrap();

    let before = count_unreadable();
    let line = procs_as_nobody(&binary);
    let after = count_unreadable();
    let seen: Vec<(&Value, &Value)> = clients(&line).iter().map(|c| (&c["client_id"], &c["uid"])).collect();
    assert_eq!(seen, [(&own.client.into(), &65534.into())], "only its own");
    let denied = line["denied_processes"].as_u64().unwrap();
    println!("{}: {denied} processes denied; counted {before} before and {after} after", kernel());
    assert!((before.min(after)..=before.max(after)).contains(&denied), "{before}, {denied}, {after}");
    assert!(denied >= 6, "three loads of two processes are root's");
    let missing = why(&line, "clients").unwrap_or_else(|| panic!("{line}"));
    assert_eq!(missing["reason"], "no_permission", "{missing}");
    assert!(missing["detail"].as_str().unwrap().starts_with(&denied.to_string()), "{missing}");
    let remedy = missing["remedy"].as_str().unwrap();
    println!("{}: {remedy}", kernel());

    // Followed to the letter, as root.
    let setcap = &remedy[remedy.find("sudo setcap").unwrap_or_else(|| panic!("{remedy}"))..];
    let setcap = setcap.trim_start_matches("sudo ");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", binary.parent().unwrap().display());
    let done = Command::new("sh").args(["-c", setcap]).env("PATH", path).output().unwrap();
    assert!(done.status.success(), "{setcap}: {done:?}");
    let line = procs_as_nobody(&binary);
    assert_eq!(line["denied_processes"], 0, "{line}");
    assert_eq!(why(&line, "clients"), None, "{line}");
    for g in &gpus {
        let expected: BTreeSet<u64> = g.clients().clients.iter().map(|c| c.id).collect();
        assert_eq!(BTreeSet::from_iter(ids(&line, g)), expected, "{}", g.identity);
    }
}

/// Samples of a stream, enough of them for BPF to be used where it may be.
fn samples(mut command: Command) -> Vec<Value> {
    command.arg(common::gpuscope()).args(["procs", "--json", "--interval", "500ms", "--count", "6"]);
    let mut stream = Stream::of(command);
    let lines: Vec<Value> = std::iter::from_fn(|| stream.next(WITHIN)).collect();
    assert_eq!(lines.len(), 6);
    lines
}

/// What `doctor` says of a source, in a word.
fn doctor(mut command: Command, source: &str) -> String {
    let out = command.arg(common::gpuscope()).args(["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    let found = doctor["sources"].as_array().unwrap().iter().find(|s| s["source"] == source);
    found.unwrap_or_else(|| panic!("no {source}: {doctor}"))["status"].as_str().unwrap().to_string()
}

/// Processes that hold a node of a GPU open, as root sees it.
fn holding() -> BTreeSet<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let is_node = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|to| to.starts_with("/dev/dri"));
    pids.filter(|pid| fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut fd| fd.any(|f| f.is_ok_and(is_node))))
        .collect()
}

/// Clients in every way in which processes come to hold one, of GPUs that are kept awake.
fn held_in_every_way(gpus: &[Gpu]) -> Vec<Load> {
    let engine = |g: &Gpu| if g.driver() == "amdgpu" { "gfx" } else { "rcs0" };
    let ways: [&[&str]; 3] = [&["--dup", "2", "--fork", "--pass"], &["--both", "--elder"], &["--shared"]];
    let loads = gpus.iter().flat_map(|g| ways.map(|way| Load::with(way, &g.render, engine(g), 20.0, 4000, 1000.0)));
    loads.collect()
}

#[test]
#[ignore = "needs the testbed's guest"]
fn with_bpf_alone_exactly_the_holders_of_a_gpu_are_denied() {
    let gpus: Vec<Gpu> = gpus().into_iter().filter(|g| g.driver() != "panthor").collect();
    let own = OfNobody::start(gpus.iter().find(|g| g.identity == "i915").unwrap());
    let _others = held_in_every_way(&gpus);
    let _idle = Idle::start(30, 4);
    let two = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"]);
        command
    };
    assert_eq!(doctor(two(), "BPF open files"), "works");
    let lines = samples(two());
    let mut holders = holding();
    assert!(holders.remove(&own.child.id()), "{holders:?}");
    let denied: Vec<u64> = lines.iter().map(|l| l["denied_processes"].as_u64().unwrap()).collect();
    println!("{}: {} processes hold a GPU and cannot be read; denied {denied:?}", kernel(), holders.len());
    assert!(denied[0] > holders.len() as u64 + 30, "without BPF any may hold one: {denied:?}");
    for line in &lines[3..] {
        let seen: Vec<(&Value, &Value)> = clients(line).iter().map(|c| (&c["client_id"], &c["uid"])).collect();
        assert_eq!(seen, [(&own.client.into(), &65534.into())], "only its own");
        assert_eq!(line["denied_processes"], holders.len(), "{line}");
        let missing = why(line, "clients").unwrap_or_else(|| panic!("{line}"));
        let said = format!("{} processes of other users have a GPU open and cannot be read", holders.len());
        assert_eq!((&missing["reason"], &missing["detail"]), (&"no_permission".into(), &said.into()), "{missing}");
        let remedy = missing["remedy"].as_str().unwrap();
        assert!(remedy.contains("cap_sys_ptrace") && remedy.contains("cap_dac_read_search"), "{remedy}");
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn root_without_bpf_lists_the_very_same_clients() {
    let gpus: Vec<Gpu> = gpus().into_iter().filter(|g| g.driver() != "panthor").collect();
    let _loads = held_in_every_way(&gpus);
    let _idle = Idle::start(30, 4);
    let without = || {
        let mut command = Command::new("setpriv");
        let less = "-bpf,-perfmon,-sys_admin";
        command.args([format!("--bounding-set={less}"), format!("--inh-caps={less}"), "--ambient-caps=-all".into()]);
        command
    };
    let with = || Command::new("env");
    assert_eq!(
        (doctor(with(), "BPF open files"), doctor(without(), "BPF open files")),
        ("works".into(), "no_permission".into())
    );
    let listed = |lines: &[Value]| {
        let line = lines.last().unwrap();
        assert_eq!((&line["denied_processes"], why(line, "clients")), (&0.into(), None), "{line}");
        let identity = |c: &Value| [&c["gpu"], &c["client_id"], &c["pid"], &c["holders"]].map(Value::to_string);
        clients(line).iter().map(identity).collect::<Vec<_>>()
    };
    let (by_bpf, by_walks) = (listed(&samples(with())), listed(&samples(without())));
    let known: usize = gpus.iter().map(|g| g.clients().clients.len()).sum();
    println!("{}: {} clients with BPF, {} without, {known} in the books", kernel(), by_bpf.len(), by_walks.len());
    assert_eq!(by_bpf.len(), known);
    assert_eq!(by_bpf, by_walks);
}

#[test]
#[ignore = "needs the testbed's guest"]
fn procs_wakes_no_gpu_that_sleeps_and_says_what_it_cannot_read() {
    let gpus: Vec<Gpu> = gpus().into_iter().filter(|g| g.driver() != "panthor").collect();
    let loads: Vec<Load> =
        gpus.iter().map(|g| Load::with(&["--alloc", "12M:system"], &g.render, "0", 0.0, 1000, 1000.0)).collect();
    for g in &gpus {
        let asleep = wait_until(Duration::from_secs(20), || g.truth().is_suspended());
        assert!(asleep, "{} does not fall asleep: {:?}", g.identity, g.truth());
    }
    let before: Vec<Truth> = gpus.iter().map(Gpu::truth).collect();
    let mut stream = Stream::start(&["procs", "--stream", "--json", "--interval", "250ms"]);
    let lines = stream.during(Duration::from_secs(5));
    assert_eq!(stream.interrupt(), (0, String::new()));
    assert!(lines.len() >= 3, "{} lines in 5 s", lines.len());
    for ((g, before), load) in gpus.iter().zip(&before).zip(&loads) {
        let after = g.truth();
        let (wakes, resumes) = (after.waking_accesses - before.waking_accesses, after.resumes - before.resumes);
        println!("{} {}: {} samples asleep, {wakes} wakes, {resumes} resumes", kernel(), g.identity, lines.len());
        assert_eq!((wakes, resumes, after.touches - before.touches), (0, 0, 0), "{}", g.identity);
        let known = &load.clients()[0];
        let books = g.clients();
        let truth = books.client(known.id).unwrap();
        for line in &lines {
            if g.driver() == "xe" {
                // Its fdinfo wakes, so that not even the number of the client is known.
                let path = format!("clients[{}]", g.bdf);
                let why = why(line, &path).unwrap_or_else(|| panic!("{} has no client and no reason: {line}", g.bdf));
                assert_eq!((&why["reason"], ids(line, g).len()), (&"asleep".into(), 0), "{why}");
                assert!(why["detail"].as_str().unwrap().contains(&known.pids[0].to_string()), "{why}");
                continue;
            }
            let seen = client(line, g, known.id).unwrap_or_else(|| panic!("{} sleeps, unseen: {line}", g.identity));
            assert_holders(seen, g, known, truth);
            assert_memory(line, seen, g, truth);
            let engines = seen["engines"].as_array().unwrap();
            assert!(!engines.is_empty() && engines.iter().all(|e| e["busy_percent"] == 0.0), "{seen}");
            assert_eq!(seen["keeps_awake"], false, "it sleeps: {seen}");
        }
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_driver_that_prints_nothing_is_named_and_one_that_is_asked_to_prints_engine_time() {
    let Some(arm) = gpu("panthor") else {
        assert!(!kernel_since(6, 10), "no panthor");
        println!("{}: this kernel has no panthor driver", kernel());
        return;
    };
    let load = Load::with(&["--fork", "--alloc", "5M:system"], &arm.render, "panthor", 30.0, 4000, 1000.0);
    let known = &load.clients()[0];
    if !kernel_since(6, 13) {
        let line = Stream::start(&["procs", "--json"]).next(WITHIN).unwrap();
        assert_eq!(ids(&line, &arm), Vec::<u64>::new(), "nothing is known, and nothing invented");
        let why = why(&line, &format!("clients[{}]", arm.bdf)).unwrap_or_else(|| panic!("no reason: {line}"));
        println!("{}: {why}", kernel());
        assert_eq!(why["reason"], "not_supported", "{why}");
        for pid in &known.pids {
            assert!(why["detail"].as_str().unwrap().contains(&pid.to_string()), "{why}");
        }
        return;
    }
    let lines = |count: &str| {
        let mut stream = Stream::start(&["procs", "--json", "--count", count]);
        std::iter::from_fn(move || stream.next(WITHIN)).collect::<Vec<Value>>()
    };
    fs::write(arm.device().join("profiling"), "0").unwrap();
    let books = arm.clients();
    let truth = books.client(known.id).unwrap();
    for line in lines("1") {
        let seen = client(&line, &arm, known.id).unwrap_or_else(|| panic!("{line}"));
        assert_holders(seen, &arm, known, truth);
        assert!(assert_memory(&line, seen, &arm, truth) > 0);
        for e in seen["engines"].as_array().unwrap() {
            assert!(e["busy_percent"].is_null(), "it prints no engine time now: {seen}");
        }
    }
    fs::write(arm.device().join("profiling"), "3").unwrap();
    let keeper = Books::keep_clients(std::slice::from_ref(&arm));
    let lines = lines("4");
    let books = keeper.close();
    assert_eq!(lines.len(), 4);
    // When the reading before the first line was made is not known as well.
    for pair in lines.windows(2) {
        let line = &pair[1];
        let seen = client(line, &arm, known.id).unwrap_or_else(|| panic!("{line}"));
        assert_memory(line, seen, &arm, truth);
        let [engine] = seen["engines"].as_array().unwrap().as_slice() else { panic!("{seen}") };
        let value = engine["busy_percent"].as_f64().unwrap_or_else(|| panic!("{line}"));
        let before = client(&pair[0], &arm, known.id).unwrap_or_else(|| panic!("{}", pair[0]));
        let truth = books.between(&arm.bdf, &[of_client(known.id, "panthor")], read_ns(before), read_ns(seen));
        println!("{} panthor: books {truth:.2?} %, gpuscope {value:.2} %", kernel());
        assert!(truth.is_none_or(|truth| (truth - value).abs() <= 1.0), "books {truth:?}: {seen}");
    }
}
