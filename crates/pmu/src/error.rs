//! Errors of event encoding.

use crate::parse::ParseError;

/// Why an event could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The PMU's `format` folder has no such term.
    #[error("PMU {pmu} has no event term {term:?}")]
    UnknownTerm {
        /// The PMU.
        pmu: String,
        /// The term.
        term: String,
    },
    /// The value has more bits than the term.
    #[error("PMU {pmu}: {value:#x} does not fit into the event term {term:?}")]
    TooLarge {
        /// The PMU.
        pmu: String,
        /// The term.
        term: String,
        /// The value.
        value: u64,
    },
    /// The term lies in a word of `perf_event_attr` that gpuscope does not send.
    #[error("PMU {pmu}: the event term {term:?} lies in config3")]
    Unsupported {
        /// The PMU.
        pmu: String,
        /// The term.
        term: String,
    },
    /// The event wants a value that only its user can choose (`term=?`).
    #[error("PMU {pmu}: the event term {term:?} has no value of its own")]
    Parameter {
        /// The PMU.
        pmu: String,
        /// The term.
        term: String,
    },
    /// A sysfs file holds something else than the kernel prints.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: String,
        /// What it held.
        source: ParseError,
    },
}
