//! Our recordings.

use super::{DEPENDENCY, Input, MOST_NOTES, Notes, Origin, Rest, Seen, Source, Take, absent};
use gpuscope_export::Tells;
use gpuscope_export::perfetto::Clocks;
use gpuscope_model::trace::{Dropped, Event, Note, TraceNames};
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_trace::recording::{Ended, Header, Item, ItemSink, Packed, PackedRecords, Recording, Step, Summary};
use gpuscope_trace::{Decoder, RawRecord, StepSink, Steps};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
/// When the first record of a recording is of, as far as its first rounds tell.
pub(super) fn first_record_ns(path: &Path) -> Option<u64> {
    fn look(first_ns: &mut Option<u64>, item: Item<'_>) {
        if let Item::Record(record) = item {
            first_ns.get_or_insert(record.at_ns);
        }
    }
    let mut recording = Recording::open(path).ok()?;
    let mut first_ns = None;
    while first_ns.is_none() {
        if !matches!(recording.step(|item| look(&mut first_ns, item)), Ok(Step::Round(_))) {
            // Behind the last round, perhaps.
            recording.finish(|item| look(&mut first_ns, item));
            break;
        }
    }
    first_ns
}

/// Whether events that tell of dependencies were kept, as the words of settings have it.
fn keeps_dependencies(settings: &[String]) -> bool {
    let is_named = |option: &str| settings.iter().any(|word| word.strip_prefix(option) == Some(" dependency"));
    let is_chosen = settings.iter().any(|word| word.starts_with("--event "));
    (!is_chosen || is_named("--event")) && !is_named("--not-event")
}

impl Input {
    pub(super) fn recording(recording: Recording, first_ns: Option<u64>) -> Input {
        let header = recording.header();
        let started = header.started;
        let clocks = started.boottime_ns.zip(started.realtime_ns).map(|(boottime_ns, realtime_ns)| Clocks {
            monotonic_ns: started.monotonic_ns,
            boottime_ns,
            realtime_ns,
        });
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let is_merged = !header.merged.is_empty();
        let origin = Origin {
            kind: "recording",
            clock: header.clock.clone(),
            is_monotonic: header.clock == "monotonic",
            host: told(&header.host),
            boot_id: told(&header.boot_id),
            kernel: told(&header.kernel),
            devices: header.devices.clone(),
        };
        Input {
            drivers: header.gpus.clone(),
            coverage: header.coverage(),
            // Of what was merged, some may not tell.
            settings: Some(header.settings.clone())
                .filter(|words| !words.is_empty() || header.merged.iter().all(|of| of.tells_settings)),
            no_gpu: no_gpu(header),
            clocks,
            started: started.realtime_ns.map(|realtime_ns| (started.monotonic_ns, realtime_ns)),
            // What was merged tells by its events alone.
            tells_waits: (!is_merged).then(|| {
                recording.formats().iter().any(|format| {
                    ["drm_sched_job_add_dep", "drm_sched_job_unschedulable", "drm_sched_job_wait_dep"]
                        .contains(&format.name.as_str())
                })
            }),
            tells: Tells {
                dependencies: !is_merged
                    && keeps_dependencies(&header.settings)
                    && recording.formats().iter().any(|format| format.name == DEPENDENCY),
            },
            // What came before the moment that the header tells was recorded as well; and with the first parts, what is told of their begin went.
            from_ns: match first_ns {
                Some(first_ns) if header.part > 0 || first_ns < started.monotonic_ns => Some(first_ns),
                _ => Some(started.monotonic_ns),
            },
            origin,
            source: Source::Recording(Box::new(recording)),
        }
    }
}

/// What a recording gives, decoded.
struct Decoded<T> {
    decoder: Decoder,
    each: T,
    done: io::Result<()>,
    dropped: Dropped,
    /// Losses are told ahead of the records of their round, which wait for its end.
    lost_ns: VecDeque<u64>,
    to_ns: Option<u64>,
    notes: Notes,
}

/// The part of [`Decoded`] that takes what the decoder makes.
struct Made<'a, T>(&'a mut T, &'a mut io::Result<()>);

impl<T: Take> StepSink for Made<'_, T> {
    #[inline(always)]
    fn steps(&mut self, steps: &mut Steps<'_>, names: &TraceNames) {
        if self.1.is_ok() {
            *self.1 = self.0.steps(steps, names);
        }
    }

    fn event(&mut self, event: &Event, names: &TraceNames) {
        if self.1.is_ok() {
            *self.1 = self.0.take(Seen::Event(event, names));
        }
    }
}

impl<T: Take> ItemSink for Decoded<T> {
    #[inline(always)]
    fn record(&mut self, record: RawRecord<'_>) {
        if let Some((event, names)) = self.decoder.decode_here(record)
            && self.done.is_ok()
        {
            self.done = self.each.take(Seen::Event(event, names));
        }
    }

    fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>) {
        self.decoder.decode_packed(frame, records, &mut Made(&mut self.each, &mut self.done));
    }

    fn item(&mut self, item: Item<'_>) {
        if self.done.is_err() {
            return;
        }
        match item {
            Item::Record(record) => self.record(record),
            Item::Format(format) => {
                self.decoder.add_format(format);
            }
            Item::Task { tid, pid, comm } => self.decoder.set_task(tid, pid, comm),
            Item::Dropped { dropped: now, at_ns } => {
                // Of what is kept out on purpose whole jobs are missing; of what is lost, the end alone may be.
                let lost = |of: &Dropped| (of.ring_full, of.missed, of.unreadable);
                if lost(&now) != lost(&self.dropped) {
                    self.lost_ns.push_back(at_ns);
                }
                self.dropped = now;
            }
            Item::Round(until_ns) => {
                self.to_ns = self.to_ns.max(Some(until_ns));
                let before = self.lost_ns.len();
                self.lost_ns.retain(|lost_ns| *lost_ns > until_ns);
                if self.lost_ns.len() < before && self.done.is_ok() {
                    self.done = self.each.take(Seen::Lost(self.decoder.names()));
                }
            }
            Item::Mark { at_ns, text } => {
                self.notes.count = self.notes.count.saturating_add(1);
                if self.notes.first.len() < MOST_NOTES {
                    self.notes.first.push(Note { at_ns, text: text.to_string().into() });
                }
            }
        }
    }
}

pub(super) fn read_recording(recording: Recording, each: impl Take) -> anyhow::Result<Rest> {
    let mut decoder = Decoder::new();
    for (own, gpu) in &recording.header().devices {
        decoder.set_device(own, gpu);
    }
    let mut into = Decoded {
        decoder,
        each,
        done: Ok(()),
        dropped: Dropped::default(),
        lost_ns: VecDeque::new(),
        to_ns: None,
        notes: Notes::default(),
    };
    let summary = recording.read(&mut into)?;
    let Decoded { decoder, mut each, done, mut dropped, lost_ns, to_ns, notes } = into;
    done?;
    if !lost_ns.is_empty() {
        each.take(Seen::Lost(decoder.names()))?;
    }
    dropped.unreadable = dropped.unreadable.saturating_add(decoder.unreadable());
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns, damage: damage(&summary), notes })
}

/// Why records of a recording of ours name no GPU.
fn no_gpu(header: &Header) -> Why {
    if !header.merged.is_empty() {
        let why = "the DRM scheduler's events name no device before Linux 6.17, and the traces that were merged have nothing else to tell it by";
        return Why::not_supported(why);
    }
    let detail = format!(
        "the DRM scheduler's events name no device before Linux 6.17 (this is {}), and records by {} have nothing else to tell it by",
        header.kernel, header.backend
    );
    Why::new(Reason::NotSupported, detail)
        .remedy("record by BPF: --backend bpf, with CAP_BPF and CAP_PERFMON or as root")
}

/// What is wrong with a recording, as sources of which a part is missing.
fn damage(summary: &Summary) -> Vec<SourceReport> {
    let mut found = Vec::new();
    let mut tell = |detail: String| found.push(absent("recording", detail));
    match summary.ended {
        Ended::Finished | Ended::Window => {}
        Ended::Open { offset } => tell(format!(
            "the file does not end as a finished recording does, at byte {offset}: it is being written, or its writer was stopped"
        )),
        Ended::Cut { offset } => {
            tell(format!("the file is cut off in the frame that begins at byte {offset}: what came after is not here"));
        }
        Ended::PartMissing => {
            tell("the file with the next part is missing: FILE.1, FILE.2 and so on belong beside FILE".into());
        }
    }
    if summary.damage.places > 0 {
        let at = summary.damage.first_at.unwrap_or(0);
        tell(format!(
            "{} bytes in {} places are damaged, the first at byte {at}; they were passed over",
            summary.damage.bytes, summary.damage.places
        ));
    }
    if summary.late > 0 || summary.hurried > 0 {
        tell(format!("{} records came out of order", summary.late.saturating_add(summary.hurried)));
    }
    if summary.unverified > 0 {
        tell(format!("{} records are of a frame that is cut off: no checksum vouches for them", summary.unverified));
    }
    if summary.malformed > 0 || summary.unknown_frames > 0 {
        tell(format!("{} frames are not understood", summary.malformed.saturating_add(summary.unknown_frames)));
    }
    if summary.lost > 0 {
        tell(format!("{} records were written and are not found", summary.lost));
    }
    if summary.rotated_out > 0 {
        tell(format!(
            "{} records of the beginning made room for later ones, as the bound on size asks",
            summary.rotated_out
        ));
    }
    found
}
