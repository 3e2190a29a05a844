//! Who holds a GPU of which clients may be missing, as debugfs tells root.

use gpuscope_host::{DebugfsClient, clients_of};
use gpuscope_model::{ClientsGap, ClientsSample, DeviceInfo, GpuId, Text};
use gpuscope_sys::{Roots, monotonic_ns};

/// A list is read again after this time.
const REREAD_NS: u64 = 5_000_000_000;

/// Names the processes behind the gaps. A GPU without a gap is not looked at; of others debugfs is asked every five seconds, which wakes
/// none of them.
pub(crate) struct Unseen {
    roots: Roots,
    lists: Vec<List>,
}

/// What debugfs said of one GPU; nothing where it may not be read.
struct List {
    gpu: GpuId,
    due_ns: u64,
    clients: Vec<DebugfsClient>,
}

impl Unseen {
    pub(crate) fn new(roots: Roots) -> Self {
        Unseen { roots, lists: Vec::new() }
    }

    pub(crate) fn name<'i>(&mut self, gpus: impl Iterator<Item = &'i DeviceInfo>, clients: &mut ClientsSample) {
        self.name_at(monotonic_ns(), gpus, clients);
    }

    fn name_at<'i>(&mut self, now: u64, gpus: impl Iterator<Item = &'i DeviceInfo>, clients: &mut ClientsSample) {
        let of_all = clients.gaps.iter().find(|gap| gap.gpu.is_none()).map(|gap| gap.why.clone());
        for info in gpus {
            let at = clients.gaps.iter().position(|gap| gap.gpu.as_ref() == Some(&info.id));
            if at.is_none() && of_all.is_none() {
                continue;
            }
            let shows = |c: &DebugfsClient| {
                clients.clients.iter().filter(|known| known.gpu == info.id).any(|known| {
                    let same = c.client_id.is_some() && known.key.drm_id() == c.client_id;
                    same || c.process.is_some_and(|pid| known.holders.contains(&pid))
                })
            };
            let (mut pids, mut unseen) = (Vec::new(), Vec::new());
            for client in self.list(now, info).iter().filter(|c| !shows(c)) {
                // A process that has ended names nobody: others hold its file.
                let Some(command) = &client.command else { continue };
                match (client.process, client.uid) {
                    (Some(pid), _) => pids.push(pid),
                    // On kernels that name the thread, it ended before its process could be asked for.
                    (None, _) if client.thread.is_some() => {}
                    (None, Some(uid)) => unseen.push(Text::from(format!("{command} (uid {uid})"))),
                    (None, None) => unseen.push(Text::from(command.clone())),
                }
            }
            unseen.sort_unstable();
            unseen.dedup();
            match (at.and_then(|at| clients.gaps.get_mut(at)), &of_all) {
                (Some(gap), _) => {
                    gap.holders.append(&mut pids);
                    gap.holders.sort_unstable();
                    gap.holders.dedup();
                    gap.unseen = unseen;
                }
                // A process with a number here may have opened the GPU since it was walked last: it is no news of a gap.
                (None, Some(why)) if !unseen.is_empty() => {
                    let gpu = Some(info.id.clone());
                    clients.gaps.push(ClientsGap { gpu, holders: Vec::new(), unseen, why: why.clone() });
                }
                (None, _) => {}
            }
        }
    }

    fn list(&mut self, now: u64, info: &DeviceInfo) -> &[DebugfsClient] {
        let at = self.lists.iter().position(|list| list.gpu == info.id).unwrap_or_else(|| {
            self.lists.push(List { gpu: info.id.clone(), due_ns: 0, clients: Vec::new() });
            self.lists.len() - 1
        });
        let Some(list) = self.lists.get_mut(at) else { return &[] };
        if list.due_ns <= now {
            list.due_ns = now.saturating_add(REREAD_NS);
            let found = clients_of(&self.roots, info);
            list.clients = found.value().map(|found| found.clients.clone()).unwrap_or_default();
        }
        &list.clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::{ClientKey, ClientSample, Reading, Reason, Sriov, Vendor, Why};

    const SECOND: u64 = 1_000_000_000;

    /// Lines of `drm_clients_info` (drivers/gpu/drm/drm_debugfs.c) as of Linux 6.12, with the widths of its format.
    fn list(rows: &[(&str, u32, u32)]) -> String {
        let header = format!("{:>20} {:>5} {:>3} master a {:>5} {:>10}\n", "command", "tgid", "dev", "uid", "magic");
        let row = |&(command, tgid, uid): &(&str, u32, u32)| {
            format!("{command:>20} {tgid:>5} {:>3}   n    y {uid:>5} {:>10}\n", 128, 0)
        };
        header + &rows.iter().map(row).collect::<String>()
    }

    fn gpu() -> DeviceInfo {
        DeviceInfo {
            id: GpuId::new("0000:03:00.0"),
            vendor: Vendor::Other,
            driver: "synthetic".into(),
            name: String::new(),
            pci_address: None,
            pci_id: None,
            card: Some("/dev/dri/card0".into()),
            render: Some("/dev/dri/renderD128".into()),
            accel: None,
            pmu: None,
            integrated: Reading::Value(false),
            sriov: Sriov::None,
            runtime_status: Reading::absent(Reason::NotSupported, ""),
            gts: Vec::new(),
            engines: Vec::new(),
            clients_from: Vec::new(),
            unavailable: Vec::new(),
        }
    }

    fn gap(gpu: Option<&str>, holders: &[u32]) -> ClientsGap {
        ClientsGap {
            gpu: gpu.map(|id| GpuId::new(id.to_string())),
            holders: holders.to_vec(),
            unseen: Vec::new(),
            why: Why::new(Reason::NotSupported, "synthetic"),
        }
    }

    fn client(pid: u32) -> ClientSample {
        ClientSample {
            gpu: gpu().id,
            key: ClientKey::Drm(7),
            source: "fdinfo".into(),
            client_name: None,
            read_ns: gpuscope_model::Reading::Value(0),
            pid,
            holders: vec![pid],
            engines: Vec::new(),
            memory: Vec::new(),
        }
    }

    fn tree(rows: &[(&str, u32, u32)]) -> (tempfile::TempDir, Unseen) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("sys/kernel/debug/dri/128");
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("clients"), list(rows)).unwrap();
        let unseen = Unseen::new(Roots::at(dir.path()));
        (dir, unseen)
    }

    #[test]
    fn holders_of_a_mute_gpu_are_those_that_debugfs_lists_and_fdinfo_does_not() {
        let (_dir, mut unseen) =
            tree(&[("Xorg", 1190, 0), ("shown", 4711, 1000), ("<unknown>", 77, 0), ("far", 0, 1000)]);
        let mut clients = ClientsSample { gaps: vec![gap(Some("0000:03:00.0"), &[900])], ..ClientsSample::default() };
        clients.clients.push(client(4711));
        unseen.name_at(0, [&gpu()].into_iter(), &mut clients);
        assert_eq!(clients.gaps[0].holders, [900, 1190], "77 has ended");
        assert_eq!(clients.gaps[0].unseen, [Text::from("far (uid 1000)")]);
    }

    #[test]
    fn processes_outside_of_the_namespace_make_a_gap_of_their_gpu() {
        let (_dir, mut unseen) = tree(&[("far", 0, 1000), ("far", 0, 1000), ("near", 12, 0)]);
        let mut clients = ClientsSample { gaps: vec![gap(None, &[])], ..ClientsSample::default() };
        unseen.name_at(0, [&gpu()].into_iter(), &mut clients);
        assert_eq!(clients.gaps.len(), 2);
        assert_eq!((clients.gaps[1].gpu.clone(), clients.gaps[1].holders.len()), (Some(gpu().id), 0));
        assert_eq!(clients.gaps[1].unseen, [Text::from("far (uid 1000)")]);
    }

    #[test]
    fn debugfs_is_asked_every_five_seconds_and_only_where_there_is_a_gap() {
        let (dir, mut unseen) = tree(&[("a", 1, 0)]);
        let mut named = |at: u64, gaps: Vec<ClientsGap>| {
            let mut clients = ClientsSample { gaps, ..ClientsSample::default() };
            unseen.name_at(at * SECOND, [&gpu()].into_iter(), &mut clients);
            (clients.gaps.first().map(|gap| gap.holders.clone()), unseen.lists.len())
        };
        let of_gpu = || vec![gap(Some("0000:03:00.0"), &[])];
        assert_eq!(named(0, Vec::new()), (None, 0));
        assert_eq!(named(0, of_gpu()), (Some(vec![1]), 1));
        let file = dir.path().join("sys/kernel/debug/dri/128/clients");
        std::fs::write(&file, list(&[("b", 2, 0)])).unwrap();
        assert_eq!(named(4, of_gpu()).0, Some(vec![1]));
        assert_eq!(named(5, of_gpu()).0, Some(vec![2]));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(named(10, of_gpu()).0, Some(Vec::new()));
    }
}
