//! The flight recorder: when it saves, and where.

use super::state::Saved;
use anyhow::Context as _;
use gpuscope_trace::flight::FlightRing;
use gpuscope_trace::recording::{Header, RecordingError};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Notes that are kept, the newest.
const MOST_MARKS: usize = 1000;

/// How often a file's name is looked for that is not taken.
const MOST_TRIES: u32 = 1000;

/// Where it saves.
#[derive(Debug)]
pub(super) enum Target {
    /// One file; then it has done what it was to do.
    File(PathBuf),
    /// A file for each time, so many at most.
    Folder(PathBuf, usize),
}

/// Keeps the last seconds, and saves them.
pub(super) struct Recorder {
    pub(super) ring: FlightRing,
    header: Header,
    target: Target,
    span: Duration,
    after: Duration,
    pub(super) marks: VecDeque<(u64, String)>,
    armed: Option<Armed>,
    saving: Option<(JoinHandle<Result<u64, RecordingError>>, Saved)>,
    pub(super) saved: Vec<Saved>,
    pub(super) triggers: u64,
    pub(super) not_saved: u64,
}

/// A trigger has fired, and what comes after it is waited for.
#[derive(Debug)]
struct Armed {
    due: Instant,
    /// The moment that the trigger is about, the first if there were several.
    at_ns: u64,
    word: &'static str,
    reason: String,
}

impl Recorder {
    pub(super) fn new(ring: FlightRing, header: Header, target: Target, span: Duration, after: Duration) -> Recorder {
        Recorder {
            ring,
            header,
            target,
            span,
            after,
            marks: VecDeque::new(),
            armed: None,
            saving: None,
            saved: Vec::new(),
            triggers: 0,
            not_saved: 0,
        }
    }

    /// Notes something that stands in the recording if one is saved.
    pub(super) fn mark(&mut self, at_ns: u64, text: String) {
        if self.marks.len() >= MOST_MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back((at_ns, text));
    }

    /// Other jobs are kept from now on.
    pub(super) fn change(&mut self, at_ns: u64, note: String, settings: Vec<String>) {
        self.mark(at_ns, note);
        self.header.settings = settings;
    }

    /// A trigger has fired. Those that fire until it is saved are in the same file.
    pub(super) fn fire(&mut self, at_ns: u64, word: &'static str, reason: &str, at_once: bool) {
        self.triggers = self.triggers.saturating_add(1);
        let due = Instant::now() + if at_once { Duration::ZERO } else { self.after };
        if let Some(armed) = &mut self.armed {
            armed.due = armed.due.min(due);
            armed.at_ns = armed.at_ns.min(at_ns);
        } else if self.is_full() {
            self.not_saved = self.not_saved.saturating_add(1);
            return;
        } else {
            self.armed = Some(Armed { due, at_ns, word, reason: reason.to_string() });
        }
        self.mark(at_ns, format!("flight recorder triggered by {word}: {reason}"));
    }

    /// Whether no further file is to be written.
    pub(super) fn is_full(&self) -> bool {
        let all = self.saved.len().saturating_add(usize::from(self.saving.is_some()));
        match &self.target {
            Target::File(_) => all >= 1,
            Target::Folder(_, most) => all >= *most,
        }
    }

    /// Whether it has done all that it was to do.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.target, Target::File(_)) && !self.saved.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.armed.is_some() || self.saving.is_some()
    }

    /// Begins to save what is due, and sees whether what was begun is done: true where a file was finished. With `is_last` all is due.
    pub(super) fn step(&mut self, is_last: bool) -> anyhow::Result<bool> {
        if let Some((thread, saved)) = self.saving.take_if(|(thread, _)| is_last || thread.is_finished()) {
            let events = match thread.join() {
                Ok(result) => result?,
                Err(_) => anyhow::bail!("{}: saving it broke off", saved.file),
            };
            self.saved.push(Saved { events, ..saved });
            return Ok(true);
        }
        if self.saving.is_none()
            && let Some(armed) = self.armed.take_if(|armed| is_last || Instant::now() >= armed.due)
        {
            self.save(armed)?;
        }
        Ok(false)
    }

    fn save(&mut self, armed: Armed) -> anyhow::Result<()> {
        let path = match &self.target {
            Target::File(path) => path.clone(),
            Target::Folder(dir, _) => free_name(dir, armed.word)?,
        };
        let span_ns = u64::try_from(self.span.as_nanos()).unwrap_or(u64::MAX);
        let (flight, header) = (self.ring.snapshot(armed.at_ns.saturating_sub(span_ns)), self.header.clone());
        let from_ns = flight.from_ns();
        let mut marks: Vec<_> = self.marks.iter().filter(|(at_ns, _)| *at_ns >= from_ns).cloned().collect();
        marks.sort_by_key(|(at_ns, _)| *at_ns);
        let saved =
            Saved { file: path.display().to_string(), reason: format!("{}: {}", armed.word, armed.reason), events: 0 };
        // Beside the capture, which goes on: a disk may be slow.
        let save = move || flight.save(&path, header, &marks);
        let thread = thread::Builder::new().name("save".into()).spawn(save).context("saving the last seconds")?;
        self.saving = Some((thread, saved));
        Ok(())
    }
}

/// A name that nothing has yet.
fn free_name(dir: &Path, word: &str) -> anyhow::Result<PathBuf> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let name =
        |n: u32| dir.join(if n == 1 { format!("flight-{time}-{word}") } else { format!("flight-{time}-{word}-{n}") });
    let free = (1..MOST_TRIES).map(name).find(|path| path.symlink_metadata().is_err());
    free.with_context(|| format!("{}: every name for a recording of this moment is taken", dir.display()))
}
