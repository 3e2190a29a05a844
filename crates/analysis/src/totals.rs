//! What was added up in the kernel, as a window of time.

use crate::distribution::rank;
use gpuscope_model::trace::{
    ProcessTotals, RingSample, RingTotals, Stage, StageTimes, Summary, TimesSample, TotalsSample, TotalsWindow,
};
use gpuscope_model::{GpuId, Reading, Reason, Text};
use std::collections::BTreeMap;

/// What happened between two samples of the same capture. Names of processes do not stand in it.
pub fn totals_window(before: &TotalsSample, after: &TotalsSample) -> TotalsWindow {
    let span_ns = after.at_ns.saturating_sub(before.at_ns);
    let mut by_ring: BTreeMap<(Option<&GpuId>, &Text), Sums> = BTreeMap::new();
    let mut by_process: BTreeMap<(u32, Option<&GpuId>, &Text), Sums> = BTreeMap::new();
    for of in &after.times {
        by_ring.entry((of.gpu.as_ref(), &of.ring)).or_default().add(of);
        by_process.entry((of.pid, of.gpu.as_ref(), &of.ring)).or_default().add(of);
    }
    let mut rings: Vec<RingTotals> = after
        .rings
        .iter()
        .map(|now| {
            let then = before.rings.iter().find(|of| (&of.gpu, &of.name) == (&now.gpu, &now.name));
            let times = by_ring.get(&(now.gpu.as_ref(), &now.name)).map(Sums::times).unwrap_or_default();
            ring(then, now, span_ns, times)
        })
        .collect();
    rings.sort_by(|a, b| (&a.gpu, &a.name).cmp(&(&b.gpu, &b.name)));
    let process = |((pid, gpu, ring), sums): ((u32, Option<&GpuId>, &Text), Sums)| ProcessTotals {
        pid,
        comm: None,
        gpu: gpu.cloned(),
        ring: ring.clone(),
        times: sums.times(),
    };
    let mut processes: Vec<ProcessTotals> = by_process.into_iter().map(process).collect();
    // Those with as many stay in order.
    processes.sort_by_key(|of| std::cmp::Reverse(of.times.whole.map_or(0, |of| of.count)));
    TotalsWindow { from_ns: before.at_ns, to_ns: after.at_ns, rings, processes }
}

fn ring(then: Option<&RingSample>, now: &RingSample, span_ns: u64, times: StageTimes) -> RingTotals {
    let since = |now: u64, then: Option<u64>| now.saturating_sub(then.unwrap_or(0));
    // Where nothing happened, its peaks are those of an earlier window.
    let is_still = then.is_some_and(|then| {
        (then.ended, then.queued, then.on_hardware) == (now.ended, now.queued, now.on_hardware)
            && times == StageTimes::default()
    });
    let peak = |peak: u64, depth: u64| if is_still { depth } else { peak.max(depth) };
    // One that was not there had no jobs.
    let busy_then = then.map_or(Some(0), |of| of.busy_ns);
    let busy_ratio = match now.busy_ns.zip(busy_then) {
        _ if span_ns == 0 => Reading::absent(Reason::FirstSample, "the window has no length"),
        // Both samples have their ring's time of a moment a little apart from their own.
        Some((now, then)) => Reading::Value((now.saturating_sub(then) as f64 / span_ns as f64).min(1.0)),
        None => Reading::absent(Reason::Failed, "jobs came or ended each time that the ring's busy time was read"),
    };
    RingTotals {
        gpu: now.gpu.clone(),
        name: now.name.clone(),
        jobs: since(now.ended, then.map(|of| of.ended)),
        busy_ratio,
        queued: now.queued,
        on_hardware: now.on_hardware,
        peak_queued: peak(now.peak_queued, now.queued),
        peak_on_hardware: peak(now.peak_on_hardware, now.on_hardware),
        times,
    }
}

/// Histograms that are added up, by stage.
#[derive(Default)]
struct Sums([Option<Sum>; 3]);

struct Sum {
    count: u64,
    sum_ns: u64,
    min_ns: u64,
    max_ns: u64,
    buckets: BTreeMap<u64, u64>,
    error: f64,
}

impl Sums {
    fn add(&mut self, of: &TimesSample) {
        if of.count == 0 {
            return;
        }
        let Sums([queue, in_flight, whole]) = self;
        let sum = match of.stage {
            Stage::Queue => queue,
            Stage::InFlight => in_flight,
            Stage::Whole => whole,
        };
        let sum = sum.get_or_insert_with(|| Sum {
            count: 0,
            sum_ns: 0,
            min_ns: u64::MAX,
            max_ns: 0,
            buckets: BTreeMap::new(),
            error: 0.0,
        });
        sum.count = sum.count.saturating_add(of.count);
        sum.sum_ns = sum.sum_ns.saturating_add(of.sum_ns);
        sum.min_ns = sum.min_ns.min(of.min_ns);
        sum.max_ns = sum.max_ns.max(of.max_ns);
        sum.error = sum.error.max(of.error);
        for (highest_ns, count) in &of.buckets {
            let n = sum.buckets.entry(*highest_ns).or_default();
            *n = n.saturating_add(*count);
        }
    }

    fn times(&self) -> StageTimes {
        let Sums([queue, in_flight, whole]) = self;
        let of = |sum: &Option<Sum>| sum.as_ref().map(Sum::summary);
        StageTimes { queue: of(queue), in_flight: of(in_flight), whole: of(whole) }
    }
}

impl Sum {
    fn summary(&self) -> Summary {
        // A job may be counted and not be in its bucket yet, where another processor is adding it.
        let in_buckets = self.buckets.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
        let [p50_ns, p90_ns, p99_ns] = [50, 90, 99].map(|percent| {
            let (wanted, mut passed) = (rank(in_buckets, percent), 0_u64);
            let bucket = self.buckets.iter().find(|(_, n)| {
                passed = passed.saturating_add(**n);
                passed > wanted
            });
            // That one has been added to the shortest and the longest, or not yet: they are in order in either case.
            bucket.map_or(self.max_ns, |(highest_ns, _)| (*highest_ns).min(self.max_ns).max(self.min_ns))
        });
        let mean_ns = self.sum_ns as f64 / self.count as f64;
        let (min_ns, max_ns) = (self.min_ns, self.max_ns);
        Summary { count: self.count, min_ns, mean_ns, p50_ns, p90_ns, p99_ns, max_ns, error: self.error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ring(
        name: &'static str,
        [queued, on_hardware]: [u64; 2],
        [peak_queued, peak_on_hardware]: [u64; 2],
    ) -> RingSample {
        let gpu = Some(GpuId::new("0000:03:00.0"));
        RingSample {
            gpu,
            name: name.into(),
            queued,
            on_hardware,
            peak_queued,
            peak_on_hardware,
            busy_ns: Some(0),
            ended: 0,
        }
    }

    fn times(pid: u32, stage: Stage, buckets: &[(u64, u64)], [min_ns, max_ns, sum_ns]: [u64; 3]) -> TimesSample {
        let gpu = Some(GpuId::new("0000:03:00.0"));
        let count = buckets.iter().map(|(_, n)| n).sum();
        let buckets = buckets.to_vec();
        TimesSample { gpu, ring: "gfx".into(), pid, stage, count, sum_ns, min_ns, max_ns, buckets, error: 0.125 }
    }

    #[test]
    fn a_window_is_what_is_between_two_samples() {
        let before = TotalsSample {
            at_ns: SECOND,
            rings: vec![RingSample { busy_ns: Some(100), ended: 7, ..ring("gfx", [0, 1], [1, 1]) }],
            times: vec![times(5, Stage::Whole, &[(9, 7)], [9, 9, 63])],
        };
        let after = TotalsSample {
            at_ns: 3 * SECOND,
            rings: vec![
                ring("sdma0", [0, 0], [2, 1]),
                RingSample { busy_ns: Some(100 + SECOND / 2), ended: 17, ..ring("gfx", [3, 1], [4, 2]) },
            ],
            times: vec![
                times(5, Stage::Whole, &[(1023, 8)], [1000, 1023, 8100]),
                times(6, Stage::Whole, &[(1023, 1), (2047, 1)], [970, 2000, 2970]),
                times(6, Stage::Queue, &[(15, 1)], [14, 14, 14]),
            ],
        };
        let window = totals_window(&before, &after);
        assert_eq!((window.from_ns, window.to_ns), (SECOND, 3 * SECOND));
        let [gfx, sdma] = window.rings.as_slice() else { panic!("{window:?}") };
        assert_eq!((gfx.name.as_str(), gfx.jobs, gfx.busy_ratio.get()), ("gfx", 10, Some(0.25)));
        assert_eq!((gfx.queued, gfx.on_hardware, gfx.peak_queued, gfx.peak_on_hardware), (3, 1, 4, 2));
        assert_eq!((sdma.jobs, sdma.peak_queued, sdma.times.whole), (0, 2, None));
        // Both processes' together: the ninth of ten is in the first bucket, the tenth in the second.
        let whole = gfx.times.whole.unwrap();
        assert_eq!((whole.count, whole.min_ns, whole.max_ns, whole.mean_ns), (10, 970, 2000, 1107.0));
        assert_eq!((whole.p50_ns, whole.p90_ns, whole.p99_ns, whole.error), (1023, 1023, 2000, 0.125));
        assert_eq!(window.per_second(gfx.jobs), Some(5.0));
        let pids: Vec<u32> = window.processes.iter().map(|of| of.pid).collect();
        assert_eq!(pids, [5, 6], "most jobs first");
        assert_eq!(window.processes[1].times.queue.unwrap().p99_ns, 14, "no higher than the highest");
    }

    #[test]
    fn peaks_of_a_window_without_events_are_what_there_is() {
        let sample = |at_ns| TotalsSample { at_ns, rings: vec![ring("gfx", [1, 2], [9, 8])], times: Vec::new() };
        let window = totals_window(&sample(1), &sample(2));
        let gfx = &window.rings[0];
        assert_eq!((gfx.peak_queued, gfx.peak_on_hardware), (1, 2));
    }

    #[test]
    fn a_window_without_length_has_no_rates() {
        let sample = TotalsSample { at_ns: 5, rings: vec![ring("gfx", [0, 0], [0, 0])], times: Vec::new() };
        let window = totals_window(&sample, &sample);
        assert_eq!(window.rings[0].busy_ratio.why().map(|why| why.reason), Some(Reason::FirstSample));
        assert_eq!(window.per_second(3), None);
    }

    #[test]
    fn busy_time_that_could_not_be_read_at_either_end_is_not_known() {
        let sample = |at_ns, busy_ns| {
            let rings = vec![RingSample { busy_ns, ..ring("gfx", [1, 1], [1, 1]) }];
            TotalsSample { at_ns, rings, times: Vec::new() }
        };
        for (then, now) in [(Some(5), None), (None, Some(5)), (None, None)] {
            let window = totals_window(&sample(1, then), &sample(2 * SECOND, now));
            let why = window.rings[0].busy_ratio.why().unwrap();
            assert_eq!(why.reason, Reason::Failed, "{then:?} {now:?}");
        }
        let window = totals_window(&sample(0, Some(5)), &sample(SECOND, Some(5 + SECOND / 2)));
        assert_eq!(window.rings[0].busy_ratio.get(), Some(0.5));
    }

    #[test]
    fn a_job_that_is_being_added_does_no_harm() {
        let half = TimesSample { count: 2, ..times(5, Stage::Whole, &[(1023, 1)], [1000, 1000, 1000]) };
        let after = TotalsSample { at_ns: 9, rings: vec![ring("gfx", [0, 0], [1, 1])], times: vec![half] };
        let window = totals_window(&TotalsSample::default(), &after);
        let times = &window.rings[0].times;
        assert_eq!((times.whole.unwrap().p99_ns, times.whole.unwrap().count), (1000, 2));
    }
}
