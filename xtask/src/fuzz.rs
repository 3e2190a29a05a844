//! Fuzz targets on the stable compiler: rustc's LLVM has the coverage pass, and `libfuzzer-sys` brings libFuzzer.
//!
//! cargo-fuzz asks for nightly because of AddressSanitizer. The parsers are `#![forbid(unsafe_code)]`, so what can be found in them is
//! panics, overflow, broken assertions, hangs and memory hunger; these need coverage and debug assertions only.

use crate::sh::{Built, build, cargo, root, target_dir};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

/// Arguments of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these targets
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Seconds that each target runs after its corpus was replayed; 0 replays only
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u32,
    /// Where chance begins, for a run that can be repeated [default: another one each time]
    #[arg(long)]
    pub(crate) seed: Option<u32>,
    /// Targets at a time [default: one a CPU]
    #[arg(long)]
    pub(crate) jobs: Option<usize>,
}

/// What cargo-fuzz passes too, less the sanitizer.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions";

pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets(&args.targets)?;
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    println!("{} targets, {} at a time, {} s each after the corpus", targets.len(), jobs.max(1), args.seconds);
    let failed = Mutex::new(Vec::new());
    let queue = Mutex::new(targets.iter());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    // The guard must not live through the run, hence the statement of its own.
                    let next = queue.lock().ok().and_then(|mut q| q.next());
                    let Some(target) = next else { break };
                    match fuzz(target, args) {
                        Ok(line) => println!("{line}"),
                        Err(error) => {
                            eprintln!("{}: {error:#}", target.name);
                            failed.lock().map(|mut f| f.push(target.name.clone())).ok();
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if !failed.is_empty() {
        bail!("fuzzing found something in: {}", failed.join(", "));
    }
    Ok(())
}

/// Builds the targets and picks those asked for.
fn targets(only: &[String]) -> Result<Vec<Built>> {
    let triple = host()?;
    let mut command =
        cargo(&["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--locked", "--target", &triple]);
    command.arg("--target-dir").arg(target_dir().join("fuzz")).env("RUSTFLAGS", RUSTFLAGS);
    let mut targets = build(&mut command)?;
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(unknown) = only.iter().find(|name| !targets.iter().any(|t| &t.name == *name)) {
        let names: Vec<_> = targets.iter().map(|t| t.name.as_str()).collect();
        bail!("no fuzz target {unknown}; there are {}", names.join(", "));
    }
    targets.retain(|t| only.is_empty() || only.contains(&t.name));
    Ok(targets)
}

/// The compiler's own target. Named to cargo, it keeps the coverage flags away from build scripts.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc).arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let host = text.lines().find_map(|l| l.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_string())
}

/// Replays one target's corpus, then runs it, and returns a line for the summary.
fn fuzz(target: &Built, args: &Args) -> Result<String> {
    let name = &target.name;
    let seeds = root().join("fuzz/corpus").join(name);
    let count = std::fs::read_dir(&seeds).with_context(|| format!("no corpus: {}", seeds.display()))?.count();
    if count == 0 {
        bail!("the corpus is empty: {}", seeds.display());
    }
    let artifacts = root().join("fuzz/artifacts").join(name);
    std::fs::create_dir_all(&artifacts)?;
    let start = Instant::now();
    let mut last = libfuzzer(target, &artifacts, &["-runs=0".into(), seeds.display().to_string()])?;
    if args.seconds > 0 {
        // What libFuzzer finds new goes into its first folder: a scratch one, the committed seeds stay as they are.
        let found = target_dir().join("fuzz/corpus").join(name);
        std::fs::create_dir_all(&found)?;
        let time = format!("-max_total_time={}", args.seconds);
        // 0 lets libFuzzer choose.
        let seed = format!("-seed={}", args.seed.unwrap_or(0));
        last = libfuzzer(target, &artifacts, &[time, seed, found.display().to_string(), seeds.display().to_string()])?;
    }
    Ok(format!("{name}: {count} seeds, {last}, {:.0} s", start.elapsed().as_secs_f64()))
}

/// One run of libFuzzer; its last figures.
fn libfuzzer(target: &Built, artifacts: &Path, args: &[String]) -> Result<String> {
    let mut command = Command::new(&target.executable);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(["-timeout=10", "-rss_limit_mb=1024", "-verbosity=1", "-print_final_stats=0"]).args(args);
    let out = command.output().with_context(|| format!("cannot start {}", target.executable.display()))?;
    let text = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("{}\nreproduce: {} ARTIFACT, from {}", text.trim_end(), target.executable.display(), artifacts.display());
    }
    let done = text.lines().rev().find(|l| l.contains("DONE")).unwrap_or_default();
    Ok(summary(done))
}

/// Shortens libFuzzer's `#9361420 DONE cov: 59 ft: 107 corp: …` to what matters.
fn summary(done: &str) -> String {
    let mut words = done.split_whitespace();
    let runs = words.next().unwrap_or_default().trim_start_matches('#').to_string();
    let cov = words.skip_while(|w| *w != "cov:").nth(1).unwrap_or("?");
    format!("{runs} runs, {cov} edges")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_a_run() {
        let line = "#9361420\tDONE   cov: 59 ft: 107 corp: 27/205b lim: 4096 exec/s: 1560236 rss: 27Mb";
        assert_eq!(summary(line), "9361420 runs, 59 edges");
        assert_eq!(summary(""), " runs, ? edges");
    }
}
