//! What `gpuscope trace export` writes into a Perfetto trace beside Perfetto's own messages, for its reader alone.
//!
//! A field of `TracePacket` out of those that Perfetto leaves to extensions (1000 to 1999); other readers pass over it. `docs/perfetto.md`
//! says what stands in it.

use super::wire::{Fields, Value};
use gpuscope_model::trace::Dropped;

/// The field of `TracePacket`.
pub(super) const PACKET: u32 = 1900;

const MOST_GPUS: usize = 1 << 10;

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Names of the drivers, by GPU.
    pub drivers: Vec<(String, String)>,
    /// What was not recorded, by cause.
    pub dropped: Dropped,
    /// Until when everything was recorded.
    pub to_ns: Option<u64>,
    /// Whether it is there at all.
    pub is_there: bool,
}

impl Own {
    pub(super) fn read(&mut self, message: &[u8]) {
        self.is_there = true;
        for (field, value) in Fields::of(message) {
            match (field, value) {
                (1, Value::Bytes(gpu)) if self.drivers.len() < MOST_GPUS => {
                    let text =
                        |wanted| Fields::of(gpu).find(|(of, _)| *of == wanted).and_then(|(_, value)| value.text());
                    if let (Some(gpu), Some(driver)) = (text(1), text(2)) {
                        self.drivers.push((gpu, driver));
                    }
                }
                (2, Value::Bytes(of)) => {
                    let mut cause: &[u8] = &[];
                    let mut count = 0;
                    for (field, value) in Fields::of(of) {
                        match (field, value) {
                            (1, Value::Bytes(name)) => cause = name,
                            (2, Value::Number(number)) => count = number,
                            _ => {}
                        }
                    }
                    let dropped = &mut self.dropped;
                    match cause {
                        b"ring_full" => dropped.ring_full = count,
                        b"missed" => dropped.missed = count,
                        b"rate_limited" => dropped.rate_limited = count,
                        b"sampled_out" => dropped.sampled_out = count,
                        b"filtered" => dropped.filtered = count,
                        b"table_full" => dropped.table_full = count,
                        b"unreadable" => dropped.unreadable = count,
                        _ => {}
                    }
                }
                (3, Value::Number(to_ns)) => self.to_ns = Some(to_ns),
                _ => {}
            }
        }
    }
}
