//! A recording: whatever the bytes, what is given is in order but for what is counted, and the decoder takes all of it.
//!
//! Checksums would keep nearly all made-up bytes out. So the input is also taken as a list of frames, kind, lengths and payload, and gets
//! right checksums: what is behind them must stand any content too.
#![no_main]

use gpuscope_trace::Decoder;
use gpuscope_trace::recording::{Item, Recording, Summary};
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use std::path::Path;

fuzz_target!(|input: &[u8]| {
    read(input);
    let framed = framed(input);
    let whole = read(&framed).expect("its header is right");
    assert_eq!((whole.damage.places, whole.damage.bytes), (0, 0), "{whole:?}");
    let cut = framed.len() - usize::from(input.first().copied().unwrap_or(0)).min(framed.len() - header().len());
    let part = read(&framed[..cut]).expect("its header is right");
    assert!(part.records <= whole.records && part.damage.places == 0, "{part:?} of {whole:?}");
});

fn read(bytes: &[u8]) -> Option<Summary> {
    let recording = Recording::from_reader(Cursor::new(bytes), Path::new("input")).ok()?;
    let mut decoder = Decoder::new();
    let (mut records, mut decoded, mut disorder, mut last) = (0, 0, 0, 0);
    let summary = recording
        .items(|item| match item {
            Item::Record(record) => {
                records += 1;
                disorder += u64::from(record.at_ns < last);
                last = last.max(record.at_ns);
                if let Some(event) = decoder.decode(record) {
                    decoded += 1;
                    assert_eq!(event.at_ns, record.at_ns);
                }
            }
            Item::Format(format) => {
                decoder.add_format(format);
            }
            Item::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
            Item::Dropped { .. } | Item::Mark { .. } | Item::Round(_) => {}
        })
        .ok()?;
    assert_eq!(records, summary.records);
    // The same events come of packed records that are decoded together.
    let (mut all, mut events) = (Decoder::new(), 0);
    let again = Recording::from_reader(Cursor::new(bytes), Path::new("input")).expect("it was read before");
    again.events(&mut all, |_| events += 1).expect("it was read before");
    assert_eq!((events, all.unreadable()), (decoded, decoder.unreadable()), "{summary:?}");
    assert!(disorder <= summary.late, "{disorder} out of order: {summary:?}");
    Some(summary)
}

/// A frame as docs/recording.md tells it.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, times: [u64; 2], count: u32, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(b"\x89gpuscp\n");
    out.extend_from_slice(&[kind, flags, 2, 0]);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&times[0].to_le_bytes());
    out.extend_from_slice(&times[1].to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&crc32c(payload).to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
}

fn header() -> Vec<u8> {
    let json =
        br#"{"schema":"gpuscope.recording/1","tool":"","recording":"r","byte_order":"little","clock":"monotonic",
        "started":{"monotonic_ns":0,"realtime_ns":0},"kernel":"","host":"","boot_id":"","backend":"bpf"}"#;
    let mut out = Vec::new();
    frame(&mut out, 1, 0, [0; 2], 0, json);
    out
}

/// Kind, length, three bytes of times and count, payload; again and again. A second header would be another recording, so there is none.
fn framed(mut input: &[u8]) -> Vec<u8> {
    let mut out = header();
    while let Some(([kind, length, first, last, count], rest)) = input.split_first_chunk() {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let times = [u64::from(*first), u64::from(*last)];
        let kind = if kind % 16 == 1 { 0 } else { kind % 16 };
        frame(&mut out, kind, u8::from(kind == 15), times, u32::from(*count), payload);
        input = rest;
    }
    out
}

/// CRC-32C bit by bit (RFC 3720), so that the reader's checksum is compared with another one.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}
