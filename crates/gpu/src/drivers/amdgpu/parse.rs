//! Texts of amdgpu's files.

/// A level's name: its number, or a letter in place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A level of the table.
    Number(u32),
    /// The clock as it is, beside the table: `S` in deep sleep, `F` between two fine-grained levels.
    Letter(char),
}

/// One line of a `pp_dpm_*` file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// What stands before the colon.
    pub label: Label,
    /// The clock in megahertz; of `pp_dpm_pcie` the link's own.
    pub megahertz: Option<u32>,
    /// Speed of the link in GT/s, in `pp_dpm_pcie`.
    pub gigatransfers: Option<f64>,
    /// Lanes of the link, in `pp_dpm_pcie`.
    pub lanes: Option<u8>,
    /// Marked with an asterisk: the level in force.
    pub current: bool,
}

/// The levels of a `pp_dpm_*` file; lines that are none are left out.
///
/// Printed by `smu_cmn_print_dpm_clk_levels` (drivers/gpu/drm/amd/pm/swsmu/smu_cmn.c) and, before it and for older chips, by one function a
/// chip: `1: 800Mhz *`, `S: 19Mhz *`, `0: 2.5GT/s, x1 310Mhz`. Where the clock lies between the two ends of a range, some chips make up
/// a level in the middle for it. Several levels may be marked when they have one clock, none when it has no level, and a chip
/// without the table prints an empty line.
pub fn levels(text: &str) -> impl Iterator<Item = Level> + '_ {
    text.lines().filter_map(level)
}

fn level(line: &str) -> Option<Level> {
    let (label, rest) = line.trim().split_once(':')?;
    let mut letters = label.chars();
    let label = match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_ascii_uppercase() => Label::Letter(letter),
        _ if label.bytes().all(|b| b.is_ascii_digit()) => Label::Number(label.parse().ok()?),
        // A heading: `GFXCLK:`.
        _ => return None,
    };
    let rest = rest.trim();
    let current = rest.ends_with('*');
    let mut level = Level { label, megahertz: None, gigatransfers: None, lanes: None, current };
    for word in rest.trim_end_matches('*').split([' ', ',', '\t']) {
        if let Some(number) = number_before(word, "mhz") {
            level.megahertz = number.parse().ok();
        } else if let Some(number) = number_before(word, "gt/s") {
            level.gigatransfers = number.parse().ok().filter(|speed: &f64| speed.is_finite());
        } else if let Some(number) = word.strip_prefix('x') {
            level.lanes = number.parse().ok();
        }
    }
    Some(level)
}

/// Digits before a unit, which is written in any case; there may be no digits.
fn number_before<'t>(word: &'t str, unit: &str) -> Option<&'t str> {
    let (number, end) = word.split_at_checked(word.len().checked_sub(unit.len())?)?;
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (plain && end.eq_ignore_ascii_case(unit)).then_some(number)
}

/// What a `pp_dpm_*` file says as a whole, in megahertz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The marked level.
    pub current: Option<u32>,
    /// The lowest level of the table.
    pub lowest: Option<u32>,
    /// The highest level of the table.
    pub highest: Option<u32>,
}

/// The clocks of a `pp_dpm_*` file.
///
/// A level named by a letter is no level of the table. In a range of two levels a third one in the middle is the clock itself, and
/// does not move the ends.
pub fn clocks(text: &str) -> Clocks {
    let mut clocks = Clocks::default();
    for level in levels(text) {
        let Some(megahertz) = level.megahertz else { continue };
        if level.current && clocks.current.is_none() {
            clocks.current = Some(megahertz);
        }
        if matches!(level.label, Label::Number(_)) {
            clocks.lowest = Some(clocks.lowest.map_or(megahertz, |lowest| lowest.min(megahertz)));
            clocks.highest = Some(clocks.highest.map_or(megahertz, |highest| highest.max(megahertz)));
        }
    }
    clocks
}

/// A `*_busy_percent` file: `%d` of `amdgpu_get_gpu_busy_percent` and its like (drivers/gpu/drm/amd/pm/amdgpu_pm.c). What is above 100 is
/// no percentage: a firmware that had no value (all bits set), or one that counts in hundredths.
pub fn parse_percent(text: &str) -> Option<u8> {
    crate::held::parse_u64(text)?.try_into().ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(label: u32, megahertz: u32, current: bool) -> Level {
        let label = Label::Number(label);
        Level { label, megahertz: Some(megahertz), gigatransfers: None, lanes: None, current }
    }

    #[test]
    fn levels_of_a_table() {
        // `"%d: %uMhz %s\n"` of smu_cmn_print_dpm_clk_levels; a blank follows where there is no asterisk.
        let text = "0: 96Mhz \n1: 456Mhz \n2: 673Mhz \n3: 1000Mhz *\n";
        let expected = [plain(0, 96, false), plain(1, 456, false), plain(2, 673, false), plain(3, 1000, true)];
        assert_eq!(levels(text).collect::<Vec<_>>(), expected);
        assert_eq!(clocks(text), Clocks { current: Some(1000), lowest: Some(96), highest: Some(1000) });
    }

    #[test]
    fn deep_sleep_is_no_level_of_the_table() {
        // `"S: %uMhz *\n"` of the same function, and of smu_v13_0_6_print_clk_levels.
        let text = "S: 19Mhz *\n0: 132Mhz\n1: 2100Mhz\n";
        assert_eq!(levels(text).next().unwrap().label, Label::Letter('S'));
        assert_eq!(clocks(text), Clocks { current: Some(19), lowest: Some(132), highest: Some(2100) });
    }

    #[test]
    fn a_clock_between_the_ends_is_a_level_in_the_middle() {
        // The branch for frequencies that match neither end, smu_v13_0_6_print_clk_levels.
        let text = "0: 132Mhz\n1: 800Mhz *\n2: 2100Mhz\n";
        assert_eq!(clocks(text), Clocks { current: Some(800), lowest: Some(132), highest: Some(2100) });
    }

    #[test]
    fn several_levels_of_one_clock_are_marked() {
        let text = "0: 400Mhz \n1: 600Mhz \n2: 687Mhz *\n3: 687Mhz *\n";
        assert_eq!(clocks(text), Clocks { current: Some(687), lowest: Some(400), highest: Some(687) });
        let off = "0: 0Mhz *\n1: 0Mhz *\n";
        assert_eq!(clocks(off), Clocks { current: Some(0), lowest: Some(0), highest: Some(0) });
    }

    #[test]
    fn links_have_a_speed_and_lanes() {
        // `"%d: %s %s %dMhz %s\n"` of sienna_cichlid_print_clk_levels, whose words are "2.5GT/s," and "x1".
        let text = "0: 2.5GT/s, x1 310Mhz \n1: 16.0GT/s, x16 619Mhz *\n";
        let all: Vec<_> = levels(text).collect();
        assert_eq!((all[0].gigatransfers, all[0].lanes, all[0].megahertz), (Some(2.5), Some(1), Some(310)));
        assert_eq!((all[1].gigatransfers, all[1].lanes, all[1].current), (Some(16.0), Some(16), true));
        // smu7_print_clock_levels prints no clock.
        let old: Vec<_> = levels("0: 2.5GT/s, x8 \n1: 8.0GT/s, x16 *\n").collect();
        assert_eq!((old[1].megahertz, old[1].gigatransfers, old[1].current), (None, Some(8.0), true));
    }

    #[test]
    fn headings_and_empty_lines_are_no_levels() {
        // SMU_OD_SCLK of smu_v13_0_6_print_clk_levels begins with "GFXCLK:"; a chip without the table prints "\n".
        let text = "GFXCLK:\n0: 132Mhz *\n\n";
        assert_eq!(levels(text).count(), 1);
        assert_eq!(clocks("\n"), Clocks::default());
        assert_eq!(clocks(""), Clocks::default());
    }

    #[test]
    fn synthetic_levels_without_a_number() {
        for text in
            ["0: Mhz *\n", "0: *\n", "0:\n", "0: 99999999999Mhz *\n", "0: x Mhz\n", "0: -5Mhz *\n", "0: 1.5Mhz\n"]
        {
            let all: Vec<_> = levels(text).collect();
            assert_eq!(all.len(), 1, "{text:?}");
            assert_eq!(all[0].megahertz, None, "{text:?}");
            assert_eq!(clocks(text), Clocks::default(), "{text:?}");
        }
        for text in ["800Mhz *\n", ": 800Mhz\n", "s: 1Mhz\n", "-1: 5Mhz\n", "99999999999: 1Mhz\n", "é: 1Mhz\n"] {
            assert_eq!(levels(text).count(), 0, "{text:?}");
        }
        assert_eq!(clocks("0: 800MHz*\n").current, Some(800));
        assert_eq!(levels("0: éMhz €").next().unwrap().megahertz, None);
    }

    #[test]
    fn percentages_end_at_100() {
        assert_eq!(parse_percent("3\n"), Some(3));
        assert_eq!(parse_percent("100\n"), Some(100));
        for synthetic in ["101\n", "65535\n", "655\n", "-1\n", "", "3 %\n"] {
            assert_eq!(parse_percent(synthetic), None, "{synthetic:?}");
        }
    }
}
