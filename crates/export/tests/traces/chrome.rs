//! Traces in Chrome's JSON.

use super::{Row, rows_of_jobs};
use crate::stream::{Stream, analysed, random};
use gpuscope_export::chrome::Writer;
use serde_json::Value;
use std::collections::BTreeMap;

fn export(stream: &Stream, origin_ns: u64) -> (Value, analysed::Truth) {
    let mut writer = Writer::new(Vec::new(), origin_ns).unwrap();
    let truth = analysed::run(stream, |event, jobs| {
        if let Some(event) = event {
            writer.event(event, &stream.names).unwrap();
        }
        jobs.iter().for_each(|job| writer.job(job, &stream.names).unwrap());
    });
    (serde_json::from_slice(&writer.finish().unwrap()).unwrap(), truth)
}

/// As Perfetto reads them (CoerceToTs, src/trace_processor/importers/json/json_trace_tokenizer.cc).
fn ns(value: &Value) -> u64 {
    (value.as_f64().unwrap() * 1000.0).round() as u64
}

type Thread = (u64, u64);

fn thread(row: &Value) -> Thread {
    (row["pid"].as_u64().unwrap(), row["tid"].as_u64().unwrap())
}

/// Names of processes and threads.
fn names(trace: &Value) -> (BTreeMap<u64, String>, BTreeMap<Thread, String>) {
    let (mut processes, mut threads) = (BTreeMap::new(), BTreeMap::new());
    for row in trace["traceEvents"].as_array().unwrap().iter().filter(|row| row["ph"] == "M") {
        let name = row["args"]["name"].as_str().map(str::to_string);
        match (row["name"].as_str().unwrap(), name) {
            ("process_name", Some(name)) => drop(processes.insert(thread(row).0, name)),
            ("thread_name", Some(name)) => drop(threads.insert(thread(row), name)),
            _ => {}
        }
    }
    (processes, threads)
}

#[test]
fn slices_are_the_jobs() {
    for seed in 1..=10 {
        let stream = random(seed, 400);
        let origin_ns = stream.events[0].at_ns;
        let (trace, truth) = export(&stream, origin_ns);
        let (processes, threads) = names(&trace);
        let mut rows: Vec<Row> = Vec::new();
        for row in trace["traceEvents"].as_array().unwrap().iter().filter(|row| row["ph"] == "X" || row["ph"] == "B") {
            let (ring, stage) = threads[&thread(row)].split_once(' ').unwrap();
            let from_ns = origin_ns + ns(&row["ts"]);
            rows.push((
                processes[&thread(row).0].clone(),
                ring.to_string(),
                stage.to_string(),
                from_ns,
                row.get("dur").map(|dur| from_ns + ns(dur)),
                row["args"]["context"].as_u64().unwrap(),
                row["args"]["seqno"].as_u64().unwrap(),
            ));
        }
        rows.sort();
        assert_eq!(rows, rows_of_jobs(&truth.jobs, &stream), "seed {seed}");
    }
}

/// No two of a thread have a moment in common: a viewer that insists on nesting has nothing to cut.
#[test]
fn slices_of_a_thread_never_overlap() {
    for seed in 1..=10 {
        // Far from the machine's start.
        let mut stream = random(seed, 400);
        let boot_ns = 400 * 86_400 * 1_000_000_000;
        stream.events.iter_mut().for_each(|event| event.at_ns += boot_ns);
        stream.to_ns += boot_ns;
        let (trace, _) = export(&stream, stream.events[0].at_ns);
        let mut by_thread: BTreeMap<Thread, Vec<(u64, u64)>> = BTreeMap::new();
        for row in trace["traceEvents"].as_array().unwrap().iter().filter(|row| row["ph"] == "X" || row["ph"] == "B") {
            let from_ns = ns(&row["ts"]);
            let to_ns = row.get("dur").map_or(u64::MAX, |dur| from_ns + ns(dur));
            by_thread.entry(thread(row)).or_default().push((from_ns, to_ns));
        }
        for slices in by_thread.values_mut() {
            slices.sort_unstable();
            assert!(slices.windows(2).all(|two| two[0].1 <= two[1].0), "seed {seed}: {slices:?}");
        }
        assert!(by_thread.len() > 12);
    }
}

#[test]
fn submissions_stand_on_the_threads_of_their_processes() {
    let stream = random(4, 200);
    let (trace, truth) = export(&stream, 0);
    let mut submitted: Vec<(u64, u64, u64)> = Vec::new();
    for row in trace["traceEvents"].as_array().unwrap().iter().filter(|row| row["name"] == "submit") {
        submitted.push((ns(&row["ts"]), thread(row).0, thread(row).1));
    }
    let jobs = truth.jobs.iter().filter_map(|job| Some((job.submit_ns?, u64::from(job.pid), u64::from(job.tid))));
    let mut jobs: Vec<_> = jobs.collect();
    submitted.sort_unstable();
    jobs.sort_unstable();
    assert_eq!(submitted, jobs);
    let depth = trace["traceEvents"].as_array().unwrap().iter().filter(|row| row["ph"] == "C");
    let most = depth.map(|row| row["args"]["jobs"].as_u64().unwrap()).max().unwrap();
    assert_eq!(most, truth.rings.iter().map(|(_, counts)| counts.depth_peak).max().unwrap());
}

/// Names are the kernel's and a program's: any text stays one.
#[test]
fn odd_names_stay_json() {
    let mut stream = crate::stream::small();
    let comm = stream.names.text("a\"b\\\n\u{1}");
    stream.events.iter_mut().for_each(|event| event.comm = comm);
    let (trace, _) = export(&stream, 0);
    assert!(trace["traceEvents"].as_array().unwrap().iter().any(|row| row["name"] == "a\"b\\\n\u{1}"));
}

#[test]
fn an_error_of_a_fence_of_no_job_is_of_no_ring() {
    let stream = crate::stream::with_fence_errors();
    let (trace, _) = export(&stream, 0);
    let rows = trace["traceEvents"].as_array().unwrap();
    let errors: Vec<&Value> = rows.iter().filter(|row| row["name"].as_str().unwrap().contains("error")).collect();
    let [error] = errors[..] else { panic!("{errors:?}") };
    assert_eq!(
        (&error["s"], &error["args"]["context"], &error["args"]["errno"]),
        (&"g".into(), &77.into(), &(-62).into())
    );
    assert!(names(&trace).0.values().all(|name| !name.contains("not named")));
}

#[test]
fn interrupts_context_switches_and_frequencies_are_shown() {
    let (known, events) = crate::stream::of_the_machine();
    let mut writer = Writer::new(Vec::new(), 0).unwrap();
    events.iter().for_each(|event| writer.event(event, &known).unwrap());
    let trace: Value = serde_json::from_slice(&writer.finish().unwrap()).unwrap();
    let (processes, threads) = names(&trace);
    let place = |name: &str| {
        let rows: Vec<&Value> = trace["traceEvents"].as_array().unwrap().iter().filter(|r| r["name"] == name).collect();
        let [row] = rows[..] else { panic!("{rows:?}") };
        (ns(&row["ts"]), processes[&thread(row).0].as_str(), threads[&thread(row)].as_str())
    };
    assert_eq!(place("interrupt"), (20, "GPU fb000000.gpu", "interrupts"));
    assert_eq!(place("context switch"), (30, "GPU fb000000.gpu", "rcs0"));
    let counters = trace["traceEvents"].as_array().unwrap().iter().filter(|row| row["ph"] == "C");
    let counters: Vec<_> =
        counters.map(|row| (row["name"].as_str().unwrap(), ns(&row["ts"]), row["args"]["hz"].as_u64())).collect();
    assert_eq!(
        counters,
        [
            ("frequency of fb000000.gpu", 10, Some(200_000_000)),
            ("frequency of fb000000.gpu", 40, Some(800_000_000)),
            ("frequency of a device not named by the records", 50, Some(1_000_000_000)),
        ]
    );
}

#[test]
fn losses_are_in_the_trace() {
    let lost = gpuscope_model::trace::Dropped { ring_full: 3, ..Default::default() };
    let mut writer = Writer::new(Vec::new(), 1_000).unwrap();
    writer.dropped(3_000, &lost).unwrap();
    let trace: Value = serde_json::from_slice(&writer.finish().unwrap()).unwrap();
    let row = &trace["traceEvents"][0];
    assert_eq!(
        (&row["name"], &row["ts"], &row["args"]),
        (&"records lost".into(), &2.0.into(), &serde_json::json!({ "ring_full": 3 }))
    );
}
