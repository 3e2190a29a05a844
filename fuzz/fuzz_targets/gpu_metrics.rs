//! amdgpu's binary table of the firmware's measurements.
#![no_main]

use gpuscope_gpu::fuzzing::metrics::parse_gpu_metrics;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(metrics) = parse_gpu_metrics(bytes) else { return };
    let mut end = 4;
    for entry in metrics.entries() {
        assert!(entry.offset >= end, "fields overlap");
        assert!(entry.offset <= bytes.len());
        end = entry.offset;
        for element in 0..=entry.count() {
            let raw = entry.raw(element);
            assert!(element < entry.count() || raw.is_none(), "an element past the end");
            assert!(entry.value(element).is_none() || raw.is_some(), "a value out of nothing");
        }
    }
    let _ = (metrics.throttle(), metrics.value("temperature_edge"), metrics.find("no such field"));
});
