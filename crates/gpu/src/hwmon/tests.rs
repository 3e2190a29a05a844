use super::*;
use crate::testing::Tree;

#[test]
fn sensor_names() {
    let sensor = |kind, channel| Some(Sensor { kind, channel });
    assert_eq!(parse_sensor_name("energy1_input"), sensor(SensorKind::Energy, 1));
    assert_eq!(parse_sensor_name("temp21_input"), sensor(SensorKind::Temperature, 21));
    assert_eq!(parse_sensor_name("fan3_input"), sensor(SensorKind::Fan, 3));
    let others = [
        "power1_input",
        "in0_input",
        "temp1_label",
        "temp_input",
        "temp1_crit",
        "_input",
        "1_input",
        "temp99999_input",
    ];
    for name in others {
        assert_eq!(parse_sensor_name(name), None, "{name}");
    }
}

fn meanings() -> Meanings {
    Meanings {
        name: Some("xe"),
        first_temperature: "gpu",
        refusal_is_sleep: false,
        none: Why::new(Reason::NotSupported, "none"),
    }
}

fn domains(hwmon: &Hwmon) -> Vec<Domain> {
    hwmon.energy.iter().map(|(d, _)| *d).collect()
}

#[test]
fn energy_channels_by_label() {
    // xe_hwmon_read_label in drivers/gpu/drm/xe/xe_hwmon.c prints `card` and `pkg`.
    let tree = Tree::new();
    tree.files(
        "hwmon/hwmon3",
        &[
            ("name", "xe\n"),
            ("energy1_input", "1\n"),
            ("energy1_label", "card\n"),
            ("energy2_input", "1\n"),
            ("energy2_label", "pkg\n"),
        ],
    );
    assert_eq!(domains(&Hwmon::open(&tree.path(""), meanings())), [Domain::Card, Domain::Package]);
}

#[test]
fn energy_channels_without_labels() {
    // One channel without a label: PCU_CR_PACKAGE_ENERGY_STATUS, the package (xe_hwmon.c of Linux 6.8).
    let tree = Tree::new();
    tree.files("hwmon/hwmon3", &[("name", "xe\n"), ("energy1_input", "1\n")]);
    assert_eq!(domains(&Hwmon::open(&tree.path(""), meanings())), [Domain::Package]);
    tree.file("hwmon/hwmon3/energy2_input", "1\n");
    assert_eq!(domains(&Hwmon::open(&tree.path(""), meanings())), [Domain::Card, Domain::Package]);
}

#[test]
fn tiles_of_i915_are_not_counted_beside_the_device() {
    // hwm_get_preregistration_info (drivers/gpu/drm/i915/i915_hwmon.c): `i915` and one `i915_gtN` a tile.
    let tree = Tree::new();
    tree.files("hwmon/hwmon1", &[("name", "i915\n"), ("energy1_input", "7\n")]);
    tree.files("hwmon/hwmon2", &[("name", "i915_gt0\n"), ("energy1_input", "5\n")]);
    let hwmon = Hwmon::open(&tree.path(""), Meanings { name: Some("i915"), ..meanings() });
    assert_eq!(domains(&hwmon), [Domain::Package]);
}

#[test]
fn per_channel_vram_temperatures_are_left_out() {
    let tree = Tree::new();
    tree.files(
        "hwmon/hwmon3",
        &[
            ("name", "xe\n"),
            ("temp2_input", "40000\n"),
            ("temp2_label", "pkg\n"),
            ("temp3_input", "42000\n"),
            ("temp3_label", "vram\n"),
            ("temp6_input", "41000\n"),
            ("temp6_label", "vram_ch_0\n"),
        ],
    );
    let hwmon = Hwmon::open(&tree.path(""), meanings());
    let labels: Vec<&str> = hwmon.temperatures.iter().map(|(l, _)| l.as_str()).collect();
    assert_eq!(labels, ["pkg", "vram"]);
}

#[test]
fn a_counter_at_zero_does_not_count() {
    assert_eq!(energy(0).unwrap_err().reason, Reason::NotCounting);
    assert_eq!(energy(25_637_161_804).unwrap().value, 25_637_161_804);
}

#[test]
fn fan_read_too_soon_is_not_counting() {
    let error = Error::Io { path: "fan1_input".into(), source: std::io::ErrorKind::WouldBlock.into() };
    assert_eq!(fan_refused(&error).unwrap().reason, Reason::NotCounting);
    assert_eq!(fan_refused(&Error::Gone { path: "fan1_input".into() }), None);
}
