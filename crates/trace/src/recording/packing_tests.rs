//! Packed or not, a recording gives the same records and the same events.

use super::frame::{HEAD, Head, Kind};
use super::packed::{LAYOUT, Layout, NOWHERE, Tables};
use super::*;
use crate::capture::Backend;
use crate::{Decoder, EventFormat, FieldKind, RawRecord, RecordSink, Retold};
use gpuscope_model::trace::{Event, EventKind, Family, JobKey, NameId, TraceNames};
use gpuscope_sys::Roots;
use std::io::Cursor;
use std::path::Path;

struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// As our own programs lay them out (capture/bpf/formats.rs), and the kernel's tracepoints.
const FORMATS: &[(&str, &str, &str)] = &[
    (
        "gpu_scheduler",
        "drm_sched_job_queue",
        "u64 fence_context 8 0|u64 fence_seqno 8 0|u64 client_id 8 0|u64 cgroup 8 0|u32 tgid 4 0|u32 uid 4 0|u32 job_count 4 0|\
         char name[24] 24 0|char dev[32] 32 0|char comm[16] 16 0",
    ),
    (
        "gpu_scheduler",
        "drm_sched_job_run",
        "u64 fence_context 8 0|u64 fence_seqno 8 0|u64 client_id 8 0|u32 job_count 4 0|char name[24] 24 0|char dev[32] 32 0",
    ),
    ("gpu_scheduler", "drm_sched_job_done", "u64 fence_context 8 0|u64 fence_seqno 8 0|int error 4 1"),
    ("gpu_scheduler", "drm_sched_job_add_dep", "u64 fence_context 8 0|u64 fence_seqno 8 0|u64 ctx 8 0|u64 seqno 8 0"),
    ("gpu_scheduler", "fence_error", "u64 fence_context 8 0|u64 fence_seqno 8 0|int error 4 1"),
    (
        "gpu_scheduler",
        "drm_sched_job_queue",
        "__data_loc char[] name 4 0|u32 job_count 4 0|int hw_job_count 4 1|__data_loc char[] dev 4 0|u64 fence_context 8 0|\
         u64 fence_seqno 8 0|u64 client_id 8 0",
    ),
    ("gpu_scheduler", "drm_sched_job_done", "u64 fence_context 8 0|u64 fence_seqno 8 0"),
    (
        "gpu_scheduler",
        "drm_run_job",
        "struct drm_sched_entity * entity 8 0|struct dma_fence * fence 8 0|__data_loc char[] name 4 0|u64 id 8 0|\
         u32 job_count 4 0|int hw_job_count 4 1",
    ),
    (
        "gpu_scheduler",
        "drm_sched_job_wait_dep",
        "__data_loc char[] name 4 0|u64 id 8 0|struct dma_fence * fence 8 0|u64 ctx 8 0|u64 seqno 8 0",
    ),
    (
        "dma_fence",
        "dma_fence_wait_start",
        "__data_loc char[] driver 4 0|__data_loc char[] timeline 4 0|unsigned int context 4 0|unsigned int seqno 4 0",
    ),
    (
        "syscalls",
        "sys_enter_ioctl",
        "int __syscall_nr 4 1|unsigned int fd 8 0|unsigned int cmd 8 0|unsigned long arg 8 0",
    ),
    ("syscalls", "sys_exit_ioctl", "int __syscall_nr 4 1|long ret 8 1"),
    ("sched", "sched_switch", "char prev_comm[16] 16 0|pid_t prev_pid 4 1"),
];

fn formats() -> Vec<EventFormat> {
    let mut formats = Vec::new();
    let common = "unsigned short common_type 2 0|unsigned char common_flags 1 0|unsigned char common_preempt_count 1 0|int common_pid 4 1";
    for (id, (system, name, fields)) in (1..).zip(FORMATS) {
        let mut text = format!("name: {name}\nID: {id}\nformat:\n");
        let mut offset = 0_usize;
        for field in common.split('|').chain(fields.split('|')) {
            let mut words = field.trim().rsplitn(3, ' ');
            let (signed, size, declared) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let size: usize = size.parse().unwrap();
            offset = offset.next_multiple_of(if declared.ends_with(']') { 1 } else { size });
            text += &format!("\tfield:{declared};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n");
            offset += size;
        }
        formats.push(EventFormat::parse(system, &text).unwrap());
    }
    formats
}

/// A record of a format, of few threads, contexts and names.
fn data(format: &EventFormat, chance: &mut Chance) -> Vec<u8> {
    let end = format.fields.iter().map(|field| usize::from(field.offset + field.size)).max().unwrap();
    let mut data = vec![0; end];
    let mut tails = Vec::new();
    let (thread, context) = (chance.below(5), chance.below(4));
    for field in &format.fields {
        let (at, size) = (usize::from(field.offset), usize::from(field.size));
        let number = match field.name.as_str() {
            "common_type" => u64::from(format.id),
            "common_flags" | "common_preempt_count" => chance.below(2),
            "common_pid" | "tgid" => 4000 + thread,
            "cgroup" | "client_id" | "uid" => thread / 2,
            "fence_context" | "ctx" | "context" => context << 33 | 7,
            "error" => [0, 0, (-62_i64).cast_unsigned()][chance.below(3) as usize],
            // One in many does not fit 16 bits.
            "hw_job_count" => [2, 3, 70_000][chance.below(20).saturating_sub(17) as usize],
            _ => chance.below(1 << 30) << chance.below(20),
        };
        let text = match field.name.as_str() {
            "comm" | "prev_comm" => format!("thread {thread}"),
            "dev" => format!("0000:0{context}:00.0"),
            _ => format!("ring {context}"),
        };
        match field.kind {
            FieldKind::Number => data[at..at + size].copy_from_slice(&number.to_ne_bytes()[..size]),
            FieldKind::Array => {
                data[at..at + size.min(text.len())].copy_from_slice(&text.as_bytes()[..text.len().min(size)])
            }
            _ => tails.push((at, text)),
        }
    }
    for (at, text) in tails {
        let place = data.len() as u32 | (text.len() as u32 + 1) << 16;
        data[at..at + 4].copy_from_slice(&place.to_ne_bytes());
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
    data
}

type Given = (u64, u16, Vec<u8>);

fn write(formats: &[EventFormat], rounds: &[(u64, Vec<Given>)]) -> Vec<u8> {
    let header = Header::begin(&Roots::at("/nonexistent"), "gpuscope 0.0.0", Backend::Bpf);
    let mut writer = RecordingWriter::new(Vec::new(), header, formats).unwrap();
    for (i, (until, records)) in rounds.iter().enumerate() {
        // A thread is renamed meanwhile.
        writer.tasks([(4001, 4000, format!("named {i}").as_str())]).unwrap();
        // Frames of any length stand ahead.
        writer.mark(*until, &"m".repeat(i)).unwrap();
        records.iter().for_each(|(at_ns, cpu, data)| writer.record(RawRecord { at_ns: *at_ns, cpu: *cpu, data }));
        writer.round(*until).unwrap();
    }
    writer.finish().unwrap()
}

/// Frames of each kind.
fn kinds(bytes: &[u8]) -> (usize, usize) {
    let (mut at, mut counts) = (0, (0, 0));
    while let Some(head) = Head::parse(&bytes[at..]) {
        counts.0 += usize::from(head.kind == Kind::Packed as u8);
        counts.1 += usize::from(head.kind == Kind::Records as u8);
        at += HEAD + head.length as usize;
        if at >= bytes.len() {
            break;
        }
    }
    counts
}

fn open(bytes: &[u8]) -> Recording<Cursor<&[u8]>> {
    Recording::from_reader(Cursor::new(bytes), Path::new("t")).unwrap()
}

/// Rounds of many kinds of records, most of them in order of time or in that of each processor.
fn rounds(formats: &[EventFormat], chance: &mut Chance) -> Vec<(u64, Vec<Given>)> {
    let mut at_ns = 1_000_000_000_000;
    (0..12)
        .map(|_| {
            let begin_ns = at_ns;
            // Of few formats or many, few records or many.
            let (from, some) =
                (chance.below(formats.len() as u64) as usize, 1 + chance.below(formats.len() as u64) as usize);
            let records = (0..[3, 40, 400, 3000][chance.below(4) as usize]).map(|_| {
                at_ns += if chance.below(200) == 0 { 3_000_000_000 } else { chance.below(2000) };
                let format = &formats[(from + chance.below(some as u64) as usize) % formats.len()];
                let mut data = data(format, chance);
                match chance.below(150) {
                    0 => data.truncate(chance.below(data.len() as u64) as usize),
                    1 => data.resize(200 + chance.below(300) as usize, 1),
                    2 => data[2] = chance.below(256) as u8,
                    _ => {}
                }
                let early = if chance.below(30) == 0 { chance.below(5000) } else { 0 };
                (at_ns.saturating_sub(early).max(begin_ns + 1), chance.below(16) as u16, data)
            });
            let mut records: Vec<Given> = records.collect();
            // As one ring gives them, or buffers emptied one processor after the other.
            if chance.below(2) == 0 {
                records.sort_by_key(|(_, cpu, _)| *cpu);
            }
            (at_ns, records)
        })
        .collect()
}

#[test]
fn every_record_comes_back_byte_by_byte() {
    let formats = formats();
    let (mut packed, mut plain) = (0, 0);
    for seed in 0..60 {
        let rounds = rounds(&formats, &mut Chance(seed));
        let bytes = write(&formats, &rounds);
        let counts = kinds(&bytes);
        (packed, plain) = (packed + counts.0, plain + counts.1);
        let mut given: Vec<Given> = Vec::new();
        let summary = open(&bytes).items(|item| {
            if let Item::Record(record) = item {
                given.push((record.at_ns, record.cpu, record.data.to_vec()));
            }
        });
        let summary = summary.unwrap();
        let mut expected: Vec<Given> = rounds.into_iter().flat_map(|(_, records)| records).collect();
        // Records of one moment as they were written.
        expected.sort_by_key(|(at_ns, ..)| *at_ns);
        assert_eq!(given.len(), expected.len(), "{seed}: {summary:?}");
        for (given, expected) in given.iter().zip(&expected) {
            assert_eq!(given, expected, "{seed}");
        }
        assert_eq!(
            (summary.late, summary.lost, summary.malformed, summary.ended),
            (0, 0, 0, Ended::Finished),
            "{seed}"
        );
    }
    assert!(packed > 200 && plain > 100, "{packed} packed, {plain} plain");
}

/// Takes runs of packed records.
#[derive(Default)]
struct Runs(Vec<Vec<(u64, u16)>>);

impl ItemSink for Runs {
    fn record(&mut self, record: RawRecord<'_>) {
        panic!("{record:?} is not packed");
    }

    fn packed(&mut self, _: Packed<'_>, records: PackedRecords<'_>) {
        self.0.push(records.map(|record| (record.at_ns, record.cpu)).collect());
    }

    fn item(&mut self, _: Item<'_>) {}
}

#[test]
fn records_of_processors_one_after_the_other_are_read_in_one_run() {
    let formats: Vec<EventFormat> = formats().into_iter().take(4).collect();
    for format in 0..formats.len() {
        let mut chance = Chance(9);
        let round = |begin_ns: u64, chance: &mut Chance| -> Vec<Given> {
            let times = (0..5_u16).flat_map(|cpu| (0..400).map(move |n| (begin_ns + n * 10 + u64::from(cpu % 3), cpu)));
            times.map(|(at_ns, cpu)| (at_ns, cpu, data(&formats[format * usize::from(cpu < 3)], chance))).collect()
        };
        let rounds: Vec<(u64, Vec<Given>)> =
            [1 << 40, 1 << 41].map(|begin_ns| (begin_ns + 5000, round(begin_ns, &mut chance))).into();
        let bytes = write(&formats, &rounds);
        let mut runs = Runs::default();
        open(&bytes).read(&mut runs).unwrap();
        let expected = rounds.into_iter().map(|(_, records)| {
            let mut records: Vec<(u64, u16)> = records.into_iter().map(|(at_ns, cpu, _)| (at_ns, cpu)).collect();
            records.sort_by_key(|(at_ns, _)| *at_ns);
            records
        });
        assert_eq!(runs.0, expected.collect::<Vec<_>>(), "{}", formats[format].name);
    }
}

#[test]
fn events_of_packed_records_are_those_of_each_by_itself() {
    let formats = formats();
    let mut kinds: Vec<(Family, EventKind)> = Vec::new();
    for seed in 100..140 {
        let bytes = write(&formats, &rounds(&formats, &mut Chance(seed)));
        let (mut all, mut each) = (Decoder::new(), Decoder::new());
        let (mut events, mut expected): (Vec<Event>, Vec<Event>) = (Vec::new(), Vec::new());
        open(&bytes).events(&mut all, |event| events.push(event)).unwrap();
        open(&bytes)
            .items(|item| match item {
                Item::Record(record) => expected.extend(each.decode(record)),
                Item::Format(format) => {
                    each.add_format(format);
                }
                Item::Task { tid, pid, comm } => each.set_task(tid, pid, comm),
                _ => {}
            })
            .unwrap();
        assert_eq!(events.len(), expected.len(), "{seed}");
        assert_eq!(all.unreadable(), each.unreadable(), "{seed}");
        // Numbers of names are each decoder's own: packed ones are met frame by frame.
        let named = |names: &TraceNames, event: &Event| {
            let ring = event.ring.and_then(|ring| names.get_ring(ring)).cloned();
            (Event { ring: None, comm: NameId(0), ..*event }, ring, names.get(event.comm).to_string())
        };
        for (event, expected) in events.iter().zip(&expected) {
            assert_eq!(named(all.names(), event), named(each.names(), expected), "{seed}");
        }
        kinds.extend(events.iter().map(|event| (event.family, event.kind)));
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() >= 9, "{kinds:?}");
}

/// Which a record would be of another format by than its template.
#[test]
fn layouts_that_leave_out_the_number_of_the_format_are_refused() {
    let tables = |layout: Layout| {
        let mut payload = vec![0; 8];
        [24_u16, 1, 1, 1].iter().for_each(|number| payload.extend(number.to_le_bytes()));
        payload.extend((LAYOUT as u32 + 32).to_le_bytes());
        payload.extend([0; 4]);
        payload.extend(layout.to_bytes());
        // A template of 24 bytes, and a thread of none.
        payload.extend([0, 0, 24, 0]);
        payload.extend([0; 28]);
        Tables::parse(&payload, 0)
    };
    assert!(tables(Layout { long: 16, short: 2, ..Layout::NONE }).is_some());
    for (layout, what) in [
        (Layout { long: 0, ..Layout::NONE }, "it begins there"),
        (Layout { short: 1, ..Layout::NONE }, "it begins within"),
        (Layout { more: [8, NOWHERE, NOWHERE, 0], ..Layout::NONE }, "a later one"),
        (Layout { thread: [(0, 2); 8], ..Layout::NONE }, "the thread"),
        (Layout { long: 17, ..Layout::NONE }, "it ends behind the template"),
    ] {
        assert!(tables(layout).is_none(), "{what}");
    }
}

#[test]
fn records_of_jobs_take_a_third_of_their_room_or_less() {
    let formats: Vec<EventFormat> = formats().into_iter().take(3).collect();
    let mut chance = Chance(5);
    let records: Vec<Given> =
        (0..30_000).map(|n| (n * 1000, (n % 16) as u16, data(&formats[n as usize % 3], &mut chance))).collect();
    let plain: usize = records.iter().map(|(.., data)| 16 + data.len().next_multiple_of(8)).sum();
    let bytes = write(&formats, &[(u64::MAX, records)]).len();
    assert!(bytes * 3 < plain, "{bytes} of {plain} bytes");
}

#[test]
fn events_of_merged_traces_are_packed_too() {
    let (mut names, mut retold) = (TraceNames::default(), Retold::new());
    let ring = names.ring(Some("0000:03:00.0"), "gfx");
    let comm = names.text("game");
    let (mut formats, mut records): (Vec<EventFormat>, Vec<Given>) = (Vec::new(), Vec::new());
    let mut events = Vec::new();
    for n in 0..4000_u64 {
        let kind = [EventKind::Submit, EventKind::Commit, EventKind::Complete, EventKind::Dependency][n as usize % 4];
        let event = Event {
            at_ns: 1000 + n,
            kind,
            family: Family::DrmSched,
            cpu: 1,
            tid: 70,
            pid: 7,
            comm,
            ring: (kind != EventKind::Complete).then_some(ring),
            key: Some(JobKey::Fence { context: 5, seqno: n / 4 }),
            other: (kind == EventKind::Dependency).then_some(JobKey::Fence { context: 6, seqno: n }),
            client: None,
            value: (kind == EventKind::Complete).then_some(-62),
        };
        let (format, record) = retold.record(&event, &names);
        formats.extend(format.cloned());
        records.push((record.at_ns, record.cpu, record.data.to_vec()));
        events.push(event);
    }
    let bytes = write(&formats, &[(u64::MAX, records)]);
    assert_eq!(kinds(&bytes), (1, 0));
    let (mut decoder, mut given) = (Decoder::new(), Vec::new());
    open(&bytes).events(&mut decoder, |event| given.push(event)).unwrap();
    let plain = |event: &Event| Event { ring: None, comm: NameId(0), ..*event };
    assert_eq!(given.iter().map(plain).collect::<Vec<_>>(), events.iter().map(plain).collect::<Vec<_>>());
}
