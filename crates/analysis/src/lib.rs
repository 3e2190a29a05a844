//! What events say together. Pure functions over what was read: no I/O, no clock.
//!
//! [`Jobs`] puts the events of jobs together as they come, in order of time, and gives each [`Job`](gpuscope_model::trace::Job) once it
//! has ended. [`Report`] counts and sums over jobs and events; the steps of the DRM scheduler's jobs
//! ([`StepRef`](gpuscope_model::trace::StepRef)), nearly all events of a trace, it takes as they are. Memory is bounded by what is in
//! flight, and by what [`Distribution`]s keep, which is bounded as well. [`History`] keeps a stretch of a trace, of which [`Explainer`]
//! tells why jobs were late. [`StuckJobs`] tells the jobs that do not end, while they do not.
#![forbid(unsafe_code)]

mod compare;
mod distribution;
mod ioctls;
mod jobs;
mod lanes;
mod late;
#[cfg(test)]
mod owned_step;
mod recent;
mod report;
mod stuck;
mod totals;
mod watch;

pub use compare::{Times, changes};
pub use distribution::{Distribution, Pool};
pub use ioctls::IoctlSpans;
pub use jobs::{JobCounts, Jobs};
pub use late::{Explainer, History};
pub use recent::Recent;
pub use report::{Report, Subject};
pub use stuck::{Released, StuckJobs};
pub use totals::totals_window;
pub use watch::{Conditions, Notice, Watch};
