//! Jobs that other families than the DRM scheduler's tell of, alone or beside it.

use super::*;
use EventKind::{Commit, Complete, FenceInit, FenceSignaled, Retired, Submit, SubmitCommit};

const GFX: RingId = RingId(0);
const OTHER: RingId = RingId(1);

fn event(family: Family, kind: EventKind, at_ns: u64, key: JobKey) -> Event {
    Event {
        at_ns,
        kind,
        family,
        cpu: 1,
        tid: 11,
        pid: 10,
        comm: NameId(0),
        ring: Some(GFX),
        key: Some(key),
        other: None,
        client: None,
        value: None,
    }
}

fn run(jobs: &mut Jobs, events: &[Event]) -> Vec<Job> {
    let mut ended = Vec::new();
    for event in events {
        jobs.event(event, |job| ended.push(*job));
    }
    ended
}

fn low(context: u32, seqno: u32) -> JobKey {
    JobKey::FenceLow { context, seqno }
}

fn whole(context: u64, seqno: u64) -> JobKey {
    JobKey::Fence { context, seqno }
}

#[test]
fn a_job_without_scheduler_ends_with_its_fence() {
    let mut jobs = Jobs::new();
    let ended = run(
        &mut jobs,
        &[
            event(Family::Amdgpu, Submit, 10, low(4, 1)),
            event(Family::Amdgpu, Commit, 20, low(4, 1)),
            event(Family::DmaFence, FenceSignaled, 30, low(3, 1)),
            event(Family::DmaFence, FenceSignaled, 50, low(4, 1)),
        ],
    );
    let [job] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((job.queue_ns(), job.exec_ns(), job.status), (Some(10), Some(30), JobStatus::Ended));
    assert_eq!((job.pid, jobs.unmatched_ends()), (10, 0), "fences of others are no ends of jobs");
}

#[test]
fn a_cut_fence_is_that_of_the_live_job_whose_upper_half_it_lacks() {
    let mut jobs = Jobs::new();
    let wide = whole(7 << 32 | 4, 9 << 32 | 1);
    run(&mut jobs, &[event(Family::I915, Submit, 10, wide), event(Family::I915, Submit, 11, whole(4, 2))]);
    assert_eq!(jobs.ring_of(low(4, 1)), Some(GFX));
    let ended = run(
        &mut jobs,
        &[
            event(Family::DmaFence, FenceSignaled, 20, low(4, 1)),
            event(Family::DmaFence, FenceSignaled, 21, low(4, 2)),
            // Over already: the same lower halves are nobody's.
            event(Family::DmaFence, FenceSignaled, 22, low(4, 1)),
        ],
    );
    assert_eq!(ended.iter().map(|job| job.key).collect::<Vec<_>>(), [wide, whole(4, 2)]);
    assert_eq!(jobs.ring_of(low(4, 1)), None);
    assert!(jobs.wide.is_empty());
}

#[test]
fn a_request_that_is_retired_after_its_fence_ended_once() {
    let mut jobs = Jobs::new();
    let ended = run(
        &mut jobs,
        &[
            event(Family::I915, Submit, 10, whole(4, 1)),
            event(Family::I915, Submit, 11, whole(4, 1)),
            event(Family::DmaFence, FenceSignaled, 20, low(4, 1)),
            event(Family::I915, Complete, 90, whole(4, 1)),
        ],
    );
    let [job] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((job.submit_ns, job.done_ns, job.run_ns), (Some(10), Some(20), None));
    assert_eq!((jobs.unmatched_ends(), jobs.in_flight().count()), (0, 0));
}

#[test]
fn where_the_scheduler_tells_of_jobs_drivers_that_do_so_too_are_not_heard() {
    let mut jobs = Jobs::new();
    let address = JobKey::Address(0x1000);
    let ended = run(
        &mut jobs,
        &[
            // Before the scheduler's first event, as `amdgpu_cs_ioctl` is; on a ring without a device.
            Event { ring: Some(OTHER), ..event(Family::Amdgpu, Submit, 9, low(4, 1)) },
            event(Family::DrmSched, Submit, 10, address),
            event(Family::DrmSched, Commit, 20, address),
            Event { ring: Some(OTHER), ..event(Family::Amdgpu, Commit, 21, low(4, 1)) },
            event(Family::Xe, Complete, 29, JobKey::Address(0x2000)),
            event(Family::DrmSched, Complete, 30, address),
            event(Family::DmaFence, FenceSignaled, 31, low(4, 1)),
        ],
    );
    let [job] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((job.key, job.ring, job.submit_ns, job.done_ns), (address, Some(GFX), Some(10), Some(30)));
    assert_eq!((jobs.in_flight().count(), jobs.unmatched_ends()), (0, 0));
    assert_eq!(jobs.ring(OTHER), JobCounts::default());
}

#[test]
fn a_command_is_with_the_host_from_its_submission() {
    let mut jobs = Jobs::new();
    let key = |number| JobKey::InRing { ring: GFX, number };
    let answer =
        |at_ns, number, error| Event { value: Some(error), ..event(Family::VirtioGpu, Complete, at_ns, key(number)) };
    let ended = run(
        &mut jobs,
        &[
            event(Family::VirtioGpu, SubmitCommit, 10, key(1)),
            event(Family::VirtioGpu, SubmitCommit, 15, key(2)),
            answer(30, 1, 0),
            answer(50, 2, -12),
            answer(60, 3, 0),
        ],
    );
    let [first, second] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((first.queue_ns(), first.in_flight_ns(), first.status), (Some(0), Some(20), JobStatus::Completed));
    assert_eq!((second.in_flight_ns(), second.status), (Some(35), JobStatus::Failed(-12)));
    assert_eq!(jobs.unmatched_ends(), 1, "the third was not seen to begin");
    assert_eq!(jobs.ring(GFX), JobCounts { out_of_order: 0, depth_peak: 2, busy_ns: 40 });
}

#[test]
fn what_the_hardware_says_that_it_took_is_measured() {
    let mut jobs = Jobs::new();
    let key = JobKey::InRing { ring: GFX, number: 5 };
    let retired = Event { value: Some(300), ..event(Family::Msm, Retired, 1_000, key) };
    let events = [event(Family::Msm, Submit, 10, key), event(Family::Msm, Commit, 20, key), retired];
    let ended = run(&mut jobs, &events);
    let [job] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((job.start_ns, job.exec_ns()), (Some((700, ExecKind::Measured)), Some(300)));
    assert_eq!((job.hw_queue_ns(), job.status), (Some(680), JobStatus::Ended));
}

#[test]
fn a_drivers_fence_for_the_schedulers_job_is_no_second_job() {
    let mut jobs = Jobs::new();
    let ended = run(
        &mut jobs,
        &[
            event(Family::DrmSched, Submit, 10, whole(4, 1)),
            event(Family::DrmSched, Commit, 20, whole(4, 1)),
            // The same thread, as it hands the job over.
            event(Family::DmaFence, SubmitCommit, 21, low(8, 1)),
            // A client of the older interface on another thread.
            Event { tid: 12, ..event(Family::DmaFence, SubmitCommit, 22, low(9, 1)) },
            event(Family::DmaFence, FenceInit, 23, low(10, 1)),
            event(Family::DmaFence, FenceSignaled, 30, low(8, 1)),
            event(Family::DrmSched, Complete, 31, whole(4, 1)),
            event(Family::DmaFence, FenceSignaled, 40, low(9, 1)),
        ],
    );
    assert_eq!(ended.iter().map(|job| job.key).collect::<Vec<_>>(), [whole(4, 1), whole(9, 1)]);
}
