//! What was written is read back, in order, whatever happens to the file in between.

use super::frame::{HEAD, Head, Kind, RECORD_HEAD};
use super::packed::{SLOT, Tables};
use super::*;
use crate::capture::Backend;
use crate::{EventFormat, RawRecord, RecordSink};
use gpuscope_model::trace::{Dropped, EventKind};
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_sys::Roots;
use std::io::Cursor;
use std::path::Path;

/// gpu_scheduler_trace.h since Linux 6.17.
fn done() -> EventFormat {
    format("drm_sched_job_done")
}

/// The same of an event that is not understood: its records are never packed.
fn unknown() -> EventFormat {
    format("drm_sched_job_gone")
}

fn format(name: &str) -> EventFormat {
    EventFormat::parse(
        "gpu_scheduler",
        &format!(
            "name: {name}\nID: 12\nformat:\n\
         \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
         \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\
         \tfield:u64 fence_context;\toffset:8;\tsize:8;\tsigned:0;\n\
         \tfield:u64 fence_seqno;\toffset:16;\tsize:8;\tsigned:0;\n"
        ),
    )
    .unwrap()
}

fn header() -> Header {
    Header::begin(&Roots::at("/nonexistent"), "gpuscope 0.0.0", Backend::Tracefs)
}

/// A record of [`done`]: thread, and a number to know it by.
fn data(tid: u32, seqno: u64) -> Vec<u8> {
    let mut data = vec![12, 0, 0, 0];
    data.extend_from_slice(&tid.to_ne_bytes());
    data.extend_from_slice(&1u64.to_ne_bytes());
    data.extend_from_slice(&seqno.to_ne_bytes());
    data
}

type Given = (u64, u16, u64);

fn put(sink: &mut impl RecordSink, (at_ns, cpu, seqno): Given) {
    sink.record(RawRecord { at_ns, cpu, data: &data(70, seqno) });
}

fn seen(record: RawRecord<'_>) -> Given {
    (record.at_ns, record.cpu, u64::from_ne_bytes(record.data[16..24].try_into().unwrap()))
}

fn read(bytes: &[u8]) -> Result<(Vec<Given>, Summary), RecordingError> {
    let mut given = Vec::new();
    let summary = Recording::from_reader(Cursor::new(bytes), Path::new("t"))?.items(|item| {
        if let Item::Record(record) = item {
            given.push(seen(record));
        }
    })?;
    assert_eq!(summary.records, given.len() as u64);
    Ok((given, summary))
}

/// Two processors emptied one after the other, twice; the second round has records of the first one's time.
fn two_rounds() -> (Vec<u8>, Vec<Given>) {
    let mut writer = RecordingWriter::new(Vec::new(), header(), &[done()]).unwrap();
    writer.tasks([(70, 7, "glxgears"), (71, 0, "")]).unwrap();
    let rounds: [&[Given]; 2] =
        [&[(10, 0, 0), (30, 0, 1), (50, 0, 2), (20, 1, 3), (30, 1, 4)], &[(60, 0, 5), (45, 1, 6)]];
    for (records, until) in rounds.into_iter().zip([40, 60]) {
        records.iter().for_each(|record| put(&mut writer, *record));
        writer.round(until).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let mut all = rounds.concat();
    all.sort_by_key(|(at, ..)| *at);
    (bytes, all)
}

/// Frames by reading their heads one behind the other.
fn frames(bytes: &[u8]) -> Vec<(usize, Head)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let head = Head::parse(&bytes[at..]).unwrap();
        found.push((at, head));
        at += HEAD + head.length as usize;
    }
    found
}

/// A number that differs from time to time in the same way in every run.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

const ROUNDS: u64 = 150;

/// Many rounds of a few processors each, packed or as they came.
fn many(format: &EventFormat) -> (Vec<u8>, Vec<Given>) {
    let mut state = 1;
    let (mut all, mut writer) =
        (Vec::new(), RecordingWriter::new(Vec::new(), header(), std::slice::from_ref(format)).unwrap());
    for round in 0..ROUNDS {
        for cpu in 0..4 {
            let mut at_ns = round * 1000;
            for _ in 0..next(&mut state) % 20 {
                at_ns += next(&mut state) % 50;
                let record = (at_ns, cpu, all.len() as u64);
                put(&mut writer, record);
                all.push(record);
            }
        }
        writer.round(round * 1000 + 999).unwrap();
    }
    (writer.finish().unwrap(), all)
}

#[test]
fn what_was_written_comes_back_in_order_of_time() {
    let (bytes, all) = two_rounds();
    let (given, summary) = read(&bytes).unwrap();
    assert_eq!(given, all, "records of one moment as they were written");
    assert_eq!((summary.late, summary.lost, summary.malformed, summary.ended), (0, 0, 0, Ended::Finished));
    assert_eq!(summary.damage, Damage::default());
}

#[test]
fn header_coverage_formats_tasks_losses_and_marks_come_back() {
    let why = Why::new(Reason::NotSupported, "6.1 has no device in its records").remedy("record through BPF");
    let reports = [SourceReport::works("drm_sched", None, "5 events"), SourceReport::absent("device", None, why)];
    let mut first = header().covering(&reports);
    first.command = vec!["glxgears".into(), "-info".into()];
    let mut writer = RecordingWriter::new(Vec::new(), first.clone(), &[done()]).unwrap();
    writer.tasks([(70, 7, "glx\u{e9}"), (71, 0, "")]).unwrap();
    let dropped = Dropped { ring_full: 3, table_full: u64::MAX, ..Dropped::default() };
    writer.dropped(5, dropped).unwrap();
    writer.dropped(6, dropped).unwrap();
    writer.mark(7, "slower than 50 ms").unwrap();
    writer.round(8).unwrap();
    let bytes = writer.finish().unwrap();
    let recording = Recording::from_reader(Cursor::new(&bytes), Path::new("t")).unwrap();
    assert_eq!(recording.header(), &first);
    assert_eq!(recording.header().coverage(), reports);
    assert_eq!(recording.formats(), [done()]);
    let mut told = Vec::new();
    let summary = recording
        .items(|item| {
            told.push(match item {
                Item::Format(format) => format!("format {}", format.name),
                Item::Task { tid, pid, comm } => format!("task {tid} {pid} {comm}"),
                Item::Record(_) => "record".into(),
                Item::Dropped { at_ns, dropped } => format!("dropped {at_ns} {}", dropped.ring_full),
                Item::Mark { at_ns, text } => format!("mark {at_ns} {text}"),
                Item::Round(until) => format!("round {until}"),
            });
        })
        .unwrap();
    let expected = [
        "format drm_sched_job_done",
        "task 70 7 glx\u{e9}",
        "task 71 0 ",
        "dropped 5 3",
        "mark 7 slower than 50 ms",
        "round 8",
    ];
    assert_eq!(told, expected, "losses that did not change are told once");
    assert_eq!(summary.dropped, dropped);
}

#[test]
fn events_come_decoded() {
    let (bytes, all) = two_rounds();
    let mut decoder = crate::Decoder::new();
    let mut events = Vec::new();
    let recording = Recording::from_reader(Cursor::new(&bytes), Path::new("t")).unwrap();
    recording.events(&mut decoder, |event| events.push(event)).unwrap();
    assert_eq!(
        events.iter().map(|event| event.at_ns).collect::<Vec<_>>(),
        all.iter().map(|(at, ..)| *at).collect::<Vec<_>>()
    );
    assert!(events.iter().all(|event| (event.kind, event.tid, event.pid) == (EventKind::Complete, 70, 7)));
    assert_eq!(decoder.names().get(events[0].comm), "glxgears");
}

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
fn a_window_has_the_records_of_that_time_alone() {
    let (bytes, all) = many(&done());
    let mut recording = Recording::from_reader(Cursor::new(&bytes), Path::new("t")).unwrap();
    recording.set_window(50_500, 100_500);
    let mut given = Vec::new();
    let summary = recording
        .items(|item| {
            if let Item::Record(record) = item {
                given.push(seen(record));
            }
        })
        .unwrap();
    let mut expected: Vec<_> = all.into_iter().filter(|(at, ..)| (50_500..=100_500).contains(at)).collect();
    expected.sort_by_key(|(at, ..)| *at);
    assert_eq!(given, expected);
    assert_eq!((summary.ended, summary.lost), (Ended::Window, 0));
}

#[test]
fn of_several_windows_frames_between_are_not_read() {
    let (bytes, all) = many(&done());
    let (windows, mut given) = ([(20_000, 21_000), (50_500, 60_500), (100_000, 100_500)], Vec::new());
    let mut recording = Recording::from_reader(Cursor::new(&bytes), Path::new("t")).unwrap();
    recording.set_windows(&windows);
    let summary = recording
        .items(|item| {
            if let Item::Record(record) = item {
                given.push(seen(record));
            }
        })
        .unwrap();
    let is_wanted = |at: u64| windows.iter().any(|(from, to)| (*from..=*to).contains(&at));
    let mut expected: Vec<_> = all.iter().filter(|(at, ..)| is_wanted(*at)).copied().collect();
    expected.sort_by_key(|(at, ..)| *at);
    let read = given.len();
    given.retain(|(at, ..)| is_wanted(*at));
    assert_eq!(given, expected);
    let hull = all.iter().filter(|(at, ..)| (20_000..=100_500).contains(at)).count();
    assert!(read < hull / 2, "{read} of {hull}");
    assert_eq!((summary.ended, summary.lost), (Ended::Window, 0));
}

#[test]
fn a_file_is_read_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let mut file = RecordingFile::create(&path, header(), &[done()], CreateOptions::default()).unwrap();
    let mut recording = Recording::open(&path).unwrap();
    let mut given = Vec::new();
    let mut step = |recording: &mut Recording| {
        let mut new = Vec::new();
        let step = recording
            .step(|item| {
                if let Item::Record(record) = item {
                    new.push(seen(record).2);
                }
            })
            .unwrap();
        given.extend_from_slice(&new);
        (step, new)
    };
    assert_eq!(step(&mut recording), (Step::Idle, vec![]));
    for round in 0..5 {
        put(&mut file, (round * 10 + 1, 0, round));
        assert_eq!(step(&mut recording), (Step::Idle, vec![]), "not written yet");
        file.round(round * 10 + 5).unwrap();
        assert_eq!(step(&mut recording), (Step::Round(round * 10 + 5), vec![round]));
        assert_eq!(step(&mut recording), (Step::Idle, vec![]));
    }
    file.finish().unwrap();
    assert_eq!(step(&mut recording), (Step::End, vec![]));
    assert_eq!(recording.finish(|_| {}).ended, Ended::Finished);
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

/// A bounded recording of so many records, in a fresh folder.
fn bounded(records: u64) -> (tempfile::TempDir, std::path::PathBuf, u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let most = 8 << 20;
    let options = CreateOptions { max_bytes: Some(most), force: false };
    let mut file = RecordingFile::create(&path, header(), &[done()], options).unwrap();
    file.tasks([(70, 7, "glxgears")]).unwrap();
    file.dropped(1, Dropped { filtered: 9, ..Dropped::default() }).unwrap();
    for n in 0..records {
        put(&mut file, (n + 1, 0, n));
        if n % 5000 == 4999 {
            file.round(n + 1).unwrap();
            let used: u64 =
                std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            assert!(used <= most, "{used} of {most} bytes");
        }
    }
    assert_eq!(file.records(), records);
    file.finish().unwrap();
    (dir, path, records)
}

#[test]
fn a_bounded_recording_keeps_the_newest_and_counts_what_it_pushed_out() {
    let (dir, path, records) = bounded(600_000);
    let mut given = Vec::new();
    let recording = Recording::open(&path).unwrap();
    assert!(recording.header().part > 0);
    let summary = recording
        .items(|item| {
            if let Item::Record(record) = item {
                given.push(seen(record).2);
            }
        })
        .unwrap();
    assert_eq!(summary.rotated_out + given.len() as u64, records);
    assert_eq!(given, (summary.rotated_out..records).collect::<Vec<_>>());
    assert_eq!((summary.lost, summary.ended, summary.dropped.filtered), (0, Ended::Finished, 9));
    assert_eq!(summary.damage, Damage::default());
    assert!(given.len() * SLOT > 6 << 20, "three quarters of the bound: {} records", given.len());
    // Each part says all that it takes to understand it.
    let mut decoder = crate::Decoder::new();
    let mut events = Vec::new();
    let part = Recording::open(dir.path().join("t.2")).unwrap();
    let summary = part.events(&mut decoder, |event| events.push(event)).unwrap();
    assert_eq!((summary.ended, events.is_empty()), (Ended::PartMissing, false));
    assert!(events.iter().all(|event| event.pid == 7));
}

#[test]
fn a_part_missing_in_the_middle_is_counted() {
    let (dir, path, records) = bounded(180_000);
    let all = Recording::open(&path).unwrap().items(|_| {}).unwrap();
    assert_eq!(all.records, records, "four parts have room for all");
    std::fs::remove_file(dir.path().join("t.1")).unwrap();
    let end = Recording::open(&path).unwrap().items(|_| {}).unwrap();
    assert_eq!((end.rotated_out + end.records, end.lost), (records, 0), "only what follows the gap is read");
}

#[test]
fn a_part_cut_off_is_followed_by_the_next() {
    let (dir, path, records) = bounded(180_000);
    let middle = dir.path().join("t.1");
    let bytes = std::fs::read(&middle).unwrap();
    std::fs::write(&middle, &bytes[..bytes.len() / 2]).unwrap();
    let summary = Recording::open(&path).unwrap().items(|_| {}).unwrap();
    assert_eq!((summary.records + summary.lost, summary.ended), (records, Ended::Finished));
    assert!(summary.lost > 0 && summary.damage.places == 1, "{summary:?}");
}

#[test]
fn a_follower_goes_on_in_the_next_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let options = CreateOptions { max_bytes: Some(8 << 20), force: false };
    let mut file = RecordingFile::create(&path, header(), &[done()], options).unwrap();
    let mut recording = Recording::open(&path).unwrap();
    let mut given = 0;
    let mut follow = |recording: &mut Recording| {
        while let Step::Round(_) = recording
            .step(|item| {
                if let Item::Record(record) = item {
                    assert_eq!(seen(record).2, given);
                    given += 1;
                }
            })
            .unwrap()
        {}
        given
    };
    for n in 0..300_000 {
        put(&mut file, (n + 1, 0, n));
        if n % 10_000 == 9_999 {
            file.round(n + 1).unwrap();
            assert_eq!(follow(&mut recording), n + 1);
        }
    }
    file.finish().unwrap();
    follow(&mut recording);
    assert_eq!(recording.finish(|_| {}).ended, Ended::Finished);
}

fn error_of(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    assert!(error_of(b"PERFILE2 and so on").starts_with("t: not a gpuscope recording (it is a perf.data); "));
    assert!(error_of(b"").starts_with("t: not a gpuscope recording (it is an empty file); "));
    assert!(error_of(b"hello").starts_with("t: not a gpuscope recording; "));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let (mut bytes, _) = two_rounds();
    let mut head = Head::parse(&bytes).unwrap();
    head.version = 3;
    bytes[..HEAD].copy_from_slice(&head.to_bytes());
    assert!(error_of(&bytes).starts_with("t: the recording has version 3 and this gpuscope reads 2; "));
}

#[test]
fn a_recording_of_the_first_version_is_read() {
    // It had all that this one has but packed records.
    let (mut bytes, all) = many(&unknown());
    for (at, mut head) in frames(&bytes) {
        assert_ne!(head.kind, Kind::Packed as u8);
        head.version = 1;
        bytes[at..at + HEAD].copy_from_slice(&head.to_bytes());
    }
    let (given, summary) = read(&bytes).unwrap();
    assert_eq!((given.len(), summary.unknown_frames), (all.len(), 0));
}

#[test]
fn a_header_survives_in_its_copy() {
    let (bytes, all) = two_rounds();
    let second = frames(&bytes)[1].0;
    let mut one = bytes.clone();
    one[HEAD + 5] ^= 1;
    assert_eq!(read(&one).unwrap().0, all);
    one[second + HEAD + 5] ^= 1;
    assert!(error_of(&one).contains("both copies of it are damaged"));
}

#[test]
fn another_recording_in_the_same_file_is_refused() {
    let (one, _) = two_rounds();
    let open = &one[..frames(&one).last().unwrap().0];
    let two = RecordingWriter::new(Vec::new(), header(), &[]).unwrap().finish().unwrap();
    let error = error_of(&[open, &two].concat());
    assert!(error.starts_with(&format!("t: another recording begins at byte {}", open.len())), "{error}");
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

#[test]
fn only_a_recording_is_replaced_unless_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let create = |force| RecordingFile::create(&path, header(), &[], CreateOptions { max_bytes: None, force });
    let message = |result: Result<RecordingFile, RecordingError>| result.unwrap_err().to_string();
    std::fs::write(&path, "a letter").unwrap();
    assert!(message(create(false)).contains("a file that is no recording stands there; name another file, or"));
    assert_eq!(std::fs::read(&path).unwrap(), b"a letter");
    let writing = create(true).unwrap();
    assert!(message(create(true)).contains("another recording is being written there; stop that one"));
    writing.finish().unwrap();
    create(false).unwrap().finish().unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let link = dir.path().join("l");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let options = CreateOptions { max_bytes: None, force: true };
        assert!(message(RecordingFile::create(&link, header(), &[], options)).contains("a symbolic link stands there"));
    }
    let small = CreateOptions { max_bytes: Some(1000), force: false };
    assert!(message(RecordingFile::create(&path, header(), &[], small)).contains("allow 8388608 or more"));
}

#[test]
fn an_error_of_the_disk_is_told_by_the_round() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
            }
            let n = bytes.len().min(self.0);
            self.0 -= n;
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut writer = RecordingWriter::new(Full(300_000), header(), &[]).unwrap();
    (0..100_000).for_each(|n| put(&mut writer, (n, 0, n)));
    assert_eq!(writer.round(1).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(writer.round(2).unwrap_err().kind(), std::io::ErrorKind::StorageFull, "and stays");
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
