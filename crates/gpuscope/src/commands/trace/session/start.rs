//! `gpuscope trace start`: the part that the user waits for.

use super::attend;
use super::place::{Found, Place};
use crate::args::{Common, Start, Trigger};
use anyhow::{Context as _, bail};
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};

/// What the session says once its capture runs, ahead of what the user is told.
pub(super) const READY: &str = "ready ";
/// And what it says where that cannot be.
pub(super) const REFUSED: &str = "refused ";

/// Begins a session, and returns once its capture runs.
pub(crate) fn start(common: &Common, args: &Start) -> anyhow::Result<()> {
    if common.root.is_some() {
        bail!("--root: a captured machine runs no kernel to record from; leave it out");
    }
    if args.alarm.is_some() && args.flight.is_some() && args.on.iter().any(|of| matches!(of, Trigger::Stuck(_))) {
        bail!("--alarm and --on stuck: one time tells when a job is stuck; give one of them");
    }
    let place = Place::open(&args.name)?;
    if args.attend {
        return attend::attend(common, args, &place);
    }
    place.make_folder()?;
    if let Found::Alive(of) = place.look()? {
        bail!(
            "session {} runs already (process {}, {}); end it with `gpuscope trace stop --name {0}`, or give this one another --name",
            args.name,
            of.pid,
            of.output
        );
    }
    // The session is this program again: a process that has threads cannot be copied safely.
    let program = std::env::current_exe().context("the program of the session is not known")?;
    let mut options = OpenOptions::new();
    let log = options.write(true).create(true).truncate(true).mode(0o600).open(&place.log);
    let log = log.with_context(|| place.log.display().to_string())?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--attend")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("the session cannot be started")?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).context("the session says nothing")?;
    }
    if let Some(told) = line.strip_prefix(READY) {
        write!(io::stdout().lock(), "{told}")?;
        return Ok(());
    }
    let status = child.wait().context("waiting for the session")?;
    if !matches!(place.look(), Ok(Found::Alive(_))) {
        place.clear();
    }
    match line.strip_prefix(REFUSED) {
        Some(error) => bail!("{}", error.trim_end()),
        None => bail!("the session ended at once, with {status}, and did not say why"),
    }
}
