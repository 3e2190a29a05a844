//! The operating system, as far as gpuscope touches it: where its trees are ([`Roots`]), kernel files held open
//! ([`KernelFile`]), the monotonic clock, perf events ([`perf`]), and with the feature `bpf` BPF programs (`bpf`).
//!
//! All `unsafe` of the project lives here. This crate decides nothing, and of what it reads parses only
//! what belongs to a BPF program.

#[cfg(feature = "bpf")]
pub mod bpf;
mod clock;
mod error;
mod file;
pub mod perf;
mod roots;

pub use clock::monotonic_ns;
pub use error::Error;
pub use file::{KernelFile, list_dir, read_link_name, read_text};
pub use roots::Roots;
