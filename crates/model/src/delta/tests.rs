use super::*;
use crate::{RuntimeStatus, TemperatureSample};

const S: u64 = 1_000_000_000;

fn device(live: bool) -> DeviceSample {
    let absent = || Reading::absent(Reason::NotSupported, "not here");
    DeviceSample {
        id: GpuId::new("0000:00:02.0"),
        driver: "i915".into(),
        live,
        perturbs: false,
        runtime_status: Reading::Value(RuntimeStatus::Active),
        engines: Reading::Value(
            ["vcs0", "vcs1"]
                .into_iter()
                .enumerate()
                .map(|(i, name)| EngineSample {
                    name: name.into(),
                    class: EngineClass::Video,
                    instance: i as u16,
                    gt: Reading::Value(0),
                    source: "pmu".into(),
                    busy: Reading::Value(Share { part: 0, whole: 0 }),
                    wait: Reading::absent(Reason::NotCounting, "not opened"),
                    sema: Reading::absent(Reason::NotCounting, "not opened"),
                })
                .collect(),
        ),
        classes: Reading::absent(Reason::NotSupported, "engines are counted"),
        gts: vec![GtSample {
            gt: 0,
            actual: Reading::Value(Clock::Now(1.15e9)),
            requested: Reading::Value(Clock::Megacycles(Counter { value: 0, at_ns: 0 })),
            min_hz: Reading::Value(1e8),
            max_hz: Reading::Value(1.3e9),
            idle_ns: Reading::Value(Counter { value: 0, at_ns: 0 }),
            throttle: Reading::Value(Default::default()),
        }],
        power: PowerSample {
            gpu_uj: Reading::Value(Counter { value: 0, at_ns: 0 }),
            card_uj: absent(),
            package_uj: absent(),
            psys_uj: absent(),
            longest_gap_ns: None,
        },
        temperatures: Reading::Value(vec![TemperatureSample { label: "pkg".into(), celsius: Reading::Value(45.0) }]),
        fans: absent2(),
        memory: absent2(),
        bandwidth: BandwidthSample { read_bytes: absent(), write_bytes: absent() },
    }
}

fn absent2<T>() -> Reading<T> {
    Reading::absent(Reason::NoHardware, "not here")
}

fn sample(at_ns: u64, gpu: DeviceSample) -> Sample {
    Sample { at_ns, gpus: vec![gpu], ..Sample::default() }
}

fn at(t: u64, busy0: u64, busy1: u64, live: bool) -> DeviceSample {
    let mut d = device(live);
    let Reading::Value(engines) = &mut d.engines else { panic!() };
    engines[0].busy = Reading::Value(Share { part: busy0, whole: t });
    engines[1].busy = Reading::Value(Share { part: busy1, whole: t });
    d.gts[0].idle_ns = Reading::Value(Counter { value: t / 4, at_ns: t });
    d.gts[0].requested = Reading::Value(Clock::Megacycles(Counter { value: t / S * 700, at_ns: t }));
    d.power.gpu_uj = Reading::Value(Counter { value: t / S * 5_000_000, at_ns: t });
    d
}

fn steps(samples: &[Sample]) -> Snapshot {
    let mut base = Baseline::new();
    let mut out = Snapshot::default();
    for s in samples {
        base.step(s, &mut out);
    }
    out
}

fn reason<T>(r: &Reading<T>) -> Reason {
    r.why().expect("absent").reason
}

#[test]
fn first_sample_has_gauges_and_no_rates() {
    let out = steps(&[sample(S, at(S, 1, 1, true))]);
    assert_eq!(out.interval_ns, None);
    let g = &out.gpus[0];
    assert_eq!(reason(&g.engines.value().unwrap()[0].busy_ratio), Reason::FirstSample);
    assert_eq!(g.gts[0].actual_hz, Reading::Value(1.15e9));
    assert_eq!(reason(&g.gts[0].requested_hz), Reason::FirstSample);
    assert_eq!(reason(&g.power.gpu_watts), Reason::FirstSample);
    assert_eq!(g.temperatures.value().unwrap()[0].celsius, Reading::Value(45.0));
}

#[test]
fn rates_come_from_each_counters_own_time() {
    let out = steps(&[sample(S, at(S, 0, 0, true)), sample(3 * S, at(3 * S, S, S / 2, true))]);
    let g = &out.gpus[0];
    let engines = g.engines.value().unwrap();
    assert_eq!(engines[0].busy_ratio, Reading::Value(0.5));
    assert_eq!(engines[1].busy_ratio, Reading::Value(0.25));
    assert_eq!(g.gts[0].idle_ratio, Reading::Value(0.25));
    assert_eq!(g.gts[0].requested_hz, Reading::Value(700e6));
    assert_eq!(g.power.gpu_watts, Reading::Value(5.0));
    assert_eq!(out.interval_ns, Some(2 * S));
    assert_eq!(reason(&engines[0].wait_ratio), Reason::NotCounting);
}

#[test]
fn class_of_counted_engines_is_their_mean() {
    let out = steps(&[sample(S, at(S, 0, 0, true)), sample(2 * S, at(2 * S, S, 0, true))]);
    let classes = out.gpus[0].classes.value().unwrap();
    assert_eq!(classes.len(), 1);
    assert_eq!((classes[0].class, classes[0].capacity.get()), (EngineClass::Video, Some(2)));
    assert_eq!(classes[0].busy_ratio, Reading::Value(0.5));
}

#[test]
fn class_with_one_unknown_engine_is_unknown() {
    let mut second = at(2 * S, S, 0, true);
    if let Reading::Value(e) = &mut second.engines {
        e[1].busy = Reading::absent(Reason::NoPermission, "refused");
    }
    let out = steps(&[sample(S, at(S, 0, 0, true)), sample(2 * S, second)]);
    let classes = out.gpus[0].classes.value().unwrap();
    assert_eq!(reason(&classes[0].busy_ratio), Reason::NoPermission);
}

#[test]
fn rate_after_counter_reset_is_absent() {
    let out = steps(&[sample(5 * S, at(5 * S, 4 * S, 0, true)), sample(6 * S, at(6 * S, S, 0, true))]);
    assert_eq!(reason(&out.gpus[0].engines.value().unwrap()[0].busy_ratio), Reason::FirstSample);
}

#[test]
fn counters_of_a_captured_tree_stand_still() {
    let mut again = at(S, 7, 7, false);
    again.power.gpu_uj = Reading::Value(Counter { value: 5_000_000, at_ns: 2 * S });
    let out = steps(&[sample(S, at(S, 7, 7, false)), sample(2 * S, again)]);
    let g = &out.gpus[0];
    assert_eq!(reason(&g.engines.value().unwrap()[0].busy_ratio), Reason::NotCounting);
    assert_eq!(reason(&g.power.gpu_watts), Reason::NotCounting);
    assert_eq!(reason(&g.gts[0].idle_ratio), Reason::NotCounting);
    assert_eq!(g.gts[0].actual_hz, Reading::Value(1.15e9));
}

#[test]
fn energy_that_never_moved_is_not_zero_watts_but_one_that_did_may_rest() {
    let still = |t: u64, uj: u64| {
        let mut d = at(t, 0, 0, true);
        d.power.gpu_uj = Reading::Value(Counter { value: uj, at_ns: t });
        sample(t, d)
    };
    let out = steps(&[still(S, 9), still(2 * S, 9)]);
    assert_eq!(reason(&out.gpus[0].power.gpu_watts), Reason::NotCounting);
    let out = steps(&[still(S, 9), still(2 * S, 9_000_009), still(3 * S, 9_000_009)]);
    assert_eq!(out.gpus[0].power.gpu_watts, Reading::Value(0.0));
}

#[test]
fn power_over_a_gap_that_may_hide_a_turn_of_the_counter_is_not_known() {
    let long = |t: u64| {
        let mut d = at(t, 0, 0, true);
        d.power.longest_gap_ns = Some(240 * S);
        sample(t, d)
    };
    let out = steps(&[long(S), long(240 * S)]);
    assert_eq!(out.gpus[0].power.gpu_watts, Reading::Value(5.0));
    let out = steps(&[long(S), long(1800 * S)]);
    assert_eq!(reason(&out.gpus[0].power.gpu_watts), Reason::NotCounting);
}

#[test]
fn a_reading_left_out_lengthens_the_next_interval() {
    let mut paused = at(2 * S, 0, 0, true);
    paused.power.gpu_uj = Reading::absent(Reason::NotCounting, "left alone");
    let mut later = at(4 * S, 0, 0, true);
    later.power.gpu_uj = Reading::Value(Counter { value: 5_000_000 + 6_000_000, at_ns: 4 * S });
    let mut base = Baseline::new();
    let mut out = Snapshot::default();
    base.step(&sample(S, at(S, 0, 0, true)), &mut out);
    base.step(&sample(2 * S, paused), &mut out);
    assert_eq!(reason(&out.gpus[0].power.gpu_watts), Reason::NotCounting);
    base.step(&sample(4 * S, later), &mut out);
    // 6 J over the 3 s since the last reading.
    assert_eq!(out.gpus[0].power.gpu_watts, Reading::Value(2.0));
}

#[test]
fn a_device_that_slept_starts_anew() {
    let mut asleep = at(2 * S, 0, 0, true);
    asleep.power.gpu_uj = Reading::Absent(Why::ASLEEP);
    let out = steps(&[sample(S, at(S, 0, 0, true)), sample(2 * S, asleep), sample(60 * S, at(60 * S, 0, 0, true))]);
    assert_eq!(reason(&out.gpus[0].power.gpu_watts), Reason::FirstSample);
}

#[test]
fn a_device_that_left_and_returned_starts_anew() {
    let gone = Sample { at_ns: 2 * S, ..Sample::default() };
    let out = steps(&[sample(S, at(S, 0, 0, true)), gone, sample(3 * S, at(3 * S, S, 0, true))]);
    assert_eq!(reason(&out.gpus[0].engines.value().unwrap()[0].busy_ratio), Reason::FirstSample);
}

#[test]
fn every_absent_field_is_listed_by_its_path() {
    let out = steps(&[sample(S, at(S, 0, 0, true)), sample(2 * S, at(2 * S, S, 0, true))]);
    let paths: Vec<String> = out.gpus[0].unavailable().into_iter().map(|u| u.metric).collect();
    assert!(paths.contains(&"engines[vcs1].wait_percent".to_string()), "{paths:?}");
    assert!(paths.contains(&"power.card_watts".to_string()));
    assert!(paths.contains(&"fans".to_string()));
    assert!(!paths.iter().any(|p| p.contains("busy_percent")));
}

mod clients {
    use super::super::Baseline;
    use super::S;
    use crate::{
        ClientEngineSample, ClientKey, ClientSample, ClientsSample, EngineClass, GpuId, Reading, Reason, Sample, Share,
        Snapshot, Why,
    };

    fn tick(at_ns: u64, busy: Reading<Share>) -> Sample {
        let client = ClientSample {
            gpu: GpuId::new("0000:03:00.0"),
            key: ClientKey::Drm(7),
            source: "fdinfo".into(),
            client_name: None,
            read_ns: Reading::Value(at_ns),
            pid: 100,
            holders: vec![100, 200],
            engines: vec![ClientEngineSample { class: EngineClass::Render, name: "render".into(), capacity: 1, busy }],
            memory: Vec::new(),
        };
        let clients = ClientsSample { clients: vec![client], ..ClientsSample::default() };
        Sample { at_ns, clients, ..Sample::default() }
    }

    fn uses(ticks: &[Sample]) -> Vec<Reading<f64>> {
        let (mut base, mut out) = (Baseline::new(), Snapshot::default());
        let busy = |s: &Sample| {
            base.step(s, &mut out);
            out.clients.clients[0].engines[0].busy_ratio.clone()
        };
        ticks.iter().map(busy).collect()
    }

    fn share(part: u64, whole: u64) -> Reading<Share> {
        Reading::Value(Share { part, whole })
    }

    #[test]
    fn first_sight_of_a_client_is_no_use() {
        let uses = uses(&[tick(S, share(500, 1000)), tick(2 * S, share(600, 1400))]);
        assert_eq!(uses[0].why().unwrap().reason, Reason::FirstSample);
        assert_eq!(uses[1], Reading::Value(0.25));
    }

    #[test]
    fn a_value_that_steps_back_stands_until_it_is_passed() {
        let uses = uses(&[tick(S, share(500, 1000)), tick(2 * S, share(450, 2000)), tick(3 * S, share(600, 3000))]);
        assert_eq!(uses[1], Reading::Value(0.0));
        assert_eq!(uses[2], Reading::Value(0.1));
    }

    #[test]
    fn ticks_that_step_back_are_a_new_beginning() {
        let uses = uses(&[tick(S, share(500, 9000)), tick(2 * S, share(10, 100)), tick(3 * S, share(60, 200))]);
        assert_eq!(uses[1].why().unwrap().reason, Reason::FirstSample);
        assert_eq!(uses[2], Reading::Value(0.5));
    }

    #[test]
    fn a_client_left_alone_goes_on_and_one_that_slept_begins_anew() {
        let left = Reading::absent(Reason::NotCounting, "left alone");
        let alone = uses(&[tick(S, share(0, 1000)), tick(2 * S, left), tick(3 * S, share(1000, 3000))]);
        assert_eq!(alone[2], Reading::Value(0.5));
        let slept =
            uses(&[tick(S, share(0, 1000)), tick(2 * S, Reading::Absent(Why::ASLEEP)), tick(3 * S, share(1000, 3000))]);
        assert_eq!(slept[2].why().unwrap().reason, Reason::FirstSample);
    }
}
