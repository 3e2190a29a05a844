//! What stands in frames of other kinds than records.

use super::frame::at;
use super::reader::{Item, ItemSink};
use crate::EventFormat;
use gpuscope_model::trace::Dropped;

/// The system in the first line, then a `format` file.
pub(super) fn parse_format(payload: &[u8]) -> Option<EventFormat> {
    let (system, text) = std::str::from_utf8(payload).ok()?.split_once('\n')?;
    EventFormat::parse(system, text).ok()
}

/// The tasks of a frame; false where one is not whole.
pub(super) fn each_task(payload: &[u8], sink: &mut impl ItemSink) -> bool {
    let mut rest = payload;
    while !rest.is_empty() {
        let (Some(tid), Some(pid), Some(length)) = (at(rest, 0), at(rest, 4), rest.get(8)) else { return false };
        let length = usize::from(*length);
        let Some(comm) = rest.get(9..).and_then(|rest| rest.get(..length)) else { return false };
        sink.item(Item::Task {
            tid: u32::from_le_bytes(tid),
            pid: u32::from_le_bytes(pid),
            comm: &String::from_utf8_lossy(comm),
        });
        rest = rest.get(length.saturating_add(9).next_multiple_of(8)..).unwrap_or_default();
    }
    true
}

/// None where it is no JSON object of numbers, or has a cause that this version cannot name.
pub(super) fn parse_dropped(payload: &[u8]) -> Option<Dropped> {
    let counts: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload).ok()?;
    let mut dropped = Dropped::default();
    for (cause, count) in &counts {
        let place = match cause.as_str() {
            "ring_full" => &mut dropped.ring_full,
            "missed" => &mut dropped.missed,
            "rate_limited" => &mut dropped.rate_limited,
            "sampled_out" => &mut dropped.sampled_out,
            "filtered" => &mut dropped.filtered,
            "table_full" => &mut dropped.table_full,
            "unreadable" => &mut dropped.unreadable,
            _ => return None,
        };
        *place = count.as_u64()?;
    }
    Some(dropped)
}
