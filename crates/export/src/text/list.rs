//! The GPUs, a block each.

use super::{Absences, Style, Tone, dressed, row};
use gpuscope_model::{DeviceInfo, GtKind, Reading, Sriov, Vendor};
use std::io::{self, Write};

/// Writes what each GPU is. An empty list writes nothing: say [`no_gpu`](super::no_gpu) then.
///
/// # Errors
/// Those of the writer.
pub fn list(w: &mut dyn Write, gpus: &[DeviceInfo], style: Style) -> io::Result<()> {
    dressed(w, style, |w| gpus.iter().try_for_each(|info| block(w, info, style)))
}

fn block(w: &mut dyn Write, info: &DeviceInfo, style: Style) -> io::Result<()> {
    writeln!(w, "{}", style.paint(Tone::Heading, &format!("{}  {}", info.id, info.name)))?;
    let mut identity = vec![info.driver.clone()];
    if info.vendor != Vendor::Other {
        identity.push(info.vendor.as_str().into());
    }
    identity.extend(info.pci_id.map(|id| id.to_string()));
    if let Reading::Value(integrated) = info.integrated {
        identity.push(if integrated { "integrated" } else { "discrete" }.into());
    }
    row(w, style, "driver", &identity)?;
    let nodes: Vec<String> = info.card.iter().chain(&info.render).chain(&info.accel).cloned().collect();
    row(w, style, "nodes", &or_dash(nodes))?;
    row(w, style, "PMU", &or_dash(info.pmu.iter().cloned().collect()))?;
    let gts = info.gts.iter().map(|g| match g.kind {
        GtKind::Unknown => format!("gt{}", g.gt),
        kind => format!("gt{} {}", g.gt, kind.as_str()),
    });
    row(w, style, "GTs", &or_dash(gts.collect()))?;
    let engines = info.engines.iter().map(|e| format!("{} {}", e.name, e.class.as_str()));
    row(w, style, "engines", &or_dash(engines.collect()))?;
    row(w, style, "clients", &or_dash(info.clients_from.iter().map(ToString::to_string).collect()))?;
    let role = match info.sriov {
        Sriov::None => None,
        Sriov::Physical { enabled, total } => {
            Some(format!("physical function, {enabled} of {total} virtual functions enabled"))
        }
        Sriov::Virtual { physical: Some(pf) } => Some(format!("virtual function of {pf}")),
        Sriov::Virtual { physical: None } => Some("virtual function".into()),
    };
    row(w, style, "SR-IOV", role.as_slice())?;
    row(w, style, "power", &or_dash(info.runtime_status.get().map(|s| s.as_str().into()).into_iter().collect()))?;
    let mut absences = Absences::default();
    for u in &info.unavailable {
        absences.add(&u.metric, &u.why);
    }
    absences.write(w, style)
}

fn or_dash(items: Vec<String>) -> Vec<String> {
    if items.is_empty() { vec!["-".into()] } else { items }
}
