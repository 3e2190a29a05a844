//! The first look at each trace: what it holds, when, and what it can be put beside others by.

use super::super::input::{Input, Notes, Origin, Seen};
use gpuscope_export::perfetto::Clocks;
use gpuscope_model::SourceReport;
use gpuscope_model::trace::{Dropped, Event, Family, JobKey};
use gpuscope_trace::merge::Landmarks;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Threads whose processes are remembered of each trace.
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
    pub(super) naming: Naming,
    /// Processes of threads, where it tells.
    pub(super) processes: HashMap<u32, u32>,
}

/// How the DRM scheduler's events of a trace name their jobs, from the best way to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Naming {
    /// By fences.
    Fences,
    /// By addresses of the kernel.
    Addresses,
    /// By what text has in the place of addresses.
    Hashes,
    /// There are none.
    Nothing,
}

impl Surveyed {
    pub(super) fn of(path: &Path) -> anyhow::Result<Surveyed> {
        let mut input = Input::open(path)?;
        let origin = std::mem::take(&mut input.origin);
        let is_text = origin.kind == "text of tracefs";
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
            landmarks: Landmarks::new(),
            naming: Naming::Nothing,
            processes: HashMap::new(),
        };
        let rest = input.read(|seen| {
            match seen {
                Seen::Event(event, names) => {
                    of.landmarks.event(event, names);
                    of.event(event, is_text);
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

    fn event(&mut self, event: &Event, is_text: bool) {
        self.events = self.events.saturating_add(1);
        let (from_ns, to_ns) = self.span.unwrap_or((event.at_ns, event.at_ns));
        self.span = Some((from_ns.min(event.at_ns), to_ns.max(event.at_ns)));
        if event.family == Family::DrmSched {
            let naming = match event.key {
                Some(JobKey::Fence { .. }) => Naming::Fences,
                Some(JobKey::Address(_)) if is_text => Naming::Hashes,
                Some(JobKey::Address(_)) => Naming::Addresses,
                _ => Naming::Nothing,
            };
            self.naming = self.naming.min(naming);
        }
        if event.pid != 0 && self.processes.len() < MOST_THREADS {
            self.processes.insert(event.tid, event.pid);
        }
    }
}
