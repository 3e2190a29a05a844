//! The BPF programs: compiled here, committed, so that `cargo build` needs Rust alone.

use crate::sh::{has_program, root, run as sh, target_dir};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `bpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compares the committed programs with what the compiler makes now
    #[arg(long)]
    pub(crate) check: bool,
}

/// Another clang makes other bytes: the one of Debian 12 and 13 makes those that are committed.
const CLANG: &str = "clang-19";
const STRIP: &str = "llvm-strip-19";

pub(crate) fn run(args: &Args) -> Result<()> {
    for program in [CLANG, STRIP] {
        if !has_program(program) {
            bail!("{program} is not installed: apt-get install --no-install-recommends clang-19 llvm-19");
        }
    }
    let folder = root().join("crates/sys/bpf");
    let out = target_dir().join("bpf");
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let mut differ = Vec::new();
    for source in sources(&folder)? {
        let name = source.with_extension("o");
        let fresh = compile(&folder, &source, &out)?;
        let bytes = std::fs::read(&fresh).with_context(|| fresh.display().to_string())?;
        let committed = folder.join(&name);
        // One that is not there differs.
        if std::fs::read(&committed).ok().as_ref() == Some(&bytes) {
            println!("{}: as committed, {} bytes", name.display(), bytes.len());
        } else if args.check {
            differ.push(name.display().to_string());
        } else {
            std::fs::write(&committed, &bytes).with_context(|| committed.display().to_string())?;
            println!("{}: written, {} bytes", name.display(), bytes.len());
        }
    }
    if !differ.is_empty() {
        bail!("not what {} makes of its source: {}; run cargo xtask bpf", version(), differ.join(", "));
    }
    Ok(())
}

/// Names of the programs' sources, sorted.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        let name = entry?.file_name();
        if name.to_string_lossy().ends_with(".bpf.c") {
            names.push(PathBuf::from(name));
        }
    }
    names.sort();
    Ok(names)
}

/// Compiles a source in its folder. The type information names source files: without the map it would name this machine's folders.
fn compile(folder: &Path, source: &Path, out: &Path) -> Result<PathBuf> {
    let (whole, stripped) = (out.join("whole.o"), out.join(source.with_extension("o")));
    let map = format!("-ffile-prefix-map={}=.", folder.display());
    sh(Command::new(CLANG)
        .current_dir(folder)
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", &map, "-c"])
        .arg(source)
        .arg("-o")
        .arg(&whole))?;
    sh(Command::new(STRIP).arg("-g").arg(&whole).arg("-o").arg(&stripped))?;
    Ok(stripped)
}

/// The compiler's package and version, as dpkg or the compiler itself says it.
fn version() -> String {
    let said = |command: &mut Command| {
        let out = command.output().ok().filter(|out| out.status.success())?;
        let text = String::from_utf8(out.stdout).ok()?;
        text.lines().next().map(str::to_string)
    };
    said(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}", CLANG]))
        .or_else(|| said(Command::new(CLANG).arg("--version")))
        .unwrap_or_else(|| CLANG.to_string())
}
