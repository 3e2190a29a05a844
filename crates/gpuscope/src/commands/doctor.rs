//! `gpuscope doctor`

use crate::args::{Common, Format};
use crate::terminal;
use gpuscope_export::{Doctor, json, text};
use gpuscope_gpu::GpuSet;
use gpuscope_model::DeviceInfo;
use std::io::{self, BufWriter, Write as _};
use std::time::SystemTime;

/// Writes which sources work. What does not work is its answer, not its failure.
pub(crate) fn doctor(common: &Common) -> anyhow::Result<()> {
    let roots = super::roots(common)?;
    let looked_at = super::looked_at(&roots);
    let set = GpuSet::open(roots.clone(), super::options(common));
    let rights = set.rights();
    let gpus: Vec<DeviceInfo> = set.infos().cloned().collect();
    let mut sources = set.reports();
    sources.extend(gpuscope_host::debugfs_report(&roots, &gpus));
    sources.push(gpuscope_host::Dmem::new(roots.clone()).report());
    sources.extend(gpuscope_trace::capture::reports(&roots));
    let capabilities = rights.capability_names();
    let found = Doctor {
        kernel: Some(rights.kernel.as_str()).filter(|k| !k.is_empty()),
        user: rights.uid,
        capabilities: &capabilities,
        perf_event_paranoid: rights.perf_event_paranoid,
        lockdown: rights.lockdown.as_deref(),
        gpus: &gpus,
        sources: &sources,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    match common.format() {
        Format::Json => json::doctor(&mut out, &found, SystemTime::now())?,
        _ => {
            let style = terminal::style();
            if gpus.is_empty() {
                text::no_gpu(&mut out, style, &looked_at)?;
                writeln!(out)?;
            }
            text::doctor(&mut out, &found, style)?;
        }
    }
    out.flush()?;
    Ok(())
}
