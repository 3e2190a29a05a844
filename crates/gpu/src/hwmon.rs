//! hwmon sensors of a device: energy, temperatures, fans.
//!
//! i915 and xe take a runtime PM reference for every reading (drivers/gpu/drm/i915/i915_hwmon.c, drivers/gpu/drm/xe/xe_hwmon.c),
//! amdgpu refuses or resumes: nothing here is read unless waking the device is allowed. Names and labels are constants of the
//! drivers and are read when the device is opened.

use crate::discover::{numbered, shared};
use crate::drivers::Access;
use crate::held::{Held, parse_i64, parse_u64, small_text};
use gpuscope_model::{
    Counter, DeviceSample, FanSample, PowerSample, Reading, Reason, SourceReport, TemperatureSample, Text, Why,
};
use gpuscope_sys::{Error, list_dir, monotonic_ns};
use std::path::Path;

/// What an `*_input` file measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorKind {
    /// `energyN_input`, microjoules.
    Energy,
    /// `tempN_input`, thousandths of a degree Celsius.
    Temperature,
    /// `fanN_input`, revolutions a minute.
    Fan,
}

/// An `*_input` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// What it measures.
    pub kind: SensorKind,
    /// The channel, counted from 1.
    pub channel: u16,
}

/// The sensor of a file name (Documentation/hwmon/sysfs-interface.rst); `None` for other files and kinds.
pub fn parse_sensor_name(name: &str) -> Option<Sensor> {
    let stem = name.strip_suffix("_input")?;
    let digits = stem.trim_start_matches(|c: char| c.is_ascii_lowercase());
    let kind = match stem.strip_suffix(digits)? {
        "energy" => SensorKind::Energy,
        "temp" => SensorKind::Temperature,
        "fan" => SensorKind::Fan,
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let channel = plain.then(|| digits.parse().ok()).flatten()?;
    Some(Sensor { kind, channel })
}

/// The power domain of an energy channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Card,
    Package,
}

/// What a driver's sensors mean where it gives them no label.
pub(crate) struct Meanings {
    /// The hwmon device to use among several: `i915` has one of its own for every tile.
    pub(crate) name: Option<&'static str>,
    /// Label of an unlabelled temperature channel 1.
    pub(crate) first_temperature: &'static str,
    /// EPERM and EACCES mean "asleep" (`amdgpu_pm_get_access_if_active` in drivers/gpu/drm/amd/pm/amdgpu_pm.c).
    pub(crate) refusal_is_sleep: bool,
    /// Why there is none, when there is none.
    pub(crate) none: Why,
}

/// The sensors of one device, held open.
pub(crate) struct Hwmon {
    energy: Vec<(Domain, Held)>,
    temperatures: Vec<(Text, Held)>,
    fans: Vec<(Text, Held)>,
    refusal_is_sleep: bool,
    none: Why,
    found: bool,
}

/// Sensors that a driver gives by the dozen and whose hottest it gives as well: `vram_ch_0` … beside `vram` on xe. Each would be
/// a system call a tick.
const LEFT_OUT: &str = "vram_ch_";

impl Hwmon {
    /// Looks for the sensors of the device folder.
    pub(crate) fn open(device: &Path, meanings: Meanings) -> Self {
        let mut hwmon = Hwmon {
            energy: Vec::new(),
            temperatures: Vec::new(),
            fans: Vec::new(),
            refusal_is_sleep: meanings.refusal_is_sleep,
            none: meanings.none.clone(),
            found: false,
        };
        for (_, folder) in numbered(&device.join("hwmon"), "hwmon").unwrap_or_default() {
            let name = small_text(folder.join("name"));
            if let (Some(wanted), Some(name)) = (meanings.name, &name) {
                if name != wanted {
                    continue;
                }
            }
            hwmon.found = true;
            hwmon.add(&folder, &meanings);
        }
        hwmon
    }

    fn add(&mut self, folder: &Path, meanings: &Meanings) {
        let mut sensors: Vec<Sensor> =
            list_dir(folder).unwrap_or_default().iter().filter_map(|n| parse_sensor_name(n)).collect();
        sensors.sort_by_key(|s| s.channel);
        let energies = sensors.iter().filter(|s| s.kind == SensorKind::Energy).count();
        let label_of = |stem: &str, channel: u16| {
            small_text(folder.join(format!("{stem}{channel}_label"))).filter(|l| !l.is_empty())
        };
        for Sensor { kind, channel } in sensors {
            match kind {
                SensorKind::Energy => {
                    let domain = match (label_of("energy", channel).as_deref(), channel) {
                        (Some("card"), _) => Domain::Card,
                        (Some("pkg"), _) => Domain::Package,
                        // A domain this version has no field for.
                        (Some(_), _) => continue,
                        (None, 1) if energies > 1 => Domain::Card,
                        // The only channel is the package: i915 reads PCU_PACKAGE_ENERGY_STATUS (i915_hwmon.c), and xe without labels
                        // PCU_CR_PACKAGE_ENERGY_STATUS (xe_hwmon.c, Linux 6.8). Neither is the whole card.
                        (None, 1 | 2) => Domain::Package,
                        (None, _) => continue,
                    };
                    self.energy.push((domain, Held::open(folder.join(format!("energy{channel}_input")))));
                }
                SensorKind::Temperature => {
                    let label = match label_of("temp", channel) {
                        Some(label) if label.starts_with(LEFT_OUT) => continue,
                        Some(label) => shared(&label),
                        None if channel == 1 => Text::Static(meanings.first_temperature),
                        None => shared(&format!("temp{channel}")),
                    };
                    self.temperatures.push((label, Held::open(folder.join(format!("temp{channel}_input")))));
                }
                SensorKind::Fan => {
                    let label = label_of("fan", channel).unwrap_or_else(|| format!("fan{channel}"));
                    self.fans.push((shared(&label), Held::open(folder.join(format!("fan{channel}_input")))));
                }
            }
        }
    }

    fn none(&self, what: &'static str) -> Why {
        if self.found { Why::new(Reason::NotSupported, what) } else { self.none.clone() }
    }

    /// The temperature sensors, without values.
    pub(crate) fn blank_temperatures(&self) -> Reading<Vec<TemperatureSample>> {
        if self.temperatures.is_empty() {
            return self.none("the driver's hwmon device has no temperature sensor").into();
        }
        let blank = |(label, _): &(Text, Held)| TemperatureSample {
            label: label.clone(),
            celsius: Reading::Absent(Why::FIRST_SAMPLE),
        };
        Reading::Value(self.temperatures.iter().map(blank).collect())
    }

    /// The fans, without values.
    pub(crate) fn blank_fans(&self) -> Reading<Vec<FanSample>> {
        if self.fans.is_empty() {
            return self.none("the driver's hwmon device has no fan").into();
        }
        let blank =
            |(label, _): &(Text, Held)| FanSample { label: label.clone(), rpm: Reading::Absent(Why::FIRST_SAMPLE) };
        Reading::Value(self.fans.iter().map(blank).collect())
    }

    /// Why there is no energy of this domain; the fields that [`sample`](Self::sample) leaves alone.
    pub(crate) fn blank_power(&self, power: &mut PowerSample) {
        let has = |domain| self.energy.iter().any(|(d, _)| *d == domain);
        if !has(Domain::Card) {
            power.card_uj = self.none("the driver's hwmon device does not count the energy of the whole card").into();
        }
        if !has(Domain::Package) {
            power.package_uj =
                self.none("the driver's hwmon device does not count the energy of the GPU package").into();
        }
    }

    /// Fills energy, temperatures and fans of a sample that was laid out by the `blank_…` functions.
    pub(crate) fn sample(&mut self, access: &Access, out: &mut DeviceSample) {
        let sleepy = self.refusal_is_sleep;
        let refused = |error: &Error| {
            let asleep = sleepy && matches!(error, Error::Permission { .. });
            asleep.then(|| Why::new(Reason::Asleep, "the driver refuses sensors while the device is suspended"))
        };
        for (domain, file) in &mut self.energy {
            let reading = match access {
                Access::Withheld(why) => Reading::Absent(why.clone()),
                Access::Allowed => file.read_with(parse_u64, refused).and_then(energy).into(),
            };
            match domain {
                Domain::Card => out.power.card_uj = reading,
                Domain::Package => out.power.package_uj = reading,
            }
        }
        if let Reading::Value(list) = &mut out.temperatures {
            for ((_, file), slot) in self.temperatures.iter_mut().zip(list) {
                slot.celsius = match access {
                    Access::Withheld(why) => Reading::Absent(why.clone()),
                    Access::Allowed => file.read_with(parse_i64, refused).map(|milli| milli as f64 / 1000.0).into(),
                };
            }
        }
        if let Reading::Value(list) = &mut out.fans {
            for ((_, file), slot) in self.fans.iter_mut().zip(list) {
                let refused = |error: &Error| fan_refused(error).or_else(|| refused(error));
                slot.rpm = match access {
                    Access::Withheld(why) => Reading::Absent(why.clone()),
                    Access::Allowed => file.read_with(parse_u64, refused).map(|rpm| rpm as f64).into(),
                };
            }
        }
    }

    /// For the doctor.
    pub(crate) fn report(&self, info: &gpuscope_model::DeviceInfo) -> SourceReport {
        let unlocks = [
            "gpuscope_power_card_watts",
            "gpuscope_power_package_watts",
            "gpuscope_temperature_celsius",
            "gpuscope_fan_rpm",
        ];
        let count = self.energy.len() + self.temperatures.len() + self.fans.len();
        if count == 0 {
            let why = self.none("the driver's hwmon device has no sensor that this version reads");
            return SourceReport::absent("hwmon", Some(&info.id), why).unlocks(&unlocks);
        }
        let detail = format!(
            "{} energy, {} temperature and {} fan sensors; read only while the device is awake",
            self.energy.len(),
            self.temperatures.len(),
            self.fans.len()
        );
        SourceReport::works("hwmon", Some(&info.id), detail).unlocks(&unlocks)
    }
}

/// A counter that stands at 0 does not count: the drivers start it from the hardware's register, which has been running since
/// power-on (`xe_hwmon_energy_get` at probe). Seen on `energy1_input` of an Arc B580 whose `energy2_input` counts.
fn energy(value: u64) -> Result<Counter, Why> {
    if value == 0 {
        return Err(Why::new(Reason::NotCounting, "the energy counter stands at 0: the device does not run it"));
    }
    Ok(Counter { value, at_ns: monotonic_ns() })
}

/// i915 averages a fan's speed since the reading before, by anybody, and answers EAGAIN when both fall into one tick of the kernel
/// (`hwm_fan_input_read` in drivers/gpu/drm/i915/i915_hwmon.c).
fn fan_refused(error: &Error) -> Option<Why> {
    let again = matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock);
    again.then(|| Why::new(Reason::NotCounting, "the fan was read a moment ago, by this or another program"))
}

#[cfg(test)]
mod tests;
