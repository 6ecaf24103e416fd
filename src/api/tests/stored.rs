//! `POST /customers` with an outbox behind it: 202, `Prefer: wait`, repeated keys, and readiness.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use serde_json::json;

use super::{ADA, Answer, Mood, Relay, SegmentError, counted_by, post};
use crate::segment::ErrorCode;

/// A relay with an outbox, in which one caller may wait.
fn outbox(mood: Mood) -> Relay {
    let relay = Relay::new(2);
    relay.segment.lock().stores = true;
    relay.segment_is(mood);
    relay
}

async fn post_preferring(relay: &Relay, preference: &str) -> Answer {
    let mut request = post(Full::from(ADA));
    request.headers_mut().insert("prefer", preference.parse().unwrap());
    relay.send(request).await
}

#[tokio::test]
async fn a_stored_customer_is_answered_202_and_counted() {
    let relay = outbox(Mood::Stores);
    assert_eq!(counted_by(&relay, post(Full::from(ADA)), "stored").await, 202);
    assert_eq!(relay.counted("accepted").await, Some(0));
    let answer = relay.post(ADA).await;
    assert_eq!(answer.json(), json!({"success": true, "messageId": "m-2", "status": "stored"}));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    for name in ["preference-applied", "idempotent-replayed", "retry-after"] {
        assert_eq!(answer.header(name), None);
    }
}

#[tokio::test]
async fn a_key_that_was_there_already_says_so() {
    let answer = outbox(Mood::StoredBefore).post(ADA).await;
    assert_eq!((answer.status.as_u16(), answer.header("idempotent-replayed")), (202, Some("true")));
}

#[tokio::test]
async fn a_wait_is_passed_on_and_every_answer_after_storing_says_that_it_was_heeded() {
    let ended = |code| (Mood::Fails(SegmentError::new(code, "no")), 422);
    let ended = [ErrorCode::Rejected, ErrorCode::GaveUp].map(ended);
    for (mood, status) in
        [(Mood::Stores, 202), (Mood::StoredBefore, 202), (Mood::Accepts, 200)].into_iter().chain(ended)
    {
        let relay = outbox(mood);
        let answer = post_preferring(&relay, "respond-async, wait=\"7\"").await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (status, Some("wait=7")));
        assert_eq!(relay.segment.lock().waits, [Some(Duration::from_secs(7))]);
    }
}

#[tokio::test]
async fn an_answer_before_storing_does_not_say_that_the_caller_was_waited_for() {
    for code in [ErrorCode::Overloaded, ErrorCode::KeyReused, ErrorCode::OutboxTimeout, ErrorCode::ShuttingDown] {
        let relay = outbox(Mood::Fails(SegmentError::new(code, "no")));
        assert_eq!(post_preferring(&relay, "wait=7").await.header("preference-applied"), None);
    }
}

#[tokio::test]
async fn without_an_outbox_or_a_wish_nobody_waits() {
    let relay = Relay::new(1);
    let answer = post_preferring(&relay, "wait=7").await;
    assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (200, None));
    assert_eq!(relay.segment.lock().waits, [None]);
    let relay = outbox(Mood::Stores);
    let answer = post_preferring(&relay, "wait=soon").await;
    assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (202, None));
    assert_eq!(relay.segment.lock().waits, [None]);
}

#[tokio::test]
async fn the_relay_is_not_ready_while_nothing_can_be_stored() {
    let full = Arc::new(AtomicBool::new(false));
    let now = full.clone();
    let trouble = move || now.load(Ordering::Relaxed).then_some("the outbox is full");
    let relay = Relay::with(1, |state| state.with_readiness(trouble));
    assert_eq!(relay.get("/readyz").await.status, 200);
    full.store(true, Ordering::Relaxed);
    let answer = relay.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json(), json!({"status": "unavailable", "reasons": ["the outbox is full"]}));
    assert_eq!(relay.get("/healthz").await.status, 200, "it lives all the same");
    relay.supervisor.stop();
    let reasons = relay.get("/readyz").await.json()["reasons"].take();
    assert_eq!(reasons, json!(["shutting down", "the outbox is full"]), "all there are");
    full.store(false, Ordering::Relaxed);
    assert_eq!(relay.get("/readyz").await.json()["reasons"], json!(["shutting down"]));
}
