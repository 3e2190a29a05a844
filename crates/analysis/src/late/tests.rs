use super::*;
use crate::Jobs;
use gpuscope_model::trace::{Family, NameId, Switch, TraceNames};

/// Events as they are made up: a context is a process of the same number.
struct Trace {
    names: TraceNames,
    events: Vec<Event>,
    firmware: Vec<RingId>,
}

fn key(context: u64, seqno: u64) -> JobKey {
    JobKey::Fence { context, seqno }
}

impl Trace {
    fn new() -> Self {
        Trace { names: TraceNames::default(), events: Vec::new(), firmware: Vec::new() }
    }

    fn add(&mut self, at_ns: u64, kind: EventKind, of: (u64, u64), ring: &str, other: Option<JobKey>) {
        let ring = self.names.ring(Some("0000:03:00.0"), ring);
        let pid = of.0 as u32;
        self.events.push(Event {
            at_ns,
            kind,
            family: Family::DrmSched,
            cpu: 0,
            tid: pid,
            pid,
            comm: NameId(0),
            ring: matches!(kind, EventKind::Submit | EventKind::Commit).then_some(ring),
            key: Some(key(of.0, of.1)),
            other,
            client: None,
            value: (kind == EventKind::Complete).then_some(0),
        });
    }

    /// Submitted, handed over, and ended.
    fn job(&mut self, of: (u64, u64), ring: &str, times: [u64; 3]) {
        for (kind, at_ns) in [EventKind::Submit, EventKind::Commit, EventKind::Complete].into_iter().zip(times) {
            self.add(at_ns, kind, of, ring, None);
        }
    }

    fn waits(&mut self, at_ns: u64, of: (u64, u64), on: JobKey) {
        self.add(at_ns, EventKind::Dependency, of, "gfx", Some(on));
    }

    fn why(&self, of: (u64, u64)) -> Lateness {
        let mut events = self.events.clone();
        events.sort_by_key(|event| event.at_ns);
        let (mut jobs, mut history) = (Jobs::new(), History::of(vec![(0, u64::MAX)]));
        for ring in &self.firmware {
            jobs.by_firmware(*ring);
            history.by_firmware(*ring);
        }
        let mut all = Vec::new();
        for event in &events {
            history.event(event);
            jobs.event(event, |job| all.push(*job));
            all.drain(..).for_each(|job| history.job(&job));
        }
        let to_ns = events.last().map_or(0, |event| event.at_ns);
        jobs.finish(to_ns, |job| all.push(*job));
        all.drain(..).for_each(|job| history.job(&job));
        let explainer = history.finish(to_ns);
        let submit_ns = explainer.jobs().find(|job| job.key == key(of.0, of.1)).unwrap().submit_ns;
        let late = explainer.explain(key(of.0, of.1), submit_ns).unwrap();
        adds_up(&late);
        late
    }

    /// Begin, end, what, whose, and who was in the way.
    fn told(&self, of: (u64, u64)) -> Vec<(u64, u64, Cause, JobKey, Option<JobKey>)> {
        let links = self.why(of).links;
        links.iter().map(|l| (l.from_ns, l.to_ns, l.cause, l.of.key, l.by.map(|by| by.key))).collect()
    }
}

/// The pieces follow each other from the submission to the end, and the shares are the same time.
fn adds_up(late: &Lateness) {
    let mut at = late.from_ns;
    for link in &late.links {
        assert_eq!(link.from_ns, at, "{late:?}");
        assert!(link.to_ns > link.from_ns, "{late:?}");
        at = link.to_ns;
    }
    assert_eq!(at, late.to_ns, "{late:?}");
    assert_eq!(late.shares.iter().map(|share| share.ns).sum::<u64>(), late.total_ns(), "{late:?}");
    assert!(late.shares.iter().rev().is_sorted_by_key(|share| share.ns));
}

#[test]
fn a_job_alone_was_handed_over_and_executed() {
    let mut trace = Trace::new();
    trace.job((10, 1), "gfx", [100, 130, 500]);
    let own = key(10, 1);
    assert_eq!(trace.told((10, 1)), [(100, 130, Cause::Dispatch, own, None), (130, 500, Cause::Executed, own, None)]);
}

#[test]
fn a_dependency_on_another_ring_is_followed_to_what_that_one_did() {
    let mut trace = Trace::new();
    // 20:1 waits in the hardware's queue for 30:1, and 10:1 for 20:1.
    trace.job((30, 1), "compute", [0, 10, 300]);
    trace.job((20, 1), "compute", [50, 60, 700]);
    trace.job((10, 1), "gfx", [100, 720, 900]);
    trace.waits(100, (10, 1), key(20, 1));
    assert_eq!(
        trace.told((10, 1)),
        [
            (100, 300, Cause::BehindOnRing, key(20, 1), Some(key(30, 1))),
            (300, 700, Cause::Executed, key(20, 1), None),
            (700, 720, Cause::Dispatch, key(10, 1), None),
            (720, 900, Cause::Executed, key(10, 1), None),
        ]
    );
    let late = trace.why((10, 1));
    assert_eq!(
        late.links.iter().map(|link| link.via).collect::<Vec<_>>(),
        [Via::Dependency, Via::Dependency, Via::Itself, Via::Itself]
    );
    assert_eq!((late.shares[0].ns, late.shares[0].link.of.pid), (400, 20));
}

#[test]
fn of_several_dependencies_the_last_one_decides() {
    let mut trace = Trace::new();
    trace.job((20, 1), "compute", [0, 10, 300]);
    trace.job((30, 1), "dma", [0, 10, 400]);
    trace.job((10, 1), "gfx", [100, 400, 500]);
    trace.waits(100, (10, 1), key(30, 1));
    trace.waits(100, (10, 1), key(20, 1));
    assert_eq!(trace.told((10, 1))[0], (100, 400, Cause::Executed, key(30, 1), None));
}

/// drm_sched_entity_add_dependency_cb: for a job of its own scheduler it waits until that one is handed over.
#[test]
fn a_dependency_on_the_own_ring_holds_until_the_hand_over() {
    let mut trace = Trace::new();
    trace.job((20, 1), "gfx", [0, 200, 600]);
    trace.job((10, 1), "gfx", [100, 210, 900]);
    trace.waits(100, (10, 1), key(20, 1));
    assert_eq!(
        trace.told((10, 1)),
        [
            (100, 200, Cause::Dispatch, key(20, 1), None),
            (200, 210, Cause::Dispatch, key(10, 1), None),
            (210, 600, Cause::BehindOnRing, key(10, 1), Some(key(20, 1))),
            (600, 900, Cause::Executed, key(10, 1), None),
        ]
    );
}

/// What `unschedulable` names then: the scheduled fence, whose context is the one before the finished fence's (drm_sched_fence_init).
#[test]
fn a_scheduled_fence_is_known_by_the_context_before() {
    let mut trace = Trace::new();
    trace.job((20, 1), "compute", [0, 200, 600]);
    trace.job((10, 1), "gfx", [100, 210, 900]);
    trace.add(150, EventKind::Blocked, (10, 1), "gfx", Some(key(19, 1)));
    assert_eq!(trace.told((10, 1))[0], (100, 200, Cause::Dispatch, key(20, 1), None));
}

#[test]
fn a_full_ring_is_told_by_what_it_executed() {
    let mut trace = Trace::new();
    // Two at a time; 10:1 could go at 100 and goes when 20:1 has ended.
    trace.job((20, 1), "gfx", [0, 10, 400]);
    trace.job((20, 2), "gfx", [0, 20, 600]);
    trace.job((10, 1), "gfx", [100, 405, 700]);
    assert_eq!(
        trace.told((10, 1)),
        [
            (100, 400, Cause::RingFull, key(10, 1), Some(key(20, 1))),
            (400, 405, Cause::Dispatch, key(10, 1), None),
            (405, 600, Cause::BehindOnRing, key(10, 1), Some(key(20, 2))),
            (600, 700, Cause::Executed, key(10, 1), None),
        ]
    );
}

#[test]
fn a_ring_with_room_was_not_full() {
    let mut trace = Trace::new();
    trace.job((30, 1), "gfx", [0, 1, 3]);
    trace.job((30, 2), "gfx", [0, 2, 4]);
    trace.job((20, 1), "gfx", [90, 95, 400]);
    trace.job((10, 1), "gfx", [100, 405, 700]);
    assert_eq!(trace.told((10, 1))[0], (100, 405, Cause::Dispatch, key(10, 1), None));
}

#[test]
fn a_job_behind_its_own_queue_is_told_why_that_one_waited() {
    let mut trace = Trace::new();
    trace.job((20, 1), "compute", [0, 10, 500]);
    trace.job((10, 1), "gfx", [50, 510, 600]);
    trace.waits(50, (10, 1), key(20, 1));
    trace.job((10, 2), "gfx", [100, 512, 650]);
    let late = trace.why((10, 2));
    let told: Vec<_> = late.links.iter().map(|l| (l.from_ns, l.to_ns, l.cause, l.via, l.of.key)).collect();
    assert_eq!(
        told,
        [
            (100, 500, Cause::Executed, Via::Dependency, key(20, 1)),
            (500, 510, Cause::Dispatch, Via::OwnQueue, key(10, 1)),
            (510, 512, Cause::Dispatch, Via::Itself, key(10, 2)),
            (512, 600, Cause::BehindOnRing, Via::Itself, key(10, 2)),
            (600, 650, Cause::Executed, Via::Itself, key(10, 2)),
        ]
    );
}

#[test]
fn a_fence_of_no_job_is_named_and_not_guessed() {
    let mut trace = Trace::new();
    trace.job((10, 1), "gfx", [100, 400, 500]);
    trace.waits(100, (10, 1), key(77, 7));
    assert_eq!(trace.told((10, 1))[0].2, Cause::Dispatch, "nothing tells that it was not ready");
    trace.add(120, EventKind::Blocked, (10, 1), "gfx", Some(key(77, 7)));
    let told = trace.told((10, 1));
    assert_eq!(told[0], (100, 120, Cause::Dispatch, key(10, 1), None));
    assert_eq!(told[1], (120, 400, Cause::Fence(key(77, 7)), key(10, 1), None));
}

#[test]
fn what_firmware_does_is_in_flight_and_its_queues_are_the_contexts() {
    let mut trace = Trace::new();
    let ring = trace.names.ring(Some("0000:03:00.0"), "gfx");
    trace.firmware.push(ring);
    trace.job((20, 1), "gfx", [0, 10, 400]);
    trace.job((10, 1), "gfx", [100, 405, 700]);
    trace.waits(100, (10, 1), key(20, 1));
    assert_eq!(
        trace.told((10, 1)),
        [
            (100, 400, Cause::InFlight, key(20, 1), None),
            (400, 405, Cause::Dispatch, key(10, 1), None),
            (405, 700, Cause::InFlight, key(10, 1), None),
        ],
        "another context has another scheduler: it waits for the end"
    );
}

#[test]
fn what_was_not_seen_is_said_to_be() {
    let mut trace = Trace::new();
    // Handed over before the trace, and no start known: it ended before another of its ring.
    trace.add(50, EventKind::Commit, (20, 1), "gfx", None);
    trace.add(300, EventKind::Complete, (20, 1), "gfx", None);
    assert_eq!(trace.told((20, 1)), [(50, 300, Cause::Executed, key(20, 1), None)]);
    // A job submitted by 20 after 10 was, for which 10 waits.
    let mut trace = Trace::new();
    trace.job((20, 1), "compute", [200, 210, 400]);
    trace.job((10, 1), "gfx", [100, 405, 700]);
    trace.waits(100, (10, 1), key(20, 1));
    assert_eq!(trace.told((10, 1))[0], (100, 200, Cause::NotSubmitted, key(20, 1), None));
    // Killed before it ran.
    let mut trace = Trace::new();
    trace.add(100, EventKind::Submit, (10, 1), "gfx", None);
    trace.add(300, EventKind::Complete, (10, 1), "gfx", None);
    assert_eq!(trace.told((10, 1)), [(100, 300, Cause::NeverRan, key(10, 1), None)]);
}

#[test]
fn a_job_that_waits_for_a_hung_one_says_so_while_both_are_in_flight() {
    let mut trace = Trace::new();
    trace.add(10, EventKind::Submit, (20, 1), "compute", None);
    trace.add(20, EventKind::Commit, (20, 1), "compute", None);
    trace.add(100, EventKind::Submit, (10, 1), "gfx", None);
    trace.waits(100, (10, 1), key(20, 1));
    trace.job((30, 1), "dma", [0, 1, 5_000]);
    assert!(!trace.why((10, 1)).has_ended);
    assert_eq!(trace.told((10, 1)), [(100, 5_000, Cause::InFlight, key(20, 1), None)]);
}

/// A thousand jobs at once, two with the hardware at a time.
#[test]
fn a_long_queue_is_told_in_few_pieces() {
    let mut trace = Trace::new();
    for seqno in 1..=1000_u64 {
        let start = (seqno - 1) * 100;
        trace.job((10, seqno), "gfx", [seqno, (start.saturating_sub(100) + 5).max(seqno), start + 100]);
    }
    let late = trace.why((10, 1000));
    assert!(late.links.len() <= MOST_LINKS + 1 && late.shares.len() <= 6, "{} {}", late.links.len(), late.shares.len());
    let share = |cause: Cause| late.shares.iter().filter(|s| s.link.cause == cause).map(|s| s.ns).sum::<u64>();
    assert_eq!(share(Cause::Executed), 100);
    assert!(share(Cause::RingFull) > late.total_ns() * 9 / 10, "{:?}", late.shares);
}

/// Whatever the events, the pieces add up.
#[test]
fn pieces_add_up_for_any_events() {
    let mut state = 7_u64;
    let mut chance = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let mut explained = 0;
    for _ in 0..60 {
        let mut trace = Trace::new();
        let rings = ["gfx", "compute", "dma"];
        for _ in 0..150 {
            let of = (chance(4) * 2 + 10, chance(30));
            let kinds =
                [EventKind::Submit, EventKind::Commit, EventKind::Complete, EventKind::Dependency, EventKind::Blocked];
            let kind = kinds[chance(5) as usize];
            let other =
                matches!(kind, EventKind::Dependency | EventKind::Blocked).then(|| key(chance(9) + 9, chance(30)));
            trace.add(chance(300), kind, of, rings[chance(3) as usize], other);
        }
        for context in 10..18 {
            for seqno in 0..30 {
                if trace.events.iter().any(|e| e.key == Some(key(context, seqno)) && e.kind == EventKind::Submit) {
                    trace.why((context, seqno));
                    explained += 1;
                }
            }
        }
    }
    assert!(explained > 500, "{explained}");
}

impl Trace {
    /// A thread leaves a processor, to wait for something else or while it could go on, and comes back; in between it may be woken.
    fn off(&mut self, tid: u32, from_ns: u64, is_asleep: bool, woken_ns: Option<u64>, to_ns: u64) {
        const OTHER: u32 = 999;
        let switch = |next, state| Some(Switch { next, state }.value());
        let mut add = |at_ns, kind, tid, value| {
            let none = Event { key: None, other: None, ring: None, client: None, ..self.events[0] };
            self.events.push(Event { at_ns, kind, family: Family::Sched, tid, value, ..none });
        };
        add(from_ns, EventKind::SchedSwitch, tid, switch(OTHER, u32::from(is_asleep)));
        if let Some(woken_ns) = woken_ns {
            add(woken_ns, EventKind::SchedWaking, OTHER, Some(i64::from(tid)));
        }
        add(to_ns, EventKind::SchedSwitch, OTHER, switch(tid, 0));
    }

    /// Hands a job over in a thread of the scheduler.
    fn job_by(&mut self, worker: u32, of: (u64, u64), times: [u64; 3]) {
        self.job(of, "gfx", times);
        let is_commit = |event: &&mut Event| event.kind == EventKind::Commit && event.key == Some(key(of.0, of.1));
        self.events.iter_mut().find(is_commit).unwrap().tid = worker;
    }
}

#[test]
fn a_worker_that_was_woken_and_had_no_processor_is_told() {
    let own = key(10, 1);
    let mut trace = Trace::new();
    trace.job_by(70, (10, 1), [100, 190, 500]);
    // Woken 20 ns after the submission, it waits 50.
    trace.off(70, 30, true, Some(120), 170);
    let executed = (190, 500, Cause::Executed, own, None);
    let expected = [
        (100, 120, Cause::Dispatch, own, None),
        (120, 170, Cause::WorkerWaited, own, None),
        (170, 190, Cause::Dispatch, own, None),
        executed,
    ];
    assert_eq!(trace.told((10, 1)), expected);
    // While it waited for something else and nobody was seen to wake it, it is not known when it could go on.
    let mut trace = Trace::new();
    trace.job_by(70, (10, 1), [100, 190, 500]);
    trace.off(70, 30, true, None, 170);
    assert_eq!(trace.told((10, 1)), [(100, 190, Cause::Dispatch, own, None), executed]);
    // One that was pushed aside could go on all the time, from before the submission on.
    let mut trace = Trace::new();
    trace.job_by(70, (10, 1), [100, 190, 500]);
    trace.off(70, 30, false, None, 170);
    trace.off(70, 175, false, Some(176), 180);
    let expected = [
        (100, 170, Cause::WorkerWaited, own, None),
        (170, 175, Cause::Dispatch, own, None),
        (175, 180, Cause::WorkerWaited, own, None),
        (180, 190, Cause::Dispatch, own, None),
        executed,
    ];
    assert_eq!(trace.told((10, 1)), expected);
}

#[test]
fn other_threads_and_other_times_are_no_reason() {
    let mut trace = Trace::new();
    trace.job_by(70, (10, 1), [100, 190, 500]);
    trace.off(71, 110, false, None, 150);
    trace.off(70, 10, false, None, 90);
    trace.off(70, 195, false, None, 400);
    let own = key(10, 1);
    assert_eq!(trace.told((10, 1)), [(100, 190, Cause::Dispatch, own, None), (190, 500, Cause::Executed, own, None)]);
}

#[test]
fn a_submitter_that_had_no_processor_is_told_of_what_is_waited_for() {
    let mut trace = Trace::new();
    // 10:1 waits for 20:1, which comes later: its thread was pushed aside.
    trace.job((20, 1), "compute", [200, 210, 300]);
    trace.job((10, 1), "gfx", [100, 310, 900]);
    trace.waits(100, (10, 1), key(20, 1));
    trace.off(20, 130, false, None, 180);
    let other = key(20, 1);
    let expected = [
        (100, 130, Cause::NotSubmitted, other, None),
        (130, 180, Cause::SubmitterWaited, other, None),
        (180, 200, Cause::NotSubmitted, other, None),
    ];
    assert_eq!(trace.told((10, 1))[..3], expected);
}

#[test]
fn synthetic_switches_of_many_threads_take_bounded_memory() {
    let mut processors = Processors::default();
    let event = |at_ns, tid, next| {
        let mut trace = Trace::new();
        trace.job((10, 1), "gfx", [1, 2, 3]);
        Event {
            at_ns,
            kind: EventKind::SchedSwitch,
            tid,
            value: Some(Switch { next, state: 0 }.value()),
            ..trace.events[0]
        }
    };
    for n in 0..40_000 {
        processors.event(&event(u64::from(n), n, n + 1));
    }
    for n in 0..100 {
        processors.event(&event(50_000 + n * 10, 7, 0));
        processors.event(&event(50_005 + n * 10, 0, 7));
    }
    let waited = processors.waited(7).unwrap();
    assert_eq!((waited.from_ns, waited.times.len(), waited.times.last()), (50_835, 16, Some(&(50_990, 50_995))));
    assert_eq!(processors.waited(0), None);
    assert!(Arc::ptr_eq(&waited, &processors.waited(7).unwrap()), "jobs of a thread share it");
}

#[test]
fn of_more_waits_than_are_kept_the_first_are_not_known() {
    let mut trace = Trace::new();
    trace.job_by(70, (10, 1), [100, 1_000, 2_000]);
    for n in 0..20 {
        trace.off(70, 200 + n * 10, false, None, 205 + n * 10);
    }
    let told = trace.told((10, 1));
    let own = key(10, 1);
    assert_eq!(told[..2], [(100, 235, Cause::NotRecorded, own, None), (235, 240, Cause::Dispatch, own, None)]);
    assert_eq!(told.iter().filter(|(_, _, cause, ..)| *cause == Cause::WorkerWaited).count(), 16);
}

#[test]
fn what_threads_were_at_when_events_were_lost_is_not_known() {
    let mut processors = Processors::default();
    let mut trace = Trace::new();
    trace.job((10, 1), "gfx", [1, 2, 3]);
    trace.off(7, 100, false, None, 200);
    trace.off(7, 300, true, Some(310), 400);
    let mut events = trace.events.split_off(3).into_iter();
    processors.event(&events.next().unwrap());
    processors.lost();
    processors.event(&events.next().unwrap());
    assert_eq!(processors.waited(7), None, "it may have gone on long ago");
    // A second waking tells that what came after the first was lost.
    let [left, woken, on] = [0; 3].map(|_| events.next().unwrap());
    for event in [left, woken, Event { at_ns: 390, ..woken }, on] {
        processors.event(&event);
    }
    assert_eq!(processors.waited(7).unwrap().times, [(390, 400)]);
}

/// Random jobs and switches (synthetic): whatever threads did, the pieces follow each other and add up, as `why` looks at.
#[test]
fn pieces_add_up_whatever_threads_did() {
    let mut state = 11_u64;
    let mut below = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let mut waited = 0;
    for _ in 0..60 {
        let mut trace = Trace::new();
        let mut at_ns = 100;
        for seqno in 1..=12 {
            at_ns += below(200);
            let run_ns = at_ns + below(400);
            let of = (10 + below(3), seqno);
            trace.job_by(70 + below(2) as u32, of, [at_ns, run_ns, run_ns + 1 + below(500)]);
            if seqno > 1 && below(3) == 0 {
                trace.waits(at_ns, of, key(10 + below(3), seqno - 1));
            }
        }
        for _ in 0..below(120) {
            let (from_ns, is_asleep) = (below(at_ns + 500), below(2) == 0);
            let woken_ns = (below(3) > 0).then(|| from_ns + below(30));
            let tid = [70, 71, 10, 11, 12][below(5) as usize];
            trace.off(tid, from_ns, is_asleep, woken_ns, from_ns + below(60));
        }
        let jobs: Vec<(u64, u64)> = trace
            .events
            .iter()
            .filter(|event| event.kind == EventKind::Submit)
            .filter_map(|event| match event.key {
                Some(JobKey::Fence { context, seqno }) => Some((context, seqno)),
                _ => None,
            })
            .collect();
        for of in jobs {
            let links = trace.why(of).links;
            waited += links.iter().filter(|l| matches!(l.cause, Cause::WorkerWaited | Cause::SubmitterWaited)).count();
        }
    }
    assert!(waited > 300, "{waited} waits");
}
