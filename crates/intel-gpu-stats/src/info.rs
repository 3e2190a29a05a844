//! Which GPU it is.

/// An Intel GPU of this machine.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GpuInfo {
    /// Name in all output: the PCI address, `0000:00:02.0`.
    pub id: String,
    /// Marketing name, or `Intel GPU 8086:xxxx`.
    pub name: String,
    /// `i915` or `xe`.
    pub driver: String,
    /// PCI device number.
    pub device_id: Option<u16>,
    /// Primary node, `/dev/dri/card0`.
    pub card: Option<String>,
    /// Render node, `/dev/dri/renderD128`: compare it with the one that your VA-API or oneVPL session opened.
    pub render: Option<String>,
    /// Whether it shares the processor's package and memory; `None` where that cannot be told.
    pub integrated: Option<bool>,
    /// Whether it is a virtual function of SR-IOV: it has no PMU, frequency or power of its own.
    pub virtual_function: bool,
    /// Number of GTs: 2 on Meteor Lake and later, where the media engines have a GT of their own.
    pub gt_count: usize,
}
