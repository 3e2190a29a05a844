//! The drivers, each in a folder of its own: the only code that knows a driver's name.

pub(crate) mod amdgpu;
pub(crate) mod generic;
pub(crate) mod i915;
mod intel;
pub(crate) mod ivpu;
pub(crate) mod nvidia;
mod over_time;
pub(crate) mod xe;

use crate::Options;
use crate::discover::Found;
pub(crate) use crate::power_state::{Gone, PowerState};
use gpuscope_model::{ClientSample, DeviceInfo, DeviceSample, SourceReport, Why};
use gpuscope_pmu::Rights;
use gpuscope_sys::Roots;

/// What a driver does for one bound device.
pub(crate) trait Device: Send {
    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Runtime power state; wakes nothing. `Err(Gone)` once the device is unbound or unplugged.
    fn power(&mut self) -> Result<PowerState, Gone>;

    /// Fills `out` in place: its vectors keep their order and capacity, and nothing is allocated in steady state. Polite sources
    /// are always read; sources that wake the device only with [`Access::Allowed`], otherwise their fields get the reason.
    ///
    /// Left to the caller: `runtime_status`, `classes`, and for an integrated GPU `power` and `bandwidth`, which are the machine's.
    fn sample(&mut self, access: &Access, out: &mut DeviceSample);

    /// A sample with all entries laid out (names, labels), every value absent, to be filled by [`sample`](Self::sample).
    fn blank(&self) -> DeviceSample;

    /// What of DRM fdinfo this device needs.
    fn fdinfo(&self) -> FdinfoNeed;

    /// Adds the processes that use the device as far as the driver tells of them elsewhere than in fdinfo, and they are not among its
    /// clients there, `drm`. `None` where the driver tells of clients in fdinfo only; an error says why they are not known. Asked after
    /// [`sample`](Self::sample), and only where clients are wanted; wakes nothing.
    fn processes(&mut self, drm: &[ClientSample], out: &mut Vec<ClientSample>) -> Option<Result<(), Why>> {
        let _ = (drm, out);
        None
    }

    /// Whether the driver tells of processes elsewhere than in fdinfo, see [`processes`](Self::processes).
    fn knows_processes(&self) -> bool {
        false
    }

    /// Work that is in no client's fdinfo; `None` while no process works that way. Asked after [`sample`](Self::sample).
    fn beside_fdinfo(&self) -> Option<Beside<'_>> {
        None
    }

    /// Whether this monitor's own open sources keep the device awake: then leaving it alone would not let it fall asleep.
    fn holds_awake(&self) -> bool;

    /// Which sources work, and what would help those that do not.
    fn reports(&self) -> Vec<SourceReport>;
}

/// Whether readings that wake the device may be made now.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// They may.
    Allowed,
    /// They may not, for this reason.
    Withheld(Why),
}

/// What of DRM fdinfo a device needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FdinfoNeed {
    /// Engines are not counted otherwise: class sums over the clients are wanted.
    pub(crate) needed: bool,
    /// Reading a client's fdinfo wakes the device.
    pub(crate) wakes: bool,
    /// Engines that are printed only once a client has used them: one that is not printed stands at 0, and one that appears began there.
    /// Empty where the driver prints all.
    pub(crate) hidden: &'static [&'static str],
}

/// Work that reaches a device past the files of its DRM clients.
#[derive(Debug)]
pub(crate) struct Beside<'a> {
    /// The processes that may work so, by the host's numbers.
    pub(crate) pids: &'a [u32],
    /// The engines that do this work, as fdinfo names them: what it says of these processes' use of them is not all of it.
    pub(crate) engines: &'static [&'static str],
    /// Why their use is not known.
    pub(crate) why: Why,
}

/// What a driver is opened with.
pub(crate) struct Context<'a> {
    /// Where the kernel's trees are.
    pub(crate) roots: &'a Roots,
    /// What this process may do.
    pub(crate) rights: &'a Rights,
    /// What to open.
    pub(crate) options: &'a Options,
}

/// One line of the table.
pub(crate) struct Driver {
    /// The kernel driver's name.
    pub(crate) name: &'static str,
    /// It may drive a PCI device without making DRM nodes for it: such a device is found as one that is bound to the driver.
    pub(crate) without_nodes: bool,
    /// What the device is; wakes nothing and opens no perf event.
    pub(crate) identify: fn(&Context<'_>, &Found) -> DeviceInfo,
    /// Opens its sources.
    pub(crate) open: fn(&Context<'_>, Found) -> Box<dyn Device>,
}

const fn driver(
    name: &'static str,
    identify: fn(&Context<'_>, &Found) -> DeviceInfo,
    open: fn(&Context<'_>, Found) -> Box<dyn Device>,
) -> Driver {
    Driver { name, without_nodes: false, identify, open }
}

/// The drivers with code of their own.
pub(crate) const DRIVERS: &[Driver] = &[
    driver("amdgpu", amdgpu::identify, amdgpu::open),
    driver("i915", i915::identify, i915::open),
    driver("intel_vpu", ivpu::identify, ivpu::open),
    // DRM nodes are nvidia-drm's, a module of its own, which machines without displays do without.
    Driver { without_nodes: true, ..driver("nvidia", nvidia::identify, nvidia::open) },
    driver("xe", xe::identify, xe::open),
];

/// Every other driver.
const GENERIC: Driver = driver("*", generic::identify, generic::open);

fn driver_of(found: &Found) -> &'static Driver {
    DRIVERS.iter().find(|d| d.name == found.driver).unwrap_or(&GENERIC)
}

/// Names of the drivers whose devices may have no DRM node.
pub(crate) fn without_nodes() -> impl Iterator<Item = &'static str> {
    DRIVERS.iter().filter(|d| d.without_nodes).map(|d| d.name)
}

/// What the device is; wakes nothing and opens no perf event.
pub(crate) fn identify(context: &Context<'_>, found: &Found) -> DeviceInfo {
    (driver_of(found).identify)(context, found)
}

/// Opens a device with its driver's code, or the generic one.
pub(crate) fn open(context: &Context<'_>, found: Found) -> Box<dyn Device> {
    (driver_of(&found).open)(context, found)
}

#[cfg(test)]
mod captured;

#[cfg(test)]
mod steady;
