use super::*;
use crate::owned_step::OwnedStep;
use gpuscope_model::trace::{Family, JobKey, Step, StepKind};

/// A trace as it is made up: names, and events added one by one.
struct Trace {
    names: TraceNames,
    events: Vec<Event>,
}

impl Trace {
    fn new() -> Self {
        Trace { names: TraceNames::default(), events: Vec::new() }
    }

    /// One job: submitted, handed over and ended at these times.
    fn job(&mut self, gpu: Option<&str>, ring: &str, pid: u32, seqno: u64, times: [u64; 3]) {
        let ring = self.names.ring(gpu, ring);
        let comm = self.names.text(&format!("p{pid}"));
        let kinds = [EventKind::Submit, EventKind::Commit, EventKind::Complete];
        for (kind, at_ns) in kinds.into_iter().zip(times) {
            self.events.push(Event {
                at_ns,
                kind,
                family: Family::DrmSched,
                cpu: 0,
                tid: pid + 1,
                pid,
                comm,
                ring: (kind != EventKind::Complete).then_some(ring),
                key: Some(JobKey::Fence { context: u64::from(pid), seqno }),
                other: None,
                client: Some(5),
                value: (kind == EventKind::Complete).then_some(0),
            });
        }
    }

    fn report(mut self, subject: Subject) -> TraceReport {
        self.events.sort_by_key(|event| event.at_ns);
        let mut report = Report::new(subject);
        for event in &self.events {
            report.event(event, &self.names, |_| {});
        }
        report.finish(None, &self.names, Dropped::default(), |_| {})
    }
}

fn drivers(of: &[(&str, &str)]) -> Subject {
    let drivers = of.iter().map(|(gpu, driver)| (gpu.to_string(), driver.to_string())).collect();
    Subject { drivers, slowest: 3, ..Subject::default() }
}

#[test]
fn rings_of_one_name_are_told_apart_by_their_gpu() {
    let mut trace = Trace::new();
    trace.job(Some("0000:04:00.0"), "gfx", 20, 1, [0, 10, 40]);
    trace.job(Some("0000:03:00.0"), "gfx", 10, 1, [0, 10, 20]);
    trace.job(Some("0000:03:00.0"), "gfx", 10, 2, [50, 60, 100]);
    let report = trace.report(drivers(&[]));
    let rings: Vec<_> = report.rings.iter().map(|r| (r.gpu.as_ref().unwrap().as_str(), r.jobs, r.busy_ratio)).collect();
    assert_eq!(rings, [("0000:03:00.0", 2, Some(0.5)), ("0000:04:00.0", 1, Some(0.3))]);
    let processes: Vec<_> = report.processes.iter().map(|p| (p.pid, p.comm.as_str(), p.jobs, p.exec_ns)).collect();
    assert_eq!(processes, [(10, "p10", 2, 50), (20, "p20", 1, 30)]);
    assert_eq!(report.count(EventKind::Submit), 3);
    assert_eq!((report.from_ns, report.to_ns), (0, 100));
    assert!(report.unavailable.is_empty(), "{:?}", report.unavailable);
}

#[test]
fn where_firmware_decides_times_are_in_flight_and_it_is_said() {
    let mut trace = Trace::new();
    trace.job(Some("0000:03:00.0"), "rcs0", 10, 1, [0, 10, 20]);
    trace.job(Some("0000:03:00.0"), "rcs0", 10, 2, [0, 10, 50]);
    let report = trace.report(drivers(&[("0000:03:00.0", "xe")]));
    let ring = &report.rings[0];
    assert_eq!((ring.exec_kind, ring.hw_queue), (ExecKind::InFlight, None));
    assert_eq!(ring.exec.unwrap().max_ns, 40, "from hand-over to end");
    assert_eq!(report.processes[0].exec_ns, 10 + 40);
    assert_eq!(report.unavailable[0].metric, "rings[0000:03:00.0 rcs0].hw_queue_us");
}

#[test]
fn a_ring_out_of_order_has_no_times_of_execution() {
    let mut trace = Trace::new();
    trace.job(Some("0000:03:00.0"), "gfx", 10, 1, [0, 10, 90]);
    trace.job(Some("0000:03:00.0"), "gfx", 10, 2, [0, 20, 50]);
    let report = trace.report(drivers(&[("0000:03:00.0", "amdgpu")]));
    let ring = &report.rings[0];
    assert_eq!((ring.out_of_order, ring.exec_kind), (1, ExecKind::InFlight));
    assert_eq!(ring.exec.unwrap().max_ns, 80);
    assert!(report.unavailable[0].why.detail.contains("1 jobs ended before one"), "{:?}", report.unavailable);
}

#[test]
fn records_without_a_device_leave_the_gpu_absent_with_the_reason() {
    let mut trace = Trace::new();
    trace.job(None, "gfx", 10, 1, [0, 10, 20]);
    let why = Why::not_supported("events of Linux before 6.17 do not carry it");
    let report = trace.report(Subject { no_gpu: Some(why.clone()), ..drivers(&[("0000:03:00.0", "amdgpu")]) });
    assert_eq!(report.rings[0].gpu, None);
    assert_eq!(report.unavailable, [Unavailable::new("rings[gfx].gpu", why)]);
}

#[test]
fn the_slowest_jobs_come_first() {
    let mut trace = Trace::new();
    for (seqno, end) in [(1, 30), (2, 200), (3, 50), (4, 100), (5, 40)] {
        trace.job(Some("0000:03:00.0"), "gfx", 10 + seqno as u32, seqno, [0, 10, end]);
    }
    let report = trace.report(drivers(&[]));
    assert_eq!(report.slowest.iter().map(|job| job.done_ns.unwrap()).collect::<Vec<_>>(), [200, 100, 50]);
}

#[test]
fn failed_jobs_are_told_with_their_process() {
    let mut trace = Trace::new();
    trace.job(Some("0000:03:00.0"), "gfx", 10, 1, [0, 10, 20]);
    trace.events[2].value = Some(-62);
    let report = trace.report(drivers(&[]));
    assert_eq!((report.error_count, report.rings[0].by_status), (1, [0, 0, 1, 0, 0]));
    let error = &report.errors[0];
    assert_eq!((error.pid, error.comm.as_str(), error.error, error.at_ns), (10, "p10", Some(-62), 20));
    assert_eq!(report.processes[0].failed, 1);
}

#[test]
fn waits_are_summed_by_process() {
    let mut trace = Trace::new();
    trace.job(Some("0000:03:00.0"), "gfx", 10, 1, [0, 1, 2]);
    let like = trace.events[0];
    let wait = |kind, at_ns, tid, pid| Event { at_ns, kind, tid, pid, key: None, ring: None, ..like };
    use EventKind::{WaitBegin, WaitEnd};
    trace.events.extend([wait(WaitBegin, 10, 1, 10), wait(WaitBegin, 20, 2, 10), wait(WaitEnd, 25, 2, 10)]);
    trace.events.extend([wait(WaitEnd, 40, 1, 10), wait(WaitEnd, 41, 3, 30)]);
    let report = trace.report(drivers(&[]));
    let waits: Vec<_> = report.waits.iter().map(|w| (w.pid, w.waits.count, w.waits.max_ns)).collect();
    assert_eq!(waits, [(10, 2, 30)], "an end without its beginning is none");
}

#[test]
fn what_has_no_value_has_its_reason() {
    let mut trace = Trace::new();
    trace.job(Some("0000:03:00.0"), "gfx", 10, 1, [5, 5, 5]);
    // Of this ring the submission alone is in the trace.
    trace.job(Some("0000:03:00.0"), "dma", 20, 1, [5, 6, 7]);
    trace.events.truncate(4);
    let report = trace.report(drivers(&[]));
    let missing: Vec<_> = report.unavailable.iter().map(|of| of.metric.as_str()).collect();
    let dma = "rings[0000:03:00.0 dma]";
    assert_eq!(
        missing,
        [
            &format!("{dma}.utilisation_percent"),
            &format!("{dma}.queue_us"),
            &format!("{dma}.exec_us"),
            &format!("{dma}.hw_queue_us"),
            "rings[0000:03:00.0 gfx].utilisation_percent",
            "processes[20].queue_us"
        ]
    );
}

#[test]
fn a_trace_without_events_has_an_empty_report() {
    let report = Trace::new().report(drivers(&[]));
    assert!(report.rings.is_empty() && report.processes.is_empty());
    assert_eq!(report.to_ns, report.from_ns);
}

/// An event of another family, on a thread of process 20.
fn other(family: Family, kind: EventKind, at_ns: u64, ring: Option<RingId>, key: Option<JobKey>) -> Event {
    Event {
        at_ns,
        kind,
        family,
        cpu: 0,
        tid: 21,
        pid: 20,
        comm: NameId(0),
        ring,
        key,
        other: None,
        client: None,
        value: None,
    }
}

#[test]
fn a_wait_is_for_the_ring_of_the_job_or_else_for_the_timeline() {
    let mut trace = Trace::new();
    trace.job(Some("0000:03:00.0"), "gfx", 10, 1, [0, 10, 90]);
    let timeline = Some(trace.names.ring(None, "glxgears[9]"));
    let wait = |from, to, context| {
        let key = Some(JobKey::FenceLow { context, seqno: 1 });
        [(EventKind::WaitBegin, from), (EventKind::WaitEnd, to)]
            .map(|(kind, at_ns)| other(Family::FenceWait, kind, at_ns, timeline, key))
    };
    // The job's fence; the same once it is over; another one.
    let waits = [wait(20, 91, 10), wait(100, 105, 10), wait(110, 111, 77)];
    trace.events.extend(waits.into_iter().flatten());
    let report = trace.report(drivers(&[]));
    let told: Vec<_> = report
        .waits
        .iter()
        .map(|of| (of.pid, of.gpu.as_ref().map(|gpu| gpu.as_str()), of.ring.as_str(), of.waits.count, of.waits.max_ns))
        .collect();
    assert_eq!(told, [(20, None, "glxgears[9]", 2, 5), (20, Some("0000:03:00.0"), "gfx", 1, 71)]);
}

#[test]
fn errors_of_drivers_are_faults_and_families_add_up() {
    let mut trace = Trace::new();
    trace.job(Some("0000:03:00.0"), "rcs0", 10, 1, [0, 10, 90]);
    let ring = Some(trace.names.ring(Some("0000:03:00.0"), "guc 5"));
    let timeout = Event { value: Some(-62), ..other(Family::Xe, EventKind::Error, 50, ring, None) };
    trace.events.extend([timeout, other(Family::V3d, EventKind::Error, 60, None, None)]);
    let report = trace.report(drivers(&[]));
    assert_eq!((report.error_count, report.fault_count, report.count(EventKind::Error)), (0, 2, 2));
    let [first, second] = &report.faults[..] else { panic!("{:?}", report.faults) };
    assert_eq!((first.at_ns, first.family, first.ring.as_str(), first.error), (50, Family::Xe, "guc 5", Some(-62)));
    assert_eq!((second.family, second.ring.as_str(), second.error), (Family::V3d, "", None));
    let families: Vec<(Family, u64)> = report.families.iter().map(|of| (of.family, of.events.iter().sum())).collect();
    assert_eq!(families, [(Family::DrmSched, 3), (Family::Xe, 1), (Family::V3d, 1)]);
}

#[test]
fn without_a_hand_over_a_ring_has_no_utilisation() {
    let mut trace = Trace::new();
    let ring = Some(trace.names.ring(Some("0000:00:02.0"), "rcs0"));
    let key = Some(JobKey::Fence { context: 5, seqno: 1 });
    trace.events.push(other(Family::I915, EventKind::Submit, 0, ring, key));
    trace.events.push(other(Family::DmaFence, EventKind::FenceSignaled, 100, None, key));
    let report = trace.report(drivers(&[("0000:00:02.0", "i915")]));
    let [ring] = &report.rings[..] else { panic!("{:?}", report.rings) };
    assert_eq!((ring.jobs, ring.busy_ratio, ring.exec, ring.queue), (1, None, None, None));
    assert!(report.unavailable.iter().any(|of| of.metric.as_str() == "rings[0000:00:02.0 rcs0].exec_us"));
}

fn give(report: &mut Report, kind: StepKind, step: &Step, names: &TraceNames) {
    let step = OwnedStep::of(&step.event(kind)).unwrap();
    report.steps(&mut std::iter::once(step.step()), names);
}

#[test]
fn more_lanes_than_are_remembered_add_up_to_what_their_jobs_do() {
    use std::collections::BTreeMap;
    let (mut names, mut report) = (TraceNames::default(), Report::new(drivers(&[])));
    let rings = ["gfx", "comp", "sdma"].map(|name| names.ring(Some("0000:03:00.0"), name));
    let comms = ["one", "two", "three"].map(|name| names.text(name));
    let mut processes: BTreeMap<u32, (Text, u64, u64)> = BTreeMap::new();
    let mut contexts: BTreeMap<u64, (Text, u64)> = BTreeMap::new();
    let (mut state, mut at_ns) = (7_u64, 1_000);
    let mut chance = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    for seqno in 0..40_000_u64 {
        let (pid, context, ring) = (100 + chance(90) as u32, chance(70), chance(3) as usize);
        let (comm, runs_ns) = (chance(3) as usize, 1 + chance(900));
        let step =
            |at_ns| Step { at_ns, context, seqno, ring: Some(rings[ring]), pid, comm: comms[comm], ..Step::default() };
        give(&mut report, StepKind::Submit, &step(at_ns), &names);
        give(&mut report, StepKind::Commit, &step(at_ns + 5), &names);
        // Some fail: they are added up at once, and not with those that wait.
        let error = if chance(50) == 0 { -5 } else { 0 };
        let end = Step { value: Some(error), ..step(at_ns + 5 + runs_ns) };
        give(&mut report, StepKind::Complete, &end, &names);
        at_ns += 1_000;
        let process = processes.entry(pid).or_insert((Text::Static(""), 0, 0));
        *process = (Text::from(names.get(comms[comm]).to_string()), process.1 + 1, process.2 + runs_ns);
        let context = contexts.entry(context).or_insert((Text::Static(""), 0));
        *context = (names.get_ring(rings[ring]).unwrap().name.clone(), context.1 + 1);
    }
    let report = report.finish(None, &names, Dropped::default(), |_| {});
    let told = report.processes.iter().map(|of| (of.pid, (of.comm.clone(), of.jobs, of.exec_ns)));
    assert_eq!(told.collect::<BTreeMap<_, _>>(), processes);
    let told = report.contexts.iter().map(|of| (of.context, (of.ring.clone(), of.jobs)));
    assert_eq!(told.collect::<BTreeMap<_, _>>(), contexts);
    assert!(report.error_count > 100);
}

#[test]
fn times_that_wait_are_told_exactly() {
    let (mut names, mut report) = (TraceNames::default(), Report::new(drivers(&[])));
    let ring = names.ring(Some("0000:03:00.0"), "gfx");
    let mut times: Vec<[u64; 3]> = Vec::new();
    for seqno in 0..1_000_u64 {
        let (at_ns, queue_ns) = (seqno * 10_000_000_000, seqno * 7919 % 1009);
        // Some take longer than 32 bits tell.
        let exec_ns = if seqno % 100 == 99 { 5_000_000_000 + seqno } else { seqno * 104_729 % 99_991 };
        let step = |at_ns| Step { at_ns, context: 3, seqno, ring: Some(ring), pid: 9, ..Step::default() };
        give(&mut report, StepKind::Submit, &step(at_ns), &names);
        give(&mut report, StepKind::Commit, &step(at_ns + queue_ns), &names);
        give(&mut report, StepKind::Complete, &step(at_ns + queue_ns + exec_ns), &names);
        times.push([queue_ns, 0, exec_ns]);
    }
    let report = report.finish(None, &names, Dropped::default(), |_| {});
    let [ring] = &report.rings[..] else { panic!("{report:?}") };
    assert_eq!((ring.jobs, ring.by_status[1]), (1_000, 1_000));
    for (at, told) in [ring.queue, ring.hw_queue, ring.exec].into_iter().enumerate() {
        let mut all: Vec<u64> = times.iter().map(|of| of[at]).collect();
        all.sort_unstable();
        let told = told.unwrap();
        assert_eq!((told.count, told.error), (1_000, 0.0));
        assert_eq!([told.p50_ns, told.p90_ns, told.p99_ns, told.max_ns], [499, 899, 989, 999].map(|at| all[at]));
        assert_eq!(told.mean_ns, all.iter().sum::<u64>() as f64 / 1_000.0);
    }
}
