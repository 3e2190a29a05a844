//! `gpuscope procs`

use crate::args::{Common, Format, Procs, SortKey};
use crate::{select, stop, terminal};
use gpuscope_engine::{Sampler, Ticker};
use gpuscope_export::{Query, Sort, csv, json, text};
use gpuscope_gpu::{GpuSet, Options};
use std::io::{self, BufWriter, Write};

/// Shows who used the GPUs over an interval: once, or until the count is reached, a signal comes, or nobody reads any more.
pub(crate) fn procs(common: &Common, args: &Procs) -> anyhow::Result<()> {
    let roots = super::roots(common)?;
    let looked_at = super::looked_at(&roots);
    let mut options = Options { clients: true, ..super::options(common) };
    if !args.gpu.is_empty() {
        options.gpu_filter = select::ids(&args.gpu, &gpuscope_gpu::list_with(&roots, &options))?;
    }
    let stop = stop::watch()?;
    let set = GpuSet::open(roots.clone(), options);
    let mut sampler = Sampler::with_processes(set, super::processes(common, &roots));
    let mut output = Output::new(common.format(), query(common.format(), args), looked_at)?;
    sampler.tick();
    let mut ticker = Ticker::new(common.interval());
    let mut left = if args.stream { None } else { Some(args.count.unwrap_or(1)) };
    while left != Some(0) && ticker.wait(&stop).is_some() {
        sampler.tick();
        output.snapshot(&sampler)?;
        left = left.map(|n| n.saturating_sub(1));
    }
    Ok(())
}

fn query(format: Format, args: &Procs) -> Query {
    let by_default = if format == Format::Text { Some(SortKey::Busy) } else { None };
    let sort = args.sort.or(by_default).map(|key| match key {
        SortKey::Busy => Sort::Busy,
        SortKey::Memory => Sort::Memory,
        SortKey::Cpu => Sort::Cpu,
        SortKey::Pid => Sort::Pid,
    });
    Query {
        pids: args.pid.clone(),
        users: args.user.clone(),
        containers: args.container.clone(),
        sort,
        by_container: args.by_container,
    }
}

/// Stdout in the form asked for; flushed after every snapshot, so that a stream that is cut off ends with a whole line.
struct Output {
    out: BufWriter<io::StdoutLock<'static>>,
    form: Form,
    query: Query,
}

enum Form {
    Json,
    Csv,
    Text { text: text::Procs, looked_at: String, first: bool },
}

impl Output {
    fn new(format: Format, query: Query, looked_at: String) -> io::Result<Self> {
        let mut out = BufWriter::new(io::stdout().lock());
        let form = match format {
            Format::Json => Form::Json,
            Format::Csv => {
                csv::stat_header(&mut out)?;
                out.flush()?;
                Form::Csv
            }
            Format::Text => Form::Text { text: text::Procs::new(terminal::style()), looked_at, first: true },
        };
        Ok(Output { out, form, query })
    }

    fn snapshot(&mut self, sampler: &Sampler) -> io::Result<()> {
        let wall = super::wall_time(sampler.snapshot());
        let snapshot = sampler.snapshot();
        let users = gpuscope_export::Procs::new(snapshot, &self.query);
        let out: &mut dyn Write = &mut self.out;
        match &mut self.form {
            Form::Json => {
                for event in &snapshot.events {
                    json::event_line(out, event, wall)?;
                }
                json::procs_line(out, &users, wall)?;
            }
            Form::Csv => {
                csv::event_rows(out, snapshot, wall)?;
                csv::procs_rows(out, &users, wall)?;
            }
            Form::Text { text, looked_at, first } => {
                if !std::mem::take(first) {
                    writeln!(out)?;
                }
                if snapshot.gpus.is_empty() {
                    text::no_gpu(out, terminal::style(), looked_at)?;
                } else {
                    text.sample(out, &users)?;
                }
            }
        }
        self.out.flush()
    }
}
