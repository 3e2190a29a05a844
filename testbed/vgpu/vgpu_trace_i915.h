/* SPDX-License-Identifier: GPL-2.0 */
/* Events as drivers/gpu/drm/i915/i915_trace.h of 6.1, 6.12 and 7.2 lays them out, without the low-level ones. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM i915
#if !defined(VGPU_TRACE_I915_H) || defined(TRACE_HEADER_MULTI_READ)
#define VGPU_TRACE_I915_H
#include <linux/tracepoint.h>
#include "vgpu.h"

#define vgpu_tail(job) ((u32)((job)->hw->base.seqno * 64 % 16384))

TRACE_EVENT(i915_request_queue,
	TP_PROTO(struct vgpu_job *rq, u32 flags),
	TP_ARGS(rq, flags),
	TP_STRUCT__entry(
		__field(u32, dev)
		__field(u64, ctx)
		__field(u16, class)
		__field(u16, instance)
		__field(u32, seqno)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->dev = rq->engine->gpu->drm.primary->index;
		__entry->class = rq->engine->desc->class;
		__entry->instance = rq->engine->desc->instance;
		__entry->ctx = rq->hw->base.context;
		__entry->seqno = rq->hw->base.seqno;
		__entry->flags = flags;
	),
	TP_printk("dev=%u, engine=%u:%u, ctx=%llu, seqno=%u, flags=0x%x",
		  __entry->dev, __entry->class, __entry->instance, __entry->ctx, __entry->seqno, __entry->flags)
);

DECLARE_EVENT_CLASS(i915_request,
	TP_PROTO(struct vgpu_job *rq),
	TP_ARGS(rq),
	TP_STRUCT__entry(
		__field(u32, dev)
		__field(u64, ctx)
		__field(u16, class)
		__field(u16, instance)
		__field(u32, seqno)
		__field(u32, tail)
	),
	TP_fast_assign(
		__entry->dev = rq->engine->gpu->drm.primary->index;
		__entry->class = rq->engine->desc->class;
		__entry->instance = rq->engine->desc->instance;
		__entry->ctx = rq->hw->base.context;
		__entry->seqno = rq->hw->base.seqno;
		__entry->tail = vgpu_tail(rq);
	),
	TP_printk("dev=%u, engine=%u:%u, ctx=%llu, seqno=%u, tail=%u",
		  __entry->dev, __entry->class, __entry->instance, __entry->ctx, __entry->seqno, __entry->tail)
);
DEFINE_EVENT(i915_request, i915_request_add, TP_PROTO(struct vgpu_job *rq), TP_ARGS(rq));
DEFINE_EVENT(i915_request, i915_request_retire, TP_PROTO(struct vgpu_job *rq), TP_ARGS(rq));

/* A wait's request may be over and freed: what the events say of it was noted before. */
TRACE_EVENT(i915_request_wait_begin,
	TP_PROTO(const struct vgpu_waited *rq, unsigned int flags),
	TP_ARGS(rq, flags),
	TP_STRUCT__entry(
		__field(u32, dev)
		__field(u64, ctx)
		__field(u16, class)
		__field(u16, instance)
		__field(u32, seqno)
		__field(unsigned int, flags)
	),
	TP_fast_assign(
		__entry->dev = rq->engine->gpu->drm.primary->index;
		__entry->class = rq->engine->desc->class;
		__entry->instance = rq->engine->desc->instance;
		__entry->ctx = rq->context;
		__entry->seqno = rq->seqno;
		__entry->flags = flags;
	),
	TP_printk("dev=%u, engine=%u:%u, ctx=%llu, seqno=%u, flags=0x%x",
		  __entry->dev, __entry->class, __entry->instance, __entry->ctx, __entry->seqno, __entry->flags)
);

TRACE_EVENT(i915_request_wait_end,
	TP_PROTO(const struct vgpu_waited *rq),
	TP_ARGS(rq),
	TP_STRUCT__entry(
		__field(u32, dev)
		__field(u64, ctx)
		__field(u16, class)
		__field(u16, instance)
		__field(u32, seqno)
		__field(u32, tail)
	),
	TP_fast_assign(
		__entry->dev = rq->engine->gpu->drm.primary->index;
		__entry->class = rq->engine->desc->class;
		__entry->instance = rq->engine->desc->instance;
		__entry->ctx = rq->context;
		__entry->seqno = rq->seqno;
		__entry->tail = (u32)(rq->seqno * 64 % 16384);
	),
	TP_printk("dev=%u, engine=%u:%u, ctx=%llu, seqno=%u, tail=%u",
		  __entry->dev, __entry->class, __entry->instance, __entry->ctx, __entry->seqno, __entry->tail)
);
#endif
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vgpu_trace_i915
#include <trace/define_trace.h>
