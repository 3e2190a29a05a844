/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vgpu - a virtual GPU for testing GPU observability tools on stock kernels.
 *
 * It binds to PCI test devices, takes the identity of a real driver and runs
 * jobs of known length through the real DRM scheduler, so fdinfo, the PMU,
 * sysfs, hwmon and the scheduler's tracepoints carry a known truth.
 */
#ifndef VGPU_H
#define VGPU_H
#include <linux/version.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/kref.h>
#include <linux/math64.h>
#include <linux/mutex.h>
#include <linux/pm_runtime.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/gpu_scheduler.h>
#include "vgpu_uapi.h"

#define K(a, b) (LINUX_VERSION_CODE >= KERNEL_VERSION(a, b, 0))
#define VGPU_GTS 2
#define VGPU_XE_EVENTS K(6, 8)	/* the real driver's; records are laid out at build time, so "force" adds none */

extern bool vgpu_force;
extern unsigned int vgpu_pmu_cpu, vgpu_timeout_ms, vgpu_credits, vgpu_log_jobs;

/* What the real drivers offer from which kernel on; "force" offers it everywhere. */
static inline bool vgpu_has_xe(void) { return K(6, 8) || vgpu_force; }
static inline bool vgpu_has_xe_pmu(void) { return K(6, 15) || vgpu_force; }
static inline bool vgpu_has_i915_hwmon(void) { return K(6, 2) || vgpu_force; }
static inline bool vgpu_has_i915_fan(void) { return K(6, 12) || vgpu_force; }
static inline bool vgpu_has_i915_temp(void) { return K(6, 13) || vgpu_force; }
static inline bool vgpu_has_i915_meminfo(void) { return K(6, 7) || vgpu_force; }
static inline bool vgpu_has_gt_events(void) { return K(6, 5) || vgpu_force; }
static inline bool vgpu_has_xe_sensors(void) { return K(6, 16) || vgpu_force; }	/* temperatures, fans */
static inline bool vgpu_has_xe_reasons(void) { return K(6, 19) || vgpu_force; }	/* throttle/reasons, rpa_freq */
static inline bool vgpu_has_panthor(void) { return K(6, 10) || vgpu_force; }
static inline bool vgpu_has_panthor_fdinfo(void) { return K(6, 13) || vgpu_force; }

/* an engine instance: i915 name, fdinfo class of i915 and of xe, uabi class */
struct vgpu_engine_desc { const char *name, *fdclass, *xeclass; u8 class, instance; bool media; };
extern const struct vgpu_engine_desc vgpu_engine_descs[VGPU_ENGINES], vgpu_amd_descs[VGPU_ENGINES], vgpu_panthor_descs[1];

/* a memory region in the order that fdinfo prints them: its name, its number in the books, and which optional keys it has */
#define MEM_RESIDENT 1	/* these three as in enum drm_gem_object_status, which 6.1 lacks */
#define MEM_PURGEABLE 2
#define MEM_ACTIVE 4
struct vgpu_region { const char *name; u8 slot, keys; };

enum vgpu_kind { KIND_I915, KIND_XE, KIND_AMDGPU, KIND_PANTHOR };
struct vgpu_ident {
	const char *name, *driver;
	u16 vendor, device;
	enum vgpu_kind kind;
	bool discrete;
	u8 gts;
	const struct vgpu_engine_desc *engines;
	u8 nengines;
	const struct vgpu_region *regions;	/* ended by one without a name */
};

struct vgpu;

/*
 * The union of time intervals whose starts never go back. An interval may end
 * in the future: a job's length is known when it starts, so the union is exact
 * however late the timer that ends the job is.
 */
struct vgpu_span { u64 acc, start, end; };

static inline u64 span_total(const struct vgpu_span *s, u64 now)
{
	return s->acc + (min(now, s->end) - s->start);
}

static inline bool span_active(const struct vgpu_span *s, u64 now) { return now < s->end; }

static inline void span_add(struct vgpu_span *s, u64 from, u64 to)
{
	if (from <= s->end) {
		s->end = max(s->end, to);
		return;
	}
	s->acc += s->end - s->start;
	s->start = from;
	s->end = to;
}

/* end an interval early; never before it began */
static inline void span_cut(struct vgpu_span *s, u64 at) { s->end = min(s->end, max(at, s->start)); }

enum vgpu_throttle { THR_PL1, THR_PL2, THR_PL4, THR_THERMAL, THR_PROCHOT, THR_RATL, THR_VR_THERMALERT, THR_VR_TDC, THR_COUNT };
extern const char *const vgpu_throttle_names[THR_COUNT];

/* A GT: everything here is under vgpu.lock. */
struct vgpu_gt {
	struct vgpu_span awake;		/* union of its jobs and of forcewake: not RC6/C6 */
	unsigned int forcewake;		/* references held by xe PMU events */
	u32 act_mhz, req_mhz;
	u64 act_acc, req_acc, mark;	/* MHz*ns until the awake time "mark" */
	u32 min_mhz, max_mhz, boost_mhz, rp0_mhz, rp1_mhz, rpn_mhz, rpe_mhz;
	u32 throttle;			/* bits of enum vgpu_throttle */
};

/* What runs one job at a time. Lane 0 is the engine as it was always; lane 1 takes jobs that run beside it. */
#define VGPU_LANES 2
struct vgpu_lane {
	struct vgpu_engine *engine;
	struct hrtimer timer;
	/* the rest under vgpu.lock */
	struct list_head queue;		/* jobs handed to the hardware */
	struct vgpu_job *running;
};

struct vgpu_engine {
	struct vgpu *gpu;
	const struct vgpu_engine_desc *desc;
	u8 gt;
	struct drm_gpu_scheduler sched;
	bool sched_up;
	struct vgpu_lane lanes[VGPU_LANES];
	spinlock_t fence_lock;
	u64 fence_context;
	atomic_t seqno;
	char name[16];
	/* the rest under vgpu.lock */
	struct vgpu_span busy;
	u64 jobs;
	u64 wait_acc, sema_acc, mark;	/* wait and sema time until the busy time "mark" */
};

struct vgpu_pmu;
struct vgpu_kobj;

struct vgpu {
	struct drm_device drm;
	struct device *dev;
	struct pci_dev *pdev;		/* NULL for a platform device */
	const struct vgpu_ident *ident;
	bool is_xe, is_i915, is_amd, discrete;
	unsigned int gts;
	raw_spinlock_t lock;		/* PMU reads come with interrupts off and raw locks held */
	bool dead;			/* unplugged: nothing runs any more */
	struct vgpu_engine engines[VGPU_ENGINES];
	struct vgpu_gt gt[VGPU_GTS];
	u64 born_ns;
	u32 wait_permille, sema_permille;
	u32 temp_mc, vram_temp_mc, fan_rpm;
	atomic64_t irqs;
	atomic_t live_jobs;
	wait_queue_head_t jobs_gone;
	/* runtime power management's books */
	atomic64_t waking_accesses, touches, job_wakes, suspends, resumes;
	atomic_t pmu_events, pmu_sampling_events, pmu_forcewake_events;
	struct vgpu_pmu *pmu;
	struct device *hwmon;
	struct vgpu_kobj *dirs[24];
	unsigned int ndirs;
	struct dentry *truth, *set, *clients_file, *jobs_file;
	atomic_t guc_ids;
	struct rw_semaphore log_sem;	/* held to write while the log is replaced */
	struct vgpu_joblog *joblog;
	u32 profiling;			/* panthor: which counters fdinfo prints */
	struct vgpu_amd *amd;
	/* under vgpu.lock */
	struct list_head clients, bos;
	u32 last_bo, nclients;
	u64 gone_ns[VGPU_ENGINES];	/* busy time of clients that are no more */
};

/* a buffer, and a client's hold on one; all under vgpu.lock */
struct vgpu_bo { struct list_head link; u64 bytes; u32 region, flags, name, users; };
struct vgpu_hold { struct list_head link; struct vgpu_bo *bo; };
struct vgpu_mem { u64 own, shared, resident, purgeable, active; };	/* the total is own and shared */

/* A queue of jobs on one engine. The drivers whose fence counts by queue (i915, xe) take its context and next seqno. */
struct vgpu_queue {
	struct drm_sched_entity entity;
	u64 fence_context;
	u32 seqno;			/* under vgpu_file.submit_lock */
	u16 guc_id;			/* 0 until its first job */
};
struct vgpu_context { struct vgpu_queue queues[VGPU_ENGINES]; };

struct vgpu_file {
	struct vgpu *gpu;
	struct mutex submit_lock;	/* a queue's jobs are armed and pushed in one order */
	struct vgpu_context *contexts[VGPU_CONTEXTS];	/* made when first used */
	u64 busy_ns[VGPU_ENGINES];	/* of finished jobs, under vgpu.lock */
	u64 client_id;
	u32 pasid;
	pid_t pid;			/* the process that opened it */
	struct kref ref;
	/* under vgpu.lock */
	struct list_head link, holds;
	bool closed;			/* its jobs may still run */
	char name[65];
};

struct vgpu_fence { struct dma_fence base; struct vgpu_engine *engine; };

struct vgpu_job {
	struct drm_sched_job base;
	struct vgpu_engine *engine;
	struct vgpu_file *file;
	struct vgpu_queue *queue;	/* lives as long as its file, which the job holds */
	struct vgpu_lane *lane;
	struct vgpu_fence *hw;
	bool hw_live;			/* the fence was initialised: drop it, do not free it */
	u64 duration_ns, started_ns;	/* a job that hangs is U64_MAX long */
	u32 flags;			/* VGPU_EXEC_ */
	struct vgpu_logged *log;	/* its line in the log, or NULL */
	struct list_head link;
};

/* what a wait's events say of its job, which may be freed meanwhile */
struct vgpu_waited { struct vgpu_engine *engine; u64 context, seqno; };

/* when the job ends by itself, never for one that hangs */
static inline u64 job_end(const struct vgpu_job *job)
{
	return job->duration_ns == U64_MAX ? U64_MAX : job->started_ns + job->duration_ns;
}

static inline struct vgpu *to_vgpu(struct drm_device *d) { return container_of(d, struct vgpu, drm); }

/* vgpu_main.c: a runtime PM reference as the real driver takes it for an access; counts it */
void vgpu_touch(struct vgpu *gpu);
void vgpu_untouch(struct vgpu *gpu);
void vgpu_job_power(struct vgpu *gpu);

/* vgpu_submit.c */
int vgpu_submit(struct drm_device *d, void *data, struct drm_file *file);
int vgpu_exec(struct drm_device *d, void *data, struct drm_file *file);
int vgpu_wait(struct drm_device *d, void *data, struct drm_file *file);
struct vgpu_context *vgpu_context_get(struct vgpu_file *vf, u32 number);
void vgpu_contexts_destroy(struct vgpu_file *vf);

/* vgpu_joblog.c: every job, if asked for */
struct vgpu_logged {
	u64 context, seqno, client;
	u64 submit_ns, run_ns, start_ns, end_ns, due_ns, signalled_ns;
	u64 hw_context, hw_seqno;
	struct { u64 context, seqno; } deps[VGPU_DEPS];
	struct dma_fence_cb signalled;
	struct vgpu_joblog *log;
	pid_t tgid, tid;
	int status;
	u8 engine, ndeps, flags, ready;
	u32 number;			/* of its context */
	char comm[TASK_COMM_LEN];
};
int vgpu_joblog_resize(struct vgpu *gpu, u32 entries);
void vgpu_joblog_fini(struct vgpu *gpu);
/* with log_sem held to read; NULL without a log, or when it is full */
struct vgpu_logged *vgpu_joblog_add(struct vgpu *gpu, struct vgpu_file *vf, struct dma_fence *finished);
extern const struct file_operations vgpu_jobs_fops;

/* vgpu_engine.c */
void vgpu_hw_fence_init(struct vgpu_job *job, u64 context, u64 seqno);
int vgpu_engines_init(struct vgpu *gpu);
void vgpu_engines_fini(struct vgpu *gpu);
void vgpu_engines_kill(struct vgpu *gpu);
/* the following with vgpu.lock held */
u64 vgpu_gt_rc6(struct vgpu *gpu, int gt, u64 now);
void vgpu_gt_recut(struct vgpu *gpu, unsigned int gt, u64 now);
u64 vgpu_gt_integral(struct vgpu_gt *gt, bool requested, u64 now);
void vgpu_gt_settle(struct vgpu_gt *gt, u64 now);
void vgpu_engine_settle(struct vgpu_engine *e, u64 now);
u64 vgpu_engine_sampled(struct vgpu_engine *e, bool sema, u64 now);
u64 vgpu_energy_uj(struct vgpu *gpu, int channel, u64 now);
void vgpu_forcewake_get(struct vgpu *gpu, int gt);
void vgpu_forcewake_put(struct vgpu *gpu, int gt);

static inline bool vgpu_gt_awake(struct vgpu *gpu, int gt, u64 now) { return span_active(&gpu->gt[gt].awake, now); }
static inline bool vgpu_in_use(struct vgpu *gpu, u64 now)
{
	unsigned int i;

	for (i = 0; i < gpu->gts; i++)
		if (vgpu_gt_awake(gpu, i, now))
			return true;
	return false;
}

/* vgpu_client.c */
struct drm_printer;
struct vgpu_file *vgpu_file_new(struct vgpu *gpu, struct drm_file *file);
void vgpu_file_close(struct vgpu_file *vf);
void vgpu_file_put(struct vgpu_file *vf);
int vgpu_alloc(struct drm_device *d, void *data, struct drm_file *file);
int vgpu_import(struct drm_device *d, void *data, struct drm_file *file);
int vgpu_free(struct drm_device *d, void *data, struct drm_file *file);
int vgpu_set_name(struct drm_device *d, void *data, struct drm_file *file);
int vgpu_client(struct drm_device *d, void *data, struct drm_file *file);
void vgpu_fdinfo(struct drm_printer *p, struct drm_file *file);
/* the following with vgpu.lock held */
u64 vgpu_file_busy(struct vgpu_file *vf, int engine, u64 now);
void vgpu_file_memory(struct vgpu_file *vf, struct vgpu_mem mem[VGPU_REGIONS]);
u64 vgpu_memory_used(struct vgpu *gpu, u32 region);

/* vgpu_amd.c */
int vgpu_amd_register(struct vgpu *gpu);
void vgpu_amd_unregister(struct vgpu *gpu);

/* vgpu_pmu.c */
int vgpu_pmu_setup(void);
int vgpu_pmu_register(struct vgpu *gpu);
void vgpu_pmu_unregister(struct vgpu *gpu);
const char *vgpu_pmu_name(struct vgpu *gpu);

/* vgpu_sysfs.c, vgpu_hwmon.c, vgpu_truth.c */
int vgpu_sysfs_register(struct vgpu *gpu);
void vgpu_sysfs_unregister(struct vgpu *gpu);
int vgpu_hwmon_register(struct vgpu *gpu);
void vgpu_hwmon_unregister(struct vgpu *gpu);
void vgpu_truth_register(struct vgpu *gpu);
void vgpu_truth_unregister(struct vgpu *gpu);
#endif
