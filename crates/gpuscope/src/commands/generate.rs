//! Shell completions and man pages, out of the definitions of the arguments.

use crate::args::Cli;
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::io::{self, Write as _};
use std::path::Path;

/// Writes the completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    // The generator panics when it cannot write; a buffer cannot fail.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gpuscope", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(())
}

/// Writes `gpuscope.1`, `gpuscope-list.1`, …
pub(crate) fn man(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("cannot write the man pages into {}", dir.display()))
}
