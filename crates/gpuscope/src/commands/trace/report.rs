//! `gpuscope trace report`

use crate::args::{Common, Format, Report as Args};
use crate::terminal;
use gpuscope_analysis::{Report, Subject};
use gpuscope_export::{json, text};
use gpuscope_model::trace::{Dropped, Job, TraceNames, TraceReport};
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_trace::Decoder;
use gpuscope_trace::recording::{Ended, Header, Item, Recording, Summary};
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a recording and says what it holds.
pub(super) fn report(common: &Common, args: &Args) -> anyhow::Result<()> {
    let recording = Recording::open(&args.file)?;
    let header = recording.header().clone();
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut reading = Reading::new(&header, args);
    let mut failed = None;
    let summary = recording.items(|item| {
        if let Err(error) = reading.item(item, &mut out, common.format())
            && failed.is_none()
        {
            failed = Some(error);
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let report = reading.finish(&summary, &mut out, common.format())?;
    match common.format() {
        Format::Json => json::trace_report(&mut out, &report, wall(&header, report.from_ns))?,
        _ => text::trace_report(&mut out, &report, terminal::style())?,
    }
    out.flush()?;
    Ok(())
}

/// A recording on its way to a report.
struct Reading {
    decoder: Decoder,
    report: Report,
    dropped: Dropped,
    jobs: bool,
}

impl Reading {
    fn new(header: &Header, args: &Args) -> Self {
        let subject = Subject {
            drivers: header.gpus.clone(),
            coverage: header.coverage(),
            no_gpu: Some(no_gpu(header)),
            slowest: args.top,
        };
        Reading { decoder: Decoder::new(), report: Report::new(subject), dropped: Dropped::default(), jobs: args.jobs }
    }

    /// Takes what the recording gives. Jobs that end are written, where that was asked for.
    fn item(&mut self, item: Item<'_>, out: &mut dyn Write, format: Format) -> io::Result<()> {
        let mut written = Ok(());
        match item {
            Item::Format(format) => {
                self.decoder.add_format(format);
            }
            Item::Task { tid, pid, comm } => self.decoder.set_task(tid, pid, comm),
            Item::Record(record) => {
                if let Some(event) = self.decoder.decode(record) {
                    let (names, jobs) = (self.decoder.names(), self.jobs);
                    self.report.event(&event, names, |job| {
                        if jobs && written.is_ok() {
                            written = write_job(out, job, names, format);
                        }
                    });
                }
            }
            Item::Dropped { dropped, .. } => {
                // Kept out on purpose, whole jobs are missing; lost, their ends may be.
                if dropped.ring_full > self.dropped.ring_full || dropped.unreadable > self.dropped.unreadable {
                    self.report.lost();
                }
                self.dropped = dropped;
            }
            Item::Mark { .. } | Item::Round(_) => {}
        }
        written
    }

    fn finish(self, summary: &Summary, out: &mut dyn Write, format: Format) -> io::Result<TraceReport> {
        let Reading { decoder, report, dropped, jobs } = self;
        let mut dropped = dropped;
        dropped.unreadable = dropped.unreadable.saturating_add(decoder.unreadable());
        let mut written = Ok(());
        let names = decoder.names();
        let mut report = report.finish(None, names, dropped, |job| {
            if jobs && written.is_ok() {
                written = write_job(out, job, names, format);
            }
        });
        written?;
        report.coverage.extend(damage(summary));
        Ok(report)
    }
}

/// Why records name no GPU.
fn no_gpu(header: &Header) -> Why {
    let detail = format!(
        "the DRM scheduler's events name no device before Linux 6.17 (this is {}), and records by {} have nothing else to tell it by",
        header.kernel, header.backend
    );
    Why::new(Reason::NotSupported, detail)
        .remedy("record by BPF: --backend bpf, with CAP_BPF and CAP_PERFMON or as root")
}

fn write_job(out: &mut dyn Write, job: &Job, names: &TraceNames, format: Format) -> io::Result<()> {
    match format {
        Format::Json => json::job_line(out, job, names),
        _ => text::job_line(out, job, names, terminal::style()),
    }
}

/// What is wrong with the file, as a source of which a part is missing.
fn damage(summary: &Summary) -> Vec<SourceReport> {
    let mut found = Vec::new();
    let mut tell = |detail: String, remedy: Option<&'static str>| {
        let why = Why::new(Reason::Failed, detail);
        let why = match remedy {
            Some(remedy) => why.remedy(remedy),
            None => why,
        };
        found.push(SourceReport::absent("recording", None, why));
    };
    match summary.ended {
        Ended::Finished | Ended::Window => {}
        Ended::Open { offset } => tell(
            format!(
                "the file does not end as a finished recording does, at byte {offset}: it is being written, or its writer was stopped"
            ),
            None,
        ),
        Ended::Cut { offset } => {
            tell(
                format!("the file is cut off in the frame that begins at byte {offset}: what came after is not here"),
                None,
            );
        }
        Ended::PartMissing => tell(
            "the file with the next part of the recording is missing".into(),
            Some("keep FILE.1, FILE.2 and so on beside FILE"),
        ),
    }
    if summary.damage.places > 0 {
        let at = summary.damage.first_at.unwrap_or(0);
        tell(
            format!(
                "{} bytes in {} places are damaged, the first at byte {at}; they were passed over",
                summary.damage.bytes, summary.damage.places
            ),
            None,
        );
    }
    if summary.lost > 0 {
        tell(format!("{} records were written and are not found", summary.lost), None);
    }
    if summary.rotated_out > 0 {
        let detail = format!(
            "{} records of the beginning made room for later ones, as the bound on size asks",
            summary.rotated_out
        );
        tell(detail, None);
    }
    found
}

/// The time of day of a moment of the recording.
fn wall(header: &Header, at_ns: u64) -> Option<SystemTime> {
    let started = header.started;
    let ns = started.realtime_ns.checked_add(at_ns)?.checked_sub(started.monotonic_ns)?;
    UNIX_EPOCH.checked_add(Duration::from_nanos(ns))
}
