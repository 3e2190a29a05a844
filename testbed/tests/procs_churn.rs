// guest: -g i915 -t 1500
//! Processes that come and go two hundred times a second: no client that lives for two seconds is missed, nothing is said on stderr, no
//! file stays open.
//!
//! It takes 40 s; `TESTBED_CHURN_SECONDS=600 cargo xtask testbed --test procs_churn` is the long run.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::clients::{client, clients};
use common::{Stream, open_files, processes};
use gpuscope_testbed::{Churn, Idle, Life, Load, gpu, kernel, wait_until};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// Forks a second, of which every fourth opens a node and every fortieth keeps it for more than two seconds.
const RATE: f64 = 200.0;

/// What a line said of the clients, and when the sample began and arrived.
struct Seen {
    at_ns: u64,
    arrived_ns: u64,
    /// Owner by client number.
    owners: BTreeMap<u64, u64>,
}

/// Samples that began while it was alive, and whether one of them shows it.
fn shown(life: &Life, lines: &[Seen]) -> (usize, bool) {
    let alive = lines.iter().filter(|s| life.from_ns <= s.at_ns && s.at_ns <= life.to_ns);
    // A sample that began just before may show it, too.
    let with = lines.iter().filter(|s| life.from_ns <= s.arrived_ns && s.at_ns <= life.to_ns);
    let shows = with.filter_map(|s| s.owners.get(&life.client)).any(|pid| *pid == u64::from(life.pid));
    (alive.count(), shows)
}

#[test]
#[ignore = "needs the testbed's guest"]
fn no_client_of_two_seconds_is_missed_while_processes_come_and_go() {
    let seconds: f64 = std::env::var("TESTBED_CHURN_SECONDS").map_or(40.0, |s| s.parse().unwrap());
    let gpu = gpu("i915").expect("an i915");
    // Others to look at: a quiet machine's processes, and a client that stays.
    let _idle = Idle::start(40, 8);
    let stays = Load::with(&["--stay"], &gpu.render, "rcs0", 0.0, 1000, 1.0);
    let stays = stays.clients()[0].id;
    let mut stream = Stream::start(&["procs", "--stream", "--json"]);
    let within = Duration::from_secs(30);
    // The program that finds open files by BPF is loaded after some samples: what it holds open counts as held from the beginning.
    for _ in 0..5 {
        let line = stream.next(within).expect("a line");
        assert!(client(&line, &gpu, stays).is_some(), "{line}");
    }
    let (_, files) = open_files(stream.pid());

    let started = Instant::now();
    let churn = Churn::start(&gpu.render, RATE, seconds);
    // It says who lived as it goes: somebody must read.
    let churn = thread::spawn(move || (churn.wait(), started.elapsed()));
    let (mut lines, mut most) = (Vec::new(), files);
    while !churn.is_finished() {
        let line = stream.next(within).expect("the stream goes on");
        assert_eq!(line["schema"], "gpuscope.procs/1", "{line}");
        assert!(client(&line, &gpu, stays).is_some(), "what stays is in every line: {line}");
        let owners: Vec<(u64, u64)> =
            clients(&line).iter().map(|c| (c["client_id"].as_u64().unwrap(), c["pid"].as_u64().unwrap())).collect();
        let (all, at_ns) = (owners.len(), line["monotonic_ns"].as_u64().unwrap());
        let owners = BTreeMap::from_iter(owners);
        assert_eq!(owners.len(), all, "no client twice: {line}");
        lines.push(Seen { at_ns, arrived_ns: line["arrived_ns"].as_u64().unwrap(), owners });
        most = most.max(open_files(stream.pid()).1);
    }
    let ((lives, forked), took) = churn.join().unwrap();
    // The files of those that ended are closed when they are found to be gone.
    let is_closed = || {
        let (folders, rest) = open_files(stream.pid());
        rest == files && folders <= processes()
    };
    let closed = wait_until(Duration::from_secs(20), is_closed);
    let (folders, files_after) = open_files(stream.pid());
    let (status, said) = stream.interrupt();

    let fates: Vec<(&Life, usize, bool)> =
        lives.iter().map(|l| (l, shown(l, &lines))).map(|(l, s)| (l, s.0, s.1)).collect();
    let missed: Vec<_> = fates.iter().filter(|f| !f.2).collect();
    let swapped = |f: &&(&Life, usize, bool)| f.0.swapped;
    println!(
        "{}: {forked} processes in {seconds} s asked for ({:.0} a second in {:.0} s of the wall), {} clients of two seconds and more, {} of them in \
         another file's place; {} lines; missed {}, of them in another file's place {}, in one sample's life {}; open files {files}, at \
         most {most}, in the end {files_after}",
        kernel(),
        forked as f64 / seconds,
        took.as_secs_f64(),
        lives.len(),
        lives.iter().filter(|l| l.swapped).count(),
        lines.len(),
        missed.len(),
        missed.iter().copied().filter(swapped).count(),
        missed.iter().filter(|f| f.1 < 2).count(),
    );
    for (life, samples, _) in missed.iter().take(10) {
        println!("missed: {life:?}, {samples} samples while it lived");
    }
    assert!(lives.iter().any(|l| l.swapped) && lives.iter().any(|l| !l.swapped), "{} lived", lives.len());
    assert_eq!((status, said.as_str()), (0, ""), "nothing to say");
    assert!(closed, "{files} files were open, and {files_after} are, and {folders} folders of processes");
    // Two seconds hold two samples of a second. Where the machine gave gpuscope no time for them, nothing could be seen.
    let seeable: Vec<_> = fates.iter().filter(|f| f.1 >= 2).collect();
    assert!(seeable.len() * 2 > lives.len(), "only {} of {} lives hold two samples", seeable.len(), lives.len());
    let missed: Vec<_> = seeable.iter().filter(|f| !f.2).map(|f| f.0).collect();
    assert!(missed.is_empty(), "missed: {missed:?}");
}
