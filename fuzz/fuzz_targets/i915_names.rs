//! Names of i915's engines and events, and its flags.
#![no_main]

use gpuscope_gpu::fuzzing::i915::{parse_engine_event, parse_engine_name, parse_flag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((engine, _)) = parse_engine_event(text) {
        assert!(parse_engine_name(engine).is_some());
        assert!(text.starts_with(engine));
    }
    let _ = (parse_engine_name(text), parse_flag(text));
});
