//! Jobs by number, and the module's log of each: what a tracer of jobs is compared with.

use crate::{named, program, try_set};
use std::collections::BTreeMap;
use std::fs;
use std::io;

/// One job as the module itself saw it. All times are `CLOCK_MONOTONIC`; 0 is a moment that has not come.
///
/// Source: `/sys/kernel/debug/vgpu-<bdf>-jobs`, which [`log_jobs`] switches on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedJob {
    /// The engine, which has one scheduler of the same name.
    pub ring: String,
    /// Context and seqno of the scheduler's finished fence: what its tracepoints call the fence.
    pub fence: (u64, u64),
    /// Context and seqno of the hardware's fence.
    pub hw_fence: (u64, u64),
    /// The submitting process.
    pub tgid: u32,
    /// The submitting thread.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// The client, as fdinfo prints it.
    pub client: u64,
    /// Number of the client's context.
    pub context: u32,
    /// How it was submitted.
    pub flags: JobFlags,
    /// Just before it was given to the scheduler.
    pub submit_ns: u64,
    /// When the scheduler gave it to the engine.
    pub run_ns: u64,
    /// When the engine began it.
    pub start_ns: u64,
    /// When the engine had ended it: the due time and the timer's lateness.
    pub end_ns: u64,
    /// When it was to end; 0 of a job that hangs.
    pub due_ns: u64,
    /// When its finished fence was signalled.
    pub signalled_ns: u64,
    /// 0, or the negative error that the finished fence carries.
    pub status: i32,
    /// Finished fences that it waited for.
    pub deps: Vec<(u64, u64)>,
}

/// Flags of a job's submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobFlags(u32);

impl JobFlags {
    /// It never ends by itself.
    #[must_use]
    pub fn hangs(self) -> bool {
        self.0 & 2 != 0
    }

    /// It runs beside the engine's other jobs.
    #[must_use]
    pub fn parallel(self) -> bool {
        self.0 & 4 != 0
    }

    /// `run_job` has nothing to do: there is never a fence of the hardware's.
    #[must_use]
    pub fn has_nothing(self) -> bool {
        self.0 & 32 != 0
    }
}

fn fence(text: &str) -> Option<(u64, u64)> {
    let (context, seqno) = text.split_once(':')?;
    Some((context.parse().ok()?, seqno.parse().ok()?))
}

impl LoggedJob {
    fn parse(line: &str) -> Option<Self> {
        // The name is the rest of the line: it may hold spaces.
        let (fixed, comm) = line.strip_prefix("job ")?.split_once(" comm ")?;
        let words: Vec<&str> = fixed.split_whitespace().collect();
        let of: BTreeMap<&str, &str> = words.chunks_exact(2).filter_map(|p| Some((*p.first()?, *p.get(1)?))).collect();
        let number = |key: &str| of.get(key)?.parse::<u64>().ok();
        let deps = match *of.get("deps")? {
            "-" => Vec::new(),
            list => list.split(',').map(fence).collect::<Option<_>>()?,
        };
        Some(LoggedJob {
            ring: (*of.get("ring")?).to_string(),
            fence: fence(of.get("fence")?)?,
            hw_fence: fence(of.get("hw")?)?,
            tgid: of.get("tgid")?.parse().ok()?,
            tid: of.get("tid")?.parse().ok()?,
            comm: comm.to_string(),
            client: number("client")?,
            context: of.get("context")?.parse().ok()?,
            flags: JobFlags(of.get("flags")?.parse().ok()?),
            submit_ns: number("submit_ns")?,
            run_ns: number("run_ns")?,
            start_ns: number("start_ns")?,
            end_ns: number("end_ns")?,
            due_ns: number("due_ns")?,
            signalled_ns: number("signalled_ns")?,
            status: of.get("status")?.parse().ok()?,
            deps,
        })
    }

    /// Takes the text of a log apart. None where jobs were left out, or a line is not as it should be.
    #[must_use]
    pub fn parse_log(text: &str) -> Option<Vec<Self>> {
        let (head, jobs) = text.split_once('\n')?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let ["monotonic_ns", _, "room", _, "logged", _, "left_out", "0"] = words.as_slice() else { return None };
        jobs.lines().map(Self::parse).collect()
    }
}

/// Empties the device's log and makes room for so many jobs; 0 ends it.
///
/// # Panics
///
/// No such device, no memory, or logged jobs are in flight.
pub fn log_jobs(bdf: &str, room: u32) {
    try_log_jobs(bdf, room).unwrap_or_else(|e| panic!("{bdf}: log_jobs {room}: {e}"));
}

/// The same where logged jobs may be in flight.
///
/// # Errors
///
/// No such device, no memory, or logged jobs are in flight (`EBUSY`).
pub fn try_log_jobs(bdf: &str, room: u32) -> io::Result<()> {
    try_set(bdf, &format!("log_jobs {room}"))
}

/// Every job of the device since [`log_jobs`], in the order of submission.
///
/// # Panics
///
/// No such device, or jobs were left out because the log is full.
#[must_use]
pub fn job_log(bdf: &str) -> Vec<LoggedJob> {
    let path = format!("/sys/kernel/debug/vgpu-{bdf}-jobs");
    let text = fs::read_to_string(&path).map_err(|e| named(&path, &e)).unwrap_or_else(|e| panic!("{e}"));
    let head = text.lines().next().unwrap_or_default();
    LoggedJob::parse_log(&text).unwrap_or_else(|| panic!("{path}: jobs are missing or unreadable: {head}"))
}

/// What `vgpu-load jobs` did: so many jobs, in the same order each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// Its processes.
    pub processes: Vec<ProcessJobs>,
}

/// One process of [`Jobs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessJobs {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Time to submit everything.
    pub submit_us: u64,
    /// Time until everything had ended; of `--no-wait`, as `submit_us`.
    pub total_us: u64,
    /// How many jobs.
    pub jobs: u64,
    /// How many by node and ring: `/dev/dri/renderD128:rcs0`.
    pub rings: BTreeMap<String, u64>,
}

impl Jobs {
    /// Runs `vgpu-load jobs` with these arguments, options first, then the nodes (`/dev/dri/renderD128,/dev/dri/renderD129`).
    ///
    /// # Panics
    ///
    /// It fails, or does not say what it did.
    #[must_use]
    pub fn run(arguments: &[&str]) -> Self {
        let mut all = vec!["jobs".to_string()];
        all.extend(arguments.iter().map(|a| (*a).to_string()));
        let out = program(&all).wait_with_output().unwrap_or_else(|e| panic!("vgpu-load jobs: {e}"));
        let (said, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "vgpu-load {all:?}: {why}");
        let processes =
            said.lines().map(|l| ProcessJobs::parse(l).unwrap_or_else(|| panic!("a load said {l}"))).collect();
        Jobs { processes }
    }

    /// How many jobs all processes made.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.processes.iter().map(|p| p.jobs).sum()
    }
}

impl ProcessJobs {
    fn parse(line: &str) -> Option<Self> {
        let (fixed, comm) = line.split_once(" comm ")?;
        let words: Vec<&str> = fixed.split_whitespace().collect();
        let ["process", pid, "submit_us", submit, "total_us", total, "failed_waits", _, "jobs", jobs, rings @ ..] =
            words.as_slice()
        else {
            return None;
        };
        let rings = rings.iter().map(|r| r.split_once('=').and_then(|(r, n)| Some((r.to_string(), n.parse().ok()?))));
        Some(ProcessJobs {
            pid: pid.parse().ok()?,
            comm: comm.to_string(),
            submit_us: submit.parse().ok()?,
            total_us: total.parse().ok()?,
            jobs: jobs.parse().ok()?,
            rings: rings.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_two_jobs() {
        let text = "monotonic_ns 9 room 5 logged 2 left_out 0\n\
            job ring rcs0 fence 14:1 hw 15:2 tgid 3 tid 4 client 5 context 6 flags 10 submit_ns 7 run_ns 8 start_ns 9 end_ns 10 \
            due_ns 0 signalled_ns 12 status -62 deps 1:2,3:4 comm my app\n\
            job ring bcs0 fence 15:1 hw 16:1 tgid 3 tid 3 client 5 context 0 flags 4 submit_ns 7 run_ns 8 start_ns 9 end_ns 10 \
            due_ns 11 signalled_ns 12 status 0 deps - comm x\n";
        let jobs = LoggedJob::parse_log(text).unwrap();
        assert_eq!(jobs.len(), 2);
        assert_eq!((jobs[0].ring.as_str(), jobs[0].comm.as_str(), jobs[0].status), ("rcs0", "my app", -62));
        assert_eq!((jobs[0].fence, jobs[0].hw_fence, &jobs[0].deps), ((14, 1), (15, 2), &vec![(1, 2), (3, 4)]));
        assert!(jobs[0].flags.hangs() && !jobs[0].flags.parallel() && jobs[1].flags.parallel());
        assert!(jobs[1].deps.is_empty());
    }

    #[test]
    fn a_log_that_left_jobs_out_is_none() {
        assert_eq!(LoggedJob::parse_log("monotonic_ns 9 room 5 logged 5 left_out 1\n"), None);
        assert_eq!(LoggedJob::parse_log("monotonic_ns 9 room 5 logged 1 left_out 0\njob ring\n"), None);
    }

    #[test]
    fn a_process_and_its_rings() {
        let line = "process 182 submit_us 12 total_us 24 failed_waits 0 jobs 8 /dev/dri/renderD128:rcs0=5 \
            /dev/dri/renderD128:vcs0=3 comm tst 0";
        let p = ProcessJobs::parse(line).unwrap();
        assert_eq!((p.pid, p.comm.as_str(), p.jobs, p.rings["/dev/dri/renderD128:vcs0"]), (182, "tst 0", 8, 3));
        assert_eq!(ProcessJobs::parse("process 1 comm x"), None);
    }
}
