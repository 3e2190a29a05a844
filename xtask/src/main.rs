//! The project's own chores, the same on every machine: `cargo xtask ci`, `testbed`, `bench`, `fuzz`, `docs`, `bpf`, `msrv`.
//!
//! Each command is a module. What they share, running other programs and timing them, is in [`sh`].
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod bench;
mod bench_clients;
mod bench_events;
mod bench_reading;
mod bpf;
mod ci;
mod docs;
mod fuzz;
mod guest;
mod msrv;
mod schema;
mod sh;
mod testbed;
mod transcript;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Chores of gpuscope
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// All checks: format, lints, tests, documentation, generated files, schemas, fuzz corpora, minimum Rust
    Ci(ci::Args),
    /// Guest tests on stock kernels with virtual GPUs, or a command in such a guest
    Testbed(testbed::Args),
    /// Cost of gpuscope beside its budgets and beside intel_gpu_top
    Bench(bench::Args),
    /// Writes the generated documents
    Docs(docs::Args),
    /// Replays the corpora of the fuzz targets, then fuzzes each for a while
    Fuzz(fuzz::Args),
    /// Compiles the BPF programs, which are committed
    Bpf(bpf::Args),
    /// Checks that intel-gpu-stats builds with the Rust of Debian 13
    Msrv,
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Ci(args) => ci::run(&args),
        Chore::Testbed(args) => testbed::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Docs(args) => docs::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Bpf(args) => bpf::run(&args),
        Chore::Msrv => msrv::run(),
    };
    // The error in one line: a backtrace of a chore, which anyhow's Debug may add, helps nobody.
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
