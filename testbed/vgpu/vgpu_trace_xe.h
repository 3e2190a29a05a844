/* SPDX-License-Identifier: GPL-2.0 */
/* Events as drivers/gpu/drm/xe/xe_trace.h of 6.12 and 7.2 lays them out. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM xe
#if !defined(VGPU_TRACE_XE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VGPU_TRACE_XE_H
#include <linux/tracepoint.h>
#include "vgpu.h"

#ifndef VGPU_XE_TYPES
#define VGPU_XE_TYPES
/* drivers/gpu/drm/xe/xe_hw_engine_types.h */
enum xe_engine_class {
	XE_ENGINE_CLASS_RENDER, XE_ENGINE_CLASS_VIDEO_DECODE, XE_ENGINE_CLASS_VIDEO_ENHANCE, XE_ENGINE_CLASS_COPY,
	XE_ENGINE_CLASS_OTHER, XE_ENGINE_CLASS_COMPUTE, XE_ENGINE_CLASS_MAX,
};
static inline enum xe_engine_class vgpu_xe_class(const struct vgpu_engine *e)
{
	static const u8 classes[] = {
		XE_ENGINE_CLASS_RENDER, XE_ENGINE_CLASS_COPY, XE_ENGINE_CLASS_VIDEO_DECODE, XE_ENGINE_CLASS_VIDEO_ENHANCE,
		XE_ENGINE_CLASS_COMPUTE };

	return classes[e->desc->class];
}
struct xe_hw_fence;
#define VGPU_GUC_STATE 3	/* registered and enabled: EXEC_QUEUE_STATE_* of xe_guc_submit.c */
#endif

DECLARE_EVENT_CLASS(xe_exec_queue,
	TP_PROTO(struct vgpu_job *job),
	TP_ARGS(job),
	TP_STRUCT__entry(
		__string(dev, dev_name(job->engine->gpu->dev))
		__field(enum xe_engine_class, class)
		__field(u32, logical_mask)
		__field(u8, gt_id)
		__field(u16, width)
		__field(u16, guc_id)
		__field(u32, guc_state)
		__field(u32, flags)
	),
	TP_fast_assign(
		__assign_str(dev);
		__entry->class = vgpu_xe_class(job->engine);
		__entry->logical_mask = BIT(job->engine->desc->instance);
		__entry->gt_id = job->engine->gt;
		__entry->width = 1;
		__entry->guc_id = job->queue->guc_id;
		__entry->guc_state = VGPU_GUC_STATE;
		__entry->flags = 0;
	),
	TP_printk("dev=%s, %d:0x%x, gt=%d, width=%d, guc_id=%d, guc_state=0x%x, flags=0x%x",
		  __get_str(dev), __entry->class, __entry->logical_mask, __entry->gt_id, __entry->width, __entry->guc_id,
		  __entry->guc_state, __entry->flags)
);
DEFINE_EVENT(xe_exec_queue, xe_exec_queue_create, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));
DEFINE_EVENT(xe_exec_queue, xe_exec_queue_submit, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));

DECLARE_EVENT_CLASS(xe_sched_job,
	TP_PROTO(struct vgpu_job *job),
	TP_ARGS(job),
	TP_STRUCT__entry(
		__string(dev, dev_name(job->engine->gpu->dev))
		__field(u32, seqno)
		__field(u32, lrc_seqno)
#if K(6, 13)
		__field(u8, gt_id)
#endif
		__field(u16, guc_id)
		__field(u32, guc_state)
		__field(u32, flags)
		__field(int, error)
		__field(struct dma_fence *, fence)
		__field(u64, batch_addr)
	),
	TP_fast_assign(
		__assign_str(dev);
		/* a job gets its fence when it is armed, after xe_sched_job_create */
		__entry->seqno = job->hw_live ? job->hw->base.seqno : 0;
		__entry->lrc_seqno = job->hw_live ? job->hw->base.seqno : 0;
#if K(6, 13)
		__entry->gt_id = job->engine->gt;
#endif
		__entry->guc_id = job->queue->guc_id;
		__entry->guc_state = VGPU_GUC_STATE;
		__entry->flags = 0;
		__entry->error = job->hw_live ? job->hw->base.error : 0;
		__entry->fence = job->hw_live ? &job->hw->base : NULL;
		__entry->batch_addr = 0x100000000ull + ((u64)job->queue->guc_id << 20);
	),
#if K(6, 13)
	TP_printk("dev=%s, fence=%p, seqno=%u, lrc_seqno=%u, gt=%u, guc_id=%d, batch_addr=0x%012llx, guc_state=0x%x, flags=0x%x, error=%d",
		  __get_str(dev), __entry->fence, __entry->seqno, __entry->lrc_seqno, __entry->gt_id, __entry->guc_id,
		  __entry->batch_addr, __entry->guc_state, __entry->flags, __entry->error)
#else
	TP_printk("dev=%s, fence=%p, seqno=%u, lrc_seqno=%u, guc_id=%d, batch_addr=0x%012llx, guc_state=0x%x, flags=0x%x, error=%d",
		  __get_str(dev), __entry->fence, __entry->seqno, __entry->lrc_seqno, __entry->guc_id,
		  __entry->batch_addr, __entry->guc_state, __entry->flags, __entry->error)
#endif
);
DEFINE_EVENT(xe_sched_job, xe_sched_job_create, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));
DEFINE_EVENT(xe_sched_job, xe_sched_job_exec, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));
DEFINE_EVENT(xe_sched_job, xe_sched_job_run, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));
DEFINE_EVENT(xe_sched_job, xe_sched_job_free, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));
DEFINE_EVENT(xe_sched_job, xe_sched_job_timedout, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));
DEFINE_EVENT(xe_sched_job, xe_sched_job_set_error, TP_PROTO(struct vgpu_job *job), TP_ARGS(job));

DECLARE_EVENT_CLASS(xe_hw_fence,
	TP_PROTO(struct vgpu_fence *fence),
	TP_ARGS(fence),
	TP_STRUCT__entry(
		__string(dev, dev_name(fence->engine->gpu->dev))
		__field(u64, ctx)
		__field(u32, seqno)
		__field(struct xe_hw_fence *, fence)
	),
	TP_fast_assign(
		__assign_str(dev);
		__entry->ctx = fence->base.context;
		__entry->seqno = fence->base.seqno;
		__entry->fence = (struct xe_hw_fence *)fence;
	),
	TP_printk("dev=%s, ctx=0x%016llx, fence=%p, seqno=%u",
		  __get_str(dev), __entry->ctx, __entry->fence, __entry->seqno)
);
DEFINE_EVENT(xe_hw_fence, xe_hw_fence_create, TP_PROTO(struct vgpu_fence *fence), TP_ARGS(fence));
DEFINE_EVENT(xe_hw_fence, xe_hw_fence_try_signal, TP_PROTO(struct vgpu_fence *fence), TP_ARGS(fence));
DEFINE_EVENT(xe_hw_fence, xe_hw_fence_signal, TP_PROTO(struct vgpu_fence *fence), TP_ARGS(fence));
#endif
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vgpu_trace_xe
#include <trace/define_trace.h>
