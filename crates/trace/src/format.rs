//! Layouts of records: the `format` files of tracefs (Documentation/trace/events.rst), which other tools' traces carry too.

use std::fmt;

/// Layout of one kind of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFormat {
    /// Number of the kind, in the first two bytes of each record.
    pub id: u16,
    /// The tracepoint's system: `gpu_scheduler`.
    pub system: String,
    /// Its name: `drm_sched_job_run`.
    pub name: String,
    /// Its fields, those that all records have in common first.
    pub fields: Vec<Field>,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Where it begins, in bytes.
    pub offset: u16,
    /// How long it is, in bytes.
    pub size: u16,
    /// Whether a number has a sign.
    pub is_signed: bool,
    /// What stands there.
    pub kind: FieldKind,
}

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A number of 1, 2, 4 or 8 bytes, pointers included.
    Number,
    /// A pointer to text (`const char *`): a number that says nothing outside of the kernel.
    TextPointer,
    /// An array in place: of letters, or of something else.
    Array,
    /// Place (lower 16 bits, from the record's start) and length (upper 16) of text or an array behind the fields.
    DataLoc,
    /// The same, with the place counted from the end of this field (`__rel_loc`, since Linux 5.17).
    RelLoc,
}

/// A text that is no `format` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for FormatError {}

/// More fields than any tracepoint has; the number bounds what a broken file can ask for.
const MOST_FIELDS: usize = 512;

impl EventFormat {
    /// Reads a `format` file: `name:`, `ID:`, and a line for each field. The text for printing is not looked at.
    ///
    /// # Errors
    /// [`FormatError`] where a line that matters is not as `f_show` (kernel/trace/trace_events.c) writes it.
    pub fn parse(system: &str, text: &str) -> Result<Self, FormatError> {
        let mut format = EventFormat { id: 0, system: system.into(), name: String::new(), fields: Vec::new() };
        let mut has_id = false;
        for (i, line) in text.lines().enumerate() {
            let wrong = |what| FormatError { line: i.saturating_add(1), what };
            let line = line.trim();
            if let Some(name) = line.strip_prefix("name:") {
                format.name = name.trim().to_string();
            } else if let Some(id) = line.strip_prefix("ID:") {
                format.id = id.trim().parse().map_err(|_| wrong("the ID is no number of 16 bits"))?;
                has_id = true;
            } else if line.starts_with("field:") || line.starts_with("field special:") {
                if format.fields.len() >= MOST_FIELDS {
                    return Err(wrong("more fields than an event can have"));
                }
                format
                    .fields
                    .push(Field::parse(line).ok_or_else(|| wrong("a field without declaration, offset or size"))?);
            } else if line.starts_with("print fmt:") {
                break;
            }
        }
        let end = FormatError { line: text.lines().count(), what: "" };
        if format.name.is_empty() {
            return Err(FormatError { what: "it has no line `name:`", ..end });
        }
        if !has_id {
            return Err(FormatError { what: "it has no line `ID:`", ..end });
        }
        Ok(format)
    }

    /// The text that [`EventFormat::parse`] reads back to the same.
    pub fn to_text(&self) -> String {
        use fmt::Write as _;
        let mut text = format!("name: {}\nID: {}\nformat:\n", self.name, self.id);
        for field in &self.fields {
            let (before, after) = match field.kind {
                FieldKind::Number => (number_type(field.size), String::new()),
                FieldKind::TextPointer => ("const char *", String::new()),
                FieldKind::Array => ("char", format!("[{}]", field.size)),
                FieldKind::DataLoc => ("__data_loc char[]", String::new()),
                FieldKind::RelLoc => ("__rel_loc char[]", String::new()),
            };
            let (name, offset, size) = (&field.name, field.offset, field.size);
            let _ = writeln!(
                text,
                "\tfield:{before} {name}{after};\toffset:{offset};\tsize:{size};\tsigned:{};",
                u8::from(field.is_signed)
            );
        }
        text
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

fn number_type(size: u16) -> &'static str {
    match size {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        _ => "u64",
    }
}

impl Field {
    /// A line: `field:`, a declaration, `offset:`, `size:` and `signed:`, each ended by a semicolon.
    pub(crate) fn parse(line: &str) -> Option<Field> {
        let mut parts = line.split(';').map(str::trim);
        let declaration = parts.next()?.split_once(':')?.1.trim();
        let (mut offset, mut size, mut is_signed) = (None, None, false);
        for part in parts {
            match part.split_once(':') {
                Some(("offset", n)) => offset = n.trim().parse().ok(),
                Some(("size", n)) => size = n.trim().parse().ok(),
                Some(("signed", n)) => is_signed = n.trim() == "1",
                _ => {}
            }
        }
        let is_array = declaration.ends_with(']')
            && !declaration.starts_with("__data_loc")
            && !declaration.starts_with("__rel_loc");
        // `char comm[16]`, `unsigned long args[6]`; `__data_loc char[] name`.
        let declared = if is_array { declaration.split('[').next()? } else { declaration };
        let (ty, name) = declared.trim().rsplit_once(|c: char| c.is_whitespace() || c == '*')?;
        let kind = if declaration.starts_with("__data_loc") {
            FieldKind::DataLoc
        } else if declaration.starts_with("__rel_loc") {
            FieldKind::RelLoc
        } else if is_array {
            FieldKind::Array
        } else if declared.contains('*') && ty.split_whitespace().any(|word| word.trim_end_matches('*') == "char") {
            FieldKind::TextPointer
        } else {
            FieldKind::Number
        };
        if name.is_empty() {
            return None;
        }
        Some(Field { name: name.to_string(), offset: offset?, size: size?, is_signed, kind })
    }
}

#[cfg(test)]
mod tests;
