//! JSON: one object a line, as `docs/schema` describes it.
//!
//! The structures here borrow from the model and exist only while they are written; field order is the order of the schema.
//! A value that is not known is `null`, and `unavailable` beside it says why.

mod compare;
mod doctor;
mod list;
mod live;
mod procs;
mod stat;
mod totals;
mod trace;

pub use compare::trace_comparison;
pub use doctor::doctor;
pub use list::list;
pub use live::trace_live;
pub use procs::procs_line;
pub use stat::{event_line, stat_line};
pub use totals::trace_totals;
pub use trace::{job_line, losses_line, trace_report};

use gpuscope_model::{Reading, Why};
use serde::{Serialize, Serializer};
use std::io::{self, Write};

/// Writes one object and the line's end.
fn line(w: &mut dyn Write, object: &impl Serialize) -> io::Result<()> {
    // serde_json wraps the writer's error; the conversion gives the kind (a closed pipe) back.
    serde_json::to_writer(&mut *w, object).map_err(io::Error::from)?;
    w.write_all(b"\n")
}

/// What each source gave or why it gave nothing, as reports list it.
pub(crate) fn coverage(sources: &[gpuscope_model::SourceReport]) -> io::Result<String> {
    Ok(serde_json::to_string(&each(sources, doctor::source))?)
}

/// A list written item by item, without a copy in between.
struct Each<'a, T, W> {
    items: &'a [T],
    wrap: fn(&'a T) -> W,
}

fn each<'a, T, W>(items: &'a [T], wrap: fn(&'a T) -> W) -> Each<'a, T, W> {
    Each { items, wrap }
}

impl<T, W: Serialize> Serialize for Each<'_, T, W> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.items.iter().map(self.wrap))
    }
}

/// The same for a list that may be absent as a whole: `null` then.
fn each_known<'a, T, W>(items: &'a Reading<Vec<T>>, wrap: fn(&'a T) -> W) -> Option<Each<'a, T, W>> {
    items.value().map(|items| each(items, wrap))
}

/// One entry of `unavailable`.
#[derive(Serialize)]
struct Missing<'a, M> {
    metric: M,
    reason: &'static str,
    detail: &'a str,
    remedy: Option<&'a str>,
}

impl<'a, M> Missing<'a, M> {
    fn new(metric: M, why: &'a Why) -> Self {
        Missing {
            metric,
            reason: why.reason.as_str(),
            detail: why.detail.as_str(),
            remedy: why.remedy.as_ref().map(|r| r.as_str()),
        }
    }
}
