//! Fuzz target `answers`: any answer of Segment, or of another server in its place.
//!
//! An input is a line with a status and a `Retry-After`, then the body. The bytes on the network are parsed by hyper, which
//! is not fuzzed here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderValue;
use serde_json::Value;

use super::{MAX_RETRY_AFTER, ResponseClass, SendResult, classify, usable_retry_after};
use crate::fuzz::hold;
use crate::segment::SegmentError;

/// Upper bound of a message in characters: 500 of Segment's own, and the relay's words before them.
const MAX_MESSAGE: usize = 600;

const TOKENS: &[&str] = &[
    "200",
    "204",
    "400",
    "401",
    "422",
    "429",
    "500",
    "503",
    "100",
    "999",
    "\n",
    " ",
    "0",
    "-1",
    "+5",
    "1.5",
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
    let retry_after = head.next().and_then(|bytes| HeaderValue::from_bytes(bytes).ok());
    let retry_after = retry_after.and_then(|value| value.to_str().ok().map(str::to_owned));
    (status, SendResult::Response { status, retry_after, body: parts.next().unwrap_or_default().to_vec() })
}

fn body(result: &SendResult) -> &[u8] {
    match result {
        SendResult::Response { body, .. } => body,
        SendResult::NotSent(_) | SendResult::NoResponse(_) => unreachable!("the input is an answer"),
    }
}

/// Whether a body says that the request failed, or is cut off where it may have said so.
fn says_failure(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(json) => json.get("success") == Some(&Value::Bool(false)),
        Err(_) => {
            let text = String::from_utf8_lossy(body).replace([' ', '\t', '\n', '\r', '\u{c}'], "");
            text.contains(r#""success":false"#)
        }
    }
}

fn assert_readable(error: &SegmentError) {
    assert!(!error.message.is_empty() && error.message.chars().count() <= MAX_MESSAGE, "{}", error.message.len());
    assert!(!error.message.chars().any(char::is_control), "{:?}", error.message);
}

fn assert_bounded(pause: Option<Duration>) {
    assert!(pause.is_none_or(|pause| pause <= MAX_RETRY_AFTER), "{pause:?}");
    assert!(usable_retry_after(pause).is_none_or(|pause| pause >= Duration::from_millis(500)), "{pause:?}");
}

#[test]
fn no_failure_is_classified_as_accepted_and_pauses_and_messages_are_bounded() {
    hold("answers", TOKENS, |input| {
        let (status, result) = response(input);
        let class = classify(&result, now());
        assert_eq!(class, classify(&result, now()));
        let is_2xx = (200..300).contains(&status);
        match &class {
            ResponseClass::Accepted => {
                assert!(is_2xx && !says_failure(body(&result)), "{status}");
                return;
            }
            ResponseClass::Refused { error, status: reported } => {
                assert_eq!(*reported, status);
                assert!(!is_2xx || says_failure(body(&result)), "{status} was refused");
                assert_readable(error);
            }
            ResponseClass::Retryable { error, retry_after, outcome_unknown } => {
                assert!(!outcome_unknown && !is_2xx, "{status}");
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
                assert!(!is_2xx && !matches!(status, 400 | 413 | 422 | 429 | 500 | 503), "{status}");
                assert_readable(error);
            }
        }
        // A class may be logged, so its `Debug` must not show Segment's message.
        let text = String::from_utf8_lossy(body(&result));
        assert!(!text.contains("canary") || !format!("{class:?}").contains("canary"));
    });
}
