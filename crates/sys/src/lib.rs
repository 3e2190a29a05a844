//! The operating system, as far as gpuscope touches it: where its trees are ([`Roots`]), kernel files held open
//! ([`KernelFile`]), the monotonic clock, perf events ([`perf`]).
//!
//! All `unsafe` of the project lives here. This crate does not parse what it reads and decides nothing.

mod clock;
mod error;
mod file;
pub mod perf;
mod roots;

pub use clock::monotonic_ns;
pub use error::Error;
pub use file::{KernelFile, list_dir, read_link_name, read_text};
pub use roots::Roots;
