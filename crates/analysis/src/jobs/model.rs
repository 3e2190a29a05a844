//! The same written down plainly, with lists that are searched from end to end, and random events (synthetic) given to both.

use super::ring::MOST_OVERTAKEN;
use super::*;
use crate::owned_step::OwnedStep;
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Clone)]
struct One {
    id: u64,
    job: Job,
    order: Option<u64>,
    beside: bool,
    /// Its ring has forgotten it.
    forgotten: bool,
    family: Family,
}

#[derive(Default)]
struct PlainRing {
    counts: JobCounts,
    depth: u64,
    last_done_ns: Option<u64>,
    /// Place, job, and whether it has ended.
    order: Vec<(u64, u64, bool)>,
    next: u64,
    running: u64,
    busy_since_ns: u64,
    by_firmware: bool,
    suspect_before: u64,
}

#[derive(Default)]
struct Plain {
    live: Vec<One>,
    ids: u64,
    has_scheduler: bool,
    handing_over: HashMap<u16, u32>,
    rings: BTreeMap<RingId, PlainRing>,
    in_queue: BTreeSet<(u64, u64)>,
    strays: BTreeMap<RingId, Vec<u64>>,
    unmatched_ends: u64,
    doubtful_until_ns: u64,
    ended: Vec<Job>,
}

impl Plain {
    /// A key that is cut means the live job with whole numbers that end so, and among several the one that came last.
    fn whole(&self, key: JobKey) -> JobKey {
        let JobKey::FenceLow { context, seqno } = key else { return key };
        let is_wide = |of: &&One| match of.job.key {
            JobKey::Fence { context: c, seqno: s } => (c | s) >> 32 != 0 && (c as u32, s as u32) == (context, seqno),
            _ => false,
        };
        let plain = JobKey::Fence { context: u64::from(context), seqno: u64::from(seqno) };
        self.live.iter().filter(is_wide).max_by_key(|of| of.id).map_or(plain, |of| of.job.key)
    }

    fn at(&self, key: JobKey) -> Option<usize> {
        self.live.iter().position(|of| of.job.key == key)
    }

    fn ring(&mut self, ring: Option<RingId>) -> Option<&mut PlainRing> {
        Some(self.rings.entry(ring?).or_default())
    }

    fn event(&mut self, event: &Event) {
        use EventKind::{
            Blocked, Commit, Complete, Dependency, Error, FenceSignaled, Retired, Start, Submit, SubmitCommit,
        };
        let echoes = ECHOES.contains(&event.family);
        if self.has_scheduler && echoes && matches!(event.kind, Submit | Commit | Complete | Retired)
            || event.family == Family::DmaFence
                && event.kind == SubmitCommit
                && self.handing_over.get(&event.cpu) == Some(&event.tid)
        {
            return;
        }
        if event.family == Family::DrmSched && matches!(event.kind, Submit | Commit) {
            if !self.has_scheduler {
                self.has_scheduler = true;
                let of_echo = |of: &One| ECHOES.contains(&of.family);
                let gone: Vec<One> = self.live.extract_if(.., |of| of_echo(of)).collect();
                for gone in gone {
                    if let Some(ring) = gone.job.ring.and_then(|ring| self.rings.get_mut(&ring)) {
                        *ring = PlainRing { by_firmware: ring.by_firmware, ..PlainRing::default() };
                        self.live
                            .iter_mut()
                            .filter(|one| one.job.ring == gone.job.ring)
                            .for_each(|one| (one.order, one.forgotten) = (None, true));
                    }
                }
            }
            if event.kind == Commit {
                self.handing_over.insert(event.cpu, event.tid);
            }
        }
        let Some(key) = event.key else { return };
        let whole = self.whole(key);
        let found = self.at(whole);
        match (event.kind, found) {
            (Submit, _) => self.submit(event, whole),
            (Commit, _) => self.commit(event, whole),
            (SubmitCommit, _) => {
                self.submit(event, whole);
                self.commit(event, whole);
            }
            (Complete, _) => self.complete(event, whole, event.value),
            (FenceSignaled, Some(_)) => self.complete(event, whole, None),
            (Retired, Some(at)) => {
                if let Some(took_ns) = event.value.filter(|ns| *ns >= 0) {
                    let start_ns = event.at_ns.saturating_sub(took_ns as u64);
                    self.live[at].job.start_ns = Some((start_ns, ExecKind::Measured));
                    self.complete(event, whole, None);
                }
            }
            (Start, Some(at)) => {
                self.live[at].job.start_ns.get_or_insert((event.at_ns, ExecKind::Measured));
            }
            (Dependency, Some(at)) => self.live[at].job.dependencies += 1,
            (Blocked, Some(at)) => self.live[at].job.blocked_by = event.other,
            (Error, Some(_)) if event.family == Family::DrmSched && self.at(key).is_some() => {
                self.complete(event, whole, event.value);
            }
            (Error, _) if event.family == Family::DrmSched => {}
            (Error, Some(at)) => self.live[at].job.status = JobStatus::Failed(event.value.unwrap_or(0)),
            _ => {}
        }
    }

    fn begin(&mut self, event: &Event, key: JobKey) -> usize {
        self.ids += 1;
        let job = Job {
            key,
            ring: event.ring,
            client: event.client,
            pid: 0,
            tid: 0,
            comm: NameId(0),
            submit_ns: None,
            run_ns: None,
            start_ns: None,
            done_ns: None,
            dependencies: 0,
            blocked_by: None,
            status: JobStatus::InFlight,
        };
        let family = event.family;
        self.live.push(One { id: self.ids, job, order: None, beside: false, forgotten: false, family });
        self.live.len() - 1
    }

    fn submit(&mut self, event: &Event, key: JobKey) {
        if let Some(at) = self.at(key) {
            if matches!(key, JobKey::Fence { .. }) && self.live[at].job.submit_ns.is_some() {
                return;
            }
            self.lose(self.live[at].id);
        }
        let at = self.begin(event, key);
        let job = &mut self.live[at].job;
        (job.pid, job.tid, job.comm, job.submit_ns) = (event.pid, event.tid, event.comm, Some(event.at_ns));
        self.deeper(event.ring);
    }

    fn deeper(&mut self, ring: Option<RingId>) {
        if let Some(ring) = self.ring(ring) {
            ring.depth += 1;
            ring.counts.depth_peak = ring.counts.depth_peak.max(ring.depth);
        }
    }

    fn commit(&mut self, event: &Event, key: JobKey) {
        let mut found = self.at(key);
        if let Some(at) = found
            && self.live[at].job.run_ns.is_some()
        {
            if matches!(key, JobKey::Fence { .. }) {
                return;
            }
            self.lose(self.live[at].id);
            found = None;
        }
        let at = found.unwrap_or_else(|| self.begin(event, key));
        let before = self.live[at].job.ring;
        let ring = event.ring.or(before);
        let was_forgotten = std::mem::take(&mut self.live[at].forgotten);
        if (ring != before || was_forgotten) && self.live[at].job.submit_ns.is_some() {
            if let Some(before) = self.ring(before).filter(|_| !was_forgotten) {
                before.depth = before.depth.saturating_sub(1);
            }
            self.deeper(ring);
        }
        let id = self.live[at].id;
        let order = self.ring(ring).map(|ring| {
            if ring.running == 0 {
                ring.busy_since_ns = event.at_ns;
            }
            ring.running += 1;
            ring.order.push((ring.next, id, false));
            ring.next += 1;
            ring.next - 1
        });
        let one = &mut self.live[at];
        (one.job.ring, one.job.run_ns, one.order) = (ring, Some(event.at_ns), order);
    }

    /// Marks it as ended in its ring's order, and gives those ahead of it.
    fn out_of_order(&mut self, ring: RingId, place: u64) -> Vec<(u64, u64)> {
        let order = &mut self.rings.get_mut(&ring).unwrap().order;
        let Some(at) = order.iter().position(|of| of.0 == place) else { return Vec::new() };
        order[at].2 = true;
        order[..at].iter().filter(|of| !of.2).map(|of| (of.0, of.1)).collect()
    }

    fn lose(&mut self, id: u64) {
        let Some(at) = self.live.iter().position(|of| of.id == id) else { return };
        let mut one = self.live[at].clone();
        if let Some(ring) = self.ring(one.job.ring).filter(|_| !one.forgotten) {
            ring.depth = ring.depth.saturating_sub(u64::from(one.job.submit_ns.is_some()));
            if one.job.run_ns.is_some() {
                ring.running = ring.running.saturating_sub(1);
                rest(ring, ring.last_done_ns.unwrap_or(0));
            }
        }
        if let (Some(ring), Some(order)) = (one.job.ring, one.order) {
            self.out_of_order(ring, order);
        }
        one.job.status = JobStatus::Lost;
        self.ended.push(one.job);
        self.live.remove(at);
    }

    fn complete(&mut self, event: &Event, key: JobKey, error: Option<i64>) {
        let Some(at) = self.at(key) else {
            if event.family != Family::I915 {
                self.unmatched_ends += 1;
                self.doubtful_until_ns = self.doubtful_until_ns.max(event.at_ns + 1);
            }
            return;
        };
        let id = self.live[at].id;
        self.lose_suspects(at);
        let mut last_done_ns = None;
        let place = |of: &Plain| of.live.iter().position(|one| one.id == id).unwrap();
        let one = self.live[place(self)].clone();
        if let Some(of) = one.job.ring {
            let ring = self.ring(Some(of)).unwrap();
            last_done_ns = ring.last_done_ns;
            if one.forgotten {
                if one.job.run_ns.is_some() {
                    last_done_ns = ring.last_done_ns.replace(event.at_ns);
                }
            } else {
                ring.depth = ring.depth.saturating_sub(u64::from(one.job.submit_ns.is_some()));
            }
            if one.job.run_ns.is_some() && !one.forgotten {
                if let Some(order) = one.order {
                    self.pass(id, of, order);
                }
                let ring = self.ring(Some(of)).unwrap();
                ring.running = ring.running.saturating_sub(1);
                rest(ring, event.at_ns);
                last_done_ns = ring.last_done_ns.replace(event.at_ns);
            }
        }
        let mut one = self.live.remove(place(self));
        let job = &mut one.job;
        job.done_ns = Some(event.at_ns);
        job.status = match (job.status, error) {
            (failed @ JobStatus::Failed(_), _) => failed,
            (_, Some(0)) => JobStatus::Completed,
            (_, Some(error)) => JobStatus::Failed(error),
            (_, None) => JobStatus::Ended,
        };
        if let (Some(ring), Some(run_ns), None) = (job.ring, job.run_ns, job.start_ns)
            && !self.rings[&ring].by_firmware
            && !one.beside
            && run_ns >= self.doubtful_until_ns
        {
            let start_ns = last_done_ns.unwrap_or(0).max(run_ns).min(event.at_ns);
            job.start_ns = Some((start_ns, ExecKind::Inferred));
        }
        self.ended.push(one.job);
    }

    fn pass(&mut self, id: u64, of: RingId, order: u64) {
        let ahead = self.out_of_order(of, order);
        let suspect_before = self.rings[&of].suspect_before;
        let (lost, passed): (Vec<_>, Vec<_>) = ahead.into_iter().partition(|(place, _)| *place < suspect_before);
        if !passed.is_empty() {
            self.rings.get_mut(&of).unwrap().counts.out_of_order += 1;
            let beside: Vec<u64> = passed.iter().map(|of| of.1).chain([id]).collect();
            self.live.iter_mut().filter(|one| beside.contains(&one.id)).for_each(|one| one.beside = true);
        }
        lost.into_iter().for_each(|(_, id)| self.lose(id));
        let ring = self.rings.get_mut(&of).unwrap();
        while let Some((_, id, is_ended)) = ring.order.first().copied() {
            if !is_ended && ring.order.iter().filter(|of| of.2).count() < MOST_OVERTAKEN {
                break;
            }
            ring.order.remove(0);
            if !is_ended {
                self.live.iter_mut().filter(|one| one.id == id).for_each(|one| one.order = None);
            }
        }
    }

    fn lose_suspects(&mut self, at: usize) {
        let One { job: Job { key, ring: Some(ring), .. }, order: Some(order), .. } = self.live[at] else { return };
        let mut gone = Vec::new();
        if let JobKey::Fence { context, seqno } = key {
            gone.extend(self.in_queue.extract_if((context, 0)..(context, seqno), |_| true));
            self.in_queue.remove(&(context, seqno));
        }
        let in_queue = |one: &&One| one.job.run_ns.is_none() && one.job.ring == Some(ring);
        let find = |(context, seqno): (u64, u64)| self.at(JobKey::Fence { context, seqno });
        let mut gone: Vec<(JobKey, u64)> = gone
            .into_iter()
            .filter_map(|of| self.live.get(find(of)?))
            .filter(in_queue)
            .map(|one| (one.job.key, one.id))
            .collect();
        if order >= self.rings[&ring].suspect_before {
            let strays = self.strays.remove(&ring).unwrap_or_default();
            gone.extend(self.live.iter().filter(|one| strays.contains(&one.id)).map(|one| (one.job.key, one.id)));
        }
        gone.sort_unstable();
        gone.into_iter().for_each(|(_, id)| self.lose(id));
    }

    fn lost(&mut self) {
        self.rings.values_mut().for_each(|ring| ring.suspect_before = ring.next);
        if self.live.len() > lost::MOST_DOUBTED {
            let mut all: Vec<_> =
                self.live.iter().map(|of| (of.job.submit_ns.or(of.job.run_ns), of.job.key, of.id)).collect();
            all.sort_unstable();
            all.truncate(all.len() - lost::MOST_DOUBTED / 2);
            all.into_iter().for_each(|(.., id)| self.lose(id));
        }
        (self.in_queue, self.strays) = Default::default();
        for one in &self.live {
            if let (JobKey::Fence { context, seqno }, None) = (one.job.key, one.job.run_ns) {
                self.in_queue.insert((context, seqno));
            }
            if let (Some(ring), Some(_), None) = (one.job.ring, one.job.run_ns, one.order) {
                self.strays.entry(ring).or_default().push(one.id);
            }
        }
    }
}

fn rest(ring: &mut PlainRing, at_ns: u64) {
    if ring.running == 0 {
        ring.counts.busy_ns += at_ns.saturating_sub(ring.busy_since_ns);
    }
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len() as u64) as usize]
    }
}

/// What a run is made of.
struct Shape {
    /// Keys that come to be used, over and over.
    keys: u64,
    /// Of so many events one is of another family than the scheduler's.
    others: u64,
    /// Before so many events records are lost once.
    losses: u64,
    /// Of so many jobs one hangs.
    hangs: u64,
    contexts: u64,
    /// From one seqno to the next.
    stride: u64,
}

impl Shape {
    /// Keys of all kinds, some of them with upper halves.
    fn key(&self, number: u64) -> JobKey {
        let wide = if number.is_multiple_of(11) { 5 << 32 } else { 0 };
        match number % 8 {
            0 => JobKey::Address(0x1000 + number),
            1 => JobKey::InRing { ring: RingId(1), number },
            // The first seqnos are the last of all.
            _ => JobKey::Fence {
                context: wide | (number % self.contexts + 1),
                seqno: number.wrapping_sub(40).wrapping_mul(self.stride),
            },
        }
    }
}

/// Gives an event as a step, where it can be one.
fn give_step(jobs: &mut Jobs, event: &Event, mut ended: impl FnMut(&Job)) {
    let mut ended = |of: Ended<'_>| ended(&of.job());
    match OwnedStep::of(&Event { other: None, ..*event }) {
        Some(step) => {
            jobs.take_steps(&mut std::iter::once(step.step()), &mut ended);
            // To be compared event by event.
            jobs.give_all_waiting(&mut ended);
        }
        None => jobs.take(event, &mut ended),
    }
}

fn low(key: JobKey) -> JobKey {
    match key {
        JobKey::Fence { context, seqno } => JobKey::FenceLow { context: context as u32, seqno: seqno as u32 },
        key => key,
    }
}

fn compare(seed: u64, shape: &Shape) -> [u64; 5] {
    use EventKind::{
        Blocked, Commit, Complete, Dependency, Error, FenceSignaled, Retired, Start, Submit, SubmitCommit,
    };
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut jobs, mut stepped, mut plain) = (Jobs::new(), Jobs::new(), Plain::default());
    jobs.by_firmware(RingId(2));
    stepped.by_firmware(RingId(2));
    plain.ring(Some(RingId(2))).unwrap().by_firmware = true;
    let (mut at_ns, mut next, mut open) = (1_000, 0_u64, Vec::<(u64, EventKind)>::new());
    let mut seen = [0; 5];
    for step in 0..4_000_u64 {
        at_ns += chance.below(30);
        if chance.below(shape.losses) == 0 {
            let mut lost = Vec::new();
            jobs.lost(|job| lost.push(*job));
            let mut lost_of_steps = Vec::new();
            stepped.lost(|job| lost_of_steps.push(*job));
            plain.lost();
            assert_eq!(lost, lost_of_steps, "seed {seed}, step {step}");
            assert_eq!(lost, std::mem::take(&mut plain.ended), "seed {seed}, step {step}");
        }
        // Mostly the next event of one of the last jobs; some are left out, come twice or belong to none.
        let pick = chance.below(6.min(open.len() as u64).max(1)) as usize;
        let (number, kind) = match open.len().checked_sub(1 + pick) {
            Some(at) if chance.below(3) > 0 => {
                let (number, kind) = open.remove(at);
                match kind {
                    Submit => open.insert(at, (number, Commit)),
                    Commit if chance.below(shape.hangs) > 0 => open.insert(at, (number, Complete)),
                    _ => {}
                }
                (number, kind)
            }
            _ if chance.below(4) == 0 => {
                let kinds =
                    [Submit, Commit, Complete, Start, Dependency, Blocked, Error, FenceSignaled, Retired, SubmitCommit];
                (chance.below(shape.keys), chance.of(&kinds))
            }
            _ => {
                next += 1;
                open.push((next % shape.keys, Commit));
                (next % shape.keys, Submit)
            }
        };
        if open.len() > 50 {
            open.remove(0);
        }
        if chance.below(60) == 0 {
            continue;
        }
        let other = chance.below(shape.others) == 0;
        let families = [
            Family::I915,
            Family::Xe,
            Family::Amdgpu,
            Family::DmaFence,
            Family::VirtioGpu,
            Family::Msm,
            Family::DrmSched,
        ];
        // The scheduler comes late in some runs: until then others tell of its jobs.
        let family = match (other, seed % 4 == 1 && step < 1_000) {
            (true, _) => chance.of(&families),
            (_, true) => Family::Amdgpu,
            _ => Family::DrmSched,
        };
        let ring = (chance.below(12) > 0).then(|| RingId(if chance.below(30) == 0 { 3 } else { (number % 3) as u32 }));
        let whole = shape.key(number);
        let event = Event {
            at_ns,
            kind,
            family,
            cpu: chance.below(3) as u16,
            tid: 10 + chance.below(4) as u32,
            pid: chance.below(4) as u32,
            comm: NameId(chance.below(5) as u32),
            ring: ring.filter(|_| kind != Complete),
            key: Some(if chance.below(10) == 0 { low(whole) } else { whole }).filter(|_| chance.below(200) > 0),
            other: (chance.below(3) > 0).then(|| shape.key(chance.below(shape.keys))),
            client: (chance.below(2) == 0).then_some(number),
            value: [None, Some(0), Some(0), Some(-62), Some(40)][chance.below(5) as usize],
        };
        let mut ended = Vec::new();
        jobs.event(&event, |job| ended.push(*job));
        let mut ended_by_steps = Vec::new();
        give_step(&mut stepped, &event, |job| ended_by_steps.push(*job));
        plain.event(&event);
        assert_eq!(ended, ended_by_steps, "seed {seed}, step {step}: {event:?}");
        assert_eq!(ended, std::mem::take(&mut plain.ended), "seed {seed}, step {step}: {event:?}");
        for job in &ended {
            seen[match job.status {
                JobStatus::Lost => 0,
                JobStatus::Failed(_) => 1,
                _ => 2,
            }] += 1;
        }
        for job in &ended {
            assert_eq!(
                jobs.ring_of(low(job.key)),
                plain.at(plain.whole(low(job.key))).and_then(|at| plain.live[at].job.ring)
            );
        }
    }
    let mut in_flight: Vec<Job> = jobs.in_flight().collect();
    in_flight.sort_unstable_by_key(|job| (job.submit_ns.or(job.run_ns), job.key));
    let mut rest = Vec::new();
    jobs.finish(at_ns, |job| rest.push(*job));
    let mut rest_of_steps = Vec::new();
    stepped.finish(at_ns, |job| rest_of_steps.push(*job));
    assert_eq!((&rest, jobs.unmatched_ends()), (&rest_of_steps, stepped.unmatched_ends()), "seed {seed}");
    let mut expected: Vec<Job> = plain.live.iter().map(|one| one.job).collect();
    expected.sort_unstable_by_key(|job| (job.submit_ns.or(job.run_ns), job.key));
    assert_eq!((&in_flight, &rest), (&expected, &expected), "seed {seed}");
    assert_eq!(jobs.unmatched_ends(), plain.unmatched_ends, "seed {seed}");
    for (id, ring) in &mut plain.rings {
        if ring.running > 0 {
            ring.running = 0;
            self::rest(ring, at_ns);
        }
        assert_eq!(jobs.ring(*id), ring.counts, "seed {seed}, {id:?}");
        assert_eq!(stepped.ring(*id), ring.counts, "seed {seed}, {id:?}");
        seen[3] += ring.counts.out_of_order;
    }
    seen[4] = rest.len() as u64;
    seen
}

#[test]
fn random_events_come_to_the_same_as_in_the_plain_model() {
    let shapes = [
        Shape { keys: 12, others: 3, losses: 900, hangs: 20, contexts: 3, stride: 1 },
        Shape { keys: 300, others: 20, losses: 400, hangs: 100, contexts: 5, stride: 1 << 40 | 1 },
        Shape { keys: 100_000, others: 200, losses: 100_000, hangs: 300, contexts: 3, stride: 1 },
        Shape { keys: 5_000, others: 10, losses: 150, hangs: 40, contexts: 200, stride: 1 << 9 },
        Shape { keys: 5_000, others: 100, losses: 2_000, hangs: 3, contexts: 700, stride: 3 },
    ];
    let mut seen = [0; 5];
    for seed in 0..30 {
        let of = compare(seed, &shapes[seed as usize % shapes.len()]);
        seen.iter_mut().zip(of).for_each(|(all, of)| *all += of);
    }
    assert!(seen.iter().all(|n| *n > 500), "lost, failed, ended, out of order, in flight: {seen:?}");
}
