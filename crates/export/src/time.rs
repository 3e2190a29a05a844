//! The time of day in text.

use std::fmt;
use std::time::SystemTime;

/// A wall-clock time in RFC 3339, UTC, with milliseconds: `2026-03-01T12:00:00.250Z`.
pub(crate) struct Rfc3339(jiff::Timestamp);

impl Rfc3339 {
    pub(crate) fn new(wall: SystemTime) -> Self {
        // jiff's range is the years -9999 to 9999. A clock beyond it is broken; the output stays well formed.
        let end = if wall < SystemTime::UNIX_EPOCH { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        Rfc3339(jiff::Timestamp::try_from(wall).unwrap_or(end))
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl serde::Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Rfc3339;
    use std::time::{Duration, SystemTime};

    fn text(since_epoch: Duration) -> String {
        Rfc3339::new(SystemTime::UNIX_EPOCH + since_epoch).to_string()
    }

    #[test]
    fn time_is_utc_with_milliseconds() {
        assert_eq!(text(Duration::ZERO), "1970-01-01T00:00:00.000Z");
        // 29 February 2000, a leap day of a century that has one.
        assert_eq!(text(Duration::from_millis(951_782_400_250)), "2000-02-29T00:00:00.250Z");
    }

    #[test]
    fn time_before_the_epoch_is_still_rfc_3339() {
        let wall = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
        assert_eq!(Rfc3339::new(wall).to_string(), "1969-12-31T23:59:58.500Z");
    }
}
