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
#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/kref.h>
#include <linux/math64.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/gpu_scheduler.h>
#include "vgpu_uapi.h"

#define K(a, b) (LINUX_VERSION_CODE >= KERNEL_VERSION(a, b, 0))
#define VGPU_GTS 2

extern bool vgpu_force;
extern unsigned int vgpu_pmu_cpu;

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

/* an engine instance: i915 name, fdinfo class of i915 and of xe, uabi class */
struct vgpu_engine_desc { const char *name, *fdclass, *xeclass; u8 class, instance; bool media; };
extern const struct vgpu_engine_desc vgpu_engine_descs[VGPU_ENGINES];

struct vgpu_ident {
	const char *name, *driver;
	u16 device;
	bool is_xe, discrete;
	u8 gts;
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
	u64 last_end;			/* the latest end of any job */
	unsigned int forcewake;		/* references held by xe PMU events */
	u32 act_mhz, req_mhz;
	u64 act_acc, req_acc, mark;	/* MHz*ns until the awake time "mark" */
	u32 min_mhz, max_mhz, boost_mhz, rp0_mhz, rp1_mhz, rpn_mhz, rpe_mhz;
	u32 throttle;			/* bits of enum vgpu_throttle */
};

struct vgpu_engine {
	struct vgpu *gpu;
	const struct vgpu_engine_desc *desc;
	u8 gt;
	struct drm_gpu_scheduler sched;
	bool sched_up;
	struct hrtimer timer;
	spinlock_t fence_lock;
	u64 fence_context;
	atomic_t seqno;
	char name[16];
	/* the rest under vgpu.lock */
	struct list_head queue;		/* jobs handed to the hardware */
	struct vgpu_job *running;
	struct vgpu_span busy;
	u64 jobs;
	u64 wait_acc, sema_acc, mark;	/* wait and sema time until the busy time "mark" */
};

struct vgpu_pmu;
struct vgpu_kobj;

struct vgpu {
	struct drm_device drm;
	struct pci_dev *pdev;
	const struct vgpu_ident *ident;
	bool is_xe, discrete;
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
	struct dentry *truth, *set;
};

struct vgpu_file {
	struct vgpu *gpu;
	struct drm_sched_entity entities[VGPU_ENGINES];
	u64 busy_ns[VGPU_ENGINES];	/* of finished jobs, under vgpu.lock */
	atomic64_t mem[2];		/* system, local */
	u64 client_id;			/* kernels before 6.5 only */
	struct kref ref;
};

struct vgpu_fence { struct dma_fence base; struct vgpu_engine *engine; };

struct vgpu_job {
	struct drm_sched_job base;
	struct vgpu_engine *engine;
	struct vgpu_file *file;
	struct vgpu_fence *hw;
	bool hw_live;			/* the fence was initialised: drop it, do not free it */
	u64 duration_ns, started_ns;
	struct list_head link;
};

static inline struct vgpu *to_vgpu(struct drm_device *d) { return container_of(d, struct vgpu, drm); }

/* vgpu_main.c: a runtime PM reference as the real driver takes it for an access; counts it */
void vgpu_touch(struct vgpu *gpu);
void vgpu_untouch(struct vgpu *gpu);
void vgpu_job_power(struct vgpu *gpu);

/* vgpu_engine.c */
int vgpu_engines_init(struct vgpu *gpu);
void vgpu_engines_fini(struct vgpu *gpu);
void vgpu_engines_kill(struct vgpu *gpu);
void vgpu_file_put(struct vgpu_file *vf);
/* the following with vgpu.lock held */
u64 vgpu_gt_rc6(struct vgpu *gpu, int gt, u64 now);
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
