// guest: -g i915,i915-discrete,i915-mtl,xe,xe-integrated -m pmu_cpu=1 -m autosuspend_ms=500 -m autosuspend_ms_i915=500 -t 300
//! The virtual GPU itself: its books are exact, it sleeps, wakes, comes, goes, and follows its kernel's drivers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use gpuscope_testbed::{
    Gpu, Load, Truth, bind, cpu_online, gpu, gpus, kernel_since, paranoid, rescan, set, try_set, unbind, unplug,
    wait_until,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

fn asleep(gpu: &Gpu) -> bool {
    wait_until(Duration::from_millis(2500), || gpu.truth().is_suspended())
}

/// All files below a folder. Links are left alone: sysfs links back up.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|e| !e.is_symlink()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found
}

fn hwmon(gpu: &Gpu) -> Option<PathBuf> {
    let mut found = fs::read_dir(gpu.device().join("hwmon")).ok()?.map(|e| e.unwrap().path());
    found.next()
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_string()
}

fn number(path: impl AsRef<Path>) -> u64 {
    text(path).parse().unwrap()
}

fn pmu_dir(gpu: &Gpu) -> PathBuf {
    Path::new("/sys/bus/event_source/devices").join(gpu.pmu())
}

/// An event that every kernel with this PMU has and that counts busy time.
fn busy_event(gpu: &Gpu) -> String {
    match gpu.driver() {
        "xe" => format!("{}/event=2,engine_class=0,engine_instance=0,gt=0/", gpu.pmu()),
        _ => format!("{}/rcs0-busy/", gpu.pmu()),
    }
}

fn perf_command(cpu: Option<&str>, event: &str, seconds: &str) -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "-a", "-x", ",", "-e", event]);
    if let Some(cpu) = cpu {
        command.args(["-C", cpu]);
    }
    command.args(["sleep", seconds]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn perf_value(out: &Output) -> Option<u64> {
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let value = text.lines().filter(|l| l.contains(',')).find_map(|l| l.split(',').next()?.parse::<f64>().ok());
    value.map(|v| v as u64)
}

fn start_perf(gpu: &Gpu, seconds: &str) -> Child {
    let child = perf_command(None, &busy_event(gpu), seconds).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(5), || gpu.truth().pmu_events > 0), "perf opened no event of {}", gpu.pmu());
    child
}

#[test]
#[ignore = "needs the testbed's guest"]
fn loads_are_exact() {
    for gpu in gpus() {
        let before = gpu.truth();
        let load = Load::start(&gpu.render, "vcs1", 50.0, 4000, 1.0);
        let (ok, said) = load.wait();
        assert!(ok, "{said}");
        let after = gpu.truth();
        let jobs = after.engines["vcs1"].jobs - before.engines["vcs1"].jobs;
        assert!(said.contains(&format!("jobs={jobs} ")), "{} counts {jobs}, the load: {said}", gpu.identity);
        assert_eq!(after.busy_ns("vcs1") - before.busy_ns("vcs1"), jobs * 4_000_000, "{}", gpu.identity);
        assert_eq!(after.busy_ns("rcs0"), before.busy_ns("rcs0"));
        let (wall, busy) = (after.monotonic_ns - before.monotonic_ns, jobs * 4_000_000);
        let energy = (wall * 5 + busy * 20) / 1000;
        assert!((after.energy1_uj - before.energy1_uj).abs_diff(energy) <= 1, "{}", gpu.identity);
        assert!((after.energy2_uj - before.energy2_uj).abs_diff(energy / 2) <= 1, "{}", gpu.identity);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn rc6_is_the_union() {
    for gpu in gpus() {
        // Where the guest was held up while the jobs began, the second did not lie within the first: then once more.
        let told = (0..5).any(|_| rc6_of_two_engines(&gpu));
        assert!(told, "{}: no job of 300 ms lay within one of 1000 ms in five tries", gpu.identity);
    }
}

/// Keeps two engines of one GT busy, at different and at the same times: 300 ms of the second lie within the 1000 ms of the first. False if
/// they did not.
fn rc6_of_two_engines(gpu: &Gpu) -> bool {
    let before = gpu.truth();
    let long = Load::start(&gpu.render, "rcs0", 100.0, 1_000_000, 0.5);
    let busy_ns = |truth: &Truth, engine: &str| truth.busy_ns(engine) - before.busy_ns(engine);
    assert!(wait_until(Duration::from_secs(5), || busy_ns(&gpu.truth(), "rcs0") > 100_000_000));
    let within = Load::start(&gpu.render, "bcs0", 100.0, 300_000, 0.1);
    within.wait();
    let middle = gpu.truth();
    long.wait();
    let alone = Load::start(&gpu.render, "bcs0", 100.0, 200_000, 0.1);
    alone.wait();
    let after = gpu.truth();
    assert_eq!(busy_ns(&middle, "bcs0"), 300_000_000);
    assert_eq!((busy_ns(&after, "rcs0"), busy_ns(&after, "bcs0")), (1_000_000_000, 500_000_000));
    if busy_ns(&middle, "rcs0") == 1_000_000_000 {
        return false;
    }
    let wall = after.monotonic_ns - before.monotonic_ns;
    let awake = wall - (after.gts[0].rc6_ns - before.gts[0].rc6_ns);
    assert_eq!(awake, 1_200_000_000, "{}: 1000 ms and 200 ms outside of them", gpu.identity);
    let integral = after.gts[0].act_integral - before.gts[0].act_integral;
    assert!(integral.abs_diff(1150 * 1_200_000) <= 2, "{}: {integral}", gpu.identity);
    if let (Some(b), Some(a)) = (before.gts.get(1), after.gts.get(1)) {
        assert_eq!(a.rc6_ns - b.rc6_ns, wall, "{}: the media GT slept", gpu.identity);
    }
    true
}

#[test]
#[ignore = "needs the testbed's guest"]
fn idle_devices_sleep_and_waking_reads_count() {
    for gpu in gpus() {
        assert!(asleep(&gpu), "{} is awake after its delay and a second more: {:?}", gpu.identity, gpu.truth());
        let mut waking = Vec::new();
        if gpu.driver() == "xe" {
            waking.extend(files(&gpu.device().join("tile0")));
        } else {
            let gt = gpu.card_sysfs().join("gt/gt0");
            waking.extend([gt.join("rc6_residency_ms"), gt.join("throttle_reason_status")]);
            waking.push(gpu.card_sysfs().join("power/rc6_residency_ms"));
        }
        // A label is the hwmon core's own text.
        waking.extend(hwmon(&gpu).iter().flat_map(|h| files(h)).filter(|f| f.to_string_lossy().ends_with("_input")));
        // Sleeping after each takes a while: a few of them show it.
        for file in waking.iter().step_by(waking.len().div_ceil(4)) {
            assert!(asleep(&gpu));
            let before = gpu.truth();
            text(file);
            let after = gpu.truth();
            let counted = (after.waking_accesses - before.waking_accesses, after.touches - before.touches);
            assert_eq!(counted, (1, 1), "{}", file.display());
            assert!(after.resumes > before.resumes && !after.is_suspended(), "{}", file.display());
        }
        let before = gpu.truth();
        waking.iter().for_each(|f| drop(text(f)));
        let after = gpu.truth();
        assert_eq!(after.touches - before.touches, waking.len() as u64, "{}", gpu.identity);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn polite_reads_do_not_wake() {
    for gpu in gpus() {
        assert!(asleep(&gpu));
        let before = gpu.truth();
        text(gpu.device().join("power/runtime_status"));
        fs::File::open(&gpu.render).unwrap();
        if gpu.driver() == "i915" {
            let gt = gpu.card_sysfs().join("gt/gt0");
            assert_eq!(number(gt.join("rps_act_freq_mhz")), 0);
            assert_eq!(number(gpu.card_sysfs().join("gt_act_freq_mhz")), 0);
            assert_eq!(number(gt.join("rps_RP0_freq_mhz")), 1300);
            let out = perf_command(None, &busy_event(&gpu), "0.2").output().unwrap();
            assert_eq!(perf_value(&out), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        }
        let after = gpu.truth();
        assert_eq!((after.touches, after.resumes), (before.touches, before.resumes), "{}", gpu.identity);
        assert!(after.is_suspended());
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn jobs_wake_and_are_counted_apart() {
    for gpu in gpus() {
        assert!(asleep(&gpu));
        let before = gpu.truth();
        Load::start(&gpu.render, "rcs0", 100.0, 10_000, 0.1).wait();
        let after = gpu.truth();
        // Every xe ioctl takes a reference, so there the allocation before the first job wakes.
        let expected = if gpu.driver() == "xe" { (0, 1) } else { (1, 0) };
        let counted = (after.job_wakes - before.job_wakes, after.waking_accesses - before.waking_accesses);
        assert_eq!(counted, expected, "{}", gpu.identity);
        assert!(asleep(&gpu), "{}", gpu.identity);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn knobs_reach_the_files() {
    for gpu in gpus() {
        set(&gpu.bdf, "gt0 act_mhz 777");
        set(&gpu.bdf, "gt0 throttle thermal 1");
        set(&gpu.bdf, "wait_permille 250");
        assert!(try_set(&gpu.bdf, "gt9 act_mhz 1").is_err() && try_set(&gpu.bdf, "nonsense 1").is_err());
        let before = gpu.truth();
        let load = Load::start(&gpu.render, "rcs0", 100.0, 400_000, 1.0);
        assert!(wait_until(Duration::from_secs(5), || gpu.truth().busy_ns("rcs0") > before.busy_ns("rcs0")));
        let (frequency, status) = match gpu.driver() {
            "xe" => {
                let freq = gpu.device().join("tile0/gt0/freq0");
                if freq.join("throttle/reasons").exists() {
                    assert_eq!(text(freq.join("throttle/reasons")), "thermal");
                }
                (freq.join("act_freq"), freq.join("throttle/reason_thermal"))
            }
            _ => {
                let gt = gpu.card_sysfs().join("gt/gt0");
                (gt.join("rps_act_freq_mhz"), gt.join("throttle_reason_thermal"))
            }
        };
        assert_eq!((number(frequency), number(status)), (777, 1), "{}", gpu.identity);
        load.wait();
        let after = gpu.truth();
        let busy = after.busy_ns("rcs0") - before.busy_ns("rcs0");
        assert!((after.engines["rcs0"].wait_ns - before.engines["rcs0"].wait_ns).abs_diff(busy / 4) <= 1);
        set(&gpu.bdf, "gt0 act_mhz 1150");
        set(&gpu.bdf, "gt0 throttle thermal 0");
        set(&gpu.bdf, "wait_permille 0");
    }
}

/// Everything that holds a device at once, then the device goes: by pulling it out, or by taking its driver away.
fn goes_and_returns(identity: &str, go: impl Fn(&Gpu), back: impl Fn(&Gpu)) {
    let Some(gpu) = gpu(identity) else { return };
    let node = fs::File::open(&gpu.render).unwrap();
    let before = gpu.truth();
    let load = Load::start(&gpu.render, "rcs0", 80.0, 50_000, 60.0);
    let perf = pmu_dir(&gpu).exists().then(|| start_perf(&gpu, "4"));
    assert!(wait_until(Duration::from_secs(5), || gpu.truth().engines["rcs0"].jobs > before.engines["rcs0"].jobs + 2));
    go(&gpu);
    assert!(
        Truth::try_read(&gpu.bdf).is_err() && !pmu_dir(&gpu).exists() && !Path::new(&gpu.render).exists(),
        "{identity} is left"
    );
    let (ok, said) = load.wait();
    assert!(!ok && said.contains("No such device"), "{identity}: {said}");
    sleep(Duration::from_millis(300));
    back(&gpu);
    let again = self::gpu(identity).unwrap_or_else(|| panic!("{identity} did not return"));
    assert_eq!((&again.bdf, pmu_dir(&again).exists()), (&gpu.bdf, perf.is_some()));
    let (ok, said) = Load::start(&again.render, "vcs0", 50.0, 2000, 0.2).wait();
    assert!(ok, "{identity}: {said}");
    assert!(again.truth().busy_ns("vcs0") > 0);
    // Its old event is still open: values freeze, and closing it must not touch freed memory.
    if let Some(perf) = perf {
        let out = perf.wait_with_output().unwrap();
        if let Some(value) = perf_value(&out) {
            assert!(value < 4 * SECOND, "{identity}: {value}");
        }
    }
    drop(node);
    // The old device's PMU is given up a second after its last event.
    sleep(Duration::from_millis(1500));
    let out = pmu_dir(&again).exists().then(|| perf_command(None, &busy_event(&again), "0.1").output().unwrap());
    assert!(out.is_none_or(|o| o.status.success()));
}

#[test]
#[ignore = "needs the testbed's guest"]
fn unplugged_devices_return() {
    for identity in ["i915", "i915-discrete", "xe"] {
        goes_and_returns(identity, |g| unplug(&g.bdf), |_| rescan());
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn unbound_devices_return() {
    for identity in ["i915", "i915-mtl", "xe", "xe-integrated"] {
        goes_and_returns(identity, |g| unbind(&g.bdf), |g| bind(&g.bdf));
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn xe_events_hold_the_device_awake() {
    for gpu in gpus() {
        if gpu.driver() != "xe" || !pmu_dir(&gpu).exists() {
            continue;
        }
        assert!(asleep(&gpu));
        let before = gpu.truth();
        let mut perf = start_perf(&gpu, "2");
        let start = gpu.truth();
        assert_eq!((start.pmu_forcewake_events, start.waking_accesses - before.waking_accesses), (1, 1));
        sleep(Duration::from_secs(1));
        let held = gpu.truth();
        assert!(!held.is_suspended(), "an open event holds a reference");
        assert_eq!(held.gts[0].rc6_ns, start.gts[0].rc6_ns, "an engine event keeps its GT out of C6");
        perf.wait().unwrap();
        assert!(asleep(&gpu));
        let end = gpu.truth();
        assert_eq!((end.pmu_events, end.pmu_forcewake_events), (0, 0));
        assert!(end.gts[0].rc6_ns > held.gts[0].rc6_ns);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn the_mask_follows_cpu_hotplug() {
    let gpu = gpu("i915").unwrap();
    let mask = pmu_dir(&gpu).join("cpumask");
    let own_mask = !kernel_since(6, 13);
    let first = text(&mask);
    let other = if first == "0" { "1" } else { "0" };
    if own_mask {
        assert_eq!(first, "1", "the module's pmu_cpu");
    }
    let out = perf_command(Some(other), &busy_event(&gpu), "0.1").output().unwrap();
    let refused = perf_value(&out).is_none();
    assert_eq!(refused, own_mask, "an event on a CPU off the mask");
    // CPU 0 stays on x86 since 6.5, so it is CPU 1 that goes, whether or not the mask is there.
    let before = gpu.truth();
    let perf = start_perf(&gpu, "3");
    cpu_online(1, false);
    assert_eq!(text(&mask), "0");
    Load::start(&gpu.render, "rcs0", 100.0, 100_000, 0.5).wait();
    let busy = gpu.truth().busy_ns("rcs0") - before.busy_ns("rcs0");
    let out = perf.wait_with_output().unwrap();
    cpu_online(1, true);
    assert_eq!(perf_value(&out), Some(busy), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text(&mask), "0");
}

#[test]
#[ignore = "needs the testbed's guest"]
fn paranoid_levels_are_the_kernels() {
    let gpu = gpu("i915").unwrap();
    let nobody = |seconds| {
        let perf = perf_command(None, &busy_event(&gpu), seconds);
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--clear-groups", "--inh-caps=-all"])
            .arg(perf.get_program())
            .args(perf.get_args());
        command.output().unwrap().status.success()
    };
    paranoid(3);
    assert!(!nobody("0.1"));
    paranoid(1);
    assert!(!nobody("0.1"), "a PMU event is of the whole system");
    paranoid(0);
    assert!(nobody("0.1"));
    paranoid(3);
}

fn fdinfo(load: &Load) -> String {
    let mut all = String::new();
    assert!(wait_until(Duration::from_secs(5), || {
        let found = files(Path::new(&format!("/proc/{}/fdinfo", load.pid())));
        all = found.iter().filter_map(|f| fs::read_to_string(f).ok()).filter(|t| t.contains("drm-driver")).collect();
        !all.is_empty()
    }));
    all
}

#[test]
#[ignore = "needs the testbed's guest"]
fn fdinfo_and_its_wakes() {
    for gpu in gpus() {
        let load = Load::start(&gpu.render, "vcs1", 10.0, 2000, 5.0);
        assert!(wait_until(Duration::from_secs(5), || gpu.truth().engines["vcs1"].jobs > 1));
        let before = gpu.truth();
        let text = fdinfo(&load);
        let touched = gpu.truth().touches - before.touches;
        let (engine, touches) = match gpu.driver() {
            "xe" => ("drm-cycles-vcs:", 1),
            _ => ("drm-engine-video:", 0),
        };
        assert!(text.contains(engine) && text.contains("drm-engine-capacity-"), "{text}");
        assert_eq!(touched, touches, "{}", gpu.identity);
        let memory = gpu.driver() == "xe" || kernel_since(6, 7);
        assert_eq!(text.contains("drm-total-"), memory, "{text}");
    }
}

/// The table of the README: what each kernel's own drivers offer.
#[test]
#[ignore = "needs the testbed's guest"]
fn the_version_history_holds() {
    if text("/sys/module/vgpu/parameters/force") == "Y" {
        return;
    }
    let has = |dir: &Option<PathBuf>, file| dir.as_ref().is_some_and(|d| d.join(file).exists());
    assert_eq!(gpu("xe").is_some(), kernel_since(6, 8));
    for gpu in gpus() {
        let (hwmon, pmu, name) = (hwmon(&gpu), pmu_dir(&gpu), &gpu.identity);
        let events = if pmu.exists() { files(&pmu) } else { Vec::new() };
        let events: Vec<String> = events.iter().map(|f| f.to_string_lossy().into_owned()).collect();
        let event = |e: &str| events.iter().any(|f| f.ends_with(&format!("/{e}")));
        let discrete = name == "i915-discrete" || name == "xe";
        if gpu.driver() == "xe" {
            assert_eq!(pmu.exists(), kernel_since(6, 15), "{name}");
            assert_eq!(hwmon.is_some(), discrete, "{name}");
            assert_eq!(has(&hwmon, "energy2_label"), discrete, "{name}");
            assert_eq!(has(&hwmon, "temp2_input"), discrete && kernel_since(6, 16), "{name}");
            assert_eq!(has(&hwmon, "fan1_input"), discrete && kernel_since(6, 16), "{name}");
            let throttle = gpu.device().join("tile0/gt0/freq0/throttle");
            assert_eq!(throttle.join("reasons").exists(), kernel_since(6, 19), "{name}");
        } else {
            assert_eq!(hwmon.is_some(), discrete && kernel_since(6, 2), "{name}");
            assert_eq!(has(&hwmon, "fan1_input"), discrete && kernel_since(6, 12), "{name}");
            assert_eq!(has(&hwmon, "temp1_input"), discrete && kernel_since(6, 13), "{name}");
            assert!(!has(&hwmon, "power1_input"), "{name}");
            let two = name == "i915-mtl" && kernel_since(6, 5);
            assert_eq!((event("rc6-residency-gt1"), event("rc6-residency")), (two, !two), "{name}");
            assert!(event("interrupts") && event("vcs1-busy.unit"), "{name}");
        }
        if pmu.exists() {
            assert!(pmu.join("cpumask").exists(), "{name}");
        }
    }
}
