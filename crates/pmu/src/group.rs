//! Counters of one PMU that are read together and survive the loss of their CPU.

use crate::pmu::{Pmu, read_cpus};
use crate::{EventAttr, GroupValues, Rights};
use gpuscope_model::{Reason, Why};
use gpuscope_sys::perf::PerfGroup;
use gpuscope_sys::{Roots, monotonic_ns, read_text};
use std::io;
use std::path::PathBuf;

/// A group whose `time_enabled` has not moved for so long has lost its CPU.
const STALLED_NS: u64 = 1_000_000;

/// Time between two attempts to open a lost group again.
const RETRY_NS: u64 = 1_000_000_000;

/// Counters of one PMU, opened on one CPU of its mask and read with one call.
///
/// When that CPU goes away, drivers that use `perf_pmu_migrate_context` move the events and nothing is to be done. Otherwise the
/// kernel takes the events off (`perf_event_exit_cpu`): their time stands still or a read answers with nothing. The group is then
/// opened again on the mask's present CPU and its counts go on from where they stood; what happened in between was not counted,
/// neither as count nor as enabled time.
#[derive(Debug)]
pub struct CounterGroup {
    roots: Roots,
    folder: PathBuf,
    name: String,
    rights: Rights,
    place: Place,
    attrs: Vec<EventAttr>,
    group: Option<PerfGroup>,
    /// What the kernel said last.
    raw: GroupValues,
    /// Sums of the groups before this one.
    base: GroupValues,
    /// `base + raw`
    sum: GroupValues,
    /// Why there is no group.
    lost: Option<Why>,
    moved_at_ns: u64,
    tried_at_ns: u64,
    reopened: u32,
}

/// Which of the mask's CPUs a group belongs to, so that it finds the same package again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    index: usize,
    package_and_die: Option<(String, String)>,
}

impl CounterGroup {
    /// Opens all of `attrs` on the first CPU of the PMU's mask.
    ///
    /// # Errors
    /// The first refusal, explained by `rights`; [`Reason::NotCounting`] for a captured tree.
    pub fn open(roots: &Roots, rights: &Rights, pmu: &Pmu, attrs: &[EventAttr]) -> Result<CounterGroup, Why> {
        let (group, refused) = CounterGroup::open_available(roots, rights, pmu, 0, attrs)?;
        match refused.into_iter().flatten().next() {
            Some(why) => Err(why),
            None => Ok(group),
        }
    }

    /// Opens those of `attrs` that can be opened, on the CPU with this index in the PMU's mask. The second value says for each
    /// of `attrs` why it was refused; those that were not are the group's values, in the same order.
    ///
    /// # Errors
    /// The first refusal when nothing could be opened; [`Reason::NotCounting`] for a captured tree.
    pub fn open_available(
        roots: &Roots,
        rights: &Rights,
        pmu: &Pmu,
        cpu_index: usize,
        attrs: &[EventAttr],
    ) -> Result<(CounterGroup, Vec<Option<Why>>), Why> {
        if !roots.is_live() {
            return Err(Why::new(Reason::NotCounting, "a captured tree has no running counters"));
        }
        let cpu = match pmu.cpus().get(cpu_index) {
            Some(cpu) => *cpu,
            None => pmu.cpu(),
        };
        let mut group = None;
        let mut opened = Vec::with_capacity(attrs.len());
        let mut refused = Vec::with_capacity(attrs.len());
        for attr in attrs {
            let result = match &mut group {
                None => PerfGroup::open(*attr, cpu).map(|g| group = Some(g)),
                Some(group) => group.add(*attr).map(drop),
            };
            match result {
                Ok(()) => {
                    opened.push(*attr);
                    refused.push(None);
                }
                Err(e) => refused.push(Some(rights.explain_perf_error(&e, &describe(&pmu.name, attr)))),
            }
        }
        let Some(group) = group else {
            let first = refused.into_iter().flatten().next();
            return Err(first.unwrap_or_else(|| Why::new(Reason::NotSupported, format!("PMU {}: no events", pmu.name))));
        };
        let now = monotonic_ns();
        let zeros = GroupValues { values: vec![0; opened.len()], ..GroupValues::default() };
        let counters = CounterGroup {
            place: Place { index: cpu_index, package_and_die: package_and_die(roots, cpu) },
            roots: roots.clone(),
            folder: pmu.folder().to_path_buf(),
            name: pmu.name.clone(),
            rights: rights.clone(),
            attrs: opened,
            group: Some(group),
            raw: zeros.clone(),
            base: zeros.clone(),
            sum: zeros,
            lost: None,
            moved_at_ns: now,
            tried_at_ns: now,
            reopened: 0,
        };
        Ok((counters, refused))
    }

    /// Reads all counters: cumulative since the group was opened first, also across a change of CPU.
    ///
    /// # Errors
    /// Why there are no values: the CPU is gone and no other takes the events, or the read failed.
    pub fn read(&mut self) -> Result<&GroupValues, Why> {
        let error = match &self.group {
            None => None,
            Some(group) => {
                let before = self.raw.time_enabled_ns;
                match group.read(&mut self.raw) {
                    Ok(()) => {
                        let now = self.raw.at_ns;
                        if self.raw.time_enabled_ns != before {
                            self.moved_at_ns = now;
                        }
                        self.add_up();
                        let stalled = now.saturating_sub(self.moved_at_ns) > STALLED_NS;
                        if !stalled || now.saturating_sub(self.tried_at_ns) < RETRY_NS {
                            return Ok(&self.sum);
                        }
                        None
                    }
                    Err(e) => {
                        self.group = None;
                        Some(e)
                    }
                }
            }
        };
        self.reopen(error)
    }

    /// Number of counters.
    pub fn len(&self) -> usize {
        self.attrs.len()
    }

    /// Never: a group has at least one counter.
    pub fn is_empty(&self) -> bool {
        self.attrs.is_empty()
    }

    /// How often the group had to be opened again.
    pub fn reopened(&self) -> u32 {
        self.reopened
    }

    fn add_up(&mut self) {
        self.sum.at_ns = self.raw.at_ns;
        self.sum.time_enabled_ns = self.base.time_enabled_ns.wrapping_add(self.raw.time_enabled_ns);
        let pairs = self.base.values.iter().zip(&self.raw.values);
        for (sum, (base, raw)) in self.sum.values.iter_mut().zip(pairs) {
            *sum = base.wrapping_add(*raw);
        }
    }

    /// Opens the group again where its package is counted now. Off the steady path: it may allocate.
    fn reopen(&mut self, error: Option<io::Error>) -> Result<&GroupValues, Why> {
        let now = monotonic_ns();
        if let Some(e) = error {
            self.lost = Some(self.rights.explain_perf_error(&e, &format!("PMU {}", self.name)));
        }
        if let (Some(why), true) = (&self.lost, now.saturating_sub(self.tried_at_ns) < RETRY_NS) {
            return Err(why.clone());
        }
        self.tried_at_ns = now;
        match self.open_again() {
            Ok(group) => {
                self.group = Some(group);
                self.lost = None;
                self.reopened = self.reopened.saturating_add(1);
                self.base.clone_from(&self.sum);
                self.raw.time_enabled_ns = 0;
                self.moved_at_ns = now;
                let Some(group) = &self.group else { return Ok(&self.sum) };
                if let Err(e) = group.read(&mut self.raw) {
                    let why = self.rights.explain_perf_error(&e, &format!("PMU {}", self.name));
                    self.group = None;
                    self.lost = Some(why.clone());
                    return Err(why);
                }
                self.add_up();
                Ok(&self.sum)
            }
            Err(why) => {
                // Standing counters are of no more use than none: say why.
                self.group = None;
                self.lost = Some(why.clone());
                Err(why)
            }
        }
    }

    fn open_again(&self) -> Result<PerfGroup, Why> {
        let cpus = read_cpus(&self.folder)?.unwrap_or_else(|| vec![0]);
        let same_place = |cpu: &&u32| {
            self.place.package_and_die.is_some() && package_and_die(&self.roots, **cpu) == self.place.package_and_die
        };
        let cpu = match cpus.iter().find(same_place) {
            Some(cpu) => *cpu,
            // A mask of one CPU speaks for the whole machine, whichever package that CPU is in.
            None if self.place.package_and_die.is_none() || cpus.len() == 1 => {
                cpus.get(self.place.index).or(cpus.first()).copied().ok_or_else(|| self.no_cpu())?
            }
            None => return Err(self.no_cpu()),
        };
        let mut group: Option<PerfGroup> = None;
        for attr in &self.attrs {
            let result = match &mut group {
                None => PerfGroup::open(*attr, cpu).map(|g| group = Some(g)),
                Some(group) => group.add(*attr).map(drop),
            };
            result.map_err(|e| self.rights.explain_perf_error(&e, &describe(&self.name, attr)))?;
        }
        group.ok_or_else(|| self.no_cpu())
    }

    fn no_cpu(&self) -> Why {
        Why::new(Reason::NotCounting, format!("PMU {}: no CPU counts for this package any more", self.name))
    }
}

fn describe(pmu: &str, attr: &EventAttr) -> String {
    format!("PMU {pmu}, event {:#x}", attr.config)
}

/// Package and die of a CPU (drivers/base/topology.c). `None` where the files are missing: the CPU is off.
fn package_and_die(roots: &Roots, cpu: u32) -> Option<(String, String)> {
    let folder = roots.sys(format!("devices/system/cpu/cpu{cpu}/topology"));
    let read = |file: &str| read_text(folder.join(file)).ok().map(|text| text.trim().to_string());
    // die_id is not printed everywhere.
    Some((read("physical_package_id")?, read("die_id").unwrap_or_default()))
}

#[cfg(test)]
mod tests;
