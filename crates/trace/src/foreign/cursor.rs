//! Reading a head front to back, in numbers and texts.

use crate::foreign::ReadAt;

/// Why reading stopped, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end here.
    Cut(u64),
    /// What stands here is not what should.
    Bad(u64, &'static str),
}

/// No text of a head is longer: formats have some kilobytes, names of threads some megabytes at most.
const LONGEST: u64 = 1 << 26;

pub(super) struct Cursor<'a> {
    source: &'a dyn ReadAt,
    pub(super) at: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(source: &'a dyn ReadAt, at: u64) -> Cursor<'a> {
        Cursor { source, at }
    }

    pub(super) fn bytes(&mut self, length: u64) -> Result<Vec<u8>, Stop> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.source.size());
        let Some(end) = end else { return Err(Stop::Cut(self.source.size())) };
        if length > LONGEST {
            return Err(Stop::Bad(self.at, "a text longer than any"));
        }
        let mut bytes = vec![0; length as usize];
        // An error of the disk ends what can be read, as a cut does.
        match self.source.read_at(self.at, &mut bytes) {
            Ok(read) if read == bytes.len() => {
                self.at = end;
                Ok(bytes)
            }
            _ => Err(Stop::Cut(self.at)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let at = self.at;
        self.bytes(N as u64)?.try_into().map_err(|_| Stop::Cut(at))
    }

    pub(super) fn skip(&mut self, length: u64) -> Result<(), Stop> {
        match self.at.checked_add(length).filter(|end| *end <= self.source.size()) {
            Some(end) => {
                self.at = end;
                Ok(())
            }
            None => Err(Stop::Cut(self.source.size())),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        Ok(u8::from_ne_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Stop> {
        Ok(u16::from_ne_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_ne_bytes(self.array()?))
    }

    /// A text of known length.
    pub(super) fn text(&mut self, length: u64) -> Result<String, Stop> {
        Ok(String::from_utf8_lossy(&self.bytes(length)?).into_owned())
    }

    /// A text that a zero ends.
    pub(super) fn name(&mut self) -> Result<String, Stop> {
        const LONGEST_NAME: usize = 4096;
        let begin = self.at;
        let mut name = Vec::new();
        loop {
            match self.byte()? {
                0 => return Ok(String::from_utf8_lossy(&name).into_owned()),
                _ if name.len() >= LONGEST_NAME => return Err(Stop::Bad(begin, "a name longer than any")),
                letter => name.push(letter),
            }
        }
    }

    /// Words that must stand here.
    pub(super) fn expect(&mut self, words: &[u8], else_what: &'static str) -> Result<(), Stop> {
        let at = self.at;
        if self.bytes(words.len() as u64)? == words { Ok(()) } else { Err(Stop::Bad(at, else_what)) }
    }
}
