//! Fuzz target `answers`: any answer of Segment, or of something in its place.
//!
//! An input is a line with a status and a `Retry-After`, then the body. hyper reads the bytes from the network, so they are
//! not part of this target.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderValue;
use serde_json::Value;

use super::{Answer, MAX_RETRY_AFTER, Verdict, a_pause, judge};
use crate::fuzz::hold;
use crate::segment::SegmentError;

/// Segment's words are at most 500 characters; the rest is an upper limit for our own before them.
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

/// 2026: the tokens have dates before and after it.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// The answer, with `Retry-After` as the transport reads it.
fn answer(input: &[u8]) -> (u16, Answer) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let head = parts.next().unwrap_or_default();
    let mut head = head.splitn(2, |byte| *byte == b' ');
    let status = std::str::from_utf8(head.next().unwrap_or_default()).ok().and_then(|text| text.parse().ok());
    let status = status.filter(|status| (100..1000).contains(status)).unwrap_or(200);
    let retry_after = head.next().and_then(|bytes| HeaderValue::from_bytes(bytes).ok());
    let retry_after = retry_after.and_then(|value| value.to_str().ok().map(str::to_owned));
    (status, Answer::Status { status, retry_after, body: parts.next().unwrap_or_default().to_vec() })
}

fn body(answer: &Answer) -> &[u8] {
    match answer {
        Answer::Status { body, .. } => body,
        Answer::NotSent(_) | Answer::Lost(_) => unreachable!("it is an answer"),
    }
}

/// Whether a body says that the call failed, or might say so if it is cut.
fn says_failure(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(json) => json.get("success") == Some(&Value::Bool(false)),
        Err(_) => {
            let text = String::from_utf8_lossy(body).replace([' ', '\t', '\n', '\r', '\u{c}'], "");
            text.contains(r#""success":false"#)
        }
    }
}

fn assert_readable(why: &SegmentError) {
    assert!(!why.message.is_empty() && why.message.chars().count() <= MAX_MESSAGE, "{}", why.message.len());
    assert!(!why.message.chars().any(char::is_control), "{:?}", why.message);
}

fn assert_bounded(pause: Option<Duration>) {
    assert!(pause.is_none_or(|pause| pause <= MAX_RETRY_AFTER), "{pause:?}");
    assert!(a_pause(pause).is_none_or(|pause| pause >= Duration::from_millis(500)), "{pause:?}");
}

#[test]
fn no_failure_counts_as_a_success_and_every_pause_and_message_has_a_limit() {
    hold("answers", TOKENS, |input| {
        let (status, answer) = answer(input);
        let verdict = judge(&answer, now());
        assert_eq!(verdict, judge(&answer, now()));
        let is_2xx = (200..300).contains(&status);
        match &verdict {
            Verdict::Accepted => {
                assert!(is_2xx && !says_failure(body(&answer)), "{status}");
                return;
            }
            Verdict::Refused { why, status: said } => {
                assert_eq!(*said, status);
                assert!(!is_2xx || says_failure(body(&answer)), "{status} was refused");
                assert_readable(why);
            }
            Verdict::Passing { why, retry_after, unknown } => {
                assert!(!unknown && !is_2xx, "{status}");
                assert_bounded(*retry_after);
                assert_readable(why);
            }
            Verdict::RateLimited { why, retry_after } => {
                assert_eq!(status, 429);
                assert_bounded(*retry_after);
                assert_readable(why);
            }
            Verdict::Exhausted { why, pause } => {
                assert_eq!(status, 422);
                assert_bounded(Some(*pause));
                assert!(*pause >= Duration::from_millis(500), "{pause:?}");
                assert_readable(why);
            }
            Verdict::AboutUs(why) => {
                assert!(!is_2xx && !matches!(status, 400 | 413 | 422 | 429 | 500 | 503), "{status}");
                assert_readable(why);
            }
        }
        // A verdict may be logged, Segment's words may not.
        let words = String::from_utf8_lossy(body(&answer));
        assert!(!words.contains("canary") || !format!("{verdict:?}").contains("canary"));
    });
}
