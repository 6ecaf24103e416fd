//! Checks that several settings share.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// The maximum of every duration but RELAY_IDEMPOTENCY_WINDOW. No other is sensibly longer than a day.
pub(super) const MAX_DURATION: (Duration, &str) = (Duration::from_secs(24 * 60 * 60), "24h");

/// The maximum of RELAY_IDEMPOTENCY_WINDOW. A remembered key takes disk space, and nobody repeats a request after a year.
pub(super) const MAX_WINDOW: (Duration, &str) = (Duration::from_secs(365 * 24 * 60 * 60), "365days");

/// A duration that may be zero, up to a maximum that is also given in words.
pub(super) fn duration(text: &str, (max, in_words): (Duration, &str)) -> Result<Duration, String> {
    match parse_duration(text.trim()) {
        Some(duration) if duration <= max => Ok(duration),
        Some(_) => Err(format!("must be at most {in_words}")),
        None => Err("must be a duration such as 5s, 250ms or 2m".to_owned()),
    }
}

/// A duration above zero, up to a maximum that is also given in words.
pub(super) fn positive_duration(text: &str, max: (Duration, &str)) -> Result<Duration, String> {
    let duration = duration(text, max)?;
    if duration.is_zero() { Err("must be more than 0s".to_owned()) } else { Ok(duration) }
}

/// A day has 24 hours. Months and years are refused, because their lengths vary. Zero needs no unit.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let span: Span = text.parse().ok()?;
    let duration: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    duration.try_into().ok()
}

/// A whole number within bounds, all of which a `T` can hold.
pub(super) fn whole_number<T: FromStr>(text: &str, bounds: RangeInclusive<u64>) -> Result<T, String> {
    let text = text.trim();
    let number = text.parse().ok().filter(|number| bounds.contains(number)).and_then(|_| text.parse().ok());
    number.ok_or_else(|| format!("must be a whole number from {} to {}", bounds.start(), bounds.end()))
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| "must be true or false".to_owned())
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an address and a port such as 0.0.0.0:8080 or [::]:8080".to_owned())
}
