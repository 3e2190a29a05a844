//! `gpuscope trace timeline`

use super::input::{Input, Seen};
use super::why::{Looked, look, rings_without_starts};
use crate::args::{Timeline as Args, Which};
use crate::terminal;
use anyhow::bail;
use gpuscope_analysis::{Report, Subject};
use gpuscope_export::text;
use gpuscope_model::trace::{Job, JobKey, Lane, Ring, Timeline, TraceNames};
use std::io::{self, BufWriter, Write};
use std::time::Duration;

/// How far before the stretch is read where nothing tells how long jobs take: what was submitted earlier is counted and not shown.
const BEFORE: Duration = Duration::from_secs(2);

/// The stretch that is shown, and what has to be read for it.
struct Stretch {
    origin_ns: u64,
    from_ns: u64,
    to_ns: u64,
    /// No job under way in it was submitted longer before.
    before_ns: u64,
    around: Option<JobKey>,
    no_starts: Vec<Ring>,
}

/// Shows a stretch of a trace as lanes.
pub(super) fn timeline(args: &Args) -> anyhow::Result<()> {
    let mut input = Input::open(&args.file)?;
    let stretch = match (input.from_ns, args.from, args.to) {
        // The file's own index leads to the stretch: the rest of it is not read.
        (Some(origin_ns), from, Some(to)) => Stretch {
            origin_ns,
            from_ns: after(origin_ns, from.unwrap_or_default()),
            to_ns: after(origin_ns, to),
            before_ns: u64::try_from(BEFORE.as_nanos()).unwrap_or(u64::MAX),
            around: None,
            no_starts: Vec::new(),
        },
        _ => {
            let stretch = survey(args, input)?;
            input = Input::open(&args.file)?;
            stretch
        }
    };
    let Stretch { origin_ns, from_ns, to_ns, before_ns, around, no_starts } = stretch;
    if from_ns >= to_ns {
        let length = Duration::from_nanos(to_ns.saturating_sub(origin_ns));
        bail!("{}: nothing lies between --from and --to; the trace or --to ends at {length:?}", args.file.display());
    }
    input.set_window(from_ns.saturating_sub(before_ns), to_ns);
    let looked = look(input, (from_ns, to_ns), &no_starts)?;
    let Looked { explainer, names, ioctls, left_out, unmatched_ends } = looked;
    let mut lanes = explainer.lanes(from_ns, to_ns);
    lanes.retain(|lane| is_asked(lane, &names, args));
    if lanes.is_empty() && (args.gpu.is_some() || args.ring.is_some()) {
        bail!(
            "{}: no such ring had a job in that time; `gpuscope trace report` names the rings and GPUs",
            args.file.display()
        );
    }
    lanes.sort_by_key(|lane| names.get_ring(lane.ring).map(|ring| (ring.gpu.clone(), ring.name.to_string())));
    let mut style = terminal::style();
    style.width = args.width.map_or(style.width, usize::from);
    let mut out = BufWriter::new(io::stdout().lock());
    let shown = Timeline { origin_ns, from_ns, to_ns, lanes, around, left_out, unmatched_ends, ioctls, names };
    text::timeline(&mut out, &shown, style)?;
    out.flush()?;
    Ok(())
}

/// Reads the whole trace once, for where it begins and ends, how long jobs take, and the job that is asked for.
fn survey(args: &Args, input: Input) -> anyhow::Result<Stretch> {
    let subject = Subject { drivers: input.drivers.clone(), slowest: 1, ..Subject::default() };
    let mut report = Report::new(subject);
    if let Some(from_ns) = input.from_ns {
        report.begin(from_ns);
    }
    let mut asked: Option<Job> = None;
    let mut look = |job: &Job| {
        if args.around == Some(Which::Key(job.key)) {
            asked = Some(*job);
        }
    };
    let rest = input.read(|seen| {
        match seen {
            Seen::Event(event, names) => report.event(event, names, &mut look),
            Seen::Lost(_) => report.lost(&mut look),
        }
        Ok(())
    })?;
    let report = report.finish(rest.to_ns, &rest.names, rest.dropped, look);
    let slowest = report.slowest.first();
    let took_ns = |job: &Job| job.done_ns.unwrap_or(0).saturating_sub(job.submit_ns.unwrap_or(0));
    let mut stretch = Stretch {
        origin_ns: report.from_ns,
        from_ns: after(report.from_ns, args.from.unwrap_or_default()),
        to_ns: args.to.map_or(report.to_ns, |to| after(report.from_ns, to)),
        before_ns: slowest.map_or(0, took_ns),
        around: None,
        no_starts: rings_without_starts(&report),
    };
    let job = match args.around {
        None => return Ok(stretch),
        Some(Which::Slowest) => slowest.copied(),
        Some(Which::Key(_)) => asked,
    };
    let Some(job) = job else {
        bail!(
            "{}: it holds no such job; `gpuscope trace report --jobs` prints each with its CONTEXT:SEQNO",
            args.file.display()
        );
    };
    let begun_ns = job.submit_ns.or(job.run_ns).unwrap_or(report.from_ns);
    let ended_ns = job.done_ns.unwrap_or(report.to_ns);
    // A little of what was around it.
    let margin_ns = (ended_ns.saturating_sub(begun_ns) / 20).max(1_000);
    stretch.from_ns = begun_ns.saturating_sub(margin_ns).max(report.from_ns);
    stretch.to_ns = ended_ns.saturating_add(margin_ns).min(report.to_ns);
    stretch.around = Some(job.key);
    Ok(stretch)
}

fn after(origin_ns: u64, since: Duration) -> u64 {
    origin_ns.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn is_asked(lane: &Lane, names: &TraceNames, args: &Args) -> bool {
    let ring = names.get_ring(lane.ring);
    let gpu = ring.and_then(|ring| ring.gpu.as_ref()).map(|gpu| gpu.as_str());
    args.gpu.as_deref().is_none_or(|asked| gpu == Some(asked))
        && args.ring.as_deref().is_none_or(|asked| ring.is_some_and(|ring| ring.name.as_str() == asked))
}
