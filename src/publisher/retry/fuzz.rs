//! Fuzz target `answers`: any answer of Segment, or of another server in its place.
//!
//! An input is a line with a status and the values of `Retry-After` between semicolons, then the body, which is cut at
//! [`MAX_BODY`]. The bytes on the network are parsed by hyper, which is not fuzzed here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderValue;
use serde_json::Value;

use super::{MAX_RETRY_AFTER, ResponseClass, SendResult, classify, usable_retry_after};
use crate::fuzz::hold;
use crate::publisher::secret_forms::SecretForms;
use crate::segment::SegmentError;

/// Upper bound of a message in characters: 500 of Segment's own, and the relay's words before them.
const MAX_MESSAGE: usize = 600;

/// The write key that no message may hold.
const KEY: &str = "fuzzed-Write_Key-0123456789abcdef";

/// A body that is longer is not whole. The transport's bound is larger, and inputs are small.
const MAX_BODY: usize = 256;

const TOKENS: &[&str] = &[
    "200",
    "204",
    "400",
    "401",
    "407",
    "413",
    "418",
    "422",
    "429",
    "500",
    "502",
    "503",
    "100",
    "999",
    "\n",
    " ",
    "0",
    "-1",
    "+5",
    "1.5",
    ";",
    ".",
    "1e3",
    "120",
    "00300",
    "99999999999999999999999",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 2044 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "\"success\"",
    "false",
    "true",
    "null",
    "\"message\"",
    "\"error\"",
    "\"success\":false",
    "fuzzed-Write_Key-0123456789abcdef",
    "ZnV6emVkLVdyaXRlX0tleS0wMTIzNDU2Nzg5YWJjZGVmOg==",
    "66757a7a65642d57726974655f4b6579",
    "fuzzed%2DWrite%5FKey%2D0123456789abcdef",
    "1e999",
    "\\ud800",
    "\\u0000",
    "\\u001b[2J",
    "\u{85}",
    "\u{202e}",
    "\u{2028}",
    "é",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// A time in 2026, so that the dates of the tokens are before and after it.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// The answer of an input, with `Retry-After` as the transport reads it.
fn response(input: &[u8]) -> (u16, SendResult) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let head = parts.next().unwrap_or_default();
    let mut head = head.splitn(2, |byte| *byte == b' ');
    let status = std::str::from_utf8(head.next().unwrap_or_default()).ok().and_then(|text| text.parse().ok());
    let status = status.filter(|status| (100..1000).contains(status)).unwrap_or(200);
    let values = head.next().unwrap_or_default().split(|byte| *byte == b';');
    let values = values.filter_map(|bytes| HeaderValue::from_bytes(bytes).ok());
    let retry_after = values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
    let mut body = parts.next().unwrap_or_default().to_vec();
    let is_whole = body.len() <= MAX_BODY;
    body.truncate(MAX_BODY);
    (status, SendResult::Response { status, retry_after, body, is_whole })
}

fn body(result: &SendResult) -> (&[u8], bool) {
    match result {
        SendResult::Response { body, is_whole, .. } => (body, *is_whole),
        SendResult::NotSent(_) | SendResult::NoResponse(_) => unreachable!("the input is an answer"),
    }
}

/// Whether a body is Segment's word for a call: empty, or an object. Then whether the object says that the call failed.
fn word(result: &SendResult) -> Option<bool> {
    let (body, is_whole) = body(result);
    let text = std::str::from_utf8(body).ok().filter(|_| is_whole)?;
    if text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']).is_empty() {
        return Some(false);
    }
    match serde_json::from_str::<Value>(text.strip_prefix('\u{feff}').unwrap_or(text)).ok()? {
        Value::Object(members) => Some(members.get("success") == Some(&Value::Bool(false))),
        _ => None,
    }
}

fn assert_readable(error: &SegmentError) {
    assert!(!error.message.is_empty() && error.message.chars().count() <= MAX_MESSAGE, "{}", error.message.len());
    assert!(!error.message.chars().any(char::is_control), "{:?}", error.message);
    let bare = error.message.replace(['-', '_'], "").to_lowercase();
    for form in ["writekey012345", "znv6emvklvdy", "66757a7a6564", "write%5fkey"] {
        assert!(!bare.contains(form), "{:?}", error.message);
    }
}

fn assert_bounded(pause: Option<Duration>) {
    assert!(pause.is_none_or(|pause| pause <= MAX_RETRY_AFTER), "{pause:?}");
    assert!(usable_retry_after(pause).is_none_or(|pause| pause >= Duration::from_millis(500)), "{pause:?}");
}

#[test]
fn no_failure_is_classified_as_accepted_and_pauses_and_messages_are_bounded() {
    hold("answers", TOKENS, |input| {
        let (status, result) = response(input);
        let secrets = SecretForms::new([KEY]);
        let class = classify(&result, &secrets, now());
        assert_eq!(class, classify(&result, &secrets, now()));
        let is_2xx = (200..300).contains(&status);
        match &class {
            ResponseClass::Accepted => {
                assert!(is_2xx && (word(&result) == Some(false) || is_odd(&result)), "{status}");
                return;
            }
            ResponseClass::Refused { error, status: reported } => {
                assert_eq!(*reported, status);
                let says_no = word(&result) == Some(true) || is_odd(&result);
                assert!(matches!(status, 400 | 413) || is_2xx && says_no, "{status} was refused");
                assert_readable(error);
            }
            ResponseClass::Retryable { error, retry_after, outcome_unknown } => {
                assert!(status >= 500 || matches!(status, 408 | 410 | 460), "{status}");
                assert_eq!(*outcome_unknown, matches!(status, 502 | 504), "{status}");
                assert_bounded(*retry_after);
                assert_readable(error);
            }
            ResponseClass::RateLimited { error, retry_after } => {
                assert_eq!(status, 429);
                assert_bounded(*retry_after);
                assert_readable(error);
            }
            ResponseClass::RetriesExhausted { error, pause } => {
                assert_eq!(status, 422);
                assert_bounded(Some(*pause));
                assert!(*pause >= Duration::from_millis(500), "{pause:?}");
                assert_readable(error);
            }
            ResponseClass::ConfigurationError(error) => {
                assert!(!is_2xx || word(&result).is_none() || is_odd(&result), "{status}");
                assert!(!matches!(status, 400 | 413 | 422 | 429 | 500 | 502..=504), "{status}");
                assert_readable(error);
            }
        }
        // A class may be logged, so its `Debug` must not show Segment's message.
        let text = String::from_utf8_lossy(body(&result).0);
        assert!(!text.contains("canary") || !format!("{class:?}").contains("canary"));
    });
}

/// Whether the reference reads the body otherwise than the grammar of JSON says: numbers, escapes and depths that `Value` cannot
/// hold, and members that are there twice.
fn is_odd(result: &SendResult) -> bool {
    let text = String::from_utf8_lossy(body(result).0);
    let is_twice = |name: &str| text.matches(name).count() > 1;
    text.contains("e999")
        || text.contains("\\u")
        || text.matches(['[', '{']).count() > 100
        || ["\"success\"", "\"message\"", "\"error\""].into_iter().any(is_twice)
}
