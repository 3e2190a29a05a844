//! What an event costs in the kernel: nanoseconds of processor time that getppid, getpgid and getsid take longer while they are traced, for the
//! programs of gpuscope, and for trace-cmd, perf and bpftrace on raw_syscalls:sys_enter, in turns over the same loop.
//!
//! `cargo bench -p gpuscope-sys --features bpf --bench events -- [ROUNDS] [PART OF A NAME]`, as root. Prints a line `name,nanoseconds` for each, the median
//! of the rounds, and for what is missing a line that says why.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark may end at once")]

use gpuscope_sys::bpf::{JobRules, JobSubject, JobsCost, JobsCostOf};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

static OBJECT: &[u8] = include_bytes!("../bpf/cost.bpf.o");

/// Calls in a round: three are a job.
const CALLS: u64 = 150_000;

/// Room for all of a round.
const RING: usize = 64 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(9);
    let wanted: Vec<&String> = args.iter().filter(|arg| arg.parse::<u32>().is_err()).collect();
    let tmp = tempfile::tempdir().unwrap();
    let mut costs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut missing: BTreeMap<&str, String> = BTreeMap::new();
    for _ in 0..rounds {
        for (name, measure) in CASES {
            let is_wanted = wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
            if !is_wanted || missing.contains_key(name) {
                continue;
            }
            // The loop without anything, ahead and behind: the machine is not always equally fast.
            let before = loop_ns();
            match measure(tmp.path()) {
                Ok(ns) => costs.entry(name).or_default().push(ns - f64::midpoint(before, loop_ns())),
                Err(why) => _ = missing.insert(name, why),
            }
        }
        costs.entry("untraced").or_default().push(loop_ns());
    }
    for _ in 0..rounds {
        for (name, measure) in SWITCHES {
            if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str()))
                || missing.contains_key(name)
            {
                continue;
            }
            let Ok(pair) = Pair::new() else { continue };
            let before = pair.switch_ns();
            match measure(&pair, tmp.path()) {
                Ok(ns) => costs.entry(name).or_default().push(ns - f64::midpoint(before, pair.switch_ns())),
                Err(why) => _ = missing.insert(name, why),
            }
            costs.entry("untraced switch").or_default().push(before);
        }
    }
    for (name, why) in missing {
        println!("{name}: not measured: {why}");
    }
    if are_functions_kept_from_root() && costs.contains_key("trace-cmd record") {
        println!(
            "This host keeps the function tracer's files from root: trace-cmd was given empty ones in their place."
        );
    }
    for (name, mut ns) in costs {
        ns.sort_by(f64::total_cmp);
        println!("{name},{:.1}", ns.get(ns.len() / 2).unwrap());
    }
}

type Measure = fn(&Path) -> Result<f64, String>;

/// How ours are measured, but for their levels: alone, with the program of fences, and as on kernels before Linux 6.2.
const ALONE: JobsCostOf = JobsCostOf { levels: 1, fences: false, calls: false };
const WITH_FENCES: JobsCostOf = JobsCostOf { fences: true, ..ALONE };
const BY_CALLS: JobsCostOf = JobsCostOf { calls: true, ..ALONE };

const CASES: [(&str, Measure); 17] = [
    ("gpuscope nothing", |_| at_levels(None, ALONE).map(|(ns, ..)| ns)),
    ("gpuscope recorded", |_| recorded(ALONE)),
    ("gpuscope recorded, with fences", |_| recorded(WITH_FENCES)),
    ("gpuscope recorded, by calls", |_| recorded(BY_CALLS)),
    ("gpuscope recorded, whole jobs", |_| whole_jobs(ALONE)),
    ("gpuscope recorded, whole jobs, by calls", |_| whole_jobs(BY_CALLS)),
    ("gpuscope filtered out", |_| filtered_out(ALONE)),
    ("gpuscope filtered out, with fences", |_| filtered_out(WITH_FENCES)),
    ("gpuscope filtered out, by calls", |_| filtered_out(BY_CALLS)),
    ("gpuscope aggregated", |_| aggregated(ALONE)),
    ("gpuscope aggregated, with fences", |_| aggregated(WITH_FENCES)),
    ("gpuscope aggregated, by calls", |_| aggregated(BY_CALLS)),
    ("trace-cmd record", |dir| trace_cmd(dir, &[])),
    ("trace-cmd filtered out", |dir| trace_cmd(dir, &["-f", "id == 9999"])),
    ("perf record", |dir| perf(dir, &[])),
    ("perf filtered out", |dir| perf(dir, &["--filter", "id == 9999"])),
    ("bpftrace aggregated", |dir| {
        let out = dir.join("bpftrace.txt");
        let pid = std::process::id();
        let program = format!("tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @calls[args->id] = count(); }}");
        let ns = peer(Command::new("bpftrace").arg("-o").arg(&out).arg("-e").arg(program))?;
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        // The three are the most frequent.
        let mut counts: Vec<u64> =
            text.lines().filter_map(|line| line.rsplit_once(": ")?.1.trim().parse().ok()).collect();
        counts.sort_unstable();
        let count: u64 = counts.iter().rev().take(3).sum();
        if count < CALLS { Err(format!("it counted {count} of {CALLS} calls")) } else { Ok(ns) }
    }),
];

type MeasureSwitch = fn(&Pair, &Path) -> Result<f64, String>;

/// What a switch and the waking before it cost.
const SWITCHES: [(&str, MeasureSwitch); 3] = [
    ("gpuscope switch, of others", |pair, _| {
        let (ns, records) = pair.followed(&[])?;
        expect("records", records, 0).map(|()| ns)
    }),
    ("gpuscope switch, of a job's thread", |pair, _| {
        let (ns, records) = pair.followed(&pair.tids)?;
        // The machine's other threads come between the two.
        if records >= TURNS * 4 { Ok(ns) } else { Err(format!("{records} records of {TURNS} turns")) }
    }),
    ("perf record switch", |pair, dir| {
        let out = dir.join("perf.data");
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-m", "64M", "-e", "sched:sched_switch", "-e", "sched:sched_waking", "-p"]);
        command.arg(std::process::id().to_string()).arg("-o").arg(&out);
        let ns = under(&mut command, || pair.switch_ns())?;
        let bytes = std::fs::metadata(&out).map_err(|error| error.to_string())?.len();
        if bytes >= TURNS * 80 { Ok(ns) } else { Err(format!("its file has {bytes} bytes after {TURNS} turns")) }
    }),
];

/// Turns of a round: in each, both threads are woken and get the processor.
const TURNS: u64 = 30_000;

/// Two threads on one processor that wake each other.
struct Pair {
    begin: SyncSender<()>,
    ended: Receiver<Duration>,
    tids: [u32; 2],
}

impl Pair {
    fn new() -> Result<Pair, std::io::Error> {
        let (begin, begins) = sync_channel::<()>(1);
        let (ends, ended) = sync_channel(2);
        let (tell, told) = sync_channel(2);
        let (one, other) = UnixStream::pair()?;
        let read = |from: &mut UnixStream| from.read_exact(&mut [0]).is_ok();
        let write = |to: &mut UnixStream| assert!(to.write_all(&[0]).is_ok());
        let (ends_too, tell_too) = (ends.clone(), tell.clone());
        std::thread::spawn(move || {
            let mut other = other;
            tell_too.send(on_first_processor()).unwrap();
            while read(&mut other) {
                let start = cpu_time();
                for _ in 0..TURNS {
                    write(&mut other);
                    assert!(read(&mut other));
                }
                ends_too.send(cpu_time() - start).unwrap();
            }
        });
        std::thread::spawn(move || {
            let mut one = one;
            tell.send(on_first_processor()).unwrap();
            while begins.recv().is_ok() {
                let start = cpu_time();
                write(&mut one);
                for _ in 0..TURNS {
                    assert!(read(&mut one));
                    write(&mut one);
                }
                ends.send(cpu_time() - start).unwrap();
            }
        });
        let tids = [told.recv().unwrap(), told.recv().unwrap()];
        Ok(Pair { begin, ended, tids })
    }

    /// Processor time of both threads for a switch from one to the other.
    fn switch_ns(&self) -> f64 {
        self.begin.send(()).unwrap();
        let both = self.ended.recv().unwrap() + self.ended.recv().unwrap();
        both.as_nanos() as f64 / (2 * TURNS) as f64
    }

    /// The same while these threads are followed, and the records that came of it.
    fn followed(&self, tids: &[u32]) -> Result<(f64, u64), String> {
        let mut cost = JobsCost::follow(OBJECT, RING, tids).map_err(|error| error.to_string())?;
        let ns = self.switch_ns();
        let (records, _) = cost.counts().map_err(|error| error.to_string())?;
        Ok((ns, records))
    }
}

/// Keeps this thread on one processor, and says its number.
fn on_first_processor() -> u32 {
    let mut first = rustix::thread::CpuSet::new();
    first.set(0);
    rustix::thread::sched_setaffinity(None, &first).unwrap();
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// Processor time of a call, in nanoseconds.
fn loop_ns() -> f64 {
    let start = cpu_time();
    for _ in 0..CALLS / 3 {
        std::hint::black_box(rustix::process::getppid());
        let _ = std::hint::black_box(rustix::process::getpgid(None));
        let _ = std::hint::black_box(rustix::process::getsid(None));
    }
    (cpu_time() - start).as_nanos() as f64 / CALLS as f64
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} and not {expected:?}")) }
}

fn recorded(of: JobsCostOf) -> Result<f64, String> {
    let (ns, records, causes) = ours(&JobRules::default(), of)?;
    expect("records and counts", (records, causes), (CALLS, [0; 8])).map(|()| ns)
}

/// Each job is remembered until its end, since a list says which are recorded.
fn whole_jobs(of: JobsCostOf) -> Result<f64, String> {
    let lists = vec![(JobSubject::Pid(std::process::id()), true)];
    let (ns, records, causes) = ours(&JobRules { lists, ..JobRules::default() }, of)?;
    expect("records and counts", (records, causes), (CALLS, [0; 8])).map(|()| ns)
}

fn filtered_out(of: JobsCostOf) -> Result<f64, String> {
    let lists = vec![(JobSubject::Pid(std::process::id()), false)];
    let (ns, records, causes) = ours(&JobRules { lists, ..JobRules::default() }, of)?;
    expect("records and counts", (records, causes), (0, [0, 0, CALLS, 0, 0, 0, 0, 0])).map(|()| ns)
}

fn aggregated(of: JobsCostOf) -> Result<f64, String> {
    let rules = JobRules { totals: true, records: false, ..JobRules::default() };
    let (ns, records, causes) = ours(&rules, of)?;
    expect("records and counts", (records, causes), (0, [0; 8])).map(|()| ns)
}

/// A round under our programs, at one level and at two, as far as events pass both. What they count must not differ.
fn ours(rules: &JobRules, of: JobsCostOf) -> Result<(f64, u64, [u64; 8]), String> {
    let share = f64::from(JobsCost::events_with_two_levels(rules)) / 3.0;
    let (ns, records, causes) = at_levels(Some(rules.clone()), of)?;
    if share == 0.0 {
        return Ok((ns, records, causes));
    }
    let (both, again, causes_again) = at_levels(Some(rules.clone()), JobsCostOf { levels: 2, ..of })?;
    expect("records and counts at two levels", (again, causes_again), (records, causes))?;
    Ok((both * share + ns * (1.0 - share), records, causes))
}

/// The calls of the loop alone are counted.
fn at_levels(rules: Option<JobRules>, of: JobsCostOf) -> Result<(f64, u64, [u64; 8]), String> {
    let mut cost = JobsCost::open(OBJECT, RING, rules, of).map_err(|error| error.to_string())?;
    let (_, before) = cost.counts().map_err(|error| error.to_string())?;
    let ns = loop_ns();
    let (records, mut causes) = cost.counts().map_err(|error| error.to_string())?;
    for (cause, before) in causes.iter_mut().zip(before) {
        *cause = cause.wrapping_sub(before);
    }
    // A few calls may be somebody else's.
    let around = 64;
    let near = |n: u64| match n {
        _ if n.abs_diff(CALLS) <= around => CALLS,
        // Those of others are no whole jobs: what follows is missing, or comes twice.
        _ if (n as i64).unsigned_abs() <= around => 0,
        _ => n,
    };
    Ok((ns, near(records), causes.map(near)))
}

/// What trace-cmd empties before it records, and no event needs: the function tracer's.
const OF_FUNCTIONS: [&str; 4] = ["set_ftrace_filter", "set_ftrace_notrace", "set_ftrace_pid", "set_ftrace_notrace_pid"];

/// Whether this host keeps them from root, who may enable events all the same.
fn are_functions_kept_from_root() -> bool {
    let path = Path::new("/sys/kernel/tracing/set_ftrace_filter");
    std::fs::read(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// trace-cmd, which ends where it may not write them: then it finds other files in their place, in a view of the file system of its own.
fn trace_cmd_program(dir: &Path) -> Result<Command, String> {
    if !are_functions_kept_from_root() {
        return Ok(Command::new("trace-cmd"));
    }
    let mut script = String::from("set -e; ");
    let enabled = dir.join("ftrace_enabled");
    std::fs::write(&enabled, "1\n").map_err(|error| error.to_string())?;
    script.push_str(&format!("mount --bind {} /proc/sys/kernel/ftrace_enabled; ", enabled.display()));
    for name in OF_FUNCTIONS {
        let path = dir.join(name);
        std::fs::write(&path, "").map_err(|error| error.to_string())?;
        script.push_str(&format!("mount --bind {} /sys/kernel/tracing/{name}; ", path.display()));
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{script} exec trace-cmd \"$@\""), "trace-cmd"]);
    Ok(command)
}

fn trace_cmd(dir: &Path, filter: &[&str]) -> Result<f64, String> {
    let out = dir.join("trace.dat");
    let pid = std::process::id().to_string();
    let mut command = trace_cmd_program(dir)?;
    command.args(["record", "-q", "--compression", "none", "-C", "mono", "-b", "65536"]);
    command.args(["-e", "raw_syscalls:sys_enter"]).args(filter);
    command.args(["-P", &pid, "-o"]).arg(&out);
    let ns = peer(&mut command)?;
    check_size(&out, !filter.is_empty()).map(|()| ns)
}

fn perf(dir: &Path, filter: &[&str]) -> Result<f64, String> {
    let out = dir.join("perf.data");
    let pid = std::process::id().to_string();
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-m", "64M", "-e", "raw_syscalls:sys_enter"]).args(filter);
    command.args(["-p", &pid, "-o"]).arg(&out);
    let ns = peer(&mut command)?;
    check_size(&out, !filter.is_empty()).map(|()| ns)
}

/// A tool that records an event writes some tens of bytes for it; one that leaves all out does not.
fn check_size(path: &PathBuf, left_out: bool) -> Result<(), String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    let _ = std::fs::remove_file(path);
    // Without any, trace-cmd writes 5 MB of what the kernel is made of; of each it writes 64 bytes, perf more.
    let least = CALLS * 50;
    if left_out == (bytes < least) { Ok(()) } else { Err(format!("its file has {bytes} bytes after {CALLS} calls")) }
}

/// A round under another tool, which is started and stopped for it.
fn peer(command: &mut Command) -> Result<f64, String> {
    under(command, loop_ns)
}

fn under(command: &mut Command, measure: impl FnOnce() -> f64) -> Result<f64, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let tool = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut tool = tool.map_err(|error| format!("cannot start {name}: {error}"))?;
    // None of them says when it is ready; each is after that.
    std::thread::sleep(Duration::from_millis(2500));
    let ns = measure();
    let running = tool.try_wait().map_err(|error| error.to_string())?.is_none();
    let said = stop(tool);
    if running { Ok(ns) } else { Err(format!("{name} ended by itself: {said}")) }
}

/// Ends a tool as ^C does, and gives the first lines that it complained with.
fn stop(mut tool: Child) -> String {
    let pid = rustix::process::Pid::from_raw(tool.id() as i32).unwrap();
    // bpftrace passes over ^C while it starts, which takes long where others work.
    for _ in 0..4 {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(50));
            if tool.try_wait().unwrap().is_some() {
                let out = tool.wait_with_output().map(|out| out.stderr).unwrap_or_default();
                return String::from_utf8_lossy(&out).lines().map(str::trim).take(2).collect::<Vec<_>>().join(": ");
            }
        }
    }
    let _ = tool.kill();
    let _ = tool.wait();
    "it did not end when asked to".into()
}
