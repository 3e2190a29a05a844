//! `gpuscope.compare/1`.

use super::{Missing, each, line};
use crate::units::{percent, seconds};
use gpuscope_model::trace::{Change, Comparison, Dropped, ProcessPair, RingPair, RingReport};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Writes a comparison as one line.
///
/// # Errors
/// Those of the writer.
pub fn trace_comparison(w: &mut dyn Write, of: &Comparison) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<R, P, U> {
        schema: &'static str,
        a: Side,
        b: Side,
        confidence_percent: u8,
        rings: R,
        processes: P,
        unavailable: U,
    }
    #[derive(Serialize)]
    struct Side {
        file: String,
        span_s: f64,
        dropped: BTreeMap<&'static str, u64>,
    }
    let dropped = |of: &Dropped| of.each().into_iter().collect();
    let side = |of: &gpuscope_model::trace::Side| Side {
        file: of.file.clone(),
        span_s: seconds(of.span_ns),
        dropped: dropped(&of.dropped),
    };
    line(
        w,
        &Document {
            schema: "gpuscope.compare/1",
            a: side(&of.a),
            b: side(&of.b),
            confidence_percent: Change::CONFIDENCE_PERCENT,
            rings: each(&of.rings, ring),
            processes: each(&of.processes, process),
            unavailable: each(&of.unavailable, |u| Missing::new(u.metric.as_str(), &u.why)),
        },
    )
}

#[derive(Serialize)]
struct Percentile {
    percent: u8,
    a: f64,
    b: f64,
    low: Option<f64>,
    high: Option<f64>,
    verdict: &'static str,
}

fn times(of: &[Change]) -> Vec<Percentile> {
    let told = |change: &Change| Percentile {
        percent: change.percent,
        a: change.a_ns as f64 / 1e3,
        b: change.b_ns as f64 / 1e3,
        low: change.bounds_ns.map(|(low, _)| low as f64 / 1e3),
        high: change.bounds_ns.map(|(_, high)| high as f64 / 1e3),
        verdict: change.verdict().name(),
    };
    of.iter().map(told).collect()
}

#[derive(Serialize)]
struct Ring {
    jobs: u64,
    failed: u64,
    utilisation_percent: Option<f64>,
    exec_kind: &'static str,
}

fn ring_side(of: &Option<RingReport>) -> Option<Ring> {
    of.as_ref().map(|of| {
        let [_, _, failed, _, _] = of.by_status;
        Ring { jobs: of.jobs, failed, utilisation_percent: of.busy_ratio.map(percent), exec_kind: of.exec_kind.name() }
    })
}

fn ring(of: &RingPair) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Pair<'a> {
        gpu: Option<&'a str>,
        ring: &'a str,
        a: Option<Ring>,
        b: Option<Ring>,
        queue_us: Vec<Percentile>,
        hw_queue_us: Vec<Percentile>,
        exec_us: Vec<Percentile>,
    }
    Pair {
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: &of.name,
        a: ring_side(&of.a),
        b: ring_side(&of.b),
        queue_us: times(&of.queue),
        hw_queue_us: times(&of.hw_queue),
        exec_us: times(&of.exec),
    }
}

fn process(of: &ProcessPair) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Both<T> {
        a: T,
        b: T,
    }
    #[derive(Serialize)]
    struct Pair<'a> {
        comm: &'a str,
        jobs: Both<u64>,
        exec_s: Both<f64>,
        queue_us: Vec<Percentile>,
    }
    let [a, b] = of.jobs;
    let [exec_a, exec_b] = of.exec_ns.map(|ns| ns as f64 / 1e9);
    Pair { comm: &of.comm, jobs: Both { a, b }, exec_s: Both { a: exec_a, b: exec_b }, queue_us: times(&of.queue) }
}
