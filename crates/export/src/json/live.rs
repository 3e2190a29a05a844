//! `gpuscope.trace_live/1`.

use super::trace::times;
use super::{each, line};
use crate::time::Rfc3339;
use crate::units::{percent, round4, seconds};
use gpuscope_model::trace::{Behind, Dropped, RecentProcess, RecentReport, RecentRing, StuckJob};
use serde::{Serialize, Serializer};
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes the last seconds of a running trace as one line. `dropped` is what was lost since it began, `wall` the time of day of its end.
///
/// # Errors
/// Those of the writer.
pub fn trace_live(w: &mut dyn Write, report: &RecentReport, dropped: &Dropped, wall: SystemTime) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a, R, P, S> {
        schema: &'static str,
        time: Rfc3339,
        monotonic_ns: u64,
        span_s: f64,
        dropped: Losses<'a>,
        rings: R,
        processes: P,
        stuck: S,
    }
    let rings: Vec<_> = report.rings.iter().map(|of| ring(of, report)).collect();
    let processes: Vec<_> = report.processes.iter().map(|of| process(of, report)).collect();
    let stuck: Vec<_> = report.stuck.iter().map(|of| stuck(of, report)).collect();
    line(
        w,
        &Document {
            schema: "gpuscope.trace_live/1",
            time: Rfc3339::new(wall),
            monotonic_ns: report.at_ns,
            span_s: seconds(report.span_ns),
            dropped: Losses(dropped),
            rings,
            processes,
            stuck,
        },
    )
}

pub(super) struct Losses<'a>(pub(super) &'a Dropped);

impl Serialize for Losses<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.each())
    }
}

fn ring<'a>(of: &'a RecentRing, report: &RecentReport) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Ring<'a, T> {
        gpu: Option<&'a str>,
        ring: &'a str,
        jobs: u64,
        failed: u64,
        jobs_per_second: Option<f64>,
        utilisation_percent: f64,
        queued: u64,
        on_hardware: u64,
        queue_us: T,
        in_flight_us: T,
    }
    Ring {
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: &of.name,
        jobs: of.jobs,
        failed: of.failed,
        jobs_per_second: report.per_second(of.jobs).map(round4),
        utilisation_percent: percent(of.busy_ratio),
        queued: of.queued,
        on_hardware: of.on_hardware,
        queue_us: times(&of.queue),
        in_flight_us: times(&of.in_flight),
    }
}

fn process<'a>(of: &'a RecentProcess, report: &RecentReport) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Process<'a, T> {
        pid: u32,
        comm: &'a str,
        jobs: u64,
        failed: u64,
        jobs_per_second: Option<f64>,
        in_flight: u64,
        queue_us: T,
    }
    Process {
        pid: of.pid,
        comm: &of.comm,
        jobs: of.jobs,
        failed: of.failed,
        jobs_per_second: report.per_second(of.jobs).map(round4),
        in_flight: of.in_flight,
        queue_us: times(&of.queue),
    }
}

fn stuck<'a>(of: &'a StuckJob, report: &'a RecentReport) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Stuck<'a, B> {
        gpu: Option<&'a str>,
        ring: Option<&'a str>,
        job: String,
        pid: u32,
        comm: &'a str,
        place: &'static str,
        since_ns: u64,
        age_s: f64,
        is_doubtful: bool,
        jobs_behind: u64,
        behind: B,
    }
    #[derive(Serialize)]
    struct Waits {
        pid: u32,
        jobs: u64,
    }
    let ring = of.job.ring.and_then(|ring| report.names.get_ring(ring));
    Stuck {
        gpu: ring.and_then(|ring| ring.gpu.as_ref()).map(|gpu| gpu.as_str()),
        ring: ring.map(|ring| ring.name.as_str()),
        job: crate::text::job_key(of.job.key),
        pid: of.job.pid,
        comm: report.names.get(of.job.comm),
        place: of.place.name(),
        since_ns: of.since_ns,
        age_s: seconds(of.age_ns()),
        is_doubtful: of.is_doubtful,
        jobs_behind: of.jobs_behind(),
        behind: each(&of.behind, |of: &Behind| Waits { pid: of.pid, jobs: of.jobs }),
    }
}
