//! i915's 32-bit residency made 64 bits wide: whatever the hardware says, it does not step back.
#![no_main]

use gpuscope_gpu::fuzzing::i915::Residency;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut residency = Residency::default();
    let mut last = 0;
    for ms in bytes.as_chunks().0 {
        let total = residency.add(u32::from_le_bytes(*ms));
        assert!(total >= last, "{total} after {last}");
        last = total;
    }
});
