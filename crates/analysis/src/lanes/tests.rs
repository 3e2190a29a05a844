use super::*;
use crate::{History, Jobs};
use gpuscope_model::trace::{Cause, Event, EventKind, Family, JobKey, NameId};

fn key(seqno: u64) -> JobKey {
    JobKey::Fence { context: 10, seqno }
}

/// Jobs of one context each, on one ring, of which each has the times of submission, hand-over and end; and who waits for whom.
fn lanes(jobs: &[(u64, [u64; 3])], waits: &[(u64, u64)], from_ns: u64, to_ns: u64) -> Vec<Lane> {
    let of = |context: u64| JobKey::Fence { context: context * 2, seqno: 1 };
    let mut events = Vec::new();
    let blank = Event {
        at_ns: 0,
        kind: EventKind::Submit,
        family: Family::DrmSched,
        cpu: 0,
        tid: 1,
        pid: 1,
        comm: NameId(0),
        ring: None,
        key: None,
        other: None,
        client: None,
        value: None,
    };
    for (context, times) in jobs {
        for (kind, at_ns) in [EventKind::Submit, EventKind::Commit, EventKind::Complete].into_iter().zip(times) {
            let ring = Some(RingId(u32::from(*context >= 50)));
            events.push(Event { at_ns: *at_ns, kind, ring, key: Some(of(*context)), ..blank });
        }
    }
    for (waiter, on) in waits {
        let at_ns = jobs.iter().find(|job| job.0 == *waiter).unwrap().1[0];
        let (key, other) = (Some(of(*waiter)), Some(of(*on)));
        events.push(Event { at_ns, kind: EventKind::Dependency, key, other, ..blank });
    }
    events.sort_by_key(|event| event.at_ns);
    let (mut all, mut history) = (Jobs::new(), History::of(vec![(from_ns, to_ns)]));
    let mut ended = Vec::new();
    for event in &events {
        history.event(event);
        all.event(event, |job| ended.push(*job));
        ended.drain(..).for_each(|job| history.job(&job));
    }
    all.finish(to_ns, |job| ended.push(*job));
    ended.drain(..).for_each(|job| history.job(&job));
    history.finish(to_ns).lanes(from_ns, to_ns)
}

fn told(lane: &Lane) -> Vec<(u64, u64, &'static str)> {
    let word = |why: &Idle| match why {
        Idle::NothingSubmitted => "nothing submitted",
        Idle::Waiting(link) => link.cause.name(),
        Idle::NotKnown => "not known",
    };
    lane.gaps.iter().map(|gap| (gap.from_ns, gap.to_ns, word(&gap.why))).collect()
}

#[test]
fn gaps_are_explained_by_what_the_next_job_waited_for() {
    // 1 runs, then nothing; 2 is submitted at 300 and waits for 50 on the other ring until 500.
    let jobs = [(1, [0, 10, 200]), (2, [300, 520, 600]), (50, [100, 110, 500])];
    let lanes = lanes(&jobs, &[(2, 50)], 0, 1_000);
    assert_eq!(lanes.len(), 2);
    assert_eq!(
        told(&lanes[0]),
        [
            (0, 10, "dispatch"),
            (200, 300, "nothing submitted"),
            (300, 500, "executed"),
            (500, 520, "dispatch"),
            (600, 1_000, "nothing submitted"),
        ]
    );
    let Idle::Waiting(link) = lanes[0].gaps[2].why else { panic!("{:?}", lanes[0].gaps) };
    assert_eq!((link.of.key, link.cause), (JobKey::Fence { context: 100, seqno: 1 }, Cause::Executed));
}

#[test]
fn a_stretch_has_the_jobs_that_touch_it_and_gaps_within_it() {
    let jobs = [(1, [0, 10, 200]), (2, [210, 220, 300]), (3, [900, 910, 950])];
    let lanes = lanes(&jobs, &[], 190, 400);
    let keys: Vec<_> = lanes[0].jobs.iter().map(|job| job.submit_ns.unwrap()).collect();
    assert_eq!(keys, [0, 210]);
    assert_eq!(
        told(&lanes[0]),
        [(200, 210, "nothing submitted"), (210, 220, "dispatch"), (300, 400, "nothing submitted")]
    );
}

#[test]
fn a_gap_that_does_not_end_in_the_stretch_is_told_by_the_job_that_has_waited_for_longest() {
    let jobs = [(1, [100, 5_000, 6_000]), (50, [50, 60, 900])];
    let lanes = lanes(&jobs, &[(1, 50)], 0, 1_000);
    assert_eq!(told(&lanes[0]), [(0, 100, "nothing submitted"), (100, 900, "executed"), (900, 1_000, "dispatch")]);
}

#[test]
fn a_gap_that_a_later_job_ends_is_told_by_the_one_that_waits_on() {
    // 2 waits for 50 beyond the gap; 3 is submitted at 500 and goes at once.
    let jobs = [(1, [0, 10, 200]), (2, [100, 720, 800]), (3, [500, 510, 600]), (50, [100, 110, 700])];
    let lanes = lanes(&jobs, &[(2, 50)], 150, 605);
    assert_eq!(told(&lanes[0])[0], (200, 500, "executed"));
    assert_eq!(told(&lanes[0])[1], (500, 510, "dispatch"));
}

#[test]
fn a_job_without_an_end_holds_its_ring() {
    let job = |status| Job {
        key: key(1),
        ring: Some(RingId(0)),
        client: None,
        pid: 0,
        tid: 0,
        comm: NameId(0),
        submit_ns: Some(10),
        run_ns: Some(20),
        start_ns: None,
        done_ns: None,
        dependencies: 0,
        blocked_by: None,
        status,
    };
    let gaps = |status| {
        let mut history = History::of(vec![(0, 100)]);
        history.job(&job(status));
        told(&history.finish(100).lanes(0, 100)[0])
    };
    assert_eq!(gaps(JobStatus::InFlight), [(0, 10, "nothing submitted"), (10, 20, "dispatch")]);
    assert_eq!(gaps(JobStatus::Lost).last(), Some(&(20, 100, "nothing submitted")));
}
