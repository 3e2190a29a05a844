//! Scales and types of PMU events.
#![no_main]

use gpuscope_pmu::parse::{parse_scale, parse_u64};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(scale) = parse_scale(text) {
        assert!(scale.is_finite() && scale > 0.0);
    }
    if let Ok(number) = parse_u64(text) {
        assert_eq!(parse_u64(&number.to_string()), Ok(number));
    }
});
