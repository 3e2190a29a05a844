//! `dmem.current` and `dmem.capacity`: what was read prints as the text that it came from.
#![no_main]

use gpuscope_host::parse_dmem;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(regions) = parse_dmem(text) {
        assert_eq!(regions.len(), text.lines().count());
        for (region, line) in regions.iter().zip(text.lines()) {
            assert!(line.starts_with(region.name.as_str()) && !region.name.is_empty());
            let _ = region.device();
        }
    }
});
