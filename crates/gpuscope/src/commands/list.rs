//! `gpuscope list`

use crate::args::{Common, Format};
use crate::terminal;
use gpuscope_export::{json, text};
use std::io::{self, BufWriter, Write as _};
use std::time::SystemTime;

/// Writes what each GPU is.
pub(crate) fn list(common: &Common) -> anyhow::Result<()> {
    let roots = super::roots(common)?;
    let gpus = gpuscope_gpu::list_with(&roots, &super::options(common));
    let mut out = BufWriter::new(io::stdout().lock());
    match common.format() {
        Format::Json => json::list(&mut out, &gpus, SystemTime::now())?,
        _ if gpus.is_empty() => text::no_gpu(&mut out, terminal::style(), &super::looked_at(&roots))?,
        _ => text::list(&mut out, &gpus, terminal::style())?,
    }
    out.flush()?;
    Ok(())
}
