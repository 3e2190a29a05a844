//! Documents made from the program's own tables.

use crate::sh::root;
use anyhow::{Context, Result, bail};
use gpuscope_model::catalogue::{METRICS, Metric, MetricKind};
use std::fmt::Write;

/// Arguments of `docs`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a document is not current
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let name = "docs/METRICS.md";
    let path = root().join(name);
    let text = metrics(METRICS);
    let current = std::fs::read_to_string(&path).unwrap_or_default() == text;
    match (current, args.check) {
        (true, _) => println!("{name}: current"),
        (false, true) => bail!("{name} is not current: run `cargo xtask docs` and commit it"),
        (false, false) => {
            std::fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
            println!("{name}: written");
        }
    }
    Ok(())
}

/// The catalogue as a page: a table to look names up, then a section a metric.
fn metrics(metrics: &[Metric]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Generated from crates/model/src/catalogue.rs by `cargo xtask docs`. Change it there. -->\n\n\
         *Name* is the metric in exposition formats, in base units; every metric carries the label `gpu` besides those listed. *JSON field* is its\n\
         path within one entry of `gpus` in `gpuscope stat`, in the unit given. A value that is not known is left out of expositions, and is `null`\n\
         in JSON with its reason under `unavailable`: never zero.\n\n\
         | name | JSON field | unit there | kind | labels |\n|---|---|---|---|---|\n",
    );
    for m in metrics {
        let labels = if m.labels.is_empty() { "-".to_string() } else { format!("`{}`", m.labels.join("`, `")) };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | `{}` | {} | {} | {labels} |", m.name, m.json, m.unit, kind(m.kind));
    }
    for m in metrics {
        let _ = write!(page, "\n## {}\n\n{}\n\nSource: {}.\n", m.name, m.help, m.source.trim_end_matches('.'));
    }
    page
}

fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Gauge => "gauge",
        MetricKind::Counter => "counter",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_row_and_a_section() {
        let page = metrics(METRICS);
        for m in METRICS {
            assert!(page.contains(&format!("| `{}` |", m.name)), "{} has no row", m.name);
            assert!(page.contains(&format!("\n## {}\n", m.name)), "{} has no section", m.name);
        }
    }
}
