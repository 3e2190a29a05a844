//! Packed packets: unpacked one by one, and kept for the bundles of all processors that stand together in them.

use super::index::Place;
use crate::foreign::ReadAt;
use flate2::read::ZlibDecoder;
use ruzstd::decoding::StreamingDecoder;
use std::collections::VecDeque;
use std::io::Read as _;

/// What one packed packet may become. Perfetto packs less than that at a time.
const LONGEST: u64 = 16 << 20;
/// The window that a packed packet may ask for.
const LARGEST_WINDOW: u64 = 8 << 20;
/// Those that are kept, and their bytes.
const MOST: usize = 64;
const MOST_BYTES: usize = 64 << 20;
/// How many times everything is unpacked at most, where the processors' bundles stand far from each other.
const MOST_TIMES: u64 = 16;

/// How packets are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Zlib,
    Zstd,
}

impl Packing {
    /// What packed bytes hold. None where they are broken, or hold more than any.
    pub(super) fn unpack(self, packed: &[u8]) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        let longest = LONGEST.saturating_add(1);
        match self {
            Packing::Zlib => ZlibDecoder::new(packed).take(longest).read_to_end(&mut all).ok()?,
            Packing::Zstd => {
                let decoder = StreamingDecoder::new_with_max_window_size(packed, LARGEST_WINDOW).ok()?;
                decoder.take(longest).read_to_end(&mut all).ok()?
            }
        };
        (all.len() as u64 <= LONGEST).then_some(all)
    }
}

/// What was unpacked last.
pub(super) struct Unpacked {
    kept: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// How much may still be unpacked.
    left: u64,
}

impl Unpacked {
    /// For packets that hold so many bytes.
    pub(super) fn new(of_all: u64) -> Unpacked {
        let left = of_all.saturating_mul(MOST_TIMES).max(LONGEST.saturating_mul(MOST_TIMES));
        Unpacked { kept: VecDeque::new(), bytes: 0, left }
    }

    /// The bytes of a bundle, which were there when the file was read first. None where they are not, or it would take too long.
    pub(super) fn bundle(&mut self, source: &dyn ReadAt, place: Place, packing: Packing) -> Option<Vec<u8>> {
        if !self.kept.iter().any(|(at, _)| *at == place.at) {
            if self.left == 0 {
                return None;
            }
            let mut bytes = vec![0; place.length as usize];
            let read = source.read_at(place.at, &mut bytes).ok()?;
            let all = packing.unpack(bytes.get(..read)?)?;
            // Broken at its end or not, it was unpacked.
            self.left = self.left.saturating_sub((all.len() as u64).max(1));
            self.bytes = self.bytes.saturating_add(all.len());
            self.kept.push_back((place.at, all));
            while self.kept.len() > MOST || self.bytes > MOST_BYTES && self.kept.len() > 1 {
                let gone = self.kept.pop_front().map_or(0, |(_, gone)| gone.len());
                self.bytes = self.bytes.saturating_sub(gone);
            }
        }
        let (_, all) = self.kept.iter().find(|(at, _)| *at == place.at)?;
        let from = place.from as usize;
        Some(all.get(from..)?.get(..place.size as usize)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::Index;
    use super::*;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use std::io::Write as _;

    /// A packet with a bundle of one event without a body, packed.
    fn packed() -> Vec<u8> {
        let packet = [0x0a, 10, 0x0a, 8, 0x08, 0, 0x12, 4, 0x08, 9, 0x10, 1];
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&packet).unwrap();
        let packed = encoder.finish().unwrap();
        let inner = [&[0x92, 0x03, packed.len() as u8][..], &packed].concat();
        [&[0x0a, inner.len() as u8][..], &inner].concat()
    }

    #[test]
    fn what_is_unpacked_again_and_again_has_an_end() {
        let file: Vec<u8> = (0..MOST + 6).flat_map(|_| packed()).collect();
        let (index, stop) = Index::read(&file);
        assert!(stop.is_none());
        let places = &index.streams[0].places;
        assert_eq!((places.len(), index.unpacked_bytes), (MOST + 6, 12 * (MOST as u64 + 6)));
        let mut unpacked = Unpacked { left: 12 * (MOST as u64 + 7), ..Unpacked::new(0) };
        let mut read = |place: Place| unpacked.bundle(&file, place, Packing::Zlib);
        assert!(places.iter().all(|place| read(*place).is_some_and(|bundle| bundle.len() == 8)));
        // The last are there still, one more can be had, and then no more.
        assert!(places[6..].iter().all(|place| read(*place).is_some()));
        assert!(read(places[0]).is_some() && read(places[1]).is_none() && read(places[0]).is_some());
    }

    #[test]
    fn what_is_larger_than_any_is_none() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![0; LONGEST as usize + 1]).unwrap();
        assert!(Packing::Zlib.unpack(&encoder.finish().unwrap()).is_none());
        assert!(Packing::Zstd.unpack(b"none").is_none());
    }
}
