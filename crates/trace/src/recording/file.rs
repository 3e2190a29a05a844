//! Recordings in files: made with care for what is there already, and bounded in size by rotation.

use super::frame::SYNC;
use super::parts::part_path;
use super::{Header, RecordingError, RecordingWriter};
use crate::{EventFormat, RawRecord, RecordSink};
use gpuscope_model::trace::Dropped;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Parts that a bounded recording has at most: the newest in `FILE`, the others in `FILE.1` to `FILE.3`. When one is full the oldest
/// goes, so that between three and four quarters of the bound are kept.
const PARTS: u32 = 4;

/// Smallest bound: parts must have room for headers, formats and tasks beside records.
const LEAST_BYTES: u64 = 8 << 20;

/// Room that a part keeps for what is not bounded by the record: rounds, losses, a mark.
const RESERVE: u64 = 4 << 10;

/// How a recording's file is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Most bytes on disk, all parts together.
    pub max_bytes: Option<u64>,
    /// Replace a file that is no recording.
    pub force: bool,
}

/// Writes a recording into files.
///
/// The file is readable by its owner alone: it tells which programs ran. A recording that stands there already is replaced; any other
/// file only by force, and a link or a device never. The old file is unlinked and not truncated, so that who reads it can go on.
#[derive(Debug)]
pub struct RecordingFile {
    path: PathBuf,
    writer: RecordingWriter<File>,
    part_bytes: Option<u64>,
    failed: Option<RecordingError>,
}

impl RecordingFile {
    /// Begins a recording.
    ///
    /// # Errors
    /// [`RecordingError::InTheWay`], [`RecordingError::TooSmall`], [`RecordingError::Io`].
    pub fn create(
        path: impl AsRef<Path>,
        header: Header,
        formats: &[EventFormat],
        options: CreateOptions,
    ) -> Result<Self, RecordingError> {
        let path = path.as_ref().to_path_buf();
        if let Some(max_bytes) = options.max_bytes.filter(|max| *max < LEAST_BYTES) {
            return Err(RecordingError::TooSmall { path, max_bytes, least: LEAST_BYTES });
        }
        // Parts of an older recording would stand beside this one, and be taken for its own by whoever looks at the names.
        for n in 0..PARTS {
            check(&part_path(&path, n), options.force && n == 0)?;
        }
        for n in 0..PARTS {
            remove(&part_path(&path, n))?;
        }
        let file = create_new(&path)?;
        let mut writer = RecordingWriter::new(file, header, formats).map_err(RecordingError::io(&path))?;
        let part_bytes = options.max_bytes.map(|max| max / u64::from(PARTS));
        if let Some(part) = part_bytes {
            // A task takes 32 bytes, as names have 15 letters: a quarter of a part at most.
            writer.keep_tasks(usize::try_from(part / 4 / 32).unwrap_or(usize::MAX));
        }
        Ok(RecordingFile { path, writer, part_bytes, failed: None })
    }

    /// See [`RecordingWriter::format`].
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub fn format(&mut self, format: &EventFormat) -> Result<(), RecordingError> {
        self.make_room(format.to_text().len());
        self.checked(|writer| writer.format(format))
    }

    /// See [`RecordingWriter::tasks`].
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub fn tasks<'a>(&mut self, tasks: impl IntoIterator<Item = (u32, u32, &'a str)>) -> Result<(), RecordingError> {
        let tasks: Vec<_> = tasks.into_iter().collect();
        for some in tasks.chunks(256) {
            self.make_room(some.iter().map(|(.., comm)| comm.len().saturating_add(16)).sum());
            self.checked(|writer| writer.tasks(some.iter().copied()))?;
        }
        Ok(())
    }

    /// See [`RecordingWriter::round`].
    ///
    /// # Errors
    /// [`RecordingError::Io`], also of what was recorded since the last round.
    pub fn round(&mut self, until_ns: u64) -> Result<(), RecordingError> {
        self.make_room(0);
        self.checked(|writer| writer.round(until_ns))
    }

    /// See [`RecordingWriter::dropped`].
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub fn dropped(&mut self, at_ns: u64, dropped: Dropped) -> Result<(), RecordingError> {
        self.make_room(0);
        self.checked(|writer| writer.dropped(at_ns, dropped))
    }

    /// See [`RecordingWriter::mark`].
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub fn mark(&mut self, at_ns: u64, text: &str) -> Result<(), RecordingError> {
        self.make_room(0);
        self.checked(|writer| writer.mark(at_ns, text))
    }

    /// Records so far, those pushed out by the bound on size too.
    pub fn records(&self) -> u64 {
        self.writer.records()
    }

    /// Ends the recording: when this returns, it is on the disk.
    ///
    /// # Errors
    /// [`RecordingError::Io`].
    pub fn finish(mut self) -> Result<(), RecordingError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let file = self.writer.finish().map_err(RecordingError::io(&self.path))?;
        file.sync_all().map_err(RecordingError::io(&self.path))
    }

    fn checked(
        &mut self,
        write: impl FnOnce(&mut RecordingWriter<File>) -> io::Result<()>,
    ) -> Result<(), RecordingError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        write(&mut self.writer).map_err(RecordingError::io(&self.path))
    }

    /// Begins the next part if so many bytes have no room in this one.
    #[inline]
    fn make_room(&mut self, bytes: usize) {
        let Some(most) = self.part_bytes else { return };
        if self.writer.part_bytes().saturating_add(bytes as u64).saturating_add(RESERVE) > most
            && self.failed.is_none()
            && let Err(error) = self.rotate()
        {
            self.failed = Some(error);
        }
    }

    fn rotate(&mut self) -> Result<(), RecordingError> {
        // The oldest goes before the new one comes, so that the bound holds at every moment.
        remove(&part_path(&self.path, PARTS - 1))?;
        for n in (0..PARTS - 1).rev() {
            let (from, to) = (part_path(&self.path, n), part_path(&self.path, n + 1));
            match std::fs::rename(&from, &to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(RecordingError::Io { path: from, source }),
            }
        }
        let next = create_new(&self.path)?;
        self.writer.next_part(next).map_err(RecordingError::io(&self.path))?;
        Ok(())
    }
}

impl RecordSink for RecordingFile {
    fn record(&mut self, record: RawRecord<'_>) {
        self.make_room(record.data.len().saturating_add(128));
        self.writer.record(record);
    }
}

/// Whether what stands at a path may be replaced.
fn check(path: &Path, force: bool) -> Result<(), RecordingError> {
    let in_the_way = |what, remedy| Err(RecordingError::InTheWay { path: path.to_path_buf(), what, remedy });
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RecordingError::Io { path: path.to_path_buf(), source }),
    };
    if kind.is_symlink() {
        return in_the_way("a symbolic link stands there", "name the file that it points to");
    }
    if !kind.is_file() {
        return in_the_way("this is no regular file", "name a file");
    }
    let mut file = File::open(path).map_err(RecordingError::io(path))?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return in_the_way("another recording is being written there", "stop that one, or name another file");
    }
    let mut start = Vec::new();
    file.by_ref().take(SYNC.len() as u64).read_to_end(&mut start).map_err(RecordingError::io(path))?;
    if !force && !start.is_empty() && start != SYNC {
        return in_the_way("a file that is no recording stands there", "name another file, or replace it with --force");
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), RecordingError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RecordingError::Io { path: path.to_path_buf(), source: error })
        }
        _ => Ok(()),
    }
}

/// A file that was not there, held by a lock as long as it is written.
fn create_new(path: &Path) -> Result<File, RecordingError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(RecordingError::io(path))?;
    // File systems without locks exist; the lock only saves from mistakes.
    let _ = file.try_lock();
    Ok(file)
}
