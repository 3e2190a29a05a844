//! Rings and devices that records name by numbers.

use super::Plan;
use crate::EventFormat;
use crate::families::RingFields;
use crate::record::{Number, Words, until_zero};
use gpuscope_model::trace::{RingId, TraceNames};
use rustc_hash::FxHashMap;

/// How a record names its ring, with the fields found in its format.
#[derive(Clone, Copy, Debug)]
pub(super) enum RingPlan {
    None,
    Named(Words),
    Fixed(&'static str),
    Numbered(Number, &'static str),
    OneOf(Number, &'static [&'static str]),
    Engine(Number, &'static [&'static str], Number),
}

impl RingPlan {
    /// None where a field is missing.
    pub(super) fn new(fields: RingFields, format: &EventFormat) -> RingPlan {
        let number = |name: &str| Number::find(format, &[name]);
        let plan = match fields {
            RingFields::None => None,
            RingFields::Named(name) => Words::find(format, &[name]).map(RingPlan::Named),
            RingFields::Fixed(name) => Some(RingPlan::Fixed(name)),
            RingFields::Numbered(name, before) => number(name).map(|of| RingPlan::Numbered(of, before)),
            RingFields::OneOf(name, names) => number(name).map(|of| RingPlan::OneOf(of, names)),
            RingFields::Engine(class, names, instance) => {
                number(class).zip(number(instance)).map(|(class, instance)| RingPlan::Engine(class, names, instance))
            }
        };
        plan.unwrap_or(RingPlan::None)
    }

    /// The numbers that tell the ring from others of the same format; none where the record is too short.
    fn numbers(self, data: &[u8]) -> Option<[u64; 2]> {
        Some(match self {
            RingPlan::None | RingPlan::Named(_) | RingPlan::Fixed(_) => [0, 0],
            RingPlan::Numbered(of, _) | RingPlan::OneOf(of, _) => [of.get(data)?, 0],
            RingPlan::Engine(class, _, instance) => [class.get(data)?, instance.get(data)?],
        })
    }

    /// The ring's name, by its numbers.
    fn name(self, [first, second]: [u64; 2]) -> String {
        let at = |names: &'static [&'static str], at: u64| usize::try_from(at).ok().and_then(|at| names.get(at));
        match self {
            RingPlan::None | RingPlan::Named(_) => String::new(),
            RingPlan::Fixed(name) => name.into(),
            RingPlan::Numbered(_, before) => format!("{before}{first}"),
            RingPlan::OneOf(_, names) => at(names, first).map_or_else(|| first.to_string(), ToString::to_string),
            RingPlan::Engine(_, names, _) => match at(names, first) {
                Some(class) => format!("{class}{second}"),
                None => format!("class {first}:{second}"),
            },
        }
    }
}

/// Rings that were named this way, by their format, device and numbers.
#[derive(Debug, Default)]
pub(super) struct Rings {
    known: FxHashMap<(u16, u64, [u64; 2]), RingId>,
    /// By the driver's own name.
    devices: FxHashMap<String, String>,
}

impl Rings {
    pub(super) fn set_device(&mut self, own: &str, gpu: &str) {
        self.devices.insert(own.into(), gpu.into());
    }

    /// The ring of a record that does not name it by a text, or none; none of all where the record is too short.
    pub(super) fn get(
        &mut self,
        plan: &Plan,
        data: &[u8],
        format: u16,
        names: &mut TraceNames,
    ) -> Option<Option<RingId>> {
        if matches!(plan.ring, RingPlan::None) {
            return Some(None);
        }
        let numbers = plan.ring.numbers(data)?;
        if let Some(gpu) = plan.gpu {
            // Rings of a device that is named by a text are few events'.
            let gpu = String::from_utf8_lossy(until_zero(gpu.get(data)?));
            return Some(Some(names.ring(Some(&gpu), &plan.ring.name(numbers))));
        }
        let device = match plan.gpu_number {
            Some((number, _)) => number.get(data)?,
            None => 0,
        };
        let known = self.known.entry((format, device, numbers));
        let devices = &self.devices;
        Some(Some(*known.or_insert_with(|| {
            let own = plan.gpu_number.map(|(_, before)| format!("{before}{device}"));
            let gpu = own.as_ref().map(|own| devices.get(own).unwrap_or(own).as_str());
            names.ring(gpu, &plan.ring.name(numbers))
        })))
    }
}
