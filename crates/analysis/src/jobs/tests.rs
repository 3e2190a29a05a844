use super::*;
use crate::owned_step::OwnedStep;
use gpuscope_model::trace::Family;

const RING: RingId = RingId(0);

fn key(seqno: u64) -> JobKey {
    JobKey::Fence { context: 1, seqno }
}

fn event(kind: EventKind, at_ns: u64, seqno: u64) -> Event {
    Event {
        at_ns,
        kind,
        family: Family::DrmSched,
        cpu: 0,
        tid: 11,
        pid: 10,
        comm: NameId(0),
        ring: (kind != EventKind::Complete).then_some(RING),
        key: Some(key(seqno)),
        other: None,
        client: None,
        value: (kind == EventKind::Complete).then_some(0),
    }
}

/// Feeds events given as kind, time and seqno, and returns the jobs that ended.
fn run(jobs: &mut Jobs, events: &[(EventKind, u64, u64)]) -> Vec<Job> {
    let mut ended = Vec::new();
    for (kind, at_ns, seqno) in events {
        jobs.event(&event(*kind, *at_ns, *seqno), |job| ended.push(*job));
    }
    ended
}

use EventKind::{Commit, Complete, Submit};

#[test]
fn a_job_that_waits_behind_another_starts_when_that_ends() {
    let mut jobs = Jobs::new();
    let ended = run(
        &mut jobs,
        &[(Submit, 10, 1), (Submit, 11, 2), (Commit, 20, 1), (Commit, 22, 2), (Complete, 50, 1), (Complete, 90, 2)],
    );
    let [first, second] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((first.queue_ns(), first.hw_queue_ns(), first.exec_ns()), (Some(10), Some(0), Some(30)));
    assert_eq!((second.queue_ns(), second.hw_queue_ns(), second.exec_ns()), (Some(11), Some(28), Some(40)));
    assert_eq!(second.start_ns, Some((50, ExecKind::Inferred)));
    assert_eq!((second.pid, second.tid, second.status), (10, 11, JobStatus::Completed));
    assert_eq!(jobs.ring(RING), JobCounts { out_of_order: 0, depth_peak: 2, busy_ns: 70 });
}

#[test]
fn time_between_jobs_is_not_busy() {
    let mut jobs = Jobs::new();
    run(&mut jobs, &[(Submit, 0, 1), (Commit, 0, 1), (Complete, 10, 1), (Submit, 50, 2), (Commit, 60, 2)]);
    jobs.finish(100, |_| {});
    assert_eq!(jobs.ring(RING).busy_ns, 10 + 40, "one of them until the end of the trace");
}

#[test]
fn a_job_that_overtakes_another_is_counted_and_neither_has_a_start() {
    let mut jobs = Jobs::new();
    let ended = run(
        &mut jobs,
        &[
            (Submit, 0, 1),
            (Submit, 0, 2),
            (Submit, 0, 3),
            (Commit, 1, 1),
            (Commit, 2, 2),
            (Complete, 10, 2),
            (Complete, 20, 1),
            (Commit, 30, 3),
            (Complete, 40, 3),
        ],
    );
    let starts: Vec<_> = ended.iter().map(|job| job.start_ns.map(|(ns, _)| ns)).collect();
    assert_eq!(starts, [None, None, Some(30)]);
    assert_eq!(jobs.ring(RING).out_of_order, 1);
    assert_eq!(jobs.ring(RING).busy_ns, 19 + 10);
}

#[test]
fn a_recorded_start_stands() {
    let mut jobs = Jobs::new();
    let ended = run(&mut jobs, &[(Submit, 0, 1), (Commit, 1, 1), (EventKind::Start, 5, 1), (Complete, 9, 1)]);
    assert_eq!(ended[0].start_ns, Some((5, ExecKind::Measured)));
}

#[test]
fn jobs_of_before_the_trace_are_told_apart() {
    let mut jobs = Jobs::new();
    let ended = run(&mut jobs, &[(Commit, 5, 1), (Complete, 7, 9), (Complete, 9, 1)]);
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].submit_ns, ended[0].queue_ns(), ended[0].pid), (None, None, 0));
    assert_eq!(jobs.unmatched_ends(), 1);
    assert_eq!(jobs.ring(RING).depth_peak, 0, "it was never seen to be submitted");
}

#[test]
fn what_is_in_flight_in_the_end_is_given_by_time() {
    let mut jobs = Jobs::new();
    run(&mut jobs, &[(Submit, 3, 3), (Submit, 4, 1), (Commit, 5, 3)]);
    assert_eq!(jobs.in_flight().count(), 2);
    let mut rest = Vec::new();
    jobs.finish(10, |job| rest.push((job.key, job.status, job.run_ns)));
    assert_eq!(rest, [(key(3), JobStatus::InFlight, Some(5)), (key(1), JobStatus::InFlight, None)]);
}

#[test]
fn an_address_given_out_again_ends_the_job_before_as_lost() {
    let mut jobs = Jobs::new();
    let at = |kind, at_ns| Event { key: Some(JobKey::Address(1)), ..event(kind, at_ns, 1) };
    let mut ended = Vec::new();
    for event in [at(Submit, 0), at(Commit, 1), at(Submit, 20), at(Commit, 21), at(Complete, 30)] {
        jobs.event(&event, |job| ended.push(*job));
    }
    assert_eq!(ended.iter().map(|job| job.status).collect::<Vec<_>>(), [JobStatus::Lost, JobStatus::Completed]);
    assert_eq!(ended[1].exec_ns(), Some(9));
    assert_eq!(jobs.ring(RING).depth_peak, 1);
    assert_eq!(jobs.ring(RING).out_of_order, 0);
}

#[test]
fn what_is_told_twice_of_a_fence_is_one_job() {
    let mut jobs = Jobs::new();
    let ended = run(&mut jobs, &[(Submit, 0, 1), (Submit, 1, 1), (Commit, 5, 1), (Commit, 6, 1), (Complete, 9, 1)]);
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].queue_ns(), ended[0].exec_ns()), (Some(5), Some(4)));
    assert_eq!((jobs.ring(RING).depth_peak, jobs.ring(RING).busy_ns), (1, 4));
}

#[test]
fn after_a_loss_a_job_that_was_passed_by_is_lost_and_no_disorder() {
    let mut jobs = Jobs::new();
    let mut ended = run(&mut jobs, &[(Submit, 0, 1), (Commit, 1, 1)]);
    jobs.lost(|job| panic!("{job:?}"));
    ended.extend(run(&mut jobs, &[(Submit, 5, 2), (Commit, 6, 2), (Complete, 9, 2), (Complete, 12, 1)]));
    assert_eq!(
        ended.iter().map(|job| (job.key, job.status)).collect::<Vec<_>>(),
        [(key(1), JobStatus::Lost), (key(2), JobStatus::Completed)]
    );
    assert_eq!(jobs.ring(RING).out_of_order, 0);
    assert_eq!(jobs.unmatched_ends(), 1);
    assert_eq!(jobs.ring(RING).busy_ns, 8);
}

#[test]
fn a_job_that_hangs_while_thousands_pass_keeps_its_end_and_its_time() {
    let mut jobs = Jobs::new();
    let mut ended = run(&mut jobs, &[(Submit, 0, 1), (Commit, 0, 1)]);
    for i in 2..2_000 {
        ended.extend(run(&mut jobs, &[(Submit, i * 10, i), (Commit, i * 10, i), (Complete, i * 10 + 5, i)]));
    }
    ended.extend(run(&mut jobs, &[(Complete, 30_000, 1)]));
    let hung = ended.last().unwrap();
    assert_eq!((hung.key, hung.in_flight_ns()), (key(1), Some(30_000)));
    assert_eq!(jobs.ring(RING).busy_ns, 30_000);
    assert!(jobs.ring(RING).out_of_order >= ring::MOST_OVERTAKEN as u64, "{:?}", jobs.ring(RING));
    assert_eq!(jobs.in_flight().count(), 0);
}

#[test]
fn errors_and_dependencies_stay_with_their_job() {
    let mut jobs = Jobs::new();
    run(&mut jobs, &[(Submit, 0, 1), (EventKind::Dependency, 1, 1), (EventKind::Dependency, 1, 1)]);
    jobs.event(&Event { other: Some(key(77)), ..event(EventKind::Blocked, 2, 1) }, |_| {});
    run(&mut jobs, &[(Commit, 3, 1)]);
    let mut ended = Vec::new();
    jobs.event(&Event { value: Some(-62), ..event(Complete, 9, 1) }, |job| ended.push(*job));
    assert_eq!((ended[0].dependencies, ended[0].blocked_by), (2, Some(key(77))));
    assert_eq!(ended[0].status, JobStatus::Failed(-62));
}

#[test]
fn an_end_without_an_error_number_does_not_say_how() {
    let mut jobs = Jobs::new();
    run(&mut jobs, &[(Submit, 0, 1), (Commit, 1, 1)]);
    let mut ended = Vec::new();
    jobs.event(&Event { value: None, ..event(Complete, 9, 1) }, |job| ended.push(job.status));
    assert_eq!(ended, [JobStatus::Ended]);
}

#[test]
fn where_firmware_decides_no_start_is_inferred() {
    let mut jobs = Jobs::new();
    jobs.by_firmware(RING);
    let ended = run(&mut jobs, &[(Submit, 0, 1), (Commit, 1, 1), (Complete, 9, 1)]);
    assert_eq!((ended[0].start_ns, ended[0].in_flight_ns()), (None, Some(8)));
}

#[test]
fn a_job_that_is_killed_before_it_ran_ends_with_the_error_of_its_fence() {
    let mut jobs = Jobs::new();
    run(&mut jobs, &[(Submit, 0, 1)]);
    let mut ended = Vec::new();
    let error = Event { value: Some(-3), ring: None, ..event(EventKind::Error, 9, 1) };
    jobs.event(&error, |job| ended.push(*job));
    assert_eq!((ended[0].status, ended[0].run_ns, ended[0].done_ns), (JobStatus::Failed(-3), None, Some(9)));
    // Of a job that is done, or of a fence that is no job's, it says nothing new.
    jobs.event(&error, |job| panic!("{job:?}"));
    assert_eq!(jobs.unmatched_ends(), 0);
    assert_eq!(jobs.ring(RING).depth_peak, 1);
}

#[test]
fn behind_a_job_of_before_the_trace_no_start_is_inferred() {
    let mut jobs = Jobs::new();
    // The job before ends at 100, and nothing says on which ring.
    let ended = run(
        &mut jobs,
        &[(Commit, 1, 1), (Complete, 100, 77), (Complete, 110, 1), (Commit, 120, 2), (Complete, 130, 2)],
    );
    assert_eq!((ended[0].start_ns, ended[0].in_flight_ns()), (None, Some(109)));
    assert_eq!(ended[1].start_ns, Some((120, ExecKind::Inferred)));
}

#[test]
fn a_job_whose_hand_over_and_end_were_lost_ends_with_the_next_of_its_context() {
    let mut jobs = Jobs::new();
    run(&mut jobs, &[(Submit, 0, 1), (Submit, 1, 2), (Submit, 2, 3), (Commit, 3, 1), (Complete, 4, 1)]);
    let mut ended = Vec::new();
    jobs.lost(|job| ended.push(*job));
    assert_eq!(ended, [], "job 2 may still run");
    // Of another context, nothing follows.
    let other = |kind, at_ns| Event { key: Some(JobKey::Fence { context: 9, seqno: 9 }), ..event(kind, at_ns, 9) };
    jobs.event(&other(Submit, 10), |_| {});
    jobs.event(&other(Commit, 11), |_| {});
    jobs.event(&other(Complete, 12), |job| assert_eq!(job.key, JobKey::Fence { context: 9, seqno: 9 }));
    assert_eq!(jobs.in_flight().count(), 2);
    ended.extend(run(&mut jobs, &[(Commit, 20, 3), (Complete, 25, 3)]));
    assert_eq!(
        ended.iter().map(|job| (job.key, job.status, job.start_ns)).collect::<Vec<_>>(),
        [(key(2), JobStatus::Lost, None), (key(3), JobStatus::Completed, Some((20, ExecKind::Inferred)))]
    );
    assert_eq!(jobs.in_flight().count(), 0);
    run(&mut jobs, &[(Submit, 30, 4)]);
    assert_eq!(jobs.ring(RING), JobCounts { out_of_order: 0, depth_peak: 3, busy_ns: 1 + 1 + 5 });
}

#[test]
fn without_a_loss_the_next_of_its_context_ends_no_job() {
    let mut jobs = Jobs::new();
    let ended = run(&mut jobs, &[(Submit, 0, 1), (Submit, 1, 2), (Commit, 3, 2), (Complete, 4, 2)]);
    assert_eq!((ended.len(), jobs.in_flight().count()), (1, 1));
}

#[test]
fn what_was_overtaken_too_often_is_lost_when_records_were() {
    let mut jobs = Jobs::new();
    // Another context, so that nothing but the ring tells.
    let hung = |kind, at_ns| Event { key: Some(JobKey::Address(7)), ..event(kind, at_ns, 7) };
    jobs.event(&hung(Submit, 0), |_| {});
    jobs.event(&hung(Commit, 0), |_| {});
    for i in 1..=2 * ring::MOST_OVERTAKEN as u64 {
        run(&mut jobs, &[(Submit, i * 10, i), (Commit, i * 10, i), (Complete, i * 10 + 5, i)]);
    }
    jobs.lost(|job| panic!("{job:?}"));
    let ended = run(&mut jobs, &[(Submit, 90_000, 9_000), (Commit, 90_000, 9_000), (Complete, 90_010, 9_000)]);
    assert_eq!(ended.iter().map(|job| job.status).collect::<Vec<_>>(), [JobStatus::Lost, JobStatus::Completed]);
    let busy_ns = jobs.ring(RING).busy_ns;
    jobs.finish(1_000_000, |job| panic!("{job:?}"));
    assert_eq!(jobs.ring(RING).busy_ns, busy_ns, "nothing is with the hardware");
}

#[test]
fn while_records_are_being_lost_jobs_in_flight_stay_bounded() {
    let mut jobs = Jobs::new();
    let mut lost = 0;
    for round in 0..100_u64 {
        for i in 0..20 {
            let number = round * 20 + i;
            let at = Event { key: Some(JobKey::Address(number)), ..event(Submit, number, number) };
            jobs.event(&at, |_| {});
        }
        jobs.lost(|job| {
            assert_eq!((job.status, job.submit_ns), (JobStatus::Lost, Some(lost)), "the oldest goes first");
            lost += 1;
        });
    }
    assert!(jobs.in_flight().count() <= lost::MOST_DOUBTED, "{}", jobs.in_flight().count());
    assert_eq!(jobs.in_flight().count() as u64 + lost, 2000);
}

#[test]
fn plain_jobs_given_as_steps_end_together_and_are_told_as_events_would_be() {
    let step = |kind, at_ns, seqno| OwnedStep::of(&event(kind, at_ns, seqno)).unwrap();
    let of_job = |n: u64| [step(Submit, n * 10, n), step(Commit, n * 10 + 2, n), step(Complete, n * 10 + 7, n)];
    // The first job makes room for the others, and is not plain itself.
    let steps: Vec<OwnedStep> = (0..20).flat_map(of_job).collect();
    let (mut jobs, mut told) = (Jobs::new(), Vec::new());
    jobs.take_steps(&mut steps.iter().map(OwnedStep::step), &mut |of: Ended<'_>| told.push(of.job()));
    assert!(told.len() < 20, "the last ones wait: {}", told.len());
    assert_eq!(jobs.in_flight().count(), 0, "and are not in flight");
    jobs.give_all_waiting(&mut |of: Ended<'_>| told.push(of.job()));
    let mut expected = Jobs::new();
    let events: Vec<_> =
        (0..20).flat_map(|n| [(Submit, n * 10, n), (Commit, n * 10 + 2, n), (Complete, n * 10 + 7, n)]).collect();
    assert_eq!(told, run(&mut expected, &events));
    assert_eq!(jobs.ring(RING), JobCounts { out_of_order: 0, depth_peak: 1, busy_ns: 100 });
}
