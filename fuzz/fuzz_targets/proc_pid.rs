//! What `/proc` says about processes: `PID/stat`, the mount's options, the PID namespace.
#![no_main]

use gpuscope_gpu::fuzzing::{hides_processes, is_inner_namespace, parse_stat};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_stat(text);
    let _ = is_inner_namespace(text);
    let (mountinfo, status) = text.split_once('\0').unwrap_or((text, ""));
    let _ = hides_processes(mountinfo, "/proc", status);
});
