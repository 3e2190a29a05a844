//! Why clients may be missing among those that are shown.

use gpuscope_engine::Sampler;
use gpuscope_model::{Reason, SourceStatus, Why};

/// What `doctor` says about looking at the clients of all processes, asked when it first matters.
#[derive(Default)]
pub(crate) struct Unseen {
    asked: bool,
    why: Option<Why>,
    denied: bool,
}

impl Unseen {
    /// Why some processes cannot be looked at, after a tick.
    pub(crate) fn why(&mut self, sampler: &Sampler) -> Option<&Why> {
        let denied = sampler.snapshot().clients.denied_processes > 0;
        if !self.asked || (denied && self.why.is_none()) {
            self.asked = true;
            self.denied = denied;
            // Asking walks all processes once more: not at every tick.
            let report = sampler.set().reports().into_iter().find(|r| r.source.as_str() == "DRM fdinfo");
            self.why = report.and_then(|r| match r.status {
                SourceStatus::Works => None,
                SourceStatus::Absent(reason) => Some(Why { reason, detail: r.detail, remedy: r.remedy }),
            });
        }
        // What was told of processes that have ended since is told no more.
        let over = self.denied && !denied;
        self.why.as_ref().filter(|why| !(over && why.reason == Reason::NoPermission))
    }
}
