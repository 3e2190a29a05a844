//! What gpuscope knows, written down: JSON, CSV, text, Parquet, and traces for viewers.
//!
//! Every function writes into the writer it is given and opens nothing; the time of day is an argument. Units and clamping are
//! decided here: the model carries ratios, hertz and watts, the output carries percent, megahertz and watts with the unit in the
//! field's name. The shape of the JSON is that of `docs/schema`.
//!
//! This crate reads no file, asks no clock and knows no driver.
#![forbid(unsafe_code)]

pub mod chrome;
pub mod csv;
mod doctor;
mod fence_errors;
mod fields;
pub mod json;
pub mod parquet;
pub mod perfetto;
mod procs;
mod procs_fields;
mod tells;
pub mod text;
mod time;
mod units;

pub use doctor::Doctor;
pub use procs::{ClientRow, Group, GroupEngine, GroupMemory, Procs, Query, Sort};
pub use tells::Tells;
