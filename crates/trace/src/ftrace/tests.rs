#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "tests")]

use super::page::{PADDING, TIME_EXTEND, TIME_STAMP};
use super::*;

/// What `ring_buffer_print_page_header` (kernel/trace/ring_buffer.c, Linux 6.12) prints on amd64.
const HEADER_PAGE: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
                           \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
                           \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
                           \tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";

/// A page as the kernel composes it: the words of its records, and `commit` with the flags added as signed 32-bit numbers.
fn page(time: u64, words: &[u32], flags: i32, behind: &[u8]) -> Vec<u8> {
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let commit = body.len() as i64 + i64::from(flags);
    let mut bytes = [time.to_ne_bytes().as_slice(), &commit.to_ne_bytes(), &body, behind].concat();
    bytes.resize(4096, 0);
    bytes
}

fn head(kind: u32, delta: u32) -> u32 {
    delta << 5 | kind
}

fn read(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, Option<End>) {
    let mut records = Page::new(&PageLayout::USUAL, bytes).unwrap().records();
    let all = records.by_ref().map(|record| (record.at, record.data.to_vec())).collect();
    (all, records.end())
}

#[test]
fn layout_of_amd64() {
    assert_eq!(PageLayout::parse(HEADER_PAGE), Ok(PageLayout::USUAL));
    assert_eq!(PageLayout::parse(HEADER_PAGE).unwrap().page_size(), 4096);
}

#[test]
fn layout_of_a_kernel_of_32_bits_is_refused() {
    let text = HEADER_PAGE.replace("commit;\toffset:8;\tsize:8", "commit;\toffset:8;\tsize:4");
    assert!(PageLayout::parse(&text).unwrap_err().to_string().contains("32 bits"));
}

#[test]
fn layout_without_data_is_refused() {
    let text = HEADER_PAGE.replace("char data", "char dada");
    assert!(PageLayout::parse(&text).unwrap_err().to_string().contains("`data`"));
}

#[test]
fn times_add_up_over_every_type() {
    let long = 1_000_000_000_u64;
    let stamp = 5_000_000_000_000_u64;
    let mut words = vec![head(2, 10), 1, 2];
    // Longer than a type can say: 128 bytes and the word of the length.
    words.extend([head(0, 5), 132, 3]);
    words.extend([0; 31]);
    // A second, then what it is for, of no delta.
    words.extend([head(TIME_EXTEND, long as u32 & 0x7ff_ffff), (long >> 27) as u32, head(1, 0), 4]);
    // Taken back, with its time and without one.
    words.extend([head(PADDING, 7), 8, 0, head(PADDING, 1), 8, 0, head(1, 2), 5]);
    words.extend([head(TIME_STAMP, stamp as u32 & 0x7ff_ffff), (stamp >> 27) as u32, head(1, 3), 6]);
    let (records, end) = read(&page(100, &words, 0, &[]));
    let times: Vec<u64> = records.iter().map(|record| record.0).collect();
    assert_eq!(times, [110, 115, 115 + long, 115 + long + 9, stamp + 3]);
    assert_eq!(records.iter().map(|record| record.1.len()).collect::<Vec<_>>(), [8, 128, 4, 4, 4]);
    let firsts: Vec<u8> = records.iter().map(|record| record.1[0]).collect();
    assert_eq!(firsts, [1, 3, 4, 5, 6]);
    assert_eq!(end, Some(End::Whole));
}

#[test]
fn an_absolute_time_keeps_the_bits_that_it_has_not() {
    let (records, _) = read(&page(0x4800_0000_0000_0001, &[head(TIME_STAMP, 9), 0, head(1, 0), 0], 0, &[]));
    assert_eq!(records[0].0, 0x4800_0000_0000_0009);
}

#[test]
fn padding_ends_a_page() {
    let (records, end) = read(&page(0, &[head(1, 1), 7, head(PADDING, 0), 77, head(1, 1), 8], 0, &[]));
    assert_eq!((records.len(), end), (1, Some(End::Whole)));
}

#[test]
fn missed_events_are_told_with_their_number_where_there_was_room() {
    let words = [head(1, 1), 7];
    let missed = |flags, behind: &[u8]| {
        let bytes = page(0, &words, flags, behind);
        let page = Page::new(&PageLayout::USUAL, &bytes).unwrap();
        assert_eq!(page.records().count(), 1);
        page.missed()
    };
    // RB_MISSED_EVENTS is `1 << 31`, a negative int.
    assert_eq!(missed(i32::MIN, &[]), Missed::Some);
    assert_eq!(missed(i32::MIN + (1 << 30), &4711_u64.to_ne_bytes()), Missed::Events(4711));
    assert_eq!(missed(0, &4711_u64.to_ne_bytes()), Missed::None);
}

#[test]
fn a_page_that_is_cut_gives_what_is_whole() {
    let bytes = page(0, &[head(1, 1), 7, head(1, 1), 8, head(1, 1), 9], 0, &[]);
    for length in 16..16 + 24 {
        let (records, end) = read(&bytes[..length]);
        assert_eq!(records.len(), (length - 16) / 8);
        assert_eq!(end, Some(End::Cut(16 + records.len() * 8)), "cut at {length}");
    }
    assert!(Page::new(&PageLayout::USUAL, &bytes[..15]).is_none());
}

#[test]
fn a_length_that_does_not_fit_is_broken_and_told_where() {
    // Of its own word alone a length is 4 at least.
    let (records, end) = read(&page(0, &[head(1, 1), 7, head(0, 1), 3, 0], 0, &[]));
    assert_eq!((records.len(), end), (1, Some(End::Broken(24))));
    let (records, end) = read(&page(0, &[head(1, 1), 7, head(0, 1), 4000, 0], 0, &[]));
    assert_eq!((records.len(), end), (1, Some(End::Broken(24))));
}

#[test]
fn an_empty_page_has_no_records() {
    assert_eq!(read(&page(5, &[], 0, &[])), (vec![], Some(End::Whole)));
}
