use super::*;

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = [bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8];
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// A bundle of so many `dma_fence_signaled` of processor 0, the first at this time.
fn packet(from: u8, count: u8) -> Vec<u8> {
    let signaled = [0x82, 0x1a, 10, 0x08, 7, 0x12, 1, b'd', 0x18, 1, 0x22, 1, b't'];
    let event = |n: u8| field(2, &[&[0x08, from + n, 0x10, 1][..], &signaled].concat());
    let events: Vec<u8> = (0..count).flat_map(event).collect();
    field(1, &field(1, &[&[0x08, 0][..], &events].concat()))
}

fn read(bytes: &[u8], most_open: usize) -> (Vec<Option<u64>>, Lost) {
    let mut trace = PerfettoTrace::read_within(Path::new("composed"), Box::new(bytes.to_vec()), most_open).unwrap();
    let mut told = Vec::new();
    while let Some(item) = trace.next_item() {
        match item {
            Item::Record(record) => told.push(Some(record.at_ns)),
            Item::Lost => told.push(None),
            Item::Format(_) | Item::Task { .. } => {}
        }
        assert!(trace.open_bytes <= most_open.saturating_mul(3) + 4096, "{} bytes", trace.open_bytes);
    }
    (told, trace.lost())
}

#[test]
fn bundles_for_which_there_is_no_room_are_cut_and_it_is_said_where() {
    let bytes = [packet(1, 2), packet(10, 60), packet(80, 2)].concat();
    let (all, lost) = read(&bytes, MOST_OPEN);
    assert_eq!((all.len(), lost.unreadable), (64, 0));
    let (told, lost) = read(&bytes, 1024);
    assert_eq!(lost.unreadable, 1);
    let gap = told.iter().position(Option::is_none).unwrap();
    // The first of the second bundle, and all of the third.
    assert!(gap > 2 && gap < 40, "{told:?}");
    assert_eq!((&told[..gap], &told[gap + 1..]), (&all[..gap], &all[62..]));
    // Of the last one nothing comes behind.
    let (told, lost) = read(&bytes[..bytes.len() - packet(80, 2).len()], 1024);
    assert_eq!((told.last(), lost.unreadable), (Some(&None), 1));
}
