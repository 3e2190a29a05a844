//! Pages of the kernel's ring buffer: records lie in their page, in order, and say where they end.
#![no_main]

use gpuscope_trace::ftrace::{End, Page, PageLayout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A text that is a layout is read as a page of that layout, too.
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let layout = PageLayout::parse(text).unwrap_or(PageLayout::USUAL);
    let Some(page) = Page::new(&layout, bytes) else { return };
    let mut records = page.records();
    let mut before = records.position();
    let mut total = 0;
    while let Some(record) = records.next() {
        assert!(records.position() >= before + 4 + record.data.len(), "records overlap");
        assert!(records.position() <= bytes.len().min(layout.page_size()), "a record past the page");
        before = records.position();
        total += record.data.len();
    }
    assert!(total <= bytes.len());
    match records.end() {
        Some(End::Cut(at) | End::Broken(at)) => assert!(at >= before && at <= bytes.len()),
        Some(End::Whole) => {}
        None => panic!("records that end without saying so"),
    }
    assert!(records.next().is_none(), "records after the end");
});
