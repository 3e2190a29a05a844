//! Reading.

use super::RecordingError;
use super::frame::{HEAD, Head, Kind, at};
use super::header::Header;
use super::held::Give;
use super::order::{Cut, Waiting};
use super::packed::{Packed, PackedRecords, UnpackedData};
use super::parts::{find_part, read_header};
use super::payload::{each_task, parse_dropped, parse_format};
use super::scan::{Damage, Frame, Frames};
use crate::{Decoder, EventFormat, RawRecord, StepSink, Steps};
use gpuscope_model::trace::{Dropped, Event, TraceNames};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What a recording holds, as it comes.
#[derive(Debug)]
pub enum Item<'a> {
    /// The layout of a kind of records. In each part again.
    Format(&'a EventFormat),
    /// A thread, from now on.
    Task {
        /// The thread.
        tid: u32,
        /// Its process; 0 where that is not known.
        pid: u32,
        /// Its name.
        comm: &'a str,
    },
    /// A record. In order of time, but for late ones.
    Record(RawRecord<'a>),
    /// What was lost or left out while recording, cumulative.
    Dropped {
        /// Until when; 0 where a part begins.
        at_ns: u64,
        /// How many, by cause.
        dropped: Dropped,
    },
    /// A moment that was noted.
    Mark {
        /// When.
        at_ns: u64,
        /// What.
        text: &'a str,
    },
    /// All until this moment was given.
    Round(u64),
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All until this moment was given.
    Round(u64),
    /// The file has no more, and does not end as a finished recording does: it is being written, or was cut off.
    Idle,
    /// The recording ends here.
    End,
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Finished,
    /// Behind a whole frame, without the last one: it is being written, or its writer was stopped.
    Open {
        /// Length of the file.
        offset: u64,
    },
    /// Within a frame, or with bytes that are none.
    Cut {
        /// Where that frame begins.
        offset: u64,
    },
    /// The part that was to follow is not there.
    PartMissing,
    /// At the end of the window that was asked for.
    Window,
}

/// What reading a recording came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Records given.
    pub records: u64,
    /// Of these, records given out of order: they came after their round had ended.
    pub late: u64,
    /// Of these, records given before their round had ended, because too many waited.
    pub hurried: u64,
    /// Of these, whole records of frames that are cut off: no checksum vouches for them.
    pub unverified: u64,
    /// Records that were written and not found, by the counts that the recording keeps: in damaged frames, or in parts that are missing
    /// in the middle. Those behind a cut are not known.
    pub lost: u64,
    /// Records of parts before the first one that is there: the bound on size pushed them out.
    pub rotated_out: u64,
    /// What was damaged.
    pub damage: Damage,
    /// Frames of kinds that this version does not know.
    pub unknown_frames: u64,
    /// Frames with a good checksum and a content that is not understood.
    pub malformed: u64,
    /// Losses while recording, as last told.
    pub dropped: Dropped,
    /// How it ends.
    pub ended: Ended,
}

/// Takes what a recording holds, records by themselves: of tens of millions, none is to be asked what it is.
pub trait ItemSink {
    /// A record. In order of time, but for late ones.
    fn record(&mut self, record: RawRecord<'_>);

    /// Records of one frame that the file holds packed, in order of time. Those who do not know what to do with them get each by itself.
    fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>) {
        let mut data = UnpackedData::default();
        for record in records {
            if let Some(record) = frame.unpack(&record, &mut data) {
                self.record(record);
            }
        }
    }

    /// Anything else; never an [`Item::Record`].
    fn item(&mut self, item: Item<'_>);
}

/// A closure that takes items of all kinds.
struct Each<F>(F);

impl<F: FnMut(Item<'_>)> ItemSink for Each<F> {
    fn record(&mut self, record: RawRecord<'_>) {
        (self.0)(Item::Record(record));
    }

    fn item(&mut self, item: Item<'_>) {
        (self.0)(item);
    }
}

/// The records of a sink of items.
struct Records<'a, S>(&'a mut S);

impl<S: ItemSink> Give for Records<'_, S> {
    #[inline(always)]
    fn record(&mut self, record: RawRecord<'_>) {
        self.0.record(record);
    }

    #[inline(always)]
    fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>) {
        self.0.packed(frame, records);
    }
}

/// Those of a window.
struct Within<'a, S>(&'a mut S, u64, u64);

impl<S: ItemSink> Give for Within<'_, S> {
    #[inline(never)]
    fn record(&mut self, record: RawRecord<'_>) {
        if (self.1..=self.2).contains(&record.at_ns) {
            self.0.record(record);
        }
    }

    #[inline(never)]
    fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>) {
        self.0.packed(frame, records.within(self.1, self.2));
    }
}

type FindPart<R> = fn(&Path, &Header, u64) -> Option<R>;

/// A recording that is read.
#[derive(Debug)]
pub struct Recording<R = File> {
    path: PathBuf,
    header: Header,
    formats: Vec<EventFormat>,
    find_part: Option<FindPart<R>>,
    frames: Frames<R>,
    waiting: Waiting,
    part: u64,
    read: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Records in frames that were read.
    records: u64,
    /// Records that the writer counted and that were not there.
    lost: u64,
    unverified: u64,
    unknown_frames: u64,
    malformed: u64,
    dropped: Dropped,
    /// The part ended, and another follows.
    part_ended: bool,
    ended: Option<Ended>,
}

impl Recording<File> {
    /// Opens a recording: all parts that are there, the oldest first.
    ///
    /// # Errors
    /// [`RecordingError::Io`], and where this is no recording, or none that can be read here, the error that says so.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordingError> {
        let path = path.as_ref();
        let open = |path: &Path| File::open(path).map_err(RecordingError::io(path));
        let newest = Recording::from_reader(open(path)?, path)?;
        let mut oldest = newest.header.part;
        while let Some(before) = oldest.checked_sub(1)
            && find_part(path, &newest.header, before).is_some()
        {
            oldest = before;
        }
        let mut recording = match find_part(path, &newest.header, oldest) {
            Some(file) if oldest != newest.header.part => Recording::from_reader(file, path)?,
            _ => newest,
        };
        recording.find_part = Some(find_part);
        Ok(recording)
    }
}

impl<R: Read + Seek> Recording<R> {
    /// Reads a single part from anything. The path is for messages.
    ///
    /// # Errors
    /// As [`Recording::open`].
    pub fn from_reader(mut source: R, path: &Path) -> Result<Self, RecordingError> {
        let header = read_header(&mut source, path)?;
        // The formats stand ahead of the first records; they are read once for those who ask, and again in their order.
        let mut formats = Vec::new();
        let mut first = Frames::new(&mut source);
        while let Some(frame) = first.next().map_err(RecordingError::io(path))? {
            match Kind::of(frame.head.kind) {
                Some(Kind::Format) => formats.extend(parse_format(payload(&first, &frame))),
                Some(Kind::Records | Kind::Packed | Kind::Round | Kind::End) => break,
                _ => {}
            }
        }
        source.seek(SeekFrom::Start(0)).map_err(RecordingError::io(path))?;
        Ok(Recording {
            path: path.to_path_buf(),
            part: header.part,
            header,
            formats,
            find_part: None,
            frames: Frames::new(source),
            waiting: Waiting::default(),
            read: Counts::default(),
        })
    }

    /// What it says of itself, in its first part.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The layouts of its records, as far as they stand at its beginning.
    pub fn formats(&self) -> &[EventFormat] {
        &self.formats
    }

    /// Gives records of that time only, both ends included. Frames that lie outside are not read. To be called first.
    pub fn set_window(&mut self, from_ns: u64, to_ns: u64) {
        self.frames.window = Some((from_ns, to_ns));
    }

    /// The same for several times, the earliest first. Some records between them are given, too: those of frames that reach into one.
    pub fn set_windows(&mut self, windows: &[(u64, u64)]) {
        let (Some((from_ns, _)), Some((_, to_ns))) = (windows.first(), windows.last()) else { return };
        self.set_window(*from_ns, *to_ns);
        self.frames.gaps =
            windows.iter().zip(windows.iter().skip(1)).map(|(before, after)| (before.1, after.0)).collect();
    }

    /// Bytes of the present part that were read or passed over: for a progress bar.
    pub fn offset(&self) -> u64 {
        self.frames.offset()
    }

    /// Gives all events, in order of time.
    ///
    /// # Errors
    /// As [`Recording::items`].
    pub fn events(self, decoder: &mut Decoder, each: impl FnMut(Event)) -> Result<Summary, RecordingError> {
        struct Made<F>(F);
        impl<F: FnMut(Event)> StepSink for Made<F> {
            fn steps(&mut self, steps: &mut Steps<'_>, _: &TraceNames) {
                steps.for_each(|step| (self.0)(step.event()));
            }
            fn event(&mut self, event: &Event, _: &TraceNames) {
                (self.0)(*event);
            }
        }
        struct Events<'a, F>(&'a mut Decoder, Made<F>);
        impl<F: FnMut(Event)> ItemSink for Events<'_, F> {
            fn record(&mut self, record: RawRecord<'_>) {
                if let Some(event) = self.0.decode(record) {
                    (self.1.0)(event);
                }
            }
            fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>) {
                self.0.decode_packed(frame, records, &mut self.1);
            }
            fn item(&mut self, item: Item<'_>) {
                match item {
                    Item::Format(format) => {
                        self.0.add_format(format);
                    }
                    Item::Task { tid, pid, comm } => self.0.set_task(tid, pid, comm),
                    Item::Record(_) | Item::Dropped { .. } | Item::Mark { .. } | Item::Round(_) => {}
                }
            }
        }
        self.read(&mut Events(decoder, Made(each)))
    }

    /// Gives all that it holds.
    ///
    /// # Errors
    /// [`RecordingError::Io`] where the file cannot be read, [`RecordingError::Mixed`] where another recording begins in it. What is
    /// cut off or damaged is no error; the summary tells of it.
    pub fn items(self, each: impl FnMut(Item<'_>)) -> Result<Summary, RecordingError> {
        self.read(&mut Each(each))
    }

    /// The same, into a sink.
    ///
    /// # Errors
    /// As [`Recording::items`].
    pub fn read(mut self, sink: &mut impl ItemSink) -> Result<Summary, RecordingError> {
        loop {
            match self.step_into(sink)? {
                Step::Round(_) => {}
                Step::End => break,
                Step::Idle => {
                    // The writer always ends a part before it begins another: this one was cut off.
                    let Some(next) = self.next_part() else { break };
                    self.salvage(sink);
                    self.frames.go_on_with(next);
                }
            }
        }
        Ok(self.finish_into(sink))
    }

    /// Gives what there is until the end of the next round. A recording that is being written is followed by calling this again some
    /// time after [`Step::Idle`].
    ///
    /// # Errors
    /// As [`Recording::items`].
    pub fn step(&mut self, each: impl FnMut(Item<'_>)) -> Result<Step, RecordingError> {
        self.step_into(&mut Each(each))
    }

    fn step_into(&mut self, sink: &mut impl ItemSink) -> Result<Step, RecordingError> {
        if self.read.ended.is_some() {
            return Ok(Step::End);
        }
        loop {
            let Some(frame) = self.frames.next().map_err(RecordingError::io(&self.path))? else {
                if self.read.part_ended
                    && let Some(next) = self.next_part()
                {
                    self.read.part_ended = false;
                    self.frames.go_on_with(next);
                    continue;
                }
                return Ok(Step::Idle);
            };
            if let Some(step) = self.take(&frame, sink)? {
                return Ok(step);
            }
        }
    }

    /// One frame.
    fn take(&mut self, frame: &Frame, sink: &mut impl ItemSink) -> Result<Option<Step>, RecordingError> {
        let head = frame.head;
        let Some(kind) = Kind::of(head.kind).filter(|_| head.is_known()) else {
            self.read.unknown_frames = self.read.unknown_frames.saturating_add(1);
            return Ok(None);
        };
        let bytes = payload(&self.frames, frame);
        let understood = match kind {
            Kind::Header => match Header::parse(bytes) {
                Ok(header) if header.recording != self.header.recording => {
                    return Err(RecordingError::Mixed { path: self.path.clone(), offset: frame.offset });
                }
                Ok(header) => {
                    self.part = header.part;
                    self.read.part_ended = false;
                    true
                }
                Err(_) => false,
            },
            Kind::Format => parse_format(bytes).map(|format| sink.item(Item::Format(&format))).is_some(),
            Kind::Tasks => each_task(bytes, sink),
            Kind::Records | Kind::Packed => {
                self.take_records(frame, bytes.len(), None, sink);
                true
            }
            Kind::Round => {
                let written = at(bytes, 0).map(u64::from_le_bytes);
                self.account(written);
                self.give_until(head.first_ns, sink);
                sink.item(Item::Round(head.first_ns));
                if self.frames.window.is_some_and(|(_, to)| to <= head.first_ns) {
                    self.read.ended = Some(Ended::Window);
                    return Ok(Some(Step::End));
                }
                return Ok(Some(Step::Round(head.first_ns)));
            }
            Kind::Dropped => match parse_dropped(bytes) {
                Some(dropped) => {
                    self.read.dropped = dropped;
                    sink.item(Item::Dropped { at_ns: head.first_ns, dropped });
                    true
                }
                None => false,
            },
            Kind::Mark => {
                sink.item(Item::Mark { at_ns: head.first_ns, text: &String::from_utf8_lossy(bytes) });
                true
            }
            Kind::End => {
                let goes_on = at(bytes, 8).map(u64::from_le_bytes);
                let written = at(bytes, 0).map(u64::from_le_bytes);
                self.account(written);
                if goes_on == Some(0) {
                    self.read.ended = Some(Ended::Finished);
                    return Ok(Some(Step::End));
                }
                self.read.part_ended = true;
                goes_on.is_some()
            }
        };
        if !understood {
            self.read.malformed = self.read.malformed.saturating_add(1);
        }
        Ok(None)
    }

    fn take_records(&mut self, frame: &Frame, length: usize, cut: Option<Cut>, sink: &mut impl ItemSink) -> u64 {
        match self.frames.window {
            None => self.add_records(frame, length, cut, &mut Records(sink)),
            Some((from, to)) => self.add_records(frame, length, cut, &mut Within(sink, from, to)),
        }
    }

    fn add_records(&mut self, frame: &Frame, length: usize, cut: Option<Cut>, sink: &mut impl Give) -> u64 {
        let count = self.waiting.add(&self.frames.blocks, frame, length, cut, sink);
        self.read.records = self.read.records.saturating_add(count);
        while self.waiting.is_full(&self.frames.blocks) {
            self.waiting.hurry(&mut self.frames.blocks, sink);
        }
        count
    }

    fn give_until(&mut self, until_ns: u64, sink: &mut impl ItemSink) {
        let blocks = &mut self.frames.blocks;
        match self.frames.window {
            None => self.waiting.give_until(until_ns, blocks, &mut Records(sink)),
            Some((from, to)) => self.waiting.give_until(until_ns, blocks, &mut Within(sink, from, to)),
        }
    }

    /// Compares the writer's count with what was read until here.
    fn account(&mut self, written: Option<u64>) {
        let Some(written) = written else { return };
        let here = written.saturating_sub(self.header.records_before);
        self.read.lost = here.saturating_sub(self.read.records.saturating_add(self.frames.skipped));
    }

    fn next_part(&self) -> Option<R> {
        self.find_part?(&self.path, &self.header, self.part.checked_add(1)?)
    }

    /// Takes the whole records of a frame that is cut off.
    fn salvage(&mut self, sink: &mut impl ItemSink) {
        let Some(head) = Head::parse(self.frames.rest()) else { return };
        if !head.has_records() || !head.is_known() {
            return;
        }
        let length = self.frames.rest().len().saturating_sub(HEAD).min(head.length as usize);
        let (block, at) = self.frames.rest_at();
        let frame = Frame { head, block, start: at.saturating_add(HEAD), offset: self.frames.offset() };
        let cut = Cut { first_ns: head.first_ns, last_ns: head.last_ns };
        let count = self.take_records(&frame, length, Some(cut), sink);
        self.read.unverified = self.read.unverified.saturating_add(count);
    }

    /// Gives what still waits, and says what reading came to.
    pub fn finish(self, each: impl FnMut(Item<'_>)) -> Summary {
        self.finish_into(&mut Each(each))
    }

    fn finish_into(mut self, sink: &mut impl ItemSink) -> Summary {
        if self.read.ended.is_none() {
            self.salvage(sink);
        }
        self.give_until(u64::MAX, sink);
        let offset = self.frames.offset();
        let ended = self.read.ended.take().unwrap_or_else(|| match self.frames.damaged_at() {
            Some(offset) => Ended::Cut { offset },
            None if !self.frames.rest().is_empty() => Ended::Cut { offset },
            None if self.read.part_ended => Ended::PartMissing,
            None => Ended::Open { offset },
        });
        Summary {
            records: self.waiting.given,
            late: self.waiting.late,
            hurried: self.waiting.hurried,
            unverified: self.read.unverified,
            lost: self.read.lost,
            rotated_out: self.header.records_before,
            damage: self.frames.damage,
            unknown_frames: self.read.unknown_frames,
            malformed: self.read.malformed.saturating_add(self.waiting.malformed),
            dropped: self.read.dropped,
            ended,
        }
    }
}

fn payload<'a, R>(frames: &'a Frames<R>, frame: &Frame) -> &'a [u8] {
    frames.blocks.from(frame.block, frame.start).get(..frame.head.length as usize).unwrap_or_default()
}
