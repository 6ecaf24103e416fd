//! The call's `timestamp`, and other times that people write: RFC 3339.
//!
//! Invariant: an accepted timestamp is a whole millisecond, not before 1970, and within the range of [`Timestamp`].
//!
//! jiff parses it, after the text was brought into a form that jiff reads as the standard does.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;

/// Reads an RFC 3339 date-time, cut (not rounded) to milliseconds. A leap second becomes the second before it.
///
/// # Errors
/// What is wrong, to be read after the field's name.
pub(crate) fn read_timestamp(text: &str) -> Result<Timestamp, &'static str> {
    let (local, offset) =
        read_rfc3339(text).ok_or("must be an RFC 3339 date and time with an offset, such as 2026-01-31T09:30:00Z")?;
    match offset.to_timestamp(local) {
        Ok(timestamp) if timestamp >= Timestamp::UNIX_EPOCH => Ok(timestamp),
        Ok(_) => Err("must not be before 1970-01-01T00:00:00Z"),
        Err(_) => Err("is later than the relay can tell (9999-12-30T22:00:00Z)"),
    }
}

/// jiff accepts more than RFC 3339 (a time without seconds, an offset without minutes, names of time zones) and fewer
/// digits of a second. So the shape is checked first, and the digits after the third are cut.
fn read_rfc3339(text: &str) -> Option<(DateTime, Offset)> {
    let (to_the_second, rest) = text.split_at_checked("2026-01-31T09:30:00".len())?;
    let zone = rest.trim_start_matches(|character: char| character == '.' || character.is_ascii_digit());
    let fraction = rest.strip_suffix(zone)?;
    let is_rfc3339 = shape(to_the_second) == "0000-00-00T00:00:00"
        && (fraction.is_empty() || fraction.len() > 1 && shape(fraction).trim_end_matches('0') == ".")
        && matches!(&*shape(zone), "Z" | "+00:00" | "-00:00");
    if !is_rfc3339 {
        return None;
    }
    let milliseconds = fraction.get(..".000".len()).unwrap_or(fraction);
    let normalised = format!("{to_the_second}{milliseconds}{zone}");
    let pieces = Pieces::parse(&normalised).ok()?;
    // jiff takes offsets up to 25 hours.
    let offset = pieces.to_numeric_offset().filter(|offset| offset.seconds().abs() < 24 * 60 * 60)?;
    Some((pieces.date().to_datetime(pieces.time()?), offset))
}

/// The text in upper case, with a 0 for each ASCII digit.
fn shape(text: &str) -> String {
    let upper = text.chars().map(|character| character.to_ascii_uppercase());
    upper.map(|character| if character.is_ascii_digit() { '0' } else { character }).collect()
}
