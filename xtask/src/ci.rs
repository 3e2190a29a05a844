//! All checks that need no virtual GPU.

use crate::sh::{cargo, is_root, part, run as sh};
use crate::{bpf, docs, fuzz, msrv, schema};
use anyhow::{Result, bail};

/// Arguments of `ci`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these parts
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// All parts but these
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "only")]
    skip: Vec<Part>,
    /// Seconds that each fuzz target runs after its corpus
    #[arg(long, default_value_t = 20)]
    fuzz_seconds: u32,
}

/// A check.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// cargo fmt --check, the fuzz targets too
    Fmt,
    /// clippy with warnings as errors
    Clippy,
    /// All tests, with all features
    Test,
    /// rustdoc with warnings as errors
    Doc,
    /// Generated documents are current
    Generated,
    /// JSON Schemas are well formed
    Schemas,
    /// Compiled BPF programs are those of their sources
    Bpf,
    /// Fuzz corpora, then a short run of each target
    Fuzz,
    /// intel-gpu-stats with Debian 13's Rust
    Msrv,
}

/// Runs every chosen part, also after one failed: a person wants to see all that is wrong.
pub(crate) fn run(args: &Args) -> Result<()> {
    use Part::{Bpf, Clippy, Doc, Fmt, Fuzz, Generated, Msrv, Schemas, Test};
    let mut failed = Vec::new();
    for chosen in [Fmt, Clippy, Test, Doc, Generated, Schemas, Bpf, Fuzz, Msrv] {
        if args.skip.contains(&chosen) || !(args.only.is_empty() || args.only.contains(&chosen)) {
            continue;
        }
        let name = name_of(chosen);
        if let Err(error) = part(&name, || check(chosen, args.fuzz_seconds)) {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn name_of(part: Part) -> String {
    use clap::ValueEnum;
    part.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default()
}

/// Where chance begins: of the same tree CI says the same, as nearly as a limit of time allows. To find more is for `cargo xtask fuzz`.
const FUZZ_SEED: u32 = 1;

fn check(part: Part, fuzz_seconds: u32) -> Result<()> {
    match part {
        Part::Fmt => {
            sh(&mut cargo(&["fmt", "--all", "--check"]))?;
            sh(&mut cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
        }
        Part::Clippy => {
            let scope = ["clippy", "--workspace", "--all-targets", "--all-features", "--locked"];
            sh(cargo(&scope).args(["--", "-D", "warnings"]))
        }
        Part::Test => sh(&mut cargo(&["test", "--workspace", "--all-features", "--locked"])),
        Part::Doc => {
            let scope = ["doc", "--workspace", "--no-deps", "--all-features", "--locked"];
            sh(cargo(&scope).env("RUSTDOCFLAGS", "-D warnings"))
        }
        Part::Generated => docs::run(&docs::Args { check: true }),
        Part::Schemas => schema::check(),
        Part::Bpf => bpf::run(&bpf::Args { check: true }),
        Part::Fuzz => {
            fuzz::run(&fuzz::Args { targets: Vec::new(), seconds: fuzz_seconds, seed: Some(FUZZ_SEED), jobs: None })
        }
        // A person without root still gets the other parts; a CI machine must not pass by leaving one out.
        Part::Msrv if !is_root() && std::env::var_os("CI").is_none() => {
            eprintln!("msrv: NOT CHECKED, it needs root (debootstrap and chroot)");
            Ok(())
        }
        Part::Msrv => msrv::run(),
    }
}
