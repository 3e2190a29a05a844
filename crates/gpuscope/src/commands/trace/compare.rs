//! `gpuscope trace compare`

use super::input::{Input, Seen};
use crate::args::{Common, Compare as Args, Format};
use crate::terminal;
use gpuscope_analysis::{Report, Subject, Times, changes};
use gpuscope_export::{json, text};
use gpuscope_model::trace::{
    Change, Comparison, ExecKind, Job, ProcessPair, Ring, RingPair, RingReport, Side, TraceNames, TraceReport,
};
use gpuscope_model::{Reason, Unavailable, Why};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Programs that are told.
const MOST_PROCESSES: usize = 100;

/// A trace, read.
struct Read {
    report: TraceReport,
    rings: BTreeMap<(Option<String>, String), RingTimes>,
    queues: BTreeMap<String, Times>,
}

#[derive(Default)]
struct RingTimes {
    queue: Times,
    hw_queue: Times,
    exec: Times,
    in_flight: Times,
}

/// Says what differs between two traces.
pub(super) fn compare(common: &Common, args: &Args) -> anyhow::Result<()> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let mut unavailable = Vec::new();
    let mut rings: Vec<(Option<String>, String)> = a.rings.keys().chain(b.rings.keys()).cloned().collect();
    rings.sort();
    rings.dedup();
    let rings = rings.iter().filter_map(|ring| pair(ring, &a, &b, &mut unavailable)).collect();
    let side = |of: &Read, path: &Path| Side {
        file: path.display().to_string(),
        span_ns: of.report.to_ns.saturating_sub(of.report.from_ns),
        dropped: of.report.dropped,
    };
    let comparison =
        Comparison { a: side(&a, &args.a), b: side(&b, &args.b), rings, processes: processes(&a, &b), unavailable };
    let mut out = BufWriter::new(io::stdout().lock());
    match common.format() {
        Format::Json => json::trace_comparison(&mut out, &comparison)?,
        _ => text::trace_comparison(&mut out, &comparison, terminal::style())?,
    }
    out.flush()?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Read> {
    let input = Input::open(path)?;
    let mut report = Report::new(Subject { drivers: input.drivers.clone(), ..Subject::default() });
    if let Some(from_ns) = input.from_ns {
        report.begin(from_ns);
    }
    let (mut rings, mut queues) = (BTreeMap::new(), BTreeMap::new());
    let rest = input.read(|seen| {
        match seen {
            Seen::Event(event, names) => report.event(event, names, |job| add(job, names, &mut rings, &mut queues)),
            Seen::Lost(names) => report.lost(|job| add(job, names, &mut rings, &mut queues)),
        }
        Ok(())
    })?;
    let report =
        report.finish(rest.to_ns, &rest.names, rest.dropped, |job| add(job, &rest.names, &mut rings, &mut queues));
    Ok(Read { report, rings, queues })
}

fn add(
    job: &Job,
    names: &TraceNames,
    rings: &mut BTreeMap<(Option<String>, String), RingTimes>,
    queues: &mut BTreeMap<String, Times>,
) {
    let Some(Ring { gpu, name }) = job.ring.and_then(|ring| names.get_ring(ring)) else { return };
    let of = rings.entry((gpu.as_ref().map(|gpu| gpu.to_string()), name.to_string())).or_default();
    for (times, ns) in [
        (&mut of.queue, job.queue_ns()),
        (&mut of.hw_queue, job.hw_queue_ns()),
        (&mut of.exec, job.exec_ns()),
        (&mut of.in_flight, job.in_flight_ns()),
    ] {
        if let Some(ns) = ns {
            times.add(ns);
        }
    }
    let comm = names.get(job.comm);
    if let Some(ns) = job.queue_ns()
        && (queues.len() < MOST_PROCESSES || queues.contains_key(comm))
    {
        queues.entry(comm.to_string()).or_default().add(ns);
    }
}

fn pair(ring: &(Option<String>, String), a: &Read, b: &Read, unavailable: &mut Vec<Unavailable>) -> Option<RingPair> {
    let report = |of: &Read| -> Option<RingReport> {
        let is_it = |of: &&RingReport| {
            (of.gpu.as_ref().map(|gpu| gpu.as_str()), of.name.as_str()) == (ring.0.as_deref(), ring.1.as_str())
        };
        of.report.rings.iter().find(is_it).cloned()
    };
    let (in_a, in_b) = (report(a), report(b));
    let of = in_a.as_ref().or(in_b.as_ref())?;
    let (gpu, name) = (of.gpu.clone(), of.name.clone());
    let (mut queue, mut hw_queue, mut exec) = (Vec::new(), Vec::new(), Vec::new());
    if let (Some(times_a), Some(times_b), Some(in_a), Some(in_b)) = (a.rings.get(ring), b.rings.get(ring), &in_a, &in_b)
    {
        queue = changes(&times_a.queue, &times_b.queue);
        match (in_a.exec_kind == ExecKind::InFlight, in_b.exec_kind == ExecKind::InFlight) {
            (false, false) => {
                hw_queue = changes(&times_a.hw_queue, &times_b.hw_queue);
                exec = changes(&times_a.exec, &times_b.exec);
            }
            (true, true) => exec = changes(&times_a.in_flight, &times_b.in_flight),
            _ => {
                let path =
                    gpu.as_ref().map_or(format!("rings[{name}].exec_us"), |gpu| format!("rings[{gpu} {name}].exec_us"));
                let why = "in one of the traces starts are known and in the other only the time in flight";
                unavailable.push(Unavailable::new(path, Why::new(Reason::NotSupported, why)));
            }
        }
    }
    Some(RingPair { gpu, name, a: in_a, b: in_b, queue, hw_queue, exec })
}

fn processes(a: &Read, b: &Read) -> Vec<ProcessPair> {
    let mut by_comm: BTreeMap<&str, ([u64; 2], [u64; 2])> = BTreeMap::new();
    for (side, of) in [a, b].into_iter().enumerate() {
        for process in &of.report.processes {
            let (jobs, exec_ns) = by_comm.entry(process.comm.as_str()).or_default();
            if let (Some(jobs), Some(exec_ns)) = (jobs.get_mut(side), exec_ns.get_mut(side)) {
                *jobs = jobs.saturating_add(process.jobs);
                *exec_ns = exec_ns.saturating_add(process.exec_ns);
            }
        }
    }
    let queue = |comm: &str| -> Vec<Change> {
        a.queues.get(comm).zip(b.queues.get(comm)).map_or(Vec::new(), |(a, b)| changes(a, b))
    };
    let told = |(comm, (jobs, exec_ns)): (&str, ([u64; 2], [u64; 2]))| ProcessPair {
        comm: comm.to_string().into(),
        jobs,
        exec_ns,
        queue: Vec::new(),
    };
    let mut pairs: Vec<ProcessPair> = by_comm.into_iter().map(told).collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.jobs.iter().copied().fold(0, u64::saturating_add)));
    pairs.truncate(MOST_PROCESSES);
    for pair in &mut pairs {
        pair.queue = queue(pair.comm.as_str());
    }
    pairs
}
