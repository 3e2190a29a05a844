//! Records composed from the layouts that the kernels' `format` files describe.

use super::*;
use gpuscope_model::trace::EventKind;

/// A record of a format, its fields filled by name; texts go behind the fields.
fn record(format: &EventFormat, numbers: &[(&str, u64)], texts: &[(&str, &str)]) -> Vec<u8> {
    let end = format.fields.iter().map(|f| usize::from(f.offset + f.size)).max().unwrap();
    let mut data = vec![0; end];
    let mut put = |name: &str, value: u64| {
        let field = format.field(name).unwrap_or_else(|| panic!("{name}"));
        let (at, size) = (usize::from(field.offset), usize::from(field.size));
        data[at..at + size].copy_from_slice(&value.to_ne_bytes()[..size]);
    };
    put("common_type", u64::from(format.id));
    for (name, value) in numbers {
        put(name, *value);
    }
    for (name, text) in texts {
        let field = format.field(name).unwrap();
        let at = data.len();
        data.extend_from_slice(text.as_bytes());
        data.push(0);
        let place = (at as u32) | ((text.len() as u32 + 1) << 16);
        data[usize::from(field.offset)..][..4].copy_from_slice(&place.to_ne_bytes());
    }
    data
}

const COMMON: &str = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n";

fn format(id: u16, name: &str, fields: &str) -> EventFormat {
    EventFormat::parse("gpu_scheduler", &format!("name: {name}\nID: {id}\nformat:\n{COMMON}{fields}")).unwrap()
}

/// gpu_scheduler_trace.h of Linux 6.17 and later.
fn new_queue() -> EventFormat {
    format(
        10,
        "drm_sched_job_queue",
        "\tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\
         \tfield:u32 job_count;\toffset:12;\tsize:4;\tsigned:0;\n\
         \tfield:int hw_job_count;\toffset:16;\tsize:4;\tsigned:1;\n\
         \tfield:__data_loc char[] dev;\toffset:20;\tsize:4;\tsigned:0;\n\
         \tfield:u64 fence_context;\toffset:24;\tsize:8;\tsigned:0;\n\
         \tfield:u64 fence_seqno;\toffset:32;\tsize:8;\tsigned:0;\n\
         \tfield:u64 client_id;\toffset:40;\tsize:8;\tsigned:0;\n",
    )
}

/// The same of Linux 6.1 and 6.12.
fn old_queue() -> EventFormat {
    format(
        20,
        "drm_sched_job",
        "\tfield:struct drm_sched_entity * entity;\toffset:8;\tsize:8;\tsigned:0;\n\
         \tfield:struct dma_fence * fence;\toffset:16;\tsize:8;\tsigned:0;\n\
         \tfield:__data_loc char[] name;\toffset:24;\tsize:4;\tsigned:0;\n\
         \tfield:u64 id;\toffset:32;\tsize:8;\tsigned:0;\n\
         \tfield:u32 job_count;\toffset:40;\tsize:4;\tsigned:0;\n\
         \tfield:int hw_job_count;\toffset:44;\tsize:4;\tsigned:1;\n",
    )
}

fn old_done() -> EventFormat {
    format(21, "drm_sched_process_job", "\tfield:struct dma_fence * fence;\toffset:8;\tsize:8;\tsigned:0;\n")
}

fn old_wait_dep() -> EventFormat {
    format(
        22,
        "drm_sched_job_wait_dep",
        "\tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\
         \tfield:u64 id;\toffset:16;\tsize:8;\tsigned:0;\n\
         \tfield:struct dma_fence * fence;\toffset:24;\tsize:8;\tsigned:0;\n\
         \tfield:u64 ctx;\toffset:32;\tsize:8;\tsigned:0;\n\
         \tfield:unsigned seqno;\toffset:40;\tsize:4;\tsigned:0;\n",
    )
}

fn at(at_ns: u64, data: &[u8]) -> RawRecord<'_> {
    RawRecord { at_ns, cpu: 3, data }
}

#[test]
fn a_new_record_names_job_device_and_client() {
    let queue = new_queue();
    let mut decoder = Decoder::new();
    assert!(decoder.add_format(&queue));
    decoder.set_task(77, 70, "glxgears");
    let numbers = [
        ("common_pid", 77),
        ("fence_context", 1 << 40 | 5),
        ("fence_seqno", 1 << 33),
        ("client_id", 9),
        ("job_count", 2),
    ];
    let data = record(&queue, &numbers, &[("name", "gfx_0.0.0"), ("dev", "0000:03:00.0")]);
    let event = decoder.decode(at(123, &data)).unwrap();
    assert_eq!((event.at_ns, event.cpu, event.kind, event.family), (123, 3, EventKind::Submit, Family::DrmSched));
    assert_eq!((event.tid, event.pid, decoder.names().get(event.comm)), (77, 70, "glxgears"));
    assert_eq!(event.key, Some(JobKey::Fence { context: 1 << 40 | 5, seqno: 1 << 33 }));
    assert_eq!((event.client, event.value), (Some(9), Some(2)));
    let ring = decoder.names().get_ring(event.ring.unwrap()).unwrap();
    assert_eq!((ring.gpu.as_ref().unwrap().as_str(), ring.name.as_str()), ("0000:03:00.0", "gfx_0.0.0"));
}

#[test]
fn rings_of_one_name_on_two_devices_are_two() {
    let queue = new_queue();
    let mut decoder = Decoder::new();
    decoder.add_format(&queue);
    let mut ring = |dev| decoder.decode(at(0, &record(&queue, &[], &[("name", "gfx"), ("dev", dev)]))).unwrap().ring;
    let (one, two, again) = (ring("0000:03:00.0"), ring("0000:04:00.0"), ring("0000:03:00.0"));
    assert_ne!(one, two);
    assert_eq!(one, again);
}

#[test]
fn an_old_record_has_no_device_and_its_job_is_an_address() {
    let queue = old_queue();
    let mut decoder = Decoder::new();
    decoder.add_format(&queue);
    let data = record(&queue, &[("fence", 0xffff_8881_0000_1000), ("id", 4)], &[("name", "gfx")]);
    let event = decoder.decode(at(0, &data)).unwrap();
    assert_eq!(event.key, Some(JobKey::Address(0xffff_8881_0000_1000)));
    assert_eq!(event.client, None);
    assert_eq!(decoder.names().get_ring(event.ring.unwrap()).unwrap().gpu, None);
}

#[test]
fn an_old_dependency_finds_its_job_by_its_number_while_that_is_in_flight() {
    let (queue, done, wait) = (old_queue(), old_done(), old_wait_dep());
    let mut decoder = Decoder::new();
    for format in [&queue, &done, &wait] {
        assert!(decoder.add_format(format));
    }
    let dependency = record(&wait, &[("id", 4), ("ctx", 11), ("seqno", 12), ("fence", 0x99)], &[("name", "gfx")]);
    assert_eq!(decoder.decode(at(0, &dependency)).unwrap().key, None, "never seen");
    decoder.decode(at(1, &record(&queue, &[("fence", 0x10), ("id", 4)], &[("name", "gfx")]))).unwrap();
    decoder.decode(at(2, &record(&queue, &[("fence", 0x20), ("id", 4)], &[("name", "dma")]))).unwrap();
    let event = decoder.decode(at(3, &dependency)).unwrap();
    assert_eq!((event.kind, event.key), (EventKind::Blocked, Some(JobKey::Address(0x10))));
    assert_eq!(event.other, Some(JobKey::FenceLow { context: 11, seqno: 12 }), "its seqno has 32 bits");
    decoder.decode(at(4, &record(&done, &[("fence", 0x10)], &[]))).unwrap();
    assert_eq!(decoder.decode(at(5, &dependency)).unwrap().key, None, "it is done");
}

#[test]
fn an_address_given_out_again_is_another_job() {
    let (queue, wait) = (old_queue(), old_wait_dep());
    let mut decoder = Decoder::new();
    decoder.add_format(&queue);
    decoder.add_format(&wait);
    decoder.decode(at(1, &record(&queue, &[("fence", 0x10), ("id", 4)], &[("name", "gfx")]))).unwrap();
    decoder.decode(at(2, &record(&queue, &[("fence", 0x10), ("id", 5)], &[("name", "gfx")]))).unwrap();
    let mut job = |id| decoder.decode(at(3, &record(&wait, &[("id", id)], &[("name", "gfx")]))).unwrap().key;
    assert_eq!((job(4), job(5)), (None, Some(JobKey::Address(0x10))));
}

#[test]
fn records_cut_off_are_counted_wherever_the_cut_is() {
    let queue = new_queue();
    let mut decoder = Decoder::new();
    decoder.add_format(&queue);
    let data = record(&queue, &[], &[("name", "gfx"), ("dev", "0000:03:00.0")]);
    assert!(decoder.decode(at(0, &data)).is_some());
    for length in 0..data.len() {
        let found = decoder.decode(at(0, &data[..length]));
        // With less than two bytes, nothing says what it is; the zero bytes at the end of the last text may be lost.
        assert!(found.is_none(), "{length} of {} bytes", data.len());
    }
    assert_eq!(decoder.unreadable(), data.len() as u64);
}

#[test]
fn a_kind_that_is_not_understood_is_passed_over() {
    let mut decoder = Decoder::new();
    let other = EventFormat::parse("nobody", &format!("name: x\nID: 30\n{COMMON}")).unwrap();
    assert!(!decoder.add_format(&other));
    assert_eq!(decoder.decode(at(0, &record(&other, &[], &[]))), None);
    assert_eq!(decoder.unreadable(), 0);
}

#[test]
fn an_event_without_the_fields_of_its_job_is_not_understood() {
    let mut decoder = Decoder::new();
    assert!(!decoder.add_format(&format(10, "drm_sched_job_done", "")));
}

#[test]
fn a_record_says_the_same_however_many_bytes_stand_behind_it() {
    let fields = "\tfield:u64 fence_context;\toffset:8;\tsize:8;\tsigned:0;\n\
                  \tfield:u64 fence_seqno;\toffset:16;\tsize:8;\tsigned:0;\n\
                  \tfield:int error;\toffset:24;\tsize:4;\tsigned:1;\n";
    let done = format(12, "drm_sched_job_done", fields);
    let mut decoder = Decoder::new();
    assert!(decoder.add_format(&done));
    decoder.set_task(77, 70, "glxgears");
    let numbers =
        [("common_pid", 77), ("fence_context", u64::MAX), ("fence_seqno", 1 << 63), ("error", -125i64 as u64)];
    let mut data = record(&done, &numbers, &[]);
    let short = decoder.decode(at(5, &data)).unwrap();
    assert_eq!(short.key, Some(JobKey::Fence { context: u64::MAX, seqno: 1 << 63 }));
    assert_eq!((short.value, short.tid, short.pid, short.client), (Some(-125), 77, 70, None));
    for _ in 0..20 {
        data.push(0xff);
        assert_eq!(decoder.decode(at(5, &data)), Some(short), "{} bytes", data.len());
    }
}

#[test]
fn names_of_any_length_are_told_apart_and_found_again() {
    let queue = new_queue();
    let mut decoder = Decoder::new();
    decoder.add_format(&queue);
    let all = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let names: Vec<&str> = (1..40).flat_map(|length| [&all[..length], &all[all.len() - length..]]).collect();
    for _ in 0..2 {
        // What stands ahead of the texts differs from record to record.
        for client in [0, u64::MAX, 7 << 56] {
            for name in &names {
                let data = record(&queue, &[("client_id", client)], &[("name", name), ("dev", "0000:03:00.0")]);
                let ring = decoder.decode(at(0, &data)).unwrap().ring.unwrap();
                assert_eq!(decoder.names().get_ring(ring).unwrap().name.as_str(), *name);
                let data = record(&queue, &[("client_id", client)], &[("name", "gfx"), ("dev", name)]);
                let ring = decoder.decode(at(0, &data)).unwrap().ring.unwrap();
                assert_eq!(decoder.names().get_ring(ring).unwrap().gpu.as_ref().unwrap().as_str(), *name);
            }
        }
    }
    assert_eq!(decoder.names().rings().len(), 2 * names.len());
}

#[test]
fn a_thread_renamed_is_called_so_from_then_on() {
    let queue = new_queue();
    let mut decoder = Decoder::new();
    decoder.add_format(&queue);
    // Threads whose numbers end alike.
    let tids = [5, 5 + 1024, 5 + 2048];
    for (round, name) in ["one", "two"].into_iter().enumerate() {
        for tid in tids {
            decoder.set_task(tid, tid + 1, &format!("{name}{tid}"));
        }
        for tid in tids.into_iter().chain([6, u32::MAX]) {
            let data = record(&queue, &[("common_pid", u64::from(tid))], &[("name", "gfx"), ("dev", "d")]);
            let event = decoder.decode(at(0, &data)).unwrap();
            let expected = if tids.contains(&tid) { (tid + 1, format!("{name}{tid}")) } else { (0, String::new()) };
            assert_eq!((event.pid, decoder.names().get(event.comm).to_string()), expected, "round {round}");
        }
    }
}

/// The same format and record with so many bytes more behind the common fields.
fn moved(format: &EventFormat, data: &[u8], by: u16) -> (EventFormat, Vec<u8>) {
    let mut format = format.clone();
    let mut moved = data.to_vec();
    if data.len() >= 8 {
        moved.splice(8..8, std::iter::repeat_n(0xee, usize::from(by)));
    }
    for field in format.fields.iter_mut().filter(|field| field.offset >= 8) {
        if field.kind == crate::FieldKind::DataLoc && moved.len() >= usize::from(field.offset + by) + 4 {
            let place = &mut moved[usize::from(field.offset + by)..][..4];
            let at = u32::from_ne_bytes(place.try_into().unwrap()) + u32::from(by);
            place.copy_from_slice(&at.to_ne_bytes());
        }
        field.offset += by;
    }
    (format, moved)
}

#[test]
fn a_common_layout_says_the_same_as_any_other_with_the_same_fields() {
    let done = "\tfield:u64 fence_context;\toffset:8;\tsize:8;\tsigned:0;\n\
                \tfield:u64 fence_seqno;\toffset:16;\tsize:8;\tsigned:0;\n";
    let done = format(12, "drm_sched_job_done", done);
    says_the_same([(new_queue(), Shape::TracefsJob), (done, Shape::Fence)]);
}

#[cfg(feature = "bpf")]
#[test]
fn a_layout_of_our_programs_says_the_same_as_any_other_with_the_same_fields() {
    let has = gpuscope_sys::bpf::JobFields { client: true, queue_length: true, error: true };
    let shapes = [
        ("drm_sched_job_queue", Shape::BpfQueue),
        ("drm_sched_job_run", Shape::BpfRun),
        ("drm_sched_job_done", Shape::BpfDone),
        ("fence_error", Shape::BpfDone),
    ];
    let formats = crate::capture::bpf::formats::of(has);
    let of = |(name, shape)| (formats.iter().find(|format| format.name == name).unwrap().clone(), shape);
    says_the_same(shapes.map(of));
    let ended = formats.last().unwrap().clone();
    says_the_same([(ended, Shape::Fence)]);
}

/// Makes records up, and reads each also from the same layout moved, for which there is no code of its own.
fn says_the_same(layouts: impl IntoIterator<Item = (EventFormat, Shape)>) {
    for (format, shape) in layouts {
        let (mut here, mut there) = (Decoder::new(), Decoder::new());
        let (elsewhere, _) = moved(&format, &[], 8);
        assert!(here.add_format(&format) && there.add_format(&elsewhere));
        let found = [&here, &there].map(|decoder| decoder.kinds[usize::from(format.id)].shape);
        assert_eq!(found, [shape, Shape::Other], "{}", format.name);
        for decoder in [&mut here, &mut there] {
            decoder.set_task(77, 70, "glxgears");
        }
        let mut state = 1_u64;
        let mut events = 0;
        for round in 0..300 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            };
            let mut texts = Vec::new();
            let names = ["gfx", "sdma0", "a_ring_with_a_name", "worker"];
            let has_tails = shape == Shape::TracefsJob;
            if has_tails {
                texts = vec![("dev", names[next() as usize % 4]), ("name", names[next() as usize % 4])];
                if next() % 2 == 0 {
                    texts.reverse();
                }
            }
            let mut numbers = vec![("fence_context", next() % 3), ("fence_seqno", next() << 20)];
            numbers.push(("common_pid", if next() % 2 == 0 { 77 } else { next() % 5 }));
            for name in ["client_id", "job_count", "tgid", "error"] {
                if format.field(name).is_some() {
                    numbers.push((name, next()));
                }
            }
            let mut data = record(&format, &numbers, &texts);
            for field in format.fields.iter().filter(|field| field.kind == crate::FieldKind::Array) {
                let text = names[next() as usize % 4].as_bytes();
                let room = &mut data[usize::from(field.offset)..][..usize::from(field.size)];
                let length = text.len().min(room.len());
                room[..length].copy_from_slice(&text[..length]);
            }
            // What stands behind the fields is the record's, and says nothing.
            data.resize(data.len() + next() as usize % 9, next() as u8);
            if next() % 4 == 0 {
                data.truncate(2 + next() as usize % data.len());
            }
            let (_, other) = moved(&format, &data, 8);
            let (one, two) = (here.decode(at(round, &data)), there.decode(at(round, &other)));
            assert_eq!(one, two, "{}: {data:?}", format.name);
            events += u64::from(one.is_some());
        }
        assert_eq!(here.unreadable(), there.unreadable(), "{}", format.name);
        assert_eq!((events + here.unreadable(), events > 200), (300, true), "{}: {events}", format.name);
        assert_eq!(here.names().rings(), there.names().rings());
    }
}
