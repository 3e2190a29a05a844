//! CSV in long form: one row a value, so that a new engine or sensor never changes the columns.
//!
//! Columns: `time,monotonic_ns,gpu,metric,label,value,unit,reason`. `metric` is the path of the field in the JSON output without
//! the brackets, `label` what stood in them. A value that is not known leaves `value` empty and has its `reason`. A GPU that came
//! or went is a row with the metric `event`, the driver as label. Lines end with a line feed, and quoting is that of RFC 4180.

use crate::fields::each_field;
use crate::time::Rfc3339;
use gpuscope_model::Snapshot;
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes the line of column names.
///
/// # Errors
/// Those of the writer.
pub fn stat_header(w: &mut dyn Write) -> io::Result<()> {
    writeln!(w, "time,monotonic_ns,gpu,metric,label,value,unit,reason")
}

/// Writes the rows of one sample: events first, then every field of every GPU.
///
/// # Errors
/// Those of the writer.
pub fn stat_rows(w: &mut dyn Write, snapshot: &Snapshot, wall: SystemTime) -> io::Result<()> {
    let time = Rfc3339::new(wall);
    for event in &snapshot.events {
        let gpu = quoted(event.id.as_str());
        writeln!(w, "{time},{},{gpu},event,{},{},,", event.at_ns, quoted(&event.driver), event.kind.as_str())?;
    }
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
