//! The session itself: records until it is told to stop.

use super::control::{Asked, Request, listen};
use super::place::{Described, Ended, Held, Place};
use super::recorder::{Recorder, Target};
use super::start::{READY, REFUSED};
use super::state::{self, Alarm, Flight, State};
use crate::args::{Common, Start, Trigger};
use crate::commands::trace::keep::{self, Asked as AskedFor, Watched};
use crate::commands::trace::source::{Ask, EVERY, Round, Source};
use crate::commands::trace::watcher::{Told, Watcher};
use crate::stop;
use anyhow::{Context as _, bail};
use gpuscope_analysis::{Conditions, Notice};
use gpuscope_engine::Stop;
use gpuscope_sys::monotonic_ns;
use gpuscope_trace::capture::CaptureError;
use gpuscope_trace::flight::FlightRing;
use gpuscope_trace::recording::{CreateOptions, RecordingFile};
use gpuscope_trace::{RawRecord, RecordSink};
use signal_hook::consts::SIGUSR1;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// What may pass between what a trigger is about and its being noticed: the span is that before the former.
const NOTICING: Duration = Duration::from_secs(2);

/// Notes on the settings that `status` tells, the newest.
const MOST_NOTES: usize = 16;

/// Becomes the session. What goes wrong before the capture runs is told to who started it.
pub(super) fn attend(common: &Common, args: &Start, place: &Place) -> anyhow::Result<()> {
    // Its own session of processes: what the terminal sends to those in front of it is not for this one.
    let _ = rustix::process::setsid();
    let begun = Session::begin(common, args, place);
    let mut session = match begun {
        Ok(session) => session,
        Err(error) => {
            // One line, whatever it holds.
            let text = format!("{error:#}").replace('\n', " ");
            writeln!(io::stdout().lock(), "{REFUSED}{text}")?;
            return Err(error);
        }
    };
    let name = &args.name;
    let what = if args.flight.is_some() { "keeps the last seconds for" } else { "records into" };
    // Of the other ways the records are the kernel's own, which say that a job is done, and not how.
    let tells_errors = session.described.backend == "bpf" || args.flight.is_none();
    let watches_errors = args.on.iter().any(|of| matches!(of, Trigger::Timeout | Trigger::Error));
    let note = match !tells_errors && watches_errors {
        true => {
            "; the DRM scheduler's records tell errors by bpf alone: timeout and error fire only for drivers whose own events tell them"
        }
        false => "",
    };
    writeln!(
        io::stdout().lock(),
        "{READY}session {name} {what} {} by {}, process {}; `gpuscope trace status`, `gpuscope trace stop --name {name}`{note}",
        session.described.output,
        session.described.backend,
        std::process::id()
    )?;
    let done = session.run();
    session.end(done)
}

/// Where records go.
enum Keep {
    File(Box<RecordingFile>),
    Flight(Box<Recorder>),
}

impl RecordSink for Keep {
    fn record(&mut self, record: RawRecord<'_>) {
        match self {
            Keep::File(file) => file.record(record),
            Keep::Flight(recorder) => recorder.ring.record(record),
        }
    }
}

struct Session {
    name: String,
    place: Place,
    held: Held,
    described: Described,
    began: Instant,
    source: Source,
    keep: Keep,
    watcher: Option<Watcher>,
    watched: Watched,
    alarm_after: Option<Duration>,
    /// A stuck job is a trigger, and not a note alone.
    fires_when_stuck: bool,
    flight: Option<Duration>,
    after: Duration,
    max_size: Option<u64>,
    events: u64,
    /// What is kept, in words.
    settings: Vec<String>,
    /// What of it cannot be kept up.
    notes: Vec<String>,
    common: Common,
    stop: Stop,
    signalled: Option<Arc<AtomicBool>>,
    asked: Receiver<Asked>,
    /// Who waits for the end, and who for a file.
    stopping: Vec<Asked>,
    saving: Vec<Asked>,
}

impl Session {
    fn begin(common: &Common, args: &Start, place: &Place) -> anyhow::Result<Session> {
        let Some(held) = place.hold()? else { bail!("session {} runs already", args.name) };
        let stop = stop::watch_signals()?;
        // Without a handler it would end the session; where it is no trigger, it does nothing.
        let signalled = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGUSR1, signalled.clone())?;
        let output = output(args)?;
        let conditions = conditions(args);
        let watched = match conditions {
            Conditions { stuck_ns: Some(_), .. } => Watched::StuckJobs,
            of if of == Conditions::default() => Watched::Not,
            _ => Watched::Jobs,
        };
        let settings = keep::on_this_machine(common, &AskedFor { keep: &args.keep, only_cmd: false, watched })?;
        let ask =
            Ask { way: args.backend, buffer_bytes: args.buffer, switches: args.switches, settings, ..Ask::default() };
        let (source, mut header) = Source::open(common, &ask)?;
        header.settings = keep::words(&args.keep);
        let began_ns = header.started.monotonic_ns;
        let backend = source.capture.backend().name().to_string();
        let formats = source.capture.formats();
        let watcher = (conditions != Conditions::default()).then(|| Watcher::new(formats, &header.devices, conditions));
        let keep = match args.flight {
            None => {
                let options = CreateOptions { force: args.force, max_bytes: args.max_size };
                Keep::File(Box::new(RecordingFile::create(&output, header, formats, options)?))
            }
            Some(span) => {
                let all = span.saturating_add(args.after).saturating_add(NOTICING);
                let span_ns = u64::try_from(all.as_nanos()).unwrap_or(u64::MAX);
                let ring = FlightRing::new(span_ns, args.max_memory, began_ns, formats);
                let target = target(&output, args.max_files)?;
                Keep::Flight(Box::new(Recorder::new(ring, header, target, span, args.after)))
            }
        };
        let asked = listen(place)?;
        let described = Described {
            pid: std::process::id(),
            started: state::now(),
            output: output.display().to_string(),
            backend,
            is_flight: args.flight.is_some(),
            ended: None,
        };
        let mut session = Session {
            name: args.name.clone(),
            place: place.clone(),
            held,
            described,
            began: Instant::now(),
            source,
            keep,
            watcher,
            watched,
            alarm_after: conditions.stuck_ns.map(Duration::from_nanos),
            fires_when_stuck: args.alarm.is_none(),
            flight: args.flight,
            after: args.after,
            max_size: args.max_size,
            events: 0,
            settings: keep::words(&args.keep),
            notes: Vec::new(),
            common: common.clone(),
            stop,
            signalled: (args.flight.is_some() && args.on.contains(&Trigger::Signal)).then_some(signalled),
            asked,
            stopping: Vec::new(),
            saving: Vec::new(),
        };
        session.held.describe(&session.described).context("the session's file cannot be written")?;
        // It must not keep a file system busy that it has nothing to do with.
        std::env::set_current_dir("/")?;
        Ok(session)
    }

    /// Until it is told to stop, or has done what it was to do.
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            if self.stop.wait_until(Instant::now() + EVERY) {
                return Ok(());
            }
            self.round(false)?;
            if let Keep::Flight(recorder) = &mut self.keep {
                let is_signalled = self.signalled.as_ref().is_some_and(|of| of.swap(false, Ordering::Relaxed));
                if is_signalled {
                    recorder.fire(monotonic_ns(), "signal", "SIGUSR1 came", false);
                }
                if recorder.step(false)? {
                    self.saved();
                }
            }
            while let Ok(asked) = self.asked.try_recv() {
                match &asked.request {
                    Request::Status => asked.answer(self.state()),
                    Request::Stop => self.stopping.push(asked),
                    Request::Change(arguments) => match self.change(arguments) {
                        Ok(()) => asked.answer(self.state()),
                        Err(error) => asked.refuse(format!("session {}: {error:#}", self.name)),
                    },
                    Request::Save(reason) => match &mut self.keep {
                        Keep::Flight(recorder) if recorder.is_full() => {
                            asked.refuse(format!(
                                "session {}: as many files are written as --max-files allows",
                                self.name
                            ));
                        }
                        Keep::Flight(recorder) => {
                            let reason = if reason.is_empty() { "gpuscope trace save" } else { reason.as_str() };
                            recorder.fire(monotonic_ns(), "save", reason, true);
                            self.saving.push(asked);
                        }
                        Keep::File(_) => asked.refuse(format!(
                            "session {} records everything into {}: there is nothing to save",
                            self.name, self.described.output
                        )),
                    },
                }
            }
            let is_done = matches!(&self.keep, Keep::Flight(recorder) if recorder.is_done() && !recorder.is_busy());
            if is_done || !self.stopping.is_empty() {
                return Ok(());
            }
        }
    }

    /// Empties the buffers, and tells what was found.
    fn round(&mut self, is_last: bool) -> anyhow::Result<()> {
        let Session { source, keep, watcher, .. } = self;
        let round = match watcher {
            Some(watcher) => source.read(&mut |record: RawRecord<'_>| {
                watcher.order.record(record);
                keep.record(record);
            })?,
            None => source.read(keep)?,
        };
        self.events = self.events.saturating_add(round.drained.records);
        let (told, left_out) = self.watcher.as_mut().map(|watcher| watcher.round(&round)).unwrap_or_default();
        for note in &round.notes {
            self.note(note.clone())?;
        }
        let fires_when_stuck = self.fires_when_stuck;
        match &mut self.keep {
            Keep::File(file) => {
                keep_round(file, &round)?;
                for Told { at_ns, line, .. } in told {
                    file.mark(at_ns, &line)?;
                }
                if round.drained.records > 0 || (is_last && round.drained.until_ns > 0) {
                    file.round(round.drained.until_ns)?;
                }
            }
            Keep::Flight(recorder) => {
                for (tid, pid, comm) in &round.tasks {
                    recorder.ring.task(*tid, *pid, comm);
                }
                if let Some((at_ns, dropped)) = round.dropped {
                    recorder.ring.dropped(at_ns, dropped);
                }
                recorder.ring.round(round.drained.until_ns);
                recorder.triggers = recorder.triggers.saturating_add(left_out);
                for Told { at_ns, notice, line } in told {
                    match notice {
                        Notice::Slow(_) => recorder.fire(at_ns, "slow", &line, false),
                        Notice::TimedOut(_) => recorder.fire(at_ns, "timeout", &line, false),
                        Notice::Failed(_) | Notice::FailedFence(_) => recorder.fire(at_ns, "error", &line, false),
                        Notice::Stuck(_) if fires_when_stuck => recorder.fire(at_ns, "stuck", &line, false),
                        Notice::Stuck(_) | Notice::Released(_) => recorder.mark(at_ns, line),
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps other jobs from now on, and notes it in what is recorded.
    fn change(&mut self, arguments: &[String]) -> anyhow::Result<()> {
        let keep = keep::parse(arguments)?;
        let asked = AskedFor { keep: &keep, only_cmd: false, watched: self.watched };
        let settings = keep::on_this_machine(&self.common, &asked)?;
        // What came before is brought in first: it was recorded under the settings that the note ends.
        self.round(false)?;
        let failed = only_in_part(self.source.capture.set(&settings))?;
        let words = keep::words(&keep);
        let in_words = |words: &[String]| if words.is_empty() { "all jobs".into() } else { words.join(" ") };
        let note = format!("settings changed to: {}; before: {}", in_words(&words), in_words(&self.settings));
        match &mut self.keep {
            Keep::File(file) => file.mark(monotonic_ns(), &note)?,
            Keep::Flight(recorder) => recorder.change(monotonic_ns(), note, words.clone()),
        }
        self.settings = words;
        self.notes.clear();
        match failed {
            None => Ok(()),
            Some(failed) => {
                self.note(failed.clone())?;
                bail!("{failed}")
            }
        }
    }

    /// Puts a note into what is recorded, and keeps the newest for who asks how the session is.
    fn note(&mut self, text: String) -> anyhow::Result<()> {
        match &mut self.keep {
            Keep::File(file) => file.mark(monotonic_ns(), &text)?,
            Keep::Flight(recorder) => recorder.mark(monotonic_ns(), text.clone()),
        }
        if self.notes.len() >= MOST_NOTES {
            self.notes.remove(0);
        }
        self.notes.push(text);
        Ok(())
    }

    /// A file was written: tells those who wait for it.
    fn saved(&mut self) {
        for asked in std::mem::take(&mut self.saving) {
            asked.answer(self.state());
        }
    }

    fn state(&self) -> State {
        let dropped = self.source.dropped.each().into_iter().map(|(cause, n)| (cause.to_string(), n)).collect();
        let (file_bytes, flight) = match &self.keep {
            Keep::File(_) => (Some(bytes_on_disk(&self.described.output)), None),
            Keep::Flight(recorder) => (None, Some(self.flight_state(recorder))),
        };
        State {
            name: self.name.clone(),
            state: if flight.is_some() { "flight" } else { "recording" }.into(),
            pid: self.described.pid,
            started: self.described.started.clone(),
            elapsed_s: Some(seconds(self.began.elapsed())),
            backend: self.described.backend.clone(),
            output: self.described.output.clone(),
            events: Some(self.events),
            file_bytes,
            max_file_bytes: self.max_size,
            dropped: Some(dropped),
            settings: Some(self.settings.clone()),
            notes: Some(self.notes.clone()),
            alarm: self.alarm_after.zip(self.watcher.as_ref()).map(|(after, watcher)| Alarm {
                threshold_s: seconds(after),
                raised: watcher.raised(),
                stuck: watcher.stuck(),
            }),
            flight,
            detail: None,
            unavailable: Vec::new(),
        }
    }

    fn flight_state(&self, recorder: &Recorder) -> Flight {
        let held_ns = monotonic_ns().saturating_sub(recorder.ring.complete_from_ns());
        let span = self.flight.unwrap_or_default();
        Flight {
            span_s: seconds(span),
            after_s: seconds(self.after),
            held_s: seconds(Duration::from_nanos(held_ns).min(span)),
            held_bytes: recorder.ring.bytes() as u64,
            max_bytes: recorder.ring.max_bytes() as u64,
            pushed_out_events: recorder.ring.pushed_out(),
            triggers: recorder.triggers,
            not_saved: recorder.not_saved,
            saved: recorder.saved.clone(),
        }
    }

    /// Brings everything to the disk, tells who waits, and leaves nothing behind, but for what nobody knows yet.
    fn end(mut self, done: anyhow::Result<()>) -> anyhow::Result<()> {
        let by_itself = !self.stop.is_stopped() && self.stopping.is_empty();
        // Also after an error: what was recorded until then can be read.
        let done = done.and_then(|()| {
            // What was written to the buffers before now is found by the first of these, and known to be complete by the second.
            self.round(true)?;
            self.round(true)?;
            while let Keep::Flight(recorder) = &mut self.keep
                && recorder.is_busy()
            {
                recorder.step(true)?;
            }
            Ok(())
        });
        let mut state = self.state();
        state.state = "ended".into();
        let finished = match self.keep {
            Keep::File(file) => file.finish().map_err(anyhow::Error::from),
            Keep::Flight(_) => Ok(()),
        };
        drop(self.source);
        let done = done.and(finished);
        if let Err(error) = &done {
            state.state = "failed".into();
            state.detail = Some(format!("{error:#}"));
        }
        let files: Vec<&str> =
            state.flight.iter().flat_map(|flight| &flight.saved).map(|saved| saved.file.as_str()).collect();
        let detail = match &done {
            Err(error) => Some((true, format!("{error:#}"))),
            Ok(()) if by_itself => Some((false, format!("it saved {}", files.join(", ")))),
            Ok(()) => None,
        };
        for asked in self.saving.into_iter().chain(self.stopping) {
            asked.answer(state.clone());
        }
        let _ = fs::remove_file(&self.place.socket);
        match detail {
            Some((failed, detail)) => {
                // Nobody has been told: `status` and `stop` do.
                self.described.ended = Some(Ended { failed, detail });
                self.held.describe(&self.described)?;
            }
            None => self.place.clear(),
        }
        done
    }
}

/// What failed of settings that are in force all the same; an error where those before are.
pub(super) fn only_in_part(set: Result<(), CaptureError>) -> Result<Option<String>, CaptureError> {
    match set {
        Err(error @ CaptureError::InForce { .. }) => Ok(Some(error.to_string())),
        other => other.map(|()| None),
    }
}

fn seconds(of: Duration) -> f64 {
    (of.as_secs_f64() * 1e3).round() / 1e3
}

fn keep_round(file: &mut RecordingFile, round: &Round) -> anyhow::Result<()> {
    if !round.tasks.is_empty() {
        file.tasks(round.tasks.iter().map(|(tid, pid, comm)| (*tid, *pid, comm.as_str())))?;
    }
    if let Some((at_ns, dropped)) = round.dropped {
        file.dropped(at_ns, dropped)?;
    }
    Ok(())
}

/// Of a recording and its older parts.
fn bytes_on_disk(output: &str) -> u64 {
    let parts = std::iter::once(output.to_string()).chain((1..4).map(|n| format!("{output}.{n}")));
    parts.filter_map(|path| fs::metadata(path).ok()).map(|found| found.len()).sum()
}

/// What is watched for.
fn conditions(args: &Start) -> Conditions {
    let ns = |of: Duration| u64::try_from(of.as_nanos()).unwrap_or(u64::MAX);
    let mut conditions = Conditions { stuck_ns: args.alarm.map(ns), ..Conditions::default() };
    if args.flight.is_none() {
        return conditions;
    }
    for trigger in &args.on {
        match trigger {
            Trigger::Slow(of) => {
                conditions.slow_ns = Some(conditions.slow_ns.map_or(ns(*of), |known| known.min(ns(*of))))
            }
            Trigger::Timeout => conditions.timeout = true,
            Trigger::Error => conditions.error = true,
            Trigger::Stuck(of) => {
                conditions.stuck_ns = Some(conditions.stuck_ns.map_or(ns(*of), |known| known.min(ns(*of))))
            }
            Trigger::Signal => {}
        }
    }
    conditions
}

/// The absolute path of what is written.
fn output(args: &Start) -> anyhow::Result<PathBuf> {
    let name = || format!("gpuscope-{}-{}", args.name, jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let path = args.output.clone().unwrap_or_else(|| name().into());
    std::path::absolute(&path).with_context(|| path.display().to_string())
}

/// Where a flight recorder saves: a folder that is there, or a file.
fn target(output: &Path, max_files: u32) -> anyhow::Result<Target> {
    if output.is_dir() {
        // Found out now, and not when the seconds are gone.
        let may_write = rustix::fs::access(output, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
        may_write.with_context(|| format!("{}: no file can be made there; name another folder", output.display()))?;
        return Ok(Target::Folder(output.to_path_buf(), usize::try_from(max_files).unwrap_or(usize::MAX)));
    }
    let parent = output.parent().filter(|dir| dir.is_dir());
    match (parent, output.symlink_metadata()) {
        (None, _) => bail!("{}: its folder is not there; make it, or name another", output.display()),
        (Some(_), Ok(_)) => {
            bail!("{}: something stands there already; name another file, or a folder", output.display())
        }
        (Some(dir), Err(_)) => {
            let may_write = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
            may_write.with_context(|| format!("{}: no file can be made there; name another folder", dir.display()))?;
            Ok(Target::File(output.to_path_buf()))
        }
    }
}
