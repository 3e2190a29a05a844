//! `gpuscope.stat/1` and `gpuscope.event/1`.

use super::{Missing, each, each_known, line, procs};
use crate::Procs;
use crate::time::Rfc3339;
use crate::units::{mhz, percent, round4, seconds};
use gpuscope_model::{
    BandwidthSnapshot, ClassSnapshot, DeviceEvent, DeviceSnapshot, EngineSnapshot, FanSample, GtSnapshot, MemorySample,
    PowerSnapshot, Reading, Snapshot, TemperatureSample, ThrottleReasons,
};
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes one sample as one line, with who used the GPUs where that is asked for. Events of the snapshot are lines of their own: see
/// [`event_line`].
///
/// # Errors
/// Those of the writer.
pub fn stat_line(
    w: &mut dyn Write,
    snapshot: &Snapshot,
    users: Option<&Procs<'_>>,
    wall: SystemTime,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Stat<G, U> {
        schema: &'static str,
        time: Rfc3339,
        monotonic_ns: u64,
        interval_s: Option<f64>,
        gpus: G,
        #[serde(flatten)]
        users: Option<U>,
    }
    line(
        w,
        &Stat {
            schema: "gpuscope.stat/1",
            time: Rfc3339::new(wall),
            monotonic_ns: snapshot.at_ns,
            interval_s: snapshot.interval_ns.map(seconds),
            gpus: each(&snapshot.gpus, gpu),
            users: users.map(|users| procs::users(users)),
        },
    )
}

/// Writes the line of a device that came or went.
///
/// # Errors
/// Those of the writer.
pub fn event_line(w: &mut dyn Write, event: &DeviceEvent, wall: SystemTime) -> io::Result<()> {
    #[derive(Serialize)]
    struct Event<'a> {
        schema: &'static str,
        time: Rfc3339,
        monotonic_ns: u64,
        event: &'static str,
        id: &'a str,
        driver: &'a str,
    }
    line(
        w,
        &Event {
            schema: "gpuscope.event/1",
            time: Rfc3339::new(wall),
            monotonic_ns: event.at_ns,
            event: event.kind.as_str(),
            id: event.id.as_str(),
            driver: &event.driver,
        },
    )
}

fn gpu(g: &DeviceSnapshot) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Gpu<'a, E, C, F, R, T, N, M> {
        id: &'a str,
        driver: &'a str,
        engines: E,
        classes: C,
        frequency: F,
        power: Power,
        rc6: R,
        temperature: T,
        fans: N,
        memory: M,
        system_memory_bandwidth: Bandwidth,
        runtime_status: Option<&'static str>,
        perturbs: bool,
        unavailable: Absences<'a>,
    }
    Gpu {
        id: g.id.as_str(),
        driver: &g.driver,
        engines: each_known(&g.engines, engine),
        classes: each_known(&g.classes, class),
        // No GT at all is not known, not none.
        frequency: (!g.gts.is_empty()).then(|| each(&g.gts, frequency)),
        power: power(&g.power),
        rc6: (!g.gts.is_empty()).then(|| each(&g.gts, rc6)),
        temperature: each_known(&g.temperatures, temperature),
        fans: each_known(&g.fans, fan),
        memory: each_known(&g.memory, memory),
        system_memory_bandwidth: bandwidth(&g.bandwidth),
        runtime_status: g.runtime_status.get().map(|s| s.as_str()),
        perturbs: g.perturbs,
        unavailable: Absences(g),
    }
}

fn engine(e: &EngineSnapshot) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Engine<'a> {
        name: &'a str,
        class: &'static str,
        instance: u16,
        gt: Option<u8>,
        busy_percent: Option<f64>,
        wait_percent: Option<f64>,
        sema_percent: Option<f64>,
        source: &'a str,
    }
    Engine {
        name: &e.name,
        class: e.class.as_str(),
        instance: e.instance,
        gt: e.gt.get(),
        busy_percent: e.busy_ratio.get().map(percent),
        wait_percent: e.wait_ratio.get().map(percent),
        sema_percent: e.sema_ratio.get().map(percent),
        source: &e.source,
    }
}

fn class(c: &ClassSnapshot) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Class<'a> {
        name: &'a str,
        class: &'static str,
        capacity: Option<u32>,
        busy_percent: Option<f64>,
    }
    Class {
        name: &c.name,
        class: c.class.as_str(),
        capacity: c.capacity.get(),
        busy_percent: c.busy_ratio.get().map(percent),
    }
}

fn frequency(g: &GtSnapshot) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct Frequency {
        gt: u8,
        actual_mhz: Option<f64>,
        requested_mhz: Option<f64>,
        min_mhz: Option<f64>,
        max_mhz: Option<f64>,
        throttle: Option<Throttle>,
    }
    Frequency {
        gt: g.gt,
        actual_mhz: g.actual_hz.get().map(mhz),
        requested_mhz: g.requested_hz.get().map(mhz),
        min_mhz: g.min_hz.get().map(mhz),
        max_mhz: g.max_hz.get().map(mhz),
        throttle: g.throttle.get().map(Throttle),
    }
}

/// An empty list means: known not to be throttled.
struct Throttle(ThrottleReasons);

impl Serialize for Throttle {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.iter().map(|r| r.as_str()))
    }
}

fn rc6(g: &GtSnapshot) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct Rc6 {
        gt: u8,
        residency_percent: Option<f64>,
    }
    Rc6 { gt: g.gt, residency_percent: g.idle_ratio.get().map(percent) }
}

#[derive(Serialize)]
struct Power {
    gpu_watts: Option<f64>,
    card_watts: Option<f64>,
    package_watts: Option<f64>,
    psys_watts: Option<f64>,
}

fn power(p: &PowerSnapshot) -> Power {
    let watts = |r: &Reading<f64>| r.get().map(round4);
    Power {
        gpu_watts: watts(&p.gpu_watts),
        card_watts: watts(&p.card_watts),
        package_watts: watts(&p.package_watts),
        psys_watts: watts(&p.psys_watts),
    }
}

fn temperature(t: &TemperatureSample) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Temperature<'a> {
        label: &'a str,
        celsius: Option<f64>,
    }
    Temperature { label: &t.label, celsius: t.celsius.get().map(round4) }
}

fn fan(f: &FanSample) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Fan<'a> {
        label: &'a str,
        rpm: Option<f64>,
    }
    Fan { label: &f.label, rpm: f.rpm.get().map(round4) }
}

fn memory(m: &MemorySample) -> impl Serialize + use<'_> {
    #[derive(Serialize)]
    struct Memory<'a> {
        region: &'a str,
        total_bytes: Option<u64>,
        used_bytes: Option<u64>,
    }
    Memory { region: &m.region, total_bytes: m.total_bytes.get(), used_bytes: m.used_bytes.get() }
}

#[derive(Serialize)]
struct Bandwidth {
    read_bytes_per_second: Option<f64>,
    write_bytes_per_second: Option<f64>,
}

fn bandwidth(b: &BandwidthSnapshot) -> Bandwidth {
    let rate = |r: &Reading<f64>| r.get().map(f64::round);
    Bandwidth {
        read_bytes_per_second: rate(&b.read_bytes_per_second),
        write_bytes_per_second: rate(&b.write_bytes_per_second),
    }
}

/// The list `unavailable` of one GPU.
struct Absences<'a>(&'a DeviceSnapshot);

impl Serialize for Absences<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(None)?;
        let mut result = Ok(());
        self.0.each_unavailable(|path, why| {
            if result.is_ok() {
                result = seq.serialize_element(&Missing::new(path, why));
            }
        });
        result?;
        seq.end()
    }
}
