//! Cost of an event in the kernel, on the host over system calls, beside trace-cmd, perf and bpftrace in the same run.

use crate::bench_clients::{Figures, cargo_bench};
use anyhow::Result;

/// What is measured of ours, its budget in nanoseconds, and the tools that do the like.
const ROWS: [(&str, Option<f64>, [&str; 2]); 5] = [
    ("gpuscope nothing", None, ["", ""]),
    ("gpuscope recorded", Some(300.0), ["trace-cmd record", "perf record"]),
    ("gpuscope recorded, whole jobs", None, ["trace-cmd record", "perf record"]),
    ("gpuscope filtered out", Some(130.0), ["trace-cmd filtered out", "perf filtered out"]),
    ("gpuscope aggregated", Some(200.0), ["bpftrace aggregated", ""]),
];

/// Rounds of which the medians are taken.
const ROUNDS: &str = "9";

/// Prints the table; says what is over its budget.
pub(crate) fn run() -> Result<Vec<String>> {
    let figures = cargo_bench("gpuscope-sys", "events", &[ROUNDS])?;
    let mut table = String::from(
        "| an event, ns | gpuscope | budget | with a fence | by calls | beside |\n|---|---:|---:|---:|---:|---|\n",
    );
    let mut over = Vec::new();
    for (name, budget, peers) in ROWS {
        let Some(ours) = figures.get(name) else { continue };
        let beside: Vec<String> = peers
            .iter()
            .filter_map(|peer| figures.get(*peer).map(|ns| format!("{peer} {ns:.0} ({:.1}x)", ns / ours)))
            .collect();
        let budget_text = budget.map_or_else(|| "-".to_string(), |budget| format!("{budget:.0}"));
        let what = name.strip_prefix("gpuscope ").unwrap_or(name);
        let [with_fence, by_calls] = ["with fences", "by calls"].map(|how| {
            let figure = figures.get(format!("{name}, {how}").as_str());
            figure.map_or_else(|| "-".to_string(), |ns| format!("{ns:.0}"))
        });
        let beside = beside.join(", ");
        table.push_str(&format!("| {what} | {ours:.0} | {budget_text} | {with_fence} | {by_calls} | {beside} |\n"));
        if budget.is_some_and(|budget| *ours > budget) {
            over.push(format!("an event, {what}"));
        }
    }
    let untraced = figures.get("untraced").copied().unwrap_or(0.0);
    println!(
        "\nProcessor time that an event adds to a system call ({untraced:.0} ns untraced), host, medians of {ROUNDS} rounds in turns. Of ours, \
         three events are a made-up job, and behind each one of its three fences signals, where that is said; by calls is how Linux before 6.2 \
         lets programs read:\n\n{table}"
    );
    println!("{}", switches(&figures));
    if let Some(of_host) = costly_returns() {
        println!("{of_host}\n");
    }
    Ok(over)
}

/// What following threads adds to a switch from one to another, the waking before it included.
fn switches(figures: &Figures) -> String {
    let figure = |name: &str| figures.get(name).map_or_else(|| "-".to_string(), |ns| format!("{ns:.0}"));
    let [others, followed, perf] =
        ["gpuscope switch, of others", "gpuscope switch, of a job's thread", "perf record switch"].map(figure);
    format!(
        "And to a switch between two threads, with the waking before it ({} ns untraced): of threads that are not followed {others} ns, of those \
         that are {followed} ns; perf record of both events {perf} ns.\n",
        figure("untraced switch")
    )
}

/// What makes all tracers dear on this host, if anything does: with Safe RET the processor guesses wrong at each return of the kernel, of which
/// an event has dozens (Documentation/admin-guide/hw-vuln/srso.rst).
fn costly_returns() -> Option<String> {
    let path = "/sys/devices/system/cpu/vulnerabilities/spec_rstack_overflow";
    let text = std::fs::read_to_string(path).ok().filter(|text| text.contains("Safe RET"))?;
    Some(format!(
        "This kernel makes each of its returns a costly one (spec_rstack_overflow: {}): all that is traced costs more here, by whichever tool.",
        text.trim()
    ))
}
