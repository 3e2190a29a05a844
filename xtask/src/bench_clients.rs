//! Cost of finding the GPU's clients, over generated processes on the host, beside the full walks of other tools in the same run.

use crate::sh::root;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::process::Command;

/// Processes, files of each, and the budget of a refresh in milliseconds, without and with the scan by BPF.
const MACHINES: [(u32, u32, f64); 2] = [(600, 27, 2.0), (2000, 31, 8.0)];

/// Budget of a scan of all open files by BPF, in milliseconds, on the larger machine. A refresh that scans costs that and the rest.
const FULL_SCAN: f64 = 12.0;

/// What the benchmark prints: figures by their names.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Prints the table; says what is over its budget.
pub(crate) fn run() -> Result<Vec<String>> {
    let mut table = String::from(
        "| machine | gpuscope, ms | with BPF | budget | BPF scan | walk: readlink | fstatat | fdinfo | cheaper by |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut over = Vec::new();
    for (processes, files, budget) in MACHINES {
        let figures = measure(processes, files)?;
        let of = |name: &str| figures.get(name).copied().with_context(|| format!("the benchmark printed no `{name}`"));
        let (walks, bpf, scan) = (of("gpuscope")?, of("gpuscope bpf").ok(), of("bpf scan").ok());
        let peers = [of("walk readlink")?, of("walk fstatat")?, of("walk fdinfo")?];
        let cheapest = peers.iter().copied().fold(f64::INFINITY, f64::min);
        let dearest = peers.iter().copied().fold(0.0, f64::max);
        let (seen, open) = (of("processes")?, of("open files")?);
        let number = |v: Option<f64>| v.map_or_else(|| "-".to_string(), |v| format!("{v:.2}"));
        table.push_str(&format!(
            "| {seen} processes, {open} open files | {walks:.2} | {} | {budget:.0} | {} | {:.1} | {:.1} | {:.1} | {:.0}x to {:.0}x |\n",
            number(bpf),
            number(scan),
            peers[0],
            peers[1],
            peers[2],
            cheapest / walks,
            dearest / walks,
        ));
        for (what, value, budget) in
            [("refresh", Some(walks), budget), ("refresh with BPF", bpf, budget), ("BPF scan", scan, FULL_SCAN)]
        {
            if value.is_some_and(|v| v > budget) {
                over.push(format!("{what} of {processes} processes"));
            }
        }
    }
    print!(
        "\nCPU milliseconds a refresh at 1 Hz (median), 20 of the processes hold a stand-in for a device node:\n\n{table}"
    );
    Ok(over)
}

fn measure(processes: u32, files: u32) -> Result<Figures> {
    cargo_bench("gpuscope-gpu", "clients", &[&processes.to_string(), &files.to_string()])
}

/// Runs a benchmark that prints lines `name,figure`.
pub(crate) fn cargo_bench(package: &str, bench: &str, args: &[&str]) -> Result<Figures> {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    command.args(["bench", "-q", "-p", package, "--features", "bpf", "--bench", bench, "--"]).args(args);
    let out = command.output().context("cannot start cargo bench")?;
    if !out.status.success() {
        bail!("the benchmark {bench} failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    // What it cannot measure it says in a line without a figure.
    text.lines().filter(|line| figure(line).is_none()).for_each(|line| println!("{line}"));
    Ok(parse(&text))
}

fn figure(line: &str) -> Option<(String, f64)> {
    let (name, value) = line.rsplit_once(',')?;
    Some((name.to_string(), value.trim().parse().ok()?))
}

fn parse(text: &str) -> Figures {
    text.lines().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name_and_other_lines_passed_over() {
        let figures = parse("processes,679\ngpuscope,1.803\ngpuscope bpf: no such right\n");
        assert_eq!(figures.get("gpuscope"), Some(&1.803));
        assert_eq!(figures.get("processes"), Some(&679.0));
        assert_eq!(figures.len(), 2);
    }
}
