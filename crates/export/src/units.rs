//! From the base units of the model to those of the output.

/// A ratio as percent.
pub(crate) fn percent(ratio: f64) -> f64 {
    round4(ratio * 100.0)
}

/// Hertz as megahertz.
pub(crate) fn mhz(hz: f64) -> f64 {
    round4(hz / 1e6)
}

/// At most four decimals: finer than any source, and readable. What cannot be rounded stays as it is.
pub(crate) fn round4(value: f64) -> f64 {
    let rounded = (value * 1e4).round() / 1e4;
    // `+ 0.0` turns a negative zero into zero.
    if rounded.is_finite() { rounded + 0.0 } else { value }
}

/// Nanoseconds as seconds, to the microsecond.
pub(crate) fn seconds(ns: u64) -> f64 {
    (ns as f64 / 1e3).round() / 1e6
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_have_at_most_four_decimals() {
        assert_eq!(super::percent(1.0 / 3.0), 33.3333);
        assert_eq!(super::percent(0.0), 0.0);
        assert_eq!(super::mhz(2_450_000_000.0), 2450.0);
        assert!(super::round4(-0.000_01).is_sign_positive());
        assert_eq!(super::seconds(500_123_456), 0.500_123);
    }
}
