use super::*;
use crate::testing::{Tree, user_at};

/// The machine's own software PMU: the only one that is there everywhere.
fn software(roots: &Roots) -> Option<Pmu> {
    match Pmu::open(roots, "software") {
        Ok(pmu) => Some(pmu),
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            None
        }
    }
}

fn open_or_skip(roots: &Roots, pmu: &Pmu, configs: &[u64]) -> Option<CounterGroup> {
    let rights = Rights::read(roots);
    let attrs: Vec<_> = configs.iter().map(|n| pmu.encode(&[("config", *n)]).unwrap()).collect();
    match CounterGroup::open(roots, &rights, pmu, &attrs) {
        Ok(group) => Some(group),
        Err(why) => {
            assert_ne!(why.reason, Reason::Failed, "{why}");
            eprintln!("SKIPPED: {why}");
            None
        }
    }
}

#[test]
fn captured_tree_does_not_count() {
    let tree = Tree::new();
    tree.pmu("i915", "type", "18\n").pmu("i915", "events/rcs0-busy", "config=0x0\n");
    let pmu = Pmu::open(&tree.roots(), "i915").unwrap();
    let attr = pmu.event("rcs0-busy").unwrap().attr;
    let why = CounterGroup::open(&tree.roots(), &user_at(0), &pmu, &[attr]).unwrap_err();
    assert_eq!(why.reason, Reason::NotCounting);
}

#[test]
fn counters_stay_cumulative_when_the_group_is_opened_again() {
    let roots = Roots::host();
    let Some(pmu) = software(&roots) else { return };
    // PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_CONTEXT_SWITCHES.
    let Some(mut group) = open_or_skip(&roots, &pmu, &[0, 3]) else { return };
    assert_eq!(group.len(), 2);
    std::thread::sleep(std::time::Duration::from_millis(3));
    let before = group.read().unwrap().clone();
    assert!(before.time_enabled_ns > 0);
    // What a lost CPU leads to, without unplugging one: an end of file at the read.
    group.tried_at_ns = 0;
    group.group = None;
    let after = group.read().unwrap().clone();
    assert_eq!(group.reopened(), 1);
    assert!(after.time_enabled_ns >= before.time_enabled_ns);
    assert!(after.values.iter().zip(&before.values).all(|(a, b)| a >= b), "{before:?} {after:?}");
    std::thread::sleep(std::time::Duration::from_millis(3));
    let later = group.read().unwrap();
    assert!(later.time_enabled_ns >= after.time_enabled_ns + 2_000_000);
    assert!(later.values[0] > after.values[0]);
}

#[test]
fn moving_time_does_not_lead_to_another_open() {
    let roots = Roots::host();
    let Some(pmu) = software(&roots) else { return };
    let Some(mut group) = open_or_skip(&roots, &pmu, &[0]) else { return };
    let first = group.read().unwrap().clone();
    // The last move seems long ago, and another attempt is due.
    group.moved_at_ns = 0;
    group.tried_at_ns = 0;
    let mut again = GroupValues::default();
    group.group.as_ref().unwrap().read(&mut again).unwrap();
    assert!(again.time_enabled_ns > first.time_enabled_ns, "a live group moves");
    group.read().unwrap();
    assert_eq!(group.reopened(), 0, "time moved, so nothing is opened again");
}

#[test]
fn lost_group_gives_its_reason_until_it_may_try_again() {
    let roots = Roots::host();
    let Some(pmu) = software(&roots) else { return };
    let Some(mut group) = open_or_skip(&roots, &pmu, &[0]) else { return };
    group.read().unwrap();
    group.group = None;
    group.lost = Some(Why::new(Reason::NotCounting, "gone for now"));
    group.tried_at_ns = monotonic_ns();
    assert_eq!(group.read().unwrap_err().detail.as_str(), "gone for now");
    group.tried_at_ns = 0;
    assert!(group.read().is_ok());
}

#[test]
fn events_that_do_not_exist_are_told_from_those_that_do() {
    let roots = Roots::host();
    let Some(pmu) = software(&roots) else { return };
    if open_or_skip(&roots, &pmu, &[0]).is_none() {
        return;
    }
    let rights = Rights::read(&roots);
    let attrs: Vec<_> = [0, 4_000_000, 3].iter().map(|n| pmu.encode(&[("config", *n)]).unwrap()).collect();
    let (mut group, refused) = CounterGroup::open_available(&roots, &rights, &pmu, 0, &attrs).unwrap();
    assert_eq!(group.len(), 2);
    assert_eq!(refused.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(group.read().unwrap().values.len(), 2);
    assert!(CounterGroup::open(&roots, &rights, &pmu, &attrs).is_err());
    assert_eq!(CounterGroup::open(&roots, &rights, &pmu, &[]).unwrap_err().reason, Reason::NotSupported);
}

#[test]
#[ignore = "needs the testbed's guest: it takes CPU 1 off and on again"]
fn counters_go_on_after_their_cpu_is_unplugged() {
    let online = |state: &str| std::fs::write("/sys/devices/system/cpu/cpu1/online", state).unwrap();
    let pause = || std::thread::sleep(std::time::Duration::from_millis(1_100));
    let roots = Roots::host();
    let mut pmu = software(&roots).unwrap();
    // The software PMU has no mask: opened on CPU 1, opened again on CPU 0.
    pmu.set_cpus(vec![1]);
    let mut group = open_or_skip(&roots, &pmu, &[0]).unwrap();
    pause();
    let before = group.read().unwrap().clone();
    online("0");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(group.read().cloned());
        pause();
    }
    online("1");
    println!("before {before:?}, then {seen:?}, opened again {}", group.reopened());
    assert_eq!(group.reopened(), 1);
    let last = seen.last().unwrap().as_ref().unwrap();
    assert!(last.time_enabled_ns > before.time_enabled_ns + 1_000_000_000);
    assert!(last.values[0] > before.values[0]);
}
