//! Lines of tracefs' text: each is an event, or counted, or a heading.
#![no_main]

use gpuscope_trace::foreign::{detect, text::TextTrace};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = detect(bytes);
    let mut text = TextTrace::new();
    let mut events = 0_u64;
    let read = text.read(bytes, |event| {
        events += 1;
        if let Some(ring) = event.ring {
            assert!(ring.0 as usize <= bytes.len());
        }
    });
    assert!(read.is_ok());
    assert!(events + text.passed_over() + text.unreadable() <= bytes.len() as u64);
});
