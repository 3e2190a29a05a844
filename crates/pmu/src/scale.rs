//! Scales of events, applied without rounding where the scale is a power of two.

/// A positive factor, taken apart into an odd integer and a power of two.
///
/// RAPL counts in 2^-32 J and memory controllers in 2^-14 MiB: as a `f64` product a count beyond 2^53 would lose its low bits,
/// and differences of such counters are what rates are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    factor: f64,
    odd: u64,
    exponent: i32,
}

impl Scale {
    /// The scale `factor`, or `None` when it is not positive and finite.
    pub fn new(factor: f64) -> Option<Scale> {
        if !(factor.is_finite() && factor > 0.0) {
            return None;
        }
        // IEEE 754 binary64: 52 bits of fraction, exponent biased by 1023, subnormals without the implied bit.
        let bits = factor.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let biased = ((bits >> 52) & 0x7ff) as i32;
        let (mantissa, exponent) = if biased == 0 { (fraction, -1074) } else { (fraction | (1 << 52), biased - 1075) };
        let zeros = mantissa.trailing_zeros();
        Some(Scale { factor, odd: mantissa >> zeros, exponent: exponent + zeros as i32 })
    }

    /// The factor.
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// `count * factor * per_unit`, rounded down; saturates. `per_unit` turns the event's unit into the wanted one: 1 000 000 for
    /// joules to microjoules, 2^20 for MiB to bytes.
    pub fn apply(self, count: u64, per_unit: u64) -> u64 {
        match self.exact(count, per_unit) {
            Some(value) => value,
            // `as` saturates. Only a scale with a long mantissa times a huge count comes here.
            None => (count as f64 * self.factor * per_unit as f64) as u64,
        }
    }

    fn exact(self, count: u64, per_unit: u64) -> Option<u64> {
        let zeros = if per_unit == 0 { 0 } else { per_unit.trailing_zeros() };
        let exponent = self.exponent.checked_add(zeros as i32)?;
        let product =
            u128::from(count).checked_mul(u128::from(self.odd))?.checked_mul(u128::from(per_unit >> zeros))?;
        let shifted = if exponent < 0 {
            product.checked_shr(exponent.unsigned_abs()).unwrap_or(0)
        } else if product == 0 {
            0
        } else if exponent.unsigned_abs() <= product.leading_zeros() {
            product.checked_shl(exponent.unsigned_abs()).unwrap_or(0)
        } else {
            u128::MAX
        };
        Some(u64::try_from(shifted).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Scale;
    use crate::parse::parse_scale;

    /// `RAPL_EVENT_ATTR_STR(energy-pkg.scale, …)` in arch/x86/events/rapl.c.
    const RAPL: &str = "2.3283064365386962890625e-10";
    /// `INTEL_UNCORE_EVENT_DESC(data_reads.scale, "6.103515625e-5")` in arch/x86/events/intel/uncore_snb.c.
    const IMC: &str = "6.103515625e-5";

    fn scale(text: &str) -> Scale {
        Scale::new(parse_scale(text).unwrap()).unwrap()
    }

    #[test]
    fn rapl_scale_gives_exact_microjoules() {
        let s = scale(RAPL);
        assert_eq!(s.apply(1 << 32, 1_000_000), 1_000_000);
        assert_eq!(s.apply(u64::MAX, 1_000_000), 4_294_967_295_999_999);
        assert_eq!(s.apply((1 << 60) + 4295, 1_000_000), (1u64 << 28) * 1_000_000 + 1);
        assert_eq!(s.apply(0, 1_000_000), 0);
    }

    #[test]
    fn imc_scale_gives_64_bytes_a_count() {
        let s = scale(IMC);
        for count in [0, 1, 2, 0xffff_ffff, (1 << 57) + 1] {
            assert_eq!(s.apply(count, 1 << 20), count * 64);
        }
        assert_eq!(s.apply(u64::MAX, 1 << 20), u64::MAX, "saturates");
    }

    #[test]
    fn odd_scales_stay_close() {
        // The scale that SNR and ICX free-running counters had before it was corrected.
        assert_eq!(scale("3.814697266e-6").apply(1_000_000, 1 << 20), 4_000_000);
        assert_eq!(scale("0.1").apply(u64::MAX, 1_000_000), u64::MAX);
        assert_eq!(scale("1").apply(5, 1), 5);
        assert_eq!(scale("5e-324").apply(u64::MAX, 1), 0);
        assert_eq!(scale("1e308").apply(1, 1), u64::MAX);
        assert_eq!(scale("1e308").apply(0, 1), 0);
        assert_eq!(scale("1").apply(5, 0), 0);
    }

    #[test]
    fn zero_negative_and_infinite_are_no_scales() {
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Scale::new(factor), None);
        }
    }
}
