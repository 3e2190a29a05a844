//! BPF programs: what the kernel finds out itself, many times cheaper than through /proc.
//!
//! The programs are C (`crates/sys/bpf/`), compiled and committed, so that building this crate needs Rust alone; `cargo xtask bpf`
//! makes them anew. ELF and CO-RE are read by `aya-obj`, the half of `aya` that makes no system calls. The few commands of bpf(2)
//! are made here and not by `aya`, whose loader reads the kernel's type information whole, whether or not it was given it: 35 ms and
//! 18 MiB at once, where this crate takes 15 ms and a buffer.
//!
//! Nothing here needs root: CAP_BPF and CAP_PERFMON are enough, but for measuring what programs take ([`Jobs::measure`]: CAP_SYS_ADMIN). No
//! program outlives its handle: nothing is pinned.

mod btf;
mod call;
mod cast;
mod error;
mod jobs;
mod map;
mod object;
mod open_files;
mod record;
mod ring;

pub use error::BpfError;
pub use jobs::{
    ALL_JOBS, JOB_BUCKETS, JobFields, JobLimit, JobRecord, JobRules, JobStage, JobSubject, JobTotal, Jobs, JobsCost,
    JobsCostOf, JobsLost, JobsRead, JobsWanted, MADE_CONTEXT, MadeJob, RingTotal, bucket_range,
};
pub use open_files::{MAX_DEVICES, OpenFiles};
pub use record::OpenFile;
