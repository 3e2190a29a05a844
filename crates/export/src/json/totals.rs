//! `gpuscope.trace_totals/1`.

use super::live::Losses;
use super::trace::{Times, times};
use super::{Missing, each, line};
use crate::time::Rfc3339;
use crate::units::{percent, round4, seconds};
use gpuscope_model::trace::{Dropped, ProcessTotals, RingTotals, StageTimes, TotalsWindow};
use serde::Serialize;
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes a window as one line. `dropped` is what was left out or lost since the capture began, `wall` the time of day of the window's end.
///
/// # Errors
/// Those of the writer.
pub fn trace_totals(w: &mut dyn Write, window: &TotalsWindow, dropped: &Dropped, wall: SystemTime) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a, R, P, U> {
        schema: &'static str,
        time: Rfc3339,
        monotonic_ns: u64,
        window_s: f64,
        dropped: Losses<'a>,
        rings: R,
        processes: P,
        unavailable: U,
    }
    let rings: Vec<_> = window.rings.iter().map(|of| ring(of, window)).collect();
    let unavailable: Vec<_> = window.rings.iter().filter_map(missing).collect();
    line(
        w,
        &Document {
            schema: "gpuscope.trace_totals/1",
            time: Rfc3339::new(wall),
            monotonic_ns: window.to_ns,
            window_s: seconds(window.to_ns.saturating_sub(window.from_ns)),
            dropped: Losses(dropped),
            rings,
            processes: each(&window.processes, process),
            unavailable,
        },
    )
}

/// Why a ring's utilisation is null.
fn missing(of: &RingTotals) -> Option<impl Serialize> {
    let ring = of.gpu.as_ref().map_or_else(|| of.name.to_string(), |gpu| format!("{gpu}/{}", of.name));
    Some(Missing::new(format!("rings[{ring}].utilisation_percent"), of.busy_ratio.why()?))
}

#[derive(Serialize)]
struct Stages {
    queue_us: Option<Times>,
    in_flight_us: Option<Times>,
    whole_us: Option<Times>,
}

fn stages(of: &StageTimes) -> Stages {
    Stages { queue_us: times(&of.queue), in_flight_us: times(&of.in_flight), whole_us: times(&of.whole) }
}

fn ring<'a>(of: &'a RingTotals, window: &TotalsWindow) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Ring<'a> {
        gpu: Option<&'a str>,
        ring: &'a str,
        jobs: u64,
        jobs_per_second: Option<f64>,
        utilisation_percent: Option<f64>,
        queued: u64,
        on_hardware: u64,
        peak_queued: u64,
        peak_on_hardware: u64,
        #[serde(flatten)]
        stages: Stages,
    }
    Ring {
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: &of.name,
        jobs: of.jobs,
        jobs_per_second: window.per_second(of.jobs).map(round4),
        utilisation_percent: of.busy_ratio.get().map(percent),
        queued: of.queued,
        on_hardware: of.on_hardware,
        peak_queued: of.peak_queued,
        peak_on_hardware: of.peak_on_hardware,
        stages: stages(&of.times),
    }
}

fn process(of: &ProcessTotals) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Process<'a> {
        pid: u32,
        comm: Option<&'a str>,
        gpu: Option<&'a str>,
        ring: &'a str,
        jobs: u64,
        #[serde(flatten)]
        stages: Stages,
    }
    Process {
        pid: of.pid,
        comm: of.comm.as_deref(),
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: &of.ring,
        jobs: of.times.whole.map_or(0, |of| of.count),
        stages: stages(&of.times),
    }
}
