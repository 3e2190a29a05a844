//! perf's files: no more comes out than stands in them, and reading ends.
#![no_main]

use gpuscope_trace::foreign::perf_data::{Item, PerfData};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = PerfData::read(Path::new("fuzzed"), Box::new(bytes.to_vec())) else { return };
    let mut ended = false;
    // What is packed a thousandfold is read for long.
    for _ in 0..10_000 {
        match file.next_item() {
            Some(Item::Record(record)) => assert!(record.data.len() < 1 << 16),
            Some(Item::Task { comm, .. }) => assert!(comm.len() <= 3 << 16),
            Some(Item::Lost) => {}
            None => {
                ended = true;
                break;
            }
        }
    }
    assert!(!ended || file.next_item().is_none(), "it goes on behind its end");
    assert!(file.formats().len() <= bytes.len());
    for fault in file.faults() {
        assert!(fault.at <= bytes.len() as u64 || !fault.is_cut, "cut off behind the end: {fault}");
    }
});
