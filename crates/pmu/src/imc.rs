//! Memory bandwidth from the memory controllers' counters.
//!
//! Sources: arch/x86/events/intel/uncore_snb.c (client processors) and uncore_snbep.c (servers). The counters see all traffic of the
//! system memory, the processor's as well as the GPU's.

use crate::{CounterGroup, Pmu, Rights, Scale};
use gpuscope_model::{BandwidthSample, Counter, Reading, Reason, SourceReport, Text, Why};
use gpuscope_sys::Roots;

const SOURCE: &str = "memory controller PMU";

const METRICS: [&str; 2] =
    ["gpuscope_system_memory_read_bytes_per_second", "gpuscope_system_memory_write_bytes_per_second"];

/// A family of memory controller PMUs and the names of its events.
struct Family {
    /// The PMU's name, or what stands before `_N`.
    pmu: &'static str,
    /// Whether `_N` follows, one PMU for each controller or channel.
    numbered: bool,
    read: &'static [&'static str],
    write: &'static [&'static str],
}

/// In the order of preference: where a processor shows two families, the first one is of fixed, always running counters.
const FAMILIES: [Family; 4] = [
    // `snb_uncore_imc_events`: Sandy Bridge to Comet and Rocket Lake.
    Family { pmu: "uncore_imc", numbered: false, read: &["data_reads"], write: &["data_writes"] },
    // `tgl_uncore_imc_events`, `adl_uncore_imc_free_running`: Tiger Lake and later.
    Family { pmu: "uncore_imc_free_running", numbered: true, read: &["data_read"], write: &["data_write"] },
    // `snbep_uncore_imc_events`, `hswep_uncore_imc_events`, `spr_uncore_imc_events`: servers.
    Family { pmu: "uncore_imc", numbered: true, read: &["cas_count_read"], write: &["cas_count_write"] },
    // `gnr_uncore_imc_events`: servers whose channels have two schedulers.
    Family {
        pmu: "uncore_imc",
        numbered: true,
        read: &["cas_count_read_sch0", "cas_count_read_sch1"],
        write: &["cas_count_write_sch0", "cas_count_write_sch1"],
    },
];

/// Counters of all memory controllers.
#[derive(Debug)]
pub struct Imc {
    boxes: Result<Vec<Controller>, Why>,
    about: Text,
}

#[derive(Debug)]
struct Controller {
    counters: CounterGroup,
    /// What the counters count, in their order.
    units: Vec<(Direction, Unit)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// What one count is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Unit {
    scale: Scale,
    bytes: u64,
}

impl Imc {
    /// Finds and opens the counters. Never fails: what is missing is in the readings.
    pub fn open(roots: &Roots, rights: &Rights) -> Imc {
        let (boxes, about) = match find(roots) {
            Ok(pmus) => {
                let names: Vec<&str> = pmus.iter().map(|(pmu, _)| pmu.name.as_str()).collect();
                let about = names.join(", ");
                (open_all(roots, rights, &pmus), about)
            }
            Err(why) => (Err(why), String::new()),
        };
        Imc { boxes, about: about.into() }
    }

    /// Reads all counters: bytes since they were opened.
    pub fn sample(&mut self) -> BandwidthSample {
        match self.read() {
            Ok((read, write)) => {
                BandwidthSample { read_bytes: Reading::Value(read), write_bytes: Reading::Value(write) }
            }
            Err(why) => BandwidthSample::absent(&why),
        }
    }

    fn read(&mut self) -> Result<(Counter, Counter), Why> {
        let boxes = self.boxes.as_mut().map_err(|why| why.clone())?;
        let (mut read, mut write, mut at_ns) = (0u64, 0u64, 0);
        for controller in boxes {
            // One controller that cannot be read makes the sum wrong, not smaller.
            let values = controller.counters.read()?;
            for ((direction, unit), count) in controller.units.iter().zip(&values.values) {
                let sum = match direction {
                    Direction::Read => &mut read,
                    Direction::Write => &mut write,
                };
                *sum = sum.saturating_add(unit.to_bytes(*count));
            }
            at_ns = values.at_ns.max(at_ns);
        }
        Ok((Counter { value: read, at_ns }, Counter { value: write, at_ns }))
    }

    /// Whether the source works, and what would help.
    pub fn reports(&self) -> Vec<SourceReport> {
        let report = match &self.boxes {
            Ok(_) => SourceReport::works(SOURCE, None, self.about.clone()),
            Err(why) => SourceReport::absent(SOURCE, None, why.clone()),
        };
        vec![report.unlocks(&METRICS)]
    }
}

impl Unit {
    fn to_bytes(self, count: u64) -> u64 {
        self.scale.apply(count, self.bytes)
    }

    fn of(pmu: &Pmu, event: &str) -> Result<Unit, Why> {
        let found = pmu.event(event).ok_or_else(|| missing(pmu, event))?;
        let bytes = match found.unit.as_deref() {
            Some("MiB") => 1 << 20,
            Some("KiB") => 1 << 10,
            Some("GiB") => 1 << 30,
            Some("Bytes" | "B") => 1,
            // An unknown unit is an error, never a factor of one.
            unit => {
                let unit = unit.unwrap_or("none");
                let detail = format!("PMU {}: event {event} counts in an unknown unit ({unit})", pmu.name);
                return Err(Why::new(Reason::NotSupported, detail));
            }
        };
        let scale = found.exact_scale().ok_or_else(|| missing(pmu, event))?;
        Ok(Unit { scale, bytes })
    }
}

fn missing(pmu: &Pmu, event: &str) -> Why {
    Why::new(Reason::NotSupported, format!("PMU {} has no event {event}", pmu.name))
}

/// All PMUs of the first family that this machine has.
fn find(roots: &Roots) -> Result<Vec<(Pmu, &'static Family)>, Why> {
    let names = Pmu::names(roots);
    for family in &FAMILIES {
        let mut pmus = Vec::new();
        for name in names.iter().filter(|name| family.holds(name)) {
            let pmu = Pmu::open(roots, name)?;
            if family.events().all(|(_, event)| pmu.event(event).is_some()) {
                pmus.push((pmu, family));
            }
        }
        if !pmus.is_empty() {
            return Ok(pmus);
        }
    }
    Err(Why::new(
        Reason::NotSupported,
        "the kernel shows no memory controller counters (PMU uncore_imc…): not an Intel processor, a virtual machine, or the \
         module intel_uncore is not loaded",
    ))
}

impl Family {
    fn events(&self) -> impl Iterator<Item = (Direction, &'static str)> {
        let reads = self.read.iter().map(|event| (Direction::Read, *event));
        reads.chain(self.write.iter().map(|event| (Direction::Write, *event)))
    }

    fn holds(&self, name: &str) -> bool {
        match name.strip_prefix(self.pmu) {
            Some("") => true,
            Some(rest) if self.numbered => {
                rest.strip_prefix('_').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            }
            _ => false,
        }
    }
}

fn open_all(roots: &Roots, rights: &Rights, pmus: &[(Pmu, &'static Family)]) -> Result<Vec<Controller>, Why> {
    let mut boxes = Vec::new();
    for (pmu, family) in pmus {
        let mut units = Vec::new();
        let mut attrs = Vec::new();
        for (direction, name) in family.events() {
            units.push((direction, Unit::of(pmu, name)?));
            attrs.extend(pmu.event(name).map(|event| event.attr));
        }
        // One group for each controller and package: a group cannot span PMUs or CPUs.
        for cpu_index in 0..pmu.cpus().len().max(1) {
            let (counters, refused) = CounterGroup::open_available(roots, rights, pmu, cpu_index, &attrs)?;
            if let Some(why) = refused.into_iter().flatten().next() {
                return Err(why);
            }
            boxes.push(Controller { counters, units: units.clone() });
        }
    }
    Ok(boxes)
}

#[cfg(test)]
mod tests;
