//! The module's books over time, and how far a sample is from them.
//!
//! The books are read up to fifty times a second and interpolated to the moment of a sample, which carries its CLOCK_MONOTONIC. A sample is
//! read between that moment and its arrival; on a machine that had no time for the guest this may be long. Such a sample is *late*, and is
//! compared with all that the books allow over its lateness. Of a client the moment of its own reading is known: it is never late, and
//! is left out where the books themselves were not read for too long.

use gpuscope_testbed::{Clients, Gpu, Truth};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// CLOCK_MONOTONIC, and the busy nanoseconds of every engine then.
type Page = (u64, BTreeMap<String, u64>);

/// How often the books are read.
const EVERY: Duration = Duration::from_millis(20);

/// A sample that took longer from its beginning to its arrival is late: a counter that was read by so much later is off by a point of a
/// second.
const LATE_NS: u64 = 10_000_000;

/// Pages around a reading that lie further apart do not tell what it should have been: such a sample is late, and what a client used is not
/// compared.
const APART_NS: u64 = 60_000_000;

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
    /// Points between the least and the most that the books allow; 0 of a punctual sample.
    pub width: f64,
}

/// The name of a client's share of an engine, see [`Books::keep_clients`].
pub fn of_client(id: u64, engine: &str) -> String {
    format!("{id}/{engine}")
}

impl Books {
    /// Reads the books of these GPUs until closed.
    pub fn keep(gpus: &[Gpu]) -> Keeper {
        // A GPU that is unplugged has no books.
        let page = |text: String| {
            let t = Truth::parse(&text).unwrap_or_else(|| panic!("{text}"));
            (t.monotonic_ns, t.engines.iter().map(|(name, e)| (name.clone(), e.busy_ns)).collect())
        };
        Self::keep_pages(gpus, |bdf| Truth::try_read_text(bdf).ok(), page)
    }

    /// Reads the books of these GPUs' clients until closed: the engines by their names, and those of each client as [`of_client`]
    /// names them.
    pub fn keep_clients(gpus: &[Gpu]) -> Keeper {
        let page = |text: String| {
            let all = Clients::parse(&text).unwrap_or_else(|| panic!("{text}"));
            let mut busy = all.engines_ns;
            for client in &all.clients {
                busy.extend(client.busy_ns.iter().map(|(engine, ns)| (of_client(client.id, engine), *ns)));
            }
            (all.monotonic_ns, busy)
        };
        Self::keep_pages(gpus, |bdf| Some(Clients::read_text(bdf)), page)
    }

    /// Keeps what `read` gives of a GPU, and takes it apart when they are closed: that takes long.
    fn keep_pages(
        gpus: &[Gpu],
        read: impl Fn(&str) -> Option<String> + Send + 'static,
        page: impl Fn(String) -> Page + Send + 'static,
    ) -> Keeper {
        let bdfs: Vec<String> = gpus.iter().map(|g| g.bdf.clone()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            // The books are short, and what they are for must not wait for what is measured.
            super::this_thread("chrt", &["--rr", "--pid", "10"]);
            let mut read_so_far: BTreeMap<String, Vec<String>> = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                for bdf in &bdfs {
                    let Some(one) = read(bdf) else { continue };
                    read_so_far.entry(bdf.clone()).or_default().push(one);
                }
                thread::sleep(EVERY);
            }
            let pages = |all: Vec<String>| all.into_iter().map(&page).collect();
            Books { rows: read_so_far.into_iter().map(|(bdf, all)| (bdf, pages(all))).collect() }
        });
        Keeper { stop, thread }
    }

    /// The busy percent of engines together, of their capacity, between two readings; nothing where the pages around a reading lie too
    /// far apart to tell.
    pub fn between(&self, bdf: &str, engines: &[String], from_ns: u64, to_ns: u64) -> Option<f64> {
        let rows = &self.rows[bdf];
        let busy = |ns: u64| {
            let (a, b) = match rows.partition_point(|r| r.0 < ns) {
                0 => return None,
                after => (&rows[after - 1], rows.get(after)?),
            };
            let sum = |page: &Page| engines.iter().map(|e| page.1[e] as f64).sum::<f64>();
            let part = (ns - a.0) as f64 / (b.0 - a.0) as f64;
            (b.0 - a.0 <= APART_NS).then(|| sum(a) + (sum(b) - sum(a)) * part)
        };
        let seconds = to_ns.checked_sub(from_ns)? as f64 / 1e9;
        Some((busy(to_ns)? - busy(from_ns)?) / 1e7 / seconds / engines.len() as f64)
    }

    /// What engines had been busy for at some moment between `from` and `to`.
    fn at(&self, bdf: &str, engines: &[String], from: u64, to: u64) -> Moments {
        let rows = &self.rows[bdf];
        let sum = |page: &Page| engines.iter().map(|e| page.1[e] as f64).sum::<f64>();
        let index = |ns: u64| rows.partition_point(|r| r.0 < ns).clamp(1, rows.len() - 1);
        let (first, last) = (index(from), index(to));
        let (a, b) = (&rows[first - 1], &rows[first]);
        let best = sum(a) + (sum(b) - sum(a)) * (from as f64 - a.0 as f64) / (b.0 - a.0) as f64;
        let late = to - from > LATE_NS || rows[last].0 - a.0 > APART_NS + (to - from);
        let mut open = vec![(from as f64, best, best)];
        if late {
            let between = rows[first - 1..=last].windows(2).flat_map(|pages| {
                let (least, most) = (sum(&pages[0]), sum(&pages[1]));
                [pages[0].0.max(from), pages[1].0.min(to)].map(|ns| (ns as f64, least, most))
            });
            open.extend(between);
        }
        Moments { best, open, late }
    }

    /// Compares the busy percent of engines together, of their capacity, with the books.
    ///
    /// A late sample's value may be of any interval that begins and ends between its own and the last sample's moment and arrival: of its
    /// own length, too, as each counter is read together with the time.
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
        let started = before.map_or(start, |b| moment(b).1.clamp(start, at));
        let (y, x) = (self.at(bdf, engines, at, arrived), self.at(bdf, engines, start, started));
        let percent = |busy: f64, ns: f64| 100.0 * busy.max(0.0) / ns / engines.len() as f64;
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for (end, y_least, y_most) in &y.open {
            // A reading that comes right before the next one is not what happened.
            for (begin, x_least, x_most) in x.open.iter().filter(|x| end - x.0 > seconds * 0.5e9) {
                least = least.min(percent(y_least - x_most, end - begin));
                most = most.max(percent(y_most - x_least, end - begin));
            }
        }
        let off = (least - value).max(value - most).max(0.0);
        let truth = percent(y.best - x.best, seconds * 1e9);
        Compared { truth, off, late: y.late || x.late, width: most - least }
    }
}

/// By how many points samples are off, one after the other: not by more than `most`, and by less than half of it in the mean. One may be, where
/// the guest was held up between a reading and its book.
pub fn agree(off: &[f64], most: f64) {
    assert!(off.iter().all(|off| *off < 10.0), "{off:?}");
    assert!(off.iter().filter(|off| **off >= most).count() <= 1, "{off:?}");
    assert!(off.iter().sum::<f64>() / (off.len() as f64) < most / 2.0, "{off:?}");
}

/// What engines may have been busy for when a counter was read.
struct Moments {
    /// Where it was read at once.
    best: f64,
    /// Moments, with the least and the most that the books allow at each; that of `best` first, and alone where it was not late.
    open: Vec<(f64, f64, f64)>,
    late: bool,
}

impl Keeper {
    /// Reads one page more, and closes the books.
    pub fn close(self) -> Books {
        thread::sleep(Duration::from_millis(200));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
