//! trace-cmd's files: no more comes out than stands in them, and reading ends.
#![no_main]

use gpuscope_trace::foreign::trace_dat::TraceDat;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = TraceDat::read(Path::new("fuzzed"), Box::new(bytes.to_vec())) else { return };
    let buffers = file.buffers().len();
    assert!(file.formats().len() <= bytes.len() && file.tasks().len() <= bytes.len().saturating_mul(1100));
    // What is packed a thousandfold is read for long.
    for _ in 0..10_000 {
        let Some((buffer, record)) = file.next_record() else { break };
        assert!(buffer < buffers);
        assert!(record.data.len() < 1 << 20);
    }
    for fault in file.faults() {
        assert!(fault.at <= bytes.len() as u64 || !fault.is_cut, "cut off behind the end: {fault}");
    }
});
