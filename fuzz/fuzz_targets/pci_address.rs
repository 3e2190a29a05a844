//! PCI addresses as sysfs folders, uevent lines and fdinfo's `drm-pdev` spell them.
#![no_main]

use gpuscope_model::PciAddress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(address) = text.parse::<PciAddress>() {
        let printed = address.to_string();
        assert_eq!(printed.parse(), Ok(address), "an address must survive printing: {text:?}");
    }
});
