//! Reading of a large recording: events a second on one core, and the memory it takes.
//!
//! `cargo bench -p gpuscope-trace --bench recording -- write FILE MB cpus|ring|bpf|dat` makes one, `-- read FILE` reads it. The recording is
//! synthetic: jobs of a simulation, in records laid out as Linux 6.17 and later lay them out. With `cpus` the records of a round stand
//! processor by processor, as tracefs gives them; with `ring` in order of time, as a BPF ring buffer gives them; with `bpf` they are laid
//! out as our own BPF programs lay them out, too. With `dat` the same events are written as a trace.dat of version 6, for trace-cmd to
//! read.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may end at once")]

use gpuscope_model::trace::{Event, EventKind, JobKey, TraceNames};
use gpuscope_sys::Roots;
use gpuscope_trace::capture::Backend;
use gpuscope_trace::recording::{
    CreateOptions, Header, Item, ItemSink, Packed, PackedRecords, Recording, RecordingFile,
};
use gpuscope_trace::{Decoder, EventFormat, RawRecord, RecordSink, StepSink, Steps};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

const GPUS: [&str; 4] = ["0000:03:00.0", "0000:04:00.0", "0000:83:00.0", "0000:84:00.0"];
const RINGS: [&str; 6] = ["gfx_0.0.0", "comp_1.0.0", "comp_1.1.0", "sdma0", "sdma1", "vcn_unified_0"];
const THREADS: u64 = 200;
const CPUS: u64 = 16;
const ROUND_NS: u64 = 100_000_000;

const COMMON: &str = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n";

/// drivers/gpu/drm/scheduler/gpu_scheduler_trace.h
const JOB: &str = "\tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\
\tfield:u32 job_count;\toffset:12;\tsize:4;\tsigned:0;\n\
\tfield:int hw_job_count;\toffset:16;\tsize:4;\tsigned:1;\n\
\tfield:__data_loc char[] dev;\toffset:20;\tsize:4;\tsigned:0;\n\
\tfield:u64 fence_context;\toffset:24;\tsize:8;\tsigned:0;\n\
\tfield:u64 fence_seqno;\toffset:32;\tsize:8;\tsigned:0;\n\
\tfield:u64 client_id;\toffset:40;\tsize:8;\tsigned:0;\n";

const DONE: &str = "\tfield:u64 fence_context;\toffset:8;\tsize:8;\tsigned:0;\n\
\tfield:u64 fence_seqno;\toffset:16;\tsize:8;\tsigned:0;\n";

fn main() {
    // cargo bench passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", path, megabytes, layout @ ("cpus" | "ring" | "bpf" | "dat")] => {
            let bytes = megabytes.parse::<u64>().unwrap() * 1_000_000;
            let by_cpu = matches!(*layout, "cpus" | "dat");
            match *layout {
                "dat" => write(path, bytes, by_cpu, record, &mut Dat::default()),
                "bpf" => write(path, bytes, by_cpu, bpf_record, &mut create(path, Backend::Bpf)),
                _ => write(path, bytes, by_cpu, record, &mut create(path, Backend::Tracefs)),
            }
        }
        ["read", path] => read(path),
        [] => println!("usage: write FILE MB cpus|ring|bpf|dat, or read FILE"),
        other => panic!("{other:?}: write FILE MB cpus|ring|bpf|dat, or read FILE"),
    }
}

/// A number that looks like chance and is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Done,
    Run,
    Queue,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    at_ns: u64,
    what: What,
    ring: usize,
    seqno: u64,
    thread: u64,
    cpu: u16,
}

/// One ring: the hardware takes two jobs at a time and runs them one behind the other.
#[derive(Default)]
struct RingState {
    done_ns: VecDeque<u64>,
    queued: u32,
}

/// Where the events go.
trait Out: RecordSink {
    /// All until then was given.
    fn round(&mut self, until_ns: u64);
    /// Bytes until the last round.
    fn bytes(&self, path: &str) -> u64;
    /// Ends the file, and gives the number of its records.
    fn end(&mut self, path: &str) -> u64;
}

fn formats() -> [EventFormat; 3] {
    let format = |(id, name, fields, _): (u16, &str, &str, &str)| {
        EventFormat::parse("gpu_scheduler", &format!("name: {name}\nID: {id}\nformat:\n{COMMON}{fields}")).unwrap()
    };
    FORMATS.map(format)
}

/// Number, name, fields, and how the kernel prints it.
const FORMATS: [(u16, &str, &str, &str); 3] = [
    (1501, "drm_sched_job_queue", JOB, PRINT_JOB),
    (1502, "drm_sched_job_run", JOB, PRINT_JOB),
    (1503, "drm_sched_job_done", DONE, "\"fence=%llu:%llu signaled\", REC->fence_context, REC->fence_seqno"),
];

const PRINT_JOB: &str = "\"dev=%s, fence=%llu:%llu, ring=%s, job count:%u, hw job count:%d, client_id:%llu\", __get_str(dev), \
REC->fence_context, REC->fence_seqno, __get_str(name), REC->job_count, REC->hw_job_count, REC->client_id";

/// A recording of ours.
struct Own(Option<RecordingFile>);

fn create(path: &str, backend: Backend) -> Own {
    let header = Header::begin(&Roots::host(), "synthetic input of a benchmark", backend);
    let own = backend == Backend::Bpf;
    let formats = if own { bpf_formats() } else { formats() };
    let mut file = RecordingFile::create(path, header, &formats, CreateOptions::default()).unwrap();
    // Records of our programs name their threads themselves.
    if own {
        return Own(Some(file));
    }
    let names: Vec<String> = (0..THREADS).map(|thread| format!("worker-{thread}")).collect();
    file.tasks((0..THREADS).map(|thread| (tid(thread), tid(thread / 4 * 4), names[thread as usize].as_str()))).unwrap();
    Own(Some(file))
}

impl Out for Own {
    fn round(&mut self, until_ns: u64) {
        self.0.as_mut().unwrap().round(until_ns).unwrap();
    }

    fn bytes(&self, path: &str) -> u64 {
        std::fs::metadata(path).unwrap().len()
    }

    fn end(&mut self, _: &str) -> u64 {
        let file = self.0.take().unwrap();
        let records = file.records();
        file.finish().unwrap();
        records
    }
}

impl RecordSink for Own {
    fn record(&mut self, record: RawRecord<'_>) {
        self.0.as_mut().unwrap().record(record);
    }
}

fn write(path: &str, bytes: u64, by_cpu: bool, record: LayOut, file: &mut impl Out) {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut rings: Vec<RingState> = (0..GPUS.len() * RINGS.len()).map(|_| RingState::default()).collect();
    let mut coming = BinaryHeap::new();
    // A context is one thread's and of one ring, as a `drm_sched_entity` is.
    let mut seqnos = vec![0_u64; THREADS as usize];
    for ring in 0..rings.len() {
        coming.push(Reverse(submission(&mut chance, 1_000_000_000_000, ring, &mut seqnos)));
    }
    let mut buffers: Vec<Vec<(u64, u16, Vec<u8>)>> = vec![Vec::new(); if by_cpu { CPUS as usize } else { 1 }];
    let mut round_end = 1_000_000_000_000 + ROUND_NS;
    let mut jobs: u64 = 0;
    let start = Instant::now();
    while let Some(Reverse(now)) = coming.pop() {
        if now.at_ns >= round_end {
            for (at_ns, cpu, data) in buffers.iter_mut().flat_map(|buffer| buffer.drain(..)) {
                file.record(RawRecord { at_ns, cpu, data: &data });
            }
            // As the captures do: tracefs' buffers are emptied to the end, of a ring a moment before the last emptying is sure.
            file.round(if by_cpu { round_end - 1 } else { round_end - ROUND_NS });
            round_end += ROUND_NS;
            if file.bytes(path) >= bytes {
                break;
            }
        }
        let state = &mut rings[now.ring];
        match now.what {
            What::Queue => {
                jobs += 1;
                state.queued += 1;
                // The job runs when one of the two places is free, a worker's wake-up later.
                let free_ns = state.done_ns.len().checked_sub(2).map_or(0, |i| state.done_ns[i]);
                let run_ns = now.at_ns.max(free_ns) + 1_500 + chance.below(15_000);
                let begin_ns = state.done_ns.back().copied().unwrap_or(0).max(run_ns);
                let length_ns = 20_000 + chance.below(100_000) + if chance.below(50) == 0 { 2_000_000 } else { 0 };
                let done_ns = begin_ns + length_ns;
                state.done_ns.push_back(done_ns);
                if state.done_ns.len() > 64 {
                    state.done_ns.pop_front();
                }
                coming.push(Reverse(Moment { at_ns: run_ns, what: What::Run, cpu: chance.below(CPUS) as u16, ..now }));
                coming.push(Reverse(Moment { at_ns: done_ns, what: What::Done, cpu: (now.ring % 4) as u16, ..now }));
                // A ring that is far behind is left alone until it has caught up.
                let next_ns = if done_ns > now.at_ns + 5_000_000 { done_ns } else { now.at_ns };
                coming.push(Reverse(submission(&mut chance, next_ns, now.ring, &mut seqnos)));
            }
            What::Run => state.queued -= 1,
            What::Done => {}
        }
        let data = record(&now, state.queued, chance.below(CPUS));
        buffers[if by_cpu { usize::from(now.cpu) } else { 0 }].push((now.at_ns, now.cpu, data));
    }
    let records = file.end(path);
    println!(
        "{{\"records\":{records},\"jobs\":{jobs},\"bytes\":{},\"seconds\":{:.2}}}",
        std::fs::metadata(path).unwrap().len(),
        start.elapsed().as_secs_f64()
    );
}

fn tid(thread: u64) -> u32 {
    2000 + thread as u32
}

fn submission(chance: &mut Chance, after_ns: u64, ring: usize, seqnos: &mut [u64]) -> Moment {
    let rings = (GPUS.len() * RINGS.len()) as u64;
    let threads = (THREADS - ring as u64).div_ceil(rings);
    let (thread, cpu) = (ring as u64 + rings * chance.below(threads), chance.below(CPUS) as u16);
    let seqno = &mut seqnos[thread as usize];
    *seqno += 1;
    let seqno = *seqno;
    Moment { at_ns: after_ns + 10_000 + chance.below(180_000), what: What::Queue, ring, seqno, thread, cpu }
}

/// Lays out a record: what happened, jobs in the queue, and the worker that ran.
type LayOut = fn(&Moment, u32, u64) -> Vec<u8>;

/// The record's bytes: common fields, fields, texts.
fn record(moment: &Moment, queued: u32, worker: u64) -> Vec<u8> {
    let (id, tid) = match moment.what {
        What::Queue => (1501u16, tid(moment.thread)),
        What::Run => (1502, 60 + worker as u32),
        What::Done => (1503, 0),
    };
    let mut data = Vec::with_capacity(80);
    data.extend_from_slice(&id.to_ne_bytes());
    data.extend_from_slice(&[0, 0]);
    data.extend_from_slice(&tid.to_ne_bytes());
    let context = 100 + moment.thread * 3;
    if moment.what == What::Done {
        data.extend_from_slice(&context.to_ne_bytes());
        data.extend_from_slice(&moment.seqno.to_ne_bytes());
        return data;
    }
    let (gpu, ring) = (GPUS[moment.ring / RINGS.len()], RINGS[moment.ring % RINGS.len()]);
    let place = |at: usize, text: &str| (at as u32 | (text.len() as u32 + 1) << 16).to_ne_bytes();
    data.extend_from_slice(&place(48, ring));
    data.extend_from_slice(&queued.to_ne_bytes());
    data.extend_from_slice(&2u32.to_ne_bytes());
    data.extend_from_slice(&place(48 + ring.len() + 1, gpu));
    data.extend_from_slice(&context.to_ne_bytes());
    data.extend_from_slice(&moment.seqno.to_ne_bytes());
    data.extend_from_slice(&(moment.thread / 4 + 1).to_ne_bytes());
    for text in [ring, gpu] {
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
    data.resize(data.len().next_multiple_of(4), 0);
    data
}

/// As src/capture/bpf/formats.rs tells of them, on a kernel that has all that is told.
fn bpf_formats() -> [EventFormat; 3] {
    let job = "u64 fence_context 8 u64 fence_seqno 8 ";
    let texts = "char name[24] 24 char dev[32] 32 ";
    [
        (
            1,
            "drm_sched_job_queue",
            format!("{job}u64 client_id 8 u64 cgroup 8 u32 tgid 4 u32 uid 4 u32 job_count 4 {texts}char comm[16] 16"),
        ),
        (2, "drm_sched_job_run", format!("{job}u64 client_id 8 u32 job_count 4 {texts}")),
        (7, "drm_sched_job_done", job.into()),
    ]
    .map(|(id, name, fields)| {
        let (mut text, mut offset) = (format!("name: {name}\nID: {id}\nformat:\n{COMMON}"), 8);
        let words: Vec<&str> = fields.split_whitespace().collect();
        for field in words.chunks(3) {
            let size: usize = field[2].parse().unwrap();
            text += &format!("\tfield:{} {};\toffset:{offset};\tsize:{size};\tsigned:0;\n", field[0], field[1]);
            offset += size;
        }
        EventFormat::parse("gpu_scheduler", &text).unwrap()
    })
}

/// The structures of crates/sys/bpf/jobs.h, behind their heads.
fn bpf_record(moment: &Moment, queued: u32, worker: u64) -> Vec<u8> {
    let (id, tid) = match moment.what {
        What::Queue => (1u16, tid(moment.thread)),
        What::Run => (2, 60 + worker as u32),
        What::Done => (7, 0),
    };
    let mut data = Vec::with_capacity(128);
    data.extend(id.to_ne_bytes());
    data.extend([0, 0]);
    data.extend(tid.to_ne_bytes());
    data.extend((100 + moment.thread * 3).to_ne_bytes());
    data.extend(moment.seqno.to_ne_bytes());
    if moment.what == What::Done {
        // No error.
        data.extend([0; 8]);
        return data;
    }
    let client = moment.thread / 4 + 1;
    data.extend(client.to_ne_bytes());
    if moment.what == What::Queue {
        data.extend((4000 + client).to_ne_bytes());
        data.extend((tid / 4 * 4).to_ne_bytes());
        data.extend(1000u32.to_ne_bytes());
    }
    data.extend(queued.to_ne_bytes());
    let mut text = |text: &str, size: usize| {
        data.extend(text.as_bytes());
        data.resize(data.len() + size - text.len(), 0);
    };
    text(RINGS[moment.ring % RINGS.len()], 24);
    text(GPUS[moment.ring / RINGS.len()], 32);
    if moment.what == What::Queue {
        text(&format!("worker-{}", moment.thread), 16);
    }
    data.extend([0; 4]);
    data
}

const PAGE: usize = 4096;

/// A trace.dat: pages of ftrace's ring buffer, a list a processor.
#[derive(Default)]
struct Dat {
    cpus: Vec<Vec<u8>>,
    /// Time of each processor's last record.
    last_ns: Vec<u64>,
    /// Bytes in each processor's last page, behind its head.
    filled: Vec<usize>,
    records: u64,
}

impl RecordSink for Dat {
    /// Documentation/trace/ring-buffer-map.rst and include/linux/ring_buffer.h: a page is time, length, and events of a word with length
    /// and time since the last one, and their data.
    fn record(&mut self, record: RawRecord<'_>) {
        let cpu = usize::from(record.cpu);
        if self.cpus.len() <= cpu {
            self.cpus.resize(cpu + 1, Vec::new());
            self.last_ns.resize(cpu + 1, 0);
            self.filled.resize(cpu + 1, PAGE);
        }
        let length = record.data.len().next_multiple_of(4);
        let delta = record.at_ns - self.last_ns[cpu];
        let pages = &mut self.cpus[cpu];
        if self.filled[cpu] + 4 + length > PAGE - 16 || delta >= 1 << 27 {
            pages.resize(pages.len().next_multiple_of(PAGE), 0);
            pages.extend(record.at_ns.to_le_bytes());
            pages.extend([0; 8]);
            (self.filled[cpu], self.last_ns[cpu]) = (0, record.at_ns);
        }
        let delta = record.at_ns - self.last_ns[cpu];
        pages.extend(((length as u32 / 4) | (delta as u32) << 5).to_le_bytes());
        pages.extend(record.data);
        pages.resize(pages.len().next_multiple_of(4), 0);
        self.filled[cpu] += 4 + length;
        let commit = (pages.len() - 1) / PAGE * PAGE + 8;
        pages[commit..commit + 8].copy_from_slice(&(self.filled[cpu] as u64).to_le_bytes());
        self.last_ns[cpu] = record.at_ns;
        self.records += 1;
    }
}

impl Out for Dat {
    fn round(&mut self, _: u64) {}

    fn bytes(&self, _: &str) -> u64 {
        self.cpus.iter().map(|pages| pages.len() as u64).sum()
    }

    /// trace-cmd.dat.v6(5).
    fn end(&mut self, path: &str) -> u64 {
        let mut file = b"\x17\x08\x44tracing6\0\0\x08".to_vec();
        file.extend((PAGE as u32).to_le_bytes());
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend((text.len() as u64).to_le_bytes());
            file.extend(text.as_bytes());
        };
        file.extend(b"header_page\0");
        text(
            &mut file,
            "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
             \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n",
        );
        file.extend(b"header_event\0");
        text(
            &mut file,
            "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n\n\
             \tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\tdata max type_len  == 28\n",
        );
        file.extend(0u32.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(b"gpu_scheduler\0");
        file.extend(3u32.to_le_bytes());
        for (id, name, fields, print) in FORMATS {
            text(&mut file, &format!("name: {name}\nID: {id}\nformat:\n{COMMON}\n{fields}\nprint fmt: {print}\n"));
        }
        // Neither symbols nor formats of printk.
        file.extend([0; 8]);
        let comms: String = (0..THREADS).map(|thread| format!("{} worker-{thread}\n", tid(thread))).collect();
        text(&mut file, &comms);
        file.extend((self.cpus.len() as u32).to_le_bytes());
        file.extend(b"flyrecord\0");
        let mut at = (file.len() + self.cpus.len() * 16).next_multiple_of(PAGE) as u64;
        for pages in &mut self.cpus {
            pages.resize(pages.len().next_multiple_of(PAGE), 0);
            file.extend(at.to_le_bytes());
            file.extend((pages.len() as u64).to_le_bytes());
            at += pages.len() as u64;
        }
        file.resize(file.len().next_multiple_of(PAGE), 0);
        self.cpus.iter().for_each(|pages| file.extend(pages));
        std::fs::write(path, file).unwrap();
        self.records
    }
}

/// A number of `/proc/self/status`, in KiB.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string(Roots::host().proc("self/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Time on a processor, in user and kernel mode: what others run beside does not count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string(Roots::host().proc("self/schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// What was read, added up so that no part of an event is left out by the compiler.
#[derive(Default)]
struct Sums {
    events: u64,
    submitted: u64,
    completed: u64,
    last_ns: u64,
    sum: u64,
}

/// Who reads.
#[derive(Default)]
struct Reader {
    decoder: Decoder,
    sums: Sums,
    rounds: u64,
    anonymous: u64,
}

impl ItemSink for Reader {
    #[inline(always)]
    fn record(&mut self, record: RawRecord<'_>) {
        if let Some((event, names)) = self.decoder.decode_here(record) {
            self.sums.event(event, names);
        }
    }

    fn packed(&mut self, frame: Packed<'_>, records: PackedRecords<'_>) {
        self.decoder.decode_packed(frame, records, &mut self.sums);
    }
    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Format(format) => assert!(self.decoder.add_format(format)),
            Item::Task { tid, pid, comm } => self.decoder.set_task(tid, pid, comm),
            Item::Round(_) => {
                self.rounds += 1;
                if self.rounds % 64 == 1 {
                    self.anonymous = self.anonymous.max(status("RssAnon"));
                }
            }
            Item::Record(_) | Item::Dropped { .. } | Item::Mark { .. } => {}
        }
    }
}

impl StepSink for Sums {
    #[inline(always)]
    fn steps(&mut self, steps: &mut Steps<'_>, names: &TraceNames) {
        steps.for_each(|step| self.event(&step.event(), names));
    }

    #[inline(always)]
    fn event(&mut self, event: &Event, _: &TraceNames) {
        self.events += 1;
        self.submitted += u64::from(event.kind == EventKind::Submit);
        self.completed += u64::from(event.kind == EventKind::Complete);
        assert!(event.at_ns >= self.last_ns, "out of order");
        self.last_ns = event.at_ns;
        let mut sum = self.sum.wrapping_add(event.key.map_or(0, |key| match key {
            JobKey::Fence { context, seqno } => context ^ seqno,
            _ => 0,
        }));
        sum ^= event.ring.map_or(0, |ring| u64::from(ring.0)) ^ u64::from(event.comm.0) ^ u64::from(event.pid);
        self.sum = sum ^ event.client.unwrap_or(0) ^ event.value.unwrap_or(0).cast_unsigned();
    }
}

fn read(path: &str) {
    let mut reader = Reader::default();
    let start = cpu_ns();
    let summary = Recording::open(path).unwrap().read(&mut reader).unwrap();
    let seconds = (cpu_ns() - start) as f64 / 1e9;
    let Reader { decoder, sums, anonymous, .. } = &reader;
    let Sums { events, submitted, completed, sum, .. } = sums;
    let anonymous = (*anonymous).max(status("RssAnon"));
    assert_eq!((summary.records, summary.late, summary.lost, decoder.unreadable()), (*events, 0, 0, 0), "{summary:?}");
    assert!(completed <= submitted && *completed > 0, "{completed} of {submitted} jobs done");
    println!(
        "{{\"events\":{events},\"rings\":{},\"cpu_seconds\":{seconds:.3},\"million_events_per_second\":{:.1},\"rss_anon_kib\":{anonymous},\"sum\":{sum}}}",
        decoder.names().rings().len(),
        *events as f64 / seconds / 1e6,
    );
}
