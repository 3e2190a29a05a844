// guest: -g i915,i915-discrete,i915-mtl,xe,xe-integrated -t 200
//! Frequency, idle residency, power, temperature, fans and throttle reasons, discrete and integrated, one GT and two, against the
//! module's truth where this kernel's driver offers them, and absent with the reason elsewhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::{Stream, gpu, gt, is_sample, why};
use gpuscope_testbed::{Gpu, Load, Truth, gpus, kernel, set};
use serde_json::Value;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A rate over the whole run, as the mean of the samples' values weighted by their intervals.
fn mean(samples: &[Value], g: &Gpu, pick: impl Fn(&Value) -> Option<f64>) -> Option<f64> {
    let (mut sum, mut time) = (0.0, 0.0);
    for s in samples {
        let seconds = s["interval_s"].as_f64()?;
        sum += pick(gpu(s, &g.bdf)?)? * seconds;
        time += seconds;
    }
    (time > 0.0).then(|| sum / time)
}

/// Whether the kernel's own file is there: what the driver of this kernel offers.
fn offers(g: &Gpu, pattern: &str) -> bool {
    let device = format!("/sys/bus/pci/devices/{}", g.bdf);
    match pattern.strip_prefix("hwmon/") {
        Some(file) => std::fs::read_dir(format!("{device}/hwmon"))
            .map(|all| all.flatten().any(|h| h.path().join(file).exists()))
            .unwrap_or(false),
        None => Path::new(&device).join(pattern).exists(),
    }
}

fn close(what: &str, ours: f64, truth: f64, table: &mut Vec<String>, faults: &mut Vec<String>) {
    let off = if truth == 0.0 { ours.abs() } else { 100.0 * (ours - truth).abs() / truth };
    table.push(format!("{what:<52} {truth:>12.3} {ours:>12.3} {off:>8.2} %"));
    if off > 2.0 {
        faults.push(format!("{what}: {ours} where the truth is {truth}"));
    }
}

#[test]
#[ignore = "needs the testbed's guest"]
fn values_equal_the_modules_truth_or_say_why_not() {
    let gpus = gpus();
    let mut loads = Vec::new();
    for g in &gpus {
        let gts = Truth::read(&g.bdf).gts.len();
        for n in 0..gts {
            set(&g.bdf, &format!("gt{n} act_mhz {}", 900 + 100 * n));
            set(&g.bdf, &format!("gt{n} req_mhz {}", 1000 + 100 * n));
        }
        set(&g.bdf, "temp 61000");
        set(&g.bdf, "fan 1500");
        set(&g.bdf, &format!("gt{} throttle pl1 1", gts - 1));
        loads.push(Load::start(&g.render, "rcs0", 40.0, 4000, 60.0));
        loads.push(Load::start(&g.render, "vcs0", 25.0, 4000, 60.0));
    }
    thread::sleep(Duration::from_secs(1));
    let mut stream = Stream::start(&["stat", "--json", "--interval", "1s", "--count", "13"]);
    let (mut samples, mut truths): (Vec<Value>, Vec<Vec<Truth>>) = (Vec::new(), Vec::new());
    // The first line ends the first interval: the books of the run begin with it.
    while let Some(line) = stream.next(Duration::from_secs(20)) {
        if is_sample(&line) {
            samples.push(line);
            truths.push(gpus.iter().map(|g| Truth::read(&g.bdf)).collect());
        }
    }
    drop(loads);
    let measured = samples.split_off(1);
    let (mut table, mut faults) = (Vec::new(), Vec::new());
    for (i, g) in gpus.iter().enumerate() {
        let (first, last) = (&truths[0][i], &truths[truths.len() - 1][i]);
        let ns = (last.monotonic_ns - first.monotonic_ns) as f64;
        let seen = gpu(measured.last().unwrap(), &g.bdf).unwrap();
        let name = |what: &str| format!("{} {} {what}", kernel(), g.identity);
        assert_eq!(seen["frequency"].as_array().unwrap().len(), last.gts.len(), "{}: {seen}", g.identity);

        for (n, truth) in last.gts.iter().enumerate() {
            // Whether a GT runs or is idle changes from one moment to the next: every reading is one of the two truths.
            let f = gt(seen, "frequency", n as u64).unwrap();
            for s in &measured {
                let f = gt(gpu(s, &g.bdf).unwrap(), "frequency", n as u64).unwrap();
                let act = f["actual_mhz"].as_f64().unwrap_or_else(|| panic!("{f}: {}", seen["unavailable"]));
                if act != 0.0 && act != truth.act_mhz as f64 {
                    faults.push(name(&format!("gt{n} actual {act} is neither 0 nor {}", truth.act_mhz)));
                }
            }
            let ran = measured
                .iter()
                .any(|s| gt(gpu(s, &g.bdf).unwrap(), "frequency", n as u64).unwrap()["actual_mhz"] != 0.0);
            table.push(format!(
                "{:<52} ran in some samples: {ran}",
                name(&format!("gt{n} actual_mhz {}", truth.act_mhz))
            ));
            // i915 reads the requested frequency only while the GPU is in use: idle, it is not known.
            let mut requested = None;
            for s in &measured {
                let seen = gpu(s, &g.bdf).unwrap();
                match gt(seen, "frequency", n as u64).unwrap()["requested_mhz"].as_f64() {
                    Some(mhz) => requested = Some(mhz),
                    None => assert_eq!(
                        why(seen, &format!("frequency[{n}].requested_mhz")).unwrap()["reason"],
                        "not_counting"
                    ),
                }
            }
            match requested {
                Some(mhz) => {
                    close(&name(&format!("gt{n} requested_mhz")), mhz, truth.req_mhz as f64, &mut table, &mut faults)
                }
                None => faults.push(name(&format!("gt{n} requested_mhz: never known"))),
            }
            let throttled = n + 1 == last.gts.len();
            let reasons: Vec<&str> = f["throttle"]
                .as_array()
                .unwrap_or_else(|| panic!("{f}: {}", seen["unavailable"]))
                .iter()
                .filter_map(Value::as_str)
                .collect();
            assert_eq!(reasons, if throttled { vec!["pl1"] } else { vec![] }, "{} gt{n}", g.identity);
            let idle = 100.0 * (truth.rc6_ns - first.gts[n].rc6_ns) as f64 / ns;
            match mean(&measured, g, |d| gt(d, "rc6", n as u64)?["residency_percent"].as_f64()) {
                Some(ours) => close(&name(&format!("gt{n} rc6 residency")), ours, idle, &mut table, &mut faults),
                None => faults.push(name(&format!("gt{n} rc6 absent: {}", seen["unavailable"]))),
            }
        }

        let joules = |a: u64, b: u64| (b - a) as f64 / 1e6 / (ns / 1e9);
        for (field, file, truth) in [
            ("card_watts", "hwmon/energy1_input", joules(first.energy1_uj, last.energy1_uj)),
            ("package_watts", "hwmon/energy2_input", joules(first.energy2_uj, last.energy2_uj)),
        ] {
            // i915 has one channel, which is the package's register (PCU_PACKAGE_ENERGY_STATUS in i915_hwmon.c).
            let (file, truth) = match (g.driver(), field) {
                ("i915", "card_watts") => ("hwmon/none", truth),
                ("i915", _) => ("hwmon/energy1_input", joules(first.energy1_uj, last.energy1_uj)),
                _ => (file, truth),
            };
            match (offers(g, file), mean(&measured, g, |d| d["power"][field].as_f64())) {
                (true, Some(ours)) => close(&name(field), ours, truth, &mut table, &mut faults),
                (false, None) => {
                    let path = format!("power.{field}");
                    let entry = why(seen, &path).unwrap_or_else(|| panic!("{}: no reason for {path}", g.identity));
                    table.push(format!("{:<52} absent: {} ({})", name(field), entry["reason"], entry["detail"]));
                }
                (offered, value) => faults.push(name(&format!("{field}: offered {offered}, value {value:?}"))),
            }
        }
        for (list, file, field, truth) in [
            (
                "temperature",
                if g.driver() == "xe" { "hwmon/temp2_input" } else { "hwmon/temp1_input" },
                "celsius",
                61.0,
            ),
            ("fans", "hwmon/fan1_input", "rpm", 1500.0),
        ] {
            let value = seen[list].as_array().and_then(|a| a.first()).and_then(|e| e[field].as_f64());
            match (offers(g, file), value) {
                (true, Some(ours)) => close(&name(list), ours, truth, &mut table, &mut faults),
                (false, None) => {
                    let entry =
                        why(seen, list).unwrap_or_else(|| panic!("{}: no reason for {list}: {seen}", g.identity));
                    table.push(format!("{:<52} absent: {} ({})", name(list), entry["reason"], entry["detail"]));
                }
                (offered, value) => faults.push(name(&format!("{list}: offered {offered}, value {value:?}"))),
            }
        }
    }
    println!("{:<52} {:>12} {:>12} {:>10}", "value", "truth", "ours", "off");
    for row in table {
        println!("{row}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
#[ignore = "needs the testbed's guest"]
fn wait_and_semaphore_and_mean_frequency_on_request_start_the_kernels_timer() {
    let gpus = gpus();
    let g = gpus.iter().find(|g| g.identity == "i915").unwrap();
    set(&g.bdf, "wait_permille 250");
    set(&g.bdf, "gt0 act_mhz 1150");
    let load = Load::start(&g.render, "vcs0", 60.0, 4000, 20.0);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(Truth::read(&g.bdf).pmu_sampling_events, 0);
    let mut stream =
        Stream::start(&["stat", "--json", "--gpu", &g.bdf, "--wait", "--sema", "--pmu-frequency", "--interval", "1s"]);
    let before = stream.next(Duration::from_secs(20)).unwrap();
    let first = Truth::read(&g.bdf);
    let line = stream.next(Duration::from_secs(20)).unwrap();
    let truth = Truth::read(&g.bdf);
    assert!(truth.pmu_sampling_events > 0, "the module sees the sampling events open");
    let seen = gpu(&line, &g.bdf).unwrap();
    let engine = common::engine(seen, "vcs0").unwrap();
    let busy = engine["busy_percent"].as_f64().unwrap();
    let wait = engine["wait_percent"].as_f64().unwrap_or_else(|| panic!("{seen}"));
    println!("{}: vcs0 busy {busy}, wait {wait}, before {}", kernel(), gpu(&before, &g.bdf).unwrap()["engines"]);
    assert!((wait - busy * 0.25).abs() < 1.0, "wait {wait} of busy {busy}");
    assert!(engine["sema_percent"].is_number());
    // The PMU's integral stands still while the GT is idle: the mean is the frequency times the share of time it ran.
    let integral = truth.gts[0].act_integral - first.gts[0].act_integral;
    let ran = integral as f64 / ((truth.monotonic_ns - first.monotonic_ns) as f64 / 1e3);
    let ours = gt(seen, "frequency", 0).unwrap()["actual_mhz"].as_f64().unwrap();
    println!("{}: mean actual {ours} MHz, the books say {ran:.1}", kernel());
    assert!((ours - ran).abs() < 0.1 * ran, "{ours} where the books say {ran}");
    stream.interrupt();
    assert_eq!(Truth::read(&g.bdf).pmu_sampling_events, 0, "closed with the program");
    drop(load);
}
