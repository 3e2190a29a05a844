//! `gpu_metrics`: what the power management firmware measured, as one binary table whose layout depends on its version.
//!
//! Every table begins with `struct metrics_table_header`: its size in bytes, a format (1 for cards, 2 and 3 for APUs) and a content
//! revision. Drivers fill a table with ones before they put values in (`smu_cmn_init_soft_gpu_metrics`,
//! drivers/gpu/drm/amd/pm/swsmu/smu_cmn.c): a field whose bits are all set is absent. Numbers are little-endian, as the machines are
//! that amdgpu runs on.

mod tables;

use gpuscope_model::{ThrottleReason, ThrottleReasons};
use std::fmt;

/// What a field counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number: lanes, counts.
    Unitless,
    /// Bits, or bytes without meaning of their own.
    Opaque,
    /// Not the same on all chips and firmwares that print the table, or a unit that this version does not need: only
    /// [`Entry::raw`] tells it.
    Unsettled,
    /// °C.
    Celsius,
    /// Hundredths of a degree Celsius.
    CentiCelsius,
    /// Watts.
    Watts,
    /// Milliwatts.
    Milliwatts,
    /// Percent.
    Percent,
    /// Hundredths of a percent.
    CentiPercent,
    /// Megahertz.
    Megahertz,
    /// Millivolts.
    Millivolts,
    /// Milliamperes.
    Milliamperes,
    /// Nanoseconds.
    Nanoseconds,
    /// Tens of nanoseconds.
    TenNanoseconds,
    /// Revolutions a minute.
    Rpm,
    /// Tenths of a gigatransfer a second.
    TenthGigatransfers,
    /// 2⁻¹⁶ joules ("15.259uJ (2^-16) units").
    Energy,
}

/// The type of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `uint8_t`; the list's signed types stand beside the unsigned ones.
    U8,
    /// `int8_t`.
    S8,
    /// `uint16_t`.
    U16,
    /// `int16_t`.
    S16,
    /// `uint32_t`.
    U32,
    /// `int32_t`.
    S32,
    /// `uint64_t`.
    U64,
    /// `int64_t`.
    S64,
}

impl Kind {
    const fn bytes(self) -> usize {
        match self {
            Kind::U8 | Kind::S8 => 1,
            Kind::U16 | Kind::S16 => 2,
            Kind::U32 | Kind::S32 => 4,
            Kind::U64 | Kind::S64 => 8,
        }
    }

    const fn is_signed(self) -> bool {
        matches!(self, Kind::S8 | Kind::S16 | Kind::S32 | Kind::S64)
    }

    /// `enum amdgpu_metrics_attr_type`.
    fn of_list(number: u64) -> Option<Self> {
        const ALL: [Kind; 8] = [Kind::U8, Kind::S8, Kind::U16, Kind::S16, Kind::U32, Kind::S32, Kind::U64, Kind::S64];
        ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// One member of a structure.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: &'static str,
    kind: Kind,
    count: u16,
    unit: Unit,
}

/// One structure of kgd_pp_interface.h: its members, in parts which structures share.
#[derive(Debug)]
struct Layout {
    structure: &'static str,
    format: u8,
    content: u8,
    size: u16,
    parts: &'static [&'static [Field]],
}

/// `struct metrics_table_header`.
const HEADER: usize = 4;

/// Why a table cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsError {
    /// There are fewer bytes than a header has, or than the header says.
    Short {
        /// Bytes at hand.
        bytes: usize,
        /// Bytes announced.
        announced: usize,
    },
    /// A version this program has no table for.
    Version {
        /// `format_revision`.
        format: u8,
        /// `content_revision`.
        content: u8,
    },
    /// The header's size is not that of the version's structure.
    Size {
        /// The structure.
        structure: &'static str,
        /// Its size.
        expected: u16,
        /// What the header says.
        announced: u16,
    },
    /// More follows than the header says.
    Trailing,
    /// The list of attributes ends before its last one, or has an unknown type.
    List {
        /// The attribute, counted from 0.
        attribute: u32,
    },
}

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsError::Short { bytes, announced } => {
                write!(f, "gpu_metrics has {bytes} bytes where {announced} are announced")
            }
            MetricsError::Version { format, content } => {
                write!(f, "gpu_metrics has version {format}.{content}, which this version does not know")
            }
            MetricsError::Size { structure, expected, announced } => {
                write!(f, "gpu_metrics announces {announced} bytes, and {structure} has {expected}")
            }
            MetricsError::Trailing => write!(f, "gpu_metrics is longer than it announces"),
            MetricsError::List { attribute } => write!(f, "gpu_metrics: attribute {attribute} of its list is broken"),
        }
    }
}

/// A table that was checked.
#[derive(Clone, Copy, Debug)]
pub struct GpuMetrics<'a> {
    structure: &'static str,
    version: (u8, u8),
    body: Body<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Body<'a> {
    /// A structure: all of its bytes, header included.
    Structure { parts: &'static [&'static [Field]], bytes: &'a [u8] },
    /// `gpu_metrics_v1_9`: the bytes of its attributes.
    List { count: u32, bytes: &'a [u8] },
}

/// One field of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The structure's member, or the attribute's id in the same words; `unknown` for an attribute of a later kernel.
    pub name: &'static str,
    /// What it counts in.
    pub unit: Unit,
    /// Offset of its first byte in the table.
    pub offset: usize,
    kind: Kind,
    bytes: &'a [u8],
}

impl Entry<'_> {
    /// Number of elements: 1, or those of an array.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.kind.bytes()
    }

    /// The number as it stands in the table; `None` past the end, and where all bits are set: the driver has no value.
    pub fn raw(&self, element: usize) -> Option<u64> {
        let width = self.kind.bytes();
        let start = element.checked_mul(width)?;
        let bytes = self.bytes.get(start..start.checked_add(width)?)?;
        if bytes.iter().all(|b| *b == 0xff) {
            return None;
        }
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The value in its base unit: °C, W, Hz, V, A, s, J, rpm, GT/s, or a share of 1. `None` as for [`raw`](Self::raw), for bits, and
    /// where the unit is not settled.
    pub fn value(&self, element: usize) -> Option<f64> {
        let raw = self.raw(element)?;
        let number = if self.kind.is_signed() { sign_extended(raw, self.kind) as f64 } else { raw as f64 };
        Some(match self.unit {
            Unit::Opaque | Unit::Unsettled => return None,
            Unit::Unitless | Unit::Celsius | Unit::Watts | Unit::Rpm => number,
            Unit::CentiCelsius | Unit::Percent => number / 100.0,
            Unit::CentiPercent => number / 1e4,
            Unit::Milliwatts | Unit::Millivolts | Unit::Milliamperes => number / 1e3,
            Unit::Megahertz => number * 1e6,
            Unit::Nanoseconds => number / 1e9,
            Unit::TenNanoseconds => number / 1e8,
            Unit::TenthGigatransfers => number / 10.0,
            Unit::Energy => number / 65_536.0,
        })
    }
}

fn sign_extended(raw: u64, kind: Kind) -> i64 {
    match kind {
        Kind::S8 => i64::from(raw as u8 as i8),
        Kind::S16 => i64::from(raw as u16 as i16),
        Kind::S32 => i64::from(raw as u32 as i32),
        _ => raw as i64,
    }
}

/// Checks a table. `bytes` may be padded with NULs, as captures are that were copied page by page.
///
/// # Errors
///
/// [`MetricsError`]: too short, of an unknown version, or of a size that its version does not have.
pub fn parse_gpu_metrics(bytes: &[u8]) -> Result<GpuMetrics<'_>, MetricsError> {
    let &[low, high, format, content, ..] = bytes else {
        return Err(MetricsError::Short { bytes: bytes.len(), announced: HEADER });
    };
    let announced = u16::from_le_bytes([low, high]);
    let size = usize::from(announced);
    let version = (format, content);
    let known = version == (1, 9) || LAYOUTS.iter().any(|l| (l.format, l.content) == version);
    if !known {
        return Err(MetricsError::Version { format, content });
    }
    let Some((table, rest)) = bytes.split_at_checked(size) else {
        return Err(MetricsError::Short { bytes: bytes.len(), announced: size });
    };
    if rest.iter().any(|b| *b != 0) {
        return Err(MetricsError::Trailing);
    }
    if version == (1, 9) {
        return parse_list(table, version);
    }
    let mut of_version = LAYOUTS.iter().filter(|l| (l.format, l.content) == version);
    match of_version.clone().find(|l| l.size == announced) {
        Some(layout) => {
            let body = Body::Structure { parts: layout.parts, bytes: table };
            Ok(GpuMetrics { structure: layout.structure, version, body })
        }
        None => Err(match of_version.next() {
            Some(l) => MetricsError::Size { structure: l.structure, expected: l.size, announced },
            None => MetricsError::Version { format, content },
        }),
    }
}

use self::tables::{ATTRIBUTES, LAYOUTS};

/// `gpu_metrics_v1_9`: a count (`int`), and so many attributes, packed: an encoding of 64 bits and the values that it describes
/// (`DECLARE_SMU_METRICS_CLASS`, drivers/gpu/drm/amd/pm/swsmu/smu_cmn.h).
fn parse_list(table: &[u8], version: (u8, u8)) -> Result<GpuMetrics<'_>, MetricsError> {
    let short = MetricsError::Short { bytes: table.len(), announced: HEADER + 4 };
    let count = table.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or(short)?;
    let bytes = table.get(HEADER + 4..).unwrap_or_default();
    let body = Body::List { count, bytes };
    let metrics = GpuMetrics { structure: "gpu_metrics_v1_9", version, body };
    let read = metrics.entries().count();
    match u32::try_from(read) {
        Ok(read) if read == count => Ok(metrics),
        _ => Err(MetricsError::List { attribute: u32::try_from(read).unwrap_or(u32::MAX) }),
    }
}

/// The fields of a table, in its order.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    body: Body<'a>,
    part: usize,
    field: usize,
    offset: usize,
    left: u32,
}

impl<'a> Entries<'a> {
    fn next_member(&mut self, parts: &[&[Field]], bytes: &'a [u8]) -> Option<Entry<'a>> {
        let field = loop {
            match parts.get(self.part)?.get(self.field) {
                Some(field) => break field,
                None => {
                    self.part += 1;
                    self.field = 0;
                }
            }
        };
        self.field += 1;
        let width = field.kind.bytes();
        let offset = self.offset.next_multiple_of(width);
        self.offset = offset + width * usize::from(field.count);
        let bytes = bytes.get(offset..self.offset)?;
        Some(Entry { name: field.name, unit: field.unit, offset, kind: field.kind, bytes })
    }

    fn next_attribute(&mut self, bytes: &'a [u8]) -> Option<Entry<'a>> {
        self.left = self.left.checked_sub(1)?;
        let rest = bytes.get(self.offset..)?;
        let (encoding, rest) = rest.split_first_chunk::<8>()?;
        let encoding = u64::from_le_bytes(*encoding);
        // `AMDGPU_METRICS_ENC_ATTR`: unit, type, id, number of values.
        let (unit, kind) = (encoding >> 24 & 0xff, encoding >> 20 & 0xf);
        let (id, count) = (encoding >> 10 & 0x3ff, encoding & 0x3ff);
        let kind = Kind::of_list(kind)?;
        let values = rest.get(..kind.bytes() * usize::try_from(count).ok()?)?;
        let name = usize::try_from(id).ok().and_then(|id| ATTRIBUTES.get(id)).copied().unwrap_or("unknown");
        let offset = HEADER + 4 + self.offset + 8;
        self.offset += 8 + values.len();
        Some(Entry { name, unit: list_unit(unit), offset, kind, bytes: values })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        match self.body {
            Body::Structure { parts, bytes } => self.next_member(parts, bytes),
            Body::List { bytes, .. } => self.next_attribute(bytes),
        }
    }
}

/// `enum amdgpu_metrics_attr_unit`.
fn list_unit(number: u64) -> Unit {
    match number {
        0 => Unit::Unitless,
        1 => Unit::Megahertz,
        2 => Unit::Celsius,
        3 => Unit::Watts,
        4 => Unit::Nanoseconds,
        5 => Unit::TenNanoseconds,
        7 => Unit::TenthGigatransfers,
        10 => Unit::Percent,
        // GT/s, GB/s, KB, and what later kernels add.
        _ => Unit::Unsettled,
    }
}

impl<'a> GpuMetrics<'a> {
    /// The kernel's structure: `gpu_metrics_v1_3`.
    pub fn structure(&self) -> &'static str {
        self.structure
    }

    /// Format and content revision.
    pub fn version(&self) -> (u8, u8) {
        self.version
    }

    /// All fields.
    pub fn entries(&self) -> Entries<'a> {
        let (offset, left) = match self.body {
            Body::Structure { .. } => (HEADER, 0),
            Body::List { count, .. } => (0, count),
        };
        Entries { body: self.body, part: 0, field: 0, offset, left }
    }

    /// The field of a name.
    pub fn find(&self, name: &str) -> Option<Entry<'a>> {
        self.entries().find(|e| e.name == name)
    }

    /// The value of a field, or of the first element of an array, see [`Entry::value`].
    pub fn value(&self, name: &str) -> Option<f64> {
        self.find(name)?.value(0)
    }

    /// What limits the clocks now; `None` where the table does not tell.
    ///
    /// `indep_throttle_status` (v1.3, v2.2 and later of format 2) has bits of one meaning for all chips. In its stead
    /// `throttle_status` has bits of the chip's own: only whether there are any can be told. From v1.6 on, and in v3.0, there are
    /// only accumulated residencies.
    pub fn throttle(&self) -> Option<ThrottleReasons> {
        if let Some(bits) = self.find("indep_throttle_status").and_then(|e| e.raw(0)) {
            return Some(throttle_reasons(bits));
        }
        let bits = self.find("throttle_status")?.raw(0)?;
        let mut reasons = ThrottleReasons::NONE;
        if bits != 0 {
            reasons.insert(ThrottleReason::Other);
        }
        Some(reasons)
    }
}

/// The reasons behind the bits of `indep_throttle_status` (`SMU_THROTTLER_…_BIT`, drivers/gpu/drm/amd/pm/swsmu/inc/amdgpu_smu.h).
///
/// Sustained limits (PPT0, SPL, SPPT) are PL1, the fast one (FPPT) PL2. PPT1 to PPT3 and the limits of electrical current and of the
/// clocks' stretching are not told apart.
pub fn throttle_reasons(bits: u64) -> ThrottleReasons {
    let mut set = ThrottleReasons::NONE;
    for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
        set.insert(match bit {
            // PPT0, SPL, SPPT, SPPT_APU.
            0 | 4 | 6 | 7 => ThrottleReason::Pl1,
            // FPPT.
            5 => ThrottleReason::Pl2,
            // TDC_GFX, TDC_SOC, TDC_MEM, TDC_VDD, TDC_CVIP.
            16..=20 => ThrottleReason::VrTdc,
            // TEMP_GPU, _CORE, _MEM, _EDGE, _HOTSPOT, _SOC, _LIQUID0, _LIQUID1.
            32..=37 | 42 | 43 => ThrottleReason::Thermal,
            // TEMP_VR_GFX, _VR_SOC, _VR_MEM0, _VR_MEM1, VRHOT0, VRHOT1.
            38..=41 | 44 | 45 => ThrottleReason::VrThermalert,
            // PROCHOT_CPU, PROCHOT_GFX.
            46 | 47 => ThrottleReason::Prochot,
            _ => ThrottleReason::Other,
        });
    }
    set
}

#[cfg(test)]
mod tests;
