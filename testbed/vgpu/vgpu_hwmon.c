// SPDX-License-Identifier: GPL-2.0
/* hwmon: energy in uJ, limits in uW, voltage in mV, temperature in mC, fan in RPM. Every read takes runtime PM. */
#include <linux/hwmon.h>
#include "vgpu.h"

static umode_t i915_visible(enum hwmon_sensor_types t)
{
	switch (t) {
	case hwmon_temp: return vgpu_has_i915_temp() ? 0444 : 0;
	case hwmon_fan: return vgpu_has_i915_fan() ? 0444 : 0;
	default: return 0444;
	}
}

static umode_t xe_visible(enum hwmon_sensor_types t, int ch)
{
	switch (t) {
	case hwmon_temp: return ch && vgpu_has_xe_sensors() ? 0444 : 0;
	case hwmon_fan: return vgpu_has_xe_sensors() ? 0444 : 0;
	case hwmon_in: return ch && vgpu_force ? 0444 : 0;	/* the real driver has no voltage register on this part */
	default: return 0444;
	}
}

static umode_t hw_visible(const void *d, enum hwmon_sensor_types t, u32 attr, int ch)
{
	const struct vgpu *gpu = d;

	return gpu->is_xe ? xe_visible(t, ch) : i915_visible(t);
}

static int power_read(u32 attr, int ch, long *val)
{
	switch (attr) {
	case hwmon_power_max: *val = ch ? 120000000 : 150000000; return 0;
	case hwmon_power_rated_max: *val = ch ? 150000000 : 190000000; return 0;
	case hwmon_power_crit: *val = 300000000; return 0;
	default: return -EOPNOTSUPP;
	}
}

static int temp_read(struct vgpu *gpu, u32 attr, int ch, long *val)
{
	switch (attr) {
	case hwmon_temp_input: *val = ch == 2 ? READ_ONCE(gpu->vram_temp_mc) : READ_ONCE(gpu->temp_mc); return 0;
	case hwmon_temp_max: *val = 100000; return 0;
	case hwmon_temp_crit: *val = 105000; return 0;
	case hwmon_temp_emergency: *val = 110000; return 0;
	default: return -EOPNOTSUPP;
	}
}

static int hw_read(struct device *dev, enum hwmon_sensor_types t, u32 attr, int ch, long *val)
{
	struct vgpu *gpu = dev_get_drvdata(dev);
	unsigned long flags;
	int ret = 0;

	vgpu_touch(gpu);
	switch (t) {
	case hwmon_energy:
		raw_spin_lock_irqsave(&gpu->lock, flags);
		*val = vgpu_energy_uj(gpu, ch + 1, ktime_get_ns());
		raw_spin_unlock_irqrestore(&gpu->lock, flags);
		break;
	case hwmon_power: ret = power_read(attr, ch, val); break;
	case hwmon_in: *val = 850; break;
	case hwmon_temp: ret = temp_read(gpu, attr, ch, val); break;
	case hwmon_fan: *val = READ_ONCE(gpu->fan_rpm); break;
	default: ret = -EOPNOTSUPP;
	}
	vgpu_untouch(gpu);
	return ret;
}

static int hw_label(struct device *dev, enum hwmon_sensor_types t, u32 attr, int ch, const char **str)
{
	static const char *const names[] = { "card", "pkg", "vram" };

	*str = names[ch];
	return 0;
}

static const struct hwmon_ops hw_ops = { .is_visible = hw_visible, .read = hw_read, .read_string = hw_label };

#if K(6, 4)
#define INFO static const struct hwmon_channel_info *const
#else
#define INFO static const struct hwmon_channel_info *
#endif
INFO i915_info[] = {
	HWMON_CHANNEL_INFO(temp, HWMON_T_INPUT), HWMON_CHANNEL_INFO(in, HWMON_I_INPUT),
	HWMON_CHANNEL_INFO(power, HWMON_P_MAX | HWMON_P_RATED_MAX), HWMON_CHANNEL_INFO(energy, HWMON_E_INPUT),
	HWMON_CHANNEL_INFO(fan, HWMON_F_INPUT), NULL };
INFO xe_info[] = {
	/* The first channel of temperatures and voltages is the card's, which has none; a 0 would end the list. */
	HWMON_CHANNEL_INFO(temp, HWMON_T_LABEL,
			   HWMON_T_INPUT | HWMON_T_LABEL | HWMON_T_MAX | HWMON_T_CRIT | HWMON_T_EMERGENCY,
			   HWMON_T_INPUT | HWMON_T_LABEL | HWMON_T_CRIT | HWMON_T_EMERGENCY),
	HWMON_CHANNEL_INFO(power, HWMON_P_MAX | HWMON_P_RATED_MAX | HWMON_P_LABEL | HWMON_P_CRIT,
			   HWMON_P_MAX | HWMON_P_RATED_MAX | HWMON_P_LABEL),
	HWMON_CHANNEL_INFO(in, HWMON_I_LABEL, HWMON_I_INPUT | HWMON_I_LABEL),	/* in1 counts from in0 */
	HWMON_CHANNEL_INFO(energy, HWMON_E_INPUT | HWMON_E_LABEL, HWMON_E_INPUT | HWMON_E_LABEL),
	HWMON_CHANNEL_INFO(fan, HWMON_F_INPUT, HWMON_F_INPUT), NULL };
static const struct hwmon_chip_info i915_chip = { .ops = &hw_ops, .info = i915_info };
static const struct hwmon_chip_info xe_chip = { .ops = &hw_ops, .info = xe_info };

int vgpu_hwmon_register(struct vgpu *gpu)
{
	if (gpu->is_amd || !gpu->discrete || (gpu->is_i915 && !vgpu_has_i915_hwmon()))
		return 0;
	gpu->hwmon = hwmon_device_register_with_info(gpu->dev, gpu->ident->driver, gpu,
						     gpu->is_xe ? &xe_chip : &i915_chip, NULL);
	if (IS_ERR(gpu->hwmon)) {
		int ret = PTR_ERR(gpu->hwmon);

		gpu->hwmon = NULL;
		return ret;
	}
	return 0;
}

void vgpu_hwmon_unregister(struct vgpu *gpu)
{
	if (gpu->hwmon)
		hwmon_device_unregister(gpu->hwmon);
}
