//! amdgpu's levels of clocks, its percentages, and the fusion driver's nodes.
#![no_main]

use gpuscope_gpu::fuzzing::amdgpu::{clocks, levels, parse_percent};
use gpuscope_gpu::fuzzing::kfd::{gpu_of_file, pci_address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let all = clocks(text);
    assert!(all.lowest <= all.highest, "the ends are turned round");
    for level in levels(text) {
        assert!(level.gigatransfers.is_none_or(f64::is_finite));
    }
    if let Some(current) = all.current {
        assert!(levels(text).any(|l| l.current && l.megahertz == Some(current)));
    }
    assert!(parse_percent(text).is_none_or(|p| p <= 100));
    let _ = (gpu_of_file(text), pci_address(text));
});
