//! `gpuscope trace record`

use crate::args::{Backend as Way, Common, Record};
use crate::stop;
use anyhow::{Context as _, bail};
use gpuscope_gpu::GpuSet;
use gpuscope_model::trace::{Dropped, Family};
use gpuscope_sys::{Roots, monotonic_ns};
use gpuscope_trace::capture::{self, Backend, Capture, Opened, Wanted};
use gpuscope_trace::recording::{CreateOptions, Header, RecordingFile};
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Time between two looks at the buffers. Eight megabytes hold what two million events a second bring in it.
const EVERY: Duration = Duration::from_millis(50);

/// Records until the command ends, the time is over, or a signal comes.
pub(super) fn record(common: &Common, args: &Record) -> anyhow::Result<()> {
    if common.root.is_some() {
        bail!("--root: a captured machine runs no kernel to record from; leave it out");
    }
    // Before anything is replaced or begun.
    if let Some(program) = args.command.first()
        && !can_be_found(program)
    {
        bail!("{}: no such program; give its path, or check the name", program.to_string_lossy());
    }
    let roots = Roots::host();
    let stop = stop::watch()?;
    let wanted = Wanted { families: vec![Family::DrmSched], buffer_bytes: args.buffer };
    let Opened { mut capture, coverage } = capture::open(&roots, &wanted, args.backend.map(way))?;
    let set = GpuSet::open(roots.clone(), super::super::options(common));
    let tool = concat!("gpuscope ", env!("CARGO_PKG_VERSION"));
    let mut header = Header::begin(&roots, tool, capture.backend()).covering(&coverage);
    header.gpus = set.infos().map(|info| (info.id.to_string(), info.driver.to_string())).collect();
    drop(set);
    header.command = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let options = CreateOptions { force: args.force, ..CreateOptions::default() };
    let mut file = RecordingFile::create(&args.output, header, capture.formats(), options)?;

    let mut child = start(args)?;
    let until = args.duration.map(|duration| Instant::now() + duration);
    let mut dropped = Dropped::default();
    let mut ended: Option<ExitStatus> = None;
    loop {
        let next = Instant::now() + EVERY;
        let stopped = stop.wait_until(until.map_or(next, |until| until.min(next)));
        if let Some(child) = &mut child {
            ended = child.try_wait().context("waiting for the command")?;
        }
        round(&mut *capture, &mut file, &mut dropped)?;
        let is_over = until.is_some_and(|until| Instant::now() >= until);
        if stopped || is_over || ended.is_some() {
            break;
        }
    }
    // What was written to the buffers before now is found by the first of these, and known to be complete by the second.
    round(&mut *capture, &mut file, &mut dropped)?;
    round(&mut *capture, &mut file, &mut dropped)?;
    let backend = capture.backend();
    drop(capture);
    let records = file.records();
    file.finish()?;
    tell(args, backend, records, dropped);
    match (child, ended) {
        (Some(_), Some(status)) if !status.success() => say(&format!("the command ended with {status}")),
        (Some(_), None) => say("the command goes on; the recording does not"),
        _ => {}
    }
    Ok(())
}

fn way(way: Way) -> Backend {
    match way {
        Way::Bpf => Backend::Bpf,
        Way::Tracefs => Backend::Tracefs,
        Way::Perf => Backend::Perf,
    }
}

/// Whether there is a file to execute: at its path, or in a folder of `PATH`.
fn can_be_found(program: &OsStr) -> bool {
    if program.as_bytes().contains(&b'/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn start(args: &Record) -> anyhow::Result<Option<Child>> {
    let Some((program, arguments)) = args.command.split_first() else { return Ok(None) };
    let child = Command::new(program).args(arguments).spawn();
    let name = program.to_string_lossy();
    child.map(Some).with_context(|| format!("{name}: cannot be started; check its name and that it may be executed"))
}

/// Empties the buffers into the file.
fn round(capture: &mut dyn Capture, file: &mut RecordingFile, dropped: &mut Dropped) -> anyhow::Result<()> {
    let drained = capture.drain(file)?;
    let mut tasks = Vec::new();
    capture.tasks(&mut |tid, pid, comm| tasks.push((tid, pid, comm.to_string())));
    if !tasks.is_empty() {
        file.tasks(tasks.iter().map(|(tid, pid, comm)| (*tid, *pid, comm.as_str())))?;
    }
    let now = capture.dropped()?;
    if now != *dropped {
        *dropped = now;
        file.dropped(monotonic_ns(), now)?;
    }
    if drained.records > 0 {
        file.round(drained.until_ns)?;
    }
    Ok(())
}

/// What was recorded, for people, on stderr: stdout is the command's.
fn tell(args: &Record, backend: Backend, records: u64, dropped: Dropped) {
    let lost: Vec<String> =
        dropped.each().iter().filter(|(_, n)| *n > 0).map(|(cause, n)| format!("{cause} {n}")).collect();
    let lost = if lost.is_empty() { "nothing lost".into() } else { format!("not recorded: {}", lost.join(", ")) };
    let file = args.output.display();
    say(&format!("{file}: {records} events by {}, {lost}; see `gpuscope trace report {file}`", backend.name()));
}

fn say(line: &str) {
    // Not `eprintln!`, which panics when stderr is closed.
    let _ = writeln!(std::io::stderr(), "gpuscope: {line}");
}
