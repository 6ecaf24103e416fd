//! The application over an in-memory Segment, through [`service`]: statuses, shapes, and what is never called.

mod admin;
mod calls;
mod layers;
mod parked;
mod replay;
mod several;
mod sources;
mod stored;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::{AppState, Routes, service};
use crate::customer::SegmentIdentifyPayload;
use crate::metrics::Metrics;
use crate::segment::{
    DeliveryState, ErrorCode, GroupTerms, IdempotencyKey, KeyKind, Receipt, SegmentClient, SegmentClients,
    SegmentError, SegmentGroup,
};
use crate::supervisor::Supervisor;

const ADA: &str = r#"{"userId":"c-1042","traits":{"email":"ada@example.com"}}"#;

/// What the fake does with what it gets.
#[derive(Clone, Default)]
enum Mood {
    #[default]
    Accepts,
    /// There is an outbox, and nobody heard of an outcome yet.
    Stores,
    /// The same for a key that was there already.
    StoredBefore,
    Fails(SegmentError),
    NeverAnswers,
    Panics,
}

impl Mood {
    /// The outcome of the call of this number.
    async fn outcome(self, number: usize) -> Result<Receipt, SegmentError> {
        let stored = |message_id, replayed| Receipt { message_id, state: DeliveryState::Stored, replayed };
        match self {
            Self::Accepts => Ok(Receipt::accepted(format!("m-{number}"))),
            Self::Stores => Ok(stored(format!("m-{number}"), false)),
            Self::StoredBefore => Ok(stored("m-1".to_owned(), true)),
            Self::Fails(error) => Err(error),
            Self::NeverAnswers => std::future::pending().await,
            Self::Panics => panic!("on purpose"),
        }
    }
}

/// Segment and the way to it, in memory.
#[derive(Default)]
struct FakeSegment {
    mood: Mood,
    /// Whether there is an outbox before it.
    stores: bool,
    waits: Vec<Option<Duration>>,
    keys: Vec<Option<IdempotencyKey>>,
    received: Vec<(String, String)>,
    /// What the fake does with single users of a request with several customers.
    moods: HashMap<&'static str, Mood>,
}

struct Fake(Arc<Mutex<FakeSegment>>);

#[async_trait]
impl SegmentClient for Fake {
    fn identify(&mut self, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let call = (payload.user_id.clone().into_owned(), payload.traits.as_json().to_owned());
        self.0.lock().received.push(call);
        Ok(())
    }

    async fn flush(&mut self) -> Result<Receipt, SegmentError> {
        let (mood, count) = {
            let segment = self.0.lock();
            (segment.mood.clone(), segment.received.len())
        };
        mood.outcome(count).await
    }

    async fn close_and_flush(mut self: Box<Self>) -> Result<(), SegmentError> {
        self.flush().await.map(|_receipt| ())
    }
}

/// A client of the fake, and what it does with each customer that it got.
struct FakeGroup(Fake, Vec<Mood>);

#[async_trait]
impl SegmentGroup for FakeGroup {
    fn identify(&mut self, _place: usize, payload: &SegmentIdentifyPayload<'_>) -> Result<(), SegmentError> {
        let segment = self.0.0.lock();
        self.1.push(segment.moods.get(&*payload.user_id).unwrap_or(&segment.mood).clone());
        drop(segment);
        self.0.identify(payload)
    }

    async fn flush(&mut self) -> Vec<Result<Receipt, SegmentError>> {
        let mut outcomes = Vec::new();
        for (index, mood) in self.1.drain(..).enumerate() {
            outcomes.push(mood.outcome(index + 1).await);
        }
        outcomes
    }
}

impl SegmentClients for Fake {
    fn open(&self, _deadline: Instant, key: Option<IdempotencyKey>, wait: Option<Duration>) -> Box<dyn SegmentClient> {
        self.0.lock().keys.push(key);
        self.0.lock().waits.push(wait);
        Box::new(Self(self.0.clone()))
    }

    fn open_group(&self, terms: GroupTerms) -> Box<dyn SegmentGroup> {
        let segment = &mut *self.0.lock();
        segment.keys.push(terms.key);
        segment.waits.push(terms.wait);
        Box::new(FakeGroup(Self(self.0.clone()), Vec::new()))
    }

    fn stores(&self) -> bool {
        self.0.lock().stores
    }
}

/// The application with everything it shares in reach.
struct Relay {
    service: BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>,
    segment: Arc<Mutex<FakeSegment>>,
    supervisor: Supervisor,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Relay {
    fn new(max_in_flight: usize) -> Self {
        Self::with(max_in_flight, |state| state)
    }

    /// With what `add` adds to the edge.
    fn with(max_in_flight: usize, add: impl FnOnce(AppState) -> AppState) -> Self {
        let (segment, supervisor) = (Arc::<Mutex<FakeSegment>>::default(), Supervisor::new());
        let metrics = Arc::new(Metrics::new().unwrap());
        let clients = Arc::new(Fake(segment.clone()));
        let state = AppState::new(clients, metrics, supervisor.clone(), Duration::from_secs(10), max_in_flight);
        Self {
            service: BoxCloneSyncService::new(service(Arc::new(add(state)), Routes::All, true)),
            segment,
            supervisor,
        }
    }

    /// Sends a request, whose host is `relay` unless it has another.
    async fn send(&self, mut request: Request<Body>) -> Answer {
        request.headers_mut().entry("host").or_insert(axum::http::HeaderValue::from_static("relay"));
        let (head, body) = self.service.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn post(&self, body: &'static str) -> Answer {
        self.send(post(Full::from(body))).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    fn segment_is(&self, mood: Mood) {
        self.segment.lock().mood = mood;
    }

    /// `outcome`'s count, as the metrics show it; none if they do not.
    async fn counted(&self, outcome: &str) -> Option<u64> {
        let metrics = self.get("/metrics").await.text;
        let label = match outcome {
            "accepted" | "stored" => format!("result=\"{outcome}\""),
            code => format!("code=\"{code}\""),
        };
        let mut requests = metrics.lines().filter(|line| line.starts_with("segment_relay_requests_total{"));
        requests.find(|line| line.contains(&label))?.split_once("} ")?.1.parse().ok()
    }
}

fn post(body: impl axum::body::HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static) -> Request<Body> {
    Request::post("/customers").header("content-type", "application/json").body(Body::new(body)).unwrap()
}

/// Every code that a client can return, its status, and whether the answer has `Retry-After`.
const CODES: [(ErrorCode, u16, &str, bool); 14] = [
    (ErrorCode::InvalidPayload, 422, "invalid_payload", false),
    (ErrorCode::MessageTooLarge, 413, "message_too_large", false),
    (ErrorCode::NotConfigured, 500, "not_configured", false),
    (ErrorCode::Overloaded, 503, "overloaded", true),
    (ErrorCode::Rejected, 422, "segment_rejected", false),
    (ErrorCode::GaveUp, 422, "gave_up", false),
    (ErrorCode::Unauthorized, 502, "segment_unauthorized", false),
    (ErrorCode::Misconfigured, 502, "segment_misconfigured", false),
    (ErrorCode::Unavailable, 502, "segment_unavailable", true),
    (ErrorCode::RateLimited, 503, "segment_rate_limited", true),
    (ErrorCode::Timeout, 504, "segment_timeout", true),
    (ErrorCode::ShuttingDown, 503, "shutting_down", true),
    (ErrorCode::KeyReused, 422, "idempotency_key_reused", false),
    (ErrorCode::OutboxTimeout, 504, "outbox_timeout", true),
];

#[tokio::test]
async fn an_accepted_customer_is_answered_200_and_was_handed_to_the_injected_client() {
    let relay = Relay::new(1);
    let answer = relay.post(ADA).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"success": true, "messageId": "m-1"}));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-request-id").is_some());
    let traits = r#"{"email":"ada@example.com"}"#;
    assert_eq!(relay.segment.lock().received, [("c-1042".to_owned(), traits.to_owned())]);
}

#[tokio::test]
async fn the_callers_ids_go_to_the_client_and_come_back() {
    let relay = Relay::new(1);
    let mut request = post(Full::from(ADA));
    request.headers_mut().insert("x-request-id", "r-7".parse().unwrap());
    request.headers_mut().insert("webhook-id", "w-1".parse().unwrap());
    assert_eq!(relay.send(request).await.header("x-request-id"), Some("r-7"));
    relay.post(ADA).await;
    let keys = std::mem::take(&mut relay.segment.lock().keys);
    let kinds: Vec<_> = keys.into_iter().map(|key| key.map(|key| (key.kind, key.value))).collect();
    assert_eq!(kinds, [Some((KeyKind::WebhookId, b"w-1".to_vec())), None]);
}

#[tokio::test]
async fn each_code_of_a_client_has_its_status_and_its_retry_after() {
    let relay = Relay::new(1);
    for (code, status, name, comes_back) in CODES {
        let error = SegmentError::new(code, "Segment's \"own\" words").retry_after(Duration::from_millis(1_200));
        relay.segment_is(Mood::Fails(error));
        let answer = relay.post(ADA).await;
        assert_eq!(answer.status, status, "{name}");
        let expected = json!({"success": false, "error": {"message": "Segment's \"own\" words", "code": name}});
        assert_eq!(answer.json(), expected);
        assert_eq!(answer.header("retry-after"), comes_back.then_some("2"), "{name}: whole seconds, never early");
    }
}

#[tokio::test]
async fn nothing_is_called_for_a_customer_that_breaks_the_rules() {
    let relay = Relay::new(1);
    let answer = relay.post(r#"{"userId":" ","traits":{"email":7},"plan":"pro"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "invalid_payload"));
    let details = answer.json()["error"]["details"].take();
    let fields: Vec<_> = details.as_array().unwrap().iter().map(|rule| rule["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["/userId", "/traits/email", "/plan"]);
    for body in ["", "{", "[]", "null", r#"{"userId":"c-1"}"#] {
        assert!(relay.post(body).await.status.is_client_error(), "{body}");
    }
    assert!(relay.segment.lock().keys.is_empty(), "a client was opened");
}

#[tokio::test(start_paused = true)]
async fn every_outcome_is_in_the_metrics_before_it_happens_and_counted_when_it_does() {
    let relay = Relay::new(0);
    assert_eq!(counted_by(&relay, post(Full::from(ADA)), "overloaded").await, 503);
    let relay = Relay::new(1);
    let too_large = " ".repeat(64 * 1024 + 1);
    let silence = futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, std::io::Error>>();
    let text = Request::post("/customers").header("content-type", "text/plain").body(Body::from(ADA)).unwrap();
    let get = Request::get("/customers").body(Body::empty()).unwrap();
    for (request, outcome, status) in [
        (post(Full::from(ADA)), "accepted", 200),
        (post(Full::from("{")), "invalid_json", 400),
        (post(Full::from("{}")), "invalid_payload", 422),
        (post(Full::from(too_large)), "message_too_large", 413),
        (post(StreamBody::new(silence)), "request_timeout", 408),
        (text, "unsupported_media_type", 415),
        (get, "method_not_allowed", 405),
    ] {
        assert_eq!(counted_by(&relay, request, outcome).await, status, "{outcome}");
    }
    // The service does not start without a write key.
    for (code, status, name, _) in CODES.into_iter().filter(|(code, ..)| *code != ErrorCode::NotConfigured) {
        let relay = Relay::new(1);
        relay.segment_is(Mood::Fails(SegmentError::new(code, "no")));
        assert_eq!(counted_by(&relay, post(Full::from(ADA)), name).await, status, "{name}");
    }
    let relay = Relay::new(1);
    relay.supervisor.cancel();
    assert_eq!(counted_by(&relay, post(Full::from(ADA)), "shutting_down").await, 503);
}

/// Sends the request, sees its outcome counted from 0 to 1, and returns the status.
async fn counted_by(relay: &Relay, request: Request<Body>, outcome: &str) -> u16 {
    assert_eq!(relay.counted(outcome).await, Some(0), "{outcome} is not there before it happens");
    let answer = relay.send(request).await;
    assert_eq!(relay.counted(outcome).await, Some(1), "{outcome}");
    answer.status.as_u16()
}

#[tokio::test]
async fn a_caller_who_leaves_gives_the_place_back() {
    let relay = Relay::new(1);
    relay.segment_is(Mood::NeverAnswers);
    {
        let mut waiting = Box::pin(relay.post(ADA));
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        assert_eq!(relay.segment.lock().received.len(), 1, "the first has the place");
        assert!(relay.get("/metrics").await.text.contains("segment_relay_requests_in_flight 1"));
        let second = relay.post(ADA).await;
        assert_eq!((second.status.as_u16(), second.code().as_str()), (503, "overloaded"));
        assert_eq!(second.header("retry-after"), Some("1"));
    }
    assert!(relay.get("/metrics").await.text.contains("segment_relay_requests_in_flight 0"));
    relay.segment_is(Mood::Accepts);
    assert_eq!(relay.post(ADA).await.status, 200);
    assert_eq!(relay.segment.lock().received.len(), 2, "the one without a place was never handed over");
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_answered_in_the_same_shape() {
    let relay = Relay::new(1);
    let nowhere = relay.get("/customer").await;
    assert_eq!((nowhere.status.as_u16(), nowhere.code().as_str()), (404, "not_found"));
    let method = relay.get("/customers").await;
    assert_eq!((method.status.as_u16(), method.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(method.header("allow"), Some("POST"));
    for answer in [nowhere, method] {
        assert_eq!(answer.json()["success"], false);
        assert!(answer.header("x-request-id").is_some());
    }
}

#[tokio::test]
async fn readiness_ends_when_the_process_is_told_to_stop_and_customers_are_still_served() {
    let relay = Relay::new(1);
    assert_eq!(relay.get("/readyz").await.json(), json!({"status": "ok"}));
    relay.supervisor.stop();
    let ready = relay.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["reasons"]), (503, &json!(["shutting down"])));
    assert_eq!(relay.get("/healthz").await.json(), json!({"status": "ok"}));
    assert_eq!(relay.post(ADA).await.status, 200);
    relay.supervisor.cancel();
    let late = relay.post(ADA).await;
    assert_eq!((late.code().as_str(), late.header("retry-after")), ("shutting_down", Some("1")));
}
