/* SPDX-License-Identifier: GPL-2.0 */
/* Events as drivers/gpu/drm/amd/amdgpu/amdgpu_trace.h of 6.1, 6.12 and 7.2 lays them out. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM amdgpu
#if !defined(VGPU_TRACE_AMDGPU_H) || defined(TRACE_HEADER_MULTI_READ)
#define VGPU_TRACE_AMDGPU_H
#include <linux/tracepoint.h>
#include "vgpu.h"

#ifndef VGPU_AMD_JOB
#define VGPU_AMD_JOB
#if K(6, 10)
#define amd_assign_str(field, from) __assign_str(field)
#else
#define amd_assign_str(field, from) __assign_str(field, from)
#endif
#define AMD_TIMELINE(job) ((job)->base.s_fence->finished.ops->get_timeline_name(&(job)->base.s_fence->finished))
#if K(6, 17)	/* between 6.12 and 7.2, with the scheduler's own job id */
#define AMD_JOB_ID
#define AMD_JOB_FENCE __field(u64, context) __field(u64, seqno)
#define AMD_JOB_ID_ASSIGN
#define AMD_JOB_PRINT \
	TP_printk("timeline=%s, fence=%llu:%llu, ring_name=%s, num_ibs=%u", \
		  __get_str(timeline), __entry->context, __entry->seqno, __get_str(ring), __entry->num_ibs)
#else
#define AMD_JOB_ID __field(uint64_t, sched_job_id)
#define AMD_JOB_FENCE __field(unsigned int, context) __field(unsigned int, seqno)
#define AMD_JOB_ID_ASSIGN __entry->sched_job_id = job->base.id;
#define AMD_JOB_PRINT \
	TP_printk("sched_job=%llu, timeline=%s, context=%u, seqno=%u, ring_name=%s, num_ibs=%u", \
		  __entry->sched_job_id, __get_str(timeline), __entry->context, __entry->seqno, __get_str(ring), \
		  __entry->num_ibs)
#endif
#endif

TRACE_EVENT(amdgpu_cs_ioctl,
	TP_PROTO(struct vgpu_job *job),
	TP_ARGS(job),
	TP_STRUCT__entry(
		AMD_JOB_ID
		__string(timeline, AMD_TIMELINE(job))
		AMD_JOB_FENCE
		__field(struct dma_fence *, fence)
		__string(ring, job->engine->name)
		__field(u32, num_ibs)
	),
	TP_fast_assign(
		AMD_JOB_ID_ASSIGN
		amd_assign_str(timeline, AMD_TIMELINE(job));
		__entry->context = job->base.s_fence->finished.context;
		__entry->seqno = job->base.s_fence->finished.seqno;
		__entry->fence = NULL;	/* the real one leaves it as it finds it */
		amd_assign_str(ring, job->engine->name);
		__entry->num_ibs = 1;
	),
	AMD_JOB_PRINT
);

TRACE_EVENT(amdgpu_sched_run_job,
	TP_PROTO(struct vgpu_job *job),
	TP_ARGS(job),
	TP_STRUCT__entry(
		AMD_JOB_ID
		__string(timeline, AMD_TIMELINE(job))
		AMD_JOB_FENCE
		__string(ring, job->engine->name)
		__field(u32, num_ibs)
	),
	TP_fast_assign(
		AMD_JOB_ID_ASSIGN
		amd_assign_str(timeline, AMD_TIMELINE(job));
		__entry->context = job->base.s_fence->finished.context;
		__entry->seqno = job->base.s_fence->finished.seqno;
		amd_assign_str(ring, job->engine->name);
		__entry->num_ibs = 1;
	),
	AMD_JOB_PRINT
);

TRACE_EVENT(amdgpu_vm_grab_id,
	TP_PROTO(struct vgpu_job *job),
	TP_ARGS(job),
	TP_STRUCT__entry(
		__field(u32, pasid)
		__string(ring, job->engine->name)
		__field(u32, ring)
		__field(u32, vmid)
		__field(u32, vm_hub)
		__field(u64, pd_addr)
		__field(u32, needs_flush)
	),
	TP_fast_assign(
		__entry->pasid = job->file->pasid;
		amd_assign_str(ring, job->engine->name);
		__entry->ring = 0;	/* likewise */
		__entry->vmid = 1 + job->file->client_id % 15;
		__entry->vm_hub = 0;
		__entry->pd_addr = job->file->client_id << 12;
		__entry->needs_flush = 0;
	),
	TP_printk("pasid=%d, ring=%s, id=%u, hub=%u, pd_addr=%010Lx needs_flush=%u",
		  __entry->pasid, __get_str(ring), __entry->vmid, __entry->vm_hub, __entry->pd_addr, __entry->needs_flush)
);
#endif
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vgpu_trace_amdgpu
#include <trace/define_trace.h>
