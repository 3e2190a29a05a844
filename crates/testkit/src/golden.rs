//! Comparison with files under version control.

use std::fs;
use std::path::Path;

/// Compares with the file at `path`. With `GPUSCOPE_BLESS=1` in the environment the file is written instead: look at the
/// difference before committing it.
///
/// # Panics
/// When the texts differ; the message shows the first line that does.
#[track_caller]
pub fn golden(path: impl AsRef<Path>, actual: &str) {
    let path = path.as_ref();
    if std::env::var_os("GPUSCOPE_BLESS").is_some_and(|v| v == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path)
        .unwrap_or_else(|e| panic!("{}: {e}; GPUSCOPE_BLESS=1 writes golden files", path.display()));
    if expected == actual {
        return;
    }
    let mut lines = expected.lines().zip(actual.lines()).enumerate();
    let first = lines.find(|(_, (expected, actual))| expected != actual);
    let difference = match first {
        Some((n, (expected, actual))) => format!("line {}:\n  expected: {expected}\n  actual:   {actual}", n + 1),
        None => format!("{} lines expected, {} lines given", expected.lines().count(), actual.lines().count()),
    };
    panic!("{} differs at {difference}\nGPUSCOPE_BLESS=1 rewrites golden files\n{actual}", path.display());
}
