//! Traces for viewers: what the real analysis says of a stream of events is what their tracks show. Those for Perfetto are read back by
//! an implementation of protobuf that is not ours.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod chrome;
mod read;
mod schema;
mod stream;

use gpuscope_export::Tells;
use gpuscope_export::perfetto::{Clocks, Options, Writer};
use gpuscope_model::trace::{Dropped, Event, EventKind, Family, Job, JobKey, JobStatus, Switch};
use gpuscope_testkit::golden;
use read::{Read, Slice};
use std::collections::BTreeMap;
use stream::{Stream, analysed, random};

const TELLS: Tells = Tells { dependencies: true };
const CLOCKS: Clocks = Clocks { monotonic_ns: 5_000, boottime_ns: 7_000, realtime_ns: 1_767_225_600_000_005_000 };

fn export(stream: &Stream, options: Options) -> (Vec<u8>, analysed::Truth) {
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    let truth = analysed::run(stream, |event, jobs| {
        if let Some(event) = event {
            writer.event(event, &stream.names).unwrap();
        }
        for job in jobs {
            writer.job(job, &stream.names).unwrap();
        }
    });
    (writer.finish(stream.to_ns).unwrap(), truth)
}

/// What is to be seen of a job: on which lanes, from when to when.
fn expected(job: &Job) -> Vec<(&'static str, u64, Option<u64>)> {
    let mut slices = Vec::new();
    let lasts = job.status == JobStatus::InFlight;
    match (job.submit_ns, job.run_ns) {
        (Some(submit), Some(run)) => slices.push(("queue", submit, Some(run))),
        (Some(submit), None) if job.done_ns.is_some() || lasts => slices.push(("queue", submit, job.done_ns)),
        _ => {}
    }
    match (job.run_ns, job.start_ns) {
        (Some(run), Some((start, _))) => {
            if run < start {
                slices.push(("hardware queue", run, Some(start)));
            }
            if job.done_ns.is_some() || lasts {
                slices.push(("execution", start, job.done_ns));
            }
        }
        (Some(run), None) if job.done_ns.is_some() || lasts => slices.push(("in flight", run, job.done_ns)),
        _ => {}
    }
    slices
}

/// By GPU, ring, stage, begin, end, and the job.
type Row = (String, String, String, u64, Option<u64>, u64, u64);

fn rows_of_jobs(jobs: &[Job], stream: &Stream) -> Vec<Row> {
    let mut rows = Vec::new();
    for job in jobs {
        let ring = stream.names.get_ring(job.ring.unwrap()).unwrap();
        let gpu = ring.gpu.as_ref().map_or("GPU not named by the records".to_string(), |gpu| format!("GPU {gpu}"));
        let JobKey::Fence { context, seqno } = job.key else { panic!("{job:?}") };
        for (stage, from, to) in expected(job) {
            rows.push((gpu.clone(), ring.name.to_string(), stage.to_string(), from, to, context, seqno));
        }
    }
    rows.sort();
    rows
}

fn rows_of_slices(read: &Read) -> Vec<Row> {
    let mut rows: Vec<Row> = read
        .slices
        .iter()
        .filter_map(|slice| {
            let [gpu, ring, stage] = &read.path(slice.track)[..] else { return None };
            let (context, seqno) = (slice.number("context"), slice.number("seqno"));
            Some((gpu.clone(), ring.clone(), stage.clone(), slice.from_ns, slice.to_ns, context, seqno))
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn slices_are_the_jobs() {
    for seed in 1..=20 {
        let stream = random(seed, 400);
        let (bytes, truth) = export(&stream, Options { clocks: Some(CLOCKS), ..Options::default() });
        let read = Read::new(&bytes);
        let (slices, jobs) = (rows_of_slices(&read), rows_of_jobs(&truth.jobs, &stream));
        assert!(jobs.len() > 800, "{}", jobs.len());
        assert_eq!(slices, jobs, "seed {seed}");
    }
}

#[test]
fn slices_of_a_lane_never_overlap() {
    for seed in 1..=20 {
        let (bytes, _) = export(&random(seed, 400), Options::default());
        for slice in &Read::new(&bytes).slices {
            assert_eq!(slice.nesting, 0, "seed {seed}: {slice:?}");
        }
    }
}

#[test]
fn a_job_is_annotated_once_with_all_that_is_known() {
    let stream = random(7, 300);
    let (bytes, truth) = export(&stream, Options { tells: TELLS, ..Options::default() });
    let read = Read::new(&bytes);
    let by_key: BTreeMap<JobKey, &Job> = truth.jobs.iter().map(|job| (job.key, job)).collect();
    let mut seen = 0;
    let told = read.slices.iter().filter(|slice| slice.notes.contains_key("status"));
    for slice in told.filter(|slice| read.path(slice.track).len() == 3) {
        let key = JobKey::Fence { context: slice.number("context"), seqno: slice.number("seqno") };
        let job = by_key[&key];
        assert_eq!(slice.notes["status"], job.status.name());
        let seen_submitted = job.submit_ns.is_some();
        assert_eq!(slice.notes.get("pid").cloned(), seen_submitted.then(|| job.pid.to_string()));
        assert_eq!(slice.notes.get("tid").cloned(), seen_submitted.then(|| job.tid.to_string()));
        assert_eq!(slice.notes["dependencies"], job.dependencies.to_string());
        assert_eq!(slice.notes.get("client_id").cloned(), job.client.map(|client| client.to_string()));
        let errno = if let JobStatus::Failed(errno) = job.status { Some(errno.to_string()) } else { None };
        assert_eq!(slice.notes.get("errno").cloned(), errno);
        let kind = match (job.start_ns, job.run_ns) {
            (Some((_, kind)), _) => Some(kind.name().to_string()),
            (None, Some(_)) => Some("in_flight".to_string()),
            (None, None) => None,
        };
        assert_eq!(slice.notes.get("start_kind").cloned(), kind);
        assert_eq!(slice.name, if seen_submitted { stream.names.get(job.comm) } else { "job" });
        seen += 1;
    }
    assert_eq!(seen, truth.jobs.iter().filter(|job| !expected(job).is_empty()).count());
}

/// From the submitting thread through the stages; and from a job to each that waited for it, never between those.
#[test]
fn arrows_lead_where_jobs_went() {
    let mut waits = 0;
    for seed in 1..=20 {
        let stream = random(seed, 300);
        let (bytes, truth) = export(&stream, Options::default());
        let read = Read::new(&bytes);
        let by_key: BTreeMap<JobKey, &Job> = truth.jobs.iter().map(|job| (job.key, job)).collect();
        let mut flows: BTreeMap<u64, Vec<&Slice>> = BTreeMap::new();
        for slice in &read.slices {
            slice.flows.iter().for_each(|flow| flows.entry(*flow).or_default().push(slice));
        }
        let mut led = 0;
        for way in flows.values() {
            let keys: Vec<JobKey> = way
                .iter()
                .map(|at| JobKey::Fence { context: at.number("context"), seqno: at.number("seqno") })
                .collect();
            if way[0].name == "submit" {
                let job = by_key[&keys[0]];
                assert!(keys.iter().all(|key| *key == job.key));
                assert_eq!(way[0].from_ns, job.submit_ns.unwrap());
                assert_eq!(read.threads[&way[0].track], (job.pid, job.tid));
                assert_eq!(way.len(), 1 + expected(job).len(), "{job:?}");
                led += 1;
                continue;
            }
            // A job whose submission was not seen has a way from stage to stage.
            if keys.iter().all(|key| *key == keys[0]) && by_key[&keys[0]].submit_ns.is_none() {
                assert_eq!(way.len(), expected(by_key[&keys[0]]).len());
                continue;
            }
            // Where the job that waits never ran, the arrow has no other end.
            if let [from, to] = keys[..] {
                assert!(stream.waits.contains(&(to, from)), "seed {seed}: {from:?} {to:?}");
                assert_eq!(way[0].to_ns, by_key[&from].done_ns);
                waits += 1;
            } else {
                assert_eq!(way.len(), 1, "seed {seed}: {way:?}");
            }
        }
        assert_eq!(led, truth.jobs.iter().filter(|job| job.submit_ns.is_some()).count());
    }
    assert!(waits > 100, "{waits}");
}

#[test]
fn counters_are_those_of_the_analysis() {
    for seed in 1..=20 {
        let stream = random(seed, 400);
        let window_ns = 1_000;
        let (bytes, truth) = export(&stream, Options { window_ns, ..Options::default() });
        let read = Read::new(&bytes);
        for (ring, counts) in &truth.rings {
            let of = stream.names.get_ring(*ring).unwrap();
            let gpu = of.gpu.as_ref().map_or("GPU not named by the records".to_string(), |gpu| format!("GPU {gpu}"));
            let values = |name: &str| {
                let path = [gpu.clone(), of.name.to_string(), name.to_string()];
                read.counters.iter().find(|(track, _)| read.path(**track) == path).unwrap().1
            };
            let depth = values("depth");
            assert_eq!(depth.iter().map(|(_, depth)| *depth as u64).max().unwrap(), counts.depth_peak, "seed {seed}");
            let shares = values("utilisation");
            let until = shares.iter().skip(1).map(|(at, _)| *at).chain([stream.to_ns]);
            let busy_ns: f64 = shares.iter().zip(until).map(|((at, share), to)| share / 100.0 * (to - at) as f64).sum();
            // Shares are rounded to a thousandth of a percent.
            let most = 1e-5 * (stream.to_ns - stream.events[0].at_ns) as f64 + 1.0;
            assert!((busy_ns - counts.busy_ns as f64).abs() < most, "seed {seed}: {busy_ns} {counts:?}");
        }
    }
}

/// The events for Perfetto's own parser are those that went in, in CLOCK_BOOTTIME; and nothing is in the trace that the schema lacks but the
/// submitter's process and name and the job's error, in fields that it passes over (numbers from 1000 on).
#[test]
fn ftrace_events_are_the_events() {
    let stream = random(3, 500);
    let (bytes, _) = export(&stream, Options { clocks: Some(CLOCKS), ..Options::default() });
    let read = Read::new(&bytes);
    assert_eq!(read.unknown_bytes, 0);
    let times = |kind: EventKind| -> Vec<u64> {
        stream.events.iter().filter(|event| event.kind == kind).map(|event| event.at_ns + 2_000).collect()
    };
    let found = |is: fn(&schema::FtraceEvent) -> bool| {
        let mut times: Vec<u64> =
            read.ftrace.iter().filter(|(_, e)| is(e)).map(|(_, e)| e.timestamp.unwrap()).collect();
        times.sort_unstable();
        times
    };
    assert_eq!(found(|e| e.drm_sched_job_queue.is_some()), times(EventKind::Submit));
    assert_eq!(found(|e| e.drm_sched_job_run.is_some()), times(EventKind::Commit));
    assert_eq!(found(|e| e.drm_sched_job_done.is_some()), times(EventKind::Complete));
    assert_eq!(found(|e| e.drm_sched_job_unschedulable.is_some()), times(EventKind::Blocked));
    let queued: Vec<&schema::Queued> = read.ftrace.iter().filter_map(|(_, e)| e.drm_sched_job_queue.as_ref()).collect();
    assert!(queued.iter().any(|queued| queued.dev.as_deref() == Some("0000:03:00.0")));
    assert!(queued.iter().any(|queued| queued.dev.is_none()));
    // Each processor's stand together.
    let sorted = |mut pids: Vec<u64>| {
        pids.sort_unstable();
        pids
    };
    let submitted = stream.events.iter().filter(|event| event.kind == EventKind::Submit && event.pid != 0);
    let submitters = sorted(submitted.map(|event| u64::from(event.pid)).collect());
    assert!(!submitters.is_empty());
    assert_eq!(sorted(queued.iter().filter_map(|queued| queued.pid).collect()), submitters);
    let ended = stream.events.iter().filter(|event| event.kind == EventKind::Complete && event.value.is_some()).count();
    let errors = read.ftrace.iter().filter_map(|(_, e)| e.drm_sched_job_done.as_ref()?.error).count();
    assert!(errors == ended && ended > 0, "{errors} of {ended}");
    assert!(read.ftrace.iter().any(|(cpu, _)| *cpu == 3));
}

#[test]
fn without_clocks_there_are_no_ftrace_events() {
    let stream = random(3, 50);
    assert!(Read::new(&export(&stream, Options::default()).0).ftrace.is_empty());
    let none = Options { clocks: Some(CLOCKS), ftrace: false, ..Options::default() };
    assert!(Read::new(&export(&stream, none).0).ftrace.is_empty());
}

#[test]
fn the_same_events_give_the_same_bytes() {
    let stream = random(11, 300);
    let options = Options { clocks: Some(CLOCKS), ..Options::default() };
    assert_eq!(export(&stream, options).0, export(&stream, options).0);
}

#[test]
fn an_empty_trace_is_one() {
    let bytes = Writer::new(Vec::new(), Options::default()).unwrap().finish(0).unwrap();
    let read = Read::new(&bytes);
    assert!(read.slices.is_empty() && read.counters.is_empty());
}

/// Old kernels: a job is told by an address, no device, no process.
#[test]
fn old_events_have_the_old_names() {
    let mut stream = random(5, 60);
    for event in &mut stream.events {
        let address = |key: JobKey| match key {
            JobKey::Fence { context, seqno } => JobKey::Address(context << 32 | seqno),
            other => other,
        };
        event.key = event.key.map(address);
        event.pid = 0;
    }
    let (bytes, truth) = export(&stream, Options { clocks: Some(CLOCKS), ..Options::default() });
    let read = Read::new(&bytes);
    assert!(!truth.jobs.is_empty());
    let count = |is: fn(&schema::FtraceEvent) -> bool| read.ftrace.iter().filter(|(_, e)| is(e)).count();
    let kinds = |kind: EventKind| stream.events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(count(|e| e.drm_sched_job.is_some()), kinds(EventKind::Submit));
    assert_eq!(count(|e| e.drm_run_job.is_some()), kinds(EventKind::Commit));
    assert_eq!(count(|e| e.drm_sched_process_job.is_some()), kinds(EventKind::Complete));
    assert!(read.threads.is_empty(), "no process is made up");
    let submits = read.slices.iter().filter(|slice| slice.name == "submit");
    assert!(submits.clone().count() > 0);
    for submit in submits {
        assert_eq!(read.path(submit.track)[0], "threads whose process is not recorded");
    }
}

/// A job that failed and the error that its fence signalled are one thing; an error of a fence of no job is of no ring.
#[test]
fn errors_of_fences_belong_to_their_jobs_and_make_no_ring() {
    let stream = stream::with_fence_errors();
    let (bytes, truth) = export(&stream, Options::default());
    assert_eq!(truth.jobs.iter().filter(|job| matches!(job.status, JobStatus::Failed(_))).count(), 2);
    let read = Read::new(&bytes);
    let paths: Vec<Vec<String>> = read.slices.iter().map(|slice| read.path(slice.track)).collect();
    assert!(paths.iter().flatten().all(|name| !name.contains("not named by the records")), "{paths:?}");
    let named = |name: &str| read.slices.iter().filter(|slice| slice.name == name).collect::<Vec<_>>();
    assert_eq!(named("job failed").len(), 2);
    let [stray] = named("error")[..] else { panic!("{:?}", named("error")) };
    assert_eq!(read.path(stray.track), ["errors of fences of no job"]);
    assert_eq!((stray.number("context"), stray.number("seqno"), stray.from_ns), (77, 5, 60));
}

fn at(at_ns: u64, kind: EventKind, tid: u32, value: Option<i64>) -> Event {
    Event {
        at_ns,
        kind,
        family: Family::Ioctl,
        cpu: 0,
        tid,
        pid: 10,
        comm: Default::default(),
        ring: None,
        key: None,
        other: None,
        client: None,
        value,
    }
}

#[test]
fn waits_nest_in_ioctls_and_lost_ends_end() {
    let names = Default::default();
    let name = |request| (request == 0x6443).then(|| "AMDGPU_BO_LIST".to_string());
    let mut writer = Writer::new(Vec::new(), Options::default()).unwrap().with_ioctl_names(name);
    for event in [
        at(5, EventKind::WaitEnd, 1, None),
        at(10, EventKind::IoctlEnter, 1, Some(0x6443)),
        at(11, EventKind::WaitBegin, 1, None),
        at(12, EventKind::IoctlEnter, 2, Some(0x6400)),
        at(15, EventKind::WaitEnd, 1, None),
        at(16, EventKind::IoctlExit, 1, Some(0)),
        at(20, EventKind::WaitBegin, 1, None),
        at(30, EventKind::WaitBegin, 1, None),
        at(31, EventKind::WaitEnd, 1, None),
    ] {
        writer.event(&event, &names).unwrap();
    }
    let read = Read::new(&writer.finish(40).unwrap());
    let slices: Vec<_> = read.slices.iter().map(|s| (s.name.as_str(), s.from_ns, s.to_ns, s.nesting)).collect();
    assert_eq!(
        slices,
        [
            ("AMDGPU_BO_LIST", 10, Some(16), 0),
            ("wait for fence", 11, Some(15), 1),
            ("ioctl", 12, None, 0),
            ("wait for fence", 20, Some(30), 0),
            ("wait for fence", 30, Some(31), 0),
        ]
    );
    assert_eq!(read.slices[0].notes["request"], 0x6443.to_string());
}

#[test]
fn threads_of_jobs_have_a_track_of_their_processors() {
    let names = Default::default();
    let mut writer = Writer::new(Vec::new(), Options::default()).unwrap();
    let switch = |at_ns, cpu, prev, state, next| Event {
        cpu,
        pid: 0,
        family: Family::Sched,
        ..at(at_ns, EventKind::SchedSwitch, prev, Some(Switch { next, state }.value()))
    };
    let wakes = |at_ns, of: i64| Event { pid: 0, ..at(at_ns, EventKind::SchedWaking, 9, Some(of)) };
    for event in [
        // Nothing is known of it yet.
        switch(1, 0, 1, 1, 0),
        at(2, EventKind::Submit, 1, None),
        switch(10, 0, 1, 1, 0),
        wakes(20, 1),
        wakes(21, 1),
        switch(25, 3, 8, 1, 1),
        // It is about to sleep, and has its processor.
        wakes(26, 1),
        switch(30, 3, 1, 0x100, 8),
        switch(40, 3, 8, 1, 1),
        // Of a thread that has no jobs.
        switch(50, 3, 8, 1, 7),
    ] {
        writer.event(&event, &names).unwrap();
    }
    // From here on nothing is known of it, until its next switch.
    writer.dropped(55, &Dropped { ring_full: 3, ..Dropped::default() }).unwrap();
    writer.event(&wakes(56, 1), &names).unwrap();
    writer.event(&switch(58, 2, 8, 1, 1), &names).unwrap();
    let read = Read::new(&writer.finish(60).unwrap());
    let on_processor = |slice: &&read::Slice| !slice.is_instant;
    let slices: Vec<_> =
        read.slices.iter().filter(on_processor).map(|s| (s.name.as_str(), s.from_ns, s.to_ns, s.nesting)).collect();
    assert_eq!(
        slices,
        [
            ("waits for a processor", 20, Some(25), 0),
            ("on a processor", 25, Some(30), 0),
            ("waits for a processor", 30, Some(40), 0),
            ("on a processor", 40, Some(55), 0),
            ("on a processor", 58, None, 0),
        ]
    );
    let on = read.slices.iter().find(|slice| slice.name == "on a processor").unwrap();
    assert_eq!(read.path(on.track), [" 10/1", "processor"]);
    assert_eq!(on.number("cpu"), 3);
}

/// What of the machine is in a trace beside its jobs; of the two frequencies one is of no device.
#[test]
fn interrupts_context_switches_and_frequencies_are_shown() {
    let (names, events) = stream::of_the_machine();
    let mut writer = Writer::new(Vec::new(), Options::default()).unwrap();
    events.iter().for_each(|event| writer.event(event, &names).unwrap());
    let read = Read::new(&writer.finish(60).unwrap());
    let moments: Vec<_> = read.slices.iter().map(|s| (s.name.as_str(), s.from_ns, s.is_instant)).collect();
    assert_eq!(moments, [("interrupt", 20, true), ("context switch", 30, true)]);
    let [interrupt, switch] = &read.slices[..] else { unreachable!() };
    assert_eq!(read.path(interrupt.track), ["GPU fb000000.gpu", "interrupts"]);
    assert_eq!(interrupt.notes["family"], "panthor");
    assert_eq!(read.path(switch.track), ["GPU fb000000.gpu", "rcs0"]);
    assert_eq!((switch.number("context"), switch.number("seqno")), (7, 8));
    let counters: Vec<_> = read.counters.iter().map(|(track, values)| (read.path(*track), &values[..])).collect();
    assert_eq!(
        counters,
        [
            (vec!["frequency of fb000000.gpu".to_string()], &[(10, 2e8), (40, 8e8)][..]),
            (vec!["frequency of a device not named by the records".to_string()], &[(50, 1e9)][..]),
        ]
    );
    let unit = |track: &u64| read.tracks[track].counter.as_ref().and_then(|counter| counter.unit_name.clone());
    assert!(read.counters.keys().all(|track| unit(track).as_deref() == Some("Hz")));
}

/// A trace of another tool holds the ioctls of all files: terminals' (TCGETS), dma-bufs' (type `b`).
#[test]
fn ioctls_of_other_drivers_are_not_drawn() {
    let names = Default::default();
    let mut writer = Writer::new(Vec::new(), Options::default()).unwrap();
    for event in [
        at(10, EventKind::IoctlEnter, 1, Some(0x5401)),
        at(12, EventKind::IoctlExit, 1, Some(0)),
        at(20, EventKind::IoctlEnter, 1, Some(0x6443)),
        // The end of the one before is not in the trace.
        at(30, EventKind::IoctlEnter, 1, Some(0x4008_6200)),
        at(32, EventKind::WaitBegin, 1, None),
        at(34, EventKind::WaitEnd, 1, None),
        at(36, EventKind::IoctlExit, 1, Some(0)),
        at(40, EventKind::IoctlEnter, 2, Some(0x5401)),
        at(42, EventKind::IoctlExit, 2, Some(0)),
    ] {
        writer.event(&event, &names).unwrap();
    }
    let read = Read::new(&writer.finish(50).unwrap());
    let slices: Vec<_> = read.slices.iter().map(|s| (s.name.as_str(), s.from_ns, s.to_ns)).collect();
    assert_eq!(slices, [("ioctl", 20, Some(30)), ("wait for fence", 32, Some(34))]);
    assert_eq!(
        read.threads.values().collect::<Vec<_>>(),
        [&(10, 1)],
        "a thread of which nothing is drawn has no track"
    );
}

#[test]
fn what_a_trace_does_not_tell_is_no_note() {
    let stream = random(7, 300);
    let notes = |tells| {
        let (bytes, _) = export(&stream, Options { tells, ..Options::default() });
        Read::new(&bytes).slices.iter().filter(|slice| slice.notes.contains_key("dependencies")).count()
    };
    assert!(notes(TELLS) > 100 && notes(Tells::default()) == 0, "no job of this stream has any");
}

#[test]
fn small_trace() {
    let stream = stream::small();
    let mut writer =
        Writer::new(Vec::new(), Options { clocks: Some(CLOCKS), window_ns: 1_000, tells: TELLS, ..Options::default() })
            .unwrap();
    analysed::run(&stream, |event, jobs| {
        if let Some(event) = event {
            writer.event(event, &stream.names).unwrap();
        }
        jobs.iter().for_each(|job| writer.job(job, &stream.names).unwrap());
    });
    let lost = gpuscope_model::trace::Dropped { ring_full: 3, ..Default::default() };
    writer.dropped(8_500, &lost).unwrap();
    let read = Read::new(&writer.finish(stream.to_ns).unwrap());
    golden(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/perfetto.txt"), &read.listing());
}

/// A trace and the jobs that are in it, for a reader that is not ours: docs/perfetto.md says how to compare them.
#[test]
#[ignore = "needs GPUSCOPE_PERFETTO_DIR, a folder to write to"]
fn files_for_other_readers() {
    let folder = std::path::PathBuf::from(std::env::var_os("GPUSCOPE_PERFETTO_DIR").unwrap());
    let stream = random(21, 5_000);
    let (bytes, truth) = export(&stream, Options { clocks: Some(CLOCKS), tells: TELLS, ..Options::default() });
    std::fs::write(folder.join("trace.pftrace"), bytes).unwrap();
    let mut lines = Vec::new();
    for job in &truth.jobs {
        gpuscope_export::json::job_line(&mut lines, job, &stream.names, TELLS).unwrap();
    }
    std::fs::write(folder.join("jobs.jsonl"), lines).unwrap();
}
