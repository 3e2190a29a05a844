//! Compute processes of the kernel fusion driver: work that goes through /dev/kfd is in no client's fdinfo.
//!
//! `/sys/class/kfd/kfd/topology/nodes/N` describes the nodes, processors among them; `/sys/class/kfd/kfd/proc/PID` has a file
//! `vram_GPUID` a GPU. Reading these wakes nothing: `kfd_procfs_show` (drivers/gpu/drm/amd/amdkfd/kfd_process.c) prints a counter of the driver's.
//! A process with several contexts (newer kernels) has a folder `context_N` in its own for each after the first, with the same files
//! (`kfd_create_process_sysfs`).
//! The files `sdma_GPUID` and `stats_GPUID/cu_occupancy` beside them make it ask the queues, and are left alone.
//!
//! Memory comes from the address space of a DRM file that the process opened and handed over (`kfd_process_device_init_vm`), so fdinfo
//! of that file counts it too (`amdgpu_vm_get_memory`). A process whose DRM client can be seen is therefore that client, and not
//! another one; one whose fdinfo may not be read, or which has closed the file, is a client by its process number.

use super::Beside;
use crate::held::{Held, parse_u64, small_text};
use gpuscope_model::{ClientKey, ClientMemory, ClientSample, DeviceInfo, PciAddress, Reading, Reason, Text, Why};
use gpuscope_sys::{Roots, list_dir, monotonic_ns};

/// A number of a node's `properties`: one word and one number a line (`sysfs_show_32bit_prop`, drivers/gpu/drm/amd/amdkfd/kfd_topology.c).
pub fn property(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| parse_u64(line.strip_prefix(name)?.strip_prefix(' ')?))
}

/// Where a node's GPU sits; `None` for a processor. `location_id` is `pci_dev_id`, with the number of a partition in its upper four bits
/// (`kfd_topology_add_device`).
pub fn pci_address(properties: &str) -> Option<PciAddress> {
    let location = property(properties, "location_id").filter(|id| *id != 0)?;
    let domain = property(properties, "domain").unwrap_or(0).try_into().ok()?;
    Some(PciAddress {
        domain,
        bus: (location >> 8 & 0xff) as u8,
        device: (location >> 3 & 0x1f) as u8,
        function: (location & 7) as u8,
    })
}

/// The GPU of a process's file `vram_GPUID`.
pub fn gpu_of_file(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("vram_")?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// The ids under which a GPU is known here; one for each of its partitions.
pub(super) fn gpu_ids(roots: &Roots, address: PciAddress) -> Vec<u32> {
    let nodes = roots.sys("class/kfd/kfd/topology/nodes");
    let names = list_dir(&nodes).unwrap_or_default();
    let id_of = |name: &String| {
        let folder = nodes.join(name);
        // Linux 6.5 and 6.6 put a partition's number into the function's bits.
        let here = |a: &PciAddress| (a.domain, a.bus, a.device) == (address.domain, address.bus, address.device);
        pci_address(&small_text(folder.join("properties"))?).filter(here)?;
        let id = small_text(folder.join("gpu_id"))?.parse().ok()?;
        (id != 0).then_some(id)
    };
    names.iter().filter_map(id_of).collect()
}

/// How often processes that came are looked for, and the GPU itself while KFD does not have it.
const LOOK_EVERY_NS: u64 = 2_000_000_000;

/// A process and its files of one GPU: one a partition, and those of its further contexts.
struct Process {
    pid: u32,
    files: Vec<Held>,
    bytes: u64,
}

/// Engines of fdinfo that KFD's queues run on: `compute` and `sdma` (`KFD_QUEUE_TYPE_COMPUTE`, `KFD_QUEUE_TYPE_SDMA`).
const ENGINES: [&str; 2] = ["compute", "dma"];

const NOT_COUNTED: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("work through /dev/kfd is in no client's fdinfo"),
    remedy: None,
};

/// What KFD tells of one GPU.
pub(super) struct Kfd {
    roots: Roots,
    address: Option<PciAddress>,
    /// The names of the GPU and its partitions; empty while KFD does not have it.
    ids: Vec<u32>,
    looked_ns: u64,
    /// By process number. Their files are held open: a tick reads them and lists no folder.
    processes: Vec<Process>,
    /// Their numbers, in the same order.
    pids: Vec<u32>,
}

impl Kfd {
    /// Looks for the GPU and its processes.
    pub(super) fn open(roots: &Roots, address: Option<PciAddress>) -> Self {
        let looked_ns = monotonic_ns();
        let roots = roots.clone();
        let mut kfd = Kfd { roots, address, ids: Vec::new(), looked_ns, processes: Vec::new(), pids: Vec::new() };
        kfd.look();
        kfd.read();
        kfd
    }

    /// Whether KFD has the GPU.
    pub(super) fn has_gpu(&self) -> bool {
        !self.ids.is_empty()
    }

    /// The processes that hold memory of the GPU through /dev/kfd, with the bytes of it, by process number.
    pub(super) fn processes(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.processes.iter().map(|p| (p.pid, p.bytes))
    }

    /// Reads what the processes hold now; looks for new ones where the last look was long ago.
    pub(super) fn refresh(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.looked_ns) >= LOOK_EVERY_NS {
            self.looked_ns = now_ns;
            self.look();
        }
        self.read();
    }

    fn look(&mut self) {
        if let (Some(address), true) = (self.address, self.ids.is_empty()) {
            // KFD may register long after the driver was bound.
            self.ids = gpu_ids(&self.roots, address);
        }
        self.processes.clear();
        if self.ids.is_empty() {
            return;
        }
        let folder = self.roots.sys("class/kfd/kfd/proc");
        for name in list_dir(&folder).unwrap_or_default() {
            let Ok(pid) = name.parse() else { continue };
            let process = folder.join(name);
            let inside = list_dir(&process).unwrap_or_default();
            let contexts = inside.iter().filter(|n| n.starts_with("context_")).map(|n| process.join(n));
            let folders = std::iter::once(process.clone()).chain(contexts);
            let names: Vec<String> = self.ids.iter().map(|id| format!("vram_{id}")).collect();
            let files = folders.flat_map(|f| names.iter().map(move |n| Held::open(f.join(n)))).filter(Held::is_open);
            self.processes.push(Process { pid, files: files.collect(), bytes: 0 });
        }
        self.processes.sort_unstable_by_key(|p| p.pid);
    }

    fn read(&mut self) {
        self.processes.retain_mut(|process| {
            let bytes = process.files.iter_mut().filter_map(|file| file.number().ok());
            // None of its files answers: it has ended.
            let sum = bytes.reduce(u64::saturating_add);
            process.bytes = sum.unwrap_or(0);
            sum.is_some()
        });
        self.pids.clear();
        self.pids.extend(self.processes.iter().map(|p| p.pid));
    }

    /// What these processes use of the GPU is not known.
    pub(super) fn beside_fdinfo(&self) -> Option<Beside<'_>> {
        let beside = Beside { pids: &self.pids, engines: &ENGINES, why: NOT_COUNTED };
        (!self.pids.is_empty()).then_some(beside)
    }

    /// Adds the processes that hold memory of the GPU and are none of its DRM clients.
    pub(super) fn clients(&self, gpu: &DeviceInfo, drm: &[ClientSample], out: &mut Vec<ClientSample>) {
        for (pid, bytes) in self.processes() {
            if !drm.iter().any(|client| client.gpu == gpu.id && client.holders.contains(&pid)) {
                out.push(client(gpu, pid, bytes));
            }
        }
    }
}

const NOT_TOLD: Why = Why {
    reason: Reason::NotSupported,
    detail: Text::Static("KFD tells what a process has allocated in device memory, and no more"),
    remedy: None,
};

fn client(gpu: &DeviceInfo, pid: u32, bytes: u64) -> ClientSample {
    let memory = ClientMemory {
        region: Text::Static("vram"),
        total_bytes: Reading::Value(bytes),
        shared_bytes: NOT_TOLD.into(),
        resident_bytes: NOT_TOLD.into(),
        active_bytes: NOT_TOLD.into(),
        purgeable_bytes: NOT_TOLD.into(),
    };
    ClientSample {
        gpu: gpu.id.clone(),
        key: ClientKey::Process(pid),
        source: Text::Static("kfd"),
        client_name: None,
        read_ns: Reading::Value(monotonic_ns()),
        pid,
        holders: vec![pid],
        engines: Vec::new(),
        memory: vec![memory],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    const NODES: &str = "sys/class/kfd/kfd/topology/nodes";

    /// Lines as `node_show` in kfd_topology.c prints them.
    fn tree() -> Tree {
        let tree = Tree::new();
        tree.file(&format!("{NODES}/0/gpu_id"), "0\n")
            .file(&format!("{NODES}/0/properties"), "cpu_cores_count 16\nsimd_count 0\nlocation_id 0\ndomain 0\n")
            .file(&format!("{NODES}/1/gpu_id"), "8784\n")
            .file(&format!("{NODES}/1/properties"), "cpu_cores_count 0\nlocation_id 768\ndomain 0\n")
            .file(&format!("{NODES}/2/gpu_id"), "41\n")
            .file(&format!("{NODES}/2/properties"), "location_id 268436224\ndomain 0\n")
            .file(&format!("{NODES}/3/gpu_id"), "99\n")
            .file(&format!("{NODES}/3/properties"), "location_id 768\ndomain 1\n");
        tree
    }

    #[test]
    fn nodes_are_matched_by_their_pci_address() {
        let tree = tree();
        assert_eq!(gpu_ids(&tree.roots(), "0000:03:00.0".parse().unwrap()), [8784, 41]);
        assert_eq!(gpu_ids(&tree.roots(), "0001:03:00.0".parse().unwrap()), [99]);
        assert!(gpu_ids(&tree.roots(), "0000:04:00.0".parse().unwrap()).is_empty());
        assert_eq!(pci_address("location_id 1049\ndomain 65536\n").unwrap().to_string(), "10000:04:03.1");
        assert_eq!(pci_address("location_id 0\ndomain 0\n"), None);
    }

    fn processes(kfd: &Kfd) -> Vec<(u32, u64)> {
        kfd.processes().collect()
    }

    fn open(tree: &Tree) -> Kfd {
        Kfd::open(&tree.roots(), "0000:03:00.0".parse().ok())
    }

    #[test]
    fn memory_of_a_process_is_summed_over_the_partitions() {
        let tree = tree();
        let folder = "sys/class/kfd/kfd/proc";
        tree.file(&format!("{folder}/1234/pasid"), "0\n")
            .file(&format!("{folder}/1234/vram_8784"), "4096\n")
            .file(&format!("{folder}/1234/vram_41"), "100\n")
            .file(&format!("{folder}/1234/vram_99"), "7\n")
            .file(&format!("{folder}/1234/sdma_8784"), "55\n")
            .file(&format!("{folder}/99/vram_8784"), "0\n")
            .file(&format!("{folder}/7/vram_99"), "7\n");
        assert_eq!(processes(&open(&tree)), [(99, 0), (1234, 4196)]);
        let empty = Tree::new();
        assert!(processes(&open(&empty)).is_empty() && !open(&empty).has_gpu());
    }

    /// A process with several contexts has a folder `context_N` for each after its first, with the same files as its own.
    #[test]
    fn memory_of_a_process_is_summed_over_its_contexts() {
        let tree = tree();
        let folder = "sys/class/kfd/kfd/proc/1234";
        tree.file(&format!("{folder}/vram_8784"), "4096\n")
            .file(&format!("{folder}/context_1/vram_8784"), "100\n")
            .file(&format!("{folder}/context_2/vram_41"), "20\n")
            .file(&format!("{folder}/context_2/vram_99"), "7\n")
            .file(&format!("{folder}/stats_8784/vram_8784"), "7\n");
        assert_eq!(processes(&open(&tree)), [(1234, 4216)]);
    }

    #[test]
    fn a_tick_lists_no_folder_and_allocates_nothing() {
        let tree = tree();
        let folder = "sys/class/kfd/kfd/proc";
        tree.file(&format!("{folder}/1234/vram_8784"), "4096\n").file(&format!("{folder}/1234/vram_41"), "0\n");
        let mut kfd = open(&tree);
        let opened_ns = kfd.looked_ns;
        tree.file(&format!("{folder}/99/vram_8784"), "5\n").file(&format!("{folder}/1234/vram_8784"), "8192\n");
        let counted = allocation_counter::measure(|| kfd.refresh(opened_ns + LOOK_EVERY_NS - 1));
        assert_eq!((processes(&kfd), counted.count_total), (vec![(1234, 8192)], 0));
        kfd.refresh(opened_ns + LOOK_EVERY_NS);
        assert_eq!(processes(&kfd), [(99, 5), (1234, 8192)]);
        std::fs::remove_dir_all(tree.path(&format!("{folder}/1234"))).unwrap();
        kfd.refresh(opened_ns + 2 * LOOK_EVERY_NS);
        assert_eq!(processes(&kfd), [(99, 5)]);
    }

    #[test]
    fn a_gpu_that_kfd_registers_later_is_found() {
        let tree = Tree::new();
        let mut kfd = open(&tree);
        let opened_ns = kfd.looked_ns;
        assert!(!kfd.has_gpu());
        tree.file(&format!("{NODES}/1/gpu_id"), "8784\n")
            .file(&format!("{NODES}/1/properties"), "location_id 768\ndomain 0\n")
            .file("sys/class/kfd/kfd/proc/1234/vram_8784", "4096\n");
        kfd.refresh(opened_ns + LOOK_EVERY_NS);
        assert_eq!((kfd.has_gpu(), processes(&kfd)), (true, vec![(1234, 4096)]));
    }

    #[test]
    fn synthetic_names_and_properties() {
        assert_eq!(gpu_of_file("vram_8784"), Some(8784));
        for name in ["vram_", "vram_+1", "vram_99999999999", "sdma_1", "vram_1a", "pasid"] {
            assert_eq!(gpu_of_file(name), None, "{name}");
        }
        for text in ["", "location_id", "location_id x", "location_idx 5", "location_id  5 6"] {
            assert_eq!(pci_address(text), None, "{text:?}");
        }
        assert_eq!(pci_address("location_id 8\ndomain 99999999999\n"), None);
    }
}
