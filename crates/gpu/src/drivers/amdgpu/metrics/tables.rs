//! The fields of every `gpu_metrics` structure, in the order of drivers/gpu/drm/amd/include/kgd_pp_interface.h, from Linux 5.9 (v1_0,
//! v2_0) to 7.2 (v1_9). Offsets follow from C's natural alignment: the header packs nothing.
//!
//! Units stand in the header from v1_4, v2_4 and v3_0 on. Before, they are what the drivers under drivers/gpu/drm/amd/pm/swsmu put
//! in: v1 takes °C, W, % and MHz, v2 centi-°C and MHz. What v2 means by activity and power differs between chips and firmwares
//! (`renoir_get_smu_metrics_data` divides the socket's power by 1000, or does not, by firmware version): [`Unit::Unsettled`].

use super::{Field, Kind, Layout, Unit};

const NUM_HBM_INSTANCES: u16 = 4;
const NUM_XGMI_LINKS: u16 = 8;
const MAX_GFX_CLKS: u16 = 8;
const MAX_CLKS: u16 = 4;
const NUM_VCN: u16 = 4;
const NUM_JPEG_ENG: u16 = 32;
const NUM_XCP: u16 = 8;

const fn u8(name: &'static str, unit: Unit) -> Field {
    Field { name, kind: Kind::U8, count: 1, unit }
}

const fn u16(name: &'static str, unit: Unit) -> Field {
    Field { name, kind: Kind::U16, count: 1, unit }
}

const fn u32(name: &'static str, unit: Unit) -> Field {
    Field { name, kind: Kind::U32, count: 1, unit }
}

const fn u64(name: &'static str, unit: Unit) -> Field {
    Field { name, kind: Kind::U64, count: 1, unit }
}

const fn several(field: Field, count: u16) -> Field {
    Field { count, ..field }
}

/// Counters of the compute partitions, as 64-bit words: `struct amdgpu_xcp_metrics` and its successors begin with 32-bit and 16-bit
/// fields, so the words are not to be read as numbers.
const fn xcp_stats(bytes_each: u16) -> Field {
    several(u64("xcp_stats", Unit::Opaque), NUM_XCP * (bytes_each / 8))
}

use Unit::{
    Celsius, CentiCelsius, CentiPercent, Energy, Megahertz, Milliamperes, Millivolts, Milliwatts, Nanoseconds, Opaque,
    Percent, Rpm, TenNanoseconds, TenthGigatransfers, Unitless, Unsettled, Watts,
};

/// `gpu_metrics_v1_0` has the clock first, a short energy accumulator and a narrow link.
const V1_0: &[Field] = &[
    u64("system_clock_counter", Nanoseconds),
    u16("temperature_edge", Celsius),
    u16("temperature_hotspot", Celsius),
    u16("temperature_mem", Celsius),
    u16("temperature_vrgfx", Celsius),
    u16("temperature_vrsoc", Celsius),
    u16("temperature_vrmem", Celsius),
    u16("average_gfx_activity", Percent),
    u16("average_umc_activity", Percent),
    u16("average_mm_activity", Percent),
    u16("average_socket_power", Watts),
    u32("energy_accumulator", Unsettled),
    u16("average_gfxclk_frequency", Megahertz),
    u16("average_socclk_frequency", Megahertz),
    u16("average_uclk_frequency", Megahertz),
    u16("average_vclk0_frequency", Megahertz),
    u16("average_dclk0_frequency", Megahertz),
    u16("average_vclk1_frequency", Megahertz),
    u16("average_dclk1_frequency", Megahertz),
    u16("current_gfxclk", Megahertz),
    u16("current_socclk", Megahertz),
    u16("current_uclk", Megahertz),
    u16("current_vclk0", Megahertz),
    u16("current_dclk0", Megahertz),
    u16("current_vclk1", Megahertz),
    u16("current_dclk1", Megahertz),
    u32("throttle_status", Opaque),
    u16("current_fan_speed", Rpm),
    u8("pcie_link_width", Unitless),
    u8("pcie_link_speed", TenthGigatransfers),
];

/// `gpu_metrics_v1_1`, which `v1_2` and `v1_3` continue.
const V1_1: &[Field] = &[
    u16("temperature_edge", Celsius),
    u16("temperature_hotspot", Celsius),
    u16("temperature_mem", Celsius),
    u16("temperature_vrgfx", Celsius),
    u16("temperature_vrsoc", Celsius),
    u16("temperature_vrmem", Celsius),
    u16("average_gfx_activity", Percent),
    u16("average_umc_activity", Percent),
    u16("average_mm_activity", Percent),
    u16("average_socket_power", Watts),
    u64("energy_accumulator", Unsettled),
    u64("system_clock_counter", Nanoseconds),
    u16("average_gfxclk_frequency", Megahertz),
    u16("average_socclk_frequency", Megahertz),
    u16("average_uclk_frequency", Megahertz),
    u16("average_vclk0_frequency", Megahertz),
    u16("average_dclk0_frequency", Megahertz),
    u16("average_vclk1_frequency", Megahertz),
    u16("average_dclk1_frequency", Megahertz),
    u16("current_gfxclk", Megahertz),
    u16("current_socclk", Megahertz),
    u16("current_uclk", Megahertz),
    u16("current_vclk0", Megahertz),
    u16("current_dclk0", Megahertz),
    u16("current_vclk1", Megahertz),
    u16("current_dclk1", Megahertz),
    u32("throttle_status", Opaque),
    u16("current_fan_speed", Rpm),
    u16("pcie_link_width", Unitless),
    u16("pcie_link_speed", TenthGigatransfers),
    u16("padding", Opaque),
    u32("gfx_activity_acc", Unsettled),
    u32("mem_activity_acc", Unsettled),
    several(u16("temperature_hbm", Celsius), NUM_HBM_INSTANCES),
];

const V1_2_TAIL: &[Field] = &[u64("firmware_timestamp", TenNanoseconds)];

const V1_3_TAIL: &[Field] = &[
    u16("voltage_soc", Millivolts),
    u16("voltage_gfx", Millivolts),
    u16("voltage_mem", Millivolts),
    u16("padding1", Opaque),
    u64("indep_throttle_status", Opaque),
];

/// What `v1_4` to `v1_8` begin with.
const V1_4_HEAD: &[Field] = &[
    u16("temperature_hotspot", Celsius),
    u16("temperature_mem", Celsius),
    u16("temperature_vrsoc", Celsius),
    u16("curr_socket_power", Watts),
    u16("average_gfx_activity", Percent),
    u16("average_umc_activity", Percent),
];

const VCN_ACTIVITY: &[Field] = &[several(u16("vcn_activity", Percent), NUM_VCN)];

const JPEG_ACTIVITY: &[Field] = &[several(u16("jpeg_activity", Percent), NUM_JPEG_ENG)];

/// "VRAM max bandwidth (in GB/sec) at max memory clock."
const MEM_MAX_BANDWIDTH: &[Field] = &[u64("mem_max_bandwidth", Unsettled)];

const ENERGY_AND_CLOCK: &[Field] = &[u64("energy_accumulator", Energy), u64("system_clock_counter", Nanoseconds)];

const THROTTLE_STATUS: &[Field] = &[u32("throttle_status", Opaque)];

const RESIDENCIES: &[Field] = &[
    u32("accumulation_counter", Unitless),
    u32("prochot_residency_acc", Unitless),
    u32("ppt_residency_acc", Unitless),
    u32("socket_thm_residency_acc", Unitless),
    u32("vr_thm_residency_acc", Unitless),
    u32("hbm_thm_residency_acc", Unitless),
];

const LINKS: &[Field] = &[
    u32("gfxclk_lock_status", Opaque),
    u16("pcie_link_width", Unitless),
    u16("pcie_link_speed", TenthGigatransfers),
    u16("xgmi_link_width", Unitless),
    u16("xgmi_link_speed", Unsettled),
    u32("gfx_activity_acc", Unsettled),
    u32("mem_activity_acc", Unsettled),
    u64("pcie_bandwidth_acc", Unsettled),
    u64("pcie_bandwidth_inst", Unsettled),
    u64("pcie_l0_to_recov_count_acc", Unitless),
    u64("pcie_replay_count_acc", Unitless),
    u64("pcie_replay_rover_count_acc", Unitless),
];

const NAKS: &[Field] = &[u32("pcie_nak_sent_count_acc", Unitless), u32("pcie_nak_rcvd_count_acc", Unitless)];

/// Kilobytes.
const XGMI_DATA: &[Field] = &[
    several(u64("xgmi_read_data_acc", Unsettled), NUM_XGMI_LINKS),
    several(u64("xgmi_write_data_acc", Unsettled), NUM_XGMI_LINKS),
];

const XGMI_STATUS: &[Field] = &[several(u16("xgmi_link_status", Unitless), NUM_XGMI_LINKS), u16("padding", Opaque)];

const CURRENT_CLOCKS: &[Field] = &[
    u64("firmware_timestamp", TenNanoseconds),
    several(u16("current_gfxclk", Megahertz), MAX_GFX_CLKS),
    several(u16("current_socclk", Megahertz), MAX_CLKS),
    several(u16("current_vclk0", Megahertz), MAX_CLKS),
    several(u16("current_dclk0", Megahertz), MAX_CLKS),
    u16("current_uclk", Megahertz),
];

const PADDING: &[Field] = &[u16("padding", Opaque)];

const NUM_PARTITION: &[Field] = &[u16("num_partition", Unitless)];

/// `struct amdgpu_xcp_metrics`.
const XCP_1_0: &[Field] = &[xcp_stats(168), u32("pcie_lc_perf_other_end_recovery", Unitless)];

/// `struct amdgpu_xcp_metrics_v1_1`.
const XCP_1_1: &[Field] = &[xcp_stats(232), u32("pcie_lc_perf_other_end_recovery", Unitless)];

/// `struct amdgpu_xcp_metrics_v1_2`.
const XCP_1_2: &[Field] = &[xcp_stats(440), u32("pcie_lc_perf_other_end_recovery", Unitless)];

const V2_TEMPERATURES: &[Field] = &[
    u16("temperature_gfx", CentiCelsius),
    u16("temperature_soc", CentiCelsius),
    several(u16("temperature_core", CentiCelsius), 8),
    several(u16("temperature_l3", CentiCelsius), 2),
];

const V2_ACTIVITY: &[Field] = &[u16("average_gfx_activity", Unsettled), u16("average_mm_activity", Unsettled)];

const V2_4_ACTIVITY: &[Field] = &[u16("average_gfx_activity", CentiPercent), u16("average_mm_activity", CentiPercent)];

const V2_CLOCK: &[Field] = &[u64("system_clock_counter", Nanoseconds)];

const V2_POWER: &[Field] = &[
    u16("average_socket_power", Unsettled),
    u16("average_cpu_power", Unsettled),
    u16("average_soc_power", Unsettled),
    u16("average_gfx_power", Unsettled),
    several(u16("average_core_power", Unsettled), 8),
];

const V2_4_POWER: &[Field] = &[
    u16("average_socket_power", Milliwatts),
    u16("average_cpu_power", Milliwatts),
    u16("average_soc_power", Milliwatts),
    u16("average_gfx_power", Milliwatts),
    several(u16("average_core_power", Milliwatts), 8),
];

const V2_CLOCKS: &[Field] = &[
    u16("average_gfxclk_frequency", Megahertz),
    u16("average_socclk_frequency", Megahertz),
    u16("average_uclk_frequency", Megahertz),
    u16("average_fclk_frequency", Megahertz),
    u16("average_vclk_frequency", Megahertz),
    u16("average_dclk_frequency", Megahertz),
    u16("current_gfxclk", Megahertz),
    u16("current_socclk", Megahertz),
    u16("current_uclk", Megahertz),
    u16("current_fclk", Megahertz),
    u16("current_vclk", Megahertz),
    u16("current_dclk", Megahertz),
    several(u16("current_coreclk", Megahertz), 8),
    several(u16("current_l3clk", Megahertz), 2),
    u32("throttle_status", Opaque),
    u16("fan_pwm", Unitless),
];

const V2_PADDING: &[Field] = &[several(u16("padding", Opaque), 3)];

const V2_2_TAIL: &[Field] = &[u64("indep_throttle_status", Opaque)];

const V2_3_TAIL: &[Field] = &[
    u16("average_temperature_gfx", CentiCelsius),
    u16("average_temperature_soc", CentiCelsius),
    several(u16("average_temperature_core", CentiCelsius), 8),
    several(u16("average_temperature_l3", CentiCelsius), 2),
];

const V2_4_TAIL: &[Field] = &[
    u16("average_cpu_voltage", Millivolts),
    u16("average_soc_voltage", Millivolts),
    u16("average_gfx_voltage", Millivolts),
    u16("average_cpu_current", Milliamperes),
    u16("average_soc_current", Milliamperes),
    u16("average_gfx_current", Milliamperes),
];

/// The header says percent of the activities; `smu_v14_0_0_get_smu_metrics_data` and `smu_v15_0_0_get_smu_metrics_data` divide the same
/// number by 100, the latter by firmware version.
const V3_0: &[Field] = &[
    u16("temperature_gfx", CentiCelsius),
    u16("temperature_soc", CentiCelsius),
    several(u16("temperature_core", CentiCelsius), 16),
    u16("temperature_skin", CentiCelsius),
    u16("average_gfx_activity", Unsettled),
    u16("average_vcn_activity", Unsettled),
    several(u16("average_ipu_activity", Unsettled), 8),
    several(u16("average_core_c0_activity", Unsettled), 16),
    u16("average_dram_reads", Unsettled),
    u16("average_dram_writes", Unsettled),
    u16("average_ipu_reads", Unsettled),
    u16("average_ipu_writes", Unsettled),
    u64("system_clock_counter", Nanoseconds),
    u32("average_socket_power", Milliwatts),
    u16("average_ipu_power", Milliwatts),
    u32("average_apu_power", Milliwatts),
    u32("average_gfx_power", Milliwatts),
    u32("average_dgpu_power", Milliwatts),
    u32("average_all_core_power", Milliwatts),
    several(u16("average_core_power", Milliwatts), 16),
    u16("average_sys_power", Milliwatts),
    u16("stapm_power_limit", Milliwatts),
    u16("current_stapm_power_limit", Milliwatts),
    u16("average_gfxclk_frequency", Megahertz),
    u16("average_socclk_frequency", Megahertz),
    u16("average_vpeclk_frequency", Megahertz),
    u16("average_ipuclk_frequency", Megahertz),
    u16("average_fclk_frequency", Megahertz),
    u16("average_vclk_frequency", Megahertz),
    u16("average_uclk_frequency", Megahertz),
    u16("average_mpipu_frequency", Megahertz),
    several(u16("current_coreclk", Megahertz), 16),
    u16("current_core_maxfreq", Megahertz),
    u16("current_gfx_maxfreq", Megahertz),
    u32("throttle_residency_prochot", Unitless),
    u32("throttle_residency_spl", Unitless),
    u32("throttle_residency_fppt", Unitless),
    u32("throttle_residency_sppt", Unitless),
    u32("throttle_residency_thm_core", Unitless),
    u32("throttle_residency_thm_gfx", Unitless),
    u32("throttle_residency_thm_soc", Unitless),
    u32("time_filter_alphavalue", Unitless),
];

const fn layout(
    structure: &'static str,
    format: u8,
    content: u8,
    size: u16,
    parts: &'static [&'static [Field]],
) -> Layout {
    Layout { structure, format, content, size, parts }
}

/// Every structure of one layout. `v1_6` has two: as it first stood in the header, and as it was before the release that carries it.
pub(super) const LAYOUTS: &[Layout] = &[
    layout("gpu_metrics_v1_0", 1, 0, 80, &[V1_0]),
    layout("gpu_metrics_v1_1", 1, 1, 96, &[V1_1]),
    layout("gpu_metrics_v1_2", 1, 2, 104, &[V1_1, V1_2_TAIL]),
    layout("gpu_metrics_v1_3", 1, 3, 120, &[V1_1, V1_2_TAIL, V1_3_TAIL]),
    layout(
        "gpu_metrics_v1_4",
        1,
        4,
        288,
        &[V1_4_HEAD, VCN_ACTIVITY, ENERGY_AND_CLOCK, THROTTLE_STATUS, LINKS, XGMI_DATA, CURRENT_CLOCKS, PADDING],
    ),
    layout(
        "gpu_metrics_v1_5",
        1,
        5,
        360,
        &[
            V1_4_HEAD,
            VCN_ACTIVITY,
            JPEG_ACTIVITY,
            ENERGY_AND_CLOCK,
            THROTTLE_STATUS,
            LINKS,
            NAKS,
            XGMI_DATA,
            CURRENT_CLOCKS,
            PADDING,
        ],
    ),
    layout(
        "gpu_metrics_v1_6",
        1,
        6,
        1664,
        &[V1_4_HEAD, ENERGY_AND_CLOCK, RESIDENCIES, LINKS, NAKS, XGMI_DATA, CURRENT_CLOCKS, NUM_PARTITION, XCP_1_0],
    ),
    layout(
        "gpu_metrics_v1_6 (without partitions)",
        1,
        6,
        384,
        &[
            V1_4_HEAD,
            VCN_ACTIVITY,
            JPEG_ACTIVITY,
            ENERGY_AND_CLOCK,
            RESIDENCIES,
            THROTTLE_STATUS,
            LINKS,
            NAKS,
            XGMI_DATA,
            CURRENT_CLOCKS,
            PADDING,
        ],
    ),
    layout(
        "gpu_metrics_v1_7",
        1,
        7,
        2208,
        &[
            V1_4_HEAD,
            MEM_MAX_BANDWIDTH,
            ENERGY_AND_CLOCK,
            RESIDENCIES,
            LINKS,
            NAKS,
            XGMI_DATA,
            XGMI_STATUS,
            CURRENT_CLOCKS,
            NUM_PARTITION,
            XCP_1_1,
        ],
    ),
    layout(
        "gpu_metrics_v1_8",
        1,
        8,
        3872,
        &[
            V1_4_HEAD,
            MEM_MAX_BANDWIDTH,
            ENERGY_AND_CLOCK,
            RESIDENCIES,
            LINKS,
            NAKS,
            XGMI_DATA,
            XGMI_STATUS,
            CURRENT_CLOCKS,
            NUM_PARTITION,
            XCP_1_2,
        ],
    ),
    layout("gpu_metrics_v2_0", 2, 0, 120, &[V2_CLOCK, V2_TEMPERATURES, V2_ACTIVITY, V2_POWER, V2_CLOCKS, PADDING]),
    layout("gpu_metrics_v2_1", 2, 1, 120, &[V2_TEMPERATURES, V2_ACTIVITY, V2_CLOCK, V2_POWER, V2_CLOCKS, V2_PADDING]),
    layout(
        "gpu_metrics_v2_2",
        2,
        2,
        128,
        &[V2_TEMPERATURES, V2_ACTIVITY, V2_CLOCK, V2_POWER, V2_CLOCKS, V2_PADDING, V2_2_TAIL],
    ),
    layout(
        "gpu_metrics_v2_3",
        2,
        3,
        152,
        &[V2_TEMPERATURES, V2_ACTIVITY, V2_CLOCK, V2_POWER, V2_CLOCKS, V2_PADDING, V2_2_TAIL, V2_3_TAIL],
    ),
    layout(
        "gpu_metrics_v2_4",
        2,
        4,
        168,
        &[V2_TEMPERATURES, V2_4_ACTIVITY, V2_CLOCK, V2_4_POWER, V2_CLOCKS, V2_PADDING, V2_2_TAIL, V2_3_TAIL, V2_4_TAIL],
    ),
    layout("gpu_metrics_v3_0", 3, 0, 264, &[V3_0]),
];

/// Names of `enum amdgpu_metrics_attr_id` as far as `gpu_metrics_v1_9` has them, by their number.
pub(super) const ATTRIBUTES: &[&str] = &[
    "temperature_hotspot",
    "temperature_mem",
    "temperature_vrsoc",
    "curr_socket_power",
    "average_gfx_activity",
    "average_umc_activity",
    "mem_max_bandwidth",
    "energy_accumulator",
    "system_clock_counter",
    "accumulation_counter",
    "prochot_residency_acc",
    "ppt_residency_acc",
    "socket_thm_residency_acc",
    "vr_thm_residency_acc",
    "hbm_thm_residency_acc",
    "gfxclk_lock_status",
    "pcie_link_width",
    "pcie_link_speed",
    "xgmi_link_width",
    "xgmi_link_speed",
    "gfx_activity_acc",
    "mem_activity_acc",
    "pcie_bandwidth_acc",
    "pcie_bandwidth_inst",
    "pcie_l0_to_recov_count_acc",
    "pcie_replay_count_acc",
    "pcie_replay_rover_count_acc",
    "pcie_nak_sent_count_acc",
    "pcie_nak_rcvd_count_acc",
    "xgmi_read_data_acc",
    "xgmi_write_data_acc",
    "xgmi_link_status",
    "firmware_timestamp",
    "current_gfxclk",
    "current_socclk",
    "current_vclk0",
    "current_dclk0",
    "current_uclk",
    "num_partition",
    "pcie_lc_perf_other_end_recovery",
    "gfx_busy_inst",
    "jpeg_busy",
    "vcn_busy",
    "gfx_busy_acc",
    "gfx_below_host_limit_ppt_acc",
    "gfx_below_host_limit_thm_acc",
    "gfx_low_utilization_acc",
    "gfx_below_host_limit_total_acc",
    "temperature_hbm",
    "temperature_mid",
    "temperature_aid",
    "temperature_xcd",
];
