//! Records composed as the structures of `crates/sys/bpf/jobs.bpf.c` lie, read by the formats that are given with them.

use super::*;
use crate::Decoder;
use gpuscope_model::trace::{Event, EventKind, JobKey, Switch};
use gpuscope_sys::bpf::JobFields;

const ALL: JobFields = JobFields { client: true, queue_length: true, error: true };

/// Bytes one behind the other.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    /// `struct common`, `struct job`.
    fn of_job(kind: u16, tid: u32, context: u64, seqno: u64) -> Record {
        Record::default().put(&kind.to_ne_bytes()).put(&[0, 0]).put(&tid.to_ne_bytes()).u64(context).u64(seqno)
    }

    fn put(mut self, bytes: &[u8]) -> Record {
        self.0.extend(bytes);
        self
    }

    fn u64(self, n: u64) -> Record {
        self.put(&n.to_ne_bytes())
    }

    fn u32(self, n: u32) -> Record {
        self.put(&n.to_ne_bytes())
    }

    fn text(self, text: &str, size: usize) -> Record {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(size, 0);
        self.put(&bytes)
    }
}

fn queue() -> Record {
    let head = Record::of_job(1, 77, 1 << 40, 9).u64(41).u64(1234).u32(70).u32(1000).u32(3);
    head.text("gfx_0.0.0", 24).text("0000:03:00.0", 32).text("glxgears", 16).u32(0)
}

fn decoder(fields: JobFields) -> Decoder {
    let mut decoder = Decoder::new();
    for format in formats::of(fields) {
        assert!(decoder.add_format(&format), "{}", format.name);
        let text = format.to_text();
        assert_eq!(EventFormat::parse("gpu_scheduler", &text).unwrap(), format, "{text}");
    }
    decoder
}

fn decode(decoder: &mut Decoder, record: &Record) -> Event {
    decoder.decode(RawRecord { at_ns: 5, cpu: 1, data: &record.0 }).unwrap()
}

#[test]
fn a_queued_job_names_its_submitter_ring_device_and_client() {
    let mut decoder = decoder(ALL);
    let event = decode(&mut decoder, &queue());
    assert_eq!((event.kind, event.tid, event.pid), (EventKind::Submit, 77, 70));
    assert_eq!(event.key, Some(JobKey::Fence { context: 1 << 40, seqno: 9 }));
    assert_eq!((event.client, event.value, decoder.names().get(event.comm)), (Some(41), Some(3), "glxgears"));
    let ring = decoder.names().get_ring(event.ring.unwrap()).unwrap();
    assert_eq!((ring.gpu.as_ref().unwrap().as_str(), ring.name.as_str()), ("0000:03:00.0", "gfx_0.0.0"));
}

#[test]
fn a_field_that_the_kernel_lacks_is_absent_and_the_others_stay() {
    let mut decoder = decoder(JobFields { client: false, queue_length: false, error: false });
    let event = decode(&mut decoder, &queue());
    assert_eq!((event.client, event.value, decoder.names().get(event.comm)), (None, None, "glxgears"));
    let dependency = Record::of_job(4, 5, 1, 2).u64(7).u64(9);
    assert!(decoder.decode(RawRecord { at_ns: 5, cpu: 1, data: &dependency.0 }).is_none(), "its tracepoint came later");
    let run = Record::of_job(2, 5, 1, 2).u64(41).u32(3).text("gfx", 24).text("0000:03:00.0", 32).u32(0);
    let event = decode(&mut decoder, &run);
    assert_eq!((event.kind, event.client, event.value), (EventKind::Commit, None, None));
    let ring = decoder.names().get_ring(event.ring.unwrap()).unwrap();
    assert_eq!((ring.gpu.as_ref().unwrap().as_str(), ring.name.as_str()), ("0000:03:00.0", "gfx"));
}

#[test]
fn a_run_names_ring_device_and_client() {
    let mut decoder = decoder(ALL);
    let run = Record::of_job(2, 5, 1, 2).u64(41).u32(3).text("gfx", 24).text("0000:03:00.0", 32).u32(0);
    let event = decode(&mut decoder, &run);
    assert_eq!((event.kind, event.tid, event.client, event.value), (EventKind::Commit, 5, Some(41), Some(3)));
    assert_eq!(event.key, Some(JobKey::Fence { context: 1, seqno: 2 }));
    let ring = decoder.names().get_ring(event.ring.unwrap()).unwrap();
    assert_eq!((ring.gpu.as_ref().unwrap().as_str(), ring.name.as_str()), ("0000:03:00.0", "gfx"));
}

#[test]
fn ends_and_errors_carry_what_the_fence_ended_with() {
    let mut decoder = decoder(ALL);
    for (id, kind) in [(3, EventKind::Complete), (6, EventKind::Error)] {
        let record = Record::of_job(id, 5, 1, 2).put(&(-125_i32).to_ne_bytes()).u32(0);
        let event = decode(&mut decoder, &record);
        assert_eq!((event.kind, event.value), (kind, Some(-125)));
        assert_eq!(event.key, Some(JobKey::Fence { context: 1, seqno: 2 }));
    }
}

#[test]
fn dependencies_name_both_jobs() {
    let mut decoder = decoder(ALL);
    for (id, kind) in [(4, EventKind::Dependency), (5, EventKind::Blocked)] {
        let event = decode(&mut decoder, &Record::of_job(id, 5, 1, 2).u64(7).u64(1 << 33));
        assert_eq!((event.kind, event.key), (kind, Some(JobKey::Fence { context: 1, seqno: 2 })));
        assert_eq!(event.other, Some(JobKey::Fence { context: 7, seqno: 1 << 33 }));
    }
}

#[test]
fn that_time_is_no_longer_measured_is_noted_once_and_so_is_that_it_is_again() {
    use Measured::{Anyway, Not};
    let mut now = Anyway;
    let mut said = Vec::new();
    for is_measured in [true, false, false, true, true] {
        let (next, note) = still_measured(now, is_measured);
        assert_eq!(next, if is_measured { Anyway } else { Not });
        said.push(note);
        now = next;
    }
    let [None, Some(off), None, Some(on), None] = said[..] else { panic!("{said:?}") };
    assert!(off.contains("bpf_stats_enabled was set to 0") && off.contains("CAP_SYS_ADMIN"), "{off}");
    assert!(on.contains("measures again"), "{on}");
}

#[test]
fn jobs_that_are_given_up_are_noted_with_their_number() {
    assert_eq!(given_up(0, 70_000_000_000), None);
    let one = given_up(1, 70_000_000_000).unwrap();
    assert!(one.starts_with("1 job had not ended 70 s after") && one.contains("how it ends"), "{one}");
    assert!(given_up(3, 1_500_000_000).unwrap().starts_with("3 jobs had not ended 1.5 s after"));
}

#[test]
fn other_families_are_refused_by_name_of_the_remedy() {
    let wanted = Wanted { families: vec![Family::Xe], buffer_bytes: 1 << 20, ..Wanted::default() };
    let error = BpfCapture::open(&Roots::host(), &wanted, &Settings::default()).unwrap_err();
    assert!(matches!(error, CaptureError::Unsupported { .. }), "{error}");
}

#[test]
fn a_captured_tree_cannot_be_traced() {
    let tree = tempfile::tempdir().unwrap();
    let wanted = Wanted { families: vec![Family::DrmSched], buffer_bytes: 1 << 20, ..Wanted::default() };
    let error = BpfCapture::open(&Roots::at(tree.path()), &wanted, &Settings::default()).unwrap_err();
    assert!(matches!(error, CaptureError::Unsupported { .. }), "{error}");
}

/// As crates/sys/bpf/switches.h lays them out.
#[test]
fn switches_of_our_programs_are_understood() {
    let [switch, waking] = formats::of_switches();
    let ends: Vec<u16> = [&switch, &waking].map(|of| of.fields.iter().map(|f| f.offset + f.size).max().unwrap()).into();
    assert_eq!(ends, [64, 32], "struct thread_switch and struct waking behind their heads");
    let mut decoder = Decoder::new();
    assert!(decoder.add_format(&switch) && decoder.add_format(&waking));
    let mut data = vec![0; 64];
    let mut put = |at: usize, bytes: &[u8]| data[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &8_u16.to_ne_bytes());
    put(4, &70_u32.to_ne_bytes());
    put(8, b"game");
    put(24, &70_u32.to_ne_bytes());
    put(32, &1_u64.to_ne_bytes());
    put(40, b"other");
    put(56, &71_u32.to_ne_bytes());
    let event = decoder.decode(RawRecord { at_ns: 5, cpu: 3, data: &data }).unwrap();
    assert_eq!((event.kind, event.tid, event.cpu), (EventKind::SchedSwitch, 70, 3));
    assert_eq!(event.value.map(Switch::of), Some(Switch { next: 71, state: 1 }));
    assert_eq!(decoder.names().get(event.comm), "game");
}
