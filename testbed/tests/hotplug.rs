// guest: -g i915 -m pmu_cpu=1 -t 90
//! The CPU on which a PMU counts goes off line in the middle of a stream: the numbers go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::{Stream, engine, gpu, is_sample};
use gpuscope_testbed::{Load, cpu_online, gpus};
use std::time::Duration;

#[test]
#[ignore = "needs the testbed's guest"]
fn engine_use_goes_on_when_the_pmus_cpu_goes_off_line_and_comes_back() {
    let gpus = gpus();
    let g = &gpus[0];
    let load = Load::start(&g.render, "vcs0", 50.0, 2000, 60.0);
    let mut stream = Stream::start(&["stat", "--json", "--interval", "500ms"]);
    let mut busy = |n: usize| -> Vec<Option<f64>> {
        (0..n)
            .map(|_| {
                let line = stream.next(Duration::from_secs(10)).expect("the stream goes on");
                assert!(is_sample(&line), "{line}");
                engine(gpu(&line, &g.bdf).unwrap(), "vcs0").unwrap()["busy_percent"].as_f64()
            })
            .collect()
    };
    let near = |v: &Option<f64>| v.is_some_and(|v| (v - 50.0).abs() < 5.0);
    assert!(busy(4)[1..].iter().all(near));
    for online in [false, true] {
        cpu_online(1, online);
        let after = busy(10);
        println!("CPU 1 online {online}: {after:?}");
        // While the events move to another CPU a sample may have no value; none may be wrong.
        assert!(after.iter().flatten().all(|v| (v - 50.0).abs() < 10.0), "{after:?}");
        assert!(after[6..].iter().all(near), "{after:?}");
    }
    assert_eq!(stream.interrupt().0, 0);
    drop(load);
}
