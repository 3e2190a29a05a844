//! Texts of i915's files and names of its events.

use gpuscope_model::EngineClass;

/// What an engine event of the i915 PMU counts (`enum drm_i915_pmu_engine_sample`, include/uapi/drm/i915_drm.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// Time executing.
    Busy,
    /// Time waiting for an event.
    Wait,
    /// Time waiting for a semaphore.
    Sema,
}

/// Class and instance of an engine name: `vcs1`. Names: `engine_event_attributes` and `intel_engine_class_repr`
/// (drivers/gpu/drm/i915/gt/intel_engine_user.c).
pub fn parse_engine_name(name: &str) -> Option<(EngineClass, u16)> {
    let digits = name.trim_start_matches(|c: char| c.is_ascii_lowercase());
    let class = engine_class(name.strip_suffix(digits)?)?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let instance = plain.then(|| digits.parse().ok()).flatten()?;
    Some((class, instance))
}

/// The class of a driver's short form, shared by i915 and xe.
pub fn engine_class(short: &str) -> Option<EngineClass> {
    Some(match short {
        "rcs" => EngineClass::Render,
        "bcs" => EngineClass::Copy,
        "vcs" => EngineClass::Video,
        "vecs" => EngineClass::VideoEnhance,
        "ccs" => EngineClass::Compute,
        _ => return None,
    })
}

/// Engine name and what is counted, of an event name: `vcs1-busy` (`create_event_attributes`, drivers/gpu/drm/i915/i915_pmu.c).
pub fn parse_engine_event(name: &str) -> Option<(&str, EngineEvent)> {
    let (engine, what) = name.rsplit_once('-')?;
    parse_engine_name(engine)?;
    let event = match what {
        "busy" => EngineEvent::Busy,
        "wait" => EngineEvent::Wait,
        "sema" => EngineEvent::Sema,
        _ => return None,
    };
    Some((engine, event))
}

/// One of the 0/1 files `throttle_reason_*` (`throttle_reason_bool_show`, drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c).
pub fn parse_flag(text: &str) -> Option<bool> {
    match text.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// Makes a 64-bit counter of `rc6_residency_ms`, whose u32 of milliseconds wraps after 49.7 days (`get_residency`,
/// drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    last: Option<u32>,
    wraps: u64,
    lost: u64,
}

impl Residency {
    /// The reading as milliseconds that never step back.
    ///
    /// A step back from the upper half of the range to the lower is a wrap; any other is a counter that was set back (a GPU reset
    /// or a resume), after which the total goes on from where it stood.
    pub fn add(&mut self, ms: u32) -> u64 {
        const WRAP: u64 = 1 << 32;
        if let Some(last) = self.last {
            if ms < last {
                let upper_to_lower = last > u32::MAX / 2 && ms <= u32::MAX / 2;
                if upper_to_lower {
                    self.wraps += 1;
                } else {
                    self.lost = self.lost.saturating_add(u64::from(last - ms));
                }
            }
        }
        self.last = Some(ms);
        self.wraps.saturating_mul(WRAP).saturating_add(self.lost).saturating_add(u64::from(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names_of_the_driver() {
        assert_eq!(parse_engine_event("rcs0-busy"), Some(("rcs0", EngineEvent::Busy)));
        assert_eq!(parse_engine_event("vecs1-sema"), Some(("vecs1", EngineEvent::Sema)));
        assert_eq!(parse_engine_event("bcs0-wait"), Some(("bcs0", EngineEvent::Wait)));
        for other in
            ["rc6-residency", "actual-frequency-gt0", "interrupts", "rcs0-busy.unit", "rcs-busy", "0-busy", "-busy", ""]
        {
            assert_eq!(parse_engine_event(other), None, "{other}");
        }
    }

    #[test]
    fn engine_names() {
        assert_eq!(parse_engine_name("vcs1"), Some((EngineClass::Video, 1)));
        assert_eq!(parse_engine_name("ccs3"), Some((EngineClass::Compute, 3)));
        for synthetic in ["vcs", "1", "", "xcs0", "vcs-1", "vcs99999", "vcs\u{661}"] {
            assert_eq!(parse_engine_name(synthetic), None, "{synthetic}");
        }
    }

    #[test]
    fn residency_wraps_at_32_bits() {
        let mut r = Residency::default();
        assert_eq!(r.add(6534), 6534);
        assert_eq!(r.add(u32::MAX - 5), u64::from(u32::MAX) - 5);
        assert_eq!(r.add(10), u64::from(u32::MAX) + 11);
        assert_eq!(r.add(20), u64::from(u32::MAX) + 21);
    }

    #[test]
    fn residency_that_is_set_back_does_not_step_back() {
        let mut r = Residency::default();
        assert_eq!(r.add(1000), 1000);
        assert_eq!(r.add(0), 1000);
        assert_eq!(r.add(300), 1300);
    }
}
