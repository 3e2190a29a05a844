//! Texts of xe's files.

use gpuscope_model::{EngineClass, ThrottleReason, ThrottleReasons};

/// `freq0/throttle/reasons`: `none`, or the reasons separated by white space (drivers/gpu/drm/xe/xe_gt_throttle.c).
pub fn parse_reasons(text: &str) -> Option<ThrottleReasons> {
    let mut reasons = ThrottleReasons::NONE;
    let mut words = text.split_ascii_whitespace().peekable();
    words.peek()?;
    for word in words {
        if word != "none" {
            reasons.insert(reason(word));
        }
    }
    Some(reasons)
}

/// The reason of a word or file name, with or without `reason_`.
pub fn reason(word: &str) -> ThrottleReason {
    ThrottleReason::from_kernel(word.strip_prefix("reason_").unwrap_or(word))
}

/// `status` and `reason_*` print the masked bits as a flag: `0` or `1` (`is_throttled_by`).
pub fn parse_flag(text: &str) -> Option<bool> {
    Some(crate::held::parse_u64(text)? != 0)
}

/// The driver's short form of a class number (`enum xe_engine_class` as in `DRM_XE_ENGINE_CLASS_*`, include/uapi/drm/xe_drm.h).
pub fn class_of_number(number: u64) -> Option<(&'static str, EngineClass)> {
    Some(match number {
        0 => ("rcs", EngineClass::Render),
        1 => ("bcs", EngineClass::Copy),
        2 => ("vcs", EngineClass::Video),
        3 => ("vecs", EngineClass::VideoEnhance),
        4 => ("ccs", EngineClass::Compute),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_in_one_file() {
        assert_eq!(parse_reasons("none\n"), Some(ThrottleReasons::NONE));
        let two = parse_reasons("pl1 thermal\n").unwrap();
        assert_eq!(two.iter().collect::<Vec<_>>(), [ThrottleReason::Pl1, ThrottleReason::Thermal]);
        let named = parse_reasons("reason_vr_tdc\n").unwrap();
        assert!(named.contains(ThrottleReason::VrTdc));
    }

    #[test]
    fn a_reason_of_a_later_platform_is_other() {
        assert!(parse_reasons("soc_thermal\n").unwrap().contains(ThrottleReason::Other));
    }

    #[test]
    fn synthetic_empty_text_is_no_answer() {
        assert_eq!(parse_reasons(""), None);
        assert_eq!(parse_reasons(" \n"), None);
        assert_eq!(parse_flag(""), None);
        assert_eq!(parse_flag("yes\n"), None);
    }
}
