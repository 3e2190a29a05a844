//! Records that `perf record -z` packed: one stream of zstd, cut into records and never ended.
//!
//! A decoder gives out what it will not look back at, a window behind what it has decoded, and perf ends no frame. So that it is known how far
//! the decoded bytes reach, each frame is begun with a window of zeros: all decoded behind them is what the decoder can give. In the end the
//! frame is ended by hand.

use ruzstd::decoding::FrameDecoder;

/// What every decoder has to take (RFC 8878, 3.1.1.1.2); perf's levels up to 19 use no more.
const LARGEST_WINDOW: u64 = 8 << 20;
/// `Block_Maximum_Size`.
const LARGEST_BLOCK: usize = 128 << 10;
/// The longest header of a frame without a dictionary.
const LONGEST_HEADER: usize = 14;

#[derive(Default)]
pub(super) struct Unpacker {
    frame: Option<Frame>,
    /// Bytes of which the block is not whole.
    packed: Vec<u8>,
    /// Bytes of frames before this one.
    before: u64,
    /// After something that cannot be unpacked: how many bytes were before it.
    sound: Option<u64>,
    /// Room for what comes out.
    room: Vec<u8>,
}

struct Frame {
    decoder: FrameDecoder,
    window: u64,
    /// Bytes that it gave, zeros included.
    given: u64,
}

impl Unpacker {
    /// Takes the bytes of a record.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.sound.is_none() {
            self.packed.extend_from_slice(bytes);
        }
    }

    /// Whether anything was fed.
    pub(super) fn is_used(&self) -> bool {
        self.frame.is_some() || self.before > 0 || !self.packed.is_empty()
    }

    /// How many bytes all that was decoded has.
    pub(super) fn decoded(&self) -> u64 {
        let of_frame = |frame: &Frame| frame.given.saturating_add(frame.decoder.can_collect() as u64);
        self.before.saturating_add(self.frame.as_ref().map_or(0, of_frame))
    }

    /// Decodes a block, and appends what can be given. False where there is no whole one. After an error nothing more is decoded.
    pub(super) fn block(&mut self, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        let before = self.decoded();
        let decoded = self.decode(out);
        if decoded.is_err() {
            self.sound = Some(before);
            self.packed = Vec::new();
        }
        decoded
    }

    fn decode(&mut self, out: &mut Vec<u8>) -> Result<bool, &'static str> {
        const BROKEN: &str = "packed data that cannot be unpacked";
        if self.frame.is_none() && !self.begin()? {
            return Ok(false);
        }
        let Some(length) = whole_block(&self.packed)? else { return Ok(false) };
        let Some(frame) = &mut self.frame else { return Ok(false) };
        let block = self.packed.get(..length).unwrap_or_default();
        let (read, _) = frame.decoder.decode_from_to(block, &mut []).map_err(|_| BROKEN)?;
        if read != length {
            return Err(BROKEN);
        }
        self.packed.drain(..length);
        self.give(out)?;
        if self.frame.as_ref().is_some_and(|frame| frame.decoder.is_finished()) {
            self.end();
        }
        Ok(true)
    }

    /// Gives what is left.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        if let Some(frame) = &mut self.frame {
            // An empty raw block, the last of its frame.
            frame.decoder.decode_from_to(&[1, 0, 0], &mut []).map_err(|_| "a packed frame that does not end")?;
            self.give(out)?;
            self.end();
        }
        // What a broken block left behind.
        let more = self.sound.map_or(0, |sound| self.before.saturating_sub(sound));
        out.truncate(out.len().saturating_sub(usize::try_from(more).unwrap_or(usize::MAX)));
        Ok(())
    }

    fn end(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.before = self.before.saturating_add(frame.given.saturating_sub(frame.window));
        }
    }

    /// Begins a frame, if its header is whole.
    fn begin(&mut self) -> Result<bool, &'static str> {
        let Some(window) = window(&self.packed)? else { return Ok(false) };
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(LARGEST_WINDOW);
        let mut rest = self.packed.as_slice();
        if decoder.init(&mut rest).is_err() {
            let is_short = self.packed.len() < LONGEST_HEADER;
            return if is_short { Ok(false) } else { Err("packed data that does not begin as zstd does") };
        }
        let header = self.packed.len().saturating_sub(rest.len());
        let mut left = usize::try_from(window).map_err(|_| "a window that is too large")?;
        let mut zeros = Vec::new();
        while left > 0 {
            // A block of one byte repeated: its header has the length above three bits, and 1 as its kind.
            let length = left.min(LARGEST_BLOCK);
            let header = ((length as u32) << 3 | 1 << 1).to_le_bytes();
            zeros.extend(header.iter().take(3).chain(&[0]));
            left = left.saturating_sub(length);
        }
        decoder.decode_from_to(&zeros, &mut []).map_err(|_| "a window that is too large")?;
        self.packed.drain(..header);
        self.frame = Some(Frame { decoder, window, given: 0 });
        Ok(true)
    }

    fn give(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        self.room.resize(LARGEST_BLOCK, 0);
        let Some(frame) = &mut self.frame else { return Ok(()) };
        loop {
            let (_, given) =
                frame.decoder.decode_from_to(&[], &mut self.room).map_err(|_| "packed data that is not given out")?;
            if given == 0 {
                return Ok(());
            }
            let zeros = frame.window.saturating_sub(frame.given).min(given as u64) as usize;
            frame.given = frame.given.saturating_add(given as u64);
            out.extend_from_slice(self.room.get(zeros..given).unwrap_or_default());
        }
    }
}

/// Length of the block at the beginning, header included, if all of it is there.
fn whole_block(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some([a, b, c]) = bytes.first_chunk() else { return Ok(None) };
    let header = u32::from_le_bytes([*a, *b, *c, 0]);
    let size = (header >> 3) as usize;
    if size > LARGEST_BLOCK {
        return Err("a packed block larger than any");
    }
    let length = if header >> 1 & 3 == 1 { 1 } else { size };
    Ok(Some(length.saturating_add(3)).filter(|length| bytes.len() >= *length))
}

/// The window that the header of a frame asks for (RFC 8878, 3.1.1.1.2). None while that is not there.
fn window(frame: &[u8]) -> Result<Option<u64>, &'static str> {
    let (Some(descriptor), Some(window)) = (frame.get(4), frame.get(5)) else { return Ok(None) };
    if !frame.starts_with(b"\x28\xb5\x2f\xfd") {
        return Err("packed data that does not begin as zstd does");
    }
    // A segment of known length, or with a checksum behind it: perf streams, and asks for neither.
    if descriptor & 0x24 != 0 {
        return Err("packed data that is no stream of perf");
    }
    let base = 1_u64 << 10_u8.saturating_add(window >> 3);
    let size = base.saturating_add((base >> 3).saturating_mul(u64::from(window & 7)));
    if size > LARGEST_WINDOW {
        return Err("a window of more than 8 MiB: levels of -z above 19 are not read");
    }
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream as perf writes it: a header with a window of 1 KiB, then raw blocks, none of which is the last.
    fn stream(blocks: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"\x28\xb5\x2f\xfd\x00\x00".to_vec();
        for block in blocks {
            bytes.extend(&((block.len() as u32) << 3).to_le_bytes()[..3]);
            bytes.extend(*block);
        }
        bytes
    }

    #[test]
    fn what_was_decoded_is_counted_before_it_is_given() {
        let blocks: Vec<Vec<u8>> = (1..=3_u8).map(|i| vec![i; 600]).collect();
        let bytes = stream(&blocks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        // In pieces, as records cut it.
        for piece in [1, 7, 100, 5000] {
            let (mut unpacker, mut out) = (Unpacker::default(), Vec::new());
            for part in bytes.chunks(piece) {
                unpacker.feed(part);
                while unpacker.block(&mut out).unwrap() {}
            }
            assert_eq!((unpacker.decoded(), out.len()), (1800, 1800 - 1024), "{piece}");
            unpacker.finish(&mut out).unwrap();
            assert_eq!((unpacker.decoded(), &out), (1800, &blocks.concat()), "{piece}");
        }
    }

    #[test]
    fn what_is_no_stream_is_refused_and_a_bomb_comes_out_in_blocks() {
        let refused = |bytes: &[u8]| {
            let (mut unpacker, mut out) = (Unpacker::default(), Vec::new());
            unpacker.feed(bytes);
            unpacker.block(&mut out).unwrap_err()
        };
        assert!(refused(b"\x28\xb5\x2f\xff\x00\x00").contains("does not begin"));
        assert!(refused(b"\x28\xb5\x2f\xfd\x00\xff").contains("8 MiB"));
        assert!(refused(b"\x28\xb5\x2f\xfd\x20\x00").contains("no stream"));
        assert!(refused(&stream(&[&[0; 10]]).iter().map(|b| b | 0x80).collect::<Vec<_>>()).contains("begin"));
        let mut bomb = stream(&[]);
        for _ in 0..1000 {
            bomb.extend([((1024_u32 << 3 | 2) & 0xff) as u8, (1024_u32 << 3 >> 8) as u8, 0, 7]);
        }
        let (mut unpacker, mut out, mut blocks) = (Unpacker::default(), Vec::new(), 0);
        unpacker.feed(&bomb);
        while unpacker.block(&mut out).unwrap() {
            assert!(out.len() <= 2048);
            blocks += 1;
            out.clear();
        }
        assert_eq!((blocks, unpacker.decoded()), (1000, 1_024_000));
    }
}
