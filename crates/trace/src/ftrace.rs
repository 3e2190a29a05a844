//! The kernel's ring buffer of trace events, as it comes out of tracefs and stands in other tools' files.

mod layout;
mod page;

pub use layout::{LayoutError, PageLayout};
pub use page::{End, Missed, Page, PageRecord, Records};

#[cfg(test)]
mod tests;
