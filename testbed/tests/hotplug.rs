// guest: -g i915 -m pmu_cpu=1 -t 90
//! The CPU on which a PMU counts goes off line in the middle of a stream: the numbers go on.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::books::{Books, agree};
use common::{Stream, engine, gpu, is_sample};
use gpuscope_testbed::{Load, cpu_online, gpus};
use serde_json::Value;
use std::time::Duration;

#[test]
#[ignore = "needs the testbed's guest"]
fn engine_use_goes_on_when_the_pmus_cpu_goes_off_line_and_comes_back() {
    let gpus = gpus();
    let g = &gpus[0];
    let load = Load::start(&g.render, "vcs0", 50.0, 2000, 60.0);
    let books = Books::keep(&gpus);
    let mut stream = Stream::start(&["stat", "--json", "--interval", "500ms"]);
    let mut samples: Vec<Value> = Vec::new();
    // Indices of the first sample after each change.
    let mut changes = Vec::new();
    for online in [None, Some(false), Some(true)] {
        if let Some(online) = online {
            cpu_online(1, online);
        }
        changes.push(samples.len());
        for _ in 0..10 {
            let line = stream.next(Duration::from_secs(20)).expect("the stream goes on");
            assert!(is_sample(&line), "{line}");
            samples.push(line);
        }
    }
    let books = books.close();
    assert_eq!(stream.interrupt().0, 0);
    drop(load);
    let mut off = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let value = engine(gpu(sample, &g.bdf).unwrap(), "vcs0").unwrap()["busy_percent"].as_f64();
        // While the events move to another CPU a sample may have no value; three seconds later it must.
        let settling = changes.iter().any(|c| (*c..*c + 6).contains(&i));
        let Some(value) = value else {
            assert!(settling, "sample {i}: no value: {sample}");
            continue;
        };
        // A rate over a gap is not one over this sample's interval.
        let before = i.checked_sub(1).map(|i| &samples[i]);
        let gap = before.is_some_and(|b| engine(gpu(b, &g.bdf).unwrap(), "vcs0").unwrap()["busy_percent"].is_null());
        let compared = books.compare(&g.bdf, &["vcs0".to_string()], value, sample, before);
        println!(
            "sample {i}: {value:.2} %, books {:.2} %, off {:.2}{}",
            compared.truth,
            compared.off,
            if gap { ", after a gap" } else { "" }
        );
        off.extend((!gap).then_some(compared.off));
    }
    agree(&off, 2.0);
}
