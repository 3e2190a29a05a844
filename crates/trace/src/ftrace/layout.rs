//! How a page is laid out: tracefs' `events/header_page`.

use crate::Field;
use std::fmt;

/// Layout of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Where the time at which it begins stands: 8 bytes.
    pub(super) time: usize,
    /// Where the length of its records and the flags of missed events stand: 8 bytes.
    pub(super) commit: usize,
    /// Where its records begin.
    pub(super) data: usize,
    /// How long it is.
    pub(super) size: usize,
}

/// A text that is no `header_page`, or that of a kernel whose pages are not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutError(pub(super) &'static str);

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for LayoutError {}

/// Pages are of 4 KiB on most machines and of 64 KiB on some; `buffer_subbuf_size_kb` makes them larger. A place in one has 20 bits
/// (`RB_WRITE_MASK`).
const LARGEST: usize = 1 << 20;

impl PageLayout {
    /// Pages of 4 KiB of a kernel of 64 bits, as `ring_buffer_print_page_header` (kernel/trace/ring_buffer.c) describes them.
    pub const USUAL: PageLayout = PageLayout { time: 0, commit: 8, data: 16, size: 4096 };

    /// Reads `header_page`: `timestamp`, `commit` and `data`.
    ///
    /// # Errors
    /// [`LayoutError`] where one is missing, and for a kernel of 32 bits, whose `commit` has 4 bytes.
    pub fn parse(text: &str) -> Result<PageLayout, LayoutError> {
        let fields: Vec<Field> = text.lines().filter_map(|line| Field::parse(line.trim())).collect();
        let field = |name: &str| fields.iter().find(|field| field.name == name);
        let Some(time) = field("timestamp") else { return Err(LayoutError("header_page has no field `timestamp`")) };
        let Some(commit) = field("commit") else { return Err(LayoutError("header_page has no field `commit`")) };
        let Some(data) = field("data") else { return Err(LayoutError("header_page has no field `data`")) };
        if time.size != 8 {
            return Err(LayoutError("the pages' time has not 8 bytes"));
        }
        if commit.size != 8 {
            return Err(LayoutError("the pages are those of a kernel of 32 bits, which are not read"));
        }
        let (time, commit) = (usize::from(time.offset), usize::from(commit.offset));
        let (data, length) = (usize::from(data.offset), usize::from(data.size));
        if length == 0 || data < time.saturating_add(8).max(commit.saturating_add(8)) {
            return Err(LayoutError("the fields of header_page overlap"));
        }
        let size = data.saturating_add(length);
        if size > LARGEST {
            return Err(LayoutError("the pages are larger than a kernel makes them"));
        }
        Ok(PageLayout { time, commit, data, size })
    }

    /// The same with pages of another size, as `trace.dat` and `buffer_subbuf_size_kb` name them.
    pub fn with_size(self, size: usize) -> Option<PageLayout> {
        (size > self.data && size <= LARGEST).then_some(PageLayout { size, ..self })
    }

    /// Length of a page in bytes.
    pub fn page_size(&self) -> usize {
        self.size
    }
}
