//! The time at which a sender signed, against the relay's.

use std::time::Duration;

use super::scheme::TimeUnit;

/// A number above this counts milliseconds since 1970 (from March 1973 on), one below it seconds (until the year 5138).
const LEAST_MILLISECONDS: u64 = 100_000_000_000;

/// How a time is read, and how far it may be off.
pub(super) struct Clock {
    pub(super) unit: TimeUnit,
    pub(super) tolerance: Duration,
}

impl Clock {
    /// Checks that a time is near `now`, which is since 1970.
    ///
    /// # Errors
    /// What is wrong, to stand behind what the time is.
    pub(super) fn check(&self, text: &[u8], now: Duration) -> Result<(), String> {
        let Some(off) = self.distance(text, now) else {
            return Err(match self.unit {
                TimeUnit::Seconds => "is not a number of seconds since 1970".to_owned(),
                TimeUnit::Milliseconds => "is not a number of milliseconds since 1970".to_owned(),
                TimeUnit::Rfc3339 => "is not a time as RFC 3339 writes it".to_owned(),
            });
        };
        if off <= self.tolerance {
            return Ok(());
        }
        let hint = match (self.unit, digits(text)) {
            (TimeUnit::Seconds, Some(number)) if number >= LEAST_MILLISECONDS => "; it seems to be in milliseconds",
            (TimeUnit::Milliseconds, Some(number)) if number < LEAST_MILLISECONDS => "; it seems to be in seconds",
            _ => "",
        };
        Err(format!("is more than {} off{hint}", words(self.tolerance)))
    }

    fn distance(&self, text: &[u8], now: Duration) -> Option<Duration> {
        let now_ms = u64::try_from(now.as_millis()).ok()?;
        Some(match self.unit {
            // The sender's time is cut to seconds, so the relay's is, too.
            TimeUnit::Seconds => Duration::from_secs(now.as_secs().abs_diff(digits(text)?)),
            TimeUnit::Milliseconds => Duration::from_millis(now_ms.abs_diff(digits(text)?)),
            TimeUnit::Rfc3339 => {
                let time: jiff::Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
                Duration::from_millis(i64::try_from(now_ms).ok()?.abs_diff(time.as_millisecond()))
            }
        })
    }
}

/// Digits only: Rust's parser of numbers also accepts a sign.
fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// `5 minutes`.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let [hours, minutes] =
        [3600, 60].map(|unit| (seconds.is_multiple_of(unit) && seconds > unit).then_some(seconds / unit));
    match (hours, minutes) {
        (Some(hours), _) => format!("{hours} hours"),
        (None, Some(minutes)) => format!("{minutes} minutes"),
        (None, None) if seconds == 1 => "1 second".to_owned(),
        (None, None) => format!("{seconds} seconds"),
    }
}
