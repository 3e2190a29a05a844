//! What the place of the output can show.

use gpuscope_export::text::Style;
use std::io::{self, IsTerminal as _};

/// Columns where there is no terminal to ask.
const COLUMNS: usize = 80;

/// How to dress text for stdout.
pub(crate) fn style() -> Style {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let terminal = io::stdout().is_terminal();
    let width = terminal.then(terminal_size::terminal_size).flatten().map_or(COLUMNS, |(w, _)| usize::from(w.0));
    Style {
        color: terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb"),
        unicode: is_utf8(set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).as_deref()),
        // Beyond this, lines are hard to follow with the eye.
        width: width.clamp(40, 120),
    }
}

/// Whether a locale's name says UTF-8: `C.UTF-8`, `de_DE.utf8@euro`.
fn is_utf8(locale: Option<&str>) -> bool {
    let codeset = locale.and_then(|l| l.split_once('.')).map(|(_, rest)| rest.split('@').next().unwrap_or(rest));
    codeset.is_some_and(|c| c.eq_ignore_ascii_case("utf-8") || c.eq_ignore_ascii_case("utf8"))
}

#[cfg(test)]
mod tests {
    use super::is_utf8;

    #[test]
    fn locales_name_their_character_set() {
        assert!(is_utf8(Some("C.UTF-8")));
        assert!(is_utf8(Some("de_DE.utf8@euro")));
        assert!(!is_utf8(Some("de_DE.ISO-8859-1")));
        assert!(!is_utf8(Some("C")));
        assert!(!is_utf8(None));
    }
}
