//! xe's throttle reasons and flags.
#![no_main]

use gpuscope_gpu::fuzzing::xe::{parse_flag, parse_reasons, reason};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(reasons) = parse_reasons(text) {
        let named = text.split_ascii_whitespace().filter(|w| *w != "none");
        assert!(named.map(reason).all(|r| reasons.contains(r)), "a reason was lost");
    }
    let _ = parse_flag(text);
});
