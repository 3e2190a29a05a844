//! The files of a recording: which they are, and what is a recording at all.

use super::RecordingError;
use super::frame::{HEAD, Head, Kind, SYNC, VERSION};
use super::header::Header;
use crate::foreign;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How far into a file its header is looked for, where the first bytes are damaged.
const HEADER_WITHIN: u64 = 64 << 10;

/// Files of one recording that are looked for, the newest first: `FILE`, `FILE.1`, …
const MOST_PARTS: u32 = 64;

/// The file with a part of the recording: `FILE`, or one of those that it was renamed to.
pub(super) fn find_part(path: &Path, header: &Header, part: u64) -> Option<File> {
    for n in 0..MOST_PARTS {
        let Ok(mut file) = File::open(part_path(path, n)) else {
            // While files are being renamed, the first may be missing for a moment.
            if n == 0 { continue } else { return None }
        };
        let is_it = |found: &Header| found.recording == header.recording && found.part == part;
        if matches!(read_header(&mut file, path), Ok(found) if is_it(&found)) {
            return Some(file);
        }
    }
    None
}

/// `FILE` for 0, `FILE.1` for 1.
pub(super) fn part_path(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{n}"));
    name.into()
}

/// The first good copy of the header, from the start; the file is at its start again.
pub(super) fn read_header<R: Read + Seek>(file: &mut R, path: &Path) -> Result<Header, RecordingError> {
    let mut start = Vec::new();
    let mut read = || {
        file.seek(SeekFrom::Start(0))?;
        file.by_ref().take(HEADER_WITHIN).read_to_end(&mut start)?;
        file.seek(SeekFrom::Start(0))
    };
    read().map_err(RecordingError::io(path))?;
    let mut is_ours = start.starts_with(&SYNC);
    let mut rest = start.as_slice();
    let mut what = "both copies of it are damaged".to_string();
    while let Some(found) = rest.windows(SYNC.len()).position(|bytes| bytes == SYNC) {
        rest = rest.get(found..).unwrap_or_default();
        if let Some(head) = Head::parse(rest) {
            is_ours = true;
            let payload = rest.get(HEAD..).and_then(|rest| rest.get(..head.length as usize));
            let payload = payload.filter(|payload| crc32c::crc32c(payload) == head.payload_crc);
            if head.version > VERSION {
                return Err(RecordingError::Newer { path: path.into(), version: head.version });
            }
            if let Some(payload) = payload
                && head.kind == Kind::Header as u8
            {
                match Header::parse(payload) {
                    Ok(header) if header.is_native() => return Ok(header),
                    Ok(header) => {
                        return Err(RecordingError::ByteOrder { path: path.into(), order: header.byte_order });
                    }
                    Err(error) => what = error,
                }
            }
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    if !is_ours {
        return Err(RecordingError::Foreign { path: path.into(), kind: kind_of(&start) });
    }
    if start.len() < 2 * HEAD {
        what = "the file ends within it".into();
    }
    Err(RecordingError::Header { path: path.into(), what })
}

/// What a file is that is no recording of ours, by its first bytes.
fn kind_of(start: &[u8]) -> Option<String> {
    if start.is_empty() {
        return Some("an empty file".into());
    }
    foreign::detect(start).map(|kind| kind.to_string())
}
