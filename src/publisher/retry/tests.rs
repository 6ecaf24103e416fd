//! The classification of every status, and the backoff.

use super::{MAX_BACKOFF, MAX_RETRY_AFTER, ResponseClass, SendResult, backoff};
use crate::publisher::failure::Failure;
use crate::publisher::secret_forms::SecretForms;
use crate::segment::{ErrorCode, FailureReason, SegmentError};
use proptest::prelude::{any, prop, proptest};
use proptest::{prop_assert, prop_assert_eq};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now() -> SystemTime {
    // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's example.
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

const KEY: &str = "wk-5ecre7-of-the-tests";

fn response(status: u16, retry_after: &[&str], body: &[u8]) -> SendResult {
    let retry_after = retry_after.iter().map(|header| (*header).to_owned()).collect();
    SendResult::Response { status, retry_after, body: body.to_vec(), is_whole: true }
}

fn classify(result: &SendResult) -> ResponseClass {
    super::classify(result, &SecretForms::new([KEY]), now())
}

fn class_of(status: u16, body: &str) -> ResponseClass {
    classify(&response(status, &[], body.as_bytes()))
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

fn retry_after(status: u16, headers: &[&str]) -> Option<Duration> {
    match classify(&response(status, headers, b"")) {
        ResponseClass::Retryable { retry_after, .. } | ResponseClass::RateLimited { retry_after, .. } => retry_after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_status_has_its_class() {
    for status in 100..=999 {
        let expected = match status {
            200..=299 => "accepted",
            400 | 413 => "refused",
            401 | 403 | 407 => "unauthorized",
            408 | 410 | 460 => "unavailable",
            422 => "exhausted",
            429 => "rate_limited",
            100..=499 | 501 | 505 => "misconfigured",
            502 | 504 => "unknown",
            _ => "unavailable",
        };
        assert_eq!(class_of(status, "").as_str(), expected, "{status}");
    }
}

#[test]
fn a_2xx_is_accepted_only_with_an_empty_body_or_an_object_that_does_not_say_failure() {
    let bodies = [
        r#"{"success":true}"#,
        "",
        " \r\n",
        "{}",
        r#"{"success":"false"}"#,
        r#"{"success":null,"a":[{"success":false}]}"#,
    ];
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for body in bodies.into_iter().chain([&*deep, "\u{feff}{\"success\":true}", " {\"message\":\"success:false\"}"]) {
        assert_eq!(class_of(200, body), ResponseClass::Accepted, "{body}");
    }
    for body in [r#"{"success":false}"#, "\u{feff}{\"success\":false}", r#"{ "a":"é", "success" : false }"#] {
        assert_eq!(class_of(200, body).as_str(), "refused", "{body}");
    }
    let foreign = [
        "OK",
        "[]",
        "true",
        "null",
        "0",
        "\"\"",
        "<html></html>",
        "{",
        r#"{"success":true"#,
        r#"{"success":true} x"#,
        r#"{"success":false,"success":true}"#,
        "\u{feff}",
        "\0",
        "data: {}",
        "{'success':true}",
    ];
    for body in foreign {
        assert_eq!(class_of(204, body).as_str(), "misconfigured", "{body}");
        assert_eq!(
            error(class_of(204, body)).reason.map(|reason| (reason.as_str(), reason.status())),
            Some(("body", Some(204)))
        );
    }
    assert_eq!(classify(&response(200, &[], b"{\"a\":\"\xff\"}")).as_str(), "misconfigured");
    let cut = SendResult::Response { status: 200, retry_after: vec![], body: b"{} ".to_vec(), is_whole: false };
    assert_eq!(classify(&cut).as_str(), "misconfigured");
    let refused = error(class_of(200, r#"{"success":false,"message":"no such source"}"#));
    assert_eq!(refused.code, ErrorCode::Rejected);
    assert!(refused.message.contains("no such source"));
}

#[test]
fn only_a_refusal_has_segments_message() {
    for status in 100..=999 {
        let class = class_of(status, "xylophones");
        let is_refused = class.as_str() == "refused";
        let error = error(class);
        assert_eq!(error.message.contains("xylophones"), is_refused, "{status}");
        assert!(error.message.contains(&status.to_string()), "{status}");
        // "xylophones" is no body of a success of Segment's.
        let reason = if status / 100 == 2 { FailureReason::Body(status) } else { FailureReason::Status(status) };
        assert_eq!(error.reason, Some(reason));
    }
}

#[test]
fn a_message_that_repeats_the_write_key_is_left_out_even_where_it_would_be_cut() {
    let long = format!("{}{KEY}", "x ".repeat(2_000));
    for body in [KEY, &long, &format!(r#"{{"error":{{"message":"key {KEY}"}}}}"#)] {
        let message = error(class_of(400, body)).message;
        assert_eq!(message, "Segment refused this call (400): its message repeats a secret and is left out");
    }
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
    let is_unknown = |result| match classify(&result) {
        ResponseClass::Retryable { outcome_unknown, .. } => outcome_unknown,
        other => panic!("{other:?}"),
    };
    assert!(!is_unknown(SendResult::NotSent(Failure::new(FailureReason::ConnectionRefused))));
    assert!(is_unknown(SendResult::NoResponse(Failure::new(FailureReason::ConnectionReset))));
    assert!(!is_unknown(response(503, &[], b"")));
}

#[test]
fn a_proxy_refuses_credentials_with_401_403_and_407_alone() {
    for (status, code) in [
        (Some(401), ErrorCode::Unauthorized),
        (Some(403), ErrorCode::Unauthorized),
        (Some(407), ErrorCode::Unauthorized),
        (Some(200), ErrorCode::Unavailable),
        (Some(404), ErrorCode::Unavailable),
        (Some(502), ErrorCode::Unavailable),
        (None, ErrorCode::Unavailable),
    ] {
        let reason = FailureReason::Proxy(status);
        let error = error(classify(&SendResult::NotSent(Failure::new(reason))));
        assert_eq!((error.code, error.reason), (code, Some(reason)), "{status:?}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_on_any_retryable_status() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let in_ten_seconds = "Sun, 06 Nov 1994 08:49:47 GMT";
    for status in [429, 503, 500, 408, 502] {
        for (headers, pause) in [
            (&["7"][..], seconds(7)),
            (&[" 5\t"], seconds(5)),
            (&["00300"], seconds(300)),
            (&["30.5"], seconds(31)),
            (&["30.000"], seconds(30)),
            (&["30."], seconds(30)),
            (&[".1"], seconds(1)),
            (&["0.0"], seconds(0)),
            (&["299.00000000000000000000000001"], seconds(300)),
            (&["99999999999999999999999"], Some(MAX_RETRY_AFTER)),
            (&["18446744073709551615.9"], Some(MAX_RETRY_AFTER)),
            (&[in_ten_seconds], seconds(10)),
            (&["Sunday, 06-Nov-94 08:49:47 GMT"], seconds(10)),
            (&["Sun Nov  6 08:49:47 1994"], seconds(10)),
            (&["Sun, 06 Nov 1994 08:00:00 GMT"], seconds(0)),
            (&["5", "120", "7"], seconds(120)),
            (&["5", in_ten_seconds], seconds(10)),
            (&["soon", "7"], seconds(7)),
            (&["5, 120,7"], seconds(120)),
            (&["5, Sun, 06 Nov 1994 08:49:47 GMT, 3"], seconds(10)),
            (&[], None),
            (&["soon"], None),
            (&[""], None),
            (&[","], None),
            (&["."], None),
            (&["-1"], None),
            (&["+5"], None),
            (&["1e3"], None),
            (&["0x10"], None),
            (&["5s"], None),
            (&["1.5.1"], None),
            (&["٣"], None),
        ] {
            assert_eq!(retry_after(status, headers), pause, "{headers:?}");
        }
    }
}

#[test]
fn a_422_always_leads_to_a_pause() {
    let past = "Sun, 06 Nov 1994 08:00:00 GMT";
    for (headers, seconds) in [(&[][..], 60), (&["0"], 60), (&[past], 60), (&["7"], 7)] {
        match classify(&response(422, headers, b"")) {
            ResponseClass::RetriesExhausted { pause, .. } => assert_eq!(pause.as_secs(), seconds, "{headers:?}"),
            other => panic!("{}", other.as_str()),
        }
    }
}

proptest! {
    #[test]
    fn no_response_causes_a_panic_or_a_long_message(
        status in any::<u16>(),
        retry_after in prop::collection::vec(".{0,40}", 0..3),
        body in prop::collection::vec(any::<u8>(), 0..2_000),
        is_whole in any::<bool>(),
    ) {
        let class = classify(&SendResult::Response { status, retry_after, body, is_whole });
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
