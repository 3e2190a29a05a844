//! Where files are cut in tests.

/// Lengths of a cut file: 200 at random, the same each time, and one byte less than the whole.
pub(crate) fn cuts(whole: usize) -> impl Iterator<Item = usize> {
    let random = std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |seed| {
        let seed = seed ^ (seed << 13);
        let seed = seed ^ (seed >> 7);
        Some(seed ^ (seed << 17))
    });
    random.map(move |number| (number % whole as u64) as usize).take(200).chain([whole - 1])
}
