//! What the programs have added up, as the model has it.

use gpuscope_model::GpuId;
use gpuscope_model::trace::{RingSample, Stage, TimesSample, TotalsSample};
use gpuscope_sys::bpf::{JobStage, JobTotal, RingTotal, bucket_range};

/// A bucket is an eighth of its lowest value wide (`totals.h`).
const ERROR: f64 = 0.125;

pub(super) fn sample(at_ns: u64, totals: &[JobTotal], rings: &[RingTotal]) -> TotalsSample {
    TotalsSample { at_ns, rings: rings.iter().map(ring).collect(), times: totals.iter().map(times).collect() }
}

fn gpu(device: &str) -> Option<GpuId> {
    (!device.is_empty()).then(|| GpuId::new(device.to_string()))
}

fn ring(of: &RingTotal) -> RingSample {
    RingSample {
        gpu: gpu(&of.device),
        name: of.ring.clone().into(),
        queued: of.waiting,
        on_hardware: of.in_flight,
        peak_queued: of.peak_waiting,
        peak_on_hardware: of.peak_in_flight,
        busy_ns: of.busy_ns,
        ended: of.done,
    }
}

fn times(of: &JobTotal) -> TimesSample {
    let stage = match of.stage {
        JobStage::Queued => Stage::Queue,
        JobStage::InFlight => Stage::InFlight,
        JobStage::Whole => Stage::Whole,
    };
    // The last one holds whatever is longer: there, the longest is all that is known.
    let highest_ns = |bucket| bucket_range(bucket).1.map_or(u64::MAX, |behind| behind.saturating_sub(1));
    let buckets = of.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
    TimesSample {
        gpu: gpu(&of.device),
        ring: of.ring.clone().into(),
        pid: of.pid,
        stage,
        count: of.jobs,
        sum_ns: of.sum_ns,
        min_ns: of.min_ns,
        max_ns: of.max_ns,
        buckets: buckets.map(|(bucket, n)| (highest_ns(bucket), u64::from(*n))).collect(),
        error: ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_sys::bpf::JOB_BUCKETS;

    #[test]
    fn buckets_become_the_highest_time_in_them() {
        let mut buckets = vec![0; JOB_BUCKETS];
        (buckets[3], buckets[16], buckets[JOB_BUCKETS - 1]) = (2, 5, 1);
        let total = JobTotal {
            device: "0000:03:00.0".into(),
            ring: "gfx".into(),
            pid: 7,
            stage: JobStage::InFlight,
            jobs: 8,
            sum_ns: 100,
            min_ns: 3,
            max_ns: 1 << 41,
            buckets,
        };
        let nameless = JobTotal { device: String::new(), ..total.clone() };
        let sample = sample(9, &[total, nameless], &[]);
        let times = &sample.times[0];
        assert_eq!(times.buckets, [(3, 2), (17, 5), (u64::MAX, 1)]);
        assert_eq!((times.stage, times.gpu.as_ref().unwrap().as_str()), (Stage::InFlight, "0000:03:00.0"));
        assert_eq!(sample.times[1].gpu, None);
        // What is said of the error holds for every bucket but the last.
        for bucket in 0..JOB_BUCKETS - 1 {
            let (lowest, behind) = bucket_range(bucket);
            assert!((behind.unwrap() - 1 - lowest) as f64 <= lowest as f64 * ERROR, "{bucket}");
        }
    }
}
