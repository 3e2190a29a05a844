//! Perfetto's traces: no more comes out than stands in them, and reading ends.
#![no_main]

use gpuscope_trace::foreign::perfetto::{Item, PerfettoTrace};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut trace) = PerfettoTrace::read(Path::new("fuzzed"), Box::new(bytes.to_vec())) else { return };
    let mut formats = 0;
    // What is packed a thousandfold is read for long.
    for _ in 0..10_000 {
        match trace.next_item() {
            Some(Item::Format(format)) => {
                formats += 1;
                assert!(usize::from(format.id) == formats && formats <= 4096);
            }
            Some(Item::Record(record)) => assert!(record.id().is_some_and(|id| id != 0 && usize::from(id) <= formats)),
            Some(Item::Task { tid, .. }) => assert!(tid != 0),
            Some(Item::Lost) => {}
            None => break,
        }
    }
    for fault in trace.faults() {
        assert!(fault.at <= bytes.len() as u64, "behind the end: {fault}");
    }
});
