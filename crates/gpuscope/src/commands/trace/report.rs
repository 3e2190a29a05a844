//! `gpuscope trace report`

use super::input::{Input, Rest, Seen, Take};
use super::why;
use crate::args::{Common, Format, Report as Args, Which};
use crate::terminal;
use anyhow::bail;
use gpuscope_analysis::{Report, Subject};
use gpuscope_export::{Tells, json, text};
use gpuscope_model::trace::{Job, TraceNames};
use gpuscope_model::{Text, Unavailable, Why};
use gpuscope_trace::Steps;
use std::io::{self, BufWriter, Write};

/// Reads a trace and says what it holds.
pub(super) fn report(common: &Common, args: &Args) -> anyhow::Result<()> {
    let input = Input::open(&args.file)?;
    let drivers: Vec<String> = input.drivers.iter().map(|(_, driver)| driver.clone()).collect();
    let started = input.started();
    let subject = Subject {
        drivers: input.drivers.clone(),
        coverage: input.coverage.clone(),
        no_gpu: Some(input.no_gpu.clone()),
        // How long the slowest one took bounds what has to be looked at again.
        slowest: args.top.max(usize::from(args.why.is_some())),
    };
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let format = common.format();
    let (settings, tells) = (input.settings.clone(), input.tells);
    let mut report = Report::new(subject);
    if let Some(from_ns) = input.from_ns {
        report.begin(from_ns);
    }
    // Of one key the last one: addresses are given out again.
    let mut asked = None;
    let mut look = |job: &Job| {
        if let Some(Which::Key(key)) = args.why
            && job.key == key
        {
            asked = Some(*job);
        }
    };
    let wants_jobs = args.jobs || matches!(args.why, Some(Which::Key(_)));
    let read = if wants_jobs {
        input.read(|seen| {
            let mut written = Ok(());
            let mut each = |job: &Job, names: &TraceNames| {
                look(job);
                if args.jobs && written.is_ok() {
                    written = write_job(&mut out, job, names, (format, tells));
                }
            };
            match seen {
                Seen::Event(event, names) => report.event(event, names, |job| each(job, names)),
                Seen::Lost(names) => report.lost(|job| each(job, names)),
            }
            written
        })
    } else {
        input.read_into(Count(&mut report))
    };
    let Rest { names, dropped, to_ns, damage, notes } = read?;
    let mut written = Ok(());
    let mut open_ns = None;
    let mut report = report.finish(to_ns, &names, dropped, |job| {
        look(job);
        open_ns = [open_ns, job.submit_ns.or(job.run_ns)].into_iter().flatten().min();
        if args.jobs && written.is_ok() {
            written = write_job(&mut out, job, &names, (format, tells));
        }
    });
    written?;
    report.coverage.extend(damage);
    for call in report.ioctls.iter_mut().flat_map(|of| &mut of.calls) {
        call.name = gpuscope_trace::ioctl_name(drivers.iter().map(String::as_str), call.request).map(Text::from);
    }
    if started.is_none() {
        let why = "only our own recordings hold the time of day at which they began";
        report.unavailable.push(Unavailable::new("time", Why::not_supported(why)));
    }
    let late: Vec<Job> = match args.why {
        None => report.slowest.clone(),
        Some(Which::Slowest) => report.slowest.first().copied().into_iter().collect(),
        Some(Which::Key(_)) => asked.into_iter().collect(),
    };
    if args.why.is_some() && late.is_empty() {
        bail!(
            "{}: it holds no such job; `gpuscope trace report --jobs` prints each with its CONTEXT:SEQNO",
            args.file.display()
        );
    }
    why::explain(&args.file, &mut report, &late, open_ns)?;
    report.slowest.truncate(args.top);
    (report.notes, report.note_count) = (notes.first, notes.count);
    report.settings = settings;
    if report.settings.is_none() {
        let why = Why::not_supported("this kind of file does not tell what was left out on purpose");
        report.unavailable.push(Unavailable::new("settings", why));
    }
    match format {
        Format::Json => json::trace_report(&mut out, &report, Input::wall(started, report.from_ns), tells)?,
        _ if args.why.is_some() => text::trace_late(&mut out, &report, terminal::style())?,
        _ => text::trace_report(&mut out, &report, terminal::style())?,
    }
    out.flush()?;
    Ok(())
}

/// Counts, and looks at no job by itself.
struct Count<'a>(&'a mut Report);

impl Take for Count<'_> {
    #[inline]
    fn take(&mut self, seen: Seen<'_>) -> io::Result<()> {
        match seen {
            Seen::Event(event, names) => self.0.count(event, names),
            Seen::Lost(_) => self.0.lost(|_| {}),
        }
        Ok(())
    }

    #[inline]
    fn steps(&mut self, steps: &mut Steps<'_>, names: &TraceNames) -> io::Result<()> {
        self.0.steps(steps, names);
        Ok(())
    }
}

fn write_job(out: &mut dyn Write, job: &Job, names: &TraceNames, (format, tells): (Format, Tells)) -> io::Result<()> {
    match format {
        Format::Json => json::job_line(out, job, names, tells),
        _ => text::job_line(out, job, names, terminal::style()),
    }
}
