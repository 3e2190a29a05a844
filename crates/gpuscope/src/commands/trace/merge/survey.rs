//! The first look at each trace: what it holds, when, and what it can be put beside others by.

use super::super::input::{Input, Notes, Origin, Seen, TEXT};
use gpuscope_export::perfetto::Clocks;
use gpuscope_model::SourceReport;
use gpuscope_model::trace::{Dropped, Event};
use gpuscope_trace::merge::{Landmarks, Naming};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Threads whose processes are remembered, of all traces.
const MOST_THREADS: usize = 1 << 20;

/// A trace, looked at.
pub(super) struct Surveyed {
    pub(super) path: PathBuf,
    /// What it is called in messages and in the recording that is made.
    pub(super) label: String,
    pub(super) origin: Origin,
    pub(super) drivers: Vec<(String, String)>,
    /// What was left out on purpose, where it tells.
    pub(super) settings: Option<Vec<String>>,
    pub(super) coverage: Vec<SourceReport>,
    /// What is wrong with the file.
    pub(super) damage: Vec<SourceReport>,
    pub(super) notes: Notes,
    pub(super) dropped: Dropped,
    /// Places where events are missing.
    pub(super) gaps: u64,
    /// One moment on CLOCK_MONOTONIC and in the time of day.
    pub(super) started: Option<(u64, u64)>,
    pub(super) clocks: Option<Clocks>,
    pub(super) events: u64,
    /// The time that it tells of.
    pub(super) span: Option<(u64, u64)>,
    pub(super) landmarks: Landmarks,
    /// How the scheduler's events name their jobs.
    pub(super) namings: BTreeSet<Naming>,
    /// Processes of threads, where it tells.
    pub(super) processes: HashMap<u32, u32>,
    most_threads: usize,
}

impl Surveyed {
    /// One of so many that are merged.
    pub(super) fn of(path: &Path, traces: usize) -> anyhow::Result<Surveyed> {
        let mut input = Input::open(path)?;
        let origin = std::mem::take(&mut input.origin);
        let mut of = Surveyed {
            path: path.to_path_buf(),
            label: path.display().to_string(),
            origin,
            drivers: input.drivers.clone(),
            settings: input.settings.clone(),
            coverage: input.coverage.clone(),
            damage: Vec::new(),
            notes: Notes::default(),
            dropped: Dropped::default(),
            gaps: 0,
            started: input.started(),
            clocks: input.clocks,
            events: 0,
            span: input.from_ns.map(|from_ns| (from_ns, from_ns)),
            landmarks: Landmarks::of_one_in(traces),
            namings: BTreeSet::new(),
            processes: HashMap::new(),
            most_threads: MOST_THREADS / traces.max(1),
        };
        let rest = input.read(|seen| {
            match seen {
                Seen::Event(event, names) => {
                    of.landmarks.event(event, names);
                    of.event(event);
                }
                Seen::Lost(_) => of.gaps = of.gaps.saturating_add(1),
            }
            Ok(())
        })?;
        if let (Some((_, to_ns)), Some(told_ns)) = (&mut of.span, rest.to_ns) {
            *to_ns = told_ns.max(*to_ns);
        }
        of.dropped = rest.dropped;
        if [of.dropped.ring_full, of.dropped.missed, of.dropped.unreadable] == [0; 3] {
            // Where no number is told, each gap stands for one event at least.
            of.dropped.ring_full = of.gaps;
        }
        of.damage = rest.damage;
        of.notes = rest.notes;
        Ok(of)
    }

    /// Whether it may have hashes in the place of addresses.
    pub(super) fn is_text(&self) -> bool {
        self.origin.kind == TEXT
    }

    fn event(&mut self, event: &Event) {
        self.events = self.events.saturating_add(1);
        let (from_ns, to_ns) = self.span.unwrap_or((event.at_ns, event.at_ns));
        self.span = Some((from_ns.min(event.at_ns), to_ns.max(event.at_ns)));
        self.namings.extend(Naming::of(event, self.is_text()));
        if event.pid != 0 && self.processes.len() < self.most_threads {
            self.processes.insert(event.tid, event.pid);
        }
    }
}
