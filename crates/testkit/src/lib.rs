//! Support for tests: trees of kernel files in a temporary folder ([`Tree`]), whole machines composed from what the kernel prints
//! ([`machines`]), captured machines of others ([`captured()`]), comparison with golden files ([`golden()`]).
//!
//! For `dev-dependencies` only. Everything here panics where something is wrong: that is a failed test.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failing fixture is a failing test")]

mod captured;
mod golden;
pub mod machines;
mod tree;

pub use captured::{Captured, captured, captured_names};
pub use golden::golden;
pub use tree::Tree;
