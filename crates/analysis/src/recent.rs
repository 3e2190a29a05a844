//! The last seconds of a running trace.

use crate::{Distribution, Pool, Watch};
use gpuscope_model::Text;
use gpuscope_model::trace::{Job, JobStatus, NameId, RecentProcess, RecentReport, RecentRing, RingId, TraceNames};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::VecDeque;

/// Jobs that are remembered; where more end within the window, it gets shorter.
const MOST_JOBS: usize = 100_000;

/// Remembers the jobs that ended in the last seconds.
#[derive(Debug)]
pub struct Recent {
    window_ns: u64,
    most: usize,
    ended: VecDeque<Job>,
    /// From when on every job that ended is here.
    from_ns: u64,
}

/// What is added up for a ring or a process.
#[derive(Debug, Default)]
struct Sums {
    comm: (u64, NameId),
    jobs: u64,
    failed: u64,
    queued: u64,
    on_hardware: u64,
    queue: Distribution,
    in_flight: Distribution,
    /// When jobs were with the hardware.
    busy: Vec<(u64, u64)>,
}

impl Recent {
    /// Remembers so long. The trace began at `began_ns`.
    pub fn new(window_ns: u64, began_ns: u64) -> Recent {
        Recent { window_ns, most: MOST_JOBS, ended: VecDeque::new(), from_ns: began_ns }
    }

    /// A job has ended.
    pub fn ended(&mut self, job: &Job) {
        let Some(done_ns) = job.done_ns else { return };
        if self.ended.len() >= self.most {
            self.ended.pop_front();
            self.from_ns = self.ended.front().and_then(|job| job.done_ns).unwrap_or(done_ns);
        }
        self.ended.push_back(*job);
    }

    /// The last seconds before this moment, until which all events were given, with the jobs in flight.
    pub fn look(&mut self, watch: &Watch, names: &TraceNames, at_ns: u64) -> RecentReport {
        let from_ns = self.from_ns.max(at_ns.saturating_sub(self.window_ns)).min(at_ns);
        self.from_ns = from_ns;
        while self.ended.front().is_some_and(|job| job.done_ns.unwrap_or(0) < from_ns) {
            self.ended.pop_front();
        }
        let mut pool = Pool::default();
        let mut rings: FxHashMap<Option<RingId>, Sums> = FxHashMap::default();
        let mut processes: FxHashMap<u32, Sums> = FxHashMap::default();
        for job in self.ended.iter().copied().chain(watch.jobs().in_flight()) {
            rings.entry(job.ring).or_default().add(&job, from_ns, at_ns, &mut pool);
            let of = processes.entry(job.pid).or_default();
            of.add(&job, from_ns, at_ns, &mut pool);
            of.comm = of.comm.max((job.submit_ns.unwrap_or(0), job.comm));
        }
        let span_ns = at_ns.saturating_sub(from_ns);
        let mut rings: Vec<RecentRing> = rings.into_iter().map(|(ring, of)| of.ring(ring, names, span_ns)).collect();
        rings.sort_by(|a, b| (&a.gpu, &a.name).cmp(&(&b.gpu, &b.name)));
        let process = |(pid, of): (u32, Sums)| RecentProcess {
            pid,
            comm: Text::from(names.get(of.comm.1).to_string()),
            jobs: of.jobs,
            failed: of.failed,
            in_flight: of.queued.saturating_add(of.on_hardware),
            queue: of.queue.summary(),
        };
        let mut processes: Vec<RecentProcess> = processes.into_iter().map(process).collect();
        processes.sort_by_key(|of| (Reverse(of.jobs), Reverse(of.in_flight), of.pid));
        RecentReport { at_ns, span_ns, rings, processes, stuck: watch.stuck().to_vec(), names: names.clone() }
    }
}

impl Sums {
    fn add(&mut self, job: &Job, from_ns: u64, at_ns: u64, pool: &mut Pool) {
        if let Some(run_ns) = job.run_ns {
            self.busy.push((run_ns.max(from_ns), job.done_ns.unwrap_or(at_ns).min(at_ns)));
        }
        if job.done_ns.is_none() {
            let count = if job.run_ns.is_some() { &mut self.on_hardware } else { &mut self.queued };
            *count = count.saturating_add(1);
            return;
        }
        self.jobs = self.jobs.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(matches!(job.status, JobStatus::Failed(_))));
        if let Some(queue_ns) = job.queue_ns() {
            self.queue.add(queue_ns, pool);
        }
        if let Some(in_flight_ns) = job.in_flight_ns() {
            self.in_flight.add(in_flight_ns, pool);
        }
    }

    fn ring(mut self, ring: Option<RingId>, names: &TraceNames, span_ns: u64) -> RecentRing {
        self.busy.sort_unstable();
        let (mut busy_ns, mut until_ns) = (0_u64, 0);
        for (begin, end) in self.busy {
            busy_ns = busy_ns.saturating_add(end.saturating_sub(begin.max(until_ns)));
            until_ns = until_ns.max(end);
        }
        let of = ring.and_then(|ring| names.get_ring(ring));
        RecentRing {
            gpu: of.and_then(|of| of.gpu.clone()),
            name: of.map_or(Text::Static(""), |of| of.name.clone()),
            jobs: self.jobs,
            failed: self.failed,
            busy_ratio: if span_ns > 0 { (busy_ns as f64 / span_ns as f64).min(1.0) } else { 0.0 },
            queued: self.queued,
            on_hardware: self.on_hardware,
            queue: self.queue.summary(),
            in_flight: self.in_flight.summary(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conditions;
    use gpuscope_model::trace::{Event, EventKind, Family, JobKey};

    struct Trace {
        watch: Watch,
        recent: Recent,
        names: TraceNames,
    }

    impl Trace {
        fn new(window_ns: u64, most: usize) -> Trace {
            let mut names = TraceNames::default();
            names.ring(Some("0000:00:02.0"), "gfx");
            let recent = Recent { most, ..Recent::new(window_ns, 0) };
            Trace { watch: Watch::new(Conditions::default()), recent, names }
        }

        fn event(&mut self, kind: EventKind, at_ns: u64, seqno: u64) {
            let event = Event {
                at_ns,
                kind,
                family: Family::DrmSched,
                cpu: 0,
                tid: 11,
                pid: 10,
                comm: NameId(0),
                ring: (kind != EventKind::Complete).then_some(RingId(0)),
                key: Some(JobKey::Fence { context: 1, seqno }),
                other: None,
                client: None,
                value: (kind == EventKind::Complete).then_some(if seqno.is_multiple_of(5) { -5 } else { 0 }),
            };
            let Trace { watch, recent, .. } = self;
            watch.event(&event, |job| recent.ended(job));
        }

        /// A job that waits 10, runs 40 and is followed by 50 of nothing.
        fn job(&mut self, seqno: u64) {
            self.event(EventKind::Submit, seqno * 100, seqno);
            self.event(EventKind::Commit, seqno * 100 + 10, seqno);
            self.event(EventKind::Complete, seqno * 100 + 50, seqno);
        }

        fn look(&mut self, at_ns: u64) -> RecentReport {
            self.recent.look(&self.watch, &self.names, at_ns)
        }
    }

    #[test]
    fn only_the_last_seconds_count() {
        let mut trace = Trace::new(1_000, 1_000);
        for seqno in 0..100 {
            trace.job(seqno);
        }
        let report = trace.look(10_000);
        let [ring] = &report.rings[..] else { panic!("{report:?}") };
        assert_eq!((report.span_ns, ring.jobs, ring.failed), (1_000, 10, 2));
        assert!((ring.busy_ratio - 0.4).abs() < 1e-9, "{}", ring.busy_ratio);
        assert_eq!(ring.queue.map(|of| (of.p50_ns, of.max_ns)), Some((10, 10)));
        assert_eq!(ring.in_flight.map(|of| (of.count, of.max_ns)), Some((10, 40)));
        assert_eq!((report.processes[0].pid, report.processes[0].jobs), (10, 10));
        assert_eq!(report.per_second(10), Some(10_000_000.0));
        // Time goes on without events.
        let later = trace.look(20_000);
        assert!(later.rings.is_empty() && later.processes.is_empty());
    }

    #[test]
    fn jobs_in_flight_are_where_they_are_and_keep_the_ring_busy() {
        let mut trace = Trace::new(1_000, 1_000);
        trace.event(EventKind::Submit, 100, 1);
        trace.event(EventKind::Submit, 100, 2);
        trace.event(EventKind::Commit, 500, 1);
        let report = trace.look(1_000);
        let ring = &report.rings[0];
        assert_eq!((ring.jobs, ring.queued, ring.on_hardware, ring.queue), (0, 1, 1, None));
        assert!((ring.busy_ratio - 0.5).abs() < 1e-9);
        assert_eq!(report.processes[0].in_flight, 2);
    }

    #[test]
    fn where_more_jobs_come_than_are_kept_the_span_is_shorter_and_said() {
        let mut trace = Trace::new(100_000, 20);
        for seqno in 0..100 {
            trace.job(seqno);
        }
        let report = trace.look(10_000);
        assert_eq!((report.rings[0].jobs, report.span_ns), (20, 10_000 - 8_050));
    }
}
