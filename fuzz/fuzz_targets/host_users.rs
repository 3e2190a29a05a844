//! Names of users in a passwd file.
#![no_main]

use gpuscope_host::Users;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let users = Users::parse(text);
    for uid in [0, 1000, u32::MAX] {
        assert!(users.name(uid).is_none_or(|name| !name.is_empty() && !name.contains(':')));
    }
});
