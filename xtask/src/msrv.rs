//! intel-gpu-stats with the Rust of Debian 13, in a small tree of Debian 13.
//!
//! Compilers older than the one at hand are not downloaded: the distribution's own package is what embedders on Debian 13 build with.

use crate::sh::{cargo, has_program, is_root, root, run as sh};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The public crate, and the feature sets embedders choose.
const CRATE: &str = "intel-gpu-stats";
const FEATURES: [&[&str]; 4] =
    [&["--no-default-features"], &["--features", "serde"], &["--features", "tokio"], &["--all-features"]];

pub(crate) fn run() -> Result<()> {
    if !is_root() {
        bail!(
            "the check with Debian 13's Rust needs root: it makes a Debian tree with debootstrap and builds in a chroot"
        );
    }
    let tree = cache();
    if !tree.join("usr/bin/cargo").exists() {
        debootstrap(&tree)?;
    }
    // Everything is fetched outside: the chroot builds offline, with the versions of Cargo.lock.
    sh(&mut cargo(&["fetch", "--locked"]))?;
    sh(Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-euo", "pipefail", "-c"])
        .arg(script(&tree)?))
}

/// Where the tree is kept: `XTASK_CACHE`, or a folder of the system.
fn cache() -> PathBuf {
    std::env::var_os("XTASK_CACHE").map_or_else(|| "/var/cache/gpuscope/trixie".into(), PathBuf::from)
}

fn debootstrap(tree: &Path) -> Result<()> {
    if !has_program("debootstrap") {
        bail!("debootstrap is not installed: apt-get install debootstrap");
    }
    // Made beside its place and moved there, so that a tree cut off half-way is never taken for a whole one.
    let part = tree.with_extension("part");
    let packages = "--include=rustc,cargo,gcc,libc6-dev,ca-certificates";
    retry(|| {
        if part.exists() {
            std::fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
        }
        std::fs::create_dir_all(&part)?;
        sh(Command::new("debootstrap").args(["--variant=minbase", packages, "trixie"]).arg(&part).args(mirror()))
    })?;
    std::fs::rename(&part, tree).with_context(|| format!("cannot move {} into place", part.display()))
}

/// Three tries: package archives have bad minutes.
fn retry(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    for pause in [10, 20] {
        match work() {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("{error:#}; again in {pause} s"),
        }
        std::thread::sleep(Duration::from_secs(pause));
    }
    work()
}

/// The package archive that this machine's apt uses; debootstrap's default where that is not to be seen.
fn mirror() -> Option<String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (new, old) = (read("/etc/apt/sources.list.d/debian.sources"), read("/etc/apt/sources.list"));
    let new = new.lines().find_map(|l| l.strip_prefix("URIs:"));
    let old = old.lines().find_map(|l| l.strip_prefix("deb "));
    new.or(old)?.split_whitespace().find(|word| word.starts_with("http")).map(str::to_string)
}

/// Mounts the sources and the downloaded crates into the tree, in a mount namespace that ends with the script, and checks.
fn script(tree: &Path) -> Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|h| h.join(".cargo"))).context("no CARGO_HOME and no home")?;
    let (tree, root, home) = (quoted(tree), quoted(&root()), quoted(&home));
    let mut text = format!(
        "cd {tree}; mkdir -p gpuscope/src gpuscope/target gpuscope/home/registry\n\
         mount --bind {root} gpuscope/src; mount -o remount,bind,ro gpuscope/src\n\
         mount --bind {home}/registry gpuscope/home/registry\n\
         rm -f gpuscope/home/config.toml; [ ! -e {home}/config.toml ] || cp {home}/config.toml gpuscope/home/\n\
         mount -t proc proc proc\n\
         inside() {{ chroot . env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 CARGO_HOME=/gpuscope/home CARGO_TERM_COLOR=never \
         CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=/gpuscope/target bash -c 'cd /gpuscope/src && \"$@\"' bash \"$@\"; }}\n\
         inside rustc --version\n"
    );
    for features in FEATURES {
        let features = features.join(" ");
        text.push_str(&format!("echo '{CRATE} {features}'\n"));
        text.push_str(&format!("inside cargo check --quiet --offline --locked --package {CRATE} {features}\n"));
    }
    Ok(text)
}

fn quoted(path: &Path) -> String {
    crate::sh::quote(&path.to_string_lossy())
}
