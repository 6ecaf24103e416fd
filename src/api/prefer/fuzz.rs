//! Fuzz target `prefer`: any bytes in the header, one header a line.
//!
//! Without quotes a second implementation must find the same. With quotes, what is found must be well-formed.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::{PREFER, Wait, wait};
use crate::fuzz::hold;

const TOKENS: &[&str] = &[
    "wait",
    "Wait",
    "=",
    "5",
    "\"",
    "\\",
    ",",
    ";",
    " ",
    "\t",
    "\n",
    "wait=5",
    "wait=\"5\"",
    "respond-async",
    "return=minimal",
    "a=\"b, wait=9\"",
    "99999999999999999999999999",
    "-1",
    "+5",
    "é",
];

/// The first `wait` in headers without quotes.
fn first_wait(headers: &[HeaderValue]) -> Option<String> {
    let preferences = headers.iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b','));
    preferences.map(String::from_utf8_lossy).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let digits = value.trim_matches([' ', '\t']);
        let is_wait = name.trim_matches([' ', '\t']).eq_ignore_ascii_case("wait");
        (is_wait && !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit())).then(|| digits.to_owned())
    })
}

#[test]
fn a_wait_is_applied_as_it_was_written_or_ignored() {
    hold("prefer", TOKENS, |input| {
        let values = input.split(|byte| *byte == b'\n').filter_map(|value| HeaderValue::from_bytes(value).ok());
        let values: Vec<HeaderValue> = values.collect();
        let mut headers = HeaderMap::new();
        for value in &values {
            headers.append(PREFER, value.clone());
        }
        let found = wait(&headers);
        if let Some(Wait { time, applied }) = &found {
            let digits = applied.to_str().unwrap().strip_prefix("wait=").unwrap();
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{applied:?}");
            assert_eq!(*time, Duration::from_secs(digits.parse().unwrap_or(u64::MAX)));
        }
        if !input.contains(&b'"') {
            let applied = first_wait(&values).map(|digits| format!("wait={digits}"));
            assert_eq!(found.map(|wait| wait.applied.to_str().unwrap().to_owned()), applied);
        }
    });
}
