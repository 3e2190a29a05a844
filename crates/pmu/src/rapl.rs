//! Energy of the processor's power domains (RAPL).
//!
//! Source: the PMU `power` (arch/x86/events/rapl.c), and for domains that it refuses or lacks the powercap zones `intel-rapl`
//! (drivers/powercap/intel_rapl_common.c), which AMD processors show under the same name. Whether a domain that never moves is to
//! be believed is decided where rates are made, not here.

mod powercap;

use crate::{CounterGroup, Pmu, Rights, Scale};
use gpuscope_model::{Counter, Reading, Reason, SourceReport, Why};
use gpuscope_sys::Roots;
use powercap::Zone;

const SOURCE: &str = "RAPL";

const MICROJOULES: u64 = 1_000_000;

/// A power domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Gpu,
    Package,
    Psys,
    Cores,
    Ram,
}

impl Domain {
    const ALL: [Domain; 5] = [Domain::Gpu, Domain::Package, Domain::Psys, Domain::Cores, Domain::Ram];

    /// The event of the PMU `power`.
    fn event(self) -> &'static str {
        match self {
            Domain::Gpu => "energy-gpu",
            Domain::Package => "energy-pkg",
            Domain::Psys => "energy-psys",
            Domain::Cores => "energy-cores",
            Domain::Ram => "energy-ram",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Domain::Gpu => "graphics",
            Domain::Package => "package",
            Domain::Psys => "platform",
            Domain::Cores => "cores",
            Domain::Ram => "memory",
        }
    }

    /// The metric made of it.
    fn metric(self) -> Option<&'static str> {
        match self {
            Domain::Gpu => Some("gpuscope_power_gpu_watts"),
            Domain::Package => Some("gpuscope_power_package_watts"),
            Domain::Psys => Some("gpuscope_power_psys_watts"),
            Domain::Cores | Domain::Ram => None,
        }
    }
}

/// Cumulative energy of each domain in microjoules, summed over packages.
#[derive(Clone, Debug, PartialEq)]
pub struct RaplSample {
    /// The integrated GPU (`energy-gpu`, PP1): client processors only.
    pub gpu_uj: Reading<Counter>,
    /// Whole packages (`energy-pkg`).
    pub package_uj: Reading<Counter>,
    /// The platform (`energy-psys`): some client processors.
    pub psys_uj: Reading<Counter>,
    /// Cores (`energy-cores`, PP0).
    pub cores_uj: Reading<Counter>,
    /// Memory (`energy-ram`): servers mostly.
    pub ram_uj: Reading<Counter>,
}

/// Energy counters of all packages.
#[derive(Debug)]
pub struct Rapl {
    packages: Vec<CounterGroup>,
    domains: [(Domain, Source); 5],
}

/// Where a domain is read.
#[derive(Debug)]
enum Source {
    /// Value `index` of every package's group.
    Perf {
        index: usize,
        scale: Scale,
    },
    Powercap(Vec<Zone>),
    Absent(Why),
}

impl Rapl {
    /// Finds and opens the counters. Never fails: what is missing is in the readings.
    pub fn open(roots: &Roots, rights: &Rights) -> Rapl {
        let (packages, domains) = match Pmu::open(roots, "power") {
            Ok(pmu) => open_perf(roots, rights, &pmu),
            Err(why) => {
                let why = if why.reason == Reason::NotSupported { no_pmu() } else { why };
                (Vec::new(), Domain::ALL.map(|domain| (domain, Source::Absent(why.clone()))))
            }
        };
        let domains = domains.map(|(domain, source)| match source {
            Source::Absent(why) => (domain, fall_back(roots, rights, domain, why)),
            source => (domain, source),
        });
        Rapl { packages, domains }
    }

    /// Reads all domains: microjoules since the counters were opened.
    pub fn sample(&mut self) -> RaplSample {
        let mut sums = [0u64; 5];
        let mut at_ns = 0;
        let mut failed = None;
        // Counts are added up for each domain before scaling: rounding then happens once.
        for package in &mut self.packages {
            match package.read() {
                Ok(values) => {
                    at_ns = values.at_ns.max(at_ns);
                    for (sum, value) in sums.iter_mut().zip(&values.values) {
                        *sum = sum.saturating_add(*value);
                    }
                }
                // One package that cannot be read makes the sum wrong, not smaller.
                Err(why) => failed = Some(why),
            }
        }
        let [gpu_uj, package_uj, psys_uj, cores_uj, ram_uj] = self.domains.each_mut().map(|(_, source)| match source {
            Source::Perf { index, scale } => match (&failed, sums.get(*index)) {
                (Some(why), _) => Reading::Absent(why.clone()),
                (None, Some(sum)) => Reading::Value(Counter { value: scale.apply(*sum, MICROJOULES), at_ns }),
                (None, None) => Reading::absent(Reason::Failed, "the PMU power answered with too few counters"),
            },
            Source::Powercap(zones) => powercap::sum(zones).into(),
            Source::Absent(why) => Reading::Absent(why.clone()),
        });
        RaplSample { gpu_uj, package_uj, psys_uj, cores_uj, ram_uj }
    }

    /// Which domains work, and what would help: one line for each domain that a metric is made of.
    pub fn reports(&self) -> Vec<SourceReport> {
        self.domains
            .iter()
            .filter_map(|(domain, source)| {
                let name = format!("{SOURCE} {} energy", domain.words());
                let report = match source {
                    Source::Perf { .. } => SourceReport::works(
                        name,
                        None,
                        format!("PMU power, {}; packages: {}", domain.event(), self.packages.len()),
                    ),
                    Source::Powercap(zones) => {
                        SourceReport::works(name, None, zones.iter().map(Zone::shown).collect::<Vec<_>>().join(", "))
                    }
                    Source::Absent(why) => SourceReport::absent(name, None, why.clone()),
                };
                domain.metric().map(|metric| report.unlocks(&[metric]))
            })
            .collect()
    }
}

fn no_pmu() -> Why {
    Why::new(
        Reason::NotSupported,
        "the kernel shows no PMU power: the processor has no RAPL counters, this is a virtual machine, or the module rapl is not \
         loaded",
    )
}

/// Opens the events that there are on every package.
fn open_perf(roots: &Roots, rights: &Rights, pmu: &Pmu) -> (Vec<CounterGroup>, [(Domain, Source); 5]) {
    let mut attrs = Vec::new();
    let mut planned = Domain::ALL.map(|domain| {
        let source = match scale_of(pmu, domain) {
            Ok((attr, scale)) => {
                attrs.push(attr);
                Source::Perf { index: attrs.len() - 1, scale }
            }
            Err(why) => Source::Absent(why),
        };
        (domain, source)
    });
    if attrs.is_empty() {
        return (Vec::new(), planned);
    }
    // Events that a package refuses are left out of all of them, so that an index means the same event everywhere.
    loop {
        let mut packages = Vec::new();
        let mut refusals: Vec<Option<Why>> = vec![None; attrs.len()];
        for cpu_index in 0..pmu.cpus().len().max(1) {
            match CounterGroup::open_available(roots, rights, pmu, cpu_index, &attrs) {
                Ok((group, refused)) => {
                    packages.push(group);
                    for (all, one) in refusals.iter_mut().zip(refused) {
                        *all = all.take().or(one);
                    }
                }
                Err(why) => refusals.iter_mut().for_each(|all| *all = Some(why.clone())),
            }
        }
        if refusals.iter().all(Option::is_none) {
            return (packages, planned);
        }
        let mut kept = 0;
        for (_, source) in &mut planned {
            let Source::Perf { index, .. } = source else { continue };
            match refusals.get(*index).cloned().flatten() {
                Some(why) => *source = Source::Absent(why),
                None => {
                    *index = kept;
                    kept += 1;
                }
            }
        }
        let mut refused = refusals.iter();
        attrs.retain(|_| refused.next().is_some_and(Option::is_none));
        if attrs.is_empty() {
            return (Vec::new(), planned);
        }
    }
}

fn scale_of(pmu: &Pmu, domain: Domain) -> Result<(crate::EventAttr, Scale), Why> {
    let name = domain.event();
    let event = pmu.event(name).ok_or_else(|| {
        let words = domain.words();
        Why::new(Reason::NoHardware, format!("the processor has no RAPL {words} domain (PMU power, event {name})"))
    })?;
    match (event.unit.as_deref(), event.exact_scale()) {
        (Some("Joules"), Some(scale)) => Ok((event.attr, scale)),
        (unit, _) => {
            let unit = unit.unwrap_or("none");
            Err(Why::new(Reason::NotSupported, format!("PMU power: event {name} counts in an unknown unit ({unit})")))
        }
    }
}

/// The powercap zones of the domain; where those do not help either, why perf did not work, which has the better remedy.
fn fall_back(roots: &Roots, rights: &Rights, domain: Domain, why: Why) -> Source {
    let mut zones = powercap::find(roots, rights, domain);
    match zones.iter().position(Result::is_err) {
        None if zones.is_empty() => Source::Absent(why),
        None => Source::Powercap(zones.into_iter().flatten().collect()),
        // perf counts as soon as it is allowed; without it the refusal of the file is what can be mended.
        Some(refused) if why.reason != Reason::NoPermission => match zones.swap_remove(refused) {
            Err(file) => Source::Absent(file),
            Ok(_) => Source::Absent(why),
        },
        Some(_) => Source::Absent(why),
    }
}

#[cfg(test)]
mod tests;
