//! File names of hwmon sensors.
#![no_main]

use gpuscope_gpu::fuzzing::{SensorKind, parse_sensor_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    if let Some(sensor) = parse_sensor_name(name) {
        let prefix = match sensor.kind {
            SensorKind::Energy => "energy",
            SensorKind::Temperature => "temp",
            SensorKind::Fan => "fan",
        };
        assert!(name.starts_with(prefix) && name.ends_with("_input"));
    }
});
