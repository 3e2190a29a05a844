//! What of Perfetto's schema is read: the kernel's events that tell of GPU jobs, of waits and of threads.
//!
//! Numbers of fields are those of protos/perfetto/trace/ftrace/{ftrace_event,gpu_scheduler,dma_fence,virtio_gpu,sched,task}.proto, of
//! Perfetto 55. The names are the kernel's own, so that the decoder takes them for what they are. Events of other GPU drivers have no message
//! of their own: Perfetto writes them as generic ones, with names and texts.

use Type::{I32, I64, Text, U32, U64};

/// How wide a number is, or that it is a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    U32,
    I32,
    U64,
    I64,
    Text,
}

impl Type {
    /// `FieldDescriptorProto.Type` (protos/perfetto/common/descriptor.proto), of those that Perfetto writes of ftrace's fields.
    pub(super) fn of_descriptor(number: u64) -> Option<Type> {
        match number {
            3 => Some(Type::I64),
            4 => Some(Type::U64),
            5 => Some(Type::I32),
            // bool, uint32
            8 | 13 => Some(Type::U32),
            // string, bytes
            9 | 12 => Some(Type::Text),
            _ => None,
        }
    }

    /// Bytes in a record: of a text its place and length.
    pub(super) fn size(self) -> u16 {
        match self {
            Type::U32 | Type::I32 | Type::Text => 4,
            Type::U64 | Type::I64 => 8,
        }
    }
}

/// One kind of event.
#[derive(Debug)]
pub(super) struct Message {
    /// Its field in `FtraceEvent`.
    pub(super) number: u32,
    pub(super) system: &'static str,
    pub(super) name: &'static str,
    pub(super) fields: &'static [(u32, &'static str, Type)],
}

/// Fields of `FtraceEvent` that are read for the names of threads as well.
pub(super) const SCHED_SWITCH: u32 = 4;
pub(super) const GENERIC: u32 = 327;
pub(super) const TASK_NEWTASK: u32 = 235;
pub(super) const TASK_RENAME: u32 = 236;
/// Descriptors of generic events have numbers from here on (`kGenericEvtProtoMinPbFieldId`).
pub(super) const FIRST_DESCRIBED: u32 = 65_536;

/// Fields from 1000 on, here and below, are not Perfetto's: our own export adds them, and Perfetto passes over them.
const OLD_JOB: &[(u32, &str, Type)] = &[
    (1, "entity", U64),
    (2, "fence", U64),
    (3, "hw_job_count", I32),
    (4, "id", U64),
    (5, "job_count", U32),
    (6, "name", Text),
    (1001, "tgid", U32),
    (1002, "comm", Text),
];
const JOB: &[(u32, &str, Type)] = &[
    (1, "name", Text),
    (2, "job_count", U32),
    (3, "hw_job_count", I32),
    (4, "dev", Text),
    (5, "fence_context", U64),
    (6, "fence_seqno", U64),
    (7, "client_id", U64),
    (1001, "tgid", U32),
    (1002, "comm", Text),
];
const DONE: &[(u32, &str, Type)] = &[(1, "fence_context", U64), (2, "fence_seqno", U64), (1000, "error", I64)];
const DEPENDENCY: &[(u32, &str, Type)] =
    &[(1, "fence_context", U64), (2, "fence_seqno", U64), (3, "ctx", U64), (4, "seqno", U64)];
const FENCE: &[(u32, &str, Type)] =
    &[(1, "context", U32), (2, "driver", Text), (3, "seqno", U32), (4, "timeline", Text)];
const COMMAND: &[(u32, &str, Type)] = &[
    (1, "ctx_id", U32),
    (2, "dev", I32),
    (3, "fence_id", U64),
    (4, "flags", U32),
    (5, "name", Text),
    (6, "num_free", U32),
    (7, "seqno", U32),
    (8, "type", U32),
    (9, "vq", U32),
];
const SWITCH: &[(u32, &str, Type)] = &[
    (1, "prev_comm", Text),
    (2, "prev_pid", I32),
    (3, "prev_prio", I32),
    (4, "prev_state", I64),
    (5, "next_comm", Text),
    (6, "next_pid", I32),
    (7, "next_prio", I32),
];
const WAKEUP: &[(u32, &str, Type)] =
    &[(1, "comm", Text), (2, "pid", I32), (3, "prio", I32), (4, "success", I32), (5, "target_cpu", I32)];

const fn message(
    number: u32,
    system: &'static str,
    name: &'static str,
    fields: &'static [(u32, &'static str, Type)],
) -> Message {
    Message { number, system, name, fields }
}

const MESSAGES: &[Message] = &[
    message(SCHED_SWITCH, "sched", "sched_switch", SWITCH),
    message(17, "sched", "sched_wakeup", WAKEUP),
    message(20, "sched", "sched_waking", WAKEUP),
    message(114, "sched", "sched_wakeup_new", WAKEUP),
    message(411, "gpu_scheduler", "drm_sched_job", OLD_JOB),
    message(412, "gpu_scheduler", "drm_run_job", OLD_JOB),
    message(413, "gpu_scheduler", "drm_sched_process_job", &[(1, "fence", U64)]),
    message(414, "dma_fence", "dma_fence_init", FENCE),
    message(416, "dma_fence", "dma_fence_signaled", FENCE),
    message(417, "dma_fence", "dma_fence_wait_start", FENCE),
    message(418, "dma_fence", "dma_fence_wait_end", FENCE),
    message(468, "virtio_gpu", "virtio_gpu_cmd_queue", COMMAND),
    message(469, "virtio_gpu", "virtio_gpu_cmd_response", COMMAND),
    message(591, "gpu_scheduler", "drm_sched_job_add_dep", DEPENDENCY),
    message(592, "gpu_scheduler", "drm_sched_job_done", DONE),
    message(593, "gpu_scheduler", "drm_sched_job_queue", JOB),
    message(594, "gpu_scheduler", "drm_sched_job_run", JOB),
    message(595, "gpu_scheduler", "drm_sched_job_unschedulable", DEPENDENCY),
];

/// The message of a field of `FtraceEvent`.
pub(super) fn find(number: u32) -> Option<&'static Message> {
    MESSAGES.binary_search_by_key(&number, |message| message.number).ok().and_then(|at| MESSAGES.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_by_their_number_and_have_fields_that_the_decoder_knows() {
        for of in MESSAGES {
            assert_eq!(find(of.number).map(|found| found.name), Some(of.name));
            if of.system == "sched" {
                continue;
            }
            let (_, spec) = crate::families::find(of.system, of.name).unwrap_or_else(|| panic!("{}", of.name));
            for name in [spec.gpu, spec.client, spec.value].into_iter().flatten() {
                assert!(of.fields.iter().any(|(_, field, _)| *field == name), "{}: {name}", of.name);
            }
        }
        assert!(find(1).is_none());
    }
}
