//! Which container or unit a cgroup path belongs to.

/// Engines by the word that they put before a container's id: `docker-<64 hex>.scope` (systemd cgroup driver), `crio-<64 hex>`
/// (cgroupfs driver), `…:cri-containerd:<64 hex>` (containerd with a slice for a parent and the cgroupfs driver).
const PREFIXES: [(&str, &str); 5] = [
    ("docker", "docker"),
    ("libpod", "podman"),
    ("crio", "cri-o"),
    ("cri-containerd", "containerd"),
    ("nerdctl", "containerd"),
];

/// Folders under which an engine puts containers by their bare id (cgroupfs driver).
const FOLDERS: [(&str, &str); 2] = [("docker", "docker"), ("libpod_parent", "podman")];

/// The container of a path in the unified hierarchy, innermost first: `docker:4f5a…` with 12 digits of the id, `kubernetes:POD/…` with
/// the pod's id before the container's, `lxc:NAME`, and for what is no container the systemd unit: `unit:NAME`.
///
/// `None` for the root and for paths of another shape. These names are conventions of the engines, not an interface of the kernel:
/// opencontainers/runc `libcontainer/cgroups/systemd` (`getUnitName`: PREFIX-ID.scope), kubernetes `pkg/kubelet/cm`
/// (`pod_container_manager_linux.go`, `cgroup_manager_linux.go`), LXC `src/lxc/cgroups/cgfsng.c` (`lxc.payload`), systemd.unit(5).
pub fn container_of(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let pod = parts.iter().rev().find_map(|part| pod_of(part));
    for (i, part) in parts.iter().enumerate().rev() {
        let parent = i.checked_sub(1).and_then(|i| parts.get(i)).copied().unwrap_or_default();
        let Some((engine, id)) = named(part).or_else(|| in_folder(parent, part)) else { continue };
        return Some(match &pod {
            Some(pod) => format!("kubernetes:{pod}/{id}"),
            None => format!("{engine}:{id}"),
        });
    }
    if let Some(pod) = pod {
        return Some(format!("kubernetes:{pod}"));
    }
    let unit = parts.iter().rev().find(|p| p.ends_with(".service") || p.ends_with(".scope"))?;
    Some(format!("unit:{unit}"))
}

/// A container by the name of its own cgroup: `docker-<id>.scope`, `lxc.payload.NAME`.
fn named(part: &str) -> Option<(&'static str, String)> {
    if let Some(name) = part.strip_prefix("lxc.payload.").filter(|n| !n.is_empty()) {
        return Some(("lxc", name.to_string()));
    }
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = match part.rsplit_once(':') {
        Some((front, id)) => (front.rsplit_once(':')?.1, id),
        None => part.rsplit_once('-')?,
    };
    let engine = PREFIXES.iter().find(|(word, _)| *word == prefix)?.1;
    Some((engine, short(id)?))
}

/// A container by the folder that its cgroup is in: an engine's own, or a pod's.
fn in_folder(parent: &str, part: &str) -> Option<(&'static str, String)> {
    if matches!(parent, "lxc.payload" | "lxc") {
        return Some(("lxc", part.to_string()));
    }
    let id = short(part)?;
    if pod_of(parent).is_some() {
        return Some(("kubernetes", id));
    }
    FOLDERS.iter().find(|(folder, _)| *folder == parent).map(|(_, engine)| (*engine, id))
}

/// The first 12 digits of a container's id, which has 64.
fn short(id: &str) -> Option<String> {
    let whole = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| id.get(..12).map(str::to_string)).flatten()
}

/// The id of a pod: `pod<uid>` (cgroupfs), `kubepods-burstable-pod<uid with _>.slice` (systemd), perhaps with a word before it
/// (`kubelet-kubepods-…`) or the container's id behind it (`….slice:cri-containerd:<id>`).
fn pod_of(part: &str) -> Option<String> {
    let part = part.split(':').next().unwrap_or_default();
    let uid = match part.strip_suffix(".slice") {
        Some(slice) if slice.contains("kubepods") => slice.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let plausible = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    plausible.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f5a0c1de2b3948576a7b8c9d0e1f20314253647586970a1b2c3d4e5f6071829";
    const SHORT: &str = "4f5a0c1de2b3";

    fn is(path: &str, expected: &str) {
        assert_eq!(container_of(path).as_deref(), Some(expected), "{path}");
    }

    #[test]
    fn engines_with_either_cgroup_driver() {
        is(&format!("/system.slice/docker-{ID}.scope"), &format!("docker:{SHORT}"));
        is(&format!("/docker/{ID}"), &format!("docker:{SHORT}"));
        is(&format!("/docker/{ID}/system.slice/inner.service"), &format!("docker:{SHORT}"));
        is(
            &format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"),
            &format!("podman:{SHORT}"),
        );
        is(&format!("/libpod_parent/libpod-{ID}"), &format!("podman:{SHORT}"));
        is(&format!("/system.slice/crio-{ID}.scope"), &format!("cri-o:{SHORT}"));
        is(&format!("/system.slice/nerdctl-{ID}.scope"), &format!("containerd:{SHORT}"));
        is("/lxc.payload.web/system.slice/nginx.service", "lxc:web");
        is("/lxc/web", "lxc:web");
    }

    #[test]
    fn monitors_of_containers_are_units() {
        is(&format!("/machine.slice/libpod-conmon-{ID}.scope"), &format!("unit:libpod-conmon-{ID}.scope"));
        assert_eq!(container_of("/lxc.monitor.web"), None);
    }

    #[test]
    fn pods_of_kubernetes() {
        let uid = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";
        let slice =
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        is(&format!("{slice}/cri-containerd-{ID}.scope"), &format!("kubernetes:{uid}/{SHORT}"));
        is(&format!("{slice}/crio-{ID}.scope"), &format!("kubernetes:{uid}/{SHORT}"));
        is(&format!("/kubepods/besteffort/pod{uid}/{ID}"), &format!("kubernetes:{uid}/{SHORT}"));
        is(&format!("/kubepods/burstable/pod{uid}/crio-{ID}"), &format!("kubernetes:{uid}/{SHORT}"));
        let name = slice.rsplit_once('/').unwrap().1;
        is(
            &format!("/system.slice/containerd.service/{name}:cri-containerd:{ID}"),
            &format!("kubernetes:{uid}/{SHORT}"),
        );
        is(
            &format!("/docker/{ID}/kubelet.slice/kubelet-{name}/cri-containerd-{ID}.scope"),
            &format!("kubernetes:{uid}/{SHORT}"),
        );
        is(&slice, &format!("kubernetes:{uid}"));
        // A static pod's id is a hash without dashes.
        let hash = "0b1c2d3e4f5061728394a5b6c7d8e9f0";
        is(&format!("/kubepods/besteffort/pod{hash}/{ID}"), &format!("kubernetes:{hash}/{SHORT}"));
    }

    #[test]
    fn units_where_there_is_no_container() {
        is("/system.slice/render-farm.service", "unit:render-farm.service");
        is("/user.slice/user-1000.slice/session-2.scope", "unit:session-2.scope");
        let user = "/user.slice/user-1000.slice/user@1000.service";
        is(&format!("{user}/app.slice/app-org.blender.Blender-4711.scope"), "unit:app-org.blender.Blender-4711.scope");
        is(user, "unit:user@1000.service");
        assert_eq!(container_of("/"), None);
        assert_eq!(container_of("/user.slice"), None);
    }

    #[test]
    fn synthetic_ids_of_another_length_are_no_containers() {
        assert_eq!(container_of("/docker/4f5a"), None);
        is("/system.slice/docker-4f5a.scope", "unit:docker-4f5a.scope");
        assert_eq!(container_of(&format!("/somewhere/{ID}")), None);
        assert_eq!(container_of("/kubepods/podlings"), None);
    }
}
