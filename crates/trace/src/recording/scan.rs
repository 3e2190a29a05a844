//! Frames out of a file: large reads into blocks that are used again, damaged places passed over and counted.

use super::frame::{HEAD, Head, MOST_PAYLOAD, SYNC};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// Size of a block. A frame that does not fit into what is left of one is moved to the next: the larger the block, the less is moved.
const BLOCK: usize = 4 << 20;

/// Read at once: what is summed and taken apart next is still in the processor's cache.
const READ: usize = 512 << 10;

/// Read at once while frames are passed over by their heads.
const PROBE: usize = 4 << 10;

/// What could not be read, in the middle of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Places with bytes that are no frame, or a frame whose checksum is wrong.
    pub places: u64,
    /// Bytes passed over there.
    pub bytes: u64,
    /// Frames that are missing by their numbers.
    pub frames: u64,
    /// Where the first place begins, in bytes from the start of its part.
    pub first_at: Option<u64>,
}

/// Bytes of a file that are still needed. Each block has a number, and those before the first needed one are used again.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    queue: VecDeque<Block>,
    first: u32,
    spare: Vec<Vec<u8>>,
    bytes: usize,
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    filled: usize,
}

impl Blocks {
    /// What was read of a block, from a place on.
    #[inline]
    pub(super) fn from(&self, block: u32, offset: usize) -> &[u8] {
        let found = self.queue.get(block.wrapping_sub(self.first) as usize);
        found.and_then(|block| block.bytes.get(offset..block.filled)).unwrap_or_default()
    }

    /// All that is held, in bytes.
    pub(super) fn held(&self) -> usize {
        self.bytes
    }

    /// Lets go of the blocks before that one, but for the last.
    pub(super) fn release_before(&mut self, block: u32) {
        while self.queue.len() > 1 && self.first != block {
            let Some(free) = self.queue.pop_front() else { break };
            self.first = self.first.wrapping_add(1);
            self.bytes = self.bytes.saturating_sub(free.bytes.len());
            if free.bytes.len() == BLOCK && self.spare.len() < 2 {
                self.spare.push(free.bytes);
            }
        }
    }

    /// Number of the last block, to which is read.
    pub(super) fn last(&self) -> u32 {
        self.first.wrapping_add(self.queue.len() as u32).wrapping_sub(1)
    }

    /// Adds a block for at least so many bytes, which begins with what the last one has from there on.
    fn add(&mut self, size: usize, tail: usize) {
        let mut bytes = match self.spare.pop() {
            Some(bytes) if size <= BLOCK => bytes,
            _ => vec![0; size.max(BLOCK)],
        };
        let tail = self.queue.back().and_then(|block| block.bytes.get(tail..block.filled)).unwrap_or_default();
        let filled = tail.len();
        if let Some(place) = bytes.get_mut(..filled) {
            place.copy_from_slice(tail);
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.queue.push_back(Block { bytes, filled });
    }
}

/// Takes frames out of a file.
#[derive(Debug)]
pub(super) struct Frames<R> {
    source: R,
    pub(super) blocks: Blocks,
    /// Where the next frame begins in the last block, and in the file.
    at: usize,
    offset: u64,
    /// Where the damage began that is being passed over.
    damaged_at: Option<u64>,
    pub(super) damage: Damage,
    expected: Option<u32>,
    /// Times outside of which frames of records are passed over by their heads.
    pub(super) window: Option<(u64, u64)>,
    /// Times within it of which nothing is wanted either.
    pub(super) gaps: Vec<(u64, u64)>,
    /// What was passed over that way.
    pub(super) skipped: u64,
}

/// A frame whose checksums are right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) head: Head,
    /// Where its payload stands.
    pub(super) block: u32,
    pub(super) start: usize,
    /// Where it begins in the file.
    pub(super) offset: u64,
}

impl<R: Read + Seek> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let mut blocks = Blocks::default();
        blocks.add(BLOCK, 0);
        Frames {
            source,
            blocks,
            at: 0,
            offset: 0,
            damaged_at: None,
            damage: Damage::default(),
            expected: None,
            window: None,
            gaps: Vec::new(),
            skipped: 0,
        }
    }

    /// Goes on with another file, from its start. What was not understood at the end of this one is damage.
    pub(super) fn go_on_with(&mut self, source: R) {
        let rest = self.rest().len() as u64;
        if rest > 0 {
            self.damaged(rest);
        }
        self.source = source;
        self.blocks.add(BLOCK, usize::MAX);
        (self.at, self.offset, self.damaged_at) = (0, 0, None);
    }

    /// Bytes read that are no whole frame yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.blocks.from(self.blocks.last(), self.at)
    }

    /// Block and place of the first of them.
    pub(super) fn rest_at(&self) -> (u32, usize) {
        (self.blocks.last(), self.at)
    }

    /// Where they begin in the file: everything before was read or passed over.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the damage begins that nothing good came after, if there is any.
    pub(super) fn damaged_at(&self) -> Option<u64> {
        self.damaged_at
    }

    /// The next whole frame; none where the file has no more for now.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if !self.fill(HEAD)? {
                return Ok(None);
            }
            let Some(head) = Head::parse(self.rest()).filter(|head| head.length as usize <= MOST_PAYLOAD) else {
                self.pass_damage(1);
                continue;
            };
            let length = head.length as usize;
            if self.is_outside(&head) {
                if !self.skip(HEAD.saturating_add(length))? {
                    return Ok(None);
                }
                self.found(&head);
                self.skipped = self.skipped.saturating_add(u64::from(head.count));
                continue;
            }
            if !self.fill(HEAD.saturating_add(length))? {
                return Ok(None);
            }
            let payload = self.rest().get(HEAD..).and_then(|rest| rest.get(..length)).unwrap_or_default();
            if crc32c::crc32c(payload) != head.payload_crc {
                // Bytes may be missing here and not only be wrong, so the length is no guide: the next frame is looked for.
                self.pass_damage(HEAD);
                continue;
            }
            let (block, at) = self.rest_at();
            let frame = Frame { head, block, start: at.saturating_add(HEAD), offset: self.offset };
            self.advance(HEAD.saturating_add(length));
            self.found(&head);
            return Ok(Some(frame));
        }
    }

    fn is_outside(&self, head: &Head) -> bool {
        let Some((from, to)) = self.window else { return false };
        let in_gap = |(from, to): &(u64, u64)| *from < head.first_ns && head.last_ns < *to;
        head.has_records() && (head.last_ns < from || head.first_ns > to || self.gaps.iter().any(in_gap))
    }

    fn found(&mut self, head: &Head) {
        self.damaged_at = None;
        if let Some(expected) = self.expected {
            let missing = head.sequence.wrapping_sub(expected);
            // A number that went back is an earlier part behind a later one.
            if missing < 1 << 31 {
                self.damage.frames = self.damage.frames.saturating_add(u64::from(missing));
            }
        }
        self.expected = Some(head.sequence.wrapping_add(1));
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
        self.offset = self.offset.saturating_add(bytes as u64);
    }

    /// Goes on behind so many bytes, read or not; false where the file ends before.
    fn skip(&mut self, bytes: usize) -> io::Result<bool> {
        let read = self.rest().len();
        if read < bytes {
            let end = self.source.seek(SeekFrom::End(0))?;
            let after = self.offset.saturating_add(bytes as u64);
            let to = if end < after { self.offset.saturating_add(read as u64) } else { after };
            self.source.seek(SeekFrom::Start(to))?;
            if end < after {
                return Ok(false);
            }
            self.offset = after;
            // What was read of it is let go of, and the next bytes are read to its place.
            if let Some(block) = self.blocks.queue.back_mut() {
                block.filled = self.at;
            }
            return Ok(true);
        }
        self.advance(bytes);
        Ok(true)
    }

    fn damaged(&mut self, bytes: u64) {
        if self.damaged_at.is_none() {
            self.damaged_at = Some(self.offset);
            self.damage.places = self.damage.places.saturating_add(1);
            self.damage.first_at.get_or_insert(self.offset);
        }
        self.damage.bytes = self.damage.bytes.saturating_add(bytes);
    }

    /// Goes on where the next frame may begin, at least so many bytes further.
    fn pass_damage(&mut self, least: usize) {
        let rest = self.rest();
        let after = rest.get(least..).unwrap_or_default();
        let found = after.windows(SYNC.len()).position(|bytes| bytes == SYNC);
        // The last bytes may be the first of a sync word.
        let passed = found.unwrap_or_else(|| after.len().saturating_sub(SYNC.len() - 1)).saturating_add(least);
        self.damaged(passed as u64);
        self.advance(passed);
    }

    /// Reads until there are so many bytes of what comes next; false where the file ends before.
    fn fill(&mut self, need: usize) -> io::Result<bool> {
        loop {
            let have = self.rest().len();
            if have >= need {
                return Ok(true);
            }
            let size = self.blocks.queue.back().map_or(0, |block| block.bytes.len());
            if self.at.saturating_add(need) > size {
                self.blocks.add(need, self.at);
                self.at = 0;
            }
            let Some(block) = self.blocks.queue.back_mut() else { return Ok(false) };
            let most = if self.window.is_some() { PROBE.max(need.saturating_sub(have)) } else { READ };
            let end = block.filled.saturating_add(most).min(block.bytes.len());
            let Some(room) = block.bytes.get_mut(block.filled..end) else { return Ok(false) };
            match self.source.read(room) {
                Ok(0) => return Ok(false),
                Ok(n) => block.filled = block.filled.saturating_add(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
