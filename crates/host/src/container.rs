//! Which container or unit a cgroup path belongs to.

/// Engines that name a scope after themselves and the container: `docker-<64 hex>.scope` (systemd cgroup driver).
const SCOPES: [(&str, &str); 4] =
    [("docker-", "docker"), ("libpod-", "podman"), ("crio-", "cri-o"), ("cri-containerd-", "containerd")];

/// Folders under which an engine puts containers by their id (cgroupfs driver).
const FOLDERS: [(&str, &str); 3] = [("docker", "docker"), ("libpod_parent", "podman"), ("lxc.payload", "lxc")];

/// The container of a path in the unified hierarchy, innermost first: `docker:4f5a…` with 12 digits of the id, `kubernetes:POD/…` with
/// the pod's id before the container's, `lxc:NAME`, and for what is no container the systemd unit: `unit:NAME`.
///
/// `None` for the root and for paths of another shape. Sources: the engines' cgroup drivers as observed on running systems; systemd's
/// naming of units (systemd.unit(5)).
pub fn container_of(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let pod = parts.iter().rev().find_map(|part| pod_of(part));
    for (i, part) in parts.iter().enumerate().rev() {
        let parent = i.checked_sub(1).and_then(|i| parts.get(i)).copied().unwrap_or_default();
        let Some((engine, id)) = scope_of(part).or_else(|| folder_of(parent, part, pod.is_some())) else { continue };
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

/// `docker-<id>.scope`, and LXC's `lxc.payload.NAME`.
fn scope_of(part: &str) -> Option<(&'static str, String)> {
    if let Some(name) = part.strip_prefix("lxc.payload.").filter(|n| !n.is_empty()) {
        return Some(("lxc", name.to_string()));
    }
    let scope = part.strip_suffix(".scope")?;
    SCOPES.iter().find_map(|(prefix, engine)| Some((*engine, short(scope.strip_prefix(prefix)?)?)))
}

/// A folder named by the id alone, below an engine's own or below a pod's.
fn folder_of(parent: &str, part: &str, in_pod: bool) -> Option<(&'static str, String)> {
    let id = short(part)?;
    if in_pod && pod_of(parent).is_some() {
        return Some(("kubernetes", id));
    }
    FOLDERS.iter().find(|(folder, _)| *folder == parent).map(|(_, engine)| (*engine, id))
}

/// The first 12 digits of a container's id, which has 64.
fn short(id: &str) -> Option<String> {
    let whole = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| id.get(..12).map(str::to_string)).flatten()
}

/// The id of a pod: `pod<uid>` (cgroupfs) or `kubepods-burstable-pod<uid with _>.slice` (systemd).
fn pod_of(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) if slice.starts_with("kubepods") => slice.rsplit_once("-pod")?.1,
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
        is("/lxc.payload.web/system.slice/nginx.service", "lxc:web");
    }

    #[test]
    fn pods_of_kubernetes() {
        let uid = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";
        let slice =
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        is(&format!("{slice}/cri-containerd-{ID}.scope"), &format!("kubernetes:{uid}/{SHORT}"));
        is(&format!("{slice}/crio-{ID}.scope"), &format!("kubernetes:{uid}/{SHORT}"));
        is(&format!("/kubepods/besteffort/pod{uid}/{ID}"), &format!("kubernetes:{uid}/{SHORT}"));
        is(&slice, &format!("kubernetes:{uid}"));
    }

    #[test]
    fn units_where_there_is_no_container() {
        is("/system.slice/render-farm.service", "unit:render-farm.service");
        is("/user.slice/user-1000.slice/session-2.scope", "unit:session-2.scope");
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
