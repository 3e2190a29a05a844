//! What NVML's numbers mean: pure functions.

use gpuscope_model::{Reason, Text, ThrottleReason, ThrottleReasons, Why};

/// Memory of a device or a MIG instance, in bytes (`nvmlMemory_v2_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// All of it.
    pub(super) total: u64,
    /// Allocated, without `reserved`.
    pub(super) used: u64,
    /// Set aside by driver and firmware.
    pub(super) reserved: u64,
}

/// What NVML said at one reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Readings {
    /// Share of NVML's own sample period in which a kernel ran, in percent.
    pub(super) gpu: Result<u32, Why>,
    /// Share of it in which device memory was read or written, in percent.
    pub(super) memory_busy: Result<u32, Why>,
    pub(super) encoder: Result<u32, Why>,
    pub(super) decoder: Result<u32, Why>,
    pub(super) memory: Result<Memory, Why>,
    pub(super) energy_mj: Result<u64, Why>,
    pub(super) power_mw: Result<u32, Why>,
    pub(super) graphics_mhz: Result<u32, Why>,
    pub(super) graphics_max_mhz: Result<u32, Why>,
    pub(super) video_mhz: Result<u32, Why>,
    pub(super) video_max_mhz: Result<u32, Why>,
    pub(super) celsius: Result<u32, Why>,
    pub(super) throttle: Result<u64, Why>,
    pub(super) fans: Result<Vec<Result<u32, Why>>, Why>,
    /// By the instance's number; empty unless MIG is on.
    pub(super) mig: Vec<(u32, Result<Memory, Why>)>,
    /// The device fell off the bus.
    pub(super) lost: Option<Why>,
}

impl Readings {
    /// Nothing read.
    pub(super) fn absent(why: &Why) -> Self {
        Readings {
            gpu: Err(why.clone()),
            memory_busy: Err(why.clone()),
            encoder: Err(why.clone()),
            decoder: Err(why.clone()),
            memory: Err(why.clone()),
            energy_mj: Err(why.clone()),
            power_mw: Err(why.clone()),
            graphics_mhz: Err(why.clone()),
            graphics_max_mhz: Err(why.clone()),
            video_mhz: Err(why.clone()),
            video_max_mhz: Err(why.clone()),
            celsius: Err(why.clone()),
            throttle: Err(why.clone()),
            fans: Err(why.clone()),
            mig: Vec::new(),
            lost: None,
        }
    }

    /// Whether anything worked. Where utilisation is not known, nothing is known to.
    pub(super) fn busy(&self) -> bool {
        [&self.gpu, &self.encoder, &self.decoder].into_iter().any(|r| matches!(r, Ok(percent) if *percent > 0))
    }
}

/// What NVML said about one process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Device memory in bytes; over all MIG instances.
    pub(super) used_bytes: Result<u64, Why>,
    /// Percent of the engines' time: kernels, encoder, decoder.
    pub(super) percent: Result<Option<[u32; 3]>, Why>,
}

const NO_PERCENTAGE: Why =
    Why { reason: Reason::Failed, detail: Text::Static("NVML gave a utilisation above 100 percent"), remedy: None };

/// A percentage as NVML gives it.
///
/// # Errors
///
/// What is above 100 is no reading.
pub(super) fn percentage(percent: u32) -> Result<u8, Why> {
    u8::try_from(percent).ok().filter(|percent| *percent <= 100).ok_or(NO_PERCENTAGE)
}

/// The reasons behind the bits of `nvmlDeviceGetCurrentClocksThrottleReasons` (`nvmlClocksThrottleReason…` in nvml.h).
///
/// Idle clocks are no throttling. `HwSlowdown` is set with each of the hardware reasons: it counts for itself only where none of those
/// explains it.
pub(super) fn throttle_reasons(bits: u64) -> ThrottleReasons {
    const GPU_IDLE: u64 = 0x1;
    const SW_POWER_CAP: u64 = 0x4;
    const HW_SLOWDOWN: u64 = 0x8;
    const SW_THERMAL: u64 = 0x20;
    const HW_THERMAL: u64 = 0x40;
    const HW_POWER_BRAKE: u64 = 0x80;
    let has = |bit: u64| bits & bit != 0;
    let mut set = ThrottleReasons::NONE;
    if has(SW_POWER_CAP) {
        set.insert(ThrottleReason::Pl1);
    }
    if has(SW_THERMAL | HW_THERMAL) {
        set.insert(ThrottleReason::Thermal);
    }
    if has(HW_POWER_BRAKE) || (has(HW_SLOWDOWN) && !has(HW_THERMAL)) {
        set.insert(ThrottleReason::Prochot);
    }
    // Clocks that somebody set, displays, groups that boost together, and what later versions add.
    if bits & !(GPU_IDLE | SW_POWER_CAP | HW_SLOWDOWN | SW_THERMAL | HW_THERMAL | HW_POWER_BRAKE) != 0 {
        set.insert(ThrottleReason::Other);
    }
    set
}

/// Megahertz in hertz.
pub(super) fn hertz(mhz: u32) -> f64 {
    f64::from(mhz) * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_percentages_above_100_are_refused() {
        assert_eq!((percentage(0), percentage(100)), (Ok(0), Ok(100)));
        for percent in [101, 256, u32::MAX] {
            assert_eq!(percentage(percent), Err(NO_PERCENTAGE));
        }
    }

    fn words(bits: u64) -> Vec<&'static str> {
        throttle_reasons(bits).iter().map(ThrottleReason::as_str).collect()
    }

    /// Bits as nvml.h defines them.
    #[test]
    fn throttle_bits_in_the_words_of_the_model() {
        assert!(words(0).is_empty());
        assert!(words(0x1).is_empty(), "an idle GPU is not throttled");
        assert_eq!(words(0x2), ["other"]);
        assert_eq!(words(0x4), ["pl1"]);
        assert_eq!(words(0x8), ["prochot"]);
        assert_eq!(words(0x10), ["other"]);
        assert_eq!(words(0x20), ["thermal"]);
        assert_eq!(words(0x8 | 0x40), ["thermal"]);
        assert_eq!(words(0x8 | 0x80), ["prochot"]);
        assert_eq!(words(0x4 | 0x20), ["pl1", "thermal"]);
        assert_eq!(words(0x100), ["other"]);
    }

    #[test]
    fn synthetic_bits_of_later_versions_are_other() {
        assert_eq!(words(1 << 40), ["other"]);
    }
}
