//! Against the stub of `testbed/nvml-stub`: its answers are synthetic numbers in the units and bits of nvml.h. Every test loads a copy of
//! its own, so that calls can be counted.

use super::*;
use crate::Options;
use crate::discover::find;
use crate::testing::Tree;
use gpuscope_model::delta::Baseline;
use gpuscope_model::{ClientKey, Sample, Share, Snapshot, ThrottleReason};
use gpuscope_pmu::Rights;
use std::path::PathBuf;

const SECOND: u64 = 1_000_000_000;
const DEVICE: &str = "sys/devices/pci0000:00/0000:01:00.0";

/// What the stub answers for a card with everything.
const ALL: &[(&str, &str)] = &[
    ("gpu", "40"),
    ("memory", "10"),
    ("encoder", "25"),
    ("decoder", "0"),
    ("total", "8589934592"),
    ("used", "1073741824"),
    ("reserved", "268435456"),
    ("energy", "123456"),
    ("power", "30000"),
    ("clock.0", "1410"),
    ("max.0", "1980"),
    ("clock.3", "1275"),
    ("max.3", "1950"),
    ("temperature", "61"),
    ("reasons", "36"),
    ("fans", "2"),
    ("rpm.0", "1500"),
    ("rpm.1", "0"),
];

struct Machine {
    tree: Tree,
    library: PathBuf,
}

impl Machine {
    fn new(answers: &[(&str, &str)]) -> Self {
        let tree = Tree::new();
        tree.pci_gpu("0000:01:00.0", "nvidia", ("10DE", "2684"), 0);
        // `control_show`, `rtpm_status_str` in drivers/base/power/sysfs.c.
        tree.files(DEVICE, &[("power/runtime_status", "active\n"), ("power/control", "auto\n")]);
        tree.file("sys/module/nvidia/version", "580.82.07\n");
        // Cargo builds the stub beside the test program, for it is one of its dependencies.
        let mut built = std::env::current_exe().unwrap();
        built.set_file_name("libgpuscope_nvml_stub.so");
        let library = tree.path("libnvidia-ml.so.1");
        std::fs::copy(&built, &library).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
        let machine = Machine { tree, library };
        machine.answers(answers);
        machine
    }

    /// Replaces what the stub answers.
    fn answers(&self, answers: &[(&str, &str)]) {
        let text: String = answers.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        std::fs::write(self.library.with_file_name("libnvidia-ml.so.1.conf"), text).unwrap();
    }

    fn status(&self, status: &str) {
        self.tree.file(&format!("{DEVICE}/power/runtime_status"), status);
    }

    fn options(&self) -> Options {
        Options { nvml_library: Some(self.library.clone()), ..Options::default() }
    }

    fn open(&self) -> Nvidia {
        self.open_with(&self.options())
    }

    fn open_for_clients(&self) -> Nvidia {
        self.open_with(&Options { clients: true, ..self.options() })
    }

    fn open_with(&self, options: &Options) -> Nvidia {
        let roots = self.tree.roots();
        let rights = Rights::read(&roots);
        let context = Context { roots: &roots, rights: &rights, options };
        Nvidia::open(&context, &find(&roots).remove(0))
    }

    /// How often a function was called.
    fn calls(&self, function: &str) -> usize {
        let log = std::fs::read_to_string(self.library.with_file_name("libnvidia-ml.so.1.log")).unwrap_or_default();
        log.lines().filter(|l| *l == function).count()
    }

    /// Openings and releases of NVML.
    fn sessions(&self) -> (usize, usize) {
        (self.calls("nvmlInit_v2"), self.calls("nvmlShutdown"))
    }
}

fn with<'a>(change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = ALL.iter().filter(|(name, _)| !change.iter().any(|(n, _)| n == name));
    kept.chain(change).copied().collect()
}

fn without<'a>(names: &[&str]) -> Vec<(&'a str, &'a str)> {
    ALL.iter().filter(|(name, _)| !names.contains(name)).copied().collect()
}

/// A tick at a time of the test's choosing.
fn tick(device: &mut Nvidia, now_ns: u64, out: &mut DeviceSample) {
    device.power().unwrap();
    match device.read(now_ns, &Access::Allowed) {
        Ok(()) => device.fill(now_ns, out),
        Err(why) => withhold(&why, out),
    }
}

fn reason<T>(reading: &Reading<T>) -> Option<Reason> {
    reading.why().map(|why| why.reason)
}

fn busy(sample: &DeviceSample, engine: &str) -> Reading<Share> {
    sample.engines.value().unwrap().iter().find(|e| e.name.as_str() == engine).unwrap().busy.clone()
}

#[test]
fn every_value_of_a_card_that_has_them_all() {
    let machine = Machine::new(ALL);
    let mut device = machine.open();
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    let names: Vec<_> = sample.engines.value().unwrap().iter().map(|e| (e.name.as_str(), e.source.as_str())).collect();
    assert_eq!(names, ["gpu", "enc", "dec", "mem"].map(|name| (name, "nvml (sampled)")));
    assert_eq!(sample.gts[0].actual, Reading::Value(Clock::Now(1.41e9)));
    assert_eq!(sample.gts[0].max_hz, Reading::Value(1.98e9));
    assert_eq!(sample.gts[1].actual, Reading::Value(Clock::Now(1.275e9)));
    assert_eq!(sample.gts[1].max_hz, Reading::Value(1.95e9));
    let reasons: Vec<_> = sample.gts[0].throttle.get().unwrap().iter().collect();
    assert_eq!(reasons, [ThrottleReason::Pl1, ThrottleReason::Thermal]);
    assert_eq!(sample.power.card_uj.get().unwrap().value, 123_456_000);
    assert_eq!(sample.temperatures.value().unwrap()[0].celsius, Reading::Value(61.0));
    let fans: Vec<_> = sample.fans.value().unwrap().iter().map(|f| (f.label.as_str(), f.rpm.get())).collect();
    assert_eq!(fans, [("fan1", Some(1500.0)), ("fan2", Some(0.0))]);
    let memory: Vec<_> = sample
        .memory
        .value()
        .unwrap()
        .iter()
        .map(|m| (m.region.as_str(), m.total_bytes.get(), m.used_bytes.get()))
        .collect();
    assert_eq!(
        memory,
        [("vram", Some(8_589_934_592), Some(1_073_741_824)), ("reserved", Some(268_435_456), Some(268_435_456)),]
    );
    assert!(sample.perturbs, "NVML is open on a card that could sleep");
    // What NVML does not have says so.
    assert_eq!(reason(&sample.gts[0].requested), Some(Reason::NotSupported));
    assert_eq!(reason(&sample.gts[1].throttle), Some(Reason::NotSupported));
    assert_eq!(reason(&sample.power.gpu_uj), Some(Reason::NotSupported));
}

#[test]
fn sampled_percentages_come_out_as_ratios_and_energy_as_watts() {
    let machine = Machine::new(ALL);
    let mut device = machine.open();
    let mut sample = Sample { at_ns: SECOND, gpus: vec![device.blank()], ..Sample::default() };
    let (mut baseline, mut snapshot) = (Baseline::new(), Snapshot::default());
    tick(&mut device, SECOND, &mut sample.gpus[0]);
    baseline.step(&sample, &mut snapshot);
    let ratio = |snapshot: &Snapshot, i: usize| snapshot.gpus[0].engines.value().unwrap()[i].busy_ratio.clone();
    assert_eq!(reason(&ratio(&snapshot, 0)), Some(Reason::FirstSample));

    // 35 J in two seconds.
    machine.answers(&with(&[("gpu", "80"), ("energy", "158456")]));
    sample.at_ns = 3 * SECOND;
    tick(&mut device, 3 * SECOND, &mut sample.gpus[0]);
    baseline.step(&sample, &mut snapshot);
    assert_eq!(ratio(&snapshot, 0), Reading::Value(0.8));
    assert_eq!(ratio(&snapshot, 1), Reading::Value(0.25));
    assert_eq!(ratio(&snapshot, 2), Reading::Value(0.0));
    assert_eq!(ratio(&snapshot, 3), Reading::Value(0.1));
    assert_eq!(snapshot.gpus[0].power.card_watts, Reading::Value(17.5));
}

#[test]
fn power_over_time_where_the_card_does_not_count_energy() {
    let machine = Machine::new(&without(&["energy"]));
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    assert_eq!(sample.power.card_uj, Reading::Value(Counter { value: 0, at_ns: SECOND }));
    tick(&mut device, 3 * SECOND, &mut sample);
    assert_eq!(sample.power.card_uj, Reading::Value(Counter { value: 60_000_000, at_ns: 3 * SECOND }));
}

#[test]
fn what_a_card_does_not_have_is_absent_and_not_asked_for_each_time() {
    let machine = Machine::new(&[("gpu", "40"), ("memory", "10")]);
    let mut device = machine.open();
    let mut sample = device.blank();
    for second in 1..=5 {
        tick(&mut device, second * SECOND, &mut sample);
    }
    assert!(busy(&sample, "gpu").is_known() && busy(&sample, "mem").is_known());
    let absent = [reason(&busy(&sample, "enc")), reason(&sample.power.card_uj), reason(&sample.gts[0].actual)];
    assert_eq!(absent, [Some(Reason::NotSupported); 3]);
    let why = sample.temperatures.value().unwrap()[0].celsius.why().unwrap().clone();
    assert_eq!(why.detail.as_str(), "nvmlDeviceGetTemperature: this GPU does not support it");
    assert_eq!(reason(&sample.fans), Some(Reason::NotSupported));
    assert_eq!(machine.calls("nvmlDeviceGetTemperature"), 1);
    assert_eq!(machine.calls("nvmlDeviceGetUtilizationRates"), 5);
}

#[test]
fn a_function_the_driver_lacks_asks_for_a_newer_one() {
    // NVML_ERROR_FUNCTION_NOT_FOUND
    let machine = Machine::new(&with(&[("fail.nvmlDeviceGetFanSpeedRPM", "13")]));
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    let why = sample.fans.value().unwrap()[0].rpm.why().unwrap().clone();
    assert_eq!(why.reason, Reason::NotSupported);
    assert!(why.remedy.unwrap().contains("newer"));
}

#[test]
fn no_permission_for_one_value_leaves_the_others() {
    // NVML_ERROR_NO_PERMISSION
    let machine = Machine::new(&with(&[("fail.nvmlDeviceGetUtilizationRates", "4")]));
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    assert_eq!(reason(&busy(&sample, "gpu")), Some(Reason::NoPermission));
    assert!(busy(&sample, "gpu").why().unwrap().remedy.is_some());
    assert!(busy(&sample, "enc").is_known() && sample.power.card_uj.is_known());
}

#[test]
fn a_lost_card_is_gone_and_looked_for_again_later() {
    let machine = Machine::new(ALL);
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    // NVML_ERROR_GPU_IS_LOST
    machine.answers(&with(&[("fail.nvmlDeviceGetTemperature", "15")]));
    tick(&mut device, 2 * SECOND, &mut sample);
    assert_eq!(reason(&busy(&sample, "gpu")), Some(Reason::Gone));
    assert_eq!(machine.sessions(), (1, 1), "its handle is let go");
    tick(&mut device, 3 * SECOND, &mut sample);
    assert_eq!(reason(&sample.power.card_uj), Some(Reason::Gone));
    assert_eq!(machine.sessions(), (1, 1));
    machine.answers(ALL);
    tick(&mut device, 20 * SECOND, &mut sample);
    assert!(sample.power.card_uj.is_known());
    assert_eq!(machine.sessions(), (2, 1));
}

#[test]
fn a_library_that_is_not_there_names_the_version_to_install() {
    let machine = Machine::new(ALL);
    std::fs::remove_file(&machine.library).unwrap();
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    let why = busy(&sample, "gpu").why().unwrap().clone();
    assert_eq!(why.reason, Reason::NotSupported);
    assert_eq!(why.remedy.unwrap().as_str(), "install libnvidia-ml.so.1 of the driver's version, 580.82.07");
    let report = device.reports().remove(0);
    assert_eq!(report.status.as_str(), "not_supported");
    assert!(report.remedy.unwrap().contains("580.82.07"));
}

#[test]
fn failures_of_the_initialization_say_what_helps() {
    // NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIB_RM_VERSION_MISMATCH, NVML_ERROR_NO_PERMISSION
    let cases = [
        ("9", Reason::NotSupported, "kernel module"),
        ("18", Reason::NotSupported, "580.82.07"),
        ("4", Reason::NoPermission, "/dev/nvidiactl"),
    ];
    for (code, expected, remedy) in cases {
        let machine = Machine::new(&with(&[("fail.nvmlInit_v2", code)]));
        let mut device = machine.open();
        let mut sample = device.blank();
        for second in 1..5 {
            tick(&mut device, second * SECOND, &mut sample);
        }
        let why = sample.power.card_uj.why().unwrap();
        assert_eq!(why.reason, expected, "{code}");
        assert!(why.remedy.as_ref().unwrap().contains(remedy), "{code}: {why}");
        assert_eq!(machine.calls("nvmlInit_v2"), 1, "not tried at every tick");
    }
}

#[test]
fn a_card_that_nvml_does_not_know() {
    // NVML_ERROR_NOT_FOUND
    let machine = Machine::new(&with(&[("fail.nvmlDeviceGetHandleByPciBusId_v2", "6")]));
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    assert_eq!(reason(&sample.power.card_uj), Some(Reason::NoHardware));
    assert_eq!(machine.sessions(), (1, 1), "nothing stays open");
}

#[test]
fn an_idle_card_is_let_go_left_alone_and_looked_at_again() {
    let idle = with(&[("gpu", "0"), ("encoder", "0")]);
    let machine = Machine::new(ALL);
    let mut device = machine.open();
    let mut sample = device.blank();
    for second in 1..=5 {
        tick(&mut device, second * SECOND, &mut sample);
    }
    assert_eq!(machine.sessions(), (1, 0), "a busy card is held");
    machine.answers(&idle);
    tick(&mut device, 6 * SECOND, &mut sample);
    assert_eq!(machine.sessions(), (1, 0));
    tick(&mut device, 7 * SECOND, &mut sample);
    assert!(sample.power.card_uj.is_known(), "the last reading counts");
    assert_eq!(machine.sessions(), (1, 1));
    let readings = machine.calls("nvmlDeviceGetUtilizationRates");
    for second in 8..=18 {
        tick(&mut device, second * SECOND, &mut sample);
        assert_eq!(reason(&busy(&sample, "gpu")), Some(Reason::NotCounting));
        assert_eq!(reason(&sample.power.card_uj), Some(Reason::NotCounting));
    }
    assert_eq!(machine.calls("nvmlDeviceGetUtilizationRates"), readings);
    assert_eq!(machine.sessions(), (1, 1));
    // Still awake: something else holds it.
    tick(&mut device, 19 * SECOND, &mut sample);
    assert!(sample.power.card_uj.is_known());
    assert_eq!(machine.sessions(), (2, 1));
    drop(device);
    assert_eq!(machine.sessions(), (2, 2));
}

#[test]
fn a_sleeping_card_is_not_touched_and_read_as_soon_as_it_wakes() {
    let machine = Machine::new(ALL);
    machine.status("suspended\n");
    let mut device = machine.open();
    let mut sample = device.blank();
    for second in 1..=3 {
        tick(&mut device, second * SECOND, &mut sample);
        assert_eq!(reason(&busy(&sample, "gpu")), Some(Reason::Asleep));
    }
    assert_eq!(device.reports()[0].status.as_str(), "asleep");
    assert_eq!(machine.sessions(), (0, 0));
    machine.status("active\n");
    tick(&mut device, 4 * SECOND, &mut sample);
    assert!(busy(&sample, "gpu").is_known());
    assert_eq!(machine.sessions(), (1, 0));
}

#[test]
fn nvml_is_let_go_when_waking_is_withheld() {
    let machine = Machine::new(ALL);
    let mut device = machine.open();
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    let why = Why::new(Reason::NotCounting, "left alone");
    device.sample(&Access::Withheld(why.clone()), &mut sample);
    assert_eq!(machine.sessions(), (1, 1));
    assert!(!sample.perturbs);
    assert_eq!(sample.power.card_uj.why(), Some(&why));
    assert!(sample.fans.value().unwrap().iter().all(|f| f.rpm.why() == Some(&why)));
    assert!(sample.memory.value().unwrap().iter().all(|m| m.used_bytes.why() == Some(&why)));
    assert!(sample.engines.value().unwrap().iter().all(|e| e.busy.why() == Some(&why)));
}

#[test]
fn a_card_that_never_sleeps_is_held() {
    let machine = Machine::new(&with(&[("gpu", "0"), ("encoder", "0")]));
    machine.tree.file(&format!("{DEVICE}/power/control"), "on\n");
    let mut device = machine.open();
    let mut sample = device.blank();
    for second in 1..=20 {
        tick(&mut device, second * SECOND, &mut sample);
        assert!(busy(&sample, "gpu").is_known());
    }
    assert_eq!(machine.sessions(), (1, 0));
    device.sample(&Access::Allowed, &mut sample);
    assert!(!sample.perturbs);
}

#[test]
fn mig_has_memory_by_instance_and_no_utilisation() {
    let mig = [("mig", "1"), ("mig.slots", "7")];
    let one = [("mig.1.total", "1000"), ("mig.1.used", "300"), ("mig.1.reserved", "10")];
    let machine = Machine::new(&with(&[&mig[..], &one].concat()));
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    for engine in ["gpu", "enc", "dec", "mem"] {
        assert!(busy(&sample, engine).why().unwrap().detail.contains("MIG"), "{engine}");
    }
    let regions = |sample: &DeviceSample| -> Vec<_> {
        let list = sample.memory.value().unwrap();
        list.iter().map(|m| (m.region.to_string(), m.used_bytes.get())).collect()
    };
    assert_eq!(regions(&sample)[2..], [("mig1".to_string(), Some(300))]);
    assert!(sample.power.card_uj.is_known());
    assert!(device.reports()[0].detail.contains("MIG"));
    // Instances come and go.
    let other = [("mig.0.total", "1000"), ("mig.0.used", "7"), ("mig.0.reserved", "10")];
    machine.answers(&with(&[&mig[..], &other].concat()));
    tick(&mut device, 2 * SECOND, &mut sample);
    assert_eq!(regions(&sample)[2..], [("mig0".to_string(), Some(7))]);
}

#[test]
fn processes_with_memory_and_utilisation() {
    let lists = [("compute", "200:4096,100:1024"), ("graphics", "100:1024,300:-"), ("utilization", "100:5:60:10:0")];
    let machine = Machine::new(&with(&lists));
    let mut device = machine.open_for_clients();
    let mut clients = Vec::new();
    let before = device.processes(&[], &mut clients).unwrap();
    assert_eq!(before.unwrap_err().reason, Reason::FirstSample, "not read yet");
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    device.processes(&[], &mut clients).unwrap().unwrap();
    clients.clear();
    // The next sample of process 100; 200 did nothing.
    machine.answers(&with(&[lists[0], lists[1], ("utilization", "100:5:60:10:0,100:9:80:0:0,100:10:40:0:0")]));
    tick(&mut device, 3 * SECOND, &mut sample);
    device.processes(&[], &mut clients).unwrap().unwrap();
    let pids: Vec<_> = clients.iter().map(|c| (c.pid, c.key, c.memory[0].resident_bytes.get())).collect();
    let key = ClientKey::Process;
    assert_eq!(pids, [(100, key(100), Some(1024)), (200, key(200), Some(4096)), (300, key(300), None)]);
    assert_eq!(clients[0].read_ns, Reading::Value(3 * SECOND));
    assert_eq!(clients[0].source.as_str(), "nvml (sampled)");
    let share = clients[0].engines[0].busy.get().unwrap();
    assert_eq!(
        (share.part, share.whole),
        (2 * SECOND * 60 / 100, 2 * SECOND),
        "the mean of the samples since the last reading"
    );
    assert_eq!(clients[1].engines[0].busy.get().unwrap().part, 0);
    assert_eq!(clients[0].engines[1].busy.get().unwrap().part, 0);
}

/// A busy process at ten readings a second, of a card whose sample period is a second.
#[test]
fn readings_between_two_samples_do_not_count_as_idle() {
    let machine = Machine::new(ALL);
    let mut device = machine.open_for_clients();
    let mut sample = device.blank();
    let mut clients = Vec::new();
    let mut at = |tenth: u64, utilization: &str| {
        machine.answers(&with(&[("compute", "200:4096,300:0"), ("utilization", utilization)]));
        tick(&mut device, tenth * SECOND / 10, &mut sample);
        clients.clear();
        device.processes(&[], &mut clients).unwrap().unwrap();
        [0, 1].map(|i| clients[i].engines[0].busy.get().unwrap())
    };
    at(10, "200:9:80:0:0");
    for tenth in 11..=20 {
        let [busy, idle] = at(tenth, "200:9:80:0:0");
        assert_eq!((busy.whole, idle.whole), (0, 0), "{tenth}: nothing new");
    }
    let told = Share { part: 11 * SECOND / 10 * 80 / 100, whole: 11 * SECOND / 10 };
    assert_eq!(at(21, "200:21:80:0:0"), [told, Share { part: 0, ..told }]);
    // It stops: after a period without a sample of any process, that is known.
    for tenth in 22..=31 {
        assert_eq!(at(tenth, "200:21:80:0:0")[0], told, "{tenth}");
    }
    assert_eq!(at(32, "200:21:80:0:0")[0], Share { part: told.part, whole: 22 * SECOND / 10 });
}

#[test]
fn the_processes_of_an_idle_card_are_read_before_nvml_is_let_go() {
    let idle = with(&[("gpu", "0"), ("encoder", "0"), ("compute", "200:4096"), ("utilization", "200:5:0:0:0")]);
    let machine = Machine::new(&idle);
    let mut device = machine.open_for_clients();
    let mut sample = device.blank();
    let mut clients = Vec::new();
    for second in 1..=2 {
        tick(&mut device, second * SECOND, &mut sample);
        clients.clear();
        device.processes(&[], &mut clients).unwrap().unwrap();
        assert_eq!(clients.len(), 1, "{second}");
    }
    assert_eq!(machine.sessions(), (1, 1));
    clients.clear();
    tick(&mut device, 3 * SECOND, &mut sample);
    let why = device.processes(&[], &mut clients).unwrap().unwrap_err();
    assert_eq!((why.reason, clients.len()), (Reason::NotCounting, 0));
    machine.status("suspended\n");
    tick(&mut device, 4 * SECOND, &mut sample);
    assert_eq!(device.processes(&[], &mut clients).unwrap().unwrap_err().reason, Reason::Asleep);
}

#[test]
fn processes_are_asked_for_only_where_clients_are_wanted() {
    let machine = Machine::new(&with(&[("compute", "200:4096")]));
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    assert!(device.processes(&[], &mut Vec::new()).is_none());
    assert_eq!(machine.calls("nvmlDeviceGetComputeRunningProcesses_v3"), 0);
}

#[test]
fn a_set_shows_the_processes_as_clients() {
    let machine = Machine::new(&with(&[("compute", "200:4096"), ("utilization", "200:5:60:0:0")]));
    let options = Options { clients: true, ..machine.options() };
    let mut set = crate::GpuSet::open(machine.tree.roots(), options);
    let mut sample = Sample::default();
    for _ in 0..2 {
        set.sample(&mut sample);
        let clients = &sample.clients.clients;
        assert_eq!(clients.iter().map(|c| (c.pid, c.holders.as_slice())).collect::<Vec<_>>(), [(200, &[200][..])]);
        assert!(sample.clients.gaps.iter().all(|gap| gap.gpu.is_none()), "{:?}", sample.clients.gaps);
    }
    machine.status("suspended\n");
    set.sample(&mut sample);
    assert!(sample.clients.clients.is_empty());
    let gap = sample.clients.gaps.iter().find(|gap| gap.gpu.is_some()).unwrap();
    assert_eq!((gap.gpu.as_ref().unwrap().as_str(), gap.why.reason), ("0000:01:00.0", Reason::Asleep));
}

#[test]
fn a_captured_tree_loads_nothing() {
    let machine = Machine::new(ALL);
    let mut device = machine.tree.open(&Options::default());
    let mut sample = device.blank();
    device.sample(&Access::Allowed, &mut sample);
    assert!(!sample.live);
    assert_eq!(reason(&busy(&sample, "gpu")), Some(Reason::NotCounting));
    assert_eq!(device.reports()[0].status.as_str(), "not_counting");
    assert_eq!(device.info().engines.len(), 4);
}

#[test]
fn the_doctor_names_the_driver_and_leaves_nothing_open() {
    let machine = Machine::new(ALL);
    let device = machine.open();
    let report = device.reports().remove(0);
    assert_eq!(report.status.as_str(), "works");
    assert!(report.detail.contains("580.82.07"));
    assert_eq!(machine.sessions(), (1, 1));
}

#[test]
fn gpuscope_allocates_nothing_in_a_steady_tick() {
    let machine = Machine::new(ALL);
    let mut device = machine.open();
    let mut sample = device.blank();
    for second in 1..=3 {
        tick(&mut device, second * SECOND, &mut sample);
    }
    // The stub allocates in its own allocator: it is a library of its own.
    let counted = allocation_counter::measure(|| tick(&mut device, 4 * SECOND, &mut sample));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn synthetic_percentages_are_refused() {
    let machine = Machine::new(&with(&[("gpu", "4294967295")]));
    let mut device = machine.open();
    let mut sample = device.blank();
    tick(&mut device, SECOND, &mut sample);
    assert_eq!(reason(&busy(&sample, "gpu")), Some(Reason::Failed));
}

#[test]
fn a_set_reads_the_card_beside_the_others() {
    let machine = Machine::new(ALL);
    let mut set = crate::GpuSet::open(machine.tree.roots(), machine.options());
    let mut sample = Sample::default();
    set.sample(&mut sample);
    let gpu = &sample.gpus[0];
    assert_eq!((gpu.driver.as_str(), gpu.runtime_status.get()), ("nvidia", Some(RuntimeStatus::Active)));
    assert!(busy(gpu, "gpu").is_known() && gpu.power.card_uj.is_known());
    assert!(set.reports().iter().any(|r| r.source.as_str() == "NVML" && r.status.as_str() == "works"));
    drop(set);
    assert_eq!(machine.sessions(), (1, 1), "the doctor asks the one that is open");
}
