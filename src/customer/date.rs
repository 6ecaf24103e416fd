//! Date traits: ISO 8601-1, alone or with a time.
//!
//! A date is a year, a month, a week or a day (of a month, a year or a week), in the basic format (`20260131`) or in the
//! extended one (`2026-01-31`). A day may have a time in the same format, with an offset. What the standard leaves to an
//! agreement is refused: years of more digits, centuries, decades.
//!
//! More than the standard's letter is accepted where other standards and programs write it: a small `t` or `z` and the
//! offset -00:00 (RFC 3339), and a basic offset after an extended time (`+0100`: strftime, PHP, Java).

use jiff::civil::{Date, ISOWeekDate, Weekday};

/// Whether a text is such a date.
pub(super) fn is_iso8601_date(text: &str) -> bool {
    match text.split_once(['T', 't']) {
        None => read_date(text).is_some(),
        Some((date, time)) => {
            read_date(date).is_some_and(|form| form.is_day && is_time(time, form.is_extended).unwrap_or_default())
        }
    }
}

struct DateForm {
    /// Whether it is a day, and not a week, a month or a year.
    is_day: bool,
    is_extended: bool,
}

fn read_date(text: &str) -> Option<DateForm> {
    let rest = &mut text.as_bytes();
    let year = digits(rest, 4)?;
    let is_extended = skip(rest, b"-");
    let (is_week, length) = (skip(rest, b"W"), rest.len());
    // jiff knows which days and weeks exist. A hyphen that is missing or too much leaves a part without its digits.
    let exists = match (is_week, is_extended, length) {
        (false, false, 0) => true,
        // A month has no basic format: 202601 might be a day of 2020.
        (false, true, 2) => Date::new(year, digits(rest, 2)?, 1).is_ok(),
        (false, false, 4) | (false, true, 5) => {
            let month = digits(rest, 2)?;
            skip(rest, b"-");
            Date::new(year, month, digits(rest, 2)?).is_ok()
        }
        (false, _, 3) => Date::new(year, 1, 1).ok()?.with().day_of_year(digits(rest, 3)?).build().is_ok(),
        (true, _, 2) => ISOWeekDate::new(year, digits(rest, 2)?, Weekday::Monday).is_ok(),
        (true, false, 3) | (true, true, 4) => {
            let week = digits(rest, 2)?;
            skip(rest, b"-");
            ISOWeekDate::new(year, week, Weekday::from_monday_one_offset(digits(rest, 1)?).ok()?).is_ok()
        }
        _ => false,
    };
    (exists && rest.is_empty()).then_some(DateForm { is_day: !matches!(length, 0 | 2), is_extended })
}

/// Whether a text is a time of one to three parts, the last of which may have decimals, with or without an offset.
/// `None` means no, too.
fn is_time(text: &str, is_extended: bool) -> Option<bool> {
    let rest = &mut text.as_bytes();
    let (hour, mut minute, mut second) = (digits::<u8>(rest, 2)?, 0, 0);
    for part in [&mut minute, &mut second] {
        if !rest.first().is_some_and(|byte| *byte == b':' || byte.is_ascii_digit()) {
            break;
        }
        if skip(rest, b":") != is_extended {
            return None;
        }
        *part = digits::<u8>(rest, 2)?;
    }
    let mut is_whole = true;
    if skip(rest, b".,") {
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (decimals, after) = rest.split_at_checked(count).filter(|_| count > 0)?;
        (is_whole, *rest) = (decimals.iter().all(|digit| *digit == b'0'), after);
    }
    // A minute with a leap second has 61. A day may end at 24.
    let exists = hour < 24 && minute < 60 && second <= 60 || (hour, minute, second, is_whole) == (24, 0, 0, true);
    if !rest.is_empty() && !skip(rest, b"Zz") {
        skip(rest, b"+-").then_some(())?;
        let hours = digits::<u8>(rest, 2)?;
        let minutes = match rest.is_empty() {
            true => 0,
            false => {
                skip(rest, b":");
                digits::<u8>(rest, 2)?
            }
        };
        (hours < 24 && minutes < 60).then_some(())?;
    }
    Some(exists && rest.is_empty())
}

/// Reads a number of so many digits, at most four.
fn digits<T: TryFrom<i16>>(rest: &mut &[u8], count: usize) -> Option<T> {
    let (digits, after) = rest.split_at_checked(count)?;
    *rest = after;
    let read = |number, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + i16::from(digit - b'0'));
    digits.iter().try_fold(0, read)?.try_into().ok()
}

/// Skips a byte if it is one of these.
fn skip(rest: &mut &[u8], any_of: &[u8]) -> bool {
    match rest.split_first() {
        Some((first, after)) if any_of.contains(first) => {
            *rest = after;
            true
        }
        _ => false,
    }
}
