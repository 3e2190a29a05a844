// SPDX-License-Identifier: GPL-2.0
/* Jobs from user space: contexts, dependencies, handles, waiting. */
#include <linux/xarray.h>
#include <drm/drm_ioctl.h>
#include "vgpu.h"
#include "vgpu_trace_amdgpu.h"
#include "vgpu_trace_i915.h"
#if VGPU_XE_EVENTS
#include "vgpu_trace_xe.h"
#endif

/* ---- the drivers' own events, where their code has them ---- */
static void trace_made(struct vgpu_job *job)
{
#if VGPU_XE_EVENTS
	struct vgpu_queue *q = job->queue;

	if (!job->engine->gpu->is_xe)
		return;
	if (!q->guc_id) {	/* guc_exec_queue_init */
		q->guc_id = max_t(u16, 1, atomic_inc_return(&job->engine->gpu->guc_ids));
		trace_xe_exec_queue_create(job);
	}
	trace_xe_sched_job_create(job);
#endif
}

/* between drm_sched_job_arm and drm_sched_entity_push_job */
static void trace_armed(struct vgpu_job *job)
{
	struct vgpu *gpu = job->engine->gpu;

	if (gpu->is_i915) {		/* eb_requests_add, eb_request_add */
		trace_i915_request_queue(job, 0);
		trace_i915_request_add(job);
	}
	if (gpu->is_amd)		/* amdgpu_cs_submit */
		trace_amdgpu_cs_ioctl(job);
#if VGPU_XE_EVENTS
	if (gpu->is_xe) {		/* xe_hw_fence_init, xe_sched_job_push */
		trace_xe_hw_fence_create(job->hw);
		trace_xe_sched_job_exec(job);
	}
#endif
}

/* A wait that has to wait, with i915's own events around the core's. */
static long wait_fence(struct dma_fence *fence, const struct vgpu_waited *waited, long timeout)
{
	bool i915 = waited->engine && waited->engine->gpu->is_i915 && !dma_fence_is_signaled(fence);
	long left;

	if (i915)
		trace_i915_request_wait_begin(waited, 1);	/* I915_WAIT_INTERRUPTIBLE */
	left = dma_fence_wait_timeout(fence, true, timeout);
	if (i915)
		trace_i915_request_wait_end(waited);
	return left;
}

/* ---- handles: a job's fence by number, of the whole module, so that a job may wait for another GPU's ---- */
struct handle { struct dma_fence *fence; struct vgpu_file *owner; struct vgpu_waited waited; };
static DEFINE_XARRAY_ALLOC1(handles);
static DEFINE_MUTEX(handles_lock);

/* "waited" is only of a job of this file: another one's device may go */
static struct dma_fence *handle_fence(struct vgpu_file *vf, u32 number, struct vgpu_waited *waited)
{
	struct dma_fence *fence = NULL;
	struct handle *h;

	mutex_lock(&handles_lock);
	h = xa_load(&handles, number);
	if (h) {
		fence = dma_fence_get(h->fence);
		if (waited && h->owner == vf)
			*waited = h->waited;
	}
	mutex_unlock(&handles_lock);
	return fence;
}

static int handle_set(struct vgpu_file *vf, u32 *number, struct dma_fence *fence, const struct vgpu_waited *waited)
{
	struct handle *h;
	int ret = 0;

	mutex_lock(&handles_lock);
	if (*number) {
		h = xa_load(&handles, *number);
		if (h && h->owner == vf) {
			dma_fence_put(h->fence);
			h->fence = dma_fence_get(fence);
			h->waited = *waited;
		} else {
			ret = -ENOENT;
		}
	} else {
		h = kzalloc(sizeof(*h), GFP_KERNEL);
		ret = h ? xa_alloc(&handles, number, h, xa_limit_31b, GFP_KERNEL) : -ENOMEM;
		if (ret) {
			kfree(h);
		} else {
			h->fence = dma_fence_get(fence);
			h->owner = vf;
			h->waited = *waited;
		}
	}
	mutex_unlock(&handles_lock);
	return ret;
}

/* number 0: all of this file */
static void handle_release(struct vgpu_file *vf, u32 number)
{
	struct handle *h;
	unsigned long i;

	mutex_lock(&handles_lock);
	xa_for_each(&handles, i, h)
		if (h->owner == vf && (!number || i == number)) {
			xa_erase(&handles, i);
			dma_fence_put(h->fence);
			kfree(h);
		}
	mutex_unlock(&handles_lock);
}

/* ---- contexts ---- */
static int context_init(struct vgpu *gpu, struct vgpu_context *ctx)
{
	int i, ret;

	for (i = 0; i < gpu->ident->nengines; i++) {
		struct drm_gpu_scheduler *s = &gpu->engines[i].sched;

		ret = drm_sched_entity_init(&ctx->queues[i].entity, DRM_SCHED_PRIORITY_NORMAL, &s, 1, NULL);
		if (ret)
			goto undo;
		ctx->queues[i].fence_context = dma_fence_context_alloc(1);
	}
	return 0;
undo:
	while (i--)
		drm_sched_entity_destroy(&ctx->queues[i].entity);
	return ret;
}

/* with submit_lock held; made when it is first used */
struct vgpu_context *vgpu_context_get(struct vgpu_file *vf, u32 number)
{
	struct vgpu_context *ctx = vf->contexts[number];
	int ret;

	if (ctx)
		return ctx;
	ctx = kzalloc(sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return ERR_PTR(-ENOMEM);
	ret = context_init(vf->gpu, ctx);
	if (ret) {
		kfree(ctx);
		return ERR_PTR(ret);
	}
	vf->contexts[number] = ctx;
	return ctx;
}

/* The file is closed: jobs that the hardware has not seen are dropped. The memory goes with the file, after its last job. */
void vgpu_contexts_destroy(struct vgpu_file *vf)
{
	int i, k;

	for (k = 0; k < VGPU_CONTEXTS; k++)
		for (i = 0; vf->contexts[k] && i < vf->gpu->ident->nengines; i++)
			drm_sched_entity_destroy(&vf->contexts[k]->queues[i].entity);
	handle_release(vf, 0);
}

/* ---- submission ---- */
static struct vgpu_job *job_new(struct vgpu *gpu, struct drm_file *file, struct vgpu_queue *q, const struct drm_vgpu_exec *args)
{
	struct vgpu_file *vf = file->driver_priv;
	struct vgpu_job *job = kzalloc(sizeof(*job), GFP_KERNEL);
	int ret = -ENOMEM;

	if (!job)
		return ERR_PTR(-ENOMEM);
	job->hw = kzalloc(sizeof(*job->hw), GFP_KERNEL);
	if (!job->hw)
		goto fail;
	INIT_LIST_HEAD(&job->link);
	job->engine = &gpu->engines[args->engine];
	job->lane = &job->engine->lanes[args->flags & VGPU_EXEC_PARALLEL ? 1 : 0];
	job->queue = q;
	job->hw->engine = job->engine;
	job->duration_ns = args->flags & VGPU_EXEC_HANG ? U64_MAX : args->duration_ns;
	job->flags = args->flags;
	job->file = vf;
#if K(6, 17)
	ret = drm_sched_job_init(&job->base, &q->entity, 1, NULL, file->client_id);
#elif K(6, 8)
	ret = drm_sched_job_init(&job->base, &q->entity, 1, NULL);
#else
	ret = drm_sched_job_init(&job->base, &q->entity, NULL);
#endif
	if (ret)
		goto fail;
	return job;
fail:
	kfree(job->hw);
	kfree(job);
	return ERR_PTR(ret);
}

static void job_drop(struct vgpu_job *job)
{
	drm_sched_job_cleanup(&job->base);
	kfree(job->hw);
	kfree(job);
}

static void log_job(struct vgpu_job *job, const struct drm_vgpu_exec *args, struct dma_fence **deps, u32 ndeps)
{
	struct vgpu_logged *e = vgpu_joblog_add(job->engine->gpu, job->file, &job->base.s_fence->finished);
	u32 i;

	if (!e)
		return;
	e->engine = args->engine;
	e->flags = args->flags;
	e->number = args->context;
	for (i = 0; i < ndeps; i++) {
		e->deps[i].context = deps[i]->context;
		e->deps[i].seqno = deps[i]->seqno;
	}
	e->ndeps = ndeps;
	job->log = e;
}

/* with submit_lock and log_sem held */
static int submit_one(struct vgpu *gpu, struct drm_file *file, struct vgpu_queue *q, const struct drm_vgpu_exec *args,
		      struct dma_fence **deps, u32 ndeps, struct dma_fence **last, struct vgpu_waited *waited)
{
	struct vgpu_job *job = job_new(gpu, file, q, args);
	struct vgpu_logged *log;
	u32 i;
	int ret;

	if (IS_ERR(job))
		return PTR_ERR(job);
	trace_made(job);
	for (i = 0; i < ndeps; i++) {
		ret = drm_sched_job_add_dependency(&job->base, dma_fence_get(deps[i]));
		if (ret) {
			job_drop(job);
			return ret;
		}
	}
	kref_get(&job->file->ref);
	atomic_inc(&gpu->live_jobs);
	vgpu_job_power(gpu);
	drm_sched_job_arm(&job->base);
	log_job(job, args, deps, ndeps);
	/* i915_request_create and xe_sched_job_arm count by queue, when the job is made; amdgpu_fence_emit by ring, when it runs. */
	if (gpu->is_i915 || gpu->is_xe)
		vgpu_hw_fence_init(job, q->fence_context, ++q->seqno);
	dma_fence_put(*last);
	*last = dma_fence_get(&job->base.s_fence->finished);
	*waited = (struct vgpu_waited){ job->engine, job->hw_live ? job->hw->base.context : 0, job->hw_live ? job->hw->base.seqno : 0 };
	trace_armed(job);
	log = job->log;
	if (log) {	/* afterwards the job may be over and freed */
		log->submit_ns = ktime_get_ns();
		smp_store_release(&log->ready, 1);
	}
	drm_sched_entity_push_job(&job->base);
	return 0;
}

static int submit(struct vgpu *gpu, struct drm_file *file, const struct drm_vgpu_exec *args, struct dma_fence **deps,
		  struct dma_fence **last, struct vgpu_waited *waited)
{
	struct vgpu_file *vf = file->driver_priv;
	struct vgpu_context *ctx;
	int ret = 0;
	u32 i;

	down_read(&gpu->log_sem);
	mutex_lock(&vf->submit_lock);
	ctx = vgpu_context_get(vf, args->context);
	if (IS_ERR(ctx))
		ret = PTR_ERR(ctx);
	for (i = 0; i < args->count && !ret; i++)
		ret = submit_one(gpu, file, &ctx->queues[args->engine], args, deps, i ? 0 : args->ndeps, last,
				 waited);
	mutex_unlock(&vf->submit_lock);
	up_read(&gpu->log_sem);
	return ret;
}

int vgpu_exec(struct drm_device *d, void *data, struct drm_file *file)
{
	const u32 known = VGPU_EXEC_WAIT | VGPU_EXEC_HANG | VGPU_EXEC_PARALLEL | VGPU_EXEC_HANDLE | VGPU_EXEC_FAIL |
			  VGPU_EXEC_NOTHING;
	struct vgpu *gpu = to_vgpu(d);
	struct drm_vgpu_exec *args = data;
	struct dma_fence *deps[VGPU_DEPS] = { }, *last = NULL;
	struct vgpu_waited waited = { };
	int ret = 0, idx;
	u32 i;

	if (args->engine >= gpu->ident->nengines || !args->count || args->count > 4096 || args->duration_ns > NSEC_PER_SEC ||
	    args->flags & ~known || args->context >= VGPU_CONTEXTS || args->ndeps > VGPU_DEPS)
		return -EINVAL;
	if (args->flags & VGPU_EXEC_HANG && !vgpu_timeout_ms)
		return -EINVAL;
	for (i = 0; i < args->ndeps && !ret; i++) {
		deps[i] = handle_fence(NULL, args->deps[i], NULL);
		if (!deps[i])
			ret = -ENOENT;
	}
	if (!ret) {
		if (drm_dev_enter(d, &idx)) {
			ret = submit(gpu, file, args, deps, &last, &waited);
			drm_dev_exit(idx);
		} else {
			ret = -ENODEV;
		}
	}
	for (i = 0; i < args->ndeps; i++)
		dma_fence_put(deps[i]);
	if (!ret && args->flags & VGPU_EXEC_HANDLE)
		ret = handle_set(file->driver_priv, &args->handle, last, &waited);
	/* Not within the section above: unplugging waits for that one, and ends the jobs itself. */
	if (!ret && args->flags & VGPU_EXEC_WAIT) {
		long left = wait_fence(last, &waited, MAX_SCHEDULE_TIMEOUT);

		ret = left < 0 ? left : last->error;
	}
	dma_fence_put(last);
	return ret < 0 ? ret : 0;
}

int vgpu_submit(struct drm_device *d, void *data, struct drm_file *file)
{
	const struct drm_vgpu_submit *args = data;
	struct drm_vgpu_exec exec = {
		.engine = args->engine, .count = args->count, .duration_ns = args->duration_ns,
		.flags = args->flags & VGPU_SUBMIT_WAIT,
	};

	return vgpu_exec(d, &exec, file);
}

int vgpu_wait(struct drm_device *d, void *data, struct drm_file *file)
{
	struct drm_vgpu_wait *args = data;
	struct vgpu_waited waited = { };
	struct dma_fence *fence;
	long left;

	if (args->flags & ~VGPU_WAIT_RELEASE)
		return -EINVAL;
	fence = handle_fence(file->driver_priv, args->handle, &waited);
	if (!fence)
		return -ENOENT;
	left = wait_fence(fence, &waited, nsecs_to_jiffies(min_t(u64, args->timeout_ns, 3600ull * NSEC_PER_SEC)) + 1);
	args->status = fence->error;
	dma_fence_put(fence);
	if (left <= 0)
		return left ? left : -ETIME;
	if (args->flags & VGPU_WAIT_RELEASE)
		handle_release(file->driver_priv, args->handle);
	return 0;
}
