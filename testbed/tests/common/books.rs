//! The module's books over time, and how far a sample is from them.
//!
//! The books are read forty times a second and interpolated to the moment of a sample, which carries its CLOCK_MONOTONIC. A sample is
//! read between that moment and its arrival; on a machine that had no time for the guest this may be long. Such a sample is *late*, and is
//! compared with all that the books allow over its lateness.

use gpuscope_testbed::{Gpu, Truth};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// CLOCK_MONOTONIC, and the busy nanoseconds of every engine then.
type Page = (u64, BTreeMap<String, u64>);

/// A sample that took longer from its beginning to its arrival is late; so is one whose nearest pages lie three times as far apart.
const LATE_NS: u64 = 20_000_000;

/// The books of every GPU over time.
pub struct Books {
    pub rows: BTreeMap<String, Vec<Page>>,
}

/// Books that are being kept.
pub struct Keeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Books>,
}

/// A sample's value beside the books.
pub struct Compared {
    /// The value that the books give.
    pub truth: f64,
    /// Points between the value and the books; of a late sample, to the nearest value that the books allow.
    pub off: f64,
    pub late: bool,
}

impl Books {
    /// Reads the books of these GPUs until closed.
    pub fn keep(gpus: &[Gpu]) -> Keeper {
        let bdfs: Vec<String> = gpus.iter().map(|g| g.bdf.clone()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut rows: BTreeMap<String, Vec<_>> = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                for bdf in &bdfs {
                    // A GPU that is unplugged has no books.
                    let Ok(t) = Truth::try_read(bdf) else { continue };
                    let busy = t.engines.iter().map(|(name, e)| (name.clone(), e.busy_ns)).collect();
                    rows.entry(bdf.clone()).or_default().push((t.monotonic_ns, busy));
                }
                thread::sleep(Duration::from_millis(25));
            }
            Books { rows }
        });
        Keeper { stop, thread }
    }

    /// Busy nanoseconds of engines at some moment between `from` and `to`: best, least and most, and whether it was late.
    fn at(&self, bdf: &str, engines: &[String], from: u64, to: u64) -> (f64, f64, f64, bool) {
        let rows = &self.rows[bdf];
        let sum = |page: &Page| engines.iter().map(|e| page.1[e] as f64).sum::<f64>();
        let index = |ns: u64| rows.partition_point(|r| r.0 < ns).clamp(1, rows.len() - 1);
        let (first, last) = (index(from), index(to));
        let (a, b) = (&rows[first - 1], &rows[first]);
        let best = sum(a) + (sum(b) - sum(a)) * (from as f64 - a.0 as f64) / (b.0 - a.0) as f64;
        let late = to - from > LATE_NS || rows[last].0 - a.0 > 3 * LATE_NS + (to - from);
        if late { (best, sum(a), sum(&rows[last]), true) } else { (best, best, best, false) }
    }

    /// Compares the busy percent of engines together, of their capacity, with the books.
    pub fn compare(
        &self,
        bdf: &str,
        engines: &[String],
        value: f64,
        sample: &Value,
        before: Option<&Value>,
    ) -> Compared {
        let moment = |s: &Value| (s["monotonic_ns"].as_u64().unwrap(), s["arrived_ns"].as_u64().unwrap());
        let seconds = sample["interval_s"].as_f64().unwrap();
        let (at, arrived) = moment(sample);
        let start = at - (seconds * 1e9) as u64;
        // The reading before the first line is made at start-up, and prints nothing that could arrive.
        let started = before.map_or(start, |b| moment(b).1.max(start));
        let (y, y_least, y_most, late_end) = self.at(bdf, engines, at, arrived);
        let (x, x_least, x_most, late_start) = self.at(bdf, engines, start, started);
        let percent = |busy: f64| 100.0 * busy.max(0.0) / (seconds * 1e9) / engines.len() as f64;
        let (least, most) = (percent(y_least - x_most), percent(y_most - x_least));
        let off = (least - value).max(value - most).max(0.0);
        Compared { truth: percent(y - x), off, late: late_end || late_start }
    }
}

impl Keeper {
    /// Reads one page more, and closes the books.
    pub fn close(self) -> Books {
        thread::sleep(Duration::from_millis(200));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
