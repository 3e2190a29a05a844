//! Capture by BPF programs on raw tracepoints.
//!
//! The programs (`crates/sys/bpf/jobs.bpf.c`) write records as Linux 6.17 prints them, on every kernel, with the submitter's process
//! beside; `formats` says how they lie. They go into one ring for all processors, which is read by time.
//!
//! This process is not left out: it submits no jobs, and where it is the one interrupted by a job's end, that end counts.

mod adaptive;
mod descendants;
pub(crate) mod formats;
mod rules;
mod totals;

use super::settings::Settings;
use super::{Backend, Capture, CaptureError, Drained, Wanted};
use crate::{Decoder, EventFormat, RawRecord, RecordSink};
use adaptive::{Adaptive, Counted};
use gpuscope_model::trace::{Dropped, EventKind, Family, JobKey, TotalsSample};
use gpuscope_pmu::{Capability, Rights};
use gpuscope_sys::bpf::{BpfError, JobRules, JobSubject, Jobs, JobsWanted};
pub use gpuscope_sys::bpf::{JobStage, JobTotal, MADE_CONTEXT, MadeJob, RingTotal, bucket_range};
use gpuscope_sys::{Roots, monotonic_ns, read_text};
use std::collections::BTreeMap;

/// A capture by BPF programs.
#[derive(Debug)]
pub struct BpfCapture {
    jobs: Jobs,
    formats: Vec<EventFormat>,
    /// When the reading before the last began, and gave all there was.
    complete_ns: u64,
    roots: Roots,
    adaptive: Adaptive,
    promised_ns: u64,
    /// When it was last looked for the oldest job that may yet be told of, and whether there are such.
    looked_ns: u64,
    tells_late: bool,
    give_up_after_ns: u64,
    /// So many were given up, as far as it was noted.
    given_up: u64,
    /// It was noted that switches may be missing.
    tells_passed_over: bool,
    time: Measured,
    notes: Vec<String>,
}

/// Whether the kernel measures what programs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measured {
    /// Because it was asked to, which nobody else can take back: it counts those who ask (bpf_stats_enabled_key, kernel/bpf/syscall.c).
    ForThis,
    /// For somebody else, who may end it.
    Anyway,
    /// No longer.
    Not,
}

/// So often the table of jobs in flight is looked through where they are told of when they are done, and so often for those that are given up.
const LOOK_NS: u64 = 100_000_000;
const LOOK_FOR_OLD_NS: u64 = 5_000_000_000;

impl BpfCapture {
    /// Begins a capture. Needs CAP_BPF and CAP_PERFMON, and neither root nor tracefs.
    ///
    /// # Errors
    /// [`CaptureError::Permission`]; [`CaptureError::Unsupported`] for a kernel without type information, without a driver that uses the
    /// DRM scheduler, or where no wanted family is captured this way; [`CaptureError::Failed`].
    pub fn open(roots: &Roots, wanted: &Wanted, settings: &Settings) -> Result<BpfCapture, CaptureError> {
        if !wanted.families.contains(&Family::DrmSched) {
            return Err(CaptureError::Unsupported {
                what: "none of the families asked for is captured by BPF".into(),
                remedy: "ask for gpu_scheduler, or capture by tracefs".into(),
            });
        }
        // Before programs are loaded, which takes longer.
        let rights = Rights::read(roots);
        let is_measured = settings.sampling.target_cpu_ratio.is_some();
        if is_measured && !rights.has(Capability::SysAdmin) && !is_measured_anyway(roots) {
            return Err(may_not_measure(&rights));
        }
        let of_jobs = JobsWanted { ring_bytes: wanted.buffer_bytes, switches: wanted.switches };
        let jobs = Jobs::open(roots, of_jobs, told(roots, settings)?).map_err(|error| explain(roots, error))?;
        let mut formats = formats::of(jobs.fields());
        if wanted.switches {
            formats.extend(formats::of_switches());
        }
        let mut capture = BpfCapture {
            formats,
            jobs,
            complete_ns: 0,
            roots: roots.clone(),
            adaptive: Adaptive::new(&settings.sampling),
            promised_ns: 0,
            looked_ns: 0,
            tells_late: settings.sampling.slower_than_ns.is_some(),
            give_up_after_ns: settings.sampling.give_up_after_ns,
            given_up: 0,
            tells_passed_over: false,
            time: Measured::Not,
            notes: Vec::new(),
        };
        capture.measure(settings)?;
        capture.follow(settings)?;
        Ok(capture)
    }

    /// Puts other settings in force, at one moment for all processors. Jobs in flight keep what was decided of them.
    ///
    /// # Errors
    /// [`CaptureError::Unsupported`] for limits that are none, and for processes that cannot be told from here; [`CaptureError::Permission`] for a
    /// target of time that may not be measured; [`CaptureError::Failed`] with
    /// the kernel's answer: more than 8192 entries of lists. The settings before stay in force then. [`CaptureError::InForce`] where these are
    /// in force, and children that began meanwhile could not be listed, or what went before them not be taken away.
    pub fn set(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        let rules = told(&self.roots, settings)?;
        let put = self.put_in_force(settings, rules.clone());
        if put.is_err() && *self.jobs.rules() != rules {
            // What was begun for them is not needed: measuring costs every program of the machine.
            if !self.adaptive.needs_time() {
                let _ = self.jobs.measure(false);
                self.time = Measured::Not;
            }
            return put;
        }
        self.give_up_after_ns = settings.sampling.give_up_after_ns;
        // Jobs that are in flight under settings for slow jobs are told of under those that follow.
        self.tells_late |= settings.sampling.slower_than_ns.is_some();
        self.adaptive = Adaptive::new(&settings.sampling);
        // From here on nothing undoes them: all that belongs to them is tried, and the first that fails is told.
        let measured = self.measure(settings);
        let followed = self.follow(settings);
        put.and(measured).and(followed).map_err(|error| CaptureError::InForce { what: error.to_string() })
    }

    fn put_in_force(&mut self, settings: &Settings, rules: JobRules) -> Result<(), CaptureError> {
        // Those before may need it until others are in force.
        if settings.sampling.target_cpu_ratio.is_some() {
            self.measure(settings)?;
        }
        if has_followed(settings) {
            self.jobs.follow_children().map_err(failed)?;
        }
        self.jobs.set_rules(rules).map_err(failed)
    }

    /// The part of the jobs that the sample keeps now: less than was asked for where a target rate is set.
    pub fn share(&self) -> f64 {
        self.jobs.rules().sample as f64 / gpuscope_sys::bpf::ALL_JOBS as f64
    }

    /// Time that the programs took on all processors together, in nanoseconds, while that was measured: under settings with a target for it.
    ///
    /// # Errors
    /// [`CaptureError::Failed`] when the kernel refuses.
    pub fn spent_ns(&self) -> Result<u64, CaptureError> {
        self.jobs.spent_ns().map_err(failed)
    }

    /// Has the programs' time measured where the settings need it.
    fn measure(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        let is_wanted = settings.sampling.target_cpu_ratio.is_some();
        self.time = match self.jobs.measure(is_wanted) {
            Ok(()) if is_wanted => Measured::ForThis,
            Ok(()) => Measured::Not,
            Err(BpfError::Permission { .. }) if is_measured_anyway(&self.roots) => Measured::Anyway,
            Err(BpfError::Permission { .. }) => return Err(may_not_measure(&Rights::read(&self.roots))),
            Err(other) => return Err(failed(other)),
        };
        Ok(())
    }

    /// What the programs have taken, where it is measured now. That this ended, or goes on, is noted.
    fn time_taken(&mut self) -> Result<Option<u64>, CaptureError> {
        let spent_ns = self.jobs.spent_ns().map_err(failed)?;
        if !self.adaptive.needs_time() || self.time == Measured::ForThis {
            return Ok(Some(spent_ns));
        }
        let (now, note) = still_measured(self.time, is_measured_anyway(&self.roots));
        self.time = now;
        self.notes.extend(note.map(str::to_string));
        Ok((now == Measured::Anyway).then_some(spent_ns))
    }

    /// What jobs took that were done since this was asked last, and the rings now. Empty unless the settings have asked for totals.
    ///
    /// # Errors
    /// [`CaptureError::Failed`] when the kernel refuses.
    pub fn take_totals(&mut self) -> Result<(Vec<JobTotal>, Vec<RingTotal>), CaptureError> {
        self.jobs.take_totals().map_err(failed)
    }

    /// Puts a job in by hand, which passes the same programs as any other: to see what becomes of it. The seqno of its fence, whose context is
    /// [`MADE_CONTEXT`].
    ///
    /// # Errors
    /// [`CaptureError::Failed`] when the kernel refuses.
    pub fn put_in(&mut self, job: &MadeJob) -> Result<u64, CaptureError> {
        self.jobs.put_in(job).map_err(failed)
    }

    /// Shows that jobs come through from the tracepoints' programs to their decoded events, by one that is put in.
    ///
    /// # Errors
    /// [`CaptureError::Failed`] that says what came of it.
    pub fn prove(&mut self) -> Result<(), CaptureError> {
        let seqno =
            self.put_in(&MadeJob { ring: "test".into(), device: "test".into(), error: 0, is_end_missed: false })?;
        let key = Some(JobKey::Fence { context: MADE_CONTEXT, seqno });
        let mut decoder = Decoder::new();
        for format in &self.formats {
            decoder.add_format(format);
        }
        let mut kinds = Vec::new();
        self.drain(&mut |record: RawRecord<'_>| {
            if let Some(event) = decoder.decode(record).filter(|event| event.key == key) {
                kinds.push(event.kind);
            }
        })?;
        if kinds == [EventKind::Submit, EventKind::Commit, EventKind::Complete] {
            return Ok(());
        }
        let came: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let came = if came.is_empty() { "nothing".to_string() } else { came.join(", ") };
        Err(CaptureError::Failed {
            what: format!("of a job that was put in as a test, {came} came through the BPF programs"),
        })
    }

    /// Lists the children of listed processes that began while the settings were put in force: before, they were looked up; from now
    /// on, the programs see to them.
    fn follow(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        if !has_followed(settings) {
            return Ok(());
        }
        self.jobs.follow_children().map_err(failed)?;
        let children = verdicts(&self.roots, settings).into_iter();
        let children: Vec<_> = children.map(|(child, is_allowed)| (JobSubject::Pid(child), is_allowed)).collect();
        self.jobs.also_list(&children).map_err(failed)
    }

    /// Until when all is told. Where jobs are told of when they are done, not before the oldest that is not: it may be told of.
    fn until(&mut self, now_ns: u64) -> Result<u64, CaptureError> {
        let is_due = |every_ns| now_ns.saturating_sub(self.looked_ns) >= every_ns;
        let looks = self.tells_late || (self.jobs.is_tracking() && is_due(LOOK_FOR_OLD_NS));
        if !looks {
            return Ok(self.complete_ns);
        }
        if !is_due(LOOK_NS) {
            return Ok(self.promised_ns);
        }
        self.looked_ns = now_ns;
        let too_old_ns = now_ns.saturating_sub(self.give_up_after_ns);
        let oldest = self.jobs.oldest_kept_ns(too_old_ns).map_err(failed)?;
        let before = std::mem::replace(&mut self.given_up, self.jobs.given_up());
        self.notes.extend(given_up(self.given_up.saturating_sub(before), self.give_up_after_ns));
        Ok(oldest.map_or(self.complete_ns, |oldest| oldest.min(self.complete_ns)))
    }
}

impl Capture for BpfCapture {
    fn backend(&self) -> Backend {
        Backend::Bpf
    }

    fn formats(&self) -> &[EventFormat] {
        &self.formats
    }

    /// A program takes its time first and reserves room later. So when a reading has given all that was reserved when it began, a record
    /// may still come whose time is a little before that; what is promised is the beginning of the complete reading before it, as perf
    /// does between its rounds (PERF_RECORD_FINISHED_ROUND). A reading that met a record being filled promises nothing new.
    fn drain(&mut self, sink: &mut dyn RecordSink) -> Result<Drained, CaptureError> {
        // Before the ring is read: what is not in the table of jobs then is in the ring.
        let could_be_ns = self.until(monotonic_ns())?.max(self.promised_ns);
        let read =
            self.jobs.read(|record| sink.record(RawRecord { at_ns: record.at_ns, cpu: record.cpu, data: record.data }));
        if let Some(at_ns) = read.complete_at_ns {
            self.complete_ns = at_ns;
            self.promised_ns = could_be_ns;
        }
        self.adaptive.count(read.records.saturating_sub(read.switches));
        if self.adaptive.is_due(monotonic_ns()) {
            let lost = self.jobs.lost().map_err(failed)?;
            let spent_ns = self.time_taken()?;
            let counted = Counted { left_out: lost.sampled_out, quick: lost.quick, spent_ns };
            if let Some(part) = self.adaptive.adjust(monotonic_ns(), counted) {
                self.jobs.set_sample(rules::share(part)).map_err(failed)?;
            }
            self.notes.extend(self.adaptive.out_of_reach().map(|(target, taken)| out_of_reach(target, taken)));
        }
        Ok(Drained { until_ns: self.promised_ns, records: read.records })
    }

    fn dropped(&mut self) -> Result<Dropped, CaptureError> {
        let lost = self.jobs.lost().map_err(failed)?;
        let passed_over = self.jobs.switches_passed_over().map_err(failed)?;
        if passed_over > 0 && !self.tells_passed_over {
            self.tells_passed_over = true;
            self.notes.push(PASSED_OVER.into());
        }
        Ok(Dropped {
            ring_full: lost.ring_full,
            missed: lost.missed,
            rate_limited: lost.rate_limited,
            sampled_out: lost.sampled_out.saturating_add(lost.quick),
            filtered: lost.filtered,
            table_full: lost.table_full,
            unreadable: 0,
        })
    }

    /// None: records carry process and name of who submitted.
    fn tasks(&mut self, _each: &mut dyn FnMut(u32, u32, &str)) {}

    fn set(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        BpfCapture::set(self, settings)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn take_totals(&mut self) -> Result<TotalsSample, CaptureError> {
        let at_ns = monotonic_ns();
        let (totals, rings) = BpfCapture::take_totals(self)?;
        Ok(totals::sample(at_ns, &totals, &rings))
    }
}

/// Whether the kernel measures what programs take, whoever asks (Documentation/admin-guide/sysctl/kernel.rst, bpf_stats_enabled).
fn is_measured_anyway(roots: &Roots) -> bool {
    read_text(roots.proc("sys/kernel/bpf_stats_enabled")).is_ok_and(|text| text.trim() == "1")
}

/// Whether time is measured that somebody else had measured, and what is to be noted where that has changed.
fn still_measured(before: Measured, is_measured: bool) -> (Measured, Option<&'static str>) {
    match (before, is_measured) {
        (Measured::Anyway, false) => (
            Measured::Not,
            Some(
                "the kernel no longer measures what the programs cost (kernel.bpf_stats_enabled was set to 0): --max-cpu cannot be kept to, and \
                 the part of the jobs that is recorded stays as it was; set it to 1 again, or grant CAP_SYS_ADMIN",
            ),
        ),
        (Measured::Not, true) => {
            (Measured::Anyway, Some("the kernel measures again what the programs cost: --max-cpu is kept to"))
        }
        (same, _) => (same, None),
    }
}

/// That switches of threads may be missing: no job is.
const PASSED_OVER: &str = "the kernel passed over programs that follow threads: of the switches and wakings of the jobs' threads some may be missing";

/// That jobs were given up, where some were.
fn given_up(jobs: u64, after_ns: u64) -> Option<String> {
    let (what, they) = match jobs {
        0 => return None,
        1 => ("1 job".to_string(), "it ends"),
        jobs => (format!("{jobs} jobs"), "they end"),
    };
    let seconds = after_ns as f64 / 1e9;
    Some(format!(
        "{what} had not ended {seconds} s after the submission, and no place is kept for longer: how {they} is not recorded"
    ))
}

/// That a target of time cannot be met.
fn out_of_reach(target: f64, taken: f64) -> String {
    let percent = |part: f64| format!("{:.2}%", part * 100.0);
    format!(
        "--max-cpu {} cannot be met: hardly any job is recorded any more, and the programs take {} of a processor's time all the same, for \
         leaving jobs out costs time, too; allow them more",
        percent(target),
        percent(taken)
    )
}

/// What measuring takes, and what does without (`bpf_enable_stats` in kernel/bpf/syscall.c asks for CAP_SYS_ADMIN and nothing else).
fn may_not_measure(rights: &Rights) -> CaptureError {
    let remedy = rights.remedy_for(&[Capability::SysAdmin, Capability::Bpf, Capability::Perfmon]);
    CaptureError::Permission {
        what: "measuring what the programs cost (BPF_ENABLE_STATS)".into(),
        remedy: format!(
            "{remedy}; or have root set kernel.bpf_stats_enabled=1; or give a number of events instead (--max-events-per-second)"
        ),
    }
}

/// Whether there are processes whose children are listed with them.
fn has_followed(settings: &Settings) -> bool {
    let pids = &settings.filters.pids;
    settings.filters.with_children && !(pids.allow.is_empty() && pids.deny.is_empty())
}

/// Listed processes with their descendants, and whether they are allowed: what is denied is, whoever its parent is.
fn verdicts(roots: &Roots, settings: &Settings) -> BTreeMap<u32, bool> {
    let pids = &settings.filters.pids;
    let with_children = |listed: &[u32]| {
        let more = if has_followed(settings) { descendants::of(roots, listed) } else { Vec::new() };
        listed.iter().copied().chain(more).collect::<Vec<u32>>()
    };
    let mut verdicts: BTreeMap<u32, bool> = with_children(&pids.allow).into_iter().map(|pid| (pid, true)).collect();
    verdicts.extend(with_children(&pids.deny).into_iter().map(|pid| (pid, false)));
    verdicts
}

/// What the programs are told, with the children that are there.
fn told(roots: &Roots, settings: &Settings) -> Result<JobRules, CaptureError> {
    let mut rules = rules::of(settings)?;
    let verdicts = verdicts(roots, settings);
    if !verdicts.is_empty() && !roots.has_machine_pids() {
        return Err(CaptureError::Unsupported {
            what: "processes are listed, and this PID namespace numbers them otherwise than the machine does".into(),
            remedy: "run in the PID namespace of the machine (docker, podman: --pid=host), or tell processes by user, name or cgroup".into(),
        });
    }
    rules.lists.extend(verdicts.into_iter().map(|(pid, is_allowed)| (JobSubject::Pid(pid), is_allowed)));
    Ok(rules)
}

/// Says what would help.
fn explain(roots: &Roots, error: BpfError) -> CaptureError {
    let unsupported = |what: String, remedy: &str| CaptureError::Unsupported { what, remedy: remedy.into() };
    match error {
        BpfError::Permission { .. } => CaptureError::Permission {
            what: error.to_string(),
            remedy: Rights::read(roots).remedy_for(&[Capability::Bpf, Capability::Perfmon]),
        },
        BpfError::NoTracepoint { .. } => unsupported(
            format!("no driver that uses the DRM scheduler is loaded: {error}"),
            "load the GPU's driver first; i915 and NVIDIA's own driver do without this scheduler",
        ),
        BpfError::NoBtf { .. } | BpfError::Unsupported { .. } | BpfError::InnerPidNamespace => {
            unsupported(error.to_string(), "capture by tracefs or perf")
        }
        BpfError::Rejected { .. } | BpfError::Io { .. } => failed(error),
    }
}

fn failed(error: BpfError) -> CaptureError {
    CaptureError::Failed { what: error.to_string() }
}

#[cfg(test)]
mod tests;
