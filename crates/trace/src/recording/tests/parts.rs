//! Recordings of several parts.

use super::*;

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
