//! The JSON that chrome://tracing introduced, for speedscope and viewers that know nothing newer.
//!
//! Slices of one thread must nest there, and overlapping ones are dropped or cut (google/perfetto issue 4280). So each ring's stages
//! have lanes, each a thread of its own below the GPU, which is a process. Arrows, utilisation and times of day are in the format of
//! [`crate::perfetto`] alone.

use crate::fence_errors::FenceErrors;
use crate::perfetto::lanes::Lanes;
use crate::perfetto::stages::{Stage, stages};
use gpuscope_model::trace::{Dropped, Event, EventKind, Job, JobKey, JobStatus, RingId, TraceNames};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

/// Numbers of processes that are none begin here: Linux has none above 4,194,304 (PID_MAX_LIMIT, include/linux/threads.h).
const FIRST_GPU: u64 = 1_000_000_000;
/// The process of threads whose process is not recorded.
const STRANGERS: u64 = FIRST_GPU - 1;
/// The thread of a GPU's interrupts, before those of its rings.
const INTERRUPTS: u64 = 1;
/// Lanes of one stage that have a number of their own.
const MOST_LANES: u64 = 1 << 16;
/// Threads that are remembered as named; with more, all are named again as they come.
const MOST_THREADS: usize = 1 << 16;

/// Writes a trace. Events and the jobs that they end are pushed in as they come; what is kept is bounded, whatever their number.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    is_first: bool,
    rings: HashMap<Option<RingId>, Ring>,
    gpus: HashMap<String, u64>,
    /// GPUs that have a thread of interrupts.
    interrupted: BTreeSet<u64>,
    threads: BTreeSet<(u64, u32)>,
    origin_ns: u64,
    now_ns: u64,
    fence_errors: FenceErrors,
}

#[derive(Debug)]
struct Ring {
    gpu: u64,
    number: u64,
    name: String,
    depth: u64,
    /// By stage.
    lanes: [Lanes; 4],
}

/// An event, as the format has it.
#[derive(Serialize)]
struct Row<'a, A> {
    name: &'a str,
    ph: &'static str,
    pid: u64,
    tid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<Micros>,
    /// Of an instant: the thread's.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    args: A,
}

/// Nanoseconds, written as microseconds. Readers keep them as numbers with a point, which tell nanoseconds apart up to 104 days: so
/// times count from the trace's begin, not from that of the machine.
type Micros = serde_json::Number;

fn micros(ns: u64) -> Option<Micros> {
    serde_json::Number::from_f64(ns as f64 / 1e3)
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Place {
    sort_index: u64,
}

#[derive(Serialize)]
struct Depth {
    jobs: u64,
}

#[derive(Serialize)]
struct Frequency {
    hz: u64,
}

/// What is known of a job.
#[derive(Serialize)]
struct Args<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ring: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seqno: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i64>,
}

impl<'a> Args<'a> {
    fn key(key: Option<JobKey>) -> Self {
        let (mut context, mut seqno, mut fence_address) = (None, None, None);
        match key {
            Some(JobKey::Fence { context: of, seqno: number }) => (context, seqno) = (Some(of), Some(number)),
            Some(JobKey::FenceLow { context: of, seqno: number }) => {
                (context, seqno) = (Some(u64::from(of)), Some(u64::from(number)));
            }
            Some(JobKey::InRing { number, .. }) => seqno = Some(number),
            Some(JobKey::Address(address)) => fence_address = Some(format!("{address:#x}")),
            None => {}
        }
        Args {
            ring: None,
            context,
            seqno,
            fence_address,
            client_id: None,
            pid: None,
            tid: None,
            start_kind: None,
            status: None,
            errno: None,
        }
    }

    fn job(job: &Job) -> Self {
        let known = |number: u32| (number != 0).then_some(number);
        let kind = job.start_ns.map(|(_, kind)| kind.name()).or(job.run_ns.map(|_| "in_flight"));
        let errno = if let JobStatus::Failed(errno) = job.status { Some(errno) } else { None };
        Args {
            client_id: job.client,
            pid: known(job.pid),
            tid: known(job.tid),
            start_kind: kind,
            status: Some(job.status.name()),
            errno,
            ..Args::key(Some(job.key))
        }
    }
}

impl<W: Write> Writer<W> {
    /// Begins a trace whose times count from `origin_ns`, in CLOCK_MONOTONIC: the time of its first event. What is before counts as
    /// then.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W, origin_ns: u64) -> io::Result<Self> {
        write!(
            out,
            "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"origin_monotonic_ns\":{origin_ns}}},\"traceEvents\":["
        )?;
        Ok(Writer {
            out,
            is_first: true,
            rings: HashMap::new(),
            gpus: HashMap::new(),
            interrupted: BTreeSet::new(),
            threads: BTreeSet::new(),
            origin_ns,
            now_ns: 0,
            fence_errors: FenceErrors::default(),
        })
    }

    /// Takes an event, in order of time, before the jobs that it ends.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn event(&mut self, event: &Event, names: &TraceNames) -> io::Result<()> {
        self.now_ns = self.now_ns.max(event.at_ns);
        if let Some(stray) = self.fence_errors.event(event) {
            self.stray_error(&stray)?;
        }
        match event.kind {
            EventKind::Submit | EventKind::SubmitCommit if event.key.is_some() => {
                let ring = self.ring(event.ring, names)?;
                ring.depth = ring.depth.saturating_add(1);
                self.depth(event.ring, names)
            }
            EventKind::Error if !FenceErrors::is_one(event) => {
                let (pid, tid) = {
                    let ring = self.ring(event.ring, names)?;
                    (ring.gpu, ring.tid(0, 0))
                };
                let args = Args { errno: event.value, ..Args::key(event.key) };
                self.instant("error", pid, tid, event.at_ns, args)
            }
            EventKind::ContextSwitch => {
                let (pid, tid) = {
                    let ring = self.ring(event.ring, names)?;
                    (ring.gpu, ring.tid(0, 0))
                };
                self.instant("context switch", pid, tid, event.at_ns, Args::key(event.key))
            }
            EventKind::Irq => {
                let gpu = self.gpu(names.device_of(event.ring))?;
                if self.interrupted.insert(gpu) {
                    self.about("thread_name", gpu, INTERRUPTS, Named { name: "interrupts" })?;
                }
                self.instant("interrupt", gpu, INTERRUPTS, event.at_ns, Args::key(event.key))
            }
            EventKind::Frequency => match event.value.and_then(|hz| u64::try_from(hz).ok()) {
                Some(hz) => self.frequency(names.device_of(event.ring), event.at_ns, hz),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Takes a job that ended, or that has not when the trace does.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn job(&mut self, job: &Job, names: &TraceNames) -> io::Result<()> {
        self.fence_errors.job(job);
        if job.submit_ns.is_some() && job.status != JobStatus::InFlight {
            let ring = self.ring(job.ring, names)?;
            ring.depth = ring.depth.saturating_sub(1);
            self.depth(job.ring, names)?;
        }
        let comm = names.get(job.comm);
        if let Some(submit_ns) = job.submit_ns
            && job.tid != 0
        {
            let pid = if job.pid == 0 { STRANGERS } else { u64::from(job.pid) };
            self.name_thread(pid, job.tid, comm)?;
            let ring = job.ring.and_then(|ring| names.get_ring(ring));
            let args = Args { ring: ring.map(|ring| ring.name.as_str()), ..Args::key(Some(job.key)) };
            self.instant("submit", pid, u64::from(job.tid), submit_ns, args)?;
        }
        let name = if comm.is_empty() { "job" } else { comm };
        for (stage, from_ns, to_ns) in stages(job).into_iter().flatten() {
            let (pid, tid) = self.lane(job.ring, stage, from_ns, to_ns, names)?;
            let origin_ns = self.origin_ns;
            let dur = to_ns.map(|to_ns| to_ns.max(origin_ns).saturating_sub(from_ns.max(origin_ns))).and_then(micros);
            // A slice that goes on until the trace ends has a begin and no end.
            let ph = if dur.is_some() { "X" } else { "B" };
            self.row(&Row { name, ph, pid, tid, ts: self.time(from_ns), dur, s: None, args: Args::job(job) })?;
        }
        if job.status == JobStatus::Lost
            && let Some(at_ns) = job.start_ns.map(|(ns, _)| ns).or(job.run_ns).or(job.submit_ns)
        {
            let (pid, tid) = {
                let ring = self.ring(job.ring, names)?;
                (ring.gpu, ring.tid(0, 0))
            };
            self.instant("end not recorded", pid, tid, at_ns, Args::job(job))?;
        }
        Ok(())
    }

    /// Says how many events are missing up to now, by cause.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dropped(&mut self, at_ns: u64, dropped: &Dropped) -> io::Result<()> {
        let args: BTreeMap<&str, u64> = dropped.each().into_iter().filter(|(_, n)| *n > 0).collect();
        self.whole("records lost", at_ns, args)
    }

    /// An error of a fence that is of no job, and so of no ring.
    fn stray_error(&mut self, event: &Event) -> io::Result<()> {
        self.whole("error of a fence of no job", event.at_ns, Args { errno: event.value, ..Args::key(event.key) })
    }

    /// A moment of the whole trace, which is of no ring.
    fn whole<A: Serialize>(&mut self, name: &str, at_ns: u64, args: A) -> io::Result<()> {
        self.row(&Row { name, ph: "i", pid: 0, tid: 0, ts: self.time(at_ns), dur: None, s: Some("g"), args })
    }

    /// Ends the document, and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        if let Some(stray) = self.fence_errors.finish() {
            self.stray_error(&stray)?;
        }
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn time(&self, at_ns: u64) -> Option<Micros> {
        micros(at_ns.saturating_sub(self.origin_ns))
    }

    fn row<A: Serialize>(&mut self, row: &Row<'_, A>) -> io::Result<()> {
        self.out.write_all(if self.is_first { b"\n" } else { b",\n" })?;
        self.is_first = false;
        serde_json::to_writer(&mut self.out, row).map_err(io::Error::from)
    }

    fn about<A: Serialize>(&mut self, name: &str, pid: u64, tid: u64, args: A) -> io::Result<()> {
        self.row(&Row { name, ph: "M", pid, tid, ts: None, dur: None, s: None, args })
    }

    fn instant(&mut self, name: &str, pid: u64, tid: u64, at_ns: u64, args: Args<'_>) -> io::Result<()> {
        self.row(&Row { name, ph: "i", pid, tid, ts: self.time(at_ns), dur: None, s: Some("t"), args })
    }

    fn depth(&mut self, ring: Option<RingId>, names: &TraceNames) -> io::Result<()> {
        let (pid, name, jobs) = {
            let ring = self.ring(ring, names)?;
            (ring.gpu, format!("{} depth", ring.name), ring.depth)
        };
        let row = Row {
            name: &name,
            ph: "C",
            pid,
            tid: 0,
            ts: self.time(self.now_ns),
            dur: None,
            s: None,
            args: Depth { jobs },
        };
        self.row(&row)
    }

    /// A device's frequency, which is of no process: devfreq's devices need not be GPUs.
    fn frequency(&mut self, device: &str, at_ns: u64, hz: u64) -> io::Result<()> {
        let name = match device {
            "" => "frequency of a device not named by the records".to_string(),
            device => format!("frequency of {device}"),
        };
        let (ts, args) = (self.time(at_ns), Frequency { hz });
        self.row(&Row { name: &name, ph: "C", pid: 0, tid: 0, ts, dur: None, s: None, args })
    }

    /// The process that stands for a GPU.
    fn gpu(&mut self, device: &str) -> io::Result<u64> {
        if let Some(gpu) = self.gpus.get(device) {
            return Ok(*gpu);
        }
        let gpu = FIRST_GPU + self.gpus.len() as u64;
        let title =
            if device.is_empty() { "GPU not named by the records".to_string() } else { format!("GPU {device}") };
        self.about("process_name", gpu, 0, Named { name: &title })?;
        self.gpus.insert(device.to_string(), gpu);
        Ok(gpu)
    }

    fn ring(&mut self, id: Option<RingId>, names: &TraceNames) -> io::Result<&mut Ring> {
        if !self.rings.contains_key(&id) {
            let ring = id.and_then(|id| names.get_ring(id));
            let gpu = self.gpu(names.device_of(id))?;
            let name = ring.map_or("ring not named by the records", |ring| ring.name.as_str()).to_string();
            let number = self.rings.len() as u64 + 1;
            let ring = Ring { gpu, number, name, depth: 0, lanes: Default::default() };
            let (tid, title) = (ring.tid(0, 0), ring.name.clone());
            self.about("thread_name", gpu, tid, Named { name: &title })?;
            self.about("thread_sort_index", gpu, tid, Place { sort_index: tid })?;
            self.rings.insert(id, ring);
        }
        self.rings.get_mut(&id).ok_or_else(|| io::Error::other("a ring was not kept"))
    }

    fn lane(
        &mut self,
        id: Option<RingId>,
        stage: Stage,
        from_ns: u64,
        to_ns: Option<u64>,
        names: &TraceNames,
    ) -> io::Result<(u64, u64)> {
        let ring = self.ring(id, names)?;
        let Some(lanes) = ring.lanes.get_mut(stage as usize) else { return Ok((ring.gpu, ring.tid(0, 0))) };
        let (lane, is_new) = lanes.place(from_ns, to_ns);
        let (gpu, tid) = (ring.gpu, ring.tid(stage as u64 + 1, u64::from(lane)));
        if is_new {
            let name = format!("{} {}", ring.name, stage.name());
            self.about("thread_name", gpu, tid, Named { name: &name })?;
            self.about("thread_sort_index", gpu, tid, Place { sort_index: tid })?;
        }
        Ok((gpu, tid))
    }

    fn name_thread(&mut self, pid: u64, tid: u32, comm: &str) -> io::Result<()> {
        if self.threads.contains(&(pid, tid)) {
            return Ok(());
        }
        if self.threads.len() >= MOST_THREADS {
            self.threads.clear();
        }
        self.threads.insert((pid, tid));
        let process = if pid == STRANGERS { "threads whose process is not recorded" } else { comm };
        for (what, name) in [("process_name", process), ("thread_name", comm)] {
            if !name.is_empty() {
                self.about(what, pid, u64::from(tid), Named { name })?;
            }
        }
        Ok(())
    }
}

impl Ring {
    /// The number of a lane's thread, by which viewers sort: ring by ring, stage by stage.
    fn tid(&self, stage: u64, lane: u64) -> u64 {
        (self.number * 8 + stage) * MOST_LANES + lane.min(MOST_LANES - 1)
    }
}
