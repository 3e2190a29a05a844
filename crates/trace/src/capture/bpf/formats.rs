//! How the records of `crates/sys/bpf/jobs.bpf.c` lie: the structures there, behind `struct head`, as `format` files would tell them.

use crate::{EventFormat, Field, FieldKind};
use gpuscope_sys::bpf::JobFields;

/// Fields that follow one another: name, what, size.
struct Layout {
    fields: Vec<Field>,
    offset: u16,
}

impl Layout {
    /// `struct common`.
    fn common() -> Layout {
        Layout { fields: Vec::new(), offset: 0 }
            .number("common_type", 2)
            .number("common_flags", 1)
            .number("common_preempt_count", 1)
            .signed("common_pid", 4)
    }

    /// The same, and `struct job`.
    fn of_job() -> Layout {
        Layout::common().number("fence_context", 8).number("fence_seqno", 8)
    }

    fn put(mut self, name: &str, size: u16, is_signed: bool, kind: FieldKind) -> Layout {
        self.fields.push(Field { name: name.into(), offset: self.offset, size, is_signed, kind });
        self.offset = self.offset.saturating_add(size);
        self
    }

    fn number(self, name: &str, size: u16) -> Layout {
        self.put(name, size, false, FieldKind::Number)
    }

    fn signed(self, name: &str, size: u16) -> Layout {
        self.put(name, size, true, FieldKind::Number)
    }

    fn text(self, name: &str, size: u16) -> Layout {
        self.put(name, size, false, FieldKind::Array)
    }

    /// The field that was just put is not told of, where this kernel does not fill it.
    fn only_if(mut self, is_filled: bool) -> Layout {
        if !is_filled {
            self.fields.pop();
        }
        self
    }

    fn named(self, id: u16, name: &str) -> EventFormat {
        self.of_system("gpu_scheduler", id, name)
    }

    fn of_system(self, system: &str, id: u16, name: &str) -> EventFormat {
        EventFormat { id, system: system.into(), name: name.into(), fields: self.fields }
    }
}

/// The formats, by number.
pub(crate) fn of(has: JobFields) -> Vec<EventFormat> {
    let queue = Layout::of_job()
        .number("client_id", 8)
        .only_if(has.client)
        .number("cgroup", 8)
        .number("tgid", 4)
        .number("uid", 4)
        .number("job_count", 4)
        .only_if(has.queue_length)
        .text("name", 24)
        .text("dev", 32)
        .text("comm", 16);
    let run = Layout::of_job()
        .number("client_id", 8)
        .only_if(has.client)
        .number("job_count", 4)
        .only_if(has.queue_length)
        .text("name", 24)
        .text("dev", 32);
    let done = || Layout::of_job().signed("error", 4).only_if(has.error);
    let dependency = || Layout::of_job().number("ctx", 8).number("seqno", 8);
    let mut formats = vec![
        queue.named(1, "drm_sched_job_queue"),
        run.named(2, "drm_sched_job_run"),
        done().named(3, "drm_sched_job_done"),
        dependency().named(4, "drm_sched_job_add_dep"),
        dependency().named(5, "drm_sched_job_unschedulable"),
        done().named(6, "fence_error"),
        // An end without an error that is known: jobs/ends.rs.
        Layout::of_job().named(7, "drm_sched_job_done"),
    ];
    // The tracepoint came with Linux 6.17, as the client did: before, nothing tells of dependencies, and none is to be promised.
    formats.retain(|format| has.client || format.name != "drm_sched_job_add_dep");
    formats
}

/// Those of `switches.h`, as include/trace/events/sched.h has them.
pub(crate) fn of_switches() -> [EventFormat; 2] {
    let switch = Layout::common()
        .text("prev_comm", 16)
        .signed("prev_pid", 4)
        .signed("prev_prio", 4)
        .number("prev_state", 8)
        .text("next_comm", 16)
        .signed("next_pid", 4)
        .signed("next_prio", 4);
    let waking = Layout::common().text("comm", 16).signed("pid", 4).signed("prio", 4);
    [switch.of_system("sched", 8, "sched_switch"), waking.of_system("sched", 9, "sched_waking")]
}
