//! The command line of gpuscope: arguments, wiring, exit codes. What is printed is made in `gpuscope-export`, what is known comes
//! from `gpuscope-gpu` by way of `gpuscope-engine`.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod select;
mod stop;
mod terminal;

use args::{Cli, Command, Format};
use clap::Parser as _;
use clap::error::ErrorKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// The arguments make no sense.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse().and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has what it wanted.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("gpuscope: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A file is held open for every process and every GPU client of the machine: the usual 1,024 are few, and the limit that a program may
/// set itself is higher. Not where a program may be started, which would inherit it.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused, it does with fewer.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let common = cli.common;
    if !matches!(cli.command, Some(Command::Trace(_))) {
        allow_open_files();
    }
    match cli.command {
        Some(Command::List) => commands::list(&common),
        Some(Command::Doctor) => commands::doctor(&common),
        Some(Command::Stat(stat)) => commands::stat(&common, &stat),
        Some(Command::Procs(procs)) => commands::procs(&common, &procs),
        Some(Command::Trace(trace)) => commands::trace(&common, &trace),
        Some(Command::Completions { shell }) => commands::completions(shell),
        Some(Command::Man { dir }) => commands::man(&dir),
        None if io::stdout().is_terminal() || common.format() == Format::Csv => {
            commands::stat(&common, &args::Stat::default())
        }
        None => commands::list(&common),
    }
}

/// Help and version go to stdout with status 0; everything else is wrong usage, in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody is left to be told when this fails.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("Usage:"));
    let line = lines.collect::<Vec<_>>().join("; ");
    complain(&format!("gpuscope: {}", line.strip_prefix("error: ").unwrap_or(&line)));
    ExitCode::from(WRONG_USAGE)
}

fn complain(line: &str) {
    // Not `eprintln!`, which panics when stderr is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
