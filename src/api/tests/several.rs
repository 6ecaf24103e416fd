//! Several customers in one `POST /customers`: an outcome for each, one status, and what is counted.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Answer, CODES, Mood, Relay, SegmentError, post};
use crate::api::body::{MAX_BODY, MAX_LARGE_BODY};
use crate::customer::MAX_CUSTOMERS;
use crate::segment::{ErrorCode, KeyKind};

fn customer(user: &str) -> Value {
    json!({"userId": user, "traits": {"plan": "pro"}})
}

fn lines(body: impl Into<Body>) -> Request<Body> {
    Request::post("/customers").header("content-type", "application/x-ndjson").body(body.into()).unwrap()
}

/// One request with customers of these users, as an array.
async fn post_users(relay: &Relay, users: &[&str]) -> Answer {
    let customers: Vec<Value> = users.iter().map(|user| customer(user)).collect();
    relay.send(post(Full::from(Value::from(customers).to_string()))).await
}

fn users(relay: &Relay) -> Vec<String> {
    relay.segment.lock().received.iter().map(|(user, _)| user.clone()).collect()
}

/// The statuses of the results.
fn statuses(answer: &Answer) -> Vec<u64> {
    let json = answer.json();
    json["results"].as_array().unwrap().iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

/// What the fake does with these users.
fn with_moods(relay: &Relay, moods: impl IntoIterator<Item = (&'static str, Mood)>) {
    relay.segment.lock().moods.extend(moods);
}

fn fails(code: ErrorCode, pause: Option<u64>) -> Mood {
    let error = SegmentError::new(code, "no");
    Mood::Fails(SegmentError { retry_after: pause.map(Duration::from_secs), ..error })
}

#[tokio::test]
async fn an_array_and_lines_have_an_outcome_for_each_customer_in_order() {
    let array = post(Full::from(format!(" [{}, {}]", customer("a"), customer("b"))));
    let two_lines = lines(format!("{}\r\n\n{}\n", customer("a"), customer("b")));
    for request in [array, two_lines] {
        let relay = Relay::new(2);
        let answer = relay.send(request).await;
        let results = json!([{"status": 200, "messageId": "m-1"}, {"status": 200, "messageId": "m-2"}]);
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"success": true, "results": results})));
        assert_eq!(users(&relay), ["a", "b"]);
        assert_eq!(relay.counted("accepted").await, Some(2));
    }
}

#[tokio::test]
async fn stored_customers_are_202_and_one_repeated_key_says_so() {
    let relay = Relay::new(2);
    relay.segment_is(Mood::Stores);
    with_moods(&relay, [("old", Mood::StoredBefore), ("sent", Mood::Accepts)]);
    let answer = post_users(&relay, &["new", "old", "sent"]).await;
    assert_eq!((answer.status.as_u16(), statuses(&answer)), (202, vec![202, 202, 200]));
    let replayed = json!({"status": 202, "messageId": "m-1", "replayed": true});
    assert_eq!((&answer.json()["results"][1], answer.header("idempotent-replayed")), (&replayed, None));
    assert_eq!((relay.counted("stored").await, relay.counted("accepted").await), (Some(2), Some(1)));
    assert_eq!(post_users(&relay, &["old", "old"]).await.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn what_is_wrong_with_one_customer_concerns_no_other() {
    let relay = Relay::new(2);
    with_moods(&relay, [("refused", fails(ErrorCode::Rejected, None))]);
    let large = json!({"userId": "large", "traits": {"a": "x".repeat(MAX_BODY)}});
    let body = format!("{}\nno\n{{}}\n{}\n{large}\n{}\n", customer("a"), customer("refused"), customer("b"));
    let answer = relay.send(lines(body)).await;
    assert_eq!((answer.status.as_u16(), statuses(&answer)), (422, vec![200, 400, 422, 422, 413, 200]));
    let json = answer.json();
    assert_eq!(json["success"], false);
    let failure = json!({"status": 400, "code": "invalid_json", "message": "expected a JSON value at line 2 column 1"});
    assert_eq!(json["results"][1], failure);
    let broken = &json["results"][2];
    let fields = [0, 1].map(|index| broken["details"][index]["field"].as_str().unwrap());
    assert_eq!((broken["code"].as_str(), fields), (Some("invalid_payload"), ["/userId", "/traits"]));
    assert_eq!(json["results"][3], json!({"status": 422, "code": "segment_rejected", "message": "no"}));
    assert_eq!(json["results"][4]["code"], "message_too_large");
    assert_eq!(users(&relay), ["a", "refused", "b"]);
    for code in ["invalid_json", "invalid_payload", "segment_rejected", "message_too_large"] {
        assert_eq!(relay.counted(code).await, Some(1), "{code}");
    }
    assert_eq!(relay.counted("accepted").await, Some(2));
}

#[tokio::test]
async fn the_first_5xx_is_the_status_and_the_longest_pause_is_told() {
    for (code, status, word, _) in CODES {
        let relay = Relay::new(2);
        with_moods(&relay, [("bad", fails(code, None)), ("later", fails(ErrorCode::RateLimited, Some(7)))]);
        let answer = post_users(&relay, &["a", "bad", "b"]).await;
        let expected = if status < 500 { 422 } else { status };
        assert_eq!((answer.status.as_u16(), &answer.json()["results"][1]["code"]), (expected, &json!(word)));
        assert_eq!(answer.header("retry-after"), None);
        let answer = post_users(&relay, &["bad", "later"]).await;
        let expected = if status < 500 { 503 } else { status };
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (expected, Some("7")), "{word}");
    }
}

#[tokio::test]
async fn an_array_that_is_not_json_as_a_whole_is_400_and_sends_nothing() {
    for body in ["[{]", "[1,]", "[{}", "[{}] []"] {
        let relay = Relay::new(2);
        let answer = relay.post(body).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (400, "invalid_json"), "{body}");
        assert!(relay.segment.lock().keys.is_empty());
        assert_eq!(relay.counted("invalid_json").await, Some(1));
    }
}

#[tokio::test]
async fn a_request_has_1_to_1000_customers() {
    let relay = Relay::new(200);
    let of = |count: usize| format!("[{}]", vec![customer("a").to_string(); count].join(","));
    let whole = relay.send(post(Full::from(of(MAX_CUSTOMERS)))).await;
    assert_eq!((whole.status.as_u16(), statuses(&whole).len()), (200, MAX_CUSTOMERS));
    let too_many = [post(Full::from(of(MAX_CUSTOMERS + 1))), lines("{}\n".repeat(MAX_CUSTOMERS + 1))];
    for request in [post(Full::from("[ ]")), lines(""), lines("\n \r\n")].into_iter().chain(too_many) {
        let answer = relay.send(request).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (422, "invalid_payload"));
        assert_eq!(answer.json()["error"]["details"][0]["field"], "");
    }
    assert_eq!(users(&relay).len(), MAX_CUSTOMERS);
}

#[tokio::test]
async fn several_customers_take_at_most_1_mib_and_one_still_64_kib() {
    let relay = Relay::new(200);
    let padded = |size: usize| format!("[{}{}]", customer("a"), " ".repeat(size - customer("a").to_string().len() - 2));
    assert_eq!(relay.send(post(Full::from(padded(MAX_LARGE_BODY)))).await.status, 200);
    for too_large in [
        post(Full::from(padded(MAX_LARGE_BODY + 1))),
        lines("\n".repeat(MAX_LARGE_BODY + 1)),
        post(Full::from(customer("a").to_string() + &" ".repeat(MAX_BODY))),
    ] {
        let answer = relay.send(too_large).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (413, "message_too_large"));
    }
    assert_eq!(users(&relay), ["a"]);
}

#[tokio::test]
async fn the_key_and_the_wish_to_wait_are_those_of_all_customers() {
    let relay = Relay::new(4);
    relay.segment.lock().stores = true;
    with_moods(&relay, [("full", fails(ErrorCode::Overloaded, Some(1))), ("no", fails(ErrorCode::Rejected, None))]);
    for (users, applied) in [(&["a", "full"][..], Some("wait=7")), (&["full"], None), (&["full", "no"], Some("wait=7"))]
    {
        let customers: Vec<Value> = users.iter().map(|user| customer(user)).collect();
        let mut request = post(Full::from(Value::from(customers).to_string()));
        request.headers_mut().insert("prefer", "wait=7".parse().unwrap());
        request.headers_mut().insert("webhook-id", "w-1".parse().unwrap());
        assert_eq!(relay.send(request).await.header("preference-applied"), applied, "{users:?}");
    }
    let segment = relay.segment.lock();
    assert_eq!(segment.waits, vec![Some(Duration::from_secs(7)); 3]);
    assert!(segment.keys.iter().flatten().all(|key| key.kind == KeyKind::WebhookId && key.value == b"w-1"));
    assert_eq!(segment.keys.len(), 3);
}

#[tokio::test]
async fn requests_with_several_customers_leave_half_of_the_places_to_others() {
    let relay = Relay::new(8);
    relay.segment_is(Mood::NeverAnswers);
    // Each takes its place, and as many more as half of all.
    let many: Vec<Value> = (0..MAX_CUSTOMERS).map(|number| customer(&format!("c-{number}"))).collect();
    let body = Value::from(many).to_string();
    let waiting = relay.service.clone();
    let mut first = Box::pin(tower::ServiceExt::oneshot(waiting, with_host(post(Full::from(body.clone())))));
    // The handler lets others go first now and then.
    while relay.segment.lock().received.len() < MAX_CUSTOMERS {
        assert!(futures_util::poll!(&mut first).is_pending());
    }
    let answer = relay.send(post(Full::from(body))).await;
    assert_eq!((answer.status.as_u16(), &*answer.code(), answer.header("retry-after")), (503, "overloaded", Some("1")));
    relay.segment_is(Mood::Accepts);
    assert_eq!(relay.post(super::ADA).await.status, 200);
    assert_eq!(post_users(&relay, &["a", "b"]).await.status, 200, "few need no further places");
    drop(first);
    assert!(relay.get("/metrics").await.text.contains("segment_relay_requests_in_flight 0"));
}

fn with_host(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("host", "relay".parse().unwrap());
    request
}
