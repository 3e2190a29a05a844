//! Jobs as the columns of a Parquet file, for SQL engines and data frames.
//!
//! The columns are the fields of a `gpuscope.job/1` line, with its names, order and units; what is not known is null. Numbers are 64 bits
//! wide; those that tell fences and clients apart have no sign. Texts are dictionaries, numbers are deltas: no general compression on top of
//! that, which would bring another library. What belongs to the whole trace stands in the file's metadata: see [`Writer::finish`].

use crate::Tells;
use gpuscope_model::SourceReport;
use gpuscope_model::trace::{Dropped, Job, JobKey, JobStatus, TraceNames};
use parquet::basic::Encoding;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

/// Jobs that are kept until they are written together: some 25 MB.
const ROW_GROUP: usize = 1 << 16;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// A number without a sign.
    Id,
    Number,
}

use Kind::{Id, Number, Text};

/// The columns: name, what it holds, and whether it may be null.
const COLUMNS: [(&str, Kind, bool); 20] = [
    ("gpu", Text, true),
    ("ring", Text, true),
    ("context", Id, true),
    ("seqno", Id, true),
    ("client_id", Id, true),
    ("pid", Number, true),
    ("tid", Number, true),
    ("comm", Text, true),
    ("submit_ns", Number, true),
    ("run_ns", Number, true),
    ("start_ns", Number, true),
    ("start_kind", Text, true),
    ("done_ns", Number, true),
    ("queue_ns", Number, true),
    ("hw_queue_ns", Number, true),
    ("exec_ns", Number, true),
    ("in_flight_ns", Number, true),
    ("dependencies", Number, true),
    ("status", Text, false),
    ("errno", Number, true),
];

/// What a job has in a column.
enum Cell<'a> {
    Text(Option<&'a str>),
    Number(Option<i64>),
}

/// The values of a column that are not null, and for each row whether it has one.
#[derive(Debug, Default)]
struct Values {
    texts: Vec<ByteArray>,
    numbers: Vec<i64>,
    is_there: Vec<i16>,
}

/// What belongs to a trace as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Events that are missing, by cause.
    pub dropped: Dropped,
    /// What each source gave or why it gave nothing, and what is wrong with the trace.
    pub coverage: &'a [SourceReport],
    /// One moment on CLOCK_MONOTONIC, which all times are on, and in nanoseconds since 1970.
    pub started: Option<(u64, u64)>,
}

/// Writes jobs. Memory is bounded by a row group, and by the names of programs and rings.
pub struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Values>,
    tells: Tells,
    rows: usize,
    /// Texts as the file wants them, each made once.
    texts: HashMap<String, ByteArray>,
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file of the jobs of a trace that tells so much of them.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(out: W, tells: Tells) -> io::Result<Self> {
        let mut schema = String::from("message job {");
        let tool = concat!("gpuscope ", env!("CARGO_PKG_VERSION"));
        let mut properties = WriterProperties::builder().set_created_by(tool.into());
        for (name, kind, is_optional) in COLUMNS {
            let repetition = if is_optional { "OPTIONAL" } else { "REQUIRED" };
            schema.push_str(&match kind {
                Text => format!("{repetition} BYTE_ARRAY {name} (STRING);"),
                Id => format!("{repetition} INT64 {name} (INTEGER(64,false));"),
                Number => format!("{repetition} INT64 {name};"),
            });
            if kind != Text {
                let path = ColumnPath::from(name);
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
        schema.push('}');
        let schema = Arc::new(parse_message_type(&schema).map_err(failed)?);
        let file = SerializedFileWriter::new(out, schema, Arc::new(properties.build())).map_err(failed)?;
        let columns = COLUMNS.iter().map(|_| Values::default()).collect();
        Ok(Writer { file, columns, tells, rows: 0, texts: HashMap::new() })
    }

    /// Writes a job, whose names are these.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn job(&mut self, job: &Job, names: &TraceNames) -> io::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells(job, names, self.tells)) {
            let is_there = match cell {
                Cell::Number(number) => {
                    column.numbers.extend(number);
                    number.is_some()
                }
                Cell::Text(None) => false,
                Cell::Text(Some(text)) => {
                    let known = match self.texts.get(text) {
                        Some(known) => known.clone(),
                        None => self.texts.entry(text.to_string()).or_insert_with(|| ByteArray::from(text)).clone(),
                    };
                    column.texts.push(known);
                    true
                }
            };
            column.is_there.push(is_there.into());
        }
        self.rows = self.rows.saturating_add(1);
        if self.rows >= ROW_GROUP { self.row_group() } else { Ok(()) }
    }

    /// Ends the file. Its metadata have `gpuscope.schema` (`gpuscope.job/1`), `gpuscope.dropped` (the events that are missing by cause, a
    /// JSON object), `gpuscope.coverage` (what each source gave, a JSON list), and where it is known `gpuscope.started` (one moment on
    /// CLOCK_MONOTONIC and in nanoseconds since 1970, a JSON object: it turns all times into those of the day).
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self, about: &About<'_>) -> io::Result<W> {
        if self.rows > 0 {
            self.row_group()?;
        }
        let mut put = |key: &str, value: String| {
            self.file.append_key_value_metadata(KeyValue::new(format!("gpuscope.{key}"), value));
        };
        put("schema", "gpuscope.job/1".into());
        let dropped: serde_json::Map<_, _> =
            about.dropped.each().into_iter().map(|(cause, n)| (cause.to_string(), n.into())).collect();
        put("dropped", serde_json::to_string(&dropped)?);
        put("coverage", crate::json::coverage(about.coverage)?);
        if let Some((monotonic_ns, realtime_ns)) = about.started {
            put("started", format!("{{\"monotonic_ns\":{monotonic_ns},\"realtime_ns\":{realtime_ns}}}"));
        }
        self.file.into_inner().map_err(failed)
    }

    fn row_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(failed)?;
        for (values, (_, kind, is_optional)) in self.columns.iter_mut().zip(COLUMNS) {
            let Some(mut column) = group.next_column().map_err(failed)? else { break };
            let is_there = is_optional.then_some(values.is_there.as_slice());
            match kind {
                Text => column.typed::<ByteArrayType>().write_batch(&values.texts, is_there, None).map_err(failed)?,
                Id | Number => {
                    column.typed::<Int64Type>().write_batch(&values.numbers, is_there, None).map_err(failed)?
                }
            };
            column.close().map_err(failed)?;
            values.texts.clear();
            values.numbers.clear();
            values.is_there.clear();
        }
        group.close().map_err(failed)?;
        self.rows = 0;
        Ok(())
    }
}

/// A job's cells, in the order of the columns.
fn cells<'a>(job: &Job, names: &'a TraceNames, tells: Tells) -> [Cell<'a>; COLUMNS.len()] {
    let ring = job.ring.and_then(|ring| names.get_ring(ring));
    let (context, seqno) = match job.key {
        JobKey::Fence { context, seqno } => (Some(context), Some(seqno)),
        JobKey::InRing { number, .. } => (None, Some(number)),
        JobKey::FenceLow { .. } | JobKey::Address(_) => (None, None),
    };
    // The bits of a number without a sign.
    let id = |of: Option<u64>| Cell::Number(of.map(u64::cast_signed));
    let time = |of: Option<u64>| Cell::Number(of.and_then(|of| i64::try_from(of).ok()));
    let known = |number: u32| Cell::Number((number != 0).then_some(number.into()));
    let comm = names.get(job.comm);
    [
        Cell::Text(ring.and_then(|ring| ring.gpu.as_ref()).map(|gpu| gpu.as_str())),
        Cell::Text(ring.map(|ring| ring.name.as_str())),
        id(context),
        id(seqno),
        id(job.client),
        known(job.pid),
        known(job.tid),
        Cell::Text((!comm.is_empty()).then_some(comm)),
        time(job.submit_ns),
        time(job.run_ns),
        time(job.start_ns.map(|(ns, _)| ns)),
        Cell::Text(job.start_ns.map(|(_, how)| how.name())),
        time(job.done_ns),
        time(job.queue_ns()),
        time(job.hw_queue_ns()),
        time(job.exec_ns()),
        time(job.in_flight_ns()),
        Cell::Number(tells.dependencies(job).map(i64::from)),
        Cell::Text(Some(job.status.name())),
        Cell::Number(match job.status {
            JobStatus::Failed(error) => Some(error),
            _ => None,
        }),
    ]
}

/// The writer's own error where there is one: a full disk, a closed pipe.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(inner) => io::Error::other(inner),
        },
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use gpuscope_model::trace::{ExecKind, NameId};
    use gpuscope_model::{Reason, Why};
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    fn job(seqno: u64, names: &mut TraceNames) -> Job {
        Job {
            key: JobKey::Fence { context: u64::MAX, seqno },
            ring: Some(names.ring(Some("0000:03:00.0"), "gfx")),
            client: None,
            pid: 10,
            tid: 11,
            comm: names.text("game"),
            submit_ns: Some(5),
            run_ns: Some(25),
            start_ns: Some((30, ExecKind::Inferred)),
            done_ns: Some(1_030),
            dependencies: 2,
            blocked_by: None,
            status: JobStatus::Failed(-62),
        }
    }

    /// What the same library reads.
    fn read(file: Vec<u8>) -> SerializedFileReader<Bytes> {
        SerializedFileReader::new(Bytes::from(file)).unwrap()
    }

    fn rows(file: &SerializedFileReader<Bytes>) -> Vec<Vec<(String, Field)>> {
        let rows = file.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().into_columns()).collect()
    }

    #[test]
    fn what_is_known_comes_back_and_what_is_not_is_null() {
        let mut names = TraceNames::default();
        let full = job(u64::MAX - 1, &mut names);
        let empty = Job {
            key: JobKey::Address(7),
            ring: None,
            pid: 0,
            tid: 0,
            comm: NameId::default(),
            submit_ns: None,
            run_ns: None,
            start_ns: None,
            done_ns: None,
            dependencies: 0,
            status: JobStatus::InFlight,
            ..full
        };
        let mut writer = Writer::new(Vec::new(), Tells { dependencies: true }).unwrap();
        writer.job(&full, &names).unwrap();
        writer.job(&empty, &names).unwrap();
        let why = Why::new(Reason::NotSupported, "no \"why\"");
        let about = About {
            dropped: Dropped { ring_full: 3, ..Dropped::default() },
            coverage: &[SourceReport::absent("waits", None, why)],
            started: Some((5, 1_790_000_000_000_000_000)),
        };
        let file = read(writer.finish(&about).unwrap());
        let text = |text: &str| Field::Str(text.into());
        let expected = [
            text("0000:03:00.0"),
            text("gfx"),
            Field::ULong(u64::MAX),
            Field::ULong(u64::MAX - 1),
            Field::Null,
            Field::Long(10),
            Field::Long(11),
            text("game"),
            Field::Long(5),
            Field::Long(25),
            Field::Long(30),
            text("inferred"),
            Field::Long(1_030),
            Field::Long(20),
            Field::Long(5),
            Field::Long(1_000),
            Field::Long(1_005),
            Field::Long(2),
            text("failed"),
            Field::Long(-62),
        ];
        let [first, second] = &rows(&file)[..] else { panic!("two jobs were written") };
        let named: Vec<_> = COLUMNS.iter().map(|(name, ..)| (*name).to_string()).zip(expected).collect();
        assert_eq!(first, &named);
        let there: Vec<_> = second.iter().filter(|(_, field)| *field != Field::Null).collect();
        assert_eq!(there, [&("status".into(), text("in_flight"))]);

        let metadata = file.metadata().file_metadata();
        let of = |key: &str| {
            let pair = metadata.key_value_metadata().unwrap().iter().find(|pair| pair.key == key);
            pair.and_then(|pair| pair.value.clone()).unwrap_or_else(|| panic!("{key}"))
        };
        assert_eq!(of("gpuscope.schema"), "gpuscope.job/1");
        let dropped: serde_json::Value = serde_json::from_str(&of("gpuscope.dropped")).unwrap();
        assert_eq!((&dropped["ring_full"], &dropped["missed"]), (&3.into(), &0.into()));
        let coverage: serde_json::Value = serde_json::from_str(&of("gpuscope.coverage")).unwrap();
        assert_eq!((&coverage[0]["source"], &coverage[0]["detail"]), (&"waits".into(), &"no \"why\"".into()));
        let started: serde_json::Value = serde_json::from_str(&of("gpuscope.started")).unwrap();
        assert_eq!(started["realtime_ns"], 1_790_000_000_000_000_000_u64);
        assert!(metadata.created_by().unwrap().starts_with("gpuscope "));
    }

    #[test]
    fn dependencies_are_null_where_they_were_not_recorded() {
        let mut names = TraceNames::default();
        let one = job(1, &mut names);
        let none = Job { dependencies: 0, ..one };
        let by_address = Job { key: JobKey::Address(7), ..none };
        for (is_told, expected) in
            [(false, [Field::Long(2), Field::Null, Field::Null]), (true, [Field::Long(2), Field::Long(0), Field::Null])]
        {
            let mut writer = Writer::new(Vec::new(), Tells { dependencies: is_told }).unwrap();
            for job in [&one, &none, &by_address] {
                writer.job(job, &names).unwrap();
            }
            let rows = rows(&read(writer.finish(&About::default()).unwrap()));
            let of =
                |row: &Vec<(String, Field)>| row.iter().find(|(name, _)| name == "dependencies").unwrap().1.clone();
            assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn row_groups_are_bounded_and_none_is_empty() {
        let mut names = TraceNames::default();
        let one = job(1, &mut names);
        for (jobs, expected) in [(0, vec![]), (ROW_GROUP, vec![ROW_GROUP]), (ROW_GROUP + 1, vec![ROW_GROUP, 1])] {
            let mut writer = Writer::new(Vec::new(), Tells::default()).unwrap();
            for n in 0..jobs {
                let key = JobKey::Fence { context: 1, seqno: n as u64 };
                writer.job(&Job { key, ..one }, &names).unwrap();
            }
            let file = read(writer.finish(&About::default()).unwrap());
            let groups: Vec<usize> = file.metadata().row_groups().iter().map(|of| of.num_rows() as usize).collect();
            assert_eq!(groups, expected);
            let is_there = |column: &str| {
                file.metadata().file_metadata().schema_descr().columns().iter().any(|of| of.name() == column)
            };
            assert!(COLUMNS.iter().all(|(name, ..)| is_there(name)));
        }
    }

    #[test]
    fn an_error_of_the_writer_is_given_as_it_was() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut names = TraceNames::default();
        let job = job(1, &mut names);
        let done = Writer::new(Full, Tells::default()).and_then(|mut writer| {
            writer.job(&job, &names)?;
            writer.finish(&About::default()).map(|_| ())
        });
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
