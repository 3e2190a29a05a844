//! `gpuscope.list/1`.

use super::{Missing, each, line};
use crate::time::Rfc3339;
use gpuscope_model::{DeviceInfo, EngineInfo, GtInfo, PciAddress, PciId, Reason, Sriov, Text, Why};
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes the list of GPUs as one line.
///
/// # Errors
/// Those of the writer.
pub fn list(w: &mut dyn Write, gpus: &[DeviceInfo], wall: SystemTime) -> io::Result<()> {
    #[derive(Serialize)]
    struct List<G> {
        schema: &'static str,
        time: Rfc3339,
        gpus: G,
    }
    line(w, &List { schema: "gpuscope.list/1", time: Rfc3339::new(wall), gpus: each(gpus, gpu) })
}

fn gpu(info: &DeviceInfo) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Gpu<'a, G, E> {
        id: &'a str,
        vendor: &'static str,
        driver: &'a str,
        name: &'a str,
        pci_id: Option<Shown<PciId>>,
        card: Option<&'a str>,
        render: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        accel: Option<&'a str>,
        pmu: Option<&'a str>,
        integrated: Option<bool>,
        runtime_status: Option<&'static str>,
        sriov: Function,
        gts: G,
        engines: E,
        clients_from: Option<Vec<&'a str>>,
        unavailable: Vec<Missing<'a, String>>,
    }
    Gpu {
        id: info.id.as_str(),
        vendor: info.vendor.as_str(),
        driver: &info.driver,
        name: &info.name,
        pci_id: info.pci_id.map(Shown),
        card: info.card.as_deref(),
        render: info.render.as_deref(),
        accel: info.accel.as_deref(),
        pmu: info.pmu.as_deref(),
        integrated: info.integrated.get(),
        runtime_status: info.runtime_status.get().map(|s| s.as_str()),
        sriov: function(&info.sriov),
        gts: known(info, "gts").then(|| each(&info.gts, gt)),
        engines: known(info, "engines").then(|| each(&info.engines, engine)),
        clients_from: known(info, "clients_from").then(|| info.clients_from.iter().map(Text::as_str).collect()),
        unavailable: absences(info),
    }
}

/// Whether a list of the model, empty or not, is what it says: discovery notes the name of a list that it could not fill.
fn known(info: &DeviceInfo, list: &str) -> bool {
    !info.unavailable.iter().any(|u| u.metric == list)
}

/// Something that JSON carries as the text it prints.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

#[derive(Serialize)]
struct Function {
    role: &'static str,
    /// Virtual functions enabled and possible; null where the device is no physical function.
    enabled_vfs: Option<u16>,
    total_vfs: Option<u16>,
    /// Address of the physical function; null where the device is no virtual function, or inside a guest.
    physical_function: Option<Shown<PciAddress>>,
}

fn function(sriov: &Sriov) -> Function {
    let none = Function { role: "none", enabled_vfs: None, total_vfs: None, physical_function: None };
    match *sriov {
        Sriov::None => none,
        Sriov::Physical { enabled, total } => {
            Function { role: "physical", enabled_vfs: Some(enabled), total_vfs: Some(total), ..none }
        }
        Sriov::Virtual { physical } => Function { role: "virtual", physical_function: physical.map(Shown), ..none },
    }
}

fn gt(g: &GtInfo) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct Gt {
        gt: u8,
        tile: u8,
        kind: &'static str,
    }
    Gt { gt: g.gt, tile: g.tile, kind: g.kind.as_str() }
}

fn engine(e: &EngineInfo) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Engine<'a> {
        name: &'a str,
        class: &'static str,
        instance: Option<u16>,
        gt: Option<u8>,
    }
    Engine { name: &e.name, class: e.class.as_str(), instance: e.instance.get(), gt: e.gt.get() }
}

static NO_PCI: Why = why(Reason::NoHardware, "not a PCI device");
static NO_CARD: Why = why(Reason::NotSupported, "the driver made no primary node for this device");
static NO_RENDER: Why = why(Reason::NotSupported, "the driver made no render node for this device");
static NO_PMU: Why = why(Reason::NotSupported, "the driver registered no perf PMU for this device");

const fn why(reason: Reason, detail: &'static str) -> Why {
    Why { reason, detail: Text::Static(detail), remedy: None }
}

/// Every null field of the object with its reason. What discovery has noted itself is more exact and goes first.
fn absences<'a>(info: &'a DeviceInfo) -> Vec<Missing<'a, String>> {
    let mut list: Vec<Missing<'a, String>> =
        info.unavailable.iter().map(|u| Missing::new(u.metric.clone(), &u.why)).collect();
    let mut add = |path: String, why: Option<&'a Why>| {
        if let Some(why) = why
            && !list.iter().any(|known| known.metric == path)
        {
            list.push(Missing::new(path, why));
        }
    };
    add("pci_id".into(), info.pci_id.is_none().then_some(&NO_PCI));
    add("card".into(), info.card.is_none().then_some(&NO_CARD));
    add("render".into(), info.render.is_none().then_some(&NO_RENDER));
    add("pmu".into(), info.pmu.is_none().then_some(&NO_PMU));
    add("integrated".into(), info.integrated.why());
    add("runtime_status".into(), info.runtime_status.why());
    for e in &info.engines {
        add(format!("engines[{}].instance", e.name), e.instance.why());
        add(format!("engines[{}].gt", e.name), e.gt.why());
    }
    list
}
