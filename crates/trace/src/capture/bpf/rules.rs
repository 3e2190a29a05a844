//! From settings to what the programs are told.

use crate::capture::CaptureError;
use crate::capture::settings::{Limit, Lists, RingClass, RingName, Settings};
use gpuscope_model::trace::EventKind;
use gpuscope_sys::bpf::{ALL_JOBS, JobLimit, JobRules, JobSubject};

/// Kinds of events and the numbers of their records' layouts.
const TYPES: [(EventKind, u32); 6] = [
    (EventKind::Submit, 1),
    (EventKind::Commit, 2),
    (EventKind::Complete, 3),
    (EventKind::Dependency, 4),
    (EventKind::Blocked, 5),
    (EventKind::Error, 6),
];

/// What the programs are told, processes excepted: their children belong to them.
///
/// # Errors
/// [`CaptureError::Unsupported`] for limits that are none.
pub(super) fn of(settings: &Settings) -> Result<JobRules, CaptureError> {
    let filters = &settings.filters;
    let mut lists = Vec::new();
    put(&mut lists, &filters.uids, |uid| JobSubject::Uid(*uid));
    put(&mut lists, &filters.cgroups, |cgroup| JobSubject::Cgroup(*cgroup));
    put(&mut lists, &filters.comms, |comm| JobSubject::Comm(comm.clone()));
    put(&mut lists, &filters.gpus, |gpu| JobSubject::Device(gpu.clone()));
    put(&mut lists, &filters.rings, ring);
    let stems = |classes: &[RingClass]| classes.iter().flat_map(|class| class.stems()).copied().collect();
    let classes = Lists { allow: stems(&filters.classes.allow), deny: stems(&filters.classes.deny) };
    put(&mut lists, &classes, |stem: &&str| JobSubject::Stem((*stem).to_string()));
    let kinds = &filters.kinds;
    let is_wanted =
        |kind: &EventKind| (kinds.allow.is_empty() || kinds.allow.contains(kind)) && !kinds.deny.contains(kind);
    let types = TYPES.iter().filter(|(kind, _)| is_wanted(kind)).fold(0, |bits, (_, number)| bits | 1 << number);
    let sampling = &settings.sampling;
    Ok(JobRules {
        lists,
        types,
        sample: share(sampling.share),
        is_sample_to_change: sampling.target_events_per_second.is_some() || sampling.target_cpu_ratio.is_some(),
        ring_samples: sampling.rings.iter().map(|(name, part)| (ring(name), share(*part))).collect(),
        slow_ns: sampling.slower_than_ns,
        limit: settings.limit.map(limit).transpose()?,
        totals: settings.totals,
        records: settings.events,
    })
}

fn put<T>(lists: &mut Vec<(JobSubject, bool)>, of: &Lists<T>, subject: impl Fn(&T) -> JobSubject) {
    lists.extend(of.allow.iter().map(|one| (subject(one), true)));
    // Behind, so that what is denied is, allowed or not.
    lists.extend(of.deny.iter().map(|one| (subject(one), false)));
}

fn ring(ring: &RingName) -> JobSubject {
    JobSubject::Ring { name: ring.name.clone(), device: ring.gpu.clone() }
}

/// A part as the programs compare it with a hash of 32 bits. What is no number is nothing.
pub(super) fn share(part: f64) -> u64 {
    // A float beyond the range, or none at all, is cut to it.
    ((part.clamp(0.0, 1.0) * ALL_JOBS as f64).round() as u64).min(ALL_JOBS)
}

/// The lowest rate: a job in eleven days.
const LEAST_RATE: f64 = 1e-6;

/// As many jobs of a window are counted.
const MOST_JOBS: u64 = (1 << 24) - 1;

fn limit(limit: Limit) -> Result<JobLimit, CaptureError> {
    let refused = |what: String, remedy: &str| Err(CaptureError::Unsupported { what, remedy: remedy.into() });
    match limit {
        Limit::Bucket { jobs_per_second, burst } => {
            if !(jobs_per_second.is_finite() && jobs_per_second >= LEAST_RATE && burst > 0) {
                let what = format!("a limit of {jobs_per_second} jobs a second, {burst} at once, lets none through");
                return refused(what, "set a rate and a burst above zero");
            }
            // Above a job a nanosecond there is no limit.
            Ok(JobLimit::Bucket { job_ns: (1e9 / jobs_per_second).round() as u64, burst })
        }
        Limit::Window { jobs, length_ns } => {
            if jobs == 0 || length_ns == 0 || jobs > MOST_JOBS {
                let what = format!("a limit of {jobs} jobs in {length_ns} ns cannot be kept");
                return refused(what, "set a window above zero, and from 1 to 16777215 jobs in it");
            }
            Ok(JobLimit::Window { length_ns, jobs })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_cut_to_what_there_is() {
        let shares = [(0.0, 0), (0.25, ALL_JOBS / 4), (1.0, ALL_JOBS), (7.0, ALL_JOBS), (-1.0, 0), (f64::NAN, 0)];
        for (part, expected) in shares {
            assert_eq!(share(part), expected, "{part}");
        }
    }

    #[test]
    fn what_is_denied_stands_behind_what_is_allowed() {
        let mut settings = Settings::default();
        settings.filters.uids = Lists { allow: vec![1, 2], deny: vec![2] };
        let expected = [(JobSubject::Uid(1), true), (JobSubject::Uid(2), true), (JobSubject::Uid(2), false)];
        assert_eq!(of(&settings).unwrap().lists, expected);
    }

    #[test]
    fn kinds_become_bits() {
        let mut settings = Settings::default();
        assert_eq!(of(&settings).unwrap().types, 0b111_1110);
        settings.filters.kinds.deny = vec![EventKind::Commit];
        assert_eq!(of(&settings).unwrap().types, 0b111_1010);
        settings.filters.kinds.allow = vec![EventKind::Commit, EventKind::Complete];
        assert_eq!(of(&settings).unwrap().types, 0b1000);
    }

    #[test]
    fn a_rate_becomes_the_time_of_one_job() {
        let bucket = |rate, burst| limit(Limit::Bucket { jobs_per_second: rate, burst });
        assert_eq!(bucket(1000.0, 5).unwrap(), JobLimit::Bucket { job_ns: 1_000_000, burst: 5 });
        assert_eq!(bucket(LEAST_RATE, 1).unwrap(), JobLimit::Bucket { job_ns: 1_000_000_000_000_000, burst: 1 });
    }

    #[test]
    fn a_limit_that_lets_nothing_through_is_refused_with_a_remedy() {
        let bucket = |rate, burst| limit(Limit::Bucket { jobs_per_second: rate, burst });
        let window = |jobs, length_ns| limit(Limit::Window { jobs, length_ns });
        let mut refused: Vec<_> = [0.0, -1.0, 1e-9, f64::NAN, f64::INFINITY].map(|rate| bucket(rate, 5)).into();
        refused.extend([bucket(1.0, 0), window(0, 1), window(1, 0), window(1 << 24, 1)]);
        for answer in refused {
            let error = answer.unwrap_err().to_string();
            assert!(error.contains("; set a "), "{error}");
        }
        assert_eq!(window(1, 1).unwrap(), JobLimit::Window { length_ns: 1, jobs: 1 });
    }

    #[test]
    fn a_class_is_its_rings_beginnings() {
        let mut settings = Settings::default();
        settings.filters.classes = Lists { allow: vec![RingClass::Copy], deny: vec![RingClass::VideoEnhance] };
        let stem = |text: &str, is| (JobSubject::Stem(text.into()), is);
        let expected =
            [stem("bcs", true), stem("sdma", true), stem("dma", true), stem("vecs", false), stem("vpe", false)];
        assert_eq!(of(&settings).unwrap().lists, expected);
    }
}
