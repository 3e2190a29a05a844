//! What is damaged or cut off costs itself, and is said.

use super::*;

/// How many records of a frame these bytes still hold.
fn whole_records(bytes: &[u8], at: usize, head: &Head) -> usize {
    let payload = bytes.get(at + HEAD..).unwrap_or_default();
    let (begin, record) = match Kind::of(head.kind) {
        Some(Kind::Records) => (0, RECORD_HEAD + 24),
        Some(Kind::Packed) => match Tables::parse(payload, 0) {
            Some(tables) => (tables.records_at(), tables.stride()),
            None => return 0,
        },
        _ => return 0,
    };
    (payload.len().saturating_sub(begin) / record).min(head.count as usize)
}

#[test]
fn cut_off_at_any_byte_all_whole_records_before_the_cut_are_read_and_the_cut_is_said() {
    let (bytes, _) = two_rounds();
    let all_frames = frames(&bytes);
    let header_end = all_frames[1].0;
    for length in 0..bytes.len() {
        let Ok((given, summary)) = read(&bytes[..length]) else {
            assert!(length < header_end, "a header of {header_end} bytes, {length} are there");
            continue;
        };
        let whole = all_frames.iter().map(|(at, head)| whole_records(&bytes[..length], *at, head));
        assert_eq!(given.len(), whole.sum::<usize>(), "cut at {length}");
        assert!(given.is_sorted_by_key(|(at, ..)| *at), "cut at {length}");
        let last = all_frames.iter().rev().find(|(at, _)| *at <= length).unwrap().0;
        let ended = match last == length {
            true => Ended::Open { offset: length as u64 },
            false => Ended::Cut { offset: last as u64 },
        };
        assert_eq!((summary.ended, summary.damage.places), (ended, 0), "cut at {length}");
    }
}

#[test]
fn cut_off_at_200_places_of_a_larger_file_the_part_before_is_kept() {
    // Records that were to be packed stand in order of time, even where that did not make them shorter.
    for (format, is_in_order) in [(done(), true), (unknown(), false)] {
        let (bytes, all) = many(&format);
        assert_eq!(read(&bytes).unwrap().0.len(), all.len());
        let all_frames = frames(&bytes);
        let end = all_frames[1].0;
        let mut state = 2;
        for _ in 0..200 {
            let length = end + next(&mut state) as usize % (bytes.len() - end);
            let (given, summary) = read(&bytes[..length]).unwrap();
            // What is there is a beginning of what was written: all of whole frames, and of one that is cut off those that are whole.
            let (mut written, mut expected) = (all.as_slice(), Vec::new());
            for (at, head) in &all_frames {
                let is_of_records = [Kind::Records, Kind::Packed].map(|kind| kind as u8).contains(&head.kind);
                let count = if is_of_records { head.count as usize } else { 0 };
                let mut frame = written.split_off(..count).unwrap().to_vec();
                if is_in_order {
                    frame.sort_by_key(|(at_ns, ..)| *at_ns);
                }
                expected.extend(frame.into_iter().take(whole_records(&bytes[..length], *at, head)));
            }
            expected.sort_by_key(|(at_ns, ..)| *at_ns);
            assert!(given == expected, "cut at {length}");
            assert!(!matches!(summary.ended, Ended::Finished), "cut at {length}");
        }
    }
}

#[test]
fn zeros_where_the_end_was_to_be_are_no_records() {
    let (bytes, _) = many(&done());
    let all_frames = frames(&bytes);
    let packed = |head: &Head| head.kind == Kind::Packed as u8 && head.count > 30;
    let last = all_frames.iter().rev().find(|(_, head)| packed(head)).unwrap();
    // What was written of a frame when the power went, and as many zeros as were to come.
    for part in [HEAD + 16, HEAD + 70, HEAD + 170, HEAD + 400, HEAD + 411] {
        let mut cut = bytes[..last.0 + part].to_vec();
        let whole: usize = all_frames.iter().map(|(at, head)| whole_records(&cut, *at, head)).sum();
        cut.resize(last.0 + HEAD + last.1.length as usize - 1, 0);
        let (given, summary) = read(&cut).unwrap();
        // The last one may be whole with zeros for its end.
        assert!((whole..=whole + 1).contains(&given.len()), "{} of {whole} at {part}: {summary:?}", given.len());
        assert_eq!((summary.malformed, summary.damage.places), (0, 0), "{part}");
    }
}

#[test]
fn a_wrong_byte_costs_the_frame_that_it_is_in_and_is_counted() {
    let (bytes, all) = many(&done());
    let all_frames = frames(&bytes);
    for kind in [Kind::Packed, Kind::Records] {
        assert!(all_frames.iter().any(|(_, head)| head.kind == kind as u8), "{kind:?}");
    }
    let mut state = 3;
    for _ in 0..200 {
        let mut bytes = bytes.clone();
        let at = next(&mut state) as usize % bytes.len();
        bytes[at] ^= 1 << (next(&mut state) % 8);
        let (i, (start, hit)) = all_frames.iter().enumerate().rev().find(|(_, (start, _))| *start <= at).unwrap();
        let (given, summary) = read(&bytes).unwrap();
        let lost = if hit.has_records() { hit.count } else { 0 };
        assert_eq!(given.len() as u64 + u64::from(lost), all.len() as u64, "byte {at}, frame {i}");
        assert_eq!(summary.lost, u64::from(lost), "byte {at}, frame {i}");
        assert_eq!((summary.damage.places, summary.damage.first_at), (1, Some(*start as u64)), "byte {at}, frame {i}");
        assert_eq!(summary.damage.bytes, (HEAD + hit.length as usize) as u64, "byte {at}, frame {i}");
        // Nothing comes behind the last frame that would tell by its number that one is missing.
        let is_last = i + 1 == all_frames.len();
        assert_eq!(summary.damage.frames, u64::from(!is_last && i > 0), "byte {at}, frame {i}");
    }
}

#[test]
fn bytes_missing_in_the_middle_cost_no_more_than_the_frames_they_are_in() {
    let (bytes, all) = many(&done());
    let all_frames = frames(&bytes);
    let (first, _) = all_frames[100];
    let (last, _) = all_frames[110];
    let cut = [&bytes[..first + 20], &bytes[last + 20..]].concat();
    let (given, summary) = read(&cut).unwrap();
    let lost: u32 = all_frames[100..=110].iter().map(|(_, head)| head.count).sum();
    assert_eq!((given.len() as u64 + u64::from(lost), summary.lost), (all.len() as u64, u64::from(lost)));
    assert_eq!((summary.damage.frames, summary.damage.places), (11, 1));
}

#[test]
fn a_row_that_is_cut_short_by_a_wrong_length_costs_the_rest_of_its_frame() {
    let mut writer = RecordingWriter::new(Vec::new(), header(), &[unknown()]).unwrap();
    (0..10).for_each(|n| put(&mut writer, (n + 1, 0, n)));
    writer.round(20).unwrap();
    let mut bytes = writer.finish().unwrap();
    let (at, mut head) = frames(&bytes).into_iter().find(|(_, head)| head.kind == Kind::Records as u8).unwrap();
    let payload = at + HEAD..at + HEAD + head.length as usize;
    // The length of the eighth record's data, with right checksums.
    bytes[payload.start + 7 * 40 + 10..][..2].copy_from_slice(&u16::MAX.to_le_bytes());
    head.payload_crc = crc32c::crc32c(&bytes[payload]);
    bytes[at..at + HEAD].copy_from_slice(&head.to_bytes());
    let (given, summary) = read(&bytes).unwrap();
    assert_eq!(given, (0..7).map(|n| (n + 1, 0, n)).collect::<Vec<_>>());
    assert_eq!((summary.malformed, summary.lost), (3, 3));
}

#[test]
fn frames_of_unknown_kinds_and_with_unknown_flags_are_passed_over() {
    let (bytes, all) = two_rounds();
    let end = frames(&bytes)[2].0;
    for (kind, flags) in [(99, 0), (Kind::Mark as u8, 1)] {
        let mut head = Head::parse(&bytes).unwrap();
        (head.kind, head.flags, head.length, head.payload_crc) = (kind, flags, 3, crc32c::crc32c(b"abc"));
        let with = [&bytes[..end], &head.to_bytes(), b"abc", &bytes[end..]].concat();
        let (given, summary) = read(&with).unwrap();
        assert_eq!((given, summary.unknown_frames), (all.clone(), 1));
    }
}

#[test]
fn half_a_frame_at_the_end_is_waited_for() {
    let (bytes, all) = two_rounds();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let begin = frames(&bytes)[2].0;
    std::fs::write(&path, &bytes[..begin]).unwrap();
    let mut recording = Recording::open(&path).unwrap();
    let mut given = Vec::new();
    for length in begin..=bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        while matches!(
            recording.step(|item| {
                if let Item::Record(record) = item {
                    given.push(seen(record));
                }
            }),
            Ok(Step::Round(_))
        ) {}
    }
    assert_eq!(given, all);
}
