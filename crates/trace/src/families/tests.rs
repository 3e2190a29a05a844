//! Records composed from the TRACE_EVENT layouts of the drivers' headers (Linux 6.1, 6.12, 7.2), each named beside its test.

use super::*;
use crate::{Decoder, EventFormat, RawRecord};
use gpuscope_model::trace::{Event, JobKey, Switch};

/// A field: its declaration, its name, its size; numbers lie as the compiler puts them.
type Field = (&'static str, &'static str, usize);

const U64: &str = "u64";
const U32: &str = "u32";
const TEXT: &str = "__data_loc char[]";

struct Point {
    format: EventFormat,
}

impl Point {
    fn new(id: u16, system: &str, name: &str, fields: &[Field]) -> Point {
        let mut text = format!(
            "name: {name}\nID: {id}\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
             \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n"
        );
        let mut offset = 8_usize;
        for (declaration, name, size) in fields {
            offset = offset.next_multiple_of(*size);
            let signed = u8::from(*declaration == "int");
            text.push_str(&format!(
                "\tfield:{declaration} {name};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"
            ));
            offset += size;
        }
        Point { format: EventFormat::parse(system, &text).unwrap() }
    }

    /// A record of thread 7 with these numbers; texts stand behind the fields.
    fn record(&self, numbers: &[(&str, u64)], texts: &[(&str, &str)]) -> Vec<u8> {
        let end = self.format.fields.iter().map(|f| usize::from(f.offset + f.size)).max().unwrap();
        let mut data = vec![0; end];
        let own = [("common_type", u64::from(self.format.id)), ("common_pid", 7)];
        for (name, value) in own.iter().chain(numbers) {
            let field = self.format.field(name).unwrap_or_else(|| panic!("{name}"));
            let (at, size) = (usize::from(field.offset), usize::from(field.size));
            data[at..at + size].copy_from_slice(&value.to_ne_bytes()[..size]);
        }
        for (name, text) in texts {
            let place = data.len() as u32 | (text.len() as u32 + 1) << 16;
            let at = usize::from(self.format.field(name).unwrap().offset);
            data.extend(text.bytes().chain([0]));
            data[at..at + 4].copy_from_slice(&place.to_ne_bytes());
        }
        data
    }
}

fn decoder(points: &[&Point]) -> Decoder {
    let mut decoder = Decoder::new();
    for point in points {
        assert!(decoder.add_format(&point.format), "{}", point.format.name);
    }
    decoder
}

fn decode(decoder: &mut Decoder, data: &[u8]) -> Event {
    decoder.decode(RawRecord { at_ns: 5, cpu: 1, data }).unwrap()
}

fn ring(decoder: &Decoder, event: &Event) -> (Option<String>, String) {
    let ring = decoder.names().get_ring(event.ring.unwrap()).unwrap();
    (ring.gpu.as_ref().map(ToString::to_string), ring.name.as_str().to_string())
}

/// include/trace/events/dma_fence.h
fn fence(id: u16, name: &str) -> Point {
    Point::new(
        id,
        "dma_fence",
        name,
        &[(TEXT, "driver", 4), (TEXT, "timeline", 4), ("unsigned int", "context", 4), ("unsigned int", "seqno", 4)],
    )
}

#[test]
fn names_of_a_fence_outlive_its_signal() {
    let (init, wait) = (fence(30, "dma_fence_init"), fence(31, "dma_fence_wait_start"));
    let mut decoder = decoder(&[&init, &wait]);
    let numbers = [("context", 9), ("seqno", 1)];
    let event = decode(&mut decoder, &init.record(&numbers, &[("driver", "drm_sched"), ("timeline", "gfx")]));
    assert_eq!((event.kind, event.family), (EventKind::FenceInit, Family::DmaFence));
    let gone = [("driver", "detached-driver"), ("timeline", "signaled-timeline")];
    let event = decode(&mut decoder, &wait.record(&numbers, &gone));
    assert_eq!((event.kind, event.family, event.tid), (EventKind::WaitBegin, Family::FenceWait, 7));
    assert_eq!(event.key, Some(JobKey::FenceLow { context: 9, seqno: 1 }));
    assert_eq!(ring(&decoder, &event), (None, "gfx".into()));
    let event = decode(&mut decoder, &wait.record(&[("context", 10), ("seqno", 1)], &gone));
    assert_eq!(event.ring, None, "nothing was seen of this one");
}

#[test]
fn a_fence_of_nouveau_is_a_job() {
    let init = fence(30, "dma_fence_init");
    let mut decoder = decoder(&[&init]);
    let names = [("driver", "nouveau"), ("timeline", "glxgears[77]")];
    let event = decode(&mut decoder, &init.record(&[("context", 2), ("seqno", 3)], &names));
    assert_eq!(event.kind, EventKind::SubmitCommit);
    assert_eq!(ring(&decoder, &event), (None, "glxgears[77]".into()));
}

/// `i915_request_queue` of i915_trace.h
#[test]
fn a_request_of_i915_names_card_and_engine() {
    let fields = [(U32, "dev", 4), (U64, "ctx", 8), ("u16", "class", 2), ("u16", "instance", 2), (U32, "seqno", 4)];
    let queue = Point::new(40, "i915", "i915_request_queue", &fields);
    let mut decoder = decoder(&[&queue]);
    decoder.set_device("card1", "0000:00:02.0");
    let numbers = [("ctx", 1 << 33), ("seqno", 12), ("class", 2), ("instance", 1)];
    let event = decode(&mut decoder, &queue.record(&[&numbers[..], &[("dev", 1)]].concat(), &[]));
    assert_eq!((event.kind, event.key), (EventKind::Submit, Some(JobKey::Fence { context: 1 << 33, seqno: 12 })));
    assert_eq!(ring(&decoder, &event), (Some("0000:00:02.0".into()), "vcs1".into()));
    let event = decode(&mut decoder, &queue.record(&[&numbers[..], &[("dev", 3)]].concat(), &[]));
    assert_eq!(ring(&decoder, &event), (Some("card3".into()), "vcs1".into()), "a card that nobody told of");
    let event = decode(&mut decoder, &queue.record(&[("class", 9)], &[]));
    assert_eq!(ring(&decoder, &event), (Some("card0".into()), "class 9:0".into()));
}

/// virtgpu_trace.h of 6.12 and 7.2, and of 6.1 where the queue's name is a pointer.
#[test]
fn commands_of_virtio_gpu_of_both_generations() {
    let common = [("int", "dev", 4), (U32, "vq", 4)];
    let rest = [(U32, "type", 4), (U32, "flags", 4), (U64, "fence_id", 8), (U32, "ctx_id", 4)];
    let new = [&common[..], &[(TEXT, "name", 4)], &rest, &[(U32, "num_free", 4), (U32, "seqno", 4)]].concat();
    let old = [&common[..], &[("const char *", "name", 8)], &rest].concat();
    let points = [
        Point::new(50, "virtio_gpu", "virtio_gpu_cmd_queue", &new),
        Point::new(51, "virtio_gpu", "virtio_gpu_cmd_response", &new),
        Point::new(52, "virtio_gpu", "virtio_gpu_cmd_queue", &old),
    ];
    let [queue, response, old_queue] = &points;
    let mut decoder = decoder(&[queue, response, old_queue]);
    decoder.set_device("virtio2", "0000:00:09.0");
    let event = decode(&mut decoder, &queue.record(&[("dev", 2), ("seqno", 4)], &[("name", "control")]));
    let control = event.ring.unwrap();
    assert_eq!((event.kind, event.value), (EventKind::SubmitCommit, None));
    assert_eq!(event.key, Some(JobKey::InRing { ring: control, number: 4 }));
    assert_eq!(ring(&decoder, &event), (Some("0000:00:09.0".into()), "control".into()));
    for (kind, error) in [(0, None), (0x1100, Some(0)), (0x1200, Some(-5)), (0x1201, Some(-12)), (0x1205, Some(-22))] {
        let data = response.record(&[("dev", 2), ("seqno", 4), ("type", kind)], &[("name", "control")]);
        let event = decode(&mut decoder, &data);
        assert_eq!((event.kind, event.value), (EventKind::Complete, error), "{kind:#x}");
        assert_eq!(event.key, Some(JobKey::InRing { ring: control, number: 4 }));
    }
    // The cursor's queue counts for itself.
    let event = decode(&mut decoder, &queue.record(&[("dev", 2), ("vq", 1), ("seqno", 4)], &[("name", "cursor")]));
    assert_ne!(event.key, Some(JobKey::InRing { ring: control, number: 4 }));
    assert_eq!(ring(&decoder, &event).1, "cursor");
    // Before they were numbered, a command without a fence cannot be told from others.
    let event = decode(&mut decoder, &old_queue.record(&[("dev", 2), ("fence_id", 77)], &[]));
    assert_eq!(event.key, Some(JobKey::InRing { ring: control, number: 77 }));
    assert_eq!(decode(&mut decoder, &old_queue.record(&[("dev", 2)], &[])).key, None);
}

/// xe_trace.h of 7.2
#[test]
fn a_timeout_of_xe_names_device_queue_and_error() {
    let fields = [
        (TEXT, "dev", 4),
        (U32, "seqno", 4),
        (U32, "lrc_seqno", 4),
        ("u8", "gt_id", 1),
        ("u16", "guc_id", 2),
        (U32, "guc_state", 4),
        (U32, "flags", 4),
        ("int", "error", 4),
        ("struct dma_fence *", "fence", 8),
        (U64, "batch_addr", 8),
    ];
    let timedout = Point::new(60, "xe", "xe_sched_job_timedout", &fields);
    let mut decoder = decoder(&[&timedout]);
    let error = u64::from((-62_i32).cast_unsigned());
    let numbers = [("guc_id", 5), ("error", error), ("fence", 0xffff_8880_1234_5678)];
    let event = decode(&mut decoder, &timedout.record(&numbers, &[("dev", "0000:03:00.0")]));
    assert_eq!((event.kind, event.value), (EventKind::Error, Some(-62)));
    assert_eq!(event.key, Some(JobKey::Address(0xffff_8880_1234_5678)));
    assert_eq!(ring(&decoder, &event), (Some("0000:03:00.0".into()), "guc 5".into()));
}

/// v3d_trace.h
#[test]
fn jobs_of_v3d_by_queue_and_number() {
    let submit = [(U32, "dev", 4), ("bool", "is_render", 1), (U64, "seqno", 8), (U32, "ctnqba", 4), (U32, "ctnqea", 4)];
    let points = [
        Point::new(70, "v3d", "v3d_submit_cl", &submit),
        Point::new(71, "v3d", "v3d_rcl_irq", &[(U32, "dev", 4), (U64, "seqno", 8)]),
        Point::new(72, "v3d", "v3d_bcl_irq", &[(U32, "dev", 4), (U64, "seqno", 8)]),
        Point::new(73, "v3d", "v3d_reset_begin", &[(U32, "dev", 4)]),
    ];
    let [submit, render, bin, reset] = &points;
    let mut decoder = decoder(&[submit, render, bin, reset]);
    let run = decode(&mut decoder, &submit.record(&[("is_render", 1), ("seqno", 6)], &[]));
    let done = decode(&mut decoder, &render.record(&[("seqno", 6)], &[]));
    assert_eq!((run.kind, done.kind), (EventKind::Commit, EventKind::Complete));
    assert_eq!((ring(&decoder, &run).1, run.key), ("v3d_render".into(), done.key));
    let other = decode(&mut decoder, &bin.record(&[("seqno", 6)], &[]));
    assert_ne!(other.key, run.key, "the queue for binning counts for itself");
    let reset = decode(&mut decoder, &reset.record(&[], &[]));
    assert_eq!((reset.kind, ring(&decoder, &reset)), (EventKind::Error, (Some("card0".into()), String::new())));
}

/// msm_gpu_trace.h
#[test]
fn msm_tells_the_submitter_and_how_long_the_hardware_took() {
    let submit = [("pid_t", "pid", 4), (U32, "id", 4), (U32, "ringid", 4), (U32, "nr_cmds", 4), (U32, "nr_bos", 4)];
    let ids = [("pid_t", "pid", 4), (U32, "id", 4), (U32, "ringid", 4), (U32, "seqno", 4)];
    let times = [(U64, "elapsed", 8), (U64, "clock", 8), (U64, "start_ticks", 8), (U64, "end_ticks", 8)];
    let points = [
        Point::new(80, "drm_msm_gpu", "msm_gpu_submit", &submit),
        Point::new(81, "drm_msm_gpu", "msm_gpu_submit_retired", &[ids, times].concat()),
    ];
    let [submit, retired] = &points;
    let mut decoder = decoder(&[submit, retired]);
    let begun = decode(&mut decoder, &submit.record(&[("pid", 99), ("id", 3), ("ringid", 1)], &[]));
    assert_eq!((begun.kind, begun.tid, ring(&decoder, &begun).1), (EventKind::Submit, 99, "ring 1".into()));
    let ended = decode(&mut decoder, &retired.record(&[("id", 3), ("ringid", 1), ("elapsed", 4000)], &[]));
    assert_eq!((ended.kind, ended.value, ended.key), (EventKind::Retired, Some(4000), begun.key));
}

/// panthor_trace.h of 7.2, include/trace/events/devfreq.h
#[test]
fn interrupts_and_frequencies_name_their_device() {
    let irq = [(TEXT, "dev_name", 4), (U32, "events", 4), (U32, "duration_ns", 4)];
    let freq = [(TEXT, "dev_name", 4), ("unsigned long", "freq", 8)];
    let points =
        [Point::new(90, "panthor", "gpu_job_irq", &irq), Point::new(91, "devfreq", "devfreq_frequency", &freq)];
    let [irq, freq] = &points;
    let mut decoder = decoder(&[irq, freq]);
    let event = decode(&mut decoder, &irq.record(&[("duration_ns", 900)], &[("dev_name", "fb000000.gpu")]));
    assert_eq!((event.kind, event.value), (EventKind::Irq, Some(900)));
    assert_eq!(ring(&decoder, &event).0, Some("fb000000.gpu".into()));
    let event = decode(&mut decoder, &freq.record(&[("freq", 800_000_000)], &[("dev_name", "fb000000.gpu")]));
    assert_eq!((event.kind, event.value), (EventKind::Frequency, Some(800_000_000)));
}

/// include/trace/events/sched.h, whose `prev_state` is a long.
#[test]
fn switches_name_both_threads_and_the_state_of_the_one_that_was_left() {
    let common = [("char", "prev_comm", 1), ("int", "prev_pid", 4), ("int", "prev_prio", 4), ("long", "prev_state", 8)];
    let next = [("int", "next_pid", 4), ("int", "next_prio", 4)];
    // In compact events of Perfetto the thread that was left is the current one, and nothing else tells of it.
    let switch = Point::new(95, "sched", "sched_switch", &[&common[..], &next].concat());
    let short = Point::new(96, "sched", "sched_switch", &[&common[3..], &next].concat());
    let waking = Point::new(97, "sched", "sched_waking", &[("int", "pid", 4), ("int", "prio", 4)]);
    let mut decoder = decoder(&[&switch, &short, &waking]);
    for point in [&switch, &short] {
        let data = point.record(&[("prev_state", 0x100), ("next_pid", 4_000_000)], &[]);
        let event = decode(&mut decoder, &data);
        assert_eq!((event.family, event.kind, event.tid), (Family::Sched, EventKind::SchedSwitch, 7));
        let switch = Switch::of(event.value.unwrap());
        assert_eq!(switch, Switch { next: 4_000_000, state: 0x100 });
        let whole = data.len();
        assert_eq!(decoder.decode(RawRecord { at_ns: 1, cpu: 0, data: &data[..whole - 8] }), None);
    }
    decoder.set_task(7, 6, "waker");
    let event = decode(&mut decoder, &waking.record(&[("pid", 70)], &[]));
    assert_eq!((event.kind, event.tid, event.pid, event.value), (EventKind::SchedWaking, 7, 6, Some(70)));
    assert_eq!(decoder.names().get(event.comm), "waker");
}

#[test]
fn cut_records_of_any_family_are_counted_and_no_events() {
    let init = fence(30, "dma_fence_init");
    let fields = [(U32, "dev", 4), (U64, "ctx", 8), ("u16", "class", 2), ("u16", "instance", 2), (U32, "seqno", 4)];
    let queue = Point::new(40, "i915", "i915_request_queue", &fields);
    let whole = [
        init.record(&[("context", 9)], &[("driver", "drm_sched"), ("timeline", "gfx")]),
        queue.record(&[("ctx", 1)], &[]),
    ];
    for data in whole {
        for length in 0..data.len() {
            let mut decoder = decoder(&[&init, &queue]);
            assert_eq!(decoder.decode(RawRecord { at_ns: 1, cpu: 0, data: &data[..length] }), None, "{length}");
            assert_eq!(decoder.unreadable(), 1);
        }
    }
}

#[test]
fn jobs_are_asked_for_once() {
    let names = |families: &[Family]| events_of(families).map(|(_, _, spec)| spec.name).collect::<Vec<_>>();
    assert!(names(&[Family::Amdgpu]).contains(&"amdgpu_cs_ioctl"));
    let both = names(&[Family::Amdgpu, Family::DrmSched]);
    assert!(!both.contains(&"amdgpu_cs_ioctl") && both.contains(&"amdgpu_vm_grab_id"));
    assert!(by_default(["i915"]).contains(&Family::DmaFence) && !by_default(["amdgpu"]).contains(&Family::DmaFence));
}

#[test]
fn no_tracepoint_stands_twice() {
    let mut all: Vec<_> = events_of(&Family::ALL).map(|(system, _, spec)| (system, spec.name)).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}
