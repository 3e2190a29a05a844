//! Perfetto's messages, as far as the tests look into them, for `prost`.
//!
//! Written from protos/perfetto/trace/… of https://github.com/google/perfetto, file by file as cited; not from the code under test.

use prost::Message;

/// trace.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Trace {
    #[prost(message, repeated, tag = "1")]
    pub(crate) packet: Vec<TracePacket>,
}

/// trace_packet.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TracePacket {
    #[prost(message, optional, tag = "1")]
    pub(crate) ftrace_events: Option<FtraceEventBundle>,
    #[prost(message, optional, tag = "6")]
    pub(crate) clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    pub(crate) trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    pub(crate) track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "12")]
    pub(crate) interned_data: Option<InternedData>,
    #[prost(uint32, optional, tag = "13")]
    pub(crate) sequence_flags: Option<u32>,
    #[prost(message, optional, tag = "59")]
    pub(crate) trace_packet_defaults: Option<TracePacketDefaults>,
    #[prost(message, optional, tag = "60")]
    pub(crate) track_descriptor: Option<TrackDescriptor>,
}

/// trace_packet_defaults.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TracePacketDefaults {
    #[prost(uint32, optional, tag = "58")]
    pub(crate) timestamp_clock_id: Option<u32>,
}

/// clock_snapshot.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    pub(crate) clocks: Vec<Clock>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) primary_trace_clock: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Clock {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) clock_id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) timestamp: Option<u64>,
}

/// interned_data/interned_data.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InternedData {
    #[prost(message, repeated, tag = "2")]
    pub(crate) event_names: Vec<Interned>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) debug_annotation_names: Vec<Interned>,
    #[prost(message, repeated, tag = "29")]
    pub(crate) debug_annotation_string_values: Vec<Interned>,
}

/// EventName, DebugAnnotationName and InternedString have the same fields.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Interned {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) iid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
}

/// track_event/track_event.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    pub(crate) debug_annotations: Vec<DebugAnnotation>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) r#type: Option<i32>,
    #[prost(uint64, optional, tag = "10")]
    pub(crate) name_iid: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    pub(crate) track_uuid: Option<u64>,
    #[prost(string, optional, tag = "23")]
    pub(crate) name: Option<String>,
    #[prost(int64, optional, tag = "30")]
    pub(crate) counter_value: Option<i64>,
    #[prost(double, optional, tag = "44")]
    pub(crate) double_counter_value: Option<f64>,
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    pub(crate) flow_ids: Vec<u64>,
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    pub(crate) terminating_flow_ids: Vec<u64>,
}

/// track_event/debug_annotation.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DebugAnnotation {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) name_iid: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) uint_value: Option<u64>,
    #[prost(int64, optional, tag = "4")]
    pub(crate) int_value: Option<i64>,
    #[prost(string, optional, tag = "6")]
    pub(crate) string_value: Option<String>,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) pointer_value: Option<u64>,
    #[prost(string, optional, tag = "10")]
    pub(crate) name: Option<String>,
    #[prost(uint64, optional, tag = "17")]
    pub(crate) string_value_iid: Option<u64>,
}

/// track_event/track_descriptor.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    pub(crate) thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    pub(crate) counter: Option<CounterDescriptor>,
    #[prost(bool, optional, tag = "9")]
    pub(crate) disallow_merging_with_system_tracks: Option<bool>,
    #[prost(int32, optional, tag = "11")]
    pub(crate) child_ordering: Option<i32>,
    #[prost(int32, optional, tag = "12")]
    pub(crate) sibling_order_rank: Option<i32>,
}

/// track_event/process_descriptor.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pub(crate) pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub(crate) process_name: Option<String>,
}

/// track_event/thread_descriptor.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ThreadDescriptor {
    #[prost(int32, optional, tag = "1")]
    pub(crate) pid: Option<i32>,
    #[prost(int64, optional, tag = "2")]
    pub(crate) tid: Option<i64>,
    #[prost(string, optional, tag = "5")]
    pub(crate) thread_name: Option<String>,
}

/// track_event/counter_descriptor.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CounterDescriptor {
    #[prost(int32, optional, tag = "3")]
    pub(crate) unit: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub(crate) unit_name: Option<String>,
}

/// ftrace/ftrace_event_bundle.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FtraceEventBundle {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) cpu: Option<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) event: Vec<FtraceEvent>,
}

/// ftrace/ftrace_event.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FtraceEvent {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) pid: Option<u32>,
    #[prost(message, optional, tag = "411")]
    pub(crate) drm_sched_job: Option<DrmSchedJob>,
    #[prost(message, optional, tag = "412")]
    pub(crate) drm_run_job: Option<DrmSchedJob>,
    #[prost(message, optional, tag = "413")]
    pub(crate) drm_sched_process_job: Option<DrmSchedProcessJob>,
    #[prost(message, optional, tag = "414")]
    pub(crate) dma_fence_init: Option<DmaFence>,
    #[prost(message, optional, tag = "416")]
    pub(crate) dma_fence_signaled: Option<DmaFence>,
    #[prost(message, optional, tag = "417")]
    pub(crate) dma_fence_wait_start: Option<DmaFence>,
    #[prost(message, optional, tag = "418")]
    pub(crate) dma_fence_wait_end: Option<DmaFence>,
    #[prost(message, optional, tag = "591")]
    pub(crate) drm_sched_job_add_dep: Option<Dependency>,
    #[prost(message, optional, tag = "592")]
    pub(crate) drm_sched_job_done: Option<Done>,
    #[prost(message, optional, tag = "593")]
    pub(crate) drm_sched_job_queue: Option<Queued>,
    #[prost(message, optional, tag = "594")]
    pub(crate) drm_sched_job_run: Option<Queued>,
    #[prost(message, optional, tag = "595")]
    pub(crate) drm_sched_job_unschedulable: Option<Dependency>,
}

/// ftrace/gpu_scheduler.proto: DrmSchedJobFtraceEvent and DrmRunJobFtraceEvent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DrmSchedJob {
    #[prost(uint64, optional, tag = "2")]
    pub(crate) fence: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) id: Option<u64>,
    #[prost(uint32, optional, tag = "5")]
    pub(crate) job_count: Option<u32>,
    #[prost(string, optional, tag = "6")]
    pub(crate) name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DrmSchedProcessJob {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) fence: Option<u64>,
}

/// DrmSchedJobAddDepFtraceEvent and DrmSchedJobUnschedulableFtraceEvent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dependency {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) fence_context: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) fence_seqno: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) ctx: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) seqno: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Done {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) fence_context: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) fence_seqno: Option<u64>,
    /// Ours.
    #[prost(int64, optional, tag = "1000")]
    pub(crate) error: Option<i64>,
}

/// DrmSchedJobQueueFtraceEvent and DrmSchedJobRunFtraceEvent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Queued {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) job_count: Option<u32>,
    #[prost(string, optional, tag = "4")]
    pub(crate) dev: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) fence_context: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) fence_seqno: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) client_id: Option<u64>,
    /// Ours.
    #[prost(uint64, optional, tag = "1001")]
    pub(crate) pid: Option<u64>,
    /// Ours.
    #[prost(string, optional, tag = "1002")]
    pub(crate) comm: Option<String>,
}

/// ftrace/dma_fence.proto
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DmaFence {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) context: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) seqno: Option<u32>,
    #[prost(string, optional, tag = "4")]
    pub(crate) timeline: Option<String>,
}
