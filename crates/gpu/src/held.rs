//! Kernel files of one number or word, held open, with the reason when one does not answer.

use gpuscope_model::{Reading, Reason, Why};
use gpuscope_sys::{Error, KernelFile, read_text};
use std::path::{Path, PathBuf};

/// An unsigned decimal number with nothing but white space around it, as `sysfs_emit(buf, "%u\n", …)` prints it.
pub fn parse_u64(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok()
}

/// A signed decimal number, as `sysfs_emit(buf, "%ld\n", …)` prints it.
pub fn parse_i64(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok()
}

/// Text up to the first NUL. The kernel prints none into these files; captures that were copied page by page are padded with them.
pub(crate) fn before_nul(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

/// Reads a small file once, trimmed; nothing where it cannot be read.
pub(crate) fn small_text(path: impl AsRef<Path>) -> Option<String> {
    let text = read_text(path).ok()?;
    Some(before_nul(&text).trim().to_string())
}

/// The reason of a file that did not answer.
pub(crate) fn why_of(error: &Error) -> Why {
    match error {
        Error::NotFound { path } => Why::new(Reason::NotSupported, format!("{}: not there", path.display())),
        Error::Gone { path } => Why::new(Reason::Gone, format!("{}: the device is gone", path.display())),
        Error::Permission { .. } => {
            Why::new(Reason::NoPermission, error.to_string()).remedy("run as root, or as a user who may read the file")
        }
        Error::Io { .. } => Why::new(Reason::Failed, error.to_string()),
    }
}

/// A kernel file held open, or why it could not be opened. One system call a reading.
#[derive(Debug)]
pub(crate) struct Held {
    file: Result<KernelFile, Why>,
    buf: Vec<u8>,
    /// The last failure and its reason: a file that keeps failing the same way is explained once, without allocating anew.
    last: Option<(Option<i32>, Why)>,
}

impl Held {
    /// Opens the file. On no driver does opening wake the device.
    pub(crate) fn open(path: impl Into<PathBuf>) -> Self {
        Held { file: KernelFile::open(path).map_err(|e| why_of(&e)), buf: Vec::new(), last: None }
    }

    /// No file, for this reason.
    pub(crate) fn absent(why: Why) -> Self {
        Held { file: Err(why), buf: Vec::new(), last: None }
    }

    /// Whether the file could be opened.
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_ok()
    }

    /// Why it could not be opened.
    pub(crate) fn why(&self) -> Option<&Why> {
        self.file.as_ref().err()
    }

    /// Reads the text and parses it; `errno` may word a failure of its own by the kernel's error number.
    pub(crate) fn read_with<T>(
        &mut self,
        parse: impl FnOnce(&str) -> Option<T>,
        errno: impl FnOnce(&Error) -> Option<Why>,
    ) -> Result<T, Why> {
        let file = match &self.file {
            Ok(file) => file,
            Err(why) => return Err(why.clone()),
        };
        match file.read_text(&mut self.buf) {
            Ok(text) => match parse(before_nul(text)) {
                Some(value) => {
                    self.last = None;
                    Ok(value)
                }
                None => {
                    let shown: String = before_nul(text).trim_end().chars().take(40).collect();
                    Err(Why::new(Reason::Failed, format!("{}: unexpected text {shown:?}", file.path().display())))
                }
            },
            Err(error) => {
                let number = error.errno();
                if let Some((last, why)) = &self.last {
                    if *last == number {
                        return Err(why.clone());
                    }
                }
                let why = errno(&error).unwrap_or_else(|| why_of(&error));
                self.last = Some((number, why.clone()));
                Err(why)
            }
        }
    }

    /// Reads and parses.
    pub(crate) fn read<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Why> {
        self.read_with(parse, |_| None)
    }

    /// Reads a number.
    pub(crate) fn number(&mut self) -> Result<u64, Why> {
        self.read(parse_u64)
    }

    /// Reads a number of megahertz as hertz.
    pub(crate) fn megahertz(&mut self) -> Reading<f64> {
        self.number().map(|mhz| mhz as f64 * 1e6).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_kernel_prints_them() {
        assert_eq!(parse_u64("600\n"), Some(600));
        assert_eq!(parse_u64("18446744073709551615\n"), Some(u64::MAX));
        for synthetic in ["", "\n", "-1\n", "+1\n", "1 2\n", "18446744073709551616\n", "0x10\n", "1.5\n"] {
            assert_eq!(parse_u64(synthetic), None, "{synthetic:?}");
        }
        assert_eq!(parse_i64("-5000\n"), Some(-5000));
        assert_eq!(parse_i64("+1"), None);
    }

    #[test]
    fn padding_of_a_capture_is_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("temp1_input");
        let mut page = b"56000\n".to_vec();
        page.resize(4096, 0);
        std::fs::write(&path, page).unwrap();
        assert_eq!(Held::open(&path).number(), Ok(56000));
        assert_eq!(small_text(&path).as_deref(), Some("56000"));
    }

    #[test]
    fn missing_file_is_not_supported_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut held = Held::open(dir.path().join("gt_act_freq_mhz"));
        let why = held.number().unwrap_err();
        assert_eq!(why.reason, Reason::NotSupported);
        assert!(why.detail.contains("gt_act_freq_mhz"));
    }

    #[test]
    fn synthetic_garbage_is_failed_not_zero() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for bytes in [&b""[..], b"\xff\xfe", b"many words", b"\0\0"] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Held::open(&path).number().unwrap_err().reason, Reason::Failed);
        }
    }
}
