//! Frames: a head with a checksum of its own, and a payload with another.
//!
//! Two checksums, so that a reader can trust a head and pass over the payload without reading it, and so that a damaged length is known
//! before anything is allocated or awaited for it.

/// Version of the format: of frames, their kinds and the meaning of their fields.
pub(super) const VERSION: u16 = 2;

/// The first version. What it has, this one has, too.
pub(super) const FIRST: u16 = 1;

/// First bytes of every frame, and so of the file. The first byte is in no text, the last tells of newline conversion.
pub(super) const SYNC: [u8; 8] = *b"\x89gpuscp\n";

/// Length of a head.
pub(super) const HEAD: usize = 48;

/// Longest payload that is written or believed.
pub(super) const MOST_PAYLOAD: usize = 16 << 20;

/// Length of what stands before a record's data.
pub(super) const RECORD_HEAD: usize = 16;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Format = 2,
    Tasks = 3,
    Records = 4,
    Round = 5,
    Dropped = 6,
    Mark = 7,
    End = 8,
    Packed = 9,
}

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Header, Format, Tasks, Records, Round, Dropped, Mark, End, Packed].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame's head, but for sync word and checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// A byte and not a [`Kind`]: later minor versions may add kinds, which are passed over.
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) version: u16,
    pub(super) length: u32,
    /// Earliest and latest time in the payload.
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// Records in the payload.
    pub(super) count: u32,
    pub(super) payload_crc: u32,
    /// Number of the frame in its recording, over all parts.
    pub(super) sequence: u32,
}

impl Head {
    /// Its payload holds records.
    pub(super) fn has_records(&self) -> bool {
        [Kind::Records as u8, Kind::Packed as u8].contains(&self.kind)
    }

    /// Its meaning is known here.
    pub(super) fn is_known(&self) -> bool {
        self.flags == 0 && (FIRST..=VERSION).contains(&self.version)
    }

    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let mut rest = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            if let Some((place, after)) = std::mem::take(&mut rest).split_at_mut_checked(field.len()) {
                place.copy_from_slice(field);
                rest = after;
            }
        };
        put(&SYNC);
        put(&[self.kind, self.flags]);
        put(&self.version.to_le_bytes());
        put(&self.length.to_le_bytes());
        put(&self.first_ns.to_le_bytes());
        put(&self.last_ns.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&self.payload_crc.to_le_bytes());
        put(&self.sequence.to_le_bytes());
        if let Some((fields, crc)) = bytes.split_last_chunk_mut::<4>() {
            *crc = crc32c::crc32c(fields).to_le_bytes();
        }
        bytes
    }

    /// The head that stands here, if its checksum is right.
    pub(super) fn parse(bytes: &[u8]) -> Option<Head> {
        let bytes: &[u8; HEAD] = bytes.first_chunk()?;
        let (fields, crc) = bytes.split_last_chunk::<4>()?;
        if !fields.starts_with(&SYNC) || crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
            return None;
        }
        Some(Head {
            kind: *fields.get(8)?,
            flags: *fields.get(9)?,
            version: u16::from_le_bytes(at(fields, 10)?),
            length: u32::from_le_bytes(at(fields, 12)?),
            first_ns: u64::from_le_bytes(at(fields, 16)?),
            last_ns: u64::from_le_bytes(at(fields, 24)?),
            count: u32::from_le_bytes(at(fields, 32)?),
            payload_crc: u32::from_le_bytes(at(fields, 36)?),
            sequence: u32::from_le_bytes(at(fields, 40)?),
        })
    }
}

/// So many bytes from there on.
pub(super) fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Length of a record with so much data: a whole number of eights.
pub(super) fn record_length(data: usize) -> usize {
    (RECORD_HEAD + 7).saturating_add(data) & !7
}

/// What stands before a record's data.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHead {
    pub(super) at_ns: u64,
    pub(super) cpu: u16,
    pub(super) size: u16,
}

impl RecordHead {
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<RecordHead> {
        let bytes: &[u8; RECORD_HEAD] = bytes.first_chunk()?;
        let (at_ns, rest) = bytes.split_first_chunk()?;
        let (cpu, rest) = rest.split_first_chunk()?;
        let (size, _) = rest.split_first_chunk()?;
        Some(RecordHead {
            at_ns: u64::from_le_bytes(*at_ns),
            cpu: u16::from_le_bytes(*cpu),
            size: u16::from_le_bytes(*size),
        })
    }
}
