//! Records come in order of time, however they stand.

use super::*;

#[test]
fn a_record_behind_the_end_of_its_round_is_given_and_counted() {
    let mut writer = RecordingWriter::new(Vec::new(), header(), &[done()]).unwrap();
    put(&mut writer, (10, 0, 0));
    writer.round(20).unwrap();
    put(&mut writer, (15, 1, 1));
    put(&mut writer, (30, 1, 2));
    writer.round(30).unwrap();
    let (given, summary) = read(&writer.finish().unwrap()).unwrap();
    assert_eq!(given, [(10, 0, 0), (15, 1, 1), (30, 1, 2)]);
    assert_eq!(summary.late, 1);
}

#[test]
fn a_record_that_waits_for_a_later_round_keeps_its_place() {
    let mut writer = RecordingWriter::new(Vec::new(), header(), &[done()]).unwrap();
    put(&mut writer, (90, 0, 0));
    put(&mut writer, (20, 1, 1));
    writer.round(25).unwrap();
    put(&mut writer, (40, 0, 2));
    writer.round(50).unwrap();
    writer.round(100).unwrap();
    let (given, summary) = read(&writer.finish().unwrap()).unwrap();
    assert_eq!(given, [(20, 1, 1), (40, 0, 2), (90, 0, 0)]);
    assert_eq!(summary.late, 0);
}

#[test]
fn too_many_records_without_a_round_do_not_wait_for_ever() {
    let mut writer = RecordingWriter::new(Vec::new(), header(), &[done()]).unwrap();
    let records = 50_000u64;
    for n in 0..records {
        put(&mut writer, (n / 2 + 1 + (n & 1) * 100, (n & 1) as u16, n));
    }
    let mut last = 0;
    let bytes = writer.finish().unwrap();
    let recording = Recording::from_reader(Cursor::new(&bytes), Path::new("t")).unwrap();
    let summary = recording
        .items(|item| {
            if let Item::Record(record) = item {
                assert!(record.at_ns >= last);
                last = record.at_ns;
            }
        })
        .unwrap();
    assert_eq!((summary.records, summary.late), (records, 0));
    assert!(summary.hurried > 0);
}

/// Rounds that differ in how far their records are from order, each with a promise that holds: all that comes is later.
#[test]
fn records_come_in_order_however_far_they_were_from_it() {
    let mut parted = 0;
    for seed in 0..12 {
        let mut state = seed;
        let mut rounds: Vec<Vec<Given>> = Vec::new();
        let mut number = 0;
        for round in 0..40_u64 {
            let mut records = Vec::new();
            // In order; now and then one behind the next; a few far behind; processor by processor.
            let disorder = if seed < 4 { seed } else { next(&mut state) % 4 };
            let count = if next(&mut state).is_multiple_of(8) { 9000 } else { next(&mut state) % 100 };
            let mut at_ns = 1000 + round * 10_000;
            for i in 0..count {
                at_ns += next(&mut state) % 3;
                if disorder == 3 && i % (count / 4 + 1) == 0 {
                    at_ns = 1000 + round * 10_000 + next(&mut state) % 20;
                }
                let back = match disorder {
                    1 if next(&mut state).is_multiple_of(30) => next(&mut state) % 4,
                    2 if next(&mut state).is_multiple_of(100) => next(&mut state) % 9000,
                    _ => 0,
                };
                records.push((at_ns.saturating_sub(back).max(1), (i % 5) as u16, number));
                number += 1;
            }
            rounds.push(records);
        }
        let mut expected = rounds.concat();
        expected.sort_by_key(|(at_ns, ..)| *at_ns);
        assert!(whole(&written(&unknown(), &rounds)) == expected, "seed {seed}, unpacked");
        let mut bytes = written(&done(), &rounds);
        assert!(whole(&bytes) == expected, "seed {seed}");
        // As a recorder gives them that does not put them in order.
        let are_parted = part_by_processor(&mut bytes);
        rounds.retain(|records| !records.is_empty());
        assert_eq!(are_parted.len(), rounds.len(), "a frame a round");
        for (records, is_parted) in rounds.iter_mut().zip(are_parted) {
            records.sort_by_key(|(at_ns, cpu, _)| if is_parted { u64::from(*cpu) } else { *at_ns });
            parted += usize::from(is_parted);
        }
        let mut expected = rounds.concat();
        expected.sort_by_key(|(at_ns, ..)| *at_ns);
        assert!(whole(&bytes) == expected, "seed {seed}, parted");
    }
    assert!(parted > 100, "{parted}");
}

/// A recording of rounds that end where nothing earlier comes.
fn written(format: &EventFormat, rounds: &[Vec<Given>]) -> Vec<u8> {
    let mut writer = RecordingWriter::new(Vec::new(), header(), std::slice::from_ref(format)).unwrap();
    for (i, records) in rounds.iter().enumerate() {
        records.iter().for_each(|record| put(&mut writer, *record));
        let later = rounds[i + 1..].iter().flatten().map(|(at_ns, ..)| *at_ns).min().unwrap_or(u64::MAX);
        writer.round(later - 1).unwrap();
    }
    writer.finish().unwrap()
}

/// The records of a recording of which nothing is late, hurried or lost.
fn whole(bytes: &[u8]) -> Vec<Given> {
    let (given, summary) = read(bytes).unwrap();
    assert_eq!((summary.late, summary.hurried, summary.lost, summary.malformed), (0, 0, 0, 0));
    given
}

/// Puts the records of packed frames in the order of their processors. Says of each frame of records whether it was packed.
fn part_by_processor(bytes: &mut [u8]) -> Vec<bool> {
    let mut are_parted = Vec::new();
    for (at, mut head) in frames(bytes) {
        if head.kind == Kind::Packed as u8 {
            let payload = &mut bytes[at + HEAD..][..head.length as usize];
            let start = Tables::parse(payload, 0).unwrap().records_at();
            let mut records: Vec<Vec<u8>> = payload[start..].chunks(SLOT).map(<[u8]>::to_vec).collect();
            records.sort_by_key(|record| record[20]);
            payload[start..].copy_from_slice(&records.concat());
            head.payload_crc = crc32c::crc32c(payload);
            bytes[at..at + HEAD].copy_from_slice(&head.to_bytes());
            are_parted.push(true);
        } else if head.kind == Kind::Records as u8 {
            are_parted.push(false);
        }
    }
    are_parted
}

#[test]
fn of_one_moment_what_was_written_first_comes_first_though_it_waited_alone() {
    let mut writer = RecordingWriter::new(Vec::new(), header(), &[unknown()]).unwrap();
    put(&mut writer, (100, 0, 0));
    put(&mut writer, (50, 1, 1));
    // Ends the frame: after one that is half out of order, records wait one by one until a round is over.
    writer.mark(0, "").unwrap();
    put(&mut writer, (120, 0, 2));
    writer.round(60).unwrap();
    put(&mut writer, (120, 1, 3));
    put(&mut writer, (130, 1, 4));
    writer.round(200).unwrap();
    let (given, summary) = read(&writer.finish().unwrap()).unwrap();
    assert_eq!(given, [(50, 1, 1), (100, 0, 0), (120, 0, 2), (120, 1, 3), (130, 1, 4)]);
    assert_eq!(summary.late, 0);
}
