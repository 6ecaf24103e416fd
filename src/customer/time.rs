//! The two ways a payload writes time: the call's `timestamp` (RFC 3339) and the date traits (ISO 8601).
//!
//! Invariant: a timestamp that is taken is a whole millisecond not before 1970, and an instant [`Timestamp`] can hold.
//!
//! It never asks for the time of day.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;

/// Reads an RFC 3339 date-time, cut (not rounded) to milliseconds.
///
/// We read the shape ourselves: jiff takes more than RFC 3339 (no seconds, no offset's minutes, time zone names), and
/// fewer digits of a second.
///
/// # Errors
/// What is wrong, to be read after the field's name.
pub(super) fn read_timestamp(text: &str) -> Result<Timestamp, &'static str> {
    let (local, offset) =
        read_rfc3339(text).ok_or("must be an RFC 3339 date and time with an offset, such as 2026-01-31T09:30:00Z")?;
    match offset.to_timestamp(local) {
        Ok(timestamp) if timestamp >= Timestamp::UNIX_EPOCH => Ok(timestamp),
        Ok(_) => Err("must not be before 1970-01-01T00:00:00Z"),
        Err(_) => Err("is later than the relay can tell (9999-12-30T22:00:00Z)"),
    }
}

/// Whether a text is an ISO 8601 date, with or without a time and an offset; the day, or month and day, may be left out.
pub(super) fn is_iso8601_date(text: &str) -> bool {
    let is_year_or_month = || {
        let rest = &mut text.as_bytes();
        let year = digits(rest, 4);
        let month = if rest.is_empty() { Some(1) } else { one_of(rest, b"-").and_then(|_| digits(rest, 2)) };
        rest.is_empty() && year.is_some() && month.is_some_and(|month| (1..=12).contains(&month))
    };
    // Annotations in brackets are RFC 9557's, not ISO 8601's.
    is_year_or_month() || (!text.contains('[') && Pieces::parse(text).is_ok())
}

fn read_rfc3339(text: &str) -> Option<(DateTime, Offset)> {
    let rest = &mut text.as_bytes();
    let year = digits(rest, 4)?;
    one_of(rest, b"-")?;
    let month = digits(rest, 2)?;
    one_of(rest, b"-")?;
    let day = digits(rest, 2)?;
    one_of(rest, b"Tt")?;
    let hour = digits(rest, 2)?;
    one_of(rest, b":")?;
    let minute = digits(rest, 2)?;
    one_of(rest, b":")?;
    // A leap second; like the clocks of nearly all machines we do not count it.
    let second = match digits(rest, 2)? {
        60 => 59,
        second => second,
    };
    let milliseconds = match one_of(rest, b".") {
        Some(_) => read_milliseconds(rest)?,
        None => 0,
    };
    let offset = read_offset(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let [month, day, hour, minute, second] = [month, day, hour, minute, second].map(|part| i8::try_from(part).ok());
    let local = DateTime::new(year, month?, day?, hour?, minute?, second?, i32::from(milliseconds) * 1_000_000).ok()?;
    Some((local, offset))
}

/// The digits after the decimal point, however many; those after the third are cut.
fn read_milliseconds(rest: &mut &[u8]) -> Option<i16> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let significant = count.min(3);
    let value = digits(rest, significant)?;
    *rest = rest.get(count - significant..)?;
    match significant {
        1 => Some(value * 100),
        2 => Some(value * 10),
        3 => Some(value),
        _ => None,
    }
}

fn read_offset(rest: &mut &[u8]) -> Option<Offset> {
    let sign = match one_of(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(Offset::UTC),
    };
    let hours = digits(rest, 2).filter(|hours| *hours < 24)?;
    one_of(rest, b":")?;
    let minutes = digits(rest, 2).filter(|minutes| *minutes < 60)?;
    Offset::from_seconds(sign * (i32::from(hours) * 3_600 + i32::from(minutes) * 60)).ok()
}

/// Takes `count` digits, at most four, off the front.
fn digits(rest: &mut &[u8], count: usize) -> Option<i16> {
    let (front, back) = rest.split_at_checked(count)?;
    *rest = back;
    front.iter().try_fold(0, |number: i16, byte| {
        let digit = byte.is_ascii_digit().then(|| i16::from(byte - b'0'))?;
        Some(number * 10 + digit)
    })
}

/// Takes one byte off the front if it is one of these.
fn one_of(rest: &mut &[u8], accepted: &[u8]) -> Option<u8> {
    let (first, back) = rest.split_first()?;
    if !accepted.contains(first) {
        return None;
    }
    *rest = back;
    Some(*first)
}
