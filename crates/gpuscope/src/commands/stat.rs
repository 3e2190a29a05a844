//! `gpuscope stat`

use crate::args::{Common, Format, Stat};
use crate::{select, stop, terminal};
use gpuscope_engine::{Sampler, Ticker};
use gpuscope_export::{Procs, Query, csv, json, text};
use gpuscope_gpu::{GpuSet, Options};
use gpuscope_model::{DeviceInfo, GpuId};
use std::io::{self, BufWriter, Write};

/// Samples until the count is reached, a signal comes, or nobody reads any more.
///
/// A first reading is made and not shown: every sample shown covers an interval and has its rates.
pub(crate) fn stat(common: &Common, args: &Stat) -> anyhow::Result<()> {
    let roots = super::roots(common)?;
    let looked_at = super::looked_at(&roots);
    let mut options = super::options(common);
    if !args.gpu.is_empty() {
        options.gpu_filter = select::ids(&args.gpu, &gpuscope_gpu::list_with(&roots, &options))?;
    }
    let options = Options {
        wait: args.wait,
        sema: args.sema,
        pmu_frequency: args.pmu_frequency,
        perturbing: args.perturbing,
        clients: args.processes,
        ..options
    };
    let stop = stop::watch()?;
    let mut output = Output::new(common.format(), looked_at, args.processes)?;
    let set = GpuSet::open(roots.clone(), options);
    let mut sampler =
        if args.processes { Sampler::with_processes(set, super::processes(common, &roots)) } else { Sampler::new(set) };
    sampler.tick();
    let mut ticker = Ticker::new(common.interval());
    let mut left = args.count;
    while left != Some(0) && ticker.wait(&stop).is_some() {
        sampler.tick();
        output.sample(&sampler)?;
        left = left.map(|n| n.saturating_sub(1));
    }
    Ok(())
}

/// Stdout in the form asked for; flushed after every sample, so that a stream that is cut off ends with a whole line.
struct Output {
    out: BufWriter<io::StdoutLock<'static>>,
    form: Form,
    /// With who uses the GPUs.
    processes: bool,
}

enum Form {
    Json,
    Csv,
    Text { text: text::Stat, users: Box<text::Procs>, looked_at: String },
}

impl Output {
    fn new(format: Format, looked_at: String, processes: bool) -> io::Result<Self> {
        let mut out = BufWriter::new(io::stdout().lock());
        let form = match format {
            Format::Json => Form::Json,
            Format::Csv => {
                csv::stat_header(&mut out)?;
                out.flush()?;
                Form::Csv
            }
            Format::Text => {
                let style = terminal::style();
                Form::Text { text: text::Stat::new(style), users: Box::new(text::Procs::new(style)), looked_at }
            }
        };
        Ok(Output { out, form, processes })
    }

    fn sample(&mut self, sampler: &Sampler) -> io::Result<()> {
        let snapshot = sampler.snapshot();
        let users = self.processes.then(|| Procs::new(snapshot, &Query::default()));
        let wall = super::wall_time(snapshot);
        let out: &mut dyn Write = &mut self.out;
        match &mut self.form {
            Form::Json => {
                for event in &snapshot.events {
                    json::event_line(out, event, wall)?;
                }
                json::stat_line(out, snapshot, users.as_ref(), wall)?;
            }
            Form::Csv => {
                csv::stat_rows(out, snapshot, wall)?;
                if let Some(users) = &users {
                    csv::procs_rows(out, users, wall)?;
                }
            }
            Form::Text { text, users: lines, looked_at } => {
                for event in &snapshot.events {
                    text.event(out, event)?;
                }
                text.sample(out, snapshot, |id| name(sampler.set().infos(), id), looked_at)?;
                if let (Some(users), false) = (&users, snapshot.gpus.is_empty()) {
                    writeln!(out)?;
                    lines.sample(out, users)?;
                }
            }
        }
        self.out.flush()
    }
}

fn name<'s>(mut infos: impl Iterator<Item = &'s DeviceInfo>, id: &GpuId) -> Option<&'s str> {
    infos.find(|info| info.id == *id).map(|info| info.name.as_str())
}
