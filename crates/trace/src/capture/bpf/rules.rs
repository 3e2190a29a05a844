//! From settings to what the programs are told.

use crate::capture::settings::{Limit, Lists, RingName, Settings};
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

/// What the programs are told.
pub(super) fn of(settings: &Settings) -> JobRules {
    let filters = &settings.filters;
    let mut lists = Vec::new();
    put(&mut lists, &filters.pids, |pid| JobSubject::Pid(*pid));
    put(&mut lists, &filters.uids, |uid| JobSubject::Uid(*uid));
    put(&mut lists, &filters.cgroups, |cgroup| JobSubject::Cgroup(*cgroup));
    put(&mut lists, &filters.comms, |comm| JobSubject::Comm(comm.clone()));
    put(&mut lists, &filters.gpus, |gpu| JobSubject::Device(gpu.clone()));
    put(&mut lists, &filters.rings, ring);
    let kinds = &filters.kinds;
    let is_wanted =
        |kind: &EventKind| (kinds.allow.is_empty() || kinds.allow.contains(kind)) && !kinds.deny.contains(kind);
    let types = TYPES.iter().filter(|(kind, _)| is_wanted(kind)).fold(0, |bits, (_, number)| bits | 1 << number);
    let sampling = &settings.sampling;
    JobRules {
        lists,
        types,
        sample: share(sampling.share),
        is_sample_to_change: sampling.target_events_per_second.is_some(),
        ring_samples: sampling.rings.iter().map(|(name, part)| (ring(name), share(*part))).collect(),
        slow_ns: sampling.slower_than_ns,
        limit: settings.limit.map(limit),
        totals: settings.totals,
        records: settings.events,
    }
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

fn limit(limit: Limit) -> JobLimit {
    match limit {
        Limit::Bucket { jobs_per_second, burst } => {
            // Where there are none, the bucket is filled in five hundred years.
            JobLimit::Bucket { job_ns: (1e9 / jobs_per_second.max(0.0)).round().min(1.6e19) as u64, burst }
        }
        Limit::Window { jobs, length_ns } => JobLimit::Window { length_ns, jobs },
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
        settings.filters.pids = Lists { allow: vec![1, 2], deny: vec![2] };
        let expected = [(JobSubject::Pid(1), true), (JobSubject::Pid(2), true), (JobSubject::Pid(2), false)];
        assert_eq!(of(&settings).lists, expected);
    }

    #[test]
    fn kinds_become_bits() {
        let mut settings = Settings::default();
        assert_eq!(of(&settings).types, 0b111_1110);
        settings.filters.kinds.deny = vec![EventKind::Commit];
        assert_eq!(of(&settings).types, 0b111_1010);
        settings.filters.kinds.allow = vec![EventKind::Commit, EventKind::Complete];
        assert_eq!(of(&settings).types, 0b1000);
    }

    #[test]
    fn a_rate_becomes_the_time_of_one_job() {
        let bucket = |rate| limit(Limit::Bucket { jobs_per_second: rate, burst: 5 });
        assert_eq!(bucket(1000.0), JobLimit::Bucket { job_ns: 1_000_000, burst: 5 });
        for none in [0.0, -1.0, f64::NAN] {
            let JobLimit::Bucket { job_ns, .. } = bucket(none) else { panic!() };
            assert!(job_ns > 1 << 62, "{none}: {job_ns}");
        }
    }
}
