use super::{head, i915, xe};
use crate::fdinfo::classes::{ClassSums, ClientUse};
use crate::fdinfo::{FdInfo, parse_fdinfo};
use gpuscope_model::{ClassSample, EngineClass, Reading, Reason, Why};

const S: u64 = 1_000_000_000;

/// One reading: time in seconds, and texts with the time in seconds at which each was read.
fn update(sums: &mut ClassSums, at: u64, texts: &[(f64, String)]) -> bool {
    let infos: Vec<(u64, FdInfo)> = texts
        .iter()
        .map(|(read, text)| {
            let mut info = FdInfo::default();
            parse_fdinfo(text, &mut info);
            ((read * 1e9) as u64, info)
        })
        .collect();
    let largest = infos.iter().filter_map(|(_, i)| i.client_id).max().unwrap_or(0);
    let uses = infos.iter().map(|(read_ns, info)| ClientUse { id: info.client_id.unwrap(), read_ns: *read_ns, info });
    sums.update(at * S, largest, uses)
}

fn samples(sums: &ClassSums) -> Reading<Vec<ClassSample>> {
    let mut out = Reading::Absent(Why::FIRST_SAMPLE);
    sums.fill(None, false, &mut out);
    out
}

fn class(sums: &ClassSums, class: EngineClass) -> (u64, u64) {
    let samples = samples(sums);
    let sample = samples.value().unwrap().iter().find(|s| s.class == class).unwrap();
    let share = sample.busy.get().unwrap();
    (share.part, share.whole)
}

#[test]
fn i915_sums_two_clients_over_the_capacity() {
    let mut sums = ClassSums::new(&[]);
    assert!(!update(&mut sums, 1, &[(1.0, i915(5, 900 * S, 0)), (1.0, i915(6, 0, 50 * S))]));
    assert_eq!(class(&sums, EngineClass::Video), (0, 0));
    assert!(update(&mut sums, 2, &[(2.0, i915(5, 900 * S + S / 2, S)), (2.0, i915(6, 0, 50 * S + S / 4))]));
    assert_eq!(class(&sums, EngineClass::Video), (S + S / 4, 2 * S));
    assert_eq!(class(&sums, EngineClass::Render), (S / 2, S));
    assert_eq!(class(&sums, EngineClass::VideoEnhance), (0, S));
}

#[test]
fn xe_cycles_become_time_through_the_clock_of_the_engine() {
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, xe(5, 100, 0, 1_000))]);
    update(&mut sums, 3, &[(3.0, xe(5, 600, 500, 2_000))]);
    assert_eq!(class(&sums, EngineClass::Render), (S, 2 * S));
    assert_eq!(class(&sums, EngineClass::Video), (S, 4 * S));
}

#[test]
fn a_client_read_late_is_scaled_to_the_common_interval() {
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, i915(5, 0, 0))]);
    // Busy all of the 1.25 s between its own readings: all of the 1 s between refreshes.
    update(&mut sums, 2, &[(2.25, i915(5, S + S / 4, 0))]);
    assert_eq!(class(&sums, EngineClass::Render), (S, S));
}

#[test]
fn a_value_that_steps_back_waits_until_it_is_passed() {
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, i915(5, 10 * S, 0))]);
    update(&mut sums, 2, &[(2.0, i915(5, 9 * S, 0))]);
    assert_eq!(class(&sums, EngineClass::Render), (0, S));
    update(&mut sums, 3, &[(3.0, i915(5, 10 * S + 7, 0))]);
    assert_eq!(class(&sums, EngineClass::Render), (7, 2 * S));
}

#[test]
fn a_clock_that_steps_back_gives_a_new_base() {
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, xe(5, 5_000, 0, 100_000))]);
    update(&mut sums, 2, &[(2.0, xe(5, 10, 0, 1_000))]);
    assert_eq!(class(&sums, EngineClass::Render), (0, S));
    update(&mut sums, 3, &[(3.0, xe(5, 510, 0, 2_000))]);
    assert_eq!(class(&sums, EngineClass::Render), (S / 2, 2 * S));
}

#[test]
fn a_client_opened_in_the_interval_counts_whole_and_an_older_one_from_now_on() {
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, i915(50, 0, 0))]);
    update(&mut sums, 2, &[(2.0, i915(50, 0, 0)), (2.0, i915(51, S / 2, 0)), (2.0, i915(7, S / 3, 0))]);
    assert_eq!(class(&sums, EngineClass::Render), (S / 2, S));
    // Found late: it has used more than the interval holds.
    update(&mut sums, 3, &[(3.0, i915(52, 40 * S, 0))]);
    assert_eq!(class(&sums, EngineClass::Render), (S / 2, 2 * S));
    // Cycles of a new client, through the clock that another one showed.
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, xe(5, 0, 0, 1_000))]);
    update(&mut sums, 2, &[(2.0, xe(5, 0, 0, 2_000)), (2.0, xe(6, 250, 0, 2_000))]);
    assert_eq!(class(&sums, EngineClass::Render), (S / 4, S));
}

#[test]
fn after_sleep_the_sums_stay_and_baselines_are_new() {
    let mut sums = ClassSums::new(&[(EngineClass::Render, Some(1))]);
    update(&mut sums, 1, &[(1.0, i915(5, 0, 0))]);
    update(&mut sums, 2, &[(2.0, i915(5, S, 0))]);
    sums.rebase();
    update(&mut sums, 60, &[(60.0, i915(5, 9 * S, 0)), (60.0, i915(6, S, 0))]);
    assert_eq!(class(&sums, EngineClass::Render), (S, S));
    update(&mut sums, 61, &[(61.0, i915(5, 10 * S, 0)), (61.0, i915(6, S, 0))]);
    assert_eq!(class(&sums, EngineClass::Render), (2 * S, 2 * S));
}

/// amdgpu leaves out engines never used: `amdgpu_show_fdinfo`.
#[test]
fn an_amdgpu_engine_that_appears_began_at_zero() {
    let mut sums = ClassSums::new(&[]).hiding_unused(true);
    let amd = |more: &str| head("amdgpu", 5, "0000:05:00.0") + more;
    update(&mut sums, 1, &[(1.0, amd(""))]);
    update(&mut sums, 2, &[(2.0, amd("drm-engine-gfx:\t7 ns\n"))]);
    assert_eq!(class(&sums, EngineClass::Render), (7, S));
}

#[test]
fn nothing_is_zero_that_cannot_be_known() {
    let why = |sums: &ClassSums, incomplete: Option<&Why>, mute| {
        let mut out = Reading::Value(Vec::new());
        sums.fill(incomplete, mute, &mut out);
        out.why().map(|w| w.reason)
    };
    let mut known = ClassSums::new(&[(EngineClass::Render, Some(1))]);
    assert_eq!(why(&known, None, false), Some(Reason::FirstSample));
    update(&mut known, 1, &[]);
    update(&mut known, 2, &[]);
    assert_eq!(class(&known, EngineClass::Render), (0, S));
    let denied = Why::new(Reason::NoPermission, "3 processes");
    assert_eq!(why(&known, Some(&denied), false), Some(Reason::NoPermission));
    assert_eq!(why(&known, None, true), Some(Reason::NotSupported));

    let mut unknown = ClassSums::new(&[]);
    update(&mut unknown, 1, &[]);
    assert_eq!(why(&unknown, None, false), Some(Reason::NotCounting));

    // A virtual function of xe prints memory alone.
    let mut without = ClassSums::new(&[(EngineClass::Render, Some(1))]);
    update(&mut without, 1, &[(1.0, head("xe", 5, "0000:03:00.1"))]);
    assert_eq!(why(&without, None, false), Some(Reason::NotSupported));
}

fn absent(sums: &ClassSums) -> Why {
    samples(sums).why().cloned().expect("a reason")
}

/// `amdgpu_show_fdinfo` prints no engine for a client that has only opened the device.
#[test]
fn amdgpu_clients_that_have_used_nothing_are_not_taken_for_a_driver_that_counts_nothing() {
    let mut sums = ClassSums::new(&[]).hiding_unused(true);
    let amd = |more: &str| head("amdgpu", 5, "0000:05:00.0") + more;
    update(&mut sums, 1, &[(1.0, amd(""))]);
    assert_eq!(absent(&sums).reason, Reason::NotCounting);
    assert!(absent(&sums).detail.as_str().contains("no client has used an engine yet"));
    update(&mut sums, 2, &[(2.0, amd("drm-engine-gfx:\t7 ns\n"))]);
    update(&mut sums, 3, &[(3.0, amd("drm-engine-gfx:\t7 ns\n"))]);
    assert_eq!(class(&sums, EngineClass::Render), (7, 2 * S));
}

/// `panthor_gpu_show_fdinfo`, drivers/gpu/drm/panthor/panthor_drv.c, with 0, 1 and 3 in `profiling`.
#[test]
fn engines_that_are_named_and_not_counted_have_profiling_for_a_remedy() {
    let text = |more: &str| head("panthor", 5, "") + more + "drm-maxfreq-panthor:\t1000000000 Hz\n";
    let mut sums = ClassSums::new(&[]);
    for (at, more) in [(1, ""), (2, "drm-cycles-panthor:\t4\n")] {
        update(&mut sums, at, &[(at as f64, text(more))]);
        let why = absent(&sums);
        assert_eq!(why.reason, Reason::NotCounting);
        assert!(why.remedy.unwrap().as_str().contains("profiling"));
    }
    // Switched on, for a client that is known already.
    let counted = |ns: u64| text(&format!("drm-engine-panthor:\t{ns} ns\ndrm-cycles-panthor:\t9\n"));
    update(&mut sums, 3, &[(3.0, counted(50))]);
    update(&mut sums, 4, &[(4.0, counted(57))]);
    assert_eq!(class(&sums, EngineClass::Other).0, 7);
    // And off: what is used from now on is not known.
    update(&mut sums, 5, &[(5.0, text(""))]);
    assert_eq!(absent(&sums).reason, Reason::NotCounting);
}

/// `show_run_ticks` (drivers/gpu/drm/xe/xe_drm_client.c) prints no engines when it cannot wake the GT.
#[test]
fn a_reading_without_engines_is_unknown_and_the_next_one_makes_up_for_it() {
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, xe(5, 0, 0, 1_000)), (1.0, xe(6, 0, 0, 1_000))]);
    update(&mut sums, 2, &[(2.0, head("xe", 5, "0000:03:00.0")), (2.0, xe(6, 250, 0, 2_000))]);
    assert_eq!(absent(&sums).reason, Reason::NotCounting);
    // One second of two for the first client, a quarter of each second for the other.
    update(&mut sums, 3, &[(3.0, xe(5, 1_000, 0, 3_000)), (3.0, xe(6, 500, 0, 3_000))]);
    assert_eq!(class(&sums, EngineClass::Render), (S + S / 2, 2 * S));
}

#[test]
fn engines_of_other_names_keep_the_drivers_word() {
    let mut sums = ClassSums::new(&[]);
    update(&mut sums, 1, &[(1.0, head("panfrost", 1, "") + "drm-engine-fragment:\t5 ns\n")]);
    let reading = samples(&sums);
    let sample = &reading.value().unwrap()[0];
    assert_eq!((sample.class, sample.name.as_str(), sample.capacity.get()), (EngineClass::Other, "fragment", Some(1)));
}
