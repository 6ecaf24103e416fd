//! The classification of every status, and the backoff.

use super::{MAX_BACKOFF, MAX_RETRY_AFTER, ResponseClass, SendResult, backoff, classify};
use crate::segment::{ErrorCode, SegmentError};
use proptest::prelude::{any, prop, proptest};
use proptest::{prop_assert, prop_assert_eq};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now() -> SystemTime {
    // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's example.
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn response(status: u16, retry_after: Option<&str>, body: &str) -> SendResult {
    SendResult::Response { status, retry_after: retry_after.map(str::to_owned), body: body.as_bytes().to_vec() }
}

fn class_of(status: u16, body: &str) -> ResponseClass {
    classify(&response(status, None, body), now())
}

fn error(class: ResponseClass) -> SegmentError {
    match class {
        ResponseClass::Accepted => panic!("accepted"),
        ResponseClass::Refused { error, .. }
        | ResponseClass::ConfigurationError(error)
        | ResponseClass::Retryable { error, .. }
        | ResponseClass::RetriesExhausted { error, .. }
        | ResponseClass::RateLimited { error, .. } => error,
    }
}

fn retry_after(status: u16, retry_after: &str) -> Option<Duration> {
    match classify(&response(status, Some(retry_after), ""), now()) {
        ResponseClass::Retryable { retry_after, .. } | ResponseClass::RateLimited { retry_after, .. } => retry_after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_status_has_its_class() {
    for status in 200..600 {
        let expected = match status {
            200..=299 => "accepted",
            401 | 403 => "unauthorized",
            300..=399 | 404 | 501 | 505 => "misconfigured",
            408 | 410 | 460 => "unavailable",
            422 => "exhausted",
            429 => "rate_limited",
            500..=599 => "unavailable",
            _ => "refused",
        };
        assert_eq!(class_of(status, "").as_str(), expected, "{status}");
    }
}

#[test]
fn a_2xx_is_accepted_unless_its_body_says_failure() {
    for body in [r#"{"success":true}"#, "", "OK", r#"{"success":"false"}"#, "[]"] {
        assert_eq!(class_of(200, body), ResponseClass::Accepted, "{body}");
    }
    let long = format!(r#"{{ "success" : false, "pad": "{}"#, "x".repeat(20_000));
    for body in ["\u{feff}{\"success\":false}", &long, r#"{"success":false,"message":"cut o"#] {
        assert_eq!(class_of(200, body).as_str(), "refused", "{body}");
    }
    let refused = error(class_of(200, r#"{"success":false,"message":"no such source"}"#));
    assert_eq!(refused.code, ErrorCode::Rejected);
    assert!(refused.message.contains("no such source"));
}

#[test]
fn segments_message_is_kept_from_json_and_from_text() {
    let json = r#"{"success":false,"message":"malformed JSON","code":"invalid_request"}"#;
    assert_eq!(error(class_of(400, json)).message, "Segment refused this call (400): malformed JSON");
    assert_eq!(error(class_of(413, "too\r\n large\0")).message, "Segment refused this call (413): too large");
    assert_eq!(error(class_of(400, r#"{"success":false}"#)).message, "Segment refused this call (400)");
}

#[test]
fn a_failed_connection_is_certainly_not_accepted_and_a_missing_answer_is_unknown() {
    let is_unknown = |result| match classify(&result, now()) {
        ResponseClass::Retryable { outcome_unknown, .. } => outcome_unknown,
        other => panic!("{other:?}"),
    };
    assert!(!is_unknown(SendResult::NotSent("connection refused".into())));
    assert!(is_unknown(SendResult::NoResponse("reset".into())));
    assert!(!is_unknown(response(503, None, "")));
}

#[test]
fn retry_after_is_seconds_or_a_date_on_any_retryable_status() {
    for status in [429, 503, 500, 408] {
        assert_eq!(retry_after(status, "7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(status, "Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(retry_after(status, "Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after(status, "soon"), None);
        assert_eq!(retry_after(status, ""), None);
        assert_eq!(retry_after(status, "-1"), None);
        assert_eq!(retry_after(status, "99999999999999999999999"), Some(MAX_RETRY_AFTER));
    }
}

#[test]
fn a_422_always_leads_to_a_pause() {
    for (header, seconds) in [(None, 60), (Some("0"), 60), (Some("Sun, 06 Nov 1994 08:00:00 GMT"), 60), (Some("7"), 7)]
    {
        match classify(&response(422, header, ""), now()) {
            ResponseClass::RetriesExhausted { pause, .. } => assert_eq!(pause.as_secs(), seconds, "{header:?}"),
            other => panic!("{}", other.as_str()),
        }
    }
}

proptest! {
    #[test]
    fn no_response_causes_a_panic_or_a_long_message(
        status in any::<u16>(), header in prop::option::of(".{0,40}"), body in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let class = classify(&SendResult::Response { status, retry_after: header, body }, now());
        if class != ResponseClass::Accepted {
            prop_assert!(error(class).message.chars().count() < 600);
        }
    }

    #[test]
    fn a_backoff_stays_under_its_bound_and_within_the_time_left(
        failures in any::<u32>(), time_left in 500_u64..1_000_000, jitter in 0.0_f64..1.0,
    ) {
        let time_left = Duration::from_millis(time_left);
        let pause = backoff(failures, Some(time_left), jitter).unwrap();
        prop_assert!(pause <= MAX_BACKOFF && pause <= time_left);
        prop_assert!(backoff(failures, Some(time_left), 1.0) <= backoff(failures.saturating_add(1), Some(time_left), 1.0));
        prop_assert_eq!(backoff(failures, Some(time_left), 0.0), Some(Duration::ZERO));
    }
}

#[test]
fn without_time_left_there_is_no_further_attempt() {
    assert_eq!(backoff(1, Some(Duration::from_millis(499)), 0.0), None);
}
