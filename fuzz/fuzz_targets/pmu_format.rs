//! Files of a PMU's `format/`: a value lands on the term's bits and on no others.
#![no_main]

use gpuscope_pmu::parse::parse_format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &str)| {
    let (value, text) = input;
    let Ok(format) = parse_format(text) else { return };
    let mask = format.mask();
    assert!(format.ranges.iter().all(|r| r.low() <= r.high() && r.high() < 64 && r.width() <= 64));
    if let Some(word) = format.place(value) {
        assert_eq!(word & !mask, 0, "a value spilt over its term's bits");
    }
    assert_eq!(format.place(0), Some(0));
});
