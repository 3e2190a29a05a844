use super::*;
use gpuscope_model::trace::{Event, EventKind, Family, JobStatus, NameId};

const RING: RingId = RingId(0);
const OTHER: RingId = RingId(1);

/// A watch over events.
struct Trace {
    jobs: Jobs,
    stuck: StuckJobs,
    released: Vec<Released>,
}

impl Trace {
    fn after(after_ns: u64) -> Trace {
        Trace { jobs: Jobs::new(), stuck: StuckJobs::new(after_ns), released: Vec::new() }
    }

    fn event(&mut self, kind: EventKind, at_ns: u64, ring: RingId, key: (u64, u64), change: impl FnOnce(&mut Event)) {
        let (context, seqno) = key;
        let mut event = Event {
            at_ns,
            kind,
            family: Family::DrmSched,
            cpu: 0,
            tid: 11,
            pid: context as u32,
            comm: NameId(0),
            ring: (kind != EventKind::Complete).then_some(ring),
            key: Some(JobKey::Fence { context, seqno }),
            other: None,
            client: None,
            value: (kind == EventKind::Complete).then_some(0),
        };
        change(&mut event);
        let Trace { jobs, stuck, released } = self;
        jobs.event(&event, |job| released.extend(stuck.ended(job)));
    }

    fn submit(&mut self, at_ns: u64, key: (u64, u64)) {
        self.event(EventKind::Submit, at_ns, RING, key, |_| {});
    }

    fn run(&mut self, at_ns: u64, key: (u64, u64)) {
        self.event(EventKind::Commit, at_ns, RING, key, |_| {});
    }

    fn done(&mut self, at_ns: u64, key: (u64, u64)) {
        self.event(EventKind::Complete, at_ns, RING, key, |_| {});
    }

    fn look(&mut self, at_ns: u64) -> Vec<StuckJob> {
        self.stuck.look(&self.jobs, at_ns)
    }

    fn keys(&mut self, at_ns: u64) -> Vec<JobKey> {
        self.look(at_ns).iter().map(|stuck| stuck.job.key).collect()
    }
}

fn key(context: u64, seqno: u64) -> JobKey {
    JobKey::Fence { context, seqno }
}

#[test]
fn the_job_on_the_hardware_is_told_once_it_is_older_than_the_threshold_with_who_waits_behind_it() {
    let mut trace = Trace::after(100);
    trace.submit(0, (7, 1));
    trace.run(10, (7, 1));
    trace.submit(20, (7, 2));
    trace.run(25, (7, 2));
    for seqno in 1..=3 {
        trace.submit(30 + seqno, (8, seqno));
    }
    assert!(trace.look(109).is_empty());
    let stuck = trace.look(110);
    let [of] = &stuck[..] else { panic!("{stuck:?}") };
    assert_eq!(
        (of.job.key, of.job.pid, of.place, of.since_ns, of.age_ns()),
        (key(7, 1), 7, HeldUp::OnHardware, 10, 100)
    );
    assert!(of.is_new && !of.is_doubtful);
    let behind: Vec<(u32, u64)> = of.behind.iter().map(|of| (of.pid, of.jobs)).collect();
    assert_eq!((behind, of.jobs_behind()), (vec![(8, 3), (7, 1)], 4));
    assert!(!trace.look(500)[0].is_new);
    assert_eq!(trace.stuck.raised(), 1);
}

#[test]
fn what_waited_behind_a_stuck_job_is_judged_from_the_end_of_that_one() {
    let mut trace = Trace::after(100);
    for seqno in [1, 2] {
        trace.submit(seqno, (7, seqno));
        trace.run(seqno + 2, (7, seqno));
    }
    assert_eq!(trace.keys(150), [key(7, 1)]);
    trace.done(160, (7, 1));
    assert_eq!(trace.released.len(), 1);
    assert_eq!((trace.released[0].since_ns, trace.released[0].job.status), (3, JobStatus::Completed));
    assert!(trace.look(259).is_empty());
    assert_eq!(trace.keys(260), [key(7, 2)]);
}

#[test]
fn a_ring_that_works_through_a_long_queue_is_not_stuck() {
    let mut trace = Trace::after(100);
    for seqno in 0..50 {
        trace.submit(seqno, (7, seqno));
    }
    for seqno in 0..50 {
        trace.run(50 * seqno, (7, seqno));
        trace.done(50 * seqno + 45, (7, seqno));
        assert!(trace.look(50 * seqno + 48).is_empty());
    }
    assert!(trace.look(10_000).is_empty());
}

#[test]
fn a_job_that_others_overtake_on_the_hardware_is_told_all_the_same() {
    let mut trace = Trace::after(100);
    trace.submit(0, (7, 1));
    trace.run(1, (7, 1));
    for seqno in 2..=20 {
        trace.submit(seqno * 10, (7, seqno));
        trace.run(seqno * 10 + 1, (7, seqno));
        trace.done(seqno * 10 + 8, (7, seqno));
        let told = trace.keys(seqno * 10 + 9);
        assert_eq!(told.len(), usize::from(seqno * 10 + 9 > 100), "{told:?}");
    }
    assert_eq!(trace.keys(300), [key(7, 1)]);
}

#[test]
fn a_job_in_the_queue_of_an_idle_ring_is_stuck() {
    let mut trace = Trace::after(100);
    trace.submit(0, (7, 1));
    trace.event(EventKind::Blocked, 2, RING, (7, 1), |event| event.other = Some(key(99, 1)));
    let stuck = trace.look(100);
    assert_eq!((stuck[0].place, stuck[0].job.blocked_by), (HeldUp::InQueue, Some(key(99, 1))));
}

#[test]
fn a_job_in_the_queue_that_later_ones_went_by_is_stuck() {
    let mut trace = Trace::after(100);
    trace.submit(0, (7, 1));
    trace.submit(1, (7, 2));
    for seqno in 1..=30 {
        let at_ns = seqno * 10;
        trace.submit(at_ns, (8, seqno));
        trace.run(at_ns + 1, (8, seqno));
        trace.done(at_ns + 9, (8, seqno));
        let stuck = trace.look(at_ns + 9);
        assert_eq!(stuck.len(), usize::from(at_ns + 9 >= 100), "{stuck:?}");
        if let [of] = &stuck[..] {
            assert_eq!((of.job.key, of.place, of.since_ns), (key(7, 1), HeldUp::InQueue, 0));
            assert_eq!((of.behind.len(), of.behind[0].pid, of.behind[0].jobs), (1, 7, 1));
        }
    }
}

#[test]
fn a_long_queue_that_moves_beside_a_short_one_is_not_stuck() {
    let mut trace = Trace::after(100);
    for seqno in 0..60 {
        trace.submit(seqno, (7, seqno));
    }
    trace.look(90);
    // In turns, whoever has waited longer: the way of schedulers that do not go by age.
    for seqno in 0..60 {
        let at_ns = 100 + seqno * 20;
        trace.submit(at_ns, (8, seqno));
        for (context, at_ns) in [(8, at_ns + 1), (7, at_ns + 11)] {
            trace.run(at_ns, (context, seqno));
            trace.done(at_ns + 5, (context, seqno));
        }
        assert!(trace.look(at_ns + 19).is_empty());
    }
}

#[test]
fn jobs_of_other_rings_that_were_found_waiting_for_a_stuck_one_are_behind_it() {
    let mut trace = Trace::after(100);
    trace.submit(0, (7, 1));
    trace.run(0, (7, 1));
    trace.event(EventKind::Submit, 50, OTHER, (9, 1), |_| {});
    trace.event(EventKind::Blocked, 51, OTHER, (9, 1), |event| event.other = Some(key(7, 1)));
    let stuck = trace.look(120);
    assert_eq!(stuck.len(), 1, "{stuck:?}");
    assert_eq!((stuck[0].behind.len(), stuck[0].behind[0].pid), (1, 9));
}

#[test]
fn a_loss_since_makes_an_alarm_doubtful() {
    let mut trace = Trace::after(100);
    trace.submit(10, (7, 1));
    trace.run(10, (7, 1));
    trace.look(50);
    trace.stuck.lost();
    assert!(trace.look(200)[0].is_doubtful);
}
