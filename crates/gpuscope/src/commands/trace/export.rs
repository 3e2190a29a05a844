//! `gpuscope trace export`

use super::input::{Input, Rest, Seen};
use crate::args::{Export as Args, ExportFormat};
use anyhow::{Context as _, bail};
use gpuscope_analysis::{Report, Subject};
use gpuscope_export::{Tells, chrome, csv, json, parquet, perfetto};
use gpuscope_model::SourceReport;
use gpuscope_model::trace::{Dropped, Event, Job, TraceNames};
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// A form in which a trace is written.
enum Form<W: Write + Send> {
    Perfetto(Box<perfetto::Writer<W>>),
    /// The first event says where its time begins.
    Chrome(Option<W>, Option<Box<chrome::Writer<W>>>),
    Jobs(W, Tells),
    Rows(W, Tells),
    Parquet(Box<parquet::Writer<W>>),
}

/// Writes a trace for another program.
pub(super) fn export(args: &Args) -> anyhow::Result<()> {
    let input = Input::open(&args.file)?;
    if std::fs::canonicalize(&args.output)
        .is_ok_and(|to| std::fs::canonicalize(&args.file).is_ok_and(|from| from == to))
    {
        bail!("{}: is the trace itself; name another file with -o", args.output.display());
    }
    let create = || File::create(&args.output).with_context(|| args.output.display().to_string());
    let out: BufWriter<Box<dyn Write + Send>> = match args.output.as_os_str() == "-" {
        true => BufWriter::with_capacity(64 << 10, Box::new(io::stdout())),
        false => BufWriter::with_capacity(256 << 10, Box::new(create()?)),
    };
    let (drivers, tells) = (input.drivers.clone(), input.tells);
    let subject = Subject { drivers: input.drivers.clone(), ..Subject::default() };
    let mut form = match args.to {
        ExportFormat::Perfetto => {
            let options = perfetto::Options { clocks: input.clocks, tells, ..perfetto::Options::default() };
            let of: Vec<String> = drivers.iter().map(|(_, driver)| driver.clone()).collect();
            let name = move |request| gpuscope_trace::ioctl_name(of.iter().map(String::as_str), request);
            Form::Perfetto(Box::new(perfetto::Writer::new(out, options)?.with_ioctl_names(name)))
        }
        ExportFormat::Chrome => Form::Chrome(Some(out), None),
        ExportFormat::Json => Form::Jobs(out, tells),
        ExportFormat::Csv => {
            let mut out = out;
            csv::job_header(&mut out)?;
            Form::Rows(out, tells)
        }
        ExportFormat::Parquet => Form::Parquet(Box::new(parquet::Writer::new(out, tells)?)),
    };
    let (mut coverage, started) = (input.coverage.clone(), input.started());
    let mut report = Report::new(subject);
    let (mut jobs, mut last_ns) = (Vec::new(), 0);
    let Rest { names, dropped, to_ns, damage, .. } = input.read(|seen| match seen {
        Seen::Event(event, names) => {
            last_ns = last_ns.max(event.at_ns);
            jobs.clear();
            report.event(event, names, |job| jobs.push(*job));
            form.event(event, names)?;
            jobs.iter().try_for_each(|job| form.job(job, names))
        }
        Seen::Lost(names) => {
            jobs.clear();
            report.lost(|job| jobs.push(*job));
            jobs.iter().try_for_each(|job| form.job(job, names))
        }
    })?;
    jobs.clear();
    report.finish(to_ns, &names, dropped, |job| jobs.push(*job));
    jobs.iter().try_for_each(|job| form.job(job, &names))?;
    coverage.extend(damage.iter().cloned());
    if let Form::Perfetto(writer) = &mut form {
        writer.about(&perfetto::About { drivers: &drivers, dropped: &dropped, to_ns })?;
    }
    form.finish(last_ns.max(to_ns.unwrap_or(0)), &dropped, &coverage, started)?;
    let lost: Vec<String> =
        dropped.each().iter().filter(|(_, n)| *n > 0).map(|(cause, n)| format!("{cause} {n}")).collect();
    if !lost.is_empty() {
        let _ = writeln!(io::stderr(), "gpuscope: {}: not recorded: {}", args.file.display(), lost.join(", "));
    }
    for source in damage {
        let _ = writeln!(io::stderr(), "gpuscope: {}: {}", args.file.display(), source.detail);
    }
    Ok(())
}

impl<W: Write + Send> Form<W> {
    fn event(&mut self, event: &Event, names: &TraceNames) -> io::Result<()> {
        match self {
            Form::Perfetto(writer) => writer.event(event, names),
            Form::Chrome(out, writer) => {
                if let Some(out) = out.take() {
                    *writer = Some(Box::new(chrome::Writer::new(out, event.at_ns)?));
                }
                writer.as_mut().map_or(Ok(()), |writer| writer.event(event, names))
            }
            Form::Jobs(..) | Form::Rows(..) | Form::Parquet(_) => Ok(()),
        }
    }

    fn job(&mut self, job: &Job, names: &TraceNames) -> io::Result<()> {
        match self {
            Form::Perfetto(writer) => writer.job(job, names),
            Form::Chrome(_, writer) => writer.as_mut().map_or(Ok(()), |writer| writer.job(job, names)),
            Form::Jobs(out, tells) => json::job_line(out, job, names, *tells),
            Form::Rows(out, tells) => csv::job_row(out, job, names, *tells),
            Form::Parquet(writer) => writer.job(job, names),
        }
    }

    fn finish(
        self,
        last_ns: u64,
        dropped: &Dropped,
        coverage: &[SourceReport],
        started: Option<(u64, u64)>,
    ) -> io::Result<()> {
        let mut out = match self {
            Form::Perfetto(mut writer) => {
                if *dropped != Dropped::default() {
                    writer.dropped(last_ns, dropped)?;
                }
                writer.finish(last_ns)?
            }
            Form::Chrome(out, writer) => {
                let writer = match (out, writer) {
                    (_, Some(writer)) => Some(*writer),
                    (Some(out), None) => Some(chrome::Writer::new(out, last_ns)?),
                    (None, None) => None,
                };
                let Some(mut writer) = writer else { return Ok(()) };
                if *dropped != Dropped::default() {
                    writer.dropped(last_ns, dropped)?;
                }
                writer.finish()?
            }
            Form::Jobs(mut out, _) => {
                json::losses_line(&mut out, dropped)?;
                out
            }
            Form::Rows(out, _) => out,
            Form::Parquet(writer) => writer.finish(&parquet::About { dropped: *dropped, coverage, started })?,
        };
        out.flush()
    }
}
