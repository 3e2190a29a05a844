//! `gpuscope trace`

mod compare;
mod export;
mod input;
mod keep;
mod live;
mod merge;
mod record;
mod report;
mod session;
mod source;
mod timeline;
mod totals;
mod watcher;
mod why;

use crate::args::{Common, Trace};

/// Records and tells what happens to the jobs of GPUs.
pub(crate) fn trace(common: &Common, trace: &Trace) -> anyhow::Result<()> {
    match trace {
        Trace::Record(args) => record::record(common, args),
        Trace::Report(args) => report::report(common, args),
        Trace::Timeline(args) => timeline::timeline(args),
        Trace::Compare(args) => compare::compare(common, args),
        Trace::Export(args) => export::export(args),
        Trace::Merge(args) => merge::merge(args),
        Trace::Live(args) => live::live(common, args),
        Trace::Totals(args) => totals::totals(common, args),
        Trace::Start(args) => session::start(common, args),
        Trace::Status(args) => session::status(common, args),
        Trace::Change(args) => session::change(common, args),
        Trace::Save(args) => session::save(common, args),
        Trace::Stop(args) => session::stop(common, args),
    }
}
