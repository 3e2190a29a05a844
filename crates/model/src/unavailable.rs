//! The list of what is missing, by the path of the field.

use crate::{DeviceSnapshot, Reading, Reason, Text, Why};

/// A metric without a value, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Unavailable {
    /// Path of the field in the JSON output: `engines[vcs0].busy_percent`.
    pub metric: String,
    /// Why it is absent.
    pub why: Why,
}

impl Unavailable {
    /// An entry.
    pub fn new(metric: impl Into<String>, why: Why) -> Self {
        Unavailable { metric: metric.into(), why }
    }
}

impl DeviceSnapshot {
    /// Calls `found` with the JSON path of every absent field and why it is absent, in the order of the JSON output.
    ///
    /// The paths are those of `docs/schema/stat.schema.json`; the path is handed over as format arguments so that a caller who
    /// only counts pays for no text.
    pub fn each_unavailable(&self, mut found: impl FnMut(std::fmt::Arguments<'_>, &Why)) {
        fn check<T>(
            r: &Reading<T>,
            path: std::fmt::Arguments<'_>,
            found: &mut impl FnMut(std::fmt::Arguments<'_>, &Why),
        ) {
            if let Reading::Absent(why) = r {
                found(path, why);
            }
        }
        let f = &mut found;
        match &self.engines {
            Reading::Absent(why) => f(format_args!("engines"), why),
            Reading::Value(engines) => {
                for e in engines {
                    check(&e.gt, format_args!("engines[{}].gt", e.name), f);
                    check(&e.busy_ratio, format_args!("engines[{}].busy_percent", e.name), f);
                    check(&e.wait_ratio, format_args!("engines[{}].wait_percent", e.name), f);
                    check(&e.sema_ratio, format_args!("engines[{}].sema_percent", e.name), f);
                }
            }
        }
        match &self.classes {
            Reading::Absent(why) => f(format_args!("classes"), why),
            Reading::Value(classes) => {
                for c in classes {
                    check(&c.capacity, format_args!("classes[{}].capacity", c.name), f);
                    check(&c.busy_ratio, format_args!("classes[{}].busy_percent", c.name), f);
                }
            }
        }
        const NO_GTS: Why = Why {
            reason: Reason::NotSupported,
            detail: Text::Static("the driver at hand shows no GT with frequency and idle files"),
            remedy: None,
        };
        if self.gts.is_empty() {
            f(format_args!("frequency"), &NO_GTS);
        }
        for g in &self.gts {
            check(&g.actual_hz, format_args!("frequency[{}].actual_mhz", g.gt), f);
            check(&g.requested_hz, format_args!("frequency[{}].requested_mhz", g.gt), f);
            check(&g.min_hz, format_args!("frequency[{}].min_mhz", g.gt), f);
            check(&g.max_hz, format_args!("frequency[{}].max_mhz", g.gt), f);
            check(&g.throttle, format_args!("frequency[{}].throttle", g.gt), f);
        }
        check(&self.power.gpu_watts, format_args!("power.gpu_watts"), f);
        check(&self.power.card_watts, format_args!("power.card_watts"), f);
        check(&self.power.package_watts, format_args!("power.package_watts"), f);
        check(&self.power.psys_watts, format_args!("power.psys_watts"), f);
        if self.gts.is_empty() {
            f(format_args!("rc6"), &NO_GTS);
        }
        for g in &self.gts {
            check(&g.idle_ratio, format_args!("rc6[{}].residency_percent", g.gt), f);
        }
        match &self.temperatures {
            Reading::Absent(why) => f(format_args!("temperature"), why),
            Reading::Value(all) => {
                for t in all {
                    check(&t.celsius, format_args!("temperature[{}].celsius", t.label), f);
                }
            }
        }
        match &self.fans {
            Reading::Absent(why) => f(format_args!("fans"), why),
            Reading::Value(all) => {
                for t in all {
                    check(&t.rpm, format_args!("fans[{}].rpm", t.label), f);
                }
            }
        }
        match &self.memory {
            Reading::Absent(why) => f(format_args!("memory"), why),
            Reading::Value(all) => {
                for m in all {
                    check(&m.total_bytes, format_args!("memory[{}].total_bytes", m.region), f);
                    check(&m.used_bytes, format_args!("memory[{}].used_bytes", m.region), f);
                }
            }
        }
        check(&self.bandwidth.read_bytes_per_second, format_args!("system_memory_bandwidth.read_bytes_per_second"), f);
        check(
            &self.bandwidth.write_bytes_per_second,
            format_args!("system_memory_bandwidth.write_bytes_per_second"),
            f,
        );
        check(&self.runtime_status, format_args!("runtime_status"), f);
    }

    /// Every absent field with why it is absent.
    pub fn unavailable(&self) -> Vec<Unavailable> {
        let mut list = Vec::new();
        self.each_unavailable(|path, why| list.push(Unavailable::new(path.to_string(), why.clone())));
        list
    }
}
