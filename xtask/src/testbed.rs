//! Guest tests: Rust tests that run inside a guest, against the books of a virtual GPU.
//!
//! A test program of `testbed/tests` is one boot. Its tests are `#[ignore]`d, so that an ordinary `cargo test` passes them over. Unit
//! tests that need a machine which may be disturbed ([`UNIT_TESTS`]) run in a guest of their own.

use crate::guest::{Guest, KERNELS, boot, line, set_up};
use crate::sh::{self, Built, build, build_gpuscope, cargo};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Arguments of `testbed`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel; may be repeated [default: 6.1, 6.12 and 7.2; 6.12 alone for a COMMAND]
    #[arg(short, long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Only test programs whose name contains this
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    test: Option<String>,
    /// GPUs of the guest for a COMMAND
    #[arg(short, long, default_value = "i915,xe", requires = "command")]
    gpus: String,
    /// Module parameter for a COMMAND, name=value; may be repeated
    #[arg(short, long = "module", value_name = "NAME=VALUE", requires = "command")]
    module: Vec<String>,
    /// Seconds until the guest is ended, for a COMMAND
    #[arg(short, long, default_value_t = 120, requires = "command")]
    time: u32,
    /// Run this in the guest instead of the tests: one word is a shell line, several are a command with its arguments
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let defaults = if args.command.is_empty() { &KERNELS[..] } else { &["6.12"] };
    let kernels = match args.kernel.is_empty() {
        true => defaults.to_vec(),
        false => args.kernel.iter().map(String::as_str).collect(),
    };
    let gpuscope = build_gpuscope()?;
    if !args.command.is_empty() {
        return command(args, &kernels, &gpuscope);
    }
    let programs = programs(args.test.as_deref())?;
    let mut failed = false;
    let mut summary = Vec::new();
    for kernel in kernels {
        let start = Instant::now();
        let mut tally = Tally::default();
        if let Err(error) = kernel_tests(kernel, &programs, &gpuscope, &mut tally) {
            eprintln!("kernel {kernel}: {error:#}");
            tally.faults.push(format!("{error:#}"));
        }
        failed |= tally.failed > 0 || !tally.faults.is_empty() || tally.passed == 0;
        summary.push(format!("kernel {kernel}: {tally}, {:.0} s", start.elapsed().as_secs_f64()));
    }
    println!("{}", summary.join("\n"));
    if failed {
        bail!("guest tests failed");
    }
    Ok(())
}

/// Packages whose own ignored unit tests run in a guest.
const UNIT_TESTS: [&str; 1] = ["gpuscope-pmu"];

/// A test program and the guest it wants.
struct Program {
    built: Built,
    guest: Guest,
}

/// Builds the guest tests and reads what guests they ask for. Programs without guest tests are left out.
fn programs(only: Option<&str>) -> Result<Vec<Program>> {
    let mut command = cargo(&["test", "--no-run", "--lib", "--tests", "--package", "gpuscope-testbed"]);
    command.args(UNIT_TESTS.iter().flat_map(|package| ["--package", package]));
    let mut programs = Vec::new();
    for built in build(&mut command)? {
        let of_testbed = built.source.parent().is_some_and(|d| d.ends_with("testbed/tests"));
        let of_units = UNIT_TESTS.iter().any(|package| built.name == package.replace('-', "_"));
        if !(of_testbed || of_units) || !only.is_none_or(|part| built.name.contains(part)) || guest_tests(&built)? == 0
        {
            continue;
        }
        programs.push(Program { guest: Guest::of_source(&built.source)?, built });
    }
    programs.sort_by(|a, b| a.built.name.cmp(&b.built.name));
    if programs.is_empty() {
        bail!(
            "no guest tests in testbed/tests{}",
            only.map(|p| format!(" with {p} in their name")).unwrap_or_default()
        );
    }
    Ok(programs)
}

/// Number of ignored tests in a program.
fn guest_tests(built: &Built) -> Result<usize> {
    let out = Command::new(&built.executable).args(["--ignored", "--list"]).output()?;
    if !out.status.success() {
        bail!("{} does not list its tests", built.name);
    }
    Ok(String::from_utf8_lossy(&out.stdout).lines().filter(|l| l.ends_with(": test")).count())
}

/// What happened on one kernel.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    boots: u32,
    faults: Vec<String>,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} guests", self.passed, self.failed, self.boots)?;
        self.faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
    }
}

fn kernel_tests(kernel: &str, programs: &[Program], gpuscope: &Path, tally: &mut Tally) -> Result<()> {
    set_up(kernel)?;
    for Program { built, guest } in programs.iter().filter(|p| p.guest.is_for(kernel)) {
        let start = Instant::now();
        println!("== kernel {kernel}, {}", built.name);
        let environment = environment(kernel, gpuscope);
        let environment: Vec<_> = environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let program = built.executable.to_string_lossy();
        // Tables of what was measured are printed by tests that pass, too.
        let words = [&*program, "--ignored", "--nocapture", "--test-threads=1", "--color=never"];
        tally.boots += 1;
        let before = tally.passed + tally.failed;
        let status = boot(kernel, guest, &line(&environment, &words), |text| {
            if let Some((passed, failed)) = result_line(text) {
                tally.passed += passed;
                tally.failed += failed;
            }
        })?;
        // A guest that fell over has no result line, or one of passed tests and a status of its own.
        if !status.success() && tally.failed == 0 || tally.passed + tally.failed == before {
            tally.faults.push(format!("{}: {status}", built.name));
        }
        println!("== kernel {kernel}, {}: {status}, {:.1} s", built.name, start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// What guests are told of this environment: how long a test runs that is the better for it, and where setup.sh keeps what it makes.
const HANDED_ON: [&str; 2] = ["TESTBED_CHURN_SECONDS", "TESTBED_CACHE"];

/// What guest programs find in their environment.
fn environment(kernel: &str, gpuscope: &Path) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("GPUSCOPE", gpuscope.to_string_lossy().into_owned()),
        ("TESTBED_KERNEL", kernel.to_string()),
        ("RUST_BACKTRACE", "1".to_string()),
    ];
    all.extend(HANDED_ON.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))));
    all
}

/// Numbers of libtest's `test result: ok. 3 passed; 0 failed; …`.
fn result_line(text: &str) -> Option<(u32, u32)> {
    let (_, numbers) = text.strip_prefix("test result: ")?.split_once(". ")?;
    let mut words = numbers.split_whitespace();
    let passed = words.next()?.parse().ok()?;
    let failed = words.nth(1)?.parse().ok()?;
    Some((passed, failed))
}

/// Runs the caller's command on each kernel.
fn command(args: &Args, kernels: &[&str], gpuscope: &Path) -> Result<()> {
    let guest =
        Guest { gpus: args.gpus.clone(), parameters: args.module.clone(), seconds: args.time, kernels: Vec::new() };
    let asked = match args.command.as_slice() {
        [line] => line.clone(),
        words => words.iter().map(|w| sh::quote(w)).collect::<Vec<_>>().join(" "),
    };
    let folder = gpuscope.parent().context("the program lies in no folder")?.to_string_lossy().into_owned();
    for kernel in kernels {
        set_up(kernel)?;
        let mut line = String::new();
        for (name, value) in environment(kernel, gpuscope) {
            line.push_str(&format!("export {name}={}; ", sh::quote(&value)));
        }
        line.push_str(&format!("PATH={}:$PATH; {asked}", sh::quote(&folder)));
        let start = Instant::now();
        let status = boot(kernel, &guest, &line, |_| {})?;
        println!("kernel {kernel}: {status}, {:.1} s", start.elapsed().as_secs_f64());
        if !status.success() {
            bail!("kernel {kernel}: the command failed ({status})");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let text = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.51s";
        assert_eq!(result_line(text), Some((3, 1)));
        assert_eq!(result_line("test engines ... ok"), None);
    }
}
