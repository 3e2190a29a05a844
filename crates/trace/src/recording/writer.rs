//! Writing.

use super::frame::{HEAD, Head, Kind, MOST_PAYLOAD, RECORD_HEAD, VERSION, record_length};
use super::header::Header;
use super::packer::{Packer, Taken};
use crate::{EventFormat, RawRecord, RecordSink};
use gpuscope_model::trace::Dropped;
use std::collections::VecDeque;
use std::io::{self, Write};

/// Payload at which a frame of records is closed. Large, so that head, tables and the call cost nothing by the record; small enough that
/// what is left of it packed, a quarter, stays in the processor's cache between being filled and being summed.
const RECORDS_BYTES: usize = 2 << 20;

/// Records that are written as they come behind one that cannot be packed: frames are not to change with every record.
const PLAIN_BEHIND: u32 = 64;

/// Tasks that are remembered, to be told again in the next part. The oldest go first.
const MOST_TASKS: usize = 1 << 16;

/// Longest text of a mark.
const MOST_MARK: usize = 1024;

/// Writes a recording.
///
/// Records gather in a buffer; [`round`](RecordingWriter::round) writes what there is, so that a reader of the growing file sees it. The
/// buffer is written in one piece. Nothing is allocated for a record.
///
/// An error of the writer is kept and returned by the next call that can: after it nothing more is written, and what was written before
/// can be read.
#[derive(Debug)]
pub struct RecordingWriter<W: Write> {
    out: W,
    /// Whole frames, then the one that is open.
    buffer: Vec<u8>,
    /// At most one of the two has records: frames stand in the order in which records came.
    open: Option<Open>,
    packer: Packer,
    /// Records that are not to be packed.
    plain: u32,
    header: Header,
    formats: Vec<EventFormat>,
    tasks: VecDeque<(u32, u32, Box<str>)>,
    most_tasks: usize,
    dropped: Option<Dropped>,
    /// Records longer than a record can be.
    too_long: u64,
    records: u64,
    sequence: u32,
    part_bytes: u64,
    failed: Option<io::Error>,
}

/// A frame of records as they came that is being filled.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Where its head stands in the buffer.
    head_at: usize,
    first_ns: u64,
    last_ns: u64,
    count: u32,
}

impl<W: Write> RecordingWriter<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(out: W, header: Header, formats: &[EventFormat]) -> io::Result<Self> {
        let mut writer = RecordingWriter {
            out,
            buffer: Vec::with_capacity(RECORDS_BYTES.saturating_add(RECORDS_BYTES / 4)),
            open: None,
            packer: Packer::default(),
            plain: 0,
            header,
            formats: Vec::new(),
            tasks: VecDeque::new(),
            most_tasks: MOST_TASKS,
            dropped: None,
            too_long: 0,
            records: 0,
            sequence: 0,
            part_bytes: 0,
            failed: None,
        };
        writer.put_header()?;
        for format in formats {
            writer.format(format)?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Says how records of a kind are laid out. It must come before the first of them.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn format(&mut self, format: &EventFormat) -> io::Result<()> {
        self.formats.push(format.clone());
        // What was packed until now may have been of another format with this number.
        self.close();
        self.packer.add_format(format);
        self.put_format(format)
    }

    /// Threads as they become known: thread, process (0: not known), name.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn tasks<'a>(&mut self, tasks: impl IntoIterator<Item = (u32, u32, &'a str)>) -> io::Result<()> {
        let mut payload = Vec::new();
        for (tid, pid, comm) in tasks {
            put_task(&mut payload, tid, pid, comm);
            if self.tasks.len() >= self.most_tasks {
                self.tasks.pop_front();
            }
            self.tasks.push_back((tid, pid, comm.into()));
            if payload.len() >= RECORDS_BYTES {
                self.put(Kind::Tasks, 0, 0, &payload)?;
                payload.clear();
            }
        }
        if payload.is_empty() { Ok(()) } else { self.put(Kind::Tasks, 0, 0, &payload) }
    }

    /// Says that every record until this moment was given, and writes all that there is.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn round(&mut self, until_ns: u64) -> io::Result<()> {
        self.close();
        let records = self.records.to_le_bytes();
        self.put(Kind::Round, until_ns, until_ns, &records)?;
        self.flush()
    }

    /// Events that were not recorded until now, by cause, cumulative. Written where it differs from last time.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dropped(&mut self, at_ns: u64, dropped: Dropped) -> io::Result<()> {
        let dropped = Dropped { unreadable: dropped.unreadable.saturating_add(self.too_long), ..dropped };
        if self.dropped == Some(dropped) {
            return Ok(());
        }
        self.dropped = Some(dropped);
        self.put_dropped(at_ns, dropped)
    }

    /// Notes a moment: a trigger, a change of settings.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn mark(&mut self, at_ns: u64, text: &str) -> io::Result<()> {
        let text = text.get(..text.floor_char_boundary(MOST_MARK)).unwrap_or_default();
        self.put(Kind::Mark, at_ns, at_ns, text.as_bytes())
    }

    /// Ends the recording, and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_part(false)?;
        Ok(self.out)
    }

    /// Ends this part of the recording and goes on in another, which has formats, tasks and losses again. Gives the writer of the part
    /// that ended.
    ///
    /// # Errors
    /// Those of the writers.
    pub fn next_part(&mut self, out: W) -> io::Result<W> {
        self.end_part(true)?;
        let ended = std::mem::replace(&mut self.out, out);
        self.part_bytes = 0;
        self.header.part = self.header.part.saturating_add(1);
        self.header.records_before = self.records;
        self.put_header()?;
        for format in std::mem::take(&mut self.formats) {
            self.format(&format)?;
        }
        let mut payload = Vec::new();
        for (tid, pid, comm) in &self.tasks {
            put_task(&mut payload, *tid, *pid, comm);
        }
        // One frame is enough: MOST_TASKS of the longest entries are a tenth of MOST_PAYLOAD.
        if !payload.is_empty() {
            self.put(Kind::Tasks, 0, 0, &payload)?;
        }
        if let Some(dropped) = self.dropped {
            self.put_dropped(0, dropped)?;
        }
        self.flush()?;
        Ok(ended)
    }

    /// Keeps no more tasks than that for the next part.
    pub(super) fn keep_tasks(&mut self, most: usize) {
        self.most_tasks = most.min(MOST_TASKS);
    }

    /// Length of this part if it ended here.
    pub fn part_bytes(&self) -> u64 {
        let gathered = self.buffer.len().saturating_add(self.packer.length());
        self.part_bytes.saturating_add(gathered as u64).saturating_add(2 * HEAD as u64 + 16)
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The writer.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    fn end_part(&mut self, goes_on: bool) -> io::Result<()> {
        self.close();
        let mut payload = [0; 16];
        let (records, more) = payload.split_at_mut(8);
        records.copy_from_slice(&self.records.to_le_bytes());
        more.copy_from_slice(&u64::from(goes_on).to_le_bytes());
        self.put(Kind::End, 0, 0, &payload)?;
        self.flush()
    }

    /// Twice: a recording without its header says nothing, and a damaged block on disk is larger than one of them.
    fn put_header(&mut self) -> io::Result<()> {
        let json = self.header.to_json()?;
        let at_ns = self.header.started.monotonic_ns;
        self.put(Kind::Header, at_ns, at_ns, &json)?;
        self.put(Kind::Header, at_ns, at_ns, &json)
    }

    fn put_format(&mut self, format: &EventFormat) -> io::Result<()> {
        let text = format!("{}\n{}", format.system, format.to_text());
        self.put(Kind::Format, 0, 0, text.as_bytes())
    }

    fn put_dropped(&mut self, at_ns: u64, dropped: Dropped) -> io::Result<()> {
        let counts: serde_json::Map<_, _> =
            dropped.each().into_iter().map(|(cause, count)| (cause.to_string(), count.into())).collect();
        self.put(Kind::Dropped, at_ns, at_ns, &serde_json::to_vec(&counts)?)
    }

    /// A frame of anything but records.
    fn put(&mut self, kind: Kind, first_ns: u64, last_ns: u64, payload: &[u8]) -> io::Result<()> {
        if payload.len() > MOST_PAYLOAD {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a frame of more than 16 MiB"));
        }
        self.close();
        let head = self.head(kind, first_ns, last_ns, 0, payload);
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(payload);
        if self.buffer.len() >= RECORDS_BYTES { self.flush() } else { Ok(()) }
    }

    fn head(&mut self, kind: Kind, first_ns: u64, last_ns: u64, count: u32, payload: &[u8]) -> [u8; HEAD] {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let payload_crc = crc32c::crc32c(payload);
        Head { kind: kind as u8, flags: 0, version: VERSION, length, first_ns, last_ns, count, payload_crc, sequence }
            .to_bytes()
    }

    /// Closes the frame of records, if one is open.
    fn close(&mut self) {
        self.close_packed();
        let Some(open) = self.open.take() else { return };
        let payload_at = open.head_at.saturating_add(HEAD);
        let buffer = std::mem::take(&mut self.buffer);
        let payload = buffer.get(payload_at..).unwrap_or_default();
        let head = self.head(Kind::Records, open.first_ns, open.last_ns, open.count, payload);
        self.buffer = buffer;
        if let Some(place) = self.buffer.get_mut(open.head_at..payload_at) {
            place.copy_from_slice(&head);
        }
    }

    fn close_packed(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let head_at = buffer.len();
        buffer.extend_from_slice(&[0; HEAD]);
        let payload_at = buffer.len();
        match self.packer.close(&mut buffer) {
            None => buffer.truncate(head_at),
            Some(closed) => {
                let kind = if closed.is_packed { Kind::Packed } else { Kind::Records };
                let payload = buffer.get(payload_at..).unwrap_or_default();
                let head = self.head(kind, closed.first_ns, closed.last_ns, closed.count, payload);
                if let Some(place) = buffer.get_mut(head_at..payload_at) {
                    place.copy_from_slice(&head);
                }
            }
        }
        self.buffer = buffer;
    }

    /// Puts a record into the packed frame, if it can be packed.
    #[inline]
    fn pack(&mut self, record: RawRecord<'_>) -> bool {
        if self.plain > 0 {
            self.plain -= 1;
            return false;
        }
        if self.open.is_some() {
            self.close();
        }
        let mut taken = self.packer.pack(record);
        if taken == Taken::Full {
            self.close_packed();
            taken = self.packer.pack(record);
        }
        if taken != Taken::Packed {
            self.plain = PLAIN_BEHIND;
        }
        taken == Taken::Packed
    }

    /// Writes the buffer. Frames must be closed.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(error) = &self.failed {
            self.buffer.clear();
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        let result = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.part_bytes = self.part_bytes.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        if let Err(error) = &result {
            self.failed = Some(io::Error::new(error.kind(), error.to_string()));
        }
        result
    }
}

/// Thread and process, length of the name, name, and zeros up to a whole number of eights.
fn put_task(payload: &mut Vec<u8>, tid: u32, pid: u32, comm: &str) {
    let comm = comm.get(..comm.floor_char_boundary(usize::from(u8::MAX))).unwrap_or_default();
    payload.extend_from_slice(&tid.to_le_bytes());
    payload.extend_from_slice(&pid.to_le_bytes());
    payload.push(u8::try_from(comm.len()).unwrap_or(u8::MAX));
    payload.extend_from_slice(comm.as_bytes());
    payload.resize(payload.len().next_multiple_of(8), 0);
}

/// A record as it came. None of one that is too long.
pub(super) fn put_record(buffer: &mut Vec<u8>, record: RawRecord<'_>) -> Option<()> {
    let size = u16::try_from(record.data.len()).ok()?;
    let mut head = [0; RECORD_HEAD];
    let number = u64::from(record.cpu) | u64::from(size) << 16;
    let (first, second) = head.split_at_mut(8);
    first.copy_from_slice(&record.at_ns.to_le_bytes());
    second.copy_from_slice(&number.to_le_bytes());
    let end = buffer.len().saturating_add(record_length(record.data.len()));
    buffer.extend_from_slice(&head);
    buffer.extend_from_slice(record.data);
    buffer.resize(end, 0);
    Some(())
}

impl<W: Write> RecordSink for RecordingWriter<W> {
    fn record(&mut self, record: RawRecord<'_>) {
        if u16::try_from(record.data.len()).is_err() {
            self.too_long = self.too_long.saturating_add(1);
            return;
        }
        if !self.pack(record) {
            self.close_packed();
            let at_ns = record.at_ns;
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    let head_at = self.buffer.len();
                    self.buffer.extend_from_slice(&[0; HEAD]);
                    none.insert(Open { head_at, first_ns: at_ns, last_ns: at_ns, count: 0 })
                }
            };
            open.first_ns = open.first_ns.min(at_ns);
            open.last_ns = open.last_ns.max(at_ns);
            open.count = open.count.saturating_add(1);
            let _ = put_record(&mut self.buffer, record);
        }
        self.records = self.records.saturating_add(1);
        if self.buffer.len().saturating_add(self.packer.length()) >= RECORDS_BYTES {
            self.close();
            // The error is kept, and returned by `round`.
            let _ = self.flush();
        }
    }
}
