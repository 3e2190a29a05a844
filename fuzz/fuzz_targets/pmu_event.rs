//! Files of a PMU's `events/`.
#![no_main]

use gpuscope_pmu::parse::parse_event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(terms) = parse_event(text) {
        assert!(!terms.is_empty() && terms.iter().all(|t| !t.name.is_empty()));
    }
});
