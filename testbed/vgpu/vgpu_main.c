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
MODULE_PARM_DESC(identity, "driver identity per device: i915, i915-discrete, i915-mtl, xe, xe-integrated, amdgpu");
bool vgpu_force;
module_param_named(force, vgpu_force, bool, 0444);
MODULE_PARM_DESC(force, "offer what the real drivers got later than this kernel");
static unsigned int autosuspend_ms = 1000;
module_param(autosuspend_ms, uint, 0444);
MODULE_PARM_DESC(autosuspend_ms, "autosuspend delay of xe devices");
static unsigned int autosuspend_ms_i915 = 10000;
module_param(autosuspend_ms_i915, uint, 0444);
MODULE_PARM_DESC(autosuspend_ms_i915, "autosuspend delay of i915 devices");
static unsigned int autosuspend_ms_amdgpu = 5000;
module_param(autosuspend_ms_amdgpu, uint, 0444);
MODULE_PARM_DESC(autosuspend_ms_amdgpu, "autosuspend delay of amdgpu devices");
static bool arm;
module_param(arm, bool, 0444);
MODULE_PARM_DESC(arm, "a GPU that is no PCI device beside the others: panthor");
unsigned int vgpu_pmu_cpu;
module_param_named(pmu_cpu, vgpu_pmu_cpu, uint, 0444);
MODULE_PARM_DESC(pmu_cpu, "the PMU mask's CPU where the driver keeps it itself (up to 6.12)");

unsigned int vgpu_timeout_ms;
module_param_named(timeout_ms, vgpu_timeout_ms, uint, 0444);
MODULE_PARM_DESC(timeout_ms, "the scheduler's timeout of a job; 0: none");
unsigned int vgpu_credits = 2;
module_param_named(credits, vgpu_credits, uint, 0444);
MODULE_PARM_DESC(credits, "jobs that the scheduler hands to an engine before one of them has ended");
unsigned int vgpu_log_jobs;
module_param_named(log_jobs, vgpu_log_jobs, uint, 0444);
MODULE_PARM_DESC(log_jobs, "entries of each device's job log; 0: none, until asked for in debugfs");

#define ALL (MEM_RESIDENT | MEM_PURGEABLE | MEM_ACTIVE)
static const struct vgpu_region i915_regions[] = { { "system0", 0, ALL }, { "stolen-system0", 2, ALL }, { } };
static const struct vgpu_region dg2_regions[] = { { "system0", 0, ALL }, { "local0", 1, ALL }, { "stolen-local0", 2, ALL }, { } };
static const struct vgpu_region xe_regions[] = {
	{ "system", 2, ALL }, { "gtt", 0, MEM_RESIDENT | MEM_ACTIVE }, { "vram0", 1, MEM_RESIDENT | MEM_ACTIVE }, { } };
static const struct vgpu_region xe_integrated_regions[] = { { "system", 2, ALL }, { "gtt", 0, MEM_RESIDENT | MEM_ACTIVE }, { } };
static const struct vgpu_region amd_regions[] = {
	{ "cpu", 2, MEM_RESIDENT | MEM_PURGEABLE }, { "gtt", 0, MEM_RESIDENT | MEM_PURGEABLE },
	{ "vram", 1, MEM_RESIDENT | MEM_PURGEABLE }, { } };
static const struct vgpu_region panthor_regions[] = { { "memory", 0, MEM_RESIDENT | MEM_ACTIVE }, { } };

#define INTEL vgpu_engine_descs, VGPU_ENGINES
static const struct vgpu_ident idents[] = {
	{ "i915", "i915", 0x8086, 0x46a6, KIND_I915, false, 1, INTEL, i915_regions },
	{ "i915-discrete", "i915", 0x8086, 0x56a0, KIND_I915, true, 1, INTEL, dg2_regions },
	{ "i915-mtl", "i915", 0x8086, 0x7d55, KIND_I915, false, 2, INTEL, i915_regions },
	{ "xe", "xe", 0x8086, 0xe20b, KIND_XE, true, 2, INTEL, xe_regions },
	{ "xe-integrated", "xe", 0x8086, 0x9a49, KIND_XE, false, 1, INTEL, xe_integrated_regions },
	{ "amdgpu", "amdgpu", 0x1002, 0x73bf, KIND_AMDGPU, true, 1, vgpu_amd_descs, VGPU_ENGINES, amd_regions },
};
static const struct vgpu_ident panthor_ident = {
	"panthor", "panthor", 0, 0, KIND_PANTHOR, false, 1, vgpu_panthor_descs, 1, panthor_regions };

/* ---- runtime power management ---- */
static void power_get(struct vgpu *gpu, atomic64_t *woke)
{
	struct device *dev = gpu->dev;

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
	pm_runtime_mark_last_busy(gpu->dev);
	pm_runtime_put_autosuspend(gpu->dev);
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
static const struct drm_ioctl_desc vgpu_ioctls[] = {
	DRM_IOCTL_DEF_DRV(VGPU_SUBMIT, vgpu_submit, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_ALLOC, vgpu_alloc, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_IMPORT, vgpu_import, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_FREE, vgpu_free, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_SET_NAME, vgpu_set_name, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_CLIENT, vgpu_client, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_EXEC, vgpu_exec, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VGPU_WAIT, vgpu_wait, DRM_RENDER_ALLOW),
};

/* amdgpu_driver_open_kms and amdgpu_driver_postclose_kms wake the device */
static void open_power(struct vgpu *gpu)
{
	int idx;

	if (!gpu->is_amd || !drm_dev_enter(&gpu->drm, &idx))
		return;
	vgpu_touch(gpu);
	vgpu_untouch(gpu);
	drm_dev_exit(idx);
}

static int vgpu_open(struct drm_device *d, struct drm_file *file)
{
	struct vgpu *gpu = to_vgpu(d);
	struct vgpu_file *vf;

	open_power(gpu);
	vf = vgpu_file_new(gpu, file);
	if (!vf)
		return -ENOMEM;
	file->driver_priv = vf;
	return 0;
}

static void vgpu_postclose(struct drm_device *d, struct drm_file *file)
{
	struct vgpu_file *vf = file->driver_priv;

	open_power(vf->gpu);
	vgpu_contexts_destroy(vf);
	vgpu_file_close(vf);
}

#if !K(6, 5)	/* no drm_show_fdinfo yet: drivers printed the common keys themselves */
static void drm_show_fdinfo(struct seq_file *m, struct file *f)
{
	struct drm_file *file = f->private_data;
	struct vgpu_file *vf = file->driver_priv;
	struct drm_printer p = drm_seq_file_printer(m);

	if (vf->gpu->is_amd)
		drm_printf(&p, "pasid:\t%u\n", vf->pasid);
	drm_printf(&p, "drm-driver:\t%s\n", file->minor->dev->driver->name);
	if (vf->gpu->pdev)
		drm_printf(&p, "drm-pdev:\t%s\n", pci_name(vf->gpu->pdev));
	drm_printf(&p, "drm-client-id:\t%llu\n", vf->client_id);
	vgpu_fdinfo(&p, file);
}
#endif

#ifdef FOP_UNSIGNED_OFFSET
#define VGPU_FOP_FLAGS .fop_flags = FOP_UNSIGNED_OFFSET,
#else
#define VGPU_FOP_FLAGS
#endif
#define VGPU_FOPS \
	.owner = THIS_MODULE, .open = drm_open, .release = drm_release, .unlocked_ioctl = drm_ioctl, \
	.compat_ioctl = drm_compat_ioctl, .poll = drm_poll, .read = drm_read, .llseek = noop_llseek, VGPU_FOP_FLAGS
static const struct file_operations vgpu_fops = { VGPU_FOPS .show_fdinfo = drm_show_fdinfo };
static const struct file_operations vgpu_silent_fops = { VGPU_FOPS };	/* a driver without fdinfo */

#if K(6, 5)
#define VGPU_SHOW_FDINFO .show_fdinfo = vgpu_fdinfo,
#else
#define VGPU_SHOW_FDINFO
#endif
#define VGPU_DRIVER(ident, fops_) { \
	.driver_features = DRIVER_RENDER, \
	.open = vgpu_open, .postclose = vgpu_postclose, \
	VGPU_SHOW_FDINFO \
	.ioctls = vgpu_ioctls, .num_ioctls = ARRAY_SIZE(vgpu_ioctls), \
	.fops = &fops_, \
	.name = ident, .desc = "virtual GPU", .major = 1, .minor = 6, \
}
static const struct drm_driver vgpu_i915_driver = VGPU_DRIVER("i915", vgpu_fops);
static const struct drm_driver vgpu_xe_driver = VGPU_DRIVER("xe", vgpu_fops);
static const struct drm_driver vgpu_amdgpu_driver = VGPU_DRIVER("amdgpu", vgpu_fops);
static const struct drm_driver vgpu_panthor_driver = VGPU_DRIVER("panthor", vgpu_fops);
static const struct drm_driver vgpu_old_panthor_driver = VGPU_DRIVER("panthor", vgpu_silent_fops);

static const struct drm_driver *drm_driver_of(const struct vgpu_ident *ident)
{
	switch (ident->kind) {
	case KIND_XE: return &vgpu_xe_driver;
	case KIND_AMDGPU: return &vgpu_amdgpu_driver;
	case KIND_PANTHOR: return vgpu_has_panthor_fdinfo() ? &vgpu_panthor_driver : &vgpu_old_panthor_driver;
	default: return &vgpu_i915_driver;
	}
}

/* ---- PCI ---- */
static const struct vgpu_ident *find_ident(struct pci_dev *pdev)
{
	int n = PCI_SLOT(pdev->devfn) - FIRST_SLOT, i;

	if (n < 0 || n >= identities)
		return NULL;
	for (i = 0; i < ARRAY_SIZE(idents); i++)
		if (!strcmp(idents[i].name, identity[n]) && !strcmp(idents[i].driver, pdev->dev.driver->name))
			return idents[i].kind == KIND_XE && !vgpu_has_xe() ? NULL : &idents[i];
	return NULL;
}

static void vgpu_release(struct drm_device *drm, void *unused)
{
	vgpu_engines_fini(to_vgpu(drm));
	vgpu_joblog_fini(to_vgpu(drm));
}

static void gt_defaults(struct vgpu_gt *g, bool media)
{
	*g = (struct vgpu_gt){
		.act_mhz = media ? 900 : 1150, .req_mhz = media ? 1000 : 1300,
		.min_mhz = 300, .max_mhz = media ? 1200 : 1300, .boost_mhz = media ? 1200 : 1300,
		.rp0_mhz = media ? 1200 : 1300, .rp1_mhz = 650, .rpn_mhz = 300, .rpe_mhz = 700,
	};
}

static unsigned int autosuspend_of(const struct vgpu_ident *ident)
{
	switch (ident->kind) {
	case KIND_XE: return autosuspend_ms;
	case KIND_AMDGPU: return autosuspend_ms_amdgpu;
	case KIND_PANTHOR: return 50;
	default: return autosuspend_ms_i915;
	}
}

/* The device comes with a runtime PM reference, which goes at the end. */
static int vgpu_setup(struct device *dev, struct pci_dev *pdev, const struct vgpu_ident *ident)
{
	struct vgpu *gpu = devm_drm_dev_alloc(dev, drm_driver_of(ident), struct vgpu, drm);
	unsigned int i;
	int ret;

	if (IS_ERR(gpu))
		return PTR_ERR(gpu);
	gpu->dev = dev;
	gpu->pdev = pdev;
	gpu->ident = ident;
	gpu->is_xe = ident->kind == KIND_XE;
	gpu->is_i915 = ident->kind == KIND_I915;
	gpu->is_amd = ident->kind == KIND_AMDGPU;
	gpu->discrete = ident->discrete;
	gpu->gts = ident->gts;
	gpu->born_ns = ktime_get_ns();
	gpu->temp_mc = 45000;
	gpu->vram_temp_mc = 50000;
	gpu->fan_rpm = 1200;
	raw_spin_lock_init(&gpu->lock);
	init_waitqueue_head(&gpu->jobs_gone);
	init_rwsem(&gpu->log_sem);
	INIT_LIST_HEAD(&gpu->clients);
	INIT_LIST_HEAD(&gpu->bos);
	for (i = 0; i < gpu->gts; i++)
		gt_defaults(&gpu->gt[i], i == 1);
	ret = drmm_add_action_or_reset(&gpu->drm, vgpu_release, NULL);
	if (ret)
		return ret;
	ret = vgpu_engines_init(gpu);
	if (ret)
		return ret;
	dev_set_drvdata(dev, gpu);
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
	ret = vgpu_joblog_resize(gpu, vgpu_log_jobs);
	if (ret)
		dev_err(dev, "vgpu: no job log: %d\n", ret);
	vgpu_truth_register(gpu);
	pm_runtime_set_autosuspend_delay(dev, autosuspend_of(ident));
	pm_runtime_use_autosuspend(dev);
	if (pdev)
		pm_runtime_allow(dev);
	vgpu_untouch(gpu);
	dev_info(dev, "vgpu: %s, pmu %s\n", ident->name, vgpu_pmu_name(gpu));
	return 0;
fail:
	dev_set_drvdata(dev, NULL);
	return ret;
}

static void vgpu_teardown(struct vgpu *gpu)
{
	vgpu_truth_unregister(gpu);
	vgpu_hwmon_unregister(gpu);
	vgpu_sysfs_unregister(gpu);
	vgpu_pmu_unregister(gpu);
	drm_dev_unplug(&gpu->drm);
	vgpu_engines_kill(gpu);
	dev_set_drvdata(gpu->dev, NULL);
	/* Open files and events keep the memory: devm drops only the device's own reference. */
}

static int vgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	const struct vgpu_ident *ident = find_ident(pdev);
	int ret;

	if (!ident)
		return -ENODEV;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	/* A rescan reads the test device's own ids again: the table lists both. */
	pdev->vendor = ident->vendor;
	pdev->device = ident->device;
	pdev->class = 0x030000;
	return vgpu_setup(&pdev->dev, pdev, ident);	/* the PCI core took the reference */
}

static void vgpu_remove(struct pci_dev *pdev)
{
	/* Its power state is the bus's again: give back what probe's end took. */
	pm_runtime_forbid(&pdev->dev);
	pm_runtime_dont_use_autosuspend(&pdev->dev);
	pm_runtime_get_noresume(&pdev->dev);
	vgpu_teardown(pci_get_drvdata(pdev));
}

/* ---- a GPU that is no PCI device ---- */
static int vgpu_arm_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	int ret;

	pm_runtime_get_noresume(dev);
	pm_runtime_set_active(dev);
	pm_runtime_enable(dev);
	ret = vgpu_setup(dev, NULL, &panthor_ident);
	if (ret) {
		pm_runtime_disable(dev);
		pm_runtime_put_noidle(dev);
	}
	return ret;
}

static void vgpu_arm_remove_void(struct platform_device *pdev)
{
	pm_runtime_get_sync(&pdev->dev);
	pm_runtime_dont_use_autosuspend(&pdev->dev);
	vgpu_teardown(platform_get_drvdata(pdev));
	pm_runtime_disable(&pdev->dev);
	pm_runtime_set_suspended(&pdev->dev);
	pm_runtime_put_noidle(&pdev->dev);
}

#if K(6, 11)
#define vgpu_arm_remove vgpu_arm_remove_void
#else
static int vgpu_arm_remove(struct platform_device *pdev)
{
	vgpu_arm_remove_void(pdev);
	return 0;
}
#endif

#define ARM_DEVICE "fb000000.gpu"	/* as the device tree of an RK3588 names it */
static const struct platform_device_id arm_ids[] = { { .name = ARM_DEVICE }, { } };
static struct platform_driver arm_driver = {
	.probe = vgpu_arm_probe, .remove = vgpu_arm_remove, .id_table = arm_ids,
	.driver = { .name = "panthor", .pm = pm_ptr(&vgpu_pm_ops) },
};

static int add_arm(void)
{
	struct platform_device *pdev;
	int ret;

	if (!arm || !vgpu_has_panthor())
		return 0;
	ret = platform_driver_register(&arm_driver);
	if (ret)
		return ret;
	pdev = platform_device_register_simple(ARM_DEVICE, PLATFORM_DEVID_NONE, NULL, 0);
	return PTR_ERR_OR_ZERO(pdev);
}

static const struct pci_device_id vgpu_ids[] = {
	{ PCI_DEVICE(0x1b36, 0x0005) },
	{ PCI_DEVICE(0x8086, PCI_ANY_ID), .class = 0x030000, .class_mask = ~0 },
	{ }
};
static const struct pci_device_id vgpu_amd_ids[] = {
	{ PCI_DEVICE(0x1b36, 0x0005) },
	{ PCI_DEVICE(0x1002, PCI_ANY_ID), .class = 0x030000, .class_mask = ~0 },
	{ }
};

static struct pci_driver drivers[] = {
	{ .name = "i915", .id_table = vgpu_ids, .probe = vgpu_probe, .remove = vgpu_remove, .driver.pm = pm_ptr(&vgpu_pm_ops) },
	{ .name = "amdgpu", .id_table = vgpu_amd_ids, .probe = vgpu_probe, .remove = vgpu_remove, .driver.pm = pm_ptr(&vgpu_pm_ops) },
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
	for (i = 0; i < (vgpu_has_xe() ? 3 : 2); i++) {
		ret = pci_register_driver(&drivers[i]);
		if (ret) {
			pr_err("vgpu: driver %s: %d\n", drivers[i].name, ret);
			return ret;
		}
	}
	ret = add_arm();
	if (ret)
		pr_err("vgpu: panthor: %d\n", ret);
	return ret;
}
module_init(vgpu_init);
/* No exit: a guest is thrown away whole, and events of a removed device may outlive it. */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("virtual GPU for observability tests");
