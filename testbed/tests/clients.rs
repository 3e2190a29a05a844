// guest: -g i915,i915-discrete,xe,amdgpu -m arm=1 -m autosuspend_ms=500 -m autosuspend_ms_amdgpu=500 -t 300
//! The virtual GPU's clients: its books of them are exact, and the text of `/proc/PID/fdinfo` says the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use gpuscope_testbed::{Churn, Client, Gpu, Idle, Load, Memory, bind, gpu, gpus, kernel_since, unbind, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// The first engine of each identity.
fn engine(gpu: &Gpu) -> &'static str {
    match gpu.driver() {
        "amdgpu" => "gfx",
        "panthor" => "panthor",
        _ => "rcs0",
    }
}

/// Whether this kernel's driver prints anything; Arm's prints engines once asked to.
fn prints(gpu: &Gpu) -> bool {
    if gpu.driver() != "panthor" {
        return true;
    }
    let profiling = gpu.device().join("profiling");
    profiling.exists() && fs::write(profiling, "3").is_ok()
}

fn printing() -> Vec<Gpu> {
    gpus().into_iter().filter(prints).collect()
}

type Keys = BTreeMap<String, String>;

/// Each DRM descriptor of a process as its keys.
fn fdinfos(pid: u32) -> Vec<Keys> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = files.filter_map(|f| fs::read_to_string(f.path()).ok()).filter(|t| t.contains("drm-driver:"));
    let keys = |text: String| {
        let pairs = text.lines().filter_map(|l| l.split_once(':'));
        pairs.map(|(key, value)| (key.to_string(), value.trim().to_string())).collect()
    };
    texts.map(keys).collect()
}

/// The descriptor of that client in a process.
fn of_client(pid: u32, id: u64) -> Keys {
    let mut all = fdinfos(pid).into_iter().filter(|k| k["drm-client-id"] == id.to_string());
    all.next().unwrap_or_else(|| panic!("process {pid} has no client {id}"))
}

fn size(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => panic!("{text}"),
    };
    number.parse::<u64>().unwrap() * factor
}

/// What fdinfo must say of a client's busy time.
fn engine_lines(gpu: &Gpu, client: &Client) -> Vec<(String, String)> {
    let all = |names: &[&str]| names.iter().map(|n| client.busy_ns(n)).sum::<u64>();
    match gpu.driver() {
        "xe" => vec![("drm-cycles-rcs".to_string(), (all(&["rcs0"]) * 192 / 10_000).to_string())],
        "amdgpu" => client
            .busy_ns
            .iter()
            .filter(|b| *b.1 > 0)
            .map(|(n, b)| (format!("drm-engine-{n}"), format!("{b} ns")))
            .collect(),
        "panthor" => {
            let busy = all(&["panthor"]);
            vec![
                ("drm-engine-panthor".to_string(), format!("{busy} ns")),
                ("drm-cycles-panthor".to_string(), (busy * 1150 / 1000).to_string()),
                ("drm-maxfreq-panthor".to_string(), "1300000000 Hz".to_string()),
            ]
        }
        _ => vec![
            ("drm-engine-render".to_string(), format!("{} ns", all(&["rcs0"]))),
            ("drm-engine-video".to_string(), format!("{} ns", all(&["vcs0", "vcs1"]))),
        ],
    }
}

fn quiet(gpu: &Gpu) {
    let busy = || gpu.clients().engines_ns;
    let mut last = busy();
    assert!(wait_until(Duration::from_secs(20), || {
        sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut last, busy());
        before == last
    }));
}

#[test]
#[ignore = "needs the testbed's guest"]
fn busy_time_is_the_same_in_both_books() {
    for gpu in printing() {
        let before = gpu.clients().clients.len();
        let load = Load::with(&["--stay"], &gpu.render, engine(&gpu), 40.0, 3000, 0.6);
        let id = load.clients()[0].id;
        sleep(Duration::from_millis(300));
        quiet(&gpu);
        let clients = gpu.clients();
        let client = clients.client(id).unwrap();
        assert_eq!(
            (clients.clients.len(), client.pid, client.open),
            (before + 1, load.pid(), true),
            "{}",
            gpu.identity
        );
        let busy = client.busy_ns(engine(&gpu));
        assert!(busy > 50_000_000 && busy % 3_000_000 == 0, "{}: {busy}", gpu.identity);
        let keys = of_client(load.pid(), id);
        for (key, value) in engine_lines(&gpu, client) {
            assert_eq!(keys.get(&key), Some(&value), "{} {key}: {keys:?}", gpu.identity);
        }
        assert_eq!(keys["drm-driver"], gpu.driver());
        assert_eq!(keys.get("drm-pdev"), (gpu.driver() != "panthor").then_some(&gpu.bdf), "{}", gpu.identity);
        drop(load);
        assert!(wait_until(Duration::from_secs(5), || gpu.clients().client(id).is_none()), "{} stays", gpu.identity);
        let after = gpu.clients();
        assert_eq!(after.gone_ns[engine(&gpu)] - clients.gone_ns[engine(&gpu)], busy, "{}", gpu.identity);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn clients_add_up_to_the_engines() {
    for gpu in gpus() {
        let _loads: Vec<Load> = [10.0, 20.0, 30.0]
            .iter()
            .map(|duty| Load::with(&["--fork", "--both"], &gpu.render, engine(&gpu), *duty, 2000, 10.0))
            .collect();
        for _ in 0..10 {
            sleep(Duration::from_millis(70));
            let all = gpu.clients();
            for (engine, busy) in &all.engines_ns {
                let sum = all.gone_ns[engine] + all.clients.iter().map(|c| c.busy_ns(engine)).sum::<u64>();
                assert_eq!(sum, *busy, "{} {engine}", gpu.identity);
            }
        }
    }
}

/// What a kernel's driver prints of a region, by key, and what it should say.
fn memory_lines(gpu: &Gpu, region: &str, memory: &Memory) -> Vec<(String, u64)> {
    let core = |keys: &[(&str, u64)]| keys.iter().map(|(k, v)| (format!("drm-{k}-{region}"), *v)).collect::<Vec<_>>();
    let Memory { total, shared, resident, active, purgeable } = *memory;
    match (gpu.driver(), region) {
        ("i915", _) if !kernel_since(6, 7) => Vec::new(),
        ("i915", _) | ("xe", "system") => core(&[
            ("total", total),
            ("shared", shared),
            ("resident", resident),
            ("active", active),
            ("purgeable", purgeable),
        ]),
        ("amdgpu", _) if kernel_since(6, 13) => core(&[
            ("total", total),
            ("shared", shared),
            ("resident", resident),
            ("purgeable", purgeable),
            ("memory", resident),
        ]),
        ("amdgpu", _) if kernel_since(6, 6) => core(&[("memory", resident), ("shared", shared)]),
        ("amdgpu", _) => core(&[("memory", resident)]),
        _ => core(&[("total", total), ("shared", shared), ("resident", resident), ("active", active)]),
    }
}

fn assert_memory(gpu: &Gpu, pid: u32, id: u64) {
    let clients = gpu.clients();
    let keys = of_client(pid, id);
    for (region, memory) in &clients.client(id).unwrap().memory {
        for (key, bytes) in memory_lines(gpu, region, memory) {
            assert_eq!(size(&keys[&key]), bytes, "{} {key}: {keys:?}", gpu.identity);
        }
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn memory_is_exact() {
    for gpu in printing() {
        let discrete = matches!(gpu.identity.as_str(), "i915-discrete" | "xe" | "amdgpu");
        let mut options = vec!["--alloc", "12M:system", "--alloc", "4K:system:lazy", "--alloc", "100K:system:active"];
        if discrete {
            options.extend(["--alloc", "256M:local", "--alloc", "1M:local:purgeable"]);
        }
        if gpu.driver() != "panthor" {
            options.extend(["--alloc", "3M:other:purgeable", "--alloc", "5M:other:purgeable+active"]);
        }
        let load = Load::with(&options, &gpu.render, engine(&gpu), 0.0, 1000, 20.0);
        let client = &load.clients()[0];
        let totals: u64 = gpu.clients().client(client.id).unwrap().memory.values().map(|m| m.total).sum();
        let local = if discrete { 257 << 20 } else { 0 };
        let other = if gpu.driver() == "panthor" { 0 } else { 8 << 20 };
        assert_eq!(totals, (12 << 20) + (104 << 10) + local + other, "{}", gpu.identity);
        assert_memory(&gpu, client.pids[0], client.id);
        if gpu.driver() == "amdgpu" {
            let used = fs::read_to_string(gpu.device().join("mem_info_vram_used")).unwrap();
            assert_eq!(used.trim(), (257u64 << 20).to_string());
        }
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn buffers_of_two_clients_are_shared() {
    for gpu in gpus() {
        let load = Load::with(&["--alloc", "8M:system", "--shared"], &gpu.render, engine(&gpu), 0.0, 1000, 20.0);
        let [first, second] = load.clients() else { panic!("{:?}", load.clients()) };
        assert_ne!((first.id, first.pids[0]), (second.id, second.pids[0]));
        for client in [first, second] {
            let memory: Vec<Memory> =
                gpu.clients().client(client.id).unwrap().memory.values().copied().filter(|m| m.total > 0).collect();
            let eight = 8 << 20;
            let expected = Memory { total: eight, shared: eight, resident: eight, ..Memory::default() };
            assert_eq!(memory, [expected], "{}", gpu.identity);
            if prints(&gpu) {
                assert_memory(&gpu, client.pids[0], client.id);
            }
        }
        if gpu.driver() == "amdgpu" {
            let used = fs::read_to_string(gpu.device().join("mem_info_gtt_used")).unwrap();
            assert_eq!(used.trim(), (8u64 << 20).to_string(), "a shared buffer is there once");
        }
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn one_client_in_three_processes() {
    for gpu in printing() {
        let load = Load::with(&["--dup", "2", "--fork", "--pass"], &gpu.render, engine(&gpu), 30.0, 2000, 20.0);
        let client = &load.clients()[0];
        assert_eq!((client.pids.len(), client.pids[0]), (3, load.pid()));
        let descriptors: Vec<usize> = client.pids.iter().map(|pid| fdinfos(*pid).len()).collect();
        assert_eq!(descriptors, [3, 3, 1], "{}: the heir has all, the receiver one", gpu.identity);
        for pid in &client.pids {
            assert!(fdinfos(*pid).iter().all(|k| k["drm-client-id"] == client.id.to_string()), "{}", gpu.identity);
        }
        assert_eq!(gpu.clients().client(client.id).unwrap().pid, client.pids[0]);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn both_nodes_are_two_clients() {
    for gpu in printing() {
        let load = Load::with(&["--both"], &gpu.render, engine(&gpu), 50.0, 2000, 1.0);
        let [first, second] = load.clients() else { panic!("{:?}", load.clients()) };
        assert_eq!((first.node.as_str(), second.node.as_str()), (gpu.render.as_str(), gpu.card.as_str()));
        assert_eq!(fdinfos(load.pid()).len(), 2);
        assert!(wait_until(Duration::from_secs(5), || {
            gpu.clients().client(second.id).is_some_and(|c| c.busy_ns(engine(&gpu)) > 20_000_000)
        }));
        let all = gpu.clients();
        let busy = |id| all.client(id).unwrap().busy_ns(engine(&gpu));
        assert!(busy(first.id).abs_diff(busy(second.id)) <= 2_000_000, "jobs go in turn");
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn a_driver_may_print_a_name_with_spaces_and_no_program_may_choose_one() {
    // What the core says to a program that names its client.
    let by_the_core = |gpu: &Gpu, name: &str| {
        let cache = std::env::var("TESTBED_CACHE").unwrap_or_else(|_| "/var/cache/gpu-testbed".to_string());
        let mut load = Command::new(format!("{cache}/bin/vgpu-load"));
        load.args(["--core-name", name, &gpu.render, "0", "0", "1000", "0"]).output().unwrap()
    };
    for gpu in printing() {
        for refused in ["my app", "my\tapp", "app "] {
            let said = by_the_core(&gpu, refused);
            assert!(!said.status.success(), "{}: {refused:?} is taken: {said:?}", gpu.identity);
            assert_eq!(String::from_utf8_lossy(&said.stderr), "name: Invalid argument\n");
        }
        if kernel_since(6, 14) {
            let load = Load::with(&["--core-name", "my:app"], &gpu.render, engine(&gpu), 0.0, 1000, 20.0);
            assert_eq!(of_client(load.pid(), load.clients()[0].id)["drm-client-name"], "my:app");
        } else {
            assert!(!by_the_core(&gpu, "my:app").status.success(), "this kernel has no such ioctl");
        }
        // The module's ioctl stands for a driver that names its clients itself.
        let load = Load::with(&["--name", "my  app name 1"], &gpu.render, engine(&gpu), 0.0, 1000, 20.0);
        let client = &load.clients()[0];
        assert_eq!(gpu.clients().client(client.id).unwrap().name, "my  app name 1");
        let expected = kernel_since(6, 14).then(|| "my  app name 1".to_string());
        let keys = of_client(load.pid(), client.id);
        assert_eq!(keys.get("drm-client-name"), expected.as_ref(), "{}", gpu.identity);
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn processes_come_and_go() {
    let gpu = gpu("i915").unwrap();
    let _idle = Idle::start(200, 4);
    let before = gpu.clients().clients.len();
    let churn = Churn::start(&gpu.render, 200.0, 5.0);
    sleep(Duration::from_secs(3));
    let during = gpu.clients();
    let (lives, forked) = churn.wait();
    println!("{forked} processes in 5 s, {} of them long", lives.len());
    assert!(forked > 200, "{forked} processes in 5 s");
    assert!(lives.iter().all(|l| l.to_ns - l.from_ns >= 2_000_000_000));
    assert!(lives.iter().any(|l| l.swapped) && lives.iter().any(|l| !l.swapped));
    for life in lives.iter().filter(|l| l.from_ns < during.monotonic_ns && during.monotonic_ns < l.to_ns) {
        assert_eq!(during.client(life.client).map(|c| c.pid), Some(life.pid), "{life:?}");
    }
    assert!(wait_until(Duration::from_secs(5), || gpu.clients().clients.len() == before));
}

#[test]
#[ignore = "needs the testbed's guest"]
fn sleeping_amdgpu_wakes_or_refuses() {
    let gpu = gpu("amdgpu").unwrap();
    let asleep = || wait_until(Duration::from_secs(5), || gpu.truth().is_suspended());
    let hwmon = fs::read_dir(gpu.device().join("hwmon")).unwrap().next().unwrap().unwrap().path();
    let waking = ["gpu_busy_percent", "mem_busy_percent", "gpu_metrics", "pp_dpm_sclk", "pp_dpm_mclk"]
        .map(|f| gpu.device().join(f));
    let sensors = ["temp1_input", "temp3_input", "power1_average", "fan1_input", "freq1_input"].map(|f| hwmon.join(f));
    for file in waking.iter().chain(&sensors) {
        assert!(asleep(), "{:?}", gpu.truth());
        let before = gpu.truth();
        let read = fs::read(file);
        let after = gpu.truth();
        let woke = after.waking_accesses - before.waking_accesses;
        if kernel_since(6, 13) {
            let errno = read.err().and_then(|e| e.raw_os_error());
            assert_eq!((errno, woke), (Some(1), 0), "{}: EPERM while it sleeps", file.display());
        } else {
            assert!(read.is_ok() && woke == 1, "{}: {read:?}, {woke} wakes", file.display());
        }
    }
    assert!(asleep());
    let before = gpu.truth();
    for file in ["mem_info_vram_total", "mem_info_gtt_used", "power/runtime_status"] {
        fs::read(gpu.device().join(file)).unwrap();
    }
    assert_eq!(fs::read_to_string(hwmon.join("temp2_label")).unwrap(), "junction\n");
    assert_eq!(gpu.truth().touches, before.touches);
}

#[test]
#[ignore = "needs the testbed's guest"]
fn amdgpu_files_of_a_busy_card() {
    let gpu = gpu("amdgpu").unwrap();
    let load = Load::with(&["--stay"], &gpu.render, "gfx", 100.0, 300_000, 2.0);
    sleep(Duration::from_millis(1000));
    let text = |file: &str| fs::read_to_string(gpu.device().join(file)).unwrap();
    let busy: u64 = text("gpu_busy_percent").trim().parse().unwrap();
    assert!(busy > 80, "{busy}");
    let metrics = fs::read(gpu.device().join("gpu_metrics")).unwrap();
    assert_eq!((metrics.len(), &metrics[..4]), (120, &[120, 0, 1, 3][..]));
    assert!(text("pp_dpm_sclk").contains("Mhz *"));
    let keys = of_client(load.pid(), load.clients()[0].id);
    assert!(keys.contains_key("pasid") && keys.contains_key("drm-engine-gfx"));
    assert!(!keys.contains_key("drm-engine-compute"), "only what ran: {keys:?}");
    assert_eq!(keys.contains_key("drm-resident-vram"), kernel_since(6, 13));
    assert_eq!(keys.contains_key("drm-shared-vram"), kernel_since(6, 6));
    assert_eq!(keys.contains_key("amd-requested-vram"), kernel_since(6, 4));
}

#[test]
#[ignore = "needs the testbed's guest"]
fn the_arm_driver_says_what_its_kernel_lets_it() {
    let Some(gpu) = gpu("panthor") else {
        assert!(!kernel_since(6, 10), "no panthor");
        return;
    };
    let load = Load::with(&["--stay"], &gpu.render, "panthor", 50.0, 2000, 0.3);
    let client = &load.clients()[0];
    if !kernel_since(6, 13) {
        assert!(fdinfos(load.pid()).is_empty(), "its driver prints nothing");
        return;
    }
    fs::write(gpu.device().join("profiling"), "0").unwrap();
    let keys = of_client(load.pid(), client.id);
    assert!(!keys.contains_key("drm-engine-panthor") && keys.contains_key("drm-maxfreq-panthor"), "{keys:?}");
    fs::write(gpu.device().join("profiling"), "2").unwrap();
    let keys = of_client(load.pid(), client.id);
    assert!(keys.contains_key("drm-engine-panthor") && !keys.contains_key("drm-cycles-panthor"), "{keys:?}");
}

#[test]
#[ignore = "needs the testbed's guest"]
fn clients_outlive_their_device() {
    for identity in ["i915", "xe", "amdgpu", "panthor"] {
        let Some(gpu) = gpu(identity) else { continue };
        let options = ["--alloc", "1M:system", "--shared", "--stay"];
        let holder = Load::with(&options, &gpu.render, engine(&gpu), 0.0, 1000, 0.1);
        let worker = Load::with(&["--fork"], &gpu.render, engine(&gpu), 80.0, 20_000, 60.0);
        sleep(Duration::from_millis(300));
        unbind(&gpu.bdf);
        let (ok, said) = worker.wait();
        assert!(!ok && said.contains("No such device"), "{identity}: {said}");
        let left: Vec<Keys> = fdinfos(holder.pid());
        assert!(left.iter().all(|k| k["drm-driver"] == gpu.driver()), "{identity}: {left:?}");
        bind(&gpu.bdf);
        let again = self::gpu(identity).unwrap_or_else(|| panic!("{identity} did not return"));
        let load = Load::with(&["--stay"], &again.render, engine(&again), 50.0, 2000, 0.2);
        quiet(&again);
        let clients = again.clients();
        assert_eq!(clients.clients.len(), 1, "{identity}: the old device's clients are not the new one's");
        assert!(clients.client(load.clients()[0].id).unwrap().busy_ns(engine(&again)) > 0, "{identity}");
        drop(holder);
    }
}
