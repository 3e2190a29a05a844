//! `gpuscope trace record`

use super::keep::{self, Asked, Watched};
use super::source::{Ask, EVERY, Source, losses};
use super::totals::{Output, Stream, check_output};
use super::watcher::{Told, Watcher};
use crate::args::{Common, Record};
use crate::stop;
use anyhow::{Context as _, bail};
use gpuscope_analysis::Conditions;
use gpuscope_engine::Stop;
use gpuscope_model::trace::Dropped;
use gpuscope_sys::monotonic_ns;
use gpuscope_trace::capture::{self, Backend};
use gpuscope_trace::recording::{CreateOptions, RecordingFile};
use gpuscope_trace::{RawRecord, RecordSink as _};
use rustix::fs::{Access, access};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long a command is waited for after a signal.
const PATIENCE: Duration = Duration::from_secs(2);

/// Records until the command ends, the time is over, or a signal comes.
pub(super) fn record(common: &Common, args: &Record) -> anyhow::Result<()> {
    if common.root.is_some() {
        bail!("--root: a captured machine runs no kernel to record from; leave it out");
    }
    // Before anything is replaced or begun.
    check_command(&args.command)?;
    let watched = if args.alarm.is_some() { Watched::StuckJobs } else { Watched::Not };
    if args.totals.as_ref() == Some(&args.output) {
        bail!("{}: is to be the recording; give --totals another file", args.output.display());
    }
    args.totals.iter().try_for_each(|path| check_output(path, args.force))?;
    let asked = Asked { keep: &args.keep, only_cmd: args.only_cmd, watched };
    let mut settings = keep::on_this_machine(common, &asked)?;
    settings.totals = args.totals.is_some();
    let stop = stop::watch_signals()?;
    let families = args.families.iter().map(|family| family.family()).collect();
    let ask = Ask { way: args.backend, buffer_bytes: args.buffer, families, switches: args.switches, settings };
    let (source, mut header) = Source::open(common, &ask)?;
    header.settings = keep::words(&args.keep);
    if args.only_cmd {
        header.settings.push("--only-cmd".into());
    }
    header.command = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let options = CreateOptions { force: args.force, max_bytes: args.max_size };
    let formats = source.capture.formats();
    let watcher = args.alarm.map(|after| Watcher::new(formats, &header.devices, alarms(after)));
    let devices = header.devices.clone();
    let file = RecordingFile::create(&args.output, header, formats, options)?;
    let mut source = source;
    let totals = match &args.totals {
        Some(path) => Some(Stream::begin(&mut source, devices, args.totals_window, Output::json(path)?)?),
        None => None,
    };

    let mut session = Session { source, file, watcher, totals, child: start(&args.command)?, ended: None };
    let until = args.duration.map(|duration| Instant::now() + duration);
    let done = session.run(&stop, until);
    // Also after an error: what was recorded until then can be read.
    let done = done.and_then(|()| {
        // What was written to the buffers before now is found by the first of these, and known to be complete by the second.
        session.round(true)?;
        std::thread::sleep(capture::SETTLES_IN);
        session.round(true)?;
        match &mut session.totals {
            Some(totals) => totals.step(&mut session.source, true),
            None => Ok(()),
        }
    });
    let Session { source: Source { capture, dropped, .. }, file, child, ended, .. } = session;
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

/// Jobs that are stuck are told, and nothing else.
pub(super) fn alarms(after: Duration) -> Conditions {
    let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    Conditions { stuck_ns: Some(after_ns), ..Conditions::default() }
}

/// A recording on its way.
struct Session {
    source: Source,
    file: RecordingFile,
    watcher: Option<Watcher>,
    totals: Option<Stream>,
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
            self.round(false)?;
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

    /// Empties the buffers into the file, and tells alarms. The last times are told also where nothing came: the recording went on until
    /// then.
    fn round(&mut self, is_last: bool) -> anyhow::Result<()> {
        let Session { source, file, watcher, totals, .. } = self;
        let round = match watcher {
            Some(watcher) => source.read(&mut |record: RawRecord<'_>| {
                watcher.order.record(record);
                file.record(record);
            })?,
            None => source.read(file)?,
        };
        if !round.tasks.is_empty() {
            file.tasks(round.tasks.iter().map(|(tid, pid, comm)| (*tid, *pid, comm.as_str())))?;
        }
        if let Some((at_ns, dropped)) = round.dropped {
            file.dropped(at_ns, dropped)?;
        }
        let (told, _) = watcher.as_mut().map(|watcher| watcher.round(&round)).unwrap_or_default();
        for Told { at_ns, line, .. } in told {
            file.mark(at_ns, &line)?;
            say(&line);
        }
        for note in &round.notes {
            file.mark(monotonic_ns(), note)?;
            say(note);
        }
        if round.drained.records > 0 || (is_last && round.drained.until_ns > 0) {
            file.round(round.drained.until_ns)?;
        }
        if let Some(totals) = totals {
            totals.step(source, false)?;
        }
        Ok(())
    }
}

/// Whether the command is there, if there is one.
pub(super) fn check_command(command: &[OsString]) -> anyhow::Result<()> {
    match command.first() {
        Some(program) if !can_be_found(program) => bail!(
            "{}: no such program, or it may not be executed; give its path, or check its name and mode",
            program.to_string_lossy()
        ),
        _ => Ok(()),
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

pub(super) fn start(command: &[OsString]) -> anyhow::Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let child = Command::new(program).args(arguments).spawn();
    let name = program.to_string_lossy();
    child.map(Some).with_context(|| format!("{name}: cannot be started; check its name and that it may be executed"))
}

/// What was recorded, for people, on stderr: stdout is the command's.
fn tell(args: &Record, backend: Backend, records: u64, dropped: Dropped) {
    let lost = losses(dropped);
    let file = args.output.display();
    say(&format!("{file}: {records} events by {}, {lost}; see `gpuscope trace report {file}`", backend.name()));
}

pub(super) fn say(line: &str) {
    // Not `eprintln!`, which panics when stderr is closed.
    let _ = writeln!(std::io::stderr(), "gpuscope: {line}");
}
