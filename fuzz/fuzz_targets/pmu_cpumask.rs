//! CPU lists: bounded, ascending, without repeats.
#![no_main]

use gpuscope_pmu::parse::parse_cpumask;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(cpus) = parse_cpumask(text) {
        assert!(cpus.len() <= 65_536);
        assert!(cpus.windows(2).all(|pair| pair[0] < pair[1]));
    }
});
