//! The machine around the GPUs: what processes are, whose they are, and which container they run in.
//!
//! Only processes that somebody asks for are looked at: those that hold a DRM client. This crate knows no GPU and computes no rates.
#![forbid(unsafe_code)]

mod container;
mod parse;
mod processes;
mod users;

pub use container::container_of;
pub use parse::{Stat, parse_cgroup, parse_cmdline, parse_stat, parse_statm, parse_uid};
pub use processes::Processes;
pub use users::Users;
