// guest: -g i915,i915-discrete,xe,xe-integrated -m autosuspend_ms=1000 -m autosuspend_ms_i915=1500 -t 240
//! Looking changes nothing: a sleeping GPU stays asleep, and one whose work is done falls asleep while it is watched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::{Stream, class, engine, gpu, is_sample};
use gpuscope_testbed::{Gpu, Load, Truth, gpus, wait_until};
use std::time::{Duration, Instant};

fn sleeping(g: &Gpu) -> bool {
    Truth::read(&g.bdf).runtime_status == "suspended"
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_minute_of_stat_at_4_hz_wakes_nothing() {
    let gpus = gpus();
    for g in &gpus {
        assert!(wait_until(Duration::from_secs(20), || sleeping(g)), "{} never fell asleep by itself", g.identity);
    }
    let before: Vec<Truth> = gpus.iter().map(|g| Truth::read(&g.bdf)).collect();
    let mut stream = Stream::start(&["stat", "--json", "--interval", "250ms"]);
    let lines = stream.during(Duration::from_secs(60));
    let (status, said) = stream.interrupt();
    assert_eq!((status, said.as_str()), (0, ""));
    let samples: Vec<_> = lines.iter().filter(|l| is_sample(l)).collect();
    assert!(samples.len() >= 200, "{} samples in 60 s", samples.len());
    for (g, before) in gpus.iter().zip(&before) {
        let after = Truth::read(&g.bdf);
        println!(
            "{} {}: {} samples, waking accesses {}, touches {}, resumes {}",
            g.identity,
            g.bdf,
            samples.len(),
            after.waking_accesses - before.waking_accesses,
            after.touches - before.touches,
            after.resumes - before.resumes
        );
        assert_eq!(after.waking_accesses - before.waking_accesses, 0);
        assert_eq!(after.touches - before.touches, 0);
        assert_eq!(after.resumes - before.resumes, 0);
        assert_eq!(after.pmu_sampling_events, 0, "no 200 Hz timer for values nobody asked for");
        for sample in &samples {
            let seen = gpu(sample, &g.bdf).unwrap();
            assert_eq!(seen["runtime_status"], "suspended");
            let asleep = seen["unavailable"].as_array().unwrap().iter().any(|u| u["reason"] == "asleep");
            assert!(asleep, "the output says asleep: {seen}");
        }
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_gpu_whose_last_job_ends_falls_asleep_under_stat_and_its_next_job_shows() {
    let gpus = gpus();
    let mut stream = Stream::start(&["stat", "--json", "--interval", "250ms"]);
    for round in 0..2 {
        // Work on every GPU at once; then silence.
        let loads: Vec<Load> = gpus.iter().map(|g| Load::start(&g.render, "rcs0", 50.0, 4000, 4.0)).collect();
        let started = Instant::now();
        let mut seen_busy = vec![None; gpus.len()];
        while started.elapsed() < Duration::from_secs(4) && seen_busy.iter().any(Option::is_none) {
            let Some(line) = stream.next(Duration::from_secs(5)) else { panic!("the stream ended") };
            for (g, slot) in gpus.iter().zip(&mut seen_busy) {
                let Some(seen) = gpu(&line, &g.bdf) else { continue };
                let busy =
                    engine(seen, "rcs0").or_else(|| class(seen, "render")).and_then(|e| e["busy_percent"].as_f64());
                if busy.is_some_and(|b| b > 5.0) {
                    slot.get_or_insert(started.elapsed());
                }
            }
        }
        for (g, seen) in gpus.iter().zip(&seen_busy) {
            let seen = seen.unwrap_or_else(|| panic!("round {round}: the job on {} never showed", g.identity));
            println!("round {round} {}: job shows after {:.2} s", g.identity, seen.as_secs_f64());
            assert!(seen <= Duration::from_secs(2), "{}: shows only after {seen:?}", g.identity);
        }
        for load in loads {
            load.wait();
        }
        let ended = Instant::now();
        for g in &gpus {
            let delay = Duration::from_millis(if g.driver() == "xe" { 1000 } else { 1500 });
            let limit = (delay + Duration::from_secs(5)).saturating_sub(ended.elapsed());
            assert!(wait_until(limit, || sleeping(g)), "round {round}: {} does not fall asleep", g.identity);
            println!("round {round} {}: asleep within {:.2} s", g.identity, ended.elapsed().as_secs_f64());
        }
        let _ = stream.during(Duration::from_secs(3));
        assert!(gpus.iter().all(sleeping), "round {round}: awake again");
    }
    assert_eq!(stream.interrupt().0, 0);
}
