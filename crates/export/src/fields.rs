//! The fields of one GPU's snapshot as a flat list, in the order of the JSON output.

use crate::units::{mhz, percent, round4};
use gpuscope_model::{DeviceSnapshot, Reading, Text, ThrottleReasons, Why};
use std::fmt;

/// A value as CSV shows it.
pub(crate) enum Value {
    Number(f64),
    Whole(u64),
    Word(&'static str),
    Text(Text),
    Throttle(ThrottleReasons),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(v) => v.fmt(f),
            Value::Whole(v) => v.fmt(f),
            Value::Word(w) => f.write_str(w),
            Value::Text(t) => f.write_str(t),
            Value::Throttle(reasons) if reasons.is_empty() => f.write_str("none"),
            Value::Throttle(reasons) => {
                for (n, reason) in reasons.iter().enumerate() {
                    let space = if n == 0 { "" } else { " " };
                    write!(f, "{space}{}", reason.as_str())?;
                }
                Ok(())
            }
        }
    }
}

/// One field: the path of JSON without its brackets (`engines.busy_percent`), what stood in the brackets, unit, and value.
pub(crate) struct Field<'a> {
    pub(crate) metric: &'static str,
    pub(crate) label: &'a dyn fmt::Display,
    pub(crate) unit: &'static str,
    pub(crate) value: Result<Value, &'a Why>,
}

/// Calls `found` with every field of the snapshot, known or not.
pub(crate) fn each_field<E>(gpu: &DeviceSnapshot, found: &mut dyn FnMut(Field<'_>) -> Result<(), E>) -> Result<(), E> {
    let mut out = Out(found);
    out.whole("engines", &gpu.engines)?;
    for e in gpu.engines.value().into_iter().flatten() {
        out.one("engines.busy_percent", &e.name, "percent", &e.busy_ratio, percent)?;
        out.one("engines.wait_percent", &e.name, "percent", &e.wait_ratio, percent)?;
        out.one("engines.sema_percent", &e.name, "percent", &e.sema_ratio, percent)?;
    }
    out.whole("classes", &gpu.classes)?;
    for c in gpu.classes.value().into_iter().flatten() {
        out.one("classes.busy_percent", &c.name, "percent", &c.busy_ratio, percent)?;
    }
    for g in &gpu.gts {
        out.one("frequency.actual_mhz", &g.gt, "mhz", &g.actual_hz, mhz)?;
        out.one("frequency.requested_mhz", &g.gt, "mhz", &g.requested_hz, mhz)?;
        out.one("frequency.min_mhz", &g.gt, "mhz", &g.min_hz, mhz)?;
        out.one("frequency.max_mhz", &g.gt, "mhz", &g.max_hz, mhz)?;
        out.put("frequency.throttle", &g.gt, "", &g.throttle, |r| Value::Throttle(*r))?;
    }
    let power = &gpu.power;
    out.one("power.gpu_watts", &"", "watts", &power.gpu_watts, round4)?;
    out.one("power.card_watts", &"", "watts", &power.card_watts, round4)?;
    out.one("power.package_watts", &"", "watts", &power.package_watts, round4)?;
    out.one("power.psys_watts", &"", "watts", &power.psys_watts, round4)?;
    for g in &gpu.gts {
        out.one("rc6.residency_percent", &g.gt, "percent", &g.idle_ratio, percent)?;
    }
    out.whole("temperature", &gpu.temperatures)?;
    for t in gpu.temperatures.value().into_iter().flatten() {
        out.one("temperature.celsius", &t.label, "celsius", &t.celsius, round4)?;
    }
    out.whole("fans", &gpu.fans)?;
    for fan in gpu.fans.value().into_iter().flatten() {
        out.one("fans.rpm", &fan.label, "rpm", &fan.rpm, round4)?;
    }
    out.whole("memory", &gpu.memory)?;
    for m in gpu.memory.value().into_iter().flatten() {
        out.put("memory.total_bytes", &m.region, "bytes", &m.total_bytes, |v| Value::Whole(*v))?;
        out.put("memory.used_bytes", &m.region, "bytes", &m.used_bytes, |v| Value::Whole(*v))?;
    }
    let bus = &gpu.bandwidth;
    let unit = "bytes_per_second";
    out.one("system_memory_bandwidth.read_bytes_per_second", &"", unit, &bus.read_bytes_per_second, f64::round)?;
    out.one("system_memory_bandwidth.write_bytes_per_second", &"", unit, &bus.write_bytes_per_second, f64::round)?;
    out.put("runtime_status", &"", "", &gpu.runtime_status, |s| Value::Word(s.as_str()))?;
    let perturbs = Reading::Value(gpu.perturbs);
    out.put("perturbs", &"", "", &perturbs, |p| Value::Word(if *p { "true" } else { "false" }))
}

struct Out<'f, E>(&'f mut dyn FnMut(Field<'_>) -> Result<(), E>);

impl<E> Out<'_, E> {
    fn put<T>(
        &mut self,
        metric: &'static str,
        label: &dyn fmt::Display,
        unit: &'static str,
        reading: &Reading<T>,
        value: impl FnOnce(&T) -> Value,
    ) -> Result<(), E> {
        let value = match reading {
            Reading::Value(v) => Ok(value(v)),
            Reading::Absent(why) => Err(why),
        };
        (self.0)(Field { metric, label, unit, value })
    }

    fn one(
        &mut self,
        metric: &'static str,
        label: &dyn fmt::Display,
        unit: &'static str,
        reading: &Reading<f64>,
        convert: fn(f64) -> f64,
    ) -> Result<(), E> {
        self.put(metric, label, unit, reading, |v| Value::Number(convert(*v)))
    }

    /// A list that is absent as a whole is one row under the list's name.
    fn whole<T>(&mut self, metric: &'static str, list: &Reading<Vec<T>>) -> Result<(), E> {
        match list {
            Reading::Value(_) => Ok(()),
            Reading::Absent(why) => (self.0)(Field { metric, label: &"", unit: "", value: Err(why) }),
        }
    }
}
