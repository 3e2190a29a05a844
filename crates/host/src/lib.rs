//! The machine around the GPUs: what processes are, whose they are, which container they run in, and what the kernel counts for
//! cgroups and lists of clients by itself.
//!
//! Only processes that somebody asks for are looked at: those that hold a DRM client. This crate knows no GPU, finds no clients and
//! computes no rates.
#![forbid(unsafe_code)]

mod container;
mod debugfs;
mod dmem;
mod parse;
mod processes;
mod source;
mod text;
mod users;

pub use container::container_of;
pub use debugfs::{DebugfsClient, DebugfsClients, clients_of, debugfs_clients, debugfs_report, parse_debugfs_clients};
pub use dmem::{Dmem, DmemRegion, parse_dmem};
pub use parse::{Cgroups, Stat, parse_cgroup, parse_cmdline, parse_stat, parse_statm, parse_uid};
pub use processes::Processes;
pub use users::Users;
