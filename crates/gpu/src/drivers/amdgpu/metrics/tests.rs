//! Tables laid out by the offsets of drivers/gpu/drm/amd/include/kgd_pp_interface.h on a 64-bit machine, computed by hand.

use super::*;

fn table(format: u8, content: u8, size: u16) -> Vec<u8> {
    let mut bytes = vec![0xff; usize::from(size)];
    bytes[..2].copy_from_slice(&size.to_le_bytes());
    bytes[2..4].copy_from_slice(&[format, content]);
    bytes
}

fn put(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn every_structure_has_the_size_of_its_members() {
    for layout in LAYOUTS {
        let bytes = table(layout.format, layout.content, layout.size);
        let metrics = parse_gpu_metrics(&bytes).unwrap();
        assert_eq!(metrics.structure(), layout.structure);
        let members: usize = layout.parts.iter().map(|p| p.len()).sum();
        let entries: Vec<_> = metrics.entries().collect();
        assert_eq!(entries.len(), members, "{}", layout.structure);
        let last = entries.last().unwrap();
        let end = last.offset + last.count() * last.kind.bytes();
        assert_eq!(end.next_multiple_of(8), usize::from(layout.size), "{}", layout.structure);
        // Filled with ones by the driver and with nothing else: no value at all.
        let told = entries.iter().any(|e| (0..e.count()).any(|i| e.raw(i).is_some()));
        assert!(!told, "{}", layout.structure);
        assert_eq!(metrics.throttle(), None);
    }
}

/// Version, size, and offsets of members.
type Offsets = (u8, u8, u16, &'static [(&'static str, usize)]);

#[test]
fn members_stand_where_the_compiler_puts_them() {
    let offsets: &[Offsets] = &[
        (1, 0, 80, &[("system_clock_counter", 8), ("temperature_edge", 16), ("energy_accumulator", 36)]),
        (1, 0, 80, &[("current_gfxclk", 54), ("throttle_status", 68), ("pcie_link_speed", 75)]),
        (1, 1, 96, &[("energy_accumulator", 24), ("current_gfxclk", 54), ("temperature_hbm", 88)]),
        (1, 2, 104, &[("gfx_activity_acc", 80), ("firmware_timestamp", 96)]),
        (1, 3, 120, &[("average_socket_power", 22), ("voltage_soc", 104), ("indep_throttle_status", 112)]),
        (1, 4, 288, &[("energy_accumulator", 24), ("pcie_bandwidth_acc", 64), ("current_uclk", 280)]),
        (1, 5, 360, &[("energy_accumulator", 88), ("xgmi_read_data_acc", 176), ("current_gfxclk", 312)]),
        (1, 6, 1664, &[("energy_accumulator", 16), ("xcp_stats", 312), ("pcie_lc_perf_other_end_recovery", 1656)]),
        (1, 6, 384, &[("energy_accumulator", 88), ("throttle_status", 128), ("current_gfxclk", 336)]),
        (1, 7, 2208, &[("mem_max_bandwidth", 16), ("firmware_timestamp", 288), ("xcp_stats", 344)]),
        (1, 8, 3872, &[("current_gfxclk", 296), ("num_partition", 338), ("pcie_lc_perf_other_end_recovery", 3864)]),
        (2, 0, 120, &[("temperature_gfx", 16), ("average_socket_power", 44), ("throttle_status", 112)]),
        (2, 1, 120, &[("average_socket_power", 40), ("current_gfxclk", 76), ("throttle_status", 108)]),
        (2, 2, 128, &[("system_clock_counter", 32), ("indep_throttle_status", 120)]),
        (2, 3, 152, &[("average_temperature_gfx", 128), ("average_temperature_l3", 148)]),
        (2, 4, 168, &[("average_cpu_voltage", 152), ("average_gfx_current", 162)]),
        (3, 0, 264, &[("temperature_skin", 40), ("system_clock_counter", 104), ("average_apu_power", 120)]),
        (3, 0, 264, &[("current_coreclk", 190), ("throttle_residency_prochot", 228), ("time_filter_alphavalue", 256)]),
    ];
    for (format, content, size, members) in offsets {
        let bytes = table(*format, *content, *size);
        let metrics = parse_gpu_metrics(&bytes).unwrap();
        assert_eq!(metrics.version(), (*format, *content));
        for (name, offset) in *members {
            assert_eq!(metrics.find(name).unwrap().offset, *offset, "{}: {name}", metrics.structure());
        }
    }
}

#[test]
fn values_of_a_card_and_ones_are_absent() {
    // What sienna_cichlid_get_gpu_metrics fills: no second video clocks, no HBM.
    let mut bytes = table(1, 3, 120);
    put(&mut bytes, 4, 56);
    put(&mut bytes, 16, 3);
    put(&mut bytes, 22, 36);
    put(&mut bytes, 54, 500);
    put(&mut bytes, 72, 0);
    put(&mut bytes, 76, 160);
    put(&mut bytes, 104, 818);
    bytes[112..120].copy_from_slice(&(1u64 << 36 | 1).to_le_bytes());
    let metrics = parse_gpu_metrics(&bytes).unwrap();
    assert_eq!(metrics.value("temperature_edge"), Some(56.0));
    assert_eq!(metrics.value("average_gfx_activity"), Some(0.03));
    assert_eq!(metrics.value("average_socket_power"), Some(36.0));
    assert_eq!(metrics.value("current_gfxclk"), Some(5e8));
    assert_eq!(metrics.value("current_fan_speed"), Some(0.0));
    assert_eq!(metrics.value("pcie_link_speed"), Some(16.0));
    assert_eq!(metrics.value("voltage_soc"), Some(0.818));
    assert_eq!((metrics.value("current_vclk1"), metrics.value("temperature_hbm")), (None, None));
    let reasons: Vec<_> = metrics.throttle().unwrap().iter().collect();
    assert_eq!(reasons, [ThrottleReason::Pl1, ThrottleReason::Thermal]);
}

#[test]
fn units_of_an_apu_depend_on_the_version() {
    let mut bytes = table(2, 4, 168);
    put(&mut bytes, 4, 5600);
    put(&mut bytes, 28, 4500);
    put(&mut bytes, 40, 4057);
    let metrics = parse_gpu_metrics(&bytes).unwrap();
    assert_eq!(metrics.value("temperature_gfx"), Some(56.0));
    assert_eq!(metrics.value("average_gfx_activity"), Some(0.45));
    assert_eq!(metrics.value("average_socket_power"), Some(4.057));
    // Before, neither activity nor power has one unit for all chips.
    bytes.truncate(128);
    bytes[..4].copy_from_slice(&[128, 0, 2, 2]);
    let metrics = parse_gpu_metrics(&bytes).unwrap();
    assert_eq!(metrics.value("temperature_gfx"), Some(56.0));
    assert_eq!((metrics.value("average_gfx_activity"), metrics.value("average_socket_power")), (None, None));
    assert_eq!(metrics.find("average_socket_power").unwrap().raw(0), Some(4057));
}

#[test]
fn the_chips_own_bits_tell_only_that_it_throttles() {
    let mut bytes = table(1, 4, 288);
    bytes[40..44].copy_from_slice(&[0; 4]);
    assert_eq!(parse_gpu_metrics(&bytes).unwrap().throttle(), Some(ThrottleReasons::NONE));
    bytes[40] = 8;
    let reasons = parse_gpu_metrics(&bytes).unwrap().throttle().unwrap();
    assert_eq!(reasons.iter().collect::<Vec<_>>(), [ThrottleReason::Other]);
}

#[test]
fn every_bit_has_a_reason() {
    for bit in 0..64 {
        assert_eq!(throttle_reasons(1 << bit).iter().count(), 1, "{bit}");
    }
    assert!(throttle_reasons(0).is_empty());
    assert!(throttle_reasons(1 << 17).contains(ThrottleReason::VrTdc));
    assert!(throttle_reasons(1 << 47).contains(ThrottleReason::Prochot));
    assert!(throttle_reasons(1 << 45).contains(ThrottleReason::VrThermalert));
}

/// Attributes as `DECLARE_SMU_METRICS_CLASS` lays them out: packed, an encoding before the values.
fn list(attributes: &[(u64, u64, u64, &[u8])], lengths: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 9];
    bytes.extend((attributes.len() as u32).to_le_bytes());
    for ((unit, kind, id, values), count) in attributes.iter().zip(lengths) {
        bytes.extend((unit << 24 | kind << 20 | id << 10 | count).to_le_bytes());
        bytes.extend(*values);
    }
    let size = bytes.len() as u16;
    bytes[..2].copy_from_slice(&size.to_le_bytes());
    bytes
}

#[test]
fn a_list_of_attributes_describes_itself() {
    let bytes = list(
        &[
            (2, 2, 0, &[61, 0]),
            (3, 4, 3, &[0x2c, 1, 0, 0]),
            (1, 2, 33, &[0x34, 0x08, 0xff, 0xff, 0x35, 0x08]),
            (0, 6, 7, &[1, 0, 0, 0, 0, 0, 0, 0]),
            (2, 3, 900, &[0xf6, 0xff]),
        ],
        &[1, 1, 3, 1, 1],
    );
    let metrics = parse_gpu_metrics(&bytes).unwrap();
    assert_eq!((metrics.structure(), metrics.version()), ("gpu_metrics_v1_9", (1, 9)));
    assert_eq!(metrics.value("temperature_hotspot"), Some(61.0));
    assert_eq!(metrics.value("curr_socket_power"), Some(300.0));
    let clocks = metrics.find("current_gfxclk").unwrap();
    assert_eq!((clocks.count(), clocks.value(0), clocks.value(1)), (3, Some(2.1e9), None));
    assert_eq!((clocks.value(2), clocks.value(3)), (Some(2.101e9), None));
    let last = metrics.entries().last().unwrap();
    assert_eq!((last.name, last.value(0)), ("unknown", Some(-10.0)));
    assert_eq!(metrics.throttle(), None);
}

#[test]
fn synthetic_lists_that_end_early() {
    let whole = list(&[(2, 2, 0, &[61, 0]), (3, 4, 3, &[1, 0, 0, 0])], &[1, 1]);
    for cut in 4..whole.len() {
        let mut bytes = whole[..cut].to_vec();
        bytes[..2].copy_from_slice(&(cut as u16).to_le_bytes());
        assert!(parse_gpu_metrics(&bytes).is_err(), "{cut}");
    }
    let unknown_type = list(&[(2, 9, 0, &[61, 0])], &[1]);
    assert_eq!(parse_gpu_metrics(&unknown_type).unwrap_err(), MetricsError::List { attribute: 0 });
    let mut endless = list(&[(0, 0, 0, &[])], &[0]);
    endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(parse_gpu_metrics(&endless).unwrap_err(), MetricsError::List { attribute: 1 });
}

#[test]
fn padding_of_a_capture_is_no_table() {
    let mut bytes = table(1, 3, 120);
    bytes.resize(4096, 0);
    assert!(parse_gpu_metrics(&bytes).is_ok());
    bytes[4095] = 1;
    assert_eq!(parse_gpu_metrics(&bytes).unwrap_err(), MetricsError::Trailing);
}

#[test]
fn synthetic_tables_are_refused() {
    assert_eq!(parse_gpu_metrics(&[]).unwrap_err(), MetricsError::Short { bytes: 0, announced: 4 });
    assert_eq!(parse_gpu_metrics(&[120, 0, 1]).unwrap_err(), MetricsError::Short { bytes: 3, announced: 4 });
    let short = MetricsError::Short { bytes: 4, announced: 120 };
    assert_eq!(parse_gpu_metrics(&[120, 0, 1, 3]).unwrap_err(), short);
    let later = MetricsError::Version { format: 4, content: 0 };
    assert_eq!(parse_gpu_metrics(&[4, 0, 4, 0]).unwrap_err(), later);
    assert!(later.to_string().contains("version 4.0"));
    let mut bytes = table(1, 3, 120);
    bytes[0] = 104;
    bytes.truncate(104);
    let size = MetricsError::Size { structure: "gpu_metrics_v1_3", expected: 120, announced: 104 };
    assert_eq!(parse_gpu_metrics(&bytes).unwrap_err(), size);
}
