//! The packets of a trace: what stands in them and how they are numbered.
//!
//! Numbers of fields are those of protos/perfetto/trace/{trace,trace_packet,clock_snapshot}.proto,
//! track_event/{track_event,track_descriptor,counter_descriptor,process_descriptor,thread_descriptor,debug_annotation}.proto and
//! interned_data/interned_data.proto.

use super::Clocks;
use super::proto::Message;
use gpuscope_model::trace::{NameId, TraceNames};
use std::io::{self, Write};

/// `BuiltinClock`, common/builtin_clock.proto.
const REALTIME: u64 = 1;
const MONOTONIC: u64 = 3;
const BOOTTIME: u64 = 6;

/// The one sequence that our packets are on. It may be any number but zero.
const SEQUENCE: u64 = 1;
/// `TracePacket.SequenceFlags`.
const STATE_CLEARED: u64 = 1;
const NEEDS_STATE: u64 = 2;

/// A track, by `TrackDescriptor.uuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Track(pub(super) u64);

/// What a `TrackEvent` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Begin,
    Instant,
}

/// What an event is called: a word of ours or one that the trace gave a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    Word(Word),
    Text(NameId),
    /// Written out each time.
    Plain(&'a str),
}

/// Declares the words that are interned with the first packet: their number is their place.
macro_rules! words {
    ($($word:ident $text:literal),* $(,)?) => {
        /// A text that every trace has: of an event, of an annotation or of its value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Word { $($word),* }

        impl Word {
            const ALL: &'static [(Word, &'static str)] = &[$((Word::$word, $text)),*];
        }
    };
}

words! {
    Job "job",
    Submit "submit",
    Lost "end not recorded",
    JobFailed "job failed",
    Error "error",
    Interrupt "interrupt",
    ContextSwitch "context switch",
    RecordsLost "records lost",
    Wait "wait for fence",
    Ioctl "ioctl",
    OnProcessor "on a processor",
    WaitsForProcessor "waits for a processor",
    Cpu "cpu",
    Context "context",
    Seqno "seqno",
    ContextLow "context_low32",
    SeqnoLow "seqno_low32",
    Fence "fence_address",
    Client "client_id",
    Pid "pid",
    Tid "tid",
    Status "status",
    Errno "errno",
    StartKind "start_kind",
    Dependencies "dependencies",
    Family "family",
    Request "request",
    Ring "ring",
    Completed "completed",
    Ended "ended",
    Failed "failed",
    InFlight "in_flight",
    StatusLost "lost",
    Measured "measured",
    Inferred "inferred",
}

impl Word {
    fn iid(self) -> u64 {
        self as u64 + 1
    }
}

/// Texts of the trace come after the words.
fn text_iid(name: NameId) -> u64 {
    Word::ALL.len() as u64 + 1 + u64::from(name.0)
}

/// `DebugAnnotation`s of an event.
pub(super) struct Notes<'a>(&'a mut Message);

impl Notes<'_> {
    const DEBUG_ANNOTATIONS: u32 = 4;

    fn put(&mut self, name: Word, value: impl FnOnce(&mut Message)) {
        self.0.message(Self::DEBUG_ANNOTATIONS, |note| {
            note.uint(1, name.iid());
            value(note);
        });
    }

    pub(super) fn uint(&mut self, name: Word, value: u64) {
        self.put(name, |note| note.uint(3, value));
    }

    pub(super) fn int(&mut self, name: Word, value: i64) {
        self.put(name, |note| note.int(4, value));
    }

    pub(super) fn address(&mut self, name: Word, value: u64) {
        self.put(name, |note| note.uint(7, value));
    }

    pub(super) fn word(&mut self, name: Word, value: Word) {
        self.put(name, |note| note.uint(17, value.iid()));
    }

    pub(super) fn text(&mut self, name: Word, value: &str) {
        self.put(name, |note| note.text(6, value));
    }

    /// One whose name is not among the words.
    pub(super) fn other(&mut self, name: &str, value: u64) {
        self.0.message(Self::DEBUG_ANNOTATIONS, |note| {
            note.text(10, name);
            note.uint(3, value);
        });
    }
}

/// How a track is described.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    pub(super) track: Track,
    pub(super) parent: Option<Track>,
    pub(super) name: &'a str,
    /// Its place among the tracks of the same parent.
    pub(super) rank: u64,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Count,
    Percent,
    Hertz,
}

/// Writes packets, one after the other.
#[derive(Debug)]
pub(super) struct Packets<W> {
    out: W,
    buffer: Message,
    /// Texts of the trace that were interned, by number.
    interned: Vec<bool>,
}

impl<W: Write> Packets<W> {
    /// Begins a trace: says which clock its times are of, and what the words are.
    pub(super) fn new(out: W, clocks: Option<Clocks>) -> io::Result<Self> {
        let mut packets = Packets { out, buffer: Message::default(), interned: Vec::new() };
        packets.packet(|packet| {
            packet.uint(10, SEQUENCE);
            packet.uint(13, STATE_CLEARED);
            // trace_packet_defaults: the times of all packets of this sequence are CLOCK_MONOTONIC's.
            packet.message(59, |defaults| defaults.uint(58, MONOTONIC));
            packet.message(12, |interned| {
                for (word, text) in Word::ALL {
                    // event_names, debug_annotation_names, debug_annotation_string_values: each has numbers of its own.
                    for field in [2, 3, 29] {
                        interned.message(field, |entry| {
                            entry.uint(1, word.iid());
                            entry.text(2, text);
                        });
                    }
                }
            });
        })?;
        packets.packet(|packet| {
            packet.uint(10, SEQUENCE);
            packet.message(6, |snapshot| {
                let mut clock = |id, ns| {
                    snapshot.message(1, |clock| {
                        clock.uint(1, id);
                        clock.uint(2, ns);
                    });
                };
                clock(MONOTONIC, clocks.map_or(0, |clocks| clocks.monotonic_ns));
                if let Some(clocks) = clocks {
                    clock(BOOTTIME, clocks.boottime_ns);
                    clock(REALTIME, clocks.realtime_ns);
                }
                // primary_trace_clock
                snapshot.uint(2, MONOTONIC);
            });
        })?;
        Ok(packets)
    }

    /// A `TracePacket`.
    pub(super) fn packet(&mut self, write: impl FnOnce(&mut Message)) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.message(1, write);
        self.out.write_all(self.buffer.as_bytes())
    }

    fn event(&mut self, at_ns: u64, write: impl FnOnce(&mut Message)) -> io::Result<()> {
        self.packet(|packet| {
            packet.uint(8, at_ns);
            packet.uint(10, SEQUENCE);
            packet.uint(13, NEEDS_STATE);
            packet.message(11, write);
        })
    }

    fn intern(&mut self, name: NameId, names: &TraceNames) -> io::Result<()> {
        let at = name.0 as usize;
        if self.interned.get(at) == Some(&true) {
            return Ok(());
        }
        if self.interned.len() <= at {
            self.interned.resize(at.saturating_add(1), false);
        }
        if let Some(place) = self.interned.get_mut(at) {
            *place = true;
        }
        self.packet(|packet| {
            packet.uint(10, SEQUENCE);
            packet.uint(13, NEEDS_STATE);
            packet.message(12, |interned| {
                interned.message(2, |entry| {
                    entry.uint(1, text_iid(name));
                    entry.text(2, names.get(name));
                });
            });
        })
    }

    /// A slice's begin, or an instant. `flows` go on from here, those `ending` end here.
    #[expect(clippy::too_many_arguments, reason = "each is one field of the packet, and there are four callers")]
    pub(super) fn begin(
        &mut self,
        phase: Phase,
        at_ns: u64,
        track: Track,
        name: Name<'_>,
        names: &TraceNames,
        flows: &[u64],
        ending: &[u64],
        notes: impl FnOnce(&mut Notes<'_>),
    ) -> io::Result<()> {
        if let Name::Text(text) = name {
            self.intern(text, names)?;
        }
        self.event(at_ns, |event| {
            event.uint(9, if phase == Phase::Begin { 1 } else { 3 });
            event.uint(11, track.0);
            match name {
                Name::Word(word) => event.uint(10, word.iid()),
                Name::Text(text) => event.uint(10, text_iid(text)),
                Name::Plain(name) => event.text(23, name),
            }
            flows.iter().for_each(|flow| event.fixed64(47, *flow));
            ending.iter().for_each(|flow| event.fixed64(48, *flow));
            notes(&mut Notes(event));
        })
    }

    /// The end of the slice that began last on a track.
    pub(super) fn end(&mut self, at_ns: u64, track: Track) -> io::Result<()> {
        self.event(at_ns, |event| {
            event.uint(9, 2);
            event.uint(11, track.0);
        })
    }

    /// A counter's value from now on.
    pub(super) fn count(&mut self, at_ns: u64, track: Track, value: u64) -> io::Result<()> {
        self.event(at_ns, |event| {
            event.uint(9, 4);
            event.uint(11, track.0);
            event.uint(30, value);
        })
    }

    /// The same, of a number that need not be whole.
    pub(super) fn measure(&mut self, at_ns: u64, track: Track, value: f64) -> io::Result<()> {
        self.event(at_ns, |event| {
            event.uint(9, 4);
            event.uint(11, track.0);
            event.double(44, value);
        })
    }

    fn describe(&mut self, write: impl FnOnce(&mut Message)) -> io::Result<()> {
        self.packet(|packet| {
            packet.uint(10, SEQUENCE);
            packet.message(60, write);
        })
    }

    /// A track of slices.
    pub(super) fn track(&mut self, of: Described<'_>) -> io::Result<()> {
        self.describe(|track| described(track, of))
    }

    /// A track of a counter.
    pub(super) fn counter(&mut self, of: Described<'_>, unit: Unit) -> io::Result<()> {
        self.describe(|track| {
            described(track, of);
            track.message(8, |counter| match unit {
                // UNIT_COUNT
                Unit::Count => counter.uint(3, 2),
                Unit::Percent => counter.text(6, "%"),
                Unit::Hertz => counter.text(6, "Hz"),
            });
        })
    }

    /// A process.
    pub(super) fn process(&mut self, track: Track, pid: u32, name: &str) -> io::Result<()> {
        self.describe(|descriptor| {
            descriptor.uint(1, track.0);
            descriptor.message(3, |process| {
                process.uint(1, u64::from(pid));
                if !name.is_empty() {
                    process.text(6, name);
                }
            });
        })
    }

    /// A thread of a process.
    pub(super) fn thread(&mut self, track: Track, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        self.describe(|descriptor| {
            descriptor.uint(1, track.0);
            descriptor.message(4, |thread| {
                thread.uint(1, u64::from(pid));
                thread.uint(2, u64::from(tid));
                if !name.is_empty() {
                    thread.text(5, name);
                }
            });
            // What Perfetto makes of ftrace events stands on a track of its own: its slices and ours would end each other.
            descriptor.bool(9, true);
        })
    }

    /// The writer, with everything written.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn described(track: &mut Message, of: Described<'_>) {
    track.uint(1, of.track.0);
    if let Some(parent) = of.parent {
        track.uint(5, parent.0);
    }
    track.text(2, of.name);
    // child_ordering: EXPLICIT, by sibling_order_rank
    track.uint(11, 3);
    track.uint(12, of.rank);
}
