//! Alarms, each in one line.

use super::trace::{key, stages, time};
use super::{Style, clean};
use gpuscope_model::trace::{Event, HeldUp, Job, JobStatus, StuckJob, TraceNames};

/// Processes behind a stuck job that are named.
const MOST_NAMED: usize = 4;

/// Says which job is stuck, for how long, and whose jobs wait behind it.
pub fn stuck_job(stuck: &StuckJob, names: &TraceNames, style: Style) -> String {
    let place = match stuck.place {
        HeldUp::OnHardware => "with the hardware",
        HeldUp::InQueue => "in the queue",
    };
    let mut line = format!("stuck: {}: {place} for {}", whose(&stuck.job, names), time(stuck.age_ns(), style));
    if let (HeldUp::InQueue, Some(other)) = (stuck.place, stuck.job.blocked_by) {
        line.push_str(&format!(", found waiting for the fence {}", key(other)));
    }
    match stuck.jobs_behind() {
        0 => line.push_str("; nothing waits behind it"),
        1 => line.push_str("; 1 job waits behind it"),
        n => line.push_str(&format!("; {n} jobs wait behind it")),
    }
    let named: Vec<String> = stuck
        .behind
        .iter()
        .take(MOST_NAMED)
        .map(|of| format!("{} of pid {} ({})", of.jobs, of.pid, clean(names.get(of.comm))))
        .collect();
    if !named.is_empty() {
        line.push_str(&format!(": {}", named.join(", ")));
    }
    let more = stuck.behind.len().saturating_sub(MOST_NAMED);
    if more > 0 {
        line.push_str(&format!(" and of {more} more processes"));
    }
    if stuck.is_doubtful {
        line.push_str(" (records were lost since: its end may have been among them)");
    }
    line
}

/// Says that a job which was told to be stuck has ended, and how.
pub fn released_job(job: &Job, since_ns: u64, names: &TraceNames, style: Style) -> String {
    let after =
        job.done_ns.map_or(String::new(), |done| format!(" after {}", time(done.saturating_sub(since_ns), style)));
    format!("no longer stuck: {}: {}{after}", whose(job, names), outcome(job))
}

/// Says that a job failed.
pub fn failed_job(job: &Job, names: &TraceNames, style: Style) -> String {
    let since_ns = job.submit_ns.or(job.run_ns);
    let after = job.done_ns.zip(since_ns).map_or(String::new(), |(done, since)| {
        format!(
            ", {} after its {}",
            time(done.saturating_sub(since), style),
            if job.submit_ns.is_some() { "submission" } else { "hand-over" }
        )
    });
    format!("error: {}: {}{after}", whose(job, names), outcome(job))
}

/// Says that a fence ended with an error, of which no job is known.
pub fn failed_fence(event: &Event) -> String {
    let error = event.value.map_or(String::new(), |error| format!(" with error {error}{}", name_of_error(error)));
    let what = event.key.map_or("something".into(), |of| format!("job {}, whose submission was not seen,", key(of)));
    format!("error: {what} failed{error}")
}

/// Says that a job took long.
pub fn slow_job(job: &Job, names: &TraceNames, style: Style) -> String {
    format!("slow: {}: {}", whose(job, names), stages(job, style))
}

/// How a job ended.
fn outcome(job: &Job) -> String {
    match job.status {
        JobStatus::Completed => "completed".to_string(),
        JobStatus::Ended => "ended, and the records do not say how".into(),
        JobStatus::Failed(error) => format!("failed with error {error}{}", name_of_error(error)),
        JobStatus::InFlight => "still in flight".into(),
        JobStatus::Lost => "lost: its end was not recorded".into(),
    }
}

/// A job, its process and its ring.
pub fn whose(job: &Job, names: &TraceNames) -> String {
    let ring = job.ring.and_then(|ring| names.get_ring(ring));
    let name = ring.map_or("of an unknown ring", |ring| ring.name.as_str());
    let gpu = ring.and_then(|ring| ring.gpu.as_ref()).map_or(String::new(), |gpu| format!("{gpu} "));
    let who = match (job.pid, job.tid) {
        (0, 0) => "of a process that was not seen".to_string(),
        (0, tid) => format!("of thread {tid} ({})", clean(names.get(job.comm))),
        (pid, _) => format!("of pid {pid} ({})", clean(names.get(job.comm))),
    };
    format!("{gpu}{}, job {} {who}", clean(name), key(job.key))
}

/// The errors that drivers and the scheduler give to fences of jobs that they end.
fn name_of_error(error: i64) -> &'static str {
    match error {
        -5 => " (EIO)",
        -19 => " (ENODEV)",
        -62 => " (ETIME: timed out)",
        -110 => " (ETIMEDOUT: timed out)",
        -125 => " (ECANCELED)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_model::trace::Behind;
    use gpuscope_model::trace::JobKey;

    fn job(names: &mut TraceNames) -> Job {
        Job {
            key: JobKey::Fence { context: 140, seqno: 2 },
            ring: Some(names.ring(Some("0000:00:02.0"), "gfx")),
            client: None,
            pid: 194,
            tid: 195,
            comm: names.text("game"),
            submit_ns: Some(0),
            run_ns: Some(50_000_000),
            start_ns: None,
            done_ns: None,
            dependencies: 0,
            blocked_by: None,
            status: JobStatus::InFlight,
        }
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        let mut names = TraceNames::default();
        let comm = names.text("a\x1b[2J");
        let job = Job { comm, ..job(&mut names) };
        assert_eq!(whose(&job, &names), "0000:00:02.0 gfx, job 140:2 of pid 194 (a?[2J)");
    }

    #[test]
    fn a_line_names_job_process_ring_age_and_who_waits() {
        let mut names = TraceNames::default();
        let job = job(&mut names);
        let behind = (0..6).map(|i| Behind { pid: 200 + i, comm: names.text("other"), jobs: 2 }).collect();
        let stuck = StuckJob {
            job,
            place: HeldUp::OnHardware,
            since_ns: 50_000_000,
            at_ns: 2_100_000_000,
            is_new: true,
            is_doubtful: false,
            behind,
        };
        assert_eq!(
            stuck_job(&stuck, &names, Style::default()),
            "stuck: 0000:00:02.0 gfx, job 140:2 of pid 194 (game): with the hardware for 2.05s; 12 jobs wait behind it: 2 of pid 200 \
             (other), 2 of pid 201 (other), 2 of pid 202 (other), 2 of pid 203 (other) and of 2 more processes"
        );
        let ended = Job { done_ns: Some(5_050_000_000), status: JobStatus::Failed(-62), ..job };
        assert_eq!(
            released_job(&ended, 50_000_000, &names, Style::default()),
            "no longer stuck: 0000:00:02.0 gfx, job 140:2 of pid 194 (game): failed with error -62 (ETIME: timed out) after 5.00s"
        );
    }
}
