//! `uevent` files and `dev` files of devices.
#![no_main]

use gpuscope_gpu::fuzzing::{device_number, uevent_pci_id, uevent_value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for key in ["DRIVER", "PCI_ID", "PCI_SLOT_NAME", "PCI_CLASS", "DEVNAME"] {
        if let Some(value) = uevent_value(text, key) {
            assert!(text.contains(value) && !value.contains('\n'));
        }
    }
    let _ = (uevent_pci_id(text), device_number(text));
});
