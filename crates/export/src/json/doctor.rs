//! `gpuscope.doctor/1`.

use super::{each, line};
use crate::Doctor;
use crate::time::Rfc3339;
use gpuscope_model::SourceReport;
use serde::Serialize;
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes what was found as one line.
///
/// # Errors
/// Those of the writer.
pub fn doctor(w: &mut dyn Write, found: &Doctor<'_>, wall: SystemTime) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a, S> {
        schema: &'static str,
        time: Rfc3339,
        kernel: Option<&'a str>,
        user: u32,
        capabilities: &'a [&'a str],
        perf_event_paranoid: Option<i32>,
        lockdown: Option<&'a str>,
        sources: S,
    }
    line(
        w,
        &Document {
            schema: "gpuscope.doctor/1",
            time: Rfc3339::new(wall),
            kernel: found.kernel,
            user: found.user,
            capabilities: found.capabilities,
            perf_event_paranoid: found.perf_event_paranoid,
            lockdown: found.lockdown,
            sources: each(found.sources, source),
        },
    )
}

pub(super) fn source(s: &SourceReport) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Source<'a> {
        source: &'a str,
        gpu: Option<&'a str>,
        status: &'static str,
        detail: &'a str,
        remedy: Option<&'a str>,
        unlocks: &'a [&'static str],
    }
    Source {
        source: &s.source,
        gpu: s.gpu.as_ref().map(|id| id.as_str()),
        status: s.status.as_str(),
        detail: &s.detail,
        remedy: s.remedy.as_ref().map(|r| r.as_str()),
        unlocks: &s.unlocks,
    }
}
