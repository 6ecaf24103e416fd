//! `/sources/{name}` over filters, a store of events and a Segment in memory: each outcome, handshake and refusal.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, Method, Request};
use serde_json::json;
use tokio::time::timeout;

use super::{Answer, CODES, Mood, Relay};
use crate::auth::{Challenge, Scheme, Verifier};
use crate::config::{Secret, WriteKeys};
use crate::outbox::OutboxError;
use crate::segment::{ErrorCode, KeyKind, MessageIds, SegmentError};
use crate::sources::Sources;
use crate::sources::mapping::MapError;
use crate::sources::settings::{KeyPart, OnError, SourceSettings};
use crate::sources::test_sources::{FakeEvents, FakeFilters, source};

const ADA: &str = r#"{"userId":"c-1042","traits":{"email":"ada@example.com"}}"#;
const BOB: &str = r#"{"userId":"c-1043","traits":{}}"#;

/// A relay with one source, whose filter and store of events are in reach.
struct Shop {
    relay: Relay,
    filters: Arc<FakeFilters>,
    events: Arc<FakeEvents>,
}

impl Shop {
    /// With an outbox, in which events are kept.
    fn new(settings: SourceSettings) -> Self {
        Self::with(settings, 8, true)
    }

    fn with(settings: SourceSettings, max_in_flight: usize, has_outbox: bool) -> Self {
        let filters = FakeFilters::making(Ok(vec![ADA]));
        let events = Arc::<FakeEvents>::default();
        let ids = MessageIds::new(&WriteKeys::new(Secret::new("wk"))).unwrap();
        let (shared, kept) = (filters.clone(), events.clone());
        let relay = Relay::with(max_in_flight, |state| {
            let kept = has_outbox.then_some(kept as _);
            let sources = Sources::new([Arc::new(settings)], shared, kept, ids, state.metrics.clone());
            state.with_sources(Arc::new(sources))
        });
        relay.segment_is(if has_outbox { Mood::Stores } else { Mood::Accepts });
        relay.segment.lock().stores = has_outbox;
        Self { relay, filters, events }
    }

    fn filter_makes(&self, made: Result<Vec<&'static str>, MapError>) {
        *self.filters.0.lock() = made;
    }

    async fn post(&self, body: &'static str) -> Answer {
        self.relay.send(event(body)).await
    }

    async fn send(&self, request: axum::http::request::Builder, body: &'static str) -> Answer {
        self.relay.send(request.body(Body::from(body)).unwrap()).await
    }

    /// The number of events with this outcome.
    async fn counted(&self, outcome: &str) -> u64 {
        let text = self.relay.get("/metrics").await.text;
        let start = format!("segment_relay_source_events_total{{outcome=\"{outcome}\",source=\"shop\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    }
}

fn event(body: &'static str) -> Request<Body> {
    Request::post("/sources/shop").body(Body::from(body)).unwrap()
}

fn refusing() -> SourceSettings {
    SourceSettings { on_error: Some(OnError::Refuse), ..source("shop") }
}

#[tokio::test]
async fn one_or_many_customers_of_an_event_are_stored_and_told_together() {
    let shop = Shop::new(source("shop"));
    shop.filter_makes(Ok(vec![ADA, BOB]));
    let answer = shop.post("{}").await;
    assert_eq!(answer.status, 202);
    let stored = |id| json!({"messageId": id, "status": "stored"});
    assert_eq!(answer.json(), json!({"success": true, "results": [stored("m-1"), stored("m-2")]}));
    let users: Vec<_> = shop.relay.segment.lock().received.iter().map(|(user, _)| user.clone()).collect();
    assert_eq!(users, ["c-1042", "c-1043"]);
    assert_eq!((shop.counted("mapped").await, shop.counted("none").await), (1, 0));
    let slash = shop.send(Request::post("/sources/shop/"), "{}").await;
    assert_eq!(slash.status, 202, "a slash at the end does not count");
}

#[tokio::test]
async fn without_an_outbox_the_answer_comes_from_segment() {
    let shop = Shop::with(source("shop"), 8, false);
    let answer = shop.post("{}").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, json!({"success": true, "results": [{"messageId": "m-1"}]}))
    );
}

#[tokio::test]
async fn a_sender_that_knows_one_status_alone_hears_it() {
    let shop = Shop::new(SourceSettings { answer: Some(200), ..source("shop") });
    assert_eq!(shop.post("{}").await.status, 200);
    shop.filter_makes(Err(MapError::TimedOut));
    assert_eq!(shop.post("{}").await.status, 200);
}

#[tokio::test]
async fn an_event_without_a_customer_is_a_success() {
    let shop = Shop::new(SourceSettings { answer: Some(202), ..source("shop") });
    shop.filter_makes(Ok(vec![]));
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"success": true, "customers": 0})));
    assert_eq!(shop.counted("none").await, 1);
    assert!(shop.relay.segment.lock().keys.is_empty(), "no client was opened");
}

#[tokio::test]
async fn the_key_of_an_event_makes_the_ids_of_its_customers() {
    let id = HeaderName::from_static("x-id");
    let shop =
        Shop::new(SourceSettings { key: vec![KeyPart::Header(id), KeyPart::Body("/n".to_owned())], ..source("shop") });
    shop.send(Request::post("/sources/shop").header("x-id", "e-1"), r#"{"n":7}"#).await;
    shop.post(r#"{"n":7}"#).await;
    let keys = std::mem::take(&mut shop.relay.segment.lock().keys);
    let keys: Vec<_> = keys.into_iter().map(|key| key.map(|key| (key.kind, key.value))).collect();
    assert_eq!(keys, [Some((KeyKind::Event, br#"["e-1",7]"#.to_vec())), None]);
}

#[tokio::test]
async fn what_makes_no_valid_customers_is_kept_and_answered_as_a_success_without_the_reason() {
    let shop = Shop::new(source("shop"));
    let words = MapError::Failed("cannot index \"canary\"".to_owned());
    for (made, body, reason) in [
        (Err(words), "{}", "cannot index \"canary\""),
        (Ok(vec![ADA, r#"{"userId":7,"traits":{}}"#]), "{}", "/1/userId must be a string; it is a number"),
        (Ok(vec!["NaN"]), "{}", "/0 is not JSON that the relay takes"),
        (Ok(vec![ADA]), "canary", "the body is not JSON that the relay takes"),
    ] {
        shop.filter_makes(made);
        let answer = shop.post(body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (202, json!({"success": true, "customers": 0, "kept": true}))
        );
        let (_, kept) = shop.events.kept.lock().pop().unwrap();
        assert_eq!((&*kept.source, &*kept.body), ("shop", body.as_bytes()));
        assert!(kept.reason.contains(reason), "{}", kept.reason);
    }
    assert_eq!(shop.counted("unmapped").await, 4);
    assert!(shop.relay.segment.lock().received.is_empty(), "the sound customer of the second event was not sent");
}

#[tokio::test]
async fn a_kept_event_has_the_headers_that_hold_no_secret_and_its_key() {
    let verifier = Verifier::new(
        &Scheme::Token { header: HeaderName::from_static("x-token") },
        &["a-token-of-the-shop".to_owned()],
        None,
    );
    let verifier = verifier.unwrap_or_else(|problems| panic!("{problems:?}"));
    let key = vec![KeyPart::Header(HeaderName::from_static("x-id"))];
    let shop = Shop::new(SourceSettings { verifier, key, ..source("shop") });
    shop.filter_makes(Err(MapError::OutOfMemory));
    for _ in 0..2 {
        let request =
            Request::post("/sources/shop").header("x-token", "a-token-of-the-shop").header("cookie", "canary");
        let request =
            request.header("authorization", "canary").header("x-large", "x".repeat(16_384)).header("X-Id", "e-1");
        assert_eq!(shop.send(request, "{}").await.status, 202);
    }
    let kept = shop.events.kept.lock();
    assert_eq!(kept.len(), 1, "the repeat is not kept again");
    let names: Vec<_> = kept[0].1.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-id", "host"]);
    assert!(kept[0].1.key.is_some());
}

#[tokio::test]
async fn where_events_are_refused_the_sender_hears_what_is_wrong_but_not_the_filters_words() {
    let shop = Shop::new(refusing());
    shop.filter_makes(Err(MapError::Failed("canary".to_owned())));
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "filter_failed"));
    assert!(!answer.text.contains("canary"));
    shop.filter_makes(Ok(vec![BOB, r#"{"userId":"c-1","traits":{"email":1}}"#]));
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "invalid_payload"));
    assert_eq!(answer.json()["error"]["details"][0]["field"], "/1/traits/email");
    let answer = shop.post("{").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_json"));
    assert_eq!(shop.counted("refused").await, 3);
    assert!(shop.events.kept.lock().is_empty());
    let shop = Shop::with(source("shop"), 8, false);
    shop.filter_makes(Err(MapError::Crashed));
    assert_eq!(shop.post("{}").await.code(), "filter_failed", "nothing is kept without an outbox");
}

#[tokio::test]
async fn a_key_that_came_with_another_customer_is_kept_or_refused() {
    let reused = Mood::Fails(SegmentError::new(ErrorCode::KeyReused, "no"));
    let shop = Shop::new(source("shop"));
    shop.relay.segment_is(reused.clone());
    assert_eq!(shop.post("{}").await.json()["kept"], true);
    assert_eq!(shop.events.kept.lock()[0].1.reason, "key reused");
    // Each further event under the key is kept, too, and once.
    let key = vec![KeyPart::Body("/id".to_owned())];
    let shop = Shop::new(SourceSettings { key, ..source("shop") });
    shop.relay.segment_is(reused.clone());
    for body in [r#"{"id":1,"a":1}"#, r#"{"id":1,"a":2}"#, r#"{"id":1,"a":1}"#, r#"{"id":1,"a":2}"#, r#"{"id":2}"#] {
        assert_eq!(shop.post(body).await.json()["kept"], true);
    }
    assert_eq!(shop.events.kept.lock().len(), 3);
    let shop = Shop::new(refusing());
    shop.relay.segment_is(reused);
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn the_repeat_of_an_event_whose_call_is_a_dead_letter_is_a_success_where_events_are_kept() {
    let refused = SegmentError { replayed: true, ..SegmentError::new(ErrorCode::Rejected, "canary") };
    let shop = Shop::new(source("shop"));
    shop.relay.segment_is(Mood::Fails(refused.clone()));
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (202, json!({"success": true, "customers": 0, "kept": true})));
    assert!(shop.events.kept.lock().is_empty(), "its call is kept already");
    let shop = Shop::new(refusing());
    shop.relay.segment_is(Mood::Fails(refused));
    assert_eq!(shop.post("{}").await.code(), "segment_rejected");
}

#[tokio::test]
async fn the_relays_own_trouble_is_always_an_error_after_which_the_sender_tries_again() {
    let shop = Shop::new(source("shop"));
    shop.filter_makes(Err(MapError::Overloaded));
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    shop.filter_makes(Err(MapError::TimedOut));
    *shop.events.trouble.lock() = Some(OutboxError::Full);
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "overloaded"));
    shop.filter_makes(Ok(vec![ADA]));
    for (code, status, name, _) in CODES.into_iter().filter(|(_, status, ..)| *status >= 500) {
        shop.relay.segment_is(Mood::Fails(SegmentError::new(code, "no")));
        let answer = shop.post("{}").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, name));
    }
    assert!(shop.events.kept.lock().is_empty());
    assert_eq!(shop.counted("failed").await, 11);
    shop.relay.supervisor.cancel();
    assert_eq!(shop.post("{}").await.code(), "shutting_down");
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_filter_is_not_done_in_time_is_not_taken() {
    let shop = Shop::new(source("shop"));
    let hanging = shop.filters.hang();
    let answer = shop.post("{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "overloaded"));
    drop(hanging);
    assert_eq!(shop.post("{}").await.status, 202);
}

#[tokio::test]
async fn one_source_has_a_quarter_of_the_places_and_leaves_the_others_to_strangers() {
    let shop = Shop::with(source("shop"), 4, true);
    let _hanging = shop.filters.hang();
    let mut waiting = Box::pin(shop.post("{}"));
    assert!(timeout(Duration::ZERO, &mut waiting).await.is_err(), "it has its place");
    let second = shop.post("{}").await;
    assert_eq!((second.status.as_u16(), second.code().as_str()), (503, "overloaded"));
    assert!(second.text.contains("too many requests of this source"), "{}", second.text);
    assert_eq!(shop.relay.post(ADA).await.status, 202, "a stranger is served");
}

#[tokio::test]
async fn a_sender_must_prove_itself_before_anything_else_counts() {
    let verifier = Verifier::new(&Scheme::Bearer, &["a-token-of-the-shop".to_owned()], None).map_err(|_| ()).unwrap();
    let shop = Shop::new(SourceSettings { verifier, max_body: 10, ..source("shop") });
    for body in ["{}", "no json", "a body of more than ten bytes"] {
        let answer = shop.post(body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "unauthorized"));
        assert!(answer.header("www-authenticate").is_some());
    }
    assert_eq!(shop.counted("unauthorized").await, 3);
    let proven = || Request::post("/sources/shop").header("authorization", "Bearer a-token-of-the-shop");
    assert_eq!(shop.send(proven(), "{}").await.status, 202);
    assert_eq!(shop.send(proven().header("content-type", "text/plain"), "{}").await.status, 202);
    let coded = shop.send(proven().header("content-encoding", "gzip"), "{}").await;
    assert_eq!((coded.status.as_u16(), coded.header("accept-encoding")), (415, Some("identity")));
    assert_eq!(shop.send(proven(), "[1,2,3,4,5]").await.code(), "message_too_large");
    assert_eq!(shop.counted("refused").await, 2);
}

#[tokio::test]
async fn another_name_or_method_is_answered_in_the_same_shape() {
    let shop = Shop::new(source("shop"));
    for path in ["/sources/other", "/sources/", "/sources", "/sources/shop/x", "/sources/SHOP", "/sources/%ff"] {
        let answer = shop.send(Request::post(path), "{}").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "not_found"), "{path}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = shop.send(Request::builder().method(method).uri("/sources/shop"), "").await;
        assert_eq!((answer.code().as_str(), answer.header("allow")), ("method_not_allowed", Some("POST")));
    }
    assert_eq!(shop.send(Request::get("/sources/other"), "").await.status, 404);
}

#[tokio::test]
async fn a_get_with_the_header_of_a_challenge_is_answered_with_its_value_by_whoever_it_comes() {
    let header = HeaderName::from_static("x-okta-verification-challenge");
    let challenge = Challenge::Header { header, answer: "verification".to_owned() };
    let verifier = Verifier::new(&Scheme::Bearer, &["a-token-of-the-shop".to_owned()], None).map_err(|_| ()).unwrap();
    let shop = Shop::new(SourceSettings { challenge: Some(challenge), verifier, ..source("shop") });
    let asked = || Request::get("/sources/shop");
    let answer = shop.send(asked().header("x-okta-verification-challenge", "ab\"c"), "").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"verification": "ab\"c"})));
    assert_eq!(shop.send(asked(), "").await.code(), "bad_request");
    let put = shop.send(Request::put("/sources/shop"), "").await;
    assert_eq!(put.header("allow"), Some("GET,HEAD,POST"));
    assert_eq!(shop.post("{}").await.status, 401, "a POST proves its sender as ever");
    assert!(shop.relay.segment.lock().received.is_empty());
}

#[tokio::test]
async fn a_verified_body_with_a_challenge_is_answered_with_its_string() {
    let when = ("type".to_owned(), "url_verification".to_owned());
    let challenge = Challenge::Field { field: "challenge".to_owned(), when, answer: "challenge".to_owned() };
    let shop = Shop::new(SourceSettings { challenge: Some(challenge), ..source("shop") });
    let answer = shop.post(r#"{"token":"t","challenge":"3eZ","type":"url_verification"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"challenge": "3eZ"})));
    assert!(shop.relay.segment.lock().received.is_empty());
    for event in [r#"{"challenge":"3eZ","type":"event"}"#, r#"{"type":"url_verification","challenge":3}"#, "[]", "{"] {
        assert_eq!(shop.post(event).await.status, 202, "{event}");
    }
    assert_eq!(shop.counted("mapped").await, 3);
}

#[tokio::test]
async fn exactly_the_unsigned_form_of_a_challenge_is_a_success_and_stores_nothing() {
    let challenge = Challenge::Form { field: "webhook_id".to_owned() };
    let verifier = Verifier::new(&Scheme::Bearer, &["a-token-of-the-shop".to_owned()], None).map_err(|_| ()).unwrap();
    let shop = Shop::new(SourceSettings { challenge: Some(challenge), verifier, ..source("shop") });
    let form = |media_type: &str| Request::post("/sources/shop").header("content-type", media_type);
    let urlencoded = "application/x-www-form-urlencoded; charset=UTF-8";
    let answer = shop.send(form(urlencoded), "webhook_id=12345678901234567890").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"success": true, "customers": 0})));
    for other in
        ["webhook_id=", "webhook_id=123456789012345678901", "webhook_id=1&a=b", "webhook_id=x", "webhook_id", "", "{}"]
    {
        assert_eq!(shop.send(form(urlencoded), other).await.status, 401, "{other}");
    }
    assert_eq!(shop.send(form("application/json"), "webhook_id=1").await.status, 401);
    assert!(shop.relay.segment.lock().received.is_empty() && shop.events.kept.lock().is_empty());
    assert_eq!(shop.counted("unauthorized").await, 8);
}
