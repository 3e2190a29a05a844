//! Energy counters of powercap zones: `/sys/class/powercap/intel-rapl:N[:M]`.

use super::Domain;
use crate::parse::parse_u64;
use crate::{Capability, Rights};
use gpuscope_model::{Counter, Reason, Why};
use gpuscope_sys::{KernelFile, Roots, list_dir, monotonic_ns, read_text};

/// Folder of the zones, under sys. The same counters reached over MMIO (`intel-rapl-mmio:N`) would count everything twice.
const ZONES: &str = "class/powercap";

/// The energy counter of one zone.
#[derive(Debug)]
pub(super) struct Zone {
    name: String,
    energy: KernelFile,
    buffer: Vec<u8>,
    unwrapped: Unwrapped,
}

/// A counter that returns to zero at `range`, made to go on.
#[derive(Debug, Default)]
struct Unwrapped {
    range: Option<u64>,
    last: Option<u64>,
    total: u64,
}

impl Unwrapped {
    fn push(&mut self, now: u64) -> u64 {
        let step = match (self.last, self.range) {
            (None, _) => now,
            (Some(last), _) if now >= last => now - last,
            // `max_energy_range_uj` is the highest value before the counter starts at zero again. One turn at most is assumed: at
            // 250 W a 32-bit counter of 61 uJ turns every 17 minutes.
            (Some(last), Some(range)) if last <= range => (range - last).saturating_add(now),
            // A counter without a range that steps back was set to zero.
            (Some(_), _) => now,
        };
        self.last = Some(now);
        self.total = self.total.saturating_add(step);
        self.total
    }
}

impl Zone {
    /// What `doctor` shows.
    pub(super) fn shown(&self) -> String {
        format!("powercap zone {}", self.name)
    }

    fn read(&mut self) -> Result<u64, Why> {
        let path = self.energy.path();
        let wrong = |what: String| Why::new(Reason::Failed, what);
        let text = self.energy.read_text(&mut self.buffer).map_err(|e| match e {
            gpuscope_sys::Error::Gone { .. } => Why::new(Reason::Gone, e.to_string()),
            e => wrong(e.to_string()),
        })?;
        let now = parse_u64(text).map_err(|e| wrong(format!("{}: {e}", path.display())))?;
        Ok(self.unwrapped.push(now))
    }
}

/// The zones of a domain, each opened or refused. Empty where there are none.
pub(super) fn find(roots: &Roots, rights: &Rights, domain: Domain) -> Vec<Result<Zone, Why>> {
    let folder = roots.sys(ZONES);
    let names = list_dir(&folder).unwrap_or_default();
    names
        .into_iter()
        .filter(|name| name.starts_with("intel-rapl:"))
        .filter_map(|name| {
            let folder = folder.join(&name);
            let label = read_text(folder.join("name")).ok()?;
            let is_sub_zone = name.bytes().filter(|b| *b == b':').count() > 1;
            if domain_of(label.trim(), is_sub_zone) != Some(domain) {
                return None;
            }
            // Root-only since CVE-2020-8694; the mode is no business of ours to widen.
            let opened = KernelFile::open(folder.join("energy_uj"))
                .map_err(|e| rights.explain_file(&e, Some(Capability::DacReadSearch)));
            Some(opened.map(|energy| {
                let range = read_text(folder.join("max_energy_range_uj")).ok().and_then(|text| parse_u64(&text).ok());
                let unwrapped = Unwrapped { range, ..Unwrapped::default() };
                Zone { name, energy, buffer: Vec::new(), unwrapped }
            }))
        })
        .collect()
}

/// `rapl_domain_names` of drivers/powercap/intel_rapl_common.c; the package is printed as `package-N` or `package-N-die-M`.
fn domain_of(label: &str, is_sub_zone: bool) -> Option<Domain> {
    match (label, is_sub_zone) {
        ("psys", _) => Some(Domain::Psys),
        ("core", true) => Some(Domain::Cores),
        ("uncore", true) => Some(Domain::Gpu),
        ("dram", true) => Some(Domain::Ram),
        (package, false) if package.starts_with("package-") => Some(Domain::Package),
        _ => None,
    }
}

/// Reads the zones and adds them up.
pub(super) fn sum(zones: &mut [Zone]) -> Result<Counter, Why> {
    let mut value = 0u64;
    for zone in zones {
        value = value.saturating_add(zone.read()?);
    }
    Ok(Counter { value, at_ns: monotonic_ns() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_goes_on_after_wrap() {
        let mut counter = Unwrapped { range: Some(262_143_328_850), ..Unwrapped::default() };
        assert_eq!(counter.push(262_143_328_800), 262_143_328_800);
        assert_eq!(counter.push(50), 262_143_328_900);
        assert_eq!(counter.push(60), 262_143_328_910);
    }

    #[test]
    fn synthetic_counter_without_range_that_steps_back_never_does() {
        let mut counter = Unwrapped::default();
        assert_eq!(counter.push(1_000), 1_000);
        assert_eq!(counter.push(10), 1_010);
        assert_eq!(counter.push(u64::MAX), u64::MAX);
    }

    #[test]
    fn uncore_is_the_gpu_and_only_below_a_package() {
        assert_eq!(domain_of("uncore", true), Some(Domain::Gpu));
        assert_eq!(domain_of("uncore", false), None);
        assert_eq!(domain_of("package-0", false), Some(Domain::Package));
        assert_eq!(domain_of("package-1-die-0", false), Some(Domain::Package));
        assert_eq!(domain_of("psys", false), Some(Domain::Psys));
        assert_eq!(domain_of("something", false), None);
    }
}
