//! Sampling over time: drift-free ticks ([`Ticker`]), samples turned into snapshots ([`Sampler`]), and a thread that does both
//! ([`spawn`]).
//!
//! Threads, not async: a sample is a handful of short system calls. This crate formats nothing and knows no kernel file.
#![forbid(unsafe_code)]

mod background;
mod processes;
mod sampler;
mod ticker;
mod unseen;

pub use background::{Handle, Report, spawn};
pub use sampler::Sampler;
pub use ticker::{Stop, Tick, Ticker};
