//! What happens to GPU jobs, from the kernel's tracepoints: captured here and now, from a recording, or from other tools' traces.
//!
//! Everything is a **record** first: bytes as the kernel (or a BPF program of ours) laid them out, with a description of that layout,
//! an [`EventFormat`], beside them. Captures, recordings and foreign traces all give [`RawRecord`]s, and one [`Decoder`] turns these into
//! [`Event`](gpuscope_model::trace::Event)s, by the names of the fields. Offsets are compiled in for a few common layouts alone, and used
//! where the names are found at just those places. A family of tracepoints is a folder in `families/`.
//!
//! It does not put jobs together, and computes no times: that is `gpuscope-analysis`.
#![forbid(unsafe_code)]

pub mod capture;
mod decode;
mod devices;
mod families;
pub mod flight;
pub mod foreign;
mod format;
pub mod ftrace;
mod in_order;
pub mod merge;
mod perf_record;
mod record;
pub mod recording;
mod retold;
mod tracefs;

pub use decode::{Decoder, StepSink, Steps};
pub use devices::device_names;
pub use families::{by_default, ioctl_name};
pub use format::{EventFormat, Field, FieldKind, FormatError};
pub use in_order::InOrder;
pub use record::{RawRecord, RecordSink};
pub use retold::Retold;
