//! Whether a source of values works, and what would help.

use crate::{GpuId, Reason, Text, Why};

/// Whether a source works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStatus {
    /// It can be read.
    Works,
    /// It cannot, or is withheld, for this reason.
    Absent(Reason),
}

impl SourceStatus {
    /// The word that JSON carries: `works`, or the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceStatus::Works => "works",
            SourceStatus::Absent(reason) => reason.as_str(),
        }
    }
}

/// One line of `gpuscope doctor`: a source, whether it works, why not, the remedy, and the metrics it unlocks.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceReport {
    /// Short name of the source: `i915 PMU engines`, `hwmon`, `DRM fdinfo`, …
    pub source: Text,
    /// GPU it belongs to, or `None` for the whole machine.
    pub gpu: Option<GpuId>,
    /// Whether it works.
    pub status: SourceStatus,
    /// What was found.
    pub detail: Text,
    /// What to do, when something can be done.
    pub remedy: Option<Text>,
    /// Names of the metrics (see [`catalogue`](crate::catalogue)) which this source gives.
    pub unlocks: Vec<&'static str>,
}

impl SourceReport {
    /// A source that works.
    pub fn works(source: impl Into<Text>, gpu: Option<&GpuId>, detail: impl Into<Text>) -> Self {
        SourceReport {
            source: source.into(),
            gpu: gpu.cloned(),
            status: SourceStatus::Works,
            detail: detail.into(),
            remedy: None,
            unlocks: Vec::new(),
        }
    }

    /// A source that does not work.
    pub fn absent(source: impl Into<Text>, gpu: Option<&GpuId>, why: Why) -> Self {
        SourceReport {
            source: source.into(),
            gpu: gpu.cloned(),
            status: SourceStatus::Absent(why.reason),
            detail: why.detail,
            remedy: why.remedy,
            unlocks: Vec::new(),
        }
    }

    /// One or the other: what was found, or why there is nothing.
    pub fn of(source: impl Into<Text>, gpu: Option<&GpuId>, found: Result<impl Into<Text>, Why>) -> Self {
        match found {
            Ok(detail) => SourceReport::works(source, gpu, detail),
            Err(why) => SourceReport::absent(source, gpu, why),
        }
    }

    /// The same with the metrics it unlocks.
    #[must_use]
    pub fn unlocks(mut self, metrics: &[&'static str]) -> Self {
        self.unlocks = metrics.to_vec();
        self
    }
}
