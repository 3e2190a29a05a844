//! One block a sample and GPU.

use super::{Absences, Style, Tone, dressed, no_gpu, reason_words, row};
use gpuscope_model::{DeviceEvent, DeviceEventKind, DeviceSnapshot, GpuId, GtSnapshot, Reading, Reason, Snapshot, Why};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};

/// Writes samples as text. It remembers what it has said: why a value is not known is told once a value and reason, so that a GPU
/// that is left alone and read in turns does not repeat itself.
pub struct Stat {
    style: Style,
    told: HashMap<GpuId, HashSet<u64>>,
    told_empty: bool,
}

impl Stat {
    /// Nothing told yet.
    pub fn new(style: Style) -> Self {
        Stat { style, told: HashMap::new(), told_empty: false }
    }

    /// Writes the line of a device that came or went.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn event(&mut self, w: &mut dyn Write, event: &DeviceEvent) -> io::Result<()> {
        self.told.remove(&event.id);
        let what = match event.kind {
            DeviceEventKind::Gone => "went away",
            DeviceEventKind::Added => "appeared",
        };
        writeln!(w, "{} ({}) {what}", event.id, event.driver)
    }

    /// Writes one sample. `name` gives the name of a GPU; `looked_at` says where GPUs were looked for, should there be none.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn sample<'n>(
        &mut self,
        w: &mut dyn Write,
        snapshot: &Snapshot,
        name: impl Fn(&GpuId) -> Option<&'n str>,
        looked_at: &str,
    ) -> io::Result<()> {
        if snapshot.gpus.is_empty() {
            if !self.told_empty {
                no_gpu(w, self.style, looked_at)?;
            }
            self.told_empty = true;
            return Ok(());
        }
        self.told_empty = false;
        for gpu in &snapshot.gpus {
            dressed(w, self.style, |w| self.gpu(w, gpu, name(&gpu.id)))?;
        }
        Ok(())
    }

    fn gpu(&mut self, w: &mut dyn Write, gpu: &DeviceSnapshot, name: Option<&str>) -> io::Result<()> {
        let style = self.style;
        let mut heading = gpu.id.to_string();
        if let Some(name) = name {
            heading = format!("{heading}  {name}");
        }
        let state = match &gpu.runtime_status {
            Reading::Value(status) => status.as_str().to_string(),
            Reading::Absent(why) => format!("power state {}", reason_words(why.reason)),
        };
        let perturbs = if gpu.perturbs { "  (kept awake by this monitor)" } else { "" };
        writeln!(w, "{} ({})  {state}{perturbs}", style.paint(Tone::Heading, &heading), gpu.driver)?;

        engines(w, style, gpu)?;
        classes(w, style, gpu)?;
        let gts = |item: fn(&GtSnapshot, Style) -> Result<String, Why>| gather(gpu.gts.iter().map(|g| item(g, style)));
        row(w, style, "frequency", &gts(frequency))?;
        row(w, style, "throttle", &gts(throttle))?;
        row(w, style, "rc6", &gts(rc6))?;
        let p = &gpu.power;
        let watts =
            [("gpu", &p.gpu_watts), ("card", &p.card_watts), ("package", &p.package_watts), ("psys", &p.psys_watts)];
        row(w, style, "power", &gather(watts.map(|(l, r)| known(l, r, |v| format!("{v:.2} W")))))?;
        let degree = if style.unicode { "°C" } else { "C" };
        let temperatures = list(&gpu.temperatures, |t| known(&t.label, &t.celsius, |v| format!("{v:.0} {degree}")));
        row(w, style, "temp", &temperatures)?;
        row(w, style, "fans", &list(&gpu.fans, |f| known(&f.label, &f.rpm, |v| format!("{v:.0} rpm"))))?;
        let memory = list(&gpu.memory, |m| match (&m.used_bytes, &m.total_bytes) {
            (Reading::Value(used), Reading::Value(total)) => {
                Ok(format!("{} {} of {}", m.region, bytes(*used), bytes(*total)))
            }
            (Reading::Value(used), Reading::Absent(_)) => Ok(format!("{} {} used", m.region, bytes(*used))),
            (Reading::Absent(_), Reading::Value(total)) => Ok(format!("{} - of {}", m.region, bytes(*total))),
            (Reading::Absent(why), Reading::Absent(_)) => Err(why.clone()),
        });
        row(w, style, "memory", &memory)?;
        let bus = [("read", &gpu.bandwidth.read_bytes_per_second), ("write", &gpu.bandwidth.write_bytes_per_second)];
        row(w, style, "RAM", &gather(bus.map(|(l, r)| known(l, r, |v| format!("{:.2} GB/s", v / 1e9)))))?;

        self.absences(w, gpu)
    }

    fn absences(&mut self, w: &mut dyn Write, gpu: &DeviceSnapshot) -> io::Result<()> {
        let told = self.told.entry(gpu.id.clone()).or_default();
        let mut absences = Absences::default();
        gpu.each_unavailable(|path, why| {
            let mut print = Fingerprint(DefaultHasher::new());
            // A hasher takes everything.
            let _ = fmt::Write::write_fmt(&mut print, path);
            why.reason.hash(&mut print.0);
            if told.insert(print.0.finish()) {
                absences.add(&path.to_string(), why);
            }
        });
        absences.write(w, self.style)
    }
}

/// Hashes text as it is formatted.
struct Fingerprint(DefaultHasher);

impl fmt::Write for Fingerprint {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.write(s.as_bytes());
        Ok(())
    }
}

fn engines(w: &mut dyn Write, style: Style, gpu: &DeviceSnapshot) -> io::Result<()> {
    let busy = list(&gpu.engines, |e| known(&format!("{:<6}", e.name.as_str()), &e.busy_ratio, |v| gauge(style, v)));
    row(w, style, "engines", &busy)?;
    // Waiting is counted on request only: no line where nobody asked.
    for (caption, ratio) in [("wait", 0), ("sema", 1)] {
        let items: Vec<String> = gpu
            .engines
            .value()
            .into_iter()
            .flatten()
            .filter_map(|e| {
                let reading = if ratio == 0 { &e.wait_ratio } else { &e.sema_ratio };
                reading.get().map(|v| format!("{} {:.1} %", e.name, v * 100.0))
            })
            .collect();
        row(w, style, caption, &items)?;
    }
    Ok(())
}

fn classes(w: &mut dyn Write, style: Style, gpu: &DeviceSnapshot) -> io::Result<()> {
    // Classes that are sums of the engines above say nothing new.
    if gpu.engines.value().into_iter().flatten().any(|e| e.busy_ratio.is_known()) {
        return Ok(());
    }
    if gpu.engines.is_known() && !gpu.classes.is_known() {
        return Ok(());
    }
    let items = list(&gpu.classes, |c| {
        let label = match c.capacity.get() {
            Some(n) if n > 1 => format!("{} x{n}", c.name),
            _ => c.name.to_string(),
        };
        known(&format!("{label:<14}"), &c.busy_ratio, |v| gauge(style, v))
    });
    row(w, style, "classes", &items)
}

fn frequency(g: &GtSnapshot, style: Style) -> Result<String, Why> {
    let mhz = |r: &Reading<f64>| r.get().map_or("-".to_string(), |v| format!("{:.0}", v / 1e6));
    let all = [&g.actual_hz, &g.requested_hz, &g.min_hz, &g.max_hz];
    if let (None, Some(why)) = (all.iter().find_map(|r| r.value()), g.actual_hz.why()) {
        return Err(why.clone());
    }
    let dash = if style.unicode { "–" } else { "-" };
    // The drivers read 0 while the GT is in RC6: it has no clock then.
    let idle = if g.actual_hz.get() == Some(0.0) { ", idle" } else { "" };
    Ok(format!(
        "gt{} {} MHz{idle} (asked {}, limits {}{dash}{})",
        g.gt,
        mhz(&g.actual_hz),
        mhz(&g.requested_hz),
        mhz(&g.min_hz),
        mhz(&g.max_hz)
    ))
}

fn throttle(g: &GtSnapshot, _: Style) -> Result<String, Why> {
    match &g.throttle {
        Reading::Absent(why) => Err(why.clone()),
        Reading::Value(reasons) if reasons.is_empty() => Ok(format!("gt{} none", g.gt)),
        Reading::Value(reasons) => {
            let words: Vec<&str> = reasons.iter().map(|r| r.as_str()).collect();
            Ok(format!("gt{} {}", g.gt, words.join(" ")))
        }
    }
}

fn rc6(g: &GtSnapshot, _: Style) -> Result<String, Why> {
    known(&format!("gt{}", g.gt), &g.idle_ratio, |v| format!("{:.1} %", v * 100.0))
}

fn known(label: &str, reading: &Reading<f64>, show: impl FnOnce(f64) -> String) -> Result<String, Why> {
    match reading {
        Reading::Value(v) => Ok(format!("{label} {}", show(*v))),
        Reading::Absent(why) => Err(why.clone()),
    }
}

/// The items that are known. When none is, a dash with the reason, that of what exists going before that of what does not.
fn gather(items: impl IntoIterator<Item = Result<String, Why>>) -> Vec<String> {
    let mut shown = Vec::new();
    let mut reason: Option<Reason> = None;
    for item in items {
        match item {
            Ok(text) => shown.push(text),
            Err(why) if reason.is_none_or(|r| matches!(r, Reason::NoHardware | Reason::NotSupported)) => {
                reason = Some(why.reason);
            }
            Err(_) => {}
        }
    }
    match reason {
        Some(reason) if shown.is_empty() => vec![format!("-  {}", reason_words(reason))],
        _ => shown,
    }
}

fn list<T>(all: &Reading<Vec<T>>, item: impl Fn(&T) -> Result<String, Why>) -> Vec<String> {
    match all {
        Reading::Value(all) => gather(all.iter().map(item)),
        Reading::Absent(why) => vec![format!("-  {}", reason_words(why.reason))],
    }
}

/// ` 37.5 % ███████▌············`
fn gauge(style: Style, ratio: f64) -> String {
    const CELLS: usize = 16;
    // Only the bar is clamped; the number shows what was counted.
    let eighths = (ratio.clamp(0.0, 1.0) * (CELLS * 8) as f64).round() as usize;
    let (full, part) = (eighths / 8, eighths % 8);
    let mut bar = String::new();
    for cell in 0..CELLS {
        bar.push(match (cell.cmp(&full), style.unicode) {
            (std::cmp::Ordering::Less, true) => '█',
            (std::cmp::Ordering::Less, false) => '#',
            (std::cmp::Ordering::Equal, true) => {
                ['·', '▏', '▎', '▍', '▌', '▋', '▊', '▉'].get(part).copied().unwrap_or('·')
            }
            (std::cmp::Ordering::Equal, false) if part >= 4 => '#',
            (_, true) => '·',
            (_, false) => '.',
        });
    }
    format!("{:5.1} % {bar}", ratio * 100.0)
}

fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, size) in UNITS {
        if n >= size {
            return format!("{:.1} {unit}", n as f64 / size as f64);
        }
    }
    format!("{n} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_clamped_and_numbers_are_not() {
        let ascii = Style { unicode: false, ..Style::default() };
        assert_eq!(gauge(ascii, 0.5), " 50.0 % ########........");
        assert_eq!(gauge(ascii, 1.25), "125.0 % ################");
        assert_eq!(gauge(Style::default(), 0.0), "  0.0 % ················");
    }

    #[test]
    fn a_dash_tells_the_reason_that_can_be_helped() {
        let no = |reason| Err(Why::new(reason, "x"));
        assert_eq!(gather([no(Reason::NoHardware), no(Reason::NoPermission)]), ["-  no permission"]);
        assert_eq!(gather([no(Reason::NoHardware), Ok("gpu 1 W".into())]), ["gpu 1 W"]);
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes(1536 << 20), "1.5 GiB");
        assert_eq!(bytes(512), "512 B");
    }
}
