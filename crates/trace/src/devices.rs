//! What drivers call their devices in records, and which device that is.

use gpuscope_sys::{Roots, list_dir};
use std::fs;

/// Names that drivers use in their events (`card0`, the primary node; `virtio1`, the device on the virtio bus), each with the name of the
/// device that all else calls it by: `0000:00:02.0`.
pub fn device_names(roots: &Roots) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for own in list_dir(&roots.sys("class/drm")).unwrap_or_default() {
        let is_card = own.strip_prefix("card").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        // `device` leads to the device that the node belongs to.
        if let Ok(link) = fs::read_link(roots.sys(format!("class/drm/{own}/device")))
            && let Some(device) = link.file_name().filter(|_| is_card)
        {
            names.push((own, device.to_string_lossy().into_owned()));
        }
    }
    for own in list_dir(&roots.sys("bus/virtio/devices")).unwrap_or_default() {
        // The entry is a link to the device's own folder, which stands in that of the device on the bus before.
        if let Ok(link) = fs::read_link(roots.sys(format!("bus/virtio/devices/{own}")))
            && let Some(device) = link.parent().and_then(|parent| parent.file_name())
        {
            names.push((own, device.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// As sysfs of a machine with an i915 and a virtio-gpu lays them out.
    #[test]
    fn nodes_and_virtio_devices_lead_to_the_bus() {
        let tree = tempfile::tempdir().unwrap();
        let roots = Roots::at(tree.path());
        for dir in ["class/drm/card0", "class/drm/card0-eDP-1", "class/drm/renderD128", "bus/virtio/devices"] {
            fs::create_dir_all(roots.sys(dir)).unwrap();
        }
        symlink("../../../0000:00:02.0", roots.sys("class/drm/card0/device")).unwrap();
        symlink("../../../0000:00:02.0", roots.sys("class/drm/renderD128/device")).unwrap();
        symlink("../../card0", roots.sys("class/drm/card0-eDP-1/device")).unwrap();
        let virtio = "../../../devices/pci0000:00/0000:00:09.0/virtio3";
        symlink(virtio, roots.sys("bus/virtio/devices/virtio3")).unwrap();
        let pair = |own: &str, device: &str| (own.to_string(), device.to_string());
        assert_eq!(device_names(&roots), [pair("card0", "0000:00:02.0"), pair("virtio3", "0000:00:09.0")]);
        assert_eq!(device_names(&Roots::at(tree.path().join("nothing"))), []);
    }
}
