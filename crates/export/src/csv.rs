//! CSV in long form: one row a value, so that a new engine or sensor never changes the columns.
//!
//! Columns: `time,monotonic_ns,gpu,metric,label,value,unit,reason`. `metric` is the path of the field in the JSON output without
//! the brackets, `label` what stood in them. A value that is not known leaves `value` empty and has its `reason`. A GPU that came
//! or went is a row with the metric `event`, the driver as label. A field of a client has its number (or `pid` and its process,
//! where it has none) before its own label (`clients.engines.busy_percent`, `17/render`); a row `clients` without a value says why
//! clients may be missing. A sum of a container has the container and the GPU; what is of no GPU alone
//! (`denied_processes`, sums) leaves the column empty. Lines end with a line feed, and quoting is that of RFC 4180.

use crate::fields::each_field;
use crate::procs_fields::{ProcsField, each_client_field, each_group_field};
use crate::time::Rfc3339;
use crate::{Procs, Tells};
use gpuscope_model::trace::{Job, JobKey, JobStatus, TraceNames};
use gpuscope_model::{Reading, Snapshot};
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes the line of column names.
///
/// # Errors
/// Those of the writer.
pub fn stat_header(w: &mut dyn Write) -> io::Result<()> {
    writeln!(w, "time,monotonic_ns,gpu,metric,label,value,unit,reason")
}

/// Writes the rows of devices that came or went.
///
/// # Errors
/// Those of the writer.
pub fn event_rows(w: &mut dyn Write, snapshot: &Snapshot, wall: SystemTime) -> io::Result<()> {
    let time = Rfc3339::new(wall);
    for event in &snapshot.events {
        let gpu = quoted(event.id.as_str());
        writeln!(w, "{time},{},{gpu},event,{},{},,", event.at_ns, quoted(&event.driver), event.kind.as_str())?;
    }
    Ok(())
}

/// Writes the rows of one sample: events first, then every field of every GPU.
///
/// # Errors
/// Those of the writer.
pub fn stat_rows(w: &mut dyn Write, snapshot: &Snapshot, wall: SystemTime) -> io::Result<()> {
    event_rows(w, snapshot, wall)?;
    let time = Rfc3339::new(wall);
    for gpu in &snapshot.gpus {
        let start = format!("{time},{},{}", snapshot.at_ns, quoted(gpu.id.as_str()));
        each_field(gpu, &mut |field| {
            let label = field.label.to_string();
            let label = quoted(&label);
            match field.value {
                Ok(value) => writeln!(w, "{start},{},{label},{value},{},", field.metric, field.unit),
                Err(why) => writeln!(w, "{start},{},{label},,{},{}", field.metric, field.unit, why.reason),
            }
        })?;
    }
    Ok(())
}

/// Writes the rows of who used the GPUs: every field of every client, then the sums of containers where they are wanted.
///
/// # Errors
/// Those of the writer.
pub fn procs_rows(w: &mut dyn Write, procs: &Procs<'_>, wall: SystemTime) -> io::Result<()> {
    let start = format!("{},{}", Rfc3339::new(wall), procs.snapshot.at_ns);
    writeln!(w, "{start},,denied_processes,,{},,", procs.denied_processes())?;
    writeln!(w, "{start},,left_out,,{},,", procs.left_out())?;
    for (gpu, why) in procs.gaps() {
        let gpu = gpu.map_or("", |gpu| gpu.as_str());
        writeln!(w, "{start},{},clients,,,,{}", quoted(gpu), why.reason)?;
    }
    for (gpu, by) in &procs.kept_awake {
        writeln!(w, "{start},{},kept_awake,,{},,", quoted(gpu.as_str()), by.as_str())?;
    }
    for row in &procs.rows {
        let start = format!("{start},{}", quoted(row.client.gpu.as_str()));
        let key = row.client.key.to_string();
        writeln!(w, "{start},clients.source,{key},{},,", quoted(&row.client.source))?;
        if let Some(name) = &row.client.client_name {
            writeln!(w, "{start},clients.client_name,{key},{},,", quoted(name))?;
        }
        for holder in &row.client.holders {
            writeln!(w, "{start},clients.holders,{key},{holder},,")?;
        }
        each_client_field(row, &mut |field| procs_row(w, &start, "clients", &key, &field))?;
    }
    for cgroup in procs.cgroups() {
        match &cgroup.device_memory {
            Reading::Absent(why) => {
                writeln!(w, "{start},,cgroups.device_memory,{},,,{}", quoted(&cgroup.cgroup), why.reason)?;
            }
            Reading::Value(regions) => {
                for m in regions {
                    let label = format!("{}/{}", cgroup.cgroup, m.region);
                    let (gpu, label) = (quoted(m.gpu.as_str()), quoted(&label));
                    writeln!(w, "{start},{gpu},cgroups.device_memory.used_bytes,{label},{},bytes,", m.used_bytes)?;
                    let name = "cgroups.device_memory.capacity_bytes";
                    match &m.capacity_bytes {
                        Reading::Value(bytes) => writeln!(w, "{start},{gpu},{name},{label},{bytes},bytes,")?,
                        Reading::Absent(why) => writeln!(w, "{start},{gpu},{name},{label},,bytes,{}", why.reason)?,
                    }
                }
            }
        }
    }
    for group in procs.groups.iter().flatten() {
        // Sums may be of several GPUs: the label of those that are of one names it.
        let start = format!("{start},");
        each_group_field(group, &mut |field| procs_row(w, &start, "containers", group.label(), &field))?;
    }
    Ok(())
}

/// The columns of [`job_row`]: those of a `gpuscope.job/1` line, in its order and units.
const JOB_COLUMNS: &str = "gpu,ring,context,seqno,client_id,pid,tid,comm,submit_ns,run_ns,start_ns,start_kind,done_ns,queue_ns,hw_queue_ns,exec_ns,\
                           in_flight_ns,dependencies,status,errno";

/// Writes the line of column names of jobs.
///
/// # Errors
/// Those of the writer.
pub fn job_header(w: &mut dyn Write) -> io::Result<()> {
    writeln!(w, "{JOB_COLUMNS}")
}

/// Writes one job as one row; what is not known is empty.
///
/// # Errors
/// Those of the writer.
pub fn job_row(w: &mut dyn Write, job: &Job, names: &TraceNames, tells: Tells) -> io::Result<()> {
    let ring = job.ring.and_then(|ring| names.get_ring(ring));
    let gpu = ring.and_then(|ring| ring.gpu.as_ref()).map_or("", |gpu| gpu.as_str());
    let (context, seqno) = match job.key {
        JobKey::Fence { context, seqno } => (Some(context), Some(seqno)),
        JobKey::InRing { number, .. } => (None, Some(number)),
        JobKey::FenceLow { .. } | JobKey::Address(_) => (None, None),
    };
    let known = |number: u32| (number != 0).then_some(u64::from(number));
    let texts = |w: &mut dyn Write, text: &str| write!(w, "{},", quoted(text));
    let numbers = |w: &mut dyn Write, of: &[Option<u64>]| {
        of.iter().try_for_each(|of| match of {
            Some(n) => write!(w, "{n},"),
            None => write!(w, ","),
        })
    };
    texts(w, gpu)?;
    texts(w, ring.map_or("", |ring| ring.name.as_str()))?;
    numbers(w, &[context, seqno, job.client, known(job.pid), known(job.tid)])?;
    texts(w, names.get(job.comm))?;
    numbers(w, &[job.submit_ns, job.run_ns, job.start_ns.map(|(ns, _)| ns)])?;
    texts(w, job.start_ns.map_or("", |(_, how)| how.name()))?;
    numbers(w, &[job.done_ns, job.queue_ns(), job.hw_queue_ns(), job.exec_ns(), job.in_flight_ns()])?;
    numbers(w, &[tells.dependencies(job).map(u64::from)])?;
    write!(w, "{},", job.status.name())?;
    match job.status {
        JobStatus::Failed(error) => writeln!(w, "{error}"),
        _ => writeln!(w),
    }
}

fn procs_row(w: &mut dyn Write, start: &str, list: &str, key: &str, field: &ProcsField<'_>) -> io::Result<()> {
    let (metric, label) = match &field.list {
        Some((inner, item)) => (format!("{list}.{inner}.{}", field.field), format!("{key}/{item}")),
        None => (format!("{list}.{}", field.field), key.to_string()),
    };
    let label = quoted(&label);
    match &field.value {
        Ok(value) => writeln!(w, "{start},{metric},{label},{},{},", quoted(&value.to_string()), field.unit),
        Err(why) => writeln!(w, "{start},{metric},{label},,{},{}", field.unit, why.reason),
    }
}

/// A text field, quoted where it has to be. Sensor labels come out of firmware and may hold anything.
fn quoted(field: &str) -> std::borrow::Cow<'_, str> {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\"")).into()
    } else {
        field.into()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_with_separators_are_quoted() {
        assert_eq!(super::quoted("vcs0"), "vcs0");
        assert_eq!(super::quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
