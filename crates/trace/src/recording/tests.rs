//! What was written is read back, in order, whatever happens to the file in between.

mod damage;
mod order;
mod parts;

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
