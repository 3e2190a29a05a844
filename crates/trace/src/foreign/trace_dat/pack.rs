//! How version 7 packs: zlib or zstd, by the name in its head.

use std::io::Read;

/// What a file is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Zlib,
    Zstd,
}

/// Chunks are some ten pages, sections some megabytes at most.
const LONGEST: u32 = 1 << 26;

impl Packing {
    pub(super) fn of(name: &str) -> Option<Packing> {
        match name {
            "none" => Some(Packing::None),
            "zlib" => Some(Packing::Zlib),
            "zstd" => Some(Packing::Zstd),
            _ => None,
        }
    }

    /// Unpacks to a length that is known. Memory grows with what comes out, not with what is promised.
    pub(super) fn unpack(self, packed: &[u8], length: u32, out: &mut Vec<u8>) -> Result<(), &'static str> {
        out.clear();
        if length > LONGEST {
            return Err("packed data longer than any");
        }
        let limit = u64::from(length);
        let read = match self {
            Packing::None => return Err("packed data in a file that is not packed"),
            Packing::Zlib => flate2::read::ZlibDecoder::new(packed).take(limit).read_to_end(out),
            Packing::Zstd => match ruzstd::decoding::StreamingDecoder::new(packed) {
                Ok(decoder) => decoder.take(limit).read_to_end(out),
                Err(_) => return Err("packed data that cannot be unpacked"),
            },
        };
        match read {
            Ok(read) if read as u64 == limit => Ok(()),
            _ => Err("packed data that cannot be unpacked"),
        }
    }
}
