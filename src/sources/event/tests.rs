//! What comes of events, with filters that make what the test says.

use super::{EventError, Unmapped, check_customers, event_key, make_customers};
use crate::sources::mapping::{Event, MapError};
use crate::sources::settings::{KeyPart, SourceSettings};
use crate::sources::test_sources::{FakeFilters, event, own_payload, source};

const ADA: &str = r#"{"userId":"c-1042","traits":{"email":"ada@example.com"}}"#;

/// The users of the customers, or why there are none.
async fn users(
    source: &SourceSettings,
    body: &str,
    made: Result<Vec<&'static str>, MapError>,
) -> Result<Vec<String>, EventError> {
    let texts = make_customers(&*FakeFilters::making(made), source, event(body)).await?;
    let payloads = check_customers(source, &texts).map_err(EventError::Unmapped)?;
    Ok(payloads.iter().map(|payload| payload.user_id.clone().into_owned()).collect())
}

fn broken(outcome: Result<Vec<String>, EventError>) -> Vec<String> {
    let Err(EventError::Unmapped(Unmapped::Invalid(broken))) = outcome else { panic!("{outcome:?}") };
    broken.iter().map(|rule| rule.field.clone()).collect()
}

#[tokio::test]
async fn an_event_makes_none_one_or_many_customers() {
    let shop = source("shop");
    assert_eq!(users(&shop, "{}", Ok(vec![])).await, Ok(vec![]));
    assert_eq!(users(&shop, "[]", Ok(vec![ADA])).await, Ok(vec!["c-1042".to_owned()]));
    let two = users(&shop, "7", Ok(vec![ADA, r#"{"userId":"c-2","traits":{}}"#])).await;
    assert_eq!(two, Ok(vec!["c-1042".to_owned(), "c-2".to_owned()]));
}

#[tokio::test]
async fn every_broken_rule_of_every_customer_is_named_with_the_customers_place() {
    let bad = r#"{"userId":7,"traits":{"email":1}}"#;
    let outcome = users(&source("shop"), "{}", Ok(vec![ADA, bad, "NaN", r#""c-1""#])).await;
    assert_eq!(broken(outcome), ["/1/userId", "/1/traits/email", "/2", "/3"]);
    let many = users(&source("shop"), "{}", Ok(vec![bad; 1_000])).await;
    assert_eq!(broken(many).len(), 32);
}

#[tokio::test]
async fn without_a_filter_the_body_is_the_customer() {
    let own = own_payload("own");
    assert_eq!(users(&own, ADA, Ok(vec![])).await, Ok(vec!["c-1042".to_owned()]));
    assert_eq!(broken(users(&own, r#"{"userId":7,"traits":{}}"#, Ok(vec![])).await), ["/userId"]);
    let outcome = users(&own, "{", Ok(vec![])).await;
    assert!(matches!(outcome, Err(EventError::Unmapped(Unmapped::InvalidJson(_)))), "{outcome:?}");
}

#[tokio::test]
async fn a_body_that_is_no_json_does_not_reach_the_filter() {
    for body in ["", "a=b", r#"{"a":1,"a":2}"#, r#""\ud800""#, &"[".repeat(129)] {
        let outcome = users(&source("shop"), body, Ok(vec![ADA])).await;
        assert!(matches!(outcome, Err(EventError::Unmapped(Unmapped::InvalidJson(_)))), "{body}: {outcome:?}");
    }
}

#[tokio::test]
async fn only_a_full_queue_is_not_the_events_own_trouble() {
    assert_eq!(users(&source("shop"), "{}", Err(MapError::Overloaded)).await, Err(EventError::Overloaded));
    for error in [MapError::TimedOut, MapError::OutOfMemory, MapError::Crashed, MapError::TooMany] {
        let outcome = users(&source("shop"), "{}", Err(error.clone())).await;
        assert_eq!(outcome, Err(EventError::Unmapped(Unmapped::FilterFailed(error))));
    }
}

#[tokio::test]
async fn a_customer_that_is_too_large_for_a_call_is_found_before_anything_is_sent() {
    let large: &'static str =
        Box::leak(format!(r#"{{"userId":"c-1","traits":{{"a":"{}"}}}}"#, "x".repeat(32_768)).into_boxed_str());
    let outcome = users(&source("shop"), "{}", Ok(vec![ADA, large])).await;
    assert!(matches!(outcome, Err(EventError::Unmapped(Unmapped::TooLarge(_)))), "{outcome:?}");
}

#[test]
fn what_may_quote_an_event_is_not_in_a_debug_text() {
    let why = Unmapped::FilterFailed(MapError::Failed("cannot index \"ada@example.com\"".to_owned()));
    assert!(why.to_string().contains("ada@"));
    assert_eq!(format!("{why:?}"), "Unmapped(filter_failed)");
}

fn key(parts: &[KeyPart], headers: &[(&str, &[u8])], body: &str) -> Option<String> {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    let key = event_key(parts, &Event { headers, ..event(body) })?;
    Some(String::from_utf8(key.value).unwrap())
}

fn header(name: &'static str) -> KeyPart {
    KeyPart::Header(axum::http::HeaderName::from_static(name))
}

fn body(pointer: &str) -> KeyPart {
    KeyPart::Body(pointer.to_owned())
}

#[test]
fn a_key_is_the_values_of_its_parts_as_a_json_array() {
    let parts = [header("x-topic"), body("/id"), body("/data/0/a~1b~0")];
    let found =
        key(&parts, &[("x-topic", b" orders/\"new\" ")], r#"{"data":[{"a/b~":"\u00e9"}],"id":12345678901234567890}"#);
    assert_eq!(found.unwrap(), r#"["orders/\"new\"",12345678901234567890,"é"]"#);
    assert_eq!(key(&[body("")], &[], " \"x\" ").unwrap(), r#"["x"]"#);
    assert_eq!(key(&[body("/n")], &[], r#"{"n" : -1.50e3 }"#).unwrap(), "[-1.50e3]");
    assert_eq!(key(&[header("x-id")], &[("x-id", b"\xe9")], "{}").unwrap(), r#"["é"]"#);
    assert_eq!(key(&[header("x-id")], &[("x-id", b"1"), ("x-id", b"2")], "no json").unwrap(), r#"["1"]"#);
}

#[test]
fn a_key_with_a_missing_or_blank_part_is_none() {
    assert_eq!(key(&[], &[], "{}"), None);
    for json in
        ["{}", r#"{"id":null}"#, r#"{"id":" "}"#, r#"{"id":""}"#, r#"{"id":[1]}"#, r#"{"id":true}"#, "[1]", "{", ""]
    {
        assert_eq!(key(&[body("/id")], &[], json), None, "{json}");
        assert_eq!(key(&[header("x-id"), body("/id")], &[("x-id", b"1")], json), None, "{json}");
    }
    assert_eq!(key(&[header("x-id")], &[("x-id", b" ")], "{}"), None);
    for (pointer, json) in
        [("/01", "[1,2]"), ("/+1", "[1,2]"), ("/2", "[1,2]"), ("/-", "[1]"), ("/id/x", r#"{"id":1}"#)]
    {
        assert_eq!(key(&[body(pointer)], &[], json), None, "{pointer}");
    }
}
