//! Why a job was late: its time from submission to end, piece by piece.
//!
//! The chain is followed backwards from the job's end, and at each moment to what decided then: execution, the jobs before it on the ring,
//! the last of what it waited for before it was handed over, and that one's time in turn. So the pieces never overlap, and add up.

mod processors;

use gpuscope_model::trace::{Cause, Event, EventKind, Job, JobKey, JobStatus, Lateness, Link, RingId, Share, Via, Who};
use processors::{Processors, Waited};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Jobs that are kept; with more, those that ended first are forgotten.
const MOST_JOBS: usize = 1 << 18;
/// Jobs in flight whose waits are kept.
const MOST_WAITERS: usize = 1 << 16;
/// Waits of one job that are kept.
const MOST_WAITS: usize = 64;
/// Jobs that a chain leads through.
const MOST_STEPS: usize = 1 << 16;
/// Pieces that are told in order.
const MOST_LINKS: usize = 256;
/// Shares that are told.
const MOST_SHARES: usize = 32;

/// What happened in the stretches of a trace in which late jobs were under way.
///
/// Feed it the events in order of time and every job once it has ended, as `Report` gives them; ask the [`Explainer`] then.
#[derive(Debug, Default)]
pub struct History {
    stretches: Vec<(u64, u64)>,
    firmware: Vec<bool>,
    /// What is known of jobs in flight.
    waits: FxHashMap<JobKey, Waits>,
    processors: Processors,
    jobs: Vec<Kept>,
    left_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    on: JobKey,
    /// When it was found not ready, if it was.
    blocked_ns: Option<u64>,
}

/// What a job waited for, and those who had to see to it.
#[derive(Debug, Default)]
struct Waits {
    on: Vec<Wait>,
    /// When the thread that handed it over waited for a processor, until then.
    worker: Option<Arc<Waited>>,
    /// The same of the thread that submitted it.
    submitter: Option<Arc<Waited>>,
}

#[derive(Debug)]
struct Kept {
    job: Job,
    waits: Waits,
}

impl History {
    /// Keeps what is needed to explain jobs of these times, from submission to end.
    pub fn of(stretches: Vec<(u64, u64)>) -> Self {
        History { stretches, ..History::default() }
    }

    /// On this ring firmware decides what executes when; each context has a scheduler of its own there.
    pub fn by_firmware(&mut self, ring: RingId) {
        let at = ring.0 as usize;
        if self.firmware.len() <= at {
            self.firmware.resize(at.saturating_add(1), false);
        }
        if let Some(place) = self.firmware.get_mut(at) {
            *place = true;
        }
    }

    /// Takes an event, before the jobs that it ends.
    pub fn event(&mut self, event: &Event) {
        self.processors.event(event);
        let blocked_ns = match event.kind {
            EventKind::Dependency => None,
            EventKind::Blocked => Some(event.at_ns),
            EventKind::Submit | EventKind::Commit => return self.thread_of_job(event),
            _ => return,
        };
        let (Some(key), Some(on)) = (event.key, event.other) else { return };
        let Some(waits) = self.waits(key) else { return };
        if let Some(wait) = waits.on.iter_mut().find(|wait| wait.on == on) {
            wait.blocked_ns = wait.blocked_ns.or(blocked_ns);
        } else if waits.on.len() < MOST_WAITS {
            waits.on.push(Wait { on, blocked_ns });
        }
    }

    /// A thread submits a job, or hands it over: when it had no processor until now.
    fn thread_of_job(&mut self, event: &Event) {
        let (Some(waited), Some(key)) = (self.processors.waited(event.tid), event.key) else { return };
        let Some(waits) = self.waits(key) else { return };
        let of = if event.kind == EventKind::Submit { &mut waits.submitter } else { &mut waits.worker };
        *of = Some(waited);
    }

    fn waits(&mut self, key: JobKey) -> Option<&mut Waits> {
        let is_full = self.waits.len() >= MOST_WAITERS && !self.waits.contains_key(&key);
        (!is_full).then(|| self.waits.entry(key).or_default())
    }

    /// Events were lost about now.
    pub fn lost(&mut self) {
        self.processors.lost();
    }

    /// Takes a job that ended, or that has not when the trace does.
    pub fn job(&mut self, job: &Job) {
        let waits = self.waits.remove(&job.key).unwrap_or_default();
        let begun_ns = job.submit_ns.or(job.run_ns).unwrap_or(0);
        let ended_ns = job.done_ns.unwrap_or(u64::MAX);
        if !self.stretches.iter().any(|(from, to)| begun_ns <= *to && ended_ns >= *from) {
            return;
        }
        if self.jobs.len() >= MOST_JOBS {
            self.jobs.drain(..MOST_JOBS / 2);
            self.left_out = self.left_out.saturating_add(MOST_JOBS as u64 / 2);
        }
        self.jobs.push(Kept { job: *job, waits });
    }

    /// Jobs that were forgotten because there were too many: what they did is not recorded then.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Everything was taken, until this moment.
    pub fn finish(self, to_ns: u64) -> Explainer {
        let mut of = Explainer { to_ns, firmware: self.firmware, jobs: self.jobs, ..Explainer::default() };
        let mut runs: FxHashMap<Scheduler, Vec<(u64, bool, usize)>> = FxHashMap::default();
        for (at, kept) in of.jobs.iter().enumerate() {
            let job = &kept.job;
            if let JobKey::Fence { context, .. } = job.key {
                of.by_key.insert(job.key, at);
                if let Some(submit_ns) = job.submit_ns {
                    of.by_context.entry(context).or_default().push((submit_ns, at));
                }
            }
            if let Some(scheduler) = of.scheduler(job)
                && let Some(run_ns) = job.run_ns
                && let Some(done_ns) = job.done_ns.or((job.status == JobStatus::InFlight).then_some(to_ns))
            {
                let of = runs.entry(scheduler).or_default();
                of.push((run_ns, true, at));
                of.push((done_ns, false, at));
            }
        }
        for queue in of.by_context.values_mut() {
            queue.sort_unstable();
        }
        for (scheduler, mut moments) in runs {
            // Of one moment, ends come first.
            moments.sort_unstable();
            let mut ring = Ring::default();
            let mut running: u64 = 0;
            for (at_ns, begins, at) in moments {
                if begins {
                    running = running.saturating_add(1);
                    ring.most = ring.most.max(running);
                } else {
                    ring.ends.push(End { at_ns, job: at, running });
                    running = running.saturating_sub(1);
                }
            }
            of.rings.insert(scheduler, ring);
        }
        of
    }
}

/// What hands jobs over: a ring's, or where firmware schedules a context's own (drivers/gpu/drm/xe/xe_guc_submit.c).
type Scheduler = (RingId, Option<u64>);

/// Says why jobs were late.
#[derive(Debug, Default)]
pub struct Explainer {
    to_ns: u64,
    firmware: Vec<bool>,
    jobs: Vec<Kept>,
    by_key: FxHashMap<JobKey, usize>,
    /// By submission.
    by_context: FxHashMap<u64, Vec<(u64, usize)>>,
    rings: FxHashMap<Scheduler, Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Jobs handed over and not ended, at most.
    most: u64,
    /// By time.
    ends: Vec<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at_ns: u64,
    job: usize,
    /// Jobs handed over and not ended, this one included.
    running: u64,
}

/// The job that decides up to some moment.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: usize,
    via: Via,
    /// Until its end, or until its hand-over.
    until: Until,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Done,
    Run,
}

/// The pieces found so far, the last one first.
struct Chain {
    from_ns: u64,
    to_ns: u64,
    links: Vec<Link>,
}

impl Chain {
    /// The time between this moment and what is explained so far is so.
    fn back_to(&mut self, from_ns: u64, cause: Cause, of: (&Job, Via), by: Option<&Job>) {
        let from_ns = from_ns.max(self.from_ns);
        if from_ns >= self.to_ns {
            return;
        }
        let (of, via) = (Who::from(of.0), of.1);
        let jobs = u64::from(by.is_some());
        self.links.push(Link { from_ns, to_ns: self.to_ns, cause, of, of_jobs: 1, via, by: by.map(Who::from), jobs });
        self.to_ns = from_ns;
    }
}

impl Chain {
    /// Back to this moment, it could be handed over.
    fn dispatch_back_to(&mut self, from_ns: u64, kept: &Kept, via: Via) {
        let causes = (no_reason(&kept.job), Cause::WorkerWaited);
        self.through(kept.waits.worker.as_deref(), from_ns, causes, (&kept.job, via));
    }

    /// Back to this moment, a thread had to do something: it waited for a processor meanwhile, or else it is as the first cause says.
    fn through(&mut self, waited: Option<&Waited>, from_ns: u64, (cause, waits): (Cause, Cause), of: (&Job, Via)) {
        if let Some(Waited { from_ns: known_ns, times }) = waited {
            for (begin_ns, end_ns) in times.iter().rev().filter(|(_, end_ns)| *end_ns > from_ns) {
                self.back_to((*end_ns).max(from_ns), cause, of, None);
                self.back_to((*begin_ns).max(from_ns), waits, of, None);
            }
            self.back_to((*known_ns).max(from_ns), cause, of, None);
            // There were more of them than are kept.
            self.back_to(from_ns, Cause::NotRecorded, of, None);
        }
        self.back_to(from_ns, cause, of, None);
    }
}

impl Explainer {
    /// Of several stretches of one trace: how many jobs a ring has room for is told by all of them.
    pub fn share_depths(of: &mut [Explainer]) {
        let mut most: FxHashMap<Scheduler, u64> = FxHashMap::default();
        for (scheduler, ring) in of.iter().flat_map(|of| &of.rings) {
            let most = most.entry(*scheduler).or_default();
            *most = ring.most.max(*most);
        }
        for (scheduler, ring) in of.iter_mut().flat_map(|of| &mut of.rings) {
            ring.most = most.get(scheduler).copied().unwrap_or(ring.most);
        }
    }

    /// Jobs that are known, in the order of their ends.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().map(|kept| &kept.job)
    }

    /// Why the job took its time; none where it is not among those that were kept, or nothing but its end was seen.
    pub fn explain(&self, key: JobKey, submit_ns: Option<u64>) -> Option<Lateness> {
        let is_it =
            |at: &usize| self.jobs.get(*at).is_some_and(|kept| kept.job.key == key && kept.job.submit_ns == submit_ns);
        let at = self.by_key.get(&key).copied().filter(is_it);
        let at = at.or_else(|| (0..self.jobs.len()).rev().find(is_it))?;
        let job = self.jobs.get(at)?.job;
        let from_ns = job.submit_ns.or(job.run_ns)?;
        let to_ns = job.done_ns.unwrap_or(self.to_ns).max(from_ns);
        let mut chain = Chain { from_ns, to_ns, links: Vec::new() };
        let mut step = Some(Step { at, via: Via::Itself, until: Until::Done });
        let mut steps: usize = 0;
        let mut last = (job, Via::Itself);
        while let Some(now) = step
            && chain.to_ns > from_ns
            && let Some(kept) = self.jobs.get(now.at)
        {
            last = (kept.job, now.via);
            steps = steps.saturating_add(1);
            if steps > MOST_STEPS {
                chain.back_to(from_ns, Cause::Earlier, (&kept.job, now.via), None);
                break;
            }
            if now.until == Until::Done && !self.until_done(now, &kept.job, &mut chain) {
                break;
            }
            step = self.until_run(now, kept, &mut chain);
        }
        chain.back_to(from_ns, Cause::NotRecorded, (&last.0, last.1), None);
        let links = chain.links;
        let shares = shares(&links);
        Some(Lateness { job, from_ns, to_ns, has_ended: job.done_ns.is_some(), links: in_order(links), shares })
    }

    /// What passed from the hand-over to the end. False where there was no hand-over.
    fn until_done(&self, now: Step, job: &Job, chain: &mut Chain) -> bool {
        let of = (job, now.via);
        let Some(run_ns) = job.run_ns else {
            // Not handed over yet: what holds it back is what held it back until now.
            if job.done_ns.is_none() {
                return true;
            }
            chain.back_to(job.submit_ns.unwrap_or(chain.from_ns), Cause::NeverRan, of, None);
            if job.submit_ns.is_some() {
                chain.back_to(chain.from_ns, Cause::NotSubmitted, of, None);
            }
            return false;
        };
        match job.start_ns {
            Some((start_ns, _)) => {
                chain.back_to(start_ns, Cause::Executed, of, None);
                self.behind(now, job, run_ns, Cause::BehindOnRing, chain);
            }
            None => chain.back_to(run_ns, Cause::InFlight, of, None),
        }
        true
    }

    /// What the job's ring executed back to this moment.
    fn behind(&self, now: Step, job: &Job, from_ns: u64, cause: Cause, chain: &mut Chain) {
        let of = (job, now.via);
        // What was not handed over while the ring had nothing to do is the scheduler's. Between two jobs that it had, it did what no
        // event tells.
        let idle = if cause == Cause::RingFull { no_reason(job) } else { Cause::NotRecorded };
        if let Some(ring) = self.scheduler(job).and_then(|scheduler| self.rings.get(&scheduler)) {
            let until = ring.ends.partition_point(|end| end.at_ns <= chain.to_ns);
            for end in ring.ends.get(..until).unwrap_or_default().iter().rev() {
                if chain.to_ns <= from_ns.max(chain.from_ns) || end.at_ns <= from_ns {
                    break;
                }
                if let Some(other) = self.jobs.get(end.job).map(|kept| &kept.job)
                    && end.job != now.at
                {
                    chain.back_to(end.at_ns, idle, of, None);
                    let begun_ns = other.start_ns.map(|(ns, _)| ns).or(other.run_ns).unwrap_or(end.at_ns);
                    chain.back_to(begun_ns.max(from_ns), cause, of, Some(other));
                }
            }
        }
        chain.back_to(from_ns, idle, of, None);
    }

    /// What passed until the hand-over, as far as the job itself tells; and which one decided before.
    fn until_run(&self, now: Step, kept: &Kept, chain: &mut Chain) -> Option<Step> {
        let job = &kept.job;
        let of = (job, now.via);
        let submit_ns = job.submit_ns?;
        // The last of what had to come first.
        let (mut ready_ns, mut next) = (submit_ns, None);
        let mut fence = None;
        let mut later = |at_ns: u64, step: Step| {
            if at_ns > ready_ns && at_ns <= chain.to_ns {
                (ready_ns, next) = (at_ns, Some(step));
            }
        };
        for wait in &kept.waits.on {
            match self.released(job, wait.on) {
                Released::At(at_ns, at, until) => later(at_ns, Step { at, via: Via::Dependency, until }),
                Released::BySameQueue => {}
                Released::NotKnown => {
                    if let Some(at_ns) = wait.blocked_ns
                        && fence.is_none_or(|(before, _)| before < at_ns)
                    {
                        fence = Some((at_ns, wait.on));
                    }
                }
            }
        }
        if let Some((at, before)) = self.before_in_queue(now.at, job)
            && let Some(at_ns) = before.run_ns.or(before.done_ns)
        {
            let until = if before.run_ns.is_some() { Until::Run } else { Until::Done };
            later(at_ns, Step { at, via: Via::OwnQueue, until });
        }
        if let Some((blocked_ns, on)) = fence {
            chain.back_to(blocked_ns.max(ready_ns), Cause::Fence(on), of, None);
        }
        if let Some(end) = self.made_room(now.at, job, ready_ns, chain.to_ns) {
            chain.dispatch_back_to(end.at_ns, kept, now.via);
            self.behind(now, job, ready_ns, Cause::RingFull, chain);
        }
        chain.dispatch_back_to(ready_ns, kept, now.via);
        if next.is_none() {
            chain.through(
                kept.waits.submitter.as_deref(),
                chain.from_ns,
                (Cause::NotSubmitted, Cause::SubmitterWaited),
                of,
            );
        }
        next
    }

    /// When a job need not wait for a fence any more.
    fn released(&self, job: &Job, on: JobKey) -> Released {
        let JobKey::Fence { context, seqno } = on else { return Released::NotKnown };
        // Fences of the own queue are passed over: it is in order anyway (drm_sched_entity_add_dependency_cb).
        let own =
            matches!(job.key, JobKey::Fence { context: own, .. } if own == context || own == context.wrapping_add(1));
        if own {
            return Released::BySameQueue;
        }
        let find = |key| self.by_key.get(&key).and_then(|at| Some((*at, &self.jobs.get(*at)?.job)));
        if let Some((at, other)) = find(on) {
            // Of its own scheduler, a job waits for the hand-over alone; where the fence had failed, for the end.
            let is_same = self.scheduler(job).is_some_and(|of| self.scheduler(other) == Some(of));
            if is_same && !matches!(other.status, JobStatus::Failed(_)) {
                return other.run_ns.map_or(Released::NotKnown, |ns| Released::At(ns, at, Until::Run));
            }
            let done_ns = other.done_ns.or((other.status == JobStatus::InFlight).then_some(self.to_ns));
            return done_ns.map_or(Released::NotKnown, |ns| Released::At(ns, at, Until::Done));
        }
        // A scheduled fence: the finished one is of the next context and has its seqno (drm_sched_fence_init).
        match find(JobKey::Fence { context: context.wrapping_add(1), seqno }) {
            Some((at, other)) => other.run_ns.map_or(Released::NotKnown, |ns| Released::At(ns, at, Until::Run)),
            None => Released::NotKnown,
        }
    }

    /// The job before it in the queue of its context.
    fn before_in_queue(&self, at: usize, job: &Job) -> Option<(usize, &Job)> {
        let (JobKey::Fence { context, .. }, Some(submit_ns)) = (job.key, job.submit_ns) else { return None };
        let queue = self.by_context.get(&context)?;
        let place = queue.partition_point(|of| *of < (submit_ns, at));
        let (_, before) = queue.get(place.checked_sub(1)?)?;
        Some((*before, &self.jobs.get(*before)?.job))
    }

    /// The last end on its ring, between two moments, before which the ring had as many jobs as it ever did.
    fn made_room(&self, at: usize, job: &Job, from_ns: u64, to_ns: u64) -> Option<End> {
        let ring = self.rings.get(&self.scheduler(job)?)?;
        let until = ring.ends.partition_point(|end| end.at_ns <= to_ns);
        let ends = ring.ends.get(..until)?.iter().rev().take_while(|end| end.at_ns > from_ns);
        ends.filter(|end| end.job != at).find(|end| end.running >= ring.most).copied()
    }

    fn scheduler(&self, job: &Job) -> Option<Scheduler> {
        let ring = job.ring?;
        let own = self.firmware.get(ring.0 as usize).is_some_and(|by_firmware| *by_firmware);
        let context = match job.key {
            JobKey::Fence { context, .. } if own => Some(context),
            _ => None,
        };
        Some((ring, context))
    }
}

/// What held a job back for which nothing else is told. By an address, nothing tells which jobs stand in one queue.
fn no_reason(job: &Job) -> Cause {
    if matches!(job.key, JobKey::Fence { .. }) { Cause::Dispatch } else { Cause::NotRecorded }
}

/// When a wait was over.
enum Released {
    /// At the end or at the hand-over of that job.
    At(u64, usize, Until),
    /// It never was one.
    BySameQueue,
    NotKnown,
}

/// Of the links from the last to the first, those that follow each other and say the same as one, and the earliest of many as one.
fn in_order(links: Vec<Link>) -> Vec<Link> {
    let mut told: Vec<Link> = Vec::new();
    let mut longest = 0;
    let Some(mut last) = links.first().map(|link| link.of.key) else { return told };
    for link in links {
        let is_full = told.len() >= MOST_LINKS;
        match told.last_mut() {
            Some(later) if subject(later) == subject(&link) => {
                let (ns, by) = (link.ns(), link.by);
                later.from_ns = link.from_ns;
                later.jobs = later.jobs.saturating_add(link.jobs);
                later.of_jobs = later.of_jobs.saturating_add(u64::from(link.of.key != last));
                if ns > longest {
                    (longest, later.by) = (ns, by);
                }
            }
            Some(earliest) if is_full => {
                let from_ns = link.from_ns;
                earliest.from_ns = from_ns;
                (earliest.cause, earliest.by, earliest.jobs) = (Cause::Earlier, None, 0);
            }
            _ => {
                longest = link.ns();
                told.push(link);
            }
        }
        last = link.of.key;
    }
    told.reverse();
    told
}

/// The time by what passed, the longest first; what is over as many as are told goes into the last one.
fn shares(links: &[Link]) -> Vec<Share> {
    struct Sum {
        share: Share,
        longest: u64,
        last: Option<JobKey>,
    }
    let mut by_subject: FxHashMap<Subject, Sum> = FxHashMap::default();
    for link in links {
        let ns = link.ns();
        let none = Share { link: Link { jobs: 0, of_jobs: 0, ..*link }, ns: 0 };
        let sum = by_subject.entry(subject(link)).or_insert(Sum { share: none, longest: 0, last: None });
        let share = &mut sum.share;
        share.ns = share.ns.saturating_add(ns);
        share.link.jobs = share.link.jobs.saturating_add(link.jobs);
        // The pieces of one job stand together.
        share.link.of_jobs = share.link.of_jobs.saturating_add(u64::from(sum.last != Some(link.of.key)));
        sum.last = Some(link.of.key);
        if ns > sum.longest {
            (sum.longest, share.link.by) = (ns, link.by);
        }
    }
    let mut shares: Vec<Share> = by_subject.into_values().map(|sum| sum.share).collect();
    shares.sort_unstable_by_key(|share| (std::cmp::Reverse(share.ns), share.link.from_ns));
    if shares.len() > MOST_SHARES {
        let rest: u64 = shares.drain(MOST_SHARES..).map(|share| share.ns).fold(0, u64::saturating_add);
        if let Some(last) = shares.last_mut() {
            last.ns = last.ns.saturating_add(rest);
            (last.link.cause, last.link.by, last.link.jobs) = (Cause::Earlier, None, 0);
        }
    }
    shares
}

/// What makes two pieces say the same.
type Subject = (Cause, Via, (u32, Option<RingId>), Option<(u32, Option<RingId>)>);

fn subject(link: &Link) -> Subject {
    let who = |who: Who| (who.pid, who.ring);
    (link.cause, link.via, who(link.of), link.by.map(who))
}

#[cfg(test)]
mod tests;
