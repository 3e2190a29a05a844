// SPDX-License-Identifier: GPL-2.0
/* Frequency, idle and throttle files: i915's under the card, xe's under the PCI device. */
#include <linux/kobject.h>
#include <linux/sysfs.h>
#include "vgpu.h"

const char *const vgpu_throttle_names[THR_COUNT] = { "pl1", "pl2", "pl4", "thermal", "prochot", "ratl", "vr_thermalert", "vr_tdc" };

/* a directory: it knows what it is about */
struct vgpu_kobj {
	struct kobject base;
	struct vgpu *gpu;
	int gt, engine;
};

enum what {
	ACT, CUR, PUNIT, BOOST, MIN, MAX, RP0, RP1, RPN, RPE, RPA,
	RC6_ENABLE, RC6_MS, GT_ID, IDLE_NAME, IDLE_STATUS, IDLE_MS, REASONS,
	ENGINE_CLASS, ENGINE_INSTANCE, ENGINE_NAME, JOB_TIMEOUT,
	THR_STATUS, THR_FIRST,
};

struct vgpu_attr { struct attribute attr; enum what what; };
#define RO(name_, what_) { { .name = name_, .mode = 0444 }, what_ }
#define RW(name_, what_) { { .name = name_, .mode = 0644 }, what_ }

static const struct vgpu_attr i915_gt[] = {
	RO("id", GT_ID), RO("rps_act_freq_mhz", ACT), RO("rps_cur_freq_mhz", CUR), RW("rps_boost_freq_mhz", BOOST),
	RW("rps_min_freq_mhz", MIN), RW("rps_max_freq_mhz", MAX), RO("rps_RP0_freq_mhz", RP0), RO("rps_RP1_freq_mhz", RP1),
	RO("rps_RPn_freq_mhz", RPN), RO("punit_req_freq_mhz", PUNIT), RO("rc6_enable", RC6_ENABLE), RO("rc6_residency_ms", RC6_MS),
	RO("throttle_reason_status", THR_STATUS), RO("throttle_reason_pl1", THR_FIRST + THR_PL1), RO("throttle_reason_pl2", THR_FIRST + THR_PL2),
	RO("throttle_reason_pl4", THR_FIRST + THR_PL4), RO("throttle_reason_thermal", THR_FIRST + THR_THERMAL),
	RO("throttle_reason_prochot", THR_FIRST + THR_PROCHOT), RO("throttle_reason_ratl", THR_FIRST + THR_RATL),
	RO("throttle_reason_vr_thermalert", THR_FIRST + THR_VR_THERMALERT), RO("throttle_reason_vr_tdc", THR_FIRST + THR_VR_TDC), { }
};
static const struct vgpu_attr i915_engine[] = { RO("class", ENGINE_CLASS), RO("instance", ENGINE_INSTANCE), RO("name", ENGINE_NAME), { } };
static const struct vgpu_attr xe_freq[] = {
	RO("act_freq", ACT), RO("cur_freq", CUR), RO("rp0_freq", RP0), RO("rpe_freq", RPE), RO("rpn_freq", RPN),
	RW("min_freq", MIN), RW("max_freq", MAX), { }
};
static const struct vgpu_attr xe_rpa[] = { RO("rpa_freq", RPA), { } };
static const struct vgpu_attr xe_throttle[] = {
	RO("status", THR_STATUS), RO("reason_pl1", THR_FIRST + THR_PL1), RO("reason_pl2", THR_FIRST + THR_PL2), RO("reason_pl4", THR_FIRST + THR_PL4),
	RO("reason_thermal", THR_FIRST + THR_THERMAL), RO("reason_prochot", THR_FIRST + THR_PROCHOT), RO("reason_ratl", THR_FIRST + THR_RATL),
	RO("reason_vr_thermalert", THR_FIRST + THR_VR_THERMALERT), RO("reason_vr_tdc", THR_FIRST + THR_VR_TDC), { }
};
static const struct vgpu_attr xe_reasons[] = { RO("reasons", REASONS), { } };
static const struct vgpu_attr xe_idle[] = { RO("name", IDLE_NAME), RO("idle_status", IDLE_STATUS), RO("idle_residency_ms", IDLE_MS), { } };
static const struct vgpu_attr xe_engine[] = { RO("job_timeout_ms", JOB_TIMEOUT), { } };

static u32 *knob(struct vgpu_gt *g, enum what what)
{
	switch (what) {
	case BOOST: return &g->boost_mhz;
	case MIN: return &g->min_mhz;
	case MAX: return &g->max_mhz;
	case RP0: return &g->rp0_mhz;
	case RP1: return &g->rp1_mhz;
	case RPN: return &g->rpn_mhz;
	case RPE:
	case RPA: return &g->rpe_mhz;
	default: return NULL;
	}
}

/* with vgpu.lock held */
static u64 value(struct vgpu *gpu, int gt, enum what what, u64 now)
{
	struct vgpu_gt *g = &gpu->gt[gt];
	u32 *k = knob(g, what);

	if (k)
		return *k;
	switch (what) {
	case ACT: return vgpu_gt_awake(gpu, gt, now) ? g->act_mhz : 0;
	/* i915 with firmware frequency control reads a register, and only of a device in use */
	case CUR:
	case PUNIT: return gpu->is_xe || vgpu_in_use(gpu, now) ? g->req_mhz : 0;
	case RC6_ENABLE: return 1;
	case RC6_MS: return (u32)div_u64(vgpu_gt_rc6(gpu, gt, now), NSEC_PER_MSEC);
	case IDLE_MS: return div_u64(vgpu_gt_rc6(gpu, gt, now), NSEC_PER_MSEC);
	case IDLE_STATUS: return vgpu_gt_awake(gpu, gt, now);
	case GT_ID: return gt;
	case JOB_TIMEOUT: return 5000;
	case THR_STATUS: return !!g->throttle;
	default: return !!(g->throttle & BIT(what - THR_FIRST));
	}
}

/* whether the real driver takes a runtime PM reference for it */
static bool wakes(struct vgpu *gpu, enum what what) { return gpu->is_xe || what == RC6_MS || what >= THR_STATUS; }

static u64 read_value(struct vgpu *gpu, int gt, enum what what)
{
	unsigned long flags;
	u64 v;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	v = value(gpu, gt, what, ktime_get_ns());
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	return v;
}

static ssize_t show_reasons(struct vgpu *gpu, int gt, char *buf)
{
	u32 mask = READ_ONCE(gpu->gt[gt].throttle);
	ssize_t n = 0;
	int i;

	for (i = 0; i < THR_COUNT; i++)
		if (mask & BIT(i))
			n += sysfs_emit_at(buf, n, n ? " %s" : "%s", vgpu_throttle_names[i]);
	return n + sysfs_emit_at(buf, n, n ? "\n" : "none\n");
}

static ssize_t show(struct kobject *kobj, struct attribute *a, char *buf)
{
	struct vgpu_kobj *k = container_of(kobj, struct vgpu_kobj, base);
	enum what what = container_of(a, struct vgpu_attr, attr)->what;
	struct vgpu *gpu = k->gpu;
	bool wake = wakes(gpu, what);
	ssize_t n;

	if (wake)
		vgpu_touch(gpu);
	switch (what) {
	case ENGINE_CLASS: n = sysfs_emit(buf, "%u\n", vgpu_engine_descs[k->engine].class); break;
	case ENGINE_INSTANCE: n = sysfs_emit(buf, "%u\n", vgpu_engine_descs[k->engine].instance); break;
	case ENGINE_NAME: n = sysfs_emit(buf, "%s\n", vgpu_engine_descs[k->engine].name); break;
	case IDLE_NAME: n = sysfs_emit(buf, "gt%d-%s\n", k->gt, k->gt ? "mc" : "rc"); break;
	case IDLE_STATUS: n = sysfs_emit(buf, "%s\n", read_value(gpu, k->gt, what) ? "gt-c0" : "gt-c6"); break;
	case REASONS: n = show_reasons(gpu, k->gt, buf); break;
	default: n = sysfs_emit(buf, "%llu\n", read_value(gpu, k->gt, what));
	}
	if (wake)
		vgpu_untouch(gpu);
	return n;
}

static ssize_t store(struct kobject *kobj, struct attribute *a, const char *buf, size_t len)
{
	struct vgpu_kobj *k = container_of(kobj, struct vgpu_kobj, base);
	enum what what = container_of(a, struct vgpu_attr, attr)->what;
	struct vgpu_gt *g = &k->gpu->gt[k->gt];
	u32 v;
	int ret = kstrtou32(buf, 0, &v);

	if (ret)
		return ret;
	if (v < g->rpn_mhz || v > g->rp0_mhz)
		return -EINVAL;
	vgpu_touch(k->gpu);
	WRITE_ONCE(*knob(g, what), v);
	vgpu_untouch(k->gpu);
	return len;
}

static void release(struct kobject *kobj) { kfree(container_of(kobj, struct vgpu_kobj, base)); }
static const struct sysfs_ops ops = { .show = show, .store = store };
static const struct kobj_type dir_type = { .release = release, .sysfs_ops = &ops };

static int add_files(struct kobject *kobj, const struct vgpu_attr *a)
{
	int ret = 0;

	for (; a->attr.name && !ret; a++)
		ret = sysfs_create_file(kobj, &a->attr);
	return ret;
}

/* a directory with files; on failure *err is set and NULL returned */
static struct kobject *add_dir(struct vgpu *gpu, struct kobject *parent, const char *name, int gt, int engine,
			       const struct vgpu_attr *files, int *err)
{
	struct vgpu_kobj *k;

	if (*err)
		return NULL;
	*err = -ENOMEM;
	if (WARN_ON(gpu->ndirs == ARRAY_SIZE(gpu->dirs)))
		return NULL;
	k = kzalloc(sizeof(*k), GFP_KERNEL);
	if (!k)
		return NULL;
	k->gpu = gpu;
	k->gt = gt;
	k->engine = engine;
	*err = kobject_init_and_add(&k->base, &dir_type, parent, "%s", name);
	if (!*err && files)
		*err = add_files(&k->base, files);
	if (*err) {
		kobject_put(&k->base);
		return NULL;
	}
	gpu->dirs[gpu->ndirs++] = k;
	return &k->base;
}

/* ---- i915: the card's own files are over all GTs ---- */
static ssize_t card_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct vgpu *gpu = to_vgpu(((struct drm_minor *)dev_get_drvdata(dev))->dev);
	enum what what = (enum what)(uintptr_t)container_of(a, struct dev_ext_attribute, attr)->var;
	u64 v = read_value(gpu, 0, what), other;
	bool wake = wakes(gpu, what);
	unsigned int i;

	if (wake) {
		vgpu_touch(gpu);
		v = read_value(gpu, 0, what);
	}
	for (i = 1; i < gpu->gts; i++) {
		other = read_value(gpu, i, what);
		v = what == MIN || what == RC6_MS ? min(v, other) : max(v, other);
	}
	if (wake)
		vgpu_untouch(gpu);
	return sysfs_emit(buf, "%llu\n", v);
}

#define CARD(id, name_, what_) static struct dev_ext_attribute card_##id = { \
	.attr = { .attr = { .name = name_, .mode = 0444 }, .show = card_show }, .var = (void *)what_ }
CARD(act, "gt_act_freq_mhz", ACT); CARD(cur, "gt_cur_freq_mhz", CUR); CARD(boost, "gt_boost_freq_mhz", BOOST);
CARD(min, "gt_min_freq_mhz", MIN); CARD(max, "gt_max_freq_mhz", MAX);
CARD(rp0, "gt_RP0_freq_mhz", RP0); CARD(rp1, "gt_RP1_freq_mhz", RP1); CARD(rpn, "gt_RPn_freq_mhz", RPN);
CARD(rc6_enable, "rc6_enable", RC6_ENABLE); CARD(rc6, "rc6_residency_ms", RC6_MS);
static struct attribute *card_attrs[] = {
	&card_act.attr.attr, &card_cur.attr.attr, &card_boost.attr.attr, &card_min.attr.attr, &card_max.attr.attr,
	&card_rp0.attr.attr, &card_rp1.attr.attr, &card_rpn.attr.attr, NULL };
static struct attribute *power_attrs[] = { &card_rc6_enable.attr.attr, &card_rc6.attr.attr, NULL };
static const struct attribute_group card_group = { .attrs = card_attrs };
static const struct attribute_group power_group = { .name = "power", .attrs = power_attrs };

static int i915_register(struct vgpu *gpu)
{
	struct kobject *card = &gpu->drm.primary->kdev->kobj, *gt, *engine;
	unsigned int i;
	char name[8];
	int err = sysfs_create_group(card, &card_group);

	if (!err)
		err = sysfs_merge_group(card, &power_group);
	gt = add_dir(gpu, card, "gt", 0, 0, NULL, &err);
	for (i = 0; i < gpu->gts; i++) {
		snprintf(name, sizeof(name), "gt%u", i);
		add_dir(gpu, gt, name, i, 0, i915_gt, &err);
	}
	engine = add_dir(gpu, card, "engine", 0, 0, NULL, &err);
	for (i = 0; i < VGPU_ENGINES; i++)
		add_dir(gpu, engine, vgpu_engine_descs[i].name, 0, i, i915_engine, &err);
	return err;
}

static int xe_register(struct vgpu *gpu)
{
	struct kobject *tile, *gt, *freq, *throttle, *engines;
	unsigned int i, e;
	char name[8];
	int err = 0;

	tile = add_dir(gpu, &gpu->pdev->dev.kobj, "tile0", 0, 0, NULL, &err);
	for (i = 0; i < gpu->gts; i++) {
		snprintf(name, sizeof(name), "gt%u", i);
		gt = add_dir(gpu, tile, name, i, 0, NULL, &err);
		freq = add_dir(gpu, gt, "freq0", i, 0, xe_freq, &err);
		throttle = add_dir(gpu, freq, "throttle", i, 0, xe_throttle, &err);
		if (!err && vgpu_has_xe_reasons())
			err = add_files(freq, xe_rpa) ?: add_files(throttle, xe_reasons);
		add_dir(gpu, gt, "gtidle", i, 0, xe_idle, &err);
		engines = add_dir(gpu, gt, "engines", i, 0, NULL, &err);
		for (e = 0; e < VGPU_ENGINES; e++)
			if (gpu->engines[e].gt == i && !vgpu_engine_descs[e].instance)
				add_dir(gpu, engines, vgpu_engine_descs[e].xeclass, i, e, xe_engine, &err);
	}
	return err;
}

/* ---- panthor: which counters a job takes; as the real driver starts, none, and fdinfo has no engine ---- */
static ssize_t profiling_show(struct device *dev, struct device_attribute *a, char *buf)
{
	return sysfs_emit(buf, "%u\n", ((struct vgpu *)dev_get_drvdata(dev))->profiling);
}

static ssize_t profiling_store(struct device *dev, struct device_attribute *a, const char *buf, size_t len)
{
	struct vgpu *gpu = dev_get_drvdata(dev);
	u32 v;
	int ret = kstrtou32(buf, 0, &v);

	if (ret || v > 3)
		return ret ?: -EINVAL;
	WRITE_ONCE(gpu->profiling, v);
	return len;
}
static DEVICE_ATTR_RW(profiling);

int vgpu_sysfs_register(struct vgpu *gpu)
{
	switch (gpu->ident->kind) {
	case KIND_I915: return i915_register(gpu);
	case KIND_XE: return xe_register(gpu);
	case KIND_AMDGPU: return vgpu_amd_register(gpu);
	case KIND_PANTHOR: return vgpu_has_panthor_fdinfo() ? device_create_file(gpu->dev, &dev_attr_profiling) : 0;
	}
	return -EINVAL;
}

void vgpu_sysfs_unregister(struct vgpu *gpu)
{
	while (gpu->ndirs)
		kobject_put(&gpu->dirs[--gpu->ndirs]->base);
	if (gpu->is_amd)
		vgpu_amd_unregister(gpu);
	if (gpu->ident->kind == KIND_PANTHOR)
		device_remove_file(gpu->dev, &dev_attr_profiling);
	if (gpu->is_i915) {
		sysfs_unmerge_group(&gpu->drm.primary->kdev->kobj, &power_group);
		sysfs_remove_group(&gpu->drm.primary->kdev->kobj, &card_group);
	}
}
