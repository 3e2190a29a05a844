//! Streams of events of jobs that were made up by a small model of rings (synthetic), and what the real analysis says of them.

use gpuscope_model::trace::{Event, EventKind, Family, JobKey, NameId, RingId, TraceNames};

/// Events in order of time.
pub(crate) struct Stream {
    pub(crate) names: TraceNames,
    pub(crate) events: Vec<Event>,
    /// Before the event at this place records were lost.
    pub(crate) losses: Vec<usize>,
    /// Who waits for whom.
    pub(crate) waits: Vec<(JobKey, JobKey)>,
    pub(crate) to_ns: u64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn event(at_ns: u64, kind: EventKind, key: JobKey) -> Event {
    Event {
        at_ns,
        kind,
        family: Family::DrmSched,
        cpu: 0,
        tid: 0,
        pid: 0,
        comm: NameId(0),
        ring: None,
        key: Some(key),
        other: None,
        client: None,
        value: None,
    }
}

/// Rings of equal names on two GPUs and on one that is not named; jobs that overtake each other, that wait for others, that fail, that
/// never run or never end; ends that are lost, and begins.
pub(crate) fn random(seed: u64, jobs: u64) -> Stream {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut names = TraceNames::default();
    let gpus = [Some("0000:03:00.0"), Some("0000:04:00.0"), None];
    let rings: Vec<RingId> =
        gpus.into_iter().flat_map(|gpu| ["gfx", "sdma0"].map(|name| names.ring(gpu, name))).collect();
    let comms = ["game", "browser", "encoder"].map(|name| names.text(name));
    let (mut events, mut waits) = (Vec::new(), Vec::new());
    let mut earlier: Vec<(JobKey, u64)> = Vec::new();
    let mut free_ns = [0; 6];
    // A context is a queue of one process for one ring, and hands its jobs over in order.
    let mut handed_over_ns = [[0; 6]; 3];
    for job in 0..jobs {
        let who = random.below(3);
        let at = random.below(6) as usize;
        let key = JobKey::Fence { context: who * 6 + at as u64 + 1, seqno: job + 1 };
        // Round times, so that many fall together.
        let submit_ns = 10_000 + job * 40 + random.below(8) * 10;
        let mut run_ns = submit_ns + random.below(20) * 10;
        let thread = |mut event: Event| {
            event.pid = 100 + who as u32;
            event.tid = 100 + who as u32 * 10;
            event.comm = comms[who as usize];
            event.cpu = who as u16 + 1;
            event
        };
        let mut waits_for = None;
        if random.below(4) == 0
            && let Some((other, done_ns)) = earlier.get(earlier.len().saturating_sub(1 + random.below(5) as usize))
            && *done_ns > submit_ns
        {
            waits_for = Some(*other);
            run_ns = run_ns.max(*done_ns);
        }
        run_ns = run_ns.max(handed_over_ns[who as usize][at]);
        handed_over_ns[who as usize][at] = run_ns;
        let mut submit = thread(event(submit_ns, EventKind::Submit, key));
        (submit.ring, submit.client) = (Some(rings[at]), (who > 0).then_some(who));
        submit.value = Some(1);
        let is_first_seen_late = random.below(30) == 0;
        if !is_first_seen_late {
            events.push(submit);
            if let Some(other) = waits_for {
                events.push(Event { other: Some(other), ..event(submit_ns, EventKind::Blocked, key) });
                waits.push((key, other));
            }
        }
        if random.below(40) == 0 {
            continue;
        }
        events.push(Event { ring: Some(rings[at]), ..event(run_ns, EventKind::Commit, key) });
        let starts_ns: u64 = if random.below(5) == 0 { run_ns } else { free_ns[at].max(run_ns) };
        let done_ns = starts_ns + random.below(30) * 10;
        free_ns[at] = done_ns;
        if at == 0 {
            events.push(event(starts_ns, EventKind::Start, key));
        }
        earlier.push((key, done_ns));
        if random.below(50) == 0 {
            continue;
        }
        let errno = if random.below(20) == 0 { -125 } else { 0 };
        events.push(Event { value: (job % 7 > 0).then_some(errno), ..event(done_ns, EventKind::Complete, key) });
    }
    events.sort_by_key(|event| event.at_ns);
    let losses = (1..3).map(|part| events.len() * part / 3).collect();
    let to_ns = events.last().map_or(0, |event| event.at_ns) + 500;
    Stream { names, events, losses, waits, to_ns }
}

/// Three jobs on two rings: one waits for another, one fails, one has not ended.
pub(crate) fn small() -> Stream {
    let mut names = TraceNames::default();
    let (gfx, sdma) = (names.ring(Some("0000:03:00.0"), "gfx"), names.ring(Some("0000:03:00.0"), "sdma0"));
    let comm = names.text("game");
    let key = |seqno| JobKey::Fence { context: 9, seqno };
    let of = |at_ns, kind, seqno, ring| Event {
        tid: 101,
        pid: 100,
        comm,
        cpu: 1,
        ring,
        client: Some(4),
        ..event(at_ns, kind, key(seqno))
    };
    let events = vec![
        of(6_000, EventKind::Submit, 1, Some(sdma)),
        of(6_010, EventKind::Submit, 2, Some(gfx)),
        Event { other: Some(key(1)), ..of(6_010, EventKind::Blocked, 2, None) },
        of(6_100, EventKind::Commit, 1, Some(sdma)),
        Event { value: Some(0), ..of(6_600, EventKind::Complete, 1, None) },
        of(6_650, EventKind::Commit, 2, Some(gfx)),
        of(6_700, EventKind::Submit, 3, Some(gfx)),
        of(6_750, EventKind::Commit, 3, Some(gfx)),
        Event { value: Some(-62), ..of(7_000, EventKind::Error, 2, Some(gfx)) },
        Event { value: Some(-62), ..of(8_000, EventKind::Complete, 2, None) },
    ];
    Stream { names, events, losses: Vec::new(), waits: vec![(key(2), key(1))], to_ns: 9_000 }
}

/// Three fences that ended with an error, as our BPF programs tell it: of a job that was done before, of one that was killed before it ran,
/// and of no job.
pub(crate) fn with_fence_errors() -> Stream {
    let mut names = TraceNames::default();
    let gfx = Some(names.ring(Some("0000:03:00.0"), "gfx"));
    let of = |at_ns, kind, context, seqno, ring, value| Event {
        ring,
        value,
        ..event(at_ns, kind, JobKey::Fence { context, seqno })
    };
    let failed = Some(-62);
    let events = vec![
        of(10, EventKind::Submit, 9, 1, gfx, None),
        of(20, EventKind::Submit, 9, 2, gfx, None),
        of(30, EventKind::Commit, 9, 1, gfx, None),
        of(40, EventKind::Complete, 9, 1, None, failed),
        of(41, EventKind::Error, 9, 1, None, failed),
        of(50, EventKind::Error, 9, 2, None, Some(-125)),
        of(60, EventKind::Error, 77, 5, None, failed),
    ];
    Stream { names, events, losses: Vec::new(), waits: Vec::new(), to_ns: 100 }
}

/// What is told of the machine beside jobs: an interrupt, a switch to another context, and frequencies.
pub(crate) fn of_the_machine() -> (TraceNames, Vec<Event>) {
    let mut names = TraceNames::default();
    let device = Some(names.ring(Some("fb000000.gpu"), ""));
    let rcs = Some(names.ring(Some("fb000000.gpu"), "rcs0"));
    let key = JobKey::Fence { context: 7, seqno: 8 };
    let of = |at_ns, kind, family, ring, value| Event { family, ring, value, key: None, ..event(at_ns, kind, key) };
    let hertz = |at_ns, ring, hz| of(at_ns, EventKind::Frequency, Family::Machine, ring, Some(hz));
    let events = vec![
        hertz(10, device, 200_000_000),
        of(20, EventKind::Irq, Family::Panthor, device, Some(900)),
        Event { key: Some(key), ..of(30, EventKind::ContextSwitch, Family::I915, rcs, None) },
        hertz(40, device, 800_000_000),
        hertz(50, None, 1_000_000_000),
    ];
    (names, events)
}

pub(crate) mod analysed {
    use super::Stream;
    use gpuscope_analysis::{JobCounts, Jobs};
    use gpuscope_model::trace::{Event, Job, RingId};

    pub(crate) struct Truth {
        pub(crate) jobs: Vec<Job>,
        pub(crate) rings: Vec<(RingId, JobCounts)>,
    }

    /// Puts the jobs together, and hands on each event with those that it ends; at last those in flight.
    pub(crate) fn run(stream: &Stream, mut each: impl FnMut(Option<&Event>, &[Job])) -> Truth {
        let (mut jobs, mut all) = (Jobs::new(), Vec::new());
        let mut ended = Vec::new();
        for (place, event) in stream.events.iter().enumerate() {
            ended.clear();
            if stream.losses.contains(&place) {
                jobs.lost(|job| ended.push(*job));
            }
            jobs.event(event, |job| ended.push(*job));
            each(Some(event), &ended);
            all.extend_from_slice(&ended);
        }
        ended.clear();
        jobs.finish(stream.to_ns, |job| ended.push(*job));
        each(None, &ended);
        all.extend_from_slice(&ended);
        let ids = (0..stream.names.rings().len() as u32).map(RingId);
        Truth { jobs: all, rings: ids.map(|id| (id, jobs.ring(id))).collect() }
    }
}
