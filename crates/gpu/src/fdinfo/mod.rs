//! DRM clients through `/proc/PID/fdinfo` (Documentation/gpu/drm-usage-stats.rst).
//!
//! The parser ([`parse_fdinfo`]) is pure. The scanner finds the clients of the machine and keeps them; the class sums turn
//! their counters into cumulative busy time of a device's engine classes. Nothing here knows what a device's readings cost:
//! the caller says which devices may be read.

pub(crate) mod classes;
mod parse;
mod proc;
pub(crate) mod samples;
pub(crate) mod scanner;
#[cfg(test)]
mod tests;

pub use parse::{EngineUsage, FdInfo, ParseNote, RegionUsage, client_id, parse_fdinfo};
pub use proc::{ProcStat, hides_processes, is_inner_namespace, parse_stat};
