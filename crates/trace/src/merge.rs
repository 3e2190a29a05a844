//! Several traces made one: what their clocks are apart, by the events that they have in common, and those events told once.
//!
//! [`Landmarks`] are kept of each trace while it is read, and say what must be added to its times. [`Window`] takes the events of all in
//! order of time and gives each of them once.

mod landmarks;
mod names;
mod unique;
mod window;

pub use landmarks::{Agreement, Doubt, Landmarks};
pub use names::Naming;
pub use window::{MOST_TRACES, OtherNames, Telling, Window};
