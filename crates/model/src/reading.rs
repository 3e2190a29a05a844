//! A value, or why there is none.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Text that is cheap to clone: fixed in the program, or shared.
///
/// Readings are copied at every tick; cloning one must not allocate.
#[derive(Clone)]
pub enum Text {
    /// Text of the program itself.
    Static(&'static str),
    /// Text made at run time, shared by its holders.
    Shared(Arc<str>),
}

impl Text {
    /// The text as a string slice.
    pub fn as_str(&self) -> &str {
        match self {
            Text::Static(s) => s,
            Text::Shared(s) => s,
        }
    }
}

impl From<&'static str> for Text {
    fn from(s: &'static str) -> Self {
        Text::Static(s)
    }
}

impl From<String> for Text {
    fn from(s: String) -> Self {
        Text::Shared(s.into())
    }
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
impl Eq for Text {}
impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a value is absent, in the words of gpuscope's JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The machine or the device does not have this.
    NoHardware,
    /// It is there, and reading it was refused.
    NoPermission,
    /// The driver or the kernel at hand does not offer it.
    NotSupported,
    /// The device is suspended, and reading would wake it.
    Asleep,
    /// The source exists and is not counting, or was left alone on purpose.
    NotCounting,
    /// Somebody else holds the source.
    Busy,
    /// A rate needs two readings and this was the first.
    FirstSample,
    /// The device went away.
    Gone,
    /// Reading failed in an unexpected way.
    Failed,
}

impl Reason {
    /// All reasons, in the order of the documentation.
    pub const ALL: [Reason; 9] = [
        Reason::NoHardware,
        Reason::NoPermission,
        Reason::NotSupported,
        Reason::Asleep,
        Reason::NotCounting,
        Reason::Busy,
        Reason::FirstSample,
        Reason::Gone,
        Reason::Failed,
    ];

    /// The word that JSON and CSV carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoHardware => "no_hardware",
            Reason::NoPermission => "no_permission",
            Reason::NotSupported => "not_supported",
            Reason::Asleep => "asleep",
            Reason::NotCounting => "not_counting",
            Reason::Busy => "busy",
            Reason::FirstSample => "first_sample",
            Reason::Gone => "gone",
            Reason::Failed => "failed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a value is absent: the reason, what happened, and the exact remedy where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The reason, as a program tells it apart.
    pub reason: Reason,
    /// What happened, as a person reads it: lower case, names the file or event.
    pub detail: Text,
    /// What to do about it, when something can be done.
    pub remedy: Option<Text>,
}

impl Why {
    /// A reason without a remedy.
    pub fn new(reason: Reason, detail: impl Into<Text>) -> Self {
        Why { reason, detail: detail.into(), remedy: None }
    }

    /// The reason of what a driver or kernel does not offer, fixed in the program.
    pub const fn not_supported(detail: &'static str) -> Self {
        Why { reason: Reason::NotSupported, detail: Text::Static(detail), remedy: None }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Text>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The reason of every rate in a first sample.
    pub const FIRST_SAMPLE: Why = Why {
        reason: Reason::FirstSample,
        detail: Text::Static("a rate needs two readings and this was the first"),
        remedy: None,
    };

    /// The reason of what is not read while the device is suspended.
    pub const ASLEEP: Why = Why {
        reason: Reason::Asleep,
        detail: Text::Static("the device is suspended and reading this would wake it"),
        remedy: None,
    };
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// A value, or why there is none. Never a zero that stands for "not known".
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<T> {
    /// The value.
    Value(T),
    /// Why there is none.
    Absent(Why),
}

impl<T> Reading<T> {
    /// Shorthand for an absent reading without a remedy.
    pub fn absent(reason: Reason, detail: impl Into<Text>) -> Self {
        Reading::Absent(Why::new(reason, detail))
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Reading::Value(v) => Some(v),
            Reading::Absent(_) => None,
        }
    }

    /// The reason, if there is no value.
    pub fn why(&self) -> Option<&Why> {
        match self {
            Reading::Value(_) => None,
            Reading::Absent(why) => Some(why),
        }
    }

    /// Whether there is a value.
    pub fn is_known(&self) -> bool {
        matches!(self, Reading::Value(_))
    }

    /// Changes the value, keeps the reason.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Reading::Value(v) => Reading::Value(f(v)),
            Reading::Absent(why) => Reading::Absent(why),
        }
    }

    /// Borrows the value, clones the reason (which never allocates).
    pub fn as_ref(&self) -> Reading<&T> {
        match self {
            Reading::Value(v) => Reading::Value(v),
            Reading::Absent(why) => Reading::Absent(why.clone()),
        }
    }

    /// The value by copy, if there is one.
    pub fn get(&self) -> Option<T>
    where
        T: Copy,
    {
        self.value().copied()
    }
}

impl<T> From<Result<T, Why>> for Reading<T> {
    fn from(r: Result<T, Why>) -> Self {
        match r {
            Ok(v) => Reading::Value(v),
            Err(why) => Reading::Absent(why),
        }
    }
}

impl<T> From<Why> for Reading<T> {
    fn from(why: Why) -> Self {
        Reading::Absent(why)
    }
}
