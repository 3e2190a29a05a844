use super::*;
use crate::capture::Backend;
use crate::recording::{Ended, Item, Recording, Summary};
use gpuscope_sys::Roots;

const SECOND: u64 = 1_000_000_000;

fn format() -> EventFormat {
    let text = "name: drm_sched_job_done\nID: 7\nformat:\n\tfield:u16 common_type;\toffset:0;\tsize:2;\tsigned:0;\n";
    EventFormat::parse("gpu_scheduler", text).unwrap()
}

/// What a file holds: times of records, marks and losses in the order in which they are read.
#[derive(Debug, Default, PartialEq)]
struct Read {
    times: Vec<u64>,
    marks: Vec<(u64, String)>,
    dropped: Vec<(u64, u64)>,
    tasks: Vec<(u32, u32, String)>,
}

fn save(ring: &mut FlightRing, marks: &[(u64, String)]) -> (Header, Read, Summary) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flight");
    let mut header = Header::begin(&Roots::at(dir.path()), "gpuscope test", Backend::Bpf);
    (header.started.monotonic_ns, header.started.realtime_ns) = (5 * SECOND, Some(1_000 * SECOND));
    ring.snapshot(0).save(&path, header, marks).unwrap();
    let recording = Recording::open(&path).unwrap();
    let header = recording.header().clone();
    let mut read = Read::default();
    let summary = recording
        .items(|item| match item {
            Item::Record(record) => {
                assert_eq!(record.data.get(2..10), Some(record.at_ns.to_ne_bytes().as_slice()));
                read.times.push(record.at_ns);
            }
            Item::Mark { at_ns, text } => read.marks.push((at_ns, text.to_string())),
            Item::Dropped { at_ns, dropped } => read.dropped.push((at_ns, dropped.ring_full)),
            Item::Task { tid, pid, comm } => read.tasks.push((tid, pid, comm.to_string())),
            _ => {}
        })
        .unwrap();
    assert_eq!((summary.ended, summary.lost, summary.late), (Ended::Finished, 0, 0));
    (header, read, summary)
}

fn put(ring: &mut FlightRing, at_ns: u64, length: usize) {
    let mut data = vec![0; length.max(10)];
    data[..2].copy_from_slice(&7_u16.to_ne_bytes());
    data[2..10].copy_from_slice(&at_ns.to_ne_bytes());
    ring.record(RawRecord { at_ns, cpu: 0, data: &data });
}

#[test]
fn a_saved_flight_holds_the_last_seconds_and_nothing_else() {
    let mut ring = FlightRing::new(10 * SECOND, LEAST_BYTES, 1, &[format()]);
    ring.task(11, 10, "game");
    for tenth in 1..=300 {
        put(&mut ring, tenth * SECOND / 10, 64);
        ring.round(tenth * SECOND / 10);
    }
    let marks = [(29 * SECOND, "job slower than 50ms".to_string())];
    let (header, read, _) = save(&mut ring, &marks);
    assert_eq!(read.times, (200..=300).map(|tenth| tenth * SECOND / 10).collect::<Vec<_>>());
    assert_eq!((read.marks, read.tasks), (marks.to_vec(), vec![(11, 10, "game".to_string())]));
    // One moment on two clocks, moved alike.
    assert_eq!((header.started.monotonic_ns, header.started.realtime_ns), (20 * SECOND, Some(1_015 * SECOND)));
    assert_eq!((ring.records(), ring.pushed_out()), (300, 0));
    assert_eq!(ring.snapshot(25 * SECOND).from_ns(), 25 * SECOND);
}

#[test]
fn a_flight_shorter_than_its_span_begins_where_the_capture_did() {
    let mut ring = FlightRing::new(10 * SECOND, LEAST_BYTES, 2 * SECOND, &[format()]);
    put(&mut ring, 4 * SECOND, 64);
    ring.round(5 * SECOND);
    assert_eq!(save(&mut ring, &[]).0.started.monotonic_ns, 2 * SECOND);
}

#[test]
fn memory_is_bounded_and_what_goes_for_want_of_it_is_counted() {
    let mut ring = FlightRing::new(3600 * SECOND, LEAST_BYTES, 1, &[format()]);
    let records = 3 * LEAST_BYTES as u64 / 1_000;
    for at_ns in 1..=records {
        put(&mut ring, at_ns, 1_000);
        assert!(ring.bytes() <= LEAST_BYTES, "{}", ring.bytes());
        if at_ns % 100 == 0 {
            ring.round(at_ns);
        }
    }
    ring.round(records);
    let (header, read, _) = save(&mut ring, &[]);
    // Without a gap from where it says that it is complete.
    assert_eq!(read.times, (ring.complete_from_ns()..=records).collect::<Vec<_>>());
    assert_eq!(header.started.monotonic_ns, ring.complete_from_ns());
    assert_eq!(ring.pushed_out() + read.times.len() as u64, records);
    assert!(read.times.len() * 1_000 > LEAST_BYTES * 8 / 10, "most of the room is used: {}", read.times.len());
}

#[test]
fn losses_are_those_of_the_span() {
    let mut ring = FlightRing::new(10 * SECOND, LEAST_BYTES, 1, &[format()]);
    let lost = |ring_full| Dropped { ring_full, ..Dropped::default() };
    for second in 1..=30 {
        put(&mut ring, second * SECOND, 64);
        let so_far = [(3, 40), (15, 47), (25, 49), (28, 54)].into_iter().rfind(|(at, _)| *at <= second);
        ring.dropped(second * SECOND, lost(so_far.map_or(0, |(_, n)| n)));
        ring.round(second * SECOND);
    }
    let (_, read, summary) = save(&mut ring, &[]);
    assert_eq!(read.dropped, [(25 * SECOND, 2), (28 * SECOND, 7)]);
    assert_eq!(summary.dropped, lost(7));
}

#[test]
fn time_goes_on_without_records() {
    let mut ring = FlightRing::new(10 * SECOND, LEAST_BYTES, 1, &[format()]);
    put(&mut ring, SECOND, 64);
    put(&mut ring, 15 * SECOND, 64);
    ring.round(20 * SECOND);
    assert_eq!(save(&mut ring, &[]).1.times, [15 * SECOND]);
    ring.round(60 * SECOND);
    assert_eq!(save(&mut ring, &[]).1.times, [0; 0]);
}
