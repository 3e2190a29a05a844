//! Every metric, declared once: exporters, captions and `docs/METRICS.md` derive from this table.

/// Whether a metric is a level or only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A level at a moment, or a rate over an interval.
    Gauge,
    /// Grows from an arbitrary start.
    Counter,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name in exposition formats: base unit as suffix.
    pub name: &'static str,
    /// Path of the field in gpuscope's JSON; `[]` stands for each entry.
    pub json: &'static str,
    /// Unit of the JSON field.
    pub unit: &'static str,
    /// Level or counter.
    pub kind: MetricKind,
    /// Labels, in order, after `gpu` which all have.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// Kernel file or event, and since when.
    pub source: &'static str,
}

macro_rules! gauge {
    ($name:literal, $json:literal, $unit:literal, [$($label:literal),*], $help:literal, $source:literal) => {
        Metric { name: $name, json: $json, unit: $unit, kind: MetricKind::Gauge, labels: &[$($label),*], help: $help, source: $source }
    };
}

/// All metrics, in the order of the JSON output.
pub const METRICS: &[Metric] = &[
    gauge!(
        "gpuscope_engine_busy_ratio",
        "engines[].busy_percent",
        "percent",
        ["engine", "class"],
        "Share of the interval in which the engine executed work.",
        "i915 PMU `<engine>-busy`; xe PMU `engine-active-ticks` of `engine-total-ticks` (Linux 6.16, on request); amdgpu `gpu_busy_percent`, `vcn_busy_percent`, `mem_busy_percent`, NVML `nvmlDeviceGetUtilizationRates` and its like (sampled); intel_vpu `npu_busy_time_us`"
    ),
    gauge!(
        "gpuscope_engine_wait_ratio",
        "engines[].wait_percent",
        "percent",
        ["engine", "class"],
        "Share of the interval in which the engine waited for an event. On request: the kernel samples it at 200 Hz.",
        "i915 PMU `<engine>-wait`"
    ),
    gauge!(
        "gpuscope_engine_sema_ratio",
        "engines[].sema_percent",
        "percent",
        ["engine", "class"],
        "Share of the interval in which the engine waited for a semaphore. On request: the kernel samples it at 200 Hz.",
        "i915 PMU `<engine>-sema`"
    ),
    gauge!(
        "gpuscope_class_busy_ratio",
        "classes[].busy_percent",
        "percent",
        ["class"],
        "Share of the capacity of all engines of the class that executed work.",
        "mean of the counted engines; else DRM fdinfo `drm-engine-*`, `drm-cycles-*` summed over all clients"
    ),
    gauge!(
        "gpuscope_frequency_actual_hertz",
        "frequency[].actual_mhz",
        "MHz",
        ["gt"],
        "Frequency at which the GT runs; 0 while it is idle in RC6.",
        "i915 `gt/gtN/rps_act_freq_mhz` or PMU `actual-frequency` (on request, mean); xe `tileT/gtN/freq0/act_freq`; amdgpu hwmon `freq1_input`, else `pp_dpm_*`; NVML `nvmlDeviceGetClockInfo`; intel_vpu `npu_current_frequency_mhz`; devfreq `cur_freq`"
    ),
    gauge!(
        "gpuscope_frequency_requested_hertz",
        "frequency[].requested_mhz",
        "MHz",
        ["gt"],
        "Frequency that the driver or firmware asked for.",
        "i915 `gt/gtN/rps_cur_freq_mhz` or PMU `requested-frequency` (on request, mean); xe `tileT/gtN/freq0/cur_freq`; devfreq `target_freq`"
    ),
    gauge!(
        "gpuscope_frequency_min_hertz",
        "frequency[].min_mhz",
        "MHz",
        ["gt"],
        "Lower frequency limit in force.",
        "i915 `gt/gtN/rps_min_freq_mhz`; xe `tileT/gtN/freq0/min_freq`; amdgpu `pp_dpm_*`; devfreq `min_freq`"
    ),
    gauge!(
        "gpuscope_frequency_max_hertz",
        "frequency[].max_mhz",
        "MHz",
        ["gt"],
        "Upper frequency limit in force.",
        "i915 `gt/gtN/rps_max_freq_mhz`; xe `tileT/gtN/freq0/max_freq`; amdgpu `pp_dpm_*`; NVML `nvmlDeviceGetMaxClockInfo`; intel_vpu `npu_max_frequency_mhz`; devfreq `max_freq`"
    ),
    gauge!(
        "gpuscope_throttled",
        "frequency[].throttle",
        "reasons",
        ["gt", "reason"],
        "1 for each reason that limits the GT's frequency now.",
        "i915 `gt/gtN/throttle_reason_*`; xe `tileT/gtN/freq0/throttle/`; amdgpu `gpu_metrics`; NVML `nvmlDeviceGetCurrentClocksThrottleReasons`"
    ),
    gauge!(
        "gpuscope_power_gpu_watts",
        "power.gpu_watts",
        "W",
        [],
        "Mean power of the GPU alone.",
        "RAPL `power/energy-gpu` (integrated, client processors)"
    ),
    gauge!(
        "gpuscope_power_card_watts",
        "power.card_watts",
        "W",
        [],
        "Mean power of the whole card.",
        "hwmon `energy1_input` of xe, discrete, where it has two channels; amdgpu hwmon `power1_average` or `power1_input`, summed up (cards); NVML `nvmlDeviceGetTotalEnergyConsumption`, else `nvmlDeviceGetPowerUsage`, summed up"
    ),
    gauge!(
        "gpuscope_power_package_watts",
        "power.package_watts",
        "W",
        [],
        "Mean power of the processor packages (integrated), or of the GPU's package (discrete).",
        "RAPL `power/energy-pkg`, else powercap `energy_uj` (integrated); hwmon `energy1_input` of i915 (Linux 6.2) and `energy2_input` of xe (discrete); amdgpu hwmon `power1_average` or `power1_input`, summed up (APUs)"
    ),
    gauge!(
        "gpuscope_power_psys_watts",
        "power.psys_watts",
        "W",
        [],
        "Mean power of the platform.",
        "RAPL `power/energy-psys`"
    ),
    gauge!(
        "gpuscope_rc6_residency_ratio",
        "rc6[].residency_percent",
        "percent",
        ["gt"],
        "Share of the interval in which the GT was in RC6 (xe: C6).",
        "i915 PMU `rc6-residency` or `gt/gtN/rc6_residency_ms`; xe `tileT/gtN/gtidle/idle_residency_ms`"
    ),
    gauge!(
        "gpuscope_temperature_celsius",
        "temperature[].celsius",
        "°C",
        ["sensor"],
        "Temperature.",
        "hwmon `tempN_input`; NVML `nvmlDeviceGetTemperature`"
    ),
    gauge!(
        "gpuscope_fan_rpm",
        "fans[].rpm",
        "rpm",
        ["fan"],
        "Fan speed.",
        "hwmon `fanN_input`; NVML `nvmlDeviceGetFanSpeedRPM`"
    ),
    gauge!(
        "gpuscope_memory_total_bytes",
        "memory[].total_bytes",
        "bytes",
        ["region"],
        "Size of a memory region of the device.",
        "amdgpu `mem_info_{vram,vis_vram,gtt}_total`; NVML `nvmlDeviceGetMemoryInfo_v2`"
    ),
    gauge!(
        "gpuscope_memory_used_bytes",
        "memory[].used_bytes",
        "bytes",
        ["region"],
        "Bytes in use in a memory region of the device.",
        "amdgpu `mem_info_{vram,vis_vram,gtt}_used`; NVML `nvmlDeviceGetMemoryInfo_v2`; intel_vpu `npu_memory_utilization`"
    ),
    gauge!(
        "gpuscope_system_memory_read_bytes_per_second",
        "system_memory_bandwidth.read_bytes_per_second",
        "bytes/s",
        [],
        "Reads over the processor's memory controllers: the whole machine, the GPU's part included.",
        "PMU `uncore_imc` (`data_reads`), `uncore_imc_free_running_N` (`data_read`)"
    ),
    gauge!(
        "gpuscope_system_memory_write_bytes_per_second",
        "system_memory_bandwidth.write_bytes_per_second",
        "bytes/s",
        [],
        "Writes over the processor's memory controllers: the whole machine, the GPU's part included.",
        "PMU `uncore_imc` (`data_writes`), `uncore_imc_free_running_N` (`data_write`)"
    ),
];

/// `docs/METRICS.md`, made from the table.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade from `crates/model/src/catalogue.rs` by `cargo xtask docs`; do not edit.\n\n\
         Every metric carries the label `gpu`. A value that is not known is absent, never 0.\n\n\
         | metric | JSON field of `stat` | unit of the JSON field | labels | meaning | source |\n|---|---|---|---|---|---|\n",
    );
    for m in METRICS {
        text.push_str(&format!(
            "| `{}` | `{}` | {} | {} | {} | {} |\n",
            m.name,
            m.json,
            m.unit,
            m.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", "),
            m.help,
            m.source,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_a_base_unit_and_are_unique() {
        const UNITS: [&str; 8] =
            ["_ratio", "_hertz", "_watts", "_celsius", "_rpm", "_bytes", "_bytes_per_second", "_throttled"];
        for (i, m) in METRICS.iter().enumerate() {
            assert!(m.name.starts_with("gpuscope_"), "{}", m.name);
            assert!(UNITS.iter().any(|u| m.name.ends_with(u)), "{} has no base unit", m.name);
            assert!(METRICS[i + 1..].iter().all(|o| o.name != m.name), "{} twice", m.name);
            assert_eq!(m.name.ends_with("_total"), m.kind == MetricKind::Counter, "{}", m.name);
            assert!(m.help.ends_with('.'), "{}", m.name);
        }
    }
}
