//! A report on many jobs: CPU time and, under `valgrind --tool=callgrind`, instructions an event, from the event to the finished report.
//!
//! `cargo bench -p gpuscope-analysis --bench report -- JOBS [events]`. The jobs are synthetic, as those of `cargo bench -p gpuscope-trace
//! --bench recording`: three events each, on 24 rings, of 200 threads in 50 processes. Their records, of 24 bytes, are made in small batches
//! beforehand, and the time of that is measured by itself. They are given to the report as steps or, with `events`, as events.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::indexing_slicing, reason = "a benchmark may end at once")]

use gpuscope_analysis::{Report, Subject};
use gpuscope_model::trace::{
    Dropped, EventKind, NameId, RingId, StepKind, StepRef, StepTemplate, StepThread, StepValue, TraceNames,
};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const GPUS: [&str; 4] = ["0000:03:00.0", "0000:04:00.0", "0000:83:00.0", "0000:84:00.0"];
const RINGS: [&str; 6] = ["gfx_0.0.0", "comp_1.0.0", "comp_1.1.0", "sdma0", "sdma1", "vcn_unified_0"];
const THREADS: u64 = 200;
/// Events that are made at once: few enough to come from a near cache, as a block that was just read does.
const BATCH: usize = 1 << 15;

struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    at_ns: u64,
    kind: Reverse<EventKind>,
    ring: u32,
    seqno: u64,
    thread: u32,
}

/// Rings whose hardware takes two jobs at a time and runs them one behind the other.
struct Jobs {
    chance: Chance,
    coming: BinaryHeap<Reverse<Moment>>,
    done_ns: Vec<VecDeque<u64>>,
    /// By thread. A context is one thread's and of one ring, as a `drm_sched_entity` is.
    seqnos: Vec<u64>,
    left: u64,
}

impl Jobs {
    fn new(jobs: u64) -> Jobs {
        let rings = (GPUS.len() * RINGS.len()) as u32;
        let mut all = Jobs {
            chance: Chance(0x9e37_79b9_7f4a_7c15),
            coming: BinaryHeap::new(),
            done_ns: vec![VecDeque::new(); rings as usize],
            seqnos: vec![0; THREADS as usize],
            left: jobs,
        };
        (0..rings).for_each(|ring| all.submission(1_000_000_000_000, ring));
        all
    }

    fn submission(&mut self, after_ns: u64, ring: u32) {
        let at_ns = after_ns + 10_000 + self.chance.below(180_000);
        let rings = (GPUS.len() * RINGS.len()) as u64;
        let threads = (THREADS - u64::from(ring)).div_ceil(rings);
        let thread = ring + (rings * self.chance.below(threads)) as u32;
        let seqno = &mut self.seqnos[thread as usize];
        *seqno += 1;
        let seqno = *seqno;
        self.coming.push(Reverse(Moment { at_ns, kind: Reverse(EventKind::Submit), ring, seqno, thread }));
    }

    /// The next events; none when all jobs have ended.
    fn fill(&mut self, batch: &mut Vec<Record>) {
        batch.clear();
        while batch.len() < BATCH
            && let Some(Reverse(now)) = self.coming.pop()
        {
            let Moment { at_ns, kind: Reverse(kind), ring, seqno, thread } = now;
            if kind == EventKind::Submit {
                let done = &mut self.done_ns[ring as usize];
                let free_ns = done.len().checked_sub(2).map_or(0, |i| done[i]);
                let run_ns = at_ns.max(free_ns) + 1_500 + self.chance.below(15_000);
                let begin_ns = done.back().copied().unwrap_or(0).max(run_ns);
                let slow_ns = if self.chance.below(50) == 0 { 2_000_000 } else { 0 };
                let done_ns = begin_ns + 20_000 + self.chance.below(100_000) + slow_ns;
                done.push_back(done_ns);
                if done.len() > 64 {
                    done.pop_front();
                }
                self.coming.push(Reverse(Moment { at_ns: run_ns, kind: Reverse(EventKind::Commit), ..now }));
                self.coming.push(Reverse(Moment { at_ns: done_ns, kind: Reverse(EventKind::Complete), ..now }));
                self.left = self.left.saturating_sub(1);
                if self.left > 0 {
                    let next_ns = if done_ns > at_ns + 5_000_000 { done_ns } else { at_ns };
                    self.submission(next_ns, ring);
                }
            }
            batch.push(Record {
                at: (at_ns - FROM_NS) as u32,
                turn: ((at_ns - FROM_NS) >> 32) as u8,
                kind: match kind {
                    EventKind::Submit => 0,
                    EventKind::Commit => 1,
                    _ => 2,
                },
                seqno,
                thread: thread as u16,
                cpu: (seqno % 16) as u16,
                queued: 2,
            });
        }
    }
}

/// Four billion nanoseconds are a turn.
const FROM_NS: u64 = 1_000_000_000_000;

/// As small as a record of a recording.
struct Record {
    seqno: u64,
    at: u32,
    queued: u32,
    thread: u16,
    cpu: u16,
    kind: u8,
    turn: u8,
}

const _: () = assert!(size_of::<Record>() == 24);

/// What steps have in common, as a decoder has it: by thread and kind, and by thread.
struct Common {
    templates: Vec<[StepTemplate; 3]>,
    /// The first is a worker of the kernel.
    threads: Vec<StepThread>,
}

impl Common {
    fn new() -> Common {
        let rings = (GPUS.len() * RINGS.len()) as u64;
        let templates = |thread: u64| {
            let (context, client) = (100 + thread * 3, Some(thread / 4 + 1));
            let ring = Some(RingId((thread % rings) as u32));
            [
                StepTemplate::new(StepKind::Submit, context, client, ring, StepValue::Unsigned),
                StepTemplate::new(StepKind::Commit, context, client, ring, StepValue::Unsigned),
                StepTemplate::new(StepKind::Complete, context, None, None, StepValue::None),
            ]
        };
        let thread = |of: u32| match of {
            0 => StepThread { tid: 60, pid: 60, comm: NameId(0) },
            of => StepThread { tid: 2000 + of, pid: 2000 + of / 4 * 4, comm: NameId(of) },
        };
        Common { templates: (0..THREADS).map(templates).collect(), threads: (0..THREADS as u32).map(thread).collect() }
    }

    #[inline(always)]
    fn step(&self, record: &Record) -> StepRef<'_> {
        let thread = usize::from(record.thread);
        StepRef {
            at_ns: FROM_NS + (u64::from(record.turn) << 32) + u64::from(record.at),
            seqno: record.seqno,
            cpu: record.cpu,
            short: record.queued,
            of: &self.templates[thread][usize::from(record.kind)],
            thread: &self.threads[thread * usize::from(record.kind == 0)],
        }
    }
}

/// By itself in a profile, whatever the compiler makes of the rest.
#[inline(never)]
fn count_steps(report: &mut Report, common: &Common, names: &TraceNames, batch: &[Record]) {
    report.steps(&mut batch.iter().map(|record| common.step(record)), names);
}

/// The same as events.
#[inline(never)]
fn count_events(report: &mut Report, common: &Common, names: &TraceNames, batch: &[Record]) {
    for record in batch {
        report.count(&common.step(record).event(), names);
    }
}

/// CPU time of this thread: others may be busy, too.
fn cpu_seconds() -> f64 {
    let all = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    all.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e9)
}

fn main() {
    let jobs = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(3_000_000);
    let count = if std::env::args().any(|arg| arg == "events") { count_events } else { count_steps };
    let mut names = TraceNames::default();
    for gpu in GPUS {
        RINGS.iter().for_each(|ring| assert!(names.ring(Some(gpu), ring).0 < 24));
    }
    (0..THREADS).for_each(|thread| assert_eq!(names.text(&format!("worker-{thread}")).0, thread as u32 + 1));
    let common = Common::new();
    let mut report = Report::new(Subject { slowest: 10, ..Subject::default() });
    let (mut all, mut batch, mut events) = (Jobs::new(jobs), Vec::with_capacity(BATCH), 0_u64);
    let mut counting = 0.0;
    loop {
        all.fill(&mut batch);
        if batch.is_empty() {
            break;
        }
        let from = cpu_seconds();
        count(&mut report, &common, &names, &batch);
        counting += cpu_seconds() - from;
        events += batch.len() as u64;
    }
    let from = cpu_seconds();
    let report = report.finish(None, &names, Dropped::default(), |_| {});
    let total = counting + cpu_seconds() - from;
    assert_eq!(report.rings.iter().map(|ring| ring.jobs).sum::<u64>() * 3, events);
    assert_eq!(report.slowest.len(), 10);
    println!(
        "{{\"events\":{events},\"counting_seconds\":{counting:.3},\"seconds\":{total:.3},\"nanoseconds_per_event\":{:.1}}}",
        total * 1e9 / events as f64
    );
}
