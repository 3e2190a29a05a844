// guest: -g i915,i915-discrete,xe,xe-integrated -t 300
//! Engine use as `gpuscope stat` says it, against the module's own books and beside intel_gpu_top.
//!
//! One command prints the table: `cargo xtask testbed --test accuracy`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::books::Books;
use common::{Stream, class, engine, gpu, is_sample};
use gpuscope_testbed::{Gpu, Load, gpus, kernel};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// One row of the table.
struct Row {
    what: String,
    truth: f64,
    ours: f64,
    worst: f64,
    samples: usize,
    /// Samples that were late, and compared with what the books allow over their lateness.
    late: usize,
    peer: Option<f64>,
}

fn print_table(rows: &[Row]) {
    println!(
        "{:<44} {:>7} {:>4} {:>8} {:>8} {:>8} {:>13}",
        "engine", "samples", "late", "truth %", "ours %", "worst", "intel_gpu_top"
    );
    for r in rows {
        let peer = r.peer.map_or("-".into(), |p| format!("{p:.2}"));
        println!(
            "{:<44} {:>7} {:>4} {:>8.2} {:>8.2} {:>8.3} {:>13}",
            r.what, r.samples, r.late, r.truth, r.ours, r.worst, peer
        );
    }
}

/// Mean busy percent an engine as intel_gpu_top's JSON says it, its first period left out, which is shorter than the others.
fn peer_means(text: &str) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for period in common::objects(text).iter().skip(1) {
        for (name, e) in period["engines"].as_object().into_iter().flatten() {
            let sum = sums.entry(name.clone()).or_default();
            sum.0 += e["busy"].as_f64().unwrap_or(f64::NAN);
            sum.1 += 1;
        }
    }
    sums.into_iter().map(|(k, (sum, n))| (k, sum / n as f64)).collect()
}

/// Engine names of intel_gpu_top for ours. It has no word for compute engines.
fn peer_name(ours: &str) -> String {
    let (class, instance) = ours.split_at(ours.len() - 1);
    let class = match class {
        "rcs" => "Render/3D",
        "bcs" => "Blitter",
        "vcs" => "Video",
        "vecs" => "VideoEnhance",
        _ => "[unknown]",
    };
    format!("{class}/{instance}")
}

fn loads(gpu: &Gpu) -> Vec<Load> {
    let node = gpu.render.as_str();
    let seconds = 60.0;
    let start = |engine: &str, duty: f64, job_us: u64| Load::start(node, engine, duty, job_us, seconds);
    match gpu.identity.as_str() {
        // Two processes on one engine, both video engines, and an engine left idle (bcs0).
        "i915" => vec![
            start("rcs0", 20.0, 2000),
            start("rcs0", 13.0, 1500),
            start("vcs0", 75.0, 2000),
            start("vcs1", 5.0, 1000),
            start("vecs0", 50.0, 2000),
        ],
        // One engine at 95 % and more: two processes whose jobs queue behind each other ask for a little over all of it.
        "i915-discrete" => vec![start("vcs1", 52.0, 4000), start("vcs1", 52.0, 4000), start("ccs0", 10.0, 2000)],
        "xe" => vec![start("rcs0", 40.0, 2000), start("vcs0", 60.0, 2000), start("vcs1", 20.0, 2000)],
        _ => vec![start("bcs0", 30.0, 2000)],
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn busy_percent_is_within_a_point_of_the_books_and_agrees_with_intel_gpu_top() {
    let gpus = gpus();
    let integrated = gpus.iter().find(|g| g.identity == "i915").expect("an i915");
    let running: Vec<Load> = gpus.iter().flat_map(loads).collect();
    thread::sleep(Duration::from_secs(1));

    let books = Books::keep(&gpus);
    let mut peer = Command::new("timeout")
        .args(["-s", "INT", "32", "intel_gpu_top", "-J", "-s", "1000", "-d"])
        .arg(format!("drm:{}", integrated.card))
        .stdout(Stdio::from(std::fs::File::create("/mnt/intel_gpu_top.json").unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stream = Stream::start(&["stat", "--json", "--interval", "1s", "--count", "30"]);
    let mut samples = Vec::new();
    while let Some(line) = stream.next(Duration::from_secs(20)) {
        if is_sample(&line) {
            samples.push(line);
        }
    }
    peer.wait().unwrap();
    let books = books.close();
    drop(running);
    assert_eq!(samples.len(), 30);

    let peers = peer_means(&std::fs::read_to_string("/mnt/intel_gpu_top.json").unwrap());
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    for g in &gpus {
        let engines: Vec<String> = books.rows[&g.bdf][0].1.keys().cloned().collect();
        let by_instance = g.driver() == "i915";
        let units: Vec<(String, Vec<String>)> = if by_instance {
            engines.iter().map(|e| (e.clone(), vec![e.clone()])).collect()
        } else {
            let mut classes: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for e in &engines {
                classes.entry(class_of(e).to_string()).or_default().push(e.clone());
            }
            classes.into_iter().collect()
        };
        for (unit, members) in units {
            let mut row = Row {
                what: format!("{} {} {} {unit}", kernel(), g.identity, g.bdf),
                truth: 0.0,
                ours: 0.0,
                worst: 0.0,
                samples: 0,
                late: 0,
                peer: (g.bdf == integrated.bdf).then(|| peers.get(&peer_name(&unit)).copied()).flatten(),
            };
            for (i, sample) in samples.iter().enumerate() {
                let before = i.checked_sub(1).map(|i| &samples[i]);
                let seen = gpu(sample, &g.bdf).expect("the GPU is in every sample");
                if !by_instance {
                    assert!(seen["engines"].is_null(), "xe counts no instances by default: {seen}");
                    assert_eq!(common::why(seen, "engines").unwrap()["reason"], "not_supported");
                }
                let entry = if by_instance { engine(seen, &unit) } else { class(seen, &unit) };
                let Some(value) = entry.and_then(|e| e["busy_percent"].as_f64()) else {
                    // An idle xe is left alone so that it can fall asleep; a busy one is read at every tick.
                    let reason = &seen["unavailable"];
                    if books.compare(&g.bdf, &members, 0.0, sample, before).truth > 0.5 {
                        faults.push(format!("{}: no value: {reason}", row.what));
                    }
                    continue;
                };
                let compared = books.compare(&g.bdf, &members, value, sample, before);
                let truth = compared.truth;
                row.late += usize::from(compared.late);
                row.samples += 1;
                row.truth += truth;
                row.ours += value;
                // The worst of the punctual samples; a late one, whose moment is not known as well, is allowed twice as much.
                if compared.late {
                    // The first interval begins with the reading at start-up, which takes long, and prints nothing that could arrive.
                    if compared.off > 2.0 && i > 0 {
                        let ms = |s: &serde_json::Value| {
                            let (at, arrived) =
                                (s["monotonic_ns"].as_u64().unwrap(), s["arrived_ns"].as_u64().unwrap());
                            (arrived - at) / 1_000_000
                        };
                        faults.push(format!(
                            "{}: {:.2} points off, late: {value:.2}, books {truth:.2} give or take {:.2}; interval {}, {} ms after {:?} ms",
                            row.what, compared.off, compared.width, sample["interval_s"], ms(sample), before.map(ms)
                        ));
                    }
                } else {
                    row.worst = row.worst.max(compared.off);
                }
                if truth == 0.0 && value >= 0.1 {
                    faults.push(format!("{}: idle but {value} %", row.what));
                }
            }
            row.truth /= row.samples as f64;
            row.ours /= row.samples as f64;
            if row.samples == 0 {
                faults.push(format!("{}: never a value", row.what));
            }
            if row.worst > 1.0 {
                faults.push(format!("{}: {:.2} points off", row.what, row.worst));
            }
            // Over the whole run lateness does not matter.
            if (row.ours - row.truth).abs() > 0.5 {
                faults.push(format!("{}: mean {:.2} where the books say {:.2}", row.what, row.ours, row.truth));
            }
            if let Some(peer) = row.peer {
                if (peer - row.ours).abs() > 1.5 {
                    faults.push(format!("{}: intel_gpu_top says {peer:.2}, we say {:.2}", row.what, row.ours));
                }
            } else if g.bdf == integrated.bdf {
                faults.push(format!("{}: intel_gpu_top said nothing (it knows {:?})", row.what, peers.keys()));
            }
            rows.push(row);
        }
    }
    print_table(&rows);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn class_of(engine: &str) -> &'static str {
    match engine.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "rcs" => "render",
        "bcs" => "copy",
        "vcs" => "video",
        "vecs" => "video_enhance",
        _ => "compute",
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn xe_counts_instances_through_its_pmu_on_request_and_says_that_it_perturbs() {
    let gpus = gpus();
    let Some(g) = gpus.iter().find(|g| g.identity == "xe") else {
        println!("{}: this kernel has no xe driver", kernel());
        return;
    };
    let has_pmu =
        std::path::Path::new("/sys/bus/event_source/devices").join(format!("xe_{}", g.bdf.replace(':', "_"))).exists();
    let running = loads(g);
    thread::sleep(Duration::from_secs(1));
    let books = Books::keep(std::slice::from_ref(g));
    let mut stream = Stream::start(&["stat", "--json", "--perturbing", "--interval", "1s", "--count", "10"]);
    let mut samples = Vec::new();
    while let Some(line) = stream.next(Duration::from_secs(20)) {
        samples.push(line);
    }
    let books = books.close();
    drop(running);
    let mut rows = Vec::new();
    for name in ["rcs0", "vcs0", "vcs1", "vecs0", "bcs0"] {
        let mut row = Row {
            what: format!("{} xe PMU {name}", kernel()),
            truth: 0.0,
            ours: 0.0,
            worst: 0.0,
            samples: 0,
            late: 0,
            peer: None,
        };
        for (i, sample) in samples.iter().enumerate() {
            let seen = gpu(sample, &g.bdf).unwrap();
            if !has_pmu {
                assert!(seen["engines"].is_null());
                let why = common::why(seen, "engines").unwrap();
                assert_eq!(why["reason"], "not_supported", "{why}");
                continue;
            }
            assert_eq!(seen["perturbs"], true);
            let value = engine(seen, name).and_then(|e| e["busy_percent"].as_f64()).unwrap_or_else(|| panic!("{seen}"));
            let before = i.checked_sub(1).map(|i| &samples[i]);
            let compared = books.compare(&g.bdf, &[name.to_string()], value, sample, before);
            let truth = compared.truth;
            row.late += usize::from(compared.late);
            row.samples += 1;
            row.truth += truth / samples.len() as f64;
            row.ours += value / samples.len() as f64;
            row.worst = row.worst.max(compared.off);
        }
        rows.push(row);
    }
    print_table(&rows);
    if has_pmu {
        assert!(rows.iter().all(|r| r.samples == 10 && r.worst <= 1.0));
    }
}
