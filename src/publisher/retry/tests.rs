//! The answer table, row by row, and the backoff.

use super::{Answer, MAX_BACKOFF, MAX_RETRY_AFTER, Verdict, backoff, judge};
use crate::segment::{ErrorCode, SegmentError};
use proptest::prelude::{any, prop, proptest};
use proptest::{prop_assert, prop_assert_eq};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now() -> SystemTime {
    // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's example.
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Answer {
    Answer::Status { status, retry_after: retry_after.map(str::to_owned), body: body.as_bytes().to_vec() }
}

fn verdict(status: u16, body: &str) -> Verdict {
    judge(&answer(status, None, body), now())
}

fn error(verdict: Verdict) -> SegmentError {
    match verdict {
        Verdict::Accepted => panic!("accepted"),
        Verdict::Refused { why, .. }
        | Verdict::AboutUs(why)
        | Verdict::Passing { why, .. }
        | Verdict::Exhausted { why, .. }
        | Verdict::RateLimited { why, .. } => why,
    }
}

fn pause(status: u16, retry_after: &str) -> Option<Duration> {
    match judge(&answer(status, Some(retry_after), ""), now()) {
        Verdict::Passing { retry_after, .. } | Verdict::RateLimited { retry_after, .. } => retry_after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_status_has_its_kind() {
    for status in 200..600 {
        let expected = match status {
            200..=299 => "accepted",
            401 | 403 | 300..=399 | 404 | 501 | 505 => "about_us",
            408 | 410 | 460 => "failed",
            422 => "exhausted",
            429 => "rate_limited",
            500..=599 => "failed",
            _ => "refused",
        };
        assert_eq!(verdict(status, "").as_str(), expected, "{status}");
    }
}

#[test]
fn a_2xx_is_accepted_unless_it_says_otherwise() {
    for body in [r#"{"success":true}"#, "", "OK", r#"{"success":"false"}"#, "[]"] {
        assert_eq!(verdict(200, body), Verdict::Accepted, "{body}");
    }
    let long = format!(r#"{{ "success" : false, "pad": "{}"#, "x".repeat(20_000));
    for body in ["\u{feff}{\"success\":false}", &long, r#"{"success":false,"message":"cut o"#] {
        assert_eq!(verdict(200, body).as_str(), "refused", "{body}");
    }
    let refused = error(verdict(200, r#"{"success":false,"message":"no such source"}"#));
    assert_eq!(refused.code, ErrorCode::Rejected);
    assert!(refused.message.contains("no such source"));
}

#[test]
fn segments_own_words_are_kept_json_or_not() {
    let json = r#"{"success":false,"message":"malformed JSON","code":"invalid_request"}"#;
    assert_eq!(error(verdict(400, json)).message, "Segment refused this call (400): malformed JSON");
    assert_eq!(error(verdict(413, "too\r\n large\0")).message, "Segment refused this call (413): too large");
    assert_eq!(error(verdict(400, r#"{"success":false}"#)).message, "Segment refused this call (400)");
}

#[test]
fn a_failed_connection_is_certainly_not_accepted_and_a_lost_answer_is_unknown() {
    let unknown = |answer| match judge(&answer, now()) {
        Verdict::Passing { unknown, .. } => unknown,
        other => panic!("{other:?}"),
    };
    assert!(!unknown(Answer::NotSent("connection refused".into())));
    assert!(unknown(Answer::Lost("reset".into())));
    assert!(!unknown(answer(503, None, "")));
}

#[test]
fn retry_after_is_seconds_or_a_date_on_any_retryable_status() {
    for status in [429, 503, 500, 408] {
        assert_eq!(pause(status, "7"), Some(Duration::from_secs(7)));
        assert_eq!(pause(status, "Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(pause(status, "Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(pause(status, "soon"), None);
        assert_eq!(pause(status, ""), None);
        assert_eq!(pause(status, "-1"), None);
        assert_eq!(pause(status, "99999999999999999999999"), Some(MAX_RETRY_AFTER));
    }
}

#[test]
fn an_exhausted_retry_count_always_means_a_pause() {
    for (header, seconds) in [(None, 60), (Some("0"), 60), (Some("Sun, 06 Nov 1994 08:00:00 GMT"), 60), (Some("7"), 7)]
    {
        match judge(&answer(422, header, ""), now()) {
            Verdict::Exhausted { pause, .. } => assert_eq!(pause.as_secs(), seconds, "{header:?}"),
            other => panic!("{}", other.as_str()),
        }
    }
}

proptest! {
    #[test]
    fn no_answer_makes_us_panic_and_no_message_is_long(
        status in any::<u16>(), header in prop::option::of(".{0,40}"), body in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let verdict = judge(&Answer::Status { status, retry_after: header, body }, now());
        if verdict != Verdict::Accepted {
            prop_assert!(error(verdict).message.chars().count() < 600);
        }
    }

    #[test]
    fn a_backoff_stays_under_its_bound_and_within_the_time_left(
        failures in any::<u32>(), left in 500_u64..1_000_000, chance in 0.0_f64..1.0,
    ) {
        let left = Duration::from_millis(left);
        let pause = backoff(failures, Some(left), chance).unwrap();
        prop_assert!(pause <= MAX_BACKOFF && pause <= left);
        prop_assert!(backoff(failures, Some(left), 1.0) <= backoff(failures.saturating_add(1), Some(left), 1.0));
        prop_assert_eq!(backoff(failures, Some(left), 0.0), Some(Duration::ZERO));
    }
}

#[test]
fn without_time_left_there_is_no_other_attempt() {
    assert_eq!(backoff(1, Some(Duration::from_millis(499)), 0.0), None);
}
