//! `gpuscope stat`

use crate::args::{Common, Format, Stat};
use crate::{select, stop, terminal};
use gpuscope_engine::{Sampler, Ticker};
use gpuscope_export::{csv, json, text};
use gpuscope_gpu::{GpuSet, Options};
use gpuscope_model::{DeviceInfo, GpuId};
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime};

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
        ..options
    };
    let stop = stop::watch()?;
    let mut output = Output::new(common.format(), looked_at)?;
    let mut sampler = Sampler::new(GpuSet::open(roots, options));
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
}

enum Form {
    Json,
    Csv,
    Text { text: text::Stat, looked_at: String },
}

impl Output {
    fn new(format: Format, looked_at: String) -> io::Result<Self> {
        let mut out = BufWriter::new(io::stdout().lock());
        let form = match format {
            Format::Json => Form::Json,
            Format::Csv => {
                csv::stat_header(&mut out)?;
                out.flush()?;
                Form::Csv
            }
            Format::Text => Form::Text { text: text::Stat::new(terminal::style()), looked_at },
        };
        Ok(Output { out, form })
    }

    fn sample(&mut self, sampler: &Sampler) -> io::Result<()> {
        let snapshot = sampler.snapshot();
        // `time` names the moment that `monotonic_ns` does: the start of the sample.
        let ago = Duration::from_nanos(gpuscope_sys::monotonic_ns().saturating_sub(snapshot.at_ns));
        let wall = SystemTime::now();
        let wall = wall.checked_sub(ago).unwrap_or(wall);
        let out: &mut dyn Write = &mut self.out;
        match &mut self.form {
            Form::Json => {
                for event in &snapshot.events {
                    json::event_line(out, event, wall)?;
                }
                json::stat_line(out, snapshot, wall)?;
            }
            Form::Csv => csv::stat_rows(out, snapshot, wall)?,
            Form::Text { text, looked_at } => {
                for event in &snapshot.events {
                    text.event(out, event)?;
                }
                text.sample(out, snapshot, |id| name(sampler.set().infos(), id), looked_at)?;
            }
        }
        self.out.flush()
    }
}

fn name<'s>(mut infos: impl Iterator<Item = &'s DeviceInfo>, id: &GpuId) -> Option<&'s str> {
    infos.find(|info| info.id == *id).map(|info| info.name.as_str())
}
