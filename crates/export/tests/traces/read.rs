//! A trace as Perfetto reads it: events by time, those of one time in the order of the file; slices by track, nested.

use crate::schema::{FtraceEvent, Interned, Trace, TrackDescriptor, TrackEvent};
use prost::Message as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A slice or, without a duration, an instant.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) track: u64,
    pub(crate) name: String,
    pub(crate) from_ns: u64,
    pub(crate) to_ns: Option<u64>,
    pub(crate) notes: BTreeMap<String, String>,
    pub(crate) flows: Vec<u64>,
    pub(crate) nesting: usize,
    pub(crate) is_instant: bool,
}

impl Slice {
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.notes[name].parse().unwrap()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) tracks: BTreeMap<u64, TrackDescriptor>,
    /// Process and thread by track.
    pub(crate) threads: BTreeMap<u64, (u32, u32)>,
    pub(crate) slices: Vec<Slice>,
    pub(crate) counters: BTreeMap<u64, Vec<(u64, f64)>>,
    pub(crate) ftrace: Vec<(u32, FtraceEvent)>,
    pub(crate) clocks: Vec<(u32, u64)>,
    /// Bytes that the schema does not explain.
    pub(crate) unknown_bytes: usize,
}

#[derive(Default)]
struct Names {
    events: BTreeMap<u64, String>,
    notes: BTreeMap<u64, String>,
    values: BTreeMap<u64, String>,
}

impl Read {
    pub(crate) fn new(bytes: &[u8]) -> Read {
        let trace = Trace::decode(bytes).unwrap();
        let mut read = Read { unknown_bytes: bytes.len() - trace.encoded_len(), ..Read::default() };
        let (mut names, mut events) = (Names::default(), Vec::new());
        assert_eq!(trace.packet[0].sequence_flags, Some(1), "the first packet clears the state");
        // CLOCK_MONOTONIC, common/builtin_clock.proto
        assert_eq!(trace.packet[0].trace_packet_defaults.as_ref().unwrap().timestamp_clock_id, Some(3));
        for packet in trace.packet {
            if let Some(interned) = packet.interned_data {
                let keep = |entries: Vec<Interned>, into: &mut BTreeMap<u64, String>| {
                    for entry in entries {
                        let before = into.insert(entry.iid.unwrap(), entry.name.unwrap());
                        assert_eq!(before, None, "a number is given once");
                    }
                };
                keep(interned.event_names, &mut names.events);
                keep(interned.debug_annotation_names, &mut names.notes);
                keep(interned.debug_annotation_string_values, &mut names.values);
            }
            if let Some(track) = packet.track_descriptor {
                if let Some(thread) = &track.thread {
                    let thread = (thread.pid.unwrap() as u32, thread.tid.unwrap() as u32);
                    read.threads.insert(track.uuid.unwrap(), thread);
                }
                read.tracks.insert(track.uuid.unwrap(), track);
            }
            if let Some(event) = packet.track_event {
                assert_eq!((packet.trusted_packet_sequence_id, packet.sequence_flags), (Some(1), Some(2)));
                assert!(event.name.is_none() || event.name_iid.is_none(), "they are one field of two kinds");
                let name = event.name.clone().or(event.name_iid.map(|iid| names.events[&iid].clone()));
                events.push((packet.timestamp.unwrap(), name, event));
            }
            if let Some(bundle) = packet.ftrace_events {
                let cpu = bundle.cpu.unwrap();
                read.ftrace.extend(bundle.event.into_iter().map(|event| (cpu, event)));
            }
            if let Some(snapshot) = packet.clock_snapshot {
                assert_eq!(snapshot.primary_trace_clock, Some(3));
                let clocks = snapshot.clocks.iter();
                read.clocks.extend(clocks.map(|clock| (clock.clock_id.unwrap(), clock.timestamp.unwrap())));
            }
        }
        events.sort_by_key(|(at_ns, ..)| *at_ns);
        read.events(events, &names);
        read
    }

    fn events(&mut self, events: Vec<(u64, Option<String>, TrackEvent)>, names: &Names) {
        let mut open: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at_ns, name, event) in events {
            let track = event.track_uuid.unwrap();
            assert!(self.tracks.contains_key(&track), "track {track:x} is described");
            let stack = open.entry(track).or_default();
            // TrackEvent.Type
            match event.r#type.unwrap() {
                kind @ (1 | 3) => {
                    let notes = event.debug_annotations.iter().map(|note| {
                        let name = note.name.clone().unwrap_or_else(|| names.notes[&note.name_iid.unwrap()].clone());
                        let value = None
                            .or(note.uint_value.map(|v| v.to_string()))
                            .or(note.int_value.map(|v| v.to_string()))
                            .or(note.string_value.clone())
                            .or(note.pointer_value.map(|v| format!("{v:#x}")))
                            .or_else(|| note.string_value_iid.map(|iid| names.values[&iid].clone()));
                        (name, value.unwrap())
                    });
                    let slice = Slice {
                        track,
                        name: name.unwrap(),
                        from_ns: at_ns,
                        to_ns: (kind == 3).then_some(at_ns),
                        notes: notes.collect(),
                        flows: event.flow_ids.iter().chain(&event.terminating_flow_ids).copied().collect(),
                        nesting: stack.len(),
                        is_instant: kind == 3,
                    };
                    if kind == 1 {
                        stack.push(self.slices.len());
                    }
                    self.slices.push(slice);
                }
                2 => {
                    let slice = stack.pop().unwrap();
                    self.slices[slice].to_ns = Some(at_ns);
                }
                4 => {
                    let value = event.double_counter_value.or(event.counter_value.map(|v| v as f64)).unwrap();
                    self.counters.entry(track).or_default().push((at_ns, value));
                }
                other => panic!("type {other}"),
            }
        }
    }

    /// Names of a track and those above it, the outermost first.
    pub(crate) fn path(&self, track: u64) -> Vec<String> {
        let of = &self.tracks[&track];
        if let Some(thread) = &of.thread {
            let name = thread.thread_name.as_deref().unwrap_or("");
            return vec![format!("{name} {}/{}", thread.pid.unwrap(), thread.tid.unwrap())];
        }
        let mut path = of.parent_uuid.map(|parent| self.path(parent)).unwrap_or_default();
        path.extend(of.name.clone());
        path
    }

    /// The whole as text.
    pub(crate) fn listing(&self) -> String {
        let mut text = String::new();
        writeln!(text, "clocks {:?}", self.clocks).unwrap();
        for slice in &self.slices {
            let path = self.path(slice.track).join(" > ");
            let to = match slice.to_ns {
                _ if slice.is_instant => "instant".to_string(),
                Some(to_ns) => format!("to {to_ns}"),
                None => "goes on".to_string(),
            };
            let notes: Vec<String> = slice.notes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let (nesting, from_ns, name) = ("  ".repeat(slice.nesting), slice.from_ns, &slice.name);
            writeln!(text, "{nesting}{from_ns} {to} [{path}] {name}: {} flows {:?}", notes.join(" "), slice.flows)
                .unwrap();
        }
        for (track, values) in &self.counters {
            writeln!(text, "[{}] {values:?}", self.path(*track).join(" > ")).unwrap();
        }
        for (cpu, event) in &self.ftrace {
            // Only the fields that are there.
            let whole = format!("{event:?}").replace(" }", "");
            let body = whole.split(", ").filter(|field| !field.ends_with(": None")).collect::<Vec<_>>().join(", ");
            writeln!(text, "cpu {cpu}: {body}").unwrap();
        }
        text
    }
}
