// SPDX-License-Identifier: GPL-2.0
/* amdgpu's files under the PCI device: utilisation, memory, clocks, gpu_metrics, and its hwmon. */
#include <linux/hwmon.h>
#include <linux/hwmon-sysfs.h>
#include <linux/sysfs.h>
#include <linux/timekeeping.h>
#include "vgpu.h"

#define VRAM_BYTES (16368ull << 20)
#define VISIBLE_BYTES (256ull << 20)
#define GTT_BYTES (8192ull << 20)
#define MIN_MHZ 500
#define MAX_MHZ 2575
#define MEM_MHZ 1000
#define POINTS 8
#define STEP_MS 50

/* What firmware calls "average" is over a short time past: here some 400 ms. It never wakes the device. */
struct vgpu_amd {
	struct vgpu *gpu;
	struct device *hwmon;
	struct delayed_work step;
	/* under vgpu.lock: a ring of past moments */
	struct { u64 at, busy[VGPU_ENGINES]; } past[POINTS];
	unsigned int next;
};

static void note(struct vgpu_amd *amd)
{
	struct vgpu *gpu = amd->gpu;
	unsigned long flags;
	unsigned int i, at;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	at = amd->next++ % POINTS;
	amd->past[at].at = ktime_get_ns();
	for (i = 0; i < gpu->ident->nengines; i++)
		amd->past[at].busy[i] = span_total(&gpu->engines[i].busy, amd->past[at].at);
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
}

static void step(struct work_struct *work)
{
	struct vgpu_amd *amd = container_of(work, struct vgpu_amd, step.work);

	note(amd);
	schedule_delayed_work(&amd->step, msecs_to_jiffies(STEP_MS));
}

/* thousandths of the last moments that the engines [from, to) were busy, summed */
static u32 lately(struct vgpu *gpu, int from, int to)
{
	struct vgpu_amd *amd = gpu->amd;
	unsigned long flags;
	u64 now, wall, busy = 0;
	unsigned int oldest;
	int i;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	oldest = amd->next > POINTS ? amd->next % POINTS : 0;
	now = ktime_get_ns();
	wall = now - amd->past[oldest].at;
	for (i = from; i < to; i++)
		busy += span_total(&gpu->engines[i].busy, now) - amd->past[oldest].busy[i];
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	return wall ? div64_u64(busy * 1000, wall) : 0;
}

static u64 used(struct vgpu *gpu, u32 region)
{
	unsigned long flags;
	u64 bytes;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	bytes = vgpu_memory_used(gpu, region);
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	return bytes;
}

static u32 clock_mhz(struct vgpu *gpu)
{
	unsigned long flags;
	u32 mhz;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	mhz = vgpu_gt_awake(gpu, 0, ktime_get_ns()) ? gpu->gt[0].act_mhz : MIN_MHZ;
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	return mhz;
}

static u32 power_mw(struct vgpu *gpu) { return 5000 + 20 * lately(gpu, 0, gpu->ident->nengines); }

/*
 * amdgpu_pm.c: up to 6.12 a read wakes the device (pm_runtime_get_sync); later
 * it is refused while the device sleeps (amdgpu_pm_get_access_if_active).
 */
static int get_access(struct vgpu *gpu)
{
#if K(6, 13)
	if (pm_runtime_get_if_active(gpu->dev) <= 0)
		return -EPERM;
	atomic64_inc(&gpu->touches);
#else
	vgpu_touch(gpu);
#endif
	return 0;
}

/* gpu_metrics_v1_3 of kgd_pp_interface.h, by its field order and C's alignment */
struct metrics {
	u16 size;
	u8 format, content;
	u16 temp_edge, temp_hotspot, temp_mem, temp_vrgfx, temp_vrsoc, temp_vrmem;
	u16 gfx_activity, umc_activity, mm_activity;
	u16 socket_power;
	u64 energy, clock_counter;
	u16 average_clocks[7], current_clocks[7];
	u32 throttle;
	u16 fan, link_width, link_speed, pad0;
	u32 gfx_activity_acc, mem_activity_acc;
	u16 temp_hbm[4];
	u64 firmware_timestamp;
	u16 volt_soc, volt_gfx, volt_mem, pad1;
	u64 indep_throttle;
};
static_assert(sizeof(struct metrics) == 120);

static ssize_t metrics(struct vgpu *gpu, char *buf)
{
	u32 mhz = clock_mhz(gpu), temp = gpu->temp_mc / 1000;
	unsigned long flags;
	struct metrics m;
	u64 uj;

	memset(&m, 0xff, sizeof(m));	/* what is not known stays all ones */
	raw_spin_lock_irqsave(&gpu->lock, flags);
	uj = vgpu_energy_uj(gpu, 1, ktime_get_ns());
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	m.size = sizeof(m);
	m.format = 1;
	m.content = 3;
	m.temp_edge = temp;
	m.temp_hotspot = temp + 8;
	m.temp_mem = gpu->vram_temp_mc / 1000;
	m.temp_vrgfx = m.temp_vrsoc = m.temp_vrmem = temp - 2;
	m.gfx_activity = min(lately(gpu, 0, 1) / 10, 100u);
	m.umc_activity = m.gfx_activity / 2;
	m.mm_activity = min(lately(gpu, 3, 4) / 10, 100u);
	m.socket_power = power_mw(gpu) / 1000;
	m.energy = div_u64(uj * 1000, 15259);	/* in 2^-16 J */
	m.clock_counter = ktime_get_boottime_ns();
	m.average_clocks[0] = m.current_clocks[0] = mhz;
	m.average_clocks[2] = m.current_clocks[2] = MEM_MHZ;
	m.throttle = 0;
	m.fan = gpu->fan_rpm;
	m.link_width = 16;
	m.link_speed = 160;
	m.volt_gfx = 850;
	m.indep_throttle = 0;
	memcpy(buf, &m, sizeof(m));
	return sizeof(m);
}

/* a table of clocks as smu_v11 prints a fine-grained one: least, now, most */
static ssize_t clocks(char *buf, u32 least, u32 now, u32 most)
{
	if (now <= least || now >= most)
		return sysfs_emit(buf, "0: %uMhz %s\n1: %uMhz %s\n", least, now <= least ? "*" : "", most, now >= most ? "*" : "");
	return sysfs_emit(buf, "0: %uMhz \n1: %uMhz *\n2: %uMhz \n", least, now, most);
}

enum what {
	VRAM_TOTAL, VRAM_USED, VIS_TOTAL, VIS_USED, GTT_TOTAL, GTT_USED,	/* these never ask for power */
	LABEL_EDGE, LABEL_JUNCTION, LABEL_MEM, LABEL_PPT, LABEL_GFX, LABEL_SCLK, LABEL_MCLK,
	NEEDS_POWER, BUSY = NEEDS_POWER, MEM_BUSY, SCLK, MCLK, METRICS,
	TEMP_EDGE, TEMP_JUNCTION, TEMP_MEM, TEMP_CRIT, POWER, POWER_CAP, POWER_CAP_MAX, FAN, VOLT, FREQ_SCLK, FREQ_MCLK,
};

static const char *const labels[] = { "edge", "junction", "mem", "PPT", "vddgfx", "sclk", "mclk" };

static u64 value(struct vgpu *gpu, enum what what)
{
	switch (what) {
	case VRAM_TOTAL: return VRAM_BYTES;
	case VRAM_USED: return used(gpu, VGPU_REGION_LOCAL);
	case VIS_TOTAL: return VISIBLE_BYTES;
	case VIS_USED: return min(used(gpu, VGPU_REGION_LOCAL), VISIBLE_BYTES);
	case GTT_TOTAL: return GTT_BYTES;
	case GTT_USED: return used(gpu, VGPU_REGION_SYSTEM);
	case BUSY: return min(lately(gpu, 0, 1) / 10, 100u);
	case MEM_BUSY: return min(lately(gpu, 0, 1) / 20, 100u);
	case TEMP_EDGE: return READ_ONCE(gpu->temp_mc);
	case TEMP_JUNCTION: return READ_ONCE(gpu->temp_mc) + 8000;
	case TEMP_MEM: return READ_ONCE(gpu->vram_temp_mc);
	case TEMP_CRIT: return 100000;
	case POWER: return power_mw(gpu) * 1000ull;
	case POWER_CAP:
	case POWER_CAP_MAX: return 203000000;
	case FAN: return READ_ONCE(gpu->fan_rpm);
	case VOLT: return 850;
	case FREQ_SCLK: return clock_mhz(gpu) * 1000000ull;
	case FREQ_MCLK: return MEM_MHZ * 1000000ull;
	default: return 0;
	}
}

static ssize_t show(struct device *dev, struct device_attribute *a, char *buf)
{
	enum what what = (enum what)(uintptr_t)container_of(a, struct dev_ext_attribute, attr)->var;
	struct vgpu *gpu = dev_get_drvdata(dev);
	ssize_t n;

	if (what >= LABEL_EDGE && what <= LABEL_MCLK)
		return sysfs_emit(buf, "%s\n", labels[what - LABEL_EDGE]);
	if (what >= NEEDS_POWER) {
		n = get_access(gpu);
		if (n)
			return n;
	}
	switch (what) {
	case SCLK: n = clocks(buf, MIN_MHZ, clock_mhz(gpu), MAX_MHZ); break;
	case MCLK: n = sysfs_emit(buf, "0: 96Mhz \n1: 456Mhz \n2: 673Mhz \n3: %uMhz *\n", MEM_MHZ); break;
	case METRICS: n = metrics(gpu, buf); break;
	default: n = sysfs_emit(buf, "%llu\n", value(gpu, what));
	}
	if (what >= NEEDS_POWER)
		vgpu_untouch(gpu);
	return n;
}

#define RO(name_, what_) static struct dev_ext_attribute attr_##name_ = { \
	.attr = { .attr = { .name = #name_, .mode = 0444 }, .show = show }, .var = (void *)what_ }
RO(gpu_busy_percent, BUSY); RO(mem_busy_percent, MEM_BUSY); RO(gpu_metrics, METRICS);
RO(mem_info_vram_total, VRAM_TOTAL); RO(mem_info_vram_used, VRAM_USED);
RO(mem_info_vis_vram_total, VIS_TOTAL); RO(mem_info_vis_vram_used, VIS_USED);
RO(mem_info_gtt_total, GTT_TOTAL); RO(mem_info_gtt_used, GTT_USED);
RO(pp_dpm_sclk, SCLK); RO(pp_dpm_mclk, MCLK);
RO(temp1_input, TEMP_EDGE); RO(temp1_label, LABEL_EDGE); RO(temp1_crit, TEMP_CRIT);
RO(temp2_input, TEMP_JUNCTION); RO(temp2_label, LABEL_JUNCTION);
RO(temp3_input, TEMP_MEM); RO(temp3_label, LABEL_MEM);
RO(power1_average, POWER); RO(power1_cap, POWER_CAP); RO(power1_cap_max, POWER_CAP_MAX); RO(power1_label, LABEL_PPT);
RO(fan1_input, FAN); RO(in0_input, VOLT); RO(in0_label, LABEL_GFX);
RO(freq1_input, FREQ_SCLK); RO(freq1_label, LABEL_SCLK); RO(freq2_input, FREQ_MCLK); RO(freq2_label, LABEL_MCLK);

#define A(name_) &attr_##name_.attr.attr
static struct attribute *device_attrs[] = {
	A(gpu_busy_percent), A(mem_busy_percent), A(gpu_metrics), A(mem_info_vram_total), A(mem_info_vram_used),
	A(mem_info_vis_vram_total), A(mem_info_vis_vram_used), A(mem_info_gtt_total), A(mem_info_gtt_used),
	A(pp_dpm_sclk), A(pp_dpm_mclk), NULL };
static struct attribute *hwmon_attrs[] = {
	A(temp1_input), A(temp1_label), A(temp1_crit), A(temp2_input), A(temp2_label), A(temp3_input), A(temp3_label),
	A(power1_average), A(power1_cap), A(power1_cap_max), A(power1_label), A(fan1_input), A(in0_input), A(in0_label),
	A(freq1_input), A(freq1_label), A(freq2_input), A(freq2_label), NULL };
static const struct attribute_group device_group = { .attrs = device_attrs };
static const struct attribute_group hwmon_group = { .attrs = hwmon_attrs };
static const struct attribute_group *hwmon_groups[] = { &hwmon_group, NULL };

int vgpu_amd_register(struct vgpu *gpu)
{
	struct vgpu_amd *amd = kzalloc(sizeof(*amd), GFP_KERNEL);
	int ret;

	if (!amd)
		return -ENOMEM;
	amd->gpu = gpu;
	INIT_DELAYED_WORK(&amd->step, step);
	gpu->amd = amd;
	note(amd);
	schedule_delayed_work(&amd->step, msecs_to_jiffies(STEP_MS));
	ret = sysfs_create_group(&gpu->dev->kobj, &device_group);
	amd->hwmon = hwmon_device_register_with_groups(gpu->dev, "amdgpu", gpu, hwmon_groups);
	if (IS_ERR(amd->hwmon)) {
		ret = PTR_ERR(amd->hwmon);
		amd->hwmon = NULL;
	}
	return ret;
}

void vgpu_amd_unregister(struct vgpu *gpu)
{
	struct vgpu_amd *amd = gpu->amd;

	if (!amd)
		return;
	if (amd->hwmon)
		hwmon_device_unregister(amd->hwmon);
	sysfs_remove_group(&gpu->dev->kobj, &device_group);
	cancel_delayed_work_sync(&amd->step);
	gpu->amd = NULL;
	kfree(amd);
}
