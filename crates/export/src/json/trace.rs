//! `gpuscope.trace/1` and `gpuscope.job/1`.

use super::{Missing, each, line};
use crate::Tells;
use crate::time::Rfc3339;
use crate::units::{percent, round4, seconds};
use gpuscope_model::trace::{
    Cause, ContextReport, ErrorReport, EventKind, FamilyReport, FaultReport, IoctlReport, Ioctls, Job, JobKey,
    JobStatus, Lateness, Link, Note, ProcessReport, RingReport, Summary, TraceNames, TraceReport, WaitReport, Who,
};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes a report as one line. `wall` is the time of day of its first event, where that is known.
///
/// # Errors
/// Those of the writer.
pub fn trace_report(w: &mut dyn Write, report: &TraceReport, wall: Option<SystemTime>, tells: Tells) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a, F, R, P, C, W, I, E, X, N, J, L, S, U> {
        schema: &'static str,
        time: Option<Rfc3339>,
        monotonic_ns: u64,
        span_s: f64,
        events: Counts<'a>,
        families: F,
        dropped: Dropped,
        settings: Option<&'a [String]>,
        unmatched_ends: u64,
        rings: R,
        processes: P,
        contexts: C,
        waits: W,
        ioctls: I,
        error_count: u64,
        errors: E,
        fault_count: u64,
        faults: X,
        note_count: u64,
        notes: N,
        slowest: J,
        late: L,
        sources: S,
        unavailable: U,
    }
    let late: Vec<_> = report.late.iter().map(|of| late(of, &report.late_names)).collect();
    let slowest: Vec<JobLine<'_>> = report.slowest.iter().map(|job| JobLine::new(job, &report.names, tells)).collect();
    line(
        w,
        &Document {
            schema: "gpuscope.trace/1",
            time: wall.map(Rfc3339::new),
            monotonic_ns: report.from_ns,
            span_s: seconds(report.to_ns.saturating_sub(report.from_ns)),
            events: Counts(&report.events),
            families: each(&report.families, family),
            dropped: Dropped(report.dropped),
            settings: report.settings.as_deref(),
            unmatched_ends: report.unmatched_ends,
            rings: each(&report.rings, ring),
            processes: each(&report.processes, process),
            contexts: each(&report.contexts, context),
            waits: each(&report.waits, waits),
            ioctls: report.ioctls.as_ref().map(ioctls),
            error_count: report.error_count,
            errors: each(&report.errors, error),
            fault_count: report.fault_count,
            faults: each(&report.faults, fault),
            note_count: report.note_count,
            notes: each(&report.notes, note),
            slowest,
            late,
            sources: each(&report.coverage, super::doctor::source),
            unavailable: each(&report.unavailable, |u| Missing::new(u.metric.as_str(), &u.why)),
        },
    )
}

fn note(of: &Note) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Line<'a> {
        monotonic_ns: u64,
        text: &'a str,
    }
    Line { monotonic_ns: of.at_ns, text: of.text.as_str() }
}

/// Writes one job as one line.
///
/// # Errors
/// Those of the writer.
pub fn job_line(w: &mut dyn Write, job: &Job, names: &TraceNames, tells: Tells) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        schema: &'static str,
        #[serde(flatten)]
        job: JobLine<'a>,
    }
    line(w, &Line { schema: "gpuscope.job/1", job: JobLine::new(job, names, tells) })
}

/// Writes the events that are missing, by cause, as one line: the last one of a list of jobs.
///
/// # Errors
/// Those of the writer.
pub fn losses_line(w: &mut dyn Write, dropped: &gpuscope_model::trace::Dropped) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line {
        schema: &'static str,
        dropped: Dropped,
    }
    line(w, &Line { schema: "gpuscope.losses/1", dropped: Dropped(*dropped) })
}

/// Events by kind, those that came.
struct Counts<'a>(&'a [u64]);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        for (kind, n) in EventKind::ALL.iter().zip(self.0) {
            if *n > 0 {
                map.serialize_entry(kind.name(), n)?;
            }
        }
        map.end()
    }
}

struct Dropped(gpuscope_model::trace::Dropped);

impl Serialize for Dropped {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.each())
    }
}

/// Times of a set, in microseconds.
#[derive(Serialize)]
pub(super) struct Times {
    count: u64,
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    /// By how many percent a percentile may be too high.
    error_percent: f64,
}

pub(super) fn times(of: &Option<Summary>) -> Option<Times> {
    let us = |ns: u64| ns as f64 / 1e3;
    of.as_ref().map(|of| Times {
        count: of.count,
        min: us(of.min_ns),
        mean: round4(of.mean_ns / 1e3),
        p50: us(of.p50_ns),
        p90: us(of.p90_ns),
        p99: us(of.p99_ns),
        max: us(of.max_ns),
        error_percent: percent(of.error),
    })
}

fn ring(of: &RingReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Ring<'a> {
        gpu: Option<&'a str>,
        ring: &'a str,
        jobs: u64,
        completed: u64,
        ended: u64,
        failed: u64,
        in_flight: u64,
        lost: u64,
        out_of_order: u64,
        utilisation_percent: Option<f64>,
        depth_peak: u64,
        queue_us: Option<Times>,
        hw_queue_us: Option<Times>,
        exec_us: Option<Times>,
        exec_kind: &'static str,
    }
    let [completed, ended, failed, in_flight, lost] = of.by_status;
    Ring {
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: &of.name,
        jobs: of.jobs,
        completed,
        ended,
        failed,
        in_flight,
        lost,
        out_of_order: of.out_of_order,
        utilisation_percent: of.busy_ratio.map(percent),
        depth_peak: of.depth_peak,
        queue_us: times(&of.queue),
        hw_queue_us: times(&of.hw_queue),
        exec_us: times(&of.exec),
        exec_kind: of.exec_kind.name(),
    }
}

fn process(of: &ProcessReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Process<'a> {
        pid: Option<u32>,
        comm: &'a str,
        jobs: u64,
        failed: u64,
        exec_s: f64,
        queue_us: Option<Times>,
    }
    Process {
        pid: known(of.pid),
        comm: &of.comm,
        jobs: of.jobs,
        failed: of.failed,
        exec_s: of.exec_ns as f64 / 1e9,
        queue_us: times(&of.queue),
    }
}

fn context(of: &ContextReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Context<'a> {
        context: u64,
        pid: Option<u32>,
        gpu: Option<&'a str>,
        ring: &'a str,
        jobs: u64,
    }
    Context {
        context: of.context,
        pid: known(of.pid),
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: &of.ring,
        jobs: of.jobs,
    }
}

fn family(of: &FamilyReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Family<'a> {
        family: &'static str,
        events: Counts<'a>,
    }
    Family { family: of.family.name(), events: Counts(&of.events) }
}

fn fault(of: &FaultReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Fault<'a> {
        monotonic_ns: u64,
        family: &'static str,
        gpu: Option<&'a str>,
        ring: Option<&'a str>,
        errno: Option<i64>,
    }
    Fault {
        monotonic_ns: of.at_ns,
        family: of.family.name(),
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: (!of.ring.is_empty()).then(|| of.ring.as_str()),
        errno: of.error,
    }
}

fn waits(of: &WaitReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Waits<'a> {
        pid: u32,
        comm: &'a str,
        gpu: Option<&'a str>,
        ring: Option<&'a str>,
        wait_us: Option<Times>,
    }
    Waits {
        pid: of.pid,
        comm: &of.comm,
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: (!of.ring.is_empty()).then(|| of.ring.as_str()),
        wait_us: times(&Some(of.waits)),
    }
}

fn ioctls(of: &Ioctls) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct All<C> {
        unfinished: u64,
        left_out: u64,
        calls: C,
    }
    All { unfinished: of.unfinished, left_out: of.left_out, calls: each(&of.calls, ioctl) }
}

fn ioctl(of: &IoctlReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Call<'a> {
        pid: u32,
        comm: &'a str,
        request: u32,
        name: Option<&'a str>,
        total_us: f64,
        took_us: Option<Times>,
        errors: Vec<Failed>,
    }
    #[derive(Serialize)]
    struct Failed {
        errno: i64,
        count: u64,
    }
    Call {
        pid: of.pid,
        comm: &of.comm,
        request: of.request,
        name: of.name.as_ref().map(|name| name.as_str()),
        total_us: of.total_ns as f64 / 1e3,
        took_us: times(&Some(of.times)),
        errors: of.errors.iter().map(|(errno, count)| Failed { errno: *errno, count: *count }).collect(),
    }
}

fn error(of: &ErrorReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Error<'a> {
        monotonic_ns: u64,
        gpu: Option<&'a str>,
        ring: &'a str,
        context: Option<u64>,
        seqno: Option<u64>,
        pid: Option<u32>,
        comm: &'a str,
        errno: Option<i64>,
    }
    let (context, seqno) = of.key.map_or((None, None), fence);
    Error {
        monotonic_ns: of.at_ns,
        gpu: of.gpu.as_ref().map(|gpu| gpu.as_str()),
        ring: &of.ring,
        context,
        seqno,
        pid: known(of.pid),
        comm: &of.comm,
        errno: of.error,
    }
}

/// A process or thread: 0 stands for one that is not known.
fn known(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

fn fence(key: JobKey) -> (Option<u64>, Option<u64>) {
    match key {
        JobKey::Fence { context, seqno } => (Some(context), Some(seqno)),
        JobKey::FenceLow { context, seqno } => (Some(u64::from(context)), Some(u64::from(seqno))),
        JobKey::InRing { number, .. } => (None, Some(number)),
        JobKey::Address(_) => (None, None),
    }
}

/// What a job's time went to.
fn late<'a>(of: &'a Lateness, names: &'a TraceNames) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Late<'a> {
        context: Option<u64>,
        seqno: Option<u64>,
        submit_ns: Option<u64>,
        total_ns: u64,
        has_ended: bool,
        links: Vec<Piece<'a>>,
        shares: Vec<Piece<'a>>,
    }
    let (context, seqno) = fence(of.job.key);
    let total_ns = of.total_ns();
    Late {
        context,
        seqno,
        submit_ns: of.job.submit_ns,
        total_ns,
        has_ended: of.has_ended,
        links: of.links.iter().map(|link| Piece::new(link, link.ns(), Some(link.from_ns), total_ns, names)).collect(),
        shares: of.shares.iter().map(|share| Piece::new(&share.link, share.ns, None, total_ns, names)).collect(),
    }
}

#[derive(Serialize)]
struct Piece<'a> {
    cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_ns: Option<u64>,
    ns: u64,
    share_percent: f64,
    via: &'static str,
    of: Culprit<'a>,
    of_jobs: u64,
    by: Option<Culprit<'a>>,
    jobs: u64,
    fence_context: Option<u64>,
    fence_seqno: Option<u64>,
}

#[derive(Serialize)]
struct Culprit<'a> {
    gpu: Option<&'a str>,
    ring: Option<&'a str>,
    context: Option<u64>,
    seqno: Option<u64>,
    pid: Option<u32>,
    comm: Option<&'a str>,
}

impl<'a> Piece<'a> {
    fn new(link: &Link, ns: u64, from_ns: Option<u64>, total_ns: u64, names: &'a TraceNames) -> Self {
        let who = |who: Who| {
            let ring = who.ring.and_then(|ring| names.get_ring(ring));
            let (context, seqno) = fence(who.key);
            let comm = names.get(who.comm);
            Culprit {
                gpu: ring.and_then(|ring| ring.gpu.as_ref()).map(|gpu| gpu.as_str()),
                ring: ring.map(|ring| ring.name.as_str()),
                context,
                seqno,
                pid: known(who.pid),
                comm: (!comm.is_empty()).then_some(comm),
            }
        };
        let (fence_context, fence_seqno) = match link.cause {
            Cause::Fence(JobKey::Fence { context, seqno }) => (Some(context), Some(seqno)),
            Cause::Fence(JobKey::FenceLow { context, seqno }) => (Some(context.into()), Some(seqno.into())),
            _ => (None, None),
        };
        Piece {
            cause: link.cause.name(),
            from_ns,
            ns,
            share_percent: percent(ns as f64 / total_ns.max(1) as f64),
            via: link.via.name(),
            of: who(link.of),
            of_jobs: link.of_jobs,
            by: link.by.map(who),
            jobs: link.jobs,
            fence_context,
            fence_seqno,
        }
    }
}

#[derive(Serialize)]
struct JobLine<'a> {
    gpu: Option<&'a str>,
    ring: Option<&'a str>,
    context: Option<u64>,
    seqno: Option<u64>,
    client_id: Option<u64>,
    pid: Option<u32>,
    tid: Option<u32>,
    comm: Option<&'a str>,
    submit_ns: Option<u64>,
    run_ns: Option<u64>,
    start_ns: Option<u64>,
    start_kind: Option<&'static str>,
    done_ns: Option<u64>,
    queue_ns: Option<u64>,
    hw_queue_ns: Option<u64>,
    exec_ns: Option<u64>,
    in_flight_ns: Option<u64>,
    dependencies: Option<u32>,
    status: &'static str,
    errno: Option<i64>,
}

impl<'a> JobLine<'a> {
    fn new(job: &Job, names: &'a TraceNames, tells: Tells) -> Self {
        let ring = job.ring.and_then(|ring| names.get_ring(ring));
        let (context, seqno) = fence(job.key);
        let comm = names.get(job.comm);
        JobLine {
            gpu: ring.and_then(|ring| ring.gpu.as_ref()).map(|gpu| gpu.as_str()),
            ring: ring.map(|ring| ring.name.as_str()),
            context,
            seqno,
            client_id: job.client,
            pid: known(job.pid),
            tid: known(job.tid),
            comm: (!comm.is_empty()).then_some(comm),
            submit_ns: job.submit_ns,
            run_ns: job.run_ns,
            start_ns: job.start_ns.map(|(ns, _)| ns),
            start_kind: job.start_ns.map(|(_, how)| how.name()),
            done_ns: job.done_ns,
            queue_ns: job.queue_ns(),
            hw_queue_ns: job.hw_queue_ns(),
            exec_ns: job.exec_ns(),
            in_flight_ns: job.in_flight_ns(),
            dependencies: tells.dependencies(job),
            status: job.status.name(),
            errno: match job.status {
                JobStatus::Failed(error) => Some(error),
                _ => None,
            },
        }
    }
}
