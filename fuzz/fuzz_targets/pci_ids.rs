//! The system's hwdata file of PCI names.
#![no_main]

use gpuscope_gpu::fuzzing::find_in_pci_ids;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, u16, &str)| {
    let (vendor, device, text) = input;
    let _ = find_in_pci_ids(text, vendor, device);
    let _ = find_in_pci_ids(text, 0x8086, 0x56a0);
});
