//! One look at a whole trace.

mod people;
mod plain;

use crate::ioctls::IoctlCalls;
use crate::jobs::{Ended, PlainJob, Times};
use crate::{Distribution, Jobs, Pool};
use gpuscope_model::trace::{
    ContextReport, Dropped, ErrorReport, Event, EventKind, ExecKind, Family, FamilyReport, FaultReport, Job, JobStatus,
    NameId, ProcessReport, RingId, RingReport, StepKind, StepRef, TraceNames, TraceReport, WaitReport,
};
use gpuscope_model::{Reason, SourceReport, Text, Unavailable, Why};
use people::{MOST_CONTEXTS, MOST_PROCESSES, People};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Errors that are told one by one.
const MOST_ERRORS: usize = 100;

/// What a report is to know of the machine, beside the events.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Names of the drivers, by GPU: which of them leave the choice of what runs to firmware is known of the driver.
    pub drivers: Vec<(String, String)>,
    /// What could be captured.
    pub coverage: Vec<SourceReport>,
    /// Why records name no GPU, where they do not.
    pub no_gpu: Option<Why>,
    /// How many of the slowest jobs are wanted.
    pub slowest: usize,
}

/// Drivers whose rings are queues of the firmware, which decides what executes when (drivers/gpu/drm/xe/xe_guc_submit.c,
/// panthor/panthor_sched.c, imagination/pvr_queue.c), or of a host (virtio/virtgpu_vq.c, whose
/// device is bound to a driver of the bus): "run" is "handed to firmware" there.
const FIRMWARE_SCHEDULES: [&str; 5] = ["xe", "panthor", "powervr", "virtio-pci", "virtio-mmio"];

/// Sums up events and jobs.
#[derive(Debug)]
pub struct Report {
    subject: Subject,
    jobs: Jobs,
    totals: Totals,
}

/// Everything that is counted, apart from the jobs in flight.
#[derive(Debug, Default)]
struct Totals {
    pool: Pool,
    /// Until there is one, the end of time.
    from_ns: u64,
    to_ns: u64,
    /// By family and kind.
    events: [[u64; EventKind::ALL.len()]; Family::ALL.len()],
    rings: Vec<RingTotals>,
    people: People,
    /// Jobs that wait until they are added to the rings and people.
    plain: Vec<PlainJob>,
    /// By thread: since when it waits, and for which ring.
    waiting: FxHashMap<u32, (u64, Option<RingId>)>,
    waits: FxHashMap<(u32, Option<RingId>), (NameId, Distribution)>,
    ioctls: IoctlCalls,
    faults: Vec<(Family, Event)>,
    fault_count: u64,
    errors: Vec<(u64, Job)>,
    error_count: u64,
    slowest: BinaryHeap<Reverse<Slow>>,
    most_slow: usize,
    /// The shortest time of the slowest, once there are as many as are wanted; 0 until then.
    least_slow_ns: u64,
}

/// Values that a distribution keeps which may never be looked at.
const FEW: usize = 64 << 10;

#[derive(Debug)]
struct RingTotals {
    by_firmware: bool,
    by_status: [u64; 5],
    /// Of them, those of which it is known when they were handed over.
    handed_over: u64,
    measured: u64,
    /// Times of jobs that are not in the distributions yet: those below, in this order.
    waiting: Vec<[u32; 4]>,
    queue: Distribution,
    hw_queue: Distribution,
    exec: Distribution,
    in_flight: Distribution,
}

impl RingTotals {
    /// The times that will most likely be told are kept whole: those with the firmware where that decides, else those of execution.
    fn new(by_firmware: bool) -> Self {
        let keep = |told: bool| if told { Distribution::default() } else { Distribution::keeping(FEW) };
        RingTotals {
            by_firmware,
            by_status: [0; 5],
            handed_over: 0,
            measured: 0,
            waiting: Vec::new(),
            queue: Distribution::default(),
            hw_queue: keep(!by_firmware),
            exec: keep(!by_firmware),
            in_flight: keep(by_firmware),
        }
    }
}

/// A job by its time from submission to end.
#[derive(Debug)]
struct Slow(u64, Job);

impl PartialEq for Slow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Slow {}
impl PartialOrd for Slow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Slow {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, Reverse(self.1.submit_ns), self.1.key).cmp(&(other.0, Reverse(other.1.submit_ns), other.1.key))
    }
}

impl Report {
    /// Nothing was seen yet.
    pub fn new(subject: Subject) -> Self {
        let totals = Totals { from_ns: u64::MAX, most_slow: subject.slowest, ..Totals::default() };
        Report { subject, jobs: Jobs::new(), totals }
    }

    /// Takes an event, in order of time, and gives the job that it ends to `ended`, too.
    #[inline]
    pub fn event(&mut self, event: &Event, names: &TraceNames, mut ended: impl FnMut(&Job)) {
        self.take(event, names, |of| ended(&of.job()));
    }

    /// Takes an event, in order of time.
    #[inline]
    pub fn count(&mut self, event: &Event, names: &TraceNames) {
        self.take(event, names, |_| {});
    }

    /// Takes steps, in order of time: the same as [`Report::count`] of their events, without making any.
    #[inline(always)]
    pub fn steps<'s>(&mut self, steps: &mut impl Iterator<Item = StepRef<'s>>, names: &TraceNames) {
        while self.totals.rings.len() < names.rings().len() {
            self.add_ring(names);
        }
        let (jobs, totals) = (&mut self.jobs, &mut self.totals);
        if !totals.plain.is_empty() {
            totals.add_plain();
        }
        let Some(taken) = jobs.take_steps(steps, &mut |job: Ended<'_>| totals.job_of_steps(job)) else { return };
        totals.from_ns = totals.from_ns.min(taken.from_ns);
        totals.to_ns = totals.to_ns.max(taken.to_ns);
        for (kind, steps) in StepKind::ALL.into_iter().zip(taken.of_kinds) {
            totals.count(Family::DrmSched, kind.of_event(), steps);
        }
    }

    #[inline]
    fn take(&mut self, event: &Event, names: &TraceNames, mut ended: impl FnMut(&Ended<'_>)) {
        while self.totals.rings.len() < names.rings().len() {
            self.add_ring(names);
        }
        let totals = &mut self.totals;
        totals.from_ns = totals.from_ns.min(event.at_ns);
        totals.to_ns = totals.to_ns.max(event.at_ns);
        totals.count(event.family, event.kind, 1);
        if matches!(
            event.kind,
            EventKind::WaitBegin | EventKind::WaitEnd | EventKind::Error | EventKind::IoctlEnter | EventKind::IoctlExit
        ) {
            totals.of_no_job(event, &self.jobs);
        }
        self.jobs.take(event, &mut |job: Ended<'_>| {
            totals.job(job);
            ended(&job);
        });
    }

    /// Makes room for the next ring, and looks at who schedules it.
    #[cold]
    fn add_ring(&mut self, names: &TraceNames) {
        let at = self.totals.rings.len();
        let gpu = names.rings().get(at).and_then(|ring| ring.gpu.as_ref());
        let drivers = &self.subject.drivers;
        let by_firmware = |(_, driver): &(String, String)| FIRMWARE_SCHEDULES.contains(&driver.as_str());
        let by_firmware = match gpu {
            Some(gpu) => drivers.iter().any(|of| of.0 == gpu.as_str() && by_firmware(of)),
            // Where records name no GPU, any that is so makes all doubtful.
            None => drivers.iter().any(by_firmware),
        };
        if by_firmware && let Ok(id) = u32::try_from(at) {
            self.jobs.by_firmware(RingId(id));
        }
        self.totals.rings.push(RingTotals::new(by_firmware));
    }

    /// Whether firmware decides on this ring what executes when.
    pub fn is_by_firmware(&self, ring: RingId) -> bool {
        self.totals.rings.get(ring.0 as usize).is_some_and(|ring| ring.by_firmware)
    }

    /// The trace began at this moment, whenever its first event came.
    pub fn begin(&mut self, at_ns: u64) {
        self.totals.from_ns = at_ns;
    }

    /// Records were lost about now. Gives the jobs of which nothing more will be seen to `ended`.
    pub fn lost(&mut self, mut ended: impl FnMut(&Job)) {
        let totals = &mut self.totals;
        totals.ioctls.lost();
        self.jobs.give_all_waiting(&mut |job: Ended<'_>| totals.job(job));
        self.jobs.take_loss(&mut |job: Ended<'_>| {
            totals.job(job);
            ended(&job.job());
        });
    }

    /// Jobs in flight.
    pub fn in_flight(&self) -> impl Iterator<Item = Job> {
        self.jobs.in_flight()
    }

    /// The trace is over, at the time of its last event or at `to_ns`, whichever is later. Gives the jobs in flight to `ended`.
    pub fn finish(
        mut self,
        to_ns: Option<u64>,
        names: &TraceNames,
        dropped: Dropped,
        mut ended: impl FnMut(&Job),
    ) -> TraceReport {
        let totals = &mut self.totals;
        totals.to_ns = totals.to_ns.max(to_ns.unwrap_or(0));
        self.jobs.give_all_waiting(&mut |job: Ended<'_>| totals.job(job));
        self.jobs.take_end(totals.to_ns, &mut |job: Ended<'_>| {
            totals.job(job);
            ended(&job.job());
        });
        totals.add_all_plain();
        totals.people.add_up_all();
        let from_ns = if totals.from_ns == u64::MAX { totals.to_ns } else { totals.from_ns };
        let span_ns = totals.to_ns.saturating_sub(from_ns);
        let ids: Vec<RingId> = (0..names.rings().len()).filter_map(|i| u32::try_from(i).ok().map(RingId)).collect();
        let kinds: Vec<ExecKind> = ids.iter().map(|id| self.kind(*id)).collect();
        let kind = |ring: Option<RingId>| {
            ring.and_then(|ring| kinds.get(ring.0 as usize).copied()).unwrap_or(ExecKind::InFlight)
        };
        let totals = self.totals;
        let mut rings: Vec<RingReport> = Vec::new();
        for (id, exec_kind) in ids.iter().zip(&kinds) {
            let (Some(ring), Some(of)) = (names.get_ring(*id), totals.rings.get(id.0 as usize)) else { continue };
            let jobs = of.by_status.iter().fold(0_u64, |sum, n| sum.wrapping_add(*n));
            if jobs == 0 {
                continue;
            }
            let counts = self.jobs.ring(*id);
            let is_known = *exec_kind != ExecKind::InFlight;
            rings.push(RingReport {
                gpu: ring.gpu.clone(),
                name: ring.name.clone(),
                jobs,
                by_status: of.by_status,
                out_of_order: counts.out_of_order,
                busy_ratio: (span_ns > 0 && of.handed_over > 0)
                    .then(|| (counts.busy_ns as f64 / span_ns as f64).min(1.0)),
                depth_peak: counts.depth_peak,
                queue: of.queue.summary(),
                hw_queue: if is_known { of.hw_queue.summary() } else { None },
                exec: if is_known { of.exec.summary() } else { of.in_flight.summary() },
                exec_kind: *exec_kind,
            });
        }
        rings.sort_by(|a, b| (&a.gpu, &a.name).cmp(&(&b.gpu, &b.name)));
        let comm = |id: NameId| Text::from(names.get(id).to_string());
        let mut processes: Vec<ProcessReport> = totals
            .people
            .processes
            .iter()
            .zip(totals.people.exec_ns(|ring| kind(ring) == ExecKind::InFlight))
            .map(|(of, exec_ns)| ProcessReport {
                pid: of.pid,
                comm: comm(of.comm),
                jobs: of.jobs,
                failed: of.failed,
                exec_ns,
                queue: of.queue.summary(),
            })
            .collect();
        processes.sort_by_key(|of| (Reverse(of.jobs), of.pid));
        let ring_of = |ring: Option<RingId>| ring.and_then(|ring| names.get_ring(ring));
        let ring_name = |ring: Option<RingId>| ring_of(ring).map_or(Text::Static(""), |ring| ring.name.clone());
        let mut contexts: Vec<ContextReport> = totals
            .people
            .contexts
            .iter()
            .map(|of| ContextReport {
                context: of.context,
                pid: of.pid,
                gpu: ring_of(of.ring).and_then(|ring| ring.gpu.clone()),
                ring: ring_name(of.ring),
                jobs: of.jobs,
            })
            .collect();
        contexts.sort_by_key(|of| (Reverse(of.jobs), of.context));
        let mut waits: Vec<WaitReport> = totals
            .waits
            .iter()
            .filter_map(|((pid, ring), (name, waits))| {
                Some(WaitReport {
                    pid: *pid,
                    comm: comm(*name),
                    gpu: ring_of(*ring).and_then(|ring| ring.gpu.clone()),
                    ring: ring_name(*ring),
                    waits: waits.summary()?,
                })
            })
            .collect();
        waits.sort_by(|a, b| {
            (Reverse(a.waits.count), a.pid, &a.gpu, &a.ring).cmp(&(Reverse(b.waits.count), b.pid, &b.gpu, &b.ring))
        });
        let faults = totals
            .faults
            .iter()
            .map(|(family, event)| FaultReport {
                at_ns: event.at_ns,
                family: *family,
                gpu: ring_of(event.ring).and_then(|ring| ring.gpu.clone()),
                ring: ring_name(event.ring),
                error: event.value.filter(|error| *error != 0),
            })
            .collect();
        let families = Family::ALL.iter().zip(&totals.events).filter(|(_, events)| events.iter().any(|n| *n > 0));
        let families: Vec<FamilyReport> =
            families.map(|(family, events)| FamilyReport { family: *family, events: *events }).collect();
        let errors = totals
            .errors
            .iter()
            .map(|(at_ns, job)| ErrorReport {
                at_ns: *at_ns,
                gpu: ring_of(job.ring).and_then(|ring| ring.gpu.clone()),
                ring: ring_name(job.ring),
                key: Some(job.key),
                pid: if job.pid == 0 { job.tid } else { job.pid },
                comm: comm(job.comm),
                error: match job.status {
                    JobStatus::Failed(error) => Some(error),
                    _ => None,
                },
            })
            .collect();
        let told = |job: Job| {
            // What the ring's jobs do not have, this one does not have either.
            let start_ns =
                job.start_ns.filter(|(_, how)| *how == ExecKind::Measured || kind(job.ring) != ExecKind::InFlight);
            Job { start_ns, ..job }
        };
        let slowest = totals.slowest.into_sorted_vec().into_iter().map(|Reverse(Slow(_, job))| told(job)).collect();
        let mut unavailable = Vec::new();
        tell_unknown(&rings, &self.subject, &mut unavailable);
        for of in processes.iter().filter(|of| of.queue.is_none()) {
            let why = Why::not_supported("of no job of this process the hand-over is in the trace");
            unavailable.push(Unavailable::new(format!("processes[{}].queue_us", of.pid), why));
        }
        if totals.people.contexts_cut {
            let detail = format!("only the first {MOST_CONTEXTS} contexts are told one by one");
            unavailable.push(Unavailable::new("contexts", Why::new(Reason::NotSupported, detail)));
        }
        if totals.people.processes_cut > 0 {
            let detail = format!(
                "only the first {MOST_PROCESSES} processes are told one by one; {} jobs are of others",
                totals.people.processes_cut
            );
            unavailable.push(Unavailable::new("processes", Why::new(Reason::NotSupported, detail)));
        }
        TraceReport {
            from_ns,
            to_ns: totals.to_ns,
            events: std::array::from_fn(|kind| {
                families.iter().filter_map(|of| of.events.get(kind)).fold(0, |sum: u64, n| sum.saturating_add(*n))
            }),
            families,
            dropped,
            settings: None,
            unmatched_ends: self.jobs.unmatched_ends(),
            rings,
            processes,
            contexts,
            waits,
            ioctls: totals.ioctls.finish(names),
            errors,
            error_count: totals.error_count,
            notes: Vec::new(),
            note_count: 0,
            faults,
            fault_count: totals.fault_count,
            slowest,
            names: names.clone(),
            late: Vec::new(),
            late_names: TraceNames::default(),
            coverage: self.subject.coverage,
            unavailable,
        }
    }

    /// What the times of a ring's jobs are.
    fn kind(&self, id: RingId) -> ExecKind {
        let Some(of) = self.totals.rings.get(id.0 as usize) else { return ExecKind::InFlight };
        if of.measured > 0 && of.measured == of.exec.count() {
            return ExecKind::Measured;
        }
        if of.by_firmware || self.jobs.ring(id).out_of_order > 0 { ExecKind::InFlight } else { ExecKind::Inferred }
    }
}

/// Why a ring has jobs that ended, and no times between.
const NO_HAND_OVER: &str = "no event tells when a job was handed to the hardware (of i915, only kernels with \
                            CONFIG_DRM_I915_LOW_LEVEL_TRACEPOINTS have such events)";

/// Says what the reader of a report may miss.
fn tell_unknown(rings: &[RingReport], subject: &Subject, unavailable: &mut Vec<Unavailable>) {
    for ring in rings {
        let path = |field: &str| match &ring.gpu {
            Some(gpu) => format!("rings[{gpu} {}].{field}", ring.name),
            None => format!("rings[{}].{field}", ring.name),
        };
        if ring.gpu.is_none() {
            let why = subject.no_gpu.clone();
            let why = why.unwrap_or_else(|| Why::not_supported("these records do not say which device they are about"));
            unavailable.push(Unavailable::new(path("gpu"), why));
        }
        let [completed, ended, failed, ..] = ring.by_status;
        let has_no_hand_over =
            ring.busy_ratio.is_none() && ring.queue.is_none() && ring.exec.is_none() && completed + ended + failed > 0;
        let mut none = |field: &str, detail: &'static str| {
            let detail = if has_no_hand_over { NO_HAND_OVER } else { detail };
            unavailable.push(Unavailable::new(path(field), Why::not_supported(detail)))
        };
        if ring.busy_ratio.is_none() {
            none("utilisation_percent", "the trace has no length: all of its events are of one moment");
        }
        if ring.queue.is_none() {
            none("queue_us", "of no job of this ring both submission and hand-over are in the trace");
        }
        if ring.exec.is_none() {
            none("exec_us", "of no job of this ring both hand-over and end are in the trace");
        }
        if ring.exec_kind != ExecKind::InFlight && ring.hw_queue.is_none() {
            none("hw_queue_us", "of no job of this ring both hand-over and start are known");
        }
        if ring.exec_kind == ExecKind::InFlight {
            let why = if ring.out_of_order > 0 {
                Why::new(
                    Reason::NotSupported,
                    format!(
                        "{} jobs ended before one that was handed over earlier: {}, and no event tells when each began; exec is the time \
                         with the hardware",
                        ring.out_of_order,
                        // Which of the two cannot be told apart.
                        if ring.gpu.is_some() {
                            "this ring runs several at a time"
                        } else {
                            "it runs several at a time, or is several rings of one name"
                        },
                    ),
                )
            } else {
                Why::not_supported(
                    "the firmware of this driver, or its host, decides what executes when, and no event tells when a job began; exec is \
                     the time with the firmware",
                )
            };
            unavailable.push(Unavailable::new(path("hw_queue_us"), why));
        }
    }
}

impl Totals {
    /// Counts so many events.
    #[inline(always)]
    fn count(&mut self, family: Family, kind: EventKind, events: u64) {
        let of_family = self.events.get_mut(family as usize);
        if let Some(n) = of_family.and_then(|of| of.get_mut(kind as usize)) {
            *n = n.wrapping_add(events);
        }
    }

    /// An event that tells more than of its job, which it has not ended yet, or of none.
    #[inline(never)]
    fn of_no_job(&mut self, event: &Event, jobs: &Jobs) {
        match event.kind {
            EventKind::WaitBegin => {
                let waited = event.key.and_then(|key| jobs.ring_of(key)).or(event.ring);
                self.waiting.insert(event.tid, (event.at_ns, waited));
            }
            EventKind::WaitEnd => {
                if let Some((from_ns, ring)) = self.waiting.remove(&event.tid) {
                    let process = if event.pid == 0 { event.tid } else { event.pid };
                    let waits = self.waits.entry((process, ring));
                    let (comm, waits) = waits.or_insert_with(|| (event.comm, Distribution::keeping(FEW)));
                    *comm = event.comm;
                    waits.add(event.at_ns.saturating_sub(from_ns), &mut self.pool);
                }
            }
            EventKind::IoctlEnter | EventKind::IoctlExit => self.ioctls.event(event),
            // The scheduler's tell of jobs, which are told with the jobs.
            EventKind::Error if event.family != Family::DrmSched => {
                self.fault_count = self.fault_count.saturating_add(1);
                if self.faults.len() < MOST_ERRORS {
                    self.faults.push((event.family, *event));
                }
            }
            _ => {}
        }
    }

    /// Adds a job that comes among others, when nothing waits to be added.
    #[inline(always)]
    fn job_of_steps(&mut self, job: Ended<'_>) {
        match job.plain() {
            Some(plain) => self.add_plain_job(&plain),
            None => self.other_job(job),
        }
        self.look_for_slow(job);
    }

    #[inline(always)]
    fn job(&mut self, job: Ended<'_>) {
        match job.plain() {
            Some(plain) => self.take_plain(plain),
            None => self.other_job(job),
        }
        self.look_for_slow(job);
    }

    #[inline(always)]
    fn look_for_slow(&mut self, job: Ended<'_>) {
        if let Some(total_ns) = job.total_ns()
            && total_ns >= self.least_slow_ns
        {
            self.slow(total_ns, job);
        }
    }

    /// Adds a job of which not everything is known, or that failed.
    #[inline(never)]
    fn other_job(&mut self, job: Ended<'_>) {
        let times = job.times();
        // In the order in which they came.
        self.add_plain();
        if let JobStatus::Failed(_) = job.status() {
            self.fail(&job);
        }
        if let Some(ring) = job.ring().and_then(|ring| self.rings.get_mut(ring.0 as usize)) {
            ring.job(&job, &times, &mut self.pool);
        }
        // Who submitted a job whose submission was not seen is not known.
        if job.was_submitted() {
            self.people.job(&job, &times, &mut self.pool);
        }
    }

    #[cold]
    fn fail(&mut self, job: &Ended<'_>) {
        self.error_count = self.error_count.saturating_add(1);
        if self.errors.len() < MOST_ERRORS {
            self.errors.push((job.done_ns().unwrap_or(self.to_ns), job.job()));
        }
    }

    /// Keeps one of the slowest jobs.
    #[cold]
    fn slow(&mut self, total_ns: u64, job: Ended<'_>) {
        let slow = Slow(total_ns, job.job());
        if self.slowest.len() < self.most_slow {
            self.slowest.push(Reverse(slow));
        } else if let Some(mut least) = self.slowest.peek_mut()
            && least.0 < slow
        {
            *least = Reverse(slow);
        }
        if self.slowest.len() >= self.most_slow {
            self.least_slow_ns = self.slowest.peek().map_or(u64::MAX, |least| least.0.0);
        }
    }
}

impl RingTotals {
    fn job(&mut self, job: &Ended<'_>, times: &Times, pool: &mut Pool) {
        self.handed_over = self.handed_over.wrapping_add(u64::from(job.was_handed_over()));
        let status = match job.status() {
            JobStatus::Completed => 0,
            JobStatus::Ended => 1,
            JobStatus::Failed(_) => 2,
            JobStatus::InFlight => 3,
            JobStatus::Lost => 4,
        };
        if let Some(n) = self.by_status.get_mut(status) {
            *n = n.wrapping_add(1);
        }
        self.measured = self.measured.wrapping_add(u64::from(job.is_measured() && times.was_executed));
        self.times(times, pool);
    }

    /// Adds the times that are known.
    fn times(&mut self, times: &Times, pool: &mut Pool) {
        if times.was_queued {
            self.queue.add(times.queue_ns, pool);
        }
        if times.was_in_hw_queue {
            self.hw_queue.add(times.hw_queue_ns, pool);
        }
        if times.was_executed {
            self.exec.add(times.exec_ns, pool);
        }
        if times.was_in_flight {
            self.in_flight.add(times.in_flight_ns, pool);
        }
    }
}

#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;
