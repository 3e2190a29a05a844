//! The text of one fdinfo file.

use std::fmt;

/// Use of one engine, or class of engines, by one client. Every counter runs since the client was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineUsage {
    /// The driver's word: `render` (i915), `rcs` (xe), `gfx` (amdgpu), …
    pub name: String,
    /// Time this client kept the engine busy, in nanoseconds. Source: `drm-engine-<name>`. May step back briefly.
    pub busy_ns: Option<u64>,
    /// Busy cycles of the engine for this client. Source: `drm-cycles-<name>`. May step back briefly.
    pub cycles: Option<u64>,
    /// Cycles of the engine, busy or not, on the same clock as `cycles`. Source: `drm-total-cycles-<name>`.
    pub total_cycles: Option<u64>,
    /// Highest frequency of the engine, in hertz. Source: `drm-maxfreq-<name>`.
    pub max_freq_hz: Option<u64>,
    /// Frequency of the engine now, in hertz. Source: `drm-curfreq-<name>`, of panfrost and panthor alone.
    pub current_freq_hz: Option<u64>,
    /// Number of identical engines behind the name, as printed. Source: `drm-engine-capacity-<name>`; drivers leave it out for
    /// one engine, see [`capacity`](Self::capacity).
    pub printed_capacity: Option<u32>,
}

impl EngineUsage {
    /// Number of identical engines: what is printed, or 1.
    pub fn capacity(&self) -> u32 {
        self.printed_capacity.unwrap_or(1)
    }

    fn clear(&mut self) {
        *self = EngineUsage { name: std::mem::take(&mut self.name), ..EngineUsage::default() };
    }

    fn is_empty(&self) -> bool {
        self.busy_ns.is_none()
            && self.cycles.is_none()
            && self.total_cycles.is_none()
            && self.max_freq_hz.is_none()
            && self.current_freq_hz.is_none()
            && self.printed_capacity.is_none()
    }
}

/// Memory of one client in one region, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionUsage {
    /// The driver's word: `system0` (i915), `vram0` (xe), `vram` (amdgpu), `memory` (drivers with system memory alone), …
    pub name: String,
    /// Size of all buffers, those without pages too. Source: `drm-total-<region>`.
    pub total_bytes: Option<u64>,
    /// Buffers that other clients hold as well. Source: `drm-shared-<region>`.
    pub shared_bytes: Option<u64>,
    /// Buffers that have pages now. Source: `drm-resident-<region>`, else its older name `drm-memory-<region>`.
    pub resident_bytes: Option<u64>,
    /// Buffers in use by an engine now. Source: `drm-active-<region>`.
    pub active_bytes: Option<u64>,
    /// Buffers that may be dropped under pressure. Source: `drm-purgeable-<region>`.
    pub purgeable_bytes: Option<u64>,
}

impl RegionUsage {
    fn clear(&mut self) {
        *self = RegionUsage { name: std::mem::take(&mut self.name), ..RegionUsage::default() };
    }

    fn is_empty(&self) -> bool {
        self.total_bytes.is_none()
            && self.shared_bytes.is_none()
            && self.resident_bytes.is_none()
            && self.active_bytes.is_none()
            && self.purgeable_bytes.is_none()
    }
}

/// A known key whose value could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNote {
    /// Line of the text, from 1.
    pub line: usize,
    /// The key.
    pub key: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for ParseNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fdinfo line {}: {}: {}", self.line, self.key, self.what)
    }
}

/// What an fdinfo file says about a DRM client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// Kernel driver; empty when the file is none of DRM's. Source: `drm-driver`.
    pub driver: String,
    /// Number of the open file, the same in all its duplicates. Source: `drm-client-id`.
    pub client_id: Option<u64>,
    /// PCI address; empty for devices that are not on PCI. Source: `drm-pdev`.
    pub pdev: String,
    /// Name that the client gave itself; mostly empty. Source: `drm-client-name`.
    pub client_name: String,
    /// Engines, in the order in which their names were first seen.
    pub engines: Vec<EngineUsage>,
    /// Memory regions, in the order in which their names were first seen.
    pub memory: Vec<RegionUsage>,
    /// Known keys with values that could not be used.
    pub notes: Vec<ParseNote>,
    /// Number of keys beginning with `drm-` that this version has no word for.
    pub unknown_keys: usize,
}

impl FdInfo {
    /// Whether the text was that of a DRM client.
    pub fn is_drm(&self) -> bool {
        !self.driver.is_empty()
    }
}

/// Bytes of the value of a memory key. `drm_fdinfo_print_size` (drivers/gpu/drm/drm_file.c) divides by 1024 only while nothing is
/// lost, so that one key changes its unit from read to read.
const SIZES: &[(&str, u64)] = &[("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];
const NANOSECONDS: &[(&str, u64)] = &[("ns", 1), ("", 1)];
const FREQUENCIES: &[(&str, u64)] = &[("Hz", 1), ("", 1), ("KHz", 1_000), ("MHz", 1_000_000)];
const PLAIN: &[(&str, u64)] = &[("", 1)];

/// The number of a value with its unit applied. A unit that is not in the table is an error, never a factor of one.
fn number(value: &str, units: &[(&str, u64)]) -> Result<u64, &'static str> {
    let (digits, unit) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a number");
    }
    let n: u64 = digits.parse().map_err(|_| "number too large")?;
    let unit = unit.trim();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or("unknown unit")?;
    n.checked_mul(*factor).ok_or("number too large")
}

fn capacity(value: &str) -> Result<u64, &'static str> {
    match number(value, PLAIN)? {
        0 => Err("a capacity of zero is not allowed"),
        n if n > u64::from(u32::MAX) => Err("number too large"),
        n => Ok(n),
    }
}

fn set_text(field: &mut String, value: &str) -> Result<(), &'static str> {
    // The first line of a key wins: what a client chose as its name cannot pass for the driver's lines, which come before.
    if field.is_empty() {
        field.push_str(value);
    }
    Ok(())
}

fn set_once(field: &mut Option<u64>, value: Result<u64, &'static str>) -> Result<(), &'static str> {
    let value = value?;
    if field.is_some() {
        return Err("printed twice");
    }
    *field = Some(value);
    Ok(())
}

/// The entry of that name, made when it is not there yet.
fn entry<T>(list: &mut Vec<T>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> Option<&mut T> {
    let at = list.iter().position(is).unwrap_or_else(|| {
        list.push(make());
        list.len().saturating_sub(1)
    });
    list.get_mut(at)
}

/// Reads the text of an fdinfo file into `out`, in place of what was there.
///
/// Total: every text has an answer. What is malformed in a known key leaves the field `None` and a [`ParseNote`]. With the keys of
/// the text before, nothing is allocated.
///
/// Text: `drm_show_fdinfo` and `drm_print_memory_stats` in drivers/gpu/drm/drm_file.c, then the driver's `show_fdinfo`.
pub fn parse_fdinfo(text: &str, out: &mut FdInfo) {
    out.driver.clear();
    out.client_id = None;
    out.pdev.clear();
    out.client_name.clear();
    out.notes.clear();
    out.unknown_keys = 0;
    out.engines.iter_mut().for_each(EngineUsage::clear);
    out.memory.iter_mut().for_each(RegionUsage::clear);

    let mut aliases = false;
    for (i, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once(':') else { continue };
        // v3d prints `drm-engine-bin: \t…` (drivers/gpu/drm/v3d/v3d_drv.c): any white space may follow the colon.
        let (key, value) = (key.trim(), value.trim());
        let Some(name) = key.strip_prefix("drm-") else { continue };
        // Taken after the others: on drivers that print both, the newer key says the same with more care.
        if name.starts_with("memory-") {
            aliases = true;
            continue;
        }
        if let Err(what) = take(name, value, out) {
            out.notes.push(ParseNote { line: i.saturating_add(1), key: key.to_string(), what });
        }
    }
    if aliases {
        take_aliases(text, out);
    }
    out.engines.retain(|e| !e.is_empty());
    out.memory.retain(|m| !m.is_empty());
}

fn take_aliases(text: &str, out: &mut FdInfo) {
    for (i, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let Some(region) = key.strip_prefix("drm-memory-") else { continue };
        match number(value, SIZES) {
            Ok(bytes) => {
                if let Some(r) = region_of(out, region) {
                    r.resident_bytes.get_or_insert(bytes);
                }
            }
            Err(what) => out.notes.push(ParseNote { line: i.saturating_add(1), key: key.to_string(), what }),
        }
    }
}

fn region_of<'a>(out: &'a mut FdInfo, name: &str) -> Option<&'a mut RegionUsage> {
    entry(&mut out.memory, |r| r.name == name, || RegionUsage { name: name.to_string(), ..RegionUsage::default() })
}

fn engine_of<'a>(out: &'a mut FdInfo, name: &str) -> Option<&'a mut EngineUsage> {
    entry(&mut out.engines, |e| e.name == name, || EngineUsage { name: name.to_string(), ..EngineUsage::default() })
}

/// Takes one key, without its `drm-`.
fn take(name: &str, value: &str, out: &mut FdInfo) -> Result<(), &'static str> {
    match name {
        "driver" => return set_text(&mut out.driver, value),
        "pdev" => return set_text(&mut out.pdev, value),
        "client-name" => return set_text(&mut out.client_name, value),
        "client-id" => return set_once(&mut out.client_id, number(value, PLAIN)),
        _ => {}
    }
    if let Some(engine) = name.strip_prefix("engine-capacity-") {
        let n = capacity(value)?;
        if let Some(e) = engine_of(out, engine) {
            e.printed_capacity = u32::try_from(n).ok();
        }
        return Ok(());
    }
    if let Some(engine) = name.strip_prefix("engine-") {
        let ns = number(value, NANOSECONDS)?;
        if let Some(e) = engine_of(out, engine) {
            // amdgpu has one name for two blocks (`dec`: UVD and VCN; drivers/gpu/drm/amd/amdgpu/amdgpu_fdinfo.c).
            e.busy_ns = Some(e.busy_ns.unwrap_or(0).saturating_add(ns));
        }
        return Ok(());
    }
    type Field<T> = fn(&mut T) -> &mut Option<u64>;
    type Units = &'static [(&'static str, u64)];
    let engine_keys: [(&str, Field<EngineUsage>, Units); 4] = [
        ("cycles-", |e| &mut e.cycles, PLAIN),
        ("total-cycles-", |e| &mut e.total_cycles, PLAIN),
        ("maxfreq-", |e| &mut e.max_freq_hz, FREQUENCIES),
        ("curfreq-", |e| &mut e.current_freq_hz, FREQUENCIES),
    ];
    for (prefix, field, units) in engine_keys {
        if let Some(engine) = name.strip_prefix(prefix) {
            return engine_of(out, engine).map_or(Ok(()), |e| set_once(field(e), number(value, units)));
        }
    }
    let region_keys: [(&str, Field<RegionUsage>); 5] = [
        ("total-", |r| &mut r.total_bytes),
        ("shared-", |r| &mut r.shared_bytes),
        ("resident-", |r| &mut r.resident_bytes),
        ("active-", |r| &mut r.active_bytes),
        ("purgeable-", |r| &mut r.purgeable_bytes),
    ];
    for (prefix, field) in region_keys {
        if let Some(region) = name.strip_prefix(prefix) {
            return region_of(out, region).map_or(Ok(()), |r| set_once(field(r), number(value, SIZES)));
        }
    }
    out.unknown_keys = out.unknown_keys.saturating_add(1);
    Ok(())
}

/// The client id alone, the same that [`parse_fdinfo`] finds: whether a held file still shows the client that it was opened for.
pub fn client_id(text: &str) -> Option<u64> {
    let ids = text.lines().filter_map(|l| l.split_once(':')).filter(|(key, _)| key.trim() == "drm-client-id");
    ids.map(|(_, value)| number(value.trim(), PLAIN)).find_map(Result::ok)
}
