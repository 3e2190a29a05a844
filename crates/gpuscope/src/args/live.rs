//! `gpuscope trace live`.

use super::trace::{Backend, Keep, parse_size};
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub(crate) struct Live {
    /// The time that rates and percentiles are about
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval, default_value = "5s")]
    pub(crate) window: Duration,
    /// Show one picture, of the first interval, and end
    #[arg(long, conflicts_with = "count")]
    pub(crate) once: bool,
    /// End after N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Show jobs that are held up for longer than this
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval, default_value = "2s")]
    pub(crate) alarm: Duration,
    /// How records are taken from the kernel [default: the first that works]
    #[arg(long, value_enum, value_name = "WAY")]
    pub(crate) backend: Option<Backend>,
    /// Size of the buffer between the kernel and gpuscope, all processors together: a number with KiB or MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "8MiB")]
    pub(crate) buffer: usize,
    #[command(flatten)]
    pub(crate) keep: Keep,
}
