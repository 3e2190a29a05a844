// SPDX-License-Identifier: GPL-2.0
/* A client: an open file, its buffers and its busy time, and what the drivers' fdinfo says of it. */
#include <linux/uaccess.h>
#include <drm/drm_gem.h>
#include <drm/drm_print.h>
#include "vgpu.h"

/* ---- the books ---- */
struct vgpu_file *vgpu_file_new(struct vgpu *gpu, struct drm_file *file)
{
	struct vgpu_file *vf = kzalloc(sizeof(*vf), GFP_KERNEL);
	static atomic_t pasid = ATOMIC_INIT(0x8000);
	unsigned long flags;

	if (!vf)
		return NULL;
	kref_init(&vf->ref);
	INIT_LIST_HEAD(&vf->holds);
	mutex_init(&vf->submit_lock);
	vf->gpu = gpu;
#if K(6, 5)
	vf->client_id = file->client_id;
#else
	{
		static atomic64_t next = ATOMIC64_INIT(0);

		vf->client_id = atomic64_inc_return(&next);
	}
#endif
	vf->pasid = atomic_inc_return(&pasid);
	vf->pid = task_tgid_nr(current);
	raw_spin_lock_irqsave(&gpu->lock, flags);
	list_add_tail(&vf->link, &gpu->clients);
	gpu->nclients++;
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	return vf;
}

static void file_free(struct kref *ref)
{
	struct vgpu_file *vf = container_of(ref, struct vgpu_file, ref);
	struct vgpu *gpu = vf->gpu;
	unsigned long flags;
	int i;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	list_del(&vf->link);
	gpu->nclients--;
	for (i = 0; i < gpu->ident->nengines; i++)
		gpu->gone_ns[i] += vf->busy_ns[i];
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	for (i = 0; i < VGPU_CONTEXTS; i++)
		kfree(vf->contexts[i]);
	kfree(vf);
}

void vgpu_file_put(struct vgpu_file *vf) { kref_put(&vf->ref, file_free); }

/* with vgpu.lock held; the buffer to free, if this was its last hold */
static struct vgpu_bo *drop_hold(struct vgpu_hold *hold)
{
	struct vgpu_bo *bo = hold->bo;

	list_del(&hold->link);
	if (--bo->users)
		return NULL;
	list_del(&bo->link);
	return bo;
}

/* The last descriptor was closed: its buffers go, its jobs may still run. */
void vgpu_file_close(struct vgpu_file *vf)
{
	struct vgpu *gpu = vf->gpu;
	unsigned long flags;

	for (;;) {
		struct vgpu_hold *hold;
		struct vgpu_bo *bo = NULL;

		raw_spin_lock_irqsave(&gpu->lock, flags);
		vf->closed = true;
		hold = list_first_entry_or_null(&vf->holds, struct vgpu_hold, link);
		if (hold)
			bo = drop_hold(hold);
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
		if (!hold)
			break;
		kfree(hold);
		kfree(bo);
	}
	vgpu_file_put(vf);
}

u64 vgpu_file_busy(struct vgpu_file *vf, int engine, u64 now)
{
	u64 busy = vf->busy_ns[engine];
	int i;

	for (i = 0; i < VGPU_LANES; i++) {
		struct vgpu_job *job = vf->gpu->engines[engine].lanes[i].running;

		if (job && job->file == vf)
			busy += min(now - job->started_ns, job->duration_ns);
	}
	return busy;
}

void vgpu_file_memory(struct vgpu_file *vf, struct vgpu_mem mem[VGPU_REGIONS])
{
	struct vgpu_hold *hold;

	memset(mem, 0, sizeof(*mem) * VGPU_REGIONS);
	list_for_each_entry(hold, &vf->holds, link) {
		struct vgpu_bo *bo = hold->bo;
		struct vgpu_mem *m = &mem[bo->region];

		if (bo->users > 1)
			m->shared += bo->bytes;
		else
			m->own += bo->bytes;
		if (!(bo->flags & VGPU_ALLOC_LAZY))
			m->resident += bo->bytes;
		if (bo->flags & VGPU_ALLOC_ACTIVE)
			m->active += bo->bytes;
		else if (bo->flags & VGPU_ALLOC_PURGEABLE && !(bo->flags & VGPU_ALLOC_LAZY))
			m->purgeable += bo->bytes;	/* as the core counts: resident and not active */
	}
}

/* what the device gave out, a shared buffer once */
u64 vgpu_memory_used(struct vgpu *gpu, u32 region)
{
	struct vgpu_bo *bo;
	u64 used = 0;

	list_for_each_entry(bo, &gpu->bos, link)
		if (bo->region == region && !(bo->flags & VGPU_ALLOC_LAZY))
			used += bo->bytes;
	return used;
}

/* ---- ioctls; every one of xe and amdgpu takes a runtime PM reference ---- */
static void ioctl_power(struct vgpu *gpu)
{
	if (!gpu->is_xe && !gpu->is_amd)
		return;
	vgpu_touch(gpu);
	vgpu_untouch(gpu);
}

static bool has_region(struct vgpu *gpu, u32 region)
{
	const struct vgpu_region *r;

	for (r = gpu->ident->regions; r->name; r++)
		if (r->slot == region)
			return true;
	return false;
}

int vgpu_alloc(struct drm_device *d, void *data, struct drm_file *file)
{
	struct vgpu *gpu = to_vgpu(d);
	struct vgpu_file *vf = file->driver_priv;
	struct drm_vgpu_alloc *args = data;
	struct vgpu_hold *hold;
	struct vgpu_bo *bo;
	unsigned long flags;
	int idx;

	if (!has_region(gpu, args->region) || args->flags & ~(VGPU_ALLOC_LAZY | VGPU_ALLOC_PURGEABLE | VGPU_ALLOC_ACTIVE))
		return -EINVAL;
	if (!drm_dev_enter(d, &idx))
		return -ENODEV;
	ioctl_power(gpu);
	hold = kzalloc(sizeof(*hold), GFP_KERNEL);
	bo = kzalloc(sizeof(*bo), GFP_KERNEL);
	if (hold && bo) {
		bo->bytes = args->bytes;
		bo->region = args->region;
		bo->flags = args->flags;
		bo->users = 1;
		hold->bo = bo;
		raw_spin_lock_irqsave(&gpu->lock, flags);
		args->name = bo->name = ++gpu->last_bo;
		list_add_tail(&bo->link, &gpu->bos);
		list_add_tail(&hold->link, &vf->holds);
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
	} else {
		kfree(hold);
		kfree(bo);
		hold = NULL;
	}
	drm_dev_exit(idx);
	return hold ? 0 : -ENOMEM;
}

int vgpu_import(struct drm_device *d, void *data, struct drm_file *file)
{
	struct vgpu *gpu = to_vgpu(d);
	struct vgpu_file *vf = file->driver_priv;
	struct drm_vgpu_name *args = data;
	struct vgpu_hold *hold = kzalloc(sizeof(*hold), GFP_KERNEL);
	struct vgpu_bo *bo;
	unsigned long flags;
	int idx;

	if (!hold)
		return -ENOMEM;
	if (!drm_dev_enter(d, &idx)) {
		kfree(hold);
		return -ENODEV;
	}
	ioctl_power(gpu);
	raw_spin_lock_irqsave(&gpu->lock, flags);
	list_for_each_entry(bo, &gpu->bos, link)
		if (bo->name == args->name) {
			bo->users++;
			hold->bo = bo;
			list_add_tail(&hold->link, &vf->holds);
			break;
		}
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	drm_dev_exit(idx);
	if (hold->bo)
		return 0;
	kfree(hold);
	return -ENOENT;
}

int vgpu_free(struct drm_device *d, void *data, struct drm_file *file)
{
	struct vgpu *gpu = to_vgpu(d);
	struct vgpu_file *vf = file->driver_priv;
	struct drm_vgpu_name *args = data;
	struct vgpu_hold *hold, *found = NULL;
	struct vgpu_bo *bo = NULL;
	unsigned long flags;

	ioctl_power(gpu);
	raw_spin_lock_irqsave(&gpu->lock, flags);
	list_for_each_entry(hold, &vf->holds, link)
		if (hold->bo->name == args->name) {
			found = hold;
			break;
		}
	if (found)
		bo = drop_hold(found);
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	kfree(found);
	kfree(bo);
	return found ? 0 : -ENOENT;
}

int vgpu_set_name(struct drm_device *d, void *data, struct drm_file *file)
{
	struct vgpu_file *vf = file->driver_priv;
	struct drm_vgpu_client_name *args = data;
	unsigned long flags;
	char *name;

	if (!args->len || args->len >= sizeof(vf->name))
		return -EINVAL;
	name = memdup_user_nul(u64_to_user_ptr(args->text), args->len);
	if (IS_ERR(name))
		return PTR_ERR(name);
	raw_spin_lock_irqsave(&vf->gpu->lock, flags);
	strscpy(vf->name, name, sizeof(vf->name));
	raw_spin_unlock_irqrestore(&vf->gpu->lock, flags);
#if K(6, 14)	/* the core's fdinfo prints it; its own ioctl refuses spaces, its printer does not care */
	mutex_lock(&file->client_name_lock);
	swap(*(char **)&file->client_name, name);
	mutex_unlock(&file->client_name_lock);
#endif
	kfree(name);
	return 0;
}

int vgpu_client(struct drm_device *d, void *data, struct drm_file *file)
{
	((struct drm_vgpu_client *)data)->id = ((struct vgpu_file *)file->driver_priv)->client_id;
	return 0;
}

/* ---- fdinfo, in the keys that the real driver of this identity prints ---- */
#if !K(6, 5)
static void print_size(struct drm_printer *p, const char *stat, const char *region, u64 bytes)
{
	static const char *const units[] = { "", " KiB", " MiB" };
	int u = 0;

	while (u < 2 && bytes && !(bytes % 1024)) {
		bytes /= 1024;
		u++;
	}
	drm_printf(p, "drm-%s-%s:\t%llu%s\n", stat, region, bytes, units[u]);
}
#endif

static void fdinfo_region(struct drm_printer *p, const struct vgpu_region *r, const struct vgpu_mem *m)
{
#if K(6, 5)
	struct drm_memory_stats stats = {
		.shared = m->shared, .private = m->own, .resident = m->resident, .purgeable = m->purgeable, .active = m->active,
	};

	drm_print_memory_stats(p, &stats, r->keys, r->name);
#else	/* with "force" only: no driver of these kernels prints them */
	print_size(p, "total", r->name, m->own + m->shared);
	print_size(p, "shared", r->name, m->shared);
	print_size(p, "active", r->name, m->active);
	if (r->keys & MEM_RESIDENT)
		print_size(p, "resident", r->name, m->resident);
	if (r->keys & MEM_PURGEABLE)
		print_size(p, "purgeable", r->name, m->purgeable);
#endif
}

static void fdinfo_memory(struct drm_printer *p, struct vgpu *gpu, const struct vgpu_mem *mem)
{
	const struct vgpu_region *r;

	for (r = gpu->ident->regions; r->name; r++)
		fdinfo_region(p, r, &mem[r->slot]);
}

/* amdgpu_fdinfo.c: 6.1 has three sums of placement; 6.12 adds evicted, requested and shared; 7.2 has the core's keys too */
static void fdinfo_amd_memory(struct drm_printer *p, struct vgpu *gpu, const struct vgpu_mem *mem)
{
	const struct vgpu_mem *vram = &mem[VGPU_REGION_LOCAL], *gtt = &mem[VGPU_REGION_SYSTEM], *cpu = &mem[VGPU_REGION_OTHER];
	static const struct vgpu_mem none;

	if (K(6, 13) || vgpu_force) {
		static const char *const empty[] = { "gds", "gws", "oa", "doorbell", "mmioremap" };
		int i;

		fdinfo_memory(p, gpu, mem);
		for (i = 0; i < ARRAY_SIZE(empty); i++)
			fdinfo_region(p, &(struct vgpu_region){ empty[i], 3, MEM_RESIDENT | MEM_PURGEABLE }, &none);
	}
	drm_printf(p, "drm-memory-vram:\t%llu KiB\n", vram->resident / 1024);
	drm_printf(p, "drm-memory-gtt: \t%llu KiB\n", gtt->resident / 1024);
	drm_printf(p, "drm-memory-cpu: \t%llu KiB\n", cpu->resident / 1024);
	if (!K(6, 4) && !vgpu_force)
		return;
	if (!K(6, 13))
		drm_printf(p, "amd-memory-visible-vram:\t%llu KiB\n", vram->resident / 1024);
	drm_printf(p, "amd-evicted-vram:\t0 KiB\n");
	if (!K(6, 13))
		drm_printf(p, "amd-evicted-visible-vram:\t0 KiB\n");
	drm_printf(p, "amd-requested-vram:\t%llu KiB\n", (vram->own + vram->shared) / 1024);
	if (!K(6, 13))
		drm_printf(p, "amd-requested-visible-vram:\t0 KiB\n");
	drm_printf(p, "amd-requested-gtt:\t%llu KiB\n", (gtt->own + gtt->shared) / 1024);
	if (!K(6, 13) && K(6, 6)) {
		drm_printf(p, "drm-shared-vram:\t%llu KiB\n", vram->shared / 1024);
		drm_printf(p, "drm-shared-gtt:\t%llu KiB\n", gtt->shared / 1024);
		drm_printf(p, "drm-shared-cpu:\t%llu KiB\n", cpu->shared / 1024);
	}
}

static void fdinfo_intel_engines(struct drm_printer *p, struct vgpu *gpu, const u64 *busy, u64 now)
{
	int i, n, cap;

	for (i = 0; i < gpu->ident->nengines; i += cap) {
		const struct vgpu_engine_desc *desc = &gpu->ident->engines[i];
		const char *name = gpu->is_xe ? desc->xeclass : desc->fdclass;
		u64 sum = 0;

		for (n = i; n < gpu->ident->nengines && gpu->ident->engines[n].class == desc->class; n++)
			sum += busy[n];
		cap = n - i;
		if (gpu->is_xe) {
			/* 19.2 MHz ticks, as a Battlemage reports */
			drm_printf(p, "drm-cycles-%s:\t%llu\n", name, mul_u64_u32_div(sum, 192, 10000));
			drm_printf(p, "drm-total-cycles-%s:\t%llu\n", name, mul_u64_u32_div(now - gpu->born_ns, 192, 10000));
		} else {
			drm_printf(p, "drm-engine-%s:\t%llu ns\n", name, sum);
		}
		if (cap > 1)
			drm_printf(p, "drm-engine-capacity-%s:\t%d\n", name, cap);
	}
}

/* panthor_drv.c: engine and cycles only while sysfs "profiling" asks for them; the GPU runs at its set frequency */
static void fdinfo_panthor_engine(struct drm_printer *p, struct vgpu *gpu, u64 busy)
{
	struct vgpu_gt *gt = &gpu->gt[0];

	if (gpu->profiling & 2)
		drm_printf(p, "drm-engine-panthor:\t%llu ns\n", busy);
	if (gpu->profiling & 1)
		drm_printf(p, "drm-cycles-panthor:\t%llu\n", mul_u64_u32_div(busy, gt->act_mhz, 1000));
	drm_printf(p, "drm-maxfreq-panthor:\t%lu Hz\n", gt->rp0_mhz * 1000000ul);
	drm_printf(p, "drm-curfreq-panthor:\t%lu Hz\n", gt->act_mhz * 1000000ul);
	drm_printf(p, "panthor-resident-memory:\t0\npanthor-active-memory:\t0\n");
}

static void fdinfo_amd_engines(struct drm_printer *p, struct vgpu *gpu, const u64 *busy)
{
	int i;

	for (i = 0; i < gpu->ident->nengines; i++)
		if (busy[i])
			drm_printf(p, "drm-engine-%s:\t%lld ns\n", gpu->ident->engines[i].fdclass, busy[i]);
}

void vgpu_fdinfo(struct drm_printer *p, struct drm_file *file)
{
	struct vgpu_file *vf = file->driver_priv;
	struct vgpu *gpu = vf->gpu;
	struct vgpu_mem mem[VGPU_REGIONS];
	u64 busy[VGPU_ENGINES], now;
	unsigned long flags;
	bool here;
	int i, idx;

	here = drm_dev_enter(&gpu->drm, &idx);
	if (here && gpu->is_xe)		/* xe reads a timestamp register for its cycles: it wakes the device */
		vgpu_touch(gpu);
	raw_spin_lock_irqsave(&gpu->lock, flags);
	now = ktime_get_ns();
	for (i = 0; i < gpu->ident->nengines; i++)
		busy[i] = vgpu_file_busy(vf, i, now);
	vgpu_file_memory(vf, mem);
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	switch (gpu->ident->kind) {
	case KIND_AMDGPU:
		if (K(6, 5))	/* the first line of all before: vgpu_main.c */
			drm_printf(p, "pasid:\t%u\n", vf->pasid);
		fdinfo_amd_memory(p, gpu, mem);
		if (here)
			fdinfo_amd_engines(p, gpu, busy);
		break;
	case KIND_PANTHOR:
		if (here)
			fdinfo_panthor_engine(p, gpu, busy[0]);
		fdinfo_memory(p, gpu, mem);
		break;
	case KIND_I915:
	case KIND_XE:
		if (gpu->is_xe || vgpu_has_i915_meminfo())
			fdinfo_memory(p, gpu, mem);
		if (here)
			fdinfo_intel_engines(p, gpu, busy, now);
	}
	if (!here)
		return;
	if (gpu->is_xe)
		vgpu_untouch(gpu);
	drm_dev_exit(idx);
}
