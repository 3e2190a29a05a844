// SPDX-License-Identifier: GPL-2.0
/* The engines: one job at a time (and, if asked for, one beside it), each exactly its length, behind the DRM scheduler. */
#include "vgpu.h"
#include "vgpu_trace_amdgpu.h"
#include "vgpu_trace_i915.h"
#if VGPU_XE_EVENTS
#include "vgpu_trace_xe.h"
#define trace_xe(gpu, event, what) do { if ((gpu)->is_xe) trace_xe_##event(what); } while (0)
#else
#define trace_xe(gpu, event, what) do { } while (0)
#endif

const struct vgpu_engine_desc vgpu_engine_descs[VGPU_ENGINES] = {
	{ "rcs0", "render", "rcs", 0, 0, false },
	{ "bcs0", "copy", "bcs", 1, 0, false },
	{ "vcs0", "video", "vcs", 2, 0, true },
	{ "vcs1", "video", "vcs", 2, 1, true },
	{ "vecs0", "video-enhance", "vecs", 3, 0, true },
	{ "ccs0", "compute", "ccs", 4, 0, false },
};
const struct vgpu_engine_desc vgpu_amd_descs[VGPU_ENGINES] = {	/* names of amdgpu_fdinfo.c, in its order */
	{ "gfx", "gfx", NULL, 0, 0, false },
	{ "compute", "compute", NULL, 1, 0, false },
	{ "dma", "dma", NULL, 2, 0, false },
	{ "dec", "dec", NULL, 3, 0, true },
	{ "enc", "enc", NULL, 4, 0, true },
	{ "jpeg", "jpeg", NULL, 5, 0, true },
};
const struct vgpu_engine_desc vgpu_panthor_descs[1] = { { "panthor", "panthor", NULL, 0, 0, false } };

static inline struct vgpu_job *to_job(struct drm_sched_job *j) { return container_of(j, struct vgpu_job, base); }

/* ---- hardware fences ---- */
static const char *fence_driver(struct dma_fence *f) { return container_of(f, struct vgpu_fence, base)->engine->gpu->ident->driver; }
static const char *fence_timeline(struct dma_fence *f) { return container_of(f, struct vgpu_fence, base)->engine->name; }
static const struct dma_fence_ops vgpu_fence_ops = { .get_driver_name = fence_driver, .get_timeline_name = fence_timeline };

/* ---- the books, with vgpu.lock held ---- */

/* time without a job (and without forcewake) since the device was bound */
u64 vgpu_gt_rc6(struct vgpu *gpu, int gt, u64 now)
{
	return now - gpu->born_ns - span_total(&gpu->gt[gt].awake, now);
}

/* MHz*ns over the time that the GT was awake: a parked GT adds nothing */
u64 vgpu_gt_integral(struct vgpu_gt *gt, bool requested, u64 now)
{
	u64 awake = span_total(&gt->awake, now) - gt->mark;

	return requested ? gt->req_acc + gt->req_mhz * awake : gt->act_acc + gt->act_mhz * awake;
}

/* before a frequency changes: what was run until now ran at the old one */
void vgpu_gt_settle(struct vgpu_gt *gt, u64 now)
{
	u64 act = vgpu_gt_integral(gt, false, now), req = vgpu_gt_integral(gt, true, now);

	gt->act_acc = act;
	gt->req_acc = req;
	gt->mark = span_total(&gt->awake, now);
}

u64 vgpu_engine_sampled(struct vgpu_engine *e, bool sema, u64 now)
{
	u64 busy = span_total(&e->busy, now) - e->mark;

	return sema ? e->sema_acc + div_u64(busy * e->gpu->sema_permille, 1000)
		    : e->wait_acc + div_u64(busy * e->gpu->wait_permille, 1000);
}

void vgpu_engine_settle(struct vgpu_engine *e, u64 now)
{
	u64 wait = vgpu_engine_sampled(e, false, now), sema = vgpu_engine_sampled(e, true, now);

	e->wait_acc = wait;
	e->sema_acc = sema;
	e->mark = span_total(&e->busy, now);
}

/* 5 W idle and 20 W for each busy engine: W*ns is nJ. Channel 2 counts half, as a package within its card. */
u64 vgpu_energy_uj(struct vgpu *gpu, int channel, u64 now)
{
	u64 busy = 0, nj;
	int i;

	for (i = 0; i < gpu->ident->nengines; i++)
		busy += span_total(&gpu->engines[i].busy, now);
	nj = (now - gpu->born_ns) * 5 + busy * 20;
	return div_u64(nj, channel == 2 ? 2000 : 1000);
}

/* A reason to be awake has gone before its end: awake until now, or until what still runs ends. */
void vgpu_gt_recut(struct vgpu *gpu, unsigned int gt, u64 now)
{
	u64 end = gpu->gt[gt].forcewake ? U64_MAX : now;
	int i, k;

	for (i = 0; i < gpu->ident->nengines; i++)
		for (k = 0; k < VGPU_LANES && gpu->engines[i].gt == gt; k++)
			if (gpu->engines[i].lanes[k].running)
				end = max(end, job_end(gpu->engines[i].lanes[k].running));
	span_cut(&gpu->gt[gt].awake, end);
}

/* What runs on a lane ends now, before its time. */
static void lane_stop(struct vgpu_lane *lane, u64 now)
{
	struct vgpu_engine *e = lane->engine;
	struct vgpu_job *job = lane->running;
	u64 end = now;
	int i;

	lane->running = NULL;
	for (i = 0; i < VGPU_LANES; i++)
		if (e->lanes[i].running)
			end = max(end, job_end(e->lanes[i].running));
	span_cut(&e->busy, end);
	vgpu_gt_recut(e->gpu, e->gt, now);
	job->file->busy_ns[e - e->gpu->engines] += min(now - job->started_ns, job->duration_ns);
	if (job->log)
		job->log->end_ns = now;
}

/* Forcewake keeps a GT out of C6 from now until nobody holds it and its last job is over. */
void vgpu_forcewake_get(struct vgpu *gpu, int gt)
{
	struct vgpu_gt *g = &gpu->gt[gt];
	unsigned long flags;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	if (!g->forcewake++)
		span_add(&g->awake, ktime_get_ns(), U64_MAX);
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
}

void vgpu_forcewake_put(struct vgpu *gpu, int gt)
{
	struct vgpu_gt *g = &gpu->gt[gt];
	unsigned long flags;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	if (!--g->forcewake)
		vgpu_gt_recut(gpu, gt, ktime_get_ns());
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
}

/* ---- the hardware ---- */
/*
 * Tiny jobs that follow one another in the interrupt are waited for there, so many at most: a timer that has expired
 * before it is armed makes hrtimer_interrupt believe that it hangs and hold all timers up for as much as 100 ms.
 */
#define SPIN_NS 10000
#define SPIN_JOBS 16

static struct vgpu_job *lane_begin(struct vgpu_lane *lane)
{
	struct vgpu_engine *e = lane->engine;
	struct vgpu_job *job;

	if (lane->running || e->gpu->dead)
		return NULL;
	job = list_first_entry_or_null(&lane->queue, struct vgpu_job, link);
	if (!job)
		return NULL;
	list_del_init(&job->link);
	lane->running = job;
	job->started_ns = ktime_get_ns();
	span_add(&e->busy, job->started_ns, job_end(job));
	span_add(&e->gpu->gt[e->gt].awake, job->started_ns, job_end(job));
	if (job->log) {
		job->log->start_ns = job->started_ns;
		job->log->due_ns = job->duration_ns == U64_MAX ? 0 : job_end(job);
	}
	return job;
}

static void lane_start_next(struct vgpu_lane *lane)
{
	struct vgpu_job *job = lane_begin(lane);

	if (job && job->duration_ns != U64_MAX)
		hrtimer_start(&lane->timer, ns_to_ktime(job->duration_ns), HRTIMER_MODE_REL);
}

/* with vgpu.lock held; the fence to signal without it */
static struct dma_fence *lane_finish(struct vgpu_lane *lane)
{
	struct vgpu_engine *e = lane->engine;
	struct vgpu_job *job = lane->running;

	if (!job)
		return NULL;
	e->jobs++;
	/* the truth is what was asked for, not the timer's lateness */
	job->file->busy_ns[e - e->gpu->engines] += job->duration_ns;
	atomic64_inc(&e->gpu->irqs);
	if (job->log)
		job->log->end_ns = ktime_get_ns();
	lane->running = NULL;
	return dma_fence_get(&job->hw->base);
}

/* as hw_fence_irq_run_cb of xe does; the reference goes too */
static void hw_fence_done(struct vgpu *gpu, struct dma_fence *fence)
{
	trace_xe(gpu, hw_fence_try_signal, container_of(fence, struct vgpu_fence, base));
	trace_xe(gpu, hw_fence_signal, container_of(fence, struct vgpu_fence, base));
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

static enum hrtimer_restart lane_irq(struct hrtimer *t)
{
	struct vgpu_lane *lane = container_of(t, struct vgpu_lane, timer);
	struct vgpu *gpu = lane->engine->gpu;
	struct dma_fence *done;
	struct vgpu_job *job;
	unsigned long flags;
	u64 end = 0;
	int n = 0;

	do {
		while (ktime_get_ns() < end)
			cpu_relax();
		raw_spin_lock_irqsave(&gpu->lock, flags);
		done = lane_finish(lane);
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
		if (done)
			hw_fence_done(gpu, done);
		end = 0;
		raw_spin_lock_irqsave(&gpu->lock, flags);
		job = list_first_entry_or_null(&lane->queue, struct vgpu_job, link);
		if (job && job->duration_ns <= SPIN_NS && n++ < SPIN_JOBS) {
			if (lane_begin(lane))
				end = job_end(job);
		} else {
			lane_start_next(lane);
		}
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
	} while (end);
	return HRTIMER_NORESTART;
}

/* The device is gone: end what runs, refuse what waits. Process context, after vgpu.dead was set. */
static void lane_kill(struct vgpu_lane *lane)
{
	struct vgpu *gpu = lane->engine->gpu;
	struct vgpu_job *job;
	unsigned long flags;

	hrtimer_cancel(&lane->timer);
	for (;;) {
		struct dma_fence *fence = NULL;

		raw_spin_lock_irqsave(&gpu->lock, flags);
		job = lane->running;
		if (job) {
			lane_stop(lane, ktime_get_ns());
		} else {
			job = list_first_entry_or_null(&lane->queue, struct vgpu_job, link);
			if (job)
				list_del_init(&job->link);
		}
		if (job)
			fence = dma_fence_get(&job->hw->base);
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
		if (!fence)
			return;
		dma_fence_set_error(fence, -ENODEV);
		dma_fence_signal(fence);
		dma_fence_put(fence);
	}
}

void vgpu_engines_kill(struct vgpu *gpu)
{
	unsigned long flags;
	unsigned int i, k;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	gpu->dead = true;
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	for (i = 0; i < gpu->ident->nengines; i++)
		for (k = 0; k < VGPU_LANES; k++)
			lane_kill(&gpu->engines[i].lanes[k]);
	raw_spin_lock_irqsave(&gpu->lock, flags);
	for (i = 0; i < gpu->gts; i++)
		if (!gpu->gt[i].forcewake)
			span_cut(&gpu->gt[i].awake, ktime_get_ns());
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
}

/* ---- DRM scheduler back end ---- */
void vgpu_hw_fence_init(struct vgpu_job *job, u64 context, u64 seqno)
{
	dma_fence_init(&job->hw->base, &vgpu_fence_ops, &job->engine->fence_lock, context, seqno);
	job->hw_live = true;
	if (job->log) {
		job->log->hw_context = context;
		job->log->hw_seqno = seqno;
	}
}

static struct dma_fence *vgpu_run_job(struct drm_sched_job *sj)
{
	struct vgpu_job *job = to_job(sj);
	struct vgpu_engine *e = job->engine;
	struct vgpu *gpu = e->gpu;
	bool at_once = false;
	unsigned long flags;

	if (job->log)
		job->log->run_ns = ktime_get_ns();
	if (gpu->is_amd)	/* amdgpu_job_run, before amdgpu_fence_emit */
		trace_amdgpu_sched_run_job(job);
	if (job->flags & VGPU_EXEC_FAIL)
		return ERR_PTR(-EIO);
	if (job->flags & VGPU_EXEC_NOTHING)
		return NULL;
	if (!job->hw_live)
		vgpu_hw_fence_init(job, e->fence_context, atomic_inc_return(&e->seqno));
	trace_xe(gpu, sched_job_run, job);
	trace_xe(gpu, exec_queue_submit, job);
	raw_spin_lock_irqsave(&gpu->lock, flags);
	if (gpu->dead) {
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
		return ERR_PTR(-ENODEV);
	}
	dma_fence_get(&job->hw->base);
	if (!job->duration_ns && !job->lane->running && list_empty(&job->lane->queue)) {
		at_once = true;		/* no timer: for rates that a guest's timers do not reach */
		e->jobs++;
		atomic64_inc(&gpu->irqs);
		if (job->log)
			job->log->start_ns = job->log->end_ns = job->log->due_ns = ktime_get_ns();
	} else {
		list_add_tail(&job->link, &job->lane->queue);
		lane_start_next(job->lane);
	}
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	if (at_once)
		hw_fence_done(gpu, dma_fence_get(&job->hw->base));
	return &job->hw->base;
}

/*
 * The job was taken off the scheduler's list of pending jobs and has to be there again to be freed. Since 6.17 the
 * scheduler does it for DRM_GPU_SCHED_STAT_NO_HANG; before, drivers did it themselves: etnaviv_sched_timedout_job,
 * v3d_sched_skip_reset, xe_sched_add_pending_job.
 */
static enum drm_gpu_sched_stat pending_again(struct drm_sched_job *sj)
{
#if K(6, 17)
	return DRM_GPU_SCHED_STAT_NO_HANG;
#else
	spin_lock(&sj->sched->job_list_lock);
	list_add(&sj->list, &sj->sched->pending_list);
	spin_unlock(&sj->sched->job_list_lock);
	return DRM_GPU_SCHED_STAT_NOMINAL;
#endif
}

/* As xe ends a job that timed out: the engine is stopped, its fence carries the error, what comes after goes on. */
static enum drm_gpu_sched_stat vgpu_timedout(struct drm_sched_job *sj)
{
	struct vgpu_job *job = to_job(sj);
	struct vgpu_lane *lane = job->lane;
	struct vgpu *gpu = job->engine->gpu;
	enum drm_gpu_sched_stat stat;
	struct dma_fence *fence = NULL;
	unsigned long flags;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	if (lane->running == job && job->duration_ns == U64_MAX) {
		fence = dma_fence_get(&job->hw->base);
		lane_stop(lane, ktime_get_ns());
		lane_start_next(lane);
	}
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	if (fence) {
		trace_xe(gpu, sched_job_timedout, job);
		dma_fence_set_error(fence, -ETIME);
		trace_xe(gpu, sched_job_set_error, job);
		/* drm_sched_job_done passes it on to this one, but not in 6.1. */
		dma_fence_set_error(&sj->s_fence->finished, -ETIME);
	}
	stat = pending_again(sj);
	if (fence) {	/* from here on the job may be freed on old kernels */
		hw_fence_done(gpu, fence);
		return stat;
	}
	/* It was only slow, or it ended meanwhile, when nobody could free it. */
#if K(6, 8) && !K(6, 17)
	queue_work(lane->engine->sched.submit_wq, &lane->engine->sched.work_free_job);
#elif !K(6, 8)
	wake_up_interruptible(&lane->engine->sched.wake_up_worker);
#endif
	return stat;
}

static void vgpu_free_job(struct drm_sched_job *sj)
{
	struct vgpu_job *job = to_job(sj);
	struct vgpu *gpu = job->engine->gpu;

	if (gpu->is_i915 && job->hw_live)	/* late, when somebody cleans up, as the real one's */
		trace_i915_request_retire(job);
	trace_xe(gpu, sched_job_free, job);
	drm_sched_job_cleanup(sj);
	if (job->hw_live)
		dma_fence_put(&job->hw->base);
	else
		kfree(job->hw);		/* the hardware never saw it: its entity was killed, or run_job failed */
	vgpu_file_put(job->file);
	kfree(job);
	vgpu_untouch(gpu);
	/* Under the queue's lock: whoever waits frees the GPU right after. */
	spin_lock_irq(&gpu->jobs_gone.lock);
	if (atomic_dec_and_test(&gpu->live_jobs))
		wake_up_locked(&gpu->jobs_gone);
	spin_unlock_irq(&gpu->jobs_gone.lock);
}

/* before a job runs and once it has nothing to wait for any more: amdgpu_job_prepare_job, amdgpu_job_dependency */
static struct dma_fence *vgpu_prepare(struct drm_sched_job *sj, struct drm_sched_entity *entity)
{
	struct vgpu_job *job = to_job(sj);

	if (job->engine->gpu->is_amd)
		trace_amdgpu_vm_grab_id(job);
	return NULL;
}

static const struct drm_sched_backend_ops vgpu_sched_ops = {
#if K(6, 4)	/* its name before is 6.1's */
	.prepare_job = vgpu_prepare,
#else
	.dependency = vgpu_prepare,
#endif
	.run_job = vgpu_run_job, .timedout_job = vgpu_timedout, .free_job = vgpu_free_job,
};

int vgpu_engines_init(struct vgpu *gpu)
{
	long timeout = vgpu_timeout_ms ? msecs_to_jiffies(vgpu_timeout_ms) : MAX_SCHEDULE_TIMEOUT;
	int i, k, ret;

	for (i = 0; i < gpu->ident->nengines; i++) {
		struct vgpu_engine *e = &gpu->engines[i];

		e->gpu = gpu;
		e->desc = &gpu->ident->engines[i];
		e->gt = gpu->gts > 1 && e->desc->media;
		spin_lock_init(&e->fence_lock);
		e->fence_context = dma_fence_context_alloc(1);
		for (k = 0; k < VGPU_LANES; k++) {
			struct vgpu_lane *lane = &e->lanes[k];

			lane->engine = e;
			INIT_LIST_HEAD(&lane->queue);
#if K(6, 15)
			hrtimer_setup(&lane->timer, lane_irq, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#else
			hrtimer_init(&lane->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
			lane->timer.function = lane_irq;
#endif
		}
		strscpy(e->name, e->desc->name, sizeof(e->name));
#if K(6, 15) || !K(6, 2)	/* Debian's 6.1 carries the argument struct too */
		{
			struct drm_sched_init_args args = {
				.ops = &vgpu_sched_ops, .credit_limit = vgpu_credits,
#if K(6, 15)
				.num_rqs = DRM_SCHED_PRIORITY_COUNT,
#endif
				.timeout = timeout, .name = e->name, .dev = gpu->dev,
			};
			ret = drm_sched_init(&e->sched, &args);
		}
#elif K(6, 8)
		ret = drm_sched_init(&e->sched, &vgpu_sched_ops, NULL, DRM_SCHED_PRIORITY_COUNT, vgpu_credits, 0,
				     timeout, NULL, NULL, e->name, gpu->dev);
#else
		ret = drm_sched_init(&e->sched, &vgpu_sched_ops, vgpu_credits, 0, timeout, NULL, NULL, e->name, gpu->dev);
#endif
		if (ret)
			return ret;
		e->sched_up = true;
	}
	return 0;
}

/* Last user gone (no file, no event): the scheduler may still be freeing finished jobs. */
void vgpu_engines_fini(struct vgpu *gpu)
{
	unsigned int i;

	wait_event(gpu->jobs_gone, !atomic_read(&gpu->live_jobs));
	spin_lock_irq(&gpu->jobs_gone.lock);	/* the waker is out of it */
	spin_unlock_irq(&gpu->jobs_gone.lock);
	for (i = 0; i < gpu->ident->nengines; i++)
		if (gpu->engines[i].sched_up)
			drm_sched_fini(&gpu->engines[i].sched);
}
