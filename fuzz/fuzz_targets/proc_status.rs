//! What `/proc/self/status` and `uid_map` say about rights.
#![no_main]

use gpuscope_pmu::parse::{parse_status, parse_uid_map_is_whole};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_status(text);
    let _ = parse_uid_map_is_whole(text);
});
