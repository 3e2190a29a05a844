//! Why a GT runs slower than asked.

use std::fmt;

/// One reason for which the hardware limits a GT's frequency.
///
/// Sources: `throttle_reason_*` of i915 (drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c) and `freq0/throttle/` of xe
/// (drivers/gpu/drm/xe/xe_gt_throttle.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ThrottleReason {
    /// Sustained package power limit.
    Pl1,
    /// Short-term package power limit.
    Pl2,
    /// Peak power limit.
    Pl4,
    /// Temperature.
    Thermal,
    /// External PROCHOT signal.
    Prochot,
    /// Running average thermal limit.
    Ratl,
    /// Voltage regulator thermal alert.
    VrThermalert,
    /// Voltage regulator thermal design current.
    VrTdc,
    /// A reason that this version of gpuscope has no word for.
    Other,
}

impl ThrottleReason {
    /// All reasons, in the order of the kernel's files.
    pub const ALL: [ThrottleReason; 9] = [
        ThrottleReason::Pl1,
        ThrottleReason::Pl2,
        ThrottleReason::Pl4,
        ThrottleReason::Thermal,
        ThrottleReason::Prochot,
        ThrottleReason::Ratl,
        ThrottleReason::VrThermalert,
        ThrottleReason::VrTdc,
        ThrottleReason::Other,
    ];

    /// The kernel's word, without `throttle_reason_` or `reason_`.
    pub fn as_str(self) -> &'static str {
        match self {
            ThrottleReason::Pl1 => "pl1",
            ThrottleReason::Pl2 => "pl2",
            ThrottleReason::Pl4 => "pl4",
            ThrottleReason::Thermal => "thermal",
            ThrottleReason::Prochot => "prochot",
            ThrottleReason::Ratl => "ratl",
            ThrottleReason::VrThermalert => "vr_thermalert",
            ThrottleReason::VrTdc => "vr_tdc",
            ThrottleReason::Other => "other",
        }
    }

    /// The reason of a kernel word; unknown words are [`ThrottleReason::Other`].
    pub fn from_kernel(word: &str) -> Self {
        Self::ALL.into_iter().find(|r| r.as_str() == word).unwrap_or(ThrottleReason::Other)
    }
}

/// A set of [`ThrottleReason`]s. Empty means: known not to throttle.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ThrottleReasons(u16);

impl ThrottleReasons {
    /// The empty set.
    pub const NONE: ThrottleReasons = ThrottleReasons(0);

    /// Adds a reason.
    pub fn insert(&mut self, reason: ThrottleReason) {
        self.0 |= 1 << reason as u8;
    }

    /// Whether the reason is in the set.
    pub fn contains(self, reason: ThrottleReason) -> bool {
        self.0 & (1 << reason as u8) != 0
    }

    /// Whether nothing throttles.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons in the order of [`ThrottleReason::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ThrottleReason> {
        ThrottleReason::ALL.into_iter().filter(move |r| self.contains(*r))
    }
}

impl fmt::Debug for ThrottleReasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_its_reasons_in_the_kernels_order() {
        let mut set = ThrottleReasons::NONE;
        assert!(set.is_empty());
        set.insert(ThrottleReason::from_kernel("vr_tdc"));
        set.insert(ThrottleReason::from_kernel("pl1"));
        set.insert(ThrottleReason::from_kernel("synthetic_new_reason"));
        let words: Vec<_> = set.iter().map(ThrottleReason::as_str).collect();
        assert_eq!(words, ["pl1", "vr_tdc", "other"]);
    }
}
