// guest: -g amdgpu,xe,amdgpu -t 200
//! Capture by an instance of tracefs: every job of every ring with its process, nothing lost without being counted, nothing left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

use gpuscope_model::trace::{Event, EventKind, Family};
use gpuscope_sys::{Roots, list_dir};
use gpuscope_testbed::{Gpu, Load, cpu_online, gpus, kernel_since};
use gpuscope_trace::capture::{Capture, CaptureError, TracefsCapture, Wanted};
use gpuscope_trace::{Decoder, RawRecord};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// A record kept.
struct Kept {
    at_ns: u64,
    cpu: u16,
    data: Vec<u8>,
}

/// A capture and what it gave.
struct Session {
    capture: TracefsCapture,
    decoder: Decoder,
    kept: Vec<Kept>,
    until_ns: u64,
}

impl Session {
    fn begin(buffer_bytes: usize) -> Session {
        let wanted = Wanted { families: vec![Family::DrmSched], buffer_bytes, ..Wanted::default() };
        let capture = TracefsCapture::open(&Roots::host(), &wanted).unwrap();
        let mut decoder = Decoder::new();
        for format in capture.formats() {
            assert!(decoder.add_format(format), "{}", format.name);
        }
        Session { capture, decoder, kept: Vec::new(), until_ns: 0 }
    }

    fn drain(&mut self) {
        let (first, until_ns) = (self.kept.len(), self.until_ns);
        let kept = &mut self.kept;
        let mut keep = |record: RawRecord<'_>| {
            kept.push(Kept { at_ns: record.at_ns, cpu: record.cpu, data: record.data.to_vec() });
        };
        let drained = self.capture.drain(&mut keep).unwrap();
        assert_eq!(drained.records as usize, self.kept.len() - first);
        // What came after the last reading is later than all that it said to have given.
        let earliest = self.kept[first..].iter().map(|record| record.at_ns).min();
        assert!(earliest.is_none_or(|at_ns| at_ns > until_ns), "{earliest:?} after all until {until_ns}");
        assert!(drained.until_ns > until_ns);
        self.until_ns = drained.until_ns;
        let decoder = &mut self.decoder;
        self.capture.tasks(&mut |tid, pid, comm| decoder.set_task(tid, pid, comm));
    }

    /// All events in order of time.
    fn events(&mut self) -> Vec<Event> {
        self.kept.sort_by_key(|record| record.at_ns);
        let decoder = &mut self.decoder;
        let events = self
            .kept
            .iter()
            .filter_map(|Kept { at_ns, cpu, data }| decoder.decode(RawRecord { at_ns: *at_ns, cpu: *cpu, data }));
        let events = events.collect();
        assert_eq!(self.decoder.unreadable(), 0);
        events
    }
}

/// Finished jobs by GPU and engine, as the module's books say.
fn jobs(gpus: &[Gpu]) -> BTreeMap<(String, String), u64> {
    let of = |gpu: &Gpu| {
        let engines = gpu.truth().engines;
        engines.into_iter().map(|(name, engine)| ((gpu.bdf.clone(), name), engine.jobs)).collect::<Vec<_>>()
    };
    gpus.iter().flat_map(of).collect()
}

/// What was done since.
fn since(before: &BTreeMap<(String, String), u64>, gpus: &[Gpu]) -> BTreeMap<(String, String), u64> {
    let now = jobs(gpus).into_iter().map(|(key, jobs)| (key.clone(), jobs - before[&key]));
    now.filter(|(_, jobs)| *jobs > 0).collect()
}

/// The number of jobs that a load says it ran.
fn said(load: Load) -> u64 {
    let (ended_well, text) = load.wait();
    assert!(ended_well, "{text}");
    let jobs = text.split_once("jobs=").and_then(|(_, rest)| rest.split_whitespace().next());
    jobs.and_then(|jobs| jobs.parse().ok()).unwrap_or_else(|| panic!("a load said {text}"))
}

/// The event's ring as the kernel names it; the device where the record has it.
fn ring(session: &Session, event: &Event) -> (Option<String>, String) {
    let ring = session.decoder.names().get_ring(event.ring.unwrap()).unwrap();
    (ring.gpu.as_ref().map(ToString::to_string), ring.name.as_str().to_string())
}

#[test]
#[ignore = "needs the testbed's guest"]
fn every_job_is_there_with_its_ring_and_process() {
    let gpus = gpus();
    assert!(gpus.len() >= 2, "{gpus:?}");
    let names_device = kernel_since(6, 17);
    let mut session = Session::begin(8 << 20);
    let before = jobs(&gpus);
    let mut loads = Vec::new();
    for gpu in &gpus {
        let engines = if gpu.identity == "amdgpu" { ["gfx", "compute"] } else { ["rcs0", "ccs0"] };
        loads.extend(engines.map(|engine| (gpu, engine, Load::start(&gpu.render, engine, 60.0, 1500, 6.0))));
    }
    let pids: BTreeMap<u32, (String, String)> =
        loads.iter().map(|(gpu, engine, load)| (load.pid(), (gpu.bdf.clone(), (*engine).to_string()))).collect();
    for i in 0..60 {
        session.drain();
        // A processor leaves, with what is in its buffer, and comes back.
        match i {
            15 => cpu_online(1, false),
            30 => cpu_online(1, true),
            _ => {}
        }
        sleep(Duration::from_millis(50));
    }
    let said: u64 = loads.into_iter().map(|(_, _, load)| said(load)).sum();
    sleep(Duration::from_millis(200));
    session.drain();
    let done = since(&before, &gpus);
    assert_eq!(done.values().sum::<u64>(), said, "the books and the loads agree");
    assert_eq!(session.capture.dropped().unwrap(), Default::default());

    let events = session.events();
    let mut counts: BTreeMap<(EventKind, Option<String>, String), u64> = BTreeMap::new();
    let mut complete = 0;
    for event in &events {
        match event.kind {
            EventKind::Submit => {
                let (gpu, name) = ring(&session, event);
                let (bdf, engine) = &pids[&event.pid];
                assert_eq!(&name, engine, "{event:?}");
                assert!(gpu.is_none_or(|gpu| &gpu == bdf), "{event:?}");
                assert_eq!(session.decoder.names().get(event.comm), "vgpu-load");
            }
            EventKind::Commit => {}
            EventKind::Complete => {
                complete += 1;
                continue;
            }
            other => panic!("{other:?} of jobs that wait for nothing"),
        }
        let (gpu, name) = ring(&session, event);
        assert_eq!(gpu.is_some(), names_device, "{event:?}");
        *counts.entry((event.kind, gpu, name)).or_default() += 1;
    }
    let mut expected: BTreeMap<(EventKind, Option<String>, String), u64> = BTreeMap::new();
    for ((bdf, engine), jobs) in &done {
        for kind in [EventKind::Submit, EventKind::Commit] {
            let key = (kind, names_device.then(|| bdf.clone()), engine.clone());
            *expected.entry(key).or_default() += jobs;
        }
    }
    println!("{} GPUs, {said} jobs, {} events; by ring: {done:?}", gpus.len(), events.len());
    assert_eq!(counts, expected);
    assert_eq!(complete, said, "completions");
}

#[test]
#[ignore = "needs the testbed's guest"]
fn what_finds_no_room_is_counted_one_by_one() {
    let gpus = gpus();
    let mut session = Session::begin(1);
    let before = jobs(&gpus);
    let engine = if gpus[0].identity == "amdgpu" { "gfx" } else { "rcs0" };
    // More on either processor than two pages hold, twice over: what is lost after a reading counts, too.
    for round in 0..2 {
        said(Load::start(&gpus[0].render, engine, 100.0, 200, 3.0));
        sleep(Duration::from_millis(200));
        session.drain();
        session.drain();
        let emitted = 3 * since(&before, &gpus).values().sum::<u64>();
        let dropped = session.capture.dropped().unwrap().ring_full;
        let given = session.kept.len() as u64;
        println!("round {round}: emitted {emitted}, given {given}, dropped {dropped}");
        assert!(dropped > 0 && given > 0);
        assert_eq!(given + dropped, emitted);
    }
    assert_eq!(session.events().len(), session.kept.len());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn nothing_is_left_behind() {
    let path = |name: &str| Path::new(INSTANCES).join(name);
    let mut dead = Command::new("true").spawn().unwrap();
    let (killed, other) = (format!("gpuscope-{}-0", dead.id()), "gpuscopes-friend-1");
    dead.wait().unwrap();
    // Of a process that was killed; and one of somebody else.
    std::fs::create_dir(path(&killed)).unwrap();
    std::fs::create_dir(path(other)).unwrap();
    let first = Session::begin(1 << 20);
    let second = Session::begin(1 << 20);
    let own = |number: u32| format!("gpuscope-{}-{number}", std::process::id());
    let mut names = vec![own(0), own(1), other.to_string()];
    names.sort();
    assert_eq!(list_dir(Path::new(INSTANCES)).unwrap(), names);
    drop((first, second));
    assert_eq!(list_dir(Path::new(INSTANCES)).unwrap(), [other]);
    std::fs::remove_dir(path(other)).unwrap();
}

const AS_NOBODY: &str = "GPUSCOPE_TEST_AS_NOBODY";

#[test]
#[ignore = "needs the testbed's guest"]
fn a_user_without_rights_is_told_what_would_help() {
    if std::env::var_os(AS_NOBODY).is_some() {
        let wanted = Wanted { families: vec![Family::DrmSched], buffer_bytes: 1 << 20, ..Wanted::default() };
        match TracefsCapture::open(&Roots::host(), &wanted) {
            Err(error @ CaptureError::Permission { .. }) => println!("it said: {error}"),
            other => panic!("{other:?}"),
        }
        return;
    }
    let name = "a_user_without_rights_is_told_what_would_help";
    let out = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name, "--nocapture"])
        .env(AS_NOBODY, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let line = text.lines().find(|line| line.contains("it said: ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("/sys/kernel/tracing: permission denied; run it as root"), "{line}");
}
