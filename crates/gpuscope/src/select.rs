//! Which GPU somebody means.

use anyhow::bail;
use gpuscope_model::{DeviceInfo, PciAddress};

/// The ids of the GPUs that the words name, in the order of the words.
pub(crate) fn ids(words: &[String], gpus: &[DeviceInfo]) -> anyhow::Result<Vec<String>> {
    words.iter().map(|word| id(word, gpus)).collect()
}

fn id(word: &str, gpus: &[DeviceInfo]) -> anyhow::Result<String> {
    if let Some(info) = find(word, gpus) {
        return Ok(info.id.to_string());
    }
    if gpus.is_empty() {
        bail!("no GPU matches --gpu {word}: none was found; `gpuscope doctor` tells more");
    }
    let known: Vec<String> = gpus.iter().map(|g| g.id.to_string()).collect();
    bail!("no GPU matches --gpu {word}: there is {}; see `gpuscope list`", known.join(", "))
}

fn find<'g>(word: &str, gpus: &'g [DeviceInfo]) -> Option<&'g DeviceInfo> {
    // udev names its links by PCI address: /dev/dri/by-path/pci-0000:03:00.0-card
    let by_path = word
        .strip_prefix("/dev/dri/by-path/pci-")
        .and_then(|rest| rest.strip_suffix("-card").or_else(|| rest.strip_suffix("-render")));
    let address = by_path.unwrap_or(word).parse::<PciAddress>().ok();
    let node = |node: &Option<String>| {
        node.as_deref().is_some_and(|node| node == word || node.rsplit('/').next() == Some(word))
    };
    let matches = |g: &&DeviceInfo| {
        g.id.as_str() == word
            || (address.is_some() && g.pci_address == address)
            || node(&g.card)
            || node(&g.render)
            || node(&g.accel)
    };
    gpus.iter().find(matches).or_else(|| gpus.get(word.parse::<usize>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::{GpuId, Reading, Reason, Sriov, Vendor};

    fn gpu(id: &str, card: u8) -> DeviceInfo {
        DeviceInfo {
            id: GpuId::new(id.to_string()),
            vendor: Vendor::Intel,
            driver: "i915".into(),
            name: String::new(),
            pci_address: id.parse().ok(),
            pci_id: None,
            card: Some(format!("/dev/dri/card{card}")),
            render: Some(format!("/dev/dri/renderD{}", 128 + card)),
            accel: None,
            pmu: None,
            integrated: Reading::Value(true),
            sriov: Sriov::None,
            runtime_status: Reading::absent(Reason::NotSupported, ""),
            gts: Vec::new(),
            engines: Vec::new(),
            clients_from: Vec::new(),
            unavailable: Vec::new(),
        }
    }

    #[test]
    fn a_gpu_goes_by_many_names() {
        let gpus = [gpu("0000:00:02.0", 1), gpu("0000:03:00.0", 0)];
        for word in [
            "0000:03:00.0",
            "03:00.0",
            "card0",
            "renderD128",
            "/dev/dri/card0",
            "/dev/dri/by-path/pci-0000:03:00.0-render",
            "1",
        ] {
            assert_eq!(find(word, &gpus).unwrap().id.as_str(), "0000:03:00.0", "{word}");
        }
        for word in ["", "2", "card", "card00", "04:00.0", "/dev/dri", "D128"] {
            assert!(find(word, &gpus).is_none(), "{word}");
        }
    }

    #[test]
    fn a_miss_names_what_there_is() {
        let error = ids(&["card7".into()], &[gpu("0000:00:02.0", 1)]).unwrap_err().to_string();
        assert!(error.contains("card7") && error.contains("0000:00:02.0"), "{error}");
    }
}
