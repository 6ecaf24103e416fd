//! The header `Retry-After`: seconds or an HTTP date.

use std::time::{Duration, SystemTime};

/// The longest pause of all these headers. One that is neither seconds nor a date does not count.
pub(super) fn longest(headers: &[String], now: SystemTime) -> Option<Duration> {
    headers.iter().flat_map(|header| pauses(header, now)).max()
}

/// Several headers may come as one, joined by commas. A date has a comma of its own.
fn pauses(header: &str, now: SystemTime) -> impl Iterator<Item = Duration> {
    let parts: Vec<&str> = header.split(',').collect();
    let dates = parts.windows(2).filter_map(move |pair| date(&pair.join(","), now)).collect::<Vec<_>>();
    parts.into_iter().filter_map(move |part| seconds(part.trim()).or_else(|| date(part, now))).chain(dates)
}

/// Whole seconds. A fraction is rounded up, so that Segment is not asked too early.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // A number that is too large to parse is still a long pause.
    let whole = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u64::MAX) };
    let is_rounded_up = fraction.bytes().any(|digit| digit != b'0');
    Some(Duration::from_secs(whole.saturating_add(is_rounded_up.into())))
}

/// The time until a date. One in the past is a pause of 0.
fn date(text: &str, now: SystemTime) -> Option<Duration> {
    Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default())
}
