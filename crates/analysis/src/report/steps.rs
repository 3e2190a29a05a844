//! Random traces (synthetic), given once as events and once as steps where an event can be one, come to the same report.

use super::*;
use crate::owned_step::OwnedStep;
use gpuscope_model::trace::JobKey;

struct Chance(u64);

impl Chance {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// What a trace is made of: of so many events or jobs one is such.
struct Shape {
    contexts: u64,
    /// From one seqno of a context to the next.
    stride: u64,
    ends_lost: u64,
    told_twice: u64,
    out_of_order: u64,
    moved: u64,
    failed: u64,
    hanging: u64,
    of_addresses: u64,
    of_others: u64,
    losses: u64,
    /// A job takes this long, at most.
    longest_ns: u64,
    /// Jobs hand over at once after submission, or somewhere later in the trace.
    in_flight: usize,
}

/// A report that is given steps where there are any, and one that is given events only.
struct Both {
    names: TraceNames,
    by_events: Report,
    by_steps: Report,
    steps: Vec<OwnedStep>,
    ended: [Vec<Job>; 2],
}

impl Both {
    fn new() -> Both {
        let mut names = TraceNames::default();
        for gpu in ["0000:03:00.0", "0000:04:00.0"] {
            ["gfx", "comp", "sdma"].iter().for_each(|ring| assert!(names.ring(Some(gpu), ring).0 < 6));
        }
        let report = || {
            let drivers = [("0000:03:00.0", "amdgpu"), ("0000:04:00.0", "xe")];
            let drivers = drivers.map(|(gpu, driver)| (gpu.to_string(), driver.to_string())).to_vec();
            Report::new(Subject { drivers, slowest: 7, ..Subject::default() })
        };
        Both { names, by_events: report(), by_steps: report(), steps: Vec::new(), ended: Default::default() }
    }

    fn event(&mut self, event: &Event, chance: &mut Chance) {
        self.by_events.count(event, &self.names);
        match OwnedStep::of(&Event { other: None, ..*event }) {
            // Some together, as records give them.
            Some(step) => {
                self.steps.push(step);
                if chance.below(40) == 0 {
                    self.give_steps();
                }
            }
            None => {
                self.give_steps();
                self.by_steps.count(event, &self.names);
            }
        }
    }

    fn give_steps(&mut self) {
        let mut steps = self.steps.iter().map(OwnedStep::step);
        self.by_steps.steps(&mut steps, &self.names);
        assert!(steps.next().is_none());
        self.steps.clear();
    }

    fn lost(&mut self) {
        self.give_steps();
        let [of_events, of_steps] = &mut self.ended;
        self.by_events.lost(|job| of_events.push(*job));
        self.by_steps.lost(|job| of_steps.push(*job));
    }

    fn finish(mut self) -> TraceReport {
        self.give_steps();
        let Both { names, by_events, by_steps, ended: [mut of_events, mut of_steps], .. } = self;
        let by_events = by_events.finish(None, &names, Dropped::default(), |job| of_events.push(*job));
        let by_steps = by_steps.finish(None, &names, Dropped::default(), |job| of_steps.push(*job));
        assert_eq!(of_events, of_steps);
        assert_eq!(format!("{by_events:#?}"), format!("{by_steps:#?}"));
        by_events
    }
}

fn run(seed: u64, shape: &Shape) -> TraceReport {
    use EventKind::{Blocked, Commit, Complete, Dependency, Error, FenceSignaled, Start, Submit};
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut both, mut at_ns) = (Both::new(), 5_000_u64);
    let (mut open, mut number) = (Vec::<(u64, RingId, EventKind)>::new(), 0_u64);
    for _ in 0..30_000 {
        at_ns += chance.below(shape.longest_ns / 4);
        if chance.below(shape.losses) == 0 {
            both.lost();
        }
        let is_next = open.len() < 2 || open.len() < shape.in_flight && chance.below(3) == 0;
        let at =
            if chance.below(shape.out_of_order) == 0 { chance.below(open.len().max(1) as u64) as usize } else { 0 };
        let (of, ring, mut kind) = if is_next {
            number += 1;
            (number, RingId((number % shape.contexts % 6) as u32), Submit)
        } else {
            open.remove(at)
        };
        let is_twice = chance.below(shape.told_twice) == 0;
        match kind {
            Submit => open.push((of, ring, Commit)),
            Commit if chance.below(shape.hanging) > 0 => open.push((of, ring, Complete)),
            Complete if chance.below(shape.ends_lost) == 0 => continue,
            _ => {}
        }
        if chance.below(shape.of_others) == 0 {
            kind = [Start, Dependency, Blocked, Error, FenceSignaled][chance.below(5) as usize];
        }
        let context = of % shape.contexts;
        // The first seqnos are the last of all.
        let seqno = (of / shape.contexts).wrapping_sub(20).wrapping_mul(shape.stride);
        let key = match chance.below(shape.of_addresses) {
            0 => JobKey::FenceLow { context: context as u32, seqno: seqno as u32 },
            _ if of.is_multiple_of(shape.of_addresses) => JobKey::Address(0xffff_0000 + of % 50 * 64),
            _ => JobKey::Fence { context, seqno },
        };
        let is_moved = kind == Commit && chance.below(shape.moved) == 0;
        let thread = chance.below(40) as u32;
        let event = Event {
            at_ns,
            kind,
            family: if kind == FenceSignaled { Family::DmaFence } else { Family::DrmSched },
            cpu: (of % 5) as u16,
            tid: 100 + thread,
            pid: if chance.below(9) == 0 { 0 } else { 100 + thread / 4 * 4 },
            comm: NameId(thread),
            ring: (kind != Complete).then_some(if is_moved { RingId(5) } else { ring }).filter(|_| of % 13 > 0),
            key: Some(key),
            other: Some(JobKey::Address(of)),
            client: of.is_multiple_of(2).then_some(of),
            value: match kind {
                Complete if chance.below(shape.failed) == 0 => Some(-62),
                Complete => of.is_multiple_of(3).then_some(0),
                _ => Some(3),
            },
        };
        both.event(&event, &mut chance);
        if is_twice {
            both.event(&event, &mut chance);
        }
    }
    both.finish()
}

const PLAIN: Shape = Shape {
    contexts: 6,
    stride: 1,
    ends_lost: 1 << 40,
    told_twice: 1 << 40,
    out_of_order: 1 << 40,
    moved: 1 << 40,
    failed: 1 << 40,
    hanging: 1 << 40,
    of_addresses: 1 << 40,
    of_others: 1 << 40,
    losses: 1 << 40,
    longest_ns: 100_000,
    in_flight: 20,
};

#[test]
fn steps_come_to_the_same_report_as_events() {
    let shapes = [
        PLAIN,
        Shape { contexts: 90, in_flight: 400, out_of_order: 3, told_twice: 50, ..PLAIN },
        Shape { ends_lost: 20, losses: 700, hanging: 90, failed: 30, moved: 40, out_of_order: 30, ..PLAIN },
        Shape { contexts: 13, stride: 1 << 9, of_addresses: 4, of_others: 15, ends_lost: 60, hanging: 9, ..PLAIN },
        Shape {
            contexts: 900,
            stride: 1 << 40 | 1,
            in_flight: 3_000,
            out_of_order: 2,
            failed: 90,
            hanging: 5,
            ..PLAIN
        },
        Shape { contexts: 3, longest_ns: 4_000_000_000, out_of_order: 9, in_flight: 80, of_others: 30, ..PLAIN },
    ];
    let mut seen = [0_u64; 6];
    for seed in 0..shapes.len() as u64 * 2 {
        let report = run(seed, &shapes[seed as usize % shapes.len()]);
        for ring in &report.rings {
            seen.iter_mut().zip(ring.by_status).for_each(|(seen, n)| *seen += n);
            seen[5] += ring.out_of_order;
        }
    }
    assert!(seen.iter().all(|n| *n > 100), "completed, ended, failed, in flight, lost, out of order: {seen:?}");
}
