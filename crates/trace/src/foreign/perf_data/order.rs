//! Records in order of time: perf writes them buffer by buffer, and says when a round over all buffers is done.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// More than rounds of perf hold: what comes then is given out though earlier ones may follow.
const MOST_BYTES: usize = 64 << 20;

/// What waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A tracepoint's record, with its processor, and process and thread where they are known.
    Record { cpu: u16, task: Option<(u32, u32)>, data: Box<[u8]> },
    /// A thread has a name: process, thread, name.
    Comm(u32, u32, String),
    /// A thread began: process, thread, and the thread that began it.
    Fork(u32, u32, u32),
    /// Something was lost here.
    Lost,
}

impl What {
    fn bytes(&self) -> usize {
        let more = match self {
            What::Record { data, .. } => data.len(),
            What::Comm(_, _, comm) => comm.len(),
            What::Fork(..) | What::Lost => 0,
        };
        more.saturating_add(size_of::<Held>())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Held {
    at: u64,
    /// Of one moment, what stands first in the file comes first.
    number: u64,
    what: What,
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(super) struct Order {
    held: BinaryHeap<Reverse<Held>>,
    bytes: usize,
    number: u64,
    /// Latest time so far, and until the last round.
    newest: u64,
    newest_of_round: u64,
    /// What is no later than this is complete.
    limit: u64,
    given: u64,
    late: u64,
}

impl Order {
    pub(super) fn put(&mut self, at: u64, what: What) {
        self.newest = self.newest.max(at);
        self.bytes = self.bytes.saturating_add(what.bytes());
        self.number = self.number.saturating_add(1);
        self.held.push(Reverse(Held { at, number: self.number, what }));
    }

    /// All buffers were emptied once. A buffer that was emptied early in the last round may have had, after that, what is earlier than the
    /// latest of that round, but nothing earlier than the latest of the round before: all of that came with the last one.
    pub(super) fn round(&mut self) {
        self.limit = self.limit.max(self.newest_of_round);
        self.newest_of_round = self.newest;
    }

    /// The next one in order, if all before it are there, or `all` are.
    pub(super) fn take(&mut self, all: bool) -> Option<(u64, What)> {
        let Reverse(first) = self.held.peek()?;
        // What the tool itself wrote about the time before has none.
        if !all && first.at > self.limit && self.bytes <= MOST_BYTES {
            return None;
        }
        let Reverse(Held { at, what, .. }) = self.held.pop()?;
        self.bytes = self.bytes.saturating_sub(what.bytes());
        if at > 0 && at < self.given {
            self.late = self.late.saturating_add(1);
        }
        self.given = self.given.max(at);
        Some((at, what))
    }

    /// How many were given after later ones.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(order: &mut Order, all: bool) -> Vec<u64> {
        std::iter::from_fn(|| order.take(all).map(|(at, _)| at)).collect()
    }

    #[test]
    fn a_round_gives_what_the_one_before_had() {
        let mut order = Order::default();
        [10, 30, 20].into_iter().for_each(|at| order.put(at, What::Lost));
        order.round();
        assert_eq!(taken(&mut order, false), [0; 0]);
        [25, 40].into_iter().for_each(|at| order.put(at, What::Lost));
        order.round();
        assert_eq!(taken(&mut order, false), [10, 20, 25, 30]);
        order.put(35, What::Lost);
        assert_eq!(taken(&mut order, true), [35, 40]);
        assert_eq!(order.late(), 0);
        order.put(39, What::Lost);
        assert_eq!((taken(&mut order, true), order.late()), (vec![39], 1));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut order = Order::default();
        let data: Box<[u8]> = vec![0; 1 << 20].into();
        let mut given = 0;
        for at in 1..200 {
            order.put(at, What::Record { cpu: 0, task: None, data: data.clone() });
            given += taken(&mut order, false).len();
        }
        assert!((130..199).contains(&given), "{given}");
    }
}
