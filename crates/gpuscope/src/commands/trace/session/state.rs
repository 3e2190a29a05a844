//! What sessions say of themselves: `gpuscope.trace_status/1`, and the same in words.

use super::place::Described;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// A session, as it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) name: String,
    /// `recording`, `flight`, `ended`, `failed`, `killed`, `no_answer`.
    pub(super) state: String,
    pub(super) pid: u32,
    pub(super) started: String,
    pub(super) elapsed_s: Option<f64>,
    pub(super) backend: String,
    pub(super) output: String,
    pub(super) events: Option<u64>,
    /// On disk, of a recording.
    pub(super) file_bytes: Option<u64>,
    pub(super) max_file_bytes: Option<u64>,
    pub(super) dropped: Option<BTreeMap<String, u64>>,
    /// Options that choose what is kept, as they were given.
    pub(super) settings: Option<Vec<String>>,
    /// What of these cannot be kept up, the newest.
    pub(super) notes: Option<Vec<String>>,
    pub(super) alarm: Option<Alarm>,
    pub(super) flight: Option<Flight>,
    /// Why it ended, or does not answer.
    pub(super) detail: Option<String>,
    pub(super) unavailable: Vec<Missing>,
}

/// Its alarms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Alarm {
    pub(super) threshold_s: f64,
    pub(super) raised: u64,
    /// Jobs that are stuck now, a line each.
    pub(super) stuck: Vec<String>,
}

/// Its flight recorder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flight {
    pub(super) span_s: f64,
    pub(super) after_s: f64,
    /// For how long back everything is in memory.
    pub(super) held_s: f64,
    pub(super) held_bytes: u64,
    pub(super) max_bytes: u64,
    /// Events younger than the span that had to go for want of memory.
    pub(super) pushed_out_events: u64,
    pub(super) triggers: u64,
    /// Triggers for which nothing was written, because there are files enough.
    pub(super) not_saved: u64,
    pub(super) saved: Vec<Saved>,
}

/// A file that it wrote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) file: String,
    pub(super) reason: String,
    pub(super) events: u64,
}

/// Why something is not known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Missing {
    pub(super) metric: String,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) remedy: Option<String>,
}

/// The time of day, as files and JSON have it.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

impl State {
    /// One whose process is gone.
    pub(super) fn of_dead(name: &str, described: &Described) -> State {
        let (state, detail) = match &described.ended {
            Some(ended) if ended.failed => ("failed", ended.detail.clone()),
            Some(ended) => ("ended", ended.detail.clone()),
            None if described.is_flight => {
                ("killed", "its process was killed, and what it held in memory is lost".into())
            }
            None => {
                let file = &described.output;
                (
                    "killed",
                    format!("its process was killed; {file} holds what was recorded until then, and can be read"),
                )
            }
        };
        let missing = Missing {
            metric: "counters".into(),
            reason: "gone".into(),
            detail: "its process is gone, and its counters with it".into(),
            remedy: None,
        };
        State::without(name, described, state, detail, missing)
    }

    /// One that lives and does not answer.
    pub(super) fn without_answer(name: &str, described: &Described, error: &str) -> State {
        let missing = Missing {
            metric: "counters".into(),
            reason: "failed".into(),
            detail: error.into(),
            remedy: Some(format!("look whether process {} is stopped", described.pid)),
        };
        State::without(name, described, "no_answer", error.into(), missing)
    }

    fn without(name: &str, described: &Described, state: &str, detail: String, missing: Missing) -> State {
        let fields = ["elapsed_s", "events", "dropped", "settings", "notes"];
        State {
            name: name.into(),
            state: state.into(),
            pid: described.pid,
            started: described.started.clone(),
            elapsed_s: None,
            backend: described.backend.clone(),
            output: described.output.clone(),
            events: None,
            file_bytes: None,
            max_file_bytes: None,
            dropped: None,
            settings: None,
            notes: None,
            alarm: None,
            flight: None,
            detail: Some(detail),
            unavailable: fields.map(|field| Missing { metric: field.into(), ..missing.clone() }).into(),
        }
    }
}

/// Writes them as one object.
pub(super) fn json(w: &mut dyn Write, sessions: &[State]) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        time: String,
        sessions: &'a [State],
    }
    serde_json::to_writer(&mut *w, &Document { schema: "gpuscope.trace_status/1", time: now(), sessions })?;
    w.write_all(b"\n")
}

/// Writes them for people.
pub(super) fn text(w: &mut dyn Write, sessions: &[State]) -> io::Result<()> {
    if sessions.is_empty() {
        return writeln!(w, "no session runs; `gpuscope trace start` begins one");
    }
    for of in sessions {
        writeln!(
            w,
            "{}: {}, process {}, by {}, since {}",
            of.name,
            of.state.replace('_', " "),
            of.pid,
            of.backend,
            of.started
        )?;
        let into = if of.flight.is_some() { "saves to" } else { "recording" };
        writeln!(w, "  {into} {}", of.output)?;
        if let Some(detail) = &of.detail {
            writeln!(w, "  {detail}")?;
        }
        if let (Some(events), Some(dropped)) = (of.events, &of.dropped) {
            let lost: Vec<String> = dropped
                .iter()
                .filter(|(_, n)| **n > 0)
                .map(|(cause, n)| format!("{} {n}", cause.replace('_', " ")))
                .collect();
            let lost =
                if lost.is_empty() { "nothing lost".into() } else { format!("not recorded: {}", lost.join(", ")) };
            let size = of.file_bytes.map_or(String::new(), |bytes| format!(", {:.1} MiB on disk", mib(bytes)));
            let most = of.max_file_bytes.map_or(String::new(), |bytes| format!(" of {:.0} at most", mib(bytes)));
            writeln!(w, "  {events} events in {:.1} s{size}{most}, {lost}", of.elapsed_s.unwrap_or(0.0))?;
        }
        if let Some(settings) = of.settings.as_ref().filter(|settings| !settings.is_empty()) {
            writeln!(w, "  keeps {}", settings.join(" "))?;
        }
        for note in of.notes.iter().flatten() {
            writeln!(w, "  {note}")?;
        }
        if let Some(flight) = &of.flight {
            writeln!(
                w,
                "  the last {:.1} s of {:.1} are in memory, {:.1} MiB of {:.1}; {} triggers, {} files",
                flight.held_s,
                flight.span_s,
                mib(flight.held_bytes),
                mib(flight.max_bytes),
                flight.triggers,
                flight.saved.len()
            )?;
            if flight.pushed_out_events > 0 {
                writeln!(w, "  {} events had no room in memory; --max-memory gives more", flight.pushed_out_events)?;
            }
            if flight.not_saved > 0 {
                writeln!(
                    w,
                    "  {} triggers wrote no file, as there are enough; --max-files allows more",
                    flight.not_saved
                )?;
            }
            for saved in &flight.saved {
                writeln!(w, "  {}: {} events; {}", saved.file, saved.events, saved.reason)?;
            }
        }
        if let Some(alarm) = &of.alarm {
            writeln!(
                w,
                "  {} alarms of jobs held up for {} s, {} now",
                alarm.raised,
                alarm.threshold_s,
                alarm.stuck.len()
            )?;
            for line in &alarm.stuck {
                writeln!(w, "    {line}")?;
            }
        }
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
