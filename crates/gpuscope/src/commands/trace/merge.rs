//! `gpuscope trace merge`

mod place;
mod streams;
mod survey;

use super::record::say;
use crate::args::Merge as Args;
use anyhow::{Context as _, bail};
use gpuscope_model::trace::{Dropped, Event, TraceNames};
use gpuscope_model::{Reason, SourceReport, Text, Why};
use gpuscope_trace::merge::{MOST_TRACES, Naming, OtherNames, Telling, Window};
use gpuscope_trace::recording::{CreateOptions, Header, Instant, MergedTrace, RecordingFile};
use gpuscope_trace::{RecordSink as _, Retold};
use place::{How, Place, Places, amount, signed};
use std::collections::BTreeSet;
use std::path::Path;
use streams::{Next, Streams, moved, of_machine};
use survey::Surveyed;

/// Records between two rounds: what a reader keeps in memory at once.
const ROUND: u64 = 32_768;

/// Makes one recording of several traces.
pub(super) fn merge(args: &Args) -> anyhow::Result<()> {
    if args.files.len() > MOST_TRACES {
        bail!("{} files; merge {MOST_TRACES} or fewer at once, and then what came of it", args.files.len());
    }
    for file in &args.files {
        if is_in_the_way(&args.output, file) {
            bail!("{}: is one of the traces itself; name another file with -o", args.output.display());
        }
    }
    let given = offsets(args)?;
    let of_all = args.files.len();
    let mut traces = args.files.iter().map(|file| Surveyed::of(file, of_all)).collect::<anyhow::Result<Vec<_>>>()?;
    shorten(&mut traces);
    let places = place::place(&traces, &given)?;
    for (trace, place) in traces.iter().zip(&places.of) {
        if let Some(warning) = &place.warning {
            say(&format!("{}: {warning}", trace.label));
        }
        if let Some(detail) = estimated(&traces, place) {
            say(&format!("{}: {detail}", trace.label));
        }
        trace.damage.iter().for_each(|damage| say(&format!("{}: {}", trace.label, damage.detail)));
    }
    let header = header(&traces, &places);
    let mut writer = Writer {
        file: RecordingFile::create(&args.output, header, &[], CreateOptions { force: args.force, max_bytes: None })?,
        retold: Retold::new(),
        records: 0,
        last_ns: 0,
        notes: notes(&traces, &places).into_iter(),
        next_note: None,
        losses: Losses { so_far: vec![0; traces.len()], told: Dropped::default() },
    };
    let written = streams::read(&traces, &places, |streams| writer.write(streams, &traces, &places));
    let written = written.and_then(|()| {
        let events = writer.records;
        writer.file.finish()?;
        Ok(events)
    });
    match written {
        Ok(events) => say(&format!("{}: {events} events of {}", args.output.display(), count(traces.len(), "trace"))),
        Err(error) => {
            // Half of it would be taken for all.
            let _ = std::fs::remove_file(&args.output);
            return Err(error);
        }
    }
    Ok(())
}

/// What goes into the recording.
struct Writer {
    file: RecordingFile,
    retold: Retold,
    records: u64,
    last_ns: u64,
    notes: std::vec::IntoIter<(u64, String)>,
    next_note: Option<(u64, String)>,
    losses: Losses,
}

/// What is missing in the traces, as far as the recording tells of it.
struct Losses {
    /// Gaps that were come upon, by trace.
    so_far: Vec<u64>,
    told: Dropped,
}

impl Writer {
    fn write(&mut self, streams: &mut Streams<'_>, traces: &[Surveyed], places: &Places) -> anyhow::Result<()> {
        let mut window = (traces.len() > 1).then(|| window(traces, places));
        while let Some((trace, next)) = streams.next() {
            match (next, &mut window) {
                (Next::Lost(at_ns), _) => self.lost(trace, at_ns, traces)?,
                (Next::Event(event), None) => self.event(&event, &streams.names)?,
                (Next::Event(event), Some(window)) => {
                    let mut done = Ok(());
                    window.put(trace, event, |_, event| {
                        if done.is_ok() {
                            done = self.event(event, &streams.names);
                        }
                    });
                    done?;
                }
            }
        }
        let mut done = Ok(());
        if let Some(window) = &mut window {
            window.finish(|_, event| {
                if done.is_ok() {
                    done = self.event(event, &streams.names);
                }
            });
        }
        done?;
        self.notes_until(u64::MAX)?;
        let spans = traces.iter().zip(&places.of).filter_map(|(of, place)| Some(moved(of.span?.1, place)));
        let end_ns = spans.max().unwrap_or(0).max(self.last_ns);
        let told_twice = window.as_ref().map_or(&[][..], Window::told_twice);
        let other_names = window.as_ref().map_or(&[][..], Window::other_names);
        for (at, trace) in traces.iter().enumerate() {
            let twice = told_twice.get(at).copied().unwrap_or(0);
            let other = other_names.get(at).copied().unwrap_or_default();
            for detail in told_elsewhere(trace, twice, other) {
                say(&format!("{}: {detail}", trace.label));
                self.file.mark(end_ns, &format!("{}: {detail}", trace.label))?;
            }
        }
        let all = traces.iter().fold(Dropped::default(), |all, trace| sum(all, trace.dropped));
        self.file.dropped(end_ns, all)?;
        self.file.round(end_ns)?;
        Ok(())
    }

    fn event(&mut self, event: &Event, names: &TraceNames) -> anyhow::Result<()> {
        self.notes_until(event.at_ns)?;
        let (format, record) = self.retold.record(event, names);
        if let Some(format) = format {
            self.file.format(format)?;
        }
        self.file.record(record);
        self.records = self.records.saturating_add(1);
        self.last_ns = self.last_ns.max(event.at_ns);
        if self.records.is_multiple_of(ROUND) {
            // Others of this moment may come.
            self.file.round(self.last_ns.saturating_sub(1))?;
        }
        Ok(())
    }

    fn notes_until(&mut self, at_ns: u64) -> anyhow::Result<()> {
        loop {
            if self.next_note.is_none() {
                self.next_note = self.notes.next();
            }
            match self.next_note.take() {
                Some((of_ns, text)) if of_ns <= at_ns => self.file.mark(of_ns, &text)?,
                later => {
                    self.next_note = later;
                    return Ok(());
                }
            }
        }
    }

    /// Each gap is told where it is, as one event at least; the whole number, of which the place is not known, in the end.
    fn lost(&mut self, trace: usize, at_ns: u64, traces: &[Surveyed]) -> anyhow::Result<()> {
        let Some(so_far) = self.losses.so_far.get_mut(trace) else { return Ok(()) };
        *so_far = so_far.saturating_add(1);
        let mut all = Dropped::default();
        for (of, gaps) in traces.iter().zip(&self.losses.so_far) {
            let dropped = of.dropped;
            let mut rest = *gaps;
            let mut take = |of: u64| {
                let taken = rest.min(of);
                rest = rest.saturating_sub(taken);
                taken
            };
            let (ring_full, missed, unreadable) =
                (take(dropped.ring_full), take(dropped.missed), take(dropped.unreadable));
            all = sum(all, Dropped { ring_full, missed, unreadable, ..Dropped::default() });
        }
        if all != self.losses.told {
            self.losses.told = all;
            self.file.dropped(at_ns, all)?;
        }
        Ok(())
    }
}

/// What holds events back until no trace can tell of them any more.
fn window(traces: &[Surveyed], places: &Places) -> Window {
    let both = || traces.iter().zip(&places.of);
    let namings = |machine: usize| -> BTreeSet<Naming> {
        both().filter(|(_, place)| place.machine == machine).flat_map(|(trace, _)| &trace.namings).copied().collect()
    };
    let machines: Vec<BTreeSet<Naming>> = (0..places.machines.len()).map(namings).collect();
    if machines.iter().all(|namings| namings.len() < 2) {
        return Window::new(traces.len());
    }
    let telling = |(trace, Place { machine, .. }): (&Surveyed, &Place)| Telling {
        machine: *machine,
        best: machines.get(*machine).and_then(BTreeSet::first).copied().unwrap_or(Naming::Hash),
        is_text: trace.is_text(),
    };
    Window::with_other_names(both().map(telling).collect())
}

/// What became of the events of a trace that others tell of, too.
fn told_elsewhere(trace: &Surveyed, twice: u64, other: OtherNames) -> Vec<String> {
    let mut details = Vec::new();
    if twice > 0 {
        let all = trace.events;
        details.push(format!("{twice} of its {all} events stand in a trace named before, too: kept once"));
    }
    if other.left_out > 0 {
        details.push(format!(
            "{} events of the DRM scheduler stand in a trace that names their jobs better, too: kept once, as that one has them",
            other.left_out
        ));
    }
    if other.kept > 0 {
        let known = match other.renamed {
            0 => String::new(),
            renamed => format!(", of which {renamed} are of jobs that are named better by other events of theirs"),
        };
        details.push(format!(
            "{} events of the DRM scheduler name jobs by addresses and stand in no trace that names them better: kept{known}",
            other.kept
        ));
    }
    details
}

fn sum(a: Dropped, b: Dropped) -> Dropped {
    Dropped {
        ring_full: a.ring_full.saturating_add(b.ring_full),
        missed: a.missed.saturating_add(b.missed),
        rate_limited: a.rate_limited.saturating_add(b.rate_limited),
        sampled_out: a.sampled_out.saturating_add(b.sampled_out),
        filtered: a.filtered.saturating_add(b.filtered),
        table_full: a.table_full.saturating_add(b.table_full),
        unreadable: a.unreadable.saturating_add(b.unreadable),
    }
}

/// Whether a file would be replaced: itself, or the part of another recording that stands where one of the output's would.
fn is_in_the_way(output: &Path, file: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let Some(file) = real(file) else { return false };
    (0..4).any(|part| {
        let mut name = output.as_os_str().to_os_string();
        if part > 0 {
            name.push(format!(".{part}"));
        }
        real(Path::new(&name)).is_some_and(|path| path == file)
    })
}

/// The offsets that were given, by place.
fn offsets(args: &Args) -> anyhow::Result<Vec<Option<i64>>> {
    let mut given = vec![None; args.files.len()];
    for (name, offset_ns) in &args.clock_offset {
        let is_named =
            |file: &Path| file.as_os_str() == name.as_str() || file.file_name().is_some_and(|of| of == name.as_str());
        let named: Vec<usize> =
            args.files.iter().enumerate().filter(|(_, file)| is_named(file)).map(|(at, _)| at).collect();
        let place = || name.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < args.files.len());
        let at = match named.as_slice() {
            [at] => *at,
            [] => place().with_context(|| {
                format!("--clock-offset {name}: none of the files; give one of them, or its place from 1 on")
            })?,
            _ => bail!(
                "--clock-offset {name}: several of the files have this name; give the path, or the place from 1 on"
            ),
        };
        if let Some(of) = given.get_mut(at) {
            if of.is_some() {
                bail!("--clock-offset {name}: this file has one already; give one offset for each");
            }
            *of = Some(*offset_ns);
        }
    }
    Ok(given)
}

/// Files are called by their names alone, where these differ.
fn shorten(traces: &mut [Surveyed]) {
    let short = |of: &Surveyed| of.path.file_name().map(|name| name.to_string_lossy().into_owned());
    let all: Vec<Option<String>> = traces.iter().map(short).collect();
    for (trace, name) in traces.iter_mut().zip(&all) {
        if let Some(name) = name
            && all.iter().flatten().filter(|of| *of == name).count() == 1
        {
            trace.label.clone_from(name);
        }
    }
}

/// What an offset was estimated from.
fn estimated(traces: &[Surveyed], place: &Place) -> Option<String> {
    let (found, with) = place.agreement.filter(|_| place.how == How::Estimated)?;
    Some(format!(
        "offset {} from {} of {} events that {} has, too; spread {}",
        signed(place.offset_ns),
        found.agreeing,
        found.compared,
        traces.get(with).map_or("", |of| of.label.as_str()),
        amount(found.spread_ns)
    ))
}

/// What was noted in the traces, and by which of them.
fn notes(traces: &[Surveyed], places: &Places) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    for (trace, place) in traces.iter().zip(&places.of) {
        let of = |text: &str| match traces {
            [_] => text.to_string(),
            _ => format!("{}: {text}", trace.label),
        };
        all.extend(trace.notes.first.iter().map(|note| (moved(note.at_ns, place), of(note.text.as_str()))));
        let more = trace.notes.count.saturating_sub(trace.notes.first.len() as u64);
        if more > 0 {
            let last_ns = trace.notes.first.last().map_or(0, |note| note.at_ns);
            all.push((moved(last_ns, place), of(&format!("{more} more notes are left out"))));
        }
    }
    all.sort_by_key(|(at_ns, _)| *at_ns);
    all
}

fn header(traces: &[Surveyed], places: &Places) -> Header {
    let both = || traces.iter().zip(&places.of);
    let merged = both().map(|(trace, place)| merged(trace, place)).collect();
    let from_ns = both().filter_map(|(trace, place)| Some(moved(trace.span?.0, place))).min().unwrap_or(0);
    // Other clocks by any trace that was on the one that is kept.
    let kept = |place: &Place| place.machine == 0 && matches!(place.how, How::Reference | How::Given | How::SameClock);
    let on_it = || both().filter(|(trace, place)| trace.origin.is_monotonic && kept(place));
    let realtime_ns = on_it().find_map(|(trace, place)| {
        let (own_ns, day_ns) = trace.started?;
        day_ns.checked_add(from_ns)?.checked_sub(moved(own_ns, place))
    });
    let boottime_ns = on_it().find_map(|(trace, place)| {
        let clocks = trace.clocks?;
        clocks.boottime_ns.checked_add(from_ns)?.checked_sub(moved(clocks.monotonic_ns, place))
    });
    let reference = traces.get(places.reference);
    let clock = match reference {
        Some(of) if !of.origin.is_monotonic => of.origin.clock.as_str(),
        _ => "monotonic",
    };
    let tool = concat!("gpuscope ", env!("CARGO_PKG_VERSION"));
    let mut header = Header::merged(tool, clock, Instant { monotonic_ns: from_ns, realtime_ns, boottime_ns }, merged);
    let of_first = |told: fn(&Surveyed) -> Option<&String>| {
        let mut of = both().filter(|(_, place)| place.machine == 0).filter_map(|(trace, _)| told(trace));
        of.next().cloned().unwrap_or_default()
    };
    header.kernel = of_first(|of| of.origin.kernel.as_ref());
    header.host = of_first(|of| of.origin.host.as_ref());
    header.boot_id = of_first(|of| of.origin.boot_id.as_ref());
    let of_trace = |text: &str, trace: &Surveyed| match traces {
        [_] => text.to_string(),
        _ => format!("{text} ({})", trace.label),
    };
    let (mut coverage, mut drivers) = (Vec::new(), BTreeSet::new());
    for (trace, place) in both() {
        coverage.push(covered(trace, place, traces));
        for report in trace.coverage.iter().chain(&trace.damage) {
            coverage.push(SourceReport { source: Text::from(of_trace(&report.source, trace)), ..report.clone() });
        }
        header.settings.extend(trace.settings.iter().flatten().map(|words| of_trace(words, trace)));
        let of_machine = |name: &str| of_machine(&places.machines, place.machine, name);
        drivers.extend(trace.drivers.iter().map(|(gpu, driver)| (of_machine(gpu), driver.clone())));
    }
    header.gpus = drivers.into_iter().collect();
    header.covering(&coverage)
}

fn merged(trace: &Surveyed, place: &Place) -> MergedTrace {
    let agreement = place.agreement.map(|(found, _)| found);
    MergedTrace {
        file: trace.label.clone(),
        kind: trace.origin.kind.into(),
        clock: trace.origin.clock.clone(),
        host: trace.origin.host.clone(),
        boot_id: trace.origin.boot_id.clone(),
        offset_ns: place.offset_ns,
        offset_from: place.how.name().into(),
        agreeing_events: agreement.map(|found| found.agreeing),
        compared_events: agreement.map(|found| found.compared),
        spread_ns: agreement.map(|found| found.spread_ns),
        events: trace.events,
        from_ns: trace.span.map(|(from_ns, _)| moved(from_ns, place)),
        to_ns: trace.span.map(|(_, to_ns)| moved(to_ns, place)),
        tells_settings: trace.settings.is_some(),
        dropped: trace.dropped.each().into_iter().filter(|(_, n)| *n > 0).map(|(cause, n)| (cause.into(), n)).collect(),
    }
}

/// A line of the recording's coverage for one of its traces.
fn covered(trace: &Surveyed, place: &Place, traces: &[Surveyed]) -> SourceReport {
    let mut detail = format!("a {}, {}", trace.origin.kind, count_of(trace.events, "event"));
    if let Some((from_ns, to_ns)) = trace.span {
        let at = |at_ns| moved(at_ns, place) as f64 / 1e9;
        detail.push_str(&format!(", from {:.6} s to {:.6} s of the clock", at(from_ns), at(to_ns)));
    }
    detail.push_str(&match place.how {
        How::Reference => ", whose clock is kept".to_string(),
        How::Given => format!(", offset {} as given", signed(place.offset_ns)),
        How::SameClock => match &trace.origin.boot_id {
            Some(_) => ", on the same clock".to_string(),
            None => ", on CLOCK_MONOTONIC, taken to be of the same boot, which it does not tell".to_string(),
        },
        How::Estimated => format!(", {}", estimated(traces, place).unwrap_or_default()),
        How::TimeOfDay => format!(", offset {} by the time of day", signed(place.offset_ns)),
    });
    let lost: Vec<String> =
        trace.dropped.each().iter().filter(|(_, n)| *n > 0).map(|(cause, n)| format!("{cause} {n}")).collect();
    if !lost.is_empty() {
        detail.push_str(&format!("; not recorded: {}", lost.join(", ")));
    }
    let source = format!("merged trace {}", trace.label);
    match trace.events {
        0 => SourceReport::absent(source, None, Why::new(Reason::NotSupported, detail)),
        _ => SourceReport::works(source, None, detail),
    }
}

fn count(of: usize, what: &str) -> String {
    count_of(of as u64, what)
}

fn count_of(of: u64, what: &str) -> String {
    match of {
        1 => format!("1 {what}"),
        of => format!("{of} {what}s"),
    }
}
