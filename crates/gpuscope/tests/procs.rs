//! Who uses the GPUs, over a composed machine with processes. `GPUSCOPE_BLESS=1` rewrites the golden files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod common;

use common::{complaint, golden_path, gpuscope, normalised, over, reason, stdout, valid_lines, without_read_times};
use gpuscope_testkit::{Tree, golden, machines};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn run(tree: &Tree, args: &[&str]) -> String {
    stdout(over(tree, &["procs", "--interval", "20ms"]).args(args))
}

#[track_caller]
fn snapshot(tree: &Tree, args: &[&str]) -> Value {
    let mut lines = valid_lines(&run(tree, &[&["--json"], args].concat()));
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

fn ids(snapshot: &Value) -> Vec<u64> {
    snapshot["clients"].as_array().unwrap().iter().map(|c| c["client_id"].as_u64().unwrap()).collect()
}

#[test]
fn every_form() {
    let tree = machines::gpu_users();
    golden(golden_path("gpu-users.procs.txt"), &run(&tree, &[]));
    golden(golden_path("gpu-users.procs.json"), &normalised(snapshot(&tree, &[])));
    golden(golden_path("gpu-users.containers.txt"), &run(&tree, &["--by-container"]));
    golden(golden_path("gpu-users.containers.json"), &normalised(snapshot(&tree, &["--by-container"])));
    let csv = run(&tree, &["--format", "csv"]);
    let mut rows = csv.lines();
    let mut kept = format!("{}\n", rows.next().unwrap());
    for row in rows {
        let fields: Vec<&str> = row.splitn(3, ',').collect();
        assert!(fields[0].ends_with('Z') && fields[1].parse::<u64>().is_ok(), "{row}");
        match fields[2].split_once(".read_monotonic_ns,") {
            Some((before, _)) => kept.push_str(&format!("TIME,NS,{before}.read_monotonic_ns,(varies)\n")),
            None => kept.push_str(&format!("TIME,NS,{}\n", fields[2])),
        }
    }
    golden(golden_path("gpu-users.procs.csv"), &kept);
}

#[test]
fn a_client_that_two_processes_hold_is_counted_once() {
    let snapshot = snapshot(&machines::gpu_users(), &[]);
    assert_eq!(ids(&snapshot), [7, 12, 31]);
    let shared = &snapshot["clients"][0];
    assert_eq!((&shared["pid"], &shared["holders"]), (&json!(2100), &json!([2100, 2150])));
}

#[test]
fn memory_is_that_of_the_text_and_private_is_total_less_shared() {
    let snapshot = snapshot(&machines::gpu_users(), &[]);
    let region = |client: usize, name: &str| {
        let memory = snapshot["clients"][client]["memory"].as_array().unwrap();
        memory.iter().find(|m| m["region"] == name).unwrap().clone()
    };
    let bytes = |total: u64, shared: u64, resident: u64, active: Option<u64>, purgeable: u64, name: &str| {
        json!({"region": name, "total_bytes": total, "shared_bytes": shared, "private_bytes": total - shared,
               "resident_bytes": resident, "active_bytes": active, "purgeable_bytes": purgeable})
    };
    assert_eq!(region(0, "system0"), bytes(200 * MIB, 64 * MIB, 180 * MIB, Some(0), 512 << 10, "system0"));
    assert_eq!(region(1, "system0"), bytes(96 * MIB, 0, 98300 << 10, Some(8 * MIB), 0, "system0"));
    // amdgpu prints no active memory of this region.
    assert_eq!(region(2, "vram"), bytes(3 * MIB, 2 * MIB, 2 * MIB, None, 0, "vram"));
    assert_eq!(reason(&snapshot, "clients[0000:03:00.0/31].memory[vram].active_bytes"), "not_supported");
}

#[test]
fn rates_of_a_capture_are_not_counting() {
    let snapshot = snapshot(&machines::gpu_users(), &[]);
    let client = |at: usize| &snapshot["clients"][at];
    for (at, id, engine) in
        [(0, "0000:00:02.0/7", "render"), (1, "0000:00:02.0/12", "video"), (2, "0000:03:00.0/31", "gfx")]
    {
        let engines = client(at)["engines"].as_array().unwrap();
        assert!(engines.iter().any(|e| e["name"] == engine) && engines.iter().all(|e| e["busy_percent"].is_null()));
        assert_eq!(reason(&snapshot, &format!("clients[{id}].engines[{engine}].busy_percent")), "not_counting");
        assert!(client(at)["keeps_awake"].is_null());
        assert_eq!(reason(&snapshot, &format!("clients[{id}].keeps_awake")), "not_counting");
    }
    let video = client(0)["engines"].as_array().unwrap().iter().find(|e| e["name"] == "video").unwrap();
    assert_eq!(video["capacity"], 2);
}

#[test]
fn a_client_may_have_a_name_of_its_own() {
    let tree = machines::gpu_users();
    let snapshot = snapshot(&tree, &[]);
    assert_eq!(snapshot["clients"][2]["client_name"], "render-farm-3");
    assert!(snapshot["clients"][0]["client_name"].is_null());
    let csv = run(&tree, &["--format", "csv"]);
    assert!(csv.contains(",0000:03:00.0,clients.client_name,31,render-farm-3,,"), "{csv}");
}

#[test]
fn facts_of_the_processes_are_joined() {
    let snapshot = snapshot(&machines::gpu_users(), &[]);
    let of =
        |field: &str| -> Vec<&Value> { snapshot["clients"].as_array().unwrap().iter().map(|c| &c[field]).collect() };
    assert_eq!(of("comm"), ["gnome-shell", "ffmpeg", "blender"]);
    assert_eq!(of("command_line")[1], "ffmpeg -hwaccel vaapi -i in.mkv out.mp4");
    assert_eq!(of("uid"), [1000, 0, 1000]);
    let container = format!("docker:{}", &machines::CONTAINER[..12]);
    assert_eq!(of("container")[1], container.as_str());
    assert_eq!(of("cgroup")[0], "/user.slice/user-1000.slice/session-2.scope");
    let page = 4096;
    assert_eq!(of("rss_bytes"), [80_000 * page, 30_000 * page, 250_000 * page]);
}

#[test]
fn clients_are_picked_by_what_the_facts_say() {
    let tree = machines::gpu_users();
    assert_eq!(ids(&snapshot(&tree, &["--user", "1000"])), [7, 31]);
    assert_eq!(ids(&snapshot(&tree, &["--container", &machines::CONTAINER[..12]])), [12]);
    assert_eq!(ids(&snapshot(&tree, &["--container", "session-2"])), [7]);
    let by_container = snapshot(&tree, &["--by-container", "--container", "docker"]);
    let group = &by_container["containers"][0];
    assert_eq!((&group["clients"], &group["pids"]), (&json!(1), &json!([3300])));
    assert_eq!(group["memory"][0]["resident_bytes"], 98300 << 10);
}

#[test]
fn clients_are_picked_and_sorted() {
    let tree = machines::gpu_users();
    // By any process that holds it.
    assert_eq!(ids(&snapshot(&tree, &["--pid", "2150"])), [7]);
    assert_eq!(ids(&snapshot(&tree, &["--pid", "4400", "--pid", "3300"])), [12, 31]);
    assert_eq!(ids(&snapshot(&tree, &["--pid", "1"])), [0; 0]);
    assert_eq!(ids(&snapshot(&tree, &["--gpu", "card1"])), [31]);
    assert_eq!(ids(&snapshot(&tree, &["--sort", "memory"])), [7, 12, 31]);
    assert_eq!(ids(&snapshot(&tree, &["--sort", "pid", "--gpu", "card0"])), [7, 12]);
    let text = run(&tree, &["--pid", "1"]);
    assert_eq!(text, "no client of a GPU is what was asked for\n");
}

#[test]
fn nobody_uses_a_gpu() {
    let tree = machines::i915_integrated();
    assert_eq!(run(&tree, &[]), "no process uses a GPU now\n");
    let snapshot = snapshot(&tree, &[]);
    assert_eq!((&snapshot["clients"], &snapshot["denied_processes"]), (&json!([]), &json!(0)));
    assert!(run(&machines::no_gpu(), &[]).starts_with("no GPU found\n"));
    assert_eq!(ids(&self::snapshot(&machines::no_gpu(), &[])), [0; 0]);
}

#[test]
fn text_keeps_to_eighty_columns_and_to_ascii_where_it_has_to() {
    let tree = machines::gpu_users();
    for args in [&["procs", "--interval", "20ms"][..], &["procs", "--by-container", "--interval", "20ms"]] {
        for locale in ["C", "C.UTF-8"] {
            let text = stdout(over(&tree, args).env("LC_ALL", locale));
            assert!(locale != "C" || text.is_ascii(), "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}

/// Lines as `dmemcg_limit_show` and `dmem_cgroup_region_capacity_show` (kernel/cgroup/dmem.c) print them.
#[test]
fn cgroups_show_what_the_kernel_charges_to_them() {
    let tree = machines::gpu_users();
    let farm = "/system.slice/render-farm.service";
    tree.file("sys/fs/cgroup/cgroup.controllers", "cpu io memory dmem\n")
        .file("sys/fs/cgroup/dmem.capacity", "drm/0000:03:00.0/vram 17163091968\n")
        .file(&format!("sys/fs/cgroup{farm}/dmem.current"), "drm/0000:03:00.0/vram 3145728\n")
        .folder("sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope");
    let snapshot = snapshot(&tree, &["--by-container"]);
    let cgroups = snapshot["cgroups"].as_array().unwrap();
    let memory = |path: &str| &cgroups.iter().find(|c| c["cgroup"] == path).unwrap()["device_memory"];
    assert_eq!(
        memory(farm),
        &json!([{"gpu": "0000:03:00.0", "region": "vram", "used_bytes": 3 * MIB, "capacity_bytes": 17163091968u64}])
    );
    let session = "/user.slice/user-1000.slice/session-2.scope";
    assert!(memory(session).is_null());
    assert_eq!(reason(&snapshot, &format!("cgroups[{session}].device_memory")), "not_counting");
    let group = snapshot["containers"].as_array().unwrap().iter().find(|g| g["cgroup"] == farm).unwrap();
    assert_eq!(group["charged_bytes"], 3 * MIB);
    let text = run(&tree, &["--by-container"]);
    let line = text.lines().find(|l| l.contains("render-farm")).unwrap();
    assert!(text.contains("CHARGED") && line.contains(" 3.0M "), "{text}");
    assert!(text.contains("CHARGED: not counting:"), "why the others have dashes: {text}");
    // A path is one word, however long.
    assert!(text.lines().all(|l| l.chars().count() <= 80 || !l.trim().contains(' ')), "{text}");
    let csv = run(&tree, &["--format", "csv"]);
    assert!(
        csv.contains(&format!(",0000:03:00.0,cgroups.device_memory.used_bytes,{farm}/vram,3145728,bytes,")),
        "{csv}"
    );
    // Those of the clients that are shown, and no others.
    let one = self::snapshot(&tree, &["--pid", "4400"]);
    assert_eq!(one["cgroups"].as_array().unwrap().len(), 1);
}

/// Files as `kfd_procfs_show` (drivers/gpu/drm/amd/amdkfd/kfd_process.c) and `node_show` (kfd_topology.c) print them.
#[test]
fn a_compute_process_without_a_drm_client_is_known_by_its_pid() {
    let tree = machines::gpu_users();
    tree.file("sys/class/kfd/kfd/topology/nodes/1/gpu_id", "8784\n")
        .file("sys/class/kfd/kfd/topology/nodes/1/properties", "location_id 768\ndomain 0\n")
        // 4400 has a DRM client, whose memory this is part of.
        .file("sys/class/kfd/kfd/proc/4400/vram_8784", "1048576\n")
        .file("sys/class/kfd/kfd/proc/2150/vram_8784", "209715200\n");
    let snapshot = snapshot(&tree, &["--gpu", "card1"]);
    let clients = snapshot["clients"].as_array().unwrap();
    let shown: Vec<_> = clients.iter().map(|c| (&c["pid"], &c["client_id"], &c["source"])).collect();
    assert_eq!(shown, [(&json!(2150), &Value::Null, &json!("kfd")), (&json!(4400), &json!(31), &json!("fdinfo"))]);
    assert_eq!((&clients[0]["comm"], &clients[0]["memory"][0]["total_bytes"]), (&json!("Xwayland"), &json!(200 * MIB)));
    assert_eq!(reason(&snapshot, "clients[0000:03:00.0/pid2150].memory[vram].resident_bytes"), "not_supported");
    // What was allocated stands in for what is resident.
    let text = run(&tree, &["--sort", "pid"]);
    let line = text.lines().find(|l| l.contains("Xwayland")).unwrap();
    assert!(line.contains(" 200M "), "{text}");
    let csv = run(&tree, &["--format", "csv"]);
    assert!(csv.contains(",0000:03:00.0,clients.source,pid2150,kfd,,"), "{csv}");
}

#[test]
fn a_gpu_whose_clients_are_not_known_says_why() {
    let tree = machines::nvidia_without_nvml();
    let snapshot = snapshot(&tree, &[]);
    assert_eq!((&snapshot["clients"], reason(&snapshot, "clients[0000:01:00.0]")), (&json!([]), "not_counting"));
    let text = run(&tree, &["--count", "2"]);
    assert_eq!(text.matches("clients of 0000:01:00.0: a captured tree has no NVML to ask").count(), 1, "{text}");
    assert!(text.starts_with("no process that can be read uses a GPU now\n"), "{text}");
    assert!(run(&tree, &["--format", "csv"]).contains(",0000:01:00.0,clients,,,,not_counting\n"));
}

#[test]
fn a_stream_has_a_line_a_snapshot() {
    let tree = machines::gpu_users();
    let lines = valid_lines(&run(&tree, &["--json", "--count", "3"]));
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|l| l["interval_s"].as_f64().unwrap() > 0.0 && ids(l) == [7, 12, 31]));
    // What is said of a column is said once.
    let text = run(&tree, &["--count", "2"]);
    assert_eq!(
        (text.matches("not known:").count(), text.lines().filter(|l| l.ends_with(" COMMAND")).count()),
        (1, 2),
        "{text}"
    );
}

#[test]
fn stat_shows_processes_on_request() {
    let tree = machines::gpu_users();
    let stat = |args: &[&str]| stdout(over(&tree, &["stat", "--interval", "20ms", "--count", "1"]).args(args));
    let mut with = valid_lines(&stat(&["--json", "--processes"])).remove(0);
    let mut procs = snapshot(&tree, &[]);
    without_read_times(&mut with);
    without_read_times(&mut procs);
    for field in ["clients", "cgroups", "denied_processes", "left_out", "unavailable"] {
        assert_eq!(with[field], procs[field], "{field}");
    }
    let without = valid_lines(&stat(&["--json"])).remove(0);
    assert!(without.get("clients").is_none() && without.get("unavailable").is_none());
    assert!(stat(&["--processes"]).contains("2100+1"));
    assert!(stat(&["--processes", "--format", "csv"]).contains(",0000:00:02.0,clients.holders,7,2150,,"));
}

#[test]
fn wrong_usage_is_status_2_and_one_line() {
    for args in [&["procs", "--stream", "--count", "2"][..], &["procs", "--sort", "size"], &["procs", "--pid", "x"]] {
        let (status, line) = complaint(gpuscope().args(args));
        assert_eq!(status, 2, "{args:?}: {line}");
    }
}
