//! debugfs `clients`: each line behind the header is a client or is counted.
#![no_main]

use gpuscope_host::parse_debugfs_clients;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(found) = parse_debugfs_clients(text) {
        assert_eq!(found.clients.len() + found.unread_lines + 1, text.lines().count());
        assert!(found.clients.iter().all(|c| c.process != Some(0) && c.thread != Some(0)));
    }
});
