//! `/proc/PID` files: `stat`, `statm`, `status`, `cmdline`.
#![no_main]

use gpuscope_host::{parse_cmdline, parse_stat, parse_statm, parse_uid};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Some(stat) = parse_stat(&text) {
        assert!(text.contains(stat.name));
    }
    let _ = parse_statm(&text);
    let _ = parse_uid(&text);
    for limit in [0, 1, 16, 4096] {
        if let Some(line) = parse_cmdline(bytes, limit) {
            // A byte that is no UTF-8 becomes three, and so does the mark of a cut.
            assert!(!line.is_empty() && !line.contains('\0') && line.len() <= 3 * limit + 3);
        }
    }
});
