//! `gpuscope trace record`

use crate::args::{Backend as Way, Common, Record};
use crate::stop;
use anyhow::{Context as _, bail};
use gpuscope_engine::Stop;
use gpuscope_gpu::GpuSet;
use gpuscope_model::trace::{Dropped, Family};
use gpuscope_sys::{Roots, monotonic_ns};
use gpuscope_trace::capture::{self, Backend, Capture, Opened, Wanted};
use gpuscope_trace::recording::{CreateOptions, Header, RecordingFile};
use rustix::fs::{Access, access};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Time between two looks at the buffers. Eight megabytes hold what two million events a second bring in it.
const EVERY: Duration = Duration::from_millis(50);

/// How long a command is waited for after a signal.
const PATIENCE: Duration = Duration::from_secs(2);

/// Records until the command ends, the time is over, or a signal comes.
pub(super) fn record(common: &Common, args: &Record) -> anyhow::Result<()> {
    if common.root.is_some() {
        bail!("--root: a captured machine runs no kernel to record from; leave it out");
    }
    // Before anything is replaced or begun.
    if let Some(program) = args.command.first()
        && !can_be_found(program)
    {
        bail!(
            "{}: no such program, or it may not be executed; give its path, or check its name and mode",
            program.to_string_lossy()
        );
    }
    let roots = Roots::host();
    let stop = stop::watch_signals()?;
    let wanted = Wanted { families: vec![Family::DrmSched], buffer_bytes: args.buffer };
    // A file for each processor, by perf for each tracepoint on each. The command gets the limit that this program came with.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let opened = capture::open(&roots, &wanted, args.backend.map(way));
    let _ = setrlimit(Resource::Nofile, limit);
    let Opened { capture, coverage } = opened?;
    let set = GpuSet::open(roots.clone(), super::super::options(common));
    let tool = concat!("gpuscope ", env!("CARGO_PKG_VERSION"));
    let mut header = Header::begin(&roots, tool, capture.backend()).covering(&coverage);
    header.gpus = set.infos().map(|info| (info.id.to_string(), info.driver.to_string())).collect();
    drop(set);
    header.command = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let options = CreateOptions { force: args.force, ..CreateOptions::default() };
    let file = RecordingFile::create(&args.output, header, capture.formats(), options)?;

    let mut session = Session { capture, file, dropped: Dropped::default(), child: start(args)?, ended: None };
    let until = args.duration.map(|duration| Instant::now() + duration);
    let done = session.run(&stop, until);
    let Session { mut capture, mut file, mut dropped, child, ended } = session;
    // Also after an error: what was recorded until then can be read.
    let done = done.and_then(|()| {
        // What was written to the buffers before now is found by the first of these, and known to be complete by the second.
        round(&mut *capture, &mut file, &mut dropped, true)?;
        round(&mut *capture, &mut file, &mut dropped, true)
    });
    let backend = capture.backend();
    drop(capture);
    let records = file.records();
    let finished = file.finish();
    match (child, ended) {
        (Some(_), Some(status)) if !status.success() => say(&format!("the command ended with {status}")),
        (Some(_), None) => say("the command goes on; the recording does not"),
        _ => {}
    }
    done?;
    finished?;
    tell(args, backend, records, dropped);
    Ok(())
}

/// A recording on its way.
struct Session {
    capture: Box<dyn Capture>,
    file: RecordingFile,
    dropped: Dropped,
    child: Option<Child>,
    ended: Option<ExitStatus>,
}

impl Session {
    /// Records until the command ends, the moment comes, or a signal. A signal that the command gets as well, as Ctrl-C is, gives it some time
    /// to end, so that its last jobs are recorded.
    fn run(&mut self, stop: &Stop, until: Option<Instant>) -> anyhow::Result<()> {
        let mut patience = None;
        loop {
            let next = Instant::now() + EVERY;
            if stop.is_stopped() {
                std::thread::sleep(EVERY);
            } else {
                stop.wait_until(until.map_or(next, |until| until.min(next)));
            }
            if let Some(child) = &mut self.child {
                self.ended = child.try_wait().context("waiting for the command")?;
            }
            round(&mut *self.capture, &mut self.file, &mut self.dropped, false)?;
            if stop.is_stopped() && patience.is_none() {
                let has_ended = self.child.is_none() || self.ended.is_some();
                patience = Some(Instant::now() + if has_ended { Duration::ZERO } else { PATIENCE });
            }
            let is_over = |moment: Option<Instant>| moment.is_some_and(|moment| Instant::now() >= moment);
            if is_over(until) || is_over(patience) || self.ended.is_some() {
                return Ok(());
            }
        }
    }
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
    let can_run = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.as_bytes().contains(&b'/') {
        return can_run(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| can_run(&dir.join(program)))
}

fn start(args: &Record) -> anyhow::Result<Option<Child>> {
    let Some((program, arguments)) = args.command.split_first() else { return Ok(None) };
    let child = Command::new(program).args(arguments).spawn();
    let name = program.to_string_lossy();
    child.map(Some).with_context(|| format!("{name}: cannot be started; check its name and that it may be executed"))
}

/// Empties the buffers into the file. The last times are told also where nothing came: the recording went on until then.
fn round(
    capture: &mut dyn Capture,
    file: &mut RecordingFile,
    dropped: &mut Dropped,
    is_last: bool,
) -> anyhow::Result<()> {
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
    if drained.records > 0 || (is_last && drained.until_ns > 0) {
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
