// SPDX-License-Identifier: GPL-2.0
/* The perf PMU of either driver, over hotplug of the GPU and of CPUs. */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/perf_event.h>
#include <linux/workqueue.h>
#include "vgpu.h"

/* From 6.13 on the core keeps the mask (xe was born with that); before, the driver does. */
#define OWN_MASK (!K(6, 13))
/* From 6.15 on the core revokes open events when a PMU goes; before, it would use freed memory. */
#define CORE_REVOKES K(6, 15)

/*
 * Outlives its GPU's removal while an event is open: the core looks at
 * event->pmu until after the event's destructor. One reference for the
 * registration, one an event; the end comes a second after the last.
 */
struct vgpu_pmu {
	struct pmu pmu;
	struct vgpu *gpu;
	struct kref ref;
	bool registered;
	int cpu;
	struct hlist_node node;
	char name[40];
	struct attribute_group events;
	const struct attribute_group *groups[4];
	struct perf_pmu_events_attr *attrs;
	unsigned int nattrs;
	struct delayed_work gone;
};

static enum cpuhp_state cpuhp_slot = CPUHP_INVALID;

static inline struct vgpu_pmu *to_pmu(struct perf_event *event) { return container_of(event->pmu, struct vgpu_pmu, pmu); }

/* ---- configs ---- */
#define I915_ENGINE_CONFIG(class, instance, sample) ((u64)(class) << 12 | (u64)(instance) << 4 | (sample))
#define I915_OTHER(x) (I915_ENGINE_CONFIG(0xff, 0xff, 0xf) + 1 + (x))
#define CONFIG_GT(config) ((unsigned int)((config) >> 60))
enum { I915_ACT_FREQ, I915_REQ_FREQ, I915_INTERRUPTS, I915_RC6, I915_AWAKE, I915_OTHERS };
enum { I915_BUSY, I915_WAIT, I915_SEMA };
/* xe: config:0-11 event, 12-19 engine_instance, 20-27 engine_class, 44-59 function, 60-63 gt */
enum { XE_C6 = 1, XE_ACTIVE_TICKS, XE_TOTAL_TICKS, XE_ACT_FREQ, XE_REQ_FREQ };

static struct vgpu_engine *find_engine(struct vgpu *gpu, int gt, unsigned int class, unsigned int instance)
{
	int i;

	for (i = 0; i < VGPU_ENGINES; i++) {
		struct vgpu_engine *e = &gpu->engines[i];

		if (e->desc->class == class && e->desc->instance == instance && (gt < 0 || e->gt == gt))
			return e;
	}
	return NULL;
}

static bool i915_is_engine(u64 config) { return config < I915_OTHER(0); }
static struct vgpu_engine *i915_engine(struct vgpu *gpu, u64 config)
{
	return find_engine(gpu, -1, config >> 12, (config >> 4) & 0xff);
}

static struct vgpu_engine *xe_engine(struct vgpu *gpu, u64 config)
{
	return find_engine(gpu, CONFIG_GT(config), (config >> 20) & 0xff, (config >> 12) & 0xff);
}

static bool multi_gt_events(struct vgpu *gpu) { return gpu->gts > 1 && vgpu_has_gt_events(); }

static int i915_check(struct vgpu *gpu, u64 config)
{
	u64 other = (config & ~(0xfull << 60)) - I915_OTHER(0);

	if (i915_is_engine(config)) {
		if (!i915_engine(gpu, config))
			return -ENODEV;
		return (config & 0xf) > I915_SEMA ? -ENOENT : 0;
	}
	if (CONFIG_GT(config) > (multi_gt_events(gpu) ? 1 : 0) || other >= I915_OTHERS)
		return -ENOENT;
	return other == I915_INTERRUPTS && CONFIG_GT(config) ? -ENOENT : 0;
}

static int xe_check(struct vgpu *gpu, u64 config)
{
	if (CONFIG_GT(config) >= gpu->gts)
		return -ENOENT;
	switch (config & 0xfff) {
	case XE_C6:
	case XE_ACT_FREQ:
	case XE_REQ_FREQ:
		return config & 0x0ffffffffffff000 ? -ENOENT : 0;
	case XE_ACTIVE_TICKS:
	case XE_TOTAL_TICKS:
		/* function: only 0 where there are no virtual functions */
		return config & 0x0ffff00000000000 || !xe_engine(gpu, config) ? -ENOENT : 0;
	default:
		return -ENOENT;
	}
}

static bool xe_is_frequency(u64 config) { return (config & 0xfff) == XE_ACT_FREQ || (config & 0xfff) == XE_REQ_FREQ; }
static bool xe_needs_forcewake(u64 config) { return (config & 0xfff) != XE_C6; }

/* what makes the real i915 run its 200 Hz timer */
static bool i915_samples(u64 config)
{
	if (i915_is_engine(config))
		return (config & 0xf) != I915_BUSY;
	return (config & ~(0xfull << 60)) <= I915_OTHER(I915_REQ_FREQ);
}

/* with vgpu.lock held */
static u64 i915_count(struct vgpu *gpu, u64 config, u64 now)
{
	struct vgpu_gt *g = &gpu->gt[CONFIG_GT(config)];

	if (i915_is_engine(config)) {
		struct vgpu_engine *e = i915_engine(gpu, config);

		switch (config & 0xf) {
		case I915_BUSY: return span_total(&e->busy, now);
		case I915_WAIT: return vgpu_engine_sampled(e, false, now);
		default: return vgpu_engine_sampled(e, true, now);
		}
	}
	switch ((config & ~(0xfull << 60)) - I915_OTHER(0)) {
	case I915_ACT_FREQ: return div_u64(vgpu_gt_integral(g, false, now), NSEC_PER_SEC);
	case I915_REQ_FREQ: return div_u64(vgpu_gt_integral(g, true, now), NSEC_PER_SEC);
	case I915_INTERRUPTS: return atomic64_read(&gpu->irqs);
	case I915_RC6: return vgpu_gt_rc6(gpu, CONFIG_GT(config), now);
	default: return span_total(&gpu->gt[0].awake, now);	/* the first GT's, whatever the event's GT */
	}
}

static u64 xe_count(struct vgpu *gpu, u64 config, u64 now)
{
	int gt = CONFIG_GT(config);

	switch (config & 0xfff) {
	case XE_C6: return div_u64(vgpu_gt_rc6(gpu, gt, now), NSEC_PER_MSEC);
	case XE_ACT_FREQ: return vgpu_gt_awake(gpu, gt, now) ? gpu->gt[gt].act_mhz : 0;
	case XE_REQ_FREQ: return gpu->gt[gt].req_mhz;
	case XE_ACTIVE_TICKS: return mul_u64_u32_div(span_total(&xe_engine(gpu, config)->busy, now), 192, 10000);
	default: return mul_u64_u32_div(now - gpu->born_ns, 192, 10000);
	}
}

static u64 count(struct vgpu *gpu, u64 config)
{
	unsigned long flags;
	u64 v, now;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	now = ktime_get_ns();
	v = gpu->is_xe ? xe_count(gpu, config, now) : i915_count(gpu, config, now);
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	return v;
}

/* ---- the end ---- */
static void pmu_free(struct vgpu_pmu *p)
{
	unsigned int i;

	for (i = 0; i < p->nattrs; i++) {
		kfree(p->attrs[i].attr.attr.name);
		kfree(p->attrs[i].event_str);
	}
	kfree(p->events.attrs);
	kfree(p->attrs);
	kfree(p);
}

static void pmu_gone(struct work_struct *w)
{
	struct vgpu_pmu *p = container_of(to_delayed_work(w), struct vgpu_pmu, gone);
	struct vgpu *gpu = p->gpu;

	if (OWN_MASK)
		cpuhp_state_remove_instance_nocalls(cpuhp_slot, &p->node);
	if (!CORE_REVOKES)
		perf_pmu_unregister(&p->pmu);
	pmu_free(p);
	drm_dev_put(&gpu->drm);
}

static void pmu_release(struct kref *ref)
{
	schedule_delayed_work(&container_of(ref, struct vgpu_pmu, ref)->gone, HZ);
}

/* ---- events ---- */
static void event_destroy(struct perf_event *event)
{
	struct vgpu_pmu *p = to_pmu(event);
	struct vgpu *gpu = p->gpu;
	u64 config = event->attr.config;

	if (gpu->is_xe) {
		if (xe_needs_forcewake(config)) {
			vgpu_forcewake_put(gpu, CONFIG_GT(config));
			atomic_dec(&gpu->pmu_forcewake_events);
		}
		vgpu_untouch(gpu);
	} else if (i915_samples(config)) {
		atomic_dec(&gpu->pmu_sampling_events);
	}
	atomic_dec(&gpu->pmu_events);
	kref_put(&p->ref, pmu_release);
}

static int event_init(struct perf_event *event)
{
	struct vgpu_pmu *p;
	struct vgpu *gpu;
	u64 config = event->attr.config;
	int ret;

	if (event->attr.type != event->pmu->type)
		return -ENOENT;
	p = to_pmu(event);
	gpu = p->gpu;
	if (!READ_ONCE(p->registered))
		return -ENODEV;
	if (event->attr.sample_period)
		return -EINVAL;
	if (has_branch_stack(event))
		return -EOPNOTSUPP;
	if (event->cpu < 0 || (OWN_MASK && event->cpu != READ_ONCE(p->cpu)))
		return -EINVAL;
	ret = gpu->is_xe ? xe_check(gpu, config) : i915_check(gpu, config);
	if (ret)
		return ret;
	if (!kref_get_unless_zero(&p->ref))
		return -ENODEV;
	if (gpu->is_xe) {
		vgpu_touch(gpu);	/* held until the event is closed, as the real driver does */
		if (xe_needs_forcewake(config)) {
			vgpu_forcewake_get(gpu, CONFIG_GT(config));
			atomic_inc(&gpu->pmu_forcewake_events);
		}
	} else if (i915_samples(config)) {
		atomic_inc(&gpu->pmu_sampling_events);
	}
	atomic_inc(&gpu->pmu_events);
	event->destroy = event_destroy;
	return 0;
}

static void event_read(struct perf_event *event)
{
	struct vgpu_pmu *p = to_pmu(event);
	u64 config = event->attr.config, now, prev;

	if (!READ_ONCE(p->registered)) {
		event->hw.state = PERF_HES_STOPPED;
		return;
	}
	now = count(p->gpu, config);
	if (p->gpu->is_xe && xe_is_frequency(config)) {
		local64_add(now, &event->count);	/* the MHz of the moment, at every read */
		return;
	}
	prev = local64_xchg(&event->hw.prev_count, now);
	local64_add(now - prev, &event->count);
}

static void event_start(struct perf_event *event, int flags)
{
	struct vgpu_pmu *p = to_pmu(event);

	if (!READ_ONCE(p->registered))
		return;
	local64_set(&event->hw.prev_count, count(p->gpu, event->attr.config));
	event->hw.state = 0;
}

static void event_stop(struct perf_event *event, int flags)
{
	if (READ_ONCE(to_pmu(event)->registered) && flags & PERF_EF_UPDATE)
		event_read(event);
	event->hw.state = PERF_HES_STOPPED;
}

static int event_add(struct perf_event *event, int flags)
{
	if (!READ_ONCE(to_pmu(event)->registered))
		return -ENODEV;
	if (flags & PERF_EF_START)
		event_start(event, flags);
	return 0;
}

static void event_del(struct perf_event *event, int flags) { event_stop(event, PERF_EF_UPDATE); }

/* ---- sysfs ---- */
static ssize_t ev_show(struct device *dev, struct device_attribute *a, char *buf)
{
	return sysfs_emit(buf, "%s", container_of(a, struct perf_pmu_events_attr, attr)->event_str);
}

static ssize_t cpumask_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct vgpu_pmu *p = container_of((struct pmu *)dev_get_drvdata(dev), struct vgpu_pmu, pmu);

	return sysfs_emit(buf, "%d\n", READ_ONCE(p->cpu));
}
static DEVICE_ATTR_RO(cpumask);
static struct attribute *cpumask_attrs[] = { &dev_attr_cpumask.attr, NULL };
static const struct attribute_group cpumask_group = { .attrs = cpumask_attrs };

PMU_FORMAT_ATTR(i915_eventid, "config:0-20");
PMU_FORMAT_ATTR(event, "config:0-11");
PMU_FORMAT_ATTR(engine_instance, "config:12-19");
PMU_FORMAT_ATTR(engine_class, "config:20-27");
PMU_FORMAT_ATTR(function, "config:44-59");
PMU_FORMAT_ATTR(gt, "config:60-63");
static struct attribute *i915_formats[] = { &format_attr_i915_eventid.attr, NULL };
static struct attribute *xe_formats[] = { &format_attr_event.attr, &format_attr_engine_instance.attr, &format_attr_engine_class.attr, &format_attr_function.attr, &format_attr_gt.attr, NULL };
static const struct attribute_group i915_format = { .name = "format", .attrs = i915_formats };
static const struct attribute_group xe_format = { .name = "format", .attrs = xe_formats };

/* an event's file and, where it has one, its unit's; the name is taken over */
static void add_event(struct vgpu_pmu *p, char *name, u64 config, const char *unit)
{
	struct perf_pmu_events_attr *e = &p->attrs[p->nattrs];
	int i, n = unit && name ? 2 : 1;

	if (!name)
		return;
	for (i = 0; i < n; i++, e++) {
		sysfs_attr_init(&e->attr.attr);
		e->attr.attr.name = i ? kasprintf(GFP_KERNEL, "%s.unit", name) : name;
		e->attr.attr.mode = 0444;
		e->attr.show = ev_show;
		if (i)
			e->event_str = kasprintf(GFP_KERNEL, "%s\n", unit);
		else if (p->gpu->is_xe)
			e->event_str = kasprintf(GFP_KERNEL, "event=%#04llx\n", config);
		else
			e->event_str = kasprintf(GFP_KERNEL, "config=0x%llx\n", config);
		p->nattrs++;
	}
}

static int make_events(struct vgpu_pmu *p)
{
	static const struct { const char *name, *unit; } other[I915_OTHERS] = {
		{ "actual-frequency", "M" }, { "requested-frequency", "M" }, { "interrupts", NULL },
		{ "rc6-residency", "ns" }, { "software-gt-awake-time", "ns" },
	};
	static const struct { const char *name, *unit; } xe[] = {
		{ "gt-c6-residency", "ms" }, { "engine-active-ticks", NULL }, { "engine-total-ticks", NULL },
		{ "gt-actual-frequency", "MHz" }, { "gt-requested-frequency", "MHz" },
	};
	static const char *const samples[] = { "busy", "wait", "sema" };
	unsigned int max = 2 * (VGPU_ENGINES * 3 + VGPU_GTS * I915_OTHERS), i, s, gts;
	struct vgpu *gpu = p->gpu;
	struct attribute **list;

	p->attrs = kcalloc(max, sizeof(*p->attrs), GFP_KERNEL);
	list = kcalloc(max + 1, sizeof(*list), GFP_KERNEL);
	p->events.name = "events";
	p->events.attrs = list;
	if (!p->attrs || !list)
		return -ENOMEM;
	if (gpu->is_xe) {
		for (i = 0; i < ARRAY_SIZE(xe); i++)
			add_event(p, kstrdup(xe[i].name, GFP_KERNEL), XE_C6 + i, xe[i].unit);
	} else {
		gts = multi_gt_events(gpu) ? gpu->gts : 1;
		for (s = 0; s < gts; s++)
			for (i = 0; i < I915_OTHERS; i++) {
				bool global = i == I915_INTERRUPTS;

				if (global && s)
					continue;
				add_event(p, gts == 1 || global ? kstrdup(other[i].name, GFP_KERNEL) : kasprintf(GFP_KERNEL, "%s-gt%u", other[i].name, s),
					  I915_OTHER(i) | (u64)s << 60, other[i].unit);
			}
		for (i = 0; i < VGPU_ENGINES; i++)
			for (s = 0; s < ARRAY_SIZE(samples); s++) {
				const struct vgpu_engine_desc *d = &vgpu_engine_descs[i];

				add_event(p, kasprintf(GFP_KERNEL, "%s-%s", d->name, samples[s]),
					  I915_ENGINE_CONFIG(d->class, d->instance, s), "ns");
			}
	}
	for (i = 0; i < p->nattrs; i++) {
		if (!p->attrs[i].attr.attr.name || !p->attrs[i].event_str)
			return -ENOMEM;
		list[i] = &p->attrs[i].attr.attr;
	}
	return 0;
}

/* ---- CPU hotplug ---- */
static int cpu_offline(unsigned int cpu, struct hlist_node *node)
{
	struct vgpu_pmu *p = hlist_entry(node, struct vgpu_pmu, node);
	unsigned int target;

	if (p->cpu != cpu)
		return 0;
	target = cpumask_any_but(cpu_online_mask, cpu);
	if (target >= nr_cpu_ids)
		return 0;
	WRITE_ONCE(p->cpu, target);
	perf_pmu_migrate_context(&p->pmu, cpu, target);
	return 0;
}

int vgpu_pmu_setup(void)
{
	int ret;

	if (!OWN_MASK)
		return 0;
	ret = cpuhp_setup_state_multi(CPUHP_AP_ONLINE_DYN, "perf/vgpu:online", NULL, cpu_offline);
	if (ret < 0)
		return ret;
	cpuhp_slot = ret;
	return 0;
}

/* the only PMU without an address in its name is the integrated i915's, at its fixed place */
static void name_pmu(struct vgpu_pmu *p)
{
	struct vgpu *gpu = p->gpu;
	char *c;

	if (!gpu->is_xe && !gpu->discrete && PCI_SLOT(gpu->pdev->devfn) == 2 && !pci_domain_nr(gpu->pdev->bus) && !gpu->pdev->bus->number) {
		strscpy(p->name, "i915", sizeof(p->name));
		return;
	}
	snprintf(p->name, sizeof(p->name), "%s_%s", gpu->ident->driver, pci_name(gpu->pdev));
	for (c = p->name; *c; c++)
		if (*c == ':')
			*c = '_';
}

int vgpu_pmu_register(struct vgpu *gpu)
{
	struct vgpu_pmu *p;
	int ret;

	if (!gpu->is_i915 && !(gpu->is_xe && vgpu_has_xe_pmu()))
		return 0;
	p = kzalloc(sizeof(*p), GFP_KERNEL);
	if (!p)
		return -ENOMEM;
	p->gpu = gpu;
	kref_init(&p->ref);
	INIT_DELAYED_WORK(&p->gone, pmu_gone);
	p->cpu = vgpu_pmu_cpu < nr_cpu_ids && cpu_online(vgpu_pmu_cpu) ? vgpu_pmu_cpu : cpumask_first(cpu_online_mask);
	name_pmu(p);
	ret = make_events(p);
	if (ret)
		goto fail;
	p->groups[0] = gpu->is_xe ? &xe_format : &i915_format;
	p->groups[1] = &p->events;
	if (OWN_MASK)
		p->groups[2] = &cpumask_group;
	p->pmu = (struct pmu) {
		.module = THIS_MODULE, .attr_groups = p->groups, .task_ctx_nr = perf_invalid_context,
#if !OWN_MASK
		.scope = PERF_PMU_SCOPE_SYS_WIDE,
#endif
		.event_init = event_init, .add = event_add, .del = event_del,
		.start = event_start, .stop = event_stop, .read = event_read,
	};
	p->registered = true;
	ret = perf_pmu_register(&p->pmu, p->name, -1);
	if (ret)
		goto fail;
	if (OWN_MASK) {
		ret = cpuhp_state_add_instance_nocalls(cpuhp_slot, &p->node);
		if (ret) {
			perf_pmu_unregister(&p->pmu);
			goto fail;
		}
	}
	drm_dev_get(&gpu->drm);
	gpu->pmu = p;
	return 0;
fail:
	pmu_free(p);
	return ret;
}

#if !CORE_REVOKES
/* The PMU's place in sysfs goes at once; the PMU itself when its last event is closed. */
static void hide(struct vgpu_pmu *p)
{
	struct device *dev = p->pmu.dev, *stand_in = NULL;

	if (!dev)
		return;
#if !K(6, 4)
	{
		/* 6.1's unregistration deletes whatever device is there: leave it one. */
		static atomic_t n = ATOMIC_INIT(0);
		char name[32];

		snprintf(name, sizeof(name), "vgpu-gone-%d", atomic_inc_return(&n));
		stand_in = root_device_register(name);
		if (IS_ERR(stand_in))
			return;
	}
#endif
	device_del(dev);
	p->pmu.dev = stand_in;
	put_device(dev);
}
#endif

void vgpu_pmu_unregister(struct vgpu *gpu)
{
	struct vgpu_pmu *p = gpu->pmu;

	if (!p)
		return;
	gpu->pmu = NULL;
	WRITE_ONCE(p->registered, false);
#if CORE_REVOKES
	perf_pmu_unregister(&p->pmu);
#else
	synchronize_rcu();
	hide(p);
#endif
	kref_put(&p->ref, pmu_release);
}

const char *vgpu_pmu_name(struct vgpu *gpu) { return gpu->pmu ? gpu->pmu->name : "none"; }
