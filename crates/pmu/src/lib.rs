//! Performance monitoring units of the kernel: which there are, how their events are encoded, groups of counters that are read
//! together, and two uses of them: energy ([`rapl`]) and memory bandwidth ([`imc`]).
//!
//! Event encodings come from sysfs, never from memory. What cannot be counted comes with the reason and the remedy for the rights
//! at hand ([`Rights`]). This crate knows no GPU, computes no rates (counters stay cumulative) and does not sample.
#![forbid(unsafe_code)]

mod error;
mod group;
pub mod imc;
pub mod parse;
mod pmu;
pub mod rapl;
mod rights;
mod scale;

pub use error::Error;
pub use gpuscope_sys::perf::{EventAttr, GroupValues};
pub use group::CounterGroup;
pub use pmu::{Event, Pmu};
pub use rights::{Capability, Rights};
pub use scale::Scale;

#[cfg(test)]
mod testing;
