//! One snapshot with values of every kind, in every form. `GPUSCOPE_BLESS=1` rewrites the golden files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

use gpuscope_export::text::{self, Style};
use gpuscope_export::{Procs, Query, Sort, csv, json};
use gpuscope_model::{
    AlwaysOn, BandwidthSnapshot, CgroupMemory, CgroupSample, ClassSnapshot, ClientEngineSnapshot, ClientKey,
    ClientMemory, ClientSnapshot, ClientsGap, ClientsSnapshot, Counter, DeviceEvent, DeviceEventKind, DeviceSnapshot,
    EngineClass, EngineSnapshot, FanSample, GpuId, GtSnapshot, MemorySample, PowerSnapshot, ProcessSample,
    ProcessSnapshot, Reading, Reason, RuntimeStatus, Snapshot, TemperatureSample, Text, ThrottleReason,
    ThrottleReasons, Why,
};
use gpuscope_testkit::golden;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_250)
}

fn engine(name: &'static str, class: EngineClass, instance: u16, busy: Reading<f64>) -> EngineSnapshot {
    EngineSnapshot {
        name: name.into(),
        class,
        instance,
        gt: Reading::Value(0),
        source: "pmu".into(),
        busy_ratio: busy,
        wait_ratio: Reading::Value(0.012_345_678),
        sema_ratio: Reading::absent(Reason::NotCounting, "not opened"),
    }
}

fn snapshot() -> Snapshot {
    let mut throttle = ThrottleReasons::NONE;
    throttle.insert(ThrottleReason::Pl1);
    throttle.insert(ThrottleReason::Thermal);
    let first = || Reading::Absent(Why::FIRST_SAMPLE);
    let refused = Why::new(Reason::NoPermission, "perf_event_open: permission denied").remedy("run as root");
    let card = DeviceSnapshot {
        id: GpuId::new("0000:03:00.0"),
        driver: "i915".into(),
        perturbs: false,
        runtime_status: Reading::Value(RuntimeStatus::Active),
        engines: Reading::Value(vec![
            engine("rcs0", EngineClass::Render, 0, Reading::Value(1.0 / 3.0)),
            engine("vcs0", EngineClass::Video, 0, Reading::Value(1.0)),
            engine("vcs1", EngineClass::Video, 1, first()),
        ]),
        classes: Reading::Value(vec![ClassSnapshot {
            class: EngineClass::Other,
            name: "odd, \"new\"".into(),
            capacity: Reading::Value(2),
            busy_ratio: Reading::Value(0.5),
        }]),
        gts: vec![GtSnapshot {
            gt: 0,
            actual_hz: Reading::Value(2.25e9),
            requested_hz: Reading::Value(2.45e9),
            min_hz: Reading::Value(3e8),
            max_hz: Reading::Absent(refused.clone()),
            idle_ratio: Reading::Value(0.625),
            throttle: Reading::Value(throttle),
        }],
        power: PowerSnapshot {
            gpu_watts: Reading::absent(Reason::NoHardware, "no such domain"),
            card_watts: Reading::Value(35.123_456),
            package_watts: Reading::Absent(refused.clone()),
            psys_watts: Reading::absent(Reason::NoHardware, "no such domain"),
        },
        temperatures: Reading::Value(vec![TemperatureSample { label: "pkg".into(), celsius: Reading::Value(55.5) }]),
        fans: Reading::Value(vec![FanSample { label: "fan1".into(), rpm: first() }]),
        memory: Reading::Value(vec![MemorySample {
            region: "vram0".into(),
            total_bytes: Reading::Value(6 << 30),
            used_bytes: Reading::Value(3 << 29),
        }]),
        bandwidth: BandwidthSnapshot {
            read_bytes_per_second: Reading::Value(1.25e9),
            write_bytes_per_second: Reading::Absent(refused),
        },
    };
    let asleep = || Reading::Absent(Why::ASLEEP);
    let sleeping = DeviceSnapshot {
        id: GpuId::new("0000:04:00.0"),
        driver: "xe".into(),
        perturbs: true,
        runtime_status: Reading::Value(RuntimeStatus::Suspended),
        engines: Reading::Absent(Why::ASLEEP),
        classes: Reading::Absent(Why::ASLEEP),
        gts: Vec::new(),
        power: PowerSnapshot {
            gpu_watts: asleep(),
            card_watts: asleep(),
            package_watts: asleep(),
            psys_watts: asleep(),
        },
        temperatures: Reading::Absent(Why::ASLEEP),
        fans: Reading::Absent(Why::ASLEEP),
        memory: Reading::Absent(Why::ASLEEP),
        bandwidth: BandwidthSnapshot { read_bytes_per_second: asleep(), write_bytes_per_second: asleep() },
    };
    let event = DeviceEvent {
        at_ns: 1_499_000_000,
        kind: DeviceEventKind::Gone,
        id: GpuId::new("0000:05:00.0"),
        driver: "xe".into(),
    };
    Snapshot {
        at_ns: 1_500_000_000,
        interval_ns: Some(500_012_345),
        gpus: vec![card, sleeping],
        events: vec![event],
        clients: ClientsSnapshot::default(),
    }
}

/// Three clients of the card: one that works, one that is idle beside it, and one whose process has ended; the sleeping GPU has none.
fn users() -> ClientsSnapshot {
    let engine = |class, name: &'static str, busy| ClientEngineSnapshot {
        class,
        name: name.into(),
        capacity: 1,
        busy_ratio: busy,
    };
    let memory = |total: u64, shared: u64, resident: u64| ClientMemory {
        region: "local0".into(),
        total_bytes: Reading::Value(total),
        shared_bytes: Reading::Value(shared),
        resident_bytes: Reading::Value(resident),
        active_bytes: Reading::absent(Reason::NotSupported, "not printed"),
        purgeable_bytes: Reading::Value(0),
    };
    let client = |client_id, pid, holders: &[u32], name: Option<&'static str>, engines, memory| ClientSnapshot {
        gpu: GpuId::new("0000:03:00.0"),
        key: ClientKey::Drm(client_id),
        source: "fdinfo".into(),
        client_name: name.map(Into::into),
        read_ns: match client_id {
            9 => Reading::absent(Reason::Failed, "its fdinfo could not be read"),
            _ => Reading::Value(1_500_000_000 + 10_000 * client_id),
        },
        pid,
        holders: holders.to_vec(),
        engines,
        memory,
    };
    let process =
        |pid, comm: &'static str, line: &'static str, container: Reading<Text>, cpu: Reading<f64>| ProcessSnapshot {
            process: ProcessSample {
                pid,
                start_ticks: 1,
                comm: Reading::Value(comm.into()),
                command_line: Reading::Value(line.into()),
                uid: Reading::Value(1000),
                user: Reading::Value("ada".into()),
                cgroup: Reading::Value("/user.slice/session-2.scope".into()),
                container,
                cpu_ns: Reading::Value(Counter { value: 0, at_ns: 0 }),
                rss_bytes: Reading::Value(300 << 20),
            },
            cpu_ratio: cpu,
        };
    let none = || Reading::absent(Reason::NotSupported, "not in a container");
    ClientsSnapshot {
        clients: vec![
            client(
                5,
                100,
                &[100, 101],
                Some("with, comma"),
                vec![
                    engine(EngineClass::Render, "render", Reading::Value(0.456)),
                    engine(EngineClass::VideoEnhance, "video-enhance", Reading::Value(0.001)),
                ],
                vec![memory(3 << 30, 1 << 30, 2 << 30)],
            ),
            client(6, 100, &[100], None, vec![engine(EngineClass::Render, "render", Reading::Value(0.0))], Vec::new()),
            client(
                7,
                102,
                &[102],
                None,
                vec![engine(EngineClass::Render, "render", Reading::Value(0.25))],
                vec![memory(1 << 20, 0, 1 << 20)],
            ),
            client(
                9,
                200,
                &[200],
                None,
                vec![engine(EngineClass::Render, "render", Reading::Absent(Why::FIRST_SAMPLE))],
                Vec::new(),
            ),
        ],
        processes: vec![
            process(100, "game\u{1b}[2J", "game --fullscreen", none(), Reading::Value(1.25)),
            process(101, "child", "child", none(), Reading::Value(0.0)),
            process(
                102,
                "ffmpeg",
                "",
                Reading::Value("docker:4f5ab06c53e1".into()),
                Reading::Absent(Why::FIRST_SAMPLE),
            ),
        ],
        cgroups: vec![CgroupSample {
            cgroup: "/user.slice/session-2.scope".into(),
            device_memory: Reading::Value(vec![CgroupMemory {
                gpu: GpuId::new("0000:03:00.0"),
                region: "vram0".into(),
                used_bytes: 1 << 30,
                capacity_bytes: Reading::absent(Reason::NoPermission, "dmem.capacity is hidden"),
            }]),
        }],
        always_on: Vec::new(),
        denied_processes: 3,
        gaps: vec![
            ClientsGap {
                gpu: None,
                holders: Vec::new(),
                unseen: Vec::new(),
                why: Why::new(Reason::NoPermission, "3 processes of other users cannot be read").remedy("run as root"),
            },
            ClientsGap {
                gpu: Some(GpuId::new("fb000000.gpu")),
                holders: vec![77, 4711],
                unseen: Vec::new(),
                why: Why::new(Reason::NotSupported, "the driver prints nothing about its clients in fdinfo"),
            },
        ],
        left_out: 0,
    }
}

fn with_users() -> Snapshot {
    Snapshot { clients: users(), ..snapshot() }
}

#[test]
fn procs_in_every_form() {
    let snapshot = with_users();
    for (name, query) in [
        ("procs", Query::default()),
        ("containers", Query { by_container: true, sort: Some(Sort::Busy), ..Query::default() }),
    ] {
        let procs = Procs::new(&snapshot, &query);
        golden(path(&format!("{name}.jsonl")), &written(|w| json::procs_line(w, &procs, wall())));
        golden(path(&format!("{name}.csv")), &written(|w| csv::procs_rows(w, &procs, wall())));
        let mut lines = text::Procs::new(Style::default());
        let text = written(|w| lines.sample(w, &procs));
        golden(path(&format!("{name}.txt")), &text);
        let again = written(|w| lines.sample(w, &procs));
        assert!(text.contains("3 processes") && !again.contains("3 processes"), "{again}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn an_idle_client_keeps_a_gpu_awake_when_nobody_works_on_it() {
    let mut snapshot = with_users();
    let awake = |snapshot: &Snapshot| -> Vec<Option<bool>> {
        Procs::new(snapshot, &Query::default()).rows.iter().map(|r| r.keeps_awake.get()).collect()
    };
    assert_eq!(awake(&snapshot), [Some(false); 4]);
    for gpu in &mut snapshot.gpus {
        gpu.engines = Reading::absent(Reason::NotSupported, "");
        gpu.classes = Reading::absent(Reason::NotSupported, "");
    }
    for engine in snapshot.clients.clients.iter_mut().flat_map(|c| &mut c.engines) {
        engine.busy_ratio = engine.busy_ratio.clone().map(|_| 0.0);
    }
    assert_eq!(awake(&snapshot), [Some(true), Some(true), Some(true), None]);
    snapshot.gpus[0].runtime_status = Reading::Value(RuntimeStatus::Suspended);
    assert_eq!(awake(&snapshot), [Some(false); 4]);
}

#[test]
fn a_setting_keeps_a_gpu_awake_and_no_client_does() {
    let mut snapshot = with_users();
    let gpu = snapshot.gpus[0].id.clone();
    snapshot.clients.always_on.push((gpu.clone(), AlwaysOn::PowerControl));
    let kept = |snapshot: &Snapshot| Procs::new(snapshot, &Query::default()).kept_awake.len();
    assert_eq!(kept(&snapshot), 0, "somebody works on it");
    snapshot.gpus[0].engines = Reading::absent(Reason::NotSupported, "");
    snapshot.gpus[0].classes = Reading::absent(Reason::NotSupported, "");
    for engine in snapshot.clients.clients.iter_mut().flat_map(|c| &mut c.engines) {
        engine.busy_ratio = engine.busy_ratio.clone().map(|_| 0.0);
    }
    assert_eq!(kept(&snapshot), 0, "what one client does is not known");
    snapshot.clients.clients.retain(|c| c.engines.iter().all(|e| e.busy_ratio.is_known()));
    let procs = Procs::new(&snapshot, &Query::default());
    assert_eq!(procs.kept_awake, [(&gpu, AlwaysOn::PowerControl)]);
    assert!(procs.rows.iter().all(|row| row.keeps_awake == Reading::Value(false)));
    let json = written(|w| json::procs_line(w, &procs, wall()));
    assert!(json.contains(r#""kept_awake":[{"gpu":"0000:03:00.0","by":"power_control"}]"#), "{json}");
    let csv = written(|w| csv::procs_rows(w, &procs, wall()));
    assert!(csv.contains(",0000:03:00.0,kept_awake,,power_control,,\n"), "{csv}");
    let mut lines = text::Procs::new(Style::default());
    let text = written(|w| lines.sample(w, &procs));
    assert!(text.contains("its power/control") && !text.contains("holds awake"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let again = written(|w| lines.sample(w, &procs));
    assert!(!again.contains("power/control"), "told once: {again}");
    snapshot.clients.always_on[0].1 = AlwaysOn::AutosuspendDelay;
    let changed = written(|w| lines.sample(w, &Procs::new(&snapshot, &Query::default())));
    assert!(changed.contains("autosuspend_delay_ms"), "{changed}");
    snapshot.gpus[0].runtime_status = Reading::Value(RuntimeStatus::Suspended);
    assert_eq!(kept(&snapshot), 0);
}

#[test]
fn processes_of_another_namespace_are_named_by_their_command() {
    let mut snapshot = with_users();
    let gap = snapshot.clients.gaps.last_mut().unwrap();
    gap.unseen.push("blender (uid 1000)".into());
    let said = |snapshot: &Snapshot| Procs::new(snapshot, &Query::default()).gaps().last().unwrap().1.detail;
    let both = said(&snapshot);
    let start = "processes 77, 4711 and blender (uid 1000) outside of this PID namespace hold it open with clients";
    assert!(both.starts_with(start), "{both}");
    snapshot.clients.gaps.last_mut().unwrap().holders.clear();
    let one = said(&snapshot);
    assert!(one.starts_with("blender (uid 1000) outside of this PID namespace holds it open"), "{one}");
}

#[test]
fn queries_pick_by_user_container_and_any_holder() {
    let snapshot = with_users();
    let ids = |query: Query| -> Vec<u64> {
        Procs::new(&snapshot, &query).rows.iter().map(|r| r.client.key.drm_id().unwrap()).collect()
    };
    assert_eq!(ids(Query { pids: vec![101], ..Query::default() }), [5]);
    for user in ["ada", "1000"] {
        assert_eq!(ids(Query { users: vec![user.into()], ..Query::default() }), [5, 6, 7]);
    }
    assert_eq!(ids(Query { users: vec!["root".into()], ..Query::default() }), [0; 0]);
    assert_eq!(ids(Query { containers: vec!["docker".into()], ..Query::default() }), [7]);
    assert_eq!(ids(Query { sort: Some(Sort::Busy), ..Query::default() }), [5, 7, 6, 9]);
    assert_eq!(ids(Query { sort: Some(Sort::Memory), ..Query::default() }), [5, 7, 6, 9]);
}

fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn path(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn json_lines() {
    let snapshot = snapshot();
    let text = written(|w| {
        json::event_line(w, &snapshot.events[0], wall())?;
        json::stat_line(w, &snapshot, None, wall())
    });
    assert_eq!(text.lines().count(), 2);
    golden(path("stat.jsonl"), &text);
}

#[test]
fn csv_rows() {
    let text = written(|w| {
        csv::stat_header(w)?;
        csv::stat_rows(w, &snapshot(), wall())
    });
    golden(path("stat.csv"), &text);
}

#[test]
fn text_block() {
    let snapshot = snapshot();
    let mut stat = text::Stat::new(Style::default());
    let name = |id: &GpuId| (id.as_str() == "0000:03:00.0").then_some("Arc A380");
    let text = written(|w| {
        stat.event(w, &snapshot.events[0])?;
        stat.sample(w, &snapshot, name, "/sys/class/drm")
    });
    golden(path("stat.txt"), &text);
    // What is not known is told once.
    let again = written(|w| stat.sample(w, &snapshot, name, "/sys/class/drm"));
    assert!(text.contains("not known:") && !again.contains("not known:"), "{again}");
}

#[test]
fn colour_is_the_only_difference_of_coloured_text() {
    let snapshot = snapshot();
    let in_style = |style| written(|w| text::Stat::new(style).sample(w, &snapshot, |_| None, ""));
    let coloured = in_style(Style { color: true, ..Style::default() });
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, escape)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = escape.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_ne!(coloured, plain);
    assert_eq!(plain, in_style(Style::default()));
}

#[test]
fn errors_of_the_writer_keep_their_kind() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = json::stat_line(&mut Closed, &snapshot(), None, wall()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
