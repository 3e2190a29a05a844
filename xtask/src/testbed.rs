//! Guest tests: Rust tests that run inside a guest, against the books of a virtual GPU.
//!
//! A test program of `testbed/tests` is one boot. Its tests are `#[ignore]`d, so that an ordinary `cargo test` passes them over. Unit
//! tests that need a machine which may be disturbed ([`UNIT_TESTS`]) run in a guest of their own.

use crate::guest::{Guest, KERNELS, boot, line, set_up};
use crate::sh::{self, Built, build, build_gpuscope, cargo};
use crate::transcript::Transcript;
use anyhow::{Context, Result, bail};
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::process::{Command, ExitStatus};
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
    let mut tallies = Vec::new();
    let mut repeats = REPEATED_AT_MOST;
    for kernel in kernels {
        let start = Instant::now();
        let mut tally = Tally::default();
        if let Err(error) = kernel_tests(kernel, &programs, &gpuscope, &mut repeats, &mut tally) {
            eprintln!("kernel {kernel}: {error:#}");
            tally.faults.push(format!("{error:#}"));
        }
        tallies.push((kernel, tally, start.elapsed().as_secs_f64()));
    }
    for (kernel, tally, _) in &tallies {
        tally.failures.iter().for_each(|failure| println!("\n== kernel {kernel}, {failure}"));
    }
    tallies.iter().for_each(|(kernel, tally, seconds)| println!("kernel {kernel}: {tally}, {seconds:.0} s"));
    if tallies.iter().any(|(_, tally, _)| !tally.is_good()) {
        bail!("guest tests failed");
    }
    Ok(())
}

/// How many test programs of a run may be run a second time, in a guest of their own, for tests that failed.
///
/// Guests share two processors by emulation with whatever else the machine does, and now and then one stands still for longer than a test
/// has reason to allow. What passes when it is run again is counted apart and told with what it said at first; more of it than this is
/// no accident. A kernel that complains, and a program that fails after its tests, are never given a second chance.
const REPEATED_AT_MOST: u32 = 3;

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
    /// How many of those that passed did so only when they were run again.
    repeated: u32,
    boots: u32,
    failures: Vec<Failure>,
    faults: Vec<String>,
}

impl Tally {
    fn is_good(&self) -> bool {
        self.passed > 0 && self.failed == 0 && self.faults.is_empty()
    }

    /// Counts a test program by its first run, and by its second if it had one.
    fn count(&mut self, program: &str, first: &Attempt, second: Option<&Attempt>) {
        let (passed, failed) = first.transcript.result().unwrap_or_default();
        let saved = match second {
            Some(again) if again.is_good() => again.transcript.result().unwrap_or_default().0,
            _ => 0,
        };
        self.passed += passed + saved;
        self.repeated += saved;
        if saved == 0 {
            self.failed += failed;
            // A guest that fell over has no result line, or one of passed tests and a status of its own.
            if !first.is_good() && failed == 0 || first.status.code() == Some(KERNEL_COMPLAINED) {
                self.faults.push(format!("{program}: {}", first.status));
            }
        }
        if first.is_good() {
            return;
        }
        let names = first.transcript.failed();
        let whole = names.is_empty().then_some(None);
        for test in names.into_iter().map(Some).chain(whole) {
            let said = first.transcript.last_words(test);
            let test = test.unwrap_or("the whole program").to_string();
            self.failures.push(Failure {
                program: program.to_string(),
                test,
                said,
                again: second.map(Attempt::is_good),
            });
        }
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} guests", self.passed, self.failed, self.boots)?;
        if self.repeated > 0 {
            write!(f, "; {} of them passed only when run again", self.repeated)?;
        }
        self.faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
    }
}

/// A test that failed, or a program that did not come to its end.
struct Failure {
    program: String,
    test: String,
    /// The last it printed.
    said: Vec<String>,
    /// Whether it passed when it was run again; None if it was not.
    again: Option<bool>,
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let again = match self.again {
            Some(true) => "failed, and passed when run again",
            Some(false) => "failed twice; at first",
            None => "failed",
        };
        write!(f, "{}, {}: {again}\n{}", self.program, self.test, self.said.join("\n"))
    }
}

/// One run of a test program.
struct Attempt {
    status: ExitStatus,
    transcript: Transcript,
}

/// Exit status of boot.sh where the guest's kernel complained.
const KERNEL_COMPLAINED: i32 = 125;

impl Attempt {
    /// Boots a guest for the tests that are named, or for all of the program's.
    fn make(kernel: &str, Program { built, guest }: &Program, gpuscope: &Path, tests: &[&str]) -> Result<Self> {
        let start = Instant::now();
        println!("== kernel {kernel}, {}", built.name);
        let environment = environment(kernel, gpuscope);
        let environment: Vec<_> = environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let program = built.executable.to_string_lossy();
        // Tables of what was measured are printed by tests that pass, too.
        let mut words = vec![&*program, "--ignored", "--nocapture", "--test-threads=1", "--color=never"];
        words.extend((!tests.is_empty()).then_some("--exact"));
        words.extend(tests);
        let mut transcript = Transcript::default();
        let status = boot(kernel, guest, &line(&environment, &words), |text| transcript.push(text))?;
        println!("== kernel {kernel}, {}: {status}, {:.1} s", built.name, start.elapsed().as_secs_f64());
        Ok(Attempt { status, transcript })
    }

    /// Whether tests ran, and all passed.
    fn is_good(&self) -> bool {
        self.status.success() && self.transcript.result().is_some_and(|(passed, failed)| passed > 0 && failed == 0)
    }

    /// The tests to run again, none for all of them; None if it was good, or is so bad that another run would excuse nothing.
    fn to_repeat(&self) -> Option<Vec<&str>> {
        let unfinished = self.transcript.result().is_none();
        let failed = self.transcript.failed();
        let bad = self.status.code() == Some(KERNEL_COMPLAINED) || failed.is_empty() && !unfinished;
        (!bad).then_some(failed)
    }
}

fn kernel_tests(
    kernel: &str,
    programs: &[Program],
    gpuscope: &Path,
    repeats: &mut u32,
    tally: &mut Tally,
) -> Result<()> {
    set_up(kernel)?;
    for program in programs.iter().filter(|p| p.guest.is_for(kernel)) {
        tally.boots += 1;
        let first = Attempt::make(kernel, program, gpuscope, &[])?;
        let second = match first.to_repeat().filter(|_| *repeats > 0) {
            Some(tests) => {
                (tally.boots, *repeats) = (tally.boots + 1, *repeats - 1);
                Some(Attempt::make(kernel, program, gpuscope, &tests)?)
            }
            None => None,
        };
        tally.count(&program.built.name, &first, second.as_ref());
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
    use std::os::unix::process::ExitStatusExt;

    const PASSED: &str = "test a ... ok\ntest b ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored";
    const FAILED: &str = "test a ... ok\ntest b ... 3 jobs\nFAILED\n\nfailures:\n\nfailures:\n    b\n\n\
                          test result: FAILED. 1 passed; 1 failed; 0 ignored";
    const B_PASSED: &str = "test b ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored";

    fn attempt(code: i32, text: &str) -> Attempt {
        let mut transcript = Transcript::default();
        text.lines().for_each(|line| transcript.push(line));
        Attempt { status: ExitStatus::from_raw(code << 8), transcript }
    }

    fn tally(first: &Attempt, second: Option<&Attempt>) -> Tally {
        let mut tally = Tally::default();
        tally.count("jobs", first, second);
        tally
    }

    #[test]
    fn a_program_whose_tests_pass_is_counted_and_not_run_again() {
        let first = attempt(0, PASSED);
        assert_eq!(first.to_repeat(), None);
        let tally = tally(&first, None);
        assert!(tally.is_good() && tally.failures.is_empty());
        assert_eq!((tally.passed, tally.repeated), (2, 0));
    }

    #[test]
    fn what_passes_when_run_again_is_counted_apart() {
        let first = attempt(101, FAILED);
        assert_eq!(first.to_repeat().unwrap(), ["b"]);
        let tally = tally(&first, Some(&attempt(0, B_PASSED)));
        assert!(tally.is_good());
        assert_eq!((tally.passed, tally.failed, tally.repeated), (2, 0, 1));
        assert_eq!(tally.failures.first().unwrap().said, ["test b ... 3 jobs", "FAILED", ""]);
    }

    #[test]
    fn what_fails_twice_or_has_no_second_chance_failed() {
        let first = attempt(101, FAILED);
        for second in [Some(attempt(101, FAILED)), Some(attempt(0, "test result: ok. 0 passed; 0 failed")), None] {
            let tally = tally(&first, second.as_ref());
            assert!(!tally.is_good());
            assert_eq!((tally.passed, tally.failed, tally.failures.len()), (1, 1, 1));
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_run_again_whole() {
        let first = attempt(124, "test a ... ok\ntest b ... ");
        assert_eq!(first.to_repeat().unwrap(), Vec::<&str>::new());
        assert!(tally(&first, Some(&attempt(0, PASSED))).is_good());
        let tally = tally(&first, Some(&first));
        assert!(!tally.is_good());
        assert_eq!(tally.faults.len(), 1);
    }

    #[test]
    fn a_kernel_that_complains_is_not_asked_again() {
        for text in [PASSED, FAILED, "test a ... "] {
            let first = attempt(KERNEL_COMPLAINED, text);
            assert_eq!(first.to_repeat(), None);
            let tally = tally(&first, None);
            assert!(!tally.is_good() && tally.faults.len() == 1 && tally.failures.len() == 1, "{tally}");
        }
        assert_eq!(attempt(1, PASSED).to_repeat(), None, "it failed after its tests");
    }
}
