//! `/proc/PID/cgroup` and the container that a path says: a container's name is never empty, whatever the path.
#![no_main]

use gpuscope_host::{container_of, parse_cgroup};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let found = parse_cgroup(text);
    for path in [found.unified, found.legacy].into_iter().flatten() {
        assert!(path.starts_with('/'), "{path:?}");
    }
    for path in [found.unified, found.legacy, Some(text)].into_iter().flatten() {
        if let Some(container) = container_of(path) {
            let (kind, name) = container.split_once(':').unwrap();
            assert!(!kind.is_empty() && !name.is_empty() && !name.starts_with('/'), "{container:?}");
        }
    }
});
