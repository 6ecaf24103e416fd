//! The header `Prefer` (RFC 7240). The relay knows the preference `wait`.
//!
//! A preference is never an error: a malformed or unknown one is ignored.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::OptionalFromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The header of the answer: the preferences that were applied.
pub(super) const APPLIED: &str = "preference-applied";

/// `wait=N`: the caller asks to hear the outcome, and waits up to N seconds for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) time: Duration,
    /// The value of the answer's header.
    pub(super) applied: HeaderValue,
}

impl<S: Sync> OptionalFromRequestParts<S> for Wait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(wait(&parts.headers))
    }
}

/// The first well-formed `wait`. The RFC says that the first of several counts.
fn wait(headers: &HeaderMap) -> Option<Wait> {
    // The usual request has no such header, and pays for one look-up.
    let values = headers.get_all(PREFER).into_iter();
    values.flat_map(|value| split_outside_quotes(value.as_bytes(), b',')).find_map(parse_wait)
}

/// `wait=N`, where N may be quoted and parameters may follow. A number that does not fit is a long wait.
fn parse_wait(preference: &[u8]) -> Option<Wait> {
    let without_parameters = split_outside_quotes(preference, b';').next()?;
    let equals = without_parameters.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&without_parameters[..equals], &without_parameters[equals + 1..]);
    if !name.trim_ascii().eq_ignore_ascii_case(b"wait") {
        return None;
    }
    let digits = unquoted(value.trim_ascii())?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = std::str::from_utf8(&digits).ok()?.parse().unwrap_or(u64::MAX);
    let applied = HeaderValue::from_bytes(&[b"wait=", &*digits].concat()).ok()?;
    Some(Wait { time: Duration::from_secs(seconds), applied })
}

/// A value without its quotes, if it has any; `None` if they do not match.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(rest) = value.strip_prefix(b"\"") else { return Some(value.into()) };
    let inside = rest.strip_suffix(b"\"")?;
    let mut bytes = inside.iter();
    let mut plain = Vec::with_capacity(inside.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => plain.push(*bytes.next()?),
            byte => plain.push(*byte),
        }
    }
    Some(plain.into())
}

/// The parts between separators that stand outside quotes. A quote without an end reaches to the end of the text.
fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'"' if !was_escaped => quoted = !quoted,
            b'\\' if quoted && !was_escaped => escaped = true,
            _ => {}
        }
        !quoted && *byte == separator
    })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::wait;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use std::time::Duration;

    /// The seconds and the answer's header.
    fn wait_in(values: &[&[u8]]) -> Option<(u64, String)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static("prefer"), HeaderValue::from_bytes(value).unwrap());
        }
        wait(&headers).map(|wait| (wait.time.as_secs(), wait.applied.to_str().unwrap().to_owned()))
    }

    fn five() -> Option<(u64, String)> {
        Some((5, "wait=5".to_owned()))
    }

    #[test]
    fn every_valid_spelling_of_wait_is_read() {
        for header in [
            "wait=5",
            "Wait=5",
            " wait = 5 ",
            "wait=\"5\"",
            "wait=\"\\5\"",
            "wait=5; why=\"it, matters\"",
            "wait=5;",
            "respond-async, wait=5",
            "respond-async,,wait=5,",
            "a=\"b, wait=9\", wait=5",
            "a=\"\\\", wait=9\", wait=5",
            "return=minimal; wait=9, wait=5",
            "wait=\"a;b\", wait=5",
        ] {
            assert_eq!(wait_in(&[header.as_bytes()]), five(), "{header}");
        }
        assert_eq!(wait_in(&[b"wait=0"]), Some((0, "wait=0".to_owned())));
    }

    #[test]
    fn the_first_of_several_waits_counts_in_one_header_or_many() {
        assert_eq!(wait_in(&[b"wait=5, wait=6"]), five());
        assert_eq!(wait_in(&[b"respond-async", b"wait=5", b"wait=6"]), five());
    }

    #[test]
    fn a_malformed_wait_is_ignored() {
        for header in [
            "",
            "wait",
            "wait=",
            "wait=\"\"",
            "wait=-1",
            "wait=+5",
            "wait=1.5",
            "wait=5s",
            "wait=5 6",
            "wait=\"5",
            "wait=5\"",
            "wait=\"5\"5\"",
            "wait=\"5\\\"",
            "waits=5",
            "=5",
            "a=\"b, wait=5",
            "a;wait=5",
        ] {
            assert_eq!(wait_in(&[header.as_bytes()]), None, "{header}");
            assert_eq!(wait_in(&[header.as_bytes(), b"wait=5"]), five(), "{header}, then a good one");
        }
        assert_eq!(wait_in(&[b"wait=\xff", b"\xff, wait=5"]), five());
        assert_eq!(wait_in(&[]), None);
    }

    #[test]
    fn a_huge_number_is_a_long_wait() {
        let huge = "9".repeat(30);
        let headers = HeaderMap::from_iter([(super::PREFER, HeaderValue::from_str(&format!("wait={huge}")).unwrap())]);
        let wait = wait(&headers).unwrap();
        assert_eq!(
            (wait.time, wait.applied.to_str().unwrap()),
            (Duration::from_secs(u64::MAX), &*format!("wait={huge}"))
        );
    }
}
