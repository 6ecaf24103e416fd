//! Checks of a setting's text. None of their messages repeats a text that may hold a secret.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::unfilled::{UNREPLACED, is_placeholder, is_unreplaced};
use super::value::Secret;

/// The maximum of every duration but those that have their own. No other is sensibly longer than a day.
pub(super) const MAX_DURATION: (Duration, &str) = (Duration::from_secs(24 * 60 * 60), "24h");

/// The maximum of RELAY_IDEMPOTENCY_WINDOW. A remembered key takes disk space, and no sender repeats a request after a
/// year.
pub(crate) const MAX_WINDOW: (Duration, &str) = (Duration::from_secs(365 * 24 * 60 * 60), "365days");

/// How long the keys of a source are remembered whose table says nothing, or that is not configured: of the senders that are
/// known, the one that retries for longest does so for 7 days.
pub(crate) const SOURCE_WINDOW: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// The maximum of RELAY_GIVE_UP_AFTER. What failed for a year does not succeed later; `never` has no end.
pub(super) const MAX_GIVE_UP: (Duration, &str) = MAX_WINDOW;
/// The maximum of RELAY_DEAD_LETTER_RETENTION. Whoever must keep a record for longer keeps it elsewhere; `never` has no end.
pub(super) const MAX_RETENTION: (Duration, &str) = (Duration::from_secs(3650 * 24 * 60 * 60), "3650days");

/// Room for 32 of the largest calls. With less the outbox would be full all the time. A smaller number is probably a mistake,
/// such as 10 for 10GiB.
const MIN_SIZE: ByteSize = ByteSize::mib(1);

/// The largest file that SQLite can have.
const MAX_SIZE: ByteSize = ByteSize::tib(256);

/// A shorter token can be guessed.
const MIN_ADMIN_TOKEN: usize = 16;

/// More than any token in use has, and well within the size limit of a request's head.
const MAX_ADMIN_TOKEN: usize = 1024;

/// A duration that may be zero, up to a maximum that is also given in words.
pub(super) fn duration(text: &str, (max, in_words): (Duration, &str)) -> Result<Duration, String> {
    match parse_duration(text.trim()) {
        Some(duration) if duration <= max => Ok(duration),
        Some(_) => Err(format!("must be at most {in_words}")),
        None => Err("must be a duration such as 5s, 250ms or 2m".to_owned()),
    }
}

/// A duration above zero, up to a maximum that is also given in words.
pub(crate) fn positive_duration(text: &str, max: (Duration, &str)) -> Result<Duration, String> {
    let duration = duration(text, max)?;
    if duration.is_zero() { Err("must be more than 0s".to_owned()) } else { Ok(duration) }
}

/// The same, or `never`.
pub(super) fn duration_or_never(text: &str, max: (Duration, &str)) -> Result<Option<Duration>, String> {
    if text.trim() == "never" {
        return Ok(None);
    }
    positive_duration(text, max).map(Some).map_err(|problem| format!("{problem}, or never"))
}

/// At least a second: a connection is looked at as often as that.
pub(super) fn keep_alive(text: &str) -> Result<Duration, String> {
    let duration = duration(text, MAX_DURATION)?;
    if duration < Duration::from_secs(1) { Err("must be at least 1s".to_owned()) } else { Ok(duration) }
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

/// Spans go over HTTP as Protocol Buffers, and in no other form.
pub(super) fn trace_protocol(text: &str) -> Result<(), String> {
    if text.trim() == "http/protobuf" { Ok(()) } else { Err("must be http/protobuf".to_owned()) }
}

/// The value of one of two names.
pub(super) fn either<T>(text: &str, [first, second]: [(&str, T); 2]) -> Result<T, String> {
    match text {
        _ if text == first.0 => Ok(first.1),
        _ if text == second.0 => Ok(second.1),
        _ => Err(format!("must be {} or {}", first.0, second.0)),
    }
}

/// Visible ASCII, which a header can carry.
pub(super) fn admin_token(text: &str) -> Result<Secret, String> {
    if text.len() > MAX_ADMIN_TOKEN {
        Err(format!("longer than {MAX_ADMIN_TOKEN} characters"))
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("holds white space or other characters that a header cannot carry".to_owned())
    } else if is_unreplaced(text) {
        Err(UNREPLACED.to_owned())
    } else if is_placeholder(text) {
        Err("is a placeholder; openssl rand -hex 32 makes a good token".to_owned())
    } else if text.len() < MIN_ADMIN_TOKEN {
        Err(format!("shorter than {MIN_ADMIN_TOKEN} bytes; openssl rand -hex 32 makes a good one"))
    } else {
        Ok(Secret::new(text))
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an address and a port such as 0.0.0.0:8080 or [::]:8080".to_owned())
}

/// Whoever reads the file finds out whether it is there.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    // The environment's bytes that are not UTF-8 became this character.
    let is_utf8 = !text.contains(char::REPLACEMENT_CHARACTER);
    is_utf8.then(|| text.into()).ok_or_else(|| "the path must be valid UTF-8".to_owned())
}

/// A number of bytes, with a unit or without.
pub(super) fn outbox_size(text: &str) -> Result<u64, String> {
    match text.trim().parse::<ByteSize>() {
        Ok(size) if (MIN_SIZE..=MAX_SIZE).contains(&size) => Ok(size.as_u64()),
        Ok(_) => Err("must be from 1MiB to 256TiB".to_owned()),
        Err(_) => Err("must be a size such as 64MiB or 10GiB, or a number of bytes".to_owned()),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| format!("not a filter ({error})"))?;
    match text.split(',').find(|directive| is_misspelt_level(directive)) {
        Some(word) => Err(format!("{word} is not a level (off, error, warn, info, debug, trace)")),
        None => Ok(text.to_owned()),
    }
}

/// A filter takes a single word for the name of a module, so a misspelt level would turn all logs off.
fn is_misspelt_level(directive: &str) -> bool {
    let word = directive.trim();
    let is_level = LevelFilter::from_str(word).is_ok();
    let is_more = word.contains(['=', '[', ':']) || word.starts_with(env!("CARGO_CRATE_NAME"));
    !word.is_empty() && !is_level && !is_more
}
