//! The operator's endpoints over dead letters in memory: who gets in, what each does, and what each says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Answer, Relay};
use crate::api::{AdminState, DurationSummary, OutboxReport, ParkedReport, SegmentReport, ShutGate};
use crate::outbox::{DeadLetter, DeadLetters, LetterFilter, LetterIds, LetterPage, OutboxError};

const TOKEN: &str = "t0ken";

/// Dead letters in memory: ids, oldest first.
#[derive(Default)]
struct FakeLetters {
    ids: Mutex<Vec<i64>>,
    replayed: Mutex<Vec<i64>>,
    failure: Mutex<Option<OutboxError>>,
    hangs: Mutex<bool>,
}

impl FakeLetters {
    async fn state(&self) -> Result<(), OutboxError> {
        if *self.hangs.lock() {
            std::future::pending::<()>().await;
        }
        self.failure.lock().map_or(Ok(()), Err)
    }

    fn take(&self, id: i64) -> bool {
        let mut ids = self.ids.lock();
        let place = ids.iter().position(|there| *there == id);
        place.map(|place| ids.remove(place)).is_some()
    }
}

#[async_trait]
impl DeadLetters for FakeLetters {
    async fn list(&self, limit: usize, filter: LetterFilter) -> Result<LetterPage, OutboxError> {
        self.state().await?;
        let ids = self.ids.lock();
        let mut asked = ids.iter().rev().copied().filter(|id| filter.before.is_none_or(|before| *id < before));
        let letters: Vec<_> = asked.by_ref().take(limit).map(letter).collect();
        Ok(LetterPage { letters, next: asked.next().map(|id| id + 1) })
    }

    /// At most two at once.
    async fn find(&self, from: i64, limit: usize, filter: LetterFilter) -> Result<LetterIds, OutboxError> {
        self.state().await?;
        let ids = self.ids.lock();
        let asked = ids.iter().copied().filter(|id| *id >= from && filter.before.is_none_or(|before| *id < before));
        let ids: Vec<i64> = asked.take(limit.min(2)).collect();
        Ok(LetterIds { next: ids.last().map(|last| last + 1), events: Vec::new(), ids })
    }

    async fn replay(&self, mut ids: Vec<i64>) -> Result<u64, OutboxError> {
        self.state().await?;
        ids.retain(|id| self.take(*id));
        self.replayed.lock().extend(&ids);
        Ok(ids.len() as u64)
    }

    async fn discard(&self, ids: Vec<i64>) -> Result<u64, OutboxError> {
        self.state().await?;
        Ok(ids.into_iter().filter(|id| self.take(*id)).count() as u64)
    }
}

fn letter(id: i64) -> DeadLetter {
    DeadLetter {
        id,
        message_id: Some(format!("m-{id}")),
        user_id: Some("c-1042".to_owned()),
        why: "refused".to_owned(),
        source: None,
        call: Some(RawValue::from_string(r#"{"userId":"c-1042","traits":{"age":1e999}}"#.to_owned()).unwrap()),
        event: None,
        status: Some(400),
        reason: "no \"such\" user".to_owned(),
        attempts: 3,
        stored_at: "2026-11-22T06:28:00.000Z".to_owned(),
        refused_at: "2026-11-22T06:28:01.000Z".to_owned(),
    }
}

/// A relay with these dead letters.
fn with_letters(ids: impl IntoIterator<Item = i64>) -> (Relay, Arc<FakeLetters>) {
    let letters = Arc::new(FakeLetters { ids: Mutex::new(ids.into_iter().collect()), ..FakeLetters::default() });
    let admin = AdminState::new(TOKEN, Some(letters.clone()));
    (Relay::with(1, |state| state.with_admin(admin)), letters)
}

async fn ask_as(relay: &Relay, method: &str, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    relay.send(request.body(Body::empty()).unwrap()).await
}

async fn ask(relay: &Relay, method: &str, path: &str) -> Answer {
    ask_as(relay, method, path, Some("Bearer t0ken")).await
}

const ENDPOINTS: [(&str, &str, u16); 6] = [
    ("GET", "/dead-letters", 200),
    ("POST", "/dead-letters/1/replay", 202),
    ("DELETE", "/dead-letters/2", 204),
    ("POST", "/dead-letters/replay", 202),
    ("DELETE", "/dead-letters?all", 200),
    ("GET", "/status", 200),
];

#[tokio::test]
async fn only_who_shows_the_token_gets_in() {
    let (relay, letters) = with_letters([1, 2, 3]);
    let wrong = [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer t0ke"),
        Some("Bearer t0kens"),
        Some("Bearer T0KEN"),
        Some("Basic t0ken"),
        Some("t0ken"),
        Some("Bearert0ken"),
    ];
    for (method, path, _) in ENDPOINTS {
        for authorization in wrong {
            let answer = ask_as(&relay, method, path, authorization).await;
            let found = (answer.status.as_u16(), answer.code());
            assert_eq!(found, (401, "unauthorized".to_owned()), "{method} {path} {authorization:?}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer realm="), "{method} {path} {authorization:?}: {challenge}");
            assert!(answer.header("x-request-id").is_some());
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
    assert_eq!(ask_as(&relay, "PUT", "/dead-letters", None).await.status, 401, "a method that is not there, either");
    assert_eq!(*letters.ids.lock(), [1, 2, 3], "nothing was done");
    for scheme in ["Bearer t0ken", "bearer t0ken", "BEARER  t0ken "] {
        assert_eq!(ask_as(&relay, "GET", "/dead-letters", Some(scheme)).await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn every_endpoint_has_its_status_and_no_cache_keeps_it() {
    let (relay, _) = with_letters([1, 2, 3]);
    for (method, path, status) in ENDPOINTS {
        let answer = ask(&relay, method, path).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("x-request-id").is_some());
    }
    let method = ask(&relay, "POST", "/dead-letters").await;
    assert_eq!(
        (method.status.as_u16(), method.code(), method.header("allow")),
        (405, "method_not_allowed".to_owned(), Some("GET,HEAD,DELETE"))
    );
}

#[tokio::test]
async fn without_a_token_nothing_betrays_that_these_paths_exist() {
    let relay = Relay::new(1);
    for method in ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"] {
        let nowhere = ask(&relay, method, "/nowhere").await;
        for (_, path, _) in ENDPOINTS {
            let answer = ask(&relay, method, path).await;
            assert_eq!((answer.status, &answer.text), (nowhere.status, &nowhere.text), "{method} {path}");
            let names = |answer: &Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&answer), names(&nowhere), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn letters_come_newest_first_page_by_page() {
    let (relay, _) = with_letters(1..=5);
    let page = ask(&relay, "GET", "/dead-letters?limit=2").await;
    assert_eq!(page.header("content-type"), Some("application/json"));
    let newest = json!({
        "id": 5, "messageId": "m-5", "userId": "c-1042", "why": "refused", "source": null, "status": 400, "reason": "no \"such\" user", "attempts": 3,
        "storedAt": "2026-11-22T06:28:00.000Z", "refusedAt": "2026-11-22T06:28:01.000Z"
    });
    assert!(page.text.contains(r#""call":{"userId":"c-1042","traits":{"age":1e999}}"#), "verbatim: {}", page.text);
    let mut shown: Value = serde_json::from_str(&page.text.replace("1e999", "1")).unwrap();
    shown["deadLetters"][0].as_object_mut().unwrap().remove("call");
    assert_eq!((&shown["deadLetters"][0], &shown["next"]), (&newest, &json!(4)));
    for (query, ids, next) in [
        ("limit=2&before=4", &[3, 2][..], json!(2)),
        ("limit=2&before=2", &[1], Value::Null),
        ("limit=5", &[5, 4, 3, 2, 1], Value::Null),
        ("before=1", &[], Value::Null),
    ] {
        let page = ask(&relay, "GET", &format!("/dead-letters?{query}")).await.text.replace("1e999", "1");
        let page: Value = serde_json::from_str(&page).unwrap();
        let found: Vec<_> = page["deadLetters"].as_array().unwrap().iter().map(|l| l["id"].as_i64().unwrap()).collect();
        assert_eq!((&*found, &page["next"]), (ids, &next), "{query}");
    }
}

#[tokio::test]
async fn a_long_page_comes_in_pieces_and_is_whole() {
    let (relay, _) = with_letters(1..=1500);
    let text = ask(&relay, "GET", "/dead-letters?limit=1000").await.text.replace("1e999", "1");
    assert!(text.len() > 3 * 64 * 1024);
    let page: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((page["deadLetters"].as_array().unwrap().len(), &page["next"]), (1000, &json!(501)));
}

#[tokio::test]
async fn a_wrong_query_is_named() {
    let (relay, _) = with_letters([1]);
    for (query, word) in
        [("limit=0", "limit"), ("limit=1001", "limit"), ("before=x", "before"), ("page=2", "parameters")]
    {
        let answer = ask(&relay, "GET", &format!("/dead-letters?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "invalid_payload"), "{query}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(word), "{}", answer.text);
    }
}

#[tokio::test]
async fn letters_are_replayed_and_discarded_once() {
    let (relay, letters) = with_letters(1..=5);
    assert_eq!(ask(&relay, "POST", "/dead-letters/2/replay").await.json(), json!({"replayed": 1}));
    let discarded = ask(&relay, "DELETE", "/dead-letters/4").await;
    assert_eq!((discarded.status.as_u16(), &*discarded.text), (204, ""));
    for (method, path) in [
        ("POST", "/dead-letters/2/replay"),
        ("DELETE", "/dead-letters/4"),
        ("DELETE", "/dead-letters/four"),
        ("POST", "/dead-letters/99999999999999999999/replay"),
    ] {
        let answer = ask(&relay, method, path).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "not_found"), "{method} {path}");
    }
    assert_eq!(ask(&relay, "POST", "/dead-letters/replay").await.json(), json!({"replayed": 3}));
    assert_eq!(ask(&relay, "POST", "/dead-letters/replay").await.json(), json!({"replayed": 0}));
    assert_eq!(*letters.replayed.lock(), [2, 1, 3, 5]);
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_cannot_is_said_with_when_to_come_back() {
    let (relay, letters) = with_letters([1, 2]);
    for (failure, status, code) in [
        (OutboxError::Full, 503, "overloaded"),
        (OutboxError::Busy, 503, "overloaded"),
        (OutboxError::Away, 503, "overloaded"),
        (OutboxError::Unreadable, 503, "overloaded"),
        (OutboxError::Closed, 503, "shutting_down"),
        (OutboxError::Unconfirmed, 504, "outbox_timeout"),
    ] {
        *letters.failure.lock() = Some(failure);
        for (method, path, _) in &ENDPOINTS[..5] {
            let answer = ask(&relay, method, path).await;
            assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{failure:?} {method} {path}");
            assert!(answer.header("retry-after").is_some());
        }
        assert_eq!(ask(&relay, "GET", "/status").await.status, 200, "{failure:?}");
    }
    *letters.hangs.lock() = true;
    assert_eq!(ask(&relay, "GET", "/dead-letters").await.code(), "overloaded", "a request has an end");
}

#[tokio::test]
async fn without_an_outbox_there_are_no_dead_letters_but_a_status() {
    let relay = Relay::with(1, |state| state.with_admin(AdminState::new(TOKEN, None)));
    for (method, path, _) in &ENDPOINTS[..5] {
        let answer = ask(&relay, method, path).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (404, "not_found"));
        assert!(answer.text.contains("RELAY_OUTBOX_URL"), "{}", answer.text);
    }
    assert_eq!(ask(&relay, "GET", "/status").await.json()["outbox"], Value::Null);
}

#[tokio::test]
async fn the_status_says_how_the_relay_is() {
    let parked = ParkedReport { users: 2, calls: 3, bytes: 4 };
    let outbox = move || OutboxReport {
        waiting: 7,
        max_bytes: 9,
        parked,
        commit_ms: DurationSummary::default(),
        ..OutboxReport::default()
    };
    let shut = Some(ShutGate {
        code: "segment_unauthorized",
        shut_for: Duration::from_secs(60),
        opens_in: Duration::from_secs(5),
    });
    let segment = move || SegmentReport::new("https://api.segment.io/".to_owned(), 4, shut);
    let admin = AdminState::new(TOKEN, None).with_reports(segment, move || Some(outbox()));
    let relay = Relay::with(1, |state| state.with_admin(admin));
    relay.post(super::ADA).await;
    let status = ask(&relay, "GET", "/status").await.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["state"], "serving");
    assert_eq!((&status["requests"]["accepted"], &status["requests"]["stored"]), (&json!(1), &json!(0)));
    assert_eq!(
        (&status["callsWaiting"], &status["slotsBusy"], &status["requestsInFlight"]),
        (&json!(0), &json!(0), &json!(0))
    );
    let (segment, gate) = (&status["segment"], &status["segment"]["gate"]);
    assert_eq!((&segment["endpoint"], &segment["sending"]), (&json!("https://api.segment.io/"), &json!(false)));
    assert_eq!((&segment["failedInARow"], &segment["refusedSources"]), (&json!(4), &json!([])));
    assert_eq!((&gate["shut"], &gate["code"]), (&json!(true), &json!("segment_unauthorized")));
    let [_, since, until] = [&status["startedAt"], &gate["since"], &gate["until"]]
        .map(|time| time.as_str().unwrap().parse::<jiff::Timestamp>().expect("a time"));
    assert_eq!((until - since).get_seconds(), 65);
    let empty = json!({
        "waiting": 7, "oldestSeconds": null, "parked": {"users": 2, "calls": 3, "bytes": 4}, "storedTotal": 0,
        "deliveredTotal": 0, "refusedTotal": 0, "gaveUpTotal": 0, "deadLetters": 0, "deadLetterBytes": 0, "keys": 0, "bytes": 0, "maxBytes": 9, "trouble": null,
        "commitMs": {"count": 0, "mean": 0.0, "p50": 0.0, "p99": 0.0},
        "syncMs": {"count": 0, "mean": 0.0, "p50": 0.0, "p99": 0.0}, "unconfiguredSources": []
    });
    assert_eq!(status["sources"], json!([]));
    assert_eq!(status["outbox"], empty);
    relay.supervisor.stop();
    assert_eq!(ask(&relay, "GET", "/status").await.json()["state"], "stopping");
    relay.supervisor.cancel();
    assert_eq!(ask(&relay, "GET", "/status").await.json()["state"], "draining");
}

#[tokio::test]
async fn a_gate_that_is_open_has_no_reason_and_no_end() {
    let relay = Relay::with(1, |state| state.with_admin(AdminState::new(TOKEN, None)));
    let status = ask(&relay, "GET", "/status").await.json();
    assert_eq!(status["segment"]["sending"], true);
    assert_eq!(status["segment"]["gate"], json!({"shut": false, "code": null, "since": null, "until": null}));
}

/// How often this result of operators' requests was counted.
async fn counted(relay: &Relay, result: &str) -> String {
    let metrics = relay.get("/metrics").await.text;
    let series = format!("segment_relay_admin_requests_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_as_failed_if_it_takes_too_long_or_its_caller_leaves() {
    let (relay, letters) = with_letters([1]);
    *letters.hangs.lock() = true;
    assert_eq!(ask(&relay, "GET", "/dead-letters").await.status, 503);
    assert_eq!(counted(&relay, "failed").await, "1");
    let leaves = timeout(Duration::from_millis(1), ask(&relay, "POST", "/dead-letters/replay")).await;
    assert!(leaves.is_err());
    assert_eq!((counted(&relay, "failed").await, counted(&relay, "succeeded").await), ("2".to_owned(), "0".to_owned()));
}
