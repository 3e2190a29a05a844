//! sysfs files of one number or word.
#![no_main]

use gpuscope_gpu::fuzzing::{parse_autosuspend_ms, parse_control, parse_i64, parse_u64};
use gpuscope_model::{RuntimeStatus, ThrottleReason};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(number) = parse_u64(text) {
        assert_eq!(parse_u64(&number.to_string()), Some(number));
        assert_eq!(parse_i64(text).map(i128::from), i64::try_from(number).ok().map(i128::from));
    }
    let _ = (parse_autosuspend_ms(text), parse_control(text), RuntimeStatus::parse(text));
    let _ = ThrottleReason::from_kernel(text);
});
