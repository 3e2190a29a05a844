// SPDX-License-Identifier: GPL-2.0
/* Binding, unplugging, runtime power management, the DRM device, its ioctls and fdinfo. */
#include <linux/module.h>
#include <linux/seq_file.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_managed.h>
#include <drm/drm_print.h>
#include "vgpu.h"

#define FIRST_SLOT 2	/* the device in PCI slot 2 + n takes the n-th identity */

static char *identity[8] = { "i915" };
static int identities = 1;
module_param_array(identity, charp, &identities, 0444);
MODULE_PARM_DESC(identity, "driver identity per device: i915, i915-discrete, i915-mtl, xe, xe-integrated");
bool vgpu_force;
module_param_named(force, vgpu_force, bool, 0444);
MODULE_PARM_DESC(force, "offer what the real drivers got later than this kernel");
static unsigned int autosuspend_ms = 1000;
module_param(autosuspend_ms, uint, 0444);
MODULE_PARM_DESC(autosuspend_ms, "autosuspend delay of xe devices");
static unsigned int autosuspend_ms_i915 = 10000;
module_param(autosuspend_ms_i915, uint, 0444);
MODULE_PARM_DESC(autosuspend_ms_i915, "autosuspend delay of i915 devices");
unsigned int vgpu_pmu_cpu;
module_param_named(pmu_cpu, vgpu_pmu_cpu, uint, 0444);
MODULE_PARM_DESC(pmu_cpu, "the PMU mask's CPU where the driver keeps it itself (up to 6.12)");

static const struct vgpu_ident idents[] = {
	{ "i915", "i915", 0x46a6, false, false, 1 },
	{ "i915-discrete", "i915", 0x56a0, false, true, 1 },
	{ "i915-mtl", "i915", 0x7d55, false, false, 2 },
	{ "xe", "xe", 0xe20b, true, true, 2 },
	{ "xe-integrated", "xe", 0x9a49, true, false, 1 },
};

/* ---- runtime power management ---- */
static void power_get(struct vgpu *gpu, atomic64_t *woke)
{
	struct device *dev = &gpu->pdev->dev;

	if (!pm_runtime_active(dev))
		atomic64_inc(woke);
	pm_runtime_get_sync(dev);
}

void vgpu_touch(struct vgpu *gpu)
{
	atomic64_inc(&gpu->touches);
	power_get(gpu, &gpu->waking_accesses);
}

void vgpu_job_power(struct vgpu *gpu) { power_get(gpu, &gpu->job_wakes); }

void vgpu_untouch(struct vgpu *gpu)
{
	pm_runtime_mark_last_busy(&gpu->pdev->dev);
	pm_runtime_put_autosuspend(&gpu->pdev->dev);
}

static int vgpu_runtime_suspend(struct device *dev)
{
	struct vgpu *gpu = dev_get_drvdata(dev);

	if (gpu)
		atomic64_inc(&gpu->suspends);
	return 0;
}

static int vgpu_runtime_resume(struct device *dev)
{
	struct vgpu *gpu = dev_get_drvdata(dev);

	if (gpu)
		atomic64_inc(&gpu->resumes);
	return 0;
}

static const struct dev_pm_ops vgpu_pm_ops = { RUNTIME_PM_OPS(vgpu_runtime_suspend, vgpu_runtime_resume, NULL) };

/* ---- ioctls ---- */
static int submit_one(struct vgpu *gpu, struct drm_file *file, struct drm_vgpu_submit *args, struct dma_fence **last)
{
	struct vgpu_file *vf = file->driver_priv;
	struct vgpu_job *job = kzalloc(sizeof(*job), GFP_KERNEL);
	int ret;

	if (!job)
		return -ENOMEM;
	job->hw = kzalloc(sizeof(*job->hw), GFP_KERNEL);
	if (!job->hw) {
		kfree(job);
		return -ENOMEM;
	}
	INIT_LIST_HEAD(&job->link);
	job->engine = &gpu->engines[args->engine];
	job->hw->engine = job->engine;
	job->duration_ns = args->duration_ns;
	job->file = vf;
#if K(6, 17)
	ret = drm_sched_job_init(&job->base, &vf->entities[args->engine], 1, NULL, file->client_id);
#elif K(6, 8)
	ret = drm_sched_job_init(&job->base, &vf->entities[args->engine], 1, NULL);
#else
	ret = drm_sched_job_init(&job->base, &vf->entities[args->engine], NULL);
#endif
	if (ret) {
		kfree(job->hw);
		kfree(job);
		return ret;
	}
	kref_get(&vf->ref);
	atomic_inc(&gpu->live_jobs);
	vgpu_job_power(gpu);
	drm_sched_job_arm(&job->base);
	dma_fence_put(*last);
	*last = dma_fence_get(&job->base.s_fence->finished);
	drm_sched_entity_push_job(&job->base);
	return 0;
}

static int vgpu_submit(struct drm_device *d, void *data, struct drm_file *file)
{
	struct vgpu *gpu = to_vgpu(d);
	struct drm_vgpu_submit *args = data;
	struct dma_fence *last = NULL;
	int ret = 0, idx;
	u32 i;

	if (args->engine >= VGPU_ENGINES || !args->count || args->count > 4096 || args->duration_ns > NSEC_PER_SEC)
		return -EINVAL;
	if (!drm_dev_enter(d, &idx))
		return -ENODEV;
	for (i = 0; i < args->count && !ret; i++)
		ret = submit_one(gpu, file, args, &last);
	drm_dev_exit(idx);
	/* Not within the section above: unplugging waits for that one, and ends the jobs itself. */
	if (!ret && args->flags & VGPU_SUBMIT_WAIT) {
		ret = dma_fence_wait(last, true);
		if (!ret && last->error)
			ret = last->error;
	}
	dma_fence_put(last);
	return ret < 0 ? ret : 0;
}

static int vgpu_alloc(struct drm_device *d, void *data, struct drm_file *file)
{
	struct vgpu *gpu = to_vgpu(d);
	struct vgpu_file *vf = file->driver_priv;
	struct drm_vgpu_alloc *args = data;
	int idx;

	if (args->region > 1)
		return -EINVAL;
	if (!drm_dev_enter(d, &idx))
		return -ENODEV;
	if (gpu->is_xe)		/* every xe ioctl takes a runtime PM reference */
		vgpu_touch(gpu);
	atomic64_add(args->bytes, &vf->mem[args->region]);
	if (gpu->is_xe)
		vgpu_untouch(gpu);
	drm_dev_exit(idx);
	return 0;
}

static const struct drm_ioctl_desc vgpu_ioctls[] = {
	DRM_IOCTL_DEF_DRV(VGPU_SUBMIT, vgpu_submit, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_ALLOC, vgpu_alloc, DRM_RENDER_ALLOW),
};

static int vgpu_open(struct drm_device *d, struct drm_file *file)
{
	struct vgpu *gpu = to_vgpu(d);
	struct vgpu_file *vf = kzalloc(sizeof(*vf), GFP_KERNEL);
	int i;

	if (!vf)
		return -ENOMEM;
	kref_init(&vf->ref);
	vf->gpu = gpu;
#if !K(6, 5)
	{
		static atomic64_t next = ATOMIC64_INIT(0);

		vf->client_id = atomic64_inc_return(&next);
	}
#endif
	for (i = 0; i < VGPU_ENGINES; i++) {
		struct drm_gpu_scheduler *s = &gpu->engines[i].sched;

		drm_sched_entity_init(&vf->entities[i], DRM_SCHED_PRIORITY_NORMAL, &s, 1, NULL);
	}
	file->driver_priv = vf;
	return 0;
}

static void vgpu_postclose(struct drm_device *d, struct drm_file *file)
{
	struct vgpu_file *vf = file->driver_priv;
	int i;

	for (i = 0; i < VGPU_ENGINES; i++)
		drm_sched_entity_destroy(&vf->entities[i]);
	vgpu_file_put(vf);
}

/* fdinfo, in the keys that the real driver of this identity prints */
static void fdinfo_engines(struct drm_printer *p, struct vgpu_file *vf)
{
	struct vgpu *gpu = vf->gpu;
	int i, cap;

	for (i = 0; i < VGPU_ENGINES; i += cap) {
		const struct vgpu_engine_desc *desc = &vgpu_engine_descs[i];
		const char *name = gpu->is_xe ? desc->xeclass : desc->fdclass;
		unsigned long flags;
		u64 busy = 0, now;

		raw_spin_lock_irqsave(&gpu->lock, flags);
		now = ktime_get_ns();
		for (cap = 0; i + cap < VGPU_ENGINES && vgpu_engine_descs[i + cap].class == desc->class; cap++) {
			struct vgpu_job *job = gpu->engines[i + cap].running;

			busy += vf->busy_ns[i + cap];
			if (job && job->file == vf)
				busy += min(now - job->started_ns, job->duration_ns);
		}
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
		if (gpu->is_xe) {
			/* 19.2 MHz ticks, as a Battlemage reports */
			drm_printf(p, "drm-cycles-%s:\t%llu\n", name, mul_u64_u32_div(busy, 192, 10000));
			drm_printf(p, "drm-total-cycles-%s:\t%llu\n", name, mul_u64_u32_div(now - gpu->born_ns, 192, 10000));
		} else {
			drm_printf(p, "drm-engine-%s:\t%llu ns\n", name, busy);
		}
		if (cap > 1)
			drm_printf(p, "drm-engine-capacity-%s:\t%d\n", name, cap);
	}
}

static void fdinfo_memory(struct drm_printer *p, struct vgpu_file *vf)
{
	struct vgpu *gpu = vf->gpu;
	const char *region[2] = { gpu->is_xe ? "gtt" : "system0", gpu->is_xe ? "vram0" : "local0" };
	int r;

	for (r = 0; r < (gpu->discrete ? 2 : 1); r++) {
		u64 kib = atomic64_read(&vf->mem[r]) / 1024;

		drm_printf(p, "drm-total-%s:\t%llu KiB\n", region[r], kib);
		drm_printf(p, "drm-shared-%s:\t0\n", region[r]);
		drm_printf(p, "drm-active-%s:\t0\n", region[r]);
		drm_printf(p, "drm-resident-%s:\t%llu KiB\n", region[r], kib);
		drm_printf(p, "drm-purgeable-%s:\t0\n", region[r]);
	}
}

static void vgpu_fdinfo(struct drm_printer *p, struct drm_file *file)
{
	struct vgpu_file *vf = file->driver_priv;
	struct vgpu *gpu = vf->gpu;
	int idx;

	if (gpu->is_xe || vgpu_has_i915_meminfo())
		fdinfo_memory(p, vf);
	if (!drm_dev_enter(&gpu->drm, &idx))
		return;
	if (gpu->is_xe)		/* xe reads a timestamp register for its cycles: it wakes the device */
		vgpu_touch(gpu);
	fdinfo_engines(p, vf);
	if (gpu->is_xe)
		vgpu_untouch(gpu);
	drm_dev_exit(idx);
}

#if !K(6, 5)	/* no drm_show_fdinfo yet: drivers printed the common keys themselves */
static void drm_show_fdinfo(struct seq_file *m, struct file *f)
{
	struct drm_file *file = f->private_data;
	struct vgpu_file *vf = file->driver_priv;
	struct drm_printer p = drm_seq_file_printer(m);

	drm_printf(&p, "drm-driver:\t%s\n", file->minor->dev->driver->name);
	drm_printf(&p, "drm-client-id:\t%llu\n", vf->client_id);
	drm_printf(&p, "drm-pdev:\t%s\n", pci_name(vf->gpu->pdev));
	vgpu_fdinfo(&p, file);
}
#endif

static const struct file_operations vgpu_fops = {
	.owner = THIS_MODULE,
	.open = drm_open,
	.release = drm_release,
	.unlocked_ioctl = drm_ioctl,
	.compat_ioctl = drm_compat_ioctl,
	.poll = drm_poll,
	.read = drm_read,
	.llseek = noop_llseek,
	.show_fdinfo = drm_show_fdinfo,
#ifdef FOP_UNSIGNED_OFFSET
	.fop_flags = FOP_UNSIGNED_OFFSET,
#endif
};

#if K(6, 5)
#define VGPU_SHOW_FDINFO .show_fdinfo = vgpu_fdinfo,
#else
#define VGPU_SHOW_FDINFO
#endif
#define VGPU_DRIVER(ident) { \
	.driver_features = DRIVER_RENDER, \
	.open = vgpu_open, .postclose = vgpu_postclose, \
	VGPU_SHOW_FDINFO \
	.ioctls = vgpu_ioctls, .num_ioctls = ARRAY_SIZE(vgpu_ioctls), \
	.fops = &vgpu_fops, \
	.name = ident, .desc = "virtual GPU", .major = 1, .minor = 6, \
}
static const struct drm_driver vgpu_i915_driver = VGPU_DRIVER("i915");
static const struct drm_driver vgpu_xe_driver = VGPU_DRIVER("xe");

/* ---- PCI ---- */
static const struct vgpu_ident *find_ident(struct pci_dev *pdev)
{
	int n = PCI_SLOT(pdev->devfn) - FIRST_SLOT, i;

	if (n < 0 || n >= identities)
		return NULL;
	for (i = 0; i < ARRAY_SIZE(idents); i++)
		if (!strcmp(idents[i].name, identity[n]) && !strcmp(idents[i].driver, pdev->dev.driver->name))
			return idents[i].is_xe && !vgpu_has_xe() ? NULL : &idents[i];
	return NULL;
}

static void vgpu_release(struct drm_device *drm, void *unused) { vgpu_engines_fini(to_vgpu(drm)); }

static void gt_defaults(struct vgpu_gt *g, bool media)
{
	*g = (struct vgpu_gt){
		.act_mhz = media ? 900 : 1150, .req_mhz = media ? 1000 : 1300,
		.min_mhz = 300, .max_mhz = media ? 1200 : 1300, .boost_mhz = media ? 1200 : 1300,
		.rp0_mhz = media ? 1200 : 1300, .rp1_mhz = 650, .rpn_mhz = 300, .rpe_mhz = 700,
	};
}

static int vgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	const struct vgpu_ident *ident = find_ident(pdev);
	struct device *dev = &pdev->dev;
	struct vgpu *gpu;
	unsigned int i;
	int ret;

	if (!ident)
		return -ENODEV;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	/* A rescan reads the test device's own ids again: the table lists both. */
	pdev->vendor = 0x8086;
	pdev->device = ident->device;
	pdev->class = 0x030000;
	gpu = devm_drm_dev_alloc(dev, ident->is_xe ? &vgpu_xe_driver : &vgpu_i915_driver, struct vgpu, drm);
	if (IS_ERR(gpu))
		return PTR_ERR(gpu);
	gpu->pdev = pdev;
	gpu->ident = ident;
	gpu->is_xe = ident->is_xe;
	gpu->discrete = ident->discrete;
	gpu->gts = ident->gts;
	gpu->born_ns = ktime_get_ns();
	gpu->temp_mc = 45000;
	gpu->vram_temp_mc = 50000;
	gpu->fan_rpm = 1200;
	raw_spin_lock_init(&gpu->lock);
	init_waitqueue_head(&gpu->jobs_gone);
	for (i = 0; i < gpu->gts; i++)
		gt_defaults(&gpu->gt[i], i == 1);
	ret = drmm_add_action_or_reset(&gpu->drm, vgpu_release, NULL);
	if (ret)
		return ret;
	ret = vgpu_engines_init(gpu);
	if (ret)
		return ret;
	pci_set_drvdata(pdev, gpu);
	ret = drm_dev_register(&gpu->drm, 0);
	if (ret)
		goto fail;
	ret = vgpu_pmu_register(gpu);
	if (ret)
		dev_err(dev, "vgpu: no PMU: %d\n", ret);
	ret = vgpu_sysfs_register(gpu);
	if (ret)
		dev_err(dev, "vgpu: sysfs files are missing: %d\n", ret);
	ret = vgpu_hwmon_register(gpu);
	if (ret)
		dev_err(dev, "vgpu: no hwmon: %d\n", ret);
	vgpu_truth_register(gpu);
	pm_runtime_set_autosuspend_delay(dev, gpu->is_xe ? autosuspend_ms : autosuspend_ms_i915);
	pm_runtime_use_autosuspend(dev);
	pm_runtime_allow(dev);
	vgpu_untouch(gpu);	/* the reference that the PCI core took for this function */
	dev_info(dev, "vgpu: %s, pmu %s\n", ident->name, vgpu_pmu_name(gpu));
	return 0;
fail:
	pci_set_drvdata(pdev, NULL);
	return ret;
}

static void vgpu_remove(struct pci_dev *pdev)
{
	struct vgpu *gpu = pci_get_drvdata(pdev);

	/* Its power state is the bus's again: give back what probe's end took. */
	pm_runtime_forbid(&pdev->dev);
	pm_runtime_dont_use_autosuspend(&pdev->dev);
	pm_runtime_get_noresume(&pdev->dev);
	vgpu_truth_unregister(gpu);
	vgpu_hwmon_unregister(gpu);
	vgpu_sysfs_unregister(gpu);
	vgpu_pmu_unregister(gpu);
	drm_dev_unplug(&gpu->drm);
	vgpu_engines_kill(gpu);
	pci_set_drvdata(pdev, NULL);
	/* Open files and events keep the memory: devm drops only the device's own reference. */
}

static const struct pci_device_id vgpu_ids[] = {
	{ PCI_DEVICE(0x1b36, 0x0005) },
	{ PCI_DEVICE(0x8086, PCI_ANY_ID), .class = 0x030000, .class_mask = ~0 },
	{ }
};

static struct pci_driver drivers[] = {
	{ .name = "i915", .id_table = vgpu_ids, .probe = vgpu_probe, .remove = vgpu_remove, .driver.pm = pm_ptr(&vgpu_pm_ops) },
	{ .name = "xe", .id_table = vgpu_ids, .probe = vgpu_probe, .remove = vgpu_remove, .driver.pm = pm_ptr(&vgpu_pm_ops) },
};

static int __init vgpu_init(void)
{
	int i, n, ret;

	for (n = 0; n < identities; n++) {
		for (i = 0; i < ARRAY_SIZE(idents) && strcmp(idents[i].name, identity[n]); i++)
			;
		if (i == ARRAY_SIZE(idents)) {
			pr_err("vgpu: unknown identity %s\n", identity[n]);
			return -EINVAL;
		}
	}
	ret = vgpu_pmu_setup();
	if (ret)
		return ret;
	for (i = 0; i < (vgpu_has_xe() ? 2 : 1); i++) {
		ret = pci_register_driver(&drivers[i]);
		if (ret) {
			pr_err("vgpu: driver %s: %d\n", drivers[i].name, ret);
			return ret;
		}
	}
	return 0;
}
module_init(vgpu_init);
/* No exit: a guest is thrown away whole, and events of a removed device may outlive it. */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("virtual GPU for observability tests");
