//! What is worth to be told at once, while a capture runs: slow jobs, failed ones, and those that are stuck.

use crate::{Jobs, Released, StuckJobs};
use gpuscope_model::trace::{Event, EventKind, Family, Job, JobKey, JobStatus, StuckJob};
use std::collections::VecDeque;

/// Notices that are kept between two looks; the others are counted.
const MOST_NOTICES: usize = 256;

/// Jobs that are remembered for an error that is told after their end.
const MOST_RECENT: usize = 256;

/// `-ETIME` and `-ETIMEDOUT`: what drivers give to the fences of jobs that they end because these took too long.
const TIMED_OUT: [i64; 2] = [-62, -110];

/// What is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Jobs that took at least so long from submission to end.
    pub slow_ns: Option<u64>,
    /// Jobs that the driver ended because they took too long.
    pub timeout: bool,
    /// Jobs that failed, in whatever way.
    pub error: bool,
    /// Jobs that are held up for at least so long, and when they no longer are.
    pub stuck_ns: Option<u64>,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A job took long.
    Slow(Job),
    /// A job was ended because it took too long.
    TimedOut(Job),
    /// A job failed.
    Failed(Job),
    /// A job failed whose submission was not seen.
    FailedFence(Event),
    /// A job is stuck.
    Stuck(StuckJob),
    /// A job is no longer stuck.
    Released(Released),
}

impl Notice {
    /// When it happened; of a stuck job, when it was found.
    pub fn at_ns(&self) -> u64 {
        match self {
            Notice::Slow(job) | Notice::TimedOut(job) | Notice::Failed(job) => job.done_ns.unwrap_or(0),
            Notice::FailedFence(event) => event.at_ns,
            Notice::Stuck(stuck) => stuck.at_ns,
            Notice::Released(released) => released.job.done_ns.unwrap_or(0),
        }
    }
}

/// Puts events together to jobs, and tells those that meet the conditions. Feed it events in order of time.
#[derive(Debug)]
pub struct Watch {
    conditions: Conditions,
    jobs: Jobs,
    told: Told,
    stuck: Option<StuckJobs>,
    stuck_now: Vec<StuckJob>,
}

/// What was found since the last look.
#[derive(Debug, Default)]
struct Told {
    notices: Vec<Notice>,
    left_out: u64,
    /// Jobs that ended last, and did not fail as far as is known.
    recent: VecDeque<Job>,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(conditions: Conditions) -> Watch {
        let stuck = conditions.stuck_ns.map(StuckJobs::new);
        Watch { conditions, jobs: Jobs::new(), told: Told::default(), stuck, stuck_now: Vec::new() }
    }

    /// Takes an event, and gives the jobs that it ends.
    pub fn event(&mut self, event: &Event, mut ended: impl FnMut(&Job)) {
        let Watch { conditions, jobs, told, stuck, .. } = self;
        let mut is_known = false;
        jobs.event(event, |job| {
            ended(job);
            is_known |= Some(job.key) == event.key;
            told.ended(*conditions, job);
            if let Some(released) = stuck.as_mut().and_then(|stuck| stuck.ended(job)) {
                told.put(Notice::Released(released));
            }
        });
        if is_known {
            return;
        }
        match event.kind {
            EventKind::Complete if event.value.is_some_and(|error| error < 0) => told.failed_fence(*conditions, event),
            EventKind::Error => told.error(*conditions, event),
            _ => {}
        }
    }

    /// Records were lost about now: the ends of jobs that are in flight may be among them.
    pub fn lost(&mut self) {
        let Watch { jobs, told, stuck, .. } = self;
        jobs.lost(|job| {
            if let Some(released) = stuck.as_mut().and_then(|stuck| stuck.ended(job)) {
                told.put(Notice::Released(released));
            }
        });
        if let Some(stuck) = stuck {
            stuck.lost();
        }
    }

    /// What there is to be told, of events until this moment, and how many notices more there were than are kept.
    pub fn look(&mut self, at_ns: u64) -> (Vec<Notice>, u64) {
        if let Some(stuck) = &mut self.stuck {
            self.stuck_now = stuck.look(&self.jobs, at_ns);
            for stuck in self.stuck_now.iter().filter(|stuck| stuck.is_new) {
                self.told.put(Notice::Stuck(stuck.clone()));
            }
        }
        (std::mem::take(&mut self.told.notices), std::mem::take(&mut self.told.left_out))
    }

    /// The jobs that were stuck at the last look.
    pub fn stuck(&self) -> &[StuckJob] {
        &self.stuck_now
    }

    /// Alarms of stuck jobs so far.
    pub fn raised(&self) -> u64 {
        self.stuck.as_ref().map_or(0, StuckJobs::raised)
    }

    /// The jobs, as far as they are in flight.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

impl Told {
    fn put(&mut self, notice: Notice) {
        if self.notices.len() < MOST_NOTICES {
            self.notices.push(notice);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    fn ended(&mut self, conditions: Conditions, job: &Job) {
        let took_ns = job.done_ns.zip(job.submit_ns).map(|(done, submit)| done.saturating_sub(submit));
        if let JobStatus::Failed(error) = job.status {
            self.failed(conditions, job, error);
        } else if conditions.error || conditions.timeout {
            self.recent.push_back(*job);
            if self.recent.len() > MOST_RECENT {
                self.recent.pop_front();
            }
        }
        if conditions.slow_ns.is_some_and(|slow| took_ns.is_some_and(|took| took >= slow)) {
            self.put(Notice::Slow(*job));
        }
    }

    fn failed(&mut self, conditions: Conditions, job: &Job, error: i64) {
        let timed_out = TIMED_OUT.contains(&error);
        if conditions.timeout && timed_out {
            self.put(Notice::TimedOut(*job));
        } else if conditions.error {
            self.put(Notice::Failed(*job));
        }
    }

    fn failed_fence(&mut self, conditions: Conditions, event: &Event) {
        let timed_out = event.value.is_some_and(|error| TIMED_OUT.contains(&error));
        if conditions.error || (conditions.timeout && timed_out) {
            self.put(Notice::FailedFence(*event));
        }
    }

    /// An error that did not end a job: it belongs to one that ended just before, to the hardware's fence of a job, or to no job at all. Of
    /// the scheduler's family only the first is told, as all fences of the machine are among the others.
    fn error(&mut self, conditions: Conditions, event: &Event) {
        let same = |key: JobKey| self.recent.iter().position(|job| job.key == key);
        match event.key.and_then(same).and_then(|at| self.recent.remove(at)) {
            Some(job) => {
                let error = event.value.unwrap_or(0);
                self.failed(conditions, &Job { status: JobStatus::Failed(error), ..job }, error);
            }
            None if event.family != Family::DrmSched => self.failed_fence(conditions, event),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::{NameId, RingId};

    const ALL: Conditions = Conditions { slow_ns: Some(100), timeout: true, error: true, stuck_ns: Some(1_000) };

    fn event(kind: EventKind, at_ns: u64, seqno: u64, value: Option<i64>) -> Event {
        Event {
            at_ns,
            kind,
            family: Family::DrmSched,
            cpu: 0,
            tid: 11,
            pid: 10,
            comm: NameId(0),
            ring: matches!(kind, EventKind::Submit | EventKind::Commit).then_some(RingId(0)),
            key: Some(JobKey::Fence { context: 1, seqno }),
            other: None,
            client: None,
            value,
        }
    }

    fn names(notices: &[Notice]) -> Vec<(&'static str, u64)> {
        let name = |notice: &Notice| match notice {
            Notice::Slow(_) => "slow",
            Notice::TimedOut(_) => "timeout",
            Notice::Failed(_) => "failed",
            Notice::FailedFence(_) => "fence",
            Notice::Stuck(_) => "stuck",
            Notice::Released(_) => "released",
        };
        notices.iter().map(|notice| (name(notice), notice.at_ns())).collect()
    }

    fn told(conditions: Conditions, events: &[(EventKind, u64, u64, Option<i64>)]) -> Vec<(&'static str, u64)> {
        let mut watch = Watch::new(conditions);
        let mut told = Vec::new();
        for (kind, at_ns, seqno, value) in events {
            watch.event(&event(*kind, *at_ns, *seqno, *value), |_| {});
            told.extend(names(&watch.look(*at_ns).0));
        }
        told
    }

    use EventKind::{Commit, Complete, Error, Submit};

    #[test]
    fn jobs_are_told_when_they_meet_a_condition() {
        let events = [
            (Submit, 0, 1, None),
            (Commit, 10, 1, None),
            (Complete, 99, 1, Some(0)),
            (Submit, 200, 2, None),
            (Commit, 210, 2, None),
            (Complete, 300, 2, Some(0)),
            (Submit, 400, 3, None),
            (Commit, 410, 3, None),
            (Complete, 420, 3, Some(-5)),
            (Submit, 500, 4, None),
            (Commit, 510, 4, None),
            (Submit, 1_510, 5, None),
            (Complete, 1_600, 4, Some(-62)),
        ];
        assert_eq!(
            told(ALL, &events),
            [
                ("slow", 300),
                ("failed", 420),
                ("stuck", 1_510),
                ("timeout", 1_600),
                ("slow", 1_600),
                ("released", 1_600)
            ]
        );
        let only = |change: fn(&mut Conditions)| {
            let mut conditions = Conditions::default();
            change(&mut conditions);
            told(conditions, &events)
        };
        assert_eq!(only(|of| of.slow_ns = Some(1_100)), [("slow", 1_600)]);
        assert_eq!(only(|of| of.timeout = true), [("timeout", 1_600)]);
        assert_eq!(only(|of| of.error = true), [("failed", 420), ("failed", 1_600)]);
        assert_eq!(only(|of| of.stuck_ns = Some(1_001)), []);
        assert_eq!(only(|_| {}), []);
    }

    #[test]
    fn an_error_behind_the_end_of_its_job_is_its_own_and_told_once() {
        let behind = [
            (Submit, 0, 1, None),
            (Commit, 1, 1, None),
            (Complete, 2, 1, None),
            (Error, 3, 1, Some(-62)),
            (Error, 4, 1, Some(-62)),
        ];
        assert_eq!(told(ALL, &behind), [("timeout", 2)]);
        let beside =
            [(Submit, 0, 1, None), (Commit, 1, 1, None), (Complete, 2, 1, Some(-62)), (Error, 3, 1, Some(-62))];
        assert_eq!(told(ALL, &beside), [("timeout", 2)]);
        // The hardware's own fence, of which no job is known.
        assert_eq!(told(ALL, &[(Error, 3, 77, Some(-62))]), []);
    }

    #[test]
    fn a_failed_job_that_was_submitted_before_the_capture_is_told() {
        assert_eq!(told(ALL, &[(Complete, 3, 1, Some(-62)), (Complete, 4, 2, Some(0))]), [("fence", 3)]);
    }

    #[test]
    fn notices_are_bounded_and_the_rest_is_counted() {
        let mut watch = Watch::new(ALL);
        for seqno in 0..1_000 {
            watch.event(&event(Submit, seqno, seqno, None), |_| {});
            watch.event(&event(Complete, seqno, seqno, Some(-5)), |_| {});
        }
        let (notices, left_out) = watch.look(1_000);
        assert_eq!((notices.len() as u64 + left_out, notices.len()), (1_000, MOST_NOTICES));
        assert_eq!(watch.look(1_001), (Vec::new(), 0));
    }
}
