//! Traces in Perfetto's format, composed by the messages of protos/perfetto/trace (Perfetto 55): what they hold, in order of time and on
//! CLOCK_MONOTONIC, and of a cut or broken one what is left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gpuscope_model::trace::{Event, EventKind, Family, JobKey};
use gpuscope_trace::Decoder;
use gpuscope_trace::foreign::perfetto::{Item, PerfettoTrace};
use std::io::Write as _;
use std::path::Path;

/// A message.
#[derive(Clone, Default)]
struct M(Vec<u8>);

impl M {
    fn varint(mut self, mut value: u64) -> M {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn n(self, field: u64, value: u64) -> M {
        self.varint(field << 3).varint(value)
    }

    fn b(self, field: u64, bytes: &[u8]) -> M {
        let mut of = self.varint(field << 3 | 2).varint(bytes.len() as u64);
        of.0.extend_from_slice(bytes);
        of
    }

    fn t(self, field: u64, text: &str) -> M {
        self.b(field, text.as_bytes())
    }

    fn m(self, field: u64, message: M) -> M {
        self.b(field, &message.0)
    }

    fn packed(self, field: u64, numbers: &[u64]) -> M {
        let of = numbers.iter().fold(M::default(), |of, number| of.varint(*number));
        self.m(field, of)
    }
}

fn m() -> M {
    M::default()
}

/// A `ClockSnapshot`: CLOCK_MONOTONIC is 1000 behind CLOCK_BOOTTIME, and 400 ahead of CLOCK_MONOTONIC_RAW.
fn clocks() -> M {
    let clock = |id, at| m().n(1, id).n(2, at);
    let snapshot = [clock(6, 6_000), clock(3, 5_000), clock(5, 4_600), clock(1, 1_000_000)];
    m().m(6, snapshot.into_iter().fold(m(), |of, clock| of.m(1, clock)))
}

fn event(at: u64, tid: u64, field: u64, body: M) -> M {
    m().n(1, at).n(2, tid).m(field, body)
}

fn queue(at: u64, tid: u64, seqno: u64) -> M {
    let job = m().t(1, "gfx").n(2, 3).n(3, 1).t(4, "0000:03:00.0").n(5, 9).n(6, seqno).n(7, 4);
    event(at, tid, 593, job)
}

fn done(at: u64, seqno: u64) -> M {
    event(at, 0, 592, m().n(1, 9).n(2, seqno))
}

fn bundle(cpu: u64, events: impl IntoIterator<Item = M>) -> M {
    events.into_iter().fold(m().n(1, cpu), |of, event| of.m(2, event))
}

fn trace(packets: impl IntoIterator<Item = M>) -> Vec<u8> {
    packets.into_iter().fold(m(), |of, packet| of.m(1, packet)).0
}

fn open(bytes: &[u8]) -> PerfettoTrace {
    PerfettoTrace::read(Path::new("composed"), Box::new(bytes.to_vec())).unwrap()
}

/// All events, with the name of the thread; a loss is none.
fn events(trace: &mut PerfettoTrace) -> Vec<Option<(Event, String)>> {
    let (mut decoder, mut events) = (Decoder::new(), Vec::new());
    while let Some(item) = trace.next_item() {
        match item {
            Item::Format(format) => assert!(decoder.add_format(format), "{format:?}"),
            Item::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
            Item::Record(record) => {
                let event = decoder.decode(record).unwrap();
                events.push(Some((event, decoder.names().get(event.comm).to_string())));
            }
            Item::Lost => events.push(None),
        }
    }
    assert!(trace.next_item().is_none());
    events
}

fn told(trace: &mut PerfettoTrace) -> Vec<(u64, EventKind, Option<JobKey>)> {
    events(trace).into_iter().flatten().map(|(event, _)| (event.at_ns, event.kind, event.key)).collect()
}

fn fence(seqno: u64) -> Option<JobKey> {
    Some(JobKey::Fence { context: 9, seqno })
}

#[test]
fn bundles_of_all_processors_come_in_order_of_time_and_threads_have_names() {
    let tree =
        m().m(1, m().n(1, 10).n(2, 1).t(3, "/usr/bin/game").t(3, "-x")).m(2, m().n(1, 11).n(3, 10).t(2, "render"));
    let bytes = trace([
        m().m(1, bundle(1, [queue(6_030, 10, 2), done(6_060, 1)])),
        m().m(1, bundle(0, [done(6_070, 2)])),
        // The bundle before that of its processor stands behind it, and so do the clocks and the threads.
        m().m(1, bundle(0, [queue(6_020, 11, 1), event(6_025, 11, 3, m().t(2, "a print"))])),
        m().m(2, tree),
        clocks(),
        m().m(11, m().n(9, 3)),
    ]);
    let mut trace = open(&bytes);
    assert!(trace.is_monotonic() && trace.has_events());
    assert_eq!((trace.clocks(), trace.packets().all, trace.packets().others), (Some((5_000, 6_000, 1_000_000)), 6, 1));
    let events: Vec<(Event, String)> = events(&mut trace).into_iter().flatten().collect();
    let short: Vec<_> =
        events.iter().map(|(event, comm)| (event.at_ns, event.cpu, event.tid, event.pid, comm.as_str())).collect();
    let expected =
        [(5_020, 0, 11, 10, "render"), (5_030, 1, 10, 10, "game"), (5_060, 1, 0, 0, ""), (5_070, 0, 0, 0, "")];
    assert_eq!(short, expected);
    let first = events[0].0;
    assert_eq!((first.kind, first.family, first.key), (EventKind::Submit, Family::DrmSched, fence(1)));
    assert_eq!((first.client, first.value, events[2].0.value), (Some(4), Some(3), None));
    assert_eq!((trace.passed_over(), trace.lost().unreadable, trace.lost().late), (1, 0, 0));
    assert!(trace.faults().is_empty());
}

#[test]
fn generic_events_are_taken_by_their_names_in_either_form() {
    let fields = [("dev", 0_u64), ("class", 1), ("instance", 0), ("ctx", 77), ("seqno", 5)];
    let one = |(name, value): (&str, u64)| m().t(1, name).n(5, value);
    let generic = fields.into_iter().fold(m().t(1, "i915_request_queue"), |of, field| of.m(2, one(field)));
    // The denser form: a descriptor, and the fields by number.
    let numbered = fields.iter().zip(1..);
    let described = numbered.clone().fold(m().t(1, "i915_request_queue"), |of, ((name, _), number)| {
        of.m(2, m().t(1, name).n(3, number).n(4, 1).n(5, 13))
    });
    let dense = numbered.fold(m(), |of, ((_, value), number)| of.n(number, *value));
    let descriptor = m().n(1, 65_540).m(2, described).t(3, "i915");
    let bytes = trace([
        clocks(),
        m().m(1, bundle(0, [event(6_010, 3, 327, generic), event(6_020, 3, 65_540, dense)]).m(11, descriptor)),
        m().m(1, bundle(1, [event(6_015, 3, 327, m().t(1, "something_else"))])),
    ]);
    let mut trace = open(&bytes);
    let key = Some(JobKey::Fence { context: 77, seqno: 5 });
    let both: Vec<Event> = events(&mut trace).into_iter().flatten().map(|(event, _)| event).collect();
    assert_eq!(both.iter().map(|event| (event.at_ns, event.key)).collect::<Vec<_>>(), [(5_010, key), (5_020, key)]);
    assert!(both.iter().all(|event| event.family == Family::I915 && event.ring == both[0].ring && event.tid == 3));
    assert_eq!((trace.passed_over(), trace.lost().unreadable), (1, 0));
}

#[test]
fn compact_switches_name_threads() {
    let compact = m()
        .t(5, "idle")
        .t(5, "worker")
        .packed(1, &[6_005, 10])
        .packed(2, &[1, 0])
        .packed(3, &[31, 0])
        .packed(4, &[120, 120])
        .packed(6, &[1, 0]);
    let bytes = trace([clocks(), m().m(1, bundle(0, [queue(6_001, 31, 1), queue(6_010, 31, 2)]).m(4, compact))]);
    let mut trace = open(&bytes);
    // Of a switch they do not say which thread was left: they are no events.
    let names: Vec<(EventKind, u64, String)> =
        events(&mut trace).into_iter().flatten().map(|(event, comm)| (event.kind, event.at_ns, comm)).collect();
    let submit = EventKind::Submit;
    assert_eq!(names, [(submit, 5_001, String::new()), (submit, 5_010, "worker".into())]);
    assert_eq!(trace.lost().unreadable, 0);
}

fn zlib(packets: impl IntoIterator<Item = M>) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&trace(packets)).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn packed_packets_hold_the_same() {
    let packets =
        || vec![clocks(), m().m(1, bundle(0, [queue(6_010, 3, 1)])), m().n(10, 5).m(1, bundle(1, [done(6_020, 1)]))];
    let bytes = trace([m().b(50, &zlib(packets()))]);
    let plain = told(&mut open(&trace(packets())));
    assert_eq!(plain, [(5_010, EventKind::Submit, fence(1)), (5_020, EventKind::Complete, fence(1))]);
    assert_eq!(told(&mut open(&bytes)), plain);
    // By the newer way, and several in one packet.
    let zstd =
        |packets| ruzstd::encoding::compress_to_vec(&trace(packets)[..], ruzstd::encoding::CompressionLevel::Fastest);
    assert_eq!(told(&mut open(&trace([m().b(133, &zstd(packets()))]))), plain);
    let each = packets().into_iter().fold(m(), |of, packet| of.b(50, &zlib([packet])));
    assert_eq!(told(&mut open(&trace([each]))), plain);
    let [first, second, third] = packets().try_into().ok().unwrap();
    let both = m().b(133, &zstd(vec![first])).b(50, &zlib([second])).b(133, &zstd(vec![third]));
    assert_eq!(told(&mut open(&trace([both]))), plain);
    let mut broken = open(&trace([m().b(50, b"no zlib")]));
    assert_eq!((told(&mut broken), broken.lost().unreadable), (vec![], 1));
}

#[test]
fn losses_are_told_by_place_and_number() {
    let stats = |phase, lost: [u64; 2]| {
        let cpus = lost.into_iter().zip(0..).map(|(lost, cpu)| m().n(1, cpu).n(3, lost).n(4, 1).n(8, 2).n(9, 500));
        m().m(34, cpus.fold(m().n(1, phase), |of, cpu| of.m(2, cpu)))
    };
    let bytes = trace([
        clocks(),
        stats(1, [10, 0]),
        m().n(10, 5).m(1, bundle(0, [queue(6_010, 3, 1)])),
        m().n(10, 5).m(1, bundle(0, [done(6_030, 1)]).n(3, 1)),
        m().n(10, 5).m(1, bundle(1, [done(6_020, 2)]).m(8, m().n(1, 1).n(2, 7))).n(42, 1),
        stats(2, [15, 7]),
    ]);
    let mut trace = open(&bytes);
    assert_eq!(times(&mut trace), [Some(5_010), None, Some(5_020), None, Some(5_030)]);
    let lost = trace.lost();
    assert_eq!((lost.counted, lost.gaps, lost.errors, lost.unreadable), (Some(12), 2, 1, 0));
}

/// The times of all events; a loss has none.
fn times(trace: &mut PerfettoTrace) -> Vec<Option<u64>> {
    events(trace).iter().map(|of| of.as_ref().map(|(event, _)| event.at_ns)).collect()
}

#[test]
fn the_mark_of_a_sequences_first_packet_tells_of_no_loss_and_that_of_others_does() {
    let of = |sequence, cpu, event| m().n(10, sequence).m(1, bundle(cpu, [event]));
    let dropped = |packet: M| packet.n(42, 1);
    let mut of_two = open(&trace([
        clocks(),
        dropped(of(5, 0, queue(6_010, 3, 1))),
        dropped(of(6, 1, done(6_020, 1))),
        of(5, 0, queue(6_030, 3, 2)),
        // Without a sequence nothing can be lost of it.
        dropped(m().m(1, bundle(2, [done(6_040, 2)]))),
        dropped(m().m(1, bundle(2, [done(6_050, 2)]))),
    ]));
    assert_eq!(times(&mut of_two), [5_010, 5_020, 5_030, 5_040, 5_050].map(Some));
    assert_eq!(of_two.lost().gaps, 0);
    // The mark may stand on any packet of the sequence, and the first one may be of another kind. Of one without events it does not matter.
    let mut lost = open(&trace([
        clocks(),
        dropped(m().n(10, 5).m(11, m().n(9, 3))),
        dropped(of(5, 0, queue(6_010, 3, 1))),
        dropped(m().n(10, 5).m(11, m().n(9, 3))),
        of(5, 1, done(6_020, 1)),
        m().n(10, 7).m(11, m().n(9, 3)),
        dropped(m().n(10, 7).m(11, m().n(9, 3))),
        of(5, 1, done(6_030, 2)),
        // It may be the last there is.
        m().n(10, 5).n(42, 256).m(11, m().n(9, 3)),
    ]));
    assert_eq!(times(&mut lost), [None, Some(5_010), None, Some(5_020), Some(5_030), None]);
    assert_eq!(lost.lost().gaps, 3);
}

#[test]
fn a_bundle_that_lost_events_and_holds_none_tells_of_the_loss() {
    let empty = || m().n(10, 5).m(1, m().n(1, 0).n(3, 1));
    let of = |cpu, event| m().n(10, 5).m(1, bundle(cpu, [event]));
    let mut trace_of = open(&trace([clocks(), of(0, queue(6_010, 3, 1)), empty(), of(0, done(6_020, 1))]));
    assert_eq!(times(&mut trace_of), [Some(5_010), None, Some(5_020)]);
    assert_eq!(trace_of.lost().gaps, 1);
    let mut at_the_end = open(&trace([clocks(), of(0, queue(6_010, 3, 1)), empty()]));
    assert_eq!(times(&mut at_the_end), [Some(5_010), None]);
    assert_eq!(at_the_end.lost().gaps, 1);
    // Packets that cannot be read may have held events.
    let broken = || M(vec![0x0a, 4, 0x0a, 200, 1, 1]);
    let whole = [trace([clocks(), of(0, queue(6_010, 3, 1))]), broken().0, trace([of(0, done(6_020, 1))])].concat();
    let mut trace_of = open(&whole);
    assert_eq!(times(&mut trace_of), [Some(5_010), None, Some(5_020)]);
    assert_eq!((trace_of.lost().gaps, trace_of.lost().unreadable), (0, 1));
}

#[test]
fn names_are_bounded_and_what_is_left_out_is_counted() {
    const ROOM: u64 = 1 << 18;
    let thread = |tid, name: &str| m().m(2, m().n(1, tid).n(3, 1).t(2, name));
    let mut tree = thread(1, &"long".repeat(10_000));
    (2..ROOM + 4).for_each(|tid| tree.0.extend(thread(tid, "t").0));
    let path = m().m(1, m().n(1, ROOM + 4).t(3, &format!("/{}/program", "dir".repeat(100))));
    let bytes = trace([clocks(), m().m(2, path), m().m(2, tree), m().m(1, bundle(0, [queue(6_010, 1, 1)]))]);
    let mut trace = open(&bytes);
    let (mut threads, mut longest, mut program) = (0, 0, String::new());
    while let Some(item) = trace.next_item() {
        if let Item::Task { tid, comm, .. } = item {
            (threads, longest) = (threads + 1, longest.max(comm.len()));
            if u64::from(tid) == ROOM + 4 {
                program = comm.to_string();
            }
        }
    }
    assert_eq!((threads, longest, program.as_str()), (ROOM, 128, "program"));
    assert_eq!(trace.lost().nameless, 4);
}

#[test]
fn other_clocks_are_brought_to_monotonic_or_it_is_said() {
    let of = |clock: M| {
        trace([
            clocks(),
            m().m(1, bundle(0, [queue(4_700, 3, 1)])),
            m().n(10, 7).m(1, M([bundle(1, [done(4_800, 1)]).0, clock.0].concat())),
        ])
    };
    let at = |trace: &mut PerfettoTrace| told(trace).iter().map(|(at, ..)| *at).collect::<Vec<_>>();
    assert_eq!(at(&mut open(&of(m().n(5, 4)))), [3_700, 5_200]);
    // `local`, which was 4900 when CLOCK_BOOTTIME was 7000.
    assert_eq!(at(&mut open(&of(m().n(5, 3).n(6, 4_900).n(7, 7_000)))), [3_700, 5_900]);
    assert!(!open(&of(m().n(5, 1))).is_monotonic());
    let mut none = open(&trace([m().m(1, bundle(0, [queue(4_700, 3, 1)]))]));
    assert!(!none.is_monotonic() && none.clocks().is_none());
    assert_eq!(at(&mut none), [4_700]);
}

#[test]
fn cut_or_broken_anywhere_the_intact_part_is_read() {
    let mut packets = vec![clocks()];
    packets.extend((0..40).map(|i| m().m(1, bundle(i % 4, [queue(6_000 + 10 * i, 3, i), done(6_005 + 10 * i, i)]))));
    let whole = trace(packets);
    let all = told(&mut open(&whole));
    assert_eq!(all.len(), 80);
    for length in 30..whole.len() {
        let mut cut = open(&whole[..length]);
        let left = told(&mut cut);
        assert_eq!(left, all[..left.len()], "cut at {length}");
        // All packets but the first are of one length, save for the length of numbers.
        assert!(left.len() >= (length.saturating_sub(60) / 90) * 2, "{} events of {length} bytes", left.len());
        let is_between = cut.faults().is_empty();
        assert!(is_between || cut.faults()[0].is_cut, "{:?}", cut.faults());
    }
    // A generator without state to seed: xorshift64.
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = (random % bytes.len() as u64) as usize;
            bytes[at] = (random >> 32) as u8;
        }
        let Ok(mut trace) = PerfettoTrace::read(Path::new("broken"), Box::new(bytes)) else { continue };
        let mut decoder = Decoder::new();
        while let Some(item) = trace.next_item() {
            match item {
                Item::Format(format) => {
                    decoder.add_format(format);
                }
                Item::Record(record) => {
                    decoder.decode(record);
                }
                Item::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
                Item::Lost => {}
            }
        }
    }
}
