//! Why jobs were late, for people.

use super::trace::{key, time};
use super::{Style, Tone, dressed, paragraph};
use gpuscope_model::trace::{Cause, Lateness, Link, TraceNames, TraceReport, Via, Who};
use std::io::{self, Write};

/// Pieces that are told in order of time; of more, their sums are told.
const MOST_LINKS: usize = 12;
/// Shares that are told of one job in a report.
const MOST_SHARES: usize = 3;
/// A share below this is left out there.
const LEAST_SHARE: f64 = 0.03;

/// Writes what the time of the jobs went to that were asked about.
///
/// # Errors
/// Those of the writer.
pub fn trace_late(w: &mut dyn Write, report: &TraceReport, style: Style) -> io::Result<()> {
    dressed(w, style, |w| {
        if report.late.is_empty() {
            return writeln!(w, "only the end of this job is in the trace: what its time went to cannot be told");
        }
        for late in &report.late {
            one(w, late, report, style)?;
        }
        for missing in report.unavailable.iter().filter(|missing| missing.metric == "late") {
            paragraph(w, style, "  ", 2, &missing.why.detail)?;
        }
        Ok(())
    })
}

fn one(w: &mut dyn Write, late: &Lateness, report: &TraceReport, style: Style) -> io::Result<()> {
    let names = &report.late_names;
    let took = if late.has_ended { "took" } else { "has been in flight for" };
    let head = format!("{} {took} {}", key(late.job.key), time(late.total_ns(), style));
    writeln!(w, "{}", style.paint(Tone::Heading, &head))?;
    let gpu = late.job.ring.and_then(|ring| names.get_ring(ring)).and_then(|ring| ring.gpu.as_ref());
    let gpu = gpu.map_or(String::new(), |gpu| format!(" of {}", gpu.as_str()));
    let seen =
        if late.job.submit_ns.is_some() { "submitted" } else { "its submission is not in the trace; handed over" };
    let at = time(late.from_ns.saturating_sub(report.from_ns), style);
    paragraph(
        w,
        style,
        "  ",
        2,
        &format!(
            "{}, {}{gpu}, {seen} at {at}",
            owner(&Who::from(&late.job), names),
            ring(&Who::from(&late.job), names)
        ),
    )?;
    let total = late.total_ns().max(1) as f64;
    let line = |w: &mut dyn Write, ns: u64, link: &Link| {
        let lead = format!("  {:>5.1}% {:>8}  ", ns as f64 / total * 100.0, time(ns, style));
        paragraph(w, style, &lead, lead.chars().count(), &sentence(link, names))
    };
    if late.links.len() <= MOST_LINKS {
        return late.links.iter().try_for_each(|link| line(w, link.ns(), link));
    }
    paragraph(w, style, "  ", 2, &format!("{} pieces, summed by what passed:", late.links.len()))?;
    late.shares.iter().try_for_each(|share| line(w, share.ns, &share.link))
}

/// The largest shares of a job's time, in one line.
pub(super) fn because(late: &Lateness, names: &TraceNames) -> String {
    let total = late.total_ns().max(1) as f64;
    let told = late.shares.iter().map(|share| (share.ns as f64 / total, &share.link));
    let told = told.filter(|(share, _)| *share >= LEAST_SHARE).take(MOST_SHARES);
    let told: Vec<String> =
        told.map(|(share, link)| format!("{:.0}% {}", share * 100.0, sentence(link, names))).collect();
    told.join("; ")
}

/// What passed in a piece of a job's time.
pub(super) fn sentence(link: &Link, names: &TraceNames) -> String {
    let several = || match link.of_jobs {
        0 | 1 => key(link.of.key),
        n => format!("{n} jobs (the last {})", key(link.of.key)),
    };
    let of = || format!("{} of {} on {}", several(), owner(&link.of, names), ring(&link.of, names));
    let lead = match link.via {
        Via::Itself => String::new(),
        Via::Dependency => format!("waited for {}, which ", of()),
        // The queue is its own process's: only the job is new.
        Via::OwnQueue => format!("behind {} in its own queue, which ", several()),
    };
    let by = || {
        let by = link.by.map_or("what is not recorded".into(), |by| owner(&by, names));
        match (link.jobs, link.by) {
            (1, Some(job)) => format!("{} of {by}", key(job.key)),
            (n, _) => format!("{n} jobs of {by}"),
        }
    };
    match link.cause {
        Cause::Executed => format!("{lead}executed"),
        Cause::InFlight => format!("{lead}was with the hardware or its firmware"),
        Cause::BehindOnRing => format!("{lead}was handed over, while {} executed {}", ring(&link.of, names), by()),
        Cause::RingFull => format!(
            "{lead}was ready, while {} had as many jobs as it ever had, and executed {}",
            ring(&link.of, names),
            by()
        ),
        Cause::Dispatch => format!("{lead}could go, and the scheduler had not handed it over"),
        Cause::WorkerWaited => format!("{lead}could go, and the scheduler's thread waited for a processor"),
        Cause::Fence(on) => format!("{lead}waited for the fence {}, which is of no job in this trace", key(on)),
        Cause::NotSubmitted => format!("{lead}had not been submitted yet"),
        Cause::SubmitterWaited => format!("{lead}had not been submitted yet: its thread waited for a processor"),
        Cause::NeverRan => format!("{lead}ended without being handed over"),
        Cause::NotRecorded => format!("{lead}waited for what is not recorded"),
        Cause::Earlier => "a longer chain before that".into(),
    }
}

fn owner(who: &Who, names: &TraceNames) -> String {
    match (who.pid, names.get(who.comm)) {
        (0, "") => "a process that was not seen".into(),
        (pid, "") => pid.to_string(),
        (pid, comm) => format!("{comm} ({pid})"),
    }
}

fn ring(who: &Who, names: &TraceNames) -> String {
    who.ring
        .and_then(|ring| names.get_ring(ring))
        .map_or("a ring that is not named".into(), |ring| ring.name.to_string())
}
