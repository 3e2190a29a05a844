//! Reading and summing up of large recordings on one core, and of a trace.dat beside trace-cmd, which reads the same events.

use crate::sh::{has_program, root, target_dir};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Size of a recording, in MB, and of the trace.dat: trace-cmd takes microseconds an event.
const RECORDING_MB: u32 = 2_100;
const DAT_MB: u32 = 200;

/// Least events a second, in millions, and most anonymous memory, in MiB.
const MILLION_A_SECOND: f64 = 20.0;
const ANONYMOUS_MIB: f64 = 300.0;

/// Each file is read so often; the median counts.
const TIMES: usize = 3;

/// What reading a file took.
struct Read {
    cpu_seconds: f64,
    anonymous_mib: f64,
}

/// Prints the table; says what is over its budget.
pub(crate) fn run(gpuscope: &Path) -> Result<Vec<String>> {
    let folder = target_dir().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut table = String::from(
        "| file | events, millions | ns an event | million events/s | budget | RssAnon, MiB | budget |\n|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut over = Vec::new();
    for (layout, what) in [
        ("bpf", "recording, as our BPF programs give records"),
        ("cpus", "recording, as tracefs gives records"),
        ("dat", "trace.dat of 16 processors"),
    ] {
        let file = folder.join(format!("reading.{layout}"));
        let is_own = layout != "dat";
        let events = write(&file, if is_own { RECORDING_MB } else { DAT_MB }, layout)?;
        let report = |program: &Path| {
            let mut command = Command::new(program);
            if program == gpuscope {
                command.args(["trace", "report", "--json"]).arg(&file);
            } else {
                command.arg("report").arg(&file);
            }
            read(&mut command)
        };
        let mut row = |who: &str, read: &Read, budget: bool| {
            let rate = events / read.cpu_seconds / 1e6;
            let text = |number: f64| if budget { format!("{number:.0}") } else { "-".into() };
            table.push_str(&format!(
                "| {what}: {who} | {:.1} | {:.1} | {rate:.2} | {} | {:.0} | {} |\n",
                events / 1e6,
                read.cpu_seconds * 1e9 / events,
                text(MILLION_A_SECOND),
                read.anonymous_mib,
                text(ANONYMOUS_MIB),
            ));
            if budget && rate < MILLION_A_SECOND {
                over.push(format!("{what}: {rate:.1} million events a second"));
            }
            if budget && read.anonymous_mib > ANONYMOUS_MIB {
                over.push(format!("{what}: {:.0} MiB", read.anonymous_mib));
            }
        };
        let mut times = (0..TIMES).map(|_| report(gpuscope)).collect::<Result<Vec<_>>>()?;
        times.sort_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds));
        let ours = times.get(TIMES / 2).context("nothing was read")?;
        row("gpuscope trace report", ours, is_own);
        if !is_own && has_program("trace-cmd") {
            let peer = report(Path::new("trace-cmd"))?;
            row("trace-cmd report", &peer, false);
            println!("trace-cmd report takes {:.1} times as long", peer.cpu_seconds / ours.cpu_seconds);
        } else if !is_own {
            println!("trace-cmd is not installed: nothing beside");
        }
        std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
    }
    println!("\nProcessor time of the whole program, median of {TIMES}; synthetic jobs on 24 rings:\n\n{table}");
    Ok(over)
}

/// Makes a file, and says how many events are in it.
fn write(file: &PathBuf, megabytes: u32, layout: &str) -> Result<f64> {
    // One of an earlier run that was stopped.
    let _ = std::fs::remove_file(file);
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(["bench", "-q", "-p", "gpuscope-trace", "--bench", "recording", "--", "write"]);
    let out = command.arg(file).args([&megabytes.to_string(), layout]).output().context("cannot start cargo bench")?;
    if !out.status.success() {
        bail!("the benchmark wrote no file ({}): {}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).context("what the benchmark says of its file")?;
    said.get("records").and_then(serde_json::Value::as_f64).context("the benchmark says no number of records")
}

/// Runs a program to its end: its processor time, and the most anonymous memory that it was seen to hold.
fn read(command: &mut Command) -> Result<Read> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = child.with_context(|| format!("cannot start {name}"))?;
    let folder = PathBuf::from(format!("/proc/{}", child.id()));
    let mut most_kib = 0.0_f64;
    loop {
        let status = std::fs::read_to_string(folder.join("status"))?;
        // What has ended has no memory; its time is there until it is waited for.
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let Some(kib) = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()) else { break };
        most_kib = most_kib.max(kib);
        std::thread::sleep(Duration::from_millis(10));
    }
    // The memory goes before the process does.
    while !std::fs::read_to_string(folder.join("stat"))?.contains(") Z ") {
        std::thread::sleep(Duration::from_millis(1));
    }
    let schedstat = std::fs::read_to_string(folder.join("schedstat"))?;
    let cpu_ns: f64 =
        schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok()).context("no processor time")?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(Read { cpu_seconds: cpu_ns / 1e9, anonymous_mib: most_kib / 1024.0 })
}
