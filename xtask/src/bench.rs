//! Cost of `gpuscope stat`, each figure beside its budget, and beside intel_gpu_top measured in the same run.
//!
//! In a guest under emulation times mean nothing by themselves: there, numbers of system calls and ratios count. Absolute figures come
//! from the host.

use crate::guest::{Guest, boot, line, set_up};
use crate::sh::build_gpuscope;
use crate::{bench_clients, bench_events, bench_reading};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel of the guest
    #[arg(short, long, default_value = "6.12")]
    kernel: String,
    /// Seconds measured in the guest and on the host, each at one sample a second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=600))]
    seconds: u32,
    /// Captured machine that the host's figures are taken over, where the host has no GPU
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Host figures only
    #[arg(long)]
    no_guest: bool,
    /// Only this part
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

/// Parts that can be measured alone, all on the host.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    /// Looking for the GPU's clients
    Clients,
    /// An event in the kernel
    Events,
    /// Reading of recordings
    Reading,
}

// The budgets; docs/benchmarks.md gives the reasons.
const SYSCALLS_A_SAMPLE: f64 = 25.0;
const CPU_PERCENT: f64 = 0.3;
const RESIDENT_MIB: f64 = 12.0;
const BINARY_MB: f64 = 15.0;

/// A measured figure.
struct Row {
    what: String,
    ours: f64,
    budget: Option<f64>,
    peer: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let gpuscope = build_gpuscope()?;
    if let Some(part) = args.only {
        let over = match part {
            Part::Clients => bench_clients::run()?,
            Part::Events => bench_events::run()?,
            Part::Reading => bench_reading::run(&gpuscope)?,
        };
        return judge(&over);
    }
    let mut rows = Vec::new();
    if !args.no_guest {
        rows.extend(in_guest(args, &gpuscope)?);
    }
    rows.extend(on_host(args, &gpuscope)?);
    let size = std::fs::metadata(&gpuscope)?.len() as f64 / 1e6;
    rows.push(Row { what: "binary, stripped, MB".into(), ours: size, budget: Some(BINARY_MB), peer: None });
    print!("\n{}", table(&rows));
    let mut over: Vec<_> =
        rows.iter().filter(|r| r.budget.is_some_and(|b| r.ours > b)).map(|r| r.what.clone()).collect();
    over.extend(bench_clients::run()?);
    over.extend(bench_events::run()?);
    over.extend(bench_reading::run(&gpuscope)?);
    judge(&over)
}

fn judge(over: &[String]) -> Result<()> {
    if !over.is_empty() {
        bail!("over budget: {}", over.join("; "));
    }
    Ok(())
}

/// A Markdown table, to be read in the terminal and pasted into docs/benchmarks.md.
fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "| {:<66} | {:>9} | {:>7} | {:>13} | {:>6} |\n",
        "what", "gpuscope", "budget", "intel_gpu_top", "ratio"
    );
    text.push_str("|---|---:|---:|---:|---:|\n");
    for row in rows {
        let number = |v: Option<f64>| {
            v.map_or_else(|| "-".to_string(), |v| if v < 1.0 { format!("{v:.3}") } else { format!("{v:.2}") })
        };
        let ratio = row
            .peer
            .filter(|_| row.ours > 0.0)
            .map_or_else(|| "-".to_string(), |peer| format!("{:.0}x", peer / row.ours));
        let (ours, budget, peer) = (number(Some(row.ours)), number(row.budget), number(row.peer));
        text.push_str(&format!("| {:<66} | {ours:>9} | {budget:>7} | {peer:>13} | {ratio:>6} |\n", row.what));
    }
    text
}

fn in_guest(args: &Args, gpuscope: &Path) -> Result<Vec<Row>> {
    set_up(&args.kernel)?;
    let gpus = "i915,i915-discrete,xe".to_string();
    let guest = Guest { gpus, seconds: args.seconds + 120, ..Guest::default() };
    let seconds = args.seconds.to_string();
    let program = gpuscope.to_string_lossy();
    let environment = [("GPUSCOPE", &*program), ("SECONDS_MEASURED", &*seconds)];
    let script = line(&environment, &["bash", "-c", include_str!("bench_guest.sh")]);
    let mut lines = Vec::new();
    let status = boot(&args.kernel, &guest, &script, |text| lines.push(text.to_string()))?;
    if !status.success() {
        bail!("the measurement in the guest failed ({status})");
    }
    let samples = f64::from(args.seconds);
    let figure = |case: &str, event: &str| lines.iter().find_map(|l| perf_value(l, case, event)).map(|v| v / samples);
    let mut rows = Vec::new();
    for (case, what, budget, peer) in CASES {
        for (event, unit) in [("raw_syscalls:sys_enter", "syscalls a sample"), ("task-clock", "CPU ms a sample")] {
            let Some(ours) = figure(case, event) else { continue };
            let counts_calls = event.starts_with("raw_syscalls");
            rows.push(Row {
                what: format!("Linux {}, {what}: {unit}", args.kernel),
                ours,
                budget: budget.filter(|_| counts_calls),
                peer: peer.and_then(|peer| figure(peer, event)),
            });
        }
    }
    if rows.len() < 2 || rows.first().is_some_and(|r| r.peer.is_none()) {
        bail!("perf counted nothing of gpuscope or intel_gpu_top:\n{}", lines.join("\n"));
    }
    Ok(rows)
}

/// What the guest measures: its name in the script, in the table, the budget in system calls, the peer of the same run.
///
/// xe by default looks at all processes for DRM clients, which is no part of the budget for one device's sample.
const CASES: [(&str, &str, Option<f64>, Option<&str>); 4] = [
    ("gpuscope", "i915 integrated", Some(SYSCALLS_A_SAMPLE), Some("intel_gpu_top")),
    ("discrete", "i915 discrete", Some(SYSCALLS_A_SAMPLE), None),
    ("xe_pmu", "xe discrete, two GTs, PMU on request", Some(SYSCALLS_A_SAMPLE), None),
    ("xe", "xe discrete, two GTs, with client scan", None, None),
];

/// The value in a line `TOOL,VALUE,UNIT,EVENT,…` of `perf stat -x,`.
fn perf_value(line: &str, tool: &str, event: &str) -> Option<f64> {
    let mut fields = line.split(',');
    if fields.next()? != tool {
        return None;
    }
    let value = fields.next()?;
    // perf may add modifiers to the event's name: `task-clock:u`.
    fields.nth(1)?.starts_with(event).then(|| value.parse().ok())?
}

fn on_host(args: &Args, gpuscope: &Path) -> Result<Vec<Row>> {
    let mut command = Command::new(gpuscope);
    command.args(["stat", "--json", "--interval", "1s"]).stdout(Stdio::null()).stdin(Stdio::null());
    if let Some(root) = &args.root {
        command.arg("--root").arg(root);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", gpuscope.display()))?;
    let figures = watch(&mut child, args.seconds);
    child.kill()?;
    child.wait()?;
    let (cpu_ns, resident_kib) = figures?;
    let over = if args.root.is_some() { "host, over a captured machine" } else { "host" };
    let percent = cpu_ns as f64 / f64::from(args.seconds) / 1e9 * 100.0;
    let resident = resident_kib as f64 / 1024.0;
    Ok(vec![
        Row { what: format!("{over}: CPU at 1 Hz, % of a core"), ours: percent, budget: Some(CPU_PERCENT), peer: None },
        Row { what: format!("{over}: resident at most, MiB"), ours: resident, budget: Some(RESIDENT_MIB), peer: None },
    ])
}

/// CPU nanoseconds over the seconds after start-up, and the most memory it held, in KiB.
fn watch(child: &mut Child, seconds: u32) -> Result<(u64, u64)> {
    let start_up = Duration::from_secs(2);
    std::thread::sleep(start_up);
    let before = cpu_ns(child.id())?;
    std::thread::sleep(Duration::from_secs(seconds.into()));
    if let Some(status) = child.try_wait()? {
        bail!("gpuscope stat ended by itself ({status})");
    }
    let used = cpu_ns(child.id())?.saturating_sub(before);
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM in its status")?;
    let resident = line.split_whitespace().next().and_then(|w| w.parse().ok()).context("VmHWM is not a number")?;
    Ok((used, resident))
}

/// Time on a CPU of all threads, in nanoseconds. `stat`'s ticks of 10 ms would be coarser than what is measured.
fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("schedstat is empty")?;
        sum += first.parse::<u64>().context("schedstat is not a number")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_lines_are_found_by_tool_and_event() {
        let line = "gpuscope,240,,raw_syscalls:sys_enter,36127,100.00,,";
        assert_eq!(perf_value(line, "gpuscope", "raw_syscalls:sys_enter"), Some(240.0));
        assert_eq!(perf_value(line, "intel_gpu_top", "raw_syscalls:sys_enter"), None);
        assert_eq!(
            perf_value("gpuscope,1.53,msec,task-clock:u,1,100.00,0.000,CPUs utilized", "gpuscope", "task-clock"),
            Some(1.53)
        );
        assert_eq!(perf_value("gpuscope,<not counted>,msec,task-clock,0", "gpuscope", "task-clock"), None);
    }

    #[test]
    fn table_of_nothing_measured_has_no_ratio() {
        let text = table(&[Row { what: "x".into(), ours: 0.0, budget: Some(1.0), peer: Some(2.0) }]);
        assert!(text.lines().nth(2).unwrap().ends_with("|      - |"), "{text}");
    }
}
